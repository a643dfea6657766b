//! Work on native threads, for what would stop the hub: [`offload()`] parks only its caller.
//!
//! What blocks the thread stops all its tasks: files, a library in C, a password hash. Such work goes to a native thread,
//! and the hub goes on. It is the one thing here that needs `Send`.
//!
//! ```
//! let sum = greenroom::spawn(|| {
//!     // The other tasks of this thread go on meanwhile.
//!     greenroom::offload(|| (1..=1_000_000_u64).sum::<u64>())
//! });
//! assert_eq!(sum.join().unwrap(), 500_000_500_000);
//! ```
//!
//! # What a job finds
//!
//! A worker is a native thread like others, named `greenroom-offload`. A job may use all of this crate: it stands on the
//! thread's root, and the first call that needs a hub makes one. When a job ends, the tasks that it has left there are killed
//! and waited for, and the root's [task-locals](crate::task_local) are dropped; only then is its result handed over.
//! Thread-locals stay for the next job.
//!
//! Jobs wait in one queue, without a bound, and begin in the order in which they came. Nothing ends a job from outside: if
//! its caller is gone, it runs to its end, and so do the jobs of a pool that was dropped. When `main` returns, the process
//! ends with whatever still runs.
//!
//! # Jobs that wait for jobs
//!
//! Inside a job, [`offload()`], and [`apply`](ThreadPool::apply) and [`map`](ThreadPool::map) of the same pool, run their
//! closure right there: the thread is one for work that blocks, and to wait for another of the same pool might be to wait
//! for ever. For the same reason [`OffloadHandle::join`] runs a job that has not begun. What is left to the user is the circle
//! through two pools: jobs of one that wait for jobs of the other, and these for the first.
//!
//! After `fork` the child has none of the threads. Its pools start new ones; jobs of the parent are never run there.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::clock;
use crate::hub::{Hub, Reason};

mod job;
mod workers;

#[cfg(test)]
mod tests;

use job::Call;
pub use job::OffloadHandle;
pub(crate) use workers::on_worker;
use workers::{IDLE, Refusal, Refused, Workers};

/// Runs `f` on a native thread of the [default pool](default_pool) and gives its value. Only the caller is parked.
///
/// Where nothing can park `f` runs right there: inside the panic hook, and on a thread whose hub is gone or that can have none.
/// So it does inside another job, whose thread is there for that; and if no native thread is to be had at all.
///
/// # Switching
///
/// Yes, unless `f` runs right there.
///
/// # Cancellation
///
/// A caller that is killed, or whose time runs out, leaves at once. If no thread has begun `f` by then, it never runs and is
/// dropped by the caller; otherwise it runs to its end, and its value is dropped on its thread (or by the caller, if it came at
/// the same moment).
///
/// # Panics
///
/// With `f`: the panic is reported by the panic hook, once, on the native thread, and goes on in the caller with its payload.
///
/// # Examples
///
/// ```
/// let text = greenroom::offload(|| std::fs::read_to_string("Cargo.toml"))?;
/// assert!(text.contains("[package]"));
/// # std::io::Result::Ok(())
/// ```
#[track_caller]
pub fn offload<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    default_pool().apply_or_run(f)
}

/// The pool of [`offload()`]: the process has one, of 16 threads at most until [`ThreadPool::set_size`] says otherwise.
///
/// Sixteen, for work that blocks: more than there are processors, mostly, yet few enough that computing jobs leave some time
/// to the hubs. Jobs that wait for something for long, or for ever, are better kept in a pool of their own.
///
/// # Examples
///
/// ```
/// use greenroom::offload::default_pool;
///
/// default_pool().set_size(64);
/// assert_eq!(default_pool().size(), 64);
/// ```
pub fn default_pool() -> &'static ThreadPool {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    POOL.get_or_init(|| ThreadPool::new(DEFAULT_SIZE))
}

const DEFAULT_SIZE: usize = 16;

/// A pool of native threads that run jobs for tasks.
///
/// Threads are started when jobs come, up to the pool's size, and end when they have had no job for some 10 seconds. Clones are
/// handles on the same pool. When the last one is dropped, the pool is [shut down](Self::shutdown): jobs that are queued still
/// run, and nobody waits for them.
///
/// # Examples
///
/// ```
/// use greenroom::offload::ThreadPool;
///
/// let pool = ThreadPool::new(4);
/// let words = pool.map(["one", "two"], |word| word.len());
/// assert_eq!(words, [3, 3]);
///
/// let job = pool.spawn(|| 1 + 1);
/// pool.join();
/// assert!(job.is_finished());
/// ```
#[derive(Clone)]
pub struct ThreadPool(Arc<Owner>);

/// Shuts the pool down with its last handle.
struct Owner(Arc<Workers>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl ThreadPool {
    /// Makes a pool of at most `size` threads; none is started yet.
    ///
    /// # Panics
    ///
    /// If `size` is 0: whoever waited for a job of such a pool would wait for ever.
    #[track_caller]
    pub fn new(size: usize) -> ThreadPool {
        ThreadPool::named(size, "greenroom-offload")
    }

    /// As [`new`](Self::new), with a name for the threads.
    #[track_caller]
    pub(crate) fn named(size: usize, name: &'static str) -> ThreadPool {
        assert!(size > 0, "{NO_SIZE}");
        ThreadPool(Arc::new(Owner(Arc::new(Workers::new(size, name, IDLE)))))
    }

    /// Queues `f` and gives the handle on its result.
    ///
    /// If the pool was shut down, `f` is dropped, and the result is [`JoinError::Killed`](crate::JoinError::Killed).
    ///
    /// # Switching
    ///
    /// Never: the caller goes on.
    ///
    /// # Panics
    ///
    /// If the pool has no thread and the system gives none; [`try_spawn`](Self::try_spawn) returns the error instead. As long
    /// as there is one thread, the job merely waits longer.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::offload::ThreadPool::new(1);
    /// let name = pool.spawn(|| std::thread::current().name().map(String::from));
    /// assert_eq!(name.join().unwrap().as_deref(), Some("greenroom-offload"));
    /// ```
    #[track_caller]
    pub fn spawn<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> OffloadHandle<T> {
        match self.try_spawn(f) {
            Ok(handle) => handle,
            Err(error) => panic!("greenroom: no native thread can be made: {error}"),
        }
    }

    /// As [`spawn`](Self::spawn), with an error where there is no thread.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// If the pool has no thread and the system gives none. `f` has been dropped then.
    pub fn try_spawn<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> io::Result<OffloadHandle<T>> {
        let (job, place) = job::job(f);
        let (ticket, taken) = self.workers().push(job);
        match taken {
            Ok(()) => {}
            Err(Refused { job, why: Refusal::Closed }) => job.deliver(),
            Err(Refused { why: Refusal::NoThread(error), .. }) => return Err(error),
        }
        Ok(place.handle(self.workers(), ticket))
    }

    /// Runs `f` on a thread of the pool and gives its value: [`offload()`], with this pool.
    ///
    /// `f` runs right there where nothing can park, inside another job of this pool, and where the pool takes no job: when it
    /// was shut down, or no thread is to be had.
    ///
    /// # Switching
    ///
    /// Yes, unless `f` runs right there.
    ///
    /// # Cancellation
    ///
    /// As [`offload()`].
    ///
    /// # Panics
    ///
    /// With `f`, as [`offload()`].
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::offload::ThreadPool::new(1);
    /// assert_eq!(pool.apply(|| "done"), "done");
    /// ```
    #[track_caller]
    pub fn apply<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        if self.runs_here() {
            return f();
        }
        self.call(f).wait()
    }

    /// As [`apply`](Self::apply), but runs `f` right there inside a job of any pool, whose thread is there for what blocks.
    #[track_caller]
    pub(crate) fn apply_or_run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        if on_worker() {
            return f();
        }
        self.apply(f)
    }

    /// Runs `f` on each item, each a job of its own, and gives the values in the order of the items.
    ///
    /// All items are taken from the iterator before the call first waits.
    ///
    /// # Switching
    ///
    /// Yes, unless there are no items, or `f` runs right there as in [`apply`](Self::apply).
    ///
    /// # Cancellation
    ///
    /// As [`offload()`]: items that no thread has begun are dropped by the caller.
    ///
    /// # Panics
    ///
    /// With `f`: that of the first item, in their order, for which it panics goes on in the caller. Items that no thread has
    /// begun by then are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::offload::ThreadPool::new(4);
    /// assert_eq!(pool.map(1..=4, |n| n * n), [1, 4, 9, 16]);
    /// ```
    #[track_caller]
    pub fn map<I: Send + 'static, T: Send + 'static>(
        &self,
        items: impl IntoIterator<Item = I>,
        f: impl Fn(I) -> T + Send + Sync + 'static,
    ) -> Vec<T> {
        if self.runs_here() {
            return items.into_iter().map(f).collect();
        }
        let f = Arc::new(f);
        let start = |item| {
            let f = f.clone();
            self.call(move || f(item))
        };
        let calls: Vec<_> = items.into_iter().map(start).collect();
        calls.into_iter().map(Call::wait).collect()
    }

    /// Waits until no job is left, queued or running; at once if there is none. Jobs that come meanwhile are waited for too.
    ///
    /// # Switching
    ///
    /// Yes, unless no job is left.
    ///
    /// # Cancellation
    ///
    /// A caller that is killed leaves nothing behind.
    ///
    /// # Panics
    ///
    /// In a job of this pool, which would wait for its own end. And where nothing can park, if a job is left.
    #[track_caller]
    pub fn join(&self) {
        self.wait(None);
    }

    /// As [`join`](Self::join), but not longer than `timeout`. Says whether no job was left.
    ///
    /// # Switching
    ///
    /// Yes, unless no job is left.
    ///
    /// # Panics
    ///
    /// As [`join`](Self::join).
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.wait(clock::deadline_after(timeout))
    }

    /// Accepts no more jobs, for all handles of the pool. Those that are queued still run; the threads end after them.
    ///
    /// # Switching
    ///
    /// Never: [`join`](Self::join) waits for the jobs.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::offload::ThreadPool::new(1);
    /// let early = pool.spawn(|| "early");
    /// pool.shutdown();
    /// assert_eq!(early.join().unwrap(), "early");
    /// assert!(pool.spawn(|| "late").join().unwrap_err().is_killed());
    /// ```
    pub fn shutdown(&self) {
        self.workers().close();
    }

    /// The most threads that the pool has at once.
    pub fn size(&self) -> usize {
        self.workers().counts().size
    }

    /// Changes the most threads at once. More are started right away if jobs wait for them; those that are too many end as soon
    /// as they have no job.
    ///
    /// # Panics
    ///
    /// If `size` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::offload::ThreadPool::new(1);
    /// pool.set_size(8);
    /// assert_eq!(pool.size(), 8);
    /// ```
    #[track_caller]
    pub fn set_size(&self, size: usize) {
        assert!(size > 0, "{NO_SIZE}");
        self.workers().resize(size);
    }

    /// How many threads there are now, busy or idle.
    pub fn threads(&self) -> usize {
        self.workers().counts().threads
    }

    /// How many jobs are not done: queued or running. A job that somebody has just joined is not among them any more.
    pub fn len(&self) -> usize {
        let counts = self.workers().counts();
        counts.queued + counts.running
    }

    /// Whether every job is done.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many jobs wait for a thread.
    pub fn queued(&self) -> usize {
        self.workers().counts().queued
    }

    /// Starts a job that is waited for as a function is.
    fn call<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Call<T> {
        let (job, place) = job::job(f);
        let (ticket, taken) = self.workers().push(job);
        let call = Call::new(place.handle(self.workers(), ticket));
        if let Err(Refused { mut job, .. }) = taken {
            job.run();
            job.deliver();
        }
        call
    }

    /// Whether a call has to be made on this thread.
    fn runs_here(&self) -> bool {
        self.workers().is_mine() || !Hub::can_park() || Hub::try_here().is_err()
    }

    #[track_caller]
    fn wait(&self, deadline: Option<Instant>) -> bool {
        assert!(!self.workers().is_mine(), "greenroom: a job cannot wait for all jobs of its own pool");
        let Some(drained) = self.workers().drained() else { return true };
        drained.wait_until(Reason::Other(&"all jobs of a thread pool"), deadline, |()| ()).is_some()
    }

    fn workers(&self) -> &Arc<Workers> {
        &self.0.0
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.workers().counts();
        f.debug_struct("ThreadPool")
            .field("size", &counts.size)
            .field("threads", &counts.threads)
            .field("queued", &counts.queued)
            .field("running", &counts.running)
            .finish()
    }
}

const NO_SIZE: &str = "greenroom: a pool of no threads runs no jobs";
