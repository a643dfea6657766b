//! Sockets: bytes and messages, connections.

use std::io;

use libc::{c_int, c_void, size_t, sockaddr, socklen_t, ssize_t};

use super::descriptor::{self, Kind, Known};
use super::gate::{enclosed, errno, report};
use super::symbol::interpose;
use crate::hub::Hub;
use crate::io::{Direction, Left};

interpose! {
    fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t, SOCKET => socket_recv;
    fn recvfrom(
        fd: c_int,
        buffer: *mut c_void,
        length: size_t,
        flags: c_int,
        from: *mut sockaddr,
        from_length: *mut socklen_t,
    ) -> ssize_t, SOCKET => socket_recvfrom;
    fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t, SOCKET => socket_send;
    fn close(fd: c_int) -> c_int, all SOCKET => socket_close;
}

/// Which calls say for themselves that they do not wait, or are answered at once.
const AT_ONCE: c_int = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE;

/// Flags with which a short read does not mean that nothing is left.
const UNEVEN: c_int = libc::MSG_PEEK | libc::MSG_OOB | libc::MSG_TRUNC;

unsafe fn socket_recv(hub: &'static Hub, fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t {
    // SAFETY: passed on to the caller.
    let call = |got: size_t, flags| unsafe { original::recv(fd, buffer.wrapping_byte_add(got), length - got, flags) };
    receive(hub, fd, length, flags, call)
}

unsafe fn socket_recvfrom(
    hub: &'static Hub,
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_length: *mut socklen_t,
) -> ssize_t {
    // SAFETY: passed on to the caller. A stream that is read in several goes has one sender.
    let call = |got: size_t, flags| unsafe {
        original::recvfrom(fd, buffer.wrapping_byte_add(got), length - got, flags, from, from_length)
    };
    receive(hub, fd, length, flags, call)
}

unsafe fn socket_send(hub: &'static Hub, fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t {
    // SAFETY: passed on to the caller.
    let call = |put: size_t, flags| unsafe { original::send(fd, buffer.wrapping_byte_add(put), length - put, flags) };
    transmit(hub, fd, length, flags, call)
}

unsafe fn socket_close(fd: c_int) -> c_int {
    descriptor::forget(fd);
    // SAFETY: passed on to the caller.
    unsafe { original::close(fd) }
}

/// Receives up to `length` bytes or a message. `call` is the original, for what lies behind the first so many bytes.
fn receive(
    hub: &'static Hub,
    fd: c_int,
    length: size_t,
    flags: c_int,
    mut call: impl FnMut(size_t, c_int) -> ssize_t,
) -> ssize_t {
    let known = match descriptor::look_up(hub, fd) {
        Some(known) if flags & AT_ONCE == 0 && known.is_socket() => known,
        _ => return call(0, flags),
    };
    let whole = flags & libc::MSG_WAITALL != 0 && flags & UNEVEN == 0 && known.kind == Kind::Stream;
    let mut got = 0;
    loop {
        let asked = length - got;
        let is_short =
            |n: &ssize_t| known.kind == Kind::Stream && flags & UNEVEN == 0 && (1..asked as ssize_t).contains(n);
        let left = |n: &ssize_t| if is_short(n) { Left::Nothing } else { Left::Maybe };
        let result = known.perform(hub, Direction::Read, || call(got, flags | libc::MSG_DONTWAIT), left);
        match result {
            Ok(n) if whole && n > 0 && (n as size_t) < asked => got += n as size_t,
            Ok(n) => return got as ssize_t + n,
            // What was received counts; the error comes again.
            Err(_) if got > 0 => return got as ssize_t,
            Err(number) => return report(Err(number)),
        }
    }
}

/// Sends `length` bytes, all of them as a call that may wait does, or a message.
fn transmit(
    hub: &'static Hub,
    fd: c_int,
    length: size_t,
    flags: c_int,
    mut call: impl FnMut(size_t, c_int) -> ssize_t,
) -> ssize_t {
    let known = match descriptor::look_up(hub, fd) {
        Some(known) if flags & AT_ONCE == 0 && known.is_socket() => known,
        _ => return call(0, flags),
    };
    let mut put = 0;
    loop {
        let asked = length - put;
        let is_short = |n: &ssize_t| known.kind == Kind::Stream && (*n as size_t) < asked;
        let left = |n: &ssize_t| if is_short(n) { Left::Nothing } else { Left::Maybe };
        let result = known.perform(hub, Direction::Write, || call(put, flags | libc::MSG_DONTWAIT), left);
        match result {
            Ok(n) if is_short(&n) && !known.source.is_nonblocking() => put += n as size_t,
            Ok(n) => return put as ssize_t + n,
            Err(_) if put > 0 => return put as ssize_t,
            Err(number) => return report(Err(number)),
        }
    }
}

impl Known {
    pub(super) fn is_socket(&self) -> bool {
        matches!(self.kind, Kind::Stream | Kind::Message)
    }

    /// Makes a call that does not wait, and waits where it would; `left` as in [`Source::perform`](crate::io::Source::perform).
    /// `EINTR` is the caller's.
    pub(super) fn perform(
        &self,
        hub: &'static Hub,
        direction: Direction,
        mut call: impl FnMut() -> ssize_t,
        left: impl Fn(&ssize_t) -> Left,
    ) -> Result<ssize_t, c_int> {
        let tried = |_: &descriptor::Fd| match call() {
            n if n < 0 => Err(io::Error::from_raw_os_error(errno())),
            n => Ok(n),
        };
        let ended = enclosed(hub, || self.source.perform(direction, tried, left))?;
        ended.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }
}
