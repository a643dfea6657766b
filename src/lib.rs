//! Green threads with automatic switching on I/O, on one thread.
#![allow(missing_docs, unreachable_pub, dead_code)]
// loom knows its own threads and atomics only: under it the crate is what it checks.
#[cfg(loom)]
mod remote;

#[cfg(not(loom))]
pub(crate) mod clock;
#[cfg(not(loom))]
pub(crate) mod remote;
#[cfg(not(loom))]
pub(crate) mod run_queue;
#[cfg(not(loom))]
pub(crate) mod stack;
#[cfg(not(loom))]
pub(crate) mod timers;
#[cfg(not(loom))]
pub mod io;
#[cfg(not(loom))]
pub mod net;
