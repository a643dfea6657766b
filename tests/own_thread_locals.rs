//! Rule 29: tasks with thread-locals of their own.

mod common;

use std::cell::Cell;

use common::check;
use greenroom::{Builder, JoinHandle, yield_now};

/// Spawns a task with thread-locals of its own.
fn spawn_own<T: 'static>(body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    // SAFETY: the tests share counters and logs of `common`, and handles, none of which cares for thread-locals.
    unsafe { Builder::new().own_thread_locals(true) }.spawn(body).unwrap()
}

#[test]
fn a_value_is_the_tasks_own_and_new_each_time() {
    thread_local! {
        static PLAIN: Cell<u32> = const { Cell::new(7) };
        static LAZY: Cell<u32> = Cell::new(8);
    }
    check(|| {
        PLAIN.set(1);
        LAZY.set(2);
        for _ in 0..500 {
            let tasks = [0, 1].map(|n| {
                spawn_own(move || {
                    let found = (PLAIN.replace(n), LAZY.replace(n + 10));
                    yield_now();
                    (found, PLAIN.get(), LAZY.get())
                })
            });
            for (n, task) in tasks.into_iter().enumerate() {
                let n = n as u32;
                assert_eq!(task.join().unwrap(), ((7, 8), n, n + 10));
            }
        }
        assert_eq!((PLAIN.get(), LAZY.get()), (1, 2));
    });
}
