//! Reads and writes of whatever there is: sockets, pipes and their like, and files (which see).
//!
//! What is no socket has no `MSG_DONTWAIT`. As in `io::flow`: `preadv2` and `pwritev2` with `RWF_NOWAIT` where the kernel has them
//! for such a file; else poll(2), then a bare call, which waits only if another process was quicker.
//!
//! Descriptor 0 is waited for if it is a pipe or a socket and locks are patched too: std keeps its own on it meanwhile. 1 and 2 never are.

use libc::{c_int, c_void, iovec, size_t, ssize_t};

use super::descriptor::{self, Kind, Known, quick};
use super::gate::{errno, patched, report, set_errno};
use super::message::{bare, buffers, length, rest};
use super::symbol::interpose;
use super::waiting::{receive, receive_or_wait, transmit, transmit_or_wait};
use super::{Areas, file};
use crate::hub::Hub;
use crate::io::{Direction, Left};
use crate::lock::Lock;
use crate::sys;

interpose! {
    fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t, BYTES => stream_read;
    fn __read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t, BYTES => stream_read;
    fn __read_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t) -> ssize_t, BYTES => stream_read_chk;
    fn readv(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t, BYTES => stream_readv;
    fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t, BYTES => stream_write;
    fn __write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t, BYTES => stream_write;
    fn writev(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t, BYTES => stream_writev;
}

unsafe fn stream_read(hub: &'static Hub, fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    // SAFETY: passed on to the caller.
    let call = |got: size_t, flags| unsafe {
        super::socket::original::recv(fd, buffer.wrapping_byte_add(got), length - got, flags)
    };
    if is_for_tasks(fd)
        && length > 0
        && let Some(n) = quick(hub, fd, Direction::Read, || call(0, libc::MSG_DONTWAIT), || length)
    {
        return n;
    }
    let Some(known) = wanted(hub, fd).filter(|_| length > 0) else {
        // SAFETY: passed on to the caller.
        return unsafe { original::read(fd, buffer, length) };
    };
    if known.is_socket() {
        return receive_or_wait(hub, fd, 0, call, || length);
    }
    let buffers = [iovec { iov_base: buffer, iov_len: length }];
    // SAFETY: passed on to the caller.
    unsafe { read_into(hub, fd, &known, &buffers) }
}

unsafe fn stream_read_chk(hub: &'static Hub, fd: c_int, buffer: *mut c_void, length: size_t, room: size_t) -> ssize_t {
    if length > room {
        // SAFETY: passed on to the caller. It ends the process.
        return unsafe { original::__read_chk(fd, buffer, length, room) };
    }
    // SAFETY: passed on to the caller.
    unsafe { stream_read(hub, fd, buffer, length) }
}

unsafe fn stream_readv(hub: &'static Hub, fd: c_int, first: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: passed on to the caller.
    let bare_call = || unsafe { original::readv(fd, first, count) };
    // SAFETY: passed on to the caller.
    let Some(buffers) = (unsafe { buffers_of(first, count) }) else { return bare_call() };
    let Some(known) = wanted(hub, fd) else { return bare_call() };
    if known.is_socket() {
        let call = |got: size_t, flags| {
            let mut rest = rest(buffers, got);
            let mut message = bare(&mut rest);
            // SAFETY: passed on to the caller, of whose buffers these are parts.
            unsafe { super::message::original::recvmsg(fd, &raw mut message, flags) }
        };
        return receive(hub, fd, 0, call, || length(buffers));
    }
    // SAFETY: passed on to the caller.
    unsafe { read_into(hub, fd, &known, buffers) }
}

unsafe fn stream_write(hub: &'static Hub, fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    // SAFETY: passed on to the caller.
    let call = |put: size_t, flags| unsafe {
        super::socket::original::send(fd, buffer.wrapping_byte_add(put), length - put, flags)
    };
    let mut put = 0;
    if is_for_tasks(fd)
        && let Some(n) = quick(hub, fd, Direction::Write, || call(0, libc::MSG_DONTWAIT), || length)
    {
        if n < 0 || n as size_t >= length {
            return n;
        }
        put = n as size_t;
    }
    match wanted(hub, fd) {
        Some(known) if known.is_socket() => transmit_or_wait(hub, fd, 0, false, put, call, || length),
        Some(known) if length > 0 => {
            let buffers = [iovec { iov_base: buffer.cast_mut(), iov_len: length }];
            // SAFETY: passed on to the caller.
            unsafe { write_from(hub, fd, &known, &buffers) }
        }
        _ if put > 0 => put as ssize_t,
        // SAFETY: passed on to the caller.
        _ => unsafe { original::write(fd, buffer, length) },
    }
}

unsafe fn stream_writev(hub: &'static Hub, fd: c_int, first: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: passed on to the caller.
    let bare_call = || unsafe { original::writev(fd, first, count) };
    // SAFETY: passed on to the caller.
    let Some(buffers) = (unsafe { buffers_of(first, count) }) else { return bare_call() };
    let Some(known) = wanted(hub, fd) else { return bare_call() };
    if known.is_socket() {
        let call = |put: size_t, flags| {
            let mut rest = rest(buffers, put);
            let message = bare(&mut rest);
            // SAFETY: passed on to the caller, of whose buffers these are parts.
            unsafe { super::message::original::sendmsg(fd, &raw const message, flags) }
        };
        return transmit(hub, fd, 0, false, call, || length(buffers));
    }
    // SAFETY: passed on to the caller.
    unsafe { write_from(hub, fd, &known, buffers) }
}

/// The descriptor, if its kind is patched and can be waited for.
#[inline]
fn wanted(hub: &'static Hub, fd: c_int) -> Option<std::rc::Rc<Known>> {
    descriptor::look_up(hub, fd).filter(|known| match known.kind {
        Kind::Bare => false,
        Kind::Disk => patched().contains(Areas::FILE),
        _ => is_for_tasks(fd),
    })
}

/// Whether what can be waited for is, by tasks, at this number.
#[inline]
fn is_for_tasks(fd: c_int) -> bool {
    patched().contains(Areas::SOCKET) && (fd != 0 || patched().contains(Areas::SYNC))
}

/// The buffers of a vectored call that moves something; `None` leaves it to the original to say what is wrong.
///
/// # Safety
///
/// A pointer that is not null leads to so many.
unsafe fn buffers_of<'a>(first: *const iovec, count: c_int) -> Option<&'a [iovec]> {
    let count = usize::try_from(count).ok().filter(|&count| count <= sys::IOV_MAX && !first.is_null())?;
    // SAFETY: passed on to the caller.
    let buffers = unsafe { buffers(first, count) };
    let all = length(buffers);
    (all > 0 && all <= ssize_t::MAX as usize).then_some(buffers)
}

/// # Safety
///
/// The buffers are good, or the kernel says that they are not.
unsafe fn read_into(hub: &'static Hub, fd: c_int, known: &Known, buffers: &[iovec]) -> ssize_t {
    if known.kind == Kind::Disk {
        // SAFETY: passed on to the caller.
        return unsafe { file::read_at(hub, fd, known, buffers, None) };
    }
    // SAFETY: passed on to the caller.
    let call = || unsafe { read_now(fd, known, buffers) };
    match known.perform(hub, Direction::Read, call, |_| Left::Maybe) {
        // SAFETY: as above. The poller does not take it: it answers by itself, if late.
        Err(libc::EPERM) => unsafe { original::readv(fd, buffers.as_ptr(), buffers.len() as c_int) },
        result => report(result),
    }
}

/// # Safety
///
/// As [`read_into`].
pub(super) unsafe fn write_from(hub: &'static Hub, fd: c_int, known: &Known, buffers: &[iovec]) -> ssize_t {
    if known.kind == Kind::Disk {
        // SAFETY: passed on to the caller.
        return unsafe { file::write_at(hub, fd, known, buffers, None) };
    }
    let asked = length(buffers);
    let mut deadline = None;
    let mut put = 0;
    loop {
        let call = || {
            if put == 0 {
                // SAFETY: passed on to the caller.
                return unsafe { write_now(fd, known, buffers) };
            }
            // SAFETY: as above.
            unsafe { write_now(fd, known, &rest(buffers, put)) }
        };
        match known.perform_part(hub, Direction::Write, &mut deadline, call, |_| Left::Maybe) {
            // A call that may wait writes all.
            Ok(n) if n > 0 && put + (n as usize) < asked && !known.source.is_nonblocking() => put += n as usize,
            Ok(n) => return put as ssize_t + n,
            Err(_) if put > 0 => return put as ssize_t,
            // SAFETY: as in `read_into`.
            Err(libc::EPERM) => return unsafe { original::writev(fd, buffers.as_ptr(), buffers.len() as c_int) },
            Err(number) => return report(Err(number)),
        }
    }
}

/// The kernel has no such call for this file, or a filter forbids it.
fn is_refusal(number: c_int) -> bool {
    matches!(number, libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM)
}

/// Held from the look to the call that follows, by file.
static TURNS: [Lock<()>; 64] = [const { Lock::new(()) }; 64];

fn turn(known: &Known) -> crate::lock::Guard<'static, ()> {
    TURNS[known.file.1 as usize % TURNS.len()].lock()
}

/// Reads what is there, or fails with `EAGAIN`.
unsafe fn read_now(fd: c_int, known: &Known, buffers: &[iovec]) -> ssize_t {
    let count = buffers.len() as c_int;
    if !known.no_read.get() {
        // SAFETY: passed on to the caller.
        let n = unsafe { libc::preadv2(fd, buffers.as_ptr(), count, sys::HERE, libc::RWF_NOWAIT) };
        if n >= 0 || !is_refusal(errno()) {
            return n;
        }
        known.no_read.set(true);
    }
    let _turn = turn(known);
    if !is_ready(fd, libc::POLLIN) {
        return -1;
    }
    // SAFETY: passed on to the caller.
    unsafe { original::readv(fd, buffers.as_ptr(), count) }
}

/// Writes what there is room for, or fails with `EAGAIN`.
unsafe fn write_now(fd: c_int, known: &Known, buffers: &[iovec]) -> ssize_t {
    let count = buffers.len() as c_int;
    if !known.no_write.get() {
        // SAFETY: passed on to the caller.
        let n = unsafe { libc::pwritev2(fd, buffers.as_ptr(), count, sys::HERE, libc::RWF_NOWAIT) };
        if n >= 0 || !is_refusal(errno()) {
            return n;
        }
        known.no_write.set(true);
    }
    let _turn = turn(known);
    if !is_ready(fd, libc::POLLOUT) {
        return -1;
    }
    if length(buffers) <= PIPE_BUF {
        // SAFETY: passed on to the caller. All or nothing (pipe(7)).
        return unsafe { original::writev(fd, buffers.as_ptr(), count) };
    }
    let first = buffers.iter().find(|buffer| buffer.iov_len > 0).expect("they are longer than that together");
    // SAFETY: passed on to the caller.
    unsafe { original::write(fd, first.iov_base, first.iov_len.min(PIPE_BUF)) }
}

/// What a pipe that is ready takes without waiting (pipe(7)).
const PIPE_BUF: usize = 4096;

/// Whether such a call would not wait; otherwise `errno` says why.
fn is_ready(fd: c_int, events: libc::c_short) -> bool {
    match sys::poll_fd(fd, events, Some(std::time::Duration::ZERO)) {
        Ok(true) => true,
        Ok(false) => {
            set_errno(libc::EAGAIN);
            false
        }
        Err(error) => {
            set_errno(error.raw_os_error().unwrap_or(libc::EIO));
            false
        }
    }
}
