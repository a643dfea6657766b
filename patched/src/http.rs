//! An HTTP/1.1 server on one native thread, with or without TLS, that answers as its path says.
//!
//! `/echo/TEXT` gives the text back, `/late/MS/TEXT` does so after so many milliseconds, and `/gate/NAME/N/TEXT` when so many
//! requests for that name have come.

#![forbid(unsafe_code)]

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A certificate for `localhost` that signs itself.
#[derive(Debug)]
pub struct Certificate {
    /// For clients that read PEM.
    pub pem: String,
    /// For those that read DER.
    pub der: Vec<u8>,
    key: Vec<u8>,
}

impl Default for Certificate {
    fn default() -> Certificate {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let key = made.signing_key.serialize_der();
        Certificate { pem: made.cert.pem(), der: made.cert.der().to_vec(), key }
    }
}

/// See the module. Ends when dropped, and hangs up on all.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    end: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<thread::JoinHandle<()>>,
}

impl HttpServer {
    /// Starts one without TLS.
    pub fn plain() -> HttpServer {
        HttpServer::start(None)
    }

    /// Starts one with TLS.
    pub fn tls(certificate: &Certificate) -> HttpServer {
        let chain = vec![CertificateDer::from(certificate.der.clone())];
        let key = PrivateKeyDer::try_from(certificate.key.clone()).expect("PKCS#8");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("they fit");
        HttpServer::start(Some(Arc::new(config)))
    }

    fn start(config: Option<Arc<ServerConfig>>) -> HttpServer {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket can");
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new().expect("a poller");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("it is a socket");
        let waker = Waker::new(poll.registry(), WAKER).expect("a waker");
        let end = Arc::new(AtomicBool::new(false));
        let worker = Worker { poll, listener, config, answers: Answers::default(), peers: HashMap::new(), next: 0 };
        let seen = end.clone();
        let thread =
            Some(thread::Builder::new().name("http".into()).spawn(move || worker.run(&seen)).expect("a thread"));
        HttpServer { address, end, waker, thread }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
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
    config: Option<Arc<ServerConfig>>,
    answers: Answers,
    peers: HashMap<usize, Peer>,
    next: usize,
}

/// What was asked and is not due yet.
#[derive(Default)]
struct Answers {
    late: BinaryHeap<Reverse<(Instant, usize, String)>>,
    gates: HashMap<String, Vec<(usize, String)>>,
    due: Vec<(usize, String)>,
}

impl Answers {
    fn ask(&mut self, peer: usize, path: &str) {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            ["late", ms, text] => {
                let at = Instant::now() + Duration::from_millis(ms.parse().unwrap_or(0));
                self.late.push(Reverse((at, peer, text.to_owned())));
            }
            ["gate", name, count, text] => {
                let gate = self.gates.entry(name.to_owned()).or_default();
                gate.push((peer, text.to_owned()));
                if gate.len() == count.parse().unwrap_or(0) {
                    self.due.append(gate);
                }
            }
            ["echo", text] => self.due.push((peer, text.to_owned())),
            _ => self.due.push((peer, "what?".to_owned())),
        }
    }

    /// How long nothing becomes due by itself.
    fn timeout(&self) -> Option<Duration> {
        // The poller counts whole milliseconds, and early is as wrong as late.
        self.late
            .peek()
            .map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn take_due(&mut self) -> Vec<(usize, String)> {
        let now = Instant::now();
        while self.late.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, peer, text))) = self.late.pop() else { break };
            self.due.push((peer, text));
        }
        std::mem::take(&mut self.due)
    }
}

struct Peer {
    stream: TcpStream,
    tls: Option<ServerConnection>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The client wants no more after the answer.
    last: bool,
}

impl Worker {
    fn run(mut self, end: &AtomicBool) {
        let mut events = Events::with_capacity(1024);
        while !end.load(Ordering::SeqCst) {
            match self.poll.poll(&mut events, self.answers.timeout()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.expect("it polls"),
            }
            for event in &events {
                match event.token() {
                    LISTENER => {
                        accept(&self.poll, &self.listener, self.config.as_ref(), &mut self.peers, &mut self.next);
                    }
                    WAKER => {}
                    Token(number) => {
                        let Some(peer) = self.peers.get_mut(&number) else { continue };
                        if peer.serve(number, &mut self.answers).is_err() {
                            self.peers.remove(&number);
                        }
                    }
                }
            }
            for (number, text) in self.answers.take_due() {
                let Some(peer) = self.peers.get_mut(&number) else { continue };
                let close = if peer.last { "connection: close\r\n" } else { "" };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{close}content-length: {}\r\n\r\n{text}",
                    text.len()
                );
                peer.output.extend_from_slice(answer.as_bytes());
                if peer.flush().is_err() || (peer.last && peer.output.is_empty()) {
                    self.peers.remove(&number);
                }
            }
        }
    }
}

fn accept(
    poll: &Poll,
    listener: &TcpListener,
    config: Option<&Arc<ServerConfig>>,
    peers: &mut HashMap<usize, Peer>,
    next: &mut usize,
) {
    while let Ok((mut stream, _)) = listener.accept() {
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(*next), both).expect("it is a socket");
        let tls = config.map(|config| ServerConnection::new(config.clone()).expect("the configuration is whole"));
        peers.insert(*next, Peer { stream, tls, input: Vec::new(), output: Vec::new(), last: false });
        *next += 1;
    }
}

impl Peer {
    /// Takes what has come and asks what it asks. An error is the end of the connection, too.
    fn serve(&mut self, number: usize, answers: &mut Answers) -> io::Result<()> {
        let ended = self.fill()?;
        while let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&self.input[..end]).into_owned();
            self.input.drain(..end + 4);
            self.last |= head.to_ascii_lowercase().contains("connection: close");
            answers.ask(number, head.split(' ').nth(1).unwrap_or(""));
        }
        self.flush()?;
        if ended { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads until there is nothing, and tells whether the end has come.
    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        loop {
            let count = match &mut self.tls {
                None => self.stream.read(&mut buffer),
                Some(tls) => tls.read_tls(&mut self.stream),
            };
            match count {
                Ok(0) => return Ok(true),
                Ok(count) if self.tls.is_none() => self.input.extend_from_slice(&buffer[..count]),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if let Some(tls) = &mut self.tls {
                let state = tls.process_new_packets().map_err(io::Error::other)?;
                let before = self.input.len();
                self.input.resize(before + state.plaintext_bytes_to_read(), 0);
                tls.reader().read_exact(&mut self.input[before..])?;
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(&self.output)?;
            self.output.clear();
            while tls.wants_write() {
                match tls.write_tls(&mut self.stream) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    other => other?,
                };
            }
            return Ok(());
        }
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
