//! Three tasks that sleep 2 s, 1 s and not at all: done in 2 s, not in 3.
//!
//! ```text
//! cargo run --example spawn_joinall
//! ```
//!
//! prints a line as each task wakes, the shortest sleeper first, and at the end the results in the order in which the
//! tasks were given, with the time that it took.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::time::{Duration, Instant};

use greenroom::{joinall, sleep, spawn};

fn main() {
    let started = Instant::now();

    // A task starts only once the thread has nothing better to do: nothing is printed in this loop.
    let tasks = [2, 1, 0].map(|seconds| {
        spawn(move || {
            sleep(Duration::from_secs(seconds));
            println!("slept {seconds} s");
            seconds
        })
    });

    // Waiting gives the thread to the tasks. All three sleep at the same time.
    let results: Vec<u64> = joinall(tasks).into_iter().map(|result| result.expect("it does not panic")).collect();

    println!("{results:?} after {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(results, [2, 1, 0]);
    assert!(started.elapsed() < Duration::from_millis(2900), "they slept one after the other");
}
