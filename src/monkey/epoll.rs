//! `epoll_wait` and its like: an epoll descriptor is itself one that the hub's poller takes.
//!
//! So what is told is exactly what the system tells: level, edge, one-shot. Any number of tasks may wait on one; they stand in
//! line, and the next is woken if there is more.

use libc::{c_int, epoll_event, pollfd, sigset_t, timespec};

use super::poll::{self, NO_TIME, find, millis, time_of};
use super::symbol::interpose;
use crate::hub::Hub;

interpose! {
    fn epoll_wait(epoll: c_int, events: *mut epoll_event, room: c_int, timeout: c_int) -> c_int, POLL => epoll_epoll_wait;
    fn epoll_pwait(
        epoll: c_int,
        events: *mut epoll_event,
        room: c_int,
        timeout: c_int,
        mask: *const sigset_t,
    ) -> c_int, POLL => epoll_epoll_pwait;
    fn epoll_pwait2(
        epoll: c_int,
        events: *mut epoll_event,
        room: c_int,
        timeout: *const timespec,
        mask: *const sigset_t,
    ) -> c_int, POLL => epoll_epoll_pwait2;
}

unsafe fn epoll_epoll_wait(
    hub: &'static Hub,
    epoll: c_int,
    events: *mut epoll_event,
    room: c_int,
    timeout: c_int,
) -> c_int {
    find(
        hub,
        || entry(epoll),
        millis(timeout),
        None,
        || {
            // SAFETY: passed on to the caller.
            unsafe { original::epoll_wait(epoll, events, room, 0) }
        },
    )
}

unsafe fn epoll_epoll_pwait(
    hub: &'static Hub,
    epoll: c_int,
    events: *mut epoll_event,
    room: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: passed on to the caller.
    let set = unsafe { mask.as_ref() };
    find(
        hub,
        || entry(epoll),
        millis(timeout),
        set,
        || {
            // SAFETY: passed on to the caller.
            let found = unsafe { original::epoll_pwait(epoll, events, room, 0, mask) };
            // SAFETY: passed on to the caller.
            if found == 0 { unsafe { let_signals_in(mask) } } else { found }
        },
    )
}

unsafe fn epoll_epoll_pwait2(
    hub: &'static Hub,
    epoll: c_int,
    events: *mut epoll_event,
    room: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: passed on to the caller.
    let Some(time) = (unsafe { time_of(timeout) }) else {
        // SAFETY: passed on to the caller, for the original's own error.
        return unsafe { original::epoll_pwait2(epoll, events, room, timeout, mask) };
    };
    // SAFETY: passed on to the caller.
    let set = unsafe { mask.as_ref() };
    find(
        hub,
        || entry(epoll),
        time,
        set,
        || {
            // SAFETY: passed on to the caller.
            let found = unsafe { original::epoll_pwait2(epoll, events, room, &raw const NO_TIME, mask) };
            // SAFETY: passed on to the caller.
            if found == 0 { unsafe { let_signals_in(mask) } } else { found }
        },
    )
}

/// With no time to wait epoll does not look at signals, as poll does: -1 and `EINTR` if a handler has run, else 0.
///
/// # Safety
///
/// Null or a mask.
unsafe fn let_signals_in(mask: *const sigset_t) -> c_int {
    if mask.is_null() {
        return 0;
    }
    // SAFETY: no descriptors, a time, and a mask.
    unsafe { poll::original::ppoll(std::ptr::null_mut(), 0, &raw const NO_TIME, mask) }
}

fn entry(epoll: c_int) -> Vec<pollfd> {
    vec![pollfd { fd: epoll, events: libc::POLLIN, revents: 0 }]
}
