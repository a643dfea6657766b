//! A relay between clients and a server, on one native thread, which holds back what the server says.
//!
//! As a *gate* it passes nothing to any client before so many have connected, or asked: all of them are then within a call at
//! once. As a *limit* it passes so many bytes to each client, and then stays silent, or hangs up: the client is in the middle.

#![forbid(unsafe_code)]

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// See the module. Ends when dropped, and hangs up on all.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    seen: Arc<Seen>,
    waker: Waker,
    thread: Option<thread::JoinHandle<()>>,
}

/// What others want to know about it.
#[derive(Debug, Default)]
struct Seen {
    accepted: AtomicUsize,
    asked: AtomicUsize,
    passed: AtomicUsize,
    at_the_limit: AtomicUsize,
    left: AtomicUsize,
    end: AtomicBool,
}

#[derive(Clone, Copy)]
struct Rules {
    gate: usize,
    /// Counts those who have said something, not those who have connected.
    asked: bool,
    limit: usize,
    hang_up: bool,
}

impl Relay {
    /// Passes nothing from the server before `count` clients have connected.
    pub fn gate(server: SocketAddr, count: usize) -> Relay {
        Relay::start(server, Rules { gate: count, asked: false, limit: usize::MAX, hang_up: false })
    }

    /// Passes nothing from the server before `count` clients have sent something.
    pub fn gate_of_asked(server: SocketAddr, count: usize) -> Relay {
        Relay::start(server, Rules { gate: count, asked: true, limit: usize::MAX, hang_up: false })
    }

    /// Passes `limit` bytes from the server to each client, then nothing more.
    pub fn limit(server: SocketAddr, limit: usize) -> Relay {
        Relay::start(server, Rules { gate: 0, asked: false, limit, hang_up: false })
    }

    /// Passes `limit` bytes from the server to each client, then closes its connection.
    pub fn hang_up(server: SocketAddr, limit: usize) -> Relay {
        Relay::start(server, Rules { gate: 0, asked: false, limit, hang_up: true })
    }

    fn start(server: SocketAddr, rules: Rules) -> Relay {
        let mut listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let poll = Poll::new().expect("a poller");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("it is a socket");
        let waker = Waker::new(poll.registry(), WAKER).expect("a waker");
        let seen = Arc::new(Seen::default());
        let worker = Worker { poll, listener, server, rules, seen: seen.clone(), pairs: HashMap::new(), next: 0 };
        let thread = Some(thread::Builder::new().name("relay".into()).spawn(|| worker.run()).expect("a thread"));
        Relay { address, seen, waker, thread }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many clients have connected.
    pub fn accepted(&self) -> usize {
        self.seen.accepted.load(Ordering::SeqCst)
    }

    /// How many bytes went from the server to clients.
    pub fn passed(&self) -> usize {
        self.seen.passed.load(Ordering::SeqCst)
    }

    /// How many clients have got as many bytes as the limit lets them.
    pub fn at_the_limit(&self) -> usize {
        self.seen.at_the_limit.load(Ordering::SeqCst)
    }

    /// How many clients have ended their connections, or at least their own direction.
    pub fn left(&self) -> usize {
        self.seen.left.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.seen.end.store(true, Ordering::SeqCst);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const LISTENER: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);

struct Worker {
    poll: Poll,
    listener: TcpListener,
    server: SocketAddr,
    rules: Rules,
    seen: Arc<Seen>,
    /// By half its tokens: the client's is even, the server's the odd one after it.
    pairs: HashMap<usize, Pair>,
    next: usize,
}

struct Pair {
    client: TcpStream,
    server: TcpStream,
    up: Direction,
    down: Direction,
    asked: bool,
    left: bool,
    at_the_limit: bool,
}

#[derive(Default)]
struct Direction {
    held: Vec<u8>,
    passed: usize,
    ended: bool,
    told: bool,
}

impl Direction {
    /// Takes what is there, passes what may pass, and the end after all of it. Gives how much passed now.
    fn pass(&mut self, from: &mut TcpStream, to: &mut TcpStream, limit: usize) -> std::io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        while !self.ended {
            match from.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => self.held.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }

        let before = self.passed;
        loop {
            let may = self.held.len().min(limit.saturating_sub(self.passed));
            if may == 0 {
                break;
            }
            match to.write(&self.held[..may]) {
                Ok(count) => {
                    self.held.drain(..count);
                    self.passed += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.ended && self.held.is_empty() && !self.told {
            self.told = true;
            to.shutdown(Shutdown::Write)?;
        }
        Ok(self.passed - before)
    }
}

impl Worker {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        while !self.seen.end.load(Ordering::SeqCst) {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.expect("it polls"),
            }
            let ready: Vec<Token> = events.iter().map(|event| event.token()).collect();
            for token in ready {
                match token {
                    LISTENER => self.accept(),
                    WAKER => {}
                    Token(number) => {
                        let open = self.is_open();
                        self.serve(number / 2);
                        if !open && self.is_open() {
                            self.serve_all();
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((mut client, _)) = self.listener.accept() {
            let Ok(mut server) = TcpStream::connect(self.server) else { continue };
            let number = self.next;
            self.next += 1;
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut client, Token(2 * number), both).expect("it is a socket");
            self.poll.registry().register(&mut server, Token(2 * number + 1), both).expect("it is a socket");
            let (up, down) = <(Direction, Direction)>::default();
            self.pairs
                .insert(number, Pair { client, server, up, down, asked: false, left: false, at_the_limit: false });
            let open = self.is_open();
            self.seen.accepted.fetch_add(1, Ordering::SeqCst);
            self.serve(number);
            if !open && self.is_open() {
                self.serve_all();
            }
        }
    }

    fn is_open(&self) -> bool {
        let come = if self.rules.asked { &self.seen.asked } else { &self.seen.accepted };
        come.load(Ordering::SeqCst) >= self.rules.gate
    }

    fn serve_all(&mut self) {
        let all: Vec<usize> = self.pairs.keys().copied().collect();
        all.into_iter().for_each(|number| self.serve(number));
    }

    fn serve(&mut self, number: usize) {
        let open = self.is_open();
        let Some(pair) = self.pairs.get_mut(&number) else { return };
        let limit = if open { self.rules.limit } else { 0 };
        let up = pair.up.pass(&mut pair.client, &mut pair.server, usize::MAX);
        let down = pair.down.pass(&mut pair.server, &mut pair.client, limit);
        let broken = up.is_err() || down.is_err();
        let at_the_limit = open && pair.down.passed >= limit;
        let hangs_up = at_the_limit && self.rules.hang_up;

        self.seen.passed.fetch_add(down.unwrap_or(0), Ordering::SeqCst);
        if pair.up.passed > 0 && !pair.asked {
            pair.asked = true;
            self.seen.asked.fetch_add(1, Ordering::SeqCst);
        }
        if (pair.up.ended || broken || hangs_up) && !pair.left {
            pair.left = true;
            self.seen.left.fetch_add(1, Ordering::SeqCst);
        }
        if at_the_limit && !pair.at_the_limit {
            pair.at_the_limit = true;
            self.seen.at_the_limit.fetch_add(1, Ordering::SeqCst);
        }
        let done = pair.up.told && pair.down.told;
        if broken || done || hangs_up {
            self.pairs.remove(&number);
        }
    }
}
