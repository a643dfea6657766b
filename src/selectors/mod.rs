//! Waiting for many descriptors in one task, as Python's `select` and `selectors` do it: what would stop the thread parks only the
//! task.
//!
//! A program of green threads rarely needs this: a task for each connection is shorter, and as quick. It is for code that exists and
//! is written around a loop of events, and for descriptors that no other module knows.
//!
//! | | looks at | costs |
//! | --- | --- | --- |
//! | [`select()`] | three lists, given with each call | grows with the lists |
//! | [`Poll`] | what is registered, by poll(2) | grows with what is registered |
//! | `Epoll` (Linux) | what is registered, by epoll(7): level, edge, one-shot | grows with what is ready |
//! | `Kqueue` (macOS and the BSDs) | what is registered, by kqueue(2) | grows with what is ready |
//! | [`DefaultSelector`] | what is registered, by the best there is; keeps data with each descriptor | as that |
//!
//! All of them take anything with a descriptor (`AsRawFd`): sockets of [`net`](crate::net) and of std, pipes, timers, terminals,
//! bare numbers. There is no limit on numbers. They only look: reading and writing is up to the caller, who had best put
//! descriptors into non-blocking mode, for a call on a socket of [`net`](crate::net) that has to wait parks the task, and one on std's
//! stops the thread.
//!
//! ```
//! use std::io::{Read, Write};
//! use greenroom::selectors::{DefaultSelector, EVENT_READ};
//!
//! let (mut reader, mut writer) = greenroom::io::pipe()?;
//! let selector = DefaultSelector::new()?;
//! selector.register(&reader, EVENT_READ, "the pipe")?;
//!
//! greenroom::spawn(move || writer.write_all(b"ping"));
//! for (key, events) in selector.select(None)? {
//!     assert_eq!((key.data, events), ("the pipe", EVENT_READ));
//!     let mut text = [0; 4];
//!     reader.read_exact(&mut text)?;
//! }
//! # std::io::Result::Ok(())
//! ```
//!
//! # How a wait works
//!
//! A look comes first, and is one bare system call. Only if it finds nothing, the task parks: on an epoll descriptor that lies in the
//! hub's own poller as a socket does. `Epoll` *is* such a descriptor, so what it tells is exactly what the system tells. [`Poll`] and
//! [`select()`] have one underneath, made when it is first needed, which says only when to look again. Rejected: to wait in the hub's
//! own registrations, which are edge-triggered, kept by other code, and know nothing of bare numbers.
//!
//! The system lets epoll descriptors be nested five deep. The hub takes one of these levels, and [`Poll`] and [`select()`] another.

mod default;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll;
mod events;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod kqueue;
mod look;
mod nest;
mod poll;
mod select;

pub use default::{DefaultSelector, SelectorKey};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use epoll::Epoll;
pub use events::*;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub use kqueue::{Kevent, Kqueue};
#[cfg(feature = "monkey")]
pub(crate) use nest::Nest;
pub use poll::Poll;
pub use select::{Ready, select};
