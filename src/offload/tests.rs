//! Workers that leave at once when they are idle, so that coming and going meet jobs in every order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{Owner, ThreadPool, Workers};

fn restless(size: usize, idle_for: Duration) -> ThreadPool {
    ThreadPool(Arc::new(Owner(Arc::new(Workers::new(size, "restless", idle_for)))))
}

#[test]
fn an_idle_worker_leaves_and_the_next_job_has_one_again() {
    let pool = restless(3, Duration::ZERO);
    for round in 0..50 {
        assert_eq!(pool.apply(move || round), round);
        while pool.threads() > 0 {
            thread::yield_now();
        }
    }
}

#[test]
fn no_job_is_lost_while_workers_come_and_go() {
    for idle_for in [Duration::ZERO, Duration::from_micros(20)] {
        let pool = restless(3, idle_for);
        let done = Arc::new(AtomicUsize::new(0));
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let (pool, done) = (pool.clone(), done.clone());
                thread::spawn(move || {
                    for round in 0..300 {
                        let theirs = done.clone();
                        let job = pool.spawn(move || theirs.fetch_add(1, Ordering::Relaxed));
                        match round % 3 {
                            0 => assert!(job.join().is_ok()),
                            1 if job.cancel() => _ = done.fetch_add(1, Ordering::Relaxed),
                            _ => {}
                        }
                        pool.set_size(1 + round % 4);
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        pool.join();
        assert_eq!(done.load(Ordering::Relaxed), 900);
        assert_eq!((pool.len(), pool.queued()), (0, 0));
        while pool.threads() > 0 {
            thread::yield_now();
        }
    }
}
