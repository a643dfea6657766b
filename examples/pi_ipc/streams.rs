//! Files, pipes and sockets: what is read in the plain way, and parks only the task that reads.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use greenroom::fs;
use greenroom::io::{PipeReader, pipe};
use greenroom::net::{TcpListener, UnixListener, UnixStream};
use greenroom::process::{ChildHandle, Command, Stdio};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::way::{Report, Scratch, Way};

fn read_report(mut from: impl Read) -> io::Result<Report> {
    let mut bytes = [0; Report::SIZE];
    from.read_exact(&mut bytes)?;
    Ok(Report::from_bytes(bytes))
}

/// A file for each child, to be read when the child has ended.
pub(crate) struct Files(Scratch);

impl Files {
    pub(crate) fn new() -> io::Result<Files> {
        Ok(Files(Scratch::new()?))
    }
}

impl Way for Files {
    fn prepare(&self, child: usize, command: &mut Command) -> io::Result<()> {
        command.arg("--at").arg(self.0.path(child));
        Ok(())
    }

    fn receive(&self, child: usize, running: &ChildHandle) -> io::Result<Report> {
        running.wait()?;
        read_report(fs::File::open(self.0.path(child))?)
    }
}

pub(crate) fn send_file(at: &Path, report: Report) -> io::Result<()> {
    std::fs::write(at, report.to_bytes())
}

/// A pipe to each child.
#[derive(Default)]
pub(crate) struct Pipes(Readers<PipeReader>);

/// Those of the children in order, each until it is read.
type Readers<R> = RefCell<Vec<Option<R>>>;

fn keep<R>(readers: &Readers<R>, reader: R) {
    readers.borrow_mut().push(Some(reader));
}

/// The borrow ends here: nobody holds it while he is parked.
fn take<R>(readers: &Readers<R>, child: usize) -> R {
    readers.borrow_mut()[child].take().expect("each child is prepared once, and received from once")
}

impl Way for Pipes {
    fn prepare(&self, _: usize, command: &mut Command) -> io::Result<()> {
        let (reader, writer) = pipe()?;
        command.stdout(Stdio::from(writer));
        keep(&self.0, reader);
        Ok(())
    }

    fn receive(&self, child: usize, _: &ChildHandle) -> io::Result<Report> {
        read_report(take(&self.0, child))
    }
}

/// A pair of sockets for each child.
#[derive(Default)]
pub(crate) struct Pairs(Readers<UnixStream>);

impl Way for Pairs {
    fn prepare(&self, _: usize, command: &mut Command) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        command.stdout(Stdio::from(OwnedFd::from(theirs)));
        keep(&self.0, ours);
        Ok(())
    }

    fn receive(&self, child: usize, _: &ChildHandle) -> io::Result<Report> {
        read_report(take(&self.0, child))
    }
}

pub(crate) fn send_stdout(report: Report) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(&report.to_bytes())?;
    out.flush()
}

/// A named pipe for each child.
pub(crate) struct Fifos(Scratch);

impl Fifos {
    pub(crate) fn new() -> io::Result<Fifos> {
        Ok(Fifos(Scratch::new()?))
    }
}

impl Way for Fifos {
    fn prepare(&self, child: usize, command: &mut Command) -> io::Result<()> {
        let path = self.0.path(child);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        command.arg("--at").arg(path);
        Ok(())
    }

    fn receive(&self, child: usize, _: &ChildHandle) -> io::Result<Report> {
        // This waits until the child opens its end.
        read_report(fs::File::open(self.0.path(child))?)
    }
}

pub(crate) fn send_fifo(at: &Path, report: Report) -> io::Result<()> {
    std::fs::OpenOptions::new().write(true).open(at)?.write_all(&report.to_bytes())
}

/// A port on loopback.
pub(crate) struct Tcp(TcpListener);

impl Tcp {
    pub(crate) fn new() -> io::Result<Tcp> {
        Ok(Tcp(TcpListener::bind("127.0.0.1:0")?))
    }
}

impl Way for Tcp {
    fn prepare(&self, _: usize, command: &mut Command) -> io::Result<()> {
        command.args(["--at", &self.0.local_addr()?.to_string()]);
        Ok(())
    }

    fn receive(&self, _: usize, _: &ChildHandle) -> io::Result<Report> {
        read_report(self.0.accept()?.0)
    }
}

pub(crate) fn send_tcp(at: &Path, report: Report) -> io::Result<()> {
    let address = at.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    std::net::TcpStream::connect(address)?.write_all(&report.to_bytes())
}

/// A socket in the file system.
pub(crate) struct Unix {
    listener: UnixListener,
    dir: Scratch,
}

impl Unix {
    pub(crate) fn new() -> io::Result<Unix> {
        let dir = Scratch::new()?;
        Ok(Unix { listener: UnixListener::bind(dir.path("socket"))?, dir })
    }
}

impl Way for Unix {
    fn prepare(&self, _: usize, command: &mut Command) -> io::Result<()> {
        command.arg("--at").arg(self.dir.path("socket"));
        Ok(())
    }

    fn receive(&self, _: usize, _: &ChildHandle) -> io::Result<Report> {
        read_report(self.listener.accept()?.0)
    }
}

pub(crate) fn send_unix(at: &Path, report: Report) -> io::Result<()> {
    std::os::unix::net::UnixStream::connect(at)?.write_all(&report.to_bytes())
}
