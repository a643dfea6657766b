//! Random steps on shared objects, by tasks of several hubs and by native threads, with kills and time limits.
//!
//! What must be true is in `support/things.rs`. `GREENROOM_RANDOM_SECONDS` says how long to go on, `GREENROOM_SEED` which
//! program to run, alone; which thread is quicker, no seed tells.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use greenroom::sync::mpsc::Receiver;
use greenroom::{HubHandle, JoinHandle, joinall, sleep, spawn, yield_now};

#[path = "support/things.rs"]
mod things;

use things::{Actor, Item, Ledger, Things, short};

#[test]
fn random_threads_keep_the_rules() {
    if let Ok(seed) = env::var("GREENROOM_SEED") {
        return run_program(seed.parse().expect("a number"));
    }
    let seconds = env::var("GREENROOM_RANDOM_SECONDS").map_or(3.0, |seconds| seconds.parse().expect("a number"));
    let (begun, mut seed, mut programs) = (Instant::now(), fastrand::u64(..), 0);
    while begun.elapsed().as_secs_f64() < seconds {
        run_program(seed);
        seed = seed.wrapping_add(1);
        programs += 1;
    }
    eprintln!("{programs} programs");
}

fn run_program(seed: u64) {
    let (tell, told) = channel();
    let thread = thread::spawn(move || {
        play(seed);
        let _told = tell.send(());
    });
    if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = told.recv_timeout(Duration::from_secs(60)) {
        panic!("the program hangs: GREENROOM_SEED={seed}");
    }
    if let Err(payload) = thread.join() {
        eprintln!("the program was GREENROOM_SEED={seed}");
        resume_unwind(payload);
    }
}

fn play(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let ledger = Ledger::default();
    let (things, receiver) = Things::new(&ledger);
    let things = Arc::new(things);

    let hub_threads: Vec<_> = (0..rng.u64(1..3))
        .map(|number| {
            let (things, mut rng) = (things.clone(), rng.fork());
            let shuffle = (!seed.wrapping_add(number).is_multiple_of(4)).then_some(seed);
            thread::spawn(move || live(&things, None, &mut rng, shuffle))
        })
        .collect();
    let natives: Vec<_> = (0..rng.usize(0..3))
        .map(|_| {
            let (things, mut rng) = (things.clone(), rng.fork());
            thread::spawn(move || {
                for _ in 0..rng.u32(..60) {
                    things.step(&mut rng, Actor { receiver: None, native: true }, &mut |_| {});
                }
            })
        })
        .collect();
    let receiver = Rc::new(receiver);
    live(&things, Some(&receiver), &mut rng, None);
    for thread in hub_threads.into_iter().chain(natives) {
        thread.join().unwrap();
    }
    things.settle(&receiver);
    let violations = ledger.take();
    assert!(violations.is_empty(), "{violations:#?}");
}

/// The life of a thread with a hub.
fn live(things: &Arc<Things>, receiver: Option<&Rc<Receiver<Item>>>, rng: &mut Rng, shuffle: Option<u64>) {
    if let Some(seed) = shuffle {
        greenroom::testing::shuffle(seed);
    }
    let tasks: Vec<JoinHandle<()>> = (0..rng.usize(1..6))
        .map(|_| {
            let (things, receiver, mut rng) = (things.clone(), receiver.cloned(), rng.fork());
            spawn(move || {
                let steps = rng.u32(..40);
                steps_of(&things, receiver.as_deref(), &mut rng, steps, 0);
            })
        })
        .collect();
    // Some are killed from here, some from another thread; and some are left to the end of the thread.
    for task in &tasks {
        if rng.bool() {
            sleep(short(rng));
            if rng.bool() {
                task.kill_nowait();
            }
        }
    }
    let (theirs, mut their_rng) = (things.clone(), rng.fork());
    let remote = HubHandle::current().spawn(move || steps_of(&theirs, None, &mut their_rng, 20, 0));
    if rng.bool() {
        let limit = short(rng);
        let killer = thread::spawn(move || {
            thread::sleep(limit);
            remote.kill_nowait();
            let _ended = remote.join();
        });
        joinall(tasks);
        while !killer.is_finished() {
            sleep(Duration::from_micros(100));
        }
        killer.join().unwrap();
    } else if receiver.is_some() || rng.bool() {
        let _ended = remote.join();
        joinall(tasks);
    }
}

fn steps_of(things: &Things, receiver: Option<&Receiver<Item>>, rng: &mut Rng, steps: u32, depth: u32) {
    for _ in 0..steps {
        if rng.u8(..8) == 0 {
            yield_now();
        }
        let step = |rng: &mut Rng| {
            things.step(rng, Actor { receiver, native: false }, &mut |rng| {
                if depth < 2 {
                    let steps = rng.u32(..3);
                    steps_of(things, receiver, rng, steps, depth + 1);
                } else {
                    yield_now();
                }
            });
        };
        if rng.u8(..20) == 0 {
            // It meets what ended it again.
            let _caught = catch_unwind(AssertUnwindSafe(|| step(rng)));
        } else {
            step(rng);
        }
    }
}
