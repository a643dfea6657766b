//! What our sockets promise beyond std's: many waiters, closing and moving under a waiter, cancellation, limits, signals.

mod support;

#[path = "support/tasks.rs"]
mod mode;

#[path = "net_green/cancel.rs"]
mod cancel;
#[path = "net_green/close.rs"]
mod close;
#[path = "net_green/limits.rs"]
mod limits;
#[path = "net_green/lookup.rs"]
mod lookup;
#[path = "net_green/modes.rs"]
mod modes;
#[path = "net_green/queues.rs"]
mod queues;
#[path = "net_green/signals.rs"]
mod signals;
#[path = "net_green/streams.rs"]
mod streams;
#[path = "net_green/threads.rs"]
mod threads;

use greenroom::net::{SocketAddr, TcpStream};

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn pair() -> (TcpStream, TcpStream) {
    support::tcp_pair(local())
}

/// Reads one byte.
fn byte(mut stream: &TcpStream) -> u8 {
    let mut buf = [0];
    std::io::Read::read_exact(&mut stream, &mut buf).unwrap();
    buf[0]
}
