//! Spawning when memory is used up: an error or a panic that says why, nothing leaked, and the hub lives.

mod common;

use std::io;
use std::rc::Rc;

use common::{in_child, panic_of, stderr};
use greenroom::testing::{live_stacks, live_tasks};
use greenroom::{Builder, killall, park, scope, spawn, yield_now};

/// Runs `body` in a child process that may map 1 GiB of memory.
#[track_caller]
fn with_little_memory(test: &str, body: impl FnOnce()) {
    let output = in_child(test, || {
        let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
        // SAFETY: the limit is alive for the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
        body();
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn a_builder_without_memory_gives_the_error_and_nothing_is_lost() {
    with_little_memory("a_builder_without_memory_gives_the_error_and_nothing_is_lost", || {
        let held = Rc::new(());
        let mut tasks = Vec::new();
        let error = loop {
            let theirs = held.clone();
            match Builder::new().spawn(move || {
                park();
                drop(theirs);
            }) {
                Ok(task) => tasks.push(task),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
        assert_eq!(Rc::strong_count(&held), 1 + tasks.len(), "the body that found no stack is dropped");
        assert_eq!((live_tasks(), live_stacks()), (tasks.len(), tasks.len()));

        // The others are none the worse, and what they leave can be used again.
        yield_now();
        let last = tasks.pop().unwrap();
        last.task().unpark();
        last.join().unwrap();
        spawn(|| ()).join().unwrap();
        killall(&tasks);
        drop(tasks);
        assert_eq!((live_tasks(), live_stacks()), (0, 0));
        assert_eq!(Rc::strong_count(&held), 1);
    });
}

#[test]
fn spawn_and_scope_without_memory_panic_with_the_reason() {
    with_little_memory("spawn_and_scope_without_memory_panic_with_the_reason", || {
        let mut tasks = Vec::new();
        while let Ok(task) = Builder::new().spawn(park) {
            tasks.push(task);
        }
        let reason = panic_of(|| spawn(|| ()));
        assert!(reason.contains("RLIMIT_AS"), "{reason}");

        let borrowed = String::from("lent");
        let reason = panic_of(|| scope(|s| s.spawn(|| borrowed.len()).join()));
        assert!(reason.contains("RLIMIT_AS"), "{reason}");
        killall(&tasks);
        assert_eq!((live_tasks(), live_stacks()), (0, 0));
    });
}
