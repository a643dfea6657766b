//! A task's life on its own stack, and a hub's life in its thread.
//!
//! A task ends in steps, each with the task still able to park:
//!
//! 1. The body has returned, panicked or been unwound; nothing can cancel the task any more.
//! 2. Its task-locals are dropped, last used first.
//! 3. The result goes to the handle, or is dropped if there is none. Thread-locals, if it has some of its own, are destroyed.
//! 4. The task counts as ended: joiners wake, watchers run.
//! 5. Control returns to the hub for the last time, which takes stack and books back.
//!
//! A hub ends with its thread, which kills and joins every task that is left: before the thread-locals go that were used
//! before the hub was made, after those that were first used later (T3). On the main thread nothing is
//! torn down: the process is going away, as with native threads. Afterwards the thread has no hub, and never gets another.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use super::cancel::Cancelled;
use super::cell::TaskCell;
use super::header::{Header, State};
use super::{Hub, Reason, fork, hook};
use crate::coroutine::Suspender;
use crate::error::JoinError;
use crate::lock::steady;
use crate::sys;
use crate::waiter::{Clause, End};

/// What a task's coroutine runs.
pub(super) fn live<T>(task: &TaskCell<T>, suspender: &Suspender, body: impl FnOnce() -> T) {
    let header = task.header();
    enter_block(header);
    header.suspender.set(suspender);
    header.state.set(State::Started);
    let hub = Hub::get().expect("a task runs on its hub's thread");
    // One that was spawned for later has waited for its start; a kill may have come before its time.
    header.wait.settle();
    if let Some(timer) = header.starter.take() {
        hub.cancel_timer(timer);
    }

    let result = if header.killed.get() {
        header.ending.set(true);
        quietly(|| drop(body));
        Err(JoinError::Killed)
    } else {
        catch_unwind(AssertUnwindSafe(body)).map_err(outcome)
    };

    header.ending.set(true);
    header.unwinding.set(false);
    hub.review_unwinding();
    if header.has_extra() {
        header.with_extra(|extra| extra.failed = result.is_err());
        drop_locals(header);
    }
    if header.attached.get() {
        task.put(result);
    } else {
        quietly(|| drop(result));
    }
    end_thread_locals(header);

    // From here on nobody waits for this stack, and the hub may go: nothing is to be switched away on it.
    let _steady = steady();
    header.state.set(State::Ended);
    header.joiners.offer(|waiter| {
        hub.fire(waiter);
        false
    });
    if header.has_extra() {
        run_watchers(header);
        // What those have made anew.
        hub.hold(|| end_thread_locals(header));
    }
}

/// Before anything else runs on the task's stack: where its thread-locals are its own, they must lead to the hub.
#[inline]
fn enter_block(header: &Header) {
    if let Some(block) = header.thread_block.get() {
        // SAFETY: the hub has resumed the task on it, and nothing has run there yet.
        let hub = unsafe { block.enter() };
        HUB.set(hub.cast());
        block.note_hot(HUB.with(|place| ptr::from_ref(place).cast()));
    }
}

/// Destroys the task's own thread-locals.
#[inline]
fn end_thread_locals(header: &Header) {
    if let Some(block) = header.thread_block.get() {
        // SAFETY: the task runs, and its body is over.
        unsafe { block.end_values() };
    }
}

#[cold]
fn run_watchers(header: &Header) {
    let watchers = header.peek_extra(|extra| std::mem::take(&mut extra.watchers));
    for (_, watcher) in watchers.into_iter().flatten() {
        quietly(watcher);
    }
    if let Some(waker) = header.peek_extra(|extra| extra.waker.take()).flatten() {
        call_out(|| waker.wake());
    }
}

/// Drops what the task has of its own beside its stack.
fn drop_locals(header: &Header) {
    let family = header.peek_extra(|extra| extra.family.take()).flatten();
    quietly(|| drop(family));
    pop_locals(header);
}

fn pop_locals(header: &Header) {
    while let Some((_, local)) = header.peek_extra(|extra| extra.locals.pop()).flatten() {
        quietly(|| drop(local));
    }
}

/// How a body that did not return ended.
fn outcome(payload: Box<dyn Any + Send>) -> JoinError {
    if payload.is::<Cancelled>() { JoinError::Killed } else { JoinError::Panicked(payload) }
}

/// Runs code of the user's that nobody waits for: a panic in it is reported by the panic hook and ends there.
pub(crate) fn quietly(f: impl FnOnce()) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { return };
    // A payload's destructor may panic in its turn, and what comes of that may do so for ever: it is left alone.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        let _leaked = ManuallyDrop::new(again);
    }
}

/// Runs a waker of the user's, in the midst of whatever the caller does: nothing may switch in it, and a panic in it is reported
/// and ends there. Nothing is to be locked or borrowed.
#[cold]
pub(crate) fn call_out(f: impl FnOnce()) {
    let Some(hub) = Hub::get() else { return quietly(f) };
    let header = hub.current();
    let unwinding = header.unwinding.get();
    hub.hold(|| quietly(f));
    // The panic hook may have noted one that is over.
    header.unwinding.set(unwinding);
}

thread_local! {
    static HUB: Cell<*const Hub> = const { Cell::new(ptr::null()) };
    static GONE: Cell<bool> = const { Cell::new(false) };
}

impl Hub {
    /// This thread's hub, if it has one.
    #[inline(always)]
    pub(crate) fn get() -> Option<&'static Hub> {
        // SAFETY: the pointer is null or leads to the thread's hub, which is freed when no frame of the thread's uses it
        // any more: at the thread's end, with every task ended.
        unsafe { HUB.get().as_ref() }
    }

    /// This thread's hub, made now if need be.
    ///
    /// # Panics
    ///
    /// If the thread is ending and its hub is gone, or if the system gives no poller.
    #[inline]
    #[track_caller]
    pub(crate) fn here() -> &'static Hub {
        match Hub::get() {
            Some(hub) => hub,
            None => match Hub::make() {
                Ok(hub) => hub,
                Err(error) => panic!("greenroom: this thread can have no hub: {error}"),
            },
        }
    }

    /// As [`here`](Self::here), with an error where there can be none.
    #[inline]
    pub(crate) fn try_here() -> io::Result<&'static Hub> {
        Hub::get().map_or_else(Hub::make, Ok)
    }

    /// Whether this thread's hub has come and gone.
    #[inline]
    pub(crate) fn is_gone() -> bool {
        GONE.get()
    }

    /// Whether code on this thread can park: not inside the panic hook, and not when the thread's hub is gone.
    #[inline]
    pub(crate) fn can_park() -> bool {
        // A hub that is gone is no longer to be had.
        match Hub::get() {
            Some(hub) => hub.can_switch(),
            None => !Hub::is_gone(),
        }
    }

    #[cold]
    fn make() -> io::Result<&'static Hub> {
        if GONE.get() {
            return Err(io::Error::other("the thread is ending and its hub is gone"));
        }
        hook::install();
        let hub = Box::leak(Box::new(Hub::new()?));
        HUB.set(hub);
        sys::at_thread_exit(tear_down);
        Ok(hub)
    }
}

/// Ends the thread's hub.
fn tear_down() {
    let Some(hub) = Hub::get() else { return };
    let unfinished = sys::is_main_thread() || !hub.end_with_thread() || hub.pins.get() != 0;
    HUB.set(ptr::null());
    GONE.set(true);
    if unfinished {
        fork::expect_abandoned();
    }
    for message in hub.shared.close() {
        drop(message);
    }
    if unfinished {
        // Tasks are left with their stacks, for ever: nothing of theirs may be freed, and nothing of theirs runs again. Or a
        // generator is, perhaps in a thread-local: when that is dropped, what unwinds in it may still refer to the hub.
        return;
    }
    // SAFETY: made by `Box::leak`; unreachable from now on, since the thread's pointer is null and every task has ended.
    drop(unsafe { Box::from_raw(ptr::from_ref(hub).cast_mut()) });
}

impl Hub {
    /// Ends what is left when the thread ends. False if something has to stay for ever.
    fn end_with_thread(&self) -> bool {
        // `exit` may have been called from a task or from the panic hook: other frames are still to be returned to.
        if self.current() != self.root || !self.can_switch() {
            return false;
        }
        let ended = catch_unwind(AssertUnwindSafe(|| self.end_all_since(0)));
        // Its locals are not made again by each other's destructors.
        self.root.ending.set(true);
        drop_locals(&self.root);
        ended.unwrap_or(false)
    }

    /// Makes the root as good as new, for a thread that does one job after the other: ends every task, drops the root's locals
    /// and forgets a saved unpark.
    pub(crate) fn renew_root(&self) {
        debug_assert!(self.current() == self.root, "a job is done on the thread's own stack");
        // A task that cannot be made to end is a deadlock, which is reported; the task stays.
        quietly(|| {
            self.end_all_since(0);
        });
        self.root.ending.set(true);
        pop_locals(&self.root);
        self.root.ending.set(false);
        self.root.take_permit();
    }

    /// Waits for a task's end, whatever is pending for the current one.
    pub(crate) fn join_for_good(&self, header: &Header) {
        let current = self.current();
        let before = current.ending.replace(true);
        let _restore = Restore(&current.ending, before);
        while !header.has_ended() {
            let waiter = self.arm(Clause(0));
            header.joiners.while_linked(waiter, End::Back, || self.park(Reason::Join(header.id), None));
        }
    }

    /// Kills the tasks with this number or a later one, and waits for their ends. False where that cannot be done: without
    /// unwinding, a task that has begun cannot be made to end.
    pub(crate) fn end_all_since(&self, first: u64) -> bool {
        loop {
            // Killed tasks may spawn others while they end.
            let tasks = self.tasks();
            let left: Vec<_> =
                tasks.iter().filter(|task| task.header().id >= first && !task.header().has_ended()).collect();
            if left.is_empty() {
                return true;
            }
            for task in &left {
                if cfg!(panic = "abort") && task.header().state.get() == State::Started {
                    return false;
                }
                self.kill(task.header());
            }
            for task in left {
                self.join_for_good(task.header());
            }
        }
    }
}

/// Puts a flag back.
pub(super) struct Restore<'a>(&'a Cell<bool>, bool);

impl Restore<'_> {
    #[cfg(feature = "monkey")]
    pub(super) fn new(flag: &Cell<bool>, before: bool) -> Restore<'_> {
        Restore(flag, before)
    }
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}
