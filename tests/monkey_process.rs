//! Patched waits for children, `system`, `pclose` and `fork`: rules 25 and 26 for code that knows nothing of this crate.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "C's calls in a row owe the same: objects that are alive and made ready"
)]
#![allow(clippy::zombie_processes, reason = "they are waited for by their numbers")]

mod common;

use std::ffi::{CString, c_int};
use std::io::{Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::thread;
use std::time::Instant;

use common::{MS, check, in_child, soon};
use greenroom::monkey;
use greenroom::{joinall, spawn, yield_now};
use libc::{pid_t, siginfo_t};

fn patched(body: impl FnOnce() + Send + 'static) {
    // SAFETY: tasks of these tests share only what is Send.
    unsafe { monkey::patch_all() };
    check(body);
}

/// Runs a test in a process of its own: some wait for any child.
#[track_caller]
fn alone(test: &str, body: impl FnOnce() + Send + 'static) {
    let output = in_child(test, || patched(body));
    if let Some(output) = output {
        assert!(output.status.success(), "{}", common::stderr(&output));
    }
}

fn result(result: c_int) -> Result<c_int, c_int> {
    if result < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { Ok(result) }
}

fn waitpid(child: pid_t, options: c_int) -> Result<(pid_t, c_int), c_int> {
    let mut status = 0;
    // SAFETY: a place, alive for the call.
    let found = result(unsafe { libc::waitpid(child, &mut status, options) })?;
    Ok((found, status))
}

/// A child that ends with `code` when its standard input does.
fn child(code: i32) -> Child {
    Command::new("sh").args(["-c", &format!("read x; exit {code}")]).stdin(Stdio::piped()).spawn().unwrap()
}

fn pid(child: &Child) -> pid_t {
    child.id() as pid_t
}

#[test]
fn only_the_caller_waits() {
    patched(|| {
        let mut child = child(3);
        let mut stdin = child.stdin.take();
        let waits = spawn(move || child.wait().unwrap());
        for _ in 0..10 {
            yield_now();
        }
        assert!(!waits.is_finished());
        stdin.take();
        assert_eq!(waits.join().unwrap().code(), Some(3));
    });
}

#[test]
fn a_hundred_tasks_use_std_command() {
    patched(|| {
        let begun = Instant::now();
        let tasks: Vec<_> = (0..100)
            .map(|number: u8| {
                spawn(move || {
                    let script = format!("sleep 0.2; echo {number}; echo error >&2; exit {number}");
                    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
                    assert_eq!(output.stdout, format!("{number}\n").into_bytes());
                    assert_eq!(output.stderr, b"error\n");
                    output.status.code()
                })
            })
            .collect();
        let codes: Vec<_> = joinall(tasks).into_iter().map(|code| code.unwrap().unwrap()).collect();
        assert_eq!(codes, (0..100).collect::<Vec<i32>>());
        assert!(begun.elapsed() < 100 * 200 * MS);
    });
}

#[test]
fn a_command_that_forks_by_itself() {
    patched(|| {
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                spawn(move || {
                    let mut command = Command::new("sh");
                    command.args(["-c", &format!("sleep 0.05; exit {number}")]);
                    // SAFETY: does nothing.
                    unsafe { command.pre_exec(|| Ok(())) };
                    let status = command.status().unwrap();
                    let mut missing = Command::new("/no such program");
                    // SAFETY: does nothing.
                    unsafe { missing.pre_exec(|| Ok(())) };
                    assert_eq!(missing.spawn().unwrap_err().kind(), std::io::ErrorKind::NotFound);
                    status.code()
                })
            })
            .collect();
        for (number, code) in joinall(tasks).into_iter().enumerate() {
            assert_eq!(code.unwrap(), Some(number as i32));
        }
    });
}

#[test]
fn the_ways_a_child_can_end() {
    patched(|| {
        let ends = [("exit 0", 0), ("exit 255", 255 << 8), ("kill -TERM $$", libc::SIGTERM), ("kill -KILL $$", 9)];
        for (script, expected) in ends {
            for way in 0..3 {
                let child = Command::new("sh").args(["-c", &format!("sleep 0.01; {script}")]).spawn().unwrap();
                let pid = pid(&child);
                let status = spawn(move || {
                    if way == 0 {
                        let (found, status) = waitpid(pid, 0).unwrap();
                        assert_eq!(found, pid);
                        return status;
                    }
                    if way == 1 {
                        let mut status = 0;
                        // SAFETY: places for both are integers, for which zero is a value.
                        let mut usage: libc::rusage = unsafe { mem::zeroed() };
                        // SAFETY: places, alive for the call.
                        assert_eq!(unsafe { libc::wait4(pid, &mut status, 0, &mut usage) }, pid);
                        assert!(usage.ru_maxrss > 0);
                        return status;
                    }
                    let info = waitid(libc::P_PID, pid as libc::id_t, libc::WEXITED).unwrap();
                    // SAFETY: of a child's end.
                    assert_eq!(unsafe { info.si_pid() }, pid);
                    // SAFETY: as above.
                    let value = unsafe { info.si_status() };
                    if info.si_code == libc::CLD_EXITED { value << 8 } else { value }
                });
                let status = status.join().unwrap();
                assert_eq!(status & !0x80, expected & !0x80, "{script}");
                assert_eq!(waitpid(pid, 0), Err(libc::ECHILD));
            }
        }
    });
}

fn waitid(which: libc::idtype_t, id: libc::id_t, options: c_int) -> Result<siginfo_t, c_int> {
    // SAFETY: integers, and pointers that may be null.
    let mut info: siginfo_t = unsafe { mem::zeroed() };
    info.si_signo = 77;
    // SAFETY: a place, alive for the call.
    result(unsafe { libc::waitid(which, id, &mut info, options) })?;
    Ok(info)
}

#[test]
fn waitid_in_all_its_forms() {
    patched(|| {
        let mut child = child(7);
        let pid = pid(&child);
        assert_eq!(waitid(libc::P_PID, pid as libc::id_t, libc::WEXITED | libc::WNOHANG).unwrap().si_signo, 0);
        assert_eq!(waitid(libc::P_PID, pid as libc::id_t, 0).err(), Some(libc::EINVAL));
        // SAFETY: takes integers only.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        // SAFETY: just made.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd as c_int) };
        let by_fd = pidfd.as_raw_fd() as libc::id_t;
        let looks: Vec<_> = [(libc::P_PID, pid as libc::id_t), (libc::P_PIDFD, by_fd)]
            .map(|(which, id)| spawn(move || waitid(which, id, libc::WEXITED | libc::WNOWAIT).unwrap()))
            .into();
        for _ in 0..10 {
            yield_now();
        }
        assert!(looks.iter().all(|look| !look.is_finished()));
        drop(child.stdin.take());
        for look in joinall(looks) {
            let info = look.unwrap();
            // SAFETY: of a child's end.
            assert_eq!((info.si_code, unsafe { info.si_status() }), (libc::CLD_EXITED, 7));
        }
        // Nobody has taken it; without a place too.
        // SAFETY: null is allowed.
        let taken =
            spawn(move || result(unsafe { libc::waitid(libc::P_PIDFD, by_fd, ptr::null_mut(), libc::WEXITED) }));
        assert_eq!(taken.join().unwrap(), Ok(0));
        assert_eq!(waitpid(pid, 0), Err(libc::ECHILD));
    });
}

#[test]
fn stops_and_continuations_are_told() {
    patched(|| {
        let mut child = child(0);
        let pid = pid(&child);
        let both = libc::WUNTRACED | libc::WCONTINUED;
        // SAFETY: to a child of ours.
        let signal = |signal| assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        let next = || spawn(move || waitpid(pid, both).unwrap().1);

        let waits = next();
        yield_now();
        assert!(!waits.is_finished());
        signal(libc::SIGSTOP);
        assert!(libc::WIFSTOPPED(waits.join().unwrap()));
        let waits = next();
        yield_now();
        assert!(!waits.is_finished());
        signal(libc::SIGCONT);
        assert!(libc::WIFCONTINUED(waits.join().unwrap()));
        let waits = next();
        yield_now();
        drop(child.stdin.take());
        assert_eq!(waits.join().unwrap(), 0);
    });
}

#[test]
fn any_child_for_many_tasks() {
    alone("any_child_for_many_tasks", || {
        let mut children: Vec<_> = (0..20).map(child).collect();
        let mut expected: Vec<_> = children.iter().map(|child| (pid(child), 0)).collect();
        for (code, child) in expected.iter_mut().enumerate() {
            child.1 = (code as c_int) << 8;
        }
        let (for_any, in_group): (Vec<_>, Vec<_>) = (0..20).partition(|number| number % 2 == 0);
        let mut waits: Vec<_> = for_any.iter().map(|_| spawn(|| waitpid(-1, 0))).collect();
        waits.extend(in_group.iter().map(|_| spawn(|| waitpid(0, 0))));
        for _ in 0..10 {
            yield_now();
        }
        assert!(waits.iter().all(|wait| !wait.is_finished()));
        for child in &mut children {
            drop(child.stdin.take());
            yield_now();
        }
        let mut found: Vec<_> = joinall(waits).into_iter().map(|found| found.unwrap().unwrap()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);

        let mut status = 0;
        // SAFETY: a place, alive for the call.
        assert_eq!(result(unsafe { libc::wait(&mut status) }), Err(libc::ECHILD));
        // SAFETY: as above.
        assert_eq!(result(unsafe { libc::wait4(-1, &mut status, libc::WNOHANG, ptr::null_mut()) }), Err(libc::ECHILD));
        assert_eq!(waitpid(-pid_t::from(i16::MAX), 0), Err(libc::ECHILD));
        assert_eq!(waitpid(-1, 1 << 20), Err(libc::EINVAL));
    });
}

#[test]
fn a_kill_is_ecanceled_and_takes_nothing() {
    alone("a_kill_is_ecanceled_and_takes_nothing", || {
        let mut child = child(9);
        let pid = pid(&child);
        let (is_there, there) = greenroom::sync::mpsc::channel();
        let waits = [
            spawn(move || waitpid(pid, 0)),
            spawn(|| waitpid(-1, 0)),
            spawn(move || waitpid(pid, libc::WUNTRACED)),
            spawn(move || {
                let late = greenroom::timeout(MS, || assert_eq!(waitpid(-1, 0), Err(libc::ECANCELED)));
                assert!(late.is_err());
                is_there.send(()).unwrap();
                waitpid(-1, 0)
            }),
        ];
        there.recv().unwrap();
        yield_now();
        for wait in &waits {
            wait.task().kill_nowait();
        }
        for wait in waits {
            assert_eq!(wait.join().unwrap(), Err(libc::ECANCELED));
        }
        let late = spawn(|| waitpid(-1, 0));
        yield_now();
        drop(child.stdin.take());
        assert_eq!(late.join().unwrap(), Ok((pid, 9 << 8)));
    });
}

#[test]
fn children_that_reap_themselves() {
    alone("children_that_reap_themselves", || {
        // SAFETY: no handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let mut child = child(1);
        let pid = pid(&child);
        let waits = [spawn(move || waitpid(pid, 0)), spawn(|| waitpid(-1, 0))];
        yield_now();
        drop(child.stdin.take());
        for wait in waits {
            assert_eq!(wait.join().unwrap(), Err(libc::ECHILD));
        }
    });
}

#[test]
fn threads_and_tasks_wait_at_once() {
    patched(|| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(|| {
                    let tasks: Vec<_> = (0..10)
                        .map(|code| {
                            spawn(move || {
                                let mut child = child(code);
                                drop(child.stdin.take());
                                child.wait().unwrap().into_raw() == code << 8
                            })
                        })
                        .collect();
                    joinall(tasks).into_iter().all(Result::unwrap)
                })
            })
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    });
}

#[test]
fn system_and_pclose_stop_nobody() {
    patched(|| {
        let begun = Instant::now();
        let commands: Vec<_> = (0..20)
            .map(|code| {
                spawn(move || {
                    let command = CString::new(format!("sleep 0.2; exit {code}")).unwrap();
                    // SAFETY: a C string.
                    unsafe { libc::system(command.as_ptr()) }
                })
            })
            .collect();
        let streams: Vec<_> = (0..20)
            .map(|code| {
                spawn(move || {
                    let command = CString::new(format!("sleep 0.2; exit {code}")).unwrap();
                    // SAFETY: C strings.
                    let stream = unsafe { libc::popen(command.as_ptr(), c"r".as_ptr()) };
                    assert!(!stream.is_null());
                    // SAFETY: it is open.
                    unsafe { libc::pclose(stream) }
                })
            })
            .collect();
        for statuses in [joinall(commands), joinall(streams)] {
            for (code, status) in statuses.into_iter().enumerate() {
                assert_eq!(status.unwrap(), (code as c_int) << 8);
            }
        }
        assert!(begun.elapsed() < 40 * 200 * MS);
        // SAFETY: asks whether there is a shell.
        assert_ne!(spawn(|| unsafe { libc::system(ptr::null()) }).join().unwrap(), 0);

        let killed = spawn(|| {
            // SAFETY: a C string.
            result(unsafe { libc::system(c"sleep 0.3".as_ptr()) })
        });
        yield_now();
        killed.task().kill_nowait();
        assert_eq!(soon(|| killed.join().unwrap()), Err(libc::ECANCELED));
    });
}

/// Forks by the C library's name.
fn fork() -> pid_t {
    // SAFETY: the child does little, and no other thread holds anything that it needs.
    unsafe { libc::fork() }
}

#[test]
fn rule_25_a_child_has_the_task_that_forked() {
    alone("rule_25_a_child_has_the_task_that_forked", || {
        let (mut from_child, to_parent) = std::io::pipe().unwrap();
        let other = spawn(|| {
            greenroom::sleep(50 * MS);
            "the parent's"
        });
        let forks = spawn(move || {
            let pid = fork();
            if pid == 0 {
                // The poller is new: a socket that waits, and a timer.
                let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
                let echo = spawn(move || {
                    thread::sleep(5 * MS);
                    here.write_all(b"child").unwrap();
                });
                let mut text = [0; 5];
                there.read_exact(&mut text).unwrap();
                echo.join().unwrap();
                let mut to_parent = to_parent;
                to_parent.write_all(&text).unwrap();
                // SAFETY: ends the process.
                unsafe { libc::_exit(5) };
            }
            drop(to_parent);
            waitpid(pid, 0).unwrap().1
        });
        assert_eq!(forks.join().unwrap(), 5 << 8);
        assert_eq!(other.join().unwrap(), "the parent's");
        let mut text = String::new();
        from_child.read_to_string(&mut text).unwrap();
        assert_eq!(text, "child");
    });
}

#[test]
fn fork_and_exec_from_the_root_and_from_a_plain_thread() {
    alone("fork_and_exec_from_the_root_and_from_a_plain_thread", || {
        let run = || {
            let pid = fork();
            if pid == 0 {
                let arguments = [c"sh".as_ptr(), c"-c".as_ptr(), c"exit 6".as_ptr(), ptr::null()];
                // SAFETY: C strings, and a null behind them.
                unsafe { libc::execvp(c"sh".as_ptr(), arguments.as_ptr()) };
                // SAFETY: ends the process.
                unsafe { libc::_exit(1) };
            }
            waitpid(pid, 0).unwrap().1
        };
        // A root that has no tasks, but a hub.
        yield_now();
        assert_eq!(run(), 6 << 8);
        let other = spawn(|| greenroom::sleep(5 * MS));
        assert_eq!(run(), 6 << 8);
        other.join().unwrap();
        assert_eq!(thread::spawn(run).join().unwrap(), 6 << 8);
    });
}

#[test]
fn c_forks_in_a_task_with_thread_locals_of_its_own_whatever_is_patched() {
    const NAME: &str = "c_forks_in_a_task_with_thread_locals_of_its_own_whatever_is_patched";
    let output = common::in_child(NAME, || {
        // SAFETY: tasks share only what is Send.
        unsafe { monkey::patch(monkey::Areas::SYNC) };
        let forks = spawn(move || {
            let pid = fork();
            if pid == 0 {
                // Threads are numbered by the system in a child as anywhere: what the C library keeps of its own is the child's.
                let value = thread::spawn(|| 7).join().unwrap();
                let mut mutex = libc::PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
                // It tells its owner by the thread's number.
                // SAFETY: of this frame's, whatever comes of it.
                let mut lock = || unsafe { libc::pthread_mutex_lock(&raw mut mutex) };
                let held = (lock(), lock()).1;
                // SAFETY: sends nothing.
                let raised = unsafe { libc::raise(0) };
                // SAFETY: ends the process.
                unsafe { libc::_exit(if (value, held, raised) == (7, libc::EDEADLK, 0) { 5 } else { 6 }) };
            }
            waitpid(pid, 0).unwrap().1
        });
        assert_eq!(forks.join().unwrap(), 5 << 8);
        // The parent is as it was.
        assert_eq!(thread::spawn(|| 8).join().unwrap(), 8);
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{output:?}");
    }
}
