//! Tasks on another thread's hub.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::{Builder, Waitable, Watch};
use crate::clock;
use crate::error::JoinError;
use crate::hub::{Cancelled, Hub, Message, Reason, Remote, RemoteTask, Tell};
use crate::lock::{Guard, Lock};
use crate::promise::Promise;

/// A hub, for any thread: spawns tasks onto it.
///
/// As long as one exists, a root of that hub which waits for ever is not reported as deadlocked: somebody might spawn.
///
/// # Examples
///
/// ```
/// let hub = greenroom::HubHandle::current();
/// let worker = std::thread::spawn(move || {
///     let task = hub.spawn(|| greenroom::current().id());
///     task.join().unwrap()
/// });
/// // Tasks run while the hub's own thread waits.
/// while !worker.is_finished() {
///     greenroom::sleep(std::time::Duration::from_millis(1));
/// }
/// assert_ne!(worker.join().unwrap(), greenroom::current().id());
/// ```
#[derive(Clone)]
pub struct HubHandle {
    remote: Remote,
}

impl HubHandle {
    /// The hub of the calling thread, made now if need be.
    ///
    /// # Panics
    ///
    /// If the system gives no poller, or the thread is ending.
    #[track_caller]
    pub fn current() -> HubHandle {
        HubHandle { remote: Hub::here().remote() }
    }

    /// Makes a task on that hub. It runs when the hub's thread next waits or takes a turn.
    ///
    /// If the hub is gone, or goes before the task has run, `body` is dropped and the result is [`JoinError::Killed`].
    ///
    /// # Switching
    ///
    /// Never.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> RemoteJoinHandle<T> {
        self.spawn_as(Builder::new(), body)
    }

    #[track_caller]
    fn spawn_as<T: Send + 'static>(
        &self,
        builder: Builder,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> RemoteJoinHandle<T> {
        let packet = Arc::new(Packet { result: Promise::new(), stage: Lock::new(Stage::Sent) });
        let job = Job { body, sender: Sender(packet.clone()) };
        let spec = builder.spec();
        // A message that is given back drops the sender, which ends the packet.
        drop(self.remote.send(Message::Spawn(spec, Box::new(move || job.run()))));
        RemoteJoinHandle { packet, remote: self.remote.clone(), watch: Watch::new() }
    }
}

impl fmt::Debug for HubHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubHandle").finish_non_exhaustive()
    }
}

impl Builder {
    /// Makes a task on the hub of `hub`, with this builder's name and stack size.
    #[track_caller]
    pub fn spawn_on<T: Send + 'static>(
        self,
        hub: &HubHandle,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> RemoteJoinHandle<T> {
        hub.spawn_as(self, body)
    }
}

const JOIN: Reason = Reason::Other(&"a task on another thread");

/// Owns the result of a task on another thread's hub; can be moved between threads. Dropping it detaches the task.
///
/// For async code, on any thread, it is a future: see [`future`](crate::future).
pub struct RemoteJoinHandle<T> {
    packet: Arc<Packet<T>>,
    remote: Remote,
    /// As a future.
    watch: Watch,
}

impl<T: Send + 'static> RemoteJoinHandle<T> {
    /// Waits for the task to end and gives its result. The calling thread's own hub goes on meanwhile; a thread without one stops.
    ///
    /// # Switching
    ///
    /// Yes, unless the task has ended.
    ///
    /// # Cancellation
    ///
    /// If the caller is killed while it waits, the task is detached and goes on.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`]; [`JoinError::Killed`], also if the hub ended before the task did.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        let result = self.packet.result.wait(JOIN, Option::take);
        result.expect(super::TAKEN)
    }

    /// Gives the result if the task has ended; else `waker` is called when it does, in place of the one before.
    pub(crate) fn poll_result(&mut self, waker: &Waker) -> Poll<Result<T, JoinError>> {
        if !self.is_finished() {
            self.watch.renew(&*self.packet, waker);
            return Poll::Pending;
        }
        // The waker first: should its destructor panic, the result is there for the next poll.
        drop(self.watch.take(&*self.packet));
        let result = self.packet.result.peek(Option::take).flatten();
        Poll::Ready(result.expect(super::TAKEN))
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
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, RemoteJoinHandle<T>> {
        match self.packet.result.wait_until(JOIN, clock::deadline_after(timeout), Option::take) {
            Some(result) => Ok(result.expect(super::TAKEN)),
            None => Err(self),
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.packet.result.is_kept()
    }

    /// Asks for the task's end, without waiting: see [`Task::kill_nowait`](crate::Task::kill_nowait).
    ///
    /// # Panics
    ///
    /// In a program built with `panic = "abort"`, if the task has begun and not ended.
    #[track_caller]
    pub fn kill_nowait(&self) {
        let mut stage = self.packet.stage();
        match *stage {
            Stage::Runs(_) if cfg!(panic = "abort") => {
                drop(stage);
                assert!(self.is_finished(), "{}", super::NO_KILL);
            }
            Stage::Runs(task) => {
                drop(stage);
                self.remote.kill(task);
            }
            Stage::Sent | Stage::Doomed => *stage = Stage::Doomed,
        }
    }
}

impl<T> Drop for RemoteJoinHandle<T> {
    fn drop(&mut self) {
        drop(self.watch.take(&*self.packet));
    }
}

/// Ready when the task has ended.
impl<T> Waitable for RemoteJoinHandle<T> {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.packet.result.watch(ready)
    }

    fn unwatch(&self, key: u64) {
        self.packet.result.unwatch(key);
    }

    fn is_outside(&self) -> bool {
        true
    }
}

impl<T> fmt::Debug for RemoteJoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteJoinHandle").finish_non_exhaustive()
    }
}

/// Where a result passes from one thread to another.
struct Packet<T> {
    result: Promise<Option<Result<T, JoinError>>>,
    /// The task, once it runs; or that it was killed before.
    stage: Lock<Stage>,
}

enum Stage {
    Sent,
    Doomed,
    Runs(RemoteTask),
}

/// Ready when there is a result.
impl<T> Waitable for Packet<T> {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.result.watch(ready)
    }

    fn unwatch(&self, key: u64) {
        self.result.unwatch(key);
    }
}

impl<T> Packet<T> {
    fn stage(&self) -> Guard<'_, Stage> {
        self.stage.lock()
    }

    /// Notes which task it is; says whether it was killed before.
    fn begin(&self, task: RemoteTask) -> bool {
        matches!(std::mem::replace(&mut *self.stage(), Stage::Runs(task)), Stage::Doomed)
    }

    /// Puts the result down, if there is none yet.
    fn finish(&self, result: Result<T, JoinError>) {
        // A second one is the sender's farewell.
        drop(self.result.keep(Some(result)));
    }
}

/// A body and where its result goes. The body is dropped first, run or not: who joins finds nothing of it left.
struct Job<F, T> {
    body: F,
    sender: Sender<T>,
}

impl<T, F: FnOnce() -> T> Job<F, T> {
    fn run(self) {
        // Bound in the reverse order of their ends.
        let Job { sender, body } = self;
        let hub = Hub::here();
        let header = hub.current();
        if sender.0.begin(hub.remote_task(header)) {
            if cfg!(panic = "abort") {
                return;
            }
            hub.kill(&header);
            hub.attend(&header);
        }
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
            Ok(value) => sender.0.finish(Ok(value)),
            Err(payload) if payload.is::<Cancelled>() => hub.pass_on(payload),
            Err(payload) => sender.0.finish(Err(JoinError::Panicked(payload))),
        }
    }
}

/// The task's side of a packet: a task that ends without a result was killed.
struct Sender<T>(Arc<Packet<T>>);

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.finish(Err(JoinError::Killed));
    }
}
