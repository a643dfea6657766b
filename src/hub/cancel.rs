//! Cancelling: what may end a task early, and where.
//!
//! A kill, and the deadline of a [`Frame`] around the running code, are *pending* until they can be *raised*: the task
//! is about to park, or parked, and neither unwinding nor shielded. Raising is an unwind with a private payload, which the
//! panic hook does not see. It is sticky: code that catches it and goes on meets it again at its next parking point, so
//! that a `catch_unwind` of the user's cannot make a task immortal.
//!
//! Frames form a chain on the stack, innermost first. What is raised must be visible from inside out:
//!
//! ```text
//! kill   block A (fired)   shield   block B (fired)   here     B can be raised; A and the kill are held back
//!   <-- outer                               inner -->
//! ```
//!
//! - **W4** A kill wins over any block; among blocks the one with the earliest deadline, and of equals the outer.
//! - **P1** A park while unwinding is allowed and never cancelled: a second unwind in a destructor would abort.
//!   `thread::panicking()` counts per thread, not per task, so the hub counts who is parked while unwinding.
//!
//! A generator carries its own part of the chain along. Its bottom is a [`Frame::boundary`], which is hung onto the chain of
//! whoever resumes it, and taken off when it yields: a deadline inside a generator does not leak to its consumer. Whether it
//! unwinds is its own affair too: resumed by a destructor of a consumer that unwinds, it starts afresh, and cancelling
//! from outside, which the consumer could not survive, is held back at the boundary as by a shield.

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Hub;
use super::header::{Header, TaskRef};
use crate::thread_block;

/// A block of code that can be cancelled as a whole, or that holds cancelling back. Lives on the stack of its block.
#[derive(Debug)]
pub(crate) struct Frame {
    outer: Cell<*const Frame>,
    kind: Kind,
    _pinned: PhantomPinned,
}

#[derive(Debug)]
enum Kind {
    /// Ends when fired: a timeout, a scope with a failed task.
    Block {
        number: u64,
        fired: Cell<bool>,
        /// What is inside was told so by an error, where it could not be unwound.
        told: Cell<bool>,
        deadline: Option<Instant>,
        task: *const Header,
    },
    Shield,
    /// The bottom of a generator's part of the chain; the task that is running it, if any.
    Boundary {
        owner: Cell<Option<TaskRef>>,
        innermost: Cell<*const Frame>,
        /// While it runs: its resumer unwinds, and nothing may be raised from beyond here (P1).
        sealed: Cell<bool>,
        /// While it is suspended: it is in the midst of an unwind of its own.
        unwinding: Cell<bool>,
    },
}

/// The private payload of an unwind that cancels.
pub(crate) enum Cancelled {
    Kill,
    /// Up to the block with this number.
    Block(u64),
}

impl Frame {
    /// A block of the current task that ends when fired.
    pub(crate) fn block(hub: &Hub, deadline: Option<Instant>) -> Frame {
        // Its name among all blocks of the process, ever: a payload that is caught and kept must not fit a later block.
        static BLOCKS: AtomicU64 = AtomicU64::new(0);
        let number = BLOCKS.fetch_add(1, Ordering::Relaxed);
        let (fired, told) = (Cell::new(false), Cell::new(false));
        Frame::new(Kind::Block { number, fired, told, deadline, task: hub.current().as_ptr() })
    }

    pub(crate) fn shield() -> Frame {
        Frame::new(Kind::Shield)
    }

    /// The bottom of a generator's part of the chain.
    pub(crate) fn boundary() -> Frame {
        Frame::new(Kind::Boundary {
            owner: Cell::new(None),
            innermost: Cell::new(ptr::null()),
            sealed: Cell::new(false),
            unwinding: Cell::new(false),
        })
    }

    fn new(kind: Kind) -> Frame {
        Frame { outer: Cell::new(ptr::null()), kind, _pinned: PhantomPinned }
    }

    /// What an unwind up to this block carries.
    fn payload(&self) -> Cancelled {
        let Kind::Block { number, .. } = self.kind else { unreachable!("only blocks are unwound to") };
        Cancelled::Block(number)
    }

    /// Whether an unwind's payload is meant for this block.
    pub(crate) fn is_target_of(&self, payload: &(dyn Any + Send)) -> bool {
        let Kind::Block { number, .. } = self.kind else { return false };
        matches!(payload.downcast_ref(), Some(Cancelled::Block(other)) if *other == number)
    }

    /// Whether what was inside has been told, by an error, that this block has ended.
    pub(crate) fn was_told(&self) -> bool {
        matches!(&self.kind, Kind::Block { told, .. } if told.get())
    }

    /// Runs `f` inside this frame, as the innermost one of the current task.
    pub(crate) fn enclose<R>(self: Pin<&Frame>, hub: &Hub, f: impl FnOnce() -> R) -> R {
        let header = hub.current();
        self.outer.set(header.frames.replace(self.get_ref()));
        let _leave = Leave(self);
        f()
    }

    /// The task that is inside this frame now; `None` if the frame is part of a suspended generator.
    pub(super) fn owner(&self) -> Option<TaskRef> {
        // Only looked at in the end: a block inside a generator may outlive the task that made it, and a boundary further out,
        // which knows who runs the block now, overrules it.
        let mut maker: *const Header = ptr::null();
        let mut runner = None;
        let mut at: *const Frame = self;
        // SAFETY: a frame in a chain is alive: `Leave` takes it off before its block's stack frame dies, and a suspended
        // generator's part is only walked up to its boundary.
        while let Some(frame) = unsafe { at.as_ref() } {
            match &frame.kind {
                Kind::Boundary { owner: running, .. } => runner = Some(running.get()?),
                Kind::Block { task, .. } if maker.is_null() => maker = *task,
                Kind::Block { .. } | Kind::Shield => {}
            }
            at = frame.outer.get();
        }
        // SAFETY: in no generator, the task that made the block cannot end before its block does.
        runner.or_else(|| unsafe { maker.as_ref() }.map(TaskRef::from_header))
    }
}

/// Takes a frame off its chain.
struct Leave<'a>(Pin<&'a Frame>);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        // The task may be another one by now, if the frame is inside a generator: the hub knows who runs.
        if let Some(hub) = Hub::get() {
            let header = hub.current();
            debug_assert!(ptr::eq(header.frames.get(), self.0.get_ref()), "frames nest");
            header.frames.set(self.0.outer.get());
        }
    }
}

/// A generator's part of the chain, hung onto the resumer's while it runs.
#[inline]
pub(crate) fn enter_boundary(hub: &Hub, boundary: Pin<&Frame>) {
    let Kind::Boundary { owner, innermost, sealed, unwinding } = &boundary.kind else {
        unreachable!("a boundary is given")
    };
    let header = hub.current();
    owner.set(Some(header));
    boundary.outer.set(header.frames.get());
    let inner = innermost.replace(ptr::null());
    if inner.is_null() {
        header.frames.set(boundary.get_ref());
    } else {
        header.frames.set(inner);
        // A block in there may have fired while nobody ran it.
        header.attention.set(true);
    }

    if std::thread::panicking() {
        sealed.set(hub.is_unwinding(&header));
        hub.count_unwinding(sealed.get(), unwinding.get());
        header.unwinding.set(unwinding.get());
    }
}

/// Takes the generator's part off again. `hub.current()` is the task that runs it now.
#[inline]
pub(crate) fn leave_boundary(hub: &Hub, boundary: Pin<&Frame>) {
    let Kind::Boundary { owner, innermost, sealed, unwinding } = &boundary.kind else {
        unreachable!("a boundary is given")
    };
    let header = hub.current();
    let inner = header.frames.replace(boundary.outer.replace(ptr::null()));
    innermost.set(if ptr::eq(inner, boundary.get_ref()) { ptr::null() } else { inner });
    owner.set(None);

    let suspended = std::thread::panicking() && hub.is_unwinding(&header);
    unwinding.set(suspended);
    let outside = sealed.replace(false);
    hub.count_unwinding(suspended, outside);
    header.unwinding.set(outside);
}

impl Hub {
    /// Asks for the task's end, to be raised as soon as it can be.
    pub(crate) fn kill(&self, header: &Header) {
        if header.has_ended() || header.is_root() {
            return;
        }
        header.killed.set(true);
        self.nudge(header);
    }

    /// Fires a block: what is inside it is to be unwound.
    pub(crate) fn fire_block(&self, frame: &Frame) {
        let Kind::Block { fired, .. } = &frame.kind else { unreachable!("only blocks are fired") };
        fired.set(true);
        if let Some(task) = frame.owner() {
            self.nudge(&task);
        }
    }

    /// Something became pending for this task: if it is parked and it can be raised there, the task is woken.
    fn nudge(&self, header: &Header) {
        header.attention.set(true);
        self.review_unwinding();
        if !header.wait.is_parked() || !header.cancellable.get() {
            return;
        }
        if pending(header).is_some() {
            let task = TaskRef::from_header(header);
            self.fire(task.waiter(header.wait.generation(), crate::waiter::Clause::CANCEL));
        }
    }

    /// Raises what is pending for the current task, if it can be raised now.
    #[cold]
    pub(crate) fn attend(&self, header: &Header) {
        if header.ending.get() || self.is_unwinding(header) {
            return;
        }
        match pending(header) {
            Some(cancelled) => self.raise(header, cancelled),
            // A kill behind a shield stays; otherwise there is nothing left to look for.
            None if !header.killed.get() && !any_fired(header) => header.attention.set(false),
            None => {}
        }
    }

    /// Raises what woke the current task. That it could be was seen when the task parked, and it has not run since: to
    /// ask again whether it unwinds would take another's unwind for its own, where that one began unseen, by a
    /// `resume_unwind` of the user's, while a third was parked in its.
    #[cold]
    pub(crate) fn raise_what_woke(&self, header: &Header) -> ! {
        let cancelled = pending(header).expect("what woke a task to be cancelled is still pending");
        self.raise(header, cancelled)
    }

    /// Starts the unwind.
    fn raise(&self, header: &Header, cancelled: Cancelled) -> ! {
        header.wait.settle();
        // Most kills say so where they are called; that of another thread cannot know whether the task has begun.
        if cfg!(panic = "abort") {
            panic!("greenroom: a task ends early only by unwinding, and this program is built with panic = \"abort\"");
        }
        header.unwinding.set(true);
        std::panic::resume_unwind(Box::new(cancelled))
    }

    /// Ends the current task from within, as a kill does.
    #[cfg(feature = "monkey")]
    pub(crate) fn leave(&self) -> ! {
        self.raise(&self.current(), Cancelled::Kill)
    }

    /// Notes that the current task was told by an error what it could not be unwound with.
    #[cfg(feature = "monkey")]
    pub(crate) fn note_told(&self, cancelled: &Cancelled) {
        let Cancelled::Block(wanted) = cancelled else { return };
        let mut at = self.current().frames.get();
        // SAFETY: as in `Frame::owner`.
        while let Some(frame) = unsafe { at.as_ref() } {
            if let Kind::Block { number, told, .. } = &frame.kind
                && number == wanted
            {
                told.set(true);
            }
            at = frame.outer.get();
        }
    }

    /// Goes on with an unwind that was caught on its way.
    pub(crate) fn pass_on(&self, payload: Box<dyn Any + Send>) -> ! {
        self.current().unwinding.set(true);
        std::panic::resume_unwind(payload)
    }

    /// One that unwinds is left as it is, and one is gone on with.
    fn count_unwinding(&self, left: bool, entered: bool) {
        let parked = self.unwinds(&self.current());
        parked.set(parked.get() + usize::from(left) - usize::from(entered));
    }

    /// How many tasks, or parts of one, are parked in the midst of an unwind, of those whose panics count as this task's do.
    #[inline]
    pub(super) fn unwinds(&self, header: &Header) -> &Cell<usize> {
        header.thread_block.get().map_or(&self.parked_unwinding, |block| block.unwinds())
    }

    /// Whether the current task is unwinding (P1). `thread::panicking` says so of the thread: when some other task is parked
    /// in the midst of its unwind, what the panic hook and `raise` noted decides.
    #[inline]
    pub(crate) fn is_unwinding(&self, header: &Header) -> bool {
        if !std::thread::panicking() {
            header.unwinding.set(false);
            if header.thread_block.get().is_some() {
                self.unwinds(header).set(0);
            }
            self.review_unwinding();
            return false;
        }
        if self.unwinds(header).get() == 0 {
            header.unwinding.set(true);
        }
        header.unwinding.get()
    }
}

impl Hub {
    /// Corrects what was noted of tasks that caught a panic and parked while another one was parked in its unwind: until
    /// that was over nothing told their case from its, and nothing could be raised in them. Called where an unwind may
    /// be over, and where something becomes pending. Of tasks with thread-locals of their own no such thing is noted.
    #[inline]
    pub(super) fn review_unwinding(&self) {
        if self.parked_unwinding.get() > 0 && !thread_block::on_root(std::thread::panicking) {
            self.nobody_unwinds();
        }
    }

    #[cold]
    fn nobody_unwinds(&self) {
        self.parked_unwinding.set(0);
        let tasks = self.tasks();
        let root: &Header = &self.root;
        for header in tasks.iter().map(|task| task.header()).chain([root]) {
            if header.thread_block.get().is_none()
                && header.unwinding.replace(false)
                && header.wait.is_parked()
                && !header.ending.get()
            {
                header.cancellable.set(true);
                self.nudge(header);
            }
        }
    }
}

/// What is to be raised in this task, seen from its innermost frame (W4).
fn pending(header: &Header) -> Option<Cancelled> {
    let mut found: Option<(&Frame, Option<Instant>)> = None;
    let mut at = header.frames.get();
    // SAFETY: as in `Frame::owner`.
    while let Some(frame) = unsafe { at.as_ref() } {
        match &frame.kind {
            Kind::Shield => return found.map(|(frame, _)| frame.payload()),
            Kind::Boundary { sealed, .. } if sealed.get() => return found.map(|(frame, _)| frame.payload()),
            Kind::Block { fired, deadline, .. } if fired.get() => {
                if found.is_none_or(|(_, earliest)| *deadline <= earliest) {
                    found = Some((frame, *deadline));
                }
            }
            Kind::Block { .. } | Kind::Boundary { .. } => {}
        }
        at = frame.outer.get();
    }
    if header.killed.get() {
        return Some(Cancelled::Kill);
    }
    found.map(|(frame, _)| frame.payload())
}

fn any_fired(header: &Header) -> bool {
    let mut at = header.frames.get();
    // SAFETY: as in `Frame::owner`.
    while let Some(frame) = unsafe { at.as_ref() } {
        if matches!(&frame.kind, Kind::Block { fired, .. } if fired.get()) {
            return true;
        }
        at = frame.outer.get();
    }
    false
}
