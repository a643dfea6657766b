//! Signal handlers in a patched program: nothing switches inside them, and nobody sees that they are wrapped.

mod common;

use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread;

use common::{MS, check, in_child};
use greenroom::monkey;
use greenroom::{spawn, yield_now};
use libc::{sigaction, sighandler_t, siginfo_t};

/// Runs a test in a process of its own: handlers are the process's.
#[track_caller]
fn alone(test: &str, body: impl FnOnce() + Send + 'static) {
    let output = in_child(test, || check(body));
    if let Some(output) = output {
        assert!(output.status.success(), "{}", common::stderr(&output));
    }
}

fn patch() {
    // SAFETY: tasks of these tests share only what is Send.
    unsafe { monkey::patch_all() };
}

static CALLS: AtomicUsize = AtomicUsize::new(0);
static SEEN: AtomicI32 = AtomicI32::new(0);
static FD: AtomicI32 = AtomicI32::new(-1);

extern "C" fn plain(signal: c_int) {
    SEEN.store(signal, Ordering::SeqCst);
    CALLS.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn with_info(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    assert!(!context.is_null());
    // SAFETY: the system gives one.
    let info = unsafe { &*info };
    assert_eq!(info.si_signo, signal);
    // SAFETY: of a signal that a process has sent.
    assert_eq!(unsafe { info.si_pid() }, std::process::id() as i32);
    plain(signal);
}

/// Writes more than fits: the original would wait here, and the test makes room from another thread.
extern "C" fn writes(signal: c_int) {
    let bytes = [1_u8; 1000];
    // SAFETY: so many bytes.
    let written = unsafe { libc::write(FD.load(Ordering::SeqCst), bytes.as_ptr().cast(), bytes.len()) };
    assert_eq!(written, 1000);
    plain(signal);
}

fn action(handler: sighandler_t, flags: c_int) -> sigaction {
    // SAFETY: integers, for which zero is a value.
    let mut action: sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    action
}

fn install(signal: c_int, action: Option<&sigaction>) -> Result<sigaction, i32> {
    // SAFETY: as above.
    let mut old: sigaction = unsafe { mem::zeroed() };
    let action = action.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: an action or null, and a place.
    if unsafe { libc::sigaction(signal, action, &mut old) } != 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap());
    }
    Ok(old)
}

fn plain_handler() -> sighandler_t {
    plain as extern "C" fn(c_int) as sighandler_t
}

fn info_handler() -> sighandler_t {
    with_info as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as sighandler_t
}

/// The flags that programs set. `SA_RESTORER` is the C library's.
const FLAGS: c_int =
    libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_NODEFER | libc::SA_RESETHAND | libc::SA_ONSTACK | libc::SA_NOCLDSTOP;

fn raise(signal: c_int) {
    // SAFETY: to this thread.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

#[test]
fn a_handler_that_writes_switches_nowhere() {
    alone("a_handler_that_writes_switches_nowhere", || {
        patch();
        let (reader, mut writer) = std::io::pipe().unwrap();
        FD.store(writer.as_raw_fd(), Ordering::SeqCst);
        install(libc::SIGUSR1, Some(&action(writes as extern "C" fn(c_int) as sighandler_t, 0))).unwrap();
        let mut filled = 0;
        // All that fits: 64 KiB.
        let chunk = [0; 1 << 16];
        filled += writer.write(&chunk).unwrap();

        let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let (in_first, in_other) = (order.clone(), order.clone());
        let reads = thread::spawn(move || {
            thread::sleep(20 * MS);
            let mut reader = reader;
            reader.read_exact(&mut vec![0; filled]).unwrap();
            let mut rest = vec![0; 1000];
            reader.read_exact(&mut rest).unwrap();
            rest
        });
        let first = spawn(move || {
            // Had the handler parked, the other task would have run here.
            raise(libc::SIGUSR1);
            in_first.borrow_mut().push("after the signal");
        });
        let other = spawn(move || in_other.borrow_mut().push("the other"));
        first.join().unwrap();
        other.join().unwrap();
        assert_eq!(*order.borrow(), ["after the signal", "the other"]);
        assert_eq!(reads.join().unwrap(), [1; 1000]);
        // Nothing is held any more.
        let waits = spawn(|| thread::sleep(MS));
        yield_now();
        assert!(!waits.is_finished());
        waits.join().unwrap();
    });
}

#[test]
fn signals_that_meet_the_hub_asleep_and_at_work() {
    alone("signals_that_meet_the_hub_asleep_and_at_work", || {
        patch();
        let (mut here, mut there) = UnixStream::pair().unwrap();
        extern "C" fn send(signal: c_int) {
            // SAFETY: a byte.
            unsafe { libc::send(FD.load(Ordering::SeqCst), [7_u8].as_ptr().cast(), 1, libc::MSG_DONTWAIT) };
            plain(signal);
        }
        FD.store(here.as_raw_fd(), Ordering::SeqCst);
        install(libc::SIGUSR2, Some(&action(send as extern "C" fn(c_int) as sighandler_t, libc::SA_RESTART))).unwrap();
        // SAFETY: this thread's own name.
        let thread = unsafe { libc::pthread_self() };
        let sender = thread::spawn(move || {
            for _ in 0..500 {
                // SAFETY: that thread waits for this one.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR2) };
                thread::sleep(MS / 10);
            }
        });
        let reader = spawn(move || {
            let mut bytes = 0;
            let mut buffer = [0; 64];
            loop {
                match there.read(&mut buffer).unwrap() {
                    0 => return bytes,
                    n => bytes += n,
                }
            }
        });
        let spins = spawn(|| {
            for _ in 0..20_000 {
                yield_now();
            }
        });
        spins.join().unwrap();
        let waits = spawn(move || {
            while !sender.is_finished() {
                thread::sleep(MS);
            }
            sender.join().unwrap();
        });
        waits.join().unwrap();
        here.flush().unwrap();
        drop(here);
        assert_eq!(reader.join().unwrap(), CALLS.load(Ordering::SeqCst));
        assert!(CALLS.load(Ordering::SeqCst) > 0);
    });
}

#[test]
fn nobody_sees_that_handlers_are_wrapped() {
    alone("nobody_sees_that_handlers_are_wrapped", || {
        patch();
        for flags in [0, libc::SA_RESTART | libc::SA_NODEFER, libc::SA_ONSTACK, libc::SA_RESETHAND] {
            for info in [0, libc::SA_SIGINFO] {
                let handler = if info == 0 { plain_handler() } else { info_handler() };
                let mut given = action(handler, flags | info);
                // SAFETY: a set, and a signal.
                unsafe { libc::sigaddset(&mut given.sa_mask, libc::SIGHUP) };
                install(libc::SIGUSR1, Some(&given)).unwrap();
                let told = install(libc::SIGUSR1, None).unwrap();
                assert_eq!((told.sa_sigaction, told.sa_flags & FLAGS), (handler, flags | info));
                // SAFETY: a set, and a signal.
                assert_eq!(unsafe { libc::sigismember(&told.sa_mask, libc::SIGHUP) }, 1);

                let before = CALLS.load(Ordering::SeqCst);
                raise(libc::SIGUSR1);
                assert_eq!((CALLS.load(Ordering::SeqCst), SEEN.load(Ordering::SeqCst)), (before + 1, libc::SIGUSR1));
                let after = install(libc::SIGUSR1, Some(&told)).unwrap();
                let expected = if flags & libc::SA_RESETHAND != 0 { libc::SIG_DFL } else { handler };
                assert_eq!(after.sa_sigaction, expected);
            }
        }
        for handler in [libc::SIG_IGN, libc::SIG_DFL] {
            install(libc::SIGUSR1, Some(&action(handler, 0))).unwrap();
            assert_eq!(install(libc::SIGUSR1, None).unwrap().sa_sigaction, handler);
        }
        for signal in [0, -1, 65, 1000, libc::SIGKILL, libc::SIGSTOP] {
            assert_eq!(install(signal, Some(&action(plain_handler(), 0))).err(), Some(libc::EINVAL));
        }
    });
}

unsafe extern "C" {
    fn sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    fn bsd_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
}

#[test]
fn signal_in_its_dialects() {
    alone("signal_in_its_dialects", || {
        patch();
        // SAFETY: the handler only counts.
        let by_signal = |handler| unsafe { libc::signal(libc::SIGUSR1, handler) };
        assert_eq!(by_signal(plain_handler()), libc::SIG_DFL);
        raise(libc::SIGUSR1);
        raise(libc::SIGUSR1);
        assert_eq!(CALLS.load(Ordering::SeqCst), 2);
        let told = install(libc::SIGUSR1, None).unwrap();
        assert_eq!((told.sa_sigaction, told.sa_flags & FLAGS), (plain_handler(), libc::SA_RESTART));
        assert_eq!(by_signal(libc::SIG_IGN), plain_handler());
        raise(libc::SIGUSR1);
        assert_eq!(by_signal(libc::SIG_DFL), libc::SIG_IGN);

        // SAFETY: as above.
        assert_eq!(unsafe { sysv_signal(libc::SIGUSR1, plain_handler()) }, libc::SIG_DFL);
        raise(libc::SIGUSR1);
        // Once: that is the dialect.
        // SAFETY: as above.
        assert_eq!(unsafe { bsd_signal(libc::SIGUSR1, plain_handler()) }, libc::SIG_DFL);
        raise(libc::SIGUSR1);
        assert_eq!(CALLS.load(Ordering::SeqCst), 4);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::signal(65, plain_handler()) }, libc::SIG_ERR);
    });
}

#[test]
fn handlers_that_were_there_before() {
    alone("handlers_that_were_there_before", || {
        install(libc::SIGUSR1, Some(&action(info_handler(), libc::SA_SIGINFO | libc::SA_RESTART))).unwrap();
        install(libc::SIGUSR2, Some(&action(plain_handler(), 0))).unwrap();
        // The hub has a handler of its own for faults.
        yield_now();
        let fault = install(libc::SIGSEGV, None).unwrap();
        patch();
        patch();
        for (signal, handler, flags) in [
            (libc::SIGUSR1, info_handler(), libc::SA_SIGINFO | libc::SA_RESTART),
            (libc::SIGUSR2, plain_handler(), 0),
            (libc::SIGSEGV, fault.sa_sigaction, fault.sa_flags & FLAGS),
        ] {
            let told = install(signal, None).unwrap();
            assert_eq!((told.sa_sigaction, told.sa_flags & FLAGS), (handler, flags));
        }
        raise(libc::SIGUSR1);
        raise(libc::SIGUSR2);
        assert_eq!(CALLS.load(Ordering::SeqCst), 2);
    });
}

/// Our own handler is one of those that are wrapped.
#[cfg(feature = "signal")]
#[test]
fn the_crates_own_signals_in_a_patched_program() {
    alone("the_crates_own_signals_in_a_patched_program", || {
        patch();
        let (tell, told) = greenroom::sync::mpsc::channel();
        let watching = greenroom::signal::on(libc::SIGUSR1, move || tell.send(()).unwrap()).unwrap();
        let task = spawn(move || {
            for _ in 0..100 {
                raise(libc::SIGUSR1);
                told.recv().unwrap();
            }
        });
        task.join().unwrap();
        watching.cancel();
        greenroom::idle();
    });
}
