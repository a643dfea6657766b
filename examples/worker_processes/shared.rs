//! Values that all workers share. They lie in the parent, each behind a lock.

use std::collections::HashMap;
use std::io;
use std::sync::PoisonError;

use greenroom::sync::{Mutex, MutexGuard};

/// Values by name. The task that looks after a worker takes the lock for it, and has it for as long as the worker says, or lives: no
/// death leaves a lock taken. A change counts when the lock is given back, so that none is ever seen half made.
pub(crate) struct Shared(HashMap<&'static str, Mutex<u64>>);

impl Shared {
    /// Each is zero at first.
    pub(crate) fn new(names: impl IntoIterator<Item = &'static str>) -> Shared {
        Shared(names.into_iter().map(|name| (name, Mutex::new(0))).collect())
    }

    /// Waits for the lock; first come, first served.
    pub(crate) fn lock(&self, name: &str) -> io::Result<MutexGuard<'_, u64>> {
        let value = self.0.get(name).ok_or_else(|| {
            let what = format!("there is no shared value of the name {name:?}");
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        // Poisoned by a task that was killed with the lock in its hands: the value is whole all the same.
        Ok(value.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The value of one that is known to be there.
    pub(crate) fn get(&self, name: &str) -> u64 {
        *self.lock(name).expect("it was made with the rest")
    }
}
