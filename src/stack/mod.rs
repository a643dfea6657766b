//! Stacks: handed out from this thread's pool with a guard below each, and taken back last-in first-out.
//!
//! ```text
//!   Stack::new(size) --> Pool, one a thread --> Class, one a size --> free list, newest on top
//!                                                    |                  (below: trimmed | untrimmed)
//!                                                    '-> arenas: slots not carved yet
//! ```
//!
//! Invariants:
//!
//! 1. A slot is in one place: handed out as one `Stack`, in its class's free list, or not carved yet.
//! 2. Arenas are unmapped when their pool is dropped, and every `Stack` holds its pool. So a stack that outlives its
//!    thread's pool is still mapped, and one that is forgotten stays mapped for ever: leaked, never freed (T2).
//! 3. The free list has room for every slot carved or not: giving a stack back allocates nothing and cannot fail.
//! 4. The oldest `trimmed` entries of a free list have had their memory given back, the others perhaps not.

mod arena;
mod guard;
mod memory;
pub(crate) mod overflow;
mod registry;
mod signal_stack;

#[cfg(test)]
mod tests;

use std::array;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use crate::thread_block::on_root;
use arena::{Arena, Slot};
#[allow(unused_imports, reason = "until the hub registers its description")]
pub(crate) use overflow::{Report, set_describe};

/// Usable bytes of a stack for which nothing else is asked: 256 KiB. Address space: only touched pages cost memory.
pub(crate) const DEFAULT_SIZE: usize = 256 * 1024;

/// One guarded stack; goes back to the pool it came from when dropped.
#[derive(Debug)]
pub(crate) struct Stack {
    slot: Slot,
    class: u32,
    pool: Rc<Pool>,
}

impl Stack {
    /// Takes a stack with room for `size` bytes from this thread's pool.
    ///
    /// The size is rounded up to a power of two, 16 KiB at least. Up to 1.5 KiB of it is lost to colour.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for more than 1 GiB; `OutOfMemory`, with a message that names the limit, when the kernel gives no
    /// more.
    #[inline]
    pub(crate) fn new(size: usize) -> io::Result<Stack> {
        let class = class_for(size)?;
        let pool = Pool::current();
        let slot = pool.take(class)?;
        Ok(Stack { slot, class, pool })
    }

    /// The highest address, aligned to 16 bytes: where the stack starts.
    #[inline]
    pub(crate) fn base(&self) -> usize {
        self.slot.base(stride_of(self.class))
    }

    /// The lowest address, that of the guard.
    pub(crate) fn limit(&self) -> usize {
        self.slot.limit()
    }

    /// The addresses that a body may use.
    pub(crate) fn usable(&self) -> Range<usize> {
        self.limit() + memory::page_size()..self.base()
    }

    /// Usable bytes: without guard and colour.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn size(&self) -> usize {
        self.base() - self.limit() - memory::page_size()
    }
}

impl Drop for Stack {
    #[inline]
    fn drop(&mut self) {
        self.pool.give_back(self.class, self.slot);
    }
}

/// Gives back the memory of free stacks beyond those that the load can be expected to use next.
///
/// For a hub about to go idle. At most `TRIM_BATCH` system calls; true if there is more to give back.
pub(crate) fn trim() -> bool {
    POOL.try_with(|pool| pool.trim()).unwrap_or(false)
}

/// How many stacks of this thread's pool are handed out.
pub(crate) fn live() -> usize {
    on_root(|| POOL.try_with(|pool| pool.live())).unwrap_or(0)
}

/// Makes overflows on this thread be reported: a handler for the process, and a signal stack for the thread.
///
/// A hub calls it before it registers thread-locals of its own, which then die before the signal stack and the pool.
pub(crate) fn prepare_thread() {
    overflow::install_handler();
    signal_stack::install();
    // Only touched. In a thread-local's destructor it may be gone: stacks made there bring a pool of their own.
    let _ = POOL.try_with(|_| ());
}

thread_local! {
    static POOL: Rc<Pool> = {
        overflow::install_handler();
        signal_stack::install();
        Rc::new(Pool::new())
    };
}

/// The stacks of one thread, by class.
#[derive(Debug)]
struct Pool {
    classes: [RefCell<Class>; CLASSES],
}

impl Pool {
    fn new() -> Pool {
        Pool { classes: array::from_fn(|class| RefCell::new(Class::new(class as u32))) }
    }

    /// This thread's pool; while the thread's locals are being destroyed, a new one that dies with its stacks.
    fn current() -> Rc<Pool> {
        on_root(|| POOL.try_with(Rc::clone)).unwrap_or_else(|_| Rc::new(Pool::new()))
    }

    #[inline]
    fn take(&self, class: u32) -> io::Result<Slot> {
        self.classes[class as usize].borrow_mut().take()
    }

    #[inline]
    fn give_back(&self, class: u32, slot: Slot) {
        self.classes[class as usize].borrow_mut().give_back(slot);
    }

    fn trim(&self) -> bool {
        let mut budget = TRIM_BATCH;
        self.classes.iter().any(|class| class.borrow_mut().trim(&mut budget))
    }

    fn live(&self) -> usize {
        self.classes.iter().map(|class| class.borrow().live).sum()
    }
}

/// The stacks of one size.
#[derive(Debug)]
struct Class {
    stride: usize,
    /// The newest last: it is the one whose memory is most likely still in the cache.
    free: Vec<Slot>,
    /// How many of `free`, from its start, were trimmed (invariant 4).
    trimmed: usize,
    live: usize,
    carved: usize,
    /// Only the last one may have room.
    arenas: Vec<Arena>,
}

impl Class {
    fn new(class: u32) -> Class {
        Class { stride: stride_of(class), free: Vec::new(), trimmed: 0, live: 0, carved: 0, arenas: Vec::new() }
    }

    #[inline]
    fn take(&mut self) -> io::Result<Slot> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.carve()?,
        };
        self.trimmed = self.trimmed.min(self.free.len());
        self.live += 1;
        Ok(slot)
    }

    #[cold]
    fn carve(&mut self) -> io::Result<Slot> {
        let _steady = crate::lock::steady();
        if self.arenas.last().is_none_or(Arena::is_full) {
            let arena = Arena::new(self.stride, self.slots_of_next_arena())?;
            // Every stack may come back before another is taken (invariant 3).
            self.free.try_reserve(self.carved + arena.slots())?;
            self.arenas.push(arena);
        }

        let arena = self.arenas.last_mut().expect("pushed above if there was none");
        let slot = arena.carve(self.carved)?;
        self.carved += 1;
        Ok(slot)
    }

    /// As many as were carved so far: a class doubles, within the bounds for an arena.
    fn slots_of_next_arena(&self) -> usize {
        let least = (FIRST_ARENA / self.stride).max(1);
        let most = (LARGEST_ARENA / self.stride).max(1);
        self.carved.clamp(least, most)
    }

    #[inline]
    fn give_back(&mut self, slot: Slot) {
        debug_assert!(self.free.len() < self.free.capacity(), "room for every slot was reserved (invariant 3)");
        self.live -= 1;
        self.free.push(slot);
    }

    /// Trims the oldest free stacks, as far as the budget goes; true if there is more.
    fn trim(&mut self, budget: &mut usize) -> bool {
        let keep = (KEEP_BYTES / self.stride).clamp(1, KEEP) + self.live / 8;
        let surplus = self.free.len().saturating_sub(keep);

        while self.trimmed < surplus {
            if *budget == 0 {
                return true;
            }
            *budget -= 1;
            // SAFETY: the slot is free (invariant 1), so nothing is on its stack.
            unsafe { self.free[self.trimmed].discard(self.stride) };
            self.trimmed += 1;
        }
        false
    }
}

/// The class whose stacks have at least `size` usable bytes.
#[inline]
fn class_for(size: usize) -> io::Result<u32> {
    if size > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a stack of {size} bytes was asked for; the largest has {LARGEST}"),
        ));
    }
    Ok(size.max(SMALLEST).next_power_of_two().trailing_zeros() - SMALLEST.trailing_zeros())
}

/// Bytes from one slot of a class to the next: its usable bytes and one page of guard.
#[inline]
fn stride_of(class: u32) -> usize {
    (SMALLEST << class).next_multiple_of(memory::page_size()) + memory::page_size()
}

const SMALLEST: usize = 16 * 1024;
const LARGEST: usize = 1 << 30;
const CLASSES: usize = (LARGEST / SMALLEST).trailing_zeros() as usize + 1;

/// Address space of a class's first arena: room for 16 stacks of the default size, near enough.
const FIRST_ARENA: usize = 16 * (DEFAULT_SIZE + 64 * 1024);
/// Address space of an arena, unless one stack alone needs more: a million stacks are some 260 arenas.
const LARGEST_ARENA: usize = 1 << 30;

/// Free stacks that keep their memory; beside them an eighth of those in use, about what a steady load swings by.
const KEEP: usize = 64;
/// What those may cost if all of them went deep; fewer are kept of larger classes.
const KEEP_BYTES: usize = KEEP * (DEFAULT_SIZE + 64 * 1024);
/// About a microsecond each.
const TRIM_BATCH: usize = 256;
