//! The ends of threads. One that is a task is waited for as such, by whoever it is; for a native one a native thread waits in
//! the task's place.

use std::ptr;

use libc::{c_int, c_void, clockid_t, pthread_t, timespec};

use super::Areas;
use super::gate::hub_for;
use super::mutex::until;
use super::parking::Caller;
use super::symbol::interpose;
use super::thread::Thread;

interpose! {
    fn pthread_join(thread: pthread_t, value: *mut *mut c_void) -> c_int, all SYNC => join_join;
    fn pthread_tryjoin_np(thread: pthread_t, value: *mut *mut c_void) -> c_int, all SYNC => join_tryjoin;
    fn pthread_timedjoin_np(
        thread: pthread_t,
        value: *mut *mut c_void,
        limit: *const timespec,
    ) -> c_int, all SYNC => join_timedjoin;
    fn pthread_clockjoin_np(
        thread: pthread_t,
        value: *mut *mut c_void,
        clock: clockid_t,
        limit: *const timespec,
    ) -> c_int, all SYNC => join_clockjoin;
}

unsafe fn join_tryjoin(thread: pthread_t, value: *mut *mut c_void) -> c_int {
    if let Some(task) = Thread::named(thread) {
        let joined = if task.has_ended() { task.join(thread, None) } else { Err(libc::EBUSY) };
        // SAFETY: passed on to the caller.
        return unsafe { put(value, joined) };
    }
    // SAFETY: as above.
    unsafe { original::pthread_tryjoin_np(thread, value) }
}

unsafe fn join_join(thread: pthread_t, value: *mut *mut c_void) -> c_int {
    if let Some(task) = Thread::named(thread) {
        // SAFETY: passed on to the caller.
        return unsafe { put(value, task.join(thread, None)) };
    }
    // SAFETY: passed on to the caller.
    let join = move |value| unsafe { original::pthread_join(thread, value) };
    // SAFETY: as above.
    unsafe { join_by(thread, value, join) }
}

unsafe fn join_timedjoin(thread: pthread_t, value: *mut *mut c_void, limit: *const timespec) -> c_int {
    if let Some(task) = Thread::named(thread) {
        // SAFETY: passed on to the caller.
        return unsafe { join_task_by(&task, thread, value, libc::CLOCK_REALTIME, limit) };
    }
    let limit = limit.expose_provenance();
    // SAFETY: passed on to the caller, who waits for this.
    let join =
        move |value| unsafe { original::pthread_timedjoin_np(thread, value, ptr::with_exposed_provenance(limit)) };
    // SAFETY: as above.
    unsafe { join_by(thread, value, join) }
}

unsafe fn join_clockjoin(
    thread: pthread_t,
    value: *mut *mut c_void,
    clock: clockid_t,
    limit: *const timespec,
) -> c_int {
    if let Some(task) = Thread::named(thread) {
        // SAFETY: passed on to the caller.
        return unsafe { join_task_by(&task, thread, value, clock, limit) };
    }
    let limit = limit.expose_provenance();
    // SAFETY: passed on to the caller, who waits for this.
    let join = move |value| unsafe {
        original::pthread_clockjoin_np(thread, value, clock, ptr::with_exposed_provenance(limit))
    };
    // SAFETY: as above.
    unsafe { join_by(thread, value, join) }
}

/// Joins by `join`, on a native thread if the thread has not ended.
///
/// # Safety
///
/// As `pthread_join`.
unsafe fn join_by(
    thread: pthread_t,
    value: *mut *mut c_void,
    join: impl Fn(*mut *mut c_void) -> c_int + Send + 'static,
) -> c_int {
    let Some(hub) = hub_for(Areas::SYNC) else { return join(value) };
    // SAFETY: no precondition.
    let is_self = unsafe { libc::pthread_self() } == thread;
    if is_self {
        return join(value);
    }
    // SAFETY: passed on to the caller.
    match unsafe { original::pthread_tryjoin_np(thread, value) } {
        libc::EBUSY => {}
        other => return other,
    }
    let Caller::Task(hub) = Caller::here(Some(hub)) else { return join(value) };
    let (done, joined) = super::natively(hub, move || {
        let mut joined = ptr::null_mut();
        let done = join(&raw mut joined);
        (done, joined.expose_provenance())
    });
    // SAFETY: passed on to the caller.
    unsafe { put(value, if done == 0 { Ok(joined) } else { Err(done) }) }
}

/// # Safety
///
/// As `pthread_clockjoin_np`.
unsafe fn join_task_by(
    task: &Thread,
    thread: pthread_t,
    value: *mut *mut c_void,
    clock: clockid_t,
    limit: *const timespec,
) -> c_int {
    // SAFETY: passed on to the caller.
    let joined = match unsafe { until(clock, limit) } {
        Some(until) => task.join(thread, until),
        None => Err(libc::EINVAL),
    };
    // SAFETY: as above.
    unsafe { put(value, joined) }
}

/// Gives a thread's value to who has joined it.
///
/// # Safety
///
/// The place is null or good.
unsafe fn put(place: *mut *mut c_void, joined: Result<usize, c_int>) -> c_int {
    match joined {
        Ok(value) => {
            if !place.is_null() {
                // SAFETY: passed on to the caller.
                unsafe { *place = ptr::with_exposed_provenance_mut(value) };
            }
            0
        }
        Err(number) => number,
    }
}
