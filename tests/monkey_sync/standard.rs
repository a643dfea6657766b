//! std's own locks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, Once, OnceLock, RwLock};
use std::time::{Duration, Instant};

use super::mixes::{MIXES, Mix, give_way};
use super::patch;

const ROUNDS: usize = 300;

#[test]
fn a_mutex_held_across_switches_lets_one_in() {
    patch();
    for mix in MIXES {
        let value = Arc::new(Mutex::new((0_usize, 0_usize)));
        let inside = value.clone();
        mix.run(move |who| {
            for round in 0..ROUNDS {
                let mut value = inside.lock().unwrap();
                value.0 += 1;
                give_way(round + who);
                value.1 += 1;
                assert_eq!(value.0, value.1);
            }
        });
        assert_eq!(value.lock().unwrap().0, mix.all() * ROUNDS, "{mix:?}");
    }
}

#[test]
fn a_read_write_lock_keeps_its_word() {
    patch();
    for mix in MIXES {
        let value = Arc::new(RwLock::new((0_usize, 0_usize)));
        let inside = value.clone();
        mix.run(move |who| {
            for round in 0..ROUNDS {
                if (round + who).is_multiple_of(4) {
                    let mut value = inside.write().unwrap();
                    value.0 += 1;
                    give_way(round + who);
                    value.1 += 1;
                } else {
                    let value = inside.read().unwrap();
                    let before = *value;
                    give_way(round + who);
                    assert_eq!(before, *value);
                    assert_eq!(value.0, value.1);
                }
            }
        });
        assert_eq!(value.read().unwrap().0, mix.all() * ROUNDS / 4, "{mix:?}");
    }
}

#[test]
fn a_queue_by_a_condition_variable_loses_nothing() {
    patch();
    for mix in MIXES {
        let queue = Arc::new((Mutex::new(VecDeque::new()), Condvar::new(), Condvar::new()));
        let got = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let producers = mix.all() / 2;
        let consumers = mix.all() - producers;
        let total = producers * ROUNDS;
        let (inside, sum) = (queue.clone(), got.clone());
        mix.run(move |who| {
            let (items, filled, emptied) = &*inside;
            if who.is_multiple_of(2) && who / 2 < consumers || who / 2 >= producers {
                // Every consumer takes its share.
                let mine = who / 2;
                let share = total / consumers + usize::from(mine < total % consumers);
                for _ in 0..share {
                    let mut items = filled.wait_while(items.lock().unwrap(), |items| items.is_empty()).unwrap();
                    sum.0.fetch_add(items.pop_front().unwrap(), Ordering::Relaxed);
                    sum.1.fetch_add(1, Ordering::Relaxed);
                    emptied.notify_one();
                }
            } else {
                for round in 0..ROUNDS {
                    let mut items = emptied.wait_while(items.lock().unwrap(), |items| items.len() >= 3).unwrap();
                    items.push_back(round);
                    filled.notify_one();
                }
            }
        });
        assert_eq!(got.1.load(Ordering::Relaxed), total, "{mix:?}");
        assert_eq!(got.0.load(Ordering::Relaxed), producers * (ROUNDS * (ROUNDS - 1) / 2), "{mix:?}");
    }
}

#[test]
fn a_barrier_lets_all_through_together() {
    patch();
    for mix in MIXES {
        let barrier = Arc::new(Barrier::new(mix.all()));
        let (arrived, leaders) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (inside, count, led) = (barrier.clone(), arrived.clone(), leaders.clone());
        mix.run(move |_| {
            for round in 1..=100 {
                count.fetch_add(1, Ordering::SeqCst);
                if inside.wait().is_leader() {
                    led.fetch_add(1, Ordering::SeqCst);
                }
                assert!(count.load(Ordering::SeqCst) >= round * mix.all());
                inside.wait();
            }
        });
        assert_eq!(leaders.load(Ordering::SeqCst), 100, "{mix:?}");
    }
}

#[test]
fn what_is_run_once_may_park() {
    patch();
    for mix in MIXES {
        for _ in 0..30 {
            let (once, cell, runs) = (Once::new(), OnceLock::new(), AtomicUsize::new(0));
            let all = Arc::new((once, cell, runs));
            let inside = all.clone();
            mix.run(move |_| {
                let (once, cell, runs) = &*inside;
                once.call_once(|| {
                    greenroom::yield_now();
                    runs.fetch_add(1, Ordering::SeqCst);
                });
                let value = cell.get_or_init(|| {
                    greenroom::sleep(Duration::from_micros(50));
                    runs.fetch_add(1, Ordering::SeqCst) + 100
                });
                assert!(*value > 100);
            });
            assert_eq!(all.2.load(Ordering::SeqCst), 2, "{mix:?}");
        }
    }
}

#[test]
fn a_condition_times_out_and_not_early() {
    patch();
    let run = || {
        let pair = (Mutex::new(()), Condvar::new());
        let begun = Instant::now();
        let time = Duration::from_millis(15);
        let guard = pair.0.lock().unwrap();
        let (guard, ended) = pair.1.wait_timeout_while(guard, time, |()| true).unwrap();
        assert!(ended.timed_out());
        assert!(begun.elapsed() >= time);
        drop(guard);
    };
    let begun = Instant::now();
    let tasks: Vec<_> = (0..50).map(|_| greenroom::spawn(run)).collect();
    greenroom::joinall(tasks).into_iter().for_each(|task| task.unwrap());
    assert!(begun.elapsed() < Duration::from_millis(15 * 50), "they wait one after the other");
}

#[test]
fn a_task_that_is_killed_while_it_waits_for_a_lock_gets_it_first() {
    patch();
    let mutex = Arc::new(Mutex::new(0));
    let guard = mutex.lock().unwrap();
    let inside = mutex.clone();
    let task = greenroom::spawn(move || {
        *inside.lock().unwrap() += 1;
        greenroom::sleep(Duration::from_secs(3600));
    });
    greenroom::yield_now();
    greenroom::yield_now();
    task.task().kill_nowait();
    greenroom::yield_now();
    assert!(!task.is_finished());
    drop(guard);
    assert!(task.join().is_err());
    assert_eq!(*mutex.lock().unwrap(), 1);
}

#[test]
fn the_root_waits_for_its_own_tasks() {
    patch();
    let pair = Arc::new((Mutex::new(0), Condvar::new()));
    for _ in 0..10 {
        let pair = pair.clone();
        drop(greenroom::spawn(move || {
            greenroom::sleep(Duration::from_millis(1));
            *pair.0.lock().unwrap() += 1;
            pair.1.notify_all();
        }));
    }
    let count = pair.1.wait_while(pair.0.lock().unwrap(), |count| *count < 10).unwrap();
    assert_eq!(*count, 10);
}

#[test]
fn natives_and_tasks_both_have_their_turn() {
    patch();
    let mix = Mix { hubs: 1, tasks: 4, natives: 2 };
    let state = Arc::new((Mutex::new(vec![0_usize; mix.all()]), AtomicUsize::new(0)));
    let inside = state.clone();
    // Each goes on until every one has had its turn so often: somebody who starves would make it endless.
    mix.run(move |who| {
        loop {
            let mut turns = inside.0.lock().unwrap();
            turns[who] += 1;
            greenroom::yield_now();
            if turns.iter().all(|turns| *turns >= 50) {
                return;
            }
        }
    });
    assert_eq!(state.1.load(Ordering::Relaxed), 0);
}
