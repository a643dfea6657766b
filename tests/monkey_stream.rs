//! Patched reads and writes of what is no file: pipes, fifos, events, timers, and bytes from descriptor to descriptor.

#![allow(clippy::multiple_unsafe_ops_per_block, reason = "tables of calls of C")]

mod common;

use std::fs::File;
use std::io::{ErrorKind, IoSlice, IoSliceMut, PipeReader, PipeWriter, Read, Seek, Write, pipe};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use common::{EVER, MS, check, soon};
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

fn error<T: Into<i64>>(result: T) -> (i64, i32) {
    let result = result.into();
    (result, if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 })
}

fn read(fd: RawFd, buffer: &mut [u8]) -> (i64, i32) {
    // SAFETY: a buffer of its length.
    error(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) } as i64)
}

fn write(fd: RawFd, buffer: &[u8]) -> (i64, i32) {
    // SAFETY: a buffer of its length.
    error(unsafe { libc::write(fd, buffer.as_ptr().cast(), buffer.len()) } as i64)
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn is_nonblocking(fd: &impl AsRawFd) -> bool {
    // SAFETY: integers.
    unsafe { original::fcntl(fd.as_raw_fd(), libc::F_GETFL, 0) & libc::O_NONBLOCK != 0 }
}

#[test]
fn bad_descriptors_and_arguments_give_what_the_originals_give() {
    same(|| {
        let (reader, writer) = pipe().unwrap();
        let (socket, _peer) = UnixStream::pair().unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        let null = File::open("/dev/null").unwrap();
        let mut results = Vec::new();
        let all = [-1, 1_000_000, reader.as_raw_fd(), writer.as_raw_fd(), socket.as_raw_fd(), null.as_raw_fd()];
        let all = all.into_iter().chain([file.as_raw_fd()]);
        for fd in all {
            // SAFETY: null where null is answered by an error, or by nothing at all.
            unsafe {
                results.push(error(libc::read(fd, ptr::null_mut(), 0) as i64));
                results.push(error(libc::readv(fd, ptr::null(), 0) as i64));
                results.push(error(libc::readv(fd, ptr::null(), 1) as i64));
                results.push(error(libc::readv(fd, ptr::null(), -1) as i64));
                results.push(error(libc::readv(fd, ptr::null(), 2000) as i64));
                results.push(error(libc::writev(fd, ptr::null(), 0) as i64));
                results.push(error(libc::writev(fd, ptr::null(), 1) as i64));
                results.push(error(libc::writev(fd, ptr::null(), 2000) as i64));
                results.push(error(libc::pread(fd, [0_u8; 4].as_mut_ptr().cast(), 4, -1) as i64));
                results.push(error(libc::pread(fd, [0_u8; 4].as_mut_ptr().cast(), 0, 0) as i64));
                results.push(error(libc::pwrite(fd, [0_u8; 4].as_ptr().cast(), 0, 0) as i64));
                results.push(error(libc::fsync(fd)));
                results.push(error(libc::sendfile(fd, fd, ptr::null_mut(), 4) as i64));
                results.push(error(libc::splice(fd, ptr::null_mut(), fd, ptr::null_mut(), 4, 0) as i64));
            }
            if fd != writer.as_raw_fd() && fd != socket.as_raw_fd() && fd != reader.as_raw_fd() {
                results.push(read(fd, &mut []));
                results.push(write(fd, b"x"));
            }
        }
        results.push(write(reader.as_raw_fd(), b"x"));
        results.push(read(writer.as_raw_fd(), &mut [0]));
        // SAFETY: null is answered by an error.
        results.push(error(unsafe { libc::write(writer.as_raw_fd(), ptr::null(), 4) } as i64));
        drop(reader);
        // std ignores SIGPIPE.
        results.push(write(writer.as_raw_fd(), b"x"));
        results
    });
}

#[test]
fn a_pipe_between_two_tasks() {
    patched(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        const ALL: usize = 4 << 20;
        let out = spawn(move || {
            let text: Vec<u8> = (0..ALL).map(|i| (i % 249) as u8).collect();
            // One call, which is whole.
            assert_eq!(writer.write(&text[..ALL / 2]).unwrap(), ALL / 2);
            let parts: Vec<IoSlice<'_>> = text[ALL / 2..].chunks(ALL / 64).map(IoSlice::new).collect();
            assert_eq!(writer.write_vectored(&parts).unwrap(), ALL / 2);
            assert!(!is_nonblocking(&writer));
        });
        let mut got = vec![0; ALL / 2];
        reader.read_exact(&mut got).unwrap();
        let mut second = [vec![0; 1000], vec![0; 3000]];
        while got.len() < ALL {
            let [one, other] = &mut second;
            let n = reader.read_vectored(&mut [IoSliceMut::new(one), IoSliceMut::new(other)]).unwrap();
            got.extend(one.iter().chain(&*other).take(n));
        }
        assert!(got.iter().enumerate().all(|(i, byte)| *byte == (i % 249) as u8));
        out.join().unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn small_writes_to_a_pipe_are_not_mixed() {
    patched(|| {
        for fifo in [false, true] {
            let (mut reader, writer) = if fifo { fifo_pair() } else { pipe_pair() };
            let writers: Vec<_> = (0..20_u8)
                .map(|id| {
                    let mut writer = writer.try_clone().unwrap();
                    spawn(move || {
                        for _ in 0..20 {
                            writer.write_all(&[id; 4096]).unwrap();
                            let half = [id; 2048];
                            let all = writer.write_vectored(&[IoSlice::new(&half), IoSlice::new(&half)]).unwrap();
                            assert_eq!(all, 4096);
                        }
                    })
                })
                .collect();
            drop(writer);
            let mut block = [0; 4096];
            for _ in 0..20 * 40 {
                reader.read_exact(&mut block).unwrap();
                assert!(block.iter().all(|byte| *byte == block[0]));
            }
            joinall(writers).into_iter().for_each(Result::unwrap);
            assert_eq!(reader.read(&mut block).unwrap(), 0);
        }
    });
}

fn pipe_pair() -> (File, File) {
    let (reader, writer) = pipe().unwrap();
    (OwnedFd::from(reader).into(), OwnedFd::from(writer).into())
}

fn fifo_path() -> std::path::PathBuf {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("greenroom-monkey-fifo-{}-{number}", std::process::id()));
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a name.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    path
}

/// The two ends of a fifo, which refuses `RWF_NOWAIT`.
fn fifo_pair() -> (File, File) {
    let path = fifo_path();
    let both = File::options().read(true).write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let writer = File::options().write(true).open(&path).unwrap();
    drop(both);
    std::fs::remove_file(path).unwrap();
    (reader, writer)
}

#[test]
fn a_killed_write_counts_what_it_wrote() {
    patched(|| {
        for fifo in [false, true] {
            let (mut reader, writer) = if fifo { fifo_pair() } else { pipe_pair() };
            let task = spawn(move || {
                let part = write(writer.as_raw_fd(), &vec![1; 1 << 20]);
                (part, write(writer.as_raw_fd(), &vec![1; 1 << 20]))
            });
            idle();
            task.task().kill_nowait();
            let (part, none) = task.join().unwrap();
            assert_eq!(none, (-1, libc::ECANCELED));
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            assert_eq!(got.len() as i64, part.0);
        }
    });
}

#[test]
fn reads_of_one_pipe_stand_in_line_and_non_blocking_ones_do_not() {
    patched(|| {
        let (reader, mut writer) = pipe().unwrap();
        let readers: Vec<_> = (0..5)
            .map(|_| {
                let mut reader: PipeReader = reader.try_clone().unwrap();
                spawn(move || {
                    let mut byte = [0];
                    reader.read_exact(&mut byte).unwrap();
                    byte[0]
                })
            })
            .collect();
        idle();
        writer.write_all(&[0, 1, 2, 3, 4]).unwrap();
        let mut got: Vec<u8> = joinall(readers).into_iter().map(Result::unwrap).collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3, 4]);
        let mut on = 1;
        // SAFETY: an int.
        unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONBIO, &mut on) };
        assert_eq!((&reader).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        on = 0;
        // SAFETY: an int.
        unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONBIO, &mut on) };
        let last = spawn(move || (&reader).read(&mut [0]).unwrap());
        idle();
        drop(writer);
        assert_eq!(last.join().unwrap(), 0);
    });
}

#[test]
fn the_other_end_s_close_is_an_error_of_a_waiting_write() {
    patched(|| {
        let (reader, writer): (PipeReader, PipeWriter) = pipe().unwrap();
        let task = spawn(move || {
            let part = write(writer.as_raw_fd(), &vec![1; 1 << 20]);
            (part, write(writer.as_raw_fd(), b"x"))
        });
        idle();
        drop(reader);
        let (part, next) = task.join().unwrap();
        assert!(part.0 > 0 && part.0 < 1 << 20, "{part:?}");
        assert_eq!(next, (-1, libc::EPIPE));
    });
}

#[test]
fn sigpipe_ends_a_program_that_does_not_ignore_it() {
    let Some(output) = common::in_child("sigpipe_ends_a_program_that_does_not_ignore_it", || {
        patched(|| {
            // SAFETY: the default action.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let (one, other) = UnixStream::pair().unwrap();
            drop(other);
            // SAFETY: a buffer.
            unsafe { libc::send(one.as_raw_fd(), b"x".as_ptr().cast(), 1, libc::MSG_NOSIGNAL) };
            eprintln!("still here");
            // SAFETY: a buffer.
            unsafe { libc::write(one.as_raw_fd(), b"x".as_ptr().cast(), 1) };
            eprintln!("not reached");
        });
    }) else {
        return;
    };
    let text = common::stderr(&output);
    assert!(text.contains("still here") && !text.contains("not reached"), "{text}");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(libc::SIGPIPE));
}

#[test]
fn events_and_timers() {
    patched(|| {
        // SAFETY: integers; what comes is ours.
        let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        let fd = event.as_raw_fd();
        assert_eq!(read(fd, &mut [0; 4]), (-1, libc::EINVAL));
        let waiter = spawn(move || {
            let mut value = [0; 8];
            assert_eq!(read(fd, &mut value), (8, 0));
            u64::from_ne_bytes(value)
        });
        idle();
        assert_eq!(write(fd, &7_u64.to_ne_bytes()), (8, 0));
        assert_eq!(waiter.join().unwrap(), 7);

        // A full counter.
        assert_eq!(write(fd, &(u64::MAX - 1).to_ne_bytes()), (8, 0));
        let writer = spawn(move || write(fd, &1_u64.to_ne_bytes()));
        idle();
        assert_eq!(read(fd, &mut [0; 8]), (8, 0));
        assert_eq!(writer.join().unwrap(), (8, 0));

        // SAFETY: integers; what comes is ours.
        let timer = unsafe { OwnedFd::from_raw_fd(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC)) };
        let time = libc::timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        let time = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: time };
        // SAFETY: a time.
        unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &time, ptr::null_mut()) };
        let begun = Instant::now();
        let naps = spawn(|| (0..3).for_each(|_| thread::sleep(MS / 2)));
        assert_eq!(read(timer.as_raw_fd(), &mut [0; 8]), (8, 0));
        assert!(begun.elapsed() >= 5 * MS);
        naps.join().unwrap();
    });
}

#[test]
fn rule_17_closing_a_pipe_wakes_its_reader() {
    patched(|| {
        let (reader, _writer) = pipe().unwrap();
        let fd = std::os::fd::IntoRawFd::into_raw_fd(reader);
        let task = spawn(move || read(fd, &mut [0]));
        idle();
        // SAFETY: ours to close; the reader is told.
        unsafe { libc::close(fd) };
        assert_eq!(task.join().unwrap(), (-1, libc::EBADF));
    });
}

#[test]
fn a_child_s_output_lets_the_others_run() {
    patched(|| {
        let mut child = Command::new("sh")
            .args(["-c", "read line; echo got $line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let reader = spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        // The child answers only to what is written while the reader waits.
        idle();
        stdin.write_all(b"this\n").unwrap();
        assert_eq!(soon(|| reader.join().unwrap()), "got this\n");
        child.wait().unwrap();
    });
}

fn text_file(length: usize) -> (File, Vec<u8>) {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("greenroom-monkey-text-{}-{number}", std::process::id()));
    let text: Vec<u8> = (0..length).map(|i| (i % 247) as u8).collect();
    std::fs::write(&path, &text).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    (file, text)
}

#[test]
fn sendfile_sends_all_and_moves_positions_as_the_original() {
    const ALL: usize = 5 << 20;
    let positions = same(|| {
        let (mut file, text) = text_file(ALL);
        let (one, mut other) = tcp_pair();
        file.seek(std::io::SeekFrom::Start(3)).unwrap();
        // The other side reads on a thread of its own: this one may be blocked.
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            other.read_to_end(&mut got).unwrap();
            got
        });
        // SAFETY: positions that are alive.
        let results = unsafe {
            let mut at = 100;
            let first = error(libc::sendfile(one.as_raw_fd(), file.as_raw_fd(), &mut at, 1000) as i64);
            let position = file.stream_position().unwrap();
            let rest = error(libc::sendfile(one.as_raw_fd(), file.as_raw_fd(), ptr::null_mut(), ALL * 2) as i64);
            let end = error(libc::sendfile(one.as_raw_fd(), file.as_raw_fd(), ptr::null_mut(), 1) as i64);
            (first, at, position, rest, end, file.stream_position().unwrap())
        };
        drop(one);
        while !reader.is_finished() {
            thread::sleep(MS);
        }
        let got = reader.join().unwrap();
        assert!(got[..1000] == text[100..1100]);
        assert!(got[1000..] == text[3..]);
        results
    });
    assert_eq!(positions.3, (ALL as i64 - 3, 0));
}

#[test]
fn std_s_copy_lets_the_others_run() {
    patched(|| {
        const ALL: usize = 3 << 20;
        let (mut file, text) = text_file(ALL);
        let (mut one, mut other) = tcp_pair();
        // sendfile, then splice both ways: sockets to pipes and back, between tasks of one thread.
        let sender = spawn(move || std::io::copy(&mut file, &mut one).unwrap());
        let (mut reader, mut writer) = pipe().unwrap();
        let middle = spawn(move || std::io::copy(&mut other, &mut writer).unwrap());
        let (mut third, mut fourth) = UnixStream::pair().unwrap();
        let back = spawn(move || std::io::copy(&mut reader, &mut third).unwrap());
        let mut got = Vec::new();
        fourth.read_to_end(&mut got).unwrap();
        assert!(got == text);
        for copy in [sender, middle, back] {
            assert_eq!(copy.join().unwrap(), ALL as u64);
        }
    });
}

fn splice(from: RawFd, out: RawFd, count: usize, flags: u32) -> (i64, i32) {
    // SAFETY: no positions.
    error(unsafe { libc::splice(from, ptr::null_mut(), out, ptr::null_mut(), count, flags) } as i64)
}

#[test]
fn splice_waits_for_both_sides() {
    patched(|| {
        let (reader, mut writer) = pipe().unwrap();
        let (one, mut other) = tcp_pair();
        let task = spawn({
            let reader = reader.try_clone().unwrap();
            let one = one.try_clone().unwrap();
            move || splice(reader.as_raw_fd(), one.as_raw_fd(), 100, 0)
        });
        idle();
        writer.write_all(b"text").unwrap();
        assert_eq!(task.join().unwrap(), (4, 0));
        let mut got = [0; 4];
        other.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"text");

        let task = spawn({
            let one = one.try_clone().unwrap();
            let writer = writer.try_clone().unwrap();
            move || splice(one.as_raw_fd(), writer.as_raw_fd(), 100, libc::SPLICE_F_NONBLOCK)
        });
        idle();
        other.write_all(b"back").unwrap();
        assert_eq!(task.join().unwrap(), (4, 0));

        let (mut end, second) = pipe().unwrap();
        assert_eq!(splice(reader.as_raw_fd(), second.as_raw_fd(), 100, 0), (4, 0));
        end.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"back");
        assert_eq!(splice(reader.as_raw_fd(), second.as_raw_fd(), 100, libc::SPLICE_F_NONBLOCK), (-1, libc::EAGAIN));
        let killed = spawn(move || splice(reader.as_raw_fd(), second.as_raw_fd(), 100, 0));
        idle();
        killed.task().kill_nowait();
        assert_eq!(killed.join().unwrap(), (-1, libc::ECANCELED));
    });
}

#[test]
fn kills_and_timeouts_in_the_midst_lose_no_byte() {
    patched(|| {
        for fifo in [false, true] {
            let (reader, mut writer) = if fifo { fifo_pair() } else { pipe_pair() };
            const ALL: u32 = 1000;
            let writer = spawn(move || {
                for number in 0..ALL {
                    writer.write_all(&number.to_le_bytes()).unwrap();
                    if number % 50 == 0 {
                        greenroom::sleep(Duration::from_micros(300));
                    }
                }
            });
            let mut got = Vec::new();
            while got.len() < ALL as usize * 4 {
                let mut part = [0; 64];
                let read = std::cell::Cell::new(0);
                let _late = timeout(MS / 2, || {
                    if let Ok(n) = (&reader).read(&mut part) {
                        read.set(n);
                    }
                });
                got.extend_from_slice(&part[..read.get()]);
            }
            writer.join().unwrap();
            for (number, bytes) in (0..ALL).zip(got.chunks(4)) {
                assert_eq!(number.to_le_bytes(), bytes);
            }
            yield_now();
        }
    });
}
