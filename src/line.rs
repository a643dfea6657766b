//! Standing in line for something that any thread may hand out: permits, items, a lock.
//!
//! An object that is shared keeps its state and its [`List`]s of waiters behind one [`Lock`]. Who cannot have what he wants joins
//! a list and parks, all under the lock, so that nothing comes in between. Who hands out *serves* the first in line: what he
//! gets is put into his hands before he wakes. So nothing lies about while somebody waits for it, and no newcomer can take it.
//!
//! ```text
//!   waiter                                        whoever hands out
//!   ------                                        -----------------
//!   lock, nothing there: link, unlock             lock
//!   park                                          serve: unlink, put the payload there, wake, publish
//!     woken: published? then it is mine           unlock
//!     time out: lock; published? else unlink
//!     unwound:  lock; published? pass it on, else unlink
//! ```
//!
//! - **Q1** A linked node's frame is alive: [`wait`] unlinks on return and on unwind, under the lock. Nodes are touched under
//!   the lock only.
//! - **Q2** *Published* is the last thing that the server does to a node: from then on it is its owner's alone, who may leave
//!   without asking for the lock.
//! - **Q3** A node that stands for one of several things that its owner waits for ([`while_linked`]) is served only by who wins the
//!   owner's claim, once; the others are skipped by their servers and withdrawn by the owner. Such an owner leaves under the
//!   lock only, so the claim may be won before the payload is there.
//! - **Q4** What was handed to one who then unwinds is passed on; who leaves unserved may have been in the way of those behind
//!   ([`Place::left`]).

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::ptr;
use std::time::Instant;

use crate::hub::{Reason, Sleeper, Target, Tell, Wakes};
use crate::lock::{Guard, Lock};
use crate::waiter::Clause;

mod claim;

pub(crate) use claim::{Claim, Taker};

/// Waiters in the order in which they came, each with what it wants or gets. Lives behind the lock of its object.
pub(crate) struct List<N> {
    head: *const Node<N>,
    tail: *const Node<N>,
}

// SAFETY: a list leads to nodes, which are touched only under the lock that the list lies behind (Q1).
unsafe impl<N: Send> Send for List<N> {}

/// A waiter's place in a list.
pub(crate) struct Node<N> {
    prev: Cell<*const Node<N>>,
    next: Cell<*const Node<N>>,
    linked: Cell<bool>,
    /// One of several of its owner's (Q3).
    several: bool,
    clause: u32,
    claim: *const Claim,
    payload: *const UnsafeCell<N>,
    target: Target,
}

/// One of the lists of an object, and what becomes of the object when waiters leave early. A value of a few references.
pub(crate) trait Place<S> {
    /// What a waiter wants, and then gets.
    type Payload;

    /// The list, in the object's state.
    fn list<'a>(&self, state: &'a mut S) -> &'a mut List<Self::Payload>;

    /// Whether other threads may serve it. If not, that nobody can is a deadlock for certain (rule 7).
    fn is_shared(&self) -> bool {
        true
    }

    /// Somebody has left without being served, whose turn may have been next: serves those behind who need wait no longer.
    fn left(&self, state: &mut S, wakes: &mut Wakes);

    /// What was handed to somebody who then was cancelled goes to the next, or back. What stays in the payload is dropped after the
    /// lock is given back; nothing of the user's may be dropped here.
    fn pass_on(&self, state: &mut S, payload: &mut Self::Payload, wakes: &mut Wakes);
}

impl<N> List<N> {
    pub(crate) const fn new() -> List<N> {
        List { head: ptr::null(), tail: ptr::null() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// What the first in line wants who may still be served.
    pub(crate) fn first(&self) -> Option<&N> {
        let mut at = self.head;
        loop {
            // SAFETY: Q1: a linked node's frame is alive.
            let node = unsafe { at.as_ref() }?;
            // SAFETY: the node is linked under the lock that we hold, so its claim is alive.
            if !node.several || unsafe { &*node.claim }.is_open() {
                // SAFETY: Q1: the node is linked, so its payload is alive.
                let payload = unsafe { &*node.payload };
                // SAFETY: we are under the lock, and it is borrowed for as long as the list is.
                return Some(unsafe { &*payload.get() });
            }
            at = node.next.get();
        }
    }

    /// Serves the first in line, if there is one: `give` puts into its payload what it gets.
    #[inline]
    pub(crate) fn serve<R>(&mut self, wakes: &mut Wakes, give: impl FnOnce(&mut N) -> R) -> Option<R> {
        self.serve_if(wakes, |_| true, give)
    }

    /// Serves the first in line if `fits` says so of what it wants. Neither closure may call anything of the user's.
    #[inline]
    pub(crate) fn serve_if<R>(
        &mut self,
        wakes: &mut Wakes,
        fits: impl FnMut(&N) -> bool,
        give: impl FnOnce(&mut N) -> R,
    ) -> Option<R> {
        self.serve_for(Taker::Free, wakes, fits, give)
    }

    /// As [`serve_if`](Self::serve_if), in the name of a taker whose own claim must be won with it.
    #[inline]
    pub(crate) fn serve_for<R>(
        &mut self,
        taker: Taker<'_>,
        wakes: &mut Wakes,
        mut fits: impl FnMut(&N) -> bool,
        give: impl FnOnce(&mut N) -> R,
    ) -> Option<R> {
        let mut at = self.head;
        loop {
            // SAFETY: Q1: a linked node's frame is alive.
            let node = unsafe { at.as_ref() }?;
            // SAFETY: Q1: a linked node's owner is still in its wait.
            if unsafe { node.target.is_abandoned() } {
                at = node.next.get();
                self.unlink(node);
                continue;
            }
            if taker.is(node.claim) {
                // Nobody serves himself.
                at = node.next.get();
                continue;
            }
            // SAFETY: Q1: we are under the lock, and the node is not published: its payload is alive.
            let payload = unsafe { &*node.payload }.get();
            // SAFETY: as above, and its owner does not touch it meanwhile.
            let payload = unsafe { &mut *payload };
            if !fits(payload) {
                return None;
            }
            if !node.claim(taker) {
                if taker.has_lost() {
                    return None;
                }
                // Something else its owner waits for was quicker.
                at = node.next.get();
                self.unlink(node);
                continue;
            }
            self.unlink(node);
            let given = give(payload);
            // SAFETY: not yet published, or under the lock that the owner asks for: he is still in his wait.
            unsafe { node.target.wake(wakes) };
            node.publish();
            return Some(given);
        }
    }

    /// # Safety
    ///
    /// The node stays where it is until it is unlinked, or until it was served.
    #[inline]
    pub(crate) unsafe fn push_back(&mut self, node: &Node<N>) {
        node.prev.set(self.tail);
        node.next.set(ptr::null());
        node.linked.set(true);
        // SAFETY: Q1: a linked node's frame is alive.
        match unsafe { self.tail.as_ref() } {
            Some(last) => last.next.set(node),
            None => self.head = node,
        }
        self.tail = node;
    }

    /// Takes a node out, if it is in.
    #[inline]
    pub(crate) fn unlink(&mut self, node: &Node<N>) {
        if !node.linked.replace(false) {
            return;
        }
        // SAFETY: Q1: a linked node's frame is alive.
        match unsafe { node.prev.get().as_ref() } {
            Some(prev) => prev.next.set(node.next.get()),
            None => self.head = node.next.get(),
        }
        // SAFETY: as above.
        match unsafe { node.next.get().as_ref() } {
            Some(next) => next.prev.set(node.prev.get()),
            None => self.tail = node.prev.get(),
        }
    }
}

impl<N> Drop for List<N> {
    fn drop(&mut self) {
        debug_assert!(self.is_empty(), "Q1: an object is dropped while somebody waits for it");
    }
}

impl<N> fmt::Debug for List<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}

impl<N> Node<N> {
    /// # Safety
    ///
    /// `claim` and `payload` live as long as the node can be linked.
    #[inline]
    pub(crate) unsafe fn new(
        claim: *const Claim,
        clause: Option<u32>,
        payload: *const UnsafeCell<N>,
        target: Target,
    ) -> Node<N> {
        Node {
            prev: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            linked: Cell::new(false),
            several: clause.is_some(),
            clause: clause.unwrap_or(0),
            claim,
            payload,
            target,
        }
    }

    /// Wins the owner's claim for this node (Q3), and the taker's.
    #[inline]
    fn claim(&self, taker: Taker<'_>) -> bool {
        if self.several {
            // SAFETY: the node is linked under the lock that we hold, so its claim is alive.
            taker.win_with(unsafe { &*self.claim }, self.clause)
        } else {
            // Its owner can withdraw under the lock only.
            taker.win()
        }
    }

    #[inline]
    fn publish(&self) {
        if !self.several {
            // SAFETY: as in `claim`. This is the last that we do to the node (Q2).
            unsafe { &*self.claim }.publish(self.clause);
        }
    }
}

/// Joins the line of `place` and parks until served, or until the deadline: gives the payload as it was served, or back as it was.
///
/// `guard` is the lock's, under which nothing was found; it is given back before the switch. If the caller is cancelled, the
/// place says what becomes of the object.
///
/// Inlined, so that no return has to be predicted across the switch: see `Hub::park`.
#[inline(always)]
pub(crate) fn wait<P: Place<S>, S>(
    place: P,
    lock: &Lock<S>,
    guard: Guard<'_, S>,
    payload: P::Payload,
    reason: Reason,
    deadline: Option<Instant>,
) -> Result<P::Payload, P::Payload> {
    wait_after(place, lock, guard, payload, reason, deadline, drop)
}

/// As [`wait`]; `joined` is given the lock when the caller stands in line, to give it back, and may do what must not be done
/// earlier. It does not switch.
#[inline(always)]
pub(crate) fn wait_after<'a, P: Place<S>, S>(
    place: P,
    lock: &Lock<S>,
    guard: Guard<'a, S>,
    payload: P::Payload,
    reason: Reason,
    deadline: Option<Instant>,
    joined: impl FnOnce(Guard<'a, S>),
) -> Result<P::Payload, P::Payload> {
    // Given back before the payload is dropped, should the next line panic.
    let mut guard = guard;
    let sleeper = Sleeper::arm();
    let payload = UnsafeCell::new(payload);
    let claim = Claim::new();
    // SAFETY: both live in this frame, and longer than `_leave`.
    let node = unsafe { Node::new(&raw const claim, None, &raw const payload, sleeper.target(Clause(0))) };
    let leave = Leave { place, lock, node: &node, claim: &claim, payload: &payload, left: Cell::new(false) };
    // SAFETY: `leave` unlinks it before this frame dies.
    unsafe { leave.place.list(&mut guard).push_back(&node) };
    joined(guard);

    if claim.winner().is_some() {
        // Another thread was as quick as that.
        sleeper.give_up();
    } else {
        sleeper.park(leave.place.is_shared(), reason, deadline, || claim.winner().is_some());
    }
    let served = if claim.winner().is_some() {
        sleeper.attend();
        leave.left.set(true);
        true
    } else {
        leave.withdraw()
    };
    drop(leave);
    if served { Ok(payload.into_inner()) } else { Err(payload.into_inner()) }
}

/// One who waits for several things: what all their nodes share.
pub(crate) struct Several {
    pub(crate) claim: Claim,
    pub(crate) sleeper: Sleeper,
}

/// A place where one may wait for this and other things at once.
pub(crate) trait Choice<S>: Place<S> {
    /// Serves the caller at once, if it can be served and `taker` wins. If not, it is to be linked under the same hold of the lock.
    fn take_now(&self, state: &mut S, payload: &mut Self::Payload, taker: Taker<'_>, wakes: &mut Wakes) -> bool;
}

/// Stands in the line of `place` while `inner` runs, which waits for this and other things. Says whether it was served here.
///
/// `inner` is not run if the place could serve the caller at once, or if something else has been quicker. It may unwind.
pub(crate) fn while_linked<P: Choice<S>, S>(
    place: P,
    lock: &Lock<S>,
    payload: &mut P::Payload,
    several: &Several,
    clause: u32,
    inner: impl FnOnce(),
) -> bool {
    // SAFETY: `UnsafeCell` has the layout of what it holds, and the reference is exclusive: nobody uses it while we do.
    let payload = unsafe { &*(ptr::from_mut(payload) as *const UnsafeCell<P::Payload>) };
    let claim = &several.claim;
    // SAFETY: both live as long as the caller's frame, and `linked` unlinks before that.
    let node = unsafe { Node::new(claim, Some(clause), payload, several.sleeper.target(Clause(clause))) };
    {
        let mut wakes = Wakes::new();
        let mut state = lock.lock();
        // SAFETY: the node is not linked yet, so the payload is ours alone.
        if place.take_now(&mut state, unsafe { &mut *payload.get() }, Taker::Of(claim, clause), &mut wakes) {
            return true;
        }
        if !claim.is_open() {
            return false;
        }
        // SAFETY: `linked` unlinks it before this frame dies.
        unsafe { place.list(&mut state).push_back(&node) };
    }
    let mut linked = Linked { place, lock, node: &node, claim, clause, payload, cancelled: true };
    inner();
    linked.cancelled = false;
    drop(linked);
    claim.winner() == Some(clause)
}

/// Takes a node of one who waits for several things out again, on an unwind too.
struct Linked<'a, P: Place<S>, S> {
    place: P,
    lock: &'a Lock<S>,
    node: &'a Node<P::Payload>,
    claim: &'a Claim,
    clause: u32,
    payload: &'a UnsafeCell<P::Payload>,
    cancelled: bool,
}

impl<P: Place<S>, S> Drop for Linked<'_, P, S> {
    fn drop(&mut self) {
        let served = self.claim.withdraw() == Some(self.clause);
        let mut wakes = Wakes::new();
        // Who served us did so under the lock: with it, the payload is there (Q3).
        let mut state = self.lock.lock();
        if !served {
            self.place.list(&mut state).unlink(self.node);
            self.place.left(&mut state, &mut wakes);
        } else if self.cancelled {
            // SAFETY: served nodes are unlinked, so the payload is ours alone.
            self.place.pass_on(&mut state, unsafe { &mut *self.payload.get() }, &mut wakes);
        }
    }
}

/// Leaves a line, on an unwind too.
struct Leave<'a, P: Place<S>, S> {
    place: P,
    lock: &'a Lock<S>,
    node: &'a Node<P::Payload>,
    claim: &'a Claim,
    payload: &'a UnsafeCell<P::Payload>,
    left: Cell<bool>,
}

impl<P: Place<S>, S> Leave<'_, P, S> {
    /// Leaves unserved, unless it is too late for that: says whether it was.
    #[cold]
    fn withdraw(&self) -> bool {
        self.left.set(true);
        let mut wakes = Wakes::new();
        let mut state = self.lock.lock();
        if self.claim.winner().is_some() {
            return true;
        }
        self.place.list(&mut state).unlink(self.node);
        self.place.left(&mut state, &mut wakes);
        false
    }
}

impl<P: Place<S>, S> Drop for Leave<'_, P, S> {
    #[inline]
    fn drop(&mut self) {
        if !self.left.get() {
            self.unwound();
        }
    }
}

impl<P: Place<S>, S> Leave<'_, P, S> {
    #[cold]
    fn unwound(&self) {
        if self.withdraw() {
            let mut wakes = Wakes::new();
            let mut state = self.lock.lock();
            // SAFETY: Q2: the node was published, so the payload is ours alone.
            self.place.pass_on(&mut state, unsafe { &mut *self.payload.get() }, &mut wakes);
        }
    }
}

/// Those who want to be told when an object is ready, and take nothing from it. Each is told once.
#[derive(Default)]
pub(crate) struct Observers {
    list: Vec<(u64, Tell)>,
    last: u64,
}

impl Observers {
    pub(crate) const fn new() -> Observers {
        Observers { list: Vec::new(), last: 0 }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Gives the key to take it back.
    pub(crate) fn add(&mut self, tell: Tell) -> u64 {
        self.last += 1;
        self.list.push((self.last, tell));
        self.last
    }

    /// Takes one back, to be dropped after the lock is given back.
    #[must_use]
    pub(crate) fn remove(&mut self, key: u64) -> Option<Tell> {
        let place = self.list.iter().position(|(other, _)| *other == key)?;
        Some(self.list.remove(place).1)
    }

    /// Has everybody told.
    #[inline]
    pub(crate) fn tell(&mut self, wakes: &mut Wakes) {
        if !self.list.is_empty() {
            self.tell_all(wakes);
        }
    }

    #[cold]
    fn tell_all(&mut self, wakes: &mut Wakes) {
        for (_, tell) in self.list.drain(..) {
            wakes.tell(tell);
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").field("len", &self.list.len()).finish_non_exhaustive()
    }
}
