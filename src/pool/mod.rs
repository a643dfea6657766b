//! Tasks that are counted: groups, and pools of so many at most.
//!
//! ```
//! use greenroom::pool::Pool;
//!
//! let pool = Pool::new(10);
//! let pages = ["one", "two", "three"];
//! let lengths = pool.map(&pages, |page| {
//!     greenroom::yield_now(); // fetches the page
//!     page.len()
//! });
//! assert_eq!(lengths, [3, 3, 5]);
//! ```

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{Location, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::JoinError;
use crate::scope::{ScopedJoinHandle, scope};
use crate::task::{Builder, JoinHandle, Task, spawn};

mod crew;
mod group;
mod imap;

pub use group::{Group, Iter};
pub use imap::IMap;

use crew::{Coming, Crew, Slot};

/// Runs so many tasks at once, and no more: who spawns another waits until one has ended.
///
/// Those who wait get their slots in the order in which they came. A slot is free again when its task has ended, whatever way, and
/// with everything that the task had dropped. Dropping a pool leaves its tasks running. A clone is another handle on the
/// same pool. A pool belongs to one thread, as its tasks do.
///
/// A task of the pool that spawns into it while it is full waits too, and keeps its own slot meanwhile; if all do so, nothing
/// moves any more. [`apply`](Self::apply), [`map`](Self::map) and [`imap`](Self::imap) never do that: called by a task of the pool
/// they make do with the slot it has.
///
/// # Examples
///
/// ```
/// use greenroom::pool::Pool;
///
/// let pool = Pool::new(2);
/// for _ in 0..10 {
///     pool.spawn(|| greenroom::yield_now()); // from the third on this waits
///     assert!(pool.len() <= 2);
/// }
/// pool.join();
/// assert_eq!(pool.free_count(), 2);
/// ```
#[derive(Clone)]
pub struct Pool {
    crew: Rc<Crew>,
}

/// Making tasks.
impl Pool {
    /// A pool of `size` slots. One without slots never runs anything.
    pub fn new(size: usize) -> Pool {
        Pool { crew: Crew::new(size) }
    }

    /// Waits for a slot and makes a task in it: see [`spawn`].
    ///
    /// # Switching
    ///
    /// Yes, if the pool is full.
    ///
    /// # Cancellation
    ///
    /// If the caller is cancelled while it waits, nothing is spawned, and a slot that it had been given goes to the next.
    ///
    /// # Panics
    ///
    /// As [`spawn`]. If the pool is full and nothing can ever make room (the report names every task).
    #[track_caller]
    pub fn spawn<T: 'static>(&self, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        start(self.crew.take(), f)
    }

    /// As [`spawn`](Self::spawn), for those who choose name and stack and go on where no task can be made.
    pub(crate) fn spawn_with<T: 'static>(
        &self,
        builder: Builder,
        f: impl FnOnce() -> T + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let slot = self.crew.take();
        let handle = builder.spawn(f)?;
        slot.enroll(&handle.task());
        Ok(handle)
    }

    /// Makes a task if a slot is free.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// As [`spawn`].
    ///
    /// # Errors
    ///
    /// [`PoolFull`], with `f`.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::pool::Pool::new(1);
    /// let first = pool.try_spawn(|| "first").unwrap();
    /// let second = pool.try_spawn(|| "second").unwrap_err().0;
    /// first.join().unwrap();
    /// assert_eq!(pool.try_spawn(second).unwrap().join().unwrap(), "second");
    /// ```
    #[track_caller]
    pub fn try_spawn<T: 'static, F: FnOnce() -> T + 'static>(&self, f: F) -> Result<JoinHandle<T>, PoolFull<F>> {
        match self.crew.try_take() {
            Some(slot) => Ok(start(slot, f)),
            None => Err(PoolFull(f)),
        }
    }

    /// As [`spawn`](Self::spawn), but waits no longer than `timeout` for a slot.
    ///
    /// # Errors
    ///
    /// [`PoolFull`], with `f`, if the time ran out.
    #[track_caller]
    pub fn spawn_timeout<T: 'static, F: FnOnce() -> T + 'static>(
        &self,
        timeout: Duration,
        f: F,
    ) -> Result<JoinHandle<T>, PoolFull<F>> {
        match self.crew.take_until(clock::deadline_after(timeout)) {
            Some(slot) => Ok(start(slot, f)),
            None => Err(PoolFull(f)),
        }
    }

    /// Waits for a slot and takes a task in, until it ends. One that has ended by then, or is in already, changes nothing.
    ///
    /// # Switching
    ///
    /// Yes, if the pool is full.
    ///
    /// # Cancellation
    ///
    /// As [`spawn`](Self::spawn): the task stays out.
    ///
    /// # Panics
    ///
    /// If the task is the root, which never ends.
    #[track_caller]
    pub fn add(&self, task: impl Into<Task>) {
        let task = task.into();
        group::refuse_root(&task);
        if !task.is_finished() && !self.crew.contains(&task) {
            self.crew.take().enroll(&task);
        }
    }

    /// Forgets a task, which goes on, and gives its slot back. Says whether it was in.
    ///
    /// # Switching
    ///
    /// Never.
    pub fn discard(&self, task: impl Into<Task>) -> bool {
        self.crew.discard(&task.into())
    }

    /// Runs `f` in a task of the pool and waits for its result. `f` may borrow.
    ///
    /// Called by a task of this pool, it runs `f` right there: it can be nested, and waits for no slot.
    ///
    /// # Switching
    ///
    /// Yes; in a task of this pool, as `f` does.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled ends the task, and waits for its end before it unwinds.
    ///
    /// # Panics
    ///
    /// With the payload of `f`'s panic. If the task was killed: [`apply_async`](Self::apply_async) gives an error instead. As
    /// [`spawn`](Self::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::pool::Pool::new(1);
    /// let name = String::from("lent");
    /// assert_eq!(pool.apply(|| pool.apply(|| name.len())), 4);
    /// ```
    #[track_caller]
    pub fn apply<T>(&self, f: impl FnOnce() -> T) -> T {
        if self.crew.has_current() {
            return f();
        }
        let (slot, builder) = (self.crew.take(), builder_here());
        scope(|s| {
            let task = made(builder.spawn_scoped(s, f));
            slot.enroll(&task.task());
            value_of(task)
        })
    }

    /// Makes a task that runs `f` in the pool, and does not wait: in a full pool it is the task that does.
    ///
    /// It stands in line from its first turn on, and until it has its slot it is not in the pool, so that [`kill`](Self::kill)
    /// does not reach it; [`join`](Self::join) waits for it all the same.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// As [`spawn`].
    #[track_caller]
    pub fn apply_async<T: 'static>(&self, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        if let Some(slot) = self.crew.try_take() {
            return start(slot, f);
        }
        let coming = Coming::new(&self.crew);
        spawn(move || {
            coming.arrive();
            f()
        })
    }

    /// Runs `f` on every item, each in a task of the pool, and gives the results in the order of the items. `f`, the items
    /// and the results may borrow.
    ///
    /// The items are taken by the caller, each when the one before has its slot. Called by a task of this pool, it runs
    /// those for which no slot is free right there: it can be nested.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled ends the tasks, and waits for their ends before it unwinds.
    ///
    /// # Panics
    ///
    /// As [`scope`](crate::scope()): the first panic, of `f` or of `items`, kills the rest and, once all have ended, resumes
    /// here. Likewise if one of the tasks was killed. [`imap`](Self::imap) gives each item's error at its place instead. As
    /// [`spawn`](Self::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// let names = vec![String::from("a"), String::from("bc")];
    /// let lengths = greenroom::pool::Pool::new(2).map(&names, |name| name.len());
    /// assert_eq!(lengths, [1, 2]);
    /// ```
    #[track_caller]
    pub fn map<I: IntoIterator, R>(&self, items: I, f: impl Fn(I::Item) -> R) -> Vec<R> {
        enum Outcome<'scope, R> {
            Here(R),
            Task(ScopedJoinHandle<'scope, R>),
        }

        impl<R> Outcome<'_, R> {
            fn is_there(&self) -> bool {
                match self {
                    Outcome::Here(_) => true,
                    Outcome::Task(task) => task.is_finished(),
                }
            }

            #[track_caller]
            fn value(self) -> R {
                match self {
                    Outcome::Here(value) => value,
                    Outcome::Task(task) => value_of(task),
                }
            }
        }

        let (f, inside, builder) = (&f, self.crew.has_current(), builder_here());
        scope(|s| {
            let (mut values, mut outcomes) = (Vec::new(), VecDeque::new());
            for item in items {
                let slot = if inside { self.crew.try_take() } else { Some(self.crew.take()) };
                // Those that are done give their memory to those that come: a task's block holds its result.
                while let Some(outcome) = outcomes.pop_front_if(|outcome: &mut Outcome<'_, R>| outcome.is_there()) {
                    values.push(outcome.value());
                }
                outcomes.push_back(match slot {
                    Some(slot) => {
                        let task = made(builder.clone().spawn_scoped(s, move || f(item)));
                        slot.enroll(&task.task());
                        Outcome::Task(task)
                    }
                    None => Outcome::Here(f(item)),
                });
            }
            values.extend(outcomes.into_iter().map(Outcome::value));
            values
        })
    }

    /// Runs `f` on every item, each in a task of the pool, and gives the results one by one, in the order of the items: see
    /// [`IMap`].
    ///
    /// It may be forgotten while tasks run, so nothing may be borrowed:
    ///
    /// ```compile_fail
    /// let pool = greenroom::pool::Pool::new(2);
    /// let names = vec![String::from("a")];
    /// let lengths = pool.imap(&names, |name: &String| name.len());
    /// ```
    ///
    /// # Switching
    ///
    /// Never; the iterator does.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::pool::Pool::new(2);
    /// let mut tenths = pool.imap([5, 0, 2], |n| 10_u32.checked_div(n).expect("not by zero"));
    /// assert_eq!(tenths.next().unwrap().unwrap(), 2);
    /// assert!(tenths.next().unwrap().unwrap_err().is_panicked());
    /// assert_eq!(tenths.next().unwrap().unwrap(), 5);
    /// assert!(tenths.next().is_none());
    /// ```
    #[track_caller]
    pub fn imap<I, R>(&self, items: I, f: impl Fn(I::Item) -> R + 'static) -> IMap<R>
    where
        I: IntoIterator<IntoIter: 'static>,
        R: 'static,
    {
        IMap::new(self.clone(), builder_here(), true, items.into_iter(), f)
    }

    /// As [`imap`](Self::imap), but gives the results in the order in which the tasks end.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = greenroom::pool::Pool::new(2);
    /// let order = pool.imap_unordered([3, 1], |turns| {
    ///     (0..turns).for_each(|_| greenroom::yield_now());
    ///     turns
    /// });
    /// assert_eq!(order.map(Result::unwrap).collect::<Vec<_>>(), [1, 3]);
    /// ```
    #[track_caller]
    pub fn imap_unordered<I, R>(&self, items: I, f: impl Fn(I::Item) -> R + 'static) -> IMap<R>
    where
        I: IntoIterator<IntoIter: 'static>,
        R: 'static,
    {
        IMap::new(self.clone(), builder_here(), false, items.into_iter(), f)
    }
}

/// Its tasks and slots.
impl Pool {
    /// How many tasks can be in at once.
    pub fn size(&self) -> usize {
        self.crew.size()
    }

    /// Changes how many tasks can be in at once. With a larger size, those who wait get slots at once; with a smaller one, no
    /// task is ended, and the surplus goes as tasks end.
    pub fn set_size(&self, size: usize) {
        self.crew.resize(size);
    }

    /// How many slots are free. Not free is one that somebody in line was given, who has not run since.
    pub fn free_count(&self) -> usize {
        self.crew.free()
    }

    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        self.free_count() == 0
    }

    /// How many tasks are in.
    pub fn len(&self) -> usize {
        self.crew.len()
    }

    /// Whether no task is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a task is in, and has not ended.
    pub fn contains(&self, task: impl Into<Task>) -> bool {
        self.crew.contains(&task.into())
    }

    /// The tasks that are in now: see [`Group::iter`].
    pub fn iter(&self) -> Iter {
        Iter::new(&self.crew)
    }

    /// Waits until a slot is free. It is not taken: by the time of the next parking point another may have it.
    ///
    /// # Switching
    ///
    /// Yes, if the pool is full.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled leaves nothing behind.
    #[track_caller]
    pub fn wait_available(&self) {
        self.crew.wait_free(None);
    }

    /// As [`wait_available`](Self::wait_available), but waits no longer than `timeout`; says whether a slot is free.
    #[track_caller]
    pub fn wait_available_timeout(&self, timeout: Duration) -> bool {
        self.crew.wait_free(clock::deadline_after(timeout))
    }

    /// Waits until all slots are free: see [`Group::join`]. Those who stand in line for a slot are waited for too.
    #[track_caller]
    pub fn join(&self) {
        self.crew.wait_empty(None);
    }

    /// As [`join_timeout`](Self::join_timeout), with a deadline.
    #[track_caller]
    pub(crate) fn join_until(&self, deadline: Option<Instant>) -> bool {
        self.crew.wait_empty(deadline)
    }

    /// As [`join`](Self::join), but waits no longer than `timeout`; says whether all slots are free.
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.crew.wait_empty(clock::deadline_after(timeout))
    }

    /// Ends all tasks and waits until none is in: see [`Group::kill`]. Those who stand in line for a slot go on; what they spawn
    /// before this returns is killed.
    ///
    /// # Panics
    ///
    /// As [`Task::kill`].
    #[track_caller]
    pub fn kill(&self) {
        self.crew.kill_until(None);
    }

    /// As [`kill`](Self::kill), but waits no longer than `timeout`; says whether no task is in.
    #[track_caller]
    pub fn kill_timeout(&self, timeout: Duration) -> bool {
        self.crew.kill_until(clock::deadline_after(timeout))
    }

    /// Ends the tasks that are in now, without waiting: see [`Task::kill_nowait`].
    #[track_caller]
    pub fn kill_nowait(&self) {
        self.crew.kill_nowait();
    }
}

/// Makes tasks that count as spawned by the caller of the pool.
#[track_caller]
fn builder_here() -> Builder {
    Builder::new().spawned_at(Location::caller())
}

fn made<T>(task: io::Result<T>) -> T {
    task.unwrap_or_else(|error| panic!("greenroom: no task can be made: {error}"))
}

/// Makes a task in a slot; if it cannot be made, the slot is given back.
#[track_caller]
fn start<T: 'static>(slot: Slot, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    let handle = spawn(f);
    slot.enroll(&handle.task());
    handle
}

/// What a task of a scope gives to the caller of the scope, which ends otherwise.
#[track_caller]
fn value_of<T>(task: ScopedJoinHandle<'_, T>) -> T {
    match task.join() {
        Ok(value) => value,
        Err(JoinError::Killed) => panic!("greenroom: a task of a pool was killed before it had its result"),
        // Met only where the scope cannot unwind its caller; it has the payload.
        Err(JoinError::Panicked(message)) => resume_unwind(message),
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Pool");
        out.field("size", &self.size()).field("free", &self.free_count()).finish_non_exhaustive()
    }
}

impl IntoIterator for &Pool {
    type Item = Task;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        self.iter()
    }
}

/// No slot was free, in time: the closure, which was not run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PoolFull<F>(pub F);

impl<F> fmt::Debug for PoolFull<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolFull").finish_non_exhaustive()
    }
}

impl<F> fmt::Display for PoolFull<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no slot of the pool is free")
    }
}

impl<F> Error for PoolFull<F> {}
