//! A chat: what one says, all others hear. Who does not listen is shown out, and holds up nobody.
//!
//! ```text
//! cargo run --release --example chat -- 7777
//! ```
//!
//! prints the address it listens on. Try it with `nc 127.0.0.1 7777` in several windows: the first line is a name, each further one
//! is said to the others. Ctrl-C ends it.
//!
//! A client is two tasks: one reads lines from him and puts them into the queues of all others, one writes what is in his. The
//! queues are bounded: one that is full belongs to a client who does not read, and is closed.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use greenroom::net::{Shutdown, TcpListener, TcpStream};
use greenroom::queue::{Queue, TryPutError};
use greenroom::scope;
use greenroom::server::StreamServer;

/// Lines that wait for a client, at most.
const PATIENCE: usize = 100;
/// Bytes of a line, at most.
const LONGEST_LINE: u64 = 1024;

/// Passes lines between its clients.
#[derive(Parser)]
struct Args {
    /// The port to listen on; 0 takes a free one.
    #[arg(default_value_t = 0)]
    port: u16,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", Args::parse().port))?;
    let room = Rc::new(Room::default());
    // An error is a client who went without a word.
    let server =
        StreamServer::builder(listener).pool_size(10_000).build(move |stream: TcpStream, _client| room.receive(stream));
    println!("listening on {}", server.local_addr()?);

    let (mut signals, handle) = (signals()?, server.handle());
    drop(greenroom::spawn(move || {
        let _signal = signals.read_exact(&mut [0]);
        handle.stop_nowait(Duration::ZERO);
    }));
    server.serve_forever()
}

/// A byte for each SIGINT.
fn signals() -> io::Result<greenroom::net::UnixStream> {
    let (writing, reading) = std::os::unix::net::UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, writing)?;
    Ok(reading.into())
}

/// The clients, by number.
#[derive(Default)]
struct Room {
    clients: RefCell<BTreeMap<u64, Client>>,
    next: Cell<u64>,
}

struct Client {
    stream: Rc<TcpStream>,
    /// What he has not heard yet.
    queue: Rc<Queue<Rc<str>>>,
}

impl Room {
    /// Serves a client to his end.
    fn receive(&self, stream: TcpStream) -> io::Result<()> {
        let (stream, queue) = (Rc::new(stream), Rc::new(Queue::bounded(PATIENCE)));
        let mut lines = BufReader::new(&*stream);
        let Some(name) = read_line(&mut lines)? else { return Ok(()) };

        let id = self.next.replace(self.next.get() + 1);
        self.say(id, &format!("* {name} has come"));
        self.clients.borrow_mut().insert(id, Client { stream: stream.clone(), queue: queue.clone() });
        let _leaves = Leaves { room: self, id, name: &name };

        scope(|s| {
            let writing = s.spawn(|| write_lines(&stream, &queue));
            let read = (|| {
                while let Some(line) = read_line(&mut lines)? {
                    self.say(id, &format!("{name}: {line}"));
                }
                Ok(())
            })();
            // He may still listen to what was said before he went.
            queue.shutdown();
            if writing.join_timeout(Duration::from_secs(1)).is_err() {
                show_out(&stream);
            }
            read
        })
    }

    /// Tells all but one. Never waits.
    fn say(&self, speaker: u64, line: &str) {
        let line: Rc<str> = format!("{line}\n").into();
        for (_, client) in self.clients.borrow().iter().filter(|(id, _)| **id != speaker) {
            if let Err(TryPutError::Full(_)) = client.queue.try_put(line.clone()) {
                show_out(&client.stream);
            }
        }
    }
}

/// Ends a connection under those who read and write there: they find it at its end.
fn show_out(stream: &TcpStream) {
    // An error says that he has gone already.
    let _gone = stream.shutdown(Shutdown::Both);
}

/// Takes a client's name off the list, whatever way he went.
struct Leaves<'a> {
    room: &'a Room,
    id: u64,
    name: &'a str,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        drop(self.room.clients.borrow_mut().remove(&self.id));
        self.room.say(self.id, &format!("* {} has gone", self.name));
    }
}

/// Writes what comes through the queue, to its end.
fn write_lines(mut stream: &TcpStream, queue: &Queue<Rc<str>>) -> io::Result<()> {
    for line in queue.iter() {
        stream.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// The next line without its end; none if the client says no more, or more than a line may have.
fn read_line(lines: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    lines.take(LONGEST_LINE).read_line(&mut line)?;
    Ok(line.strip_suffix('\n').map(|line| line.trim_end().to_owned()))
}
