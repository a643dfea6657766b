//! Anonymous pipes, in std's shape.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process::Stdio;

use super::flow::Flow;
use super::source::{Awaited, Pollable};

/// Makes an anonymous pipe: what is written into one end comes out of the other, as with [`std::io::pipe`].
///
/// Both ends are closed in child processes, unless they are given to them (`Stdio::from`). They are in blocking mode, and stay so:
/// a child that gets a duplicate finds what it expects, while the tasks here never stop their thread.
///
/// # Errors
///
/// Those of the system: a lack of descriptors.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
///
/// let (mut reader, mut writer) = greenroom::io::pipe()?;
/// let child = greenroom::spawn(move || {
///     let mut text = String::new();
///     reader.read_to_string(&mut text).map(|_| text)
/// });
/// writer.write_all(b"to the end")?;
/// drop(writer);
/// assert_eq!(child.join().unwrap()?, "to the end");
/// # std::io::Result::Ok(())
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((PipeReader(Flow::new(reader.into())), PipeWriter(Flow::new(writer.into()))))
}

/// The end of a pipe that is read, as [`std::io::PipeReader`] is.
///
/// Made by [`pipe`], or from std's type or a descriptor. Any number of tasks may read, on any hub; on one hub they have
/// their turns in the order in which they came.
///
/// # Switching
///
/// A read parks its task until there are bytes, or until the last writing end is closed: then it gives `Ok(0)`. Child processes may
/// hold writing ends too.
///
/// # Cancellation
///
/// A single read that is killed while it waits has taken no bytes.
pub struct PipeReader(Flow);

/// The end of a pipe that is written, as [`std::io::PipeWriter`] is.
///
/// Made by [`pipe`], or from std's type or a descriptor. Any number of tasks may write. Writes of up to `PIPE_BUF` bytes (4096 on
/// Linux, at least 512 anywhere) are not mixed with those of others (pipe(7)).
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
/// [`io::ErrorKind::BrokenPipe`] once all reading ends are closed.
pub struct PipeWriter(Flow);

impl PipeReader {
    /// Makes another handle on the same end: both take from the same bytes.
    ///
    /// # Errors
    ///
    /// Those of the system: a lack of descriptors.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let (mut reader, mut writer) = greenroom::io::pipe()?;
    /// let mut other = reader.try_clone()?;
    /// writer.write_all(b"ab")?;
    /// let (mut first, mut second) = ([0], [0]);
    /// reader.read_exact(&mut first)?;
    /// other.read_exact(&mut second)?;
    /// assert_eq!((&first, &second), (b"a", b"b"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_clone(&self) -> io::Result<PipeReader> {
        Ok(PipeReader(self.0.duplicate(self.0.get().try_clone()?)))
    }
}

impl PipeWriter {
    /// Makes another handle on the same end. The reader sees the end of the bytes when the last one is gone.
    ///
    /// # Errors
    ///
    /// Those of the system: a lack of descriptors.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let (mut reader, mut writer) = greenroom::io::pipe()?;
    /// let mut other = writer.try_clone()?;
    /// writer.write_all(b"one ")?;
    /// other.write_all(b"two")?;
    /// drop((writer, other));
    /// let mut text = String::new();
    /// reader.read_to_string(&mut text)?;
    /// assert_eq!(text, "one two");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_clone(&self) -> io::Result<PipeWriter> {
        Ok(PipeWriter(self.0.duplicate(self.0.get().try_clone()?)))
    }
}

impl Read for &PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(bufs)
    }
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(bufs)
    }
}

impl Write for &PipeWriter {
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

impl Write for PipeWriter {
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

macro_rules! conversions {
    ($($end:ident = $std:ty;)*) => {$(
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

        impl FromRawFd for $end {
            /// # Safety
            ///
            /// `fd` is open, and the caller gives its ownership away, as [`FromRawFd`] has it.
            unsafe fn from_raw_fd(fd: RawFd) -> $end {
                // SAFETY: passed on to the caller.
                <$end>::from(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }

        /// Takes over a descriptor; its non-blocking mode is kept.
        impl From<OwnedFd> for $end {
            fn from(fd: OwnedFd) -> $end {
                $end(Flow::from_outside(fd))
            }
        }

        /// Takes over std's end; its non-blocking mode is kept.
        impl From<$std> for $end {
            fn from(end: $std) -> $end {
                $end::from(OwnedFd::from(end))
            }
        }

        impl From<$end> for OwnedFd {
            fn from(end: $end) -> OwnedFd {
                end.0.into_inner()
            }
        }

        /// Gives std's end: its calls stop the native thread again.
        impl From<$end> for $std {
            fn from(end: $end) -> $std {
                end.0.into_inner().into()
            }
        }

        /// Gives the end to a child process. This handle is gone then; clones of it go on.
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
                f.debug_struct(stringify!($end)).field("fd", &self.as_raw_fd()).finish()
            }
        }
    )*};
}

conversions! {
    PipeReader = std::io::PipeReader;
    PipeWriter = std::io::PipeWriter;
}
