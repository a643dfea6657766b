//! Tasks: green threads, with the faces of `std::thread` and gevent.

#![deny(unsafe_op_in_unsafe_fn)]

use std::fmt;
use std::io;
use std::panic::Location;
use std::time::{Duration, Instant};

use crate::clock;
use crate::hub::{AnyTask, Header, Hub, Outcome, Reason, Spec, State, TaskRc, TaskRef};
use crate::thread_block;
use crate::waiter::{Clause, End};

mod handle;
mod join;
mod park;
mod remote;
mod run;
mod wait;
mod watch;

pub use handle::JoinHandle;
pub use join::{joinall, killall, try_joinall};
pub use park::{Unparker, idle, park, park_timeout, yield_now};
pub use remote::{HubHandle, RemoteJoinHandle};
pub use run::run;
pub(crate) use wait::for_pointers;
pub use wait::{IWait, Waitable, iwait, wait};
pub(crate) use watch::Watch;

/// A task, without its result: to name it, kill it, unpark it, or watch for its end.
///
/// Clones are cheap. A `Task` does not keep the task's stack: only its books. It stays on its thread, as tasks do:
///
/// ```compile_fail
/// let task = greenroom::current();
/// std::thread::spawn(move || drop(task));
/// ```
#[derive(Clone)]
pub struct Task(AnyTask);

/// A number for each task of a thread, never used again on it. The root is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Makes a task that runs `body`, and gives the handle to wait for it.
///
/// The body runs when the caller next parks, never before. It needs no `Send` and may borrow nothing; a
/// [`scope`](crate::scope()) lifts the latter. Dropping the handle detaches the task.
///
/// # Switching
///
/// Never: the caller goes on.
///
/// # Panics
///
/// If the system gives no memory for a stack, or no poller for the thread's hub; [`Builder::spawn`] returns the error
/// instead.
///
/// # Examples
///
/// ```
/// let answer = greenroom::spawn(|| 6 * 7);
/// assert_eq!(answer.join().unwrap(), 42);
/// ```
#[track_caller]
pub fn spawn<T: 'static>(body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    match Builder::new().spawn(body) {
        Ok(handle) => handle,
        Err(error) => panic!("greenroom: no task can be made: {error}"),
    }
}

/// Makes a task that begins to run after a while.
///
/// Until then it has a stack but costs no time; a kill ends it without running `body`. A `delay` beyond what the clock
/// can express never passes.
///
/// # Switching
///
/// Never.
///
/// # Panics
///
/// As [`spawn`].
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let delay = Duration::from_millis(5);
/// let begun = Instant::now();
/// let later = greenroom::spawn_later(delay, move || begun.elapsed());
/// assert!(later.join().unwrap() >= delay);
/// ```
#[track_caller]
pub fn spawn_later<T: 'static>(delay: Duration, body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    // As good as never, where the clock ends.
    let start = clock::deadline_after(delay)
        .or_else(|| clock::deadline_after(Duration::from_secs(u64::from(u32::MAX))))
        .unwrap_or_else(clock::now);
    match Builder::new().spawn_at(Some(start), body) {
        Ok(handle) => handle,
        Err(error) => panic!("greenroom: no task can be made: {error}"),
    }
}

/// Makes tasks with a name or a stack size of their own.
///
/// # Examples
///
/// ```
/// let worker = greenroom::Builder::new()
///     .name("worker".into())
///     .stack_size(1024 * 1024)
///     .spawn(|| greenroom::current().name().map(String::from))?;
/// assert_eq!(worker.join().unwrap().as_deref(), Some("worker"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder makes nothing until `spawn`"]
pub struct Builder {
    name: Option<Box<str>>,
    stack_size: Option<usize>,
    own_thread_locals: Option<bool>,
    spawned_at: Option<&'static Location<'static>>,
}

impl Builder {
    /// Begins with no name and the default stack size.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the task, for panics and reports. Names need not be unique.
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name.into_boxed_str());
        self
    }

    /// Sets how many bytes of stack the task can use at least; it is rounded up to what the arenas hand out. The default is
    /// 256 KiB. Only pages that are touched cost memory, so that a large stack is cheap until it is used.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Says whether the task is to have thread-locals of its own; else it has those of its thread, as all its other tasks.
    ///
    /// With its own it is a thread in all but the kernel's eyes: every `thread_local!` is its own, new when it begins and destroyed
    /// when its body has ended, before those who join it are woken; so is what `std` keeps in such, the thread's
    /// [`ThreadId`](std::thread::ThreadId) and whether it is [panicking](std::thread::panicking); `errno`, values of
    /// `pthread_key_create`, C's thread-locals, and what a mutex takes the caller for. It costs some 5 KiB of memory.
    ///
    /// A generator that has begun in such a task goes on only there: to ask it for a value elsewhere panics, and
    /// dropped elsewhere it is left as it is, with its stack, for ever. The same holds for a greenlet.
    ///
    /// # Errors
    ///
    /// Where there can be no such tasks, [`spawn`](Self::spawn) and its like give an error of kind
    /// [`Unsupported`](io::ErrorKind::Unsupported) with the reason.
    ///
    /// # Safety
    ///
    /// Tasks may share what is not `Send`, because they are on one thread. What is not `Send` may count on more: that it meets the
    /// same thread-locals wherever it goes. (A cell whose only key is in a thread-local has two keys in two such tasks.) So
    /// what this task shares with other tasks, by what its body captures, by its result, and by whatever they pass on,
    /// is to be `Send`, or not to care in whose thread-locals it is used. Types of std and of this crate do not care.
    ///
    /// # Platform-specific behavior
    ///
    /// On Linux with glibc, linked dynamically, on x86-64 and aarch64; not with a sanitizer. The kernel knows nothing of it: `gettid`
    /// is the hub's thread's, and so are signal masks, priorities, and the name that `pthread_setname_np` gives. A
    /// library that is loaded while such a task lives, and that insists on a place in every thread's block for initialised
    /// thread-locals, finds them zero there.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// thread_local! { static SEEN: Cell<u32> = const { Cell::new(0) }; }
    /// SEEN.set(7);
    /// // SAFETY: nothing is shared with the task.
    /// let builder = unsafe { greenroom::Builder::new().own_thread_locals(true) };
    /// match builder.spawn(|| SEEN.replace(1)) {
    ///     Ok(task) => assert_eq!(task.join().unwrap(), 0),
    ///     Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported),
    /// }
    /// assert_eq!(SEEN.get(), 7);
    /// ```
    #[cfg(feature = "monkey")]
    pub unsafe fn own_thread_locals(mut self, own: bool) -> Builder {
        self.own_thread_locals = Some(own);
        self
    }

    /// Sets where the task counts as spawned, for those who spawn on behalf of others.
    pub(crate) fn spawned_at(mut self, place: &'static Location<'static>) -> Builder {
        self.spawned_at = Some(place);
        self
    }

    /// Makes a task as [`spawn`] does.
    ///
    /// # Errors
    ///
    /// If the system gives no memory for a stack, no guard for it, or no poller for the thread's hub. The body has been
    /// dropped then, and nothing else is left behind.
    #[track_caller]
    pub fn spawn<T: 'static>(self, body: impl FnOnce() -> T + 'static) -> io::Result<JoinHandle<T>> {
        self.spawn_at(None, body)
    }

    #[track_caller]
    fn spawn_at<T: 'static>(
        self,
        start: Option<Instant>,
        body: impl FnOnce() -> T + 'static,
    ) -> io::Result<JoinHandle<T>> {
        // SAFETY: `body` and `T` are 'static.
        let task = unsafe { self.spawn_unchecked(start, body) }?;
        Ok(JoinHandle::new(task))
    }

    #[track_caller]
    fn spec(self) -> Spec {
        Spec {
            name: self.name,
            stack_size: self.stack_size.unwrap_or(crate::stack::DEFAULT_SIZE),
            own_thread_locals: thread_block::wanted(self.own_thread_locals),
            spawned_at: self.spawned_at.unwrap_or(Location::caller()),
        }
    }

    /// Makes a task whose body may borrow.
    ///
    /// # Safety
    ///
    /// What `body` and `T` borrow lives until the task has ended, or for ever.
    #[track_caller]
    pub(crate) unsafe fn spawn_unchecked<T>(
        self,
        start: Option<Instant>,
        body: impl FnOnce() -> T,
    ) -> io::Result<TaskRc<T>> {
        let spec = self.spec();
        // SAFETY: passed on to the caller.
        unsafe { Hub::try_here()?.spawn(spec, start, body) }
    }
}

/// The running task. On a thread's own stack that is its root, which has the number 0 and cannot be killed.
///
/// # Examples
///
/// ```
/// let id = greenroom::spawn(|| greenroom::current().id()).join().unwrap();
/// assert_ne!(id, greenroom::current().id());
/// ```
pub fn current() -> Task {
    Task(Hub::here().current_task())
}

impl Task {
    /// The task without its result.
    pub(crate) fn of<T>(task: &TaskRc<T>) -> Task {
        Task(task.erase())
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        self.0.header()
    }

    /// The task's number.
    pub fn id(&self) -> TaskId {
        TaskId(self.header().id)
    }

    /// The name given by [`Builder::name`], if any.
    pub fn name(&self) -> Option<String> {
        self.header().peek_extra(|extra| extra.name.as_deref().map(String::from)).flatten()
    }

    /// Where the task was spawned. For the root, where its hub was made.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.header().spawned_at
    }

    /// Whether the task has ended; its task-locals have been dropped then.
    pub fn is_finished(&self) -> bool {
        self.header().has_ended()
    }

    /// Ends the task and waits until it has ended.
    ///
    /// The task unwinds at its parking point, on the hub's next pass, so that destructors run; if it has not begun, its body never
    /// runs. Killing twice, or killing a task that has ended, does nothing more. A task that kills itself unwinds at once. The
    /// root cannot be killed: nothing happens.
    ///
    /// The kill is held back while the task is inside [`shield`](crate::shield) or unwinding. Code in the task that catches
    /// the unwind meets it again at its next parking point.
    ///
    /// # Switching
    ///
    /// Yes, unless the task has ended.
    ///
    /// # Cancellation
    ///
    /// If the caller is cancelled while it waits, the target still ends.
    ///
    /// # Panics
    ///
    /// In a program built with `panic = "abort"`, if the task has begun: there is no unwinding that could end it.
    #[track_caller]
    pub fn kill(&self) {
        self.kill_until(None);
    }

    /// As [`kill`](Self::kill), but waits no longer than `timeout`. Says whether the task has ended; if not, it will at its
    /// next parking point.
    ///
    /// # Panics
    ///
    /// As [`kill`](Self::kill).
    #[track_caller]
    pub fn kill_timeout(&self, timeout: Duration) -> bool {
        self.kill_until(clock::deadline_after(timeout))
    }

    /// As [`kill`](Self::kill), but does not wait. A task that kills itself this way goes on to its next parking point.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// As [`kill`](Self::kill).
    #[track_caller]
    pub fn kill_nowait(&self) {
        let header = self.header();
        if header.has_ended() || header.is_root() {
            return;
        }
        if cfg!(panic = "abort") && header.state.get() == State::Started {
            panic!("{NO_KILL}");
        }
        // A hub that is gone has left its tasks as they are, for ever.
        if let Some(hub) = Hub::get() {
            hub.kill(header);
        }
    }

    #[track_caller]
    fn kill_until(&self, deadline: Option<Instant>) -> bool {
        let header = self.header();
        if header.has_ended() || header.is_root() {
            return header.has_ended();
        }
        self.kill_nowait();
        let hub = Hub::here();
        if hub.current() == TaskRef::from_header(header) {
            // Raised here, unless it is held back; then it comes later.
            hub.attend(header);
            return false;
        }
        self.wait_until(deadline)
    }

    /// Waits for the task's end, whatever its result. Says whether it came before the deadline.
    #[track_caller]
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> bool {
        wait_for_end(self.header(), deadline)
    }

    /// Runs `f` in a task of its own once this task has ended; at once, if it has.
    ///
    /// Several run in the order in which they were given. Dropping the returned [`Link`] does not take it back;
    /// [`Link::unlink`] does.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    ///
    /// let ended = Rc::new(Cell::new(false));
    /// let (work, seen) = (greenroom::spawn(|| ()), ended.clone());
    /// work.task().link(move |task| seen.set(task.is_finished()));
    /// work.join().unwrap();
    /// greenroom::yield_now();
    /// assert!(ended.get());
    /// ```
    #[track_caller]
    pub fn link(&self, f: impl FnOnce(&Task) + 'static) -> Link {
        let watched = self.clone();
        let linked = move || {
            spawn(move || f(&watched));
        };
        let key = if self.is_finished() {
            linked();
            None
        } else {
            Some(self.watch(Box::new(linked)))
        };
        Link { task: self.clone(), key }
    }

    /// Has `f` called at the task's end, on the task's stack: not for code of the user's. Gives the key to take it back.
    pub(crate) fn watch(&self, f: Box<dyn FnOnce()>) -> u64 {
        self.header().with_extra(|extra| {
            extra.last_watcher += 1;
            extra.watchers.push((extra.last_watcher, f));
            extra.last_watcher
        })
    }

    pub(crate) fn unwatch(&self, key: u64) -> bool {
        let taken = self.header().peek_extra(|extra| {
            let place = extra.watchers.iter().position(|(other, _)| *other == key)?;
            Some(extra.watchers.remove(place))
        });
        // Dropped outside: what the closure owns is the user's.
        taken.flatten().is_some()
    }
}

/// Waits for the end of a task that the caller keeps alive. Says whether it came before the deadline.
#[inline]
#[track_caller]
fn wait_for_end(header: &Header, deadline: Option<Instant>) -> bool {
    while !header.has_ended() {
        let hub = Hub::here();
        assert!(hub.current() != TaskRef::from_header(header), "a task cannot wait for its own end");
        let waiter = hub.arm(Clause(0));
        let outcome = header.joiners.while_linked(waiter, End::Back, || hub.park(Reason::Join(header.id), deadline));
        if outcome == Outcome::Elapsed {
            return header.has_ended();
        }
    }
    true
}

/// Where a handle is asked for what a poll of it has given.
const TAKEN: &str = "greenroom: a task's result is given once, and a poll of its handle has given it already";

/// Why there is no kill where nothing unwinds (rule 11).
const NO_KILL: &str = "greenroom: a task that has begun can only be killed by unwinding, and this program is built with panic = \"abort\"";

/// What [`Task::link`] gives: the means to take the link back.
#[derive(Debug)]
pub struct Link {
    task: Task,
    key: Option<u64>,
}

impl Link {
    /// Takes the link back; says whether that was in time.
    pub fn unlink(self) -> bool {
        self.key.is_some_and(|key| self.task.unwatch(key))
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id().0).field("name", &self.name()).finish_non_exhaustive()
    }
}

impl PartialEq for Task {
    fn eq(&self, other: &Task) -> bool {
        std::ptr::eq(self.header(), other.header())
    }
}

impl Eq for Task {}

impl From<&Task> for Task {
    fn from(task: &Task) -> Task {
        task.clone()
    }
}

impl<T> From<&JoinHandle<T>> for Task {
    fn from(handle: &JoinHandle<T>) -> Task {
        handle.task()
    }
}
