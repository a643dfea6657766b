//! Connections of others: accept(2), which has no flag that says "do not wait".
//!
//! A listener that this process has made is made non-blocking underneath, and the user's view kept (`fcntl` shows and changes that).
//! One that came from outside, by exec, from before the first patch, or by way of a copy of the process, may be in others' hands: its flags stay, and a
//! native thread makes the call once poll(2) says that there is something to accept. If another process is quicker, that thread
//! waits for the next, and the task with it: a kill comes after that, so that no connection is lost.

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use libc::{c_int, sockaddr, sockaddr_storage, socklen_t, ssize_t};

use super::descriptor::{self, Known};
use super::gate::{self, Errno, enclosed, errno, report, set_errno};
use super::symbol::interpose;
use crate::hub::Hub;
use crate::io::{Direction, Left};
use crate::offload::ThreadPool;
use crate::waiter::End;
use crate::{clock, sys, time};

interpose! {
    fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int, all SOCKET => socket_accept;
    fn accept4(
        fd: c_int,
        address: *mut sockaddr,
        length: *mut socklen_t,
        flags: c_int,
    ) -> c_int, all SOCKET => socket_accept4;
}

unsafe fn socket_accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { socket_accept4(fd, address, length, 0) }
}

unsafe fn socket_accept4(fd: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
    // SAFETY: passed on to the caller.
    let mut call = || unsafe { original::accept4(fd, address, length, flags) };
    let socket = match gate::hub_for(super::Areas::SOCKET) {
        None => accept_without_hub(fd, &mut call),
        Some(hub) => match descriptor::look_up(hub, fd) {
            Some(known) if known.is_socket() && !known.source.is_nonblocking() => {
                if known.source.is_underneath() {
                    accept_here(hub, fd, &known, call)
                } else if !sys::is_listener(fd) || flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
                    // It says at once what is wrong.
                    call()
                } else if descriptor::is_ours(fd) {
                    accept_here(hub, fd, &known, call)
                } else {
                    let asked = Asked { fd, address, length, flags };
                    // SAFETY: passed on to the caller.
                    unsafe { accept_there(hub, &known, &asked) }
                }
            }
            _ => call(),
        },
    };
    if socket >= 0 {
        descriptor::forget(socket);
    }
    socket
}

fn accept_here(hub: &'static Hub, fd: c_int, known: &Known, mut call: impl FnMut() -> c_int) -> c_int {
    if !descriptor::is_underneath(fd) && hub.bare(|| descriptor::put_underneath(fd, &known.source)).is_err() {
        return call();
    }
    let call = || call() as ssize_t;
    report(known.perform(hub, Direction::Read, call, |_| Left::Maybe).map(|fd| fd as c_int))
}

/// A thread that cannot park meets what was set underneath for others.
fn accept_without_hub(fd: c_int, call: &mut dyn FnMut() -> c_int) -> c_int {
    loop {
        let socket = call();
        if socket >= 0 || errno() != libc::EAGAIN || Hub::get().is_some_and(|hub| !hub.can_switch()) {
            return socket;
        }
        match descriptor::view_of(fd) {
            Some(view) if !view.is_nonblocking() => {}
            _ => {
                set_errno(libc::EAGAIN);
                return socket;
            }
        }
        let timeout = sys::socket_timeout(fd, true);
        match sys::poll_fd(fd, libc::POLLIN, timeout) {
            Ok(true) => {}
            Ok(false) => {
                set_errno(libc::EAGAIN);
                return -1;
            }
            Err(error) => {
                set_errno(error.raw_os_error().unwrap_or(libc::EIO));
                return -1;
            }
        }
    }
}

/// What was asked of accept4(2).
struct Asked {
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
}

/// For listeners whose flags are somebody else's.
unsafe fn accept_there(hub: &'static Hub, known: &Known, asked: &Asked) -> c_int {
    static POOL: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::named(MOST, "greenroom-accepts"));
    let (fd, flags) = (asked.fd, asked.flags);
    let mut deadline = None;
    let accepted = enclosed(hub, || {
        hub.charge();
        while !is_ready(hub, fd) {
            let deadline =
                *deadline.get_or_insert_with(|| known.source.timeout(Direction::Read).and_then(clock::deadline_after));
            match known.source.wait_for_news(Direction::Read, deadline, End::Back) {
                Ok(true) => {}
                Ok(false) => return Err(libc::EAGAIN),
                Err(error) => return Err(error.raw_os_error().unwrap_or(libc::EIO)),
            }
        }
        let accepted = time::shield(|| POOL.apply(move || accept_on_this_thread(fd, flags)));
        known.source.pass_on(Direction::Read);
        accepted
    });
    match accepted.and_then(|accepted| accepted) {
        Ok((socket, from, from_length)) => {
            if !asked.address.is_null() {
                // SAFETY: an address has its length beside it, and the caller vouches for both.
                let room = unsafe { *asked.length };
                let copied = from_length.min(room) as usize;
                // SAFETY: as much as there is room for, from memory of another place that holds as much.
                unsafe { std::ptr::copy_nonoverlapping((&raw const from).cast::<u8>(), asked.address.cast(), copied) };
                // SAFETY: as above.
                unsafe { *asked.length = from_length };
            }
            socket
        }
        Err(number) => report(Err(number)),
    }
}

/// So many may be in the act of accepting at once.
const MOST: usize = 64;

fn accept_on_this_thread(fd: c_int, flags: c_int) -> Result<(c_int, sockaddr_storage, socklen_t), Errno> {
    let mut from = MaybeUninit::<sockaddr_storage>::zeroed();
    let mut length = size_of::<sockaddr_storage>() as socklen_t;
    // SAFETY: writes an address of at most this length, and the length, both alive for the call.
    let socket = unsafe { original::accept4(fd, from.as_mut_ptr().cast(), &raw mut length, flags) };
    // SAFETY: an address is integers, and was all zeroes.
    if socket < 0 { Err(errno()) } else { Ok((socket, unsafe { from.assume_init() }, length)) }
}

/// Whether there is something to accept, or an error to be had.
fn is_ready(hub: &Hub, fd: c_int) -> bool {
    hub.bare(|| sys::poll_fd(fd, libc::POLLIN, Some(std::time::Duration::ZERO))).unwrap_or(true)
}
