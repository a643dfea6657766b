//! Rules 8 and 9 of the contract, and what else tasks promise: ends, results, links, locals, parks, names.

mod common;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io::{Read, Write};
use std::panic::{catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Count, EVER, Log, MS, OnDrop, check, fail, in_child, panic_of, soon, stderr};
use greenroom::net::UnixStream;
use greenroom::{
    Builder, JoinError, JoinHandle, Task, current, idle, iwait, joinall, killall, park, park_timeout, scope, shield,
    sleep, spawn, spawn_later, timeout, try_joinall, wait, yield_now,
};

fn ids<'a>(handles: impl IntoIterator<Item = &'a JoinHandle<()>>) -> Vec<greenroom::TaskId> {
    handles.into_iter().map(|handle| handle.task().id()).collect()
}

// Rule 8: ends and results

#[test]
fn rule_08_join_gives_the_value_or_why_there_is_none() {
    check(|| {
        assert_eq!(spawn(|| "value").join().unwrap(), "value");

        let panicked = spawn(|| fail::<()>("no value")).join().unwrap_err();
        assert!(panicked.is_panicked() && !panicked.is_killed());
        assert_eq!(panicked.message(), Some("no value"));
        assert_eq!(panicked.to_string(), "the task panicked: no value");
        assert_eq!(format!("{panicked:?}"), "Panicked(\"no value\")");

        let formatted = spawn(|| resume_unwind(Box::new(format!("owned {}", 1)))).join().unwrap_err() as JoinError;
        assert_eq!(formatted.message(), Some("owned 1"));

        let killed = spawn(park);
        killed.kill();
        let killed = killed.join().unwrap_err();
        assert!(killed.is_killed() && !killed.is_panicked());
        assert_eq!((killed.to_string().as_str(), format!("{killed:?}").as_str()), ("the task was killed", "Killed"));
        assert_eq!(killed.message(), None);
        let _is_an_error: Box<dyn Error> = Box::new(killed);
    });
}

#[test]
fn rule_08_a_panics_payload_arrives_whole() {
    check(|| {
        let Err(JoinError::Panicked(payload)) = spawn(|| -> () { resume_unwind(Box::new(vec![1, 2, 3])) }).join()
        else {
            panic!("it panicked");
        };
        assert_eq!(*payload.downcast::<Vec<i32>>().unwrap(), [1, 2, 3]);
        let error = spawn(|| -> () { resume_unwind(Box::new(5_u8)) }).join().unwrap_err();
        assert_eq!(error.to_string(), "the task panicked with a payload that is no text");
        assert_eq!(format!("{error:?}"), "Panicked(\"Box<dyn Any>\")");
    });
}

#[test]
fn rule_08_a_panic_is_reported_once_with_the_tasks_name() {
    let output = in_child("rule_08_a_panic_is_reported_once_with_the_tasks_name", || {
        let named = Builder::new().name("the worker".into()).spawn(|| panic!("first message")).unwrap();
        let error: JoinError = named.join().unwrap_err();
        assert_eq!(error.message(), Some("first message"));
        // Passed on, through a timeout, a scope and a join: not reported again.
        let outer = spawn(move || timeout(EVER, || scope(|_| shield(|| resume_unwind(Box::new(error.to_string()))))));
        assert!(outer.join().unwrap_err().is_panicked());
        // Detached: reported all the same.
        drop(spawn(|| panic!("second message")));
        yield_now();
        // A kill is none.
        let killed = spawn(park);
        yield_now();
        killed.kill();
        assert!(timeout(MS, park).is_err());
    });
    let Some(output) = output else { return };
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("panicked at").count(), 2, "{text}");
    for message in ["first message", "second message"] {
        assert_eq!(text.matches(message).count(), 1, "{text}");
    }
    assert!(text.contains(&format!("task 'the worker' (spawned at {}:", file!())), "{text}");
    assert!(text.contains("task #3 (spawned at") || text.contains("task #4 (spawned at"), "{text}");
}

#[test]
fn rule_08_a_panic_takes_nobody_along() {
    check(|| {
        let other = spawn(|| {
            for _ in 0..5 {
                yield_now();
            }
            "alive"
        });
        for _ in 0..5 {
            drop(spawn(|| fail::<()>("detached")));
            yield_now();
        }
        assert_eq!(other.join().unwrap(), "alive");
    });
}

#[test]
fn rule_08_a_panic_in_the_destructor_of_a_result_or_payload_ends_there() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                fail::<()>("from a destructor");
            }
        }
    }
    check(|| {
        drop(spawn(|| Bomb));
        drop(spawn(|| resume_unwind(Box::new(Bomb)) as ()));
        let never_began = spawn({
            let bomb = Bomb;
            move || drop(bomb)
        });
        never_began.kill();
        assert!(never_began.join().unwrap_err().is_killed());
        yield_now();
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn rule_08_dropping_a_handle_detaches_its_task() {
    check(|| {
        let count = Count::default();
        let counts = count.clone();
        drop(spawn(move || {
            yield_now();
            counts.up();
        }));
        idle();
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn rule_08_a_result_is_dropped_where_its_last_owner_leaves_it() {
    check(|| {
        let log = Log::default();
        let result = |name| {
            let log = log.clone();
            spawn(move || OnDrop(log, name))
        };
        let (before, after, taken) = (result("before its end"), result("after its end"), result("taken"));
        drop(before);
        yield_now();
        assert_eq!(log.take(), ["before its end"]);
        drop(after);
        assert_eq!(log.take(), ["after its end"]);
        let value = taken.join().unwrap();
        assert_eq!(log.take(), [""; 0]);
        drop(value);
        assert_eq!(log.take(), ["taken"]);
    });
}

#[test]
fn rule_08_join_timeout_gives_the_handle_back() {
    check(|| {
        let task = spawn(|| {
            park();
            3
        });
        let begun = Instant::now();
        let task = task.join_timeout(3 * MS).unwrap_err();
        assert!(begun.elapsed() >= 3 * MS);
        let task = task.join_timeout(Duration::ZERO).unwrap_err();
        task.task().unpark();
        assert_eq!(task.join_timeout(EVER).unwrap().unwrap(), 3);
        let done = spawn(|| 4);
        yield_now();
        assert_eq!(done.join_timeout(Duration::ZERO).unwrap().unwrap(), 4);
    });
}

#[test]
fn rule_08_a_task_cannot_join_itself() {
    check(|| {
        let own: Rc<RefCell<Option<JoinHandle<String>>>> = Rc::default();
        let theirs = own.clone();
        *own.borrow_mut() = Some(spawn(move || {
            let own = theirs.take().unwrap();
            panic_of(|| own.join())
        }));
        idle();
        // Its handle went with the panic, so the text went nowhere: the task has ended, and nothing hangs.
        assert!(own.borrow().is_none());
    });
}

#[test]
fn rule_08_a_handle_outlives_its_threads_hub() {
    check(|| {
        thread_local! {
            static LEFT: RefCell<Option<(JoinHandle<u32>, JoinHandle<()>)>> = const { RefCell::new(None) };
        }
        let (tell, told) = mpsc::channel();
        struct AtEnd(mpsc::Sender<(u32, bool, bool)>);
        impl Drop for AtEnd {
            fn drop(&mut self) {
                let (done, parked) = LEFT.take().unwrap();
                parked.kill_nowait();
                parked.task().unpark();
                let killed = parked.is_finished() && parked.join().unwrap_err().is_killed();
                self.0.send((done.join().unwrap(), killed, spawn_panics())).unwrap();
            }
        }
        fn spawn_panics() -> bool {
            catch_unwind(|| spawn(|| ())).is_err()
        }
        thread_local! {
            static END: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
        }
        thread::spawn(move || {
            // Registered first, so that it is dropped while LEFT is still there.
            LEFT.with(|_| ());
            END.with(|_| ());
            LEFT.set(Some((spawn(|| 8), spawn(park))));
            END.set(Some(AtEnd(tell)));
            yield_now();
        })
        .join()
        .unwrap();
        assert_eq!(told.recv().unwrap(), (8, true, true));
    });
}

// Rule 9: waiting for many

#[test]
fn rule_09_joinall_gives_results_in_the_order_given() {
    check(|| {
        let tasks = (0..5_u32).map(|n| {
            spawn(move || {
                sleep((5 - n) * MS);
                if n == 2 { fail("two") } else { n }
            })
        });
        let results: Vec<_> = joinall(tasks).into_iter().map(Result::ok).collect();
        assert_eq!(results, [Some(0), Some(1), None, Some(3), Some(4)]);
        assert!(joinall::<()>([]).is_empty());
    });
}

#[test]
fn rule_09_joinall_runs_what_its_iterator_spawns_at_once() {
    check(|| {
        let begun = Instant::now();
        joinall((0..10).map(|_| spawn(|| sleep(20 * MS))));
        assert!(begun.elapsed() < 150 * MS);
    });
}

#[test]
fn rule_09_try_joinall_returns_the_first_failure_and_leaves_the_others_running() {
    check(|| {
        let count = Count::default();
        let slow = {
            let count = count.clone();
            spawn(move || {
                park();
                count.up();
            })
        };
        let task = slow.task();
        let late = spawn(|| {
            for _ in 0..5 {
                yield_now();
            }
            fail::<()>("later");
        });
        let soon = spawn(|| {
            yield_now();
            fail::<()>("sooner");
        });
        assert_eq!(try_joinall([slow, late, soon]).unwrap_err().message(), Some("sooner"));
        assert!(!task.is_finished());
        task.unpark();
        idle();
        assert_eq!(count.get(), 1);

        assert_eq!(try_joinall([spawn(|| 1), spawn(|| 2)]).unwrap(), [1, 2]);
        assert_eq!(try_joinall::<()>([]).unwrap(), []);
        // Ended before the call: in the order given.
        let ended = ["one", "two"].map(|text| spawn(move || fail::<()>(text)));
        yield_now();
        assert_eq!(try_joinall(ended).unwrap_err().message(), Some("one"));
    });
}

#[test]
fn rule_09_wait_gives_what_is_ready_in_finish_order() {
    check(|| {
        let tasks: Vec<_> = [3, 1, 2].map(|turns| spawn(move || (0..turns).for_each(|_| yield_now()))).into();
        let finished = wait(&tasks, None, None);
        assert_eq!(ids(finished), ids([&tasks[1], &tasks[2], &tasks[0]]));
        // Ready before: in the order given.
        assert_eq!(ids(wait(&tasks, None, None)), ids(&tasks));
        assert_eq!(ids(wait(&tasks, Some(Duration::ZERO), Some(2))), ids(&tasks[..2]));
        assert!(wait::<Task>([], None, None).is_empty());
    });
}

#[test]
fn rule_09_wait_ends_with_its_count_or_its_timeout() {
    check(|| {
        let tasks: Vec<_> = (0..3).map(|_| spawn(park)).collect();
        let begun = Instant::now();
        assert!(wait(&tasks, Some(3 * MS), None).is_empty());
        assert!(begun.elapsed() >= 3 * MS);
        assert!(wait(&tasks, Some(Duration::ZERO), None).is_empty());
        assert!(wait(&tasks, None, Some(0)).is_empty());
        tasks[1].task().unpark();
        assert_eq!(ids(wait(&tasks, None, Some(1))), ids([&tasks[1]]));
        tasks[2].task().unpark();
        assert_eq!(ids(wait(&tasks, Some(5 * MS), None)), ids([&tasks[1], &tasks[2]]));
        tasks[0].kill();
    });
}

#[test]
fn rule_09_an_object_given_twice_counts_twice() {
    check(|| {
        let task = spawn(yield_now);
        assert_eq!(ids(wait([&task, &task], None, None)), ids([&task, &task]));
        let (other, twin) = (spawn(park), spawn(yield_now));
        let found = wait([&other, &twin, &twin], None, Some(2));
        assert_eq!(ids(found), ids([&twin, &twin]));
        other.kill();
        killall([&other, &other]);
    });
}

#[test]
fn rule_09_of_nothing_nothing_is_waited_for_and_of_one_given_twice_it_comes_twice() {
    check(|| {
        assert_eq!(soon(|| joinall(Vec::<JoinHandle<()>>::new())).len(), 0);
        assert!(soon(|| try_joinall(Vec::<JoinHandle<()>>::new())).unwrap().is_empty());
        assert!(soon(|| wait(Vec::<JoinHandle<()>>::new(), None, None)).is_empty());

        let task = spawn(|| sleep(MS));
        assert!(soon(|| wait([&task, &task], None, Some(0))).is_empty());
        assert!(!task.is_finished());
        assert_eq!(ids(wait([&task, &task], None, None)), [task.task().id(); 2]);
        assert_eq!(ids(wait([&task, &task], None, None)), [task.task().id(); 2], "it was ready before");
    });
}

#[test]
fn rule_09_iwait_gives_them_one_by_one_and_takes_back_what_is_open() {
    check(|| {
        let witness = Rc::new(());
        let tasks: Vec<_> = [2, 0]
            .map(|turns| {
                let witness = witness.clone();
                spawn(move || {
                    let _witness = witness;
                    (0..turns).for_each(|_| yield_now());
                })
            })
            .into_iter()
            .chain([spawn(park)])
            .collect();
        let mut ready = iwait(&tasks);
        assert_eq!(ready.size_hint(), (0, Some(3)));
        assert_eq!(ready.next().unwrap().task().id(), tasks[1].task().id());
        assert_eq!(ready.next().unwrap().task().id(), tasks[0].task().id());
        drop(ready);
        // Killed while it waits: nothing is left that the end of the task could touch.
        let last = tasks[2].task();
        let waits = spawn(move || iwait([&last]).count());
        yield_now();
        waits.kill();
        tasks[2].kill();
        assert_eq!(iwait(&tasks).count(), 3);
    });
}

#[test]
fn rule_09_iwait_meets_its_deadline_and_can_be_timed_out_from_outside() {
    check(|| {
        let parked = spawn(park);
        let mut ready = iwait([&parked]);
        assert!(timeout(2 * MS, || ready.next()).is_err());
        parked.task().unpark();
        assert!(ready.next().is_some());
        assert!(ready.next().is_none());
    });
}

// Links

#[test]
fn rule_10_links_run_in_order_in_tasks_of_their_own() {
    check(|| {
        let log = Log::default();
        let task = spawn(park);
        let link = |name: &'static str| {
            let log = log.clone();
            task.link(move |ended| {
                assert!(ended.is_finished());
                assert_ne!(current(), *ended);
                sleep(MS);
                log.add(name);
            })
        };
        let first = link("first");
        let taken_back = link("taken back");
        link("second");
        assert!(taken_back.unlink());
        task.task().unpark();
        yield_now();
        assert!(task.is_finished());
        assert!(!first.unlink(), "too late");
        let late = link("after the end");
        assert!(!late.unlink());
        while greenroom::testing::live_tasks() > 0 {
            sleep(MS);
        }
        assert_eq!(log.take(), ["first", "second", "after the end"]);
    });
}

#[test]
fn a_link_runs_whatever_the_end_and_one_that_panics_harms_nobody() {
    check(|| {
        let count = Count::default();
        let tasks = [spawn(|| ()), spawn(|| fail("panic")), spawn(park)];
        for task in &tasks {
            let count = count.clone();
            task.link(|_| fail("a link"));
            task.link(move |_| count.up());
        }
        tasks[2].kill();
        let never_ran = spawn(|| ());
        let theirs = count.clone();
        never_ran.link(move |_| theirs.up());
        never_ran.kill();
        idle();
        assert_eq!(count.get(), 4);
    });
}

#[test]
fn unlinking_drops_what_the_link_owns() {
    check(|| {
        let log = Log::default();
        let task = spawn(park);
        let owned = OnDrop(log.clone(), "dropped");
        assert!(task.link(move |_| drop(owned)).unlink());
        assert_eq!(log.take(), ["dropped"]);
        task.kill();
    });
}

// spawn_later

#[test]
fn spawn_later_begins_after_its_delay() {
    check(|| {
        let log = Log::default();
        let begun = Instant::now();
        let tasks = [(6, "late"), (3, "early"), (0, "now")].map(|(delay, name)| {
            let log = log.clone();
            spawn_later(delay * MS, move || {
                assert!(begun.elapsed() >= delay * MS);
                log.add(name);
            })
        });
        for result in joinall(tasks) {
            result.unwrap();
        }
        assert_eq!(log.take(), ["now", "early", "late"]);
    });
}

#[test]
fn spawn_later_leaves_no_timer_when_it_is_killed_before_its_start() {
    check(|| {
        let log = Log::default();
        let captured = OnDrop(log.clone(), "captured");
        let later = spawn_later(EVER, move || drop(captured));
        yield_now();
        later.kill();
        assert_eq!(log.take(), ["captured"]);
        // A timer that was left would make the root wait for an hour.
        let report = soon(|| panic_of(park));
        assert!(report.starts_with("deadlock"), "{report}");
    });
}

#[test]
fn an_unpark_before_its_start_waits_for_a_later_task() {
    check(|| {
        let begun = Instant::now();
        let later = spawn_later(3 * MS, || {
            park();
            "unparked"
        });
        later.task().unpark();
        assert_eq!(later.join().unwrap(), "unparked");
        assert!(begun.elapsed() >= 3 * MS);
    });
}

// Task-locals

greenroom::task_local! {
    static NUMBER: Cell<u32> = Cell::new(1);
    static FIRST: RefCell<Option<OnDrop>> = RefCell::new(None);
    static SECOND: RefCell<Option<OnDrop>> = RefCell::new(None);
}

#[test]
fn each_task_has_its_own_locals() {
    check(|| {
        NUMBER.with(|number| number.set(2));
        let seen = [10, 20].map(|add| {
            spawn(move || {
                NUMBER.with(|number| {
                    number.set(number.get() + add);
                    yield_now();
                    number.get()
                })
            })
        });
        assert_eq!(joinall(seen).into_iter().map(Result::unwrap).collect::<Vec<_>>(), [11, 21]);
        assert_eq!(NUMBER.with(Cell::get), 2);
    });
}

#[test]
fn locals_are_dropped_at_the_end_in_reverse_order_before_joiners_know() {
    check(|| {
        for kill in [false, true] {
            let log = Log::default();
            let theirs = log.clone();
            let task = spawn(move || {
                let _body = OnDrop(theirs.clone(), "body");
                FIRST.with(|first| *first.borrow_mut() = Some(OnDrop(theirs.clone(), "first")));
                SECOND.with(|second| *second.borrow_mut() = Some(OnDrop(theirs.clone(), "second")));
                if kill {
                    park();
                }
            });
            yield_now();
            task.kill();
            log.add("joined");
            assert_eq!(log.take(), ["body", "second", "first", "joined"]);
        }
    });
}

#[test]
fn a_local_that_is_being_dropped_is_an_error_and_others_are_there() {
    type Answer = Rc<Cell<Option<(bool, Option<u32>)>>>;
    struct Asks(Answer);
    impl Drop for Asks {
        fn drop(&mut self) {
            // May park, too.
            sleep(MS);
            let own = ASKS.try_with(|_| ()).is_err();
            self.0.set(Some((own, NUMBER.try_with(Cell::get).ok())));
        }
    }
    greenroom::task_local! {
        static ASKS: RefCell<Option<Asks>> = RefCell::new(None);
    }
    check(|| {
        for used_before in [true, false] {
            let answer = Rc::new(Cell::new(None));
            let theirs = answer.clone();
            spawn(move || {
                if used_before {
                    NUMBER.with(|number| number.set(9));
                }
                ASKS.with(|asks| *asks.borrow_mut() = Some(Asks(theirs)));
            })
            .join()
            .unwrap();
            assert_eq!(answer.get(), Some((true, used_before.then_some(9))));
        }
    });
}

#[test]
fn an_initialiser_may_use_its_own_key() {
    thread_local! {
        static DEPTH: Cell<u32> = const { Cell::new(0) };
    }
    greenroom::task_local! {
        static RECURSIVE: u32 = {
            let depth = DEPTH.replace(DEPTH.get() + 1);
            if depth < 3 { RECURSIVE.with(|inner| *inner) } else { 40 }
        };
    }
    check(|| {
        assert_eq!(spawn(|| RECURSIVE.with(|value| *value)).join().unwrap(), 40);
    });
}

#[test]
fn a_panic_in_a_locals_destructor_ends_there() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            fail::<()>("from a local");
        }
    }
    greenroom::task_local! {
        static BOMB: Bomb = Bomb;
    }
    check(|| {
        let value = spawn(|| {
            FIRST.with(|_| ());
            BOMB.with(|_| ());
            3
        });
        assert_eq!(value.join().unwrap(), 3);
    });
}

#[test]
fn a_roots_locals_end_with_its_thread() {
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    struct AtEnd;
    impl Drop for AtEnd {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
            // Its own key, which is being dropped: refused, not made again for ever.
            assert!(AT_END.try_with(|_| ()).is_err());
        }
    }
    greenroom::task_local! {
        static AT_END: AtEnd = AtEnd;
    }
    check(|| {
        thread::spawn(|| AT_END.with(|_| ())).join().unwrap();
        assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
    });
}

// park

#[test]
fn an_unpark_before_the_park_is_not_lost_and_two_are_one() {
    check(|| {
        let task = current();
        task.unpark();
        soon(park);
        task.unpark();
        task.unpark();
        assert!(park_timeout(EVER));
        assert!(!park_timeout(MS), "two were one");
        assert!(!park_timeout(Duration::ZERO));
        task.unpark();
        assert!(park_timeout(Duration::ZERO));
    });
}

#[test]
fn an_unpark_ends_only_a_park() {
    check(|| {
        // While it sleeps, joins or reads, it is saved for the next park.
        let (near, mut far) = UnixStream::pair().unwrap();
        let task = spawn(move || {
            let begun = Instant::now();
            sleep(5 * MS);
            assert!(begun.elapsed() >= 5 * MS);
            park();
            (&near).read_exact(&mut [0]).unwrap();
            park();
        });
        yield_now();
        task.task().unpark();
        sleep(10 * MS);
        task.task().unpark();
        sleep(MS);
        assert!(!task.is_finished());
        far.write_all(b"x").unwrap();
        soon(|| task.join()).unwrap();
    });
}

#[test]
fn an_unpark_in_the_turn_of_the_deadline_counts() {
    check(|| {
        for _ in 0..50 {
            let task = spawn(|| park_timeout(Duration::from_micros(200)));
            yield_now();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_micros(300) {}
            task.task().unpark();
            assert!(task.join().unwrap());
        }
    });
}

#[test]
fn a_stale_unpark_wakes_nothing_later() {
    check(|| {
        let ended = spawn(park);
        let (task, remote) = (ended.task(), ended.task().unparker());
        yield_now();
        task.unpark();
        ended.join().unwrap();
        // The slot is used again.
        let next = spawn(|| park_timeout(2 * MS));
        yield_now();
        task.unpark();
        remote.unpark();
        assert!(!next.join().unwrap());
    });
}

#[test]
fn an_unparker_works_from_another_thread_before_and_during_the_park() {
    check(|| {
        for turn in 0..200 {
            let task = spawn(|| soon(park));
            if turn % 2 == 0 {
                yield_now();
            }
            let unparker = task.task().unparker();
            let other = thread::spawn(move || {
                unparker.clone().unpark();
                unparker
            });
            task.join().unwrap();
            let unparker = other.join().unwrap();
            unparker.unpark();
        }
    });
}

#[test]
fn unparks_of_many_threads_are_not_lost() {
    check(|| {
        let flags: Arc<Vec<AtomicBool>> = Arc::new((0..4).map(|_| AtomicBool::new(false)).collect());
        let (root, finished) = (current().unparker(), Arc::new(AtomicU32::new(0)));
        let others: Vec<_> = (0..4)
            .map(|place| {
                let (flags, root, finished) = (flags.clone(), root.clone(), finished.clone());
                thread::spawn(move || {
                    for _ in 0..500 {
                        while flags[place].swap(true, Ordering::SeqCst) {
                            thread::yield_now();
                        }
                        root.unpark();
                    }
                    finished.fetch_add(1, Ordering::SeqCst);
                    root.unpark();
                })
            })
            .collect();
        drop(root);
        let mut taken = 0;
        while finished.load(Ordering::SeqCst) < 4 || taken < 2000 {
            let before = taken;
            for flag in flags.iter() {
                taken += u32::from(flag.swap(false, Ordering::SeqCst));
            }
            if taken == before && finished.load(Ordering::SeqCst) < 4 {
                park();
            }
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(taken, 2000);
        park_timeout(Duration::ZERO);
    });
}

// Names and the like

#[test]
fn current_is_the_root_outside_of_tasks() {
    check(|| {
        let root = current();
        assert_eq!(root.id().to_string(), "0");
        assert_eq!((root.name(), root.is_finished()), (None, false));
        let theirs = root.clone();
        let seen = spawn(move || (current() == theirs, current().id(), current().name()));
        let id = seen.task().id();
        assert_eq!(seen.join().unwrap(), (false, id, None));
        assert!(current() == root);
        assert!(format!("{root:?}").starts_with("Task { id: 0"));
    });
}

#[test]
fn a_builder_gives_names_and_the_place_of_the_spawn() {
    check(|| {
        let line = line!() + 1;
        let task = Builder::new().name("a name".into()).spawn(|| current().name()).unwrap();
        assert_eq!(task.task().name().as_deref(), Some("a name"));
        assert_eq!((task.task().spawned_at().file(), task.task().spawned_at().line()), (file!(), line));
        assert_eq!(task.join().unwrap().as_deref(), Some("a name"));
        let ids: Vec<_> = (0..3).map(|_| spawn(|| ()).task().id()).collect();
        assert!(ids.is_sorted() && ids[0] != ids[1] && ids[1] != ids[2]);
        yield_now();
    });
}

#[test]
fn an_absurd_stack_size_is_an_error_and_the_body_is_dropped() {
    check(|| {
        let log = Log::default();
        for size in [usize::MAX, usize::MAX / 2, isize::MAX as usize, 1 << 40, (1 << 30) + 1] {
            let body = OnDrop(log.clone(), "body");
            let error = Builder::new().stack_size(size).spawn(move || drop(body)).unwrap_err();
            assert!(!error.to_string().is_empty());
            assert_eq!(log.take(), ["body"]);
            assert_eq!(greenroom::testing::live_stacks(), 0);
        }
        for size in [0, 1, 4096, 16 << 20] {
            assert_eq!(Builder::new().stack_size(size).spawn(|| 1 + 1).unwrap().join().unwrap(), 2);
        }
        let deep = Builder::new().stack_size(16 << 20).spawn(|| std::hint::black_box([1_u8; 2 << 20])[77]).unwrap();
        assert_eq!(deep.join().unwrap(), 1);
    });
}
