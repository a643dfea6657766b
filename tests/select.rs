//! `select!`: one of several things, and the others untouched.

use std::io::Write as _;
use std::time::Duration;

use greenroom::net::{TcpListener, TcpStream};
use greenroom::{select, sleep, spawn, yield_now};

mod common;

#[test]
fn a_default_is_taken_when_nothing_can_be_done() {
    let task = spawn(|| sleep(Duration::from_secs(3600)));
    let chosen = select! {
        join(&task) => "ended",
        default => "not yet",
    };
    assert_eq!(chosen, "not yet");
    task.kill();
    let chosen = select! {
        join(&task) => "ended",
        default => "not yet",
    };
    assert_eq!(chosen, "ended");
}

#[test]
fn a_timeout_is_taken_when_nothing_came_in_time() {
    let task = spawn(|| sleep(Duration::from_secs(3600)));
    let chosen = select! {
        join(&task) => "ended",
        timeout(Duration::from_millis(2)) => { "late" }
    };
    assert_eq!(chosen, "late");
    task.kill();
}

#[test]
fn a_socket_that_can_be_read_wakes_and_nothing_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let task = spawn(|| sleep(Duration::from_secs(3600)));
    let writer = spawn(move || {
        yield_now();
        client.write_all(b"x").unwrap();
        client
    });
    let chosen = select! {
        join(&task) => { 0 }
        readable(&server) => { 1 }
    };
    assert_eq!(chosen, 1);
    let mut byte = [0];
    std::io::Read::read_exact(&mut server, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
    let chosen = select! {
        readable(&server) => 0,
        join(&writer) => 1,
    };
    assert_eq!(chosen, 1);
    task.kill();
}
