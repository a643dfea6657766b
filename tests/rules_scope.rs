//! Rule 13 of the contract: scopes.

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use common::{Log, MS, OnDrop, check, fail, in_child, panic_of, stderr};
use greenroom::{Builder, park, scope, shield, sleep, spawn, timeout, wait, yield_now};

// Rule 13: scope

#[test]
fn rule_13_a_scopes_tasks_borrow_and_are_waited_for() {
    check(|| {
        let mut numbers = vec![1, 2, 3];
        let total = Cell::new(0);
        let value = scope(|s| {
            for number in &mut numbers {
                let total = &total;
                s.spawn(move || {
                    sleep(MS);
                    *number *= 10;
                    total.set(total.get() + *number);
                });
            }
            "value"
        });
        assert_eq!((value, numbers, total.get()), ("value", vec![10, 20, 30], 60));
    });
}

#[test]
fn rule_13_a_scopes_task_may_spawn_into_it() {
    check(|| {
        let count = Cell::new(0);
        scope(|s| {
            s.spawn(|| {
                for _ in 0..3 {
                    s.spawn(|| {
                        yield_now();
                        s.spawn(|| count.set(count.get() + 1));
                    });
                }
            });
        });
        assert_eq!(count.get(), 3);
    });
}

#[test]
fn rule_13_results_come_through_scoped_handles() {
    check(|| {
        let text = String::from("borrowed");
        let (value, killed) = scope(|s| {
            let value = s.spawn(|| &text[1..]);
            let parked = Builder::new().name("parked".into()).spawn_scoped(s, park).unwrap();
            assert_eq!(parked.task().name().as_deref(), Some("parked"));
            yield_now();
            assert!(value.is_finished() && !parked.is_finished());
            parked.kill_nowait();
            parked.kill();
            (value.join().unwrap(), parked.join().unwrap_err())
        });
        assert_eq!(value, "orrowed");
        assert!(killed.is_killed(), "which ends nobody else");
    });
}

#[test]
fn rule_13_a_panic_in_one_kills_the_rest_and_resumes_in_the_caller() {
    check(|| {
        let log = Log::default();
        let payload = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                for name in ["one", "two"] {
                    let end = OnDrop(log.clone(), name);
                    s.spawn(move || {
                        let _end = end;
                        park();
                    });
                }
                s.spawn(|| resume_unwind(Box::new(77_u8)) as ());
                let never = log.clone();
                s.spawn(move || never.add("never begins"));
                park();
                log.add("the body went on");
            });
        }))
        .unwrap_err();
        assert_eq!(*payload.downcast::<u8>().unwrap(), 77);
        assert_eq!(log.take(), ["one", "two"]);
        // The caller is whole.
        yield_now();
        assert!(timeout(MS, park).is_err());
    });
}

#[test]
fn rule_13_a_panic_that_the_body_joined_is_told_by_its_message() {
    check(|| {
        let text = panic_of(|| {
            scope(|s| {
                let bad = s.spawn(|| fail::<()>("the first"));
                let error = catch_unwind(AssertUnwindSafe(|| bad.join()));
                // The body is ended at its parking point, which this one was.
                assert!(error.is_err());
            });
        });
        assert_eq!(text, "the first");
    });
}

#[test]
fn rule_13_a_panic_in_the_body_kills_the_tasks_and_goes_on() {
    check(|| {
        let log = Log::default();
        let text = panic_of(|| {
            scope(|s| {
                let end = OnDrop(log.clone(), "killed");
                s.spawn(move || {
                    let _end = end;
                    park();
                });
                yield_now();
                fail::<()>("from the body");
            });
        });
        assert_eq!(text, "from the body");
        assert_eq!(log.take(), ["killed"]);
    });
}

#[test]
fn rule_13_of_several_panics_the_first_resumes() {
    check(|| {
        struct PanicsWhenKilled;
        impl Drop for PanicsWhenKilled {
            fn drop(&mut self) {
                drop(catch_unwind(|| fail::<()>("contained")));
            }
        }
        let text = panic_of(|| {
            scope(|s| {
                s.spawn(|| {
                    let _contained = PanicsWhenKilled;
                    if catch_unwind(AssertUnwindSafe(park)).is_err() {
                        fail::<()>("second, on being killed");
                    }
                });
                yield_now();
                fail::<()>("first, from the body");
            });
        });
        assert_eq!(text, "first, from the body");
        let text = panic_of(|| {
            scope(|s| {
                for text in ["first", "second"] {
                    s.spawn(move || fail::<()>(text));
                }
            });
        });
        assert_eq!(text, "first");
    });
}

#[test]
fn rule_13_a_killed_owner_kills_its_tasks_and_waits_for_them() {
    check(|| {
        let log = Log::default();
        let theirs = log.clone();
        let owner = spawn(move || {
            let data = Cell::new(1);
            let end = OnDrop(theirs.clone(), "task ended");
            let _last = OnDrop(theirs, "owner unwound");
            scope(|s| {
                s.spawn(|| {
                    let _end = end;
                    // Still borrows after the kill.
                    let _unkillable = catch_unwind(AssertUnwindSafe(park));
                    shield(|| sleep(3 * MS));
                    data.set(data.get() + 1);
                });
            });
        });
        yield_now();
        yield_now();
        owner.kill();
        assert_eq!(log.take(), ["task ended", "owner unwound"]);
        assert!(owner.join().unwrap_err().is_killed());
    });
}

#[test]
fn rule_13_a_scope_that_runs_out_of_time_ends_its_tasks_first() {
    check(|| {
        let log = Log::default();
        let ended = timeout(MS, || {
            scope(|s| {
                let end = OnDrop(log.clone(), "ended");
                s.spawn(move || {
                    let _end = end;
                    shield(|| sleep(3 * MS));
                    park();
                });
            });
        });
        assert!(ended.is_err());
        assert_eq!(log.take(), ["ended"]);
    });
}

#[test]
fn rule_13_a_forgotten_handle_changes_nothing() {
    check(|| {
        let done = Cell::new(false);
        scope(|s| {
            let handle = s.spawn(|| {
                sleep(MS);
                done.set(true);
            });
            #[allow(clippy::mem_forget, reason = "it is what the test is about")]
            std::mem::forget(handle);
        });
        assert!(done.get());
    });
}

#[test]
fn rule_13_scopes_nest_and_hold_many() {
    check(|| {
        let count = Cell::new(0);
        scope(|outer| {
            for _ in 0..10 {
                outer.spawn(|| {
                    scope(|inner| {
                        for _ in 0..1000 {
                            inner.spawn(|| count.set(count.get() + 1));
                        }
                    });
                });
            }
        });
        assert_eq!(count.get(), 10_000);
        // One after the other, in one scope: what has ended does not add up.
        scope(|s| {
            for _ in 0..10_000 {
                s.spawn(|| count.set(count.get() + 1)).join().unwrap();
            }
            assert_eq!(greenroom::testing::live_tasks(), 0);
        });
        assert_eq!(count.get(), 20_000);
        // An inner panic reaches the outer caller through the inner one.
        let text = panic_of(|| {
            scope(|outer| {
                outer.spawn(|| scope(|inner| drop(inner.spawn(|| fail::<()>("deep inside")))));
                outer.spawn(park);
            });
        });
        assert_eq!(text, "deep inside");
    });
}

#[test]
fn rule_13_a_task_of_a_scope_that_was_killed_by_hand_leaves_the_others() {
    check(|| {
        let count = Cell::new(0);
        scope(|s| {
            let one = s.spawn(park);
            s.spawn(|| {
                sleep(2 * MS);
                count.set(1);
            });
            one.kill();
        });
        assert_eq!(count.get(), 1);
    });
}

/// A task that nothing can end borrows from frames that a panic would unwind: neither may happen.
#[test]
fn rule_13_a_deadlocked_scope_whose_tasks_cannot_be_killed_never_returns() {
    let output = in_child("rule_13_a_deadlocked_scope_whose_tasks_cannot_be_killed_never_returns", || {
        let caught = catch_unwind(|| {
            let borrowed = Box::new(1);
            scope(|s| {
                s.spawn(|| {
                    shield(park);
                    assert_eq!(*borrowed, 1);
                });
            });
        });
        // Not reached: the child would end well.
        drop(caught);
    });
    let Some(output) = output else { return };
    let text = stderr(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("deadlock: the root waits") && text.contains("the process aborts"), "{text}");
}

#[test]
fn rule_13_a_scoped_handle_comes_back_when_the_time_runs_out_and_can_be_waited_for_among_others() {
    let lent = String::from("lent");
    scope(|s| {
        let slow = s.spawn(|| {
            park();
            lent.len()
        });
        let quick = s.spawn(|| lent.len());
        let slow = slow.join_timeout(MS).unwrap_err();
        let handles = [slow, quick];
        let first: Vec<_> = wait(&handles, None, Some(1)).iter().map(|handle| handle.task().id()).collect();
        assert_eq!(first, [handles[1].task().id()]);
        let [slow, quick] = handles;
        slow.task().unpark();
        assert_eq!((slow.join().unwrap(), quick.join().unwrap()), (4, 4));
        let stuck = s.spawn(|| shield(park));
        yield_now();
        assert!(!stuck.kill_timeout(MS));
        stuck.task().unpark();
        assert!(stuck.join().is_ok());
    });
}
