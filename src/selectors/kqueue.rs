//! kqueue(2): a descriptor of the system's, waited for in the hub's poller.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use super::look::{Bell, find};
use crate::io::{Awaited, Pollable};
use crate::lock::Lock;
use crate::sys;

/// A kqueue, as Python's `select.kqueue`. What it tells is exactly what kqueue(2) says.
///
/// Tasks and threads may share it. macOS and the BSDs only.
pub struct Kqueue {
    /// `None` when it is closed.
    bell: Lock<Option<Arc<Bell>>>,
}

/// The lock guards nothing that could be half changed.
impl RefUnwindSafe for Kqueue {}

/// A change to make, or an event that came, as Python's `select.kevent`: the fields are those of kqueue(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kevent {
    /// What it is about: mostly a descriptor.
    pub ident: usize,
    /// How it is looked at: `EVFILT_READ` and others.
    pub filter: i16,
    /// What to do: `EV_ADD` and others; or what came of it.
    pub flags: u16,
    /// The filter's own flags.
    pub fflags: u32,
    /// The filter's own data.
    pub data: i64,
    /// The caller's; given back.
    pub udata: usize,
}

/// One call takes so many events, at most.
const MOST_AT_ONCE: usize = 4096;

impl Kqueue {
    /// Makes a kqueue.
    ///
    /// # Errors
    ///
    /// Those of the system: a lack of descriptors.
    pub fn new() -> io::Result<Kqueue> {
        Ok(Kqueue { bell: Lock::new(Some(Arc::new(Bell::new(Arc::new(sys::kqueue_create()?))))) })
    }

    /// Makes changes, then waits for events and gives at most `max_events`, and never more than 4096 at once. With `max_events` zero it
    /// only makes the changes.
    ///
    /// # Switching
    ///
    /// Yes, if there are no events yet; else now and then.
    ///
    /// # Cancellation
    ///
    /// The changes may be made or not. No event was taken.
    ///
    /// # Errors
    ///
    /// Those of kqueue(2). `EBADF` if this object is closed, before or meanwhile.
    pub fn control(&self, changes: &[Kevent], max_events: usize, timeout: Option<Duration>) -> io::Result<Vec<Kevent>> {
        let bell = self.open()?;
        let mut changes: Vec<_> = changes.iter().map(Kevent::to_system).collect();
        let most = max_events.min(MOST_AT_ONCE);
        let timeout = if most == 0 { Some(Duration::ZERO) } else { timeout };
        let look = |timeout| {
            bell.check()?;
            let mut found = Vec::new();
            sys::kevent(bell.as_fd(), &changes, &mut found, most, timeout)?;
            // They are made.
            changes.clear();
            Ok((!found.is_empty()).then(|| found.iter().map(Kevent::from_system).collect()))
        };
        let found: Option<Vec<Kevent>> = find(timeout, look, |deadline, place| bell.wait(deadline, place))?;
        if found.is_some() {
            bell.pass_on();
        }
        Ok(found.unwrap_or_default())
    }

    /// Closes the descriptor: those who wait get `EBADF`, and so does every other call from now on.
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

    /// The number of the descriptor.
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

impl Kevent {
    fn to_system(&self) -> sys::KernelEvent {
        sys::kernel_event(self.ident, self.filter, self.flags, self.fflags, self.data, self.udata)
    }

    #[allow(clippy::unnecessary_cast, reason = "the fields have other types elsewhere")]
    fn from_system(event: &sys::KernelEvent) -> Kevent {
        Kevent {
            ident: event.ident as usize,
            filter: event.filter as i16,
            flags: event.flags as u16,
            fflags: event.fflags as u32,
            data: event.data as i64,
            udata: event.udata as usize,
        }
    }
}

/// -1 if it is closed.
impl AsRawFd for Kqueue {
    fn as_raw_fd(&self) -> RawFd {
        self.fileno().unwrap_or(-1)
    }
}

/// Readable when [`control`](Kqueue::control) would find an event, or would fail because it is closed; never writable.
impl Pollable for Kqueue {
    fn awaited(&self) -> Awaited<'_> {
        Awaited(&self.bell)
    }
}

impl fmt::Debug for Kqueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kqueue").field("fd", &self.fileno().ok()).finish()
    }
}
