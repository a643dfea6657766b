//! Every interleaving of small programs, as loom finds them:
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib models`.
//!
//! The poll is a park, which remembers that it was rung and has no upper bound: a lost wake-up is a deadlock,
//! and loom reports it. What a message carries is a loom cell: reading it without the sender's write before it is a race.

use super::Mailbox;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread::{self, Thread};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A number, written by its sender and read by its receiver; loom's `Arc` reports it if it leaks.
struct Parcel(Arc<UnsafeCell<u32>>);

impl Parcel {
    fn new(number: u32) -> Self {
        let cell = Arc::new(UnsafeCell::new(0));
        // SAFETY: nobody else has the cell yet; loom checks it.
        cell.with_mut(|inside| unsafe { *inside = number });
        Self(cell)
    }

    fn open(self) -> u32 {
        // SAFETY: it was sent, so its sender is done with it; loom checks it.
        self.0.with(|inside| unsafe { *inside })
    }
}

/// A mailbox and what stands for waker and poll: the token of the thread that made it, the hub's.
struct Hub {
    mailbox: Mailbox<Parcel>,
    thread: Thread,
    /// Only counts, and is no part of the model: an atomic of std's, of which loom knows nothing.
    rings: AtomicU32,
}

impl Hub {
    fn new() -> Arc<Self> {
        Arc::new(Self { mailbox: Mailbox::new(), thread: thread::current(), rings: AtomicU32::new(0) })
    }

    fn ring(&self) {
        self.rings.fetch_add(1, Relaxed);
        self.thread.unpark();
    }

    /// Sends, rings if told to, and answers whether the message was accepted.
    fn send(&self, number: u32) -> bool {
        match self.mailbox.push(Parcel::new(number)) {
            Ok(true) => self.ring(),
            Ok(false) => {}
            Err(parcel) => {
                assert_eq!(parcel.open(), number);
                return false;
            }
        }
        true
    }

    /// Takes mail, sleeping in between, until there are `count` messages; answers them and the number of sleeps.
    fn receive(&self, count: usize) -> (Vec<u32>, u32) {
        let (mut mail, mut sleeps) = (Vec::new(), 0);
        while mail.len() < count {
            if self.mailbox.prepare_to_sleep() {
                sleeps += 1;
                thread::park();
                self.mailbox.awake();
            }
            self.mailbox.take(&mut mail);
        }
        (mail.into_iter().map(Parcel::open).collect(), sleeps)
    }
}

#[test]
fn two_senders_wake_a_sleeping_hub() {
    loom::model(|| {
        let hub = Hub::new();
        let senders = [1, 2].map(|number| {
            let hub = hub.clone();
            thread::spawn(move || assert!(hub.send(number)))
        });
        let (mut mail, sleeps) = hub.receive(2);
        mail.sort_unstable();
        assert_eq!(mail, [1, 2]);
        assert!(sleeps <= 2);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert!(hub.rings.load(Relaxed) <= sleeps);
    });
}

#[test]
fn messages_of_one_sender_keep_their_order() {
    loom::model(|| {
        let hub = Hub::new();
        let sender = thread::spawn({
            let hub = hub.clone();
            move || assert!((1..=3).all(|number| hub.send(number)))
        });
        assert_eq!(hub.receive(3).0, [1, 2, 3]);
        sender.join().unwrap();
    });
}

/// A ring that comes late, for a sleep that ended without it, costs one short sleep and nothing else.
#[test]
fn a_hub_that_something_else_woke_loses_nothing() {
    loom::model(|| {
        let hub = Hub::new();
        let sender = thread::spawn({
            let hub = hub.clone();
            move || assert!(hub.send(1) && hub.send(2))
        });
        if hub.mailbox.prepare_to_sleep() {
            hub.mailbox.awake();
        }
        let (mail, sleeps) = hub.receive(2);
        assert_eq!(mail, [1, 2]);
        sender.join().unwrap();
        assert!(hub.rings.load(Relaxed) <= 1 + sleeps);
    });
}

#[test]
fn a_push_that_races_the_close_is_given_back_or_was_received() {
    loom::model(|| {
        let hub = Hub::new();
        let senders = [1, 2].map(|number| {
            let hub = hub.clone();
            thread::spawn(move || if hub.send(number) { Some(number) } else { None })
        });
        let mut mail = Vec::new();
        hub.mailbox.take(&mut mail);
        mail.extend(hub.mailbox.close());
        let mut received: Vec<_> = mail.into_iter().map(Parcel::open).collect();
        received.sort_unstable();
        let accepted: Vec<_> = senders.into_iter().filter_map(|sender| sender.join().unwrap()).collect();
        assert_eq!(received, accepted);
        assert!(hub.mailbox.close().is_empty());
    });
}

#[test]
fn a_sender_that_was_refused_sees_what_the_hub_did_before_it_closed() {
    loom::model(|| {
        let hub = Hub::new();
        let result = Arc::new(UnsafeCell::new(0));
        let sender = thread::spawn({
            let (hub, result) = (hub.clone(), result.clone());
            move || {
                if !hub.send(1) {
                    // SAFETY: the hub closed after it wrote, and writes no more; loom checks it.
                    assert_eq!(result.with(|inside| unsafe { *inside }), 7);
                }
            }
        });
        // SAFETY: the sender reads only once the mailbox is closed; loom checks it.
        result.with_mut(|inside| unsafe { *inside = 7 });
        hub.mailbox.close();
        sender.join().unwrap();
    });
}
