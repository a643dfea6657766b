//! A timeout or a kill at every place where a socket waits: in time, and without a trace.

use crate::support::{descriptors, in_child, settle, silent};
use crate::{local, pair};
use greenroom::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use greenroom::spawn;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Runs `call`, which waits for ever, under an outer timeout, and in a task that is killed. Afterwards no descriptor and no
/// registration is there that was not before.
fn leaves_no_trace(what: &str, call: impl Fn() + 'static) {
    let call = Rc::new(call);
    // The first round registers what stays registered: the sockets that outlive the calls.
    let mut before = None;
    for _ in 0..3 {
        let timeout = Duration::from_millis(20);
        let start = Instant::now();
        greenroom::timeout(timeout, || call()).unwrap_err();
        let elapsed = start.elapsed();
        assert!(elapsed >= timeout && elapsed < Duration::from_secs(5), "{what}: {elapsed:?}");

        let task = spawn({
            let call = call.clone();
            move || call()
        });
        settle();
        assert!(!task.is_finished(), "{what}");
        task.kill();
        assert!(task.join().unwrap_err().is_killed(), "{what}");

        // Killed before its first turn.
        let task = spawn({
            let call = call.clone();
            move || call()
        });
        task.kill();
        drop(task);

        let now = (descriptors(), greenroom::testing::live_tasks());
        assert_eq!(*before.get_or_insert(now), now, "{what}");
    }
}

#[test]
fn reads_and_writes() {
    in_child("cancel::reads_and_writes", || {
        let (stream, _peer) = pair();
        let stream = Rc::new(stream);
        let reads = stream.clone();
        leaves_no_trace("read", move || drop((&*reads).read(&mut [0])));
        let peeks = stream.clone();
        leaves_no_trace("peek", move || drop(peeks.peek(&mut [0])));
        leaves_no_trace("write", move || while (&*stream).write(&[0; 1 << 16]).is_ok() {});
        let socket = UdpSocket::bind(local()).unwrap();
        leaves_no_trace("recv_from", move || drop(socket.recv_from(&mut [0])));
    });
}

#[test]
fn accepts() {
    in_child("cancel::accepts", || {
        let listener = TcpListener::bind(local()).unwrap();
        leaves_no_trace("accept", move || drop(listener.accept()));
    });
}

#[test]
fn connects() {
    in_child("cancel::connects", || {
        let (_listener, address, _held) = silent();
        leaves_no_trace("connect", move || drop(TcpStream::connect(address)));
        leaves_no_trace("connect_timeout", move || {
            drop(TcpStream::connect_timeout(&address, Duration::from_secs(100)));
        });
        let error = TcpStream::connect_timeout(&address, Duration::from_millis(30)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn connects_to_a_full_unix_listener() {
    in_child("cancel::connects_to_a_full_unix_listener", || {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("greenroom cancel {}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) = greenroom::timeout(Duration::from_millis(50), || UnixStream::connect_addr(&address))
        {
            held.push(stream);
        }
        leaves_no_trace("connect", move || drop(UnixStream::connect_addr(&address)));
    });
}

/// `getaddrinfo` of lookup.rs is slow.
#[cfg(not(feature = "monkey"))]
#[test]
fn lookups() {
    in_child("cancel::lookups", || {
        leaves_no_trace("lookup_host", || drop(greenroom::net::lookup_host("slow-for-ever.test:80")));
        leaves_no_trace("connect by name", || drop(TcpStream::connect("slow-for-ever.test:80")));
    });
}

/// The socket's own timeout comes first, and the outer one still counts afterwards.
#[test]
fn an_outer_timeout_is_not_lost() {
    let (mut stream, _peer) = pair();
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let mut tries = 0;
    greenroom::timeout(Duration::from_millis(55), || {
        loop {
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            tries += 1;
        }
    })
    .map(|never: std::convert::Infallible| never)
    .unwrap_err();
    // None, where the machine stood still meanwhile: both are due then, and the outer one wins.
    assert!(tries <= 5, "{tries}");
    stream.set_read_timeout(None).unwrap();
    let start = Instant::now();
    greenroom::timeout(Duration::from_millis(20), || stream.read(&mut [0])).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(20));
    settle();
}

#[test]
fn a_refused_connect_ends_at_once_within_a_timeout() {
    let (_bound, address) = crate::support::refusing();
    let error = greenroom::timeout(Duration::from_secs(60), || TcpStream::connect(address)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
