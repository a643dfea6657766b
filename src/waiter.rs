//! The one wait protocol: what a task waits for, and who wakes it first.
//!
//! Every parked task waits in one [`Wait`] of its own. A wait has *clauses*: a place in a queue, a deadline, a
//! cancellation. Whoever can satisfy a clause holds a [`Waiter`] and *fires* it. Sockets, joins, locks, timeouts and
//! kills are all this one thing.
//!
//! ```text
//!            arm()                 fire(clause)                   settle()
//! Running ----------> Armed ----------------------> Fired(clause) --------> Running
//!                       |                                                     ^
//!                       +------------------- settle(): gave up ---------------+
//! ```
//!
//! - **W1** The first clause to fire wins, once: `fire` succeeds only in `Armed`, and only for the generation that it
//!   was made for. Generations count up with each `arm`, so what is left of an older wait is ignored.
//! - **W2** A [`Node`] is unlinked before its frame dies, on return and on unwind: [`WaitQueue::while_linked`] is the only
//!   way in, and its guard the way out.
//! - **W3** A wait that fired between `arm` and the switch is seen before the switch: nothing is lost.
//! - **W4** Ties: the hub serves descriptors before deadlines, so data wins over a deadline of the same turn; a kill
//!   wins over a deadline, because a wait that ends by its deadline looks for a pending kill before it returns.
//!
//! Plain data: no system call, no thread-local, no switch. Everything here belongs to one thread.

use std::cell::Cell;
use std::marker::PhantomPinned;
use std::pin::{Pin, pin};
use std::ptr::{self, NonNull};

/// What ended a wait. Numbers below [`Clause::CANCEL`] mean what the waiting call gave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clause(pub(crate) u32);

impl Clause {
    /// The wait's deadline passed.
    pub(crate) const DEADLINE: Clause = Clause(u32::MAX - 2);
    /// A kill or the deadline of a surrounding block.
    pub(crate) const CANCEL: Clause = Clause(u32::MAX - 3);

    const RUNNING: u32 = u32::MAX;
    const ARMED: u32 = u32::MAX - 1;
}

/// The state of a task's wait; each task has one, for it waits in one place at a time.
#[derive(Debug)]
pub(crate) struct Wait {
    generation: Cell<u32>,
    /// `RUNNING`, `ARMED`, or the number of the clause that fired.
    phase: Cell<u32>,
    /// The task is switched out in this wait: who fires it must also make it runnable.
    parked: Cell<bool>,
}

impl Wait {
    pub(crate) const fn new() -> Wait {
        Wait { generation: Cell::new(0), phase: Cell::new(Clause::RUNNING), parked: Cell::new(false) }
    }

    /// Begins a wait and gives its generation.
    #[inline]
    pub(crate) fn arm(&self) -> u32 {
        debug_assert!(!self.parked.get(), "H2: a parked task cannot begin a wait");
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        self.phase.set(Clause::ARMED);
        generation
    }

    /// Ends the wait and gives the clause that fired, if one did.
    #[inline]
    pub(crate) fn settle(&self) -> Option<Clause> {
        self.parked.set(false);
        match self.phase.replace(Clause::RUNNING) {
            Clause::RUNNING | Clause::ARMED => None,
            clause => Some(Clause(clause)),
        }
    }

    /// Marks the task as switched out; false if a clause has fired meanwhile, and the task must not switch (W3).
    #[inline]
    pub(crate) fn park(&self) -> bool {
        // Not `let armed = ...; set(armed); armed`: rustc 1.95 stores a wrong `armed` there (rust-lang/rust#158206).
        if self.phase.get() != Clause::ARMED {
            return false;
        }
        self.parked.set(true);
        true
    }

    /// Whether no wait has begun that has not ended.
    #[cfg(feature = "monkey")]
    pub(crate) fn is_over(&self) -> bool {
        self.phase.get() == Clause::RUNNING
    }

    #[inline]
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.get()
    }

    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        self.generation.get()
    }

    /// Fires a clause of the wait of that generation (W1).
    #[inline]
    pub(crate) fn fire(&self, generation: u32, clause: Clause) -> Fired {
        if self.phase.get() != Clause::ARMED || self.generation.get() != generation {
            return Fired::Lost;
        }
        self.phase.set(clause.0);
        if self.parked.replace(false) { Fired::Wake } else { Fired::Seen }
    }
}

/// What became of an attempt to fire a clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fired {
    /// Another clause won before, or the wait is over.
    Lost,
    /// Won; the owner is running and will see it before it parks.
    Seen,
    /// Won; the owner is parked and must be made runnable, once, by the caller.
    Wake,
}

/// One clause of one wait, in the hands of whoever can fire it.
///
/// Copies may outlive the wait (a generation tells), but never the task: they stand in queues that are left before the
/// task ends (W2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    /// The wait, which is the first field of its task: the hub gets from here to the task.
    pub(crate) wait: NonNull<Wait>,
    pub(crate) generation: u32,
    pub(crate) clause: Clause,
}

/// Waiters in the order in which they came. Nodes live on the waiting frames; nothing is allocated.
#[derive(Debug)]
pub(crate) struct WaitQueue {
    head: Cell<*const Node>,
    tail: Cell<*const Node>,
}

/// A waiter's place in a queue.
#[derive(Debug)]
struct Node {
    waiter: Waiter,
    prev: Cell<*const Node>,
    next: Cell<*const Node>,
    _pinned: PhantomPinned,
}

/// Which end of a queue to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Behind all who wait already.
    Back,
    /// Ahead of them: for one who was woken, found nothing, and keeps its turn.
    Front,
}

impl WaitQueue {
    pub(crate) const fn new() -> WaitQueue {
        WaitQueue { head: Cell::new(ptr::null()), tail: Cell::new(ptr::null()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    /// Runs `f` with `waiter` in the queue; it has left the queue when this returns or unwinds (W2).
    #[inline]
    pub(crate) fn while_linked<R>(&self, waiter: Waiter, end: End, f: impl FnOnce() -> R) -> R {
        let node =
            pin!(Node { waiter, prev: Cell::new(ptr::null()), next: Cell::new(ptr::null()), _pinned: PhantomPinned });
        let node = node.as_ref();
        self.link(node, end);
        let _linked = Linked { queue: self, node };
        f()
    }

    /// Offers the waiters, first come first, to `fire` until it says stop. They stay linked: each leaves by itself.
    pub(crate) fn offer(&self, mut fire: impl FnMut(Waiter) -> bool) {
        let mut at = self.head.get();
        // SAFETY: W2: a linked node's frame is alive. `fire` switches nothing and unlinks nothing, so `next` stays true.
        while let Some(node) = unsafe { at.as_ref() } {
            at = node.next.get();
            if fire(node.waiter) {
                return;
            }
        }
    }

    /// Lets go of all waiters: their frames stay where they are and never run again.
    pub(crate) fn abandon(&self) {
        self.head.set(ptr::null());
        self.tail.set(ptr::null());
    }

    #[inline]
    fn link(&self, node: Pin<&Node>, end: End) {
        let this: *const Node = node.get_ref();
        let (ahead, behind) = match end {
            End::Back => (self.tail.get(), ptr::null()),
            End::Front => (ptr::null(), self.head.get()),
        };
        node.prev.set(ahead);
        node.next.set(behind);
        self.set_next(ahead, this);
        self.set_prev(behind, this);
    }

    #[inline]
    fn unlink(&self, node: Pin<&Node>) {
        self.set_next(node.prev.get(), node.next.get());
        self.set_prev(node.next.get(), node.prev.get());
    }

    #[inline]
    fn set_next(&self, node: *const Node, next: *const Node) {
        // SAFETY: W2: a non-null neighbour is linked, so its frame is alive.
        match unsafe { node.as_ref() } {
            Some(node) => node.next.set(next),
            None => self.head.set(next),
        }
    }

    #[inline]
    fn set_prev(&self, node: *const Node, prev: *const Node) {
        // SAFETY: W2: a non-null neighbour is linked, so its frame is alive.
        match unsafe { node.as_ref() } {
            Some(node) => node.prev.set(prev),
            None => self.tail.set(prev),
        }
    }
}

impl Drop for WaitQueue {
    fn drop(&mut self) {
        debug_assert!(self.is_empty(), "W2: a queue is dropped with waiters in it");
    }
}

/// Unlinks its node when dropped.
struct Linked<'a> {
    queue: &'a WaitQueue,
    node: Pin<&'a Node>,
}

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        self.queue.unlink(self.node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(wait: &Wait) -> Waiter {
        Waiter { wait: NonNull::from(wait), generation: wait.generation(), clause: Clause(0) }
    }

    #[test]
    fn the_first_clause_to_fire_wins_once() {
        let wait = Wait::new();
        let generation = wait.arm();
        assert_eq!(wait.fire(generation, Clause(4)), Fired::Seen);
        assert_eq!(wait.fire(generation, Clause::DEADLINE), Fired::Lost);
        assert!(!wait.park(), "W3: fired before the switch");
        assert_eq!(wait.settle(), Some(Clause(4)));
        assert_eq!(wait.fire(generation, Clause(4)), Fired::Lost);
    }

    #[test]
    fn a_stale_generation_is_ignored() {
        let wait = Wait::new();
        let old = wait.arm();
        assert_eq!(wait.settle(), None);
        let new = wait.arm();
        assert!(wait.park());
        assert_eq!(wait.fire(old, Clause(0)), Fired::Lost);
        assert_eq!(wait.fire(new, Clause(0)), Fired::Wake);
        assert_eq!(wait.fire(new, Clause(0)), Fired::Lost, "woken once");
    }

    #[test]
    fn waiters_stand_in_order_and_leave_on_unwind() {
        let queue = WaitQueue::new();
        let waits: Vec<Wait> = (0..4).map(|_| Wait::new()).collect();
        let order = || {
            let mut seen = vec![];
            queue.offer(|w| {
                seen.push(waits.iter().position(|x| ptr::eq(x, w.wait.as_ptr())).unwrap());
                false
            });
            seen
        };
        queue.while_linked(waiter(&waits[0]), End::Back, || {
            queue.while_linked(waiter(&waits[1]), End::Back, || {
                let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    queue.while_linked(waiter(&waits[2]), End::Front, || {
                        assert_eq!(order(), [2, 0, 1]);
                        std::panic::resume_unwind(Box::new(()));
                    })
                }));
                assert!(unwound.is_err());
                assert_eq!(order(), [0, 1]);
            });
            assert_eq!(order(), [0]);
        });
        assert!(queue.is_empty());
    }
}
