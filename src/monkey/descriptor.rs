//! What is known of descriptors that others made.
//!
//! Each hub keeps a [`Source`] for every number that its tasks have used, to be found in a few instructions. It is as good as the
//! number's *age*, which any thread raises when it closes or replaces the descriptor.
//!
//! - **D1** The age of a number is raised before the descriptor is closed, whoever closes it, and its waiters are woken then.
//!   So a number that comes from the kernel is fresh, if its last end was seen. That of `fclose` and its like is not, which
//!   close without a symbol; so those symbols raise the age too whose descriptors may have a known number: sockets, pipes, accepted
//!   connections, duplicates, files. Events, timers and the like are left out: nothing but such an end could make a
//!   number of theirs stale.
//! - **D2** What is kept is looked at only if its age is the number's. Flags and time-outs belong to the open file, which several
//!   numbers may share: a change anywhere raises one count for all, and each looks again when it next matters.
//! - **D3** What a child does between fork and exec to numbers that its parent knows changes nothing here: it shares the parent's
//!   pollers, and after vfork its memory. A child that goes on with the hub is another owner, with pollers of its own.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use libc::{c_int, size_t, ssize_t};

use super::gate::errno;
use crate::hub::Hub;
use crate::io::{Direction, Left, SharedMode, Source, Underneath, View};
use crate::lock::Lock;
use crate::reactor;
use crate::sys;

/// A descriptor that is somebody else's to close.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fd(RawFd);

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it was open when it was looked up, and D1 says that waiters are woken before it is closed. A number that is
        // closed or another file by the time of a call makes that call fail or go elsewhere, as between native threads.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// What a call does with such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A socket of a stream, whose reads and writes may be short.
    Stream,
    /// A socket of messages.
    Message,
    /// A pipe, an event, a timer and the like: what the poller takes and is no socket.
    Other,
    /// Regular files, directories, block devices: always ready, if slow.
    Disk,
    /// A standard descriptor for output, or a terminal: never waited for.
    Bare,
}

/// A descriptor that tasks of this hub have used.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) kind: Kind,
    /// A stream whose short reads and writes say that nothing is left, as those of TCP do. Those of Unix sockets end where ancillary
    /// data begins, those of others where a message ends.
    pub(super) even: bool,
    /// The file is named by this, whichever number leads to it.
    pub(super) file: sys::FileId,
    pub(super) source: Source<Fd>,
    /// The kernel has refused to read this without waiting.
    pub(super) no_read: Cell<bool>,
    /// The kernel has refused to write this without waiting.
    pub(super) no_write: Cell<bool>,
    /// Native threads that use the file's position for tasks of this hub.
    pub(super) jobs: Cell<u32>,
    /// An error of the socket that met a call which had moved bytes: the next one's.
    pub(super) owed: Cell<c_int>,
    age: u32,
    /// The count of changes up to which the source's mode is known.
    changes: Cell<u32>,
}

/// What a hub knows, by number.
#[derive(Default)]
pub(super) struct Table(RefCell<Vec<Option<Rc<Known>>>>);

/// How often a flag or a time-out of any open file was changed.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// Notes a change of a flag or a time-out (D2).
pub(super) fn note_change() {
    CHANGES.fetch_add(1, Ordering::Release);
}

/// The descriptor, if it is one that can be waited for or asked otherwise. `None` if it is not open, and if its number is beyond
/// those for which ages are kept: the caller then makes the bare call.
#[inline]
pub(super) fn look_up(hub: &'static Hub, fd: c_int) -> Option<Rc<Known>> {
    let table = table_of(hub);
    let age = age_of(NUMBERS.of(fd)?.load(Ordering::Acquire));
    let index = usize::try_from(fd).ok()?;
    // A list that is being changed belongs to code that this call interrupts: a signal handler's.
    let known = table.0.try_borrow().ok()?.get(index).cloned().flatten();
    if let Some(known) = known
        && known.age == age
    {
        let changes = CHANGES.load(Ordering::Acquire);
        if known.changes.get() != changes {
            known.changes.set(changes);
            known.source.forget_mode();
        }
        return Some(known);
    }
    hub.bare(|| table.learn(index, fd))
}

#[inline]
fn table_of(hub: &'static Hub) -> &'static Table {
    // Held, for the allocator may call what is patched, and come here.
    let table =
        hub.foreign().get().unwrap_or_else(|| hub.bare(|| hub.foreign().get_or_init(|| Box::new(Table::default()))));
    debug_assert!(table.is::<Table>());
    // SAFETY: nobody else keeps anything there.
    unsafe { &*ptr::from_ref(&**table).cast::<Table>() }
}

/// The way of a call on a socket that finds what it wants: makes it, by `call`, if nobody waits and something may be there. `None` if it
/// has to be made, perhaps again, by one who can wait. `asked` as in `socket::receive`.
#[inline]
pub(super) fn quick(
    hub: &'static Hub,
    fd: c_int,
    direction: Direction,
    call: impl FnOnce() -> ssize_t,
    asked: impl FnOnce() -> size_t,
) -> Option<ssize_t> {
    let table = table_of(hub);
    let age = age_of(NUMBERS.get(fd)?.load(Ordering::Acquire));
    let changes = CHANGES.load(Ordering::Acquire);
    hub.bare(|| {
        let table = table.0.try_borrow().ok()?;
        let known = table.get(usize::try_from(fd).ok()?)?.as_ref()?;
        let is_fit = known.age == age && known.changes.get() == changes && known.owed.get() == 0 && known.is_socket();
        if !is_fit || !hub.try_charge() {
            return None;
        }
        let left = |n: ssize_t| {
            if known.even && n > 0 && (n as size_t) < asked() { Left::Nothing } else { Left::Maybe }
        };
        // Datagrams after `shutdown` fail as if they were to be waited for.
        let stale = || known.kind == Kind::Stream && errno() == libc::EAGAIN;
        let n = known.source.try_at_once(hub, direction, call, left, stale)?;
        let waits = n < 0 && matches!(errno(), libc::EAGAIN | libc::EINTR) && !known.source.is_nonblocking();
        (!waits).then_some(n)
    })
}

impl Table {
    #[cold]
    fn learn(&self, index: usize, fd: c_int) -> Option<Rc<Known>> {
        let number = NUMBERS.of(fd)?;
        loop {
            let word = number.load(Ordering::Acquire);
            let changes = CHANGES.load(Ordering::Acquire);
            let (file, kind) = file_and_kind(fd)?;
            let known = Rc::new(Known {
                kind,
                even: kind == Kind::Stream && sys::is_tcp(fd),
                file,
                source: Source::from_outside(Fd(fd)).disown(),
                no_read: Cell::new(false),
                no_write: Cell::new(false),
                jobs: Cell::new(0),
                owed: Cell::new(0),
                age: age_of(word),
                changes: changes.into(),
            });
            let waited_for = matches!(kind, Kind::Stream | Kind::Message | Kind::Other);
            if waited_for {
                OWNER.store(std::process::id(), Ordering::Relaxed);
                // Whoever closes it from now on wakes those who wait; who has closed it since was too early for that.
                let noted = number.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                    (age_of(now) == known.age).then_some(now | KNOWN)
                });
                if noted.is_err() {
                    continue;
                }
            }
            let mut table = self.0.try_borrow_mut().ok()?;
            if table.len() <= index {
                table.resize_with(index + 1, || None);
            }
            let stale = table[index].replace(known.clone());
            drop(table);
            drop(stale);
            return Some(known);
        }
    }
}

fn file_and_kind(fd: c_int) -> Option<(sys::FileId, Kind)> {
    // SAFETY: a look at a number, which fails if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let (file, kind) = sys::file_kind(borrowed).ok()?;
    let kind = match kind {
        _ if fd == 1 || fd == 2 => Kind::Bare,
        sys::FileKind::Disk => Kind::Disk,
        sys::FileKind::Character => Kind::Bare,
        sys::FileKind::Other => match sys::socket_type(fd) {
            Some(libc::SOCK_STREAM) => Kind::Stream,
            Some(_) => Kind::Message,
            None => Kind::Other,
        },
    };
    Some((file, kind))
}

/// What the process knows of a number: its age in the upper half. Below, what lasts until the descriptor is closed.
type Word = AtomicU64;

/// Tasks may wait for it: who closes it wakes them.
const KNOWN: u64 = 1;
/// `O_NONBLOCK` of its open file is ours: [`KEPT`] has its mode.
const UNDERNEATH: u64 = 2;
/// The socket was made by this process, and how many copies of the process had been made by then: another count means that it
/// may be shared with one.
const MADE: u32 = 8;
const MADE_MASK: u64 = 0xff_ffff << MADE;

fn age_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The process whose tasks know descriptors (D3).
static OWNER: AtomicU32 = AtomicU32::new(0);

/// The modes of those whose `O_NONBLOCK` is ours, by number.
static KEPT: Lock<Vec<(RawFd, SharedMode)>> = Lock::new(Vec::new());

/// Forks, when nothing here is halfway through a change. What the parent's tasks knew, those of the child know.
fn copy(fork: &mut dyn FnMut() -> bool) {
    let kept = KEPT.lock();
    let _underneath = Underneath::hold();
    // Two processes have the open files from then on: the flag stays for the other, whichever lets go first.
    for (_, mode) in kept.iter() {
        let _never_left = ManuallyDrop::new(mode.duplicate());
    }
    if fork() {
        OWNER.store(std::process::id(), Ordering::Relaxed);
    }
}

/// To be called before `fd` is closed or replaced, by whatever thread, and for one that was just made (D1).
#[inline]
pub(super) fn forget(fd: c_int) {
    // Nothing is known of numbers whose table was never made.
    if let Some(word) = NUMBERS.get(fd) {
        forget_in(word, fd);
    }
}

fn forget_in(number: &Word, fd: c_int) {
    let word = number.load(Ordering::Acquire);
    if word & (KNOWN | UNDERNEATH) != 0 && OWNER.load(Ordering::Relaxed) != std::process::id() {
        return;
    }
    let next = |word| Some(u64::from(age_of(word).wrapping_add(1)) << 32);
    let word = number.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).unwrap_or(word);
    if word & UNDERNEATH != 0 {
        let mut kept = KEPT.lock();
        let modes: Vec<SharedMode> = kept.extract_if(.., |(other, _)| *other == fd).map(|(_, mode)| mode).collect();
        drop(kept);
        modes.into_iter().for_each(|mode| mode.leave(Fd(fd).as_fd()));
    }
    if word & KNOWN != 0 {
        reactor::release(fd);
    }
}

/// As [`forget`], for all numbers from `first` to `last`.
pub(super) fn forget_range(first: u32, last: u32) {
    for (part, place) in NUMBERS.0.iter().enumerate() {
        // SAFETY: null, or a part, which is never freed.
        let Some(words) = (unsafe { place.load(Ordering::Acquire).as_ref() }) else { continue };
        for (index, word) in words.iter().enumerate() {
            let fd = part * PART + index;
            if (first as usize..=last as usize).contains(&fd) && word.load(Ordering::Relaxed) != 0 {
                forget_in(word, fd as c_int);
            }
        }
    }
}

/// Whether tasks may wait for it.
pub(super) fn is_known(fd: c_int) -> bool {
    NUMBERS.get(fd).is_some_and(|word| word.load(Ordering::Acquire) & (KNOWN | UNDERNEATH) != 0)
}

/// How many copies of this process were made, from 1 on, in 24 bits.
static COPIES: AtomicU32 = AtomicU32::new(1);

/// Has copies of this process counted: what is open then is shared from there on. To be called once.
pub(super) fn watch_copies() {
    unsafe extern "C" fn note_copy() {
        COPIES.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: functions that do nothing but add, for the whole life of the process. Without memory for them, none is called.
    unsafe { libc::pthread_atfork(None, Some(note_copy), Some(note_copy)) };
    let _first = crate::hub::AROUND.set(copy);
}

fn made_now() -> u64 {
    u64::from(COPIES.load(Ordering::Relaxed)) << MADE & MADE_MASK
}

/// Notes that this process has made the open file, just now.
pub(super) fn note_made(fd: c_int) {
    if let Some(word) = NUMBERS.of(fd) {
        let made = made_now();
        let _noted = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| Some(word & !MADE_MASK | made));
    }
}

/// Whether nobody else has the open file, but by ways that cannot be seen: it was made here, by a patched call, and the process was
/// not copied since. It may have been sent to another process over a Unix socket all the same.
pub(super) fn is_ours(fd: c_int) -> bool {
    NUMBERS.get(fd).is_some_and(|word| word.load(Ordering::Acquire) & MADE_MASK == made_now())
}

/// Sets `O_NONBLOCK` of its open file; the user's view stays.
pub(super) fn put_underneath(fd: c_int, source: &Source<Fd>) -> std::io::Result<()> {
    source.set_underneath_nonblocking()?;
    keep(fd, source.share_mode());
    Ok(())
}

fn keep(fd: c_int, mode: SharedMode) {
    let Some(word) = NUMBERS.of(fd) else { return };
    let mut kept = KEPT.lock();
    if word.fetch_or(UNDERNEATH, Ordering::AcqRel) & UNDERNEATH == 0 {
        kept.push((fd, mode));
    } else {
        drop(kept);
        mode.leave(Fd(fd).as_fd());
    }
}

/// Whether `O_NONBLOCK` of its open file is known to be ours by this number.
pub(super) fn is_underneath(fd: c_int) -> bool {
    NUMBERS.get(fd).is_some_and(|word| word.load(Ordering::Acquire) & UNDERNEATH != 0)
}

/// Notes that `new` was made as a duplicate of `old`.
pub(super) fn note_duplicate(old: c_int, new: c_int) {
    let Some(word) = NUMBERS.get(old) else { return };
    let word = word.load(Ordering::Acquire);
    if word & MADE_MASK != 0
        && let Some(other) = NUMBERS.of(new)
    {
        let made = word & MADE_MASK;
        let _noted = other.fetch_update(Ordering::AcqRel, Ordering::Acquire, |other| Some(other & !MADE_MASK | made));
    }
    if word & UNDERNEATH != 0 {
        let mode = KEPT.lock().iter().find(|(fd, _)| *fd == old).map(|(_, mode)| mode.duplicate());
        if let Some(mode) = mode {
            keep(new, mode);
        }
    }
}

/// The user's view of a descriptor whose `O_NONBLOCK` is ours, by whatever number.
pub(super) fn view_of(fd: c_int) -> Option<View> {
    (fd >= 0).then(|| View::of(Fd(fd).as_fd())).flatten()
}

/// The words of all numbers: a table of tables, which are made when they are first needed and stay.
struct Numbers([AtomicPtr<Part>; PARTS]);

type Part = [Word; PART];

const PART: usize = 1 << 10;
const PARTS: usize = 1 << 14;

static NUMBERS: Numbers = Numbers([const { AtomicPtr::new(ptr::null_mut()) }; PARTS]);

impl Numbers {
    #[inline]
    fn of(&self, fd: c_int) -> Option<&Word> {
        let index = usize::try_from(fd).ok()?;
        let part = self.0.get(index / PART)?.load(Ordering::Acquire);
        // SAFETY: null, or a part, which is never freed.
        let part = unsafe { part.as_ref() }.unwrap_or_else(|| self.make(index / PART));
        Some(&part[index % PART])
    }

    /// The word, if its table is there. Allocates nothing.
    #[inline]
    fn get(&self, fd: c_int) -> Option<&Word> {
        let index = usize::try_from(fd).ok()?;
        let part = self.0.get(index / PART)?.load(Ordering::Acquire);
        // SAFETY: as above.
        unsafe { part.as_ref() }.map(|part| &part[index % PART])
    }

    #[cold]
    fn make(&self, index: usize) -> &Part {
        // Not by way of the stack, which may be a small one.
        let fresh = Box::<Part>::new_zeroed();
        // SAFETY: all zeros are zeros.
        let fresh = Box::into_raw(unsafe { fresh.assume_init() });
        match self.0[index].compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: never freed.
            Ok(_) => unsafe { &*fresh },
            Err(other) => {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: never freed.
                unsafe { &*other }
            }
        }
    }
}
