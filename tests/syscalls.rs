//! How many system calls the hub makes: counted by strace(1), on the one thread that matters.
//!
//! Each test is two processes: this one, with the clients, and a child of the same binary, run under `strace -f`, with one
//! thread under test that tells its number. Under strace the child is slow, so that many requests are ready at each poll:
//! what is counted is the calls of each request, not luck.

#![cfg(target_os = "linux")]

use greenroom::net::{TcpListener, TcpStream};
use greenroom::spawn;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

const ROLE: &str = "GREENROOM_SYSCALLS";
/// Connections, and bytes of a message.
const CONNECTIONS: usize = 64;
const MESSAGE: usize = 64;

/// Runs the test `name` of this binary in a child under strace, lets `talk` talk to it, and gives the system calls that its
/// test thread made between the two marks.
fn traced(name: &str, talk: impl FnOnce(u16)) -> Vec<String> {
    let file = std::env::temp_dir().join(format!("greenroom-{}-{name}", std::process::id()));
    let mut child = strace(name, &file);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = loop {
        let line = lines.next().expect("the child tells its port").unwrap();
        if let Some((_, port)) = line.split_once("port ") {
            break port.trim().parse().unwrap();
        }
    };
    talk(port);
    let input: ChildStdin = child.stdin.take().unwrap();
    drop(input);
    for line in lines {
        let _drained = line;
    }
    assert!(child.wait().unwrap().success());

    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    calls_between_marks(&text)
}

fn strace(name: &str, file: &Path) -> Child {
    Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(file)
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, "child")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("strace(1) is needed for this test: install it (apt-get install strace)")
}

/// A call that does nothing and that nobody else makes.
fn mark() {
    // SAFETY: a priority of a process that does not exist is asked for: nothing happens.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0x3fff_fffe) };
}

/// The calls of the thread that made the two marks, between them. A call that was interrupted by another thread's lines counts
/// once.
fn calls_between_marks(trace: &str) -> Vec<String> {
    let marked = |line: &str| line.contains("getpriority(PRIO_PROCESS, 1073741822)");
    let thread = trace.lines().find(|line| marked(line)).expect("the child has made its mark");
    let thread = thread.split_whitespace().next().unwrap();
    let own = trace
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace).filter(|(id, _)| *id == thread))
        .map(|(_, call)| call.trim_start())
        .filter(|call| !call.starts_with("<..."));
    own.skip_while(|call| !marked(call)).skip(1).take_while(|call| !marked(call)).map(String::from).collect()
}

fn is_child() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Tells the parent the port, on a stdout that the test harness leaves alone.
fn tell_port(listener: &TcpListener) {
    let port = listener.local_addr().unwrap().port();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\nport {port}").unwrap();
    stdout.flush().unwrap();
}

#[test]
fn an_echo_costs_two_calls_and_a_share_of_one_poll() {
    const WARM_UP: usize = 20;
    const ROUNDS: usize = 100;
    if is_child() {
        return serve(WARM_UP * CONNECTIONS, ROUNDS * CONNECTIONS);
    }
    let calls = traced("an_echo_costs_two_calls_and_a_share_of_one_poll", |port| {
        let streams: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        // A client of each connection sends the next message when the last one has come back, until the child is done.
        let clients = streams.into_iter().map(|mut stream| {
            spawn(move || {
                let mut buf = [0; MESSAGE];
                while stream.write_all(&[7; MESSAGE]).is_ok() && stream.read_exact(&mut buf).is_ok() {}
            })
        });
        greenroom::joinall(clients.collect::<Vec<_>>()).into_iter().for_each(Result::unwrap);
    });

    let requests = ROUNDS * CONNECTIONS;
    let mut names = std::collections::BTreeMap::<&str, usize>::new();
    for call in &calls {
        *names.entry(call.split('(').next().unwrap()).or_default() += 1;
    }
    let each = calls.len() as f64 / requests as f64;
    eprintln!("{each:.4} system calls a request: {names:?}");
    assert!(each <= 2.1, "{each} system calls a request: {names:?}");
}

/// Echoes, marks the trace after so many requests and again after so many more, and ends the process.
fn serve(first: usize, more: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    tell_port(&listener);
    let streams: Vec<_> = (0..CONNECTIONS).map(|_| listener.accept().unwrap().0).collect();
    let count = std::rc::Rc::new(std::cell::Cell::new(0));
    let tasks = streams.into_iter().map(|mut stream| {
        let count = count.clone();
        spawn(move || {
            let mut buf = [0; 4096];
            loop {
                let n = stream.read(&mut buf).unwrap();
                stream.write_all(&buf[..n]).unwrap();
                count.set(count.get() + 1);
                if count.get() == first {
                    mark();
                } else if count.get() == first + more {
                    mark();
                    std::process::exit(0);
                }
            }
        })
    });
    greenroom::joinall(tasks.collect::<Vec<_>>());
}

#[test]
fn an_idle_hub_makes_no_calls() {
    if is_child() {
        return idle();
    }
    let calls = traced("an_idle_hub_makes_no_calls", |port| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&[1]).unwrap();
        // The child has everything that a hub can wait for, and nothing happens for longer than a second.
        greenroom::sleep(Duration::from_millis(1500));
        stream.write_all(&[2]).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    });
    // The poll in which it slept, the read that ended it.
    let names: Vec<_> = calls.iter().map(|call| call.split('(').next().unwrap()).collect();
    eprintln!("{calls:?}");
    assert_eq!(names, ["epoll_wait", "recvfrom"], "{calls:?}");
}

/// Waits for a second byte after the first one, with other tasks parked, and timers and a name lookup far away.
fn idle() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    tell_port(&listener);
    let (mut stream, _) = listener.accept().unwrap();
    drop(spawn(|| greenroom::sleep(Duration::from_secs(3600))));
    drop(spawn(greenroom::park));
    let accepting = spawn(move || drop(listener.accept()));
    stream.read_exact(&mut [0]).unwrap();
    let reading = spawn(move || {
        stream.read_exact(&mut [0]).unwrap();
        stream
    });
    greenroom::idle();
    mark();
    let mut stream = reading.join().unwrap();
    mark();
    stream.write_all(&[3]).unwrap();
    accepting.kill();
}
