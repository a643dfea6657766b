//! HTTP/1.1 as bytes (RFC 9112): the heads of requests, chunks, and answers. Nothing here waits.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
}

/// A request that cannot be answered as it should: by this status instead, and the end of the connection.
pub(crate) type Refused = u16;

/// The head of a request. Places are relative to its first byte.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) method: Method,
    pub(crate) target: Range<usize>,
    pub(crate) body: Length,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Not said: there is no body.
    Unsaid,
    Bytes(usize),
    Chunked,
}

const MAX_HEADERS: usize = 64;

/// Reads a head, if it is there to its end.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, Refused> {
    let mut headers = [MaybeUninit::uninit(); MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(431),
        Err(httparse::Error::Version) => return Err(505),
        Err(_) => return Err(400),
    };
    let target = request.path.unwrap_or_default();
    let start = target.as_ptr().addr() - bytes.as_ptr().addr();
    let is_newest = request.version == Some(1);
    let mut head = Head {
        length,
        method: method(request.method.unwrap_or_default())?,
        target: start..start + target.len(),
        body: Length::Unsaid,
        keep_alive: is_newest,
        expects_continue: false,
    };

    let mut hosts = 0;
    for header in request.headers {
        let (name, value) = (header.name.as_bytes(), header.value.trim_ascii());
        // Most headers say nothing to us; their length tells most of them apart.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => hosts += 1,
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(417);
                }
                head.expects_continue = is_newest;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    if option.eq_ignore_ascii_case(b"close") {
                        head.keep_alive = false;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") && !is_newest {
                        head.keep_alive = true;
                    }
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = Length::Bytes(decimal(value)?);
                // Two that agree are one; with chunks, or in dispute, somebody is being deceived (RFC 9112, 6.3).
                if head.body != Length::Unsaid && head.body != length {
                    return Err(400);
                }
                head.body = length;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if head.body != Length::Unsaid || !is_newest {
                    return Err(400);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(501);
                }
                head.body = Length::Chunked;
            }
            _ => {}
        }
    }
    if hosts > 1 || is_newest && hosts == 0 {
        return Err(400);
    }
    Ok(Some(head))
}

fn method(name: &str) -> Result<Method, Refused> {
    Ok(match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => return Err(501),
    })
}

fn decimal(digits: &[u8]) -> Result<usize, Refused> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(400);
    }
    // So many bytes are too many, too.
    Ok(std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX))
}

/// What comes next in a body that is sent in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    Size,
    Data(usize),
    /// The line's end that follows the data.
    End,
    Trailer,
    Done,
}

const LONGEST_SIZE_LINE: usize = 256;
const LONGEST_TRAILER: usize = 4096;

impl Chunks {
    /// Goes on as far as `bytes` reach, from `at`; what is data is moved to `end`, which may not
    /// pass `last`. Both places move on. `Ok(false)`: more bytes are needed.
    pub(crate) fn decode(
        &mut self,
        bytes: &mut [u8],
        at: &mut usize,
        end: &mut usize,
        last: usize,
    ) -> Result<bool, Refused> {
        loop {
            let rest = &bytes[*at..];
            match *self {
                Chunks::Size => match httparse::parse_chunk_size(rest).map_err(|_| 400_u16)? {
                    httparse::Status::Complete((length, size)) => {
                        let size = usize::try_from(size).map_err(|_| 413_u16)?;
                        if size > last.saturating_sub(*end) {
                            return Err(413);
                        }
                        *at += length;
                        *self = if size == 0 { Chunks::Trailer } else { Chunks::Data(size) };
                    }
                    httparse::Status::Partial if rest.len() > LONGEST_SIZE_LINE => return Err(400),
                    httparse::Status::Partial => return Ok(false),
                },
                Chunks::Data(left) => {
                    let here = left.min(rest.len());
                    bytes.copy_within(*at..*at + here, *end);
                    *at += here;
                    *end += here;
                    *self = if here == left { Chunks::End } else { Chunks::Data(left - here) };
                    if here < left {
                        return Ok(false);
                    }
                }
                Chunks::End => match rest {
                    [b'\r', b'\n', ..] => {
                        *at += 2;
                        *self = Chunks::Size;
                    }
                    [] | [b'\r'] => return Ok(false),
                    _ => return Err(400),
                },
                // What it says is of no use here.
                Chunks::Trailer => match rest.windows(2).position(|pair| pair == b"\r\n") {
                    Some(0) => {
                        *at += 2;
                        *self = Chunks::Done;
                    }
                    Some(length) => *at += length + 2,
                    None if rest.len() > LONGEST_TRAILER => return Err(431),
                    None => return Ok(false),
                },
                Chunks::Done => return Ok(true),
            }
        }
    }
}

/// Writes the head of an answer.
pub(crate) fn answer_head(out: &mut Vec<u8>, status: u16, kind: &str, length: u64, keep_alive: bool, date: &Date) {
    let opening = date.opening.get();
    if status == 200 {
        out.extend_from_slice(&opening);
    } else {
        write!(out, "HTTP/1.1 {status} {}", reason(status)).expect("memory takes it");
        out.extend_from_slice(&opening[GOOD.len()..]);
    }
    if status == 405 {
        out.extend_from_slice(b"\r\nallow: GET, HEAD, POST, PUT, OPTIONS");
    }
    if !kind.is_empty() {
        out.extend_from_slice(b"\r\ncontent-type: ");
        out.extend_from_slice(kind.as_bytes());
    }
    out.extend_from_slice(b"\r\ncontent-length: ");
    push_number(out, length);
    if !keep_alive {
        out.extend_from_slice(b"\r\nconnection: close");
    }
    out.extend_from_slice(b"\r\n\r\n");
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[first..]);
        }
    }
}

pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// How good answers begin, with the time of day, made anew once a second.
#[derive(Debug)]
pub(crate) struct Date {
    second: Cell<u64>,
    opening: Cell<[u8; GOOD.len() + SERVER.len() + 29]>,
}

const GOOD: &[u8] = b"HTTP/1.1 200 OK";
const SERVER: &[u8] = b"\r\nserver: greenroom\r\ndate: ";

impl Date {
    pub(crate) fn new() -> Date {
        let date = Date { second: Cell::new(u64::MAX), opening: Cell::new([b' '; _]) };
        date.renew();
        date
    }

    pub(crate) fn renew(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second.replace(now) != now {
            let mut opening = [GOOD, SERVER].concat();
            opening.extend_from_slice(&imf_date(now));
            self.opening.set(opening.try_into().expect("its length is what it is"));
        }
    }
}

/// A moment in the form of RFC 9110, 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf_date(second: u64) -> [u8; 29] {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, time) = (second / 86_400, second % 86_400);

    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }

    let mut text = String::new();
    let (week_day, month, day) = (DAYS[(days % 7) as usize], MONTHS[month], day + 1);
    let (hours, minutes, seconds) = (time / 3600, time / 60 % 60, time % 60);
    write!(text, "{week_day}, {day:02} {month} {year:04} {hours:02}:{minutes:02}:{seconds:02} GMT")
        .expect("memory takes it");
    text.as_bytes().try_into().unwrap_or([b'?'; 29])
}
