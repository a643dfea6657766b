//! HTTP/1.1 over TCP: CPU time of the server's thread for one request of the plaintext page.
//!
//! The server of greenroom is the example `http_server` as it stands, limits and timeouts included. The load comes from another
//! thread, the same for all: a bare epoll loop that keeps so many requests under way on each connection. As in `echo`,
//! servers take turns in rounds; a ratio is that of two neighbours in a round.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use greenroom_benches::{Epoll, clock_of_this_thread, is_quick, is_trial, least, median, read_clock};

#[path = "../examples/http_server/connection.rs"]
#[allow(dead_code, reason = "the bench uses a part of the example")]
mod connection;
#[path = "../examples/http_server/message.rs"]
#[allow(dead_code, reason = "as above")]
mod message;
#[path = "../examples/http_server/site.rs"]
mod site;

const REQUEST: &[u8] =
    b"GET /plaintext HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: bench/1.0\r\nAccept: text/plain,text/html;q=0.9,*/*;q=0.1\r\n\r\n";
const BODY: &str = "Hello, World!";

/// Serves that many connections until all have closed; tells address and CPU clock first.
type Server = fn(usize, Sender<(SocketAddr, libc::clockid_t)>);

fn main() {
    let servers: [(&str, Server); 3] = [("greenroom", greenroom), ("hyper", hyper), ("may", may)];
    let (requests, rounds) = match (is_trial(), is_quick()) {
        (true, _) => (500, 1),
        (_, true) => (20_000, 3),
        _ => (60_000, 9),
    };
    for (connections, depth) in [(1, 1), (64, 1), (256, 1), (1, 16), (64, 16)] {
        let requests = if connections == 1 && depth == 1 { requests / 4 } else { requests };
        let mut costs: [Vec<f64>; 3] = Default::default();
        for _ in 0..rounds {
            for (costs, (_, server)) in costs.iter_mut().zip(servers) {
                costs.push(measure(server, connections, depth, requests));
            }
        }
        for (costs_of_one, (name, _)) in costs.iter().zip(servers) {
            let ratios: Vec<f64> = costs_of_one.iter().zip(&costs[0]).map(|(one, ours)| one / ours).collect();
            println!(
                "http/{connections:<3} by {depth:<2} {name:<10} {:5.2} µs of CPU a request at least, {:5.2} median; to greenroom {:.3} median",
                least(costs_of_one),
                median(costs_of_one.clone()),
                median(ratios),
            );
        }
    }
}

/// Microseconds of CPU for one request.
fn measure(server: Server, connections: usize, depth: usize, requests: usize) -> f64 {
    let (tell, told) = channel();
    let serving = thread::spawn(move || server(connections, tell));
    let (address, clock) = told.recv().expect("a server tells where it is");
    let mut load = Load::connect(address, connections, depth).expect("the server listens");
    load.run(requests / 5).expect("the server answers");
    let before = read_clock(clock);
    let answered = load.run(requests).expect("the server answers");
    let spent = read_clock(clock) - before;
    drop(load);
    serving.join().expect("the server ends with its last connection");
    spent.as_secs_f64() * 1e6 / answered as f64
}

/// The load: connections that each have `depth` requests under way, sent together.
struct Load {
    epoll: Epoll,
    connections: Vec<TcpStream>,
    batch: Vec<u8>,
    depth: usize,
    /// Bytes of an answer: they are all alike.
    answer: usize,
}

impl Load {
    fn connect(address: SocketAddr, connections: usize, depth: usize) -> io::Result<Load> {
        let epoll = Epoll::new()?;
        let mut answer = 0;
        let connections = (0..connections)
            .map(|index| {
                let mut connection = TcpStream::connect(address)?;
                connection.set_nodelay(true)?;
                connection.write_all(REQUEST)?;
                let mut text = Vec::new();
                while !text.ends_with(BODY.as_bytes()) {
                    let mut part = [0; 1024];
                    let got = connection.read(&mut part)?;
                    assert_ne!(got, 0, "an answer to its end");
                    text.extend_from_slice(&part[..got]);
                }
                assert!(text.starts_with(b"HTTP/1.1 200 "), "a good answer");
                answer = text.len();
                connection.set_nonblocking(true)?;
                epoll.add(connection.as_raw_fd(), index as u64)?;
                Ok(connection)
            })
            .collect::<io::Result<_>>()?;
        Ok(Load { epoll, connections, batch: REQUEST.repeat(depth), depth, answer })
    }

    /// Sends on every connection, and again whenever all its answers are there, until at least so many came; says how many.
    fn run(&mut self, requests: usize) -> io::Result<usize> {
        let mut events = Epoll::room();
        let mut buffer = vec![0; 64 * 1024];
        let mut missing = vec![self.depth * self.answer; self.connections.len()];
        for mut connection in &self.connections {
            connection.write_all(&self.batch)?;
        }
        let (mut answered, mut under_way) = (0, self.connections.len());
        while under_way > 0 {
            for event in self.epoll.wait(&mut events)? {
                let index = event.u64 as usize;
                let mut connection = &self.connections[index];
                let got = connection.read(&mut buffer)?;
                assert_ne!(got, 0, "the connection stays");
                missing[index] -= got;
                if missing[index] > 0 {
                    continue;
                }
                assert!(buffer[..got].ends_with(BODY.as_bytes()), "a whole answer");
                answered += self.depth;
                under_way -= 1;
                if answered + under_way * self.depth < requests {
                    missing[index] = self.depth * self.answer;
                    connection.write_all(&self.batch)?;
                    under_way += 1;
                }
            }
        }
        Ok(answered)
    }
}

fn greenroom(connections: usize, tell: Sender<(SocketAddr, libc::clockid_t)>) {
    let limits = connection::Limits {
        head: 16 * 1024,
        body: 1024 * 1024,
        idle: Duration::from_secs(60),
        request: Duration::from_secs(10),
        write: Duration::from_secs(30),
    };
    let service = connection::Service::new(site::Pages::new(None), limits);
    let listener = greenroom::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let builder = greenroom::server::StreamServer::builder(listener);
    let (handle, left) = (builder.handle(), Rc::new(Cell::new(connections)));
    let server = builder.build(move |stream, _client| {
        let _gone = service.serve(stream);
        left.set(left.get() - 1);
        if left.get() == 0 {
            handle.stop_nowait(Duration::from_secs(1));
        }
    });
    tell.send((server.local_addr().expect("it is bound"), clock_of_this_thread())).expect("somebody listens");
    server.serve_forever().expect("nothing fails");
}

fn hyper(connections: usize, tell: Sender<(SocketAddr, libc::clockid_t)>) {
    use http_body_util::Full;
    use hyper::body::{Bytes, Incoming};
    use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
    use hyper::{Method, Request, Response, StatusCode};

    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
        let mut response = Response::new(Full::new(Bytes::new()));
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/plaintext") => *response.body_mut() = Full::new(Bytes::from_static(BODY.as_bytes())),
            _ => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        response.headers_mut().insert(SERVER, HeaderValue::from_static("hyper"));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("descriptors are left");
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        tell.send((listener.local_addr().expect("it is bound"), clock_of_this_thread())).expect("somebody listens");
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let (stream, _) = listener.accept().await.expect("connections come");
            stream.set_nodelay(true).expect("it is open");
            tasks.push(tokio::spawn(async move {
                let mut server = hyper::server::conn::http1::Builder::new();
                // Pipelined answers together, as the others send them.
                server.pipeline_flush(true);
                let service = hyper::service::service_fn(answer);
                let _gone = server.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
            }));
        }
        for task in tasks {
            task.await.expect("it does not panic");
        }
    });
}

fn may(_connections: usize, tell: Sender<(SocketAddr, libc::clockid_t)>) {
    #[derive(Clone)]
    struct Plain;

    impl may_minihttp::HttpService for Plain {
        fn call(&mut self, request: may_minihttp::Request, response: &mut may_minihttp::Response) -> io::Result<()> {
            match request.path() {
                "/plaintext" => {
                    response.header("Content-Type: text/plain").body(BODY);
                }
                _ => {
                    response.status_code(404, "Not Found");
                }
            }
            Ok(())
        }
    }

    may::config().set_workers(1).set_stack_size(0x2000);
    // Its one worker runs everything, the polling too.
    // SAFETY: the body needs next to no stack, and reads a thread's number on the worker on purpose.
    let clock = unsafe { may::coroutine::spawn(clock_of_this_thread) }.join().expect("it does not panic");
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");
    let accepting = may_minihttp::HttpServer(Plain).start(address).expect("the port is still free");
    tell.send((address, clock)).expect("somebody listens");
    // Its coroutines end with their connections, and the one that accepts never: it waits on, and costs nothing.
    drop(accepting);
}
