//! Rule 22: servers.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Count, EVER, Log, MS, OnDrop, check, fail, in_child, soon, stderr};
use greenroom::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use greenroom::server::{DatagramServer, Listen, STOP_TIMEOUT, StreamServer};
use greenroom::{idle, joinall, park, scope, sleep, spawn, timeout, yield_now};

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Reads to the end, which a connection that is cut also has.
fn rest(mut stream: impl Read) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    String::from_utf8(text).unwrap()
}

fn connect(server: &StreamServer<TcpListener>) -> TcpStream {
    TcpStream::connect(server.local_addr().unwrap()).unwrap()
}

/// Lets everything happen that can happen without further ado from outside.
fn settle() {
    sleep(5 * MS);
    idle();
}

/// Waits until it is so.
#[track_caller]
fn until(met: impl Fn() -> bool) {
    let begun = Instant::now();
    while !met() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never is");
        sleep(MS);
    }
}

fn limit_descriptors(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: the limit is alive for the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

fn cpu_of_this_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is written.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

// Serving.

#[test]
fn each_client_has_a_task_of_its_own() {
    check(|| {
        let server = StreamServer::new(listener(), |stream: TcpStream, client: SocketAddr| -> io::Result<()> {
            assert_eq!(stream.peer_addr()?, client);
            io::copy(&mut &stream, &mut &stream).map(drop)
        });
        assert!(!server.is_running());
        server.start().unwrap();
        server.start().unwrap();
        assert!(server.is_running());
        let clients: Vec<_> = (0..50).map(|_| connect(&server)).collect();
        // The last first: none is held up by another.
        for (number, mut client) in clients.iter().enumerate().rev() {
            let number = [number as u8; 3];
            client.write_all(&number).unwrap();
            let mut echo = [0; 3];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(echo, number);
        }
        let counts = server.counts();
        assert_eq!((counts.accepted, counts.active, counts.errors), (50, 50, 0));
        drop(clients);
        until(|| server.counts().active == 0);
        server.stop();
        assert!(!server.is_running());
    });
}

#[test]
fn unix_sockets_are_served_alike() {
    check(|| {
        let path = std::env::temp_dir().join(format!("greenroom-server-{}", std::process::id()));
        let server = StreamServer::new(UnixListener::bind(&path).unwrap(), |mut stream: UnixStream, _client| {
            stream.write_all(b"unix")
        });
        assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*path));
        server.start().unwrap();
        assert_eq!(rest(UnixStream::connect(&path).unwrap()), "unix");
        server.stop();
        assert!(UnixStream::connect(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn a_full_pool_leaves_clients_in_the_backlog() {
    check(|| {
        let server = StreamServer::builder(listener()).pool_size(2).build(|mut stream: TcpStream, _| {
            stream.write_all(b"in").unwrap();
            let _gone = stream.read_exact(&mut [0]);
        });
        server.start().unwrap();
        let (first, second, third) = (connect(&server), connect(&server), connect(&server));
        let greeting = |mut stream: &TcpStream| stream.read_exact(&mut [0; 2]);
        greeting(&first).unwrap();
        greeting(&second).unwrap();
        settle();
        // Connected, for the system has taken him in, but not accepted.
        assert_eq!(server.counts().accepted, 2);
        assert!(timeout(5 * MS, || greeting(&third)).is_err());

        drop(second);
        greeting(&third).unwrap();
        assert_eq!((server.counts().accepted, server.counts().active), (3, 2));

        let fourth = connect(&server);
        server.stop_timeout(Duration::ZERO);
        assert_eq!((rest(first), rest(third)), (String::new(), String::new()));
        assert_eq!(rest(fourth), "", "who waits in the backlog is not forgotten there");
    });
}

#[test]
fn a_panic_closes_its_client_only_and_is_reported_once() {
    let output = in_child("a_panic_closes_its_client_only_and_is_reported_once", || {
        let server = StreamServer::builder(listener()).pool_size(1).build(|mut stream: TcpStream, _| {
            let mut wish = [0];
            stream.read_exact(&mut wish).unwrap();
            assert_ne!(wish, *b"p", "as wished");
            stream.write_all(b"fine").unwrap();
        });
        server.start().unwrap();
        for _ in 0..3 {
            let mut good = connect(&server);
            let mut bad = connect(&server);
            good.write_all(b"g").unwrap();
            bad.write_all(b"p").unwrap();
            assert_eq!((rest(bad).as_str(), rest(good).as_str()), ("", "fine"));
        }
        server.stop();
        assert_eq!(server.counts().accepted, 6);
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output).matches("as wished").count(), 3, "{}", stderr(&output));
    }
}

/// A listener of the test's own: gives what it was told to, then waits for ever.
struct Script(RefCell<VecDeque<io::Result<&'static str>>>);

impl Script {
    fn new(steps: impl IntoIterator<Item = io::Result<&'static str>>) -> Script {
        Script(RefCell::new(steps.into_iter().collect()))
    }
}

impl Listen for Script {
    type Stream = &'static str;
    type Address = ();

    fn accept(&self) -> io::Result<(&'static str, ())> {
        let next = self.0.borrow_mut().pop_front();
        match next {
            Some(step) => step.map(|stream| (stream, ())),
            None => loop {
                park();
            },
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

fn os_error<T>(code: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(code))
}

#[test]
fn what_concerns_one_client_is_tried_again_at_once() {
    check(|| {
        let errors =
            [libc::ECONNABORTED, libc::EPROTO, libc::EINTR, libc::ENETDOWN, libc::EHOSTUNREACH, libc::ENETUNREACH];
        let mut steps: Vec<_> = errors.into_iter().map(os_error).collect();
        steps.push(Ok("client"));
        let log = Log::default();
        let seen = log.clone();
        let server = StreamServer::new(Script::new(steps), move |client, ()| seen.add(client));
        server.start().unwrap();
        // No time passes.
        idle();
        assert_eq!(log.take(), ["client"]);
        assert_eq!(server.counts().errors, errors.len() as u64);
        server.stop();
    });
}

#[test]
fn even_these_make_no_busy_loop() {
    check(|| {
        struct Aborted(Count);
        impl Listen for Aborted {
            type Stream = ();
            type Address = ();
            fn accept(&self) -> io::Result<((), ())> {
                self.0.up();
                os_error(libc::ECONNABORTED)
            }
            fn local_addr(&self) -> io::Result<()> {
                Ok(())
            }
        }
        let tries = Count::default();
        let server = StreamServer::new(Aborted(tries.clone()), |(), ()| ());
        server.start().unwrap();
        let begun = Instant::now();
        sleep(100 * MS);
        let pauses = begun.elapsed().as_millis().ilog2();
        assert!(tries.get() <= 65 + u64::from(pauses), "{} tries", tries.get());
        server.stop();
        assert_eq!(server.counts().errors, tries.get());
    });
}

#[test]
fn what_is_used_up_is_waited_for_longer_and_longer() {
    check(|| {
        let steps = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM].map(os_error);
        let again = [Ok("first"), os_error(libc::EMFILE), Ok("second")];
        let (log, begun) = (Rc::new(RefCell::new(Vec::new())), Instant::now());
        let seen = log.clone();
        let server = StreamServer::new(Script::new(steps.into_iter().chain(again)), move |_, ()| {
            seen.borrow_mut().push(begun.elapsed());
        });
        server.start().unwrap();
        until(|| log.borrow().len() == 2);
        let log = log.take();
        assert!(log[0] >= (10 + 20 + 40 + 80) * MS, "{log:?}");
        assert!(log[0] < (10 + 20 + 40 + 80 + 160) * MS || cfg!(debug_assertions), "{log:?}");
        let after_success = log[1] - log[0];
        assert!(after_success >= 10 * MS && after_success < 160 * MS, "it began anew: {log:?}");
        server.stop();
    });
}

/// Clients in a process of their own, which has its own descriptors.
#[cfg(target_os = "linux")]
struct Crowd {
    process: greenroom::process::Child,
    line: UnixStream,
}

#[cfg(target_os = "linux")]
impl Crowd {
    const ADDRESS: &str = "GREENROOM_CROWD";

    /// Runs `test` in another process, which finds the server's address there.
    fn start(test: &str, server: SocketAddr) -> Crowd {
        let (line, theirs) = UnixStream::pair().unwrap();
        let mut command = greenroom::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]).env(Self::ADDRESS, server.to_string());
        command.stdin(std::os::fd::OwnedFd::from(theirs)).stdout(Stdio::null()).kill_on_drop(true);
        Crowd { process: command.spawn().unwrap(), line }
    }

    /// Tells it what to do, and waits until it is done.
    fn must(&self, action: u8, from: usize, to: usize) {
        let order: Vec<u8> = [action as usize, from, to].into_iter().flat_map(usize::to_le_bytes).collect();
        (&self.line).write_all(&order).unwrap();
        (&self.line).read_exact(&mut [0]).unwrap();
    }

    fn go(mut self) {
        drop(self.line);
        assert!(self.process.wait().unwrap().success());
    }

    /// What it does there.
    fn be(server: &str) {
        use std::os::fd::AsFd;
        let fd = io::stdin().as_fd().try_clone_to_owned().unwrap();
        let mut line = std::os::unix::net::UnixStream::from(fd);
        let mut all = Vec::new();
        let mut order = [0; 24];
        while line.read_exact(&mut order).is_ok() {
            let [action, from, to] =
                [0, 8, 16].map(|at| usize::from_le_bytes(std::array::from_fn(|byte| order[at + byte])));
            match action as u8 {
                Self::COME => all.extend((from..to).map(|_| Some(Self::client(server)))),
                Self::ASK => all[from..to].iter().flatten().for_each(Self::ask),
                Self::LEAVE => all[from..to].fill_with(|| None),
                other => panic!("nobody says {other}"),
            }
            line.write_all(&[0]).unwrap();
        }
    }

    const COME: u8 = b'c';
    const ASK: u8 = b'a';
    const LEAVE: u8 = b'l';

    fn client(server: &str) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // When it goes, its port is free at once: other tests need some.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        stream
    }

    fn ask(mut stream: &std::net::TcpStream) {
        stream.write_all(b"?").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn with_all_descriptors_used_up_who_is_in_is_served_and_the_rest_when_some_leave() {
    const NAME: &str = "with_all_descriptors_used_up_who_is_in_is_served_and_the_rest_when_some_leave";
    /// As many as are permitted, up to this. With fewer than some 300 there is no crowd to speak of.
    const MOST: u64 = 20_000;
    /// So many more clients come than there is room for. They fit into the listener's backlog.
    const WAITING: usize = 50;

    if let Ok(server) = std::env::var(Crowd::ADDRESS) {
        return Crowd::be(&server);
    }
    let output = in_child(NAME, || {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limit is written.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
        let most = limit.rlim_max.min(MOST);
        limit_descriptors(most);

        let server = StreamServer::new(listener(), |stream: TcpStream, _| io::copy(&mut &stream, &mut &stream));
        server.start().unwrap();
        let crowds = [(); 2].map(|()| Crowd::start(NAME, server.local_addr().unwrap()));
        crowds.iter().for_each(|crowd| crowd.must(Crowd::COME, 0, 1));
        until(|| server.counts().active == 2);

        // One of the open ones is the list itself.
        let free = most as usize - (std::fs::read_dir("/proc/self/fd").unwrap().count() - 1);
        let half = free / 2;
        crowds[0].must(Crowd::COME, 0, half);
        crowds[1].must(Crowd::COME, half, free + WAITING);
        until(|| server.counts().errors > 0);
        assert_eq!(server.counts().accepted as usize, free + 2);
        assert_eq!(TcpStream::connect(server.local_addr().unwrap()).unwrap_err().raw_os_error(), Some(libc::EMFILE));

        // Tries get rarer, and cost nothing between.
        let (before, used, begun) = (server.counts().errors, cpu_of_this_thread(), Instant::now());
        let others = free - half;
        crowds[0].must(Crowd::ASK, 0, half);
        crowds[1].must(Crowd::ASK, 0, others);
        let (asked, serving) = (begun.elapsed(), cpu_of_this_thread() - used);
        sleep(1500 * MS);
        let idling = cpu_of_this_thread() - used - serving;
        let tries = server.counts().errors - before;
        assert!(tries >= 1 && tries <= 8 + begun.elapsed().as_secs(), "{tries} tries in {:?}", begun.elapsed());
        assert!(idling < 20 * MS, "{idling:?} of 1.5 s, with nothing to do");
        assert_eq!((server.counts().accepted as usize, server.counts().active as usize), (free + 2, free + 2));

        // Those who wait come in as others go, at the next try.
        crowds[0].must(Crowd::LEAVE, 0, WAITING / 2);
        until(|| server.counts().accepted as usize == free + 2 + WAITING / 2);
        crowds[1].must(Crowd::ASK, others + 1, others + 1 + WAITING / 2);
        crowds[0].must(Crowd::LEAVE, WAITING / 2, half / 2);
        crowds[1].must(Crowd::ASK, others + 1 + WAITING / 2, others + 1 + WAITING);
        // And there is room again.
        crowds[1].must(Crowd::COME, 0, 20);
        crowds[1].must(Crowd::ASK, others + 1 + WAITING, others + 1 + WAITING + 20);
        eprintln!("{free} served in {asked:?} ({serving:?} of CPU time), {tries} tries, {idling:?} idling");

        crowds.into_iter().for_each(Crowd::go);
        until(|| server.counts().active == 0);
        server.stop();
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_listener_that_is_no_good_ends_the_server_and_serve_forever_says_why() {
    check(|| {
        for code in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
            let log = Log::default();
            let seen = log.clone();
            let steps = [Ok("client"), os_error(code)];
            let server = StreamServer::new(Script::new(steps), move |client, ()| {
                sleep(MS);
                seen.add(client);
            });
            let error = soon(|| server.serve_forever()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(code));
            // Who was there is served to the end.
            assert_eq!(log.take(), ["client"]);
            server.serve_forever().unwrap();
            server.start().unwrap_err();
        }
    });
}

#[test]
fn a_panic_in_accept_ends_the_server() {
    check(|| {
        struct Bad;
        impl Listen for Bad {
            type Stream = ();
            type Address = ();
            fn accept(&self) -> io::Result<((), ())> {
                fail("no more of this")
            }
            fn local_addr(&self) -> io::Result<()> {
                os_error(libc::EADDRNOTAVAIL)
            }
        }
        let server = StreamServer::new(Bad, |(), ()| ());
        assert_eq!(server.local_addr().unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        let error = server.serve_forever().unwrap_err();
        assert!(error.to_string().contains("no more of this"), "{error}");
    });
}

#[test]
fn a_listener_that_never_waits_starves_nobody() {
    check(|| {
        struct Flood(Count);
        impl Listen for Flood {
            type Stream = ();
            type Address = ();
            fn accept(&self) -> io::Result<((), ())> {
                self.0.up();
                Ok(((), ()))
            }
            fn local_addr(&self) -> io::Result<()> {
                Ok(())
            }
        }
        let (accepted, served) = (Count::default(), Count::default());
        let theirs = served.clone();
        let server = StreamServer::new(Flood(accepted.clone()), move |(), ()| theirs.up());
        server.start().unwrap();
        for turn in 1..=20 {
            yield_now();
            assert!(accepted.get() <= 64 * (turn + 1), "{} in {turn} turns", accepted.get());
        }
        assert!(served.get() > 0);
        server.stop();
    });
}

// Descriptors and memory.

#[test]
fn without_descriptors_it_waits_and_goes_on_afterwards() {
    let output = in_child("without_descriptors_it_waits_and_goes_on_afterwards", || {
        let server = StreamServer::new(listener(), |mut stream: TcpStream, _| stream.write_all(b"hello"));
        server.start().unwrap();
        assert_eq!(rest(connect(&server)), "hello");
        until(|| server.counts().active == 0);
        limit_descriptors(200);
        let without_descriptors = || {
            let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
            assert!(!files.is_empty());
            let (before, spent, begun) = (server.counts(), cpu_of_this_thread(), Instant::now());
            sleep(500 * MS);
            // After 10, 20, 40, 80, 160 and 320 ms.
            let (tries, took) = (server.counts().errors - before.errors, begun.elapsed());
            assert!((3..=7).contains(&tries) || took > Duration::from_secs(1), "{tries} tries in {took:?}");
            let spent = cpu_of_this_thread() - spent;
            assert!(spent < 50 * MS, "{spent:?} of CPU");
            assert_eq!(server.counts().accepted, before.accepted);
        };
        // They are in the backlog: this task has not parked since.
        let address = server.local_addr().unwrap();
        let mut clients: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        without_descriptors();
        until(|| server.counts().accepted == 21);
        until(|| server.counts().active == 0);
        // The success counts: it begins with 10 ms again.
        clients.push(std::net::TcpStream::connect(address).unwrap());
        without_descriptors();
        until(|| server.counts().accepted == 22);
        for client in clients {
            assert_eq!(rest(TcpStream::from(client)), "hello");
        }
        server.stop();
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn more_clients_than_descriptors_are_all_served_in_the_end() {
    const NAME: &str = "more_clients_than_descriptors_are_all_served_in_the_end";
    const KEY: &str = "GREENROOM_FEW_DESCRIPTORS";
    const CLIENTS: usize = 400;
    if std::env::var_os(KEY).is_some() {
        limit_descriptors(200);
        let server = StreamServer::new(listener(), |stream: TcpStream, _| io::copy(&mut &stream, &mut &stream));
        // Past the test harness, which keeps what is printed.
        writeln!(io::stdout(), "port {}", server.local_addr().unwrap().port()).unwrap();
        let handle = server.handle();
        drop(spawn(move || {
            until(|| handle.counts().errors > 0);
            writeln!(io::stdout(), "no descriptors").unwrap();
            until(|| handle.counts().accepted as usize == CLIENTS && handle.counts().active == 0);
            assert!(handle.counts().errors < 2000, "{:?}: a busy loop", handle.counts());
            handle.stop();
        }));
        return server.serve_forever().unwrap();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(KEY, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let port: u16 = lines.find_map(|line| Some(line.split_once("port ")?.1.parse().unwrap())).unwrap();
    let clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    // Nobody goes before it is so.
    assert!(lines.any(|line| line == "no descriptors"));
    // All at once; each goes when it has its echo, and makes room.
    let talks = clients.into_iter().map(|mut client| {
        spawn(move || {
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
        })
    });
    joinall(talks.collect::<Vec<_>>()).into_iter().for_each(Result::unwrap);
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
}

#[test]
fn without_memory_for_a_task_the_client_is_closed_and_the_server_goes_on() {
    let output = in_child("without_memory_for_a_task_the_client_is_closed_and_the_server_goes_on", || {
        let server = StreamServer::new(listener(), |mut stream: TcpStream, _| stream.write_all(b"hello"));
        server.start().unwrap();
        yield_now();
        let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
        // SAFETY: the limit is alive for the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
        let mut tasks = Vec::new();
        while let Ok(task) = greenroom::Builder::new().spawn(park) {
            tasks.push(task);
        }
        assert_eq!(rest(connect(&server)), "");
        assert_eq!((server.counts().active, server.counts().errors), (0, 1));
        greenroom::killall(&tasks);
        drop(tasks);
        assert_eq!(rest(connect(&server)), "hello");
        server.stop();
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

// Stopping.

/// A server whose handler greets, waits for a byte and says goodbye, and whose log says how handlers ended.
fn polite(pool: usize) -> (StreamServer<TcpListener>, Log) {
    let log = Log::default();
    let seen = log.clone();
    let server = StreamServer::builder(listener()).pool_size(pool).build(move |mut stream: TcpStream, _| {
        let end = OnDrop(seen.clone(), "cut");
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"bye").unwrap();
        seen.add("served");
        drop(end);
    });
    (server, log)
}

fn greeted(server: &StreamServer<TcpListener>) -> TcpStream {
    let mut client = connect(server);
    client.read_exact(&mut [0; 5]).unwrap();
    client
}

#[test]
fn a_stop_lets_clients_finish_and_closes_the_listener_first() {
    check(|| {
        let (server, log) = polite(10);
        server.start().unwrap();
        let mut client = greeted(&server);
        let stopping = {
            let server = server.clone();
            spawn(move || server.stop_timeout(EVER))
        };
        settle();
        assert!(!stopping.is_finished() && server.is_running());
        assert_eq!(
            TcpStream::connect(server.local_addr().unwrap()).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        client.write_all(b"x").unwrap();
        assert_eq!(rest(client), "bye");
        soon(|| stopping.join()).unwrap();
        assert_eq!(log.take(), ["served", "cut"]);
        assert!(!server.is_running());
        server.stop();
        server.start().unwrap_err();
        server.serve_forever().unwrap();
    });
}

#[test]
fn who_is_left_when_the_time_is_up_is_killed() {
    check(|| {
        for (timeout, least) in [(Duration::ZERO, Duration::ZERO), (20 * MS, 20 * MS)] {
            let (server, log) = polite(10);
            server.start().unwrap();
            let client = greeted(&server);
            let begun = Instant::now();
            soon(|| server.stop_timeout(timeout));
            assert!(begun.elapsed() >= least);
            assert_eq!(log.take(), ["cut"]);
            assert_eq!(rest(client), "");
            assert_eq!(server.counts().active, 0);
        }
        // The default has a bound too.
        let (server, _log) = polite(10);
        server.start().unwrap();
        let _client = greeted(&server);
        let begun = Instant::now();
        soon(|| server.stop());
        assert!(begun.elapsed() >= STOP_TIMEOUT);
    });
}

#[test]
fn of_two_stops_the_earlier_end_holds() {
    check(|| {
        let (server, log) = polite(10);
        server.start().unwrap();
        let _client = greeted(&server);
        let patient = server.clone();
        let patient = spawn(move || patient.stop_timeout(Duration::MAX));
        let impatient = server.clone();
        let impatient = spawn(move || impatient.stop_timeout(2 * EVER));
        settle();
        server.handle().stop_nowait(EVER);
        settle();
        assert!(!patient.is_finished() && !impatient.is_finished());
        soon(|| server.stop_timeout(MS));
        soon(|| (patient.join(), impatient.join())).0.unwrap();
        assert_eq!(log.take(), ["cut"]);
    });
}

#[test]
fn one_that_was_never_started_only_closes() {
    check(|| {
        let (server, _log) = polite(1);
        let handle = server.handle();
        soon(|| handle.stop());
        assert!(!handle.is_running());
        server.start().unwrap_err();
        server.serve_forever().unwrap();
        assert!(TcpStream::connect(server.local_addr().unwrap()).is_err());

        let (server, _log) = polite(1);
        server.stop();
        assert!(TcpStream::connect(server.local_addr().unwrap()).is_err());
        let (server, _log) = polite(1);
        let address = server.local_addr().unwrap();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    });
}

#[test]
fn a_stop_before_the_first_turn_closes_as_well() {
    check(|| {
        let (server, _log) = polite(1);
        server.start().unwrap();
        soon(|| server.stop());
        assert!(TcpStream::connect(server.local_addr().unwrap()).is_err());
    });
}

#[test]
fn a_full_pool_does_not_hold_up_a_stop() {
    check(|| {
        let (server, log) = polite(1);
        server.start().unwrap();
        let (_first, _second) = (greeted(&server), connect(&server));
        settle();
        soon(|| server.stop_timeout(MS));
        assert_eq!(log.take(), ["cut"]);
    });
}

#[test]
fn a_pause_does_not_hold_up_a_stop() {
    check(|| {
        let steps = (0..100).map(|_| os_error(libc::EMFILE));
        let server = StreamServer::new(Script::new(steps), |_, ()| ());
        server.start().unwrap();
        sleep(50 * MS);
        soon(|| server.stop());
    });
}

#[test]
fn a_handler_may_stop_its_server() {
    check(|| {
        let log = Log::default();
        let builder = StreamServer::builder(listener());
        let (handle, seen) = (builder.handle(), log.clone());
        let server = builder.build(move |mut stream: TcpStream, _| {
            handle.stop_timeout(EVER);
            seen.add("asked");
            // It goes on like others who are served.
            sleep(MS);
            assert!(handle.is_running());
            stream.write_all(b"bye").unwrap();
        });
        let address = server.local_addr().unwrap();
        let client = spawn(move || rest(TcpStream::connect(address).unwrap()));
        soon(|| server.serve_forever()).unwrap();
        assert_eq!(client.join().unwrap(), "bye");
        assert_eq!(log.take(), ["asked"]);
    });
}

#[test]
fn serve_forever_ends_with_a_stop_by_another_task() {
    check(|| {
        let (server, log) = polite(10);
        let other = server.clone();
        let stopping = spawn(move || {
            let mut client = greeted(&other);
            client.write_all(b"x").unwrap();
            other.stop();
        });
        soon(|| server.serve_forever()).unwrap();
        stopping.join().unwrap();
        assert_eq!(log.take(), ["served", "cut"]);
    });
}

#[test]
fn serve_forever_ends_with_a_stop_by_another_thread() {
    check(|| {
        for with_hub in [true, false] {
            let (server, _log) = polite(10);
            let (handle, address) = (server.handle(), server.local_addr().unwrap());
            let thread = std::thread::spawn(move || {
                let client = std::net::TcpStream::connect(address).unwrap();
                (&client).read_exact(&mut [0; 5]).unwrap();
                if with_hub {
                    yield_now();
                }
                assert!(handle.is_running());
                assert_eq!(handle.counts().active, 1);
                handle.stop_timeout(10 * MS);
                // It has ended, whole.
                assert!(!handle.is_running());
                assert_eq!(handle.counts().active, 0);
                assert!(std::net::TcpStream::connect(address).is_err());
            });
            soon(|| server.serve_forever()).unwrap();
            until(|| thread.is_finished());
            thread.join().unwrap();
        }
    });
}

#[test]
fn serve_forever_ends_with_a_stop_by_a_signal() {
    check(|| {
        let (server, _log) = polite(10);
        let (writing, mut reading) = UnixStream::pair().unwrap();
        signal_hook::low_level::pipe::register(libc::SIGUSR1, std::os::unix::net::UnixStream::from(writing)).unwrap();
        let handle = server.handle();
        let signals = spawn(move || {
            reading.read_exact(&mut [0]).unwrap();
            handle.stop();
        });
        drop(spawn(|| signal_hook::low_level::raise(libc::SIGUSR1).unwrap()));
        soon(|| server.serve_forever()).unwrap();
        signals.join().unwrap();
    });
}

#[test]
fn a_cancelled_serve_forever_stops_the_server() {
    check(|| {
        let (server, log) = polite(10);
        let (handle, address) = (server.handle(), server.local_addr().unwrap());
        let serving = spawn(move || server.serve_forever());
        let client = TcpStream::connect(address).unwrap();
        (&client).read_exact(&mut [0; 5]).unwrap();
        serving.task().kill();
        assert!(handle.is_running(), "the client has a second");
        settle();
        assert!(TcpStream::connect(address).is_err());
        (&client).write_all(b"x").unwrap();
        soon(|| drop(greenroom::wait([&handle], None, None)));
        assert_eq!(log.take(), ["served", "cut"]);

        let (server, _log) = polite(10);
        timeout(MS, || server.serve_forever()).unwrap_err();
        soon(|| server.stop());
    });
}

#[test]
fn a_hub_that_ends_ends_its_servers() {
    let (tell, told) = std::sync::mpsc::channel();
    for turns in [0, 3] {
        let tell = tell.clone();
        std::thread::spawn(move || {
            greenroom::run(|| {
                let (server, log) = polite(10);
                server.start().unwrap();
                tell.send((server.handle(), server.local_addr().unwrap())).unwrap();
                (0..turns).for_each(|_| yield_now());
                drop(log);
            });
        });
        let (handle, address) = told.recv().unwrap();
        soon(|| handle.stop());
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

#[test]
fn a_handler_that_is_shielded_is_waited_for() {
    check(|| {
        let log = Log::default();
        let seen = log.clone();
        let server = StreamServer::new(Script::new([Ok("x")]), move |_, ()| {
            greenroom::shield(|| {
                sleep(10 * MS);
                seen.add("written");
            });
            park();
        });
        server.start().unwrap();
        yield_now();
        yield_now();
        soon(|| server.stop_timeout(Duration::ZERO));
        assert_eq!(log.take(), ["written"]);
    });
}

#[test]
fn nothing_of_a_server_is_left() {
    check(|| {
        let held = Rc::new(());
        let theirs = held.clone();
        let server = StreamServer::new(listener(), move |stream: TcpStream, _| {
            let _held = theirs.clone();
            io::copy(&mut &stream, &mut &stream)
        });
        server.start().unwrap();
        let _clients: Vec<_> = (0..5).map(|_| connect(&server)).collect();
        settle();
        assert_eq!(Rc::strong_count(&held), 7);
        server.stop_timeout(Duration::ZERO);
        drop(server);
        settle();
        assert_eq!(Rc::strong_count(&held), 1);
    });
}

// Handshakes.

struct Authority {
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
}

fn authority() -> Authority {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Authority { server: Arc::new(server), client: Arc::new(client) }
}

type Tls = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

fn accept_tls(config: &Arc<rustls::ServerConfig>, mut stream: TcpStream) -> io::Result<Tls> {
    let mut connection = rustls::ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(rustls::StreamOwned::new(connection, stream))
}

#[test]
fn tls_serves_the_good_and_cuts_the_bad_and_the_silent() {
    check(|| {
        let Authority { server: ours, client: theirs } = authority();
        let log = Log::default();
        let seen = log.clone();
        let server = StreamServer::builder(listener())
            .handshake_timeout(300 * MS)
            .wrap(move |stream: TcpStream| accept_tls(&ours, stream).inspect_err(|error| seen.add(error.to_string())))
            .build(|mut stream: Tls, _client| {
                let mut line = [0; 5];
                stream.read_exact(&mut line).unwrap();
                stream.write_all(&line).unwrap();
                stream.conn.send_close_notify();
                stream.flush()
            });
        server.start().unwrap();

        let begun = Instant::now();
        let silent: Vec<_> = (0..20).map(|_| connect(&server)).collect();
        let mut bad = connect(&server);
        bad.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let good: Vec<_> = (0..3)
            .map(|_| {
                let (theirs, stream) = (theirs.clone(), connect(&server));
                spawn(move || {
                    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
                    let connection = rustls::ClientConnection::new(theirs, name).unwrap();
                    let mut tls = rustls::StreamOwned::new(connection, stream);
                    tls.write_all(b"hello").unwrap();
                    let mut echo = String::new();
                    tls.read_to_string(&mut echo).unwrap();
                    echo
                })
            })
            .collect();
        for echo in joinall(good) {
            assert_eq!(echo.unwrap(), "hello");
        }
        // The silent hold up nobody, and are cut by the limit, not before.
        if begun.elapsed() < 300 * MS {
            assert_eq!(server.counts().active, 20);
        }
        let _alert = bad.read_to_end(&mut Vec::new());
        soon(|| silent.into_iter().for_each(|client| assert_eq!(rest(client), "")));
        assert!(begun.elapsed() >= 300 * MS);
        until(|| server.counts().active == 0);
        assert_eq!((server.counts().accepted, server.counts().failed_handshakes), (24, 21));
        assert_eq!(log.take().len(), 1, "only the bad one had an error to tell");
        server.stop();
    });
}

#[test]
fn what_goes_wrong_in_wrap_stays_with_its_client() {
    check(|| {
        let steps = ["fail", "good", "panic", "good"];
        let log = Log::default();
        let seen = log.clone();
        let server = StreamServer::builder(Script::new(steps.map(Ok)))
            .wrap(|wish| match wish {
                "fail" => Err("not today"),
                "panic" => fail("nor ever"),
                good => Ok(good.len()),
            })
            .wrap(|length| if length == 4 { Ok(length * 10) } else { Err(()) })
            .handshake_timeout(Duration::MAX)
            .build(move |number: usize, ()| seen.add(number.to_string()));
        server.start().unwrap();
        settle();
        assert_eq!(log.take(), ["40", "40"]);
        assert_eq!(server.counts().failed_handshakes, 2);
        server.stop();
    });
}

// Datagrams.

#[test]
fn datagrams_are_answered_by_tasks_and_inline() {
    check(|| {
        for inline in [false, true] {
            let mut builder = DatagramServer::builder(UdpSocket::bind("127.0.0.1:0").unwrap());
            if inline {
                builder = builder.inline();
            }
            let server = builder.build(move |socket, datagram: &[u8], from| {
                assert_eq!(greenroom::current().name().is_some(), inline);
                if datagram == b"panic" {
                    fail::<()>("as wished");
                }
                socket.send_to(datagram, from).unwrap();
            });
            server.start().unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            for text in ["one", "panic", "two", ""] {
                client.send(text.as_bytes()).unwrap();
            }
            let mut answers: Vec<_> = (0..3)
                .map(|_| {
                    let mut buf = [0; 100];
                    let size = client.recv(&mut buf).unwrap();
                    String::from_utf8(buf[..size].to_vec()).unwrap()
                })
                .collect();
            answers.sort();
            assert_eq!(answers, ["", "one", "two"]);
            until(|| server.counts().active == 0);
            assert_eq!(server.counts().accepted, 4);
            server.stop();
            assert!(!server.is_running());
        }
    });
}

#[test]
fn unix_datagrams_fill_the_pool_and_wait() {
    check(|| {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let log = Log::default();
        let seen = log.clone();
        let server = DatagramServer::builder(ours).pool_size(1).max_size(3).build(
            move |_socket, datagram: &[u8], _from: std::os::unix::net::SocketAddr| {
                seen.add(String::from_utf8(datagram.to_vec()).unwrap());
                park();
            },
        );
        server.start().unwrap();
        theirs.send(b"first").unwrap();
        theirs.send(b"second").unwrap();
        settle();
        assert_eq!(log.take(), ["fir"]);
        assert_eq!(server.counts().accepted, 1);
        soon(|| server.stop_timeout(MS));
        assert!(theirs.send(b"late").is_err(), "the socket is closed");
    });
}

#[test]
fn an_inline_handler_has_its_time_too() {
    check(|| {
        for (time, ends) in [(EVER, &["done", "cut"][..]), (MS, &["cut"])] {
            let (ours, theirs) = UnixDatagram::pair().unwrap();
            let log = Log::default();
            let seen = log.clone();
            let (waiting, waits) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(false)));
            let (task, set) = (waiting.clone(), waits.clone());
            let builder = DatagramServer::builder(ours).inline();
            let handle = builder.handle();
            let server = builder.build(move |_socket, _datagram: &[u8], _from| {
                let end = OnDrop(seen.clone(), "cut");
                task.set(Some(greenroom::current()));
                set.set(true);
                // By a task of its own server: at once.
                handle.stop_timeout(time);
                park();
                seen.add("done");
                drop(end);
            });
            theirs.send(b"x").unwrap();
            drop(spawn(move || {
                until(|| waits.get());
                if time == EVER {
                    settle();
                    waiting.take().unwrap().unpark();
                }
            }));
            soon(|| server.serve_forever()).unwrap();
            assert_eq!(log.take(), ends);
        }
    });
}

#[test]
fn a_scope_may_hold_a_server() {
    check(|| {
        let (server, _log) = polite(2);
        scope(|s| {
            s.spawn(|| server.serve_forever().unwrap());
            s.spawn(|| {
                let mut client = greeted(&server);
                client.write_all(b"x").unwrap();
                assert_eq!(rest(client), "bye");
                server.stop();
            });
        });
    });
}
