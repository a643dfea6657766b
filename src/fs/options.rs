//! How a file is opened, and the opening of what has to wait for its other side.
//!
//! Opening a fifo waits until the other side is opened too (fifo(7)), some devices wait for a line. So the job looks first, and
//! what is not a plain file is opened by a thread of the pool for waits (F2), with the blocking open(2): the variant that does not
//! wait has another meaning for fifos, as a reader cannot tell a writer that has not come from one that has gone.
//!
//! If the caller is cancelled, that thread must not stay for ever: [`release`] opens the other side for a moment. Others
//! who wait to open the *same* fifo in the same direction are let through by that as well, and then find their other side gone.

#![forbid(unsafe_code)]

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::File;
use crate::io::{can_park, native, waits};

/// How a file is opened, as [`std::fs::OpenOptions`].
///
/// std's `OpenOptionsExt` (`mode`, `custom_flags`) is implemented for it too.
///
/// # Examples
///
/// ```
/// use greenroom::fs::OpenOptions;
/// use std::io::Write;
///
/// let path = std::env::temp_dir().join(format!("greenroom-options-{}", std::process::id()));
/// let mut log = OpenOptions::new().append(true).create(true).open(&path)?;
/// log.write_all(b"line\n")?;
/// assert_eq!(greenroom::fs::read(&path)?, b"line\n");
/// greenroom::fs::remove_file(path)?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    options: std::fs::OpenOptions,
    reads: bool,
}

impl OpenOptions {
    /// Options that open nothing yet: all are off.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "std has none")]
    pub fn new() -> OpenOptions {
        OpenOptions { options: std::fs::OpenOptions::new(), reads: false }
    }

    /// Whether the file is read.
    pub fn read(&mut self, read: bool) -> &mut OpenOptions {
        self.options.read(read);
        self.reads = read;
        self
    }

    /// Whether the file is written.
    pub fn write(&mut self, write: bool) -> &mut OpenOptions {
        self.options.write(write);
        self
    }

    /// Whether every write goes to the end.
    pub fn append(&mut self, append: bool) -> &mut OpenOptions {
        self.options.append(append);
        self
    }

    /// Whether a file that is there is emptied.
    pub fn truncate(&mut self, truncate: bool) -> &mut OpenOptions {
        self.options.truncate(truncate);
        self
    }

    /// Whether a file that is not there is made.
    pub fn create(&mut self, create: bool) -> &mut OpenOptions {
        self.options.create(create);
        self
    }

    /// Whether the file is made, and must not be there.
    pub fn create_new(&mut self, create_new: bool) -> &mut OpenOptions {
        self.options.create_new(create_new);
        self
    }

    /// Opens the file.
    ///
    /// A fifo is opened when its other side is (fifo(7)), unless it is opened for both, or with `O_NONBLOCK`.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Cancellation
    ///
    /// The caller leaves at once, and the file is closed when it arrives. A file may have been made or emptied. If a fifo was waited
    /// for, its other side is opened for a moment: others who wait there to open the same side come through, and find
    /// the other gone again.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::OpenOptions::open`].
    pub fn open<P: AsRef<Path>>(&self, path: P) -> io::Result<File> {
        let path = path.as_ref();
        if !can_park() {
            return self.options.open(path).map(File::from_outside);
        }
        let (options, own_path) = (self.options.clone(), path.to_owned());
        let opened = native(move || match std::fs::metadata(&own_path) {
            Ok(metadata) if metadata.file_type().is_fifo() || metadata.file_type().is_char_device() => {
                Opened::Waits((metadata.dev(), metadata.ino()))
            }
            _ => Opened::Done(options.open(&own_path)),
        });
        match opened {
            // The mode of what came from outside is asked for: custom flags may have set it.
            Opened::Done(opened) => opened.map(File::from_outside),
            Opened::Waits(id) => self.open_slowly(path, id).map(File::from_outside),
        }
    }

    fn open_slowly(&self, path: &Path, id: (u64, u64)) -> io::Result<std::fs::File> {
        let (options, own_path) = (self.options.clone(), path.to_owned());
        let mut caller = Opener {
            path: path.to_owned(),
            id,
            // One that is opened for both never waits.
            reads: self.reads,
            arrived: Arc::new(AtomicBool::new(false)),
            left: false,
        };
        let arrived = caller.arrived.clone();
        let opened = waits().apply(move || {
            let opened = options.open(own_path);
            arrived.store(true, Ordering::Release);
            opened
        });
        caller.left = true;
        opened
    }
}

/// std's own trait.
impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.options.mode(mode);
        self
    }

    fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.options.custom_flags(flags);
        self
    }
}

enum Opened {
    Done(io::Result<std::fs::File>),
    /// It has to be opened by somebody who can wait: device and inode.
    Waits((u64, u64)),
}

/// One who waits for a fifo to be opened.
struct Opener {
    path: PathBuf,
    id: (u64, u64),
    reads: bool,
    /// open(2) has returned.
    arrived: Arc<AtomicBool>,
    left: bool,
}

impl Drop for Opener {
    fn drop(&mut self) {
        if self.left || Arc::strong_count(&self.arrived) == 1 {
            // A job that has ended, or was never begun, has dropped its share.
            return;
        }
        let (path, id, reads, arrived) = (std::mem::take(&mut self.path), self.id, self.reads, self.arrived.clone());
        // Without a thread, the one that waits has to wait on.
        let _no_thread = waits().try_spawn(move || release(&path, id, reads, &arrived));
    }
}

/// Lets a thread go that is stuck in opening a fifo: opens the other side for a moment, until it has arrived.
fn release(path: &Path, id: (u64, u64), reads: bool, arrived: &AtomicBool) {
    let mut pause = Duration::from_micros(100);
    while !arrived.load(Ordering::Acquire) {
        // The name may be another file's by now; nobody can help then but the other side.
        let Ok(metadata) = std::fs::metadata(path) else { return };
        if (metadata.dev(), metadata.ino()) != id || !metadata.file_type().is_fifo() {
            return;
        }
        let other = std::fs::OpenOptions::new().read(!reads).write(reads).custom_flags(libc::O_NONBLOCK).open(path);
        // Its thread may not have come to the system call yet.
        thread::sleep(pause);
        drop(other);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
