//! Datagrams there and back: one socket that answers, four that ask, and a timeout for those that get lost.
//!
//! ```text
//! cargo run --example udp_echo
//! ```
//!
//! prints each answer as it comes, and how long all of them took. The server answers each datagram 100 ms late and from
//! a task of its own, so that nobody waits for another.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenroom::net::UdpSocket;
use greenroom::{joinall, sleep, spawn};

fn main() -> io::Result<()> {
    let server = UdpSocket::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    // Nobody waits for the server: dropping its handle detaches it.
    spawn(move || serve(server));

    let started = Instant::now();
    let clients: Vec<_> = (1..=4).map(|number| spawn(move || ask(address, number))).collect();
    for result in joinall(clients) {
        result.expect("the task did not panic")?;
    }
    println!("all answered after {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Answers for ever. Ends with the program.
fn serve(socket: UdpSocket) -> io::Result<()> {
    // The tasks that answer share the socket. They are on one thread, so `Rc` will do.
    let socket = Rc::new(socket);
    let mut buffer = [0; 1500];
    loop {
        let (length, client) = socket.recv_from(&mut buffer)?;
        let question = buffer[..length].to_vec();
        let socket = Rc::clone(&socket);
        spawn(move || {
            sleep(Duration::from_millis(100));
            socket.send_to(&question, client)
        });
    }
}

/// Asks, and asks again if no answer comes: datagrams may get lost.
fn ask(server: SocketAddr, number: u32) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;

    let question = format!("question {number}");
    let mut buffer = [0; 1500];
    for _ in 0..5 {
        socket.send(question.as_bytes())?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                assert_eq!(&buffer[..length], question.as_bytes());
                println!("{question}: answered");
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => println!("{question}: lost, once more"),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{question}: five datagrams lost")))
}
