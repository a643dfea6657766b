//! `OnceLock`: std's, whose waiters park.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::raw_once::{Begin, RawOnce};
use crate::hub::Tell;
use crate::task::Waitable;

/// A value that is set once: [`std::sync::OnceLock`], but who waits for it parks.
///
/// The initializer may park, and so others may come meanwhile; they wait for it. If it unwinds, by a panic, a kill or a timeout,
/// the first of them runs his own. An initializer that asks for its own cell panics, where std's waits for ever.
///
/// It is a [`Waitable`]: ready when the value is there.
///
/// # Examples
///
/// ```
/// use greenroom::sync::OnceLock;
/// use std::rc::Rc;
///
/// let cell = Rc::new(OnceLock::new());
/// let theirs = cell.clone();
/// let task = greenroom::spawn(move || *theirs.get_or_init(|| {
///     greenroom::yield_now();
///     1
/// }));
/// greenroom::yield_now();
/// assert_eq!(cell.set(2), Err(2), "it waits for the other");
/// assert_eq!((task.join().unwrap(), cell.get()), (1, Some(&1)));
/// ```
pub struct OnceLock<T> {
    once: RawOnce,
    /// `Some` when `once` is complete. Changed only by whoever runs it, before, and through exclusive references.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value may be set from another thread (`Send`), and is then seen by all (`Sync`).
unsafe impl<T: Sync + Send> Sync for OnceLock<T> {}

impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// A cell without a value.
    #[inline]
    #[must_use]
    pub const fn new() -> OnceLock<T> {
        OnceLock { once: RawOnce::forgiving(), value: UnsafeCell::new(None) }
    }

    /// The value, if it is set. Does not wait for an initializer that is running.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.once.is_completed() {
            // SAFETY: it is complete, so nobody changes the value through a shared reference any more.
            unsafe { &*self.value.get() }.as_ref()
        } else {
            None
        }
    }

    /// The value, if it is set, through the only reference there is.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// Waits until somebody has set the value.
    ///
    /// # Switching
    ///
    /// Yes, unless it is set.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled leaves nothing behind.
    ///
    /// # Panics
    ///
    /// If it is called by the cell's initializer.
    #[inline]
    #[track_caller]
    pub fn wait(&self) -> &T {
        if !self.once.is_completed() {
            self.once.wait(true);
        }
        self.complete()
    }

    /// Sets the value, if nobody has. Waits for an initializer that is running.
    ///
    /// # Switching
    ///
    /// Yes, if an initializer is running.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled leaves nothing behind; `value` is dropped.
    ///
    /// # Panics
    ///
    /// If it is called by the cell's initializer.
    ///
    /// # Errors
    ///
    /// `value`, if there is one already.
    #[inline]
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("an initializer is called once"));
        match value {
            None => Ok(()),
            Some(value) => Err(value),
        }
    }

    /// The value; `f` makes it, if nobody has. Waits for an initializer that is running.
    ///
    /// # Switching
    ///
    /// Yes, if an initializer is running, or if `f` does.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled leaves nothing behind. If it was inside `f`, or about to call it, the next calls his.
    ///
    /// # Panics
    ///
    /// If `f` does. If it is called by the cell's initializer.
    #[inline]
    #[track_caller]
    pub fn get_or_init<F>(&self, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        if !self.once.is_completed() {
            self.init(f);
        }
        self.complete()
    }

    /// The value, if it was set, of a cell that nobody else can see any more.
    #[inline]
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out, if it is set, and leaves a new cell.
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        mem::take(self).into_inner()
    }

    #[cold]
    #[track_caller]
    fn init(&self, f: impl FnOnce() -> T) {
        match self.once.begin(true) {
            Begin::Done => {}
            Begin::Poisoned => unreachable!("failures are forgiven"),
            Begin::Run(attempt) => {
                let value = f();
                // SAFETY: the attempt is ours alone until it is finished, and nobody looks before.
                unsafe { *self.value.get() = Some(value) };
                attempt.finish();
            }
        }
    }

    #[inline]
    fn complete(&self) -> &T {
        self.get().expect("it is complete")
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    /// A new cell with a clone of the value, if it is set.
    fn clone(&self) -> OnceLock<T> {
        match self.get() {
            Some(value) => OnceLock::from(value.clone()),
            None => OnceLock::new(),
        }
    }
}

impl<T> From<T> for OnceLock<T> {
    /// A cell whose value is set.
    fn from(value: T) -> OnceLock<T> {
        let mut cell = OnceLock { once: RawOnce::forgiving(), value: UnsafeCell::new(Some(value)) };
        cell.once.set(true);
        cell
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T> Waitable for OnceLock<T> {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.once.watch(ready)
    }

    fn unwatch(&self, key: u64) {
        self.once.unwatch(key);
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => out.field(value),
            None => out.field(&format_args!("<uninit>")),
        };
        out.finish()
    }
}
