//! Threads that are tasks (rule 30).
//!
//! What `pthread_self` names is the task's thread block, so that is a thread's name here too. The block is not used again before the
//! thread has been joined, or has ended detached.
//!
//! - A signal for such a thread goes to the native thread that runs it. It cannot be cancelled by `pthread_cancel` (`ENOSYS`).
//! - `pthread_exit` in it unwinds its stack, with Rust's destructors, and C's where it was compiled for that. So it does in any task.
//! - When its hub ends, as that of a native thread does with the thread, it is killed like any other task.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{c_char, c_int, c_void, pthread_attr_t, pthread_t, size_t};

use super::gate::{enclosed, patched};
use super::parking::Until;
use super::symbol::{Original, interpose};
use super::{Areas, gate};
use crate::hub::{Hub, Reason};
use crate::lock::{Lock, is_steady, steady};
use crate::promise::Promise;
use crate::task::Builder;
use crate::thread_block::{Block, identity};
use crate::{offload, sys};

unsafe extern "C" {
    fn pthread_attr_getdetachstate(attributes: *const pthread_attr_t, state: *mut c_int) -> c_int;
}

/// What a thread runs. It may unwind out of it: by `pthread_exit`.
type Start = extern "C-unwind" fn(*mut c_void) -> *mut c_void;

interpose! {
    fn pthread_create(
        thread: *mut pthread_t,
        attributes: *const pthread_attr_t,
        start: Start,
        argument: *mut c_void,
    ) -> c_int, all THREAD => thread_create;
    fn pthread_detach(thread: pthread_t) -> c_int, all THREAD => thread_detach;
    fn pthread_kill(thread: pthread_t, signal: c_int) -> c_int, all THREAD => thread_kill;
    fn pthread_cancel(thread: pthread_t) -> c_int, always => thread_cancel;
    fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int, all THREAD => thread_setname;
    fn pthread_getname_np(thread: pthread_t, name: *mut c_char, size: size_t) -> c_int, all THREAD => thread_getname;
    fn sched_yield() -> c_int, SYNC => thread_yield;
}

/// A thread that is a task.
pub(super) struct Thread {
    block: Block,
    /// The native thread that runs it.
    kernel: c_int,
    value: AtomicUsize,
    end: Promise<()>,
    stage: Lock<Stage>,
    name: Lock<Option<CString>>,
}

// SAFETY: of the block only its name and its keeper are used, which is for any thread.
unsafe impl Sync for Thread {}
// SAFETY: as above.
unsafe impl Send for Thread {}

/// What is to become of its books.
#[derive(Default)]
struct Stage {
    is_detached: bool,
    /// Somebody waits for it, or has.
    is_joined: bool,
    has_ended: bool,
}

/// All that have not been joined, and not ended detached.
static THREADS: Lock<BTreeMap<pthread_t, Arc<Thread>>> = Lock::new(BTreeMap::new());

/// What `pthread_exit` unwinds with.
struct Exit(usize);

/// What a thread that was killed has for a value: `PTHREAD_CANCELED`.
const KILLED: usize = usize::MAX;

/// A name with its zero.
const LONGEST_NAME: usize = 16;

const JOIN: Reason = Reason::Other(&"the end of a thread");

impl Thread {
    /// The thread of that name, if it is a task.
    pub(super) fn named(name: pthread_t) -> Option<Arc<Thread>> {
        if !patched().contains(Areas::THREAD) {
            return None;
        }
        THREADS.lock().get(&name).cloned()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_kept()
    }

    /// Waits for its end; gives its value. Nothing cancels that.
    pub(super) fn join(&self, name: pthread_t, until: Option<Until>) -> Result<usize, c_int> {
        // SAFETY: no precondition.
        if unsafe { libc::pthread_self() } == name {
            return Err(libc::EDEADLK);
        }
        let mut stage = self.stage.lock();
        if stage.is_detached || stage.is_joined {
            return Err(libc::EINVAL);
        }
        stage.is_joined = true;
        drop(stage);
        if !self.wait(until) {
            self.stage.lock().is_joined = false;
            return Err(libc::ETIMEDOUT);
        }
        self.forget(name);
        Ok(self.value.load(Ordering::Acquire))
    }

    fn wait(&self, until: Option<Until>) -> bool {
        let wait = |deadline| match Hub::get() {
            Some(hub) => {
                let done = enclosed(hub, || hub.uncancelled(|| self.end.wait_until(JOIN, deadline, |()| ())));
                // Only a deadlock could be raised, and while somebody is at work there is none.
                done.unwrap_or_else(|_| std::process::abort()).is_some()
            }
            None => self.end.wait_until(JOIN, deadline, |()| ()).is_some(),
        };
        let Some(until) = until else { return wait(None) };
        while let Some(deadline) = until.deadline() {
            if wait(Some(deadline)) {
                return true;
            }
        }
        self.has_ended()
    }

    /// The thread has ended, and its thread-locals have gone.
    fn ends(&self, name: pthread_t) {
        let kept = self.end.keep(());
        debug_assert!(kept.is_ok(), "a thread ends once");
        let mut stage = self.stage.lock();
        stage.has_ended = true;
        let is_left = stage.is_detached;
        drop(stage);
        if is_left {
            self.forget(name);
        }
    }

    fn detach(&self, name: pthread_t) -> c_int {
        let mut stage = self.stage.lock();
        if stage.is_detached || stage.is_joined {
            return libc::EINVAL;
        }
        stage.is_detached = true;
        let has_ended = stage.has_ended;
        drop(stage);
        if has_ended {
            self.forget(name);
        }
        0
    }

    /// Its name may be another's from now on.
    fn forget(&self, name: pthread_t) {
        let known = THREADS.lock().remove(&name);
        self.block.release();
        drop(known);
    }
}

/// The hub whose task a new thread of the caller's is to be.
fn maker() -> Option<&'static Hub> {
    if is_steady() || !Hub::can_park() || offload::on_worker() {
        return None;
    }
    match Hub::get() {
        Some(hub) => Some(hub),
        None if sys::is_main_thread() => Hub::try_here().ok(),
        None => None,
    }
}

/// What is asked for in a thread's attributes.
struct Wishes {
    stack_size: usize,
    is_detached: bool,
}

impl Wishes {
    /// `None` if they can only be had by a native thread: one on a stack of the caller's.
    ///
    /// # Safety
    ///
    /// The attributes are null or good.
    unsafe fn of(attributes: *const pthread_attr_t) -> Option<Wishes> {
        let mut own = MaybeUninit::uninit();
        let attributes = if attributes.is_null() {
            // SAFETY: fills it.
            unsafe { libc::pthread_attr_init(own.as_mut_ptr()) };
            own.as_ptr()
        } else {
            attributes
        };
        let (mut start, mut size, mut state) = (ptr::null_mut(), 0, 0);
        // SAFETY: good attributes, and places that are alive.
        unsafe { libc::pthread_attr_getstack(attributes, &raw mut start, &raw mut size) };
        // Without a stack, the C library takes the size off nothing.
        if !start.wrapping_byte_add(size).is_null() {
            return None;
        }
        // SAFETY: as above.
        unsafe { libc::pthread_attr_getstacksize(attributes, &raw mut size) };
        // SAFETY: as above.
        unsafe { pthread_attr_getdetachstate(attributes, &raw mut state) };
        Some(Wishes { stack_size: size, is_detached: state == libc::PTHREAD_CREATE_DETACHED })
    }
}

unsafe fn thread_create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: passed on to the caller.
    let native = || unsafe { original::pthread_create(thread, attributes, start, argument) };
    let Some(hub) = maker() else { return native() };
    // SAFETY: as above.
    let Some(wishes) = (unsafe { Wishes::of(attributes) }) else { return native() };
    if crate::thread_block::supported().is_err() {
        return native();
    }
    let made = enclosed(hub, || {
        let _steady = steady();
        make(wishes, start, argument)
    });
    match made {
        Ok(Some(name)) => {
            // SAFETY: passed on to the caller.
            unsafe { *thread = name };
            0
        }
        Ok(None) | Err(_) => libc::EAGAIN,
    }
}

/// Makes the task; gives the thread's name.
fn make(wishes: Wishes, start: Start, argument: *mut c_void) -> Option<pthread_t> {
    let body = move || run(start, argument);
    // SAFETY: who makes a thread gives it only what it may use on another thread.
    let builder = unsafe { Builder::new().stack_size(wishes.stack_size).own_thread_locals(true) };
    let handle = builder.spawn(body).ok()?;
    let task = handle.task();
    let header = task.header();
    let block = header.thread_block.get()?;
    block.keep();
    let name = block.name() as pthread_t;
    // SAFETY: no precondition.
    let kernel = unsafe { libc::gettid() };
    let record = Arc::new(Thread {
        block,
        kernel,
        value: AtomicUsize::new(KILLED),
        end: Promise::new(),
        stage: Lock::new(Stage { is_detached: wishes.is_detached, ..Stage::default() }),
        name: Lock::new(None),
    });
    let known = record.clone();
    let old = THREADS.lock().insert(name, record);
    debug_assert!(old.is_none(), "a block is not used again before its thread is forgotten");
    header.with_extra(|extra| extra.is_thread = true);
    // After its thread-locals have gone.
    task.watch(Box::new(move || known.ends(name)));
    Some(name)
}

/// A thread's life.
fn run(start: Start, argument: *mut c_void) {
    let ended = catch_unwind(AssertUnwindSafe(|| start(argument)));
    let value = match ended {
        Ok(value) => value.expose_provenance(),
        Err(payload) => match payload.downcast::<Exit>() {
            Ok(exit) => exit.0,
            Err(other) => resume_unwind(other),
        },
    };
    // SAFETY: no precondition.
    if let Some(thread) = Thread::named(unsafe { libc::pthread_self() }) {
        thread.value.store(value, Ordering::Release);
    }
}

unsafe fn thread_detach(thread: pthread_t) -> c_int {
    match Thread::named(thread) {
        Some(task) => task.detach(thread),
        // SAFETY: passed on to the caller.
        None => unsafe { original::pthread_detach(thread) },
    }
}

unsafe fn thread_kill(thread: pthread_t, signal: c_int) -> c_int {
    let Some(task) = Thread::named(thread) else {
        // SAFETY: passed on to the caller.
        return unsafe { original::pthread_kill(thread, signal) };
    };
    if task.has_ended() {
        return 0;
    }
    let saved = gate::errno();
    // SAFETY: no precondition.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), task.kernel, signal) };
    let number = gate::errno();
    gate::set_errno(saved);
    if sent == 0 { 0 } else { number }
}

/// Whatever is patched, for a task that asks it of itself: the C library's own way off its stack leads astray.
unsafe fn thread_cancel(thread: pthread_t) -> c_int {
    // SAFETY: no precondition.
    let is_task = || identity() != 0 && unsafe { libc::pthread_self() } == thread;
    if is_task() || Thread::named(thread).is_some() {
        return libc::ENOSYS;
    }
    // SAFETY: passed on to the caller.
    unsafe { original::pthread_cancel(thread) }
}

unsafe fn thread_setname(thread: pthread_t, name: *const c_char) -> c_int {
    let Some(task) = Thread::named(thread) else {
        // SAFETY: passed on to the caller.
        return unsafe { original::pthread_setname_np(thread, name) };
    };
    // SAFETY: passed on to the caller: a string.
    let name = unsafe { CStr::from_ptr(name) };
    if name.count_bytes() >= LONGEST_NAME {
        return libc::ERANGE;
    }
    let old = task.name.lock().replace(name.into());
    drop(old);
    if let Some(hub) = Hub::get()
        // SAFETY: no precondition.
        && unsafe { libc::pthread_self() } == thread
    {
        // For reports.
        let name = name.to_string_lossy().into();
        hub.current().with_extra(|extra| extra.name = Some(name));
    }
    0
}

unsafe fn thread_getname(thread: pthread_t, name: *mut c_char, size: size_t) -> c_int {
    let Some(task) = Thread::named(thread) else {
        // SAFETY: passed on to the caller.
        return unsafe { original::pthread_getname_np(thread, name, size) };
    };
    if size < LONGEST_NAME {
        return libc::ERANGE;
    }
    let known = task.name.lock().clone();
    match known {
        Some(known) => {
            let bytes = known.as_bytes_with_nul();
            // SAFETY: the caller says that so many bytes fit, and names are shorter than that.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), name, bytes.len()) };
        }
        // SAFETY: writes no more bytes than that. A new thread has its maker's name.
        None => unsafe {
            libc::prctl(libc::PR_GET_NAME, name);
        },
    }
    0
}

/// Who gives the processor away waits for somebody, who may be a task of this thread, or not.
unsafe fn thread_yield(hub: &'static Hub) -> c_int {
    if hub.is_at_rest() {
        // Nothing is raised.
        let _nothing = enclosed(hub, || hub.uncancelled(|| hub.yield_now()));
    }
    // SAFETY: no precondition.
    unsafe { original::sched_yield() }
}

/// Ends the calling thread; a task that is none ends as if it was killed, whatever is patched: the C library's own way off a stack that is
/// not the thread's leads astray.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_exit(value: *mut c_void) -> ! {
    static ORIGINAL: Original = Original::new(c"pthread_exit");
    if patched().contains(Areas::THREAD) {
        // SAFETY: no precondition.
        if Thread::named(unsafe { libc::pthread_self() }).is_some() {
            resume_unwind(Box::new(Exit(value.expose_provenance())));
        }
        if let Some(hub) = Hub::get()
            && hub.current().is_root()
        {
            // The others go on until they end, and so do those that they make.
            while let Some(task) = hub.tasks().into_iter().find(|task| !task.header().has_ended()) {
                if enclosed(hub, || hub.join_for_good(task.header())).is_err() {
                    // A deadlock, and reported.
                    break;
                }
            }
        }
    }
    if let Some(hub) = Hub::get()
        && !hub.current().is_root()
        && hub.can_switch()
    {
        hub.leave();
    }
    // SAFETY: the function of this name has this type.
    let original =
        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C-unwind" fn(*mut c_void) -> !>(ORIGINAL.get()) };
    // SAFETY: passed on to the caller.
    unsafe { original(value) }
}
