//! Waiting for many tasks, and ending many.

#![forbid(unsafe_code)]

use super::{JoinHandle, Task, Waitable, iwait};
use crate::error::JoinError;
use crate::hub::Tell;

/// Waits for all tasks to end and gives their results, in the order in which the handles were given.
///
/// No handles: returns at once with nothing.
///
/// # Switching
///
/// Yes, unless all have ended.
///
/// # Cancellation
///
/// If the caller is killed while it waits, the tasks are detached and go on.
///
/// # Examples
///
/// ```
/// let squares = (1..=3).map(|n| greenroom::spawn(move || n * n));
/// let squares: Result<Vec<i32>, _> = greenroom::joinall(squares).into_iter().collect();
/// assert_eq!(squares.unwrap(), [1, 4, 9]);
/// ```
#[track_caller]
pub fn joinall<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<Result<T, JoinError>> {
    // All handles first: an iterator that spawns as it goes must not run its tasks one after the other.
    let handles: Vec<_> = handles.into_iter().collect();
    handles.into_iter().map(JoinHandle::join).collect()
}

/// Waits for all tasks to end, or for the first one in finish order that fails: its error is returned at once, and the
/// others are left running, detached.
///
/// # Switching
///
/// Yes, unless all have ended.
///
/// # Cancellation
///
/// As [`joinall`].
///
/// # Errors
///
/// The first failure in the order in which the tasks end; among those that ended before the call, in the order given.
///
/// # Examples
///
/// ```
/// let good = greenroom::spawn(|| greenroom::sleep(std::time::Duration::from_secs(3600)));
/// let bad = greenroom::spawn(|| std::panic::resume_unwind(Box::new("no")));
/// assert!(greenroom::try_joinall([good, bad]).unwrap_err().is_panicked());
/// ```
#[track_caller]
pub fn try_joinall<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Result<Vec<T>, JoinError> {
    struct Indexed<'a, T>(usize, &'a JoinHandle<T>);
    impl<T> Waitable for Indexed<'_, T> {
        fn watch(&self, ready: &Tell) -> Option<u64> {
            self.1.watch(ready)
        }

        fn unwatch(&self, key: u64) {
            self.1.unwatch(key);
        }

        fn is_shared(&self) -> bool {
            false
        }
    }

    let handles: Vec<_> = handles.into_iter().collect();
    let mut results: Vec<Option<T>> = handles.iter().map(|_| None).collect();
    let order = iwait(handles.iter().enumerate().map(|(place, handle)| Indexed(place, handle)));
    for Indexed(place, handle) in order {
        let result = handle.take_result();
        results[place] = Some(result?);
    }
    Ok(results.into_iter().map(|value| value.expect("every task has ended")).collect())
}

/// Ends tasks and waits until all have ended. All are killed before the first is waited for.
///
/// # Switching
///
/// Yes, unless all have ended.
///
/// # Cancellation
///
/// If the caller is cancelled while it waits, the targets still end.
///
/// # Panics
///
/// As [`Task::kill`].
///
/// # Examples
///
/// ```
/// let tasks: Vec<_> = (0..3).map(|_| greenroom::spawn(|| greenroom::park())).collect();
/// greenroom::killall(&tasks);
/// assert!(tasks.iter().all(|task| task.is_finished()));
/// ```
#[track_caller]
pub fn killall(tasks: impl IntoIterator<Item = impl Into<Task>>) {
    let tasks: Vec<Task> = tasks.into_iter().map(Into::into).collect();
    let own = super::current();
    for task in tasks.iter().filter(|task| **task != own) {
        task.kill_nowait();
    }
    for task in tasks.iter().filter(|task| **task != own && task.id().0 != 0) {
        task.wait_until(None);
    }
    // Itself last, for this does not come back.
    if tasks.contains(&own) {
        own.kill();
    }
}
