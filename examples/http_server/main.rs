//! An HTTP/1.1 server: a task for each connection, plain code in each, and limits for those who mean no good.
//!
//! ```text
//! cargo run --release --example http_server -- --port 8080 --root public
//! ```
//!
//! prints the address it listens on, and serves `/plaintext`, `/json`, `/echo`, and `/` or the files below `--root`. On Ctrl-C or SIGTERM
//! it takes no more clients, answers what it was asked, and ends; on a second one it ends at once.
//!
//! `message.rs` is HTTP as bytes, `connection.rs` the loop of a connection, `site.rs` what there is to see.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

mod connection;
mod message;
mod site;

use std::io::{self, Read};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use greenroom::net::{TcpListener, TcpStream, UnixStream};
use greenroom::server::StreamServer;
use greenroom::spawn;

use connection::{Limits, Service};
use site::Pages;

/// Serves HTTP/1.1.
#[derive(Parser)]
struct Args {
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Serves the files below this directory.
    #[arg(long)]
    root: Option<PathBuf>,
    /// How many connections are served at once; further ones wait.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Bytes that the head of a request may have.
    #[arg(long, default_value_t = 16 * 1024)]
    max_head: usize,
    /// Bytes that the body of a request may have.
    #[arg(long, default_value_t = 1024 * 1024)]
    max_body: usize,
    /// Milliseconds that a connection may be idle.
    #[arg(long, default_value_t = 60_000)]
    idle_timeout: u64,
    /// Milliseconds for a request's head to arrive, and again for its body.
    #[arg(long, default_value_t = 10_000)]
    request_timeout: u64,
    /// Milliseconds that requests under way have to finish when the server stops.
    #[arg(long, default_value_t = 5_000)]
    stop_timeout: u64,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let limits = Limits {
        head: args.max_head,
        body: args.max_body,
        idle: Duration::from_millis(args.idle_timeout.max(1)),
        request: Duration::from_millis(args.request_timeout.max(1)),
        write: Duration::from_secs(30),
    };
    let root = args.root.map(std::fs::canonicalize).transpose()?;
    let service = Rc::new(Service::new(Pages::new(root), limits));

    let listener = TcpListener::bind(("127.0.0.1", args.port))?;
    let serving = service.clone();
    // An error is the client's affair: he went, or was too slow.
    let server = StreamServer::builder(listener)
        .pool_size(args.connections)
        .build(move |stream: TcpStream, _client| serving.serve(stream));
    println!("listening on {}", server.local_addr()?);

    let mut signals = signals()?;
    let handle = server.handle();
    drop(spawn(move || {
        if signals.read_exact(&mut [0]).is_ok() {
            handle.stop_nowait(Duration::from_millis(args.stop_timeout));
            service.wind_up();
        }
        if signals.read_exact(&mut [0]).is_ok() {
            handle.stop_nowait(Duration::ZERO);
        }
    }));
    server.serve_forever()
}

/// A byte for each SIGINT and SIGTERM.
fn signals() -> io::Result<UnixStream> {
    let (writing, reading) = std::os::unix::net::UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, writing.try_clone()?)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, writing)?;
    Ok(reading.into())
}
