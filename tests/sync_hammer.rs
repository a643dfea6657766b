//! Hammers what `sync` has: two native threads without a hub and two hubs with 500 tasks each use one object at once, while
//! tasks are killed and waits run out at random. Afterwards nothing is held, nobody waits, and the counts are exact.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use greenroom::sync::{AsyncResult, BoundedSemaphore, Event, Mutex, PoisonError, ReentrantMutex, Semaphore};
use greenroom::{joinall, spawn, timeout, yield_now};

mod common;
use common::check;

const TASKS: usize = 500;
const TURNS: usize = 4;

/// Runs `turn` in all tasks and threads, several times in each.
fn hammer(turn: impl Fn(&mut Rng) + Send + Sync + 'static) {
    let seed = std::env::var("GREENROOM_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("GREENROOM_SEED={seed}");
    let (turn, start) = (Arc::new(turn), Arc::new(Barrier::new(4)));
    let threads: Vec<_> = (0..4_u64)
        .map(|number| {
            let (turn, start) = (turn.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                let rng = Rng::with_seed(seed ^ number);
                if number < 2 { native(rng, &*turn) } else { hub(rng, &turn) }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap_or_else(|payload| resume_unwind(payload));
    }
}

fn native(mut rng: Rng, turn: &impl Fn(&mut Rng)) {
    (0..TASKS).for_each(|_| turn(&mut rng));
}

fn hub(mut rng: Rng, turn: &Arc<impl Fn(&mut Rng) + Send + Sync + 'static>) {
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (turn, mut rng) = (turn.clone(), rng.fork());
            spawn(move || {
                for _ in 0..TURNS {
                    if rng.u8(..) < 64 {
                        let limit = Duration::from_micros(rng.u64(..2000));
                        // Whether it ran out is chance.
                        let _elapsed = timeout(limit, || turn(&mut rng));
                    } else {
                        turn(&mut rng);
                    }
                }
            })
        })
        .collect();
    let victims: Vec<_> = tasks.iter().map(|task| task.task()).filter(|_| rng.u8(..) < 64).collect();
    for victim in victims {
        for _ in 0..rng.u8(..4) {
            yield_now();
        }
        victim.kill_nowait();
    }
    for result in joinall(tasks) {
        assert!(result.as_ref().err().is_none_or(|error| error.is_killed()), "{result:?}");
    }
    assert_eq!(greenroom::testing::live_tasks(), 0);
}

/// Gives others a turn: tasks of this hub, or threads.
fn pause(rng: &mut Rng) {
    match rng.u8(..4) {
        0 => yield_now(),
        1 => thread::yield_now(),
        _ => {}
    }
}

fn short(rng: &mut Rng) -> Duration {
    Duration::from_micros(rng.u64(..500))
}

/// Counts those who are inside, and notes if they are ever too many.
#[derive(Default)]
struct Room {
    inside: AtomicUsize,
    crowded: AtomicBool,
    visits: AtomicU64,
}

struct Visit<'a>(&'a Room, usize);

impl Room {
    fn enter(&self, count: usize, most: usize) -> Visit<'_> {
        if self.inside.fetch_add(count, SeqCst) + count > most {
            self.crowded.store(true, SeqCst);
        }
        self.visits.fetch_add(1, SeqCst);
        Visit(self, count)
    }

    fn check(&self) {
        assert!(!self.crowded.load(SeqCst), "too many were inside");
        assert_eq!(self.inside.load(SeqCst), 0, "somebody is inside still");
        assert!(self.visits.load(SeqCst) > 0);
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(self.1, SeqCst);
    }
}

#[test]
fn semaphore() {
    check(|| {
        let shared = Arc::new((Semaphore::new(5), Room::default()));
        let object = shared.clone();
        hammer(move |rng| {
            let (semaphore, room) = &*object;
            let want = rng.usize(1..=5);
            let permit = match rng.u8(..4) {
                0 => semaphore.try_acquire_many(want),
                1 => semaphore.acquire_many_timeout(want, short(rng)).ok(),
                _ => Some(semaphore.acquire_many(want)),
            };
            let Some(permit) = permit else { return };
            let visit = room.enter(want, 5);
            pause(rng);
            drop(visit);
            if rng.bool() {
                // No switch between the two: a kill loses neither.
                permit.forget();
                semaphore.release(want);
            }
        });
        let (semaphore, room) = &*shared;
        room.check();
        assert_eq!(semaphore.available(), 5);
        assert!(semaphore.try_acquire_many(5).is_some());
    });
}

#[test]
fn bounded_semaphore() {
    check(|| {
        let shared = Arc::new((BoundedSemaphore::new(2), Room::default()));
        let object = shared.clone();
        hammer(move |rng| {
            let (semaphore, room) = &*object;
            let permit = match rng.u8(..4) {
                0 => semaphore.try_acquire(),
                1 => semaphore.acquire_timeout(short(rng)).ok(),
                _ => Some(semaphore.acquire()),
            };
            let Some(permit) = permit else { return };
            let visit = room.enter(1, 2);
            pause(rng);
            drop(visit);
            if rng.bool() {
                permit.forget();
                assert_eq!(semaphore.release(1), Ok(()));
            }
        });
        shared.1.check();
        assert_eq!(shared.0.available(), 2);
        assert!(shared.0.release(1).is_err());
    });
}

#[test]
fn mutex() {
    check(|| {
        let shared = Arc::new((Mutex::new(0_u64), Room::default()));
        let object = shared.clone();
        hammer(move |rng| {
            let (mutex, room) = &*object;
            let mut count = if rng.u8(..4) == 0 {
                let Ok(count) = mutex.try_lock() else { return };
                count
            } else {
                // Who is killed inside poisons it.
                mutex.lock().unwrap_or_else(PoisonError::into_inner)
            };
            *count += 1;
            let _visit = room.enter(1, 1);
            pause(rng);
        });
        let (mutex, room) = &*shared;
        room.check();
        mutex.clear_poison();
        assert_eq!(*mutex.try_lock().unwrap(), room.visits.load(SeqCst));
    });
}

#[test]
fn reentrant_mutex() {
    check(|| {
        let shared = Arc::new((ReentrantMutex::new(Cell::new(0_u64)), Room::default()));
        let object = shared.clone();
        hammer(move |rng| {
            let (mutex, room) = &*object;
            let outer = match rng.u8(..4) {
                0 => mutex.try_lock(),
                1 => mutex.lock_timeout(short(rng)).ok(),
                _ => Some(mutex.lock()),
            };
            let Some(outer) = outer else { return };
            let inner = mutex.try_lock().expect("it is ours");
            // Ends before the guards do, on an unwind too.
            let _visit = room.enter(1, 1);
            inner.set(inner.get() + 1);
            pause(rng);
            if rng.bool() {
                drop(outer);
                pause(rng);
            }
        });
        let (mutex, room) = &*shared;
        room.check();
        assert_eq!(mutex.try_lock().unwrap().get(), room.visits.load(SeqCst));
    });
}

#[test]
fn event() {
    check(|| {
        let shared = Arc::new((Event::new(), AtomicBool::new(false), AtomicU64::new(0)));
        let object = shared.clone();
        let pulses = {
            // As long as this goes on, everybody's wait ends.
            let object = shared.clone();
            thread::spawn(move || {
                while !object.1.load(SeqCst) {
                    object.0.set();
                    object.0.clear();
                    thread::yield_now();
                }
            })
        };
        hammer(move |rng| {
            let (event, _, woken) = &*object;
            match rng.u8(..8) {
                0 => event.set(),
                1 => event.clear(),
                2 => _ = event.wait_timeout(short(rng)),
                _ => {
                    event.wait();
                    woken.fetch_add(1, SeqCst);
                }
            }
        });
        let (event, done, woken) = &*shared;
        done.store(true, SeqCst);
        pulses.join().unwrap();
        assert!(woken.load(SeqCst) > 0);
        event.clear();
        assert!(!event.wait_timeout(Duration::from_millis(1)));
        event.set();
        event.wait();
    });
}

#[test]
fn async_result() {
    const RESULTS: usize = 100;
    check(|| {
        struct Shared {
            results: Vec<AsyncResult<u64>>,
            /// What was set, by place; and what was seen by those who waited.
            won: Vec<AtomicU64>,
            seen: Vec<AtomicU64>,
            next: AtomicU64,
        }
        fn zeros() -> Vec<AtomicU64> {
            (0..RESULTS).map(|_| AtomicU64::new(0)).collect()
        }
        let results = (0..RESULTS).map(|_| AsyncResult::new()).collect();
        let shared = Arc::new(Shared { results, won: zeros(), seen: zeros(), next: AtomicU64::new(1) });
        let setter = {
            // Sets what nobody else does, in the end.
            let shared = shared.clone();
            thread::spawn(move || {
                for place in 0..RESULTS {
                    thread::sleep(Duration::from_micros(100));
                    shared.set(place);
                }
            })
        };
        impl Shared {
            fn set(&self, place: usize) {
                let value = self.next.fetch_add(1, SeqCst);
                match self.results[place].set(value) {
                    Ok(()) => assert_eq!(self.won[place].swap(value, SeqCst), 0, "it was set twice"),
                    Err(back) => assert_eq!(back, value),
                }
            }

            fn see(&self, place: usize, value: u64) {
                let before = self.seen[place].swap(value, SeqCst);
                assert!(before == 0 || before == value, "it changed");
            }
        }
        let object = shared.clone();
        hammer(move |rng| {
            let place = rng.usize(..RESULTS);
            match rng.u8(..16) {
                0 => object.set(place),
                1 => _ = object.results[place].get_timeout(short(rng)).map(|value| object.see(place, *value)),
                2 => _ = object.results[place].try_get().map(|value| object.see(place, *value)),
                _ => object.see(place, *object.results[place].get()),
            }
        });
        setter.join().unwrap();
        for place in 0..RESULTS {
            let value = *shared.results[place].get();
            assert_eq!(shared.won[place].load(SeqCst), value);
            let seen = shared.seen[place].load(SeqCst);
            assert!(seen == 0 || seen == value);
        }
    });
}

#[test]
fn wait_for_several_objects() {
    check(|| {
        let shared = Arc::new((Semaphore::new(1), Event::new(), AtomicBool::new(false)));
        let (object, pulse) = (shared.clone(), shared.clone());
        let pulses = thread::spawn(move || {
            while !pulse.2.load(SeqCst) {
                pulse.1.set();
                pulse.1.clear();
                thread::yield_now();
            }
        });
        hammer(move |rng| {
            let (semaphore, event, _) = &*object;
            let _permit = (rng.u8(..4) == 0).then(|| semaphore.acquire());
            let objects: [&dyn greenroom::Waitable; 2] = [semaphore, event];
            let limit = rng.bool().then(|| short(rng));
            let ready = greenroom::wait(objects, limit, Some(1));
            assert!(ready.len() == 1 || limit.is_some());
        });
        shared.2.store(true, SeqCst);
        pulses.join().unwrap();
        assert_eq!(shared.0.available(), 1);
    });
}
