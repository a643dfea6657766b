//! What can be waited for, as a set of bits: those of poll(2), and epoll's own.

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Not, Sub, SubAssign};

use crate::sys::bits;

/// A set of the events of poll(2), and of the modes of epoll(7).
///
/// Sets are made of the constants of this module, with `|`; `&` gives what two have in common, `-` what only the first has.
///
/// # Examples
///
/// ```
/// use greenroom::selectors::{POLLHUP, POLLIN, POLLOUT};
///
/// let both = POLLIN | POLLOUT;
/// assert!(both.contains(POLLIN) && both.intersects(POLLOUT | POLLHUP));
/// assert_eq!(both - POLLIN, POLLOUT);
/// assert_eq!(format!("{both:?}"), "POLLIN | POLLOUT");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Events(u32);

impl Events {
    /// The set without an event.
    pub const EMPTY: Events = Events(0);

    /// The set with the system's bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Events {
        Events(bits)
    }

    /// The system's bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether there is no event in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Events) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in it.
    #[must_use]
    pub const fn intersects(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }
}

macro_rules! constants {
    ($($(#[$attribute:meta])* $name:ident = $bit:ident;)*) => {
        $($(#[$attribute])* pub const $name: Events = Events(bits::$bit);)*
    };
}

constants! {
    /// There is something to read, or a connection to accept; the end counts.
    POLLIN = IN;
    /// There is urgent data to read, or another exceptional condition.
    POLLPRI = PRI;
    /// There is room to write.
    POLLOUT = OUT;
    /// An error stands, or the reading end of a pipe is closed. Told whether asked for or not.
    POLLERR = ERR;
    /// The other side has hung up. Told whether asked for or not.
    POLLHUP = HUP;
    /// The descriptor is not open. Told whether asked for or not.
    POLLNVAL = NVAL;
    /// The peer has shut its writing half down, or hung up.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    POLLRDHUP = RDHUP;

    /// [`POLLIN`], for [`Epoll`](super::Epoll).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    EPOLLIN = IN;
    /// [`POLLPRI`], for [`Epoll`](super::Epoll).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    EPOLLPRI = PRI;
    /// [`POLLOUT`], for [`Epoll`](super::Epoll).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    EPOLLOUT = OUT;
    /// [`POLLERR`], for [`Epoll`](super::Epoll).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    EPOLLERR = ERR;
    /// [`POLLHUP`], for [`Epoll`](super::Epoll).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    EPOLLHUP = HUP;
    /// [`POLLRDHUP`], for [`Epoll`](super::Epoll).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    EPOLLRDHUP = RDHUP;
    /// Tells each event once, when it comes, rather than for as long as it lasts.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    EPOLLET = EDGE;
    /// Tells one event; then the descriptor stays registered and tells nothing until it is modified.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    EPOLLONESHOT = ONE_SHOT;
    /// Of several epoll descriptors that look at the same file, wakes one rather than all. Only with `register`.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    EPOLLEXCLUSIVE = EXCLUSIVE;
    /// Keeps the system from suspending while an event is dealt with, where the process may.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    EPOLLWAKEUP = WAKE_UP;

    /// There is something to read: for [`DefaultSelector`](super::DefaultSelector).
    EVENT_READ = IN;
    /// There is room to write: for [`DefaultSelector`](super::DefaultSelector).
    EVENT_WRITE = OUT;
}

impl BitOr for Events {
    type Output = Events;

    fn bitor(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
}

impl BitAnd for Events {
    type Output = Events;

    fn bitand(self, other: Events) -> Events {
        Events(self.0 & other.0)
    }
}

impl Sub for Events {
    type Output = Events;

    fn sub(self, other: Events) -> Events {
        Events(self.0 & !other.0)
    }
}

impl Not for Events {
    type Output = Events;

    fn not(self) -> Events {
        Events(!self.0)
    }
}

impl BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Events) {
        *self = *self | other;
    }
}

impl BitAndAssign for Events {
    fn bitand_assign(&mut self, other: Events) {
        *self = *self & other;
    }
}

impl SubAssign for Events {
    fn sub_assign(&mut self, other: Events) {
        *self = *self - other;
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: &[(Events, &str)] = &[
            (POLLIN, "POLLIN"),
            (POLLPRI, "POLLPRI"),
            (POLLOUT, "POLLOUT"),
            (POLLERR, "POLLERR"),
            (POLLHUP, "POLLHUP"),
            (POLLNVAL, "POLLNVAL"),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            (POLLRDHUP, "POLLRDHUP"),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            (EPOLLET, "EPOLLET"),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            (EPOLLONESHOT, "EPOLLONESHOT"),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            (EPOLLEXCLUSIVE, "EPOLLEXCLUSIVE"),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            (EPOLLWAKEUP, "EPOLLWAKEUP"),
        ];
        let mut left = *self;
        let mut separator = "";
        for &(event, name) in names {
            if self.contains(event) {
                write!(f, "{separator}{name}")?;
                left -= event;
                separator = " | ";
            }
        }
        if !left.is_empty() || self.is_empty() {
            write!(f, "{separator}{:#x}", left.0)?;
        }
        Ok(())
    }
}
