//! Regular files, which are always ready and may take long: native threads make the call while the task is parked.
//!
//! The buffers are the caller's, on his stack perhaps, so the wait does not end before the call does: kills and time-outs
//! are held back until then. A read of what the system has in memory is made at once.
//!
//! Two calls that use one position are in order as those of native threads are; while one of them is with a native thread, the others
//! go there too, so that the hub does not wait for the kernel's lock on the position. Numbers of one file are taken for several.

use std::sync::LazyLock;

use libc::{c_int, c_void, iovec, off_t, size_t, ssize_t};

use super::descriptor::{self, Kind, Known};
use super::gate::{Errno, enclosed, errno, report, set_errno};
use super::message::{buffers, length, rest};
use super::stream::original as stream;
use super::symbol::interpose;
use crate::hub::Hub;
use crate::offload::ThreadPool;
use crate::{sys, time};

interpose! {
    fn pread(fd: c_int, buffer: *mut c_void, length: size_t, at: off_t) -> ssize_t, FILE => file_pread;
    fn pread64(fd: c_int, buffer: *mut c_void, length: size_t, at: off_t) -> ssize_t, FILE => file_pread;
    fn __pread64(fd: c_int, buffer: *mut c_void, length: size_t, at: off_t) -> ssize_t, FILE => file_pread;
    fn __pread_chk(
        fd: c_int,
        buffer: *mut c_void,
        length: size_t,
        at: off_t,
        room: size_t,
    ) -> ssize_t, FILE => file_pread_chk;
    fn __pread64_chk(
        fd: c_int,
        buffer: *mut c_void,
        length: size_t,
        at: off_t,
        room: size_t,
    ) -> ssize_t, FILE => file_pread_chk;
    fn preadv(fd: c_int, buffers: *const iovec, count: c_int, at: off_t) -> ssize_t, FILE => file_preadv;
    fn preadv64(fd: c_int, buffers: *const iovec, count: c_int, at: off_t) -> ssize_t, FILE => file_preadv;
    fn pwrite(fd: c_int, buffer: *const c_void, length: size_t, at: off_t) -> ssize_t, FILE => file_pwrite;
    fn pwrite64(fd: c_int, buffer: *const c_void, length: size_t, at: off_t) -> ssize_t, FILE => file_pwrite;
    fn __pwrite64(fd: c_int, buffer: *const c_void, length: size_t, at: off_t) -> ssize_t, FILE => file_pwrite;
    fn pwritev(fd: c_int, buffers: *const iovec, count: c_int, at: off_t) -> ssize_t, FILE => file_pwritev;
    fn pwritev64(fd: c_int, buffers: *const iovec, count: c_int, at: off_t) -> ssize_t, FILE => file_pwritev;
    fn fsync(fd: c_int) -> c_int, FILE => file_fsync;
    fn fdatasync(fd: c_int) -> c_int, FILE => file_fdatasync;
    fn ftruncate(fd: c_int, length: off_t) -> c_int, FILE => file_ftruncate;
    fn ftruncate64(fd: c_int, length: off_t) -> c_int, FILE => file_ftruncate;
}

unsafe fn file_pread(hub: &'static Hub, fd: c_int, buffer: *mut c_void, length: size_t, at: off_t) -> ssize_t {
    let Some(known) = disk(hub, fd).filter(|_| length > 0 && at >= 0) else {
        // SAFETY: passed on to the caller.
        return unsafe { original::pread64(fd, buffer, length, at) };
    };
    let buffers = [iovec { iov_base: buffer, iov_len: length }];
    // SAFETY: passed on to the caller.
    unsafe { read_at(hub, fd, &known, &buffers, Some(at)) }
}

unsafe fn file_pread_chk(
    hub: &'static Hub,
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    at: off_t,
    room: size_t,
) -> ssize_t {
    if length > room {
        // SAFETY: passed on to the caller. It ends the process.
        return unsafe { original::__pread64_chk(fd, buffer, length, at, room) };
    }
    // SAFETY: passed on to the caller.
    unsafe { file_pread(hub, fd, buffer, length, at) }
}

unsafe fn file_preadv(hub: &'static Hub, fd: c_int, first: *const iovec, count: c_int, at: off_t) -> ssize_t {
    match disk(hub, fd) {
        Some(known) if !first.is_null() && (1..=sys::IOV_MAX as c_int).contains(&count) && at >= 0 => {
            // SAFETY: passed on to the caller.
            let buffers = unsafe { buffers(first, count as usize) };
            // SAFETY: as above.
            unsafe { read_at(hub, fd, &known, buffers, Some(at)) }
        }
        // SAFETY: as above.
        _ => unsafe { original::preadv64(fd, first, count, at) },
    }
}

unsafe fn file_pwrite(hub: &'static Hub, fd: c_int, buffer: *const c_void, length: size_t, at: off_t) -> ssize_t {
    let Some(known) = disk(hub, fd) else {
        // SAFETY: passed on to the caller.
        return unsafe { original::pwrite64(fd, buffer, length, at) };
    };
    let buffers = [iovec { iov_base: buffer.cast_mut(), iov_len: length }];
    // SAFETY: passed on to the caller.
    unsafe { write_at(hub, fd, &known, &buffers, Some(at)) }
}

unsafe fn file_pwritev(hub: &'static Hub, fd: c_int, first: *const iovec, count: c_int, at: off_t) -> ssize_t {
    match disk(hub, fd) {
        Some(known) if !first.is_null() && (1..=sys::IOV_MAX as c_int).contains(&count) => {
            // SAFETY: passed on to the caller.
            let buffers = unsafe { buffers(first, count as usize) };
            // SAFETY: as above.
            unsafe { write_at(hub, fd, &known, buffers, Some(at)) }
        }
        // SAFETY: as above.
        _ => unsafe { original::pwritev64(fd, first, count, at) },
    }
}

unsafe fn file_fsync(hub: &'static Hub, fd: c_int) -> c_int {
    // SAFETY: passed on to the caller.
    let call = move || unsafe { original::fsync(fd) };
    if disk(hub, fd).is_some() { job(hub, move || call() as ssize_t) as c_int } else { call() }
}

unsafe fn file_fdatasync(hub: &'static Hub, fd: c_int) -> c_int {
    // SAFETY: passed on to the caller.
    let call = move || unsafe { original::fdatasync(fd) };
    if disk(hub, fd).is_some() { job(hub, move || call() as ssize_t) as c_int } else { call() }
}

unsafe fn file_ftruncate(hub: &'static Hub, fd: c_int, length: off_t) -> c_int {
    // SAFETY: passed on to the caller.
    let call = move || unsafe { original::ftruncate64(fd, length) };
    if disk(hub, fd).is_some() { job(hub, move || call() as ssize_t) as c_int } else { call() }
}

pub(super) fn disk(hub: &'static Hub, fd: c_int) -> Option<std::rc::Rc<Known>> {
    descriptor::look_up(hub, fd).filter(|known| known.kind == Kind::Disk)
}

/// The most that is read at once from memory here.
const MOST_HERE: usize = 128 << 10;

/// Reads as many bytes as there are, at the file's position or elsewhere.
///
/// # Safety
///
/// The buffers are good, or the kernel says that they are not.
pub(super) unsafe fn read_at(
    hub: &'static Hub,
    fd: c_int,
    known: &Known,
    buffers: &[iovec],
    at: Option<off_t>,
) -> ssize_t {
    if let Err(number) = enclosed(hub, || hub.charge()) {
        return report(Err(number));
    }
    let asked = length(buffers);
    let mut got = 0;
    let alone = at.is_some() || known.jobs.get() == 0;
    if asked <= MOST_HERE && alone && !known.no_read.get() && sys::nowait_knows_the_end() {
        let saved = errno();
        while got < asked {
            let rest = if got == 0 { &[][..] } else { &rest(buffers, got)[..] };
            let now = if got == 0 { buffers } else { rest };
            let place = at.map_or(sys::HERE, |at| at + got as off_t);
            // SAFETY: passed on to the caller.
            let n = unsafe { libc::preadv2(fd, now.as_ptr(), now.len() as c_int, place, libc::RWF_NOWAIT) };
            match n {
                0 => return got as ssize_t,
                1.. => got += n as usize,
                _ => match errno() {
                    libc::EAGAIN | libc::EINTR => break,
                    libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM | libc::EINVAL => {
                        known.no_read.set(true);
                        break;
                    }
                    _ if got > 0 => break,
                    _ => return -1,
                },
            }
        }
        set_errno(saved);
        if got == asked {
            return got as ssize_t;
        }
    }
    let rest = if got == 0 { Vec::new() } else { rest(buffers, got) };
    let now = if got == 0 { buffers } else { &rest };
    let call = Call { fd, first: now.as_ptr(), count: now.len() as c_int, at: at.map(|at| at + got as off_t) };
    let busy = Busy::new(known, at.is_none());
    // SAFETY: passed on to the caller, who is parked until it is done.
    let n = job(hub, move || unsafe { call.read() });
    drop(busy);
    if n < 0 && got > 0 { got as ssize_t } else { got as ssize_t + n }
}

/// Writes all bytes, at the file's position or elsewhere.
///
/// # Safety
///
/// As [`read_at`].
pub(super) unsafe fn write_at(
    hub: &'static Hub,
    fd: c_int,
    known: &Known,
    buffers: &[iovec],
    at: Option<off_t>,
) -> ssize_t {
    let call = Call { fd, first: buffers.as_ptr(), count: buffers.len() as c_int, at };
    let _busy = Busy::new(known, at.is_none());
    // SAFETY: passed on to the caller, who is parked until it is done.
    job(hub, move || unsafe { call.write() })
}

/// A call as a job makes it, with buffers of the parked caller.
struct Call {
    fd: c_int,
    first: *const iovec,
    count: c_int,
    at: Option<off_t>,
}

// SAFETY: the buffers are the job's while its caller is parked, who does not touch them; `job` sees to it that he is.
unsafe impl Send for Call {}

impl Call {
    /// # Safety
    ///
    /// The buffers are good, or the kernel says that they are not.
    unsafe fn read(self) -> ssize_t {
        match self.at {
            // SAFETY: passed on to the caller.
            None => unsafe { stream::readv(self.fd, self.first, self.count) },
            // SAFETY: passed on to the caller.
            Some(at) => unsafe { original::preadv64(self.fd, self.first, self.count, at) },
        }
    }

    /// # Safety
    ///
    /// As [`read`](Self::read).
    unsafe fn write(self) -> ssize_t {
        match self.at {
            // SAFETY: passed on to the caller.
            None => unsafe { stream::writev(self.fd, self.first, self.count) },
            // SAFETY: passed on to the caller.
            Some(at) => unsafe { original::pwritev64(self.fd, self.first, self.count, at) },
        }
    }
}

/// Counts a job that uses the file's position.
struct Busy<'a>(Option<&'a Known>);

impl Busy<'_> {
    fn new(known: &Known, counts: bool) -> Busy<'_> {
        if counts {
            known.jobs.set(known.jobs.get() + 1);
        }
        Busy(counts.then_some(known))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.0 {
            known.jobs.set(known.jobs.get() - 1);
        }
    }
}

/// Makes a call on a native thread, and gives its result and `errno`. The task is parked until it is done, whatever happens to it.
/// What was to be raised before is told instead of the call.
pub(super) fn job(hub: &'static Hub, call: impl FnOnce() -> ssize_t + Send) -> ssize_t {
    let mut outcome = Outcome(None);
    let place = Place(&raw mut outcome);
    let body: Box<dyn FnOnce() -> ssize_t + Send> = Box::new(call);
    // SAFETY: the job is done, or was never begun and is dropped, before this function returns: nothing ends the wait earlier.
    // Kills and time-outs are held back by the shield, and the wait for a native thread counts as one that can end (rule 7).
    let body: Box<dyn FnOnce() -> ssize_t + Send + 'static> = unsafe { std::mem::transmute(body) };
    let waited = enclosed(hub, || {
        hub.charge();
        let task = hub.current();
        if task.attention.get() {
            hub.attend(&task);
        }
        time::shield(|| {
            FILES.apply(move || {
                let result = body();
                place.put((result, errno()));
            });
        });
    });
    match (waited, outcome.0) {
        (_, Some((result, number))) => {
            if result < 0 {
                set_errno(number);
            }
            result
        }
        (Err(number), None) => report(Err(number)),
        (Ok(()), None) => report(Err(libc::EIO)),
    }
}

struct Outcome(Option<(ssize_t, Errno)>);

struct Place(*mut Outcome);

// SAFETY: it leads to the parked caller's stack, and only the job uses it meanwhile.
unsafe impl Send for Place {}

impl Place {
    fn put(self, outcome: (ssize_t, Errno)) {
        // SAFETY: as above.
        unsafe { (*self.0).0 = Some(outcome) };
    }
}

/// The threads for files. As many as the default pool's, and apart from it: what the program gives to that does not keep files waiting.
static FILES: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::named(MOST, "greenroom-files"));

const MOST: usize = 16;
