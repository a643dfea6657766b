//! Waiting for many descriptors: `poll`, `select`, `epoll_wait` and their like.
//!
//! The original is asked first, with no time to wait; what it finds is the answer. Else the task parks until there may be news, and it
//! is asked again, so that what is told is always what the system tells:
//!
//! ```text
//!   look (the original, time-out 0) --found, failed, or no time given--> done
//!     ^         | nothing
//!     |         v
//!     +-- park: on the one descriptor, if there is one and it lies in the hub's poller; else on a nest of them
//! ```
//!
//! - **Q1** A task parks on a descriptor's own entry only if its look has covered that direction: the entry is marked as not ready
//!   then, which must be true for its readers too.
//! - **Q2** Nothing is taken by such a look, or by a wait that is given up: the next in line is told.
//!
//! # Signals
//!
//! They go to the thread, and a parked task is not on it: `EINTR` is for those alone that a call unblocks by its mask. Each look is made
//! under the mask, and a signal that is pending then has its handler run there, and ends the call. While the task is parked such signals
//! stay blocked, as the caller has them, and a signalfd tells when one is pending. What a mask blocks in addition, it blocks for the look.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use libc::{c_int, c_short, nfds_t, pollfd, sigset_t, size_t, timespec};

use super::descriptor::{self, Kind, Known};
use super::gate::{Errno, enclosed, errno, report};
use super::symbol::interpose;
use super::time::read_timespec;
use crate::clock;
use crate::hub::Hub;
use crate::io::Direction;
use crate::selectors::Nest;
use crate::waiter::End;

interpose! {
    fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int, POLL => poll_poll;
    fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int, POLL => poll_poll_chk;
    fn ppoll(
        fds: *mut pollfd,
        count: nfds_t,
        timeout: *const timespec,
        mask: *const sigset_t,
    ) -> c_int, POLL => poll_ppoll;
    fn __ppoll_chk(
        fds: *mut pollfd,
        count: nfds_t,
        timeout: *const timespec,
        mask: *const sigset_t,
        room: size_t,
    ) -> c_int, POLL => poll_ppoll_chk;
}

unsafe fn poll_poll(hub: &'static Hub, fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    let entries = || {
        // SAFETY: the original has read and written so many.
        unsafe { entries(fds, count) }
    };
    find(hub, entries, millis(timeout), None, || {
        // SAFETY: passed on to the caller.
        unsafe { original::poll(fds, count, 0) }
    })
}

unsafe fn poll_poll_chk(hub: &'static Hub, fds: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int {
    if !fits(count, room) {
        // SAFETY: passed on to the caller. It ends the process.
        return unsafe { original::__poll_chk(fds, count, timeout, room) };
    }
    // SAFETY: passed on to the caller.
    unsafe { poll_poll(hub, fds, count, timeout) }
}

unsafe fn poll_ppoll(
    hub: &'static Hub,
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: passed on to the caller.
    let Some(time) = (unsafe { time_of(timeout) }) else {
        // SAFETY: passed on to the caller, for the original's own error.
        return unsafe { original::ppoll(fds, count, timeout, mask) };
    };
    let entries = || {
        // SAFETY: the original has read and written so many.
        unsafe { entries(fds, count) }
    };
    // SAFETY: passed on to the caller.
    let set = unsafe { mask.as_ref() };
    find(hub, entries, time, set, || {
        // SAFETY: passed on to the caller.
        unsafe { original::ppoll(fds, count, &raw const NO_TIME, mask) }
    })
}

unsafe fn poll_ppoll_chk(
    hub: &'static Hub,
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    room: size_t,
) -> c_int {
    if !fits(count, room) {
        // SAFETY: passed on to the caller. It ends the process.
        return unsafe { original::__ppoll_chk(fds, count, timeout, mask, room) };
    }
    // SAFETY: passed on to the caller.
    unsafe { poll_ppoll(hub, fds, count, timeout, mask) }
}

fn fits(count: nfds_t, room: size_t) -> bool {
    room / size_of::<pollfd>() >= count as usize
}

/// Those that are to be looked at: negative numbers are not.
///
/// # Safety
///
/// There are so many.
unsafe fn entries(fds: *const pollfd, count: nfds_t) -> Vec<pollfd> {
    if count == 0 {
        return Vec::new();
    }
    // SAFETY: passed on to the caller.
    let all = unsafe { std::slice::from_raw_parts(fds, count as usize) };
    all.iter().filter(|entry| entry.fd >= 0).copied().collect()
}

pub(super) static NO_TIME: timespec = timespec { tv_sec: 0, tv_nsec: 0 };

/// A time-out in milliseconds; `None` is for ever.
pub(super) fn millis(timeout: c_int) -> Option<Duration> {
    u64::try_from(timeout).ok().map(Duration::from_millis)
}

/// A time-out, of which null is for ever; `None` if it is not a time.
///
/// # Safety
///
/// The pointer is null or good.
pub(super) unsafe fn time_of(timeout: *const timespec) -> Option<Option<Duration>> {
    if timeout.is_null() {
        return Some(None);
    }
    // SAFETY: passed on to the caller.
    unsafe { read_timespec(timeout) }.map(Some)
}

/// Looks until something is found, the look fails, or the time is over; gives what the last look gave. `look` is the original with
/// no time to wait, and `entries` what it looks at.
pub(super) fn find(
    hub: &'static Hub,
    entries: impl FnOnce() -> Vec<pollfd>,
    timeout: Option<Duration>,
    mask: Option<&sigset_t>,
    mut look: impl FnMut() -> c_int,
) -> c_int {
    // Before anything is taken: a task that only ever looks lets the others run too.
    if let Err(number) = enclosed(hub, || hub.charge()) {
        return report(Err(number));
    }
    let found = look();
    if found != 0 || timeout == Some(Duration::ZERO) {
        return found;
    }
    let deadline = timeout.and_then(clock::deadline_after);
    let look = || match look() {
        -1 => Err(errno()),
        found => Ok(found),
    };
    let ended = enclosed(hub, || find_later(hub, entries(), deadline, mask, look));
    report(ended.and_then(|found| found))
}

fn find_later(
    hub: &'static Hub,
    mut entries: Vec<pollfd>,
    deadline: Option<Instant>,
    mask: Option<&sigset_t>,
    mut look: impl FnMut() -> Result<c_int, Errno>,
) -> Result<c_int, Errno> {
    let unblocked = mask.and_then(unblocked_by);
    let signals = unblocked.map(|set| signal_fd(&set));
    let mut is_blind = false;
    match &signals {
        Some(Some(fd)) => entries.push(pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }),
        Some(None) => is_blind = true,
        None => {}
    }
    let mut pause = Pause { entries: &entries, is_blind, nest: None, place: End::Back };
    loop {
        let in_time = pause.wait(hub, deadline);
        let found = look();
        if found != Ok(0) || !in_time {
            pause.end(hub);
            return found;
        }
    }
}

/// What a task parks on between two looks.
struct Pause<'a> {
    entries: &'a [pollfd],
    /// There is something that nothing tells of: it has to be looked for from time to time.
    is_blind: bool,
    nest: Option<Nest>,
    place: End,
}

/// How often is looked where the system has no descriptor for the wait.
const NOW_AND_THEN: Duration = Duration::from_millis(1);

impl Pause<'_> {
    /// Parks until it is worth while to look; false if the deadline came first.
    fn wait(&mut self, hub: &'static Hub, deadline: Option<Instant>) -> bool {
        if self.is_blind {
            return doze(deadline);
        }
        if let Some((known, direction)) = self.single(hub) {
            match known.source.wait_for_news(direction, deadline, self.place) {
                Ok(in_time) => {
                    self.place = End::Front;
                    return in_time;
                }
                // It was closed: the look says what that means.
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => return true,
                Err(_not_for_the_poller) => {}
            }
        }
        if self.entries.is_empty() {
            match deadline {
                Some(deadline) => crate::sleep_until(deadline),
                None => crate::sleep(Duration::MAX),
            }
            return false;
        }
        self.nested(deadline).unwrap_or_else(|_out_of_something| doze(deadline))
    }

    fn nested(&mut self, deadline: Option<Instant>) -> std::io::Result<bool> {
        let nest = match &mut self.nest {
            Some(nest) => nest,
            None => self.nest.insert(Nest::take()?),
        };
        nest.wait_alone(self.entries, deadline)
    }

    /// The only descriptor, if its own entry in the hub's poller will do (Q1).
    fn single(&self, hub: &'static Hub) -> Option<(Rc<Known>, Direction)> {
        let [entry] = self.entries else { return None };
        let direction = direction_of(entry.events)?;
        let known = descriptor::look_up(hub, entry.fd)?;
        matches!(known.kind, Kind::Stream | Kind::Message | Kind::Other).then_some((known, direction))
    }

    /// The wait is over, and has taken nothing (Q2).
    fn end(self, hub: &'static Hub) {
        if let Some((known, direction)) = self.single(hub) {
            known.source.pass_on(direction);
        }
        if let Some(nest) = self.nest {
            nest.keep();
        }
    }
}

/// The direction whose entry tells of all these events, and of which they say all.
fn direction_of(events: c_short) -> Option<Direction> {
    const READS: c_short = libc::POLLIN | libc::POLLRDNORM | libc::POLLPRI | libc::POLLRDHUP;
    const WRITES: c_short = libc::POLLOUT | libc::POLLWRNORM;
    if events & libc::POLLIN != 0 && events & !READS == 0 {
        Some(Direction::Read)
    } else if events & libc::POLLOUT != 0 && events & !WRITES == 0 {
        Some(Direction::Write)
    } else {
        None
    }
}

/// Sleeps until it is time to look again; false if that is the deadline.
fn doze(deadline: Option<Instant>) -> bool {
    let next = clock::now() + NOW_AND_THEN;
    match deadline {
        Some(deadline) if deadline <= next => {
            crate::sleep_until(deadline);
            false
        }
        _ => {
            crate::sleep_until(next);
            true
        }
    }
}

/// The signals that the thread blocks and the mask does not; `None` if there are none.
fn unblocked_by(mask: &sigset_t) -> Option<sigset_t> {
    let mut set = *mask;
    // SAFETY: with no new set the call only writes the old one.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut set) };
    let blocked = set;
    // SAFETY: a set, alive for the call.
    unsafe { libc::sigemptyset(&raw mut set) };
    let mut any = false;
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: a set, and a signal's number.
        let before = unsafe { libc::sigismember(&raw const blocked, signal) };
        // SAFETY: as above.
        let during = unsafe { libc::sigismember(mask, signal) };
        if before == 1 && during == 0 {
            any = true;
            // SAFETY: as above.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
    }
    any.then_some(set)
}

/// What becomes readable when one of these is pending; nobody reads it.
fn signal_fd(set: &sigset_t) -> Option<OwnedFd> {
    // SAFETY: a set, alive for the call; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return None;
    }
    descriptor::forget(fd);
    // SAFETY: the call has just made it, for us alone.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
