//! `epoll_wait` and its like: an epoll descriptor is itself one that the hub's poller takes.
//!
//! So what is told is exactly what the system tells: level, edge, one-shot. Any number of tasks may wait on one; they stand in
//! line, and the next is woken if there is more.
//!
//! # Cancelling
//!
//! An error of such a wait is more than its callers reckon with: it is the heart of an event loop, which panics for it, and
//! once more when its owner is dropped by that panic. So a wait that is cancelled tells, in the place of an error, that all
//! descriptors are ready, which is a hint and may be wrong (R1). The call that follows is the one that fails with `ECANCELED`. A loop
//! that makes no such call, and only waits again, gets the error in the end.

use std::cell::Cell;

use libc::{c_int, epoll_event, pollfd, sigset_t, timespec};

use super::gate::{errno, set_errno};
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
    let found = find(
        hub,
        || entry(epoll),
        millis(timeout),
        None,
        || {
            // SAFETY: passed on to the caller.
            unsafe { original::epoll_wait(epoll, events, room, 0) }
        },
    );
    // SAFETY: passed on to the caller.
    unsafe { hint(hub, epoll, events, room, found) }
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
    let found = find(
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
    );
    // SAFETY: passed on to the caller.
    unsafe { hint(hub, epoll, events, room, found) }
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
    let found = find(
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
    );
    // SAFETY: passed on to the caller.
    unsafe { hint(hub, epoll, events, room, found) }
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

/// In a row, to one task. Its next call that fails for nothing to be there is meant to end it.
const MOST_HINTS: u32 = 16;

thread_local! {
    /// How many a task has been given since a wait of its was not cancelled.
    static HINTS: Cell<u32> = const { Cell::new(0) };
}

/// Where a wait was cancelled, tells that all descriptors are ready for what they are registered for.
///
/// # Safety
///
/// There is room for so many events.
unsafe fn hint(hub: &Hub, epoll: c_int, events: *mut epoll_event, room: c_int, found: c_int) -> c_int {
    if found >= 0 || errno() != libc::ECANCELED {
        HINTS.set(0);
        return found;
    }
    let before = HINTS.replace(HINTS.get() + 1);
    let registered = if before < MOST_HINTS { hub.holding(|| registered(epoll)) } else { Vec::new() };
    let told = registered.len().min(usize::try_from(room).unwrap_or(0));
    if told == 0 {
        HINTS.set(0);
        set_errno(libc::ECANCELED);
        return -1;
    }
    for (i, event) in registered[..told].iter().enumerate() {
        // SAFETY: within the caller's room.
        unsafe { events.wrapping_add(i).write(*event) };
    }
    hub.spend();
    told as c_int
}

/// What the descriptors of an epoll instance are registered for, as procfs tells (proc(5)): a line of `tfd`, `events` and `data` each.
fn registered(epoll: c_int) -> Vec<epoll_event> {
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{epoll}")).unwrap_or_default();
    let wanted = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP).cast_unsigned();
    let event = |line: &str| {
        let mut words = line.strip_prefix("tfd:")?.split_whitespace();
        let mut after = |name| words.find(|word| *word == name).and(words.next());
        let events = u32::from_str_radix(after("events:")?, 16).ok()? & wanted;
        let u64 = u64::from_str_radix(after("data:")?, 16).ok()?;
        (events != 0).then_some(epoll_event { events, u64 })
    };
    told.lines().filter_map(event).collect()
}
