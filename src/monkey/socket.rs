//! Sockets: bytes and messages from one buffer.

use libc::{c_int, c_void, size_t, sockaddr, socklen_t, ssize_t};

use super::descriptor;
use super::symbol::interpose;
use super::waiting::{receive, transmit};
use crate::hub::Hub;
use crate::io::Direction;

interpose! {
    fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t, SOCKET => socket_recv;
    fn __recv_chk(
        fd: c_int,
        buffer: *mut c_void,
        length: size_t,
        room: size_t,
        flags: c_int,
    ) -> ssize_t, SOCKET => socket_recv_chk;
    fn recvfrom(
        fd: c_int,
        buffer: *mut c_void,
        length: size_t,
        flags: c_int,
        from: *mut sockaddr,
        from_length: *mut socklen_t,
    ) -> ssize_t, SOCKET => socket_recvfrom;
    fn __recvfrom_chk(
        fd: c_int,
        buffer: *mut c_void,
        length: size_t,
        room: size_t,
        flags: c_int,
        from: *mut sockaddr,
        from_length: *mut socklen_t,
    ) -> ssize_t, SOCKET => socket_recvfrom_chk;
    fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t, SOCKET => socket_send;
    fn __send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t, SOCKET => socket_send;
    fn sendto(
        fd: c_int,
        buffer: *const c_void,
        length: size_t,
        flags: c_int,
        to: *const sockaddr,
        to_length: socklen_t,
    ) -> ssize_t, SOCKET => socket_sendto;
    fn shutdown(fd: c_int, how: c_int) -> c_int, SOCKET => socket_shutdown;
}

pub(super) unsafe fn socket_recv(
    hub: &'static Hub,
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: passed on to the caller.
    let call = |got: size_t, flags| unsafe { original::recv(fd, buffer.wrapping_byte_add(got), length - got, flags) };
    receive(hub, fd, flags, call, || length)
}

unsafe fn socket_recv_chk(
    hub: &'static Hub,
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    if length > room {
        // SAFETY: passed on to the caller. It ends the process.
        return unsafe { original::__recv_chk(fd, buffer, length, room, flags) };
    }
    // SAFETY: passed on to the caller.
    unsafe { socket_recv(hub, fd, buffer, length, flags) }
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
    receive(hub, fd, flags, call, || length)
}

#[expect(clippy::too_many_arguments, reason = "those of the symbol, and the hub")]
unsafe fn socket_recvfrom_chk(
    hub: &'static Hub,
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_length: *mut socklen_t,
) -> ssize_t {
    if length > room {
        // SAFETY: passed on to the caller. It ends the process.
        return unsafe { original::__recvfrom_chk(fd, buffer, length, room, flags, from, from_length) };
    }
    // SAFETY: passed on to the caller.
    unsafe { socket_recvfrom(hub, fd, buffer, length, flags, from, from_length) }
}

pub(super) unsafe fn socket_send(
    hub: &'static Hub,
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: passed on to the caller.
    let call = |put: size_t, flags| unsafe { original::send(fd, buffer.wrapping_byte_add(put), length - put, flags) };
    transmit(hub, fd, flags, false, call, || length)
}

unsafe fn socket_sendto(
    hub: &'static Hub,
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_length: socklen_t,
) -> ssize_t {
    // SAFETY: passed on to the caller.
    let call = |put: size_t, flags| unsafe {
        original::sendto(fd, buffer.wrapping_byte_add(put), length - put, flags, to, to_length)
    };
    transmit(hub, fd, flags, !to.is_null(), call, || length)
}

/// Wakes those of this hub who wait (rule 17); the others hear of it from the kernel.
unsafe fn socket_shutdown(hub: &'static Hub, fd: c_int, how: c_int) -> c_int {
    // SAFETY: passed on to the caller.
    let result = unsafe { original::shutdown(fd, how) };
    if result == 0
        && let Some(known) = descriptor::look_up(hub, fd)
    {
        if matches!(how, libc::SHUT_RD | libc::SHUT_RDWR) {
            known.source.wake(Direction::Read);
        }
        if matches!(how, libc::SHUT_WR | libc::SHUT_RDWR) {
            known.source.wake(Direction::Write);
        }
    }
    result
}
