//! The servers of others, from Debian's packages, each on a free port of the loopback, with its data in a directory that is
//! removed after it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Who the servers run as when the tests are root's: some of them refuse to be root.
const NOBODY: u32 = 65534;

/// By its name, for setpriv, and its number.
type Signal = (&'static str, i32);

const KILL: Signal = ("KILL", libc::SIGKILL);
/// By which PostgreSQL ends its children, too.
const QUIT: Signal = ("QUIT", libc::SIGQUIT);

/// A server that runs. Ends when dropped, and with the thread that started it.
#[derive(Debug)]
pub struct Program {
    child: Child,
    address: SocketAddr,
    signal: Signal,
    /// Removed after the server's end: a field is dropped after the whole.
    _directory: Directory,
}

impl Program {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Starts `command` and waits until `ready`. It ends by `signal`.
    fn start(
        place: Place,
        signal: Signal,
        command: &str,
        arguments: &[&str],
        mut ready: impl FnMut(SocketAddr) -> bool,
    ) -> Program {
        let log = place.directory.0.join("log");
        let output = File::create(&log).expect("the directory is there");
        let mut command = as_somebody(command, signal);
        command.args(arguments).current_dir(&place.directory.0);
        command.stdout(output.try_clone().expect("a descriptor")).stderr(output);
        let child = command.spawn().expect("setpriv is there");
        let mut program = Program { child, address: place.address, signal, _directory: place.directory };

        let begun = Instant::now();
        while !ready(program.address) {
            let ended = program.child.try_wait().expect("it is a child");
            if ended.is_some() || begun.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("{command:?} does not answer, ended: {ended:?}\n{log}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: a child that was not waited for yet still has its number (kill(2)).
        unsafe { libc::kill(self.child.id().cast_signed(), self.signal.1) };
        let _ = self.child.wait();
    }
}

/// Removes a directory with all that is in it when dropped.
#[derive(Debug)]
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where a server is going to be.
struct Place {
    directory: Directory,
    address: SocketAddr,
    port: String,
}

impl Place {
    fn new(name: &str) -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("greenroom-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory).expect("no other has this name");
        if is_root() {
            std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        let port = free_port();
        Place { directory: Directory(directory), address: (Ipv4Addr::LOCALHOST, port).into(), port: port.to_string() }
    }

    fn path(&self, name: &str) -> String {
        self.directory.0.join(name).to_str().expect("an ordinary name").to_owned()
    }
}

/// A port below those that the system gives to clients: nobody takes it in the meantime.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() * 64;
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = u16::try_from(port).expect("below 30,000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn is_root() -> bool {
    // SAFETY: no obligations (geteuid(2)).
    unsafe { libc::geteuid() == 0 }
}

/// A command that gets `signal` when the thread that starts it ends, and is not root.
fn as_somebody(command: &str, signal: Signal) -> Command {
    let mut setpriv = Command::new("setpriv");
    // Some are root's only by their place.
    setpriv.env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin");
    setpriv.args(["--pdeathsig", signal.0]);
    if is_root() {
        let id = NOBODY.to_string();
        setpriv.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    }
    setpriv.arg("--").arg(command);
    setpriv
}

/// Runs a command to its end.
fn finish(command: &str, arguments: &[&str]) {
    let output = as_somebody(command, KILL).args(arguments).output().expect("setpriv is there");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

fn answers(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// redis-server.
pub fn redis() -> Program {
    let place = Place::new("redis");
    let port = place.port.clone();
    let arguments =
        ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxclients", "2000"];
    Program::start(place, KILL, "redis-server", &arguments, answers)
}

/// PostgreSQL, user `postgres`, without a password, for up to 500 clients.
pub fn postgres() -> Program {
    let place = Place::new("postgres");
    let versions = Path::new("/usr/lib/postgresql");
    let programs = std::fs::read_dir(versions).expect("Debian's PostgreSQL").flatten().map(|version| version.path());
    let programs = programs.max().expect("a version").join("bin");
    let program = |name: &str| programs.join(name).to_str().expect("an ordinary name").to_owned();
    let (data, port) = (place.path("data"), place.port.clone());
    let new = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync"];
    finish(&program("initdb"), &new);

    let is_ready = program("pg_isready");
    let settings = ["max_connections=500", "fsync=off", "listen_addresses=127.0.0.1", "unix_socket_directories="];
    let mut arguments = vec!["-D", &data, "-p", &port];
    arguments.extend(settings.iter().flat_map(|setting| ["-c", setting]));
    Program::start(place, QUIT, &program("postgres"), &arguments, |_| {
        Command::new(&is_ready).args(["-q", "-h", "127.0.0.1", "-p", &port]).status().expect("a program").success()
    })
}

/// MariaDB, any user, without a password, for up to 500 clients, with a database `test`.
pub fn mariadb() -> Program {
    let place = Place::new("mariadb");
    let data = format!("--datadir={}", place.path("data"));
    finish("mariadb-install-db", &["--no-defaults", &data, "--skip-test-db"]);
    std::fs::create_dir(place.directory.0.join("data/test")).expect("no other made it");
    if is_root() {
        std::os::unix::fs::chown(place.directory.0.join("data/test"), Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    let port = format!("--port={}", place.port);
    let socket = format!("--socket={}", place.path("socket"));
    let pid = format!("--pid-file={}", place.path("pid"));
    let arguments = [
        "--no-defaults",
        &data,
        &port,
        &socket,
        &pid,
        "--bind-address=127.0.0.1",
        "--skip-grant-tables",
        "--skip-networking=0",
        "--skip-name-resolve",
        "--max-connections=500",
        "--innodb-flush-log-at-trx-commit=0",
    ];
    Program::start(place, KILL, "mariadbd", &arguments, answers)
}

/// memcached.
pub fn memcached() -> Program {
    let place = Place::new("memcached");
    let port = place.port.clone();
    let arguments = ["-l", "127.0.0.1", "-p", &port, "-U", "0", "-c", "2000", "-t", "1"];
    Program::start(place, KILL, "memcached", &arguments, answers)
}

/// mosquitto, an MQTT broker that lets in everybody.
pub fn mosquitto() -> Program {
    let place = Place::new("mosquitto");
    let settings = place.path("settings");
    let text = format!("listener {} 127.0.0.1\nallow_anonymous true\n", place.port);
    std::fs::write(&settings, text).expect("the directory is there");
    Program::start(place, KILL, "mosquitto", &["-c", &settings], answers)
}

/// An SMTP server by aiosmtpd, which answers to the text of a message with its subject.
pub fn smtp() -> Program {
    let place = Place::new("smtp");
    let port = place.port.clone();
    Program::start(place, KILL, PYTHON, &["-c", include_str!("smtp.py"), &port], answers)
}

/// An FTP server by pyftpdlib, where everybody may read and write.
pub fn ftp() -> Program {
    let place = Place::new("ftp");
    let port = place.port.clone();
    let arguments = ["-m", "pyftpdlib", "-i", "127.0.0.1", "-p", &port, "-w", "-d", &place.path("")];
    Program::start(place, KILL, PYTHON, &arguments, answers)
}

/// Debian's own: the packages of the servers are its.
const PYTHON: &str = "/usr/bin/python3";
