//! A task's books and its result, counted and pooled.
//!
//! ```text
//!   TaskRc<T> --+                     +-- AnyTask (the hub's list, every `Task`)
//!               v                     v
//!              [ Header: count, ... | result: Option<Result<T, JoinError>> ]     one block
//! ```
//!
//! `Rc` would do, but for two things: an erased one is two words wide, and its memory comes from the allocator each time,
//! which took a third of the instructions of a spawn and join (2026-11). Blocks of the common size are kept by the hub
//! that made them.
//!
//! - **B1** The block lives as long as its count is above zero; the count is the header's.
//! - **B2** The result is dropped by whoever takes it: the handle that owns it, or the task's own end. It may borrow from a
//!   scope that other holders of the block outlive, so it is never dropped with the block.

use std::alloc::{self, Layout};
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::Hub;
use super::header::Header;
use crate::error::JoinError;
use crate::lock::steady;

/// A task and the place for its result.
#[repr(C)]
pub(crate) struct TaskCell<T> {
    /// First, so that an erased pointer to the cell is one to the header.
    header: Header,
    result: ManuallyDrop<Cell<Option<Result<T, JoinError>>>>,
}

impl<T> TaskCell<T> {
    #[inline]
    pub(crate) fn put(&self, result: Result<T, JoinError>) {
        let before = self.result.replace(Some(result));
        debug_assert!(before.is_none(), "a task ends once");
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<Result<T, JoinError>> {
        self.result.take()
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }
}

/// A task, whatever its result: counted.
pub(crate) struct AnyTask(NonNull<Header>);

/// A task with its result: counted.
pub(crate) struct TaskRc<T> {
    task: AnyTask,
    result: PhantomData<TaskCell<T>>,
}

impl<T> TaskRc<T> {
    /// Puts a header into a block of the hub's, or of the allocator's where there is no hub yet.
    #[inline(always)]
    pub(super) fn new(blocks: &Blocks, header: Header) -> TaskRc<T> {
        let layout = Layout::new::<TaskCell<T>>();
        let (place, is_pooled) = blocks.take(layout);
        header.block.set(if is_pooled { COMMON } else { layout });
        let place = place.cast::<TaskCell<T>>();
        // SAFETY: the block is fresh and has at least the cell's size and alignment.
        unsafe { place.write(TaskCell { header, result: ManuallyDrop::new(Cell::new(None)) }) };
        TaskRc { task: AnyTask(place.cast()), result: PhantomData }
    }

    /// The task without its result.
    #[inline]
    pub(crate) fn erase(&self) -> AnyTask {
        self.task.clone()
    }
}

impl<T> Deref for TaskRc<T> {
    type Target = TaskCell<T>;

    #[inline]
    fn deref(&self) -> &TaskCell<T> {
        // SAFETY: B1; it was made as a `TaskCell<T>`, whose first field the header is.
        unsafe { self.task.0.cast::<TaskCell<T>>().as_ref() }
    }
}

impl AnyTask {
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: B1.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for AnyTask {
    #[inline]
    fn clone(&self) -> AnyTask {
        let count = &self.header().count;
        // Forgotten clones can count up without end; a block that is freed under its holders must not come of it.
        match count.get().checked_add(1) {
            Some(more) => count.set(more),
            None => std::process::abort(),
        }
        AnyTask(self.0)
    }
}

impl Drop for AnyTask {
    #[inline]
    fn drop(&mut self) {
        let count = &self.header().count;
        count.set(count.get() - 1);
        if count.get() > 0 {
            return;
        }
        let layout = self.header().block.get();
        // SAFETY: B1: nobody else is left. Only the header is dropped (B2).
        unsafe { ptr::drop_in_place(self.0.as_ptr()) };
        let place = self.0.cast::<u8>();
        match Hub::get() {
            Some(hub) if layout == COMMON => hub.blocks().give_back(place),
            // SAFETY: it was allocated with this layout.
            _ => unsafe { alloc::dealloc(place.as_ptr(), layout) },
        }
    }
}

/// The layout of pooled blocks: room for a header and a result of some words.
const COMMON: Layout = match Layout::from_size_align(size_of::<Header>() + 48, 16) {
    Ok(layout) => layout.pad_to_align(),
    Err(_) => panic!("a header is small"),
};

/// So many free blocks are kept, at most.
const KEPT: usize = 1024;

/// Free blocks of the common layout.
#[derive(Debug)]
pub(super) struct Blocks(RefCell<Vec<NonNull<u8>>>);

impl Blocks {
    pub(super) fn new() -> Blocks {
        Blocks(RefCell::default())
    }

    /// A block for a cell of this layout; whether it has the common one.
    #[inline]
    fn take(&self, layout: Layout) -> (NonNull<u8>, bool) {
        let is_common = layout.size() <= COMMON.size() && layout.align() <= COMMON.align();
        if is_common && let Some(free) = self.0.borrow_mut().pop() {
            return (free, true);
        }
        let layout = if is_common { COMMON } else { layout };
        // SAFETY: a cell has a header, so its size is not zero.
        let place = unsafe { alloc::alloc(layout) };
        match NonNull::new(place) {
            Some(place) => (place, is_common),
            None => alloc::handle_alloc_error(layout),
        }
    }

    #[inline]
    fn give_back(&self, block: NonNull<u8>) {
        let _steady = steady();
        let mut free = self.0.borrow_mut();
        if free.len() < KEPT {
            free.push(block);
        } else {
            // SAFETY: pooled blocks have the common layout.
            unsafe { alloc::dealloc(block.as_ptr(), COMMON) };
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        for block in self.0.get_mut().drain(..) {
            // SAFETY: as in `give_back`.
            unsafe { alloc::dealloc(block.as_ptr(), COMMON) };
        }
    }
}
