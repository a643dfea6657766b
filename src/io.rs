//! Waiting for a descriptor: the only try-then-park loop.
//!
//! STUB for parallel work: same interface as the real one, blocks the native thread with poll(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

/// Which way a call moves bytes: the waiters of each direction queue apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction { Read, Write }

/// What a successful call tells about what is left in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// There may be more: the next call is tried at once.
    Maybe,
    /// A stream gave or took less than was asked: nothing is left, the next call parks without trying (DESIGN: short read).
    Nothing,
}

/// How the open file behind a socket behaves; shared by its clones, as the kernel shares it.
#[derive(Debug, Default)]
pub(crate) struct Mode { nonblocking: AtomicBool, read_timeout: AtomicU64, write_timeout: AtomicU64 }

/// A descriptor that tasks wait for. `S` owns it (a std socket).
#[derive(Debug)]
pub(crate) struct Source<S: AsFd> { inner: S, mode: Arc<Mode> }

impl<S: AsFd> Source<S> {
    /// Wraps a descriptor whose mode is blocking and without timeouts (just made by us).
    pub(crate) fn new(inner: S) -> Source<S> { Source { inner, mode: Arc::default() } }
    /// Wraps a descriptor that came from outside: its mode (O_NONBLOCK, SO_RCVTIMEO, SO_SNDTIMEO) is read from the
    /// kernel when it first matters.
    pub(crate) fn from_outside(inner: S) -> Source<S> { Source { inner, mode: Arc::default() } }
    /// Wraps a duplicate of this source's descriptor: shares the mode.
    pub(crate) fn duplicate(&self, inner: S) -> Source<S> { Source { inner, mode: self.mode.clone() } }
    pub(crate) fn get(&self) -> &S { &self.inner }
    /// Takes the descriptor out of every hub and gives it back open, O_NONBLOCK as the user set it.
    pub(crate) fn into_inner(self) -> S { self.inner }

    /// Tries `call`, parks until the descriptor is ready where it would block, and tries again.
    ///
    /// Handles `Interrupted` (retried), `WouldBlock` (parks, or returned if the user asked for non-blocking mode or the
    /// direction's own timeout ran out). `left` says what a success leaves behind.
    /// The call must not block whatever the descriptor's flags: MSG_DONTWAIT, or a descriptor made O_NONBLOCK underneath
    /// (`set_underneath_nonblocking`).
    pub(crate) fn perform<T>(&self, direction: Direction, mut call: impl FnMut(&S) -> io::Result<T>, left: impl Fn(&T) -> Left) -> io::Result<T> {
        let mut deadline = None;
        loop {
            match call(&self.inner) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !crate::sys::is_nonblocking(self.inner.as_fd())? => {
                    let timeout = self.timeout(direction);
                    let deadline = *deadline.get_or_insert_with(|| timeout.map(|t| Instant::now() + t));
                    if !self.wait(direction, deadline)? { return Err(e) }
                }
                Ok(t) => { let _ = left(&t); return Ok(t) }
                Err(e) => return Err(e),
            }
        }
    }

    fn timeout(&self, direction: Direction) -> Option<Duration> {
        let option = if direction == Direction::Read { libc::SO_RCVTIMEO } else { libc::SO_SNDTIMEO };
        let mut t = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let mut n = size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: stub; `t` and `n` are live.
        unsafe { libc::getsockopt(self.inner.as_fd().as_raw_fd(), libc::SOL_SOCKET, option, std::ptr::from_mut(&mut t).cast(), &mut n) };
        let t = Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64);
        (!t.is_zero()).then_some(t)
    }

    /// Parks until the descriptor is ready in this direction, or `deadline`: then `Ok(false)`. For connect.
    pub(crate) fn wait(&self, direction: Direction, deadline: Option<Instant>) -> io::Result<bool> {
        let events = if direction == Direction::Read { libc::POLLIN } else { libc::POLLOUT };
        let mut p = libc::pollfd { fd: self.inner.as_fd().as_raw_fd(), events, revents: 0 };
        let t = deadline.map_or(-1, |d| d.saturating_duration_since(Instant::now()).as_millis() as i32 + 1);
        // SAFETY: stub; `p` is live.
        Ok(unsafe { libc::poll(&mut p, 1, t) } != 0)
    }

    /// For listeners, whose accept has no MSG_DONTWAIT: sets O_NONBLOCK on the open file once; the user's view stays in the mode.
    pub(crate) fn set_underneath_nonblocking(&self) -> io::Result<()> { Ok(()) }
    /// The user's view of non-blocking mode (also sets the real flag, except where it is set underneath anyway).
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> { crate::sys::set_nonblocking(self.inner.as_fd(), nonblocking) }
    /// Notes a timeout that the caller has already set on the kernel's socket (SO_RCVTIMEO, SO_SNDTIMEO).
    pub(crate) fn note_timeout(&self, _direction: Direction, _timeout: Option<Duration>) {}
    /// A socket was shut down locally in this direction: waiters of that direction try again at once.
    pub(crate) fn wake(&self, _direction: Direction) {}
}
