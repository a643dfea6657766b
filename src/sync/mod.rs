//! What tasks share: std's locks and channels, and gevent's events and semaphores, whose waiters park.
//!
//! Everything here works between tasks of one hub, tasks of several hubs, and native threads with or without one. What is in
//! [`std::sync`] has std's signatures and std's error types: a program changes its imports.
//!
//! All of it is first come, first served: who waits gets what he waits for before anybody who comes later. A task that is killed
//! while it waits, or whose time runs out, leaves no trace; what it had been given just then goes to the next.

pub mod mpsc;
mod mutex;
mod poison;
mod raw;

pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};

pub use mutex::{Mutex, MutexGuard};
