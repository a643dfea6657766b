//! The claim of one who waits for one or several things: open, or won by one of them, once.
//!
//! | word | |
//! | --- | --- |
//! | `OPEN` | nothing has won |
//! | `BUSY` | somebody is about to decide: a moment later it is open again, or won |
//! | `WITHDRAWN` | its owner has left, or was too late |
//! | a number | this clause has won |
//!
//! One who waits for several things stands in several lines. Whoever serves one of his nodes wins his claim first; with one
//! compare-and-swap, if the server waits for nothing himself. Two who both wait for several things, and find each other, one with an
//! item and one without, must win both claims or none: both words are made busy, in the order of their addresses, then both are
//! won. Nobody waits for anything else while he keeps a word busy, so spinning is enough.

#![forbid(unsafe_code)]

#[cfg(loom)]
use loom::hint;
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};
#[cfg(not(loom))]
use std::hint;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether a wait is still open, or which of its clauses won.
#[derive(Debug)]
pub(crate) struct Claim(AtomicU32);

const OPEN: u32 = u32::MAX;
const WITHDRAWN: u32 = u32::MAX - 1;
const BUSY: u32 = u32::MAX - 2;

/// Who takes something at once: one who waits for nothing else, or one who is about to wait for several things, for whom it
/// must win his claim.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taker<'a> {
    Free,
    Of(&'a Claim, u32),
}

impl Claim {
    pub(crate) fn new() -> Claim {
        Claim(AtomicU32::new(OPEN))
    }

    /// The clause that won, if one has. What its server did before is seen, if the node is its owner's only one.
    #[inline]
    pub(crate) fn winner(&self) -> Option<u32> {
        // Acquire: pairs with the release in `publish`.
        match self.0.load(Ordering::Acquire) {
            OPEN | WITHDRAWN | BUSY => None,
            clause => Some(clause),
        }
    }

    /// Whether something may still win.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.0.load(Ordering::Relaxed), OPEN | BUSY)
    }

    /// Makes this clause the winner, of a claim that has no other way to be won.
    #[inline]
    pub(super) fn publish(&self, clause: u32) {
        // Release: the owner sees what he was given.
        self.0.store(clause, Ordering::Release);
    }

    /// Makes this clause the winner, if none is yet.
    #[inline]
    pub(crate) fn win(&self, clause: u32) -> bool {
        self.replace(clause).is_none()
    }

    /// Closes the claim, if nothing has won; else says what did.
    pub(crate) fn withdraw(&self) -> Option<u32> {
        self.replace(WITHDRAWN).filter(|clause| *clause != WITHDRAWN)
    }

    /// Puts a word into an open claim; else gives the one that is there.
    #[inline]
    fn replace(&self, word: u32) -> Option<u32> {
        loop {
            match self.0.compare_exchange(OPEN, word, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return None,
                Err(BUSY) => hint::spin_loop(),
                Err(other) => return Some(other),
            }
        }
    }
}

impl Taker<'_> {
    /// Wins the taker's own claim, if there is one and it is still open.
    #[inline]
    pub(crate) fn win(self) -> bool {
        match self {
            Taker::Free => true,
            Taker::Of(claim, clause) => claim.win(clause),
        }
    }

    /// Whether the taker has lost: something else has won, or did so before.
    pub(crate) fn has_lost(self) -> bool {
        match self {
            Taker::Free => false,
            Taker::Of(claim, _) => !claim.is_open(),
        }
    }

    /// Whether it is his own claim.
    pub(super) fn is(self, claim: *const Claim) -> bool {
        matches!(self, Taker::Of(own, _) if std::ptr::eq(own, claim))
    }

    /// Wins the claim of another who waits for several things, together with the taker's own: both or none.
    pub(super) fn win_with(self, other: &Claim, clause: u32) -> bool {
        let Taker::Of(own, own_clause) = self else { return other.win(clause) };
        let (first, second) =
            if std::ptr::from_ref(own) < std::ptr::from_ref(other) { (own, other) } else { (other, own) };
        if first.replace(BUSY).is_some() {
            return false;
        }
        if second.replace(BUSY).is_some() {
            first.0.store(OPEN, Ordering::Release);
            return false;
        }
        own.0.store(own_clause, Ordering::Release);
        other.0.store(clause, Ordering::Release);
        true
    }
}

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn one_clause_wins_once() {
        let claim = Claim::new();
        assert_eq!(claim.winner(), None);
        assert!(claim.win(3));
        assert!(!claim.win(4));
        assert_eq!((claim.winner(), claim.withdraw()), (Some(3), Some(3)));
    }

    #[test]
    fn a_withdrawn_claim_cannot_be_won() {
        let claim = Claim::new();
        assert_eq!(claim.withdraw(), None);
        assert!(!claim.win(0));
        assert_eq!((claim.winner(), claim.withdraw()), (None, None));
        assert!(!claim.is_open());
    }

    #[test]
    fn both_claims_are_won_or_none() {
        let (one, two) = (Claim::new(), Claim::new());
        assert!(two.win(9));
        assert!(!Taker::Of(&one, 1).win_with(&two, 2));
        assert_eq!(one.winner(), None);
        let two = Claim::new();
        assert!(Taker::Of(&one, 1).win_with(&two, 2));
        assert_eq!((one.winner(), two.winner()), (Some(1), Some(2)));
    }

    #[test]
    fn two_who_find_each_other_from_both_sides_agree() {
        for _ in 0..if cfg!(miri) { 20 } else { 2000 } {
            let pair = Arc::new((Claim::new(), Claim::new()));
            let other = pair.clone();
            let thread = thread::spawn(move || Taker::Of(&other.1, 10).win_with(&other.0, 20));
            let mine = Taker::Of(&pair.0, 1).win_with(&pair.1, 2);
            let theirs = thread.join().unwrap();
            assert!(mine != theirs, "one of both wins, for both");
            let expected = if mine { (Some(1), Some(2)) } else { (Some(20), Some(10)) };
            assert_eq!((pair.0.winner(), pair.1.winner()), expected);
        }
    }
}
