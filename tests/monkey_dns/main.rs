//! Patched name lookups: rule 19 for code that knows nothing of this crate.

#[path = "../common/mod.rs"]
mod common;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::Debug;
use std::mem;
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::Command;
use std::ptr;
use std::thread;

use common::{check, soon};
use greenroom::monkey;
use greenroom::{joinall, spawn, yield_now};
use libc::{addrinfo, hostent, sockaddr};

fn patched(body: impl FnOnce() + Send + 'static) {
    // SAFETY: tasks of these tests share only what is Send.
    unsafe { monkey::patch_all() };
    check(body);
}

/// What a call gives in a task, and on a thread that has no hub.
#[track_caller]
fn same<T: PartialEq + Debug + Send + 'static>(call: impl Fn() -> T + Send + Sync + Clone + 'static) {
    let here = call.clone();
    let in_task = spawn(here).join().unwrap();
    let on_thread = thread::spawn(call).join().unwrap();
    assert_eq!(in_task, on_thread);
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

/// Flags, family, kind, protocol, the address's bytes, the name.
type Found = (c_int, c_int, c_int, c_int, Vec<u8>, Option<String>);

fn look_up(node: Option<&str>, service: Option<&str>, hints: Option<[c_int; 4]>) -> Result<Vec<Found>, (c_int, c_int)> {
    let (node, service) = (node.map(c), service.map(c));
    let hints = hints.map(|[ai_flags, ai_family, ai_socktype, ai_protocol]| addrinfo {
        ai_flags,
        ai_family,
        ai_socktype,
        ai_protocol,
        ai_addrlen: 0,
        ai_addr: ptr::null_mut(),
        ai_canonname: ptr::null_mut(),
        ai_next: ptr::null_mut(),
    });
    let mut list = ptr::null_mut();
    let hints = hints.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: C strings or null, hints or null, and a place.
    let code = unsafe { libc::getaddrinfo(pointer(node.as_ref()), pointer(service.as_ref()), hints, &mut list) };
    if code != 0 {
        let number = std::io::Error::last_os_error().raw_os_error().unwrap();
        return Err((code, if code == libc::EAI_SYSTEM { number } else { 0 }));
    }
    let mut found = Vec::new();
    let mut next: *const addrinfo = list;
    // SAFETY: a list that ends with null.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: so many bytes.
        let address = unsafe { std::slice::from_raw_parts(entry.ai_addr.cast::<u8>(), entry.ai_addrlen as usize) };
        // SAFETY: null or a C string.
        let name = (!entry.ai_canonname.is_null()).then(|| unsafe { text(entry.ai_canonname) });
        found.push((entry.ai_flags, entry.ai_family, entry.ai_socktype, entry.ai_protocol, address.to_vec(), name));
        next = entry.ai_next;
    }
    // SAFETY: made above.
    unsafe { libc::freeaddrinfo(list) };
    Ok(found)
}

/// # Safety
///
/// A C string.
unsafe fn text(text: *const c_char) -> String {
    // SAFETY: passed on to the caller.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
}

#[test]
fn getaddrinfo_answers_as_the_original_does() {
    patched(|| {
        let nodes = [
            None,
            Some("localhost"),
            Some("127.0.0.1"),
            Some("127.1"),
            Some("::1"),
            Some("fe80::1%lo"),
            Some("1.2.3.4.5"),
            Some(""),
        ];
        let hints = [
            None,
            Some([0, 0, libc::SOCK_STREAM, 0]),
            Some([libc::AI_PASSIVE, libc::AF_INET, 0, 0]),
            Some([libc::AI_CANONNAME, libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP]),
            Some([libc::AI_NUMERICHOST | libc::AI_NUMERICSERV, libc::AF_INET6, libc::SOCK_STREAM, 0]),
            Some([0, 77, 0, 0]),
            Some([1 << 30, 0, 0, 0]),
            Some([libc::AI_CANONNAME, 0, libc::SOCK_STREAM, libc::IPPROTO_UDP]),
        ];
        for node in nodes {
            for service in [None, Some("80"), Some("http"), Some("no-such-service")] {
                for hint in hints {
                    same(move || look_up(node, service, hint));
                }
            }
        }
    });
}

/// Name, aliases, family, length, addresses.
type Host = (String, Vec<String>, c_int, c_int, Vec<Vec<u8>>);

/// # Safety
///
/// Null, or a host.
unsafe fn host(entry: *const hostent) -> Option<Host> {
    // SAFETY: passed on to the caller.
    let entry = unsafe { entry.as_ref() }?;
    let list = |mut next: *mut *mut c_char| {
        let mut all = Vec::new();
        // SAFETY: a list that ends with null.
        while let item = unsafe { *next }
            && !item.is_null()
        {
            all.push(item);
            next = next.wrapping_add(1);
        }
        all
    };
    // SAFETY: a C string.
    let aliases = list(entry.h_aliases).into_iter().map(|alias| unsafe { text(alias) }).collect();
    let bytes = |address: *mut c_char| {
        // SAFETY: so many bytes.
        unsafe { std::slice::from_raw_parts(address.cast::<u8>(), entry.h_length as usize) }.to_vec()
    };
    let addresses = list(entry.h_addr_list).into_iter().map(bytes).collect();
    // SAFETY: a C string.
    Some((unsafe { text(entry.h_name) }, aliases, entry.h_addrtype, entry.h_length, addresses))
}

unsafe extern "C" {
    fn gethostbyname(name: *const c_char) -> *mut hostent;
    fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent;
    fn gethostbyaddr(address: *const c_void, length: libc::socklen_t, family: c_int) -> *mut hostent;
    fn gethostbyname_r(
        name: *const c_char,
        entry: *mut hostent,
        buffer: *mut c_char,
        length: usize,
        result: *mut *mut hostent,
        host_errno: *mut c_int,
    ) -> c_int;
    fn gethostbyname2_r(
        name: *const c_char,
        family: c_int,
        entry: *mut hostent,
        buffer: *mut c_char,
        length: usize,
        result: *mut *mut hostent,
        host_errno: *mut c_int,
    ) -> c_int;
    fn gethostbyaddr_r(
        address: *const c_void,
        address_length: libc::socklen_t,
        family: c_int,
        entry: *mut hostent,
        buffer: *mut c_char,
        length: usize,
        result: *mut *mut hostent,
        host_errno: *mut c_int,
    ) -> c_int;
    fn __h_errno_location() -> *mut c_int;
}

fn host_errno() -> c_int {
    // SAFETY: no precondition.
    let place = unsafe { __h_errno_location() };
    // SAFETY: always there.
    unsafe { *place }
}

const NAMES: [&str; 6] = ["localhost", "127.0.0.1", "127.1", "::1", "1.2.3.4.5", "no name"];
const FAMILIES: [c_int; 3] = [libc::AF_INET, libc::AF_INET6, 77];

#[test]
fn hosts_are_found_as_by_the_originals() {
    patched(|| {
        let or_error = |found: Option<Host>| found.ok_or_else(host_errno);
        for name in NAMES {
            same(move || {
                let name = c(name);
                // SAFETY: a C string.
                let found = unsafe { gethostbyname(name.as_ptr()) };
                // SAFETY: null, or a host.
                or_error(unsafe { host(found) })
            });
            for family in FAMILIES {
                same(move || {
                    let name = c(name);
                    // SAFETY: a C string.
                    let found = unsafe { gethostbyname2(name.as_ptr(), family) };
                    // SAFETY: null, or a host.
                    or_error(unsafe { host(found) })
                });
            }
        }
        for (address, length, family) in
            [([127, 0, 0, 1], 4, libc::AF_INET), ([127, 0, 0, 1], 3, libc::AF_INET), ([127, 0, 0, 1], 4, 77)]
        {
            same(move || {
                // SAFETY: four bytes.
                let found = unsafe { gethostbyaddr(address.as_ptr().cast(), length, family) };
                // SAFETY: null, or a host.
                or_error(unsafe { host(found) })
            });
        }
    });
}

/// Calls a reentrant form with a buffer of this length.
fn within(
    length: usize,
    call: impl FnOnce(*mut hostent, *mut c_char, usize, *mut *mut hostent, *mut c_int) -> c_int,
) -> (c_int, Option<Host>, c_int) {
    let mut buffer = vec![0_usize; length.div_ceil(size_of::<usize>()) + 1];
    // SAFETY: integers and pointers.
    let mut entry: hostent = unsafe { mem::zeroed() };
    let (mut found, mut error) = (ptr::dangling_mut(), 77);
    let code = call(&mut entry, buffer[1..].as_mut_ptr().cast(), length, &mut found, &mut error);
    assert!(found.is_null() || found == &raw mut entry);
    // With success it need not be written.
    let error = if found.is_null() { error } else { 0 };
    // SAFETY: null, or a host.
    (code, unsafe { host(found) }, error)
}

#[test]
fn reentrant_forms_fill_the_callers_buffer() {
    patched(|| {
        for length in [0, 8, 30, 64, 100, 300, 1024, 10_000] {
            for name in NAMES {
                same(move || {
                    within(length, |entry, buffer, length, found, error| {
                        let name = c(name);
                        // SAFETY: a C string, and places.
                        unsafe { gethostbyname_r(name.as_ptr(), entry, buffer, length, found, error) }
                    })
                });
                for family in FAMILIES {
                    same(move || {
                        within(length, |entry, buffer, length, found, error| {
                            let name = c(name);
                            // SAFETY: a C string, and places.
                            unsafe { gethostbyname2_r(name.as_ptr(), family, entry, buffer, length, found, error) }
                        })
                    });
                }
            }
            same(move || {
                within(length, |entry, buffer, length, found, error| {
                    let address = [127_u8, 0, 0, 1];
                    let pointer = address.as_ptr().cast();
                    // SAFETY: four bytes, and places.
                    unsafe { gethostbyaddr_r(pointer, 4, libc::AF_INET, entry, buffer, length, found, error) }
                })
            });
        }
    });
}

#[test]
fn each_task_keeps_the_host_that_it_was_given() {
    patched(|| {
        let tasks: Vec<_> = (1..50_u8)
            .map(|number| {
                spawn(move || {
                    let name = c(&format!("127.0.0.{number}"));
                    // SAFETY: a C string.
                    let found = unsafe { gethostbyname(name.as_ptr()) };
                    yield_now();
                    // SAFETY: no call of this task has come between.
                    let kept = unsafe { host(found) }.unwrap();
                    assert_eq!(kept.4, [[127, 0, 0, number]]);
                })
            })
            .collect();
        for task in joinall(tasks) {
            task.unwrap();
        }
    });
}

fn name_of(length: libc::socklen_t, rooms: (usize, usize), flags: c_int) -> (c_int, Vec<u8>, Vec<u8>) {
    // SAFETY: integers.
    let mut address: libc::sockaddr_in = unsafe { mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = 80_u16.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    let (mut host, mut service) = (vec![b'?'; rooms.0], vec![b'?'; rooms.1]);
    let place = |room: &mut Vec<u8>| if room.is_empty() { ptr::null_mut() } else { room.as_mut_ptr().cast() };
    let (host_place, service_place) = (place(&mut host), place(&mut service));
    // SAFETY: an address, and rooms.
    let code = unsafe {
        libc::getnameinfo(
            (&raw const address).cast::<sockaddr>(),
            length,
            host_place,
            rooms.0 as libc::socklen_t,
            service_place,
            rooms.1 as libc::socklen_t,
            flags,
        )
    };
    if code != 0 {
        return (code, Vec::new(), Vec::new());
    }
    (code, host, service)
}

const ADDRESS: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

#[test]
fn getnameinfo_answers_as_the_original_does() {
    patched(|| {
        let flags = [
            0,
            libc::NI_NUMERICHOST,
            libc::NI_NUMERICSERV,
            libc::NI_NAMEREQD,
            libc::NI_DGRAM,
            libc::NI_NOFQDN,
            1 << 20,
        ];
        for flags in flags {
            for rooms in [(100, 100), (0, 100), (100, 0), (0, 0), (3, 100), (100, 1), (10, 5)] {
                for length in [ADDRESS, ADDRESS - 1, 1, 0, 4096] {
                    same(move || name_of(length, rooms, flags));
                }
            }
        }
    });
}

#[test]
fn std_looks_up_and_connects_by_name() {
    patched(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                spawn(move || {
                    assert!(("localhost", port).to_socket_addrs().unwrap().all(|address| address.port() == port));
                    TcpStream::connect(("localhost", port)).unwrap().peer_addr().unwrap().port()
                })
            })
            .collect();
        for found in joinall(tasks) {
            assert_eq!(found.unwrap(), port);
        }
    });
}

/// Runs a test in a process of its own, where slow.c stands between us and the C library.
#[track_caller]
fn slowed(test: &str, body: impl FnOnce() + Send + 'static) {
    const KEY: &str = "GREENROOM_SLOWED";
    if std::env::var(KEY).is_ok_and(|child| child == test) {
        return patched(body);
    }
    let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("slow-{test}-{}.so", std::process::id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/monkey_dns/slow.c");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&library).arg(source).output();
    let built = built.expect("cc is needed: install the Debian package build-essential");
    assert!(built.status.success(), "{}", common::stderr(&built));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(KEY, test).env("LD_PRELOAD", &library);
    let output = command.output().unwrap();
    std::fs::remove_file(library).unwrap();
    assert!(output.status.success(), "{}", common::stderr(&output));
}

/// A function or value of slow.c.
fn find(name: &CStr) -> *mut c_void {
    // SAFETY: a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    assert!(!found.is_null());
    found
}

fn looked_up() -> c_int {
    // SAFETY: of this type.
    let function = unsafe { mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(find(c"looked_up")) };
    function()
}

fn open_gate() {
    // SAFETY: of this type.
    let function = unsafe { mem::transmute::<*mut c_void, extern "C" fn()>(find(c"open_gate")) };
    function();
}

fn lists() -> c_int {
    // SAFETY: a number that is there for ever, and changed atomically.
    unsafe { std::sync::atomic::AtomicI32::from_ptr(find(c"lists").cast()) }.load(std::sync::atomic::Ordering::SeqCst)
}

#[test]
fn lookups_are_made_at_once() {
    slowed("lookups_are_made_at_once", || {
        // Each waits until all are inside.
        let tasks: Vec<_> = (0..40).map(|_| spawn(|| look_up(Some("meet40"), Some("80"), None))).collect();
        for found in joinall(tasks) {
            assert!(found.unwrap().unwrap().iter().all(|found| found.4[4..8] == [127, 0, 0, 1]));
        }
        assert_eq!(lists(), 0);
    });
}

#[test]
fn hosts_are_looked_up_at_once() {
    slowed("hosts_are_looked_up_at_once", || {
        let by_name = |family: Option<c_int>| {
            let found = match family {
                // SAFETY: a C string.
                None => unsafe { gethostbyname(c"meet12".as_ptr()) },
                // SAFETY: as above.
                Some(family) => unsafe { gethostbyname2(c"meet12".as_ptr(), family) },
            };
            // SAFETY: null, or a host.
            unsafe { host(found) }
        };
        let mut tasks: Vec<_> = (0..4).map(|_| spawn(move || by_name(None))).collect();
        tasks.extend((0..4).map(|_| spawn(move || by_name(Some(libc::AF_INET)))));
        tasks.extend((0..4).map(|_| {
            spawn(|| {
                within(1024, |entry, buffer, length, found, error| {
                    // SAFETY: a C string, and places.
                    unsafe { gethostbyname_r(c"meet12".as_ptr(), entry, buffer, length, found, error) }
                })
                .1
            })
        }));
        for found in joinall(tasks) {
            assert_eq!(found.unwrap().unwrap().4, [[127, 0, 0, 1]]);
        }
    });
}

#[test]
fn names_are_looked_up_at_once() {
    slowed("names_are_looked_up_at_once", || {
        let tasks: Vec<_> = (0..3).map(|_| spawn(|| name_of(ADDRESS, (100, 100), 0))).collect();
        for found in joinall(tasks) {
            let (code, host, service) = found.unwrap();
            assert_eq!(code, 0);
            assert!(host.starts_with(b"localhost\0") && service.starts_with(b"http\0"));
        }
    });
}

#[test]
fn a_kill_is_told_and_the_result_is_freed() {
    slowed("a_kill_is_told_and_the_result_is_freed", || {
        let begun = spawn(|| look_up(Some("gate"), None, None));
        let late = spawn(|| {
            let mut found = Ok(Vec::new());
            let late = greenroom::timeout(common::MS, || found = look_up(Some("gate"), None, None));
            assert!(late.is_err());
            found
        });
        let by_host = spawn(|| {
            // SAFETY: a C string.
            let found = unsafe { gethostbyname(c"gate".as_ptr()) };
            assert!(found.is_null());
            (host_errno(), std::io::Error::last_os_error().raw_os_error())
        });
        let in_buffer = spawn(|| {
            within(100, |entry, buffer, length, found, error| {
                // SAFETY: a C string, and places.
                unsafe { gethostbyname_r(c"gate".as_ptr(), entry, buffer, length, found, error) }
            })
        });
        // The one whose time runs out may be gone before a thread has begun.
        soon(|| {
            while looked_up() < 3 {
                yield_now();
            }
        });
        for task in [begun.task(), by_host.task(), in_buffer.task()] {
            task.kill_nowait();
        }
        assert_eq!(begun.join().unwrap(), Err((libc::EAI_SYSTEM, libc::ECANCELED)));
        assert_eq!(late.join().unwrap(), Err((libc::EAI_SYSTEM, libc::ECANCELED)));
        assert_eq!(by_host.join().unwrap(), (-1, Some(libc::ECANCELED)));
        assert_eq!(in_buffer.join().unwrap(), (libc::ECANCELED, None, -1));
        open_gate();
        assert!(look_up(Some("gate"), None, None).is_ok());
        soon(|| {
            while lists() != 0 {
                greenroom::sleep(common::MS);
            }
        });
    });
}
