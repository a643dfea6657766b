//! A stack for signal handlers, on threads that have none.
//!
//! A handler cannot run on the stack that just overflowed. std gives such a stack to its own threads; threads that C code
//! made have none.

use std::cell::RefCell;
use std::ptr;

use super::memory::{self, Mapping};

/// Gives this thread a signal stack, if it has none. It is taken away when the thread ends.
///
/// Best effort: without one an overflow still ends the process, but with a bare SIGSEGV.
pub(super) fn install() {
    let _ = SIGNAL_STACK.try_with(|stack| {
        let mut stack = stack.borrow_mut();
        if stack.is_none() && current().ss_flags & libc::SS_DISABLE != 0 {
            *stack = SignalStack::new();
        }
    });
}

thread_local! {
    static SIGNAL_STACK: RefCell<Option<SignalStack>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct SignalStack {
    mapping: Mapping,
}

impl SignalStack {
    fn new() -> Option<SignalStack> {
        let guard = memory::page_size();
        let size = memory::signal_stack_size();
        let mapping = Mapping::new(guard + size).ok()?;

        // SAFETY: the lowest page of a mapping that nobody has seen yet.
        unsafe { memory::protect(mapping.start(), guard) }.ok()?;
        let description = libc::stack_t { ss_sp: (mapping.start() + guard) as *mut _, ss_flags: 0, ss_size: size };
        // SAFETY: the memory stays mapped until `drop`, which ends its use first.
        let result = unsafe { libc::sigaltstack(&description, ptr::null_mut()) };
        (result == 0).then_some(SignalStack { mapping })
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        // Somebody may have put another one in its place.
        if current().ss_sp as usize != self.mapping.start() + memory::page_size() {
            return;
        }
        let none =
            libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: memory::signal_stack_size() };
        // SAFETY: this thread is not on its signal stack: no handler of ours runs destructors of thread-locals.
        let result = unsafe { libc::sigaltstack(&none, ptr::null_mut()) };
        debug_assert_eq!(result, 0, "a signal stack that is not in use can be disabled");
    }
}

fn current() -> libc::stack_t {
    let mut current = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: nothing is set; the old value goes to a local.
    let result = unsafe { libc::sigaltstack(ptr::null(), &mut current) };
    debug_assert_eq!(result, 0, "asking for the signal stack cannot fail");
    current
}
