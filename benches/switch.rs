//! Gives the others a turn: the time of one `yield_now` among that many tasks.
//!
//! All tasks but one yield until told to stop; they are made outside the measured part, once for each row. The measured
//! one yields as often as is asked: each of its yields is a round of all, for greenroom's queue and tokio's are fair.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corosensei::{Coroutine, CoroutineResult};
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement::WallTime};
use greenroom_benches::{BareStacks, scaled};

const COUNTS: [u64; 5] = [2, 100, 1000, 10_000, 100_000];
/// may maps each stack with a guard of its own: it meets the limit on mappings not far above this.
const MAY_AT_MOST: u64 = 10_000;

fn switch(c: &mut Criterion) {
    type Bench = fn(&mut BenchmarkGroup<'_, WallTime>, u64);
    // may last: its threads stay, and disturb whoever comes after.
    let all: [(Bench, u64); 4] = [(corosensei, u64::MAX), (greenroom, u64::MAX), (tokio, u64::MAX), (may, MAY_AT_MOST)];
    for (bench, most) in all {
        for count in COUNTS.into_iter().filter(|count| *count <= most) {
            let mut group = c.benchmark_group("switch");
            group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
            bench(&mut group, count);
            group.finish();
        }
    }
}

/// The floor: resume and suspend of bare coroutines, one after the other, without colours.
fn corosensei(group: &mut BenchmarkGroup<'_, WallTime>, count: u64) {
    let mut coroutines: Vec<_> = BareStacks::new(count as usize)
        .map(|stack| {
            Coroutine::<(), (), (), _>::with_stack(stack, |yielder, ()| {
                loop {
                    yielder.suspend(());
                }
            })
        })
        .collect();
    group.bench_function(BenchmarkId::new("floor", count), |b| {
        b.iter_custom(|iters| {
            scaled(iters, count, |rounds| {
                let start = Instant::now();
                for _ in 0..rounds {
                    for coroutine in &mut coroutines {
                        let result = coroutine.resume(());
                        debug_assert!(matches!(result, CoroutineResult::Yield(())));
                    }
                }
                start.elapsed()
            })
        });
    });
    for mut coroutine in coroutines {
        // SAFETY: nothing on these stacks has a destructor.
        unsafe { coroutine.force_reset() };
    }
}

fn greenroom(group: &mut BenchmarkGroup<'_, WallTime>, count: u64) {
    let stop = Rc::new(Cell::new(false));
    let others: Vec<_> = (1..count)
        .map(|_| {
            let stop = stop.clone();
            greenroom::spawn(move || {
                while !stop.get() {
                    greenroom::yield_now();
                }
            })
        })
        .collect();
    group.bench_function(BenchmarkId::new("greenroom", count), |b| {
        b.iter_custom(|iters| {
            scaled(iters, count, |rounds| {
                let measured = greenroom::spawn(move || {
                    greenroom::yield_now();
                    let start = Instant::now();
                    for _ in 0..rounds {
                        greenroom::yield_now();
                    }
                    start.elapsed()
                });
                measured.join().expect("it does not panic")
            })
        });
    });
    stop.set(true);
    for other in greenroom::joinall(others) {
        other.expect("it does not panic");
    }
}

fn tokio(group: &mut BenchmarkGroup<'_, WallTime>, count: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let stop = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (1..count)
        .map(|_| {
            let stop = stop.clone();
            runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    group.bench_function(BenchmarkId::new("tokio", count), |b| {
        b.iter_custom(|iters| {
            scaled(iters, count, |rounds| {
                let measured = runtime.spawn(async move {
                    tokio::task::yield_now().await;
                    let start = Instant::now();
                    for _ in 0..rounds {
                        tokio::task::yield_now().await;
                    }
                    start.elapsed()
                });
                runtime.block_on(measured).expect("it does not panic")
            })
        });
    });
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(async move {
        for other in others {
            other.await.expect("it does not panic");
        }
    });
}

fn may(group: &mut BenchmarkGroup<'_, WallTime>, count: u64) {
    may::config().set_workers(1);
    group.bench_function(BenchmarkId::new("may", count), |b| {
        b.iter_custom(|iters| {
            // Its queue is not a fair one, and its worker does not look at what comes from outside while coroutines of its own
            // are ready. So all yield equally often, from first to last; many times, for spawning is measured along.
            let rounds = iters.div_ceil(count).max(50);
            let body = move || {
                let start = Instant::now();
                let tasks: Vec<_> = (0..count)
                    .map(|_| {
                        let body = move || (0..rounds).for_each(|_| may::coroutine::yield_now());
                        // SAFETY: the body uses neither thread-locals nor much stack.
                        unsafe { may::coroutine::spawn(body) }
                    })
                    .collect();
                for task in tasks {
                    task.join().expect("it does not panic");
                }
                start.elapsed()
            };
            // SAFETY: as above.
            let elapsed = unsafe { may::coroutine::spawn(body) }.join().expect("it does not panic");
            elapsed.mul_f64(iters as f64 / (rounds * count) as f64)
        });
    });
}

criterion_group!(benches, switch);
criterion_main!(benches);
