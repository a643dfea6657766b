//! Mapping as an iterator: a task feeds the pool, and the consumer takes what comes out.
//!
//! ```text
//!   items --> feeder --> slots of the pool: f(item) --> results --> next
//!               ^                                                    |
//!               +------------------- room -------------------------- +
//! ```
//!
//! - **M1** The feeder takes an item only while fewer than `lead` have been taken that the consumer has not been given.
//! - **M2** An item that has a place has a result: its task ends in one way or another, or the consumer ran it.
//!
//! Why a task of its own, and not the consumer in `next`: items that have to be waited for would keep back results that are
//! there, and between two calls of `next` nobody would fill the slots. And why slots are not taken ahead of items: one would be
//! idle while the item is waited for.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::crew::{Bell, Slot};
use super::{Pool, made};
use crate::error::JoinError;
use crate::hub::{Cancelled, Hub, Reason};
use crate::lock::{steadily, steady};
use crate::task::{Builder, JoinHandle};

/// Iterator of [`Pool::imap`] and [`Pool::imap_unordered`].
///
/// Nothing happens before the first call of `next`. From then on a task takes the items, one when there is a slot for the one
/// before, and never so that more than [`lead`](Self::lead) of them have been taken whose results have not.
///
/// A task that panics or is killed gives its error at its item's place, and the others go on. If `items` panics, `next` resumes
/// that panic in its turn, after the results of all items before it; the iteration is over then.
///
/// Started by a task of the same pool, it never waits for a slot: what finds none is run by `next` itself, while it has
/// nothing to give.
///
/// Dropping the iterator kills what is under way, without waiting for its end.
///
/// # Switching
///
/// `next`, unless the result is there. Dropping never does.
///
/// # Cancellation
///
/// A caller that is cancelled inside `next` loses nothing. An item that `next` itself was running then counts as killed.
#[must_use = "nothing happens before the first `next`"]
pub struct IMap<R: 'static> {
    flow: Rc<Flow<R>>,
    /// The feeder's body, until the first `next`.
    begin: Option<Box<dyn FnOnce()>>,
    feeder: Option<JoinHandle<()>>,
}

/// What consumer, feeder and tasks share.
struct Flow<R> {
    pool: Pool,
    builder: Builder,
    ordered: bool,
    /// 0 until it is known.
    lead: Cell<usize>,
    /// The consumer is a task of the pool.
    inside: Cell<bool>,
    state: RefCell<State<R>>,
    /// Rung for the consumer.
    news: Bell,
    /// Rung for the feeder.
    room: Bell,
}

struct State<R> {
    /// In order: the results from place `first` on, each as soon as it is there. Otherwise: those that are there.
    results: VecDeque<Option<Result<R, JoinError>>>,
    first: u64,
    /// The next item's place.
    next: u64,
    /// Items that were taken and not yet given.
    ahead: usize,
    running: BTreeMap<u64, JoinHandle<R>>,
    /// An item that found no slot, for the consumer to run.
    stalled: Option<(u64, Job<R>)>,
    /// The iterator is gone: nothing is put here any more.
    closed: bool,
}

type Job<R> = Box<dyn FnOnce() -> R>;

impl<R: 'static> IMap<R> {
    pub(super) fn new<I: Iterator + 'static>(
        pool: Pool,
        builder: Builder,
        ordered: bool,
        items: I,
        f: impl Fn(I::Item) -> R + 'static,
    ) -> IMap<R> {
        let state = State {
            results: VecDeque::new(),
            first: 0,
            next: 0,
            ahead: 0,
            running: BTreeMap::new(),
            stalled: None,
            closed: false,
        };
        let flow = Rc::new(Flow {
            pool,
            builder,
            ordered,
            lead: Cell::new(0),
            inside: Cell::new(false),
            state: RefCell::new(state),
            news: Bell::new(),
            room: Bell::new(),
        });
        let feed = flow.clone();
        IMap { flow, begin: Some(Box::new(move || feed.feed(items, f))), feeder: None }
    }

    /// Sets how many items can have been taken whose results have not: as many as the pool has slots, if this is not called, and one
    /// at least. More of them keep the slots in use while an early item takes long.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::pool::Pool::new(2);
    /// let squares = pool.imap(1_u64.., |n| n * n).lead(10);
    /// assert_eq!(squares.map(Result::unwrap).take(3).collect::<Vec<_>>(), [1, 4, 9]);
    /// ```
    pub fn lead(self, items: usize) -> IMap<R> {
        self.flow.lead.set(items.max(1));
        self
    }

    fn begin(&mut self) {
        let Some(feed) = self.begin.take() else { return };
        let flow = &self.flow;
        if flow.lead.get() == 0 {
            flow.lead.set(flow.pool.size().max(1));
        }
        flow.inside.set(flow.pool.crew.has_current());
        let feeder = made(flow.builder.clone().spawn(feed));
        let fed = flow.clone();
        feeder.task().watch(Box::new(move || fed.news.ring()));
        self.feeder = Some(feeder);
    }

    /// Whether no more item comes from the feeder.
    fn is_fed(&self) -> bool {
        self.feeder.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// All results were given. What is left is the feeder's panic.
    fn end(&mut self) {
        let ended = self.feeder.take().map(JoinHandle::join);
        if let Some(Err(JoinError::Panicked(payload))) = ended {
            Hub::here().pass_on(payload);
        }
    }
}

impl<R: 'static> Iterator for IMap<R> {
    type Item = Result<R, JoinError>;

    fn next(&mut self) -> Option<Result<R, JoinError>> {
        self.begin();
        loop {
            if let Some(result) = self.flow.pop() {
                return Some(result);
            }
            if self.flow.run_stalled() {
                continue;
            }
            if self.is_fed() && self.flow.is_drained() {
                self.end();
                return None;
            }
            let flow = &self.flow;
            let met = || flow.has_news() || self.is_fed() && flow.is_drained();
            flow.news.wait(met, Reason::Other(&"a result of a pool's tasks"), None);
        }
    }
}

impl<R: 'static> FusedIterator for IMap<R> {}

impl<R: 'static> Drop for IMap<R> {
    fn drop(&mut self) {
        let mut state = self.flow.state.borrow_mut();
        state.closed = true;
        // Without their handles, the tasks drop their results themselves.
        let running = std::mem::take(&mut state.running);
        let (results, stalled) = (std::mem::take(&mut state.results), state.stalled.take());
        drop(state);
        // Where nothing unwinds the tasks go on to their ends, and the feeder to where it sees that it is not needed.
        if cfg!(not(panic = "abort")) {
            self.feeder.iter().for_each(JoinHandle::kill_nowait);
            running.values().for_each(JoinHandle::kill_nowait);
        }
        self.flow.room.ring();
        drop(running);
        drop((results, stalled));
    }
}

impl<R: 'static> fmt::Debug for IMap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IMap").field("running", &self.flow.state.borrow().running.len()).finish_non_exhaustive()
    }
}

/// The feeder's side.
impl<R: 'static> Flow<R> {
    fn feed<I: Iterator>(self: Rc<Self>, mut items: I, f: impl Fn(I::Item) -> R + 'static)
    where
        I::Item: 'static,
    {
        let f = Rc::new(f);
        loop {
            let has_room = || {
                let state = self.state.borrow();
                state.closed || state.ahead < self.lead.get() && state.stalled.is_none()
            };
            self.room.wait(has_room, Reason::Other(&"room ahead of a pool's consumer"), None);
            if self.is_closed() {
                return;
            }
            let Some(item) = items.next() else { return };
            self.state.borrow_mut().ahead += 1;

            let f = f.clone();
            let job = move || f(item);
            let slot = if self.inside.get() { self.pool.crew.try_take() } else { Some(self.pool.crew.take()) };
            // The iterator may have gone while `items` or the slot was waited for.
            if self.is_closed() {
                return;
            }
            if let Some(slot) = slot {
                self.start(slot, job);
            } else {
                let place = self.open();
                let job = Box::new(job);
                self.state.borrow_mut().stalled = Some((place, job));
                self.news.ring();
            }
        }
    }

    /// Makes an item's task. If it cannot be made, the feeder's panic takes the item's place.
    fn start(self: &Rc<Self>, slot: Slot, job: impl FnOnce() -> R + 'static) {
        let handle = made(self.builder.clone().spawn(job));
        let place = self.open();
        slot.enroll(&handle.task());
        let flow = self.clone();
        handle.task().watch(Box::new(move || flow.finished(place)));
        steadily(|| self.state.borrow_mut().running.insert(place, handle));
    }

    fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }

    /// The next item's place.
    fn open(&self) -> u64 {
        let _steady = steady();
        let mut state = self.state.borrow_mut();
        if self.ordered {
            state.results.push_back(None);
        }
        state.next += 1;
        state.next - 1
    }
}

/// The tasks' side.
impl<R: 'static> Flow<R> {
    /// A task has ended. If the iterator is gone, so is the handle, and nobody wants the result.
    fn finished(&self, place: u64) {
        let handle = steadily(|| self.state.borrow_mut().running.remove(&place));
        if let Some(handle) = handle {
            self.put(place, handle.join());
        }
    }

    fn put(&self, place: u64, result: Result<R, JoinError>) {
        let _steady = steady();
        let mut state = self.state.borrow_mut();
        if self.ordered {
            let place = (place - state.first) as usize;
            state.results[place] = Some(result);
        } else {
            state.results.push_back(Some(result));
        }
        drop(state);
        self.news.ring();
    }
}

/// The consumer's side.
impl<R: 'static> Flow<R> {
    /// The next result, if it is there.
    fn pop(&self) -> Option<Result<R, JoinError>> {
        let mut state = self.state.borrow_mut();
        let result = state.results.pop_front_if(|result| result.is_some())??;
        state.first += 1;
        state.ahead -= 1;
        drop(state);
        self.room.ring();
        Some(result)
    }

    /// Runs the item that found no slot, if there is one.
    fn run_stalled(&self) -> bool {
        let Some((place, job)) = self.state.borrow_mut().stalled.take() else { return false };
        self.room.ring();
        let hub = Hub::here();
        let unwinding = hub.current().unwinding.get();
        match catch_unwind(AssertUnwindSafe(job)) {
            Ok(value) => self.put(place, Ok(value)),
            Err(payload) if payload.is::<Cancelled>() => {
                self.put(place, Err(JoinError::Killed));
                hub.pass_on(payload);
            }
            Err(payload) => {
                hub.current().unwinding.set(unwinding);
                self.put(place, Err(JoinError::Panicked(payload)));
            }
        }
        true
    }

    fn has_news(&self) -> bool {
        let state = self.state.borrow();
        state.stalled.is_some() || state.results.front().is_some_and(Option::is_some)
    }

    /// Whether every item that has a place was given.
    fn is_drained(&self) -> bool {
        let state = self.state.borrow();
        state.results.is_empty() && state.running.is_empty() && state.stalled.is_none()
    }
}
