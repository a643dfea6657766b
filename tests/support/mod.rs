//! What the net tests share: how a concurrent body is run, and addresses to run it on.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of this")]

use greenroom::net::{SocketAddr, TcpListener, TcpStream};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::rc::Rc;

mod channel;
mod process;

pub(crate) use channel::{Sender, channel};
pub(crate) use process::{descriptors, in_child, limit_descriptors, native_threads};

/// How a body runs concurrently: each test crate says.
pub(crate) use crate::mode::go;

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

/// Lets everything run that can: afterwards each task has ended or waits.
pub(crate) fn settle() {
    greenroom::idle();
}

/// A second owner of a stream's descriptor: dropping it closes the descriptor under the first.
pub(crate) fn alias(stream: &TcpStream) -> TcpStream {
    // SAFETY: sound in the sense that no memory depends on it; who owns the descriptor is what these tests are about.
    unsafe { TcpStream::from_raw_fd(stream.as_raw_fd()) }
}

/// A stream whose descriptor someone else closes.
pub(crate) fn disowned(stream: TcpStream) -> Rc<ManuallyDrop<TcpStream>> {
    Rc::new(ManuallyDrop::new(stream))
}

/// A listener that answers no more connects: its backlog is full, and Linux drops what comes then. The streams hold the
/// places.
pub(crate) fn silent() -> (socket2::Socket, SocketAddr, Vec<std::net::TcpStream>) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let timeout = std::time::Duration::from_millis(100);
    let mut held = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, timeout) {
        held.push(stream);
    }
    (listener, address, held)
}
