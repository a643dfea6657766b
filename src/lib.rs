//! Green threads with automatic switching on I/O, on one thread.
#![allow(missing_docs, unreachable_pub, dead_code)]
pub(crate) mod clock;
pub(crate) mod run_queue;
pub(crate) mod stack;
pub(crate) mod timers;
pub mod io;
pub mod net;
