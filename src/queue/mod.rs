//! Queues between tasks, as python's and gevent's: bounded or not, in order, last first, smallest first, or from hand to hand.
//!
//! | | an item comes out |
//! | --- | --- |
//! | [`Queue`] | after all that were put before it |
//! | [`LifoQueue`] | before all that were put before it |
//! | [`PriorityQueue`] | before all that are larger |
//! | [`Channel`] | when it is put: the two who exchange it wait for each other |
//!
//! They work between tasks of one hub, tasks of several hubs and native threads; a queue is shared by reference, in an
//! [`Rc`](std::rc::Rc), an [`Arc`](std::sync::Arc), or as a `static`. Items need not be `Send` where all is on one thread.
//!
//! It is first come, first served on both sides: an item is put into the hands of who has been waiting for the longest time, and
//! nobody who comes later can take it. Who is cancelled while he waits leaves no trace: an item that he was to put was never put, and one
//! that he had just been given goes to the next, or back to where it was.
//!
//! # Shutting down
//!
//! After [`shutdown`](Queue::shutdown) no item is put any more, and those that are there can still be got; an iteration then ends.
//! [`shutdown_now`](Queue::shutdown_now) takes those out too.
//!
//! # Counting what is done
//!
//! Each item that is put counts as unfinished until somebody calls [`task_done`](Queue::task_done) for it; [`join`](Queue::join) waits
//! until there are none. Who never calls `join` need not call `task_done`.
//!
//! # Examples
//!
//! ```
//! use greenroom::queue::Queue;
//! use std::rc::Rc;
//!
//! let jobs = Rc::new(Queue::bounded(2));
//! let workers: Vec<_> = (0..3)
//!     .map(|_| {
//!         let jobs = jobs.clone();
//!         greenroom::spawn(move || jobs.iter().sum::<u32>())
//!     })
//!     .collect();
//!
//! for job in 1..=10 {
//!     jobs.put(job)?; // waits while there are two
//! }
//! jobs.shutdown();
//! let sums = greenroom::joinall(workers).into_iter().map(|sum| sum.unwrap());
//! assert_eq!(sums.sum::<u32>(), 55);
//! # Ok::<(), greenroom::queue::PutError<u32>>(())
//! ```

#![forbid(unsafe_code)]

#[macro_use]
mod methods;
mod error;
mod iter;
mod order;

use std::fmt;

pub use error::{GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError};
pub use iter::{Iter, TryIter};

use crate::store::{Fifo, Store};
use order::{Heap, Lifo};

/// A queue whose items come out in the order in which they were put: python's and gevent's `Queue`.
///
/// # Examples
///
/// ```
/// use greenroom::queue::Queue;
///
/// static LINES: Queue<String> = Queue::bounded(100);
///
/// let printer = std::thread::spawn(|| LINES.iter().collect::<Vec<_>>());
/// for i in 0..3 {
///     LINES.put(format!("line {i}"))?;
/// }
/// LINES.shutdown();
/// assert_eq!(printer.join().unwrap(), ["line 0", "line 1", "line 2"]);
/// # Ok::<(), greenroom::queue::PutError<String>>(())
/// ```
///
/// Other threads may share it if its items may go there:
///
/// ```compile_fail
/// static ITEMS: greenroom::queue::Queue<std::rc::Rc<u8>> = greenroom::queue::Queue::unbounded();
/// ```
pub struct Queue<T> {
    store: Store<Fifo<T>>,
}

/// A queue whose newest item comes out first: python's and gevent's `LifoQueue`.
///
/// An item that comes back because its getter was cancelled lies below those that were put after it.
///
/// # Examples
///
/// ```
/// use greenroom::queue::LifoQueue;
///
/// let stack = LifoQueue::unbounded();
/// for i in 0..3 {
///     stack.put(i)?;
/// }
/// assert_eq!(stack.try_iter().collect::<Vec<_>>(), [2, 1, 0]);
/// # Ok::<(), greenroom::queue::PutError<i32>>(())
/// ```
pub struct LifoQueue<T> {
    store: Store<Lifo<T>>,
}

/// A queue whose smallest item comes out first, and of equal ones the one that was put first: python's and gevent's
/// `PriorityQueue`.
///
/// For the largest first, wrap the items in [`Reverse`](std::cmp::Reverse).
///
/// # Comparisons
///
/// Items are compared while the queue is locked. A comparison had better be short; it may neither wait nor use the same queue, and
/// panics if it does. A comparison that panics leaves the queue as it was, in whichever call: what was to be put is dropped by the
/// unwind, and what was to be got stays. Items that were put by somebody who had to wait for room, and those that came back from a
/// getter who was cancelled, are compared by who gets or peeks next.
/// [`shutdown_now`](Self::shutdown_now) compares what it has taken out, without the lock; if that panics, these items are dropped.
///
/// # Examples
///
/// ```
/// use greenroom::queue::PriorityQueue;
///
/// let jobs = PriorityQueue::unbounded();
/// for job in [(2, "sleep"), (1, "eat"), (3, "work")] {
///     jobs.put(job)?;
/// }
/// assert_eq!(jobs.get()?, (1, "eat"));
/// assert_eq!(jobs.get()?, (2, "sleep"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PriorityQueue<T: Ord> {
    store: Store<Heap<T>>,
}

/// Hands items from who puts to who gets, each of whom waits for the other: gevent's `Channel`.
///
/// It has no room of its own. A `put` returns when its item was taken, after the getter, if he is a task of the same thread, has had
/// his turn.
///
/// # Examples
///
/// ```
/// use greenroom::queue::Channel;
/// use std::{cell::RefCell, rc::Rc};
///
/// let (channel, log) = (Rc::new(Channel::new()), Rc::new(RefCell::new(Vec::new())));
/// let (inner, inner_log) = (channel.clone(), log.clone());
/// let sender = greenroom::spawn(move || {
///     inner_log.borrow_mut().push("sending");
///     inner.put("hello").unwrap();
///     inner_log.borrow_mut().push("sent");
/// });
/// assert_eq!(channel.get()?, "hello");
/// log.borrow_mut().push("received");
/// sender.join().unwrap();
/// assert_eq!(*log.borrow(), ["sending", "received", "sent"]);
/// # Ok::<(), greenroom::queue::GetError>(())
/// ```
pub struct Channel<T> {
    store: Store<Fifo<T>>,
}

impl<T> Queue<T> {
    /// A queue in which there is always room.
    #[inline]
    #[must_use]
    pub const fn unbounded() -> Queue<T> {
        Queue { store: Store::new(Fifo::new(), usize::MAX) }
    }

    /// A queue of so many items at most. With 0, who puts waits for who gets, as in a [`Channel`].
    #[inline]
    #[must_use]
    pub const fn bounded(capacity: usize) -> Queue<T> {
        Queue { store: Store::new(Fifo::new(), capacity) }
    }
}

impl<T> LifoQueue<T> {
    /// A queue in which there is always room.
    #[inline]
    #[must_use]
    pub const fn unbounded() -> LifoQueue<T> {
        LifoQueue { store: Store::new(Lifo::new(), usize::MAX) }
    }

    /// A queue of so many items at most. With 0, who puts waits for who gets, as in a [`Channel`].
    #[inline]
    #[must_use]
    pub const fn bounded(capacity: usize) -> LifoQueue<T> {
        LifoQueue { store: Store::new(Lifo::new(), capacity) }
    }
}

impl<T: Ord> PriorityQueue<T> {
    /// A queue in which there is always room.
    #[inline]
    #[must_use]
    pub const fn unbounded() -> PriorityQueue<T> {
        PriorityQueue { store: Store::new(Heap::new(), usize::MAX) }
    }

    /// A queue of so many items at most. With 0, who puts waits for who gets, as in a [`Channel`].
    #[inline]
    #[must_use]
    pub const fn bounded(capacity: usize) -> PriorityQueue<T> {
        PriorityQueue { store: Store::new(Heap::new(), capacity) }
    }
}

impl<T> Channel<T> {
    /// A channel with nobody at either end.
    #[inline]
    #[must_use]
    pub const fn new() -> Channel<T> {
        Channel { store: Store::new(Fifo::new(), 0) }
    }
}

queue_methods!(Queue, [], "Queue::unbounded()");
queue_methods!(LifoQueue, [], "LifoQueue::unbounded()");
queue_methods!(PriorityQueue, [Ord], "PriorityQueue::unbounded()");
queue_methods!(Channel, [], "Queue::unbounded()");

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue::unbounded()
    }
}

impl<T> Default for LifoQueue<T> {
    fn default() -> LifoQueue<T> {
        LifoQueue::unbounded()
    }
}

impl<T: Ord> Default for PriorityQueue<T> {
    fn default() -> PriorityQueue<T> {
        PriorityQueue::unbounded()
    }
}

impl<T> Default for Channel<T> {
    fn default() -> Channel<T> {
        Channel::new()
    }
}

/// An unbounded queue of these items, put in order.
impl<T> FromIterator<T> for Queue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Queue<T> {
        let queue = Queue::unbounded();
        items.into_iter().for_each(|item| put_first(queue.try_put(item)));
        queue
    }
}

/// An unbounded queue of these items, put in order.
impl<T> FromIterator<T> for LifoQueue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> LifoQueue<T> {
        let queue = LifoQueue::unbounded();
        items.into_iter().for_each(|item| put_first(queue.try_put(item)));
        queue
    }
}

/// An unbounded queue of these items, put in order.
impl<T: Ord> FromIterator<T> for PriorityQueue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> PriorityQueue<T> {
        let queue = PriorityQueue::unbounded();
        items.into_iter().for_each(|item| put_first(queue.try_put(item)));
        queue
    }
}

fn put_first<T>(put: Result<(), TryPutError<T>>) {
    debug_assert!(put.is_ok(), "a new queue has room and is not shut down");
}

/// What all of them show of themselves.
/// The store inside, for `select!`.
macro_rules! stores {
    ($($queue:ident<$t:ident $(: $bound:ident)?>: $buffer:ty;)*) => {$(
        impl<$t $(: $bound)?> $queue<$t> {
            pub(crate) fn store(&self) -> &Store<$buffer> {
                &self.store
            }
        }
    )*};
}

stores! {
    Queue<T>: Fifo<T>;
    LifoQueue<T>: Lifo<T>;
    PriorityQueue<T: Ord>: Heap<T>;
    Channel<T>: Fifo<T>;
}

fn debug<B: crate::store::Buffer>(name: &str, store: &Store<B>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("len", &store.len())
        .field("capacity", &capacity(store))
        .field("shut_down", &store.is_closed())
        .finish_non_exhaustive()
}

fn capacity<B: crate::store::Buffer>(store: &Store<B>) -> Option<usize> {
    Some(store.capacity()).filter(|capacity| *capacity != usize::MAX)
}
