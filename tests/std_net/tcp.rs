//! The scenarios of std's own TCP tests, with std's types exchanged for ours, and what only we promise.

use crate::support::{channel, each_ip, go, is_hang_up, listen, refusing, tcp_pair};
use greenroom::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

const LOCAL: &str = "127.0.0.1:0";

fn local() -> SocketAddr {
    LOCAL.parse().unwrap()
}

/// Reads one byte.
fn byte(mut stream: &TcpStream) -> u8 {
    let mut buf = [0];
    stream.read_exact(&mut buf).unwrap();
    buf[0]
}

#[test]
fn bind_to_a_foreign_address_fails() {
    let error = TcpListener::bind("1.1.1.1:9999").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn connect_to_nobody_fails() {
    let error = TcpStream::connect("0.0.0.0:1").unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::InvalidInput | ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
    ));
}

#[test]
fn connect_tries_every_address() {
    let (_bound, refused) = refusing();
    let (_listener, open) = listen(local());
    let stream = TcpStream::connect(&[refused, open][..]).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), open);

    let error = TcpStream::connect(&[refused, refused][..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let error = TcpStream::connect(&[][..]).unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::InvalidInput, "could not resolve to any addresses"));
}

#[test]
fn a_name_reaches_its_listener() {
    let (listener, address) = listen(local());
    let client = go(move || {
        let mut stream = TcpStream::connect(("localhost", address.port())).unwrap();
        stream.write_all(&[144]).unwrap();
    });
    let (stream, _) = listener.accept().unwrap();
    assert_eq!(byte(&stream), 144);
    client.join().unwrap();
}

#[test]
fn loopback_works_in_each_family() {
    each_ip(|any| {
        let (listener, address) = listen(any);
        let client = go(move || TcpStream::connect((address.ip(), address.port())).unwrap().write_all(&[66]).unwrap());
        let (stream, peer) = listener.accept().unwrap();
        assert_eq!(byte(&stream), 66);
        assert_eq!(peer, stream.peer_addr().unwrap());
        client.join().unwrap();
    });
}

#[test]
fn read_gives_the_end_again_and_again() {
    each_ip(|any| {
        let (client, mut server) = tcp_pair(any);
        let client = go(move || drop(client));
        let mut buf = [0];
        assert_eq!(server.read(&mut buf).unwrap(), 0);
        assert_eq!(server.read(&mut buf).unwrap(), 0);
        client.join().unwrap();
    });
}

#[test]
fn write_to_a_closed_peer_works_or_says_so() {
    each_ip(|any| {
        let (listener, address) = listen(any);
        let server = go(move || drop(listener.accept().unwrap()));
        let mut stream = TcpStream::connect(address).unwrap();
        server.join().unwrap();
        loop {
            match stream.write(&[0; 1 << 16]) {
                Ok(n) => assert!(n > 0),
                Err(e) => break assert!(is_hang_up(&e), "{e}"),
            }
        }
    });
}

#[test]
fn many_connect_one_after_the_other() {
    each_ip(|any| {
        let max = 10;
        let (listener, address) = listen(any);
        let clients = go(move || {
            for _ in 0..max {
                TcpStream::connect(address).unwrap().write_all(&[99]).unwrap();
            }
        });
        for stream in listener.incoming().take(max) {
            assert_eq!(byte(&stream.unwrap()), 99);
        }
        clients.join().unwrap();
    });
}

/// Each client connects, lets the next one connect, and writes after that.
fn interleaved(any: SocketAddr, value: fn(u8) -> u8, each_by_its_own: bool) {
    const MAX: u8 = 10;

    fn connect(i: u8, address: SocketAddr, value: fn(u8) -> u8) {
        if i == MAX {
            return;
        }
        let client = go(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            connect(i + 1, address, value);
            stream.write_all(&[value(i)]).unwrap();
        });
        client.join().unwrap();
    }

    let (listener, address) = listen(any);
    let server = go(move || {
        let mut readers = Vec::new();
        for (i, stream) in (0..MAX).zip(listener.incoming()) {
            let stream = stream.unwrap();
            let read = move || assert_eq!(byte(&stream), value(i));
            if each_by_its_own { readers.push(go(read)) } else { go(read).join().unwrap() }
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
    connect(0, address, value);
    server.join().unwrap();
}

#[test]
fn interleaved_connects_are_told_apart() {
    each_ip(|any| interleaved(any, |i| i, true));
}

#[test]
fn interleaved_connects_work_with_lazy_readers() {
    each_ip(|any| interleaved(any, |_| 99, true));
}

#[test]
fn addresses_of_both_ends_agree() {
    each_ip(|any| {
        let (listener, address) = listen(any);
        assert_eq!(listener.local_addr().unwrap(), address);
        let client = go(move || TcpStream::connect(address).unwrap());
        let (server, peer) = listener.accept().unwrap();
        let client = client.join().unwrap();
        assert_eq!(client.peer_addr().unwrap(), address);
        assert_eq!(server.local_addr().unwrap(), address);
        assert_eq!(client.local_addr().unwrap(), peer);
        assert_eq!(server.peer_addr().unwrap(), peer);
    });
}

#[test]
fn what_a_read_leaves_stays() {
    each_ip(|any| {
        let (mut client, server) = tcp_pair(any);
        let server = go(move || {
            (&server).write_all(&[1, 2]).unwrap();
            assert_eq!(byte(&server), 10);
        });
        assert_eq!(byte(&client), 1);
        client.write_all(&[10]).unwrap();
        server.join().unwrap();
        assert_eq!(byte(&client), 2);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn vectored_read_fills_buffers_in_order() {
    each_ip(|any| {
        let (mut client, mut server) = tcp_pair(any);
        client.write_all(&[10, 11, 12]).unwrap();
        // The segment may arrive in parts in theory; what has arrived is seen whole.
        server.peek(&mut [0; 3]).unwrap();

        let (mut a, mut b, mut c) = ([], [0], [0; 3]);
        let bufs = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b), IoSliceMut::new(&mut c)];
        assert_eq!(server.read_vectored(bufs).unwrap(), 3);
        assert_eq!((b, c), ([10], [11, 12, 0]));
    });
}

#[test]
fn vectored_write_sends_buffers_in_order() {
    each_ip(|any| {
        let (mut client, mut server) = tcp_pair(any);
        let (a, b, c) = ([], [10], [11, 12]);
        let bufs = &[IoSlice::new(&a), IoSlice::new(&b), IoSlice::new(&c)];
        assert_eq!(client.write_vectored(bufs).unwrap(), 3);
        let mut buf = [0; 3];
        server.read_exact(&mut buf).unwrap();
        assert_eq!(buf, [10, 11, 12]);
    });
}

#[test]
fn more_buffers_than_the_kernel_takes_are_no_error() {
    let (mut client, server) = tcp_pair(local());
    let bytes = [7; 3000];
    let bufs: Vec<_> = bytes.iter().map(|byte| IoSlice::new(std::slice::from_ref(byte))).collect();
    assert_eq!(client.write_vectored(&bufs).unwrap(), 1024);
    // The first transfer was cut, not short: the second must not wait.
    assert_eq!(client.write_vectored(&bufs).unwrap(), 1024);
    drop(client);

    let mut received = 0;
    loop {
        let mut bytes = [0; 3000];
        let mut bufs: Vec<_> = bytes.iter_mut().map(|b| IoSliceMut::new(std::slice::from_mut(b))).collect();
        match (&server).read_vectored(&mut bufs).unwrap() {
            0 => break,
            n => received += n,
        }
    }
    assert_eq!(received, 2048);
}

#[test]
fn one_port_is_bound_once() {
    each_ip(|any| {
        let (_listener, address) = listen(any);
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn a_port_can_be_bound_again_at_once() {
    each_ip(|any| {
        let (listener, address) = listen(any);
        let client = TcpStream::connect(address).unwrap();
        // Closed by this end first, so that it is this end that stays in TIME_WAIT.
        drop(listener.accept().unwrap());
        drop(listener);
        drop(client);
        TcpListener::bind(address).unwrap();
    });
}

#[test]
fn clones_are_one_stream() {
    each_ip(|any| {
        let (client, server) = tcp_pair(any);
        let client = go(move || {
            assert_eq!(byte(&client), 1);
            (&client).write_all(&[2]).unwrap();
        });
        let clone = server.try_clone().unwrap();
        let writer = go(move || (&clone).write_all(&[1]).unwrap());
        assert_eq!(byte(&server), 2);
        writer.join().unwrap();
        client.join().unwrap();
    });
}

#[test]
fn clones_share_what_arrives() {
    each_ip(|any| {
        let (mut client, server) = tcp_pair(any);
        let clone = server.try_clone().unwrap();
        let (sender, bytes) = channel();
        let sender_too = sender.clone();
        let one = go(move || sender.send(byte(&server)).unwrap());
        let other = go(move || sender_too.send(byte(&clone)).unwrap());

        client.write_all(&[1]).unwrap();
        let first = bytes.recv().unwrap();
        client.write_all(&[2]).unwrap();
        let second = bytes.recv().unwrap();
        assert_eq!((first, second), (1, 2));
        one.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn clones_write_to_one_peer() {
    each_ip(|any| {
        let (client, server) = tcp_pair(any);
        let clone = client.try_clone().unwrap();
        let one = go(move || (&client).write_all(&[1]).unwrap());
        let other = go(move || (&clone).write_all(&[2]).unwrap());
        let mut got = [byte(&server), byte(&server)];
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        one.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn shutdown_of_writing_leaves_reading() {
    each_ip(|any| {
        let (mut client, server) = tcp_pair(any);
        let server = go(move || {
            let mut server = server;
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
            server.write_all(&[1]).unwrap();
        });
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.write(&[1]).unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(byte(&client), 1);
        server.join().unwrap();
    });
}

#[test]
fn shutdown_is_seen_by_all_clones() {
    each_ip(|any| {
        let (listener, address) = listen(any);
        let server = go(move || listener.accept().unwrap());
        let mut client = TcpStream::connect(address).unwrap();
        let mut clone = client.try_clone().unwrap();

        client.shutdown(Shutdown::Write).unwrap();
        assert!(client.write(&[0]).is_err());
        assert!(clone.write(&[0]).is_err());

        client.shutdown(Shutdown::Read).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(clone.read(&mut [0]).unwrap(), 0);

        let mut third = client.try_clone().unwrap();
        assert_eq!(third.read(&mut [0]).unwrap(), 0);
        assert!(third.write(&[0]).is_err());

        // Again: succeeds or not as the system has it, and changes nothing.
        let _ = client.shutdown(Shutdown::Read);
        let _ = client.shutdown(Shutdown::Write);
        server.join().unwrap();
    });
}

#[test]
fn shutdown_wakes_a_reader() {
    each_ip(|any| {
        let (client, _server) = tcp_pair(any);
        let mut clone = client.try_clone().unwrap();
        let (started, starts) = channel();
        let reader = go(move || {
            started.send(()).unwrap();
            assert_eq!(clone.read(&mut [0]).unwrap(), 0);
        });
        starts.recv().unwrap();
        client.shutdown(Shutdown::Read).unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn shutdown_wakes_a_writer() {
    let (client, _server) = tcp_pair(local());
    let mut clone = client.try_clone().unwrap();
    let (started, starts) = channel();
    let writer = go(move || {
        started.send(()).unwrap();
        let error = loop {
            if let Err(error) = clone.write(&[0; 1 << 16]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
    starts.recv().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    writer.join().unwrap();
}

#[test]
fn a_stream_can_be_cloned_while_it_is_read() {
    each_ip(|any| {
        let (client, server) = tcp_pair(any);
        let mut clone = client.try_clone().unwrap();
        let (started, starts) = channel();
        let reader = go(move || {
            started.send(()).unwrap();
            clone.read_exact(&mut [0; 2]).unwrap();
        });
        starts.recv().unwrap();
        let more = client.try_clone().unwrap();
        drop(client);

        (&server).write_all(&[1]).unwrap();
        drop(more.try_clone().unwrap());
        (&server).write_all(&[2]).unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn clones_of_a_listener_accept() {
    each_ip(|any| {
        let (listener, address) = listen(any);
        let clone = listener.try_clone().unwrap();
        let clients = [(); 2].map(|()| go(move || drop(TcpStream::connect(address).unwrap())));
        listener.accept().unwrap();
        clone.accept().unwrap();
        for client in clients {
            client.join().unwrap();
        }
    });
}

#[test]
fn clones_of_a_listener_accept_at_once() {
    each_ip(|any| {
        let (listener, address) = listen(any);
        let clone = listener.try_clone().unwrap();
        let acceptors = [listener, clone].map(|listener| go(move || listener.accept().unwrap()));
        let clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        for acceptor in acceptors {
            acceptor.join().unwrap();
        }
        drop(clients);
    });
}

#[test]
fn debug_prints_what_std_prints() {
    let (listener, address) = listen(local());
    let expected = format!("TcpListener {{ addr: {address:?}, fd: {} }}", listener.as_raw_fd());
    assert_eq!(format!("{listener:?}"), expected);

    let client = TcpStream::connect(address).unwrap();
    let (own, fd) = (client.local_addr().unwrap(), client.as_raw_fd());
    assert_eq!(format!("{client:?}"), format!("TcpStream {{ addr: {own:?}, peer: {address:?}, fd: {fd} }}"));
}

#[test]
fn timeouts_are_given_back() {
    let (client, _server) = tcp_pair(local());
    let timeout = Duration::from_millis(410);
    assert_eq!(client.read_timeout().unwrap(), None);
    assert_eq!(client.write_timeout().unwrap(), None);

    client.set_read_timeout(Some(timeout)).unwrap();
    client.set_write_timeout(Some(timeout)).unwrap();
    let read = client.read_timeout().unwrap().unwrap();
    // The kernel rounds up to its ticks.
    assert!(read >= timeout && read <= timeout + Duration::from_millis(10), "{read:?}");
    assert_eq!(client.write_timeout().unwrap(), Some(read));

    client.set_read_timeout(None).unwrap();
    client.set_write_timeout(None).unwrap();
    assert_eq!(client.read_timeout().unwrap(), None);
    assert_eq!(client.write_timeout().unwrap(), None);
}

#[test]
fn a_read_ends_with_its_timeout() {
    let (mut client, _server) = tcp_pair(local());
    let timeout = Duration::from_millis(100);
    client.set_read_timeout(Some(timeout)).unwrap();
    let start = Instant::now();
    let error = client.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(start.elapsed() >= timeout);
    assert_eq!(client.peek(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_write_ends_with_its_timeout() {
    let (mut client, _server) = tcp_pair(local());
    client.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let error = loop {
        if let Err(error) = client.write(&[0; 1 << 16]) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_timeout_does_not_disturb_what_has_arrived() {
    let (mut client, mut server) = tcp_pair(local());
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    server.write_all(b"hello world").unwrap();
    let mut buf = [0; 11];
    client.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"hello world");
    assert_eq!(client.read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_timeout_of_a_clone_is_a_timeout() {
    let (mut client, _server) = tcp_pair(local());
    let clone = client.try_clone().unwrap();
    clone.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_zero_timeout_is_refused() {
    let (client, _server) = tcp_pair(local());
    for error in [
        client.set_read_timeout(Some(Duration::ZERO)).unwrap_err(),
        client.set_write_timeout(Some(Duration::ZERO)).unwrap_err(),
        TcpStream::connect_timeout(&client.peer_addr().unwrap(), Duration::ZERO).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn options_are_given_back() {
    let (listener, address) = listen(local());
    listener.set_ttl(100).unwrap();
    assert_eq!(listener.ttl().unwrap(), 100);
    assert!(listener.take_error().unwrap().is_none());

    let stream = TcpStream::connect(address).unwrap();
    stream.set_ttl(100).unwrap();
    assert_eq!(stream.ttl().unwrap(), 100);
    assert!(!stream.nodelay().unwrap());
    stream.set_nodelay(true).unwrap();
    assert!(stream.nodelay().unwrap());
    assert!(stream.take_error().unwrap().is_none());

    #[cfg(target_os = "linux")]
    {
        #[allow(unused_imports, reason = "std's own type has them by a trait, and is put to these tests too")]
        use std::os::linux::net::TcpStreamExt as _;
        stream.set_quickack(false).unwrap();
        assert!(!stream.quickack().unwrap());
    }
}

#[test]
fn non_blocking_calls_never_wait() {
    each_ip(|any| {
        let (listener, address) = listen(any);
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(listener.incoming().next().unwrap().unwrap_err().kind(), ErrorKind::WouldBlock);
        listener.set_nonblocking(false).unwrap();

        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(stream.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let error = loop {
            if let Err(error) = stream.write(&[0; 1 << 16]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);

        stream.set_nonblocking(false).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(&[1]).unwrap();
        assert_eq!(byte(&stream), 1);
    });
}

#[test]
fn non_blocking_mode_is_that_of_all_clones() {
    let (client, _server) = tcp_pair(local());
    let mut clone = client.try_clone().unwrap();
    client.set_nonblocking(true).unwrap();
    assert_eq!(clone.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn peek_leaves_what_it_shows() {
    each_ip(|any| {
        let (client, server) = tcp_pair(any);
        let server = go(move || {
            (&server).write_all(&[1, 3, 3, 7]).unwrap();
            assert_eq!((&server).read(&mut [0]).unwrap(), 0);
        });
        let mut buf = [0; 10];
        for _ in 0..2 {
            assert_eq!(client.peek(&mut buf[..2]).unwrap(), 2);
            assert_eq!(buf[..2], [1, 3]);
        }
        (&client).read_exact(&mut buf[..4]).unwrap();
        assert_eq!(buf[..4], [1, 3, 3, 7]);
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.peek(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(client);
        server.join().unwrap();
    });
}

#[test]
fn connect_timeout_connects() {
    let (_listener, address) = listen(local());
    for timeout in [Duration::from_secs(2), Duration::MAX] {
        let stream = TcpStream::connect_timeout(&address, timeout).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }
}

#[test]
fn connect_timeout_is_refused_at_once() {
    let (_bound, address) = refusing();
    let error = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// A listener with a full backlog answers no more: Linux drops what comes then.
#[cfg(target_os = "linux")]
#[test]
fn connect_timeout_ends_in_time() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&local().into()).unwrap();
    listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();

    let timeout = Duration::from_millis(100);
    let mut connected = Vec::new();
    let (error, elapsed) = loop {
        let start = Instant::now();
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => connected.push(stream),
            Err(error) => break (error, start.elapsed()),
        }
    };
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::TimedOut, "connection timed out"));
    assert!(elapsed >= timeout && elapsed < 10 * timeout, "{elapsed:?}");
    assert!(connected.len() <= 3);
}

#[cfg(target_os = "linux")]
#[test]
fn a_new_stream_is_in_std_s_mode() {
    let (client, server) = tcp_pair(local());
    for stream in [client, server] {
        assert_eq!(crate::support::nonblocking_and_cloexec(&stream), (false, true));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_listener_is_given_back_in_std_s_mode() {
    let (listener, address) = listen(local());
    let _client = TcpStream::connect(address).unwrap();
    listener.accept().unwrap();
    let listener = std::net::TcpListener::from(listener);
    assert_eq!(crate::support::nonblocking_and_cloexec(&listener), (false, true));
}

#[test]
fn std_s_modes_and_timeouts_are_taken_over() {
    let (client, _server) = tcp_pair(local());
    let client = std::net::TcpStream::from(client);
    client.set_nonblocking(true).unwrap();
    let mut client = TcpStream::from(client);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);

    let client = std::net::TcpStream::from(client);
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut client = TcpStream::from(client);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_descriptor_goes_out_and_comes_back() {
    let (client, server) = tcp_pair(local());
    let fd = client.as_raw_fd();
    let client = OwnedFd::from(client);
    let raw = client.into_raw_fd();
    assert_eq!(raw, fd);
    // SAFETY: `into_raw_fd` has just given it away.
    let mut client = unsafe { TcpStream::from_raw_fd(raw) };
    client.write_all(&[5]).unwrap();
    assert_eq!(byte(&server), 5);
    assert_eq!(TcpStream::from(OwnedFd::from(client)).into_raw_fd(), fd);
    // SAFETY: as above; closes it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

#[test]
fn both_directions_carry_more_than_the_buffers_hold() {
    const LENGTH: usize = 8 << 20;
    fn pattern(seed: usize) -> Vec<u8> {
        (0..LENGTH).map(|i| (i.wrapping_mul(31) / 7 + seed) as u8).collect()
    }
    fn exchange(stream: TcpStream, own: usize, other: usize) {
        let clone = stream.try_clone().unwrap();
        let writer = go(move || {
            (&clone).write_all(&pattern(own)).unwrap();
            clone.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        (&stream).read_to_end(&mut received).unwrap();
        assert!(received == pattern(other));
        writer.join().unwrap();
    }

    let (client, server) = tcp_pair(local());
    let server = go(move || exchange(server, 1, 2));
    exchange(client, 2, 1);
    server.join().unwrap();
}

#[test]
fn urgent_data_does_not_stop_a_reader() {
    let (client, mut server) = tcp_pair(local());
    let socket = socket2::SockRef::from(&client);
    (&client).write_all(b"ab").unwrap();
    socket.send_out_of_band(b"!").unwrap();
    (&client).write_all(b"cd").unwrap();

    // A read stops at the urgent byte: short, although there is more.
    let mut received = Vec::new();
    while received.len() < 4 {
        let mut buf = [0; 16];
        let n = server.read(&mut buf).unwrap();
        received.extend_from_slice(&buf[..n]);
    }
    assert_eq!(received, b"abcd");
}

#[test]
fn a_connection_reset_is_an_error_and_then_the_end() {
    let (client, mut server) = tcp_pair(local());
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}
