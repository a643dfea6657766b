//! Queues between hubs and native threads.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use greenroom::queue::{Channel, GetError, PutError, Queue};
use greenroom::{HubHandle, joinall, sleep, spawn, yield_now};

use crate::common::{EVER, MS, check};
use crate::kinds::{Kind, for_all};

fn native_threads_put_and_tasks_get<Q: Kind>() {
    let queue = Arc::new(Q::make(Some(4)));
    let putters: Vec<_> = (0..2)
        .map(|_| {
            let queue = queue.clone();
            thread::spawn(move || (0..2000).for_each(|item| queue.put(item).unwrap()))
        })
        .collect();
    let getters: Vec<_> = (0..10)
        .map(|_| {
            let queue = queue.clone();
            spawn(move || queue.until_end())
        })
        .collect();
    let closer = spawn(move || {
        // A task waits for the natives' items while the others run.
        while putters.iter().any(|putter| !putter.is_finished()) {
            sleep(MS);
        }
        putters.into_iter().for_each(|putter| putter.join().unwrap());
        queue.shutdown();
    });
    let mut all: Vec<u64> = joinall(getters).into_iter().flat_map(|got| got.unwrap()).collect();
    closer.join().unwrap();
    all.sort_unstable();
    assert_eq!(all, (0..2000).flat_map(|item| [item; 2]).collect::<Vec<_>>());
}

#[test]
fn natives_put() {
    for_all!(native_threads_put_and_tasks_get);
    check(native_threads_put_and_tasks_get::<Channel<u64>>);
}

fn tasks_put_and_native_threads_get<Q: Kind>() {
    let queue = Arc::new(Q::make(Some(4)));
    let getters: Vec<_> = (0..2)
        .map(|_| {
            let queue = queue.clone();
            thread::spawn(move || queue.until_end())
        })
        .collect();
    let putters: Vec<_> = (0..10)
        .map(|task| {
            let queue = queue.clone();
            spawn(move || (0..200).for_each(|item| queue.put(200 * task + item).unwrap()))
        })
        .collect();
    joinall(putters);
    queue.shutdown();
    let mut all: Vec<u64> = getters.into_iter().flat_map(|getter| getter.join().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..2000).collect::<Vec<_>>());
}

#[test]
fn natives_get() {
    for_all!(tasks_put_and_native_threads_get);
    check(tasks_put_and_native_threads_get::<Channel<u64>>);
}

#[test]
fn a_task_waits_for_a_native_thread_while_others_run() {
    check(|| {
        let queue = Arc::new(Queue::unbounded());
        let (other, ticks) = (queue.clone(), Rc::new(Cell::new(0)));
        let (tell, told) = channel();
        let native = thread::spawn(move || {
            told.recv().unwrap();
            other.put(1).unwrap();
        });
        let count = ticks.clone();
        let ticker = spawn(move || {
            for _ in 0..10 {
                sleep(MS);
                count.set(count.get() + 1);
            }
            tell.send(()).unwrap();
        });
        assert_eq!((queue.get(), ticks.get()), (Ok(1), 10));
        ticker.join().unwrap();
        native.join().unwrap();
    });
}

#[test]
fn native_threads_wait_for_each_other() {
    let queue = Arc::new(Queue::bounded(1));
    let start = |f: fn(&Queue<u8>) -> Vec<bool>| {
        let queue = queue.clone();
        thread::spawn(move || f(&queue))
    };
    let getter =
        start(|queue| vec![queue.get() == Ok(1), queue.peek_timeout(MS).is_err(), queue.get_timeout(MS).is_err()]);
    queue.put(1).unwrap();
    assert_eq!(getter.join().unwrap(), [true; 3]);

    let peeker = start(|queue| vec![queue.peek() == Ok(2)]);
    let joiner = start(|queue| {
        queue.join();
        vec![queue.unfinished() == 0]
    });
    queue.put(2).unwrap();
    assert_eq!(peeker.join().unwrap(), [true]);
    let putter = start(|queue| vec![queue.put(3).is_ok()]);
    assert_eq!((queue.get(), queue.get()), (Ok(2), Ok(3)));
    assert_eq!(putter.join().unwrap(), [true]);
    (0..3).for_each(|_| queue.task_done());
    assert_eq!(joiner.join().unwrap(), [true]);
}

#[test]
fn shutdown_reaches_every_thread() {
    check(|| {
        let queue = Arc::new(Queue::<u8>::bounded(0));
        let natives: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || queue.get())
            })
            .collect();
        let hubs: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || {
                    let queue = Rc::new(queue);
                    let tasks = (0..10).map(|_| {
                        let queue = queue.clone();
                        spawn(move || queue.get())
                    });
                    joinall(tasks.collect::<Vec<_>>()).into_iter().map(|result| result.unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        sleep(MS);
        queue.shutdown();
        assert!(natives.into_iter().all(|native| native.join().unwrap() == Err(GetError::ShutDown)));
        assert!(hubs.into_iter().flat_map(|hub| hub.join().unwrap()).all(|got| got == Err(GetError::ShutDown)));
        assert_eq!(queue.put(1), Err(PutError::ShutDown(1)));
    });
}

/// A task of another hub that is killed with an item in its hands gives it to one of this hub.
#[test]
fn an_item_goes_from_a_killed_task_to_another_hub() {
    check(|| {
        let queue = Arc::new(Queue::unbounded());
        for _ in 0..50 {
            let other = queue.clone();
            let (tell, told) = channel();
            let (kill, killed) = channel::<()>();
            let thread = thread::spawn(move || {
                let getter = spawn(move || other.get().unwrap());
                yield_now();
                tell.send(()).unwrap();
                killed.recv().unwrap();
                // The item is in its hands by now, or will be.
                getter.kill();
            });
            told.recv().unwrap();
            queue.put(1).unwrap();
            kill.send(()).unwrap();
            assert_eq!(queue.get_timeout(EVER), Ok(1));
            thread.join().unwrap();
        }
        assert_eq!((queue.len(), queue.unfinished()), (0, 50));
    });
}

#[test]
fn a_static_is_shared_by_hubs() {
    static JOBS: Channel<u32> = Channel::new();
    check(|| {
        let worker = thread::spawn(|| {
            greenroom::run(|| {
                let tasks: Vec<_> = (0..4).map(|_| spawn(|| JOBS.iter().sum::<u32>())).collect();
                joinall(tasks).into_iter().map(|sum| sum.unwrap()).sum::<u32>()
            })
        });
        (1..=100).for_each(|job| JOBS.put(job).unwrap());
        JOBS.shutdown();
        assert_eq!(worker.join().unwrap(), 5050);
    });
}

#[test]
fn handles_of_hubs_and_queues_work_together() {
    check(|| {
        let replies = Arc::new(Queue::unbounded());
        let hub = HubHandle::current();
        let other = replies.clone();
        let native = thread::spawn(move || {
            let inner = other.clone();
            hub.spawn(move || inner.put("from the task").unwrap()).join().unwrap();
            other.put("from the thread").unwrap();
        });
        assert_eq!((replies.get(), replies.get()), (Ok("from the task"), Ok("from the thread")));
        native.join().unwrap();
    });
}
