//! Directories: reading and making them.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, DirEntryExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::io::{held, native};

/// The entries of a directory, in no order; made by [`read_dir`](super::read_dir).
///
/// # Switching
///
/// `next` now and then: entries are fetched by the hundred.
pub struct ReadDir {
    /// `None` after the last entry.
    rest: Option<std::fs::ReadDir>,
    fetched: VecDeque<io::Result<DirEntry>>,
}

/// So many entries come with one job.
const BATCH: usize = 256;

impl ReadDir {
    pub(super) fn new(rest: std::fs::ReadDir) -> ReadDir {
        ReadDir { rest: Some(rest), fetched: VecDeque::new() }
    }
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<io::Result<DirEntry>> {
        if self.fetched.is_empty() {
            let mut rest = self.rest.take()?;
            (self.rest, self.fetched) = held(move || {
                let fetched: VecDeque<_> = rest.by_ref().take(BATCH).map(|entry| entry.map(DirEntry::new)).collect();
                ((fetched.len() == BATCH).then_some(rest), fetched)
            });
        }
        self.fetched.pop_front()
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir").finish_non_exhaustive()
    }
}

/// An entry of a directory.
pub struct DirEntry {
    entry: Arc<std::fs::DirEntry>,
    /// As the directory tells it; some file systems do not.
    kind: Option<FileType>,
}

impl DirEntry {
    fn new(entry: std::fs::DirEntry) -> DirEntry {
        DirEntry { kind: entry.file_type().ok(), entry: Arc::new(entry) }
    }

    /// The path: that of the directory, and the name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.entry.path()
    }

    /// The attributes of the entry itself: a symbolic link is not followed.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Errors
    ///
    /// Those of the system: the entry may be gone.
    pub fn metadata(&self) -> io::Result<Metadata> {
        let entry = self.entry.clone();
        native(move || entry.metadata())
    }

    /// What it is; a symbolic link is not followed.
    ///
    /// # Switching
    ///
    /// Hardly ever: it came with the entry.
    ///
    /// # Errors
    ///
    /// Those of the system: the entry may be gone.
    pub fn file_type(&self) -> io::Result<FileType> {
        let entry = self.entry.clone();
        self.kind.map_or_else(|| native(move || entry.file_type()), Ok)
    }

    /// The name, without the directory.
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.entry.file_name()
    }
}

/// std's own trait.
impl DirEntryExt for DirEntry {
    fn ino(&self) -> u64 {
        self.entry.ino()
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry").field(&self.path()).finish()
    }
}

/// How a directory is made, as [`std::fs::DirBuilder`]; std's `DirBuilderExt` (`mode`) is implemented for it.
#[derive(Debug)]
pub struct DirBuilder {
    recursive: bool,
    mode: Option<u32>,
}

impl DirBuilder {
    /// A builder of one directory, with the mode that the system gives.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "std has none")]
    pub fn new() -> DirBuilder {
        DirBuilder { recursive: false, mode: None }
    }

    /// Whether directories above it are made too, and one that is there is no error.
    pub fn recursive(&mut self, recursive: bool) -> &mut DirBuilder {
        self.recursive = recursive;
        self
    }

    /// Makes the directory.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(self.recursive);
        if let Some(mode) = self.mode {
            builder.mode(mode);
        }
        let path = path.as_ref().to_owned();
        native(move || builder.create(path))
    }
}

impl DirBuilderExt for DirBuilder {
    fn mode(&mut self, mode: u32) -> &mut DirBuilder {
        self.mode = Some(mode);
        self
    }
}
