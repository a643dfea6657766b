//! Reads and writes of what is no socket: calls that would rather fail than wait, and bare ones.
//!
//! Each function is one system call, as in `socket.rs`, whose obligations S1 and S2 the `SAFETY` lines cite.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::socket::{IOV_MAX, length};

/// The file's own position, for [`read_nowait`] and [`write_nowait`].
pub(crate) const HERE: i64 = -1;

/// Reads what is there without waiting, whatever the open file's flags (preadv2(2), `RWF_NOWAIT`).
///
/// `WouldBlock` if there is nothing yet; `EOPNOTSUPP` (or another of [`is_refusal`]) where the system or the file has no such read.
#[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
pub(crate) fn read_nowait(fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>], offset: i64) -> io::Result<usize> {
    let (pointer, count) = (bufs.as_mut_ptr().cast(), bufs.len().min(IOV_MAX) as libc::c_int);
    // SAFETY: S1 and S2, `bufs`.
    length(unsafe { libc::preadv2(fd.as_raw_fd(), pointer, count, offset, libc::RWF_NOWAIT) })
}

#[cfg(not(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"))))]
pub(crate) fn read_nowait(_: BorrowedFd<'_>, _: &mut [IoSliceMut<'_>], _: i64) -> io::Result<usize> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

/// Writes what there is room for without waiting (pwritev2(2), `RWF_NOWAIT`); errors as for [`read_nowait`].
#[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
pub(crate) fn write_nowait(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>], offset: i64) -> io::Result<usize> {
    let (pointer, count) = (bufs.as_ptr().cast(), bufs.len().min(IOV_MAX) as libc::c_int);
    // SAFETY: S1 and S2, `bufs`, which are only read.
    length(unsafe { libc::pwritev2(fd.as_raw_fd(), pointer, count, offset, libc::RWF_NOWAIT) })
}

#[cfg(not(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"))))]
pub(crate) fn write_nowait(_: BorrowedFd<'_>, _: &[IoSlice<'_>], _: i64) -> io::Result<usize> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

/// Whether the error says that there is no such call without waiting: older kernels, fifos, terminals, and filters that forbid it.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM))
}

/// readv(2).
pub(crate) fn read(fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let (pointer, count) = (bufs.as_mut_ptr().cast(), bufs.len().min(IOV_MAX) as libc::c_int);
    // SAFETY: S1 and S2, `bufs`.
    length(unsafe { libc::readv(fd.as_raw_fd(), pointer, count) })
}

/// writev(2).
pub(crate) fn write(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let (pointer, count) = (bufs.as_ptr().cast(), bufs.len().min(IOV_MAX) as libc::c_int);
    // SAFETY: S1 and S2, `bufs`, which are only read.
    length(unsafe { libc::writev(fd.as_raw_fd(), pointer, count) })
}
