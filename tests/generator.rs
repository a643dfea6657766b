//! Generators, seen from outside.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use greenroom::generator::{Builder, Generator, GeneratorState, Yielder};
use greenroom::net::{TcpListener, TcpStream};
use greenroom::testing::{live_stacks, live_tasks};
use greenroom::{JoinError, scope, shield, sleep, spawn, timeout, yield_now};

type Y<'a, T> = Yielder<'a, (), T>;

const SHORT: Duration = Duration::from_millis(2);
const NEVER: Duration = Duration::from_secs(3600);

/// Runs `f` in a thread, and so on a hub, of its own; stacks and tasks are back where they were.
fn clean(f: impl FnOnce() + Send + 'static) {
    let run = || {
        let before = (live_stacks(), live_tasks());
        f();
        assert_eq!((live_stacks(), live_tasks()), before, "stacks and tasks are back at the baseline");
    };
    if let Err(payload) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(payload);
    }
}

/// Notes its name when it is dropped.
struct Noted(Rc<RefCell<Vec<&'static str>>>, &'static str);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1);
    }
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(|text| &**text)).unwrap_or("")
}

fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => message(&*payload).to_owned(),
    }
}

#[test]
fn values_come_in_order_and_none_for_ever_after() {
    clean(|| {
        let mut generator = Generator::new(|y: &Y<u32>| (0..3).for_each(|n| y.yield_(n)));
        assert!(!generator.is_done());
        assert_eq!(generator.by_ref().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(generator.is_done());
        assert_eq!((generator.next(), generator.next()), (None, None));
    });
}

#[test]
fn the_body_runs_only_while_it_is_asked() {
    clean(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let inside = log.clone();
        let mut generator = Generator::new(move |y: &Y<()>| {
            inside.borrow_mut().push("begun");
            y.yield_(());
            inside.borrow_mut().push("resumed");
        });
        log.borrow_mut().push("made");
        generator.next();
        log.borrow_mut().push("one");
        generator.next();
        assert_eq!(*log.borrow(), ["made", "begun", "one", "resumed"]);
    });
}

#[test]
fn values_go_both_ways() {
    clean(|| {
        let mut echo = Generator::with_resume(|y: &Yielder<String, usize>, first: String| {
            let second = y.yield_(first.len());
            let third = y.yield_(second.len());
            (first, second, third)
        });
        assert_eq!(echo.resume("a".into()), GeneratorState::Yielded(1));
        assert_eq!(echo.resume("bc".into()), GeneratorState::Yielded(2));
        let GeneratorState::Complete(all) = echo.resume("def".into()) else { panic!("it returned") };
        assert_eq!(all, ("a".into(), "bc".into(), "def".into()));
        assert!(panic_of(|| echo.resume("x".into())).contains("is done"));
    });
}

#[test]
fn one_that_never_began_drops_its_closure_only() {
    clean(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let noted = Noted(log.clone(), "captured");
        drop(Generator::new(move |_: &Y<u32>| {
            let _noted = noted;
            unreachable!("it never began");
        }));
        assert_eq!(*log.borrow(), ["captured"]);

        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in a captured value");
            }
        }
        let bomb = Bomb;
        let generator = Generator::new(move |_: &Y<u32>| drop(bomb));
        assert_eq!(panic_of(|| drop(generator)), "in a captured value");
    });
}

#[test]
fn drop_runs_destructors_innermost_first_and_they_may_park() {
    clean(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        struct Sleeper(Rc<RefCell<Vec<&'static str>>>);
        impl Drop for Sleeper {
            fn drop(&mut self) {
                sleep(SHORT);
                self.0.borrow_mut().push("slept");
            }
        }
        let inside = log.clone();
        let mut generator = Generator::new(move |y: &Y<u32>| {
            let _outer = Noted(inside.clone(), "outer");
            let _sleeper = Sleeper(inside.clone());
            let _inner = Noted(inside.clone(), "inner");
            y.yield_(1);
            unreachable!("it is closed here");
        });
        let ticker = spawn({
            let log = log.clone();
            move || log.borrow_mut().push("another task")
        });
        assert_eq!(generator.next(), Some(1));
        drop(generator);
        assert_eq!(*log.borrow(), ["inner", "another task", "slept", "outer"]);
        ticker.join().unwrap();
    });
}

#[test]
fn drop_while_the_consumer_unwinds() {
    clean(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let inside = log.clone();
        let task = spawn(move || {
            let mut generator = Generator::new(move |y: &Y<u32>| {
                let _noted = Noted(inside, "closed");
                while catch_unwind(AssertUnwindSafe(|| y.yield_(1))).is_ok() {}
                sleep(SHORT);
            });
            generator.next();
            panic!("consumer");
        });
        let Err(JoinError::Panicked(payload)) = task.join() else { panic!("it panicked") };
        assert_eq!(message(&*payload), "consumer");
        assert_eq!(*log.borrow(), ["closed"]);
    });
}

#[test]
fn drop_in_another_task_than_the_one_that_began_it() {
    clean(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let inside = log.clone();
        let generator = spawn(move || {
            let mut generator = Generator::new(move |y: &Y<u32>| {
                let _noted = Noted(inside, "closed");
                let _elapsed = timeout(NEVER, || shield(|| scope(|_| y.yield_(1))));
            });
            generator.next();
            generator
        });
        let generator = generator.join().unwrap();
        spawn(move || drop(generator)).join().unwrap();
        assert_eq!(*log.borrow(), ["closed"]);
    });
}

#[test]
fn yield_in_a_destructor_of_a_closing_body_returns_at_once() {
    clean(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        struct Yields<'a>(&'a Y<'a, Noted>, Rc<RefCell<Vec<&'static str>>>);
        impl Drop for Yields<'_> {
            fn drop(&mut self) {
                self.0.yield_(Noted(self.1.clone(), "value"));
                self.1.borrow_mut().push("returned");
            }
        }
        let inside = log.clone();
        let mut generator = Generator::new(move |y: &Y<Noted>| {
            let _yields = Yields(y, inside.clone());
            y.yield_(Noted(inside.clone(), "first"));
        });
        drop(generator.next());
        drop(generator);
        assert_eq!(*log.borrow(), ["first", "value", "returned"]);
    });
}

#[test]
fn a_panic_surfaces_in_the_consumer_and_ends_the_generator() {
    clean(|| {
        let mut generator = Generator::new(|y: &Y<u32>| {
            y.yield_(1);
            panic!("in the body");
        });
        assert_eq!(generator.next(), Some(1));
        assert_eq!(panic_of(|| generator.next()), "in the body");
        assert!(generator.is_done());
        assert_eq!(generator.next(), None);
        // The consumer is as it was: it can be cancelled, which one that unwinds cannot.
        assert!(timeout(SHORT, || sleep(NEVER)).is_err());
    });
}

#[test]
fn a_panic_of_a_closing_body_surfaces_in_the_drop() {
    clean(|| {
        let mut generator = Generator::new(|y: &Y<u32>| {
            let closed = catch_unwind(AssertUnwindSafe(|| y.yield_(1)));
            assert!(closed.is_ok(), "instead of ending");
        });
        generator.next();
        assert_eq!(panic_of(|| drop(generator)), "instead of ending");
    });
}

#[test]
fn what_blocks_inside_parks_only_the_task_that_asks() {
    clean(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let count = Rc::new(Cell::new(0));

        let reader = spawn(move || {
            let bytes = Generator::new(move |y: &Y<u8>| {
                let mut byte = [0];
                while server.read(&mut byte).unwrap() == 1 {
                    y.yield_(byte[0]);
                }
            });
            bytes.collect::<Vec<_>>()
        });
        let ticks = count.clone();
        let writer = spawn(move || {
            for byte in 0..10 {
                sleep(Duration::from_micros(100));
                client.write_all(&[byte]).unwrap();
                ticks.set(ticks.get() + 1);
            }
        });
        assert_eq!(reader.join().unwrap(), (0..10).collect::<Vec<u8>>());
        assert_eq!(count.get(), 10);
        writer.join().unwrap();
    });
}

#[test]
fn on_the_root_a_body_that_sleeps_lets_the_tasks_run() {
    clean(|| {
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        let task = spawn(move || flag.set(true));
        let mut generator = Generator::new(|y: &Y<u32>| {
            sleep(SHORT);
            y.yield_(1);
        });
        assert_eq!(generator.next(), Some(1));
        assert!(done.get());
        task.join().unwrap();
    });
}

#[test]
fn a_timeout_inside_does_not_leak_to_the_consumer() {
    clean(|| {
        let mut generator = Generator::new(|y: &Y<&str>| {
            let ended = timeout(SHORT, || {
                y.yield_("inside");
                sleep(NEVER);
            });
            y.yield_(if ended.is_err() { "elapsed" } else { "not elapsed" });
        });
        assert_eq!(generator.next(), Some("inside"));
        // The inner time runs out here, where nobody is inside.
        sleep(SHORT * 3);
        assert_eq!(generator.next(), Some("elapsed"));
        assert_eq!(generator.next(), None);
    });
}

#[test]
fn a_timeout_of_the_consumer_reaches_inside_and_ends_the_generator() {
    clean(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let inside = log.clone();
        let mut generator = Generator::new(move |y: &Y<u32>| {
            let _noted = Noted(inside, "unwound");
            y.yield_(1);
            let inner = timeout(NEVER, || sleep(NEVER));
            unreachable!("the outer block ends, not {inner:?}");
        });
        assert_eq!(generator.next(), Some(1));
        assert!(timeout(SHORT, || generator.next()).is_err());
        assert_eq!(*log.borrow(), ["unwound"]);
        assert!(generator.is_done());
        sleep(SHORT);
    });
}

#[test]
fn a_timeout_inside_follows_the_task_that_runs_it() {
    clean(|| {
        let mut generator = spawn(|| {
            let mut generator = Generator::new(|y: &Y<bool>| {
                let ended = timeout(SHORT, || {
                    y.yield_(false);
                    sleep(NEVER);
                });
                y.yield_(ended.is_err());
            });
            generator.next();
            generator
        })
        .join()
        .unwrap();
        // The task that began the block has ended.
        assert_eq!(spawn(move || generator.next()).join().unwrap(), Some(true));
    });
}

#[test]
fn a_shield_inside_follows_the_generator() {
    clean(|| {
        let mut generator = Generator::new(|y: &Y<u32>| {
            shield(|| {
                y.yield_(1);
                sleep(SHORT * 2);
                y.yield_(2);
            });
            sleep(NEVER);
        });
        generator.next();
        assert!(timeout(SHORT, || sleep(NEVER)).is_err(), "the consumer is not shielded");
        assert_eq!(timeout(SHORT, || generator.next()), Ok(Some(2)), "the body is");
        assert!(timeout(SHORT, || generator.next()).is_err(), "and then it is not");
    });
}

#[test]
fn a_kill_unwinds_the_body_then_the_task() {
    clean(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let (inside, outside) = (log.clone(), log.clone());
        let task = spawn(move || {
            let _task = Noted(outside, "task");
            let mut outer = Generator::new(move |y: &Y<u32>| {
                let _outer = Noted(inside.clone(), "outer");
                y.yield_from(Generator::new(move |_: &Y<u32>| {
                    let _inner = Noted(inside, "inner");
                    sleep(NEVER);
                }));
            });
            outer.next();
            unreachable!("killed inside");
        });
        yield_now();
        task.kill();
        assert!(matches!(task.join(), Err(JoinError::Killed)));
        assert_eq!(*log.borrow(), ["inner", "outer", "task"]);
    });
}

#[test]
fn a_kill_while_suspended_closes_the_generator() {
    clean(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let inside = log.clone();
        let task = spawn(move || {
            let mut generator = Generator::new(move |y: &Y<u32>| {
                let _noted = Noted(inside, "closed");
                y.yield_(1);
            });
            generator.next();
            sleep(NEVER);
        });
        yield_now();
        task.kill();
        assert_eq!(*log.borrow(), ["closed"]);
    });
}

#[test]
fn a_kill_is_not_raised_in_a_body_that_a_destructor_resumes() {
    clean(|| {
        struct Drains(Generator<u32>, Rc<Cell<u32>>);
        impl Drop for Drains {
            fn drop(&mut self) {
                // Sleeps inside: a kill that came out of this would abort.
                self.1.set(self.0.by_ref().sum());
            }
        }
        let sum = Rc::new(Cell::new(0));
        let out = sum.clone();
        let task = spawn(move || {
            let _drains = Drains(
                Generator::new(|y: &Y<u32>| {
                    for n in 1..=3 {
                        sleep(SHORT);
                        assert!(timeout(SHORT, || sleep(NEVER)).is_err(), "its own blocks work as ever");
                        y.yield_(n);
                    }
                }),
                out,
            );
            panic!("consumer");
        });
        yield_now();
        task.kill();
        assert_eq!(sum.get(), 6);
        assert!(matches!(task.join(), Err(JoinError::Panicked(_))));
    });
}

#[test]
fn a_scope_inside_holds_tasks_of_the_hub() {
    clean(|| {
        let mut generator = Generator::new(|y: &Y<u32>| {
            let local = Cell::new(1);
            scope(|s| {
                s.spawn(|| local.set(local.get() + 1));
                y.yield_(local.get());
                s.spawn(|| local.set(local.get() + 1));
            });
            y.yield_(local.get());
        });
        assert_eq!(generator.next(), Some(1));
        assert_eq!(generator.next(), Some(3));
        assert_eq!(generator.next(), None);

        // One that is closed in the midst of a scope kills what runs in it.
        let mut generator = Generator::new(|y: &Y<u32>| {
            let borrowed = 1;
            scope(|s| {
                s.spawn(|| {
                    sleep(NEVER);
                    assert_eq!(borrowed, 1);
                });
                y.yield_(1);
            });
        });
        generator.next();
        yield_now();
        drop(generator);
    });
}

#[test]
fn a_task_of_a_scope_cannot_yield_for_the_body() {
    clean(|| {
        let mut generator = Generator::new(|y: &Y<u32>| {
            let refused = scope(|s| s.spawn(|| panic_of(|| y.yield_(1))).join().unwrap());
            assert!(refused.contains("only yield from its own body"));
            y.yield_(2);
        });
        assert_eq!(generator.next(), Some(2));
    });
}

#[test]
fn recursion_a_thousand_deep() {
    clean(|| {
        fn nested(depth: u32) -> Generator<u32> {
            Generator::new(move |y: &Y<u32>| {
                y.yield_(depth);
                if depth > 1 {
                    y.yield_from(nested(depth - 1));
                }
            })
        }
        assert!(nested(1000).eq((1..=1000).rev()));
        let mut half_way = nested(1000);
        assert_eq!(half_way.nth(500), Some(500));
    });
}

#[test]
fn ten_thousand_at_once() {
    clean(|| {
        let mut all: Vec<_> = (0..10_000_u32)
            .map(|n| {
                Generator::new(move |y: &Y<u32>| {
                    y.yield_(n);
                    y.yield_(n + 1);
                })
            })
            .collect();
        for round in 0..2 {
            for (n, generator) in (0..).zip(&mut all) {
                assert_eq!(generator.next(), Some(n + round));
            }
        }
    });
}

#[test]
#[allow(clippy::mem_forget, reason = "what is tested")]
fn a_forgotten_generator_leaks_and_harms_nothing() {
    std::thread::spawn(|| {
        let noted = Rc::new(RefCell::new(Vec::new()));
        let inside = noted.clone();
        let mut generator = Generator::new(move |y: &Y<u32>| {
            let _noted = Noted(inside, "never");
            let _elapsed = timeout(SHORT, || y.yield_(1));
        });
        generator.next();
        std::mem::forget(generator);
        sleep(SHORT * 2);
        assert!(timeout(SHORT, || sleep(NEVER)).is_err());
        assert!(noted.borrow().is_empty());
        assert_eq!(live_stacks(), 1);
    })
    .join()
    .unwrap();
}

#[test]
fn one_cannot_resume_itself() {
    clean(|| {
        let slot: Rc<RefCell<Option<Generator<u32>>>> = Rc::default();
        let weak = Rc::downgrade(&slot);
        *slot.borrow_mut() = Some(Generator::new(move |y: &Y<u32>| {
            let slot = weak.upgrade().unwrap();
            assert!(slot.try_borrow_mut().is_err());
            drop(slot);
            y.yield_(1);
        }));
        assert_eq!(slot.borrow_mut().as_mut().unwrap().next(), Some(1));
    });
}

#[test]
fn one_in_a_thread_local_is_closed_when_the_hub_is_gone() {
    thread_local! {
        static KEPT: RefCell<Option<Generator<u32>>> = const { RefCell::new(None) };
        static COMPUTED: Last = const { Last };
    }
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            // Pure computation needs no hub.
            let sum: u32 = Generator::new(|y: &Y<u32>| (1..=4).for_each(|n| y.yield_(n))).sum();
            SENT.lock().unwrap().push(format!("sum {sum}"));
        }
    }
    struct Told;
    impl Drop for Told {
        fn drop(&mut self) {
            SENT.lock().unwrap().push("closed".to_owned());
        }
    }
    static SENT: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

    std::thread::spawn(|| {
        KEPT.with(|kept| {
            COMPUTED.with(|_| ());
            let mut generator = Generator::new(|y: &Y<u32>| {
                let _told = Told;
                // The block has a timer in the hub.
                let _elapsed = timeout(NEVER, || y.yield_(1));
            });
            generator.next();
            *kept.borrow_mut() = Some(generator);
        });
    })
    .join()
    .unwrap();
    let mut sent = SENT.lock().unwrap().clone();
    sent.sort();
    assert_eq!(sent, ["closed", "sum 10"]);
}

#[test]
fn a_stack_that_cannot_be_had_is_an_error() {
    clean(|| {
        assert!(Builder::new().stack_size(usize::MAX).build(|_: &Y<u32>| ()).is_err());
        let size = 4 << 20;
        let generator = Builder::new().stack_size(size).build(move |y: &Y<usize>| {
            let room = std::hint::black_box(vec![0_u8; size / 2]);
            y.yield_(room.len());
        });
        assert_eq!(generator.unwrap().next(), Some(size / 2));
    });
}

#[test]
fn tasks_that_yield_from_generators_take_turns() {
    clean(|| {
        let log = Rc::new(RefCell::new(String::new()));
        let task = |name: char| {
            let log = log.clone();
            spawn(move || {
                let letters = Generator::new(move |y: &Y<char>| {
                    for _ in 0..2 {
                        y.yield_(name);
                        yield_now();
                    }
                });
                letters.for_each(|letter| log.borrow_mut().push(letter));
            })
        };
        for task in [task('x'), task('y'), task('z')] {
            task.join().unwrap();
        }
        assert_eq!(*log.borrow(), "xyzxyz");
    });
}
