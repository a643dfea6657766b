//! The selector that a program takes if it does not care which: descriptors with data of the user's.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use super::events::{EVENT_READ, EVENT_WRITE, Events};
use crate::lock::Lock;
use crate::sys;

#[cfg(any(target_os = "linux", target_os = "android"))]
type Set = super::Epoll;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
type Set = super::Poll;

/// Descriptors, each with the events that it is waited for and with data of the caller's, as Python's `selectors.DefaultSelector`.
///
/// It is an `Epoll` where there is one, else a [`Poll`](super::Poll); level-triggered. Tasks and threads may share it, as they
/// may these. A descriptor is to be unregistered before it is closed.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use std::rc::Rc;
/// use greenroom::selectors::{DefaultSelector, EVENT_READ};
///
/// // Callbacks as data: each event calls the one of its descriptor.
/// let (mut reader, mut writer) = greenroom::io::pipe()?;
/// let selector = DefaultSelector::new()?;
/// let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
/// let callback: Box<dyn Fn() -> &'static str> = Box::new(|| "there is something");
/// selector.register(&fd, EVENT_READ, callback)?;
///
/// greenroom::spawn(move || writer.write_all(b"ping"));
/// for (key, _events) in selector.select(None)? {
///     assert_eq!((key.data)(), "there is something");
/// }
/// # let _ = reader.read(&mut [0; 4])?;
/// # std::io::Result::Ok(())
/// ```
pub struct DefaultSelector<T> {
    set: Set,
    /// `None` when it is closed. What is in it is in the set, both under the lock.
    keys: Lock<Option<Keys<T>>>,
}

type Keys<T> = HashMap<RawFd, Arc<SelectorKey<T>>>;

/// A descriptor of a [`DefaultSelector`]: its number, what it is waited for, and the caller's data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SelectorKey<T> {
    /// The number.
    pub fd: RawFd,
    /// [`EVENT_READ`], [`EVENT_WRITE`] or both.
    pub events: Events,
    /// The caller's.
    pub data: T,
}

/// The lock guards nothing that could be half changed.
impl<T: RefUnwindSafe> RefUnwindSafe for DefaultSelector<T> {}

impl<T> DefaultSelector<T> {
    /// Makes an empty selector.
    ///
    /// # Errors
    ///
    /// Those of the system: a lack of descriptors.
    pub fn new() -> io::Result<DefaultSelector<T>> {
        Ok(DefaultSelector { set: new_set()?, keys: Lock::new(Some(HashMap::new())) })
    }

    /// Begins to wait for [`EVENT_READ`], [`EVENT_WRITE`] or both on a descriptor, and gives its key.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the number is registered, [`InvalidInput`](io::ErrorKind::InvalidInput) for no
    /// events or others, `EBADF` if the descriptor or the selector is closed. With epoll,
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) for regular files.
    pub fn register(&self, fd: &impl AsRawFd, events: Events, data: T) -> io::Result<Arc<SelectorKey<T>>> {
        let fd = fd.as_raw_fd();
        check(events)?;
        let key = Arc::new(SelectorKey { fd, events, data });
        // The data is the user's, and so is its destructor: on failure it runs when the lock was given back.
        let result = self.with_keys(|keys| {
            if keys.contains_key(&fd) {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the descriptor is registered already"));
            }
            self.set.register(&fd, events)?;
            keys.insert(fd, key.clone());
            Ok(())
        });
        result.map(|()| key)
    }

    /// Waits for other events on a descriptor, and keeps other data. Gives the new key.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if it is not registered, and those of [`register`](Self::register). A descriptor whose events
    /// the system cannot change, since it was closed, is not registered any longer.
    pub fn modify(&self, fd: &impl AsRawFd, events: Events, data: T) -> io::Result<Arc<SelectorKey<T>>> {
        let fd = fd.as_raw_fd();
        check(events)?;
        let key = Arc::new(SelectorKey { fd, events, data });
        let mut old = None;
        let result = self.with_keys(|keys| {
            let known = keys.get_mut(&fd).ok_or_else(unknown)?;
            if known.events != events
                && let Err(error) = self.set.modify(&fd, events)
            {
                old = keys.remove(&fd);
                let _closed = self.set.unregister(&fd);
                return Err(error);
            }
            old = Some(std::mem::replace(known, key.clone()));
            Ok(())
        });
        result.map(|()| key)
    }

    /// Waits for a descriptor no longer, and gives its key. The descriptor may be closed by now.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if it is not registered, `EBADF` if the selector is closed.
    pub fn unregister(&self, fd: &impl AsRawFd) -> io::Result<Arc<SelectorKey<T>>> {
        let fd = fd.as_raw_fd();
        self.with_keys(|keys| {
            let key = keys.remove(&fd).ok_or_else(unknown)?;
            let _closed = self.set.unregister(&fd);
            Ok(key)
        })
    }

    /// Waits until a descriptor is ready, and gives the keys of all that are, each with those of its events that came. An error or a
    /// hang-up counts as all that the descriptor is waited for.
    ///
    /// A `timeout` of `None` waits for ever, one of zero not at all; when it runs out, the result is empty.
    ///
    /// # Switching
    ///
    /// Yes, if nothing is ready; else now and then.
    ///
    /// # Cancellation
    ///
    /// Nothing is left behind.
    ///
    /// # Errors
    ///
    /// `EBADF` if the selector is closed, before or meanwhile.
    pub fn select(&self, timeout: Option<Duration>) -> io::Result<Vec<(Arc<SelectorKey<T>>, Events)>> {
        let most = self.with_keys(|keys| Ok(keys.len()))?.max(1);
        let found = look(&self.set, timeout, most)?;
        let mut ready = Vec::with_capacity(found.len());
        self.with_keys(|keys| {
            for (fd, events) in found {
                if let Some(key) = keys.get(&fd) {
                    let events = meaning(events) & key.events;
                    if !events.is_empty() {
                        ready.push((key.clone(), events));
                    }
                }
            }
            Ok(())
        })?;
        Ok(ready)
    }

    /// The key of a descriptor.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if it is not registered, `EBADF` if the selector is closed.
    pub fn get_key(&self, fd: &impl AsRawFd) -> io::Result<Arc<SelectorKey<T>>> {
        self.with_keys(|keys| keys.get(&fd.as_raw_fd()).cloned().ok_or_else(unknown))
    }

    /// All keys as they are now, by their numbers; `None` if the selector is closed.
    #[must_use]
    pub fn get_map(&self) -> Option<BTreeMap<RawFd, Arc<SelectorKey<T>>>> {
        self.keys.lock().as_ref().map(|keys| keys.iter().map(|(fd, key)| (*fd, key.clone())).collect())
    }

    /// Lets go of all descriptors, which stay open, and of all data. Those who wait get `EBADF`, and so does every other call from now on.
    /// Closing again does nothing.
    ///
    /// # Switching
    ///
    /// As the data's destructors do.
    pub fn close(&self) {
        let keys = self.keys.lock().take();
        close_set(&self.set, keys.as_ref());
        drop(keys);
    }

    fn with_keys<R>(&self, f: impl FnOnce(&mut Keys<T>) -> io::Result<R>) -> io::Result<R> {
        self.keys.lock().as_mut().map_or_else(|| Err(sys::bad_descriptor()), f)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn new_set() -> io::Result<Set> {
    Set::new()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn look(set: &Set, timeout: Option<Duration>, most: usize) -> io::Result<Vec<(RawFd, Events)>> {
    set.poll(timeout, most)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn close_set<T>(set: &Set, _: Option<&Keys<T>>) {
    set.close();
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn new_set() -> io::Result<Set> {
    Ok(Set::new())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn look(set: &Set, timeout: Option<Duration>, _: usize) -> io::Result<Vec<(RawFd, Events)>> {
    set.poll(timeout)
}

/// Who waits wakes at the first descriptor that is told as closed, and finds the selector closed.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn close_set<T>(set: &Set, keys: Option<&Keys<T>>) {
    for fd in keys.into_iter().flat_map(HashMap::keys) {
        let _gone = set.unregister(fd);
    }
    let _woken = set.register(&RawFd::MAX, EVENT_READ);
}

fn check(events: Events) -> io::Result<()> {
    if events.is_empty() || !(EVENT_READ | EVENT_WRITE).contains(events) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither EVENT_READ nor EVENT_WRITE, or more"));
    }
    Ok(())
}

/// As Python has it: whatever is not one of the two is both.
fn meaning(events: Events) -> Events {
    let mut meaning = Events::EMPTY;
    if !(events - EVENT_READ).is_empty() {
        meaning |= EVENT_WRITE;
    }
    if !(events - EVENT_WRITE).is_empty() {
        meaning |= EVENT_READ;
    }
    meaning
}

fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the descriptor is not registered")
}

impl<T> fmt::Debug for DefaultSelector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = self.keys.lock().as_ref().map(HashMap::len);
        f.debug_struct("DefaultSelector").field("registered", &registered).finish_non_exhaustive()
    }
}
