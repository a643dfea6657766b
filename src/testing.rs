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
