//! What std keeps for each thread, between tasks with thread-locals of their own (rule 29): its channels, parking, scopes.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::mixes::{MIXES, give_way};
use super::patch;

const ROUNDS: usize = 200;

#[test]
fn channels_of_std_lose_nothing() {
    patch();
    for mix in MIXES {
        for bound in [None, Some(0), Some(2)] {
            let (plain, bounded) = match bound {
                None => (Some(mpsc::channel()), None),
                Some(bound) => (None, Some(mpsc::sync_channel(bound))),
            };
            let (send, receiver): (Box<dyn Fn(usize) + Send + Sync>, _) = match (plain, bounded) {
                (Some((sender, receiver)), _) => (Box::new(move |n| sender.send(n).unwrap()), receiver),
                (_, Some((sender, receiver))) => (Box::new(move |n| sender.send(n).unwrap()), receiver),
                _ => unreachable!("one of both"),
            };
            // Receivers share one, as threads of a pool do: the lock is held while its holder waits.
            let receiver = Mutex::new(receiver);
            let sums = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
            let inside = sums.clone();
            let senders = mix.all() / 2;
            let receivers = mix.all() - senders;
            let total = senders * ROUNDS;
            mix.run(move |who| {
                if who.is_multiple_of(2) && who / 2 < receivers || who / 2 >= senders {
                    let mine = who / 2;
                    for round in 0..total / receivers + usize::from(mine < total % receivers) {
                        let number = receiver.lock().unwrap().recv().unwrap();
                        inside.0.fetch_add(number, Ordering::SeqCst);
                        inside.1.fetch_add(1, Ordering::SeqCst);
                        give_way(round);
                    }
                } else {
                    for round in 0..ROUNDS {
                        send(round);
                        give_way(round + who);
                    }
                }
            });
            assert_eq!(sums.1.load(Ordering::SeqCst), total, "{mix:?} {bound:?}");
            assert_eq!(sums.0.load(Ordering::SeqCst), senders * (ROUNDS * (ROUNDS - 1) / 2), "{mix:?} {bound:?}");
        }
    }
}

#[test]
fn every_task_has_a_token_of_its_own_to_park() {
    patch();
    for mix in MIXES {
        let ring: Arc<Vec<OnceLock<thread::Thread>>> = Arc::new((0..mix.all()).map(|_| OnceLock::new()).collect());
        let turn = Arc::new(AtomicUsize::new(0));
        let (inside, at) = (ring.clone(), turn.clone());
        mix.run(move |who| {
            inside[who].set(thread::current()).unwrap();
            for round in 0..60 {
                while at.load(Ordering::SeqCst) != round * mix.all() + who {
                    // With a time-out now and then, which changes nothing.
                    if round % 4 == 0 { thread::park_timeout(Duration::from_millis(5)) } else { thread::park() }
                }
                at.fetch_add(1, Ordering::SeqCst);
                loop {
                    match inside[(who + 1) % mix.all()].get() {
                        Some(next) => break next.unpark(),
                        None => thread::yield_now(),
                    }
                }
            }
        });
        assert_eq!(turn.load(Ordering::SeqCst), mix.all() * 60, "{mix:?}");
        let ids: HashSet<_> = ring.iter().map(|member| member.get().unwrap().id()).collect();
        assert_eq!(ids.len(), mix.all());
    }
}

#[test]
fn a_scope_of_native_threads_is_waited_for_by_its_task_alone() {
    patch();
    let begun = Instant::now();
    let tasks: Vec<_> = (0..20_u64)
        .map(|number| {
            greenroom::spawn(move || {
                let mut values = [0_u64; 2];
                thread::scope(|s| {
                    for value in &mut values {
                        s.spawn(move || {
                            thread::sleep(Duration::from_millis(20));
                            *value = number;
                        });
                    }
                });
                values[0] + values[1]
            })
        })
        .collect();
    let sum: u64 = greenroom::joinall(tasks).into_iter().map(|task| task.unwrap()).sum();
    assert_eq!(sum, 380);
    assert!(begun.elapsed() < Duration::from_millis(20 * 20), "{:?}", begun.elapsed());
}

#[test]
fn what_a_thread_borrows_of_itself_may_stay_borrowed_across_a_wait() {
    thread_local! {
        static OWN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }
    patch();
    for mix in MIXES {
        let lock = Arc::new(Mutex::new(0_usize));
        let inside = lock.clone();
        mix.run(move |_| {
            OWN.with_borrow_mut(|own| {
                for _ in 0..50 {
                    let mut count = inside.lock().unwrap();
                    greenroom::yield_now();
                    *count += 1;
                    own.push(*count);
                }
                assert!(own.is_sorted() && own.len() == 50);
            });
        });
        assert_eq!(*lock.lock().unwrap(), mix.all() * 50);
    }
}

#[test]
fn spinning_for_another_task_by_yields_ends() {
    patch();
    for mix in MIXES {
        let turn = Arc::new(AtomicUsize::new(0));
        mix.run(move |who| {
            for round in 0..30 {
                while turn.load(Ordering::SeqCst) != round * mix.all() + who {
                    thread::yield_now();
                }
                turn.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}
