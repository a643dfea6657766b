//! A wait that any thread can end: of a task of some hub, or of a native thread that has none.
//!
//! A task's own wait belongs to its thread ([`waiter`](crate::waiter)). Whoever ends it from the same thread fires it; from
//! another one it is a message to the hub, applied there. A native thread without a hub has no tasks that could run meanwhile
//! and stops: it needs no poller, and costs no descriptor.

use std::cell::{Cell, RefCell};
use std::hint;
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::fork;
use super::header::{Reason, TaskRef};
use super::shared::{Message, RemoteTask, Shared};
use super::{Hub, Outcome, call_out};
use crate::clock;
use crate::lock::steady;
use crate::waiter::{Clause, Waiter};

/// One wait of the calling task or thread, begun and not yet parked.
pub(crate) enum Sleeper {
    Task { hub: &'static Hub, generation: u32 },
    Native(Arc<Parker>),
}

/// Who sleeps, as others see it: how to wake them.
pub(crate) enum Target {
    Task {
        /// Its hub, as an identity and as the door for other threads.
        shared: *const Arc<Shared>,
        waiter: Waiter,
        task: RemoteTask,
    },
    Native(Arc<Parker>),
}

// SAFETY: the waiter is used only on the thread of its hub, and the door is for any thread.
unsafe impl Send for Target {}

/// Those of other threads that were chosen under some lock, to be woken once it is given back: dropping this wakes them.
/// Declared before the lock's guard, it is dropped after it.
pub(crate) struct Wakes {
    /// Both are emptied by this type's own `drop`, which is all that it then costs: mostly there is nothing in them.
    first: ManuallyDrop<Option<Wake>>,
    others: ManuallyDrop<Vec<Wake>>,
}

enum Wake {
    Remote { shared: Arc<Shared>, task: RemoteTask, generation: u32, clause: Clause },
    Native(Arc<Parker>),
    Tell(Tell),
}

/// Something to be called when an object became ready, from any thread; it does no more than note that.
pub(crate) type Tell = Arc<dyn Fn() + Send + Sync>;

impl Sleeper {
    /// Begins a wait. Nothing else may begin one on this stack before [`park`](Self::park).
    #[inline]
    pub(crate) fn arm() -> Sleeper {
        match Hub::get() {
            Some(hub) => Sleeper::Task { hub, generation: hub.arm(Clause(0)).generation },
            None => Sleeper::native(),
        }
    }

    #[cold]
    fn native() -> Sleeper {
        Hub::check_hold();
        thread_local! {
            static PARKER: RefCell<Option<Arc<Parker>>> = const { RefCell::new(None) };
        }
        // In the thread's last destructors it has none of its own any more.
        let parker = PARKER.try_with(|parker| parker.borrow_mut().get_or_insert_default().clone());
        Sleeper::Native(parker.unwrap_or_default())
    }

    /// How others wake this wait; `clause` is for the owner to tell what did.
    #[inline]
    pub(crate) fn target(&self, clause: Clause) -> Target {
        match self {
            Sleeper::Task { hub, generation } => {
                let task = hub.current();
                Target::Task {
                    shared: &raw const hub.shared,
                    waiter: task.waiter(*generation, clause),
                    task: hub.remote_task(task),
                }
            }
            Sleeper::Native(parker) => Target::Native(parker.clone()),
        }
    }

    /// The wait as its own thread sees it; none of a native thread without a hub.
    pub(crate) fn waiter(&self, clause: Clause) -> Option<Waiter> {
        match self {
            Sleeper::Task { hub, generation } => Some(hub.current().waiter(*generation, clause)),
            Sleeper::Native(_) => None,
        }
    }

    /// Parks until woken (from another thread perhaps, if it is `shared`), or until the deadline; unwinds if the task is
    /// cancelled. A native thread is woken by what belongs to its earlier waits too: `over` tells whether this one has
    /// ended, and has been true before each wake-up that counts.
    #[inline(always)]
    pub(crate) fn park(
        &self,
        shared: bool,
        reason: Reason,
        deadline: Option<Instant>,
        over: impl Fn() -> bool,
    ) -> Outcome {
        match self {
            Sleeper::Task { hub, .. } => {
                // Not a closure around the park: that would be a frame.
                let _count = shared.then(|| CountShared::new(hub));
                hub.park(reason, deadline)
            }
            Sleeper::Native(parker) => parker.park(deadline, over),
        }
    }

    /// Raises what is pending for the task now that it has been woken: a kill wins over what it was given (W4), which goes to the
    /// next in line.
    #[inline]
    pub(crate) fn attend(&self) {
        if let Sleeper::Task { hub, .. } = self {
            let task = hub.current();
            if task.attention.get() {
                hub.attend(&task);
            }
        }
    }

    /// The wait is over before it was parked: somebody was quicker.
    #[inline]
    pub(crate) fn give_up(&self) {
        if let Sleeper::Task { hub, .. } = self {
            hub.current().wait.settle();
        }
    }
}

impl Target {
    /// Whether the owner never runs again: a task of this hub that stayed with the parent of a forked process, or one that was
    /// left when its thread ended.
    ///
    /// # Safety
    ///
    /// The owner has not yet left the wait that this was made for.
    #[inline]
    pub(crate) unsafe fn is_abandoned(&self) -> bool {
        // SAFETY: passed on to the caller.
        fork::are_abandoned() && unsafe { self.is_one_abandoned() }
    }

    /// # Safety
    ///
    /// As [`is_abandoned`](Self::is_abandoned).
    #[cold]
    unsafe fn is_one_abandoned(&self) -> bool {
        let Target::Task { shared, waiter, .. } = self else { return false };
        if Hub::get().is_some_and(|hub| ptr::eq(&raw const hub.shared, *shared)) {
            return TaskRef::from_wait(waiter.wait).has_ended();
        }
        // SAFETY: the owner's hub outlives its wait; one that has left tasks is never freed.
        unsafe { &**shared }.is_closed()
    }

    /// Wakes the owner: at once if it is a task of this thread, else when `wakes` is dropped.
    ///
    /// # Safety
    ///
    /// The owner has not yet left the wait that this was made for.
    #[inline]
    pub(crate) unsafe fn wake(&self, wakes: &mut Wakes) {
        match self {
            Target::Task { shared, waiter, .. } => {
                if let Some(hub) = Hub::get()
                    && ptr::eq(&raw const hub.shared, *shared)
                {
                    hub.fire(*waiter);
                    return;
                }
                // SAFETY: passed on to the caller.
                unsafe { self.wake_by_message(wakes) };
            }
            Target::Native(parker) => wakes.push(Wake::Native(parker.clone())),
        }
    }

    /// As [`wake`](Self::wake), but leaves the lists of this thread's hub alone, which may be in the midst of a change.
    ///
    /// # Safety
    ///
    /// As for that.
    pub(crate) unsafe fn wake_by_message(&self, wakes: &mut Wakes) {
        match self {
            Target::Task { shared, waiter, task } => {
                // SAFETY: the owner's hub outlives its wait.
                let shared = unsafe { &**shared }.clone();
                let (task, generation, clause) = (*task, waiter.generation, waiter.clause);
                wakes.push(Wake::Remote { shared, task, generation, clause });
            }
            Target::Native(parker) => wakes.push(Wake::Native(parker.clone())),
        }
    }
}

impl Wakes {
    #[inline]
    pub(crate) const fn new() -> Wakes {
        Wakes { first: ManuallyDrop::new(None), others: ManuallyDrop::new(Vec::new()) }
    }

    /// Has `tell` called too.
    pub(crate) fn tell(&mut self, tell: Tell) {
        self.push(Wake::Tell(tell));
    }

    /// Takes over what others would have woken.
    #[inline]
    pub(crate) fn append(&mut self, mut others: Wakes) {
        if let Some(first) = others.first.take() {
            self.push(first);
            self.others.append(&mut others.others);
        }
    }

    fn push(&mut self, wake: Wake) {
        if self.first.is_none() {
            *self.first = Some(wake);
        } else {
            self.others.push(wake);
        }
    }

    #[cold]
    fn deliver(&mut self) {
        // Who hands something out does not switch, whatever lock is in the way of that.
        let _steady = steady();
        let others = mem::take(&mut *self.others);
        for wake in self.first.take().into_iter().chain(others) {
            match wake {
                Wake::Remote { shared, task, generation, clause } => {
                    // A hub that is gone has nobody left to wake.
                    let _gone = shared.send(Message::Fire(task, generation, clause));
                }
                Wake::Native(parker) => parker.unpark(),
                // A stream's leads to a waker of the user's, which may be dropped here too.
                Wake::Tell(tell) => call_out(move || tell()),
            }
        }
    }
}

impl Drop for Wakes {
    #[inline]
    fn drop(&mut self) {
        if self.first.is_some() {
            self.deliver();
        }
    }
}

/// Where a native thread without a hub stops.
///
/// It looks for a while before it stops, and nobody calls the system for one that still looks. *No wake-up is lost*: who wakes writes
/// what `over` looks at, then reads `sleeping`; who stops writes `sleeping`, then looks. With a sequentially consistent fence between
/// the two on both sides, one of them sees the other.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    sleeping: AtomicBool,
    turn: Mutex<()>,
    changed: Condvar,
}

/// So many rounds of looking, each twice as long as the last up to this one, before the processor is given away between two looks;
/// and so many in all before the thread stops.
const SPIN_ROUNDS: u32 = 6;
const LOOKING_ROUNDS: u32 = 10;

impl Parker {
    fn park(&self, deadline: Option<Instant>, over: impl Fn() -> bool) -> Outcome {
        if Parker::look(&over) {
            return Outcome::Fired(Clause(0));
        }
        let mut turn = self.lock();
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let outcome = loop {
            if over() {
                break Outcome::Fired(Clause(0));
            }
            let Some(deadline) = deadline else {
                turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                break Outcome::Elapsed;
            }
            turn = self.changed.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        self.sleeping.store(false, Ordering::Relaxed);
        outcome
    }

    /// Looks for some microseconds: to be woken by the system takes as long.
    fn look(over: &impl Fn() -> bool) -> bool {
        for round in 0..LOOKING_ROUNDS {
            if over() {
                return true;
            }
            for _ in 0..1 << round.min(SPIN_ROUNDS) {
                hint::spin_loop();
            }
            if round > SPIN_ROUNDS {
                thread::yield_now();
            }
        }
        false
    }

    fn unpark(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            // It holds the lock from the mark to its wait, so it is in its wait by now, or past it.
            drop(self.lock());
            self.changed.notify_one();
        }
    }

    /// Guards nothing that could be left half changed.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a task as waiting for what other threads may share, as long as it exists.
struct CountShared<'a>(&'a Cell<usize>);

impl CountShared<'_> {
    #[inline(always)]
    fn new(hub: &Hub) -> CountShared<'_> {
        hub.parked_on_shared.set(hub.parked_on_shared.get() + 1);
        CountShared(&hub.parked_on_shared)
    }
}

impl Drop for CountShared<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
