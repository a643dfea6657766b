//! Read-write locks of the C library: as its mutexes.
//!
//! Who gives one back wakes the first in line if that wants to write, else all who want to read: nobody who wants to read is left behind
//! while others do, for they may wait for each other. Who gives up waiting may have been in others' way and does the same.

use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_int, clockid_t, pthread_rwlock_t, timespec};

use super::mutex::{insist, owner_number, until};
use super::parking::{self, Key, Kind, Until};
use super::symbol::interpose;
use crate::hub::Hub;
use crate::thread_block;

interpose! {
    fn pthread_rwlock_rdlock(lock: *mut pthread_rwlock_t) -> c_int, SYNC => rwlock_rdlock;
    fn pthread_rwlock_tryrdlock(lock: *mut pthread_rwlock_t) -> c_int, all SYNC => rwlock_tryrdlock;
    fn pthread_rwlock_timedrdlock(lock: *mut pthread_rwlock_t, limit: *const timespec) -> c_int, SYNC => rwlock_timedrdlock;
    fn pthread_rwlock_clockrdlock(
        lock: *mut pthread_rwlock_t,
        clock: clockid_t,
        limit: *const timespec,
    ) -> c_int, SYNC => rwlock_clockrdlock;
    fn pthread_rwlock_wrlock(lock: *mut pthread_rwlock_t) -> c_int, SYNC => rwlock_wrlock;
    fn pthread_rwlock_trywrlock(lock: *mut pthread_rwlock_t) -> c_int, all SYNC => rwlock_trywrlock;
    fn pthread_rwlock_timedwrlock(lock: *mut pthread_rwlock_t, limit: *const timespec) -> c_int, all SYNC => rwlock_timedwrlock;
    fn pthread_rwlock_clockwrlock(
        lock: *mut pthread_rwlock_t,
        clock: clockid_t,
        limit: *const timespec,
    ) -> c_int, all SYNC => rwlock_clockwrlock;
    fn pthread_rwlock_unlock(lock: *mut pthread_rwlock_t) -> c_int, all SYNC => rwlock_unlock;
}

unsafe fn rwlock_tryrdlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { original::pthread_rwlock_tryrdlock(lock) }
}

unsafe fn rwlock_trywrlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { original::pthread_rwlock_trywrlock(lock) }
}

unsafe fn rwlock_rdlock(hub: &'static Hub, lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: passed on to the caller.
    read(hub, lock, || Some(None), || unsafe { original::pthread_rwlock_rdlock(lock) })
}

unsafe fn rwlock_timedrdlock(hub: &'static Hub, lock: *mut pthread_rwlock_t, limit: *const timespec) -> c_int {
    // SAFETY: passed on to the caller.
    let native = || unsafe { original::pthread_rwlock_timedrdlock(lock, limit) };
    // SAFETY: as above.
    read(hub, lock, || unsafe { until(libc::CLOCK_REALTIME, limit) }, native)
}

unsafe fn rwlock_clockrdlock(
    hub: &'static Hub,
    lock: *mut pthread_rwlock_t,
    clock: clockid_t,
    limit: *const timespec,
) -> c_int {
    // SAFETY: passed on to the caller.
    let native = || unsafe { original::pthread_rwlock_clockrdlock(lock, clock, limit) };
    // SAFETY: as above.
    read(hub, lock, || unsafe { until(clock, limit) }, native)
}

unsafe fn rwlock_wrlock(hub: &'static Hub, lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: passed on to the caller.
    write(Some(hub), lock, || Some(None), || unsafe { original::pthread_rwlock_wrlock(lock) })
}

unsafe fn rwlock_timedwrlock(lock: *mut pthread_rwlock_t, limit: *const timespec) -> c_int {
    let hub = super::gate::hub_for(super::Areas::SYNC);
    // SAFETY: passed on to the caller.
    let native = || unsafe { original::pthread_rwlock_timedwrlock(lock, limit) };
    // SAFETY: as above.
    write(hub, lock, || unsafe { until(libc::CLOCK_REALTIME, limit) }, native)
}

unsafe fn rwlock_clockwrlock(lock: *mut pthread_rwlock_t, clock: clockid_t, limit: *const timespec) -> c_int {
    let hub = super::gate::hub_for(super::Areas::SYNC);
    // SAFETY: passed on to the caller.
    let native = || unsafe { original::pthread_rwlock_clockwrlock(lock, clock, limit) };
    // SAFETY: as above.
    write(hub, lock, || unsafe { until(clock, limit) }, native)
}

unsafe fn rwlock_unlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: passed on to the caller.
    let done = unsafe { original::pthread_rwlock_unlock(lock) };
    // From here on the lock may be gone: it is a number.
    if parking::wake_some(lock.addr()) > 0 {
        parking::let_others_go_first();
    }
    done
}

fn read(
    hub: &'static Hub,
    lock: *mut pthread_rwlock_t,
    until: impl FnOnce() -> Option<Option<Until>>,
    native: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: passed on to the caller of the symbol.
    let attempt = || unsafe { original::pthread_rwlock_tryrdlock(lock) };
    match attempt() {
        libc::EBUSY => {}
        other => return other,
    }
    if has_own(lock) {
        return native();
    }
    insist(hub, Key { address: lock.addr(), kind: Kind::Read }, is_shared(lock), until, attempt, native)
}

fn write(
    hub: Option<&'static Hub>,
    lock: *mut pthread_rwlock_t,
    until: impl FnOnce() -> Option<Option<Until>>,
    native: impl FnOnce() -> c_int,
) -> c_int {
    let result = match hub {
        None => native(),
        Some(hub) => {
            // SAFETY: passed on to the caller of the symbol.
            let attempt = || unsafe { original::pthread_rwlock_trywrlock(lock) };
            match attempt() {
                libc::EBUSY if has_own(lock) => native(),
                libc::EBUSY => {
                    let key = Key { address: lock.addr(), kind: Kind::Write };
                    insist(hub, key, is_shared(lock), until, attempt, native)
                }
                other => other,
            }
        }
    };
    if result != 0 {
        parking::wake_some(lock.addr());
    }
    result
}

/// The words of glibc's lock, fixed by its static initializers, that say who writes, by his number in the kernel, and whether processes
/// share it.
const WRITER: usize = 6;
const SHARED: usize = 7;

/// Whether it is the caller who writes: then the original says so. Tasks that share thread-locals have one number, which tells nothing.
fn has_own(lock: *mut pthread_rwlock_t) -> bool {
    if thread_block::identity() == 0 {
        return false;
    }
    // SAFETY: the lock is the caller's and has so many words; other threads may write this one.
    let writer = unsafe { AtomicI32::from_ptr(lock.cast::<c_int>().wrapping_add(WRITER)) };
    writer.load(Ordering::Relaxed) == owner_number()
}

fn is_shared(lock: *mut pthread_rwlock_t) -> bool {
    // SAFETY: the lock is the caller's and has so many words; this one does not change.
    unsafe { lock.cast::<c_int>().wrapping_add(SHARED).read() != 0 }
}
