//! Looking at an item that stays.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::rc::Rc;

use greenroom::queue::{Channel, PriorityQueue, Queue, TryGetError};
use greenroom::{joinall, spawn, yield_now};

use crate::common::{MS, check, fail, panic_of};
use crate::kinds::{Kind, for_all};

fn a_peeker_sees_what_a_getter_would_get<Q: Kind>() {
    let queue = Q::make(None);
    assert_eq!(queue.try_peek(), Err(TryGetError::Empty));
    assert!(queue.peek_timeout(MS).unwrap_err().is_elapsed());
    for item in [2, 3, 1, 2] {
        queue.put(item).unwrap();
    }
    while let Ok(seen) = queue.try_peek() {
        assert_eq!((queue.peek(), queue.peek_timeout(MS), queue.try_get()), (Ok(seen), Ok(seen), Ok(seen)));
    }
    assert_eq!(queue.unfinished(), 4, "looking is not putting");
}

#[test]
fn sees_the_first() {
    for_all!(a_peeker_sees_what_a_getter_would_get);
}

fn peekers_see_the_next_item_and_the_getter_behind_them_gets_it<Q: Kind>() {
    let queue = Rc::new(Q::make(Some(1)));
    let peek = || {
        let queue = queue.clone();
        spawn(move || queue.peek().unwrap())
    };
    let (first, second) = (peek(), peek());
    let other = queue.clone();
    let getter = spawn(move || other.get().unwrap());
    yield_now();
    queue.put(7).unwrap();
    assert_eq!(queue.len(), 0, "the getter has it");
    assert_eq!((first.join().unwrap(), second.join().unwrap(), getter.join().unwrap()), (7, 7, 7));
    assert_eq!((queue.len(), queue.unfinished()), (0, 1));

    // Without a getter it stays.
    let peeker = peek();
    yield_now();
    queue.put(8).unwrap();
    assert_eq!((peeker.join().unwrap(), queue.try_get()), (8, Ok(8)));
}

#[test]
fn sees_the_next() {
    for_all!(peekers_see_the_next_item_and_the_getter_behind_them_gets_it);
    check(|| {
        let channel = Rc::new(Channel::new());
        let other = channel.clone();
        let peeker = spawn(move || other.peek().unwrap());
        yield_now();
        assert!(channel.try_put(1).is_err(), "a look takes nothing");
        let other = channel.clone();
        let putter = spawn(move || other.put(2).unwrap());
        assert_eq!(peeker.join().unwrap(), 2);
        assert!(!putter.is_finished());
        assert_eq!((channel.try_peek(), channel.get()), (Ok(2), Ok(2)));
        putter.join().unwrap();
    });
}

fn a_killed_peeker_leaves_no_trace<Q: Kind>() {
    let queue = Rc::new(Q::make(None));
    let peek = || {
        let queue = queue.clone();
        spawn(move || queue.peek().unwrap())
    };
    let (first, second, third) = (peek(), peek(), peek());
    yield_now();
    first.kill();
    queue.put(1).unwrap();
    second.kill();
    assert_eq!(third.join().unwrap(), 1);
    assert_eq!((queue.len(), queue.get()), (1, Ok(1)));
}

#[test]
fn killed() {
    for_all!(a_killed_peeker_leaves_no_trace);
}

#[test]
fn a_peeker_sees_an_item_that_comes_back() {
    check(|| {
        let queue = Rc::new(PriorityQueue::unbounded());
        let other = queue.clone();
        let getter = spawn(move || other.get().unwrap());
        yield_now();
        queue.put(1).unwrap();
        let other = queue.clone();
        // Its turn comes before the getter's would.
        getter.kill_nowait();
        let peeker = spawn(move || other.peek().unwrap());
        assert_eq!(peeker.join().unwrap(), 1);
        assert_eq!(queue.try_get(), Ok(1));
    });
}

/// Clones as it is told; counts those that exist.
struct Copied {
    how: Rc<dyn Fn()>,
    alive: Rc<Cell<i32>>,
}

impl Copied {
    fn new(alive: &Rc<Cell<i32>>, how: impl Fn() + 'static) -> Copied {
        alive.set(alive.get() + 1);
        Copied { how: Rc::new(how), alive: alive.clone() }
    }
}

impl Clone for Copied {
    fn clone(&self) -> Copied {
        (self.how)();
        self.alive.set(self.alive.get() + 1);
        Copied { how: self.how.clone(), alive: self.alive.clone() }
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

#[test]
fn a_clone_that_panics_is_the_peekers_affair() {
    check(|| {
        let (queue, alive) = (Rc::new(Queue::unbounded()), Rc::new(Cell::new(0)));
        let peek = || {
            let queue = queue.clone();
            spawn(move || drop(queue.peek()))
        };
        let (first, second) = (peek(), peek());
        let other = queue.clone();
        let getter = spawn(move || drop(other.get().unwrap()));
        yield_now();
        queue.put(Copied::new(&alive, || fail("no copy"))).unwrap();
        getter.join().unwrap();
        for peeker in [first, second] {
            let Err(error) = peeker.join() else { panic!("it has no copy") };
            assert_eq!(error.message(), Some("no copy"));
        }
        assert_eq!(alive.get(), 0);

        // One that is there already.
        queue.put(Copied::new(&alive, || fail("no copy"))).unwrap();
        assert_eq!(panic_of(|| queue.peek()), "no copy");
        assert_eq!(panic_of(|| queue.try_peek()), "no copy");
        assert_eq!((queue.len(), alive.get()), (1, 1));
        // A killed peeker with a panic in its hands.
        drop(queue.get());
        let peeker = peek();
        yield_now();
        queue.put(Copied::new(&alive, || fail("no copy"))).unwrap();
        peeker.kill();
        drop(queue.shutdown_now());
        assert_eq!(alive.get(), 0);
    });
}

#[test]
fn a_clone_that_uses_the_queue_or_waits_panics_and_the_queue_is_as_it_was() {
    check(|| {
        let (queue, alive) = (Rc::new(Queue::unbounded()), Rc::new(Cell::new(0)));
        let other = Rc::downgrade(&queue);
        queue
            .put(Copied::new(&alive, move || {
                let queue: Rc<Queue<Copied>> = other.upgrade().unwrap();
                let _ = queue.len();
            }))
            .unwrap();
        assert!(panic_of(|| queue.peek()).contains("uses the object that it is called by"));
        drop(queue.get());
        queue.put(Copied::new(&alive, greenroom::park)).unwrap();
        assert!(panic_of(|| queue.peek()).contains("a call that has to wait, where nothing may"));
        assert_eq!((queue.len(), alive.get()), (1, 1));
        assert!(queue.get().is_ok());
        assert!(queue.try_get().is_err_and(|error| error.is_empty()));
    });
}

#[test]
fn a_copy_that_nobody_wants_any_more_is_dropped() {
    check(|| {
        let (queue, alive) = (Rc::new(Queue::unbounded()), Rc::new(Cell::new(0)));
        let other = queue.clone();
        let peeker = spawn(move || drop(other.peek()));
        yield_now();
        queue.put(Copied::new(&alive, || {})).unwrap();
        assert_eq!(alive.get(), 2);
        peeker.kill();
        assert_eq!((alive.get(), queue.len()), (1, 1));
        drop(queue.get());
        assert_eq!(alive.get(), 0);
    });
}

#[test]
fn a_look_that_is_not_taken_is_dropped_when_the_queue_is_free_again() {
    struct Uses<'a>(&'a Queue<u8>);
    impl Drop for Uses<'_> {
        fn drop(&mut self) {
            assert_eq!(self.0.len(), 0);
        }
    }
    let queue = Queue::unbounded();
    let uses = Uses(&queue);
    let looked = queue.try_peek_with(move |_| {
        let _uses = &uses;
    });
    assert_eq!(looked, Err(TryGetError::Empty));
}

#[test]
fn a_look_that_panics_leaves_the_item() {
    let queue = Queue::from_iter([String::from("word")]);
    assert_eq!(queue.try_peek_with(|word| word.len()), Ok(4));
    assert_eq!(panic_of(|| queue.try_peek_with(|_| resume_unwind(Box::new("look")))), "look");
    assert_eq!(queue.get().unwrap(), "word");
}

#[test]
fn a_hundred_peekers_see_one_item_and_one_getter_gets_it() {
    check(|| {
        let queue = Rc::new(Queue::unbounded());
        let peekers: Vec<_> = (0..100)
            .map(|_| {
                let queue = queue.clone();
                spawn(move || queue.peek().unwrap())
            })
            .collect();
        yield_now();
        queue.put(5).unwrap();
        assert!(joinall(peekers).into_iter().all(|seen| seen.unwrap() == 5));
        assert_eq!((queue.try_get(), queue.try_get()), (Ok(5), Err(TryGetError::Empty)));
    });
}
