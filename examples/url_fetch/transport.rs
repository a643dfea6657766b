//! Puts ureq onto green sockets: where it would block the thread, the calling task parks.
//!
//! ureq asks three things of us: look up a name, connect, move bytes. TLS is its own affair, on top of whatever moves the
//! bytes. Nothing here knows about scheduling: [`TcpStream`] reads like std's, and [`greenroom::timeout`] bounds any code.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use greenroom::net::{TcpStream, lookup_host};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, RustlsConnector,
    Transport,
};
use ureq::{Agent, Error};

/// An HTTP and HTTPS client on green sockets.
pub(crate) fn agent(config: Config) -> Agent {
    let connector = ().chain(ConnectProxyConnector::default()).chain(GreenConnector).chain(RustlsConnector::default());
    Agent::with_parts(config, connector, GreenResolver)
}

/// As many addresses of a host are tried: `ResolvedSocketAddrs` has no room for more.
const MOST_ADDRESSES: usize = 16;

/// Runs `work`, but not longer than ureq allows.
fn within<T>(limit: NextTimeout, work: impl FnOnce() -> io::Result<T>) -> Result<T, Error> {
    if limit.after.is_not_happening() {
        return Ok(work()?);
    }
    match greenroom::timeout(*limit.after, work) {
        Ok(result) => Ok(result?),
        Err(_elapsed) => Err(Error::Timeout(limit.reason)),
    }
}

/// Looks names up beside the hub: a slow name server holds up only who asked.
#[derive(Debug)]
struct GreenResolver;

impl Resolver for GreenResolver {
    fn resolve(&self, uri: &Uri, config: &Config, limit: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let (scheme, authority) = uri.scheme().zip(uri.authority()).ok_or_else(|| not_a_url(uri))?;
        // A port beyond 65535 is none to `http`, and would be replaced by the scheme's.
        let place = authority.as_str().rsplit('@').next().unwrap_or_default();
        if authority.port().is_none() && place.len() > authority.host().len() + 1 {
            return Err(Error::BadUri(format!("{uri} has a port that is none")));
        }
        let host = DefaultResolver::host_and_port(scheme, authority).ok_or_else(|| not_a_url(uri))?;

        let found = within(limit, || Ok(lookup_host(&host)))?
            .map_err(|error| Error::Other(Box::new(LookupFailed { host: authority.host().to_owned(), error })))?;

        let mut addresses = self.empty();
        for address in config.ip_family().keep_wanted(found).take(MOST_ADDRESSES) {
            addresses.push(address);
        }
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

fn not_a_url(uri: &Uri) -> Error {
    Error::BadUri(format!("{uri} needs http:// or https:// and a host"))
}

/// Opens a connection, unless a proxy in front of us has one already.
#[derive(Debug)]
struct GreenConnector;

impl<In: Transport> Connector<In> for GreenConnector {
    type Out = Either<In, GreenTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(proxied) = chained {
            return Ok(Some(Either::A(proxied)));
        }

        let stream = connect_any(&details.addrs, details.timeout)?;
        stream.set_nodelay(details.config.no_delay())?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(GreenTransport { stream, buffers })))
    }
}

/// Tries one address after the other. Each gets half of the time that is left, the last gets all of it: an address that
/// never answers cannot eat up the time of the next.
fn connect_any(addresses: &[SocketAddr], limit: NextTimeout) -> Result<TcpStream, Error> {
    let started = std::time::Instant::now();
    let mut last = Error::ConnectionFailed;
    for (tried, &address) in addresses.iter().enumerate() {
        let mut limit = limit;
        if !limit.after.is_not_happening() {
            let left = limit.after.saturating_sub(started.elapsed());
            let share = if tried + 1 == addresses.len() { left } else { left / 2 };
            limit.after = share.into();
        }
        last = match within(limit, || Ok(TcpStream::connect(address))) {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Error::Other(Box::new(ConnectFailed { address, error })),
            Err(timeout) => timeout,
        };
    }
    Err(last)
}

/// A connection as ureq wants to see it: two buffers, and bytes that move between them and the socket.
#[derive(Debug)]
struct GreenTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for GreenTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, limit: NextTimeout) -> Result<(), Error> {
        let output = &self.buffers.output()[..amount];
        within(limit.for_write(), || self.stream.write_all(output))
    }

    fn await_input(&mut self, limit: NextTimeout) -> Result<bool, Error> {
        let input = self.buffers.input_append_buf();
        let read = within(limit.for_read(), || read_uninterrupted(&mut self.stream, input))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Says whether an idle connection can be used again: it must be open, and nothing may have arrived on it.
    ///
    /// Asks the kernel directly, because ureq holds a lock of its own meanwhile. No task may switch while it holds a
    /// lock of std: the next to want it would stop the thread.
    fn is_open(&mut self) -> bool {
        let socket = socket2::SockRef::from(&self.stream);
        let peeked =
            socket.recv_with_flags(&mut [std::mem::MaybeUninit::uninit()], libc::MSG_PEEK | libc::MSG_DONTWAIT);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Reads what there is, at least one byte unless the peer has closed.
fn read_uninterrupted(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The name has no address, or nobody could be asked.
#[derive(Debug)]
pub(crate) struct LookupFailed {
    host: String,
    error: io::Error,
}

impl fmt::Display for LookupFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot find host {}: {}", self.host, self.error)
    }
}

impl std::error::Error for LookupFailed {}

/// Nobody listens there, or the way there is blocked.
#[derive(Debug)]
pub(crate) struct ConnectFailed {
    address: SocketAddr,
    error: io::Error,
}

impl fmt::Display for ConnectFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: {}", self.address, self.error)
    }
}

impl std::error::Error for ConnectFailed {}
