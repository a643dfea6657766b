//! 400 connections held by one thread, three messages over each, every byte checked.
//!
//! ```text
//! cargo run --release --example echo_clients
//! cargo run --release --example echo_clients -- 127.0.0.1:7777
//! ```
//!
//! The first brings its own server, in the same thread; the second talks to the example `echo_server`. Both print how
//! many connections, messages and bytes came back, and the time that took.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Parser;
use greenroom::net::{TcpListener, TcpStream};
use greenroom::{JoinHandle, joinall, sleep, spawn};

/// Holds many connections to an echo server and checks what comes back.
#[derive(Parser)]
struct Args {
    /// The server to talk to; without one, brings its own.
    server: Option<SocketAddr>,
    /// How many connections to hold at once.
    #[arg(long, default_value_t = 400, allow_negative_numbers = true)]
    connections: usize,
}

/// Over each connection.
const MESSAGES: usize = 3;

fn main() -> io::Result<()> {
    let args = Args::parse();
    let server = args.server.map_or_else(start_server, Ok)?;
    let started = Instant::now();

    // First all connect, so that all are open at the same time. Then all talk at once.
    let connecting: Vec<_> = (0..args.connections).map(|_| spawn(move || TcpStream::connect(server))).collect();
    let connections: Vec<TcpStream> = joinall(connecting)
        .into_iter()
        .map(|result| result.expect("the task did not panic"))
        .collect::<io::Result<_>>()?;
    let talking: Vec<JoinHandle<io::Result<usize>>> =
        connections.into_iter().enumerate().map(|(client, stream)| spawn(move || talk(client, &stream))).collect();
    let mut bytes = 0;
    for result in joinall(talking) {
        bytes += result.expect("the task did not panic")?;
    }

    println!(
        "{} connections, {} messages, {bytes} bytes echoed in {:.3} s",
        args.connections,
        args.connections * MESSAGES,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Sends messages that no other client sends, and returns how many bytes came back right.
fn talk(client: usize, mut stream: &TcpStream) -> io::Result<usize> {
    let mut bytes = 0;
    for number in 0..MESSAGES {
        let message = format!("client {client}, message {number}; ").repeat(1 + client % 50);
        stream.write_all(message.as_bytes())?;

        let mut echo = vec![0; message.len()];
        stream.read_exact(&mut echo)?;
        if echo != message.as_bytes() {
            return Err(io::Error::other(format!("client {client} got something else back")));
        }
        bytes += echo.len();
    }
    Ok(bytes)
}

/// The server of the example `echo_server`, in a task of ours.
fn start_server() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => drop(spawn(move || io::copy(&mut &stream, &mut &stream))),
                // Out of descriptors, most likely: wait until some are free again.
                Err(_) => sleep(Duration::from_millis(10)),
            }
        }
    });
    Ok(address)
}
