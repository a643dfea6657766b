//! Unix datagram sockets.

#![forbid(unsafe_code)]

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use crate::io::{Direction, Left, Source};
use crate::net::backoff::Backoff;
use crate::net::{datagram, stream};
use crate::sys::{self, Address};

/// A socket for datagrams within this host, as [`std::os::unix::net::UnixDatagram`] is.
///
/// Datagrams neither get lost nor overtake each other: a sender waits while the receiver's queue is full.
///
/// # Switching
///
/// Receiving parks the task until there is a datagram, sending until there is room for one.
///
/// # Cancellation
///
/// A call that is killed while it waits has taken and sent nothing.
///
/// # Examples
///
/// ```
/// use greenroom::net::UnixDatagram;
///
/// let (one, other) = UnixDatagram::pair()?;
/// one.send(b"ping")?;
/// let mut buf = [0; 16];
/// let length = other.recv(&mut buf)?;
/// assert_eq!(&buf[..length], b"ping");
/// # std::io::Result::Ok(())
/// ```
pub struct UnixDatagram(pub(in crate::net) Source<std::os::unix::net::UnixDatagram>);

impl UnixDatagram {
    /// Makes a socket at `path`, which must not exist.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the path is too long for a socket or has a zero in it, otherwise those of the
    /// system: [`io::ErrorKind::AddrInUse`] if the path exists.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        std::os::unix::net::UnixDatagram::bind(path).map(UnixDatagram::just_made)
    }

    /// Makes a socket at an address, which may be an abstract name.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixDatagram> {
        std::os::unix::net::UnixDatagram::bind_addr(socket_addr).map(UnixDatagram::just_made)
    }

    /// Makes a socket without a name: it can send, but nobody can answer it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn unbound() -> io::Result<UnixDatagram> {
        std::os::unix::net::UnixDatagram::unbound().map(UnixDatagram::just_made)
    }

    /// Makes two sockets that are connected to each other, without a name.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = std::os::unix::net::UnixDatagram::pair()?;
        Ok((UnixDatagram::just_made(one), UnixDatagram::just_made(other)))
    }

    fn just_made(socket: std::os::unix::net::UnixDatagram) -> UnixDatagram {
        UnixDatagram(Source::new(socket))
    }

    /// Fixes the peer: [`send`](UnixDatagram::send) sends to the socket at `path`, and only its datagrams are received.
    ///
    /// # Errors
    ///
    /// As for [`bind`](UnixDatagram::bind); [`io::ErrorKind::NotFound`] if nothing is there.
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.0.get().connect(path)
    }

    /// Fixes the peer by its address, which may be an abstract name.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn connect_addr(&self, socket_addr: &SocketAddr) -> io::Result<()> {
        self.0.get().connect_addr(socket_addr)
    }

    /// The address of this socket.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
    }

    /// The address of the connected peer.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotConnected`] if there is none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().peer_addr()
    }

    /// Receives one datagram, and gives its length and its sender.
    ///
    /// What does not fit into `buf` is thrown away.
    ///
    /// # Switching
    ///
    /// Parks the task until there is a datagram.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] in non-blocking mode or after the read timeout, or others of the system.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (n, from) = self.receive(|socket| sys::receive_from(socket, buf, false), (0, Address::NONE))?;
        Ok((n, from.to_unix()))
    }

    /// Receives one datagram, and gives its length.
    ///
    /// What does not fit into `buf` is thrown away.
    ///
    /// # Switching
    ///
    /// Parks the task until there is a datagram.
    ///
    /// # Errors
    ///
    /// As for [`recv_from`](UnixDatagram::recv_from).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(|socket| sys::receive(socket, buf), 0)
    }

    /// Receives with `call`; gives `end` once the reading end was shut down and all has been taken.
    ///
    /// Linux tells the end of datagrams only to calls that block: with `MSG_DONTWAIT` it is `EAGAIN` for ever.
    fn receive<T: Copy>(
        &self,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
        #[cfg_attr(
            not(any(target_os = "linux", target_os = "android")),
            expect(unused_variables, reason = "other systems tell the end themselves")
        )]
        end: T,
    ) -> io::Result<T> {
        self.0.perform(
            Direction::Read,
            |socket| {
                let socket = socket.as_fd();
                let received = call(socket);
                #[cfg(any(target_os = "linux", target_os = "android"))]
                if received.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
                    && sys::is_read_shut_down(socket)?
                    && !sys::is_nonblocking(socket)?
                {
                    // Once more: what came between the call and the look is not lost.
                    return match call(socket) {
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(end),
                        received => received,
                    };
                }
                received
            },
            |_| Left::Maybe,
        )
    }

    /// Sends one datagram to the socket at `path`.
    ///
    /// # Switching
    ///
    /// Parks the task while the receiver's queue is full. The kernel tells a sender of a named receiver nothing when
    /// there is room, so the call tries again after 0.1 ms, doubling to 10 ms. A connected sender is woken at once.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the path is too long for a socket or has a zero in it,
    /// [`io::ErrorKind::WouldBlock`] in non-blocking mode or after the write timeout, or others of the system.
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.send_to_addr(buf, &SocketAddr::from_pathname(path)?)
    }

    /// Sends one datagram to the socket at an address, which may be an abstract name.
    ///
    /// # Switching
    ///
    /// As for [`send_to`](UnixDatagram::send_to).
    ///
    /// # Errors
    ///
    /// As for [`send_to`](UnixDatagram::send_to).
    pub fn send_to_addr(&self, buf: &[u8], socket_addr: &SocketAddr) -> io::Result<usize> {
        let to = Address::from(socket_addr);
        let mut backoff = None;
        loop {
            // A full queue is an outcome here: there is no readiness to wait for (see `backoff`).
            let sent = self.0.perform(
                Direction::Write,
                |socket| match sys::send_to(socket.as_fd(), buf, &to) {
                    Err(full) if full.kind() == io::ErrorKind::WouldBlock => Ok(Err(full)),
                    sent => sent.map(Ok),
                },
                |_| Left::Maybe,
            )?;
            let full = match sent {
                Ok(length) => return Ok(length),
                Err(full) => full,
            };

            let backoff = match &mut backoff {
                Some(backoff) => backoff,
                None if sys::is_nonblocking(self.as_fd())? => return Err(full),
                none => {
                    // A timeout past the end of time is none.
                    let deadline = self.write_timeout()?.and_then(|timeout| Instant::now().checked_add(timeout));
                    none.insert(Backoff::new(deadline))
                }
            };
            if !backoff.pause()? {
                return Err(full);
            }
        }
    }

    /// Sends one datagram to the connected peer.
    ///
    /// # Switching
    ///
    /// Parks the task while the receiver's queue is full.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotConnected`] if there is no peer, [`io::ErrorKind::WouldBlock`] in non-blocking mode or after
    /// the write timeout, or others of the system.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        datagram::send(&self.0, buf)
    }

    /// Closes the reading end, the writing end or both, for all handles of this socket.
    ///
    /// A task that waits in a receive wakes with `Ok(0)`, one in a send with an error.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        stream::shutdown(&self.0, how, std::os::unix::net::UnixDatagram::shutdown)
    }
}
