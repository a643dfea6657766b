//! `File`: std's, whose calls park only the task.
//!
//! ```text
//! read ──► the turn of this open file ──► preadv2(RWF_NOWAIT): in the page cache? ──yes──► done, here
//!                                            │ no                                 0.3 µs
//!                                            └──► a job reads into a buffer of its own ──► copied
//! ```
//!
//! - **F3** Calls that use the position take the open file's turn first, clones included: the kernel's own lock on the position
//!   (`f_pos_lock`) is held by a job for as long as a disk takes, and a call made here would stop the hub on it.
//! - **F4** What is no disk file (a fifo, a terminal, a device) goes through `Flow`, as a pipe does.

#![forbid(unsafe_code)]

use std::fs::{FileTimes, Metadata, Permissions, TryLockError};
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::SystemTime;

use super::OpenOptions;
use crate::hub::{Hub, Tell};
use crate::io::{Awaitable, Awaited, Direction, Flow, Pollable, can_park, held, native, waits};
use crate::sync::{Mutex, MutexGuard};
use crate::sys;
use crate::waiter::Waiter;

/// An open file, as [`std::fs::File`] is: its calls are made on native threads, and park only the task.
///
/// A read of up to 128 KiB that the system has in memory is made at once, without another thread. One call moves at most 1 MiB;
/// `read_to_end`, `write_all` and their like go on until they are done.
///
/// Any number of tasks and threads may use one file; its position is theirs together, and they have their turns in the order in
/// which they came. Fifos, terminals and devices can be opened too: they are read and written as [pipes](crate::io::pipe) are.
///
/// # Switching
///
/// Every call may, but those that say otherwise; a read does not if the bytes are in memory, now and then excepted.
///
/// # Cancellation
///
/// A call that moves bytes, the position or an attribute of a disk file is not cut short: a kill or a timeout comes after it.
/// The others are left at once, and what they do is done all the same.
///
/// # What still stops the thread
///
/// Memory that is mapped to a file: touching it may read from the disk. Closing: the last handle that is dropped may have to
/// wait for a file server, or for the removal of a large file that has no name any more.
///
/// # Examples
///
/// ```
/// use greenroom::fs::File;
/// use std::io::{Read, Write};
///
/// let path = std::env::temp_dir().join(format!("greenroom-file-{}", std::process::id()));
/// File::create(&path)?.write_all(b"some text")?;
///
/// let mut text = String::new();
/// File::open(&path)?.read_to_string(&mut text)?;
/// assert_eq!(text, "some text");
/// greenroom::fs::remove_file(path)?;
/// # std::io::Result::Ok(())
/// ```
pub struct File {
    pub(super) flow: Flow<Arc<std::fs::File>>,
    shared: Arc<Shared>,
}

/// What clones share, as they share the open file.
struct Shared {
    turn: Mutex<()>,
    kind: OnceLock<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Always ready, if slow, for the poller.
    Disk { cached: bool },
    /// Comes when it comes.
    Flow,
}

/// The most that is read at once from memory here, and that one job moves.
const MOST_HERE: usize = 128 << 10;
const MOST_AT_ONCE: usize = 1 << 20;

impl File {
    /// Takes a file that was opened elsewhere, in whatever mode.
    pub(super) fn from_outside(file: std::fs::File) -> File {
        let shared = Arc::new(Shared { turn: Mutex::new(()), kind: OnceLock::new() });
        File { flow: Flow::from_outside(Arc::new(file)), shared }
    }

    /// Opens a file to read it.
    ///
    /// # Cancellation
    ///
    /// The caller leaves at once; the file is closed when it arrives.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn open<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens a file to write it: makes it if it is not there, empties it if it is.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn create<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    /// Makes a file to read and write it, which must not be there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`], or as [`OpenOptions::open`].
    pub fn create_new<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// [`OpenOptions::new`].
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Waits until all that was written, and the file's attributes, are on the disk (fsync(2)).
    ///
    /// # Errors
    ///
    /// Those of the system: of earlier writes too.
    pub fn sync_all(&self) -> io::Result<()> {
        self.native(|file| file.sync_all())
    }

    /// As [`sync_all`](Self::sync_all), without the attributes that no later read needs (fdatasync(2)).
    ///
    /// # Errors
    ///
    /// As [`sync_all`](Self::sync_all).
    pub fn sync_data(&self) -> io::Result<()> {
        self.native(|file| file.sync_data())
    }

    /// Locks the file for this open file alone (flock(2)); waits while another one has it, in this process or elsewhere.
    ///
    /// Clones share the lock, and so do tasks that use one `File`: it does not keep them from each other.
    ///
    /// # Cancellation
    ///
    /// The caller leaves at once. A lock that arrives later is given back.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn lock(&self) -> io::Result<()> {
        self.wait_for_lock(std::fs::File::try_lock, std::fs::File::lock)
    }

    /// As [`lock`](Self::lock), but others may hold the lock in this way too.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn lock_shared(&self) -> io::Result<()> {
        self.wait_for_lock(std::fs::File::try_lock_shared, std::fs::File::lock_shared)
    }

    /// Takes the lock, if nobody else has it.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody has it, or that of the system.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        self.held(|file| file.try_lock())
    }

    /// Takes the lock together with others, if nobody has it alone.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Self::try_lock).
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.held(|file| file.try_lock_shared())
    }

    /// Gives the lock back; does nothing if there is none.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn unlock(&self) -> io::Result<()> {
        self.held(|file| file.unlock())
    }

    /// Cuts the file off at `size` bytes, or extends it with zeroes. The position stays.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the file is not open to be written, or others of the system.
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.held(move |file| file.set_len(size))
    }

    /// The file's attributes.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.native(|file| file.metadata())
    }

    /// Makes another handle on the same open file: position and lock are shared.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// Those of the system: a lack of descriptors.
    pub fn try_clone(&self) -> io::Result<File> {
        let file = self.flow.get().try_clone()?;
        Ok(File { flow: self.flow.duplicate(Arc::new(file)), shared: self.shared.clone() })
    }

    /// Changes who may do what with the file.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.held(move |file| file.set_permissions(permissions))
    }

    /// Changes the times of the file's last access and change.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        self.held(move |file| file.set_times(times))
    }

    /// Changes the time of the file's last change.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time))
    }

    fn native<T: Send + 'static>(&self, f: impl FnOnce(&std::fs::File) -> T + Send + 'static) -> T {
        let file = self.flow.get().clone();
        native(move || f(&file))
    }

    fn held<T: Send + 'static>(&self, f: impl FnOnce(&std::fs::File) -> T + Send + 'static) -> T {
        let file = self.flow.get().clone();
        held(move || f(&file))
    }

    /// Has the position for itself (F3). `None` where nothing can park: the kernel sees to the order then.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        can_park().then(|| self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn kind(&self) -> Kind {
        *self.shared.kind.get_or_init(|| {
            let file = self.flow.get();
            // What cannot be asked is left to the native threads.
            let flows = file.metadata().is_ok_and(|metadata| {
                let kind = metadata.file_type();
                kind.is_fifo() || kind.is_char_device() || kind.is_socket()
            });
            let cached = !sys::is_direct(file.as_fd()) && sys::nowait_knows_the_end();
            if flows { Kind::Flow } else { Kind::Disk { cached } }
        })
    }

    fn is_disk(&self) -> bool {
        self.kind() != Kind::Flow
    }

    fn wait_for_lock(
        &self,
        try_lock: fn(&std::fs::File) -> Result<(), TryLockError>,
        lock: fn(&std::fs::File) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.held(try_lock) {
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
        let file = self.flow.get().clone();
        if !can_park() {
            return lock(&file);
        }
        let caller = LockCaller { file: file.clone(), state: Arc::new(AtomicU8::new(WAITING)) };
        let state = caller.state.clone();
        let result = waits().apply(move || {
            let result = lock(&file);
            if result.is_ok() && state.swap(LOCKED, Ordering::AcqRel) == GONE {
                // Nobody wants it any more. An error has nobody to be told either.
                let _unlocked = file.unlock();
            }
            result
        });
        caller.state.store(TAKEN, Ordering::Release);
        result
    }

    /// Reads what the system has in memory; `None` if that has to be asked of the disk.
    fn read_here(&self, bufs: &mut [IoSliceMut<'_>], asked: usize, offset: Option<u64>) -> Option<io::Result<usize>> {
        if self.kind() != (Kind::Disk { cached: true }) {
            return None;
        }
        let offset = offset.map_or(Some(sys::HERE), |offset| i64::try_from(offset).ok())?;
        let fd = self.flow.get().as_fd();
        let result = if asked <= MOST_HERE {
            sys::read_nowait(fd, bufs, offset)
        } else {
            let first = bufs.iter_mut().find(|buf| !buf.is_empty())?;
            let most = first.len().min(MOST_HERE);
            sys::read_nowait(fd, &mut [IoSliceMut::new(&mut first[..most])], offset)
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || sys::is_refusal(&error) => None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            done => Some(done),
        }
    }

    fn read_at_or_here(&self, bufs: &mut [IoSliceMut<'_>], offset: Option<u64>) -> io::Result<usize> {
        let asked = bufs.iter().take(sys::IOV_MAX).fold(0, |sum: usize, buf| sum.saturating_add(buf.len()));
        let has_hub = can_park();
        if has_hub {
            Hub::try_here()?.charge();
        }
        let _turn = offset.is_none().then(|| self.turn());
        if has_hub && let Some(done) = self.read_here(bufs, asked, offset) {
            return done;
        }
        let most = asked.min(MOST_AT_ONCE);
        let read = self.held(move |mut file| {
            let mut own = vec![0; most];
            let n = match offset {
                None => file.read(&mut own),
                Some(offset) => file.read_at(&mut own, offset),
            }?;
            own.truncate(n);
            io::Result::Ok(own)
        })?;
        let mut left = &read[..];
        for buf in bufs {
            let n = left.len().min(buf.len());
            buf[..n].copy_from_slice(&left[..n]);
            left = &left[n..];
        }
        Ok(read.len())
    }

    fn write_at_or_here(&self, bufs: &[IoSlice<'_>], offset: Option<u64>) -> io::Result<usize> {
        let mut own = Vec::new();
        for buf in bufs {
            own.extend_from_slice(&buf[..buf.len().min(MOST_AT_ONCE - own.len())]);
        }
        let _turn = offset.is_none().then(|| self.turn());
        self.held(move |mut file| match offset {
            None => file.write(&own),
            Some(offset) => file.write_at(&own, offset),
        })
    }

    /// Reads up to the end, in one job.
    fn read_rest(&self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let _turn = self.turn();
        let (read, result) = self.held(|mut file| {
            let mut own = Vec::new();
            let result = file.read_to_end(&mut own);
            (own, result)
        });
        if buf.is_empty() && buf.capacity() < read.len() {
            *buf = read;
        } else {
            buf.extend_from_slice(&read);
        }
        result
    }
}

/// One who waits for a lock; one who leaves without it says so.
struct LockCaller {
    file: Arc<std::fs::File>,
    state: Arc<AtomicU8>,
}

const WAITING: u8 = 0;
const LOCKED: u8 = 1;
const GONE: u8 = 2;
const TAKEN: u8 = 3;

impl Drop for LockCaller {
    fn drop(&mut self) {
        if self.state.load(Ordering::Acquire) != TAKEN && self.state.swap(GONE, Ordering::AcqRel) == LOCKED {
            // It came together with the kill. To unlock does not wait.
            let _unlocked = self.file.unlock();
        }
    }
}

impl Read for &File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.is_disk() { self.read_at_or_here(bufs, None) } else { self.flow.read_vectored(bufs) }
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        if self.is_disk() {
            return self.read_rest(buf);
        }
        /// Without this method of the file's own.
        struct Plain<'a>(&'a File);
        impl Read for Plain<'_> {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0.flow.read(buf)
            }
        }
        Plain(self).read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let result = self.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes)
            .map_err(|_not_utf8| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"));
        // An error of the system comes first, and what was read before it is kept.
        let n = match (result, &text) {
            (Err(error), Err(_)) => return Err(error),
            (result, Ok(text)) => {
                buf.push_str(text);
                result
            }
            (Ok(n), Err(_)) => Ok(n),
        };
        text.and(n)
    }
}

impl Write for &File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_disk() { self.write_at_or_here(bufs, None) } else { self.flow.write_vectored(bufs) }
    }

    /// Does nothing, as std's: nothing is kept back here.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let _turn = self.turn();
        match position {
            // A file server may have to be asked.
            SeekFrom::End(_) => self.held(move |mut file| file.seek(position)),
            SeekFrom::Start(_) | SeekFrom::Current(_) => (&**self.flow.get()).seek(position),
        }
    }
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buf)
    }
}

impl Write for File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        (&*self).seek(position)
    }
}

/// Reads and writes at an offset, which neither use nor move the position; std's own trait.
impl FileExt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at_or_here(&mut [IoSliceMut::new(buf)], Some(offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.write_at_or_here(&[IoSlice::new(buf)], Some(offset))
    }
}

/// A disk file can always be read and written; a fifo or a device when it is ready.
impl Pollable for File {
    fn awaited(&self) -> Awaited<'_> {
        Awaited(self)
    }
}

impl Awaitable for File {
    fn is_ready(&self, direction: Direction) -> bool {
        self.is_disk() || self.flow.source().is_ready(direction)
    }

    fn while_awaited(&self, direction: Direction, waiter: Waiter, inner: &mut dyn FnMut()) -> io::Result<bool> {
        if self.is_disk() { Ok(false) } else { self.flow.source().while_awaited(direction, waiter, inner) }
    }

    fn watch(&self, direction: Direction, ready: &Tell) -> Option<u64> {
        if self.is_disk() {
            ready();
            return None;
        }
        self.flow.source().watch(direction, ready)
    }

    fn unwatch(&self, direction: Direction, key: u64) {
        self.flow.source().unwatch(direction, key);
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.flow.get().fmt(f)
    }
}
