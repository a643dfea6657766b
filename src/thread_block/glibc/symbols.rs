//! Calls of the C library that a block of our own would lead astray.
//!
//! Some ask the kernel for a thread by its number. A block's is made up, so that mutexes tell tasks apart; here it is the kernel's
//! own for the length of the call, if the thread asked for is the caller. Others go through the C library's list of all
//! threads and take the caller for one of them: they run on the thread's own block.
//!
//! Each definition stands in front of the C library's, for the whole process: the original, and one test.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::layout::{Layout, layout, original};
use super::{CURRENT, Record, errno, on_root, set_errno};

/// A function of the C library, looked up at its first use.
struct Original {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Original {
    const fn new(name: &'static CStr) -> Original {
        Original { name, found: AtomicPtr::new(std::ptr::null_mut()) }
    }

    fn get(&self) -> *mut c_void {
        let mut found = self.found.load(Ordering::Relaxed);
        if found.is_null() {
            found = original(self.name);
            self.found.store(found, Ordering::Relaxed);
        }
        found
    }
}

/// Calls `f`, with the kernel's number in the caller's descriptor if the caller is a task that asks for itself.
#[inline]
fn by_number(thread: libc::pthread_t, f: impl FnOnce() -> c_int) -> c_int {
    // SAFETY: null, or the running block's record, which lives as long as the process.
    match unsafe { CURRENT.get().as_ref() } {
        Some(record) => for_task(record, thread, f),
        None => f(),
    }
}

#[cold]
fn for_task(record: &Record, thread: libc::pthread_t, f: impl FnOnce() -> c_int) -> c_int {
    match layout() {
        Ok(layout) if layout.descriptor(record.pointer.get()) == thread as usize => {
            layout.with_kernel_tid(record.pointer.get(), f)
        }
        _ => f(),
    }
}

/// What is to be done to an answer.
macro_rules! then {
    ([] $done:ident, $($argument:ident),*) => { $done };
    ([$then:path] $done:ident, $($argument:ident),*) => {
        // SAFETY: passed on to the caller.
        unsafe { $then($done, $($argument),*) }
    };
}

macro_rules! by_number {
    ($($name:literal fn $function:ident($($argument:ident: $type:ty),*) $(then $then:path)?;)*) => {$(
        /// As the C library's function of this name.
        ///
        /// # Safety
        ///
        /// As that.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $function(thread: libc::pthread_t, $($argument: $type),*) -> c_int {
            static ORIGINAL: Original = Original::new($name);
            let found = ORIGINAL.get();
            if found.is_null() {
                return libc::ENOSYS;
            }
            // SAFETY: the function of this name has this type.
            let found = unsafe {
                mem::transmute::<*mut c_void, unsafe extern "C" fn(libc::pthread_t, $($type),*) -> c_int>(found)
            };
            // SAFETY: passed on to the caller.
            let done = by_number(thread, || unsafe { found(thread, $($argument),*) });
            then!([$($then)?] done, $($argument),*)
        }
    )*};
}

by_number! {
    c"pthread_getattr_np" fn pthread_getattr_np(attributes: *mut libc::pthread_attr_t) then with_guard;
    c"pthread_getaffinity_np" fn pthread_getaffinity_np(size: usize, set: *mut libc::cpu_set_t);
    c"pthread_setaffinity_np" fn pthread_setaffinity_np(size: usize, set: *const libc::cpu_set_t);
    c"pthread_getcpuclockid" fn pthread_getcpuclockid(clock: *mut libc::clockid_t);
    c"pthread_getschedparam" fn pthread_getschedparam(policy: *mut c_int, parameters: *mut libc::sched_param);
    c"pthread_setschedparam" fn pthread_setschedparam(policy: c_int, parameters: *const libc::sched_param);
    c"pthread_setschedprio" fn pthread_setschedprio(priority: c_int);
    c"pthread_sigqueue" fn pthread_sigqueue(signal: c_int, value: libc::sigval);
}

macro_rules! on_root {
    ($($name:literal fn $function:ident($($argument:ident: $type:ty),*);)*) => {$(
        /// As the C library's function of this name.
        ///
        /// # Safety
        ///
        /// As that.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $function($($argument: $type),*) -> c_int {
            static ORIGINAL: Original = Original::new($name);
            let found = ORIGINAL.get();
            if found.is_null() {
                return refuse();
            }
            // SAFETY: the function of this name has this type.
            let found = unsafe { mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> c_int>(found) };
            // SAFETY: passed on to the caller.
            with_errno(|| unsafe { found($($argument),*) })
        }
    )*};
}

// They change every thread's identity, each of the list by a signal but the caller.
on_root! {
    c"setuid" fn setuid(id: libc::uid_t);
    c"setgid" fn setgid(id: libc::gid_t);
    c"seteuid" fn seteuid(id: libc::uid_t);
    c"setegid" fn setegid(id: libc::gid_t);
    c"setreuid" fn setreuid(real: libc::uid_t, effective: libc::uid_t);
    c"setregid" fn setregid(real: libc::gid_t, effective: libc::gid_t);
    c"setresuid" fn setresuid(real: libc::uid_t, effective: libc::uid_t, saved: libc::uid_t);
    c"setresgid" fn setresgid(real: libc::gid_t, effective: libc::gid_t, saved: libc::gid_t);
    c"setgroups" fn setgroups(count: usize, groups: *const libc::gid_t);
    c"initgroups" fn initgroups(user: *const c_char, group: libc::gid_t);
}

#[cold]
fn refuse() -> c_int {
    set_errno(libc::ENOSYS);
    -1
}

/// Runs `f` on the thread's own block; the caller's `errno` is what `f` has left there.
fn with_errno(f: impl FnOnce() -> c_int) -> c_int {
    if CURRENT.get().is_null() {
        return f();
    }
    let with_code = || {
        // The root's, here.
        let result = f();
        (result, errno())
    };
    let (result, code) = on_root(with_code);
    if result < 0 {
        set_errno(code);
    }
    result
}

/// A task's stack has a guard too, of a page, which std insists on.
///
/// # Safety
///
/// The attributes are good, if the call that was to fill them is `done`.
unsafe fn with_guard(done: c_int, attributes: *mut libc::pthread_attr_t) -> c_int {
    let mut size = 0;
    if done == 0
        && !CURRENT.get().is_null()
        // SAFETY: passed on to the caller.
        && unsafe { libc::pthread_attr_getguardsize(attributes, &raw mut size) } == 0
        && size == 0
    {
        // SAFETY: as above.
        unsafe { libc::pthread_attr_setguardsize(attributes, GUARD) };
    }
    done
}

/// The smallest page there is.
const GUARD: usize = 4096;

/// The bounds of the caller's stack as the C library tells them; the caller runs on this block.
pub(super) fn stack_of_caller(layout: &Layout, pointer: usize) -> Option<Range<usize>> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: no precondition.
    let caller = unsafe { libc::pthread_self() };
    let told = layout.with_kernel_tid(pointer, || {
        // SAFETY: the calling thread; it initialises the attributes.
        unsafe { libc::pthread_getattr_np(caller, attributes.as_mut_ptr()) }
    });
    if told != 0 {
        return None;
    }
    let (mut start, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: initialised above.
    let told = unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut size) };
    // SAFETY: as above, for the last time.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    (told == 0).then(|| start.addr()..start.addr() + size)
}
