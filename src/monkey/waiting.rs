//! How a call on a descriptor waits.
//!
//! One on a socket says for itself, by `MSG_DONTWAIT`, that it would rather fail than wait: no flag of the open file is touched.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use libc::{c_int, size_t, ssize_t};

use super::descriptor::{self, Kind, Known, quick};
use super::gate::{Errno, enclosed, errno, report, set_errno};
use crate::hub::Hub;
use crate::io::{Direction, Left};
use crate::net::Backoff;
use crate::waiter::End;
use crate::{clock, sys};

/// Which calls say for themselves that they do not wait, or are answered at once whatever they say.
const AT_ONCE: c_int = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE | libc::MSG_OOB;

/// As [`AT_ONCE`], of sends.
const SENT_AT_ONCE: c_int = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE;

/// Flags with which a short read does not mean that nothing is left.
const UNEVEN: c_int = libc::MSG_PEEK | libc::MSG_TRUNC;

/// Receives bytes or a message. `call` is the original, for what lies behind the first so many bytes. `asked` says how many were asked
/// for, 0 if the call was broken off before them; it is looked at only when `call` has succeeded, with arguments that the kernel has seen.
pub(super) fn receive(
    hub: &'static Hub,
    fd: c_int,
    flags: c_int,
    mut call: impl FnMut(size_t, c_int) -> ssize_t,
    asked: impl Fn() -> size_t,
) -> ssize_t {
    // A part of what was asked for is no answer to MSG_WAITALL; and a look leaves what it sees.
    if flags & (AT_ONCE | UNEVEN | libc::MSG_WAITALL) == 0
        && let Some(n) = quick(hub, fd, Direction::Read, || call(0, flags | libc::MSG_DONTWAIT), &asked)
    {
        return n;
    }
    receive_or_wait(hub, fd, flags, call, asked)
}

/// As [`receive`], when the quick way was tried.
pub(super) fn receive_or_wait(
    hub: &'static Hub,
    fd: c_int,
    flags: c_int,
    mut call: impl FnMut(size_t, c_int) -> ssize_t,
    asked: impl Fn() -> size_t,
) -> ssize_t {
    match descriptor::look_up(hub, fd) {
        Some(known) if flags & AT_ONCE == 0 && known.is_socket() => receive_from(hub, &known, flags, call, asked),
        _ => at_once(hub, || call(0, flags)),
    }
}

/// As [`receive`], for a socket and a call that may wait.
fn receive_from(
    hub: &'static Hub,
    known: &Known,
    flags: c_int,
    mut call: impl FnMut(size_t, c_int) -> ssize_t,
    asked: impl Fn() -> size_t,
) -> ssize_t {
    if let Some(number) = known.take_owed() {
        return report(Err(number));
    }
    let even = known.even && flags & UNEVEN == 0;
    let whole = flags & libc::MSG_WAITALL != 0 && flags & libc::MSG_PEEK == 0 && known.kind == Kind::Stream;
    // Of streams only TCP's wait for all that they are to look at.
    let seen_whole = flags & libc::MSG_WAITALL != 0 && flags & libc::MSG_PEEK != 0 && known.even;
    let (mut deadline, mut is_last) = (None, false);
    let mut got = 0;
    loop {
        let is_short = |n: &ssize_t| *n > 0 && (*n as size_t) < asked().saturating_sub(got);
        let left = |n: &ssize_t| if even && is_short(n) { Left::Nothing } else { Left::Maybe };
        let call = || {
            let n = call(got, flags | libc::MSG_DONTWAIT);
            if n < 0 && errno() == libc::EAGAIN && known.is_ended() { call(got, flags) } else { n }
        };
        match known.perform_part(hub, Direction::Read, &mut deadline, call, left) {
            Ok(n) if whole && is_short(&n) => got += n as size_t,
            Ok(n) if seen_whole && !is_last && is_short(&n) && !known.source.is_nonblocking() => {
                // What came just before the end is seen by one more look.
                is_last = hub.bare(|| known.is_over());
                if !is_last && known.wait_for_more(hub, &mut deadline) != Ok(true) {
                    return n;
                }
            }
            Ok(n) => return got as ssize_t + n,
            Err(number) if got > 0 => {
                // What was received counts.
                known.owe(number);
                return got as ssize_t;
            }
            Err(number) => return report(Err(number)),
        }
    }
}

/// Sends bytes, all of them as a call that may wait does, or a message: to a name, if it has one. For `call` and `asked` see [`receive`].
pub(super) fn transmit(
    hub: &'static Hub,
    fd: c_int,
    flags: c_int,
    named: bool,
    mut call: impl FnMut(size_t, c_int) -> ssize_t,
    asked: impl Fn() -> size_t,
) -> ssize_t {
    let mut put = 0;
    if flags & (SENT_AT_ONCE | libc::MSG_FASTOPEN) == 0
        && let Some(n) = quick(hub, fd, Direction::Write, || call(0, flags | libc::MSG_DONTWAIT), &asked)
    {
        if n < 0 || n as size_t >= asked() {
            return n;
        }
        put = n as size_t;
    }
    transmit_or_wait(hub, fd, flags, named, put, call, asked)
}

/// As [`transmit`], when the quick way was tried, and has sent so many bytes.
pub(super) fn transmit_or_wait(
    hub: &'static Hub,
    fd: c_int,
    flags: c_int,
    named: bool,
    put: size_t,
    mut call: impl FnMut(size_t, c_int) -> ssize_t,
    asked: impl Fn() -> size_t,
) -> ssize_t {
    match descriptor::look_up(hub, fd) {
        Some(known) if flags & SENT_AT_ONCE == 0 && known.is_socket() => {
            transmit_rest(hub, fd, &known, flags, named, put, call, asked)
        }
        _ if put > 0 => put as ssize_t,
        _ => at_once(hub, || call(0, flags)),
    }
}

/// As [`transmit`], for a socket and a call that may wait, of which so many bytes were sent.
#[expect(clippy::too_many_arguments, reason = "those of the call, and how far it got")]
fn transmit_rest(
    hub: &'static Hub,
    fd: c_int,
    known: &Known,
    mut flags: c_int,
    named: bool,
    mut put: size_t,
    mut call: impl FnMut(size_t, c_int) -> ssize_t,
    asked: impl Fn() -> size_t,
) -> ssize_t {
    if put > 0 && (known.kind == Kind::Message || known.source.is_nonblocking()) {
        return put as ssize_t;
    }
    if flags & libc::MSG_FASTOPEN != 0 && known.source.is_nonblocking() {
        return call(0, flags);
    }
    if let Some(number) = known.take_owed() {
        return report(Err(number));
    }
    let mut deadline = None;
    let mut backoff = None;
    loop {
        let mut full = false;
        let is_short = |n: &ssize_t| known.kind == Kind::Stream && (*n as size_t) < asked().saturating_sub(put);
        let left = |n: &ssize_t| if known.even && is_short(n) { Left::Nothing } else { Left::Maybe };
        let call = || {
            // An error behind bytes that count raises no signal.
            let quiet = if put > 0 { libc::MSG_NOSIGNAL } else { 0 };
            let n = call(put, flags | quiet | libc::MSG_DONTWAIT);
            if n >= 0 {
                return n;
            }
            match errno() {
                // The connection is under way, and nothing was sent.
                libc::EINPROGRESS if flags & libc::MSG_FASTOPEN != 0 => {
                    flags &= !libc::MSG_FASTOPEN;
                    set_errno(libc::EAGAIN);
                }
                // The receiver's queue is full: nothing tells when it is not (see `net::backoff`).
                libc::EAGAIN if named && known.kind == Kind::Message && sys::is_unix(fd) => {
                    full = true;
                    return 0;
                }
                _ => {}
            }
            n
        };
        let result = known.perform_part(hub, Direction::Write, &mut deadline, call, left);
        if full {
            if known.source.is_nonblocking() {
                return report(Err(libc::EAGAIN));
            }
            let backoff = backoff.get_or_insert_with(|| {
                Backoff::new(known.source.timeout(Direction::Write).and_then(clock::deadline_after))
            });
            match enclosed(hub, || backoff.pause()) {
                Ok(Ok(true)) => continue,
                Ok(_) => return report(Err(libc::EAGAIN)),
                Err(number) => return report(Err(number)),
            }
        }
        match result {
            Ok(n) if is_short(&n) && !known.source.is_nonblocking() => put += n as size_t,
            Ok(n) => return put as ssize_t + n,
            Err(number) if put > 0 => {
                known.owe(number);
                return put as ssize_t;
            }
            Err(number) => return report(Err(number)),
        }
    }
}

/// Makes a call that does not wait. One that fails for that counts: a loop of them gives way now and then, and can be ended.
pub(super) fn at_once(hub: &'static Hub, call: impl FnOnce() -> ssize_t) -> ssize_t {
    let n = call();
    if n < 0 && errno() == libc::EAGAIN {
        match enclosed(hub, || hub.charge()) {
            Ok(()) => {}
            Err(number) => set_errno(number),
        }
    }
    n
}

impl Known {
    pub(super) fn is_socket(&self) -> bool {
        matches!(self.kind, Kind::Stream | Kind::Message)
    }

    /// Whether there is nothing to wait for, although a call that does not wait fails for that: datagrams after `shutdown`. Then one
    /// that may wait does not. Leaves `errno` as `EAGAIN`.
    pub(super) fn is_ended(&self) -> bool {
        let ended = self.kind == Kind::Message
            && !self.source.is_nonblocking()
            && sys::is_read_shut_down(self.source.get().as_fd()).unwrap_or(false);
        set_errno(libc::EAGAIN);
        ended
    }

    /// Whether nothing more will come.
    fn is_over(&self) -> bool {
        sys::is_read_shut_down(self.source.get().as_fd()).unwrap_or(true)
    }

    /// Waits for more than what a look has seen just now. False if it has not come in time.
    fn wait_for_more(&self, hub: &'static Hub, deadline: &mut Option<Option<Instant>>) -> Result<bool, Errno> {
        let timeout = || self.source.timeout(Direction::Read).and_then(clock::deadline_after);
        let deadline = *deadline.get_or_insert_with(timeout);
        let news = enclosed(hub, || self.source.wait_for_news(Direction::Read, deadline, End::Front));
        // What was seen is still there.
        self.source.note_ready(Direction::Read);
        Ok(news?.unwrap_or(false))
    }

    /// Makes a call that does not wait, and waits where it would; `left` as in [`Source::perform`](crate::io::Source::perform).
    /// `EINTR` is tried again.
    pub(super) fn perform(
        &self,
        hub: &'static Hub,
        direction: Direction,
        call: impl FnMut() -> ssize_t,
        left: impl Fn(&ssize_t) -> Left,
    ) -> Result<ssize_t, Errno> {
        self.perform_part(hub, direction, &mut None, call, left)
    }

    /// As [`perform`](Self::perform), for one of several calls that share a deadline, which the first that waits sets.
    #[inline]
    pub(super) fn perform_part(
        &self,
        hub: &'static Hub,
        direction: Direction,
        deadline: &mut Option<Option<Instant>>,
        mut call: impl FnMut() -> ssize_t,
        left: impl Fn(&ssize_t) -> Left,
    ) -> Result<ssize_t, Errno> {
        let tried = |_: &descriptor::Fd| match call() {
            n if n < 0 => Err(io::Error::from_raw_os_error(errno())),
            n => Ok(n),
        };
        let ended = enclosed(hub, || self.source.perform_part(direction, deadline, tried, left))?;
        ended.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Keeps an error that the kernel has told once, of the socket, for the next call.
    pub(super) fn owe(&self, number: Errno) {
        let lasting = [libc::EAGAIN, libc::ECANCELED, libc::EDEADLK, libc::EBADF, libc::EPIPE, libc::EFAULT];
        if !lasting.contains(&number) {
            self.owed.set(number);
        }
    }

    pub(super) fn take_owed(&self) -> Option<Errno> {
        let number = self.owed.replace(0);
        (number != 0).then_some(number)
    }
}
