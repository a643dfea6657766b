//! How many stand in line, as wakers ask without the lock: the half of L1 that is not the lock's.

#![forbid(unsafe_code)]

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// Changed under the lock of the line only.
pub(super) struct Count(AtomicU32);

impl Count {
    #[cfg(all(test, loom))]
    pub(super) fn new() -> Count {
        Count(AtomicU32::new(0))
    }

    /// One more; what he waits for is to be looked at after this.
    #[inline]
    pub(super) fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    #[inline]
    pub(super) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether anybody is in. To be asked after the change that they wait for.
    #[inline(always)]
    pub(super) fn is_awaited(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) > 0
    }
}
