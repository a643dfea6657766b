//! Ten thousand small jobs, a hundred at a time: what it costs to make a task for each, to wait for a slot, and to gather the
//! results in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use greenroom::pool::Pool;
use greenroom_benches::scaled;

const JOBS: u64 = 10_000;
const SLOTS: usize = 100;

fn pool(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool/map");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    greenroom(&mut group);
    tokio(&mut group);
    group.finish();
}

/// Each job gives way once, so that all slots are in use.
fn greenroom(group: &mut BenchmarkGroup<'_, WallTime>) {
    let job = |n: u64| {
        greenroom::yield_now();
        n
    };
    for name in ["greenroom", "greenroom_imap", "greenroom_imap_unordered"] {
        group.bench_function(name, |b| {
            b.iter_custom(|iters| {
                scaled(iters, JOBS, |rounds| {
                    let pool = Pool::new(SLOTS);
                    let start = Instant::now();
                    for _ in 0..rounds {
                        let done = match name {
                            "greenroom" => pool.map(0..JOBS, job).len(),
                            "greenroom_imap" => pool.imap(0..JOBS, job).count(),
                            _ => pool.imap_unordered(0..JOBS, job).count(),
                        };
                        assert_eq!(done as u64, JOBS);
                    }
                    start.elapsed()
                })
            });
        });
    }
}

/// The same by hand: a semaphore for the slots, a task for each job, and their handles in order.
fn tokio(group: &mut BenchmarkGroup<'_, WallTime>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    group.bench_function("tokio", |b| {
        b.iter_custom(|iters| {
            scaled(iters, JOBS, |rounds| {
                runtime.block_on(async move {
                    let slots = Arc::new(tokio::sync::Semaphore::new(SLOTS));
                    let start = Instant::now();
                    for _ in 0..rounds {
                        let mut handles = Vec::new();
                        for n in 0..JOBS {
                            let slot = slots.clone().acquire_owned().await.expect("it is not closed");
                            handles.push(tokio::spawn(async move {
                                tokio::task::yield_now().await;
                                drop(slot);
                                n
                            }));
                        }
                        let mut results = Vec::new();
                        for handle in handles {
                            results.push(handle.await.expect("it does not panic"));
                        }
                        assert_eq!(results.len() as u64, JOBS);
                    }
                    start.elapsed()
                })
            })
        });
    });
}

criterion_group!(benches, pool);
criterion_main!(benches);
