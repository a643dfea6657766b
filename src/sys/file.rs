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

/// Whether the error says that the poller does not take such a file (epoll_ctl(2)).
pub(crate) fn is_unpollable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

/// Whether the error says that the descriptor is not open.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADF)
}

/// The error that says so.
pub(crate) fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
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

/// Whether the open file goes past the page cache (`O_DIRECT`): then no read is at once.
pub(crate) fn is_direct(fd: BorrowedFd<'_>) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // SAFETY: takes and gives integers only.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
        flags >= 0 && flags & libc::O_DIRECT != 0
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = fd;
        false
    }
}

/// Whether a [`read_nowait`] of a file that gives 0 has seen the end. Linux 5.9 and 5.10 say 0 also where they would wait (preadv2(2)).
pub(crate) fn nowait_knows_the_end() -> bool {
    use std::sync::atomic::{AtomicU8, Ordering};
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;
    static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
    match KNOWN.load(Ordering::Relaxed) {
        UNKNOWN => {
            let mut name = std::mem::MaybeUninit::<libc::utsname>::uninit();
            // SAFETY: writes one name, alive for the call.
            let knows = unsafe { libc::uname(name.as_mut_ptr()) } == 0 && {
                // SAFETY: the call succeeded and has filled it.
                let name = unsafe { name.assume_init() };
                let begins = |text: &[u8]| text.iter().zip(name.release).all(|(&a, b)| a == b as u8);
                !begins(b"5.9.") && !begins(b"5.10.")
            };
            KNOWN.store(if knows { YES } else { NO }, Ordering::Relaxed);
            knows
        }
        known => known == YES,
    }
}
