//! A value that comes once, from any thread, for any number of tasks of any hub.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::shared::RemoteWaker;
use super::{Hub, Outcome, Reason};
use crate::waiter::Clause;

/// The place for a value that another thread will put there.
pub(crate) struct Promise<T>(Mutex<State<T>>);

struct State<T> {
    value: Option<T>,
    /// Who waits. As long as one of them does, its hub is not deadlocked (rule 7): the wakers count as handles.
    wakers: Vec<RemoteWaker>,
}

impl<T> Promise<T> {
    pub(crate) fn new() -> Promise<T> {
        Promise(Mutex::new(State { value: None, wakers: Vec::new() }))
    }

    /// Puts the value there and wakes whoever waits; gives it back if there is one already.
    pub(crate) fn keep(&self, value: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.value.is_some() {
            return Err(value);
        }
        state.value = Some(value);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        Ok(())
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.lock().value.is_some()
    }

    /// Parks until the value is there, and lets `look` see it. `look` runs under the lock: it must not park.
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
        let waiting = Waiting { promise: self, generation: Cell::new(None) };
        let mut elapsed = false;
        loop {
            let mut state = self.lock();
            if let Some(value) = &mut state.value {
                return Some(look(value));
            }
            if elapsed {
                return None;
            }
            let hub = Hub::here();
            let generation = hub.arm(Clause(0)).generation;
            waiting.generation.set(Some(generation));
            state.wakers.push(hub.remote_waker(Clause(0)));
            drop(state);
            elapsed = hub.park(reason, deadline) == Outcome::Elapsed;
            // After a deadline the waker is still there, and the guard takes it back.
            if !elapsed {
                waiting.generation.set(None);
            }
        }
    }

    /// What is done under the lock does not panic; and if `look` did, the value is still whole.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the waker back if the park unwinds or its time runs out (W2).
struct Waiting<'a, T> {
    promise: &'a Promise<T>,
    generation: Cell<Option<u32>>,
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        if let (Some(generation), Some(hub)) = (self.generation.get(), Hub::get()) {
            let task = hub.remote_task(hub.current());
            let mut state = self.promise.lock();
            let left = state.wakers.extract_if(.., |waker| waker.is_for(task, generation)).collect::<Vec<_>>();
            drop(state);
            drop(left);
        }
    }
}
