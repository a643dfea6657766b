//! The orders in which items come out: the buffers of the queues.
//!
//! Each item has a number, by the order in which it was put. What was handed to a getter who then was cancelled goes back to
//! where its number says, whatever was put and got meanwhile.

#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::mem;

use crate::hub::Hub;
use crate::store::Buffer;

/// An item with its number.
pub(crate) struct Numbered<T> {
    number: u64,
    item: T,
}

/// Last in, first out.
pub(crate) struct Lifo<T> {
    /// By number.
    items: Vec<Numbered<T>>,
    last: u64,
}

/// The smallest first; of equal ones the one that was put first.
///
/// A binary heap whose operations compare first and move then: a comparison is code of the user's and may panic, and then
/// nothing has happened yet. Where nothing may be compared, items are laid aside, and the next who gets sorts them in.
pub(crate) struct Heap<T> {
    /// No item comes before its parent, that of `at` being `(at - 1) / 2`.
    sorted: Vec<Numbered<T>>,
    aside: Vec<Numbered<T>>,
    last: u64,
}

impl<T> Lifo<T> {
    pub(super) const fn new() -> Lifo<T> {
        Lifo { items: Vec::new(), last: 0 }
    }
}

impl<T> Heap<T> {
    pub(super) const fn new() -> Heap<T> {
        Heap { sorted: Vec::new(), aside: Vec::new(), last: 0 }
    }
}

impl<T> Buffer for Lifo<T> {
    type Item = T;
    type Slot = Numbered<T>;

    #[inline]
    fn place(&mut self, item: T) -> Numbered<T> {
        self.last += 1;
        Numbered { number: self.last, item }
    }

    #[inline]
    fn insert(&mut self, slot: Numbered<T>) {
        self.items.push(slot);
    }

    #[inline]
    fn remove(&mut self) -> Option<Numbered<T>> {
        self.items.pop()
    }

    fn restore(&mut self, slot: Numbered<T>) {
        let at = self.items.partition_point(|other| other.number < slot.number);
        self.items.insert(at, slot);
    }

    #[inline]
    fn len(&self) -> usize {
        self.items.len()
    }

    #[inline]
    fn item(slot: Numbered<T>) -> T {
        slot.item
    }

    fn item_of(slot: &Numbered<T>) -> &T {
        &slot.item
    }

    fn first(&self) -> Option<&T> {
        self.items.last().map(Self::item_of)
    }

    fn drain(&mut self) -> Vec<Numbered<T>> {
        mem::take(&mut self.items)
    }

    fn sort(slots: &mut [Numbered<T>]) {
        slots.reverse();
    }
}

impl<T: Ord> Numbered<T> {
    fn order(&self, other: &Numbered<T>) -> Ordering {
        self.item.cmp(&other.item).then(self.number.cmp(&other.number))
    }
}

impl<T: Ord> Heap<T> {
    /// Where in `sorted` a new last item would rise to, all others of the same rank having been put before.
    fn rise(&self, comes_before: impl Fn(&Numbered<T>) -> bool) -> usize {
        let mut at = self.sorted.len();
        Hub::held(|| {
            while at > 0 && comes_before(&self.sorted[(at - 1) / 2]) {
                at = (at - 1) / 2;
            }
        });
        at
    }

    /// Puts an item where it rises to.
    fn push(&mut self, slot: Numbered<T>, to: usize) {
        let mut at = self.sorted.len();
        self.sorted.push(slot);
        while at > to {
            let parent = (at - 1) / 2;
            self.sorted.swap(at, parent);
            at = parent;
        }
    }

    /// Where the last item would sink to if it took the place of the first.
    fn sink(&self) -> usize {
        let Some((last, rest)) = self.sorted.split_last() else { return 0 };
        let before = |one: &Numbered<T>, other: &Numbered<T>| one.order(other) == Ordering::Less;
        let mut at = 0;
        Hub::held(|| {
            while let Some(left) = rest.get(2 * at + 1) {
                let mut child = (2 * at + 1, left);
                if let Some(right) = rest.get(2 * at + 2)
                    && before(right, left)
                {
                    child = (2 * at + 2, right);
                }
                if !before(child.1, last) {
                    break;
                }
                at = child.0;
            }
        });
        at
    }

    /// Takes the first item out, and lets the last sink from its place.
    fn pop(&mut self, to: usize) -> Numbered<T> {
        let first = self.sorted.swap_remove(0);
        // One more than a place, written in binary, is the way to it: from the root, 0 is left and 1 is right.
        let way = to + 1;
        let mut at = 0;
        for depth in (0..way.ilog2()).rev() {
            let child = (way >> depth) - 1;
            self.sorted.swap(at, child);
            at = child;
        }
        first
    }
}

impl<T: Ord> Buffer for Heap<T> {
    type Item = T;
    type Slot = Numbered<T>;

    #[inline]
    fn place(&mut self, item: T) -> Numbered<T> {
        self.last += 1;
        Numbered { number: self.last, item }
    }

    fn insert(&mut self, slot: Numbered<T>) {
        self.aside.push(slot);
    }

    fn remove(&mut self) -> Option<Numbered<T>> {
        debug_assert!(self.aside.is_empty(), "the caller has settled");
        let to = self.sink();
        (!self.sorted.is_empty()).then(|| self.pop(to))
    }

    fn restore(&mut self, slot: Numbered<T>) {
        self.aside.push(slot);
    }

    #[inline]
    fn len(&self) -> usize {
        self.sorted.len() + self.aside.len()
    }

    #[inline]
    fn item(slot: Numbered<T>) -> T {
        slot.item
    }

    fn item_of(slot: &Numbered<T>) -> &T {
        &slot.item
    }

    fn rank(&self, item: &T) -> usize {
        self.rise(|other| item.cmp(&other.item) == Ordering::Less)
    }

    fn insert_at(&mut self, slot: Numbered<T>, rank: usize) {
        self.push(slot, rank);
    }

    fn settle(&mut self) {
        while let Some(slot) = self.aside.last() {
            let to = self.rise(|other| slot.order(other) == Ordering::Less);
            if let Some(slot) = self.aside.pop() {
                self.push(slot, to);
            }
        }
    }

    fn first(&self) -> Option<&T> {
        debug_assert!(self.aside.is_empty(), "the caller has settled");
        self.sorted.first().map(Self::item_of)
    }

    fn drain(&mut self) -> Vec<Numbered<T>> {
        let mut slots = mem::take(&mut self.sorted);
        slots.append(&mut self.aside);
        slots
    }

    fn sort(slots: &mut [Numbered<T>]) {
        slots.sort_unstable_by(Numbered::order);
    }
}
