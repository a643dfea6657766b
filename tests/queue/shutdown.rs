//! The end of a queue, and the end of all its items.

use std::rc::Rc;

use greenroom::queue::{Channel, GetError, LifoQueue, PriorityQueue, PutError, Queue, TryGetError, TryPutError};
use greenroom::{iwait, joinall, spawn, wait, yield_now};

use crate::common::{MS, check, panic_of};
use crate::kinds::{Kind, for_all};

fn what_is_there_is_drained_and_then_it_ends<Q: Kind>() {
    let queue = Q::make(None);
    for item in [1, 2] {
        queue.put(item).unwrap();
    }
    queue.shutdown();
    assert!(queue.is_shut_down());
    assert_eq!(queue.put(3), Err(PutError::ShutDown(3)));
    assert_eq!(queue.try_put(3), Err(TryPutError::ShutDown(3)));
    assert!(queue.put_timeout(3, MS).unwrap_err().is_shut_down());
    assert!(queue.try_peek().is_ok());
    assert_eq!(queue.until_end().len(), 2);
    assert_eq!(queue.get(), Err(GetError::ShutDown));
    assert_eq!(queue.try_get(), Err(TryGetError::ShutDown));
    assert!(queue.get_timeout(MS).unwrap_err().is_shut_down());
    assert!(queue.peek().is_err() && queue.peek_timeout(MS).unwrap_err().is_shut_down());
    queue.shutdown();
    assert_eq!(queue.unfinished(), 2, "they were got, and nobody said that they are done");
}

#[test]
fn drained() {
    for_all!(what_is_there_is_drained_and_then_it_ends);
}

fn everybody_who_waits_hears_of_it<Q: Kind>() {
    for now in [false, true] {
        let shut = |queue: &Q| {
            if now {
                return queue.shutdown_now();
            }
            queue.shutdown();
            Vec::new()
        };
        let queue = Rc::new(Q::make(Some(1)));
        let getters: Vec<_> = (0..3)
            .map(|i| {
                let queue = queue.clone();
                spawn(move || if i == 1 { queue.peek() } else { queue.get() })
            })
            .collect();
        yield_now();
        assert_eq!(shut(&queue), []);
        for result in joinall(getters) {
            assert_eq!(result.unwrap(), Err(GetError::ShutDown));
        }

        let queue = Rc::new(Q::make(Some(1)));
        queue.put(9).unwrap();
        let putters: Vec<_> = (0..3)
            .map(|i| {
                let queue = queue.clone();
                spawn(move || queue.put(i))
            })
            .collect();
        yield_now();
        assert_eq!(shut(&queue).len(), usize::from(now));
        for (i, result) in joinall(putters).into_iter().enumerate() {
            assert_eq!(result.unwrap(), Err(PutError::ShutDown(i as u64)), "it has its item back");
        }
        assert_eq!(queue.until_end().len(), usize::from(!now));
    }
}

#[test]
fn everybody_hears() {
    for_all!(everybody_who_waits_hears_of_it);
}

#[test]
fn those_at_a_channel_hear_of_it() {
    check(|| {
        let channel = Rc::new(Channel::new());
        let other = channel.clone();
        let putter = spawn(move || other.put(1));
        yield_now();
        channel.shutdown();
        assert_eq!(putter.join().unwrap(), Err(PutError::ShutDown(1)));
        let channel = Rc::new(Channel::<u8>::new());
        let other = channel.clone();
        let getter = spawn(move || other.get());
        yield_now();
        assert_eq!(channel.shutdown_now(), []);
        assert_eq!(getter.join().unwrap(), Err(GetError::ShutDown));
    });
}

#[test]
fn shutdown_now_gives_what_was_left_in_order() {
    let items = [3, 1, 2];
    assert_eq!(Queue::from_iter(items).shutdown_now(), [3, 1, 2]);
    assert_eq!(LifoQueue::from_iter(items).shutdown_now(), [2, 1, 3]);
    assert_eq!(PriorityQueue::from_iter(items).shutdown_now(), [1, 2, 3]);
}

#[test]
fn shutdown_now_counts_what_was_left_as_done() {
    check(|| {
        let queue = Rc::new(Queue::from_iter(0..3));
        assert_eq!(queue.get(), Ok(0));
        let other = queue.clone();
        let joiner = spawn(move || other.join());
        yield_now();
        assert_eq!(queue.shutdown_now(), [1, 2]);
        yield_now();
        assert!(!joiner.is_finished(), "one is still being worked on");
        queue.task_done();
        joiner.join().unwrap();

        let queue = Rc::new(Queue::from_iter(0..3));
        let other = queue.clone();
        let joiner = spawn(move || other.join());
        yield_now();
        queue.shutdown_now();
        joiner.join().unwrap();
    });
}

#[test]
fn after_shutdown_an_item_of_a_killed_getter_is_not_lost() {
    check(|| {
        let queue = Rc::new(Queue::unbounded());
        let other = queue.clone();
        let getter = spawn(move || other.get());
        yield_now();
        queue.put(1).unwrap();
        assert_eq!(queue.shutdown_now(), [], "it is on its way");
        getter.kill();
        assert_eq!(queue.get(), Ok(1));
    });
}

fn join_waits_for_every_item<Q: Kind>() {
    let queue = Rc::new(Q::make(None));
    queue.join();
    for item in 0..5 {
        queue.put(item).unwrap();
    }
    let joiners: Vec<_> = (0..2)
        .map(|_| {
            let queue = queue.clone();
            spawn(move || queue.join())
        })
        .collect();
    assert!(queue.join_timeout(MS).is_err());
    for left in (0..5).rev() {
        queue.get().unwrap();
        yield_now();
        assert!(joiners.iter().all(|joiner| !joiner.is_finished()));
        queue.task_done();
        assert_eq!(queue.unfinished(), left);
    }
    joinall(joiners);
    // It can be used again.
    queue.put(1).unwrap();
    assert!(queue.join_timeout(MS).is_err());
    queue.task_done();
    assert!(queue.join_timeout(MS).is_ok());
}

#[test]
fn join() {
    for_all!(join_waits_for_every_item);
}

#[test]
fn an_item_counts_from_when_it_was_put_and_not_while_its_putter_waits() {
    check(|| {
        let queue = Rc::new(Queue::bounded(1));
        let other = queue.clone();
        let putter = spawn(move || (0..2).for_each(|i| other.put(i).unwrap()));
        yield_now();
        assert_eq!(queue.unfinished(), 1);
        queue.get().unwrap();
        assert_eq!(queue.unfinished(), 2);
        putter.join().unwrap();
    });
}

#[test]
fn task_done_too_often_panics_and_changes_nothing() {
    let queue = Queue::from_iter([1]);
    queue.task_done();
    assert!(panic_of(|| queue.task_done()).contains("task_done was called more often"));
    queue.put(2).unwrap();
    assert_eq!(queue.unfinished(), 1);
}

fn loops_end_when_it_is_shut_down_and_drained<Q: Kind>() {
    let queue = Rc::new(Q::make(Some(2)));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let queue = queue.clone();
            spawn(move || queue.until_end().into_iter().sum::<u64>())
        })
        .collect();
    for item in 1..=100 {
        queue.put(item).unwrap();
    }
    queue.shutdown();
    assert_eq!(joinall(workers).into_iter().map(|sum| sum.unwrap()).sum::<u64>(), 5050);
}

#[test]
fn loops_end() {
    for_all!(loops_end_when_it_is_shut_down_and_drained);
    check(loops_end_when_it_is_shut_down_and_drained::<Channel<u64>>);
    check(|| {
        let queue = Queue::from_iter(0..3);
        queue.shutdown();
        let mut seen = Vec::new();
        for item in &queue {
            seen.push(item);
        }
        assert_eq!(seen, [0, 1, 2]);
    });
}

#[test]
fn queues_can_be_waited_for_among_others() {
    check(|| {
        let (queue, channel, ended) =
            (Rc::new(Queue::unbounded()), Rc::new(Channel::new()), Rc::new(Queue::<u8>::unbounded()));
        let (q, c, e) = (queue.clone(), channel.clone(), ended.clone());
        let script = spawn(move || {
            let putter = spawn(move || c.put(1).unwrap());
            yield_now();
            yield_now();
            q.put(1).unwrap();
            yield_now();
            e.shutdown();
            putter.join().unwrap();
        });
        let objects: [&dyn greenroom::Waitable; 3] = [&*queue, &*channel, &*ended];
        let order: Vec<usize> = iwait(objects)
            .map(|ready| objects.iter().position(|object| std::ptr::addr_eq(*object, ready)).unwrap())
            .collect();
        assert_eq!(order, [1, 0, 2]);
        assert_eq!(wait(objects, None, None).len(), 3, "nothing was taken");
        assert_eq!((queue.try_get(), channel.try_get()), (Ok(1), Ok(1)));
        assert_eq!(wait([&*queue], Some(MS), None).len(), 0);
        script.join().unwrap();
    });
}
