//! What tasks promise across threads and at their ends: T3, rule 24, and that nothing is left.

mod common;

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Count, EVER, MS, check, fail, in_child, panic_of, soon, stderr};
use greenroom::net::{TcpListener, TcpStream, UnixStream};
use greenroom::{Builder, HubHandle, JoinError, current, killall, park, sleep, spawn, spawn_later, timeout, yield_now};

// Threads and their ends

#[test]
fn t3_a_threads_tasks_end_before_the_locals_that_it_had_before_its_hub() {
    static LOG: std::sync::Mutex<Vec<&str>> = std::sync::Mutex::new(Vec::new());
    struct Logs(&'static str);
    impl Drop for Logs {
        fn drop(&mut self) {
            LOG.lock().unwrap().push(self.0);
        }
    }
    thread_local! {
        static EARLY: Logs = const { Logs("a local from before the hub") };
    }
    check(|| {
        thread::spawn(|| {
            EARLY.with(|_| ());
            drop(spawn(|| {
                let _end = Logs("a task");
                park();
            }));
            drop(spawn_later(EVER, {
                let captured = Logs("what a later task captured");
                move || drop(captured)
            }));
            yield_now();
            drop(spawn({
                let captured = Logs("what a new task captured");
                move || drop(captured)
            }));
        })
        .join()
        .unwrap();
        let log = LOG.lock().unwrap();
        let place = |name| log.iter().position(|logged| *logged == name).unwrap_or_else(|| panic!("{name}: {log:?}"));
        for task in ["a task", "what a later task captured", "what a new task captured"] {
            assert!(place(task) < place("a local from before the hub"), "{log:?}");
        }
    });
}

#[test]
fn t3_a_dying_threads_tasks_may_park_spawn_and_join() {
    static DONE: AtomicU32 = AtomicU32::new(0);
    struct Works;
    impl Drop for Works {
        fn drop(&mut self) {
            sleep(2 * MS);
            let (mut near, mut far) = UnixStream::pair().unwrap();
            let writes = spawn(move || near.write_all(b"x").unwrap());
            far.read_exact(&mut [0]).unwrap();
            writes.join().unwrap();
            DONE.fetch_add(1, Ordering::SeqCst);
        }
    }
    check(|| {
        thread::spawn(|| {
            drop(spawn(|| {
                let _works = Works;
                park();
            }));
            yield_now();
        })
        .join()
        .unwrap();
        assert_eq!(DONE.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn t3_a_thread_that_panics_ends_its_tasks_too() {
    static ENDED: AtomicBool = AtomicBool::new(false);
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            ENDED.store(true, Ordering::SeqCst);
        }
    }
    check(|| {
        let thread = thread::spawn(|| {
            drop(spawn(|| {
                let _end = End;
                park();
            }));
            yield_now();
            fail::<()>("the thread");
        });
        assert!(thread.join().is_err());
        assert!(ENDED.load(Ordering::SeqCst));
    });
}

#[test]
fn a_threads_last_destructors_find_a_plain_fallback() {
    type Report = (Duration, String, String, bool, String, String);
    struct AtEnd(RefCell<Option<mpsc::Sender<Report>>>);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            let Some(tell) = self.0.take() else { return };
            let begun = Instant::now();
            sleep(2 * MS);
            let slept = begun.elapsed();
            yield_now();
            let (mut near, mut far) = UnixStream::pair().unwrap();
            near.write_all(b"still works").unwrap();
            let mut buf = [0; 11];
            far.read_exact(&mut buf).unwrap();
            far.set_read_timeout(Some(MS)).unwrap();
            let timed_out = far.read(&mut buf).unwrap_err();
            let spawned = Builder::new().spawn(|| ()).unwrap_err().to_string();
            let panics = panic_of(|| spawn(|| ()));
            let local = NUMBER.try_with(|_| ()).is_err();
            let report =
                (slept, String::from_utf8_lossy(&buf).into(), spawned, local, panics, timed_out.kind().to_string());
            tell.send(report).unwrap();
        }
    }
    thread_local! {
        static AT_END: AtEnd = const { AtEnd(RefCell::new(None)) };
    }
    greenroom::task_local! {
        static NUMBER: u32 = 1;
    }
    check(|| {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            AT_END.with(|end| end.0.replace(Some(tell)));
            // A hub that ends before the local does.
            spawn(|| ()).join().unwrap();
        })
        .join()
        .unwrap();
        let (slept, read, spawned, local, panics, timed_out) = told.recv().unwrap();
        assert!(slept >= 2 * MS);
        assert_eq!(read, "still works");
        assert!(spawned.contains("hub is gone"), "{spawned}");
        assert!(panics.contains("hub is gone"), "{panics}");
        assert!(local);
        assert_eq!(timed_out, io::ErrorKind::WouldBlock.to_string());
    });
}

// Tasks on another thread's hub

/// A thread that lends its hub until the guard goes.
struct Lent {
    hub: Option<HubHandle>,
    end: Option<greenroom::Unparker>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Lent {
    fn new() -> Lent {
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            tell.send((HubHandle::current(), current().unparker())).unwrap();
            park();
        });
        let (hub, end) = told.recv().unwrap();
        Lent { hub: Some(hub), end: Some(end), thread: Some(thread) }
    }

    fn hub(&self) -> &HubHandle {
        self.hub.as_ref().unwrap()
    }

    /// Ends the thread and gives a handle on the hub that was.
    fn end(mut self) -> HubHandle {
        let hub = self.hub.take().unwrap();
        self.finish();
        hub
    }

    fn finish(&mut self) {
        if let Some(end) = self.end.take() {
            end.unpark();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.finish();
    }
}

#[test]
fn rule_24_a_hub_handle_spawns_from_anywhere() {
    check(|| {
        let lent = Lent::new();
        let there = lent.hub().spawn(|| thread::current().id()).join().unwrap();
        assert_ne!(there, thread::current().id());
        let named = Builder::new().name("far away".into()).spawn_on(lent.hub(), || current().name());
        assert_eq!(named.join().unwrap().as_deref(), Some("far away"));
        // In the order of sending; from plain threads and from tasks.
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let seen = seen.clone();
                lent.hub().spawn(move || seen.lock().unwrap().push(n))
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(*seen.lock().unwrap(), (0..100).collect::<Vec<_>>());
        let hub = lent.hub().clone();
        let through_a_task = spawn(move || hub.spawn(|| 4).join().unwrap());
        assert_eq!(through_a_task.join().unwrap(), 4);
        // And onto one's own.
        assert_eq!(HubHandle::current().spawn(|| 5).join().unwrap(), 5);
    });
}

#[test]
fn rule_24_threads_without_a_hub_spawn_and_join_and_get_none() {
    let output = in_child("rule_24_threads_without_a_hub_spawn_and_join_and_get_none", || {
        let lent = Lent::new();
        let pollers = || {
            let links =
                std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| std::fs::read_link(entry.unwrap().path()));
            links.filter(|to| to.as_ref().is_ok_and(|to| to.ends_with("anon_inode:[eventpoll]"))).count()
        };
        let before = pollers();
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let hub = lent.hub().clone();
                thread::spawn(move || {
                    let sleeps = hub.spawn(move || {
                        sleep(MS);
                        n
                    });
                    let fails = hub.spawn(|| fail::<()>("there"));
                    assert_eq!(fails.join().unwrap_err().message(), Some("there"));
                    assert_eq!(sleeps.join().unwrap(), n);
                    assert_eq!(Builder::new().name("named".into()).spawn_on(&hub, || 1).join().unwrap(), 1);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // Of the hub that is lent, and of none else.
        assert_eq!(pollers(), before);
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn rule_24_tasks_of_other_hubs_spawn_and_join() {
    check(|| {
        let (one, other) = (Lent::new(), Lent::new());
        let (here, back) = (one.hub().clone(), other.hub().clone());
        // From a hub to another and back, many at once.
        let tasks: Vec<_> = (0..50)
            .map(|n| {
                let (here, back) = (here.clone(), back.clone());
                other.hub().spawn(move || {
                    let inner = here.spawn(move || back.spawn(move || n * 2).join().unwrap() + 1);
                    inner.join().unwrap()
                })
            })
            .collect();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().unwrap(), n * 2 + 1);
        }
    });
}

#[test]
fn rule_24_tasks_of_a_tokio_runtime_spawn_and_await() {
    check(|| {
        let lent = Lent::new();
        let hub = lent.hub().clone();
        let theirs = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let tasks: Vec<_> = (0..50)
                    .map(|n| {
                        let hub = hub.clone();
                        tokio::spawn(async move {
                            let there = hub.spawn(move || {
                                sleep(MS);
                                (thread::current().id(), n)
                            });
                            there.await.unwrap()
                        })
                    })
                    .collect();
                let mut sum = 0;
                for task in tasks {
                    let (there, n) = task.await.unwrap();
                    assert_ne!(there, thread::current().id());
                    sum += n;
                }
                // One that is aborted there goes on here, for its handle was dropped.
                let (tell, told) = mpsc::channel();
                let goes_on = hub.spawn(move || told.recv().unwrap());
                let aborted = tokio::spawn(goes_on);
                tokio::task::yield_now().await;
                aborted.abort();
                assert!(aborted.await.unwrap_err().is_cancelled());
                tell.send(()).unwrap();
                hub.spawn(|| ()).await.unwrap();
                sum
            })
        });
        assert_eq!(theirs.join().unwrap(), (0..50).sum::<i32>());
    });
}

#[test]
fn rule_24_a_remote_join_parks_only_its_task() {
    check(|| {
        let lent = Lent::new();
        let remote = lent.hub().spawn(|| sleep(20 * MS));
        let count = Count::default();
        let theirs = count.clone();
        let busy = spawn(move || {
            loop {
                sleep(MS);
                theirs.up();
            }
        });
        remote.join().unwrap();
        assert!(count.get() > 1);
        busy.kill();
    });
}

#[test]
fn rule_24_a_panic_passes_between_threads() {
    check(|| {
        let lent = Lent::new();
        let error = lent.hub().spawn(|| fail::<()>("over there")).join().unwrap_err();
        assert_eq!(error.message(), Some("over there"));
        let Err(JoinError::Panicked(payload)) = lent.hub().spawn(|| resume_unwind(Box::new(9_i64)) as ()).join() else {
            panic!("it panicked");
        };
        assert_eq!(*payload.downcast::<i64>().unwrap(), 9);
        // The hub there goes on.
        assert_eq!(lent.hub().spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn rule_24_a_remote_kill_before_the_run_and_during_it() {
    check(|| {
        let lent = Lent::new();
        static RAN: AtomicBool = AtomicBool::new(false);
        static UNWOUND: AtomicU32 = AtomicU32::new(0);
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                UNWOUND.fetch_add(1, Ordering::SeqCst);
            }
        }
        // The hub there is held up, so that the kill comes first.
        let (tell, told) = mpsc::channel::<()>();
        let holds = lent.hub().spawn(move || told.recv().is_err());
        let captured = End;
        let before = lent.hub().spawn(move || {
            let _captured = captured;
            RAN.store(true, Ordering::SeqCst);
        });
        before.kill_nowait();
        before.kill_nowait();
        assert!(!before.is_finished());
        drop(tell);
        assert!(before.join().unwrap_err().is_killed());
        assert!(holds.join().unwrap());
        assert!(!RAN.load(Ordering::SeqCst));
        assert_eq!(UNWOUND.load(Ordering::SeqCst), 1);

        let (tell, told) = mpsc::channel();
        let during = lent.hub().spawn(move || {
            let _end = End;
            tell.send(()).unwrap();
            park();
        });
        told.recv().unwrap();
        during.kill_nowait();
        assert!(during.join().unwrap_err().is_killed());
        assert_eq!(UNWOUND.load(Ordering::SeqCst), 2);
        let done = lent.hub().spawn(|| 6);
        while !done.is_finished() {
            sleep(MS);
        }
        done.kill_nowait();
        assert_eq!(done.join().unwrap(), 6);
    });
}

#[test]
fn rule_24_what_is_left_when_a_hub_ends_is_killed() {
    check(|| {
        let lent = Lent::new();
        let parked = lent.hub().spawn(park);
        let hub = lent.end();
        assert!(parked.join().unwrap_err().is_killed());
        // And what comes too late never runs.
        static DROPPED: AtomicBool = AtomicBool::new(false);
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                DROPPED.store(true, Ordering::SeqCst);
            }
        }
        let captured = End;
        let late = hub.spawn(move || drop(captured));
        assert!(late.is_finished() && DROPPED.load(Ordering::SeqCst));
        late.kill_nowait();
        assert!(late.join().unwrap_err().is_killed());
    });
}

#[test]
fn rule_24_spawns_that_race_with_the_hubs_end_are_run_or_killed() {
    check(|| {
        for _ in 0..50 {
            let lent = Lent::new();
            let hub = lent.hub().clone();
            let spawner = thread::spawn(move || (0..50).map(|n| hub.spawn(move || n)).collect::<Vec<_>>());
            drop(lent);
            for (n, task) in spawner.join().unwrap().into_iter().enumerate() {
                match soon(|| task.join()) {
                    Ok(value) => assert_eq!(value, n),
                    Err(error) => assert!(error.is_killed()),
                }
            }
        }
    });
}

#[test]
fn rule_24_a_dropped_remote_handle_detaches() {
    check(|| {
        let lent = Lent::new();
        let (tell, told) = mpsc::channel();
        drop(lent.hub().spawn(move || {
            yield_now();
            tell.send(7).unwrap();
        }));
        assert_eq!(told.recv().unwrap(), 7);
    });
}

// The whole

#[test]
#[cfg(target_os = "linux")]
fn no_descriptor_is_left() {
    let output = in_child("no_descriptor_is_left", || {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let work = || {
            let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
            let address = listener.local_addr().unwrap();
            let theirs = listener.clone();
            let accepts = spawn(move || {
                let (stream, _) = theirs.accept().unwrap();
                drop(theirs.accept());
                drop(stream);
            });
            let reads = spawn(move || TcpStream::connect(address).unwrap().read(&mut [0]).map(drop));
            let timed = spawn(move || timeout(MS, || TcpStream::connect(address).unwrap().read(&mut [0]).map(drop)));
            sleep(3 * MS);
            drop(timed.join());
            killall([&accepts.task(), &reads.task()]);
            // Killed in the midst of a connect.
            let connects = spawn(move || TcpStream::connect(address).map(drop));
            yield_now();
            connects.kill();
        };
        // A first time for what the process keeps. No name lookups: a resolver's thread may still hold our hub for a
        // moment when that has ended.
        thread::spawn(work).join().unwrap();
        let before = open();
        for _ in 0..20 {
            thread::spawn(work).join().unwrap();
        }
        assert_eq!(open(), before);
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn t3_locals_that_end_after_the_hub_may_wait_for_other_threads() {
    use greenroom::queue::Queue;
    use greenroom::sync::{Event, Mutex, Semaphore};

    static LOCK: Mutex<()> = Mutex::new(());
    static ITEMS: Queue<u32> = Queue::unbounded();
    static PERMITS: Semaphore = Semaphore::new(0);
    static ASKED: Event = Event::new();
    static LOG: std::sync::Mutex<Vec<u32>> = std::sync::Mutex::new(Vec::new());

    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            ASKED.set();
            LOG.lock().unwrap().push(ITEMS.get().unwrap());
            let chosen = greenroom::select! {
                get(&ITEMS) -> item => item.unwrap(),
                timeout(EVER) => 0,
            };
            LOG.lock().unwrap().push(chosen);
            drop(PERMITS.acquire());
            drop(LOCK.lock().unwrap());
            LOG.lock().unwrap().push(3);
        }
    }
    thread_local!(static LOCAL: Waits = const { Waits });

    let lock = LOCK.lock().unwrap();
    let thread = thread::spawn(|| {
        LOCAL.with(|_| ());
        drop(spawn(|| ITEMS.get()));
        yield_now();
    });
    ASKED.wait();
    // The task that was left has been killed, and takes nothing.
    ITEMS.put(1).unwrap();
    ITEMS.put(2).unwrap();
    PERMITS.release(1);
    drop(lock);
    thread.join().unwrap();
    assert_eq!(*LOG.lock().unwrap(), [1, 2, 3]);
}
