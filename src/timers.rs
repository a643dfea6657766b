//! Timers: what is due when, soonest first, first come first served among equals.
//!
//! ```text
//!   heap   [ due 3, #7, slot 2 ][ due 5, #1, slot 0 ][ due 9, #4, slot 3 ] ...     a 4-ary min-heap on (due, #)
//!                   |                    |
//!            +------+                    |
//!            v                           v
//!   slots  2 [ #7, place 0, value ]    0 [ #1, place 1, value ] ...                 where a key finds its entry
//! ```
//!
//! - The ordering keys lie in the heap itself, so that sifting compares without following a pointer. Four children
//!   instead of two halve the levels, and each level is one place to write back.
//! - `slots[heap[i].slot].place == i` for every `i`: this back-index is what makes cancelling O(log n).
//! - The sequence number `#` of an insertion is never used again. It orders equals, and it is the generation of the
//!   key: a key whose timer is gone finds another number in its slot, or none, and cancels nothing.
//!
//! A time is held as nanoseconds since the heap was made. That is the resolution of `Instant` on every platform here,
//! so nothing is rounded and no timer is early. A deadline before that moment counts as that moment, one more than 584
//! years after it as that far: neither is met early by anyone who is still there to see it.

#![forbid(unsafe_code)]

use crate::clock;
use slab::Slab;
use std::time::{Duration, Instant};

/// A set of values, each with the moment at which it is due.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    heap: Vec<Entry>,
    slots: Slab<Slot<T>>,
    next_sequence: u64,
    epoch: Instant,
}

/// Names one timer, for [`Timers::cancel`]; stale once the timer was cancelled or has expired, and then means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    sequence: u64,
    slot: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Nanoseconds since the epoch.
    due: u64,
    sequence: u64,
    slot: u32,
}

#[derive(Debug)]
struct Slot<T> {
    sequence: u64,
    /// Index of this timer's entry in the heap.
    place: u32,
    value: T,
}

impl<T> Timers<T> {
    /// No timers; allocates nothing yet.
    pub(crate) fn new() -> Self {
        Self { heap: Vec::new(), slots: Slab::new(), next_sequence: 0, epoch: clock::now() }
    }

    /// Adds a value that is due at `deadline`, which may lie in the past.
    pub(crate) fn insert(&mut self, deadline: Instant, value: T) -> TimerKey {
        let _steady = crate::lock::steady();
        let sequence = self.next_sequence;
        self.next_sequence += 1;

        let place = self.heap.len();
        let slot = self.slots.insert(Slot { sequence, place: index(place), value });
        let entry = Entry { due: self.nanos(deadline), sequence, slot: index(slot) };
        self.heap.push(entry);
        self.sift_up(place, entry);
        TimerKey { sequence, slot: entry.slot }
    }

    /// Takes the value back before it is due; `None` if it was cancelled or has expired already.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.sequence != key.sequence {
            return None;
        }
        Some(self.remove(slot.place as usize))
    }

    /// When the next value is due; `None` if there are no timers.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let first = self.heap.first()?;
        Some(self.epoch + Duration::from_nanos(first.due))
    }

    /// Takes the value that is due soonest, if it is due at `now`.
    ///
    /// Called until it gives `None`, it takes all that is due, in the order of the deadlines.
    #[inline]
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<T> {
        let first = self.heap.first()?;
        if first.due > self.nanos(now) {
            return None;
        }
        Some(self.remove(0))
    }

    /// Takes out those that `keep` refuses.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let refused = |(slot, timer): (usize, &Slot<T>)| {
            (!keep(&timer.value)).then_some(TimerKey { sequence: timer.sequence, slot: index(slot) })
        };
        for key in self.slots.iter().filter_map(refused).collect::<Vec<_>>() {
            self.cancel(key);
        }
    }

    /// How many timers there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are no timers.
    #[cfg(test)]
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Takes out the entry at `place`: the last entry fills the hole, and is sifted to where it belongs.
    fn remove(&mut self, place: usize) -> T {
        let removed = self.heap[place];
        let last = self.heap.pop().expect("there is an entry at `place`");
        if place < self.heap.len() {
            if last.is_before(&removed) {
                self.sift_up(place, last);
            } else {
                self.sift_down(place, last);
            }
        }
        let value = self.slots.remove(removed.slot as usize).value;
        self.give_back();
        value
    }

    /// Moves the hole at `place` up until `entry` may fill it.
    fn sift_up(&mut self, mut place: usize, entry: Entry) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if !entry.is_before(&self.heap[parent]) {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, entry);
    }

    /// Moves the hole at `place` down until `entry` may fill it.
    fn sift_down(&mut self, mut place: usize, entry: Entry) {
        loop {
            let first = place * ARITY + 1;
            let child = match self.heap.get(first..) {
                None | Some([]) => break,
                Some([a, b, c, d, ..]) => {
                    let left = if b.is_before(a) { (1, b) } else { (0, a) };
                    let right = if d.is_before(c) { (3, d) } else { (2, c) };
                    first + if right.1.is_before(left.1) { right.0 } else { left.0 }
                }
                Some(few) => {
                    let soonest = (1..few.len()).fold(0, |a, b| if few[b].is_before(&few[a]) { b } else { a });
                    first + soonest
                }
            };
            let soonest = self.heap[child];
            if !soonest.is_before(&entry) {
                break;
            }
            self.put(place, soonest);
            place = child;
        }
        self.put(place, entry);
    }

    /// Writes an entry into the heap, and its place into its slot.
    #[inline]
    fn put(&mut self, place: usize, entry: Entry) {
        self.heap[place] = entry;
        self.slots[entry.slot as usize].place = index(place);
    }

    /// Halves the memory when three quarters of it lie idle.
    ///
    /// Slots cannot move, for keys name them: they give back what lies behind the last one in use, and everything once
    /// none is. Their walk over all slots is paid for by the removals since the heap was last this large.
    fn give_back(&mut self) {
        let capacity = self.heap.capacity();
        if capacity > KEPT_CAPACITY && self.heap.len() <= capacity / 4 {
            self.heap.shrink_to(capacity / 2);
            self.slots.shrink_to_fit();
        }
        if self.heap.is_empty() && self.slots.capacity() > KEPT_CAPACITY {
            self.slots = Slab::new();
        }
    }

    fn nanos(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.epoch);
        since.as_nanos().try_into().unwrap_or(u64::MAX)
    }
}

impl Entry {
    #[inline]
    fn is_before(&self, other: &Self) -> bool {
        (self.due, self.sequence) < (other.due, other.sequence)
    }
}

/// Slots and places are stored in 32 bits.
#[inline]
fn index(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than four billion timers")
}

const ARITY: usize = 4;

/// Memory for so many entries is never given back.
const KEPT_CAPACITY: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Cancel(prop::sample::Index),
        PopUntil(u64),
    }

    /// Few distinct times, so that there are many equals.
    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0..50_u64).prop_map(Op::Insert),
            3 => any::<prop::sample::Index>().prop_map(Op::Cancel),
            1 => (0..50_u64).prop_map(Op::PopUntil),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_vector(ops in prop::collection::vec(op(), 0..400)) {
            let mut timers = Timers::new();
            let at = |nanos, timers: &Timers<usize>| timers.epoch + Duration::from_nanos(nanos);
            // Of every timer there ever was, in order of insertion: its key, and its time while it is pending.
            let mut oracle: Vec<(TimerKey, Option<u64>)> = Vec::new();

            for op in ops {
                match op {
                    Op::Insert(due) => {
                        let key = timers.insert(at(due, &timers), oracle.len());
                        oracle.push((key, Some(due)));
                    }
                    Op::Cancel(index) if !oracle.is_empty() => {
                        let index = index.index(oracle.len());
                        let expected = oracle[index].1.take().map(|_| index);
                        prop_assert_eq!(timers.cancel(oracle[index].0), expected);
                    }
                    Op::Cancel(_) => {}
                    Op::PopUntil(now) => loop {
                        let popped = timers.pop_expired(at(now, &timers));
                        let expected = soonest(&oracle).filter(|&(due, _)| due <= now).map(|(_, index)| index);
                        prop_assert_eq!(popped, expected);
                        let Some(index) = popped else { break };
                        oracle[index].1 = None;
                    },
                }
                check(&timers);
                let expected = soonest(&oracle).map(|(due, _)| at(due, &timers));
                prop_assert_eq!(timers.next_deadline(), expected);
                let pending = oracle.iter().filter(|(_, due)| due.is_some()).count();
                prop_assert_eq!(timers.len(), pending);
                prop_assert_eq!(timers.is_empty(), pending == 0);
            }
        }
    }

    fn soonest(oracle: &[(TimerKey, Option<u64>)]) -> Option<(u64, usize)> {
        oracle.iter().enumerate().filter_map(|(index, (_, due))| Some(((*due)?, index))).min()
    }

    /// The invariants at the head of this file.
    fn check<T>(timers: &Timers<T>) {
        assert_eq!(timers.heap.len(), timers.slots.len());
        for (place, entry) in timers.heap.iter().enumerate() {
            let slot = &timers.slots[entry.slot as usize];
            assert_eq!((slot.place as usize, slot.sequence), (place, entry.sequence));
            assert!(place == 0 || timers.heap[(place - 1) / ARITY].is_before(entry));
        }
    }

    #[test]
    fn a_timer_is_not_due_a_nanosecond_early() {
        let mut timers = Timers::new();
        let deadline = clock::now() + Duration::from_nanos(1_234_567);
        timers.insert(deadline, ());
        assert_eq!(timers.next_deadline(), Some(deadline));
        assert_eq!(timers.pop_expired(deadline - Duration::from_nanos(1)), None);
        assert_eq!(timers.pop_expired(deadline), Some(()));
    }

    #[test]
    fn a_key_whose_slot_was_used_again_cancels_nothing() {
        let mut timers = Timers::new();
        let now = clock::now();
        let stale = timers.insert(now, 1);
        assert_eq!(timers.cancel(stale), Some(1));
        let fresh = timers.insert(now, 2);
        assert_eq!(stale.slot, fresh.slot);
        assert_eq!(timers.cancel(stale), None);
        assert_eq!(timers.cancel(fresh), Some(2));
    }

    #[test]
    fn deadlines_out_of_range_are_the_first_and_the_last() {
        let mut timers = Timers::new();
        let century = Duration::from_secs(100 * 365 * 86_400);
        let far = timers.insert(timers.epoch + 10 * century, "far");
        timers.insert(timers.epoch + century, "century");
        timers.insert(timers.epoch, "epoch");
        if let Some(past) = timers.epoch.checked_sub(Duration::from_nanos(1)) {
            timers.insert(past, "past");
            assert_eq!(timers.pop_expired(timers.epoch), Some("epoch"));
            assert_eq!(timers.pop_expired(timers.epoch), Some("past"));
        }
        assert_eq!(timers.pop_expired(timers.epoch + century), Some("century"));
        assert_eq!(timers.pop_expired(timers.epoch + 2 * century), None);
        assert_eq!(timers.cancel(far), Some("far"));
    }

    #[test]
    fn memory_is_given_back_after_a_crowd() {
        let mut timers = Timers::new();
        let now = clock::now();
        let crowd = 100_000;
        for value in 0..crowd {
            timers.insert(now + Duration::from_nanos(value), value);
        }
        for value in 0..crowd {
            assert_eq!(timers.pop_expired(now + Duration::from_secs(1)), Some(value));
        }
        assert!(timers.heap.capacity() <= KEPT_CAPACITY);
        assert!(timers.slots.capacity() <= KEPT_CAPACITY);
    }

    #[test]
    fn what_was_never_due_is_dropped_with_the_timers() {
        let witness = std::rc::Rc::new(());
        let mut timers = Timers::new();
        timers.insert(clock::now(), witness.clone());
        drop(timers);
        assert_eq!(std::rc::Rc::strong_count(&witness), 1);
    }
}
