//! Sockets as descriptors, and as std's sockets: the conversions that all six types have in common.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use super::{TcpListener, TcpStream, UdpSocket};
use super::{UnixDatagram, UnixListener, UnixStream};
use crate::io::{Awaited, Pollable, Source};

macro_rules! conversions {
    ($($socket:ident = $std:ty;)*) => {$(
        impl AsFd for $socket {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.get().as_fd()
            }
        }

        impl AsRawFd for $socket {
            fn as_raw_fd(&self) -> RawFd {
                self.0.get().as_raw_fd()
            }
        }

        impl IntoRawFd for $socket {
            fn into_raw_fd(self) -> RawFd {
                self.0.into_inner().into_raw_fd()
            }
        }

        impl FromRawFd for $socket {
            /// # Safety
            ///
            /// `fd` is open, and the caller gives its ownership away, as [`FromRawFd`] has it.
            unsafe fn from_raw_fd(fd: RawFd) -> $socket {
                // SAFETY: passed on to the caller.
                <$socket>::from(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }

        impl Pollable for $socket {
            fn awaited(&self) -> Awaited<'_> {
                Awaited(&self.0)
            }
        }

        /// Takes over a socket; its non-blocking mode and timeouts are kept.
        impl From<OwnedFd> for $socket {
            fn from(fd: OwnedFd) -> $socket {
                <$socket>::from(<$std>::from(fd))
            }
        }

        /// Gives the descriptor, in the mode that the user set.
        impl From<$socket> for OwnedFd {
            fn from(socket: $socket) -> OwnedFd {
                socket.0.into_inner().into()
            }
        }

        /// Takes over std's socket; its non-blocking mode and timeouts are kept.
        impl From<$std> for $socket {
            fn from(socket: $std) -> $socket {
                $socket(Source::from_outside(socket))
            }
        }

        /// Gives std's socket, in the mode that the user set: its calls block the native thread again.
        impl From<$socket> for $std {
            fn from(socket: $socket) -> $std {
                socket.0.into_inner()
            }
        }
    )*};
}

conversions! {
    TcpStream = std::net::TcpStream;
    TcpListener = std::net::TcpListener;
    UdpSocket = std::net::UdpSocket;
    UnixStream = std::os::unix::net::UnixStream;
    UnixListener = std::os::unix::net::UnixListener;
    UnixDatagram = std::os::unix::net::UnixDatagram;
}
