//! Two tasks wake each other in turn: the time of one round trip, which is two unparks and two parks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corosensei::Coroutine;
use criterion::{Criterion, criterion_group, criterion_main};
use greenroom_benches::BareStacks;

fn park_unpark(c: &mut Criterion) {
    let mut group = c.benchmark_group("park_unpark");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));

    // The floor: two switches into a coroutine and two out of it.
    let mut pair: Vec<_> = BareStacks::new(2)
        .map(|stack| {
            Coroutine::<(), (), (), _>::with_stack(stack, |yielder, ()| {
                loop {
                    yielder.suspend(());
                }
            })
        })
        .collect();
    group.bench_function("floor", |b| {
        b.iter(|| {
            pair[0].resume(());
            pair[1].resume(());
        });
    });
    for mut coroutine in pair {
        // SAFETY: nothing on these stacks has a destructor.
        unsafe { coroutine.force_reset() };
    }

    group.bench_function("greenroom", |b| {
        b.iter_custom(|iters| {
            let measured = greenroom::spawn(move || {
                let this = greenroom::current();
                let partner = greenroom::spawn(move || {
                    for _ in 0..iters {
                        greenroom::park();
                        this.unpark();
                    }
                });
                let partner = partner.task();
                let start = Instant::now();
                for _ in 0..iters {
                    partner.unpark();
                    greenroom::park();
                }
                start.elapsed()
            });
            measured.join().expect("it does not panic")
        });
    });

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    group.bench_function("tokio", |b| {
        b.iter_custom(|iters| {
            let measured = runtime.spawn(async move {
                let (there, back) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
                let (called, answer) = (there.clone(), back.clone());
                tokio::spawn(async move {
                    for _ in 0..iters {
                        called.notified().await;
                        answer.notify_one();
                    }
                });
                let start = Instant::now();
                for _ in 0..iters {
                    there.notify_one();
                    back.notified().await;
                }
                start.elapsed()
            });
            runtime.block_on(measured).expect("it does not panic")
        });
    });

    may::config().set_workers(1);
    group.bench_function("may", |b| {
        b.iter_custom(|iters| {
            let body = move || {
                let this = may::coroutine::current();
                let body = move || {
                    for _ in 0..iters {
                        may::coroutine::park();
                        this.unpark();
                    }
                };
                // SAFETY: the body uses neither thread-locals nor much stack.
                let partner = unsafe { may::coroutine::spawn(body) };
                let start = Instant::now();
                for _ in 0..iters {
                    partner.coroutine().unpark();
                    may::coroutine::park();
                }
                start.elapsed()
            };
            // SAFETY: as above.
            unsafe { may::coroutine::spawn(body) }.join().expect("it does not panic")
        });
    });
    group.finish();
}

criterion_group!(benches, park_unpark);
criterion_main!(benches);
