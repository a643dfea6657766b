//! The scenarios of std's own Unix socket tests, with std's types exchanged for ours, and what only we promise.

use crate::support::{channel, go};
use greenroom::net::Shutdown;
use greenroom::net::unix::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory of a test's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("greenroom-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("sock")
    }

    fn other_path(&self) -> PathBuf {
        self.0.join("sock2")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_listener_and_a_client_talk() {
    let directory = Directory::new();
    let path = directory.path();
    let listener = UnixListener::bind(&path).unwrap();
    let server = go(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut buf = [0; 5];
        stream.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"hello");
        stream.write_all(b"world!").unwrap();
    });
    let mut stream = UnixStream::connect(&path).unwrap();
    assert_eq!(stream.peer_addr().unwrap().as_pathname(), Some(&*path));
    assert!(stream.local_addr().unwrap().is_unnamed());
    stream.write_all(b"hello").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "world!");
    server.join().unwrap();
}

#[test]
fn vectored_calls_keep_the_order() {
    let (mut one, mut other) = UnixStream::pair().unwrap();
    let bufs = &[IoSlice::new(b"hello"), IoSlice::new(b" "), IoSlice::new(b"world!")];
    assert_eq!(one.write_vectored(bufs).unwrap(), 12);

    let (mut a, mut b) = ([0; 10], [0; 3]);
    assert_eq!(other.read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)]).unwrap(), 12);
    assert_eq!((&a, &b), (b"hello worl", b"d!\0"));
}

#[test]
fn a_pair_talks_both_ways() {
    let (mut one, mut other) = UnixStream::pair().unwrap();
    let task = go(move || {
        let mut buf = [0; 5];
        one.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"hello");
        one.write_all(b"world!").unwrap();
    });
    other.write_all(b"hello").unwrap();
    let mut text = String::new();
    other.read_to_string(&mut text).unwrap();
    assert_eq!(text, "world!");
    task.join().unwrap();
}

#[test]
fn clones_are_one_stream() {
    let (mut one, other) = UnixStream::pair().unwrap();
    let (mut first, mut second) = (other.try_clone().unwrap(), other);
    one.write_all(b"hello world").unwrap();
    let mut buf = [0; 5];
    first.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"hello");
    let mut buf = [0; 6];
    second.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b" world");
}

#[test]
fn a_listener_iterates_over_connections() {
    let directory = Directory::new();
    let path = directory.path();
    let listener = UnixListener::bind(&path).unwrap();
    let clone = listener.try_clone().unwrap();
    let server = go(move || {
        for listener in [&listener, &clone] {
            let mut streams = listener.into_iter();
            assert_eq!(streams.size_hint(), (usize::MAX, None));
            streams.next().unwrap().unwrap().read_exact(&mut [0]).unwrap();
        }
    });
    for _ in 0..2 {
        UnixStream::connect(&path).unwrap().write_all(&[0]).unwrap();
    }
    server.join().unwrap();
}

#[test]
fn paths_that_are_no_address_are_invalid() {
    let directory = Directory::new();
    let long = directory.0.join("x".repeat(200));
    let unbound = UnixDatagram::unbound().unwrap();
    for path in [&*long, Path::new("has a\0zero")] {
        for error in [
            UnixStream::connect(path).unwrap_err(),
            UnixListener::bind(path).unwrap_err(),
            UnixDatagram::bind(path).unwrap_err(),
            unbound.connect(path).unwrap_err(),
            unbound.send_to(b"x", path).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}

#[test]
fn errors_of_connect_are_std_s() {
    let directory = Directory::new();
    for path in [directory.path(), PathBuf::new(), directory.0.clone()] {
        let ours = UnixStream::connect(&path).unwrap_err();
        let std = std::os::unix::net::UnixStream::connect(&path).unwrap_err();
        assert_eq!(ours.raw_os_error(), std.raw_os_error(), "{path:?}");
    }
}

#[test]
fn timeouts_are_given_back() {
    let (stream, _peer) = UnixStream::pair().unwrap();
    let timeout = Duration::from_millis(410);
    assert_eq!(stream.read_timeout().unwrap(), None);
    assert_eq!(stream.write_timeout().unwrap(), None);
    stream.set_read_timeout(Some(timeout)).unwrap();
    stream.set_write_timeout(Some(timeout)).unwrap();
    assert!(stream.read_timeout().unwrap().unwrap() >= timeout);
    assert!(stream.write_timeout().unwrap().unwrap() >= timeout);
    stream.set_read_timeout(None).unwrap();
    stream.set_write_timeout(None).unwrap();
    assert_eq!(stream.read_timeout().unwrap(), None);
    assert_eq!(stream.write_timeout().unwrap(), None);
}

#[test]
fn a_read_ends_with_its_timeout() {
    let (mut stream, mut peer) = UnixStream::pair().unwrap();
    let timeout = Duration::from_millis(50);
    stream.set_read_timeout(Some(timeout)).unwrap();
    let mut buf = [0; 11];
    let start = Instant::now();
    assert_eq!(stream.read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(start.elapsed() >= timeout);

    peer.write_all(b"hello world").unwrap();
    stream.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"hello world");
    assert_eq!(stream.read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_zero_timeout_is_refused() {
    let (stream, _peer) = UnixStream::pair().unwrap();
    let datagram = UnixDatagram::unbound().unwrap();
    for error in [
        stream.set_read_timeout(Some(Duration::ZERO)).unwrap_err(),
        stream.set_write_timeout(Some(Duration::ZERO)).unwrap_err(),
        datagram.set_read_timeout(Some(Duration::ZERO)).unwrap_err(),
        datagram.set_write_timeout(Some(Duration::ZERO)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn non_blocking_calls_never_wait() {
    let directory = Directory::new();
    let listener = UnixListener::bind(directory.path()).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

    let (mut stream, _peer) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);

    let (datagram, _peer) = UnixDatagram::pair().unwrap();
    datagram.set_nonblocking(true).unwrap();
    assert_eq!(datagram.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(datagram.recv_from(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn shutdown_wakes_a_reader() {
    let (stream, _peer) = UnixStream::pair().unwrap();
    let mut clone = stream.try_clone().unwrap();
    let (started, starts) = channel();
    let reader = go(move || {
        started.send(()).unwrap();
        assert_eq!(clone.read(&mut [0]).unwrap(), 0);
    });
    starts.recv().unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    reader.join().unwrap();
    assert_eq!((&stream).write(&[0]).unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn debug_prints_what_std_prints() {
    let directory = Directory::new();
    let listener = UnixListener::bind(directory.path()).unwrap();
    let stream = UnixStream::connect(directory.path()).unwrap();
    let (datagram, _peer) = UnixDatagram::pair().unwrap();
    let ours = [format!("{listener:?}"), format!("{stream:?}"), format!("{datagram:?}")];

    // The conversions keep the descriptor, so that all is the same.
    use std::os::unix::net as std_net;
    let listener = std_net::UnixListener::from(listener);
    let stream = std_net::UnixStream::from(stream);
    let datagram = std_net::UnixDatagram::from(datagram);
    assert_eq!(ours, [format!("{listener:?}"), format!("{stream:?}"), format!("{datagram:?}")]);
}

/// A blocking connect would wait in the kernel for an entry of the backlog.
#[test]
fn connect_waits_for_a_full_backlog() {
    let directory = Directory::new();
    let path = directory.path();
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(listener));

    const CLIENTS: u8 = 10;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|i| {
            let path = path.clone();
            go(move || UnixStream::connect(path).unwrap().write_all(&[i]).unwrap())
        })
        .collect();
    let mut got: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut buf = [0];
            listener.accept().unwrap().0.read_exact(&mut buf).unwrap();
            buf[0]
        })
        .collect();
    got.sort_unstable();
    assert!(got.into_iter().eq(0..CLIENTS));
    for client in clients {
        client.join().unwrap();
    }
}

/// Descriptors in a stream end a read early: a short read, although there is more.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn ancillary_data_does_not_stop_a_reader() {
    let (mut one, mut other) = UnixStream::pair().unwrap();

    // One control message (cmsg(3)): length, level, type, one descriptor, padding.
    let mut control = Vec::new();
    control.extend_from_slice(&20_u64.to_ne_bytes());
    control.extend_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
    control.extend_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
    control.extend_from_slice(&one.as_raw_fd().to_ne_bytes());
    control.extend_from_slice(&[0; 4]);
    let data = [IoSlice::new(b"ab")];
    let message = socket2::MsgHdr::new().with_buffers(&data).with_control(&control);
    assert_eq!(socket2::SockRef::from(&one).sendmsg(&message, 0).unwrap(), 2);
    one.write_all(b"cd").unwrap();

    let mut received = Vec::new();
    while received.len() < 4 {
        let mut buf = [0; 16];
        let n = other.read(&mut buf).unwrap();
        received.extend_from_slice(&buf[..n]);
    }
    assert_eq!(received, b"abcd");
}

#[test]
fn datagrams_carry_their_sender_s_name() {
    let directory = Directory::new();
    let (path, other_path) = (directory.path(), directory.other_path());
    let one = UnixDatagram::bind(&path).unwrap();
    let other = UnixDatagram::bind(&other_path).unwrap();
    one.send_to(b"hello world", &other_path).unwrap();
    let mut buf = [0; 11];
    let (n, from) = other.recv_from(&mut buf).unwrap();
    assert_eq!((n, from.as_pathname(), &buf), (11, Some(&*path), b"hello world"));
    other.send_to_addr(b"back", &from).unwrap();
    assert_eq!(one.recv(&mut buf).unwrap(), 4);
}

#[test]
fn an_unnamed_sender_is_unnamed() {
    let directory = Directory::new();
    let receiver = UnixDatagram::bind(directory.path()).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"hello", directory.path()).unwrap();
    let mut buf = [0; 8];
    let (n, from) = receiver.recv_from(&mut buf).unwrap();
    assert!(n == 5 && from.is_unnamed());
}

#[test]
fn a_connected_datagram_socket_talks_to_its_peer() {
    let directory = Directory::new();
    let (path, other_path) = (directory.path(), directory.other_path());
    let receiver = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(&path).unwrap();
    assert_eq!(sender.peer_addr().unwrap().as_pathname(), Some(&*path));

    sender.send(b"hello world").unwrap();
    let mut buf = [0; 11];
    assert_eq!(receiver.recv(&mut buf).unwrap(), 11);

    // A connected socket still sends to others.
    let other = UnixDatagram::bind(&other_path).unwrap();
    sender.send_to(b"other", &other_path).unwrap();
    assert_eq!(other.recv(&mut buf).unwrap(), 5);

    // And may be connected anew, to an address that a datagram came with.
    receiver.send_to(b"x", &other_path).unwrap();
    let (_, from) = other.recv_from(&mut buf).unwrap();
    other.connect_addr(&from).unwrap();
    other.send(b"y").unwrap();
    assert_eq!(receiver.recv(&mut buf).unwrap(), 1);
}

#[test]
fn a_datagram_pair_talks_both_ways() {
    let (one, other) = UnixDatagram::pair().unwrap();
    let task = go(move || {
        let mut buf = [0; 8];
        assert_eq!(one.recv(&mut buf).unwrap(), 5);
        one.send(b"world!").unwrap();
    });
    other.send(b"hello").unwrap();
    let mut buf = [0; 8];
    assert_eq!(other.recv(&mut buf).unwrap(), 6);
    task.join().unwrap();
}

#[test]
fn shutdown_ends_a_datagram_receive() {
    let (one, other) = UnixDatagram::pair().unwrap();
    let clone = one.try_clone().unwrap();
    let (started, starts) = channel();
    let receiver = go(move || {
        started.send(()).unwrap();
        assert_eq!(clone.recv(&mut [0]).unwrap(), 0);
    });
    starts.recv().unwrap();
    one.shutdown(Shutdown::Read).unwrap();
    receiver.join().unwrap();
    assert_eq!(other.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let (n, from) = one.recv_from(&mut [0]).unwrap();
    assert!(n == 0 && from.is_unnamed());
    one.set_nonblocking(true).unwrap();
    assert_eq!(one.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// Sends numbered datagrams, more than any queue holds, to a receiver that takes them all.
fn numbered(send: impl Fn(&[u8]) -> io::Result<usize> + Send + 'static, receiver: &UnixDatagram) {
    const COUNT: u32 = 2000;
    let sender = go(move || {
        for i in 0..COUNT {
            assert_eq!(send(&i.to_ne_bytes()).unwrap(), 4);
        }
    });
    for i in 0..COUNT {
        let mut buf = [0; 4];
        assert_eq!(receiver.recv(&mut buf).unwrap(), 4);
        assert_eq!(u32::from_ne_bytes(buf), i);
    }
    sender.join().unwrap();
}

#[test]
fn a_connected_sender_waits_for_a_full_receiver() {
    let directory = Directory::new();
    let receiver = UnixDatagram::bind(directory.path()).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(directory.path()).unwrap();
    numbered(move |datagram| sender.send(datagram), &receiver);
}

#[test]
fn a_paired_sender_waits_for_a_full_receiver() {
    let (sender, receiver) = UnixDatagram::pair().unwrap();
    numbered(move |datagram| sender.send(datagram), &receiver);
}

#[test]
fn an_unconnected_sender_waits_for_a_full_receiver() {
    let directory = Directory::new();
    let path = directory.path();
    let receiver = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    numbered(move |datagram| sender.send_to(datagram, &path), &receiver);
}

#[test]
fn a_full_receiver_is_an_error_in_non_blocking_mode_and_after_the_timeout() {
    let directory = Directory::new();
    let _receiver = UnixDatagram::bind(directory.path()).unwrap();
    let unconnected = UnixDatagram::unbound().unwrap();
    let connected = UnixDatagram::unbound().unwrap();
    connected.connect(directory.path()).unwrap();

    let send_to = || unconnected.send_to(b"x", directory.path());
    let send = || connected.send(b"x");
    let fill = |send: &dyn Fn() -> io::Result<usize>| loop {
        if let Err(error) = send() {
            break assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
    };

    unconnected.set_nonblocking(true).unwrap();
    fill(&send_to);
    unconnected.set_nonblocking(false).unwrap();

    let timeout = Duration::from_millis(50);
    unconnected.set_write_timeout(Some(timeout)).unwrap();
    connected.set_write_timeout(Some(timeout)).unwrap();
    for send in [&send_to as &dyn Fn() -> _, &send] {
        let start = Instant::now();
        fill(send);
        assert!(start.elapsed() >= timeout);
    }
}

#[cfg(target_os = "linux")]
mod abstract_names {
    use super::*;
    use greenroom::net::unix::SocketAddrExt;

    fn name(what: &str) -> SocketAddr {
        SocketAddr::from_abstract_name(format!("greenroom {what} {}", std::process::id())).unwrap()
    }

    #[test]
    fn streams_have_them() {
        let address = name("stream");
        let listener = UnixListener::bind_addr(&address).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_abstract_name(), address.as_abstract_name());
        assert_eq!(UnixListener::bind_addr(&address).unwrap_err().kind(), ErrorKind::AddrInUse);

        let mut client = UnixStream::connect_addr(&address).unwrap();
        assert_eq!(client.peer_addr().unwrap().as_abstract_name(), address.as_abstract_name());
        let (mut server, peer) = listener.accept().unwrap();
        assert!(peer.is_unnamed());
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn datagrams_have_them() {
        let (address, other_address) = (name("one"), name("other"));
        let one = UnixDatagram::bind_addr(&address).unwrap();
        let other = UnixDatagram::bind_addr(&other_address).unwrap();
        one.send_to_addr(b"hello", &other_address).unwrap();
        let mut buf = [0; 8];
        let (n, from) = other.recv_from(&mut buf).unwrap();
        assert_eq!((n, from.as_abstract_name()), (5, address.as_abstract_name()));
        other.connect_addr(&address).unwrap();
        other.send(b"back").unwrap();
        assert_eq!(one.recv(&mut buf).unwrap(), 4);
    }

    #[test]
    fn no_path_means_one() {
        assert_eq!(UnixStream::connect("\0greenroom").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(UnixListener::bind("\0greenroom").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(UnixDatagram::bind("\0greenroom").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
