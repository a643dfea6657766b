//! Green threads with automatic switching on I/O, on one thread.
#![allow(missing_docs, unreachable_pub, dead_code)]
pub(crate) mod stack;
pub mod io;
pub(crate) mod sys;
pub mod net;
