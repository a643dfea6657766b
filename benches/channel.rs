//! Sends and receives: the time of one item, alone, to and fro, from many, and between threads.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main, measurement::WallTime};
use greenroom::queue::{Channel, Queue};
use greenroom::sync::mpsc;
use greenroom_benches::scaled;

type Group<'a> = criterion::BenchmarkGroup<'a, WallTime>;

const BOUND: usize = 64;
const PRODUCERS: u64 = 100;

fn group<'a>(c: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

/// Times `f` once for each number of iterations, in a task.
fn in_task(group: &mut Group<'_>, name: &str, f: impl Fn(u64) -> Duration + Copy + 'static) {
    group.bench_function(name, |b| {
        b.iter_custom(|iters| greenroom::spawn(move || f(iters)).join().expect("it does not panic"));
    });
}

/// As `in_task`, for tokio's tasks.
fn in_tokio<F: Future<Output = Duration> + 'static>(group: &mut Group<'_>, name: &str, f: impl Fn(u64) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    group.bench_function(name, |b| {
        b.iter_custom(|iters| runtime.block_on(f(iters)));
    });
}

/// Nobody waits: an item is sent and received, by one thread that has a hub.
fn alone(c: &mut Criterion) {
    greenroom::yield_now();
    let mut group = group(c, "channel/send_try_recv");
    macro_rules! row {
        ($name:expr, $channel:expr, $send:ident) => {
            #[allow(unused_mut, reason = "tokio's receivers want it")]
            let (sender, mut receiver) = $channel;
            group.bench_function($name, |b| {
                b.iter(|| {
                    black_box(&sender).$send(1_u64).expect("the receiver is there");
                    black_box(receiver.try_recv()).expect("it was just sent")
                });
            });
        };
    }
    row!("unbounded/greenroom", mpsc::channel(), send);
    row!("unbounded/std", std::sync::mpsc::channel(), send);
    row!("unbounded/crossbeam", crossbeam_channel::unbounded(), send);
    row!("unbounded/tokio", tokio::sync::mpsc::unbounded_channel(), send);
    row!("bounded/greenroom", mpsc::sync_channel(BOUND), send);
    row!("bounded/std", std::sync::mpsc::sync_channel(BOUND), send);
    row!("bounded/crossbeam", crossbeam_channel::bounded(BOUND), send);
    row!("bounded/tokio", tokio::sync::mpsc::channel(BOUND), try_send);
    group.finish();
}

/// Two tasks of one thread, each waiting for the other: the time of a round trip, which is two items.
fn ping_pong(c: &mut Criterion) {
    let mut group = group(c, "channel/ping_pong");
    in_task(&mut group, "greenroom", |iters| {
        let (there, come) = mpsc::channel();
        let (back, answers) = mpsc::channel();
        let partner = greenroom::spawn(move || come.iter().for_each(|i: u64| back.send(i).expect("it waits")));
        let start = Instant::now();
        for i in 0..iters {
            there.send(i).expect("it waits");
            answers.recv().expect("it answers");
        }
        let took = start.elapsed();
        drop(there);
        partner.join().expect("it does not panic");
        took
    });
    in_task(&mut group, "greenroom/Channel", |iters| {
        let (there, back) = (Rc::new(Channel::new()), Rc::new(Channel::new()));
        let (come, answers) = (there.clone(), back.clone());
        let partner = greenroom::spawn(move || come.iter().for_each(|i: u64| back.put(i).expect("it waits")));
        let start = Instant::now();
        for i in 0..iters {
            there.put(i).expect("it waits");
            answers.get().expect("it answers");
        }
        let took = start.elapsed();
        there.shutdown();
        partner.join().expect("it does not panic");
        took
    });
    may::config().set_workers(1);
    group.bench_function("may", |b| {
        b.iter_custom(|iters| {
            let (there, come) = may::sync::mpsc::channel();
            let (back, answers) = may::sync::mpsc::channel();
            // SAFETY: neither coroutine uses a thread-local, nor a deep stack.
            let partner = unsafe {
                may::coroutine::spawn(move || come.iter().for_each(|i: u64| back.send(i).expect("it waits")))
            };
            let body = move || {
                let start = Instant::now();
                for i in 0..iters {
                    there.send(i).expect("it waits");
                    answers.recv().expect("it answers");
                }
                start.elapsed()
            };
            // SAFETY: as above.
            let measured = unsafe { may::coroutine::spawn(body) };
            let took = measured.join().expect("it does not panic");
            partner.join().expect("it does not panic");
            took
        });
    });
    in_tokio(&mut group, "tokio", |iters| async move {
        let (there, mut come) = tokio::sync::mpsc::unbounded_channel();
        let (back, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let measured = tokio::spawn(async move {
            let start = Instant::now();
            for i in 0..iters {
                there.send(i).expect("it waits");
                answers.recv().await.expect("it answers");
            }
            start.elapsed()
        });
        tokio::spawn(async move {
            while let Some(i) = come.recv().await {
                let i: u64 = i;
                back.send(i).expect("it waits");
            }
        });
        measured.await.expect("it does not panic")
    });
    group.finish();
}

/// As `ping_pong`, and no item is stored: both ends meet.
fn rendezvous(c: &mut Criterion) {
    let mut group = group(c, "channel/rendezvous");
    in_task(&mut group, "greenroom", |iters| {
        let (sender, receiver) = mpsc::sync_channel(0);
        let partner = greenroom::spawn(move || receiver.iter().for_each(|i: u64| assert!(i < iters)));
        let start = Instant::now();
        for i in 0..iters {
            sender.send(i).expect("it waits");
        }
        let took = start.elapsed();
        drop(sender);
        partner.join().expect("it does not panic");
        took
    });
    group.finish();
}

/// A hundred tasks send to one, all on one thread: the time of one item.
fn many(c: &mut Criterion) {
    let mut group = group(c, "channel/many");
    macro_rules! ours {
        ($name:expr, $channel:expr) => {
            in_task(&mut group, $name, |iters| {
                scaled(iters, PRODUCERS, |rounds| {
                    let (sender, receiver) = $channel;
                    let start = Instant::now();
                    for _ in 0..PRODUCERS {
                        let sender = sender.clone();
                        greenroom::spawn(move || (0..rounds).for_each(|i| sender.send(i).expect("it waits")));
                    }
                    drop(sender);
                    assert_eq!(receiver.iter().count() as u64, rounds * PRODUCERS);
                    start.elapsed()
                })
            });
        };
    }
    macro_rules! queues {
        ($name:expr, $queue:expr) => {
            in_task(&mut group, $name, |iters| {
                scaled(iters, PRODUCERS, |rounds| {
                    let queue = Rc::new($queue);
                    let start = Instant::now();
                    for _ in 0..PRODUCERS {
                        let queue = queue.clone();
                        greenroom::spawn(move || (0..rounds).for_each(|i| queue.put(i).expect("it is open")));
                    }
                    for _ in 0..rounds * PRODUCERS {
                        black_box(queue.get()).expect("it is open");
                    }
                    start.elapsed()
                })
            });
        };
    }
    macro_rules! tokios {
        ($name:expr, $channel:expr, $($wait:tt)*) => {
            in_tokio(&mut group, $name, |iters| async move {
                let rounds = iters.div_ceil(PRODUCERS);
                let (sender, mut receiver) = $channel;
                let start = Instant::now();
                for _ in 0..PRODUCERS {
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        for i in 0..rounds {
                            sender.send(i)$($wait)*.expect("it waits");
                        }
                    });
                }
                drop(sender);
                let consumer = tokio::spawn(async move {
                    let mut count = 0;
                    while let Some(_) = receiver.recv().await {
                        count += 1;
                    }
                    assert_eq!(count, rounds * PRODUCERS);
                    start.elapsed()
                });
                let took = consumer.await.expect("it does not panic");
                took.mul_f64(iters as f64 / (rounds * PRODUCERS) as f64)
            });
        };
    }
    ours!("unbounded/greenroom", mpsc::channel());
    queues!("unbounded/greenroom/Queue", Queue::unbounded());
    tokios!("unbounded/tokio", tokio::sync::mpsc::unbounded_channel(),);
    ours!("bounded/greenroom", mpsc::sync_channel(BOUND));
    queues!("bounded/greenroom/Queue", Queue::bounded(BOUND));
    tokios!("bounded/tokio", tokio::sync::mpsc::channel(BOUND), .await);
    group.finish();
}

/// One native thread sends and another receives, both without a hub: the time of one item.
fn threads(c: &mut Criterion) {
    let mut group = group(c, "channel/threads");
    macro_rules! row {
        ($name:expr, $channel:expr) => {
            group.bench_function($name, |b| {
                b.iter_custom(|iters| {
                    let (sender, receiver) = $channel;
                    let start = Instant::now();
                    let producer = thread::spawn(move || (0..iters).for_each(|i| sender.send(i).expect("it waits")));
                    let consumer = thread::spawn(move || assert_eq!(receiver.iter().count() as u64, iters));
                    producer.join().expect("it does not panic");
                    consumer.join().expect("it does not panic");
                    start.elapsed()
                });
            });
        };
    }
    macro_rules! queue {
        ($name:expr, $queue:expr) => {
            group.bench_function($name, |b| {
                b.iter_custom(|iters| {
                    let queue = Arc::new($queue);
                    let (sender, receiver) = (queue.clone(), queue);
                    let start = Instant::now();
                    let producer = thread::spawn(move || (0..iters).for_each(|i| sender.put(i).expect("it is open")));
                    let consumer = thread::spawn(move || {
                        for _ in 0..iters {
                            black_box(receiver.get()).expect("it is open");
                        }
                    });
                    producer.join().expect("it does not panic");
                    consumer.join().expect("it does not panic");
                    start.elapsed()
                });
            });
        };
    }
    row!("unbounded/greenroom", mpsc::channel());
    queue!("unbounded/greenroom/Queue", Queue::unbounded());
    row!("unbounded/std", std::sync::mpsc::channel());
    row!("unbounded/crossbeam", crossbeam_channel::unbounded());
    row!("bounded/greenroom", mpsc::sync_channel(BOUND));
    queue!("bounded/greenroom/Queue", Queue::bounded(BOUND));
    row!("bounded/std", std::sync::mpsc::sync_channel(BOUND));
    row!("bounded/crossbeam", crossbeam_channel::bounded(BOUND));
    group.finish();
}

/// Two native threads, each waiting for the other: the time of a round trip, which is two items.
fn threads_ping_pong(c: &mut Criterion) {
    let mut group = group(c, "channel/threads_ping_pong");
    macro_rules! row {
        ($name:expr, $channel:path) => {
            group.bench_function($name, |b| {
                b.iter_custom(|iters| {
                    let ((there, come), (back, answers)) = ($channel(), $channel());
                    let partner = thread::spawn(move || come.iter().for_each(|i: u64| back.send(i).expect("it waits")));
                    let measured = thread::spawn(move || {
                        let start = Instant::now();
                        for i in 0..iters {
                            there.send(i).expect("it waits");
                            answers.recv().expect("it answers");
                        }
                        start.elapsed()
                    });
                    let took = measured.join().expect("it does not panic");
                    partner.join().expect("it does not panic");
                    took
                });
            });
        };
    }
    row!("greenroom", mpsc::channel);
    row!("std", std::sync::mpsc::channel);
    row!("crossbeam", crossbeam_channel::unbounded);
    group.finish();
}

criterion_group!(benches, alone, ping_pong, rendezvous, many, threads, threads_ping_pong);
criterion_main!(benches);
