//! `ReentrantMutex`: a mutex that its holder may take again.
//!
//! The holder is a task, named by two numbers: one of its thread, which no other thread of the process ever has, and the task's
//! own, which no other task of that thread ever has. A native thread without a hub has the number of the root that it would
//! be. Both words are written by the holder only, between taking the lock and giving it back:
//!
//! - **E1** `thread` says ours only if this thread was the last to write it, while it held the lock. Guards stay on their
//!   thread, so it holds the lock still, and what `task` and `depth` say is its own writing too.
//! - **E2** Guards give shared access, and only on one thread. Who of that thread has them does not matter for soundness: a
//!   generator may carry one from task to task.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::raw::RawMutex;
use crate::clock;
use crate::error::Elapsed;
use crate::hub::Hub;

/// Gives one task or native thread at a time access to a value, which may take it again while it has it: std's unstable
/// `ReentrantLock`, but who waits for it parks.
///
/// The holder is the task: generators and greenlets that run in it count as it, other tasks of its thread do not. It has
/// given the mutex back when all its guards are dropped. Since there may be several of them they give shared access; what is to be
/// changed is put into a [`Cell`] or [`RefCell`](std::cell::RefCell).
///
/// Those who wait get it in the order in which they came. There is no poisoning.
///
/// # Examples
///
/// ```
/// use greenroom::sync::ReentrantMutex;
/// use std::cell::Cell;
///
/// static COUNT: ReentrantMutex<Cell<u32>> = ReentrantMutex::new(Cell::new(0));
///
/// fn add_one() {
///     let count = COUNT.lock();
///     count.set(count.get() + 1);
/// }
///
/// fn add_two() {
///     let _both_or_none = COUNT.lock();
///     add_one();
///     add_one();
/// }
///
/// let tasks: Vec<_> = (0..5).map(|_| greenroom::spawn(add_two)).collect();
/// greenroom::joinall(tasks);
/// assert_eq!(COUNT.lock().get(), 10);
/// ```
pub struct ReentrantMutex<T: ?Sized> {
    raw: RawMutex,
    /// The holder's thread, or [`NOBODY`] (E1).
    thread: AtomicU64,
    /// The holder's number on its thread.
    task: AtomicU64,
    /// How many guards there are.
    depth: AtomicU32,
    value: T,
}

// SAFETY: all guards are on one thread, one thread at a time (E1).
unsafe impl<T: ?Sized + Send> Sync for ReentrantMutex<T> {}

impl<T: ?Sized + RefUnwindSafe> UnwindSafe for ReentrantMutex<T> {}
impl<T: ?Sized + RefUnwindSafe> RefUnwindSafe for ReentrantMutex<T> {}

/// Shared access to the value of a [`ReentrantMutex`]. When the holder's last guard is dropped the mutex is given back.
///
/// It stays on its thread:
///
/// ```compile_fail
/// let mutex = greenroom::sync::ReentrantMutex::new(0);
/// std::thread::scope(|s| {
///     let guard = mutex.lock();
///     s.spawn(move || drop(guard));
/// });
/// ```
///
/// Other threads see through it only what threads may share:
///
/// ```compile_fail
/// let mutex = greenroom::sync::ReentrantMutex::new(std::cell::Cell::new(0));
/// std::thread::scope(|s| {
///     let guard = mutex.lock();
///     s.spawn(|| guard.set(1));
/// });
/// ```
#[must_use = "if unused the mutex is unlocked at once"]
#[clippy::has_significant_drop]
pub struct ReentrantMutexGuard<'a, T: ?Sized> {
    mutex: &'a ReentrantMutex<T>,
    /// Not `Send`: E1.
    _stays: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the value only.
unsafe impl<T: ?Sized + Sync> Sync for ReentrantMutexGuard<'_, T> {}

/// The number of no thread.
const NOBODY: u64 = 0;

/// A number that no other thread of the process has, had or will have.
#[inline]
fn this_thread() -> u64 {
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(NOBODY) };
    }
    #[cold]
    fn next() -> u64 {
        // At one a nanosecond they last for centuries.
        static LAST: AtomicU64 = AtomicU64::new(NOBODY);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        NUMBER.set(number);
        number
    }
    match NUMBER.get() {
        NOBODY => next(),
        number => number,
    }
}

/// The number of the running task on its thread; without a hub, the root's.
#[inline]
fn this_task() -> u64 {
    Hub::get().map_or(ROOT, |hub| hub.current().id)
}

/// Every hub's root has this number.
const ROOT: u64 = 0;

impl<T> ReentrantMutex<T> {
    /// An unlocked mutex around `value`.
    pub const fn new(value: T) -> ReentrantMutex<T> {
        let (thread, task, depth) = (AtomicU64::new(NOBODY), AtomicU64::new(ROOT), AtomicU32::new(0));
        ReentrantMutex { raw: RawMutex::new(), thread, task, depth, value }
    }

    /// The value, of a mutex that nobody else can see any more.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T: ?Sized> ReentrantMutex<T> {
    /// Takes the mutex, again perhaps; waits until it is free and those who came before have had it.
    ///
    /// # Switching
    ///
    /// Yes, if somebody else holds it.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled while it waits leaves the line; if the mutex had just been given to it, the next gets it.
    ///
    /// # Panics
    ///
    /// If the holder has 2³²-1 guards already.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> ReentrantMutexGuard<'_, T> {
        self.enter(|raw| raw.lock(None)).expect("without a deadline only the lock ends the wait")
    }

    /// As [`lock`](Self::lock), but waits no longer than `timeout`.
    ///
    /// # Switching
    ///
    /// Yes, if somebody else holds it.
    ///
    /// # Panics
    ///
    /// If the holder has 2³²-1 guards already.
    ///
    /// # Errors
    ///
    /// [`Elapsed`]; then the mutex was not taken.
    #[inline]
    #[track_caller]
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ReentrantMutexGuard<'_, T>, Elapsed> {
        self.enter(|raw| raw.try_lock() || raw.lock(clock::deadline_after(timeout))).ok_or(Elapsed(()))
    }

    /// Takes the mutex, again perhaps, unless somebody else holds it.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// If the holder has 2³²-1 guards already.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<ReentrantMutexGuard<'_, T>> {
        self.enter(RawMutex::try_lock)
    }

    /// The value, through the only reference there is.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// A guard, if the mutex is the caller's already or `take` takes it.
    #[inline]
    #[track_caller]
    fn enter(&self, take: impl FnOnce(&RawMutex) -> bool) -> Option<ReentrantMutexGuard<'_, T>> {
        let (thread, task) = (this_thread(), this_task());
        // Relaxed, here and below: only our own writing counts (E1).
        if self.thread.load(Ordering::Relaxed) == thread && self.task.load(Ordering::Relaxed) == task {
            let depth = self.depth.load(Ordering::Relaxed).checked_add(1);
            self.depth.store(depth.expect("the mutex is taken too often"), Ordering::Relaxed);
        } else if take(&self.raw) {
            self.task.store(task, Ordering::Relaxed);
            self.thread.store(thread, Ordering::Relaxed);
            self.depth.store(1, Ordering::Relaxed);
        } else {
            return None;
        }
        Some(ReentrantMutexGuard { mutex: self, _stays: PhantomData })
    }
}

impl<T: ?Sized> Deref for ReentrantMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.mutex.value
    }
}

impl<T: ?Sized> Drop for ReentrantMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let mutex = self.mutex;
        let left = mutex.depth.load(Ordering::Relaxed) - 1;
        mutex.depth.store(left, Ordering::Relaxed);
        if left == 0 {
            mutex.thread.store(NOBODY, Ordering::Relaxed);
            mutex.raw.unlock();
        }
    }
}

impl<T: Default> Default for ReentrantMutex<T> {
    fn default() -> ReentrantMutex<T> {
        ReentrantMutex::new(T::default())
    }
}

impl<T> From<T> for ReentrantMutex<T> {
    fn from(value: T) -> ReentrantMutex<T> {
        ReentrantMutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ReentrantMutex");
        match self.try_lock() {
            Some(guard) => out.field("data", &&*guard),
            None => out.field("data", &format_args!("<locked>")),
        };
        out.finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
