//! An echo server in one task, which waits for all its connections at once: with `DefaultSelector`, which keeps a callback with each descriptor.
//!
//! ```text
//! cargo run --release --example echo_selectors -- 7777
//! ```
//!
//! Does what the example `echo_server` does with a task for each connection, and shows what that spares: sockets that never wait,
//! and bytes that are kept until there is room for them.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use greenroom::net::{TcpListener, TcpStream};
use greenroom::selectors::{DefaultSelector, EVENT_READ, EVENT_WRITE, Events};

/// What is called when a descriptor is ready.
struct Callback(Box<dyn Fn(&Selector) -> Done>);
type Done = io::Result<()>;
type Selector = DefaultSelector<Callback>;

/// Sends back whatever it gets.
#[derive(Parser)]
struct Args {
    /// The port to listen on; 0 takes a free one.
    #[arg(default_value_t = 0, allow_negative_numbers = true)]
    port: u16,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", Args::parse().port))?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);

    let selector = Selector::new()?;
    let fd = listener.as_raw_fd();
    selector.register(&fd, EVENT_READ, Callback(Box::new(move |selector| welcome(&listener, selector))))?;
    loop {
        for (key, _events) in selector.select(None)? {
            (key.data.0)(&selector)?;
        }
    }
}

/// Registers the next client.
fn welcome(listener: &TcpListener, selector: &Selector) -> io::Result<()> {
    if let Some(connection) = accept(listener) {
        let fd = connection.stream.as_raw_fd();
        // The callback owns the connection: it is closed when its key goes.
        selector.register(&fd, EVENT_READ, callback(Rc::new(RefCell::new(connection))))?;
    }
    Ok(())
}

/// Serves the connection, and has what it waits for next registered.
fn callback(connection: Rc<RefCell<Connection>>) -> Callback {
    Callback(Box::new(move |selector| {
        let mut this = connection.borrow_mut();
        let fd = this.stream.as_raw_fd();
        let before = this.wanted();
        if !this.goes_on() {
            selector.unregister(&fd)?;
        } else if this.wanted() != before {
            selector.modify(&fd, this.wanted(), callback(connection.clone()))?;
        }
        Ok(())
    }))
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
    fn wanted(&self) -> Events {
        if self.unsent.is_empty() { EVENT_READ } else { EVENT_WRITE }
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
