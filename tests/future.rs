//! What `greenroom::future` promises: `block_on` parks only its task, wakers may be called whenever and from wherever, and
//! handles, generators and receivers speak to async code.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Future, pending, poll_fn, ready};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;

use common::{Count, EVER, Log, MS, OnDrop, check, fail, in_child, panic_of, soon, stderr};
use greenroom::future::{FusedStream, Stream, block_on};
use greenroom::generator::{Generator, Yielder};
use greenroom::sync::mpsc as channels;
use greenroom::{
    HubHandle, JoinError, current, idle, joinall, park, park_timeout, shield, sleep, spawn, timeout, yield_now,
};

/// A future that is ready once it is opened, from any thread. Keeps the wakers that it was polled with.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    open: bool,
    polls: usize,
    wakers: Vec<Waker>,
}

impl Gate {
    /// Opens it and wakes whoever waits.
    fn open(&self) {
        let mut inside = self.0.lock().unwrap();
        inside.open = true;
        let wakers = std::mem::take(&mut inside.wakers);
        drop(inside);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn waker(&self) -> Waker {
        self.0.lock().unwrap().wakers.last().expect("it was polled").clone()
    }

    fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }

    fn forget_wakers(&self) {
        let wakers = std::mem::take(&mut self.0.lock().unwrap().wakers);
        drop(wakers);
    }
}

impl Future for Gate {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inside = self.0.lock().unwrap();
        inside.polls += 1;
        if inside.open {
            return Poll::Ready(());
        }
        inside.wakers.push(context.waker().clone());
        Poll::Pending
    }
}

/// A waker that counts its calls.
#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Calls {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll_once<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Gives the others their turn, once, as async code does.
fn turn() -> impl Future<Output = ()> {
    let mut first = true;
    poll_fn(move |context| {
        if !std::mem::take(&mut first) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// The first of two results, and the other future, which is still going on.
async fn first_of<A: Future + Unpin, B: Future<Output = A::Output> + Unpin>(
    mut one: A,
    mut other: B,
) -> (A::Output, Result<A, B>) {
    let mut is_one = false;
    let output = poll_fn(|context| {
        if let Poll::Ready(output) = Pin::new(&mut one).poll(context) {
            is_one = true;
            return Poll::Ready(output);
        }
        Pin::new(&mut other).poll(context)
    })
    .await;
    (output, if is_one { Err(other) } else { Ok(one) })
}

// Parking and waking

#[test]
fn a_future_parks_only_its_task() {
    check(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        let count = Count::default();
        let mine = count.clone();
        let waits = spawn(move || {
            block_on(theirs);
            mine.get()
        });
        for _ in 0..10 {
            yield_now();
            count.up();
        }
        assert!(!waits.is_finished());
        gate.open();
        assert_eq!(waits.join().unwrap(), 10);
    });
}

#[test]
fn what_is_ready_needs_no_hub_and_no_switch() {
    check(|| {
        assert_eq!(block_on(ready(3)), 3);
        let log = Log::default();
        let theirs = log.clone();
        let other = spawn(move || theirs.add("other"));
        block_on(ready(()));
        log.add("root");
        other.join().unwrap();
        assert_eq!(log.take(), ["root", "other"]);
    });
}

#[test]
fn a_loop_of_what_is_ready_starves_nobody() {
    check(|| {
        let count = Count::default();
        let mine = count.clone();
        let other = spawn(move || mine.up());
        while count.get() == 0 {
            block_on(ready(()));
        }
        other.join().unwrap();
    });
}

#[test]
fn wakes_come_from_native_threads_and_from_other_hubs() {
    check(|| {
        for hub in [false, true] {
            let gate = Gate::default();
            let theirs = gate.clone();
            let (tell, told) = mpsc::channel();
            let waker = thread::spawn(move || {
                told.recv().unwrap();
                if hub { spawn(move || theirs.open()).join().unwrap() } else { theirs.open() }
            });
            block_on(poll_fn(|context| {
                let poll = Pin::new(&mut gate.clone()).poll(context);
                // From now on it may come at any time: before the park, or after it.
                tell.send(()).unwrap_or_default();
                poll
            }));
            waker.join().unwrap();
        }
    });
}

#[test]
fn a_wake_on_the_same_hub_is_direct() {
    check(|| {
        let (gate, log) = (Gate::default(), Log::default());
        let (theirs, writes) = (gate.clone(), log.clone());
        let first = spawn(move || {
            block_on(theirs);
            writes.add("woken");
        });
        yield_now();
        gate.open();
        // Ready already: a message would have to be taken out of the mailbox first, behind this one.
        let writes = log.clone();
        let second = spawn(move || writes.add("spawned later"));
        joinall([first, second]);
        assert_eq!(log.take(), ["woken", "spawned later"]);
    });
}

#[test]
fn a_wake_in_the_midst_of_the_poll_is_not_lost_and_lets_the_others_run() {
    check(|| {
        let count = Count::default();
        let mine = count.clone();
        let other = spawn(move || {
            for _ in 0..5 {
                mine.up();
                yield_now();
            }
        });
        block_on(async {
            for turns in 1..=5 {
                turn().await;
                assert_eq!(count.get(), turns);
            }
        });
        other.join().unwrap();
    });
}

#[test]
fn a_wake_between_poll_and_park_is_not_lost() {
    check(|| {
        let mut first = true;
        block_on(poll_fn(move |context| {
            if !std::mem::take(&mut first) {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            // By value, so that no waker is left by the time of the park.
            thread::spawn(move || waker.wake()).join().unwrap();
            Poll::Pending
        }));
    });
}

#[test]
fn a_future_that_wakes_itself_for_ever_can_be_ended() {
    check(|| {
        let spins = spawn(|| {
            block_on(async {
                loop {
                    turn().await;
                }
            })
        });
        yield_now();
        spins.kill();
        assert!(
            timeout(MS, || block_on(async {
                loop {
                    turn().await;
                }
            }))
            .is_err()
        );
    });
}

#[test]
fn wakes_that_are_late_or_double_do_nothing() {
    check(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        let later = Gate::default();
        let inner = later.clone();
        let (parked, unparked) = (Log::default(), Log::default());
        let (before, after) = (parked.clone(), unparked.clone());
        let task = spawn(move || {
            block_on(theirs);
            before.add("park");
            park();
            after.add("unparked");
            block_on(inner.clone());
            assert_eq!(inner.polls(), 2, "polled for a wake-up of another");
            assert!(!park_timeout(MS), "a wake-up is no unpark");
        });
        yield_now();
        let waker = gate.waker();
        gate.open();
        waker.wake_by_ref();
        waker.wake_by_ref();
        yield_now();
        assert_eq!(parked.take(), ["park"]);
        // On its own hub, and from another thread.
        for _ in 0..3 {
            waker.wake_by_ref();
            let theirs = waker.clone();
            thread::spawn(move || theirs.wake()).join().unwrap();
            idle();
        }
        assert!(unparked.take().is_empty());
        task.task().unpark();
        yield_now();
        assert_eq!(later.polls(), 1);
        waker.wake_by_ref();
        let theirs = waker.clone();
        thread::spawn(move || theirs.wake()).join().unwrap();
        idle();
        assert_eq!(later.polls(), 1);
        later.open();
        task.join().unwrap();
        // And after the task's end.
        waker.wake_by_ref();
        thread::spawn(move || waker.wake()).join().unwrap();
        idle();
    });
}

#[test]
fn two_wakes_make_one_poll() {
    check(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        let task = spawn(move || block_on(theirs));
        yield_now();
        for _ in 0..3 {
            gate.waker().wake();
        }
        yield_now();
        yield_now();
        assert_eq!(gate.polls(), 2);
        gate.open();
        task.join().unwrap();
        assert_eq!(gate.polls(), 3);
    });
}

#[test]
fn a_waker_outlives_its_thread() {
    check(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        thread::spawn(move || {
            let task = spawn(move || block_on(theirs));
            yield_now();
            task.kill();
        })
        .join()
        .unwrap();
        gate.waker().wake();
        gate.open();
    });
}

#[test]
fn the_waker_is_the_same_in_each_poll() {
    check(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        let task = spawn(move || block_on(theirs));
        yield_now();
        gate.waker().wake();
        yield_now();
        let inside = gate.0.lock().unwrap();
        assert!(inside.wakers[0].will_wake(&inside.wakers[1]));
        assert!(!inside.wakers[0].will_wake(Waker::noop()));
        drop(inside);
        gate.open();
        task.join().unwrap();
    });
}

#[test]
fn a_thread_without_a_hub_stops_and_gets_none() {
    let output = in_child("a_thread_without_a_hub_stops_and_gets_none", || {
        let gate = Gate::default();
        let theirs = gate.clone();
        let waits = thread::spawn(move || block_on(theirs));
        while gate.polls() == 0 {
            thread::yield_now();
        }
        gate.waker().wake();
        while gate.polls() < 2 {
            thread::yield_now();
        }
        gate.open();
        waits.join().unwrap();
        let targets = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
        let pollers =
            targets.filter(|path| std::fs::read_link(path).is_ok_and(|to| to.ends_with("anon_inode:[eventpoll]")));
        assert_eq!(pollers.count(), 0);
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_hub_that_comes_in_the_midst_of_the_poll_is_run() {
    check(|| {
        // The first poll of a thread that has no hub yet.
        let sum = block_on(async {
            let (one, two) = (spawn(|| 1), spawn(|| 2));
            one.await.unwrap() + two.await.unwrap()
        });
        assert_eq!(sum, 3);
    });
}

#[test]
fn futures_need_be_neither_send_nor_static() {
    check(|| {
        let (text, shared) = (String::from("borrowed"), Rc::new(Cell::new(0)));
        let length = block_on(async {
            let mine = shared.clone();
            turn().await;
            mine.set(1);
            text.len()
        });
        assert_eq!((length, shared.get()), (8, 1));
    });
}

#[test]
fn nested_calls_park_the_task_in_the_midst_of_the_poll() {
    check(|| {
        let (outer, inner) = (Gate::default(), Gate::default());
        let (theirs, nested) = (outer.clone(), inner.clone());
        let task = spawn(move || {
            block_on(async {
                let mut theirs = pin!(theirs);
                poll_fn(|context| {
                    let poll = theirs.as_mut().poll(context);
                    if poll.is_pending() {
                        block_on(nested.clone());
                    }
                    poll
                })
                .await;
            });
        });
        yield_now();
        // The outer wake-up is kept until the inner call is over.
        outer.open();
        yield_now();
        assert!(!task.is_finished());
        assert_eq!(outer.polls(), 1);
        inner.open();
        task.join().unwrap();
        assert_eq!(outer.polls(), 2);
    });
}

#[test]
fn a_generator_may_take_a_call_to_another_task() {
    check(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        // It yields in the midst of a poll, and goes on in another task.
        let mut generator = Generator::new(move |y: &Yielder<(), u32>| {
            let mut first = true;
            block_on(async {
                poll_fn(|context| {
                    let poll = Pin::new(&mut theirs.clone()).poll(context);
                    if std::mem::take(&mut first) {
                        y.yield_(1);
                    }
                    poll
                })
                .await;
            });
            y.yield_(2);
        });
        let (generator, one) = spawn(move || {
            let value = generator.next();
            (generator, value)
        })
        .join()
        .unwrap();
        assert_eq!(one, Some(1));
        let rest = spawn(move || generator.collect::<Vec<_>>());
        yield_now();
        assert!(!rest.is_finished());
        gate.open();
        assert_eq!(rest.join().unwrap(), [2]);
    });
}

// Ends

#[test]
fn a_kill_and_a_timeout_drop_the_future_and_leave_nothing() {
    check(|| {
        for by_timeout in [false, true] {
            let (gate, log) = (Gate::default(), Log::default());
            let (theirs, dropped) = (gate.clone(), log.clone());
            let task = spawn(move || {
                let guarded = async move {
                    let _end = OnDrop(dropped, "dropped");
                    theirs.await;
                };
                if by_timeout {
                    assert!(timeout(MS, || block_on(guarded)).is_err());
                } else {
                    block_on(guarded);
                }
            });
            yield_now();
            if !by_timeout {
                task.kill();
            }
            assert_eq!(task.join().is_ok(), by_timeout);
            assert_eq!(log.take(), ["dropped"]);
            assert_eq!(Arc::strong_count(&gate.0), 1);
            gate.open();
        }
    });
}

#[test]
fn a_kill_wins_over_a_wake_of_the_same_turn() {
    check(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        let task = spawn(move || block_on(theirs));
        yield_now();
        gate.open();
        task.kill_nowait();
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(gate.polls(), 1);
    });
}

#[test]
fn a_shield_holds_back_a_kill_while_a_future_is_waited_for() {
    check(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        let log = Log::default();
        let writes = log.clone();
        let task = spawn(move || {
            shield(|| block_on(theirs));
            writes.add("done");
            yield_now();
            writes.add("not any more");
        });
        yield_now();
        task.kill_nowait();
        yield_now();
        assert!(!task.is_finished());
        gate.open();
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(log.take(), ["done"]);
    });
}

#[test]
fn a_panic_in_a_poll_passes_through_and_drops_the_future() {
    check(|| {
        let log = Log::default();
        let dropped = log.clone();
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            block_on(async {
                let _end = OnDrop(dropped, "dropped");
                turn().await;
                fail::<()>("in the poll");
            });
        }));
        assert_eq!(*unwound.unwrap_err().downcast::<&str>().unwrap(), "in the poll");
        assert_eq!(log.take(), ["dropped"]);
        block_on(turn());
    });
}

#[test]
fn a_destructor_may_block_on_while_its_task_unwinds() {
    check(|| {
        struct Waits(Gate);
        impl Drop for Waits {
            fn drop(&mut self) {
                block_on(self.0.clone());
            }
        }
        let gate = Gate::default();
        let waits = Waits(gate.clone());
        let task = spawn(move || {
            let _waits = waits;
            park();
        });
        yield_now();
        task.kill_nowait();
        yield_now();
        assert!(!task.is_finished());
        gate.open();
        assert!(task.join().unwrap_err().is_killed());
    });
}

// Rule 7

#[test]
fn rule_7_a_future_that_keeps_no_waker_is_a_deadlock() {
    check(|| {
        let report = panic_of(|| {
            yield_now();
            drop(spawn(|| ()));
            block_on(pending::<()>());
        });
        assert!(report.starts_with("deadlock:") && report.contains("waits for a future"), "{report}");
    });
}

#[test]
fn rule_7_so_it_is_on_a_thread_without_a_hub() {
    check(|| {
        let report = panic_of(|| block_on(pending::<()>()));
        assert!(report.starts_with("deadlock:"), "{report}");
    });
}

#[test]
fn rule_7_no_deadlock_while_another_thread_holds_a_waker_and_one_when_it_lets_go() {
    check(|| {
        for hub in [false, true] {
            let gate = Gate::default();
            let theirs = gate.clone();
            let (tell, told) = mpsc::channel();
            let holds = thread::spawn(move || {
                told.recv().unwrap();
                // Holds it for longer than the hub needs to see that nothing else can happen.
                thread::sleep(5 * MS);
                theirs.forget_wakers();
            });
            let report = soon(|| {
                panic_of(|| {
                    if hub {
                        yield_now();
                        drop(current());
                    }
                    block_on(poll_fn(|context| {
                        let poll = Pin::new(&mut gate.clone()).poll(context);
                        tell.send(()).unwrap_or_default();
                        poll
                    }));
                })
            });
            assert!(report.starts_with("deadlock:"), "{report}");
            holds.join().unwrap();
        }
    });
}

#[test]
fn rule_7_awaiting_a_task_that_cannot_end_is_a_deadlock() {
    check(|| {
        let parked = spawn(park);
        let task = parked.task();
        // A whole thread is there besides, but it has no part in this.
        let report = soon(|| panic_of(|| block_on(parked)));
        assert!(report.starts_with("deadlock:") && report.contains("an unpark"), "{report}");
        task.kill();
    });
}

#[test]
fn rule_7_a_waker_of_another_thread_in_a_handle_counts() {
    check(|| {
        let (tell, told) = mpsc::channel();
        let gate = Gate::default();
        let theirs = gate.clone();
        let other = thread::spawn(move || {
            block_on(poll_fn(|context| {
                drop(tell.send(context.waker().clone()));
                Pin::new(&mut theirs.clone()).poll(context)
            }));
        });
        let waker = told.recv().unwrap();
        gate.forget_wakers();
        let mut task = spawn(|| ());
        assert!(poll_once(&mut task, &waker).is_pending());
        drop((waker, told));
        // Only the handle has it now, and the task's end wakes it.
        gate.0.lock().unwrap().open = true;
        yield_now();
        soon(|| other.join().unwrap());
        assert!(task.is_finished());
    });
}

// Handles of tasks

#[test]
fn a_handle_gives_what_join_gives() {
    check(|| {
        assert_eq!(block_on(spawn(|| 5)).unwrap(), 5);
        let done = spawn(|| 6);
        yield_now();
        assert_eq!(block_on(done).unwrap(), 6);
        let killed = spawn(park);
        let task = killed.task();
        drop(spawn(move || task.kill()));
        assert!(matches!(block_on(killed), Err(JoinError::Killed)));
        let error = block_on(spawn(|| fail::<()>("over"))).unwrap_err();
        assert_eq!(error.message(), Some("over"));
    });
}

#[test]
fn the_first_of_two_handles() {
    check(|| {
        let quick = spawn(|| "quick");
        let slow = spawn(|| {
            park();
            "slow"
        });
        let (first, rest) = block_on(first_of(slow, quick));
        assert_eq!(first.unwrap(), "quick");
        let Ok(slow) = rest else { panic!("the slow one is left") };
        slow.task().unpark();
        assert_eq!(block_on(slow).unwrap(), "slow");
    });
}

#[test]
fn a_handle_keeps_one_waker_the_last_and_drops_it_with_itself() {
    check(|| {
        let (first, second) = (Arc::new(Calls::default()), Arc::new(Calls::default()));
        let (one, two) = (Waker::from(first.clone()), Waker::from(second.clone()));
        let mut task = spawn(park);
        for _ in 0..3 {
            assert!(poll_once(&mut task, &one).is_pending());
        }
        assert_eq!(Arc::strong_count(&first), 3, "it keeps one");
        assert!(poll_once(&mut task, &two).is_pending());
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (2, 3));
        task.task().unpark();
        yield_now();
        yield_now();
        assert_eq!((first.get(), second.get()), (0, 1));
        assert!(poll_once(&mut task, &one).is_ready());

        let mut dropped = spawn(park);
        assert!(poll_once(&mut dropped, &two).is_pending());
        let task = dropped.task();
        drop(dropped);
        assert_eq!(Arc::strong_count(&second), 2);
        task.kill();
        assert_eq!(second.get(), 1);
    });
}

#[test]
fn a_handle_that_has_given_its_result_says_so() {
    check(|| {
        for again in ["poll", "join"] {
            let mut task = spawn(|| 1);
            assert_eq!(block_on(&mut task).unwrap(), 1);
            let report = panic_of(|| match again {
                "poll" => drop(block_on(task)),
                _ => drop(task.join()),
            });
            assert!(report.contains("has given it already"), "{report}");
        }
    });
}

#[test]
fn a_waker_sees_the_task_as_ended() {
    check(|| {
        struct Looks(AtomicBool, Mutex<mpsc::Sender<bool>>);
        impl Wake for Looks {
            fn wake(self: Arc<Self>) {
                self.1.lock().unwrap().send(self.0.load(Ordering::SeqCst)).unwrap();
            }
        }
        struct Ends(Arc<Looks>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.0.store(true, Ordering::SeqCst);
            }
        }
        let (tell, told) = mpsc::channel();
        let looks = Arc::new(Looks(AtomicBool::new(false), Mutex::new(tell)));
        let ends = Ends(looks.clone());
        let mut task = spawn(move || drop(ends));
        assert!(poll_once(&mut task, &Waker::from(looks)).is_pending());
        yield_now();
        assert_eq!(told.try_recv(), Ok(true));
        assert_eq!(poll_once(&mut task, Waker::noop()).map(Result::unwrap), Poll::Ready(()));
    });
}

// Handles of tasks on other threads

/// A hub on a thread of its own, until the end of `f`.
fn with_hub<R>(f: impl FnOnce(&HubHandle) -> R) -> R {
    let (tell, told) = mpsc::channel();
    let lent = thread::spawn(move || {
        tell.send((HubHandle::current(), current().unparker())).unwrap();
        park();
    });
    let (hub, end) = told.recv().unwrap();
    let result = f(&hub);
    end.unpark();
    drop((hub, end));
    lent.join().unwrap();
    result
}

#[test]
fn a_remote_handle_is_awaited_by_a_task_by_a_thread_and_in_tokio() {
    check(|| {
        with_hub(|hub| {
            assert_eq!(block_on(hub.spawn(|| 1)).unwrap(), 1);
            let theirs = hub.clone();
            let native = thread::spawn(move || block_on(theirs.spawn(|| 2)).unwrap());
            assert_eq!(native.join().unwrap(), 2);
            let theirs = hub.clone();
            let in_tokio = thread::spawn(move || {
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
                    let sleeps = theirs.spawn(|| sleep(2 * MS));
                    let fails = tokio::spawn(theirs.spawn(|| fail::<()>("there")));
                    sleeps.await.unwrap();
                    assert_eq!(fails.await.unwrap().unwrap_err().message(), Some("there"));
                    theirs.spawn(|| 3).await.unwrap()
                })
            });
            assert_eq!(in_tokio.join().unwrap(), 3);
        });
    });
}

#[test]
fn a_remote_handle_keeps_one_waker_and_drops_it_with_itself() {
    check(|| {
        with_hub(|hub| {
            let calls = Arc::new(Calls::default());
            let waker = Waker::from(calls.clone());
            let (tell, told) = mpsc::channel::<()>();
            let mut task = hub.spawn(move || told.recv().unwrap_or_default());
            for _ in 0..3 {
                assert!(poll_once(&mut task, &waker).is_pending());
            }
            let kept = Arc::strong_count(&calls);
            assert!(kept <= 4, "{kept}");
            assert!(poll_once(&mut task, Waker::noop()).is_pending());
            assert_eq!(Arc::strong_count(&calls), 2);
            assert!(poll_once(&mut task, &waker).is_pending());
            drop(tell);
            while calls.get() == 0 {
                thread::yield_now();
            }
            assert!(matches!(poll_once(&mut task, &waker), Poll::Ready(Ok(()))));
            let report = panic_of(|| poll_once(&mut task, &waker).is_ready());
            assert!(report.contains("has given it already"), "{report}");

            let (tell, told) = mpsc::channel::<()>();
            let mut task = hub.spawn(move || told.recv().unwrap_or_default());
            assert!(poll_once(&mut task, &waker).is_pending());
            drop(task);
            assert_eq!(Arc::strong_count(&calls), 2);
            drop(tell);
            hub.spawn(|| ()).join().unwrap();
            assert_eq!(calls.get(), 1);
        });
    });
}

#[test]
fn a_hub_that_ends_wakes_those_who_await_its_tasks() {
    check(|| {
        let task = with_hub(|hub| hub.spawn(park));
        assert!(block_on(task).unwrap_err().is_killed());
        let (tell, told) = mpsc::channel();
        let awaits = spawn(move || {
            let task = told.recv().unwrap();
            block_on::<greenroom::RemoteJoinHandle<()>>(task).unwrap_err().is_killed()
        });
        with_hub(|hub| {
            tell.send(hub.spawn(park)).unwrap();
            yield_now();
        });
        assert!(awaits.join().unwrap());
    });
}

// Wakers of others

/// What a waker of the user's does.
#[derive(Clone, Copy, PartialEq)]
enum Bomb {
    Clone,
    Wake,
    Drop,
}

/// A waker that panics when it is so used, once; this one itself is never dropped.
fn bomb(kind: Bomb) -> ManuallyDrop<Waker> {
    thread_local! {
        static LEFT: Cell<bool> = const { Cell::new(false) };
    }
    fn burst(kind: Bomb, data: *const ()) {
        if data.addr() == kind as usize && LEFT.get() {
            LEFT.set(false);
            fail::<()>("a waker");
        }
    }
    fn clone(data: *const ()) -> RawWaker {
        burst(Bomb::Clone, data);
        RawWaker::new(data, &TABLE)
    }
    static TABLE: RawWakerVTable = RawWakerVTable::new(
        clone,
        |data| {
            burst(Bomb::Wake, data);
            burst(Bomb::Drop, data);
        },
        |data| burst(Bomb::Wake, data),
        |data| burst(Bomb::Drop, data),
    );
    LEFT.set(true);
    // SAFETY: the pointer is a number to the table's functions, which may be called with it on any thread, any number of times.
    let waker = unsafe { Waker::new(std::ptr::without_provenance(kind as usize), &TABLE) };
    ManuallyDrop::new(waker)
}

#[test]
fn a_waker_that_panics_stops_nobody() {
    check(|| {
        // Cloned in the poll, which it unwinds.
        let waker = bomb(Bomb::Clone);
        let mut task = spawn(|| 1);
        assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut task, &waker).is_ready())).is_err());
        assert!(poll_once(&mut task, &waker).is_pending());
        yield_now();
        assert!(matches!(poll_once(&mut task, &waker), Poll::Ready(Ok(1))));

        // Called at the task's end, where it is reported.
        let waker = bomb(Bomb::Wake);
        let mut task = spawn(|| 2);
        assert!(poll_once(&mut task, &waker).is_pending());
        yield_now();
        assert!(matches!(poll_once(&mut task, &waker), Poll::Ready(Ok(2))));

        // Dropped when it is replaced, and with the handle.
        let waker = bomb(Bomb::Drop);
        let mut task = spawn(park);
        assert!(poll_once(&mut task, &waker).is_pending());
        assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut task, Waker::noop()).is_ready())).is_err());
        task.task().unpark();
        assert!(block_on(task).is_ok());
        let waker = bomb(Bomb::Drop);
        let mut task = spawn(|| ());
        assert!(poll_once(&mut task, &waker).is_pending());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(task))).is_err());
        yield_now();
    });
}

#[test]
fn a_remote_tasks_result_is_there_whatever_its_waker_does() {
    check(|| {
        let hub = HubHandle::current();
        for kind in [Bomb::Wake, Bomb::Drop] {
            let waker = bomb(kind);
            let mut task = hub.spawn(|| 7);
            assert!(poll_once(&mut task, &waker).is_pending());
            while !task.is_finished() {
                sleep(MS);
            }
            // The waker's destructor may panic in the poll, which has taken nothing then.
            if kind == Bomb::Drop {
                assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut task, Waker::noop()).is_ready())).is_err());
            }
            assert!(matches!(poll_once(&mut task, Waker::noop()), Poll::Ready(Ok(7))));
        }
        let waker = bomb(Bomb::Clone);
        let mut task = hub.spawn(|| 8);
        assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut task, &waker).is_ready())).is_err());
        assert_eq!(block_on(task).unwrap(), 8);
    });
}

#[test]
fn a_waker_that_would_wait_is_refused_and_one_that_yields_goes_on() {
    check(|| {
        struct Waits(Mutex<Option<String>>);
        impl Wake for Waits {
            fn wake(self: Arc<Self>) {
                yield_now();
                *self.0.lock().unwrap() = Some(panic_of(park));
            }
        }
        let waits = Arc::new(Waits(Mutex::new(None)));
        let mut task = spawn(|| ());
        assert!(poll_once(&mut task, &Waker::from(waits.clone())).is_pending());
        yield_now();
        assert!(task.is_finished());
        let report = waits.0.lock().unwrap().take().unwrap();
        assert!(report.contains("a waker"), "{report}");
        sleep(MS);
    });
}

// Streams

fn next<S: Stream + Unpin>(stream: &mut S) -> impl Future<Output = Option<S::Item>> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context))
}

#[test]
fn a_generator_is_a_stream_whose_body_parks_the_whole_task() {
    check(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        let mut numbers = Generator::new(move |y: &Yielder<(), u32>| {
            y.yield_(1);
            block_on(theirs);
            y.yield_(2);
        });
        let task = spawn(move || {
            block_on(async {
                let mut all = Vec::new();
                while let Some(number) = next(&mut numbers).await {
                    all.push(number);
                }
                assert!(numbers.is_terminated());
                assert_eq!(next(&mut numbers).await, None);
                all
            })
        });
        yield_now();
        assert!(!task.is_finished());
        gate.open();
        assert_eq!(task.join().unwrap(), [1, 2]);
    });
}

#[test]
fn a_receiver_is_a_stream_from_tasks_threads_and_hubs() {
    check(|| {
        for bound in [0, 1, 100] {
            let (sender, mut receiver) = channels::sync_channel(bound);
            let (theirs, there) = (sender.clone(), sender.clone());
            let native = thread::spawn(move || (0..500).for_each(|n| theirs.send(n).unwrap()));
            let hub = thread::spawn(move || {
                let tasks = (0..5).map(|_| {
                    let sender = there.clone();
                    spawn(move || (0..100).for_each(|n| sender.send(n).unwrap()))
                });
                joinall(tasks).into_iter().for_each(Result::unwrap);
            });
            let task = spawn(move || (0..500).for_each(|n| sender.send(n).unwrap()));
            let (mut count, mut sum) = (0, 0);
            block_on(async {
                while let Some(n) = next(&mut receiver).await {
                    count += 1;
                    sum += n;
                }
            });
            assert_eq!((count, sum), (1500, 2 * (499 * 500 / 2) + 5 * (99 * 100 / 2)));
            task.join().unwrap();
            native.join().unwrap();
            hub.join().unwrap();
        }
    });
}

#[test]
fn a_receivers_stream_keeps_one_request_the_last_and_takes_it_back() {
    check(|| {
        let (first, second) = (Arc::new(Calls::default()), Arc::new(Calls::default()));
        let (one, two) = (Waker::from(first.clone()), Waker::from(second.clone()));
        let (sender, mut receiver) = channels::channel();
        let mut poll = |waker| Pin::new(&mut receiver).poll_next(&mut Context::from_waker(waker));
        for _ in 0..100 {
            assert!(poll(&one).is_pending());
        }
        let kept = Arc::strong_count(&first);
        assert!(kept <= 4, "{kept}");
        assert!(poll(&two).is_pending());
        assert_eq!(Arc::strong_count(&first), 2);
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!((first.get(), second.get()), (0, 1), "each request is told once");
        assert_eq!(poll(&two), Poll::Ready(Some(1)));
        assert_eq!(Arc::strong_count(&second), 2);
        // Another takes what it was told of.
        assert_eq!(poll(&two), Poll::Ready(Some(2)));
        assert!(poll(&two).is_pending());
        sender.send(3).unwrap();
        assert_eq!(second.get(), 2);
        assert_eq!(poll(&two), Poll::Ready(Some(3)));
        assert!(poll(&two).is_pending());
        drop(sender);
        assert_eq!(second.get(), 3);
        assert_eq!(poll(&two), Poll::Ready(None));
        assert_eq!(poll(&two), Poll::Ready(None));

        // Dropped while it waits, it tells nobody.
        let (sender, mut receiver) = channels::channel::<()>();
        assert!(Pin::new(&mut receiver).poll_next(&mut Context::from_waker(&one)).is_pending());
        drop(receiver);
        assert_eq!((first.get(), Arc::strong_count(&first)), (0, 2));
        assert!(sender.send(()).is_err());
    });
}

#[test]
fn a_streams_waker_may_use_the_channel_that_calls_it() {
    check(|| {
        struct Sends(channels::SyncSender<u32>, AtomicUsize);
        impl Wake for Sends {
            fn wake(self: Arc<Self>) {
                assert!(self.0.try_send(0).is_err(), "the channel has no room");
                self.1.fetch_add(1, Ordering::SeqCst);
            }
        }
        // One that waits for room tells of itself.
        let (sender, mut receiver) = channels::sync_channel(0);
        let sends = Arc::new(Sends(sender.clone(), AtomicUsize::new(0)));
        let waker = Waker::from(sends.clone());
        assert!(Pin::new(&mut receiver).poll_next(&mut Context::from_waker(&waker)).is_pending());
        let task = spawn(move || sender.send(5).unwrap());
        yield_now();
        assert_eq!(sends.1.load(Ordering::SeqCst), 1);
        assert_eq!(Pin::new(&mut receiver).poll_next(&mut Context::from_waker(&waker)), Poll::Ready(Some(5)));
        task.join().unwrap();
    });
}

#[test]
fn a_streams_waker_that_panics_stops_no_sender() {
    check(|| {
        for kind in [Bomb::Wake, Bomb::Drop] {
            let (sender, mut receiver) = channels::sync_channel(0);
            let waker = bomb(kind);
            assert!(Pin::new(&mut receiver).poll_next(&mut Context::from_waker(&waker)).is_pending());
            // Another waits besides, and is woken whatever the stream's waker does.
            let receiver = Rc::new(receiver);
            let theirs = receiver.clone();
            let looks = spawn(move || greenroom::wait([&*theirs], None, None).len());
            yield_now();
            let theirs = sender.clone();
            let sends = spawn(move || theirs.send(1));
            assert_eq!(looks.join().unwrap(), 1);
            assert_eq!(receiver.try_recv(), Ok(1));
            assert_eq!(sends.join().unwrap(), Ok(()));
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(Rc::into_inner(receiver))));
            assert_eq!(dropped.is_err(), kind == Bomb::Drop);
            assert!(sender.send(2).is_err(), "it is closed");
        }
    });
}

#[test]
fn a_kill_in_a_stream_takes_its_request_back() {
    check(|| {
        let (sender, receiver) = channels::channel::<u32>();
        let receiver = Rc::new(Mutex::new(receiver));
        let theirs = receiver.clone();
        let task = spawn(move || {
            let mut receiver = theirs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            block_on(next(&mut *receiver))
        });
        yield_now();
        task.kill();
        sender.send(1).unwrap();
        let mut receiver = receiver.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        assert_eq!(block_on(next(&mut *receiver)), Some(1));
    });
}

// Tokio

#[test]
fn tokios_channels_work_without_its_runtime() {
    check(|| {
        let (to_there, mut there) = tokio::sync::mpsc::channel::<u32>(2);
        let (to_here, mut here) = tokio::sync::mpsc::channel::<u32>(2);
        // One end in a native thread's own way, one in a task that parks.
        let echo = thread::spawn(move || {
            while let Some(n) = there.blocking_recv() {
                to_here.blocking_send(n * 2).unwrap();
            }
        });
        let sends = spawn(move || (0..100).for_each(|n| block_on(to_there.send(n)).unwrap()));
        let mut sum = 0;
        while let Some(n) = block_on(here.recv()) {
            sum += n;
        }
        assert_eq!(sum, 9900);
        sends.join().unwrap();
        echo.join().unwrap();
        // Between tasks of one hub.
        let (send, receive) = tokio::sync::oneshot::channel();
        let receives = spawn(move || block_on(receive).unwrap());
        yield_now();
        send.send("one shot").unwrap();
        assert_eq!(receives.join().unwrap(), "one shot");
    });
}

#[test]
fn tokios_timers_and_tasks_run_on_a_runtime_of_another_thread() {
    check(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = thread::spawn(move || runtime.block_on(stopped));
        let count = Rc::new(Cell::new(0));
        let ticks = count.clone();
        let ticker = spawn(move || {
            loop {
                sleep(MS);
                ticks.set(ticks.get() + 1);
            }
        });
        {
            let _entered = handle.enter();
            // Ends only if the hub goes on while this waits.
            block_on(async {
                while count.get() < 5 {
                    tokio::time::sleep(MS).await;
                }
            });
        }
        assert_eq!(block_on(handle.spawn(async { 40 + 2 })).unwrap(), 42);
        let entered = handle.clone();
        let late = timeout(MS, || {
            let _entered = entered.enter();
            block_on(tokio::time::sleep(EVER));
        });
        assert!(late.is_err());
        ticker.kill();
        stop.send(()).unwrap();
        thread.join().unwrap().unwrap();
    });
}

// Many

#[test]
fn a_thousand_tasks_are_woken_by_two_threads_exactly() {
    const TASKS: usize = 1000;
    const ROUNDS: usize = 200;
    check(|| {
        let bells: Arc<Vec<Bell>> = Arc::new((0..TASKS).map(|_| Bell::default()).collect());
        let heard = Arc::new(AtomicUsize::new(0));
        let begin = Arc::new(Barrier::new(2));
        let rings: Vec<_> = (0..2)
            .map(|_| {
                let (bells, heard, begin) = (bells.clone(), heard.clone(), begin.clone());
                thread::spawn(move || {
                    for round in 1..=ROUNDS {
                        // From both threads at once, whether the task is parked, polls, or is woken already.
                        begin.wait();
                        bells.iter().for_each(Bell::ring);
                        while heard.load(Ordering::SeqCst) < 2 * TASKS * round {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let tasks: Vec<_> = (0..TASKS)
            .map(|place| {
                let (bells, heard) = (bells.clone(), heard.clone());
                spawn(move || {
                    for _ in 0..2 * ROUNDS {
                        block_on(bells[place].heard());
                        heard.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        joinall(tasks).into_iter().for_each(Result::unwrap);
        rings.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(heard.load(Ordering::SeqCst), 2 * TASKS * ROUNDS);
        assert!(bells.iter().all(|bell| bell.0.lock().unwrap().0 == 0));
    });
}

/// Counts how often it was rung; one waits for each.
#[derive(Default)]
struct Bell(Mutex<(usize, Option<Waker>)>);

impl Bell {
    fn ring(&self) {
        let mut inside = self.0.lock().unwrap();
        inside.0 += 1;
        let waker = inside.1.take();
        drop(inside);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn heard(&self) -> impl Future<Output = ()> {
        poll_fn(|context| {
            let mut inside = self.0.lock().unwrap();
            if inside.0 > 0 {
                inside.0 -= 1;
                return Poll::Ready(());
            }
            inside.1 = Some(context.waker().clone());
            Poll::Pending
        })
    }
}

// Cost

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: each call goes to the system's allocator as it came. The count is a thread-local that needs neither memory nor
// a destructor, so nothing is allocated for it and nothing unwinds.
unsafe impl GlobalAlloc for Counting {
    /// # Safety
    ///
    /// The layout has a size above zero.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + 1);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    /// # Safety
    ///
    /// The memory was allocated here, with this layout, and is not used any more.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller; what was allocated here is the system's.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_call_allocates_once_and_a_poll_never() {
    check(|| {
        let bell = Rc::new(Bell::default());
        let theirs = bell.clone();
        let rings = spawn(move || {
            for _ in 0..200 {
                theirs.ring();
                yield_now();
            }
        });
        let hear = |times: usize| {
            let before = ALLOCATED.get();
            block_on(async {
                for _ in 0..times {
                    bell.heard().await;
                }
            });
            ALLOCATED.get() - before
        };
        hear(10);
        assert_eq!(hear(1), 1);
        assert_eq!(hear(100), 1);
        assert_eq!(hear(0), 1);
        rings.kill();
    });
}
