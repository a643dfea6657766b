//! A producer that feeds two consumers value by value, all three written as plain loops.
//!
//! ```text
//! cargo run --example producer_consumer
//! ```
//!
//! prints what each consumer makes of each value as it comes, and what each has to say at the end. A consumer is a
//! generator turned round: it takes a value where a producer gives one. Nothing is queued: whoever gives a value waits
//! until it has been dealt with.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use greenroom::generator::{Generator, GeneratorState, Yielder};

fn main() {
    // Gives the Collatz numbers from 6 down to 1. A generator is an iterator: its loop stands still at each `yield_`.
    let producer = Generator::new(|out: &Yielder<(), u32>| {
        let mut number = 6;
        while number != 1 {
            out.yield_(number);
            number = if number % 2 == 0 { number / 2 } else { 3 * number + 1 };
        }
        out.yield_(1);
    });

    // Takes numbers until there are no more, and keeps the mean of those so far. `yield_` answers the last value, and
    // returns the next.
    let mut averager = Generator::with_resume(|out: &Yielder<Option<u32>, f64>, first: Option<u32>| {
        let (mut sum, mut count, mut next) = (0, 0, first);
        while let Some(number) = next {
            sum += number;
            count += 1;
            next = out.yield_(f64::from(sum) / f64::from(count));
        }
        format!("{count} numbers")
    });

    // Takes the same numbers and watches for the greatest.
    let mut watcher = Generator::with_resume(|out: &Yielder<Option<u32>, bool>, first: Option<u32>| {
        let (mut greatest, mut next) = (0, first);
        while let Some(number) = next {
            next = out.yield_(number > greatest);
            greatest = greatest.max(number);
        }
        format!("greatest was {greatest}")
    });

    for number in producer {
        let GeneratorState::Yielded(mean) = averager.resume(Some(number)) else { unreachable!("it ends at None") };
        let GeneratorState::Yielded(record) = watcher.resume(Some(number)) else { unreachable!("it ends at None") };
        println!("{number:3}  mean {mean:5.2}{}", if record { "  a record" } else { "" });
    }

    let GeneratorState::Complete(counted) = averager.resume(None) else { unreachable!("None ends it") };
    let GeneratorState::Complete(seen) = watcher.resume(None) else { unreachable!("None ends it") };
    println!("{counted}, {seen}");
}
