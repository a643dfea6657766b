//! FTP over TCP: how fast a large file comes, from the example `ftp_server` as it stands and from vsftpd.
//!
//! The file lies in memory (`/dev/shm`, where there is that), and the client, the same for both, reads and forgets. The servers take
//! turns in rounds; a ratio is that of two neighbours in a round. Without vsftpd on the machine there is nothing to compare with, and the
//! program says so.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use greenroom::server::{ServerHandle, StreamServer};
use greenroom_benches::{is_quick, is_trial, median};

#[path = "../examples/ftp_server/command.rs"]
mod command;
#[path = "../examples/ftp_server/control.rs"]
mod control;
#[path = "../examples/ftp_server/data.rs"]
mod data;
#[path = "../examples/ftp_server/listing.rs"]
mod listing;
#[path = "../examples/ftp_server/root.rs"]
mod root;
#[path = "../examples/ftp_server/session.rs"]
#[allow(dead_code, reason = "the bench stops it by force")]
mod session;
#[path = "../examples/ftp_server/transfer.rs"]
mod transfer;

fn main() -> Result<(), Box<dyn Error>> {
    let (size, rounds) = match (is_trial(), is_quick()) {
        (true, _) => (1 << 20, 1),
        (_, true) => (256 << 20, 5),
        _ => (1 << 30, 21),
    };
    let scratch = Scratch::new()?;
    fill(&scratch.0.join("file"), size)?;
    let (greenroom, handle) = start_greenroom(&scratch.0);
    let vsftpd = start_vsftpd(&scratch.0)?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(retrieve(greenroom, size)?);
        if let Some((_, address)) = &vsftpd {
            theirs.push(retrieve(*address, size)?);
        }
    }
    handle.stop_nowait(Duration::ZERO);
    let rate = |seconds: &[f64]| size as f64 / median(seconds.to_vec()) / 1e9;
    println!("ftp/RETR greenroom {:6.2} GB/s median", rate(&ours));
    if theirs.is_empty() {
        println!("ftp/RETR vsftpd: not installed, nothing to compare with");
    } else {
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| theirs / ours).collect();
        println!(
            "ftp/RETR vsftpd    {:6.2} GB/s median; greenroom's rate to it {:.3} median",
            rate(&theirs),
            median(ratios)
        );
    }
    Ok(())
}

/// A directory in memory, which goes in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Scratch> {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let scratch = Scratch(place.join(format!("greenroom-ftp-{}", std::process::id())));
        fs::create_dir(&scratch.0)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// Every page of it is there: a hole would be sent without being read.
fn fill(path: &Path, size: usize) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let block = vec![0x5a; 1 << 20];
    for _ in 0..size / block.len() {
        file.write_all(&block)?;
    }
    Ok(())
}

fn start_greenroom(root: &Path) -> (SocketAddr, ServerHandle) {
    let (tell, told) = channel();
    let root = root.to_owned();
    thread::spawn(move || {
        let policy = session::Policy {
            account: None,
            writable: false,
            max_clients: 1000,
            max_per_address: usize::MAX,
            idle: Duration::from_secs(300),
            patience: Duration::from_secs(60),
            passive_ports: None,
            public_address: None,
        };
        let root = root::Root::open(&root).expect("the directory was just made");
        let service = Rc::new(session::Service::new(root, policy));
        let listener = greenroom::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let server = StreamServer::new(listener, move |stream, client| service.serve(stream, client));
        tell.send((server.local_addr().expect("it listens"), server.handle())).expect("main waits");
        server.serve_forever().expect("nothing goes wrong");
    });
    told.recv().expect("the server tells where it is")
}

/// A program that ends with this one.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// None if it is not installed.
fn start_vsftpd(root: &Path) -> Result<Option<(Running, SocketAddr)>, Box<dyn Error>> {
    // It takes no zero for a port.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let conf = root.join("vsftpd.conf");
    let root = root.display();
    fs::write(
        &conf,
        format!(
            "listen=YES\nlisten_ipv6=NO\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n\
             anon_root={root}\nsecure_chroot_dir={root}\nseccomp_sandbox=NO\nrun_as_launching_user=YES\n"
        ),
    )?;
    let Some(child) = ["vsftpd", "/usr/sbin/vsftpd"].iter().find_map(|name| Command::new(name).arg(&conf).spawn().ok())
    else {
        return Ok(None);
    };
    let running = Running(child);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "vsftpd does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Some((running, address)))
}

/// Fetches the file; says how many seconds it took from the command to the last reply.
fn retrieve(server: SocketAddr, size: usize) -> Result<f64, Box<dyn Error>> {
    let mut control = BufReader::new(TcpStream::connect(server)?);
    let mut reply = String::new();
    let mut says = |line: &str, code: &str| -> Result<String, Box<dyn Error>> {
        control.get_ref().write_all(line.as_bytes())?;
        reply.clear();
        control.read_line(&mut reply)?;
        if reply.starts_with(code) {
            Ok(reply.clone())
        } else {
            Err(format!("{line:?} was answered by {reply:?}").into())
        }
    };
    says("", "220 ")?;
    says("USER anonymous\r\n", "331 ")?;
    says("PASS bench\r\n", "230 ")?;
    says("TYPE I\r\n", "200 ")?;
    let passive = says("EPSV\r\n", "229 ")?;
    let port = passive.split('|').nth(3).ok_or("no port")?.parse()?;
    let mut data = TcpStream::connect((server.ip(), port))?;
    let mut block = vec![0; 256 << 10];

    let begun = Instant::now();
    says("RETR file\r\n", "150 ")?;
    let mut got = 0;
    loop {
        match data.read(&mut block)? {
            0 => break,
            n => got += n,
        }
    }
    says("", "226 ")?;
    let took = begun.elapsed();
    assert_eq!(got, size, "the whole file");
    Ok(took.as_secs_f64())
}
