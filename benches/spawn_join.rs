//! Makes a task that does nothing, and waits for its end: one at a time, and a thousand before the first is waited for.

use std::time::{Duration, Instant};

use corosensei::{Coroutine, CoroutineResult};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use greenroom_benches::{BareStack, BareStacks, scaled};

const BATCH: u64 = 1000;

fn spawn_join(c: &mut Criterion) {
    for (name, batch) in [("spawn_join/one", 1), ("spawn_join/of_1000", BATCH)] {
        let mut group = c.benchmark_group(name);
        group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        corosensei(&mut group, batch);
        greenroom(&mut group, batch);
        tokio(&mut group, batch);
        may(&mut group, batch);
        group.finish();
    }
}

/// The floor: coroutines that start and finish on stacks used before.
fn corosensei(group: &mut BenchmarkGroup<'_, WallTime>, batch: u64) {
    let mut stacks: Vec<BareStack> = BareStacks::new(batch as usize).collect();
    let mut coroutines = Vec::with_capacity(batch as usize);
    group.bench_function("floor", |b| {
        b.iter_custom(|iters| {
            scaled(iters, batch, |rounds| {
                let start = Instant::now();
                for _ in 0..rounds {
                    while let Some(stack) = stacks.pop() {
                        coroutines.push(Coroutine::<(), (), (), _>::with_stack(stack, |_, ()| ()));
                    }
                    for mut coroutine in coroutines.drain(..) {
                        let result = coroutine.resume(());
                        debug_assert!(matches!(result, CoroutineResult::Return(())));
                        stacks.push(coroutine.into_stack());
                    }
                }
                start.elapsed()
            })
        });
    });
}

fn greenroom(group: &mut BenchmarkGroup<'_, WallTime>, batch: u64) {
    group.bench_function("greenroom", |b| {
        b.iter_custom(|iters| {
            scaled(iters, batch, |rounds| {
                let mut handles = Vec::with_capacity(batch as usize);
                let start = Instant::now();
                for _ in 0..rounds {
                    handles.extend((0..batch).map(|_| greenroom::spawn(|| ())));
                    for handle in handles.drain(..) {
                        handle.join().expect("it does not panic");
                    }
                }
                start.elapsed()
            })
        });
    });
}

fn tokio(group: &mut BenchmarkGroup<'_, WallTime>, batch: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    group.bench_function("tokio", |b| {
        b.iter_custom(|iters| {
            scaled(iters, batch, |rounds| {
                let mut handles = Vec::with_capacity(batch as usize);
                runtime.block_on(async move {
                    let start = Instant::now();
                    for _ in 0..rounds {
                        handles.extend((0..batch).map(|_| tokio::spawn(async {})));
                        for handle in handles.drain(..) {
                            handle.await.expect("it does not panic");
                        }
                    }
                    start.elapsed()
                })
            })
        });
    });
}

fn may(group: &mut BenchmarkGroup<'_, WallTime>, batch: u64) {
    may::config().set_workers(1);
    group.bench_function("may", |b| {
        b.iter_custom(|iters| {
            scaled(iters, batch, |rounds| {
                // From within a coroutine, so that nothing crosses threads.
                let body = move || {
                    let mut handles = Vec::with_capacity(batch as usize);
                    let start = Instant::now();
                    for _ in 0..rounds {
                        // SAFETY: the body uses neither thread-locals nor much stack.
                        handles.extend((0..batch).map(|_| unsafe { may::coroutine::spawn(|| ()) }));
                        for handle in handles.drain(..) {
                            handle.join().expect("it does not panic");
                        }
                    }
                    start.elapsed()
                };
                // SAFETY: as above.
                unsafe { may::coroutine::spawn(body) }.join().expect("it does not panic")
            })
        });
    });
}

criterion_group!(benches, spawn_join);
criterion_main!(benches);
