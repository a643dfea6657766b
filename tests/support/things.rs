//! Objects that tasks and threads share, with random operations on them and the books of what must be true of these.
//!
//! - An item is got once, or comes back to who was to put it, or is dropped with a put that was cancelled. Once it was put, it is
//!   not lost.
//! - A lock has one holder, or readers only; a semaphore has no more permits out than it has.
//! - What ran into its time limit did not do so early, and has taken nothing.
//!
//! Comparisons and copies of items panic now and then.

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use greenroom::queue::{Channel, LifoQueue, PriorityQueue, PutError, Queue};
use greenroom::sync::mpsc::{self, Receiver, SyncSender};
use greenroom::sync::{Condvar, Event, Mutex, RwLock, Semaphore};
use greenroom::{iwait, select, timeout, wait};

/// What was seen to be wrong.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<StdMutex<Vec<String>>>);

impl Ledger {
    fn check(&self, fact: bool, what: impl FnOnce() -> String) {
        if !fact {
            self.0.lock().unwrap().push(what());
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// What is known of an item.
struct Fate {
    /// `OUT`, `PUT` or `GOT`.
    state: AtomicU8,
    dropped: AtomicBool,
}

/// Not yet put, perhaps; or a put of it was cancelled.
const OUT: u8 = 0;
/// A put of it has returned.
const PUT: u8 = 1;
const GOT: u8 = 2;

pub(crate) struct Item {
    rank: u8,
    /// None of a copy.
    fate: Option<Arc<Fate>>,
    ledger: Ledger,
}

/// What a comparison or copy panics with.
struct Fault;

thread_local! {
    /// So many calls of user code until one panics.
    static FUSE: Cell<u32> = const { Cell::new(20) };
}

fn fault() {
    let left = FUSE.get();
    FUSE.set(left.checked_sub(1).unwrap_or(97));
    if left == 0 {
        resume_unwind(Box::new(Fault));
    }
}

impl Item {
    /// Notes that it was put; to be called with what `fate` gave before.
    fn put(fate: &Fate, ledger: &Ledger) {
        let before = fate.state.compare_exchange(OUT, PUT, SeqCst, SeqCst);
        ledger.check(before != Err(PUT), || "an item was put twice".into());
        // Who gets it says so before he drops it.
        let lost = fate.dropped.load(SeqCst) && fate.state.load(SeqCst) == PUT;
        ledger.check(!lost, || "an item that was put was lost before".into());
    }

    /// It came out of the channel.
    #[allow(dead_code, reason = "one of two test binaries uses it")]
    pub(crate) fn taken(self) {
        self.got();
    }

    fn got(&self) {
        let Some(fate) = &self.fate else { return self.ledger.check(false, || "a copy was got".into()) };
        self.ledger.check(fate.state.swap(GOT, SeqCst) != GOT, || "an item was got twice".into());
    }

    /// It came back from a put that did not succeed.
    fn back(&self) {
        let state = self.fate.as_ref().map(|fate| fate.state.load(SeqCst));
        self.ledger.check(state == Some(OUT), || format!("an item came back that was put: {state:?}"));
    }
}

impl Clone for Item {
    fn clone(&self) -> Item {
        fault();
        Item { rank: self.rank, fate: None, ledger: self.ledger.clone() }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        let Some(fate) = &self.fate else { return };
        self.ledger.check(!fate.dropped.swap(true, SeqCst), || "an item was dropped twice".into());
        self.ledger.check(fate.state.load(SeqCst) != PUT, || "an item was lost".into());
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Item) -> Ordering {
        fault();
        self.rank.cmp(&other.rank)
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Item {}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").field("rank", &self.rank).finish_non_exhaustive()
    }
}

/// Who does a step.
#[derive(Clone, Copy)]
pub(crate) struct Actor<'a> {
    /// The channel's, if it is on this thread.
    pub(crate) receiver: Option<&'a Receiver<Item>>,
    /// A thread without a hub, which is to get none, and holds one thing at a time.
    pub(crate) native: bool,
}

/// A queue, with how many items came out of it and were reported as done.
struct Counted<Q> {
    queue: Q,
    got: AtomicUsize,
    done: AtomicUsize,
}

impl<Q> Counted<Q> {
    fn new(queue: Q) -> Counted<Q> {
        Counted { queue, got: AtomicUsize::new(0), done: AtomicUsize::new(0) }
    }
}

pub(crate) struct Things {
    ledger: Ledger,
    mutex: Mutex<()>,
    inside: AtomicBool,
    changed: Condvar,
    shared: RwLock<()>,
    readers: AtomicUsize,
    writing: AtomicBool,
    semaphore: Semaphore,
    out: AtomicUsize,
    two: Counted<Queue<Item>>,
    zero: Counted<Queue<Item>>,
    stack: Counted<LifoQueue<Item>>,
    ranked: Counted<PriorityQueue<Item>>,
    channel: Counted<Channel<Item>>,
    sender: SyncSender<Item>,
    event: Event,
    /// How often somebody began to set it, and was done.
    sets: (AtomicUsize, AtomicUsize),
}

const PERMITS: usize = 3;

/// A flag that is up as long as this exists.
struct Up<'a>(&'a AtomicBool);

impl<'a> Up<'a> {
    fn new(flag: &'a AtomicBool, ledger: &Ledger, what: &str) -> Up<'a> {
        ledger.check(!flag.swap(true, SeqCst), || format!("{what} has two holders"));
        Up(flag)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// Counted as long as this exists.
struct More<'a>(&'a AtomicUsize, usize);

impl<'a> More<'a> {
    fn new(count: &'a AtomicUsize, by: usize) -> More<'a> {
        count.fetch_add(by, SeqCst);
        More(count, by)
    }
}

impl Drop for More<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, SeqCst);
    }
}

pub(crate) fn short(rng: &mut Rng) -> Duration {
    match rng.u8(..4) {
        0 => Duration::ZERO,
        1 => Duration::from_micros(rng.u64(..100)),
        _ => Duration::from_micros(rng.u64(..1000)),
    }
}

/// Runs what may end with a [`Fault`].
fn tolerant<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Fault>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// What a `select!` has said of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Not,
    /// It was cancelled.
    Perhaps,
    Taken,
    Refused,
}

impl Sent {
    fn of(result: Result<(), Item>) -> Sent {
        match result {
            Ok(()) => Sent::Taken,
            Err(item) => {
                item.back();
                Sent::Refused
            }
        }
    }

    fn or_perhaps(self, cancelled: bool) -> Sent {
        if self == Sent::Not && cancelled { Sent::Perhaps } else { self }
    }
}

macro_rules! queue_steps {
    ($($name:ident: $Queue:ident;)*) => {$(
        fn $name(&self, counted: &Counted<$Queue<Item>>, actor: Actor<'_>, rng: &mut Rng) {
            let (queue, limit, begun) = (&counted.queue, short(rng), Instant::now());
            let early = |begun: Instant| begun.elapsed() < limit;
            match rng.u8(..16) {
                0 | 1 => {
                    let (item, fate) = self.item(rng);
                    match tolerant(|| queue.try_put(item)) {
                        Some(Ok(())) => Item::put(&fate, &self.ledger),
                        Some(Err(error)) => error.into_inner().back(),
                        None => {}
                    }
                }
                2..=4 => {
                    let (item, fate) = self.item(rng);
                    match tolerant(|| queue.put_timeout(item, limit)) {
                        Some(Ok(())) => Item::put(&fate, &self.ledger),
                        Some(Err(error)) => {
                            let fair = queue.is_shut_down() || !early(begun);
                            self.ledger.check(fair, || "a put gave up early".into());
                            error.into_inner().back();
                        }
                        None => {}
                    }
                }
                5 if !actor.native => {
                    let (item, fate) = self.item(rng);
                    match tolerant(|| timeout(limit, || queue.put(item))) {
                        Some(Ok(Ok(()))) => Item::put(&fate, &self.ledger),
                        Some(Ok(Err(error))) => error.into_inner().back(),
                        Some(Err(_)) => self.ledger.check(!early(begun), || "a put ran out of time early".into()),
                        None => {}
                    }
                }
                6 | 7 => {
                    if let Some(Ok(item)) = tolerant(|| queue.try_get()) {
                        self.take(item, counted, rng, |queue| queue.task_done());
                    }
                }
                8..=10 => match tolerant(|| queue.get_timeout(limit)) {
                    Some(Ok(item)) => self.take(item, counted, rng, |queue| queue.task_done()),
                    Some(Err(_)) => {
                        let fair = queue.is_shut_down() || !early(begun);
                        self.ledger.check(fair, || "a get gave up early".into());
                    }
                    None => {}
                },
                11 if !actor.native => {
                    if let Some(Ok(Ok(item))) = tolerant(|| timeout(limit, || queue.get())) {
                        self.take(item, counted, rng, |queue| queue.task_done());
                    }
                }
                12 => {
                    let seen = tolerant(|| queue.peek_timeout(limit));
                    let real = matches!(&seen, Some(Ok(item)) if item.fate.is_some());
                    self.ledger.check(!real, || "a peek gave an item away".into());
                }
                13 => drop(queue.join_timeout(limit)),
                14 if !actor.native => {
                    let ready = wait([queue], Some(limit), None);
                    self.ledger.check(!ready.is_empty() || !early(begun), || "a wait gave up early".into());
                }
                15 if rng.u8(..40) == 0 => {
                    if rng.bool() {
                        queue.shutdown();
                    } else {
                        // If its comparisons panic, the items are dropped.
                        let fuse = FUSE.replace(u32::MAX);
                        queue.shutdown_now().iter().for_each(Item::got);
                        FUSE.set(fuse);
                    }
                }
                _ => {}
            }
        }
    )*};
}

macro_rules! settle_queues {
    ($this:ident: $($name:ident)*) => {$(
        let Counted { queue, got, done } = &$this.$name;
        loop {
            match tolerant(|| queue.try_get()) {
                Some(Ok(item)) => {
                    item.got();
                    got.fetch_add(1, SeqCst);
                }
                Some(Err(_)) => break,
                None => {}
            }
        }
        let (left, got, done) = (queue.unfinished(), got.load(SeqCst), done.load(SeqCst));
        // What `shutdown_now` dropped counts as done there.
        $this.ledger.check(left == got - done, || format!("{left} unfinished of {got} got, {done} done"));
    )*};
}

impl Things {
    pub(crate) fn new(ledger: &Ledger) -> (Things, Receiver<Item>) {
        let (sender, receiver) = mpsc::sync_channel(1);
        let things = Things {
            ledger: ledger.clone(),
            mutex: Mutex::new(()),
            inside: AtomicBool::new(false),
            changed: Condvar::new(),
            shared: RwLock::new(()),
            readers: AtomicUsize::new(0),
            writing: AtomicBool::new(false),
            semaphore: Semaphore::new(PERMITS),
            out: AtomicUsize::new(0),
            two: Counted::new(Queue::bounded(2)),
            zero: Counted::new(Queue::bounded(0)),
            stack: Counted::new(LifoQueue::bounded(1)),
            ranked: Counted::new(PriorityQueue::bounded(4)),
            channel: Counted::new(Channel::new()),
            sender,
            event: Event::new(),
            sets: (AtomicUsize::new(0), AtomicUsize::new(0)),
        };
        (things, receiver)
    }

    fn item(&self, rng: &mut Rng) -> (Item, Arc<Fate>) {
        let fate = Arc::new(Fate { state: AtomicU8::new(OUT), dropped: AtomicBool::new(false) });
        (Item { rank: rng.u8(..5), fate: Some(fate.clone()), ledger: self.ledger.clone() }, fate)
    }

    fn take<Q>(&self, item: Item, from: &Counted<Q>, rng: &mut Rng, done: impl FnOnce(&Q)) {
        item.got();
        from.got.fetch_add(1, SeqCst);
        if rng.bool() {
            from.done.fetch_add(1, SeqCst);
            done(&from.queue);
        }
    }

    /// One step, in which `within` runs while something is held.
    pub(crate) fn step(&self, rng: &mut Rng, actor: Actor<'_>, within: &mut dyn FnMut(&mut Rng)) {
        match rng.u8(..19) {
            0 | 1 => self.locks(rng, actor, within),
            2 => self.shares(rng, actor, within),
            3 | 4 => self.acquires(rng, actor, within),
            5 => self.events(rng),
            6 | 7 => self.step_fifo(&self.two, actor, rng),
            8 => self.step_fifo(&self.zero, actor, rng),
            9 => self.step_lifo(&self.stack, actor, rng),
            10 | 11 => self.step_ranked(&self.ranked, actor, rng),
            12 => self.step_channel(&self.channel, actor, rng),
            13 | 14 => self.messages(rng, actor),
            15 | 16 => self.selects(rng, actor),
            17 => self.selects_both_ends(rng, actor),
            _ => self.waits(rng, actor),
        }
    }

    fn locks(&self, rng: &mut Rng, actor: Actor<'_>, within: &mut dyn FnMut(&mut Rng)) {
        let limit = short(rng);
        let locked = match rng.u8(..4) {
            0 => self.mutex.try_lock().ok(),
            _ if actor.native => self.mutex.lock().ok(),
            _ => timeout(limit, || self.mutex.lock()).ok().and_then(Result::ok),
        };
        self.mutex.clear_poison();
        let Some(guard) = locked else { return };
        let up = Up::new(&self.inside, &self.ledger, "the mutex");
        if !actor.native {
            within(rng);
        }
        if rng.bool() {
            drop(up);
            let limit = short(rng);
            let (waited, begun) = (short(rng), Instant::now());
            let woken = if actor.native {
                Some(self.changed.wait_timeout(guard, waited))
            } else {
                timeout(limit, || self.changed.wait_timeout(guard, waited)).ok()
            };
            match woken {
                Some(Ok((_guard, result))) => {
                    let _up = Up::new(&self.inside, &self.ledger, "the mutex, after a notification,");
                    let early = result.timed_out() && begun.elapsed() < waited;
                    self.ledger.check(!early, || "a condition variable gave up early".into());
                    self.changed.notify_one();
                }
                Some(Err(_)) => self.mutex.clear_poison(),
                None => {}
            }
        } else if rng.bool() {
            self.changed.notify_one();
        } else {
            self.changed.notify_all();
        }
    }

    fn shares(&self, rng: &mut Rng, actor: Actor<'_>, within: &mut dyn FnMut(&mut Rng)) {
        let limit = short(rng);
        let mut within = |rng: &mut Rng| {
            if !actor.native {
                within(rng);
            }
        };
        if rng.bool() {
            let got = if actor.native {
                self.shared.read().ok()
            } else {
                timeout(limit, || self.shared.read()).ok().and_then(Result::ok)
            };
            self.shared.clear_poison();
            let Some(_guard) = got else { return };
            let _more = More::new(&self.readers, 1);
            self.ledger.check(!self.writing.load(SeqCst), || "a reader beside a writer".into());
            within(rng);
            self.ledger.check(!self.writing.load(SeqCst), || "a writer beside a reader".into());
        } else {
            let got = if actor.native {
                self.shared.write().ok()
            } else {
                timeout(limit, || self.shared.write()).ok().and_then(Result::ok)
            };
            self.shared.clear_poison();
            let Some(guard) = got else { return };
            let up = Up::new(&self.writing, &self.ledger, "the lock for writing");
            self.ledger.check(self.readers.load(SeqCst) == 0, || "a writer beside a reader".into());
            within(rng);
            self.ledger.check(self.readers.load(SeqCst) == 0, || "a reader beside a writer".into());
            drop(up);
            if rng.bool() {
                let _guard = greenroom::sync::RwLockWriteGuard::downgrade(guard);
                let _more = More::new(&self.readers, 1);
                within(rng);
                self.ledger.check(!self.writing.load(SeqCst), || "a writer beside a reader that was one".into());
            }
        }
    }

    fn acquires(&self, rng: &mut Rng, actor: Actor<'_>, within: &mut dyn FnMut(&mut Rng)) {
        let (count, limit, begun) = (rng.usize(1..=PERMITS), short(rng), Instant::now());
        let permit = match rng.u8(..3) {
            0 => self.semaphore.try_acquire_many(count),
            1 if !actor.native => timeout(limit, || self.semaphore.acquire_many(count)).ok(),
            _ => {
                let permit = self.semaphore.acquire_many_timeout(count, limit);
                let fair = permit.is_ok() || begun.elapsed() >= limit;
                self.ledger.check(fair, || "a semaphore gave up early".into());
                permit.ok()
            }
        };
        let Some(_permit) = permit else { return };
        let _out = More::new(&self.out, count);
        self.check_permits();
        if !actor.native {
            within(rng);
        }
    }

    fn check_permits(&self) {
        let out = self.out.load(SeqCst);
        self.ledger.check(out <= PERMITS, || format!("{out} of {PERMITS} permits are out"));
    }

    fn events(&self, rng: &mut Rng) {
        let (limit, begun) = (short(rng), Instant::now());
        match rng.u8(..4) {
            0 => {
                self.sets.0.fetch_add(1, SeqCst);
                self.event.set();
                self.sets.1.fetch_add(1, SeqCst);
            }
            1 => self.event.clear(),
            _ => {
                let before = (self.sets.1.load(SeqCst), self.event.is_set());
                if self.event.wait_timeout(limit) {
                    let fair = before.1 || self.sets.0.load(SeqCst) > before.0;
                    self.ledger.check(fair, || "an event that nobody set".into());
                } else {
                    self.ledger.check(begun.elapsed() >= limit, || "an event gave up early".into());
                }
            }
        }
    }

    fn messages(&self, rng: &mut Rng, actor: Actor<'_>) {
        let (limit, begun) = (short(rng), Instant::now());
        match (rng.u8(..4), actor.receiver) {
            (0, Some(receiver)) => {
                if let Ok(item) = receiver.try_recv() {
                    item.got();
                }
            }
            (1, Some(receiver)) => match receiver.recv_timeout(limit) {
                Ok(item) => item.got(),
                Err(_) => self.ledger.check(begun.elapsed() >= limit, || "a receiver gave up early".into()),
            },
            (2, _) if !actor.native => {
                let (item, fate) = self.item(rng);
                match timeout(limit, || self.sender.send(item)) {
                    Ok(Ok(())) => Item::put(&fate, &self.ledger),
                    Ok(Err(error)) => error.0.back(),
                    Err(_) => {}
                }
            }
            _ => {
                let (item, fate) = self.item(rng);
                match self.sender.try_send(item) {
                    Ok(()) => Item::put(&fate, &self.ledger),
                    Err(mpsc::TrySendError::Full(item) | mpsc::TrySendError::Disconnected(item)) => item.back(),
                }
            }
        }
    }

    /// What became of an item that a place held during a `select!`.
    fn after_select(&self, place: Option<Item>, fate: &Fate, sent: Sent) {
        match (place, sent) {
            (Some(item), Sent::Not | Sent::Perhaps) => item.back(),
            (None, Sent::Perhaps | Sent::Taken) => Item::put(fate, &self.ledger),
            (None, Sent::Refused) => {}
            (place, _) => self.ledger.check(false, || format!("a select said {sent:?} of {place:?}")),
        }
    }

    fn selects(&self, rng: &mut Rng, actor: Actor<'_>) {
        let (limit, begun) = (short(rng), Instant::now());
        let (one, one_fate) = self.item(rng);
        let (other, other_fate) = self.item(rng);
        let (mut one, mut other) = (Some(one), Some(other));
        let (mut sent, mut put) = (Sent::Not, Sent::Not);
        let mut got: Option<Item> = None;
        let mut choose = || {
            select! {
                get(&self.ranked.queue) -> item => {
                    if item.is_ok() {
                        self.ranked.got.fetch_add(1, SeqCst);
                    }
                    got = item.ok();
                },
                send(&self.sender, from one) -> result => sent = Sent::of(result.map_err(|error| error.0)),
                acquire(&self.semaphore) -> _permit => {
                    let _out = More::new(&self.out, 1);
                    self.check_permits();
                },
                put(&self.zero.queue, from other) -> result => put = Sent::of(result.map_err(PutError::into_inner)),
                wait(&self.event) => {}
                get(&self.channel.queue) -> item => {
                    if item.is_ok() {
                        self.channel.got.fetch_add(1, SeqCst);
                    }
                    got = item.ok();
                },
                timeout(limit) => self.ledger.check(begun.elapsed() >= limit, || "a select gave up early".into()),
            }
        };
        let done = tolerant(|| match actor.native {
            true => choose(),
            false => timeout(limit * 2, choose).unwrap_or(()),
        })
        .is_some();
        if let Some(item) = got {
            item.got();
        }
        // One that was cancelled may have had its item taken.
        let cancelled = !done || begun.elapsed() >= limit * 2;
        self.after_select(one, &one_fate, sent.or_perhaps(cancelled));
        self.after_select(other, &other_fate, put.or_perhaps(cancelled));
    }

    /// Chooses between both ends of the same queues, so that choosers meet.
    fn selects_both_ends(&self, rng: &mut Rng, actor: Actor<'_>) {
        let (limit, begun) = (short(rng), Instant::now());
        let (item, fate) = self.item(rng);
        let mut place = Some(item);
        let mut put = Sent::Not;
        let mut got: Option<Item> = None;
        let first = rng.bool();
        let mut choose = || {
            let (here, there) = if first { (&self.zero, &self.two) } else { (&self.two, &self.zero) };
            select! {
                put(&here.queue, from place) -> result => put = Sent::of(result.map_err(PutError::into_inner)),
                get(&here.queue) -> item => {
                    if item.is_ok() {
                        here.got.fetch_add(1, SeqCst);
                    }
                    got = item.ok();
                },
                get(&there.queue) -> item => {
                    if item.is_ok() {
                        there.got.fetch_add(1, SeqCst);
                    }
                    got = item.ok();
                },
                timeout(limit) => self.ledger.check(begun.elapsed() >= limit, || "a select gave up early".into()),
            }
        };
        if actor.native {
            choose();
        } else {
            let _in_time = timeout(limit * 2, choose);
        }
        if let Some(item) = got {
            item.got();
        }
        self.after_select(place, &fate, put.or_perhaps(begun.elapsed() >= limit * 2));
    }

    fn waits(&self, rng: &mut Rng, actor: Actor<'_>) {
        let limit = short(rng);
        if actor.native {
            return;
        }
        let objects: [&dyn greenroom::Waitable; 4] =
            [&self.two.queue, &self.event, &self.semaphore, &self.ranked.queue];
        if rng.bool() {
            let _ready = wait(objects, Some(limit), Some(rng.usize(..4)));
        } else {
            let _in_time = timeout(limit, || iwait(objects).take(3).for_each(drop));
        }
    }

    /// When all is over: nothing is left anywhere.
    pub(crate) fn settle(&self, receiver: &Receiver<Item>) {
        settle_queues!(self: two zero stack ranked channel);
        while let Ok(item) = receiver.try_recv() {
            item.got();
        }
        self.ledger.check(self.out.load(SeqCst) == 0, || "permits are out".into());
        let free = self.semaphore.available();
        self.ledger.check(free == PERMITS, || format!("{free} of {PERMITS} permits are free"));
        self.ledger.check(self.semaphore.try_acquire_many(PERMITS).is_some(), || "permits cannot be had".into());
        self.mutex.clear_poison();
        self.ledger.check(self.mutex.try_lock().is_ok(), || "the mutex is not free".into());
        self.shared.clear_poison();
        self.ledger.check(self.shared.try_write().is_ok(), || "the lock is not free".into());
    }

    queue_steps! {
        step_fifo: Queue;
        step_lifo: LifoQueue;
        step_ranked: PriorityQueue;
        step_channel: Channel;
    }
}
