//! Opening files, on native threads: a fifo may wait for its other end for ever.
//!
//! The job has a copy of the name, so a caller who is killed leaves at once, and what is opened after that is closed.

use std::ffi::CStr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use libc::{c_char, c_int, c_uint, mode_t};

use super::descriptor;
use super::gate::{enclosed, errno, report};
use super::symbol::interpose;
use crate::hub::Hub;
use crate::io::waits;

interpose! {
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, FILE => file_open;
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, FILE => file_open64;
    fn __open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, FILE => file_open;
    fn __open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, FILE => file_open64;
    fn __open_2(path: *const c_char, flags: c_int) -> c_int, FILE => file_open_2;
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int, FILE => file_open64_2;
    fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int, FILE => file_openat;
    fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int, FILE => file_openat64;
    fn __openat_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int, FILE => file_openat_2;
    fn __openat64_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int, FILE => file_openat64_2;
    fn creat(path: *const c_char, mode: mode_t) -> c_int, FILE => file_creat;
    fn creat64(path: *const c_char, mode: mode_t) -> c_int, FILE => file_creat64;
}

unsafe fn file_open(hub: &'static Hub, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { open_there(hub, libc::AT_FDCWD, path, flags, mode) }
}

unsafe fn file_open64(hub: &'static Hub, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { open_there(hub, libc::AT_FDCWD, path, flags | libc::O_LARGEFILE, mode) }
}

unsafe fn file_open_2(hub: &'static Hub, path: *const c_char, flags: c_int) -> c_int {
    if needs_mode(flags) {
        // SAFETY: passed on to the caller. It ends the process.
        return unsafe { original::__open_2(path, flags) };
    }
    // SAFETY: passed on to the caller.
    unsafe { file_open(hub, path, flags, 0) }
}

unsafe fn file_open64_2(hub: &'static Hub, path: *const c_char, flags: c_int) -> c_int {
    if needs_mode(flags) {
        // SAFETY: passed on to the caller. It ends the process.
        return unsafe { original::__open64_2(path, flags) };
    }
    // SAFETY: passed on to the caller.
    unsafe { file_open64(hub, path, flags, 0) }
}

unsafe fn file_openat(hub: &'static Hub, folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { open_there(hub, folder, path, flags, mode) }
}

unsafe fn file_openat64(hub: &'static Hub, folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { open_there(hub, folder, path, flags | libc::O_LARGEFILE, mode) }
}

unsafe fn file_openat_2(hub: &'static Hub, folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    if needs_mode(flags) {
        // SAFETY: passed on to the caller. It ends the process.
        return unsafe { original::__openat_2(folder, path, flags) };
    }
    // SAFETY: passed on to the caller.
    unsafe { file_openat(hub, folder, path, flags, 0) }
}

unsafe fn file_openat64_2(hub: &'static Hub, folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    if needs_mode(flags) {
        // SAFETY: passed on to the caller. It ends the process.
        return unsafe { original::__openat64_2(folder, path, flags) };
    }
    // SAFETY: passed on to the caller.
    unsafe { file_openat64(hub, folder, path, flags, 0) }
}

unsafe fn file_creat(hub: &'static Hub, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { file_open(hub, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
}

unsafe fn file_creat64(hub: &'static Hub, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { file_open64(hub, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
}

fn needs_mode(flags: c_int) -> bool {
    flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE
}

/// Opens on a native thread.
///
/// # Safety
///
/// The path is null or one.
unsafe fn open_there(hub: &'static Hub, folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // An argument that is only there for some flags.
    let mode = if needs_mode(flags) { mode } else { 0 };
    let opened = if path.is_null() {
        // SAFETY: passed on to the caller, for the original's error.
        unsafe { original::openat(folder, path, flags, mode) }
    } else {
        // SAFETY: passed on to the caller.
        let path = unsafe { CStr::from_ptr(path) }.to_owned();
        let opened = enclosed(hub, || {
            waits().apply(move || {
                // SAFETY: the name is alive, and the rest is integers.
                let fd = unsafe { original::openat(folder, path.as_ptr(), flags, c_uint::from(mode)) };
                // SAFETY: just opened, and nobody else's. A caller who is gone leaves it to be closed.
                if fd < 0 { Err(errno()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
            })
        });
        report(opened.and_then(|opened| opened).map(IntoRawFd::into_raw_fd))
    };
    if opened >= 0 {
        descriptor::forget(opened);
    }
    opened
}
