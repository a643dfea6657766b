//! Condition variables of the C library.
//!
//! From the moment that locks are patched, whoever waits, native threads too, stands in a table of ours: only there is the mutex given
//! back in a way that wakes the tasks that wait for it. The original is told of every signal as well, for those who were in it before,
//! and may so wake one more, which POSIX allows.
//!
//! Such a wait is no cancellation point of `pthread_cancel`. Condition variables that processes share are left to the original,
//! which stops the thread.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use libc::{c_int, clockid_t, pthread_cond_t, pthread_mutex_t, timespec};

use super::gate::hub_for;
use super::parking::{self, ANY, Caller, End, Key, Kind, Until};
use super::symbol::interpose;
use super::{Areas, mutex};

interpose! {
    fn pthread_cond_wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int, all SYNC => condition_wait;
    fn pthread_cond_timedwait(
        condition: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        limit: *const timespec,
    ) -> c_int, all SYNC => condition_timedwait;
    fn pthread_cond_clockwait(
        condition: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        limit: *const timespec,
    ) -> c_int, all SYNC => condition_clockwait;
    fn pthread_cond_signal(condition: *mut pthread_cond_t) -> c_int, all SYNC => condition_signal;
    fn pthread_cond_broadcast(condition: *mut pthread_cond_t) -> c_int, all SYNC => condition_broadcast;
}

unsafe fn condition_wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int {
    if Flags::of(condition).is_none_or(|flags| flags.is_shared) {
        // SAFETY: passed on to the caller.
        return unsafe { original::pthread_cond_wait(condition, mutex) };
    }
    // SAFETY: as above.
    unsafe { pause(condition, mutex, None) }
}

unsafe fn condition_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    limit: *const timespec,
) -> c_int {
    let flags = Flags::of(condition).filter(|flags| !flags.is_shared);
    // SAFETY: passed on to the caller.
    match flags.and_then(|flags| unsafe { mutex::until(flags.clock, limit) }) {
        // SAFETY: as above.
        Some(until) => unsafe { pause(condition, mutex, until) },
        // SAFETY: as above.
        None => unsafe { original::pthread_cond_timedwait(condition, mutex, limit) },
    }
}

unsafe fn condition_clockwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    limit: *const timespec,
) -> c_int {
    let flags = Flags::of(condition).filter(|flags| !flags.is_shared);
    // SAFETY: passed on to the caller.
    match flags.and_then(|_| unsafe { mutex::until(clock, limit) }) {
        // SAFETY: as above.
        Some(until) => unsafe { pause(condition, mutex, until) },
        // SAFETY: as above.
        None => unsafe { original::pthread_cond_clockwait(condition, mutex, clock, limit) },
    }
}

unsafe fn condition_signal(condition: *mut pthread_cond_t) -> c_int {
    let key = key_of(condition);
    // SAFETY: passed on to the caller.
    let done = unsafe { original::pthread_cond_signal(condition) };
    // Last: who is woken here may be the one who frees it.
    parking::wake(key, ANY, 1);
    done
}

unsafe fn condition_broadcast(condition: *mut pthread_cond_t) -> c_int {
    let key = key_of(condition);
    // SAFETY: passed on to the caller.
    let done = unsafe { original::pthread_cond_broadcast(condition) };
    // Last: who is woken here may be the one who frees it.
    parking::wake(key, ANY, usize::MAX);
    done
}

fn key_of(condition: *mut pthread_cond_t) -> Key {
    Key { address: condition.addr(), kind: Kind::Condition }
}

/// Stands in line, gives the mutex back, waits, and takes it again.
///
/// # Safety
///
/// As `pthread_cond_wait`.
unsafe fn pause(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, until: Option<Until>) -> c_int {
    let caller = Caller::here(hub_for(Areas::SYNC));
    let key = key_of(condition);
    let mut given_back = None;
    let mut give_back = || {
        // SAFETY: passed on to the caller. The symbol, for it wakes who waits.
        let result = unsafe { libc::pthread_mutex_unlock(mutex) };
        given_back = Some(result);
        result == 0
    };
    let mut ended = parking::wait(caller, key, ANY, until.and_then(Until::deadline_or_now), |_| true, &mut give_back);
    match given_back {
        Some(0) => {}
        Some(error) => {
            if ended == End::Woken {
                parking::wake(key, ANY, 1);
            }
            return error;
        }
        None => return libc::EINVAL,
    }
    if ended == End::Elapsed && until.is_some_and(|until| until.deadline().is_some()) {
        // A clock that can be set was to be looked at: the caller looks at what he waits for.
        ended = End::Woken;
    }
    // SAFETY: passed on to the caller.
    match unsafe { mutex::lock_again(mutex) } {
        0 if ended == End::Elapsed => libc::ETIMEDOUT,
        result => result,
    }
}

/// What a condition variable was made with.
#[derive(Clone, Copy, Debug)]
struct Flags {
    is_shared: bool,
    clock: clockid_t,
}

const SHARED: c_int = 1;
const MONOTONIC: c_int = 2;

impl Flags {
    /// `None` where this C library's condition variables are not as we know them.
    fn of(condition: *mut pthread_cond_t) -> Option<Flags> {
        let place = Flags::place()?;
        // SAFETY: the variable is the caller's, and has so many words; other threads may write this one.
        let word =
            unsafe { AtomicI32::from_ptr(condition.cast::<c_int>().wrapping_add(place)) }.load(Ordering::Relaxed);
        let clock = if word & MONOTONIC == 0 { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };
        Some(Flags { is_shared: word & SHARED != 0, clock })
    }

    /// Which word they are in, which differs from one version to the next: looked for in a new one.
    fn place() -> Option<usize> {
        /// 0: not looked for yet; 1: none; else the word's number and 2.
        static PLACE: AtomicUsize = AtomicUsize::new(0);
        let known = PLACE.load(Ordering::Relaxed);
        if known != 0 {
            return known.checked_sub(2);
        }
        let (plain, other) = (Flags::words(false), Flags::words(true));
        let differ = |place: &usize| plain[*place] ^ other[*place] == SHARED | MONOTONIC;
        let found = (0..WORDS).find(differ);
        PLACE.store(found.map_or(1, |place| place + 2), Ordering::Relaxed);
        found
    }

    /// A new one's words, with no flag or with both.
    fn words(flags: bool) -> [c_int; WORDS] {
        let mut attributes = MaybeUninit::<libc::pthread_condattr_t>::uninit();
        let mut condition = MaybeUninit::<pthread_cond_t>::zeroed();
        let (attributes, condition) = (attributes.as_mut_ptr(), condition.as_mut_ptr());
        // SAFETY: fills the attributes.
        unsafe { libc::pthread_condattr_init(attributes) };
        if flags {
            // SAFETY: just filled.
            unsafe { libc::pthread_condattr_setclock(attributes, libc::CLOCK_MONOTONIC) };
            // SAFETY: as above.
            unsafe { libc::pthread_condattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
        }
        // SAFETY: both are alive. Nobody ever waits for it, so it need not be destroyed.
        unsafe { libc::pthread_cond_init(condition, attributes) };
        // SAFETY: it was zeroed, and then filled.
        unsafe { condition.cast::<[c_int; WORDS]>().read() }
    }
}

const WORDS: usize = size_of::<pthread_cond_t>() / size_of::<c_int>();
