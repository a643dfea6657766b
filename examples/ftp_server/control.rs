//! The control connection: lines and replies, and what happens on it while something else goes on.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::time::Duration;

use greenroom::net::{Shutdown, TcpStream};
use greenroom::select;
use greenroom::sync::Event;
use socket2::SockRef;

use super::command::{Line, Lines, Reply};

/// So many lines wait at most; a client that sends more has to wait itself.
const MOST_WAITING: usize = 64;

pub(crate) struct Control {
    stream: TcpStream,
    lines: Lines,
    waiting: VecDeque<Line>,
    /// The client will say nothing more.
    ended: bool,
}

/// What comes next.
pub(crate) enum Next {
    Line(Line),
    Idle,
    Stopping,
    Gone,
}

impl Control {
    pub(crate) fn new(stream: TcpStream, patience: Duration) -> io::Result<Control> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(patience))?;
        // Clients send an ABOR, or the last byte of it, as urgent data: it has to stay in its place.
        SockRef::from(&stream).set_out_of_band_inline(true)?;
        Ok(Control { stream, lines: Lines::default(), waiting: VecDeque::new(), ended: false })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn reply(&self, reply: &Reply) -> io::Result<()> {
        (&self.stream).write_all(&reply.encode())
    }

    /// Says the last word.
    pub(crate) fn close(&self, reply: &Reply) -> io::Result<()> {
        self.reply(reply)?;
        self.stream.shutdown(Shutdown::Write)
    }

    /// The next line; none if the client is silent for too long, or the server shall stop.
    pub(crate) fn next(&mut self, idle: Duration, stopping: &Event) -> io::Result<Next> {
        loop {
            if stopping.is_set() {
                return Ok(Next::Stopping);
            }
            if let Some(line) = self.waiting.pop_front() {
                return Ok(Next::Line(line));
            }
            if self.ended {
                return Ok(Next::Gone);
            }
            select! {
                readable(&self.stream) => self.read()?,
                wait(stopping) => {}
                timeout(idle) => return Ok(Next::Idle),
            }
        }
    }

    /// Whether more can be read meanwhile.
    pub(crate) fn listens(&self) -> bool {
        !self.ended && self.waiting.len() < MOST_WAITING
    }

    /// Reads what has come.
    pub(crate) fn read(&mut self) -> io::Result<()> {
        let mut bytes = [0; 1024];
        let read = self.stream.read(&mut bytes)?;
        self.ended = read == 0;
        self.lines.feed(&bytes[..read], |line| self.waiting.push_back(line));
        Ok(())
    }

    /// Takes the first line of this kind out of turn.
    pub(crate) fn take(&mut self, is_meant: impl Fn(&Line) -> bool) -> Option<Line> {
        let place = self.waiting.iter().position(is_meant)?;
        self.waiting.remove(place)
    }

    /// Puts a line before all that wait.
    pub(crate) fn put_back(&mut self, line: Line) {
        self.waiting.push_front(line);
    }

    /// Whether the client has hung up without a last word. A client that dies closes its data connection as if all were sent, so
    /// this is how to tell; its control connection, the older one, is closed first.
    pub(crate) fn is_gone(&self) -> bool {
        if !self.waiting.is_empty() {
            return false;
        }
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let unread = SockRef::from(&self.stream).recv_with_flags(&mut [MaybeUninit::uninit()], flags);
        self.ended
            || match unread {
                Ok(n) => n == 0,
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            }
    }
}
