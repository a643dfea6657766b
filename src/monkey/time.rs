//! Sleeping.
//!
//! No signal ends such a sleep early: signals go to the thread, and the task is not on it.

use std::time::{Duration, Instant};

use libc::{c_int, c_uint, clockid_t, timespec, useconds_t};

use super::gate::{enclosed, errno, set_errno};
use super::symbol::interpose;
use crate::clock;
use crate::hub::Hub;

interpose! {
    fn nanosleep(request: *const timespec, left: *mut timespec) -> c_int, TIME => time_nanosleep;
    fn clock_nanosleep(
        clock: clockid_t,
        flags: c_int,
        request: *const timespec,
        left: *mut timespec,
    ) -> c_int, TIME => time_clock_nanosleep;
    fn sleep(seconds: c_uint) -> c_uint, TIME => time_sleep;
    fn usleep(micros: useconds_t) -> c_int, TIME => time_usleep;
}

unsafe fn time_nanosleep(hub: &'static Hub, request: *const timespec, left: *mut timespec) -> c_int {
    // SAFETY: passed on to the caller.
    let Some(time) = (unsafe { read_timespec(request) }) else {
        // SAFETY: passed on to the caller, for the original's own errors.
        return unsafe { original::nanosleep(request, left) };
    };
    rest(hub, Some(time));
    0
}

unsafe fn time_clock_nanosleep(
    hub: &'static Hub,
    clock: clockid_t,
    flags: c_int,
    request: *const timespec,
    left: *mut timespec,
) -> c_int {
    let wanted = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME);
    // SAFETY: passed on to the caller.
    let time = unsafe { read_timespec(request) }.filter(|_| wanted && flags & !libc::TIMER_ABSTIME == 0);
    let Some(time) = time else {
        // SAFETY: passed on to the caller, for the original's own errors, and for clocks of processor time.
        return unsafe { original::clock_nanosleep(clock, flags, request, left) };
    };
    if flags & libc::TIMER_ABSTIME == 0 {
        rest(hub, Some(time));
        return 0;
    }
    // Another clock may be set meanwhile: it is looked at again.
    loop {
        let missing = time.saturating_sub(now_by(clock));
        if missing.is_zero() || !rest(hub, Some(missing.min(LONGEST))) {
            return 0;
        }
    }
}

unsafe fn time_sleep(hub: &'static Hub, seconds: c_uint) -> c_uint {
    let begun = clock::now();
    let time = Duration::from_secs(seconds.into());
    if rest(hub, Some(time)) {
        return 0;
    }
    let left = time.saturating_sub(clock::now().saturating_duration_since(begun));
    // At most what was asked for.
    left.as_secs() as c_uint + c_uint::from(left.subsec_nanos() > 0)
}

unsafe fn time_usleep(hub: &'static Hub, micros: useconds_t) -> c_int {
    rest(hub, Some(Duration::from_micros(micros.into())));
    0
}

/// A clock that can be set is looked at this often.
const LONGEST: Duration = Duration::from_secs(1);

/// Sleeps. False if it was cut short: the task is being cancelled.
fn rest(hub: &'static Hub, time: Option<Duration>) -> bool {
    let deadline: Option<Instant> = time.and_then(clock::deadline_after);
    enclosed(hub, || match deadline {
        Some(deadline) => crate::sleep_until(deadline),
        None => crate::sleep(Duration::MAX),
    })
    .is_ok()
}

/// A time, if it is one.
///
/// # Safety
///
/// The pointer is null or good.
pub(super) unsafe fn read_timespec(time: *const timespec) -> Option<Duration> {
    // SAFETY: passed on to the caller.
    let time = unsafe { time.as_ref() }?;
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

pub(super) fn now_by(clock: clockid_t) -> Duration {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    let errno = errno();
    // SAFETY: writes one time, alive for the call.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    set_errno(errno);
    // SAFETY: a reference.
    unsafe { read_timespec(&raw const now) }.unwrap_or(Duration::ZERO)
}
