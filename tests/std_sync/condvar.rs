//! The scenarios of std's tests of `Condvar`.

use super::{channel, go};
use greenroom::sync::{Condvar, Mutex};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(2);
const EVER: Duration = Duration::MAX;

#[test]
fn a_notification_for_nobody_is_nothing() {
    let condvar = Condvar::new();
    condvar.notify_one();
    condvar.notify_all();
}

#[test]
fn notify_one_wakes_who_waits() {
    let shared = Arc::new((Mutex::new(()), Condvar::new()));
    let guard = shared.0.lock().unwrap();
    let theirs = shared.clone();
    let body = go(move || {
        let _guard = theirs.0.lock().unwrap();
        theirs.1.notify_one();
    });
    drop(shared.1.wait(guard).unwrap());
    body.join().unwrap();
}

#[test]
fn notify_all_wakes_everybody() {
    const BODIES: usize = 10;
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let (send, receive) = channel();
    let bodies: Vec<_> = (0..BODIES)
        .map(|_| {
            let (shared, send) = (shared.clone(), send.clone());
            go(move || {
                let (mutex, condvar) = &*shared;
                let mut count = mutex.lock().unwrap();
                *count += 1;
                if *count == BODIES {
                    send.send(()).unwrap();
                }
                while *count != 0 {
                    count = condvar.wait(count).unwrap();
                }
            })
        })
        .collect();
    receive.recv().unwrap();
    let mut count = shared.0.lock().unwrap();
    *count = 0;
    shared.1.notify_all();
    drop(count);
    bodies.into_iter().for_each(|body| body.join().unwrap());
}

#[test]
fn wait_while_waits_until_the_condition_is_false() {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let theirs = shared.clone();
    let body = go(move || {
        for _ in 0..3 {
            *theirs.0.lock().unwrap() += 1;
            theirs.1.notify_one();
        }
    });
    let count = shared.1.wait_while(shared.0.lock().unwrap(), |count| *count < 3).unwrap();
    assert_eq!(*count, 3);
    drop(count);
    body.join().unwrap();
}

#[test]
fn wait_timeout_ends_with_its_time() {
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    let begun = Instant::now();
    let (guard, result) = condvar.wait_timeout(mutex.lock().unwrap(), SHORT).unwrap();
    assert!(result.timed_out() && begun.elapsed() >= SHORT);
    assert!(mutex.try_lock().is_err(), "it is held again");
    drop(guard);
    let (_guard, result) = condvar.wait_timeout(mutex.lock().unwrap(), Duration::ZERO).unwrap();
    assert!(result.timed_out());
}

#[test]
fn wait_timeout_ends_with_a_notification() {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let guard = shared.0.lock().unwrap();
    let theirs = shared.clone();
    let body = go(move || {
        *theirs.0.lock().unwrap() = true;
        theirs.1.notify_one();
    });
    let (guard, result) = shared.1.wait_timeout(guard, EVER).unwrap();
    assert!(*guard && !result.timed_out());
    drop(guard);
    body.join().unwrap();
}

#[test]
fn wait_timeout_while_ends_with_its_time() {
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    let begun = Instant::now();
    let (_guard, result) = condvar.wait_timeout_while(mutex.lock().unwrap(), SHORT, |()| true).unwrap();
    assert!(result.timed_out() && begun.elapsed() >= SHORT);
}

#[test]
fn wait_timeout_while_looks_before_it_waits() {
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    let (_guard, result) = condvar.wait_timeout_while(mutex.lock().unwrap(), Duration::ZERO, |()| false).unwrap();
    assert!(!result.timed_out());
}

#[test]
fn wait_timeout_while_ends_with_the_condition() {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let guard = shared.0.lock().unwrap();
    let theirs = shared.clone();
    let body = go(move || {
        for _ in 0..2 {
            *theirs.0.lock().unwrap() += 1;
            theirs.1.notify_one();
        }
    });
    let (count, result) = shared.1.wait_timeout_while(guard, EVER, |count| *count < 2).unwrap();
    assert!(!result.timed_out());
    assert_eq!(*count, 2);
    drop(count);
    body.join().unwrap();
}

#[test]
fn one_condvar_serves_two_mutexes() {
    let (first, second, condvar) = (Mutex::new(()), Mutex::new(()), Condvar::new());
    drop(condvar.wait_timeout(first.lock().unwrap(), Duration::ZERO).unwrap());
    drop(condvar.wait_timeout(second.lock().unwrap(), Duration::ZERO).unwrap());
}

#[test]
fn messages_through_a_full_buffer_come_in_order() {
    const ITEMS: u32 = 300;
    let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new(), Condvar::new()));
    let theirs = shared.clone();
    let body = go(move || {
        let (items, filled, emptied) = &*theirs;
        for item in 0..ITEMS {
            let mut items = emptied.wait_while(items.lock().unwrap(), |items| items.len() == 2).unwrap();
            items.insert(0, item);
            filled.notify_one();
        }
    });
    let (items, filled, emptied) = &*shared;
    for item in 0..ITEMS {
        let mut items = filled.wait_while(items.lock().unwrap(), |items| items.is_empty()).unwrap();
        assert_eq!(items.pop(), Some(item));
        emptied.notify_one();
    }
    body.join().unwrap();
}

#[test]
fn it_has_stds_traits() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    all::<Condvar>();
    static ONE: Condvar = Condvar::new();
    assert_eq!(format!("{ONE:?} {:?}", Condvar::default()), "Condvar { .. } Condvar { .. }");
}
