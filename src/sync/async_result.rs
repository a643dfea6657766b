//! `AsyncResult`: a value that comes once, and those who wait for it.

#![forbid(unsafe_code)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::Elapsed;
use crate::gate::Gate;
use crate::hub::{Reason, Tell, Wakes};
use crate::task::Waitable;

/// A value that one task or thread sets, once, and that any number of others wait for and see.
///
/// A failure is a value like others: with an `AsyncResult<Result<T, E>>` all who wait see it, and each decides what to do about
/// it.
///
/// For [`wait`](crate::wait) and [`iwait`](crate::iwait) it is ready when it is set.
///
/// # Examples
///
/// ```
/// use greenroom::sync::{Arc, AsyncResult};
///
/// let answer = Arc::new(AsyncResult::new());
/// let tasks: Vec<_> = (0..3)
///     .map(|_| {
///         let answer = answer.clone();
///         greenroom::spawn(move || *answer.get())
///     })
///     .collect();
/// assert_eq!(answer.set(42), Ok(()));
/// assert_eq!(answer.set(43), Err(43));
/// assert!(greenroom::joinall(tasks).into_iter().all(|result| result.unwrap() == 42));
/// ```
///
/// Others see the value itself, so only what threads may share can be shared with them:
///
/// ```compile_fail
/// let cell = greenroom::sync::AsyncResult::<std::cell::Cell<i32>>::new();
/// std::thread::scope(|s| {
///     s.spawn(|| cell.get());
/// });
/// ```
pub struct AsyncResult<T> {
    /// Set under the gate's lock only, so nobody ever waits in it.
    value: OnceLock<T>,
    gate: Gate<()>,
}

// Nothing that can unwind leaves it half changed.
impl<T: UnwindSafe> UnwindSafe for AsyncResult<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for AsyncResult<T> {}

impl<T> AsyncResult<T> {
    /// An unset one.
    pub const fn new() -> AsyncResult<T> {
        AsyncResult { value: OnceLock::new(), gate: Gate::new(()) }
    }

    /// Sets the value, and wakes all who wait for it.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// The value, if there is one already.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut wakes = Wakes::new();
        let mut gate = self.gate.lock();
        self.value.set(value)?;
        gate.open(&mut wakes);
        Ok(())
    }

    /// Whether the value is there.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.value.get().is_some()
    }

    /// Waits for the value.
    ///
    /// # Switching
    ///
    /// Yes, unless the value is there.
    #[inline]
    pub fn get(&self) -> &T {
        if self.value.get().is_none() {
            self.wait_until(None);
        }
        self.value.get().expect("without a deadline only the value ends the wait")
    }

    /// As [`get`](Self::get), but waits no longer than `timeout`.
    ///
    /// # Switching
    ///
    /// Yes, unless the value is there.
    ///
    /// # Errors
    ///
    /// [`Elapsed`], if there was no value by then.
    #[inline]
    pub fn get_timeout(&self, timeout: Duration) -> Result<&T, Elapsed> {
        self.wait_timeout(timeout);
        self.value.get().ok_or(Elapsed(()))
    }

    /// The value, if it is there.
    ///
    /// # Switching
    ///
    /// Never.
    #[inline]
    pub fn try_get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Waits until the value is there.
    ///
    /// # Switching
    ///
    /// Yes, unless it is.
    #[inline]
    pub fn wait(&self) {
        if !self.is_set() {
            self.wait_until(None);
        }
    }

    /// As [`wait`](Self::wait), but not longer than `timeout`. Says whether the value is there.
    ///
    /// # Switching
    ///
    /// Yes, unless it is.
    #[inline]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_set() || self.wait_until(clock::deadline_after(timeout))
    }

    /// The value, if it is there, of one that nobody else can see any more.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out, if it is there; another can be set then.
    pub fn take(&mut self) -> Option<T> {
        self.value.take()
    }

    #[cold]
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let gate = self.gate.lock();
        self.is_set() || self.gate.wait(gate, Reason::Other(&"an async result"), deadline)
    }
}

impl<T> AsyncResult<T> {
    pub(crate) fn gate(&self) -> &Gate<()> {
        &self.gate
    }
}

impl<T> Waitable for AsyncResult<T> {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.gate.watch(ready, |()| self.is_set())
    }

    fn unwatch(&self, key: u64) {
        self.gate.unwatch(key);
    }
}

impl<T> Default for AsyncResult<T> {
    fn default() -> AsyncResult<T> {
        AsyncResult::new()
    }
}

impl<T> From<T> for AsyncResult<T> {
    /// One that is set already.
    fn from(value: T) -> AsyncResult<T> {
        AsyncResult { value: OnceLock::from(value), gate: Gate::new(()) }
    }
}

impl<T: fmt::Debug> fmt::Debug for AsyncResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_tuple("AsyncResult");
        match self.try_get() {
            Some(value) => out.field(value).finish(),
            None => out.field(&format_args!("<unset>")).finish(),
        }
    }
}
