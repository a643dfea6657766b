//! The standard streams, in child processes: they park the task alone, and no flag is ever touched (rules 10, 11, 16, 20, 21).

mod common;

use std::cell::Cell;
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;

use common::{MS, soon};
use greenroom::io::{stderr, stdin, stdout};
use greenroom::{idle, sleep, spawn, timeout, yield_now};

const KEY: &str = "GREENROOM_STDIO";
/// What the harness has written comes before.
const BEGIN: &str = "---- the child's own ----\n";

/// In the child, runs `body`, and the process ends there. In the parent, the command that leads to it.
fn child(test: &str, body: impl FnOnce()) -> Command {
    if std::env::var(KEY).is_ok_and(|child| child == test) {
        { stdout() }.write_all(BEGIN.as_bytes()).unwrap();
        body();
        std::process::exit(0);
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(KEY, test).stdin(Stdio::null());
    command
}

/// What came after [`BEGIN`].
#[track_caller]
fn own(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let Some((_, own)) = text.split_once(BEGIN) else { panic!("the child wrote {text:?}") };
    own.to_owned()
}

fn flags(fd: impl AsFd) -> i32 {
    // SAFETY: takes integers only.
    unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFL) }
}

/// A task that counts its turns, until it is killed.
fn ticker() -> (greenroom::JoinHandle<()>, Rc<Cell<u64>>) {
    let ticks = Rc::new(Cell::new(0));
    let counter = ticks.clone();
    let task = spawn(move || {
        loop {
            counter.set(counter.get() + 1);
            sleep(MS);
        }
    });
    (task, ticks)
}

// Rule 20, seen from the parent, whose duplicates share the open files.
#[test]
fn no_flag_of_the_three_is_changed() {
    let mut command = child("no_flag_of_the_three_is_changed", || {
        let mut line = String::new();
        { stdout() }.write_all(b"ready\n").unwrap();
        stdin().read_line(&mut line).unwrap();
        // Parked in a read; then a write that does not fit.
        { stdout() }.write_all(line.as_bytes()).unwrap();
        { stdout() }.write_all(&[b'x'; 200_000]).unwrap();
        { stdout() }.flush().unwrap();
        { stderr() }.write_all(&[b'e'; 200_000]).unwrap();
    });
    let (input, mut to_input) = std::io::pipe().unwrap();
    let (mut output, from_output) = std::io::pipe().unwrap();
    let (mut errors, from_errors) = std::io::pipe().unwrap();
    let watched = [
        OwnedFd::from(input.try_clone().unwrap()),
        from_output.try_clone().unwrap().into(),
        from_errors.try_clone().unwrap().into(),
    ];
    let before: Vec<_> = watched.iter().map(flags).collect();
    let mut child = command.stdin(input).stdout(from_output).stderr(from_errors).spawn().unwrap();
    drop(command);

    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("ready\n") {
        let mut part = [0; 512];
        let n = output.read(&mut part).unwrap();
        assert!(n > 0);
        seen.extend_from_slice(&part[..n]);
    }
    assert_eq!(watched.iter().map(flags).collect::<Vec<_>>(), before);
    to_input.write_all(b"line\n").unwrap();
    // It is in the midst of its writes.
    output.read_exact(&mut [0; 5 + 150_000]).unwrap();
    assert_eq!(watched.iter().map(flags).collect::<Vec<_>>(), before);
    output.read_exact(&mut [0; 50_000]).unwrap();
    errors.read_exact(&mut [0; 200_000]).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(watched.iter().map(flags).collect::<Vec<_>>(), before);
    assert!(before.iter().all(|flags| flags & libc::O_NONBLOCK == 0));
}

/// Reads two lines and tells them, while others run.
fn read_two_lines() {
    let (task, ticks) = ticker();
    let reading = spawn(|| {
        let mut lines = stdin().lines();
        [(); 2].map(|()| lines.next().unwrap().unwrap())
    });
    let lines = reading.join().unwrap();
    task.kill();
    { stdout() }.write_all(format!("{lines:?} {}\n", ticks.get() > 3).as_bytes()).unwrap();
}

/// Gives the lines with a pause, in which the child's ticker runs.
fn feed(mut to: impl Write) {
    for line in ["one\n", "two\n"] {
        std::thread::sleep(20 * MS);
        to.write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn input_from_a_pipe() {
    let mut child =
        child("input_from_a_pipe", read_two_lines).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    feed(child.stdin.take().unwrap());
    assert_eq!(own(&child.wait_with_output().unwrap().stdout), "[\"one\", \"two\"] true\n");
}

#[test]
fn input_from_a_socket() {
    let mut command = child("input_from_a_socket", read_two_lines);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = command.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).spawn().unwrap();
    feed(&ours);
    assert_eq!(own(&child.wait_with_output().unwrap().stdout), "[\"one\", \"two\"] true\n");
}

#[test]
fn input_from_a_fifo() {
    let mut command = child("input_from_a_fifo", read_two_lines);
    let path = std::env::temp_dir().join(format!("greenroom-stdio-{}", std::process::id()));
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let fifo = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let child = command.stdin(fifo.try_clone().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    feed(fifo);
    assert_eq!(own(&child.wait_with_output().unwrap().stdout), "[\"one\", \"two\"] true\n");
}

/// Both sides of a new terminal.
fn terminal() -> (std::fs::File, std::fs::File) {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: it was just made.
    let ours = unsafe { std::fs::File::from_raw_fd(fd) };
    let (mut number, on) = (0_i32, 0_i32);
    // SAFETY: an integer that is alive for the call.
    assert_eq!(unsafe { libc::ioctl(fd, libc::TIOCSPTLCK, &raw const on) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::ioctl(fd, libc::TIOCGPTN, &raw mut number) }, 0);
    let theirs = std::fs::OpenOptions::new().read(true).write(true).open(format!("/dev/pts/{number}")).unwrap();
    (ours, theirs)
}

#[test]
fn input_from_a_terminal() {
    let mut command = child("input_from_a_terminal", || {
        assert!(stdin().is_terminal() && !stdout().is_terminal());
        read_two_lines();
    });
    let (ours, theirs) = terminal();
    let before = flags(&theirs);
    let child = command.stdin(theirs.try_clone().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    feed(&ours);
    assert_eq!(own(&child.wait_with_output().unwrap().stdout), "[\"one\", \"two\"] true\n");
    assert_eq!(flags(theirs), before);
}

// A terminal that nobody reads takes some bytes, and then no more; its room cannot be told before.
#[test]
fn output_to_a_terminal_that_is_full() {
    let mut command = child("output_to_a_terminal_that_is_full", || {
        let (task, ticks) = ticker();
        let writing = spawn(|| { stdout() }.write_all(&[b'x'; 300_000]).unwrap());
        while ticks.get() < 50 {
            yield_now();
        }
        assert!(!writing.is_finished());
        { stderr() }.write_all(b"others run\n").unwrap();
        task.kill();
        writing.join().unwrap();
        { stdout() }.write_all(b"\nend\n").unwrap();
    });
    let (mut ours, theirs) = terminal();
    let (mut errors, from_errors) = std::io::pipe().unwrap();
    let mut child = command.stdout(theirs.try_clone().unwrap()).stderr(from_errors).spawn().unwrap();
    drop(command);
    let mut line = [0; 11];
    errors.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"others run\n");
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    while !all.ends_with(b"end\r\n") {
        let n = ours.read(&mut part).unwrap();
        all.extend_from_slice(&part[..n]);
    }
    let (_, own) = all.split_at(all.iter().position(|&byte| byte == b'x').unwrap());
    assert_eq!(own.iter().filter(|&&byte| byte == b'x').count(), 300_000);
    assert!(child.wait().unwrap().success());
}

#[test]
fn input_from_a_disk_file() {
    let mut command = child("input_from_a_disk_file", || {
        let mut all = String::new();
        stdin().read_to_string(&mut all).unwrap();
        { stdout() }.write_all(format!("{} {:?}\n", all.len(), &all[..5]).as_bytes()).unwrap();
    });
    let path = std::env::temp_dir().join(format!("greenroom-stdio-file-{}", std::process::id()));
    std::fs::write(&path, "abcd\n".repeat(100_000)).unwrap();
    let output = command.stdin(std::fs::File::open(&path).unwrap()).output().unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(own(&output.stdout), "500000 \"abcd\\n\"\n");
}

#[test]
fn output_to_a_disk_file() {
    let mut command = child("output_to_a_disk_file", || {
        for n in 0..1000 {
            writeln!(stdout(), "line {n}").unwrap();
        }
    });
    let path = std::env::temp_dir().join(format!("greenroom-stdio-out-{}", std::process::id()));
    assert!(command.stdout(std::fs::File::create(&path).unwrap()).status().unwrap().success());
    let text = own(&std::fs::read(&path).unwrap());
    std::fs::remove_file(path).unwrap();
    assert_eq!(text, (0..1000).map(|n| format!("line {n}\n")).collect::<String>());
}

#[test]
fn input_from_nowhere() {
    let output = child("input_from_nowhere", || {
        assert_eq!(stdin().read_line(&mut String::new()).unwrap(), 0);
        assert_eq!(stdin().read(&mut [0]).unwrap(), 0);
        stdout().write_all(b"nothing\n").unwrap();
    })
    .output()
    .unwrap();
    assert_eq!(own(&output.stdout), "nothing\n");
}

// As std: what is closed reads as empty, and takes everything.
#[test]
fn closed_ones() {
    let mut command = child("closed_ones", || {
        for fd in [0, 2] {
            // SAFETY: nobody else uses these here.
            unsafe { libc::close(fd) };
        }
        assert_eq!(stdin().read_line(&mut String::new()).unwrap(), 0);
        stderr().write_all(b"into the void").unwrap();
        stdout().write_all(b"fine\n").unwrap();
    });
    let output = command.output().unwrap();
    assert_eq!(own(&output.stdout), "fine\n");
}

// What was known of the descriptor is not used for what comes in its place.
#[test]
fn a_descriptor_that_is_replaced() {
    let mut command = child("a_descriptor_that_is_replaced", || {
        assert!(timeout(MS, || stdin().read(&mut [0])).is_err());
        let (reader, mut writer) = std::io::pipe().unwrap();
        // SAFETY: takes integers only.
        unsafe { libc::dup2(reader.as_raw_fd(), 0) };
        drop(reader);
        let reading = spawn(|| {
            let mut line = String::new();
            stdin().read_line(&mut line).map(|_| line)
        });
        idle();
        writer.write_all(b"new\n").unwrap();
        stdout().write_all(soon(|| reading.join().unwrap()).unwrap().as_bytes()).unwrap();
    });
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let _held_open = child.stdin.take();
    assert_eq!(own(&child.wait_with_output().unwrap().stdout), "new\n");
}

// Rules 10 and 16: the line of a reader that is killed is for the next.
#[test]
fn readers_have_their_turns() {
    let mut command = child("readers_have_their_turns", || {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                spawn(|| {
                    let mut line = String::new();
                    stdin().read_line(&mut line).unwrap();
                    line
                })
            })
            .collect();
        idle();
        readers[0].kill();
        stdout().write_all(b"ready\n").unwrap();
        let lines: Vec<_> = readers.into_iter().filter_map(|reader| reader.join().ok()).collect();
        stdout().write_all(format!("{lines:?}").as_bytes()).unwrap();
        // A part of a line, for the exit to write.
    });
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "ready\n" {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0);
    }
    child.stdin.take().unwrap().write_all(b"a\nb\nc\n").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "[\"a\\n\", \"b\\n\", \"c\\n\"]");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_has_gone() {
    let mut command = child("a_reader_that_has_gone", || {
        let mut line = String::new();
        stdin().read_line(&mut line).unwrap();
        // Another test of the parent may have forked just now: such a child has the reader too, until its exec.
        let error = soon(|| std::iter::repeat_with(|| stdout().write_all(b"nobody reads\n")).find_map(Result::err));
        let error = error.unwrap();
        stderr().write_all(format!("{:?}", error.kind()).as_bytes()).unwrap();
    });
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != BEGIN {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0);
    }
    drop(output);
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(common::stderr(&child.wait_with_output().unwrap()), "BrokenPipe");
}

// A flag that the starter has set is its own business: std fails there with `WouldBlock`.
#[test]
fn an_input_that_was_made_nonblocking_is_waited_for() {
    let mut command = child("an_input_that_was_made_nonblocking_is_waited_for", read_two_lines);
    let (input, to_input) = std::io::pipe().unwrap();
    let watched = input.try_clone().unwrap();
    // SAFETY: takes integers only.
    unsafe { libc::fcntl(input.as_raw_fd(), libc::F_SETFL, flags(&input) | libc::O_NONBLOCK) };
    let child = command.stdin(input).stdout(Stdio::piped()).spawn().unwrap();
    feed(to_input);
    assert_eq!(own(&child.wait_with_output().unwrap().stdout), "[\"one\", \"two\"] true\n");
    assert_ne!(flags(watched) & libc::O_NONBLOCK, 0);
}

// Where nothing can park: in the panic hook, with the output locked by a task that cannot run now.
#[test]
fn a_panic_hook_can_write() {
    // Before there is a hub: it must see that a hook runs.
    if std::env::var(KEY).is_ok() {
        std::panic::set_hook(Box::new(|_| {
            writeln!(stdout(), "hook").unwrap();
            writeln!(stderr(), "hook").unwrap();
        }));
    }
    let output = child("a_panic_hook_can_write", || {
        let holder = spawn(|| {
            let _output = stdout().lock();
            let _errors = stderr().lock();
            greenroom::park();
        });
        idle();
        assert!(spawn(|| panic!("!")).join().is_err());
        holder.kill();
        stdout().write_all(b"after\n").unwrap();
    })
    .output()
    .unwrap();
    assert_eq!(own(&output.stdout), "hook\nafter\n");
    assert!(common::stderr(&output).ends_with("panicked:\nhook\n"), "{}", common::stderr(&output));
}

#[test]
fn a_lock_is_reentrant_for_its_task_alone() {
    let output = child("a_lock_is_reentrant_for_its_task_alone", || {
        let mut outer = stdout().lock();
        let other = spawn(|| stdout().write_all(b"other\n").unwrap());
        outer.write_all(b"one ").unwrap();
        idle();
        stdout().lock().write_all(b"two\n").unwrap();
        drop(outer);
        other.join().unwrap();
    })
    .output()
    .unwrap();
    assert_eq!(own(&output.stdout), "one two\nother\n");
}

// The process can be ended by a task, in the midst of a line.
#[test]
fn what_is_left_in_the_buffer_is_written_at_the_exit() {
    let mut command = child("what_is_left_in_the_buffer_is_written_at_the_exit", || {
        spawn(|| {
            stdout().write_all(b"part").unwrap();
            std::process::exit(0);
        })
        .join()
        .unwrap();
    });
    assert_eq!(own(&command.output().unwrap().stdout), "part");
}
