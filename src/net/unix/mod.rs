//! Unix sockets, as in [`std::os::unix::net`]: streams, listeners and datagrams between processes of one host.
//!
//! [`SocketAddr`] is std's. On Linux its abstract names come with std's `SocketAddrExt`, which is here too.
//!
//! # Examples
//!
//! ```
//! use greenroom::net::unix::{UnixListener, UnixStream};
//! use std::io::{Read, Write};
//!
//! let path = std::env::temp_dir().join(format!("greenroom-doc-{}", std::process::id()));
//! let listener = UnixListener::bind(&path)?;
//! let mut client = UnixStream::connect(&path)?;
//! let (mut server, _) = listener.accept()?;
//! std::fs::remove_file(&path)?;
//!
//! client.write_all(b"hello")?;
//! let mut received = [0; 5];
//! server.read_exact(&mut received)?;
//! assert_eq!(&received, b"hello");
//! # std::io::Result::Ok(())
//! ```

mod datagram;
mod listener;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::{Incoming, UnixListener};
pub use stream::UnixStream;

#[cfg(target_os = "android")]
pub use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
pub use std::os::linux::net::SocketAddrExt;
pub use std::os::unix::net::SocketAddr;
