//! The scenarios of CPython's `test_queue`, re-created.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use greenroom::queue::{
    GetError, GetTimeoutError, LifoQueue, PriorityQueue, PutError, Queue, TryGetError, TryPutError,
};
use greenroom::{joinall, sleep, spawn};

use crate::common::{MS, check, panic_of, soon};
use crate::kinds::{Kind, for_all};

const SIZE: usize = 5;

/// Runs `call`, which has to wait until `trigger` has been called by another task.
fn blocking<R>(call: impl FnOnce() -> R, trigger: impl FnOnce() + 'static) -> R {
    let other = spawn(trigger);
    assert!(!other.is_finished());
    let result = call();
    assert!(other.is_finished(), "the call did not wait");
    other.join().unwrap();
    result
}

/// `simple_queue_test`.
fn simple<Q: Kind>(order: [u64; 3]) {
    let queue = Rc::new(Q::make(Some(SIZE)));
    assert_eq!(queue.len(), 0);
    for item in [111, 333, 222] {
        queue.put(item).unwrap();
    }
    assert_eq!([queue.get(), queue.get(), queue.get()], order.map(Ok));

    for item in 0..SIZE as u64 - 1 {
        queue.put(item).unwrap();
        assert!(queue.len() > 0 && !queue.is_full());
    }
    let last = 2 * SIZE as u64;
    let full = 3 * 2 * SIZE as u64;
    queue.put(last).unwrap();
    assert!(queue.is_full());
    assert_eq!(queue.try_put(full), Err(TryPutError::Full(full)));
    assert!(queue.put_timeout(full, MS).unwrap_err().is_elapsed());
    let other = queue.clone();
    blocking(|| queue.put(full).unwrap(), move || assert!(other.get().is_ok()));
    let other = queue.clone();
    blocking(|| queue.put_timeout(full, Duration::from_secs(10)).unwrap(), move || assert!(other.get().is_ok()));

    for _ in 0..SIZE {
        queue.get().unwrap();
    }
    assert_eq!(queue.len(), 0);
    assert_eq!(queue.try_get(), Err(TryGetError::Empty));
    assert_eq!(queue.get_timeout(MS), Err(GetTimeoutError::Elapsed));
    let other = queue.clone();
    assert_eq!(blocking(|| queue.get(), move || other.put(1).unwrap()), Ok(1));
    let other = queue.clone();
    assert_eq!(blocking(|| queue.get_timeout(Duration::from_secs(10)), move || other.put(1).unwrap()), Ok(1));
}

#[test]
fn test_basic() {
    check(|| simple::<Queue<u64>>([111, 333, 222]));
    check(|| simple::<LifoQueue<u64>>([222, 333, 111]));
    check(|| simple::<PriorityQueue<u64>>([111, 222, 333]));
}

fn task_done_and_join<Q: Kind>() {
    let queue = Rc::new(Q::make(None));
    assert!(panic_of(|| queue.task_done()).contains("more often than items were put"));

    let total = Rc::new(std::cell::Cell::new(0));
    for round in 0..2 {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, total) = (queue.clone(), total.clone());
                spawn(move || {
                    loop {
                        let item = queue.get().unwrap();
                        if item == u64::MAX {
                            return queue.task_done();
                        }
                        total.set(total.get() + item);
                        queue.task_done();
                    }
                })
            })
            .collect();
        for item in 0..100 {
            queue.put(item).unwrap();
        }
        queue.join();
        assert_eq!(total.get(), (round + 1) * (0..100).sum::<u64>());
        for _ in &workers {
            queue.put(u64::MAX).unwrap();
        }
        queue.join();
        joinall(workers);
    }
    assert!(panic_of(|| queue.task_done()).contains("more often than items were put"));
}

#[test]
fn test_queue_task_done_and_join() {
    for_all!(task_done_and_join);
}

fn negative_and_zero_timeouts<Q: Kind>() {
    let queue = Q::make(Some(1));
    assert!(soon(|| queue.get_timeout(Duration::ZERO)).unwrap_err().is_elapsed());
    queue.put_timeout(1, Duration::ZERO).unwrap();
    assert!(soon(|| queue.put_timeout(2, Duration::ZERO)).unwrap_err().is_elapsed());
    assert_eq!(queue.get_timeout(Duration::ZERO), Ok(1));
    let begun = Instant::now();
    assert!(queue.get_timeout(3 * MS).is_err());
    assert!(begun.elapsed() >= 3 * MS);
}

#[test]
fn test_timeouts() {
    for_all!(negative_and_zero_timeouts);
}

fn shutdown_empty_nonempty_immediate<Q: Kind>() {
    let queue = Q::make(None);
    queue.shutdown();
    assert!(queue.put(1).is_err() && queue.get() == Err(GetError::ShutDown));

    let queue = Q::make(None);
    queue.put(1).unwrap();
    queue.shutdown();
    assert_eq!(queue.get(), Ok(1));
    assert_eq!(queue.get(), Err(GetError::ShutDown));

    let queue = Q::make(None);
    queue.put(1).unwrap();
    assert_eq!(queue.shutdown_now(), [1]);
    assert_eq!(queue.get(), Err(GetError::ShutDown));

    // Allowed transitions: either after either, and again.
    for calls in [[false, true], [true, false], [false, false], [true, true]] {
        let queue = Q::make(None);
        queue.put(1).unwrap();
        let mut left = Vec::new();
        for now in calls {
            if now { left.extend(queue.shutdown_now()) } else { queue.shutdown() }
        }
        assert_eq!(left.len(), usize::from(calls.contains(&true)));
        assert_eq!(queue.put(2), Err(PutError::ShutDown(2)));
    }
}

#[test]
fn test_shutdown_transitions() {
    for_all!(shutdown_empty_nonempty_immediate);
}

fn shutdown_pending_put_get_join<Q: Kind>() {
    for now in [false, true] {
        let queue = Rc::new(Q::make(Some(1)));
        queue.put(0).unwrap();
        let (putter, joiner) = (queue.clone(), queue.clone());
        let (putter, joiner) = (spawn(move || putter.put(1)), spawn(move || joiner.join()));
        sleep(MS);
        if now {
            assert_eq!(queue.shutdown_now(), [0]);
        } else {
            queue.shutdown();
            assert_eq!(queue.get(), Ok(0));
            sleep(MS);
            assert!(!joiner.is_finished());
            queue.task_done();
        }
        assert_eq!(putter.join().unwrap(), Err(PutError::ShutDown(1)));
        joiner.join().unwrap();
    }
}

#[test]
fn test_shutdown_pending() {
    for_all!(shutdown_pending_put_get_join);
}

/// `test_shutdown_all_methods_in_many_threads`.
fn all_methods_in_many_threads<Q: Kind>() {
    for now in [false, true] {
        let queue = Arc::new(Q::make(Some(8)));
        let (put, got, left) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    while queue.put(1).is_ok() {
                        put.fetch_add(1, Ordering::Relaxed);
                    }
                });
                s.spawn(|| {
                    while let Ok(item) = queue.get() {
                        got.fetch_add(item, Ordering::Relaxed);
                        queue.task_done();
                    }
                });
            }
            s.spawn(|| queue.join());
            while got.load(Ordering::Relaxed) < 500 {
                thread::yield_now();
            }
            if now {
                left.fetch_add(queue.shutdown_now().len() as u64, Ordering::Relaxed);
            } else {
                queue.shutdown();
            }
        });
        assert_eq!(put.into_inner(), got.into_inner() + left.into_inner());
        assert_eq!((queue.len(), queue.unfinished()), (0, 0));
    }
}

#[test]
fn test_shutdown_all_methods_in_many_threads() {
    all_methods_in_many_threads::<Queue<u64>>();
    all_methods_in_many_threads::<LifoQueue<u64>>();
    all_methods_in_many_threads::<PriorityQueue<u64>>();
    all_methods_in_many_threads::<greenroom::queue::Channel<u64>>();
}

/// `test_many_threads` of `SimpleQueue`: order is kept for each who puts, and nothing is lost.
#[test]
fn test_many_threads() {
    let queue = Arc::new(Queue::unbounded());
    thread::scope(|s| {
        for feeder in 0..4_u64 {
            let queue = queue.clone();
            s.spawn(move || (0..500).for_each(|i| queue.put((feeder, i)).unwrap()));
        }
        let getters: Vec<_> = (0..2)
            .map(|_| {
                s.spawn(|| {
                    let mut seen = [const { Vec::new() }; 4];
                    for _ in 0..1000 {
                        let (feeder, i) = queue.get().unwrap();
                        seen[feeder as usize].push(i);
                    }
                    seen
                })
            })
            .collect();
        let all: Vec<_> = getters.into_iter().map(|getter| getter.join().unwrap()).collect();
        for feeder in 0..4 {
            assert!(all.iter().all(|seen| seen[feeder].is_sorted()));
            assert_eq!(all.iter().map(|seen| seen[feeder].len()).sum::<usize>(), 500);
        }
    });
}

/// `test_references`: a queue keeps no item that it gave away.
#[test]
fn test_references() {
    let (queue, item) = (Queue::unbounded(), Rc::new(()));
    for _ in 0..20 {
        queue.put(item.clone()).unwrap();
    }
    for left in (0..20).rev() {
        drop(queue.get());
        assert_eq!(Rc::strong_count(&item), left + 1);
    }
    queue.put(item.clone()).unwrap();
    drop(queue);
    assert_eq!(Rc::strong_count(&item), 1);
}

/// `test_reentrancy`: a destructor that runs during a put may put.
#[test]
fn test_reentrancy() {
    struct Puts(Rc<Queue<u32>>);
    impl Drop for Puts {
        fn drop(&mut self) {
            self.0.put(2).unwrap();
        }
    }
    let queue = Rc::new(Queue::unbounded());
    let puts = Rc::new(Queue::bounded(1));
    puts.put(Puts(queue.clone())).unwrap();
    drop(puts.try_put(Puts(queue.clone())));
    drop(puts);
    assert_eq!(queue.len(), 2);
}
