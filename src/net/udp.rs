//! UDP sockets.

#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::addr::{self, ToSocketAddrs};
use super::datagram;
use crate::io::Source;
use crate::sys::Address;

/// A UDP socket, as [`std::net::UdpSocket`] is.
///
/// Bound to an address, it sends to any other and receives from any other, unless [`connect`](UdpSocket::connect) fixes
/// one. A datagram that does not fit the buffer is cut off. Nothing tells whether one arrives.
///
/// # Switching
///
/// Receiving parks the task until there is a datagram, sending until there is room.
///
/// # Cancellation
///
/// A call that is killed while it waits has taken and sent nothing.
///
/// # Examples
///
/// ```
/// use greenroom::net::UdpSocket;
///
/// let one = UdpSocket::bind("127.0.0.1:0")?;
/// let other = UdpSocket::bind("127.0.0.1:0")?;
/// one.send_to(b"ping", other.local_addr()?)?;
///
/// let mut buf = [0; 16];
/// let (length, from) = other.recv_from(&mut buf)?;
/// assert_eq!((&buf[..length], from), (&b"ping"[..], one.local_addr()?));
/// # std::io::Result::Ok(())
/// ```
pub struct UdpSocket(pub(super) Source<std::net::UdpSocket>);

impl UdpSocket {
    /// Makes a socket that is bound to `addr`.
    ///
    /// Port 0 lets the system choose one. If `addr` gives several addresses, each is tried in turn until one works.
    ///
    /// # Switching
    ///
    /// Parks the task if a name has to be looked up.
    ///
    /// # Errors
    ///
    /// The error of the last address that was tried, that of the lookup, or [`io::ErrorKind::InvalidInput`] if there
    /// was no address at all.
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        let socket = addr::each_addr(addr, |addr| std::net::UdpSocket::bind(addr))?;
        Ok(UdpSocket(Source::new(socket)))
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
        let (n, from) = datagram::receive_from(&self.0, buf, false)?;
        Ok((n, from.to_inet()?))
    }

    /// Receives one datagram without taking it: the next receive gives the same again.
    ///
    /// # Switching
    ///
    /// Parks the task until there is a datagram.
    ///
    /// # Errors
    ///
    /// As for [`recv_from`](UdpSocket::recv_from).
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (n, from) = datagram::receive_from(&self.0, buf, true)?;
        Ok((n, from.to_inet()?))
    }

    /// Sends one datagram to the first address that `addr` gives.
    ///
    /// # Switching
    ///
    /// Parks the task if a name has to be looked up, and until there is room to send.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if `addr` gives no address, [`io::ErrorKind::WouldBlock`] in non-blocking mode
    /// or after the write timeout, or others of the system: the datagram may be too large, for instance.
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let Some(addr) = addr.to_socket_addrs()?.next() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no addresses to send data to"));
        };
        datagram::send_to(&self.0, buf, &Address::from(&addr))
    }

    /// The address that [`connect`](UdpSocket::connect) fixed.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotConnected`] if there is none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().peer_addr()
    }

    /// The address that this socket is bound to.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
    }

    /// Fixes the peer: [`send`](UdpSocket::send) sends to it, and only its datagrams are received.
    ///
    /// If `addr` gives several addresses, each is tried in turn until one works. Nothing is sent.
    ///
    /// # Switching
    ///
    /// Parks the task if a name has to be looked up.
    ///
    /// # Errors
    ///
    /// As for [`bind`](UdpSocket::bind).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::net::UdpSocket;
    ///
    /// let one = UdpSocket::bind("127.0.0.1:0")?;
    /// let other = UdpSocket::bind("127.0.0.1:0")?;
    /// one.connect(other.local_addr()?)?;
    /// other.connect(one.local_addr()?)?;
    ///
    /// one.send(b"ping")?;
    /// let mut buf = [0; 16];
    /// assert_eq!(other.recv(&mut buf)?, 4);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        addr::each_addr(addr, |addr| self.0.get().connect(addr))
    }

    /// Sends one datagram to the connected peer.
    ///
    /// # Switching
    ///
    /// Parks the task until there is room to send.
    ///
    /// # Errors
    ///
    /// An error if there is no peer, [`io::ErrorKind::ConnectionRefused`] if an earlier datagram was refused, otherwise
    /// as for [`send_to`](UdpSocket::send_to).
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        datagram::send(&self.0, buf)
    }

    /// Receives one datagram from the connected peer, and gives its length.
    ///
    /// What does not fit into `buf` is thrown away.
    ///
    /// # Switching
    ///
    /// Parks the task until there is a datagram.
    ///
    /// # Errors
    ///
    /// As for [`recv_from`](UdpSocket::recv_from), and [`io::ErrorKind::ConnectionRefused`] if a datagram that was sent
    /// to the peer was refused.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        datagram::receive(&self.0, buf)
    }

    /// Receives one datagram from the connected peer without taking it.
    ///
    /// # Switching
    ///
    /// Parks the task until there is a datagram.
    ///
    /// # Errors
    ///
    /// As for [`recv`](UdpSocket::recv).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        datagram::peek(&self.0, buf)
    }

    /// Joins the IPv4 group `multiaddr` on the interface with the address `interface`; unspecified: any that suits.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn join_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.0.get().join_multicast_v4(multiaddr, interface)
    }

    /// Joins the IPv6 group `multiaddr` on the interface with the index `interface`; 0: any that suits.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.0.get().join_multicast_v6(multiaddr, interface)
    }

    /// Leaves an IPv4 group: [`join_multicast_v4`](UdpSocket::join_multicast_v4) undone.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn leave_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.0.get().leave_multicast_v4(multiaddr, interface)
    }

    /// Leaves an IPv6 group: [`join_multicast_v6`](UdpSocket::join_multicast_v6) undone.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.0.get().leave_multicast_v6(multiaddr, interface)
    }
}

macro_rules! options {
    ($($set:ident, $value:ident: $type:ty, $option:literal, $meaning:literal;)*) => {
        impl UdpSocket {$(
            #[doc = concat!("Sets `", $option, "`: ", $meaning, ".")]
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn $set(&self, $value: $type) -> io::Result<()> {
                self.0.get().$set($value)
            }

            #[doc = concat!("The value of `", $option, "`: ", $meaning, ".")]
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn $value(&self) -> io::Result<$type> {
                self.0.get().$value()
            }
        )*}
    };
}

options! {
    set_broadcast, broadcast: bool, "SO_BROADCAST", "whether datagrams may go to broadcast addresses";
    set_ttl, ttl: u32, "IP_TTL", "the time-to-live of packets sent from here";
    set_multicast_loop_v4, multicast_loop_v4: bool, "IP_MULTICAST_LOOP",
        "whether IPv4 multicast from here comes back to this host";
    set_multicast_ttl_v4, multicast_ttl_v4: u32, "IP_MULTICAST_TTL", "the time-to-live of IPv4 multicast";
    set_multicast_loop_v6, multicast_loop_v6: bool, "IPV6_MULTICAST_LOOP",
        "whether IPv6 multicast from here comes back to this host";
}
