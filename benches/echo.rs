//! Echoes 64 bytes over TCP: CPU time of the server's thread for one request.
//!
//! The load comes from another thread, the same for all: a bare epoll loop that sends on each connection what it got back.
//! Servers take turns in rounds, so that what else the machine does falls on all of them; a ratio is that of two
//! neighbours in a round.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use greenroom_benches::{Epoll, clock_of_this_thread, is_quick, is_trial, least, median, read_clock};

const MESSAGE: usize = 64;
const BUFFER: usize = 4096;

/// Serves that many connections until all have closed; tells address and CPU clock first.
type Server = fn(usize, Sender<(SocketAddr, libc::clockid_t)>);

fn main() {
    let servers: [(&str, Server); 4] = [("floor", bare), ("greenroom", greenroom), ("tokio", tokio), ("may", may)];
    let (requests, rounds) = match (is_trial(), is_quick()) {
        (true, _) => (500, 1),
        (_, true) => (20_000, 3),
        _ => (60_000, 9),
    };
    for connections in [1, 64, 256] {
        let requests = if connections == 1 { requests / 4 } else { requests };
        let mut costs: [Vec<f64>; 4] = Default::default();
        for _ in 0..rounds {
            for (costs, (_, server)) in costs.iter_mut().zip(servers) {
                costs.push(measure(server, connections, requests));
            }
        }
        for (costs_of_one, (name, _)) in costs.iter().zip(servers) {
            let ratios: Vec<f64> = costs_of_one.iter().zip(&costs[0]).map(|(one, floor)| one / floor).collect();
            println!(
                "echo/{connections:<3} {name:<10} {:5.2} µs of CPU a request at least, {:5.2} median; to the floor {:.3} at least, {:.3} median",
                least(costs_of_one),
                median(costs_of_one.clone()),
                least(&ratios),
                median(ratios.clone()),
            );
        }
    }
}

/// Microseconds of CPU for one request.
fn measure(server: Server, connections: usize, requests: usize) -> f64 {
    let (tell, told) = channel();
    let serving = thread::spawn(move || server(connections, tell));
    let (address, clock) = told.recv().expect("a server tells where it is");
    let mut load = Load::connect(address, connections).expect("the server listens");
    load.run(requests / 5).expect("the server answers");
    let before = read_clock(clock);
    let answered = load.run(requests).expect("the server answers");
    let spent = read_clock(clock) - before;
    drop(load);
    serving.join().expect("the server ends with its last connection");
    spent.as_secs_f64() * 1e6 / answered as f64
}

/// The load: connections that each have one request under way.
struct Load {
    epoll: Epoll,
    connections: Vec<TcpStream>,
}

impl Load {
    fn connect(address: SocketAddr, connections: usize) -> io::Result<Load> {
        let epoll = Epoll::new()?;
        let connections = (0..connections)
            .map(|index| {
                let connection = TcpStream::connect(address)?;
                connection.set_nodelay(true)?;
                connection.set_nonblocking(true)?;
                epoll.add(connection.as_raw_fd(), index as u64)?;
                Ok(connection)
            })
            .collect::<io::Result<_>>()?;
        Ok(Load { epoll, connections })
    }

    /// Sends on every connection and answers each answer, until at least so many came; says how many.
    fn run(&mut self, requests: usize) -> io::Result<usize> {
        let message = [7; MESSAGE];
        let mut events = Epoll::room();
        for mut connection in &self.connections {
            connection.write_all(&message)?;
        }
        let (mut answered, mut under_way) = (0, self.connections.len());
        while under_way > 0 {
            for event in self.epoll.wait(&mut events)? {
                let mut connection = &self.connections[event.u64 as usize];
                let mut answer = [0; BUFFER];
                let got = connection.read(&mut answer)?;
                assert_eq!(answer[..got], message, "an echo");
                answered += 1;
                under_way -= 1;
                if answered + under_way < requests {
                    connection.write_all(&message)?;
                    under_way += 1;
                }
            }
        }
        Ok(answered)
    }
}

fn listen() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

/// The floor: a loop by hand, level-triggered, which needs no call beyond the two of the echo and a share of the poll.
fn bare(connections: usize, tell: Sender<(SocketAddr, libc::clockid_t)>) {
    let listener = listen();
    tell.send((listener.local_addr().expect("it is bound"), clock_of_this_thread())).expect("somebody listens");
    let epoll = Epoll::new().expect("descriptors are left");
    let mut open: Vec<Option<TcpStream>> = (0..connections)
        .map(|index| {
            let (stream, _) = listener.accept().expect("connections come");
            stream.set_nodelay(true).expect("it is open");
            stream.set_nonblocking(true).expect("it is open");
            epoll.add(stream.as_raw_fd(), index as u64).expect("it is open");
            Some(stream)
        })
        .collect();
    let mut events = Epoll::room();
    let mut left = connections;
    let mut buffer = [0; BUFFER];
    while left > 0 {
        for event in epoll.wait(&mut events).expect("it is open") {
            let place = &mut open[event.u64 as usize];
            let Some(stream) = place else { continue };
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => {
                    *place = None;
                    left -= 1;
                }
                Ok(got) => stream.write_all(&buffer[..got]).expect("the buffer has room"),
            }
        }
    }
}

fn greenroom(connections: usize, tell: Sender<(SocketAddr, libc::clockid_t)>) {
    let listener = greenroom::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    tell.send((listener.local_addr().expect("it is bound"), clock_of_this_thread())).expect("somebody listens");
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (mut stream, _) = listener.accept().expect("connections come");
            stream.set_nodelay(true).expect("it is open");
            greenroom::spawn(move || {
                let mut buffer = [0; BUFFER];
                while let Ok(got @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..got]).expect("the peer reads");
                }
            })
        })
        .collect();
    greenroom::joinall(tasks);
}

fn tokio(connections: usize, tell: Sender<(SocketAddr, libc::clockid_t)>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("descriptors are left");
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        tell.send((listener.local_addr().expect("it is bound"), clock_of_this_thread())).expect("somebody listens");
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().await.expect("connections come");
            stream.set_nodelay(true).expect("it is open");
            tasks.push(tokio::spawn(async move {
                let mut buffer = [0; BUFFER];
                while let Ok(got @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..got]).await.expect("the peer reads");
                }
            }));
        }
        for task in tasks {
            task.await.expect("it does not panic");
        }
    });
}

fn may(connections: usize, tell: Sender<(SocketAddr, libc::clockid_t)>) {
    may::config().set_workers(1).set_stack_size(0x2000);
    let body = move || {
        let listener = may::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        // Its one worker runs everything, the polling too.
        tell.send((listener.local_addr().expect("it is bound"), clock_of_this_thread())).expect("somebody listens");
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let (mut stream, _) = listener.accept().expect("connections come");
                stream.set_nodelay(true).expect("it is open");
                let body = move || {
                    let mut buffer = [0; BUFFER];
                    while let Ok(got @ 1..) = stream.read(&mut buffer) {
                        stream.write_all(&buffer[..got]).expect("the peer reads");
                    }
                };
                // SAFETY: the body uses no thread-locals, and little more than its buffer of the 64 KiB set above.
                unsafe { may::coroutine::spawn(body) }
            })
            .collect();
        for task in tasks {
            task.join().expect("it does not panic");
        }
    };
    // SAFETY: as above.
    unsafe { may::coroutine::spawn(body) }.join().expect("it does not panic");
}
