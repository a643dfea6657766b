//! Readiness of descriptors, turned into fired waiters: the only module that knows `mio`.
//!
//! A descriptor is registered once in each hub that waits for it: edge-triggered, both directions, until it is closed.
//! The call is always tried first; readiness is only a hint that trying is worth while (R1). What the poller says while
//! nobody waits is remembered in the descriptor's [`Side`].
//!
//! ```text
//! a side:   ready --- the call would block, or a stream gave less than was asked ---> not ready
//!           ready <-- the poller says so ------------------------------------------- not ready
//! ```
//!
//! - **R1** Readiness is a hint.
//! - **R2** Tokens carry the generation of their descriptor: an event for a closed one never reaches its successor.
//! - **R3** A descriptor leaves every reactor before it is closed or given away ([`release`]).
//!
//! Generations are counted process-wide, by descriptor number, since a socket may be used on one thread and closed on
//! another. The table is touched when a descriptor is made, registered and closed, never by a read or write.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::lock::{Guard, Lock};
use crate::sys;
use crate::waiter::{WaitQueue, Waiter};

/// The token of the doorbell; no descriptor's token has all bits set.
const DOORBELL: Token = Token(usize::MAX);

/// Both directions, and urgent data where the poller knows of it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// How many events one poll can bring.
const EVENTS: usize = 1024;

/// A hub's poller and what it knows of the descriptors registered with it.
pub(crate) struct Reactor {
    poll: RefCell<Poll>,
    events: RefCell<Events>,
    entries: RefCell<Vec<Option<Rc<Entry>>>>,
}

/// The table of descriptor numbers, held while the process forks.
pub(crate) struct Table(Guard<'static, Vec<Number>>);

/// Holds the table, so that no other thread has it halfway through a change when the process forks.
pub(crate) fn hold_table() -> Table {
    Table(numbers())
}

impl Table {
    /// In the child: the pollers that descriptors are registered with are the parent's, and not to be touched.
    pub(crate) fn forget_pollers(mut self) {
        for number in self.0.iter_mut() {
            number.peers.clear();
        }
    }
}

/// What other threads may touch of a reactor: they ring it, and take descriptors out of it.
#[derive(Debug)]
pub(crate) struct Link {
    registry: Registry,
    doorbell: mio::Waker,
}

/// A registered descriptor.
#[derive(Debug)]
pub(crate) struct Entry {
    generation: u32,
    /// The descriptor was closed: who waits here gets `EBADF`.
    pub(crate) closed: Cell<bool>,
    pub(crate) read: Side,
    pub(crate) write: Side,
}

/// One direction of a descriptor.
pub(crate) struct Side {
    /// A call in this direction may succeed.
    pub(crate) ready: Cell<bool>,
    /// The peer closed, an error stands, or urgent data came: a short read no longer means that the next one would block.
    pub(crate) hung_up: Cell<bool>,
    /// Who waits, first come first served.
    pub(crate) waiters: WaitQueue,
    /// Who wants to be told, once, and may wait for other things too.
    watchers: RefCell<Vec<(u64, Watcher)>>,
}

/// Something to be called when a descriptor is ready; it does no more than note that.
pub(crate) type Watcher = Arc<dyn Fn() + Send + Sync>;

/// A hub, as seen by a thread that closes a descriptor registered there.
pub(crate) trait Peer: Send + Sync {
    /// The descriptor is about to be closed: it leaves the poller now, and its waiters are woken, on another thread soon.
    fn evict(&self, fd: RawFd, generation: u32);
}

impl Reactor {
    /// A reactor, and the part of it that other threads may touch.
    pub(crate) fn new() -> io::Result<(Reactor, Link)> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let doorbell = mio::Waker::new(&registry, DOORBELL)?;
        let reactor = Reactor {
            poll: RefCell::new(poll),
            events: RefCell::new(Events::with_capacity(EVENTS)),
            entries: RefCell::new(Vec::new()),
        };
        Ok((reactor, Link { registry, doorbell }))
    }

    /// In a forked child: takes the poller of a new reactor. The old one is the parent's, and so are those who wait there: none of
    /// them is ever woken here.
    pub(crate) fn renew(&self, new: Reactor) {
        let _old = self.poll.replace(new.poll.into_inner());
        let _waited_for_by_the_dead = ManuallyDrop::new(self.entries.take());
    }

    /// Waits up to `timeout` (`None`: for ever) for events and offers each woken waiter to `fire`, which says whether
    /// it took it. May return early; never later than the kernel wakes it.
    pub(crate) fn poll(&self, timeout: Option<Duration>, mut fire: impl FnMut(Waiter) -> bool) -> io::Result<()> {
        let mut events = self.events.borrow_mut();
        match self.fill(&mut events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            filled => filled?,
        }

        let entries = self.entries.borrow();
        for event in &*events {
            if event.token() == DOORBELL {
                continue;
            }
            let (fd, generation) = from_token(event.token());
            let Some(Some(entry)) = entries.get(fd) else {
                continue;
            };
            if entry.generation != generation {
                continue;
            }
            let failed = event.is_error();
            if event.is_readable() || event.is_read_closed() || failed {
                // Urgent data ends a read early although more is queued behind it.
                let uneven = event.is_read_closed() || event.is_priority();
                entry.read.now_ready(uneven || failed, &mut fire);
            }
            if event.is_writable() || event.is_write_closed() || failed {
                entry.write.now_ready(event.is_write_closed() || failed, &mut fire);
            }
        }
        Ok(())
    }

    /// Asks the poller. mio rounds up to whole milliseconds where epoll does: there the last part of a
    /// wait is slept on the poller's own descriptor, to the nanosecond, so that a deadline is met within microseconds.
    fn fill(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let mut poll = self.poll.borrow_mut();
        let Some(timeout) = timeout else {
            return poll.poll(events, None);
        };
        if !sys::POLLER_ROUNDS_TO_MILLIS || timeout.is_zero() {
            return poll.poll(events, Some(timeout));
        }
        let millis = timeout.as_millis();
        if millis > 0 {
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            return poll.poll(events, Some(Duration::from_millis(millis)));
        }
        events.clear();
        if sys::wait_readable(&*poll, timeout)? { poll.poll(events, Some(Duration::ZERO)) } else { Ok(()) }
    }

    /// The entry of a descriptor, if this hub registered it in that generation.
    #[inline]
    pub(crate) fn entry(&self, fd: RawFd, generation: u32) -> Option<Rc<Entry>> {
        let entries = self.entries.borrow();
        let entry = entries.get(index(fd))?.as_ref()?;
        (entry.generation == generation).then(|| entry.clone())
    }

    /// As [`entry`](Self::entry), lent to `f`.
    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn with_entry<R>(&self, fd: RawFd, generation: u32, f: impl FnOnce(Option<&Entry>) -> R) -> R {
        let entries = self.entries.borrow();
        let entry = entries.get(index(fd)).and_then(|entry| entry.as_deref());
        f(entry.filter(|entry| entry.generation == generation))
    }

    /// Registers a descriptor. One that is registered already, through another owner of the number, keeps its entry. What was
    /// known under its number before belongs to a descriptor that is closed: whoever waits there is told. `EBADF` if the
    /// generation has ended.
    pub(crate) fn register(
        &self,
        fd: RawFd,
        generation: u32,
        peer: Weak<dyn Peer>,
        fire: impl FnMut(Waiter) -> bool,
    ) -> io::Result<Rc<Entry>> {
        // Otherwise the number is another descriptor's by now, which may be registered here.
        if number(&mut numbers(), fd).generation != generation {
            return Err(sys::closed());
        }
        let token = to_token(fd, generation);
        let poll = self.poll.borrow();
        let mut source = SourceFd(&fd);
        // epoll tells open files with the same number apart; kqueue drops a registration with its descriptor, and renews
        // one that stands.
        let mut is_known = cfg!(not(any(target_os = "linux", target_os = "android")));
        match poll.registry().register(&mut source, token, INTEREST) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                is_known = true;
                poll.registry().reregister(&mut source, token, INTEREST)?;
            }
            registered => registered?,
        }
        if is_known && let Some(entry) = self.entry(fd, generation) {
            return Ok(entry);
        }
        if !note_registration(fd, generation, peer) {
            // Another thread was quick; nobody else can have registered the number's next owner here.
            let _gone = poll.registry().deregister(&mut source);
            return Err(sys::closed());
        }

        let entry = Rc::new(Entry { generation, closed: Cell::new(false), read: Side::new(), write: Side::new() });
        let mut entries = self.entries.borrow_mut();
        if entries.len() <= index(fd) {
            entries.resize_with(index(fd) + 1, || None);
        }
        let stale = entries[index(fd)].replace(entry.clone());
        drop(entries);
        if let Some(stale) = stale {
            stale.close(fire);
        }
        Ok(entry)
    }

    /// Drops what this hub knows of a descriptor in that generation and wakes whoever waits for it.
    pub(crate) fn forget(&self, fd: RawFd, generation: u32, fire: impl FnMut(Waiter) -> bool) {
        let mut entries = self.entries.borrow_mut();
        let Some(slot) = entries.get_mut(index(fd)) else {
            return;
        };
        if slot.as_ref().is_none_or(|entry| entry.generation != generation) {
            return;
        }
        let entry = slot.take();
        drop(entries);
        if let Some(entry) = entry {
            entry.close(fire);
        }
    }
}

impl Link {
    /// Wakes the reactor's thread out of its poll.
    pub(crate) fn ring(&self) {
        self.doorbell.wake().expect("an eventfd or its like can always be written");
    }

    /// Takes a descriptor that is still open out of the poller.
    pub(crate) fn deregister(&self, fd: RawFd) {
        // Fails only where the kernel has dropped it already, which is what is wanted.
        let _gone = self.registry.deregister(&mut SourceFd(&fd));
    }
}

impl Entry {
    /// The descriptor is closed: whoever waits learns it.
    fn close(&self, mut fire: impl FnMut(Waiter) -> bool) {
        self.closed.set(true);
        for side in [&self.read, &self.write] {
            side.ready.set(true);
            side.hung_up.set(true);
            side.waiters.offer(|waiter| {
                fire(waiter);
                false
            });
            side.tell_watchers();
        }
    }
}

impl Side {
    fn new() -> Side {
        Side {
            ready: Cell::new(false),
            hung_up: Cell::new(false),
            waiters: WaitQueue::new(),
            watchers: RefCell::default(),
        }
    }

    /// Has `watcher` called when the next edge comes, or the descriptor is closed. Gives the key to take it back.
    pub(crate) fn watch(&self, watcher: Watcher) -> u64 {
        // One in the whole process: the other hub's side of the same descriptor must not take it for its own.
        static KEYS: AtomicU64 = AtomicU64::new(0);
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        self.watchers.borrow_mut().push((key, watcher));
        key
    }

    pub(crate) fn unwatch(&self, key: u64) {
        self.watchers.borrow_mut().retain(|(other, _)| *other != key);
    }

    fn tell_watchers(&self) {
        if self.watchers.borrow().is_empty() {
            return;
        }
        for (_, watcher) in self.watchers.take() {
            watcher();
        }
    }

    fn now_ready(&self, hung_up: bool, fire: impl FnMut(Waiter) -> bool) {
        self.ready.set(true);
        if hung_up {
            self.hung_up.set(true);
        }
        self.waiters.offer(fire);
        self.tell_watchers();
    }
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").finish_non_exhaustive()
    }
}

fn to_token(fd: RawFd, generation: u32) -> Token {
    Token((generation as usize) << 32 | index(fd))
}

fn from_token(token: Token) -> (usize, u32) {
    (token.0 & 0xffff_ffff, (token.0 >> 32) as u32)
}

fn index(fd: RawFd) -> usize {
    usize::try_from(fd).expect("an open descriptor is not negative")
}

const _: () =
    assert!(usize::BITS == 64, "a token holds a descriptor and its generation: greenroom needs a 64-bit target");

/// What the process knows of a descriptor number.
#[derive(Default)]
struct Number {
    generation: u32,
    /// The hubs that have registered the descriptor of this generation.
    peers: Vec<Weak<dyn Peer>>,
}

static NUMBERS: Lock<Vec<Number>> = Lock::new(Vec::new());

fn numbers() -> Guard<'static, Vec<Number>> {
    NUMBERS.lock()
}

fn number(numbers: &mut Vec<Number>, fd: RawFd) -> &mut Number {
    if numbers.len() <= index(fd) {
        numbers.resize_with(index(fd) + 1, Number::default);
    }
    &mut numbers[index(fd)]
}

/// False if the generation has ended.
fn note_registration(fd: RawFd, generation: u32, peer: Weak<dyn Peer>) -> bool {
    let mut numbers = numbers();
    let number = number(&mut numbers, fd);
    if number.generation != generation {
        return false;
    }
    if !number.peers.iter().any(|known| known.ptr_eq(&peer)) {
        number.peers.push(peer);
    }
    true
}

/// The generation of a descriptor whose life began outside: shared with others who hold the same number.
pub(crate) fn adopt(fd: RawFd) -> u32 {
    number(&mut numbers(), fd).generation
}

/// Begins a new generation of a number and takes the old one out of every hub (R3). To be called before a descriptor
/// is closed or leaves our hands, and for one that the kernel has just made: gives the generation that begins.
pub(crate) fn release(fd: RawFd) -> u32 {
    let mut numbers = numbers();
    let number = number(&mut numbers, fd);
    if number.peers.is_empty() {
        return number.generation;
    }
    let ended = number.generation;
    number.generation = ended.wrapping_add(1);
    let begun = number.generation;
    let peers = std::mem::take(&mut number.peers);
    drop(numbers);
    for peer in peers {
        if let Some(peer) = peer.upgrade() {
            peer.evict(fd, ended);
        }
    }
    begun
}
