//! Data connections: who calls whom, and that nobody else is on the line.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use greenroom::net::{TcpListener, TcpStream};
use greenroom::timeout;

/// How the next data connection comes about.
#[derive(Debug)]
pub(crate) enum Way {
    /// The client calls.
    Passive(TcpListener),
    /// The server calls.
    Active(SocketAddr),
}

impl Way {
    /// Listens for the client, on a port of the range if there is one.
    pub(crate) fn listen(here: IpAddr, ports: Option<&RangeInclusive<u16>>) -> io::Result<TcpListener> {
        let Some(ports) = ports else { return TcpListener::bind((here, 0)) };
        // Somewhere in the range: who takes the lowest that is free has one that another has just left.
        let (first, count) = (*ports.start(), u32::from(ports.end() - ports.start()) + 1);
        let begin = fastrand::u32(..count);
        let mut result = Err(io::ErrorKind::AddrInUse.into());
        for step in 0..count {
            let offset = (begin + step) % count;
            let port = first + u16::try_from(offset).expect("less than the range is long");
            result = TcpListener::bind((here, port));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Whether a client at `peer` may have the server call there. Otherwise it could make the server call others for it, and talk
    /// to their services: the bounce attack (RFC 2577).
    pub(crate) fn may_call(address: SocketAddr, peer: IpAddr) -> bool {
        address.ip().to_canonical() == peer && address.port() >= 1024
    }

    /// Makes the connection, with a client at `peer` and nobody else.
    pub(crate) fn open(&self, peer: IpAddr, patience: Duration) -> io::Result<TcpStream> {
        let stream = match self {
            Way::Active(address) => TcpStream::connect_timeout(address, patience)?,
            Way::Passive(listener) => {
                let accept = || loop {
                    let (stream, address) = listener.accept()?;
                    if address.ip().to_canonical() == peer {
                        return io::Result::Ok(stream);
                    }
                };
                timeout(patience, accept).unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))?
            }
        };
        // Each time anew, for as long as no byte moves.
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(stream)
    }
}
