//! Patched locks: std's and the C library's, between tasks of one thread, of two hubs, and native threads, in every mix.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "C's calls in a row owe the same: objects that are alive and made ready"
)]

#[path = "monkey_sync/blocks.rs"]
mod blocks;
#[path = "common/mod.rs"]
mod common;
#[path = "monkey_sync/forked.rs"]
mod forked;
#[path = "monkey_sync/futex.rs"]
mod futex;
#[path = "monkey_sync/mixes.rs"]
mod mixes;
#[path = "monkey_sync/pthread.rs"]
mod pthread;
#[path = "monkey_sync/rwlocks.rs"]
mod rwlocks;
#[path = "monkey_sync/standard.rs"]
mod standard;

use greenroom::monkey::{self, Areas};

fn patch() {
    // SAFETY: tasks of these tests share only what is Send.
    unsafe { monkey::patch(Areas::SYNC | Areas::TIME) };
}
