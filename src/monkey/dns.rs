//! Name lookups: `getaddrinfo` and `getnameinfo` on native threads, which only the caller waits for.
//!
//! The C library's inner calls are its own, and cannot be had; so the whole lookup goes elsewhere, with copies of what it is asked. The
//! list that comes back is the C library's, as is `freeaddrinfo`. What needs no name server is answered at once: addresses that are
//! spelled in digits, and lookups without a host.
//!
//! A caller that is killed gets `EAI_SYSTEM` with `ECANCELED`. The lookup goes on, and its result is freed.
//!
//! Not covered: the resolver's own functions (`res_query` and its like), `getaddrinfo_a`, and the databases of services, users and
//! groups.

#![allow(clippy::too_many_arguments, reason = "the C functions have so many")]

use std::ffi::CStr;
use std::net::IpAddr;
use std::ptr;
use std::sync::LazyLock;

use libc::{addrinfo, c_char, c_int, sockaddr, socklen_t};

use super::gate::{Errno, enclosed, errno, set_errno};
use super::symbol::interpose;
use crate::hub::Hub;
use crate::offload::ThreadPool;

interpose! {
    fn getaddrinfo(
        node: *const c_char,
        service: *const c_char,
        hints: *const addrinfo,
        result: *mut *mut addrinfo,
    ) -> c_int, DNS => dns_getaddrinfo;
    fn getnameinfo(
        address: *const sockaddr,
        length: socklen_t,
        host: *mut c_char,
        host_room: socklen_t,
        service: *mut c_char,
        service_room: socklen_t,
        flags: c_int,
    ) -> c_int, DNS => dns_getnameinfo;
}

unsafe extern "C" {
    fn inet_aton(text: *const c_char, address: *mut libc::in_addr) -> c_int;
}

/// The most native threads that look names up for patched calls; more lookups queue.
const MAX_THREADS: usize = 64;

/// Makes a lookup on a native thread. Its result is dropped there if the caller has gone.
pub(super) fn elsewhere<T: Send + 'static>(
    hub: &'static Hub,
    lookup: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Errno> {
    static POOL: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::named(MAX_THREADS, "greenroom-names"));
    let pool = hub.bare(|| &*POOL);
    enclosed(hub, || pool.apply(lookup))
}

unsafe fn dns_getaddrinfo(
    hub: &'static Hub,
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: passed on to the caller.
    let hints_given = unsafe { hints.as_ref() };
    // SAFETY: passed on to the caller.
    let host = unsafe { text(node) };
    let Some(host) = host.filter(|host| !is_numeric(host) && !hints_given.is_some_and(wants_numeric)) else {
        // SAFETY: passed on to the caller.
        return unsafe { original::getaddrinfo(node, service, hints, result) };
    };
    // SAFETY: passed on to the caller.
    let service = unsafe { text(service) }.map(CStr::to_owned);
    let host = host.to_owned();
    let hints = hints_given.map(|hints| (hints.ai_flags, hints.ai_family, hints.ai_socktype, hints.ai_protocol));

    let answer = elsewhere(hub, move || List::look_up(&host, service.as_deref(), hints));
    let (code, number, list) = match answer {
        Ok(answer) => answer,
        Err(number) => return failed(number),
    };
    if code == libc::EAI_SYSTEM {
        return failed(number);
    }
    if code == 0 {
        // SAFETY: the caller's place for the list.
        unsafe { *result = list.into_raw() };
    }
    code
}

fn failed(number: Errno) -> c_int {
    set_errno(number);
    libc::EAI_SYSTEM
}

/// # Safety
///
/// Null, or a C string that stays there.
pub(super) unsafe fn text<'a>(text: *const c_char) -> Option<&'a CStr> {
    if text.is_null() {
        return None;
    }
    // SAFETY: passed on to the caller.
    Some(unsafe { CStr::from_ptr(text) })
}

fn wants_numeric(hints: &addrinfo) -> bool {
    hints.ai_flags & libc::AI_NUMERICHOST != 0
}

/// Whether this is an address in one of its spellings, for which no server is asked.
pub(super) fn is_numeric(host: &CStr) -> bool {
    let Ok(plain) = host.to_str() else { return false };
    // The rest of it names an interface.
    let address = plain.split_once('%').map_or(plain, |(address, _)| address);
    if address.parse::<IpAddr>().is_ok() {
        return true;
    }
    let is_number = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | 'x' | 'X');
    let mut ignored = libc::in_addr { s_addr: 0 };
    // SAFETY: a C string, and a place for an address.
    plain.chars().all(is_number) && unsafe { inet_aton(host.as_ptr(), &raw mut ignored) } != 0
}

/// The C library's list of addresses, freed when dropped.
struct List(*mut addrinfo);

// SAFETY: memory of the C library's allocator, which nobody else has.
unsafe impl Send for List {}

impl List {
    /// Asks the original: gives its answer, the error number, and the list, if there is one.
    fn look_up(
        host: &CStr,
        service: Option<&CStr>,
        hints: Option<(c_int, c_int, c_int, c_int)>,
    ) -> (c_int, Errno, List) {
        let hints = hints.map(|(ai_flags, ai_family, ai_socktype, ai_protocol)| addrinfo {
            ai_flags,
            ai_family,
            ai_socktype,
            ai_protocol,
            ai_addrlen: 0,
            ai_addr: ptr::null_mut(),
            ai_canonname: ptr::null_mut(),
            ai_next: ptr::null_mut(),
        });
        let service = service.map_or(ptr::null(), CStr::as_ptr);
        let hints = hints.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mut list = ptr::null_mut();
        // SAFETY: C strings or null, hints or null, and a place for the list; all alive for the call.
        let code = unsafe { original::getaddrinfo(host.as_ptr(), service, hints, &raw mut list) };
        (code, errno(), List(if code == 0 { list } else { ptr::null_mut() }))
    }

    fn into_raw(self) -> *mut addrinfo {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for List {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: made by the function that this one belongs to, and freed once.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

/// What a lookup of names has found: its answer, the error number, and both names, as far as they were asked for.
type Names = (c_int, Errno, Vec<u8>, Vec<u8>);

unsafe fn dns_getnameinfo(
    hub: &'static Hub,
    address: *const sockaddr,
    length: socklen_t,
    host: *mut c_char,
    host_room: socklen_t,
    service: *mut c_char,
    service_room: socklen_t,
    flags: c_int,
) -> c_int {
    let is_asked = !host.is_null() && host_room > 0 && !address.is_null() && length > 0;
    if !is_asked || flags & libc::NI_NUMERICHOST != 0 {
        // SAFETY: passed on to the caller.
        return unsafe { original::getnameinfo(address, length, host, host_room, service, service_room, flags) };
    }
    // No address is longer; what says that it is, is the original's to refuse.
    let size = (length as usize).min(size_of::<libc::sockaddr_storage>());
    // SAFETY: integers, for which zero is a value.
    let mut copied: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    // SAFETY: so many bytes of the caller's, and there is room for them.
    unsafe { ptr::copy_nonoverlapping(address.cast::<u8>(), (&raw mut copied).cast::<u8>(), size) };
    let rooms = (room(host, host_room), room(service, service_room));

    let answer = elsewhere(hub, move || names_of(&copied, size, rooms, flags));
    let (code, number, host_found, service_found) = match answer {
        Ok(names) => names,
        Err(number) => return failed(number),
    };
    if code == libc::EAI_SYSTEM {
        return failed(number);
    }
    if code == 0 {
        for (found, place) in [(host_found, host), (service_found, service)] {
            if !found.is_empty() {
                // SAFETY: no more than the room that was given.
                unsafe { ptr::copy_nonoverlapping(found.as_ptr().cast(), place, found.len()) };
            }
        }
    }
    code
}

/// The room for a name; none if none is asked for. No name is longer than this.
fn room(place: *mut c_char, room: socklen_t) -> usize {
    const MOST: usize = 1 << 16;
    if place.is_null() { 0 } else { (room as usize).min(MOST) }
}

fn names_of(
    address: &libc::sockaddr_storage,
    length: usize,
    (host_room, service_room): (usize, usize),
    flags: c_int,
) -> Names {
    let (mut host, mut service) = (vec![0_u8; host_room], vec![0_u8; service_room]);
    let pointer = |name: &mut Vec<u8>| if name.is_empty() { ptr::null_mut() } else { name.as_mut_ptr().cast() };
    let (host_place, service_place) = (pointer(&mut host), pointer(&mut service));
    // SAFETY: an address, and rooms of these sizes or null, all alive for the call.
    let code = unsafe {
        original::getnameinfo(
            ptr::from_ref(address).cast(),
            length as socklen_t,
            host_place,
            host_room as socklen_t,
            service_place,
            service_room as socklen_t,
            flags,
        )
    };
    let number = errno();
    for name in [&mut host, &mut service] {
        let end = name.iter().position(|&byte| byte == 0).map_or(name.len(), |zero| zero + 1);
        name.truncate(end);
    }
    (code, number, host, service)
}
