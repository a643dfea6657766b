//! `Event`: a flag that can be waited for.

#![forbid(unsafe_code)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
use crate::gate::Gate;
use crate::hub::{Reason, Tell, Wakes};
use crate::task::Waitable;

/// A flag that any number of tasks and threads can wait for: it is set, and all of them go on.
///
/// It stays set until it is cleared, and who comes meanwhile does not wait. To set it and clear it at once wakes those who
/// waited at that moment, and nobody else. What was done before [`set`](Self::set) is seen after the wait that it ends.
///
/// For [`wait`](crate::wait) and [`iwait`](crate::iwait) it is ready when it is set.
///
/// # Examples
///
/// ```
/// use greenroom::sync::Event;
///
/// static STARTED: Event = Event::new();
///
/// let tasks: Vec<_> = (0..3).map(|_| greenroom::spawn(|| STARTED.wait())).collect();
/// greenroom::yield_now();
/// assert!(!tasks[0].is_finished());
/// STARTED.set();
/// assert!(greenroom::joinall(tasks).iter().all(Result::is_ok));
/// ```
pub struct Event {
    /// Changes under the gate's lock only.
    set: AtomicBool,
    gate: Gate<()>,
}

// Nothing that can unwind leaves it half changed.
impl UnwindSafe for Event {}
impl RefUnwindSafe for Event {}

impl Event {
    /// An event that is not set.
    pub const fn new() -> Event {
        Event { set: AtomicBool::new(false), gate: Gate::new(()) }
    }

    /// Sets the event, and wakes all who wait for it.
    ///
    /// # Switching
    ///
    /// Never.
    pub fn set(&self) {
        let mut wakes = Wakes::new();
        let mut gate = self.gate.lock();
        // Release: who sees it set sees what was done before.
        self.set.store(true, Ordering::Release);
        gate.open(&mut wakes);
    }

    /// Clears the event: who waits for it from now on waits for it to be set again.
    ///
    /// # Switching
    ///
    /// Never.
    pub fn clear(&self) {
        let _gate = self.gate.lock();
        self.set.store(false, Ordering::Relaxed);
    }

    /// Whether the event is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Waits until the event is set. It may have been cleared again by the time the caller goes on.
    ///
    /// # Switching
    ///
    /// Yes, unless the event is set.
    #[inline]
    pub fn wait(&self) {
        if !self.is_set() {
            self.wait_until(None);
        }
    }

    /// As [`wait`](Self::wait), but not longer than `timeout`. Says whether the event was set.
    ///
    /// # Switching
    ///
    /// Yes, unless the event is set.
    #[inline]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_set() || self.wait_until(clock::deadline_after(timeout))
    }

    #[cold]
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let gate = self.gate.lock();
        self.set.load(Ordering::Relaxed) || self.gate.wait(gate, Reason::Other(&"an event"), deadline)
    }
}

impl Event {
    pub(crate) fn gate(&self) -> &Gate<()> {
        &self.gate
    }
}

impl Waitable for Event {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.gate.watch(ready, |()| self.set.load(Ordering::Relaxed))
    }

    fn unwatch(&self, key: u64) {
        self.gate.unwatch(key);
    }
}

impl Default for Event {
    fn default() -> Event {
        Event::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}
