//! Few descriptors, and many.

use crate::support::{in_child, limit_descriptors, listen, settle};
use crate::{byte, local, pair};
use greenroom::net::{TcpListener, TcpStream, UdpSocket, UnixStream, lookup_host};
use greenroom::spawn;
use std::fs::File;
use std::io::{self, Read, Write};

/// Opens files until no descriptor is left.
fn use_up() -> Vec<File> {
    let files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(!files.is_empty());
    files
}

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

const EMFILE: Option<i32> = Some(libc::EMFILE);

#[test]
fn without_descriptors_calls_fail_as_std_s_do_and_the_hub_goes_on() {
    in_child("limits::without_descriptors_calls_fail_as_std_s_do_and_the_hub_goes_on", || {
        let (listener, address) = listen(local());
        let (mut stream, mut peer) = pair();
        let echo = spawn(move || {
            let mut buf = [0];
            while stream.read(&mut buf).unwrap() > 0 {
                stream.write_all(&buf).unwrap();
            }
        });
        let waiting = TcpStream::connect(address).unwrap();
        lookup_host("localhost:80").unwrap();
        settle();

        limit_descriptors(64);
        let mut files = use_up();
        for _ in 0..3 {
            assert_eq!(code(TcpStream::connect(address)), EMFILE);
            assert_eq!(code(listener.accept()), EMFILE);
            assert_eq!(code(TcpListener::bind(local())), EMFILE);
            assert_eq!(code(UdpSocket::bind(local())), EMFILE);
            assert_eq!(code(UnixStream::pair()), EMFILE);
            assert_eq!(code(waiting.try_clone()), EMFILE);
            let (ours, std) = (lookup_host("localhost:80"), {
                use std::net::ToSocketAddrs;
                "localhost:80".to_socket_addrs()
            });
            let text = |error: io::Error| (error.kind(), error.raw_os_error(), error.to_string());
            assert_eq!(ours.map(Vec::from_iter).map_err(text), std.map(Vec::from_iter).map_err(text));
            peer.write_all(&[5]).unwrap();
            assert_eq!(byte(&peer), 5);
        }
        // The connection was not lost.
        files.pop();
        drop(listener.accept().unwrap());
        drop(files);
        drop(peer);
        echo.join().unwrap();
    });
}

#[test]
fn a_task_that_waits_in_accept_gets_the_error() {
    in_child("limits::a_task_that_waits_in_accept_gets_the_error", || {
        let (listener, address) = listen(local());
        let acceptor = spawn(move || {
            let first = code(listener.accept());
            (first, listener)
        });
        settle();
        limit_descriptors(64);
        let mut files = use_up();
        drop(files.pop());
        let client = TcpStream::connect(address).unwrap();
        let (first, listener) = acceptor.join().unwrap();
        assert_eq!(first, EMFILE);
        drop(files.pop());
        listener.accept().unwrap();
        drop(client);
    });
}

#[test]
fn a_thread_that_can_have_no_hub_says_so() {
    in_child("limits::a_thread_that_can_have_no_hub_says_so", || {
        let (stream, _peer) = pair();
        let (listener, address) = listen(local());
        limit_descriptors(64);
        let mut files = use_up();
        let result = std::thread::spawn(move || {
            let mut stream = stream;
            assert_eq!(code(stream.read(&mut [0])), EMFILE);
            assert_eq!(code(listener.accept()), EMFILE);
            assert_eq!(code(TcpStream::connect(address)), EMFILE);
            assert_eq!(code(lookup_host("localhost:80")), EMFILE);
            assert_eq!(code(greenroom::Builder::new().spawn(|| ())), EMFILE);
            let panic = std::panic::catch_unwind(|| drop(spawn(|| ()))).unwrap_err();
            let panic = panic.downcast::<String>().unwrap();
            assert!(panic.contains("Too many open files"), "{panic}");
            // With room for it, the same thread has a hub.
            drop(files.drain(..8));
            drop(TcpStream::connect(address).unwrap());
            spawn(|| ()).join().unwrap();
        });
        result.join().unwrap();
    });
}

#[test]
fn thousands_of_idle_connections_echo() {
    in_child("limits::thousands_of_idle_connections_echo", || {
        const PAIRS: usize = 4000;
        let (listener, address) = listen(local());
        drop(spawn(move || {
            for stream in listener.incoming().take(PAIRS) {
                let mut stream = stream.unwrap();
                drop(spawn(move || {
                    let mut buf = [0; 8];
                    while stream.read(&mut buf).unwrap() > 0 {
                        stream.write_all(&buf).unwrap();
                    }
                }));
            }
        }));
        let clients: Vec<_> = (0..PAIRS).map(|_| TcpStream::connect(address).unwrap()).collect();
        settle();
        assert_eq!(greenroom::testing::live_tasks(), PAIRS);
        for _ in 0..2 {
            for (i, mut client) in clients.iter().enumerate() {
                client.write_all(&i.to_ne_bytes()).unwrap();
            }
            for (i, mut client) in clients.iter().enumerate() {
                let mut buf = [0; 8];
                client.read_exact(&mut buf).unwrap();
                assert_eq!(usize::from_ne_bytes(buf), i);
            }
        }
        drop(clients);
        settle();
        assert_eq!(greenroom::testing::live_tasks(), 0);
    });
}
