//! Bytes from descriptor to descriptor.
//!
//! The kernel's own ways wait on sockets whatever the flags say. So `sendfile` to a socket or a pipe is a read and a write, in parts; `splice`
//! waits for both sides, and then moves a little, on a native thread unless both are pipes.

use std::ptr;

use libc::{c_int, c_uint, off_t, size_t, ssize_t};

use super::descriptor::{self, Kind, Known};
use super::file::job;
use super::gate::{Errno, enclosed, errno, patched, report};
use super::options::original::fcntl;
use super::stream::write_from;
use super::symbol::interpose;
use super::{Areas, file};
use crate::hub::Hub;
use crate::io::Direction;
use crate::net::Backoff;
use crate::waiter::End;
use crate::{clock, sys};

interpose! {
    fn sendfile(out: c_int, from: c_int, at: *mut off_t, count: size_t) -> ssize_t, BYTES => stream_sendfile;
    fn sendfile64(out: c_int, from: c_int, at: *mut off_t, count: size_t) -> ssize_t, BYTES => stream_sendfile;
    fn splice(
        from: c_int,
        from_at: *mut off_t,
        out: c_int,
        out_at: *mut off_t,
        count: size_t,
        flags: c_uint,
    ) -> ssize_t, BYTES => stream_splice;
    fn copy_file_range(
        from: c_int,
        from_at: *mut off_t,
        out: c_int,
        out_at: *mut off_t,
        count: size_t,
        flags: c_uint,
    ) -> ssize_t, FILE => file_copy_range;
}

/// What a file gives in one go.
const PART: usize = 64 << 10;

/// The most that the kernel moves in one call.
const MOST: usize = 0x7fff_f000;

unsafe fn stream_sendfile(hub: &'static Hub, out: c_int, from: c_int, at: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: passed on to the caller.
    let bare = move |at: *mut off_t| unsafe { original::sendfile64(out, from, at, count) };
    let (Some(to), Some(source)) = (descriptor::look_up(hub, out), descriptor::look_up(hub, from)) else {
        return bare(at);
    };
    if source.kind != Kind::Disk || to.kind == Kind::Bare || count == 0 {
        return bare(at);
    }
    if to.kind == Kind::Disk {
        return if patched().contains(Areas::FILE) {
            job_at(hub, at, ptr::null_mut(), move |at, _| bare(at))
        } else {
            bare(at)
        };
    }
    if !patched().contains(Areas::SOCKET) || to.source.is_nonblocking() {
        return bare(at);
    }
    // SAFETY: null, or the caller vouches for it.
    let begin = match unsafe { at.as_ref() } {
        Some(&begin) => begin,
        // SAFETY: takes and gives integers only.
        None => unsafe { libc::lseek(from, 0, libc::SEEK_CUR) },
    };
    if begin < 0 {
        return bare(at);
    }
    let (moved, number) = copy(hub, (out, &to), (from, &source), begin, count.min(MOST));
    let end = begin + moved as off_t;
    if at.is_null() {
        // SAFETY: takes and gives integers only.
        unsafe { libc::lseek(from, end, libc::SEEK_SET) };
    } else {
        // SAFETY: the caller vouches for it.
        unsafe { *at = end };
    }
    if moved == 0 && number != 0 { report(Err(number)) } else { moved as ssize_t }
}

/// Copies up to so many bytes of a file to where they are waited for. Gives how many, and the error that ended it, if one did.
fn copy(
    hub: &'static Hub,
    (out, to): (c_int, &Known),
    (from, source): (c_int, &Known),
    begin: off_t,
    count: usize,
) -> (usize, Errno) {
    let mut buffer = vec![0_u8; PART.min(count)];
    let mut moved = 0;
    while moved < count {
        let asked = buffer.len().min(count - moved);
        let part = [libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: asked }];
        let at = begin + moved as off_t;
        let read = if patched().contains(Areas::FILE) {
            // SAFETY: a buffer of our own, alive until then.
            unsafe { file::read_at(hub, from, source, &part, Some(at)) }
        } else {
            // SAFETY: as above.
            unsafe { file::original::pread64(from, buffer.as_mut_ptr().cast(), asked, at) }
        };
        if read <= 0 {
            return (moved, if read < 0 { errno() } else { 0 });
        }
        let part = [libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: read as usize }];
        let written = if to.is_socket() {
            // SAFETY: as above.
            unsafe { super::socket::socket_send(hub, out, part[0].iov_base, part[0].iov_len, 0) }
        } else {
            // SAFETY: as above.
            unsafe { write_from(hub, out, to, &part) }
        };
        if written < 0 {
            return (moved, errno());
        }
        moved += written as usize;
        if written < read {
            return (moved, 0);
        }
    }
    (moved, 0)
}

unsafe fn stream_splice(
    hub: &'static Hub,
    from: c_int,
    from_at: *mut off_t,
    out: c_int,
    out_at: *mut off_t,
    count: size_t,
    flags: c_uint,
) -> ssize_t {
    let call = move |from_at: *mut off_t, out_at: *mut off_t, count, flags| {
        // SAFETY: passed on to the caller.
        unsafe { original::splice(from, from_at, out, out_at, count, flags) }
    };
    let (Some(source), Some(to)) = (descriptor::look_up(hub, from), descriptor::look_up(hub, out)) else {
        return call(from_at, out_at, count, flags);
    };
    let is_file = |known: &Known| matches!(known.kind, Kind::Disk | Kind::Bare);
    let from_pipe = is_pipe(from, libc::O_WRONLY);
    let to_pipe = is_pipe(out, libc::O_RDONLY);
    // What is wrong is said at once.
    let is_wrong = !(from_pipe || to_pipe)
        || from_pipe && !from_at.is_null()
        || to_pipe && !out_at.is_null()
        || source.file == to.file
        || from_pipe != (source.kind == Kind::Other)
        || to_pipe != (to.kind == Kind::Other);
    if count == 0 || is_wrong || !patched().contains(Areas::SOCKET) {
        return call(from_at, out_at, count, flags);
    }
    let now = flags | libc::SPLICE_F_NONBLOCK;
    let pipes = from_pipe && to_pipe;
    let may_wait = |known: &Known| {
        let asked_not_to = known.kind == Kind::Other && flags & libc::SPLICE_F_NONBLOCK != 0;
        !is_file(known) && !asked_not_to && !known.source.is_nonblocking()
    };
    let mut backoff = None;
    loop {
        for (known, fd, direction) in [(&source, from, Direction::Read), (&to, out, Direction::Write)] {
            if may_wait(known)
                && let Err(number) = wait(hub, known, fd, direction)
            {
                return report(Err(number));
            }
        }
        let n = if pipes {
            call(from_at, out_at, count, now)
        } else {
            job_at(hub, from_at, out_at, move |from_at, out_at| call(from_at, out_at, count.min(A_LITTLE), now))
        };
        if n >= 0 || errno() != libc::EAGAIN || !(may_wait(&source) || may_wait(&to)) {
            return n;
        }
        // Somebody else was quicker.
        let backoff = backoff.get_or_insert_with(|| Backoff::new(None));
        if let Err(number) = enclosed(hub, || backoff.pause()) {
            return report(Err(number));
        }
    }
}

/// Whether it is a pipe that is not open in this way only.
fn is_pipe(fd: c_int, wrong: c_int) -> bool {
    // SAFETY: takes and gives integers only.
    let mode = unsafe { fcntl(fd, libc::F_GETFL, 0) } & libc::O_ACCMODE;
    // SAFETY: as above.
    mode != wrong && unsafe { fcntl(fd, libc::F_GETPIPE_SZ, 0) } >= 0
}

/// What a socket that is ready takes without waiting, mostly; otherwise a native thread waits.
const A_LITTLE: usize = 4096;

/// Waits until a call in this direction would not wait.
fn wait(hub: &'static Hub, known: &Known, fd: c_int, direction: Direction) -> Result<(), Errno> {
    let events = match direction {
        Direction::Read => libc::POLLIN,
        Direction::Write => libc::POLLOUT,
    };
    let mut deadline = None;
    let waited = enclosed(hub, || {
        hub.charge();
        while !hub.bare(|| sys::poll_fd(fd, events, Some(std::time::Duration::ZERO))).unwrap_or(true) {
            let deadline =
                *deadline.get_or_insert_with(|| known.source.timeout(direction).and_then(clock::deadline_after));
            match known.source.wait_for_news(direction, deadline, End::Back) {
                Ok(true) => {}
                Ok(false) => return Err(libc::EAGAIN),
                Err(error) => return Err(error.raw_os_error().unwrap_or(libc::EIO)),
            }
        }
        known.source.pass_on(direction);
        Ok(())
    });
    waited.and_then(|waited| waited)
}

unsafe fn file_copy_range(
    hub: &'static Hub,
    from: c_int,
    from_at: *mut off_t,
    out: c_int,
    out_at: *mut off_t,
    count: size_t,
    flags: c_uint,
) -> ssize_t {
    let call = move |from_at: *mut off_t, out_at: *mut off_t| {
        // SAFETY: passed on to the caller.
        unsafe { original::copy_file_range(from, from_at, out, out_at, count, flags) }
    };
    if file::disk(hub, from).is_none() || file::disk(hub, out).is_none() {
        return call(from_at, out_at);
    }
    job_at(hub, from_at, out_at, call)
}

/// As [`job`], of a call with positions of the parked caller.
fn job_at(
    hub: &'static Hub,
    one: *mut off_t,
    other: *mut off_t,
    call: impl FnOnce(*mut off_t, *mut off_t) -> ssize_t + Send,
) -> ssize_t {
    struct Places(*mut off_t, *mut off_t);
    // SAFETY: the caller is parked until the job is done.
    unsafe impl Send for Places {}
    let places = Places(one, other);
    job(hub, move || {
        let places = places;
        call(places.0, places.1)
    })
}
