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
use crate::hub::Hub;
use crate::io::{Direction, Source};
use crate::sys;
use crate::waiter::End;

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
