//! Files and directories in std's shape: the disk is waited for on native threads, and only the caller parks.
//!
//! ```
//! use greenroom::fs;
//!
//! let path = std::env::temp_dir().join(format!("greenroom-fs-{}", std::process::id()));
//! fs::write(&path, "some text")?;
//! assert_eq!(fs::read_to_string(&path)?, "some text");
//! fs::remove_file(&path)?;
//! # std::io::Result::Ok(())
//! ```
//!
//! Each function is std's of the same name, run on a native thread of a pool that only files use; inside a job of
//! [`offload()`](crate::offload()) it runs right there. All of them switch. A caller that is killed leaves at once, and what was begun is
//! done all the same: a file may be renamed or removed afterwards. Where nothing can park (in a panic hook, at a thread's end), they
//! block as std's do. The types that carry no call are std's own: [`Metadata`], [`Permissions`], [`FileType`], [`FileTimes`].

#![deny(unsafe_code)]

mod dir;
#[allow(unsafe_code, reason = "a file is made of a raw descriptor")]
mod fd;
mod file;
mod options;

use std::io;
use std::path::{Path, PathBuf};

use crate::io::native;

pub use dir::{DirBuilder, DirEntry, ReadDir};
pub use file::File;
pub use options::OpenOptions;
pub use std::fs::{FileTimes, FileType, Metadata, Permissions, TryLockError};

/// The bytes of a file, as [`std::fs::read`].
///
/// # Errors
///
/// Those of the system.
pub fn read<P: AsRef<Path>>(path: P) -> io::Result<Vec<u8>> {
    use std::io::Read;
    // Opened as a fifo is, should it be one.
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a file, as [`std::fs::read_to_string`].
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] if it is not UTF-8, or those of the system.
pub fn read_to_string<P: AsRef<Path>>(path: P) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Writes a file, as [`std::fs::write`]: makes it if it is not there, replaces what it holds if it is.
///
/// # Cancellation
///
/// A part may be written.
///
/// # Errors
///
/// Those of the system.
pub fn write<P: AsRef<Path>, C: AsRef<[u8]>>(path: P, contents: C) -> io::Result<()> {
    use std::io::Write;
    File::create(path)?.write_all(contents.as_ref())
}

/// Whether there is something under this name, as [`std::fs::exists`].
///
/// # Errors
///
/// Those of the system, if that cannot be told.
pub fn exists<P: AsRef<Path>>(path: P) -> io::Result<bool> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::exists(path))
}

/// The entries of a directory, as [`std::fs::read_dir`].
///
/// # Errors
///
/// Those of the system.
///
/// # Examples
///
/// ```
/// let names: Vec<_> = greenroom::fs::read_dir(".")?.map(|entry| entry.unwrap().file_name()).collect();
/// assert!(names.iter().any(|name| name == "Cargo.toml"));
/// # std::io::Result::Ok(())
/// ```
pub fn read_dir<P: AsRef<Path>>(path: P) -> io::Result<ReadDir> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::read_dir(path)).map(ReadDir::new)
}

/// Changes who may do what with a file, as [`std::fs::set_permissions`].
///
/// # Errors
///
/// Those of the system.
pub fn set_permissions<P: AsRef<Path>>(path: P, permissions: Permissions) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::set_permissions(path, permissions))
}

/// The attributes of what is under this name, links followed, as [`std::fs::metadata`].
///
/// # Errors
///
/// Those of the system.
pub fn metadata<P: AsRef<Path>>(path: P) -> io::Result<Metadata> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::metadata(path))
}

/// The attributes of what is under this name, a symbolic link itself included, as [`std::fs::symlink_metadata`].
///
/// # Errors
///
/// Those of the system.
pub fn symlink_metadata<P: AsRef<Path>>(path: P) -> io::Result<Metadata> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::symlink_metadata(path))
}

/// The absolute path without symbolic links, as [`std::fs::canonicalize`].
///
/// # Errors
///
/// Those of the system.
pub fn canonicalize<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::canonicalize(path))
}

/// What a symbolic link points to, as [`std::fs::read_link`].
///
/// # Errors
///
/// Those of the system.
pub fn read_link<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::read_link(path))
}

/// Removes a file, as [`std::fs::remove_file`].
///
/// # Errors
///
/// Those of the system.
pub fn remove_file<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::remove_file(path))
}

/// Makes a directory, as [`std::fs::create_dir`].
///
/// # Errors
///
/// Those of the system.
pub fn create_dir<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::create_dir(path))
}

/// Makes a directory and those above it that are not there, as [`std::fs::create_dir_all`].
///
/// # Errors
///
/// Those of the system.
pub fn create_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::create_dir_all(path))
}

/// Removes an empty directory, as [`std::fs::remove_dir`].
///
/// # Errors
///
/// Those of the system.
pub fn remove_dir<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::remove_dir(path))
}

/// Removes a directory and all that is in it, as [`std::fs::remove_dir_all`].
///
/// # Errors
///
/// Those of the system.
pub fn remove_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    native(move || std::fs::remove_dir_all(path))
}

/// Gives a file another name, in place of what has that name, as [`std::fs::rename`].
///
/// # Errors
///
/// Those of the system.
pub fn rename<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<()> {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    native(move || std::fs::rename(from, to))
}

/// Copies a file and its permissions, in one job; says how many bytes there were, as [`std::fs::copy`].
///
/// # Errors
///
/// Those of the system.
pub fn copy<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<u64> {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    native(move || std::fs::copy(from, to))
}

/// Gives a file one more name, as [`std::fs::hard_link`].
///
/// # Errors
///
/// Those of the system.
pub fn hard_link<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    let (original, link) = (original.as_ref().to_owned(), link.as_ref().to_owned());
    native(move || std::fs::hard_link(original, link))
}
