//! Rule 7 where threads share what is waited for: a report when this is the last thread, none while another could help. A
//! program of its own, for the harness of tests has a thread more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use greenroom::sync::{AsyncResult, BoundedSemaphore, Event, Mutex, ReentrantMutex, Semaphore};
use greenroom::{Builder, Waitable, killall, spawn, wait, yield_now};

/// The report of the deadlock that `f` runs into, and how long that took.
fn report(f: impl FnOnce()) -> (String, Duration) {
    let begun = Instant::now();
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it should be stuck");
    let text = payload.downcast::<String>().expect("a report");
    assert!(text.starts_with("deadlock: "), "{text}");
    (*text, begun.elapsed())
}

fn says(report: &str, waits: &str) {
    assert!(report.lines().any(|line| line.contains(waits)), "not a word of {waits:?} in {report}");
}

fn the_last_thread_is_told_at_once() {
    let semaphore = Semaphore::new(0);
    let (text, took) = report(|| drop(semaphore.acquire()));
    says(&text, "'root', waits for a permit of a semaphore");
    assert!(took < Duration::from_millis(900), "{took:?}");
    // It has left the line.
    semaphore.release(1);
    assert!(semaphore.try_acquire().is_some());

    says(&report(|| Event::new().wait()).0, "'root', waits for an event");
    says(&report(|| _ = AsyncResult::<i32>::new().get()).0, "'root', waits for an async result");
    let bounded = BoundedSemaphore::new(1);
    let permit = bounded.acquire();
    says(&report(|| drop(bounded.acquire())).0, "'root', waits for a permit of a semaphore");
    let event = Event::new();
    let objects: [&dyn Waitable; 2] = [&event, &bounded];
    says(&report(|| drop(wait(objects, None, None))).0, "'root', waits for one of several objects");
    drop(permit);
    assert_eq!(wait(objects, None, Some(1)).len(), 1);
}

fn a_report_names_every_task() {
    let (mutex, reentrant) = (Rc::new(Mutex::new(())), Rc::new(ReentrantMutex::new(())));
    let (one, two) = (mutex.clone(), reentrant.clone());
    let first = Builder::new().name("first".into()).spawn(move || {
        let _one = one.lock();
        yield_now();
        let _two = two.lock();
    });
    let (one, two) = (mutex, reentrant);
    let second = Builder::new().name("second".into()).spawn(move || {
        let _two = two.lock();
        yield_now();
        let _one = one.lock();
    });
    let second = second.unwrap();
    let (text, _) = report(|| drop(second.join()));
    says(&text, "'first'");
    assert_eq!(text.matches("waits for a lock").count(), 2, "{text}");
    killall([first.unwrap().task()]);
    yield_now();
}

/// While a thread lives that shares the object there is no report, and it may well help.
fn a_thread_that_lives_may_help() {
    let event = Arc::new(Event::new());
    let there = event.clone();
    let native = thread::spawn(move || {
        // Past the first doubt of the hub.
        thread::sleep(Duration::from_millis(1200));
        there.set();
    });
    event.wait();
    native.join().unwrap();
}

/// A thread that ends without a word is missed a second later, or so.
fn a_thread_that_ended_is_missed() {
    let event = Arc::new(Event::new());
    let there = event.clone();
    let native = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(there);
    });
    let (text, took) = report(|| event.wait());
    assert!(native.is_finished());
    assert!(took < Duration::from_millis(2500), "{took:?}");
    says(&text, "'root', waits for an event");
    native.join().unwrap();
}

/// A task that waits for another in vain is not hidden by one whose wait is shared.
fn a_wait_that_is_not_shared_is_stuck_with_the_shared_one() {
    let event = Rc::new(Event::new());
    let there = event.clone();
    let task = spawn(move || there.wait());
    let (text, _) = report(|| drop(task.join()));
    says(&text, "waits for an event");
    event.set();
    yield_now();
}

fn main() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|text| text.starts_with("deadlock: ")) {
            print(info);
        }
    }));
    // Without a hub it would be a native thread, which waits for ever.
    spawn(|| ()).join().unwrap();
    the_last_thread_is_told_at_once();
    a_report_names_every_task();
    a_thread_that_lives_may_help();
    a_thread_that_ended_is_missed();
    a_wait_that_is_not_shared_is_stuck_with_the_shared_one();
}
