//! std's mpsc scenarios, three times: between tasks of one thread, between native threads that have no hub, and between
//! tasks of several hubs and the test's own thread, which has none.

#![allow(clippy::duplicate_mod, reason = "the same scenarios, each time in another mode")]

#[path = "."]
mod one_thread {
    #[path = "support/tasks.rs"]
    mod mode;

    #[path = "std_mpsc/channel.rs"]
    mod channel;
    #[path = "std_mpsc/sync_channel.rs"]
    mod sync_channel;
}

#[path = "."]
mod threads {
    #[path = "support/threads.rs"]
    mod mode;

    #[path = "std_mpsc/channel.rs"]
    mod channel;
    #[path = "std_mpsc/sync_channel.rs"]
    mod sync_channel;
}

#[path = "."]
mod hubs {
    #[path = "support/hubs.rs"]
    mod mode;

    #[path = "std_mpsc/channel.rs"]
    mod channel;
    #[path = "std_mpsc/sync_channel.rs"]
    mod sync_channel;
}

/// Lets whoever else is there run, task or thread.
fn relax() {
    greenroom::yield_now();
    std::thread::yield_now();
}

/// How often what may go wrong rarely is tried.
const ROUNDS: usize = 20;
