//! Every interleaving of small programs, as loom finds them:
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib remote`.
//!
//! The poll is a bell, which remembers that it was rung and has no upper bound on the sleep: a lost wake-up is a deadlock,
//! and loom reports it. What a message carries is a loom cell: reading it without the sender's write before it is a race.

use super::Mailbox;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

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

/// Stands for the waker and the poll.
#[derive(Default)]
struct Bell {
    rings: Mutex<u32>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rings.lock().unwrap() += 1;
        self.rung.notify_one();
    }

    /// Waits for a ring, and answers how many there were.
    fn poll(&self) -> u32 {
        let mut rings = self.rings.lock().unwrap();
        while *rings == 0 {
            rings = self.rung.wait(rings).unwrap();
        }
        std::mem::take(&mut rings)
    }
}

#[derive(Default)]
struct Hub {
    mailbox: Mailbox<Parcel>,
    bell: Bell,
}

impl Default for Mailbox<Parcel> {
    fn default() -> Self {
        Self::new()
    }
}

impl Hub {
    /// Sends, rings if told to, and answers whether the message was accepted.
    fn send(&self, number: u32) -> bool {
        match self.mailbox.push(Parcel::new(number)) {
            Ok(true) => self.bell.ring(),
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
        let (mut mail, mut sleeps, mut rings) = (Vec::new(), 0, 0);
        while mail.len() < count {
            if self.mailbox.prepare_to_sleep() {
                sleeps += 1;
                rings += self.bell.poll();
                self.mailbox.awake();
            }
            self.mailbox.take(&mut mail);
        }
        assert!(rings <= sleeps, "{rings} rings in {sleeps} sleeps");
        (mail.into_iter().map(Parcel::open).collect(), sleeps)
    }
}

#[test]
fn two_senders_wake_a_sleeping_hub() {
    loom::model(|| {
        let hub = Arc::new(Hub::default());
        let senders = [1, 2].map(|number| {
            let hub = hub.clone();
            thread::spawn(move || assert!(hub.send(number)))
        });
        let (mut mail, sleeps) = hub.receive(2);
        mail.sort_unstable();
        assert_eq!(mail, [1, 2]);
        assert!(sleeps <= 2);
        senders.map(|sender| sender.join().unwrap());
    });
}

#[test]
fn messages_of_one_sender_keep_their_order() {
    loom::model(|| {
        let hub = Arc::new(Hub::default());
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
        let hub = Arc::new(Hub::default());
        let sender = thread::spawn({
            let hub = hub.clone();
            move || assert!(hub.send(1) && hub.send(2))
        });
        let mut early = Vec::new();
        if hub.mailbox.prepare_to_sleep() {
            hub.mailbox.awake();
        }
        hub.mailbox.take(&mut early);
        let mut mail: Vec<_> = early.into_iter().map(Parcel::open).collect();
        let missing = 2 - mail.len();
        let mut later = Vec::new();
        while later.len() < missing {
            if hub.mailbox.prepare_to_sleep() {
                hub.bell.poll();
                hub.mailbox.awake();
            }
            hub.mailbox.take(&mut later);
        }
        mail.extend(later.into_iter().map(Parcel::open));
        assert_eq!(mail, [1, 2]);
        sender.join().unwrap();
        assert!(*hub.bell.rings.lock().unwrap() <= 1);
    });
}

#[test]
fn a_push_that_races_the_close_is_given_back_or_was_received() {
    loom::model(|| {
        let hub = Arc::new(Hub::default());
        let senders = [1, 2].map(|number| {
            let hub = hub.clone();
            thread::spawn(move || if hub.send(number) { Some(number) } else { None })
        });
        let mut mail = Vec::new();
        hub.mailbox.take(&mut mail);
        mail.extend(hub.mailbox.close());
        let mut received: Vec<_> = mail.into_iter().map(Parcel::open).collect();
        received.sort_unstable();
        let accepted: Vec<_> = senders
            .into_iter()
            .filter_map(|sender| sender.join().unwrap())
            .collect();
        assert_eq!(received, accepted);
        assert!(hub.mailbox.close().is_empty());
    });
}

#[test]
fn a_sender_that_was_refused_sees_what_the_hub_did_before_it_closed() {
    loom::model(|| {
        let hub = Arc::new(Hub::default());
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
