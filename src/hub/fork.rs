//! A hub in a forked process (rule 25): one task, the one that forked, and a poller of its own.
//!
//! The other tasks are the parent's. Their stacks came along as memory and never run here: they are left where they are, for
//! what they have lent and linked still points there. Their handles say that they were killed. What they held, locks and
//! permits, they hold for ever, as threads do across fork(2).
//!
//! If it was not the root that forked, the root stays with the parent too; the hub's loop goes on upon its stack. The process
//! ends with the task that forked, as it ends with `main`.

use std::io;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::header::{Header, State, TaskRef};
use super::{Alarm, Hub};
use crate::reactor::{self, Reactor};
use crate::sys;
use crate::thread_block;

impl Hub {
    /// Forks. In the child (`None`) the current task is alone.
    ///
    /// # Safety
    ///
    /// As fork(2): the child does nothing that needs what another thread held at that moment.
    pub(crate) unsafe fn fork(&self) -> io::Result<Option<i32>> {
        assert!(self.can_switch(), "greenroom: a fork inside the panic hook");
        // Made ahead, so that it is the parent who learns if there can be none.
        let (reactor, new_link) = Reactor::new()?;
        // No other thread is within these when the copy is made.
        let table = reactor::hold_table();
        let _blocks = thread_block::hold();
        let mut link = self.shared.hold_link();
        // What others have registered with pthread_atfork(3) must not park.
        // SAFETY: passed on to the caller.
        let pid = around(|| self.hold(|| unsafe { sys::fork() }))?;
        if pid != 0 {
            return Ok(Some(pid));
        }

        table.forget_pollers();
        expect_abandoned();
        self.abandon_others();
        self.reactor.renew(reactor);
        *link = Some(new_link);
        Ok(None)
    }

    /// Lets go of all tasks but the current one.
    fn abandon_others(&self) {
        sys::forget_workers();
        let current = self.current();
        self.ready.clear();
        self.batch.borrow_mut().clear();
        self.due.borrow_mut().clear();
        self.batching.set(false);
        self.next_poll.set(self.ready.after(0));

        let mut tasks = self.tasks.borrow_mut();
        let slots: Vec<usize> = tasks.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if tasks[slot].header().id == current.id && !current.is_root() {
                continue;
            }
            // Kept for ever: waiters lead to it.
            let task = ManuallyDrop::new(tasks.remove(slot));
            abandon(task.header());
        }
        drop(tasks);
        if !current.is_root() {
            abandon(&self.root);
            self.is_rootless.set(true);
            self.exit_with(current);
        }
        current.joiners.abandon();
        self.idlers.abandon();

        self.timers.borrow_mut().retain(|alarm| match alarm {
            Alarm::Wait(_) => false,
            // SAFETY: a block takes its timer along when it ends, so it is alive.
            Alarm::Block(frame) => unsafe { &**frame }.owner() == Some(current),
        });
        for count in [&self.parked_unwinding, &self.parked_on_outside, &self.parked_on_shared] {
            count.set(0);
        }
        let mut messages = Vec::new();
        self.shared.take_all(&mut messages);
        // They were sent to the parent, which has them too.
        let _the_parents = ManuallyDrop::new(messages);
    }

    /// Ends the process with this task.
    fn exit_with(&self, task: TaskRef) {
        let header: *const Header = task.as_ptr();
        task.with_extra(|extra| {
            extra.last_watcher += 1;
            let exit = move || {
                // SAFETY: watchers run on their task's own stack, before it is reclaimed.
                let failed = unsafe { &*header }.peek_extra(|extra| extra.failed).unwrap_or(false);
                // 101 is the code of a program whose `main` panicked.
                std::process::exit(if failed { 101 } else { 0 });
            };
            extra.watchers.push((extra.last_watcher, Box::new(exit)));
        });
    }
}

/// What is to be done around the call that forks, which says whether this is the child: by whom keeps more of the process than
/// the hub does.
#[cfg(feature = "monkey")]
pub(crate) static AROUND: std::sync::OnceLock<fn(&mut dyn FnMut() -> bool)> = std::sync::OnceLock::new();

fn around(fork: impl FnOnce() -> io::Result<i32>) -> io::Result<i32> {
    #[cfg(feature = "monkey")]
    if let Some(around) = AROUND.get() {
        let (mut fork, mut forked) = (Some(fork), None);
        around(&mut || {
            forked = fork.take().map(|fork| fork());
            matches!(forked, Some(Ok(0)))
        });
        return forked.unwrap_or_else(|| Err(io::ErrorKind::Other.into()));
    }
    fork()
}

/// There may be tasks that wait and never run again: this process is a forked child, or a thread has ended that could not end
/// its tasks.
static ARE_ABANDONED: AtomicBool = AtomicBool::new(false);

pub(super) fn expect_abandoned() {
    ARE_ABANDONED.store(true, Ordering::Relaxed);
}

#[inline]
pub(super) fn are_abandoned() -> bool {
    ARE_ABANDONED.load(Ordering::Relaxed)
}

/// The task has ended as far as this process goes: what still leads to it finds that it does not wait.
fn abandon(header: &Header) {
    header.wait.settle();
    header.wait.arm();
    header.wait.settle();
    header.state.set(State::Ended);
    header.killed.set(true);
    header.frames.set(ptr::null());
}
