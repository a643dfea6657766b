//! An echo server: an accept loop that spawns a task for each connection.
//!
//! ```text
//! cargo run --release --example echo_server -- 7777
//! ```
//!
//! prints the address it listens on, and sends everything back until Ctrl-C ends it. Without a port it takes a free one.
//! Try it with `nc 127.0.0.1 7777`, in many windows at once, or with the example `echo_clients`.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::io::{self, Read, Write};
use std::time::Duration;

use clap::Parser;
use greenroom::net::{TcpListener, TcpStream};

/// Sends back whatever it gets.
#[derive(Parser)]
struct Args {
    /// The port to listen on; 0 takes a free one.
    #[arg(default_value_t = 0, allow_negative_numbers = true)]
    port: u16,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", Args::parse().port))?;
    println!("listening on {}", listener.local_addr()?);

    // The loop of any thread-per-connection server. Only that here a thread costs one page of memory.
    loop {
        match listener.accept() {
            Ok((stream, client)) => {
                // Nobody waits for it: dropping its handle detaches the task.
                greenroom::spawn(move || {
                    if let Err(error) = echo(&stream) {
                        eprintln!("{client}: {error}");
                    }
                });
            }
            // Most likely there are too many open files: go on when some are closed.
            Err(error) => {
                eprintln!("cannot accept: {error}");
                greenroom::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Sends back what comes until the client has no more to say.
fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        // Parks this task until there is something to read. The others run meanwhile.
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read])?,
        }
    }
}
