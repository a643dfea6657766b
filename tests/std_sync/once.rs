//! The scenarios of std's tests of `Once`.

use super::{channel, give_way, go};
use crate::common::{fail, panic_of};
use greenroom::sync::{Once, OnceState};
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const POISONED: &str = "Once instance has previously been poisoned";

fn poison(once: &Once) {
    assert!(catch_unwind(|| once.call_once(|| fail("in the initializer"))).is_err());
}

#[test]
fn the_first_initializer_alone_is_run() {
    let once = Once::new();
    let mut runs = 0;
    assert!(!once.is_completed());
    once.call_once(|| runs += 1);
    assert!(once.is_completed());
    once.call_once(|| runs += 1);
    once.call_once_force(|_| runs += 1);
    once.wait();
    once.wait_force();
    assert_eq!(runs, 1);
}

#[test]
fn all_who_come_wait_for_the_end_of_the_one() {
    let shared = Arc::new((Once::new(), AtomicU32::new(0)));
    let bodies: Vec<_> = (0..10)
        .map(|_| {
            let shared = shared.clone();
            go(move || {
                let (once, runs) = &*shared;
                for _ in 0..4 {
                    give_way();
                }
                once.call_once(|| {
                    for _ in 0..4 {
                        give_way();
                    }
                    runs.fetch_add(1, Ordering::Relaxed);
                });
                assert_eq!(runs.load(Ordering::Relaxed), 1);
            })
        })
        .collect();
    bodies.into_iter().for_each(|body| body.join().unwrap());
}

#[test]
fn a_panic_poisons_until_somebody_forces_it() {
    let once = Arc::new(Once::new());
    poison(&once);
    assert!(!once.is_completed());
    assert_eq!(panic_of(|| once.call_once(|| ())), POISONED);
    let theirs = once.clone();
    assert!(go(move || theirs.call_once(|| ())).join().is_err());

    let mut called = false;
    once.call_once_force(|state| {
        assert!(state.is_poisoned());
        called = true;
    });
    assert!(called && once.is_completed());
    once.call_once(|| unreachable!("it is done"));
}

#[test]
fn a_first_force_finds_no_poison() {
    let once = Once::new();
    once.call_once_force(|state| assert!(!state.is_poisoned()));
    assert!(once.is_completed());
}

#[test]
fn a_force_that_goes_on_is_waited_for() {
    let once = Arc::new(Once::new());
    poison(&once);
    let (begun, has_begun) = channel();
    let (go_on, goes_on) = channel();
    let theirs = once.clone();
    let forces = go(move || {
        theirs.call_once_force(|state| {
            assert!(state.is_poisoned());
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
        });
    });
    has_begun.recv().unwrap();
    let theirs = once.clone();
    let waits = go(move || {
        let mut called = false;
        theirs.call_once(|| called = true);
        called
    });
    give_way();
    go_on.send(()).unwrap();
    forces.join().unwrap();
    assert!(!waits.join().unwrap());
}

#[test]
fn a_force_that_waits_tries_after_a_panic() {
    let once = Arc::new(Once::new());
    let (begun, has_begun) = channel();
    let (go_on, goes_on) = channel();
    let theirs = once.clone();
    let fails = go(move || {
        theirs.call_once(|| {
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
            fail("in the initializer")
        });
    });
    has_begun.recv().unwrap();
    let theirs = once.clone();
    let forces = go(move || {
        let mut poisoned = false;
        theirs.call_once_force(|state| poisoned = state.is_poisoned());
        poisoned
    });
    give_way();
    go_on.send(()).unwrap();
    assert!(fails.join().is_err());
    assert!(forces.join().unwrap());
    assert!(once.is_completed());
}

#[test]
fn those_who_wait_see_what_was_done() {
    const BODIES: usize = 5;
    for force in [false, true] {
        let shared = Arc::new((Once::new(), AtomicU32::new(0)));
        let (send, receive) = channel();
        let bodies: Vec<_> = (0..BODIES)
            .map(|_| {
                let (shared, send) = (shared.clone(), send.clone());
                go(move || {
                    send.send(()).unwrap();
                    if force {
                        shared.0.wait_force()
                    } else {
                        shared.0.wait()
                    }
                    assert_eq!(shared.1.load(Ordering::Relaxed), 1);
                })
            })
            .collect();
        for _ in 0..BODIES {
            receive.recv().unwrap();
        }
        give_way();
        shared.0.call_once(|| shared.1.store(1, Ordering::Relaxed));
        bodies.into_iter().for_each(|body| body.join().unwrap());
    }
}

#[test]
fn those_who_wait_are_told_of_poison_and_those_who_force_are_not() {
    let once = Arc::new(Once::new());
    let (theirs, patient) = (once.clone(), once.clone());
    let waits = go(move || theirs.wait());
    let forces = go(move || patient.wait_force());
    give_way();
    poison(&once);
    assert_eq!(panic_of(|| once.wait()), POISONED);
    assert!(waits.join().is_err());
    once.call_once_force(|_| ());
    forces.join().unwrap();
    once.wait();
}

#[test]
fn an_initializer_that_asks_for_itself_panics() {
    let once = Once::new();
    let text = panic_of(|| once.call_once(|| once.call_once(|| ())));
    assert!(text.contains("would wait for itself"), "{text}");
    assert_eq!(panic_of(|| once.call_once(|| ())), POISONED);

    let once = Once::new();
    let text = panic_of(|| once.call_once(|| once.wait_force()));
    assert!(text.contains("would wait for itself"), "{text}");
}

#[test]
fn it_has_stds_traits() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn state<T: Send + UnwindSafe>() {}
    all::<Once>();
    state::<OnceState>();
    static ONCE: Once = Once::new();
    assert_eq!(format!("{ONCE:?}"), "Once { .. }");
    ONCE.call_once_force(|state| assert_eq!(format!("{state:?}"), "OnceState { poisoned: false }"));
}
