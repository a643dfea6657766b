//! The loaded modules, and what each one's part of a block looks like when it is new.

use std::ffi::c_void;
use std::ptr;

use super::layout::Layout;

/// How many modules were loaded and unloaded so far (dl_iterate_phdr(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    loaded: u64,
    unloaded: u64,
}

/// The parts that lie in a block itself, as of one generation.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) generation: Generation,
    parts: Vec<Part>,
    /// libc's, which is never laid down again.
    kept: Vec<Part>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    /// From the thread pointer.
    offset: isize,
    image: *const u8,
    /// Bytes of the image; the rest of `len` is zero.
    filled: usize,
    len: usize,
}

// SAFETY: the images are read-only data of loaded modules; they are looked at only under the loader's lock, and only while the
// generation is the same.
unsafe impl Send for Images {}
// SAFETY: as above.
unsafe impl Sync for Images {}

/// An entry of a block's vector of parts (glibc's `dtv_t`).
#[repr(C)]
struct Entry {
    /// For the entry before the first: how many there are.
    address: usize,
    /// What the loader will free: a part that is not in the block.
    allocated: usize,
}

const NOT_THERE: usize = usize::MAX;

/// Calls `f` with each module under the loader's lock, until it gives false.
fn each(mut f: impl FnMut(&libc::dl_phdr_info) -> bool) {
    /// # Safety
    ///
    /// As dl_iterate_phdr(3) calls it, with an `F` for `data`.
    unsafe extern "C" fn call<F: FnMut(&libc::dl_phdr_info) -> bool>(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> libc::c_int {
        // SAFETY: the loader lends it for the call.
        let info = unsafe { &*info };
        // SAFETY: the caller says so.
        let f = unsafe { &mut *data.cast::<F>() };
        i32::from(!f(info))
    }
    /// Of that type.
    fn caller<F: FnMut(&libc::dl_phdr_info) -> bool>(
        _: &F,
    ) -> unsafe extern "C" fn(*mut libc::dl_phdr_info, usize, *mut c_void) -> libc::c_int {
        call::<F>
    }
    // SAFETY: `call` is given what it expects, for the length of this call.
    unsafe { libc::dl_iterate_phdr(Some(caller(&f)), (&raw mut f).cast()) };
}

fn of(info: &libc::dl_phdr_info) -> Generation {
    Generation { loaded: info.dlpi_adds, unloaded: info.dlpi_subs }
}

impl Generation {
    pub(super) fn now() -> Option<Generation> {
        let mut found = None;
        each(|info| {
            found = Some(of(info));
            false
        });
        found
    }
}

impl Images {
    /// Finds the parts of a new block that nobody runs on. `None` if modules come or go meanwhile.
    ///
    /// # Safety
    ///
    /// The block was made by the loader.
    pub(super) unsafe fn survey(layout: &Layout, pointer: usize, since: Option<Generation>) -> Option<Images> {
        // SAFETY: passed on to the caller.
        let entries = unsafe { entries(pointer) };
        let (mut parts, mut kept, mut generation) = (Vec::new(), Vec::new(), None);
        each(|info| {
            generation = Some(of(info));
            if info.dlpi_tls_modid == 0 {
                return true;
            }
            let Some(entry) = entries.get(info.dlpi_tls_modid) else { return true };
            if entry.address == NOT_THERE || entry.address == 0 || entry.allocated != 0 {
                return true;
            }
            // SAFETY: the loader's own table, as long as it says.
            let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
            let Some(header) = headers.iter().find(|header| header.p_type == libc::PT_TLS) else { return true };
            let part = Part {
                offset: entry.address.cast_signed() - pointer.cast_signed(),
                image: ptr::with_exposed_provenance((info.dlpi_addr + header.p_vaddr) as usize),
                filled: header.p_filesz as usize,
                len: header.p_memsz as usize,
            };
            let list = if layout.keeps(info.dlpi_addr as usize) { &mut kept } else { &mut parts };
            list.push(part);
            true
        });
        let generation = generation.filter(|now| since == Some(*now))?;
        Some(Images { generation, parts, kept })
    }

    /// Makes a block as good as new, but for what is kept. False, with nothing done, if modules have come or gone.
    ///
    /// # Safety
    ///
    /// The block has these parts, and nobody runs on it.
    pub(super) unsafe fn lay_down(&self, pointer: usize) -> bool {
        let mut fits = false;
        // Under the loader's lock, under which modules go.
        each(|info| {
            fits = of(info) == self.generation;
            if fits {
                for part in &self.parts {
                    let place = ptr::with_exposed_provenance_mut::<u8>(pointer.wrapping_add_signed(part.offset));
                    // SAFETY: the part lies in the block, and its module is still loaded.
                    unsafe { ptr::copy_nonoverlapping(part.image, place, part.filled) };
                    // SAFETY: as above: the part is `len` bytes long.
                    unsafe { place.wrapping_add(part.filled).write_bytes(0, part.len - part.filled) };
                }
            }
            false
        });
        fits
    }

    /// Copies what is kept to another block.
    ///
    /// # Safety
    ///
    /// Both blocks have these parts, and nobody runs on them.
    pub(super) unsafe fn hand_on(&self, from: usize, to: usize) {
        for part in &self.kept {
            let source = ptr::with_exposed_provenance::<u8>(from.wrapping_add_signed(part.offset));
            let place = ptr::with_exposed_provenance_mut::<u8>(to.wrapping_add_signed(part.offset));
            // SAFETY: the part lies in each of the two, which are different ones.
            unsafe { ptr::copy_nonoverlapping(source, place, part.len) };
        }
    }

    /// How many parts were found, and whether libc's is among them.
    pub(super) fn is_complete(&self) -> bool {
        !self.parts.is_empty() && !self.kept.is_empty()
    }
}

/// Whether a module has given the block's owner memory that is not in the block.
///
/// # Safety
///
/// The block was made by the loader, and nobody runs on it.
pub(super) unsafe fn has_outside(pointer: usize) -> bool {
    // SAFETY: passed on to the caller.
    let entries = unsafe { entries(pointer) };
    entries.iter().skip(1).any(|entry| entry.allocated != 0)
}

/// The block's vector, by module number; the first entry is its generation.
///
/// # Safety
///
/// The block was made by the loader, and nobody runs on it while the slice is used.
unsafe fn entries<'a>(pointer: usize) -> &'a [Entry] {
    /// Where the block has the vector's address, by the ABI.
    const VECTOR: usize = if cfg!(target_arch = "x86_64") { 8 } else { 0 };
    // SAFETY: the loader has put it there.
    let vector = unsafe { *ptr::with_exposed_provenance::<*const Entry>(pointer + VECTOR) };
    // SAFETY: the entry before the first holds their number, without that for the generation.
    let count = unsafe { (*vector.wrapping_sub(1)).address };
    // SAFETY: the loader's own, as long as it says.
    unsafe { std::slice::from_raw_parts(vector, count + 1) }
}
