//! The order of items, and of those who wait for them.

use std::cmp::Reverse;
use std::rc::Rc;

use greenroom::queue::{Channel, LifoQueue, PriorityQueue, Queue, TryPutError};
use greenroom::{joinall, spawn, yield_now};

use crate::common::{Log, check};
use crate::kinds::{Kind, for_all};

#[test]
fn a_queue_gives_the_oldest_first_a_stack_the_newest_a_priority_queue_the_smallest() {
    let items = [5, 1, 4, 2, 3];
    assert_eq!(Queue::from_iter(items).try_iter().collect::<Vec<_>>(), [5, 1, 4, 2, 3]);
    assert_eq!(LifoQueue::from_iter(items).try_iter().collect::<Vec<_>>(), [3, 2, 4, 1, 5]);
    assert_eq!(PriorityQueue::from_iter(items).try_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let largest_first: PriorityQueue<_> = items.into_iter().map(Reverse).collect();
    assert_eq!(largest_first.get().unwrap(), Reverse(5));
}

/// Ordered by its first field only.
#[derive(Clone, Debug)]
struct Job(u32, &'static str);

impl PartialEq for Job {
    fn eq(&self, other: &Job) -> bool {
        self.0 == other.0
    }
}
impl Eq for Job {}
impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Job) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Job {
    fn cmp(&self, other: &Job) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

#[test]
fn of_equal_priorities_the_one_that_was_put_first_comes_out_first() {
    let queue = PriorityQueue::unbounded();
    for job in [Job(1, "a"), Job(0, "b"), Job(1, "c"), Job(0, "d"), Job(1, "e"), Job(0, "f")] {
        queue.put(job).unwrap();
    }
    let order: String = queue.try_iter().map(|job| job.1).collect();
    assert_eq!(order, "bdface");
}

#[test]
fn an_equal_item_that_came_back_from_a_killed_getter_is_still_the_first_of_its_kind() {
    check(|| {
        let queue = Rc::new(PriorityQueue::unbounded());
        let other = queue.clone();
        let getter = spawn(move || other.get().unwrap());
        yield_now();
        for job in [Job(1, "a"), Job(1, "b"), Job(0, "c"), Job(1, "d")] {
            queue.put(job).unwrap();
        }
        getter.kill();
        let order: String = queue.try_iter().map(|job| job.1).collect();
        assert_eq!(order, "cabd");
    });
}

fn getters_are_served_in_the_order_in_which_they_came<Q: Kind>() {
    let (queue, log) = (Rc::new(Q::make(None)), Log::default());
    let getters: Vec<_> = (0..3)
        .map(|i| {
            let (queue, log) = (queue.clone(), log.clone());
            spawn(move || log.add(format!("{i} got {}", queue.get().unwrap())))
        })
        .collect();
    yield_now();
    for item in 0..3 {
        queue.put(item).unwrap();
    }
    assert!(queue.try_get().is_err(), "all were handed over");
    assert_eq!(queue.len(), 0);
    joinall(getters);
    assert_eq!(log.take(), ["0 got 0", "1 got 1", "2 got 2"]);
}

#[test]
fn getters_in_order() {
    for_all!(getters_are_served_in_the_order_in_which_they_came);
    check(getters_are_served_in_the_order_in_which_they_came::<Channel<u64>>);
}

fn putters_are_served_in_the_order_in_which_they_came<Q: Kind>() {
    let (queue, log) = (Rc::new(Q::make(Some(1))), Log::default());
    let putters: Vec<_> = (0..4)
        .map(|i| {
            let (queue, log) = (queue.clone(), log.clone());
            spawn(move || {
                queue.put(i).unwrap();
                log.add(i.to_string());
            })
        })
        .collect();
    yield_now();
    // Each get lets the next putter in, so there never is room for who comes later.
    for i in 0..3 {
        assert_eq!(queue.try_put(9), Err(TryPutError::Full(9)), "after {i} gets");
        assert_eq!(queue.get().unwrap(), i);
    }
    yield_now();
    assert_eq!(log.take(), ["0", "1", "2", "3"]);
    assert_eq!(queue.get().unwrap(), 3);
    joinall(putters);
}

#[test]
fn putters_in_order() {
    for_all!(putters_are_served_in_the_order_in_which_they_came);
}

#[test]
fn a_rendezvous_is_received_and_then_sent_whoever_comes_first() {
    check(|| {
        for getter_first in [true, false] {
            let (channel, log) = (Rc::new(Channel::new()), Log::default());
            let (other, other_log) = (channel.clone(), log.clone());
            let put = move || {
                other_log.add("sending");
                other.put("item").unwrap();
                other_log.add("sent");
            };
            let (other, other_log) = (channel, log.clone());
            let get = move || {
                other_log.add("receiving");
                other.get().unwrap();
                other_log.add("received");
            };
            let expected = if getter_first {
                joinall([spawn(get), spawn(put)]);
                ["receiving", "sending", "received", "sent"]
            } else {
                joinall([spawn(put), spawn(get)]);
                ["sending", "receiving", "received", "sent"]
            };
            assert_eq!(log.take(), expected);
        }
    });
}

#[test]
fn a_channel_has_no_room_and_knows_who_waits() {
    check(|| {
        let channel = Rc::new(Channel::new());
        assert_eq!(channel.try_put(1), Err(TryPutError::Full(1)));
        let other = channel.clone();
        let getter = spawn(move || other.get().unwrap());
        yield_now();
        assert!(!channel.is_full(), "somebody waits");
        channel.try_put(2).unwrap();
        assert!(channel.is_full());
        assert_eq!(getter.join().unwrap(), 2);

        let other = channel.clone();
        let putter = spawn(move || other.put(3).unwrap());
        yield_now();
        assert_eq!((channel.len(), channel.try_get()), (0, Ok(3)));
        putter.join().unwrap();
    });
}

#[test]
fn a_queue_bounded_to_nothing_is_a_channel() {
    check(|| {
        let queue = Rc::new(Queue::bounded(0));
        assert_eq!(queue.try_put(1), Err(TryPutError::Full(1)));
        let other = queue.clone();
        let putter = spawn(move || other.put(2).unwrap());
        yield_now();
        assert!(!putter.is_finished());
        assert_eq!(queue.get(), Ok(2));
        putter.join().unwrap();
    });
}

#[test]
fn items_need_not_be_send_on_one_thread() {
    check(|| {
        let queue = Rc::new(Queue::bounded(1));
        let other = queue.clone();
        let putter = spawn(move || (0..10).for_each(|i| other.put(Rc::new(i)).unwrap()));
        for i in 0..10 {
            assert_eq!(*queue.get().unwrap(), i);
        }
        putter.join().unwrap();
    });
}

#[test]
fn destructors_of_items_may_use_the_queue() {
    /// Puts a number when dropped.
    struct Again(Rc<Queue<u32>>, Rc<Queue<Again>>);
    impl Drop for Again {
        fn drop(&mut self) {
            self.0.put(1).unwrap();
            let _ = self.1.try_get();
            let _ = (self.1.len(), format!("{:?}", self.1));
        }
    }
    check(|| {
        let (counts, items) = (Rc::new(Queue::unbounded()), Rc::new(Queue::bounded(2)));
        let again = || Again(counts.clone(), items.clone());
        items.put(again()).unwrap();
        items.put(again()).unwrap();
        // Comes back in the error, and takes another one out when it is dropped, and so on.
        assert!(items.try_put(again()).is_err());
        assert_eq!((counts.len(), items.len()), (3, 0));

        // The item of a getter that was killed after it was handed it, with a queue that is shut down.
        let other = items.clone();
        let getter = spawn(move || drop(other.get()));
        yield_now();
        items.put(again()).unwrap();
        items.shutdown();
        getter.kill();
        drop(items.shutdown_now());
        assert_eq!(counts.len(), 4);

        // The item of a putter that is killed while it waits.
        let full = Rc::new(Queue::bounded(0));
        let (other, item) = (full.clone(), Again(counts.clone(), full.clone()));
        let putter = spawn(move || drop(other.put(item)));
        yield_now();
        putter.kill();
        assert_eq!(counts.len(), 5);
    });
}
