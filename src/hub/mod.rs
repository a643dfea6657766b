//! The hub: one thread's scheduler, and the only code that switches.
//!
//! The thread's own stack, its *root*, is a task like the others, except that its stack is not ours: when the root parks, it
//! runs the hub's loop where it stands, until its own turn comes.
//!
//! ```text
//!   root's stack                              a task's stack
//!   ------------                              --------------
//!   joinall -> park -> run_loop -- resume --> body -> read -> park
//!                         ^  |                                  |
//!                         |  +<------------- suspend -----------+
//!                         +-- the queue is empty: poll; root's turn: return
//! ```
//!
//! - **H1** Only [`Hub::switch_out`] switches out, only the loop switches in. Nobody holds a borrow of hub state across it.
//! - **H2** A task is in exactly one place: running, in the run queue, or parked with an armed wait.
//! - **T1** A task never leaves its thread; nothing here is `Send` but what `shared` has.
//! - **P2** A panic ends its task, never the hub: a task's body is caught on its own stack.

use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::ptr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::clock;
use crate::coroutine::{Coroutine, Suspender};
use crate::lock::steady;
use crate::reactor::{Entry, Peer, Reactor};
use crate::run_queue::RunQueue;
use crate::stack::{self, Stack};
use crate::sys;
use crate::thread_block::{self, Block};
use crate::timers::{TimerKey, Timers};
use crate::waiter::{Clause, End, Fired, WaitQueue, Waiter};

mod cancel;
mod cell;
mod fork;
mod header;
mod hook;
mod life;
mod report;
mod shared;
mod sleeper;

pub(crate) use cancel::{Cancelled, Frame, enter_boundary, leave_boundary};
use cell::Blocks;
pub(crate) use cell::{AnyTask, TaskRc};
#[cfg(feature = "monkey")]
pub(crate) use fork::AROUND;
pub(crate) use header::{Header, Reason, State, TaskRef};
pub(crate) use life::{call_out, quietly};
pub(crate) use shared::{Message, Remote, RemoteTask, Shared};
pub(crate) use sleeper::{Sleeper, Target, Tell, Wakes};

/// One thread's scheduler.
pub(crate) struct Hub {
    current: Cell<TaskRef>,
    root: TaskRef,
    ready: Ready,
    /// Switches left until the hub looks at the clock, and at the poller if it is time.
    ticks: Cell<u32>,
    /// How many switches fit between two looks at the clock, measured as we go.
    interval: Cell<u32>,
    /// Calls that may still succeed at once before the running task has to go to the back of the queue.
    credit: Cell<u32>,
    last_poll: Cell<Instant>,
    /// No poll before so many turns, while tasks are ready.
    next_poll: Cell<usize>,
    /// When a timer last went off.
    last_alarm: Cell<Instant>,
    /// Tasks that are parked in the midst of an unwind (P1), of those that share the thread's own thread-locals.
    parked_unwinding: Cell<usize>,
    /// Generators and greenlets that have begun and not ended: code on their stacks may hold on to the hub.
    pins: Cell<usize>,
    /// Tasks that wait for a descriptor or a native job: while there are any, the hub can be woken from outside.
    parked_on_outside: Cell<usize>,
    /// Tasks that wait for an object which other threads may share.
    parked_on_shared: Cell<usize>,
    /// In a forked child whose root stayed with the parent: the hub's loop still runs on its stack, but it never has a turn.
    is_rootless: Cell<bool>,
    /// Nothing may switch: the panic hook is running, or code of the user's on the hub's loop, under a lock, or in a waker.
    held: Cell<bool>,
    /// Where woken tasks gather while a poll is made with others in the queue; they go ahead of these.
    batch: RefCell<Vec<TaskRef>>,
    batching: Cell<bool>,
    next_id: Cell<u64>,
    idlers: WaitQueue,
    timers: RefCell<Timers<Alarm>>,
    /// Alarms that are going off, in order; empty otherwise.
    due: RefCell<Vec<Alarm>>,
    reactor: Reactor,
    tasks: RefCell<Slab<AnyTask>>,
    root_task: AnyTask,
    blocks: Blocks,
    shared: Arc<Shared>,
    /// What patched symbols keep for this thread.
    #[cfg(feature = "monkey")]
    foreign: std::cell::OnceCell<Box<dyn Any>>,
    inbox: RefCell<Vec<Message>>,
}

/// What a timer does.
#[derive(Clone, Copy)]
enum Alarm {
    /// Fires the deadline of a wait.
    Wait(Waiter),
    /// Fires a block. The pointer is good: a block takes its timer along when it ends.
    Block(*const Frame),
}

/// How a wait ended, if it was not cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Fired(Clause),
    Elapsed,
}

/// What a new task is to be.
pub(crate) struct Spec {
    pub(crate) name: Option<Box<str>>,
    pub(crate) stack_size: usize,
    /// With thread-locals of its own.
    pub(crate) own_thread_locals: bool,
    pub(crate) spawned_at: &'static Location<'static>,
}

/// I/O and timers are looked at this often, at least, while tasks run.
const POLL_EVERY: Duration = Duration::from_micros(100);
/// So many switches fit between two looks at the clock, at most.
const MAX_INTERVAL: u32 = 128;
/// So many tasks have their turn between two polls that find others ready, at least, whatever the polls put ahead of them.
const MIN_BETWEEN_POLLS: usize = 16;
/// So many switches fit between two looks at the clock, at least, however slow they are: a turn in which a task reads and
/// writes once.
const MIN_INTERVAL: u32 = 1 + 2 * TICKS_PER_CALL;
/// So many follow a poll that found nobody ready: those that it woke share it.
const AFTER_A_WAIT: u32 = 16 * MIN_INTERVAL;
/// So many calls may succeed without a wait before the task yields.
const CREDIT: u32 = 64;
/// With so many timers set, two wake-ups for timers are no closer than this.
const TOGETHER: (usize, Duration) = (256, Duration::from_micros(150));
/// A hub that sleeps this long has the time to give memory back.
const IDLE_ENOUGH: Duration = Duration::from_millis(1);
/// How long a hub sleeps before it looks whether the threads that might wake it are still there, at first and at most.
const DOUBT: Duration = Duration::from_secs(1);
const MOST_DOUBT: Duration = Duration::from_secs(64);
/// A call costs about as much as this many switches.
const TICKS_PER_CALL: u32 = 2;

const HELD: &str = "greenroom: a call that has to wait, where nothing may: inside the panic hook, a waker, or a comparison for a queue";

thread_local! {
    /// Nothing may switch on a hub that is made now.
    static HOLD: Cell<bool> = const { Cell::new(false) };
}

impl Hub {
    /// Makes a thread's hub.
    fn new() -> io::Result<Hub> {
        let now = clock::now();
        let (reactor, link) = Reactor::new()?;
        stack::prepare_thread();
        stack::set_describe(report::describe_current);
        let blocks = Blocks::new();
        let root_task = TaskRc::<()>::new(&blocks, Header::new(0, None, Location::caller(), now)).erase();
        root_task.header().state.set(State::Started);
        let root = TaskRef::from_header(root_task.header());
        let shared = Arc::new(Shared::new(link));
        Ok(Hub {
            current: Cell::new(root),
            root,
            ready: Ready::new(),
            ticks: Cell::new(MAX_INTERVAL),
            interval: Cell::new(MAX_INTERVAL),
            credit: Cell::new(CREDIT),
            last_poll: Cell::new(now),
            next_poll: Cell::new(0),
            last_alarm: Cell::new(now),
            parked_unwinding: Cell::new(0),
            pins: Cell::new(0),
            parked_on_outside: Cell::new(0),
            parked_on_shared: Cell::new(0),
            is_rootless: Cell::new(false),
            held: Cell::new(HOLD.get()),
            batch: RefCell::default(),
            batching: Cell::new(false),
            next_id: Cell::new(1),
            idlers: WaitQueue::new(),
            timers: RefCell::new(Timers::new()),
            due: RefCell::default(),
            reactor,
            tasks: RefCell::default(),
            root_task,
            blocks,
            shared,
            #[cfg(feature = "monkey")]
            foreign: std::cell::OnceCell::new(),
            inbox: RefCell::default(),
        })
    }

    /// The task that is running.
    #[inline]
    pub(crate) fn current(&self) -> TaskRef {
        self.current.get()
    }

    /// The running task as a counted reference.
    pub(crate) fn current_task(&self) -> AnyTask {
        let current = self.current.get();
        if current == self.root {
            return self.root_task.clone();
        }
        self.tasks.borrow()[current.slot.get() as usize].clone()
    }

    /// Keeps the hub's memory for code on a stack that may be suspended when the thread ends.
    pub(crate) fn pin(&self) {
        self.pins.set(self.pins.get() + 1);
    }

    pub(crate) fn unpin(&self) {
        self.pins.set(self.pins.get() - 1);
    }

    /// Every task but the root.
    pub(crate) fn tasks(&self) -> Vec<AnyTask> {
        self.tasks.borrow().iter().map(|(_, task)| task.clone()).collect()
    }

    fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    pub(crate) fn live_tasks(&self) -> usize {
        self.tasks.borrow().len()
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.get()
    }

    /// Takes the order of the run queue away, for tests.
    pub(crate) fn shuffle(&self, seed: u64) {
        self.ready.shuffle(seed);
    }
}

/// Tasks: spawning and their end.
impl Hub {
    /// Makes a task that runs `body` once `start` says so: in the next turn, or at a time.
    ///
    /// # Safety
    ///
    /// What `body` and `T` borrow lives until the task has ended, or for ever.
    pub(crate) unsafe fn spawn<T>(
        &self,
        spec: Spec,
        start: Option<Instant>,
        body: impl FnOnce() -> T,
    ) -> io::Result<TaskRc<T>> {
        let _steady = steady();
        let stack = Stack::new(spec.stack_size)?;
        let block = match spec.own_thread_locals {
            true => Some(Block::take(stack.usable(), ptr::from_ref(self).cast())?),
            false => None,
        };
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let header = Header::new(id, spec.name, spec.spawned_at, self.last_poll.get());
        let task = TaskRc::<T>::new(&self.blocks, header);

        let this = ptr::from_ref(&*task);
        let main = move |suspender: &Suspender| {
            // SAFETY: the hub's list holds the task until its coroutine is done.
            let task = unsafe { &*this };
            life::live(task, suspender, body);
        };
        // SAFETY: the caller vouches for what `body` borrows; `live` catches every unwind.
        let coroutine = unsafe { Coroutine::new(stack, main) };

        let header = task.header();
        header.thread_block.set(block);
        // SAFETY: nobody else looks at the new task's coroutine yet.
        unsafe { *header.coroutine.get() = Some(coroutine) };
        let slot = self.tasks.borrow_mut().insert(task.erase());
        header.slot.set(u32::try_from(slot).expect("fewer than 2^32 tasks fit into memory"));

        let this = TaskRef::from_header(task.header());
        match start {
            None => self.ready.push(this),
            Some(at) => self.delay(this, at),
        }
        Ok(task)
    }

    /// Parks a new task until its time has come.
    fn delay(&self, task: TaskRef, start: Instant) {
        let generation = task.wait.arm();
        task.reason.set(Reason::Sleep);
        task.cancellable.set(true);
        let parked = task.wait.park();
        debug_assert!(parked, "a wait that was just armed has not fired");
        let alarm = Alarm::Wait(task.waiter(generation, Clause::DEADLINE));
        task.starter.set(Some(self.timers.borrow_mut().insert(start, alarm)));
    }

    /// Takes a task that has ended out of the books. Its stack goes back to its pool.
    #[inline]
    fn reclaim(&self, task: TaskRef) {
        let _steady = steady();
        // SAFETY: the coroutine is done, so nothing runs on it, and nothing else reaches for it. Its destructor, which puts
        // the stack back into its pool, does not come back here.
        unsafe { *task.coroutine.get() = None };
        if let Some(block) = task.thread_block.take() {
            // SAFETY: X3: the task has destroyed its values, and has left its stack for good.
            unsafe { block.give_back() };
        }
        let task = self.tasks.borrow_mut().remove(task.slot.get() as usize);
        drop(task);
    }
}

/// Waiting.
impl Hub {
    /// Begins a wait of the current task: gives a waiter of its first clause. To be followed by [`park`](Self::park).
    #[inline]
    pub(crate) fn arm(&self, clause: Clause) -> Waiter {
        assert!(self.can_switch(), "{HELD}");
        let task = self.current();
        let generation = task.wait.arm();
        task.waiter(generation, clause)
    }

    /// Parks the current task until a clause of its armed wait fires, or until the deadline; unwinds if it is cancelled.
    ///
    /// Inlined into its caller, which had best be inlined too: the switch then stands where no return has to be predicted
    /// across it. What is rare of that which comes before and after it is out of line.
    #[inline(always)]
    pub(crate) fn park(&self, reason: Reason, deadline: Option<Instant>) -> Outcome {
        let task = self.current();
        let unwinding = self.before_park(task);
        let mut timer = None;
        // Otherwise something has fired before the switch.
        if task.wait.park() {
            task.reason.set(reason);
            task.since.set(self.last_poll.get());
            if let Some(deadline) = deadline {
                timer = Some(self.set_wait_timer(task, deadline));
            }
            self.switch_out(task, unwinding);
        }
        match task.wait.settle() {
            Some(clause) if clause.0 < Clause::CANCEL.0 && timer.is_none() => Outcome::Fired(clause),
            fired => self.after_park(task, fired, timer),
        }
    }

    /// Sees to what is pending, and notes whether the coming wait can be cancelled. Says whether the task unwinds.
    #[inline]
    fn before_park(&self, task: TaskRef) -> bool {
        if task.attention.get() {
            self.attend(&task);
        }
        let unwinding = self.is_unwinding(&task);
        task.cancellable.set(!unwinding && !task.ending.get());
        unwinding
    }

    #[cold]
    fn set_wait_timer(&self, task: TaskRef, deadline: Instant) -> TimerKey {
        let alarm = Alarm::Wait(task.waiter(task.wait.generation(), Clause::DEADLINE));
        self.timers.borrow_mut().insert(deadline, alarm)
    }

    #[cold]
    fn after_park(&self, task: TaskRef, fired: Option<Clause>, timer: Option<TimerKey>) -> Outcome {
        if let Some(timer) = timer
            && fired != Some(Clause::DEADLINE)
        {
            self.timers.borrow_mut().cancel(timer);
        }

        match fired {
            Some(Clause::CANCEL) => self.raise_what_woke(&task),
            Some(Clause::DEADLINE) => {
                // W4: a kill wins over the deadline of the wait.
                if task.attention.get() {
                    self.attend(&task);
                }
                Outcome::Elapsed
            }
            Some(clause) => Outcome::Fired(clause),
            None => unreachable!("a parked task is resumed by a clause"),
        }
    }

    /// Gives the others a turn: the current task goes to the back of the queue.
    #[inline(always)]
    pub(crate) fn yield_now(&self) {
        let task = self.current();
        let unwinding = std::thread::panicking() && self.is_unwinding(&task);
        self.ready.push(task);
        self.switch_out(task, unwinding);
        if task.attention.get() {
            self.attend(&task);
        }
    }

    /// Counts a call that may not have to wait; now and then the task gives way first (rule 4).
    #[inline]
    pub(crate) fn charge(&self) {
        let credit = self.credit.get();
        self.credit.set(credit.saturating_sub(1));
        let ticks = self.ticks.get();
        self.ticks.set(ticks.saturating_sub(TICKS_PER_CALL).max(1));
        if (credit == 0 || ticks <= TICKS_PER_CALL) && self.can_switch() {
            self.yield_now();
        }
    }

    /// Counts such a call, unless the task would have to give way first.
    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn try_charge(&self) -> bool {
        let (credit, ticks) = (self.credit.get(), self.ticks.get());
        let can = credit > 0 && ticks > TICKS_PER_CALL;
        if can {
            self.credit.set(credit - 1);
            self.ticks.set(ticks - TICKS_PER_CALL);
        }
        can
    }

    /// Takes what credit the task has: its next call that counts gives way first.
    #[cfg(feature = "monkey")]
    pub(crate) fn spend(&self) {
        self.credit.set(0);
    }

    /// As [`charge`](Self::charge), for a call that costs little: memory is all that it touches.
    #[inline]
    pub(crate) fn charge_little(&self) {
        let credit = self.credit.get();
        if credit == 0 {
            self.give_way();
        } else {
            self.credit.set(credit - 1);
        }
    }

    #[cold]
    fn give_way(&self) {
        if self.can_switch() {
            self.yield_now();
        }
    }

    /// Whether the running code may switch: not from within the panic hook, nor a waker.
    #[inline]
    pub(crate) fn can_switch(&self) -> bool {
        !self.held.get()
    }

    /// The hub of a caller who can be parked in place of his thread: on a task's stack, or on a root that has tasks.
    #[cfg(feature = "monkey")]
    #[inline(always)]
    pub(crate) fn of_caller() -> Option<&'static Hub> {
        let hub = Hub::get()?;
        let is_one = hub.can_switch() && !crate::lock::is_steady() && (hub.current() != hub.root || hub.has_tasks());
        is_one.then_some(hub)
    }

    /// Whether nothing of the crate's is half changed by the running task, so that a lock which it has to wait for may be
    /// waited for by a switch. It may be the allocator's, and so what allocates while it changes something is held, or
    /// [steady](crate::lock::steady); that the lists are free is asked all the same.
    #[cfg(feature = "monkey")]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.can_switch()
            && !crate::lock::is_steady()
            && self.current().wait.is_over()
            && self.tasks.try_borrow_mut().is_ok()
            && self.timers.try_borrow_mut().is_ok()
            && self.batch.try_borrow_mut().is_ok()
            && self.due.try_borrow_mut().is_ok()
    }

    /// Runs `f`, whose waits nothing cancels.
    #[cfg(feature = "monkey")]
    pub(crate) fn uncancelled<R>(&self, f: impl FnOnce() -> R) -> R {
        let current = self.current();
        let _restore = life::Restore::new(&current.ending, current.ending.replace(true));
        f()
    }

    /// A place for what patched symbols keep for this thread.
    #[cfg(feature = "monkey")]
    pub(crate) fn foreign(&self) -> &std::cell::OnceCell<Box<dyn Any>> {
        &self.foreign
    }

    /// False also while the list of tasks is being changed.
    #[cfg(feature = "monkey")]
    fn has_tasks(&self) -> bool {
        self.tasks.try_borrow().is_ok_and(|tasks| !tasks.is_empty())
    }

    /// Makes a call that does not wait: patched symbols are not to look at it.
    #[inline(always)]
    pub(crate) fn bare<R>(&self, call: impl FnOnce() -> R) -> R {
        #[cfg(feature = "monkey")]
        return self.hold(call);
        #[cfg(not(feature = "monkey"))]
        call()
    }

    /// From now on nothing may switch, until [`end_hold`](Self::end_hold) is given the result: around a signal's handler.
    #[cfg(feature = "monkey")]
    pub(crate) fn begin_hold(&self) -> bool {
        self.held.replace(true)
    }

    #[cfg(feature = "monkey")]
    pub(crate) fn end_hold(&self, before: bool) {
        self.held.set(before);
    }

    /// Runs `f`, in which nothing may switch.
    #[inline]
    fn hold<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Release<'a>(&'a Cell<bool>, bool);
        impl Drop for Release<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
            }
        }
        let _release = Release(&self.held, self.held.replace(true));
        f()
    }

    /// Runs `f`, whose calls are the thread's own, however patched they are.
    #[cfg(feature = "monkey")]
    pub(crate) fn holding<R>(&self, f: impl FnOnce() -> R) -> R {
        self.hold(f)
    }

    /// Runs code of the user's where nothing may switch because the caller holds a lock.
    #[inline]
    pub(crate) fn held<R>(f: impl FnOnce() -> R) -> R {
        match Hub::get() {
            Some(hub) => hub.hold(f),
            None => Hub::hold_without(f),
        }
    }

    /// Should `f` make the thread's hub, it may not switch either.
    #[cold]
    fn hold_without<R>(f: impl FnOnce() -> R) -> R {
        struct Release(bool);
        impl Drop for Release {
            fn drop(&mut self) {
                HOLD.set(self.0);
                if let Some(hub) = Hub::get() {
                    hub.held.set(self.0);
                }
            }
        }
        let _release = Release(HOLD.replace(true));
        f()
    }

    /// Refuses a wait of a thread without a hub where nothing may wait.
    #[track_caller]
    pub(crate) fn check_hold() {
        assert!(!HOLD.get(), "{HELD}");
    }

    /// As [`held`](Self::held), and catches a panic, which may be another's affair: see [`go_on`](Self::go_on).
    pub(crate) fn held_and_caught<R>(f: impl FnOnce() -> R) -> thread::Result<R> {
        let noted = Hub::get().map(|hub| (hub, hub.current().unwinding.get()));
        let result = Hub::held(|| catch_unwind(AssertUnwindSafe(f)));
        if let Some((hub, unwinding)) = noted {
            hub.current().unwinding.set(unwinding);
        }
        result
    }

    /// Goes on with a panic that was caught for the caller.
    pub(crate) fn go_on(payload: Box<dyn Any + Send>) -> ! {
        match Hub::get() {
            Some(hub) => hub.pass_on(payload),
            None => resume_unwind(payload),
        }
    }

    /// Saves an unpark for a task, and wakes it if it is parked for one.
    #[inline]
    pub(crate) fn unpark(&self, header: &Header) {
        header.permit.set(true);
        if header.wait.is_parked() && header.reason.get() == Reason::Unpark {
            let task = TaskRef::from_header(header);
            self.fire(task.waiter(header.wait.generation(), Clause(0)));
        }
    }

    /// Parks until the hub has nothing else to do.
    pub(crate) fn wait_until_idle(&self) {
        let waiter = self.arm(Clause(0));
        self.idlers.while_linked(waiter, End::Back, || self.park(Reason::Idle, None));
    }

    /// Fires a waiter and, if it won, puts its task into the run queue. Says whether it won.
    pub(crate) fn fire(&self, waiter: Waiter) -> bool {
        let task = TaskRef::from_wait(waiter.wait);
        match task.wait.fire(waiter.generation, waiter.clause) {
            Fired::Lost => false,
            Fired::Seen => true,
            Fired::Wake => {
                self.make_ready(task);
                true
            }
        }
    }

    #[inline]
    fn make_ready(&self, task: TaskRef) {
        if self.batching.get() {
            let _steady = steady();
            self.batch.borrow_mut().push(task);
        } else {
            self.ready.push(task);
        }
    }

    /// Sets a timer for a block.
    pub(crate) fn set_block_timer(&self, deadline: Instant, frame: &Frame) -> TimerKey {
        self.timers.borrow_mut().insert(deadline, Alarm::Block(frame))
    }

    pub(crate) fn cancel_timer(&self, key: TimerKey) {
        self.timers.borrow_mut().cancel(key);
    }
}

/// Descriptors.
impl Hub {
    #[inline]
    pub(crate) fn entry(&self, fd: RawFd, generation: u32) -> Option<Rc<Entry>> {
        self.reactor.entry(fd, generation)
    }

    /// Runs `f` with what this hub knows of a descriptor. Nothing in there may switch, register or forget one.
    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn with_entry<R>(&self, fd: RawFd, generation: u32, f: impl FnOnce(Option<&Entry>) -> R) -> R {
        self.reactor.with_entry(fd, generation, f)
    }

    pub(crate) fn register(&self, fd: RawFd, generation: u32) -> io::Result<Rc<Entry>> {
        let _steady = steady();
        let peer: Weak<Shared> = Arc::downgrade(&self.shared);
        let peer: Weak<dyn Peer> = peer;
        self.reactor.register(fd, generation, peer, |waiter| self.fire(waiter))
    }

    /// Counts the current task as waiting for a descriptor or a native job while `f` parks it.
    pub(crate) fn on_outside<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Count<'a>(&'a Cell<usize>);
        impl Drop for Count<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.parked_on_outside.set(self.parked_on_outside.get() + 1);
        let _count = Count(&self.parked_on_outside);
        f()
    }
}

/// The loop.
impl Hub {
    /// Leaves the current task, which is in the run queue or parked, until its next turn (H1).
    #[inline(always)]
    fn switch_out(&self, task: TaskRef, unwinding: bool) {
        debug_assert!(!thread_block::is_away(), "X2: nothing parks between two writes of the thread pointer");
        if unwinding {
            let parked = self.unwinds(&task);
            parked.set(parked.get() + 1);
        }
        if task == self.root {
            self.run_loop();
        } else {
            let here = 0_u8;
            task.stack_top.set(&raw const here);
            // SAFETY: the task runs, so its suspender is set and its coroutine is not done.
            let suspender = unsafe { &*task.suspender.get() };
            suspender.suspend();
        }
        // Unless that was corrected meanwhile.
        if unwinding && task.unwinding.get() {
            let parked = self.unwinds(&task);
            parked.set(parked.get() - 1);
        }
    }

    /// Runs tasks until it is the root's turn.
    #[inline(never)]
    fn run_loop(&self) {
        loop {
            let ticks = self.ticks.get() - 1;
            self.ticks.set(ticks);
            if ticks == 0 {
                self.tick();
            }
            let Some(task) = self.ready.pop() else {
                self.current.set(self.root);
                self.hold(|| self.wait_for_work());
                continue;
            };
            self.credit.set(CREDIT);
            self.current.set(task);
            if task == self.root {
                return;
            }
            self.ready.prefetch();
            // SAFETY: a task in the queue has a coroutine that is not done, and while it runs nothing else reaches for it.
            let coroutine = unsafe { &mut *task.coroutine.get() };
            let coroutine = coroutine.as_mut().expect("a ready task has a coroutine");
            let ended = match task.thread_block.get() {
                None => coroutine.resume(),
                // SAFETY: the loop runs on the root's stack, and nobody there unwinds: a task's body is caught (P2).
                Some(block) => unsafe { block.run(|| coroutine.resume()) },
            };
            if ended {
                self.reclaim(task);
            }
        }
    }

    /// Looks at the clock, and at the outside if it is time, while tasks are ready.
    #[cold]
    fn tick(&self) {
        self.current.set(self.root);
        self.hold(|| self.look_around());
    }

    fn look_around(&self) {
        let now = clock::now();
        let elapsed = now.saturating_duration_since(self.last_poll.get());
        let interval = self.interval.get();
        if elapsed < POLL_EVERY && !self.shared.is_notified() {
            let grown = if elapsed < POLL_EVERY / 4 { interval * 2 } else { interval };
            self.interval.set(grown.clamp(MIN_INTERVAL, MAX_INTERVAL));
            self.ticks.set(self.interval.get());
            return;
        }
        // The last interval took too long: look at the clock sooner.
        if elapsed > POLL_EVERY * 2 {
            self.interval.set((interval / 2).max(MIN_INTERVAL));
        }
        if !self.ready.has_reached(self.next_poll.get()) {
            self.ticks.set(self.interval.get());
            return;
        }

        self.batching.set(true);
        self.poll_outside(Some(Duration::ZERO));
        self.batching.set(false);
        let mut batch = self.batch.borrow_mut();
        self.ready.extend_front(&batch);
        // What was put ahead must not keep the rest from running: no poll before some of them had their turn. Turns are
        // counted, not ticks, which the calls of those ahead would use up.
        self.next_poll.set(self.ready.after(batch.len() + MIN_BETWEEN_POLLS));
        batch.clear();
        self.ticks.set(self.interval.get());
    }

    /// Nothing is ready: waits until something is.
    fn wait_for_work(&self) {
        self.take_messages();
        let mut doubt = DOUBT;
        while self.ready.is_empty() {
            let mut timeout = if self.idlers.is_empty() {
                let next = self.timers.borrow().next_deadline();
                next.map(|deadline| self.until(deadline))
            } else {
                Some(Duration::ZERO)
            };
            if timeout.is_none() && self.is_stuck() {
                // A thread may have sent a message and gone since the look at the mailbox.
                if self.parked_on_shared.get() == 0 || (sys::is_only_thread() && !self.shared.is_notified()) {
                    self.report_deadlock();
                }
                // Some other thread may yet serve a task; when the last one has ended, none can.
                timeout = Some(doubt);
                doubt = (doubt * 2).min(MOST_DOUBT);
            }
            if timeout.is_none_or(|timeout| timeout >= IDLE_ENOUGH) && stack::trim() {
                timeout = Some(Duration::ZERO);
            }

            if timeout == Some(Duration::ZERO) {
                self.poll_outside(timeout);
            } else if self.shared.prepare_to_sleep() {
                self.poll_outside(timeout);
                self.shared.awake();
            }
            self.take_messages();
            if self.ready.is_empty() {
                self.wake_idlers();
            }
        }
        self.ticks.set(self.interval.get().max(AFTER_A_WAIT));
    }

    /// How long to sleep for a deadline. Where deadlines lie dense they are met together, a little late, for a wake-up
    /// costs more than all else: of 100,000 sleeping tasks each cost 3.9 µs of CPU without this, and a third with it (2026-11).
    fn until(&self, deadline: Instant) -> Duration {
        let now = clock::now();
        let left = deadline.saturating_duration_since(now);
        let (many, apart) = TOGETHER;
        if left.is_zero() || self.timers.borrow().len() < many {
            return left;
        }
        left.max(apart.saturating_sub(now.saturating_duration_since(self.last_alarm.get())))
    }

    /// Looks at descriptors, then at timers: data wins over a deadline of the same turn (W4).
    fn poll_outside(&self, timeout: Option<Duration>) {
        if let Err(error) = self.reactor.poll(timeout, |waiter| self.fire(waiter)) {
            panic!("greenroom: the poller failed: {error}");
        }
        let now = clock::now();
        self.last_poll.set(now);
        self.sound_alarms(now);
        if self.batching.get() {
            self.take_messages();
        }
    }

    /// Fires what is due. All of it is taken first, and fetched into the cache on the way: the tasks have slept, so nothing of
    /// theirs is there.
    fn sound_alarms(&self, now: Instant) {
        let mut timers = self.timers.borrow_mut();
        let mut due = self.due.borrow_mut();
        while let Some(alarm) = timers.pop_expired(now) {
            if let Alarm::Wait(waiter) = &alarm {
                prefetch(waiter.wait.as_ptr().cast());
            }
            due.push(alarm);
        }
        drop(timers);
        if !due.is_empty() {
            self.last_alarm.set(now);
        }
        for alarm in due.drain(..) {
            match alarm {
                Alarm::Wait(waiter) => {
                    self.fire(waiter);
                }
                // SAFETY: the timer is cancelled before the block's frame dies, and nothing has run since it went off.
                Alarm::Block(frame) => self.fire_block(unsafe { &*frame }),
            }
        }
    }

    fn wake_idlers(&self) {
        self.idlers.offer(|waiter| {
            self.fire(waiter);
            false
        });
    }

    /// Whether the root waits and nothing can ever wake it (rule 7), but a thread that shares what a task waits for. The queue is
    /// empty and so are the timers.
    fn is_stuck(&self) -> bool {
        self.parked_on_outside.get() == 0 && !self.shared.has_handles() && !self.shared.is_notified()
    }
}

/// The run queue, behind a shared reference.
struct Ready(UnsafeCell<RunQueue<TaskRef>>);

impl Ready {
    fn new() -> Ready {
        Ready(UnsafeCell::new(RunQueue::new()))
    }

    /// The queue; the borrow ends inside each method below, which call nothing that comes back here.
    #[allow(clippy::mut_from_ref, reason = "private to four methods of this type, none of which overlaps another")]
    #[inline]
    fn queue(&self) -> &mut RunQueue<TaskRef> {
        // SAFETY: one thread, and no method below runs code that could call another: the elements are plain pointers.
        unsafe { &mut *self.0.get() }
    }

    #[inline]
    fn push(&self, task: TaskRef) {
        debug_assert!(!task.wait.is_parked(), "H2: a parked task is not ready");
        self.queue().push_back(task);
    }

    #[inline]
    fn pop(&self) -> Option<TaskRef> {
        self.queue().pop()
    }

    fn is_empty(&self) -> bool {
        self.queue().is_empty()
    }

    fn extend_front(&self, tasks: &[TaskRef]) {
        self.queue().extend_front(tasks);
    }

    /// The count of turns when `turns` more will have been given.
    fn after(&self, turns: usize) -> usize {
        self.queue().turns().wrapping_add(turns)
    }

    /// Whether the count of turns has come to `turns`.
    fn has_reached(&self, turns: usize) -> bool {
        self.queue().turns().wrapping_sub(turns) <= usize::MAX / 2
    }

    fn shuffle(&self, seed: u64) {
        self.queue().shuffle(seed);
    }

    fn clear(&self) {
        while self.pop().is_some() {}
    }

    /// Fetches what the next turns will touch into the cache.
    #[inline]
    fn prefetch(&self) {
        if let Some(next) = self.queue().peek(0) {
            prefetch(next.stack_top.get());
            if let Some(block) = next.thread_block.get() {
                prefetch(block.hot());
            }
        }
        if let Some(later) = self.queue().peek(1) {
            prefetch(later.as_ptr().cast());
        }
    }
}

/// Hints the processor at memory that will be read soon.
#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address will do.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _no_hint = address;
}
