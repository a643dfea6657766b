//! One loop at a time, for valgrind and perf: `profile yield 100 1000000`.

use std::time::{Duration, Instant};

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let Some(what) = args.next() else { return };
    let number = |arg: Option<String>| arg.and_then(|arg| arg.parse::<u64>().ok()).unwrap_or(1);
    let (count, rounds) = (number(args.next()), number(args.next()));
    let start = Instant::now();
    match what.as_str() {
        "yield" => {
            let tasks = (0..count).map(|_| greenroom::spawn(move || (0..rounds).for_each(|_| greenroom::yield_now())));
            drop(greenroom::joinall(tasks));
        }
        "spawn" => {
            for _ in 0..rounds {
                let tasks: Vec<_> = (0..count).map(|_| greenroom::spawn(|| ())).collect();
                for task in tasks {
                    task.join().unwrap();
                }
            }
        }
        "park" => {
            greenroom::spawn(move || {
                let this = greenroom::current();
                let partner = greenroom::spawn(move || {
                    for _ in 0..rounds {
                        greenroom::park();
                        this.unpark();
                    }
                });
                let partner = partner.task();
                for _ in 0..rounds {
                    partner.unpark();
                    greenroom::park();
                }
            })
            .join()
            .unwrap();
        }
        "sleep" => {
            let mut random = fastrand::Rng::with_seed(1);
            let mut sleeps = move || Duration::from_nanos(random.u64(0..500_000_000));
            let tasks: Vec<_> = (0..count)
                .map(|_| {
                    let sleep = sleeps();
                    greenroom::spawn(move || (0..rounds).for_each(|_| greenroom::sleep(sleep)))
                })
                .collect();
            drop(greenroom::joinall(tasks));
        }
        "pool" => {
            let pool = greenroom::pool::Pool::new(count as usize);
            let done = pool.map(0..count * rounds, |n| {
                greenroom::yield_now();
                n
            });
            assert_eq!(done.len() as u64, count * rounds);
        }
        _ => panic!("yield, spawn, park, sleep or pool"),
    }
    println!("{:.1} ns", start.elapsed().as_nanos() as f64 / (count * rounds) as f64);
}
