//! What all of `sync` promises: first come first served, nothing lost by those who are killed, any thread.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use greenroom::sync::Mutex;
use greenroom::{joinall, sleep, spawn, yield_now};

mod common;
use common::Log;

#[test]
fn those_who_wait_for_a_mutex_get_it_in_order_and_nobody_overtakes() {
    let (mutex, log) = (Rc::new(Mutex::new(())), Log::default());
    let guard = mutex.lock().unwrap();
    let tasks: Vec<_> = (0..3)
        .map(|i| {
            let (mutex, log) = (mutex.clone(), log.clone());
            spawn(move || {
                let _guard = mutex.lock().unwrap();
                log.add(i.to_string());
            })
        })
        .collect();
    yield_now();
    drop(guard);
    assert!(mutex.try_lock().is_err(), "it was handed over");
    joinall(tasks);
    assert_eq!(log.take(), ["0", "1", "2"]);
}

#[test]
fn a_waiter_killed_after_it_was_handed_the_mutex_passes_it_on() {
    let mutex = Rc::new(Mutex::new(0));
    let guard = mutex.lock().unwrap();
    let take = |mutex: &Rc<Mutex<i32>>| {
        let mutex = mutex.clone();
        spawn(move || *mutex.lock().unwrap() += 1)
    };
    let (first, second) = (take(&mutex), take(&mutex));
    yield_now();
    drop(guard);
    first.kill_nowait();
    second.join().unwrap();
    assert!(first.join().unwrap_err().is_killed());
    assert_eq!(*mutex.lock().unwrap(), 1);
}

#[test]
fn a_mutex_between_hubs_and_native_threads_counts_exactly() {
    let total = Arc::new(Mutex::new(0_u64));
    let threads: Vec<_> = (0..3)
        .map(|kind| {
            let total = total.clone();
            thread::spawn(move || {
                if kind == 0 {
                    for _ in 0..2000 {
                        *total.lock().unwrap() += 1;
                    }
                    return;
                }
                let tasks: Vec<_> = (0..100)
                    .map(|_| {
                        let total = total.clone();
                        spawn(move || {
                            for _ in 0..20 {
                                let mut total = total.lock().unwrap();
                                yield_now();
                                *total += 1;
                            }
                        })
                    })
                    .collect();
                joinall(tasks);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*total.lock().unwrap(), 6000);
}

#[test]
fn a_task_waits_for_a_native_thread_while_others_run() {
    let mutex = Arc::new(Mutex::new(()));
    let guard = mutex.lock().unwrap();
    let other = mutex.clone();
    let native = thread::spawn(move || drop(other.lock().unwrap()));
    let ticks = Rc::new(Cell::new(0));
    let counter = ticks.clone();
    let ticker = spawn(move || {
        for _ in 0..10 {
            sleep(Duration::from_millis(1));
            counter.set(counter.get() + 1);
        }
    });
    ticker.join().unwrap();
    drop(guard);
    native.join().unwrap();
    assert_eq!(ticks.get(), 10);
}
