//! Where there are none: the feature is off, or the system is not one that we know.

use std::cell::Cell;
use std::io;
use std::ops::Range;

/// A thread block; here there is none, and whatever asks for it is no code.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Block {}

const NO_BLOCKS: &str =
    "greenroom: tasks have thread-locals of their own only on Linux with glibc, x86-64 or aarch64, linked dynamically";

/// Whether tasks can have blocks.
///
/// # Errors
///
/// Of kind `Unsupported`, with the reason.
pub(crate) fn supported() -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, NO_BLOCKS))
}

/// Which block the caller runs on; 0 for the thread's own.
#[inline(always)]
pub(crate) fn identity() -> u64 {
    0
}

/// Runs `f` on the thread's own block.
#[inline(always)]
pub(crate) fn on_root<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Whether the caller is in what a task runs [`on_root`].
#[inline(always)]
pub(crate) fn is_away() -> bool {
    false
}

impl Block {
    pub(crate) fn take(_stack: Range<usize>, _owner: *const ()) -> io::Result<Block> {
        supported().map(|()| unreachable!("never supported"))
    }

    pub(crate) unsafe fn give_back(self) {
        match self {}
    }

    #[cfg(feature = "monkey")]
    pub(crate) fn keep(self) {
        match self {}
    }

    #[cfg(feature = "monkey")]
    pub(crate) fn release(self) {
        match self {}
    }

    #[cfg(feature = "monkey")]
    pub(crate) fn name(self) -> usize {
        match self {}
    }

    pub(crate) unsafe fn run(self, _resume: impl FnOnce() -> bool) -> bool {
        match self {}
    }

    pub(crate) unsafe fn enter(self) -> *const () {
        match self {}
    }

    pub(crate) unsafe fn end_values(self) {
        match self {}
    }

    pub(crate) fn unwinds(self) -> &'static Cell<usize> {
        match self {}
    }
}

/// Keeps other threads off the free list while the process is copied.
pub(crate) fn hold() -> Held {
    Held
}

/// See [`hold`].
pub(crate) struct Held;
