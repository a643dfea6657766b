//! Random operations against a naive oracle, for each kind of queue.

use std::collections::VecDeque;
use std::rc::Rc;

use greenroom::queue::{Channel, LifoQueue, PriorityQueue, Queue};
use greenroom::{JoinHandle, joinall, spawn, yield_now};

use crate::common::check;
use crate::kinds::Kind;

/// A queue that nobody has thought about for long: all items in one vector, all waiters in two more.
struct Oracle {
    /// By number of the item, which is the order in which they were put.
    items: Vec<u64>,
    order: Order,
    capacity: usize,
    closed: bool,
    unfinished: usize,
    /// By number of the task.
    getters: VecDeque<usize>,
    putters: VecDeque<(usize, u64)>,
    peekers: Vec<usize>,
    /// What each task that is done gave: an item got or seen, one put, or the end.
    done: Vec<(usize, Result<u64, ()>)>,
}

#[derive(Clone, Copy)]
enum Order {
    Fifo,
    Lifo,
    Smallest,
}

impl Oracle {
    fn first(&self) -> Option<usize> {
        match self.order {
            Order::Fifo => (!self.items.is_empty()).then_some(0),
            Order::Lifo => self.items.len().checked_sub(1),
            // Of equal ones the first.
            Order::Smallest => (0..self.items.len()).min_by_key(|place| priority(self.items[*place])),
        }
    }

    fn peek(&self) -> Option<u64> {
        self.first().map(|place| self.items[place]).or(self.putters.front().map(|putter| putter.1))
    }

    fn show(&mut self, item: u64) {
        for peeker in std::mem::take(&mut self.peekers) {
            self.done.push((peeker, Ok(item)));
        }
    }

    fn try_put(&mut self, item: u64) -> Result<(), ()> {
        if self.closed || self.getters.is_empty() && self.items.len() >= self.capacity {
            return Err(());
        }
        self.show(item);
        self.unfinished += 1;
        match self.getters.pop_front() {
            Some(getter) => self.done.push((getter, Ok(item))),
            None => self.items.push(item),
        }
        Ok(())
    }

    fn try_get(&mut self) -> Option<u64> {
        let taken = self.first().map(|place| self.items.remove(place));
        let room = if taken.is_some() { self.capacity } else { self.items.len() + 1 };
        if (taken.is_none() || self.items.len() < room)
            && let Some((putter, item)) = self.putters.pop_front()
        {
            self.done.push((putter, Ok(item)));
            self.unfinished += 1;
            if taken.is_none() {
                return Some(item);
            }
            self.items.push(item);
        }
        taken
    }

    fn close(&mut self) {
        self.closed = true;
        for task in self.getters.drain(..).chain(self.peekers.drain(..)) {
            self.done.push((task, Err(())));
        }
        for (task, _) in self.putters.drain(..) {
            self.done.push((task, Err(())));
        }
    }

    /// A task that is killed while it waits never was, as far as others can tell.
    fn forget(&mut self, task: usize) {
        self.getters.retain(|getter| *getter != task);
        self.putters.retain(|putter| putter.0 != task);
        self.peekers.retain(|peeker| *peeker != task);
    }
}

/// Items are compared by their last digit.
fn priority(item: u64) -> u64 {
    item % 10
}

/// A number that is compared by its last digit.
#[derive(Clone, Copy, Debug)]
struct Digit(u64);

impl Ord for Digit {
    fn cmp(&self, other: &Digit) -> std::cmp::Ordering {
        priority(self.0).cmp(&priority(other.0))
    }
}
impl PartialOrd for Digit {
    fn partial_cmp(&self, other: &Digit) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Digit {
    fn eq(&self, other: &Digit) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Digit {}

/// A priority queue of numbers by their last digit.
#[derive(Debug)]
struct Digits(PriorityQueue<Digit>);

mod digits {
    use super::{Digit, Digits};
    use crate::kinds::Kind;
    use greenroom::Elapsed;
    use greenroom::queue::*;
    use std::time::Duration;

    impl Kind for Digits {
        fn make(capacity: Option<usize>) -> Self {
            Digits(capacity.map_or(PriorityQueue::unbounded(), PriorityQueue::bounded))
        }
        fn put(&self, item: u64) -> Result<(), PutError<u64>> {
            self.0.put(Digit(item)).map_err(|_| PutError::ShutDown(item))
        }
        fn try_put(&self, item: u64) -> Result<(), TryPutError<u64>> {
            self.0.try_put(Digit(item)).map_err(|error| match error {
                TryPutError::Full(_) => TryPutError::Full(item),
                _ => TryPutError::ShutDown(item),
            })
        }
        fn put_timeout(&self, item: u64, timeout: Duration) -> Result<(), PutTimeoutError<u64>> {
            self.0.put_timeout(Digit(item), timeout).map_err(|_| PutTimeoutError::Elapsed(item))
        }
        fn get(&self) -> Result<u64, GetError> {
            self.0.get().map(|digit| digit.0)
        }
        fn try_get(&self) -> Result<u64, TryGetError> {
            self.0.try_get().map(|digit| digit.0)
        }
        fn get_timeout(&self, timeout: Duration) -> Result<u64, GetTimeoutError> {
            self.0.get_timeout(timeout).map(|digit| digit.0)
        }
        fn peek(&self) -> Result<u64, GetError> {
            self.0.peek().map(|digit| digit.0)
        }
        fn try_peek(&self) -> Result<u64, TryGetError> {
            self.0.try_peek().map(|digit| digit.0)
        }
        fn peek_timeout(&self, timeout: Duration) -> Result<u64, GetTimeoutError> {
            self.0.peek_timeout(timeout).map(|digit| digit.0)
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn is_full(&self) -> bool {
            self.0.is_full()
        }
        fn task_done(&self) {
            self.0.task_done();
        }
        fn unfinished(&self) -> usize {
            self.0.unfinished()
        }
        fn join(&self) {
            self.0.join();
        }
        fn join_timeout(&self, timeout: Duration) -> Result<(), Elapsed> {
            self.0.join_timeout(timeout)
        }
        fn shutdown(&self) {
            self.0.shutdown();
        }
        fn shutdown_now(&self) -> Vec<u64> {
            self.0.shutdown_now().into_iter().map(|digit| digit.0).collect()
        }
        fn is_shut_down(&self) -> bool {
            self.0.is_shut_down()
        }
    }
}

/// What a task did: an item got, seen or put; or the end.
type Deed = Result<u64, ()>;

fn run<Q: Kind>(order: Order, capacity: Option<usize>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let queue = Rc::new(Q::make(capacity));
    let mut oracle = Oracle {
        items: Vec::new(),
        order,
        capacity: capacity.unwrap_or(usize::MAX),
        closed: false,
        unfinished: 0,
        getters: VecDeque::new(),
        putters: VecDeque::new(),
        peekers: Vec::new(),
        done: Vec::new(),
    };
    let mut tasks: Vec<Option<JoinHandle<Deed>>> = Vec::new();
    let mut item = 0;
    let steps = random.usize(1..80);
    for step in 0..steps {
        let task = tasks.len();
        let (other, context) = (queue.clone(), format!("seed {seed}, step {step}"));
        match random.u8(..20) {
            // Tasks that may have to wait.
            0..4 => {
                item += random.u64(1..9);
                let put = item;
                tasks.push(Some(spawn(move || other.put(put).map(|()| put).map_err(drop))));
                if oracle.closed {
                    oracle.done.push((task, Err(())));
                } else if oracle.try_put(put).is_ok() {
                    oracle.done.push((task, Ok(put)));
                } else {
                    oracle.show(put);
                    oracle.putters.push_back((task, put));
                }
            }
            4..8 => {
                tasks.push(Some(spawn(move || other.get().map_err(drop))));
                match oracle.try_get() {
                    Some(got) => oracle.done.push((task, Ok(got))),
                    None if oracle.closed => oracle.done.push((task, Err(()))),
                    None => oracle.getters.push_back(task),
                }
            }
            8..10 => {
                tasks.push(Some(spawn(move || other.peek().map_err(drop))));
                match oracle.peek() {
                    Some(seen) => oracle.done.push((task, Ok(seen))),
                    None if oracle.closed => oracle.done.push((task, Err(()))),
                    None => oracle.peekers.push(task),
                }
            }
            // Calls that don't.
            10..13 => {
                item += random.u64(1..9);
                assert_eq!(queue.try_put(item).map_err(drop), oracle.try_put(item), "{context}");
            }
            13..15 => assert_eq!(queue.try_get().ok(), oracle.try_get(), "{context}"),
            15 => assert_eq!(queue.try_peek().ok(), oracle.peek(), "{context}"),
            16 => {
                if oracle.unfinished > 0 {
                    oracle.unfinished -= 1;
                    queue.task_done();
                }
            }
            // Somebody is killed who was just handed an item: it goes to the next, or back.
            17 => {
                if let Some(getter) = oracle.getters.pop_front() {
                    item += random.u64(1..9);
                    queue.try_put(item).unwrap();
                    oracle.show(item);
                    oracle.unfinished += 1;
                    match oracle.getters.pop_front() {
                        Some(next) => oracle.done.push((next, Ok(item))),
                        None => oracle.items.push(item),
                    }
                    tasks[getter].take().unwrap().task().kill();
                }
            }
            // Somebody who waits is killed.
            18 => {
                let waiting: Vec<usize> = (0..tasks.len())
                    .filter(|task| tasks[*task].as_ref().is_some_and(|handle| !handle.is_finished()))
                    .collect();
                if let Some(task) = random.choice(waiting)
                    && !oracle.done.iter().any(|done| done.0 == task)
                {
                    tasks[task].take().unwrap().task().kill();
                    oracle.forget(task);
                }
            }
            _ => {
                if random.u8(..10) == 0 {
                    if random.bool() {
                        queue.shutdown();
                        oracle.close();
                    } else {
                        let left = queue.shutdown_now();
                        oracle.close();
                        let mut expected = Vec::new();
                        while let Some(place) = oracle.first() {
                            expected.push(oracle.items.remove(place));
                        }
                        oracle.unfinished = oracle.unfinished.saturating_sub(expected.len());
                        assert_eq!(left, expected, "{context}");
                    }
                }
            }
        }
        yield_now();
        let full = oracle.getters.is_empty() && oracle.items.len() >= oracle.capacity;
        assert_eq!((queue.len(), queue.is_full()), (oracle.items.len(), full), "{context}");
        assert_eq!((queue.unfinished(), queue.is_shut_down()), (oracle.unfinished, oracle.closed), "{context}");
        // A rendezvous takes another turn.
        yield_now();
        for (task, deed) in oracle.done.drain(..) {
            let handle = tasks[task].take().expect("it is done once");
            assert!(handle.is_finished(), "{context}: task {task}");
            assert_eq!(handle.join().unwrap(), deed, "{context}: task {task}");
        }
        assert!(tasks.iter().flatten().all(|handle| !handle.is_finished()), "{context}");
    }
    queue.shutdown();
    joinall(tasks.into_iter().flatten());
}

fn runs<Q: Kind>(order: Order, capacity: impl Fn(u64) -> Option<usize> + Send + 'static) {
    check(move || {
        for seed in 0..400 {
            run::<Q>(order, capacity(seed), seed);
        }
    });
}

/// 0 to 3, or no bound.
fn any(seed: u64) -> Option<usize> {
    Some(seed as usize % 5).filter(|capacity| *capacity < 4)
}

#[test]
fn a_queue_does_what_its_oracle_says() {
    runs::<Queue<u64>>(Order::Fifo, any);
}

#[test]
fn a_stack_does_what_its_oracle_says() {
    runs::<LifoQueue<u64>>(Order::Lifo, any);
}

#[test]
fn a_priority_queue_does_what_its_oracle_says() {
    runs::<Digits>(Order::Smallest, any);
}

#[test]
fn a_channel_does_what_its_oracle_says() {
    runs::<Channel<u64>>(Order::Fifo, |_| Some(0));
}
