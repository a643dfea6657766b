//! Blocks as glibc makes them for threads: made, furnished, used again.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};

use crate::lock::{Guard, Lock, steadily, steady};

mod keys;
mod layout;
mod modules;
mod register;
mod symbols;

use layout::{Busy, FIRST_TID, LAST_TID, Layout, layout};
use modules::{Generation, Images, has_outside};

/// A thread block, in the hands of one task (X3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    record: NonNull<Record>,
    /// The record's, where the hub's loop has it at hand.
    pointer: usize,
}

// SAFETY: whoever has taken it from the free list is alone with it (X3).
unsafe impl Send for Block {}

/// What we know of a block. Records live as long as the process.
#[derive(Debug)]
struct Record {
    /// The block's thread pointer.
    pointer: Cell<usize>,
    tid: i32,
    /// Nobody has run on it.
    is_new: Cell<bool>,
    /// Which task of all it is that has it.
    identity: Cell<u64>,
    /// Given by its owner, for `enter`.
    owner: Cell<*const ()>,
    /// Whether somebody else has a say in when it is used again.
    keeper: AtomicU8,
    /// The thread pointer of the thread whose task has it.
    root: Cell<usize>,
    /// See [`Block::unwinds`].
    unwinds: Cell<usize>,
    /// What is laid down to make it as good as new; none if that cannot be.
    images: RefCell<Option<Arc<Images>>>,
}

/// Nobody keeps the block from being used again when its task has left it.
const NOBODY: u8 = 0;
/// Somebody does.
const KEPT: u8 = 1;
/// The task has left it since.
const LEFT: u8 = 2;

/// Blocks that nobody has.
struct Spare {
    /// The last to come is the first to go: it is the one that is in the cache.
    free: Vec<Block>,
    /// As of the newest block that was made.
    images: Option<Arc<Images>>,
}

static SPARE: Lock<Spare> = Lock::new(Spare { free: Vec::new(), images: None });

thread_local! {
    /// The block that this code runs on, null if it is the thread's own. Every block has this variable, each its own.
    static CURRENT: Cell<*const Record> = const { Cell::new(ptr::null()) };
    /// On a thread's own block: [`on_root`] runs there.
    static IS_AWAY: Cell<bool> = const { Cell::new(false) };
}

/// Whether tasks can have blocks.
///
/// # Errors
///
/// Of kind `Unsupported`, with the reason; or the system gives no thread to find out from.
pub(crate) fn supported() -> io::Result<()> {
    layout().map(drop)
}

/// Which block the caller runs on, never used again for another task; 0 for the thread's own.
#[inline]
pub(crate) fn identity() -> u64 {
    // SAFETY: null, or the running block's record.
    unsafe { CURRENT.get().as_ref() }.map_or(0, |record| record.identity.get())
}

/// Runs `f` on the thread's own block, for what is the thread's and not the task's. Nothing in it may park, and it must not unwind:
/// that would end the process.
#[inline]
pub(crate) fn on_root<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: null, or the running block's record.
    match unsafe { CURRENT.get().as_ref() } {
        // SAFETY: the thread's own, which waits for the hub's next turn.
        Some(record) => unsafe {
            visit(record.root.get(), || {
                IS_AWAY.set(true);
                let result = f();
                IS_AWAY.set(false);
                result
            })
        },
        None => steadily(f),
    }
}

/// Whether the caller is in what a task runs [`on_root`]: it is on the task's stack, and must not park.
#[inline]
pub(crate) fn is_away() -> bool {
    IS_AWAY.get()
}

/// Runs `f` on another block.
///
/// # Safety
///
/// A furnished block, on which nobody runs meanwhile.
#[inline(never)]
unsafe fn visit<R, F: FnOnce() -> R>(pointer: usize, f: F) -> R {
    /// A function of its own, so that what it knows of thread-locals is its own (X2). An unwind ends the process here.
    #[inline(never)]
    extern "C" fn call<R, F: FnOnce() -> R>(job: &mut (Option<F>, Option<R>)) {
        // Not even for a lock of the allocator's.
        let _steady = steady();
        job.1 = job.0.take().map(|f| f());
    }
    let mut job = (Some(f), None);
    let here = register::read();
    // SAFETY: the caller says whose it is.
    unsafe { register::write(pointer) };
    call(&mut job);
    // SAFETY: X1: back to where the caller was.
    unsafe { register::write(here) };
    job.1.expect("it was called")
}

impl Block {
    /// A block for a task on this stack, as good as new; `owner` is given back by [`enter`](Self::enter).
    ///
    /// # Errors
    ///
    /// As [`supported`]; and if there is no memory for it.
    pub(crate) fn take(stack: Range<usize>, owner: *const ()) -> io::Result<Block> {
        let layout = layout()?;
        let spare = SPARE.lock().free.pop();
        let block = match spare {
            Some(block) => block.renewed(layout)?,
            None => Block::make(layout)?,
        };
        static LAST: AtomicU64 = AtomicU64::new(0);
        let record = block.record();
        // At one a nanosecond they last for centuries.
        record.identity.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
        record.owner.set(owner);
        record.unwinds.set(0);
        // T1: the task is spawned on its thread, by the root or by another task.
        // SAFETY: null, or the running block's record.
        record.root.set(unsafe { CURRENT.get().as_ref() }.map_or_else(register::read, |running| running.root.get()));
        // SAFETY: X3: nobody runs on it.
        unsafe { layout.assign(record.pointer.get(), &stack) };
        Ok(block)
    }

    fn record(&self) -> &Record {
        // SAFETY: records are never freed, and X3.
        unsafe { self.record.as_ref() }
    }

    #[cold]
    fn make(layout: &Layout) -> io::Result<Block> {
        static LAST: AtomicI32 = AtomicI32::new(FIRST_TID);
        let more = |last: i32| (last < LAST_TID).then_some(last + 1);
        let tid = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        let tid = tid.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let (pointer, images) = make_block(layout, tid)?;
        let record = Box::leak(Box::new(Record {
            pointer: Cell::new(pointer),
            tid,
            is_new: Cell::new(true),
            identity: Cell::new(0),
            owner: Cell::new(ptr::null()),
            keeper: AtomicU8::new(NOBODY),
            root: Cell::new(0),
            unwinds: Cell::new(0),
            images: RefCell::new(images),
        }));
        Ok(Block { record: NonNull::from(record), pointer })
    }

    /// Makes it as good as new (X4). If that fails it goes back to the others.
    fn renewed(self, layout: &Layout) -> io::Result<Block> {
        let record = self.record();
        let pointer = record.pointer.get();
        // SAFETY: X3: nobody runs on it.
        let outside = unsafe { has_outside(pointer) };
        if let Some(images) = &*record.images.borrow()
            && !outside
            // SAFETY: its own images; X3.
            && unsafe { images.lay_down(pointer) }
        {
            return Ok(self);
        }
        let images = record.images.borrow_mut().take();
        match make_block(layout, record.tid) {
            Ok((new, new_images)) => {
                if let Some(images) = images.as_ref().or(new_images.as_ref()) {
                    // SAFETY: where libc's part is does not change; X3.
                    unsafe { layout.hand_on(images, pointer, new) };
                }
                // SAFETY: made by `make_block`; X3.
                unsafe { layout.free(pointer) };
                record.pointer.set(new);
                record.is_new.set(true);
                *record.images.borrow_mut() = new_images;
                Ok(Block { pointer: new, ..self })
            }
            Err(error) => {
                *record.images.borrow_mut() = images;
                SPARE.lock().free.push(self);
                Err(error)
            }
        }
    }

    /// Gives it back for the next task.
    ///
    /// # Safety
    ///
    /// X3: its values have been destroyed, and its task's stack is not run any more.
    #[inline]
    pub(crate) unsafe fn give_back(self) {
        if self.record().keeper.compare_exchange(KEPT, LEFT, Ordering::AcqRel, Ordering::Acquire).is_err() {
            SPARE.lock().free.push(self);
        }
    }

    /// Has it stay out of use beyond the end of its task, until it is released: its name is still known to somebody.
    pub(crate) fn keep(self) {
        self.record().keeper.store(KEPT, Ordering::Release);
    }

    /// Takes [`keep`](Self::keep) back, once; on any thread.
    pub(crate) fn release(self) {
        if self.record().keeper.swap(NOBODY, Ordering::AcqRel) == LEFT {
            SPARE.lock().free.push(self);
        }
    }

    /// What `pthread_self` gives on it.
    pub(crate) fn name(self) -> usize {
        let layout = layout().expect("blocks are made where they are supported");
        layout.descriptor(self.record().pointer.get())
    }

    /// Runs `resume`, which switches to the block's task, on the block.
    ///
    /// # Safety
    ///
    /// The caller runs on its thread's own block. `resume` does nothing but switch to a stack on which this block is the running
    /// one, and come back from it (X1, X2); it does not unwind.
    #[inline(never)]
    pub(crate) unsafe fn run(self, resume: impl FnOnce() -> bool) -> bool {
        let root = register::read();
        // SAFETY: furnished, and nobody else runs on it (X3).
        unsafe { register::write(self.pointer) };
        let ended = resume();
        // SAFETY: X1: back to where the caller was.
        unsafe { register::write(root) };
        ended
    }

    /// Begins to run on the block: to be called before anything else on the task's stack. Gives what it was taken with.
    ///
    /// # Safety
    ///
    /// The block is the running one.
    #[inline(never)]
    pub(crate) unsafe fn enter(self) -> *const () {
        let record = self.record();
        CURRENT.set(record);
        let layout = layout().expect("blocks are made where they are supported");
        if record.is_new.replace(false) {
            // SAFETY: as a thread does it when it begins.
            unsafe { (layout.prepare_ctype)() };
        } else {
            /// locale.h's `LC_GLOBAL_LOCALE`.
            const GLOBAL: libc::locale_t = ptr::without_provenance_mut(usize::MAX);
            // SAFETY: no precondition, with this locale.
            unsafe { libc::uselocale(GLOBAL) };
        }
        set_errno(0);
        record.owner.get()
    }

    /// Destroys the values of thread-locals and keys, as the C library does when a thread ends. Their destructors may park.
    ///
    /// # Safety
    ///
    /// The block is the running one, and the task will use no thread-local of the user's any more that it does not
    /// make anew.
    pub(crate) unsafe fn end_values(self) {
        let Ok(layout) = layout() else { return };
        let descriptor = layout.descriptor(self.record().pointer.get());
        for _ in 0..ROUNDS {
            // SAFETY: the caller says when; they run here, where they were registered.
            unsafe { (layout.call_destructors)() };
            // SAFETY: the running block's descriptor.
            if !unsafe { keys::destroy_values(layout, descriptor) } {
                return;
            }
        }
        // SAFETY: as above. What the others have registered must not be left to the block's next task.
        unsafe { (layout.call_destructors)() };
        // SAFETY: the running block's descriptor.
        unsafe { keys::forget_values(layout, descriptor) };
    }

    /// How many parts of its task, generators say, are suspended in the midst of an unwind that began on this block.
    #[inline]
    pub(crate) fn unwinds(self) -> &'static Cell<usize> {
        // SAFETY: records are never freed.
        unsafe { &self.record.as_ref().unwinds }
    }
}

/// The running block's `errno`.
fn errno() -> i32 {
    // SAFETY: no precondition.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the running block's variable.
    unsafe { *place }
}

fn set_errno(value: i32) {
    // SAFETY: no precondition.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the running block's variable.
    unsafe { *place = value };
}

/// Destructors that make values anew are waited for so many times.
const ROUNDS: usize = 4;

/// Makes a block, and finds its images.
fn make_block(layout: &Layout, tid: i32) -> io::Result<(usize, Option<Arc<Images>>)> {
    let before = Generation::now();
    let pointer = layout.make(tid)?;
    let known = SPARE.lock().images.clone();
    if let Some(images) = known
        && Some(images.generation) == before
        && Generation::now() == before
    {
        return Ok((pointer, Some(images)));
    }
    // SAFETY: just made.
    let images = unsafe { Images::survey(layout, pointer, before) }.map(Arc::new);
    if let Some(images) = &images {
        let old = SPARE.lock().images.replace(images.clone());
        drop(old);
    }
    Ok((pointer, images))
}

/// Keeps other threads off the blocks that nobody has, while the process is copied.
pub(crate) fn hold() -> Held {
    let busy = Busy::wait();
    Held { _spare: SPARE.lock(), _busy: busy }
}

/// See [`hold`].
pub(crate) struct Held {
    _spare: Guard<'static, Spare>,
    _busy: Busy,
}
