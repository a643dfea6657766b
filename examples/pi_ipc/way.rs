//! What all transports have in common: sixteen bytes from a child to its parent.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::ValueEnum;
use greenroom::process::{ChildHandle, Command};

use crate::streams;
#[cfg(target_os = "linux")]
use crate::system;

/// What a child has to say.
#[derive(Clone, Copy)]
pub(crate) struct Report {
    pub(crate) child: usize,
    pub(crate) sum: f64,
}

impl Report {
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn to_bytes(self) -> [u8; Report::SIZE] {
        let mut bytes = [0; Report::SIZE];
        bytes[..8].copy_from_slice(&(self.child as u64).to_le_bytes());
        bytes[8..].copy_from_slice(&self.sum.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; Report::SIZE]) -> Report {
        let [child, sum] = [0, 8].map(|at| std::array::from_fn(|i| bytes[at + i]));
        Report { child: u64::from_le_bytes(child) as usize, sum: f64::from_le_bytes(sum) }
    }
}

/// How the children report.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Transport {
    /// A file for each child.
    File,
    /// A pipe to each child, its standard output.
    Pipe,
    /// A named pipe for each child.
    Fifo,
    /// Connections to a port on loopback.
    Tcp,
    /// Connections to a socket in the file system.
    Unix,
    /// A pair of sockets for each child, one of them its standard output.
    Socketpair,
    /// One POSIX message queue.
    #[cfg(target_os = "linux")]
    PosixMq,
    /// One System V message queue.
    #[cfg(target_os = "linux")]
    SysvMq,
    /// Shared memory, and a semaphore in it.
    #[cfg(target_os = "linux")]
    Shm,
}

impl Transport {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().expect("no variant is hidden").get_name().to_owned()
    }

    /// The parent's side.
    pub(crate) fn open(self) -> io::Result<Rc<dyn Way>> {
        Ok(match self {
            Transport::File => Rc::new(streams::Files::new()?),
            Transport::Pipe => Rc::new(streams::Pipes::default()),
            Transport::Fifo => Rc::new(streams::Fifos::new()?),
            Transport::Tcp => Rc::new(streams::Tcp::new()?),
            Transport::Unix => Rc::new(streams::Unix::new()?),
            Transport::Socketpair => Rc::new(streams::Pairs::default()),
            #[cfg(target_os = "linux")]
            Transport::PosixMq => Rc::new(system::PosixQueue::new()?),
            #[cfg(target_os = "linux")]
            Transport::SysvMq => Rc::new(system::SysvQueue::new()?),
            #[cfg(target_os = "linux")]
            Transport::Shm => Rc::new(system::SharedMemory::new()?),
        })
    }

    /// The child's side: blocking calls of std and of the system.
    pub(crate) fn send(self, at: &Path, report: Report) -> io::Result<()> {
        match self {
            Transport::File => streams::send_file(at, report),
            Transport::Pipe | Transport::Socketpair => streams::send_stdout(report),
            Transport::Fifo => streams::send_fifo(at, report),
            Transport::Tcp => streams::send_tcp(at, report),
            Transport::Unix => streams::send_unix(at, report),
            #[cfg(target_os = "linux")]
            Transport::PosixMq => system::send_posix(at, report),
            #[cfg(target_os = "linux")]
            Transport::SysvMq => system::send_sysv(at, report),
            #[cfg(target_os = "linux")]
            Transport::Shm => system::send_shared(at, report),
        }
    }
}

/// The parent's side of a transport. Dropping it removes what it has made in the system.
pub(crate) trait Way {
    /// Tells a child, by its arguments or descriptors, where to report.
    fn prepare(&self, child: usize, command: &mut Command) -> io::Result<()>;

    /// Waits for a report: of this child, or of any, where all use the same.
    fn receive(&self, child: usize, running: &ChildHandle) -> io::Result<Report>;
}

/// A name that no other process uses, and this one only once.
pub(crate) fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("greenroom-pi-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A directory that goes when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> io::Result<Scratch> {
        let path = std::env::temp_dir().join(unique_name());
        greenroom::fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    pub(crate) fn path(&self, name: impl ToString) -> PathBuf {
        self.0.join(name.to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = greenroom::fs::remove_dir_all(&self.0) {
            eprintln!("pi_ipc: cannot remove {}: {error}", self.0.display());
        }
    }
}
