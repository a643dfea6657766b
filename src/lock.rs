//! A lock for a few instructions: what threads share of a queue of waiters.
//!
//! Nothing switches while it is held, and nobody holds it longer than it takes to look at a list. So it does not need what a
//! mutex needs, a queue of those who wait for it: who finds it taken spins, then lets other threads run, then sleeps a
//! little (a holder of lower priority must get its turn).
//!
//! Why not `std::sync::Mutex`: giving this one back is a plain store, which halves its cost; and std's waits through
//! `libc::syscall`, which patched programs answer with a switch.
//!
//! - **K1** The value is reached only through the one [`Guard`], and the word says whose that is.
//! - **K3** Who holds one, or a [`Steady`], is not switched away by a patched lock: an allocator's, that is.
//! - **K2** A holder that asks again is a bug, met where code of the user's (an `Ord`) runs under the lock: it panics.

use std::cell::UnsafeCell;
use std::fmt;
use std::hint;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, WaitTimeoutResult};
use std::thread;
use std::time::Duration;

/// A value that several threads look at, one at a time and briefly.
pub(crate) struct Lock<T> {
    /// [`FREE`], or the holder's [`token`].
    holder: AtomicUsize,
    value: UnsafeCell<T>,
}

// SAFETY: the value is handed from thread to thread, one at a time (K1).
unsafe impl<T: Send> Sync for Lock<T> {}

const FREE: usize = 0;

/// Looks at the word so many times before other threads get the processor, and so many before it sleeps.
const SPINS: u32 = 64;
const SPINS_AND_YIELDS: u32 = SPINS + 32;
const SLEEP: Duration = Duration::from_micros(50);

#[cfg(feature = "monkey")]
thread_local! {
    /// How many reasons there are that nothing may switch here.
    static STEADY: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// While it exists, a patched lock that this code comes to does not switch: something is half changed, and an allocator may
/// have locks of its own (K3).
#[derive(Debug)]
#[must_use]
pub(crate) struct Steady(PhantomData<*const ()>);

#[inline(always)]
pub(crate) fn steady() -> Steady {
    #[cfg(feature = "monkey")]
    STEADY.set(STEADY.get() + 1);
    Steady(PhantomData)
}

/// Runs `f` with a [`Steady`].
#[inline(always)]
pub(crate) fn steadily<R>(f: impl FnOnce() -> R) -> R {
    let _steady = steady();
    f()
}

#[cfg(feature = "monkey")]
impl Drop for Steady {
    #[inline(always)]
    fn drop(&mut self) {
        STEADY.set(STEADY.get() - 1);
    }
}

/// Whether there is any [`Steady`] on this thread.
#[cfg(feature = "monkey")]
pub(crate) fn is_steady() -> bool {
    STEADY.get() > 0
}

/// A number that no other living thread has: an address in its own memory.
#[inline]
pub(crate) fn token() -> usize {
    thread_local! {
        static PLACE: u8 = const { 0 };
    }
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock { holder: AtomicUsize::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Waits until nobody holds it. To be given back soon, without a switch and without waiting for anything else.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        // First, for who waits here gives the processor away, and nothing else.
        let _steady = steady();
        let me = token();
        // Acquire: sees what the last holder left behind.
        if self.holder.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.contend(me);
        }
        Guard { _steady, lock: self }
    }

    #[cold]
    #[inline(never)]
    fn contend(&self, me: usize) {
        let mut tries = 0_u32;
        loop {
            let holder = self.holder.load(Ordering::Relaxed);
            if holder == FREE {
                if self.holder.compare_exchange_weak(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return;
                }
                continue;
            }
            assert!(holder != me, "greenroom: a comparison or the like uses the object that it is called by");
            tries += 1;
            if tries <= SPINS {
                hint::spin_loop();
            } else if tries <= SPINS_AND_YIELDS {
                thread::yield_now();
            } else {
                nap();
            }
        }
    }
}

/// Has the native thread sleep. No patched call: the caller is where nothing may switch.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn nap() {
    let time = libc::timespec { tv_sec: 0, tv_nsec: SLEEP.subsec_nanos().into() };
    // SAFETY: a time that is alive for the call; what is left of it is not asked for.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, std::ptr::null_mut::<libc::timespec>()) };
}

/// Has the native thread sleep.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn nap() {
    thread::sleep(SLEEP);
}

/// A mutex of std's that is held for longer than a [`Lock`] may be, across system calls say; its holder is not switched away either, so
/// that who waits for it by stopping his thread never waits for a task of that thread.
#[derive(Debug, Default)]
pub(crate) struct Slow<T>(Mutex<T>);

/// The mutex, held.
pub(crate) struct SlowGuard<'a, T> {
    /// First, so that it is given back under the other.
    guard: MutexGuard<'a, T>,
    steady: Steady,
}

impl<T> Slow<T> {
    pub(crate) const fn new(value: T) -> Slow<T> {
        Slow(Mutex::new(value))
    }

    /// Stops the thread until it has it. Nothing that runs under it leaves the value half changed, so poison says nothing.
    pub(crate) fn lock(&self) -> SlowGuard<'_, T> {
        let steady = steady();
        SlowGuard { guard: self.0.lock().unwrap_or_else(PoisonError::into_inner), steady }
    }
}

impl<'a, T> SlowGuard<'a, T> {
    /// Waits for a condition, on a native thread that has no hub to keep waiting.
    pub(crate) fn wait_timeout(self, condition: &Condvar, limit: Duration) -> (SlowGuard<'a, T>, WaitTimeoutResult) {
        let SlowGuard { guard, steady } = self;
        let (guard, ended) = condition.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner);
        (SlowGuard { guard, steady }, ended)
    }
}

impl<T> Deref for SlowGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for SlowGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// The lock, held. Gives it back when dropped.
pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
    /// Dropped after the word is given back. It stays on this thread, which the word names.
    _steady: Steady,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: K1: this is the one guard.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: K1: this is the one guard, and it is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: the next holder sees what was done.
        self.lock.holder.store(FREE, Ordering::Release);
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn one_thread_at_a_time_is_inside() {
        let lock = Lock::new((0_u64, 0_u64));
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..50_000 {
                        let mut pair = lock.lock();
                        pair.0 += 1;
                        assert_eq!(pair.0, pair.1 + 1, "somebody else is inside");
                        pair.1 += 1;
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), (200_000, 200_000));
    }

    #[test]
    fn a_holder_that_is_away_is_waited_for() {
        let lock = Lock::new(false);
        let (holding, go) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        thread::scope(|s| {
            s.spawn(|| {
                let mut value = lock.lock();
                holding.wait();
                go.wait();
                thread::sleep(Duration::from_millis(5));
                *value = true;
            });
            holding.wait();
            go.wait();
            assert!(*lock.lock());
        });
    }

    #[test]
    fn asking_again_panics_and_leaves_the_lock_to_its_holder() {
        let lock = Lock::new(1);
        let guard = lock.lock();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(lock.lock()))).is_err());
        drop(guard);
        assert_eq!(*lock.lock(), 1);
    }

    #[test]
    fn an_unwind_gives_it_back() {
        let lock = Lock::new(1);
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            *lock.lock() = 2;
            let _guard = lock.lock();
            panic!("under the lock");
        }));
        assert!(unwound.is_err());
        assert_eq!(*lock.lock(), 2);
    }
}
