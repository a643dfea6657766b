//! Many tasks and threads at once, with kills and time-outs: every item exactly once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use greenroom::queue::{Channel, LifoQueue, PriorityQueue, Queue};
use greenroom::{joinall, sleep, spawn, timeout, yield_now};

use crate::common::{MS, check};
use crate::kinds::Kind;

/// What was put and what was got, by number.
#[derive(Default)]
struct Books {
    put: Vec<u64>,
    got: Vec<u64>,
}

/// Two native threads and, on this hub, a thousand tasks that put, get, peek, run out of time and are killed.
fn every_item_exactly_once<Q: Kind>(capacity: Option<usize>) {
    check(move || {
        let queue = Arc::new(Q::make(capacity));
        let natives: Vec<_> = (0..2_u64)
            .map(|native| {
                let queue = queue.clone();
                thread::spawn(move || {
                    let mut books = Books::default();
                    for i in 0..2000 {
                        let item = (native + 1) << 32 | i;
                        match queue.put_timeout(item, Duration::from_micros(i % 50 * 10)) {
                            Ok(()) => books.put.push(item),
                            Err(error) => assert_eq!(error.into_inner(), item),
                        }
                        if let Ok(item) = queue.get_timeout(Duration::from_micros(i % 70 * 5)) {
                            books.got.push(item);
                        }
                    }
                    books
                })
            })
            .collect();

        let books = Rc::new(RefCell::new(Books::default()));
        let tasks: Vec<_> = (0..1000_u64)
            .map(|i| {
                let (queue, books) = (queue.clone(), books.clone());
                spawn(move || {
                    let mut random = fastrand::Rng::with_seed(i);
                    for round in 0..10 {
                        let limit = Duration::from_micros(random.u64(..3000));
                        match random.u8(..8) {
                            0..3 => {
                                let item = (3 << 32) + 100 * i + round;
                                // What is noted was put: the two are not parted by a switch.
                                let mark = Mark::new(&books, item);
                                match timeout(limit, || queue.put(item).map(|()| mark.keep())) {
                                    Ok(Ok(())) | Err(_) => {}
                                    Ok(Err(error)) => assert_eq!(error.into_inner(), item),
                                }
                            }
                            3..6 => {
                                let note = |item| books.borrow_mut().got.push(item);
                                let _ = timeout(limit, || queue.get().map(note));
                            }
                            6 => drop(queue.peek_timeout(limit)),
                            _ => yield_now(),
                        }
                    }
                })
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(99);
        for _ in 0..40 {
            sleep(MS);
            for _ in 0..5 {
                tasks[random.usize(..tasks.len())].task().kill_nowait();
            }
        }
        joinall(tasks);
        let mut books = books.take();
        for native in natives {
            while !native.is_finished() {
                sleep(MS);
            }
            let native = native.join().unwrap();
            books.put.extend(native.put);
            books.got.extend(native.got);
        }
        books.got.extend(queue.shutdown_now());
        books.put.sort_unstable();
        books.got.sort_unstable();
        let got = books.got.len();
        books.got.dedup();
        assert_eq!(got, books.got.len(), "an item was got twice");
        let lost: Vec<_> = books.put.iter().filter(|item| books.got.binary_search(item).is_err()).collect();
        assert!(lost.is_empty(), "put and lost: {lost:?}");
        let strange: Vec<_> = books.got.iter().filter(|item| books.put.binary_search(item).is_err()).collect();
        // A putter that is killed just when its item was taken does not live to note it.
        assert!(strange.iter().all(|item| **item >> 32 == 3), "never put: {strange:?}");
        assert_eq!(queue.len(), 0);
    });
}

/// Notes an item as put, if it is kept.
struct Mark(Rc<RefCell<Books>>, u64);

impl Mark {
    fn new(books: &Rc<RefCell<Books>>, item: u64) -> Mark {
        Mark(books.clone(), item)
    }

    fn keep(self) {
        self.0.borrow_mut().put.push(self.1);
    }
}

#[test]
fn hammer_queue() {
    every_item_exactly_once::<Queue<u64>>(Some(3));
    every_item_exactly_once::<Queue<u64>>(None);
}

#[test]
fn hammer_lifo() {
    every_item_exactly_once::<LifoQueue<u64>>(Some(3));
}

#[test]
fn hammer_priority() {
    every_item_exactly_once::<PriorityQueue<u64>>(Some(3));
}

#[test]
fn hammer_channel() {
    every_item_exactly_once::<Channel<u64>>(None);
}

/// Items that are counted by their destructors: none is leaked, none dropped twice, whoever is killed.
#[test]
fn every_item_is_dropped_once() {
    struct Counted(Arc<Mutex<i64>>);
    impl Drop for Counted {
        fn drop(&mut self) {
            *self.0.lock().unwrap() -= 1;
        }
    }
    check(|| {
        for capacity in [0, 1, 5] {
            let alive = Arc::new(Mutex::new(0));
            let queue = Rc::new(Queue::bounded(capacity));
            let tasks: Vec<_> = (0..300)
                .map(|i| {
                    let (queue, alive) = (queue.clone(), alive.clone());
                    spawn(move || {
                        for round in 0..10 {
                            if (i + round) % 2 == 0 {
                                *alive.lock().unwrap() += 1;
                                drop(queue.put(Counted(alive.clone())));
                            } else {
                                drop(queue.get());
                            }
                        }
                    })
                })
                .collect();
            let mut random = fastrand::Rng::with_seed(capacity as u64);
            for _ in 0..200 {
                tasks[random.usize(..tasks.len())].task().kill_nowait();
                yield_now();
            }
            drop(queue.shutdown_now());
            joinall(tasks);
            drop(queue.shutdown_now());
            assert_eq!(*alive.lock().unwrap(), 0);
        }
    });
}
