//! A value that comes once, from a native thread or another hub, for any number of tasks and threads.

#![forbid(unsafe_code)]

use std::time::Instant;

use crate::gate::Gate;
use crate::hub::{Hub, Reason, Tell, Wakes};

/// The place for a value that another thread will put there.
///
/// That thread is at work on it, or has it in its queue: as long as a task waits, its hub is not deadlocked (rule 7).
#[derive(Debug)]
pub(crate) struct Promise<T>(Gate<Option<T>>);

impl<T> Promise<T> {
    pub(crate) const fn new() -> Promise<T> {
        Promise(Gate::new(None))
    }

    /// Puts the value there and wakes whoever waits; gives it back if there is one already.
    pub(crate) fn keep(&self, value: T) -> Result<(), T> {
        let mut wakes = Wakes::new();
        let mut gate = self.0.lock();
        if gate.value.is_some() {
            return Err(value);
        }
        gate.value = Some(value);
        gate.open(&mut wakes);
        Ok(())
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.0.lock().value.is_some()
    }

    /// Lets `look` see the value, if it is there, under the lock: nothing of the user's may run in it.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.lock().value.as_mut().map(look)
    }

    /// Has `ready` called once the value is there: now, if it is. Else gives a key to take it back.
    pub(crate) fn watch(&self, ready: &Tell) -> Option<u64> {
        self.0.watch(ready, Option::is_some)
    }

    pub(crate) fn unwatch(&self, key: u64) {
        self.0.unwatch(key);
    }

    /// Parks until the value is there, and lets `look` see it. `look` runs under the lock: nothing of the user's may run in it.
    #[track_caller]
    pub(crate) fn wait<R>(&self, reason: Reason, look: impl FnOnce(&mut T) -> R) -> R {
        self.wait_until(reason, None, look).expect("without a deadline only the value ends the wait")
    }

    /// As [`wait`](Self::wait), up to the deadline; `None` if it came first.
    #[track_caller]
    pub(crate) fn wait_until<R>(
        &self,
        reason: Reason,
        deadline: Option<Instant>,
        look: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        let mut gate = self.0.lock();
        if gate.value.is_none() {
            let kept = match Hub::get() {
                Some(hub) => hub.on_outside(|| self.0.wait(gate, reason, deadline)),
                None => self.0.wait(gate, reason, deadline),
            };
            if !kept {
                return None;
            }
            gate = self.0.lock();
        }
        gate.value.as_mut().map(look)
    }
}
