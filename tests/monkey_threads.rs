//! Rule 30: threads that are tasks, of programs that know nothing of it.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "C's calls in a row owe the same: a thread that is not joined yet"
)]

#[path = "common/mod.rs"]
mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use greenroom::monkey::{self, Areas};

/// Runs the test on a thread with a hub, for which threads are patched.
fn patched(body: impl FnOnce() + Send + 'static) {
    // Native ones.
    let test = thread::Builder::new().spawn(|| {
        greenroom::spawn(|| ()).join().unwrap();
        // SAFETY: threads share only what is Send.
        unsafe { monkey::patch(Areas::THREAD | Areas::ALL) };
        body();
    });
    // Of a thread without a hub, which is native still.
    test.unwrap().join().unwrap_or_else(|payload| std::panic::resume_unwind(payload));
}

#[test]
fn threads_are_tasks_and_have_what_threads_have() {
    patched(|| {
        let main = thread::current().id();
        // SAFETY: no precondition.
        let tid = || unsafe { libc::gettid() };
        let here = tid();
        let handle = thread::Builder::new()
            .name("a worker of nine".into())
            .stack_size(3 << 20)
            .spawn(move || {
                assert_eq!(tid(), here, "the same kernel thread");
                assert_ne!(thread::current().id(), main);
                assert_eq!(thread::current().name(), Some("a worker of nine"));
                let mut name = [0_u8; 16];
                // SAFETY: no precondition.
                let this = unsafe { libc::pthread_self() };
                // SAFETY: the bytes are ours.
                let got = unsafe { libc::pthread_getname_np(this, name.as_mut_ptr().cast(), 16) };
                assert_eq!((got, &name[..15]), (0, &b"a worker of nin"[..]));
                deep(2 << 20)
            })
            .unwrap();
        assert!(handle.join().unwrap() > 0);
    });
}

/// Uses so many bytes of stack.
fn deep(bytes: usize) -> usize {
    let page = [1_u8; 4096];
    let sum = std::hint::black_box(&page).iter().map(|byte| usize::from(*byte)).sum::<usize>();
    if bytes <= 4096 { sum } else { sum + deep(bytes - 4096) }
}

#[test]
fn a_panic_is_the_joiners() {
    patched(|| {
        let handle = thread::spawn(|| std::panic::resume_unwind(Box::new("mine")));
        let payload = handle.join().map(|never: ()| never).unwrap_err();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "mine");
        assert!(!thread::panicking());
    });
}

#[test]
fn thread_locals_are_destroyed_before_a_join_returns() {
    struct Tell(Arc<AtomicUsize>);
    impl Drop for Tell {
        fn drop(&mut self) {
            // A destructor may wait.
            thread::sleep(Duration::from_millis(1));
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    thread_local! {
        static TELL: RefCell<Option<Tell>> = const { RefCell::new(None) };
        static COUNT: Cell<u32> = const { Cell::new(0) };
    }
    patched(|| {
        let told = Arc::new(AtomicUsize::new(0));
        for round in 1..=20 {
            let told_too = told.clone();
            let handle = thread::spawn(move || {
                TELL.set(Some(Tell(told_too)));
                for count in 0..10 {
                    assert_eq!(COUNT.get(), count);
                    COUNT.set(count + 1);
                    thread::yield_now();
                }
            });
            handle.join().unwrap();
            assert_eq!(told.load(Ordering::SeqCst), round);
        }
    });
}

#[test]
fn scopes_channels_parks_and_barriers_work_between_them() {
    patched(|| {
        let mut numbers = vec![0_u64; 8];
        thread::scope(|s| {
            for (index, number) in numbers.iter_mut().enumerate() {
                s.spawn(move || {
                    thread::yield_now();
                    *number = index as u64 * 3;
                });
            }
        });
        assert_eq!(numbers, [0, 3, 6, 9, 12, 15, 18, 21]);

        let (sender, receiver) = mpsc::sync_channel(1);
        let senders: Vec<_> = (0..10_u32)
            .map(|number| {
                let sender = sender.clone();
                thread::spawn(move || (0..20).for_each(|step| sender.send(number * 100 + step).unwrap()))
            })
            .collect();
        drop(sender);
        let mut got: Vec<u32> = receiver.iter().collect();
        got.sort_unstable();
        assert_eq!(got.len(), 200);
        senders.into_iter().for_each(|sender| sender.join().unwrap());

        let turn = Arc::new(AtomicUsize::new(0));
        let ring: Vec<thread::JoinHandle<()>> = (0..5_usize)
            .map(|place| {
                let turn = turn.clone();
                thread::spawn(move || {
                    for round in 0..50 {
                        while turn.load(Ordering::SeqCst) != round * 5 + place {
                            thread::park();
                        }
                        turn.fetch_add(1, Ordering::SeqCst);
                        RING.lock().unwrap().get((place + 1) % 5).unwrap().unpark();
                    }
                })
            })
            .collect();
        static RING: Mutex<Vec<thread::Thread>> = Mutex::new(Vec::new());
        *RING.lock().unwrap() = ring.iter().map(|member| member.thread().clone()).collect();
        ring.into_iter().for_each(|member| member.join().unwrap());
        assert_eq!(turn.load(Ordering::SeqCst), 250);

        let barrier = Arc::new(Barrier::new(11));
        for _ in 0..10 {
            let barrier = barrier.clone();
            thread::spawn(move || {
                barrier.wait();
            });
        }
        barrier.wait();
    });
}

#[test]
fn parks_have_time_outs_and_tokens_are_not_shared() {
    patched(|| {
        let waits = thread::spawn(|| {
            let begun = Instant::now();
            thread::park_timeout(Duration::from_millis(30));
            begun.elapsed()
        });
        let other = thread::spawn(thread::park);
        thread::yield_now();
        other.thread().unpark();
        other.join().unwrap();
        assert!(waits.join().unwrap() >= Duration::from_millis(30));
    });
}

#[test]
fn native_threads_join_them_and_are_joined() {
    let (sender, receiver) = mpsc::channel::<thread::JoinHandle<u32>>();
    let joiner = thread::spawn(move || receiver.iter().map(|handle| handle.join().unwrap()).sum::<u32>());
    patched(move || {
        for number in 0..10 {
            sender
                .send(thread::spawn(move || {
                    thread::sleep(Duration::from_millis(1));
                    number
                }))
                .unwrap();
        }
        drop(sender);
        assert_eq!(joiner.join().unwrap(), 45);
    });
}

#[test]
fn a_detached_thread_goes_on_and_c_can_leave_by_exit() {
    extern "C" fn leave(value: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: it lives as long as the thread.
        let count = unsafe { &*value.cast::<AtomicUsize>() };
        count.fetch_add(1, Ordering::SeqCst);
        value
    }
    patched(|| {
        let count = AtomicUsize::new(0);
        let place = (&raw const count).cast_mut().cast();
        let mut id = 0;
        let mut value = std::ptr::null_mut();
        // SAFETY: what it is given lives until it is joined.
        assert_eq!(unsafe { libc::pthread_create(&raw mut id, std::ptr::null(), leave, place) }, 0);
        // SAFETY: not joined yet.
        assert_eq!(unsafe { libc::pthread_kill(id, 0) }, 0);
        // SAFETY: joined once.
        assert_eq!(unsafe { libc::pthread_join(id, &raw mut value) }, 0);
        assert_eq!((count.load(Ordering::SeqCst), value), (1, place));
        let (sender, receiver) = mpsc::channel();
        drop(thread::spawn(move || sender.send(Rc::strong_count(&Rc::new(()))).unwrap()));
        assert_eq!(receiver.recv().unwrap(), 1);
    });
}

/// Runs the test in a process of its own, whose exit has to be `code`; gives its standard error.
fn in_process(test: &str, code: i32, body: impl FnOnce()) -> Option<String> {
    let output = common::in_child(test, body)?;
    let errors = common::stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    Some(errors)
}

#[test]
fn an_overflow_of_a_threads_stack_is_told() {
    let output = common::in_child("an_overflow_of_a_threads_stack_is_told", || {
        #[inline(never)]
        fn fall(depth: usize) -> usize {
            let bytes = std::hint::black_box([depth as u8; 512]);
            if depth == usize::MAX {
                0
            } else {
                std::hint::black_box(fall(depth + 1)) + usize::from(bytes[depth % 512])
            }
        }
        patched(|| {
            let falls = thread::Builder::new().name("falls".into()).stack_size(64 * 1024);
            falls.spawn(|| fall(0)).unwrap().join().unwrap();
        });
    });
    if let Some(output) = output {
        let errors = common::stderr(&output);
        assert!(!output.status.success() && errors.contains("falls") && errors.contains("overflow"), "{errors}");
    }
}

#[test]
fn a_name_is_the_threads_own_and_cancellation_is_refused() {
    patched(|| {
        let (go, may_go) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            // SAFETY: no precondition.
            tell.send(unsafe { libc::pthread_self() }).unwrap();
            may_go.recv().unwrap();
        });
        let id = told.recv().unwrap();
        // SAFETY: a thread that is not joined yet, and a string.
        let set_name = |name: &std::ffi::CStr| unsafe { libc::pthread_setname_np(id, name.as_ptr()) };
        assert_eq!((set_name(c"renamed"), set_name(c"a name that is too long")), (0, libc::ERANGE));
        let mut name = [0_u8; 16];
        // SAFETY: as above, and so much room.
        assert_eq!(unsafe { libc::pthread_getname_np(id, name.as_mut_ptr().cast(), name.len()) }, 0);
        assert_eq!(&name[..8], b"renamed\0");
        // SAFETY: as above.
        assert_eq!(unsafe { libc::pthread_cancel(id) }, libc::ENOSYS);
        go.send(()).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn a_thread_with_a_hub_that_leaves_by_exit_lets_the_threads_of_threads_end() {
    unsafe extern "C-unwind" {
        fn pthread_exit(value: *mut libc::c_void) -> !;
    }
    extern "C" fn begin() {
        greenroom::spawn(|| ()).join().unwrap();
        // SAFETY: threads share only what is Send.
        unsafe { monkey::patch(Areas::THREAD | Areas::ALL) };
        thread::spawn(|| {
            thread::sleep(Duration::from_millis(5));
            drop(thread::spawn(|| {
                thread::sleep(Duration::from_millis(5));
                std::process::exit(3);
            }));
        });
    }
    extern "C-unwind" fn run(_argument: *mut libc::c_void) -> *mut libc::c_void {
        begin();
        // SAFETY: nothing on this stack has to be dropped.
        unsafe { pthread_exit(std::ptr::null_mut()) };
    }
    in_process("a_thread_with_a_hub_that_leaves_by_exit_lets_the_threads_of_threads_end", 3, || {
        // SAFETY: C's type for the same: it does not unwind out of what calls it.
        let run = unsafe {
            std::mem::transmute::<
                extern "C-unwind" fn(*mut libc::c_void) -> *mut libc::c_void,
                extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
            >(run)
        };
        let mut id = 0;
        // SAFETY: a thread that is joined once.
        let made = unsafe { libc::pthread_create(&raw mut id, std::ptr::null(), run, std::ptr::null_mut()) };
        // SAFETY: as above.
        let joined = unsafe { libc::pthread_join(id, std::ptr::null_mut()) };
        assert_eq!((made, joined), (0, 0));
    });
}
