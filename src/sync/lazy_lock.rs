//! `LazyLock`: std's, whose waiters park.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::raw_once::{Begin, RawOnce};

/// A value that is made when it is first looked at: [`std::sync::LazyLock`], but who waits for it parks.
///
/// The initializer may park, and so others may come meanwhile; they wait for it. One that looks at its own value
/// panics, where std's waits for ever.
///
/// # Poisoning
///
/// As with std's: an initializer that unwinds, by a panic, a kill or a timeout, poisons the lock for good: whoever looks at the value
/// panics.
///
/// # Examples
///
/// ```
/// use greenroom::sync::LazyLock;
///
/// static ANSWER: LazyLock<String> = LazyLock::new(|| {
///     greenroom::yield_now(); // others may come, and wait
///     "forty-two".to_owned()
/// });
/// assert_eq!(*ANSWER, "forty-two");
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    once: RawOnce,
    /// Changed only by whoever runs `once`, and through exclusive references.
    data: UnsafeCell<Data<T, F>>,
}

enum Data<T, F> {
    Start(F),
    /// When `once` is complete.
    Value(T),
    /// The initializer is running, or was and has unwound.
    Begun,
}

// SAFETY: the initializer may run on another thread, and the value be made there (`Send`), and then is seen by all (`Sync`).
unsafe impl<T: Sync + Send, F: Send> Sync for LazyLock<T, F> {}

impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that `f` will make.
    #[inline]
    pub const fn new(f: F) -> LazyLock<T, F> {
        LazyLock { once: RawOnce::poisoning(), data: UnsafeCell::new(Data::Start(f)) }
    }

    /// The value, made now if it has not been; waits for an initializer that is running. Dereferencing does the same.
    ///
    /// # Switching
    ///
    /// Yes, if the initializer is running, or if it does.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled while it waits leaves nothing behind; one that is cancelled inside the initializer poisons.
    ///
    /// # Panics
    ///
    /// If the initializer does, or has before. If it is called by the initializer.
    #[inline]
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        if !this.once.is_completed() {
            this.init();
        }
        LazyLock::get(this).expect("it is complete")
    }

    /// The value, made now if it has not been, through the only reference there is.
    ///
    /// # Panics
    ///
    /// If the initializer does, or has before.
    #[inline]
    #[track_caller]
    pub fn force_mut(this: &mut LazyLock<T, F>) -> &mut T {
        let data = this.data.get_mut();
        if let Data::Start(_) = data {
            let Data::Start(f) = mem::replace(data, Data::Begun) else { unreachable!("it was there above") };
            this.once.set(false);
            *data = Data::Value(f());
            this.once.set(true);
        }
        match data {
            Data::Value(value) => value,
            _ => poisoned(),
        }
    }

    #[cold]
    #[track_caller]
    fn init(&self) {
        match self.once.begin(false) {
            Begin::Done => {}
            Begin::Poisoned => poisoned(),
            Begin::Run(attempt) => {
                // SAFETY: the attempt is ours alone until it is finished, and nobody looks before. The reference ends here.
                let start = mem::replace(unsafe { &mut *self.data.get() }, Data::Begun);
                let Data::Start(f) = start else { unreachable!("it was not begun before") };
                let value = f();
                // SAFETY: as above.
                unsafe { *self.data.get() = Data::Value(value) };
                attempt.finish();
            }
        }
    }
}

impl<T, F> LazyLock<T, F> {
    /// The value, if it has been made.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn get(this: &LazyLock<T, F>) -> Option<&T> {
        if !this.once.is_completed() {
            return None;
        }
        // SAFETY: it is complete, so nobody changes the data through a shared reference any more.
        match unsafe { &*this.data.get() } {
            Data::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The value, if it has been made, through the only reference there is.
    #[inline]
    pub fn get_mut(this: &mut LazyLock<T, F>) -> Option<&mut T> {
        match this.data.get_mut() {
            Data::Value(value) => Some(value),
            _ => None,
        }
    }
}

#[cold]
#[track_caller]
fn poisoned() -> ! {
    panic!("LazyLock instance has previously been poisoned");
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        LazyLock::force_mut(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    /// A value that [`Default::default`] will make.
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_tuple("LazyLock");
        match LazyLock::get(self) {
            Some(value) => out.field(value),
            None => out.field(&format_args!("<uninit>")),
        };
        out.finish()
    }
}
