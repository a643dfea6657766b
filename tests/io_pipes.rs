//! Pipes: std's scenarios, and what tasks add to them (rules 10, 11, 12, 16, 17, 20).

mod common;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{EVER, Log, MS, check, soon};
use greenroom::io::{PipeReader, PipeWriter, pipe};
use greenroom::{idle, spawn, timeout, yield_now};

fn flags(fd: impl AsFd) -> i32 {
    // SAFETY: takes integers only.
    unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFL) }
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    flags(fd) & libc::O_NONBLOCK != 0
}

/// Fills a pipe to the last byte.
fn fill(writer: &PipeWriter) -> usize {
    let mut all = 0;
    for size in [65536, 4096, 1] {
        while let Ok(taken) = timeout(MS, || { writer }.write(&vec![b'.'; size]).unwrap()) {
            all += taken;
        }
    }
    all
}

fn send_sync<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}

#[test]
fn the_ends_can_be_shared() {
    send_sync::<PipeReader>();
    send_sync::<PipeWriter>();
}

// library/std/src/io/pipe/tests.rs
#[test]
fn std_pipe_creation_clone_and_rw() {
    check(|| {
        let (rx, tx) = pipe().unwrap();
        tx.try_clone().unwrap().write_all(b"12345").unwrap();
        drop(tx);
        let mut rx2 = rx.try_clone().unwrap();
        drop(rx);
        let mut s = String::new();
        rx2.read_to_string(&mut s).unwrap();
        drop(rx2);
        assert_eq!(s, "12345");
    });
}

// The example of `std::io::pipe`: the parent has to drop its end for the child's output to end.
#[test]
fn std_output_of_two_streams_of_a_child_in_one_pipe() {
    check(|| {
        let (mut reader, writer) = pipe().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "echo out; echo err >&2"])
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .spawn()
            .unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(text, "out\nerr\n");
    });
}

#[test]
fn a_reader_parks_alone() {
    check(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let log = Log::default();
        let reading = spawn({
            let log = log.clone();
            move || {
                let mut byte = [0; 8];
                let n = reader.read(&mut byte).unwrap();
                log.add(format!("read {n}"));
            }
        });
        idle();
        log.add("others run");
        writer.write_all(b"xyz").unwrap();
        reading.join().unwrap();
        assert_eq!(log.take(), ["others run", "read 3"]);
    });
}

#[test]
fn a_full_pipe_parks_its_writer_until_a_slow_reader_comes() {
    check(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = data.clone();
        let writing = spawn(move || writer.write_all(&data));
        let mut got = Vec::new();
        let mut part = [0; 777];
        loop {
            yield_now();
            match reader.read(&mut part).unwrap() {
                0 => break,
                n => got.extend_from_slice(&part[..n]),
            }
        }
        writing.join().unwrap().unwrap();
        assert!(got == expected);
    });
}

#[test]
fn the_end_wakes_a_waiting_reader() {
    check(|| {
        let (mut reader, writer) = pipe().unwrap();
        let reading = spawn(move || (reader.read(&mut [0; 4]).unwrap(), reader.read(&mut [0; 4]).unwrap()));
        idle();
        drop(writer);
        assert_eq!(reading.join().unwrap(), (0, 0));
    });
}

#[test]
fn a_write_without_a_reader_fails() {
    check(|| {
        let (reader, mut writer) = pipe().unwrap();
        drop(reader);
        // A child of another test may hold the reading end for the moment between its fork and its exec.
        let error = loop {
            match writer.write_all(b"x") {
                Ok(()) => yield_now(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn the_last_reader_that_goes_wakes_a_waiting_writer() {
    check(|| {
        let (reader, writer) = pipe().unwrap();
        fill(&writer);
        let writing = spawn(move || (&writer).write(b"x"));
        idle();
        drop(reader);
        assert_eq!(writing.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

// Rule 16.
#[test]
fn readers_are_served_in_the_order_in_which_they_came() {
    check(|| {
        let (reader, mut writer) = pipe().unwrap();
        let reader = std::rc::Rc::new(reader);
        let readers: Vec<_> = (0..20)
            .map(|_| {
                let reader = reader.clone();
                spawn(move || {
                    let mut byte = [0];
                    (&*reader).read_exact(&mut byte).unwrap();
                    byte[0]
                })
            })
            .collect();
        idle();
        let sent: Vec<u8> = (0..20).collect();
        writer.write_all(&sent).unwrap();
        let got: Vec<u8> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        assert_eq!(got, sent);
    });
}

#[test]
fn writers_are_served_in_the_order_in_which_they_came() {
    check(|| {
        let (mut reader, writer) = pipe().unwrap();
        let filled = fill(&writer);
        let writer = std::rc::Rc::new(writer);
        let writers: Vec<_> = (0..20_u8)
            .map(|n| {
                let writer = writer.clone();
                spawn(move || (&*writer).write_all(&[n; 4096]).unwrap())
            })
            .collect();
        idle();
        reader.read_exact(&mut vec![0; filled]).unwrap();
        let mut got = vec![0; 20 * 4096];
        reader.read_exact(&mut got).unwrap();
        let order: Vec<u8> = got.chunks(4096).map(|chunk| chunk[0]).collect();
        assert_eq!(order, (0..20).collect::<Vec<u8>>());
        greenroom::joinall(writers);
    });
}

// Rule 10.
#[test]
fn a_killed_reader_takes_nothing() {
    check(|| {
        let (reader, mut writer) = pipe().unwrap();
        let mut other = reader.try_clone().unwrap();
        let reading = spawn(move || (&reader).read(&mut [0; 4]).unwrap());
        idle();
        writer.write_all(b"kept").unwrap();
        reading.kill();
        assert!(reading.join().unwrap_err().is_killed());
        let mut text = [0; 4];
        other.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"kept");
    });
}

#[test]
fn a_killed_writer_writes_nothing() {
    check(|| {
        let (mut reader, writer) = pipe().unwrap();
        let filled = fill(&writer);
        let writing = spawn(move || (&writer).write(b"never").unwrap());
        idle();
        writing.kill();
        drop(writing);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), filled);
        assert!(all.iter().all(|&byte| byte == b'.'));
    });
}

// The turn of a reader that was woken and then killed is passed on.
#[test]
fn the_next_reader_gets_what_a_killed_one_was_woken_for() {
    check(|| {
        let (reader, mut writer) = pipe().unwrap();
        let reader = std::rc::Rc::new(reader);
        let [first, second] = [(), ()].map(|()| {
            let reader = reader.clone();
            spawn(move || (&*reader).read(&mut [0; 4]).unwrap())
        });
        idle();
        writer.write_all(b"abc").unwrap();
        first.kill();
        assert_eq!(soon(|| second.join().unwrap()), 3);
    });
}

// Rule 12.
#[test]
fn a_timeout_ends_a_read_and_a_write() {
    check(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        assert!(timeout(MS, || reader.read(&mut [0])).is_err());
        fill(&writer);
        assert!(timeout(MS, || writer.write(b"x")).is_err());
        // And nothing is left of it.
        let filled = reader.read(&mut [0; 4096]).unwrap();
        assert_eq!(filled, 4096);
        assert_eq!(timeout(EVER, || writer.write(b"x").unwrap()), Ok(1));
    });
}

#[test]
fn a_thousand_pipes() {
    check(|| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a limit that is alive for the call.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        limit.rlim_cur = limit.rlim_max.min(16_384);
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };

        let (mut last, mut first) = pipe().unwrap();
        let mut tasks = Vec::new();
        for _ in 1..1000 {
            let (reader, mut writer) = pipe().unwrap();
            let mut before = std::mem::replace(&mut last, reader);
            tasks.push(spawn(move || std::io::copy(&mut before, &mut writer).unwrap()));
        }
        first.write_all(b"all the way").unwrap();
        drop(first);
        let mut text = String::new();
        last.read_to_string(&mut text).unwrap();
        assert_eq!(text, "all the way");
        greenroom::joinall(tasks);
    });
}

// Rule 20, for duplicates: the flag belongs to the open file, which a child shares.
#[test]
fn both_ends_stay_in_blocking_mode() {
    check(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        assert!(timeout(MS, || reader.read(&mut [0])).is_err());
        assert!(!is_nonblocking(&reader));
        fill(&writer);
        assert!(!is_nonblocking(&writer));
        reader.read_exact(&mut [0; 4096]).unwrap();
        writer.write_all(b"x").unwrap();
        assert!(!is_nonblocking(&reader) && !is_nonblocking(&writer));
    });
}

// A child that found the pipe non-blocking would see EAGAIN and fail.
#[test]
fn a_child_reads_and_writes_duplicates_as_it_is_used_to() {
    check(|| {
        let (to_child, mut input) = pipe().unwrap();
        let (mut output, from_child) = pipe().unwrap();
        let mut child = Command::new("cat").stdin(to_child).stdout(from_child).spawn().unwrap();

        let reading = spawn(move || {
            let mut all = Vec::new();
            output.read_to_end(&mut all).unwrap();
            all
        });
        idle();
        let data = vec![b'd'; 300_000];
        input.write_all(&data).unwrap();
        drop(input);
        assert!(reading.join().unwrap() == data);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_grandchild_that_holds_the_end_keeps_the_reader_waiting() {
    check(|| {
        let (mut reader, writer) = pipe().unwrap();
        let (hold, mut release) = std::io::pipe().unwrap();
        // The child ends at once; its child reads a line first, and has the pipe open until then.
        let mut child = Command::new("sh")
            .args(["-c", "exec 3<&0; (read line <&3; echo last) & echo first"])
            .stdin(hold)
            .stdout(writer)
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success());
        let mut line = [0; 6];
        reader.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"first\n");
        assert!(timeout(MS, || reader.read(&mut [0])).is_err());
        release.write_all(b"go\n").unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "last\n");
    });
}

#[test]
fn buffers_in_parts() {
    check(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        assert_eq!(writer.write_vectored(&parts).unwrap(), 5);
        let (mut first, mut second) = ([0; 3], [0; 9]);
        let n = reader.read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]).unwrap();
        assert_eq!((n, &first, &second[..2]), (5, b"abc", &b"de"[..]));
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        assert_eq!(writer.write(&[]).unwrap(), 0);
    });
}

#[test]
fn std_ends_and_descriptors_become_ours_and_theirs_again() {
    check(|| {
        let (reader, writer) = std::io::pipe().unwrap();
        let (reader, mut writer) = (PipeReader::from(reader), PipeWriter::from(writer));
        let mut reading = reader.try_clone().unwrap();
        let task = spawn(move || reading.read(&mut [0; 8]).unwrap());
        idle();
        writer.write_all(b"abc").unwrap();
        assert_eq!(task.join().unwrap(), 3);

        writer.write_all(b"xy").unwrap();
        let mut reader: std::io::PipeReader = reader.into();
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 2);
        let fd: OwnedFd = writer.into();
        let raw: RawFd = PipeWriter::from(fd).into_raw_fd();
        // SAFETY: it was just given away.
        let writer = unsafe { PipeWriter::from_raw_fd(raw) };
        assert_eq!((writer.as_raw_fd(), writer.as_fd().as_raw_fd()), (raw, raw));
        drop(Stdio::from(writer));
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    });
}

// As std: who asked for it sees that a call would block.
#[test]
fn nonblocking_mode_that_the_user_has_set_is_kept() {
    check(|| {
        let (reader, _writer) = std::io::pipe().unwrap();
        // SAFETY: takes integers only.
        unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, flags(&reader) | libc::O_NONBLOCK) };
        let mut reader = PipeReader::from(reader);
        assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(is_nonblocking(&reader));
    });
}

#[test]
fn an_end_works_on_another_thread() {
    check(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let thread = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        for _ in 0..100 {
            writer.write_all(b"word ").unwrap();
            yield_now();
        }
        drop(writer);
        assert_eq!(thread.join().unwrap().unwrap(), "word ".repeat(100));
    });
}

#[test]
fn readers_on_two_hubs_lose_nothing() {
    check(|| {
        let (reader, mut writer) = pipe().unwrap();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let mut reader = reader.try_clone().unwrap();
                std::thread::spawn(move || {
                    let mut all = Vec::new();
                    reader.read_to_end(&mut all).unwrap();
                    all.iter().map(|&byte| u64::from(byte)).sum::<u64>()
                })
            })
            .collect();
        drop(reader);
        let mut sum = 0;
        for n in 0..20_000_u32 {
            writer.write_all(&[n as u8; 7]).unwrap();
            sum += 7 * u64::from(n as u8);
            if n % 16 == 0 {
                yield_now();
            }
        }
        drop(writer);
        assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>(), sum);
    });
}

#[test]
fn readiness_can_be_waited_for() {
    check(|| {
        let (reader, mut writer) = pipe().unwrap();
        greenroom::spawn_later(MS, move || writer.write_all(b"x").unwrap());
        let chosen = greenroom::select! {
            readable(&reader) => "readable",
            timeout(Duration::from_secs(20)) => "late",
        };
        assert_eq!(chosen, "readable");
        drop(reader);
    });
}

#[test]
fn a_copy_from_a_socket_through_a_pipe_to_a_file() {
    check(|| {
        let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 253) as u8).collect();
        let expected = data.clone();
        let (mut from, mut to) = greenroom::net::UnixStream::pair().unwrap();
        let (mut reader, mut writer) = pipe().unwrap();
        let sending = spawn(move || to.write_all(&data).unwrap());
        let through = spawn(move || greenroom::io::copy(&mut from, &mut writer).unwrap());
        let path = std::env::temp_dir().join(format!("greenroom-copy-{}", std::process::id()));
        let mut file = greenroom::fs::File::create(&path).unwrap();
        assert_eq!(greenroom::io::copy(&mut reader, &mut file).unwrap(), 1_000_000);
        assert_eq!(through.join().unwrap(), 1_000_000);
        sending.join().unwrap();
        assert!(greenroom::fs::read(&path).unwrap() == expected);
        greenroom::fs::remove_file(path).unwrap();
    });
}

// What the writer has got is the beginning, whatever was lost.
#[test]
fn a_copy_that_is_killed_has_written_a_beginning() {
    check(|| {
        let (mut from, mut to) = pipe().unwrap();
        let (mut reader, mut writer) = pipe().unwrap();
        let feeding = spawn(move || {
            for n in 0..40_000_u32 {
                to.write_all(&n.to_le_bytes()).unwrap();
            }
        });
        let copying = spawn(move || greenroom::io::copy(&mut from, &mut writer).unwrap());
        let mut all = vec![0; 4];
        reader.read_exact(&mut all).unwrap();
        copying.kill();
        reader.read_to_end(&mut all).unwrap();
        for (n, word) in all.chunks_exact(4).enumerate() {
            assert_eq!(word, (n as u32).to_le_bytes());
        }
        feeding.kill();
    });
}

// Where there is no hub any more, a read blocks its thread, as std's.
#[test]
fn an_end_that_is_used_in_the_last_destructors_of_a_thread() {
    struct Last(PipeReader, std::sync::mpsc::Sender<Vec<u8>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let mut all = Vec::new();
            self.0.read_to_end(&mut all).unwrap();
            self.1.send(all).unwrap();
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    check(|| {
        let (reader, mut writer) = pipe().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            LAST.with(|last| *last.borrow_mut() = Some(Last(reader, tell)));
            yield_now();
        });
        writer.write_all(b"late").unwrap();
        drop(writer);
        thread.join().unwrap();
        assert_eq!(told.recv().unwrap(), b"late");
    });
}
