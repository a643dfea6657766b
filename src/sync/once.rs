//! `Once`: std's, whose waiters park.

#![forbid(unsafe_code)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::raw_once::{Begin, RawOnce};

/// Runs an initializer once, whoever comes first: [`std::sync::Once`], but who waits for its end parks.
///
/// The initializer may park. An initializer that asks for its own `Once` panics, where std's waits for ever.
///
/// # Poisoning
///
/// As with std's: an initializer that unwinds, by a panic, a kill or a timeout, leaves the `Once` poisoned. From then on
/// [`call_once`](Self::call_once) panics, and so do those who wait at that moment; [`call_once_force`](Self::call_once_force)
/// tries again, and the first who waits in it does so at once.
///
/// # Examples
///
/// ```
/// use greenroom::sync::Once;
///
/// static START: Once = Once::new();
/// let tasks: Vec<_> = (0..3)
///     .map(|_| {
///         greenroom::spawn(|| {
///             let mut first = false;
///             START.call_once(|| {
///                 greenroom::yield_now(); // the others come, and wait
///                 first = true;
///             });
///             assert!(START.is_completed());
///             first
///         })
///     })
///     .collect();
/// let firsts: Vec<_> = greenroom::joinall(tasks).into_iter().map(Result::unwrap).collect();
/// assert_eq!(firsts, [true, false, false]);
/// ```
pub struct Once {
    raw: RawOnce,
}

// It guards no data.
impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

/// Tells an initializer of [`Once::call_once_force`] what came before it.
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// Whether an initializer has unwound before.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl Once {
    /// A `Once` whose initializer has not been run.
    #[inline]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "std's has none")]
    pub const fn new() -> Once {
        Once { raw: RawOnce::poisoning() }
    }

    /// Runs `f` if nobody has come before; else waits until what was run then has ended.
    ///
    /// # Switching
    ///
    /// Yes, if another initializer is running.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled while it waits leaves nothing behind; one that is cancelled inside `f` poisons.
    ///
    /// # Panics
    ///
    /// If the `Once` is poisoned. If it is called by the initializer that it is running.
    #[inline]
    #[track_caller]
    pub fn call_once<F>(&self, f: F)
    where
        F: FnOnce(),
    {
        if !self.raw.is_completed() {
            self.call(false, |_| f());
        }
    }

    /// As [`call_once`](Self::call_once), but tries again where an initializer has unwound. `f` is told whether one has.
    ///
    /// # Switching
    ///
    /// Yes, if another initializer is running.
    ///
    /// # Cancellation
    ///
    /// As [`call_once`](Self::call_once); if it had just become the caller's turn to try, the next does.
    ///
    /// # Panics
    ///
    /// If it is called by the initializer that it is running.
    #[inline]
    #[track_caller]
    pub fn call_once_force<F>(&self, f: F)
    where
        F: FnOnce(&OnceState),
    {
        if !self.raw.is_completed() {
            self.call(true, f);
        }
    }

    /// Whether an initializer has been run to its end, which is seen together with what it did.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.raw.is_completed()
    }

    /// Waits until somebody has run an initializer to its end.
    ///
    /// # Switching
    ///
    /// Yes, unless that is so already.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled leaves nothing behind.
    ///
    /// # Panics
    ///
    /// If the `Once` is or becomes poisoned. If it is called by the initializer that is running.
    #[track_caller]
    pub fn wait(&self) {
        if !self.raw.is_completed() && !self.raw.wait(false) {
            poisoned();
        }
    }

    /// As [`wait`](Self::wait), whatever initializers unwind before.
    ///
    /// # Switching
    ///
    /// Yes, unless an initializer has been run to its end already.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled leaves nothing behind.
    ///
    /// # Panics
    ///
    /// If it is called by the initializer that is running.
    #[track_caller]
    pub fn wait_force(&self) {
        if !self.raw.is_completed() {
            self.raw.wait(true);
        }
    }

    #[cold]
    #[track_caller]
    fn call(&self, after_poison: bool, f: impl FnOnce(&OnceState)) {
        match self.raw.begin(after_poison) {
            Begin::Done => {}
            Begin::Poisoned => poisoned(),
            Begin::Run(attempt) => {
                f(&OnceState { poisoned: attempt.poisoned });
                attempt.finish();
            }
        }
    }
}

#[cold]
#[track_caller]
fn poisoned() -> ! {
    panic!("Once instance has previously been poisoned");
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl fmt::Debug for OnceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceState").field("poisoned", &self.is_poisoned()).finish()
    }
}
