//! Semaphores, barriers and what is to be run once, of the C library.
//!
//! A semaphore is as a mutex: tried, then waited for in line, and whoever posts wakes one. For one that processes share, a native thread
//! waits in the task's place; so it does at a barrier, which cannot be tried.

use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_int, clockid_t, sem_t, timespec};

use super::gate::{errno, set_errno};
use super::mutex::{insist, until};
use super::parking::{self, ANY, Caller, Key, Kind, Until};
use super::symbol::interpose;
use crate::hub::Hub;

interpose! {
    fn sem_wait(semaphore: *mut sem_t) -> c_int, SYNC => semaphore_wait;
    fn sem_trywait(semaphore: *mut sem_t) -> c_int, all SYNC => semaphore_trywait;
    fn sem_timedwait(semaphore: *mut sem_t, limit: *const timespec) -> c_int, SYNC => semaphore_timedwait;
    fn sem_clockwait(semaphore: *mut sem_t, clock: clockid_t, limit: *const timespec) -> c_int, SYNC => semaphore_clockwait;
    fn sem_post(semaphore: *mut sem_t) -> c_int, all SYNC => semaphore_post;
    fn pthread_barrier_wait(barrier: *mut libc::pthread_barrier_t) -> c_int, SYNC => barrier_wait;
    fn pthread_once(once: *mut c_int, run: Option<unsafe extern "C" fn()>) -> c_int, all SYNC => once_run;
}

unsafe fn semaphore_trywait(semaphore: *mut sem_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { original::sem_trywait(semaphore) }
}

unsafe fn semaphore_wait(hub: &'static Hub, semaphore: *mut sem_t) -> c_int {
    // SAFETY: passed on to the caller.
    take(hub, semaphore, || Some(None), move |place| unsafe { original::sem_wait(place.0) })
}

unsafe fn semaphore_timedwait(hub: &'static Hub, semaphore: *mut sem_t, limit: *const timespec) -> c_int {
    let time = Argument(limit);
    // SAFETY: passed on to the caller, who waits for this.
    let native = move |place: Argument<*mut sem_t>| unsafe { original::sem_timedwait(place.0, { time }.0) };
    // SAFETY: as above.
    take(hub, semaphore, || unsafe { until(libc::CLOCK_REALTIME, limit) }, native)
}

unsafe fn semaphore_clockwait(
    hub: &'static Hub,
    semaphore: *mut sem_t,
    clock: clockid_t,
    limit: *const timespec,
) -> c_int {
    let time = Argument(limit);
    // SAFETY: passed on to the caller, who waits for this.
    let native = move |place: Argument<*mut sem_t>| unsafe { original::sem_clockwait(place.0, clock, { time }.0) };
    // SAFETY: as above.
    take(hub, semaphore, || unsafe { until(clock, limit) }, native)
}

unsafe fn semaphore_post(semaphore: *mut sem_t) -> c_int {
    // SAFETY: passed on to the caller.
    let done = unsafe { original::sem_post(semaphore) };
    // From here on the semaphore may be gone: it is a number.
    let address = semaphore.addr();
    if done == 0 && parking::wake(Key { address, kind: Kind::Semaphore }, ANY, 1) > 0 {
        parking::let_others_go_first();
    }
    done
}

unsafe fn barrier_wait(hub: &'static Hub, barrier: *mut libc::pthread_barrier_t) -> c_int {
    let Caller::Task(hub) = Caller::here(Some(hub)) else {
        // SAFETY: passed on to the caller.
        return unsafe { original::pthread_barrier_wait(barrier) };
    };
    let barrier = Argument(barrier);
    // SAFETY: passed on to the caller, who waits for this.
    super::natively(hub, move || unsafe { original::pthread_barrier_wait({ barrier }.0) })
}

/// The original would stop a second caller of the thread for ever, where the first one parks in what it runs.
unsafe fn once_run(once: *mut c_int, run: Option<unsafe extern "C" fn()>) -> c_int {
    // SAFETY: it is the caller's, and a word.
    let word = unsafe { AtomicI32::from_ptr(once) };
    let key = Key { address: once.addr(), kind: Kind::Once };
    let runner = Key { kind: Kind::Runner, ..key };
    while word.load(Ordering::Acquire) & DONE == 0 {
        // SAFETY: passed on to the caller.
        if let Some(done) = parking::alone(once.addr(), || unsafe { original::pthread_once(once, run) }) {
            return done;
        }
        let caller = Caller::here(super::gate::hub_for(super::Areas::SYNC));
        parking::wait(caller, key, ANY, None, |line| line.has(runner), || true);
    }
    0
}

/// In the word of glibc's `pthread_once_t`.
const DONE: c_int = 2;

/// An argument that goes to a native thread, which its owner waits for.
#[derive(Clone, Copy)]
struct Argument<T>(T);

// SAFETY: what C functions are given they may be given on any thread, and the caller waits until the other one is done.
unsafe impl<T> Send for Argument<T> {}

fn take(
    hub: &'static Hub,
    semaphore: *mut sem_t,
    until: impl FnOnce() -> Option<Option<Until>>,
    native: impl Fn(Argument<*mut sem_t>) -> c_int + Send + 'static,
) -> c_int {
    let saved = errno();
    let attempt = || {
        // SAFETY: passed on to the caller of the symbol.
        match unsafe { original::sem_trywait(semaphore) } {
            0 => 0,
            _ if errno() == libc::EAGAIN => libc::EBUSY,
            _ => errno(),
        }
    };
    let mut result = attempt();
    if result == libc::EBUSY {
        let place = Argument(semaphore);
        let Caller::Task(hub) = Caller::here(Some(hub)) else { return native(place) };
        if is_shared(semaphore) {
            // SAFETY: null or a time: the caller's.
            let wait = move || loop {
                // A signal of that thread's is none of the task's.
                let (done, number) = (native(place), errno());
                if done == 0 || number != libc::EINTR {
                    return (done, number);
                }
            };
            let (done, number) = super::natively(hub, wait);
            result = if done == 0 { 0 } else { number };
        } else {
            let key = Key { address: semaphore.addr(), kind: Kind::Semaphore };
            result = insist(hub, key, false, until, attempt, || if native(place) == 0 { 0 } else { errno() });
        }
    }
    if result == 0 {
        set_errno(saved);
        return 0;
    }
    set_errno(result);
    -1
}

/// The word of glibc's semaphore that says whether processes share it.
const SHARED: usize = 2;

fn is_shared(semaphore: *mut sem_t) -> bool {
    // SAFETY: the semaphore is the caller's and has so many words; this one does not change.
    unsafe { semaphore.cast::<c_int>().wrapping_add(SHARED).read() != 0 }
}
