//! `Mutex`: std's, whose waiters park.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

use super::poison;
use super::raw::RawMutex;

/// Gives one task or native thread at a time access to a value: [`std::sync::Mutex`], but who waits for it parks.
///
/// Those who wait get it in the order in which they came, and whoever comes later waits behind them. A task may park while it
/// holds the guard; that keeps the others out for as long.
///
/// # Poisoning
///
/// As with std's: the mutex is poisoned when its guard is dropped by an unwind. A kill or a timeout that ends the holder unwinds it
/// too, and leaves the value as half changed as a panic does. [`clear_poison`](Self::clear_poison), or
/// [`PoisonError::into_inner`] for a value that cannot be left so.
///
/// # Examples
///
/// ```
/// use greenroom::sync::Mutex;
/// use std::sync::Arc;
///
/// let total = Arc::new(Mutex::new(0));
/// let tasks: Vec<_> = (0..10)
///     .map(|i| {
///         let total = total.clone();
///         greenroom::spawn(move || {
///             let mut total = total.lock().unwrap();
///             greenroom::yield_now(); // the others come, and wait
///             *total += i;
///         })
///     })
///     .collect();
/// greenroom::joinall(tasks);
/// assert_eq!(*total.lock().unwrap(), 45);
/// ```
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    poison: poison::Flag,
    value: UnsafeCell<T>,
}

// SAFETY: the value is handed from one holder to the next, which may be on another thread.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above: one holder at a time.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

// Whoever sees a value that was left half changed is told so.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

/// Access to the value of a [`Mutex`], which is given back when this is dropped.
///
/// It stays on its thread, as std's does:
///
/// ```compile_fail
/// let mutex = greenroom::sync::Mutex::new(0);
/// std::thread::scope(|s| {
///     let guard = mutex.lock().unwrap();
///     s.spawn(move || drop(guard));
/// });
/// ```
#[must_use = "if unused the mutex is unlocked at once"]
#[clippy::has_significant_drop]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    entry: poison::Entry,
    /// Not `Send`: a holder's unwinding is that of its own thread.
    _stays: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the value only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    /// An unlocked mutex around `value`.
    #[inline]
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { raw: RawMutex::new(), poison: poison::Flag::new(), value: UnsafeCell::new(value) }
    }

    /// The value, of a mutex that nobody else can see any more.
    ///
    /// # Errors
    ///
    /// The value too, if the mutex is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.get();
        let value = self.value.into_inner();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the mutex is free and those who came before have had it, and takes it.
    ///
    /// A task that holds the mutex already would wait for itself, for ever.
    ///
    /// # Switching
    ///
    /// Yes, if somebody holds it.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled while it waits leaves the line; if the mutex had just been given to it, the next gets it.
    ///
    /// # Errors
    ///
    /// The guard all the same, if the mutex is poisoned.
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.raw.lock(None);
        self.guard()
    }

    /// Takes the mutex if nobody holds it.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`]; [`TryLockError::Poisoned`], with the guard.
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if self.raw.try_lock() { Ok(self.guard()?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Whether somebody unwound while they held the guard.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Takes the mark of poison off.
    #[inline]
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, through the only reference there is.
    ///
    /// # Errors
    ///
    /// The reference all the same, if the mutex is poisoned.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let poisoned = self.poison.get();
        let value = self.value.get_mut();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }

    /// The lock alone: who holds the guard may give it back and take it again meanwhile.
    #[inline]
    pub(super) fn raw(&self) -> &RawMutex {
        &self.raw
    }

    /// The mark of poison.
    #[inline]
    pub(super) fn poison(&self) -> &poison::Flag {
        &self.poison
    }

    /// The guard of a mutex that the caller has just taken.
    #[inline]
    fn guard(&self) -> LockResult<MutexGuard<'_, T>> {
        self.poison.guard(MutexGuard { mutex: self, entry: self.poison.enter(), _stays: PhantomData })
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The mutex that this is a guard of.
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard's owner holds the mutex, and nobody else does.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard's owner holds the mutex, and the guard is borrowed mutably.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.poison.leave(&self.entry);
        self.mutex.raw.unlock();
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => out.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => out.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => out.field("data", &format_args!("<locked>")),
        };
        out.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
