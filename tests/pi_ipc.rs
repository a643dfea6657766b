//! Drives the example `pi_ipc`: over each transport the number comes, the ticker goes on, and nothing is left in the system.
//!
//! `cargo test` builds the example; `cargo test --test pi_ipc` alone does not, and then finds the last one built.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mqueue::{MQ_OFlag, mq_open};
use nix::sys::stat::Mode;

/// A tenth of a second between two children, so that the last reports after 900 ms; half a second late is too late. A parent that
/// stops until it has all reports is later than that.
const PACE: [&str; 4] = ["--spread", "100", "--patience", "500"];

macro_rules! transports {
    ($($test:ident = $name:literal;)*) => {$(
        mod $test {
            #[test]
            fn gives_the_number_while_the_ticker_goes_on() {
                super::gives_the_number($name);
            }

            #[test]
            fn names_a_child_that_dies() {
                super::names_a_child($name);
            }

            #[test]
            fn cleans_up_when_told_to_end() {
                super::cleans_up($name, libc::SIGINT);
                super::cleans_up($name, libc::SIGTERM);
            }
        }
    )*};
}

transports! {
    file = "file";
    pipe = "pipe";
    fifo = "fifo";
    tcp = "tcp";
    unix = "unix";
    socketpair = "socketpair";
    posix_mq = "posix-mq";
    sysv_mq = "sysv-mq";
    shm = "shm";
}

fn gives_the_number(transport: &str) {
    let (mut run, pid) = start(transport, &PACE);
    let (stdout, stderr, status) = finish(&mut run);
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{stdout}");
    assert_eq!(stdout.lines().next_back(), Some("3.14159262176"), "{stdout}");

    // The last child reports after 900 ms, and a beat is 20.
    let ticks = stdout.lines().filter(|line| line.starts_with("tick: ")).count();
    let beats = stdout.lines().find_map(|line| line.split_once(" beats")).expect("beats are counted").0;
    let beats: usize = beats.parse().unwrap();
    assert!(ticks >= 3 && beats >= 15 && ticks == beats / 5, "{stdout}");
    assert_nothing_is_left(pid);
}

fn names_a_child(transport: &str) {
    let begun = Instant::now();
    let (mut run, pid) = start(transport, &["--spread", "3600000", "--patience", "10000", "--broken", "4"]);
    let (stdout, stderr, status) = finish(&mut run);
    assert_eq!(status.code(), Some(1), "{stdout}{stderr}");
    assert!(stderr.starts_with("pi_ipc: child 4 (process ") && stderr.contains("signal: 9"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    // The other children, who would have slept for hours, hold its standard error no more: they are gone.
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_nothing_is_left(pid);
}

fn cleans_up(transport: &str, signal: i32) {
    let (mut run, pid) = start(transport, &["--spread", "3600000", "--patience", "10000"]);
    let mut stdout = BufReader::new(run.stdout.take().expect("it is piped"));
    let mut line = String::new();
    // In the midst of it: the first child has reported.
    while !line.starts_with("tick: 1 ") {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it has ended");
    }
    let told = Instant::now();
    // SAFETY: the child was not yet waited for, so its number is its own.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
    let (_, stderr, status) = finish(&mut run);
    assert_eq!((status.code(), stderr.as_str()), (Some(128 + signal), ""));
    assert!(told.elapsed() < Duration::from_secs(30));
    assert_nothing_is_left(pid);
}

fn start(transport: &str, arguments: &[&str]) -> (Child, u32) {
    let here = std::env::current_exe().expect("a test knows its path");
    let program =
        here.parent().and_then(Path::parent).expect("it lies in target/<profile>/deps").join("examples/pi_ipc");
    let mut command = Command::new(program);
    command.args(["--transport", transport]).args(arguments);
    let run = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = run.id();
    (run, pid)
}

/// What is left of the output, to its end, and how the program ended.
fn finish(run: &mut Child) -> (String, String, ExitStatus) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    if let Some(mut pipe) = run.stdout.take() {
        pipe.read_to_string(&mut stdout).unwrap();
    }
    run.stderr.take().expect("it is piped").read_to_string(&mut stderr).unwrap();
    (stdout, stderr, run.wait().unwrap())
}

fn assert_nothing_is_left(pid: u32) {
    let ours = format!("greenroom-pi-{pid}-");
    for dir in [std::env::temp_dir().as_path(), Path::new("/dev/shm")] {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let name = entry.unwrap().file_name();
            assert!(!name.to_string_lossy().starts_with(&ours), "{name:?} is left in {}", dir.display());
        }
    }
    let queue = mq_open(format!("/{ours}0").as_str(), MQ_OFlag::O_RDONLY, Mode::empty(), None);
    assert_eq!(queue.unwrap_err(), Errno::ENOENT);
    // One line for each System V queue; the seventh word is the process that was the last to receive from it.
    let queues = fs::read_to_string("/proc/sysvipc/msg").unwrap_or_default();
    let left = queues.lines().find(|line| line.split_whitespace().nth(6) == Some(pid.to_string().as_str()));
    assert_eq!(left, None);
}
