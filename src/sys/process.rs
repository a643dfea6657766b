//! The ends of child processes, as the system tells them.

use std::io;
use std::os::fd::OwnedFd;

/// A descriptor that can be read once the child has ended (pidfd_open(2)), closed in other programs. The child has not been
/// reaped: else the number may be another's.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn pidfd_open(child: u32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;

    let no_flags: libc::c_uint = 0;
    // SAFETY: takes integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child as libc::pid_t, no_flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it, for us alone; descriptors are ints.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn pidfd_open(_: u32) -> io::Result<OwnedFd> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// Stops the native thread until the child has ended, and does not reap it (waitid(2), `WNOWAIT`). At once if it was reaped.
pub(crate) fn wait_for_end(child: u32) {
    loop {
        // SAFETY: an all-zero siginfo_t is valid: integers, and pointers that may be null.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: `info` is alive for the call.
        let ended = unsafe { libc::waitid(libc::P_PID, child as libc::id_t, &raw mut info, options) };
        if ended == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}
