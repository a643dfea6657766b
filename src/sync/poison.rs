//! Poison: the mark that somebody unwound while they could change what a lock guards.
//!
//! The error types are std's own. What counts as unwinding is asked of the task: `thread::panicking` says so of the whole
//! thread, while another task is parked in the midst of its unwind. A kill or a timeout that unwinds a holder poisons as a
//! panic does: it leaves the data in the same state, half changed.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};
use std::thread;

use crate::hub::Hub;

/// The mark itself.
#[derive(Debug)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) const fn new() -> Flag {
        Flag(AtomicBool::new(false))
    }

    /// Relaxed will do, here and below: the lock that the flag belongs to orders it.
    #[inline]
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// To be kept from a lock's being taken to its being given back.
    #[inline]
    pub(super) fn enter(&self) -> Entry {
        Entry { unwinding: is_unwinding() }
    }

    /// Sets the mark if an unwind has begun since `entry` was made.
    #[inline]
    pub(super) fn leave(&self, entry: &Entry) {
        if thread::panicking() && !entry.unwinding && is_unwinding() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// `value`, as an error if the mark is set.
    #[inline]
    pub(super) fn guard<T>(&self, value: T) -> LockResult<T> {
        if self.get() { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

/// Whether the holder was unwinding already when it took the lock: then it does not poison it.
#[derive(Debug)]
pub(super) struct Entry {
    unwinding: bool,
}

/// Whether the running task, or the native thread without a hub, is unwinding.
#[inline]
pub(super) fn is_unwinding() -> bool {
    thread::panicking() && is_task_unwinding()
}

#[cold]
fn is_task_unwinding() -> bool {
    Hub::get().is_none_or(|hub| hub.is_unwinding(&hub.current()))
}
