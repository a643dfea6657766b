//! Every interleaving of who waits and who wakes, checked by loom: `RUSTFLAGS="--cfg loom" cargo test --release --lib
//! --features monkey -- models`.
//!
//! The line is a mutex and a list here, as in the table, and parking is a flag that must be set by the end: a waiter that has decided
//! to stay, and that nobody has woken when all wakers are done, sleeps for ever.

#![forbid(unsafe_code)]

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::count::Count;

struct Bucket {
    count: Count,
    line: Mutex<Vec<usize>>,
    woken: [AtomicBool; 2],
    /// What is waited for: relaxed, as users may have it.
    word: AtomicU32,
}

impl Bucket {
    fn new() -> Arc<Bucket> {
        Arc::new(Bucket {
            count: Count::new(),
            line: Mutex::new(Vec::new()),
            woken: [AtomicBool::new(false), AtomicBool::new(false)],
            word: AtomicU32::new(0),
        })
    }

    /// Whether he parks.
    fn wait(&self, who: usize) -> bool {
        let mut line = self.line.lock().unwrap();
        line.push(who);
        self.count.enter();
        if self.word.load(Ordering::Relaxed) == 0 {
            return true;
        }
        line.retain(|other| *other != who);
        self.count.leave();
        false
    }

    fn wake(&self, most: usize) {
        if !self.count.is_awaited() {
            return;
        }
        let mut line = self.line.lock().unwrap();
        for _ in 0..most.min(line.len()) {
            let who = line.remove(0);
            self.count.leave();
            self.woken[who].store(true, Ordering::Release);
        }
    }

    fn is_woken(&self, who: usize) -> bool {
        self.woken[who].load(Ordering::Acquire)
    }
}

#[test]
fn who_waits_sees_the_change_or_is_woken() {
    loom::model(|| {
        let bucket = Bucket::new();
        let waiter = {
            let bucket = bucket.clone();
            thread::spawn(move || bucket.wait(0))
        };
        bucket.word.store(1, Ordering::Relaxed);
        bucket.wake(1);
        let parks = waiter.join().unwrap();
        assert!(!parks || bucket.is_woken(0), "he sleeps for ever");
    });
}

#[test]
fn of_two_who_wait_both_are_woken_by_two() {
    loom::model(|| {
        let bucket = Bucket::new();
        let waiters = [0, 1].map(|who| {
            let bucket = bucket.clone();
            thread::spawn(move || bucket.wait(who))
        });
        bucket.word.store(1, Ordering::Relaxed);
        bucket.wake(2);
        for (who, waiter) in waiters.into_iter().enumerate() {
            assert!(!waiter.join().unwrap() || bucket.is_woken(who), "he sleeps for ever");
        }
    });
}

/// A mutex as it is here: who finds it held stands in line, tries again, and parks.
#[test]
fn a_mutex_that_is_given_back_is_not_left_lying_with_somebody_in_line() {
    loom::model(|| {
        let bucket = Bucket::new();
        // Held at first, by this thread; 1 is free, 0 is held.
        let waiter = {
            let bucket = bucket.clone();
            thread::spawn(move || {
                let take = || bucket.word.compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed).is_ok();
                if take() {
                    return true;
                }
                let mut line = bucket.line.lock().unwrap();
                line.push(0);
                bucket.count.enter();
                if take() {
                    line.clear();
                    bucket.count.leave();
                    return true;
                }
                false
            })
        };
        bucket.word.store(1, Ordering::Release);
        bucket.wake(1);
        let took = waiter.join().unwrap();
        assert!(took || bucket.is_woken(0), "he sleeps for ever, and the mutex is free");
    });
}
