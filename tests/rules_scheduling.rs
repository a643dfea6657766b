//! Rules 1 to 7 of the contract: what runs when, and what happens when nothing can.

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{Count, EVER, Log, MS, OnDrop, check, median, panic_of, soon, within};
use greenroom::net::{UnixDatagram, UnixStream};
use greenroom::{
    Builder, HubHandle, JoinHandle, current, idle, joinall, killall, park, park_timeout, run, shield, sleep,
    sleep_until, spawn, spawn_later, timeout, yield_now,
};
use std::io::{Read, Write};

// Rule 1

#[test]
fn rule_01_spawn_runs_nothing_before_the_caller_parks() {
    check(|| {
        let ran = Count::default();
        let tasks: Vec<_> = (0..1000)
            .map(|_| {
                let ran = ran.clone();
                spawn(move || ran.up())
            })
            .collect();
        assert_eq!(ran.get(), 0);
        // Nor does anything that does not park.
        assert!(!tasks[0].is_finished());
        tasks[0].task().unpark();
        assert_eq!(timeout(Duration::ZERO, || ran.get()), Ok(0));
        assert_eq!(ran.get(), 0);
        yield_now();
        assert_eq!(ran.get(), 1000);
        drop(tasks);
    });
}

#[test]
fn rule_01_a_task_that_spawns_goes_on_first() {
    check(|| {
        let log = Log::default();
        let (outer, inner) = (log.clone(), log.clone());
        spawn(move || {
            let child = spawn(move || inner.add("child"));
            outer.add("parent");
            child.join().unwrap();
            outer.add("joined");
        })
        .join()
        .unwrap();
        assert_eq!(log.take(), ["parent", "child", "joined"]);
    });
}

// Rule 2

#[test]
fn rule_02_three_tasks_take_turns_in_order() {
    check(|| {
        let log = Log::default();
        let tasks = ["a", "b"].map(|turn| turn.to_owned());
        let tasks = ["x", "y", "z"].map(|name| {
            let (log, turns) = (log.clone(), tasks.clone());
            spawn(move || {
                let [first, second] = turns;
                log.add(format!("{name}{first}"));
                yield_now();
                log.add(format!("{name}{second}"));
            })
        });
        joinall(tasks);
        assert_eq!(log.take(), ["xa", "ya", "za", "xb", "yb", "zb"]);
    });
}

#[test]
fn rule_02_the_root_takes_its_turn_like_the_others() {
    check(|| {
        let log = Log::default();
        let theirs = log.clone();
        let task = spawn(move || {
            for turn in 0..3 {
                theirs.add(format!("task {turn}"));
                yield_now();
            }
        });
        for turn in 0..3 {
            log.add(format!("root {turn}"));
            yield_now();
        }
        task.join().unwrap();
        assert_eq!(log.take(), ["root 0", "task 0", "root 1", "task 1", "root 2", "task 2"]);
    });
}

#[test]
fn rule_02_tasks_run_in_the_order_in_which_they_were_woken() {
    check(|| {
        let log = Log::default();
        let tasks: Vec<_> = (0..5)
            .map(|number| {
                let log = log.clone();
                spawn(move || {
                    park();
                    log.add(number.to_string());
                })
            })
            .collect();
        yield_now();
        for number in [3, 1, 4, 0, 2] {
            tasks[number].task().unpark();
        }
        joinall(tasks);
        assert_eq!(log.take(), ["3", "1", "4", "0", "2"]);
    });
}

#[test]
fn rule_02_sleepers_wake_in_the_order_of_their_deadlines() {
    check(|| {
        let log = Log::default();
        let base = Instant::now() + 5 * MS;
        let tasks = [3, 1, 4, 0, 2].map(|place: u32| {
            let log = log.clone();
            spawn(move || {
                sleep_until(base + place * Duration::from_micros(10));
                log.add(place.to_string());
            })
        });
        joinall(tasks);
        assert_eq!(log.take(), ["0", "1", "2", "3", "4"]);
    });
}

// Rule 3

#[test]
fn rule_03_a_blocking_call_on_the_root_needs_no_set_up() {
    check(|| {
        let results = joinall([spawn(|| 1), spawn(|| 2)]);
        assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2]);
    });
}

#[test]
fn rule_03_run_kills_and_joins_what_is_left() {
    check(|| {
        let log = Log::default();
        let before = spawn(park);
        let inside = log.clone();
        let value = run(|| {
            for name in ["first", "second"] {
                let log = inside.clone();
                spawn(move || {
                    let _end = OnDrop(log, name);
                    park();
                });
            }
            let log = inside.clone();
            spawn(move || {
                // Ends only after a while, and is waited for.
                let _end = OnDrop(log.clone(), "third");
                shield(|| sleep(2 * MS));
                log.add("slept");
                park();
            });
            yield_now();
            let never = inside.clone();
            spawn(move || never.add("never begins"));
            inside.add("over");
            7
        });
        assert_eq!(value, 7);
        assert_eq!(log.take(), ["over", "first", "second", "slept", "third"]);
        assert_eq!(greenroom::testing::live_tasks(), 1, "what was spawned before is left alone");
        assert!(!before.is_finished());
        before.kill();
    });
}

#[test]
fn rule_03_run_ends_what_dying_tasks_spawn() {
    check(|| {
        struct Spawns(Log);
        impl Drop for Spawns {
            fn drop(&mut self) {
                let log = self.0.clone();
                spawn(move || {
                    let _end = OnDrop(log, "late one");
                    park();
                });
                yield_now();
            }
        }
        let log = Log::default();
        run(|| {
            let spawns = Spawns(log.clone());
            spawn(move || {
                let _spawns = spawns;
                park();
            });
            yield_now();
        });
        assert_eq!(log.take(), ["late one"]);
    });
}

#[test]
fn rule_03_run_panics_after_its_tasks_have_ended() {
    check(|| {
        let log = Log::default();
        let theirs = log.clone();
        let text = panic_of(|| {
            run(|| {
                spawn(move || {
                    let _end = OnDrop(theirs, "ended");
                    park();
                });
                yield_now();
                panic!("from the body");
            })
        });
        assert_eq!(text, "from the body");
        assert_eq!(log.take(), ["ended"]);
    });
}

#[test]
fn rule_03_run_works_inside_a_task() {
    check(|| {
        let outer = spawn(|| {
            run(|| {
                spawn(park);
                yield_now();
            });
            greenroom::testing::live_tasks()
        });
        assert_eq!(outer.join().unwrap(), 1);
    });
}

// Rule 4

/// Runs `busy` in so many tasks for as long as `f` takes; it has to look at its argument between any two calls.
fn amid<R>(tasks: usize, busy: impl Fn(&Cell<bool>) + Clone + 'static, f: impl FnOnce() -> R) -> R {
    let stop = Rc::new(Cell::new(false));
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (stop, busy) = (stop.clone(), busy.clone());
            spawn(move || busy(&stop))
        })
        .collect();
    yield_now();
    let result = f();
    stop.set(true);
    for result in joinall(tasks) {
        result.unwrap();
    }
    result
}

fn yields(stop: &Cell<bool>) {
    while !stop.get() {
        yield_now();
    }
}

/// Reads from a socket that always has something.
fn reads() -> impl Fn(&Cell<bool>) + Clone + 'static {
    let (near, far) = UnixDatagram::pair().unwrap();
    far.send(b"for ever").unwrap();
    let pair = Rc::new((near, far));
    move |stop| {
        // Each puts back what it takes, so that none ever waits.
        while !stop.get() {
            let mut buf = [0; 8];
            let n = pair.0.recv(&mut buf).unwrap();
            pair.1.send(&buf[..n]).unwrap();
        }
    }
}

/// How late a timer is.
fn lateness_of_timers() -> Duration {
    let samples = (0..31).map(|_| {
        let due = Instant::now() + 2 * MS;
        sleep_until(due);
        due.elapsed()
    });
    median(samples.collect())
}

/// How late a reader hears of a byte.
fn lateness_of_io() -> Duration {
    let (mut near, mut far) = UnixStream::pair().unwrap();
    let epoch = Instant::now();
    let reader = spawn(move || {
        let mut sent = [0; 16];
        (0..31)
            .map(|_| {
                far.read_exact(&mut sent).unwrap();
                epoch.elapsed() - Duration::from_nanos(u64::try_from(u128::from_ne_bytes(sent)).unwrap())
            })
            .collect()
    });
    for _ in 0..31 {
        sleep(MS);
        near.write_all(&epoch.elapsed().as_nanos().to_ne_bytes()).unwrap();
    }
    median(reader.join().unwrap())
}

#[test]
fn rule_04_timers_are_served_while_a_thousand_tasks_yield() {
    check(|| within(MS, || amid(1000, yields, lateness_of_timers)));
}

#[test]
fn rule_04_io_is_served_while_a_thousand_tasks_yield() {
    check(|| within(MS, || amid(1000, yields, lateness_of_io)));
}

#[test]
fn rule_04_timers_are_served_while_tasks_read_what_is_always_ready() {
    check(|| within(MS, || amid(1, reads(), lateness_of_timers)));
}

#[test]
fn rule_04_timers_are_served_while_many_read_what_is_always_ready() {
    check(|| {
        let readers: Vec<_> = (0..20).map(|_| reads()).collect();
        let next = Rc::new(Cell::new(0));
        let each = move |stop: &Cell<bool>| {
            let place = next.replace(next.get() + 1);
            readers[place % readers.len()](stop);
        };
        within(MS, || amid(20, each.clone(), lateness_of_timers));
    });
}

#[test]
fn rule_04_io_is_served_while_tasks_read_what_is_always_ready() {
    check(|| within(MS, || amid(1, reads(), lateness_of_io)));
}

#[test]
fn rule_04_a_root_that_yields_in_a_loop_starves_nobody() {
    check(|| {
        for measure in [lateness_of_timers, lateness_of_io] {
            within(MS, || {
                let task = spawn(measure);
                while !task.is_finished() {
                    yield_now();
                }
                task.join().unwrap()
            });
        }
    });
}

#[test]
fn rule_04_a_root_that_reads_what_is_always_ready_starves_nobody() {
    check(|| {
        let (near, far) = UnixDatagram::pair().unwrap();
        for measure in [lateness_of_timers, lateness_of_io] {
            within(MS, || {
                let task = spawn(measure);
                while !task.is_finished() {
                    far.send(b"x").unwrap();
                    near.recv(&mut [0]).unwrap();
                }
                task.join().unwrap()
            });
        }
    });
}

/// The count of turns was once set back where the queue grew, and no poll made before it had come as far again.
#[test]
fn rule_04_a_crowd_after_many_turns_delays_nothing() {
    check(|| {
        let begun = Instant::now();
        amid(2, yields, || (0..2_000_000).for_each(|_| yield_now()));
        let took = begun.elapsed();
        amid(1000, yields, || {
            let due = Instant::now() + MS;
            sleep_until(due);
            assert!(due.elapsed() < took / 3, "{:?} late, after turns that took {took:?}", due.elapsed());
        });
    });
}

#[test]
fn rule_04_a_timeout_reaches_a_loop_of_yields() {
    check(|| {
        let spins = || loop {
            yield_now();
        };
        assert!(soon(|| timeout(2 * MS, spins)).is_err(), "on the root");
        assert!(soon(|| spawn(move || timeout(2 * MS, spins)).join().unwrap()).is_err(), "in a task");
    });
}

#[test]
fn rule_04_a_message_from_another_thread_is_served_while_tasks_yield() {
    check(|| {
        let hub = HubHandle::current();
        let other = thread::spawn(move || hub.spawn(|| 5).join().unwrap());
        amid(100, yields, || {
            soon(|| {
                while !other.is_finished() {
                    yield_now();
                }
            });
        });
        assert_eq!(other.join().unwrap(), 5);
    });
}

#[test]
fn rule_04_yielders_are_served_while_io_never_rests() {
    check(|| {
        // Pairs that keep each other busy through the poller, for as long as the others take for their turns.
        let stop = Rc::new(Cell::new(false));
        let pairs: Vec<_> = (0..50)
            .flat_map(|_| {
                let (one, other) = UnixStream::pair().unwrap();
                [(one, true), (other, false)].map(|(mut end, begins)| {
                    let stop = stop.clone();
                    spawn(move || {
                        if begins {
                            end.write_all(b"x").unwrap();
                        }
                        while !stop.get() && end.read(&mut [0]).unwrap() > 0 {
                            if end.write_all(b"x").is_err() {
                                break;
                            }
                        }
                    })
                })
            })
            .collect();
        soon(|| (0..1000).for_each(|_| yield_now()));
        stop.set(true);
        joinall(pairs);
    });
}

// Rule 5

#[test]
fn rule_05_a_sleep_never_ends_early() {
    check(|| {
        let tasks = (0..300_u32).map(|number| {
            spawn(move || {
                for turn in 1..10 {
                    let length = Duration::from_nanos(u64::from(number * 7919 * turn % 3_000_000));
                    let begun = Instant::now();
                    sleep(length);
                    assert!(begun.elapsed() >= length, "{:?} of {length:?}", begun.elapsed());
                }
            })
        });
        for result in joinall(tasks) {
            result.unwrap();
        }
    });
}

#[test]
fn rule_05_no_deadline_is_met_early() {
    check(|| {
        for micros in (50..2500).step_by(130) {
            let length = Duration::from_micros(micros);
            let late = |wait: &dyn Fn()| {
                let begun = Instant::now();
                wait();
                assert!(begun.elapsed() >= length, "{:?} of {length:?}", begun.elapsed());
            };
            late(&|| sleep_until(Instant::now() + length));
            late(&|| assert!(!park_timeout(length)));
            late(&|| assert!(timeout(length, || sleep(EVER)).is_err()));
            late(&|| spawn_later(length, || ()).join().unwrap());
        }
    });
}

#[test]
fn rule_05_on_an_idle_hub_a_sleep_is_at_most_200_microseconds_late() {
    check(|| {
        for length in [100, 300, 700, 1500, 2300].map(Duration::from_micros) {
            within(Duration::from_micros(200), || {
                let samples = (0..51).map(|_| {
                    let begun = Instant::now();
                    sleep(length);
                    begun.elapsed() - length
                });
                median(samples.collect())
            });
        }
    });
}

#[test]
fn rule_05_a_sleep_of_nothing_gives_the_others_a_turn() {
    check(|| {
        for rest in [|| sleep(Duration::ZERO), || sleep_until(Instant::now() - MS)] {
            let task = spawn(|| ());
            rest();
            assert!(task.is_finished());
        }
    });
}

#[test]
fn rule_05_times_beyond_the_clock_never_come() {
    check(|| {
        let tasks = [
            spawn(|| sleep(Duration::MAX)),
            spawn(|| assert!(timeout(Duration::MAX, park).is_ok())),
            spawn(|| assert!(park_timeout(Duration::MAX))),
            spawn_later(Duration::MAX, || ()),
        ];
        sleep(2 * MS);
        assert!(tasks.iter().all(|task| !task.is_finished()));
        killall(&tasks);
    });
}

// Rule 6

#[test]
#[cfg(target_os = "linux")]
fn rule_06_an_idle_hub_uses_no_cpu() {
    fn used() -> (Duration, i64) {
        // SAFETY: all zeroes is a value of this plain struct.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the struct is alive for the call.
        let got = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
        assert_eq!(got, 0);
        let time =
            |t: libc::timeval| Duration::new(t.tv_sec.try_into().unwrap(), u32::try_from(t.tv_usec).unwrap() * 1000);
        (time(usage.ru_utime) + time(usage.ru_stime), usage.ru_nvcsw)
    }
    check(|| {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = Rc::new(far);
        let (one, other) = (far.clone(), far.clone());
        let mut tasks = vec![
            spawn(park),
            spawn(|| sleep(EVER)),
            spawn(move || drop((&*one).read(&mut [0]))),
            spawn(|| assert!(timeout(EVER, park).is_ok())),
        ];
        // One that filled its socket: writable again only when somebody reads.
        tasks.push(spawn(move || while (&*other).write(&[0; 4096]).is_ok() {}));
        tasks.extend((0..500).map(|_| spawn(park)));
        idle();

        let (cpu, sleeps) = used();
        sleep(300 * MS);
        let (cpu_after, sleeps_after) = used();
        let (cpu, sleeps) = (cpu_after - cpu, sleeps_after - sleeps);
        assert!(cpu < 10 * MS, "{cpu:?}");
        assert!(sleeps <= 6, "woke {sleeps} times");

        near.write_all(b"x").unwrap();
        killall(&tasks);
    });
}

// Rule 7

fn spawned_at(line: u32) -> String {
    format!("spawned at {}:{line}", file!())
}

#[test]
fn rule_07_a_deadlock_names_every_task_its_reason_and_where_it_was_spawned() {
    check(|| {
        let shielded_at = line!() + 1;
        let shielded = spawn(|| shield(park));
        yield_now();
        let task = shielded.task();
        let joins_at = line!() + 2;
        let target = task.clone();
        let joins = Builder::new().name("joins".into()).spawn(move || target.kill()).unwrap();

        // It is not killed inside its shield, and waits there for ever.
        let report = panic_of(|| task.kill());
        let line = |name: &str| report.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{report}"));
        assert!(report.starts_with("deadlock"), "{report}");
        let (root, other) = (line("'root'"), line("'joins'"));
        assert!(root.contains(&format!("the end of task #{}", task.id())), "{report}");
        assert!(other.contains(&spawned_at(joins_at)), "{report}");
        assert!(other.contains(&format!("the end of task #{}", task.id())), "{report}");
        let shielded_line = line(&format!("  #{}, spawned", task.id()));
        assert!(shielded_line.contains(&spawned_at(shielded_at)), "{report}");
        assert!(shielded_line.contains("an unpark"), "{report}");

        task.unpark();
        // The kill came while it was shielded, and it never parked again.
        shielded.join().unwrap();
        joins.join().unwrap();
    });
}

#[test]
fn rule_07_a_deadlock_report_gives_names_and_times() {
    check(|| {
        let line = line!() + 1;
        let parked = Builder::new().name("the parked one".into()).spawn(park).unwrap();
        yield_now();
        let task = parked.task();
        let report = panic_of(|| parked.join());
        let expected = format!("'the parked one' (#{}), {}:", task.id(), spawned_at(line));
        let told = report.lines().find(|line| line.contains(&expected)).unwrap_or_else(|| panic!("{report}"));
        assert!(told.contains(", waits for an unpark, for "), "{told}");
        assert!(told.ends_with('s'), "a time: {told}");
        task.kill();
    });
}

#[test]
fn rule_07_every_way_to_wait_on_the_root_can_be_a_deadlock() {
    check(|| {
        let waits: [fn(JoinHandle<()>); 9] = [
            |task| task.join().unwrap(),
            |_| park(),
            |task| drop(greenroom::wait([task], None, None)),
            |task| drop(greenroom::iwait([task]).next()),
            |task| greenroom::scope(|s| drop(s.spawn(|| task.join()))),
            |task| drop(joinall([spawn(park), task])),
            |task| drop(greenroom::try_joinall([spawn(|| ()), task])),
            |_| assert!(park_timeout(Duration::MAX)),
            |_| sleep(Duration::MAX),
        ];
        for wait in waits {
            run(|| {
                let report = panic_of(|| wait(spawn(park)));
                assert!(report.starts_with("deadlock"), "{report}");
                // The hub goes on.
                assert_eq!(spawn(|| 1).join().unwrap(), 1);
            });
        }
    });
}

#[test]
fn rule_07_a_hub_goes_on_after_a_deadlock() {
    check(|| {
        let parked = spawn(park);
        for _ in 0..3 {
            assert!(catch_unwind(AssertUnwindSafe(park)).is_err());
            sleep(MS);
            assert_eq!(spawn(|| 1).join().unwrap(), 1);
        }
        parked.task().unpark();
        parked.join().unwrap();
    });
}

#[test]
fn rule_07_no_deadlock_while_a_timer_or_a_socket_can_wake_somebody() {
    check(|| {
        let root = current();
        let unparks = |wait: fn()| {
            let root = root.clone();
            spawn(move || {
                wait();
                root.unpark();
            });
            park();
        };
        unparks(|| sleep(3 * MS));
        unparks(|| assert!(timeout(3 * MS, park).is_err()));
        unparks(|| spawn_later(3 * MS, || ()).join().unwrap());
        unparks(|| {
            let (near, far) = UnixStream::pair().unwrap();
            let peer = thread::spawn(move || {
                thread::sleep(3 * MS);
                drop(far);
            });
            assert_eq!((&near).read(&mut [0]).unwrap(), 0);
            peer.join().unwrap();
        });
        unparks(|| drop(greenroom::net::lookup_host("localhost:1")));
    });
}

#[test]
fn rule_07_no_deadlock_while_another_thread_has_a_handle() {
    check(|| {
        for _ in 0..50 {
            let (hub, root) = (HubHandle::current(), current().unparker());
            let other = thread::spawn(move || {
                // Once this is back the hub has nothing left, and sleeps or is about to.
                hub.spawn(|| ()).join().unwrap();
                root.unpark();
            });
            park();
            other.join().unwrap();
        }
    });
}

#[test]
fn rule_07_the_deadlock_comes_once_the_last_handle_is_gone() {
    check(|| {
        for _ in 0..50 {
            let (hub, unparker) = (HubHandle::current(), current().unparker());
            let (tell, told) = mpsc::channel();
            let other = thread::spawn(move || {
                hub.spawn(|| ()).join().unwrap();
                drop(unparker);
                tell.send(Instant::now()).unwrap();
                drop(hub);
            });
            let report = panic_of(park);
            assert!(told.try_recv().is_ok(), "not before the last handle went");
            assert!(report.contains("'root'"), "{report}");
            other.join().unwrap();
        }
    });
}

#[test]
fn rule_07_a_remote_handle_that_was_dropped_wakes_nobody() {
    check(|| {
        run(|| {
            let hub = HubHandle::current();
            let other = thread::spawn(move || drop(hub.spawn(park)));
            let report = panic_of(park);
            assert!(report.contains("waits for an unpark"), "{report}");
            other.join().unwrap();
        });
    });
}

// idle

#[test]
fn idle_waits_for_all_that_is_ready_and_due() {
    check(|| {
        let log = Log::default();
        for (number, name) in ["first", "second"].into_iter().enumerate() {
            let log = log.clone();
            spawn(move || {
                for _ in 0..10 * (number + 1) {
                    yield_now();
                }
                log.add(name);
            });
        }
        let (mut near, mut far) = UnixStream::pair().unwrap();
        near.write_all(b"x").unwrap();
        let reader = log.clone();
        spawn(move || {
            far.read_exact(&mut [0]).unwrap();
            reader.add("read");
        });
        let later = spawn(|| sleep(EVER));
        idle();
        let mut seen = log.take();
        seen.sort();
        assert_eq!(seen, ["first", "read", "second"]);
        assert!(!later.is_finished(), "a timer that is not due is not waited for");
        later.kill();
    });
}

#[test]
fn idle_returns_to_all_who_wait_for_it() {
    check(|| {
        let idlers: Vec<_> = (0..3).map(|_| spawn(idle)).collect();
        idle();
        for result in joinall(idlers) {
            result.unwrap();
        }
    });
}
