//! Those who are killed or run out of time while they wait.

use std::rc::Rc;
use std::time::Duration;

use greenroom::queue::{Channel, GetTimeoutError, LifoQueue, PutTimeoutError, Queue};
use greenroom::{joinall, killall, spawn, timeout, yield_now};

use crate::common::{EVER, MS, check};
use crate::kinds::{Kind, for_all};

fn a_getter_killed_after_it_was_handed_an_item_passes_it_on<Q: Kind>() {
    let queue = Rc::new(Q::make(None));
    let get = || {
        let queue = queue.clone();
        spawn(move || queue.get().unwrap())
    };
    let (first, second) = (get(), get());
    yield_now();
    queue.try_put(7).unwrap();
    first.kill_nowait();
    assert_eq!(second.join().unwrap(), 7);
    assert!(first.join().unwrap_err().is_killed());
    assert_eq!((queue.len(), queue.unfinished()), (0, 1));
}

#[test]
fn killed_getter_passes_on() {
    for_all!(a_getter_killed_after_it_was_handed_an_item_passes_it_on);
    check(a_getter_killed_after_it_was_handed_an_item_passes_it_on::<Channel<u64>>);
}

fn an_item_that_nobody_else_waits_for_goes_back<Q: Kind>() {
    let queue = Rc::new(Q::make(Some(1)));
    let other = queue.clone();
    let getter = spawn(move || other.get().unwrap());
    yield_now();
    queue.try_put(7).unwrap();
    getter.kill();
    assert_eq!((queue.len(), queue.unfinished()), (1, 1));
    assert_eq!(queue.try_peek(), Ok(7));
    assert_eq!(queue.try_get(), Ok(7));
}

#[test]
fn killed_getter_gives_back() {
    for_all!(an_item_that_nobody_else_waits_for_goes_back);
    // A channel keeps it for the next who gets.
    check(an_item_that_nobody_else_waits_for_goes_back::<Channel<u64>>);
}

#[test]
fn items_go_back_to_where_they_were_in_whatever_order_their_getters_die() {
    check(|| {
        for reversed in [false, true] {
            let (queue, stack) = (Rc::new(Queue::unbounded()), Rc::new(LifoQueue::unbounded()));
            let mut getters: Vec<_> = (0..3)
                .flat_map(|_| {
                    let (queue, stack) = (queue.clone(), stack.clone());
                    [spawn(move || queue.get().unwrap()), spawn(move || stack.get().unwrap())]
                })
                .collect();
            yield_now();
            for item in 0..5 {
                queue.put(item).unwrap();
                stack.put(item).unwrap();
            }
            if reversed {
                getters.reverse();
            }
            getters.iter().for_each(|getter| getter.task().kill_nowait());
            assert!(joinall(getters).into_iter().all(|result| result.is_err()));
            assert_eq!(queue.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
            assert_eq!(stack.try_iter().collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
        }
    });
}

#[test]
fn an_item_that_came_back_may_exceed_the_capacity_and_keeps_putters_out() {
    check(|| {
        let queue = Rc::new(Queue::bounded(1));
        let other = queue.clone();
        let getter = spawn(move || other.get().unwrap());
        yield_now();
        queue.put(1).unwrap();
        queue.put(2).unwrap();
        getter.kill();
        assert_eq!((queue.len(), queue.is_full()), (2, true));
        let other = queue.clone();
        let putter = spawn(move || other.put(3).unwrap());
        yield_now();
        assert_eq!(queue.get(), Ok(1));
        assert_eq!(queue.len(), 1, "still no room");
        assert_eq!((queue.get(), queue.get()), (Ok(2), Ok(3)));
        putter.join().unwrap();
    });
}

fn a_killed_putter_has_put_nothing<Q: Kind>() {
    let queue = Rc::new(Q::make(Some(1)));
    queue.put(1).unwrap();
    let put = |item| {
        let queue = queue.clone();
        spawn(move || queue.put(item).unwrap())
    };
    let (first, second) = (put(2), put(3));
    yield_now();
    first.kill();
    assert_eq!((queue.get(), queue.get()), (Ok(1), Ok(3)));
    second.join().unwrap();
    assert_eq!((queue.len(), queue.unfinished()), (0, 2));
}

#[test]
fn killed_putter() {
    for_all!(a_killed_putter_has_put_nothing);
}

fn what_was_taken_from_a_putter_stays_taken_if_he_is_killed_then<Q: Kind>() {
    let queue = Rc::new(Q::make(Some(0)));
    let other = queue.clone();
    let putter = spawn(move || other.put(1).unwrap());
    yield_now();
    assert_eq!(queue.get(), Ok(1));
    putter.kill();
    assert_eq!((queue.len(), queue.unfinished()), (0, 1));
}

#[test]
fn taken_stays_taken() {
    for_all!(what_was_taken_from_a_putter_stays_taken_if_he_is_killed_then);
    check(what_was_taken_from_a_putter_stays_taken_if_he_is_killed_then::<Channel<u64>>);
}

fn time_outs_leave_no_trace<Q: Kind>() {
    let queue = Rc::new(Q::make(Some(0)));
    for timeout in [Duration::ZERO, MS] {
        assert_eq!(queue.put_timeout(1, timeout), Err(PutTimeoutError::Elapsed(1)));
        assert_eq!(queue.get_timeout(timeout), Err(GetTimeoutError::Elapsed));
        assert_eq!(queue.peek_timeout(timeout), Err(GetTimeoutError::Elapsed));
    }
    assert!(timeout(MS, || queue.put(2)).is_err());
    assert!(timeout(MS, || queue.get()).is_err());
    assert!(timeout(MS, || queue.peek()).is_err());
    assert_eq!((queue.len(), queue.unfinished(), queue.is_full()), (0, 0, true));
    assert!(queue.try_get().is_err() && queue.try_put(3).is_err());
    queue.join();
    // Enough time is as good as none.
    let other = queue.clone();
    let putter = spawn(move || other.put_timeout(4, EVER).unwrap());
    assert_eq!(queue.get_timeout(Duration::MAX), Ok(4));
    putter.join().unwrap();
}

#[test]
fn time_outs() {
    for_all!(time_outs_leave_no_trace);
    check(time_outs_leave_no_trace::<Channel<u64>>);
}

#[test]
fn a_hundred_killed_waiters_on_each_side_leave_no_trace() {
    check(|| {
        let queue = Rc::new(Queue::bounded(1));
        let getters: Vec<_> = (0..100)
            .map(|_| {
                let queue = queue.clone();
                spawn(move || queue.get().ok())
            })
            .collect();
        yield_now();
        killall(getters.iter().map(|task| task.task()));
        queue.put(0).unwrap();
        let putters: Vec<_> = (0..100)
            .map(|i| {
                let queue = queue.clone();
                spawn(move || queue.put(i).err().map(|error| error.into_inner()))
            })
            .collect();
        yield_now();
        killall(putters.iter().map(|task| task.task()));
        joinall(getters.into_iter().chain(putters));
        assert_eq!((queue.get(), queue.len(), queue.unfinished()), (Ok(0), 0, 1));
    });
}

#[test]
fn a_joiner_that_is_killed_leaves_the_others_waiting() {
    check(|| {
        let queue = Rc::new(Queue::unbounded());
        queue.put(1).unwrap();
        let join = || {
            let queue = queue.clone();
            spawn(move || queue.join())
        };
        let (first, second) = (join(), join());
        yield_now();
        first.kill();
        assert!(!second.is_finished());
        queue.task_done();
        second.join().unwrap();
    });
}
