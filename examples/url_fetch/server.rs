//! The other side: an HTTP server of one page of code, one task a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use greenroom::net::{TcpListener, TcpStream};

/// How many pages there are.
pub(crate) const PAGES: usize = 100;

/// How long the server thinks before it answers.
const DELAY: Duration = Duration::from_millis(50);

/// No request of ours has a longer head, in bytes.
const LONGEST_HEAD: u64 = 8 * 1024;

/// Starts the server on a free loopback port. It serves until `greenroom::run` ends it.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    greenroom::spawn(move || {
        for connection in listener.incoming() {
            match connection {
                Ok(stream) => drop(greenroom::spawn(move || serve(&stream))),
                // Out of descriptors, most likely: wait until some are free again.
                Err(_) => greenroom::sleep(Duration::from_millis(10)),
            }
        }
    });
    Ok(address)
}

/// Answers requests until the client goes away.
fn serve(stream: &TcpStream) {
    let mut requests = BufReader::new(stream);
    let mut connection = stream;
    // A client that breaks off is its own business: the task just ends.
    while let Ok(Some(path)) = read_request(&mut requests) {
        greenroom::sleep(DELAY);
        if connection.write_all(&answer(&path)).is_err() {
            break;
        }
    }
}

/// Reads the head of a request and returns its path, or `None` if the client has closed.
fn read_request(requests: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = requests.take(LONGEST_HEAD);
    let mut first = String::new();
    if head.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut field = String::from("?");
    while !field.trim_end().is_empty() {
        field.clear();
        if head.read_line(&mut field)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(first.split(' ').nth(1).map(str::to_owned))
}

/// The whole answer for a path: `/page/0` to `/page/99` exist.
fn answer(path: &str) -> Vec<u8> {
    let page = path.strip_prefix("/page/").and_then(|number| number.parse().ok()).filter(|&page| page < PAGES);
    let (status, body) = match page {
        Some(page) => ("200 OK", page_text(page)),
        None => ("404 Not Found", b"no such page\n".to_vec()),
    };
    let mut answer =
        format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend(body);
    answer
}

/// Pages of 1 to 100 kB, no two alike.
fn page_text(page: usize) -> Vec<u8> {
    let length = 1_000 + page * 37_000 % 99_000 + page;
    let line = format!("page {page}\n");
    line.bytes().cycle().take(length).collect()
}
