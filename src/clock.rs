//! Time, as everything here means it: `CLOCK_MONOTONIC`, read through std's [`Instant`].
//!
//! Inside the crate a point in time is always a deadline, an [`Instant`]; a [`Duration`] is a timeout and exists only
//! at the public edge, where [`deadline_after`] turns it into a deadline once. A wait that is resumed therefore never
//! starts its time again.
//!
//! The clock does not run while the machine is suspended, and nobody can set it. Reading it is no system call on
//! Linux (vDSO), yet still dearer than a switch: the hub reads it once a turn, not once a switch.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// Reads the clock.
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The point in time that lies `timeout` after now; `None` if the clock cannot express it, which means "never".
///
/// A deadline that is `None` is not inserted among the timers: a wait for `Duration::MAX` is a wait without a timeout.
pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
    now().checked_add(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_lies_the_whole_timeout_ahead() {
        let before = now();
        let deadline = deadline_after(Duration::from_millis(5)).expect("5 ms fit");
        let after = now();
        assert!(before + Duration::from_millis(5) <= deadline);
        assert!(deadline <= after + Duration::from_millis(5));
    }

    #[test]
    fn a_timeout_of_zero_is_already_due() {
        assert!(deadline_after(Duration::ZERO).expect("now fits") <= now());
    }

    #[test]
    fn a_timeout_beyond_the_clock_is_never() {
        assert_eq!(deadline_after(Duration::MAX), None);
    }
}
