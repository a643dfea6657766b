//! Patched programs on bad days: calls from where nobody expects them, and code that makes the worst of what it is told.

#![allow(clippy::multiple_unsafe_ops_per_block, reason = "tables of calls of C")]

mod common;

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::io::{Error, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use std::{mem, ptr};

use common::{EVER, MS, check, in_child, soon};
use greenroom::{joinall, monkey, spawn, yield_now};

fn patched(body: impl FnOnce() + Send + 'static) {
    // SAFETY: tasks of these tests share only what is Send.
    unsafe { monkey::patch_all() };
    check(|| {
        let other = spawn(|| greenroom::sleep(EVER));
        spawn(body).join().unwrap();
        other.task().kill();
    });
}

/// Runs a test in a process of its own.
#[track_caller]
fn alone(test: &str, body: impl FnOnce() + Send + 'static) {
    if let Some(output) = in_child(test, || patched(body)) {
        assert!(output.status.success(), "{}", common::stderr(&output));
    }
}

fn errno() -> i32 {
    Error::last_os_error().raw_os_error().unwrap()
}

fn recv(fd: RawFd, buffer: &mut [u8], flags: c_int) -> isize {
    // SAFETY: writes into the buffer at most.
    unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags) }
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

fn pair_of(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

/// Bytes through a pipe and a pair of sockets, and a look at both, by C's functions alone.
fn echo() -> bool {
    let (mut pipe, mut pair) = ([0; 2], [0; 2]);
    let mut bytes = [0_u8; 8];
    // SAFETY: places and buffers, alive for the calls.
    unsafe {
        if libc::pipe(pipe.as_mut_ptr()) != 0
            || libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) != 0
        {
            return false;
        }
        let mut entry = libc::pollfd { fd: pair[1], events: libc::POLLIN, revents: 0 };
        let is_right = libc::write(pipe[1], c"hello".as_ptr().cast(), 5) == 5
            && libc::read(pipe[0], bytes.as_mut_ptr().cast(), 8) == 5
            && libc::poll(&raw mut entry, 1, 0) == 0
            && libc::send(pair[0], bytes.as_ptr().cast(), 5, 0) == 5
            && libc::poll(&raw mut entry, 1, -1) == 1
            && libc::recv(pair[1], bytes.as_mut_ptr().cast(), 8, 0) == 5
            && libc::usleep(1) == 0
            && !libc::getenv(c"PATH".as_ptr()).is_null();
        pipe.into_iter().chain(pair).all(|fd| libc::close(fd) == 0) && is_right && bytes.starts_with(b"hello")
    }
}

// ---- Before `main`.

static BEFORE_MAIN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn before_main() {
    let mut right = usize::from(echo());
    // SAFETY: a name that ends with a zero.
    if !unsafe { libc::getenv(c"GREENROOM_PATCHES_BEFORE_MAIN".as_ptr()) }.is_null() {
        // SAFETY: nothing else is there yet.
        unsafe { monkey::patch_all() };
        right += usize::from(echo());
        let tasks = (0..10).map(|_| spawn(|| thread::sleep(MS)));
        right += joinall(tasks).into_iter().filter(Result::is_ok).count();
        right += usize::from(spawn(echo).join().is_ok_and(|right| right));
    }
    BEFORE_MAIN.store(right, Ordering::SeqCst);
}

// SAFETY: the section of functions that are called, without arguments that they look at, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = before_main;

#[test]
fn calls_before_main() {
    const NAME: &str = "calls_before_main";
    if std::env::var_os("GREENROOM_PATCHES_BEFORE_MAIN").is_some() {
        assert_eq!(BEFORE_MAIN.load(Ordering::SeqCst), 13);
        return assert!(monkey::is_patched(monkey::Areas::ALL));
    }
    assert_eq!(BEFORE_MAIN.load(Ordering::SeqCst), 1);
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", NAME]).env("GREENROOM_PATCHES_BEFORE_MAIN", "1").output().unwrap();
    assert!(output.status.success(), "{}", common::stderr(&output));
}

// ---- Destructors of thread-locals.

struct AtEnd(Arc<AtomicUsize>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        thread::sleep(MS);
        // Of the hub's time, or later: the waits are short, and somebody else ends them.
        let (one, other) = UnixStream::pair().unwrap();
        let writer = thread::spawn(move || (&other).write_all(b"x").unwrap());
        (&one).read_exact(&mut [0]).unwrap();
        writer.join().unwrap();
        assert!(echo());
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static EARLY: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
    static LATE: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
}

#[test]
fn calls_from_destructors_of_thread_locals() {
    // SAFETY: tasks of these tests share only what is Send.
    unsafe { monkey::patch_all() };
    let ended = Arc::new(AtomicUsize::new(0));
    let thread = thread::spawn({
        let ended = ended.clone();
        move || {
            EARLY.set(Some(AtEnd(ended.clone())));
            let _forever = mem::ManuallyDrop::new(spawn(|| thread::sleep(EVER)));
            let in_a_task = spawn({
                let ended = ended.clone();
                // Its own, or the thread's, which goes now.
                move || drop(EARLY.replace(Some(AtEnd(ended))))
            });
            in_a_task.join().unwrap();
            LATE.set(Some(AtEnd(ended)));
        }
    });
    soon(|| thread.join().unwrap());
    assert_eq!(ended.load(Ordering::SeqCst), 3);
}

// ---- Callbacks.

#[test]
fn a_callback_of_c_that_parks() {
    patched(|| {
        unsafe extern "C" fn compare(one: *const c_void, other: *const c_void) -> c_int {
            greenroom::sleep(Duration::from_micros(50));
            thread::sleep(Duration::from_micros(50));
            // SAFETY: elements of the array that is sorted.
            unsafe { *one.cast::<u32>() as c_int - *other.cast::<u32>() as c_int }
        }
        let sorts: Vec<_> = (1..20_u32)
            .map(|seed| {
                spawn(move || {
                    let mut numbers: Vec<u32> = (0..50).map(|n| n * seed * 7919 % 101).collect();
                    let mut sorted = numbers.clone();
                    sorted.sort_unstable();
                    // SAFETY: so many elements, and a comparison of them.
                    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 50, 4, Some(compare)) };
                    assert_eq!(numbers, sorted);
                })
            })
            .collect();
        for sort in joinall(sorts) {
            sort.unwrap();
        }
    });
}

#[test]
fn a_kill_within_a_callback_of_c_comes_after_it() {
    patched(|| {
        unsafe extern "C" fn compare(one: *const c_void, other: *const c_void) -> c_int {
            thread::sleep(MS);
            // SAFETY: elements of the array that is sorted.
            unsafe { *one.cast::<u32>() as c_int - *other.cast::<u32>() as c_int }
        }
        let sorted = Rc::new(Cell::new(false));
        let seen = sorted.clone();
        let sort = spawn(move || {
            let mut numbers: Vec<u32> = (0..100).rev().collect();
            // SAFETY: so many elements, and a comparison of them.
            unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 100, 4, Some(compare)) };
            seen.set(numbers.is_sorted());
            yield_now();
            unreachable!("the kill was pending");
        });
        greenroom::sleep(3 * MS);
        soon(|| sort.task().kill());
        assert!(sort.join().is_err_and(|error| error.is_killed()));
        assert!(sorted.get());
    });
}

// ---- Loops that take no error for an answer.

#[test]
fn one_who_sleeps_until_something_happens_lets_it_happen_although_killed() {
    patched(|| {
        let flag = Rc::new(Cell::new(false));
        let seen = flag.clone();
        let waits = spawn(move || {
            while !seen.get() {
                thread::sleep(MS);
            }
        });
        yield_now();
        waits.task().kill_nowait();
        let sets = spawn(move || {
            yield_now();
            yield_now();
            flag.set(true);
        });
        soon(|| sets.join().unwrap());
        // Nothing of ours raised the kill.
        soon(|| drop(waits.join()));
    });
}

#[test]
fn one_who_tries_again_after_every_error_lets_the_others_run() {
    patched(|| {
        let (one, other) = UnixStream::pair().unwrap();
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let ended = Rc::new(Cell::new(false));
        let (reads, accepts) = (ended.clone(), ended.clone());
        let loops = [
            spawn(move || while !reads.get() && recv(one.as_raw_fd(), &mut [0], 0) < 0 {}),
            spawn(move || while !accepts.get() && listener.accept().is_err() {}),
            spawn({
                let ended = ended.clone();
                // Nobody is there: the answer may be an error, and the error the answer.
                move || while !ended.get() && std::fs::read("/proc/self/stat").is_err() {}
            }),
        ];
        yield_now();
        for one in &loops {
            one.task().kill_nowait();
        }
        let sets = spawn(move || {
            for _ in 0..10 {
                yield_now();
            }
            ended.set(true);
        });
        soon(|| sets.join().unwrap());
        soon(|| loops.into_iter().for_each(|one| drop(one.join())));
        let _ = (address, other);
    });
}

// ---- Copies of the process.

#[test]
fn a_child_that_closes_and_opens_has_its_own_numbers() {
    alone("a_child_that_closes_and_opens_has_its_own_numbers", || {
        let listener = listener();
        let (one, other) = pair_of(&listener);
        (&one).write_all(b"ab").unwrap();
        (&other).read_exact(&mut [0; 2]).unwrap();
        // SAFETY: as the program's one thread that holds anything.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let numbers = [one.into_raw_fd(), other.into_raw_fd()];
            // SAFETY: descriptors of ours.
            let closed = unsafe { libc::close(numbers[0]) | libc::close(numbers[1]) };
            let mut pipe = [0; 2];
            // Lower numbers are free too: the parent's poller had one.
            // SAFETY: a place for two.
            let made = (0..8).any(|_| unsafe { libc::pipe(pipe.as_mut_ptr()) == 0 && pipe.contains(&numbers[0]) });
            // SAFETY: buffers of these lengths.
            let wrote = unsafe { libc::write(pipe[1], b"xyz".as_ptr().cast(), 3) };
            let mut bytes = [0_u8; 8];
            // SAFETY: as above.
            let read = unsafe { libc::read(pipe[0], bytes.as_mut_ptr().cast(), 8) };
            let is_right = closed == 0 && made && wrote == 3 && read == 3;
            // SAFETY: ends the process.
            unsafe { libc::_exit(if is_right { 7 } else { errno().max(1) + 100 }) };
        }
        let mut status = 0;
        // SAFETY: a place, alive for the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(libc::WEXITSTATUS(status), 7);
        // The parent's are as they were.
        (&one).write_all(b"ab").unwrap();
        (&other).read_exact(&mut [0; 2]).unwrap();
    });
}

#[test]
fn a_listener_of_two_processes_is_waited_for_in_both() {
    alone("a_listener_of_two_processes_is_waited_for_in_both", || {
        fn serve(listener: &TcpListener) -> u8 {
            let mut byte = [0];
            listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
            byte[0]
        }
        fn ask(address: std::net::SocketAddr, byte: u8) {
            TcpStream::connect(address).unwrap().write_all(&[byte]).unwrap();
        }
        let listener = listener();
        let address = listener.local_addr().unwrap();
        // From now on its flag is ours.
        ask(address, 1);
        assert_eq!(serve(&listener), 1);
        // SAFETY: as the program's one thread that holds anything.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // It is one owner of two, although it has waited for something of its own.
            let is_right = spawn(echo).join().unwrap();
            drop(listener);
            // SAFETY: ends the process.
            unsafe { libc::_exit(if is_right { 7 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: a place, alive for the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(libc::WEXITSTATUS(status), 7);
        // Only a task that parks lets the other ask.
        let waits = spawn(move || serve(&listener));
        let asks = spawn(move || ask(address, 2));
        assert_eq!(soon(|| waits.join().unwrap()), 2);
        asks.join().unwrap();
    });
}

// ---- Standard output.

#[test]
#[expect(clippy::print_stdout, reason = "it is what is tested")]
fn a_thousand_tasks_print_into_a_full_pipe() {
    const NAME: &str = "a_thousand_tasks_print_into_a_full_pipe";
    const LINES: usize = 20;
    let text = "a line that is long enough to fill a pipe sooner or later, whatever room there is in it";
    if std::env::var_os("GREENROOM_PRINTS").is_some() {
        patched(move || {
            let tasks = (0..1000).map(|task| {
                spawn(move || {
                    for line in 0..LINES {
                        println!("<{task} {line} {text}>");
                        if line % 5 == 0 {
                            thread::sleep(MS);
                        }
                    }
                })
            });
            joinall(tasks).into_iter().for_each(|result| result.unwrap());
        });
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env("GREENROOM_PRINTS", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe is full long before it is read.
    thread::sleep(50 * MS);
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success());
    let mut next = vec![0; 1000];
    for line in output.lines().filter_map(|line| line.split_once('<')?.1.strip_suffix('>')) {
        let mut words = line.splitn(3, ' ');
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        let (task, line) = (number(), number());
        assert_eq!(words.next(), Some(text));
        assert_eq!(next[task], line);
        next[task] += 1;
    }
    assert_eq!(next, [LINES; 1000]);
}

// ---- Numbers.

#[test]
fn a_number_used_again_at_once_is_another_file() {
    alone("a_number_used_again_at_once_is_another_file", || {
        let listener = listener();
        for round in 0..200_u32 {
            let (one, other) = pair_of(&listener);
            let number = one.as_raw_fd();
            (&other).write_all(b"tcp").unwrap();
            assert_eq!(recv(number, &mut [0; 8], 0), 3);
            drop(one);
            let (mut pipe, mut byte) = ([0; 2], [0_u8; 4]);
            // SAFETY: places and buffers, alive for the calls.
            unsafe {
                assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
                assert_eq!(pipe[0], number);
                assert_eq!(libc::write(pipe[1], byte.as_ptr().cast(), 1), 1);
                assert_eq!(libc::read(number, byte.as_mut_ptr().cast(), 4), 1);
                if round % 2 == 0 {
                    libc::close(number);
                } else {
                    // By a way that nobody sees.
                    libc::syscall(libc::SYS_close, number);
                }
                libc::close(pipe[1]);
            }
            let (messages, sender) = UnixDatagram::pair().unwrap();
            sender.send(b"a message").unwrap();
            sender.send(b"b").unwrap();
            assert_eq!(messages.as_raw_fd(), number);
            assert_eq!(recv(number, &mut [0; 3], 0), 3);
            assert_eq!(recv(number, &mut [0; 3], 0), 1);
        }
    });
}

// ---- Handlers.

static HANDLED: AtomicI32 = AtomicI32::new(-1);

#[test]
fn a_handler_that_writes_to_the_socket_that_is_waited_for() {
    alone("a_handler_that_writes_to_the_socket_that_is_waited_for", || {
        extern "C" fn handler(_: c_int) {
            // SAFETY: a byte of a constant.
            unsafe { libc::write(HANDLED.load(Ordering::SeqCst), c"x".as_ptr().cast(), 1) };
        }
        let (one, other) = UnixStream::pair().unwrap();
        HANDLED.store(other.as_raw_fd(), Ordering::SeqCst);
        // SAFETY: a function of that type.
        unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
        let reader = spawn(move || {
            for _ in 0..100 {
                assert_eq!(recv(one.as_raw_fd(), &mut [0], 0), 1);
            }
        });
        let signals = Arc::new(Mutex::new(0));
        for _ in 0..100 {
            *signals.lock().unwrap() += 1;
            // SAFETY: a signal with a handler.
            unsafe { libc::raise(libc::SIGUSR1) };
            yield_now();
        }
        soon(|| reader.join().unwrap());
        drop(other);
    });
}

/// Descriptors of another kind than the functions are for.
#[test]
fn the_wrong_kind_of_descriptor() {
    patched(|| {
        // SAFETY: takes and gives integers only.
        let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, 0)) };
        assert_eq!((recv(event.as_raw_fd(), &mut [0], 0), errno()), (-1, libc::ENOTSOCK));
        assert_eq!((recv(-1, &mut [0], 0), errno()), (-1, libc::EBADF));
        // SAFETY: null is for the kernel to refuse.
        let result = unsafe { libc::connect(event.as_raw_fd(), ptr::null(), 0) };
        assert_eq!((result, errno()), (-1, libc::ENOTSOCK));
    });
}
