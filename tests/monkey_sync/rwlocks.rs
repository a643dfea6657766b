//! Read-write locks of the C library, to the letter: whom they let in together, and what they tell who has one already.

use std::sync::Arc;

use libc::{c_int, pthread_rwlock_t};

use super::common::check;
use super::patch;
use super::pthread::Shared;

type Place = Arc<Shared<pthread_rwlock_t>>;

fn new() -> Place {
    Arc::new(Shared::new(libc::PTHREAD_RWLOCK_INITIALIZER))
}

fn read(lock: &Place) -> c_int {
    // SAFETY: a good lock.
    unsafe { libc::pthread_rwlock_rdlock(lock.at()) }
}

fn write(lock: &Place) -> c_int {
    // SAFETY: a good lock.
    unsafe { libc::pthread_rwlock_wrlock(lock.at()) }
}

fn give_back(lock: &Place) {
    // SAFETY: a good lock, which the caller has.
    assert_eq!(unsafe { libc::pthread_rwlock_unlock(lock.at()) }, 0);
}

#[test]
fn who_writes_and_asks_again_is_told() {
    let ask = || {
        let lock = new();
        assert_eq!(write(&lock), 0);
        let told = (read(&lock), write(&lock));
        give_back(&lock);
        told
    };
    patch();
    check(move || {
        let native = std::thread::spawn(ask).join().unwrap();
        assert_eq!(native, (libc::EDEADLK, libc::EDEADLK));
        assert_eq!(greenroom::spawn(ask).join().unwrap(), native);
    });
}

#[test]
fn readers_are_let_in_together_whoever_stands_between_them() {
    patch();
    check(|| {
        let lock = new();
        assert_eq!(write(&lock), 0);
        let met = Arc::new(greenroom::sync::Barrier::new(2));
        let reads = || {
            let (lock, met) = (lock.clone(), met.clone());
            greenroom::spawn(move || {
                assert_eq!(read(&lock), 0);
                met.wait();
                give_back(&lock);
            })
        };
        let first = reads();
        let between = {
            let lock = lock.clone();
            greenroom::spawn(move || {
                assert_eq!(write(&lock), 0);
                give_back(&lock);
            })
        };
        let last = reads();
        greenroom::idle();
        give_back(&lock);
        greenroom::joinall([first, between, last]).into_iter().for_each(|task| task.unwrap());
    });
}

#[test]
fn a_reader_is_not_kept_waiting_by_a_writer_who_was_woken_in_vain() {
    patch();
    check(|| {
        let lock = new();
        assert_eq!(write(&lock), 0);
        let waits = {
            let lock = lock.clone();
            greenroom::spawn(move || {
                assert_eq!(write(&lock), 0);
                give_back(&lock);
            })
        };
        greenroom::idle();
        let met = Arc::new(greenroom::sync::Barrier::new(2));
        let reads = {
            let (lock, met) = (lock.clone(), met.clone());
            greenroom::spawn(move || {
                assert_eq!(read(&lock), 0);
                met.wait();
                give_back(&lock);
            })
        };
        greenroom::idle();
        // The writer is first in line, and another reader is quicker, now and then.
        let lock_again = lock.clone();
        give_back(&lock);
        assert_eq!(read(&lock_again), 0);
        met.wait();
        give_back(&lock_again);
        greenroom::joinall([waits, reads]).into_iter().for_each(|task| task.unwrap());
    });
}
