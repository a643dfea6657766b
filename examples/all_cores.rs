//! One port served from all cores: a thread with a hub on each, and a listener of its own on each hub.
//!
//! ```text
//! cargo run --release --example all_cores
//! cargo run --release --example all_cores -- --serve 7777
//! ```
//!
//! The system spreads the connections over the listeners (`SO_REUSEPORT`, socket(7)), so that the hubs share nothing: each
//! accepts, and then echoes. The first form brings its own clients, prints how many of them each hub served, and
//! ends; the second serves until Ctrl-C.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use clap::Parser;
use greenroom::net::{TcpListener, TcpStream};
use greenroom::{Unparker, current, joinall, park, spawn};
use socket2::{Domain, Socket, Type};

/// Serves one port from all cores.
#[derive(Parser)]
struct Args {
    /// Serves this port until Ctrl-C, without clients.
    #[arg(long)]
    serve: Option<u16>,
    /// How many connections the clients make.
    #[arg(long, default_value_t = 400)]
    connections: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let cores = thread::available_parallelism()?.get();

    // All are bound before the first client comes, for a listener that comes later changes who gets what.
    let first = listen(SocketAddr::from(([127, 0, 0, 1], args.serve.unwrap_or(0))))?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..cores {
        listeners.push(listen(address)?);
    }

    let (tell, told) = mpsc::channel();
    let hubs: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let tell = tell.clone();
            thread::spawn(move || serve(listener, &tell))
        })
        .collect();
    drop(tell);
    println!("{cores} hubs listen on {address}");

    if args.serve.is_none() {
        let clients: Vec<_> = (0..args.connections).map(|client| spawn(move || talk(client, address))).collect();
        for result in joinall(clients) {
            result.expect("the task does not panic")?;
        }
        told.iter().for_each(|stop: Unparker| stop.unpark());
    }
    let mut all = 0;
    for (number, hub) in hubs.into_iter().enumerate() {
        let served = hub.join().expect("the thread does not panic");
        println!("hub {number} served {served}");
        all += served;
    }
    println!("{all} connections in all");
    Ok(())
}

/// A listener that shares its port.
fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

/// Runs a hub on the calling thread until it is told to stop, and gives how many connections it served.
fn serve(listener: std::net::TcpListener, tell: &mpsc::Sender<Unparker>) -> usize {
    let served = Rc::new(Cell::new(0));
    let counted = served.clone();
    let listener = TcpListener::from(listener);
    let accepting = spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            counted.set(counted.get() + 1);
            drop(spawn(move || io::copy(&mut &stream, &mut &stream)));
        }
    });
    // Whoever has this may end the park, from any thread.
    if tell.send(current().unparker()).is_ok() {
        park();
    }
    accepting.kill();
    served.get()
}

/// Sends a message and checks what comes back.
fn talk(client: usize, server: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    let message = format!("client {client}");
    stream.write_all(message.as_bytes())?;
    let mut echo = vec![0; message.len()];
    stream.read_exact(&mut echo)?;
    if echo == message.as_bytes() { Ok(()) } else { Err(io::Error::other(format!("{message} got something else"))) }
}
