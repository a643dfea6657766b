//! Sockets: std's types and methods, which park the calling task where std's would block the thread.
//!
//! Everything here has the name, the signature and the errors of its namesake in [`std::net`] or
//! [`std::os::unix::net`]: change the import, and the program is cooperative. What is plain data (addresses,
//! [`Shutdown`]) *is* std's. Only name lookups have a trait of their own, [`ToSocketAddrs`], so that no lookup ever
//! stops the thread.
//!
//! | to | use |
//! | --- | --- |
//! | talk over a connection | [`TcpStream`], [`UnixStream`] |
//! | wait for connections | [`TcpListener`], [`UnixListener`] |
//! | send and receive datagrams | [`UdpSocket`], [`UnixDatagram`] |
//! | look a name up | [`lookup_host`], [`ToSocketAddrs`] |
//!
//! # Switching
//!
//! A call that can finish at once does; only one that would have to wait parks its task, and other tasks run. Any
//! number of tasks may use one socket at once: those that wait in one direction are served in the order in which they
//! came, and reading never waits for writing. A socket may be moved to another thread, or shared with it.
//!
//! # Cancellation
//!
//! A task that is killed while it waits here has taken nothing and sent nothing: bytes, datagrams and connections stay
//! for the next call. What `read_exact`, `write_all` and other calls made of several steps had done before stays done.
//!
//! # Descriptors
//!
//! The flags and options of a socket are always those that std's type would have: they can be shared with
//! [`try_clone`](TcpStream::try_clone), and turned into std's types and back at any time. Listeners are the exception:
//! once one has accepted, its descriptor has `O_NONBLOCK` until it is turned into something else. An option that is set
//! behind our back, by system calls on the descriptor, is seen by us only if it was set before the socket was turned
//! into one of ours.
//!
//! # Examples
//!
//! ```
//! use greenroom::net::{TcpListener, TcpStream};
//! use std::io::{Read, Write};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! let (mut server, _) = listener.accept()?;
//!
//! client.write_all(b"hello")?;
//! let mut received = [0; 5];
//! server.read_exact(&mut received)?;
//! assert_eq!(&received, b"hello");
//! # std::io::Result::Ok(())
//! ```

mod tcp;
mod udp;
pub mod unix;

mod addr;
mod resolve;

mod backoff;
mod connect;
mod datagram;
mod fd;
mod options;
mod stream;

pub(crate) use backoff::Backoff;

pub use addr::{LookupHost, ToSocketAddrs, lookup_host};
pub use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixStream};

const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<TcpStream>();
    shared_by_threads::<TcpListener>();
    shared_by_threads::<UdpSocket>();
    shared_by_threads::<UnixStream>();
    shared_by_threads::<UnixListener>();
    shared_by_threads::<UnixDatagram>();
};
