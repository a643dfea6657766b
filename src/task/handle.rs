//! The handle on a task's result.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::Task;
use crate::clock;
use crate::error::JoinError;
use crate::hub::TaskRc;

/// Owns the result of a task; dropping it detaches the task, which goes on.
///
/// For async code on the task's thread it is a future: see [`future`](crate::future).
///
/// A handle stays on its thread, as the task does. For one that does not, see
/// [`HubHandle::spawn`](crate::HubHandle::spawn).
///
/// ```compile_fail
/// let handle = greenroom::spawn(|| 1);
/// std::thread::spawn(move || handle.join());
/// ```
pub struct JoinHandle<T> {
    task: TaskRc<T>,
}

impl<T> JoinHandle<T> {
    #[inline]
    pub(crate) fn new(task: TaskRc<T>) -> JoinHandle<T> {
        task.header().attached.set(true);
        JoinHandle { task }
    }

    /// Whether the task has ended: then [`join`](Self::join) returns at once.
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.task.header().has_ended()
    }

    pub(crate) fn cell(&self) -> &TaskRc<T> {
        &self.task
    }
}

impl<T> JoinHandle<T> {
    /// Waits for the task to end and gives its result.
    ///
    /// # Switching
    ///
    /// Yes, unless the task has ended.
    ///
    /// # Cancellation
    ///
    /// If the caller is killed while it waits, the task is detached and goes on.
    ///
    /// # Panics
    ///
    /// If the task joins itself, or if nothing can ever make the task end (the report names every task).
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`] with the panic's payload, which has been reported already; [`JoinError::Killed`].
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(greenroom::spawn(|| 1 + 1).join().unwrap(), 2);
    /// ```
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        if !self.is_finished() {
            super::wait_for_end(self.task.header(), None);
        }
        self.take_result()
    }

    /// Waits no longer than `timeout`; gives the handle back if the task has not ended by then.
    ///
    /// # Switching
    ///
    /// Yes, unless the task has ended.
    ///
    /// # Cancellation
    ///
    /// As [`join`](Self::join).
    ///
    /// # Errors
    ///
    /// The handle, if the time ran out.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let sleeper = greenroom::spawn(|| greenroom::sleep(Duration::from_secs(3600)));
    /// let sleeper = sleeper.join_timeout(Duration::from_millis(1)).unwrap_err();
    /// sleeper.kill();
    /// assert!(sleeper.join().unwrap_err().is_killed());
    /// ```
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, JoinHandle<T>> {
        if self.is_finished() || super::wait_for_end(self.task.header(), clock::deadline_after(timeout)) {
            Ok(self.take_result())
        } else {
            Err(self)
        }
    }

    /// The task itself.
    pub fn task(&self) -> Task {
        Task::of(&self.task)
    }

    /// Ends the task and waits for its end: see [`Task::kill`].
    #[track_caller]
    pub fn kill(&self) {
        self.task().kill();
    }

    /// Ends the task and waits up to `timeout`; says whether it has ended: see [`Task::kill_timeout`].
    #[track_caller]
    pub fn kill_timeout(&self, timeout: Duration) -> bool {
        self.task().kill_timeout(timeout)
    }

    /// Ends the task, without waiting: see [`Task::kill_nowait`].
    #[track_caller]
    pub fn kill_nowait(&self) {
        self.task().kill_nowait();
    }

    /// Runs `f` in a task of its own once this task has ended: see [`Task::link`].
    #[track_caller]
    pub fn link(&self, f: impl FnOnce(&Task) + 'static) -> super::Link {
        self.task().link(f)
    }

    /// The result of a task that has ended.
    #[inline]
    #[track_caller]
    pub(crate) fn take_result(&self) -> Result<T, JoinError> {
        assert!(self.task.header().attached.replace(false), "{}", super::TAKEN);
        // One that stayed with the parent of a forked process ends here without.
        self.task.take().unwrap_or(Err(JoinError::Killed))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // Before the end: the task drops the result itself. After it: the result is ours to drop.
        let header = self.task.header();
        header.attached.set(false);
        // Dropped last: it is the user's.
        let _waker = header.peek_extra(|extra| extra.waker.take());
        drop(self.task.take());
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.task.header().id).finish_non_exhaustive()
    }
}
