//! TCP: streams and listeners.

#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::iter::FusedIterator;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

#[cfg(target_os = "android")]
use std::os::android::net::TcpStreamExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::TcpStreamExt;

use super::addr::{self, ToSocketAddrs};
use super::connect;
use super::stream::{self, stream_io};
use crate::io::Source;
use crate::sys::{self, Address};

/// A TCP connection to a remote peer, as [`std::net::TcpStream`] is.
///
/// Made by [`connect`](TcpStream::connect) or by [`TcpListener::accept`]. Reading and writing are the methods of
/// [`Read`](io::Read) and [`Write`](io::Write), for the stream and for a reference to it. Dropping the last handle closes the connection;
/// [`shutdown`](TcpStream::shutdown) closes one or both directions before.
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
/// use greenroom::net::{Shutdown, TcpListener, TcpStream};
/// use std::io::{Read, Write};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut stream = TcpStream::connect(listener.local_addr()?)?;
/// let (mut peer, _) = listener.accept()?;
///
/// stream.write_all(b"one line\n")?;
/// stream.shutdown(Shutdown::Write)?;
/// let mut text = String::new();
/// peer.read_to_string(&mut text)?;
/// assert_eq!(text, "one line\n");
/// # std::io::Result::Ok(())
/// ```
pub struct TcpStream(pub(super) Source<std::net::TcpStream>);

impl TcpStream {
    /// Opens a connection to a remote host.
    ///
    /// If `addr` gives several addresses, each is tried in turn until one accepts.
    ///
    /// # Switching
    ///
    /// Parks the task while a name is looked up and while the peer's answer is awaited.
    ///
    /// # Cancellation
    ///
    /// The attempt under way is given up and its socket closed.
    ///
    /// # Errors
    ///
    /// The error of the last address that was tried, that of the lookup, or [`io::ErrorKind::InvalidInput`] if there
    /// was no address at all.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(("localhost", listener.local_addr()?.port()))?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        addr::each_addr(addr, |addr| connect::connect(&Address::from(addr), None).map(TcpStream))
    }

    /// Opens a connection to one address, in at most `timeout`, counted from now.
    ///
    /// To bound a connect that looks a name up or tries several addresses, put [`connect`](TcpStream::connect) into a
    /// timeout of the whole block.
    ///
    /// # Switching
    ///
    /// Parks the task while the peer's answer is awaited.
    ///
    /// # Cancellation
    ///
    /// The attempt is given up and its socket closed.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if `timeout` is zero, [`io::ErrorKind::TimedOut`] when it has passed, otherwise
    /// as for [`connect`](TcpStream::connect).
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
        }
        // A timeout past the end of time is none.
        let deadline = Instant::now().checked_add(timeout);
        connect::connect(&Address::from(addr), deadline).map(TcpStream)
    }

    /// The address of the peer.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotConnected`] once the connection is gone, or others of the system.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().peer_addr()
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
    }

    /// Closes the reading end, the writing end or both, for all handles of this connection.
    ///
    /// A task that waits in a read wakes with `Ok(0)`, one in a write with an error. A second call may succeed or fail
    /// with [`io::ErrorKind::NotConnected`], as the system has it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotConnected`] if there is no connection.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        stream::shutdown(&self.0, how, std::net::TcpStream::shutdown)
    }

    /// Reads bytes without taking them: the next read gives the same again.
    ///
    /// # Switching
    ///
    /// Parks the task until there are bytes or the peer's end (`Ok(0)`).
    ///
    /// # Errors
    ///
    /// As for a read: [`io::ErrorKind::WouldBlock`] in non-blocking mode or after the read timeout, or others of the
    /// system.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::net::{TcpListener, TcpStream};
    /// use std::io::{Read, Write};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// listener.accept()?.0.write_all(b"x")?;
    ///
    /// let mut byte = [0];
    /// assert_eq!((stream.peek(&mut byte)?, byte), (1, *b"x"));
    /// assert_eq!((stream.read(&mut byte)?, byte), (1, *b"x"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        stream::peek(&self.0, buf)
    }

    /// Sets `TCP_NODELAY`: small segments are sent at once instead of being gathered.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.get().set_nodelay(nodelay)
    }

    /// Whether `TCP_NODELAY` is set.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.0.get().nodelay()
    }

    /// Sets the time-to-live (`IP_TTL`) of packets sent from here.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.get().set_ttl(ttl)
    }

    /// The time-to-live (`IP_TTL`) of packets sent from here.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.0.get().ttl()
    }
}

/// The methods of std's `TcpStreamExt`, which std itself keeps for its own types.
#[cfg(any(target_os = "linux", target_os = "android"))]
impl TcpStream {
    /// Sets `TCP_QUICKACK`: acknowledgements are sent at once. The kernel may leave this mode by itself.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        TcpStreamExt::set_quickack(self.0.get(), quickack)
    }

    /// Whether `TCP_QUICKACK` is set.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn quickack(&self) -> io::Result<bool> {
        TcpStreamExt::quickack(self.0.get())
    }
}

stream_io!(TcpStream, stream::read);

/// A TCP socket that waits for connections, as [`std::net::TcpListener`] is.
///
/// Dropping the last handle closes it. Connections that were accepted live on.
///
/// # Examples
///
/// ```
/// use greenroom::net::{TcpListener, TcpStream};
/// use std::io::Write;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// for stream in listener.incoming().take(1) {
///     stream?.write_all(b"welcome")?;
/// }
/// assert_eq!(std::io::read_to_string(client)?, "welcome");
/// # std::io::Result::Ok(())
/// ```
pub struct TcpListener(pub(super) Source<std::net::TcpListener>);

/// std asks for 128. Here the task that accepts may share its thread with those that connect, hundreds of them before it has
/// its turn again; a connection that finds no room is tried again by its kernel after a whole second.
const BACKLOG: i32 = 4096;

impl TcpListener {
    /// Makes a listener that is bound to `addr`.
    ///
    /// Port 0 lets the system choose one: ask [`local_addr`](TcpListener::local_addr). If `addr` gives several
    /// addresses, each is tried in turn until one works. As with std, `SO_REUSEADDR` is set. Up to 4096 connections wait to be
    /// accepted, where std has 128, if the system's own limit allows it.
    ///
    /// # Switching
    ///
    /// Parks the task if a name has to be looked up.
    ///
    /// # Errors
    ///
    /// The error of the last address that was tried, that of the lookup, or [`io::ErrorKind::InvalidInput`] if there
    /// was no address at all.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::net::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        let listener = addr::each_addr(addr, |addr| std::net::TcpListener::bind(addr))?;
        sys::listen(listener.as_fd(), BACKLOG)?;
        Ok(TcpListener(Source::new(listener)))
    }

    /// The address that this listener is bound to.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
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
    /// [`io::ErrorKind::WouldBlock`] in non-blocking mode, or others of the system: those of a connection that failed
    /// before it was accepted, or a lack of descriptors. The listener can be used on after each of these.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = connect::accept(&self.0, |listener| listener.accept())?;
        Ok((TcpStream(stream), peer))
    }

    /// Iterates over the connections as they come: [`accept`](TcpListener::accept) in a loop, without the addresses.
    ///
    /// Never ends: an error is an item, and the next call tries again.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Sets the time-to-live (`IP_TTL`) of packets sent from here, and by connections accepted afterwards.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.get().set_ttl(ttl)
    }

    /// The time-to-live (`IP_TTL`) of packets sent from here.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.0.get().ttl()
    }

    /// Sets `IPV6_V6ONLY`, which a bound socket refuses: std deprecated the method, and it is here for its sake.
    ///
    /// # Errors
    ///
    /// Those of the system.
    #[deprecated(since = "0.1.0", note = "this option can only be set before the socket is bound")]
    #[allow(deprecated, reason = "std's method of the same name is what this one is")]
    pub fn set_only_v6(&self, only_v6: bool) -> io::Result<()> {
        self.0.get().set_only_v6(only_v6)
    }

    /// Whether `IPV6_V6ONLY` is set; deprecated with its setter.
    ///
    /// # Errors
    ///
    /// Those of the system.
    #[deprecated(since = "0.1.0", note = "this option can only be set before the socket is bound")]
    #[allow(deprecated, reason = "std's method of the same name is what this one is")]
    pub fn only_v6(&self) -> io::Result<bool> {
        self.0.get().only_v6()
    }
}

/// The connections that come to a [`TcpListener`]; made by [`TcpListener::incoming`].
///
/// # Switching
///
/// `next` parks the task until there is a connection. It never gives `None`.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for Incoming<'_> {}
