//! A queue's items one by one, to the end or as long as there are some.

#![forbid(unsafe_code)]

use std::fmt;

/// Gets the items of a queue until it is shut down and empty, and waits for them: made by its `iter`, or a `for` loop over a reference.
#[must_use = "iterators are lazy"]
pub struct Iter<'a, Q: ?Sized> {
    pub(super) queue: &'a Q,
}

/// Gets the items of a queue until it is empty: made by its `try_iter`.
#[must_use = "iterators are lazy"]
pub struct TryIter<'a, Q: ?Sized> {
    pub(super) queue: &'a Q,
}

impl<Q: ?Sized> Clone for Iter<'_, Q> {
    fn clone(&self) -> Self {
        Iter { queue: self.queue }
    }
}

impl<Q: ?Sized> Clone for TryIter<'_, Q> {
    fn clone(&self) -> Self {
        TryIter { queue: self.queue }
    }
}

impl<Q: fmt::Debug + ?Sized> fmt::Debug for Iter<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Iter").field(&self.queue).finish()
    }
}

impl<Q: fmt::Debug + ?Sized> fmt::Debug for TryIter<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TryIter").field(&self.queue).finish()
    }
}
