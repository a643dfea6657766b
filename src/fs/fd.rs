//! Files as descriptors, and as std's files.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;

use super::File;

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.flow.get().as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.flow.get().as_raw_fd()
    }
}

impl IntoRawFd for File {
    fn into_raw_fd(self) -> RawFd {
        OwnedFd::from(self).into_raw_fd()
    }
}

impl FromRawFd for File {
    /// # Safety
    ///
    /// `fd` is open, and the caller gives its ownership away, as [`FromRawFd`] has it.
    unsafe fn from_raw_fd(fd: RawFd) -> File {
        // SAFETY: passed on to the caller.
        File::from(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> File {
        File::from(std::fs::File::from(fd))
    }
}

impl From<File> for OwnedFd {
    fn from(file: File) -> OwnedFd {
        std::fs::File::from(file).into()
    }
}

/// Takes over std's file; its mode is kept.
impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File::from_outside(file)
    }
}

/// Gives std's file: its calls stop the native thread again.
///
/// Waits for a job that was left behind by a caller who was killed, without a switch.
impl From<File> for std::fs::File {
    fn from(file: File) -> std::fs::File {
        let mut file = file.flow.into_inner();
        loop {
            file = match Arc::try_unwrap(file) {
                Ok(file) => return file,
                // A lock or a sync may take its time: another number will do then.
                Err(shared) => match shared.try_clone() {
                    Ok(file) => return file,
                    Err(_lack_of_descriptors) => shared,
                },
            };
            thread::yield_now();
        }
    }
}

/// Gives the file to a child process.
impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        Stdio::from(OwnedFd::from(file))
    }
}
