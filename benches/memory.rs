//! Resident bytes of a parked task, among many.
//!
//! Each system is measured in a process of its own, before the tasks are made and after all have parked.

use std::process::Command;

use greenroom_benches::{is_trial, resident};

fn main() {
    let count = if is_trial() { 1000 } else { 100_000 };
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("greenroom") => return greenroom(count_from(args)),
        Some("tokio") => return tokio(count_from(args)),
        Some("may") => return may(count_from(args)),
        _ => {}
    }
    // may meets the limit on mappings (vm.max_map_count) at about 32 thousand stacks.
    for (name, count) in [("greenroom", count), ("tokio", count), ("may", count.min(30_000))] {
        let this = std::env::current_exe().expect("this program has a file");
        let child = Command::new(this).args([name, &count.to_string()]).output().expect("it can be run again");
        assert!(child.status.success(), "{name}: {}", String::from_utf8_lossy(&child.stderr));
        let bytes = String::from_utf8_lossy(&child.stdout).trim().to_string();
        println!("memory/{name:<10} {bytes:>6} resident bytes a task, {count} parked");
    }
}

fn count_from(mut args: impl Iterator<Item = String>) -> usize {
    args.next().and_then(|count| count.parse().ok()).expect("a count follows the name")
}

fn report(before: usize, count: usize) {
    println!("{}", (resident() - before) / count);
}

fn greenroom(count: usize) {
    greenroom::yield_now();
    let before = resident();
    for _ in 0..count {
        drop(greenroom::spawn(greenroom::park));
    }
    greenroom::yield_now();
    report(before, count);
    std::process::exit(0);
}

fn tokio(count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(async move {
        let gate = std::sync::Arc::new(tokio::sync::Notify::new());
        let before = resident();
        for _ in 0..count {
            let gate = gate.clone();
            tokio::spawn(async move { gate.notified().await });
        }
        // The last one in the queue runs when all others have parked.
        tokio::spawn(async move { report(before, count) }).await.expect("it does not panic");
    });
    std::process::exit(0);
}

fn may(count: usize) {
    may::config().set_workers(1);
    let ready = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let before = resident();
    for _ in 0..count {
        let ready = ready.clone();
        let body = move || {
            ready.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            may::coroutine::park();
        };
        // SAFETY: the body uses neither thread-locals nor much stack.
        drop(unsafe { may::coroutine::spawn(body) });
    }
    while ready.load(std::sync::atomic::Ordering::Relaxed) < count {
        std::thread::yield_now();
    }
    report(before, count);
    std::process::exit(0);
}
