//! Rule 11 in programs built with `panic = "abort"`: all works but what would have to unwind, and that says so.

use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = r#"
use std::io::{Read, Write};
use std::time::Duration;

fn main() {
    let parked = greenroom::spawn(greenroom::park);
    greenroom::yield_now();
    match std::env::args().nth(1).as_deref() {
        Some("kill") => parked.kill(),
        Some("kill_nowait") => parked.kill_nowait(),
        Some("kill_timeout") => drop(Some(parked.kill_timeout(Duration::ZERO))),
        Some("scoped") => greenroom::scope(|s| {
            let scoped = s.spawn(greenroom::park);
            greenroom::yield_now();
            scoped.kill();
        }),
        Some("remote") => {
            let remote = greenroom::HubHandle::current().spawn(greenroom::park);
            greenroom::sleep(Duration::from_millis(1));
            remote.kill_nowait();
            let _never = remote.join();
        }
        Some("timeout") => drop(greenroom::timeout(Duration::from_millis(1), || ())),
        _ => {
            assert_eq!(greenroom::spawn(|| 1).join().unwrap(), 1);
            let later = greenroom::spawn_later(Duration::from_secs(3600), || ());
            let new = greenroom::spawn(|| ());
            greenroom::killall([&new, &later]);
            assert!(new.join().unwrap_err().is_killed());
            let remote = greenroom::HubHandle::current().spawn(|| ());
            remote.kill_nowait();
            assert!(remote.join().unwrap_err().is_killed());
            let mut number = 1;
            greenroom::scope(|s| drop(s.spawn(|| number += 1)));
            assert_eq!(number, 2);
            let (mut near, mut far) = greenroom::net::UnixStream::pair().unwrap();
            greenroom::spawn(move || near.write_all(b"x").unwrap());
            far.read_exact(&mut [0]).unwrap();
            greenroom::run(|| drop(greenroom::spawn(greenroom::park)));
            std::thread::spawn(|| {
                drop(greenroom::spawn(greenroom::park));
                greenroom::yield_now();
            })
            .join()
            .unwrap();
            // A server stops when the next client comes.
            let listener = greenroom::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let server = greenroom::server::StreamServer::builder(listener)
                .wrap(Ok::<_, ()>)
                .build(|mut stream: greenroom::net::TcpStream, _| {
                    greenroom::sleep(Duration::from_millis(5));
                    stream.write_all(b"x").unwrap();
                });
            server.start().unwrap();
            let connect = || greenroom::net::TcpStream::connect(server.local_addr().unwrap());
            let mut served = connect().unwrap();
            greenroom::yield_now();
            greenroom::sleep(Duration::from_millis(1));
            server.handle().stop_nowait(Duration::ZERO);
            assert_eq!(connect().unwrap().read(&mut [0]).unwrap_or(0), 0);
            server.serve_forever().unwrap();
            assert_eq!(served.read(&mut [0]).unwrap(), 1);
            assert!(connect().is_err());
            parked.task().unpark();
            parked.join().unwrap();
            greenroom::shield(|| greenroom::sleep(Duration::from_millis(1)));
            shared();
            println!("all well");
        }
    }
}

/// What tasks share, and choose from.
fn shared() {
    use greenroom::queue::Queue;
    use greenroom::sync::{Barrier, Condvar, Mutex, mpsc};
    use std::rc::Rc;

    // A task that is left when its thread ends is in nobody's way.
    static QUEUE: Queue<u32> = Queue::unbounded();
    let left = || {
        drop(greenroom::spawn(|| QUEUE.get()));
        greenroom::yield_now();
    };
    std::thread::spawn(left).join().unwrap();
    QUEUE.put(7).unwrap();
    assert_eq!(QUEUE.try_get().ok(), Some(7));

    let shared = Rc::new((Mutex::new(false), Condvar::new(), Barrier::new(2)));
    let theirs = shared.clone();
    greenroom::spawn(move || {
        *theirs.0.lock().unwrap() = true;
        theirs.1.notify_one();
        theirs.2.wait();
    });
    drop(shared.1.wait_while(shared.0.lock().unwrap(), |set| !*set).unwrap());
    shared.2.wait();

    let (sender, receiver) = mpsc::sync_channel(0);
    let sending = greenroom::spawn(move || sender.send(1));
    let chosen = greenroom::select! {
        recv(&receiver) -> item => item.unwrap(),
        get(&QUEUE) -> item => item.unwrap(),
        timeout(Duration::from_secs(3600)) => 0,
    };
    assert_eq!(chosen, 1);
    sending.join().unwrap().unwrap();

    let pool = greenroom::pool::Pool::new(2);
    let squares = pool.map(1..4, |n| {
        greenroom::yield_now();
        n * n
    });
    assert_eq!(squares, [1, 4, 9]);
    let mut few = pool.imap(1.., |n| n);
    assert_eq!(few.next().unwrap().unwrap(), 1);
    drop(few);
    pool.join();
    assert_eq!(greenroom::wait([&QUEUE], Some(Duration::from_millis(1)), None).len(), 0);
    assert_eq!(greenroom::offload(|| 2), 2);
    assert_eq!(greenroom::future::block_on(async { greenroom::spawn(|| 3).await.unwrap() }), 3);
}
"#;

const MANIFEST: &str = r#"
[package]
name = "abort"
version = "0.0.0"
edition = "2024"
[dependencies]
greenroom = { path = "PATH" }
[profile.dev]
panic = "abort"
[workspace]
"#;

/// Builds the program, which takes a few seconds the first time.
fn build() -> impl Fn(&str) -> Output {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abort");
    std::fs::create_dir_all(dir.join("src")).unwrap();
    std::fs::write(dir.join("Cargo.toml"), MANIFEST.replace("PATH", source.to_str().unwrap())).unwrap();
    std::fs::write(dir.join("src/main.rs"), PROGRAM).unwrap();
    // The same versions as here, which are on this machine already.
    std::fs::copy(source.join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--quiet", "--target-dir", "target"]).current_dir(&dir);
    let built = cargo.env_remove("RUSTFLAGS").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    move |what| Command::new(dir.join("target/debug/abort")).arg(what).output().unwrap()
}

#[test]
fn rule_11_without_unwinding_all_works_but_what_would_unwind_and_that_says_so() {
    let program = build();
    let output = program("what works");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout == b"all well\n", "{text}");

    for what in ["kill", "kill_nowait", "kill_timeout", "scoped", "remote", "timeout"] {
        let output = program(what);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{what}");
        assert!(text.contains("greenroom: a t") && text.contains("built with panic = \"abort\""), "{what}: {text}");
    }
}
