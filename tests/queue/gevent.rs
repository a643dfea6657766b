//! The scenarios of gevent's `test__queue`, re-created.

use std::rc::Rc;

use greenroom::queue::{Channel, Queue, TryGetError, TryPutError};
use greenroom::{JoinHandle, joinall, spawn, timeout, yield_now};

use crate::common::{Log, MS, check};

fn getter<T: 'static>(queue: &Rc<Queue<T>>) -> JoinHandle<T> {
    let queue = queue.clone();
    spawn(move || queue.get().unwrap())
}

#[test]
fn test_send_first() {
    check(|| {
        let queue = Rc::new(Queue::unbounded());
        let other = queue.clone();
        spawn(move || other.put("hi").unwrap());
        assert_eq!(queue.peek(), Ok("hi"));
        assert_eq!(queue.get(), Ok("hi"));
    });
}

#[test]
fn test_peek_empty_and_multi_greenlet() {
    check(|| {
        let queue = Rc::new(Queue::bounded(1));
        assert_eq!(queue.try_peek(), Err(TryGetError::Empty));
        assert!(queue.peek_timeout(MS).is_err());
        let other = queue.clone();
        let peeker = spawn(move || other.peek().unwrap());
        yield_now();
        queue.put(42).unwrap();
        assert_eq!(peeker.join().unwrap(), 42);
        assert_eq!(queue.len(), 1);
    });
}

#[test]
fn test_send_last() {
    check(|| {
        let queue = Rc::new(Queue::unbounded());
        let other = queue.clone();
        let waiter = spawn(move || timeout(1000 * MS, || other.get().unwrap()));
        yield_now();
        queue.put("hi").unwrap();
        assert_eq!(waiter.join().unwrap(), Ok("hi"));
    });
}

#[test]
fn test_max_size() {
    check(|| {
        let (queue, log) = (Rc::new(Queue::bounded(2)), Log::default());
        let (other, other_log) = (queue.clone(), log.clone());
        let putter = spawn(move || {
            for item in ["a", "b", "c"] {
                other.put(item).unwrap();
                other_log.add(item);
            }
        });
        yield_now();
        assert_eq!(log.take(), ["a", "b"]);
        assert_eq!(queue.get(), Ok("a"));
        yield_now();
        assert_eq!(log.take(), ["c"]);
        assert_eq!((queue.get(), queue.get()), (Ok("b"), Ok("c")));
        putter.join().unwrap();
    });
}

#[test]
fn test_zero_max_size() {
    check(|| {
        let channel = Rc::new(Channel::new());
        let other = channel.clone();
        let sender = spawn(move || other.put("hi").unwrap());
        yield_now();
        assert!(!sender.is_finished());
        let other = channel.clone();
        let receiver = spawn(move || other.get().unwrap());
        assert_eq!(receiver.join().unwrap(), "hi");
        sender.join().unwrap();
    });
}

#[test]
fn test_multiple_waiters() {
    check(|| {
        let queue = Rc::new(Queue::unbounded());
        let waiters = [getter(&queue), getter(&queue), getter(&queue)];
        yield_now();
        queue.put(1).unwrap();
        yield_now();
        assert_eq!(waiters.iter().filter(|waiter| waiter.is_finished()).count(), 1);
        queue.put(2).unwrap();
        queue.put(4).unwrap();
        assert_eq!(joinall(waiters).into_iter().map(|item| item.unwrap()).sum::<i32>(), 7);
    });
}

#[test]
fn test_waiters_that_cancel() {
    check(|| {
        let queue = Rc::new(Queue::unbounded());
        let other = queue.clone();
        let waiter = spawn(move || timeout(MS, || other.get()).is_err());
        assert!(waiter.join().unwrap(), "timed out");
        queue.put("hi").unwrap();
        assert_eq!(queue.get(), Ok("hi"));
    });
}

#[test]
fn test_senders_that_die() {
    check(|| {
        let queue = Rc::new(Queue::unbounded());
        let other = queue.clone();
        let sender = spawn(move || other.put("sent").unwrap());
        assert_eq!(queue.get(), Ok("sent"));
        sender.join().unwrap();
    });
}

#[test]
fn test_two_waiters_one_dies() {
    check(|| {
        let queue = Rc::new(Queue::unbounded());
        let other = queue.clone();
        let dying = spawn(move || other.get_timeout(MS));
        let waiter = getter(&queue);
        assert!(dying.join().unwrap().is_err());
        queue.put("hi").unwrap();
        assert_eq!(waiter.join().unwrap(), "hi");
    });
}

#[test]
fn test_two_bogus_waiters() {
    check(|| {
        let queue = Rc::new(Queue::unbounded());
        let bogus: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                spawn(move || queue.get_timeout(MS))
            })
            .collect();
        assert!(joinall(bogus).into_iter().all(|result| result.unwrap().is_err()));
        queue.put("sent").unwrap();
        assert_eq!(queue.get(), Ok("sent"));
    });
}

#[test]
fn test_channel_send_and_receive() {
    check(|| {
        let (channel, log) = (Rc::new(Channel::new()), Log::default());
        let (other, other_log) = (channel.clone(), log.clone());
        let greenlet = spawn(move || {
            for item in ["hello", "world"] {
                other_log.add("sending");
                other.put(item).unwrap();
                other_log.add(format!("sent {item}"));
            }
        });
        yield_now();
        for _ in 0..2 {
            let item = channel.get().unwrap();
            log.add(format!("got {item}"));
            yield_now();
        }
        greenlet.join().unwrap();
        assert_eq!(log.take(), ["sending", "got hello", "sent hello", "sending", "got world", "sent world"]);
    });
}

#[test]
fn test_channel_with_the_receiver_first() {
    check(|| {
        let (channel, log) = (Rc::new(Channel::new()), Log::default());
        let (other, other_log) = (channel.clone(), log.clone());
        let receiver = spawn(move || {
            for _ in 0..2 {
                other_log.add(format!("got {}", other.get().unwrap()));
            }
        });
        yield_now();
        for item in ["hello", "world"] {
            channel.put(item).unwrap();
            log.add(format!("sent {item}"));
        }
        receiver.join().unwrap();
        assert_eq!(log.take(), ["got hello", "sent hello", "got world", "sent world"]);
    });
}

#[test]
fn test_nowait() {
    check(|| {
        // Put and get without waiting, as long as it goes.
        let queue = Rc::new(Queue::bounded(1));
        assert_eq!((queue.try_put(2), queue.try_put(3)), (Ok(()), Err(TryPutError::Full(3))));
        assert_eq!((queue.try_get(), queue.try_get()), (Ok(2), Err(TryGetError::Empty)));

        // Each unlocks who waits on the other side.
        let waiter = getter(&queue);
        yield_now();
        queue.try_put(5).unwrap();
        assert_eq!(waiter.join().unwrap(), 5);
        queue.put(6).unwrap();
        let other = queue.clone();
        let putter = spawn(move || other.put(7).unwrap());
        yield_now();
        assert_eq!(queue.try_get(), Ok(6));
        putter.join().unwrap();
        assert_eq!(queue.try_get(), Ok(7));

        // Through a channel too.
        let channel = Rc::new(Channel::new());
        let other = channel.clone();
        let putter = spawn(move || other.put(8).unwrap());
        yield_now();
        assert_eq!(channel.try_get(), Ok(8));
        putter.join().unwrap();
        let other = channel.clone();
        let waiter = spawn(move || other.get().unwrap());
        yield_now();
        channel.try_put(9).unwrap();
        assert_eq!(waiter.join().unwrap(), 9);
    });
}

/// Issue 45: joining a queue that never held anything does not wait.
#[test]
fn test_join_empty() {
    check(|| {
        Queue::<u8>::unbounded().join();
        Channel::<u8>::new().join();
    });
}

/// `TestPutInterrupt`, `TestGetInterrupt`: what waits can be ended from outside.
#[test]
fn test_interrupts() {
    check(|| {
        let (full, empty, channel) =
            (Rc::new(Queue::bounded(1)), Rc::new(Queue::<u8>::unbounded()), Rc::new(Channel::new()));
        full.put(1).unwrap();
        let (f, e, c) = (full.clone(), empty.clone(), channel.clone());
        let waiting = [
            spawn(move || f.put(2).unwrap()),
            spawn(move || assert!(e.get().is_err())),
            spawn(move || c.put(3).unwrap()),
        ];
        yield_now();
        for task in &waiting {
            task.kill();
        }
        assert_eq!(full.shutdown_now(), [1]);
        assert!(channel.try_get().is_err());
    });
}

/// A queue that is full of those who wait to put, and those who then get, exchange everything.
#[test]
fn test_many_on_both_sides() {
    check(|| {
        for capacity in [0, 1, 3] {
            let queue = Rc::new(Queue::bounded(capacity));
            let putters: Vec<_> = (0..50)
                .map(|i| {
                    let queue = queue.clone();
                    spawn(move || queue.put(i).unwrap())
                })
                .collect();
            let getters: Vec<_> = (0..50).map(|_| getter(&queue)).collect();
            joinall(putters);
            let got: Vec<_> = joinall(getters).into_iter().map(|item| item.unwrap()).collect();
            assert_eq!(got, (0..50).collect::<Vec<_>>());
        }
    });
}
