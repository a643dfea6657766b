//! Work for the processor, shared between native threads, while the thread that asks goes on with its other tasks.
//!
//! ```text
//! cargo run --release --example share_work
//! ```
//!
//! counts the primes below a million in pieces. A task for each piece puts it onto a channel and parks until its answer comes.
//! The workers are plain threads without a hub, on which the same channels and locks block the thread.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use greenroom::sync::Mutex;
use greenroom::sync::mpsc::{Receiver, Sender, sync_channel};
use greenroom::{joinall, sleep, spawn};

const BELOW: u32 = 1_000_000;
const PIECES: u32 = 50;

/// A piece of the work, and where to send the answer.
struct Job {
    numbers: Range<u32>,
    answer: Sender<usize>,
}

fn main() -> std::io::Result<()> {
    let (jobs, waiting) = sync_channel::<Job>(4);
    let waiting = Arc::new(Mutex::new(waiting));
    let workers: Vec<_> = (0..thread::available_parallelism()?.get())
        .map(|_| {
            let waiting = waiting.clone();
            thread::spawn(move || work(&waiting))
        })
        .collect();
    drop(waiting);

    // Shows that this thread is free while the others work.
    let ticks = Rc::new(Cell::new(0_u64));
    let counted = ticks.clone();
    let ticker = spawn(move || {
        loop {
            sleep(Duration::from_millis(1));
            counted.set(counted.get() + 1);
        }
    });

    let size = BELOW / PIECES;
    let pieces = (0..PIECES).map(|piece| {
        let jobs = jobs.clone();
        spawn(move || {
            let (answer, answered) = greenroom::sync::mpsc::channel();
            let numbers = piece * size..(piece + 1) * size;
            jobs.send(Job { numbers, answer }).expect("the workers are there");
            answered.recv().expect("each job is answered")
        })
    });
    let primes: usize = joinall(pieces).into_iter().map(|result| result.expect("it does not panic")).sum();
    ticker.kill();

    // The workers end when no job can come any more.
    drop(jobs);
    let done: Vec<usize> = workers.into_iter().map(|worker| worker.join().expect("it does not panic")).collect();
    println!("pieces by worker: {done:?}, {} in all", done.iter().sum::<usize>());
    println!("the ticker {}", if ticks.get() > 0 { "went on" } else { "stood still" });
    println!("{primes} primes below {BELOW}");
    Ok(())
}

/// Does one job after the other until there are no more, and gives how many it did.
fn work(jobs: &Mutex<Receiver<Job>>) -> usize {
    let mut done = 0;
    loop {
        // One worker waits for the next job, the others for the lock. It is given back before the work begins.
        let job = jobs.lock().expect("nobody panics under it").recv();
        let Ok(Job { numbers, answer }) = job else { return done };
        let primes = numbers.filter(|&n| is_prime(n)).count();
        answer.send(primes).expect("the task waits for it");
        done += 1;
    }
}

fn is_prime(n: u32) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}
