//! Rule 19: names are looked up beside the hub. `getaddrinfo` is ours here: names that begin with `slow` take their time. With the feature
//! `monkey` it is the library's, and tests/monkey_dns.rs has these tests.

use crate::support::{in_child, native_threads};
use greenroom::net::{TcpStream, ToSocketAddrs, lookup_host};
use greenroom::spawn;

#[test]
fn literals_start_no_thread() {
    in_child("lookup::literals_start_no_thread", || {
        let before = native_threads();
        let (_listener, address) = crate::support::listen(crate::local());
        TcpStream::connect(address.to_string()).unwrap();
        TcpStream::connect(("127.0.0.1", address.port())).unwrap();
        assert_eq!(lookup_host("[::1]:80").unwrap().count(), 1);
        assert_eq!(("::1", 80).to_socket_addrs().unwrap().count(), 1);
        assert!(lookup_host("no port").is_err());
        assert_eq!(native_threads(), before);
        lookup_host("localhost:80").unwrap();
        assert_eq!(native_threads(), before + 1);
    });
}

#[test]
fn threads_and_tasks_look_up_at_once() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let tasks: Vec<_> = (1..50)
                    .map(|port| {
                        spawn(move || lookup_host(&format!("localhost:{port}")).unwrap().all(|a| a.port() == port))
                    })
                    .collect();
                assert!(greenroom::joinall(tasks).into_iter().all(Result::unwrap));
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[cfg(not(feature = "monkey"))]
mod slow {
    use super::*;
    use std::cell::Cell;
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::rc::Rc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const SLOW: Duration = Duration::from_millis(100);

    static SLOW_CALLS: AtomicUsize = AtomicUsize::new(0);

    /// Stands before the C library's function of this name, for the whole test program.
    ///
    /// # Safety
    ///
    /// As of that (getaddrinfo(3)): `node` and `service` are C strings or null, `hints` is null or a value, and `result` is a place
    /// for the list.
    // SAFETY: of the same signature and meaning as the function that others mean by this name.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getaddrinfo(
        node: *const c_char,
        service: *const c_char,
        hints: *const libc::addrinfo,
        result: *mut *mut libc::addrinfo,
    ) -> c_int {
        type Function = unsafe extern "C" fn(
            *const c_char,
            *const c_char,
            *const libc::addrinfo,
            *mut *mut libc::addrinfo,
        ) -> c_int;
        if !node.is_null() {
            // SAFETY: a C string, for it is not null; the caller says so.
            let name = unsafe { CStr::from_ptr(node) };
            if name.to_bytes().starts_with(b"slow") {
                SLOW_CALLS.fetch_add(1, Ordering::SeqCst);
                let forever = name.to_bytes().starts_with(b"slow-for-ever");
                std::thread::sleep(if forever { Duration::from_secs(1000) } else { SLOW });
                return libc::EAI_NONAME;
            }
        }
        // SAFETY: a name with its zero.
        let next: *mut c_void = unsafe { libc::dlsym(libc::RTLD_NEXT, c"getaddrinfo".as_ptr()) };
        assert!(!next.is_null());
        // SAFETY: the C library's function has this signature.
        let next = unsafe { std::mem::transmute::<*mut c_void, Function>(next) };
        // SAFETY: passed on to the caller, with its arguments.
        unsafe { next(node, service, hints, result) }
    }

    #[test]
    fn the_hub_goes_on_while_names_are_looked_up() {
        let ticks = Rc::new(Cell::new(0));
        let ticker = spawn({
            let ticks = ticks.clone();
            move || {
                loop {
                    greenroom::sleep(Duration::from_millis(1));
                    ticks.set(ticks.get() + 1);
                }
            }
        });
        let lookups: Vec<_> =
            (0..20).map(|i| spawn(move || lookup_host(&format!("slow-{i}.test:80")).is_err())).collect();
        assert!(greenroom::joinall(lookups).into_iter().all(Result::unwrap));
        assert!(ticks.get() >= 20, "{}", ticks.get());
        ticker.kill();
    }

    #[test]
    fn many_who_ask_for_one_name_share_the_answer() {
        in_child("lookup::slow::many_who_ask_for_one_name_share_the_answer", || {
            let lookups: Vec<_> = (0..100)
                .map(|port| {
                    spawn(move || (lookup_host(&format!("slow-shared.test:{port}")).unwrap_err().to_string(), port))
                })
                .collect();
            let errors: Vec<_> = greenroom::joinall(lookups).into_iter().map(Result::unwrap).collect();
            assert!(errors.iter().all(|(text, _)| *text == errors[0].0));
            assert_eq!(SLOW_CALLS.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn a_lookup_is_within_the_timeout_of_a_connect() {
        let start = std::time::Instant::now();
        greenroom::timeout(Duration::from_millis(10), || TcpStream::connect("slow-for-ever.test:80")).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
