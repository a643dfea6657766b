//! Three questions to every call that blocks: does its own timeout return in time, is an outer timeout not lost, and
//! does a kill leave no trace?

mod common;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::os::unix::net as std_unix;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{EVER, MS, check, within};
use greenroom::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use greenroom::{joinall, killall, park, park_timeout, run, shield, sleep, spawn, timeout, wait, yield_now};

/// A call that blocks until something is given.
struct Case {
    name: &'static str,
    /// Makes the call with a timeout of its own, if it has such a thing; says whether it got what it waits for.
    call: Box<dyn Fn(Option<Duration>) -> bool>,
    /// Gives one call what it waits for.
    give: Box<dyn Fn()>,
    own_timeout: bool,
    /// What is given serves one call, not all.
    exact: bool,
}

/// What came of a socket's call: its own timeout is `WouldBlock`, as std's.
#[track_caller]
fn got<T>(result: io::Result<T>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

fn cases() -> Vec<Case> {
    let localhost = "127.0.0.1:0";
    let mut cases = Vec::new();
    let mut case = |name, own_timeout, exact, call: Box<dyn Fn(Option<Duration>) -> bool>, give: Box<dyn Fn()>| {
        cases.push(Case { name, call, give, own_timeout, exact });
    };

    let listener = TcpListener::bind(localhost).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    case(
        "TcpStream::read",
        true,
        true,
        Box::new(move |own| {
            near.set_read_timeout(own).unwrap();
            got((&near).read(&mut [0]))
        }),
        Box::new(move || (&far).write_all(b"x").unwrap()),
    );

    let address = listener.local_addr().unwrap();
    let kept = RefCell::new(Vec::new());
    case(
        "TcpListener::accept",
        false,
        true,
        Box::new(move |_| got(listener.accept())),
        Box::new(move || kept.borrow_mut().push(std::net::TcpStream::connect(address).unwrap())),
    );

    let (near, far) = UnixStream::pair().unwrap();
    case(
        "UnixStream::read",
        true,
        true,
        Box::new(move |own| {
            near.set_read_timeout(own).unwrap();
            got((&near).read(&mut [0]))
        }),
        Box::new(move || (&far).write_all(b"x").unwrap()),
    );

    let (near, far) = UnixStream::pair().unwrap();
    case(
        "UnixStream::read_exact",
        true,
        true,
        Box::new(move |own| {
            near.set_read_timeout(own).unwrap();
            got((&near).read_exact(&mut [0; 1]))
        }),
        Box::new(move || (&far).write_all(b"x").unwrap()),
    );

    let (near, far) = UnixStream::pair().unwrap();
    // Full, by std's own calls: what is drained is filled up again by the call.
    let (near_std, far_std) = (std_unix::UnixStream::from(near), std_unix::UnixStream::from(far));
    near_std.set_nonblocking(true).unwrap();
    while (&near_std).write(&[0; 4096]).is_ok() {}
    near_std.set_nonblocking(false).unwrap();
    far_std.set_nonblocking(true).unwrap();
    let near = UnixStream::from(near_std);
    case(
        "UnixStream::write",
        true,
        false,
        Box::new(move |own| {
            near.set_write_timeout(own).unwrap();
            got((&near).write(&[0; 1]))
        }),
        Box::new(move || while (&far_std).read(&mut [0; 65536]).is_ok() {}),
    );

    let (near, far) = (UdpSocket::bind(localhost).unwrap(), std::net::UdpSocket::bind(localhost).unwrap());
    let address = near.local_addr().unwrap();
    case(
        "UdpSocket::recv_from",
        true,
        true,
        Box::new(move |own| {
            near.set_read_timeout(own).unwrap();
            got(near.recv_from(&mut [0]))
        }),
        Box::new(move || assert_eq!(far.send_to(b"x", address).unwrap(), 1)),
    );

    let (near, far) = (UdpSocket::bind(localhost).unwrap(), UdpSocket::bind(localhost).unwrap());
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    case(
        "UdpSocket::recv",
        true,
        true,
        Box::new(move |own| {
            near.set_read_timeout(own).unwrap();
            got(near.recv(&mut [0]))
        }),
        Box::new(move || assert_eq!(far.send(b"x").unwrap(), 1)),
    );

    let (near, far) = UnixDatagram::pair().unwrap();
    case(
        "UnixDatagram::recv",
        true,
        true,
        Box::new(move |own| {
            near.set_read_timeout(own).unwrap();
            got(near.recv(&mut [0]))
        }),
        Box::new(move || assert_eq!(far.send(b"x").unwrap(), 1)),
    );

    let (near, far) = UnixDatagram::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    while near.send(b"x").is_ok() {}
    near.set_nonblocking(false).unwrap();
    far.set_nonblocking(true).unwrap();
    case(
        "UnixDatagram::send",
        true,
        false,
        Box::new(move |own| {
            near.set_write_timeout(own).unwrap();
            got(near.send(b"x"))
        }),
        // The kernel lets a sender on only when three quarters are drained: all of it.
        Box::new(move || while far.recv(&mut [0]).is_ok() {}),
    );

    let path = std::env::temp_dir().join(format!(
        "greenroom-questions-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    drop(std::fs::remove_file(&path));
    let listener = UnixListener::bind(&path).unwrap();
    let kept = RefCell::new(Vec::new());
    struct Remove(std::path::PathBuf);
    impl Drop for Remove {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }
    let path = Remove(path);
    case(
        "UnixListener::accept",
        false,
        true,
        Box::new(move |_| got(listener.accept())),
        Box::new(move || kept.borrow_mut().push(std_unix::UnixStream::connect(&path.0).unwrap())),
    );

    let target = spawn(park).task();
    let (task, other) = (target.clone(), target.clone());
    case(
        "wait for a task",
        true,
        false,
        Box::new(move |own| wait([&task], own, None).len() == 1),
        Box::new(move || other.unpark()),
    );

    let target = spawn(|| shield(park)).task();
    let other = target.clone();
    yield_now();
    case(
        "Task::kill_timeout",
        true,
        false,
        Box::new(move |own| target.kill_timeout(own.unwrap_or(Duration::MAX))),
        Box::new(move || other.unpark()),
    );

    cases
}

/// Fails instead of hanging.
#[track_caller]
fn soon<R>(f: impl FnOnce() -> R) -> R {
    timeout(Duration::from_secs(20), f).expect("it does not hang")
}

/// Runs `f` for each case, each with a hub in the same state; what a case leaves running is ended.
fn each(f: impl Fn(&Case) + Clone + Send + 'static) {
    check(move || {
        run(|| {
            let all = cases();
            for case in &all {
                f(case);
            }
            for case in &all {
                (case.give)();
            }
        });
    });
}

#[test]
fn a_calls_own_timeout_returns_in_time() {
    each(|case| {
        if !case.own_timeout {
            return;
        }
        for length in [MS, 4 * MS] {
            within(5 * MS, || {
                let begun = Instant::now();
                assert!(!(case.call)(Some(length)), "{}: nothing was given", case.name);
                let took = begun.elapsed();
                assert!(took >= length, "{}: {took:?} of {length:?}", case.name);
                took - length
            });
        }
    });
}

#[test]
fn a_calls_own_timeout_leaves_what_comes_later_to_the_next() {
    each(|case| {
        if case.own_timeout {
            assert!(!(case.call)(Some(MS)), "{}", case.name);
        }
        (case.give)();
        assert!(soon(|| (case.call)(None)), "{}", case.name);
    });
}

#[test]
fn an_outer_timeout_ends_a_call() {
    each(|case| {
        for own in [None, Some(EVER)] {
            for length in [Duration::ZERO, MS] {
                let begun = Instant::now();
                assert!(soon(|| timeout(length, || (case.call)(own))).is_err(), "{}", case.name);
                assert!(begun.elapsed() >= length, "{}", case.name);
            }
        }
        (case.give)();
        assert!(soon(|| (case.call)(None)), "{}: nothing was lost", case.name);
    });
}

#[test]
fn an_outer_timeout_outlives_a_calls_own() {
    each(|case| {
        if !case.own_timeout {
            return;
        }
        let begun = Instant::now();
        let calls = Cell::new(0);
        let ended = soon(|| {
            timeout(6 * MS, || {
                loop {
                    assert!(!(case.call)(Some(MS)), "{}", case.name);
                    calls.set(calls.get() + 1);
                }
            })
        });
        assert!(ended.is_err(), "{}", case.name);
        assert!(begun.elapsed() >= 6 * MS && calls.get() <= 6, "{}: {calls:?}", case.name);
    });
}

#[test]
fn an_outer_timeout_is_not_lost_by_a_call_that_succeeds() {
    each(|case| {
        let ended = soon(|| {
            timeout(3 * MS, || {
                (case.give)();
                assert!((case.call)(None), "{}", case.name);
                sleep(EVER);
            })
        });
        assert!(ended.is_err(), "{}", case.name);
    });
}

/// Two callers, the first of which is cut off in some way before anything is given: the second gets it.
fn the_second_gets_it(cut: impl Fn(&dyn Fn() -> bool) + Clone + Send + 'static, kill: bool) {
    each(move |case| {
        // The tasks borrow the case: a scope.
        greenroom::scope(|s| {
            let cut = cut.clone();
            let first = s.spawn(move || {
                let got = Cell::new(false);
                cut(&|| {
                    got.set((case.call)(None));
                    got.get()
                });
                got.get()
            });
            yield_now();
            let second = s.spawn(|| (case.call)(None));
            sleep(2 * MS);
            assert!(!second.is_finished(), "{}", case.name);
            if kill {
                first.kill();
            }
            (case.give)();
            assert!(soon(|| second.join()).unwrap(), "{}: the second got it", case.name);
            match first.join() {
                Ok(got) => assert!(!kill && !got, "{}", case.name),
                Err(error) => assert!(kill && error.is_killed(), "{}", case.name),
            }
        });
    });
}

#[test]
fn a_killed_call_leaves_its_turn_to_the_next() {
    the_second_gets_it(|call| assert!(!call()), true);
}

#[test]
fn a_call_that_was_killed_inside_a_timeout_leaves_its_turn_to_the_next() {
    the_second_gets_it(
        |call| {
            let _never = timeout(EVER, || timeout(EVER, call));
        },
        true,
    );
}

#[test]
fn a_call_that_ran_out_of_time_leaves_its_turn_to_the_next() {
    the_second_gets_it(
        |call| {
            assert!(timeout(MS, call).is_err());
            yield_now();
        },
        false,
    );
}

#[test]
fn what_is_given_in_the_turn_of_the_kill_reaches_one_of_the_two() {
    for seed in 0..40 {
        each(move |case| {
            greenroom::testing::shuffle(seed);
            greenroom::scope(|s| {
                let (one, other) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
                let (first_got, second_got) = (one.clone(), other.clone());
                let first = s.spawn(move || {
                    if (case.call)(None) {
                        first_got.set(1);
                    }
                    sleep(EVER);
                });
                sleep(Duration::from_micros(20));
                let second = s.spawn(move || {
                    if (case.call)(None) {
                        second_got.set(1);
                    }
                });
                sleep(Duration::from_micros(20));
                // All due in one look at the outside, and run in any order.
                let target = first.task();
                let due = Instant::now() + Duration::from_micros(100);
                let killer = s.spawn(move || {
                    greenroom::sleep_until(due);
                    target.kill();
                });
                yield_now();
                (case.give)();
                while Instant::now() < due {}
                killer.join().unwrap();
                assert!(first.is_finished());
                if one.get() == 0 || !case.exact {
                    soon(|| second.join()).unwrap();
                    assert_eq!(other.get(), 1, "{}, seed {seed}", case.name);
                } else {
                    assert_eq!(other.get(), 0, "{}, seed {seed}: given once, got twice", case.name);
                    // Whoever waits now is served next.
                    (case.give)();
                    soon(|| second.join()).unwrap();
                }
            });
        });
    }
}

#[test]
fn killed_among_many_callers_the_others_are_served_in_order() {
    each(|case| {
        if !case.exact {
            return;
        }
        greenroom::scope(|s| {
            let served = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..6)
                .map(|place| {
                    let served = served.clone();
                    let task = s.spawn(move || {
                        assert!((case.call)(None));
                        served.borrow_mut().push(place);
                    });
                    yield_now();
                    task
                })
                .collect();
            killall([0, 2, 5].map(|place: usize| tasks[place].task()).iter());
            for _ in 0..3 {
                (case.give)();
            }
            for place in [1, 3, 4] {
                let task = tasks[place].task();
                soon(|| wait([&task], None, None));
            }
            assert_eq!(*served.borrow(), [1, 3, 4], "{}", case.name);
        });
    });
}

// What has no second caller, or none that could be given the same.

#[test]
fn parks_and_joins_meet_their_own_timeouts_within_outer_ones() {
    check(|| {
        let handle = spawn(park);
        let detached = handle.task();
        let ended = timeout(5 * MS, || {
            assert!(!park_timeout(MS));
            let handle = handle.join_timeout(MS).unwrap_err();
            let _never = handle.join_timeout(EVER);
        });
        assert!(ended.is_err());
        assert!(!detached.is_finished(), "it goes on");
        detached.unpark();
        soon(|| wait([detached], None, None));
    });
}

#[test]
fn a_permit_outlives_a_killed_join_and_a_timed_out_park() {
    check(|| {
        let task = spawn(|| {
            assert!(timeout(MS, park).is_err());
            yield_now();
            park_timeout(EVER)
        });
        sleep(3 * MS);
        task.task().unpark();
        assert!(soon(|| task.join()).unwrap());
    });
}

#[test]
fn a_connect_that_gets_no_answer_meets_its_own_timeout_and_an_outer_one() {
    check(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut filling = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, 20 * MS) {
            filling.push(stream);
        }
        let begun = Instant::now();
        let error = TcpStream::connect_timeout(&address, 5 * MS).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= 5 * MS);
        assert!(soon(|| timeout(2 * MS, || TcpStream::connect(address))).is_err());
        assert!(soon(|| timeout(2 * MS, || TcpStream::connect_timeout(&address, EVER))).is_err());
    });
}

#[test]
fn joins_of_one_task_are_all_served_though_some_are_killed() {
    check(|| {
        let target = spawn(park).task();
        let joiners: Vec<_> = (0..5)
            .map(|_| {
                let target = target.clone();
                spawn(move || wait([target], None, None).len())
            })
            .collect();
        yield_now();
        killall([&joiners[0], &joiners[3]]);
        target.unpark();
        let served: Vec<_> = joinall(joiners).into_iter().map(Result::ok).collect();
        assert_eq!(served, [None, Some(1), Some(1), None, Some(1)]);
    });
}
