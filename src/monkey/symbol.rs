//! How a libc symbol becomes ours, and where its original is.
//!
//! A `#[no_mangle]` definition in a library takes the C library's place in the whole executable: for std, for every crate, and,
//! because the linker exports it, for shared libraries. The original is the next definition in the order of the
//! dynamic linker.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Where a symbol's original is; found at its first use.
pub(super) struct Original {
    name: &'static CStr,
    place: AtomicPtr<c_void>,
}

impl Original {
    pub(super) const fn new(name: &'static CStr) -> Original {
        Original { name, place: AtomicPtr::new(ptr::null_mut()) }
    }

    #[inline(always)]
    pub(super) fn get(&self) -> *mut c_void {
        let known = self.place.load(Ordering::Relaxed);
        if known.is_null() { self.find() } else { known }
    }

    /// Asks the dynamic linker, which neither allocates nor calls anything of ours when it finds what it is asked for. It may be asked
    /// before `main`, and twice: the answer is the same.
    #[cold]
    fn find(&self) -> *mut c_void {
        let mut found = ptr::null_mut();
        if self.name.to_bytes().starts_with(b"pthread_cond_") {
            // x86-64 has two of each, and `dlsym` finds the one of 2002 in some versions (sourceware.org, bug 14932).
            // SAFETY: names that end with a zero.
            found = unsafe { libc::dlvsym(libc::RTLD_NEXT, self.name.as_ptr(), c"GLIBC_2.3.2".as_ptr()) };
        }
        if found.is_null() {
            // SAFETY: as above.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        }
        if found.is_null() {
            found = missing as *mut c_void;
        }
        self.place.store(found, Ordering::Relaxed);
        found
    }
}

/// In place of what this C library does not have.
extern "C" fn missing() -> libc::c_long {
    super::gate::set_errno(libc::ENOSYS);
    -1
}

/// Defines symbols of libc: `fn name(arguments) -> result, AREA => answer;` where `answer` is what is called, with the hub and the
/// arguments, for a caller that the area is patched for. All others get the original, which is `original::name`. With
/// `all AREA` it is called for every thread once the area is patched, and without a hub. Of an area that is several, one will do.
/// With `always` it is called whatever is patched.
macro_rules! interpose {
    (@answer AREA $area:ident, $answer:path, $original:path, $($argument:ident),*) => {
        match $crate::monkey::gate::hub_for($crate::monkey::Areas::$area) {
            // SAFETY: passed on to the caller.
            None => unsafe { $original($($argument),*) },
            // SAFETY: as above.
            Some(hub) => unsafe { $answer(hub, $($argument),*) },
        }
    };
    (@answer all $area:ident, $answer:path, $original:path, $($argument:ident),*) => {
        if $crate::monkey::gate::patched().meets($crate::monkey::Areas::$area) {
            // SAFETY: passed on to the caller.
            unsafe { $answer($($argument),*) }
        } else {
            // SAFETY: as above.
            unsafe { $original($($argument),*) }
        }
    };
    (@which always, $answer:path, $original:path, $($argument:ident),*) => {
        // SAFETY: passed on to the caller.
        unsafe { $answer($($argument),*) }
    };
    (@which all $area:ident, $($rest:tt)*) => { interpose!(@answer all $area, $($rest)*) };
    (@which $area:ident, $($rest:tt)*) => { interpose!(@answer AREA $area, $($rest)*) };
    ($(
        $(#[$meta:meta])*
        fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)?, $($area:ident)+ => $answer:path;
    )*) => {
        /// The functions that stand behind the symbols.
        #[allow(missing_docs, clippy::missing_safety_doc, reason = "they are those of the C library, which documents them")]
        pub(in crate::monkey) mod original {
            use super::*;

            $(
                #[inline]
                pub unsafe fn $name($($argument: $type),*) $(-> $result)? {
                    static ORIGINAL: $crate::monkey::symbol::Original = $crate::monkey::symbol::Original::new(
                        match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                            Ok(name) => name,
                            Err(_) => unreachable!(),
                        },
                    );
                    // SAFETY: what the dynamic linker finds under the name of a libc function is of its type.
                    let original = unsafe {
                        std::mem::transmute::<*mut std::ffi::c_void, unsafe extern "C" fn($($type),*) $(-> $result)?>(
                            ORIGINAL.get(),
                        )
                    };
                    // SAFETY: passed on to the caller.
                    unsafe { original($($argument),*) }
                }
            )*
        }

        /// The symbols.
        mod symbols {
            use super::*;

            $(
                $(#[$meta])*
                // SAFETY: the name is libc's, and so are the signature and what the function does.
                #[unsafe(no_mangle)]
                unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? {
                    interpose!(@which $($area)+, $answer, original::$name, $($argument),*)
                }
            )*
        }
    };
}
pub(super) use interpose;
