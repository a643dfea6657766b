//! The parent's ends of a child's standard streams.

#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::process::Stdio;

use crate::io::{Awaited, Flow, Pollable};

/// What is written here the child reads from its standard input, as with [`std::process::ChildStdin`].
///
/// The child sees the end when this is dropped. The pipe is in blocking mode, on both sides, and stays so.
///
/// # Switching
///
/// A write parks its task while the pipe is full. It may take less than it was given.
///
/// # Cancellation
///
/// A single write that is killed while it waits has written nothing. `write_all` may have written a part.
///
/// # Errors
///
/// [`io::ErrorKind::BrokenPipe`] once the child has closed its standard input, or has ended.
pub struct ChildStdin(Flow);

/// What the child writes to its standard output is read here, as with [`std::process::ChildStdout`].
///
/// # Switching
///
/// A read parks its task until there are bytes, or until the last writing end is closed: then it gives `Ok(0)`. What the child has
/// started itself may hold a writing end too, and outlive it.
///
/// # Cancellation
///
/// A single read that is killed while it waits has taken no bytes.
pub struct ChildStdout(Flow);

/// What the child writes to its standard error is read here, as with [`std::process::ChildStderr`].
///
/// What it switches for and what a kill leaves behind is told at [`ChildStdout`].
pub struct ChildStderr(Flow);

impl Write for &ChildStdin {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for ChildStdin {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

macro_rules! readers {
    ($($end:ident),*) => {$(
        impl Read for $end {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0.read(buf)
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.0.read_vectored(bufs)
            }
        }
    )*};
}

readers!(ChildStdout, ChildStderr);

macro_rules! ends {
    ($($end:ident),*) => {$(
        impl $end {
            /// Wraps std's end, which was just made.
            pub(super) fn new(end: std::process::$end) -> $end {
                $end(Flow::new(end.into()))
            }

            pub(super) fn flow(&self) -> &Flow {
                &self.0
            }
        }

        impl AsFd for $end {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.get().as_fd()
            }
        }

        impl AsRawFd for $end {
            fn as_raw_fd(&self) -> RawFd {
                self.0.get().as_raw_fd()
            }
        }

        impl IntoRawFd for $end {
            fn into_raw_fd(self) -> RawFd {
                self.0.into_inner().into_raw_fd()
            }
        }

        /// Takes over a descriptor; its non-blocking mode is kept.
        impl From<OwnedFd> for $end {
            fn from(fd: OwnedFd) -> $end {
                $end(Flow::from_outside(fd))
            }
        }

        /// Takes over std's end; its non-blocking mode is kept.
        impl From<std::process::$end> for $end {
            fn from(end: std::process::$end) -> $end {
                $end::from(OwnedFd::from(end))
            }
        }

        impl From<$end> for OwnedFd {
            fn from(end: $end) -> OwnedFd {
                end.0.into_inner()
            }
        }

        /// Gives std's end: its calls stop the native thread again.
        impl From<$end> for std::process::$end {
            fn from(end: $end) -> std::process::$end {
                end.0.into_inner().into()
            }
        }

        /// Gives the end to another child.
        impl From<$end> for Stdio {
            fn from(end: $end) -> Stdio {
                Stdio::from(OwnedFd::from(end))
            }
        }

        impl Pollable for $end {
            fn awaited(&self) -> Awaited<'_> {
                Awaited(self.0.source())
            }
        }

        impl fmt::Debug for $end {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($end)).finish_non_exhaustive()
            }
        }
    )*};
}

ends!(ChildStdin, ChildStdout, ChildStderr);
