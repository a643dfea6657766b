//! Futexes as such: answers and error numbers, as a native thread gets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::{c_int, timespec};

use super::mixes::MIXES;
use super::patch;

const PRIVATE: c_int = libc::FUTEX_PRIVATE_FLAG;

fn futex(word: *const AtomicU32, operation: c_int, value: u32, limit: *const timespec, bits: u32) -> (i64, c_int) {
    // SAFETY: errno is the caller's.
    unsafe { *libc::__errno_location() = 0 };
    // SAFETY: words that are alive, or an error.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, word, operation, value, limit, std::ptr::null::<u32>(), bits) };
    // SAFETY: as above.
    (result, unsafe { *libc::__errno_location() })
}

fn cases() -> Vec<(i64, c_int)> {
    let word = AtomicU32::new(7);
    let odd = std::ptr::from_ref(&word).wrapping_byte_add(1);
    let none = std::ptr::null();
    let soon = timespec { tv_sec: 0, tv_nsec: 2_000_000 };
    let bad = timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    let past = timespec { tv_sec: 1, tv_nsec: 0 };
    let wait_bits = libc::FUTEX_WAIT_BITSET | PRIVATE;
    vec![
        futex(&word, libc::FUTEX_WAIT | PRIVATE, 8, none, 0),
        futex(&word, libc::FUTEX_WAIT, 8, none, 0),
        futex(&word, libc::FUTEX_WAIT | PRIVATE, 7, &raw const soon, 0),
        futex(&word, libc::FUTEX_WAIT, 7, &raw const soon, 0),
        futex(&word, libc::FUTEX_WAIT | PRIVATE, 7, &raw const bad, 0),
        futex(&word, wait_bits, 7, &raw const past, u32::MAX),
        futex(&word, wait_bits | libc::FUTEX_CLOCK_REALTIME, 7, &raw const past, u32::MAX),
        futex(&word, wait_bits, 8, &raw const past, u32::MAX),
        futex(&word, wait_bits, 7, none, 0),
        futex(odd, libc::FUTEX_WAIT | PRIVATE, 7, none, 0),
        futex(none.cast(), libc::FUTEX_WAIT | PRIVATE, 7, none, 0),
        futex(&word, libc::FUTEX_WAKE | PRIVATE, 1, none, 0),
        futex(&word, libc::FUTEX_WAKE_BITSET | PRIVATE, 1, none, 0),
        futex(&word, 99, 1, none, 0),
    ]
}

#[test]
fn a_task_is_answered_as_a_native_thread() {
    patch();
    let native = thread::spawn(cases).join().unwrap();
    assert_eq!(greenroom::spawn(cases).join().unwrap(), native);
}

#[test]
fn as_many_are_woken_as_asked_for_and_those_of_the_mask() {
    patch();
    greenroom::run(|| {
        let word = Arc::new(AtomicU32::new(0));
        let woken = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..6_u32)
            .map(|number| {
                let (word, woken) = (word.clone(), woken.clone());
                greenroom::spawn(move || {
                    let bits = 1 << (number % 2);
                    let ended = futex(&*word, libc::FUTEX_WAIT_BITSET | PRIVATE, 0, std::ptr::null(), bits);
                    assert_eq!(ended, (0, 0));
                    woken.fetch_add(1 << (8 * (number % 2)), Ordering::SeqCst);
                })
            })
            .collect();
        let wake = |operation: c_int, count: u32, bits: u32, other: u32| {
            greenroom::idle();
            let before = woken.load(Ordering::SeqCst);
            let said = if operation == libc::FUTEX_CMP_REQUEUE {
                // SAFETY: words that are alive.
                unsafe {
                    libc::syscall(
                        libc::SYS_futex,
                        &raw const *word,
                        operation | PRIVATE,
                        count,
                        100,
                        &raw const *word,
                        other,
                    )
                }
            } else {
                futex(&*word, operation | PRIVATE, count, std::ptr::null(), bits).0
            };
            greenroom::idle();
            (said, woken.load(Ordering::SeqCst) - before)
        };
        assert_eq!(wake(libc::FUTEX_WAKE_BITSET, 1, 2, 0), (1, 1 << 8));
        assert_eq!(wake(libc::FUTEX_WAKE_BITSET, 9, 1, 0), (3, 3));
        assert_eq!(wake(libc::FUTEX_CMP_REQUEUE, 1, 0, 5), (-1, 0), "the word is another");
        assert_eq!(wake(libc::FUTEX_WAKE, 1, 0, 0), (1, 1 << 8));
        assert_eq!(wake(libc::FUTEX_WAKE, 9, 0, 0), (1, 1 << 8));
        assert_eq!(wake(libc::FUTEX_WAKE, 9, 0, 0), (0, 0));
        greenroom::joinall(tasks).into_iter().for_each(|task| task.unwrap());
    });
}

#[test]
fn no_wake_up_is_lost_between_a_word_and_its_waiters() {
    patch();
    for mix in MIXES {
        let word = Arc::new(AtomicU32::new(0));
        let inside = word.clone();
        // The word goes round: each adds one when it is its turn, and wakes all.
        mix.run(move |who| {
            for round in 0..200 {
                let mine = (round * mix.all() + who) as u32;
                loop {
                    let now = inside.load(Ordering::Relaxed);
                    if now == mine {
                        break;
                    }
                    let (result, number) = futex(&*inside, libc::FUTEX_WAIT | PRIVATE, now, std::ptr::null(), 0);
                    assert!(result == 0 || number == libc::EAGAIN);
                }
                inside.store(mine + 1, Ordering::Relaxed);
                futex(&*inside, libc::FUTEX_WAKE | PRIVATE, i32::MAX as u32, std::ptr::null(), 0);
            }
        });
        assert_eq!(word.load(Ordering::Relaxed) as usize, mix.all() * 200);
    }
}

#[test]
fn a_word_that_processes_share_is_waited_for() {
    patch();
    let word = Arc::new(AtomicU32::new(0));
    let other = word.clone();
    let task = greenroom::spawn(move || {
        while word.load(Ordering::SeqCst) == 0 {
            futex(&*word, libc::FUTEX_WAIT, 0, std::ptr::null(), 0);
        }
    });
    let ticker = greenroom::spawn(|| greenroom::sleep(Duration::from_millis(5)));
    ticker.join().unwrap();
    assert!(!task.is_finished());
    let begun = Instant::now();
    other.store(1, Ordering::SeqCst);
    futex(&*other, libc::FUTEX_WAKE, 1, std::ptr::null(), 0);
    task.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
}
