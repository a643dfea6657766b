//! Drives the echo servers among the examples as clients would, all in the same way: 400 sockets at once, messages in parts, more than fits
//! into buffers, clients that go in the midst of it.
//!
//! The clients are native threads with std's sockets, so that a bug of greenroom cannot hide on both sides. `cargo test` builds
//! the examples; `cargo test --test echo_five_ways` alone does not, and then finds the last ones built.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

const THREADS: usize = 8;
const EACH: usize = 50;
/// More than the buffers of both sides hold, so that the server has to keep what it cannot write.
const LARGE: usize = 24 << 20;

#[test]
fn with_a_task_for_each() {
    drive("echo_server");
}

#[test]
fn with_select() {
    drive("echo_select");
}

#[test]
fn with_poll() {
    drive("echo_poll");
}

#[test]
fn with_epoll() {
    drive("echo_epoll");
}

#[test]
fn with_selectors() {
    drive("echo_selectors");
}

#[test]
fn plain_tasks_are_the_shortest() {
    let lines = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).with_extension("rs");
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//")).count()
    };
    let plain = lines("echo_server");
    for name in ["echo_select", "echo_poll", "echo_epoll", "echo_selectors"] {
        assert!(plain < lines(name), "{name} has {} lines, echo_server {plain}", lines(name));
    }
}

#[test]
fn unix_echo_answers_all_at_once_and_cleans_up() {
    let child = Command::new(example("unix_echo")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let path = std::env::temp_dir().join(format!("greenroom_unix_echo_{}", child.id()));
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().filter(|line| line.ends_with("question: answered")).count(), 8, "{text}");
    // In one turn it would be 0.8 s.
    let took: f64 = text.lines().last().unwrap().split(' ').nth(3).unwrap().parse().unwrap();
    assert!((0.2..0.7).contains(&took), "{text}");
    assert!(!path.exists());
}

fn drive(name: &str) {
    let server = Server::start(name);
    let address = server.address;

    let all_connected = Barrier::new(THREADS);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let all_connected = &all_connected;
            scope.spawn(move || clients(address, number, all_connected));
        }
    });
    large(address);
    one_that_does_not_read(address);
}

/// Fifty of the clients.
fn clients(address: SocketAddr, thread: usize, all_connected: &Barrier) {
    let mut streams: Vec<Option<TcpStream>> = (0..EACH).map(|_| Some(connect(address))).collect();
    all_connected.wait();
    let message =
        |client: usize, part: usize| format!("{thread}.{client}.{part};").repeat(1 + 97 * client).into_bytes();
    for part in 0..3 {
        for (client, slot) in streams.iter_mut().enumerate() {
            let Some(stream) = slot else { continue };
            // In two pieces, of which the second may come with the next turn of the server.
            let message = message(client, part);
            let (first, second) = message.split_at(message.len() / 3);
            stream.write_all(first).unwrap();
            // These go in the midst of a message, some of them with a reset, for their echo is unread.
            if part == 1 && client % 5 == 0 {
                if client % 10 == 0 {
                    socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
                *slot = None;
                continue;
            }
            stream.write_all(second).unwrap();
        }
        for (client, stream) in streams.iter_mut().enumerate() {
            let Some(stream) = stream else { continue };
            let message = message(client, part);
            let mut echo = vec![0; message.len()];
            stream.read_exact(&mut echo).unwrap();
            assert!(echo == message, "client {client} of thread {thread} got something else back");
        }
    }
    for mut stream in streams.into_iter().flatten() {
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "more than was sent");
    }
}

/// One that sends all before it reads.
fn large(address: SocketAddr) {
    let byte = |at: usize| (at * 7 + at / 251) as u8;
    let stream = connect(address);
    thread::scope(|scope| {
        scope.spawn(|| {
            let message: Vec<u8> = (0..LARGE).map(byte).collect();
            (&stream).write_all(&message).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        // Others are served meanwhile.
        thread::sleep(Duration::from_millis(50));
        small(address);
        let mut echo = Vec::with_capacity(LARGE);
        (&stream).read_to_end(&mut echo).unwrap();
        assert_eq!(echo.len(), LARGE);
        assert!(echo.iter().enumerate().all(|(at, &got)| got == byte(at)));
    });
}

/// One that sends until there is no more room, and goes: the server must neither wait for it nor use the processor.
fn one_that_does_not_read(address: SocketAddr) {
    let mut stream = connect(address);
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[1; 65536]).is_ok() {}
    small(address);
    drop(stream);
    small(address);
}

fn small(address: SocketAddr) {
    let mut stream = connect(address);
    stream.write_all(b"ping").unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"ping");
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// An example that listens; it ends with this.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(name: &str) -> Server {
        let mut child = Command::new(example(name))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("it says where").parse().unwrap();
        Server { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself");
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The program, beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().unwrap().parent().unwrap().join("examples").join(name)
}
