//! What is done once, below `Once`, `OnceLock` and `LazyLock`: who does it, and who waits for that.
//!
//! | `state` | |
//! | --- | --- |
//! | `INCOMPLETE` | nobody has begun |
//! | `POISONED` | somebody began and unwound |
//! | `RUNNING` | somebody is at it |
//! | `COMPLETE` | done, for ever |
//!
//! The state changes under the lock only, and somebody stands in line only while it is `RUNNING`. An attempt that fails is followed
//! by that of the first in line who may try after it, without a gap for newcomers.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::hub::{Hub, Reason, Tell, Wakes};
use crate::line::{self, List, Observers, Place};
use crate::lock::{self, Lock};

/// Something to be done once, by whom of several is up to them.
pub(super) struct RawOnce {
    state: AtomicU8,
    /// What an attempt leaves behind that fails.
    after_failure: u8,
    inner: Lock<Inner>,
}

pub(crate) struct Inner {
    runner: Option<Who>,
    /// Those who would do it themselves.
    line: List<Turn>,
    /// Those who wait for somebody to do it: served whether it was done.
    watchers: List<bool>,
    /// Few have any.
    observers: Option<Box<Observers>>,
}

const INCOMPLETE: u8 = 0;
const POISONED: u8 = 1;
const RUNNING: u8 = 2;
const COMPLETE: u8 = 3;

/// What one in line asks for, and then is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    Wanted { who: Who, after_poison: bool },
    Yours,
    Done,
    Poisoned,
}

/// A task, or a native thread without a hub. The thread counts as its root, which it will be should it make a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    thread: usize,
    task: u64,
}

impl Who {
    fn here() -> Who {
        Who { thread: lock::token(), task: Hub::get().map_or(0, |hub| hub.current().id) }
    }
}

/// Whether there is something left to do.
pub(super) enum Begin<'a> {
    Done,
    Poisoned,
    Run(Attempt<'a>),
}

/// The caller's attempt, which fails if this is dropped.
pub(super) struct Attempt<'a> {
    once: &'a RawOnce,
    /// Somebody has failed before.
    pub(super) poisoned: bool,
}

impl RawOnce {
    /// Whoever comes after a failed attempt is told, and may say that he comes all the same.
    pub(super) const fn poisoning() -> RawOnce {
        RawOnce::new(POISONED)
    }

    /// A failed attempt is forgotten.
    pub(super) const fn forgiving() -> RawOnce {
        RawOnce::new(INCOMPLETE)
    }

    const fn new(after_failure: u8) -> RawOnce {
        let inner = Inner { runner: None, line: List::new(), watchers: List::new(), observers: None };
        RawOnce { state: AtomicU8::new(INCOMPLETE), after_failure, inner: Lock::new(inner) }
    }

    #[inline]
    pub(super) fn is_completed(&self) -> bool {
        // Acquire: sees what was done.
        self.state.load(Ordering::Acquire) == COMPLETE
    }

    /// Begins an attempt, or waits for the one that goes on.
    #[cold]
    #[track_caller]
    pub(super) fn begin(&self, after_poison: bool) -> Begin<'_> {
        let who = Who::here();
        let mut inner = self.inner.lock();
        match self.state.load(Ordering::Acquire) {
            COMPLETE => Begin::Done,
            POISONED if !after_poison => Begin::Poisoned,
            RUNNING => {
                let refused = inner.runner == Some(who);
                if refused {
                    drop(inner);
                    refuse();
                }
                let wanted = Turn::Wanted { who, after_poison };
                let reason = Reason::Other(&"an initialization");
                match line::wait(Runners(self), &self.inner, inner, wanted, reason, None) {
                    Ok(Turn::Done) => Begin::Done,
                    Ok(Turn::Poisoned) => Begin::Poisoned,
                    Ok(Turn::Yours) => self.attempt(self.after_failure),
                    Ok(Turn::Wanted { .. }) | Err(_) => unreachable!("it was served, and had no deadline"),
                }
            }
            before => {
                inner.runner = Some(who);
                self.state.store(RUNNING, Ordering::Relaxed);
                drop(inner);
                self.attempt(before)
            }
        }
    }

    fn attempt(&self, before: u8) -> Begin<'_> {
        Begin::Run(Attempt { once: self, poisoned: before == POISONED })
    }

    /// Waits until it is done; false if it is poisoned, or becomes so, and that matters.
    #[cold]
    #[track_caller]
    pub(super) fn wait(&self, through_poison: bool) -> bool {
        let who = Who::here();
        loop {
            let inner = self.inner.lock();
            match self.state.load(Ordering::Acquire) {
                COMPLETE => return true,
                POISONED if !through_poison => return false,
                _ => {}
            }
            let refused = inner.runner == Some(who);
            if refused {
                drop(inner);
                refuse();
            }
            let reason = Reason::Other(&"an initialization");
            if line::wait(Watchers, &self.inner, inner, false, reason, None) == Ok(true) {
                return true;
            }
            if !through_poison {
                return false;
            }
        }
    }

    /// Notes the end of an attempt that was made through the only reference there is.
    pub(super) fn set(&mut self, done: bool) {
        *self.state.get_mut() = if done { COMPLETE } else { self.after_failure };
    }

    /// Has `ready` called once it is done: now, if it is. Else gives a key to take it back.
    pub(super) fn watch(&self, ready: &Tell) -> Option<u64> {
        let mut inner = self.inner.lock();
        if self.is_completed() {
            drop(inner);
            ready();
            return None;
        }
        Some(inner.observers.get_or_insert_default().add(ready.clone()))
    }

    pub(super) fn unwatch(&self, key: u64) {
        let removed = self.inner.lock().observers.as_mut().and_then(|observers| observers.remove(key));
        drop(removed);
    }

    /// The attempt has failed: the next may try, or all are told.
    fn fail(&self, inner: &mut Inner, wakes: &mut Wakes) {
        let poisons = self.after_failure == POISONED;
        let mut next = None;
        while next.is_none() {
            let served = inner.line.serve(wakes, |turn| match *turn {
                Turn::Wanted { who, after_poison } if after_poison || !poisons => {
                    *turn = Turn::Yours;
                    next = Some(who);
                }
                _ => *turn = Turn::Poisoned,
            });
            if served.is_none() {
                break;
            }
        }
        inner.runner = next;
        if next.is_some() {
            return;
        }
        self.state.store(self.after_failure, Ordering::Relaxed);
        if poisons {
            while inner.watchers.serve(wakes, |_| ()).is_some() {}
        }
    }
}

impl Attempt<'_> {
    /// It is done.
    pub(super) fn finish(self) {
        let once = self.once;
        let _attempt = std::mem::ManuallyDrop::new(self);
        let mut wakes = Wakes::new();
        let mut inner = once.inner.lock();
        inner.runner = None;
        // Release: whoever finds it done sees what was done.
        once.state.store(COMPLETE, Ordering::Release);
        while inner.line.serve(&mut wakes, |turn| *turn = Turn::Done).is_some() {}
        while inner.watchers.serve(&mut wakes, |done| *done = true).is_some() {}
        if let Some(observers) = &mut inner.observers {
            observers.tell(&mut wakes);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut wakes = Wakes::new();
        let mut inner = self.once.inner.lock();
        self.once.fail(&mut inner, &mut wakes);
    }
}

#[cold]
#[track_caller]
fn refuse() -> ! {
    panic!("greenroom: an initializer asks for what it is about to initialize, and would wait for itself");
}

struct Runners<'a>(&'a RawOnce);

impl Place<Inner> for Runners<'_> {
    type Payload = Turn;

    fn list<'a>(&self, inner: &'a mut Inner) -> &'a mut List<Turn> {
        &mut inner.line
    }

    fn left(&self, _: &mut Inner, _: &mut Wakes) {}

    fn pass_on(&self, inner: &mut Inner, turn: &mut Turn, wakes: &mut Wakes) {
        if let Turn::Yours = turn {
            self.0.fail(inner, wakes);
        }
    }
}

struct Watchers;

impl Place<Inner> for Watchers {
    type Payload = bool;

    fn list<'a>(&self, inner: &'a mut Inner) -> &'a mut List<bool> {
        &mut inner.watchers
    }

    fn left(&self, _: &mut Inner, _: &mut Wakes) {}

    fn pass_on(&self, _: &mut Inner, _: &mut bool, _: &mut Wakes) {}
}

impl fmt::Debug for RawOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawOnce").field("is_completed", &self.is_completed()).finish_non_exhaustive()
    }
}
