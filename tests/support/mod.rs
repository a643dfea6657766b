//! What the net tests share: how a concurrent body is run, and addresses to run it on.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use greenroom::net::{SocketAddr, TcpListener, TcpStream};
use std::io;
use std::os::fd::AsRawFd;

mod channel;

pub(crate) use channel::{Receiver, Sender, channel};

/// How a body runs concurrently: each test crate says.
pub(crate) use crate::mode::{Handle, go};

/// Runs `f` with a free address for binding, of each family that this machine has.
pub(crate) fn each_ip(mut f: impl FnMut(SocketAddr)) {
    for text in ["127.0.0.1:0", "[::1]:0"] {
        let address = text.parse().unwrap();
        match TcpListener::bind(address) {
            Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => assert_ne!(text, "127.0.0.1:0"),
            _ => f(address),
        }
    }
}

/// A listener and its address.
pub(crate) fn listen(address: SocketAddr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address that refuses connections while the socket lives: bound, but not listening.
pub(crate) fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// Two ends of one TCP connection: the one that connected, the one that was accepted.
pub(crate) fn tcp_pair(address: SocketAddr) -> (TcpStream, TcpStream) {
    let (listener, address) = listen(address);
    let client = TcpStream::connect(address).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Whether an error is what a peer that went away may cause.
pub(crate) fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted)
}

/// Whether `O_NONBLOCK` and close-on-exec are set, as the kernel has them.
#[cfg(target_os = "linux")]
pub(crate) fn nonblocking_and_cloexec(socket: &impl AsRawFd) -> (bool, bool) {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", socket.as_raw_fd())).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    let flags = i32::from_str_radix(flags, 8).unwrap();
    (flags & libc::O_NONBLOCK != 0, flags & libc::O_CLOEXEC != 0)
}
