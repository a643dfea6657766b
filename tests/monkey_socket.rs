//! Patched sockets and the life of descriptors: the results of the originals, and what waits lets the others run.

#![allow(clippy::multiple_unsafe_ops_per_block, reason = "tables of calls of C")]

mod common;

use std::io::{Error, ErrorKind, Read, Write};
use std::mem::{MaybeUninit, zeroed};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::ptr;
use std::thread;
use std::time::Duration;

use common::{EVER, Log, MS, check, soon};
use greenroom::monkey::{self, Areas, original};
use greenroom::{idle, joinall, spawn, timeout, yield_now};

fn patch() {
    // SAFETY: tasks of these tests share only what is Send.
    unsafe { monkey::patch(Areas::SOCKET | Areas::TIME) };
}

/// Runs a test on a thread with a hub that has a task, all the while.
fn patched(body: impl FnOnce() + Send + 'static) {
    patch();
    check(|| {
        let other = spawn(|| greenroom::sleep(EVER));
        spawn(body).join().unwrap();
        other.task().kill();
    });
}

/// What a call of C gives: its result, and its error if it has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gave(i64, i32);

fn gave(result: impl Into<i64>) -> Gave {
    let result = result.into();
    Gave(result, if result < 0 { Error::last_os_error().raw_os_error().unwrap() } else { 0 })
}

fn n(result: isize) -> Gave {
    gave(result as i64)
}

/// Runs the case on a native thread, where the originals answer, and in a task: the results are the same.
#[track_caller]
fn same<T: std::fmt::Debug + PartialEq + Send + 'static>(case: fn() -> T) -> T {
    patch();
    let native = thread::spawn(case).join().unwrap();
    let task = thread::spawn(move || {
        let other = spawn(|| greenroom::sleep(EVER));
        let result = spawn(case).join().unwrap();
        other.task().kill();
        result
    });
    let task = task.join().unwrap();
    assert_eq!(task, native, "patched, and not");
    task
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn recv(fd: RawFd, buffer: &mut [u8], flags: i32) -> Gave {
    // SAFETY: a buffer of its length.
    n(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags) })
}

fn send(fd: RawFd, buffer: &[u8], flags: i32) -> Gave {
    // SAFETY: a buffer of its length.
    n(unsafe { libc::send(fd, buffer.as_ptr().cast(), buffer.len(), flags | libc::MSG_NOSIGNAL) })
}

fn flags_of(fd: RawFd) -> i32 {
    // SAFETY: integers.
    unsafe { libc::fcntl(fd, libc::F_GETFL) }
}

fn true_flags_of(fd: RawFd) -> i32 {
    // SAFETY: integers.
    unsafe { original::fcntl(fd, libc::F_GETFL, 0) }
}

// ---- The same results.

#[test]
fn bad_descriptors_and_arguments_give_what_the_originals_give() {
    same(|| {
        let (one, _other) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let (one, file) = (one.as_raw_fd(), file.as_raw_fd());
        let mut results = Vec::new();
        for fd in [-1, 1_000_000, file] {
            results.push(recv(fd, &mut [0; 4], 0));
            results.push(send(fd, b"x", 0));
            // SAFETY: null where null is answered by an error.
            unsafe {
                results.push(n(libc::recvmsg(fd, ptr::null_mut(), 0)));
                results.push(n(libc::sendmsg(fd, ptr::null(), 0)));
                results.push(gave(libc::accept(fd, ptr::null_mut(), ptr::null_mut())));
                results.push(gave(libc::connect(fd, ptr::null(), 0)));
                results.push(gave(libc::shutdown(fd, libc::SHUT_RD)));
            }
        }
        // SAFETY: null where null is answered by an error.
        unsafe {
            results.push(n(libc::send(one, ptr::null(), 4, 0)));
            results.push(n(libc::recvmsg(one, ptr::null_mut(), 0)));
            results.push(n(libc::sendmsg(one, ptr::null(), 0)));
            results.push(gave(libc::connect(one, ptr::null(), 16)));
            results.push(gave(libc::accept4(one, ptr::null_mut(), ptr::null_mut(), 0)));
            results.push(gave(libc::accept4(one, ptr::null_mut(), ptr::null_mut(), -1)));
            results.push(gave(libc::recvmmsg(one, ptr::null_mut(), 1, libc::MSG_DONTWAIT, ptr::null_mut())));
            results.push(gave(libc::sendmmsg(one, ptr::null_mut(), 1, libc::MSG_DONTWAIT)));
            results.push(gave(libc::shutdown(one, 77)));
            results.push(gave(libc::fcntl(one, 9999)));
            results.push(gave(libc::ioctl(one, libc::FIONBIO, ptr::null_mut::<i32>())));
            results.push(gave(libc::dup2(one, -1)));
            results.push(gave(libc::dup3(one, one, 0)));
            results.push(gave(libc::close(-1)));
            results.push(gave(libc::pipe2(ptr::null_mut(), 0)));
        }
        results
    });
}

#[test]
fn flags_of_receives_mean_what_they_mean() {
    let results = same(|| {
        let (one, other) = tcp_pair();
        let (one, other) = (one.as_raw_fd(), other.as_raw_fd());
        let mut results = vec![send(one, b"abcdef", 0)];
        let mut buffer = [0; 16];
        results.push(recv(other, &mut buffer[..3], libc::MSG_PEEK));
        results.push(recv(other, &mut buffer[..3], libc::MSG_PEEK));
        results.push(recv(other, &mut buffer[..4], libc::MSG_WAITALL));
        results.push(recv(other, &mut buffer, 0));
        results.push(recv(other, &mut buffer, libc::MSG_DONTWAIT));
        results.push(recv(other, &mut buffer, libc::MSG_ERRQUEUE));
        results.push(recv(other, &mut buffer, libc::MSG_OOB));
        results.push(send(one, b"!", libc::MSG_OOB));
        results.push(send(one, b"", 0));
        let one = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        one.connect(one.local_addr().unwrap()).unwrap();
        let one = one.as_raw_fd();
        for text in [&b""[..], b"a", b"bb"] {
            results.push(send(one, text, 0));
        }
        results.push(recv(one, &mut buffer[..0], 0));
        results.push(recv(one, &mut buffer[..0], libc::MSG_TRUNC));
        results.push(recv(one, &mut buffer[..1], libc::MSG_TRUNC | libc::MSG_PEEK));
        results.push(recv(one, &mut buffer[..1], 0));
        results
    });
    assert_eq!(results[3], Gave(4, 0));
}

#[test]
fn timeouts_of_sockets_are_kept() {
    same(|| {
        let (one, _other) = UnixStream::pair().unwrap();
        one.set_read_timeout(Some(20 * MS)).unwrap();
        one.set_write_timeout(Some(20 * MS)).unwrap();
        let fd = one.as_raw_fd();
        let begun = std::time::Instant::now();
        let late = recv(fd, &mut [0; 4], 0);
        let late_at_once = recv(fd, &mut [0; 4], libc::MSG_WAITALL);
        assert!(begun.elapsed() >= 40 * MS);
        // A part counts, and the next call finds no room at all.
        let part = send(fd, &vec![0; 10 << 20], 0);
        let none = send(fd, b"x", 0);
        // Without a time-out the next would wait: it is the mode that ends it.
        one.set_read_timeout(None).unwrap();
        one.set_nonblocking(true).unwrap();
        (late, late_at_once, part.0 > 0, none, recv(fd, &mut [0; 4], 0))
    });
}

#[test]
fn a_timeout_set_on_a_clone_counts() {
    patched(|| {
        let (one, _other) = UnixStream::pair().unwrap();
        let clone = one.try_clone().unwrap();
        one.set_read_timeout(Some(MS)).unwrap();
        assert_eq!((&one).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        clone.set_read_timeout(Some(2 * MS)).unwrap();
        let begun = std::time::Instant::now();
        assert_eq!((&one).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(begun.elapsed() >= 2 * MS);
        clone.set_nonblocking(true).unwrap();
        clone.set_read_timeout(None).unwrap();
        assert_eq!((&one).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn waitall_waits_for_all_and_counts_what_came_before_the_end() {
    patched(|| {
        let (one, other) = tcp_pair();
        let reader = spawn(move || {
            let mut buffer = [0; 10];
            let all = recv(other.as_raw_fd(), &mut buffer, libc::MSG_WAITALL);
            let part = recv(other.as_raw_fd(), &mut buffer, libc::MSG_WAITALL);
            (all, part)
        });
        for part in [&b"abc"[..], b"defg", b"hij", b"klm"] {
            (&one).write_all(part).unwrap();
            idle();
        }
        one.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reader.join().unwrap(), (Gave(10, 0), Gave(3, 0)));
    });
}

#[test]
fn a_look_at_all_waits_for_all() {
    const LOOK: i32 = libc::MSG_PEEK | libc::MSG_WAITALL;
    fn case() -> Vec<(Gave, [u8; 6])> {
        let (one, mut other) = tcp_pair();
        let writer = spawn_or_thread(move || {
            for part in [b"ab", b"cd", b"ef", b"gh", b"ij"] {
                other.write_all(part).unwrap();
                thread::sleep(10 * MS);
            }
        });
        let mut all = Vec::new();
        let mut look = |flags, length: usize| {
            let mut buffer = [0; 6];
            all.push((recv(one.as_raw_fd(), &mut buffer[..length], flags), buffer));
        };
        look(LOOK, 6);
        look(libc::MSG_WAITALL | libc::MSG_TRUNC, 5);
        look(LOOK, 5);
        look(0, 5);
        writer();
        // The end comes first.
        look(LOOK, 6);
        one.set_read_timeout(Some(20 * MS)).unwrap();
        let (one, mut other) = tcp_pair();
        one.set_read_timeout(Some(20 * MS)).unwrap();
        other.write_all(b"abc").unwrap();
        let mut buffer = [0; 6];
        all.push((recv(one.as_raw_fd(), &mut buffer, LOOK), buffer));
        all.push((recv(one.as_raw_fd(), &mut buffer, libc::MSG_WAITALL), buffer));
        all
    }
    let all = same(case);
    assert_eq!(all[0], (Gave(6, 0), *b"abcdef"));
    assert_eq!(all[2].0, Gave(5, 0));
    assert_eq!(all[5], (Gave(3, 0), *b"abc\0\0\0"));
}

/// Runs beside the caller: in a task, if he is one. Gives what waits for it.
fn spawn_or_thread(body: impl FnOnce() + Send + 'static) -> Box<dyn FnOnce()> {
    if greenroom::testing::live_tasks() > 0 {
        let task = spawn(body);
        Box::new(move || task.join().unwrap())
    } else {
        let thread = thread::spawn(body);
        Box::new(move || thread.join().unwrap())
    }
}

#[test]
fn a_blocking_send_is_whole() {
    patched(|| {
        let (one, mut other) = tcp_pair();
        const ALL: usize = 20 << 20;
        let text: Vec<u8> = (0..ALL).map(|i| (i % 251) as u8).collect();
        let expected = text.clone();
        let writer = spawn(move || {
            (send(one.as_raw_fd(), &text[..ALL / 2], 0), {
                let half = &text[ALL / 2..];
                let parts: Vec<libc::iovec> = half
                    .chunks(ALL / 64)
                    .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() })
                    .collect();
                // SAFETY: a message is integers and pointers.
                let mut message: libc::msghdr = unsafe { zeroed() };
                message.msg_iov = parts.as_ptr().cast_mut();
                message.msg_iovlen = parts.len();
                // SAFETY: the buffers are alive.
                n(unsafe { libc::sendmsg(one.as_raw_fd(), &message, 0) })
            })
        });
        let mut got = vec![0; ALL];
        other.read_exact(&mut got).unwrap();
        assert!(got == expected);
        assert_eq!(writer.join().unwrap(), (Gave(ALL as i64 / 2, 0), Gave(ALL as i64 / 2, 0)));
    });
}

#[test]
fn a_send_that_is_cut_short_counts_what_it_sent() {
    patched(|| {
        let (one, mut other) = UnixStream::pair().unwrap();
        let writer = spawn(move || {
            let part = send(one.as_raw_fd(), &vec![1; 10 << 20], 0);
            // The next has nothing to count.
            let none = send(one.as_raw_fd(), &vec![1; 10 << 20], 0);
            (part, none)
        });
        idle();
        writer.task().kill_nowait();
        let (part, none) = writer.join().unwrap();
        assert_eq!(none, Gave(-1, libc::ECANCELED));
        let mut got = Vec::new();
        other.read_to_end(&mut got).unwrap();
        assert_eq!(got.len() as i64, part.0);
    });
}

#[test]
fn a_peer_that_goes_away_ends_a_send_with_its_part_and_then_an_error() {
    let result = same(|| {
        let (one, other) = UnixStream::pair().unwrap();
        let closer = thread::spawn(move || {
            let mut byte = [0];
            (&other).read_exact(&mut byte).unwrap();
            // SAFETY: a socket and an int.
            let is_full = || unsafe {
                let mut poll = libc::pollfd { fd: other.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                libc::poll(&mut poll, 1, 0)
            };
            while is_full() == 0 {
                thread::yield_now();
            }
            thread::sleep(50 * MS);
            drop(other);
        });
        let part = send(one.as_raw_fd(), &vec![1; 10 << 20], 0);
        let next = send(one.as_raw_fd(), b"x", 0);
        closer.join().unwrap();
        (part.0 > 0 && part.0 < 10 << 20, next)
    });
    assert!(result.0);
}

#[test]
fn messages_carry_descriptors_and_names() {
    same(|| {
        let (one, other) = UnixDatagram::pair().unwrap();
        let (passed, mut kept) = UnixStream::pair().unwrap();
        let mut control = [0_u64; 8];
        let mut byte = [7_u8];
        let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        // SAFETY: a message is integers and pointers, and those are alive.
        unsafe {
            let mut message: libc::msghdr = zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header).cast::<i32>().write_unaligned(passed.as_raw_fd());
            let sent = n(libc::sendmsg(one.as_raw_fd(), &message, 0));
            drop(passed);

            control = [0; 8];
            message.msg_controllen = size_of_val(&control) as _;
            let got = n(libc::recvmsg(other.as_raw_fd(), &mut message, 0));
            let header = libc::CMSG_FIRSTHDR(&message);
            let fd = libc::CMSG_DATA(header).cast::<i32>().read_unaligned();
            let mut arrived = UnixStream::from_raw_fd(fd);
            arrived.write_all(b"by another name").unwrap();
            drop(arrived);
            let mut text = String::new();
            kept.read_to_string(&mut text).unwrap();
            (sent, got, message.msg_flags, message.msg_namelen, text)
        }
    });
}

#[test]
fn several_messages_at_once() {
    patched(|| {
        let (one, other) = UnixDatagram::pair().unwrap();
        const ALL: usize = 100;
        let batch = |buffers: &mut [[u8; 8]]| -> (Vec<libc::iovec>, Vec<libc::mmsghdr>) {
            let mut parts: Vec<_> = buffers
                .iter_mut()
                .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 8 })
                .collect();
            let messages = parts
                .iter_mut()
                .map(|part| {
                    // SAFETY: a message is integers and pointers.
                    let mut message: libc::mmsghdr = unsafe { zeroed() };
                    message.msg_hdr.msg_iov = part;
                    message.msg_hdr.msg_iovlen = 1;
                    message
                })
                .collect();
            (parts, messages)
        };
        let sender = spawn(move || {
            let mut buffers: Vec<[u8; 8]> = (0..ALL as u64).map(u64::to_le_bytes).collect();
            let (_parts, mut messages) = batch(&mut buffers);
            // SAFETY: so many messages, alive with their buffers.
            gave(unsafe { libc::sendmmsg(one.as_raw_fd(), messages.as_mut_ptr(), ALL as u32, 0) })
        });
        // More than the receiver's queue holds: the sender waits, and is done only when they were received.
        let mut buffers = vec![[0_u8; 8]; ALL];
        let (_parts, mut messages) = batch(&mut buffers);
        // SAFETY: as above.
        let got =
            gave(unsafe { libc::recvmmsg(other.as_raw_fd(), messages.as_mut_ptr(), ALL as u32, 0, ptr::null_mut()) });
        assert_eq!(got, Gave(ALL as i64, 0));
        assert_eq!(sender.join().unwrap(), Gave(ALL as i64, 0));
        assert!(messages.iter().all(|message| message.msg_len == 8));
        assert!(buffers.iter().enumerate().all(|(i, buffer)| u64::from_le_bytes(*buffer) == i as u64));
    });
}

// ---- Connecting and accepting.

fn address_of(fd: RawFd) -> (libc::sockaddr_in, u32) {
    let mut address = MaybeUninit::<libc::sockaddr_in>::zeroed();
    let mut length = size_of::<libc::sockaddr_in>() as u32;
    // SAFETY: an address of that length.
    assert_eq!(unsafe { libc::getsockname(fd, address.as_mut_ptr().cast(), &mut length) }, 0);
    // SAFETY: filled.
    (unsafe { address.assume_init() }, length)
}

fn tcp_socket() -> OwnedFd {
    // SAFETY: integers; what comes is ours.
    unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)) }
}

fn connect(fd: RawFd, (address, length): (libc::sockaddr_in, u32)) -> Gave {
    // SAFETY: an address of that length.
    gave(unsafe { libc::connect(fd, (&raw const address).cast(), length) })
}

#[test]
fn connects_succeed_fail_and_are_repeated_as_the_kernel_says() {
    let results = same(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let open = address_of(listener.as_raw_fd());
        let refusing = tcp_socket();
        let mut nobody = open;
        nobody.0.sin_port = 0;
        // SAFETY: an address of that length.
        unsafe { libc::bind(refusing.as_raw_fd(), (&raw const nobody.0).cast(), nobody.1) };
        let refused = address_of(refusing.as_raw_fd());

        let socket = tcp_socket();
        let fd = socket.as_raw_fd();
        let mut results = vec![connect(fd, refused), connect(fd, refused), connect(fd, open), connect(fd, open)];
        let mut elsewhere = open;
        elsewhere.0.sin_family = 99;
        results.push(connect(fd, elsewhere));
        results.push(connect(tcp_socket().as_raw_fd(), elsewhere));
        results.push(connect(listener.as_raw_fd(), open));
        assert_eq!(true_flags_of(fd) & libc::O_NONBLOCK, 0);
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        results.push(connect(datagrams.as_raw_fd(), open));
        results.push(connect(datagrams.as_raw_fd(), refused));
        results
    });
    assert_eq!(
        results[..4],
        [Gave(-1, libc::ECONNREFUSED), Gave(-1, libc::ECONNREFUSED), Gave(0, 0), Gave(-1, libc::EISCONN)]
    );
}

/// A listener that answers nobody any more.
fn silent() -> (OwnedFd, (libc::sockaddr_in, u32), Vec<OwnedFd>) {
    let listener = tcp_socket();
    // SAFETY: an address is integers.
    let mut any: libc::sockaddr_in = unsafe { zeroed() };
    any.sin_family = libc::AF_INET as _;
    any.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
    // SAFETY: an address of that length.
    unsafe { libc::bind(listener.as_raw_fd(), (&raw const any).cast(), size_of_val(&any) as u32) };
    // SAFETY: integers.
    unsafe { libc::listen(listener.as_raw_fd(), 0) };
    let address = address_of(listener.as_raw_fd());
    let mut held = Vec::new();
    for _ in 0..4 {
        let socket = tcp_socket();
        set_send_timeout(socket.as_raw_fd(), 100 * MS);
        let result = connect(socket.as_raw_fd(), address);
        held.push(socket);
        if result.0 < 0 {
            break;
        }
    }
    (listener, address, held)
}

fn set_send_timeout(fd: RawFd, timeout: Duration) {
    let time = libc::timeval { tv_sec: timeout.as_secs() as _, tv_usec: timeout.subsec_micros().into() };
    let (value, length) = ((&raw const time).cast(), size_of_val(&time) as u32);
    // SAFETY: a value of that length.
    assert_eq!(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, value, length) }, 0);
}

#[test]
fn a_connect_ends_with_the_send_timeout() {
    let results = same(|| {
        let (_listener, address, _held) = silent();
        let socket = tcp_socket();
        let fd = socket.as_raw_fd();
        set_send_timeout(fd, 30 * MS);
        [connect(fd, address), connect(fd, address), gave(true_flags_of(fd) & libc::O_NONBLOCK)]
    });
    assert_eq!(results, [Gave(-1, libc::EINPROGRESS), Gave(-1, libc::EALREADY), Gave(0, 0)]);
}

#[test]
fn a_killed_connect_says_so_and_leaves_the_flags() {
    patched(|| {
        let (_listener, address, _held) = silent();
        let socket = tcp_socket();
        let fd = socket.as_raw_fd();
        let result = timeout(20 * MS, || {
            assert_eq!(connect(fd, address), Gave(-1, libc::ECANCELED));
        });
        assert!(result.is_err());
        assert_eq!(true_flags_of(fd) & libc::O_NONBLOCK, 0);
        // SAFETY: integers.
        unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
        assert_eq!(connect(fd, address), Gave(-1, libc::EALREADY), "the attempt goes on");
    });
}

#[test]
fn accept_keeps_the_user_s_view_of_the_listener() {
    patched(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let fd = listener.as_raw_fd();
        let before = flags_of(fd);
        let server = spawn(move || {
            let streams: Vec<_> = (0..3).map(|_| listener.accept().unwrap().0).collect();
            (listener, streams)
        });
        yield_now();
        assert_eq!(flags_of(fd), before);
        assert_ne!(true_flags_of(fd) & libc::O_NONBLOCK, 0);
        // SAFETY: integers.
        let clone = unsafe { libc::dup(fd) };
        let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let (listener, streams) = server.join().unwrap();
        for stream in &streams {
            assert_eq!(true_flags_of(stream.as_raw_fd()) & libc::O_NONBLOCK, 0, "accepted sockets block");
        }

        listener.set_nonblocking(true).unwrap();
        assert_ne!(flags_of(clone) & libc::O_NONBLOCK, 0);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        // SAFETY: integers.
        unsafe { libc::fcntl(clone, libc::F_SETFL, before) };
        assert_eq!(flags_of(fd), before);
        drop(listener);

        // By its other number it is the same, from a thread without a hub too.
        // SAFETY: ours.
        let listener = unsafe { TcpListener::from_raw_fd(clone) };
        let native = thread::spawn(move || {
            let stream = listener.accept().unwrap().0;
            (listener, stream)
        });
        greenroom::sleep(20 * MS);
        let _client = TcpStream::connect(address).unwrap();
        while !native.is_finished() {
            greenroom::sleep(MS);
        }
        let (listener, _stream) = native.join().unwrap();
        let fd = listener.into_raw_fd();
        // The last number gives the flag back to whoever else has the file.
        // SAFETY: integers.
        let hidden = unsafe { original::dup(fd) };
        // SAFETY: ours.
        unsafe { libc::close(fd) };
        assert_eq!(true_flags_of(hidden), before);
        // SAFETY: ours.
        unsafe { libc::close(hidden) };
    });
}

#[test]
fn a_listener_from_outside_keeps_its_flags() {
    patched(|| {
        // Made by the original, as by another program: nobody can tell who else has it.
        // SAFETY: integers.
        let fd = unsafe { original::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
        // SAFETY: an address is integers.
        let mut any: libc::sockaddr_in = unsafe { zeroed() };
        any.sin_family = libc::AF_INET as _;
        any.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
        // SAFETY: an address of that length.
        unsafe { libc::bind(fd, (&raw const any).cast(), size_of_val(&any) as u32) };
        // SAFETY: integers.
        unsafe { libc::listen(fd, 16) };
        // SAFETY: ours.
        let listener = unsafe { TcpListener::from_raw_fd(fd) };
        let address = listener.local_addr().unwrap();
        let acceptors: Vec<_> = (0..3)
            .map(|_| {
                let listener = listener.try_clone().unwrap();
                spawn(move || listener.accept().unwrap())
            })
            .collect();
        idle();
        assert_eq!(true_flags_of(fd) & libc::O_NONBLOCK, 0);
        let killed = spawn({
            let listener = listener.try_clone().unwrap();
            move || listener.accept().map(drop).unwrap_err().raw_os_error()
        });
        idle();
        killed.task().kill_nowait();
        assert_eq!(killed.join().unwrap(), Some(libc::ECANCELED));
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        for accepted in joinall(acceptors) {
            let (stream, from) = accepted.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), from);
            assert!(clients.iter().any(|client| client.local_addr().unwrap() == from));
        }
        assert_eq!(true_flags_of(fd) & libc::O_NONBLOCK, 0);
    });
}

#[test]
fn a_unix_listener_with_a_full_backlog_lets_connects_wait() {
    patched(|| {
        let path = std::env::temp_dir().join(format!("greenroom-monkey-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        // SAFETY: integers.
        unsafe { libc::listen(listener.as_raw_fd(), 0) };
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                spawn(move || UnixStream::connect(path).unwrap())
            })
            .collect();
        idle();
        let accepted: Vec<_> = (0..8).map(|_| listener.accept().unwrap()).collect();
        assert_eq!(joinall(clients).into_iter().filter(Result::is_ok).count(), accepted.len());
        std::fs::remove_file(path).unwrap();
    });
}

// ---- Descriptors' life.

#[test]
fn rule_17_close_wakes_who_waits_and_a_number_is_never_confused() {
    patched(|| {
        for _ in 0..200 {
            let (one, _other) = UnixStream::pair().unwrap();
            // SAFETY: integers. Out of the way of other tests.
            let fd = unsafe { libc::fcntl(one.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 600) };
            let reader = spawn(move || recv(fd, &mut [0; 1], 0));
            yield_now();
            let (next, mut peer) = UnixStream::pair().unwrap();
            peer.write_all(b"x").unwrap();
            // SAFETY: ours to close; the reader is told.
            unsafe { libc::close(fd) };
            // SAFETY: integers. The number's next owner is there before the reader has run.
            assert_eq!(unsafe { libc::fcntl(next.as_raw_fd(), libc::F_DUPFD_CLOEXEC, fd) }, fd);
            drop(next);
            assert_eq!(reader.join().unwrap(), Gave(-1, libc::EBADF));
            // It is as fresh as any.
            assert_eq!(recv(fd, &mut [0; 1], 0), Gave(1, 0));
            let reader = spawn(move || recv(fd, &mut [0; 1], 0));
            yield_now();
            drop(peer);
            assert_eq!(reader.join().unwrap(), Gave(0, 0));
            // SAFETY: ours.
            unsafe { libc::close(fd) };
        }
    });
}

#[test]
fn a_close_by_another_thread_wakes_who_waits() {
    patched(|| {
        for _ in 0..50 {
            let (one, _other) = tcp_pair();
            let fd = one.into_raw_fd();
            let reader = spawn(move || recv(fd, &mut [0; 1], 0));
            yield_now();
            // SAFETY: ours to close; the reader is told.
            let closer = thread::spawn(move || unsafe { libc::close(fd) });
            assert_eq!(reader.join().unwrap(), Gave(-1, libc::EBADF));
            closer.join().unwrap();
        }
    });
}

#[test]
fn whatever_replaces_a_number_wakes_who_waits() {
    patched(|| {
        type Replace = fn(RawFd);
        // SAFETY: the number is the test's, and what it leads to is nobody's.
        let ways: [Replace; 5] = [
            |fd| unsafe {
                let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
                libc::dup2(null, fd);
                libc::close(null);
            },
            |fd| unsafe {
                let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
                libc::dup3(null, fd, libc::O_CLOEXEC);
                libc::close(null);
            },
            |fd| unsafe {
                libc::close_range(fd as u32, fd as u32, 0);
            },
            |fd| unsafe {
                libc::close(fd);
            },
            |fd| {
                // What does not replace it, wakes nobody.
                // SAFETY: as above.
                unsafe {
                    assert_eq!(libc::dup2(1_000_000, fd), -1);
                    assert_eq!(libc::dup2(fd, fd), fd);
                    libc::close_range(fd as u32, fd as u32, libc::CLOSE_RANGE_CLOEXEC as i32);
                }
                yield_now();
                // SAFETY: as above.
                unsafe { libc::close(fd) };
            },
        ];
        for replace in ways {
            let (one, _other) = UnixStream::pair().unwrap();
            // SAFETY: integers. Out of the way of those that come and go.
            let fd = unsafe { libc::fcntl(one.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 700) };
            let log = Log::default();
            let reader = spawn({
                let log = log.clone();
                move || {
                    let result = recv(fd, &mut [0; 1], 0);
                    log.add("woken");
                    result
                }
            });
            idle();
            assert!(log.take().is_empty());
            replace(fd);
            assert_eq!(reader.join().unwrap(), Gave(-1, libc::EBADF));
            // SAFETY: whatever is there now.
            unsafe { libc::close(fd) };
        }
    });
}

#[test]
fn numbers_beyond_a_hundred_thousand() {
    patched(|| {
        const HIGH: RawFd = 200_000;
        let limit = libc::rlimit { rlim_cur: HIGH as u64 + 10, rlim_max: HIGH as u64 + 10 };
        let mut old = MaybeUninit::<libc::rlimit>::uninit();
        // SAFETY: memory for one.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, old.as_mut_ptr()) };
        // SAFETY: filled.
        let old = unsafe { old.assume_init() };
        if old.rlim_cur <= HIGH as u64 {
            let limit = libc::rlimit { rlim_max: limit.rlim_max.max(old.rlim_max), ..limit };
            // SAFETY: one limit.
            if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
                return;
            }
        }
        let (one, other) = UnixStream::pair().unwrap();
        // SAFETY: integers.
        assert_eq!(unsafe { libc::dup2(one.as_raw_fd(), HIGH) }, HIGH);
        drop(one);
        let reader = spawn(move || {
            let mut buffer = [0; 4];
            (recv(HIGH, &mut buffer, 0), recv(HIGH, &mut buffer, 0), buffer)
        });
        idle();
        (&other).write_all(b"high").unwrap();
        idle();
        // SAFETY: ours.
        unsafe { libc::close(HIGH) };
        assert_eq!(reader.join().unwrap(), (Gave(4, 0), Gave(-1, libc::EBADF), *b"high"));
        // SAFETY: one limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &old) };
    });
}

#[test]
fn shutdown_wakes_readers_and_writers_of_all_hubs() {
    patched(|| {
        let (one, other) = tcp_pair();
        let far = one.try_clone().unwrap();
        let reader = spawn({
            let one = one.try_clone().unwrap();
            move || (&one).read(&mut [0]).unwrap()
        });
        let native = thread::spawn(move || {
            let task = spawn(move || (&far).read(&mut [0]).unwrap());
            task.join().unwrap()
        });
        idle();
        one.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        while !native.is_finished() {
            greenroom::sleep(MS);
        }
        assert_eq!(native.join().unwrap(), 0);
        drop(other);
    });
}

#[test]
fn many_readers_of_one_socket_stand_in_line() {
    patched(|| {
        let (one, other) = UnixDatagram::pair().unwrap();
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let other = other.try_clone().unwrap();
                spawn(move || {
                    let mut buffer = [0; 1];
                    other.recv(&mut buffer).unwrap();
                    buffer[0]
                })
            })
            .collect();
        idle();
        for byte in 0..10 {
            one.send(&[byte]).unwrap();
        }
        let mut got: Vec<u8> = joinall(readers).into_iter().map(Result::unwrap).collect();
        got.sort_unstable();
        assert_eq!(got, (0..10).collect::<Vec<_>>());
    });
}

// ---- Bad days.

#[test]
fn a_loop_on_would_block_lets_the_others_run_and_can_be_ended() {
    patched(|| {
        let (one, other) = UnixStream::pair().unwrap();
        let spinner = spawn(move || {
            loop {
                match recv(one.as_raw_fd(), &mut [0], libc::MSG_DONTWAIT) {
                    Gave(-1, libc::EAGAIN) => thread::yield_now(),
                    result => return result,
                }
            }
        });
        let writer = spawn(move || {
            greenroom::sleep(5 * MS);
            (&other).write_all(b"x").unwrap();
            other
        });
        assert_eq!(soon(|| spinner.join().unwrap()), Gave(1, 0));
        drop(writer.join().unwrap());

        let (one, _other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let spinner = spawn(move || {
            loop {
                if let Gave(-1, error) = recv(one.as_raw_fd(), &mut [0], 0)
                    && error != libc::EAGAIN
                {
                    return error;
                }
            }
        });
        yield_now();
        spinner.task().kill_nowait();
        assert_eq!(soon(|| spinner.join().unwrap()), libc::ECANCELED);
    });
}

#[test]
fn a_thousand_sockets_at_once_on_one_thread() {
    patched(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        const ALL: usize = 400;
        let server = spawn(move || {
            let handlers: Vec<_> = (0..ALL)
                .map(|_| {
                    let (mut stream, _) = listener.accept().unwrap();
                    spawn(move || {
                        let mut buffer = [0; 64];
                        loop {
                            match stream.read(&mut buffer).unwrap() {
                                0 => break,
                                n => stream.write_all(&buffer[..n]).unwrap(),
                            }
                        }
                    })
                })
                .collect();
            joinall(handlers).into_iter().for_each(Result::unwrap);
        });
        let clients: Vec<_> = (0..ALL as u64)
            .map(|id| {
                spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    for round in 0..20_u64 {
                        stream.write_all(&(id * round).to_le_bytes()).unwrap();
                        let mut answer = [0; 8];
                        stream.read_exact(&mut answer).unwrap();
                        assert_eq!(u64::from_le_bytes(answer), id * round);
                    }
                })
            })
            .collect();
        joinall(clients).into_iter().for_each(Result::unwrap);
        server.join().unwrap();
    });
}

#[test]
fn kills_and_timeouts_in_the_midst_lose_no_byte() {
    patched(|| {
        let (mut one, other) = tcp_pair();
        const ALL: u32 = 2000;
        let writer = spawn(move || {
            for number in 0..ALL {
                one.write_all(&number.to_le_bytes()).unwrap();
                if number % 50 == 0 {
                    greenroom::sleep(MS / 4);
                }
            }
        });
        let mut got = Vec::new();
        while got.len() < ALL as usize * 4 {
            // A part that came together with the end of the time counts.
            let mut part = [0; 64];
            let read = std::cell::Cell::new(0);
            let _late = timeout(MS / 2, || {
                if let Ok(n) = (&other).read(&mut part) {
                    read.set(n);
                }
            });
            got.extend_from_slice(&part[..read.get()]);
        }
        writer.join().unwrap();
        for (number, bytes) in (0..ALL).zip(got.chunks(4)) {
            assert_eq!(number.to_le_bytes(), bytes);
        }
    });
}

#[test]
fn errno_is_the_task_s_own() {
    patched(|| {
        let (one, mut other) = UnixStream::pair().unwrap();
        let reader = spawn(move || {
            // SAFETY: no precondition.
            unsafe { *libc::__errno_location() = 77 };
            let result = recv(one.as_raw_fd(), &mut [0], 0);
            // SAFETY: as above.
            (result, unsafe { *libc::__errno_location() })
        });
        yield_now();
        assert!(std::fs::metadata("/nowhere").is_err());
        other.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), (Gave(1, 0), 77));
    });
}
