//! What `sync`'s locks, condition variables, barriers and cells promise beyond std's: order, and nothing lost by who is
//! killed or runs out of time.

mod common;

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use common::{Count, EVER, Log, MS, check, soon};
use greenroom::sync::{Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock, RwLockWriteGuard, TryLockError};
use greenroom::{
    JoinHandle, Task, idle, iwait, joinall, killall, park, shield, sleep, spawn, timeout, wait, yield_now,
};

// RwLock

/// Makes a task that takes the lock, logs its name, and keeps it until unparked.
fn reader(lock: &Rc<RwLock<i32>>, log: &Log, name: &'static str) -> JoinHandle<()> {
    let (lock, log) = (lock.clone(), log.clone());
    spawn(move || {
        let _guard = lock.read().unwrap();
        log.add(name);
        park();
    })
}

fn writer(lock: &Rc<RwLock<i32>>, log: &Log, name: &'static str) -> JoinHandle<()> {
    let (lock, log) = (lock.clone(), log.clone());
    spawn(move || {
        let mut guard = lock.write().unwrap();
        *guard += 1;
        log.add(name);
        park();
    })
}

fn end(task: JoinHandle<()>) {
    task.task().unpark();
    task.join().unwrap();
    idle();
}

fn is_locked<T>(result: Result<T, TryLockError<T>>) -> bool {
    matches!(result, Err(TryLockError::WouldBlock))
}

#[test]
fn readers_and_writers_are_served_in_order_and_neighbouring_readers_together() {
    check(|| {
        let (lock, log) = (Rc::new(RwLock::new(0)), Log::default());
        let first = writer(&lock, &log, "w1");
        idle();
        let (r1, r2) = (reader(&lock, &log, "r1"), reader(&lock, &log, "r2"));
        let w2 = writer(&lock, &log, "w2");
        let r3 = reader(&lock, &log, "r3");
        idle();
        assert_eq!(log.take(), ["w1"]);
        end(first);
        assert_eq!(log.take(), ["r1", "r2"]);
        end(r2);
        assert_eq!(log.take(), [""; 0]);
        end(r1);
        assert_eq!(log.take(), ["w2"]);
        end(w2);
        assert_eq!(log.take(), ["r3"]);
        end(r3);
        assert_eq!(*lock.try_write().unwrap(), 2);
    });
}

#[test]
fn nobody_overtakes_a_writer_that_waits() {
    check(|| {
        let (lock, log) = (Rc::new(RwLock::new(0)), Log::default());
        let first = reader(&lock, &log, "r1");
        idle();
        let second = writer(&lock, &log, "w");
        idle();
        assert!(is_locked(lock.try_read()), "the writer is next");
        let third = reader(&lock, &log, "r2");
        idle();
        assert_eq!(log.take(), ["r1"]);
        first.task().unpark();
        first.join().unwrap();
        assert!(is_locked(lock.try_read()) && is_locked(lock.try_write()), "it was handed over");
        idle();
        assert_eq!(log.take(), ["w"]);
        end(second);
        end(third);
        assert_eq!(log.take(), ["r2"]);
    });
}

#[test]
fn a_writer_that_leaves_the_line_lets_the_readers_behind_it_in() {
    check(|| {
        let (lock, log) = (Rc::new(RwLock::new(0)), Log::default());
        let first = reader(&lock, &log, "r1");
        idle();
        let killed = writer(&lock, &log, "w1");
        let theirs = lock.clone();
        let late = spawn(move || timeout(MS, || drop(theirs.write())).is_err());
        idle();
        let behind = reader(&lock, &log, "r2");
        idle();
        killed.kill();
        idle();
        assert_eq!(log.take(), ["r1"], "another writer is in the way");
        assert!(late.join().unwrap());
        idle();
        assert_eq!(log.take(), ["r2"]);
        end(first);
        end(behind);
        assert!(!lock.is_poisoned());
        assert_eq!(*lock.try_write().unwrap(), 0);
    });
}

#[test]
fn who_is_killed_after_the_lock_was_handed_over_passes_it_on() {
    check(|| {
        for read in [false, true] {
            let (lock, log) = (Rc::new(RwLock::new(0)), Log::default());
            let guard = lock.write().unwrap();
            let killed = if read { reader(&lock, &log, "killed") } else { writer(&lock, &log, "killed") };
            let next = writer(&lock, &log, "next");
            yield_now();
            drop(guard);
            killed.kill_nowait();
            idle();
            assert_eq!(log.take(), ["next"]);
            end(next);
            assert!(killed.join().unwrap_err().is_killed());
            assert_eq!(*lock.try_write().unwrap(), 1);
        }
    });
}

#[test]
fn a_kill_of_the_writer_poisons_and_a_kill_of_a_reader_does_not() {
    check(|| {
        let (lock, log) = (Rc::new(RwLock::new(0)), Log::default());
        let task = reader(&lock, &log, "r");
        idle();
        task.kill();
        assert!(!lock.is_poisoned());
        let task = writer(&lock, &log, "w");
        idle();
        task.kill();
        assert!(lock.is_poisoned() && lock.write().is_err());
        lock.clear_poison();
        assert!(timeout(MS, || (lock.write().unwrap(), park())).is_err());
        assert!(lock.is_poisoned(), "its time ran out");
    });
}

#[test]
fn a_downgrade_lets_those_in_who_read_next_and_nobody_else() {
    check(|| {
        let (lock, log) = (Rc::new(RwLock::new(0)), Log::default());
        let guard = lock.write().unwrap();
        let r1 = reader(&lock, &log, "r1");
        let w = writer(&lock, &log, "w");
        let r2 = reader(&lock, &log, "r2");
        idle();
        let guard = RwLockWriteGuard::downgrade(guard);
        idle();
        assert_eq!(log.take(), ["r1"]);
        end(r1);
        assert_eq!(log.take(), [""; 0]);
        drop(guard);
        idle();
        assert_eq!(log.take(), ["w"]);
        end(w);
        end(r2);
        assert_eq!(log.take(), ["r2"]);
    });
}

#[test]
fn an_unwind_that_parks_does_not_poison_what_another_task_holds() {
    check(|| {
        struct ParksInItsUnwind;
        impl Drop for ParksInItsUnwind {
            fn drop(&mut self) {
                park();
            }
        }
        let unwinds = spawn(|| {
            let _parks = ParksInItsUnwind;
            common::fail::<()>("unwinds");
        });
        idle();
        assert!(thread::panicking());
        let (lock, mutex) = (RwLock::new(0), Mutex::new(0));
        drop((lock.write().unwrap(), mutex.lock().unwrap()));
        assert!(!lock.is_poisoned() && !mutex.is_poisoned());
        unwinds.task().unpark();
        assert!(unwinds.join().unwrap_err().is_panicked());
    });
}

// Condvar

/// A number under a mutex, whose changes are told.
type Shared = Rc<(Mutex<u32>, Condvar)>;

/// Makes a task that waits for one notification.
fn waiter(shared: &Shared, log: &Log, name: &'static str) -> JoinHandle<()> {
    let (shared, log) = (shared.clone(), log.clone());
    spawn(move || {
        let _guard = shared.1.wait(shared.0.lock().unwrap()).unwrap();
        log.add(name);
    })
}

#[test]
fn who_has_waited_longest_is_notified_first() {
    check(|| {
        let (shared, log) = (Shared::default(), Log::default());
        let tasks = ["a", "b", "c", "d"].map(|name| waiter(&shared, &log, name));
        idle();
        for name in ["a", "b"] {
            shared.1.notify_one();
            idle();
            assert_eq!(log.take(), [name]);
        }
        shared.1.notify_all();
        idle();
        assert_eq!(log.take(), ["c", "d"]);
        joinall(tasks);
        shared.1.notify_one();
        let late = waiter(&shared, &log, "late");
        idle();
        assert!(!late.is_finished(), "nothing is remembered");
        late.kill();
    });
}

#[test]
fn who_is_killed_while_it_waits_takes_no_notification() {
    check(|| {
        let (shared, log) = (Shared::default(), Log::default());
        let [a, b] = ["a", "b"].map(|name| waiter(&shared, &log, name));
        idle();
        a.kill();
        shared.1.notify_one();
        b.join().unwrap();
        assert_eq!(log.take(), ["b"]);
        assert!(!shared.0.is_poisoned());
    });
}

#[test]
fn who_is_killed_after_it_was_notified_passes_the_notification_on() {
    check(|| {
        let (shared, log) = (Shared::default(), Log::default());
        let [a, b, c] = ["a", "b", "c"].map(|name| waiter(&shared, &log, name));
        idle();
        shared.1.notify_one();
        a.kill_nowait();
        b.join().unwrap();
        assert!(a.join().unwrap_err().is_killed());
        idle();
        assert_eq!(log.take(), ["b"]);
        assert!(!c.is_finished());
        c.kill();
    });
}

#[test]
fn who_is_cancelled_while_it_takes_the_mutex_again_passes_the_notification_on() {
    check(|| {
        let (shared, log) = (Shared::default(), Log::default());
        let theirs = shared.clone();
        let late = spawn(move || {
            timeout(MS, || drop(theirs.1.wait(theirs.0.lock().unwrap()).unwrap())).expect_err("its time runs out");
        });
        idle();
        let [a, b, c] = ["a", "b", "c"].map(|name| waiter(&shared, &log, name));
        idle();
        let guard = shared.0.lock().unwrap();
        shared.1.notify_one();
        late.join().unwrap();
        yield_now();
        a.kill();
        assert!(!b.is_finished());
        drop(guard);
        b.join().unwrap();
        idle();
        assert_eq!(log.take(), ["b"]);
        assert!(!shared.0.is_poisoned());
        c.kill();
    });
}

#[test]
fn a_notification_for_all_is_not_passed_on() {
    check(|| {
        let (shared, log) = (Shared::default(), Log::default());
        let a = waiter(&shared, &log, "a");
        idle();
        shared.1.notify_all();
        let b = waiter(&shared, &log, "b");
        a.kill_nowait();
        idle();
        assert!(a.is_finished() && !b.is_finished());
        b.kill();
    });
}

#[test]
fn a_killed_waiter_does_not_hold_the_mutex_while_it_unwinds() {
    check(|| {
        struct Looks(Shared, Count);
        impl Drop for Looks {
            fn drop(&mut self) {
                drop(self.0.0.try_lock().expect("it is free"));
                self.1.up();
            }
        }
        let (shared, looked) = (Shared::default(), Count::default());
        let looks = Looks(shared.clone(), looked.clone());
        let task = spawn(move || {
            let looks = looks;
            drop(looks.0.1.wait(looks.0.0.lock().unwrap()));
        });
        idle();
        task.kill();
        assert_eq!(looked.get(), 1);
        assert!(!shared.0.is_poisoned());
    });
}

#[test]
fn a_wait_with_a_timeout_has_the_mutex_when_it_returns() {
    check(|| {
        let shared = Shared::default();
        let theirs = shared.clone();
        let task = spawn(move || {
            let (guard, result) = theirs.1.wait_timeout(theirs.0.lock().unwrap(), MS).unwrap();
            (*guard, result.timed_out())
        });
        idle();
        let mut guard = shared.0.lock().unwrap();
        sleep(3 * MS);
        assert!(!task.is_finished(), "the mutex is held");
        *guard = 7;
        drop(guard);
        assert_eq!(task.join().unwrap(), (7, true));

        let theirs = shared.clone();
        let task = spawn(move || {
            let (_guard, result) = theirs.1.wait_timeout(theirs.0.lock().unwrap(), EVER).unwrap();
            result.timed_out()
        });
        idle();
        shared.1.notify_one();
        assert!(!task.join().unwrap());
    });
}

#[test]
fn a_block_whose_time_runs_out_in_a_wait_says_so_and_keeps_nothing() {
    check(|| {
        let shared = Shared::default();
        let guard = shared.0.lock().unwrap();
        assert!(timeout(MS, || drop(shared.1.wait(guard))).is_err());
        assert!(!shared.0.is_poisoned());
        let guard = shared.0.try_lock().unwrap();
        let (guard, result) = shield(|| shared.1.wait_timeout(guard, MS).unwrap());
        assert!(result.timed_out());
        drop(guard);
    });
}

#[test]
fn a_native_thread_and_a_task_notify_each_other() {
    check(|| {
        const ROUNDS: u32 = 200;
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let theirs = shared.clone();
        let turns = move |shared: &(Mutex<u32>, Condvar), odd: u32| {
            for _ in 0..ROUNDS {
                let mut count = shared.1.wait_while(shared.0.lock().unwrap(), |count| *count % 2 != odd).unwrap();
                *count += 1;
                shared.1.notify_one();
            }
        };
        let native = thread::spawn(move || turns(&theirs, 1));
        let here = shared.clone();
        let task = spawn(move || turns(&here, 0));
        task.join().unwrap();
        native.join().unwrap();
        assert_eq!(*shared.0.lock().unwrap(), 2 * ROUNDS);
    });
}

// Barrier

#[test]
fn who_is_killed_at_a_barrier_has_not_come() {
    check(|| {
        let barrier = Rc::new(Barrier::new(3));
        let come = || {
            let barrier = barrier.clone();
            spawn(move || barrier.wait().is_leader())
        };
        let (killed, first) = (come(), come());
        idle();
        killed.kill();
        let second = come();
        idle();
        assert!(!first.is_finished() && !second.is_finished(), "two of three are there");
        let last = come();
        assert_eq!([first, second, last].map(|task| task.join().unwrap()), [false, false, true]);
    });
}

#[test]
fn who_is_killed_when_the_last_has_come_was_part_of_the_round() {
    check(|| {
        let barrier = Rc::new(Barrier::new(2));
        let theirs = barrier.clone();
        let killed = spawn(move || theirs.wait().is_leader());
        idle();
        assert!(barrier.wait().is_leader());
        killed.kill_nowait();
        assert!(killed.join().unwrap_err().is_killed());
        let theirs = barrier.clone();
        let next = spawn(move || theirs.wait().is_leader());
        idle();
        assert!(!next.is_finished(), "a new round");
        assert!(barrier.wait().is_leader());
        assert!(!next.join().unwrap());
    });
}

#[test]
fn a_barrier_joins_tasks_of_two_hubs_and_native_threads() {
    check(|| {
        let barrier = Arc::new(Barrier::new(5));
        let leaders = Arc::new(AtomicUsize::new(0));
        let rounds = |barrier: &Barrier, leaders: &AtomicUsize| {
            for _ in 0..50 {
                leaders.fetch_add(barrier.wait().is_leader().into(), Ordering::Relaxed);
            }
        };
        let native = |with_hub: bool| {
            let (barrier, leaders) = (barrier.clone(), leaders.clone());
            thread::spawn(move || {
                let (theirs, counts) = (barrier.clone(), leaders.clone());
                let task = with_hub.then(|| spawn(move || rounds(&theirs, &counts)));
                rounds(&barrier, &leaders);
                task.map(|task| task.join().unwrap());
            })
        };
        let threads = [native(false), native(true)];
        let (theirs, counts) = (barrier.clone(), leaders.clone());
        let task = spawn(move || rounds(&theirs, &counts));
        rounds(&barrier, &leaders);
        task.join().unwrap();
        threads.map(|thread| thread.join().unwrap());
        assert_eq!(leaders.load(Ordering::Relaxed), 50);
    });
}

// Once, OnceLock, LazyLock

#[test]
fn a_parked_initializer_is_waited_for_by_tasks_and_threads() {
    static VALUE: LazyLock<i32> = LazyLock::new(|| {
        park();
        7
    });
    check(|| {
        let initializes = spawn(|| *VALUE);
        idle();
        let here = spawn(|| *VALUE);
        let (tell, told) = mpsc::channel();
        let other = tell.clone();
        let native = thread::spawn(move || {
            tell.send(()).unwrap();
            *VALUE
        });
        let hub = thread::spawn(move || {
            let tasks = [spawn(|| *VALUE), spawn(|| *VALUE)];
            idle();
            other.send(()).unwrap();
            tasks.map(|task| task.join().unwrap())
        });
        told.recv().unwrap();
        told.recv().unwrap();
        idle();
        assert!(!here.is_finished());
        initializes.task().unpark();
        assert_eq!((initializes.join().unwrap(), here.join().unwrap()), (7, 7));
        assert_eq!((native.join().unwrap(), hub.join().unwrap()), (7, [7, 7]));
    });
}

#[test]
fn a_killed_initializer_poisons_a_once() {
    check(|| {
        let once = Rc::new(Once::new());
        let theirs = once.clone();
        let killed = spawn(move || theirs.call_once(park));
        idle();
        let theirs = once.clone();
        let waits = spawn(move || theirs.call_once(|| ()));
        let theirs = once.clone();
        let forces = spawn(move || {
            let mut poisoned = false;
            theirs.call_once_force(|state| poisoned = state.is_poisoned());
            poisoned
        });
        let theirs = once.clone();
        let patient = spawn(move || theirs.wait_force());
        idle();
        killed.kill();
        assert!(waits.join().unwrap_err().message().unwrap().contains("poisoned"));
        assert!(forces.join().unwrap());
        patient.join().unwrap();
        assert!(once.is_completed());
    });
}

#[test]
fn a_cancelled_initializer_leaves_the_cell_to_the_next_in_line() {
    check(|| {
        /// Kills a task when dropped.
        struct Kills(Rc<OnceCell<Task>>);
        impl Drop for Kills {
            fn drop(&mut self) {
                self.0.get().into_iter().for_each(Task::kill_nowait);
            }
        }
        let (cell, log, victim) = (Rc::new(OnceLock::new()), Log::default(), Rc::default());
        let init = |name: &'static str, parks: bool| {
            let (cell, log) = (cell.clone(), log.clone());
            let kills = (name == "a").then(|| Kills(Rc::clone(&victim)));
            spawn(move || {
                let _kills = kills;
                *cell.get_or_init(|| {
                    log.add(name);
                    if parks {
                        park();
                    }
                    name
                })
            })
        };
        let a = init("a", true);
        idle();
        let (b, c, d) = (init("b", false), init("c", true), init("d", false));
        let theirs = cell.clone();
        let waits = spawn(move || *theirs.wait());
        idle();
        // Its end makes it b's turn, and then kills b.
        victim.set(b.task()).unwrap();
        a.kill();
        idle();
        assert_eq!(log.take(), ["a", "c"]);
        assert_eq!(cell.get(), None);
        c.task().unpark();
        assert_eq!([c.join().unwrap(), d.join().unwrap(), waits.join().unwrap()], ["c"; 3]);
        assert!(b.join().unwrap_err().is_killed());

        let cell = OnceLock::new();
        assert!(timeout(MS, || *cell.get_or_init(|| (park(), 1).1)).is_err());
        assert_eq!(cell.get_or_init(|| 2), &2);
    });
}

#[test]
fn who_is_killed_while_it_waits_for_a_cell_leaves_no_trace() {
    check(|| {
        let cell = Rc::new(OnceLock::new());
        let (first, second) = (cell.clone(), cell.clone());
        let (waits, sets) = (spawn(move || *first.wait()), spawn(move || *second.get_or_init(|| (park(), 1).1)));
        idle();
        let theirs = cell.clone();
        let behind = spawn(move || theirs.set(2));
        idle();
        waits.kill();
        behind.kill();
        sets.task().unpark();
        assert_eq!(sets.join().unwrap(), 1);
        assert_eq!(cell.get(), Some(&1));
    });
}

#[test]
fn a_cell_is_waited_for_among_others() {
    check(|| {
        let cells: Vec<_> = (0..3).map(|_| Arc::new(OnceLock::new())).collect();
        cells[1].set(1).unwrap();
        let theirs = cells.clone();
        let native = thread::spawn(move || {
            theirs[2].set(2).unwrap();
            theirs[2].set(3).unwrap_err();
        });
        let ready: Vec<_> = iwait(&cells).take(2).map(|cell| *cell.get().unwrap()).collect();
        assert_eq!(ready, [1, 2]);
        native.join().unwrap();
        assert_eq!(wait(&cells, Some(Duration::ZERO), None).len(), 2);
    });
}

// Under load

/// Unwinds of holders poison, and half of what is done here unwinds.
fn any<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

/// Makes tasks, kills some of them at random while they run, and waits for the others.
fn with_kills(seed: u64, tasks: u64, body: impl Fn(fastrand::Rng) + 'static) {
    let body = Rc::new(body);
    let mut random = fastrand::Rng::with_seed(seed);
    let all: Vec<_> = (0..tasks)
        .map(|i| {
            let body = body.clone();
            spawn(move || body(fastrand::Rng::with_seed(seed * 1_000_003 + i)))
        })
        .collect();
    for _ in 0..tasks / 4 {
        if random.bool() {
            yield_now();
        } else if random.u8(..8) == 0 {
            sleep(Duration::from_micros(random.u64(..200)));
        }
        all[random.usize(..all.len())].kill_nowait();
    }
    for task in all {
        if let Err(error) = task.join() {
            assert!(error.is_killed(), "{error}");
        }
    }
}

#[test]
fn a_rwlock_under_kills_and_timeouts_counts_exactly() {
    check(|| {
        struct Under {
            lock: RwLock<(u64, u64)>,
            written: AtomicU64,
        }

        fn turn(under: &Under, random: &mut fastrand::Rng, pause: impl Fn()) {
            match random.u8(..6) {
                0..2 => {
                    let mut pair = any(under.lock.write());
                    pause();
                    pair.0 += 1;
                    under.written.fetch_add(1, Ordering::Relaxed);
                    pair.1 += 1;
                    if random.bool() {
                        let pair = RwLockWriteGuard::downgrade(pair);
                        pause();
                        assert_eq!(pair.0, pair.1);
                    }
                }
                2..5 => {
                    let pair = any(under.lock.read());
                    pause();
                    assert_eq!(pair.0, pair.1);
                }
                _ => {
                    if let Ok(pair) = under.lock.try_read() {
                        assert_eq!(pair.0, pair.1);
                    }
                }
            }
        }

        fn hub(under: &Arc<Under>, seed: u64) {
            let under = under.clone();
            with_kills(seed, 500, move |mut random| {
                for _ in 0..8 {
                    let patience = Duration::from_micros(random.u64(..500));
                    if random.bool() {
                        turn(&under, &mut random, yield_now);
                    } else {
                        let _late = timeout(patience, || turn(&under, &mut random, yield_now));
                    }
                }
            });
        }

        let under = Arc::new(Under { lock: RwLock::new((0, 0)), written: AtomicU64::new(0) });
        let native = |seed| {
            let under = under.clone();
            thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..500 {
                    turn(&under, &mut random, || ());
                }
            })
        };
        let threads = [native(1), native(2)];
        let theirs = under.clone();
        let other = thread::spawn(move || hub(&theirs, 3));
        soon(|| hub(&under, 4));
        other.join().unwrap();
        threads.map(|thread| thread.join().unwrap());
        let written = under.written.load(Ordering::Relaxed);
        under.lock.clear_poison();
        assert_eq!(*under.lock.try_write().unwrap(), (written, written));
    });
}

#[test]
fn no_notification_is_lost_under_kills_and_timeouts() {
    check(|| {
        const ROUNDS: u64 = 25;
        const GETTERS: u64 = 40;
        const ITEMS: u64 = 15;

        /// Each item is told to one.
        #[derive(Default)]
        struct Items {
            left: Mutex<u64>,
            put: Condvar,
            got: AtomicU64,
        }

        impl Items {
            fn get(&self) {
                let mut left = self.put.wait_while(self.left.lock().unwrap(), |left| *left == 0).unwrap();
                *left -= 1;
                self.got.fetch_add(1, Ordering::Relaxed);
            }

            fn get_timeout(&self, patience: Duration) {
                let left = self.left.lock().unwrap();
                let (mut left, result) = self.put.wait_timeout_while(left, patience, |left| *left == 0).unwrap();
                if !result.timed_out() {
                    *left -= 1;
                    self.got.fetch_add(1, Ordering::Relaxed);
                }
            }
        }

        for round in 0..ROUNDS {
            let items = Arc::new(Items::default());
            let getters: Vec<_> = (0..GETTERS)
                .map(|i| {
                    let items = items.clone();
                    let patience = Duration::from_micros(fastrand::Rng::with_seed(round * GETTERS + i).u64(..300));
                    spawn(move || match i % 4 {
                        0 => drop(timeout(patience, || items.get())),
                        1 => items.get_timeout(patience),
                        _ => items.get(),
                    })
                })
                .collect();
            idle();
            let putters: Vec<_> = (0..2)
                .map(|_| {
                    let items = items.clone();
                    thread::spawn(move || {
                        for _ in 0..ITEMS {
                            *items.left.lock().unwrap() += 1;
                            items.put.notify_one();
                        }
                    })
                })
                .collect();
            let mut random = fastrand::Rng::with_seed(round);
            for _ in 0..GETTERS / 3 {
                getters[random.usize(..getters.len())].kill_nowait();
                if random.bool() {
                    yield_now();
                }
            }
            // Tasks of this thread may hold the mutex: it must not stop.
            while putters.iter().any(|putter| !putter.is_finished()) {
                sleep(MS / 10);
            }
            putters.into_iter().for_each(|putter| putter.join().unwrap());
            // Were a notification lost, somebody would wait beside an item.
            soon(|| {
                while *items.left.lock().unwrap() > 0 && getters.iter().any(|getter| !getter.is_finished()) {
                    sleep(MS / 10);
                }
            });
            killall(&getters);
            let left = *items.left.lock().unwrap();
            assert_eq!(items.got.load(Ordering::Relaxed) + left, 2 * ITEMS);
        }
    });
}
