//! Unix streams.

#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use crate::io::Source;
use crate::net::connect;
use crate::net::stream::{self, stream_io};
use crate::sys::Address;

/// A connection to another process of this host, as [`std::os::unix::net::UnixStream`] is.
///
/// Reading and writing are the methods of [`Read`](io::Read) and [`Write`](io::Write), for the stream and for a
/// reference to it. Dropping the last handle closes the connection.
///
/// # Switching
///
/// A read parks its task until there are bytes or the peer's end, a write until there is room.
///
/// # Cancellation
///
/// A single read or write that is killed while it waits has moved no bytes.
///
/// # Examples
///
/// ```
/// use greenroom::net::UnixStream;
/// use std::io::{Read, Write};
///
/// let (mut one, mut other) = UnixStream::pair()?;
/// one.write_all(b"to myself")?;
/// drop(one);
/// let mut text = String::new();
/// other.read_to_string(&mut text)?;
/// assert_eq!(text, "to myself");
/// # std::io::Result::Ok(())
/// ```
pub struct UnixStream(pub(in crate::net) Source<std::os::unix::net::UnixStream>);

impl UnixStream {
    /// Connects to the socket at `path`.
    ///
    /// # Switching
    ///
    /// Parks the task while the listener's backlog is full. The kernel tells nobody when an entry is free, so the call
    /// tries again after 0.1 ms, doubling to 10 ms.
    ///
    /// # Cancellation
    ///
    /// The attempt is given up and its socket closed.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the path is too long for a socket or has a zero in it, otherwise those of the
    /// system.
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to the socket at an address, which may be an abstract name.
    ///
    /// # Switching
    ///
    /// As for [`connect`](UnixStream::connect).
    ///
    /// # Cancellation
    ///
    /// As for [`connect`](UnixStream::connect).
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn connect_addr(socket_addr: &SocketAddr) -> io::Result<UnixStream> {
        connect::connect(&Address::from(socket_addr), None).map(UnixStream)
    }

    /// Makes two streams that are connected to each other, without a name.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = std::os::unix::net::UnixStream::pair()?;
        Ok((UnixStream(Source::new(one)), UnixStream(Source::new(other))))
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
    }

    /// The address of the peer.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().peer_addr()
    }

    /// Closes the reading end, the writing end or both, for all handles of this connection.
    ///
    /// A task that waits in a read wakes with `Ok(0)`, one in a write with an error.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        stream::shutdown(&self.0, how, std::os::unix::net::UnixStream::shutdown)
    }
}

stream_io!(UnixStream, |source, buf| {
    // Not recv(2): only recvmsg(2) tells that ancillary data ended the read early.
    stream::read_vectored(source, &mut [IoSliceMut::new(buf)])
});
