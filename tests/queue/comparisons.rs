//! A priority queue's comparisons: code of the user's that may do as it likes.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::rc::Rc;

use greenroom::queue::PriorityQueue;
use greenroom::{Task, sleep, spawn, yield_now};

use crate::common::{MS, check, fail, panic_of};

thread_local! {
    /// What a comparison does before it compares.
    static BEFORE: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
    static ALIVE: Cell<i32> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Item(u32);

impl Item {
    fn new(number: u32) -> Item {
        ALIVE.set(ALIVE.get() + 1);
        Item(number)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        ALIVE.set(ALIVE.get() - 1);
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Item) -> Ordering {
        let before = BEFORE.with_borrow(Clone::clone);
        if let Some(before) = before {
            before();
        }
        self.0.cmp(&other.0)
    }
}
impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        self.0 == other.0
    }
}
impl Eq for Item {}

/// Has every comparison do this while `f` runs.
fn comparing<R>(before: impl Fn() + 'static, f: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            BEFORE.set(None);
        }
    }
    BEFORE.set(Some(Rc::new(before)));
    let _reset = Reset;
    f()
}

fn filled(numbers: impl IntoIterator<Item = u32>) -> Rc<PriorityQueue<Item>> {
    Rc::new(numbers.into_iter().map(Item::new).collect())
}

fn numbers(queue: &PriorityQueue<Item>) -> Vec<u32> {
    queue.try_iter().map(|item| item.0).collect()
}

#[test]
fn one_that_panics_leaves_the_queue_as_it_was() {
    check(|| {
        // At each of the first comparisons that an operation makes.
        for after in 0..6 {
            let queue = filled([4, 2, 6, 1, 5, 3, 7, 0]);
            let fuse = move || {
                let left = Rc::new(Cell::new(after));
                move || match left.get() {
                    0 => fail("no order"),
                    more => left.set(more - 1),
                }
            };
            let put = comparing(fuse(), || {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.put(Item::new(0))))
            });
            let expected = if put.is_err() { 8 } else { 9 };
            assert_eq!(
                (queue.len(), queue.unfinished(), ALIVE.get()),
                (expected, expected, expected as i32),
                "it was dropped"
            );
            let got =
                comparing(fuse(), || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.get().unwrap().0)));
            let expected = if got.is_err() { expected } else { expected - 1 };
            assert_eq!((queue.len(), ALIVE.get()), (expected, expected as i32));
            let mut all = numbers(&queue);
            all.extend(got.ok());
            all.sort_unstable();
            let sorted: Vec<u32> = if put.is_err() { (0..8).collect() } else { [0].into_iter().chain(0..8).collect() };
            assert_eq!(all, sorted);
            assert_eq!(ALIVE.get(), 0);
        }
    });
}

#[test]
fn the_order_survives_comparisons_that_panic() {
    check(|| {
        let mut random = fastrand::Rng::with_seed(7);
        let queue = filled([]);
        for _ in 0..300 {
            let number = random.u32(..100);
            let (odds, put) = (random.u32(2..9), random.bool());
            let seed = random.u64(..);
            let dice = RefCell::new(fastrand::Rng::with_seed(seed));
            let panics = move || {
                if dice.borrow_mut().u32(..odds) == 0 {
                    fail::<()>("no order");
                }
            };
            let _ = comparing(panics, || {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    if put { drop(queue.put(Item::new(number))) } else { drop(queue.try_get()) }
                }))
            });
            assert_eq!(ALIVE.get(), queue.len() as i32);
        }
        let rest = numbers(&queue);
        assert!(rest.is_sorted(), "{rest:?}");
    });
}

#[test]
fn one_that_uses_the_same_queue_panics_with_a_reason() {
    check(|| {
        let queue = filled([1, 2, 3]);
        let uses: [fn(&PriorityQueue<Item>); 6] = [
            |queue| drop(queue.try_get()),
            |queue| drop(queue.get()),
            |queue| drop(queue.put(Item::new(9))),
            |queue| queue.shutdown(),
            |queue| queue.try_peek_with(|_| ()).unwrap(),
            |queue| drop(format!("{queue:?}")),
        ];
        for use_it in uses {
            let other = queue.clone();
            let text = comparing(move || use_it(&other), || panic_of(|| queue.put(Item::new(0))));
            assert!(text.contains("uses the object that it is called by"), "{text}");
            let other = queue.clone();
            let text = comparing(move || use_it(&other), || panic_of(|| queue.get()));
            assert!(text.contains("uses the object that it is called by"), "{text}");
        }
        assert_eq!((queue.len(), ALIVE.get()), (3, 3));
        assert_eq!(numbers(&queue), [1, 2, 3]);
    });
}

#[test]
fn one_that_waits_panics_with_a_reason_and_one_that_yields_does_not_switch() {
    check(|| {
        let queue = filled([1, 2, 3]);
        let text = comparing(greenroom::park, || panic_of(|| queue.put(Item::new(0))));
        assert!(text.contains("where nothing may"), "{text}");
        let ran = Rc::new(Cell::new(false));
        let flag = ran.clone();
        let other = spawn(move || flag.set(true));
        comparing(yield_now, || queue.put(Item::new(0)).unwrap());
        assert!(!ran.get());
        // Others can be used.
        let others = filled([8, 7]);
        let inner = others.clone();
        comparing(move || assert_eq!(inner.len(), 2), || queue.get().unwrap());
        other.join().unwrap();
        assert_eq!(numbers(&queue), [1, 2, 3]);
        drop(others);
        assert_eq!(ALIVE.get(), 0);
    });
}

#[test]
fn one_that_kills_its_own_task_is_met_at_the_next_wait() {
    check(|| {
        let queue = filled([1, 2, 3]);
        let other = queue.clone();
        let task = spawn(move || {
            let me: Task = greenroom::current();
            comparing(move || me.kill_nowait(), || other.put(Item::new(0)).unwrap());
            sleep(MS);
            unreachable!("it was killed");
        });
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(numbers(&queue), [0, 1, 2, 3]);
    });
}

#[test]
fn an_item_that_comes_back_is_not_compared_by_the_one_who_unwinds() {
    check(|| {
        let queue = filled([]);
        let other = queue.clone();
        let getter = spawn(move || drop(other.get()));
        yield_now();
        for number in [5, 1, 9] {
            queue.put(Item::new(number)).unwrap();
        }
        comparing(|| fail("no order"), || getter.kill());
        assert_eq!((queue.len(), ALIVE.get()), (3, 3));
        // Who gets next compares, and if that panics, nothing is lost.
        comparing(
            || fail("no order"),
            || {
                assert_eq!(panic_of(|| queue.get()), "no order");
                assert_eq!(panic_of(|| queue.try_peek_with(|_| ())), "no order");
            },
        );
        assert_eq!(numbers(&queue), [1, 5, 9]);
    });
}

#[test]
fn the_items_of_those_who_waited_for_room_are_sorted_in_by_who_gets_next() {
    check(|| {
        let queue = Rc::new(PriorityQueue::bounded(2));
        let putters: Vec<_> = [5, 4, 3, 2, 1]
            .into_iter()
            .map(|number| {
                let queue = queue.clone();
                spawn(move || queue.put(Item::new(number)).unwrap())
            })
            .collect();
        yield_now();
        // The first two were in when the others came.
        let order: Vec<u32> = (0..5).map(|_| queue.get().unwrap().0).collect();
        assert_eq!(order, [4, 3, 2, 1, 5]);
        greenroom::joinall(putters);
    });
}

#[test]
fn shutdown_now_gives_items_out_when_comparing_fails_only_if_sorted() {
    check(|| {
        let queue = filled([3, 1, 2]);
        let text = comparing(|| fail("no order"), || panic_of(|| queue.shutdown_now()));
        assert_eq!(text, "no order");
        assert!(queue.is_shut_down() && queue.is_empty());
        assert_eq!((queue.unfinished(), ALIVE.get()), (0, 0), "they were dropped by the unwind");
    });
}

#[test]
fn a_comparison_may_not_wait_on_a_thread_without_a_hub_either() {
    struct Waits(&'static greenroom::sync::Event);
    impl Ord for Waits {
        fn cmp(&self, _: &Waits) -> std::cmp::Ordering {
            self.0.wait();
            std::cmp::Ordering::Equal
        }
    }
    impl PartialOrd for Waits {
        fn partial_cmp(&self, other: &Waits) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl PartialEq for Waits {
        fn eq(&self, _: &Waits) -> bool {
            true
        }
    }
    impl Eq for Waits {}

    static NEVER: greenroom::sync::Event = greenroom::sync::Event::new();
    let queue = greenroom::queue::PriorityQueue::unbounded();
    queue.put(Waits(&NEVER)).unwrap();
    let text = panic_of(|| queue.put(Waits(&NEVER)).unwrap());
    assert!(text.contains("where nothing may"), "{text}");
    assert_eq!(queue.len(), 1);
}
