//! A gate: who finds it shut waits, and when it is opened all pass.
//!
//! Whether it is open is told by the value that it guards, or by one beside it that is changed under the gate's lock: events,
//! results that come once, the ends of native jobs.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Instant;

use crate::hub::{Reason, Tell, Wakes};
use crate::line::{self, Choice, List, Observers, Place, Taker};
use crate::lock::{Guard, Lock};

/// A value, and those who wait until the gate is opened.
pub(crate) struct Gate<V> {
    state: Lock<State<V>>,
}

pub(crate) struct State<V> {
    pub(crate) value: V,
    waiters: List<()>,
    observers: Observers,
}

impl<V> Gate<V> {
    pub(crate) const fn new(value: V) -> Gate<V> {
        Gate { state: Lock::new(State { value, waiters: List::new(), observers: Observers::new() }) }
    }

    pub(crate) fn state(&self) -> &Lock<State<V>> {
        &self.state
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, State<V>> {
        self.state.lock()
    }

    /// Parks until the gate is opened, which it was not under `guard`; false if the deadline came first.
    #[inline]
    pub(crate) fn wait(&self, guard: Guard<'_, State<V>>, reason: Reason, deadline: Option<Instant>) -> bool {
        line::wait(Passers, &self.state, guard, (), reason, deadline).is_ok()
    }

    /// For `Waitable`: `is_open` is asked under the lock.
    pub(crate) fn watch(&self, ready: &Tell, is_open: impl FnOnce(&V) -> bool) -> Option<u64> {
        let mut state = self.lock();
        if is_open(&state.value) {
            drop(state);
            ready();
            return None;
        }
        Some(state.observers.add(ready.clone()))
    }

    pub(crate) fn unwatch(&self, key: u64) {
        let removed = self.lock().observers.remove(key);
        drop(removed);
    }
}

impl<V> State<V> {
    /// Lets all pass who wait now.
    pub(crate) fn open(&mut self, wakes: &mut Wakes) {
        while self.waiters.serve(wakes, |()| ()).is_some() {}
        self.observers.tell(wakes);
    }
}

/// The line before a gate. Nobody is in another's way, and who has passed has taken nothing.
pub(crate) struct Passers;

impl<V> Place<State<V>> for Passers {
    type Payload = ();

    fn list<'a>(&self, state: &'a mut State<V>) -> &'a mut List<()> {
        &mut state.waiters
    }

    fn left(&self, _: &mut State<V>, _: &mut Wakes) {}

    fn pass_on(&self, _: &mut State<V>, (): &mut (), _: &mut Wakes) {}
}

/// The same line, for one who waits for this and other things: with what tells whether the gate is open.
#[derive(Clone, Copy)]
pub(crate) struct Choosers<F>(pub(crate) F);

impl<V, F: Fn() -> bool> Place<State<V>> for Choosers<F> {
    type Payload = ();

    fn list<'a>(&self, state: &'a mut State<V>) -> &'a mut List<()> {
        &mut state.waiters
    }

    fn left(&self, _: &mut State<V>, _: &mut Wakes) {}

    fn pass_on(&self, _: &mut State<V>, (): &mut (), _: &mut Wakes) {}
}

impl<V, F: Fn() -> bool> Choice<State<V>> for Choosers<F> {
    fn take_now(&self, _: &mut State<V>, (): &mut (), taker: Taker<'_>, _: &mut Wakes) -> bool {
        (self.0)() && taker.win()
    }
}

impl<V> fmt::Debug for Gate<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}
