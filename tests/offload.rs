//! What native threads do for tasks: values and panics come back, the hub goes on, and nothing is lost with a caller.

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{Count, EVER, MS, check, fail, in_child, panic_of, soon, stderr};
use greenroom::offload::{OffloadHandle, ThreadPool, default_pool};
use greenroom::{
    HubHandle, JoinError, current, idle, joinall, offload, park, park_timeout, shield, sleep, spawn, timeout, yield_now,
};

/// Holds jobs back until it is opened, and tells when they have come.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<(usize, bool)>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.0 += 1;
        changed.notify_all();
        drop(changed.wait_while(state, |(_, open)| !*open).unwrap());
    }

    /// Stops the thread, not the task, until so many have come.
    fn wait_for(&self, count: usize) {
        let (state, changed) = &*self.0;
        let waited = changed.wait_timeout_while(state.lock().unwrap(), EVER / 60, |(come, _)| *come < count).unwrap();
        assert!(!waited.1.timed_out(), "{count} never came");
    }

    fn open(&self) {
        let (state, changed) = &*self.0;
        state.lock().unwrap().1 = true;
        changed.notify_all();
    }

    fn job(&self) -> impl FnOnce() + Send + 'static {
        let gate = self.clone();
        move || gate.pass()
    }
}

/// Tells on which thread it was dropped.
struct Tells(mpsc::Sender<Option<String>>);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.send(thread::current().name().map(String::from)).unwrap();
    }
}

fn tells() -> (Tells, mpsc::Receiver<Option<String>>) {
    let (tell, told) = mpsc::channel();
    (Tells(tell), told)
}

/// Waits for what another thread does on its own, with nobody to tell.
#[track_caller]
fn until(what: impl Fn() -> bool) {
    soon(|| {
        while !what() {
            thread::yield_now();
        }
    });
}

const WORKER: Option<&str> = Some("greenroom-offload");

/// Runs `body` in a forked process, on its only thread. To be called where the other threads are parked.
fn in_fork(body: impl FnOnce()) {
    // SAFETY: no lock is held by the other threads.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends a process that hangs.
        unsafe { libc::alarm(60) };
        let ended = catch_unwind(AssertUnwindSafe(body));
        // SAFETY: ends the process here, without what the test harness has at its exit.
        unsafe { libc::_exit(i32::from(ended.is_err())) };
    }
    let mut status = 0;
    // SAFETY: the status is alive for the call.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the forked process failed");
}

// Values and panics

#[test]
fn a_value_comes_back_from_a_native_thread() {
    check(|| {
        let here = thread::current().id();
        let (there, name) = offload(|| (thread::current().id(), thread::current().name().map(String::from)));
        assert_ne!(there, here);
        assert_eq!(name.as_deref(), WORKER);
        let task = spawn(|| offload(|| vec![1, 2, 3]));
        assert_eq!(task.join().unwrap(), [1, 2, 3]);
        let pool = ThreadPool::new(2);
        assert_eq!(pool.apply(|| "applied"), "applied");
        assert_eq!(pool.spawn(|| "spawned").join().unwrap(), "spawned");
        assert_eq!(pool.map(0..100, |n| n * 2), (0..200).step_by(2).collect::<Vec<_>>());
        assert_eq!(pool.map([0; 0], |n| n), []);
    });
}

#[test]
fn a_panic_goes_on_in_the_caller_with_its_payload() {
    check(|| {
        let payload = catch_unwind(|| offload(|| resume_unwind(Box::new(7_u8)) as ())).unwrap_err();
        assert_eq!(*payload.downcast::<u8>().unwrap(), 7);
        let task = spawn(|| offload(|| fail::<()>("in the job")));
        assert_eq!(task.join().unwrap_err().message(), Some("in the job"));

        let pool = ThreadPool::new(1);
        assert_eq!(panic_of(|| pool.apply(|| fail::<()>("applied"))), "applied");
        let error = pool.spawn(|| fail::<()>("spawned")).join().unwrap_err();
        assert!(error.is_panicked());
        assert_eq!(error.message(), Some("spawned"));
        assert_eq!(panic_of(|| pool.map(0..4, |n| if n % 2 == 1 { fail("odd") } else { n })), "odd");
        pool.join();
        assert_eq!((pool.len(), pool.threads()), (0, 1), "the thread lives");
    });
}

#[test]
fn a_panic_is_reported_once_by_its_thread() {
    let output = in_child("a_panic_is_reported_once_by_its_thread", || {
        let task = spawn(|| offload(|| -> () { panic!("the only report") }));
        assert!(task.join().unwrap_err().is_panicked());
        assert!(catch_unwind(|| offload(|| -> () { panic!("another") })).is_err());
    });
    let Some(output) = output else { return };
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("the only report").count(), 1, "{text}");
    assert_eq!(text.matches("thread 'greenroom-offload'").count(), 2, "{text}");
    assert_eq!(text.matches("panicked at").count(), 2, "{text}");
}

#[test]
fn what_a_job_captured_is_gone_when_its_result_is_there() {
    check(|| {
        let captured = Arc::new(());
        for round in 0..100 {
            let theirs = captured.clone();
            let job = default_pool().spawn(move || {
                if round % 2 == 0 {
                    fail::<()>("holds it");
                }
                drop(theirs);
            });
            assert_eq!(job.join().is_err(), round % 2 == 0);
            assert_eq!(Arc::strong_count(&captured), 1);
        }
    });
}

// The hub goes on

#[test]
fn the_hub_goes_on_while_a_job_blocks() {
    check(|| {
        let (tell, told) = mpsc::channel();
        let turns = Count::default();
        let theirs = turns.clone();
        let ticker = spawn(move || {
            for _ in 0..1000 {
                yield_now();
                theirs.up();
            }
            sleep(MS);
            tell.send(()).unwrap();
        });
        // Ends only if the ticker runs meanwhile.
        offload(move || told.recv().unwrap());
        assert_eq!(turns.get(), 1000);
        ticker.join().unwrap();
    });
}

#[test]
fn a_thousand_tasks_share_four_threads() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    check(|| {
        let pool = ThreadPool::new(4);
        let tasks: Vec<_> = (0..1000)
            .map(|n| {
                let pool = pool.clone();
                spawn(move || {
                    pool.apply(move || {
                        let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
                        MOST.fetch_max(running, Ordering::SeqCst);
                        thread::yield_now();
                        RUNNING.fetch_sub(1, Ordering::SeqCst);
                        n
                    })
                })
            })
            .collect();
        let values: Vec<usize> = joinall(tasks).into_iter().map(Result::unwrap).collect();
        assert_eq!(values, (0..1000).collect::<Vec<_>>());
        assert!(MOST.load(Ordering::SeqCst) <= 4);
        assert!(pool.threads() <= 4);
        assert_eq!((pool.len(), pool.queued(), pool.is_empty()), (0, 0, true));
    });
}

#[test]
fn jobs_begin_in_the_order_in_which_they_came() {
    check(|| {
        let pool = ThreadPool::new(1);
        let log = Arc::new(Mutex::new(Vec::new()));
        for n in 0..100 {
            let log = log.clone();
            drop(pool.spawn(move || log.lock().unwrap().push(n)));
        }
        pool.join();
        assert_eq!(*log.lock().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn several_hubs_and_plain_threads_use_one_pool() {
    check(|| {
        let pool = ThreadPool::new(3);
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let pool = pool.clone();
                thread::spawn(move || {
                    // Half of them without a task, from a thread that never had a hub.
                    if thread % 2 == 0 {
                        return (0..100).map(|n| pool.apply(move || n)).sum::<usize>();
                    }
                    let tasks = (0..100).map(|n| {
                        let pool = pool.clone();
                        spawn(move || pool.apply(move || n))
                    });
                    joinall(tasks).into_iter().map(Result::unwrap).sum()
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 4950);
        }
        pool.join();
        assert!(pool.is_empty());
    });
}

#[test]
fn a_handle_is_joined_on_any_thread() {
    check(|| {
        let gate = Gate::default();
        let pool = ThreadPool::new(2);
        let (first, second) = (pool.spawn(gate.job()), pool.spawn(|| 5));
        let joins = thread::spawn(move || (first.join().unwrap(), second.join().unwrap()));
        gate.open();
        assert_eq!(joins.join().unwrap(), ((), 5));
    });
}

// Callers that go

#[test]
fn a_killed_caller_leaves_a_job_that_was_begun_to_its_end() {
    check(|| {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let (result, told) = tells();
        let caller = spawn({
            let (pool, gate) = (pool.clone(), gate.clone());
            move || {
                pool.apply(move || {
                    gate.pass();
                    result
                });
            }
        });
        yield_now();
        gate.wait_for(1);
        caller.kill();
        assert!(caller.join().unwrap_err().is_killed());
        assert_eq!(pool.len(), 1, "the job runs");
        assert!(told.try_recv().is_err());
        gate.open();
        assert_eq!(told.recv().unwrap().as_deref(), WORKER, "its result is dropped there");
        pool.join();
        assert!(pool.is_empty());
    });
}

#[test]
fn a_job_that_was_not_begun_goes_with_its_caller() {
    check(|| {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let busy = pool.spawn(gate.job());
        gate.wait_for(1);
        let ran = Arc::new(AtomicUsize::new(0));
        let caller = |limit: Option<Duration>| {
            let (pool, ran) = (pool.clone(), ran.clone());
            move || {
                let job = move || {
                    ran.fetch_add(1, Ordering::SeqCst);
                };
                match limit {
                    None => pool.apply(job),
                    Some(limit) => assert!(timeout(limit, || pool.apply(job)).is_err()),
                }
            }
        };
        let (killed, stays) = (spawn(caller(None)), spawn(caller(None)));
        let timed = spawn(caller(Some(MS)));
        let mapped = pool.clone();
        let maps = spawn(move || mapped.map(0..10, |_| unreachable!("never begun") as ()));
        yield_now();
        assert_eq!(pool.queued(), 13);

        killed.kill();
        maps.kill();
        timed.join().unwrap();
        assert_eq!(pool.queued(), 1, "the others are gone at once");
        assert_eq!(Arc::strong_count(&ran), 2, "and what they captured");
        gate.open();
        stays.join().unwrap();
        busy.join().unwrap();
        pool.join();
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_killed_joiner_and_a_dropped_handle_detach() {
    check(|| {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let done = Arc::new(AtomicUsize::new(0));
        let job = || {
            let done = done.clone();
            pool.spawn(move || done.fetch_add(1, Ordering::SeqCst))
        };
        let busy = pool.spawn(gate.job());
        gate.wait_for(1);
        drop(job());
        let joined = job();
        let joiner = spawn(move || joined.join());
        yield_now();
        joiner.kill();
        assert_eq!(pool.queued(), 2, "both run all the same");
        gate.open();
        busy.join().unwrap();
        pool.join();
        assert_eq!(done.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_kill_that_meets_the_result_loses_and_doubles_nothing() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Piece;
    impl Piece {
        fn new() -> Piece {
            MADE.fetch_add(1, Ordering::SeqCst);
            Piece
        }
    }
    impl Drop for Piece {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }
    check(|| {
        let pool = ThreadPool::new(2);
        for round in 0..300 {
            let captured = Piece::new();
            let theirs = pool.clone();
            let caller = spawn(move || {
                drop(theirs.apply(move || {
                    let _captured = captured;
                    Piece::new()
                }));
            });
            for _ in 0..round % 30 {
                yield_now();
            }
            if round % 3 == 0 {
                idle();
            }
            caller.kill();
        }
        pool.join();
        pool.shutdown();
        until(|| pool.threads() == 0);
        assert_eq!(DROPPED.load(Ordering::SeqCst), MADE.load(Ordering::SeqCst));
        assert!(pool.is_empty());
    });
}

#[test]
fn a_caller_may_wait_in_a_shield_and_in_the_midst_of_an_unwind() {
    check(|| {
        struct Offloads(mpsc::Sender<i32>);
        impl Drop for Offloads {
            fn drop(&mut self) {
                self.0.send(offload(|| 2)).unwrap();
            }
        }
        let (tell, told) = mpsc::channel();
        let gate = Gate::default();
        let pool = ThreadPool::new(1);
        let task = spawn({
            let (gate, pool) = (gate.clone(), pool.clone());
            move || {
                let _offloads = Offloads(tell.clone());
                shield(|| pool.apply(move || gate.pass()));
                tell.send(1).unwrap();
                park();
            }
        });
        yield_now();
        gate.wait_for(1);
        task.kill_nowait();
        gate.open();
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2]);
    });
}

#[test]
fn join_timeout_gives_the_handle_back_until_the_job_is_done() {
    check(|| {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let job = pool.spawn({
            let gate = gate.clone();
            move || {
                gate.pass();
                3
            }
        });
        assert!(!job.is_finished());
        let job = job.join_timeout(Duration::ZERO).unwrap_err();
        let job = job.join_timeout(2 * MS).unwrap_err();
        let outer = timeout(2 * MS, || pool.spawn(|| ()).join_timeout(EVER));
        assert!(outer.is_err(), "an outer timeout is not lost");
        gate.open();
        let value = soon(|| job.join_timeout(Duration::MAX)).unwrap();
        assert_eq!(value.unwrap(), 3);
        let done = pool.spawn(|| 4);
        pool.join();
        assert!(done.is_finished());
        assert_eq!(done.join_timeout(Duration::ZERO).unwrap().unwrap(), 4);
    });
}

#[test]
fn a_job_is_cancelled_only_before_it_begins() {
    check(|| {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let begun = pool.spawn(gate.job());
        gate.wait_for(1);
        let (captured, told) = tells();
        let queued = pool.spawn(move || drop(captured));
        assert!(!begun.cancel());
        assert!(queued.cancel());
        assert_ne!(told.try_recv().expect("dropped at once").as_deref(), WORKER);
        assert!(!queued.cancel());
        assert!(queued.is_finished());
        assert_eq!(pool.len(), 1);
        assert!(queued.join().unwrap_err().is_killed());
        gate.open();
        begun.join().unwrap();
        let done = pool.spawn(|| 1);
        pool.join();
        assert!(!done.cancel());
        assert_eq!(done.join().unwrap(), 1);
    });
}

// Sizes

#[test]
fn a_pool_grows_at_once_and_shrinks_as_threads_get_idle() {
    check(|| {
        let pool = ThreadPool::new(2);
        assert_eq!((pool.size(), pool.threads(), pool.len()), (2, 0, 0));
        let gate = Gate::default();
        let jobs: Vec<_> = (0..6).map(|_| pool.spawn(gate.job())).collect();
        gate.wait_for(2);
        assert_eq!((pool.threads(), pool.len(), pool.queued()), (2, 6, 4));

        pool.set_size(5);
        assert_eq!(pool.threads(), 5, "they are started at once");
        gate.wait_for(5);
        assert_eq!((pool.size(), pool.len(), pool.queued()), (5, 6, 1));

        pool.set_size(1);
        assert_eq!((pool.size(), pool.threads(), pool.len()), (1, 5, 6), "nobody is interrupted");
        gate.open();
        for job in jobs {
            job.join().unwrap();
        }
        assert!(pool.is_empty());
        until(|| pool.threads() == 1);

        pool.set_size(3);
        assert_eq!(pool.threads(), 1, "without jobs none is missing");
        let all = Arc::new(Barrier::new(3));
        let meet = all.clone();
        pool.map(0..3, move |_| meet.wait().is_leader());
        assert_eq!(pool.threads(), 3);
        // Idle ones leave too.
        pool.set_size(1);
        until(|| pool.threads() == 1);
        assert_eq!(pool.apply(|| 1), 1);
    });
}

#[test]
fn a_pool_of_no_threads_is_refused() {
    check(|| {
        assert!(panic_of(|| ThreadPool::new(0)).contains("no threads"));
        let pool = ThreadPool::new(1);
        assert!(panic_of(|| pool.set_size(0)).contains("no threads"));
        assert_eq!((pool.size(), pool.apply(|| 1)), (1, 1));
        assert!(format!("{pool:?}").contains("size: 1"));
    });
}

#[test]
fn join_waits_for_all_jobs_and_parks_only_its_caller() {
    check(|| {
        let pool = ThreadPool::new(2);
        pool.join();
        assert!(pool.join_timeout(Duration::ZERO));
        let gate = Gate::default();
        let jobs: Vec<_> = (0..5).map(|_| pool.spawn(gate.job())).collect();
        assert!(!pool.join_timeout(Duration::ZERO));
        assert!(!pool.join_timeout(MS));
        let waits = || {
            let pool = pool.clone();
            spawn(move || pool.join())
        };
        let (first, second, killed) = (waits(), waits(), waits());
        let elsewhere = thread::spawn({
            let pool = pool.clone();
            move || pool.join()
        });
        yield_now();
        killed.kill();
        assert!(!first.is_finished() && !second.is_finished());
        gate.open();
        first.join().unwrap();
        second.join().unwrap();
        elsewhere.join().unwrap();
        assert!(jobs.iter().all(OffloadHandle::is_finished));
        let inside = pool.clone();
        assert!(panic_of(|| pool.apply(move || inside.join())).contains("its own pool"));
    });
}

#[test]
fn a_pool_that_was_shut_down_does_what_it_has_and_no_more() {
    check(|| {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let (busy, queued) = (pool.spawn(gate.job()), pool.spawn(|| 2));
        pool.shutdown();
        pool.shutdown();
        let (captured, told) = tells();
        let late = pool.spawn(move || drop(captured));
        assert!(told.try_recv().is_ok() && late.is_finished());
        assert!(late.join().unwrap_err().is_killed());
        // A call gives its value all the same.
        let here = thread::current().id();
        assert_eq!(pool.apply(|| thread::current().id()), here);
        assert_eq!(pool.map(0..3, |n| n), [0, 1, 2]);
        assert_eq!(panic_of(|| pool.apply(|| fail::<()>("here"))), "here");
        gate.open();
        busy.join().unwrap();
        assert_eq!(queued.join().unwrap(), 2);
        until(|| pool.threads() == 0);
        assert!(pool.is_empty());
    });
}

#[test]
fn a_call_that_runs_right_there_can_be_killed() {
    check(|| {
        let pool = ThreadPool::new(1);
        pool.shutdown();
        let task = spawn({
            let pool = pool.clone();
            move || pool.apply(park)
        });
        yield_now();
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
        assert!(timeout(MS, || pool.map([1], |_| park())).is_err());
        assert!(pool.is_empty());
    });
}

#[test]
fn jobs_of_a_dropped_pool_still_run() {
    check(|| {
        let gate = Gate::default();
        let pool = ThreadPool::new(1);
        let other = pool.clone();
        let busy = pool.spawn(gate.job());
        let queued = pool.spawn(|| 1);
        drop(pool);
        let later = other.spawn(|| 2);
        // Does not wait.
        drop(other);
        gate.open();
        assert_eq!((busy.join().unwrap(), queued.join().unwrap(), later.join().unwrap()), ((), 1, 2));

        // The last handle goes inside a job.
        let pool = ThreadPool::new(1);
        let theirs = pool.clone();
        let gate = Gate::default();
        let held = gate.clone();
        let job = pool.spawn(move || {
            held.pass();
            drop(theirs);
            3
        });
        drop(pool);
        gate.open();
        assert_eq!(job.join().unwrap(), 3);
    });
}

#[test]
fn destructors_that_panic_harm_no_thread_and_no_count() {
    struct Bomb(u32);
    impl Drop for Bomb {
        fn drop(&mut self) {
            match self.0 {
                0 => fail("a destructor"),
                // A payload whose destructor panics in its turn.
                depth => resume_unwind(Box::new(Bomb(depth - 1))),
            }
        }
    }
    check(|| {
        let pool = ThreadPool::new(2);
        for depth in 0..4 {
            let gate = Gate::default();
            let held = gate.clone();
            // The result, whose handle is gone.
            drop(pool.spawn(move || {
                held.pass();
                Bomb(depth)
            }));
            let held = gate.clone();
            // The payload, likewise.
            drop(pool.spawn(move || {
                held.pass();
                resume_unwind(Box::new(Bomb(depth)));
            }));
            gate.wait_for(2);
            // What one has captured that is never run.
            let bomb = Bomb(depth);
            let never = pool.spawn(move || drop(bomb));
            assert!(never.cancel());
            let bomb = Bomb(depth);
            let theirs = pool.clone();
            let caller = spawn(move || theirs.apply(move || drop(bomb)));
            yield_now();
            caller.kill();
            gate.open();
            pool.join();
            assert_eq!((pool.len(), pool.threads()), (0, 2));

            let all = Arc::new(Barrier::new(2));
            assert_eq!(
                pool.map([all.clone(), all], |all| all.wait().is_leader()).iter().filter(|lead| **lead).count(),
                1
            );
        }
    });
}

// Jobs in jobs

#[test]
fn calls_inside_a_job_of_the_same_pool_run_right_there() {
    check(|| {
        let pool = ThreadPool::new(1);
        let theirs = pool.clone();
        let (outer, applied, mapped) = soon(|| {
            pool.apply(move || {
                let id = || thread::current().id();
                (id(), theirs.apply(id), theirs.map([0, 1], move |_| id()))
            })
        });
        assert_eq!(applied, outer);
        assert_eq!(mapped, [outer, outer]);

        // As many as there are threads, and each waits for another: none is left to wait for.
        let all = Arc::new(Barrier::new(16));
        let tasks = (0..16).map(|n| {
            let all = all.clone();
            spawn(move || {
                offload(move || {
                    all.wait();
                    offload(move || offload(move || n))
                })
            })
        });
        default_pool().set_size(64);
        let values: Vec<usize> = soon(|| joinall(tasks)).into_iter().map(Result::unwrap).collect();
        assert_eq!(values, (0..16).collect::<Vec<_>>());
    });
}

#[test]
fn a_job_that_joins_jobs_of_its_own_pool_runs_those_that_nobody_has_begun() {
    fn fib(pool: &ThreadPool, n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let theirs = pool.clone();
        let job = pool.spawn(move || fib(&theirs, n - 1));
        let other = fib(pool, n - 2);
        job.join().unwrap() + other
    }
    check(|| {
        for size in 1..4 {
            let pool = ThreadPool::new(size);
            let theirs = pool.clone();
            assert_eq!(soon(|| pool.apply(move || fib(&theirs, 12))), 144);
            // A panic, and a handle that only waits.
            let theirs = pool.clone();
            let error = pool.spawn(move || theirs.spawn(|| fail::<()>("inner")).join().unwrap_err());
            assert_eq!(error.join().unwrap().message(), Some("inner"));
            pool.join();
            assert!(pool.is_empty() && pool.threads() <= size);
        }
        let pool = ThreadPool::new(1);
        let theirs = pool.clone();
        let outer = pool.spawn(move || {
            let inner = theirs.spawn(|| 1);
            inner.join_timeout(2 * MS).unwrap_err()
        });
        assert_eq!(outer.join().unwrap().join().unwrap(), 1);
    });
}

#[test]
fn a_job_that_runs_in_its_joiner_lets_a_kill_through() {
    check(|| {
        let pool = ThreadPool::new(1);
        let theirs = pool.clone();
        let ended = pool.apply(move || {
            let task = spawn(move || {
                let job = theirs.spawn(park);
                drop(job.join());
                unreachable!("the kill goes on");
            });
            yield_now();
            task.kill();
            task.join()
        });
        assert!(ended.unwrap_err().is_killed());
        pool.join();
        assert!(pool.is_empty());
    });
}

#[test]
fn a_job_has_tasks_of_its_own_and_leaves_none() {
    greenroom::task_local! {
        static MARK: RefCell<Option<Tells>> = RefCell::new(None);
    }
    check(|| {
        let pool = ThreadPool::new(1);
        let (task, task_told) = tells();
        let (local, local_told) = tells();
        let sum = pool.spawn(move || {
            MARK.with(|mark| mark.replace(Some(local)));
            drop(spawn(move || {
                let _task = task;
                park();
            }));
            let inner = spawn(|| {
                sleep(MS);
                20
            });
            // A saved unpark.
            current().unpark();
            inner.join().unwrap() + 1
        });
        assert_eq!(sum.join().unwrap(), 21);
        assert_eq!(task_told.try_recv().expect("gone before the result is there").as_deref(), WORKER);
        assert_eq!(local_told.try_recv().expect("likewise").as_deref(), WORKER);
        let next =
            pool.apply(|| (greenroom::testing::live_tasks(), MARK.with(RefCell::take).is_some(), park_timeout(MS)));
        assert_eq!(next, (0, false, false));

        // And one that cannot be made to end is a deadlock of the job's thread, which goes on.
        let error = pool.spawn(|| spawn(park).join()).join().unwrap_err();
        assert!(error.message().unwrap().starts_with("deadlock"), "{error}");
        drop(pool.spawn(|| {
            drop(spawn(|| shield(park)));
            yield_now();
        }));
        assert_eq!(pool.apply(|| 1), 1);
    });
}

// Rule 7

#[test]
fn rule_07_whoever_waits_for_a_job_is_not_deadlocked() {
    check(|| {
        let pool = ThreadPool::new(1);
        for _ in 0..50 {
            let idle_hub = HubHandle::current();
            let job = move || {
                // Once this is back the hub has nothing left, and sleeps or is about to.
                idle_hub.spawn(|| ()).join().unwrap();
                drop(idle_hub);
                thread::yield_now();
            };
            match pool.threads() {
                0 => offload(job),
                _ => pool.spawn(job).join().unwrap(),
            }
            let theirs = pool.clone();
            spawn(move || theirs.apply(thread::yield_now)).join().unwrap();
            drop(pool.spawn(thread::yield_now));
            pool.join();
        }
    });
}

#[test]
fn rule_07_an_idle_pool_hides_no_deadlock_and_neither_does_a_job_nobody_waits_for() {
    check(|| {
        let pool = ThreadPool::new(2);
        offload(|| ());
        pool.apply(|| ());
        let theirs = pool.clone();
        let killed = spawn(move || theirs.apply(|| ()));
        yield_now();
        killed.kill();
        assert!(pool.threads() > 0);
        let report = soon(|| panic_of(park));
        assert!(report.starts_with("deadlock"), "{report}");

        let gate = Gate::default();
        let held = pool.spawn(gate.job());
        gate.wait_for(1);
        let report = soon(|| panic_of(park));
        assert!(report.starts_with("deadlock"), "{report}");
        let held = held.join_timeout(MS).unwrap_err();
        let report = soon(|| panic_of(park));
        assert!(report.starts_with("deadlock"), "{report}");
        gate.open();
        held.join().unwrap();
    });
}

#[test]
fn rule_07_a_deadlock_is_reported_once_the_job_is_done() {
    check(|| {
        let pool = ThreadPool::new(1);
        for _ in 0..50 {
            let theirs = pool.clone();
            let gate = Gate::default();
            let job = gate.job();
            drop(spawn(move || theirs.apply(job)));
            yield_now();
            let done = Arc::new(AtomicBool::new(false));
            let mark = done.clone();
            let opens = thread::spawn(move || {
                mark.store(true, Ordering::SeqCst);
                gate.open();
            });
            assert!(panic_of(park).starts_with("deadlock"));
            assert!(done.load(Ordering::SeqCst), "not before the job could wake anybody");
            opens.join().unwrap();
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn rule_07_idle_threads_unlock_nothing_and_busy_ones_may() {
    let output = in_child("rule_07_idle_threads_unlock_nothing_and_busy_ones_may", || {
        // The only thread of a process, which a thread of the test harness is not.
        in_fork(|| {
            let pool = ThreadPool::new(2);
            let mutex = Arc::new(greenroom::sync::Mutex::new(()));
            for round in 0..2000 {
                let (tell, told) = mpsc::channel();
                let theirs = mutex.clone();
                // Nobody waits for it, and when it has unlocked the mutex its thread is idle.
                drop(pool.spawn(move || {
                    let guard = theirs.lock().unwrap();
                    tell.send(()).unwrap();
                    for _ in 0..round % 50 {
                        thread::yield_now();
                    }
                    drop(guard);
                }));
                told.recv().unwrap();
                drop(mutex.lock().unwrap());
            }
            pool.map([(); 2], |()| ());
            let _for_ever = std::mem::ManuallyDrop::new(mutex.lock().unwrap());
            let report = soon(|| panic_of(|| drop(mutex.lock())));
            assert!(report.starts_with("deadlock"), "{report}");
        });
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", stderr(&output));
}

// Where nothing can park

#[test]
fn where_nothing_can_park_the_job_runs_right_there() {
    type Report = (bool, bool, Result<u8, JoinError>);
    struct AtEnd(RefCell<Option<mpsc::Sender<Report>>>);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            let Some(tell) = self.0.take() else { return };
            let (here, pool) = (thread::current().id(), ThreadPool::new(1));
            let gate = Gate::default();
            drop(pool.spawn(gate.job()));
            let queued = pool.spawn(|| 9).join();
            gate.open();
            let offloaded = offload(move || thread::current().id() == here);
            let applied = pool.apply(move || thread::current().id() == here);
            tell.send((offloaded, applied, queued)).unwrap();
        }
    }
    thread_local! {
        static AT_END: AtEnd = const { AtEnd(RefCell::new(None)) };
    }
    check(|| {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            AT_END.with(|end| end.0.replace(Some(tell)));
            // A hub that ends before the local does.
            spawn(|| ()).join().unwrap();
        })
        .join()
        .unwrap();
        let (offloaded, applied, queued) = told.recv().unwrap();
        assert!(offloaded && applied);
        assert_eq!(queued.unwrap(), 9);
    });
}

#[test]
fn inside_the_panic_hook_the_job_runs_right_there() {
    let output = in_child("inside_the_panic_hook_the_job_runs_right_there", || {
        std::panic::set_hook(Box::new(|_| {
            let here = thread::current().id();
            eprintln!("{}", if offload(move || thread::current().id() == here) { "in the hook" } else { "elsewhere" });
        }));
        let task = spawn(|| -> () { panic!("calls the hook") });
        assert!(task.join().is_err());
    });
    let Some(output) = output else { return };
    assert!(output.status.success() && stderr(&output).contains("in the hook"), "{}", stderr(&output));
}

// A system that gives no thread

#[test]
#[cfg(target_os = "linux")]
fn without_a_thread_calls_run_right_there_and_jobs_are_an_error() {
    fn limit(bytes: libc::rlim_t) {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the limit is alive for the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    }
    let output = in_child("without_a_thread_calls_run_right_there_and_jobs_are_an_error", || {
        let pool = ThreadPool::new(2);
        // A hub, and stacks in stock.
        spawn(|| ()).join().unwrap();
        let pages: u64 =
            std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
        // Room for small things, and not for a thread's stack of 2 MiB.
        limit(pages * 4096 + (1 << 20));

        let captured = Arc::new(());
        let theirs = captured.clone();
        assert!(pool.try_spawn(move || drop(theirs)).is_err());
        assert_eq!(Arc::strong_count(&captured), 1);
        assert!(panic_of(|| pool.spawn(|| ())).contains("no native thread"));
        assert_eq!((pool.len(), pool.threads()), (0, 0));
        let here = thread::current().id();
        assert_eq!(pool.apply(|| thread::current().id()), here);
        assert_eq!(offload(|| thread::current().id()), here);
        assert_eq!(spawn(move || pool.map([1, 2], |n| n)).join().unwrap(), [1, 2]);

        limit(libc::RLIM_INFINITY);
        let pool = ThreadPool::new(2);
        let gate = Gate::default();
        let first = pool.spawn(gate.job());
        gate.wait_for(1);
        let pages: u64 =
            std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
        limit(pages * 4096 + (1 << 20));
        // With one thread at work the job merely waits longer.
        let second = pool.spawn(|| 2);
        pool.set_size(4);
        assert_eq!((pool.threads(), pool.queued()), (1, 1));
        gate.open();
        assert_eq!((first.join().unwrap(), second.join().unwrap()), ((), 2));
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", stderr(&output));
}

// fork

#[test]
fn rule_25_a_forked_child_has_threads_of_its_own() {
    let output = in_child("rule_25_a_forked_child_has_threads_of_its_own", || {
        let pool = ThreadPool::new(1);
        let gate = Gate::default();
        let busy = pool.spawn(gate.job());
        gate.wait_for(1);
        let (captured, told) = tells();
        let queued = pool.spawn(move || drop(captured));

        let handles = Cell::new(Some((busy, queued)));
        in_fork(|| {
            let (busy, queued) = handles.take().unwrap();
            assert_eq!((pool.len(), pool.threads()), (0, 0));
            assert!(!queued.cancel());
            assert!(queued.join().unwrap_err().is_killed());
            assert!(soon(|| busy.join_timeout(EVER)).unwrap().unwrap_err().is_killed());
            assert!(told.try_recv().is_err(), "what the parent's jobs have is the parent's");
            pool.join();
            // A thread of this process, with a hub that the parent's has nothing to do with.
            let (pool, job) = (pool.clone(), pool.spawn(|| 3));
            let works = thread::spawn(move || (pool.apply(|| 1), offload(|| 2), job.join().unwrap()));
            assert_eq!(works.join().unwrap(), (1, 2, 3));
        });
        let (busy, queued) = handles.take().unwrap();
        gate.open();
        busy.join().unwrap();
        queued.join().unwrap();
        assert!(told.try_recv().is_ok());
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn jobs_can_be_waited_for_among_others() {
    check(|| {
        let pool = ThreadPool::new(2);
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let slow = pool.spawn(move || gate.recv().is_ok());
        let quick = pool.spawn(|| true);
        let handles = [slow, quick];
        let first: Vec<bool> =
            greenroom::wait(&handles, None, Some(1)).iter().map(|handle| handle.is_finished()).collect();
        assert_eq!(first, [true]);
        assert!(!handles[0].is_finished());
        go.send(()).unwrap();
        assert_eq!(greenroom::wait(&handles, None, None).len(), 2);
        assert!(handles.map(|handle| handle.join().unwrap()).iter().all(|done| *done));
    });
}
