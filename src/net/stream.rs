//! Bytes through a stream socket: what TCP and Unix streams have in common.
//!
//! Each call is tried with `MSG_DONTWAIT` under `Source::perform`, and tells what it leaves in the kernel. A transfer
//! that was short, yet not empty, has emptied (or filled) the kernel's buffer: the next one parks without trying. That
//! fails in one case which we can see: ancillary data on a Unix stream (descriptors, credentials) ends a read early,
//! and as we give it no room, the kernel says so. A read into nothing gives nothing: it never waits.

#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::AsFd;

use crate::io::{Direction, Left, Source};
use crate::sys;

pub(super) fn read<S: AsFd>(source: &Source<S>, buf: &mut [u8]) -> io::Result<usize> {
    let asked = buf.len();
    if asked == 0 {
        return Ok(0);
    }
    source.perform(Direction::Read, |socket| sys::receive(socket.as_fd(), buf), |&n| left(n, asked))
}

pub(super) fn read_vectored<S: AsFd>(source: &Source<S>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let asked = bufs.iter().take(sys::IOV_MAX).fold(0, |sum: usize, buf| sum.saturating_add(buf.len()));
    if asked == 0 {
        return Ok(0);
    }
    let received = source.perform(
        Direction::Read,
        |socket| sys::receive_vectored(socket.as_fd(), bufs),
        |received| if received.ancillary_dropped { Left::Maybe } else { left(received.bytes, asked) },
    );
    received.map(|received| received.bytes)
}

pub(super) fn peek<S: AsFd>(source: &Source<S>, buf: &mut [u8]) -> io::Result<usize> {
    if buf.is_empty() {
        return Ok(0);
    }
    source.perform(Direction::Read, |socket| sys::peek(socket.as_fd(), buf), |_| Left::Maybe)
}

pub(super) fn write<S: AsFd>(source: &Source<S>, buf: &[u8]) -> io::Result<usize> {
    source.perform(Direction::Write, |socket| sys::send(socket.as_fd(), buf), |&n| left(n, buf.len()))
}

pub(super) fn write_vectored<S: AsFd>(source: &Source<S>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let asked = bufs.iter().take(sys::IOV_MAX).fold(0, |sum: usize, buf| sum.saturating_add(buf.len()));
    source.perform(Direction::Write, |socket| sys::send_vectored(socket.as_fd(), bufs), |&n| left(n, asked))
}

/// Shuts down with `call`, and wakes those who wait in a direction that ended: they try again, and see it.
pub(super) fn shutdown<S: AsFd>(
    source: &Source<S>,
    how: Shutdown,
    call: impl FnOnce(&S, Shutdown) -> io::Result<()>,
) -> io::Result<()> {
    call(source.get(), how)?;
    if matches!(how, Shutdown::Read | Shutdown::Both) {
        source.wake(Direction::Read);
    }
    if matches!(how, Shutdown::Write | Shutdown::Both) {
        source.wake(Direction::Write);
    }
    Ok(())
}

fn left(n: usize, asked: usize) -> Left {
    if 0 < n && n < asked.min(MOST_AT_ONCE) { Left::Nothing } else { Left::Maybe }
}

/// Linux transfers no more in one call, however large the buffer (read(2)).
const MOST_AT_ONCE: usize = 0x7fff_f000;

/// Implements `Read` and `Write` for a stream and for a reference to it, with the stream's `read` function.
macro_rules! stream_io {
    ($stream:ident, $read:expr) => {
        impl io::Read for $stream {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buf)
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self).read_vectored(bufs)
            }
        }

        impl io::Read for &$stream {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                $read(&self.0, buf)
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                stream::read_vectored(&self.0, bufs)
            }
        }

        impl io::Write for $stream {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                (&*self).write(buf)
            }

            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self).write_vectored(bufs)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl io::Write for &$stream {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                stream::write(&self.0, buf)
            }

            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                stream::write_vectored(&self.0, bufs)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    };
}

pub(super) use stream_io;
