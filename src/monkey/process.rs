//! Child processes: `waitpid` and its like, `system`, `pclose`, `fork`.
//!
//! A wait looks first (`WNOHANG`), and what the look gives is the answer. Else the task parks, and looks again:
//!
//! - for the end of one child, on a pidfd in the hub's poller;
//! - for any child, for a group, for stops and continuations, which no descriptor tells of, until a native thread has seen that there is
//!   something (`WNOWAIT`: it takes nothing). All that wait for the same share one thread. It stays, if they are killed, until there is
//!   something or no child is left.
//!
//! No handler of `SIGCHLD` is needed, and none is there. No signal ends such a wait early.
//!
//! `system` and `pclose` wait inside the C library, so the whole call is made on a native thread: what `system` does to signals
//! it does to the process (`SIGINT`, `SIGQUIT`) and to that thread (`SIGCHLD`). A caller that is killed gets `ECANCELED`, and the call goes on.
//!
//! `fork` is that of [`os`](crate::os::fork) on every thread that has a hub, and with other areas patched the original, made on the
//! thread's own block, as are `daemon` and `forkpty`, whose child must not use the hub. `vfork`, `posix_spawn`, `popen` and `exec` are the
//! originals, for they hardly wait. So is `_Fork`, which is for signal handlers.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use libc::{FILE, c_char, c_int, id_t, idtype_t, pid_t, rusage, siginfo_t, termios, winsize};

use super::Areas;
use super::gate::{Errno, enclosed, errno, patched, report};
use super::symbol::interpose;
use crate::hub::{Hub, Reason};
use crate::io::{Direction, Source};
use crate::lock::Lock;
use crate::offload::ThreadPool;
use crate::promise::Promise;
use crate::sys;
use crate::thread_block;

interpose! {
    fn wait(status: *mut c_int) -> pid_t, PROCESS => process_wait;
    fn waitpid(child: pid_t, status: *mut c_int, options: c_int) -> pid_t, PROCESS => process_waitpid;
    fn __wait(status: *mut c_int) -> pid_t, PROCESS => process_wait;
    fn __waitpid(child: pid_t, status: *mut c_int, options: c_int) -> pid_t, PROCESS => process_waitpid;
    fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t, PROCESS => process_wait3;
    fn wait4(
        child: pid_t,
        status: *mut c_int,
        options: c_int,
        usage: *mut rusage,
    ) -> pid_t, PROCESS => process_wait4;
    fn waitid(which: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int, PROCESS => process_waitid;
    fn system(command: *const c_char) -> c_int, PROCESS => process_system;
    fn pclose(stream: *mut FILE) -> c_int, PROCESS => process_pclose;
    fn fork() -> pid_t, always => process_fork;
    fn __fork() -> pid_t, always => process_fork;
    fn daemon(no_chdir: c_int, no_close: c_int) -> c_int, always => process_daemon;
    fn forkpty(
        primary: *mut c_int,
        name: *mut c_char,
        terminal: *const termios,
        size: *const winsize,
    ) -> pid_t, always => process_forkpty;
}

unsafe fn process_wait(hub: &'static Hub, status: *mut c_int) -> pid_t {
    // SAFETY: passed on to the caller.
    unsafe { process_waitpid(hub, -1, status, 0) }
}

unsafe fn process_waitpid(hub: &'static Hub, child: pid_t, status: *mut c_int, options: c_int) -> pid_t {
    wait_for(hub, child, options, |options| {
        // SAFETY: passed on to the caller.
        unsafe { original::waitpid(child, status, options) }
    })
}

unsafe fn process_wait3(hub: &'static Hub, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t {
    // SAFETY: passed on to the caller.
    unsafe { process_wait4(hub, -1, status, options, usage) }
}

unsafe fn process_wait4(
    hub: &'static Hub,
    child: pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> pid_t {
    wait_for(hub, child, options, |options| {
        // SAFETY: passed on to the caller.
        unsafe { original::wait4(child, status, options, usage) }
    })
}

unsafe fn process_waitid(hub: &'static Hub, which: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int {
    // SAFETY: integers, and pointers that may be null.
    let mut own: siginfo_t = unsafe { std::mem::zeroed() };
    let place = if info.is_null() { &raw mut own } else { info };
    let found = find(hub, Wanted { which, id, options }, |options| {
        // SAFETY: passed on to the caller, whose place it is, or ours.
        let result = unsafe { original::waitid(which, id, place, options) };
        if result != 0 {
            return result;
        }
        // SAFETY: the call has written there; zero if it has found nothing.
        c_int::from(unsafe { (*place).si_signo } != 0)
    });
    found.min(0)
}

fn wait_for(hub: &'static Hub, child: pid_t, options: c_int, mut look: impl FnMut(c_int) -> pid_t) -> pid_t {
    let (which, id) = match child {
        // SAFETY: no precondition.
        0 => (libc::P_PGID, unsafe { libc::getpgrp() }.unsigned_abs()),
        1.. => (libc::P_PID, child.unsigned_abs()),
        -1 => (libc::P_ALL, 0),
        ..-1 => (libc::P_PGID, child.unsigned_abs()),
    };
    let wanted = Wanted { which, id, options: options | libc::WEXITED };
    find(hub, wanted, |all| look(all & !libc::WEXITED))
}

/// What is waited for, as waitid(2) names it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Wanted {
    which: idtype_t,
    id: id_t,
    options: c_int,
}

/// Looks until something is found or the look fails; gives what the last look gave, of which 0 is nothing. `look` is the original
/// with the options it is given.
fn find(hub: &'static Hub, wanted: Wanted, mut look: impl FnMut(c_int) -> c_int) -> c_int {
    if wanted.options & libc::__WNOTHREAD != 0 {
        // No other thread can wait for those.
        return look(wanted.options);
    }
    // Before anything is taken: a task that only ever looks lets the others run too.
    if let Err(number) = enclosed(hub, || hub.charge()) {
        return report(Err(number));
    }
    let mut tried = false;
    loop {
        let found = look(wanted.options | libc::WNOHANG);
        if found != 0 || wanted.options & libc::WNOHANG != 0 {
            return found;
        }
        let parked = enclosed(hub, || {
            // The end of a child that somebody traces is not for us yet: the system alone knows when it is.
            if tried || !park_on_end(hub, wanted) {
                park_on_change(hub, wanted);
            }
        });
        if let Err(number) = parked {
            return report(Err(number));
        }
        tried = true;
    }
}

/// Parks until the one child that is meant has ended. False, without having parked, if no descriptor tells of what is wanted.
fn park_on_end(hub: &'static Hub, wanted: Wanted) -> bool {
    let fd = match wanted.which {
        _ if wanted.options & !libc::WNOWAIT != libc::WEXITED => return false,
        libc::P_PID => hub.bare(|| sys::pidfd_open(wanted.id)),
        // SAFETY: the number of a descriptor that was open at the look; the call fails if it is not.
        libc::P_PIDFD => hub.bare(|| unsafe { BorrowedFd::borrow_raw(wanted.id as c_int) }.try_clone_to_owned()),
        _ => return false,
    };
    let waited = fd.and_then(|fd: OwnedFd| Source::new(fd).wait(Direction::Read, None));
    waited.is_ok()
}

/// A native thread that waits for a change.
struct Watch {
    /// The process whose thread it is.
    process: u32,
    wanted: Wanted,
    seen: Arc<Promise<()>>,
}

static WATCHES: Lock<Vec<Watch>> = Lock::new(Vec::new());

/// Parks until a native thread has seen that there is what is wanted, or never will be.
fn park_on_change(hub: &'static Hub, wanted: Wanted) {
    match hub.bare(|| join_or_start(wanted)) {
        Ok(watch) => watch.wait(Reason::Other(&"a child process"), |()| ()),
        Err(_no_thread) => crate::sleep(NOW_AND_THEN),
    }
}

/// How often is looked where the system gives no thread.
const NOW_AND_THEN: Duration = Duration::from_millis(2);

fn join_or_start(wanted: Wanted) -> io::Result<Arc<Promise<()>>> {
    let process = std::process::id();
    let seen = Arc::new(Promise::new());
    let mut watches = WATCHES.lock();
    if let Some(known) = watches.iter().find(|watch| watch.process == process && watch.wanted == wanted) {
        return Ok(known.seen.clone());
    }
    watches.push(Watch { process, wanted, seen: seen.clone() });
    drop(watches);

    let theirs = seen.clone();
    let started = thread::Builder::new().name("greenroom-children".into()).spawn(move || {
        watch(wanted);
        end_watch(&theirs);
    });
    match started {
        Ok(_detached) => Ok(seen),
        Err(error) => {
            end_watch(&seen);
            Err(error)
        }
    }
}

/// Whoever comes from now on starts another; those who have come look.
fn end_watch(seen: &Arc<Promise<()>>) {
    WATCHES.lock().retain(|watch| !Arc::ptr_eq(&watch.seen, seen));
    let kept = seen.keep(());
    debug_assert!(kept.is_ok(), "a watch ends once");
}

/// Stops the native thread until there is what is wanted, or never will be. Takes nothing.
fn watch(Wanted { which, id, options }: Wanted) {
    loop {
        // SAFETY: integers, and pointers that may be null.
        let mut info: siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is alive for the call.
        let result = unsafe { original::waitid(which, id, &raw mut info, options | libc::WNOWAIT) };
        if result == 0 || errno() != libc::EINTR {
            return;
        }
    }
}

/// The most native threads that wait in calls of the C library; more calls queue.
const MAX_THREADS: usize = 64;

/// Makes a call on a native thread, and gives its result and the error number.
fn elsewhere(hub: &'static Hub, call: impl FnOnce() -> c_int + Send + 'static) -> c_int {
    static POOL: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::named(MAX_THREADS, "greenroom-commands"));
    let pool = hub.bare(|| &*POOL);
    let result: Result<(c_int, Errno), Errno> = enclosed(hub, || pool.apply(move || (call(), errno())));
    match result {
        Ok((-1, number)) | Err(number) => report(Err(number)),
        Ok((result, _)) => result,
    }
}

unsafe fn process_system(hub: &'static Hub, command: *const c_char) -> c_int {
    if command.is_null() {
        // SAFETY: a question that is answered at once.
        return unsafe { original::system(command) };
    }
    // SAFETY: passed on to the caller.
    let command = unsafe { CStr::from_ptr(command) }.to_owned();
    elsewhere(hub, move || {
        // SAFETY: a C string, alive for the call.
        unsafe { original::system(command.as_ptr()) }
    })
}

/// A stream that is handed over.
struct Stream(*mut FILE);

// SAFETY: streams of the C library may be used on any thread.
unsafe impl Send for Stream {}

impl Stream {
    fn close(self) -> c_int {
        // SAFETY: passed on to the caller, who has closed it, whatever comes.
        unsafe { original::pclose(self.0) }
    }
}

unsafe fn process_pclose(hub: &'static Hub, stream: *mut FILE) -> c_int {
    let stream = Stream(stream);
    elsewhere(hub, move || stream.close())
}

unsafe fn process_daemon(no_chdir: c_int, no_close: c_int) -> c_int {
    // SAFETY: passed on to the caller.
    as_the_thread(|| unsafe { original::daemon(no_chdir, no_close) })
}

unsafe fn process_forkpty(
    primary: *mut c_int,
    name: *mut c_char,
    terminal: *const termios,
    size: *const winsize,
) -> pid_t {
    // SAFETY: passed on to the caller.
    as_the_thread(|| unsafe { original::forkpty(primary, name, terminal, size) })
}

/// Makes a call that forks on the thread's own block. There what others have registered with pthread_atfork(3) must not park.
fn as_the_thread(call: impl FnOnce() -> c_int) -> c_int {
    let with_number = || thread_block::on_root(|| (call(), errno()));
    let (result, number) = if thread_block::identity() == 0 { with_number() } else { Hub::held(with_number) };
    if result < 0 { report(Err(number)) } else { result }
}

/// Rule 25. Where it is the original's, it is made on the thread's own block, whatever is patched: of all that the C library takes for
/// threads only the caller goes on in the child, and the C library looks for it in its list of them.
unsafe fn process_fork() -> pid_t {
    let hub = if patched().meets(Areas::PROCESS) { Hub::get().filter(|hub| hub.can_switch()) } else { None };
    let Some(hub) = hub else {
        // SAFETY: passed on to the caller.
        return as_the_thread(|| unsafe { original::fork() });
    };
    // SAFETY: passed on to the caller.
    let forked = enclosed(hub, || unsafe { hub.fork() });
    match forked {
        Ok(Ok(pid)) => pid.unwrap_or(0),
        Ok(Err(error)) => report(Err(error.raw_os_error().unwrap_or(libc::EAGAIN))),
        Err(number) => report(Err(number)),
    }
}
