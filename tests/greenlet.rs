//! Greenlets, seen from outside.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use greenroom::generator::{Generator, Yielder};
use greenroom::greenlet::{Event, Greenlet, GreenletExit, set_trace};
use greenroom::testing::{live_stacks, live_tasks};
use greenroom::{JoinError, TaskId, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(2);
const NEVER: Duration = Duration::from_secs(3600);

type Log = Rc<RefCell<Vec<String>>>;

/// Runs `f` in a thread, and so on a hub, of its own; stacks and tasks are back where they were.
fn clean(f: impl FnOnce() + Send + 'static) {
    let run = || {
        let before = (live_stacks(), live_tasks());
        f();
        assert_eq!((live_stacks(), live_tasks()), before, "stacks and tasks are back at the baseline");
    };
    if let Err(payload) = std::thread::spawn(run).join() {
        resume_unwind(payload);
    }
}

/// Notes its name when it is dropped.
struct Noted(Log, &'static str);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1.to_owned());
    }
}

fn main_greenlet<T>() -> Greenlet<T> {
    Greenlet::current()
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(|text| &**text)).unwrap_or("")
}

fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => message(&*payload).to_owned(),
    }
}

#[test]
fn two_pass_the_thread_to_each_other() {
    clean(|| {
        let log = Log::default();
        let note = |log: &Log, what: &str| log.borrow_mut().push(what.to_owned());
        let second = Rc::new(OnceCell::<Greenlet<()>>::new());
        let first = Greenlet::new({
            let (log, second) = (log.clone(), Rc::downgrade(&second));
            move |()| {
                note(&log, "12");
                second.upgrade().unwrap().get().unwrap().switch(()).unwrap();
                note(&log, "34");
            }
        });
        second
            .set(Greenlet::new({
                let (log, first) = (log.clone(), first.clone());
                move |()| {
                    note(&log, "56");
                    first.switch(()).unwrap();
                    note(&log, "78");
                }
            }))
            .unwrap();
        first.switch(()).unwrap();
        assert!(first.is_dead());
        second.get().unwrap().switch(()).unwrap();
        assert_eq!(*log.borrow(), ["12", "56", "34", "78"]);
    });
}

#[test]
fn values_go_both_ways_and_the_end_goes_to_the_parent() {
    clean(|| {
        let main = main_greenlet::<u32>();
        assert!(main.parent().is_none() && main.is_active() && !main.is_dead());
        let child = Greenlet::new(move |n: u32| {
            assert_eq!(Greenlet::<u32>::current().parent().unwrap(), main);
            main.switch(n + 1).unwrap() + 10
        });
        assert!(!child.is_active() && !child.is_dead());
        assert_eq!(child.switch(1), Ok(2));
        assert!(child.is_active() && !child.is_dead());
        assert_eq!(child.switch(5), Ok(15));
        assert!(!child.is_active() && child.is_dead());
        assert_eq!(child.switch(7), Ok(7), "instead of a dead one its parent runs, which is the caller");
        assert_eq!(Greenlet::current().switch(8), Ok(8), "and to oneself gives the value back");
    });
}

#[test]
fn a_dead_parent_is_passed_over() {
    clean(|| {
        let log = Log::default();
        let parent = Greenlet::new(|n: u32| n);
        let child = Greenlet::new_with_parent(&parent, |n| n + 1);
        assert_eq!(parent.switch(0), Ok(0));
        assert_eq!(child.switch(1), Ok(2));

        // One that has not begun is begun by its child's end.
        let parent = Greenlet::new({
            let log = log.clone();
            move |n: u32| {
                log.borrow_mut().push(format!("given {n}"));
                n * 2
            }
        });
        let child = Greenlet::new_with_parent(&parent, |n| n + 1);
        assert_eq!(child.switch(1), Ok(4));
        assert_eq!(*log.borrow(), ["given 2"]);
        assert!(parent.is_dead());
    });
}

#[test]
fn parents_make_no_cycle_and_stay_in_the_task() {
    clean(|| {
        let above = Greenlet::new(|n: u32| n);
        let below = Greenlet::new_with_parent(&above, |n: u32| n);
        assert!(panic_of(|| above.set_parent(&below)).contains("own parent"));
        assert!(panic_of(|| above.set_parent(&above)).contains("own parent"));
        assert!(panic_of(|| main_greenlet::<u32>().set_parent(&above)).contains("main greenlet has no parent"));
        below.set_parent(&main_greenlet());
        above.set_parent(&below);

        let other = spawn(move || {
            let mine = Greenlet::new(|n: u32| n);
            assert!(panic_of(|| mine.set_parent(&above)).contains("one task"));
            assert!(panic_of(|| above.switch(1)).contains("another task"));
        });
        other.join().unwrap();
    });
}

#[test]
fn a_panic_surfaces_in_the_parent() {
    clean(|| {
        let child = Greenlet::new(|_: u32| panic!("in the child"));
        assert_eq!(panic_of(|| child.switch(1)), "in the child");
        assert!(child.is_dead());
        assert!(timeout(SHORT, || sleep(NEVER)).is_err(), "the parent can be cancelled as before");
    });
}

#[test]
fn exit_unwinds_and_is_an_error_in_the_parent() {
    clean(|| {
        let log = Log::default();
        let main = main_greenlet::<u32>();
        let child = Greenlet::new({
            let log = log.clone();
            move |n| {
                let _outer = Noted(log.clone(), "outer");
                let _inner = Noted(log, "inner");
                main.switch(n).unwrap()
            }
        });
        assert_eq!(child.switch(1), Ok(1));
        assert_eq!(child.exit(), Err(GreenletExit));
        assert_eq!(*log.borrow(), ["inner", "outer"]);
        assert!(child.is_dead());
        assert_eq!(child.exit(), Err(GreenletExit), "one that is dead passes it on");
    });
}

#[test]
fn a_throw_can_be_caught_where_it_lands() {
    clean(|| {
        let main = main_greenlet::<u32>();
        let child = Greenlet::new(move |n| {
            let thrown = catch_unwind(AssertUnwindSafe(|| main.switch(n))).unwrap_err();
            *thrown.downcast::<u32>().unwrap()
        });
        assert_eq!(child.switch(1), Ok(1));
        assert_eq!(child.throw(Box::new(9_u32)), Ok(9));
        // Into one that is dead: it comes back to the parent, here.
        let thrown = catch_unwind(AssertUnwindSafe(|| child.throw(Box::new(7_u32)))).unwrap_err();
        assert_eq!(*thrown.downcast::<u32>().unwrap(), 7);
    });
}

#[test]
fn a_throw_into_one_that_has_not_begun_ends_it() {
    clean(|| {
        let log = Log::default();
        let noted = Noted(log.clone(), "captured");
        let child = Greenlet::new(move |n: u32| {
            let _noted = noted;
            n
        });
        assert_eq!(child.exit(), Err(GreenletExit));
        assert!(child.is_dead());
        assert_eq!(*log.borrow(), ["captured"]);
        let child = Greenlet::new(|n: u32| n);
        let thrown = catch_unwind(AssertUnwindSafe(|| child.throw(Box::new("x")))).unwrap_err();
        assert_eq!(message(&*thrown), "x");
    });
}

#[test]
fn values_of_another_type_are_refused_before_the_switch() {
    clean(|| {
        let main = main_greenlet::<u32>();
        let number = Greenlet::new(move |n: u32| main.switch(n).unwrap());
        assert_eq!(number.switch(1), Ok(1));
        let refused = Rc::new(RefCell::new(String::new()));
        let told = refused.clone();
        let text = Greenlet::new(move |s: String| {
            // A handle of this type to the other greenlet, and to main, which waits for text.
            let wrong = Greenlet::<u32>::current().parent().unwrap();
            *told.borrow_mut() = panic_of(|| wrong.switch(1));
            s
        });
        assert_eq!(text.switch("a".into()), Ok("a".into()));
        assert!(refused.borrow().contains("`alloc::string::String`") && refused.borrow().contains("`u32`"));

        // One that ends with a value that its parent does not wait for panics there.
        let main = main_greenlet::<String>();
        let text = Greenlet::new(move |s: String| {
            let number = Greenlet::new(|n: u32| n);
            number.set_parent(&Greenlet::<u32>::current().parent().unwrap());
            number.switch(1).unwrap();
            main.switch(s).unwrap()
        });
        assert!(panic_of(|| text.switch("a".into())).contains("waits for a value of type"));
        drop(number);
    });
}

#[test]
fn the_last_handle_ends_a_suspended_one() {
    clean(|| {
        let log = Log::default();
        struct Sleeper(Log);
        impl Drop for Sleeper {
            fn drop(&mut self) {
                sleep(SHORT);
                let refused = Greenlet::<u32>::current().parent().unwrap().switch(1);
                self.0.borrow_mut().push(format!("slept {refused:?}"));
            }
        }
        let make = || {
            let log = log.clone();
            let main = main_greenlet::<u32>();
            let child = Greenlet::new(move |n| {
                let _sleeper = Sleeper(log.clone());
                let _inner = Noted(log, "inner");
                // Caught and ignored: it is thrown again.
                drop(catch_unwind(AssertUnwindSafe(|| main.switch(n))));
                main.switch(n).unwrap()
            });
            child.switch(1).unwrap();
            child
        };
        let child = make();
        drop(child.clone());
        assert!(log.borrow().is_empty());
        drop(child);
        assert_eq!(*log.borrow(), ["inner", "slept Err(GreenletExit)"]);

        // By another task, after the one that made it has ended; and by another greenlet.
        let child = make();
        let from_task = spawn(move || (child, ()));
        drop(from_task.join().unwrap());
        let child = make();
        Greenlet::new(move |n: u32| {
            drop(child);
            n
        })
        .switch(1)
        .unwrap();
        let child = spawn(|| {
            let main = main_greenlet::<u32>();
            let child = Greenlet::new(move |n| main.switch(n).unwrap());
            child.switch(1).unwrap();
            child
        });
        let child = child.join().unwrap();
        assert!(panic_of(|| child.switch(2)).contains("another task"));
        drop(child);
        assert_eq!(log.borrow().len(), 6);
    });
}

/// The initialiser of a task-local begins in one task and ends in another, when the first is gone.
#[test]
fn a_task_local_goes_to_the_task_in_which_its_initialiser_ends() {
    greenroom::task_local! {
        static KEY: TaskId = {
            MADE.set(MADE.get() + 1);
            let main = {
                let me = Greenlet::<()>::current();
                me.parent()
            };
            if let Some(main) = main {
                drop(catch_unwind(AssertUnwindSafe(|| main.switch(()))));
            }
            greenroom::current().id()
        };
    }
    thread_local! {
        static MADE: Cell<u32> = const { Cell::new(0) };
    }
    clean(|| {
        let first = spawn(|| {
            let child = Greenlet::new(|()| KEY.with(|_| ()));
            child.switch(()).unwrap();
            child
        });
        let child = first.join().unwrap();
        // What the first task left is used again.
        let others: Vec<_> = (0..8).map(|_| spawn(greenroom::park)).collect();
        yield_now();
        let second = spawn(move || {
            drop(child);
            KEY.with(|id| *id == greenroom::current().id())
        });
        assert!(second.join().unwrap());
        assert_eq!(MADE.get(), 1, "the second task found it made");
        for other in &others {
            other.kill_nowait();
        }
        for other in others {
            assert!(other.join().unwrap_err().is_killed());
        }
    });
}

#[test]
fn one_that_gives_its_own_last_handle_away_is_ended_by_main() {
    clean(|| {
        let log = Log::default();
        let slot: Rc<Cell<Option<Greenlet<u32>>>> = Rc::default();
        let main = main_greenlet::<u32>();
        let child = Greenlet::new({
            let (slot, log) = (slot.clone(), log.clone());
            move |n| {
                let _noted = Noted(log, "ended");
                drop(slot.take());
                main.switch(n + 1).unwrap()
            }
        });
        slot.set(Some(child));
        // The handle lies in the slot, which the child empties while this frame holds none that lasts.
        let handle = slot.take().unwrap();
        slot.set(Some(handle.clone()));
        let outer = Greenlet::new(move |n: u32| {
            let handle = handle;
            handle.switch(n).unwrap()
        });
        assert_eq!(outer.switch(1), Ok(2));
        drop(outer);
        assert_eq!(*log.borrow(), ["ended"]);
    });
}

#[test]
fn dropped_while_the_owner_unwinds() {
    clean(|| {
        let log = Log::default();
        let inside = log.clone();
        let task = spawn(move || {
            let main = main_greenlet::<u32>();
            let child = Greenlet::new(move |n| {
                let _noted = Noted(inside, "ended");
                main.switch(n).unwrap()
            });
            child.switch(1).unwrap();
            panic!("owner");
        });
        let Err(JoinError::Panicked(payload)) = task.join() else { panic!("it panicked") };
        assert_eq!(message(&*payload), "owner");
        assert_eq!(*log.borrow(), ["ended"]);
    });
}

#[test]
fn what_blocks_in_one_parks_the_task_only() {
    clean(|| {
        let log = Log::default();
        let task = |name: &'static str| {
            let log = log.clone();
            spawn(move || {
                Greenlet::new(move |()| {
                    for _ in 0..2 {
                        log.borrow_mut().push(name.to_owned());
                        yield_now();
                    }
                })
                .switch(())
                .unwrap();
            })
        };
        for task in [task("a"), task("b")] {
            task.join().unwrap();
        }
        assert_eq!(log.borrow().concat(), "abab");
    });
}

#[test]
fn a_kill_unwinds_the_greenlet_then_its_parents_then_the_task() {
    clean(|| {
        let log = Log::default();
        let inside = log.clone();
        let task = spawn(move || {
            let _main = Noted(inside.clone(), "main");
            Greenlet::new(move |n: u32| {
                let _parent = Noted(inside.clone(), "parent");
                Greenlet::new(move |n: u32| {
                    let _child = Noted(inside, "child");
                    sleep(NEVER);
                    n
                })
                .switch(n)
                .unwrap()
            })
            .switch(1)
            .unwrap()
        });
        yield_now();
        task.kill();
        assert!(matches!(task.join(), Err(JoinError::Killed)));
        assert_eq!(*log.borrow(), ["child", "parent", "main"]);
    });
}

#[test]
fn a_timeout_of_main_reaches_the_greenlet_that_runs() {
    clean(|| {
        let main = main_greenlet::<()>();
        let child = Greenlet::new(move |()| {
            // Its own block is left alone while it is suspended.
            let own = timeout(SHORT, || main.switch(()).unwrap());
            assert_eq!(own, Ok(()));
            sleep(NEVER);
        });
        child.switch(()).unwrap();
        sleep(SHORT * 2);
        assert!(timeout(SHORT, || child.switch(())).is_err());
        assert!(child.is_dead());
    });
}

#[test]
fn a_switch_from_within_a_generator_takes_it_along() {
    clean(|| {
        let main = main_greenlet::<u32>();
        let child = Greenlet::new(move |n: u32| {
            let numbers = Generator::new(move |y: &Yielder<(), u32>| {
                y.yield_(n);
                y.yield_(main.switch(n + 1).unwrap());
            });
            numbers.sum()
        });
        assert_eq!(child.switch(1), Ok(2));
        assert_eq!(child.switch(10), Ok(11));

        // And with main in the generator: the greenlets run above it.
        let main = main_greenlet::<u32>();
        let doubler = Greenlet::new(move |first| {
            let mut n = first;
            loop {
                n = main.switch(n * 2).unwrap();
            }
        });
        let doubled = Generator::new(move |y: &Yielder<(), u32>| {
            for n in 0..3 {
                y.yield_(doubler.switch(n).unwrap());
            }
        });
        assert_eq!(doubled.collect::<Vec<_>>(), [0, 2, 4]);
    });
}

#[test]
fn the_tracer_sees_each_switch_in_order() {
    clean(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let seen = log.clone();
        let main = main_greenlet::<u32>();
        let (id, main_id) = (Cell::new(0), main.id());
        let child = Greenlet::new(move |n| main.switch(n).unwrap());
        id.set(child.id());
        set_trace(Some(Rc::new(move |event, from, to| seen.borrow_mut().push((event, from, to)))));
        child.switch(1).unwrap();
        assert_eq!(child.exit(), Err(GreenletExit));
        assert!(set_trace(None).is_some());
        let (child, main) = (id.get(), main_id);
        assert_eq!(
            *log.borrow(),
            [
                (Event::Switch, main, child),
                (Event::Switch, child, main),
                (Event::Throw, main, child),
                (Event::Throw, child, main),
            ]
        );
    });
}

#[test]
fn a_tracer_that_panics_or_switches_is_taken_away() {
    clean(|| {
        let child = Greenlet::new(|n: u32| n);
        set_trace(Some(Rc::new(|_, _, _| panic!("tracer"))));
        assert_eq!(panic_of(|| child.switch(1)), "tracer");
        assert!(!child.is_active(), "nothing was switched");
        assert!(set_trace(None).is_none());

        let other = child.clone();
        set_trace(Some(Rc::new(move |_, _, _| assert!(other.switch(1).is_ok()))));
        assert!(panic_of(|| child.switch(1)).contains("must not switch"));
        assert_eq!(child.switch(1), Ok(1));

        // At a greenlet's end the parent meets it.
        let calls = Cell::new(0);
        set_trace(Some(Rc::new(move |_, _, _| {
            calls.set(calls.get() + 1);
            assert!(calls.get() < 2, "second");
        })));
        assert_eq!(panic_of(|| Greenlet::new(|n: u32| n).switch(1)), "second");
    });
}

#[test]
fn each_task_has_a_main_of_its_own() {
    clean(|| {
        let id = main_greenlet::<()>().id();
        assert_eq!(main_greenlet::<()>().id(), id);
        assert_ne!(spawn(|| main_greenlet::<()>().id()).join().unwrap(), id);
    });
}

#[test]
fn one_in_a_thread_local_ends_when_the_hub_is_gone() {
    struct Told;
    impl Drop for Told {
        fn drop(&mut self) {
            ENDED.store(true, std::sync::atomic::Ordering::SeqCst);
            // Nobody can switch any more.
            assert!(Greenlet::with_stack_size(1 << 16, |()| ()).is_err());
        }
    }
    static ENDED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    thread_local!(static KEPT: RefCell<Option<Greenlet<()>>> = const { RefCell::new(None) });
    std::thread::spawn(|| {
        KEPT.with(|kept| {
            let main = main_greenlet::<()>();
            let child = Greenlet::new(move |()| {
                let _told = Told;
                let _elapsed = timeout(NEVER, || main.switch(()).unwrap());
            });
            child.switch(()).unwrap();
            *kept.borrow_mut() = Some(child);
        });
    })
    .join()
    .unwrap();
    assert!(ENDED.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
#[allow(clippy::mem_forget, reason = "what is tested")]
fn a_forgotten_one_leaks_and_harms_nothing() {
    std::thread::spawn(|| {
        let main = main_greenlet::<()>();
        let child = Greenlet::new(move |()| assert!(timeout(SHORT, || main.switch(())).is_err()));
        child.switch(()).unwrap();
        std::mem::forget(child);
        sleep(SHORT * 2);
        assert_eq!(live_stacks(), 1);
    })
    .join()
    .unwrap();
}
