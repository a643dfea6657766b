//! What can be turned into socket addresses: std's trait again, with the name lookups on our resolver.

#![forbid(unsafe_code)]

use std::io;
use std::iter::{Cloned, FusedIterator};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{option, slice, vec};

use super::resolve;

/// Turns a value into one or more socket addresses.
///
/// Implemented for everything that [`std::net::ToSocketAddrs`] is implemented for: addresses, pairs of host and port,
/// strings of the form `host:port`, slices of addresses, and references to all of these. It is a trait of its own
/// because std's would look names up on the calling thread, and stop every task there.
///
/// Text that is an address is parsed, without a lookup. A name is looked up on native threads kept for that, at most
/// eight at once; tasks that ask for a name while it is being looked up share the one answer. Answers are not kept.
///
/// # Examples
///
/// ```
/// use greenroom::net::{SocketAddr, ToSocketAddrs};
///
/// let expected = SocketAddr::from(([127, 0, 0, 1], 80));
/// assert_eq!("127.0.0.1:80".to_socket_addrs()?.next(), Some(expected));
/// assert_eq!(("127.0.0.1", 80).to_socket_addrs()?.next(), Some(expected));
/// assert!("localhost:80".to_socket_addrs()?.all(|found| found.ip().is_loopback()));
/// # std::io::Result::Ok(())
/// ```
pub trait ToSocketAddrs {
    /// Gives the addresses in the order in which they should be tried.
    type Iter: Iterator<Item = SocketAddr>;

    /// Converts this to socket addresses; the answer may be empty.
    ///
    /// # Switching
    ///
    /// Parks the task while a name is looked up. Everything else is answered at once.
    ///
    /// # Cancellation
    ///
    /// A lookup that nobody waits for any more is dropped if it has not started, and its answer otherwise.
    ///
    /// # Errors
    ///
    /// Text without a port or with one that is no `u16` gives [`io::ErrorKind::InvalidInput`]. A failed lookup gives
    /// the error that std gives, and so does a resolver thread that cannot be started.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

impl ToSocketAddrs for SocketAddr {
    type Iter = option::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(Some(*self).into_iter())
    }
}

macro_rules! one_address {
    ($($source:ty),*) => {$(
        impl ToSocketAddrs for $source {
            type Iter = option::IntoIter<SocketAddr>;
            fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
                SocketAddr::from(*self).to_socket_addrs()
            }
        }
    )*};
}

one_address!(SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let (host, port) = *self;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)].into_iter());
        }
        resolve::lookup(host, port).map(Vec::into_iter)
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (self.0.as_str(), self.1).to_socket_addrs()
    }
}

/// `host:port`, where the host may be a name.
impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        if let Ok(address) = self.parse() {
            return Ok(vec![address].into_iter());
        }
        let (host, port) = self.rsplit_once(':').ok_or_else(|| invalid("invalid socket address"))?;
        let port = port.parse().map_err(|_| invalid("invalid port value"))?;
        resolve::lookup(host, port).map(Vec::into_iter)
    }
}

impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        self.as_str().to_socket_addrs()
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = Cloned<slice::Iter<'a, SocketAddr>>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().cloned())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}

/// Looks up the addresses of `host`, given as `name:port` or `address:port`.
///
/// The same as [`ToSocketAddrs::to_socket_addrs`] of that string, for those who want only the addresses. An address
/// with a port is parsed and given back, without a lookup.
///
/// # Switching
///
/// Parks the task while a name is looked up.
///
/// # Cancellation
///
/// As for [`ToSocketAddrs::to_socket_addrs`].
///
/// # Errors
///
/// As for [`ToSocketAddrs::to_socket_addrs`].
///
/// # Examples
///
/// ```
/// use greenroom::net::lookup_host;
///
/// let mut found = lookup_host("localhost:7777")?;
/// assert!(found.all(|address| address.ip().is_loopback() && address.port() == 7777));
/// # std::io::Result::Ok(())
/// ```
pub fn lookup_host(host: &str) -> io::Result<LookupHost> {
    host.to_socket_addrs().map(LookupHost)
}

/// The addresses that [`lookup_host`] found, in the order in which they should be tried.
#[derive(Clone, Debug)]
pub struct LookupHost(vec::IntoIter<SocketAddr>);

impl Iterator for LookupHost {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for LookupHost {}
impl FusedIterator for LookupHost {}

/// Calls `f` with each address until one succeeds; gives the last error.
pub(super) fn each_addr<T>(
    addrs: impl ToSocketAddrs,
    mut f: impl FnMut(&SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last_error = None;
    for addr in addrs.to_socket_addrs()? {
        match f(&addr) {
            Ok(done) => return Ok(done),
            Err(error) => last_error = Some(error),
        }
    }
    Err(last_error.unwrap_or_else(|| invalid("could not resolve to any addresses")))
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
