//! One stack that can be started, suspended and resumed: the only module that knows `corosensei`.
//!
//! A coroutine is never unwound from outside. Whoever wants it to end makes its suspended call unwind by itself
//! (a kill, a closed generator) and resumes it until it is done, so that destructors on it may suspend again. One that is
//! dropped half-way is leaked with its stack, which is always sound (T2).
//!
//! A suspension may come from another stack than the coroutine's own: a generator that runs inside a task parks the task
//! by suspending the task's coroutine from the generator's stack. The switch saves the stack pointer wherever it is, and the
//! next resume goes back there.

use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::ptr;

#[cfg(debug_assertions)]
use corosensei::stack::valgrind::ValgrindStackRegistration;
use corosensei::stack::{Stack as CorosenseiStack, StackPointer};
use corosensei::{CoroutineResult, Yielder};

use crate::stack::Stack;

/// A body on a stack of its own.
pub(crate) struct Coroutine {
    inner: ManuallyDrop<corosensei::Coroutine<(), (), (), Owned>>,
}

/// The way out of a running coroutine, valid until its body ends.
#[repr(transparent)]
pub(crate) struct Suspender(Yielder<(), ()>);

impl Coroutine {
    /// Lays `body` onto the stack; it runs at the first resume.
    ///
    /// # Safety
    ///
    /// - What `body` borrows lives until the coroutine is done, dropped before its first resume, or for ever if leaked.
    /// - `body` does not unwind: at the bottom of the stack a panic aborts the process.
    #[inline]
    pub(crate) unsafe fn new(stack: Stack, body: impl FnOnce(&Suspender)) -> Coroutine {
        let body = move |yielder: &Yielder<(), ()>, ()| {
            // SAFETY: `Suspender` is a transparent wrapper of `Yielder`.
            let suspender = unsafe { &*std::ptr::from_ref(yielder).cast::<Suspender>() };
            body(suspender);
        };
        // SAFETY: the caller vouches for what `body` borrows.
        let inner = unsafe { corosensei::Coroutine::with_stack_unchecked(Owned::new(stack), body) };
        Coroutine { inner: ManuallyDrop::new(inner) }
    }

    /// As [`new`](Self::new), for a body that borrows nothing. If it unwinds, the process aborts.
    pub(crate) fn owning(stack: Stack, body: impl FnOnce(&Suspender) + 'static) -> Coroutine {
        // SAFETY: the body borrows nothing; an unwind ends the process before it can do harm.
        unsafe { Coroutine::new(stack, body) }
    }

    /// Runs the body until it suspends (false) or ends (true).
    #[inline]
    pub(crate) fn resume(&mut self) -> bool {
        matches!(self.inner.resume(()), CoroutineResult::Return(()))
    }

    /// Says whether the body has begun to run.
    pub(crate) fn started(&self) -> bool {
        self.inner.started()
    }
}

impl Drop for Coroutine {
    #[inline]
    fn drop(&mut self) {
        if self.inner.started() && !self.inner.done() {
            return;
        }
        // SAFETY: dropped once, here; nothing uses it afterwards.
        unsafe { ManuallyDrop::drop(&mut self.inner) };
    }
}

impl Suspender {
    /// Gives control back to whoever resumed the coroutine, until it is resumed again.
    #[inline(always)]
    pub(crate) fn suspend(&self) {
        self.0.suspend(());
    }

    /// Whether the caller runs on this coroutine's own stack, whose lowest address is `limit`. Then the coroutine is the innermost
    /// one that runs, and can be suspended by anybody.
    ///
    /// To be asked where code of the user's has the suspender: from another task, or from a coroutine nested in
    /// this one, it could be called while this one is suspended.
    #[inline]
    pub(crate) fn is_innermost(&self, limit: usize) -> bool {
        // The suspender lies where the stack begins.
        (limit..ptr::from_ref(self).addr()).contains(&stack_pointer())
    }
}

/// The processor's own: under AddressSanitizer a local variable may be elsewhere.
#[inline(always)]
fn stack_pointer() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let here: usize;
        // SAFETY: copies a register.
        unsafe { std::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
        here
    }
    #[cfg(target_arch = "aarch64")]
    {
        let here: usize;
        // SAFETY: copies a register.
        unsafe { std::arch::asm!("mov {}, sp", out(reg) here, options(nomem, nostack, preserves_flags)) };
        here
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let here = 0_u8;
        (&raw const here).addr()
    }
}

/// Our stack, in corosensei's terms. The base is asked for at every resume.
struct Owned {
    base: StackPointer,
    stack: Stack,
    /// Tells Valgrind that this is a stack, lest it takes every switch for a huge frame. In builds for tests only.
    #[cfg(debug_assertions)]
    _known: ValgrindStackRegistration,
}

impl Owned {
    #[inline]
    fn new(stack: Stack) -> Owned {
        Owned {
            base: NonZeroUsize::new(stack.base()).expect("a stack is not at address zero"),
            #[cfg(debug_assertions)]
            _known: {
                let lowest = stack.base() - stack.size();
                ValgrindStackRegistration::new(ptr::with_exposed_provenance_mut(lowest), stack.size())
            },
            stack,
        }
    }
}

// SAFETY: `Stack` has a guard page at its low end and at least `MIN_STACK_SIZE` usable bytes above it; base and limit
// stay the same while it lives.
unsafe impl CorosenseiStack for Owned {
    #[inline]
    fn base(&self) -> StackPointer {
        self.base
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.stack.limit()).expect("a stack is not at address zero")
    }
}
