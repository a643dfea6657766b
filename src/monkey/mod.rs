//! Blocking crates and C libraries, unchanged, become cooperative: the libc symbols that they call are ours.
//!
//! A program that depends on this crate with the feature `monkey` has [its own](original) `read`, `connect`, `poll` and so on,
//! which std, every other crate and every shared C library of the program use too. Until an area is [patched](patch) each is the
//! original plus one test. From then on a call that would stop the thread parks only the calling task:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use greenroom::monkey;
//!
//! // SAFETY: nothing here holds state of one task that another may find half changed.
//! unsafe { monkey::patch_all() };
//! let begun = Instant::now();
//! let sleepers: Vec<_> = (0..100)
//!     .map(|_| greenroom::spawn(|| std::thread::sleep(Duration::from_millis(20))))
//!     .collect();
//! greenroom::joinall(sleepers);
//! assert!(begun.elapsed() < Duration::from_millis(100 * 20));
//! ```
//!
//! # Who is meant
//!
//! A patched symbol acts for a caller on a task's stack, or on a root whose hub has tasks. Every other thread gets the
//! original, and so does code that may not switch: this crate's own loop, a panic hook. The caller is looked at in
//! each call, so the order does not matter: sockets and locks made before patching work.
//!
//! # What a call does
//!
//! What the original does, to the error number, the partial count and the time-out, but for the thread that goes on. `errno` is the
//! task's own.
//!
//! A task that is killed, or whose time runs out, in a patched call cannot be unwound through frames of C: the call fails with
//! `ECANCELED`, so does every further one that would have to wait, and the unwind begins at the task's next parking point in this
//! crate. A [`timeout`](crate::timeout) around such a call is over with it. Three kinds of calls cannot fail so:
//!
//! - a sleep returns early;
//! - `epoll_wait` says that all descriptors are ready, for runtimes that stand on it take an error for the end of the world; the
//!   calls that follow fail;
//! - a wait for a lock of std or of the C library goes on until it has it, as that of a native thread does.
//!
//! On a root that waits for what cannot come (rule 7) the report is printed, and the call fails with `EDEADLK`. Where that is a
//! lock, which cannot fail, the process is aborted.
//!
//! A kill that meets a task in a call of this crate (`greenroom::sleep`, say) that was made from a callback of C's unwinds, which Rust
//! ends with an abort where the callback begins: such a callback had better use the patched calls, or [`shield`](crate::shield).
//!
//! In a signal handler what signal-safety(7) allows is as safe as ever, but for `close`, `dup2` and `fcntl` of a descriptor that tasks
//! have used: a handler that interrupts the books of these may abort the process.
//!
//! A signal ends a patched call with `EINTR` only if its mask lets it in (`ppoll` and its like): signals go to the thread, and the
//! task is not on it.
//!
//! # Thread-locals
//!
//! Tasks that are spawned once [`Areas::SYNC`] is patched have thread-locals, a `ThreadId`, a panic count and stack bounds of their own,
//! where the C library allows it: see [`Builder::own_thread_locals`](crate::Builder::own_thread_locals). What is right between native
//! threads is then right between tasks.
//!
//! # Symbols
//!
//! What stands here is ours. `tests/monkey_symbols.rs` compares it with what std, OpenSSL, libpq, libcurl and libmariadb import, and has the
//! list of what is not ours, with the reasons.
//!
//! | area | symbols |
//! | --- | --- |
//! | socket: bytes | `read`, `__read`, `__read_chk`, `readv`, `write`, `__write`, `writev`, `sendfile`, `sendfile64`, `splice` |
//! | socket: messages | `recv`, `__recv_chk`, `recvfrom`, `__recvfrom_chk`, `recvmsg`, `recvmmsg`, `send`, `__send`, `sendto`, `sendmsg`, `sendmmsg` |
//! | socket: connections | `accept`, `accept4`, `connect`, `__connect`, `shutdown` |
//! | all: the life of descriptors | `socket`, `socketpair`, `pipe`, `__pipe`, `pipe2`, `close`, `__close`, `closefrom`, `close_range`, `dup`, `dup2`, `__dup2`, `dup3`, `fcntl`, `fcntl64`, `__fcntl`, `ioctl`, `setsockopt` |
//! | poll | `poll`, `__poll`, `__poll_chk`, `ppoll`, `__ppoll_chk`, `select`, `__select`, `pselect`, `epoll_wait`, `epoll_pwait`, `epoll_pwait2` |
//! | time | `nanosleep`, `clock_nanosleep`, `sleep`, `usleep` |
//! | dns | `getaddrinfo`, `getnameinfo`, `gethostbyname`, `gethostbyname2`, `gethostbyaddr`, `gethostbyname_r`, `gethostbyname2_r`, `gethostbyaddr_r` |
//! | process | `wait`, `__wait`, `waitpid`, `__waitpid`, `wait3`, `wait4`, `waitid`, `system`, `pclose`, `fork`, `__fork`, `daemon`, `forkpty` |
//! | file | `pread`, `pread64`, `__pread64`, `__pread_chk`, `__pread64_chk`, `preadv`, `preadv64`, `pwrite`, `pwrite64`, `__pwrite64`, `pwritev`, `pwritev64`, `fsync`, `fdatasync`, `ftruncate`, `ftruncate64`, `copy_file_range`, `open`, `open64`, `__open`, `__open64`, `__open_2`, `__open64_2`, `openat`, `openat64`, `__openat_2`, `__openat64_2`, `creat`, `creat64` |
//! | sync: mutexes, once | `pthread_mutex_lock`, `pthread_mutex_trylock`, `pthread_mutex_timedlock`, `pthread_mutex_clocklock`, `pthread_mutex_unlock`, `pthread_once` |
//! | sync: conditions, barriers | `pthread_cond_wait`, `pthread_cond_timedwait`, `pthread_cond_clockwait`, `pthread_cond_signal`, `pthread_cond_broadcast`, `pthread_barrier_wait` |
//! | sync: read-write locks | `pthread_rwlock_rdlock`, `pthread_rwlock_tryrdlock`, `pthread_rwlock_timedrdlock`, `pthread_rwlock_clockrdlock`, `pthread_rwlock_wrlock`, `pthread_rwlock_trywrlock`, `pthread_rwlock_timedwrlock`, `pthread_rwlock_clockwrlock`, `pthread_rwlock_unlock` |
//! | sync: semaphores | `sem_wait`, `sem_trywait`, `sem_timedwait`, `sem_clockwait`, `sem_post` |
//! | sync: threads, futexes | `pthread_join`, `pthread_tryjoin_np`, `pthread_timedjoin_np`, `pthread_clockjoin_np`, `sched_yield`, `syscall` |
//! | thread | `pthread_create`, `pthread_detach`, `pthread_kill`, `pthread_cancel`, `pthread_getname_np`, `pthread_setname_np` |
//! | all: handlers of signals | `sigaction`, `__sigaction`, `signal`, `bsd_signal`, `ssignal`, `sysv_signal`, `__sysv_signal` |
//!
//! # Platforms
//!
//! Linux with glibc, linked dynamically. Elsewhere the feature is a build error that says so.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::hub::Hub;
use crate::lock::steadily;
use crate::thread_block;

mod accept;
mod condition;
mod connect;
mod descriptor;
mod dns;
mod epoll;
mod file;
mod futex;
mod gate;
mod hosts;
mod join;
mod life;
mod message;
mod mutex;
mod open;
mod options;
mod parking;
mod poll;
mod process;
mod rwlock;
mod select;
mod semaphore;
mod signal;
mod socket;
mod stream;
mod symbol;
mod thread;
mod time;
mod transfer;
mod waiting;

/// The functions behind the patched symbols: the C library's own, or whatever else stands there (a sanitizer's, say).
///
/// For those who need a call that stops the thread, whatever is patched. Each has the C function's signature and contract.
pub mod original {
    pub use super::accept::original::*;
    pub use super::condition::original::*;
    pub use super::connect::original::*;
    pub use super::dns::original::*;
    pub use super::epoll::original::*;
    pub use super::file::original::*;
    pub use super::futex::original::*;
    pub use super::hosts::original::*;
    pub use super::join::original::*;
    pub use super::life::original::*;
    pub use super::message::original::*;
    pub use super::mutex::original::*;
    pub use super::open::original::*;
    pub use super::options::original::*;
    pub use super::poll::original::*;
    pub use super::process::original::*;
    pub use super::rwlock::original::*;
    pub use super::select::original::*;
    pub use super::semaphore::original::*;
    pub use super::signal::original::*;
    pub use super::socket::original::*;
    pub use super::stream::original::*;
    pub use super::thread::original::*;
    pub use super::time::original::*;
    pub use super::transfer::original::*;
}

/// What can be patched: a set of areas.
///
/// # Examples
///
/// ```
/// use greenroom::monkey::Areas;
///
/// let both = Areas::SOCKET | Areas::DNS;
/// assert!(both.contains(Areas::DNS));
/// assert!(!both.contains(Areas::ALL));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Areas(u32);

impl Areas {
    /// Sockets, and reads and writes of pipes and whatever else can be polled.
    pub const SOCKET: Areas = Areas(1);
    /// Name lookups: `getaddrinfo` and its like.
    pub const DNS: Areas = Areas(1 << 1);
    /// Sleeping: `nanosleep` and its like.
    pub const TIME: Areas = Areas(1 << 2);
    /// Waiting for many descriptors: `poll`, `select`, `epoll_wait`.
    pub const POLL: Areas = Areas(1 << 3);
    /// Locks and whatever else waits for another thread: futexes, so std's locks, channels and `thread::park`, and those of most crates;
    /// mutexes, conditions, read-write locks, semaphores, barriers and `pthread_once` of the C library; joins of threads.
    ///
    /// Tasks that are spawned from then on have thread-locals of their own, where that can be had
    /// ([`Builder::own_thread_locals`](crate::Builder::own_thread_locals) says where, and why not). Elsewhere they share those
    /// of their thread: std's locks are right all the same, but what keeps something for each thread (std's channels and
    /// `thread::park`, crossbeam, parking_lot) takes two tasks of a thread for one, and may lose one's wake-up to the other.
    ///
    /// A wait for a lock cannot be cancelled: a kill or the end of a [`timeout`](crate::timeout()) stays pending until the lock is had.
    /// Giving a lock back may let others have their turn. A root that waits for a lock that nobody can give back is a deadlock (rule 7),
    /// which cannot be told to who asked for the lock: after the report the process aborts.
    ///
    /// C11's `mtx_lock` and its like stop the thread. Mutexes that inherit priority, if contended, and robust ones name their holder to
    /// the kernel, which does not know tasks: neither is for tasks with thread-locals of their own.
    ///
    /// Not for signal handlers: `sem_post` in one is safe only while no task waits for that semaphore.
    pub const SYNC: Areas = Areas(1 << 4);
    /// Children: `waitpid` and its like.
    pub const PROCESS: Areas = Areas(1 << 5);
    /// Reads and writes of regular files, which go to native threads.
    pub const FILE: Areas = Areas(1 << 6);
    /// All of these. Not [`THREAD`](Self::THREAD).
    pub const ALL: Areas = Areas((1 << 7) - 1);
    /// Threads that the main thread, or one with a hub, makes from then on are tasks of that hub, with thread-locals of their own. It
    /// gives parallelism up, so it is to be asked for. [`SYNC`](Self::SYNC) comes with it: threads wait for each other.
    ///
    /// Such a thread begins to run when the thread that made it next waits; one that computes without ever waiting keeps the others from
    /// running. Where tasks can have no thread-locals of their own, nothing changes: threads are native. A thread with a hub that ends,
    /// other than the main thread, ends its tasks first: one that waits for ever for a lock or a channel of std's keeps it.
    pub const THREAD: Areas = Areas(1 << 7);

    /// What moves bytes through descriptors of any kind.
    const BYTES: Areas = Areas(Areas::SOCKET.0 | Areas::FILE.0);
    /// Those that know descriptors by number.
    const NUMBERS: Areas = Areas(Areas::BYTES.0 | Areas::POLL.0);

    const fn meets(self, other: Areas) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Areas) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Areas {
    type Output = Areas;

    fn bitor(self, other: Areas) -> Areas {
        Areas(self.0 | other.0)
    }
}

impl BitOrAssign for Areas {
    fn bitor_assign(&mut self, other: Areas) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Areas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Areas, &str); 8] = [
            (Areas::SOCKET, "socket"),
            (Areas::DNS, "dns"),
            (Areas::TIME, "time"),
            (Areas::POLL, "poll"),
            (Areas::SYNC, "sync"),
            (Areas::PROCESS, "process"),
            (Areas::FILE, "file"),
            (Areas::THREAD, "thread"),
        ];
        let mut separator = "";
        for (_, name) in NAMES.iter().filter(|(area, _)| self.contains(*area)) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Patches these areas for the whole process, for good. What is patched already stays so: calls add up.
///
/// # Safety
///
/// Code that was compiled long ago meets two things that its author could rely on not to happen, and both may be undefined
/// behaviour in what is sound without patches:
///
/// - *Another task runs during a call that blocks.* Safe code whose unsafe parts hold a reference to something of
///   the thread's own across such a call (a buffer in a thread-local, say) finds it in use. With thread-locals of their
///   own ([`Areas::SYNC`]) tasks have one each.
/// - *With thread-locals of their own, two tasks of a thread share values that are not `Send`.* Code that takes "not `Send`" for "the
///   same thread-locals" is wrong there; an example is `qcell::TLCell`.
///
/// The caller says that the program has no such code, or that it is not used in that way: it is enough that tasks
/// share with each other only what they could send to another thread.
///
/// # Examples
///
/// ```
/// use greenroom::monkey::{self, Areas};
///
/// // SAFETY: no code here holds anything across a sleep.
/// unsafe { monkey::patch(Areas::TIME) };
/// assert!(monkey::is_patched(Areas::TIME));
/// ```
pub unsafe fn patch(areas: Areas) {
    let areas = if areas.contains(Areas::THREAD) { areas | Areas::SYNC } else { areas };
    if areas.contains(Areas::SYNC) {
        assert!(parking::prepare(), "greenroom: no memory for the table of those who wait for locks");
        // Where there are none, tasks do with their thread's.
        let _unsupported = steadily(|| thread_block::set_default(true));
    }
    let before = gate::open(areas);
    if areas.meets(Areas::NUMBERS) && !before.meets(Areas::NUMBERS) {
        descriptor::watch_copies();
    }
    signal::take_over();
}

/// Patches [all areas](Areas::ALL).
///
/// # Safety
///
/// As for [`patch`].
pub unsafe fn patch_all() {
    // SAFETY: passed on to the caller.
    unsafe { patch(Areas::ALL) };
}

/// Whether all of these areas are patched.
pub fn is_patched(areas: Areas) -> bool {
    gate::patched().contains(areas)
}

/// Runs `f` on a native thread; nothing cancels the wait for it.
fn natively<R: Send + 'static>(hub: &'static Hub, f: impl FnOnce() -> R + Send + 'static) -> R {
    let done = gate::enclosed(hub, || hub.uncancelled(|| crate::io::waits().apply(f)));
    // A panic, of a system that gives no thread: there is nobody who could be told.
    done.unwrap_or_else(|_| std::process::abort())
}
