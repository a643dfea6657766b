//! Every interleaving of a claim's protocol, checked by loom: `RUSTFLAGS="--cfg loom" cargo test --release --lib models`.

#![forbid(unsafe_code)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::{Claim, Taker};

#[test]
fn a_server_and_an_owner_who_leaves_agree() {
    loom::model(|| {
        let claim = Arc::new(Claim::new());
        let server = {
            let claim = claim.clone();
            thread::spawn(move || claim.win(7))
        };
        let left_with = claim.withdraw();
        let served = server.join().unwrap();
        assert_eq!(left_with, served.then_some(7));
        assert_eq!(claim.winner(), served.then_some(7));
    });
}

#[test]
fn of_two_servers_one_wins() {
    loom::model(|| {
        let claim = Arc::new(Claim::new());
        let server = {
            let claim = claim.clone();
            thread::spawn(move || claim.win(1))
        };
        let mine = claim.win(2);
        assert!(mine != server.join().unwrap());
        assert_eq!(claim.winner(), Some(if mine { 2 } else { 1 }));
    });
}

#[test]
fn what_was_put_there_before_publishing_is_seen() {
    loom::model(|| {
        let node = Arc::new((Claim::new(), AtomicU32::new(0)));
        let server = {
            let node = node.clone();
            thread::spawn(move || {
                node.1.store(5, Ordering::Relaxed);
                node.0.publish(0);
            })
        };
        if node.0.winner().is_some() {
            assert_eq!(node.1.load(Ordering::Relaxed), 5);
        }
        server.join().unwrap();
    });
}

#[test]
fn two_who_find_each_other_agree() {
    loom::model(|| {
        let pair = Arc::new((Claim::new(), Claim::new()));
        let other = {
            let pair = pair.clone();
            thread::spawn(move || Taker::Of(&pair.1, 10).win_with(&pair.0, 20))
        };
        let mine = Taker::Of(&pair.0, 1).win_with(&pair.1, 2);
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "one wins, for both");
        let expected = if mine { (Some(1), Some(2)) } else { (Some(20), Some(10)) };
        assert_eq!((pair.0.winner(), pair.1.winner()), expected);
    });
}

#[test]
fn one_who_leaves_while_two_find_each_other_is_in_or_out_for_both() {
    loom::model(|| {
        let pair = Arc::new((Claim::new(), Claim::new()));
        let taker = {
            let pair = pair.clone();
            thread::spawn(move || Taker::Of(&pair.0, 1).win_with(&pair.1, 2))
        };
        let left_with = pair.1.withdraw();
        let met = taker.join().unwrap();
        assert_eq!(left_with, met.then_some(2));
        assert_eq!(pair.0.winner(), met.then_some(1));
    });
}

#[test]
fn three_in_a_ring_do_not_wait_for_each_other_for_ever() {
    loom::model(|| {
        let ring = Arc::new([Claim::new(), Claim::new(), Claim::new()]);
        let others: Vec<_> = (0..2)
            .map(|i| {
                let ring = ring.clone();
                thread::spawn(move || Taker::Of(&ring[i], 1).win_with(&ring[i + 1], 2))
            })
            .collect();
        let mut met = usize::from(Taker::Of(&ring[2], 1).win_with(&ring[0], 2));
        met += others.into_iter().map(|other| usize::from(other.join().unwrap())).sum::<usize>();
        assert_eq!(met, 1, "two of three meet, and the third is left");
    });
}
