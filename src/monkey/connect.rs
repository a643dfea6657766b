//! connect(2), which has no flag that says "do not wait" either.
//!
//! A blocking socket is non-blocking for the moment of the call: it begins the attempt, and nobody has had time to notice. Then
//! the task is parked, and the call made again when the poller has news: the kernel answers as it would have answered
//! the one that waits, and notes that the socket is connected.

use std::io;

use libc::{c_int, sockaddr, socklen_t};

use super::descriptor::{self, Known};
use super::gate::{Errno, enclosed, errno, report};
use super::options::original::fcntl;
use super::symbol::interpose;
use crate::clock;
use crate::hub::Hub;
use crate::io::Direction;
use crate::net::Backoff;
use crate::waiter::End;

interpose! {
    fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int, SOCKET => socket_connect;
    fn __connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int, SOCKET => socket_connect;
}

unsafe fn socket_connect(hub: &'static Hub, fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: passed on to the caller.
    let call = || unsafe { original::connect(fd, address, length) };
    match descriptor::look_up(hub, fd) {
        Some(known) if known.is_socket() && !known.source.is_nonblocking() => {
            let connected = enclosed(hub, || connect_or_park(hub, fd, &known, call));
            report(connected.and_then(|connected| connected).map(|()| 0))
        }
        _ => call(),
    }
}

fn connect_or_park(hub: &'static Hub, fd: c_int, known: &Known, mut call: impl FnMut() -> c_int) -> Result<(), Errno> {
    hub.charge();
    let mut deadline = None;
    let mut backoff = None;
    // What a call that runs out of time fails with: that the attempt was begun, or had been before.
    let mut begun = None;
    loop {
        let number = match hub.bare(|| without_waiting(fd, &mut call)) {
            Ok(()) => return Ok(()),
            Err(number) => number,
        };
        let is_first = begun.is_none();
        let late = *begun.get_or_insert(number);
        let deadline =
            *deadline.get_or_insert_with(|| known.source.timeout(Direction::Write).and_then(clock::deadline_after));
        match number {
            libc::EINPROGRESS | libc::EALREADY => {
                let news = known.source.wait_for_news(Direction::Write, deadline, End::Back);
                if !news.map_err(number_of)? {
                    return Err(late);
                }
            }
            // Connected, as was to be seen meanwhile.
            libc::EISCONN if !is_first => return Ok(()),
            // A full backlog; with other families it means that no local port is free, which is an answer.
            libc::EAGAIN if crate::sys::is_unix(fd) => {
                let backoff = backoff.get_or_insert_with(|| Backoff::new(deadline));
                if !backoff.pause().map_err(number_of)? {
                    return Err(libc::EAGAIN);
                }
            }
            number => return Err(number),
        }
    }
}

fn number_of(error: io::Error) -> Errno {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Makes the call with `O_NONBLOCK` set.
fn without_waiting(fd: c_int, call: &mut impl FnMut() -> c_int) -> Result<(), Errno> {
    // SAFETY: takes and gives integers only.
    let flags = unsafe { fcntl(fd, libc::F_GETFL, 0) };
    // SAFETY: as above.
    if flags < 0 || unsafe { fcntl(fd, libc::F_SETFL, (flags | libc::O_NONBLOCK) as usize) } < 0 {
        return Err(errno());
    }
    let result = call();
    let number = errno();
    // SAFETY: as above. What could be set can be put back.
    unsafe { fcntl(fd, libc::F_SETFL, flags as usize) };
    if result < 0 { Err(number) } else { Ok(()) }
}
