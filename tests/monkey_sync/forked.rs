//! Locks in a forked child (rule 25): those who waited were the parent's.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use greenroom::os::{Fork, fork};

use super::common::in_child;
use super::patch;

#[test]
fn a_forked_child_has_locks_and_nobody_of_the_parent_in_line_for_them() {
    const NAME: &str = "forked::a_forked_child_has_locks_and_nobody_of_the_parent_in_line_for_them";
    let output = in_child(NAME, || {
        patch();
        let pair = Arc::new((Mutex::new(0_u32), Condvar::new()));
        // Tasks of this hub, and of another whose thread stays with the parent.
        let wait = |pair: &Arc<(Mutex<u32>, Condvar)>| {
            let pair = pair.clone();
            greenroom::spawn(move || drop(pair.1.wait_while(pair.0.lock().unwrap(), |count| *count == 0).unwrap()))
        };
        let here = wait(&pair);
        let there = pair.clone();
        let thread = thread::spawn(move || wait(&there).join().unwrap());
        greenroom::idle();

        // SAFETY: the child uses nothing that another thread may have held.
        match unsafe { fork() }.unwrap() {
            Fork::Child => {
                *pair.0.lock().unwrap() += 1;
                pair.1.notify_all();
                let counts: Vec<_> = (0..4)
                    .map(|_| {
                        let pair = pair.clone();
                        greenroom::spawn(move || {
                            for _ in 0..100 {
                                let mut count = pair.0.lock().unwrap();
                                greenroom::yield_now();
                                *count += 1;
                                pair.1.notify_one();
                            }
                        })
                    })
                    .collect();
                let all = pair.1.wait_while(pair.0.lock().unwrap(), |count| *count < 401).unwrap();
                assert_eq!(*all, 401);
                drop(all);
                greenroom::joinall(counts).into_iter().for_each(|task| task.unwrap());
                std::process::exit(0);
            }
            Fork::Parent(pid) => {
                let mut status = 0;
                // SAFETY: the place is alive for the call.
                assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
                assert_eq!(status, 0);
            }
        }
        *pair.0.lock().unwrap() = 1;
        pair.1.notify_all();
        here.join().unwrap();
        thread.join().unwrap();
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{output:?}");
    }
}
