//! The options that several socket types have, with the same words: modes, timeouts, clones.
//!
//! Each goes to std's method first, so that its checks and errors are std's, and is then told to the `Source`.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::time::Duration;

use super::{TcpListener, TcpStream, UdpSocket};
use super::{UnixDatagram, UnixListener, UnixStream};
use crate::io::Direction;

macro_rules! every_socket {
    ($($socket:ident)*) => {$(
        impl $socket {
            /// Makes another handle to this socket.
            ///
            /// Both name the same open socket: data that one takes the other does not see, and options set on one are
            /// set on both. Each can be used by a task of its own, on any thread.
            ///
            /// # Errors
            ///
            /// Those of the system, for instance when the process has no descriptors left.
            pub fn try_clone(&self) -> io::Result<$socket> {
                let duplicate = self.0.get().try_clone()?;
                Ok($socket(self.0.duplicate(duplicate)))
            }

            /// Takes the socket's pending error, if there is one.
            ///
            /// The value of `SO_ERROR`, which reading clears. Useful after a wait that only told of readiness.
            ///
            /// # Errors
            ///
            /// Those of the system when the option cannot be read.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.0.get().take_error()
            }

            /// Moves the socket into or out of non-blocking mode.
            ///
            /// In non-blocking mode a call that would have to wait fails with [`io::ErrorKind::WouldBlock`] at once.
            /// Otherwise such a call parks its task; other tasks run in either mode. The mode belongs to the open
            /// socket and so to all its clones.
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                self.0.set_nonblocking(nonblocking)
            }
        }

        impl fmt::Debug for $socket {
            /// Prints what std's type prints: its addresses and its descriptor.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.get().fmt(f)
            }
        }
    )*};
}

every_socket!(TcpStream TcpListener UdpSocket UnixStream UnixListener UnixDatagram);

macro_rules! timeouts {
    ($($socket:ident)*) => {$(
        impl $socket {
            /// Bounds how long one call may wait for data; `None` is for ever.
            ///
            /// The bound is for each call, from its start, and belongs to the open socket and so to all its clones.
            ///
            /// # Errors
            ///
            /// [`io::ErrorKind::InvalidInput`] if the timeout is zero. Calls that run out of time fail with
            /// [`io::ErrorKind::WouldBlock`], as std's do on Unix.
            pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.0.get().set_read_timeout(timeout)?;
                self.0.note_timeout(Direction::Read, timeout);
                Ok(())
            }

            /// Bounds how long one call may wait for room to send; `None` is for ever.
            ///
            /// The bound is for each call, from its start, and belongs to the open socket and so to all its clones.
            ///
            /// # Errors
            ///
            /// [`io::ErrorKind::InvalidInput`] if the timeout is zero. Calls that run out of time fail with
            /// [`io::ErrorKind::WouldBlock`], as std's do on Unix.
            pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.0.get().set_write_timeout(timeout)?;
                self.0.note_timeout(Direction::Write, timeout);
                Ok(())
            }

            /// The bound that [`set_read_timeout`](Self::set_read_timeout) set, as the kernel rounded it.
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
                self.0.get().read_timeout()
            }

            /// The bound that [`set_write_timeout`](Self::set_write_timeout) set, as the kernel rounded it.
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
                self.0.get().write_timeout()
            }
        }
    )*};
}

timeouts!(TcpStream UdpSocket UnixStream UnixDatagram);
