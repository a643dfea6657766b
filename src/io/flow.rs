//! Bytes through descriptors that are no sockets: pipes, fifos, terminals.
//!
//! No call may stop the hub, and no flag of the open file may be changed: a duplicate in a child process shares it (rule
//! 20). `O_NONBLOCK` is such a flag, also on pipes that we have made ourselves. So each call says for itself that it
//! must not wait:
//!
//! 1. `preadv2` and `pwritev2` with `RWF_NOWAIT`, which Linux has for anonymous pipes (5.11 and later). They are as dear as `read`
//!    and `write`: 1.17 µs a byte there and back, against 1.19 (2026-11, this VM).
//! 2. Where the kernel refuses (fifos, terminals, older kernels), poll(2) says that the descriptor is ready, then a bare call
//!    follows: 2.55 µs. A ready descriptor has something to read, and room for `PIPE_BUF` bytes in a pipe, so the call does
//!    not wait, unless somebody else was quicker in between. Other tasks and threads that use the same handle or its clones are kept
//!    off by a lock; another *process* that reads the same fifo can win that race, and the thread then waits for the next bytes.
//!
//! Rejected: a second open file from `/proc/self/fd/N`, with flags of its own. It would keep the other side from seeing the end
//! after the user has closed or replaced his descriptor.

#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::source::{Direction, Left, Source};
use crate::lock::Lock;
use crate::sys;

/// A descriptor through which bytes flow in order, with no positions.
#[derive(Debug)]
pub(crate) struct Flow<S: AsFd = OwnedFd> {
    source: Source<S>,
    way: Arc<Way>,
}

/// How this open file is kept from waiting; shared by clones.
#[derive(Debug)]
struct Way {
    /// The kernel has refused to read or write this without waiting.
    refused: AtomicBool,
    /// Held from the look to the call that follows.
    reading: Lock<()>,
    writing: Lock<()>,
}

/// The locks guard nothing that could be half changed.
impl RefUnwindSafe for Way {}

impl<S: AsFd> Flow<S> {
    /// Wraps a descriptor that was just made.
    pub(crate) fn new(fd: S) -> Flow<S> {
        Flow { source: Source::new(fd), way: Way::new() }
    }

    /// Wraps a descriptor that came from outside, in whatever mode.
    pub(crate) fn from_outside(fd: S) -> Flow<S> {
        Flow { source: Source::from_outside(fd), way: Way::new() }
    }

    /// Wraps a duplicate of this descriptor.
    pub(crate) fn duplicate(&self, fd: S) -> Flow<S> {
        Flow { source: self.source.duplicate(fd), way: self.way.clone() }
    }

    pub(crate) fn source(&self) -> &Source<S> {
        &self.source
    }

    pub(crate) fn get(&self) -> &S {
        self.source.get()
    }

    pub(crate) fn into_inner(self) -> S {
        self.source.into_inner()
    }

    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    /// Reads what is there, or fails with `WouldBlock`, whatever the user's view of the mode. The caller counts it ([`charge`](super::charge)).
    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.way.read(self.source.get().as_fd(), &mut [IoSliceMut::new(buf)])
    }

    /// Writes what there is room for, as [`try_read`](Self::try_read).
    pub(crate) fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.way.write(self.source.get().as_fd(), &[IoSlice::new(buf)])
    }

    pub(crate) fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let asked = bufs.iter().take(sys::IOV_MAX).fold(0, |sum: usize, buf| sum.saturating_add(buf.len()));
        if asked == 0 {
            return Ok(0);
        }
        self.source.perform(Direction::Read, |fd| self.way.read(fd.as_fd(), bufs), |_| Left::Maybe)
    }

    pub(crate) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    pub(crate) fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.source.perform(Direction::Write, |fd| self.way.write(fd.as_fd(), bufs), |_| Left::Maybe)
    }
}

impl Way {
    fn new() -> Arc<Way> {
        Arc::new(Way { refused: AtomicBool::new(false), reading: Lock::new(()), writing: Lock::new(()) })
    }

    /// Reads what is there, or fails with `WouldBlock`.
    fn read(&self, fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if !self.refused.load(Ordering::Relaxed) {
            match sys::read_nowait(fd, bufs, sys::HERE) {
                Err(error) if sys::is_refusal(&error) => self.refused.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        let _turn = self.reading.lock();
        is_ready(fd, Direction::Read)?;
        sys::read(fd, bufs)
    }

    /// Writes what there is room for, or fails with `WouldBlock`.
    fn write(&self, fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.refused.load(Ordering::Relaxed) {
            match sys::write_nowait(fd, bufs, sys::HERE) {
                Err(error) if sys::is_refusal(&error) => self.refused.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        let _turn = self.writing.lock();
        is_ready(fd, Direction::Write)?;
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        sys::write(fd, &[IoSlice::new(&first[..first.len().min(PIPE_BUF)])])
    }
}

/// What a pipe that is ready takes without waiting (pipe(7)).
const PIPE_BUF: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 4096 } else { 512 };

fn is_ready(fd: BorrowedFd<'_>, direction: Direction) -> io::Result<()> {
    match sys::poll_fd(fd.as_raw_fd(), direction.poll_events(), Some(Duration::ZERO)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    }
}
