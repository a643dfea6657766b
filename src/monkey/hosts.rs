//! Name lookups of old: `gethostbyname`, `gethostbyaddr` and their reentrant forms, made as those in `dns.rs`.
//!
//! A lookup on another thread has memory of its own: what it has found is copied, and the pointers in it are moved along. For the forms
//! that give a pointer to memory of theirs, each task keeps what it was given last: it stays until the task's next
//! such call, or its end, and no other task's call changes it.

#![allow(clippy::too_many_arguments, reason = "the C functions have so many")]

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::ptr;

use libc::{c_char, c_int, c_void, hostent, size_t, socklen_t};

use super::dns::{elsewhere, is_numeric};
use super::gate::{Errno, errno, set_errno};
use super::symbol::interpose;
use crate::hub::Hub;

interpose! {
    fn gethostbyname(name: *const c_char) -> *mut hostent, DNS => hosts_gethostbyname;
    fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent, DNS => hosts_gethostbyname2;
    fn gethostbyaddr(
        address: *const c_void,
        length: socklen_t,
        family: c_int,
    ) -> *mut hostent, DNS => hosts_gethostbyaddr;
    fn gethostbyname_r(
        name: *const c_char,
        entry: *mut hostent,
        buffer: *mut c_char,
        length: size_t,
        result: *mut *mut hostent,
        host_errno: *mut c_int,
    ) -> c_int, DNS => hosts_gethostbyname_r;
    fn gethostbyname2_r(
        name: *const c_char,
        family: c_int,
        entry: *mut hostent,
        buffer: *mut c_char,
        length: size_t,
        result: *mut *mut hostent,
        host_errno: *mut c_int,
    ) -> c_int, DNS => hosts_gethostbyname2_r;
    fn gethostbyaddr_r(
        address: *const c_void,
        address_length: socklen_t,
        family: c_int,
        entry: *mut hostent,
        buffer: *mut c_char,
        length: size_t,
        result: *mut *mut hostent,
        host_errno: *mut c_int,
    ) -> c_int, DNS => hosts_gethostbyaddr_r;
}

unsafe extern "C" {
    fn __h_errno_location() -> *mut c_int;
}

/// `NETDB_INTERNAL`: see `errno`.
const SEE_ERRNO: c_int = -1;

unsafe fn hosts_gethostbyname(hub: &'static Hub, name: *const c_char) -> *mut hostent {
    // SAFETY: passed on to the caller.
    kept(hub, unsafe { Question::name(name, None) })
}

unsafe fn hosts_gethostbyname2(hub: &'static Hub, name: *const c_char, family: c_int) -> *mut hostent {
    // SAFETY: passed on to the caller.
    kept(hub, unsafe { Question::name(name, Some(family)) })
}

unsafe fn hosts_gethostbyaddr(
    hub: &'static Hub,
    address: *const c_void,
    length: socklen_t,
    family: c_int,
) -> *mut hostent {
    // SAFETY: passed on to the caller.
    kept(hub, unsafe { Question::address(address, length, family) })
}

unsafe fn hosts_gethostbyname_r(
    hub: &'static Hub,
    name: *const c_char,
    entry: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    host_errno: *mut c_int,
) -> c_int {
    // SAFETY: passed on to the caller.
    let question = unsafe { Question::name(name, None) };
    // SAFETY: passed on to the caller.
    unsafe { Place { entry, buffer, length, result, host_errno }.fill(hub, question) }
}

unsafe fn hosts_gethostbyname2_r(
    hub: &'static Hub,
    name: *const c_char,
    family: c_int,
    entry: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    host_errno: *mut c_int,
) -> c_int {
    // SAFETY: passed on to the caller.
    let question = unsafe { Question::name(name, Some(family)) };
    // SAFETY: passed on to the caller.
    unsafe { Place { entry, buffer, length, result, host_errno }.fill(hub, question) }
}

unsafe fn hosts_gethostbyaddr_r(
    hub: &'static Hub,
    address: *const c_void,
    address_length: socklen_t,
    family: c_int,
    entry: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    host_errno: *mut c_int,
) -> c_int {
    // SAFETY: passed on to the caller.
    let question = unsafe { Question::address(address, address_length, family) };
    // SAFETY: passed on to the caller.
    unsafe { Place { entry, buffer, length, result, host_errno }.fill(hub, question) }
}

/// What is asked, in memory of its own.
enum Question {
    Name(CString, Option<c_int>),
    Address(Vec<u8>, c_int),
}

impl Question {
    /// # Safety
    ///
    /// A C string.
    unsafe fn name(name: *const c_char, family: Option<c_int>) -> Question {
        // SAFETY: passed on to the caller.
        Question::Name(unsafe { CStr::from_ptr(name) }.to_owned(), family)
    }

    /// # Safety
    ///
    /// So many bytes.
    unsafe fn address(address: *const c_void, length: socklen_t, family: c_int) -> Question {
        let length = if address.is_null() { 0 } else { length as usize };
        let mut bytes = vec![0_u8; length];
        if length > 0 {
            // SAFETY: passed on to the caller; the copy has as many.
            unsafe { ptr::copy_nonoverlapping(address.cast(), bytes.as_mut_ptr(), length) };
        }
        Question::Address(bytes, family)
    }

    /// Asks the original, in a buffer of `length` bytes that begins as `address` does, modulo the greatest alignment.
    fn ask(&self, address: usize, length: usize) -> Answer {
        let mut memory = vec![0_u8; length + ALIGN];
        let start = address.wrapping_sub(memory.as_ptr() as usize) % ALIGN;
        let buffer: *mut c_char = memory[start..].as_mut_ptr().cast();
        // SAFETY: integers and pointers, for which zero is a value.
        let mut entry: hostent = unsafe { std::mem::zeroed() };
        let (mut result, mut host_errno) = (ptr::null_mut(), 0);
        let (entry_place, result_place, errno_place) = (&raw mut entry, &raw mut result, &raw mut host_errno);
        let code = match self {
            // SAFETY: a C string, places for what is found, and a buffer of that length.
            Question::Name(name, None) => unsafe {
                original::gethostbyname_r(name.as_ptr(), entry_place, buffer, length, result_place, errno_place)
            },
            // SAFETY: as above.
            Question::Name(name, Some(family)) => unsafe {
                original::gethostbyname2_r(
                    name.as_ptr(),
                    *family,
                    entry_place,
                    buffer,
                    length,
                    result_place,
                    errno_place,
                )
            },
            // SAFETY: bytes of that length; the rest as above.
            Question::Address(bytes, family) => unsafe {
                original::gethostbyaddr_r(
                    bytes.as_ptr().cast(),
                    bytes.len() as socklen_t,
                    *family,
                    entry_place,
                    buffer,
                    length,
                    result_place,
                    errno_place,
                )
            },
        };
        let errno = errno();
        Answer { code, errno, host_errno, entry: (!result.is_null()).then_some(entry), memory, start, length }
    }

    /// Makes the lookup here if no server will be asked, else on a native thread.
    fn answer<R: Send + 'static>(
        self,
        hub: &'static Hub,
        ask: impl FnOnce(&Question) -> R + Send + 'static,
    ) -> Result<R, Errno> {
        match &self {
            Question::Name(name, _) if is_numeric(name) => Ok(hub.bare(|| ask(&self))),
            _ => elsewhere(hub, move || ask(&self)),
        }
    }
}

const ALIGN: usize = 16;

/// What a lookup has found, with the memory that the entry's pointers lead to.
struct Answer {
    code: c_int,
    errno: Errno,
    host_errno: c_int,
    entry: Option<hostent>,
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

// SAFETY: the pointers lead into the memory that it owns, or to what never changes.
unsafe impl Send for Answer {}

/// Where the caller of a reentrant form wants the answer.
struct Place {
    entry: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    host_errno: *mut c_int,
}

impl Place {
    /// # Safety
    ///
    /// The pointers are good, and there are so many bytes in the buffer.
    unsafe fn fill(self, hub: &'static Hub, question: Question) -> c_int {
        let (address, length) = (self.buffer as usize, self.length);
        let answer = question.answer(hub, move |question| question.ask(address, length));
        let (code, host_errno, entry) = match &answer {
            Ok(answer) => (answer.code, answer.host_errno, answer.entry),
            Err(number) => (*number, SEE_ERRNO, None),
        };
        // SAFETY: passed on to the caller.
        unsafe { *self.host_errno = host_errno };
        let found = match (entry, &answer) {
            (Some(entry), Ok(answer)) => {
                // SAFETY: passed on to the caller; the buffer is as long as the one that was filled.
                let moved = unsafe { answer.move_to(entry, self.buffer) };
                // SAFETY: passed on to the caller.
                unsafe { *self.entry = moved };
                self.entry
            }
            _ => ptr::null_mut(),
        };
        // SAFETY: passed on to the caller.
        unsafe { *self.result = found };
        if code != 0 {
            set_errno(answer.map_or(code, |answer| answer.errno));
        }
        code
    }
}

impl Answer {
    /// Copies the memory to `buffer`, and gives the entry with its pointers leading there.
    ///
    /// # Safety
    ///
    /// There is room for as much.
    unsafe fn move_to(&self, mut entry: hostent, buffer: *mut c_char) -> hostent {
        let from: *const c_char = self.memory[self.start..].as_ptr().cast();
        // SAFETY: passed on to the caller; ours has so many behind its start.
        unsafe { ptr::copy_nonoverlapping(from, buffer, self.length) };
        let within = |pointer: *const c_void| {
            let offset = (pointer as usize).wrapping_sub(from as usize);
            (offset < self.length).then_some(offset)
        };
        let moved = |pointer: *mut c_char| match within(pointer.cast()) {
            Some(offset) => buffer.wrapping_add(offset),
            None => pointer,
        };
        entry.h_name = moved(entry.h_name);
        for list in [&mut entry.h_aliases, &mut entry.h_addr_list] {
            if within((*list).cast()).is_none() {
                continue;
            }
            *list = moved((*list).cast()).cast();
            let mut place = *list;
            // SAFETY: a list of pointers that ends with a null, in the copy, which is aligned as the original is.
            while let pointer = unsafe { *place }
                && !pointer.is_null()
            {
                // SAFETY: as above.
                unsafe { *place = moved(pointer) };
                place = place.wrapping_add(1);
            }
        }
        entry
    }
}

crate::task_local! {
    /// What the task was given last.
    static KEPT: RefCell<Option<Box<Answer>>> = RefCell::new(None);
}

/// Answers in memory that the task keeps.
fn kept(hub: &'static Hub, question: Question) -> *mut hostent {
    let answer = question.answer(hub, |question| {
        let mut length = 1024;
        loop {
            let answer = question.ask(0, length);
            if answer.code != libc::ERANGE || length > MOST {
                return answer;
            }
            length *= 2;
        }
    });
    let answer = match answer {
        Ok(answer) => answer,
        Err(number) => {
            set_errno(number);
            set_host_errno(SEE_ERRNO);
            return ptr::null_mut();
        }
    };
    if answer.entry.is_none() {
        set_errno(answer.errno);
        set_host_errno(answer.host_errno);
        return ptr::null_mut();
    }
    let mut answer = Box::new(answer);
    let entry = answer.entry.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    // In the task's last destructors it stays for ever.
    let mut answer = Some(answer);
    let before = KEPT.try_with(|kept| kept.replace(answer.take()));
    drop(before);
    if let Some(answer) = answer {
        Box::leak(answer);
    }
    entry
}

/// No host has so many addresses.
const MOST: usize = 1 << 20;

fn set_host_errno(number: c_int) {
    // SAFETY: no precondition.
    let place = unsafe { __h_errno_location() };
    // SAFETY: the place is the thread's own, and always there.
    unsafe { *place = number };
}
