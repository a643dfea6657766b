//! Calls that look at many descriptors at once: poll(2), epoll(7), kqueue(2).
//!
//! Each function is one system call. A look that waits, waits with the whole thread: it is for threads that cannot have a hub.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// One descriptor in a [`poll`].
pub(crate) use libc::pollfd as PollFd;

/// The bits of poll(2), which are those of epoll(7) too. Those that a system has not are left out.
#[allow(clippy::unnecessary_cast, reason = "their type differs between systems")]
pub(crate) mod bits {
    pub(crate) const IN: u32 = libc::POLLIN as u32;
    pub(crate) const PRI: u32 = libc::POLLPRI as u32;
    pub(crate) const OUT: u32 = libc::POLLOUT as u32;
    pub(crate) const ERR: u32 = libc::POLLERR as u32;
    pub(crate) const HUP: u32 = libc::POLLHUP as u32;
    pub(crate) const NVAL: u32 = libc::POLLNVAL as u32;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) const RDHUP: u32 = libc::POLLRDHUP as u32;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) const EDGE: u32 = libc::EPOLLET as u32;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) const ONE_SHOT: u32 = libc::EPOLLONESHOT as u32;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) const WAKE_UP: u32 = libc::EPOLLWAKEUP as u32;
}

/// One descriptor, and what to look for; `events` are poll(2)'s, of which there are no more than 16 bits.
pub(crate) fn poll_entry(fd: RawFd, events: u32) -> PollFd {
    PollFd { fd, events: events as libc::c_short, revents: 0 }
}

/// What a look has found.
pub(crate) fn poll_found(entry: &PollFd) -> u32 {
    u32::from(entry.revents as u16)
}

/// What is looked for.
pub(crate) fn poll_wanted(entry: &PollFd) -> u32 {
    u32::from(entry.events as u16)
}

/// Looks at many descriptors (poll(2)), and says how many have something. It waits up to `timeout`, or for ever.
pub(crate) fn poll(entries: &mut [PollFd], timeout: Option<Duration>) -> io::Result<usize> {
    let count = libc::nfds_t::try_from(entries.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: so many entries, borrowed mutably for the call.
    count_of(unsafe { libc::poll(entries.as_mut_ptr(), count, millis(timeout)) })
}

/// A bad descriptor, as the system says it.
pub(crate) fn bad_descriptor() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// Whether the error says that.
pub(crate) fn is_bad_descriptor(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADF)
}

/// Whole milliseconds, rounded up; -1 for ever.
fn millis(timeout: Option<Duration>) -> libc::c_int {
    timeout.map_or(-1, |timeout| {
        let up = timeout.saturating_add(Duration::from_nanos(999_999)).as_millis();
        libc::c_int::try_from(up).unwrap_or(libc::c_int::MAX)
    })
}

fn count_of(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Owns what a call has just made.
///
/// # Safety
///
/// `result` is that of a call that makes a descriptor, for nobody else.
unsafe fn made(result: libc::c_int) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, and the caller says that the descriptor is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll {
    use super::*;

    /// What an epoll descriptor has found.
    pub(crate) use libc::epoll_event as EpollEvent;

    /// A new epoll descriptor (epoll_create1(2)), closed in child processes.
    pub(crate) fn epoll_create() -> io::Result<OwnedFd> {
        // SAFETY: no pointers.
        let result = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        // SAFETY: made for us, just now.
        unsafe { made(result) }
    }

    /// Has an epoll descriptor look at `fd`, which it did not before.
    pub(crate) fn epoll_add(epoll: BorrowedFd<'_>, fd: RawFd, events: u32) -> io::Result<()> {
        control(epoll, libc::EPOLL_CTL_ADD, fd, events)
    }

    /// Has it look for something else.
    pub(crate) fn epoll_change(epoll: BorrowedFd<'_>, fd: RawFd, events: u32) -> io::Result<()> {
        control(epoll, libc::EPOLL_CTL_MOD, fd, events)
    }

    /// Has it look no longer.
    pub(crate) fn epoll_remove(epoll: BorrowedFd<'_>, fd: RawFd) -> io::Result<()> {
        control(epoll, libc::EPOLL_CTL_DEL, fd, 0)
    }

    fn control(epoll: BorrowedFd<'_>, what: libc::c_int, fd: RawFd, events: u32) -> io::Result<()> {
        // A number that is negative is nobody's, and the kernel says so.
        let mut event = EpollEvent { events, u64: u64::from(fd as u32) };
        // SAFETY: the event is alive for the call; the kernel looks at numbers of descriptors and does nothing to them.
        let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), what, fd, &raw mut event) };
        count_of(result).map(|_zero| ())
    }

    /// What becomes readable when one of several descriptors has something.
    pub(crate) fn nest_create() -> io::Result<OwnedFd> {
        epoll_create()
    }

    /// Has a nest look at `fd` for edges, of which the first is what is there now; `is_known` is a guess whether it looks there
    /// already. A file of which nothing can ever be told is left out.
    pub(crate) fn nest_set(nest: BorrowedFd<'_>, fd: RawFd, events: u32, is_known: bool) -> io::Result<()> {
        let events = events | bits::EDGE;
        let first = if is_known { epoll_change } else { epoll_add };
        let mut result = first(nest, fd, events);
        match result.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::ENOENT)) => result = epoll_add(nest, fd, events),
            Err(Some(libc::EEXIST)) => result = epoll_change(nest, fd, events),
            _ => {}
        }
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
            result => result,
        }
    }

    /// Has it look no longer, if it did.
    pub(crate) fn nest_unset(nest: BorrowedFd<'_>, fd: RawFd) {
        let _unknown_or_closed = epoll_remove(nest, fd);
    }

    /// Takes all edges, and says whether there were any.
    pub(crate) fn nest_drain(nest: BorrowedFd<'_>) -> io::Result<bool> {
        let mut found = Vec::new();
        let mut any = false;
        loop {
            epoll_wait(nest, &mut found, DRAINED_AT_ONCE, Some(Duration::ZERO))?;
            any |= !found.is_empty();
            if found.len() < DRAINED_AT_ONCE {
                return Ok(any);
            }
        }
    }

    const DRAINED_AT_ONCE: usize = 64;

    /// Takes at most `most` findings, which replace what is in `found` (epoll_wait(2)). It waits up to `timeout`, or for ever.
    pub(crate) fn epoll_wait(
        epoll: BorrowedFd<'_>,
        found: &mut Vec<EpollEvent>,
        most: usize,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        found.clear();
        found.reserve(most);
        let most = libc::c_int::try_from(most).unwrap_or(libc::c_int::MAX);
        // SAFETY: there is room for so many, and the buffer is borrowed mutably for the call.
        let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), found.as_mut_ptr(), most, millis(timeout)) };
        let count = count_of(count)?;
        // SAFETY: the call has filled so many.
        unsafe { found.set_len(count) };
        Ok(())
    }

    /// The number that it was added under, and the events.
    pub(crate) fn epoll_found(event: &EpollEvent) -> (RawFd, u32) {
        let event = *event;
        (event.u64 as u32 as RawFd, event.events)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use epoll::*;

#[cfg(any(
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
mod kqueue {
    use super::*;

    /// A change to make, or what was found (kqueue(2)).
    pub(crate) use libc::kevent as KernelEvent;

    /// A new kqueue, closed in child processes, which do not get it anyway.
    pub(crate) fn kqueue_create() -> io::Result<OwnedFd> {
        // SAFETY: no pointers.
        let result = unsafe { libc::kqueue() };
        // SAFETY: made for us, just now.
        unsafe { made(result) }
    }

    /// A change, or a place for a finding, all zero but for what every system's event has.
    #[allow(clippy::cast_possible_truncation, reason = "the fields have other widths elsewhere")]
    pub(crate) fn kernel_event(
        ident: usize,
        filter: i16,
        flags: u16,
        fflags: u32,
        data: i64,
        udata: usize,
    ) -> KernelEvent {
        // SAFETY: integers and a pointer, for which zero is a value.
        let mut event: KernelEvent = unsafe { std::mem::zeroed() };
        event.ident = ident as _;
        event.filter = filter as _;
        event.flags = flags as _;
        event.fflags = fflags as _;
        event.data = data as _;
        event.udata = udata as _;
        event
    }

    /// Makes the changes, then takes at most `most` findings, which replace what is in `found`.
    pub(crate) fn kevent(
        kqueue: BorrowedFd<'_>,
        changes: &[KernelEvent],
        found: &mut Vec<KernelEvent>,
        most: usize,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        found.clear();
        found.reserve(most);
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos() as _,
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let (given, room) = (changes.len() as _, most.min(libc::c_int::MAX as usize) as _);
        // SAFETY: so many changes are read, there is room for so many findings, and all are alive for the call.
        let count =
            unsafe { libc::kevent(kqueue.as_raw_fd(), changes.as_ptr(), given, found.as_mut_ptr(), room, timeout) };
        let count = count_of(count)?;
        // SAFETY: the call has filled so many.
        unsafe { found.set_len(count) };
        Ok(())
    }

    /// What becomes readable when one of several descriptors has something.
    pub(crate) fn nest_create() -> io::Result<OwnedFd> {
        kqueue_create()
    }

    /// Has a nest look at `fd` for edges, of which the first is what is there now. A file of which nothing can ever be told is left
    /// out. Urgent data is not seen where there is no filter for it.
    pub(crate) fn nest_set(nest: BorrowedFd<'_>, fd: RawFd, events: u32, _is_known: bool) -> io::Result<()> {
        for (bit, filter) in FILTERS {
            let flags = if events & bit != 0 { libc::EV_ADD | libc::EV_CLEAR } else { libc::EV_DELETE };
            match change(nest, fd, filter, flags) {
                // It was not looked for before, or can never be.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Has it look no longer, if it did.
    pub(crate) fn nest_unset(nest: BorrowedFd<'_>, fd: RawFd) {
        for (_, filter) in FILTERS {
            let _unknown_or_closed = change(nest, fd, filter, libc::EV_DELETE);
        }
    }

    /// Takes all edges, and says whether there were any.
    pub(crate) fn nest_drain(nest: BorrowedFd<'_>) -> io::Result<bool> {
        let mut found = Vec::new();
        let mut any = false;
        loop {
            kevent(nest, &[], &mut found, DRAINED_AT_ONCE, Some(Duration::ZERO))?;
            any |= !found.is_empty();
            if found.len() < DRAINED_AT_ONCE {
                return Ok(any);
            }
        }
    }

    const DRAINED_AT_ONCE: usize = 64;

    const FILTERS: [(u32, i16); 2] =
        [(bits::IN | bits::PRI, libc::EVFILT_READ as i16), (bits::OUT, libc::EVFILT_WRITE as i16)];

    fn change(kqueue: BorrowedFd<'_>, fd: RawFd, filter: i16, flags: u16) -> io::Result<()> {
        let ident = usize::try_from(fd).map_err(|_| bad_descriptor())?;
        let change = kernel_event(ident, filter, flags, 0, 0, 0);
        kevent(kqueue, &[change], &mut Vec::new(), 0, Some(Duration::ZERO))
    }
}

#[cfg(any(
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
pub(crate) use kqueue::*;
