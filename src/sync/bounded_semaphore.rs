//! `BoundedSemaphore`: a semaphore that refuses more permits than it began with.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::semaphore::{Permit, Semaphore};
use crate::error::Elapsed;
use crate::hub::Tell;
use crate::task::Waitable;

/// A [`Semaphore`] with never more free permits than at first: to [release](Self::release) more is an error.
///
/// # Examples
///
/// ```
/// use greenroom::sync::BoundedSemaphore;
///
/// let slots = BoundedSemaphore::new(1);
/// slots.acquire().forget();
/// assert!(slots.try_acquire().is_none());
/// assert_eq!(slots.release(1), Ok(()));
/// assert!(slots.release(1).is_err());
/// ```
pub struct BoundedSemaphore {
    semaphore: Semaphore,
}

impl BoundedSemaphore {
    /// A semaphore with so many free permits, now and at most.
    ///
    /// # Panics
    ///
    /// If that is more than [`Semaphore::MAX_PERMITS`].
    #[track_caller]
    pub const fn new(permits: usize) -> BoundedSemaphore {
        assert!(permits <= Semaphore::MAX_PERMITS, "more permits than a semaphore can hold");
        BoundedSemaphore { semaphore: Semaphore::with_most(permits, permits) }
    }

    /// Waits for a permit and takes it: see [`Semaphore::acquire`].
    ///
    /// # Switching
    ///
    /// Yes, if no permit is free or others wait.
    ///
    /// # Panics
    ///
    /// If the semaphore began with no permit: there will never be one.
    #[inline]
    #[track_caller]
    pub fn acquire(&self) -> Permit<'_> {
        self.semaphore.acquire_many(1)
    }

    /// Waits for so many permits and takes them: see [`Semaphore::acquire_many`].
    ///
    /// # Switching
    ///
    /// Yes, if too few permits are free or others wait.
    ///
    /// # Panics
    ///
    /// If the semaphore began with fewer permits.
    #[inline]
    #[track_caller]
    pub fn acquire_many(&self, permits: usize) -> Permit<'_> {
        self.semaphore.acquire_many(permits)
    }

    /// As [`acquire`](Self::acquire), but waits no longer than `timeout`.
    ///
    /// # Panics
    ///
    /// If the semaphore began with no permit.
    ///
    /// # Errors
    ///
    /// [`Elapsed`]; then nothing was taken.
    #[inline]
    #[track_caller]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, Elapsed> {
        self.semaphore.acquire_many_timeout(1, timeout)
    }

    /// As [`acquire_many`](Self::acquire_many), but waits no longer than `timeout`.
    ///
    /// # Panics
    ///
    /// If the semaphore began with fewer permits.
    ///
    /// # Errors
    ///
    /// [`Elapsed`]; then nothing was taken.
    #[inline]
    #[track_caller]
    pub fn acquire_many_timeout(&self, permits: usize, timeout: Duration) -> Result<Permit<'_>, Elapsed> {
        self.semaphore.acquire_many_timeout(permits, timeout)
    }

    /// Takes a permit if one is free and nobody waits.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.semaphore.try_acquire()
    }

    /// As [`try_acquire`](Self::try_acquire), for so many permits at once.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn try_acquire_many(&self, permits: usize) -> Option<Permit<'_>> {
        self.semaphore.try_acquire_many(permits)
    }

    /// Gives so many permits back that were [forgotten](Permit::forget).
    ///
    /// If it is done for permits that somebody still holds, there is no room for these later, and they are lost.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`], if more would be free than at first; then none is released.
    #[inline]
    pub fn release(&self, permits: usize) -> Result<(), ReleaseError> {
        self.semaphore.put(permits).map_err(|_room| ReleaseError(()))
    }

    /// How many permits are free.
    #[inline]
    pub fn available(&self) -> usize {
        self.semaphore.available()
    }
}

impl Waitable for BoundedSemaphore {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.semaphore.watch(ready)
    }

    fn unwatch(&self, key: u64) {
        self.semaphore.unwatch(key);
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("BoundedSemaphore");
        out.field("available", &self.available()).field("most", &self.semaphore.most()).finish_non_exhaustive()
    }
}

/// More permits were released than a [`BoundedSemaphore`] has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseError(());

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more permits were released than the semaphore began with")
    }
}

impl Error for ReleaseError {}
