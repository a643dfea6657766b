//! Servers: a loop that takes clients, a task for each, and an orderly end.
//!
//! [`StreamServer`] accepts connections, [`DatagramServer`] receives datagrams. Either is stopped from anywhere: by its own methods,
//! or by a [`ServerHandle`], which any thread can hold.
//!
//! ```
//! use greenroom::net::{TcpListener, TcpStream};
//! use greenroom::server::StreamServer;
//! use std::io::{self, Read, Write};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let server = StreamServer::new(listener, |mut stream: TcpStream, _client| stream.write_all(b"hello"));
//! server.start()?;
//!
//! let mut greeting = String::new();
//! TcpStream::connect(server.local_addr()?)?.read_to_string(&mut greeting)?;
//! assert_eq!(greeting, "hello");
//! server.stop();
//! # io::Result::Ok(())
//! ```
//!
//! # When something is used up
//!
//! Where a connection cannot be accepted or a task for it cannot be made, for lack of descriptors or memory (`EMFILE`, `ENFILE`,
//! `ENOBUFS`, `ENOMEM`), the loop pauses: 10 ms, doubled each time up to a second, until one succeeds. Meanwhile clients wait in
//! the system's queue. What concerns one client only (`ECONNABORTED`, a network that is gone) is tried again at once. If the
//! listener itself is no good (`EBADF`, `EINVAL`, `ENOTSOCK`), the server stops, and [`serve_forever`](StreamServer::serve_forever)
//! gives the error.

#![forbid(unsafe_code)]

mod stream;

mod datagram;

mod life;

pub use datagram::{DatagramServer, DatagramServerBuilder, Datagrams};
pub use life::{Counts, STOP_TIMEOUT, ServerHandle};
pub use stream::{Listen, StreamServer, StreamServerBuilder};

const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<ServerHandle>();
};
