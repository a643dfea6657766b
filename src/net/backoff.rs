//! Retrying where the kernel has no event for "try again now".
//!
//! Unix sockets have two such places. A connect to a listener whose backlog is full gives `EAGAIN`, and nothing in
//! poll(2) or epoll(7) of the connecting socket tells when an entry is free. A datagram for a named socket whose queue
//! is full gives `EAGAIN` too, while the sender stays writable: its own buffer has room, and only a *connected* sender
//! is told about its peer's queue. A call that blocks would wait inside the kernel. We sleep and try again, a little
//! longer each time: no spinning, and at most [`LONGEST`] too late.
//!
//! Rejected: the blocking call on a native thread. It is exact, but a killed caller would leave the thread in it.
//!
//! Servers have a third: nothing tells when a descriptor is free after `EMFILE`. Their pauses are longer, and go on growing.

#![forbid(unsafe_code)]

use std::io;
use std::time::{Duration, Instant};

use crate::hub::Hub;
use crate::time::sleep;

const FIRST: Duration = Duration::from_micros(100);
const LONGEST: Duration = Duration::from_millis(10);

/// A series of growing pauses, up to a deadline.
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
    longest: Duration,
    deadline: Option<Instant>,
}

impl Backoff {
    /// For what another program is about to make possible.
    pub(crate) fn new(deadline: Option<Instant>) -> Backoff {
        Backoff { deadline, ..Backoff::between(FIRST, LONGEST) }
    }

    /// Pauses of `first`, then doubled up to `longest`, without a deadline.
    pub(crate) fn between(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, next: first, longest, deadline: None }
    }

    /// Begins anew with the first pause.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Parks for a moment, never past the deadline. `false` if that has passed already: give up. An error where the thread
    /// can have no hub to park on.
    pub(crate) fn pause(&mut self) -> io::Result<bool> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        if Hub::can_park() {
            Hub::try_here()?;
        }
        sleep(left.map_or(self.next, |left| left.min(self.next)));
        self.next = (self.next * 2).min(self.longest);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut backoff = Backoff::new(None);
        for _ in 0..8 {
            assert!(backoff.pause().unwrap());
        }
        assert_eq!(backoff.next, LONGEST);
        backoff.reset();
        assert_eq!(backoff.next, FIRST);
    }

    #[test]
    fn a_passed_deadline_ends_the_series() {
        assert!(!Backoff::new(Some(Instant::now())).pause().unwrap());
    }
}
