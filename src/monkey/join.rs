//! The ends of native threads: what is waited for by a native thread in the task's place.

use std::ptr;

use libc::{c_int, c_void, clockid_t, pthread_t, timespec};

use super::parking::Caller;
use super::symbol::interpose;
use crate::hub::Hub;

interpose! {
    fn pthread_join(thread: pthread_t, value: *mut *mut c_void) -> c_int, SYNC => join_join;
    fn pthread_tryjoin_np(thread: pthread_t, value: *mut *mut c_void) -> c_int, all SYNC => join_tryjoin;
    fn pthread_timedjoin_np(
        thread: pthread_t,
        value: *mut *mut c_void,
        limit: *const timespec,
    ) -> c_int, SYNC => join_timedjoin;
    fn pthread_clockjoin_np(
        thread: pthread_t,
        value: *mut *mut c_void,
        clock: clockid_t,
        limit: *const timespec,
    ) -> c_int, SYNC => join_clockjoin;
}

unsafe fn join_tryjoin(thread: pthread_t, value: *mut *mut c_void) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { original::pthread_tryjoin_np(thread, value) }
}

unsafe fn join_join(hub: &'static Hub, thread: pthread_t, value: *mut *mut c_void) -> c_int {
    // SAFETY: passed on to the caller.
    let join = move |value| unsafe { original::pthread_join(thread, value) };
    // SAFETY: as above.
    unsafe { join_by(hub, thread, value, join) }
}

unsafe fn join_timedjoin(
    hub: &'static Hub,
    thread: pthread_t,
    value: *mut *mut c_void,
    limit: *const timespec,
) -> c_int {
    let limit = limit.expose_provenance();
    // SAFETY: passed on to the caller, who waits for this.
    let join =
        move |value| unsafe { original::pthread_timedjoin_np(thread, value, ptr::with_exposed_provenance(limit)) };
    // SAFETY: as above.
    unsafe { join_by(hub, thread, value, join) }
}

unsafe fn join_clockjoin(
    hub: &'static Hub,
    thread: pthread_t,
    value: *mut *mut c_void,
    clock: clockid_t,
    limit: *const timespec,
) -> c_int {
    let limit = limit.expose_provenance();
    // SAFETY: passed on to the caller, who waits for this.
    let join = move |value| unsafe {
        original::pthread_clockjoin_np(thread, value, clock, ptr::with_exposed_provenance(limit))
    };
    // SAFETY: as above.
    unsafe { join_by(hub, thread, value, join) }
}

/// Joins by `join`, on a native thread if the thread has not ended.
///
/// # Safety
///
/// As `pthread_join`.
unsafe fn join_by(
    hub: &'static Hub,
    thread: pthread_t,
    value: *mut *mut c_void,
    join: impl Fn(*mut *mut c_void) -> c_int + Send + 'static,
) -> c_int {
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
    if done == 0 && !value.is_null() {
        // SAFETY: passed on to the caller: it is null or good.
        unsafe { *value = ptr::with_exposed_provenance_mut(joined) };
    }
    done
}
