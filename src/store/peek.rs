//! Looking at the first item and leaving it where it is.
//!
//! Whoever finds an item looks at it under the lock. Who finds none waits in a line of his own, with nothing but a function
//! that makes a copy. Whoever brings the next item shows it to all of that line before it goes on: to a getter who waits, into the
//! buffer, back into it, or to the head of those who wait to put. So
//!
//! - a peeker sees the first item that there is after he came, even if a getter who waits gets it in the same moment;
//! - he has a copy and never the item: getters and their order know nothing of him, and if he is cancelled, the copy is dropped;
//! - a copy that panics is his affair: the panic is caught and raised in him, and not in who brought the item.

use std::thread;
use std::time::Instant;

use super::{Buffer, GetError, State, Store};
use crate::hub::{Hub, Reason, Wakes};
use crate::line::{self, List, Place};

/// What a peeker wants, and then gets.
pub(super) enum Peek<T> {
    Wanted(fn(&T) -> T),
    Seen(thread::Result<T>),
}

impl<B: Buffer> Store<B> {
    /// Looks at the first item, if there is one. `look` runs under the lock: it may not wait, nor use the store.
    pub(crate) fn try_peek<R>(&self, look: impl FnOnce(&B::Item) -> R) -> Result<R, GetError> {
        // The lock is given back before `look` is dropped unused.
        let mut state = self.state.lock();
        match state.first() {
            Ok(item) => Ok(Hub::held(|| look(item))),
            Err(error) => Err(error),
        }
    }

    /// Copies the first item, and waits for one up to the deadline.
    pub(crate) fn peek(&self, deadline: Option<Instant>) -> Result<B::Item, GetError>
    where
        B::Item: Clone,
    {
        let mut state = self.state.lock();
        match state.first() {
            Ok(item) => return Ok(Hub::held(|| item.clone())),
            Err(GetError::Closed) => return Err(GetError::Closed),
            Err(GetError::Empty) => {}
        }
        let wanted = Peek::Wanted(B::Item::clone);
        match line::wait(Peekers, &self.state, state, wanted, Reason::Other(&"a look at an item"), deadline) {
            Ok(Peek::Seen(Ok(item))) => Ok(item),
            Ok(Peek::Seen(Err(panic))) => Hub::go_on(panic),
            Ok(Peek::Wanted(_)) => Err(GetError::Closed),
            Err(_) => Err(GetError::Empty),
        }
    }
}

impl<B: Buffer> State<B> {
    /// The item that a getter would be given now.
    fn first(&mut self) -> Result<&B::Item, GetError> {
        self.buffer.settle();
        match self.buffer.first().or_else(|| self.putters.first()?.as_ref()) {
            Some(item) => Ok(item),
            None if self.closed => Err(GetError::Closed),
            None => Err(GetError::Empty),
        }
    }

    /// Shows an item that has just come to those who wait for a look.
    #[inline]
    pub(super) fn show(&mut self, item: &B::Item, wakes: &mut Wakes) {
        show(&mut self.peekers, item, wakes);
    }
}

/// Shows an item to all in line.
#[inline]
pub(super) fn show<T>(peekers: &mut List<Peek<T>>, item: &T, wakes: &mut Wakes) {
    if !peekers.is_empty() {
        show_all(peekers, item, wakes);
    }
}

#[cold]
fn show_all<T>(peekers: &mut List<Peek<T>>, item: &T, wakes: &mut Wakes) {
    let look = |peek: &mut Peek<T>| {
        if let Peek::Wanted(copy) = *peek {
            *peek = Peek::Seen(Hub::held_and_caught(|| copy(item)));
        }
    };
    while peekers.serve(wakes, look).is_some() {}
}

/// The line of those who wait for a look.
struct Peekers;

impl<B: Buffer> Place<State<B>> for Peekers {
    type Payload = Peek<B::Item>;

    fn list<'a>(&self, state: &'a mut State<B>) -> &'a mut List<Peek<B::Item>> {
        &mut state.peekers
    }

    fn left(&self, _: &mut State<B>, _: &mut Wakes) {}

    /// The copy is dropped by its owner.
    fn pass_on(&self, _: &mut State<B>, _: &mut Peek<B::Item>, _: &mut Wakes) {}
}
