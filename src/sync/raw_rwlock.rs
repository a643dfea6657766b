//! The lock below `RwLock`: one word while nobody waits, and one line for readers and writers when somebody does.
//!
//! | part of `state` | |
//! | --- | --- |
//! | `AWAITED` | somebody may wait: nobody takes the lock but those in line |
//! | `WRITTEN` | a writer holds it |
//! | `READER`, and up | so many readers hold it |
//!
//! `AWAITED` is set and cleared under the line's lock only. While it is set, nothing is added to the word elsewhere; readers
//! still take themselves off it, and the last one comes to the line's lock to see who may go on. Whoever comes there serves
//! the first in line for as long as what he wants fits, so that it does no harm to come too often.

#![forbid(unsafe_code)]

use std::hint;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::hub::{Hub, Reason, Wakes};
use crate::line::{self, List, Place};
use crate::lock::Lock;

/// A lock without data, which one writer holds or any number of readers.
#[derive(Debug)]
pub(super) struct RawRwLock {
    state: AtomicUsize,
    line: Lock<List<Want>>,
}

const AWAITED: usize = 1;
const WRITTEN: usize = 2;
const READER: usize = 4;

/// A native thread looks so many times before it stands in line: it would have to be woken by the system.
const SPINS: u32 = 100;

/// What somebody takes, or waits to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Read,
    Write,
}

// It says nothing of the data.
impl UnwindSafe for RawRwLock {}
impl RefUnwindSafe for RawRwLock {}

impl Want {
    /// What is added to the word.
    #[inline]
    fn share(self) -> usize {
        match self {
            Want::Read => READER,
            Want::Write => WRITTEN,
        }
    }

    /// Whether it goes together with those who hold the lock.
    #[inline]
    fn fits(self, state: usize) -> bool {
        match self {
            Want::Read => state & WRITTEN == 0 && state <= usize::MAX - READER,
            Want::Write => state < WRITTEN,
        }
    }
}

impl RawRwLock {
    pub(super) const fn new() -> RawRwLock {
        RawRwLock { state: AtomicUsize::new(0), line: Lock::new(List::new()) }
    }

    /// Takes a share for reading, unless a writer holds the lock or somebody waits.
    #[inline]
    #[track_caller]
    pub(super) fn try_read(&self) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & (WRITTEN | AWAITED) == 0 {
            assert!(state <= usize::MAX - READER, "greenroom: a lock has more readers than can be counted");
            // Acquire: sees what the last writer did.
            match self.state.compare_exchange_weak(state, state + READER, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Takes the lock for writing if it is free.
    #[inline]
    pub(super) fn try_write(&self) -> bool {
        // Acquire: sees what the last writer did, and that all readers are done.
        self.state.compare_exchange(0, WRITTEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    #[track_caller]
    pub(super) fn read(&self) {
        if !self.try_read() {
            self.queue(Want::Read);
        }
    }

    #[inline]
    pub(super) fn write(&self) {
        if !self.try_write() {
            self.queue(Want::Write);
        }
    }

    #[cold]
    fn queue(&self, want: Want) {
        if Hub::get().is_none() && self.spin(want) {
            return;
        }
        let line = self.line.lock();
        let mut state = self.state.load(Ordering::Relaxed);
        while state & AWAITED == 0 {
            if want.fits(state) {
                // Acquire: as in `try_read` and `try_write`.
                match self.state.compare_exchange(state, state + want.share(), Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(now) => state = now,
                }
            } else {
                // Who gives it back from now on comes to the line.
                match self.state.compare_exchange(state, state | AWAITED, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(now) => state = now,
                }
            }
        }
        let _got = line::wait(self, &self.line, line, want, Reason::Other(&"a lock"), None);
    }

    fn spin(&self, want: Want) -> bool {
        for _ in 0..SPINS {
            let state = self.state.load(Ordering::Relaxed);
            if state & AWAITED != 0 {
                return false;
            }
            let taken = want.fits(state)
                && match want {
                    Want::Read => self.try_read(),
                    Want::Write => self.try_write(),
                };
            if taken {
                return true;
            }
            hint::spin_loop();
        }
        false
    }

    /// Gives a reader's share back; only its holder calls this.
    #[inline]
    pub(super) fn unlock_read(&self) {
        // Release: the next writer comes after what was read.
        if self.state.fetch_sub(READER, Ordering::Release) == READER + AWAITED {
            self.serve();
        }
    }

    /// Gives the lock back; only the writer calls this.
    #[inline]
    pub(super) fn unlock_write(&self) {
        // Release: the next holder sees what was done.
        if self.state.compare_exchange(WRITTEN, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_awaited();
        }
    }

    /// Makes the writer a reader, and lets those in who read next.
    pub(super) fn downgrade(&self) {
        // Release: other readers see what was done.
        if self.state.compare_exchange(WRITTEN, READER, Ordering::Release, Ordering::Relaxed).is_err() {
            let mut wakes = Wakes::new();
            let mut line = self.line.lock();
            self.state.fetch_add(READER - WRITTEN, Ordering::Release);
            self.hand_over(&mut line, &mut wakes);
        }
    }

    #[cold]
    fn unlock_awaited(&self) {
        let mut wakes = Wakes::new();
        let mut line = self.line.lock();
        self.state.fetch_sub(WRITTEN, Ordering::Release);
        self.hand_over(&mut line, &mut wakes);
    }

    #[cold]
    fn serve(&self) {
        let mut wakes = Wakes::new();
        let mut line = self.line.lock();
        self.hand_over(&mut line, &mut wakes);
    }

    /// Gives the first in line what they want, as long as that fits.
    fn hand_over(&self, line: &mut List<Want>, wakes: &mut Wakes) {
        loop {
            // Acquire: what the holders before did is handed on. Readers may leave meanwhile, which only lets more fit; the last
            // of them comes here again.
            let state = self.state.load(Ordering::Acquire);
            let give = |want: &mut Want| self.state.fetch_add(want.share(), Ordering::Relaxed);
            if line.serve_if(wakes, |want| want.fits(state), give).is_none() {
                break;
            }
        }
        if line.is_empty() {
            self.state.fetch_and(!AWAITED, Ordering::Relaxed);
        }
    }
}

impl Place<List<Want>> for &RawRwLock {
    type Payload = Want;

    fn list<'a>(&self, line: &'a mut List<Want>) -> &'a mut List<Want> {
        line
    }

    /// Those behind a writer may fit.
    fn left(&self, line: &mut List<Want>, wakes: &mut Wakes) {
        self.hand_over(line, wakes);
    }

    fn pass_on(&self, line: &mut List<Want>, want: &mut Want, wakes: &mut Wakes) {
        self.state.fetch_sub(want.share(), Ordering::Release);
        self.hand_over(line, wakes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn more_readers_than_can_be_counted_are_refused() {
        let lock = RawRwLock::new();
        let most = usize::MAX - AWAITED - WRITTEN;
        lock.state.store(most - READER, Ordering::Relaxed);
        assert!(lock.try_read());
        assert!(catch_unwind(AssertUnwindSafe(|| lock.read())).is_err());
        assert_eq!(lock.state.load(Ordering::Relaxed), most);
        lock.unlock_read();
        assert!(lock.try_read());
    }

    #[test]
    fn the_word_is_zero_again_when_all_is_over() {
        let lock = RawRwLock::new();
        std::thread::scope(|s| {
            for i in 0..3 {
                let lock = &lock;
                s.spawn(move || {
                    for round in 0..2000 {
                        if (round + i) % 3 == 0 {
                            lock.write();
                            lock.downgrade();
                        } else {
                            lock.read();
                        }
                        lock.unlock_read();
                    }
                });
            }
        });
        assert_eq!(lock.state.load(Ordering::Relaxed), 0);
    }
}
