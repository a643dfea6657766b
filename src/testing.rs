//! For tests of this crate and of what is built on it; not part of the stable surface.

use crate::hub::Hub;

/// Makes this thread's hub run its ready tasks in a pseudo-random order, the same again for the same seed.
pub fn shuffle(seed: u64) {
    Hub::here().shuffle(seed);
}

/// How many tasks of this thread have not ended, the root not counted.
pub fn live_tasks() -> usize {
    Hub::get().map_or(0, Hub::live_tasks)
}

/// How many stacks of this thread are in use.
pub fn live_stacks() -> usize {
    crate::stack::live()
}

/// Gives every task of the process that is spawned from now on thread-locals of its own, where its builder says nothing.
///
/// # Errors
///
/// If there can be no such tasks.
///
/// # Safety
///
/// As of [`Builder::own_thread_locals`](crate::Builder::own_thread_locals), for all of them.
#[cfg(feature = "monkey")]
pub unsafe fn own_thread_locals_by_default() -> std::io::Result<()> {
    crate::thread_block::set_default(true)
}
