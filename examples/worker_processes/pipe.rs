//! Messages between two processes: each a line of JSON, on a pair of sockets.

use std::io::{self, BufRead, BufReader, Read, Write};

use greenroom::net::{Shutdown, UnixStream};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One end of a pipe. Who waits for a message parks; the other end may be a process that blocks.
pub(crate) struct Pipe(BufReader<UnixStream>);

/// Bytes of a message, at most.
const LONGEST: u64 = 1 << 20;

impl Pipe {
    pub(crate) fn new(stream: UnixStream) -> Pipe {
        Pipe(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line)
    }

    /// The next message; none when the other side has closed its end.
    pub(crate) fn receive<M: DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        let mut line = Vec::new();
        self.0.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
            Some(_) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a message has no end")),
        }
    }

    /// Lets the other side find the end; what it still has to say can be received.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.0.get_ref().shutdown(Shutdown::Write)
    }
}
