//! Drives the example `http_server` as its clients would: curl, wrk if it is there, and sockets by hand.
//!
//! The clients are native threads and other programs, so that a bug of greenroom cannot hide on both sides. `cargo test` builds the
//! example; `cargo test --test http_server` alone does not, and then finds the last one built.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// The example, running.
struct Server {
    child: Child,
    port: u16,
}

fn serve(arguments: &[&str]) -> Server {
    let here = std::env::current_exe().expect("a test knows its path");
    let example =
        here.parent().and_then(Path::parent).expect("it lies in target/<profile>/deps").join("examples/http_server");
    let mut child =
        Command::new(example).args(arguments).stdout(Stdio::piped()).spawn().expect("`cargo test` builds the example");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().rsplit_once(':').expect("it tells its address").1.parse().unwrap();
    Server { child, port }
}

impl Server {
    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends this and reads until the server closes.
    fn says_to(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may have had enough before all of it is sent.
        let _cut = stream.write_all(request);
        rest(stream)
    }

    /// The status of the only answer, after which the server closes.
    #[track_caller]
    fn refuses(&self, request: &str) -> u16 {
        let answers = self.says_to(request.as_bytes());
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
        assert!(answers.contains("\r\nconnection: close\r\n"), "{answers}");
        status(&answers)
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for, so that the number is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Waits for the end, which must be a good one.
    fn ends(mut self) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[track_caller]
fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("no answer: {answer:?}"))[..3].parse().unwrap()
}

fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Reads one answer from a connection that stays open: head and body.
fn answer(stream: &mut impl BufRead) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "the server has closed: {head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(arguments)
        .output()
        .expect("curl is needed for this test: install it (apt-get install curl)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("greenroom-http_server-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn curl_gets_the_pages_over_one_connection() {
    let server = serve(&[]);
    let [plain, json, index] = ["/plaintext?query", "/json", "/"].map(|path| server.url(path));
    let said = curl(&["--write-out", " %{num_connects} %{http_code}\n", &plain, &json, &index]);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..2], ["Hello, World! 1 200", r#"{"message":"Hello, World!"} 0 200"#]);
    assert!(lines[2].starts_with("<!doctype html>") && lines.last().unwrap().ends_with("0 200"), "{said}");

    let head = curl(&["--head", &plain]);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-length: 13\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(curl(&["--http1.0", &plain]), "Hello, World!");

    // The date is right to the minute, by another's reckoning.
    let date = head.lines().find_map(|line| line.strip_prefix("date: ")).unwrap();
    let there = Command::new("date").args(["-d", date, "+%s"]).output().unwrap();
    let there: u64 = String::from_utf8(there.stdout).unwrap().trim().parse().unwrap();
    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(here.abs_diff(there) < 60, "{date}");
}

#[test]
fn curl_uploads_are_echoed_however_they_are_sent() {
    let server = serve(&[]);
    let dir = TempDir::new("upload");
    let file = dir.0.join("body");
    for size in [0, 1, 1000, 100_000, 1_048_576] {
        let body: Vec<u8> = (0..size).map(|index| b'a' + (index % 23) as u8).collect();
        fs::write(&file, &body).unwrap();
        let data = format!("@{}", file.display());
        for header in ["x: y", "transfer-encoding: chunked", "expect: 100-continue"] {
            let echo = curl(&["--header", header, "--data-binary", &data, &server.url("/echo")]);
            assert!(echo.as_bytes() == body, "{size} bytes with {header}: {} came back", echo.len());
        }
    }
    // One more is too many: by its length, and by its chunks.
    fs::write(&file, vec![b'x'; 1_048_577]).unwrap();
    let data = format!("@{}", file.display());
    for header in ["expect:", "transfer-encoding: chunked"] {
        let code = ["--output", "/dev/null", "--write-out", "%{http_code}", "--header", header, "--data-binary", &data];
        let said = curl(&[&code[..], &[&server.url("/echo")]].concat());
        assert_eq!(said, "413", "{header}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_in_one_write() {
    let server = serve(&[]);
    let stream = server.connect();
    const GET: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut request = GET.repeat(20);
    request.extend_from_slice(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none");
    request.extend_from_slice(
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\ntw\r\n1\r\no\r\n0\r\nTrail: er\r\n\r\n",
    );
    request.extend_from_slice(b"HEAD /json HTTP/1.1\r\nHost: a\r\n\r\n");
    (&stream).write_all(&request).unwrap();
    // What one write brings, one read on loopback gets.
    let mut all = vec![0; 64 * 1024];
    let got = (&stream).read(&mut all).unwrap();
    let mut answers = &all[..got];
    for _ in 0..20 {
        assert_eq!(answer(&mut answers).1, b"Hello, World!");
    }
    assert_eq!(answer(&mut answers).1, b"one");
    assert_eq!(answer(&mut answers).1, b"two");
    let head = std::str::from_utf8(answers).unwrap();
    assert!(head.contains("content-length: 27\r\n") && head.ends_with("\r\n\r\n"), "{head}");

    // Requests in pieces of any size.
    for piece in [1, 2, 7] {
        let mut stream = server.connect();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for bytes in request[20 * GET.len()..].chunks(piece) {
            stream.write_all(bytes).unwrap();
        }
        while answer(&mut reader).1 != b"two" {}
    }
}

#[test]
fn what_is_wrong_is_told_by_its_number() {
    let server = serve(&["--max-head", "4096"]);
    let get = |rest: &str| format!("GET /plaintext HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
    let post = |rest: &str| format!("POST /echo HTTP/1.1\r\nHost: a\r\n{rest}");
    for bad in [
        "nonsense\r\n\r\n".into(),
        "GET /plaintext HTTP/1.1\r\n\r\n".into(),
        get("Host: b\r\n"),
        get("no colon\r\n"),
        get("Content-Length: x\r\n"),
        get("Content-Length: -1\r\n"),
        get("Content-Length: +1\r\n"),
        get("Content-Length: 1\r\nContent-Length: 2\r\n"),
        get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        post("Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        post("Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n"),
        post(&format!("Transfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(1000))),
    ] {
        assert_eq!(server.refuses(&bad), 400, "{bad:?}");
    }
    assert_eq!(server.refuses("GET /plaintext HTTP/3.0\r\nHost: a\r\n\r\n"), 505);
    assert_eq!(server.refuses("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n"), 501);
    assert_eq!(server.refuses(&post("Transfer-Encoding: gzip, chunked\r\n\r\n")), 501);
    assert_eq!(server.refuses(&get("Expect: wonders\r\n")), 417);
    assert_eq!(server.refuses(&post("Content-Length: 99999999999999999999999\r\n\r\n")), 413);
    assert_eq!(server.refuses(&post("Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n")), 413);
    // No bytes are invited that would not be taken.
    assert_eq!(server.refuses(&post("Content-Length: 9999999\r\nExpect: 100-continue\r\n\r\n")), 413);
    let long = get(&format!("Long: {}\r\n", "x".repeat(5000)));
    assert_eq!(server.refuses(&long), 431);
    assert_eq!(server.refuses(&long[..4500]), 431);
    assert_eq!(server.refuses(&get(&"a: b\r\n".repeat(65))), 431);

    // These concern the request only: the connection stays.
    let mut stream = server.connect();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for (request, code) in [
        ("GET /missing HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("DELETE /plaintext HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("POST /plaintext HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", 405),
        ("POST /echo HTTP/1.1\r\nHost: a\r\n\r\n", 411),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET http://other/json HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /json HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
    ] {
        stream.write_all(request.as_bytes()).unwrap();
        let (head, _body) = answer(&mut reader);
        assert_eq!(status(&head), code, "{request}");
        assert_eq!(head.contains("\r\nallow: "), code == 405);
    }
    let last = server.says_to(b"GET /json HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\nGET /json HTTP/1.1\r\n");
    assert!(last.contains("\r\nconnection: close\r\n") && last.ends_with('}'), "{last}");
    assert_eq!(last.matches("HTTP/1.1").count(), 1, "nothing is said after the last word");
}

#[test]
fn a_client_that_asks_first_is_invited() {
    let server = serve(&[]);
    let mut stream = server.connect();
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    assert_eq!(answer(&mut reader).0, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").unwrap();
    assert_eq!(answer(&mut reader).1, b"body");
}

#[test]
fn those_who_dawdle_are_cut_and_hold_up_nobody() {
    let server = serve(&["--request-timeout", "300", "--idle-timeout", "700"]);
    let begun = Instant::now();
    std::thread::scope(|s| {
        for part in
            ["GET /plaintext HTTP/1.1\r\nHost: ", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n"]
        {
            let server = &server;
            // A byte at a time, each well within any time limit for a byte.
            s.spawn(move || {
                let begun = Instant::now();
                let mut stream = server.connect();
                let mut reading = stream.try_clone().unwrap();
                s.spawn(move || {
                    let mut said = Vec::new();
                    let _reset = reading.read_to_end(&mut said);
                    assert_eq!(status(&String::from_utf8(said).unwrap()), 408);
                    let took = begun.elapsed();
                    assert!((Duration::from_millis(300)..Duration::from_secs(10)).contains(&took), "{took:?}");
                });
                stream.write_all(part.as_bytes()).unwrap();
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(10));
                    assert!(begun.elapsed() < Duration::from_secs(20), "the trickle goes on");
                }
            });
        }
        s.spawn(|| {
            // Who says nothing at all is told nothing.
            assert_eq!(server.says_to(b""), "");
            assert!(begun.elapsed() >= Duration::from_millis(700));
        });
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(status(&server.says_to(b"GET /json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")), 200);
            assert!(asked.elapsed() < Duration::from_secs(5));
        }
    });
}

#[test]
fn files_are_served_from_below_the_root_only() {
    let dir = TempDir::new("files");
    let root = dir.0.join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("index.html"), "<p>index").unwrap();
    fs::write(root.join("sub/a b.txt"), "spaced").unwrap();
    let large: Vec<u8> = (0..3_000_000).map(|index| b'a' + (index % 19) as u8).collect();
    fs::write(root.join("large"), &large).unwrap();
    fs::write(root.join(".hidden"), "hidden").unwrap();
    fs::write(dir.0.join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(dir.0.join("secret"), root.join("link")).unwrap();

    let server = serve(&["--root", root.to_str().unwrap()]);
    assert_eq!(curl(&[&server.url("/")]), "<p>index");
    assert_eq!(curl(&[&server.url("/sub/a%20b.txt")]), "spaced");
    assert!(curl(&[&server.url("/large")]).as_bytes() == large);
    assert!(curl(&["--head", &server.url("/large")]).contains("content-length: 3000000\r\n"));
    assert_eq!(curl(&[&server.url("/plaintext")]), "Hello, World!");
    for path in ["/secret", "/../secret", "/%2e%2e/secret", "/sub/../../secret", "/link", "/.hidden", "/sub", "/sub/"] {
        let said = curl(&["--path-as-is", "--write-out", "%{http_code}", &server.url(path)]);
        assert_eq!(said, "Not Found404", "{path}");
    }
    assert_eq!(curl(&["--write-out", "%{http_code}", &server.url("/%zz")]), "Bad Request400");
}

#[test]
fn four_hundred_clients_keep_their_connections() {
    const CLIENTS: usize = 400;
    let server = serve(&[]);
    let connected = Barrier::new(CLIENTS);
    std::thread::scope(|s| {
        for number in 0..CLIENTS {
            let (server, connected) = (&server, &connected);
            let client = move || {
                let mut stream = server.connect();
                connected.wait();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                for round in 0..10 {
                    let text = format!("client {number} round {round}");
                    let length = text.len();
                    write!(stream, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{text}").unwrap();
                    assert_eq!(answer(&mut reader).1, text.as_bytes());
                }
            };
            std::thread::Builder::new().stack_size(256 * 1024).spawn_scoped(s, client).unwrap();
        }
    });
}

#[test]
fn a_signal_lets_requests_under_way_finish() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let server = serve(&["--stop-timeout", "60000"]);
        let idle = server.connect();
        let mut used = server.connect();
        used.write_all(b"GET /json HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut used_reader = BufReader::new(used.try_clone().unwrap());
        answer(&mut used_reader);
        let mut busy = server.connect();
        busy.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").unwrap();
        let mut busy_reader = BufReader::new(busy.try_clone().unwrap());
        answer(&mut busy_reader);

        server.signal(signal);
        // Those who have nothing under way are closed at once, although they said nothing.
        assert_eq!(rest(idle), "");
        assert_eq!(used_reader.read(&mut [0]).unwrap(), 0);
        while TcpStream::connect(("127.0.0.1", server.port)).is_ok() {}
        busy.write_all(b"body").unwrap();
        let (head, body) = answer(&mut busy_reader);
        assert_eq!(body, b"body");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        assert_eq!(busy_reader.read(&mut [0]).unwrap(), 0);
        drop((busy, busy_reader));
        server.ends();
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = serve(&["--stop-timeout", "3600000"]);
    let mut busy = server.connect();
    busy.write_all(b"GET /plain").unwrap();
    // It has been read by the time another client is answered.
    assert_eq!(curl(&[&server.url("/plaintext")]), "Hello, World!");
    server.signal(libc::SIGINT);
    while TcpStream::connect(("127.0.0.1", server.port)).is_ok() {}
    server.signal(libc::SIGINT);
    server.ends();
}

#[test]
fn wrk_gets_no_answer_but_good_ones() {
    if Command::new("wrk").arg("--version").output().is_err() {
        eprintln!("wrk is not installed: nothing was checked");
        return;
    }
    let server = serve(&[]);
    let output = Command::new("wrk").args(["-t1", "-c64", "-d1s", &server.url("/plaintext")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("Requests/sec"), "{text}");
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
}
