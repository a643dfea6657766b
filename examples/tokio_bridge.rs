//! A tokio runtime on one thread, green tasks on another, and data between them both ways.
//!
//! ```text
//! cargo run --release --example tokio_bridge
//! ```
//!
//! Tasks here wait for async code there with [`block_on`]; async code there has tasks made here with
//! [`HubHandle::spawn`] and awaits their handles. Neither side ever stops the other's thread.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use greenroom::future::block_on;
use greenroom::{HubHandle, joinall, sleep, spawn};
use tokio::runtime::{self, Handle};
use tokio::sync::{mpsc, oneshot};

fn main() {
    let runtime = runtime::Builder::new_current_thread().enable_time().build().expect("the system has a timer");
    let tokio = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let its_thread = thread::spawn(move || drop(runtime.block_on(stopped)));

    // Shows that this thread goes on whatever its tasks wait for.
    let ticks = Rc::new(Cell::new(0));
    let counted = ticks.clone();
    let ticker = spawn(move || {
        loop {
            sleep(Duration::from_millis(1));
            counted.set(counted.get() + 1);
        }
    });

    println!("tokio squared: {:?}", ask_tokio(&tokio));
    println!("greenroom doubled: {}", be_asked(&tokio));
    println!("through both: {}", pass_through(&tokio));

    ticker.kill();
    println!("the ticker {}", if ticks.get() > 0 { "went on" } else { "stood still" });
    drop(stop);
    its_thread.join().expect("the runtime ends by itself");
}

/// Ten tasks, each of which waits for a future on the runtime: one for a task of tokio's, which sleeps by tokio's timers.
fn ask_tokio(tokio: &Handle) -> Vec<u64> {
    let tasks = (1..=10).map(|n| {
        let tokio = tokio.clone();
        spawn(move || {
            let squared = tokio.spawn(async move {
                tokio::time::sleep(Duration::from_millis(20 - n)).await;
                n * n
            });
            block_on(squared).expect("it does not panic")
        })
    });
    joinall(tasks).into_iter().map(|result| result.expect("it does not panic")).collect()
}

/// A task of tokio's that has a hundred tasks made on this hub, and adds up what they give.
fn be_asked(tokio: &Handle) -> u64 {
    let hub = HubHandle::current();
    let asking = tokio.spawn(async move {
        let doubling: Vec<_> = (1..=100)
            .map(|n| {
                hub.spawn(move || {
                    sleep(Duration::from_millis(1));
                    n * 2
                })
            })
            .collect();
        let mut sum = 0;
        for task in doubling {
            sum += task.await.expect("it does not panic");
        }
        sum
    });
    block_on(asking).expect("it does not panic")
}

/// Numbers that go there over a channel and come back over another. Both are bounded: who is too quick waits.
fn pass_through(tokio: &Handle) -> u64 {
    let (to_there, mut there) = mpsc::channel::<u64>(4);
    let (to_here, mut here) = mpsc::channel::<u64>(4);
    tokio.spawn(async move {
        while let Some(n) = there.recv().await {
            to_here.send(n + 1).await.expect("the receiver is there to the end");
        }
    });
    spawn(move || {
        for n in 0..1000 {
            block_on(to_there.send(n)).expect("the receiver is there to the end");
        }
    });
    let mut sum = 0;
    while let Some(n) = block_on(here.recv()) {
        sum += n;
    }
    sum
}
