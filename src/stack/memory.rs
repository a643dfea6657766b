//! Memory from the kernel: mapped, guarded, given back, and what differs between systems in doing so.
//!
//! Nothing here knows about stacks. The raw calls on memory are in this file alone.

use std::io;
use std::ptr;
use std::sync::OnceLock;

/// A mapping of private, zeroed memory that may be read and written; unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: usize,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes, a multiple of the page size. Only touched pages cost memory.
    pub(super) fn new(len: usize) -> io::Result<Mapping> {
        // SAFETY: no address is asked for, so the kernel picks one where nothing is mapped.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, system::MAP_FLAGS, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Mapping { start: start as usize, len };

        // A huge page under one touched byte would cost 2 MiB. Fails where the kernel has no huge pages: fine as well.
        if let Some(advice) = system::NO_HUGE_PAGES {
            let _ = advise(mapping.start, len, advice);
        }
        Ok(mapping)
    }

    /// The lowest address.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Bytes mapped.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is what `new` mapped, all of it, and it is unmapped nowhere else. Whoever owns a mapping drops it
        // only when nobody uses its memory any more (T2: a pool waits for all its stacks).
        let result = unsafe { libc::munmap(self.start as *mut _, self.len) };
        debug_assert_eq!(result, 0, "munmap refused a mapping of ours: {}", io::Error::last_os_error());
    }
}

/// Takes away every access to these pages, at the cost of up to two kernel mappings.
///
/// # Safety
///
/// The pages belong to the caller, and nobody else uses them.
pub(super) unsafe fn protect(start: usize, len: usize) -> io::Result<()> {
    // SAFETY: passed on to the caller.
    match unsafe { libc::mprotect(start as *mut _, len, libc::PROT_NONE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes every access to these pages a fault, by a mark in the page table, which is no mapping of its own.
///
/// `ErrorKind::InvalidInput` where the kernel cannot do it, as Linux before 6.13.
///
/// # Safety
///
/// The pages belong to the caller, and nobody else uses them. Their content is lost.
pub(super) unsafe fn mark_as_guard(start: usize, len: usize) -> io::Result<()> {
    match system::GUARD_INSTALL {
        Some(advice) => advise(start, len, advice),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Gives these pages back to the kernel; they read as zero or as before when they are next used.
///
/// Best effort: locked memory (mlockall) stays.
///
/// # Safety
///
/// The pages belong to the caller, and nobody needs their content.
pub(super) unsafe fn discard(start: usize, len: usize) {
    let _ = advise(start, len, system::DISCARD);
}

/// Whether the kernel refuses to write to this page, asked without risking a fault.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn kernel_refuses(page: usize) -> bool {
    // SAFETY: the kernel checks the address itself. The page is a guard, or memory of ours whose content nobody needs,
    // and larger than what is written.
    let result = unsafe { libc::uname(page as *mut libc::utsname) };
    result != 0
}

/// Never asked: no other system has guard marks.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn kernel_refuses(_page: usize) -> bool {
    false
}

/// Bytes in a page, asked once.
#[inline]
pub(super) fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: sysconf has no preconditions.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).expect("every system knows its page size")
    })
}

/// Bytes that a signal's alternate stack needs: the system's wish, and room for a saved state with wide registers.
pub(super) fn signal_stack_size() -> usize {
    /// What the handlers themselves may use: ours, and the one that was there before it.
    const HANDLERS: usize = 16 * 1024;
    libc::SIGSTKSZ.max(system::signal_frame_size() + HANDLERS).next_multiple_of(page_size())
}

fn advise(start: usize, len: usize, advice: libc::c_int) -> io::Result<()> {
    // SAFETY: of the advices used here only those of `mark_as_guard` and `discard` change what the pages hold, and both
    // ask their callers for pages that are theirs alone.
    match unsafe { libc::madvise(start as *mut _, len, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What Linux has: memory without a promise, marks as guards (6.13), pages given back at once.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    pub(super) const MAP_FLAGS: libc::c_int =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    pub(super) const NO_HUGE_PAGES: Option<libc::c_int> = Some(libc::MADV_NOHUGEPAGE);
    pub(super) const DISCARD: libc::c_int = libc::MADV_DONTNEED;
    /// MADV_GUARD_INSTALL of the kernel's mman-common.h; libc has no name for it yet.
    pub(super) const GUARD_INSTALL: Option<libc::c_int> = Some(102);

    pub(super) fn signal_frame_size() -> usize {
        /// From the kernel's auxvec.h, the same on every architecture that has it; zero from kernels without it.
        const AT_MINSIGSTKSZ: libc::c_ulong = 51;
        // SAFETY: getauxval has no preconditions; an unknown key is answered with zero.
        let size = unsafe { libc::getauxval(AT_MINSIGSTKSZ) };
        (size as usize).max(libc::MINSIGSTKSZ)
    }
}

/// The BSDs and Apple's systems. Without MAP_STACK: on FreeBSD it means a mapping that grows by itself.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    #[cfg(target_os = "openbsd")]
    pub(super) const MAP_FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_STACK;
    #[cfg(not(target_os = "openbsd"))]
    pub(super) const MAP_FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANON;
    pub(super) const NO_HUGE_PAGES: Option<libc::c_int> = None;
    pub(super) const DISCARD: libc::c_int = libc::MADV_FREE;
    pub(super) const GUARD_INSTALL: Option<libc::c_int> = None;

    pub(super) fn signal_frame_size() -> usize {
        libc::MINSIGSTKSZ
    }
}
