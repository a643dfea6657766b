//! poll(2): a set of numbers that is looked at as a whole.
//!
//! The set is numbers, and what a number means is found out at each look, as the system does it. The *nest*, an epoll descriptor that
//! says when to look again, knows open files: so each wait tells it anew what to look at, which costs a system call for each number.
//! To leave that out would miss a number that was closed and used again.
//!
//! - **V1** What waiters are to be woken by is in the nest when they park: changes of the set go into the nest too, under the lock, and who
//!   has filled the nest from an older version of the set does it again.
//! - **V2** A nest that cannot take a change is retired: all who wait there look again, and make another.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::RefUnwindSafe;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use super::events::Events;
use super::look::{Bell, find};
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
    nest: Option<Arc<Nest>>,
}

/// Says when to look again.
struct Nest {
    bell: Bell,
    /// The process that made it: a forked child shares the system's object, and must not change it.
    process: u32,
}

/// The lock guards nothing that could be half changed.
impl RefUnwindSafe for Poll {}

impl Poll {
    /// An empty set.
    #[must_use]
    pub fn new() -> Poll {
        Poll { set: Lock::new(Set { entries: Vec::new(), places: HashMap::new(), version: 0, nest: None }) }
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
        set.version += 1;
        if let Some(nest) = set.own_nest() {
            sys::nest_unset(nest.bell.as_fd(), fd);
        }
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
        let mut entries = Vec::new();
        let look = |timeout| {
            entries.clone_from(&self.set.lock().entries);
            let count = sys::poll(&mut entries, timeout)?;
            Ok((count > 0).then(|| found(&entries, count)))
        };
        let mut nest: Option<Arc<Nest>> = None;
        let found = find(timeout, look, |deadline, place| {
            let Some(ready) = nest.take().map_or_else(|| self.fill_nest(), |nest| Ok(Some(nest)))? else {
                return Ok(true);
            };
            match ready.bell.wait(deadline, place) {
                Err(error) if sys::is_bad_descriptor(&error) => Ok(true),
                result => {
                    nest = Some(ready);
                    result
                }
            }
        })?;
        if let (Some(nest), true) = (nest, found.is_some()) {
            nest.bell.pass_on();
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
        set.version += 1;
        let is_told = set.own_nest().is_none_or(|nest| {
            matches!(sys::nest_set(nest.bell.as_fd(), fd, events.bits(), known.is_some()), Ok(true))
        });
        // V2: a regular file, which is ready at once, or one that is closed.
        let retired = if is_told { None } else { set.nest.take() };
        drop(set);
        if let Some(nest) = retired {
            nest.bell.retire();
        }
        Ok(())
    }

    /// A nest with all that is in the set (V1); `None` if a descriptor is closed, which is news.
    fn fill_nest(&self) -> io::Result<Option<Arc<Nest>>> {
        let mut entries = Vec::new();
        loop {
            let set = self.set.lock();
            entries.clone_from(&set.entries);
            let version = set.version;
            let own = set.own_nest().cloned();
            drop(set);
            let (nest, is_new) = match own {
                Some(nest) => (nest, false),
                None => (Arc::new(Nest { bell: Bell::new(sys::nest_create()?), process: process::id() }), true),
            };
            for entry in &entries {
                match sys::nest_set(nest.bell.as_fd(), entry.fd, sys::poll_wanted(entry), !is_new) {
                    Err(error) if sys::is_bad_descriptor(&error) => return Ok(None),
                    // What is never ready, or is so already, is not waited for.
                    result => result?,
                };
            }

            let mut set = self.set.lock();
            if set.version != version {
                continue;
            }
            match set.own_nest() {
                Some(current) if Arc::ptr_eq(current, &nest) => return Ok(Some(nest)),
                None if is_new => {
                    let old = set.nest.replace(nest.clone());
                    drop(set);
                    // The parent's, if there is one.
                    drop(old);
                    return Ok(Some(nest));
                }
                // Somebody else has made one.
                _ => {}
            }
        }
    }
}

impl Set {
    fn own_nest(&self) -> Option<&Arc<Nest>> {
        self.nest.as_ref().filter(|nest| nest.process == process::id())
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
