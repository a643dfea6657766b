//! `Semaphore`: permits that are taken and given back, whose waiters park.
//!
//! One word holds the free permits and a mark, `AWAITED`. While the mark is off nobody waits, and permits are taken and given
//! back by one atomic exchange. It is put on and taken off under the line's lock, and while it is on, permits move under that
//! lock only:
//!
//! - **M1** Without the mark, the line is empty and nobody watches.
//! - **M2** The first in line wants more permits than are free: who gives back serves those who can be served, in order.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::Elapsed;
use crate::hub::{Reason, Tell, Wakes};
use crate::line::{self, Choice, List, Observers, Place, Taker};
use crate::lock::Lock;
use crate::task::Waitable;

/// A number of permits; who takes one when none is free parks until somebody gives one back.
///
/// Bounds how many do something at once. Those who wait are served in the order in which they came: one who wants many
/// permits is not overtaken by others who want few.
///
/// For [`wait`](crate::wait) and [`iwait`](crate::iwait) it is ready when a permit could be had.
///
/// # Examples
///
/// ```
/// use greenroom::sync::Semaphore;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// static DOORS: Semaphore = Semaphore::new(2);
/// static INSIDE: AtomicUsize = AtomicUsize::new(0);
///
/// let tasks: Vec<_> = (0..10)
///     .map(|_| {
///         greenroom::spawn(|| {
///             let _permit = DOORS.acquire();
///             assert!(INSIDE.fetch_add(1, Ordering::Relaxed) < 2);
///             greenroom::yield_now();
///             INSIDE.fetch_sub(1, Ordering::Relaxed);
///         })
///     })
///     .collect();
/// assert!(greenroom::joinall(tasks).iter().all(Result::is_ok));
/// ```
pub struct Semaphore {
    /// Twice the free permits, and [`AWAITED`].
    word: AtomicUsize,
    /// No more permits than these are ever free.
    most: usize,
    line: Lock<Line>,
}

pub(crate) struct Line {
    /// Each wants, and gets, so many.
    waiters: List<usize>,
    observers: Observers,
}

/// Somebody waits, or watches: permits move under the line's lock.
const AWAITED: usize = 1;

// Nothing that can unwind leaves the line half changed.
impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}

impl Semaphore {
    /// The most permits that can be free.
    pub const MAX_PERMITS: usize = usize::MAX >> 1;

    /// A semaphore with so many free permits.
    ///
    /// # Panics
    ///
    /// If that is more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    #[track_caller]
    pub const fn new(permits: usize) -> Semaphore {
        assert!(permits <= Semaphore::MAX_PERMITS, "more permits than a semaphore can hold");
        Semaphore::with_most(permits, Semaphore::MAX_PERMITS)
    }

    pub(super) const fn with_most(permits: usize, most: usize) -> Semaphore {
        let line = Line { waiters: List::new(), observers: Observers::new() };
        Semaphore { word: AtomicUsize::new(permits << 1), most, line: Lock::new(line) }
    }

    /// Waits for a permit and takes it. It is given back when the [`Permit`] is dropped.
    ///
    /// # Switching
    ///
    /// Yes, if no permit is free or others wait.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled while it waits leaves the line, and those behind are served if they can be; a permit that had just
    /// been given to it goes to the next.
    #[inline]
    pub fn acquire(&self) -> Permit<'_> {
        self.acquire_many(1)
    }

    /// As [`acquire`](Self::acquire), for so many permits at once. None at all are there at once.
    ///
    /// # Panics
    ///
    /// If `permits` is more than there can ever be.
    #[inline]
    #[track_caller]
    pub fn acquire_many(&self, permits: usize) -> Permit<'_> {
        self.acquire_until(permits, None);
        Permit { semaphore: self, permits }
    }

    /// As [`acquire`](Self::acquire), but waits no longer than `timeout`.
    ///
    /// # Switching
    ///
    /// Yes, if no permit is free or others wait.
    ///
    /// # Errors
    ///
    /// [`Elapsed`]; then nothing was taken.
    #[inline]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, Elapsed> {
        self.acquire_many_timeout(1, timeout)
    }

    /// As [`acquire_many`](Self::acquire_many), but waits no longer than `timeout`.
    ///
    /// # Panics
    ///
    /// If `permits` is more than there can ever be.
    ///
    /// # Errors
    ///
    /// [`Elapsed`]; then nothing was taken.
    #[inline]
    #[track_caller]
    pub fn acquire_many_timeout(&self, permits: usize, timeout: Duration) -> Result<Permit<'_>, Elapsed> {
        let taken = self.take(permits) || self.take_slow(permits, clock::deadline_after(timeout));
        if taken { Ok(Permit { semaphore: self, permits }) } else { Err(Elapsed(())) }
    }

    /// Takes a permit if one is free and nobody waits.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.try_acquire_many(1)
    }

    /// As [`try_acquire`](Self::try_acquire), for so many permits at once.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn try_acquire_many(&self, permits: usize) -> Option<Permit<'_>> {
        self.try_take(permits).then(|| Permit { semaphore: self, permits })
    }

    /// As [`acquire`](Self::acquire), with a permit that keeps the semaphore alive.
    ///
    /// # Switching
    ///
    /// Yes, if no permit is free or others wait.
    #[inline]
    pub fn acquire_owned(self: &Arc<Self>) -> OwnedPermit {
        self.acquire_until(1, None);
        OwnedPermit { semaphore: self.clone(), permits: 1 }
    }

    /// As [`acquire_timeout`](Self::acquire_timeout), with a permit that keeps the semaphore alive.
    ///
    /// # Errors
    ///
    /// [`Elapsed`]; then nothing was taken.
    #[inline]
    pub fn acquire_owned_timeout(self: &Arc<Self>, timeout: Duration) -> Result<OwnedPermit, Elapsed> {
        self.acquire_timeout(timeout)?.forget();
        Ok(OwnedPermit { semaphore: self.clone(), permits: 1 })
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that keeps the semaphore alive.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn try_acquire_owned(self: &Arc<Self>) -> Option<OwnedPermit> {
        self.try_take(1).then(|| OwnedPermit { semaphore: self.clone(), permits: 1 })
    }

    /// Adds so many permits: new ones, or those of a [`Permit`] that was [forgotten](Permit::forget).
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// If more would be free than [`MAX_PERMITS`](Self::MAX_PERMITS).
    #[inline]
    #[track_caller]
    pub fn release(&self, permits: usize) {
        assert!(self.put(permits).is_ok(), "more permits are released than a semaphore can hold");
    }

    /// How many permits are free: 0 while somebody waits for one, but not while the first in line waits for several.
    #[inline]
    pub fn available(&self) -> usize {
        self.word.load(Ordering::Relaxed) >> 1
    }

    /// Takes permits, and waits for that up to the deadline; says whether it did.
    #[inline]
    #[track_caller]
    pub(crate) fn acquire_until(&self, permits: usize, deadline: Option<Instant>) -> bool {
        self.take(permits) || self.take_slow(permits, deadline)
    }

    pub(crate) fn line(&self) -> &Lock<Line> {
        &self.line
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }
}

/// The word.
impl Semaphore {
    /// Takes permits on the fast way: nobody waits, and so many are free.
    #[inline]
    fn take(&self, permits: usize) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & AWAITED == 0 && word >> 1 >= permits {
            // Acquire: sees what was done by whoever gave them back.
            let rest = word - (permits << 1);
            match self.word.compare_exchange_weak(word, rest, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        permits == 0
    }

    #[inline]
    fn try_take(&self, permits: usize) -> bool {
        self.take(permits) || (self.word.load(Ordering::Relaxed) & AWAITED != 0 && self.try_take_slow(permits))
    }

    /// Nobody waits perhaps, but somebody watches.
    #[cold]
    fn try_take_slow(&self, permits: usize) -> bool {
        let line = self.line.lock();
        let free = self.mark();
        let taken = line.waiters.is_empty() && free >= permits;
        self.settle(&line, if taken { free - permits } else { free });
        taken
    }

    #[cold]
    #[track_caller]
    fn take_slow(&self, permits: usize, deadline: Option<Instant>) -> bool {
        assert!(permits <= self.most, "more permits are asked for than there can ever be");
        let line = self.line.lock();
        let free = self.mark();
        if line.waiters.is_empty() && free >= permits {
            self.settle(&line, free - permits);
            return true;
        }
        line::wait(self, &self.line, line, permits, Reason::Other(&"a permit of a semaphore"), deadline).is_ok()
    }

    /// Adds permits, all or none: an error says how many there is room for.
    #[inline]
    pub(super) fn put(&self, permits: usize) -> Result<(), usize> {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & AWAITED == 0 {
            let room = self.most - (word >> 1);
            if permits > room {
                return Err(room);
            }
            // Release: who takes them sees what was done.
            let more = word + (permits << 1);
            match self.word.compare_exchange_weak(word, more, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
        self.put_slow(permits)
    }

    #[cold]
    fn put_slow(&self, permits: usize) -> Result<(), usize> {
        let mut wakes = Wakes::new();
        let mut line = self.line.lock();
        let free = self.mark();
        let room = self.most - free;
        if permits > room {
            self.settle(&line, free);
            return Err(room);
        }
        self.serve(&mut line, free + permits, &mut wakes);
        Ok(())
    }

    /// Gives permits back. Others may have released so many that there is no room for all of them.
    #[inline]
    fn give_back(&self, mut permits: usize) {
        while let Err(room) = self.put(permits) {
            permits = room;
        }
    }

    /// Puts the mark on and says how many are free; under the lock.
    fn mark(&self) -> usize {
        // Acquire: sees what was done by whoever gave permits back on the fast way.
        self.word.fetch_or(AWAITED, Ordering::Acquire) >> 1
    }

    /// So many are free now; the mark stays if somebody waits or watches (M1). Under the lock, with the mark on.
    fn settle(&self, line: &Line, free: usize) {
        let awaited = if line.waiters.is_empty() && line.observers.is_empty() { 0 } else { AWAITED };
        // Release: who takes them on the fast way sees what was done.
        self.word.store(free << 1 | awaited, Ordering::Release);
    }

    /// So many are free: serves those who can be (M2). Under the lock, with the mark on.
    fn serve(&self, line: &mut Line, free: usize, wakes: &mut Wakes) {
        let free = Cell::new(free);
        let fits = |want: &usize| *want <= free.get();
        while line.waiters.serve_if(wakes, fits, |want| free.set(free.get() - *want)).is_some() {}
        if free.get() > 0 && line.waiters.is_empty() {
            line.observers.tell(wakes);
        }
        self.settle(line, free.get());
    }
}

impl Place<Line> for &Semaphore {
    /// How many he wants, and then has.
    type Payload = usize;

    fn list<'a>(&self, line: &'a mut Line) -> &'a mut List<usize> {
        &mut line.waiters
    }

    fn left(&self, line: &mut Line, wakes: &mut Wakes) {
        let free = self.mark();
        self.serve(line, free, wakes);
    }

    fn pass_on(&self, line: &mut Line, permits: &mut usize, wakes: &mut Wakes) {
        let free = self.mark();
        self.serve(line, free.saturating_add(*permits).min(self.most), wakes);
    }
}

/// For [`select!`](crate::select!).
impl Choice<Line> for &Semaphore {
    fn take_now(&self, line: &mut Line, permits: &mut usize, taker: Taker<'_>, _: &mut Wakes) -> bool {
        let free = self.mark();
        let taken = line.waiters.is_empty() && free >= *permits && taker.win();
        // The mark stays for one who is about to wait (M1).
        if taken || matches!(taker, Taker::Free) {
            self.settle(line, if taken { free - *permits } else { free });
        }
        taken
    }
}

impl Waitable for Semaphore {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        let mut line = self.line.lock();
        let free = self.mark();
        let could_be_had = free > 0 && line.waiters.is_empty();
        let key = (!could_be_had).then(|| line.observers.add(ready.clone()));
        self.settle(&line, free);
        drop(line);
        if key.is_none() {
            ready();
        }
        key
    }

    fn unwatch(&self, key: u64) {
        let mut line = self.line.lock();
        let removed = line.observers.remove(key);
        let free = self.mark();
        self.settle(&line, free);
        drop(line);
        drop(removed);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`] or [`BoundedSemaphore`](super::BoundedSemaphore), which are given back when this is dropped.
#[must_use = "if unused the permits are given back at once"]
#[clippy::has_significant_drop]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

impl<'a> Permit<'a> {
    /// The guard of permits that were taken otherwise.
    pub(crate) fn of(semaphore: &'a Semaphore, permits: usize) -> Permit<'a> {
        Permit { semaphore, permits }
    }
}

impl Permit<'_> {
    /// How many permits these are.
    pub fn permits(&self) -> usize {
        self.permits
    }

    /// Keeps the permits out of the semaphore, for good or until somebody calls its `release`.
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.give_back(self.permits);
        }
    }
}

/// A permit of a [`Semaphore`] that it keeps alive; it is given back when this is dropped. Made by
/// [`Semaphore::acquire_owned`].
#[must_use = "if unused the permit is given back at once"]
#[clippy::has_significant_drop]
#[derive(Debug)]
pub struct OwnedPermit {
    semaphore: Arc<Semaphore>,
    /// One, or none once it is forgotten.
    permits: usize,
}

impl OwnedPermit {
    /// Keeps the permit out of the semaphore, for good or until somebody calls its `release`.
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for OwnedPermit {
    #[inline]
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.give_back(self.permits);
        }
    }
}
