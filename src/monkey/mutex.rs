//! Mutexes of the C library.
//!
//! A task tries the original; where that is held, it tries for a moment (allocators hold theirs no longer), then stands in line, tries
//! again and parks. Whoever gives a mutex back wakes one who stands there, who tries again: so a newcomer may be quicker, as with the
//! original. What others do to the mutex behind our back (another process, the kernel for one whose owner has died, the queue of
//! one with priority inheritance) is looked for by the clock.
//!
//! Owners are what the C library takes for threads: tasks that share the thread's own thread-locals count as one owner of recursive and
//! error-checking mutexes.

use std::hint;
use std::time::Duration;

use libc::{c_int, clockid_t, pthread_mutex_t, timespec};

use super::gate::hub_for;
use super::parking::{self, ANY, Caller, End, Key, Kind, Until};
use super::symbol::interpose;
use super::{Areas, time};
use crate::hub::Hub;
use crate::lock::steadily;

interpose! {
    fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int, SYNC => mutex_lock;
    fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int, all SYNC => mutex_trylock;
    fn pthread_mutex_timedlock(mutex: *mut pthread_mutex_t, limit: *const timespec) -> c_int, SYNC => mutex_timedlock;
    fn pthread_mutex_clocklock(
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        limit: *const timespec,
    ) -> c_int, SYNC => mutex_clocklock;
    fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int, all SYNC => mutex_unlock;
}

unsafe fn mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { original::pthread_mutex_trylock(mutex) }
}

unsafe fn mutex_lock(hub: &'static Hub, mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: passed on to the caller.
    let native = || unsafe { original::pthread_mutex_lock(mutex) };
    acquire(hub, mutex, || Some(None), native)
}

unsafe fn mutex_timedlock(hub: &'static Hub, mutex: *mut pthread_mutex_t, limit: *const timespec) -> c_int {
    // SAFETY: passed on to the caller.
    let native = || unsafe { original::pthread_mutex_timedlock(mutex, limit) };
    // SAFETY: as above.
    acquire(hub, mutex, || unsafe { until(libc::CLOCK_REALTIME, limit) }, native)
}

unsafe fn mutex_clocklock(
    hub: &'static Hub,
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    limit: *const timespec,
) -> c_int {
    // SAFETY: passed on to the caller.
    let native = || unsafe { original::pthread_mutex_clocklock(mutex, clock, limit) };
    // SAFETY: as above.
    acquire(hub, mutex, || unsafe { until(clock, limit) }, native)
}

unsafe fn mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: passed on to the caller.
    let done = unsafe { original::pthread_mutex_unlock(mutex) };
    // From here on the mutex may be gone: it is a number.
    let address = mutex.addr();
    if done == 0 && parking::wake(Key { address, kind: Kind::Mutex }, ANY, 1) > 0 {
        parking::let_others_go_first();
    }
    done
}

/// Until when to wait; `None` for what is not such a time.
///
/// # Safety
///
/// The pointer is null or good.
pub(super) unsafe fn until(clock: clockid_t, limit: *const timespec) -> Option<Option<Until>> {
    if !matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC) {
        return None;
    }
    // SAFETY: passed on to the caller.
    let time = unsafe { time::read_timespec(limit) }?;
    Some(Some(Until::at(clock, time)))
}

/// Locks for whoever the caller is, as the end of a wait for a condition does.
///
/// # Safety
///
/// As `pthread_mutex_lock`.
pub(super) unsafe fn lock_again(mutex: *mut pthread_mutex_t) -> c_int {
    match hub_for(Areas::SYNC) {
        // SAFETY: passed on to the caller.
        Some(hub) => unsafe { mutex_lock(hub, mutex) },
        // SAFETY: as above.
        None => unsafe { original::pthread_mutex_lock(mutex) },
    }
}

#[inline]
fn acquire(
    hub: &'static Hub,
    mutex: *mut pthread_mutex_t,
    until: impl FnOnce() -> Option<Option<Until>>,
    native: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: passed on to the caller of the symbol.
    let attempt = || unsafe { original::pthread_mutex_trylock(mutex) };
    match attempt() {
        libc::EBUSY => {}
        other => return other,
    }
    if has_own(mutex) {
        return native();
    }
    // An allocator's is held by a native thread, for a moment; one that has to be given the processor first, at times. Nobody is to be
    // switched away in there if that can be helped: he may have other locks.
    if is_held_natively(mutex) {
        for _ in 0..PATIENCE {
            steadily(std::thread::yield_now);
            match attempt() {
                libc::EBUSY => {}
                other => return other,
            }
            if !is_held_natively(mutex) {
                break;
            }
        }
    }
    let key = Key { address: mutex.addr(), kind: Kind::Mutex };
    insist(hub, key, is_apart(mutex), until, attempt, native)
}

/// Tries, and waits between the attempts; what gives the object back wakes `key`. One that is `apart` is looked at by the clock too.
/// An attempt that fails gives `EBUSY`.
#[cold]
pub(super) fn insist(
    hub: &'static Hub,
    key: Key,
    apart: bool,
    until: impl FnOnce() -> Option<Option<Until>>,
    mut attempt: impl FnMut() -> c_int,
    native: impl FnOnce() -> c_int,
) -> c_int {
    let caller @ Caller::Task(_) = Caller::here(Some(hub)) else { return native() };
    for _ in 0..SPINS {
        hint::spin_loop();
    }
    let Some(until) = until() else { return native() };
    let mut pause = SHORTEST;
    let mut is_woken = false;
    loop {
        let mut result = attempt();
        if result != libc::EBUSY {
            return result;
        }
        if is_woken && key.kind == Kind::Write {
            // In vain: it may be a reader who was quicker, and the others who want to read were left for the caller's sake.
            parking::wake(Key { kind: Kind::Read, ..key }, ANY, usize::MAX);
        }
        let soon = apart.then(|| Until::after(pause)).filter(|soon| until.is_none_or(|until| soon.is_before(until)));
        pause = (pause * 2).min(LONGEST);
        let ended = parking::wait_until(caller, key, ANY, soon.or(until), |_| {
            result = attempt();
            result == libc::EBUSY
        });
        match ended {
            End::Refused => return result,
            End::Elapsed if soon.is_none() => {
                // The last look may have been before the time was over.
                return match attempt() {
                    libc::EBUSY => libc::ETIMEDOUT,
                    other => other,
                };
            }
            End::Elapsed | End::Woken => is_woken = ended == End::Woken,
        }
    }
}

const SPINS: u32 = 100;
/// How often other native threads get the processor before the task parks.
const PATIENCE: u32 = 32;

/// What is given back behind our back is looked at so often.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(10);

/// The words of glibc's mutex that are part of its binary interface, for static initializers hold them: the owner's number in
/// the kernel, and the kind.
const OWNER: usize = 2;
const KIND: usize = 4;
/// Robust, with priorities, shared between processes.
const APART: c_int = 16 | 32 | 64 | 128;
const TYPE: c_int = 3;

fn word(mutex: *mut pthread_mutex_t, index: usize) -> c_int {
    // SAFETY: the mutex is the caller's, and has so many words; another thread may write this one.
    let word = unsafe { std::sync::atomic::AtomicI32::from_ptr(mutex.cast::<c_int>().wrapping_add(index)) };
    word.load(std::sync::atomic::Ordering::Relaxed)
}

/// Whether it may be given back in a way that does not come here.
fn is_apart(mutex: *mut pthread_mutex_t) -> bool {
    word(mutex, KIND) & APART != 0
}

/// Whether it checks for errors, and the caller has it: then the original says so.
fn has_own(mutex: *mut pthread_mutex_t) -> bool {
    word(mutex, KIND) & TYPE == libc::PTHREAD_MUTEX_ERRORCHECK && word(mutex, OWNER) == owner_number()
}

/// Whether it is a thread that has it, or a task without thread-locals of its own, but none of this thread.
fn is_held_natively(mutex: *mut pthread_mutex_t) -> bool {
    let owner = word(mutex, OWNER);
    // SAFETY: no precondition.
    (1..=GREATEST_THREAD).contains(&owner) && owner != unsafe { libc::gettid() }
}

/// The kernel numbers threads up to this one; tasks with thread-locals of their own have greater ones.
const GREATEST_THREAD: c_int = 1 << 22;

/// What the C library takes for the caller's number in the kernel: what it writes into a mutex. A task with thread-locals of its
/// own has another one than the kernel says.
pub(super) fn owner_number() -> c_int {
    let mut own = libc::PTHREAD_MUTEX_INITIALIZER;
    let own = &raw mut own;
    // SAFETY: a mutex that nobody else knows.
    unsafe { original::pthread_mutex_lock(own) };
    let number = word(own, OWNER);
    // SAFETY: as above.
    unsafe { original::pthread_mutex_unlock(own) };
    number
}
