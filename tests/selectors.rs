//! `selectors`: the scenarios of Python's test_select, test_poll, test_epoll and test_selectors, and what tasks add to them.
#![cfg(target_os = "linux")]

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::{Count, EVER, Log, MS, check, in_child, soon, stderr, within};
use greenroom::select::readable;
use greenroom::selectors::*;
use greenroom::{idle, sleep, spawn, timeout, yield_now};

/// Two ends; neither waits.
fn pair() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    other.set_nonblocking(true).unwrap();
    (one, other)
}

fn put(mut stream: &UnixStream) {
    stream.write_all(b"x").unwrap();
}

fn take(mut stream: &UnixStream) {
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 1);
}

/// Writes until there is no room.
fn fill(mut stream: &UnixStream) {
    while stream.write(&[0; 4096]).is_ok() {}
}

fn drain(mut stream: &UnixStream) {
    while stream.read(&mut [0; 65536]).is_ok_and(|n| n > 0) {}
}

/// A duplicate with this number, which nobody else gets: tests run at the same time.
fn numbered(fd: &impl AsRawFd, number: RawFd) -> OwnedFd {
    // SAFETY: takes integers only.
    let made = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number) };
    assert_eq!(made, number, "{}", io::Error::last_os_error());
    // SAFETY: just made.
    unsafe { OwnedFd::from_raw_fd(made) }
}

/// A number that is not open.
const CLOSED: RawFd = 900_000;

#[track_caller]
fn fails<T: std::fmt::Debug>(result: io::Result<T>, code: i32) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(code));
}

#[track_caller]
fn refuses<T: std::fmt::Debug>(result: io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}

fn sorted(mut ready: Vec<(RawFd, Events)>) -> Vec<(RawFd, Events)> {
    ready.sort_unstable();
    ready
}

const NOW: Option<Duration> = Some(Duration::ZERO);

type Way = Box<dyn Fn(&UnixStream, Option<Duration>) -> bool>;

/// Every way to wait for one descriptor to be read, with what keeps it.
fn ways() -> Vec<(&'static str, Way)> {
    let (epoll, poll, selector) = (Epoll::new().unwrap(), Poll::new(), DefaultSelector::new().unwrap());
    vec![
        ("select", Box::new(|fd, timeout| !select(&[fd], &[], &[], timeout).unwrap().is_empty())),
        (
            "Poll",
            Box::new(move |fd, timeout| {
                poll.register(fd, POLLIN).unwrap();
                let ready = !poll.poll(timeout).unwrap().is_empty();
                poll.unregister(fd).unwrap();
                ready
            }),
        ),
        (
            "Epoll",
            Box::new(move |fd, timeout| {
                if epoll.register(fd, EPOLLIN).is_err() {
                    epoll.modify(fd, EPOLLIN).unwrap();
                }
                let ready = !epoll.poll(timeout, 8).unwrap().is_empty();
                epoll.unregister(fd).unwrap();
                ready
            }),
        ),
        (
            "DefaultSelector",
            Box::new(move |fd, timeout| {
                let _known = selector.register(fd, EVENT_READ, ());
                let ready = !selector.select(timeout).unwrap().is_empty();
                selector.unregister(fd).unwrap();
                ready
            }),
        ),
    ]
}

// What all have in common.

#[test]
fn a_wait_parks_only_its_task_and_ends_with_the_event() {
    check(|| {
        for (name, wait) in ways() {
            let (one, other) = pair();
            let ticks = Count::default();
            let ticker = spawn({
                let ticks = ticks.clone();
                move || {
                    for _ in 0..5 {
                        sleep(MS);
                        ticks.up();
                    }
                    put(&other);
                    other
                }
            });
            assert!(soon(|| wait(&one, None)), "{name}");
            assert_eq!(ticks.get(), 5, "{name}");
            take(&one);
            assert!(!wait(&one, NOW), "{name}: it is read");
            drop(ticker.join().unwrap());
            assert!(wait(&one, None), "{name}: the end can be read");
        }
    });
}

#[test]
fn a_timeout_ends_in_time_and_never_early() {
    check(|| {
        let (one, _other) = pair();
        for (name, wait) in ways() {
            for limit in [Duration::from_micros(300), 3 * MS] {
                within(limit + 2 * MS, || {
                    let begun = Instant::now();
                    assert!(!wait(&one, Some(limit)), "{name}");
                    let took = begun.elapsed();
                    assert!(took >= limit, "{name}: {took:?}");
                    took
                });
            }
            let begun = Instant::now();
            assert!(!wait(&one, NOW), "{name}");
            assert!(begun.elapsed() < 50 * MS);
        }
        // Beyond what the clock can express.
        let waiting = spawn(move || select(&[&one], &[], &[], Some(Duration::MAX)).map(|_| ()));
        idle();
        assert!(!waiting.is_finished());
        waiting.task().kill();
    });
}

#[test]
fn an_outer_timeout_and_a_kill_leave_no_trace() {
    check(|| {
        for (name, wait) in ways() {
            let wait = Rc::new(wait);
            let (one, other) = pair();
            let one = Rc::new(one);
            assert!(timeout(2 * MS, || wait(&one, None)).is_err(), "{name}");
            assert!(timeout(2 * MS, || wait(&one, Some(EVER))).is_err(), "{name}");
            for _ in 0..3 {
                let (wait, one) = (wait.clone(), one.clone());
                let waiting = spawn(move || wait(&one, None));
                idle();
                waiting.task().kill();
                assert!(waiting.join().unwrap_err().is_killed());
            }
            put(&other);
            assert!(soon(|| wait(&one, None)), "{name}");
        }
    });
}

#[test]
fn a_kill_that_comes_with_the_event_leaves_it_to_the_next() {
    check(|| {
        for events in [EPOLLIN, EPOLLIN | EPOLLET, EPOLLIN | EPOLLONESHOT] {
            let (one, other) = pair();
            let epoll = Rc::new(Epoll::new().unwrap());
            epoll.register(&one, events).unwrap();
            let wait = || {
                let epoll = epoll.clone();
                spawn(move || epoll.poll(None, 8).unwrap())
            };
            let (first, second) = (wait(), wait());
            idle();
            put(&other);
            first.task().kill_nowait();
            assert_eq!(soon(|| second.join().unwrap()), [(one.as_raw_fd(), EPOLLIN)]);
            assert!(first.join().unwrap_err().is_killed());
        }
    });
}

#[test]
fn calls_that_are_always_ready_do_not_starve_others() {
    check(|| {
        for (name, wait) in ways() {
            let (one, other) = pair();
            put(&other);
            let done = Rc::new(Cell::new(false));
            let other_task = spawn({
                let done = done.clone();
                move || {
                    sleep(MS);
                    done.set(true);
                }
            });
            soon(|| {
                while !done.get() {
                    assert!(wait(&one, None), "{name}");
                }
            });
            let done = Rc::new(Cell::new(false));
            let timer = spawn({
                let done = done.clone();
                move || {
                    sleep(MS);
                    done.set(true);
                }
            });
            take(&one);
            while !done.get() {
                assert!(!wait(&one, NOW), "{name}");
            }
            other_task.join().unwrap();
            timer.join().unwrap();
        }
    });
}

#[test]
fn sockets_that_tasks_use_too_can_be_waited_for() {
    check(|| {
        use greenroom::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let mut text = [0; 4];
            stream.read_exact(&mut text).unwrap();
            stream.write_all(&text).unwrap();
            stream
        });
        assert_eq!(select(&[&listener], &[], &[], None).unwrap().read, [listener.as_raw_fd()]);
        let (mut stream, _) = listener.accept().unwrap();
        let poll = Poll::new();
        poll.register(&stream, POLLIN | POLLOUT).unwrap();
        assert_eq!(poll.poll(None).unwrap(), [(stream.as_raw_fd(), POLLOUT)]);
        stream.write_all(b"ping").unwrap();
        poll.modify(&stream, POLLIN).unwrap();
        // One task waits with the poller, another in a read of the same socket.
        let mut reader = stream.try_clone().unwrap();
        let (told, tell) = pair();
        let reading = spawn(move || {
            reader.read_exact(&mut [0; 4]).unwrap();
            assert!(reader.set_nonblocking(true).is_ok());
            put(&tell);
            tell
        });
        poll.register(&told, POLLIN).unwrap();
        while !soon(|| poll.poll(None).unwrap()).contains(&(told.as_raw_fd(), POLLIN)) {
            yield_now();
        }
        drop(reading.join().unwrap());
        poll.unregister(&told).unwrap();
        drop(client.join().unwrap());
        let epoll = Epoll::new().unwrap();
        epoll.register(&stream, EPOLLIN | EPOLLRDHUP).unwrap();
        assert!(epoll.poll(None, 1).unwrap()[0].1.contains(EPOLLIN | EPOLLRDHUP));
        poll.modify(&stream, POLLRDHUP).unwrap();
        assert!(poll.poll(None).unwrap()[0].1.contains(POLLRDHUP));
        assert_eq!(stream.read(&mut [0; 4]).unwrap(), 0);
    });
}

#[test]
fn the_native_thread_waits_where_no_task_can() {
    thread_local! {
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    }
    struct Late(UnixStream, UnixStream);
    impl Drop for Late {
        fn drop(&mut self) {
            for (_, wait) in ways() {
                assert!(!wait(&self.0, Some(2 * MS)));
            }
            put(&self.1);
            for (_, wait) in ways() {
                assert!(wait(&self.0, None));
            }
            OVER.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    static OVER: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let thread = thread::spawn(|| {
        // Before the hub is made: its end comes first.
        let (one, other) = pair();
        LATE.with(|late| *late.borrow_mut() = Some(Late(one, other)));
        yield_now();
        sleep(MS);
    });
    thread.join().unwrap();
    assert!(OVER.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
fn a_thousand_descriptors_and_numbers_beyond_the_limit_of_select() {
    check(|| {
        let pairs: Vec<_> = (0..1000).map(|_| pair()).collect();
        let high = numbered(&pairs[0].0, 12_000);
        let (poll, epoll, selector) = (Poll::new(), Epoll::new().unwrap(), DefaultSelector::new().unwrap());
        for (index, (one, _)) in pairs.iter().enumerate() {
            poll.register(one, POLLIN).unwrap();
            epoll.register(one, EPOLLIN).unwrap();
            selector.register(one, EVENT_READ, index).unwrap();
        }
        let list: Vec<&dyn AsRawFd> = pairs.iter().map(|(one, _)| one as _).collect();
        assert!(select(&list, &[], &[], Some(MS)).unwrap().is_empty());
        assert!(poll.poll(Some(MS)).unwrap().is_empty());
        assert!(epoll.poll(Some(MS), 1000).unwrap().is_empty());

        let far: Vec<usize> = (0..1000).step_by(37).collect();
        let writers: Vec<UnixStream> = far.iter().map(|&at| pairs[at].1.try_clone().unwrap()).collect();
        let expected: Vec<RawFd> = far.iter().map(|&at| pairs[at].0.as_raw_fd()).collect();
        spawn(move || {
            sleep(MS);
            writers.iter().for_each(put);
        });
        let ready = soon(|| select(&list, &[], &[], None).unwrap());
        assert_eq!(ready.read, expected);
        // Other tests of this process take numbers too: later ones need not be greater.
        let by_number = sorted(expected.iter().map(|&fd| (fd, POLLIN)).collect());
        assert_eq!(sorted(poll.poll(None).unwrap()), by_number);
        assert_eq!(sorted(epoll.poll(None, 1000).unwrap()).len(), far.len());
        let ready = selector.select(None).unwrap();
        let data: BTreeSet<usize> = ready.iter().map(|(key, _)| key.data).collect();
        assert!(data.into_iter().eq(far.iter().copied()));

        assert_eq!(select(&[&high], &[], &[], None).unwrap().read, [12_000]);
        poll.register(&high, POLLIN).unwrap();
        assert!(poll.poll(None).unwrap().contains(&(12_000, POLLIN)));
    });
}

#[test]
fn descriptors_are_given_back() {
    fn open() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
    let name = "descriptors_are_given_back";
    let Some(output) = in_child(name, || {
        check(|| {
            let (one, _other) = pair();
            // The hub, and what select keeps.
            for (_, wait) in ways() {
                assert!(!wait(&one, Some(MS)));
            }
            let before = open();
            for _ in 0..10 {
                for (_, wait) in ways() {
                    assert!(!wait(&one, Some(MS)));
                    assert!(timeout(MS, || wait(&one, None)).is_err());
                }
            }
            // What a timeout unwinds is not kept.
            assert!(open() <= before, "{} and {before}", open());
        });
    }) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_forked_child_and_its_parent_do_not_disturb_each_other() {
    let name = "a_forked_child_and_its_parent_do_not_disturb_each_other";
    let Some(output) = in_child(name, || {
        use greenroom::os::{Fork, fork};
        let (one, other) = pair();
        let poll = Poll::new();
        poll.register(&one, POLLIN).unwrap();
        assert!(poll.poll(Some(MS)).unwrap().is_empty());
        assert!(select(&[&one], &[], &[], Some(MS)).unwrap().is_empty());
        let (done, tell) = pair();
        // SAFETY: the child only waits, and ends.
        match unsafe { fork() }.unwrap() {
            Fork::Child => {
                poll.unregister(&one).unwrap();
                poll.register(&one, POLLPRI).unwrap();
                assert!(poll.poll(Some(MS)).unwrap().is_empty());
                assert!(select(&[], &[], &[&one], Some(MS)).unwrap().is_empty());
                put(&tell);
                std::process::exit(0);
            }
            Fork::Parent(_) => {
                assert_eq!(select(&[&done], &[], &[], Some(EVER)).unwrap().read.len(), 1);
                spawn(move || {
                    sleep(MS);
                    put(&other);
                    sleep(EVER);
                });
                assert_eq!(soon(|| poll.poll(None).unwrap()), [(one.as_raw_fd(), POLLIN)]);
                // The harness would go on in what is left of both.
                std::process::exit(7);
            }
        }
    }) else {
        return;
    };
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
}

#[test]
fn they_are_for_any_thread_and_survive_unwinds() {
    fn good<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    good::<Epoll>();
    good::<Poll>();
    good::<DefaultSelector<u32>>();
}

// select

#[test]
fn select_tells_each_list_apart_in_the_order_given() {
    check(|| {
        let (a, b) = pair();
        let (c, d) = pair();
        put(&b);
        put(&d);
        fill(&a);
        let (fa, fc) = (a.as_raw_fd(), c.as_raw_fd());
        let ready = select(&[&c, &a], &[&a, &c], &[&a], None).unwrap();
        assert_eq!(ready, ready_of(&[fc, fa], &[fc], &[]));
        assert_eq!(select(&[&a, &a], &[], &[], None).unwrap().read, [fa, fa], "twice, as given");
        assert!(select(&[], &[&a], &[&a], Some(MS)).unwrap().is_empty());
        assert_eq!(select(&[&a], &[&a], &[], None).unwrap(), ready_of(&[fa], &[], &[]));

        // Room comes while it waits.
        let waiting = spawn(move || select(&[], &[&a], &[], None).unwrap());
        idle();
        assert!(!waiting.is_finished());
        drain(&b);
        assert_eq!(soon(|| waiting.join().unwrap()), ready_of(&[], &[fa], &[]));

        // The peer goes.
        take(&c);
        let waiting = spawn(move || select(&[&c], &[], &[], None).unwrap());
        idle();
        drop(d);
        assert_eq!(soon(|| waiting.join().unwrap()).read, [fc]);
    });
}

fn ready_of(read: &[RawFd], write: &[RawFd], except: &[RawFd]) -> Ready {
    let mut ready = Ready::default();
    ready.read.extend(read);
    ready.write.extend(write);
    ready.except.extend(except);
    ready
}

#[test]
fn select_refuses_what_is_not_open() {
    check(|| {
        let (a, _b) = pair();
        fails(select(&[&CLOSED], &[], &[], None), libc::EBADF);
        fails(select(&[&a], &[&a], &[&CLOSED], None), libc::EBADF);
        fails(select(&[&-1], &[], &[], None), libc::EBADF);
    });
}

#[test]
fn select_without_descriptors_sleeps() {
    check(|| {
        let begun = Instant::now();
        assert!(select(&[], &[], &[], Some(3 * MS)).unwrap().is_empty());
        assert!(begun.elapsed() >= 3 * MS);
        assert!(select(&[], &[], &[], NOW).unwrap().is_empty());
        assert!(timeout(MS, || select(&[], &[], &[], None)).is_err());
    });
}

#[test]
fn regular_files_are_always_ready_but_epoll_refuses_them() {
    check(|| {
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let fd = file.as_raw_fd();
        assert_eq!(select(&[&file], &[&file], &[], None).unwrap(), ready_of(&[fd], &[fd], &[]));
        assert!(select(&[], &[], &[&file], Some(MS)).unwrap().is_empty(), "waits, and nothing can come");
        let poll = Poll::new();
        poll.register(&file, POLLIN).unwrap();
        assert_eq!(poll.poll(None).unwrap(), [(fd, POLLIN)]);
        poll.modify(&file, POLLPRI).unwrap();
        assert!(poll.poll(Some(MS)).unwrap().is_empty());
        fails(Epoll::new().unwrap().register(&file, EPOLLIN), libc::EPERM);
        refuses(DefaultSelector::new().unwrap().register(&file, EVENT_READ, ()), ErrorKind::PermissionDenied);
    });
}

#[test]
fn select_waits_for_urgent_data() {
    check(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = socket2::SockRef::from(&std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap())
            .try_clone()
            .unwrap();
        let (receiver, _) = listener.accept().unwrap();
        let fd = receiver.as_raw_fd();
        let waiting = spawn(move || select(&[], &[], &[&receiver], None).map(|ready| (ready, receiver)).unwrap());
        idle();
        assert!(!waiting.is_finished());
        sender.send_out_of_band(b"!").unwrap();
        assert_eq!(soon(|| waiting.join().unwrap()).0, ready_of(&[], &[], &[fd]));
    });
}

#[test]
fn more_entries_than_the_process_may_have_descriptors() {
    let name = "more_entries_than_the_process_may_have_descriptors";
    let Some(output) = in_child(name, || {
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: reads one rlimit, alive for the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        check(|| {
            let pairs: Vec<_> = (0..20).map(|_| pair()).collect();
            let list: Vec<&dyn AsRawFd> = pairs.iter().rev().flat_map(|(a, b)| [a as &dyn AsRawFd, b as _]).collect();
            let numbers: Vec<RawFd> = list.iter().map(|fd| fd.as_raw_fd()).collect();
            assert_eq!(select(&list, &list, &list, None).unwrap(), ready_of(&[], &numbers, &[]));
            put(&pairs[3].0);
            let only = [pairs[3].1.as_raw_fd()];
            assert_eq!(select(&list, &list, &list, None).unwrap(), ready_of(&only, &numbers, &[]));
        });
    }) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn many_tasks_select_at_once() {
    check(|| {
        let pairs: Vec<_> = (0..50).map(|_| pair()).collect();
        let common = Rc::new(pair());
        let log = Log::default();
        let waiting: Vec<_> = pairs
            .iter()
            .map(|(one, _)| {
                let (one, log, common) = (one.try_clone().unwrap(), log.clone(), common.clone());
                spawn(move || {
                    let ready = select(&[&one, &common.0], &[], &[], None).unwrap();
                    assert_eq!(ready.read, [one.as_raw_fd()]);
                    log.add("one");
                    let ready = select(&[&common.0], &[], &[], None).unwrap();
                    assert_eq!(ready.read, [common.0.as_raw_fd()]);
                })
            })
            .collect();
        idle();
        pairs.iter().for_each(|(_, other)| put(other));
        idle();
        assert_eq!(log.take().len(), 50);
        put(&common.1);
        for task in waiting {
            soon(|| task.join().unwrap());
        }
    });
}

#[test]
fn a_number_that_is_used_again_means_the_new_file() {
    check(|| {
        let number = 12_100;
        let (a, b) = pair();
        let (c, d) = pair();
        let poll = Poll::new();
        let fd = numbered(&a, number);
        poll.register(&fd, POLLIN).unwrap();
        assert!(poll.poll(Some(MS)).unwrap().is_empty());
        assert!(select(&[&fd], &[], &[], Some(MS)).unwrap().is_empty());
        drop(fd);
        assert_eq!(poll.poll(None).unwrap(), [(number, POLLNVAL)]);
        // `a` keeps the old file open: epoll has not forgotten it.
        let fd = numbered(&c, number);
        for wait in 0..2 {
            let writer = d.try_clone().unwrap();
            put(&b);
            spawn(move || {
                sleep(MS);
                put(&writer);
            });
            if wait == 0 {
                assert_eq!(soon(|| poll.poll(None).unwrap()), [(number, POLLIN)]);
            } else {
                assert_eq!(soon(|| select(&[&fd], &[], &[], None).unwrap()).read, [number]);
            }
            take(&c);
        }
    });
}

// Poll

#[test]
fn poll_tells_writers_and_readers_of_pipes() {
    check(|| {
        // Python's test_poll1: each writer in some order, and its reader.
        let poll = Poll::new();
        let pipes: Vec<_> = (0..12).map(|_| std::io::pipe().unwrap()).collect();
        for (reader, writer) in &pipes {
            poll.register(reader, POLLIN).unwrap();
            poll.modify(reader, POLLIN).unwrap();
            poll.register(writer, POLLOUT).unwrap();
        }
        let ready = poll.poll(None).unwrap();
        assert_eq!(ready.len(), 12);
        for (fd, events) in ready {
            assert_eq!(events, POLLOUT);
            let (reader, writer) = pipes.iter().find(|(_, writer)| writer.as_raw_fd() == fd).unwrap();
            (&*writer).write_all(b" This is a test.").unwrap();
            let readable: Vec<_> = poll.poll(None).unwrap().into_iter().filter(|(_, e)| *e == POLLIN).collect();
            assert_eq!(readable, [(reader.as_raw_fd(), POLLIN)]);
            (&*reader).read_exact(&mut [0; 16]).unwrap();
            poll.unregister(writer).unwrap();
            poll.unregister(reader).unwrap();
        }
        assert!(poll.poll(NOW).unwrap().is_empty());
    });
}

#[test]
fn poll_follows_a_child_process_to_its_end() {
    check(|| {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "for i in 0 1 2 3; do echo testing...; sleep 0.01; done"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let poll = Poll::new();
        poll.register(&output, POLLIN).unwrap();
        let mut text = Vec::new();
        loop {
            let events = soon(|| poll.poll(None).unwrap())[0].1;
            if events.contains(POLLIN) {
                let mut buffer = [0; 512];
                let n = output.read(&mut buffer).unwrap();
                text.extend_from_slice(&buffer[..n]);
            } else {
                assert_eq!(events, POLLHUP);
                break;
            }
        }
        assert_eq!(text, b"testing...\n".repeat(4));
        child.wait().unwrap();
    });
}

#[test]
fn poll_registers_numbers_and_knows_which() {
    check(|| {
        let poll = Poll::new();
        poll.register(&CLOSED, POLLIN).unwrap();
        assert_eq!(poll.poll(None).unwrap(), [(CLOSED, POLLNVAL)]);
        poll.unregister(&CLOSED).unwrap();
        refuses(poll.unregister(&CLOSED), ErrorKind::NotFound);
        refuses(poll.modify(&CLOSED, POLLIN), ErrorKind::NotFound);
        fails(poll.register(&-1, POLLIN), libc::EBADF);
        refuses(poll.register(&1, EPOLLET), ErrorKind::InvalidInput);
        assert!(poll.poll(Some(MS)).unwrap().is_empty());

        // Those that move into the place of others.
        let pairs: Vec<_> = (0..6).map(|_| pair()).collect();
        pairs.iter().for_each(|(one, _)| poll.register(one, POLLIN | POLLOUT).unwrap());
        for index in [0, 5, 2] {
            poll.unregister(&pairs[index].0).unwrap();
        }
        for index in [1, 3, 4] {
            poll.modify(&pairs[index].0, POLLIN).unwrap();
        }
        assert!(poll.poll(NOW).unwrap().is_empty());
        pairs.iter().for_each(|(_, other)| put(other));
        let expected = [1, 3, 4].map(|index: usize| (pairs[index].0.as_raw_fd(), POLLIN));
        assert_eq!(sorted(poll.poll(None).unwrap()), expected);
    });
}

#[test]
fn what_is_changed_while_a_poll_waits_takes_effect() {
    check(|| {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let poll = Rc::new(Poll::new());
        let (a, b) = pair();
        put(&b);
        let wait = || {
            let poll = poll.clone();
            let waiting = spawn(move || poll.poll(None).unwrap());
            idle();
            assert!(!waiting.is_finished());
            waiting
        };
        let waiting = wait();
        poll.register(&a, POLLIN).unwrap();
        assert_eq!(soon(|| waiting.join().unwrap()), [(a.as_raw_fd(), POLLIN)]);

        poll.modify(&a, POLLPRI).unwrap();
        let (waiting, another) = (wait(), wait());
        poll.modify(&a, POLLIN).unwrap();
        for waiting in [waiting, another] {
            assert_eq!(soon(|| waiting.join().unwrap()), [(a.as_raw_fd(), POLLIN)], "all are told");
        }

        poll.modify(&a, POLLPRI).unwrap();
        let waiting = wait();
        poll.register(&file, POLLIN).unwrap();
        assert_eq!(soon(|| waiting.join().unwrap()), [(file.as_raw_fd(), POLLIN)]);

        poll.unregister(&file).unwrap();
        let (waiting, another) = (wait(), wait());
        poll.register(&CLOSED, POLLIN).unwrap();
        for waiting in [waiting, another] {
            assert_eq!(soon(|| waiting.join().unwrap()), [(CLOSED, POLLNVAL)]);
        }

        poll.unregister(&CLOSED).unwrap();
        let (c, d) = pair();
        poll.register(&c, POLLIN).unwrap();
        let waiting = wait();
        poll.unregister(&c).unwrap();
        put(&d);
        idle();
        assert!(!waiting.is_finished(), "it is no longer waited for");
        poll.modify(&a, POLLOUT).unwrap();
        assert_eq!(soon(|| waiting.join().unwrap()), [(a.as_raw_fd(), POLLOUT)]);
    });
}

#[test]
fn threads_poll_the_same_set() {
    check(|| {
        let poll = Arc::new(Poll::new());
        let (a, b) = pair();
        let (ready, told) = pair();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (poll, told) = (poll.clone(), told.try_clone().unwrap());
                thread::spawn(move || {
                    spawn(move || put(&told));
                    poll.poll(None).unwrap()
                })
            })
            .collect();
        let mut text = [0; 4];
        let mut got = 0;
        while got < 4 {
            assert!(!select(&[&ready], &[], &[], Some(EVER)).unwrap().is_empty());
            got += (&ready).read(&mut text).unwrap();
        }
        put(&b);
        poll.register(&a, POLLIN).unwrap();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), [(a.as_raw_fd(), POLLIN)]);
        }
    });
}

// Epoll

#[test]
fn epoll_control_and_wait() {
    check(|| {
        // Python's test_control_and_wait.
        let (client, server) = pair();
        let (fc, fs) = (client.as_raw_fd(), server.as_raw_fd());
        let epoll = Epoll::new().unwrap();
        let both = EPOLLIN | EPOLLOUT;
        epoll.register(&server, both | EPOLLET).unwrap();
        epoll.register(&client, both | EPOLLET).unwrap();
        let mut expected = [(fc, EPOLLOUT), (fs, EPOLLOUT)];
        expected.sort_unstable();
        assert_eq!(sorted(epoll.poll(Some(1000 * MS), 4).unwrap()), expected);
        assert!(epoll.poll(Some(MS), 4).unwrap().is_empty(), "edges are told once");

        put(&client);
        put(&server);
        let mut expected = [(fc, both), (fs, both)];
        expected.sort_unstable();
        assert_eq!(sorted(epoll.poll(Some(1000 * MS), 4).unwrap()), expected);

        epoll.unregister(&client).unwrap();
        epoll.modify(&server, EPOLLOUT).unwrap();
        assert_eq!(epoll.poll(Some(1000 * MS), 4).unwrap(), [(fs, EPOLLOUT)]);
    });
}

#[test]
fn level_edge_and_one_shot_are_as_the_system_has_them() {
    check(|| {
        let (one, other) = pair();
        let fd = one.as_raw_fd();
        let read = [(fd, EPOLLIN)];
        let epoll = Rc::new(Epoll::new().unwrap());
        let later = |act: fn(&UnixStream)| {
            let other = other.try_clone().unwrap();
            spawn(move || {
                idle();
                act(&other);
            });
        };

        // Level: for as long as there is something.
        epoll.register(&one, EPOLLIN).unwrap();
        later(put);
        for _ in 0..3 {
            assert_eq!(soon(|| epoll.poll(None, 8).unwrap()), read);
        }
        take(&one);
        assert!(epoll.poll(Some(MS), 8).unwrap().is_empty());

        // Edge: once for each arrival, read or not.
        epoll.modify(&one, EPOLLIN | EPOLLET).unwrap();
        for _ in 0..3 {
            later(put);
            assert_eq!(soon(|| epoll.poll(None, 8).unwrap()), read);
            assert!(epoll.poll(Some(MS), 8).unwrap().is_empty());
            assert!(epoll.poll(NOW, 8).unwrap().is_empty());
        }
        // A modify shows what is there as a new edge.
        epoll.modify(&one, EPOLLIN | EPOLLET).unwrap();
        assert_eq!(epoll.poll(NOW, 8).unwrap(), read);
        drain(&one);

        // One-shot: once, until it is armed again.
        epoll.modify(&one, EPOLLIN | EPOLLONESHOT).unwrap();
        later(put);
        assert_eq!(soon(|| epoll.poll(None, 8).unwrap()), read);
        put(&other);
        assert!(epoll.poll(Some(MS), 8).unwrap().is_empty());
        epoll.modify(&one, EPOLLIN | EPOLLONESHOT).unwrap();
        assert_eq!(epoll.poll(Some(EVER), 8).unwrap(), read);
        // Armed while somebody waits.
        let waiting = spawn({
            let epoll = epoll.clone();
            move || epoll.poll(None, 8).unwrap()
        });
        idle();
        assert!(!waiting.is_finished());
        epoll.modify(&one, EPOLLIN | EPOLLONESHOT).unwrap();
        assert_eq!(soon(|| waiting.join().unwrap()), read);
    });
}

#[test]
fn a_level_is_for_all_who_wait_and_an_edge_for_one() {
    check(|| {
        for (mode, told) in [(Events::EMPTY, 5), (EPOLLET, 1), (EPOLLONESHOT, 1)] {
            let (one, other) = pair();
            let epoll = Rc::new(Epoll::new().unwrap());
            epoll.register(&one, EPOLLIN | mode).unwrap();
            let count = Count::default();
            let waiting: Vec<_> = (0..5)
                .map(|_| {
                    let (epoll, count) = (epoll.clone(), count.clone());
                    spawn(move || {
                        if epoll.poll(None, 8).is_ok() {
                            count.up();
                        }
                    })
                })
                .collect();
            idle();
            put(&other);
            idle();
            assert_eq!(count.get(), told, "{mode:?}");
            epoll.close();
            for task in waiting {
                soon(|| task.join().unwrap());
            }
            assert_eq!(count.get(), told);
        }
    });
}

#[test]
fn every_edge_reaches_one_of_those_who_wait() {
    check(|| {
        let epoll = Rc::new(Epoll::new().unwrap());
        let pairs: Vec<_> = (0..64).map(|_| pair()).collect();
        pairs.iter().for_each(|(one, _)| epoll.register(one, EPOLLIN | EPOLLET).unwrap());
        let seen = Rc::new(RefCell::new(Vec::new()));
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let (epoll, seen) = (epoll.clone(), seen.clone());
                spawn(move || {
                    while let Ok(ready) = epoll.poll(None, 3) {
                        seen.borrow_mut().extend(ready.into_iter().map(|(fd, _)| fd));
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            idle();
            pairs.iter().for_each(|(_, other)| put(other));
            idle();
            let mut seen = seen.take();
            seen.sort_unstable();
            let mut all: Vec<_> = pairs.iter().map(|(one, _)| one.as_raw_fd()).collect();
            all.sort_unstable();
            assert_eq!(seen, all);
        }
        epoll.close();
        waiting.into_iter().for_each(|task| task.join().unwrap());
    });
}

#[test]
fn threads_share_an_epoll_and_no_one_shot_is_told_twice() {
    check(|| {
        const ROUNDS: usize = 200;
        let epoll = Arc::new(Epoll::new().unwrap());
        let pairs: Arc<Vec<_>> = Arc::new((0..8).map(|_| pair()).collect());
        pairs.iter().for_each(|(one, _)| epoll.register(one, EPOLLIN | EPOLLONESHOT).unwrap());
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (epoll, pairs) = (epoll.clone(), pairs.clone());
                thread::spawn(move || {
                    let mut told = 0;
                    while let Ok(ready) = epoll.poll(None, 2) {
                        for (fd, _) in ready {
                            let (one, _) = pairs.iter().find(|(one, _)| one.as_raw_fd() == fd).unwrap();
                            // Were it told twice, the second would find nothing.
                            take(one);
                            told += 1;
                            put(one);
                            epoll.modify(one, EPOLLIN | EPOLLONESHOT).unwrap();
                        }
                    }
                    told
                })
            })
            .collect();
        for _ in 0..ROUNDS {
            for (_, other) in pairs.iter() {
                put(other);
            }
            for (_, other) in pairs.iter() {
                assert!(!soon(|| select(&[other], &[], &[], Some(EVER)).unwrap()).is_empty());
                take(other);
            }
        }
        epoll.close();
        let told: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(told, ROUNDS * pairs.len());
    });
}

#[test]
fn epoll_errors_are_the_systems() {
    check(|| {
        let (one, _other) = pair();
        let epoll = Epoll::new().unwrap();
        epoll.register(&one, EPOLLIN).unwrap();
        refuses(epoll.register(&one, EPOLLIN), ErrorKind::AlreadyExists);
        epoll.unregister(&one).unwrap();
        refuses(epoll.unregister(&one), ErrorKind::NotFound);
        refuses(epoll.modify(&one, EPOLLIN), ErrorKind::NotFound);
        fails(epoll.register(&CLOSED, EPOLLIN), libc::EBADF);
        fails(epoll.register(&-1, EPOLLIN), libc::EBADF);
        fails(epoll.register(&epoll, EPOLLIN), libc::EINVAL);
        refuses(epoll.poll(None, 0), ErrorKind::InvalidInput);
        epoll.register(&one, EPOLLIN | EPOLLEXCLUSIVE).unwrap();
        fails(epoll.modify(&one, EPOLLIN), libc::EINVAL);
        epoll.unregister(&one).unwrap();
        fails(epoll.register(&one, EPOLLIN | EPOLLONESHOT | EPOLLEXCLUSIVE), libc::EINVAL);
        // SAFETY: takes integers only.
        assert_eq!(unsafe { libc::fcntl(epoll.fileno().unwrap(), libc::F_GETFD) }, libc::FD_CLOEXEC);
    });
}

#[test]
fn exclusive_wakes_one_of_two() {
    check(|| {
        let (one, other) = pair();
        let count = Count::default();
        let epolls: Vec<_> = (0..2).map(|_| Rc::new(Epoll::new().unwrap())).collect();
        for epoll in &epolls {
            epoll.register(&one, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE).unwrap();
            let (epoll, count) = (epoll.clone(), count.clone());
            spawn(move || {
                if epoll.poll(None, 1).is_ok() {
                    count.up();
                }
            });
        }
        idle();
        put(&other);
        idle();
        // The system promises one at least (epoll_ctl(2)).
        assert!((1..=2).contains(&count.get()));
        epolls.iter().for_each(|epoll| epoll.close());
        idle();
    });
}

#[test]
fn a_closed_epoll_refuses_everything() {
    check(|| {
        let (one, _other) = pair();
        let epoll = Epoll::new().unwrap();
        let number = epoll.fileno().unwrap();
        assert_eq!((epoll.as_raw_fd(), epoll.is_closed()), (number, false));
        epoll.close();
        epoll.close();
        assert_eq!((epoll.as_raw_fd(), epoll.is_closed()), (-1, true));
        fails(epoll.fileno(), libc::EBADF);
        fails(epoll.register(&one, EPOLLIN), libc::EBADF);
        fails(epoll.modify(&one, EPOLLIN), libc::EBADF);
        fails(epoll.unregister(&one), libc::EBADF);
        fails(epoll.poll(NOW, 1), libc::EBADF);
    });
}

#[test]
fn closing_wakes_those_who_wait_on_any_thread() {
    for _ in 0..20 {
        check(|| {
            let epoll = Arc::new(Epoll::new().unwrap());
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let epoll = epoll.clone();
                    thread::spawn(move || {
                        let tasks: Vec<_> = (0..3)
                            .map(|_| {
                                let epoll = epoll.clone();
                                spawn(move || fails(epoll.poll(None, 1), libc::EBADF))
                            })
                            .collect();
                        tasks.into_iter().for_each(|task| task.join().unwrap());
                    })
                })
                .collect();
            // In the midst of their coming, or after it.
            sleep(Duration::from_micros(fastrand::u64(0..500)));
            epoll.close();
            threads.into_iter().for_each(|thread| soon(|| thread.join().unwrap()));
        });
    }
}

#[test]
fn an_epoll_can_be_taken_over_and_nested() {
    check(|| {
        let (one, other) = pair();
        // SAFETY: takes an integer.
        let made = unsafe { libc::epoll_create1(0) };
        // SAFETY: just made.
        let made = unsafe { OwnedFd::from_raw_fd(made) };
        let inner = Epoll::from(made);
        inner.register(&one, EPOLLIN).unwrap();
        let fd = inner.fileno().unwrap();
        let outer = Epoll::new().unwrap();
        outer.register(&inner, EPOLLIN).unwrap();
        let poll = Poll::new();
        poll.register(&inner, POLLIN).unwrap();
        let writing = spawn(move || {
            sleep(2 * MS);
            put(&other);
            other
        });
        let in_poll = spawn(move || poll.poll(None).unwrap());
        let in_select = spawn(move || select(&[&fd], &[], &[], None).unwrap().read);
        assert_eq!(soon(|| outer.poll(None, 1).unwrap()), [(fd, EPOLLIN)]);
        assert_eq!(in_poll.join().unwrap(), [(fd, POLLIN)]);
        assert_eq!(in_select.join().unwrap(), [fd]);
        assert_eq!(inner.poll(None, 1).unwrap(), [(one.as_raw_fd(), EPOLLIN)]);
        drop(writing.join().unwrap());
    });
}

#[test]
fn an_epoll_is_one_of_several_things_to_wait_for() {
    check(|| {
        let (one, other) = pair();
        let epoll = Epoll::new().unwrap();
        epoll.register(&one, EPOLLIN).unwrap();
        let is_ready = || {
            greenroom::select! {
                readable(&epoll) => true,
                default => false,
            }
        };
        let comes = |then: Duration| {
            greenroom::select! {
                readable(&epoll) => true,
                timeout(then) => false,
            }
        };
        assert!(!is_ready() && !comes(MS));
        let writer = spawn(move || {
            put(&other);
            other
        });
        assert!(comes(EVER));
        // Nothing was taken by that, and the level stays.
        assert!(is_ready());
        for _ in 0..2 {
            assert_eq!(epoll.poll(NOW, 8).unwrap(), [(one.as_raw_fd(), EPOLLIN)]);
        }
        // The system has it in its list still, and finds out when it looks.
        take(&one);
        assert!(!is_ready() && !comes(MS));

        // An edge is told once, to who polls.
        epoll.modify(&one, EPOLLIN | EPOLLET).unwrap();
        let other = writer.join().unwrap();
        let writer = spawn(move || {
            put(&other);
            other
        });
        assert!(comes(EVER) && comes(EVER));
        assert_eq!(epoll.poll(NOW, 8).unwrap().len(), 1);
        assert!(!is_ready() && !comes(MS));
        let other = writer.join().unwrap();
        let wait = |limit| greenroom::wait([readable(&epoll)], Some(limit), None).len();
        assert_eq!((wait(Duration::ZERO), wait(MS)), (0, 0));
        put(&other);
        assert_eq!((wait(EVER), wait(EVER)), (1, 1));
        let never = greenroom::wait([greenroom::select::writable(&epoll)], Some(MS), None);
        assert!(never.is_empty());
    });
}

#[test]
fn who_waits_for_an_epoll_among_others_leaves_no_trace_when_killed() {
    check(|| {
        let (one, other) = pair();
        let epoll = Arc::new(Epoll::new().unwrap());
        epoll.register(&one, EPOLLIN | EPOLLET).unwrap();
        let waiting: Vec<_> = (0..6)
            .map(|way| {
                let epoll = epoll.clone();
                spawn(move || match way {
                    0 | 3 => greenroom::select! { readable(&epoll) => 0 },
                    1 | 4 => greenroom::wait([readable(&epoll)], None, None).len(),
                    _ => epoll.poll(None, 1).unwrap().len(),
                })
            })
            .collect();
        idle();
        // All but the last, with the edge on its way or without.
        let mut waiting = waiting.into_iter();
        waiting.by_ref().take(2).for_each(|task| task.kill());
        put(&other);
        waiting.by_ref().take(3).for_each(|task| task.kill());
        assert_eq!(soon(|| waiting.next().unwrap().join().unwrap()), 1);
    });
}

#[test]
fn closing_an_epoll_is_news_for_all_who_wait_for_it() {
    for _ in 0..20 {
        check(|| {
            let epoll = Arc::new(Epoll::new().unwrap());
            let waits = |epoll: Arc<Epoll>| {
                let chooses = spawn({
                    let epoll = epoll.clone();
                    move || greenroom::select! { readable(&epoll) => {} }
                });
                let waits = spawn(move || drop(greenroom::wait([readable(&epoll)], None, None)));
                soon(|| greenroom::joinall([chooses, waits])).into_iter().for_each(|end| end.unwrap());
            };
            let theirs = epoll.clone();
            let thread = thread::spawn(move || waits(theirs));
            let closes = spawn({
                let epoll = epoll.clone();
                move || {
                    sleep(Duration::from_micros(fastrand::u64(0..500)));
                    epoll.close();
                }
            });
            waits(epoll.clone());
            thread.join().unwrap();
            closes.join().unwrap();
            waits(epoll);
        });
    }
}

#[test]
fn a_closed_descriptor_leaves_an_epoll() {
    check(|| {
        let (one, other) = pair();
        let epoll = Epoll::new().unwrap();
        let fd = one.as_raw_fd();
        epoll.register(&one, EPOLLIN).unwrap();
        put(&other);
        assert_eq!(epoll.poll(None, 1).unwrap(), [(fd, EPOLLIN)]);
        drop(one);
        assert!(epoll.poll(Some(MS), 1).unwrap().is_empty());
    });
}

#[test]
fn at_most_so_many_and_all_have_their_turn() {
    check(|| {
        let pairs: Vec<_> = (0..10).map(|_| pair()).collect();
        let epoll = Epoll::new().unwrap();
        for (one, other) in &pairs {
            epoll.register(one, EPOLLIN).unwrap();
            put(other);
        }
        let mut seen = BTreeSet::new();
        for _ in 0..5 {
            let ready = epoll.poll(None, 2).unwrap();
            assert_eq!(ready.len(), 2);
            seen.extend(ready.into_iter().map(|(fd, _)| fd));
        }
        assert_eq!(seen.len(), 10);
        assert_eq!(epoll.poll(None, usize::MAX).unwrap().len(), 10);
    });
}

// DefaultSelector

#[test]
fn selector_registers_modifies_and_unregisters() {
    check(|| {
        let (one, _other) = pair();
        let fd = one.as_raw_fd();
        let selector = DefaultSelector::new().unwrap();
        let key = selector.register(&one, EVENT_READ, "data").unwrap();
        assert_eq!((key.fd, key.events, key.data), (fd, EVENT_READ, "data"));
        assert_eq!(selector.get_key(&one).unwrap(), key);
        assert_eq!(selector.get_map().unwrap().into_iter().collect::<Vec<_>>(), [(fd, key.clone())]);
        refuses(selector.register(&one, EVENT_READ, "again"), ErrorKind::AlreadyExists);
        refuses(selector.register(&CLOSED, Events::EMPTY, ""), ErrorKind::InvalidInput);
        refuses(selector.register(&CLOSED, POLLPRI, ""), ErrorKind::InvalidInput);
        refuses(selector.register(&CLOSED, EVENT_READ | POLLHUP, ""), ErrorKind::InvalidInput);
        fails(selector.register(&CLOSED, EVENT_READ, ""), libc::EBADF);
        refuses(selector.get_key(&CLOSED), ErrorKind::NotFound);
        refuses(selector.unregister(&CLOSED), ErrorKind::NotFound);
        refuses(selector.modify(&CLOSED, EVENT_READ, ""), ErrorKind::NotFound);

        let key = selector.modify(&one, EVENT_READ | EVENT_WRITE, "both").unwrap();
        assert_eq!(selector.get_key(&one).unwrap(), key);
        assert_eq!(selector.select(None).unwrap(), [(key.clone(), EVENT_WRITE)]);
        let key = selector.modify(&one, EVENT_READ | EVENT_WRITE, "other data").unwrap();
        assert_eq!(selector.select(None).unwrap()[0].0.data, "other data");
        assert_eq!(selector.unregister(&one).unwrap(), key);
        refuses(selector.unregister(&one), ErrorKind::NotFound);
        assert!(selector.select(NOW).unwrap().is_empty());
    });
}

#[test]
fn selector_lets_go_of_descriptors_that_were_closed() {
    check(|| {
        let number = 12_200;
        let only = || numbered(&pair().0, number);
        let selector = DefaultSelector::new().unwrap();
        let fd = only();
        selector.register(&fd, EVENT_READ, 1).unwrap();
        drop(fd);
        assert_eq!(selector.unregister(&number).unwrap().data, 1);
        // Its number is used again.
        let fd = only();
        selector.register(&fd, EVENT_WRITE, 2).unwrap();
        drop(fd);
        fails(selector.modify(&number, EVENT_READ, 3), libc::EBADF);
        refuses(selector.get_key(&number), ErrorKind::NotFound);
        let fd = only();
        selector.register(&fd, EVENT_READ, 4).unwrap();
        selector.close();
    });
}

#[test]
fn a_hang_up_is_all_that_was_asked_for() {
    check(|| {
        let selector = DefaultSelector::new().unwrap();
        for events in [EVENT_READ, EVENT_WRITE, EVENT_READ | EVENT_WRITE] {
            let (one, other) = pair();
            fill(&one);
            selector.register(&one, events, ()).unwrap();
            assert!(selector.select(Some(MS)).unwrap().is_empty());
            drop(other);
            assert_eq!(selector.select(None).unwrap()[0].1, events);
            selector.unregister(&one).unwrap();
        }
    });
}

#[test]
fn a_closed_selector_refuses_everything_and_drops_its_data() {
    check(|| {
        let (one, _other) = pair();
        let log = Log::default();
        let selector = Rc::new(DefaultSelector::new().unwrap());
        selector.register(&one, EVENT_READ, Some(common::OnDrop(log.clone(), "dropped"))).unwrap();
        let waiting = spawn({
            let selector = selector.clone();
            move || fails(selector.select(None).map(|ready| ready.len()), libc::EBADF)
        });
        idle();
        selector.close();
        selector.close();
        assert_eq!(log.take(), ["dropped"]);
        soon(|| waiting.join().unwrap());
        fails(selector.select(NOW).map(|ready| ready.len()), libc::EBADF);
        fails(selector.register(&one, EVENT_READ, None).map(|_| ()), libc::EBADF);
        fails(selector.modify(&one, EVENT_READ, None).map(|_| ()), libc::EBADF);
        fails(selector.unregister(&one).map(|_| ()), libc::EBADF);
        fails(selector.get_key(&one).map(|_| ()), libc::EBADF);
        assert!(selector.get_map().is_none());
    });
}

#[test]
fn data_that_uses_its_selector_when_dropped_meets_no_lock() {
    check(|| {
        struct Uses(Rc<RefCell<Option<Rc<DefaultSelector<Uses>>>>>);
        impl Drop for Uses {
            fn drop(&mut self) {
                if let Some(selector) = &*self.0.borrow() {
                    let _closed = selector.get_key(&CLOSED).map(|_| ());
                    yield_now();
                }
            }
        }
        let (one, _other) = pair();
        let back = Rc::new(RefCell::new(None));
        let selector = Rc::new(DefaultSelector::new().unwrap());
        *back.borrow_mut() = Some(selector.clone());
        let data = || Uses(back.clone());
        selector.register(&one, EVENT_READ, data()).unwrap();
        assert!(selector.register(&one, EVENT_READ, data()).is_err());
        selector.modify(&one, EVENT_WRITE, data()).unwrap();
        drop(selector.unregister(&one).unwrap());
        assert!(selector.modify(&one, EVENT_WRITE, data()).is_err());
        selector.register(&one, EVENT_READ, data()).unwrap();
        selector.close();
        back.take();
    });
}

#[test]
fn selector_passes_messages_through_many_pairs() {
    check(|| {
        // Python's test_selector: all writers, each with its reader.
        let selector = DefaultSelector::new().unwrap();
        let pairs: Vec<_> = (0..12).map(|_| pair()).collect();
        for (index, (reader, writer)) in pairs.iter().enumerate() {
            selector.register(reader, EVENT_READ, index).unwrap();
            selector.register(writer, EVENT_WRITE, index).unwrap();
        }
        let mut writers = 12;
        while writers > 0 {
            let ready = selector.select(None).unwrap();
            let (key, _) = ready.iter().find(|(_, events)| *events == EVENT_WRITE).unwrap();
            let (reader, writer) = &pairs[key.data];
            put(writer);
            let readable: Vec<_> =
                selector.select(None).unwrap().into_iter().filter(|(_, events)| *events == EVENT_READ).collect();
            assert_eq!(readable.iter().map(|(key, _)| key.data).collect::<Vec<_>>(), [key.data]);
            take(reader);
            selector.unregister(reader).unwrap();
            selector.unregister(writer).unwrap();
            writers -= 1;
        }
        assert!(selector.get_map().unwrap().is_empty());
    });
}

#[test]
fn an_idle_hub_that_waits_uses_no_processor() {
    check(|| {
        // Level-triggered and told already, or left over from an earlier wait: neither may turn in circles.
        let (one, other) = pair();
        let (quiet, _quiet) = pair();
        put(&other);
        let cpu = || {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: `time` is written.
            assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        };
        let (epoll, poll) = (Epoll::new().unwrap(), Poll::new());
        epoll.register(&one, EPOLLIN).unwrap();
        poll.register(&one, POLLIN).unwrap();
        assert_eq!(epoll.poll(None, 1).unwrap().len() + poll.poll(None).unwrap().len(), 2);
        // A nest that keeps the old file of a number.
        let fd = numbered(&one, 12_300);
        poll.modify(&one, POLLPRI).unwrap();
        poll.register(&fd, POLLPRI).unwrap();
        assert!(poll.poll(Some(MS)).unwrap().is_empty());
        poll.modify(&fd, POLLIN).unwrap();
        assert_eq!(poll.poll(None).unwrap().len(), 1);
        drop(fd);
        let _fd = numbered(&quiet, 12_300);

        // Neither an error nor a hang-up is urgent data.
        let (half, gone) = pair();
        drop(gone);
        let tasks = [
            spawn(move || drop(poll.poll(Some(100 * MS)))),
            spawn(move || drop(select(&[], &[], &[&half], Some(100 * MS)))),
        ];
        let before = cpu();
        sleep(50 * MS);
        let used = cpu() - before;
        assert!(used < 10 * MS, "{used:?}");
        for task in tasks {
            task.join().unwrap();
        }
    });
}
