//! One job: its body, the place where its result is put, and the handles on it.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::workers::{Ticket, Work, Workers};
use crate::clock;
use crate::error::JoinError;
use crate::hub::{Cancelled, Hub, Reason, Tell, quietly};
use crate::promise::Promise;
use crate::task::Waitable;

const REASON: Reason = Reason::Other(&"a job on a native thread");

/// Where a result passes from one thread to another; taken by the only handle.
type Packet<T> = Promise<Option<Result<T, JoinError>>>;

/// Makes a job and its place for the result.
pub(super) fn job<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> (Box<dyn Work>, Place<T>) {
    let packet = Arc::new(Packet::new());
    (Box::new(Job { body: Some(body), result: None, packet: packet.clone() }), Place(packet))
}

/// Where a job's result will be; becomes a handle once the job has a ticket.
pub(super) struct Place<T>(Arc<Packet<T>>);

impl<T> Place<T> {
    pub(super) fn handle(self, workers: &Arc<Workers>, ticket: Ticket) -> OffloadHandle<T> {
        OffloadHandle { packet: self.0, workers: workers.clone(), ticket }
    }
}

struct Job<F, T> {
    body: Option<F>,
    result: Option<Result<T, JoinError>>,
    packet: Arc<Packet<T>>,
}

impl<T: Send, F: FnOnce() -> T + Send> Work for Job<F, T> {
    fn run(&mut self) {
        let Some(body) = self.body.take() else { return };
        let result = catch_unwind(AssertUnwindSafe(body)).map_err(JoinError::Panicked);
        // Nobody waits, and nobody will: what it owns goes while the job still counts.
        if Arc::strong_count(&self.packet) == 1 {
            return quietly(|| drop(result));
        }
        self.result = Some(result);
    }

    fn deliver(self: Box<Self>) {
        let Job { body, result, packet } = *self;
        // The body first: who joins finds nothing of it left.
        quietly(|| drop(body));
        let refused = packet.keep(Some(result.unwrap_or(Err(JoinError::Killed))));
        debug_assert!(refused.is_ok(), "a job is delivered once");
        // The handle may have gone meanwhile.
        quietly(|| drop(packet));
    }
}

/// Owns the result of a job on a native thread; dropping it detaches the job, which runs all the same.
///
/// It can be moved between threads. Made by [`ThreadPool::spawn`](super::ThreadPool::spawn).
pub struct OffloadHandle<T> {
    packet: Arc<Packet<T>>,
    workers: Arc<Workers>,
    ticket: Ticket,
}

/// Ready when the job is done.
impl<T> Waitable for OffloadHandle<T> {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.packet.watch(ready)
    }

    fn unwatch(&self, key: u64) {
        self.packet.unwatch(key);
    }

    fn is_outside(&self) -> bool {
        true
    }
}

impl<T> OffloadHandle<T> {
    /// Waits for the job to be done and gives its result.
    ///
    /// In another job of the same pool, which keeps one of its threads busy, a job that no thread has begun runs right
    /// there: jobs that spawn jobs and join them are done even in a pool of one thread.
    ///
    /// # Switching
    ///
    /// Yes, unless the job is done.
    ///
    /// # Cancellation
    ///
    /// If the caller is killed while it waits, the job is detached: it runs, and its result is dropped.
    ///
    /// # Panics
    ///
    /// Where nothing can park: inside the panic hook, or when the thread's hub is gone; unless the job is done, or has not
    /// begun, in which case it runs right there.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`] with the panic's payload, which has been reported already; [`JoinError::Killed`] if the job was
    /// never run: it was cancelled, its pool was shut down before it came, or this process was forked from the one that has it.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::offload::ThreadPool::new(2);
    /// assert_eq!(pool.spawn(|| 6 * 7).join().unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        let ran_here = (self.workers.is_mine() || !Hub::can_park()) && self.run_here();
        match self.result(None).expect("without a deadline only the result ends the wait") {
            // A kill of this task that the job has only held up.
            Err(JoinError::Panicked(payload)) if ran_here && payload.is::<Cancelled>() => pass_on(payload),
            result => as_error(result),
        }
    }

    /// Waits no longer than `timeout`; gives the handle back if the job is not done by then. Never runs the job right there.
    ///
    /// # Switching
    ///
    /// Yes, unless the job is done.
    ///
    /// # Cancellation
    ///
    /// As [`join`](Self::join).
    ///
    /// # Panics
    ///
    /// Where nothing can park, unless the job is done.
    ///
    /// # Errors
    ///
    /// The handle, if the time ran out.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::offload::ThreadPool;
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let (tell, told) = mpsc::channel();
    /// let job = ThreadPool::new(1).spawn(move || told.recv().unwrap());
    /// let job = job.join_timeout(Duration::from_millis(1)).unwrap_err();
    /// tell.send("at last").unwrap();
    /// assert_eq!(job.join().unwrap(), "at last");
    /// ```
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, OffloadHandle<T>> {
        self.result(clock::deadline_after(timeout)).map(as_error).ok_or(self)
    }

    /// Whether the job is done: then [`join`](Self::join) returns at once.
    pub fn is_finished(&self) -> bool {
        self.packet.is_kept()
    }

    /// Takes the job back, if no thread has begun it; says whether that was so.
    ///
    /// What the job has captured is dropped then, and [`join`](Self::join) gives [`JoinError::Killed`]. A job that was begun
    /// goes on: there is nothing that could end a native thread's work from outside.
    ///
    /// # Switching
    ///
    /// Never, unless a destructor does.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::offload::ThreadPool;
    ///
    /// let pool = ThreadPool::new(1);
    /// let (tell, told) = std::sync::mpsc::channel::<()>();
    /// let first = pool.spawn(move || told.recv().unwrap());
    /// let second = pool.spawn(|| unreachable!("the only thread is busy"));
    /// assert!(second.cancel());
    /// assert!(second.join().unwrap_err().is_killed());
    /// tell.send(()).unwrap();
    /// first.join().unwrap();
    /// ```
    pub fn cancel(&self) -> bool {
        let Some(job) = self.workers.take(self.ticket) else { return false };
        self.workers.settle(self.ticket, job);
        true
    }

    /// Waits for the result, and takes it.
    #[track_caller]
    fn result(&self, deadline: Option<Instant>) -> Option<Result<T, JoinError>> {
        if self.ticket.is_lost() && !self.is_finished() {
            return Some(Err(JoinError::Killed));
        }
        let result = self.packet.wait_until(REASON, deadline, Option::take)?;
        Some(result.expect("the only handle takes the result once"))
    }

    /// Runs the job on this thread, if none has begun it.
    fn run_here(&self) -> bool {
        let Some(mut job) = self.workers.take(self.ticket) else { return false };
        job.run();
        self.workers.settle(self.ticket, job);
        true
    }
}

impl<T> fmt::Debug for OffloadHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffloadHandle").field("is_finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// A job that one caller waits for, as for a function: if the caller goes before a thread has begun it, it never runs.
pub(super) struct Call<T>(Option<OffloadHandle<T>>);

impl<T> Call<T> {
    pub(super) fn new(handle: OffloadHandle<T>) -> Call<T> {
        Call(Some(handle))
    }

    /// Waits for the result; a panic of the job goes on in the caller.
    #[track_caller]
    pub(super) fn wait(mut self) -> T {
        let handle = self.0.as_ref().expect("it is waited for once");
        let result = handle.result(None).expect("without a deadline only the result ends the wait");
        self.0 = None;
        match result {
            Ok(value) => value,
            Err(JoinError::Panicked(payload)) => pass_on(payload),
            Err(JoinError::Killed) => panic!("greenroom: the job is in the process that this one was forked from"),
        }
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.cancel();
            // A result that came together with the kill: a panic of its destructor would meet the caller's unwind.
            quietly(|| drop(handle));
        }
    }
}

/// What another thread has caught of a kill is no panic.
fn as_error<T>(result: Result<T, JoinError>) -> Result<T, JoinError> {
    match result {
        Err(JoinError::Panicked(payload)) if payload.is::<Cancelled>() => Err(JoinError::Killed),
        result => result,
    }
}

/// Goes on with an unwind without the panic hook, which has reported it.
fn pass_on(payload: Box<dyn Any + Send>) -> ! {
    match Hub::get() {
        Some(hub) => hub.pass_on(payload),
        None => resume_unwind(payload),
    }
}
