//! A value that comes once, from any thread, for any number of tasks of any hub.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::shared::RemoteWaker;
use super::sleeper::Parker;
use super::{Hub, Reason, call_out};
use crate::waiter::Clause;

/// The place for a value that another thread will put there.
pub(crate) struct Promise<T>(Mutex<State<T>>);

struct State<T> {
    value: Option<T>,
    /// Who waits. As long as one of them does, its hub is not deadlocked (rule 7): the wakers count as handles.
    wakers: Vec<RemoteWaker>,
    /// Threads without a hub, which wait.
    natives: Vec<Arc<Parker>>,
    /// Of async code, which polls.
    caller: Option<Waker>,
}

impl<T> Promise<T> {
    pub(crate) fn new() -> Promise<T> {
        Promise(Mutex::new(State { value: None, wakers: Vec::new(), natives: Vec::new(), caller: None }))
    }

    /// Puts the value there and wakes whoever waits; gives it back if there is one already.
    pub(crate) fn keep(&self, value: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.value.is_some() {
            return Err(value);
        }
        state.value = Some(value);
        let wakers = std::mem::take(&mut state.wakers);
        let natives = std::mem::take(&mut state.natives);
        let caller = state.caller.take();
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        natives.iter().for_each(|native| native.unpark());
        if let Some(caller) = caller {
            call_out(|| caller.wake());
        }
        Ok(())
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.lock().value.is_some()
    }

    /// Parks until the value is there, and lets `look` see it; a thread without a hub stops, and gets none. `look` runs under the
    /// lock: it must not park.
    pub(crate) fn wait<R>(&self, reason: Reason, look: impl FnOnce(&mut T) -> R) -> R {
        let waiting = Waiting { promise: self, generation: Cell::new(None) };
        loop {
            let mut state = self.lock();
            if let Some(value) = &mut state.value {
                return look(value);
            }
            let Some(hub) = Hub::get() else {
                let parker = Parker::here();
                state.natives.push(parker.clone());
                drop(state);
                parker.park(None, || self.is_kept());
                continue;
            };
            let generation = hub.arm(Clause(0)).generation;
            waiting.generation.set(Some(generation));
            state.wakers.push(hub.remote_waker(Clause(0)));
            drop(state);
            hub.park(reason, None);
            waiting.generation.set(None);
        }
    }

    /// Lets `look` see the value if it is there; else has `waker` called once it is, in place of the one before. `look` runs under
    /// the lock: it must not park.
    pub(crate) fn poll<R>(&self, waker: &Waker, look: impl FnOnce(&mut T) -> R) -> Poll<R> {
        let mut state = self.lock();
        if let Some(value) = &mut state.value {
            return Poll::Ready(look(value));
        }
        if state.caller.as_ref().is_some_and(|caller| caller.will_wake(waker)) {
            return Poll::Pending;
        }
        drop(state);

        // Cloned and dropped outside the lock: both are code of the user's. So it is declared before the guard.
        let mut caller = Some(waker.clone());
        let mut state = self.lock();
        match &mut state.value {
            Some(value) => Poll::Ready(look(value)),
            None => {
                std::mem::swap(&mut state.caller, &mut caller);
                Poll::Pending
            }
        }
    }

    /// Takes back what a poll has asked for.
    pub(crate) fn unwatch(&self) {
        let caller = self.lock().caller.take();
        drop(caller);
    }

    /// What is done under the lock does not panic; and if `look` did, the value is still whole.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the waker back if the park unwinds (W2).
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
