//! What nobody waits for: the time of taking it and giving it back, on one thread that has a hub.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

fn mutex(c: &mut Criterion) {
    let mut group = c.benchmark_group("uncontended/mutex");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    greenroom::yield_now();

    let ours = greenroom::sync::Mutex::new(0_u64);
    group.bench_function("greenroom", |b| b.iter(|| *black_box(&ours).lock().expect("nobody panics") += 1));
    let stds = std::sync::Mutex::new(0_u64);
    group.bench_function("std", |b| b.iter(|| *black_box(&stds).lock().expect("nobody panics") += 1));
    group.finish();
}

criterion_group!(benches, mutex);
criterion_main!(benches);
