//! What is known of descriptors that others made.
//!
//! Each hub keeps a [`Source`] for every number that its tasks have used, to be found in a few instructions. It is as good as the
//! number's *age*, which any thread raises when it closes or replaces the descriptor.
//!
//! - **D1** The age of a number is raised before the descriptor is closed, whoever closes it, and its waiters are woken then.
//! - **D2** What is kept is looked at only if its age is the number's. Flags and time-outs belong to the open file, which several
//!   numbers may share: a change anywhere raises one count for all, and each looks again when it next matters.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use libc::c_int;

use crate::hub::Hub;
use crate::io::Source;
use crate::lock::steady;
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
    /// One of the three standard descriptors, or a terminal: never waited for.
    Bare,
}

/// A descriptor that tasks of this hub have used.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) kind: Kind,
    pub(super) source: Source<Fd>,
    age: u32,
    /// The count of changes up to which the source's mode is known.
    changes: std::cell::Cell<u32>,
}

/// What a hub knows, by number.
#[derive(Default)]
pub(super) struct Table(RefCell<Vec<Option<Rc<Known>>>>);

/// How often a flag or a time-out of any open file was changed.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// Notes a change of a flag or a time-out (D2).
#[expect(dead_code, reason = "until `fcntl` is there")]
pub(super) fn note_change() {
    CHANGES.fetch_add(1, Ordering::Release);
}

/// The descriptor, if it is one that can be waited for or asked otherwise. `None` if it is not open, and if its number is beyond
/// those for which ages are kept: the caller then makes the bare call.
#[inline]
pub(super) fn look_up(hub: &'static Hub, fd: c_int) -> Option<Rc<Known>> {
    let table = hub.foreign().get_or_init(|| Box::new(Table::default()));
    let table: &Table = table.downcast_ref().expect("nobody else keeps anything there");
    let age = AGES.of(fd)?.load(Ordering::Acquire);
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
    table.learn(index, fd, age)
}

impl Table {
    #[cold]
    fn learn(&self, index: usize, fd: c_int, age: u32) -> Option<Rc<Known>> {
        let changes = CHANGES.load(Ordering::Acquire);
        let kind = kind_of(fd)?;
        let source = Source::from_outside(Fd(fd));
        let known = Rc::new(Known { kind, source, age, changes: changes.into() });
        let _steady = steady();
        let mut table = self.0.try_borrow_mut().ok()?;
        if table.len() <= index {
            table.resize_with(index + 1, || None);
        }
        let stale = table[index].replace(known.clone());
        drop(table);
        drop(stale);
        Some(known)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        // The number may be another's by now.
        self.source.disown();
    }
}

fn kind_of(fd: c_int) -> Option<Kind> {
    if (0..=2).contains(&fd) {
        return Some(Kind::Bare);
    }
    // SAFETY: a look at a number, which fails if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let kind = match sys::file_kind(borrowed).ok()?.1 {
        sys::FileKind::Disk => Kind::Disk,
        sys::FileKind::Character => Kind::Bare,
        sys::FileKind::Other => match sys::socket_type(fd) {
            Some(libc::SOCK_STREAM) => Kind::Stream,
            Some(_) => Kind::Message,
            None => Kind::Other,
        },
    };
    Some(kind)
}

/// To be called before `fd` is closed or replaced, by whatever thread, and for one that was just made (D1).
pub(super) fn forget(fd: c_int) {
    if let Some(age) = AGES.of(fd) {
        age.fetch_add(1, Ordering::AcqRel);
        reactor::release(fd);
    }
}

/// The ages of all numbers: a table of tables, which are made when they are first needed and stay.
struct Ages([AtomicPtr<Part>; PARTS]);

type Part = [AtomicU32; PART];

const PART: usize = 1 << 12;
const PARTS: usize = 1 << 12;

static AGES: Ages = Ages([const { AtomicPtr::new(ptr::null_mut()) }; PARTS]);

impl Ages {
    #[inline]
    fn of(&self, fd: c_int) -> Option<&AtomicU32> {
        let index = usize::try_from(fd).ok()?;
        let part = self.0.get(index / PART)?.load(Ordering::Acquire);
        // SAFETY: null, or a part, which is never freed.
        let part = unsafe { part.as_ref() }.unwrap_or_else(|| self.make(index / PART));
        Some(&part[index % PART])
    }

    #[cold]
    fn make(&self, index: usize) -> &Part {
        let fresh = Box::into_raw(Box::new([const { AtomicU32::new(0) }; PART]));
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
