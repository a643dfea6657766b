//! Connections: opening one, and accepting those of others. Either way the socket is then as std's would be.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::backoff::Backoff;
use crate::io::{Direction, Left, Source};
use crate::sys::{self, Address};

/// Makes a stream socket and connects it to `to`, by `deadline` if there is one.
///
/// The socket is non-blocking only until it is connected: no one else has its descriptor yet. Killed in here, a task
/// drops the socket, and the kernel ends the attempt.
pub(super) fn connect<S: AsFd + From<OwnedFd>>(to: &Address, deadline: Option<Instant>) -> io::Result<Source<S>> {
    let socket = sys::stream_socket(to)?;

    let mut backoff = Backoff::new(deadline);
    let under_way = loop {
        let Err(error) = sys::connect(socket.as_fd(), to) else { break false };
        match error.raw_os_error() {
            // A connect that a signal interrupts goes on by itself (POSIX): it is awaited, not repeated.
            Some(libc::EINPROGRESS | libc::EINTR) => break true,
            // A full backlog; elsewhere `EAGAIN` means that no local port is free, which is an answer.
            Some(libc::EAGAIN) if to.is_unix() => {
                if !backoff.pause()? {
                    return Err(timed_out());
                }
            }
            _ => return Err(error),
        }
    };

    let source = Source::new(S::from(socket));
    if under_way {
        finish(&source, deadline)?;
    }
    sys::set_nonblocking(source.get().as_fd(), false)?;
    Ok(source)
}

/// Waits until the socket is connected or has failed. Readiness is a hint (R1): the socket itself is asked.
fn finish<S: AsFd>(source: &Source<S>, deadline: Option<Instant>) -> io::Result<()> {
    let socket = source.get().as_fd();
    loop {
        if !source.wait(Direction::Write, deadline)? {
            return Err(timed_out());
        }
        if let Some(error) = sys::take_error(socket)? {
            return Err(error);
        }
        if sys::is_connected(socket)? {
            return Ok(());
        }
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "connection timed out")
}

/// Accepts one connection with std's `accept`, which never waits on a listener that is non-blocking underneath.
pub(super) fn accept<L: AsFd, S: AsFd, A>(
    listener: &Source<L>,
    accept: impl FnMut(&L) -> io::Result<(S, A)>,
) -> io::Result<(Source<S>, A)> {
    listener.set_underneath_nonblocking()?;
    let (socket, peer) = listener.perform(Direction::Read, accept, |_| Left::Maybe)?;

    // Linux makes every accepted socket a blocking one; elsewhere it may have the listener's mode (accept(2)).
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    sys::set_nonblocking(socket.as_fd(), false)?;
    Ok((Source::new(socket), peer))
}
