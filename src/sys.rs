//! System calls that std has no name for, as safe functions.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

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
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    let millis = timeout.map_or(-1, |timeout| {
        let up = timeout.saturating_add(Duration::from_nanos(999_999)).as_millis();
        libc::c_int::try_from(up).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: one pollfd, alive for the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, millis) };
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(ready > 0) }
}
