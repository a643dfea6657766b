//! Sleeping, and blocks of code that run out of time.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::Elapsed;
use crate::hub::{Frame, Hub, Outcome, Reason};
use crate::timers::TimerKey;
use crate::waiter::Clause;

/// Parks the task for at least this long; never returns early. On an idle hub it is less than 200 µs late.
///
/// A duration of zero gives the others a turn. One beyond what the clock can express never ends.
///
/// # Switching
///
/// Yes.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let begun = Instant::now();
/// greenroom::sleep(Duration::from_millis(2));
/// assert!(begun.elapsed() >= Duration::from_millis(2));
/// ```
pub fn sleep(duration: Duration) {
    if duration.is_zero() {
        return crate::yield_now();
    }
    rest_until(clock::deadline_after(duration));
}

/// Parks the task until this moment or a little later; a moment that has passed gives the others a turn.
///
/// # Switching
///
/// Yes.
pub fn sleep_until(deadline: Instant) {
    if deadline <= clock::now() {
        return crate::yield_now();
    }
    rest_until(Some(deadline));
}

fn rest_until(deadline: Option<Instant>) {
    if !Hub::can_park() {
        // The thread itself sleeps.
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(clock::now()));
        return std::thread::sleep(left);
    }
    let hub = Hub::here();
    hub.arm(Clause(0));
    let outcome = hub.park(Reason::Sleep, deadline);
    debug_assert_eq!(outcome, Outcome::Elapsed, "nothing else ends a sleep");
}

/// Runs `f`, but no longer than `limit`: then it is unwound at its parking point, so that its destructors run, and the
/// result is [`Elapsed`].
///
/// Only parking points are left early: code that computes goes on to its next one, and a body that finishes without parking
/// succeeds even if `limit` is zero. Of nested timeouts the earliest fires, and only its own block returns `Elapsed`; the
/// unwind passes through the blocks inside it. Once the block has ended its timeout can reach nothing.
///
/// A `limit` beyond what the clock can express is none.
///
/// # Switching
///
/// As `f` does.
///
/// # Cancellation
///
/// A kill passes through; it wins over the timeout.
///
/// # Panics
///
/// With `f`. And always in a program built with `panic = "abort"`, which cannot unwind the body.
///
/// # Errors
///
/// [`Elapsed`], if the time ran out before `f` was done.
///
/// # Examples
///
/// ```
/// use greenroom::{sleep, timeout};
/// use std::time::Duration;
///
/// let slow = timeout(Duration::from_millis(1), || sleep(Duration::from_secs(3600)));
/// assert!(slow.is_err());
/// assert_eq!(timeout(Duration::from_secs(1), || "in time"), Ok("in time"));
/// ```
#[track_caller]
pub fn timeout<T>(limit: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    if cfg!(panic = "abort") {
        panic!("greenroom: a timeout unwinds its body, and this program is built with panic = \"abort\"");
    }
    let Some(deadline) = clock::deadline_after(limit) else {
        return Ok(f());
    };

    let hub = Hub::here();
    let frame = pin!(Frame::block(hub, Some(deadline)));
    let frame = frame.as_ref();
    let unwinding = hub.current().unwinding.get();
    let ended = {
        let _timer = Armed { hub, key: hub.set_block_timer(deadline, frame.get_ref()) };
        catch_unwind(AssertUnwindSafe(|| frame.enclose(hub, f)))
    };
    match ended {
        // A body that learned by an error that its time is over has not come to its end.
        Ok(_) if frame.was_told() => Err(Elapsed(())),
        Ok(value) => Ok(value),
        Err(payload) if frame.is_target_of(&*payload) => {
            hub.current().unwinding.set(unwinding);
            Err(Elapsed(()))
        }
        Err(payload) => hub.pass_on(payload),
    }
}

/// A block's timer, which must not outlive the block.
struct Armed {
    hub: &'static Hub,
    key: TimerKey,
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.hub.cancel_timer(self.key);
    }
}

/// Holds kills and the timeouts of surrounding blocks back while `f` runs. They are raised at the task's next parking point
/// after it; a timeout set inside `f` works as ever.
///
/// # Switching
///
/// As `f` does.
///
/// # Examples
///
/// ```
/// use greenroom::{shield, sleep, spawn, yield_now};
/// use std::{cell::Cell, rc::Rc, time::Duration};
///
/// let written = Rc::new(Cell::new(false));
/// let flag = written.clone();
/// let task = spawn(move || {
///     shield(|| {
///         sleep(Duration::from_millis(1));
///         flag.set(true);
///     });
///     sleep(Duration::from_secs(3600));
/// });
/// yield_now();
/// task.kill();
/// assert!(written.get());
/// ```
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    let hub = Hub::here();
    let frame = pin!(Frame::shield());
    frame.as_ref().enclose(hub, f)
}
