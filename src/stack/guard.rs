//! Guards: the page below each stack that turns an overflow into a fault.
//!
//! Two ways to make one, the better first. A mark in the page table (`MADV_GUARD_INSTALL`, Linux 6.13) costs 0.3 µs and no
//! mapping, so a million fit. `mprotect` splits the mapping around the page, and `vm.max_map_count` (65,530 by default)
//! ends that at about 32 thousand. The environment variable `GREENROOM_STACK_GUARD=mprotect` forces the second.
//!
//! A guard lives as long as its slot: it survives `fork`, `MADV_DONTNEED` and every reuse of the stack.
//!
//! Rejected: to ask for the kernel's version. Distributions port features back, sandboxes take them away.

use std::env;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use super::memory;

/// Makes the page at `page` a guard.
///
/// # Safety
///
/// The page belongs to the caller, and nobody else uses it.
pub(super) unsafe fn install(page: usize) -> io::Result<()> {
    let len = memory::page_size();

    if mode() != PROTECT {
        // SAFETY: passed on to the caller.
        match unsafe { memory::mark_as_guard(page, len) } {
            Ok(()) if mode() == MARK => return Ok(()),
            // qemu-user says yes to every advice: believe it once it has been seen to work.
            Ok(()) if memory::kernel_refuses(page) => {
                MODE.store(MARK, Ordering::Relaxed);
                return Ok(());
            }
            // An old kernel, or locked memory (mlockall), where marks are not allowed.
            Ok(()) => MODE.store(PROTECT, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => MODE.store(PROTECT, Ordering::Relaxed),
            Err(error) => return Err(error),
        }
    }

    // SAFETY: passed on to the caller.
    unsafe { memory::protect(page, len) }.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOMEM) => io::Error::new(
            io::ErrorKind::OutOfMemory,
            "cannot guard one more stack: the process has as many memory mappings as vm.max_map_count allows \
             (Linux 6.13 and later need none for a guard)",
        ),
        _ => error,
    })
}

/// What is known about this kernel. A race between two threads that find out is harmless: both learn the same.
static MODE: AtomicU8 = AtomicU8::new(UNKNOWN);

const UNKNOWN: u8 = 0;
/// Neither forced nor tried so far.
const UNTRIED: u8 = 1;
/// Marks were seen to guard.
const MARK: u8 = 2;
/// Marks do not work here, or are not wanted.
const PROTECT: u8 = 3;

/// Whether guards are marks, for tests. Known once one stack was made.
#[cfg(test)]
pub(super) fn marks() -> bool {
    mode() == MARK
}

fn mode() -> u8 {
    let mode = MODE.load(Ordering::Relaxed);
    if mode != UNKNOWN {
        return mode;
    }

    let forced = env::var_os("GREENROOM_STACK_GUARD").is_some_and(|value| value == "mprotect");
    let mode = if forced { PROTECT } else { UNTRIED };
    MODE.store(mode, Ordering::Relaxed);
    mode
}
