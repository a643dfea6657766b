//! Items on their way from those who put to those who get: what queues and channels are made of.
//!
//! - **D1** No item lies in the buffer while somebody waits to get one, and nobody waits to put while there is room: who comes puts
//!   his item into the hands of the first who waits, so nobody overtakes.
//! - **D2** An item is in one place: with its putter, in the buffer, or with its getter. One that was handed to a getter who then is
//!   cancelled goes to the next, or back to where it was in the buffer, whatever its capacity.
//! - **D3** Code of the user's runs under the lock only where the order needs it ([`Buffer::rank`], [`settle`](Buffer::settle),
//!   [`remove`](Buffer::remove)) and where an item is looked at ([`peek`]): nothing may switch in it, and a panic in it finds and
//!   leaves the store whole. Its items lie outside of the lock's guard meanwhile, or in the buffer.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use crate::hub::{Hub, Reason, Tell, Wakes};
use crate::line::{self, Choice, List, Observers, Place, Taker};
use crate::lock::{Guard, Lock};
use crate::task::Waitable;

mod peek;

use peek::Peek;

/// The order in which items come out.
pub(crate) trait Buffer {
    type Item;
    /// An item with what tells its place, so that it can be put back there.
    type Slot;

    /// Gives a new item its place, behind all that were given theirs before.
    fn place(&mut self, item: Self::Item) -> Self::Slot;
    /// Takes a slot that was just given its place. No code of the user's.
    fn insert(&mut self, slot: Self::Slot);
    /// A panic in a comparison of the user's leaves all as it was.
    fn remove(&mut self) -> Option<Self::Slot>;
    /// Puts a slot that was removed back to where it was. No code of the user's: somebody may be unwinding.
    fn restore(&mut self, slot: Self::Slot);
    fn len(&self) -> usize;
    fn item(slot: Self::Slot) -> Self::Item;
    fn item_of(slot: &Self::Slot) -> &Self::Item;

    /// What [`insert_at`](Self::insert_at) has to know of a new item, for which the user's code may be needed. Changes nothing.
    #[inline]
    fn rank(&self, _item: &Self::Item) -> usize {
        0
    }

    /// As [`insert`](Self::insert), with the rank known. No code of the user's.
    #[inline]
    fn insert_at(&mut self, slot: Self::Slot, _rank: usize) {
        self.insert(slot);
    }

    /// Does what insertions without a rank and restorations have left to be done. To be called before `first` and `remove`. A panic in a
    /// comparison of the user's loses nothing.
    #[inline]
    fn settle(&mut self) {}

    /// The item that would be removed next.
    fn first(&self) -> Option<&Self::Item>;

    /// Empties the buffer, in any order.
    fn drain(&mut self) -> Vec<Self::Slot>;

    /// Sorts drained slots into the order in which they would have been removed.
    fn sort(_slots: &mut [Self::Slot]) {}
}

/// A buffer with those who wait at both of its sides.
pub(crate) struct Store<B: Buffer> {
    pub(crate) state: Lock<State<B>>,
}

pub(crate) struct State<B: Buffer> {
    pub(crate) buffer: B,
    /// So many items fit into the buffer; with none, who puts waits for who gets.
    capacity: usize,
    /// Nothing is put any more.
    closed: bool,
    /// Each is served a slot; or nothing, when the store is closed.
    getters: List<Option<B::Slot>>,
    /// Each has his item taken; or not, when the store is closed.
    putters: List<Option<B::Item>>,
    /// Each is shown the next item that comes; or nothing, when the store is closed. Nobody waits here while there is one.
    peekers: List<Peek<B::Item>>,
    observers: Observers,
    /// Items put and not yet reported as done.
    unfinished: usize,
    joiners: List<()>,
}

/// Why an item was not taken; it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutError<T> {
    Full(T),
    Closed(T),
}

/// Why there is no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GetError {
    Empty,
    Closed,
}

impl<B: Buffer> Store<B> {
    pub(crate) const fn new(buffer: B, capacity: usize) -> Store<B> {
        let state = State {
            buffer,
            capacity,
            closed: false,
            getters: List::new(),
            putters: List::new(),
            peekers: List::new(),
            observers: Observers::new(),
            unfinished: 0,
            joiners: List::new(),
        };
        Store { state: Lock::new(state) }
    }

    pub(crate) fn lock(&self) -> Guard<'_, State<B>> {
        self.state.lock()
    }

    /// Puts an item if somebody waits for one or there is room.
    #[inline]
    pub(crate) fn try_put(&self, item: B::Item) -> Result<(), PutError<B::Item>> {
        let mut wakes = Wakes::new();
        let mut state = self.state.lock();
        let rank = state.rank(&item);
        state.accept(item, rank, Taker::Free, &mut wakes)
    }

    /// Puts an item, and waits for that up to the deadline.
    ///
    /// Inlined, like [`get`](Self::get), so that no return has to be predicted across the switch: see `Hub::park`.
    #[inline(always)]
    pub(crate) fn put(&self, item: B::Item, deadline: Option<Instant>) -> Result<(), PutError<B::Item>> {
        match self.put_or_lock(item) {
            Ok(done) => done,
            Err((item, mut state)) => {
                let reason = Reason::Other(&"room to put");
                // Who wants to see an item, or to know of one, learns of this one when it stands in line and the lock is given back: he may
                // come at once.
                let mut wakes = Wakes::new();
                state.show(&item, &mut wakes);
                let tell = move |mut state: Guard<'_, State<B>>| {
                    state.observers.tell(&mut wakes);
                    drop(state);
                    drop(wakes);
                };
                match line::wait_after(Putters, &self.state, state, Some(item), reason, deadline, tell) {
                    Ok(None) => Ok(()),
                    Ok(Some(item)) => Err(PutError::Closed(item)),
                    Err(item) => Err(PutError::Full(item.expect("nobody has taken it"))),
                }
            }
        }
    }

    /// Puts an item; or gives it back with the lock, under which there was no room.
    #[inline]
    #[allow(clippy::type_complexity, reason = "one caller takes it apart at once")]
    fn put_or_lock(&self, item: B::Item) -> Result<Result<(), PutError<B::Item>>, (B::Item, Guard<'_, State<B>>)> {
        let mut wakes = Wakes::new();
        let mut state = self.state.lock();
        let rank = state.rank(&item);
        match state.accept(item, rank, Taker::Free, &mut wakes) {
            Ok(()) if state.capacity == 0 => {
                drop(state);
                drop(wakes);
                // Whoever was given it has his turn first: received, then sent.
                crate::task::yield_now();
                Ok(Ok(()))
            }
            Err(PutError::Full(item)) => Err((item, state)),
            done => Ok(done),
        }
    }

    /// Gets an item if there is one.
    #[inline]
    pub(crate) fn try_get(&self) -> Result<B::Item, GetError> {
        let mut wakes = Wakes::new();
        let mut state = self.state.lock();
        state.take(Taker::Free, &mut wakes).map(B::item)
    }

    /// Gets an item, and waits for one up to the deadline.
    #[inline(always)]
    pub(crate) fn get(&self, deadline: Option<Instant>) -> Result<B::Item, GetError> {
        match self.get_or_lock() {
            Ok(done) => done.map(B::item),
            Err(state) => match line::wait(Getters, &self.state, state, None, Reason::Other(&"an item"), deadline) {
                Ok(Some(slot)) => Ok(B::item(slot)),
                Ok(None) => Err(GetError::Closed),
                Err(_) => Err(GetError::Empty),
            },
        }
    }

    /// Gets an item; or gives the lock, under which there was none.
    #[inline]
    fn get_or_lock(&self) -> Result<Result<B::Slot, GetError>, Guard<'_, State<B>>> {
        let mut wakes = Wakes::new();
        let mut state = self.state.lock();
        match state.take(Taker::Free, &mut wakes) {
            Err(GetError::Empty) => Err(state),
            done => Ok(done),
        }
    }

    /// Refuses what comes from now on. Those who wait to put have their items back; those who wait to get hear of it.
    pub(crate) fn close(&self) {
        let mut wakes = Wakes::new();
        self.state.lock().close(&mut wakes);
    }

    /// Refuses what comes from now on, and gives what was not yet got, which then counts as done.
    pub(crate) fn close_now(&self) -> Vec<B::Item> {
        let mut slots = {
            let mut wakes = Wakes::new();
            let mut state = self.state.lock();
            state.close(&mut wakes);
            let slots = state.buffer.drain();
            state.unfinished = state.unfinished.saturating_sub(slots.len());
            if state.unfinished == 0 {
                state.release_joiners(&mut wakes);
            }
            slots
        };
        B::sort(&mut slots);
        slots.into_iter().map(B::item).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().buffer.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Whether a `try_put` would find the store full.
    pub(crate) fn is_full(&self) -> bool {
        !self.state.lock().has_room()
    }

    /// Has `ready` called once there is an item, or none will come: now, if that is so. Else gives a key to take it back.
    pub(crate) fn watch(&self, ready: &Tell) -> Option<u64> {
        let mut state = self.state.lock();
        if state.is_ready() {
            drop(state);
            ready();
            return None;
        }
        Some(state.observers.add(ready.clone()))
    }

    /// Whether there is an item, or none will come.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.lock().is_ready()
    }

    pub(crate) fn unwatch(&self, key: u64) {
        let removed = self.state.lock().observers.remove(key);
        drop(removed);
    }

    /// Reports one item as done; false if that is more than were put.
    pub(crate) fn task_done(&self) -> bool {
        let mut wakes = Wakes::new();
        let mut state = self.state.lock();
        let Some(left) = state.unfinished.checked_sub(1) else { return false };
        state.unfinished = left;
        if left == 0 {
            state.release_joiners(&mut wakes);
        }
        true
    }

    /// Waits until all items that were put are reported as done; false if the deadline came first.
    pub(crate) fn join(&self, deadline: Option<Instant>) -> bool {
        let state = self.state.lock();
        state.unfinished == 0
            || line::wait(Joiners, &self.state, state, (), Reason::Other(&"the end of all items"), deadline).is_ok()
    }

    pub(crate) fn unfinished(&self) -> usize {
        self.state.lock().unfinished
    }
}

/// Gives the others their turn, now and then (rule 4): for a call that may have to wait, before it takes anything, and after it
/// has put something. So a kill that is raised here finds nothing in between.
#[inline(always)]
pub(crate) fn charge() {
    if let Some(hub) = Hub::get() {
        hub.charge_little();
    }
}

impl<B: Buffer> Waitable for Store<B> {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.watch(ready)
    }

    fn unwatch(&self, key: u64) {
        self.unwatch(key);
    }
}

impl<B: Buffer> State<B> {
    /// The rank for [`accept`](Self::accept), if it is going to need one. The item must outlive the lock's guard if this panics (D3).
    #[inline]
    fn rank(&self, item: &B::Item) -> Option<usize> {
        let goes_in = !self.closed && self.getters.is_empty() && self.buffer.len() < self.capacity;
        goes_in.then(|| self.buffer.rank(item))
    }

    /// Takes an item in, if somebody waits for it or there is room. `Full` too if the taker has lost.
    #[inline]
    fn accept(
        &mut self,
        item: B::Item,
        rank: Option<usize>,
        taker: Taker<'_>,
        wakes: &mut Wakes,
    ) -> Result<(), PutError<B::Item>> {
        if self.closed {
            return Err(if taker.win() { PutError::Closed(item) } else { PutError::Full(item) });
        }
        let mut item = Some(item);
        if !self.getters.is_empty() {
            let State { getters, buffer, peekers, .. } = self;
            let mut shown = Wakes::new();
            let give = |slot: &mut Option<B::Slot>| {
                if let Some(item) = &item {
                    peek::show(peekers, item, &mut shown);
                }
                *slot = item.take().map(|item| buffer.place(item));
            };
            getters.serve_for(taker, wakes, |_| true, give);
            wakes.append(shown);
        }
        if let Some(item) = item {
            if self.buffer.len() >= self.capacity || !taker.win() {
                return Err(PutError::Full(item));
            }
            self.show(&item, wakes);
            let slot = self.buffer.place(item);
            match rank {
                Some(rank) => self.buffer.insert_at(slot, rank),
                // It was to go to a getter, who has found something else.
                None => self.buffer.insert(slot),
            }
            self.observers.tell(wakes);
        }
        self.unfinished += 1;
        Ok(())
    }

    /// Takes an item out, and fills its place from those who wait to put. `Empty` too if the taker has lost.
    #[inline]
    fn take(&mut self, taker: Taker<'_>, wakes: &mut Wakes) -> Result<B::Slot, GetError> {
        if self.buffer.len() > 0 {
            self.buffer.settle();
            if !taker.win() {
                return Err(GetError::Empty);
            }
            let slot = self.buffer.remove().expect("it is not empty");
            if !self.putters.is_empty() {
                self.refill(wakes);
            }
            return Ok(slot);
        }
        match self.putters.serve_for(taker, wakes, |_| true, Option::take).flatten() {
            Some(item) => {
                self.unfinished += 1;
                Ok(self.buffer.place(item))
            }
            None if self.closed && taker.win() => Err(GetError::Closed),
            None => Err(GetError::Empty),
        }
    }

    /// Lets those who wait to put do so while there is room.
    fn refill(&mut self, wakes: &mut Wakes) {
        while self.buffer.len() < self.capacity {
            let Some(item) = self.putters.serve(wakes, Option::take).flatten() else { return };
            self.unfinished += 1;
            let slot = self.buffer.place(item);
            self.buffer.insert(slot);
        }
    }

    fn has_room(&self) -> bool {
        self.buffer.len() < self.capacity || !self.getters.is_empty()
    }

    /// Who gets need not wait.
    fn is_ready(&self) -> bool {
        self.buffer.len() > 0 || self.closed || !self.putters.is_empty()
    }

    fn close(&mut self, wakes: &mut Wakes) {
        self.closed = true;
        while self.putters.serve(wakes, |_| ()).is_some() {}
        while self.getters.serve(wakes, |_| ()).is_some() {}
        while self.peekers.serve(wakes, |_| ()).is_some() {}
        self.observers.tell(wakes);
    }

    fn release_joiners(&mut self, wakes: &mut Wakes) {
        while self.joiners.serve(wakes, |()| ()).is_some() {}
    }
}

/// The line of those who wait to get.
#[derive(Clone, Copy)]
pub(crate) struct Getters;

impl<B: Buffer> Place<State<B>> for Getters {
    type Payload = Option<B::Slot>;

    fn list<'a>(&self, state: &'a mut State<B>) -> &'a mut List<Option<B::Slot>> {
        &mut state.getters
    }

    fn left(&self, _: &mut State<B>, _: &mut Wakes) {}

    fn pass_on(&self, state: &mut State<B>, payload: &mut Option<B::Slot>, wakes: &mut Wakes) {
        state.hand_back(payload, wakes);
    }
}

impl<B: Buffer> State<B> {
    /// A slot that its getter has no use for goes to the next, or back to its place (D2).
    fn hand_back(&mut self, slot: &mut Option<B::Slot>, wakes: &mut Wakes) {
        let Some(item) = slot.as_ref().map(B::item_of) else { return };
        self.show(item, wakes);
        self.getters.serve(wakes, |next| *next = slot.take());
        if let Some(slot) = slot.take() {
            self.buffer.restore(slot);
            self.observers.tell(wakes);
        }
    }
}

/// The line of those who wait to put.
#[derive(Clone, Copy)]
pub(crate) struct Putters;

impl<B: Buffer> Place<State<B>> for Putters {
    type Payload = Option<B::Item>;

    fn list<'a>(&self, state: &'a mut State<B>) -> &'a mut List<Option<B::Item>> {
        &mut state.putters
    }

    fn left(&self, _: &mut State<B>, _: &mut Wakes) {}

    /// The item is where it was to go.
    fn pass_on(&self, _: &mut State<B>, _: &mut Option<B::Item>, _: &mut Wakes) {}
}

/// Served with nothing: the store is closed and empty.
impl<B: Buffer> Choice<State<B>> for Getters {
    fn take_now(
        &self,
        state: &mut State<B>,
        payload: &mut Option<B::Slot>,
        taker: Taker<'_>,
        wakes: &mut Wakes,
    ) -> bool {
        match state.take(taker, wakes) {
            Ok(slot) => {
                *payload = Some(slot);
                true
            }
            Err(GetError::Closed) => true,
            Err(GetError::Empty) => false,
        }
    }
}

/// Served with the item still there: the store is closed.
impl<B: Buffer> Choice<State<B>> for Putters {
    fn take_now(
        &self,
        state: &mut State<B>,
        payload: &mut Option<B::Item>,
        taker: Taker<'_>,
        wakes: &mut Wakes,
    ) -> bool {
        let rank = payload.as_ref().and_then(|item| state.rank(item));
        let Some(item) = payload.take() else { return false };
        match state.accept(item, rank, taker, wakes) {
            Ok(()) => true,
            Err(PutError::Closed(item)) => {
                *payload = Some(item);
                true
            }
            Err(PutError::Full(item)) => {
                let item = payload.insert(item);
                // Who has lost does not stand in line.
                if matches!(taker, Taker::Of(..)) && !taker.has_lost() {
                    state.show(item, wakes);
                    state.observers.tell(wakes);
                }
                false
            }
        }
    }
}

struct Joiners;

impl<B: Buffer> Place<State<B>> for Joiners {
    type Payload = ();

    fn list<'a>(&self, state: &'a mut State<B>) -> &'a mut List<()> {
        &mut state.joiners
    }

    fn left(&self, _: &mut State<B>, _: &mut Wakes) {}

    fn pass_on(&self, _: &mut State<B>, (): &mut (), _: &mut Wakes) {}
}

impl<B: Buffer> fmt::Debug for Store<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("len", &self.len()).field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// First in, first out.
#[derive(Debug)]
pub(crate) struct Fifo<T> {
    /// The last of them has the place before `next`, and there is none missing.
    items: VecDeque<T>,
    /// Items that came back from getters, by their places, which are before all of `items`.
    returned: VecDeque<(u64, T)>,
    /// Counts the items that came; the place of the next.
    next: u64,
}

impl<T> Fifo<T> {
    pub(crate) const fn new() -> Fifo<T> {
        Fifo { items: VecDeque::new(), returned: VecDeque::new(), next: 0 }
    }
}

impl<T> Buffer for Fifo<T> {
    type Item = T;
    type Slot = (u64, T);

    #[inline]
    fn place(&mut self, item: T) -> (u64, T) {
        let place = self.next;
        self.next += 1;
        (place, item)
    }

    #[inline]
    fn insert(&mut self, (place, item): (u64, T)) {
        debug_assert_eq!(place + 1, self.next, "an item is inserted when it was given its place, or handed over");
        self.items.push_back(item);
    }

    #[inline]
    fn remove(&mut self) -> Option<(u64, T)> {
        if !self.returned.is_empty() {
            return self.returned.pop_front();
        }
        let place = self.next - self.items.len() as u64;
        Some((place, self.items.pop_front()?))
    }

    #[cold]
    fn restore(&mut self, slot: (u64, T)) {
        let at = self.returned.partition_point(|(place, _)| *place < slot.0);
        self.returned.insert(at, slot);
    }

    #[inline]
    fn len(&self) -> usize {
        self.items.len() + self.returned.len()
    }

    #[inline]
    fn item((_, item): (u64, T)) -> T {
        item
    }

    fn item_of((_, item): &(u64, T)) -> &T {
        item
    }

    fn first(&self) -> Option<&T> {
        self.returned.front().map(|(_, item)| item).or_else(|| self.items.front())
    }

    fn drain(&mut self) -> Vec<(u64, T)> {
        let first = self.next - self.items.len() as u64;
        let returned = std::mem::take(&mut self.returned);
        returned.into_iter().chain((first..).zip(std::mem::take(&mut self.items))).collect()
    }
}
