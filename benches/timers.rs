//! Sleeps of many tasks at once, of random lengths up to half a second: CPU time a timer, and whether any was early.
//!
//! Each task sleeps once just after it was spawned, and once more when all have slept: the second row is free of what
//! spawning and the first touch of a stack cost.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use greenroom_benches::{is_quick, is_trial, least, median, thread_cpu};

const LONGEST: Duration = Duration::from_millis(500);

/// CPU seconds of the first sleeps, with spawning, and of the second ones.
type Cost = [f64; 2];

fn main() {
    let (count, rounds) = match (is_trial(), is_quick()) {
        (true, _) => (100, 1),
        (_, true) => (100_000, 1),
        _ => (100_000, 5),
    };
    let mut costs: [Vec<Cost>; 2] = Default::default();
    for round in 0..rounds {
        for (system, measure) in [greenroom as fn(usize, u64) -> Cost, tokio].into_iter().enumerate() {
            // A thread of its own: nothing is left of the one before.
            let cost = thread::spawn(move || measure(count, round)).join().expect("it does not panic");
            costs[system].push(cost);
        }
    }
    for (phase, what) in ["spawn_and_sleep", "sleep"].into_iter().enumerate() {
        let of =
            |system: usize| -> Vec<f64> { costs[system].iter().map(|cost| cost[phase] * 1e9 / count as f64).collect() };
        let ratio = median(of(0).iter().zip(of(1)).map(|(ours, theirs)| ours / theirs).collect());
        println!("timers/{what}/greenroom  {:6.0} ns of CPU a timer, {count} at once", least(&of(0)));
        println!("timers/{what}/tokio      {:6.0} ns of CPU a timer; greenroom/tokio {ratio:.2}", least(&of(1)));
    }
}

fn sleeps(seed: u64) -> impl Iterator<Item = [Duration; 2]> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut one = move || Duration::from_nanos(random.u64(0..LONGEST.as_nanos() as u64));
    std::iter::repeat_with(move || [one(), one()])
}

fn assert_not_early(begun: Instant, sleep: Duration) {
    let slept = begun.elapsed();
    assert!(slept >= sleep, "slept {slept:?} instead of {sleep:?}");
}

fn greenroom(count: usize, seed: u64) -> Cost {
    greenroom::yield_now();
    let arrived = Rc::new(Cell::new(0));
    let cpu = thread_cpu();
    let root = greenroom::current();
    let tasks: Vec<_> = sleeps(seed)
        .take(count)
        .map(|[first, second]| {
            let (arrived, root) = (arrived.clone(), root.clone());
            greenroom::spawn(move || {
                let begun = Instant::now();
                greenroom::sleep(first);
                assert_not_early(begun, first);
                arrived.set(arrived.get() + 1);
                if arrived.get() == count {
                    root.unpark();
                }
                greenroom::park();
                let begun = Instant::now();
                greenroom::sleep(second);
                assert_not_early(begun, second);
            })
        })
        .collect();
    greenroom::park();
    let first = thread_cpu();
    for task in &tasks {
        task.task().unpark();
    }
    for task in tasks {
        task.join().expect("it does not panic");
    }
    [(first - cpu).as_secs_f64(), (thread_cpu() - first).as_secs_f64()]
}

fn tokio(count: usize, seed: u64) -> Cost {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime with timers");
    runtime.block_on(async move {
        let (all, gate) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let arrived = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let cpu = thread_cpu();
        let tasks: Vec<_> = sleeps(seed)
            .take(count)
            .map(|[first, second]| {
                let (arrived, all, gate) = (arrived.clone(), all.clone(), gate.clone());
                tokio::spawn(async move {
                    let begun = Instant::now();
                    tokio::time::sleep(first).await;
                    assert_not_early(begun, first);
                    let opened = gate.notified();
                    if arrived.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == count {
                        all.notify_one();
                    }
                    opened.await;
                    let begun = Instant::now();
                    tokio::time::sleep(second).await;
                    assert_not_early(begun, second);
                })
            })
            .collect();
        all.notified().await;
        let first = thread_cpu();
        gate.notify_waiters();
        for task in tasks {
            task.await.expect("it does not panic");
        }
        [(first - cpu).as_secs_f64(), (thread_cpu() - first).as_secs_f64()]
    })
}
