//! What tasks share: std's locks and channels, and gevent's events and semaphores, whose waiters park.
//!
//! Everything here works between tasks of one hub, tasks of several hubs, and native threads with or without one. What is in
//! [`std::sync`] has std's signatures and std's error types: a program changes its imports.
//!
//! All of it is first come, first served: who waits gets what he waits for before anybody who comes later. A task that is killed
//! while it waits, or whose time runs out, leaves no trace; what it had been given just then goes to the next.

// As in std.
mod condvar;
mod mutex;
mod rwlock;

mod barrier;
mod lazy_lock;
mod once;
mod once_lock;

pub mod mpsc;

// As in gevent.
mod async_result;
mod bounded_semaphore;
mod event;
mod reentrant_mutex;
mod semaphore;

// What they stand on.
mod poison;
mod raw;
mod raw_once;
mod raw_rwlock;

pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};

pub use async_result::AsyncResult;
pub use barrier::{Barrier, BarrierWaitResult};
pub use bounded_semaphore::{BoundedSemaphore, ReleaseError};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::Event;
pub use lazy_lock::LazyLock;
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use reentrant_mutex::{ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{OwnedPermit, Permit, Semaphore};
