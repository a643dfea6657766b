//! System calls that std has no name for, as safe functions.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::thread_block;

mod file;
mod poller;
mod process;
mod socket;

pub(crate) use file::*;
pub(crate) use poller::*;
pub(crate) use process::*;
pub(crate) use socket::*;

/// mio's timeout has the poller's own resolution: milliseconds for epoll, nanoseconds for kqueue.
pub(crate) const POLLER_ROUNDS_TO_MILLIS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Waits up to `timeout`, to the nanosecond, until the descriptor can be read (ppoll(2)).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn wait_readable(fd: &impl AsRawFd, timeout: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: one pollfd and one timespec, both alive for the call; a null signal mask is allowed.
    let ready = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(ready > 0) }
}

/// Not reached where the poller counts nanoseconds itself.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn wait_readable(fd: &impl AsRawFd, timeout: Duration) -> io::Result<bool> {
    poll_fd(fd.as_raw_fd(), libc::POLLIN, Some(timeout))
}

/// Blocks the native thread until the descriptor shows one of `events` (poll(2)), for threads that have no hub any more.
pub(crate) fn poll_fd(fd: RawFd, events: libc::c_short, timeout: Option<Duration>) -> io::Result<bool> {
    Ok(poll(&mut [libc::pollfd { fd, events, revents: 0 }], timeout)? > 0)
}

/// As [`poll_fd`], for the first of several descriptors.
pub(crate) fn poll_fds(fds: &[(RawFd, libc::c_short)], timeout: Option<Duration>) -> io::Result<bool> {
    let mut entries: Vec<_> = fds.iter().map(|&(fd, events)| libc::pollfd { fd, events, revents: 0 }).collect();
    Ok(poll(&mut entries, timeout)? > 0)
}

/// Native threads of this crate's own that have no work, in the lower half: nothing of the user's is in their hands, and only
/// other threads can put something there. How often that has changed, in the upper half.
static IDLE_WORKERS: AtomicU64 = AtomicU64::new(0);
/// The process that they belong to: a forked child has none of them.
static WORKERS_PROCESS: AtomicU32 = AtomicU32::new(0);

/// Counts a worker of this process as idle.
pub(crate) fn add_idle_worker(process: u32) {
    // In a forked child nothing is counted, which only makes a report come late.
    let counted = WORKERS_PROCESS.compare_exchange(0, process, Ordering::SeqCst, Ordering::SeqCst);
    if counted.is_ok() || counted == Err(process) {
        IDLE_WORKERS.fetch_add((1 << 32) + 1, Ordering::SeqCst);
    }
}

/// No longer counts so many; before they are given work.
pub(crate) fn remove_idle_workers(process: u32, count: usize) {
    if WORKERS_PROCESS.load(Ordering::SeqCst) == process {
        IDLE_WORKERS.fetch_add(((1 << 32) - 1) * count as u64, Ordering::SeqCst);
    }
}

/// In a forked child, which has none of the parent's.
pub(crate) fn forget_workers() {
    IDLE_WORKERS.store(0, Ordering::SeqCst);
    WORKERS_PROCESS.store(0, Ordering::SeqCst);
}

/// Whether this thread is the process's only one, but for idle workers. No, where the system does not tell.
pub(crate) fn is_only_thread() -> bool {
    let before = IDLE_WORKERS.load(Ordering::SeqCst);
    let ours = WORKERS_PROCESS.load(Ordering::SeqCst) == std::process::id();
    let idle = if ours { before & u64::from(u32::MAX) } else { 0 };
    // The same all the while, and so at the moment of the count: no thread that was there then was given work and was gone when
    // they were counted, or was gone and had given work before.
    count_threads().is_some_and(|all| all <= idle + 1) && IDLE_WORKERS.load(Ordering::SeqCst) == before
}

/// How many native threads the process has: `/proc/self/task` is a directory with a subdirectory for each (proc(5)).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn count_threads() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/task").ok()?.nlink().checked_sub(2)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn count_threads() -> Option<u64> {
    None
}

/// Whether a signal does what the system does with it, and no handler is called (sigaction(2)).
#[cfg(feature = "signal")]
pub(crate) fn has_default_action(signal: i32) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null action changes nothing; the old one is written to memory of its size.
    if unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, and has filled it.
    let action = unsafe { action.assume_init() };
    Ok(action.sa_sigaction == libc::SIG_DFL)
}

/// Makes a copy of the process (fork(2)): its number in the parent, 0 in the child, where only the calling thread is left.
///
/// # Safety
///
/// The child does nothing that needs what another thread held at that moment.
pub(crate) unsafe fn fork() -> io::Result<libc::pid_t> {
    // The C library takes the caller's block for that of the child's only thread, which is the thread's own.
    // SAFETY: passed on to the caller.
    thread_block::on_root(|| match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    })
}

/// Has `f` called when this thread ends, before the destructors of the thread-locals that it has used so far (T3). The C
/// library runs what is registered with it in reverse; std registers there each local at its first use, or its own list
/// of them at the first of all. So a local that is first used later is gone before: whoever needs those ends their tasks
/// himself, with `run`. Where there is no such call, std's list has to do.
pub(crate) fn at_thread_exit(f: fn()) {
    thread_local! {
        static STD_LIST: AtExit = const { AtExit(std::cell::Cell::new(None)) };
    }
    // Makes std register its list with the C library, now, ahead of ours.
    STD_LIST.with(|list| {
        if !before_std_list(f) {
            list.0.set(Some(f));
        }
    });
}

struct AtExit(std::cell::Cell<Option<fn()>>);

impl Drop for AtExit {
    fn drop(&mut self) {
        if let Some(f) = self.0.get() {
            f();
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn before_std_list(f: fn()) -> bool {
    // SAFETY: declared as glibc defines the one, and as each linked object has the other.
    unsafe extern "C" {
        static __dso_handle: u8;
        fn __cxa_thread_atexit_impl(
            dtor: unsafe extern "C" fn(*mut libc::c_void),
            object: *mut libc::c_void,
            dso: *const u8,
        ) -> libc::c_int;
    }
    /// # Safety
    ///
    /// `f` is a function pointer of type `fn()`.
    unsafe extern "C" fn call(f: *mut libc::c_void) {
        // SAFETY: the caller says so, and both are of one size.
        let f = unsafe { std::mem::transmute::<*mut libc::c_void, fn()>(f) };
        f();
    }
    let dso = &raw const __dso_handle;
    // SAFETY: the C library calls `call` once, at the end of this thread, with the pointer given here, which is that of `f`. The
    // handle is only an address: it tells whose code must stay loaded until then.
    let registered = unsafe { __cxa_thread_atexit_impl(call, f as *mut libc::c_void, dso) };
    registered == 0
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn before_std_list(_f: fn()) -> bool {
    false
}

/// Whether this is the thread that the process began with.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: neither call has a precondition.
    let thread = unsafe { libc::gettid() };
    // SAFETY: as above.
    let process = unsafe { libc::getpid() };
    thread == process
}

/// Whether this is the thread that the process began with.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: no precondition.
    unsafe { libc::pthread_main_np() != 0 }
}

/// What names an open socket, whichever descriptor leads to it: device and inode.
pub(crate) type FileId = (u64, u64);

/// The name of a descriptor's open socket (fstat(2)).
pub(crate) fn file_id(fd: BorrowedFd<'_>) -> io::Result<FileId> {
    file_kind(fd).map(|(id, _)| id)
}

/// What the poller makes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Always ready, if slow.
    Disk,
    /// A terminal, maybe.
    Character,
    /// A pipe, a socket.
    Other,
}

/// The name and the kind of a descriptor's open file (fstat(2)).
pub(crate) fn file_kind(fd: BorrowedFd<'_>) -> io::Result<(FileId, FileKind)> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: writes one stat, alive for the call.
    if unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and has filled it.
    let stat = unsafe { stat.assume_init() };
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFBLK | libc::S_IFDIR => FileKind::Disk,
        libc::S_IFCHR => FileKind::Character,
        _ => FileKind::Other,
    };
    #[allow(clippy::unnecessary_cast, reason = "the fields have other types elsewhere")]
    Ok(((stat.st_dev as u64, stat.st_ino as u64), kind))
}

/// Which type of socket a descriptor is (`SO_TYPE`); `None` if it is none.
#[cfg(feature = "monkey")]
pub(crate) fn socket_type(fd: RawFd) -> Option<libc::c_int> {
    socket_option(fd, libc::SO_TYPE)
}

/// Whether the socket speaks TCP.
#[cfg(feature = "monkey")]
pub(crate) fn is_tcp(fd: RawFd) -> bool {
    socket_option(fd, libc::SO_PROTOCOL) == Some(libc::IPPROTO_TCP)
}

/// Whether the socket waits for connections.
#[cfg(feature = "monkey")]
pub(crate) fn is_listener(fd: RawFd) -> bool {
    socket_option(fd, libc::SO_ACCEPTCONN) == Some(1)
}

/// Whether the socket is one of the Unix family.
#[cfg(feature = "monkey")]
pub(crate) fn is_unix(fd: RawFd) -> bool {
    socket_option(fd, libc::SO_DOMAIN) == Some(libc::AF_UNIX)
}

#[cfg(feature = "monkey")]
fn socket_option(fd: RawFd, option: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of_val(&value)).expect("an int is small");
    // SAFETY: the value and its length are alive for the call, and the length is the value's.
    let got = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut len) };
    (got == 0).then_some(value)
}

/// Has `f` called when the process exits, by a return from `main` or by `exit(3)`. It must not unwind.
pub(crate) fn at_process_exit(f: extern "C" fn()) {
    // SAFETY: a function without arguments, for the whole life of the process. Without memory for it, it is not called.
    unsafe { libc::atexit(f) };
}

/// A socket's `SO_RCVTIMEO` (`receive`) or `SO_SNDTIMEO`; `None` for none, and for what is no socket.
pub(crate) fn socket_timeout(fd: RawFd, receive: bool) -> Option<Duration> {
    let option = if receive { libc::SO_RCVTIMEO } else { libc::SO_SNDTIMEO };
    let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut len = libc::socklen_t::try_from(size_of_val(&value)).expect("a timeval is small");
    // SAFETY: the value and its length are alive for the call, and the length is the value's.
    let got = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut len) };
    if got < 0 {
        return None;
    }
    let timeout = Duration::new(u64::try_from(value.tv_sec).ok()?, u32::try_from(value.tv_usec).ok()? * 1000);
    (!timeout.is_zero()).then_some(timeout)
}
