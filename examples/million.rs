//! A million parked tasks on a system as it comes: no `sysctl`, no `ulimit`.
//!
//! ```text
//! cargo run --release --example million
//! cargo run --release --example million -- 100000
//! ```
//!
//! prints what they cost: resident memory and page tables for each task, and the number of mappings of the process,
//! which Linux limits to 65530. Then it wakes them all and waits for each. A million tasks take 4.5 GB of memory: one
//! page for each stack, the least that hardware can give.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use clap::Parser;
use greenroom::{Builder, joinall, park, yield_now};

/// Parks very many tasks at once and tells what they cost.
#[derive(Parser)]
struct Args {
    /// How many.
    #[arg(default_value_t = 1_000_000, allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
}

fn main() -> std::io::Result<()> {
    let count = Args::parse().tasks;
    let before = Usage::now()?;
    let started = Instant::now();

    let running = Rc::new(Cell::new(0));
    let mut tasks = Vec::new();
    for _ in 0..count {
        let running = Rc::clone(&running);
        let task = Builder::new().spawn(move || {
            running.set(running.get() + 1);
            park();
        });
        tasks.push(task?);
    }
    // Each has to start, or its stack would not be in use yet.
    while running.get() < count {
        yield_now();
    }
    println!("{count} tasks parked after {:.2} s", started.elapsed().as_secs_f64());

    if let (Some(before), Some(now)) = (before, Usage::now()?) {
        println!("resident:    {} bytes a task", (now.resident - before.resident) / count);
        println!("page tables: {} bytes a task", (now.page_tables - before.page_tables) / count);
        println!("mappings:    {} of the process, {} before", now.mappings, before.mappings);
    }

    let started = Instant::now();
    for task in &tasks {
        task.task().unpark();
    }
    assert!(joinall(tasks).iter().all(Result::is_ok));
    println!("all woken and joined after {:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// What the process takes of the system.
struct Usage {
    /// In bytes.
    resident: u64,
    /// In bytes.
    page_tables: u64,
    mappings: usize,
}

impl Usage {
    /// Asks the kernel; `None` where it has no `/proc` in Linux's form.
    fn now() -> std::io::Result<Option<Usage>> {
        if !cfg!(target_os = "linux") {
            return Ok(None);
        }
        let status = std::fs::read_to_string("/proc/self/status")?;
        let kilobytes = |key: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let mappings = std::fs::read_to_string("/proc/self/maps")?.lines().count();
        let usage = kilobytes("VmRSS:").zip(kilobytes("VmPTE:"));
        Ok(usage.map(|(rss, pte)| Usage { resident: rss * 1024, page_tables: pte * 1024, mappings }))
    }
}
