//! `Condvar`: std's, whose waiters park.

#![forbid(unsafe_code)]

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};

use super::mutex::MutexGuard;
use crate::clock;
use crate::hub::{Reason, Wakes};
use crate::line::{self, List, Place};
use crate::lock::Lock;

/// Lets holders of a [`Mutex`](super::Mutex) wait until the value has changed: [`std::sync::Condvar`], but who waits parks.
///
/// [`notify_one`](Self::notify_one) wakes who has waited longest. There are no wake-ups without a notification, but others
/// may take the mutex between the two: wait in a loop, or with [`wait_while`](Self::wait_while). Unlike std's it may be used
/// with several mutexes.
///
/// # Examples
///
/// ```
/// use greenroom::sync::{Condvar, Mutex};
/// use std::sync::Arc;
///
/// let shared = Arc::new((Mutex::new(false), Condvar::new()));
/// let theirs = shared.clone();
/// greenroom::spawn(move || {
///     *theirs.0.lock().unwrap() = true;
///     theirs.1.notify_one();
/// });
/// let (mutex, changed) = &*shared;
/// let ready = changed.wait_while(mutex.lock().unwrap(), |ready| !*ready).unwrap();
/// assert!(*ready);
/// ```
pub struct Condvar {
    /// Somebody may wait. Changed under the line's lock, and set while the mutex is held: who notifies after a change that he made
    /// under the mutex sees those who waited for it.
    awaited: AtomicBool,
    line: Lock<List<Notice>>,
}

/// What a waiter was woken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    None,
    /// Meant for one: somebody else gets it if this one is cancelled.
    One,
    All,
}

// It says nothing of the data.
impl UnwindSafe for Condvar {}
impl RefUnwindSafe for Condvar {}

/// Whether a wait with a timeout ended because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time ran out before a notification came.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable that nobody waits for.
    #[inline]
    #[must_use]
    pub const fn new() -> Condvar {
        Condvar { awaited: AtomicBool::new(false), line: Lock::new(List::new()) }
    }

    /// Gives the mutex back, waits for a notification, and takes the mutex again. No notification comes in between unseen.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled does not hold the mutex while it unwinds, and so does not poison it. If it had just been notified by
    /// [`notify_one`](Self::notify_one), the next is; this holds until it has the mutex again.
    ///
    /// # Errors
    ///
    /// The guard all the same, if the mutex is poisoned.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let (guard, _notified) = self.wait_until(guard, None);
        guard.mutex().poison().guard(guard)
    }

    /// Waits as long as `condition` says so of the value.
    ///
    /// # Switching
    ///
    /// Yes, unless the condition is false at once.
    ///
    /// # Cancellation
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// The guard all the same, if the mutex is poisoned.
    pub fn wait_while<'a, T, F>(&self, mut guard: MutexGuard<'a, T>, mut condition: F) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut *guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits as [`wait`](Self::wait) does, and not longer than `timeout` for the notification; how long it then takes to
    /// have the mutex again is up to its holders.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Cancellation
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// The same values, if the mutex is poisoned.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (guard, notified) = self.wait_until(guard, clock::deadline_after(timeout));
        let poison = guard.mutex().poison();
        poison.guard((guard, WaitTimeoutResult(!notified)))
    }

    /// Waits as long as `condition` says so of the value, and not longer than `timeout` altogether. The time has run out if the
    /// condition is still true.
    ///
    /// # Switching
    ///
    /// Yes, unless the condition is false at once.
    ///
    /// # Cancellation
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// The same values, if the mutex is poisoned.
    pub fn wait_timeout_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let deadline = clock::deadline_after(timeout);
        while condition(&mut *guard) {
            if deadline.is_some_and(|deadline| deadline <= clock::now()) {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            guard = self.wait_until(guard, deadline).0;
            if guard.mutex().is_poisoned() {
                let result = WaitTimeoutResult(deadline.is_some_and(|deadline| deadline <= clock::now()));
                return Err(PoisonError::new((guard, result)));
            }
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// Wakes the one who has waited longest; if nobody waits, nothing happens, and nothing is remembered.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn notify_one(&self) {
        if self.awaited.load(Ordering::Relaxed) {
            self.notify(Notice::One);
        }
    }

    /// Wakes all who wait.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn notify_all(&self) {
        if self.awaited.load(Ordering::Relaxed) {
            self.notify(Notice::All);
        }
    }

    #[cold]
    fn notify(&self, notice: Notice) {
        let mut wakes = Wakes::new();
        let mut line = self.line.lock();
        self.serve(&mut line, notice, &mut wakes);
    }

    fn serve(&self, line: &mut List<Notice>, notice: Notice, wakes: &mut Wakes) {
        while line.serve(wakes, |got| *got = notice).is_some() {
            if notice == Notice::One {
                break;
            }
        }
        self.note(line);
    }

    fn note(&self, line: &List<Notice>) {
        if line.is_empty() {
            self.awaited.store(false, Ordering::Relaxed);
        }
    }

    /// Waits, and says whether it was notified.
    fn wait_until<'a, T>(&self, guard: MutexGuard<'a, T>, deadline: Option<Instant>) -> (MutexGuard<'a, T>, bool) {
        let mutex = guard.mutex();
        let mut held = Some(guard);
        let mut lent = None;
        let line = self.line.lock();
        self.awaited.store(true, Ordering::Relaxed);
        let reason = Reason::Other(&"a notification");
        let woken = line::wait_after(self, &self.line, line, Notice::None, reason, deadline, |line| {
            drop(line);
            // From here until it is locked again an unwind must not give the mutex back.
            lent = held.take().map(ManuallyDrop::new);
            mutex.raw().unlock();
        });

        let notified = woken.is_ok();
        let debt = Debt { condvar: self, notice: woken.unwrap_or(Notice::None) };
        mutex.raw().lock(None);
        debt.settle();
        (ManuallyDrop::into_inner(lent.expect("it was lent when the wait began")), notified)
    }
}

/// A notification whose receiver does not yet have the mutex again: passed on, should an unwind come.
struct Debt<'a> {
    condvar: &'a Condvar,
    notice: Notice,
}

impl Debt<'_> {
    fn settle(mut self) {
        self.notice = Notice::None;
    }
}

impl Drop for Debt<'_> {
    fn drop(&mut self) {
        if self.notice == Notice::One {
            self.condvar.notify_one();
        }
    }
}

impl Place<List<Notice>> for &Condvar {
    type Payload = Notice;

    fn list<'a>(&self, line: &'a mut List<Notice>) -> &'a mut List<Notice> {
        line
    }

    fn left(&self, line: &mut List<Notice>, _: &mut Wakes) {
        self.note(line);
    }

    fn pass_on(&self, line: &mut List<Notice>, notice: &mut Notice, wakes: &mut Wakes) {
        if *notice == Notice::One {
            self.serve(line, Notice::One, wakes);
        }
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
