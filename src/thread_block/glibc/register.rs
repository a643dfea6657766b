//! The thread pointer: the register that leads to the running thread's block.

use std::arch::asm;
#[cfg(target_arch = "x86_64")]
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the processor and the kernel let a program write the register itself; otherwise the kernel is asked to.
#[cfg(target_arch = "x86_64")]
static IS_WRITABLE: AtomicBool = AtomicBool::new(false);

/// Looks at what the processor can do; to be called once, before any write.
pub(super) fn prepare() {
    #[cfg(target_arch = "x86_64")]
    {
        /// The kernel has allowed `wrfsbase` (arch/x86/include/uapi/asm/hwcap2.h).
        const HWCAP2_FSGSBASE: libc::c_ulong = 1 << 1;
        // SAFETY: no precondition.
        let found = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        IS_WRITABLE.store(found & HWCAP2_FSGSBASE != 0, Ordering::Relaxed);
    }
}

/// Where the running block is.
#[inline(always)]
pub(super) fn read() -> usize {
    let pointer: usize;
    // SAFETY: by the ABI the first word of a block is its own address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("mov {}, qword ptr fs:[0]", out(reg) pointer, options(nostack, preserves_flags));
    }
    // SAFETY: reads a register.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, preserves_flags));
    }
    pointer
}

/// Makes another block the running one.
///
/// # Safety
///
/// It is the block of a thread, or one that was furnished, and nobody else runs on it. X2: the caller is never inlined, and looks
/// at no thread-local until it has changed stacks or written the register again.
#[inline(always)]
pub(super) unsafe fn write(pointer: usize) {
    #[cfg(target_arch = "x86_64")]
    if IS_WRITABLE.load(Ordering::Relaxed) {
        // SAFETY: the processor allows it; the rest is the caller's. A barrier for the compiler, as asm is.
        unsafe { asm!("wrfsbase {}", in(reg) pointer, options(nostack, preserves_flags)) };
    } else {
        /// arch_prctl(2).
        const ARCH_SET_FS: usize = 0x1002;
        // SAFETY: a system call of its own, because libc's would look at `errno`; it changes the register and nothing else.
        unsafe {
            asm!("syscall", inlateout("rax") libc::SYS_arch_prctl => _, in("rdi") ARCH_SET_FS, in("rsi") pointer,
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
    }
    // SAFETY: the register belongs to user space; the rest is the caller's.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("msr tpidr_el0, {}", in(reg) pointer, options(nostack, preserves_flags));
    }
}
