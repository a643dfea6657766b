//! What the hub knows of a task: its stack, its wait, what may cancel it, and who waits for its end.

use std::alloc::Layout;
use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::fmt;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use super::cancel::Frame;
use crate::coroutine::{Coroutine, Suspender};
use crate::lock::steady;
use crate::thread_block::Block;
use crate::timers::TimerKey;
use crate::waiter::{Clause, Wait, WaitQueue, Waiter};

/// The part of a task that does not depend on its result.
#[repr(C)]
pub(crate) struct Header {
    /// First, so that a [`Waiter`] leads to the task.
    pub(crate) wait: Wait,
    /// Something may have to be raised: a kill or a block's deadline. One test on the way into and out of each switch.
    pub(crate) attention: Cell<bool>,
    pub(crate) state: Cell<State>,
    pub(crate) killed: Cell<bool>,
    /// The body is over and the task only cleans up: nothing is raised any more.
    pub(crate) ending: Cell<bool>,
    /// While parked: a cancellation may wake it.
    pub(crate) cancellable: Cell<bool>,
    /// The task is unwinding, as far as is known; only asked when `thread::panicking` cannot tell.
    pub(crate) unwinding: Cell<bool>,
    /// An unpark came while the task was not parked for one (W3).
    pub(crate) permit: Cell<bool>,
    /// A `JoinHandle` exists, which owns the result.
    pub(crate) attached: Cell<bool>,
    /// The task's key among the hub's tasks; [`ROOT_SLOT`] for the root.
    pub(crate) slot: Cell<u32>,
    pub(crate) id: u64,
    pub(crate) suspender: Cell<*const Suspender>,
    /// Where its stack was left, to fetch it into the cache ahead of the next turn.
    pub(crate) stack_top: Cell<*const u8>,
    pub(crate) coroutine: UnsafeCell<Option<Coroutine>>,
    /// Thread-locals of its own, if it has some: from the spawn to the end.
    pub(crate) thread_block: Cell<Option<Block>>,
    /// Innermost block that can cancel or shield what runs inside it.
    pub(crate) frames: Cell<*const Frame>,
    pub(crate) reason: Cell<Reason>,
    pub(crate) since: Cell<Instant>,
    /// The timer that starts a task spawned for later.
    pub(crate) starter: Cell<Option<TimerKey>>,
    pub(crate) joiners: WaitQueue,
    pub(crate) spawned_at: &'static Location<'static>,
    /// How many hold the block (B1).
    pub(super) count: Cell<u32>,
    /// How the block was allocated.
    pub(super) block: Cell<Layout>,
    /// What few tasks have, apart, so that a parked one stays small.
    extra: RefCell<Option<Box<Extra>>>,
}

/// The rarely used part of a task.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) name: Option<Box<str>>,
    /// To be run at the task's end, in order, by key.
    pub(crate) watchers: Vec<(u64, Box<dyn FnOnce()>)>,
    pub(crate) last_watcher: u64,
    /// The handle was polled: to be called at the task's end.
    pub(crate) waker: Option<Waker>,
    /// Task-locals by key, in the order in which they were first used.
    pub(crate) locals: Vec<(usize, Rc<dyn Any>)>,
    /// A thread, for those who made it: a patched `pthread_create` did.
    #[cfg(feature = "monkey")]
    pub(crate) is_thread: bool,
    /// The body has not returned.
    pub(crate) failed: bool,
    /// What the floors above keep for each task (the greenlets' current one).
    pub(crate) family: Option<Rc<dyn Any>>,
}

/// Where a task stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    New,
    Started,
    Ended,
}

/// What a parked task waits for, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Unpark,
    Sleep,
    Idle,
    /// The end of the task with this number.
    Join(u64),
    Read(RawFd),
    Write(RawFd),
    /// Anything that a word describes.
    Other(&'static &'static str),
}

/// The slot of a thread's root, which is not among the hub's tasks.
pub(crate) const ROOT_SLOT: u32 = u32::MAX;

impl Header {
    #[inline(always)]
    pub(crate) fn new(id: u64, name: Option<Box<str>>, spawned_at: &'static Location<'static>, now: Instant) -> Header {
        let extra = name.map(|name| Box::new(Extra { name: Some(name), ..Extra::default() }));
        Header {
            wait: Wait::new(),
            attention: Cell::new(false),
            state: Cell::new(State::New),
            killed: Cell::new(false),
            ending: Cell::new(false),
            cancellable: Cell::new(false),
            unwinding: Cell::new(false),
            permit: Cell::new(false),
            attached: Cell::new(false),
            slot: Cell::new(ROOT_SLOT),
            id,
            suspender: Cell::new(ptr::null()),
            stack_top: Cell::new(ptr::null()),
            coroutine: UnsafeCell::new(None),
            thread_block: Cell::new(None),
            frames: Cell::new(ptr::null()),
            reason: Cell::new(Reason::Unpark),
            since: Cell::new(now),
            starter: Cell::new(None),
            joiners: WaitQueue::new(),
            spawned_at,
            count: Cell::new(1),
            block: Cell::new(Layout::new::<Header>()),
            extra: RefCell::new(extra),
        }
    }

    #[inline]
    pub(crate) fn is_root(&self) -> bool {
        self.slot.get() == ROOT_SLOT
    }

    /// Takes the saved unpark, if there is one.
    #[inline]
    pub(crate) fn take_permit(&self) -> bool {
        self.permit.replace(false)
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.state.get() == State::Ended
    }

    /// Whether there is anything in the rarely used part.
    #[inline]
    pub(crate) fn has_extra(&self) -> bool {
        self.extra.borrow().is_some()
    }

    /// Runs `f` on the rarely used part. `f` must not switch or run code of the user's: the part is borrowed.
    pub(crate) fn with_extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> R {
        let _steady = steady();
        f(self.extra.borrow_mut().get_or_insert_default())
    }

    /// As [`with_extra`](Self::with_extra), for a part that may not be there, which means it is empty.
    pub(crate) fn peek_extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> Option<R> {
        let _steady = steady();
        self.extra.borrow_mut().as_mut().map(|extra| f(extra))
    }

    /// Writes the task's name, or its number if it has none.
    pub(crate) fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        // A signal handler may ask while the part is borrowed.
        let extra = self.extra.try_borrow();
        let name = extra.as_ref().ok().and_then(|extra| extra.as_ref()).and_then(|extra| extra.name.as_deref());
        match name {
            Some(name) => write!(out, "'{name}'"),
            None if self.is_root() => out.write_str("'root'"),
            None => write!(out, "#{}", self.id),
        }
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Unpark => f.write_str("an unpark"),
            Reason::Sleep => f.write_str("the end of its sleep"),
            Reason::Idle => f.write_str("an idle hub"),
            Reason::Join(id) => write!(f, "the end of task #{id}"),
            Reason::Read(fd) => write!(f, "descriptor {fd} to become readable"),
            Reason::Write(fd) => write!(f, "descriptor {fd} to become writable"),
            Reason::Other(what) => f.write_str(what),
        }
    }
}

/// A task in the hands of the hub: a thin pointer, copied freely.
///
/// It is kept only where the task is known to live: in the run queue and in timers (the hub holds every task until its end, and
/// an ended task is in neither), as the current task, and made from a [`Waiter`] (W2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskRef(NonNull<Header>);

impl TaskRef {
    #[inline]
    pub(crate) fn from_header(header: &Header) -> TaskRef {
        TaskRef(NonNull::from(header))
    }

    /// The task whose wait this is.
    #[inline]
    pub(crate) fn from_wait(wait: NonNull<Wait>) -> TaskRef {
        TaskRef(wait.cast())
    }

    #[inline]
    pub(crate) fn as_ptr(self) -> *const Header {
        self.0.as_ptr()
    }

    /// A clause of the task's wait of this generation.
    #[inline]
    pub(crate) fn waiter(self, generation: u32, clause: Clause) -> Waiter {
        Waiter { wait: self.0.cast(), generation, clause }
    }
}

impl Deref for TaskRef {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        // SAFETY: H2 and the type's own rule: it is kept only where the task lives.
        unsafe { self.0.as_ref() }
    }
}
