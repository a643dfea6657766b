//! Whom a patched symbol is for, and how what happens inside stays inside.
//!
//! - **C1** `errno` is the task's: what others leave there meanwhile is not seen.
//! - **C2** The hub's own calls are never answered by the hub: it holds itself while it makes them.
//! - **C3** Nothing unwinds out of a patched symbol: there may be C on the stack.
//! - **C4** With nothing patched, a symbol is its original and one test.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use libc::c_int;

use super::Areas;
use crate::hub::{Cancelled, Hub};

static PATCHED: AtomicU32 = AtomicU32::new(0);

/// Patches these. Gives what was patched before.
pub(super) fn open(areas: Areas) -> Areas {
    Areas(PATCHED.fetch_or(areas.0, Ordering::SeqCst))
}

#[inline(always)]
pub(super) fn patched() -> Areas {
    Areas(PATCHED.load(Ordering::Relaxed))
}

/// The hub that is to answer a call, if the area (one of them) is patched and the caller is one that can be parked.
#[inline(always)]
pub(super) fn hub_for(area: Areas) -> Option<&'static Hub> {
    if !patched().meets(area) {
        return None;
    }
    Hub::of_caller()
}

/// A number of `errno`.
pub(super) type Errno = c_int;

#[inline]
pub(super) fn errno() -> Errno {
    // SAFETY: no precondition.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the place is the thread's own, and always there.
    unsafe { *place }
}

#[inline]
pub(super) fn set_errno(number: Errno) {
    // SAFETY: no precondition.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *place = number };
}

/// Runs what a patched symbol does, which may park. What it unwinds with is caught (C3): a kill, or the time-out of a block, is
/// `ECANCELED`, and raised again later; anything else, which was reported, is `EDEADLK`. `errno` is as it was before (C1).
#[inline]
pub(super) fn enclosed<R>(hub: &'static Hub, f: impl FnOnce() -> R) -> Result<R, Errno> {
    let errno = errno();
    let unwinding = hub.current().unwinding.get();
    let ended = catch_unwind(AssertUnwindSafe(f));
    let ended = ended.map_err(|payload| {
        hub.current().unwinding.set(unwinding);
        number_of(hub, &*payload)
    });
    set_errno(errno);
    ended
}

#[cold]
fn number_of(hub: &Hub, payload: &(dyn Any + Send)) -> Errno {
    match payload.downcast_ref::<Cancelled>() {
        Some(cancelled) => {
            hub.note_told(cancelled);
            if hub.can_switch() {
                // Code that tries again after every error must not keep the others from running.
                hub.uncancelled(|| hub.yield_now());
            }
            libc::ECANCELED
        }
        None => libc::EDEADLK,
    }
}

/// The result of a call that says its error in `errno`.
#[inline]
pub(super) fn report<T: From<i8>>(result: Result<T, Errno>) -> T {
    result.unwrap_or_else(|number| {
        set_errno(number);
        T::from(-1)
    })
}
