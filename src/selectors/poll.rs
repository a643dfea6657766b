//! poll(2): a set of numbers that is looked at as a whole.
//!
//! The set is numbers, and what a number means is found out at each look, as the system does it. Each wait has a [`Nest`] and a bell of
//! its own.
//!
//! - **V1** Who waits has looked at the set as it is now: he puts his bell into the set under the lock, if the version is the one that he has
//!   looked at, and a change of the set retires all bells, whose owners look again.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use super::events::Events;
use super::look::{Bell, find};
use super::nest::Nest;
use crate::lock::Lock;
use crate::sys::{self, PollFd};

/// A set of descriptors to look at with poll(2), as Python's `select.poll`.
///
/// Every descriptor will do: regular files are always ready, and one that is closed is told as [`POLLNVAL`](super::POLLNVAL). What is
/// registered is the number: if it is closed and used again, it means the new file from the next call on.
///
/// Tasks and threads may share it. What one registers, modifies or takes out holds for those that wait already; all of them learn of
/// what is ready for as long as it is.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
/// use greenroom::selectors::{POLLHUP, POLLIN, Poll};
///
/// let (reader, mut writer) = greenroom::io::pipe()?;
/// let poll = Poll::new();
/// poll.register(&reader, POLLIN)?;
///
/// greenroom::spawn(move || writer.write_all(b"ping"));
/// let ready = poll.poll(None)?;
/// assert_eq!(ready[0].0, reader.as_raw_fd());
/// assert!(ready[0].1.contains(POLLIN));
/// # std::io::Result::Ok(())
/// ```
pub struct Poll {
    set: Lock<Set>,
}

struct Set {
    entries: Vec<PollFd>,
    /// Where in `entries` a number is.
    places: HashMap<RawFd, usize>,
    /// Counts changes.
    version: u64,
    /// Of those who wait.
    bells: Vec<Arc<Bell>>,
}

/// The lock guards nothing that could be half changed.
impl RefUnwindSafe for Poll {}

impl Poll {
    /// An empty set.
    #[must_use]
    pub fn new() -> Poll {
        Poll { set: Lock::new(Set { entries: Vec::new(), places: HashMap::new(), version: 0, bells: Vec::new() }) }
    }

    /// Adds a descriptor, or looks for something else if it is in the set. It need not be open.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// `EBADF` for a negative number, [`InvalidInput`](io::ErrorKind::InvalidInput) for events that poll(2) does not know: those of epoll
    /// alone.
    pub fn register(&self, fd: &impl AsRawFd, events: Events) -> io::Result<()> {
        self.set(fd.as_raw_fd(), events, false)
    }

    /// Looks for something else.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if it is not in the set, and those of [`register`](Self::register).
    pub fn modify(&self, fd: &impl AsRawFd, events: Events) -> io::Result<()> {
        self.set(fd.as_raw_fd(), events, true)
    }

    /// Takes a descriptor out of the set; it may be closed by now.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if it is not in the set.
    pub fn unregister(&self, fd: &impl AsRawFd) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        let mut set = self.set.lock();
        let set = &mut *set;
        let place = set.places.remove(&fd).ok_or_else(unknown)?;
        set.entries.swap_remove(place);
        if let Some(moved) = set.entries.get(place) {
            set.places.insert(moved.fd, place);
        }
        set.has_changed();
        Ok(())
    }

    /// Waits until a descriptor has something, and gives all that have: numbers, each with its events, in no order.
    ///
    /// A `timeout` of `None` waits for ever, one of zero not at all; when it runs out, the result is empty.
    ///
    /// # Switching
    ///
    /// Yes, if there is nothing yet; else now and then.
    ///
    /// # Cancellation
    ///
    /// Nothing is left behind.
    ///
    /// # Errors
    ///
    /// Those of the system: [`InvalidInput`](io::ErrorKind::InvalidInput) if there are more in the set than the process may have open, a
    /// lack of descriptors or memory for the wait.
    pub fn poll(&self, timeout: Option<Duration>) -> io::Result<Vec<(RawFd, Events)>> {
        let looked = RefCell::new((Vec::new(), 0));
        let look = |timeout| {
            let (entries, version) = &mut *looked.borrow_mut();
            let set = self.set.lock();
            entries.clone_from(&set.entries);
            *version = set.version;
            drop(set);
            let count = sys::poll(entries, timeout)?;
            Ok((count > 0).then(|| found(entries, count)))
        };
        let mut nest = None;
        let found = find(timeout, look, |deadline, _alone| {
            let waiting = match &mut nest {
                Some(waiting) => waiting,
                None => nest.insert(Nest::take()?),
            };
            let (entries, version) = &*looked.borrow();
            match Hung::new(self, Bell::new(waiting.fd()), *version) {
                Some(hung) => waiting.wait(&hung.bell, entries, *version, deadline),
                None => Ok(true),
            }
        })?;
        if let Some(nest) = nest {
            nest.keep();
        }
        Ok(found.unwrap_or_default())
    }

    fn set(&self, fd: RawFd, events: Events, must_be_known: bool) -> io::Result<()> {
        if fd < 0 {
            return Err(sys::bad_descriptor());
        }
        if u16::try_from(events.bits()).is_err() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "events that poll(2) does not know"));
        }
        let mut set = self.set.lock();
        let known = set.places.get(&fd).copied();
        let entry = sys::poll_entry(fd, events.bits());
        match known {
            Some(place) => set.entries[place] = entry,
            None if must_be_known => return Err(unknown()),
            None => {
                let place = set.entries.len();
                set.entries.push(entry);
                set.places.insert(fd, place);
            }
        }
        set.has_changed();
        Ok(())
    }
}

impl Set {
    /// Has those who wait look again (V1).
    fn has_changed(&mut self) {
        self.version += 1;
        for bell in self.bells.drain(..) {
            bell.retire();
        }
    }
}

/// A bell that hangs in a set while its owner waits.
struct Hung<'a> {
    poll: &'a Poll,
    bell: Arc<Bell>,
}

impl Hung<'_> {
    /// `None` if the set has changed since that version (V1).
    fn new(poll: &Poll, bell: Bell, version: u64) -> Option<Hung<'_>> {
        let bell = Arc::new(bell);
        let mut set = poll.set.lock();
        if set.version != version {
            return None;
        }
        set.bells.push(bell.clone());
        Some(Hung { poll, bell })
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        // Under the lock, so that nobody else drops the bell later, when the number of its descriptor may be another's.
        self.poll.set.lock().bells.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
    }
}

impl Default for Poll {
    fn default() -> Poll {
        Poll::new()
    }
}

fn found(entries: &[PollFd], count: usize) -> Vec<(RawFd, Events)> {
    let mut found = Vec::with_capacity(count);
    for entry in entries {
        let events = sys::poll_found(entry);
        if events != 0 {
            found.push((entry.fd, Events::from_bits(events)));
        }
    }
    found
}

fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the descriptor is not registered")
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll").field("descriptors", &self.set.lock().entries.len()).finish_non_exhaustive()
    }
}
