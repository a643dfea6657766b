//! What nobody waits for: the time of taking it and giving it back, on one thread that has a hub.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use greenroom::queue::Queue;
use greenroom::sync::{Event, Mutex, ReentrantMutex, RwLock, Semaphore};

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    // Makes the hub: a thread without one has a way of its own.
    greenroom::spawn(|| ()).join().expect("it does not panic");
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

fn mutex(c: &mut Criterion) {
    let mut group = group(c, "uncontended/mutex");
    let ours = Mutex::new(0_u64);
    group.bench_function("greenroom", |b| b.iter(|| *black_box(&ours).lock().expect("nobody panics") += 1));
    let stds = std::sync::Mutex::new(0_u64);
    group.bench_function("std", |b| b.iter(|| *black_box(&stds).lock().expect("nobody panics") += 1));
    group.finish();
}

/// std's is not stable: its mutex is the nearest, which has less to do.
fn reentrant_mutex(c: &mut Criterion) {
    let mut group = group(c, "uncontended/reentrant_mutex");
    let ours = ReentrantMutex::new(Cell::new(0_u64));
    let add = |count: &Cell<u64>| count.set(count.get() + 1);
    group.bench_function("greenroom", |b| b.iter(|| add(&black_box(&ours).lock())));
    let held = ours.lock();
    group.bench_function("greenroom_again", |b| b.iter(|| add(&black_box(&ours).lock())));
    drop(held);
    let peers = parking_lot::ReentrantMutex::new(Cell::new(0_u64));
    group.bench_function("parking_lot", |b| b.iter(|| add(&black_box(&peers).lock())));
    let stds = std::sync::Mutex::new(0_u64);
    group.bench_function("std_mutex", |b| b.iter(|| *black_box(&stds).lock().expect("nobody panics") += 1));
    group.finish();
}

fn rwlock(c: &mut Criterion) {
    let mut group = group(c, "uncontended/rwlock_read");
    let ours = RwLock::new(0_u64);
    group.bench_function("greenroom", |b| b.iter(|| *black_box(&ours).read().expect("nobody panics")));
    let stds = std::sync::RwLock::new(0_u64);
    group.bench_function("std", |b| b.iter(|| *black_box(&stds).read().expect("nobody panics")));
    group.finish();
}

/// std has no semaphore: its lock is the nearest.
fn semaphore(c: &mut Criterion) {
    let mut group = group(c, "uncontended/semaphore");
    let ours = Semaphore::new(1);
    group.bench_function("greenroom", |b| b.iter(|| drop(black_box(&ours).acquire())));
    let tokios = tokio::sync::Semaphore::new(1);
    group.bench_function("tokio", |b| b.iter(|| drop(black_box(&tokios).try_acquire().expect("it is free"))));
    let stds = std::sync::Mutex::new(());
    group.bench_function("std_mutex", |b| b.iter(|| drop(black_box(&stds).lock().expect("nobody panics"))));
    group.finish();
}

/// std has no event: whether a cell is set is the nearest.
fn event(c: &mut Criterion) {
    let mut group = group(c, "uncontended/event_is_set");
    let ours = Event::new();
    ours.set();
    group.bench_function("greenroom", |b| b.iter(|| black_box(&ours).is_set()));
    let stds = OnceLock::from(());
    group.bench_function("std_once_lock", |b| b.iter(|| black_box(&stds).get().is_some()));
    group.finish();
}

fn queue(c: &mut Criterion) {
    let mut group = group(c, "uncontended/try_put_try_get");
    let ours = Queue::bounded(64);
    group.bench_function("greenroom", |b| {
        b.iter(|| {
            black_box(&ours).try_put(1_u64).expect("there is room");
            black_box(&ours).try_get().expect("it was just put")
        });
    });
    let (sender, receiver) = crossbeam_channel::bounded(64);
    group.bench_function("crossbeam_channel", |b| {
        b.iter(|| {
            black_box(&sender).try_send(1_u64).expect("there is room");
            black_box(&receiver).try_recv().expect("it was just sent")
        });
    });
    let (sender, receiver) = std::sync::mpsc::sync_channel(64);
    group.bench_function("std_mpsc", |b| {
        b.iter(|| {
            black_box(&sender).try_send(1_u64).expect("there is room");
            black_box(&receiver).try_recv().expect("it was just sent")
        });
    });
    group.finish();
}

criterion_group!(benches, mutex, reentrant_mutex, rwlock, semaphore, event, queue);
criterion_main!(benches);
