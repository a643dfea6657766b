//! One connection: requests in, answers out, until either side has had enough.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenroom::fs::File;
use greenroom::net::{Shutdown, TcpStream};

use super::message::{self, Chunks, Date, Head, Length, Method, Refused};

/// What a client may ask of the server's memory and patience.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes of a request's head.
    pub(crate) head: usize,
    /// Bytes of a request's body.
    pub(crate) body: usize,
    /// Between two requests.
    pub(crate) idle: Duration,
    /// From the first byte of a head to its last, and from there to the last one of the body: those who trickle are cut, too.
    pub(crate) request: Duration,
    /// While no byte of an answer is taken.
    pub(crate) write: Duration,
}

/// A whole request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// As it was sent.
    pub(crate) target: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) has_length: bool,
}

/// What is said to it.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: Body<'a>,
}

#[derive(Debug)]
pub(crate) enum Body<'a> {
    Bytes(&'a [u8]),
    File(File, u64),
}

impl<'a> Answer<'a> {
    pub(crate) fn ok(kind: &'static str, body: &'a [u8]) -> Answer<'a> {
        Answer { status: 200, kind, body: Body::Bytes(body) }
    }

    pub(crate) fn error(status: u16) -> Answer<'a> {
        Answer { status, kind: "text/plain", body: Body::Bytes(message::reason(status).as_bytes()) }
    }
}

/// Who answers. May park.
pub(crate) trait Site {
    fn answer<'a>(&self, request: &Request<'a>) -> Answer<'a>;
}

/// What all connections share.
pub(crate) struct Service<S> {
    site: S,
    limits: Limits,
    date: Date,
    stopping: Cell<bool>,
    next_id: Cell<u64>,
    open: RefCell<BTreeMap<u64, Rc<Connection>>>,
}

struct Connection {
    stream: TcpStream,
    /// No byte of a request is here, and no answer is under way.
    idle: Cell<bool>,
}

/// An answer that waits for its neighbours goes out when so many bytes have gathered.
const BATCH: usize = 64 * 1024;
const FIRST_BUFFER: usize = 8 * 1024;

impl<S: Site> Service<S> {
    pub(crate) fn new(site: S, limits: Limits) -> Service<S> {
        Service {
            site,
            limits,
            date: Date::new(),
            stopping: Cell::new(false),
            next_id: Cell::new(0),
            open: RefCell::default(),
        }
    }

    /// Lets requests under way be answered, and ends connections that have none.
    pub(crate) fn wind_up(&self) {
        self.stopping.set(true);
        let idle: Vec<_> = self.open.borrow().values().filter(|connection| connection.idle.get()).cloned().collect();
        for connection in idle {
            // Its task reads the end. An error says that the peer was quicker.
            let _gone = connection.stream.shutdown(Shutdown::Read);
        }
    }

    /// Serves a connection to its end.
    pub(crate) fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.limits.idle))?;
        stream.set_write_timeout(Some(self.limits.write))?;
        let connection = Rc::new(Connection { stream, idle: Cell::new(true) });
        let id = self.next_id.replace(self.next_id.get() + 1);
        self.open.borrow_mut().insert(id, connection.clone());
        let _listed = Listed { open: &self.open, id };

        let mut talk = Talk {
            connection: &connection,
            limits: &self.limits,
            input: vec![0; FIRST_BUFFER],
            start: 0,
            end: 0,
            timeout: self.limits.idle,
            output: Vec::new(),
        };
        match self.converse(&mut talk)? {
            None => Ok(()),
            Some(status) => {
                self.respond(&mut talk, Answer::error(status), false, false)?;
                talk.flush()?;
                linger(&connection.stream)
            }
        }
    }

    /// Answers requests until the client goes, or a request cannot be answered: then gives the status to tell him.
    fn converse(&self, talk: &mut Talk<'_>) -> io::Result<Option<Refused>> {
        loop {
            let head = match talk.read_head(&self.stopping, &self.date)? {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(None),
                Err(status) => return Ok(Some(status)),
            };
            let (body, consumed) = match talk.read_body(&head)? {
                Ok(places) => places,
                Err(status) => return Ok(Some(status)),
            };
            // Taken out meanwhile, for the answer may quote it.
            let input = std::mem::take(&mut talk.input);
            let bytes = &input[talk.start..];
            let Ok(target) = std::str::from_utf8(&bytes[head.target.clone()]) else { return Ok(Some(400)) };
            let request =
                Request { method: head.method, target, body: &bytes[body], has_length: head.body != Length::Unsaid };
            let keep_alive = head.keep_alive && !self.stopping.get();
            let answer = self.site.answer(&request);
            self.respond(talk, answer, head.method == Method::Head, keep_alive)?;
            talk.input = input;
            talk.start += consumed;
            if !keep_alive {
                talk.flush()?;
                linger(&talk.connection.stream)?;
                return Ok(None);
            }
            if talk.output.len() >= BATCH {
                talk.flush()?;
            }
        }
    }

    fn respond(&self, talk: &mut Talk<'_>, answer: Answer<'_>, head_only: bool, keep_alive: bool) -> io::Result<()> {
        let length = match &answer.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File(_, length) => *length,
        };
        message::answer_head(&mut talk.output, answer.status, answer.kind, length, keep_alive, &self.date);
        match answer.body {
            _ if head_only => Ok(()),
            Body::Bytes(bytes) => {
                talk.output.extend_from_slice(bytes);
                Ok(())
            }
            Body::File(file, length) => talk.send_file(file, length),
        }
    }
}

struct Listed<'a> {
    open: &'a RefCell<BTreeMap<u64, Rc<Connection>>>,
    id: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.open.borrow_mut().remove(&self.id);
    }
}

/// The buffers of a connection: what was read and not yet answered is `input[start..end]`.
struct Talk<'a> {
    connection: &'a Connection,
    limits: &'a Limits,
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// What the stream's read timeout is.
    timeout: Duration,
    output: Vec<u8>,
}

/// What came of a try to read more.
enum Fill {
    Some,
    End,
    TimeOut,
}

impl Talk<'_> {
    /// The next head, or none if the client has gone or ought to go.
    fn read_head(&mut self, stopping: &Cell<bool>, date: &Date) -> io::Result<Result<Option<Head>, Refused>> {
        let mut deadline = None;
        loop {
            let waiting = &self.input[self.start..self.end];
            if !waiting.is_empty() {
                match message::head(waiting) {
                    Ok(Some(head)) if head.length > self.limits.head => return Ok(Err(431)),
                    Ok(None) if waiting.len() > self.limits.head => return Ok(Err(431)),
                    Ok(None) => {}
                    found => return Ok(found),
                }
            }
            self.flush()?;
            if self.start == self.end {
                if stopping.get() {
                    return Ok(Ok(None));
                }
                self.connection.idle.set(true);
                let filled = self.fill(None)?;
                self.connection.idle.set(false);
                date.renew();
                match filled {
                    Fill::Some => continue,
                    Fill::End | Fill::TimeOut => return Ok(Ok(None)),
                }
            }
            // A part of a head: the rest has to come in time.
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.limits.request);
            match self.fill(Some(deadline))? {
                Fill::Some => {}
                Fill::End => return Ok(Ok(None)),
                Fill::TimeOut => return Ok(Err(408)),
            }
        }
    }

    /// The whole body: where it lies behind `start`, and how much of the input it is with all that belongs to it.
    fn read_body(&mut self, head: &Head) -> io::Result<Result<(std::ops::Range<usize>, usize), Refused>> {
        match head.body {
            Length::Unsaid => Ok(Ok((head.length..head.length, head.length))),
            Length::Bytes(length) if length > self.limits.body => Ok(Err(413)),
            Length::Bytes(length) => {
                let end = head.length + length;
                let mut deadline = None;
                while self.end - self.start < end {
                    match self.fill_body(head, &mut deadline)? {
                        Ok(()) => {}
                        Err(status) => return Ok(Err(status)),
                    }
                }
                Ok(Ok((head.length..end, end)))
            }
            Length::Chunked => self.read_chunks(head),
        }
    }

    fn read_chunks(&mut self, head: &Head) -> io::Result<Result<(std::ops::Range<usize>, usize), Refused>> {
        let mut chunks = Chunks::Size;
        let (mut at, mut end, last) = (head.length, head.length, head.length + self.limits.body);
        let mut deadline = None;
        loop {
            let bytes = &mut self.input[self.start..self.end];
            match chunks.decode(bytes, &mut at, &mut end, last) {
                Err(status) => return Ok(Err(status)),
                Ok(true) => return Ok(Ok((head.length..end, at))),
                Ok(false) => {}
            }
            // The sizes between the data are not kept.
            self.input.copy_within(self.start + at..self.end, self.start + end);
            self.end -= at - end;
            at = end;
            match self.fill_body(head, &mut deadline)? {
                Ok(()) => {}
                Err(status) => return Ok(Err(status)),
            }
        }
    }

    /// Reads more of a body, after a word to a client that waits for one.
    fn fill_body(&mut self, head: &Head, deadline: &mut Option<Instant>) -> io::Result<Result<(), Refused>> {
        let deadline = match *deadline {
            Some(deadline) => deadline,
            None => {
                if head.expects_continue {
                    self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                self.flush()?;
                *deadline.insert(Instant::now() + self.limits.request)
            }
        };
        Ok(match self.fill(Some(deadline))? {
            Fill::Some => Ok(()),
            Fill::End => Err(400),
            Fill::TimeOut => Err(408),
        })
    }

    /// Reads what there is, by the deadline; without one, in the time that a connection may be idle.
    fn fill(&mut self, deadline: Option<Instant>) -> io::Result<Fill> {
        let timeout = match deadline {
            None => self.limits.idle,
            Some(deadline) => match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(Fill::TimeOut),
                left => left.max(Duration::from_millis(1)),
            },
        };
        if self.timeout != timeout {
            self.connection.stream.set_read_timeout(Some(timeout))?;
            self.timeout = timeout;
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end > self.input.len() / 2 {
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        match (&self.connection.stream).read(&mut self.input[self.end..]) {
            Ok(0) => Ok(Fill::End),
            Ok(read) => {
                self.end += read;
                Ok(Fill::Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Fill::TimeOut),
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            (&self.connection.stream).write_all(&self.output)?;
            self.output.clear();
        }
        Ok(())
    }

    fn send_file(&mut self, mut file: File, length: u64) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let before = self.output.len();
            let part = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
            self.output.resize(before + part, 0);
            let read = file.read(&mut self.output[before..])?;
            self.output.truncate(before + read);
            if read == 0 {
                // It has shrunk: the length that was told cannot be kept.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= read as u64;
            if self.output.len() >= BATCH {
                self.flush()?;
            }
        }
        Ok(())
    }
}

/// Closes so that the last answer arrives: what the client still sends would reset the connection, and the answer with it
/// (RFC 9112, 9.6).
fn linger(stream: &TcpStream) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(1);
    stream.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + PATIENCE;
    let mut waste = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        if matches!((&mut &*stream).read(&mut waste), Ok(0) | Err(_)) {
            return Ok(());
        }
    }
}
