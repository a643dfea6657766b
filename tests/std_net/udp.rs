//! The scenarios of std's own UDP tests, with std's type exchanged for ours, and what only we promise.

use crate::support::{Sender, channel, each_ip, go};
use greenroom::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const LOCAL: &str = "127.0.0.1:0";

fn bound(address: impl Into<SocketAddr>) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address.into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn local() -> (UdpSocket, SocketAddr) {
    bound(LOCAL.parse::<SocketAddr>().unwrap())
}

#[test]
fn bind_to_a_foreign_address_fails() {
    assert_eq!(UdpSocket::bind("1.1.1.1:9999").unwrap_err().kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn a_datagram_arrives_with_its_sender() {
    each_ip(|any| {
        let ((server, server_address), (client, client_address)) = (bound(any), bound(any));
        let client = go(move || client.send_to(&[99], server_address).unwrap());
        let mut buf = [0];
        assert_eq!(server.recv_from(&mut buf).unwrap(), (1, client_address));
        assert_eq!(buf, [99]);
        assert_eq!(client.join().unwrap(), 1);
    });
}

#[test]
fn both_addresses_are_known() {
    each_ip(|any| {
        let ((one, _), (_other, other_address)) = (bound(any), bound(any));
        assert_eq!(one.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        one.connect(other_address).unwrap();
        assert_eq!(one.peer_addr().unwrap(), other_address);
    });
}

#[test]
fn clones_are_one_socket() {
    each_ip(|any| {
        let ((one, one_address), (other, other_address)) = (bound(any), bound(any));
        let peer = go(move || {
            let mut buf = [0];
            assert_eq!(other.recv_from(&mut buf).unwrap(), (1, one_address));
            assert_eq!(buf, [1]);
            other.send_to(&[2], one_address).unwrap();
        });
        let clone = one.try_clone().unwrap();
        let sender = go(move || clone.send_to(&[1], other_address).unwrap());
        let mut buf = [0];
        assert_eq!(one.recv_from(&mut buf).unwrap(), (1, other_address));
        assert_eq!(buf, [2]);
        sender.join().unwrap();
        peer.join().unwrap();
    });
}

#[test]
fn clones_share_what_arrives() {
    each_ip(|any| {
        let ((one, one_address), (other, _)) = (bound(any), bound(any));
        let clone = one.try_clone().unwrap();
        let (first, second) = (channel(), channel());
        let receive = |socket: UdpSocket, done: Sender<u8>| {
            go(move || {
                let mut buf = [0];
                socket.recv_from(&mut buf).unwrap();
                done.send(buf[0]).unwrap();
            })
        };
        let receivers = [receive(one, first.0), receive(clone, second.0)];
        other.send_to(&[1], one_address).unwrap();
        other.send_to(&[2], one_address).unwrap();
        let mut got = [first.1.recv().unwrap(), second.1.recv().unwrap()];
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        for receiver in receivers {
            receiver.join().unwrap();
        }
    });
}

#[test]
fn clones_send_to_one_receiver() {
    each_ip(|any| {
        let ((one, _), (other, other_address)) = (bound(any), bound(any));
        let clone = one.try_clone().unwrap();
        let senders = [one, clone].map(|socket| go(move || socket.send_to(&[1], other_address).unwrap()));
        let mut buf = [0];
        for _ in 0..2 {
            assert_eq!(other.recv(&mut buf).unwrap(), 1);
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn debug_prints_what_std_prints() {
    let (socket, address) = local();
    let expected = format!("UdpSocket {{ addr: {address:?}, fd: {} }}", socket.as_raw_fd());
    assert_eq!(format!("{socket:?}"), expected);
}

#[test]
fn timeouts_are_given_back() {
    let (socket, _) = local();
    let timeout = Duration::from_millis(410);
    assert_eq!(socket.read_timeout().unwrap(), None);
    assert_eq!(socket.write_timeout().unwrap(), None);
    socket.set_read_timeout(Some(timeout)).unwrap();
    socket.set_write_timeout(Some(timeout)).unwrap();
    assert!(socket.read_timeout().unwrap().unwrap() >= timeout);
    assert!(socket.write_timeout().unwrap().unwrap() >= timeout);
    socket.set_read_timeout(None).unwrap();
    socket.set_write_timeout(None).unwrap();
    assert_eq!(socket.read_timeout().unwrap(), None);
    assert_eq!(socket.write_timeout().unwrap(), None);
}

#[test]
fn a_receive_ends_with_its_timeout() {
    let (socket, address) = local();
    let timeout = Duration::from_millis(50);
    socket.set_read_timeout(Some(timeout)).unwrap();

    let mut buf = [0; 10];
    let start = Instant::now();
    assert_eq!(socket.recv_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(start.elapsed() >= timeout);

    socket.send_to(b"hello", address).unwrap();
    assert_eq!(socket.recv_from(&mut buf).unwrap(), (5, address));
    assert_eq!(&buf[..5], b"hello");

    for error in [
        socket.recv(&mut buf).unwrap_err(),
        socket.peek(&mut buf).unwrap_err(),
        socket.peek_from(&mut buf).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_zero_timeout_is_refused() {
    let (socket, _) = local();
    assert_eq!(socket.set_write_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(socket.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_connected_socket_talks_to_its_peer() {
    let (socket, address) = local();
    socket.connect(address).unwrap();
    assert_eq!(socket.send(b"hello world").unwrap(), 11);
    let mut buf = [0; 11];
    assert_eq!(socket.recv(&mut buf).unwrap(), 11);
    assert_eq!(&buf, b"hello world");
}

#[test]
fn peek_leaves_the_datagram() {
    each_ip(|any| {
        let (socket, address) = bound(any);
        socket.connect(address).unwrap();
        socket.send(b"hello world").unwrap();
        for _ in 0..2 {
            let mut buf = [0; 11];
            assert_eq!(socket.peek(&mut buf).unwrap(), 11);
            assert_eq!(&buf, b"hello world");
            assert_eq!(socket.peek_from(&mut buf[..5]).unwrap(), (5, address));
        }
        let mut buf = [0; 11];
        assert_eq!(socket.recv(&mut buf).unwrap(), 11);
        socket.set_nonblocking(true).unwrap();
        assert_eq!(socket.peek_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn what_does_not_fit_is_cut_off() {
    let (socket, address) = local();
    socket.send_to(b"hello", address).unwrap();
    socket.send_to(b"", address).unwrap();
    let mut buf = [0; 2];
    assert_eq!(socket.recv_from(&mut buf).unwrap(), (2, address));
    assert_eq!(&buf, b"he");
    assert_eq!(socket.recv_from(&mut buf).unwrap(), (0, address));
}

#[test]
fn non_blocking_calls_never_wait() {
    each_ip(|any| {
        let (socket, address) = bound(any);
        socket.connect(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(socket.recv_from(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        socket.set_nonblocking(false).unwrap();
        socket.send(&[7]).unwrap();
        assert_eq!(socket.recv(&mut [0]).unwrap(), 1);
    });
}

#[test]
fn options_are_given_back() {
    let (socket, _) = local();
    socket.set_ttl(100).unwrap();
    assert_eq!(socket.ttl().unwrap(), 100);
    socket.set_broadcast(true).unwrap();
    assert!(socket.broadcast().unwrap());
    socket.set_multicast_loop_v4(false).unwrap();
    assert!(!socket.multicast_loop_v4().unwrap());
    socket.set_multicast_ttl_v4(7).unwrap();
    assert_eq!(socket.multicast_ttl_v4().unwrap(), 7);
    assert!(socket.take_error().unwrap().is_none());

    if let Ok(socket) = UdpSocket::bind("[::1]:0") {
        socket.set_multicast_loop_v6(false).unwrap();
        assert!(!socket.multicast_loop_v6().unwrap());
    }
}

#[test]
fn groups_answer_as_std_s_do() {
    let (ours, std) = (UdpSocket::bind("0.0.0.0:0").unwrap(), std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
    let (no_group, interface) = (Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED);
    let kinds = |a: std::io::Result<()>, b: std::io::Result<()>| {
        assert_eq!(a.map_err(|e| e.raw_os_error()), b.map_err(|e| e.raw_os_error()));
    };
    kinds(ours.join_multicast_v4(&no_group, &interface), std.join_multicast_v4(&no_group, &interface));
    kinds(ours.leave_multicast_v4(&no_group, &interface), std.leave_multicast_v4(&no_group, &interface));
    let v6 = Ipv6Addr::LOCALHOST;
    kinds(ours.join_multicast_v6(&v6, 0), std.join_multicast_v6(&v6, 0));
    kinds(ours.leave_multicast_v6(&v6, 0), std.leave_multicast_v6(&v6, 0));
}

#[test]
fn sending_to_nowhere_is_invalid() {
    let (socket, _) = local();
    let error = socket.send_to(b"x", &[][..]).unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::InvalidInput, "no addresses to send data to"));
}

#[test]
fn a_refused_datagram_is_told_later() {
    let (socket, _) = local();
    let (gone, address) = local();
    socket.connect(address).unwrap();
    drop(gone);
    socket.send(b"x").unwrap();
    assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn std_s_sockets_are_taken_over_and_given_back() {
    let socket = std::net::UdpSocket::bind(LOCAL).unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = UdpSocket::from(socket);
    assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let socket = std::net::UdpSocket::from(socket);
    assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}
