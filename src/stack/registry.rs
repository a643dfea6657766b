//! The list of all arenas of all threads, to be read inside a signal handler.
//!
//! Nodes are only ever added, and never freed: a reader needs no lock and cannot meet freed memory. A node whose arena is
//! gone serves the next one. What a node says is read under a version, odd while it is being changed:
//!
//! ```text
//!   version even, stride 0    free, anyone may claim it by making the version odd
//!   version odd               being written by the one thread that made it odd
//!   version even, stride > 0  describes a live arena; only its owner may change it
//! ```
//!
//! A reader that meets an odd version, or a version that changed meanwhile, skips the node: it cannot be the arena that the
//! faulting thread stands on, because that one is not being changed.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};

/// An arena's entry in the list; leaves the list when dropped.
#[derive(Debug)]
pub(super) struct Entry(&'static Node);

impl Entry {
    /// Enters an arena of slots of `stride` bytes each, with a guard lowest in each.
    pub(super) fn new(start: usize, len: usize, stride: usize) -> Entry {
        let node = nodes().find(|node| node.claim()).unwrap_or_else(Node::add);
        node.publish(start, len, stride);
        Entry(node)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.version.fetch_add(1, Ordering::Relaxed);
        self.0.publish(0, 0, 0);
    }
}

/// The stride of the arena in one of whose guards (`guard` bytes each) the address lies. Safe inside a signal handler.
pub(super) fn find_guard(address: usize, guard: usize) -> Option<usize> {
    nodes().find_map(|node| {
        let (start, len, stride) = node.read()?;
        let offset = address.checked_sub(start).filter(|offset| *offset < len)?;
        (offset % stride < guard).then_some(stride)
    })
}

#[derive(Debug)]
struct Node {
    version: AtomicUsize,
    start: AtomicUsize,
    len: AtomicUsize,
    stride: AtomicUsize,
    /// Set before the node is in the list, never changed after.
    next: Option<&'static Node>,
}

static FIRST: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

fn nodes() -> impl Iterator<Item = &'static Node> {
    std::iter::successors(first(), |node| node.next)
}

fn first() -> Option<&'static Node> {
    let first = FIRST.load(Ordering::Acquire);
    // SAFETY: null, or a node that `Node::add` leaked after it was complete; Acquire pairs with its Release.
    unsafe { first.as_ref() }
}

impl Node {
    /// Adds a node to the list, already claimed.
    fn add() -> &'static Node {
        let node = Box::leak(Box::new(Node {
            version: AtomicUsize::new(1),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            stride: AtomicUsize::new(0),
            next: None,
        }));
        loop {
            node.next = first();
            let next = node.next.map_or(ptr::null_mut(), |next| ptr::from_ref(next).cast_mut());
            if FIRST.compare_exchange(next, node, Ordering::Release, Ordering::Relaxed).is_ok() {
                return node;
            }
        }
    }

    fn claim(&self) -> bool {
        let version = self.version.load(Ordering::Acquire);
        version.is_multiple_of(2)
            && self.stride.load(Ordering::Relaxed) == 0
            && self.version.compare_exchange(version, version + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Writes a node whose version this thread made odd, and makes it even.
    fn publish(&self, start: usize, len: usize, stride: usize) {
        // A reader that sees one of the stores below sees the odd version too.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        self.stride.store(stride, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }

    fn read(&self) -> Option<(usize, usize, usize)> {
        let version = self.version.load(Ordering::Acquire);
        let seen =
            (self.start.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed), self.stride.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let consistent = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        (consistent && seen.2 > 0).then_some(seen)
    }
}
