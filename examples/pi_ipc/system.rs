//! Message queues and shared memory.
//!
//! A POSIX queue is a descriptor on Linux, so a task waits for it as it does for a socket. A System V queue and a semaphore are
//! none: native threads wait for them, in the task's stead.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_long, c_void};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::num::NonZero;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use greenroom::io::PipeReader;
use greenroom::process::{ChildHandle, Command};
use greenroom::{offload, select};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_close, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap, shm_open, shm_unlink};
use nix::sys::stat::Mode;

use crate::CHILDREN;
use crate::way::{Report, Way, unique_name};

const OURS: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// One POSIX message queue for all children.
pub(crate) struct PosixQueue {
    name: PathBuf,
    queue: Option<MqdT>,
    /// A duplicate of its descriptor, to wait for. Nothing is read through it.
    messages: PipeReader,
}

impl PosixQueue {
    pub(crate) fn new() -> io::Result<PosixQueue> {
        let name = PathBuf::from(format!("/{}", unique_name()));
        let attributes = MqAttr::new(0, CHILDREN as _, Report::SIZE as _, 0);
        let flags =
            MQ_OFlag::O_RDONLY | MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_NONBLOCK | MQ_OFlag::O_CLOEXEC;
        let queue = mq_open(&name, flags, OURS, Some(&attributes))?;
        let messages = queue.as_fd().try_clone_to_owned().map(PipeReader::from).inspect_err(|_| {
            let _removed = mq_unlink(&name);
        })?;
        Ok(PosixQueue { name, queue: Some(queue), messages })
    }
}

impl Way for PosixQueue {
    fn prepare(&self, _: usize, command: &mut Command) -> io::Result<()> {
        command.arg("--at").arg(&self.name);
        Ok(())
    }

    fn receive(&self, _: usize, _: &ChildHandle) -> io::Result<Report> {
        let queue = self.queue.as_ref().expect("it is closed by `drop`");
        loop {
            let mut bytes = [0; Report::SIZE];
            match mq_receive(queue, &mut bytes, &mut 0) {
                Ok(Report::SIZE) => return Ok(Report::from_bytes(bytes)),
                Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
                Err(Errno::EINTR) => {}
                // Another task may be quicker once there is one: then there is a next time.
                Err(Errno::EAGAIN) => select! { readable(&self.messages) => {} },
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for PosixQueue {
    fn drop(&mut self) {
        let closed = self.queue.take().map_or(Ok(()), mq_close);
        if let Err(error) = closed.and(mq_unlink(&self.name)) {
            eprintln!("pi_ipc: cannot remove queue {}: {error}", self.name.display());
        }
    }
}

pub(crate) fn send_posix(at: &Path, report: Report) -> io::Result<()> {
    let queue = mq_open(at, MQ_OFlag::O_WRONLY, Mode::empty(), None)?;
    mq_send(&queue, &report.to_bytes(), 0)?;
    Ok(mq_close(queue)?)
}

/// One System V message queue for all children. It has a number and no name.
pub(crate) struct SysvQueue(c_int);

/// A message as the calls want it.
#[repr(C)]
struct Message {
    /// Above zero.
    kind: c_long,
    bytes: [u8; Report::SIZE],
}

impl SysvQueue {
    pub(crate) fn new() -> io::Result<SysvQueue> {
        // SAFETY: no precondition.
        Ok(SysvQueue(Errno::result(unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) })?))
    }

    /// Blocks the thread until there is a message, or until the queue is removed.
    fn receive(queue: c_int) -> io::Result<Report> {
        let mut message = Message { kind: 0, bytes: [0; Report::SIZE] };
        loop {
            let into = (&raw mut message).cast::<c_void>();
            // SAFETY: behind the kind there is room for a message of that size, and longer ones are refused.
            match Errno::result(unsafe { libc::msgrcv(queue, into, Report::SIZE, 0, 0) }) {
                Ok(size) if size as usize == Report::SIZE => return Ok(Report::from_bytes(message.bytes)),
                Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Way for SysvQueue {
    fn prepare(&self, _: usize, command: &mut Command) -> io::Result<()> {
        command.args(["--at", &self.0.to_string()]);
        Ok(())
    }

    fn receive(&self, _: usize, _: &ChildHandle) -> io::Result<Report> {
        let queue = self.0;
        offload(move || SysvQueue::receive(queue))
    }
}

impl Drop for SysvQueue {
    /// Those who wait for a message get an error.
    fn drop(&mut self) {
        // SAFETY: removing takes no argument.
        let removed = unsafe { libc::msgctl(self.0, libc::IPC_RMID, ptr::null_mut()) };
        if let Err(error) = Errno::result(removed) {
            eprintln!("pi_ipc: cannot remove queue {}: {error}", self.0);
        }
    }
}

pub(crate) fn send_sysv(at: &Path, report: Report) -> io::Result<()> {
    let queue = at.to_str().and_then(|number| number.parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    let message = Message { kind: 1, bytes: report.to_bytes() };
    // SAFETY: behind the kind there are as many bytes as the size says.
    let sent = unsafe { libc::msgsnd(queue, (&raw const message).cast::<c_void>(), Report::SIZE, 0) };
    Errno::result(sent)?;
    Ok(())
}

/// Shared memory with a place for each child, and a semaphore that counts what has been put there.
pub(crate) struct SharedMemory {
    name: PathBuf,
    board: Arc<Board>,
}

/// The memory, mapped.
struct Board(NonNull<Places>);

#[repr(C)]
struct Places {
    /// Of the C library, which shares it among processes.
    reported: UnsafeCell<libc::sem_t>,
    /// The bits of the sums, none of which is zero; zero is no sum. New shared memory is all zeroes.
    sums: [AtomicU64; CHILDREN],
}

// SAFETY: the places are atomic, and the semaphore is made for threads and processes.
unsafe impl Send for Board {}
// SAFETY: as above.
unsafe impl Sync for Board {}

impl Board {
    fn map(memory: &File) -> io::Result<Board> {
        let length = const { NonZero::new(size_of::<Places>()).unwrap() };
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at a place that the kernel chooses; the caller has made the file long enough.
        let mapped = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, memory, 0) }?;
        Ok(Board(mapped.cast()))
    }

    fn places(&self) -> &Places {
        // SAFETY: it is mapped as long as we are, aligned to a page, and every bit pattern is valid.
        unsafe { self.0.as_ref() }
    }

    fn semaphore(&self) -> *mut libc::sem_t {
        self.places().reported.get()
    }

    fn post(&self) -> io::Result<()> {
        // SAFETY: the semaphore was initialised before anybody was told of the memory.
        Errno::result(unsafe { libc::sem_post(self.semaphore()) })?;
        Ok(())
    }

    /// Blocks the thread until there is one more.
    fn wait(&self) -> io::Result<()> {
        loop {
            // SAFETY: as in `post`.
            match Errno::result(unsafe { libc::sem_wait(self.semaphore()) }) {
                Err(Errno::EINTR) => {}
                done => return Ok(done.map(drop)?),
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: mapped with that length, and not used any more.
        let _unmapped = unsafe { munmap(self.0.cast(), size_of::<Places>()) };
    }
}

impl SharedMemory {
    pub(crate) fn new() -> io::Result<SharedMemory> {
        let name = PathBuf::from(format!("/{}", unique_name()));
        let memory = shm_open(&name, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL, OURS)?;
        let memory = File::from(memory);
        let board = memory.set_len(size_of::<Places>() as u64).and_then(|()| Board::map(&memory));
        let board = board.inspect_err(|_| {
            let _removed = shm_unlink(&name);
        })?;
        let this = SharedMemory { name, board: Arc::new(board) };
        // SAFETY: nobody else uses the memory yet.
        Errno::result(unsafe { libc::sem_init(this.board.semaphore(), 1, 0) })?;
        Ok(this)
    }
}

impl Way for SharedMemory {
    fn prepare(&self, _: usize, command: &mut Command) -> io::Result<()> {
        command.arg("--at").arg(&self.name);
        Ok(())
    }

    fn receive(&self, _: usize, _: &ChildHandle) -> io::Result<Report> {
        // The job holds the memory, should this task be killed.
        let board = self.board.clone();
        offload(move || board.wait())?;
        let taken = self.board.places().sums.iter().enumerate().find_map(|(child, sum)| {
            let bits = sum.swap(0, Ordering::Acquire);
            (bits != 0).then(|| Report { child, sum: f64::from_bits(bits) })
        });
        taken.ok_or_else(|| io::Error::other("the semaphore counts more sums than there are"))
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // Jobs that still wait are let go.
        let let_go = (0..CHILDREN).try_for_each(|_| self.board.post());
        if let Err(error) = shm_unlink(&self.name).map_err(io::Error::from).and(let_go) {
            eprintln!("pi_ipc: cannot remove shared memory {}: {error}", self.name.display());
        }
    }
}

pub(crate) fn send_shared(at: &Path, report: Report) -> io::Result<()> {
    let memory = shm_open(at, OFlag::O_RDWR, Mode::empty())?;
    let board = Board::map(&File::from(memory))?;
    let place = board.places().sums.get(report.child).ok_or(io::ErrorKind::InvalidInput)?;
    place.store(report.sum.to_bits(), Ordering::Release);
    board.post()
}
