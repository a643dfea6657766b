//! Sockets: messages with several buffers, and several at once.

use std::time::Duration;
use std::{ptr, slice};

use libc::{c_int, c_uint, iovec, mmsghdr, msghdr, size_t, ssize_t, timespec};

use super::descriptor::{self, Kind};
use super::gate::{enclosed, errno, report};
use super::symbol::interpose;
use super::waiting::{at_once, receive, transmit};
use crate::clock;
use crate::hub::Hub;
use crate::io::{Direction, Left};

interpose! {
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t, SOCKET => socket_recvmsg;
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t, SOCKET => socket_sendmsg;
    fn recvmmsg(
        fd: c_int,
        messages: *mut mmsghdr,
        count: c_uint,
        flags: c_int,
        timeout: *mut timespec,
    ) -> c_int, SOCKET => socket_recvmmsg;
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int, SOCKET => socket_sendmmsg;
}

unsafe fn socket_recvmsg(hub: &'static Hub, fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    let call = |got: size_t, flags| {
        if got == 0 {
            // SAFETY: passed on to the caller.
            return unsafe { original::recvmsg(fd, message, flags) };
        }
        // SAFETY: a call has succeeded with it.
        let mut rest = unsafe { rest_of(message, got) };
        let mut message = bare(&mut rest);
        // SAFETY: passed on to the caller, of whose buffers these are parts.
        unsafe { original::recvmsg(fd, &raw mut message, flags) }
    };
    let asked = || {
        // SAFETY: a call has succeeded with it.
        let message = unsafe { &*message };
        let broken_off = message.msg_controllen > 0 || message.msg_flags & libc::MSG_CTRUNC != 0;
        // SAFETY: as above.
        if broken_off { 0 } else { unsafe { length_of(message) } }
    };
    let n = receive(hub, fd, flags, call, asked);
    if n >= 0 {
        // SAFETY: a call has succeeded with it.
        unsafe { forget_received(message) };
    }
    n
}

/// Descriptors that came along are fresh numbers.
///
/// # Safety
///
/// The kernel has filled the message.
unsafe fn forget_received(message: *const msghdr) {
    // SAFETY: passed on to the caller.
    if unsafe { (*message).msg_controllen } == 0 {
        return;
    }
    // SAFETY: passed on to the caller.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: null, or a header in the control data.
    while let Some(header) = unsafe { at.as_ref() } {
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: as above.
            let data = unsafe { libc::CMSG_DATA(at) }.cast::<c_int>();
            // SAFETY: arithmetic.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            for index in 0..header.cmsg_len.saturating_sub(head) / size_of::<c_int>() {
                let place = data.wrapping_add(index);
                // SAFETY: within the header's data, which need not be aligned.
                descriptor::forget(unsafe { place.read_unaligned() });
            }
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(message, at) };
    }
}

unsafe fn socket_sendmsg(hub: &'static Hub, fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    let call = |put: size_t, flags| {
        if put == 0 {
            // SAFETY: passed on to the caller.
            return unsafe { original::sendmsg(fd, message, flags) };
        }
        // The ancillary data went with the first bytes.
        // SAFETY: a call has succeeded with it.
        let mut rest = unsafe { rest_of(message, put) };
        let message = bare(&mut rest);
        // SAFETY: passed on to the caller, of whose buffers these are parts.
        unsafe { original::sendmsg(fd, &raw const message, flags) }
    };
    // SAFETY: null, or the caller vouches for it.
    let named = unsafe { message.as_ref() }.is_some_and(|message| !message.msg_name.is_null());
    let asked = || {
        // SAFETY: a call has succeeded with it.
        let message = unsafe { &*message };
        // SAFETY: as above.
        unsafe { length_of(message) }
    };
    transmit(hub, fd, flags, named, call, asked)
}

unsafe fn socket_recvmmsg(
    hub: &'static Hub,
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    let known = match descriptor::look_up(hub, fd) {
        Some(known) if known.is_socket() && flags & libc::MSG_DONTWAIT == 0 && count > 0 => known,
        _ => {
            // SAFETY: passed on to the caller.
            return at_once(hub, || unsafe { original::recvmmsg(fd, messages, count, flags, timeout) } as ssize_t)
                as c_int;
        }
    };
    // SAFETY: null, or the caller vouches for it.
    let limit = match unsafe { timeout.as_ref() } {
        None => None,
        Some(limit) => match (u64::try_from(limit.tv_sec), u32::try_from(limit.tv_nsec)) {
            (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Some(Duration::new(seconds, nanos)),
            _ => return report(Err(libc::EINVAL)),
        },
    };
    if let Some(number) = known.take_owed() {
        return report(Err(number));
    }
    let begun = clock::now();
    let left_of = |limit: Duration| limit.saturating_sub(clock::now().saturating_duration_since(begun));
    let mut deadline = None;
    let mut got = 0;
    let result = loop {
        let call = || {
            let rest = messages.wrapping_add(got as usize);
            // SAFETY: passed on to the caller; the time-out is looked at here.
            let call = |flags| unsafe { original::recvmmsg(fd, rest, count - got, flags, ptr::null_mut()) };
            let n = call(flags | libc::MSG_DONTWAIT);
            let ended = n < 0 && errno() == libc::EAGAIN && known.is_ended();
            (if ended { call(flags) } else { n }) as ssize_t
        };
        match known.perform_part(hub, Direction::Read, &mut deadline, call, |_| Left::Maybe) {
            Ok(n) => got += n as c_uint,
            Err(number) if got > 0 => {
                known.owe(number);
                break got as c_int;
            }
            Err(number) => return report(Err(number)),
        }
        // The time-out counts after a message has come, and only then (recvmmsg(2)).
        let late = limit.is_some_and(|limit| left_of(limit).is_zero());
        if got >= count || flags & libc::MSG_WAITFORONE != 0 || late || known.source.is_nonblocking() {
            break got as c_int;
        }
    };
    if let Some(limit) = limit {
        let left = left_of(limit);
        // SAFETY: it is not null, and the caller vouches for it.
        unsafe { *timeout = timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() } };
    }
    for index in 0..result as usize {
        // A message with a length begins with the message.
        // SAFETY: the kernel has filled so many.
        unsafe { forget_received(messages.wrapping_add(index).cast()) };
    }
    result
}

unsafe fn socket_sendmmsg(hub: &'static Hub, fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    let known = match descriptor::look_up(hub, fd) {
        Some(known) if known.is_socket() && flags & libc::MSG_DONTWAIT == 0 => known,
        _ => {
            // SAFETY: passed on to the caller.
            return at_once(hub, || unsafe { original::sendmmsg(fd, messages, count, flags) } as ssize_t) as c_int;
        }
    };
    // A stream may take a part of a message. And a full queue of a named receiver is seen by the single call.
    let count = count.min(MOST_MESSAGES);
    let mut put = 0;
    while put < count {
        let at = messages.wrapping_add(put as usize);
        if known.kind == Kind::Message && put == 0 {
            // SAFETY: passed on to the caller.
            let call = || unsafe { original::sendmmsg(fd, at, count, flags | libc::MSG_DONTWAIT) } as ssize_t;
            let first = match enclosed(hub, || hub.charge()) {
                Ok(()) => call(),
                Err(number) => return report(Err(number)),
            };
            if first > 0 {
                put += first as c_uint;
                continue;
            }
        }
        // A message with a length begins with the message.
        // SAFETY: passed on to the caller.
        let n = unsafe { socket_sendmsg(hub, fd, at.cast(), flags) };
        if n < 0 {
            break;
        }
        // SAFETY: as above.
        unsafe { (*at).msg_len = n as c_uint };
        put += 1;
    }
    if put > 0 || count == 0 { put as c_int } else { -1 }
}

/// So many are sent at most (sendmmsg(2), `UIO_MAXIOV`).
const MOST_MESSAGES: c_uint = 1024;

/// The buffers behind the first so many bytes.
///
/// # Safety
///
/// The message's buffers are good.
unsafe fn rest_of(message: *const msghdr, done: size_t) -> Vec<iovec> {
    // SAFETY: passed on to the caller.
    let message = unsafe { &*message };
    // SAFETY: as above.
    rest(unsafe { buffers(message.msg_iov, message.msg_iovlen) }, done)
}

/// The buffers behind the first so many bytes.
pub(super) fn rest(buffers: &[iovec], mut done: size_t) -> Vec<iovec> {
    let mut rest = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let skipped = done.min(buffer.iov_len);
        done -= skipped;
        if skipped < buffer.iov_len {
            rest.push(iovec {
                iov_base: buffer.iov_base.wrapping_byte_add(skipped),
                iov_len: buffer.iov_len - skipped,
            });
        }
    }
    rest
}

/// A message that is buffers and nothing else.
pub(super) fn bare(buffers: &mut [iovec]) -> msghdr {
    // SAFETY: integers and pointers, which may be zero.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffers.as_mut_ptr();
    message.msg_iovlen = buffers.len() as _;
    message
}

/// # Safety
///
/// So many buffers are there, or none.
pub(super) unsafe fn buffers<'a>(first: *const iovec, count: usize) -> &'a [iovec] {
    // SAFETY: passed on to the caller.
    if count == 0 { &[] } else { unsafe { slice::from_raw_parts(first, count) } }
}

pub(super) fn length(buffers: &[iovec]) -> size_t {
    buffers.iter().fold(0, |sum: usize, buffer| sum.saturating_add(buffer.iov_len))
}

/// # Safety
///
/// The message's buffers are good.
unsafe fn length_of(message: &msghdr) -> size_t {
    // SAFETY: passed on to the caller.
    length(unsafe { buffers(message.msg_iov, message.msg_iovlen) })
}
