//! Rule 30, for a whole program: its main patches, and all the rest is std's threads and sockets, thousands on one kernel thread.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use greenroom::monkey::{self, Areas};

const CONNECTIONS: usize = 5000;
const KEY: &str = "GREENROOM_CHILD";

fn main() {
    // A test binary without the harness, which would make threads before.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    if std::env::var_os(KEY).is_some() {
        return panics();
    }
    // SAFETY: threads share only what is Send.
    unsafe { monkey::patch(Areas::THREAD | Areas::ALL) };
    sums();
    echoes();
    shows_panics_as_std();
    assert_eq!(greenroom::testing::live_tasks(), 0);
    // One that goes on does not keep the process.
    thread::spawn(|| thread::sleep(Duration::from_secs(3600)));
    thread::yield_now();
    eprintln!("threads on one: ok");
}

fn kernel_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn sums() {
    let threads: Vec<_> = (0..100)
        .map(|number| {
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(5));
                number
            })
        })
        .collect();
    assert_eq!(kernel_threads(), 1);
    assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>(), 4950);
}

/// A thread for each connection, on both sides.
fn echoes() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let counted = served.clone();
    let server = thread::spawn(move || {
        for _ in 0..CONNECTIONS {
            let (mut stream, _) = listener.accept().unwrap();
            let served = counted.clone();
            thread::spawn(move || {
                let mut bytes = [0; 64];
                loop {
                    // By `recv` and `send`.
                    match stream.read(&mut bytes).unwrap() {
                        0 => break,
                        n => stream.write_all(&bytes[..n]).unwrap(),
                    }
                }
                served.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    let all_are_there = Arc::new(Barrier::new(CONNECTIONS + 1));
    let all_may_go = Arc::new(Barrier::new(CONNECTIONS + 1));
    let connected = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            // std's listeners have room for 128 that nobody has accepted; the system lets the others try again after a second.
            while connected.load(Ordering::SeqCst) + 64 < number {
                thread::yield_now();
            }
            let (all_are_there, all_may_go) = (all_are_there.clone(), all_may_go.clone());
            let connected = connected.clone();
            let client = move || {
                let mut stream = TcpStream::connect(address).unwrap();
                connected.fetch_add(1, Ordering::SeqCst);
                for round in 0..3_usize {
                    let text = format!("{number} {round}");
                    stream.write_all(text.as_bytes()).unwrap();
                    let mut answer = vec![0; text.len()];
                    stream.read_exact(&mut answer).unwrap();
                    assert_eq!(answer, text.as_bytes());
                }
                all_are_there.wait();
                all_may_go.wait();
            };
            thread::Builder::new().stack_size(64 * 1024).spawn(client).unwrap()
        })
        .collect();
    all_are_there.wait();
    // Both ends of all connections are open.
    assert!(greenroom::testing::live_tasks() >= 2 * CONNECTIONS);
    assert_eq!(kernel_threads(), 1);
    all_may_go.wait();
    clients.into_iter().for_each(|client| client.join().unwrap());
    server.join().unwrap();
    while served.load(Ordering::SeqCst) < CONNECTIONS {
        thread::yield_now();
    }
}

fn panics() {
    // SAFETY: threads share only what is Send.
    unsafe { monkey::patch(Areas::THREAD | Areas::ALL) };
    let thread = thread::Builder::new().name("falls".into()).spawn(|| panic!("as std shows it"));
    assert!(thread.unwrap().join().is_err());
}

fn shows_panics_as_std() {
    let output = Command::new(std::env::current_exe().unwrap()).env(KEY, "1").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("thread 'falls'") && errors.contains("as std shows it"), "{errors}");
    assert!(!errors.contains("spawned at"), "{errors}");
}
