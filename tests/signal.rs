//! `greenroom::signal`: what handlers, listeners and hubs make of a signal.
//!
//! Signals belong to the process, so each test runs in one of its own.

mod common;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Count, EVER, Log, MS, OnDrop, in_child, panic_of, soon, stderr};
use greenroom::net::{TcpListener, TcpStream};
use greenroom::os::{Fork, fork};
use greenroom::queue::Queue;
use greenroom::signal::{self, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals, raise};
use greenroom::sync::Event;
use greenroom::{current, idle, iwait, joinall, offload, park, run, select, sleep, spawn, timeout, wait, yield_now};

/// Runs `test` in a process of its own, and fails as it fails.
fn alone(name: &str, test: impl FnOnce()) {
    if let Some(output) = in_child(name, || soon(test)) {
        assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
    }
}

/// Runs `test` in a process of its own, which `signal` ends.
fn ended_by(signal: i32, name: &str, test: impl FnOnce()) {
    if let Some(output) = in_child(name, test) {
        assert_eq!(output.status.signal(), Some(signal), "{}", stderr(&output));
    }
}

/// Sends a signal to the process, from a thread of its own.
fn sent(signal: i32) {
    thread::spawn(move || send(signal)).join().unwrap();
}

fn send(signal: i32) {
    let this = std::process::id() as i32;
    // SAFETY: no precondition.
    assert_eq!(unsafe { libc::kill(this, signal) }, 0);
}

/// Gives the hub turns until nothing is left to be done, polls included.
fn settle() {
    sleep(MS);
    idle();
}

fn act(signal: i32, handler: usize) {
    // SAFETY: all zeroes is a sigaction with an empty mask and no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    // SAFETY: the action is alive for the call, and its handler, if there is one, only counts.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }, 0);
}

// Listeners

#[test]
fn each_delivery_has_a_task_of_its_own() {
    alone("each_delivery_has_a_task_of_its_own", || {
        let tasks = Rc::new(Queue::unbounded());
        let seen = tasks.clone();
        let listener = signal::on(SIGUSR1, move || {
            seen.try_put(current().id()).unwrap();
            park();
        });
        let _listener = listener.unwrap();
        let mut ids = Vec::new();
        for _ in 0..3 {
            // The earlier ones are still parked.
            raise(SIGUSR1).unwrap();
            ids.push(tasks.get().unwrap());
        }
        ids.dedup();
        assert_eq!(ids.len(), 3);
        assert!(!ids.contains(&current().id()));
    });
}

#[test]
fn a_thousand_signals_one_by_one_are_a_thousand_runs() {
    alone("a_thousand_signals_one_by_one_are_a_thousand_runs", || {
        let (runs, seen) = (Rc::new(Queue::unbounded()), Count::default());
        let (put, count) = (runs.clone(), seen.clone());
        let listener = signal::on(SIGUSR1, move || {
            count.up();
            put.try_put(count.get()).unwrap();
        });
        for i in 1..=1000 {
            raise(SIGUSR1).unwrap();
            assert_eq!(runs.get(), Ok(i));
        }
        // And from another thread, while this one sleeps in its poller.
        let (go, gone) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|s| {
            s.spawn(|| {
                for _ in 0..200 {
                    go.wait();
                    send(SIGUSR1);
                    gone.wait();
                }
            });
            for i in 1001..=1200 {
                go.wait();
                assert_eq!(runs.get(), Ok(i));
                gone.wait();
            }
        });
        settle();
        assert_eq!(seen.get(), 1200);
        drop(listener);
    });
}

#[test]
fn deliveries_that_nobody_has_waited_for_are_kept() {
    alone("deliveries_that_nobody_has_waited_for_are_kept", || {
        let signals = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
        let runs = Count::default();
        let count = runs.clone();
        let _listener = signal::on(SIGUSR1, move || count.up());
        for _ in 0..500 {
            raise(SIGUSR1).unwrap();
            raise(SIGUSR2).unwrap();
        }
        for _ in 0..500 {
            assert_eq!((signals.wait(), signals.try_wait()), (SIGUSR1, Some(SIGUSR2)));
        }
        assert_eq!(signals.try_wait(), None);
        settle();
        assert_eq!(runs.get(), 500);
    });
}

#[test]
fn more_than_the_pipe_holds_stops_nobody() {
    alone("more_than_the_pipe_holds_stops_nobody", || {
        let signals = Signals::new([SIGUSR1]).unwrap();
        for _ in 0..70_000 {
            raise(SIGUSR1).unwrap();
        }
        let kept = std::iter::from_fn(|| signals.try_wait()).count();
        assert!((16_384..=65_536).contains(&kept), "{kept}");
        raise(SIGUSR1).unwrap();
        assert_eq!(signals.wait(), SIGUSR1);
    });
}

#[test]
fn every_listener_of_every_hub_hears_of_it() {
    alone("every_listener_of_every_hub_hears_of_it", || {
        let barrier = Barrier::new(4);
        thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    let runs = Count::default();
                    let listeners: Vec<_> = (0..3)
                        .map(|_| {
                            let count = runs.clone();
                            signal::on(SIGUSR1, move || count.up()).unwrap()
                        })
                        .collect();
                    let signals = Signals::new([SIGUSR1, SIGUSR1]).unwrap();
                    barrier.wait();
                    for round in 1..=20 {
                        assert_eq!(signals.wait(), SIGUSR1);
                        while runs.get() < 3 * round {
                            yield_now();
                        }
                        barrier.wait();
                    }
                    settle();
                    assert_eq!((runs.get(), signals.try_wait()), (60, None));
                    drop(listeners);
                });
            }
            barrier.wait();
            for _ in 0..20 {
                send(SIGUSR1);
                barrier.wait();
            }
        });
    });
}

static BEFORE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_before(_: libc::c_int) {
    BEFORE.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_handler_that_was_there_is_still_called() {
    alone("a_handler_that_was_there_is_still_called", || {
        act(SIGTERM, count_before as *const () as usize);
        let signals = Signals::new([SIGTERM]).unwrap();
        raise(SIGTERM).unwrap();
        assert_eq!((signals.wait(), BEFORE.load(Ordering::Relaxed)), (SIGTERM, 1));
        drop(signals);
        // It was no default action, so none is done.
        raise(SIGTERM).unwrap();
        assert_eq!(BEFORE.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_run_that_panics_ends_no_listener() {
    alone("a_run_that_panics_ends_no_listener", || {
        let runs = Rc::new(Queue::unbounded());
        let put = runs.clone();
        let _listener = signal::on(SIGUSR1, move || {
            put.try_put(()).unwrap();
            common::fail::<()>("a run fails");
        });
        for _ in 0..3 {
            raise(SIGUSR1).unwrap();
            runs.get().unwrap();
        }
    });
}

#[test]
fn a_dropped_listener_hears_nothing() {
    alone("a_dropped_listener_hears_nothing", || {
        let others = Signals::new([SIGUSR1]).unwrap();
        let log = Log::default();
        let (runs, gone) = (log.clone(), OnDrop(log.clone(), "closure gone"));
        let listener = signal::on(SIGUSR1, move || {
            let _ = &gone;
            runs.add("run");
        });
        raise(SIGUSR1).unwrap();
        settle();
        assert_eq!(log.take(), ["run"]);
        // One that came, and had no task yet.
        raise(SIGUSR1).unwrap();
        drop(listener);
        raise(SIGUSR1).unwrap();
        settle();
        assert_eq!(log.take(), ["closure gone"]);
        assert_eq!(greenroom::testing::live_tasks(), 0);
        assert_eq!(std::iter::from_fn(|| others.try_wait()).count(), 3);

        // From within its own run.
        let (runs, slot) = (Count::default(), Rc::new(Cell::new(None::<signal::Listener>)));
        let (count, own) = (runs.clone(), slot.clone());
        let cancel_itself = move || {
            count.up();
            own.take().unwrap().cancel();
        };
        slot.set(Some(signal::on(SIGUSR1, cancel_itself).unwrap()));
        for _ in 0..3 {
            raise(SIGUSR1).unwrap();
            settle();
        }
        assert_eq!((runs.get(), greenroom::testing::live_tasks()), (1, 0));
    });
}

#[test]
fn a_detached_listener_ends_with_its_hub() {
    ended_by(SIGUSR1, "a_detached_listener_ends_with_its_hub", || {
        thread::spawn(|| {
            let runs = Count::default();
            let count = runs.clone();
            run(|| {
                signal::on(SIGUSR1, move || count.up()).unwrap().detach();
                raise(SIGUSR1).unwrap();
                settle();
                assert_eq!(runs.get(), 1);
            });
        })
        .join()
        .unwrap();
        raise(SIGUSR1).unwrap();
    });
}

#[test]
fn a_listener_that_outlives_its_hub_s_tasks_hears_nothing() {
    ended_by(SIGUSR1, "a_listener_that_outlives_its_hub_s_tasks_hears_nothing", || {
        let listener = run(|| signal::on(SIGUSR1, || ()).unwrap());
        raise(SIGUSR1).unwrap();
        drop(listener);
    });
}

#[test]
fn what_cannot_be_listened_for_is_refused() {
    alone("what_cannot_be_listened_for_is_refused", || {
        for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, 0, -1, 32]
            .into_iter()
            .chain([128, 129, 256 + SIGTERM, i32::MAX, i32::MIN])
        {
            assert_eq!(signal::on(signal, || ()).unwrap_err().kind(), ErrorKind::InvalidInput, "{signal}");
            assert_eq!(Signals::new([SIGUSR1, signal]).unwrap_err().kind(), ErrorKind::InvalidInput, "{signal}");
            assert_eq!(signal::wait(signal).unwrap_err().kind(), ErrorKind::InvalidInput, "{signal}");
        }
        settle();
        assert_eq!(greenroom::testing::live_tasks(), 0);
    });
}

// Default actions

#[test]
fn without_a_listener_the_default_action_is_back() {
    ended_by(SIGTERM, "without_a_listener_the_default_action_is_back", || {
        let (one, other) = (Signals::new([SIGTERM]).unwrap(), signal::on(SIGTERM, || ()).unwrap());
        raise(SIGTERM).unwrap();
        drop(one);
        raise(SIGTERM).unwrap();
        let third = Signals::new([SIGTERM]).unwrap();
        drop(other);
        raise(SIGTERM).unwrap();
        assert_eq!(third.wait(), SIGTERM);
        drop(third);
        raise(SIGTERM).unwrap();
    });
}

#[test]
fn what_was_ignored_is_ignored_again() {
    alone("what_was_ignored_is_ignored_again", || {
        act(SIGHUP, libc::SIG_IGN);
        let signals = Signals::new([SIGHUP]).unwrap();
        raise(SIGHUP).unwrap();
        assert_eq!(signals.wait(), SIGHUP);
        drop(signals);
        raise(SIGHUP).unwrap();
    });
}

#[test]
fn a_second_ctrl_c_ends_what_is_slow_to_end() {
    ended_by(SIGINT, "a_second_ctrl_c_ends_what_is_slow_to_end", || {
        let first = spawn(signal::ctrl_c);
        yield_now();
        sent(SIGINT);
        first.join().unwrap().unwrap();
        raise(SIGINT).unwrap();
    });
}

#[test]
fn ctrl_c_ends_a_server_in_good_order() {
    alone("ctrl_c_ends_a_server_in_good_order", || {
        let log = Log::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"ping").unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
            send(SIGINT);
            // The end, and no reset.
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        });
        run(|| {
            let (log, served) = (log.clone(), log.clone());
            spawn(move || {
                for stream in listener.incoming() {
                    let (mut stream, _closed) = (stream.unwrap(), OnDrop(log.clone(), "connection closed"));
                    spawn(move || {
                        let _closed = _closed;
                        let mut buffer = [0; 64];
                        while let Ok(read @ 1..) = stream.read(&mut buffer) {
                            stream.write_all(&buffer[..read]).unwrap();
                        }
                    });
                }
            });
            signal::ctrl_c().unwrap();
            served.add("interrupted");
        });
        client.join().unwrap();
        assert_eq!(log.take(), ["interrupted", "connection closed"]);
    });
}

// Waits

#[test]
fn a_signal_wakes_a_hub_that_has_nothing_else() {
    alone("a_signal_wakes_a_hub_that_has_nothing_else", || {
        let signals = Signals::new([SIGUSR1]).unwrap();
        for round in 0..50_u64 {
            thread::scope(|s| {
                s.spawn(move || {
                    // Now before the hub sleeps, now after.
                    thread::sleep(Duration::from_micros(round * 20));
                    send(SIGUSR1);
                });
                assert_eq!(signals.wait(), SIGUSR1);
            });
        }
    });
}

#[test]
fn a_listener_keeps_a_waiting_root_from_being_called_deadlocked() {
    alone("a_listener_keeps_a_waiting_root_from_being_called_deadlocked", || {
        let root = current();
        let listener = signal::on(SIGUSR1, move || root.unpark()).unwrap();
        // SAFETY: no precondition.
        let this = unsafe { libc::pthread_self() };
        let sender = thread::spawn(move || {
            thread::sleep(20 * MS);
            // SAFETY: that thread waits for this one.
            unsafe { libc::pthread_kill(this, SIGUSR1) };
        });
        park();
        sender.join().unwrap();
        drop(listener);
        settle();
        assert!(panic_of(park).contains("deadlock"));
    });
}

#[test]
fn a_select_chooses_between_signals_items_and_time() {
    alone("a_select_chooses_between_signals_items_and_time", || {
        let (signals, items) = (Signals::new([SIGUSR1]).unwrap(), Queue::unbounded());
        let choose = || {
            select! {
                wait(&signals) => format!("signal {:?}", signals.try_wait()),
                get(&items) -> item => format!("{item:?}"),
                timeout(MS) => "time".to_owned(),
            }
        };
        assert_eq!(choose(), "time");
        raise(SIGUSR1).unwrap();
        assert_eq!(choose(), format!("signal Some({SIGUSR1})"));
        items.put(1).unwrap();
        assert_eq!(choose(), "Ok(1)");
        assert_eq!(choose(), "time");

        let late = spawn(|| {
            raise(SIGUSR1).unwrap();
        });
        let chosen = select! {
            readable(&signals) => signals.wait(),
            timeout(EVER) => 0,
        };
        assert_eq!(chosen, SIGUSR1);
        late.join().unwrap();
    });
}

#[test]
fn wait_and_iwait_take_signals_among_others() {
    alone("wait_and_iwait_take_signals_among_others", || {
        let (signals, event) = (Signals::new([SIGUSR1]).unwrap(), Event::new());
        assert_eq!(wait([&signals], Some(MS), None).len(), 0);
        let late = spawn(|| raise(SIGUSR1).unwrap());
        assert_eq!(wait([&signals], None, None).len(), 1);
        late.join().unwrap();

        let both: [&dyn greenroom::Waitable; 2] = [&event, &signals];
        assert_eq!(iwait(both).take(1).count(), 1);
        assert_eq!(signals.try_wait(), Some(SIGUSR1));
        assert_eq!(wait(both, Some(MS), Some(1)).len(), 0);
    });
}

#[test]
fn a_wait_with_a_limit_ends_in_time() {
    alone("a_wait_with_a_limit_ends_in_time", || {
        let signals = Signals::new([SIGUSR1]).unwrap();
        let begun = Instant::now();
        assert_eq!(signals.wait_timeout(20 * MS), None);
        assert!(begun.elapsed() >= 20 * MS);
        assert_eq!(signals.wait_timeout(Duration::ZERO), None);
        raise(SIGUSR1).unwrap();
        assert_eq!(signals.wait_timeout(Duration::ZERO), Some(SIGUSR1));
        let late = spawn(|| raise(SIGUSR1).unwrap());
        assert_eq!(signals.wait_timeout(Duration::MAX), Some(SIGUSR1));
        late.join().unwrap();
        assert!(timeout(MS, || signals.wait()).is_err());
    });
}

#[test]
fn a_killed_waiter_takes_nothing() {
    alone("a_killed_waiter_takes_nothing", || {
        let signals = Rc::new(Signals::new([SIGUSR1]).unwrap());
        let waiter = |signals: &Rc<Signals>| {
            let signals = signals.clone();
            spawn(move || signals.wait())
        };
        let (first, second, third) = (waiter(&signals), waiter(&signals), waiter(&signals));
        yield_now();
        raise(SIGUSR1).unwrap();
        raise(SIGUSR1).unwrap();
        first.kill();
        assert_eq!((second.join().unwrap(), third.join().unwrap()), (SIGUSR1, SIGUSR1));
        assert_eq!(signals.try_wait(), None);
    });
}

#[test]
fn iteration_gives_signals_in_order() {
    alone("iteration_gives_signals_in_order", || {
        let signals = Signals::new([SIGUSR2, SIGHUP, SIGUSR1]).unwrap();
        let sent = [SIGUSR1, SIGHUP, SIGUSR2, SIGHUP];
        sent.iter().for_each(|&signal| raise(signal).unwrap());
        assert_eq!(signals.iter().take(4).collect::<Vec<_>>(), sent);
    });
}

#[test]
fn calls_that_wait_go_on_after_a_signal() {
    alone("calls_that_wait_go_on_after_a_signal", || {
        let runs = Count::default();
        let count = runs.clone();
        let _listener = signal::on(SIGUSR1, move || count.up()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, go_on) = (Rc::new(Event::new()), Rc::new(Event::new()));

        let accepting = spawn(move || listener.accept().map(drop));
        let waits = go_on.clone();
        let waiting = spawn(move || waits.wait());
        let sleeping = spawn(|| {
            let begun = Instant::now();
            sleep(100 * MS);
            assert!(begun.elapsed() >= 100 * MS);
        });
        let offloaded = spawn(|| offload(|| thread::sleep(100 * MS)));
        let signals = thread::spawn(|| {
            for _ in 0..100 {
                send(SIGUSR1);
                thread::sleep(MS);
            }
        });
        joinall([sleeping, offloaded]).into_iter().for_each(Result::unwrap);
        while !signals.is_finished() {
            sleep(MS);
        }
        ready.set();
        assert!(!accepting.is_finished() && !waiting.is_finished());
        drop(TcpStream::connect(address).unwrap());
        accepting.join().unwrap().unwrap();
        go_on.set();
        waiting.join().unwrap();
        settle();
        // One that came before the last was delivered was one with it.
        assert!((1..=100).contains(&runs.get()), "{}", runs.get());
    });
}

// Forks

/// Forks; runs `child` there and ends it with what that gives. How the child ended, in the parent.
fn forked(child: impl FnOnce() -> bool) -> ExitStatus {
    // SAFETY: the other threads are the harness's, which wait; nothing of theirs is used.
    match unsafe { fork() }.unwrap() {
        Fork::Child => std::process::exit(if child() { 0 } else { 1 }),
        Fork::Parent(pid) => {
            let mut status = 0;
            // SAFETY: `status` is alive for the call.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            ExitStatus::from_raw(status)
        }
    }
}

#[test]
fn a_forked_child_listens_for_itself() {
    alone("a_forked_child_listens_for_itself", || {
        let signals = Signals::new([SIGUSR1]).unwrap();
        let runs = Count::default();
        let count = runs.clone();
        let listener = Cell::new(Some(signal::on(SIGUSR1, move || count.up()).unwrap()));
        raise(SIGUSR1).unwrap();

        let by_default = forked(|| raise(SIGUSR1).is_err());
        assert_eq!(by_default.signal(), Some(SIGUSR1));
        let own = forked(|| {
            let own = Signals::new([SIGUSR1]).unwrap();
            drop(listener.take());
            raise(SIGUSR1).unwrap();
            own.wait() == SIGUSR1 && own.try_wait().is_none() && panic_of(|| signals.try_wait()).contains("forked")
        });
        assert!(own.success(), "{own}");

        // Here nothing of that was heard, and what had come before is still there.
        assert_eq!((signals.wait(), signals.try_wait()), (SIGUSR1, None));
        settle();
        assert_eq!(runs.get(), 1);
        raise(SIGUSR1).unwrap();
        settle();
        assert_eq!(runs.get(), 2);
    });
}
