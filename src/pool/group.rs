//! `Group`: tasks that are watched together.

#![forbid(unsafe_code)]

use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use std::vec;

use super::crew::Crew;
use crate::clock;
use crate::task::{JoinHandle, Task, spawn};

/// Keeps track of tasks until they end, to wait for them all or to end them all.
///
/// A task that has ended is forgotten by itself. Dropping a group leaves its tasks running. A clone is another handle on
/// the same group. A task can be in several groups.
///
/// For tasks that must not outlive a block of code, or that borrow from it, take a [`scope`](crate::scope()).
///
/// A group belongs to one thread, as its tasks do:
///
/// ```compile_fail
/// let group = greenroom::pool::Group::new();
/// std::thread::spawn(move || group.len());
/// ```
///
/// # Examples
///
/// ```
/// use greenroom::pool::Group;
///
/// let group = Group::new();
/// for _ in 0..3 {
///     group.spawn(|| greenroom::yield_now());
/// }
/// assert_eq!(group.len(), 3);
/// group.join();
/// assert!(group.is_empty());
/// ```
#[derive(Clone)]
pub struct Group {
    crew: Rc<Crew>,
}

impl Group {
    /// A group without tasks.
    pub fn new() -> Group {
        Group { crew: Crew::new(usize::MAX) }
    }

    /// Makes a task of this group: see [`spawn`](crate::spawn).
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn<T: 'static>(&self, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        let handle = spawn(f);
        self.crew.take().enroll(&handle.task());
        handle
    }

    /// Takes a task in, until it ends. One that has ended, or is in already, changes nothing.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// If the task is the root, which never ends.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::pool::Group;
    ///
    /// let group = Group::new();
    /// let named = greenroom::Builder::new().name("named".into()).spawn(|| greenroom::park())?;
    /// group.add(&named);
    /// assert!(group.contains(&named));
    /// group.kill();
    /// assert!(named.is_finished() && group.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn add(&self, task: impl Into<Task>) {
        let task = task.into();
        refuse_root(&task);
        self.crew.take().enroll(&task);
    }

    /// Forgets a task, which goes on. Says whether it was in.
    ///
    /// # Switching
    ///
    /// Never.
    pub fn discard(&self, task: impl Into<Task>) -> bool {
        self.crew.discard(&task.into())
    }

    /// How many tasks are in.
    pub fn len(&self) -> usize {
        self.crew.len()
    }

    /// Whether no task is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a task is in: it was spawned here or added, and has not ended.
    pub fn contains(&self, task: impl Into<Task>) -> bool {
        self.crew.contains(&task.into())
    }

    /// Waits until no task is in.
    ///
    /// Tasks that come in meanwhile are waited for too. A task of the group that calls this waits for the others.
    ///
    /// # Switching
    ///
    /// Yes, unless no task is in.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled leaves nothing behind; the tasks go on.
    #[track_caller]
    pub fn join(&self) {
        self.crew.wait_empty(None);
    }

    /// As [`join`](Self::join), but waits no longer than `timeout`; says whether no task is in.
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.crew.wait_empty(clock::deadline_after(timeout))
    }

    /// Ends all tasks and waits until none is in: see [`Task::kill`]. All are killed before the first is waited for.
    ///
    /// Tasks that come in meanwhile, spawned by those that end perhaps, are killed in their turn. A task of the group that
    /// calls this is killed last.
    ///
    /// # Switching
    ///
    /// Yes, unless no task is in.
    ///
    /// # Cancellation
    ///
    /// If the caller is cancelled while it waits, the tasks still end.
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

    /// The tasks that are in now, in the order in which they were spawned. Those that end meanwhile are left out.
    ///
    /// # Examples
    ///
    /// ```
    /// let group = greenroom::pool::Group::new();
    /// group.spawn(|| greenroom::park());
    /// for task in &group {
    ///     task.unpark();
    /// }
    /// group.join();
    /// ```
    pub fn iter(&self) -> Iter {
        Iter::new(&self.crew)
    }
}

/// One that never ends is never given back.
#[track_caller]
pub(super) fn refuse_root(task: &Task) {
    assert!(!task.header().is_root(), "greenroom: the root, which never ends, cannot be in a group");
}

impl Default for Group {
    fn default() -> Group {
        Group::new()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl IntoIterator for &Group {
    type Item = Task;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        self.iter()
    }
}

/// Iterator over the tasks of a [`Group`] or [`Pool`](super::Pool).
#[derive(Debug)]
pub struct Iter(vec::IntoIter<Task>);

impl Iter {
    pub(super) fn new(crew: &Crew) -> Iter {
        Iter(crew.members().into_iter())
    }
}

impl Iterator for Iter {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        self.0.find(|task| !task.is_finished())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.0.len()))
    }
}
