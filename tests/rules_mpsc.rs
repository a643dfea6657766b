//! What channels promise beyond std's: order among tasks, nothing lost to kills and timeouts, destructors that do what they like.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use greenroom::sync::mpsc::{
    IntoIter, Iter, Receiver, RecvError, RecvTimeoutError, SendError, Sender, SyncSender, TryIter, TryRecvError,
    TrySendError, channel, sync_channel,
};
use greenroom::{joinall, killall, sleep, spawn, timeout, yield_now};

mod common;
use common::{EVER, Log, MS, OnDrop, check, soon};

#[test]
fn signatures_and_auto_traits_are_stds() {
    fn ends<E: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    ends::<Sender<Cell<i32>>>();
    ends::<SyncSender<Cell<i32>>>();
    fn receiver<R: Send + UnwindSafe + RefUnwindSafe>() {}
    receiver::<Receiver<Cell<i32>>>();

    let _: fn() -> (Sender<u8>, Receiver<u8>) = channel;
    let _: fn(usize) -> (SyncSender<u8>, Receiver<u8>) = sync_channel;
    let _: fn(&Sender<u8>, u8) -> Result<(), SendError<u8>> = Sender::send;
    let _: fn(&SyncSender<u8>, u8) -> Result<(), SendError<u8>> = SyncSender::send;
    let _: fn(&SyncSender<u8>, u8) -> Result<(), TrySendError<u8>> = SyncSender::try_send;
    let _: fn(&Receiver<u8>) -> Result<u8, RecvError> = Receiver::recv;
    let _: fn(&Receiver<u8>) -> Result<u8, TryRecvError> = Receiver::try_recv;
    let _: fn(&Receiver<u8>, Duration) -> Result<u8, RecvTimeoutError> = Receiver::recv_timeout;
    let _: for<'a> fn(&'a Receiver<u8>) -> Iter<'a, u8> = Receiver::iter;
    let _: for<'a> fn(&'a Receiver<u8>) -> TryIter<'a, u8> = Receiver::try_iter;
    let _: fn(Receiver<u8>) -> IntoIter<u8> = Receiver::into_iter;

    let (tx, rx) = channel::<u8>();
    assert_eq!(format!("{tx:?} {rx:?} {:?}", rx.iter()), "Sender { .. } Receiver { .. } Iter { rx: Receiver { .. } }");
    assert_eq!(format!("{:?}", sync_channel::<u8>(1).0), "SyncSender { .. }");
}

#[test]
fn items_need_not_be_send() {
    let (tx, rx) = channel();
    let sum = spawn(move || rx.iter().map(|item: Rc<Cell<i32>>| item.get()).sum::<i32>());
    (0..5).for_each(|i| tx.send(Rc::new(Cell::new(i))).unwrap());
    drop(tx);
    assert_eq!(sum.join().unwrap(), 10);
}

#[test]
fn a_rendezvous_is_sending_received_sent() {
    for receiver_first in [true, false] {
        let log = Log::default();
        let (tx, rx) = sync_channel(0);
        let lines = log.clone();
        let receive = move || rx.iter().for_each(|i: i32| lines.add(format!("received {i}")));
        let lines = log.clone();
        let send = move || {
            for i in 0..2 {
                lines.add(format!("sending {i}"));
                tx.send(i).unwrap();
                lines.add(format!("sent {i}"));
            }
        };
        joinall(if receiver_first { [spawn(receive), spawn(send)] } else { [spawn(send), spawn(receive)] });
        assert_eq!(log.take(), ["sending 0", "received 0", "sent 0", "sending 1", "received 1", "sent 1"]);
    }
}

#[test]
fn a_rendezvous_with_a_sender_that_waits_already() {
    let log = Log::default();
    let (tx, rx) = sync_channel(0);
    let lines = log.clone();
    let sending = spawn(move || {
        lines.add("sending");
        tx.send(()).unwrap();
        lines.add("sent");
    });
    yield_now();
    rx.recv().unwrap();
    log.add("received");
    sending.join().unwrap();
    assert_eq!(log.take(), ["sending", "received", "sent"]);
}

#[test]
fn senders_that_wait_are_served_in_order() {
    let (tx, rx) = sync_channel(1);
    let senders: Vec<_> = (0..5)
        .map(|i| {
            let tx = tx.clone();
            spawn(move || tx.send(i).unwrap())
        })
        .collect();
    yield_now();
    assert_eq!(rx.recv(), Ok(0));
    assert_eq!(tx.try_send(9), Err(TrySendError::Full(9)), "who waits has had the room");
    drop(tx);
    assert_eq!(rx.iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    joinall(senders);
}

#[test]
fn an_item_handed_to_a_receiver_that_is_killed_stays() {
    for bound in [None, Some(0), Some(1)] {
        check(move || {
            let (send, rx): (Box<dyn Fn(i32)>, _) = match bound {
                None => {
                    let (tx, rx) = channel();
                    (Box::new(move |i| tx.send(i).unwrap()), rx)
                }
                Some(bound) => {
                    let (tx, rx) = sync_channel(bound);
                    (Box::new(move |i| tx.try_send(i).unwrap()), rx)
                }
            };
            let rx = Rc::new(rx);
            let receiver = rx.clone();
            let waiting = spawn(move || receiver.recv());
            yield_now();
            send(1);
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "it was handed over");
            waiting.kill_nowait();
            assert!(waiting.join().unwrap_err().is_killed());
            assert_eq!(rx.try_recv(), Ok(1));
        });
    }
}

#[test]
fn items_handed_to_receivers_that_are_killed_stay_in_order() {
    check(|| {
        for kill_in_order in [true, false] {
            let (tx, rx) = channel();
            let rx = Rc::new(rx);
            let mut waiting: Vec<_> = (0..3)
                .map(|_| {
                    let rx = rx.clone();
                    spawn(move || rx.recv())
                })
                .collect();
            yield_now();
            (0..5).for_each(|i| tx.send(i).unwrap());
            if !kill_in_order {
                waiting.reverse();
            }
            killall(&waiting);
            drop(tx);
            assert_eq!(rx.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        }
    });
}

#[test]
fn an_item_handed_to_a_receiver_that_is_killed_goes_to_the_next_in_line() {
    check(|| {
        let (tx, rx) = channel();
        let rx = Rc::new(rx);
        let [first, second] = [(); 2].map(|()| {
            let rx = rx.clone();
            spawn(move || rx.recv())
        });
        yield_now();
        tx.send(1).unwrap();
        first.kill_nowait();
        assert_eq!(second.join().unwrap(), Ok(1));
    });
}

#[test]
fn a_sender_killed_while_it_waits_drops_its_item_and_leaves_the_line() {
    check(|| {
        let log = Log::default();
        let (tx, rx) = sync_channel(0);
        let [first, second] = ["first", "second"].map(|name| {
            let (tx, item) = (tx.clone(), OnDrop(log.clone(), name));
            spawn(move || tx.send(item).is_ok())
        });
        yield_now();
        first.kill();
        assert_eq!(log.take(), ["first"]);
        let item = rx.recv().unwrap();
        assert!(second.join().unwrap());
        assert!(log.take().is_empty());
        drop(item);
        assert_eq!(log.take(), ["second"]);
    });
}

#[test]
fn a_sender_killed_after_its_item_was_taken_drops_nothing() {
    check(|| {
        let log = Log::default();
        let (tx, rx) = sync_channel(0);
        let item = OnDrop(log.clone(), "item");
        let sending = spawn(move || tx.send(item).is_ok());
        yield_now();
        let item = rx.recv().unwrap();
        sending.kill_nowait();
        assert!(sending.join().unwrap_err().is_killed());
        assert!(log.take().is_empty());
        drop(item);
        assert_eq!(log.take(), ["item"]);
    });
}

#[test]
fn senders_that_wait_have_their_items_back_when_the_receiver_goes() {
    let (tx, rx) = sync_channel(1);
    tx.send(0).unwrap();
    let senders: Vec<_> = (1..4)
        .map(|i| {
            let tx = tx.clone();
            spawn(move || tx.send(i))
        })
        .collect();
    yield_now();
    drop(rx);
    let results: Vec<_> = joinall(senders).into_iter().map(Result::unwrap).collect();
    assert_eq!(results, [Err(SendError(1)), Err(SendError(2)), Err(SendError(3))]);
    assert_eq!(tx.send(4), Err(SendError(4)));
}

#[test]
fn timeouts_lose_nothing() {
    check(|| {
        let (tx, rx) = sync_channel(2);
        let producer = spawn(move || {
            for i in 0..300 {
                if i % 3 == 0 {
                    sleep(MS / 10);
                }
                // A timeout leaves the item in the channel or takes it along, and says nothing of which: it goes around a loop of
                // `try_send` here.
                let mut item = i;
                while let Err(TrySendError::Full(back)) = tx.try_send(item) {
                    item = back;
                    yield_now();
                }
            }
        });
        let mut received = Vec::new();
        for round in 0.. {
            let limit = MS / 10 * (round % 3);
            let got = if round % 2 == 0 {
                rx.recv_timeout(limit)
            } else {
                match timeout(limit, || rx.recv()) {
                    Ok(Ok(item)) => Ok(item),
                    Ok(Err(RecvError)) => Err(RecvTimeoutError::Disconnected),
                    Err(_) => Err(RecvTimeoutError::Timeout),
                }
            };
            match got {
                Ok(item) => received.push(item),
                Err(RecvTimeoutError::Timeout) => yield_now(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        producer.join().unwrap();
        assert_eq!(received, (0..300).collect::<Vec<_>>());
    });
}

/// An item that tells the books where it ended.
struct Token {
    id: usize,
    books: Arc<Books>,
}

#[derive(Default)]
struct Books {
    made: AtomicUsize,
    dropped: AtomicUsize,
    sent: Mutex<Vec<usize>>,
    received: Mutex<Vec<usize>>,
}

impl Token {
    fn new(books: &Arc<Books>) -> Token {
        Token { id: books.made.fetch_add(1, Ordering::Relaxed), books: books.clone() }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.books.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn send_some(tx: &SyncSender<Token>, books: &Arc<Books>, count: usize) {
    for _ in 0..count {
        let token = Token::new(books);
        let id = token.id;
        if tx.send(token).is_ok() {
            books.sent.lock().unwrap().push(id);
        }
    }
}

/// Senders on a hub, some of which are killed and some of which run out of time.
fn unreliable_senders(tx: &SyncSender<Token>, books: &Arc<Books>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let senders: Vec<_> = (0..500)
        .map(|i| {
            let (tx, books) = (tx.clone(), books.clone());
            let limit = if i % 5 == 0 { MS / 20 * random.u32(0..40) } else { EVER };
            spawn(move || {
                let _elapsed = timeout(limit, || send_some(&tx, &books, 4));
            })
        })
        .collect();
    for _ in 0..100 {
        (0..random.u32(0..4)).for_each(|_| yield_now());
        senders[random.usize(..senders.len())].kill_nowait();
    }
    joinall(senders);
}

#[test]
fn between_threads_and_many_tasks_with_kills_and_timeouts_every_item_ends_once() {
    for bound in [0, 1, 16] {
        let books = Arc::new(Books::default());
        let (tx, rx) = sync_channel(bound);
        let natives: Vec<_> = (0..2)
            .map(|_| {
                let (tx, books) = (tx.clone(), books.clone());
                thread::spawn(move || send_some(&tx, &books, 500))
            })
            .collect();
        let (other, its_books) = (tx.clone(), books.clone());
        let hub = thread::spawn(move || unreliable_senders(&other, &its_books, 1));

        let receivers_books = books.clone();
        let receiving = thread::spawn(move || {
            let books = receivers_books;
            let senders = spawn({
                let books = books.clone();
                move || unreliable_senders(&tx, &books, 2)
            });
            let (rx, done) = (Rc::new(rx), Rc::new(Cell::new(false)));
            let receive = |limit: Duration| {
                let (rx, done, books) = (rx.clone(), done.clone(), books.clone());
                spawn(move || {
                    while !done.get() {
                        let got = rx.recv_timeout(limit);
                        match got {
                            Ok(token) => books.received.lock().unwrap().push(token.id),
                            Err(RecvTimeoutError::Timeout) => {}
                            Err(RecvTimeoutError::Disconnected) => done.set(true),
                        }
                    }
                })
            };
            let mut random = fastrand::Rng::with_seed(3);
            let mut receivers: Vec<_> = (0..4).map(|i| receive(MS / 20 * i)).collect();
            while !done.get() {
                (0..random.u32(1..20)).for_each(|_| yield_now());
                let place = random.usize(..receivers.len());
                std::mem::replace(&mut receivers[place], receive(EVER)).kill_nowait();
            }
            killall(&receivers);
            // What had been handed to those has come back.
            books.received.lock().unwrap().extend(rx.try_iter().map(|token| token.id));
            senders.join().unwrap();
        });
        natives.into_iter().chain([hub, receiving]).for_each(|thread| thread.join().unwrap());

        let made = books.made.load(Ordering::Relaxed);
        assert_eq!(books.dropped.load(Ordering::Relaxed), made, "dropped once each");
        let received = books.received.lock().unwrap();
        let unique: HashSet<_> = received.iter().copied().collect();
        assert_eq!(unique.len(), received.len(), "received twice");
        let sent = books.sent.lock().unwrap();
        assert!(sent.iter().all(|id| unique.contains(id)), "sent and not received");
    }
}

#[test]
fn destructors_of_items_that_are_left_may_use_the_channel() {
    check(|| {
        struct Item(Sender<Item>, Rc<RefCell<Vec<bool>>>, u32);
        impl Drop for Item {
            fn drop(&mut self) {
                yield_now();
                if self.2 > 0 {
                    let sent = self.0.send(Item(self.0.clone(), self.1.clone(), self.2 - 1)).is_ok();
                    self.1.borrow_mut().push(sent);
                }
            }
        }
        let (tx, rx) = channel();
        let log = Rc::new(RefCell::new(Vec::new()));
        tx.send(Item(tx.clone(), log.clone(), 3)).unwrap();
        tx.send(Item(tx.clone(), log.clone(), 0)).unwrap();
        drop(rx);
        assert_eq!(*log.borrow(), [false; 3]);
        drop(tx);
        assert_eq!(Rc::strong_count(&log), 1, "all are gone");
    });
}

#[test]
fn the_destructor_of_a_killed_senders_item_may_use_the_channel() {
    check(|| {
        struct Item(SyncSender<Option<Item>>, Rc<Receiver<Option<Item>>>, Log);
        impl Drop for Item {
            fn drop(&mut self) {
                assert!(matches!(self.0.try_send(None), Err(TrySendError::Full(None))));
                assert!(matches!(self.1.recv(), Ok(None)));
                self.0.send(None).unwrap();
                self.2.add("dropped");
            }
        }
        let (tx, rx) = sync_channel(1);
        let (rx, log) = (Rc::new(rx), Log::default());
        tx.send(None).unwrap();
        let item = Item(tx.clone(), rx.clone(), log.clone());
        let sending = spawn(move || tx.send(Some(item)).is_ok());
        yield_now();
        sending.kill();
        assert_eq!(log.take(), ["dropped"]);
        assert!(matches!(rx.recv(), Ok(None)));
        assert!(rx.recv().is_err());
    });
}

#[test]
fn a_panic_of_an_items_destructor_leaves_the_others_to_be_dropped() {
    check(|| {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                common::fail::<()>("a destructor");
            }
        }
        let log = Log::default();
        let (tx, rx) = channel::<(Option<Bomb>, OnDrop)>();
        tx.send((Some(Bomb), OnDrop(log.clone(), "first"))).unwrap();
        tx.send((None, OnDrop(log.clone(), "second"))).unwrap();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(rx))).is_err());
        assert_eq!(log.take(), ["first", "second"]);
        assert!(tx.send((None, OnDrop(log.clone(), "third"))).is_err());
    });
}

#[test]
fn receivers_are_waited_for_among_others() {
    check(|| {
        let (tx1, rx1) = channel::<i32>();
        let (tx2, rx2) = sync_channel::<i32>(0);
        let (tx3, rx3) = channel::<i32>();
        let sender = spawn(move || {
            yield_now();
            drop(tx3);
            tx2.send(2).unwrap();
        });
        let mut order = Vec::new();
        for rx in greenroom::iwait([&rx1, &rx2, &rx3]).take(2) {
            order.push(rx.try_recv());
        }
        assert_eq!(order, [Err(TryRecvError::Disconnected), Ok(2)]);
        sender.join().unwrap();
        assert!(greenroom::wait([&rx1], Some(MS), None).is_empty());
        let native = thread::spawn(move || tx1.send(1).unwrap());
        assert_eq!(greenroom::wait([&rx1], None, None).len(), 1);
        assert_eq!(rx1.try_recv(), Ok(1));
        native.join().unwrap();
    });
}

#[test]
fn a_loop_over_items_that_lie_ready_starves_nobody() {
    check(|| {
        let (tx, rx) = channel();
        (0..100_000).for_each(|i| tx.send(i).unwrap());
        let left = Rc::new(Cell::new(usize::MAX));
        let seen = left.clone();
        let other = spawn(move || assert!(seen.get() > 99_000, "{} left", seen.get()));
        for i in rx.iter().take(100_000) {
            left.set(100_000 - i);
        }
        other.join().unwrap();
    });
}

#[test]
fn a_message_from_a_native_thread_wakes_a_task_while_others_run() {
    check(|| {
        let (tx, rx) = channel();
        let (tell, told) = channel();
        let native = thread::spawn(move || {
            let i: i32 = rx.recv().unwrap();
            tell.send(i + 1).unwrap();
        });
        let stop = Rc::new(Cell::new(false));
        let busy = spawn({
            let stop = stop.clone();
            move || {
                while !stop.get() {
                    yield_now();
                }
            }
        });
        tx.send(1).unwrap();
        assert_eq!(soon(|| told.recv()), Ok(2));
        stop.set(true);
        busy.join().unwrap();
        native.join().unwrap();
    });
}
