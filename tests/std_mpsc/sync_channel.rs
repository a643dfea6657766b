//! std's scenarios for `sync_channel`.

use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};
use std::time::Duration;

use greenroom::sync::mpsc::{SyncSender, channel, sync_channel};

use super::mode::go;
use crate::{ROUNDS, relax};

const MS: Duration = Duration::from_millis(1);

#[test]
fn smoke() {
    let (tx, rx) = sync_channel(1);
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn drop_full() {
    let (tx, _rx) = sync_channel(1);
    tx.send(Box::new(1)).unwrap();
}

#[test]
fn smoke_shared() {
    let (tx, rx) = sync_channel(1);
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    let tx = tx.clone();
    tx.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
}

#[test]
fn recv_timeout() {
    let (tx, rx) = sync_channel(1);
    assert_eq!(rx.recv_timeout(MS), Err(RecvTimeoutError::Timeout));
    tx.send(1).unwrap();
    assert_eq!(rx.recv_timeout(MS), Ok(1));
}

#[test]
fn smoke_concurrent() {
    let (tx, rx) = sync_channel(0);
    let sender = go(move || tx.send(1).unwrap());
    assert_eq!(rx.recv(), Ok(1));
    sender.join().unwrap();
}

#[test]
fn receiver_gone() {
    for bound in 0..2 {
        let (tx, rx) = sync_channel(bound);
        drop(rx);
        assert_eq!(tx.send(1), Err(SendError(1)));
        assert_eq!(tx.clone().send(2), Err(SendError(2)));
    }
}

#[test]
fn receiver_gone_concurrent() {
    for senders in 1..3 {
        let (tx, rx) = sync_channel(0);
        let receiver = go(move || {
            rx.recv().unwrap();
        });
        let senders: Vec<_> = (1..senders).map(|_| tx.clone()).chain([tx.clone()]).collect();
        while senders.iter().all(|tx| tx.send(1).is_ok()) {}
        receiver.join().unwrap();
        assert!(tx.send(1).is_err());
    }
}

#[test]
fn senders_gone() {
    let (tx, rx) = sync_channel::<i32>(0);
    drop(tx.clone());
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError));
}

#[test]
fn senders_gone_concurrent() {
    let (tx, rx) = sync_channel(0);
    let sender = go(move || {
        tx.send(1).unwrap();
        tx.send(2).unwrap();
    });
    assert_eq!(rx.iter().collect::<Vec<_>>(), [1, 2]);
    sender.join().unwrap();
}

#[test]
fn stress() {
    const ITEMS: usize = 2000;
    for bound in [0, 1, 3] {
        let (tx, rx) = sync_channel(bound);
        let sender = go(move || (0..ITEMS).for_each(|i| tx.send(i).unwrap()));
        for i in 0..ITEMS {
            assert_eq!(rx.recv(), Ok(i));
        }
        assert_eq!(rx.recv(), Err(RecvError));
        sender.join().unwrap();
    }
}

#[test]
fn stress_recv_timeout() {
    const EACH: usize = 200;
    for (senders, bound) in [(1, 0), (4, 0), (4, 1)] {
        let (tx, rx) = sync_channel(bound);
        let senders: Vec<_> = (0..senders)
            .map(|_| {
                let tx = tx.clone();
                go(move || {
                    for i in 0..EACH {
                        if i % 50 == 0 {
                            greenroom::sleep(2 * MS);
                        }
                        tx.send(1).unwrap();
                    }
                })
            })
            .collect();
        drop(tx);
        let mut received = 0;
        loop {
            match rx.recv_timeout(MS) {
                Ok(item) => received += item,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        assert_eq!(received, senders.len() * EACH);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
}

#[test]
fn stress_shared() {
    const SENDERS: usize = 8;
    const EACH: usize = 200;
    let (tx, rx) = sync_channel(0);
    let (done_tx, done_rx) = sync_channel(0);
    let receiver = go(move || {
        for _ in 0..SENDERS * EACH {
            assert_eq!(rx.recv(), Ok(1));
        }
        assert!(rx.try_recv().is_err());
        done_tx.send(()).unwrap();
    });
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let tx = tx.clone();
            go(move || (0..EACH).for_each(|_| tx.send(1).unwrap()))
        })
        .collect();
    drop(tx);
    done_rx.recv().unwrap();
    receiver.join().unwrap();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn oneshot_close_either_end_first() {
    let (tx, rx) = sync_channel::<i32>(0);
    drop(rx);
    drop(tx);
    let (tx, rx) = sync_channel::<i32>(0);
    drop(tx);
    drop(rx);
}

#[test]
fn oneshot_send_to_a_closed_end_gives_the_item_back() {
    let (tx, rx) = sync_channel::<Box<i32>>(0);
    drop(rx);
    assert_eq!(*tx.send(Box::new(7)).unwrap_err().0, 7);
    match tx.try_send(Box::new(8)) {
        Err(TrySendError::Disconnected(item)) => assert_eq!(*item, 8),
        other => panic!("{other:?}"),
    }
}

#[test]
fn oneshot_recv_from_a_closed_end() {
    let (tx, rx) = sync_channel::<i32>(0);
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError));
}

#[test]
fn oneshot_send_then_recv() {
    let (tx, rx) = sync_channel::<Box<i32>>(1);
    tx.send(Box::new(10)).unwrap();
    assert_eq!(*rx.recv().unwrap(), 10);
}

#[test]
fn oneshot_try_send() {
    let (tx, rx) = sync_channel::<i32>(1);
    assert_eq!(tx.try_send(10), Ok(()));
    assert_eq!(rx.recv(), Ok(10));
    let (tx, rx) = sync_channel::<i32>(0);
    drop(rx);
    assert_eq!(tx.try_send(10), Err(TrySendError::Disconnected(10)));
    let (tx, _rx) = sync_channel::<i32>(0);
    assert_eq!(tx.try_send(10), Err(TrySendError::Full(10)));
}

#[test]
fn oneshot_try_recv() {
    let (tx, rx) = sync_channel(1);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    tx.send(10).unwrap();
    assert_eq!(rx.try_recv(), Ok(10));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    drop(tx);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn oneshot_try_recv_of_what_was_sent_before_the_end() {
    let (tx, rx) = sync_channel(1);
    tx.send(1).unwrap();
    drop(tx);
    assert_eq!(rx.try_recv(), Ok(1));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn oneshot_recv_then_send() {
    let (tx, rx) = sync_channel::<Box<i32>>(0);
    let receiver = go(move || assert_eq!(*rx.recv().unwrap(), 10));
    tx.send(Box::new(10)).unwrap();
    receiver.join().unwrap();
}

#[test]
fn oneshot_recv_then_close() {
    let (tx, rx) = sync_channel::<Box<i32>>(0);
    let closer = go(move || drop(tx));
    assert_eq!(rx.recv(), Err(RecvError));
    closer.join().unwrap();
}

#[test]
fn oneshot_close_stress() {
    for _ in 0..ROUNDS {
        let (tx, rx) = sync_channel::<i32>(0);
        let closer = go(move || drop(rx));
        drop(tx);
        closer.join().unwrap();
    }
}

#[test]
fn oneshot_send_close_stress() {
    for _ in 0..ROUNDS {
        let (tx, rx) = sync_channel::<Box<i32>>(0);
        let closer = go(move || drop(rx));
        assert_eq!(*tx.send(Box::new(1)).unwrap_err().0, 1);
        closer.join().unwrap();
    }
}

#[test]
fn oneshot_recv_close_stress() {
    for _ in 0..ROUNDS {
        let (tx, rx) = sync_channel::<Box<i32>>(0);
        let receiver = go(move || assert_eq!(rx.recv(), Err(RecvError)));
        let closer = go(move || drop(tx));
        receiver.join().unwrap();
        closer.join().unwrap();
    }
}

#[test]
fn oneshot_send_recv_stress() {
    for _ in 0..ROUNDS {
        let (tx, rx) = sync_channel::<Box<i32>>(0);
        let sender = go(move || tx.send(Box::new(10)).unwrap());
        assert_eq!(*rx.recv().unwrap(), 10);
        sender.join().unwrap();
    }
}

#[test]
fn stream_send_recv_stress() {
    for _ in 0..ROUNDS {
        let (tx, rx) = sync_channel::<Box<usize>>(0);
        // Each step in a body of its own: both ends move from one to the next.
        fn send(tx: SyncSender<Box<usize>>, i: usize) {
            if i == 10 {
                return;
            }
            drop(go(move || {
                tx.send(Box::new(i)).unwrap();
                send(tx, i + 1);
            }));
        }
        send(tx, 0);
        let mut rx = rx;
        for i in 0..10 {
            rx = go(move || {
                assert_eq!(*rx.recv().unwrap(), i);
                rx
            })
            .join()
            .unwrap();
        }
        assert_eq!(rx.recv(), Err(RecvError));
    }
}

#[test]
fn recv_a_lot() {
    let (tx, rx) = sync_channel(10_000);
    for _ in 0..10_000 {
        tx.send(()).unwrap();
    }
    assert_eq!(tx.try_send(()), Err(TrySendError::Full(())));
    for _ in 0..10_000 {
        rx.recv().unwrap();
    }
}

#[test]
fn shared_chan_stress() {
    let (tx, rx) = sync_channel(0);
    let senders: Vec<_> = (0..50)
        .map(|_| {
            let tx = tx.clone();
            go(move || tx.send(()).unwrap())
        })
        .collect();
    for _ in 0..50 {
        rx.recv().unwrap();
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn nested_recv_iter() {
    let (tx, rx) = sync_channel::<i32>(0);
    let (total_tx, total_rx) = sync_channel::<i32>(0);
    let adder = go(move || {
        let mut sum = 0;
        for x in &rx {
            sum += x;
        }
        total_tx.send(sum).unwrap();
    });
    tx.send(3).unwrap();
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    drop(tx);
    assert_eq!(total_rx.recv(), Ok(6));
    adder.join().unwrap();
}

#[test]
fn recv_iter_break() {
    let (tx, rx) = sync_channel::<i32>(0);
    let (count_tx, count_rx) = sync_channel(0);
    let receiver = go(move || {
        let mut count = 0;
        for x in rx.iter() {
            if count >= 3 {
                break;
            }
            count += x;
        }
        count_tx.send(count).unwrap();
    });
    for _ in 0..3 {
        tx.send(2).unwrap();
    }
    // Nobody may wait for it.
    let _sent = tx.try_send(2);
    drop(tx);
    assert_eq!(count_rx.recv(), Ok(4));
    receiver.join().unwrap();
}

#[test]
fn try_recv_states() {
    let (tx1, rx1) = sync_channel::<i32>(1);
    let (tx2, rx2) = sync_channel::<()>(1);
    let (tx3, rx3) = sync_channel::<()>(1);
    let sender = go(move || {
        rx2.recv().unwrap();
        tx1.send(1).unwrap();
        tx3.send(()).unwrap();
        rx2.recv().unwrap();
        drop(tx1);
        tx3.send(()).unwrap();
    });
    assert_eq!(rx1.try_recv(), Err(TryRecvError::Empty));
    tx2.send(()).unwrap();
    rx3.recv().unwrap();
    assert_eq!(rx1.try_recv(), Ok(1));
    assert_eq!(rx1.try_recv(), Err(TryRecvError::Empty));
    tx2.send(()).unwrap();
    rx3.recv().unwrap();
    assert_eq!(rx1.try_recv(), Err(TryRecvError::Disconnected));
    sender.join().unwrap();
}

/// rust-lang/rust: a receiver used to be destroyed while a sender woke it.
#[test]
fn receiver_is_dropped_while_a_sender_is_still_active() {
    let (tx, rx) = sync_channel(0);
    let (tx2, rx2) = sync_channel(0);
    let receiver = go(move || {
        rx.recv().unwrap();
        drop(rx);
        tx2.send(()).unwrap();
    });
    for _ in 0..ROUNDS {
        relax();
    }
    let clone = tx.clone();
    drop(tx);
    clone.send(()).unwrap();
    rx2.recv().unwrap();
    receiver.join().unwrap();
    assert!(clone.send(()).is_err());
}

#[test]
fn send_that_is_received() {
    let (tx, rx) = sync_channel::<i32>(0);
    let receiver = go(move || rx.recv().unwrap());
    assert_eq!(tx.send(1), Ok(()));
    assert_eq!(receiver.join().unwrap(), 1);
}

#[test]
fn send_while_the_receiver_goes() {
    let (tx, rx) = sync_channel::<i32>(0);
    let closer = go(move || drop(rx));
    assert_eq!(tx.send(1), Err(SendError(1)));
    closer.join().unwrap();
}

#[test]
fn send_that_waits_for_room_while_the_receiver_goes() {
    let (tx, rx) = sync_channel::<i32>(1);
    assert_eq!(tx.send(1), Ok(()));
    let closer = go(move || drop(rx));
    assert_eq!(tx.send(2), Err(SendError(2)));
    closer.join().unwrap();
}

#[test]
fn several_senders_that_wait_while_the_receiver_goes() {
    let (tx, rx) = sync_channel::<i32>(0);
    let (done, dones) = channel();
    let senders: Vec<_> = (0..2)
        .map(|i| {
            let (tx, done) = (tx.clone(), done.clone());
            go(move || {
                assert_eq!(tx.send(i), Err(SendError(i)));
                done.send(()).unwrap();
            })
        })
        .collect();
    drop(rx);
    dones.recv().unwrap();
    dones.recv().unwrap();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn try_send_to_nobody() {
    let (tx, _rx) = sync_channel::<i32>(0);
    assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
}

#[test]
fn try_send_to_the_full_and_the_gone() {
    let (tx, rx) = sync_channel::<i32>(1);
    assert_eq!(tx.try_send(1), Ok(()));
    assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
    drop(rx);
    assert_eq!(tx.try_send(1), Err(TrySendError::Disconnected(1)));
}

/// rust-lang/rust#15761
#[test]
fn try_send_to_a_receiver_that_waits() {
    for _ in 0..ROUNDS {
        let (tx1, rx1) = sync_channel::<()>(3);
        let (tx2, rx2) = sync_channel::<()>(3);
        let partner = go(move || {
            rx1.recv().unwrap();
            tx2.try_send(()).unwrap();
        });
        tx1.try_send(()).unwrap();
        rx2.recv().unwrap();
        partner.join().unwrap();
    }
}
