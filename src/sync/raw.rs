//! The lock below `Mutex` and `ReentrantMutex`: one word while nobody waits, first come first served when somebody does.
//!
//! | `state` | |
//! | --- | --- |
//! | `FREE` | nobody holds it, nobody waits |
//! | `HELD` | somebody holds it, nobody waits |
//! | `AWAITED` | somebody holds it, and somebody may wait: it is given back under the line's lock |
//!
//! `HELD` and `AWAITED` change into each other under the line's lock only. Who gives back what is awaited hands it to the first
//! in line, and it never is free in between: that is what keeps newcomers from overtaking.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use crate::hub::{Hub, Reason, Wakes};
use crate::line::{self, List, Place};
use crate::lock::Lock;

/// A lock without data.
#[derive(Debug)]
pub(crate) struct RawMutex {
    state: AtomicU8,
    line: Lock<List<()>>,
}

const FREE: u8 = 0;
const HELD: u8 = 1;
const AWAITED: u8 = 2;

/// A native thread looks so many times before it stands in line: it would have to be woken by the system.
const SPINS: u32 = 100;

impl RawMutex {
    pub(crate) const fn new() -> RawMutex {
        RawMutex { state: AtomicU8::new(FREE), line: Lock::new(List::new()) }
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        // Acquire: sees what the last holder did.
        self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Waits for the lock; false if the deadline came first.
    #[inline]
    pub(crate) fn lock(&self, deadline: Option<Instant>) -> bool {
        self.try_lock() || self.lock_slow(deadline)
    }

    #[cold]
    fn lock_slow(&self, deadline: Option<Instant>) -> bool {
        if Hub::get().is_none() && self.spin() {
            return true;
        }
        let line = self.line.lock();
        // Acquire: if it has become free. Who gives it back from now on finds it awaited, and comes here.
        if self.state.swap(AWAITED, Ordering::Acquire) == FREE {
            // Nobody waits, for then it would not have been free.
            self.state.store(HELD, Ordering::Relaxed);
            return true;
        }
        line::wait(self, &self.line, line, (), Reason::Other(&"a lock"), deadline).is_ok()
    }

    fn spin(&self) -> bool {
        for _ in 0..SPINS {
            match self.state.load(Ordering::Relaxed) {
                FREE if self.try_lock() => return true,
                AWAITED => return false,
                _ => std::hint::spin_loop(),
            }
        }
        false
    }

    /// Gives the lock back; only its holder calls this.
    #[inline]
    pub(crate) fn unlock(&self) {
        // Release: the next holder sees what was done.
        if self.state.compare_exchange(HELD, FREE, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_slow();
        }
    }
}

impl RawMutex {
    #[cold]
    fn unlock_slow(&self) {
        let mut wakes = Wakes::new();
        let mut line = self.line.lock();
        self.hand_over(&mut line, &mut wakes);
    }

    /// Makes the first in line the holder; without one the lock is free.
    fn hand_over(&self, line: &mut List<()>, wakes: &mut Wakes) {
        if line.serve(wakes, |()| ()).is_none() {
            // Release: the next holder sees what was done.
            self.state.store(FREE, Ordering::Release);
        } else if line.is_empty() {
            self.state.store(HELD, Ordering::Relaxed);
        }
    }
}

impl Place<List<()>> for &RawMutex {
    type Payload = ();

    fn list<'a>(&self, line: &'a mut List<()>) -> &'a mut List<()> {
        line
    }

    fn left(&self, _: &mut List<()>, _: &mut Wakes) {}

    fn pass_on(&self, line: &mut List<()>, (): &mut (), wakes: &mut Wakes) {
        self.hand_over(line, wakes);
    }
}
