//! Looking, and waiting for a reason to look again.
//!
//! ```text
//!   look (one system call) --found--> done
//!     ^         | nothing
//!     |         v
//!     +-- park: on an epoll descriptor in the hub's poller
//! ```
//!
//! The hub registers that descriptor edge-triggered: it wakes a task when something is added to the list of what is ready there, not
//! for what lies there already. So the look must have left that list empty. epoll_wait(2) does, which a look at an epoll descriptor is.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
use crate::hub::{Hub, Tell};
use crate::io::{Awaitable, Direction, Source};
use crate::lock::Lock;
use crate::sys;
use crate::waiter::{End, Waiter};

/// A descriptor that becomes readable when one of many has something, and that somebody may take away meanwhile.
#[derive(Debug)]
pub(super) struct Bell {
    source: Source<Arc<OwnedFd>>,
    retired: AtomicBool,
}

impl Bell {
    /// The descriptor lies in hubs' pollers from the first wait until the bell is dropped, and may then be in another.
    pub(super) fn new(fd: Arc<OwnedFd>) -> Bell {
        Bell { source: Source::new(fd), retired: AtomicBool::new(false) }
    }

    /// Parks until there may be something; `Ok(false)` if the deadline came first. `EBADF` if it is retired, before or meanwhile.
    pub(super) fn wait(&self, deadline: Option<Instant>, place: End) -> io::Result<bool> {
        // In this order: either we are told of the retirement, or we see the mark.
        self.source.introduce()?;
        self.check()?;
        self.source.wait_for_news(Direction::Read, deadline, place)
    }

    /// Lets another task look that waits here, for there may be more.
    pub(super) fn pass_on(&self) {
        self.source.pass_on(Direction::Read);
    }

    /// Nobody waits here any longer. The descriptor is closed when the last of those who did has gone.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.source.evict();
    }

    /// `EBADF` if it is retired.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.retired.load(Ordering::SeqCst) { Err(sys::bad_descriptor()) } else { Ok(()) }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.get().as_fd()
    }
}

/// A poller as one of several things to wait for; `None` when it is closed, which is news too. It is readable when a look would find
/// something, and never writable.
///
/// poll(2) on an epoll descriptor leaves its list of what is ready as empty as epoll_wait(2) does, if it says that nothing is there.
impl Awaitable for Lock<Option<Arc<Bell>>> {
    fn is_ready(&self, direction: Direction) -> bool {
        let bell = self.lock().clone();
        bell.is_none_or(|bell| bell.source.is_ready(direction))
    }

    fn while_awaited(&self, direction: Direction, waiter: Waiter, inner: &mut dyn FnMut()) -> io::Result<bool> {
        let Some(bell) = self.lock().clone() else { return Ok(false) };
        // As in `Bell::wait`.
        bell.source.introduce()?;
        bell.check()?;
        bell.source.while_awaited(direction, waiter, inner)
    }

    fn watch(&self, direction: Direction, ready: &Tell) -> Option<u64> {
        let bell = self.lock().clone();
        match bell.filter(|bell| bell.source.introduce().and_then(|()| bell.check()).is_ok()) {
            Some(bell) => bell.source.watch(direction, ready),
            None => {
                ready();
                None
            }
        }
    }

    /// Once it is closed, all have been told and none is left, or will be.
    fn unwatch(&self, direction: Direction, key: u64) {
        let bell = self.lock().clone();
        if let Some(bell) = bell {
            bell.source.unwatch(direction, key);
        }
    }
}

/// Looks until something is found: `None` when the time is over.
///
/// `look` waits with the whole thread for as long as it is told; that is not at all where there is a hub, and there `wait` parks. Of
/// nothing that `look` has taken a kill can come in the way: the parking points are before it.
#[inline]
pub(super) fn find<T>(
    timeout: Option<Duration>,
    mut look: impl FnMut(Option<Duration>) -> io::Result<Option<T>>,
    mut wait: impl FnMut(Option<Instant>, End) -> io::Result<bool>,
) -> io::Result<Option<T>> {
    if !Hub::can_park() {
        return find_natively(timeout, look);
    }
    let hub = Hub::try_here()?;
    hub.charge();
    let mut look = || hub.bare(|| look(Some(Duration::ZERO)));
    if let Some(found) = look()? {
        return Ok(Some(found));
    }
    if timeout == Some(Duration::ZERO) {
        return Ok(None);
    }

    let deadline = timeout.and_then(clock::deadline_after);
    let mut place = End::Back;
    loop {
        let in_time = wait(deadline, place)?;
        place = End::Front;
        let found = look()?;
        if found.is_some() || !in_time {
            return Ok(found);
        }
    }
}

/// Stops the native thread, for want of a hub.
#[cold]
fn find_natively<T>(
    timeout: Option<Duration>,
    mut look: impl FnMut(Option<Duration>) -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    let deadline = timeout.and_then(clock::deadline_after);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(clock::now()));
        match look(left) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(None) if left != Some(Duration::ZERO) => {}
            done => return done,
        }
    }
}
