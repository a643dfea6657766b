//! Flags and options of open files, which are passed on, and noted.
//!
//! `getsockopt` is left to the C library: what it tells is true.

use libc::{c_int, c_ulong, c_void, socklen_t};

use super::descriptor;
use super::gate::report;
use super::symbol::interpose;

interpose! {
    fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int, all NUMBERS => fd_fcntl;
    fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int, all NUMBERS => fd_fcntl;
    fn __fcntl(fd: c_int, command: c_int, argument: usize) -> c_int, all NUMBERS => fd_fcntl;
    fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int, all NUMBERS => fd_ioctl;
    fn setsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *const c_void,
        length: socklen_t,
    ) -> c_int, all NUMBERS => socket_setsockopt;
}

/// The third argument of `fcntl` is there for some commands and is then an int, a pointer or nothing: a register in each case, in the
/// calling conventions of Linux on x86-64 and aarch64. What is left in it is not looked at for other commands.
unsafe fn fd_fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    let call = |argument| {
        // SAFETY: passed on to the caller.
        unsafe { original::fcntl(fd, command, argument) }
    };
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            let new = call(argument);
            if new >= 0 {
                descriptor::forget(new);
                descriptor::note_duplicate(fd, new);
            }
            new
        }
        libc::F_GETFL => {
            let flags = call(argument);
            if flags < 0 || flags & libc::O_NONBLOCK == 0 {
                return flags;
            }
            match descriptor::view_of(fd) {
                Some(view) if !view.is_nonblocking() => flags & !libc::O_NONBLOCK,
                _ => flags,
            }
        }
        libc::F_SETFL => {
            let view = descriptor::view_of(fd);
            let wanted = argument as c_int;
            let flags = if view.is_some() { wanted | libc::O_NONBLOCK } else { wanted };
            let result = call(flags as usize);
            if result >= 0 {
                if let Some(view) = view {
                    view.set_nonblocking(wanted & libc::O_NONBLOCK != 0);
                }
                descriptor::note_change();
            }
            result
        }
        _ => call(argument),
    }
}

/// The third argument is a register, as that of `fcntl`.
unsafe fn fd_ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    if request as u32 == libc::FIONBIO as u32 {
        if !argument.is_null()
            && let Some(view) = descriptor::view_of(fd)
        {
            // SAFETY: passed on to the caller: FIONBIO reads an int.
            view.set_nonblocking(unsafe { argument.cast::<c_int>().read_unaligned() } != 0);
            return report(Ok(0));
        }
        descriptor::note_change();
    }
    // SAFETY: passed on to the caller.
    unsafe { original::ioctl(fd, request, argument) }
}

/// `SO_RCVTIMEO` and `SO_SNDTIMEO` with times of 64 bits where `libc`'s are of 32.
const TIMEOUTS: [c_int; 4] = [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO, 66, 67];

unsafe fn socket_setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, length: socklen_t) -> c_int {
    // SAFETY: passed on to the caller.
    let result = unsafe { original::setsockopt(fd, level, name, value, length) };
    if result == 0 && level == libc::SOL_SOCKET && TIMEOUTS.contains(&name) {
        descriptor::note_change();
    }
    result
}
