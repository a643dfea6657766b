//! Green threads with automatic switching on I/O, on one thread.

pub mod generator;
pub mod greenlet;
pub mod io;
mod local;
pub mod net;
mod scope;
mod task;
mod time;

mod hub;

mod coroutine;
mod reactor;
mod remote;

mod run_queue;
mod timers;
mod waiter;

mod clock;
mod error;
mod stack;
mod sys;

pub use error::{AccessError, Elapsed, JoinError};
pub use local::LocalKey;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use task::{
    Builder, HubHandle, IWait, JoinHandle, Link, RemoteJoinHandle, Task, TaskId, Unparker, Waitable, Watch, current,
    idle, iwait, joinall, killall, park, park_timeout, run, spawn, spawn_later, try_joinall, wait, yield_now,
};
pub use time::{shield, sleep, sleep_until, timeout};

#[doc(hidden)]
pub mod testing;

/// The code of the README is tested with the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
