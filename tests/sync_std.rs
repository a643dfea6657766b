//! The scenarios of std's own sync tests, each run on native threads without a hub and on tasks of one thread.
#![allow(clippy::duplicate_mod, reason = "that is how a scenario runs twice")]

mod common;

#[path = "support/channel.rs"]
mod channel;

#[path = "std_sync/on_tasks.rs"]
mod on_tasks;
#[path = "std_sync/on_threads.rs"]
mod on_threads;
