//! Waiting for descriptors: the only try-then-park loop.
//!
//! ```text
//!          +--> somebody waits already, or nothing is known to be there? --yes--> join the queue, park
//!          |            no                                                             |
//!   call --+             v                                                             | woken
//!                  try the call  <-----------------------------------------------------+
//!                   |         \
//!               success    would block: keep the turn, park
//!                   |
//!            something left: wake the next in the queue
//! ```
//!
//! Waiters of one direction are served first come, first served; each wakes the next if the descriptor may still be
//! ready. A call that succeeds at once has still been counted: now and then its task gives way first, before
//! anything is taken from the kernel, so that a kill there loses nothing (rule 4).
//!
//! A stream that gave less than was asked has nothing left, so the next call parks without trying: an echo costs two
//! system calls and a share of one poll. That holds until the peer's close is seen, which the poller tells only once.
//!
//! Where there is no hub, in a thread's last destructors, and inside the panic hook, where nothing may switch, a call
//! blocks its native thread, as std's would.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::clock;
use crate::hub::{Hub, Outcome, Reason, Sleeper, Tell};
use crate::lock::{Guard, Lock};
use crate::reactor::{self, Entry, Side};
use crate::sys;
use crate::waiter::{Clause, End, Waiter};

/// Which way a call moves bytes: the waiters of each direction queue apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// What a successful call tells about what is left in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// There may be more: the next call is tried at once.
    Maybe,
    /// A stream gave or took less than was asked: the next call would block.
    Nothing,
}

/// A descriptor that tasks wait for. `S` owns it.
#[derive(Debug)]
pub(crate) struct Source<S: AsFd> {
    /// Dropped in `Drop`, after the descriptor has left every reactor (R3).
    inner: ManuallyDrop<S>,
    /// Tells this descriptor from earlier ones with the same number (R2).
    generation: u32,
    /// The descriptor's life began outside: whether the poller knows it has to be asked, once.
    unverified: AtomicBool,
    /// The descriptor is no longer to be touched.
    #[cfg(feature = "monkey")]
    disowned: bool,
    mode: Arc<Mode>,
}

/// Something with a descriptor whose readiness can be waited for: the sockets of [`net`](crate::net), pipes, files, the streams of
/// children, and pollers of the system.
pub trait Pollable {
    #[doc(hidden)]
    fn awaited(&self) -> Awaited<'_>;
}

macro_rules! pointers {
    ($($pointer:ty),*) => {$(
        impl<P: Pollable + ?Sized> Pollable for $pointer {
            fn awaited(&self) -> Awaited<'_> {
                (**self).awaited()
            }
        }
    )*};
}

pointers!(&P, Box<P>, Rc<P>, Arc<P>);

/// A descriptor in the hands of those who wait for it.
#[doc(hidden)]
pub struct Awaited<'a>(pub(crate) &'a dyn Awaitable);

impl std::fmt::Debug for Awaited<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Awaited").finish_non_exhaustive()
    }
}

/// A descriptor that is one of several things to wait for.
pub(crate) trait Awaitable {
    /// Whether a call in this direction would not block (poll(2)); yes also where it would fail.
    fn is_ready(&self, direction: Direction) -> bool;

    /// Stands in the direction's queue with `waiter` while `inner` runs, which parks for this and other things. False, and
    /// `inner` is not run: it is ready now.
    fn while_awaited(&self, direction: Direction, waiter: Waiter, inner: &mut dyn FnMut()) -> io::Result<bool>;

    /// Has `ready` called once a call in this direction may not block: now, if that is so. Else gives a key to take it back.
    fn watch(&self, direction: Direction, ready: &Tell) -> Option<u64>;

    fn unwatch(&self, direction: Direction, key: u64);
}

impl<S: AsFd> Awaitable for Source<S> {
    fn is_ready(&self, direction: Direction) -> bool {
        self.is_ready_now(direction)
    }

    fn while_awaited(&self, direction: Direction, waiter: Waiter, inner: &mut dyn FnMut()) -> io::Result<bool> {
        let hub = Hub::try_here()?;
        let entry = self.entry_or_register(hub)?;
        let side = entry.side(direction);
        // What comes from here on makes a new edge; what came before is seen now.
        if self.is_ready_now(direction) {
            return Ok(false);
        }
        side.ready.set(false);
        let _pass_on = PassOn(side, hub);
        side.waiters.while_linked(waiter, End::Back, || hub.on_outside(inner));
        Ok(true)
    }

    fn watch(&self, direction: Direction, ready: &Tell) -> Option<u64> {
        // What cannot be waited for is a matter for the call that comes next.
        let entry = Hub::try_here().and_then(|hub| self.entry_or_register(hub)).ok();
        match entry {
            Some(entry) if !self.is_ready_now(direction) => {
                entry.side(direction).ready.set(false);
                Some(entry.side(direction).watch(ready.clone()))
            }
            _ => {
                ready();
                None
            }
        }
    }

    fn unwatch(&self, direction: Direction, key: u64) {
        if let Some(entry) = Hub::get().and_then(|hub| self.entry(hub)) {
            entry.side(direction).unwatch(key);
        }
    }
}

/// How the open file behind a descriptor behaves; shared by its clones, as the kernel shares it.
///
/// For a descriptor that came from outside this is found out when it first matters. The flags are the user's view: they
/// are read and written with relaxed order, for they guard nothing.
#[derive(Debug)]
struct Mode {
    nonblocking: AtomicU8,
    /// `O_NONBLOCK` is set underneath, whatever the user's view, until the last handle goes. Then the mode is in [`UNDERNEATH`].
    underneath: AtomicBool,
    /// How many sources share this.
    handles: AtomicUsize,
    read_timeout: AtomicU64,
    write_timeout: AtomicU64,
}

const NO: u8 = 0;
const YES: u8 = 1;
const UNKNOWN: u8 = 2;

/// Timeouts in nanoseconds; zero is none, as it is for the kernel.
const NO_TIMEOUT: u64 = 0;
const UNKNOWN_TIMEOUT: u64 = u64::MAX;

impl Mode {
    fn new(nonblocking: u8, timeout: u64) -> Arc<Mode> {
        Arc::new(Mode {
            nonblocking: AtomicU8::new(nonblocking),
            underneath: AtomicBool::new(false),
            handles: AtomicUsize::new(0),
            read_timeout: AtomicU64::new(timeout),
            write_timeout: AtomicU64::new(timeout),
        })
    }

    fn timeout(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Read => &self.read_timeout,
            Direction::Write => &self.write_timeout,
        }
    }
}

/// The modes of open files whose `O_NONBLOCK` is ours. Another handle to such a file, come by way of a bare duplicate, must
/// not take the flag for the user's: it shares the mode.
static UNDERNEATH: Lock<Vec<(sys::FileId, Weak<Mode>)>> = Lock::new(Vec::new());

fn underneath() -> Guard<'static, Vec<(sys::FileId, Weak<Mode>)>> {
    UNDERNEATH.lock()
}

/// Counts a handle off. The last one puts `O_NONBLOCK` back to what the user set, for whoever else has the open file.
fn leave(mode: &Arc<Mode>, fd: BorrowedFd<'_>) {
    if !mode.underneath.load(Ordering::Relaxed) {
        mode.handles.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let mut modes = underneath();
    if mode.handles.fetch_sub(1, Ordering::Relaxed) > 1 {
        return;
    }
    modes.retain(|(_, other)| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(mode)));
    if mode.nonblocking.load(Ordering::Relaxed) == NO {
        // The flag of a descriptor that is open can be cleared.
        let _cleared = sys::set_nonblocking(fd, false);
    }
}

/// A handle on the mode of an open file whose descriptor is somebody else's. To be [left](Self::leave).
#[cfg(feature = "monkey")]
#[derive(Debug)]
pub(crate) struct SharedMode(Arc<Mode>);

#[cfg(feature = "monkey")]
impl SharedMode {
    fn new(mode: &Arc<Mode>) -> SharedMode {
        mode.handles.fetch_add(1, Ordering::Relaxed);
        SharedMode(mode.clone())
    }

    /// For another descriptor of the same file.
    pub(crate) fn duplicate(&self) -> SharedMode {
        SharedMode::new(&self.0)
    }

    /// To be called before the descriptor is closed.
    pub(crate) fn leave(self, fd: BorrowedFd<'_>) {
        leave(&self.0, fd);
    }
}

/// The list of the files whose `O_NONBLOCK` is ours, held while the process forks.
#[cfg(feature = "monkey")]
pub(crate) struct Underneath(#[expect(dead_code, reason = "held")] Guard<'static, Vec<(sys::FileId, Weak<Mode>)>>);

#[cfg(feature = "monkey")]
impl Underneath {
    pub(crate) fn hold() -> Underneath {
        Underneath(underneath())
    }
}

/// The user's view of a mode whose `O_NONBLOCK` is ours.
#[cfg(feature = "monkey")]
#[derive(Debug)]
pub(crate) struct View(Arc<Mode>);

#[cfg(feature = "monkey")]
impl View {
    /// Of a descriptor's open file, if there is one.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Option<View> {
        let modes = underneath();
        if modes.is_empty() {
            return None;
        }
        let file = sys::file_id(fd).ok()?;
        modes.iter().filter(|(other, _)| *other == file).find_map(|(_, mode)| mode.upgrade()).map(View)
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        self.0.nonblocking.load(Ordering::Relaxed) == YES
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) {
        self.0.nonblocking.store(if nonblocking { YES } else { NO }, Ordering::Relaxed);
    }
}

impl<S: AsFd> Source<S> {
    /// Wraps a descriptor that was just made: blocking, and without timeouts.
    pub(crate) fn new(inner: S) -> Source<S> {
        // Whatever had this number before is closed, even if nobody told us.
        let generation = reactor::release(inner.as_fd().as_raw_fd());
        Source::wrap(inner, generation, false, Mode::new(NO, NO_TIMEOUT))
    }

    /// Wraps a descriptor that came from outside. Its mode is read from the kernel when it first matters.
    pub(crate) fn from_outside(inner: S) -> Source<S> {
        let generation = reactor::adopt(inner.as_fd().as_raw_fd());
        let modes = underneath();
        let shared = (!modes.is_empty())
            .then(|| sys::file_id(inner.as_fd()).ok())
            .flatten()
            .and_then(|file| modes.iter().find(|(other, _)| *other == file))
            .and_then(|(_, mode)| mode.upgrade());
        // Counted under the lock, so that the last handle is the last.
        Source::wrap(inner, generation, true, shared.unwrap_or_else(|| Mode::new(UNKNOWN, UNKNOWN_TIMEOUT)))
    }

    /// Wraps a duplicate of this source's descriptor: it shares the mode.
    pub(crate) fn duplicate(&self, inner: S) -> Source<S> {
        let generation = reactor::release(inner.as_fd().as_raw_fd());
        Source::wrap(inner, generation, false, self.mode.clone())
    }

    fn wrap(inner: S, generation: u32, unverified: bool, mode: Arc<Mode>) -> Source<S> {
        mode.handles.fetch_add(1, Ordering::Relaxed);
        Source {
            inner: ManuallyDrop::new(inner),
            generation,
            unverified: AtomicBool::new(unverified),
            #[cfg(feature = "monkey")]
            disowned: false,
            mode,
        }
    }

    fn leave_mode(&self) {
        leave(&self.mode, self.inner.as_fd());
    }

    pub(crate) fn get(&self) -> &S {
        &self.inner
    }

    fn fd(&self) -> RawFd {
        self.inner.as_fd().as_raw_fd()
    }

    /// Takes the descriptor out of every hub and gives it back open, with `O_NONBLOCK` as the user set it, unless another
    /// handle of ours still needs that underneath.
    pub(crate) fn into_inner(self) -> S {
        reactor::release(self.fd());
        self.leave_mode();
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once; `this` is not dropped, so that its `Drop` does not take it again. The mode, its other
        // field with a destructor, is dropped below.
        let inner = unsafe { ManuallyDrop::take(&mut this.inner) };
        // SAFETY: as above; it is not used afterwards.
        drop(unsafe { std::ptr::read(&this.mode) });
        inner
    }

    /// Tries `call`, parks until the descriptor is ready where it would block, and tries again.
    ///
    /// `Interrupted` is tried again at once. `WouldBlock` is returned if the user asked for non-blocking mode, or if the
    /// direction's own timeout ran out. `left` says what a success leaves behind.
    ///
    /// The call must not block whatever the descriptor's flags: it says MSG_DONTWAIT, or the descriptor was
    /// made non-blocking underneath.
    #[inline]
    pub(crate) fn perform<T>(
        &self,
        direction: Direction,
        call: impl FnMut(&S) -> io::Result<T>,
        left: impl Fn(&T) -> Left,
    ) -> io::Result<T> {
        self.perform_within(direction, &mut None, call, left)
    }

    /// Makes the call if it is to be tried at once, and gives its result, an error of which is below 0. Does not switch; `hub` is held.
    /// `stale` says that a failure, which stands in `errno`, means that nothing is there.
    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn try_at_once(
        &self,
        hub: &Hub,
        direction: Direction,
        call: impl FnOnce() -> isize,
        left: impl FnOnce(isize) -> Left,
        stale: impl FnOnce() -> bool,
    ) -> Option<isize> {
        let is_registered = !self.unverified.load(Ordering::Relaxed);
        hub.with_entry(self.fd(), self.generation, |entry| {
            let side = entry.filter(|_| is_registered).map(|entry| entry.side(direction));
            if side.is_some_and(|side| !side.ready.get() || !side.waiters.is_empty()) {
                return None;
            }
            let result = call();
            if let Some(side) = side {
                let nothing = if result < 0 { stale() } else { left(result) == Left::Nothing && !side.hung_up.get() };
                if nothing {
                    side.ready.set(false);
                }
            }
            Some(result)
        })
    }

    /// As [`perform`](Self::perform), for one call of several that make up one: the first that waits sets the deadline for all.
    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn perform_part<T>(
        &self,
        direction: Direction,
        deadline: &mut Option<Option<Instant>>,
        call: impl FnMut(&S) -> io::Result<T>,
        left: impl Fn(&T) -> Left,
    ) -> io::Result<T> {
        self.perform_within(direction, deadline, call, left)
    }

    /// As [`perform`](Self::perform), with a deadline (or none) in place of the direction's own timeout.
    pub(crate) fn perform_until<T>(
        &self,
        direction: Direction,
        deadline: Option<Instant>,
        call: impl FnMut(&S) -> io::Result<T>,
        left: impl Fn(&T) -> Left,
    ) -> io::Result<T> {
        self.perform_within(direction, &mut Some(deadline), call, left)
    }

    #[inline]
    fn perform_within<T>(
        &self,
        direction: Direction,
        deadline: &mut Option<Option<Instant>>,
        mut call: impl FnMut(&S) -> io::Result<T>,
        left: impl Fn(&T) -> Left,
    ) -> io::Result<T> {
        let Some(hub) = hub_for_waiting()? else {
            let deadline = deadline.unwrap_or_else(|| self.timeout(direction).and_then(clock::deadline_after));
            return self.block(direction, deadline, call);
        };
        hub.charge();

        let mut place = End::Back;
        let mut entry = self.entry(hub);
        if let Some(known) = &entry {
            let side = known.side(direction);
            if (!side.ready.get() || !side.waiters.is_empty()) && !self.is_nonblocking() {
                self.park(hub, known, direction, deadline, place)?;
                place = End::Front;
                entry = self.entry(hub);
            }
        }
        loop {
            let result = hub.bare(|| call(&self.inner));
            match &result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.is_nonblocking() {
                        return result;
                    }
                    let known = match entry {
                        Some(known) => known,
                        None => self.register(hub)?,
                    };
                    known.side(direction).ready.set(false);
                    self.park(hub, &known, direction, deadline, place)?;
                    place = End::Front;
                    entry = self.entry(hub);
                    continue;
                }
                _ => {}
            }
            if let Some(known) = &entry {
                let side = known.side(direction);
                if let Ok(value) = &result
                    && left(value) == Left::Nothing
                    && !side.hung_up.get()
                {
                    side.ready.set(false);
                } else {
                    side.pass_on(hub);
                }
            }
            return result;
        }
    }

    /// Parks until the descriptor is ready in this direction; `Ok(false)` if the deadline came first. For what needs no
    /// call of its own to know: a connect.
    pub(crate) fn wait(&self, direction: Direction, deadline: Option<Instant>) -> io::Result<bool> {
        let Some(hub) = hub_for_waiting()? else {
            return block_any(&[(self.fd(), direction.poll_events())], deadline);
        };
        let entry = self.entry_or_register(hub)?;
        while !entry.side(direction).ready.get() {
            if !self.park_until(hub, &entry, direction, deadline, End::Back)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Parks until the poller has news of the descriptor; `Ok(false)` if the deadline came first. For one whose own look, made just
    /// before, has found nothing: whatever came after that look is news.
    ///
    /// `EBADF` if the descriptor is [evicted](Self::evict) meanwhile. A kill that is pending wins over news, which go to the next.
    pub(crate) fn wait_for_news(
        &self,
        direction: Direction,
        deadline: Option<Instant>,
        place: End,
    ) -> io::Result<bool> {
        let hub = Hub::try_here()?;
        let entry = self.entry_or_register(hub)?;
        let side = entry.side(direction);
        side.ready.set(false);
        let pass_on = PassOn(side, hub);
        let news = self.park_until(hub, &entry, direction, deadline, place);
        let task = hub.current();
        if task.attention.get() {
            hub.attend(&task);
        }
        // The turn is used.
        let _pass_on = ManuallyDrop::new(pass_on);
        news
    }

    /// Registers the descriptor with this hub: from now on it is told of an [eviction](Self::evict).
    pub(crate) fn introduce(&self) -> io::Result<()> {
        self.entry_or_register(Hub::try_here()?).map(|_entry| ())
    }

    /// Lets the next in line look too, after news of which something may be left.
    pub(crate) fn pass_on(&self, direction: Direction) {
        if let Some(hub) = Hub::get()
            && let Some(entry) = self.entry(hub)
        {
            entry.side(direction).pass_on(hub);
        }
    }

    /// A call in this direction may succeed, whatever was waited for.
    #[cfg(feature = "monkey")]
    pub(crate) fn note_ready(&self, direction: Direction) {
        if let Some(hub) = Hub::get()
            && let Some(entry) = self.entry(hub)
        {
            entry.side(direction).ready.set(true);
            entry.side(direction).pass_on(hub);
        }
    }

    /// Takes the descriptor out of every hub before its time: whoever waits for it gets `EBADF`. Nobody may begin
    /// a wait after that: who might, looks whether it happened after he was [introduced](Self::introduce).
    pub(crate) fn evict(&self) {
        reactor::release(self.fd());
    }

    /// As in [`Awaitable`].
    fn is_ready_now(&self, direction: Direction) -> bool {
        loop {
            let look = || sys::poll_fd(self.fd(), direction.poll_events(), Some(Duration::ZERO));
            match Hub::held(look) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
                Ok(ready) => return ready,
            }
        }
    }

    /// Parks until the descriptor may be ready, or the direction's own timeout, counted from the first park, runs out.
    fn park(
        &self,
        hub: &Hub,
        entry: &Entry,
        direction: Direction,
        deadline: &mut Option<Option<Instant>>,
        place: End,
    ) -> io::Result<()> {
        let deadline = *deadline.get_or_insert_with(|| self.timeout(direction).and_then(clock::deadline_after));
        if self.park_until(hub, entry, direction, deadline, place)? {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EAGAIN))
        }
    }

    fn park_until(
        &self,
        hub: &Hub,
        entry: &Entry,
        direction: Direction,
        deadline: Option<Instant>,
        place: End,
    ) -> io::Result<bool> {
        let reason = match direction {
            Direction::Read => Reason::Read(self.fd()),
            Direction::Write => Reason::Write(self.fd()),
        };
        let waiter = hub.arm(Clause(0));
        let side = entry.side(direction);
        let outcome = side.waiters.while_linked(waiter, place, || hub.on_outside(|| hub.park(reason, deadline)));
        if entry.closed.get() {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(outcome != Outcome::Elapsed)
    }

    /// What this hub knows of the descriptor.
    #[inline]
    fn entry(&self, hub: &Hub) -> Option<Rc<Entry>> {
        if self.unverified.load(Ordering::Relaxed) {
            return None;
        }
        hub.entry(self.fd(), self.generation)
    }

    fn entry_or_register(&self, hub: &Hub) -> io::Result<Rc<Entry>> {
        self.entry(hub).map_or_else(|| self.register(hub), Ok)
    }

    #[cold]
    fn register(&self, hub: &Hub) -> io::Result<Rc<Entry>> {
        self.unverified.store(false, Ordering::Relaxed);
        hub.register(self.fd(), self.generation)
    }

    /// Blocks the native thread, for want of a hub.
    fn block<T>(
        &self,
        direction: Direction,
        deadline: Option<Instant>,
        mut call: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match call(&self.inner) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_nonblocking() => {
                    if !block_any(&[(self.fd(), direction.poll_events())], deadline)? {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    /// For listeners, whose accept has no MSG_DONTWAIT: sets `O_NONBLOCK` on the open file; the user's view stays.
    pub(crate) fn set_underneath_nonblocking(&self) -> io::Result<()> {
        if self.mode.underneath.load(Ordering::Relaxed) {
            return Ok(());
        }
        let file = sys::file_id(self.inner.as_fd())?;
        let mut modes = underneath();
        if self.mode.underneath.load(Ordering::Relaxed) {
            return Ok(());
        }
        // The user's view has to be read before it can no longer be told from ours.
        self.is_nonblocking();
        sys::set_nonblocking(self.inner.as_fd(), true)?;
        // Files that were left to others, who have closed them.
        modes.retain(|(_, mode)| mode.strong_count() > 0);
        modes.push((file, Arc::downgrade(&self.mode)));
        self.mode.underneath.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A handle on the mode for the descriptor's owner, who is not us.
    #[cfg(feature = "monkey")]
    pub(crate) fn share_mode(&self) -> SharedMode {
        SharedMode::new(&self.mode)
    }

    /// Whether `O_NONBLOCK` of the open file is ours.
    #[cfg(feature = "monkey")]
    pub(crate) fn is_underneath(&self) -> bool {
        self.mode.underneath.load(Ordering::Relaxed)
    }

    /// Sets the user's view of non-blocking mode, and the flag of the open file unless that is set underneath.
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        if !self.mode.underneath.load(Ordering::Relaxed) {
            sys::set_nonblocking(self.inner.as_fd(), nonblocking)?;
        }
        self.mode.nonblocking.store(if nonblocking { YES } else { NO }, Ordering::Relaxed);
        Ok(())
    }

    /// Waits whatever the open file's flags: they are somebody else's.
    pub(crate) fn ignore_flags(&self) {
        self.mode.nonblocking.store(NO, Ordering::Relaxed);
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        let mut known = self.mode.nonblocking.load(Ordering::Relaxed);
        if known == UNKNOWN {
            known = if sys::is_nonblocking(self.inner.as_fd()).unwrap_or(false) { YES } else { NO };
            self.mode.nonblocking.store(known, Ordering::Relaxed);
        }
        known == YES
    }

    /// Somebody may have changed the open file's flags or its timeouts: they are asked for again when they next matter.
    #[cfg(feature = "monkey")]
    pub(crate) fn forget_mode(&self) {
        if !self.mode.underneath.load(Ordering::Relaxed) {
            self.mode.nonblocking.store(UNKNOWN, Ordering::Relaxed);
        }
        self.mode.read_timeout.store(UNKNOWN_TIMEOUT, Ordering::Relaxed);
        self.mode.write_timeout.store(UNKNOWN_TIMEOUT, Ordering::Relaxed);
    }

    /// Leaves the descriptor to somebody else, who may close it any time: this is no handle on it, and when it is dropped the
    /// number may be another file's.
    #[cfg(feature = "monkey")]
    pub(crate) fn disown(mut self) -> Source<S> {
        self.disowned = true;
        self.mode.handles.fetch_sub(1, Ordering::Relaxed);
        self
    }

    /// Notes a timeout that the caller has set on the kernel's socket.
    pub(crate) fn note_timeout(&self, direction: Direction, timeout: Option<Duration>) {
        let nanos = timeout.map_or(NO_TIMEOUT, |timeout| {
            u64::try_from(timeout.as_nanos()).unwrap_or(UNKNOWN_TIMEOUT).min(UNKNOWN_TIMEOUT - 1)
        });
        self.mode.timeout(direction).store(nanos, Ordering::Relaxed);
    }

    pub(crate) fn timeout(&self, direction: Direction) -> Option<Duration> {
        match self.mode.timeout(direction).load(Ordering::Relaxed) {
            NO_TIMEOUT => None,
            UNKNOWN_TIMEOUT => {
                let timeout = sys::socket_timeout(self.fd(), direction == Direction::Read);
                self.note_timeout(direction, timeout);
                timeout
            }
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// The descriptor was shut down in this direction: on this hub its waiters try again at once. Other hubs hear it from
    /// the kernel.
    pub(crate) fn wake(&self, direction: Direction) {
        if let Some(hub) = Hub::get()
            && let Some(entry) = self.entry(hub)
        {
            let side = entry.side(direction);
            side.ready.set(true);
            side.hung_up.set(true);
            side.waiters.offer(|waiter| hub.fire(waiter));
        }
    }
}

impl<S: AsFd> Drop for Source<S> {
    fn drop(&mut self) {
        #[cfg(feature = "monkey")]
        if self.disowned {
            // SAFETY: dropped once, here.
            return unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
        reactor::release(self.fd());
        self.leave_mode();
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.inner) };
    }
}

impl Direction {
    pub(super) fn poll_events(self) -> libc::c_short {
        match self {
            Direction::Read => libc::POLLIN,
            Direction::Write => libc::POLLOUT,
        }
    }
}

impl Side {
    /// Wakes the next in the queue, if the descriptor may still be ready.
    #[inline]
    fn pass_on(&self, hub: &Hub) {
        if self.ready.get() {
            self.waiters.offer(|waiter| hub.fire(waiter));
        }
    }
}

/// Passes the turn on when dropped: of one who was woken for the descriptor, and does not use it or unwinds.
struct PassOn<'a>(&'a Side, &'a Hub);

impl Drop for PassOn<'_> {
    fn drop(&mut self) {
        self.0.pass_on(self.1);
    }
}

impl Entry {
    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }
}

/// Counts a call that will be made without waiting: now and then the task gives way first.
pub(crate) fn charge() -> io::Result<()> {
    if let Some(hub) = hub_for_waiting()? {
        hub.charge();
    }
    Ok(())
}

/// Parks until one of several descriptors may be ready; false if the deadline came first.
pub(crate) fn wait_any<S: AsFd>(all: &[(&Source<S>, Direction)], deadline: Option<Instant>) -> io::Result<bool> {
    if hub_for_waiting()?.is_none() {
        let fds: Vec<_> = all.iter().map(|(source, direction)| (source.fd(), direction.poll_events())).collect();
        return block_any(&fds, deadline);
    }
    let sleeper = Sleeper::arm();
    let waiter = sleeper.waiter(Clause(0)).expect("there is a hub");
    let mut outcome = None;
    let stood = stand_in_all(all, waiter, &mut || {
        outcome = Some(sleeper.park(false, Reason::Other(&"one of several descriptors"), deadline, || false));
    });
    if outcome.is_none() {
        sleeper.give_up();
    }
    stood?;
    Ok(outcome != Some(Outcome::Elapsed))
}

/// Stands in the queues of all, the first one's outermost, and runs `park` there, unless one of them is ready.
fn stand_in_all<S: AsFd>(all: &[(&Source<S>, Direction)], waiter: Waiter, park: &mut dyn FnMut()) -> io::Result<()> {
    let Some(((source, direction), rest)) = all.split_first() else {
        park();
        return Ok(());
    };
    let mut stood = Ok(());
    source.while_awaited(*direction, waiter, &mut || stood = stand_in_all(rest, waiter, park))?;
    stood
}

/// Blocks the native thread, for want of a hub, until one of several descriptors may be ready; false if the deadline came first.
fn block_any(fds: &[(RawFd, libc::c_short)], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(clock::now()));
        match sys::poll_fds(fds, left) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The hub to park on; `None` where nothing can park and the native thread has to block.
fn hub_for_waiting() -> io::Result<Option<&'static Hub>> {
    if Hub::can_park() { Hub::try_here().map(Some) } else { Ok(None) }
}
