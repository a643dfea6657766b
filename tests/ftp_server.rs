//! Drives the example `ftp_server` as its clients would: curl, lftp, Python's ftplib, and sockets by hand.
//!
//! The clients are native threads and other programs, so that a bug of greenroom cannot hide on both sides. `cargo test` builds the
//! example; `cargo test --test ftp_server` alone does not, and then finds the last one built.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use socket2::{Domain, SockRef, Socket};

#[path = "../examples/ftp_server/command.rs"]
#[allow(dead_code, unreachable_pub, reason = "the program uses all of it")]
mod command;

/// What no buffers of the system hold: a transfer of it goes on until somebody reads.
const LARGE: u64 = 64 << 20;

/// The example, running.
struct Server {
    child: Child,
    address: SocketAddr,
}

fn example() -> PathBuf {
    let here = std::env::current_exe().expect("a test knows its path");
    here.parent().and_then(Path::parent).expect("it lies in target/<profile>/deps").join("examples/ftp_server")
}

fn serve(root: &Path, arguments: &[&str]) -> Server {
    let mut command = Command::new(example());
    command.arg("--root").arg(root).args(arguments);
    start(command)
}

/// A server in which anybody may do anything.
fn serve_writable(root: &Path) -> Server {
    serve(root, &["--writable"])
}

fn start(mut command: Command) -> Server {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("`cargo test` builds the example");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").expect("it tells its address").parse().unwrap();
    Server { child, address }
}

impl Server {
    fn url(&self, path: &str) -> String {
        format!("ftp://{}/{path}", self.address)
    }

    /// A client who was greeted.
    fn connect(&self) -> Client {
        let mut client = self.call();
        client.hears(220);
        client
    }

    fn call(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// A client who is in, and sends bytes as they are.
    fn login(&self) -> Client {
        let mut client = self.connect();
        client.says("USER anonymous", 331);
        client.says("PASS me@home", 230);
        client.says("TYPE I", 200);
        client
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

/// A client by hand.
struct Client {
    control: BufReader<TcpStream>,
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { control: BufReader::new(stream) }
    }

    fn send(&self, bytes: impl AsRef<[u8]>) {
        self.control.get_ref().write_all(bytes.as_ref()).unwrap();
    }

    /// The next reply, which is well-formed and has this code: its text.
    #[track_caller]
    fn hears(&mut self, code: u16) -> String {
        let mut text = String::new();
        loop {
            let mut line = Vec::new();
            self.control.read_until(b'\n', &mut line).unwrap();
            let line = String::from_utf8_lossy(&line).into_owned();
            assert!(line.ends_with("\r\n"), "{line:?} after {text:?}, {code} is expected");
            let end = format!("{code} ");
            if text.is_empty() && !line.starts_with(&end) {
                assert!(line.starts_with(&format!("{code}-")), "{line:?}, {code} is expected");
            }
            text.push_str(&line);
            if line.starts_with(&end) {
                return text;
            }
        }
    }

    #[track_caller]
    fn says(&mut self, line: &str, code: u16) -> String {
        self.says_bytes(line.as_bytes(), code)
    }

    #[track_caller]
    fn says_bytes(&mut self, line: &[u8], code: u16) -> String {
        self.send([line, b"\r\n"].concat());
        self.hears(code)
    }

    /// The server has closed.
    #[track_caller]
    fn hears_the_end(&mut self) {
        assert!(matches!(self.control.read(&mut [0]), Ok(0) | Err(_)), "more is said");
    }

    /// A data connection, made by the client.
    #[track_caller]
    fn passive(&mut self) -> TcpStream {
        let reply = self.says("EPSV", 229);
        let port = reply.split('|').nth(3).unwrap().parse().unwrap();
        let address = SocketAddr::new(self.control.get_ref().peer_addr().unwrap().ip(), port);
        let data = TcpStream::connect(address).unwrap();
        data.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        data
    }

    #[track_caller]
    fn gets(&mut self, command: &str) -> Vec<u8> {
        let mut data = self.passive();
        self.says(command, 150);
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).unwrap();
        self.hears(226);
        bytes
    }

    #[track_caller]
    fn lists(&mut self, command: &str) -> String {
        String::from_utf8(self.gets(command)).unwrap()
    }

    #[track_caller]
    fn puts(&mut self, command: &str, bytes: &[u8]) {
        let mut data = self.passive();
        self.says(command, 150);
        data.write_all(bytes).unwrap();
        drop(data);
        self.hears(226);
    }

    /// Begins an upload that has come this far at the server.
    #[track_caller]
    fn begins(&mut self, command: &str, bytes: &[u8]) -> TcpStream {
        let mut data = self.passive();
        self.says(command, 150);
        data.write_all(bytes).unwrap();
        while !self.says("STAT", 211).starts_with(&format!("211 {} bytes", bytes.len())) {}
        data
    }
}

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("greenroom-ftp_server-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        TempDir(path.canonicalize().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn large(&self, name: &str) {
        fs::File::create(self.path(name)).unwrap().set_len(LARGE).unwrap();
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All names in a directory, hidden ones too.
#[track_caller]
fn names(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|_| panic!("{program} is needed for this test: install it (apt-get install {program})"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{errors}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn curl(arguments: &[&str]) -> String {
    run("curl", &[&["--silent", "--show-error", "--max-time", "20"], arguments].concat())
}

#[test]
fn curl_moves_files_both_ways() {
    let (dir, local) = (TempDir::new("curl"), TempDir::new("curl-local"));
    let server = serve_writable(&dir.0);
    let bytes = noise(1, 3_000_000);
    local.write("file", &bytes);
    let file = local.path("file").display().to_string();
    let got = local.path("got").display().to_string();

    curl(&["--upload-file", &file, "--ftp-create-dirs", &server.url("a/b/c%20d/file")]);
    assert!(fs::read(dir.path("a/b/c d/file")).unwrap() == bytes);
    for way in [&["--epsv"][..], &["--disable-epsv"], &["--ftp-port", "-"], &["--ftp-port", "-", "--disable-eprt"]] {
        curl(&[way, &["--output", &got, &server.url("a/b/c%20d/file")]].concat());
        assert!(fs::read(&got).unwrap() == bytes, "{way:?}");
        curl(&[way, &["--upload-file", &file, &server.url("again")]].concat());
        assert!(fs::read(dir.path("again")).unwrap() == bytes, "{way:?}");
    }

    // Half of it is there.
    local.write("got", &bytes[..1_000_000]);
    curl(&["--continue-at", "-", "--output", &got, &server.url("again")]);
    assert!(fs::read(&got).unwrap() == bytes);
    dir.write("half", &bytes[..2_000_000]);
    curl(&["--continue-at", "-", "--upload-file", &file, &server.url("half")]);
    assert!(fs::read(dir.path("half")).unwrap() == bytes);
    assert_eq!(curl(&["--range", "10-19", "--output", &got, &server.url("again")]), "");
    assert_eq!(fs::read(&got).unwrap(), bytes[10..20]);
    curl(&["--append", "--upload-file", &file, &server.url("half")]);
    assert_eq!(fs::metadata(dir.path("half")).unwrap().len(), 6_000_000);

    assert_eq!(curl(&["--list-only", &server.url("")]), "a\nagain\nhalf\n");
    let long = curl(&[&server.url("")]);
    assert!(long.lines().next().unwrap().starts_with("drwx") && long.lines().count() == 3, "{long}");
    let head = curl(&["--head", &server.url("half")]);
    assert!(head.contains("Content-Length: 6000000") && head.contains("Last-Modified: "), "{head}");
    curl(&["--quote", "DELE half", "--quote", "RNFR again", "--quote", "RNTO b", "--output", &got, &server.url("")]);
    assert_eq!(names(&dir.0), ["a", "b"]);
    dir.write("text", b"one\ntwo\n");
    // curl takes the CRs out again.
    assert_eq!(curl(&["--use-ascii", &server.url("text")]), "one\ntwo\n");

    let missing = Command::new("curl").args(["--silent", &server.url("nothing")]).status().unwrap();
    assert_eq!(missing.code(), Some(78), "curl's code for a file that is not there");
}

#[test]
fn only_who_knows_the_password_gets_in() {
    let dir = TempDir::new("login");
    dir.write("file", b"for ann");
    let server = serve(&dir.0, &["--user", "ann", "--password", "secret"]);
    assert_eq!(curl(&["--user", "ann:secret", &server.url("file")]), "for ann");
    for user in ["ann:Secret", "ann:secret2", "ann:", "bob:secret", "anonymous:secret"] {
        let status = Command::new("curl").args(["--silent", "--user", user, &server.url("file")]).status().unwrap();
        assert_eq!(status.code(), Some(67), "curl's code for a login that is refused: {user}");
    }
    let mut client = server.connect();
    client.says("PASS secret", 503);
    client.says("USER bob", 331);
    client.says("PASS secret", 530);
    client.says("PASS secret", 503);
    client.says("RETR file", 530);
    for _ in 0..2 {
        client.says("USER ann", 331);
        client.says("PASS wrong", 530);
    }
    client.hears(421);
    client.hears_the_end();
    // Who begins anew is out.
    let mut client = server.connect();
    client.says("USER ann", 331);
    client.says("PASS secret", 230);
    client.says("PWD", 257);
    client.says("USER ann", 331);
    client.says("PWD", 530);
}

#[test]
fn lftp_mirrors_both_ways() {
    let (dir, local) = (TempDir::new("lftp"), TempDir::new("lftp-local"));
    let server = serve_writable(&dir.0);
    let mut files = BTreeMap::new();
    for (number, name) in ["one", "empty", "sub/two", "sub/deep/er/three", "sub/ä ö.txt", "-dash"].iter().enumerate()
    {
        let path = local.path("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = noise(number as u64, if *name == "empty" { 0 } else { 200_000 * (number + 1) });
        fs::write(&path, &bytes).unwrap();
        files.insert(*name, bytes);
    }
    let lftp = |script: &str| {
        let settings = "set net:max-retries 1; set net:timeout 20; set cmd:fail-exit yes; set net:persist-retries 0";
        run("lftp", &["-c", &format!("{settings}; open ftp://{}; {script}", server.address)])
    };
    let [tree, back, got] = ["tree", "back", "got"].map(|name| local.path(name).display().to_string());
    lftp(&format!("mirror --reverse --parallel=3 {tree} /up/here"));
    lftp(&format!("mirror --parallel=3 /up/here {back}"));
    for (name, bytes) in &files {
        assert!(fs::read(dir.path("up/here").join(name)).unwrap() == *bytes, "{name}");
        assert!(fs::read(local.path("back").join(name)).unwrap() == *bytes, "{name}");
    }
    let deep = &files["sub/deep/er/three"];
    local.write("got", &deep[..300_000]);
    lftp(&format!("get -c /up/here/sub/deep/er/three -o {got}"));
    assert!(fs::read(&got).unwrap() == *deep);
    dir.write("reput", &deep[..300_000]);
    lftp(&format!("put -c {got} -o /reput"));
    assert!(fs::read(dir.path("reput")).unwrap() == *deep);
    lftp("set ftp:passive-mode no; cd up; mv here there; rm -r there; mkdir -p x/y; rmdir x/y x");
    assert_eq!(names(dir.path("up")), [""; 0]);
}

#[test]
fn ftplib_uses_every_command() {
    const SCRIPT: &str = r#"
import ftplib, io, socket, sys, time
ftp = ftplib.FTP()
ftp.connect('127.0.0.1', int(sys.argv[1]), timeout=20)
assert ftp.getwelcome().startswith('220 ')
def refuses(code, call, *arguments):
    try:
        call(*arguments)
    except ftplib.all_errors as error:
        assert str(error)[:3] == code, error
    else:
        raise AssertionError((code, arguments))
refuses('530', ftp.pwd)
ftp.login()
assert ftp.pwd() == '/'
assert ftp.mkd('dir "with" quotes') == '/dir "with" quotes'
ftp.cwd('dir "with" quotes')
assert ftp.pwd() == '/dir "with" quotes'
refuses('550', ftp.mkd, '/dir "with" quotes')
body = bytes(range(256)) * 5000
for passive in (True, False):
    ftp.set_pasv(passive)
    assert ftp.storbinary('STOR a', io.BytesIO(body)).startswith('226')
    got = []
    assert ftp.retrbinary('RETR a', got.append).startswith('226')
    assert b''.join(got) == body
    got = []
    ftp.retrbinary('RETR a', got.append, rest=1000000)
    assert b''.join(got) == body[1000000:]
    ftp.storlines('STOR text', io.BytesIO(b'one\ntwo\n\nfour'))
    lines = []
    ftp.retrlines('RETR text', lines.append)
    assert lines == ['one', 'two', '', 'four'], lines
    assert ftp.nlst() == ['a', 'text'], ftp.nlst()
    assert ftp.nlst('/') == ['dir "with" quotes']
    lines = []
    ftp.dir(lines.append)
    assert len(lines) == 2 and lines[0].startswith('-rw') and lines[0].endswith(' a'), lines
    facts = dict(ftp.mlsd())
    assert facts['a']['type'] == 'file' and facts['a']['size'] == str(len(body)), facts
    facts = dict(ftp.mlsd('/', ['type', 'perm']))
    assert facts == {'dir "with" quotes': {'type': 'dir', 'perm': 'elcdfmp'}}, facts
    ftp.sendcmd('OPTS MLST type;size;modify;perm;')
ftp.voidcmd('TYPE I')
assert ftp.size('a') == len(body)
stamp = ftp.voidcmd('MDTM a').split()[1]
then = time.mktime(time.strptime(stamp + ' UTC', '%Y%m%d%H%M%S %Z')) - time.timezone
assert abs(then - time.time()) < 60, stamp
ftp.rename('a', '/b')
refuses('550', ftp.size, 'a')
refuses('550', ftp.delete, 'a')
refuses('550', ftp.rename, 'a', 'c')
ftp.delete('text')
ftp.cwd('..')
assert ftp.pwd() == '/'
ftp.cwd('dir "with" quotes')
assert ftp.sendcmd('CDUP').startswith('250')
ftp.rmd('dir "with" quotes')
ftp.storbinary('APPE b', io.BytesIO(b'more'))
assert ftp.size('b') == len(body) + 4
assert 'MLST' in ftp.sendcmd('FEAT') and 'RETR' in ftp.sendcmd('HELP')
# The last byte of ftplib's ABOR is urgent data.
open(sys.argv[2], 'wb').truncate(64 << 20)
for passive in (True, False):
    ftp.set_pasv(passive)
    data, size = ftp.ntransfercmd('RETR large')
    data.recv(1)
    assert ftp.abort().startswith('426')
    assert ftp.voidresp().startswith('226')
    data.close()
assert ftp.abort().startswith('226')
assert ftp.nlst() == ['b', 'large']
assert ftp.quit().startswith('221')
"#;
    let dir = TempDir::new("ftplib");
    let server = serve_writable(&dir.0);
    let large = dir.path("large");
    run("python3", &["-c", SCRIPT, &server.address.port().to_string(), large.to_str().unwrap()]);
    assert_eq!(names(&dir.0), ["b", "large"]);
}

#[test]
fn replies_have_the_codes_of_the_standards() {
    let dir = TempDir::new("replies");
    fs::create_dir(dir.path("dir")).unwrap();
    dir.write("dir/inside", b"x");
    dir.write("file", b"0123456789");
    let server = serve_writable(&dir.0);
    let mut client = server.connect();
    for (line, code) in [
        // Before the login.
        ("PWD", 530),
        ("RETR file", 530),
        ("EPSV", 530),
        ("ABOR", 530),
        ("PASS x", 503),
        ("USER", 501),
        ("FEAT", 211),
        ("SYST", 215),
        ("HELP", 214),
        ("NOOP", 200),
        ("OPTS UTF8 ON", 200),
        ("FROB", 500),
        ("", 500),
        ("AUTH TLS", 502),
        ("user Anonymous", 331),
        ("pass", 230),
        ("PASS again", 503),
        // What is not understood, and what is not done.
        ("FROB file", 500),
        ("RETRIEVE file", 500),
        ("SMNT x", 502),
        ("REIN", 502),
        ("STOU", 502),
        ("SITE CHMOD 777 file", 502),
        ("OPTS FROB", 501),
        // Settings.
        ("TYPE A", 200),
        ("TYPE A N", 200),
        ("TYPE E", 504),
        ("TYPE X", 501),
        ("TYPE", 501),
        ("SIZE file", 550),
        ("REST 5", 504),
        ("TYPE L 8", 200),
        ("TYPE I", 200),
        ("MODE S", 200),
        ("MODE B", 504),
        ("MODE Q", 501),
        ("STRU F", 200),
        ("STRU R", 504),
        ("STRU Q", 501),
        ("ALLO 1000", 200),
        ("ALLO 1000 R 10", 200),
        ("ALLO x", 501),
        // Files and directories.
        ("SIZE file", 213),
        ("SIZE dir", 550),
        ("SIZE none", 550),
        ("MDTM file", 213),
        ("MDTM none", 550),
        ("MLST file", 250),
        ("MLST none", 550),
        ("STAT", 211),
        ("STAT dir", 213),
        ("STAT none", 550),
        ("CWD file", 550),
        ("CWD none", 550),
        ("CWD", 501),
        ("XCWD dir", 250),
        ("XPWD", 257),
        ("XCUP", 250),
        ("XMKD new", 257),
        ("MKD new", 550),
        ("MKD none/new", 550),
        ("MKD", 501),
        ("XRMD new", 250),
        ("RMD new", 550),
        ("RMD dir", 550),
        ("RMD file", 550),
        ("RMD /", 550),
        ("DELE dir", 550),
        ("DELE none", 550),
        ("DELE", 501),
        ("RNTO x", 503),
        ("RNFR none", 550),
        ("RNFR file", 350),
        ("NOOP", 200),
        ("RNTO x", 503),
        ("RNFR file", 350),
        ("RNTO dir", 553),
        ("RNFR file", 350),
        ("RNTO none/x", 553),
        ("RNFR dir", 350),
        ("RNTO dir/inside/x", 553),
        // Transfers.
        ("RETR file", 425),
        ("LIST", 425),
        ("STOR new", 425),
        ("APPE new", 425),
        ("RETR", 501),
        ("STOR", 501),
        ("EPSV", 229),
        ("RETR none", 550),
        ("RETR dir", 550),
        ("STOR dir", 553),
        ("STOR none/x", 553),
        ("STOR file/x", 553),
        ("APPE dir", 553),
        ("LIST none", 550),
        ("NLST none", 550),
        ("MLSD none", 550),
        ("MLSD file", 501),
        ("REST x", 501),
        ("REST -1", 501),
        ("REST 99999999999999999999", 501),
        ("REST 11", 350),
        ("RETR file", 554),
        ("REST 11", 350),
        ("STOR file", 554),
        ("ABOR", 226),
        // Data connections.
        ("PASV", 227),
        ("EPSV 1", 229),
        ("EPSV 2", 522),
        ("EPSV 7", 522),
        ("EPSV x", 501),
        ("PORT 127,0,0,1,200,1", 200),
        ("PORT 127,0,0,1,200", 501),
        ("PORT 127,0,0,1,200,256", 501),
        ("PORT 127,0,0,1,200,-1", 501),
        ("PORT 127,0,0,1,200,1,1", 501),
        ("PORT x", 501),
        ("PORT 127,0,0,2,200,1", 504),
        ("PORT 127,0,0,1,0,25", 504),
        ("PORT 127,0,0,1,3,255", 504),
        ("EPRT |1|127.0.0.1|50000|", 200),
        ("EPRT !1!127.0.0.1!50000!", 200),
        ("EPRT |1|127.0.0.2|50000|", 504),
        ("EPRT |1|127.0.0.1|80|", 504),
        ("EPRT |1|127.0.0.1|99999|", 501),
        ("EPRT |1|::1|50000|", 501),
        ("EPRT |2|::1|50000|", 504),
        ("EPRT |3|x|50000|", 522),
        ("EPRT |1|127.0.0.1|50000", 501),
        ("EPRT", 501),
        ("EPSV ALL", 200),
        ("PASV", 503),
        ("PORT 127,0,0,1,200,1", 503),
        ("EPRT |1|127.0.0.1|50000|", 503),
        ("EPSV", 229),
    ] {
        client.says(line, code);
    }
    assert_eq!(names(&dir.0), ["dir", "file"], "nothing is left of what was refused");
    let feat = client.says("FEAT", 211);
    let features: Vec<_> = feat.lines().collect();
    assert_eq!((features[0], *features.last().unwrap()), ("211-Features", "211 End"));
    assert!(features.contains(&" MLST type*;size*;modify*;perm*;") && features.contains(&" REST STREAM"), "{feat}");
    assert_eq!(client.says("OPTS MLST size;frob;type;", 200), "200 MLST OPTS type;size;\r\n");
    assert!(client.says("MLST file", 250).contains("\r\n type=file;size=10; /file\r\n"));
    assert_eq!(client.lists("MLSD"), "type=dir; dir\r\ntype=file;size=10; file\r\n");
    assert_eq!(client.lists("NLST -la dir"), "inside\r\n");
    assert_eq!(client.lists("LIST -a").lines().count(), 2);
    assert_eq!(client.lists("NLST file"), "file\r\n");
    assert_eq!(client.gets("RETR /dir/../file"), b"0123456789");
    client.says("REST 7", 350);
    assert_eq!(client.gets("RETR file"), b"789");
    assert_eq!(client.gets("RETR file"), b"0123456789", "an offset is for one transfer");
    client.says("QUIT", 221);
    client.hears_the_end();

    // Nothing can be changed where it was not said so.
    let server = serve(&dir.0, &[]);
    let mut client = server.login();
    for line in ["STOR x", "APPE file", "DELE file", "MKD x", "RMD dir", "RNFR file", "RNTO x"] {
        client.says(line, 550);
    }
    assert!(client.says("MLST file", 250).contains(";perm=r; /file\r\n"));
    assert_eq!(client.gets("RETR file"), b"0123456789");
}

#[test]
fn nothing_leads_out_of_the_root() {
    let dir = TempDir::new("confined");
    let root = dir.path("root");
    fs::create_dir_all(root.join("sub/deep")).unwrap();
    fs::create_dir(dir.path("outside")).unwrap();
    dir.write("outside/secret", b"secret");
    dir.write("secret", b"secret");
    dir.write("root/file", b"file");
    let link = |to: &Path, name: &str| symlink(to, root.join(name)).unwrap();
    link(&dir.path("secret"), "absolute");
    link(Path::new("../secret"), "relative");
    link(&dir.path("outside"), "directory");
    link(Path::new(".."), "up");
    link(Path::new("up"), "chain");
    link(Path::new("loop"), "loop");
    link(Path::new("none"), "dangling");
    link(Path::new("/proc/self/root"), "magic");
    link(&root.join("file"), "absolute-inside");
    link(Path::new("sub/../file"), "inside");
    link(Path::new("../../file"), "sub/deep/inside");
    run("mkfifo", &[root.join("fifo").to_str().unwrap()]);

    let server = serve_writable(&root);
    let mut client = server.login();
    // `..` stops at the root.
    for path in ["/..", "../../..", "/../../etc", "sub/../../..", "sub/deep/../../../sub/.."] {
        client.send(format!("CWD {path}\r\n"));
        let mut line = String::new();
        client.control.read_line(&mut line).unwrap();
        assert!(client.says("PWD", 257).starts_with("257 \"/\" "), "{path}: {line}");
    }
    assert_eq!(client.gets("RETR ../../file"), b"file");
    assert_eq!(client.gets("RETR inside"), b"file");
    assert_eq!(client.gets("RETR sub/deep/inside"), b"file");
    assert_eq!(client.gets("RETR //./sub//deep/./inside"), b"file");
    let etc = format!("/etc/passwd /../etc/passwd ../../../../../../etc/passwd {}", dir.path("secret").display());
    let outside = "absolute relative directory/secret up/secret chain/secret chain/up/secret up/root/file loop dangling \
                   magic/etc/passwd absolute-inside directory/../secret/ fifo sub";
    for path in etc.split_whitespace().chain(outside.split_whitespace()) {
        let _data = client.passive();
        client.says(&format!("RETR {path}"), 550);
        client.says(&format!("SIZE {path}"), 550);
        client.says(&format!("MDTM {path}"), 550);
    }
    for path in ["up", "chain", "directory", "up/outside", "magic", "up/root", "chain/root/sub"] {
        client.says(&format!("CWD {path}"), 550);
        client.says(&format!("MLSD {path}"), 550);
        client.says(&format!("STAT {path}"), 550);
        client.says(&format!("MLST {path}"), 550);
        client.says(&format!("MKD {path}/new"), 550);
        client.says(&format!("RMD {path}/new"), 550);
        client.says(&format!("DELE {path}/secret"), 550);
        client.says(&format!("RNFR {path}/secret"), 550);
        client.says("RNFR file", 350);
        client.says(&format!("RNTO {path}/new"), 553);
        let _data = client.passive();
        client.says(&format!("STOR {path}/new"), 553);
        client.says(&format!("APPE {path}/new"), 553);
    }
    // To write in place would be to go through the link.
    for link in ["absolute", "relative", "fifo"] {
        let _data = client.passive();
        client.says(&format!("APPE {link}"), 553);
        client.says("REST 1", 350);
        client.says(&format!("STOR {link}"), 553);
    }
    // A link that leads nowhere within is not shown; one that does is what it leads to.
    let listing = client.lists("NLST");
    assert_eq!(listing, "fifo\r\nfile\r\ninside\r\nsub\r\n");
    assert!(client.lists("MLSD").contains("type=file;size=4;"));
    // An upload replaces a link and not what it leads to.
    client.puts("STOR absolute", b"new");
    assert_eq!(fs::read(dir.path("secret")).unwrap(), b"secret");
    assert!(!root.join("absolute").is_symlink());
    // A name that is taken off or away is the link's own.
    client.says("DELE relative", 250);
    client.says("RNFR directory", 350);
    client.says("RNTO renamed", 250);
    assert_eq!(fs::read_link(root.join("renamed")).unwrap(), dir.path("outside"));

    // Control characters, NUL among them, and what is no UTF-8.
    for path in [&b"file\0"[..], b"file\0.txt", b"a\rb", b"\x1b[2J", b"a\tb", b"\x7f"] {
        for command in [&b"RETR "[..], b"STOR ", b"MKD ", b"CWD ", b"RNTO ", b"SIZE ", b"LIST ", b"USER "] {
            client.says_bytes(&[command, path].concat(), 501);
        }
    }
    client.says_bytes(b"MKD \xc3\x28\xff\xff", 257);
    assert!(root.join(std::ffi::OsStr::from_bytes(b"\xc3\x28\xff")).is_dir(), "IAC is doubled on the wire");
    client.says_bytes(b"RMD \xc3\x28\xff\xff", 250);
    client.says(&format!("MKD {}", "n".repeat(300)), 550);
    client.says(&format!("CWD {}", "sub/../".repeat(1000)), 250);
    client.says(&format!("CWD {}", "s/".repeat(3000)), 550);
    assert_eq!(names(dir.path("outside")), ["secret"]);
    assert_eq!(names(&dir.0), ["outside", "root", "secret"]);

    // What others have put there breaks neither replies nor listings.
    let odd = b"two\r\n226 lines\x1b\xff";
    fs::create_dir(root.join(std::ffi::OsStr::from_bytes(odd))).unwrap();
    for command in ["NLST", "LIST", "MLSD"] {
        let listing = client.gets(command);
        let lines: Vec<_> = listing.split(|&byte| byte == b'\n').collect();
        let shown = lines.iter().filter(|line| line.ends_with(b"two??226 lines?\xff\r")).count();
        assert_eq!(shown, 1, "{}", String::from_utf8_lossy(&listing));
    }
    client.says("STAT .", 213);
    client.says("NOOP", 200);
}

/// Others rename directories and exchange them for links to the outside while a client asks for what is in them.
#[test]
fn nothing_leads_out_while_links_come_and_go() {
    let dir = TempDir::new("race");
    fs::create_dir_all(dir.path("root/place")).unwrap();
    fs::create_dir_all(dir.path("outside")).unwrap();
    dir.write("root/place/file", b"good");
    dir.write("outside/file", b"evil");
    symlink(dir.path("outside"), dir.path("root/link")).unwrap();
    let server = serve_writable(&dir.path("root"));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        let (dir, done) = (&dir, &done);
        s.spawn(move || {
            let [place, link, spare] = ["root/place", "root/link", "root/spare"].map(|name| dir.path(name));
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for (from, to) in [(&place, &spare), (&link, &place), (&place, &link), (&spare, &place)] {
                    fs::rename(from, to).unwrap();
                }
            }
        });
        let mut client = server.login();
        let (mut good, mut refused) = (0, 0);
        while good < 50 || refused < 20 {
            let mut data = client.passive();
            client.send("RETR place/file\r\n");
            let mut line = String::new();
            client.control.read_line(&mut line).unwrap();
            if line.starts_with("150 ") {
                let mut text = String::new();
                data.read_to_string(&mut text).unwrap();
                client.hears(226);
                assert_eq!(text, "good");
                good += 1;
            } else {
                assert!(line.starts_with("550 "), "{line}");
                refused += 1;
            }
            client.send(format!("MKD place/new{good}-{refused}\r\n"));
            line.clear();
            client.control.read_line(&mut line).unwrap();
            if good + refused > 20_000 {
                break;
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(names(dir.path("outside")), ["file"]);
}

#[test]
fn lines_may_come_in_any_shape() {
    let dir = TempDir::new("lines");
    dir.write("file", b"text");
    let server = serve_writable(&dir.0);
    let mut client = server.connect();
    // A byte at a time, and without CR.
    for byte in b"USER anonymous\r\nPASS x\nNOOP\r\n" {
        client.send([*byte]);
    }
    for code in [331, 230, 200] {
        client.hears(code);
    }
    // Many at once are answered in order; more than are kept waiting, too.
    client.send("PWD\r\nNOOP\r\nFROB\r\nSYST\r\nMDTM none\r\n".repeat(200));
    for _ in 0..200 {
        for code in [257, 200, 500, 215, 550] {
            client.hears(code);
        }
    }
    // Too long a line is skipped, and the connection stays.
    for (length, code) in [(8000, 200), (8192, 500), (100_000, 500), (1_000_000, 500)] {
        client.send(format!("NOOP {}\r\nSYST\r\n", "x".repeat(length)));
        client.hears(code);
        client.hears(215);
    }
    // Telnet's own words are not ours.
    client.says_bytes(b"\xff\xf4\xff\xf2NO\xff\xfb\x01OP\xff\xf1", 200);
    // QUIT behind others is the last.
    client.send("NOOP\r\nQUIT\r\nNOOP\r\n");
    client.hears(200);
    client.hears(221);
    client.hears_the_end();

    // A last line without an end is none; one who hangs up is gone.
    let client = server.connect();
    client.send("QUI");
    client.control.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(std::io::read_to_string(client.control).unwrap(), "");
}

#[test]
fn text_is_sent_with_cr_and_lf() {
    let dir = TempDir::new("text");
    let server = serve_writable(&dir.0);
    let mut client = server.login();
    client.says("TYPE A", 200);
    client.puts("STOR text", b"one\r\ntwo\nthree\rfour\r\r\nfive\r");
    assert_eq!(fs::read(dir.path("text")).unwrap(), b"one\ntwo\nthree\rfour\r\nfive\r");
    assert_eq!(client.gets("RETR text"), b"one\r\ntwo\r\nthree\rfour\r\r\nfive\r");
    let lines = b"line\n".repeat(200_000);
    dir.write("long", &lines);
    let sent = client.gets("RETR long");
    assert_eq!(sent.len(), 1_200_000);
    client.puts("STOR back", &sent);
    assert!(fs::read(dir.path("back")).unwrap() == lines);
}

#[test]
fn an_abort_comes_through_in_the_midst_of_a_transfer() {
    let dir = TempDir::new("abort");
    dir.large("large");
    dir.write("old", b"old");
    let server = serve_writable(&dir.0);
    let mut client = server.login();
    for (text, urgent) in [(&b"ABOR\r\n"[..], false), (b"\xff\xf4\xff\xf2ABOR\r\n", false), (b"ABOR\r\n", true)] {
        let data = client.passive();
        client.says("RETR large", 150);
        if urgent {
            let sent = SockRef::from(client.control.get_ref()).send_out_of_band(text).unwrap();
            assert_eq!(sent, text.len());
        } else {
            client.send(text);
        }
        client.hears(426);
        client.hears(226);
        drop(data);
        client.says("NOOP", 200);

        let data = client.begins("STOR old", &[7; 1_000_000]);
        assert_eq!(names(&dir.0).len(), 3, "what has come is under another name");
        assert_eq!(client.lists_elsewhere(&server), "large\r\nold\r\n");
        client.send(text);
        client.hears(426);
        client.hears(226);
        drop(data);
        assert_eq!(names(&dir.0), ["large", "old"]);
        assert_eq!(fs::read(dir.path("old")).unwrap(), b"old");
    }
    // The name that it has meanwhile is nobody's, even if it is known.
    let data = client.begins("STOR new", &[7; 1000]);
    let hidden = names(&dir.0).swap_remove(0);
    assert!(hidden.starts_with('.'), "{hidden}");
    let mut other = server.login();
    for (command, code) in [("RETR", 550), ("DELE", 550), ("RNFR", 550), ("MKD", 550), ("MLST", 550), ("CWD", 550)] {
        other.says(&format!("{command} {hidden}"), code);
    }
    other.says("RNFR old", 350);
    other.says(&format!("RNTO {hidden}"), 553);
    let others_data = other.passive();
    other.says(&format!("STOR {hidden}"), 553);
    other.says(&format!("APPE {hidden}"), 553);
    drop((data, others_data));
    client.hears(226);
    client.says("DELE new", 250);

    // What else is said meanwhile waits for its turn, and a QUIT for the end.
    let mut data = client.begins("STOR new", b"1234");
    client.send("NOOP\r\nSIZE new\r\nQUIT\r\n");
    client.says("STAT", 211);
    data.write_all(b"5678").unwrap();
    drop(data);
    client.hears(226);
    client.hears(200);
    assert_eq!(client.hears(213), "213 8\r\n");
    client.hears(221);
    client.hears_the_end();

    // One that may be too late: it is answered once, too, and the client knows what became of the transfer.
    let mut client = server.login();
    for _ in 0..100 {
        let mut data = client.passive();
        client.says("RETR old", 150);
        data.read_to_end(&mut Vec::new()).unwrap();
        client.send("ABOR\r\nNOOP\r\n");
        let mut line = String::new();
        client.control.read_line(&mut line).unwrap();
        assert!(line.starts_with("226 ") || line.starts_with("426 "), "{line}");
        client.hears(226);
        client.hears(200);
    }
    // One that comes together with the command; and one before the data connection is there.
    let _data = client.passive();
    client.send("RETR large\r\nABOR\r\nNOOP\r\n");
    for code in [150, 426, 226, 200] {
        client.hears(code);
    }
    client.says("EPSV", 229);
    client.says("STOR never", 150);
    client.says("ABOR", 426);
    client.hears(226);
    assert_eq!(names(&dir.0), ["large", "new", "old"]);
}

impl Client {
    fn lists_elsewhere(&self, server: &Server) -> String {
        server.login().lists("NLST")
    }
}

#[test]
fn an_upload_is_whole_or_not_there() {
    let dir = TempDir::new("whole");
    dir.write("old", &[1; 100_000]);
    // One client at a time: the next is let in when the last one is done with.
    let server = serve(&dir.0, &["--writable", "--max-clients", "1"]);
    let next = || {
        loop {
            let mut client = server.call();
            let mut line = String::new();
            client.control.read_line(&mut line).unwrap();
            if line.starts_with("220 ") {
                client.says("USER ftp", 331);
                client.says("PASS x", 230);
                client.says("TYPE I", 200);
                return client;
            }
            assert!(line.starts_with("421 "), "{line}");
        }
    };
    // One who dies: all his connections are closed, the oldest first.
    let mut client = next();
    let data = client.begins("STOR old", &[2; 500_000]);
    drop(client);
    drop(data);
    let mut client = next();
    assert_eq!(names(&dir.0), ["old"]);
    assert!(fs::read(dir.path("old")).unwrap() == [1; 100_000]);
    // One whose connection is reset.
    let data = client.begins("STOR new", &[2; 500_000]);
    SockRef::from(&data).set_linger(Some(Duration::ZERO)).unwrap();
    drop(data);
    client.hears(426);
    assert_eq!(names(&dir.0), ["old"]);
    // One who hangs up on the control connection alone, which is an end too.
    let data = client.begins("STOR new", &[2; 500_000]);
    drop(client);
    let mut client = next();
    drop(data);
    assert_eq!(names(&dir.0), ["old"]);
    // Those who read go on with the file that they have opened.
    dir.large("large");
    let mut data = client.passive();
    client.says("RETR large", 150);
    fs::write(dir.path("other"), b"new").unwrap();
    fs::rename(dir.path("other"), dir.path("large")).unwrap();
    let mut sum = 0;
    let mut block = vec![0; 1 << 20];
    loop {
        match data.read(&mut block).unwrap() {
            0 => break,
            n => sum += n as u64,
        }
    }
    client.hears(226);
    assert_eq!(sum, LARGE);

    // In place: what came stays, so that it can be gone on with.
    for (command, rest) in [("APPE part", 0), ("STOR part", 500_000)] {
        if rest > 0 {
            client.says(&format!("REST {rest}"), 350);
        }
        let data = client.begins(command, &[3; 500_000]);
        drop(client);
        drop(data);
        client = next();
        assert_eq!(fs::read(dir.path("part")).unwrap(), vec![3; rest + 500_000]);
    }
    // What lay behind is replaced.
    client.says("REST 10", 350);
    client.puts("STOR part", b"end");
    assert_eq!(fs::read(dir.path("part")).unwrap(), b"\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03end");
    client.says("REST 5", 350);
    let _data = client.passive();
    client.says("STOR none", 553);

    let server = serve_writable(&dir.0);
    let (mut one, mut other) = (server.login(), server.login());
    let data = one.begins("APPE part", b"one");
    let _data = other.passive();
    other.says("APPE part", 450);
    drop(data);
    one.hears(226);
    other.puts("APPE part", b"other");
    assert!(fs::read(dir.path("part")).unwrap().ends_with(b"endoneother"));
}

#[test]
fn those_who_die_leave_no_file_and_no_descriptor() {
    let dir = TempDir::new("die");
    dir.large("large");
    let server = serve_writable(&dir.0);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count();
    let mut witness = server.login();
    assert_eq!(witness.lists("NLST"), "large\r\n");
    let before = descriptors();
    std::thread::scope(|s| {
        for number in 0..60 {
            let server = &server;
            s.spawn(move || {
                let mut client = server.login();
                match number % 6 {
                    // In the midst of an upload, of a download, of a wait for a data connection.
                    0 => {
                        let data = client.begins(&format!("STOR new{number}"), &[1; 300_000]);
                        drop(client);
                        drop(data);
                    }
                    1 => {
                        let mut data = client.passive();
                        client.says("RETR large", 150);
                        data.read_exact(&mut [0; 1000]).unwrap();
                        drop((data, client));
                    }
                    2 => {
                        client.says("EPSV", 229);
                        client.says("RETR large", 150);
                    }
                    // Before a transfer, in the midst of a command, in the midst of many.
                    3 => drop(client.passive()),
                    4 => client.send("RETR lar"),
                    _ => client.send("MLST large\r\n".repeat(50)),
                }
            });
        }
    });
    let begun = Instant::now();
    while descriptors() > before {
        assert!(begun.elapsed() < Duration::from_secs(20), "{} descriptors, {before} before", descriptors());
        witness.says("NOOP", 200);
    }
    assert_eq!(names(&dir.0), ["large"]);
}

#[test]
fn two_hundred_transfers_at_once_are_all_right() {
    const CLIENTS: usize = 200;
    const SIZE: usize = 1 << 20;
    let dir = TempDir::new("many");
    for number in (0..CLIENTS).step_by(2) {
        dir.write(&format!("down{number}"), &noise(number as u64, SIZE));
    }
    let server = serve_writable(&dir.0);
    let ready = Barrier::new(CLIENTS);
    std::thread::scope(|s| {
        for number in 0..CLIENTS {
            let (server, ready) = (&server, &ready);
            let client = move || {
                let mut client = server.login();
                let mut data = client.passive();
                let bytes = noise(number as u64, SIZE);
                ready.wait();
                if number % 2 == 0 {
                    client.says(&format!("RETR down{number}"), 150);
                    // All are under way before any can end.
                    ready.wait();
                    let mut got = Vec::new();
                    data.read_to_end(&mut got).unwrap();
                    client.hears(226);
                    assert!(got == bytes, "{number}");
                } else {
                    client.says(&format!("STOR up{number}"), 150);
                    ready.wait();
                    data.write_all(&bytes).unwrap();
                    drop(data);
                    client.hears(226);
                }
            };
            std::thread::Builder::new().stack_size(256 * 1024).spawn_scoped(s, client).unwrap();
        }
    });
    for number in (1..CLIENTS).step_by(2) {
        assert!(fs::read(dir.path(&format!("up{number}"))).unwrap() == noise(number as u64, SIZE), "{number}");
    }
    assert_eq!(names(&dir.0).len(), CLIENTS);
}

#[test]
fn slow_readers_hold_up_nobody() {
    let dir = TempDir::new("slow");
    dir.large("large");
    dir.write("small", &noise(1, 1 << 20));
    let server = serve_writable(&dir.0);
    // More than there are native threads for files.
    let mut slow: Vec<_> = (0..64)
        .map(|_| {
            let mut client = server.login();
            let mut data = client.passive();
            client.says("RETR large", 150);
            data.read_exact(&mut [0]).unwrap();
            (client, data)
        })
        .collect();
    for number in 0..5 {
        let mut quick = server.login();
        assert!(quick.gets("RETR small") == noise(1, 1 << 20));
        quick.puts(&format!("STOR new{number}"), &noise(2, 1 << 20));
        assert_eq!(quick.lists("NLST").lines().count(), number + 3);
    }
    // All of them were under way meanwhile, and are.
    for (client, data) in &mut slow {
        data.read_exact(&mut [0]).unwrap();
        let stat = client.says("STAT", 211);
        let moved: u64 = stat.split(' ').nth(1).unwrap().parse().expect("a transfer goes on");
        assert!((2..LARGE).contains(&moved), "{stat}");
    }
    let (mut client, data) = slow.pop().unwrap();
    assert_eq!(std::io::copy(&mut { data }, &mut std::io::sink()).unwrap(), LARGE - 2);
    client.hears(226);
}

/// A server in a file system of its own, of 4 MiB; none if this machine lets nobody have one.
fn serve_small_disk(dir: &TempDir) -> Option<Server> {
    let ways = [&["--user", "--map-root-user", "--mount"][..], &["--mount"]];
    let way = ways.into_iter().find(|way| {
        let mount = ["sh", "-c", "mount -t tmpfs -o size=4m none \"$0\"", dir.0.to_str().unwrap()];
        Command::new("unshare").args(*way).args(mount).output().is_ok_and(|output| output.status.success())
    })?;
    let mut command = Command::new("unshare");
    command.args(way).args(["sh", "-c", "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\""]);
    command.arg(&dir.0).arg(example()).arg("--root").arg(&dir.0).arg("--writable");
    Some(start(command))
}

#[test]
fn a_full_disk_leaves_no_part_of_a_file() {
    let dir = TempDir::new("full");
    let Some(server) = serve_small_disk(&dir) else {
        eprintln!("no file system of its own can be had here: nothing was checked");
        return;
    };
    let inside = PathBuf::from(format!("/proc/{}/root", server.child.id())).join(dir.0.strip_prefix("/").unwrap());
    let mut client = server.login();
    client.puts("STOR old", b"old");
    // Another goes on all the while.
    let mut other = server.login();
    let mut others_data = other.begins("STOR other", &[5; 100_000]);
    for name in ["new", "old"] {
        let mut data = client.passive();
        client.says(&format!("STOR {name}"), 150);
        // The server has had enough before all of it is sent.
        let _cut = data.write_all(&noise(1, 8 << 20));
        drop(data);
        client.hears(452);
        assert_eq!(client.lists("NLST"), "old\r\n");
    }
    assert_eq!(client.gets("RETR old"), b"old");
    others_data.write_all(&[5; 100_000]).unwrap();
    drop(others_data);
    other.hears(226);
    assert_eq!(names(&inside), ["old", "other"]);
    // The room is there again.
    client.puts("STOR most", &noise(2, 3 << 20));
    assert_eq!(names(&inside), ["most", "old", "other"]);
    // curl says it in its own way.
    let status = {
        let large = std::env::temp_dir().join(format!("greenroom-ftp_server-{}-8m", std::process::id()));
        fs::write(&large, noise(3, 8 << 20)).unwrap();
        let upload = ["--silent", "--upload-file", large.to_str().unwrap(), &server.url("curls")];
        let status = Command::new("curl").args(upload).status().unwrap();
        fs::remove_file(large).unwrap();
        status
    };
    assert!(!status.success());
    // It may have left before the server knew.
    let left = Instant::now();
    while names(&inside) != ["most", "old", "other"] {
        assert!(left.elapsed() < Duration::from_secs(20), "{:?}", names(&inside));
        client.says("NOOP", 200);
    }
}

#[test]
fn a_file_that_is_too_large_leaves_nothing() {
    let dir = TempDir::new("limit");
    let mut command = Command::new("sh");
    // In units of 512 bytes; and the system shall give an error, and not a signal.
    command.args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""]).arg(example());
    command.arg("--root").arg(&dir.0).arg("--writable");
    let server = start(command);
    let mut client = server.login();
    client.puts("STOR fits", &[1; 1 << 20]);
    let mut data = client.passive();
    client.says("STOR more", 150);
    let _cut = data.write_all(&[2; 4 << 20]);
    drop(data);
    client.hears(552);
    assert_eq!(names(&dir.0), ["fits"]);
}

#[test]
fn data_connections_are_the_clients_own() {
    let dir = TempDir::new("data");
    dir.write("file", b"text");
    let server = serve(&dir.0, &["--data-timeout", "0.5"]);
    let mut client = server.login();
    // A stranger comes first, and is turned away.
    let reply = client.says("PASV", 227);
    let numbers: Vec<u16> =
        reply.split(['(', ')']).nth(1).unwrap().split(',').map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers[..4], [127, 0, 0, 1]);
    let port = SocketAddr::from((Ipv4Addr::LOCALHOST, numbers[4] * 256 + numbers[5]));
    let stranger = Socket::new(Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    stranger.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()).unwrap();
    stranger.connect(&port.into()).unwrap();
    let data = TcpStream::connect(port).unwrap();
    client.says("RETR file", 150);
    assert_eq!(std::io::read_to_string(data).unwrap(), "text");
    client.hears(226);
    stranger.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(matches!(TcpStream::from(stranger).read(&mut [0]), Ok(0) | Err(_)));

    // Nobody comes.
    client.says("EPSV", 229);
    client.says("RETR file", 150);
    client.hears(425);
    // Nobody answers: a port that was just given back.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    client.says(&format!("EPRT |1|127.0.0.1|{gone}|"), 200);
    client.says("RETR file", 150);
    client.hears(425);
    client.says("RETR file", 425);
    // The last word counts.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let [high, low] = listener.local_addr().unwrap().port().to_be_bytes();
    let unused = client.passive();
    client.says(&format!("PORT 127,0,0,1,{high},{low}"), 200);
    client.says("RETR file", 150);
    assert_eq!(std::io::read_to_string(listener.accept().unwrap().0).unwrap(), "text");
    client.hears(226);
    drop(unused);

    // No byte moves: in one direction, and in the other.
    dir.large("large");
    let data = client.passive();
    client.says("RETR large", 150);
    client.hears(426);
    drop(data);
    let server = serve(&dir.0, &["--data-timeout", "0.3", "--writable"]);
    let mut client = server.login();
    let data = client.begins("STOR new", b"some");
    client.hears(426);
    drop(data);
    assert_eq!(names(&dir.0), ["file", "large"]);

    // A range of one port, and an address in front.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let range = format!("{free}-{free}");
    let server = serve(&dir.0, &["--passive-ports", &range, "--public-address", "192.0.2.7"]);
    let (mut one, mut other) = (server.login(), server.login());
    let [high, low] = free.to_be_bytes();
    for _ in 0..3 {
        assert!(one.says("PASV", 227).contains(&format!("(192,0,2,7,{high},{low})")));
        other.says("EPSV", 425);
        assert_eq!(one.gets("RETR file"), b"text");
    }
    assert_eq!(other.gets("RETR file"), b"text");
}

#[test]
fn it_speaks_ipv6_where_there_is_some() {
    if TcpListener::bind((IpAddr::from(Ipv6Addr::LOCALHOST), 0)).is_err() {
        eprintln!("there is no IPv6 here: nothing was checked");
        return;
    }
    let dir = TempDir::new("v6");
    dir.write("file", b"text");
    let server = serve(&dir.0, &["--listen", "[::1]:0"]);
    assert_eq!(curl(&[&server.url("file")]), "text");
    assert_eq!(curl(&["--ftp-port", "-", &server.url("file")]), "text");
    let mut client = server.login();
    client.says("PASV", 522);
    client.says("EPSV 1", 522);
    client.says("EPRT |2|::2|50000|", 504);
    assert_eq!(client.gets("RETR file"), b"text");

    // Where one socket takes both, a client by IPv4 is one.
    let server = serve(&dir.0, &["--listen", "[::]:0"]);
    let url = format!("ftp://127.0.0.1:{}/file", server.address.port());
    for way in [&["--disable-epsv"][..], &["--epsv"], &["--ftp-port", "-"], &["--ftp-port", "-", "--disable-eprt"]] {
        assert_eq!(curl(&[way, &[&url]].concat()), "text", "{way:?}");
    }
}

#[test]
fn clients_are_limited_in_number_and_in_silence() {
    let dir = TempDir::new("limits");
    dir.large("large");
    let server = serve(&dir.0, &["--max-clients", "3"]);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    let mut fourth = server.call();
    fourth.hears(421);
    fourth.hears_the_end();
    clients[0].says("QUIT", 221);
    clients[0].hears_the_end();
    let mut next = server.call();
    while next.control.fill_buf().unwrap().starts_with(b"421") {
        next = server.call();
    }
    next.hears(220);
    let server = serve(&dir.0, &["--max-per-address", "1"]);
    let _first = server.connect();
    server.call().hears(421);
    let other = Socket::new(Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    other.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()).unwrap();
    other.connect(&server.address.into()).unwrap();
    Client::new(other.into()).hears(220);

    // Who says nothing is shown out; whose transfer takes long is not.
    let server = serve(&dir.0, &["--idle", "0.4"]);
    let begun = Instant::now();
    let mut silent = server.connect();
    let mut half = server.connect();
    half.send("USER anonym");
    let mut busy = server.login();
    let mut data = busy.passive();
    busy.says("RETR large", 150);
    for client in [&mut silent, &mut half] {
        client.hears(421);
        client.hears_the_end();
    }
    assert!(begun.elapsed() >= Duration::from_millis(400));
    busy.says("STAT", 211);
    assert_eq!(std::io::copy(&mut data, &mut std::io::sink()).unwrap(), LARGE);
    busy.hears(226);
    busy.hears(421);
    busy.hears_the_end();
}

#[test]
fn a_signal_lets_transfers_finish() {
    let dir = TempDir::new("stop");
    dir.large("large");
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let server = serve(&dir.0, &["--writable", "--stop-timeout", "3600"]);
        let mut idle = server.login();
        let mut silent = server.connect();
        let mut down = server.login();
        let mut down_data = down.passive();
        down.says("RETR large", 150);
        let mut up = server.login();
        let mut up_data = up.begins("STOR new", b"one ");
        server.signal(signal);
        idle.hears(421);
        idle.hears_the_end();
        silent.hears(421);
        silent.hears_the_end();
        while TcpStream::connect(server.address).is_ok() {}
        assert_eq!(std::io::copy(&mut down_data, &mut std::io::sink()).unwrap(), LARGE);
        up_data.write_all(b"two").unwrap();
        drop(up_data);
        for client in [&mut down, &mut up] {
            client.hears(226);
            client.hears(421);
            client.hears_the_end();
        }
        server.ends();
        assert_eq!(fs::read(dir.path("new")).unwrap(), b"one two");
        fs::remove_file(dir.path("new")).unwrap();
    }
}

#[test]
fn a_second_signal_ends_it_at_once_and_leaves_nothing() {
    let dir = TempDir::new("stop-at-once");
    dir.large("large");
    let server = serve(&dir.0, &["--writable", "--stop-timeout", "3600"]);
    let mut down = server.login();
    let _down_data = down.passive();
    down.says("RETR large", 150);
    let mut up = server.login();
    let _up_data = up.begins("STOR new", &[1; 500_000]);
    assert_eq!(names(&dir.0).len(), 2);
    server.signal(libc::SIGINT);
    while TcpStream::connect(server.address).is_ok() {}
    server.signal(libc::SIGTERM);
    server.ends();
    assert_eq!(names(&dir.0), ["large"]);
}

#[test]
fn what_cannot_be_served_is_told_at_the_start() {
    for arguments in
        [&["--root", "/nonexistent"][..], &["--user", "ann"], &["--passive-ports", "9-1"], &["--idle", "x"]]
    {
        let output = Command::new(example()).args(arguments).env_remove("FTP_PASSWORD").output().unwrap();
        assert!(!output.status.success() && !output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
}

proptest! {
    /// However lines are cut, they are the same; nothing that is sent makes the parser panic, and what it says is one reply.
    #[test]
    fn lines_are_the_same_however_they_are_cut(bytes in prop::collection::vec(bytes(), 0..200), cuts in prop::collection::vec(0..200usize, 0..8)) {
        use command::{Command, Line, Lines, Reply};
        let mut whole = Vec::new();
        Lines::default().feed(&bytes, |line| whole.push(line));
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let (mut lines, mut pieces) = (Lines::default(), Vec::new());
        for place in cuts.windows(2) {
            lines.feed(&bytes[place[0]..place[1]], |line| pieces.push(line));
        }
        prop_assert_eq!(&whole, &pieces);
        for line in whole {
            let Line::Whole(line) = line else { continue };
            if let Err(reply) = Command::parse(&line) {
                prop_assert!((500..600).contains(&reply.code));
            }
            let encoded = Reply::new(257, &line).encode();
            prop_assert!(encoded.ends_with(b"\r\n"));
            prop_assert_eq!(encoded[..encoded.len() - 2].iter().filter(|byte| byte.is_ascii_control()).count(), 0);
        }
    }
}

/// Bytes that matter, more often than others.
fn bytes() -> impl Strategy<Value = u8> {
    prop_oneof![Just(b'\r'), Just(b'\n'), Just(255), Just(244), Just(253), Just(0), Just(b' '), any::<u8>()]
}
