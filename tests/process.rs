//! Child processes: std's scenarios, and what tasks add to them (rules 9, 10, 12, 17, 20, 25, 26).

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::time::Duration;

use common::{Count, EVER, Log, MS, check, in_child, soon, stderr};
use greenroom::io::pipe;
use greenroom::process::{Child, ChildHandle, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};
use greenroom::{idle, iwait, select, sleep, spawn, timeout, yield_now};

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    command
}

/// A child that ends when its standard input does.
fn waiting_child() -> Child {
    sh("read line; exit 7").stdin(Stdio::piped()).spawn().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn kill_process(id: &str) {
    // SAFETY: takes integers only.
    assert_eq!(unsafe { libc::kill(id.trim().parse().unwrap(), libc::SIGKILL) }, 0);
}

/// Waits until a process is reaped, by a native thread.
fn gone(id: u32) {
    while Path::new(&format!("/proc/{id}")).exists() {
        yield_now();
    }
}

/// Runs a test in a process of its own.
fn alone(test: &str, body: impl FnOnce() + Send + 'static) {
    if let Some(output) = in_child(test, || check(body)) {
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn shared<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}

#[test]
fn children_and_their_pipes_can_be_shared() {
    shared::<Child>();
    shared::<ChildHandle>();
    shared::<ChildStdin>();
    shared::<ChildStdout>();
    shared::<ChildStderr>();
    fn send_sync<T: Send + Sync>() {}
    send_sync::<Command>();
}

// From here: library/std/src/process/tests.rs.

#[test]
fn std_smoke() {
    check(|| {
        let mut p = sh("true").spawn().unwrap();
        assert!(p.wait().unwrap().success());
        assert_eq!(
            Command::new("if-this-is-a-binary-then-the-world-has-ended").spawn().unwrap_err().kind(),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn std_exit_reported_right_and_again() {
    check(|| {
        let mut p = sh("false").spawn().unwrap();
        assert_eq!(p.wait().unwrap().code(), Some(1));
        assert_eq!(p.wait().unwrap().code(), Some(1));
        assert_eq!(p.try_wait().unwrap().unwrap().code(), Some(1));
        p.kill().expect("there is nothing to kill, and that is fine");
    });
}

#[test]
fn std_signal_reported_right() {
    check(|| {
        let mut p = sh("read a").stdin(Stdio::piped()).spawn().unwrap();
        p.kill().unwrap();
        assert_eq!(p.wait().unwrap().signal(), Some(9));
        assert_eq!(sh("kill -TERM $$").status().unwrap().signal(), Some(15));
    });
}

fn run_output(command: &mut Command) -> String {
    let mut p = command.spawn().unwrap();
    let mut ret = String::new();
    p.stdout.as_mut().unwrap().read_to_string(&mut ret).unwrap();
    assert!(p.wait().unwrap().success());
    ret
}

#[test]
fn std_stdout_and_current_dir_work() {
    check(|| {
        assert_eq!(run_output(sh("echo foobar").stdout(Stdio::piped())), "foobar\n");
        assert_eq!(run_output(sh("pwd").current_dir("/").stdout(Stdio::piped())), "/\n");
    });
}

#[test]
fn std_stdin_works() {
    check(|| {
        let mut p = sh("read line; echo $line").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        p.stdin.as_mut().unwrap().write_all(b"foobar").unwrap();
        drop(p.stdin.take());
        let mut out = String::new();
        p.stdout.as_mut().unwrap().read_to_string(&mut out).unwrap();
        assert!(p.wait().unwrap().success());
        assert_eq!(out, "foobar\n");
    });
}

#[test]
fn std_process_status() {
    check(|| {
        assert_eq!(sh("false").status().unwrap().code(), Some(1));
        assert!(sh("true").status().unwrap().success());
    });
}

#[test]
fn std_process_output() {
    check(|| {
        let error = Command::new("/no-binary-by-this-name-should-exist").output().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);

        let Output { status, stdout, stderr } = sh("echo hello").output().unwrap();
        assert!(status.success());
        assert_eq!(text(&stdout), "hello\n");
        assert_eq!(stderr, b"");

        let Output { status, stdout, stderr } = Command::new("mkdir").arg("./").output().unwrap();
        assert!(status.code().is_some_and(|code| code != 0));
        assert_eq!(stdout, b"");
        assert!(!stderr.is_empty());

        let Output { status, stdout, stderr } =
            sh("echo hello").stdout(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert!(status.success());
        assert_eq!(text(&stdout), "hello\n");
        assert_eq!(stderr, b"");
    });
}

#[test]
fn std_environment() {
    check(|| {
        let path = std::env::var_os("PATH").unwrap();
        let mut clear = Command::new("env");
        clear.env_clear().env("RUN_TEST_NEW_ENV", "123").env("PATH", &path);
        let output = clear.output().unwrap();
        assert!(text(&output.stdout).contains("RUN_TEST_NEW_ENV=123"));
        assert_eq!(text(&output.stdout).lines().count(), 2);

        let output = Command::new("env").env("RUN_TEST_NEW_ENV", "123").output().unwrap();
        assert!(text(&output.stdout).contains("RUN_TEST_NEW_ENV=123"));

        let output = Command::new("env").envs([("A_B", "1")]).env_remove("PATH_X").env_remove("A_B").output();
        assert!(!text(&output.unwrap().stdout).contains("A_B="));
    });
}

#[test]
fn std_interior_nul_is_an_error() {
    check(|| {
        let nul = "has-some-\0\0s-inside";
        for command in [
            &mut Command::new(nul),
            Command::new("echo").arg(nul),
            Command::new("echo").args([nul]),
            Command::new("echo").current_dir(nul),
            Command::new("env").env(nul, "value"),
            Command::new("env").env("key", nul),
        ] {
            assert_eq!(command.spawn().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn std_what_was_set_can_be_asked_for() {
    let mut command = Command::new("ls");
    command.arg("-l").args(["a", "b"]).env("K", "V").env_remove("L").current_dir("/bin");
    assert_eq!(command.get_program(), "ls");
    assert_eq!(command.get_args().collect::<Vec<_>>(), ["-l", "a", "b"]);
    assert_eq!(command.get_current_dir(), Some(Path::new("/bin")));
    assert_eq!(command.get_envs().count(), 2);
    let std: std::process::Command = command.into();
    assert!(format!("{std:?}").contains("\"-l\" \"a\" \"b\""));
}

// The example of `ChildStdout`: one child's output is another's input.
#[test]
fn std_pipes_go_from_child_to_child() {
    check(|| {
        let echo = Command::new("echo").arg("Oh no, a tpyo!").stdout(Stdio::piped()).spawn().unwrap();
        let sed = Command::new("sed").arg("s/tpyo/typo/").stdin(echo.stdout.unwrap()).output().unwrap();
        assert_eq!(text(&sed.stdout), "Oh no, a typo!\n");
    });
}

#[test]
fn what_only_unix_has() {
    check(|| {
        assert_eq!(run_output(sh("echo $0").arg0("another-name").stdout(Stdio::piped())), "another-name\n");

        let mut child = Command::new("cat").process_group(0).stdin(Stdio::piped()).spawn().unwrap();
        // SAFETY: takes integers only.
        assert_eq!(unsafe { libc::getpgid(child.id() as i32) }, child.id() as i32);
        assert!(child.wait().unwrap().success());

        // SAFETY: no precondition.
        let user = unsafe { libc::getuid() };
        // SAFETY: no precondition.
        let group = unsafe { libc::getgid() };
        assert!(Command::new("true").uid(user).gid(group).status().unwrap().success());

        let mut refused = Command::new("true");
        // SAFETY: makes an error of an integer.
        unsafe { refused.pre_exec(|| Err(std::io::Error::from_raw_os_error(libc::EDOM))) };
        assert_eq!(refused.spawn().unwrap_err().raw_os_error(), Some(libc::EDOM));
        assert_eq!(Command::new("/").exec().kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn exec_becomes_the_program() {
    let output = in_child("exec_becomes_the_program", || {
        let error = spawn(|| sh("echo became").exec()).join().unwrap();
        panic!("it came back: {error}");
    });
    if let Some(output) = output {
        assert!(output.status.success());
        assert!(text(&output.stdout).ends_with("became\n"));
    }
}

// From here: what tasks add.

#[test]
fn whoever_waits_parks_alone() {
    check(|| {
        let mut child = waiting_child();
        let stdin = child.stdin.take();
        let log = Log::default();
        let waiting = spawn({
            let log = log.clone();
            move || {
                log.add(format!("ended with {:?}", child.wait().unwrap().code()));
            }
        });
        idle();
        log.add("others run");
        drop(stdin);
        waiting.join().unwrap();
        assert_eq!(log.take(), ["others run", "ended with Some(7)"]);
    });
}

#[test]
fn two_hundred_children_at_once_and_a_ticker() {
    check(|| {
        let mut inputs = Vec::new();
        let waits: Vec<_> = (0..200)
            .map(|_| {
                let mut child = waiting_child();
                inputs.push(child.stdin.take());
                spawn(move || child.wait().unwrap().code())
            })
            .collect();
        let ticks = Count::default();
        let ticker = spawn({
            let ticks = ticks.clone();
            move || loop {
                sleep(MS);
                ticks.up();
            }
        });
        while ticks.get() < 20 {
            yield_now();
        }
        assert!(waits.iter().all(|wait| !wait.is_finished()));
        drop(inputs);
        for wait in waits {
            assert_eq!(wait.join().unwrap(), Some(7));
        }
        ticker.kill();
    });
}

#[test]
fn several_tasks_and_threads_wait_for_one_child() {
    check(|| {
        let mut child = waiting_child();
        let stdin = child.stdin.take();
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let handle = child.handle();
                spawn(move || handle.wait().unwrap().code())
            })
            .collect();
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let handle = child.handle();
                std::thread::spawn(move || {
                    // With a hub of its own already, and without.
                    if n == 0 {
                        yield_now();
                    }
                    handle.wait().unwrap().code()
                })
            })
            .collect();
        idle();
        drop(stdin);
        for task in tasks {
            assert_eq!(task.join().unwrap(), Some(7));
        }
        for thread in threads {
            assert_eq!(greenroom::offload(move || thread.join().unwrap()), Some(7));
        }
        assert_eq!(child.wait().unwrap().code(), Some(7));
    });
}

#[test]
fn a_child_is_waited_for_on_another_thread_than_its_spawner_s() {
    check(|| {
        let mut child = waiting_child();
        assert_eq!(child.wait_timeout(EVER).unwrap().unwrap().code(), Some(7), "its input was closed");
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"from here").unwrap();
        let mut four = [0; 4];
        child.stdout.as_mut().unwrap().read_exact(&mut four).unwrap();
        let output = greenroom::offload(move || child.wait_with_output().unwrap());
        assert_eq!((&four, &output.stdout[..]), (b"from", &b" here"[..]));
    });
}

#[test]
fn a_killed_waiter_leaves_no_trace() {
    check(|| {
        let mut child = waiting_child();
        let stdin = child.stdin.take();
        let [first, second] = [child.handle(), child.handle()].map(|handle| spawn(move || handle.wait().unwrap()));
        idle();
        first.kill();
        assert!(first.join().unwrap_err().is_killed());
        drop(stdin);
        assert_eq!(second.join().unwrap().code(), Some(7));
    });
}

// One of several waiters is killed between its wake-up and its turn.
#[test]
fn a_kill_after_the_wake_up_does_not_lose_it() {
    check(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let mut child = waiting_child();
        let stdin = child.stdin.take();
        let first = spawn({
            let handle = child.handle();
            move || handle.wait().unwrap()
        });
        let task = first.task();
        // Its event comes in the same poll as the child's, and before it.
        let killer = spawn(move || {
            reader.read_exact(&mut [0]).unwrap();
            task.kill_nowait();
        });
        let second = spawn({
            let handle = child.handle();
            move || handle.wait().unwrap()
        });
        idle();
        writer.write_all(b".").unwrap();
        drop(stdin);
        // Stops the thread, so that both are seen by one poll.
        let ended = format!("/proc/{}/stat", child.id());
        while !std::fs::read_to_string(&ended).unwrap().contains(") Z ") {
            std::thread::yield_now();
        }
        assert_eq!(soon(|| second.join().unwrap().code()), Some(7));
        killer.join().unwrap();
        assert_eq!(first.join().unwrap().code(), Some(7), "it had been woken, and parks no more");
    });
}

#[test]
fn a_kill_ends_the_wait_of_others() {
    check(|| {
        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        let handle = child.handle();
        let waiting = spawn(move || child.wait().unwrap());
        idle();
        handle.kill().unwrap();
        assert_eq!(waiting.join().unwrap().signal(), Some(9));
        assert_eq!(handle.wait().unwrap().signal(), Some(9));
        handle.kill().expect("its number is not used any more");
    });
}

#[test]
fn the_three_questions_for_wait() {
    check(|| {
        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        assert_eq!(child.wait_timeout(MS).unwrap(), None);
        assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), None);
        assert!(timeout(MS, || child.wait()).is_err());
        assert!(timeout(MS, || timeout(EVER, || child.wait_timeout(EVER))).is_err());
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        assert_eq!(child.wait_timeout(EVER).unwrap().unwrap().signal(), Some(9));
    });
}

#[test]
fn children_are_waited_for_among_others() {
    check(|| {
        let mut children: Vec<Child> = (0..3).map(|_| waiting_child()).collect();
        let mut inputs: Vec<_> = children.iter_mut().map(|child| child.stdin.take()).collect();
        let mut order = Vec::new();
        inputs[2] = None;
        for (place, child) in iwait(&children).enumerate() {
            order.push(child.id());
            if let Some(next) = [0, 1].get(place) {
                inputs[*next] = None;
            }
        }
        assert_eq!(order, [2, 0, 1].map(|place: usize| children[place].id()));
        assert_eq!(greenroom::wait(&children, None, None).len(), 3, "they stay ready");
        for child in &mut children {
            assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(7));
        }
        assert_eq!(greenroom::wait(&children, None, None).len(), 3, "reaped, too");

        let mut child = waiting_child();
        let handle = child.handle();
        assert!(greenroom::wait([&handle], Some(MS), None).is_empty());
        let ended = || {
            select! {
                wait(&handle) => true,
                timeout(MS) => false,
            }
        };
        assert!(!ended());
        child.stdin = None;
        select! { wait(&child) => {} }
        assert!(ended());
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert!(ended());
        // Never waited for by anybody: there is no descriptor of its end.
        let mut child = Command::new("true").spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            yield_now();
        }
        select! { wait(&child) => {} }
    });
}

#[test]
fn pipes_are_waited_for_among_others() {
    check(|| {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = cat.stdout.take().unwrap();
        let readable = || {
            select! {
                readable(&stdout) => true,
                timeout(MS) => false,
            }
        };
        assert!(!readable());
        select! { writable(cat.stdin.as_ref().unwrap()) => {} }
        cat.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        select! { readable(&stdout) => {} }
        cat.wait().unwrap();
    });
}

// Bad days.

#[test]
fn a_child_that_closes_its_input_and_lives() {
    check(|| {
        let mut child =
            sh("exec <&-; echo closed; exec sleep 3600").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 7];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        // A child of another test may have a duplicate of the other end, until it has become its program.
        let error = loop {
            match child.stdin.as_mut().unwrap().write_all(b"x") {
                Ok(()) => yield_now(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        let error = child.communicate(vec![0; 1 << 20], Some(MS * 20)).unwrap_err();
        assert!(error.is_elapsed());
        assert!(child.stdin.is_none(), "nobody reads it");
        child.kill().unwrap();
        assert_eq!(child.communicate("", None).unwrap().status.signal(), Some(9));
    });
}

#[test]
fn a_child_that_dies_at_once() {
    check(|| {
        let mut child = Command::new("true").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.communicate(vec![0; 1 << 20], None).unwrap();
        assert!(output.status.success() && output.stdout.is_empty());

        let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
        let error = child.stdin.as_mut().unwrap().write_all(&vec![0; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_grandchild_that_keeps_the_pipe_open() {
    check(|| {
        let mut child = sh("sleep 3600 & echo $!; exit 4").stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(soon(|| child.wait().unwrap().code()), Some(4));
        let error = child.communicate("", Some(MS * 20)).unwrap_err();
        assert!(error.is_elapsed());
        assert!(error.stdout.ends_with(b"\n"));
        kill_process(text(&error.stdout));
        let output = child.communicate("", None).unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(4), error.stdout));

        let (mut reader, writer) = pipe().unwrap();
        let waiting = spawn(move || sh("sleep 3600 2>&- & echo $! >&2; echo out; exit 4").stderr(writer).output());
        let mut id = String::new();
        BufReader::new(&mut reader).read_line(&mut id).unwrap();
        idle();
        assert!(!waiting.is_finished(), "the output has not ended");
        kill_process(&id);
        let output = waiting.join().unwrap().unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(4), &b"out\n"[..]));
    });
}

#[test]
fn a_program_that_does_not_exist_costs_no_descriptor() {
    alone("a_program_that_does_not_exist_costs_no_descriptor", || {
        let mut command = Command::new("/no-binary-by-this-name-should-exist");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        assert!(command.output().is_err());
        yield_now();
        let before = descriptors();
        for _ in 0..1000 {
            assert_eq!(command.spawn().unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(command.output().unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(command.status().unwrap_err().kind(), ErrorKind::NotFound);
        }
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn a_child_that_ended_costs_no_descriptor() {
    alone("a_child_that_ended_costs_no_descriptor", || {
        let talk = || {
            let mut child =
                sh("cat; cat >&2; read x; exit 3").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            child.communicate("hello", None).unwrap();
            assert_eq!(timeout(EVER, || waiting_child().wait()).unwrap().unwrap().code(), Some(7));
            sh("echo x; exit 3").output().unwrap();
        };
        talk();
        let before = descriptors();
        for _ in 0..20 {
            talk();
        }
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn more_than_a_pipe_holds_in_both_directions_at_once() {
    check(|| {
        let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut tee = Command::new("tee")
            .arg("/dev/stderr")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ticks = Count::default();
        let ticker = spawn({
            let ticks = ticks.clone();
            move || loop {
                ticks.up();
                yield_now();
            }
        });
        let output = tee.communicate(&data[..], None).unwrap();
        assert!(output.stdout == data && output.stderr == data);
        assert!(ticks.get() > 10, "others run meanwhile: {}", ticks.get());
        ticker.kill();
        let again = tee.communicate("", None).unwrap();
        assert!(again.status.success() && again.stdout.is_empty() && again.stderr.is_empty());
    });
}

#[test]
fn communicate_goes_on_where_it_stopped() {
    check(|| {
        let (mut go, go_writer) = pipe().map(|(reader, writer)| (writer, reader)).unwrap();
        // Its third input: it writes when it is told to.
        let mut child = sh("echo first; read line; echo second: $line >&2; cat; exit 5")
            .stdin(go_writer)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let first = |child: &mut Child| loop {
            let error = child.communicate("", Some(MS)).unwrap_err();
            assert!(error.is_elapsed());
            if !error.stdout.is_empty() {
                return error;
            }
        };
        assert_eq!(first(&mut child).stdout, b"first\n");
        assert!(timeout(MS, || child.communicate("", None)).is_err());
        assert!(timeout(MS, || child.communicate("", Some(EVER))).is_err());
        let error = child.communicate("input", None).unwrap_err();
        assert!(!error.is_elapsed());
        assert_eq!(std::io::Error::from(error).kind(), ErrorKind::InvalidInput);
        go.write_all(b"now\nrest").unwrap();
        drop(go);
        let output = child.communicate("", None).unwrap();
        assert_eq!(output.status.code(), Some(5));
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("first\nrest", "second: now\n"));
    });
}

#[test]
fn communicate_keeps_the_input_that_was_not_written() {
    check(|| {
        let data: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut go, wait) = pipe().map(|(reader, writer)| (writer, reader)).unwrap();
        let mut child = sh("exec 3<&0 0<&2 2>/dev/null; read line; exec cat <&3")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::os::fd::OwnedFd::from(wait))
            .spawn()
            .unwrap();
        let error = child.communicate(&data[..400_000], Some(MS)).unwrap_err();
        assert!(error.is_elapsed());
        let io: std::io::Error = error.into();
        assert_eq!(io.kind(), ErrorKind::TimedOut);
        assert!(timeout(MS, || child.communicate(&data[400_000..], None)).is_err());
        go.write_all(b"now\n").unwrap();
        assert!(child.communicate("", None).unwrap().stdout == data);
    });
}

#[test]
fn a_child_that_never_stops_writing_does_not_stop_the_others() {
    check(|| {
        let ticks = Count::default();
        let ticker = spawn({
            let ticks = ticks.clone();
            move || loop {
                ticks.up();
                yield_now();
            }
        });
        let mut yes = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
        let error = yes.communicate("", Some(MS * 30)).unwrap_err();
        assert!(error.is_elapsed() && !error.stdout.is_empty());
        assert!(ticks.get() > 10, "{}", ticks.get());
        yes.kill().unwrap();
        assert_eq!(yes.wait().unwrap().signal(), Some(9));
        ticker.kill();
    });
}

#[test]
fn a_timeout_around_output_kills_nobody() {
    check(|| {
        let (child_in, mut to_child) = pipe().unwrap();
        let (mut from_child, child_err) = pipe().unwrap();
        let mut command = sh("read line; echo $$ heard $line >&2");
        command.stdin(child_in).stderr(child_err);
        assert!(timeout(MS * 20, || command.output()).is_err());
        drop(command);
        to_child.write_all(b"something\n").unwrap();
        let mut said = String::new();
        from_child.read_to_string(&mut said).unwrap();
        let (id, heard) = said.split_once(' ').unwrap();
        assert_eq!(heard, "heard something\n");
        gone(id.parse().unwrap());
    });
}

#[test]
fn kill_on_drop_kills_and_reaps() {
    check(|| {
        let mut sleeper = Command::new("sleep");
        let child = sleeper.arg("3600").kill_on_drop(true).spawn().unwrap();
        let id = child.id();
        drop(child);
        gone(id);

        let child = sleeper.spawn().unwrap();
        let handle = child.handle();
        let holding = spawn(move || {
            let _child = child;
            sleep(EVER);
        });
        idle();
        holding.kill();
        assert_eq!(handle.wait().unwrap().signal(), Some(9));

        let mut child = sleeper.spawn().unwrap();
        child.kill_on_drop(false);
        let handle = child.handle();
        drop(child);
        assert_eq!(handle.try_wait().unwrap(), None);
        handle.kill().unwrap();
        handle.wait().unwrap();
    });
}

// Rule 25.
#[test]
fn a_forked_copy_of_a_child_kills_nobody() {
    alone("a_forked_copy_of_a_child_kills_nobody", || {
        let mut cat =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        assert_eq!(cat.wait_timeout(Duration::ZERO).map(|_| ()).map_err(|e| e.kind()), Ok(()));
        cat.stdin = None;
        let mut cat = Command::new("sleep").arg("3600").kill_on_drop(true).spawn().unwrap();
        // SAFETY: the child drops what it has, and ends.
        match unsafe { greenroom::os::fork() }.unwrap() {
            greenroom::os::Fork::Child => {
                assert_eq!(cat.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
                drop(cat);
                // SAFETY: no precondition.
                unsafe { libc::_exit(0) };
            }
            greenroom::os::Fork::Parent(id) => {
                let mut status = 0;
                // SAFETY: `status` is alive for the call.
                assert_eq!(unsafe { libc::waitpid(id, &raw mut status, 0) }, id);
                assert_eq!(status, 0);
            }
        }
        assert_eq!(cat.wait_timeout(MS).unwrap(), None, "it lives");
    });
}

// Rule 20. Whether the pipes block is asked in the child, while the parent waits for them.
#[test]
fn the_child_has_blocking_pipes_and_no_other_descriptors_of_ours() {
    check(|| {
        let others: Vec<_> = (0..3)
            .map(|_| {
                let mut child = waiting_child();
                let stdin = child.stdin.take();
                (stdin, spawn(move || child.wait()))
            })
            .collect();
        idle();
        let mut child = sh("read line; cat /proc/self/fdinfo/0 /proc/self/fdinfo/1 /proc/self/fdinfo/2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(child.communicate("", Some(Duration::ZERO)).unwrap_err().is_elapsed());
        let output = child.communicate("", None).unwrap();
        let flags: Vec<_> = text(&output.stdout)
            .lines()
            .filter_map(|line| line.strip_prefix("flags:"))
            .map(|flags| i32::from_str_radix(flags.trim(), 8).unwrap())
            .collect();
        assert_eq!(flags.len(), 3);
        assert!(flags.iter().all(|flags| flags & libc::O_NONBLOCK == 0), "{flags:?}");

        let script = "ls -l /proc/self/fd | wc -l";
        let without = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
        assert_eq!(text(&sh(script).output().unwrap().stdout), text(&without.stdout));
        for (stdin, waiting) in others {
            drop(stdin);
            waiting.join().unwrap().unwrap();
        }
    });
}

#[test]
fn our_ends_block_too_and_close_in_other_programs() {
    check(|| {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let reading = spawn(move || {
            let mut stdout = stdout;
            let _nothing = stdout.read(&mut [0]).unwrap();
            stdout
        });
        idle();
        let mut std: std::process::ChildStdin = stdin.into();
        std.write_all(b"x").unwrap();
        drop(std);
        let stdout = reading.join().unwrap();
        // SAFETY: takes integers only.
        let flags = [libc::F_GETFL, libc::F_GETFD].map(|what| unsafe { libc::fcntl(stdout.as_raw_fd(), what) });
        assert_eq!(flags[0] & libc::O_NONBLOCK, 0);
        assert_eq!(flags[1] & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        child.wait().unwrap();
    });
}

// Rules 20 and 26.
#[test]
fn neither_inherited_streams_nor_the_signal_are_touched() {
    alone("neither_inherited_streams_nor_the_signal_are_touched", || {
        let look = || {
            // SAFETY: takes integers only.
            let flags = [0, 1, 2].map(|fd| unsafe { libc::fcntl(fd, libc::F_GETFL) });
            // SAFETY: an all-zero sigaction is valid: integers, and pointers that may be null.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: `action` is alive for the call, which fills it.
            assert_eq!(unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action) }, 0);
            let action = (action.sa_sigaction, action.sa_flags);
            (flags, action)
        };
        let before = look();
        assert_eq!(waiting_child().wait().unwrap().code(), Some(7));
        assert!(sh("cat /proc/self/fdinfo/1 >/dev/null").status().unwrap().success());
        let mut child = waiting_child();
        assert!(greenroom::wait([&child], Some(MS), None).is_empty());
        child.wait().unwrap();
        assert_eq!(look(), before);
    });
}

// As on Linux before 5.3, or under a filter.
#[test]
fn without_pidfd_a_native_thread_waits() {
    alone("without_pidfd_a_native_thread_waits", || {
        forbid_pidfd_open();
        let mut child = waiting_child();
        let stdin = child.stdin.take();
        assert_eq!(child.wait_timeout(MS).unwrap(), None);
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let handle = child.handle();
                spawn(move || handle.wait().unwrap().code())
            })
            .collect();
        idle();
        assert!(greenroom::wait([&child], Some(MS), None).is_empty());
        drop(stdin);
        select! { wait(&child) => {} }
        for task in tasks {
            assert_eq!(task.join().unwrap(), Some(7));
        }
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert_eq!(sh("echo out; exit 2").output().unwrap().stdout, b"out\n");
    });
}

#[test]
fn without_a_descriptor_a_native_thread_waits() {
    alone("without_a_descriptor_a_native_thread_waits", || {
        let mut children = [waiting_child(), waiting_child()];
        let [stdin, other_stdin] = children.each_mut().map(|child| child.stdin.take());
        let [mut child, mut other] = children;
        spawn(|| {}).join().unwrap();
        let mut all = Vec::new();
        let error = loop {
            match std::fs::File::open("/dev/null") {
                Ok(file) => all.push(file),
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        assert_eq!(child.wait_timeout(MS).unwrap(), None);
        assert!(timeout(MS, || child.wait()).is_err());
        let handle = child.handle();
        let waiting = spawn(move || handle.wait().unwrap().code());
        idle();
        let without_hub = std::thread::spawn(move || {
            assert_eq!(other.wait_timeout(MS).unwrap(), None);
            drop(other_stdin);
            other.wait().unwrap().code()
        });
        assert_eq!(without_hub.join().unwrap(), Some(7));
        drop(stdin);
        assert_eq!(waiting.join().unwrap(), Some(7));
    });
}

/// Has `pidfd_open` fail with `ENOSYS` in this process from now on (seccomp(2)).
fn forbid_pidfd_open() {
    let op = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_pidfd_open as u32, 0, 1),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: takes integers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is alive for the call, which only reads it.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }, 0);
}

#[test]
fn in_the_panic_hook_the_thread_waits() {
    alone("in_the_panic_hook_the_thread_waits", || {
        std::panic::set_hook(Box::new(|_| {
            let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let output = cat.communicate(vec![7; 200_000], None).unwrap();
            std::fs::write("/dev/stderr", format!("{}", output.stdout.len())).unwrap();
            assert_eq!(waiting_child().wait().unwrap().code(), Some(7));
        }));
        assert!(spawn(|| panic!("with a child")).join().is_err());
    });
}

#[test]
fn a_command_runs_again_and_again() {
    check(|| {
        let mut command = sh("echo again");
        for _ in 0..2 {
            assert_eq!(command.output().unwrap().stdout, b"again\n");
        }
        command.stdout(Stdio::null());
        assert_eq!(command.output().unwrap().stdout, b"");
        let mut child = command.spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_std_child_is_taken_over() {
    check(|| {
        let std = std::process::Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut child = Child::from(std);
        assert_eq!(child.communicate("through", None).unwrap().stdout, b"through");
    });
}
