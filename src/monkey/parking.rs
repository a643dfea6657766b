//! Where those stand who wait in a patched lock, by the address that they wait for: as the kernel's table of futexes is made.
//!
//! ```text
//!   who waits                                     who wakes
//!   ---------                                     ---------
//!   lock the bucket, link, count                  change the word
//!   fence                                         fence
//!   look at the word: has it changed?             nobody counted in the bucket? then done
//!     yes: unlink, unlock, return                 lock the bucket, unlink whom it is for, unlock
//!     no:  unlock, park                           wake them, one by one, and publish that
//! ```
//!
//! - **L1** *No wake-up is lost.* With a sequentially consistent fence between the two accesses on either side, who waits sees the word
//!   changed, or who wakes sees him counted. In the latter case he is found, for he is linked until he has looked, under the lock; or he
//!   links later than that, and sees under the lock what was changed before.
//! - **L2** A node is on the frame of who waits. It is touched under the bucket's lock while it is linked, by its waker alone while it is
//!   *chosen*, and by nobody else once it is *woken*. Its owner leaves unlinked or woken, and waits for the one who has chosen him.
//! - **L3** Nothing is allocated, and nobody is woken, under a bucket's lock: an allocator has locks of its own, and what it does to
//!   them comes here. Nor does anything switch between the choice and the last of the wakings.
//! - **L4** In a forked child the table is empty: the system wipes it. Those who stood there were the parent's.
//! - **L5** A task parks here only while the crate is at rest ([`Hub::is_at_rest`]): whatever has the crate wait for a lock while it changes
//!   something of its own (an allocator, mostly) stops the thread, as its author expects.
//! - **L6** Who wakes while the crate is not at rest, an allocator again, may have interrupted a change of the hub's lists: he leaves those
//!   alone and sends the hub a message.

use std::cell::Cell;
use std::hint;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use count::Count;

use super::futex;
use super::gate::{enclosed, errno, set_errno};
use crate::hub::{Hub, Outcome, Reason, Sleeper, Target, Wakes};
use crate::lock::{Lock, is_steady, steadily};
use crate::waiter::Clause;

mod count;
#[cfg(all(test, loom))]
mod models;

/// What an address stands for: different things may have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Futex,
    Mutex,
    Condition,
    Semaphore,
    /// Waits for the runner.
    Once,
    /// Runs what is to be run once.
    Runner,
    /// Of a read-write lock, who wants to read.
    Read,
    /// Of a read-write lock, who wants to write.
    Write,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) address: usize,
    pub(super) kind: Kind,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Woken,
    Elapsed,
    /// It had not begun: the last look told so.
    Refused,
}

/// Every bit of a futex's mask.
pub(super) const ANY: u32 = u32::MAX;

const REASON: Reason = Reason::Other(&"a lock of std or of the C library");

/// One who waits.
pub(super) struct Node {
    key: Key,
    bits: u32,
    prev: Cell<*const Node>,
    next: Cell<*const Node>,
    stage: AtomicU32,
    /// `None`: a native thread, which stops on the word above.
    task: Option<Target>,
}

const LINKED: u32 = 0;
const CHOSEN: u32 = 1;
const WOKEN: u32 = 2;

/// Nodes in the order in which they came. All zeros is an empty one.
pub(super) struct Line {
    head: *const Node,
    tail: *const Node,
}

// SAFETY: nodes are touched as L2 says.
unsafe impl Send for Line {}

/// On a line of the cache of its own. All zeros is an empty one.
#[repr(align(64))]
pub(super) struct Bucket {
    count: Count,
    /// Wakings, to give native threads their turn.
    turn: AtomicU32,
    line: Lock<Line>,
}

const BUCKETS: usize = 256;

type Table = [Bucket; BUCKETS];

/// Null until locks are patched.
static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

/// Makes the table. False if there is no memory for it.
pub(super) fn prepare() -> bool {
    if !TABLE.load(Ordering::Acquire).is_null() {
        return true;
    }
    let size = size_of::<Table>();
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping wherever the system likes.
    let place = unsafe { libc::mmap(ptr::null_mut(), size, access, flags, -1, 0) };
    if place == libc::MAP_FAILED {
        return false;
    }
    // L4. A system too old for it (before Linux 4.14) has what the parent's other threads left in the table.
    // SAFETY: of the mapping just made.
    unsafe { libc::madvise(place, size, libc::MADV_WIPEONFORK) };
    let table = place.cast::<Table>();
    if TABLE.compare_exchange(ptr::null_mut(), table, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: nobody else knows of it.
        unsafe { libc::munmap(place, size) };
    }
    true
}

#[inline]
fn bucket_of(address: usize) -> Option<&'static Bucket> {
    // SAFETY: the table is never unmapped, and it was all zeros, which is what an empty one is.
    let table = unsafe { TABLE.load(Ordering::Acquire).as_ref() }?;
    // The golden ratio spreads neighbours; words have two bits that say nothing.
    let hash = (address >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize);
    Some(&table[hash >> (usize::BITS - BUCKETS.ilog2())])
}

/// Who waits: a task, or the native thread itself where it may not be parked.
#[derive(Clone, Copy)]
pub(super) enum Caller {
    Task(&'static Hub),
    Native,
}

impl Caller {
    /// The caller as locks see him.
    #[inline]
    pub(super) fn here(hub: Option<&'static Hub>) -> Caller {
        match hub {
            Some(hub) if hub.is_at_rest() => Caller::Task(hub),
            _ => Caller::Native,
        }
    }
}

/// Waits for a waking of `key` that has one of these bits, if `stay` says so when the caller stands in line, and then `joined` does. It
/// cannot be cancelled.
///
/// `stay` is run under a lock: it does not wait, nor allocate. `joined` does not wait. If that refuses, the caller may have been woken
/// meanwhile, which it is then told.
#[inline(never)]
pub(super) fn wait(
    caller: Caller,
    key: Key,
    bits: u32,
    deadline: Option<Instant>,
    stay: impl FnOnce(&Line) -> bool,
    joined: impl FnOnce() -> bool,
) -> End {
    let Some(bucket) = bucket_of(key.address) else { return End::Refused };
    let sleeper = match caller {
        Caller::Task(_) => Some(Sleeper::arm()),
        Caller::Native => None,
    };
    let node = Node {
        key,
        bits,
        prev: Cell::new(ptr::null()),
        next: Cell::new(ptr::null()),
        stage: AtomicU32::new(LINKED),
        task: sleeper.as_ref().map(|sleeper| sleeper.target(Clause(0))),
    };

    let mut line = bucket.line.lock();
    // SAFETY: L2: this frame stays until the node is unlinked or woken.
    unsafe { line.push_back(&node) };
    bucket.count.enter();
    if !stay(&line) {
        line.unlink(&node);
        bucket.count.leave();
        drop(line);
        if let Some(sleeper) = &sleeper {
            sleeper.give_up();
        }
        return End::Refused;
    }
    drop(line);

    if !joined() {
        if let Some(sleeper) = &sleeper {
            sleeper.give_up();
        }
        return if leave(bucket, &node) == End::Woken { End::Woken } else { End::Refused };
    }
    match (caller, &sleeper) {
        (Caller::Task(hub), Some(sleeper)) => park(hub, sleeper, &node, deadline),
        _ => stop(&node, deadline),
    }
    leave(bucket, &node)
}

/// Leaves the line, if the node is still in it.
fn leave(bucket: &Bucket, node: &Node) -> End {
    if node.stage.load(Ordering::Acquire) == WOKEN {
        return End::Woken;
    }
    let mut line = bucket.line.lock();
    if node.stage.load(Ordering::Relaxed) == LINKED {
        line.unlink(node);
        bucket.count.leave();
        return End::Elapsed;
    }
    drop(line);
    // L2. It is another thread that has chosen: on this one nothing has switched meanwhile (L3).
    let mut tries = 0_u32;
    while node.stage.load(Ordering::Acquire) != WOKEN {
        tries += 1;
        if tries < 64 { hint::spin_loop() } else { steadily(thread::yield_now) }
    }
    End::Woken
}

/// Parks the task, whatever is pending for it.
fn park(hub: &'static Hub, sleeper: &Sleeper, node: &Node, deadline: Option<Instant>) {
    if node.stage.load(Ordering::Acquire) == WOKEN {
        sleeper.give_up();
        return;
    }
    let ended = enclosed(hub, || hub.uncancelled(|| sleeper.park(true, REASON, deadline, || true)));
    let Ok(Outcome::Fired(_) | Outcome::Elapsed) = ended else {
        // The report of a deadlock is out (rule 7). A lock's caller cannot be told, and waits for ever.
        std::process::abort();
    };
}

/// Stops the native thread.
fn stop(node: &Node, deadline: Option<Instant>) {
    let saved = errno();
    loop {
        let stage = node.stage.load(Ordering::Acquire);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(crate::clock::now()));
        if stage == WOKEN || left == Some(Duration::ZERO) {
            break;
        }
        futex::stop(&node.stage, stage, left);
    }
    set_errno(saved);
}

/// To be called by who has woken others, for something that he may take again at once: they would find it taken, and so for ever where
/// he parks only while he has it. Native threads are spared that by the clock of the system. Now and then, by chance, they go first.
pub(super) fn let_others_go_first() {
    static CHANCE: AtomicU32 = AtomicU32::new(0);
    let Caller::Task(hub) = Caller::here(super::gate::hub_for(super::Areas::SYNC)) else { return };
    // A multiplier of Knuth's, and the best of the bits.
    let draw = CHANCE.load(Ordering::Relaxed).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    CHANCE.store(draw, Ordering::Relaxed);
    if draw >> 30 == 0 {
        // Nothing is raised, and nothing else unwinds.
        let _nothing = enclosed(hub, || hub.uncancelled(|| hub.yield_now()));
    }
}

/// Whether anybody may stand in line for something at this address. To be asked after the change that they wait for.
#[inline(always)]
pub(super) fn is_awaited(address: usize) -> bool {
    bucket_of(address).is_some_and(|bucket| bucket.count.is_awaited())
}

/// Whether, this time, native threads go first: both kinds have their turn, however many there are of the other.
pub(super) fn natives_first(address: usize) -> bool {
    bucket_of(address).is_some_and(|bucket| bucket.turn.fetch_add(1, Ordering::Relaxed) % 8 == 7)
}

/// Wakes up to `count` of those who wait for `key` with one of these bits, first come first. Says how many.
#[inline]
pub(super) fn wake(key: Key, bits: u32, count: usize) -> usize {
    if !is_awaited(key.address) {
        return 0;
    }
    wake_those(key.address, count, |node| node.key == key && node.bits & bits != 0)
}

/// Wakes who is first of those who wait for a read-write lock, if that is one who wants to write, else all those who want to read.
#[inline]
pub(super) fn wake_some(address: usize) -> usize {
    if !is_awaited(address) {
        return 0;
    }
    let first = Cell::new(None);
    wake_those(address, usize::MAX, |node| {
        if node.key.address != address || !matches!(node.key.kind, Kind::Read | Kind::Write) {
            return false;
        }
        match first.get() {
            None => {
                first.set(Some(node.key.kind));
                true
            }
            Some(first) => first == Kind::Read && node.key.kind == Kind::Read,
        }
    })
}

#[cold]
fn wake_those(address: usize, count: usize, fits: impl Fn(&Node) -> bool) -> usize {
    let Some(bucket) = bucket_of(address) else { return 0 };
    // L6
    let direct = !is_steady() && Hub::can_park();
    let held = || {
        let chosen = choose(bucket, count, fits);
        deliver(chosen, direct)
    };
    let saved = errno();
    let count = match Hub::get() {
        Some(hub) => hub.bare(held),
        None => held(),
    };
    set_errno(saved);
    count
}

/// Takes those out of the line whom it is for: a chain of nodes, first come first.
fn choose(bucket: &Bucket, count: usize, fits: impl Fn(&Node) -> bool) -> *const Node {
    let mut chosen = Line { head: ptr::null(), tail: ptr::null() };
    let mut left = count;
    let mut line = bucket.line.lock();
    let mut at = line.head;
    while left > 0
        // SAFETY: L2: linked, under the lock.
        && let Some(node) = unsafe { at.as_ref() }
    {
        at = node.next.get();
        // SAFETY: L2: linked, so its owner has not left.
        let is_abandoned = node.task.as_ref().is_some_and(|task| unsafe { task.is_abandoned() });
        if !is_abandoned && !fits(node) {
            continue;
        }
        line.unlink(node);
        bucket.count.leave();
        node.stage.store(CHOSEN, Ordering::Relaxed);
        if is_abandoned {
            // Its owner never runs again.
            continue;
        }
        // SAFETY: L2: it is ours until it is woken.
        unsafe { chosen.push_back(node) };
        left -= 1;
    }
    chosen.head
}

/// Wakes the owners of a chain. Says how many there were.
fn deliver(mut chosen: *const Node, direct: bool) -> usize {
    let mut count = 0;
    // SAFETY: L2: chosen by us, and not yet woken.
    while let Some(node) = unsafe { chosen.as_ref() } {
        chosen = node.next.get();
        count += 1;
        match &node.task {
            Some(task) => {
                let mut wakes = Wakes::new();
                match direct {
                    // SAFETY: the owner is still in his wait.
                    true => unsafe { task.wake(&mut wakes) },
                    // SAFETY: as above.
                    false => unsafe { task.wake_by_message(&mut wakes) },
                }
                node.stage.store(WOKEN, Ordering::Release);
            }
            None => {
                let word = &raw const node.stage;
                node.stage.store(WOKEN, Ordering::Release);
                // The frame may be gone by now: then it is an address like any other.
                futex::start(word);
            }
        }
    }
    count
}

impl Line {
    /// Whether anybody stands there for this.
    pub(super) fn has(&self, key: Key) -> bool {
        let mut at = self.head;
        // SAFETY: L2: linked, and the lock is held by who has the line.
        while let Some(node) = unsafe { at.as_ref() } {
            if node.key == key {
                return true;
            }
            at = node.next.get();
        }
        false
    }

    /// # Safety
    ///
    /// The node stays where it is until it is unlinked.
    unsafe fn push_back(&mut self, node: &Node) {
        node.prev.set(self.tail);
        node.next.set(ptr::null());
        // SAFETY: L2.
        match unsafe { self.tail.as_ref() } {
            Some(last) => last.next.set(node),
            None => self.head = node,
        }
        self.tail = node;
    }

    /// Takes out a node that is in.
    fn unlink(&mut self, node: &Node) {
        // SAFETY: L2.
        match unsafe { node.prev.get().as_ref() } {
            Some(prev) => prev.next.set(node.next.get()),
            None => self.head = node.next.get(),
        }
        // SAFETY: L2.
        match unsafe { node.next.get().as_ref() } {
            Some(next) => next.prev.set(node.prev.get()),
            None => self.tail = node.prev.get(),
        }
    }
}

/// The one who runs what is to be run once; others wait for his end, as [`Kind::Once`].
pub(super) struct Runner<'a> {
    bucket: &'static Bucket,
    node: &'a Node,
}

/// Runs `f` as the only one at this address; `None` if somebody else does.
pub(super) fn alone<R>(address: usize, f: impl FnOnce() -> R) -> Option<R> {
    let bucket = bucket_of(address)?;
    let key = Key { address, kind: Kind::Runner };
    let node = Node {
        key,
        bits: 0,
        prev: Cell::new(ptr::null()),
        next: Cell::new(ptr::null()),
        stage: AtomicU32::new(LINKED),
        task: None,
    };
    let mut line = bucket.line.lock();
    if line.has(key) {
        return None;
    }
    // SAFETY: L2: `_runner` unlinks it before this frame dies.
    unsafe { line.push_back(&node) };
    drop(line);
    let _runner = Runner { bucket, node: &node };
    Some(f())
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        let mut line = self.bucket.line.lock();
        // In a process that was forked meanwhile it is not (L4).
        if line.has(self.node.key) {
            line.unlink(self.node);
        }
        drop(line);
        wake(Key { kind: Kind::Once, ..self.node.key }, ANY, usize::MAX);
    }
}

/// A clock's time as a deadline, as often as one looks: a clock that can be set is looked at again after a while.
#[derive(Clone, Copy)]
pub(super) struct Until {
    clock: libc::clockid_t,
    time: Duration,
}

/// A clock that can be set is looked at this often.
const LONGEST: Duration = Duration::from_secs(1);

impl Until {
    /// A moment of that clock.
    pub(super) fn at(clock: libc::clockid_t, time: Duration) -> Until {
        Until { clock, time }
    }

    /// So long after now.
    pub(super) fn after(time: Duration) -> Until {
        let now = super::time::now_by(libc::CLOCK_MONOTONIC);
        Until { clock: libc::CLOCK_MONOTONIC, time: now.saturating_add(time) }
    }

    /// As [`deadline`](Self::deadline), which is now once it has passed.
    pub(super) fn deadline_or_now(self) -> Option<Instant> {
        self.deadline().or_else(|| Some(crate::clock::now()))
    }

    /// Whether this is the sooner one, as far as clocks can be compared.
    pub(super) fn is_before(self, other: Until) -> bool {
        let left = |until: Until| until.time.saturating_sub(super::time::now_by(until.clock));
        left(self) < left(other)
    }

    /// When to look again; `None` once it has passed.
    pub(super) fn deadline(self) -> Option<Instant> {
        let left = self.time.saturating_sub(super::time::now_by(self.clock));
        if left.is_zero() {
            return None;
        }
        let longest = if self.clock == libc::CLOCK_MONOTONIC { Duration::from_secs(1 << 32) } else { LONGEST };
        crate::clock::deadline_after(left.min(longest))
    }
}

/// As [`wait`], until a moment that may be moved; it may have passed.
pub(super) fn wait_until(
    caller: Caller,
    key: Key,
    bits: u32,
    until: Option<Until>,
    mut stay: impl FnMut(&Line) -> bool,
) -> End {
    loop {
        let deadline = match until.map(Until::deadline) {
            None => None,
            Some(Some(deadline)) => Some(deadline),
            Some(None) => return End::Elapsed,
        };
        match wait(caller, key, bits, deadline, &mut stay, || true) {
            End::Elapsed => {}
            ended => return ended,
        }
    }
}
