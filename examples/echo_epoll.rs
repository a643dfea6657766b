//! An echo server in one task, which waits for all its connections at once: with `Epoll`, whose cost does not grow with those that are silent.
//!
//! ```text
//! cargo run --release --example echo_epoll -- 7777
//! ```
//!
//! Does what the example `echo_server` does with a task for each connection, and shows what that spares: sockets that never wait,
//! and bytes that are kept until there is room for them. Systems without epoll are told so.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]
#![cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    allow(unused, reason = "there only a sentence is left")
)]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use clap::Parser;
use greenroom::net::{TcpListener, TcpStream};
#[cfg(any(target_os = "linux", target_os = "android"))]
use greenroom::selectors::{EPOLLIN, EPOLLOUT, Epoll, Events};

/// Sends back whatever it gets.
#[derive(Parser)]
struct Args {
    /// The port to listen on; 0 takes a free one.
    #[arg(default_value_t = 0, allow_negative_numbers = true)]
    port: u16,
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn main() -> std::process::ExitCode {
    eprintln!("this system has no epoll; echo_selectors takes what it has");
    std::process::ExitCode::FAILURE
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", Args::parse().port))?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);

    let epoll = Epoll::new()?;
    epoll.register(&listener, EPOLLIN)?;
    let mut connections: HashMap<RawFd, Connection> = HashMap::new();
    loop {
        for (fd, _events) in epoll.poll(None, 256)? {
            if let Some(connection) = connections.get_mut(&fd) {
                let before = connection.wanted();
                if !connection.goes_on() {
                    epoll.unregister(&fd)?;
                    connections.remove(&fd);
                } else if connection.wanted() != before {
                    epoll.modify(&fd, connection.wanted())?;
                }
            } else if let Some(connection) = accept(&listener) {
                epoll.register(&connection.stream, EPOLLIN)?;
                connections.insert(connection.stream.as_raw_fd(), connection);
            }
        }
    }
}

/// A client, and what it has not got back yet. It is read only when there is nothing of that.
struct Connection {
    stream: TcpStream,
    unsent: Vec<u8>,
}

impl Connection {
    /// Does what the socket is ready for. False at the end.
    fn serve(&mut self) -> io::Result<bool> {
        if self.unsent.is_empty() {
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => self.unsent.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        match self.stream.write(&self.unsent) {
            Ok(written) => drop(self.unsent.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// As above; an error is told, and is an end.
    fn goes_on(&mut self) -> bool {
        self.serve().unwrap_or_else(|error| {
            eprintln!("{error}");
            false
        })
    }

    /// What to wait for.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn wanted(&self) -> Events {
        if self.unsent.is_empty() { EPOLLIN } else { EPOLLOUT }
    }
}

/// The next client, if one waits.
fn accept(listener: &TcpListener) -> Option<Connection> {
    let accepted = listener.accept().and_then(|(stream, _)| stream.set_nonblocking(true).map(|()| stream));
    match accepted {
        Ok(stream) => Some(Connection { stream, unsent: Vec::new() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        // Most likely there are too many open files: go on when some are closed.
        Err(error) => {
            eprintln!("cannot accept: {error}");
            greenroom::sleep(Duration::from_millis(100));
            None
        }
    }
}
