//! Unix listeners.

#![forbid(unsafe_code)]

use std::io;
use std::iter::FusedIterator;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use super::UnixStream;
use crate::io::Source;
use crate::net::connect;

/// A Unix socket that waits for connections, as [`std::os::unix::net::UnixListener`] is.
///
/// Dropping the last handle closes it; its path stays in the file system until it is removed.
///
/// # Examples
///
/// ```
/// use greenroom::net::{UnixListener, UnixStream};
/// use std::io::Write;
///
/// let path = std::env::temp_dir().join(format!("greenroom-listener-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let client = UnixStream::connect(&path)?;
/// std::fs::remove_file(&path)?;
///
/// for stream in listener.incoming().take(1) {
///     stream?.write_all(b"welcome")?;
/// }
/// assert_eq!(std::io::read_to_string(client)?, "welcome");
/// # std::io::Result::Ok(())
/// ```
pub struct UnixListener(pub(in crate::net) Source<std::os::unix::net::UnixListener>);

impl UnixListener {
    /// Makes a listener at `path`, which must not exist.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the path is too long for a socket or has a zero in it, otherwise those of the
    /// system: [`io::ErrorKind::AddrInUse`] if the path exists.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        std::os::unix::net::UnixListener::bind(path).map(|listener| UnixListener(Source::new(listener)))
    }

    /// Makes a listener at an address, which may be an abstract name.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixListener> {
        std::os::unix::net::UnixListener::bind_addr(socket_addr).map(|listener| UnixListener(Source::new(listener)))
    }

    /// Accepts one connection, and gives it with the peer's address.
    ///
    /// # Switching
    ///
    /// Parks the task until there is a connection.
    ///
    /// # Cancellation
    ///
    /// No connection is lost: the next call gets it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] in non-blocking mode, or others of the system, such as a lack of descriptors. The
    /// listener can be used on after each of these.
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, peer) = connect::accept(&self.0, |listener| listener.accept())?;
        Ok((UnixStream(stream), peer))
    }

    /// The address of this listener.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
    }

    /// Iterates over the connections as they come: [`accept`](UnixListener::accept) in a loop, without the addresses.
    ///
    /// Never ends: an error is an item, and the next call tries again.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
}

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

/// The connections that come to a [`UnixListener`]; made by [`UnixListener::incoming`].
///
/// # Switching
///
/// `next` parks the task until there is a connection. It never gives `None`.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl FusedIterator for Incoming<'_> {}
