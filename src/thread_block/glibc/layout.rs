//! Where glibc keeps what in a thread's block: found at run time, tried out, and refused if anything is not as expected.
//!
//! glibc tells debuggers where some fields are (its `_thread_db_` symbols, for libthread_db); others are found in a thread
//! of ours whose stack we have chosen. Then a block is made for trial, and each field is used through the public call that
//! depends on it.

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::keys::{IN_TABLE, Key, TABLES, Value};
use super::modules::{Generation, Images};
use super::{register, visit};

/// What is known of this process's C library. Offsets are from the descriptor, which is what `pthread_self` names, unless said otherwise.
#[derive(Debug)]
pub(super) struct Layout {
    allocate: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    deallocate: unsafe extern "C" fn(*mut c_void, bool),
    /// Runs what `__cxa_thread_atexit_impl` has registered.
    pub(super) call_destructors: unsafe extern "C" fn(),
    pub(super) prepare_ctype: unsafe extern "C" fn(),
    /// From the descriptor to where the thread pointer leads.
    gap: usize,
    tid: usize,
    /// The tables of keys' values, and the first of them.
    pub(super) tables: usize,
    first_table: usize,
    pub(super) keys: *const Key,
    /// Head of the list of robust mutexes (set_robust_list(2)).
    robust: usize,
    /// Lowest address and size of the stack.
    bounds: usize,
    /// The resolver's state, and from the thread pointer to the variable that leads to it.
    resolver: Option<(usize, isize)>,
    /// From the thread pointer to what the kernel tells of the processor (rseq(2)).
    rseq: Option<isize>,
    /// Where libc and the loader begin, whose thread-locals are theirs.
    libraries: [usize; 2],
}

// SAFETY: the tables are the C library's and read atomically.
unsafe impl Send for Layout {}
// SAFETY: as above.
unsafe impl Sync for Layout {}

/// Found once in a process.
static LAYOUT: OnceLock<Result<Layout, &'static str>> = OnceLock::new();
/// Somebody is looking. Not a lock of std's, whose waits patched programs answer with a switch.
static IS_BUSY: AtomicBool = AtomicBool::new(false);

/// The layout, looked for if nobody has.
///
/// # Errors
///
/// `Unsupported` with the reason; or the system gives no thread to look from.
#[inline]
pub(super) fn layout() -> io::Result<&'static Layout> {
    match LAYOUT.get() {
        Some(Ok(layout)) => Ok(layout),
        _ => look(),
    }
}

/// Keeps others from looking.
#[derive(Debug)]
pub(super) struct Busy(());

impl Busy {
    pub(super) fn wait() -> Busy {
        while IS_BUSY.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            // SAFETY: no precondition.
            unsafe { libc::sched_yield() };
        }
        Busy(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        IS_BUSY.store(false, Ordering::Release);
    }
}

#[cold]
fn look() -> io::Result<&'static Layout> {
    let _busy = Busy::wait();
    if LAYOUT.get().is_none() {
        let found = if cfg!(feature = "sanitizer") { Err(SANITIZED) } else { search()? };
        let _first = LAYOUT.set(found);
    }
    match LAYOUT.get().expect("set above") {
        Ok(layout) => Ok(layout),
        Err(why) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("greenroom: tasks can have no thread-locals of their own: {why}"),
        )),
    }
}

const SANITIZED: &str = "a sanitizer keeps books of each thread's";

/// A symbol of any loaded library.
fn symbol(name: &CStr) -> Result<*mut c_void, &'static str> {
    // SAFETY: a name and the default scope.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if found.is_null() { Err("the C library is not a glibc that we know") } else { Ok(found) }
}

/// The libraries' own function, also where this program has one of that name.
pub(super) fn original(name: &CStr) -> *mut c_void {
    // SAFETY: a name and the scope after this object.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

/// Offset and size of a field, as debuggers are told (glibc's nptl_db/db_info.c).
fn field(name: &CStr) -> Result<(usize, usize), &'static str> {
    let described = symbol(name)?.cast::<[u32; 3]>();
    // SAFETY: bits of an element, number of elements, offset: three words.
    let [bits, elements, offset] = unsafe { *described };
    Ok((offset as usize, (bits * elements) as usize / 8))
}

/// The size of a structure, as debuggers are told.
fn size(name: &CStr) -> Result<usize, &'static str> {
    let described = symbol(name)?.cast::<u32>();
    // SAFETY: one word.
    Ok(unsafe { *described } as usize)
}

/// A search, for the thread that does it.
struct Search {
    stack: Range<usize>,
    found: Result<Layout, &'static str>,
}

/// Room for the thread's stack, with all that libraries may want of it.
const STACK: usize = 512 * 1024;

/// Looks from a thread whose stack is known.
fn search() -> io::Result<Result<Layout, &'static str>> {
    type Create = unsafe extern "C" fn(
        *mut libc::pthread_t,
        *const libc::pthread_attr_t,
        extern "C" fn(*mut c_void) -> *mut c_void,
        *mut c_void,
    ) -> c_int;
    type Join = unsafe extern "C" fn(libc::pthread_t, *mut *mut c_void) -> c_int;
    for sanitizer in [c"__asan_init", c"__tsan_init", c"__msan_init", c"__hwasan_init"] {
        if symbol(sanitizer).is_ok() {
            return Ok(Err(SANITIZED));
        }
    }
    let (create, join) = (original(c"pthread_create"), original(c"pthread_join"));
    if create.is_null() || join.is_null() {
        return Ok(Err("the C library has no threads"));
    }
    // SAFETY: pthread_create(3) has this type.
    let create = unsafe { mem::transmute::<*mut c_void, Create>(create) };
    // SAFETY: pthread_join(3) has this type.
    let join = unsafe { mem::transmute::<*mut c_void, Join>(join) };
    register::prepare();

    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, wherever the kernel likes.
    let memory = unsafe { libc::mmap(ptr::null_mut(), STACK, access, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let stack = memory.expose_provenance()..memory.expose_provenance() + STACK;
    let mut search = Search { stack, found: Err("its thread has found nothing") };
    let done = (|| {
        let check = |code: c_int| if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) };
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: initialises the attributes.
        check(unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: the memory is mapped until the thread has been joined.
        check(unsafe { libc::pthread_attr_setstack(attributes.as_mut_ptr(), memory, STACK) })?;
        let mut thread = MaybeUninit::uninit();
        // SAFETY: `search` outlives the thread, and only it looks at that meanwhile.
        let created = check(unsafe {
            create(thread.as_mut_ptr(), attributes.as_ptr(), examine, (&raw mut search).cast::<c_void>())
        });
        // SAFETY: initialised above.
        unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
        created?;
        // SAFETY: created above.
        let thread = unsafe { thread.assume_init() };
        // SAFETY: joined once.
        check(unsafe { join(thread, ptr::null_mut()) })
    })();
    // SAFETY: mapped above; the thread has ended, or there was none.
    unsafe { libc::munmap(memory, STACK) };
    done.map(|()| search.found)
}

/// What the thread does. A panic in here ends the process.
extern "C" fn examine(search: *mut c_void) -> *mut c_void {
    // SAFETY: given by `search`, who waits.
    let search = unsafe { &mut *search.cast::<Search>() };
    search.found = Layout::find(&search.stack).and_then(|layout| {
        layout.try_out()?;
        Ok(layout)
    });
    ptr::null_mut()
}

/// A word of memory that is known to be there.
///
/// # Safety
///
/// The address is that of a word of the running thread's block.
unsafe fn word(address: usize) -> usize {
    // SAFETY: the caller says so.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(address)) }
}

impl Layout {
    /// Finds everything, on a thread with this stack.
    fn find(stack: &Range<usize>) -> Result<Layout, &'static str> {
        let pointer = register::read();
        // SAFETY: no precondition.
        let descriptor = unsafe { libc::pthread_self() } as usize;
        let length = size(c"_thread_db_sizeof_pthread")?;
        let gap = pointer.wrapping_sub(descriptor);
        if gap != if cfg!(target_arch = "x86_64") { 0 } else { length } {
            return Err("a thread's descriptor is not where it was expected");
        }
        let inside = descriptor..descriptor + length;

        let (tid, tid_size) = field(c"_thread_db_pthread_tid")?;
        let (tables, tables_size) = field(c"_thread_db_pthread_specific")?;
        // SAFETY: a field of the descriptor.
        let first_table = unsafe { word(descriptor + tables) };
        let whole = first_table + IN_TABLE * size_of::<Value>();
        if tables_size != TABLES * size_of::<*mut Value>()
            || !inside.contains(&first_table)
            || !inside.contains(&(whole - 1))
        {
            return Err("the values of keys are not where they were expected");
        }
        // SAFETY: a field of the descriptor.
        let shown = unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<i32>(descriptor + tid)) };
        // SAFETY: no precondition.
        if tid_size != size_of::<i32>() || shown != unsafe { libc::gettid() } {
            return Err("a thread's number is not where it was expected");
        }
        if size(c"_thread_db_sizeof_pthread_key_struct")? != size_of::<Key>()
            || size(c"_thread_db_sizeof_pthread_key_data")? != size_of::<Value>()
        {
            return Err("keys do not look as expected");
        }

        // SAFETY: a word of the descriptor.
        let holds = |at: usize, value: usize| unsafe { word(descriptor + at) } == value;
        let is_bounds = |at: &usize| holds(*at, stack.start) && holds(at + 8, STACK);
        let mut bounds = (0..length - 8).step_by(8).filter(is_bounds);
        let (Some(bounds), None) = (bounds.next(), bounds.next()) else {
            return Err("a thread's stack is not where it was expected");
        };

        let (mut head, mut head_length) = (0_usize, 0_usize);
        // SAFETY: get_robust_list(2) of the calling thread writes an address and a size.
        let told = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut head_length) };
        if told != 0 || head_length != 24 || !inside.contains(&head) {
            return Err("the list of robust mutexes is not where it was expected");
        }
        // An empty list leads to itself, both ways.
        if !holds(head - descriptor, head) || !holds(head - descriptor - 8, head) {
            return Err("the list of robust mutexes does not look as expected");
        }

        let from_pointer = |address: usize| address.cast_signed() - pointer.cast_signed();
        let resolver = symbol(c"__res_state").ok().zip(symbol(c"__resp").ok()).and_then(|(state, variable)| {
            // SAFETY: `__res_state` takes nothing and gives an address (resolv.h).
            let state = unsafe { mem::transmute::<*mut c_void, extern "C" fn() -> usize>(state) }();
            let variable = variable.addr();
            // SAFETY: the running thread's variable of that name.
            let leads = inside.contains(&state)
                && inside.contains(&(state + RESOLVER - 1))
                && unsafe { word(variable) } == state;
            leads.then(|| (state - descriptor, from_pointer(variable)))
        });
        let rseq = match symbol(c"__rseq_offset") {
            // SAFETY: a `ptrdiff_t` (sys/rseq.h).
            Ok(offset) => Some(unsafe { *offset.cast::<isize>() }),
            // Before glibc 2.35 there was no such area.
            Err(_) => None,
        };

        let allocate = symbol(c"_dl_allocate_tls")?;
        let home = |function: *mut c_void| {
            let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
            // SAFETY: writes a `Dl_info`.
            let is_found = unsafe { libc::dladdr(function, found.as_mut_ptr()) } != 0;
            // SAFETY: zero is good, and so is what was written.
            is_found.then(|| unsafe { found.assume_init() }.dli_fbase.addr()).ok_or("the C library cannot be found")
        };
        let libraries = [home(symbol(c"gnu_get_libc_version")?)?, home(allocate)?];
        type Allocate = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
        type Deallocate = unsafe extern "C" fn(*mut c_void, bool);
        let [deallocate, destructors, ctype] =
            [symbol(c"_dl_deallocate_tls")?, symbol(c"__call_tls_dtors")?, symbol(c"__ctype_init")?];
        Ok(Layout {
            // SAFETY: the type that glibc gives it (elf/dl-tls.c). That it does what it does there is tried out.
            allocate: unsafe { mem::transmute::<*mut c_void, Allocate>(allocate) },
            // SAFETY: as above.
            deallocate: unsafe { mem::transmute::<*mut c_void, Deallocate>(deallocate) },
            // SAFETY: as above (stdlib/cxa_thread_atexit_impl.c).
            call_destructors: unsafe { mem::transmute::<*mut c_void, unsafe extern "C" fn()>(destructors) },
            // SAFETY: as above (ctype/ctype-info.c).
            prepare_ctype: unsafe { mem::transmute::<*mut c_void, unsafe extern "C" fn()>(ctype) },
            gap,
            tid,
            tables,
            first_table: first_table - descriptor,
            keys: symbol(c"__pthread_keys")?.cast(),
            robust: head - descriptor,
            bounds,
            resolver,
            rseq,
            libraries,
        })
    }

    /// Whether a module's thread-locals are the C library's own.
    pub(super) fn keeps(&self, base: usize) -> bool {
        self.libraries.contains(&base)
    }

    /// The descriptor of a block.
    pub(super) fn descriptor(&self, pointer: usize) -> usize {
        pointer - self.gap
    }

    /// Makes a block, in which every module's part is as new.
    pub(super) fn make(&self, tid: i32) -> io::Result<usize> {
        // SAFETY: without memory of ours it takes its own.
        let pointer = unsafe { (self.allocate)(ptr::null_mut()) }.expose_provenance();
        if pointer == 0 {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: just made.
        unsafe { self.furnish(pointer, tid) };
        Ok(pointer)
    }

    /// Frees a block.
    ///
    /// # Safety
    ///
    /// It was made here, and nobody runs on it any more.
    pub(super) unsafe fn free(&self, pointer: usize) {
        // SAFETY: passed on to the caller.
        unsafe { (self.deallocate)(ptr::with_exposed_provenance_mut(pointer), true) };
    }

    /// Does what `pthread_create` does with a new block.
    ///
    /// # Safety
    ///
    /// A block that the loader has made, and that nobody runs on.
    unsafe fn furnish(&self, pointer: usize, tid: i32) {
        let running = register::read();
        let (descriptor, running_descriptor) = (self.descriptor(pointer), self.descriptor(running));
        let set = |address: usize, value: usize| {
            // SAFETY: a word of the block, by what was found.
            unsafe { ptr::write(ptr::with_exposed_provenance_mut(address), value) };
        };
        // SAFETY: a word of the running block, by the same.
        let copy = |offset: usize| unsafe { word(running + offset) };

        #[cfg(target_arch = "x86_64")]
        {
            // glibc's `tcbhead_t`: the address of the block, twice; a flag of whether there are several threads, which an old
            // libc wants to be set; the system call's entry, the guards of stacks and of pointers.
            set(pointer, pointer);
            set(pointer + 16, pointer);
            set(pointer + 24, 1);
            for offset in [32, 40, 48] {
                set(pointer + offset, copy(offset));
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _nothing_there = copy;
        // SAFETY: a field of the descriptor.
        unsafe { ptr::write(ptr::with_exposed_provenance_mut(descriptor + self.tid), tid) };
        set(descriptor + self.tables, descriptor + self.first_table);
        self.reset(pointer);
        // SAFETY: a field of the running descriptor: how far a mutex's word is from its link.
        set(descriptor + self.robust + 8, unsafe { word(running_descriptor + self.robust + 8) });
        if let Some((state, variable)) = self.resolver {
            set(pointer.wrapping_add_signed(variable), descriptor + state);
        }
        if let Some(rseq) = self.rseq {
            /// The kernel tells nothing here, so `sched_getcpu` asks it (RSEQ_CPU_ID_REGISTRATION_FAILED).
            const NOT_REGISTERED: u32 = -2_i32 as u32;
            let place = ptr::with_exposed_provenance_mut::<[u32; 2]>(pointer.wrapping_add_signed(rseq));
            // SAFETY: the first two fields of the area.
            unsafe { ptr::write(place, [0, NOT_REGISTERED]) };
        }
    }

    /// Makes the list of robust mutexes empty.
    fn reset(&self, pointer: usize) {
        let head = self.descriptor(pointer) + self.robust;
        for address in [head, head - 8] {
            // SAFETY: fields of the descriptor.
            unsafe { ptr::write(ptr::with_exposed_provenance_mut(address), head) };
        }
    }

    /// Prepares a block for its next owner, whose stack this is.
    ///
    /// # Safety
    ///
    /// A furnished block that nobody runs on.
    pub(super) unsafe fn assign(&self, pointer: usize, stack: &Range<usize>) {
        self.reset(pointer);
        let place = ptr::with_exposed_provenance_mut::<[usize; 2]>(self.descriptor(pointer) + self.bounds);
        // SAFETY: two fields of the descriptor.
        unsafe { ptr::write(place, [stack.start, stack.len()]) };
    }

    /// Moves what libc keeps from one block to another.
    ///
    /// # Safety
    ///
    /// Both were made here, in the same generation of modules or such that libc's parts are the same, and nobody runs on them.
    pub(super) unsafe fn hand_on(&self, images: &Images, from: usize, to: usize) {
        // SAFETY: passed on to the caller.
        unsafe { images.hand_on(from, to) };
        if let Some((state, variable)) = self.resolver {
            let source = ptr::with_exposed_provenance::<u8>(self.descriptor(from) + state);
            let place = self.descriptor(to) + state;
            // SAFETY: so long is the state in each descriptor.
            unsafe { ptr::copy_nonoverlapping(source, ptr::with_exposed_provenance_mut(place), RESOLVER) };
            let variable = ptr::with_exposed_provenance_mut(to.wrapping_add_signed(variable));
            // SAFETY: the block's variable.
            unsafe { ptr::write(variable, place) };
        }
    }

    /// Runs `f` while the descriptor shows the kernel's own number for the running thread, for calls that ask the kernel by it.
    pub(super) fn with_kernel_tid<R>(&self, pointer: usize, f: impl FnOnce() -> R) -> R {
        let place = ptr::with_exposed_provenance_mut::<i32>(self.descriptor(pointer) + self.tid);
        // SAFETY: no precondition.
        let kernels = unsafe { libc::gettid() };
        // SAFETY: a field of the descriptor, which the C library reads in calls of this very thread only.
        let ours = unsafe { ptr::replace(place, kernels) };
        let result = f();
        // SAFETY: as above.
        unsafe { ptr::write(place, ours) };
        result
    }

    /// Uses a block in every way that depends on what was found.
    fn try_out(&self) -> Result<(), &'static str> {
        let trial = self.make(FIRST_TID - 1).map_err(|_| "there is no memory to try it out")?;
        let stack = 0x1234_0000..0x1235_0000;
        // SAFETY: just made.
        unsafe { self.assign(trial, &stack) };
        let result = self.try_on(trial, &stack);
        // SAFETY: made above, and left.
        unsafe { self.free(trial) };
        result
    }

    #[allow(clippy::multiple_unsafe_ops_per_block, reason = "calls of the C library in a row, on objects made here")]
    fn try_on(&self, trial: usize, stack: &Range<usize>) -> Result<(), &'static str> {
        thread_local! {
            static MARK: Cell<u32> = const { Cell::new(7) };
        }
        MARK.set(8);
        // SAFETY: made by the loader; nobody runs on it.
        let images = unsafe { Images::survey(self, trial, Generation::now()) };
        if images.is_none_or(|images| !images.is_complete()) {
            return Err("the modules' thread-locals are not where they were expected");
        }

        let mut key = 0;
        // SAFETY: makes a key, whose values have no destructor.
        if unsafe { libc::pthread_key_create(&raw mut key, None) } != 0 {
            return Err("there is no key to try it out");
        }
        // SAFETY: the calling thread's value is any pointer.
        unsafe { libc::pthread_setspecific(key, ptr::without_provenance(1)) };
        let (mut mutex, mut robust) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: each is called with what it wants, initialised by the one before.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ERRORCHECK);
            libc::pthread_mutex_init(mutex.as_mut_ptr(), attributes.as_ptr());
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(robust.as_mut_ptr(), attributes.as_ptr());
        }
        let (mutex, robust) = (mutex.as_mut_ptr(), robust.as_mut_ptr());
        // SAFETY: no precondition.
        let place = || (unsafe { libc::__errno_location() }.addr(), unsafe { libc::pthread_self() } as usize);
        let (outside, descriptor) = (place(), self.descriptor(trial));
        let head = descriptor + self.robust;

        let inside = || {
            let inside = place();
            if inside.0 == outside.0 || inside.1 != descriptor {
                return Err("a block of our own is not taken for a thread");
            }
            if MARK.replace(9) != 7 {
                return Err("a block of our own has not its own thread-locals");
            }
            // SAFETY: the key is there.
            let (before, after) = unsafe {
                let before = libc::pthread_getspecific(key);
                libc::pthread_setspecific(key, ptr::without_provenance(2));
                (before, libc::pthread_getspecific(key))
            };
            let mut values = super::keys::data_of(self, descriptor);
            if !before.is_null() || after.addr() != 2 || !values.any(|data| data.addr() == 2) {
                return Err("a block of our own has not its own values of keys");
            }
            // SAFETY: a mutex that checks; it is locked here, then a second time, which it refuses.
            let locked = unsafe { (libc::pthread_mutex_lock(mutex), libc::pthread_mutex_lock(mutex)) };
            if locked != (0, libc::EDEADLK) {
                return Err("a mutex does not tell a block of our own");
            }
            // SAFETY: a mutex that nobody holds, and a word of the descriptor.
            let (taken, listed) = unsafe { (libc::pthread_mutex_lock(robust), word(head) != head) };
            // SAFETY: held by this thread, and a word of the descriptor.
            let (given, gone) = unsafe { (libc::pthread_mutex_unlock(robust), word(head) == head) };
            if (taken, given) != (0, 0) || !listed || !gone {
                return Err("a block of our own has not its own list of robust mutexes");
            }
            if super::symbols::stack_of_caller(self, trial) != Some(stack.clone()) {
                return Err("a block of our own has not its own stack");
            }
            // SAFETY: no precondition.
            if unsafe { libc::sched_getcpu() } < 0 {
                return Err("the processor is not known on a block of our own");
            }
            Ok(())
        };
        // SAFETY: nobody runs on it.
        unsafe { visit(trial, inside) }?;

        // SAFETY: the other thread's, as it looks from here: refused by a mutex that checks.
        let others = unsafe { (libc::pthread_mutex_trylock(mutex), libc::pthread_mutex_unlock(mutex)) };
        // SAFETY: held there, and nobody runs there.
        let given = unsafe { visit(trial, || libc::pthread_mutex_unlock(mutex)) };
        // SAFETY: the key is there, and nobody uses it any more afterwards.
        let own = unsafe { (libc::pthread_getspecific(key), libc::pthread_key_delete(key)).0 };
        if others != (libc::EBUSY, libc::EPERM) || given != 0 || own.addr() != 1 || MARK.get() != 8 {
            return Err("a block of our own is not kept apart");
        }
        Ok(())
    }
}

/// Above every number that the kernel gives (its limit is 2^22), and below the bits that locks use for themselves.
pub(super) const FIRST_TID: i32 = (1 << 22) + 2;
pub(super) const LAST_TID: i32 = (1 << 30) - 1;

/// Bytes of the resolver's state: `sizeof(struct __res_state)` wherever a word has 64 bits.
const RESOLVER: usize = 568;
