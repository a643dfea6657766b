//! Arenas: one mapping that holds many stacks of one size, carved one after the other.
//!
//! ```text
//!   low                                                                            high
//!   | guard |      usable, grows down  <-  base | colour || guard |      usable ...
//!   ^ limit                                     ^        ^ next slot's limit
//!   |<--------------------- stride --------------------->|
//! ```
//!
//! **A stride is a power of two and one page**, the guard. Slots exactly a power of two apart would compete for few sets
//! of the TLB: resume and suspend of 1000 coroutines in round robin took 6.8 ns at 256 KiB and 4.1 ns at 260 KiB; of
//! 100,000, 43 ns and 26 ns (2026-11, the 2-core VM of DESIGN, colours on in both).
//!
//! **Colour**: each stack starts 64 bytes further down than the one before it, modulo 1536, so that tops do not compete for
//! the same cache sets. At 260 KiB, 1000 coroutines: 6.2 ns without, 4.0 with; 100,000: 95 ns without, 26 with; steps of
//! 192 bytes 44. Modulo 2048 gains 2 ns more at 100,000, but 1536 leaves a parked task 2.5 KiB in its one touched page.

use std::io;

use super::memory::{self, Mapping};
use super::{guard, registry};

/// One stack's place: the limit, with the colour in the low bits, which a page's address leaves free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(usize);

impl Slot {
    /// The lowest address, that of the guard.
    #[inline]
    pub(super) fn limit(self) -> usize {
        self.0 & !COLOUR_MASK
    }

    /// Where the stack starts, going down.
    #[inline]
    pub(super) fn base(self, stride: usize) -> usize {
        self.limit() + stride - (self.0 & COLOUR_MASK)
    }

    /// Gives the memory of this stack back to the kernel; the guard stays.
    ///
    /// # Safety
    ///
    /// Nothing is on the stack any more.
    pub(super) unsafe fn discard(self, stride: usize) {
        let guard = memory::page_size();
        // SAFETY: the slot lies inside an arena (arenas outlive their slots: the pool owns both), and the caller says
        // that nobody needs its content.
        unsafe { memory::discard(self.limit() + guard, stride - guard) };
    }
}

/// A mapping, and how much of it has been carved into slots.
#[derive(Debug)]
pub(super) struct Arena {
    // Fields are dropped in this order: out of the registry first, then unmapped.
    _entry: registry::Entry,
    mapping: Mapping,
    stride: usize,
    carved: usize,
}

impl Arena {
    /// Maps room for `slots` stacks, or for fewer where there is no room for as many, but for one at least.
    pub(super) fn new(stride: usize, slots: usize) -> io::Result<Arena> {
        let mut slots = slots;
        let mapping = loop {
            match Mapping::new(stride * slots) {
                Ok(mapping) => break mapping,
                Err(error) if error.raw_os_error() != Some(libc::ENOMEM) => return Err(error),
                Err(_) if slots > 1 => slots /= 2,
                Err(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::OutOfMemory,
                        format!(
                            "cannot map {} KiB for one more stack: the limit on address space (RLIMIT_AS, ulimit -v), \
                             on memory promised (vm.overcommit_memory) or on mappings (vm.max_map_count) is reached",
                            stride / 1024
                        ),
                    ));
                }
            }
        };
        let entry = registry::Entry::new(mapping.start(), mapping.len(), stride);
        Ok(Arena { _entry: entry, mapping, stride, carved: 0 })
    }

    /// How many stacks it has room for.
    pub(super) fn slots(&self) -> usize {
        self.mapping.len() / self.stride
    }

    /// Whether every slot has been carved.
    pub(super) fn is_full(&self) -> bool {
        self.carved == self.slots()
    }

    /// Carves the next slot of an arena that is not full, and guards it. After an error nothing is carved.
    pub(super) fn carve(&mut self, colour: usize) -> io::Result<Slot> {
        assert!(!self.is_full(), "the caller carves from arenas with room");
        let limit = self.mapping.start() + self.carved * self.stride;
        // SAFETY: the page is inside the mapping, by the line above, and in no slot carved before.
        unsafe { guard::install(limit) }?;
        self.carved += 1;
        Ok(Slot(limit | (colour * COLOUR_STEP % COLOUR_MODULUS)))
    }
}

/// The size of a cache line: neighbours land in neighbouring sets.
const COLOUR_STEP: usize = 64;
const COLOUR_MODULUS: usize = 1536;
/// Bits of an address within the smallest page there is; every colour fits into them.
const COLOUR_MASK: usize = 4096 - 1;
