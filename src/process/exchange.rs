//! Feeding a child and reading both its outputs at once, so that neither side waits for the other for ever.
//!
//! What was read and what is still to be written is kept with the child, never on a stack: a call whose time runs out, or whose
//! task is killed, loses nothing, and a later one goes on from there.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::pipes::{ChildStderr, ChildStdin, ChildStdout};
use crate::clock;
use crate::error::Elapsed;
use crate::io::{Direction, Flow, Source, charge, wait_any};

/// What passes between a child and its parent.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    input: Vec<u8>,
    /// So much of it is written.
    sent: usize,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// The ends that are still open.
pub(super) struct Ends<'a> {
    pub(super) stdin: &'a mut Option<ChildStdin>,
    pub(super) stdout: &'a mut Option<ChildStdout>,
    pub(super) stderr: &'a mut Option<ChildStderr>,
}

impl Exchange {
    /// Adds to what the child is to read.
    pub(super) fn add_input(&mut self, more: Vec<u8>) {
        if self.input.is_empty() {
            self.input = more;
        } else {
            self.input.extend_from_slice(&more);
        }
    }

    /// Writes and reads until all ends are closed: true; or until the deadline: false.
    pub(super) fn run(&mut self, ends: &mut Ends<'_>, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let mut moved = self.feed(ends.stdin)?;
            moved |= take(ends.stdout, ChildStdout::flow, &mut self.stdout)?;
            moved |= take(ends.stderr, ChildStderr::flow, &mut self.stderr)?;

            let mut open: [Option<(&Source<OwnedFd>, Direction)>; 3] = [
                ends.stdin.as_ref().map(|end| (end.flow().source(), Direction::Write)),
                ends.stdout.as_ref().map(|end| (end.flow().source(), Direction::Read)),
                ends.stderr.as_ref().map(|end| (end.flow().source(), Direction::Read)),
            ];
            open.sort_by_key(Option::is_none);
            let open: Vec<_> = open.into_iter().flatten().collect();
            if open.is_empty() {
                return Ok(true);
            }
            if moved {
                // A child that never stops writing.
                if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                    return Ok(false);
                }
            } else if !wait_any(&open, deadline)? {
                return Ok(false);
            }
        }
    }

    /// Writes what there is room for. Closes the end after the last byte, and if the child does not read any more.
    fn feed(&mut self, end: &mut Option<ChildStdin>) -> io::Result<bool> {
        let Some(stdin) = end else { return Ok(false) };
        let rest = &self.input[self.sent..];
        if !rest.is_empty() {
            charge()?;
            match stdin.flow().try_write(rest) {
                Ok(written) => self.sent += written,
                Err(error) => match error.kind() {
                    io::ErrorKind::BrokenPipe => self.sent = self.input.len(),
                    io::ErrorKind::WouldBlock => return Ok(false),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        if self.sent == self.input.len() {
            *end = None;
            (self.input, self.sent) = (Vec::new(), 0);
        }
        Ok(true)
    }
}

/// Reads what is there, once. Closes the end after the last byte.
fn take<E>(end: &mut Option<E>, flow: fn(&E) -> &Flow, into: &mut Vec<u8>) -> io::Result<bool> {
    let Some(open) = end else { return Ok(false) };
    charge()?;
    let before = into.len();
    // The more there was, the more there may be.
    into.resize(before + before.clamp(LEAST, MOST), 0);
    let result = flow(open).try_read(&mut into[before..]);
    into.truncate(before + *result.as_ref().unwrap_or(&0));
    match result {
        Ok(0) => *end = None,
        Ok(_) => {}
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(false),
            io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        },
    }
    Ok(true)
}

/// How much one read asks for: a page at first, and what a pipe holds at most (pipe(7)).
const LEAST: usize = 4096;
const MOST: usize = 65536;

/// Why [`Child::communicate`](super::Child::communicate) has no whole output, and the part that it has.
#[non_exhaustive]
pub struct CommunicateError {
    /// What the child has written to its standard output so far.
    pub stdout: Vec<u8>,
    /// What the child has written to its standard error so far.
    pub stderr: Vec<u8>,
    cause: Cause,
}

#[derive(Debug)]
pub(super) enum Cause {
    Elapsed,
    Io(io::Error),
}

impl CommunicateError {
    pub(super) fn new(so_far: &Exchange, cause: Cause) -> CommunicateError {
        CommunicateError { stdout: so_far.stdout.clone(), stderr: so_far.stderr.clone(), cause }
    }

    /// Whether the time ran out: the child goes on, and so does the next call.
    pub fn is_elapsed(&self) -> bool {
        matches!(self.cause, Cause::Elapsed)
    }
}

impl fmt::Debug for CommunicateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommunicateError")
            .field("cause", &self.cause)
            .field("stdout", &String::from_utf8_lossy(&self.stdout))
            .field("stderr", &String::from_utf8_lossy(&self.stderr))
            .finish()
    }
}

impl fmt::Display for CommunicateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Elapsed => f.write_str("the child did not end in time"),
            Cause::Io(_) => f.write_str("the child cannot be talked to"),
        }
    }
}

impl std::error::Error for CommunicateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Elapsed => Some(&Elapsed(())),
            Cause::Io(error) => Some(error),
        }
    }
}

/// [`io::ErrorKind::TimedOut`], with this error inside, if the time ran out; otherwise the system's own.
impl From<CommunicateError> for io::Error {
    fn from(error: CommunicateError) -> io::Error {
        match error.cause {
            Cause::Elapsed => io::Error::new(io::ErrorKind::TimedOut, error),
            Cause::Io(error) => error,
        }
    }
}
