//! What gevent has and std has not: semaphores, events, results that are set once, and the mutex that its holder may take
//! again.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use greenroom::sync::{BoundedSemaphore, Permit, Semaphore};
use greenroom::{JoinHandle, iwait, joinall, spawn, timeout, wait, yield_now};

mod common;
use common::{Count, EVER, Log, MS, check, panic_of, soon};

/// A task that takes so many permits, notes its name, and keeps them until it is unparked.
fn taker(semaphore: &Rc<Semaphore>, permits: usize, log: &Log, name: &'static str) -> JoinHandle<()> {
    let (semaphore, log) = (semaphore.clone(), log.clone());
    spawn(move || {
        let _permit = semaphore.acquire_many(permits);
        log.add(name);
    })
}

#[test]
fn permits_are_counted() {
    check(|| {
        let semaphore = Semaphore::new(3);
        let (one, two) = (semaphore.acquire(), semaphore.acquire_many(2));
        assert_eq!((one.permits(), two.permits(), semaphore.available()), (1, 2, 0));
        assert!(semaphore.try_acquire().is_none());
        assert!(semaphore.try_acquire_many(0).is_some(), "none are always there");
        drop(two);
        assert_eq!(semaphore.available(), 2);
        assert!(semaphore.try_acquire_many(3).is_none());
        assert_eq!(semaphore.try_acquire_many(2).map(|permit| permit.permits()), Some(2));
        one.forget();
        assert_eq!(semaphore.available(), 2);
        semaphore.release(5);
        assert_eq!(semaphore.available(), 7);
        assert_eq!(format!("{semaphore:?}"), "Semaphore { available: 7, .. }");
    });
}

#[test]
fn an_owned_permit_keeps_its_semaphore() {
    check(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.acquire_owned();
        assert!(semaphore.try_acquire_owned().is_none());
        assert_eq!(semaphore.acquire_owned_timeout(MS).unwrap_err().to_string(), "the time ran out");
        let native = thread::spawn(move || drop(permit));
        drop(semaphore.acquire_owned());
        native.join().unwrap();
        semaphore.try_acquire_owned().unwrap().forget();
        assert_eq!((semaphore.available(), Arc::strong_count(&semaphore)), (0, 1));
    });
}

#[test]
fn too_many_permits_are_refused_clearly() {
    check(|| {
        let most = Semaphore::MAX_PERMITS;
        assert_eq!(panic_of(|| Semaphore::new(most + 1)), "more permits than a semaphore can hold");
        assert_eq!(panic_of(|| BoundedSemaphore::new(usize::MAX)), "more permits than a semaphore can hold");
        let semaphore = Semaphore::new(most);
        let text = "more permits are released than a semaphore can hold";
        assert_eq!(panic_of(|| semaphore.release(1)), text);
        assert_eq!(panic_of(|| semaphore.release(usize::MAX)), text);
        assert_eq!(semaphore.available(), most);
        assert_eq!(
            panic_of(|| drop(semaphore.acquire_many(most + 1))),
            "more permits are asked for than there can ever be"
        );
        assert!(semaphore.try_acquire_many(usize::MAX).is_none());
        let all = semaphore.acquire_many(most);
        assert_eq!(semaphore.available(), 0);
        // Somebody else fills it up: what is given back finds no room, and does not panic on the way.
        semaphore.release(most);
        drop(all);
        assert_eq!(semaphore.available(), most);

        let bounded = BoundedSemaphore::new(2);
        assert_eq!(panic_of(|| drop(bounded.acquire_many(3))), "more permits are asked for than there can ever be");
        assert_eq!(
            panic_of(|| drop(BoundedSemaphore::new(0).acquire())),
            "more permits are asked for than there can ever be"
        );
    });
}

#[test]
fn a_bounded_semaphore_refuses_what_it_has_no_room_for() {
    check(|| {
        let slots = BoundedSemaphore::new(3);
        assert_eq!(
            slots.release(1).unwrap_err().to_string(),
            "more permits were released than the semaphore began with"
        );
        let two = slots.acquire_many(2);
        assert!(slots.release(3).is_err(), "all or none");
        assert_eq!(slots.available(), 1);
        two.forget();
        assert_eq!(slots.release(1), Ok(()));
        // Released for a permit that is still held, which then finds room for one only.
        let two = slots.acquire_many(2);
        assert_eq!(slots.release(2), Ok(()));
        drop(two);
        assert_eq!(slots.available(), 3);
        assert_eq!(slots.try_acquire_many(3).map(|permit| permit.permits()), Some(3));
        assert_eq!(slots.acquire_timeout(EVER).map(|permit| permit.permits()), Ok(1));
        assert!(slots.acquire_many_timeout(3, Duration::ZERO).is_ok());
        assert_eq!(format!("{slots:?}"), "BoundedSemaphore { available: 3, most: 3, .. }");
    });
}

#[test]
fn those_who_wait_for_permits_are_served_in_order() {
    check(|| {
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Log::default());
        let tasks: Vec<_> = ["a", "b", "c"].map(|name| taker(&semaphore, 1, &log, name)).into();
        yield_now();
        semaphore.release(1);
        assert!(semaphore.try_acquire().is_none(), "it was handed over");
        joinall(tasks);
        assert_eq!(log.take(), ["a", "b", "c"]);
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn one_who_wants_many_is_not_overtaken_by_those_who_want_few() {
    check(|| {
        let (semaphore, log) = (Rc::new(Semaphore::new(2)), Log::default());
        let tasks = [taker(&semaphore, 3, &log, "three"), taker(&semaphore, 1, &log, "one")];
        yield_now();
        assert_eq!((semaphore.available(), log.take().len()), (2, 0));
        assert!(semaphore.try_acquire().is_none(), "others wait");
        assert_eq!(
            semaphore.acquire_timeout(Duration::ZERO).err().map(|e| e.to_string()).as_deref(),
            Some("the time ran out")
        );
        semaphore.release(1);
        joinall(tasks);
        assert_eq!(log.take(), ["three", "one"]);
        assert_eq!(semaphore.available(), 3);
    });
}

#[test]
fn who_leaves_the_line_early_is_in_nobodys_way() {
    check(|| {
        // Killed, timed out by its own deadline, timed out by a block around it.
        for way in 0..3 {
            let (semaphore, log) = (Rc::new(Semaphore::new(2)), Log::default());
            let first = {
                let semaphore = semaphore.clone();
                spawn(move || match way {
                    0 => drop(semaphore.acquire_many(3)),
                    1 => assert!(semaphore.acquire_many_timeout(3, MS).is_err()),
                    _ => assert!(timeout(MS, || drop(semaphore.acquire_many(3))).is_err()),
                })
            };
            let behind =
                [taker(&semaphore, 1, &log, "a"), taker(&semaphore, 1, &log, "b"), taker(&semaphore, 1, &log, "c")];
            yield_now();
            assert_eq!(log.take().len(), 0);
            if way == 0 {
                first.task().kill();
            }
            joinall(behind);
            assert_eq!(log.take(), ["a", "b", "c"]);
            assert_eq!(first.join().is_err(), way == 0);
            assert_eq!(semaphore.available(), 2);
        }
    });
}

#[test]
fn a_waiter_killed_after_it_was_handed_a_permit_passes_it_on() {
    check(|| {
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Log::default());
        let first = taker(&semaphore, 2, &log, "first");
        let next = [taker(&semaphore, 1, &log, "second"), taker(&semaphore, 1, &log, "third")];
        yield_now();
        semaphore.release(2);
        first.task().kill_nowait();
        joinall(next);
        assert!(first.join().unwrap_err().is_killed());
        assert_eq!(log.take(), ["second", "third"]);
        assert_eq!(semaphore.available(), 2);

        // With nobody behind, they are free again.
        let last = taker(&semaphore, 3, &log, "last");
        yield_now();
        semaphore.release(1);
        assert_eq!(semaphore.available(), 0);
        last.task().kill();
        assert_eq!((semaphore.available(), log.take().len()), (3, 0));
    });
}

#[test]
fn a_permit_is_given_back_by_an_unwind() {
    check(|| {
        let semaphore = Rc::new(Semaphore::new(1));
        let holder = {
            let semaphore = semaphore.clone();
            spawn(move || {
                let _permit = semaphore.acquire();
                greenroom::park();
            })
        };
        yield_now();
        assert_eq!(semaphore.available(), 0);
        holder.task().kill();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn a_semaphore_is_ready_when_a_permit_could_be_had() {
    check(|| {
        let (free, taken) = (Semaphore::new(1), Semaphore::new(0));
        let ready = wait([&taken, &free], Some(MS), None);
        assert!(ready.len() == 1 && std::ptr::eq(ready[0], &free));

        // Watched, it goes the slow way, and is the same from outside.
        let watched = Rc::new(Semaphore::new(0));
        let mut all = iwait([watched.clone()]);
        watched.release(2);
        drop(watched.try_acquire_many(2).expect("they are free, whoever watches"));
        let two = watched.acquire_many(2);
        assert!(all.next().is_some(), "it was ready for a moment");
        assert!(wait([&*watched], Some(MS), None).is_empty());
        drop(two);

        // What the first in line leaves is not to be had by others.
        let log = Log::default();
        let three = taker(&watched, 3, &log, "three");
        yield_now();
        assert_eq!(watched.available(), 2);
        assert!(wait([&*watched], Some(MS), None).is_empty());
        three.task().kill();
        assert_eq!(wait([&*watched], None, None).len(), 1);
    });
}

#[test]
fn an_observer_that_leaves_puts_a_semaphore_back_on_its_fast_way() {
    check(|| {
        let semaphore = Semaphore::new(0);
        drop(iwait([&semaphore]));
        semaphore.release(1);
        drop(semaphore.try_acquire().unwrap());
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn a_semaphore_bounds_tasks_of_several_hubs_and_native_threads() {
    static DOORS: Semaphore = Semaphore::new(3);
    static INSIDE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    use std::sync::atomic::Ordering::SeqCst;
    fn visit(pause: impl Fn()) {
        for permits in [1, 2, 3, 1] {
            let permit: Permit<'static> = DOORS.acquire_many(permits);
            assert!(INSIDE.fetch_add(permits, SeqCst) + permits <= 3);
            pause();
            INSIDE.fetch_sub(permits, SeqCst);
            drop(permit);
        }
    }
    check(|| {
        let start = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|kind| {
                let start = start.clone();
                thread::spawn(move || {
                    start.wait();
                    if kind % 2 == 0 {
                        (0..100).for_each(|_| visit(thread::yield_now));
                    } else {
                        let tasks: Vec<_> = (0..100).map(|_| spawn(|| visit(yield_now))).collect();
                        assert!(joinall(tasks).iter().all(Result::is_ok));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(DOORS.available(), 3);
    });
}

/// After gevent's test__semaphore: a time-out, a release twice, and one permit that goes from one to another.
#[test]
fn gevents_own_scenarios_for_semaphores() {
    check(|| {
        let semaphore = Rc::new(Semaphore::new(0));
        assert!(soon(|| semaphore.acquire_timeout(10 * MS)).is_err());

        // Released twice before anybody waits: two come through at once.
        semaphore.release(1);
        semaphore.release(1);
        let through = Count::default();
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (semaphore, through) = (semaphore.clone(), through.clone());
                spawn(move || {
                    semaphore.acquire().forget();
                    through.up();
                })
            })
            .collect();
        yield_now();
        assert_eq!(through.get(), 2);
        semaphore.release(1);
        joinall(tasks);
        assert_eq!(through.get(), 3);

        // Held by one task, then by another, then by the root.
        let semaphore = Rc::new(Semaphore::new(1));
        let held = Rc::new(Cell::new(false));
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let (semaphore, held) = (semaphore.clone(), held.clone());
                spawn(move || {
                    let _permit = semaphore.acquire();
                    assert!(!held.replace(true));
                    yield_now();
                    held.set(false);
                })
            })
            .collect();
        yield_now();
        let permit = semaphore.acquire();
        assert!(!held.get() && tasks.iter().all(JoinHandle::is_finished));
        drop(permit);
    });
}
