//! Drives the example `url_fetch` as a user would: arguments in; lines, files and exit code out.
//!
//! The servers are native threads of this process on loopback, so that a bug of greenroom cannot hide on both sides.
//! With the feature `monkey` the program's HTTP client is on std's sockets, patched.
//! `cargo test` builds the example; `cargo test --test url_fetch` alone does not, and then finds the last one built.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn without_arguments_fetches_its_own_pages_faster_at_once_than_in_turn() {
    let run = run(&[]);
    assert_eq!(run.code, 0, "{run:?}");

    let (in_turn, at_once) = run.stdout.split_once("all at once:\n").expect("two halves");
    for half in [in_turn, at_once] {
        let pages = half.lines().filter(|line| line.starts_with("200 ") && line.contains("/page/")).count();
        assert_eq!(pages, 100, "{half}");
    }
    let ratio = run.stdout.lines().find_map(|line| line.strip_prefix("ratio:")).expect("the ratio is printed");
    let ratio: f64 = ratio.split_whitespace().next().unwrap().parse().unwrap();
    // In one turn each page takes 50 ms. The bound leaves room for a debug build on a busy machine.
    assert!(ratio > 4.0, "only {ratio} times faster");
    // No bar where there is no terminal.
    assert_eq!(run.stderr, "");
}

#[test]
fn a_failure_is_one_line_and_disturbs_nobody() {
    let server = serve(|path| match path {
        "/good" => page("hello"),
        "/short" => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this".to_vec(),
        "/chunk" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n".to_vec(),
        "/garbage" => b"what is it that you want?\r\n\r\n".to_vec(),
        "/mute" => Vec::new(),
        _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone".to_vec(),
    });
    let refused = refusing_address();

    let urls =
        ["/good", "/short", "/chunk", "/garbage", "/mute", "/missing"].map(|path| format!("http://{server}{path}"));
    let [good, short, chunk, garbage, mute, missing] = &urls;
    let refused = format!("http://{refused}/");
    let run = run(&[
        good,
        short,
        chunk,
        garbage,
        mute,
        missing,
        &refused,
        "http://nosuchhost.invalid/",
        "nonsense",
        "http://127.0.0.1:99999/",
        good,
    ]);

    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.lines_about(good).len(), 2);
    assert!(run.lines_about(good).iter().all(|line| line.starts_with("200 ") && line.contains(" 5 B ")), "{run:?}");
    run.one_line_about(short, "body cut short after 9 bytes");
    run.one_line_about(chunk, "body cut short after 9 bytes");
    assert_eq!(run.lines_about(garbage).len(), 1);
    run.one_line_about(mute, "closed the connection without an answer");
    run.one_line_about(missing, "Not Found");
    assert!(run.lines_about(missing)[0].starts_with("404 "));
    run.one_line_about(&refused, "Connection refused");
    run.one_line_about("nonsense", "bad uri");
    if cfg!(feature = "monkey") {
        run.one_line_about("http://nosuchhost.invalid/", "failed to lookup address information");
        // The client as it comes takes such a port for the usual one.
        run.one_line_about("http://127.0.0.1:99999/", "failed");
    } else {
        run.one_line_about("http://nosuchhost.invalid/", "cannot find host nosuchhost.invalid");
        run.one_line_about("http://127.0.0.1:99999/", "a port that is none");
    }
    assert!(run.stdout.contains("2 fetched, 9 failed"), "{run:?}");
    assert_eq!(run.stderr, "");
}

#[test]
fn redirects_are_followed_and_named() {
    let server = serve(|path| match path {
        "/old" => b"HTTP/1.1 302 Found\r\nlocation: /new\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/round" => b"HTTP/1.1 302 Found\r\nlocation: /round\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/new" => page("here now"),
        _ => unreachable!("{path}"),
    });

    let (old, round) = (format!("http://{server}/old"), format!("http://{server}/round"));
    let run = run(&[&old, &round]);
    run.one_line_about(&old, &format!("-> http://{server}/new"));
    assert!(run.lines_about(&old)[0].starts_with("200 "), "{run:?}");
    run.one_line_about(&round, "too many redirects");
    assert_eq!(run.code, 1);
}

#[test]
fn a_certificate_must_come_from_someone_trusted_and_bear_the_name() {
    let (here, certificate) = serve_tls("localhost");
    let (elsewhere, other) = serve_tls("elsewhere.example");
    let dir = TempDir::new("certificates");
    let ca = dir.file("ca.pem", &format!("{certificate}{other}"));

    let good = format!("https://localhost:{}/", here.port());
    let wrong_name = format!("https://localhost:{}/", elsewhere.port());

    let distrustful = run(&[&good]);
    distrustful.one_line_about(&good, "bad certificate");
    assert_eq!(distrustful.code, 1);

    let trusting = run(&["--ca", &ca, &good, &wrong_name]);
    assert!(trusting.lines_about(&good)[0].starts_with("200 "), "{trusting:?}");
    trusting.one_line_about(&wrong_name, "bad certificate");
    assert_eq!(trusting.code, 1);
}

#[test]
fn tls_cut_off_without_goodbye_is_a_body_cut_short() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\nhalf of i";
    let (server, certificate) = serve_tls_with("localhost", answer, false);
    let dir = TempDir::new("truncation");
    let ca = dir.file("ca.pem", &certificate);
    let url = format!("https://localhost:{}/", server.port());
    let run = run(&["--ca", &ca, &url]);
    run.one_line_about(&url, "body cut short after 9 bytes");
}

#[test]
fn a_dead_host_is_given_up_in_time() {
    // One server takes the connection and keeps silent, one stops in the middle of the body, one is well.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/", listener.local_addr().unwrap());
    let stalled = serve_stream(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nand then");
        let _ = stream.read(&mut [0]);
    });
    let stalled = format!("http://{stalled}/");
    let good = format!("http://{}/", serve(|_| page("hello")));

    let started = Instant::now();
    let run = run(&["--timeout", "0.6", &silent, &stalled, &good]);
    let took = started.elapsed();
    run.one_line_about(&silent, "timed out after 600ms without an answer");
    run.one_line_about(&stalled, "timed out after 600ms with 8 bytes of the body");
    assert!(run.lines_about(&good)[0].starts_with("200 "), "{run:?}");
    assert_eq!(run.code, 1);
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn output_keeps_complete_bodies_under_safe_names() {
    let server = serve(|path| match path {
        "/short" => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this".to_vec(),
        "/missing" => b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone".to_vec(),
        path => page(&format!("body of {path}")),
    });
    let dir = TempDir::new("output");
    let out = dir.path("made/on/demand");

    let host = format!("127.0.0.1_{}", server.port());
    let paths = ["/a/b.html?c=d", "/a/b.html?c:d", "/../../../etc/passwd", "/", "/short", "/missing"];
    let urls = paths.map(|path| format!("http://{server}{path}"));
    let with_password = format!("http://user:secret@{server}/private");
    let mut arguments = vec!["--output", &out];
    arguments.extend(urls.iter().map(String::as_str));
    arguments.push(&with_password);
    let run = run(&arguments);
    assert_eq!(run.code, 1, "{run:?}");

    let mut names: Vec<String> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected = [
        host.clone(),
        format!("{host}_.._.._.._etc_passwd"),
        format!("{host}_a_b.html_c_d"),
        format!("{host}_a_b.html_c_d-2"),
        format!("{host}_private"),
    ];
    expected.sort();
    assert_eq!(names, expected);
    let body = fs::read_to_string(Path::new(&out).join(format!("{host}_a_b.html_c_d"))).unwrap();
    assert_eq!(body, "body of /a/b.html?c=d");
}

#[test]
fn a_large_body_passes_through_without_being_held() {
    const LENGTH: usize = 96 << 20;
    let (nearly, is_nearly) = mpsc::channel();
    let (finish, may_finish) = mpsc::channel();
    let may_finish = Mutex::new(may_finish);
    let server = serve_stream(move |mut stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n").unwrap();
        let chunk = vec![7; 1 << 20];
        for _ in 0..LENGTH / chunk.len() - 1 {
            stream.write_all(&chunk).unwrap();
        }
        nearly.send(()).unwrap();
        may_finish.lock().unwrap().recv().unwrap();
        stream.write_all(&chunk).unwrap();
    });

    let dir = TempDir::new("large");
    let out = dir.path("out");
    let child = start(&["--output", &out, &format!("http://{server}/")]);
    is_nearly.recv_timeout(PATIENCE).expect("all but the end was taken");
    if cfg!(target_os = "linux") {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: usize = peak.split_whitespace().next().unwrap().parse().unwrap();
        assert!(peak < 48 << 10, "{peak} kB resident at the most");
    }
    finish.send(()).unwrap();

    let run = end(child);
    assert_eq!(run.code, 0, "{run:?}");
    let kept = Path::new(&out).join(format!("127.0.0.1_{}", server.port()));
    assert_eq!(fs::metadata(kept).unwrap().len(), LENGTH as u64);
}

#[test]
fn urls_come_from_files_and_standard_input_too() {
    let server = serve(page);
    let dir = TempDir::new("lists");
    let list = dir.file("list", &format!("# a comment\n\nhttp://{server}/from/file\n"));

    let mut child = start(&["--concurrency", "2", "--file", &list, &format!("http://{server}/argument"), "-"]);
    let mut input = child.stdin.take().unwrap();
    write!(input, "http://{server}/from/stdin\n  http://{server}/last/one  \n").unwrap();
    drop(input);
    let run = end(child);
    assert_eq!(run.code, 0, "{run:?}");
    for path in ["/from/file", "/argument", "/from/stdin", "/last/one"] {
        let line = &run.lines_about(&format!("http://{server}{path}"))[0];
        assert!(line.starts_with("200 ") && line.contains(&format!(" {} B ", path.len())), "{line}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let dir = TempDir::new("arguments");
    let empty = dir.file("empty", "# nothing\n");
    let wrong: &[&[&str]] = &[
        &["--no-such-option"],
        &["--concurrency", "0", "http://127.0.0.1/"],
        &["--concurrency", "many", "http://127.0.0.1/"],
        &["--timeout", "0", "http://127.0.0.1/"],
        &["--timeout", "-3", "http://127.0.0.1/"],
        &["--timeout", "NaN", "http://127.0.0.1/"],
        &["--file", "/no/such/list"],
        &["--file", &empty],
        &["-"],
        &["--ca", &empty, "http://127.0.0.1/"],
        &["--output", "/dev/null/below", "http://127.0.0.1/"],
    ];
    for arguments in wrong {
        let run = run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {run:?}");
        assert!(!run.stderr.is_empty() && run.stdout.is_empty(), "{arguments:?}: {run:?}");
    }
}

#[test]
fn ctrl_c_ends_it_at_once_and_leaves_no_half_file() {
    let stalled = serve_stream(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nand then");
        let _ = stream.read(&mut [0]);
    });
    let dir = TempDir::new("interrupt");
    let out = dir.path("out");
    let child = start(&["--output", &out, &format!("http://{stalled}/a"), &format!("http://{stalled}/b")]);

    // Both bodies have begun.
    let files = || fs::read_dir(&out).map_or(0, Iterator::count);
    let deadline = Instant::now() + PATIENCE;
    while files() < 2 {
        assert!(Instant::now() < deadline, "no body has begun");
        thread::sleep(Duration::from_millis(5));
    }

    let pressed = Instant::now();
    let kill = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(kill.success());
    let run = end(child);
    assert!(pressed.elapsed() < Duration::from_secs(2), "{:?}", pressed.elapsed());
    assert_eq!(run.code, 130, "{run:?}");
    assert_eq!(files(), 0, "half-written files were left");
}

#[test]
fn a_reader_that_goes_away_stops_the_lines_and_not_the_work() {
    let server = serve(page);
    let dir = TempDir::new("closed");
    let out = dir.path("out");
    let mut child = start(&["--output", &out, &format!("http://{server}/a"), &format!("http://{server}/b")]);
    drop(child.stdout.take());
    let run = end(child);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
}

/// How long anything here may take, in the worst case: after that it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    /// The lines that speak of exactly this URL.
    fn lines_about(&self, url: &str) -> Vec<&str> {
        let about = |line: &&str| {
            line.split_once(" ms  ").is_some_and(|(_, rest)| {
                rest.strip_prefix(url).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ' ']))
            })
        };
        self.stdout.lines().filter(about).collect()
    }

    #[track_caller]
    fn one_line_about(&self, url: &str, what: &str) {
        let lines = self.lines_about(url);
        assert!(lines.len() == 1 && lines[0].contains(what), "expected {what:?} about {url}: {self:#?}");
    }
}

fn run(arguments: &[&str]) -> Run {
    end(start(arguments))
}

fn start(arguments: &[&str]) -> Child {
    let here = std::env::current_exe().expect("a test knows its path");
    let built =
        here.parent().and_then(Path::parent).expect("it lies in target/<profile>/deps").join("examples/url_fetch");
    assert!(built.exists(), "{} is not built: run `cargo build --example url_fetch`", built.display());

    let mut command = Command::new(built);
    // A proxy could not reach our servers.
    for variable in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(variable).env_remove(variable.to_uppercase());
    }
    let listens = arguments.contains(&"-") && arguments.len() > 1;
    let stdin = if listens { Stdio::piped() } else { Stdio::null() };
    if cfg!(feature = "monkey") {
        command.arg("--patched");
    }
    command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// Waits for the program's end, and kills it if that does not come.
fn end(child: Child) -> Run {
    let id = child.id();
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = wait.recv_timeout(PATIENCE) else {
        let _ = Command::new("sh").args(["-c", &format!("kill -KILL {id}")]).status();
        panic!("it hangs");
    };
    let Output { status, stdout, stderr } = output.expect("its output can be read");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    Run { code: status.code().expect("no signal ended it"), stdout: text(stdout), stderr: text(stderr) }
}

/// Serves one answer a connection, made from the path that was asked for.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let answer = Arc::new(answer);
    accept(move |mut stream| {
        let mut answer = answer(&read_request(&stream));
        // A client that kept this connection for its next request would find it closed.
        if let Some(end) = answer.windows(2).position(|pair| pair == b"\r\n") {
            answer.splice(end..end, *b"\r\nconnection: close");
        }
        let _ = stream.write_all(&answer);
    })
}

/// Serves connections whose request has been read.
fn serve_stream(conversation: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    accept(move |stream| {
        read_request(&stream);
        conversation(stream);
    })
}

fn accept(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), Arc::clone(&serve));
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads the head of a request and returns its path.
fn read_request(stream: impl Read) -> String {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let _rest = lines.take_while(|line| !line.is_empty()).count();
    first.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn page(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn serve_tls(name: &str) -> (SocketAddr, String) {
    serve_tls_with(name, b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret", true)
}

/// Serves one answer over TLS; the certificate, which it returns as PEM, is signed by itself.
fn serve_tls_with(name: &str, answer: &'static [u8], says_goodbye: bool) -> (SocketAddr, String) {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let pem = certified.cert.pem();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);

    let address = accept(move |mut stream| {
        let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        // A client that does not trust us breaks off here.
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        if read_request(&mut tls).is_empty() {
            return;
        }
        let _ = tls.write_all(answer);
        if says_goodbye {
            connection.send_close_notify();
            let _ = connection.complete_io(&mut stream);
        }
    });
    (address, pem)
}

/// An address on which nobody listens.
fn refusing_address() -> SocketAddr {
    // Bound and not listening: nobody else can take the port while the test runs.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    Box::leak(Box::new(socket));
    address
}

/// A directory that goes away with the test.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("greenroom-url_fetch-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).into_os_string().into_string().unwrap()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
