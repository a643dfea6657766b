//! The waker of one `block_on`, and its owner's wait for it.
//!
//! ```text
//!   owner                                   whoever holds a waker
//!   -----                                   ---------------------
//!   poll: not ready
//!   lock; woken? then poll again            wake: lock; note it; serve the owner
//!   join the line, unlock, park             drop of the last that counts: lock; serve the owner
//!     served: lock; woken? then poll again
//!             else wait again, as counted now
//! ```
//!
//! - **F1** The note is taken under the lock that the owner joins the line under, so no wake-up is lost between poll and park.
//!   The owner leaves the line when its wait is over, so a late one finds nobody, whatever else the owner then waits for.
//! - **F2** Wakers are counted twice: by the `Arc`, which keeps the memory, and under the lock, where the owner's own and local
//!   ones are left out: with none of those, no other thread can ever wake the owner (rule 7).
//! - **F3** A local waker is only held by a task of the owner's thread, which wakes it at its end.

use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::ptr;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};
use std::thread;

use crate::hub::{Hub, Reason, Wakes};
use crate::line::{self, List, Place};
use crate::lock::{self, Lock};
use crate::task;

/// What the wakers of one call share with their owner.
pub(super) struct Signal {
    state: Lock<State>,
    /// The owner's thread, among those that live.
    thread: usize,
}

struct State {
    /// A wake-up came that no poll has followed.
    woken: bool,
    /// Wakers that others hold, without the local ones (F2).
    clones: usize,
    /// The owner, while it is parked.
    owner: List<()>,
}

impl Signal {
    #[inline]
    pub(super) fn new() -> Arc<Signal> {
        let state = Lock::new(State { woken: false, clones: 0, owner: List::new() });
        Arc::new(Signal { state, thread: lock::token() })
    }

    /// The owner's own waker, which does not count.
    #[inline]
    pub(super) fn waker(self: &Arc<Signal>) -> Own<'_> {
        // SAFETY: the table's functions take such pointers, from any thread (`Signal` is `Send` and `Sync`). The `Arc` is borrowed
        // for as long as this waker can be used, which has no share of it and is never dropped (`Own`).
        let waker = unsafe { Waker::new(Arc::as_ptr(self).cast(), &COUNTED) };
        Own { waker: ManuallyDrop::new(waker), _signal: self }
    }

    /// Parks the owner until a wake-up; not at all if one came since the last call.
    #[track_caller]
    pub(super) fn wait(&self) {
        let mut state = self.state.lock();
        if mem::take(&mut state.woken) {
            drop(state);
            // One that wakes itself in each poll must not keep the others from running.
            match Hub::get() {
                Some(_) => task::yield_now(),
                None => thread::yield_now(),
            }
            return;
        }
        loop {
            let sleep = Sleep { shared: state.clones > 0 };
            if !sleep.shared && Hub::get().is_none() {
                drop(state);
                panic!("deadlock: `block_on` waits, and no waker of its future is left that could wake it");
            }
            let _served = line::wait(sleep, &self.state, state, (), Reason::Other(&"a future"), None);
            state = self.state.lock();
            if mem::take(&mut state.woken) {
                return;
            }
        }
    }

    fn wake(&self) {
        let mut wakes = Wakes::new();
        let mut state = self.state.lock();
        state.woken = true;
        state.owner.serve(&mut wakes, |()| ());
    }

    fn count(&self) {
        self.state.lock().clones += 1;
    }

    /// One that counted is gone. After the last, the owner looks again what its wait is.
    fn discount(&self) {
        let mut wakes = Wakes::new();
        let mut state = self.state.lock();
        state.clones -= 1;
        if state.clones == 0 {
            state.owner.serve(&mut wakes, |()| ());
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").finish_non_exhaustive()
    }
}

/// The line of the owner.
struct Sleep {
    shared: bool,
}

impl Place<State> for Sleep {
    type Payload = ();

    fn list<'a>(&self, state: &'a mut State) -> &'a mut List<()> {
        &mut state.owner
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn left(&self, _: &mut State, _: &mut Wakes) {}

    /// The wake-up was for the future, which is being dropped.
    fn pass_on(&self, _: &mut State, (): &mut (), _: &mut Wakes) {}
}

/// The owner's own waker, lent to polls.
pub(super) struct Own<'a> {
    waker: ManuallyDrop<Waker>,
    _signal: &'a Signal,
}

impl Deref for Own<'_> {
    type Target = Waker;

    fn deref(&self) -> &Waker {
        &self.waker
    }
}

/// A copy of a waker, to be held by a task of this thread and called at its end: if it belongs to a `block_on` of the thread,
/// one that does not count (F3).
pub(super) fn copy_for_here(waker: &Waker) -> Waker {
    let Some(signal) = signal_of(waker) else { return waker.clone() };
    // SAFETY: the waker holds the signal, or is its owner's.
    if unsafe { (*signal).thread } != lock::token() {
        return waker.clone();
    }
    // SAFETY: the pointer is from an `Arc`, which `waker` keeps meanwhile.
    unsafe { Arc::increment_strong_count(signal) };
    // SAFETY: the table's functions take such pointers, from any thread, and the share taken above is this waker's.
    unsafe { Waker::new(signal.cast(), &LOCAL) }
}

/// Whether both wake the same, be it that only one of them counts.
pub(super) fn are_alike(one: &Waker, other: &Waker) -> bool {
    one.will_wake(other) || signal_of(one).is_some_and(|signal| Some(signal) == signal_of(other))
}

fn signal_of(waker: &Waker) -> Option<*const Signal> {
    let is_ours = ptr::eq(waker.vtable(), &raw const COUNTED) || ptr::eq(waker.vtable(), &raw const LOCAL);
    is_ours.then(|| waker.data().cast())
}

// Not `const`s, for a table is known by its address.
static COUNTED: RawWakerVTable = RawWakerVTable::new(clone, wake_counted, wake_by_ref, drop_counted);
static LOCAL: RawWakerVTable = RawWakerVTable::new(clone, wake_local, wake_by_ref, drop_local);

// What a table's functions are called with is the pointer that its wakers are made with: of an `Arc<Signal>` of which the
// waker has a share; the owner's own waker, of which the `Arc` is borrowed (`Own`), has none, and is never used up.

/// # Safety
///
/// `signal` is the pointer of an `Arc<Signal>` that lives for as long as the call.
unsafe fn clone(signal: *const ()) -> RawWaker {
    let signal = signal.cast::<Signal>();
    // SAFETY: an `Arc`'s, which the caller says is alive. The share that is added is the new waker's.
    unsafe { Arc::increment_strong_count(signal) };
    // SAFETY: alive, as above.
    unsafe { &*signal }.count();
    RawWaker::new(signal.cast(), &COUNTED)
}

/// # Safety
///
/// `signal` is the pointer of an `Arc<Signal>` that lives for as long as the call.
unsafe fn wake_by_ref(signal: *const ()) {
    // SAFETY: passed on to the caller.
    unsafe { &*signal.cast::<Signal>() }.wake();
}

/// # Safety
///
/// `signal` is the pointer of an `Arc<Signal>`, and the caller gives away a share of it that was counted (F2).
unsafe fn wake_counted(signal: *const ()) {
    // SAFETY: the caller gives its share away, once.
    let signal = unsafe { Arc::from_raw(signal.cast::<Signal>()) };
    signal.wake();
    signal.discount();
}

/// # Safety
///
/// As for [`wake_counted`].
unsafe fn drop_counted(signal: *const ()) {
    // SAFETY: as in `wake_counted`.
    unsafe { Arc::from_raw(signal.cast::<Signal>()) }.discount();
}

/// # Safety
///
/// `signal` is the pointer of an `Arc<Signal>`, and the caller gives away a share of it.
unsafe fn wake_local(signal: *const ()) {
    // SAFETY: as in `wake_counted`.
    unsafe { Arc::from_raw(signal.cast::<Signal>()) }.wake();
}

/// # Safety
///
/// As for [`wake_local`].
unsafe fn drop_local(signal: *const ()) {
    // SAFETY: as in `wake_counted`.
    drop(unsafe { Arc::from_raw(signal.cast::<Signal>()) });
}

/// What the wakers rely on: they may be used and dropped on any thread.
const fn _is_for_any_thread() {
    const fn check<T: Send + Sync>() {}
    check::<Signal>();
}
