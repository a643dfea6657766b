//! Rule 29: tasks with thread-locals of their own.
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "calls of the C library in a row")]
#![allow(clippy::print_stdout, reason = "children tell what they did")]

mod common;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::ffi::{CString, c_int, c_void};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, panicking};

use common::{Count, EVER, Log, MS, OnDrop, check, fail, in_child, panic_of, stderr};
use greenroom::generator::{Generator, Yielder};
use greenroom::greenlet::Greenlet;
use greenroom::os::{Fork, fork};
use greenroom::{Builder, HubHandle, JoinHandle, joinall, park, sleep, spawn, spawn_later, timeout, yield_now};

/// Spawns a task with thread-locals of its own.
fn spawn_own<T: 'static>(body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    // SAFETY: the tests share handles, counters and logs of `common`, none of which cares for thread-locals.
    unsafe { Builder::new().own_thread_locals(true) }.spawn(body).unwrap()
}

thread_local! {
    static PLAIN: Cell<u32> = const { Cell::new(7) };
    static LAZY: Cell<u32> = Cell::new("8".parse().unwrap());
    static SHARED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static LAST_WORDS: OnceCell<OnDrop> = const { OnceCell::new() };
}

#[test]
fn a_value_is_the_tasks_own_and_new_each_time() {
    check(|| {
        PLAIN.set(1);
        LAZY.set(2);
        for _ in 0..500 {
            let tasks = [0, 1].map(|n| {
                spawn_own(move || {
                    let found = (PLAIN.replace(n), LAZY.replace(n + 10), SHARED.take().len());
                    SHARED.set(vec![1, 2, 3]);
                    yield_now();
                    (found, PLAIN.get(), LAZY.get())
                })
            });
            for (n, task) in (0..).zip(tasks) {
                assert_eq!(task.join().unwrap(), ((7, 8, 0), n, n + 10));
            }
        }
        assert_eq!((PLAIN.get(), LAZY.get()), (1, 2));
    });
}

#[test]
fn other_tasks_have_the_threads_values_as_ever() {
    check(|| {
        PLAIN.set(1);
        let own = spawn_own(|| {
            PLAIN.set(2);
            // A task of such a one has none of its own unless it is asked for.
            let inner = spawn(|| PLAIN.replace(3)).join().unwrap();
            (inner, PLAIN.get())
        });
        assert_eq!(own.join().unwrap(), (1, 2));
        assert_eq!(PLAIN.get(), 3);
        // SAFETY: nothing is shared.
        let not = unsafe { Builder::new().own_thread_locals(false) }.spawn(|| PLAIN.get()).unwrap();
        assert_eq!(not.join().unwrap(), 3);
    });
}

#[test]
fn by_default_all_have_their_own_where_that_is_asked_for() {
    let child = in_child("by_default_all_have_their_own_where_that_is_asked_for", || {
        PLAIN.set(1);
        assert_eq!(spawn(|| PLAIN.get()).join().unwrap(), 1);
        // SAFETY: nothing is shared.
        unsafe { greenroom::testing::own_thread_locals_by_default() }.unwrap();
        assert_eq!(spawn(|| PLAIN.replace(2)).join().unwrap(), 7);
        assert_eq!(spawn_later(MS, || PLAIN.replace(2)).join().unwrap(), 7);
        assert_eq!(greenroom::scope(|s| s.spawn(|| PLAIN.replace(2)).join().unwrap()), 7);
        assert_eq!(greenroom::pool::Pool::new(2).spawn(|| PLAIN.replace(2)).join().unwrap(), 7);
        let hub = HubHandle::current();
        let other = thread::spawn(move || hub.spawn(|| PLAIN.replace(2)).join().unwrap());
        while !other.is_finished() {
            sleep(MS);
        }
        assert_eq!(other.join().unwrap(), 7);
        // SAFETY: nothing is shared.
        let not = unsafe { Builder::new().own_thread_locals(false) }.spawn(|| PLAIN.get()).unwrap();
        assert_eq!(not.join().unwrap(), 1);
        println!("done");
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}", stderr(&child));
    assert!(String::from_utf8_lossy(&child.stdout).contains("done"));
}

#[test]
fn values_are_destroyed_at_the_end_before_the_join_and_may_park() {
    struct Slow(Log);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.add("slow: begins");
            sleep(MS);
            // Once more on its own: a value that is made in a destructor is destroyed too.
            LAST_WORDS.with(|words| words.get_or_init(|| OnDrop(self.0.clone(), "made late")).0.add("slow: ends"));
        }
    }
    thread_local! {
        static SLOW: OnceCell<Slow> = const { OnceCell::new() };
    }
    check(|| {
        let log = Log::default();
        let inner = log.clone();
        let task = spawn_own(move || {
            SLOW.with(|slow| assert!(slow.set(Slow(inner.clone())).is_ok()));
            let other = inner.clone();
            spawn(move || other.add("another task"));
            inner.add("body is over");
        });
        task.join().unwrap();
        log.add("joined");
        assert_eq!(log.take(), ["body is over", "slow: begins", "another task", "slow: ends", "made late", "joined"]);
    });
}

#[test]
fn values_are_destroyed_on_the_tasks_own_stack_and_only_its_own() {
    struct Where(Rc<Cell<usize>>);
    impl Drop for Where {
        fn drop(&mut self) {
            let here = 0_u8;
            self.0.set((&raw const here).addr());
        }
    }
    thread_local! {
        static WHERE: RefCell<Option<Where>> = const { RefCell::new(None) };
    }
    check(|| {
        let dropped = Rc::new(Cell::new(0));
        WHERE.set(Some(Where(dropped.clone())));
        let inner = Rc::new(Cell::new(0));
        let (seen, outer) = (inner.clone(), dropped.clone());
        let stack = spawn_own(move || {
            WHERE.set(Some(Where(seen)));
            let here = 0_u8;
            (&raw const here).addr()
        });
        let stack = stack.join().unwrap();
        assert!(stack.abs_diff(inner.get()) < 256 * 1024);
        assert_eq!(outer.get(), 0, "the root's value lives on");
        drop(WHERE.take());
    });
}

#[test]
fn a_destructor_that_panics_ends_the_program_as_with_std() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a thread-local's destructor");
        }
    }
    thread_local! {
        static BOMB: Bomb = const { Bomb };
    }
    let child = in_child("a_destructor_that_panics_ends_the_program_as_with_std", || {
        let _never = spawn_own(|| BOMB.with(|_| ())).join();
        println!("still there");
    });
    let Some(child) = child else { return };
    assert!(!child.status.success());
    assert!(stderr(&child).contains("thread local panicked on drop"), "{}", stderr(&child));
}

#[test]
fn live_tasks_are_different_threads_to_std_and_to_c() {
    check(|| {
        // SAFETY: no precondition.
        let me = || (thread::current().id(), unsafe { libc::pthread_self() });
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                spawn_own(move || {
                    let before = me();
                    yield_now();
                    assert_eq!(before, me());
                    before
                })
            })
            .collect();
        let mut all: Vec<_> = joinall(tasks).into_iter().map(Result::unwrap).collect();
        all.push(me());
        assert_eq!(all.iter().map(|(id, _)| *id).collect::<HashSet<_>>().len(), 51);
        assert_eq!(all.iter().map(|(_, c)| *c).collect::<HashSet<_>>().len(), 51);
        // Std's numbers are never used again.
        let later = spawn_own(|| thread::current().id()).join().unwrap();
        assert!(all.iter().all(|(id, _)| *id != later));
        assert_eq!(spawn_own(|| thread::current().name().map(String::from)).join().unwrap(), None);
    });
}

#[test]
fn a_borrow_may_be_held_across_a_park() {
    check(|| {
        let tasks: Vec<_> = (0..20)
            .map(|n| {
                spawn_own(move || {
                    SHARED.with_borrow_mut(|all| {
                        for i in 0..20 {
                            all.push(n + i);
                            yield_now();
                        }
                        all.iter().sum::<u32>()
                    })
                })
            })
            .collect();
        for (n, sum) in (0..).zip(joinall(tasks)) {
            assert_eq!(sum.unwrap(), 20 * n + 190);
        }
    });
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

fn set_errno(value: i32) {
    // SAFETY: the calling thread's variable.
    unsafe { *libc::__errno_location() = value };
}

#[test]
fn errno_is_the_tasks_own_across_switches_and_zero_at_first() {
    check(|| {
        set_errno(99);
        for _ in 0..3 {
            let tasks = [1, 2, 3].map(|n| {
                spawn_own(move || {
                    let first = errno();
                    set_errno(n);
                    for _ in 0..3 {
                        yield_now();
                        assert_eq!(errno(), n);
                    }
                    first
                })
            });
            for first in joinall(tasks) {
                assert_eq!(first.unwrap(), 0);
            }
        }
    });
}

#[test]
fn printing_works_in_many_tasks() {
    let child = in_child("printing_works_in_many_tasks", || {
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                spawn_own(move || {
                    println!("task {n}");
                    yield_now();
                    eprintln!("task {n} again");
                })
            })
            .collect();
        joinall(tasks).into_iter().for_each(|end| end.unwrap());
    });
    let Some(child) = child else { return };
    assert!(child.status.success());
    let out = String::from_utf8(child.stdout).unwrap();
    for n in 0..100 {
        assert!(out.contains(&format!("task {n}\n")));
    }
}

/// Parks while its owner unwinds.
struct ParksUnwinding(Log);

impl Drop for ParksUnwinding {
    fn drop(&mut self) {
        self.0.add(format!("unwinding {}", panicking()));
        park();
        self.0.add(format!("still unwinding {}", panicking()));
    }
}

#[test]
fn panicking_tells_of_the_task_alone() {
    check(|| {
        for (first_own, second_own) in [(true, true), (true, false), (false, true)] {
            // SAFETY: as in `spawn_own`.
            let builder = |own| unsafe { Builder::new().own_thread_locals(own) };
            let log = Log::default();
            let inner = log.clone();
            let unwinds = builder(first_own)
                .spawn(move || {
                    let _parks = ParksUnwinding(inner);
                    fail::<()>("on purpose");
                })
                .unwrap();
            yield_now();
            let other =
                builder(second_own).spawn(|| (panicking(), catch_unwind(|| fail::<()>("x")).is_err(), panicking()));
            assert_eq!(other.unwrap().join().unwrap(), (false, true, false));
            // It can be killed, and timed out, though another one unwinds.
            let bounded = builder(second_own).spawn(|| timeout(MS, park).is_err()).unwrap();
            assert!(bounded.join().unwrap());
            let killed = builder(second_own).spawn(park).unwrap();
            yield_now();
            killed.kill();
            assert!(killed.join().unwrap_err().is_killed());

            if first_own {
                assert!(!panicking(), "the root does not unwind");
            }
            unwinds.task().unpark();
            assert!(unwinds.join().is_err());
            assert_eq!(log.take(), ["unwinding true", "still unwinding true"]);
        }
    });
}

#[test]
fn a_park_in_an_unwind_is_not_cancelled_and_one_after_it_is() {
    check(|| {
        let log = Log::default();
        let inner = log.clone();
        let task = spawn_own(move || {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _parks = ParksUnwinding(inner.clone());
                fail::<()>("on purpose");
            }));
            inner.add(format!("caught {}", caught.is_err()));
            park();
            inner.add("never");
        });
        yield_now();
        task.kill_nowait();
        yield_now();
        assert_eq!(log.take(), ["unwinding true"]);
        task.task().unpark();
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(log.take(), ["still unwinding true", "caught true"]);
    });
}

#[test]
fn who_unwinds_is_told_from_a_task_with_its_own() {
    check(|| {
        // One shares the thread's count and is parked in its unwind, which no kill may reach.
        let log = Log::default();
        let (inner, done) = (log.clone(), Rc::new(Cell::new(false)));
        let until = done.clone();
        let unwinds = spawn(move || {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _parks = ParksUnwinding(inner);
                fail::<()>("on purpose");
            }));
            while !until.get() {
                yield_now();
            }
            caught.is_err()
        });
        yield_now();
        // Another one catches a panic meanwhile and parks; it is taken for one that unwinds.
        let catches = spawn(|| {
            let _caught = catch_unwind(|| fail::<()>("x"));
            park();
        });
        yield_now();

        // Seen from a task that does not unwind, the first one still does.
        let (first, other) = (unwinds.task(), spawn(park));
        yield_now();
        spawn_own(move || {
            first.kill_nowait();
            other.kill();
        })
        .join()
        .unwrap();
        assert_eq!(log.take(), ["unwinding true"]);
        unwinds.task().unpark();
        yield_now();
        assert_eq!(log.take(), ["still unwinding true"]);

        // Seen from a task that does unwind, nobody else does any more, and the second one can be killed.
        struct Kills(greenroom::Task);
        impl Drop for Kills {
            fn drop(&mut self) {
                assert!(panicking());
                self.0.kill();
            }
        }
        let victim = catches.task();
        let kills = spawn_own(move || {
            let _kills = Kills(victim);
            fail::<()>("on purpose");
        });
        assert!(kills.join().is_err());
        assert!(catches.join().unwrap_err().is_killed());
        done.set(true);
        assert!(unwinds.join().unwrap_err().is_killed());
    });
}

#[test]
fn a_panic_is_reported_and_ends_its_task_only() {
    let child = in_child("a_panic_is_reported_and_ends_its_task_only", || {
        // SAFETY: nothing is shared.
        let named = unsafe { Builder::new().name("worker".into()).own_thread_locals(true) };
        let ended = named.spawn(|| panic!("the message")).unwrap().join();
        assert!(ended.unwrap_err().to_string().contains("the message"));
        assert_eq!(spawn_own(|| 1).join().unwrap(), 1);
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}", stderr(&child));
    assert!(stderr(&child).contains("task 'worker'") && stderr(&child).contains("the message"));
}

#[test]
fn kills_and_timeouts_unwind_as_ever() {
    check(|| {
        let log = Log::default();
        let inner = log.clone();
        let task = spawn_own(move || {
            LAST_WORDS.with(|words| assert!(words.set(OnDrop(inner.clone(), "thread-local")).is_ok()));
            let _frame = OnDrop(inner, "frame");
            park();
        });
        yield_now();
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(log.take(), ["frame", "thread-local"]);

        let inner = log.clone();
        let before = spawn_own(move || inner.add("never"));
        before.kill();
        assert!(before.join().unwrap_err().is_killed());
        let bounded = spawn_own(|| (timeout(MS, || sleep(EVER)).is_err(), timeout(EVER, || 5)));
        assert!(matches!(bounded.join().unwrap(), (true, Ok(5))));
        assert!(log.take().is_empty());
    });
}

#[test]
fn a_task_that_never_ran_or_was_killed_before_leaves_its_block_to_others() {
    check(|| {
        // SAFETY: no precondition.
        let me = || unsafe { libc::pthread_self() };
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let task = spawn_own(|| ());
            task.kill();
            let _killed = task.join();
            seen.insert(spawn_own(me).join().unwrap());
        }
        // Other tests run at the same time, and all share what is spare.
        assert!(seen.len() < 100, "{} blocks", seen.len());
    });
}

fn counter(upto: u32) -> Generator<u32> {
    Generator::new(move |y: &Yielder<(), u32>| {
        for n in 0..upto {
            PLAIN.set(n + 100);
            y.yield_(n);
        }
    })
}

#[test]
fn a_generator_has_the_thread_locals_of_its_task() {
    check(|| {
        let task = spawn_own(|| {
            let mut inner = counter(3);
            let mut seen = Vec::new();
            for n in &mut inner {
                seen.push((n, PLAIN.get()));
                yield_now();
            }
            seen
        });
        assert_eq!(task.join().unwrap(), [(0, 100), (1, 101), (2, 102)]);
        assert_eq!(PLAIN.get(), 7);
        // It may sleep inside.
        let sleeps = spawn_own(|| {
            let each = Generator::new(|y: &Yielder<(), u32>| {
                for n in 0..3 {
                    sleep(MS);
                    y.yield_(n);
                }
            });
            each.sum::<u32>()
        });
        assert_eq!(sleeps.join().unwrap(), 3);
    });
}

#[test]
fn a_generator_that_has_begun_goes_on_only_where_it_began() {
    check(|| {
        // Before it has begun it may go anywhere.
        let fresh = counter(3);
        assert_eq!(spawn_own(move || fresh.sum::<u32>()).join().unwrap(), 3);

        let mut begun = counter(3);
        begun.next();
        let refused = spawn_own(move || (panic_of(|| begun.next()), begun));
        let (text, mut begun) = refused.join().unwrap();
        assert!(text.contains("goes on only there"), "{text}");
        assert_eq!(begun.next(), Some(1), "where it began it goes on");
    });
    // What is left for ever would fail the test's own check.
    thread::spawn(|| {
        let count = Count::default();
        let inner = count.clone();
        let made = spawn_own(move || {
            let mut begun = Generator::new(move |y: &Yielder<(), u32>| {
                let _frame = inner.clone();
                timeout(MS, || {
                    y.yield_(1);
                    y.yield_(2);
                })
                .unwrap();
            });
            begun.next();
            begun
        });
        let mut orphan = made.join().unwrap();
        assert!(panic_of(|| orphan.next()).contains("goes on only there"));
        // Neither on the block of the task that has ended.
        for _ in 0..4 {
            let (text, back) = spawn_own(move || (panic_of(|| orphan.next()), orphan)).join().unwrap();
            assert!(text.contains("goes on only there"));
            orphan = back;
        }
        drop(orphan);
        // Its timer goes off.
        sleep(3 * MS);
        assert_eq!(greenroom::testing::live_stacks(), 1);
    })
    .join()
    .unwrap();
}

#[test]
fn greenlets_have_the_thread_locals_of_their_task() {
    check(|| {
        let task = spawn_own(|| {
            let main = Greenlet::<u32>::current();
            let other = Greenlet::new(move |first: u32| {
                PLAIN.set(first);
                let second = main.switch(PLAIN.get() + 1).unwrap();
                sleep(MS);
                PLAIN.get() + second
            });
            (other.switch(20).unwrap(), PLAIN.get(), other.switch(5).unwrap())
        });
        assert_eq!(task.join().unwrap(), (21, 20, 25));
    });
    thread::spawn(|| {
        // Its last handle goes where it cannot go on.
        let orphan = spawn_own(|| {
            let main = Greenlet::<u32>::current();
            let other = Greenlet::new(move |first: u32| timeout(MS, || main.switch(first).unwrap()).unwrap());
            other.switch(1).unwrap();
            other
        });
        drop(orphan.join().unwrap());
        sleep(3 * MS);
        assert_eq!(greenroom::testing::live_stacks(), 1);
    })
    .join()
    .unwrap();
}

/// The caller's stack as the C library tells it.
fn stack_bounds() -> std::ops::Range<usize> {
    // SAFETY: as pthread_getattr_np(3) says, and zero is a good attribute to be initialised.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes), 0);
        let (mut start, mut size) = (ptr::null_mut(), 0);
        assert_eq!(libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut size), 0);
        libc::pthread_attr_destroy(&raw mut attributes);
        start.addr()..start.addr() + size
    }
}

#[test]
fn the_stack_is_the_tasks_own() {
    check(|| {
        let (sender, own) = (stack_bounds(), Rc::new(Cell::new(0)));
        for size in [64 * 1024, 256 * 1024, 1 << 20] {
            // SAFETY: nothing is shared but a cell of a number.
            let builder = unsafe { Builder::new().stack_size(size).own_thread_locals(true) };
            let bounds = builder.spawn(|| {
                let here = 0_u8;
                let bounds = stack_bounds();
                assert!(bounds.contains(&(&raw const here).addr()));
                yield_now();
                assert_eq!(bounds, stack_bounds());
                bounds
            });
            let bounds = bounds.unwrap().join().unwrap();
            assert!((size - 4096..=size).contains(&bounds.len()), "{} of {size}", bounds.len());
            own.set(own.get() + 1);
        }
        assert_eq!(sender, stack_bounds(), "the root's is as it was");
    });
}

#[test]
fn calls_that_name_the_caller_to_the_kernel_work() {
    check(|| {
        let task = spawn_own(|| {
            // SAFETY: each is called with what it wants.
            unsafe {
                let me = libc::pthread_self();
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                assert_eq!(libc::pthread_getaffinity_np(me, size_of_val(&set), &raw mut set), 0);
                assert_eq!(libc::pthread_setaffinity_np(me, size_of_val(&set), &raw const set), 0);
                let (mut clock, mut time) = (0, std::mem::zeroed());
                assert_eq!(libc::pthread_getcpuclockid(me, &raw mut clock), 0);
                assert_eq!(libc::clock_gettime(clock, &raw mut time), 0);
                let (mut policy, mut parameters) = (0, std::mem::zeroed());
                assert_eq!(libc::pthread_getschedparam(me, &raw mut policy, &raw mut parameters), 0);
                assert_eq!(libc::pthread_setschedparam(me, policy, &raw const parameters), 0);
                assert_eq!(libc::pthread_setname_np(me, c"hello".as_ptr()), 0);
                let mut name = [0; 16];
                assert_eq!(libc::pthread_getname_np(me, name.as_mut_ptr(), name.len()), 0);
                assert!(name.starts_with(&b"hello".map(|c| c as libc::c_char)));
                assert_eq!(libc::pthread_kill(me, 0), 0);
                assert!(libc::sched_getcpu() >= 0);
                assert_eq!(libc::setgid(libc::getgid()), 0);
                me
            }
        });
        task.join().unwrap();
        // One task that asks for another is told that there is no such thread.
        let parked = spawn_own(|| {
            // SAFETY: no precondition.
            let me = unsafe { libc::pthread_self() };
            park();
            me
        });
        yield_now();
        parked.task().unpark();
        parked.join().unwrap();
    });
}

#[test]
fn a_signal_that_a_task_raises_is_handled_in_it() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn handler(_: c_int) {
        // SAFETY: no precondition.
        SEEN.store(unsafe { libc::pthread_self() } as usize, Ordering::Relaxed);
    }
    check(|| {
        // SAFETY: the handler stores a number.
        unsafe { libc::signal(libc::SIGURG, handler as extern "C" fn(c_int) as usize) };
        let task = spawn_own(|| {
            // SAFETY: no precondition.
            unsafe { (libc::raise(libc::SIGURG), libc::pthread_self()) }
        });
        let (raised, me) = task.join().unwrap();
        assert_eq!((raised, SEEN.load(Ordering::Relaxed)), (0, me as usize));
    });
}

#[test]
fn values_of_keys_are_the_tasks_own_and_destroyed_at_its_end() {
    unsafe extern "C" fn destroy(value: *mut c_void) {
        // SAFETY: the tests give a box.
        let (log, n) = *unsafe { Box::from_raw(value.cast::<(Log, u32)>()) };
        sleep(MS);
        log.add(format!("destroyed {n}"));
    }
    check(|| {
        // More than lie in a block.
        let keys: Vec<_> = (0..80)
            .map(|_| {
                let mut key = 0;
                // SAFETY: the destructor takes what is set below.
                assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(destroy)) }, 0);
                key
            })
            .collect();
        let log = Log::default();
        for _ in 0..3 {
            let tasks = [1, 2].map(|n| {
                let (keys, log) = (keys.clone(), log.clone());
                spawn_own(move || {
                    for &key in &keys {
                        // SAFETY: the keys are there.
                        unsafe {
                            assert!(libc::pthread_getspecific(key).is_null());
                            let value = Box::into_raw(Box::new((log.clone(), n)));
                            assert_eq!(libc::pthread_setspecific(key, value.cast()), 0);
                        }
                    }
                    yield_now();
                })
            });
            joinall(tasks).into_iter().for_each(|end| end.unwrap());
            let destroyed = log.take();
            assert_eq!(destroyed.len(), 160);
            assert_eq!(destroyed.iter().filter(|line| *line == "destroyed 1").count(), 80);
        }
        for key in keys {
            // SAFETY: the keys are there.
            unsafe {
                assert!(libc::pthread_getspecific(key).is_null());
                libc::pthread_key_delete(key);
            }
        }
    });
}

#[test]
fn a_mutex_that_counts_or_checks_knows_its_task() {
    check(|| {
        for kind in [libc::PTHREAD_MUTEX_RECURSIVE, libc::PTHREAD_MUTEX_ERRORCHECK] {
            // SAFETY: as pthread_mutex_init(3) says; it lives until both tasks have ended.
            let mutex = unsafe {
                let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
                libc::pthread_mutexattr_init(&raw mut attributes);
                libc::pthread_mutexattr_settype(&raw mut attributes, kind);
                let mutex = Box::leak(Box::new(std::mem::zeroed::<libc::pthread_mutex_t>()));
                libc::pthread_mutex_init(mutex, &raw const attributes);
                ptr::from_mut(mutex)
            };
            let holds = spawn_own(move || {
                // SAFETY: initialised above.
                unsafe {
                    assert_eq!(libc::pthread_mutex_lock(mutex), 0);
                    let again = libc::pthread_mutex_lock(mutex);
                    park();
                    if again == 0 {
                        libc::pthread_mutex_unlock(mutex);
                    }
                    (again, libc::pthread_mutex_unlock(mutex))
                }
            });
            yield_now();
            // SAFETY: initialised above.
            let tries = move || unsafe { (libc::pthread_mutex_trylock(mutex), libc::pthread_mutex_unlock(mutex)) };
            assert_eq!(spawn_own(tries).join().unwrap(), (libc::EBUSY, libc::EPERM));
            assert_eq!(tries(), (libc::EBUSY, libc::EPERM));
            holds.task().unpark();
            let again = if kind == libc::PTHREAD_MUTEX_RECURSIVE { 0 } else { libc::EDEADLK };
            assert_eq!(holds.join().unwrap(), (again, 0));
        }
    });
}

#[test]
fn native_threads_are_made_and_joined_in_such_a_task() {
    check(|| {
        let task = spawn_own(|| {
            PLAIN.set(50);
            let inner = thread::spawn(|| {
                let spawned = spawn_own(|| PLAIN.replace(60));
                (PLAIN.get(), spawned.join().unwrap())
            });
            (inner.join().unwrap(), PLAIN.get())
        });
        assert_eq!(task.join().unwrap(), ((7, 7), 50));
    });
}

/// Compiles a C library with thread-locals of this model and loads it; gives its function that counts in one.
fn load(model: &str) -> Option<extern "C" fn() -> c_int> {
    let folder = std::env::temp_dir().join(format!("greenroom-own-{model}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (source, library) = (folder.join("counts.c"), folder.join("libcounts.so"));
    std::fs::write(&source, "static __thread int many = 40; static __thread char more[9000];\nint count(void) { more[8999]++; return many++ + more[8999]; }\n").unwrap();
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", &format!("-ftls-model={model}"), "-o"]).arg(&library).arg(&source);
    if model == "initial-exec" {
        // So much room is left in every block for such libraries.
        std::fs::write(&source, "static __thread int many = 40;\nint count(void) { return ++many; }\n").unwrap();
    }
    // A system without a C compiler has nothing to show here.
    if !compile.status().ok()?.success() {
        return None;
    }
    let name = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the library does nothing when it is loaded.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null());
    // SAFETY: the handle is good, and never closed.
    let count = unsafe { libc::dlsym(handle, c"count".as_ptr()) };
    let _gone = std::fs::remove_dir_all(folder);
    // SAFETY: it is a function of this type.
    Some(unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(count) })
}

#[test]
fn libraries_that_are_loaded_later_have_their_own_values_too() {
    check(|| {
        for model in ["global-dynamic", "initial-exec"] {
            // Blocks from before are used again.
            let tasks: Vec<_> = (0..5).map(|_| spawn_own(yield_now)).collect();
            joinall(tasks).into_iter().for_each(|end| end.unwrap());
            let early = spawn_own(|| {
                park();
                PLAIN.get()
            });
            yield_now();
            let Some(count) = load(model) else { return };
            for _ in 0..20 {
                let tasks = [(); 5].map(|()| {
                    spawn_own(move || {
                        let first = count();
                        yield_now();
                        (first, count())
                    })
                });
                for counted in joinall(tasks) {
                    let (first, second) = counted.unwrap();
                    assert!(first == 41 && second > first, "{model}: {first} {second}");
                }
            }
            assert_eq!(count(), 41);
            early.task().unpark();
            assert_eq!(early.join().unwrap(), 7);
        }
    });
}

#[test]
fn a_fork_in_such_a_task_leaves_it_alone_in_the_child() {
    let child = in_child("a_fork_in_such_a_task_leaves_it_alone_in_the_child", || {
        let other = spawn(park);
        let task = spawn_own(|| {
            PLAIN.set(77);
            // SAFETY: no other thread of this program holds anything.
            match unsafe { fork() }.unwrap() {
                Fork::Parent(pid) => {
                    let mut status = 0;
                    // SAFETY: a child of ours.
                    unsafe { libc::waitpid(pid, &raw mut status, 0) };
                    assert_eq!(libc::WEXITSTATUS(status), 42);
                    assert_eq!(PLAIN.get(), 77);
                }
                Fork::Child => {
                    assert_eq!(PLAIN.get(), 77);
                    for _ in 0..3 {
                        let threads: Vec<_> = (0..4).map(|_| thread::spawn(|| PLAIN.get())).collect();
                        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 7));
                        let tasks: Vec<_> = (0..4).map(|_| spawn_own(|| PLAIN.replace(1))).collect();
                        assert!(joinall(tasks).into_iter().all(|end| end.unwrap() == 7));
                        sleep(MS);
                    }
                    stack_bounds();
                    std::process::exit(if PLAIN.get() == 77 { 42 } else { 1 });
                }
            }
        });
        task.join().unwrap();
        other.kill();
        // The parent is as before.
        assert_eq!(thread::spawn(|| 5).join().unwrap(), 5);
        println!("done");
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}", stderr(&child));
    assert!(String::from_utf8_lossy(&child.stdout).contains("done"));
}

#[test]
fn a_fork_on_the_root_leaves_blocks_usable() {
    let child = in_child("a_fork_on_the_root_leaves_blocks_usable", || {
        let _parked = spawn_own(park);
        yield_now();
        // SAFETY: no other thread of this program holds anything.
        match unsafe { fork() }.unwrap() {
            Fork::Parent(pid) => {
                let mut status = 0;
                // SAFETY: a child of ours.
                unsafe { libc::waitpid(pid, &raw mut status, 0) };
                assert_eq!(libc::WEXITSTATUS(status), 43);
            }
            Fork::Child => {
                let found = spawn_own(|| PLAIN.get()).join().unwrap();
                std::process::exit(if found == 7 { 43 } else { 1 });
            }
        }
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}", stderr(&child));
}

#[test]
fn children_are_made_in_such_a_task() {
    check(|| {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                spawn_own(|| {
                    let std = Command::new("echo").arg("std").output().unwrap();
                    let ours = greenroom::process::Command::new("echo").arg("ours").output().unwrap();
                    (std.stdout, ours.stdout)
                })
            })
            .collect();
        for end in joinall(tasks) {
            assert_eq!(end.unwrap(), (b"std\n".to_vec(), b"ours\n".to_vec()));
        }
    });
}

#[test]
fn exit_in_such_a_task_ends_the_process() {
    let child = in_child("exit_in_such_a_task_ends_the_process", || {
        let _others: Vec<_> = (0..3).map(|_| spawn_own(park)).collect();
        let _never = spawn_own(|| std::process::exit(44)).join();
    });
    let Some(child) = child else { return };
    assert_eq!(child.status.code(), Some(44), "{}", stderr(&child));
}

#[test]
fn tasks_that_are_left_end_with_their_hub() {
    let dropped = std::sync::Arc::new(AtomicUsize::new(0));
    struct Up(std::sync::Arc<AtomicUsize>);
    impl Drop for Up {
        fn drop(&mut self) {
            yield_now();
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    thread_local! {
        static UP: OnceCell<Up> = const { OnceCell::new() };
    }
    let inner = dropped.clone();
    thread::spawn(move || {
        for _ in 0..10 {
            let up = inner.clone();
            spawn_own(move || {
                UP.with(|place| assert!(place.set(Up(up.clone())).is_ok()));
                let _frame = Up(up);
                park();
            });
        }
        yield_now();
    })
    .join()
    .unwrap();
    assert_eq!(dropped.load(Ordering::Relaxed), 20);
}

#[test]
fn hubs_on_several_threads_share_what_is_spare() {
    let threads: Vec<_> = (0..4)
        .map(|n| {
            thread::spawn(move || {
                for round in 0..200 {
                    let tasks: Vec<_> = (0..5)
                        .map(|_| {
                            spawn_own(move || {
                                let found = (PLAIN.replace(n), errno());
                                let words = vec![n; 100];
                                yield_now();
                                (found, PLAIN.get(), words.iter().sum::<u32>())
                            })
                        })
                        .collect();
                    for end in joinall(tasks) {
                        assert_eq!(end.unwrap(), ((7, 0), n, n * 100), "round {round}");
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn tasks_for_another_hub_can_have_their_own() {
    check(|| {
        let hub = HubHandle::current();
        let other = thread::spawn(move || {
            // SAFETY: nothing is shared.
            let builder = unsafe { Builder::new().own_thread_locals(true) };
            builder.spawn_on(&hub, || PLAIN.replace(9)).join().unwrap()
        });
        while !other.is_finished() {
            sleep(MS);
        }
        assert_eq!((other.join().unwrap(), PLAIN.get()), (7, 7));
    });
}

#[test]
fn what_is_spawned_from_such_a_task_comes_from_the_threads_pools() {
    check(|| {
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                spawn_own(|| {
                    let inner: Vec<_> = (0..20).map(|_| spawn_own(|| PLAIN.get())).collect();
                    let later = spawn_later(MS, || PLAIN.get());
                    let sum: u32 = joinall(inner).into_iter().map(Result::unwrap).sum();
                    (sum, later.join().unwrap(), greenroom::testing::live_stacks() > 0)
                })
            })
            .collect();
        for end in joinall(tasks) {
            assert_eq!(end.unwrap(), (140, 7, true));
        }
    });
}

#[test]
fn sockets_and_the_rest_of_the_library_work_in_such_tasks() {
    use greenroom::net::{TcpListener, TcpStream};
    use std::io::{Read, Write};
    check(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn_own(move || {
            let clients: Vec<_> = (0..10)
                .map(|_| {
                    let (mut stream, _) = listener.accept().unwrap();
                    spawn_own(move || {
                        let mut bytes = [0; 5];
                        stream.read_exact(&mut bytes).unwrap();
                        stream.write_all(&bytes).unwrap();
                    })
                })
                .collect();
            joinall(clients).into_iter().for_each(|end| end.unwrap());
        });
        let clients: Vec<_> = (0..10)
            .map(|_| {
                spawn_own(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.write_all(b"hello").unwrap();
                    let mut bytes = [0; 5];
                    stream.read_exact(&mut bytes).unwrap();
                    greenroom::offload(move || bytes == *b"hello")
                })
            })
            .collect();
        assert!(joinall(clients).into_iter().all(|end| end.unwrap()));
        server.join().unwrap();

        let (sender, receiver) = greenroom::sync::mpsc::channel();
        let mutex = std::sync::Arc::new(greenroom::sync::ReentrantMutex::new(Cell::new(0)));
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let (sender, mutex) = (sender.clone(), mutex.clone());
                spawn_own(move || {
                    let (outer, inner) = (mutex.lock(), mutex.lock());
                    yield_now();
                    inner.set(inner.get() + 1);
                    sender.send(outer.get()).unwrap();
                })
            })
            .collect();
        drop(sender);
        assert_eq!(receiver.iter().sum::<i32>(), 55);
        joinall(tasks).into_iter().for_each(|end| end.unwrap());
    });
}

#[test]
fn thousands_of_tasks_cost_what_they_may() {
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }
    let child = in_child("thousands_of_tasks_cost_what_they_may", || {
        const MANY: usize = 5000;
        let parked = |own: bool| {
            let before = resident();
            let tasks: Vec<_> = (0..MANY)
                // SAFETY: nothing is shared.
                .map(|_| unsafe { Builder::new().own_thread_locals(own) })
                .map(|builder| {
                    builder
                        .spawn(|| {
                            let words = std::hint::black_box(vec![1_u8; 100]);
                            drop((words, thread::current()));
                            park();
                        })
                        .unwrap()
                })
                .collect();
            yield_now();
            let cost = (resident() - before) / MANY;
            (cost, tasks)
        };
        let (shared, first) = parked(false);
        let (own, second) = parked(true);
        println!("{shared} bytes, and {own} with thread-locals of their own");
        assert!(own <= shared + 6 * 1024, "{own} against {shared}");
        for task in first.iter().chain(&second) {
            task.task().unpark();
        }
        joinall(first.into_iter().chain(second)).into_iter().for_each(|end| end.unwrap());
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}{}", String::from_utf8_lossy(&child.stdout), stderr(&child));
}

#[test]
fn nothing_is_leaked_by_tasks_that_come_and_go() {
    let child = in_child("nothing_is_leaked_by_tasks_that_come_and_go", || {
        fn in_use() -> usize {
            // SAFETY: no precondition.
            let all = unsafe { libc::mallinfo2() };
            all.uordblks + all.hblkhd
        }
        let round = || {
            for _ in 0..2000 {
                let tasks = [(); 4].map(|()| {
                    spawn_own(|| {
                        LAZY.set(1);
                        SHARED.with_borrow_mut(|all| all.extend(0..50));
                        let me = thread::current();
                        yield_now();
                        drop(me);
                    })
                });
                joinall(tasks).into_iter().for_each(|end| end.unwrap());
            }
        };
        round();
        let before = in_use();
        round();
        let after = in_use();
        println!("{before} {after}");
        assert!(after < before + 8192, "{before} bytes in use, then {after}");
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}{}", String::from_utf8_lossy(&child.stdout), stderr(&child));
}

#[test]
fn each_task_can_have_a_runtime_of_tokios() {
    check(|| {
        let tasks: Vec<_> = (0..20)
            .map(|n| {
                spawn_own(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    let sum = runtime.block_on(async {
                        let inner = tokio::spawn(async move { n * 2 });
                        // The thread goes on with the others, which enter runtimes of their own.
                        sleep(MS);
                        inner.await.unwrap()
                    });
                    drop(runtime);
                    sum
                })
            })
            .collect();
        for (n, sum) in (0..).zip(joinall(tasks)) {
            assert_eq!(sum.unwrap(), n * 2);
        }
    });
}

/// How a child ends: by `exit` with this code, or the signal that ended it.
fn code_of(pid: c_int) -> Result<c_int, c_int> {
    let mut status = 0;
    // SAFETY: a child of ours.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFEXITED(status) { Ok(libc::WEXITSTATUS(status)) } else { Err(libc::WTERMSIG(status)) }
}

#[test]
fn forks_of_the_c_library_and_of_std_work_in_such_a_task() {
    let child = in_child("forks_of_the_c_library_and_of_std_work_in_such_a_task", || {
        let task = spawn_own(|| {
            PLAIN.set(77);
            let me = thread::current().id();
            let is_same = move || PLAIN.get() == 77 && thread::current().id() == me;
            for _ in 0..3 {
                // SAFETY: the child only looks and leaves.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    // SAFETY: as above.
                    unsafe { libc::_exit(if is_same() { 42 } else { 1 }) };
                }
                assert_eq!(code_of(pid), Ok(42));
                let mut primary = -1;
                // SAFETY: as above.
                let pid = unsafe { libc::forkpty(&raw mut primary, ptr::null_mut(), ptr::null(), ptr::null()) };
                if pid == 0 {
                    // SAFETY: as above.
                    unsafe { libc::_exit(if is_same() { 43 } else { 1 }) };
                }
                // A system without pseudo-terminals has nothing to show here.
                assert!(pid == -1 || code_of(pid) == Ok(43));
            }
            use std::os::unix::process::CommandExt;
            let mut command = Command::new("true");
            // SAFETY: it does nothing.
            unsafe { command.pre_exec(|| Ok(())) };
            assert!(command.status().unwrap().success());
            // SAFETY: no other thread of this program holds anything.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: as above.
                let done = unsafe { libc::daemon(1, 1) };
                // SAFETY: as above.
                unsafe { libc::_exit(if done == 0 && is_same() { 0 } else { 1 }) };
            }
            // The daemon is the child's child, and the child leaves at once.
            assert_eq!(code_of(pid), Ok(0));
            assert!(is_same());
        });
        task.join().unwrap();
        println!("done");
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}", stderr(&child));
    assert!(String::from_utf8_lossy(&child.stdout).contains("done"));
}

#[test]
fn a_fork_that_fails_says_why() {
    let child = in_child("a_fork_that_fails_says_why", || {
        spawn_own(|| {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: a limit; then another user, for whom it holds.
            let is_limited =
                unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const none) == 0 && libc::setuid(65_534) == 0 };
            // SAFETY: the child leaves at once.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: as above.
                unsafe { libc::_exit(0) };
            }
            assert!(!is_limited || (pid, errno()) == (-1, libc::EAGAIN));
        })
        .join()
        .unwrap();
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}", stderr(&child));
}

unsafe extern "C-unwind" {
    fn pthread_exit(value: *mut c_void) -> !;
}

#[test]
fn pthread_exit_ends_the_task_alone() {
    let child = in_child("pthread_exit_ends_the_task_alone", || {
        let log = Log::default();
        for own in [true, false] {
            let [frame, captured] = ["frame", "captured"].map(|name| OnDrop(log.clone(), name));
            // SAFETY: nothing is shared but what `common` has.
            let builder = unsafe { Builder::new().own_thread_locals(own) };
            let task = builder.spawn(move || {
                let _frame = frame;
                let _captured = &captured;
                yield_now();
                // SAFETY: the frames of the stack are Rust's.
                unsafe { pthread_exit(ptr::null_mut()) }
            });
            assert!(task.unwrap().join().unwrap_err().is_killed());
            assert_eq!(log.take(), ["frame", "captured"]);
        }
        println!("done");
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}", stderr(&child));
    assert!(String::from_utf8_lossy(&child.stdout).contains("done"));
}

#[test]
fn such_a_task_cannot_be_cancelled_by_pthread_cancel() {
    unsafe extern "C" {
        fn pthread_cancel(thread: libc::pthread_t) -> c_int;
    }
    let child = in_child("such_a_task_cannot_be_cancelled_by_pthread_cancel", || {
        let task = spawn_own(|| {
            // SAFETY: the caller, who is alive.
            let cancelled = unsafe { pthread_cancel(libc::pthread_self()) };
            // SAFETY: no precondition. Cancelled threads end here.
            unsafe { libc::usleep(1) };
            cancelled
        });
        assert_eq!(task.join().unwrap(), libc::ENOSYS);
        println!("done");
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}", stderr(&child));
    assert!(String::from_utf8_lossy(&child.stdout).contains("done"));
}

#[test]
fn an_overflow_of_such_a_tasks_stack_is_reported() {
    fn dive(n: u64) -> u64 {
        let room = std::hint::black_box([n; 64]);
        if n == u64::MAX { 0 } else { dive(n + 1) + room[7] }
    }
    let child = in_child("an_overflow_of_such_a_tasks_stack_is_reported", || {
        let _never = spawn_own(|| dive(0)).join();
    });
    let Some(child) = child else { return };
    assert!(!child.status.success());
    assert!(stderr(&child).contains("stack overflow in task"), "{}", stderr(&child));
}

#[test]
fn exit_destroys_the_tasks_values_and_no_others() {
    let child = in_child("exit_destroys_the_tasks_values_and_no_others", || {
        struct Says(&'static str);
        impl Drop for Says {
            fn drop(&mut self) {
                yield_now();
                println!("{} dropped", self.0);
            }
        }
        thread_local! { static SAYS: OnceCell<Says> = const { OnceCell::new() }; }
        let say = |who| SAYS.with(|place| assert!(place.set(Says(who)).is_ok()));
        let _other = spawn_own(move || {
            say("other");
            park();
        });
        yield_now();
        let _never = spawn_own(move || {
            say("caller");
            std::process::exit(44)
        })
        .join();
    });
    let Some(child) = child else { return };
    assert_eq!(child.status.code(), Some(44), "{}", stderr(&child));
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(said.contains("caller dropped") && !said.contains("other dropped"), "{said}");
}

#[test]
fn nothing_switches_in_what_is_called_at_a_fork() {
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    static OTHERS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn yields() {
        let before = OTHERS.load(Ordering::Relaxed);
        yield_now();
        assert_eq!(OTHERS.load(Ordering::Relaxed), before);
        CALLED.fetch_add(1, Ordering::Relaxed);
    }
    unsafe extern "C" {
        fn pthread_atfork(
            before: Option<extern "C" fn()>,
            parent: Option<extern "C" fn()>,
            child: Option<extern "C" fn()>,
        ) -> c_int;
    }
    let child = in_child("nothing_switches_in_what_is_called_at_a_fork", || {
        // SAFETY: functions without arguments.
        assert_eq!(unsafe { pthread_atfork(Some(yields), Some(yields), None) }, 0);
        let other = spawn(|| {
            for _ in 0..9 {
                OTHERS.fetch_add(1, Ordering::Relaxed);
                yield_now();
            }
        });
        let task = spawn_own(|| {
            PLAIN.set(77);
            // SAFETY: the child leaves at once.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: as above.
                unsafe { libc::_exit(42) };
            }
            assert_eq!(code_of(pid), Ok(42));
            yield_now();
            assert_eq!(PLAIN.get(), 77);
        });
        task.join().unwrap();
        other.join().unwrap();
        assert_eq!(CALLED.load(Ordering::Relaxed), 2);
        println!("done");
    });
    let Some(child) = child else { return };
    assert!(child.status.success(), "{}", stderr(&child));
    assert!(String::from_utf8_lossy(&child.stdout).contains("done"));
}
