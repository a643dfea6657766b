//! Why an item was not put, with the item; and why there is none.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

use crate::store;

/// The item that `put` could not put.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError<T> {
    /// The queue is shut down.
    ShutDown(T),
}

/// The item that `try_put` could not put.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryPutError<T> {
    /// There is no room; in a queue without room, nobody waits to get.
    Full(T),
    /// The queue is shut down.
    ShutDown(T),
}

/// The item that `put_timeout` could not put.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutTimeoutError<T> {
    /// The time ran out.
    Elapsed(T),
    /// The queue is shut down.
    ShutDown(T),
}

/// Why `get` and `peek` gave no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetError {
    /// The queue is shut down, and empty.
    ShutDown,
}

/// Why `try_get` and `try_peek` gave no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryGetError {
    /// There is none.
    Empty,
    /// The queue is shut down, and empty.
    ShutDown,
}

/// Why `get_timeout` and `peek_timeout` gave no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetTimeoutError {
    /// The time ran out.
    Elapsed,
    /// The queue is shut down, and empty.
    ShutDown,
}

const FULL: &str = "the queue is full";
const EMPTY: &str = "the queue is empty";
const SHUT_DOWN: &str = "the queue is shut down";

impl<T> PutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        let PutError::ShutDown(item) = self;
        item
    }

    /// Whether the queue is shut down.
    pub fn is_shut_down(&self) -> bool {
        matches!(self, PutError::ShutDown(_))
    }
}

impl<T> TryPutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        let (TryPutError::Full(item) | TryPutError::ShutDown(item)) = self;
        item
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, TryPutError::Full(_))
    }

    /// Whether the queue is shut down.
    pub fn is_shut_down(&self) -> bool {
        matches!(self, TryPutError::ShutDown(_))
    }
}

impl<T> PutTimeoutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        let (PutTimeoutError::Elapsed(item) | PutTimeoutError::ShutDown(item)) = self;
        item
    }

    /// Whether the time ran out.
    pub fn is_elapsed(&self) -> bool {
        matches!(self, PutTimeoutError::Elapsed(_))
    }

    /// Whether the queue is shut down.
    pub fn is_shut_down(&self) -> bool {
        matches!(self, PutTimeoutError::ShutDown(_))
    }
}

impl GetError {
    /// Whether the queue is shut down and empty.
    pub fn is_shut_down(&self) -> bool {
        matches!(self, GetError::ShutDown)
    }
}

impl TryGetError {
    /// Whether there was no item.
    pub fn is_empty(&self) -> bool {
        matches!(self, TryGetError::Empty)
    }

    /// Whether the queue is shut down and empty.
    pub fn is_shut_down(&self) -> bool {
        matches!(self, TryGetError::ShutDown)
    }
}

impl GetTimeoutError {
    /// Whether the time ran out.
    pub fn is_elapsed(&self) -> bool {
        matches!(self, GetTimeoutError::Elapsed)
    }

    /// Whether the queue is shut down and empty.
    pub fn is_shut_down(&self) -> bool {
        matches!(self, GetTimeoutError::ShutDown)
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShutDown(..)")
    }
}

impl<T> fmt::Debug for TryPutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "Full(..)" } else { "ShutDown(..)" })
    }
}

impl<T> fmt::Debug for PutTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_elapsed() { "Elapsed(..)" } else { "ShutDown(..)" })
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHUT_DOWN)
    }
}

impl<T> fmt::Display for TryPutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { FULL } else { SHUT_DOWN })
    }
}

impl<T> fmt::Display for PutTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_elapsed() { "the queue had no room in time" } else { SHUT_DOWN })
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHUT_DOWN)
    }
}

impl fmt::Display for TryGetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { EMPTY } else { SHUT_DOWN })
    }
}

impl fmt::Display for GetTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_elapsed() { "the queue had no item in time" } else { SHUT_DOWN })
    }
}

impl<T> Error for PutError<T> {}
impl<T> Error for TryPutError<T> {}
impl<T> Error for PutTimeoutError<T> {}
impl Error for GetError {}
impl Error for TryGetError {}
impl Error for GetTimeoutError {}

impl<T> From<PutError<T>> for TryPutError<T> {
    fn from(error: PutError<T>) -> TryPutError<T> {
        TryPutError::ShutDown(error.into_inner())
    }
}

impl<T> From<PutError<T>> for PutTimeoutError<T> {
    fn from(error: PutError<T>) -> PutTimeoutError<T> {
        PutTimeoutError::ShutDown(error.into_inner())
    }
}

impl From<GetError> for TryGetError {
    fn from(_: GetError) -> TryGetError {
        TryGetError::ShutDown
    }
}

impl From<GetError> for GetTimeoutError {
    fn from(_: GetError) -> GetTimeoutError {
        GetTimeoutError::ShutDown
    }
}

/// What a put without a deadline met: it waits for room as long as it takes.
impl<T> From<store::PutError<T>> for PutError<T> {
    fn from(error: store::PutError<T>) -> PutError<T> {
        let (store::PutError::Full(item) | store::PutError::Closed(item)) = error;
        PutError::ShutDown(item)
    }
}

impl<T> From<store::PutError<T>> for TryPutError<T> {
    fn from(error: store::PutError<T>) -> TryPutError<T> {
        match error {
            store::PutError::Full(item) => TryPutError::Full(item),
            store::PutError::Closed(item) => TryPutError::ShutDown(item),
        }
    }
}

impl<T> From<store::PutError<T>> for PutTimeoutError<T> {
    fn from(error: store::PutError<T>) -> PutTimeoutError<T> {
        match error {
            store::PutError::Full(item) => PutTimeoutError::Elapsed(item),
            store::PutError::Closed(item) => PutTimeoutError::ShutDown(item),
        }
    }
}

/// What a get without a deadline met: it waits for an item as long as it takes.
impl From<store::GetError> for GetError {
    fn from(_: store::GetError) -> GetError {
        GetError::ShutDown
    }
}

impl From<store::GetError> for TryGetError {
    fn from(error: store::GetError) -> TryGetError {
        match error {
            store::GetError::Empty => TryGetError::Empty,
            store::GetError::Closed => TryGetError::ShutDown,
        }
    }
}

impl From<store::GetError> for GetTimeoutError {
    fn from(error: store::GetError) -> GetTimeoutError {
        match error {
            store::GetError::Empty => GetTimeoutError::Elapsed,
            store::GetError::Closed => GetTimeoutError::ShutDown,
        }
    }
}
