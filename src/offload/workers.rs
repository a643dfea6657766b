//! The native threads of a pool: started when there is work, gone when there has been none for a while.
//!
//! A job's way, every step under the lock:
//!
//! ```text
//! push ──► queue ── next ──► running ── settle ──► (the result is handed over) ──► out of `open`
//!            └───── take ───────┘
//! ```
//!
//! - **O1** A queued job has a thread that will take it: `threads` is above 0 while `queue` is not empty. A worker leaves
//!   for want of work only when the queue is empty; one that leaves because the pool shrank leaves others behind.
//! - **O2** A worker that waits holds nothing of a job and no handle on a hub, and is counted as idle until it is told of work, by
//!   who brings it: an idle pool hides no deadlock, and a busy one is not taken for idle (rule 7).
//! - **O3** Code of the user's never runs under the lock, and no panic of it comes out of a [`Work`].
//! - **O4** In a forked child no worker is left: the books start anew, and the jobs that were there are never run and
//!   never dropped, as stacks of other threads are not.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::{Arc, Condvar};
use std::thread;
use std::time::Duration;

use crate::hub::Hub;
use crate::lock::{Slow, SlowGuard};
use crate::promise::Promise;
use crate::sys;
use crate::thread_block::on_root;

/// How long a worker without work stays.
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// A pool's threads and their books.
pub(super) struct Workers {
    state: Slow<State>,
    work: Condvar,
    name: &'static str,
    idle_for: Duration,
}

struct State {
    /// The most threads at once; at least 1.
    size: usize,
    /// Nothing is accepted any more, and workers leave as soon as the queue is empty.
    closed: bool,
    /// The process that started the threads (O4).
    process: u32,
    threads: usize,
    /// Workers that wait and have been told of nothing.
    idle: usize,
    /// Workers that wait and have been told to look: whoever wakes first takes that upon itself.
    told: usize,
    /// By number, which is the order of coming: a job can be taken out of the midst.
    queue: BTreeMap<u64, Box<dyn Work>>,
    next: u64,
    running: usize,
    /// Jobs that were accepted and whose result has not been handed over.
    open: usize,
    /// Kept when `open` comes to 0; only there if somebody waits for that.
    drained: Option<Arc<Promise<()>>>,
}

/// A job. Neither method lets a panic out.
pub(super) trait Work: Send {
    /// Runs the body and keeps what came of it.
    fn run(&mut self);

    /// Hands over what came of it; that it was never run, if it was not.
    fn deliver(self: Box<Self>);
}

/// A job's name in its pool, never used again.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    process: u32,
    number: u64,
}

impl Ticket {
    /// Whether the job was left behind in the process that this one was forked from.
    pub(super) fn is_lost(self) -> bool {
        self.process != std::process::id()
    }
}

/// A job that a pool does not take, and why.
pub(super) struct Refused {
    pub(super) job: Box<dyn Work>,
    pub(super) why: Refusal,
}

pub(super) enum Refusal {
    Closed,
    /// There is no thread, and the system gives none.
    NoThread(io::Error),
}

/// What [`Workers::counts`] tells.
pub(super) struct Counts {
    pub(super) size: usize,
    pub(super) threads: usize,
    pub(super) queued: usize,
    pub(super) running: usize,
}

thread_local! {
    /// The pool whose worker this thread is.
    static MINE: Cell<*const Workers> = const { Cell::new(ptr::null()) };
}

/// Whether this thread is a worker of any pool.
pub(crate) fn on_worker() -> bool {
    !on_root(|| MINE.get()).is_null()
}

impl Workers {
    pub(super) fn new(size: usize, name: &'static str, idle_for: Duration) -> Workers {
        let state = State {
            size,
            closed: false,
            process: std::process::id(),
            threads: 0,
            idle: 0,
            told: 0,
            queue: BTreeMap::new(),
            next: 0,
            running: 0,
            open: 0,
            drained: None,
        };
        Workers { state: Slow::new(state), work: Condvar::new(), name, idle_for }
    }

    /// Whether this thread is one of these workers.
    pub(super) fn is_mine(&self) -> bool {
        ptr::eq(on_root(|| MINE.get()), self)
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.lock();
        Counts { size: state.size, threads: state.threads, queued: state.queue.len(), running: state.running }
    }

    /// Queues a job and sees to a thread for it; gives it back if the pool does not take it.
    pub(super) fn push(self: &Arc<Self>, job: Box<dyn Work>) -> (Ticket, Result<(), Refused>) {
        let mut state = self.lock();
        let ticket = Ticket { process: state.process, number: state.next };
        state.next += 1;
        if state.closed {
            return (ticket, Err(Refused { job, why: Refusal::Closed }));
        }

        if !self.tell(&mut state, 1)
            && state.threads < state.size
            && let Err(error) = self.start(&mut state)
            // With a thread at work the job merely waits longer (O1).
            && state.threads == 0
        {
            return (ticket, Err(Refused { job, why: Refusal::NoThread(error) }));
        }
        state.queue.insert(ticket.number, job);
        state.open += 1;
        (ticket, Ok(()))
    }

    /// Takes a job that no thread has begun out of the queue. It counts as running from now on: [`settle`](Self::settle) it.
    pub(super) fn take(&self, ticket: Ticket) -> Option<Box<dyn Work>> {
        let mut state = self.lock();
        if ticket.process != state.process {
            return None;
        }
        let job = state.queue.remove(&ticket.number)?;
        state.running += 1;
        Some(job)
    }

    /// Hands a job's result over. It no longer counts when whoever waits for it wakes; who waits for all jobs wakes later.
    pub(super) fn settle(&self, ticket: Ticket, job: Box<dyn Work>) {
        // In a forked child the job is in nobody's books.
        let counts = |state: &State| state.process == ticket.process;

        let mut state = self.lock();
        if counts(&state) {
            state.running -= 1;
        }
        drop(state);
        job.deliver();

        let mut state = self.lock();
        if !counts(&state) {
            return;
        }
        state.open -= 1;
        let drained = if state.open == 0 { state.drained.take() } else { None };
        drop(state);
        if let Some(drained) = drained {
            let kept = drained.keep(());
            debug_assert!(kept.is_ok(), "it is taken out of the state to be kept");
        }
    }

    /// What is kept once no job is left; `None` if none is.
    pub(super) fn drained(&self) -> Option<Arc<Promise<()>>> {
        let mut state = self.lock();
        if state.open == 0 {
            return None;
        }
        Some(state.drained.get_or_insert_with(|| Arc::new(Promise::new())).clone())
    }

    /// Changes the most threads at once: starts more if jobs wait for them, and lets idle ones go.
    pub(super) fn resize(self: &Arc<Self>, size: usize) {
        let mut state = self.lock();
        state.size = size;
        for _ in state.told..state.queue.len() {
            // One that cannot be started is not missed: O1 holds without it.
            if state.threads >= size || self.start(&mut state).is_err() {
                break;
            }
        }
        self.tell_all(&mut state);
    }

    /// Accepts nothing any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.tell_all(&mut state);
    }

    /// Tells `count` workers to look for work; false if so many are not idle.
    fn tell(&self, state: &mut State, count: usize) -> bool {
        if state.idle < count {
            return false;
        }
        sys::remove_idle_workers(state.process, count);
        state.idle -= count;
        state.told += count;
        for _ in 0..count {
            self.work.notify_one();
        }
        true
    }

    fn tell_all(&self, state: &mut State) {
        let all = state.idle;
        self.tell(state, all);
    }

    fn start(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let (this, process) = (self.clone(), state.process);
        // A native one, whatever is patched.
        Hub::held(|| thread::Builder::new().name(self.name.into()).spawn(move || this.serve(process)))?;
        state.threads += 1;
        Ok(())
    }

    /// A worker's life.
    fn serve(self: Arc<Self>, process: u32) {
        MINE.set(Arc::as_ptr(&self));
        while let Some((ticket, mut job)) = self.next(process) {
            job.run();
            // The next job finds no more of this one than a new thread would.
            if let Some(hub) = Hub::get() {
                hub.renew_root();
            }
            self.settle(ticket, job);
        }
        MINE.set(ptr::null());
    }

    /// The next job, or `None` if this thread should end.
    fn next(&self, process: u32) -> Option<(Ticket, Box<dyn Work>)> {
        let mut state = self.lock();
        let mut waited = false;
        loop {
            // A job has forked: this is the child, and the thread is in nobody's books.
            if state.process != process {
                return None;
            }
            if state.threads > state.size {
                // What this worker was told of is for another.
                if !state.queue.is_empty() {
                    self.tell(&mut state, 1);
                }
                break;
            }
            if let Some((number, job)) = state.queue.pop_first() {
                state.running += 1;
                return Some((Ticket { process, number }, job));
            }
            if state.closed || waited {
                break;
            }

            sys::add_idle_worker(process);
            state.idle += 1;
            let (woken, wait) = state.wait_timeout(&self.work, self.idle_for);
            state = woken;
            if state.told > 0 {
                state.told -= 1;
            } else {
                sys::remove_idle_workers(process, 1);
                state.idle -= 1;
                waited = wait.timed_out();
            }
        }
        state.threads -= 1;
        None
    }

    fn lock(&self) -> SlowGuard<'_, State> {
        let mut state = self.state.lock();
        if state.process != std::process::id() {
            state.forget_parent();
        }
        state
    }
}

impl State {
    /// Starts anew in a forked child (O4).
    #[cold]
    fn forget_parent(&mut self) {
        self.process = std::process::id();
        (self.threads, self.idle, self.told, self.running, self.open) = (0, 0, 0, 0, 0);
        let _leaked = ManuallyDrop::new((std::mem::take(&mut self.queue), self.drained.take()));
    }
}
