//! An allocator that takes a contended mutex of the C library's in every call, as some do: with locks patched its callers park, but
//! never where the crate is in the midst of something.
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "one of two is called")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::hint;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use greenroom::monkey::{self, Areas};
use greenroom::net::{TcpListener, TcpStream};
use greenroom::sync::mpsc;

struct Shared<T>(UnsafeCell<T>);

// SAFETY: they are made for that.
unsafe impl<T> Sync for Shared<T> {}

/// For small blocks. A native thread that holds it is waited for with some patience.
static MUTEX: Shared<libc::pthread_mutex_t> = Shared(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
/// For the others. Whoever finds it taken parks at once.
static LOCK: Shared<libc::pthread_rwlock_t> = Shared(UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER));

/// Calls of the allocator during which another task had its turn.
static PARKED: AtomicUsize = AtomicUsize::new(0);

fn locked<R>(is_small: bool, f: impl FnOnce() -> R) -> R {
    /// By kernel thread, whatever thread-locals the caller has.
    static CALLS: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];
    // SAFETY: no precondition.
    let calls = &CALLS[unsafe { libc::gettid() } as usize % CALLS.len()];
    let before = calls.fetch_add(1, Ordering::Relaxed) + 1;
    // SAFETY: never destroyed.
    let taken = unsafe {
        match is_small {
            true => libc::pthread_mutex_lock(MUTEX.0.get()),
            false => libc::pthread_rwlock_wrlock(LOCK.0.get()),
        }
    };
    assert_eq!(taken, 0);
    if calls.load(Ordering::Relaxed) != before {
        PARKED.fetch_add(1, Ordering::Relaxed);
    }
    let result = f();
    // SAFETY: we have it.
    let given = unsafe {
        match is_small {
            true => libc::pthread_mutex_unlock(MUTEX.0.get()),
            false => libc::pthread_rwlock_unlock(LOCK.0.get()),
        }
    };
    assert_eq!(given, 0);
    result
}

fn is_small(layout: Layout) -> bool {
    layout.size() % 64 < 16
}

struct Locked;

// SAFETY: the system's.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on to the caller.
        locked(is_small(layout), || unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        locked(is_small(layout), || unsafe { System.dealloc(place, layout) });
    }
}

#[global_allocator]
static ALLOCATOR: Locked = Locked;

/// Holds the mutex again and again, for longer than anybody spins for it, until dropped.
struct Contention(Arc<AtomicBool>, Option<thread::JoinHandle<()>>);

impl Contention {
    fn new() -> Contention {
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let holder = thread::spawn(move || {
            let pause = |micros| {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(micros) {
                    hint::spin_loop();
                }
            };
            while !ended.load(Ordering::Relaxed) {
                locked(true, || pause(300));
                locked(false, || pause(20));
                pause(50);
            }
        });
        Contention(end, Some(holder))
    }
}

impl Drop for Contention {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}

/// Uses all that allocates.
fn work(round: usize) {
    let (sender, receiver) = mpsc::channel();
    let queue = Rc::new(greenroom::queue::Queue::bounded(2));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = greenroom::spawn(move || {
        for _ in 0..4 {
            let (mut stream, _) = listener.accept().unwrap();
            drop(greenroom::spawn(move || {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unwrap();
                stream.write_all(&bytes).unwrap();
            }));
        }
    });
    let mut tasks: Vec<_> = (0..20_usize)
        .map(|number| {
            let (sender, queue) = (sender.clone(), queue.clone());
            let builder = greenroom::Builder::new().name(format!("task {number}"));
            let body = move || {
                for step in 0..10 {
                    let text = format!("{round} {number} {step}");
                    sender.send(text.clone()).unwrap();
                    if step == number % 10 {
                        greenroom::sleep(Duration::from_micros(50));
                    }
                    if number < 10 {
                        queue.put(text).unwrap();
                    } else {
                        drop(queue.get().unwrap());
                    }
                    greenroom::timeout(Duration::from_secs(100), greenroom::yield_now).unwrap();
                }
                number
            };
            builder.spawn(body).unwrap()
        })
        .collect();
    tasks.extend((0..4_usize).map(|number| {
        greenroom::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(format!("hello {number}").as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, format!("hello {number}"));
            number
        })
    }));
    drop(sender);
    let mut seen: Vec<String> = receiver.iter().collect();
    for result in greenroom::joinall(tasks) {
        result.unwrap();
    }
    server.join().unwrap();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 200);

    greenroom::scope(|s| {
        for number in 0..10 {
            s.spawn(move || vec![number; number]);
        }
    });
    let pool = greenroom::pool::Pool::new(3);
    let squares: Vec<usize> = pool.map(0..10, |n| n * n);
    assert_eq!(squares[9], 81);
    let numbers: Vec<_> = greenroom::generator::Generator::new(|yielder| {
        for n in 0..5 {
            yielder.yield_(vec![n]);
        }
    })
    .collect();
    assert_eq!(numbers.len(), 5);
    assert_eq!(greenroom::offload(|| vec![7_u8; 7]).len(), 7);
    let victims: Vec<_> = (0..10).map(|_| greenroom::spawn(|| greenroom::sleep(Duration::from_secs(100)))).collect();
    greenroom::yield_now();
    greenroom::killall(victims.iter().map(|victim| victim.task()));
}

/// So often somebody is to have parked, for the test to show anything.
const ENOUGH: usize = 200;

#[test]
fn nothing_parks_where_the_crate_is_in_the_midst_of_something() {
    // SAFETY: tasks of this test share only what does not care.
    unsafe { monkey::patch(Areas::SYNC) };
    let contention = Contention::new();
    let hubs: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(|| {
                let mut round = 0;
                while round < 15 || PARKED.load(Ordering::Relaxed) < ENOUGH {
                    work(round);
                    round += 1;
                }
                assert_eq!(greenroom::testing::live_tasks(), 0);
            })
        })
        .collect();
    for hub in hubs {
        hub.join().unwrap();
    }
    drop(contention);
}
