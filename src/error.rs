//! The errors that only this crate can meet; sockets speak `io::Error`, as std's do.

#![forbid(unsafe_code)]

use std::any::Any;
use std::error::Error;
use std::fmt;

/// Why a task gave no result.
///
/// A panic's message is part of the `Display` form; the payload itself is inside, as [`std::thread::JoinHandle`] gives
/// it, and can be passed on with [`std::panic::resume_unwind`].
#[non_exhaustive]
pub enum JoinError {
    /// The task was killed before it finished; what it had on its stack was dropped.
    Killed,
    /// The task panicked with this payload.
    Panicked(Box<dyn Any + Send + 'static>),
}

impl JoinError {
    /// The panic's message, if the task panicked with one.
    pub fn message(&self) -> Option<&str> {
        match self {
            JoinError::Killed => None,
            JoinError::Panicked(payload) => message_of(&**payload),
        }
    }

    /// Whether the task was killed.
    pub fn is_killed(&self) -> bool {
        matches!(self, JoinError::Killed)
    }

    /// Whether the task panicked.
    pub fn is_panicked(&self) -> bool {
        matches!(self, JoinError::Panicked(_))
    }
}

/// The message that a panic was raised with; `None` for a payload that is no text.
pub(crate) fn message_of(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&'static str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Killed => f.write_str("Killed"),
            JoinError::Panicked(_) => {
                f.debug_tuple("Panicked").field(&self.message().unwrap_or("Box<dyn Any>")).finish()
            }
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.message()) {
            (JoinError::Killed, _) => f.write_str("the task was killed"),
            (JoinError::Panicked(_), Some(message)) => write!(f, "the task panicked: {message}"),
            (JoinError::Panicked(_), None) => f.write_str("the task panicked with a payload that is no text"),
        }
    }
}

impl Error for JoinError {}

/// The time given to a block of code ran out before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(pub(crate) ());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time ran out")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    /// An error of kind `TimedOut`.
    fn from(elapsed: Elapsed) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// A task-local was used while the task's locals were being dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError(pub(crate) ());

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task's locals are being dropped, or have been")
    }
}

impl Error for AccessError {}
