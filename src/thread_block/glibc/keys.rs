//! Keys of `pthread_key_create`: their values in a block, and the end of these.

use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::layout::Layout;

/// glibc's `struct pthread_key_data`.
#[repr(C)]
pub(super) struct Value {
    /// The key's use to which the value belongs.
    sequence: usize,
    pub(super) data: *mut c_void,
}

/// glibc's `struct pthread_key_struct`.
#[repr(C)]
pub(super) struct Key {
    sequence: AtomicUsize,
    destructor: AtomicUsize,
}

/// A block has so many tables of values, of which the first lies in it...
pub(super) const TABLES: usize = 32;
/// ...with so many in each.
pub(super) const IN_TABLE: usize = 32;
/// POSIX's `PTHREAD_DESTRUCTOR_ITERATIONS`.
const ROUNDS: usize = 4;

/// Forgets the values of the running block and calls their destructors, as the C library does when a thread ends. Says whether
/// there were any of those.
///
/// # Safety
///
/// `descriptor` is the running block's.
pub(super) unsafe fn destroy_values(layout: &Layout, descriptor: usize) -> bool {
    let mut some = false;
    for _ in 0..ROUNDS {
        let mut again = false;
        for (table, index) in tables(layout, descriptor) {
            for inner in 0..IN_TABLE {
                // SAFETY: the C library's own table, which it frees with the block only; no reference is kept.
                let value = unsafe { &mut *table.wrapping_add(inner) };
                if value.data.is_null() {
                    continue;
                }
                let (data, sequence) = (mem::replace(&mut value.data, ptr::null_mut()), value.sequence);
                // SAFETY: the C library's own table of all keys, as long as POSIX says.
                let key = unsafe { &*layout.keys.wrapping_add(index * IN_TABLE + inner) };
                let destructor = key.destructor.load(Ordering::Relaxed);
                if key.sequence.load(Ordering::Relaxed) != sequence || destructor == 0 {
                    continue;
                }
                // SAFETY: what `pthread_key_create` was given for the key, in its present use.
                let destructor = unsafe { mem::transmute::<usize, unsafe extern "C" fn(*mut c_void)>(destructor) };
                again = true;
                // SAFETY: as the C library calls it: once for the value, on the thread that has set it.
                unsafe { destructor(data) };
            }
        }
        some |= again;
        if !again {
            break;
        }
    }
    some
}

/// Forgets values that are set again and again.
///
/// # Safety
///
/// `descriptor` is the running block's.
pub(super) unsafe fn forget_values(layout: &Layout, descriptor: usize) {
    for (table, _) in tables(layout, descriptor) {
        // SAFETY: the C library's own table.
        unsafe { table.write_bytes(0, IN_TABLE) };
    }
}

/// The tables that are there, each with its number.
fn tables(layout: &Layout, descriptor: usize) -> impl Iterator<Item = (*mut Value, usize)> {
    let places = ptr::with_exposed_provenance::<*mut Value>(descriptor + layout.tables);
    // SAFETY: so many pointers lie there, or null.
    (0..TABLES).map(move |index| (unsafe { *places.wrapping_add(index) }, index)).filter(|(table, _)| !table.is_null())
}

/// All values that are set.
pub(super) fn data_of(layout: &Layout, descriptor: usize) -> impl Iterator<Item = *mut c_void> {
    tables(layout, descriptor).flat_map(|(table, _)| {
        // SAFETY: the C library's own table; only looked at.
        (0..IN_TABLE).map(move |inner| unsafe { (*table.wrapping_add(inner)).data }).filter(|data| !data.is_null())
    })
}
