//! std's scenarios for `channel`.

use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError};
use std::time::{Duration, Instant};

use greenroom::sync::mpsc::{Sender, channel};

use super::mode::go;
use crate::{ROUNDS, relax};

const MS: Duration = Duration::from_millis(1);

#[test]
fn smoke() {
    let (tx, rx) = channel();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn drop_full() {
    let (tx, _rx) = channel();
    tx.send(Box::new(1)).unwrap();
}

#[test]
fn drop_full_shared() {
    let (tx, _rx) = channel();
    drop(tx.clone());
    tx.send(Box::new(1)).unwrap();
}

#[test]
fn smoke_shared() {
    let (tx, rx) = channel();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    let tx = tx.clone();
    tx.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
}

#[test]
fn smoke_concurrent() {
    let (tx, rx) = channel();
    let sender = go(move || tx.send(1).unwrap());
    assert_eq!(rx.recv(), Ok(1));
    sender.join().unwrap();
}

#[test]
fn receiver_gone() {
    let (tx, rx) = channel();
    drop(rx);
    assert_eq!(tx.send(1), Err(SendError(1)));
    assert_eq!(tx.clone().send(2), Err(SendError(2)));
}

#[test]
fn receiver_gone_concurrent() {
    for senders in 1..3 {
        let (tx, rx) = channel();
        let receiver = go(move || {
            rx.recv().unwrap();
        });
        let senders: Vec<_> = (1..senders).map(|_| tx.clone()).chain([tx.clone()]).collect();
        while senders.iter().all(|tx| tx.send(1).is_ok()) {
            relax();
        }
        receiver.join().unwrap();
        assert!(tx.send(1).is_err());
    }
}

#[test]
fn senders_gone() {
    let (tx, rx) = channel::<i32>();
    drop(tx.clone());
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError));
}

#[test]
fn senders_gone_concurrent() {
    let (tx, rx) = channel();
    let sender = go(move || {
        tx.send(1).unwrap();
        tx.send(2).unwrap();
    });
    assert_eq!(rx.iter().collect::<Vec<_>>(), [1, 2]);
    sender.join().unwrap();
}

#[test]
fn stress() {
    let (tx, rx) = channel();
    let sender = go(move || (0..10_000).for_each(|_| tx.send(1).unwrap()));
    for _ in 0..10_000 {
        assert_eq!(rx.recv(), Ok(1));
    }
    assert_eq!(rx.recv(), Err(RecvError));
    sender.join().unwrap();
}

#[test]
fn stress_shared() {
    const SENDERS: usize = 8;
    const EACH: usize = 1000;
    let (tx, rx) = channel();
    let receiver = go(move || {
        for _ in 0..SENDERS * EACH {
            assert_eq!(rx.recv(), Ok(1));
        }
        assert!(rx.try_recv().is_err(), "more than was sent");
    });
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let tx = tx.clone();
            go(move || (0..EACH).for_each(|_| tx.send(1).unwrap()))
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    drop(tx);
    receiver.join().unwrap();
}

#[test]
fn from_and_to_a_native_thread() {
    let (tx1, rx1) = channel();
    let (tx2, rx2) = channel();
    let native = std::thread::spawn(move || {
        tx1.send(1).unwrap();
        rx2.iter().sum::<i32>()
    });
    let body = go(move || {
        let first = rx1.recv().unwrap();
        (0..40).for_each(|_| tx2.send(first).unwrap());
    });
    body.join().unwrap();
    assert_eq!(native.join().unwrap(), 40);
}

#[test]
fn oneshot_close_either_end_first() {
    let (tx, rx) = channel::<i32>();
    drop(rx);
    drop(tx);
    let (tx, rx) = channel::<i32>();
    drop(tx);
    drop(rx);
}

#[test]
fn oneshot_send_to_a_closed_end_gives_the_item_back() {
    let (tx, rx) = channel::<Box<i32>>();
    drop(rx);
    assert_eq!(*tx.send(Box::new(7)).unwrap_err().0, 7);
}

#[test]
fn oneshot_recv_from_a_closed_end() {
    let (tx, rx) = channel::<i32>();
    drop(tx);
    assert_eq!(rx.recv().unwrap_err().to_string(), "receiving on a closed channel");
}

#[test]
fn oneshot_send_then_recv() {
    let (tx, rx) = channel::<Box<i32>>();
    tx.send(Box::new(10)).unwrap();
    assert_eq!(*rx.recv().unwrap(), 10);
}

#[test]
fn oneshot_try_recv() {
    let (tx, rx) = channel();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    tx.send(10).unwrap();
    assert_eq!(rx.try_recv(), Ok(10));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    drop(tx);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn oneshot_recv_then_send() {
    let (tx, rx) = channel::<Box<i32>>();
    let receiver = go(move || assert_eq!(*rx.recv().unwrap(), 10));
    tx.send(Box::new(10)).unwrap();
    receiver.join().unwrap();
}

#[test]
fn oneshot_recv_then_close() {
    let (tx, rx) = channel::<Box<i32>>();
    let closer = go(move || drop(tx));
    assert_eq!(rx.recv(), Err(RecvError));
    closer.join().unwrap();
}

#[test]
fn oneshot_close_stress() {
    for _ in 0..ROUNDS {
        let (tx, rx) = channel::<i32>();
        let closer = go(move || drop(rx));
        drop(tx);
        closer.join().unwrap();
    }
}

#[test]
fn oneshot_send_close_stress() {
    for _ in 0..ROUNDS {
        let (tx, rx) = channel::<Box<i32>>();
        let closer = go(move || drop(rx));
        // Whichever is first.
        let _sent = tx.send(Box::new(1));
        closer.join().unwrap();
    }
}

#[test]
fn oneshot_recv_close_stress() {
    for _ in 0..ROUNDS {
        let (tx, rx) = channel::<Box<i32>>();
        let receiver = go(move || assert_eq!(rx.recv(), Err(RecvError)));
        let closer = go(move || drop(tx));
        receiver.join().unwrap();
        closer.join().unwrap();
    }
}

#[test]
fn oneshot_send_recv_stress() {
    for _ in 0..ROUNDS {
        let (tx, rx) = channel::<Box<i32>>();
        let sender = go(move || tx.send(Box::new(10)).unwrap());
        assert_eq!(*rx.recv().unwrap(), 10);
        sender.join().unwrap();
    }
}

#[test]
fn stream_send_recv_stress() {
    for _ in 0..ROUNDS {
        let (tx, rx) = channel::<Box<usize>>();
        // Each step in a body of its own: both ends move from one to the next.
        fn send(tx: Sender<Box<usize>>, i: usize) {
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
fn recv_timeout_of_what_is_there_and_what_is_not() {
    let (tx, rx) = channel();
    tx.send(1).unwrap();
    assert_eq!(rx.recv_timeout(Duration::ZERO), Ok(1));
    let begun = Instant::now();
    assert_eq!(rx.recv_timeout(5 * MS), Err(RecvTimeoutError::Timeout));
    assert!(begun.elapsed() >= 5 * MS);
    tx.send(2).unwrap();
    assert_eq!(rx.recv_timeout(MS), Ok(2));
    drop(tx);
    assert_eq!(rx.recv_timeout(MS), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn stress_recv_timeout() {
    const EACH: usize = 100;
    for senders in [1, 4] {
        let (tx, rx) = channel();
        let senders: Vec<_> = (0..senders)
            .map(|_| {
                let tx = tx.clone();
                go(move || {
                    for i in 0..EACH {
                        if i % 20 == 0 {
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
fn recv_timeout_with_a_clone_about() {
    let (tx, rx) = channel::<()>();
    let clone = tx.clone();
    assert_eq!(rx.recv_timeout(MS), Err(RecvTimeoutError::Timeout));
    drop(clone);
    assert_eq!(rx.recv_timeout(MS), Err(RecvTimeoutError::Timeout));
    tx.clone().send(()).unwrap();
    assert_eq!(rx.recv_timeout(MS), Ok(()));
}

#[test]
fn very_long_recv_timeout_wont_panic() {
    let (tx, rx) = channel();
    let sender = go(move || {
        relax();
        tx.send(()).unwrap();
    });
    assert_eq!(rx.recv_timeout(Duration::from_secs(u64::MAX)), Ok(()));
    assert_eq!(rx.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Disconnected));
    sender.join().unwrap();
}

#[test]
fn recv_a_lot() {
    let (tx, rx) = channel();
    for _ in 0..10_000 {
        tx.send(()).unwrap();
    }
    for _ in 0..10_000 {
        rx.recv().unwrap();
    }
}

#[test]
fn shared_chan_stress() {
    let (tx, rx) = channel();
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
    let (tx, rx) = channel::<i32>();
    let (total_tx, total_rx) = channel::<i32>();
    let adder = go(move || {
        let mut sum = 0;
        for x in rx.iter() {
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
    let (tx, rx) = channel::<i32>();
    let (count_tx, count_rx) = channel();
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
    // It may be gone by then.
    let _sent = tx.send(2);
    drop(tx);
    assert_eq!(count_rx.recv(), Ok(4));
    receiver.join().unwrap();
}

#[test]
fn try_iter_takes_what_is_there() {
    let (request_tx, request_rx) = channel();
    let (response_tx, response_rx) = channel();
    let responder = go(move || {
        while request_rx.recv().is_ok() {
            if response_tx.send(2).is_err() {
                break;
            }
        }
    });
    let mut count = 0;
    while count < 6 {
        count += response_rx.try_iter().sum::<i32>();
        if count < 6 && request_tx.send(()).is_err() {
            break;
        }
        relax();
    }
    assert!(count >= 6);
    drop(request_tx);
    drop(response_rx);
    responder.join().unwrap();
}

#[test]
fn into_iter_owned_and_borrowed() {
    let (tx, rx) = channel::<i32>();
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    assert_eq!((&rx).into_iter().next(), Some(1));
    drop(tx.clone());
    let mut iter = rx.into_iter();
    assert_eq!(iter.next(), Some(2));
    drop(tx);
    assert_eq!(iter.next(), None);
    assert_eq!(iter.next(), None);
}

#[test]
fn try_recv_states() {
    let (tx1, rx1) = channel::<i32>();
    let (tx2, rx2) = channel::<()>();
    let (tx3, rx3) = channel::<()>();
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
    let (tx, rx) = channel();
    let (tx2, rx2) = channel();
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

/// rust-lang/rust#32114
#[test]
fn sending_again_to_a_closed_end() {
    let (tx, _) = channel();
    assert_eq!(tx.send(123), Err(SendError(123)));
    assert_eq!(tx.send(123), Err(SendError(123)));
}
