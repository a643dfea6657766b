//! What happens when a stack overflows: a line on stderr that says which task it was, and the end of the process.
//!
//! A fault in a guard of ours arrives as SIGSEGV, or SIGBUS on some systems. Every other fault goes on to the handler that
//! was there before, as if ours were not. Everything in this file that runs inside the handler neither allocates nor locks.
//!
//! The handler is installed once and stays. Its mask and flags are those of the one before it, so that one runs under the
//! mask that it asked for. Who installs a handler after us and passes nothing on replaces the report by a bare fault.

use std::fmt;
use std::mem::{self, MaybeUninit};
use std::process;
use std::ptr;
use std::sync::{Once, OnceLock};

use super::{memory, registry};

/// Names the running task: registered once, by the hub. Called inside a signal handler: must not allocate or lock.
pub(crate) fn set_describe(describe: fn(&mut Report<'_>)) {
    // A second registration is the same function: there is one hub module.
    let _ = DESCRIBE.set(describe);
}

/// A line for stderr, written without allocation. Also a `fmt::Write`, for values whose `Display` does not allocate.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl Report<'_> {
    /// Adds text.
    pub(crate) fn write_str(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            if self.len == self.buffer.len() {
                self.flush();
            }
            self.buffer[self.len] = byte;
            self.len += 1;
        }
    }

    /// Adds a number.
    pub(crate) fn write_usize(&mut self, number: usize) {
        // Twenty digits hold every 64-bit number.
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut rest = number;
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.write_str(str::from_utf8(&digits[start..]).unwrap_or("?"));
    }

    fn flush(&mut self) {
        let mut rest = &self.buffer[..self.len];
        while !rest.is_empty() {
            let written = write_to_stderr(rest);
            match usize::try_from(written) {
                Ok(written) if written > 0 => rest = &rest[written..],
                // Nobody can be told that stderr does not work.
                _ => break,
            }
        }
        self.len = 0;
    }
}

/// By its number where there is one: `write` may be patched, and this stack is a small one.
fn write_to_stderr(bytes: &[u8]) -> isize {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: the pointer and the length are those of one slice.
    return unsafe { libc::syscall(libc::SYS_write, libc::STDERR_FILENO, bytes.as_ptr(), bytes.len()) } as isize;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    // SAFETY: as above.
    return unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

impl fmt::Write for Report<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        Report::write_str(self, text);
        Ok(())
    }
}

/// Installs the handler, the first time it is called in the process.
pub(super) fn install_handler() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Asked for now: inside the handler it is a plain load.
        memory::page_size();
        // Remembered before ours is in place: a fault of another thread may come at once.
        let previous = SIGNALS.map(|signal| change_action(signal, None));
        let _ = PREVIOUS.set(previous);
        for (signal, previous) in SIGNALS.into_iter().zip(previous) {
            change_action(signal, Some(&our_action(&previous)));
        }
    });
}

/// The signals by which systems report a fault in a guard.
const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

static DESCRIBE: OnceLock<fn(&mut Report<'_>)> = OnceLock::new();
static PREVIOUS: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();

extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid one to a handler with SA_SIGINFO.
    let info_ref = unsafe { &*info };
    // Sent by somebody (kill, sigqueue): where the address would be there are other things.
    let sent = info_ref.si_code <= 0;
    if !sent {
        // SAFETY: the signals handled here are faults, unless sent, and the kernel fills in the address.
        let address = unsafe { info_ref.si_addr() } as usize;
        if let Some(stride) = registry::find_guard(address, memory::page_size()) {
            report_and_abort(stride - memory::page_size());
        }
    }
    pass_on(signal, info, context, sent);
}

fn report_and_abort(size: usize) -> ! {
    let mut report = Report { buffer: &mut [0; 256], len: 0 };
    report.write_str("\ngreenroom: stack overflow in ");
    match DESCRIBE.get() {
        Some(describe) => describe(&mut report),
        None => report.write_str("a task"),
    }
    report.write_str(": its stack has ");
    report.write_usize(size / 1024);
    report.write_str(" KiB; raise it with Builder::stack_size\n");
    report.flush();
    process::abort();
}

/// Does with a signal what would have been done had we not been there.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void, sent: bool) {
    let previous = SIGNALS.iter().position(|&ours| ours == signal).zip(PREVIOUS.get());
    let Some(previous) = previous.map(|(index, all)| &all[index]) else { return };

    match previous.sa_sigaction {
        // The instruction runs again when we return, and faults again. What was sent has to be sent again: it is blocked
        // until we return.
        libc::SIG_DFL => {
            change_action(signal, Some(previous));
            if sent {
                // SAFETY: raise has no preconditions.
                unsafe { libc::raise(signal) };
            }
        }
        // A fault cannot be ignored: with the action restored, the kernel ends the process.
        libc::SIG_IGN => {
            if !sent {
                change_action(signal, Some(previous));
            }
        }
        function => {
            if previous.sa_flags & libc::SA_RESETHAND != 0 {
                change_action(signal, Some(&default_action()));
            }
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: with SA_SIGINFO the address is that of a function of this type.
                let function: WithInfo = unsafe { mem::transmute(function) };
                function(signal, info, context);
            } else {
                // SAFETY: without SA_SIGINFO the address is that of a function of this type.
                let function: Plain = unsafe { mem::transmute(function) };
                function(signal);
            }
        }
    }
}

type WithInfo = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
type Plain = extern "C" fn(libc::c_int);

/// Our handler, under the mask of the previous one.
fn our_action(previous: &libc::sigaction) -> libc::sigaction {
    let mut action = *previous;
    action.sa_sigaction = handler as WithInfo as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | previous.sa_flags & (libc::SA_NODEFER | libc::SA_RESTART);
    action
}

fn default_action() -> libc::sigaction {
    // SAFETY: the C struct is valid when zeroed: no handler (SIG_DFL is zero), no flags, an empty mask.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Sets what is done at a signal, if asked to; returns what was done before.
fn change_action(signal: libc::c_int, action: Option<&libc::sigaction>) -> libc::sigaction {
    let mut previous = default_action();
    let action = action.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both point to a valid struct or to nothing; the function set is our handler, or was set before.
    let result = unsafe { libc::sigaction(signal, action, &mut previous) };
    debug_assert_eq!(result, 0, "sigaction refuses only signals that do not exist");
    previous
}
