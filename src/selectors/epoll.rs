//! epoll(7): a descriptor of the system's, waited for in the hub's poller.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use super::events::Events;
use super::look::{Bell, find};
use crate::io::{Awaited, Pollable};
use crate::lock::{Lock, steadily};
use crate::sys::{self, EpollEvent};

/// An epoll descriptor, as Python's `select.epoll`: level-triggered, edge-triggered ([`EPOLLET`](super::EPOLLET)), one-shot
/// ([`EPOLLONESHOT`](super::EPOLLONESHOT)).
///
/// What it tells is exactly what epoll(7) says, for it is the system that tells it. Any number of tasks and threads may register and
/// wait, at the same time; what one registers or modifies holds for those that wait already. Of several that wait, one is woken, and
/// the next only if there is more. It is itself something with a descriptor that can be registered elsewhere, up to the system's limit
/// of nesting, and something that is [`readable`](crate::select::readable) when a [`poll`](Self::poll) would find something, for
/// [`select!`](crate::select!) and [`wait`](crate::wait()); nothing is taken by waiting so.
///
/// A registration belongs to a number *and* its open file. It ends when the last descriptor of that file is closed.
///
/// Linux only.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
/// use std::time::Duration;
/// use greenroom::selectors::{EPOLLET, EPOLLIN, Epoll};
///
/// let (reader, mut writer) = greenroom::io::pipe()?;
/// let epoll = Epoll::new()?;
/// epoll.register(&reader, EPOLLIN | EPOLLET)?;
///
/// writer.write_all(b"ping")?;
/// assert_eq!(epoll.poll(None, 16)?, [(reader.as_raw_fd(), EPOLLIN)]);
/// // The edge was told.
/// assert_eq!(epoll.poll(Some(Duration::from_millis(1)), 16)?, []);
/// # std::io::Result::Ok(())
/// ```
pub struct Epoll {
    /// `None` when it is closed.
    bell: Lock<Option<Arc<Bell>>>,
}

/// The lock guards nothing that could be half changed.
impl RefUnwindSafe for Epoll {}

/// One call takes so many events, at most.
const MOST_AT_ONCE: usize = 4096;

impl Epoll {
    /// Makes an epoll descriptor. It is closed in child processes.
    ///
    /// # Errors
    ///
    /// Those of epoll_create1(2): a lack of descriptors.
    pub fn new() -> io::Result<Epoll> {
        sys::epoll_create().map(Epoll::from)
    }

    /// Begins to look at a descriptor.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// Those of epoll_ctl(2): [`AlreadyExists`](io::ErrorKind::AlreadyExists) if it is registered,
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) for regular files and directories, `EBADF` if the descriptor or this object
    /// is closed.
    pub fn register(&self, fd: &impl AsRawFd, events: Events) -> io::Result<()> {
        sys::epoll_add(self.open()?.as_fd(), fd.as_raw_fd(), events.bits())
    }

    /// Looks for something else. Arms a one-shot registration again, and tells what is ready now as a new edge.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// Those of epoll_ctl(2): [`NotFound`](io::ErrorKind::NotFound) if it is not registered,
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it was registered with [`EPOLLEXCLUSIVE`](super::EPOLLEXCLUSIVE), `EBADF` as for
    /// [`register`](Self::register).
    pub fn modify(&self, fd: &impl AsRawFd, events: Events) -> io::Result<()> {
        sys::epoll_change(self.open()?.as_fd(), fd.as_raw_fd(), events.bits())
    }

    /// Looks at the descriptor no longer.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// Those of epoll_ctl(2): [`NotFound`](io::ErrorKind::NotFound) if it is not registered, `EBADF` as for
    /// [`register`](Self::register).
    pub fn unregister(&self, fd: &impl AsRawFd) -> io::Result<()> {
        sys::epoll_remove(self.open()?.as_fd(), fd.as_raw_fd())
    }

    /// Waits until a registered descriptor has something, and gives at most `max_events` of these, and never more than 4096 at once:
    /// numbers, each with its events.
    ///
    /// A `timeout` of `None` waits for ever, one of zero not at all; when it runs out, the result is empty.
    ///
    /// # Switching
    ///
    /// Yes, if there is nothing yet; else now and then.
    ///
    /// # Cancellation
    ///
    /// Nothing was taken: an edge, or a one-shot event, is for the next who looks.
    ///
    /// # Errors
    ///
    /// `EBADF` if this object is closed, before or meanwhile; [`InvalidInput`](io::ErrorKind::InvalidInput) if `max_events` is zero.
    pub fn poll(&self, timeout: Option<Duration>, max_events: usize) -> io::Result<Vec<(RawFd, Events)>> {
        if max_events == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no room for a single event"));
        }
        let bell = self.open()?;
        let look = |timeout| {
            bell.check()?;
            take(&bell, max_events.min(MOST_AT_ONCE), timeout)
        };
        let found = find(timeout, look, |deadline, place| bell.wait(deadline, place))?;
        if found.is_some() {
            bell.pass_on();
        }
        Ok(found.unwrap_or_default())
    }

    /// Closes the descriptor: every other call fails from now on, and those who wait get `EBADF`. The number is free when the last of these has
    /// gone. Closing again does nothing.
    ///
    /// # Switching
    ///
    /// Never.
    pub fn close(&self) {
        let bell = self.bell.lock().take();
        if let Some(bell) = bell {
            bell.retire();
        }
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.bell.lock().is_none()
    }

    /// The number of the epoll descriptor.
    ///
    /// # Errors
    ///
    /// `EBADF` if it is closed.
    pub fn fileno(&self) -> io::Result<RawFd> {
        Ok(self.open()?.as_fd().as_raw_fd())
    }

    fn open(&self) -> io::Result<Arc<Bell>> {
        self.bell.lock().clone().ok_or_else(sys::bad_descriptor)
    }
}

fn take(bell: &Bell, most: usize, timeout: Option<Duration>) -> io::Result<Option<Vec<(RawFd, Events)>>> {
    thread_local! {
        /// What the system has found. Nothing switches while it is in use.
        static FOUND: RefCell<Vec<EpollEvent>> = const { RefCell::new(Vec::new()) };
    }
    let take = |found: &mut Vec<EpollEvent>| {
        sys::epoll_wait(bell.as_fd(), found, most, timeout)?;
        let events = found.iter().map(sys::epoll_found).map(|(fd, events)| (fd, Events::from_bits(events)));
        Ok((!found.is_empty()).then(|| events.collect()))
    };
    // In the thread's last destructors there is no such thing any more.
    FOUND.try_with(|found| steadily(|| take(&mut found.borrow_mut()))).unwrap_or_else(|_| take(&mut Vec::new()))
}

/// Takes over an epoll descriptor that was made elsewhere, with what is registered there. Who registered something may have given it
/// another name than the number: the lower half of that is told.
impl From<OwnedFd> for Epoll {
    fn from(fd: OwnedFd) -> Epoll {
        Epoll { bell: Lock::new(Some(Arc::new(Bell::new(Arc::new(fd))))) }
    }
}

/// -1 if it is closed.
impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.fileno().unwrap_or(-1)
    }
}

/// Readable when a [`poll`](Epoll::poll) would find something, or would fail because it is closed; never writable.
impl Pollable for Epoll {
    fn awaited(&self) -> Awaited<'_> {
        Awaited(&self.bell)
    }
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll").field("fd", &self.fileno().ok()).finish()
    }
}
