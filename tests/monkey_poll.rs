//! Patched `poll`, `select` and `epoll_wait`: what is told is what the system tells, and only the caller waits.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use common::{EVER, MS, check, in_child, soon};
use greenroom::monkey::{self, original};
use greenroom::{joinall, spawn, yield_now};
use libc::{c_int, c_short, epoll_event, fd_set, pollfd, sigset_t, timespec, timeval};

const IN: c_short = libc::POLLIN;
const OUT: c_short = libc::POLLOUT;

fn patched(body: impl FnOnce() + Send + 'static) {
    // SAFETY: tasks of these tests share only what is Send.
    unsafe { monkey::patch_all() };
    check(body);
}

/// Runs a test in a process of its own.
#[track_caller]
fn alone(test: &str, body: impl FnOnce() + Send + 'static) {
    let output = in_child(test, || patched(body));
    if let Some(output) = output {
        assert!(output.status.success(), "{}", common::stderr(&output));
    }
}

fn entry(fd: RawFd, events: c_short) -> pollfd {
    pollfd { fd, events, revents: 0 }
}

fn poll(entries: &mut [pollfd], timeout: c_int) -> Result<c_int, c_int> {
    // SAFETY: so many entries, alive for the call.
    result(unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout) })
}

fn result(result: c_int) -> Result<c_int, c_int> {
    if result < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { Ok(result) }
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    std::io::pipe().unwrap()
}

/// What a call gives in a task, and on a thread that has no hub.
#[track_caller]
fn same<T: PartialEq + std::fmt::Debug + Send + 'static>(call: impl Fn() -> T + Send + Sync + Clone + 'static) {
    let here = call.clone();
    let in_task = spawn(here).join().unwrap();
    let on_thread = thread::spawn(call).join().unwrap();
    assert_eq!(in_task, on_thread);
}

#[test]
fn only_the_caller_of_poll_waits() {
    patched(|| {
        let (reader, mut writer) = pipe();
        let (told, mut tell) = pair();
        let one = reader.as_raw_fd();
        let waits = spawn(move || {
            let mut entries = [entry(one, IN)];
            assert_eq!(poll(&mut entries, -1), Ok(1));
            assert_eq!(entries[0].revents, IN);
        });
        let two = told.as_raw_fd();
        let waits_for_two = spawn(move || {
            let mut entries = [entry(one, OUT), entry(-1, IN), entry(two, IN)];
            assert_eq!(poll(&mut entries, 3_600_000), Ok(1));
            assert_eq!(entries.map(|entry| entry.revents), [0, 0, IN]);
        });
        let waits_for_both = spawn(move || {
            let mut entries = [entry(two, IN | libc::POLLRDHUP | libc::POLLPRI)];
            assert_eq!(poll(&mut entries, -1), Ok(1));
        });
        for _ in 0..10 {
            yield_now();
        }
        assert!(!waits.is_finished() && !waits_for_two.is_finished() && !waits_for_both.is_finished());
        writer.write_all(b"x").unwrap();
        waits.join().unwrap();
        assert!(!waits_for_two.is_finished());
        tell.write_all(b"x").unwrap();
        waits_for_two.join().unwrap();
        waits_for_both.join().unwrap();
        drop((reader, told));
    });
}

#[test]
fn poll_answers_as_the_original_does() {
    patched(|| {
        let file = File::open("Cargo.toml").unwrap();
        let null = File::open("/dev/null").unwrap();
        let (empty, keeps) = pipe();
        let (mut full, to_full) = pipe();
        (&to_full).write_all(b"x").unwrap();
        let (hung_up, _) = pipe();
        let (gone, no_reader) = pipe();
        drop(gone);
        let (here, there) = pair();
        let (shut, other) = pair();
        other.shutdown(std::net::Shutdown::Both).unwrap();
        let fds = [
            file.as_raw_fd(),
            null.as_raw_fd(),
            empty.as_raw_fd(),
            keeps.as_raw_fd(),
            full.as_raw_fd(),
            hung_up.as_raw_fd(),
            no_reader.as_raw_fd(),
            here.as_raw_fd(),
            shut.as_raw_fd(),
            -1,
            1_000_000,
        ];
        for fd in fds {
            for events in [0, IN, OUT, IN | OUT, libc::POLLPRI, IN | libc::POLLRDHUP, IN | libc::POLLRDNORM, !0] {
                for timeout in [0, 1] {
                    same(move || {
                        let mut entries = [entry(fd, events)];
                        (poll(&mut entries, timeout), entries[0].revents)
                    });
                    same(move || {
                        let mut entries = [entry(-5, events), entry(fd, events), entry(fd, IN), entry(here_of(fd), 0)];
                        (poll(&mut entries, timeout), entries.map(|entry| entry.revents))
                    });
                }
            }
        }
        // Too many for the process; no memory there.
        for timeout in [0, 1, -1] {
            same(move || {
                // SAFETY: the system refuses the count before it looks.
                result(unsafe { libc::poll(ptr::null_mut(), libc::nfds_t::MAX, timeout) })
            });
            same(move || {
                // SAFETY: the system says that there is no memory.
                result(unsafe { libc::poll(ptr::without_provenance_mut(8), 3, timeout) })
            });
        }
        for time in [timespec { tv_sec: -1, tv_nsec: 0 }, timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }] {
            same(move || {
                // SAFETY: no entries, and a time.
                result(unsafe { libc::ppoll(ptr::null_mut(), 0, &time, ptr::null()) })
            });
        }
        full.read_exact(&mut [0]).unwrap();
        drop((empty, keeps, here, there));
    });
}

fn here_of(fd: RawFd) -> RawFd {
    fd.min(2)
}

#[test]
fn time_outs_are_met() {
    patched(|| {
        // With another task, the root is one of those that park.
        let other = spawn(|| greenroom::sleep(EVER));
        let (reader, _writer) = pipe();
        for entries in
            [vec![], vec![entry(reader.as_raw_fd(), IN)], vec![entry(reader.as_raw_fd(), IN | libc::POLLRDBAND)]]
        {
            let mut entries = entries.clone();
            let begun = Instant::now();
            assert_eq!(soon(|| poll(&mut entries, 5)), Ok(0));
            let took = begun.elapsed();
            assert!(took >= 5 * MS, "{took:?}");
        }
        let time = timespec { tv_sec: 0, tv_nsec: 300_000 };
        let begun = Instant::now();
        // SAFETY: no entries, and a time.
        assert_eq!(soon(|| result(unsafe { libc::ppoll(ptr::null_mut(), 0, &time, ptr::null()) })), Ok(0));
        assert!(begun.elapsed() >= Duration::from_micros(300));
        other.kill();
        let begun = Instant::now();
        let sleepers: Vec<_> = (0..100).map(|_| spawn(|| poll(&mut [], 50))).collect();
        for slept in joinall(sleepers) {
            assert_eq!(slept.unwrap(), Ok(0));
        }
        assert!(begun.elapsed() < 100 * 50 * MS);
    });
}

#[test]
fn a_kill_and_a_time_out_are_ecanceled() {
    patched(|| {
        let (reader, _writer) = pipe();
        let fd = reader.as_raw_fd();
        for set in [vec![], vec![fd], vec![fd, fd]] {
            let (is_there, there) = greenroom::sync::mpsc::channel();
            let task = spawn(move || {
                let mut entries: Vec<_> = set.iter().map(|&fd| entry(fd, IN)).collect();
                let mut first = Ok(0);
                let late = greenroom::timeout(MS, || first = poll(&mut entries, -1));
                assert!(late.is_err());
                assert_eq!(first, Err(libc::ECANCELED));
                // The next call is none of that block's.
                assert_eq!(poll(&mut entries, 1), Ok(0));
                is_there.send(()).unwrap();
                let killed = poll(&mut entries, -1);
                assert_eq!(poll(&mut entries, -1), killed, "as long as it is not unwound");
                killed
            });
            there.recv().unwrap();
            yield_now();
            task.task().kill_nowait();
            assert_eq!(task.join().unwrap(), Err(libc::ECANCELED));
        }
    });
}

#[test]
fn a_descriptor_that_is_closed_meanwhile_is_told() {
    patched(|| {
        let (reader, _writer) = pipe();
        // A number that no other test of this process is given when it is free again.
        // SAFETY: integers.
        let fd = unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 700) };
        assert!(fd >= 700);
        let waits = spawn(move || {
            let mut entries = [entry(fd, IN)];
            (poll(&mut entries, -1), entries[0].revents)
        });
        yield_now();
        // SAFETY: made above.
        assert_eq!(unsafe { libc::close(fd) }, 0);
        assert_eq!(waits.join().unwrap(), (Ok(1), libc::POLLNVAL));
    });
}

#[test]
fn a_poller_takes_nothing_from_a_reader() {
    patched(|| {
        let (mut here, there) = pair();
        let fd = there.as_raw_fd();
        let pollers: Vec<_> = (0..5)
            .map(|_| {
                spawn(move || {
                    // Some look at once, some wait, some give up.
                    for round in 0..200 {
                        poll(&mut [entry(fd, IN)], round % 3).unwrap();
                    }
                })
            })
            .collect();
        let reader = spawn(move || {
            let mut there = there;
            let mut all = Vec::new();
            let mut buffer = [0; 7];
            loop {
                match there.read(&mut buffer).unwrap() {
                    0 => return (all, there),
                    n => all.extend_from_slice(&buffer[..n]),
                }
            }
        });
        let writer = spawn(move || {
            for n in 0..2000_u32 {
                here.write_all(&n.to_le_bytes()).unwrap();
                if n % 16 == 0 {
                    yield_now();
                }
            }
        });
        writer.join().unwrap();
        let (all, _there) = reader.join().unwrap();
        let expected: Vec<u8> = (0..2000_u32).flat_map(u32::to_le_bytes).collect();
        assert!(all == expected);
        for result in joinall(pollers) {
            result.unwrap();
        }
    });
}

#[test]
fn std_connects_within_a_time() {
    patched(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..20)
            .map(|_| spawn(move || TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap().peer_addr()))
            .collect();
        for client in joinall(clients) {
            assert_eq!(client.unwrap().unwrap(), address);
        }
    });
}

#[derive(Clone)]
struct Sets([Option<Vec<u64>>; 3]);

impl Sets {
    fn new(sets: [Option<&[RawFd]>; 3], words: usize) -> Sets {
        Sets(sets.map(|set| {
            let mut bits = vec![0_u64; words];
            for &fd in set? {
                bits[fd as usize / 64] |= 1 << (fd % 64);
            }
            Some(bits)
        }))
    }

    fn pointers(&mut self) -> [*mut fd_set; 3] {
        let mut pointers = [ptr::null_mut(); 3];
        for (pointer, set) in pointers.iter_mut().zip(&mut self.0) {
            if let Some(set) = set {
                *pointer = set.as_mut_ptr().cast();
            }
        }
        pointers
    }

    fn select(&mut self, count: c_int, timeout: Option<timeval>) -> (Result<c_int, c_int>, Option<timeval>) {
        let [read, write, except] = self.pointers();
        let mut timeout = timeout;
        let place = timeout.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        // SAFETY: sets that are long enough, or null, and a time or null.
        let found = result(unsafe { libc::select(count, read, write, except, place) });
        (found, timeout)
    }

    fn pselect(&mut self, count: c_int, timeout: Option<timespec>, mask: Option<&sigset_t>) -> Result<c_int, c_int> {
        let [read, write, except] = self.pointers();
        let place = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mask = mask.map_or(ptr::null(), ptr::from_ref);
        // SAFETY: sets that are long enough, or null, a time or null, and a mask or null.
        result(unsafe { libc::pselect(count, read, write, except, place, mask) })
    }
}

fn micros(micros: libc::suseconds_t) -> Option<timeval> {
    Some(timeval { tv_sec: 0, tv_usec: micros })
}

#[test]
fn select_answers_as_the_original_does() {
    patched(|| {
        let (full, mut to_full) = pipe();
        to_full.write_all(b"x").unwrap();
        let (empty, keeps) = pipe();
        let (hung_up, _) = pipe();
        let file = File::open("Cargo.toml").unwrap();
        let (full, empty, hung_up, file) = (full.as_raw_fd(), empty.as_raw_fd(), hung_up_fd(hung_up), file_fd(file));
        let closed = 999;
        let all = [full, empty, hung_up, file];
        let cases: Vec<[Option<Vec<RawFd>>; 3]> = vec![
            [Some(vec![]), None, None],
            [None, None, None],
            [Some(vec![empty]), None, None],
            [Some(vec![empty, full]), None, None],
            [Some(all.to_vec()), Some(all.to_vec()), Some(all.to_vec())],
            [None, Some(vec![empty, keeps.as_raw_fd()]), None],
            [None, None, Some(vec![full, empty])],
            [Some(vec![full, closed]), None, None],
            [None, None, Some(vec![closed])],
        ];
        for case in cases {
            for count in [0, 3, full + 1, 128, 1000, 1024] {
                for timeout in [0, 1000, 3_000_000] {
                    // Nothing found would be waited for.
                    let case = case.clone();
                    let timeout = if timeout == 3_000_000 { 2_000 } else { timeout };
                    same(move || {
                        let mut sets = Sets::new(case.each_ref().map(Option::as_deref), 16);
                        let (found, left) = sets.select(count, micros(timeout));
                        let is_over = found == Ok(0) && left.unwrap().tv_usec != 0;
                        (found, is_over, sets.0.clone())
                    });
                }
            }
        }
        for (count, time) in [(-1, 0), (5, -1)] {
            same(move || Sets::new([Some(&[]), None, None], 16).select(count, micros(time)).0);
            let time = timespec { tv_sec: time, tv_nsec: 0 };
            same(move || Sets::new([Some(&[]), None, None], 16).pselect(count, Some(time), None));
        }
    });
}

fn hung_up_fd(fd: impl Into<OwnedFd>) -> RawFd {
    file_fd(fd)
}

/// Stays open.
fn file_fd(fd: impl Into<OwnedFd>) -> RawFd {
    let fd: OwnedFd = fd.into();
    std::os::fd::IntoRawFd::into_raw_fd(fd)
}

#[test]
fn select_waits_and_says_what_is_left() {
    patched(|| {
        let (reader, mut writer) = pipe();
        let fd = reader.as_raw_fd();
        let waits = spawn(move || {
            let mut sets = Sets::new([Some(&[fd]), Some(&[]), None], 16);
            let (found, left) = sets.select(fd + 1, Some(timeval { tv_sec: 3600, tv_usec: 0 }));
            let left = left.unwrap();
            assert!((3500..3600).contains(&left.tv_sec), "{}", left.tv_sec);
            (found, sets.0[0].as_ref().unwrap()[fd as usize / 64] >> (fd % 64) & 1)
        });
        let waits_too = spawn(move || {
            let mut sets = Sets::new([Some(&[fd]), None, Some(&[fd])], 16);
            sets.pselect(fd + 1, None, None)
        });
        for _ in 0..10 {
            yield_now();
        }
        assert!(!waits.is_finished() && !waits_too.is_finished());
        writer.write_all(b"x").unwrap();
        assert_eq!(waits.join().unwrap(), (Ok(1), 1));
        assert_eq!(waits_too.join().unwrap(), Ok(1));
        // More microseconds than a second has; many who only sleep.
        let begun = Instant::now();
        let sleepers: Vec<_> =
            (0..50).map(|_| spawn(|| Sets::new([None, None, None], 0).select(0, micros(50_000)).0)).collect();
        for slept in joinall(sleepers) {
            assert_eq!(slept.unwrap(), Ok(0));
        }
        assert!(begun.elapsed() >= 50 * MS && begun.elapsed() < 50 * 50 * MS);
    });
}

#[test]
fn select_with_numbers_beyond_a_set() {
    alone("select_with_numbers_beyond_a_set", || {
        let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
        // SAFETY: a limit, alive for the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        // A number that is far beyond what there is memory for: the table is small yet.
        let mut sets = Sets::new([Some(&[]), None, None], 16);
        let other = spawn(|| ());
        assert_eq!(sets.select(1_000_000, micros(1000)).0, Ok(0));
        other.join().unwrap();

        let (reader, mut writer) = pipe();
        // SAFETY: a duplicate at a number that is free.
        let far = unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_DUPFD, 3000) };
        // SAFETY: just made.
        let far = unsafe { OwnedFd::from_raw_fd(far) };
        let fd = far.as_raw_fd();
        assert_eq!(fd, 3000);
        let waits = spawn(move || {
            let mut sets = Sets::new([Some(&[fd]), None, None], 64);
            let found = sets.select(fd + 1, None).0;
            (found, sets.0[0].as_ref().unwrap()[fd as usize / 64])
        });
        yield_now();
        writer.write_all(b"x").unwrap();
        assert_eq!(waits.join().unwrap(), (Ok(1), 1 << (3000 % 64)));
    });
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Epoll {
        // SAFETY: no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        // SAFETY: just made.
        Epoll(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn set(&self, what: c_int, fd: RawFd, events: c_int) {
        let mut event = epoll_event { events: events as u32, u64: fd as u64 };
        // SAFETY: an event, alive for the call.
        assert_eq!(result(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &mut event) }), Ok(0));
    }

    fn add(&self, fd: RawFd, events: c_int) {
        self.set(libc::EPOLL_CTL_ADD, fd, events);
    }

    fn wait(&self, room: c_int, timeout: c_int) -> Result<Vec<RawFd>, c_int> {
        wait(self.0.as_raw_fd(), room, timeout)
    }
}

fn wait(epoll: RawFd, room: c_int, timeout: c_int) -> Result<Vec<RawFd>, c_int> {
    let mut events = [epoll_event { events: 0, u64: 0 }; 64];
    // SAFETY: there is room for more.
    let count = result(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), room, timeout) })?;
    Ok(events[..count as usize].iter().map(|event| event.u64 as RawFd).collect())
}

#[test]
fn a_hundred_epoll_loops_on_one_thread() {
    patched(|| {
        let loops: Vec<_> = (0..100_u32)
            .map(|number| {
                let (mut here, there) = pair();
                let (mut other_here, other_there) = pair();
                let served = spawn(move || {
                    let epoll = Epoll::new();
                    let edge = if number % 2 == 0 { libc::EPOLLET } else { 0 };
                    epoll.add(there.as_raw_fd(), libc::EPOLLIN | edge);
                    epoll.add(other_there.as_raw_fd(), libc::EPOLLIN | edge);
                    let mut bytes = 0;
                    while bytes < 200 {
                        for fd in epoll.wait(64, -1).unwrap() {
                            let stream = if fd == there.as_raw_fd() { &there } else { &other_there };
                            stream.set_nonblocking(true).unwrap();
                            let mut buffer = [0; 3];
                            loop {
                                match (&*stream).read(&mut buffer) {
                                    Ok(0) => break,
                                    Ok(n) => bytes += n,
                                    Err(error) => {
                                        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                                        break;
                                    }
                                }
                            }
                        }
                    }
                    bytes
                });
                let client = spawn(move || {
                    for _ in 0..100 {
                        here.write_all(b"x").unwrap();
                        yield_now();
                        other_here.write_all(b"y").unwrap();
                    }
                    (here, other_here)
                });
                (served, client)
            })
            .collect();
        for (served, client) in loops {
            client.join().unwrap();
            assert_eq!(served.join().unwrap(), 200);
        }
    });
}

#[test]
fn many_wait_on_one_epoll_descriptor_and_each_edge_is_for_one() {
    patched(|| {
        let epoll = Epoll::new();
        let fd = epoll.0.as_raw_fd();
        let pipes: Vec<_> = (0..30).map(|_| pipe()).collect();
        for (reader, _) in &pipes {
            epoll.add(reader.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET);
        }
        let mut waits: Vec<_> = (0..30).map(|_| spawn(move || wait(fd, 1, -1))).collect();
        // One that is killed, and one whose time is over, take nothing.
        let killed = waits.remove(0);
        let late = spawn(move || wait(fd, 1, 0));
        yield_now();
        assert_eq!(late.join().unwrap(), Ok(vec![]));
        killed.task().kill_nowait();
        for (_, writer) in &pipes {
            let mut writer = writer;
            writer.write_all(b"x").unwrap();
        }
        // What it was told was a hint: this takes nothing from the others.
        assert_eq!(killed.join().unwrap().unwrap().len(), 1);
        let mut found: Vec<_> = joinall(waits).into_iter().flat_map(|found| found.unwrap().unwrap()).collect();
        found.extend(wait(fd, 64, 0).unwrap());
        found.sort_unstable();
        let mut expected: Vec<_> = pipes.iter().map(|(reader, _)| reader.as_raw_fd()).collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    });
}

/// An event loop that is cancelled is told that all is ready: the call that follows tells what is the matter, to those who know
/// what to do about an error. One that makes no such call is told in the end.
#[test]
fn a_cancelled_wait_on_epoll_ends_in_the_call_that_follows() {
    patched(|| {
        let (here, _there) = pair();
        let loops = spawn(move || {
            here.set_nonblocking(true).unwrap();
            let epoll = Epoll::new();
            epoll.add(here.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET);
            loop {
                assert_eq!(epoll.wait(64, -1), Ok(vec![here.as_raw_fd()]));
                match (&here).read(&mut [0]) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    other => break other.unwrap_err().raw_os_error(),
                }
            }
        });
        let (reader, _writer) = pipe();
        let only_waits = spawn(move || {
            let epoll = Epoll::new();
            epoll.add(reader.as_raw_fd(), libc::EPOLLIN);
            let (mut waits, mut told) = (0, epoll.wait(64, -1));
            while told.is_ok() && waits < 1000 {
                waits += 1;
                told = epoll.wait(64, -1);
            }
            told
        });
        let of_none = spawn(|| Epoll::new().wait(64, -1));
        yield_now();
        for task in [loops.task(), only_waits.task(), of_none.task()] {
            task.kill_nowait();
        }
        assert_eq!(loops.join().unwrap(), Some(libc::ECANCELED));
        assert_eq!(only_waits.join().unwrap(), Err(libc::ECANCELED));
        assert_eq!(of_none.join().unwrap(), Err(libc::ECANCELED));
    });
}

#[test]
fn an_epoll_descriptor_is_itself_waited_for() {
    patched(|| {
        let (reader, mut writer) = pipe();
        let (inner, outer) = (Epoll::new(), Epoll::new());
        inner.add(reader.as_raw_fd(), libc::EPOLLIN | libc::EPOLLONESHOT);
        outer.add(inner.0.as_raw_fd(), libc::EPOLLIN);
        let (fd, inner_fd) = (outer.0.as_raw_fd(), inner.0.as_raw_fd());
        let waits = spawn(move || wait(fd, 1, -1));
        let polls = spawn(move || poll(&mut [entry(fd, IN), entry(inner_fd, IN)], -1));
        yield_now();
        assert!(!waits.is_finished() && !polls.is_finished());
        writer.write_all(b"x").unwrap();
        assert_eq!(waits.join().unwrap(), Ok(vec![inner_fd]));
        assert_eq!(polls.join().unwrap(), Ok(2));
        assert_eq!(inner.wait(8, -1), Ok(vec![reader.as_raw_fd()]));
        // It was for once.
        assert_eq!(inner.wait(8, 1), Ok(vec![]));
        inner.set(libc::EPOLL_CTL_MOD, reader.as_raw_fd(), libc::EPOLLIN);
        assert_eq!(inner.wait(8, -1), Ok(vec![reader.as_raw_fd()]));
    });
}

#[test]
fn epoll_fails_as_the_original_does() {
    patched(|| {
        let (reader, _writer) = pipe();
        let fd = reader.as_raw_fd();
        for timeout in [0, 1] {
            same(move || wait(1_000_000, 1, timeout));
            same(move || wait(-1, 1, timeout));
            same(move || wait(fd, 1, timeout));
            same(move || Epoll::new().wait(0, timeout));
            same(move || Epoll::new().wait(-3, timeout));
            same(move || Epoll::new().wait(3, timeout));
        }
        let waits = spawn(|| {
            let epoll = Epoll::new();
            let fd = epoll.0.as_raw_fd();
            let waits = spawn(move || wait(fd, 1, -1));
            yield_now();
            drop(epoll);
            waits.join().unwrap()
        });
        assert_eq!(waits.join().unwrap(), Err(libc::EBADF));
    });
}

#[test]
fn two_threads_and_their_tasks_share_an_epoll_descriptor() {
    patched(|| {
        let epoll = Epoll::new();
        let fd = epoll.0.as_raw_fd();
        let (reader, mut writer) = pipe();
        epoll.add(reader.as_raw_fd(), libc::EPOLLIN);
        let thread = thread::spawn(move || {
            let tasks: Vec<_> = (0..5).map(|_| spawn(move || wait(fd, 1, -1).unwrap().len())).collect();
            joinall(tasks).into_iter().map(Result::unwrap).sum::<usize>()
        });
        let tasks: Vec<_> = (0..5).map(|_| spawn(move || wait(fd, 1, -1).unwrap().len())).collect();
        yield_now();
        // A level: it is there for all.
        writer.write_all(b"x").unwrap();
        assert_eq!(joinall(tasks).into_iter().map(Result::unwrap).sum::<usize>(), 5);
        assert_eq!(thread.join().unwrap(), 5);
    });
}

mod masks {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static CAUGHT: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn catch(_: c_int) {
        CAUGHT.fetch_add(1, Ordering::SeqCst);
    }

    fn set_of(signals: &[c_int]) -> sigset_t {
        // SAFETY: integers.
        let mut set: sigset_t = unsafe { mem::zeroed() };
        for &signal in signals {
            // SAFETY: a set, and a signal.
            unsafe { libc::sigaddset(&mut set, signal) };
        }
        set
    }

    fn raise() {
        // SAFETY: to this thread.
        unsafe { libc::raise(libc::SIGUSR1) };
    }

    /// Runs calls with a mask: a signal that is pending, and one that comes while the task is parked, end them.
    fn interrupted(call: impl Fn(&sigset_t) -> Result<c_int, c_int> + Send + Copy + 'static) {
        // SAFETY: only counts.
        unsafe { libc::signal(libc::SIGUSR1, catch as extern "C" fn(c_int) as libc::sighandler_t) };
        // SAFETY: a set.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set_of(&[libc::SIGUSR1]), ptr::null_mut()) };
        let before = CAUGHT.load(Ordering::SeqCst);
        raise();
        assert_eq!(CAUGHT.load(Ordering::SeqCst), before);
        let task = spawn(move || call(&set_of(&[])));
        assert_eq!(task.join().unwrap(), Err(libc::EINTR));
        assert_eq!(CAUGHT.load(Ordering::SeqCst), before + 1);

        let task = spawn(move || call(&set_of(&[])));
        for _ in 0..10 {
            yield_now();
        }
        assert!(!task.is_finished());
        raise();
        // The task's own time has not come.
        assert_eq!(CAUGHT.load(Ordering::SeqCst), before + 1);
        assert_eq!(task.join().unwrap(), Err(libc::EINTR));
        assert_eq!(CAUGHT.load(Ordering::SeqCst), before + 2);

        // What the mask blocks stays blocked.
        let task = spawn(move || {
            raise();
            greenroom::timeout(20 * MS, || call(&set_of(&[libc::SIGUSR1])))
        });
        assert!(task.join().unwrap().is_err());
        assert_eq!(CAUGHT.load(Ordering::SeqCst), before + 2);
        // It is pending yet.
        let task = spawn(move || call(&set_of(&[])));
        assert_eq!(task.join().unwrap(), Err(libc::EINTR));
    }

    #[test]
    fn a_mask_lets_signals_in() {
        alone("masks::a_mask_lets_signals_in", || {
            let (reader, _writer) = pipe();
            let fd = reader.as_raw_fd();
            interrupted(move |mask| {
                let mut entries = [entry(fd, IN)];
                // SAFETY: an entry, no time, and a mask.
                result(unsafe { libc::ppoll(entries.as_mut_ptr(), 1, ptr::null(), mask) })
            });
            interrupted(|mask| {
                // SAFETY: no entries, no time, and a mask.
                result(unsafe { libc::ppoll(ptr::null_mut(), 0, ptr::null(), mask) })
            });
            interrupted(move |mask| Sets::new([Some(&[fd]), None, None], 16).pselect(fd + 1, None, Some(mask)));
            let epoll = Epoll::new();
            let fd = epoll.0.as_raw_fd();
            interrupted(move |mask| {
                let mut event = epoll_event { events: 0, u64: 0 };
                // SAFETY: room for one, and a mask.
                result(unsafe { libc::epoll_pwait(fd, &mut event, 1, -1, mask) })
            });
            interrupted(move |mask| {
                let mut event = epoll_event { events: 0, u64: 0 };
                let time = timespec { tv_sec: 3600, tv_nsec: 0 };
                // SAFETY: room for one, a time and a mask.
                result(unsafe { libc::epoll_pwait2(fd, &mut event, 1, &time, mask) })
            });
        });
    }
}

#[test]
fn a_wait_needs_no_free_descriptor() {
    alone("a_wait_needs_no_free_descriptor", || {
        let (reader, mut writer) = pipe();
        let fd = reader.as_raw_fd();
        let limit = libc::rlimit { rlim_cur: 3, rlim_max: 4096 };
        let other = spawn(yield_now);
        // SAFETY: a limit, alive for the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        let waits = spawn(move || Sets::new([Some(&[fd]), None, Some(&[fd])], 16).select(fd + 1, None).0);
        for _ in 0..10 {
            yield_now();
        }
        writer.write_all(b"x").unwrap();
        assert_eq!(waits.join().unwrap(), Ok(1));
        let none = spawn(move || Sets::new([None, None, Some(&[fd])], 16).select(fd + 1, micros(5000)).0);
        assert_eq!(none.join().unwrap(), Ok(0));
        other.join().unwrap();
    });
}

#[test]
fn who_only_looks_lets_the_others_run() {
    patched(|| {
        let (reader, mut writer) = pipe();
        let fd = reader.as_raw_fd();
        let spins = spawn(move || {
            soon(|| while poll(&mut [entry(fd, IN)], 0) == Ok(0) {});
        });
        let writes = spawn(move || writer.write_all(b"x"));
        spins.join().unwrap();
        writes.join().unwrap().unwrap();
    });
}

#[test]
fn the_originals_stop_the_thread() {
    patched(|| {
        let other = spawn(|| ());
        // SAFETY: no entries.
        let found = unsafe { original::poll(ptr::null_mut(), 0, 20) };
        assert_eq!(found, 0);
        assert!(!other.is_finished());
        other.join().unwrap();
    });
}
