//! Groups and pools: slots that come back whatever happens, order, bounds, and errors at their places.

mod common;

use std::cell::{Cell, RefCell};
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use common::{Count, EVER, Log, MS, OnDrop, check, fail, in_child, panic_of, soon, stderr};
use fastrand::Rng;
use greenroom::pool::{Group, Pool, PoolFull};
use greenroom::{
    Builder, JoinHandle, current, idle, joinall, park, scope, shield, sleep, spawn, spawn_later, timeout, yield_now,
};

/// How many are inside, and how many were at most.
#[derive(Clone, Default)]
struct Gauge(Rc<(Cell<usize>, Cell<usize>)>);

impl Gauge {
    fn enter(&self) -> Inside {
        self.0.0.set(self.0.0.get() + 1);
        self.0.1.set(self.0.1.get().max(self.0.0.get()));
        Inside(self.clone())
    }

    fn now(&self) -> usize {
        self.0.0.get()
    }

    fn most(&self) -> usize {
        self.0.1.get()
    }
}

struct Inside(Gauge);

impl Drop for Inside {
    fn drop(&mut self) {
        let inside = &self.0.0.0;
        inside.set(inside.get() - 1);
    }
}

#[track_caller]
fn assert_free(pool: &Pool) {
    assert_eq!((pool.free_count(), pool.len()), (pool.size(), 0));
}

/// A pool with all its slots taken by tasks that park.
fn full(size: usize) -> (Pool, Vec<JoinHandle<()>>) {
    let pool = Pool::new(size);
    let tasks = (0..size).map(|_| pool.spawn(park)).collect();
    (pool, tasks)
}

// Groups

#[test]
fn a_group_forgets_a_task_that_ended_whatever_way() {
    check(|| {
        let group = Group::new();
        assert!(group.is_empty());
        let returns = group.spawn(|| 7);
        let panics = group.spawn(|| fail::<()>("contained"));
        let killed = group.spawn(park);
        let unborn = group.spawn(park);
        unborn.kill_nowait();
        let (stays, late) = (group.spawn(park), Builder::new().spawn(park).unwrap());
        assert!(group.contains(&stays) && !group.contains(&late) && !group.contains(current()));
        group.add(&late);
        group.add(late.task());
        assert_eq!(group.len(), 6);

        assert_eq!(returns.join().unwrap(), 7);
        assert!(panics.join().is_err());
        killed.kill();
        assert!(!group.contains(&killed) && !group.contains(&unborn));
        let left: Vec<_> = group.iter().map(|task| task.id()).collect();
        assert_eq!(left, [stays.task().id(), late.task().id()]);
        group.add(&killed);
        assert_eq!(group.len(), 2, "one that has ended is not taken in");

        assert!(group.discard(&late) && !group.discard(&late));
        group.kill();
        assert!(stays.is_finished() && !late.is_finished() && group.is_empty());
        late.kill();
    });
}

#[test]
fn a_dropped_group_leaves_its_tasks_running() {
    check(|| {
        let done = Count::default();
        let group = Group::new();
        for _ in 0..3 {
            let done = done.clone();
            group.spawn(move || {
                yield_now();
                done.up();
            });
        }
        drop(group);
        idle();
        assert_eq!(done.get(), 3);
    });
}

#[test]
fn a_groups_join_waits_for_those_that_come_in_meanwhile() {
    check(|| {
        let (group, done) = (Group::new(), Count::default());
        let (inner, count) = (group.clone(), done.clone());
        group.spawn(move || {
            yield_now();
            inner.spawn(move || {
                yield_now();
                count.up();
            });
        });
        group.join();
        assert_eq!(done.get(), 1);
        group.join();
        let sleeper = group.spawn(park);
        assert!(!group.join_timeout(Duration::ZERO) && !group.join_timeout(MS));
        group.discard(&sleeper);
        assert!(group.join_timeout(EVER));
        sleeper.kill();
    });
}

#[test]
fn a_groups_join_ends_when_its_last_task_is_discarded() {
    check(|| {
        let group = Group::new();
        let stays = group.spawn(park);
        let theirs = group.clone();
        let waiter = spawn(move || theirs.join());
        yield_now();
        group.discard(&stays);
        waiter.join().unwrap();
        assert!(!stays.is_finished());
        stays.kill();
    });
}

#[test]
fn a_member_joins_the_others_and_kills_itself_last() {
    check(|| {
        let (group, log) = (Group::new(), Log::default());
        let (inner, end) = (group.clone(), OnDrop(log.clone(), "other"));
        group.spawn(move || {
            let _end = end;
            yield_now();
        });
        let joined = log.clone();
        group.spawn(move || {
            inner.join();
            joined.add("joined");
        });
        group.join();
        assert_eq!(log.take(), ["other", "joined"]);

        for name in ["first", "second"] {
            let end = OnDrop(log.clone(), name);
            group.spawn(move || {
                let _end = end;
                park();
            });
        }
        let (inner, end) = (group.clone(), OnDrop(log.clone(), "itself"));
        let killer = group.spawn(move || {
            let _end = end;
            inner.kill();
            unreachable!("it is killed too");
        });
        assert!(killer.join().unwrap_err().is_killed());
        assert_eq!(log.take(), ["first", "second", "itself"]);
    });
}

#[test]
fn a_groups_kill_ends_those_that_are_spawned_by_the_dying() {
    check(|| {
        let (group, log) = (Group::new(), Log::default());
        struct Successor(Group, Log);
        impl Drop for Successor {
            fn drop(&mut self) {
                let end = OnDrop(self.1.clone(), "successor");
                let parent = current();
                self.0.spawn(move || {
                    let _end = end;
                    drop(parent);
                    park();
                });
            }
        }
        let successor = Successor(group.clone(), log.clone());
        group.spawn(move || {
            let _successor = successor;
            park();
        });
        yield_now();
        group.kill();
        assert!(group.is_empty());
        assert_eq!(log.take(), ["successor"]);
    });
}

#[test]
fn a_groups_kill_timeout_says_whether_all_have_ended() {
    check(|| {
        let group = Group::new();
        let stubborn = group.spawn(|| shield(park));
        group.spawn(park);
        yield_now();
        assert!(!group.kill_timeout(MS));
        assert_eq!(group.len(), 1);
        stubborn.task().unpark();
        assert!(group.kill_timeout(EVER));
        group.spawn(park);
        group.kill_nowait();
        assert_eq!(group.len(), 1);
        group.join();
    });
}

#[test]
fn the_root_is_refused() {
    check(|| {
        assert!(panic_of(|| Group::new().add(current())).contains("root"));
        let pool = Pool::new(1);
        assert!(panic_of(|| pool.add(current())).contains("root"));
        assert_free(&pool);
    });
}

#[test]
fn a_killed_joiner_leaves_no_trace() {
    check(|| {
        let group = Group::new();
        let member = group.spawn(park);
        let theirs = group.clone();
        let joiner = spawn(move || theirs.join());
        yield_now();
        joiner.kill();
        assert!(timeout(MS, || group.join()).is_err());
        member.task().unpark();
        group.join();
    });
}

// Slots

#[test]
fn a_slot_comes_back_once_whatever_becomes_of_its_task() {
    check(|| {
        let pool = Pool::new(3);
        pool.spawn(|| ()).join().unwrap();
        assert_free(&pool);
        assert!(pool.spawn(|| fail::<()>("contained")).join().is_err());
        assert_free(&pool);
        let killed = pool.spawn(park);
        yield_now();
        assert_eq!((pool.free_count(), pool.len(), pool.is_full()), (2, 1, false));
        killed.kill();
        assert_free(&pool);
        let unborn = pool.spawn(park);
        unborn.kill_nowait();
        assert_eq!(pool.free_count(), 2, "until it has ended");
        unborn.kill();
        assert_free(&pool);
        drop(pool.spawn(yield_now));
        pool.join();
        assert_free(&pool);
        let discarded = pool.spawn(park);
        assert!(pool.discard(&discarded));
        assert_free(&pool);
        discarded.kill();
        assert_free(&pool);
    });
}

#[test]
fn a_slot_is_free_only_when_the_tasks_locals_are_dropped_and_its_joiners_see_that() {
    struct Slow(Log);
    impl Drop for Slow {
        fn drop(&mut self) {
            yield_now();
            self.0.add("dropped");
        }
    }
    greenroom::task_local! {
        static SLOW: RefCell<Option<Slow>> = RefCell::new(None);
    }
    check(|| {
        let (pool, log) = (Pool::new(1), Log::default());
        let theirs = log.clone();
        pool.spawn(move || SLOW.with(|slow| *slow.borrow_mut() = Some(Slow(theirs))));
        let (theirs, handle) = (log.clone(), pool.spawn(yield_now));
        theirs.add("next");
        handle.join().unwrap();
        assert_free(&pool);
        assert_eq!(log.take(), ["dropped", "next"]);
    });
}

#[test]
fn without_memory_for_a_stack_the_slot_comes_back() {
    let output = in_child("without_memory_for_a_stack_the_slot_comes_back", || {
        let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
        // SAFETY: the limit is alive for the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
        let mut tasks = Vec::new();
        while let Ok(task) = Builder::new().spawn(park) {
            tasks.push(task);
        }
        let pool = Pool::new(2);
        for reason in [
            panic_of(|| pool.spawn(|| ())),
            panic_of(|| pool.try_spawn(|| ())),
            panic_of(|| pool.apply(|| ())),
            panic_of(|| pool.apply_async(|| ())),
            panic_of(|| pool.map([1, 2], |n| n)),
            panic_of(|| pool.imap([1, 2], |n| n).next()),
        ] {
            assert!(reason.contains("RLIMIT_AS"), "{reason}");
            assert_free(&pool);
        }

        // The feeder has the last stack: its panic surfaces in the consumer.
        tasks.pop().unwrap().kill();
        let mut mapped = pool.imap([1, 2], |n| n);
        let reason = panic_of(|| mapped.next());
        assert!(reason.contains("RLIMIT_AS"), "{reason}");
        assert!(mapped.next().is_none());
        assert_free(&pool);
        greenroom::killall(&tasks);
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn those_who_wait_to_spawn_come_in_order_and_nobody_overtakes() {
    check(|| {
        let (pool, holders) = full(2);
        let log = Log::default();
        let spawners: Vec<_> = ["a", "b", "c"]
            .map(|name| {
                let (pool, log) = (pool.clone(), log.clone());
                spawn(move || {
                    log.add(name);
                    let _parked = pool.spawn(park);
                    log.add(name.to_uppercase());
                })
            })
            .into();
        yield_now();
        assert_eq!(log.take(), ["a", "b", "c"]);
        holders[1].kill();
        assert!(pool.try_spawn(|| ()).is_err(), "it was handed over");
        assert!(pool.spawn_timeout(Duration::ZERO, || ()).is_err());
        assert_eq!(log.take(), ["A"]);
        holders[0].kill();
        idle();
        assert_eq!(log.take(), ["B"]);
        pool.kill_nowait();
        joinall(spawners);
        assert_eq!((log.take(), pool.len()), (vec!["C".to_owned()], 1));
        pool.kill();
        assert_free(&pool);
    });
}

#[test]
fn a_spawner_killed_in_line_leaves_no_trace() {
    check(|| {
        let (pool, holders) = full(1);
        let ran = Count::default();
        let spawner = |count: &Count| {
            let (pool, count) = (pool.clone(), count.clone());
            spawn(move || drop(pool.spawn(move || count.up())))
        };
        let never = Count::default();
        let (killed, next) = (spawner(&never), spawner(&ran));
        yield_now();
        killed.kill();
        holders[0].kill();
        next.join().unwrap();
        pool.join();
        assert_eq!((never.get(), ran.get()), (0, 1));
        assert_free(&pool);
    });
}

#[test]
fn a_spawner_killed_after_it_was_handed_a_slot_passes_it_on() {
    check(|| {
        for has_next in [true, false] {
            let (pool, holders) = full(1);
            let (never, ran) = (Count::default(), Count::default());
            let spawner = |count: &Count| {
                let (pool, count) = (pool.clone(), count.clone());
                spawn(move || drop(pool.spawn(move || count.up())))
            };
            let killed = spawner(&never);
            let next = has_next.then(|| spawner(&ran));
            let theirs = pool.clone();
            let joiner = spawn(move || theirs.join());
            yield_now();

            // The holder ends, which hands the slot over; before who has it runs, the killer does.
            holders[0].kill_nowait();
            let (theirs, doomed) = (pool.clone(), killed.task());
            let killer = spawn(move || {
                assert!(theirs.is_full() && theirs.is_empty());
                doomed.kill_nowait();
            });
            joiner.join().unwrap();
            killer.join().unwrap();
            assert!(killed.join().unwrap_err().is_killed());
            assert!(next.is_none_or(|next| next.join().is_ok()));
            assert_eq!((never.get(), ran.get()), (0, u64::from(has_next)));
            assert_free(&pool);
        }
    });
}

#[test]
fn try_spawn_and_spawn_timeout_give_the_closure_back() {
    check(|| {
        let (pool, holders) = full(1);
        let owned = String::from("owned");
        let PoolFull(f) = pool.try_spawn(move || owned).unwrap_err();
        let error = soon(|| pool.spawn_timeout(MS, f).unwrap_err());
        assert_eq!(
            (format!("{error:?}").as_str(), error.to_string().as_str()),
            ("PoolFull { .. }", "no slot of the pool is free")
        );
        let holder = holders[0].task();
        spawn_later(MS, move || holder.kill());
        let handle = soon(|| pool.spawn_timeout(EVER, error.0).unwrap());
        assert_eq!(handle.join().unwrap(), "owned");
        assert_free(&pool);
        let PoolFull(f) = Pool::new(0).try_spawn(|| 1).unwrap_err();
        assert_eq!(pool.try_spawn(f).unwrap().join().unwrap(), 1);
    });
}

#[test]
fn an_outer_timeout_ends_the_wait_for_a_slot_and_leaves_no_trace() {
    check(|| {
        let (pool, holders) = full(1);
        assert!(soon(|| timeout(MS, || pool.spawn_timeout(EVER, || ()))).is_err());
        assert!(soon(|| timeout(MS, || pool.add(&spawn(yield_now)))).is_err());
        assert!(soon(|| timeout(MS, || pool.wait_available())).is_err());
        assert!(soon(|| timeout(MS, || pool.apply(|| ()))).is_err());
        assert!(soon(|| timeout(MS, || pool.map([1], |n| n))).is_err());
        assert!(soon(|| timeout(MS, || pool.imap([1], |n| n).next())).is_err());
        assert!(!pool.wait_available_timeout(MS) && !pool.join_timeout(MS));
        idle();
        holders[0].kill();
        assert_free(&pool);
        assert!(pool.wait_available_timeout(Duration::ZERO));
    });
}

#[test]
fn a_full_pool_that_nothing_can_empty_is_a_deadlock_that_is_told() {
    let output = in_child("a_full_pool_that_nothing_can_empty_is_a_deadlock_that_is_told", || {
        // Another thread lives, which could do nothing about it.
        std::thread::spawn(|| std::thread::sleep(EVER));
        assert!(panic_of(|| Pool::new(0).spawn(|| ())).contains("a slot of a pool"));
        let (pool, _holders) = full(1);
        assert!(panic_of(|| pool.spawn(|| ())).contains("a slot of a pool"));
        assert!(panic_of(|| pool.join()).contains("the end of a group's tasks"));
        assert!(panic_of(|| pool.wait_available()).contains("a free slot of a pool"));
        assert!(panic_of(|| pool.imap([1], |n| n).next()).contains("a result of a pool's tasks"));
        pool.kill();
        assert_free(&pool);
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn add_waits_for_a_slot_and_takes_nothing_for_one_that_has_ended() {
    check(|| {
        let (pool, holders) = full(1);
        let (added, ended) = (spawn(park), spawn(yield_now));
        let adders: Vec<_> = [ended.task(), added.task()]
            .map(|task| {
                let pool = pool.clone();
                spawn(move || pool.add(task))
            })
            .into();
        ended.join().unwrap();
        idle();
        assert!(!adders[1].is_finished());
        holders[0].kill();
        joinall(adders);
        assert!(pool.contains(&added) && pool.is_full());
        pool.add(&added);
        assert_eq!(pool.iter().map(|task| task.id()).collect::<Vec<_>>(), [added.task().id()]);
        added.kill();
        assert_free(&pool);
    });
}

#[test]
fn wait_available_takes_nothing() {
    check(|| {
        let (pool, holders) = full(1);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                spawn(move || pool.wait_available())
            })
            .collect();
        yield_now();
        holders[0].kill();
        assert!(joinall(waiters).iter().all(Result::is_ok));
        assert_free(&pool);
    });
}

#[test]
fn a_larger_size_lets_those_in_line_in_and_a_smaller_one_ends_nobody() {
    check(|| {
        let (pool, holders) = full(2);
        let spawners: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                spawn(move || drop(pool.spawn(park)))
            })
            .collect();
        yield_now();
        pool.set_size(4);
        idle();
        assert_eq!((pool.len(), pool.free_count()), (4, 0));
        pool.set_size(1);
        holders.iter().for_each(JoinHandle::kill);
        idle();
        assert_eq!((pool.len(), pool.is_full(), spawners[2].is_finished()), (2, true, false));
        pool.kill_nowait();
        joinall(spawners);
        assert_eq!(pool.len(), 1);
        pool.kill();
        assert_free(&pool);
        pool.set_size(3);
        assert_free(&pool);
    });
}

#[test]
fn kill_nowait_ends_a_full_pool_and_those_in_line_come_in() {
    check(|| {
        let (pool, holders) = full(2);
        let (theirs, ran) = (pool.clone(), Count::default());
        let count = ran.clone();
        let spawner = spawn(move || theirs.spawn(move || count.up()).join());
        yield_now();
        pool.kill_nowait();
        spawner.join().unwrap().unwrap();
        assert!(holders.iter().all(JoinHandle::is_finished));
        assert_eq!(ran.get(), 1);
        assert_free(&pool);
    });
}

#[test]
fn kill_ends_those_who_come_in_meanwhile() {
    check(|| {
        let pool = Pool::new(2);
        let stubborn = pool.spawn(|| shield(|| (0..9).for_each(|_| yield_now())));
        pool.spawn(park);
        let theirs = pool.clone();
        let spawner = spawn(move || theirs.spawn(park));
        yield_now();
        pool.kill();
        assert!(stubborn.is_finished() && spawner.is_finished());
        assert!(spawner.join().unwrap().join().unwrap_err().is_killed());
        assert_free(&pool);
    });
}

#[test]
fn join_waits_for_those_in_line_too() {
    check(|| {
        let (pool, done) = (Pool::new(1), Count::default());
        for _ in 0..5 {
            let (theirs, done) = (pool.clone(), done.clone());
            spawn(move || {
                theirs.spawn(move || {
                    yield_now();
                    done.up();
                })
            });
        }
        yield_now();
        pool.join();
        assert_eq!(done.get(), 5);
        assert_free(&pool);
    });
}

// apply

#[test]
fn apply_gives_the_value_and_may_borrow() {
    check(|| {
        let (pool, lent) = (Pool::new(1), String::from("lent"));
        assert_eq!(pool.apply(|| &lent[1..]), "ent");
        let id = pool.apply(|| current().id());
        assert_ne!(id, current().id());
        assert_free(&pool);
    });
}

#[test]
fn apply_resumes_the_panic_and_tells_of_a_kill() {
    check(|| {
        let pool = Pool::new(1);
        let payload =
            catch_unwind(AssertUnwindSafe(|| pool.apply(|| resume_unwind(Box::new(7_u8)) as ()))).unwrap_err();
        assert_eq!(*payload.downcast::<u8>().unwrap(), 7);
        assert_free(&pool);

        let theirs = pool.clone();
        spawn_later(MS, move || theirs.kill_nowait());
        assert!(panic_of(|| pool.apply(park)).contains("was killed"));
        assert_free(&pool);

        // In a destructor that unwinds, nothing can unwind the wait itself.
        struct Applies(Pool);
        impl Drop for Applies {
            fn drop(&mut self) {
                assert_eq!(panic_of(|| self.0.apply(|| fail::<()>("inside"))), "inside");
            }
        }
        let applies = Applies(pool.clone());
        let text = panic_of(move || {
            let _applies = applies;
            fail::<()>("outside");
        });
        assert_eq!(text, "outside");
        assert_free(&pool);
    });
}

#[test]
fn apply_of_a_caller_that_is_killed_ends_the_task_first() {
    check(|| {
        let (pool, log) = (Pool::new(1), Log::default());
        let (theirs, end, last) = (pool.clone(), OnDrop(log.clone(), "task"), OnDrop(log.clone(), "caller"));
        let caller = spawn(move || {
            let _last = last;
            theirs.apply(move || {
                let _end = end;
                park();
            });
        });
        yield_now();
        yield_now();
        caller.kill();
        assert_eq!(log.take(), ["task", "caller"]);
        assert_free(&pool);
    });
}

#[test]
fn apply_in_a_task_of_the_pool_runs_right_there() {
    check(|| {
        let pool = Pool::new(1);
        let ids = pool.apply(|| [current().id(), pool.apply(|| pool.apply(|| current().id()))]);
        assert_eq!(ids[0], ids[1]);
        assert_eq!(panic_of(|| pool.apply(|| pool.apply(|| fail::<()>("deep inside")))), "deep inside");
        assert_free(&pool);
        // Of another pool it does not.
        let other = Pool::new(1);
        let ids = pool.apply(|| [current().id(), other.apply(|| current().id())]);
        assert_ne!(ids[0], ids[1]);
        assert_free(&pool);
        assert_free(&other);
    });
}

#[test]
fn apply_async_never_waits_and_stands_in_line_by_itself() {
    check(|| {
        let (pool, gauge, log) = (Pool::new(2), Gauge::default(), Log::default());
        let tasks: Vec<_> = (0..5)
            .map(|i| {
                let (gauge, log) = (gauge.clone(), log.clone());
                pool.apply_async(move || {
                    let _inside = gauge.enter();
                    log.add(i.to_string());
                    yield_now();
                    i
                })
            })
            .collect();
        assert_eq!((pool.len(), gauge.most()), (2, 0));
        let killed = pool.apply_async(park);
        yield_now();
        killed.kill();
        pool.join();
        let values: Vec<_> = joinall(tasks).into_iter().map(Result::unwrap).collect();
        assert_eq!((values, gauge.most()), (vec![0, 1, 2, 3, 4], 2));
        assert_eq!(log.take(), ["0", "1", "2", "3", "4"]);
        assert!(pool.apply_async(|| fail::<()>("contained")).join().unwrap_err().is_panicked());
        assert_free(&pool);
    });
}

#[test]
fn join_waits_for_those_that_apply_async_made_and_that_have_not_run_yet() {
    check(|| {
        let (pool, holders) = full(1);
        let done = Count::default();
        let count = done.clone();
        let late = pool.apply_async(move || count.up());
        holders[0].kill_nowait();
        pool.discard(&holders[0]);
        pool.join();
        assert_eq!(done.get(), 1);
        late.join().unwrap();

        let (pool, holders) = full(1);
        let unborn = pool.apply_async(park);
        unborn.kill_nowait();
        pool.discard(&holders[0]);
        pool.join();
        assert!(unborn.is_finished());
        assert_free(&pool);
        holders[0].kill();
    });
}

// map

#[test]
fn map_keeps_the_order_and_fills_the_pool_but_no_more() {
    check(|| {
        let (pool, gauge) = (Pool::new(100), Gauge::default());
        let squares = pool.map(0..10_000_u64, |n| {
            let _inside = gauge.enter();
            (0..1 + n % 7).for_each(|_| yield_now());
            n * n
        });
        assert!(squares.iter().copied().eq((0..10_000).map(|n| n * n)));
        assert_eq!((gauge.most(), gauge.now()), (100, 0));
        assert_free(&pool);
        assert!(pool.map(std::iter::empty::<()>(), |()| ()).is_empty());
    });
}

#[test]
fn map_borrows_the_items_the_closure_and_the_results() {
    check(|| {
        let (pool, names) = (Pool::new(2), vec![String::from("one"), String::from("three")]);
        let total = Cell::new(0);
        let tails = pool.map(&names, |name| {
            yield_now();
            total.set(total.get() + name.len());
            &name[1..]
        });
        assert_eq!((tails, total.get()), (vec!["ne", "hree"], 8));
        let mut numbers = [1, 2, 3];
        pool.map(&mut numbers, |n| *n *= 2);
        assert_eq!(numbers, [2, 4, 6]);
    });
}

#[test]
fn map_resumes_the_first_panic_and_ends_the_rest_first() {
    check(|| {
        let (pool, gauge, taken) = (Pool::new(3), Gauge::default(), Cell::new(0));
        let items = (0..100).inspect(|_| taken.set(taken.get() + 1));
        let text = panic_of(|| {
            pool.map(items, |n| {
                let _inside = gauge.enter();
                if n == 1 {
                    yield_now();
                    fail::<()>("the second");
                }
                park();
            })
        });
        assert_eq!((text.as_str(), gauge.now(), gauge.most(), taken.get()), ("the second", 0, 3, 4));
        assert_free(&pool);

        let items = (0..9).map(|n| if n == 5 { fail("in the input") } else { n });
        pool.set_size(9);
        assert_eq!(panic_of(|| pool.map(items, |_| park())), "in the input");
        assert_free(&pool);
    });
}

#[test]
fn map_fails_if_a_task_was_killed_or_the_caller_is() {
    check(|| {
        let (pool, gauge) = (Pool::new(2), Gauge::default());
        let theirs = pool.clone();
        spawn_later(MS, move || theirs.iter().next().unwrap().kill());
        let text = panic_of(|| {
            pool.map([1, 2], |_| {
                let _inside = gauge.enter();
                park();
            })
        });
        assert!(text.contains("was killed"), "{text}");
        assert_eq!(gauge.now(), 0);
        assert_free(&pool);

        let (theirs, inside) = (pool.clone(), gauge.clone());
        let caller = spawn(move || {
            let lent = Cell::new(0);
            theirs.map(0..5, |_| {
                let _inside = inside.enter();
                shield(|| sleep(MS));
                lent.set(lent.get() + 1);
                park();
            });
        });
        yield_now();
        yield_now();
        caller.kill();
        assert_eq!(gauge.now(), 0);
        assert_free(&pool);
    });
}

#[test]
fn map_in_a_task_of_the_pool_makes_do_with_the_slots_there_are() {
    check(|| {
        for size in 1..5 {
            let (pool, gauge) = (Pool::new(size), Gauge::default());
            let sums = pool.map(0..6_u64, |i| {
                pool.map(0..5, |j| {
                    // Not more run than there are slots: who runs this himself is not elsewhere.
                    pool.map(0..3, |k| {
                        let _inside = gauge.enter();
                        yield_now();
                        i * j * k
                    })
                    .iter()
                    .sum::<u64>()
                })
                .iter()
                .sum::<u64>()
            });
            assert_eq!(sums, [0, 30, 60, 90, 120, 150]);
            assert_eq!(gauge.most(), size);
            assert_free(&pool);
        }
    });
}

#[test]
fn pools_nest() {
    check(|| {
        let (outer, inner, gauge) = (Pool::new(3), Pool::new(2), Gauge::default());
        let sums = outer.map(0..10_u64, |i| {
            let parts = inner.map(0..10, |j| {
                let _inside = gauge.enter();
                yield_now();
                i + j
            });
            parts.iter().sum::<u64>()
        });
        assert_eq!(sums, (0..10).map(|i| 45 + 10 * i).collect::<Vec<_>>());
        assert_eq!(gauge.most(), 2);
        assert_free(&outer);
        assert_free(&inner);
    });
}

#[test]
fn what_a_pool_spawns_counts_as_spawned_by_its_caller() {
    check(|| {
        let pool = Pool::new(1);
        let here = || current().spawned_at().file();
        let files = [pool.spawn(here).join().unwrap(), pool.apply(here), pool.apply_async(here).join().unwrap()];
        let mapped = pool.map([1, 2], |_| here()).into_iter();
        let mapped = mapped.chain(pool.imap([1, 2], move |_| here()).map(Result::unwrap));
        let files: Vec<_> = files.into_iter().chain(mapped).collect();
        assert_eq!(files, [file!(); 7]);
    });
}

// imap

#[test]
fn imap_is_lazy_ordered_and_bounded() {
    check(|| {
        for (size, lead) in [(1, None), (4, None), (2, Some(7)), (7, Some(2)), (2, Some(0))] {
            let (pool, gauge, taken) = (Pool::new(size), Gauge::default(), Rc::new(Cell::new(0)));
            let (inside, count) = (gauge.clone(), taken.clone());
            let items = (0..50).inspect(move |_| count.set(count.get() + 1));
            let mut mapped = pool.imap(items, move |n: usize| {
                let _inside = inside.enter();
                (0..(n * 7) % 5).for_each(|_| yield_now());
                n
            });
            if let Some(lead) = lead {
                mapped = mapped.lead(lead);
            }
            idle();
            assert_eq!(taken.get(), 0, "lazy");
            let lead = lead.unwrap_or(size).max(1);
            for n in 0..50 {
                assert_eq!(mapped.next().unwrap().unwrap(), n);
                assert!(taken.get() <= n + 1 + lead, "{} taken, {n} given", taken.get());
                if n % 10 == 0 {
                    idle();
                    assert_eq!(taken.get(), (n + 1 + lead).min(50), "as far ahead as it may");
                }
            }
            assert!(mapped.next().is_none() && mapped.next().is_none());
            assert_eq!(gauge.most(), size.min(lead));
            assert_free(&pool);
        }
    });
}

#[test]
fn imap_unordered_gives_what_ends_first() {
    check(|| {
        let (pool, gauge) = (Pool::new(3), Gauge::default());
        let inside = gauge.clone();
        let mapped = pool.imap_unordered([9, 1, 5, 2, 0], move |turns| {
            let _inside = inside.enter();
            (0..turns).for_each(|_| yield_now());
            turns
        });
        let mut order: Vec<_> = mapped.map(Result::unwrap).collect();
        assert_eq!((order[0], *order.last().unwrap(), gauge.most()), (1, 9, 3));
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 5, 9]);
        assert_free(&pool);
    });
}

#[test]
fn imaps_errors_surface_at_their_items_and_the_rest_goes_on() {
    check(|| {
        let pool = Pool::new(2);
        let all: Vec<_> = pool
            .imap(0..6, |n| match n {
                2 => fail("at two"),
                4 => {
                    current().kill();
                    unreachable!();
                }
                n => n,
            })
            .map(|result| result.map_err(|error| error.to_string()))
            .collect();
        assert_eq!(
            all,
            [Ok(0), Ok(1), Err("the task panicked: at two".into()), Ok(3), Err("the task was killed".into()), Ok(5)]
        );
        assert_free(&pool);
        let errors = pool.imap_unordered(0..6, |n| if n % 2 == 0 { fail("even") } else { n });
        assert_eq!(errors.filter(Result::is_err).count(), 3);
        assert_free(&pool);
    });
}

#[test]
fn a_panic_in_imaps_input_surfaces_after_all_before_it_and_ends_it() {
    check(|| {
        let pool = Pool::new(3);
        let input = || (0..9).map(|n| if n == 4 { fail("in the input") } else { n });
        let mut mapped = pool.imap(input(), |n| {
            (0..10 - 2 * n).for_each(|_| yield_now());
            n
        });
        for n in 0..4 {
            assert_eq!(mapped.next().unwrap().unwrap(), n);
        }
        assert_eq!(panic_of(|| mapped.next()), "in the input");
        assert!(mapped.next().is_none());
        assert_free(&pool);

        let mut mapped = pool.imap_unordered(input(), |n| n).lead(100);
        let mut all: Vec<_> = (0..4).map(|_| mapped.next().unwrap().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
        assert_eq!(panic_of(|| mapped.next()), "in the input");
        assert!(mapped.next().is_none());
        assert_free(&pool);
    });
}

#[test]
fn imaps_input_may_wait_for_what_its_results_lead_to() {
    check(|| {
        // Each item is there only once the result before it was seen.
        let (pool, seen) = (Pool::new(3), Rc::new(Cell::new(0)));
        let theirs = seen.clone();
        let items = (0..10).inspect(move |n| {
            while theirs.get() < *n {
                yield_now();
            }
        });
        for result in pool.imap(items, |n| n) {
            assert_eq!(result.unwrap(), seen.get());
            seen.set(seen.get() + 1);
        }
        assert_eq!(seen.get(), 10);
        assert_free(&pool);
    });
}

#[test]
fn a_dropped_imap_ends_what_is_under_way_without_waiting() {
    check(|| {
        for ordered in [true, false] {
            let (pool, gauge, log) = (Pool::new(3), Gauge::default(), Log::default());
            let (inside, end) = (gauge.clone(), OnDrop(log.clone(), "input"));
            let items = (0..).inspect(move |_| {
                let _with_it = &end;
            });
            let f = move |n| {
                let _inside = inside.enter();
                if n > 2 {
                    park();
                }
                Rc::new(n)
            };
            let mut mapped = if ordered { pool.imap(items, f) } else { pool.imap_unordered(items, f) };
            assert_eq!(*mapped.next().unwrap().unwrap(), 0);
            idle();
            assert!(gauge.now() > 0);
            drop(mapped);
            assert!(gauge.now() > 0, "dropping does not switch");
            idle();
            assert_eq!((gauge.now(), log.take()), (0, vec!["input".to_owned()]));
            assert_free(&pool);
        }
        // One that has not begun.
        let pool = Pool::new(1);
        drop(pool.imap([1], |n| n));
        assert_free(&pool);
    });
}

#[test]
fn a_dropped_imap_stops_an_input_that_cannot_be_killed() {
    check(|| {
        let (pool, gate, ran) = (Pool::new(2), Rc::new(Cell::new(false)), Count::default());
        let (theirs, count) = (gate.clone(), ran.clone());
        let items = (0..5).inspect(move |n| {
            if *n == 1 {
                let _caught = catch_unwind(AssertUnwindSafe(|| {
                    shield(|| {
                        while !theirs.get() {
                            yield_now();
                        }
                    });
                }));
            }
        });
        let mut mapped = pool.imap(items, move |_| count.up());
        mapped.next().unwrap().unwrap();
        yield_now();
        drop(mapped);
        gate.set(true);
        while greenroom::testing::live_tasks() > 0 {
            yield_now();
        }
        assert_eq!(ran.get(), 1);
        assert_free(&pool);
    });
}

#[test]
fn a_consumer_that_is_cancelled_inside_next_loses_nothing() {
    check(|| {
        let pool = Pool::new(2);
        let gate = Rc::new(Cell::new(false));
        let theirs = gate.clone();
        let mut mapped = pool.imap(0..6, move |n| {
            while n == 3 && !theirs.get() {
                sleep(MS);
            }
            n
        });
        let mut all = Vec::new();
        loop {
            match timeout(5 * MS, || mapped.next()) {
                Ok(Some(result)) => all.push(result.unwrap()),
                Ok(None) => break,
                Err(_elapsed) => {
                    assert_eq!(all, [0, 1, 2]);
                    gate.set(true);
                }
            }
        }
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        assert!(gate.get());
        assert_free(&pool);
    });
}

#[test]
fn imap_in_a_task_of_the_pool_makes_do_with_the_slots_there_are() {
    check(|| {
        for size in 1..4 {
            for ordered in [true, false] {
                let (pool, gauge) = (Pool::new(size), Gauge::default());
                let sums = pool.map(0..4_u64, |i| {
                    let inside = gauge.clone();
                    let f = move |j| {
                        let _inside = inside.enter();
                        yield_now();
                        if j == 3 { fail("three") } else { i * j }
                    };
                    let mapped = if ordered { pool.imap(0..6, f) } else { pool.imap_unordered(0..6, f) };
                    let (good, bad): (Vec<_>, Vec<_>) = mapped.partition(Result::is_ok);
                    assert_eq!(bad.len(), 1);
                    good.into_iter().map(Result::unwrap).sum::<u64>()
                });
                assert_eq!(sums, [0, 12, 24, 36]);
                assert!(gauge.most() <= size);
                assert_free(&pool);
            }
        }
    });
}

#[test]
fn an_item_that_next_itself_runs_counts_as_killed_when_it_is_cancelled() {
    check(|| {
        let pool = Pool::new(1);
        pool.apply(|| {
            let mut mapped = pool.imap(0..3, |n| {
                if n == 1 {
                    park();
                }
            });
            assert!(mapped.next().unwrap().is_ok());
            assert!(timeout(MS, || mapped.next()).is_err());
            assert!(mapped.next().unwrap().unwrap_err().is_killed());
            assert!(mapped.next().unwrap().is_ok());
            assert!(mapped.next().is_none());
        });
        assert_free(&pool);
    });
}

#[test]
fn a_forgotten_imap_stops_where_its_lead_ends() {
    check(|| {
        let (pool, ran) = (Pool::new(2), Count::default());
        let count = ran.clone();
        // Which ends the feeder: nobody has a handle on it any more.
        greenroom::run(|| {
            let mut mapped = pool.imap(0.., move |_: u32| count.up());
            mapped.next().unwrap().unwrap();
            #[allow(clippy::mem_forget, reason = "it is what the test is about")]
            std::mem::forget(mapped);
            idle();
        });
        assert_eq!(ran.get(), 3);
        assert_free(&pool);
    });
}

// What gevent's own tests of pools do

#[test]
fn gevent_map_imap_and_errors_in_the_handler() {
    check(|| {
        let pool = Pool::new(10);
        let divide = |n: u32| 10_u32.checked_div(n).unwrap_or_else(|| fail("by zero"));
        assert_eq!(panic_of(|| pool.map([1, 0, 2], divide)), "by zero");
        let mut mapped = pool.imap([1, 0, 2], divide);
        assert_eq!(mapped.next().unwrap().unwrap(), 10);
        assert_eq!(mapped.next().unwrap().unwrap_err().message(), Some("by zero"));
        assert_eq!(mapped.next().unwrap().unwrap(), 5);
        assert!(mapped.next().is_none());

        let mut small = pool.imap(0..4, |n| n).lead(1);
        assert!((0..4).all(|n| small.next().unwrap().unwrap() == n) && small.next().is_none());
        assert!(pool.imap(std::iter::empty::<u8>(), |n| n).next().is_none());

        let mut random: Vec<_> = (0..10).collect();
        fastrand::shuffle(&mut random);
        let slept = pool.imap_unordered(random, |n| {
            sleep(n * MS / 10);
            n
        });
        let mut all: Vec<_> = slept.map(Result::unwrap).collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_free(&pool);
    });
}

#[test]
fn gevent_terminate_does_not_wait_for_those_that_sleep() {
    check(|| {
        let pool = Pool::new(10);
        let theirs = pool.clone();
        let mapping = spawn(move || theirs.map(0..1000, |_| sleep(EVER)));
        sleep(MS);
        soon(|| mapping.kill());
        soon(|| pool.join());
        assert_free(&pool);
    });
}

#[test]
fn gevent_a_pool_survives_a_handler_that_fails_and_is_reentrant() {
    check(|| {
        let pool = Pool::new(1);
        drop(pool.spawn(|| fail::<()>("crash")));
        pool.join();
        assert_eq!(pool.apply(|| pool.apply(|| 5 + 1)), 6);
        let done = Count::default();
        let (theirs, count) = (pool.clone(), done.clone());
        let last = pool.spawn(move || theirs.apply(move || count.up()));
        last.join().unwrap();
        assert_eq!((done.get(), pool.free_count()), (1, 1));
    });
}

#[test]
fn gevent_those_who_wait_get_the_slots_fairly() {
    check(|| {
        // While it is always full, those who wait by turns get the same share.
        let pool = Pool::new(3);
        let counts: Vec<_> = (0..5).map(|_| Count::default()).collect();
        let spawners: Vec<_> = counts
            .iter()
            .map(|count| {
                let (pool, count) = (pool.clone(), count.clone());
                spawn(move || {
                    loop {
                        let count = count.clone();
                        pool.spawn(move || {
                            count.up();
                            yield_now();
                        });
                    }
                })
            })
            .collect();
        (0..1000).for_each(|_| yield_now());
        greenroom::killall(&spawners);
        pool.join();
        let counts: Vec<_> = counts.iter().map(Count::get).collect();
        let (least, most) = (*counts.iter().min().unwrap(), *counts.iter().max().unwrap());
        assert!(least > 100 && most - least <= 4, "{counts:?}");
        assert_free(&pool);
    });
}

// Everything at once

/// `GREENROOM_SEED` says which program to run, alone.
#[test]
fn after_any_mix_of_ends_all_slots_are_free() {
    if let Ok(seed) = env::var("GREENROOM_SEED") {
        return mix(seed.parse().expect("a number"));
    }
    let seed = fastrand::u64(..);
    (0..40).for_each(|more| mix(seed.wrapping_add(more)));
}

fn mix(seed: u64) {
    let ran = catch_unwind(|| {
        check(move || {
            greenroom::testing::shuffle(seed);
            let mut rng = Rng::with_seed(seed);
            let pool = Pool::new(rng.usize(1..5));
            let gauge = Gauge::default();
            let drivers = Group::new();
            for _ in 0..rng.usize(1..6) {
                let (pool, gauge, mut rng) = (pool.clone(), gauge.clone(), rng.fork());
                drivers.spawn(move || drive(&pool, &gauge, &mut rng));
            }
            for _ in 0..rng.usize(0..60) {
                match rng.u8(..10) {
                    0 => drivers.iter().take(1).for_each(|driver| driver.kill_nowait()),
                    1 => drop(pool.iter().nth(rng.usize(..3)).map(|task| task.kill_nowait())),
                    2 => pool.kill_nowait(),
                    3 => drop(pool.kill_timeout(MS / 10)),
                    4 => sleep(MS / 10),
                    _ => yield_now(),
                }
            }
            assert!(gauge.most() <= pool.size(), "{} at once in {}", gauge.most(), pool.size());
            while !drivers.join_timeout(MS) {
                pool.kill();
            }
            while !pool.join_timeout(MS) {
                pool.kill();
            }
            // What is left are feeders that have not run since they were killed.
            assert_free(&pool);
            assert_eq!(gauge.now(), 0);
            idle();
            assert_free(&pool);
        });
    });
    if let Err(payload) = ran {
        eprintln!("the program was GREENROOM_SEED={seed}");
        resume_unwind(payload);
    }
}

fn drive(pool: &Pool, gauge: &Gauge, rng: &mut Rng) {
    let mut handles = Vec::new();
    for _ in 0..rng.usize(1..25) {
        let (body, limit) = (body(gauge, rng.fork()), Duration::from_micros(rng.u64(..300)));
        // Panics and kills of what was mapped come out here.
        let ended = catch_unwind(AssertUnwindSafe(|| match rng.u8(..14) {
            0 | 1 => handles.push(pool.spawn(body)),
            2 => handles.extend(pool.try_spawn(body).ok()),
            3 => handles.extend(pool.spawn_timeout(limit, body).ok()),
            4 => handles.push(pool.apply_async(body)),
            5 => drop(timeout(limit, || pool.apply(body))),
            6 => {
                let seed = rng.u64(..);
                let each = |n| crate::body(gauge, Rng::with_seed(seed ^ n))();
                drop(timeout(limit, || pool.map(0..rng.u64(..8), each)));
            }
            7 => {
                let (seed, gauge, lead) = (rng.u64(..), gauge.clone(), rng.usize(..6));
                let each = move |n| crate::body(&gauge, Rng::with_seed(seed ^ n))();
                let items = 0..rng.u64(..8);
                let mapped = if rng.bool() { pool.imap(items, each) } else { pool.imap_unordered(items, each) };
                let mapped = if lead > 0 { mapped.lead(lead) } else { mapped };
                let _in_time = timeout(limit, || mapped.take(rng.usize(..9)).count());
            }
            8 => {
                let task = spawn(yield_now);
                let _in_time = timeout(limit, || pool.add(&task));
                handles.push(task);
            }
            9 => drop(timeout(limit, || pool.wait_available())),
            10 => drop(pool.join_timeout(limit)),
            11 => drop(handles.pop().map(|task| task.kill())),
            12 => drop(handles.pop().map(|task| task.join_timeout(limit))),
            _ => {
                let inner = pool.clone();
                let nested = move || inner.apply(|| inner.map([1, 2], |n| n).len()) == 2 || unreachable!();
                let task = pool.spawn(move || assert!(nested()));
                handles.push(task);
            }
        }));
        drop(ended);
        if rng.bool() {
            yield_now();
        }
    }
}

/// What a task does, one way or another: it ends soon, or when it is killed.
fn body(gauge: &Gauge, mut rng: Rng) -> impl FnOnce() + 'static {
    let gauge = gauge.clone();
    move || {
        let _inside = gauge.enter();
        match rng.u8(..9) {
            0 => fail("contained"),
            1 => park(),
            2 => sleep(Duration::from_micros(rng.u64(..300))),
            3 => shield(|| sleep(Duration::from_micros(rng.u64(..300)))),
            4 => current().kill(),
            5 => scope(|s| drop(s.spawn(yield_now))),
            _ => (0..rng.usize(..5)).for_each(|_| yield_now()),
        }
    }
}
