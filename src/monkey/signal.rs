//! Signal handlers: code that runs in the midst of other code, where nothing may switch.
//!
//! A handler that calls `write` means the original, whatever task it has interrupted, and even if that was the hub itself. So what the
//! system calls is a function of ours, which holds the hub of its thread, calls the handler, and lets go. Who asks which handler is
//! installed is told his own. Flags, masks, `SIG_IGN`, `SIG_DFL` and the reset of `SA_RESETHAND` are the system's, untouched: but for
//! `SA_SIGINFO`, which is always set underneath.
//!
//! Handlers that are there when the first area is patched are taken over, those of faults excepted: `SIGSEGV` and its like come from the
//! code itself, and programs leave their handlers by `siglongjmp`. From a handler of any other signal that must not be done on a thread
//! with a hub: it would stay held.
//!
//! Not covered, and so they stop the thread: `pause`, `sigsuspend`, `sigwait`, `sigwaitinfo`, `sigtimedwait`. Not seen: `sigset`, and
//! handlers installed by a bare system call.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{c_int, sigaction, sighandler_t, siginfo_t};

use super::Areas;
use super::symbol::interpose;
use crate::hub::Hub;

interpose! {
    fn sigaction(signal: c_int, action: *const sigaction, old: *mut sigaction) -> c_int, all ANY => signal_sigaction;
    fn __sigaction(signal: c_int, action: *const sigaction, old: *mut sigaction) -> c_int, all ANY => signal_sigaction;
    fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t, all ANY => signal_signal;
    fn bsd_signal(signal: c_int, handler: sighandler_t) -> sighandler_t, all ANY => signal_bsd_signal;
    fn ssignal(signal: c_int, handler: sighandler_t) -> sighandler_t, all ANY => signal_ssignal;
    fn sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t, all ANY => signal_sysv_signal;
    fn __sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t, all ANY => signal_sysv_signal_inner;
}

impl Areas {
    /// Whatever is patched, handlers may call it.
    pub(super) const ANY: Areas = Areas(u32::MAX);
}

/// What is kept for each signal.
static HANDLERS: [AtomicUsize; 65] = [const { AtomicUsize::new(0) }; 65];

/// The user's handler, marked if it was installed without `SA_SIGINFO`: addresses have no such bit.
#[derive(Clone, Copy)]
struct Handler(usize);

const PLAIN: usize = 1 << (usize::BITS - 1);

impl Handler {
    fn new(address: sighandler_t, flags: c_int) -> Handler {
        Handler(if flags & libc::SA_SIGINFO == 0 { address | PLAIN } else { address })
    }

    fn address(self) -> sighandler_t {
        self.0 & !PLAIN
    }

    fn is_plain(self) -> bool {
        self.0 & PLAIN != 0
    }
}

type WithInfo = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// What the system calls in place of a handler. Neither locks nor allocates.
extern "C" fn on_signal(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let handler = Handler(HANDLERS[signal as usize].load(Ordering::Acquire));
    // SAFETY: the address of a function of this type, or of one that takes the first argument alone, for which the others are nothing.
    let handler = unsafe { std::mem::transmute::<usize, WithInfo>(handler.address()) };
    match Hub::get() {
        Some(hub) => {
            let before = hub.begin_hold();
            handler(signal, info, context);
            hub.end_hold(before);
        }
        None => handler(signal, info, context),
    }
}

fn ours() -> sighandler_t {
    on_signal as WithInfo as sighandler_t
}

/// Where the handler of a signal is kept; `None` if it is called as it is: the signal is a fault, or none.
fn place_of(signal: c_int) -> Option<&'static AtomicUsize> {
    let is_fault = matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP | libc::SIGSYS | libc::SIGABRT
    );
    if is_fault || signal < 1 {
        return None;
    }
    HANDLERS.get(signal as usize)
}

fn is_function(handler: sighandler_t) -> bool {
    handler != libc::SIG_DFL && handler != libc::SIG_IGN && handler != libc::SIG_ERR
}

unsafe fn signal_sigaction(signal: c_int, action: *const sigaction, old: *mut sigaction) -> c_int {
    let Some(place) = place_of(signal) else {
        // SAFETY: passed on to the caller.
        return unsafe { original::sigaction(signal, action, old) };
    };
    let before = Handler(place.load(Ordering::Acquire));
    // SAFETY: passed on to the caller.
    let mut given = unsafe { action.as_ref() }.copied();
    if let Some(given) = &mut given
        && is_function(given.sa_sigaction)
        && given.sa_sigaction != ours()
    {
        // First, for the signal may come as soon as it is installed.
        place.store(Handler::new(given.sa_sigaction, given.sa_flags).0, Ordering::Release);
        given.sa_sigaction = ours();
        given.sa_flags |= libc::SA_SIGINFO;
    }
    let action = given.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: passed on to the caller, with our function in place of his.
    let result = unsafe { original::sigaction(signal, action, old) };
    if result != 0 {
        place.store(before.0, Ordering::Release);
        return result;
    }
    // SAFETY: null, or the caller's place, which was just written.
    if let Some(old) = unsafe { old.as_mut() }
        && old.sa_sigaction == ours()
    {
        old.sa_sigaction = before.address();
        if before.is_plain() {
            old.sa_flags &= !libc::SA_SIGINFO;
        }
    }
    result
}

macro_rules! signals {
    ($($answer:ident: $name:ident;)*) => {$(
        unsafe fn $answer(signal: c_int, handler: sighandler_t) -> sighandler_t {
            // SAFETY: passed on to the caller.
            install(signal, handler, |handler| unsafe { original::$name(signal, handler) })
        }
    )*};
}

signals! {
    signal_signal: signal;
    signal_bsd_signal: bsd_signal;
    signal_ssignal: ssignal;
    signal_sysv_signal: sysv_signal;
    signal_sysv_signal_inner: __sysv_signal;
}

/// Installs a handler by one of the functions that choose the flags for themselves.
fn install(signal: c_int, handler: sighandler_t, original: impl FnOnce(sighandler_t) -> sighandler_t) -> sighandler_t {
    let Some(place) = place_of(signal) else { return original(handler) };
    let before = Handler(place.load(Ordering::Acquire));
    let is_taken = is_function(handler) && handler != ours();
    if is_taken {
        place.store(Handler::new(handler, 0).0, Ordering::Release);
    }
    let old = original(if is_taken { ours() } else { handler });
    if old == libc::SIG_ERR {
        place.store(before.0, Ordering::Release);
    }
    if old == ours() { before.address() } else { old }
}

/// Takes over the handlers that are there.
pub(super) fn take_over() {
    for signal in 1..HANDLERS.len() as c_int {
        // SAFETY: integers, for which zero is a value.
        let mut action: sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: only asks; a place, alive for the call.
        let asked = unsafe { original::sigaction(signal, ptr::null(), &raw mut action) };
        let is_another = is_function(action.sa_sigaction) && action.sa_sigaction != ours();
        if asked == 0 && is_another && place_of(signal).is_some() {
            // SAFETY: an action that is installed.
            unsafe { signal_sigaction(signal, &raw const action, ptr::null_mut()) };
        }
    }
}
