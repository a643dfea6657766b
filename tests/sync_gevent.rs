//! What gevent has and std has not: semaphores, events, results that are set once, and the mutex that its holder may take
//! again.

use std::cell::Cell;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use greenroom::generator::Generator;
use greenroom::greenlet::Greenlet;
use greenroom::sync::{AsyncResult, BoundedSemaphore, Event, Permit, ReentrantMutex, Semaphore};
use greenroom::{HubHandle, JoinHandle, Waitable, iwait, joinall, park, spawn, timeout, wait, yield_now};

mod common;
use common::{Count, EVER, Log, MS, check, in_child, panic_of, soon, stderr};

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
            // On a busy machine its time may have run out by now.
            assert!(first.is_finished() || log.take().is_empty());
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

// Events

/// Tasks that wait for an event, in their parks by the time this returns, and how many have passed.
fn waiters(event: &Rc<Event>, count: usize) -> (Vec<JoinHandle<()>>, Count) {
    let passed = Count::default();
    let tasks = (0..count)
        .map(|_| {
            let (event, passed) = (event.clone(), passed.clone());
            spawn(move || {
                event.wait();
                passed.up();
            })
        })
        .collect();
    yield_now();
    (tasks, passed)
}

#[test]
fn set_then_clear_wakes_all_who_waited_and_nobody_else() {
    check(|| {
        let event = Rc::new(Event::new());
        let (tasks, passed) = waiters(&event, 5);
        event.set();
        event.clear();
        let (late, passed_late) = waiters(&event, 1);
        joinall(tasks);
        yield_now();
        assert_eq!((passed.get(), passed_late.get(), event.is_set()), (5, 0, false));
        event.set();
        joinall(late);
    });
}

#[test]
fn a_set_event_is_not_waited_for() {
    check(|| {
        let event = Event::default();
        assert!(!event.is_set() && !event.wait_timeout(MS));
        event.set();
        event.set();
        let other = spawn(|| ());
        event.wait();
        assert!(event.wait_timeout(Duration::ZERO));
        assert!(!other.is_finished(), "nobody switches");
        event.clear();
        event.clear();
        assert_eq!(format!("{event:?}"), "Event { is_set: false, .. }");
        assert!(!event.wait_timeout(Duration::ZERO));
        other.join().unwrap();
    });
}

#[test]
fn who_waits_for_an_event_and_is_cancelled_leaves_no_trace() {
    check(|| {
        let event = Rc::new(Event::new());
        let (tasks, passed) = waiters(&event, 3);
        tasks[1].task().kill();
        assert!(timeout(MS, || event.wait()).is_err());
        event.set();
        // Woken, and killed before its turn: it does not go on.
        tasks[0].task().kill_nowait();
        assert_eq!(joinall(tasks).iter().filter(|result| result.is_ok()).count(), 1);
        assert_eq!(passed.get(), 1);
    });
}

#[test]
fn an_event_goes_between_hubs_and_native_threads() {
    static GO: Event = Event::new();
    static BACK: Event = Event::new();
    check(|| {
        let native = thread::spawn(|| {
            GO.wait();
            GO.clear();
            BACK.set();
            GO.wait();
        });
        let hub = thread::spawn(|| {
            let task = spawn(|| BACK.wait());
            task.join().unwrap();
            GO.set();
        });
        GO.set();
        hub.join().unwrap();
        native.join().unwrap();
    });
}

/// After gevent's test__event: waits of one event again and again, waits with time-outs that others cut short, and many events
/// that are waited for with a count.
#[test]
fn gevents_own_scenarios_for_events() {
    check(|| {
        let event = Rc::new(Event::new());
        for _ in 0..3 {
            let setter = {
                let event = event.clone();
                spawn(move || event.set())
            };
            assert!(soon(|| event.wait_timeout(EVER)));
            event.clear();
            setter.join().unwrap();
        }
        assert!(!event.wait_timeout(MS));

        let events: Vec<_> = (0..10).map(|_| Rc::new(Event::new())).collect();
        for i in [3, 7, 5] {
            let event = events[i].clone();
            drop(spawn(move || event.set()));
        }
        let place = |found: &Rc<Event>| events.iter().position(|event| Rc::ptr_eq(event, found)).unwrap();
        assert_eq!(wait(events.clone(), None, Some(2)).iter().map(place).collect::<Vec<_>>(), [3, 7]);
        yield_now();
        assert_eq!(wait(events.clone(), Some(MS), None).iter().map(place).collect::<Vec<_>>(), [3, 5, 7]);
        assert_eq!(wait(events.clone(), Some(EVER), Some(0)).len(), 0);
    });
}

// Results that are set once

#[test]
fn a_value_that_is_set_twice_is_given_back() {
    check(|| {
        let result = AsyncResult::new();
        assert_eq!((result.is_set(), result.try_get()), (false, None));
        assert_eq!(result.set("first".to_owned()), Ok(()));
        assert_eq!(result.set("second".to_owned()), Err("second".to_owned()));
        assert_eq!((result.is_set(), result.get().as_str()), (true, "first"));
    });
}

#[test]
fn all_who_wait_for_a_value_see_the_one_value() {
    check(|| {
        let result = Rc::new(AsyncResult::<Rc<str>>::default());
        let tasks: Vec<_> = (0..4)
            .map(|i| {
                let result = result.clone();
                spawn(move || match i {
                    0 => result.get().clone(),
                    1 => result.get_timeout(EVER).unwrap().clone(),
                    2 => {
                        result.wait();
                        result.try_get().unwrap().clone()
                    }
                    _ => {
                        assert!(result.wait_timeout(EVER));
                        result.get().clone()
                    }
                })
            })
            .collect();
        yield_now();
        let value: Rc<str> = "value".into();
        result.set(value.clone()).unwrap();
        for seen in joinall(tasks) {
            assert!(Rc::ptr_eq(&seen.unwrap(), &value));
        }
        assert_eq!(Rc::strong_count(&value), 2);
        drop(result);
        assert_eq!(Rc::strong_count(&value), 1);
    });
}

#[test]
fn a_value_that_does_not_come_is_not_waited_for_for_ever() {
    check(|| {
        let result = Rc::new(AsyncResult::<i32>::new());
        assert_eq!(result.get_timeout(MS).unwrap_err().to_string(), "the time ran out");
        assert!(!result.wait_timeout(Duration::ZERO));
        assert!(timeout(MS, || *result.get()).is_err());
        let waiter = {
            let result = result.clone();
            spawn(move || *result.get())
        };
        yield_now();
        waiter.task().kill();
        result.set(1).unwrap();
        assert_eq!(result.get_timeout(Duration::ZERO), Ok(&1));
    });
}

#[test]
fn a_value_can_be_taken_out_by_who_is_alone() {
    check(|| {
        let mut result = AsyncResult::from(1);
        assert_eq!(format!("{result:?}"), "AsyncResult(1)");
        assert_eq!((result.take(), result.take()), (Some(1), None));
        assert_eq!(format!("{result:?}"), "AsyncResult(<unset>)");
        assert_eq!((result.set(2), result.into_inner()), (Ok(()), Some(2)));
        assert_eq!(AsyncResult::<i32>::new().into_inner(), None);
    });
}

/// After gevent's test__event: a failure is seen by all, and again; and a value goes from a thread to another.
#[test]
fn gevents_own_scenarios_for_async_results() {
    check(|| {
        let result = Arc::new(AsyncResult::<Result<i32, &'static str>>::new());
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let result = result.clone();
                spawn(move || *result.get())
            })
            .collect();
        let there = result.clone();
        let native = thread::spawn(move || there.set(Err("refused")));
        assert!(joinall(waiters).into_iter().all(|seen| seen.unwrap() == Err("refused")));
        native.join().unwrap().unwrap();
        assert_eq!((result.get(), result.get()), (&Err("refused"), &Err("refused")));

        // One task's result is another's beginning.
        let chain: Vec<_> = (0..5).map(|_| Rc::new(AsyncResult::new())).collect();
        let tasks: Vec<_> = chain
            .windows(2)
            .map(|pair| {
                let (from, to) = (pair[0].clone(), pair[1].clone());
                spawn(move || to.set(*from.get() + 1).unwrap())
            })
            .collect();
        yield_now();
        chain[0].set(0).unwrap();
        assert_eq!(*chain[4].get(), 4);
        joinall(tasks);
    });
}

// The mutex that its holder may take again

/// Whether another task of this thread could have the mutex.
fn is_free<T>(mutex: &Rc<ReentrantMutex<T>>) -> bool
where
    T: 'static,
{
    let mutex = mutex.clone();
    spawn(move || mutex.try_lock().is_some()).join().unwrap()
}

#[test]
fn a_task_takes_its_mutex_again_and_others_do_not() {
    check(|| {
        let mutex = Rc::new(ReentrantMutex::new(Cell::new(0)));
        let first = mutex.lock();
        let second = mutex.try_lock().unwrap();
        let third = mutex.lock_timeout(Duration::ZERO).unwrap();
        second.set(second.get() + 1);
        assert_eq!((first.get(), third.get()), (1, 1));
        drop(first);
        drop(third);
        assert!(!is_free(&mutex));
        let (other, refused) = (mutex.clone(), Rc::new(Event::new()));
        let tell = refused.clone();
        let waits = spawn(move || {
            assert!(other.lock_timeout(MS).is_err());
            tell.set();
            let guard = other.lock();
            guard.set(guard.get() + 1);
            let again = other.lock();
            again.set(again.get() + 1);
        });
        refused.wait();
        drop(second);
        waits.join().unwrap();
        assert!(is_free(&mutex));
        assert_eq!(mutex.lock().get(), 3);
    });
}

#[test]
fn generators_and_greenlets_count_as_their_task() {
    check(|| {
        let mutex = Rc::new(ReentrantMutex::new(()));
        let outer = mutex.lock();
        let inside = mutex.clone();
        let mut generator = Generator::new(move |yielder| {
            let guard = inside.lock();
            yielder.yield_(1);
            drop(guard);
            yielder.yield_(2);
        });
        assert_eq!(generator.next(), Some(1));
        drop(outer);
        assert!(!is_free(&mutex), "the generator's guard is its task's");
        assert_eq!(generator.next(), Some(2));
        assert!(is_free(&mutex));

        let outer = mutex.lock();
        let inside = mutex.clone();
        let greenlet = Greenlet::new(move |()| drop(inside.try_lock().expect("it is the task's")));
        greenlet.switch(()).unwrap();
        drop(outer);

        // A generator that carries its guard to another task, which lets go of it there.
        let inside = mutex.clone();
        let mut carried = Generator::new(move |yielder| {
            let _guard = inside.lock();
            yielder.yield_(());
        });
        carried.next();
        assert!(!is_free(&mutex));
        spawn(move || drop(carried)).join().unwrap();
        assert!(is_free(&mutex));
    });
}

#[test]
fn tasks_of_different_threads_with_the_same_number_are_not_confused() {
    static MUTEX: ReentrantMutex<Cell<u32>> = ReentrantMutex::new(Cell::new(0));
    check(|| {
        let held = MUTEX.lock();
        // Another thread's root has the same number, and so have its tasks.
        let (tried, begun) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let (tell, start) = (tried.clone(), begun.clone());
        let other = thread::spawn(move || {
            assert!(MUTEX.try_lock().is_none(), "without a hub");
            yield_now();
            assert!(spawn(|| MUTEX.try_lock().is_none()).join().unwrap());
            assert!(MUTEX.try_lock().is_none(), "with a hub");
            tell.set();
            start.wait();
            let guard = MUTEX.lock();
            guard.set(guard.get() + 1);
        });
        tried.wait();
        begun.set();
        held.set(1);
        drop(held);
        other.join().unwrap();
        assert_eq!(MUTEX.lock().get(), 2);
    });
}

/// Never gives a guard back.
fn leak<T>(guard: T) {
    let _leaked = std::mem::ManuallyDrop::new(guard);
}

#[test]
fn a_holder_that_ended_is_not_mistaken_for_a_later_one() {
    check(|| {
        // A task that leaked its guard.
        let mutex = Arc::new(ReentrantMutex::new(()));
        let held = mutex.clone();
        spawn(move || leak(held.lock())).join().unwrap();
        let later = mutex.clone();
        assert!(spawn(move || later.try_lock().is_none()).join().unwrap());
        assert!(mutex.try_lock().is_none());

        // Threads that did, and ended; their successors may well have their memory.
        let mutex = Arc::new(ReentrantMutex::new(()));
        let held = mutex.clone();
        thread::spawn(move || leak(held.lock())).join().unwrap();
        for _ in 0..20 {
            let later = mutex.clone();
            assert!(thread::spawn(move || later.try_lock().is_none()).join().unwrap());
        }
    });
}

#[test]
fn a_native_thread_becomes_a_root_and_is_the_same_holder() {
    check(|| {
        let mutex = Rc::new(ReentrantMutex::new(()));
        let before = mutex.lock();
        yield_now();
        spawn(|| ()).join().unwrap();
        let after = mutex.try_lock().expect("it is ours");
        drop(before);
        assert!(!is_free(&mutex));
        drop(after);
        assert!(is_free(&mutex));
    });
}

#[test]
fn a_holder_that_is_killed_gives_the_mutex_back_and_a_waiter_passes_it_on() {
    check(|| {
        let mutex = Rc::new(ReentrantMutex::new(()));
        let holder = {
            let mutex = mutex.clone();
            spawn(move || {
                let _twice = (mutex.lock(), mutex.lock());
                park();
            })
        };
        yield_now();
        let through = Count::default();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let (mutex, through) = (mutex.clone(), through.clone());
                spawn(move || {
                    let _guard = mutex.lock();
                    through.up();
                })
            })
            .collect();
        yield_now();
        holder.task().kill_nowait();
        yield_now();
        waiters[0].task().kill_nowait();
        joinall(waiters);
        assert_eq!(through.get(), 1);
        assert!(is_free(&mutex));
    });
}

#[test]
fn what_the_mutex_guards_can_be_had_and_shown() {
    check(|| {
        let mut mutex = ReentrantMutex::from(1);
        *mutex.get_mut() += 1;
        let guard = mutex.lock();
        assert_eq!(format!("{mutex:?} {guard:?} {guard}"), "ReentrantMutex { data: 2, .. } 2 2");
        thread::scope(|s| {
            s.spawn(|| {
                assert_eq!(format!("{mutex:?}"), "ReentrantMutex { data: <locked>, .. }");
                // A value that threads may share is shared through the guard.
                assert_eq!(*guard, 2);
            });
        });
        drop(guard);
        assert_eq!(mutex.into_inner(), 2);
        let unsized_value: &ReentrantMutex<[i32]> = &ReentrantMutex::<[i32; 2]>::default();
        assert_eq!(*unsized_value.lock(), [0, 0]);
    });
}

// All of them

#[test]
fn all_of_them_go_between_threads_and_through_unwinds() {
    fn shared<T: Send + Sync>() {}
    fn safe<T: UnwindSafe + RefUnwindSafe>() {}
    shared::<(Semaphore, BoundedSemaphore, Event, AsyncResult<String>, ReentrantMutex<Cell<i32>>)>();
    shared::<Permit<'_>>();
    safe::<(Semaphore, BoundedSemaphore, Event, AsyncResult<String>, ReentrantMutex<String>)>();
}

#[test]
fn a_mix_of_objects_is_waited_for_in_the_order_in_which_they_become_ready() {
    check(|| {
        let (event, semaphore, never) = (Event::new(), Rc::new(Semaphore::new(0)), Event::new());
        let result = Arc::new(AsyncResult::new());
        let bounded = BoundedSemaphore::new(1);
        let ends = spawn(|| ());
        let objects: [(&dyn Waitable, &str); 6] = [
            (&event, "event"),
            (&semaphore, "semaphore"),
            (&never, "never"),
            (&result, "result"),
            (&ends, "task"),
            (&bounded, "bounded"),
        ];
        let name = |found: &&dyn Waitable| {
            let is = |object: &&(&dyn Waitable, &'static str)| std::ptr::addr_eq(object.0, *found);
            objects.iter().find(is).unwrap().1
        };
        let mut all = iwait(objects.map(|(object, _)| object));
        let mut next = || name(&all.next().unwrap());
        assert_eq!(next(), "bounded", "ready from the beginning");
        event.set();
        event.clear();
        let there = result.clone();
        thread::spawn(move || there.set(1).unwrap()).join().unwrap();
        assert_eq!([next(), next()], ["event", "result"]);
        assert_eq!(next(), "task");
        let later = semaphore.clone();
        drop(spawn(move || later.release(1)));
        assert_eq!(next(), "semaphore");
        drop(all);
        assert!(semaphore.try_acquire().is_some(), "nothing was taken");
        assert_eq!(
            wait(objects.map(|(object, _)| object), Some(MS), None).iter().map(name).collect::<Vec<_>>(),
            ["semaphore", "result", "task", "bounded"]
        );
    });
}

#[test]
fn native_threads_wait_without_a_hub_and_without_a_descriptor() {
    fn descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
    static SEMAPHORE: Semaphore = Semaphore::new(0);
    static EVENT: Event = Event::new();
    static RESULT: AsyncResult<i32> = AsyncResult::new();
    static MUTEX: ReentrantMutex<()> = ReentrantMutex::new(());
    static STEP: Semaphore = Semaphore::new(0);
    let output = in_child("native_threads_wait_without_a_hub_and_without_a_descriptor", || {
        let before = descriptors();
        let held = MUTEX.lock();
        let other = thread::spawn(move || {
            STEP.release(1);
            drop(SEMAPHORE.acquire());
            STEP.release(1);
            EVENT.wait();
            STEP.release(1);
            assert_eq!(*RESULT.get(), 1);
            STEP.release(1);
            drop(MUTEX.lock());
            assert!(SEMAPHORE.acquire_many_timeout(2, MS).is_err());
            assert_eq!(wait([&EVENT], None, None).len(), 1);
            let never = Event::new();
            assert!(!never.wait_timeout(MS) && wait([&never], Some(MS), None).is_empty());
            assert_eq!(descriptors(), before);
        });
        let step = || {
            STEP.acquire().forget();
            thread::sleep(2 * MS);
        };
        step();
        SEMAPHORE.release(1);
        step();
        EVENT.set();
        step();
        RESULT.set(1).unwrap();
        step();
        drop(held);
        other.join().unwrap();
        assert_eq!(descriptors(), before);
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn a_remote_tasks_end_is_waited_for_by_tasks_and_native_threads() {
    check(|| {
        let (tell, told) = std::sync::mpsc::channel();
        let host = thread::spawn(move || {
            tell.send(HubHandle::current()).unwrap();
            DONE.wait();
        });
        static DONE: Event = Event::new();
        static GO: Event = Event::new();
        let hub = told.recv().unwrap();
        let task = hub.spawn(|| {
            GO.wait();
            1
        });
        let task = task.join_timeout(MS).unwrap_err();
        let native = hub.spawn(|| {
            GO.wait();
            2
        });
        let native = thread::spawn(move || native.join_timeout(EVER).unwrap().unwrap() + 1);
        let waits = spawn(move || task.join().unwrap());
        yield_now();
        GO.set();
        assert_eq!((waits.join().unwrap(), native.join().unwrap()), (1, 3));
        let panics = hub.spawn(|| common::fail::<()>("far away"));
        assert_eq!(panics.join_timeout(EVER).unwrap().unwrap_err().message(), Some("far away"));
        DONE.set();
        host.join().unwrap();
    });
}
