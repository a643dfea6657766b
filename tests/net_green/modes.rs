//! Modes, timeouts and flags: what the kernel has is what the user set, and nothing waits or travels with a changed flag
//! (rule 20).

use crate::pair;
use crate::support::settle;
use greenroom::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use greenroom::spawn;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

/// `O_NONBLOCK` and the rest, as the kernel has them.
fn flags(socket: &impl AsRawFd) -> i32 {
    // SAFETY: F_GETFL takes no argument.
    unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) }
}

fn timeouts(socket: &impl AsRawFd) -> [(i64, i64); 2] {
    [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO].map(|option| {
        let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let mut len = size_of::<libc::timeval>() as libc::socklen_t;
        let fd = socket.as_raw_fd();
        // SAFETY: the value and its length are alive for the call.
        let got = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut len) };
        assert_eq!(got, 0);
        (value.tv_sec, value.tv_usec)
    })
}

/// Takes a socket of std's on a round trip in every mode.
macro_rules! round_trip {
    ($ours:ty, $std:ty, $socket:expr, $use_it:expr) => {{
        let mut socket: $std = $socket;
        for nonblocking in [false, true, false] {
            socket.set_nonblocking(nonblocking).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(40))).unwrap();
            socket.set_write_timeout(Some(Duration::from_secs(70))).unwrap();
            let before = (flags(&socket), timeouts(&socket));
            assert_eq!(before.0 & libc::O_NONBLOCK != 0, nonblocking);

            let ours = <$ours>::from(socket);
            assert_eq!((flags(&ours), timeouts(&ours)), before);
            let start = std::time::Instant::now();
            let kind: ErrorKind = $use_it(&ours);
            assert_eq!(kind, ErrorKind::WouldBlock);
            assert_eq!(start.elapsed() >= Duration::from_millis(40), !nonblocking);
            assert_eq!((flags(&ours), timeouts(&ours)), before, "after use");

            // Out and in again as a bare descriptor.
            let raw = ours.into_raw_fd();
            // SAFETY: just given away.
            let ours = unsafe { <$ours>::from_raw_fd(raw) };
            ours.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
            let owned = OwnedFd::from(ours);
            assert_eq!(flags(&owned), before.0);
            socket = <$std>::from(owned);
            assert!(socket.read_timeout().unwrap().unwrap() <= Duration::from_millis(39));
        }
    }};
}

#[test]
fn modes_and_timeouts_travel_both_ways() {
    use std::os::unix::net as unix;
    let (stream, _peer) = pair();
    round_trip!(TcpStream, std::net::TcpStream, stream.into(), |mut s: &TcpStream| s
        .read(&mut [0])
        .unwrap_err()
        .kind());
    let (stream, _peer) = unix::UnixStream::pair().unwrap();
    round_trip!(UnixStream, unix::UnixStream, stream, |mut s: &UnixStream| s.read(&mut [0]).unwrap_err().kind());
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    round_trip!(UdpSocket, std::net::UdpSocket, socket, |s: &UdpSocket| s.recv(&mut [0]).unwrap_err().kind());
    let (socket, _peer) = unix::UnixDatagram::pair().unwrap();
    round_trip!(UnixDatagram, unix::UnixDatagram, socket, |s: &UnixDatagram| s.recv(&mut [0]).unwrap_err().kind());
}

#[test]
fn flags_stay_while_tasks_wait() {
    let (stream, peer) = pair();
    let before = flags(&stream);
    let fd = stream.as_raw_fd();
    let reader = spawn(move || {
        let mut stream = stream;
        stream.read_exact(&mut [0]).unwrap();
        stream
    });
    settle();
    // SAFETY: F_GETFL takes no argument; the task keeps the descriptor open.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFL) }, before);
    assert_eq!(before & libc::O_NONBLOCK, 0);
    (&peer).write_all(&[0]).unwrap();
    assert_eq!(flags(&reader.join().unwrap()), before);
}

#[test]
fn a_listener_is_given_back_as_the_user_set_it() {
    for nonblocking in [false, true] {
        let std = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std.set_nonblocking(nonblocking).unwrap();
        let address = std.local_addr().unwrap();
        let ours = TcpListener::from(std);
        let _client = TcpStream::connect(address).unwrap();
        drop(ours.accept().unwrap());
        let std = std::net::TcpListener::from(ours);
        assert_eq!(flags(&std) & libc::O_NONBLOCK != 0, nonblocking);

        let ours = TcpListener::from(std);
        ours.set_nonblocking(!nonblocking).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        drop(ours.accept().unwrap());
        ours.set_nonblocking(nonblocking).unwrap();
        assert_eq!(flags(&OwnedFd::from(ours)) & libc::O_NONBLOCK != 0, nonblocking);
    }
}

/// An accept needs the flag underneath. Whoever comes to the same open listener by another way must not take it for the
/// user's.
#[test]
fn another_handle_to_a_listener_waits_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _client = TcpStream::connect(address).unwrap();
    drop(listener.accept().unwrap());

    let duplicate = std::os::fd::AsFd::as_fd(&listener).try_clone_to_owned().unwrap();
    let duplicate = TcpListener::from(duplicate);
    let acceptor = spawn(move || duplicate.accept().map(drop));
    settle();
    assert!(!acceptor.is_finished(), "{:?}", acceptor.join());
    let _client = TcpStream::connect(address).unwrap();
    acceptor.join().unwrap().unwrap();
}

/// What goes out first must not take away what the one that stays needs: it would block the whole hub.
#[test]
fn a_clone_still_lets_others_run_when_the_first_went_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _client = TcpStream::connect(address).unwrap();
    drop(listener.accept().unwrap());
    let clone = listener.try_clone().unwrap();
    let std = std::net::TcpListener::from(listener);
    let acceptor = spawn(move || drop(clone.accept().unwrap()));
    settle();
    let _client = TcpStream::connect(address).unwrap();
    acceptor.join().unwrap();
    // The last one of ours is gone: the flag is the user's again.
    assert_eq!(flags(&std) & libc::O_NONBLOCK, 0);
}

#[test]
fn a_unix_listener_is_given_back_as_the_user_set_it() {
    let name = format!("greenroom modes {}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let _client = UnixStream::connect_addr(&address).unwrap();
    drop(listener.accept().unwrap());
    assert_eq!(flags(&OwnedFd::from(listener)) & libc::O_NONBLOCK, 0);
}
