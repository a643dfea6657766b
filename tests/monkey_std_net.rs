//! std's net scenarios with std's own types, patched, and both sides on one thread.
//!
//! The files are those of `net_one_thread`: here `greenroom` is this crate, whose `net` is std's.
#![allow(missing_docs, reason = "a crate of its own, and a test")]
#![allow(clippy::useless_conversion, reason = "elsewhere the types differ")]

extern crate greenroom as patched;
extern crate self as greenroom;

pub mod net {
    pub use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};

    pub mod unix {
        pub use std::os::linux::net::SocketAddrExt;
        pub use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
    }
}
pub use patched::{JoinHandle, Unparker, current, idle, park};

pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    patched::spawn(f)
}

/// Before `main`: each test calls what is patched on its root, before it spawns.
#[used]
#[unsafe(link_section = ".init_array")]
static PATCH: extern "C" fn() = {
    extern "C" fn patch() {
        // SAFETY: tasks of these tests share only what is Send.
        unsafe { patched::monkey::patch(patched::monkey::Areas::SOCKET | patched::monkey::Areas::TIME) };
    }
    patch
};

mod support;

#[path = "support/tasks.rs"]
mod mode;

#[path = "std_net/tcp.rs"]
mod tcp;
#[path = "std_net/udp.rs"]
mod udp;
#[path = "std_net/unix.rs"]
mod unix;
