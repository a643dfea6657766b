//! The `thread` area: programs that start a thread for each connection run all of them on one.

#![allow(missing_docs, reason = "a test binary")]

use greenroom_patched::{MS, check, child, go, is_child, kernel_thread, native_threads, patch_threads, until};
use std::cell::Cell;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

/// The control has real threads, and they have their price.
const CONNECTIONS: usize = if cfg!(feature = "control") { 300 } else { 5000 };

/// In a task of a process of its own: from then on all threads that start are tasks, those of the harness, too.
fn test<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) {
    if is_child(name) {
        return check(patch_threads, |()| drop(go(body).join()));
    }
    let output = child(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn get(mut stream: TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Checks that there are no more native threads than before, and that these are one.
#[track_caller]
fn on_one_thread(before: usize, kernel_threads: impl Iterator<Item = i32>) {
    if cfg!(not(feature = "control")) {
        // One that has just begun has its parent's name, and greenroom's pools are told by theirs.
        until("no more native threads", || native_threads() <= before);
        assert_eq!(kernel_threads.collect::<HashSet<_>>(), [kernel_thread()].into());
    }
}

/// As many connect at once as a listener has room for (128 by std, and what is beyond that the system may reset).
const WAVE: usize = 100;

/// A server of the old school. It answers nobody before all are there.
#[test]
fn a_thread_for_each_connection() {
    test("a_thread_for_each_connection", || {
        let before = native_threads();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, arrivals) = channel();
        let server = thread::spawn(move || {
            let come = Arc::new(Barrier::new(CONNECTIONS));
            let serve = |mut stream: TcpStream| {
                let (come, arrived) = (come.clone(), arrived.clone());
                thread::spawn(move || {
                    let mut question = [0; 4];
                    stream.read_exact(&mut question).unwrap();
                    arrived.send(()).unwrap();
                    let threads = if come.wait().is_leader() { native_threads() } else { 0 };
                    stream.write_all(&question).unwrap();
                    (kernel_thread(), threads)
                })
            };
            let serving: Vec<_> = listener.incoming().take(CONNECTIONS).map(|stream| serve(stream.unwrap())).collect();
            serving.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let mut clients = Vec::new();
        for i in 0..CONNECTIONS {
            clients.push(thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(&(i as u32).to_be_bytes()).unwrap();
                let mut answer = [0; 4];
                stream.read_exact(&mut answer).unwrap();
                u32::from_be_bytes(answer) as usize
            }));
            if clients.len() % WAVE == 0 {
                arrivals.iter().take(WAVE).for_each(drop);
            }
        }
        assert!(clients.into_iter().map(|thread| thread.join().unwrap()).eq(0..CONNECTIONS));
        let (kernel_threads, threads): (Vec<_>, Vec<_>) = server.join().unwrap().into_iter().unzip();
        on_one_thread(before, kernel_threads.into_iter());
        assert!(cfg!(feature = "control") || threads.into_iter().max().unwrap() <= before + 1);
    });
}

/// A server of others, whose pool has a thread for each connection. It answers nobody before all have asked.
#[test]
fn tiny_http_with_all_its_threads() {
    test("tiny_http_with_all_its_threads", || {
        let before = native_threads();
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let address = server.server_addr().to_ip().unwrap();
        let (mut clients, mut requests) = (Vec::new(), Vec::new());
        for i in 0..CONNECTIONS {
            clients.push(thread::spawn(move || get(TcpStream::connect(address).unwrap(), &format!("/number-{i}"))));
            if clients.len() % WAVE == 0 {
                requests.extend((0..WAVE).map(|_| server.recv().unwrap()));
            }
        }
        on_one_thread(before, [kernel_thread()].into_iter());
        for request in requests {
            let path = request.url().to_owned();
            request.respond(tiny_http::Response::from_string(path)).unwrap();
        }
        for (i, client) in clients.into_iter().enumerate() {
            assert_eq!(client.join().unwrap(), format!("/number-{i}"));
        }
    });
}

#[test]
fn threads_are_themselves() {
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(0) });
    test("threads_are_themselves", || {
        let before = native_threads();
        let threads: Vec<_> = (0..100)
            .map(|i| {
                thread::Builder::new()
                    .name(format!("thread {i}"))
                    .spawn(move || {
                        assert_eq!(NUMBER.replace(i), 0);
                        thread::sleep(MS);
                        assert_eq!(NUMBER.get(), i);
                        assert_eq!(thread::current().name(), Some(&*format!("thread {i}")));
                        (thread::current().id(), kernel_thread())
                    })
                    .unwrap()
            })
            .collect();
        let ids: HashSet<_> = threads.iter().map(|thread| thread.thread().id()).collect();
        let (own_ids, kernel_threads): (HashSet<_>, Vec<_>) =
            threads.into_iter().map(|thread| thread.join().unwrap()).unzip();
        assert_eq!(ids, own_ids);
        assert_eq!(ids.len(), 100);
        on_one_thread(before, kernel_threads.into_iter());
    });
}

#[test]
fn panics_and_detached_threads() {
    test("panics_and_detached_threads", || {
        let payload = thread::spawn(|| std::panic::resume_unwind(Box::new("no"))).join().unwrap_err();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "no");
        let (sender, receiver) = channel();
        for i in 0..100 {
            let sender = sender.clone();
            drop(thread::spawn(move || sender.send(i)));
        }
        drop(sender);
        assert_eq!(receiver.iter().sum::<i32>(), (0..100).sum());
    });
}

#[test]
fn scopes_locks_and_tokens() {
    test("scopes_locks_and_tokens", || {
        let (count, mut pair) = (Mutex::new(0), (0, 0));
        thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let mut count = count.lock().unwrap();
                        let before = *count;
                        thread::yield_now();
                        *count = before + 1;
                    }
                });
            }
            scope.spawn(|| pair.0 += 1);
            scope.spawn(|| pair.1 += 1);
        });
        assert_eq!((count.into_inner().unwrap(), pair), (1000, (1, 1)));

        let parked = thread::spawn(thread::park);
        thread::sleep(MS);
        assert!(!parked.is_finished());
        parked.thread().unpark();
        parked.join().unwrap();
    });
}
