//! `RwLock`: std's, whose waiters park.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

use super::poison;
use super::raw_rwlock::RawRwLock;

/// Gives any number of readers, or one writer, access to a value: [`std::sync::RwLock`], but who waits for it parks.
///
/// Readers and writers stand in one line, in the order in which they came. Readers that stand there one behind the other are
/// let in together; a reader that comes while a writer waits stands behind it. So neither side starves, and a task that reads
/// already and asks to read once more may wait for a writer that waits for it: for ever.
///
/// # Poisoning
///
/// As with std's: a writer's guard that is dropped by an unwind poisons the lock, and so does one that a kill or a timeout
/// unwinds. Readers poison nothing.
///
/// # Examples
///
/// ```
/// use greenroom::sync::RwLock;
/// use std::rc::Rc;
///
/// let words = Rc::new(RwLock::new(vec!["one"]));
/// let reader = words.read().unwrap();
/// let theirs = words.clone();
/// let writer = greenroom::spawn(move || theirs.write().unwrap().push("two"));
/// greenroom::yield_now();
/// assert_eq!(*reader, ["one"]);
/// assert!(words.try_read().is_err(), "the writer is next");
/// drop(reader);
/// writer.join().unwrap();
/// assert_eq!(*words.read().unwrap(), ["one", "two"]);
/// ```
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    poison: poison::Flag,
    value: UnsafeCell<T>,
}

// SAFETY: the lock may be moved with its value, when nobody has a guard.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: a writer may be on another thread (`Send`), and so may several readers at a time (`Sync`).
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

// Whoever sees a value that was left half changed is told so.
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

/// Shared access to the value of a [`RwLock`], which is given back when this is dropped.
///
/// It stays on its thread, as std's does:
///
/// ```compile_fail,E0277
/// let lock = greenroom::sync::RwLock::new(0);
/// std::thread::scope(|s| {
///     let guard = lock.read().unwrap();
///     s.spawn(move || drop(guard));
/// });
/// ```
///
/// Readers may be on several threads at a time, so the value of a lock that they share must be `Sync`:
///
/// ```compile_fail,E0277
/// let lock = greenroom::sync::RwLock::new(std::cell::Cell::new(0));
/// std::thread::scope(|s| {
///     s.spawn(|| lock.write().unwrap().set(1));
/// });
/// ```
#[must_use = "if unused the lock is given back at once"]
#[clippy::has_significant_drop]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    raw: &'a RawRwLock,
    /// The value, covariantly.
    value: NonNull<T>,
}

// SAFETY: a shared guard gives shared access to the value only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

/// Exclusive access to the value of a [`RwLock`], which is given back when this is dropped.
///
/// It stays on its thread, as std's does:
///
/// ```compile_fail,E0277
/// let lock = greenroom::sync::RwLock::new(0);
/// std::thread::scope(|s| {
///     let guard = lock.write().unwrap();
///     s.spawn(move || drop(guard));
/// });
/// ```
#[must_use = "if unused the lock is given back at once"]
#[clippy::has_significant_drop]
pub struct RwLockWriteGuard<'a, T: ?Sized + 'a> {
    lock: &'a RwLock<T>,
    entry: poison::Entry,
    /// Not `Send`: a holder's unwinding is that of its own thread.
    _stays: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the value only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    /// A lock around `value` that nobody holds.
    #[inline]
    pub const fn new(value: T) -> RwLock<T> {
        RwLock { raw: RawRwLock::new(), poison: poison::Flag::new(), value: UnsafeCell::new(value) }
    }

    /// The value, of a lock that nobody else can see any more.
    ///
    /// # Errors
    ///
    /// The value too, if the lock is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.get();
        let value = self.value.into_inner();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until no writer holds the lock and those who came before have had it, and takes it to read.
    ///
    /// # Switching
    ///
    /// Yes, if a writer holds it or somebody waits.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled while it waits leaves the line; if the lock had just been given to it, the next gets it.
    ///
    /// # Panics
    ///
    /// If there are more readers than can be counted, of which most were leaked.
    ///
    /// # Errors
    ///
    /// The guard all the same, if the lock is poisoned.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.raw.read();
        self.read_guard()
    }

    /// Takes the lock to read if no writer holds it and nobody waits.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`]; [`TryLockError::Poisoned`], with the guard.
    #[inline]
    #[track_caller]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if self.raw.try_read() { Ok(self.read_guard()?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Waits until the lock is free and those who came before have had it, and takes it to write.
    ///
    /// A task that reads or writes already would wait for itself, for ever.
    ///
    /// # Switching
    ///
    /// Yes, if somebody holds it.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled while it waits leaves the line, and readers that stood behind it go in if others read; if the
    /// lock had just been given to it, the next gets it.
    ///
    /// # Errors
    ///
    /// The guard all the same, if the lock is poisoned.
    #[inline]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.raw.write();
        self.write_guard()
    }

    /// Takes the lock to write if nobody holds it.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`]; [`TryLockError::Poisoned`], with the guard.
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if self.raw.try_write() { Ok(self.write_guard()?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Whether somebody unwound while they could write.
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
    /// The reference all the same, if the lock is poisoned.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let poisoned = self.poison.get();
        let value = self.value.get_mut();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }

    /// The guard of one who has just taken a share.
    #[inline]
    fn read_guard(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.poison.guard(self.reader())
    }

    #[inline]
    fn reader(&self) -> RwLockReadGuard<'_, T> {
        let value = NonNull::new(self.value.get()).expect("a field has an address");
        RwLockReadGuard { raw: &self.raw, value }
    }

    /// The guard of one who has just taken the lock.
    #[inline]
    fn write_guard(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.poison.guard(RwLockWriteGuard { lock: self, entry: self.poison.enter(), _stays: PhantomData })
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Makes a writer a reader, with no other writer in between; readers that wait next go in too.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let mut writer = lock.write().unwrap();
    /// *writer = 2;
    /// let reader = RwLockWriteGuard::downgrade(writer);
    /// assert_eq!((*reader, *lock.read().unwrap()), (2, 2));
    /// ```
    pub fn downgrade(guard: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        // Its share is not given back but changed.
        let guard = ManuallyDrop::new(guard);
        guard.lock.raw.downgrade();
        guard.lock.reader()
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value lives as long as the lock, and nobody writes while the guard's owner has a share.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard's owner holds the lock, and nobody else does.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard's owner holds the lock, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.raw.unlock_read();
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(&self.entry);
        self.lock.raw.unlock_write();
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => out.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => out.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => out.field("data", &format_args!("<locked>")),
        };
        out.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
