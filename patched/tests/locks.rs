//! Locks, channels and what else waits for others: std's, crossbeam's and parking_lot's, between tasks of one thread, tasks of
//! another, and native threads.

#![allow(missing_docs, reason = "a test binary")]

use crossbeam_channel::{bounded, select, unbounded};
use greenroom_patched::{MS, check, everywhere, go, overlap};
use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock};
use std::thread;
use std::time::Duration;

/// Tasks here, tasks there, and native threads.
const EACH: usize = 20;
const ALL: usize = 3 * EACH;
const ROUNDS: usize = 50;

fn test(body: impl FnOnce() + Send + 'static) {
    check(|| (), |()| body());
}

/// Gives others a chance to come in between.
fn linger(i: usize) {
    match i % 3 {
        0 => thread::sleep(Duration::from_micros(50)),
        1 => thread::yield_now(),
        _ => {}
    }
}

#[test]
fn a_mutex_of_std_excludes() {
    test(|| {
        let count = Arc::new(Mutex::new(0));
        let shared = count.clone();
        everywhere(EACH, move |i| {
            for round in 0..ROUNDS {
                let mut count = shared.lock().unwrap();
                let before = *count;
                linger(i + round);
                *count = before + 1;
            }
        });
        assert_eq!(*count.lock().unwrap(), ALL * ROUNDS);
    });
}

#[test]
fn a_lock_of_std_has_many_readers_or_one_writer() {
    test(|| {
        let pair = Arc::new(RwLock::new((0, 0)));
        let shared = pair.clone();
        everywhere(EACH, move |i| {
            for round in 0..ROUNDS {
                if (i + round) % 4 == 0 {
                    let mut pair = shared.write().unwrap();
                    pair.0 += 1;
                    linger(i + round);
                    pair.1 += 1;
                } else {
                    let pair = shared.read().unwrap();
                    linger(i + round);
                    assert_eq!(pair.0, pair.1);
                }
            }
        });
        let written = (0..ALL).map(|i| (0..ROUNDS).filter(|round| (i + round) % 4 == 0).count()).sum();
        assert_eq!(*pair.read().unwrap(), (written, written));
    });
}

/// A queue of four places, of a lock and two conditions; half of all put, the other half take.
#[test]
fn conditions_of_std_lose_nothing() {
    #[derive(Default)]
    struct Queue {
        items: Mutex<VecDeque<usize>>,
        filled: Condvar,
        emptied: Condvar,
    }
    test(|| {
        let (queue, sum) = (Arc::new(Queue::default()), Arc::new(AtomicUsize::new(0)));
        let taken = sum.clone();
        everywhere(EACH, move |i| {
            for round in 0..ROUNDS {
                if i % 2 == 0 {
                    let items = queue.items.lock().unwrap();
                    let mut items = queue.emptied.wait_while(items, |items| items.len() == 4).unwrap();
                    items.push_back(i * ROUNDS + round);
                    queue.filled.notify_one();
                } else {
                    let mut items = queue.items.lock().unwrap();
                    while items.is_empty() {
                        items = queue.filled.wait_timeout(items, Duration::from_secs(100)).unwrap().0;
                    }
                    taken.fetch_add(items.pop_front().unwrap(), Ordering::Relaxed);
                    queue.emptied.notify_one();
                }
            }
        });
        let wanted =
            (0..ALL).filter(|i| i % 2 == 0).flat_map(|i| (0..ROUNDS).map(move |round| i * ROUNDS + round)).sum();
        assert_eq!(sum.load(Ordering::Relaxed), wanted);
    });
}

#[test]
fn a_condition_of_std_keeps_its_timeout() {
    test(|| {
        let (timed_out, stats) = overlap(100, |_| {
            let (mutex, condition) = (Mutex::new(()), Condvar::new());
            condition.wait_timeout_while(mutex.lock().unwrap(), 100 * MS, |()| true).unwrap().1.timed_out()
        });
        assert!(timed_out.into_iter().all(|timed_out| timed_out));
        assert!(stats.on_one_thread(0).wall < 100 * 100 * MS / 4, "{stats:?}");
    });
}

/// The first to come takes its time; all others wait for it.
#[test]
fn what_is_done_once_is_done_once() {
    static LAZY: LazyLock<usize> = LazyLock::new(|| {
        thread::sleep(20 * MS);
        7
    });
    test(|| {
        let (once, cell, runs) = (Arc::new(Once::new()), Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
        let ran = runs.clone();
        everywhere(EACH, move |i| {
            once.call_once(|| {
                thread::sleep(20 * MS);
                ran.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(ran.load(Ordering::Relaxed), 1);
            let first = cell.get_or_init(|| {
                thread::sleep(20 * MS);
                i
            });
            assert_eq!(cell.get(), Some(first));
            assert_eq!(*LAZY, 7);
        });
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_barrier_of_std_has_one_leader_a_round() {
    test(|| {
        let (barrier, leaders) = (Arc::new(Barrier::new(ALL)), Arc::new(AtomicUsize::new(0)));
        let led = leaders.clone();
        everywhere(EACH, move |_| {
            for round in 0..ROUNDS {
                if barrier.wait().is_leader() {
                    led.fetch_add(1, Ordering::SeqCst);
                }
                barrier.wait();
                assert_eq!(led.load(Ordering::SeqCst), round + 1);
                barrier.wait();
            }
        });
        assert_eq!(leaders.load(Ordering::SeqCst), ROUNDS);
    });
}

/// Everyone sends to everyone's successor, on channels of no place, of one, and of any number.
#[test]
fn channels_of_std_deliver_all() {
    test(|| {
        for places in [Some(0), Some(1), None] {
            enum Sender {
                Sync(std::sync::mpsc::SyncSender<usize>),
                Any(std::sync::mpsc::Sender<usize>),
            }
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..ALL)
                .map(|_| match places {
                    Some(places) => {
                        let (sender, receiver) = sync_channel(places);
                        (Sender::Sync(sender), Mutex::new(Some(receiver)))
                    }
                    None => {
                        let (sender, receiver) = channel();
                        (Sender::Any(sender), Mutex::new(Some(receiver)))
                    }
                })
                .unzip();
            let (senders, receivers) = (Arc::new(senders), Arc::new(receivers));
            everywhere(EACH, move |i| {
                let receiver = receivers[i].lock().unwrap().take().unwrap();
                for round in 0..ROUNDS {
                    // Every other receives first: with no place, nobody could ever begin else.
                    let send = || match &senders[(i + 1) % ALL] {
                        Sender::Sync(sender) => sender.send(i * ROUNDS + round).unwrap(),
                        Sender::Any(sender) => sender.send(i * ROUNDS + round).unwrap(),
                    };
                    let receive = || assert_eq!(receiver.recv().unwrap(), (i + ALL - 1) % ALL * ROUNDS + round);
                    if i % 2 == 0 {
                        send();
                        receive();
                    } else {
                        receive();
                        send();
                    }
                }
            });
        }
    });
}

/// A receiver waits, and the sender is a task of the same thread: std wakes nobody who seems to be itself.
#[test]
fn a_channel_of_std_between_two_tasks_of_one_thread() {
    test(|| {
        let (there, receiver) = channel();
        let (sender, back) = channel();
        let echo = go(move || receiver.iter().for_each(|number: usize| sender.send(number + 1).unwrap()));
        let asking = go(move || {
            for number in 0..1000 {
                there.send(number).unwrap();
                assert_eq!(back.recv_timeout(Duration::from_secs(20)), Ok(number + 1));
            }
        });
        asking.join();
        echo.join();

        let (_sender, receiver) = channel::<()>();
        let error = go(move || receiver.recv_timeout(20 * MS).unwrap_err()).join();
        assert_eq!(error, std::sync::mpsc::RecvTimeoutError::Timeout);
    });
}

/// A token goes round: each parks until its predecessor unparks it.
#[test]
fn parked_threads_and_tasks_are_unparked() {
    test(|| {
        let threads = Arc::new((Mutex::new(vec![None; ALL]), Barrier::new(ALL)));
        let turn = Arc::new(AtomicUsize::new(0));
        everywhere(EACH, move |i| {
            threads.0.lock().unwrap()[i] = Some(thread::current());
            threads.1.wait();
            let next = threads.0.lock().unwrap()[(i + 1) % ALL].clone().unwrap();
            for round in 0..ROUNDS {
                while turn.load(Ordering::SeqCst) != round * ALL + i {
                    thread::park();
                }
                turn.fetch_add(1, Ordering::SeqCst);
                next.unpark();
            }
        });
    });
}

#[test]
fn an_unpark_before_the_park_is_kept() {
    test(|| {
        overlap(50, |_| {
            thread::current().unpark();
            thread::park();
            let begun = std::time::Instant::now();
            thread::park_timeout(10 * MS);
            assert!(begun.elapsed() >= 10 * MS);
        });
    });
}

/// The threads of each scope wait for what a task of the same hub does.
#[test]
fn scopes_of_native_threads_are_joined_by_tasks() {
    test(|| {
        let all = Arc::new(Barrier::new(2 * EACH));
        let (sums, stats) = overlap(EACH, move |i| {
            let mut numbers = [i; 4];
            thread::scope(|scope| {
                let (one, other) = numbers.split_at_mut(2);
                let barrier = &all;
                scope.spawn(move || {
                    barrier.wait();
                    one[0] += 1;
                });
                let second = scope.spawn(move || other[1] += 2);
                all.wait();
                second.join().unwrap();
            });
            numbers.into_iter().sum::<usize>()
        });
        assert!(sums.into_iter().eq((0..EACH).map(|i| 4 * i + 3)));
        assert!(stats.ran_on == 1 || cfg!(feature = "control"));
    });
}

#[test]
fn native_threads_are_joined_by_tasks_at_once() {
    test(|| {
        let begin = Arc::new(AtomicBool::new(false));
        let joining: Vec<_> = (0..EACH)
            .map(|i| {
                let begin = begin.clone();
                let thread = thread::spawn(move || {
                    while !begin.load(Ordering::SeqCst) {
                        thread::sleep(MS);
                    }
                    i
                });
                go(move || assert_eq!(thread.join().unwrap(), i))
            })
            .collect();
        go(move || begin.store(true, Ordering::SeqCst)).join();
        joining.into_iter().for_each(|task| task.join());
        let payload = go(|| thread::spawn(|| std::panic::resume_unwind(Box::new("no"))).join().unwrap_err()).join();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "no");
    });
}

#[test]
fn channels_of_crossbeam_deliver_all() {
    test(|| {
        for places in [Some(0), Some(3), None] {
            let (sender, receiver) = places.map_or_else(unbounded, bounded);
            let sum = Arc::new(AtomicUsize::new(0));
            let received = sum.clone();
            everywhere(EACH, move |i| {
                for round in 0..ROUNDS {
                    if i % 2 == 0 {
                        sender.send(i * ROUNDS + round).unwrap();
                    } else {
                        received.fetch_add(receiver.recv().unwrap(), Ordering::Relaxed);
                    }
                }
            });
            let wanted =
                (0..ALL).filter(|i| i % 2 == 0).flat_map(|i| (0..ROUNDS).map(move |round| i * ROUNDS + round)).sum();
            assert_eq!(sum.load(Ordering::Relaxed), wanted);
        }
    });
}

#[test]
fn crossbeam_selects() {
    test(|| {
        let (numbers, some_numbers) = bounded(0);
        let (words, some_words) = bounded::<&str>(0);
        let (end, ended) = bounded::<()>(0);
        let count = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let seen = count.clone();
        let selecting: Vec<_> = (0..5)
            .map(|_| {
                let (some_numbers, some_words, ended) = (some_numbers.clone(), some_words.clone(), ended.clone());
                let seen = seen.clone();
                go(move || {
                    loop {
                        select! {
                            recv(some_numbers) -> number => {
                                seen.0.fetch_add(number.unwrap(), Ordering::Relaxed);
                            }
                            recv(some_words) -> word => {
                                seen.1.fetch_add(word.unwrap().len(), Ordering::Relaxed);
                            }
                            recv(ended) -> _ => return,
                        }
                    }
                })
            })
            .collect();
        // A channel without senders is always ready.
        let kept = (numbers.clone(), words.clone());
        everywhere(EACH, move |i| {
            for _ in 0..ROUNDS {
                if i % 2 == 0 { numbers.send(1).unwrap() } else { words.send("four").unwrap() }
            }
        });
        drop(end);
        selecting.into_iter().for_each(|task| task.join());
        drop(kept);
        assert_eq!(count.0.load(Ordering::Relaxed), ALL / 2 * ROUNDS);
        assert_eq!(count.1.load(Ordering::Relaxed), ALL / 2 * ROUNDS * 4);

        let (_sender, receiver) = unbounded::<()>();
        let timed_out = go(move || {
            select! {
                recv(receiver) -> _ => false,
                default(20 * MS) => true,
            }
        });
        assert!(timed_out.join());
    });
}

#[test]
fn a_mutex_of_parking_lot_excludes() {
    test(|| {
        let count = Arc::new(parking_lot::Mutex::new(0));
        let shared = count.clone();
        everywhere(EACH, move |i| {
            for round in 0..ROUNDS {
                let mut count = shared.lock();
                let before = *count;
                linger(i + round);
                *count = before + 1;
            }
        });
        assert_eq!(*count.lock(), ALL * ROUNDS);
    });
}

#[test]
fn a_lock_of_parking_lot_has_many_readers_or_one_writer() {
    test(|| {
        let pair = Arc::new(parking_lot::RwLock::new((0, 0)));
        let shared = pair.clone();
        everywhere(EACH, move |i| {
            for round in 0..ROUNDS {
                if (i + round) % 4 == 0 {
                    let mut pair = shared.write();
                    pair.0 += 1;
                    linger(i + round);
                    pair.1 += 1;
                } else {
                    let pair = shared.read();
                    linger(i + round);
                    assert_eq!(pair.0, pair.1);
                }
            }
        });
        let pair = pair.read();
        assert_eq!(pair.0, pair.1);
    });
}

/// All wait for one condition, which is told to all; then each for its own turn.
#[test]
fn a_condition_of_parking_lot_wakes_all() {
    test(|| {
        let shared = Arc::new((parking_lot::Mutex::new(0), parking_lot::Condvar::new()));
        everywhere(EACH, move |i| {
            let (turn, told) = &*shared;
            for round in 0..10 {
                let mut turn = turn.lock();
                while *turn != round * ALL + i {
                    told.wait(&mut turn);
                }
                *turn += 1;
                told.notify_all();
            }
        });
    });
}

#[test]
fn thread_locals_are_the_tasks_own() {
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(0) };
        static BORROWED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
        static COUNTED: Counted = const { Counted };
    }
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            ENDED.fetch_add(1, Ordering::SeqCst);
        }
    }
    test(|| {
        let (ids, _) = overlap(100, |i| {
            assert_eq!(NUMBER.replace(i), 0);
            COUNTED.with(|_| ());
            BORROWED.with_borrow_mut(|numbers| {
                thread::sleep(MS);
                numbers.push(i);
                thread::sleep(MS);
            });
            assert_eq!(NUMBER.get(), i);
            assert_eq!(BORROWED.take(), [i]);
            thread::current().id()
        });
        assert_eq!(ids.into_iter().collect::<HashSet<_>>().len(), 100);
        assert_eq!(ENDED.load(Ordering::SeqCst), 100);
    });
}

/// While some unwind, and stop in the midst of it, others neither panic nor poison.
#[test]
fn whether_it_panics_is_the_tasks_own() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            assert!(thread::panicking());
            thread::sleep(10 * MS);
        }
    }
    test(|| {
        let mutex = Arc::new(Mutex::new(0));
        let shared = mutex.clone();
        overlap(50, move |i| {
            if i % 2 == 0 {
                let caught = std::panic::catch_unwind(|| {
                    let _slow = Slow;
                    std::panic::resume_unwind(Box::new(()));
                });
                caught.unwrap_err();
            } else {
                for _ in 0..10 {
                    assert!(!thread::panicking());
                    let mut count = shared.lock().unwrap();
                    thread::sleep(MS);
                    *count += 1;
                }
            }
        });
        assert_eq!(*mutex.lock().unwrap(), 25 * 10);
    });
}

/// A kill cannot take away a lock's waiter, which has no way to fail: it ends when it has had the lock.
#[test]
#[cfg(not(feature = "control"))]
fn whoever_is_killed_while_it_waits_for_a_lock_of_std_ends() {
    test(|| {
        let mutex = Arc::new(Mutex::new(()));
        let held = mutex.clone();
        let holder = greenroom::spawn(move || {
            let _held = held.lock().unwrap();
            greenroom::sleep(50 * MS);
        });
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let mutex = mutex.clone();
                greenroom::spawn(move || drop(mutex.lock().unwrap()))
            })
            .collect();
        greenroom::sleep(5 * MS);
        waiting.iter().for_each(|task| task.kill_nowait());
        holder.join().unwrap();
        for ended in greenroom::joinall(waiting) {
            assert!(!matches!(ended, Err(greenroom::JoinError::Panicked(_))), "{ended:?}");
        }
        drop(mutex.lock().unwrap());
    });
}

#[test]
#[cfg(not(feature = "control"))]
fn whoever_is_killed_while_it_waits_for_a_message_takes_none() {
    test(|| {
        let (sender, receiver) = unbounded();
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let receiver = receiver.clone();
                greenroom::spawn(move || receiver.recv_timeout(Duration::from_secs(5)))
            })
            .collect();
        greenroom::sleep(5 * MS);
        for task in &waiting[..10] {
            task.kill_nowait();
        }
        for i in 0..20 {
            sender.send(i).unwrap();
        }
        let ended = greenroom::joinall(waiting);
        let taken = ended.iter().filter_map(|ended| ended.as_ref().ok()?.ok());
        let left = receiver.try_iter();
        assert!(taken.chain(left).collect::<HashSet<i32>>().len() == 20);
    });
}
