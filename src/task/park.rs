//! Giving the thread away: by turns, until idle, until unparked.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::Task;
use crate::clock;
use crate::hub::{Hub, Outcome, Reason, Remote, RemoteTask, TaskRef};
use crate::waiter::Clause;

/// Gives every task that is ready a turn before the caller goes on.
///
/// # Switching
///
/// Yes, if another task is ready.
///
/// # Cancellation
///
/// A kill or a timeout that is pending is raised here, after the others' turn.
#[inline(always)]
pub fn yield_now() {
    // Inlined into the task's own code down to the switch: a processor predicts a return by the calls before it, and each
    // frame in between would cost a misprediction on the way out and one on the way in. Without a hub there is no other task.
    if let Some(hub) = Hub::get()
        && hub.can_switch()
    {
        hub.yield_now();
    }
}

/// Waits until the hub has nothing else to do: no task is ready, no descriptor or timer due.
///
/// If the others never rest, this never returns.
///
/// # Switching
///
/// Yes.
///
/// # Examples
///
/// ```
/// let busy = greenroom::spawn(|| for _ in 0..10 { greenroom::yield_now() });
/// greenroom::idle();
/// assert!(busy.is_finished());
/// ```
pub fn idle() {
    Hub::here().wait_until_idle();
}

/// Parks the task until [`Task::unpark`] or [`Unparker::unpark`]; returns at once if that has been called since the last
/// park. Two unparks before a park count as one.
///
/// # Switching
///
/// Yes, unless an unpark was saved.
///
/// # Cancellation
///
/// An unpark that came together with the kill is not lost to anyone: it was for this task only.
///
/// # Panics
///
/// On the root, if nothing is left that could unpark it: no other task that could run, and no [`Unparker`] that another
/// thread could call.
///
/// # Examples
///
/// ```
/// let parked = greenroom::spawn(|| greenroom::park());
/// greenroom::yield_now();
/// parked.task().unpark();
/// parked.join().unwrap();
/// ```
#[inline]
pub fn park() {
    park_until(None);
}

/// As [`park`], but not longer than `timeout`. Says whether it was unparked.
///
/// # Switching
///
/// Yes, unless an unpark was saved.
#[inline]
pub fn park_timeout(timeout: Duration) -> bool {
    park_until(clock::deadline_after(timeout))
}

#[inline(always)]
fn park_until(deadline: Option<std::time::Instant>) -> bool {
    let hub = Hub::here();
    let header = hub.current();
    if header.take_permit() {
        return true;
    }
    // Parked tasks are woken through their wait; the permit makes an earlier call count.
    hub.arm(Clause(0));
    let outcome = hub.park(Reason::Unpark, deadline);
    header.take_permit() || outcome != Outcome::Elapsed
}

impl Task {
    /// Lets the task's current or next [`park`] return.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn unpark(&self) {
        if let Some(hub) = Hub::get() {
            hub.unpark(self.header());
        }
    }

    /// A handle that unparks the task from any thread.
    ///
    /// As long as one exists, a root that waits for ever is not reported as deadlocked: the other thread might call.
    pub fn unparker(&self) -> Unparker {
        let hub = Hub::here();
        Unparker { remote: hub.remote(), task: hub.remote_task(TaskRef::from_header(self.header())) }
    }
}

/// Unparks one task, from any thread. Made by [`Task::unparker`].
#[derive(Clone)]
pub struct Unparker {
    remote: Remote,
    task: RemoteTask,
}

impl Unparker {
    /// Lets the task's current or next [`park`] return; nothing happens if it has ended.
    pub fn unpark(&self) {
        self.remote.unpark(self.task);
    }
}

impl fmt::Debug for Unparker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unparker").field("task", &self.task).finish_non_exhaustive()
    }
}
