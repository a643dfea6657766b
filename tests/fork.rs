//! Rule 25 of the contract: after a fork the child has one task, a poller of its own, and nobody else's stacks run.
//!
//! Each test runs alone in a process of one thread: the harness's threads are no part of what is tested, and must not be.

mod common;

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;

use common::{EVER, Log, MS, OnDrop, in_child};
use greenroom::net::{TcpListener, UnixStream};
use greenroom::os::{Fork, fork};
use greenroom::sync::{Mutex, Semaphore};
use greenroom::{JoinHandle, joinall, killall, park, shield, sleep, spawn, timeout, yield_now};

/// Runs `test` in a process of its own, and fails as it fails.
fn alone(name: &str, test: impl FnOnce()) {
    if let Some(output) = in_child(name, test) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Forks; runs `child` there and ends it with what that gives. How the child ended, in the parent.
fn forked(child: impl FnOnce() -> i32) -> ExitStatus {
    // SAFETY: the other threads are the harness's, which wait; nothing of theirs is used.
    match unsafe { fork() }.unwrap() {
        Fork::Child => std::process::exit(child()),
        Fork::Parent(pid) => wait_for(pid),
    }
}

fn wait_for(pid: i32) -> ExitStatus {
    let mut status = 0;
    // SAFETY: `status` is alive for the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    ExitStatus::from_raw(status)
}

fn code(passed: bool) -> i32 {
    if passed { 0 } else { 1 }
}

#[test]
fn nobody_else_runs_in_the_child() {
    alone("nobody_else_runs_in_the_child", || {
        let turns = Rc::new(Cell::new(0));
        let others: Vec<JoinHandle<()>> = (0..3)
            .map(|_| {
                let turns = turns.clone();
                spawn(move || {
                    loop {
                        turns.set(turns.get() + 1);
                        yield_now();
                    }
                })
            })
            .collect();
        let sleeper = spawn(|| sleep(MS));
        yield_now();
        let status = forked(|| {
            let before = turns.get();
            sleep(5 * MS);
            yield_now();
            let killed = sleeper.join().is_err_and(|error| error.is_killed());
            let ended = others.iter().all(|other| other.is_finished());
            code(turns.get() == before && killed && ended)
        });
        assert!(status.success(), "{status}");
        let before = turns.get();
        yield_now();
        assert_eq!(turns.get(), before + 3, "they go on in the parent");
        killall(&others);
    });
}

#[test]
fn destructors_of_the_others_run_in_the_parent_only() {
    alone("destructors_of_the_others_run_in_the_parent_only", || {
        let log = Log::default();
        let on_drop = OnDrop(log.clone(), "dropped");
        let other = spawn(move || {
            let _on_drop = on_drop;
            sleep(EVER);
        });
        yield_now();
        let seen = log.clone();
        let status = forked(move || {
            drop(other);
            code(seen.take().is_empty())
        });
        assert!(status.success(), "{status}");
        drop(log);
    });
}

#[test]
fn the_child_has_tasks_timers_and_sockets_of_its_own() {
    alone("the_child_has_tasks_timers_and_sockets_of_its_own", || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = spawn(move || listener.accept().map(|_| ()));
        yield_now();
        let status = forked(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"hello").unwrap();
            });
            let mut text = String::new();
            greenroom::net::TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
            server.join().unwrap();
            let late = timeout(MS, park).is_err();
            code(text == "hello" && late && joinall((0..10).map(|i| spawn(move || i))).len() == 10)
        });
        assert!(status.success(), "{status}");
        // The parent's own registration still stands.
        let _client = greenroom::net::TcpStream::connect(address).unwrap();
        accepting.join().unwrap().unwrap();
    });
}

#[test]
fn a_socket_that_came_along_is_used_by_both() {
    alone("a_socket_that_came_along_is_used_by_both", || {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        // Registered in the parent: the child must not find itself in the parent's poller.
        let reading = {
            let mut here = here.try_clone().unwrap();
            spawn(move || here.read(&mut [0]))
        };
        yield_now();
        // SAFETY: as in `forked`.
        match unsafe { fork() }.unwrap() {
            Fork::Child => {
                drop(here);
                let mut byte = [0];
                let got = there.read(&mut byte);
                there.write_all(b"y").unwrap();
                std::process::exit(code(got.is_ok() && byte == *b"x"));
            }
            Fork::Parent(pid) => {
                drop(there);
                here.write_all(b"x").unwrap();
                assert_eq!(reading.join().unwrap().unwrap(), 1);
                assert!(wait_for(pid).success());
            }
        }
    });
}

#[test]
fn a_task_may_fork_and_the_child_ends_with_it() {
    alone("a_task_may_fork_and_the_child_ends_with_it", || {
        for (ends, expected) in [(0, 0), (1, 101)] {
            let parent = std::process::id();
            let forking = spawn(move || {
                // SAFETY: as in `forked`.
                let forked = unsafe { fork() }.unwrap();
                if forked == Fork::Child {
                    sleep(MS);
                    assert_ne!(std::process::id(), parent);
                    spawn(|| ()).join().unwrap();
                    if ends == 1 {
                        std::panic::resume_unwind(Box::new("the child's task"));
                    }
                }
                forked
            });
            let Fork::Parent(pid) = forking.join().unwrap() else { panic!("the root went on in the child") };
            assert_eq!(wait_for(pid).code(), Some(expected));
        }
    });
}

#[test]
fn a_timeout_around_a_fork_goes_on_in_both() {
    alone("a_timeout_around_a_fork_goes_on_in_both", || {
        let mut pid = None;
        let ended = timeout(5 * MS, || {
            // SAFETY: as in `forked`.
            if let Fork::Parent(child) = unsafe { fork() }.unwrap() {
                pid = Some(child);
            }
            park();
        });
        match pid {
            None => std::process::exit(code(ended.is_err())),
            Some(pid) => {
                assert!(ended.is_err());
                assert!(wait_for(pid).success());
            }
        }
    });
}

#[test]
fn what_is_handed_out_in_the_child_does_not_go_to_those_who_are_not_there() {
    alone("what_is_handed_out_in_the_child_does_not_go_to_those_who_are_not_there", || {
        let (semaphore, mutex) = (Rc::new(Semaphore::new(0)), Rc::new(Mutex::new(())));
        let guard = mutex.lock().unwrap();
        let waiting = [
            {
                let semaphore = semaphore.clone();
                spawn(move || semaphore.acquire().forget())
            },
            {
                let mutex = mutex.clone();
                spawn(move || drop(mutex.lock()))
            },
        ];
        yield_now();
        let status = forked(|| {
            semaphore.release(1);
            drop(guard);
            code(semaphore.try_acquire().is_some() && mutex.try_lock().is_ok())
        });
        assert!(status.success(), "{status}");
        killall(&waiting);
    });
}

#[test]
fn forks_of_forks_work() {
    alone("forks_of_forks_work", || {
        let status = forked(|| {
            let task = spawn(|| shield(|| sleep(MS)));
            let inner = forked(|| code(timeout(MS, || spawn(|| 1).join().unwrap()) == Ok(1)));
            code(inner.success() && task.join().is_ok())
        });
        assert!(status.success(), "{status}");
    });
}
