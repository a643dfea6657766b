//! Tasks that may borrow from the frame that spawned them.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::time::Duration;

use crate::error::{JoinError, message_of};
use crate::hub::{Cancelled, Frame, Hub, Tell};
use crate::lock::steady;
use crate::task::{Builder, JoinHandle, Task, Waitable};

/// Runs `f`, which can spawn tasks that borrow, and waits for them all.
///
/// A panic in one of the tasks, or in `f`, kills the rest and, once all have ended, resumes in the caller. Being killed does
/// the same: borrowed data outlives every task whatever happens.
///
/// # Switching
///
/// Yes, if a task is still running when `f` returns.
///
/// # Cancellation
///
/// A caller that is killed, or whose time runs out, kills the tasks and waits for their ends before it unwinds.
///
/// # Panics
///
/// With the payload of the first task that panicked, or of `f`. If the system gives no memory for a task's stack.
///
/// If nothing can ever make the tasks end, the report of the deadlock is printed; if a kill does not end them either, the
/// process aborts, for they borrow from the caller.
///
/// # Examples
///
/// ```
/// let mut numbers = vec![1, 2, 3];
/// let sum = greenroom::scope(|s| {
///     let sum = s.spawn(|| numbers.iter().sum::<i32>());
///     sum.join().unwrap()
/// });
/// numbers.push(sum);
/// assert_eq!(numbers, [1, 2, 3, 6]);
/// ```
///
/// What a task borrows must live longer than the scope:
///
/// ```compile_fail
/// greenroom::scope(|s| {
///     let inner = 1;
///     s.spawn(|| println!("{inner}"));
/// });
/// ```
#[track_caller]
pub fn scope<'env, T>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    let hub = Hub::here();
    let frame = pin!(Frame::block(hub, None));
    let frame = frame.as_ref();
    let scope = Scope { hub, frame, running: RefCell::default(), panic: RefCell::new(None), lifetimes: PhantomData };
    let unwinding = hub.current().unwinding.get();

    let ended = catch_unwind(AssertUnwindSafe(|| {
        frame.enclose(hub, || {
            let value = f(&scope);
            scope.wait();
            value
        })
    }));
    // What panics from here on does so because the scope ends, and comes too late to be the reason.
    let panic = scope.panic.take();
    // However that ended, nobody runs with what was borrowed when this returns.
    if ended.is_err() {
        scope.end_all();
    }
    debug_assert!(scope.running.borrow().is_empty(), "all tasks of a scope have ended");

    match (ended, panic) {
        (Ok(value), None) => value,
        // A panic in a task comes before what it led to; a kill from outside comes before all.
        (Err(payload), None) => hub.pass_on(payload),
        (Err(payload), Some(_)) if payload.is::<Cancelled>() && !frame.is_target_of(&*payload) => hub.pass_on(payload),
        (_, Some(panic)) => {
            hub.current().unwinding.set(unwinding);
            hub.pass_on(panic)
        }
    }
}

/// Spawns tasks that may borrow what lives longer than the scope. Given to the closure of [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    hub: &'static Hub,
    /// Fired when a task panics: unwinds the scope's closure.
    frame: Pin<&'scope Frame>,
    running: RefCell<Vec<Task>>,
    /// The payload of the first panic.
    panic: RefCell<Option<Box<dyn Any + Send>>>,
    /// Invariant in both, as `std::thread::Scope` is.
    lifetimes: PhantomData<(&'scope mut &'scope (), &'env mut &'env ())>,
}

impl<'scope> Scope<'scope, '_> {
    /// Makes a task that may borrow from outside the scope: see [`spawn`](crate::spawn).
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// If the system gives no memory for a stack.
    #[track_caller]
    pub fn spawn<T: 'scope>(&'scope self, body: impl FnOnce() -> T + 'scope) -> ScopedJoinHandle<'scope, T> {
        match self.spawn_with(Builder::new(), body) {
            Ok(handle) => handle,
            Err(error) => panic!("greenroom: no task can be made: {error}"),
        }
    }

    #[track_caller]
    fn spawn_with<T: 'scope>(
        &'scope self,
        builder: Builder,
        body: impl FnOnce() -> T + 'scope,
    ) -> std::io::Result<ScopedJoinHandle<'scope, T>> {
        let run = move || catch_unwind(AssertUnwindSafe(body)).map_err(|payload| self.failed(payload));
        // SAFETY: what `run` and `T` borrow outlives 'scope, and `scope` does not return or unwind before every task
        // of it has ended. If the stack that `scope` runs on is leaked, what lies on it lives for ever.
        let task = unsafe { builder.spawn_unchecked(None, run) }?;
        let handle = JoinHandle::new(task);
        self.note(handle.task());
        Ok(ScopedJoinHandle { handle, scope: PhantomData })
    }

    /// Adds a task to those that are waited for; those that have ended go when the list has doubled.
    fn note(&self, task: Task) {
        let _steady = steady();
        let mut running = self.running.borrow_mut();
        if running.len() == running.capacity() {
            running.retain(|task| !task.is_finished());
        }
        running.push(task);
    }

    /// A task has panicked or was killed: the first panic ends the scope.
    fn failed(&self, payload: Box<dyn Any + Send>) -> JoinError {
        if payload.is::<Cancelled>() {
            return JoinError::Killed;
        }
        let text = message_of(&*payload).unwrap_or("a payload that is no text; the scope has it").to_owned();
        if self.panic.borrow().is_none() {
            self.panic.replace(Some(payload));
            self.kill_all();
            self.hub.fire_block(self.frame.get_ref());
        }
        JoinError::Panicked(Box::new(text))
    }

    fn kill_all(&self) {
        for task in self.running.borrow().iter() {
            self.hub.kill(task.header());
        }
    }

    /// Waits until no task is left.
    fn wait(&self) {
        while let Some(task) = self.last_running() {
            task.wait_until(None);
        }
    }

    /// Kills every task and waits for their ends, whatever is pending for the caller. Where that cannot be done the process
    /// ends: a task that is left would go on with what its caller's frames held.
    fn end_all(&self) {
        struct Abort;
        impl Drop for Abort {
            fn drop(&mut self) {
                eprintln!(
                    "greenroom: a scope's tasks cannot be made to end, and borrow from its caller: the process aborts"
                );
                std::process::abort();
            }
        }
        let abort = Abort;
        while let Some(task) = self.last_running() {
            assert!(Hub::can_park(), "greenroom: a scope cannot wait for its tasks any more");
            self.kill_all();
            self.hub.join_for_good(task.header());
        }
        let _ended = ManuallyDrop::new(abort);
    }

    fn last_running(&self) -> Option<Task> {
        let _steady = steady();
        let mut running = self.running.borrow_mut();
        while let Some(task) = running.last() {
            if !task.is_finished() {
                return Some(task.clone());
            }
            running.pop();
        }
        None
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("running", &self.running.borrow().len()).finish_non_exhaustive()
    }
}

impl Builder {
    /// Makes a task of a scope, with this builder's name and stack size: see [`Scope::spawn`].
    ///
    /// # Errors
    ///
    /// If the system gives no memory for a stack.
    ///
    /// # Examples
    ///
    /// ```
    /// let lent = String::from("lent");
    /// let len = greenroom::scope(|s| {
    ///     let task = greenroom::Builder::new().name("reader".into()).spawn_scoped(s, || lent.len());
    ///     task.unwrap().join().unwrap()
    /// });
    /// assert_eq!(len, 4);
    /// ```
    #[track_caller]
    pub fn spawn_scoped<'scope, 'env, T: 'scope>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        body: impl FnOnce() -> T + 'scope,
    ) -> std::io::Result<ScopedJoinHandle<'scope, T>> {
        scope.spawn_with(self, body)
    }
}

/// Owns the result of a scope's task; dropping it leaves the task to the scope.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<Result<T, JoinError>>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the task to end and gives its result: see [`JoinHandle::join`].
    ///
    /// # Errors
    ///
    /// [`JoinError::Killed`]; [`JoinError::Panicked`] with the panic's message, since the payload goes to the scope's caller.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        self.handle.join().flatten()
    }

    /// Waits no longer than `timeout`: see [`JoinHandle::join_timeout`].
    ///
    /// # Errors
    ///
    /// The handle, if the time ran out. Inside, as [`join`](Self::join).
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        match self.handle.join_timeout(timeout) {
            Ok(result) => Ok(result.flatten()),
            Err(handle) => Err(ScopedJoinHandle { handle, scope: PhantomData }),
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// The task itself.
    pub fn task(&self) -> Task {
        self.handle.task()
    }

    /// Ends the task and waits for its end: see [`Task::kill`]. The others go on.
    #[track_caller]
    pub fn kill(&self) {
        self.handle.kill();
    }

    /// Ends the task and waits up to `timeout`; says whether it has ended: see [`Task::kill_timeout`].
    #[track_caller]
    pub fn kill_timeout(&self, timeout: Duration) -> bool {
        self.handle.kill_timeout(timeout)
    }

    /// Ends the task, without waiting: see [`Task::kill_nowait`].
    #[track_caller]
    pub fn kill_nowait(&self) {
        self.handle.kill_nowait();
    }
}

impl<T> Waitable for ScopedJoinHandle<'_, T> {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.handle.watch(ready)
    }

    fn unwatch(&self, key: u64) {
        self.handle.unwatch(key);
    }

    fn is_shared(&self) -> bool {
        false
    }
}

impl<T> From<&ScopedJoinHandle<'_, T>> for Task {
    fn from(handle: &ScopedJoinHandle<'_, T>) -> Task {
        handle.task()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedJoinHandle").field(&self.handle).finish()
    }
}
