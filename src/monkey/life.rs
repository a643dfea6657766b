//! The beginning and the end of descriptors.
//!
//! Each end is told before it comes, by whatever thread (D1); each beginning whose number may have had an end that nobody saw, after.

use std::ptr;

use libc::{c_int, c_uint};

use super::descriptor;
use super::options::original::fcntl;
use super::symbol::interpose;

interpose! {
    fn close(fd: c_int) -> c_int, all NUMBERS => fd_close;
    fn __close(fd: c_int) -> c_int, all NUMBERS => fd_close;
    fn closefrom(first: c_int), all NUMBERS => fd_closefrom;
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int, all NUMBERS => fd_close_range;
    fn dup(fd: c_int) -> c_int, all NUMBERS => fd_dup;
    fn dup2(old: c_int, new: c_int) -> c_int, all NUMBERS => fd_dup2;
    fn __dup2(old: c_int, new: c_int) -> c_int, all NUMBERS => fd_dup2;
    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int, all NUMBERS => fd_dup3;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int, all NUMBERS => socket_socket;
    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int, all NUMBERS => socket_socketpair;
    fn pipe(pair: *mut c_int) -> c_int, all NUMBERS => fd_pipe;
    fn __pipe(pair: *mut c_int) -> c_int, all NUMBERS => fd_pipe;
    fn pipe2(pair: *mut c_int, flags: c_int) -> c_int, all NUMBERS => fd_pipe2;
}

unsafe fn fd_close(fd: c_int) -> c_int {
    descriptor::forget(fd);
    // SAFETY: passed on to the caller.
    unsafe { original::close(fd) }
}

unsafe fn fd_closefrom(first: c_int) {
    descriptor::forget_range(first.max(0).unsigned_abs(), c_uint::MAX);
    // SAFETY: passed on to the caller.
    unsafe { original::closefrom(first) }
}

unsafe fn fd_close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags as c_uint & libc::CLOSE_RANGE_CLOEXEC == 0 && first <= last {
        descriptor::forget_range(first, last);
    }
    // SAFETY: passed on to the caller.
    unsafe { original::close_range(first, last, flags) }
}

unsafe fn fd_dup(fd: c_int) -> c_int {
    // SAFETY: passed on to the caller.
    note_new(fd, unsafe { original::dup(fd) })
}

unsafe fn fd_dup2(old: c_int, new: c_int) -> c_int {
    if will_close(old, new) {
        descriptor::forget(new);
    }
    // SAFETY: passed on to the caller.
    let result = unsafe { original::dup2(old, new) };
    if old == new { result } else { note_new(old, result) }
}

unsafe fn fd_dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    if flags & !libc::O_CLOEXEC == 0 && will_close(old, new) {
        descriptor::forget(new);
    }
    // SAFETY: passed on to the caller.
    note_new(old, unsafe { original::dup3(old, new, flags) })
}

/// Whether `new` is replaced. A duplicate of what is not open leaves it alone.
fn will_close(old: c_int, new: c_int) -> bool {
    // SAFETY: takes and gives integers only.
    old != new && descriptor::is_known(new) && unsafe { fcntl(old, libc::F_GETFD, 0) } >= 0
}

fn note_new(old: c_int, new: c_int) -> c_int {
    if new >= 0 {
        descriptor::forget(new);
        descriptor::note_duplicate(old, new);
    }
    new
}

unsafe fn socket_socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: passed on to the caller.
    let fd = unsafe { original::socket(domain, kind, protocol) };
    if fd >= 0 {
        descriptor::forget(fd);
        descriptor::note_made(fd);
    }
    fd
}

unsafe fn socket_socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int {
    // SAFETY: passed on to the caller.
    let result = unsafe { original::socketpair(domain, kind, protocol, pair) };
    // SAFETY: a call that has succeeded has filled it.
    unsafe { forget_pair(result, pair) }
}

unsafe fn fd_pipe(pair: *mut c_int) -> c_int {
    // SAFETY: passed on to the caller.
    let result = unsafe { original::pipe(pair) };
    // SAFETY: a call that has succeeded has filled it.
    unsafe { forget_pair(result, pair) }
}

unsafe fn fd_pipe2(pair: *mut c_int, flags: c_int) -> c_int {
    // SAFETY: passed on to the caller.
    let result = unsafe { original::pipe2(pair, flags) };
    // SAFETY: a call that has succeeded has filled it.
    unsafe { forget_pair(result, pair) }
}

/// # Safety
///
/// With a result of 0, the pointer leads to two numbers.
unsafe fn forget_pair(result: c_int, pair: *mut c_int) -> c_int {
    if result == 0 {
        // SAFETY: passed on to the caller.
        for fd in unsafe { ptr::read_unaligned(pair.cast::<[c_int; 2]>()) } {
            descriptor::forget(fd);
        }
    }
    result
}
