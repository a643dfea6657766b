//! Rules 10 to 12 of the contract: kill, shield, timeout.

mod common;

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{Count, EVER, Log, MS, OnDrop, check, fail, panic_of, soon};
use greenroom::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use greenroom::{
    HubHandle, Task, current, idle, iwait, joinall, killall, park, park_timeout, run, scope, shield, sleep, spawn,
    spawn_later, timeout, try_joinall, wait, yield_now,
};

// Rule 10: kill

/// Makes a task that parks in its own way, lets it do so, kills it, and sees that it ended there, with its destructors.
fn killed_at<R>(what: &'static str, waits: impl FnOnce() -> R + 'static) {
    let log = Log::default();
    let (theirs, after) = (log.clone(), log.clone());
    let task = spawn(move || {
        let _end = OnDrop(theirs, "destructor");
        waits();
        after.add("went on");
    });
    idle();
    assert!(!task.is_finished(), "{what}: it parks");
    soon(|| task.kill());
    assert!(task.is_finished(), "{what}");
    assert_eq!(log.take(), ["destructor"], "{what}");
    assert!(task.join().unwrap_err().is_killed(), "{what}");
}

#[test]
fn rule_10_a_kill_reaches_every_parking_point_of_tasks() {
    check(|| {
        let parked = spawn(park).task();
        let target = || parked.clone();
        killed_at("sleep", || sleep(EVER));
        killed_at("endless sleep", || sleep(Duration::MAX));
        killed_at("sleep_until", || greenroom::sleep_until(Instant::now() + EVER));
        killed_at("park", park);
        killed_at("park_timeout", || park_timeout(EVER));
        killed_at("inside timeout", || timeout(EVER, park));
        killed_at("inside two timeouts", || timeout(EVER, || timeout(Duration::MAX, park)));
        killed_at("after a shield", || {
            shield(yield_now);
            park();
        });
        let other = target();
        killed_at("wait", move || drop(wait([other], None, None)));
        let other = target();
        killed_at("wait with a timeout", move || drop(wait([other], Some(EVER), Some(1))));
        let other = target();
        killed_at("iwait", move || drop(iwait([other]).next()));
        let (one, other) = (spawn(park), spawn(park));
        let both = [one.task(), other.task()];
        killed_at("join", move || drop(one.join()));
        killed_at("joinall", move || drop(joinall([other])));
        let (one, other) = (spawn(park), spawn(park));
        let more = [one.task(), other.task()];
        killed_at("join_timeout", move || drop(one.join_timeout(EVER)));
        killed_at("try_joinall", move || drop(try_joinall([other])));
        assert!(!both.iter().chain(&more).any(Task::is_finished), "what was joined goes on");
        killall(both.iter().chain(&more));
        let stubborn = spawn(|| shield(park));
        let other = stubborn.task();
        yield_now();
        killed_at("kill", move || other.kill());
        let other = stubborn.task();
        killed_at("kill_timeout", move || other.kill_timeout(EVER));
        let other = stubborn.task();
        killed_at("killall", move || killall([&other]));
        stubborn.task().unpark();
        stubborn.join().unwrap();
        killed_at("scope", || scope(|s| drop(s.spawn(park))));
        killed_at("join in a scope", || scope(|s| drop(s.spawn(park).join())));
        killed_at("run", || run(park));
        killed_at("a scope's task that sleeps", || scope(|s| drop(s.spawn(|| sleep(EVER)))));
        parked.kill();
    });
}

#[test]
fn rule_10_a_kill_reaches_a_loop_of_yields_and_one_that_never_waits() {
    check(|| {
        for spin in [
            || loop {
                yield_now();
            },
            || loop {
                sleep(Duration::ZERO);
            },
            || {
                let (near, far) = UnixDatagram::pair().unwrap();
                loop {
                    far.send(b"x").unwrap();
                    near.recv(&mut [0]).unwrap();
                }
            },
        ] as [fn() -> (); 3]
        {
            let task = spawn(spin);
            yield_now();
            soon(|| task.kill());
            assert!(task.join().unwrap_err().is_killed());
        }
    });
}

#[test]
fn rule_10_a_kill_reaches_idle() {
    check(|| {
        // Somebody is always ready, so that the hub is never idle.
        let busy = spawn(|| {
            loop {
                yield_now();
            }
        });
        let idles: Vec<_> = (0..3).map(|_| spawn(idle)).collect();
        yield_now();
        idles[1].kill();
        assert!(idles[1].is_finished() && !idles[0].is_finished() && !idles[2].is_finished());
        busy.kill();
        for (place, result) in joinall(idles).into_iter().enumerate() {
            assert_eq!(result.is_ok(), place != 1);
        }
    });
}

#[test]
fn rule_10_a_kill_reaches_every_parking_point_of_sockets() {
    check(|| {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = tcp.accept().unwrap();
        let (tcp, client, server) = (Rc::new(tcp), Rc::new(client), Rc::new(server));
        let l = tcp.clone();
        killed_at("accept", move || drop(l.accept()));
        let l = tcp.clone();
        killed_at("incoming", move || drop(l.incoming().next()));
        let c = client.clone();
        killed_at("read", move || drop((&*c).read(&mut [0])));
        let c = client.clone();
        killed_at("read_exact", move || drop((&*c).read_exact(&mut [0; 10])));
        let c = client.clone();
        killed_at("peek", move || drop(c.peek(&mut [0])));
        let c = client.clone();
        killed_at("write", move || while (&*c).write(&[0; 65536]).is_ok() {});
        let c = client.clone();
        killed_at("write_all", move || drop((&*c).write_all(&[0; 65536])));
        drop(server);

        let udp = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let u = udp.clone();
        killed_at("recv_from", move || drop(u.recv_from(&mut [0])));
        let u = udp.clone();
        killed_at("peek_from", move || drop(u.peek_from(&mut [0])));
        udp.connect(udp.local_addr().unwrap()).unwrap();
        let u = udp.clone();
        killed_at("recv", move || drop(u.recv(&mut [0])));

        let (near, far) = UnixDatagram::pair().unwrap();
        let near = Rc::new(near);
        let n = near.clone();
        killed_at("datagram recv", move || drop(n.recv(&mut [0])));
        killed_at("datagram send", move || while near.send(&[0; 100]).is_ok() {});
        drop(far);

        let dir = std::env::temp_dir().join(format!("greenroom-{}-kill", std::process::id()));
        drop(std::fs::remove_file(&dir));
        let unix = UnixListener::bind(&dir).unwrap();
        killed_at("unix accept", move || drop(unix.accept()));
        std::fs::remove_file(&dir).unwrap();
    });
}

#[test]
fn rule_10_a_kill_reaches_a_connect_that_gets_no_answer() {
    check(|| {
        // A full backlog drops what comes: the connect stays under way.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut filling = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, 20 * MS) {
            filling.push(stream);
        }
        let task = spawn(move || TcpStream::connect(address).map(drop));
        idle();
        assert!(!task.is_finished());
        soon(|| task.kill());
        assert!(task.join().unwrap_err().is_killed());
    });
}

#[test]
fn rule_10_a_kill_reaches_a_name_lookup() {
    check(|| {
        let log = Log::default();
        let names = (0..20).map(|n| format!("no-such-name-{n}.invalid:1"));
        let tasks: Vec<_> = names
            .map(|name| {
                let end = OnDrop(log.clone(), "unwound");
                spawn(move || {
                    let _end = end;
                    drop(greenroom::net::lookup_host(name.as_str()));
                    park();
                })
            })
            .collect();
        yield_now();
        soon(|| killall(&tasks));
        assert_eq!(log.take(), ["unwound"; 20]);
        for result in joinall(tasks) {
            assert!(result.unwrap_err().is_killed());
        }
    });
}

#[test]
fn rule_10_a_kill_reaches_a_join_of_another_threads_task() {
    check(|| {
        let (tell, told) = mpsc::channel();
        let other = thread::spawn(move || {
            tell.send((HubHandle::current(), current().unparker())).unwrap();
            park();
        });
        let (hub, end) = told.recv().unwrap();
        let remote = hub.spawn(park);
        let task = spawn(move || remote.join());
        sleep(MS);
        soon(|| task.kill());
        assert!(task.join().unwrap_err().is_killed());
        end.unpark();
        drop((hub, end));
        other.join().unwrap();
    });
}

#[test]
fn rule_10_a_kill_before_the_first_run_drops_the_body_unrun() {
    check(|| {
        let log = Log::default();
        let (captured, never) = (OnDrop(log.clone(), "captured"), log.clone());
        let task = spawn(move || {
            let _captured = captured;
            never.add("ran");
        });
        task.kill();
        assert_eq!(log.take(), ["captured"]);
        assert!(task.join().unwrap_err().is_killed());
    });
}

#[test]
fn rule_10_the_destructors_of_a_body_that_never_runs_may_park() {
    check(|| {
        struct Sleeps(Log);
        impl Drop for Sleeps {
            fn drop(&mut self) {
                sleep(2 * MS);
                self.0.add("slept");
            }
        }
        let log = Log::default();
        let sleeps = Sleeps(log.clone());
        let task = spawn(move || drop(sleeps));
        task.kill();
        assert_eq!(log.take(), ["slept"]);
    });
}

#[test]
fn rule_10_a_task_that_kills_itself_unwinds_at_once() {
    check(|| {
        let log = Log::default();
        let theirs = log.clone();
        let task = spawn(move || {
            let _end = OnDrop(theirs.clone(), "unwound");
            current().kill();
            theirs.add("went on");
        });
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(log.take(), ["unwound"]);

        let theirs = log.clone();
        let task = spawn(move || {
            current().kill_nowait();
            theirs.add("went on");
            yield_now();
            theirs.add("past the parking point");
        });
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(log.take(), ["went on"]);
    });
}

#[test]
fn rule_10_the_root_cannot_be_killed() {
    check(|| {
        let root = current();
        root.kill();
        root.kill_nowait();
        assert!(!root.kill_timeout(MS));
        assert!(!spawn(move || root.kill_timeout(MS)).join().unwrap());
        yield_now();
    });
}

#[test]
fn rule_10_killing_twice_or_too_late_does_nothing_more() {
    check(|| {
        let task = spawn(park);
        yield_now();
        task.kill_nowait();
        task.kill_nowait();
        task.kill();
        task.kill();
        assert!(task.kill_timeout(Duration::ZERO));
        assert!(task.join().unwrap_err().is_killed());

        let done = spawn(|| 5);
        yield_now();
        done.kill();
        assert_eq!(done.join().unwrap(), 5);
    });
}

#[test]
fn rule_10_many_wait_for_the_end_of_one_they_all_kill() {
    check(|| {
        let log = Log::default();
        let theirs = log.clone();
        let target = spawn(move || {
            let _end = OnDrop(theirs, "end");
            shield(|| sleep(2 * MS));
            park();
        });
        let task = target.task();
        let killers = (0..3).map(|_| {
            let (task, log) = (task.clone(), log.clone());
            spawn(move || {
                task.kill();
                log.add("back");
            })
        });
        joinall(killers);
        assert_eq!(log.take(), ["end", "back", "back", "back"]);
    });
}

#[test]
fn rule_10_kill_timeout_says_whether_it_ended() {
    check(|| {
        let shielded = spawn(|| {
            shield(park);
            sleep(EVER);
        });
        yield_now();
        let begun = Instant::now();
        assert!(!shielded.kill_timeout(3 * MS));
        assert!(begun.elapsed() >= 3 * MS);
        assert!(!shielded.is_finished());
        shielded.task().unpark();
        assert!(shielded.kill_timeout(EVER));
        let easy = spawn(park);
        yield_now();
        assert!(easy.kill_timeout(Duration::ZERO), "it takes a turn, no time");
    });
}

#[test]
fn rule_10_killall_kills_all_before_it_waits_and_itself_last() {
    check(|| {
        let log = Log::default();
        let sleepers: Vec<_> = (0..3)
            .map(|_| {
                let log = log.clone();
                spawn(move || {
                    let _end = OnDrop(log, "killed");
                    park();
                })
            })
            .collect();
        let (theirs, tasks): (_, Vec<Task>) = (log.clone(), sleepers.iter().map(Task::from).collect());
        let own = spawn(move || {
            let _end = OnDrop(theirs.clone(), "itself");
            let all = [tasks[0].clone(), current(), tasks[1].clone(), tasks[2].clone(), tasks[0].clone()];
            killall(all.iter());
            theirs.add("went on");
        });
        assert!(own.join().unwrap_err().is_killed());
        assert_eq!(log.take(), ["killed", "killed", "killed", "itself"]);
        killall([] as [Task; 0]);
        killall([current()]);
    });
}

#[test]
fn rule_10_a_destructor_may_park_while_it_unwinds_and_is_not_killed_there() {
    check(|| {
        struct Flushes(Log);
        impl Drop for Flushes {
            fn drop(&mut self) {
                self.0.add("flushing");
                sleep(3 * MS);
                yield_now();
                assert!(timeout(MS, || sleep(2 * MS)).is_ok(), "P1: not cancelled");
                self.0.add("flushed");
            }
        }
        let log = Log::default();
        let flushes = Flushes(log.clone());
        let task = spawn(move || {
            let _flushes = flushes;
            park();
        });
        yield_now();
        task.kill_nowait();
        yield_now();
        assert_eq!(log.take(), ["flushing"]);
        // A second kill waits for the destructor like everybody.
        task.kill();
        assert_eq!(log.take(), ["flushed"]);

        // The same for a panic's unwind, and for a timeout's.
        let flushes = Flushes(log.clone());
        let panics = spawn(move || {
            let _flushes = flushes;
            fail::<()>("panic");
        });
        yield_now();
        panics.kill();
        assert!(panics.join().unwrap_err().is_panicked());
        assert_eq!(log.take(), ["flushing", "flushed"]);
        let flushes = Flushes(log.clone());
        let timed = spawn(move || {
            timeout(MS, || {
                let _flushes = flushes;
                park();
            })
        });
        sleep(3 * MS);
        timed.kill();
        assert!(timed.join().is_ok_and(|timed| timed.is_err()), "killed after its last parking point");
        assert_eq!(log.take(), ["flushing", "flushed"]);
    });
}

#[test]
fn rule_10_others_can_be_killed_while_one_is_parked_in_its_unwind() {
    check(|| {
        struct Waits;
        impl Drop for Waits {
            fn drop(&mut self) {
                park();
            }
        }
        let unwinding = spawn(|| {
            let _waits = Waits;
            park();
        });
        yield_now();
        unwinding.kill_nowait();
        yield_now();
        // std says of the thread that it panics; of these tasks that is not so.
        killed_at("parked before", park);
        let inner = spawn(|| {
            assert!(timeout(MS, park).is_err());
            assert!(catch_unwind(|| fail::<()>("inside")).is_err());
            let text = panic_of(|| scope(|s| drop(s.spawn(|| fail::<()>("in a scope")))));
            assert_eq!(text, "in a scope");
            "whole"
        });
        assert_eq!(inner.join().unwrap(), "whole");
        assert!(spawn(|| fail::<()>("it panics")).join().unwrap_err().is_panicked());
        unwinding.task().unpark();
        assert!(unwinding.join().unwrap_err().is_killed());
        assert!(!thread::panicking());
    });
}

#[test]
fn rule_10_one_that_caught_a_panic_beside_an_unwinding_one_can_be_killed() {
    // `thread::panicking` is true all the while, because of the other.
    check(|| {
        struct Waits;
        impl Drop for Waits {
            fn drop(&mut self) {
                park();
            }
        }
        let unwinding = spawn(|| {
            let _waits = Waits;
            park();
        });
        yield_now();
        unwinding.kill_nowait();
        yield_now();
        let catches = spawn(|| {
            drop(catch_unwind(|| panic_any("caught")));
            park();
        });
        yield_now();
        unwinding.task().unpark();
        assert!(unwinding.join().unwrap_err().is_killed());
        assert!(soon(|| catches.kill_timeout(2000 * MS)));
    });
}

#[test]
fn rule_12_one_that_caught_a_panic_beside_an_unwinding_one_can_run_out_of_time() {
    // As above, with nobody else left who would park.
    check(|| {
        struct Waits;
        impl Drop for Waits {
            fn drop(&mut self) {
                sleep(MS);
            }
        }
        let unwinding = spawn(|| {
            let _waits = Waits;
            park();
        });
        yield_now();
        unwinding.kill_nowait();
        yield_now();
        // Due before the other's unwind is over, and after it.
        let tasks = [Duration::ZERO, 3 * MS].map(|limit| {
            spawn(move || {
                drop(catch_unwind(|| panic_any("caught")));
                timeout(limit, || sleep(EVER)).is_err()
            })
        });
        for task in tasks {
            assert!(task.join_timeout(2000 * MS).unwrap().unwrap());
        }
    });
}

#[test]
fn rule_10_an_unwind_that_began_unseen_is_not_taken_for_anothers() {
    // The panic hook does not see `resume_unwind`, and `thread::panicking` was true before it, because of the first.
    check(|| {
        struct Waits;
        impl Drop for Waits {
            fn drop(&mut self) {
                park();
            }
        }
        let first = spawn(|| {
            let _waits = Waits;
            park();
        });
        yield_now();
        first.kill_nowait();
        yield_now();
        let unseen = spawn(|| {
            let _waits = Waits;
            fail::<()>("unseen");
        });
        yield_now();
        let victim = spawn(park);
        yield_now();
        first.task().unpark();
        victim.kill_nowait();
        assert!(victim.join().unwrap_err().is_killed());
        assert!(first.join().unwrap_err().is_killed());
        unseen.task().unpark();
        assert!(unseen.join().unwrap_err().is_panicked());
    });
}

#[test]
fn rule_10_who_swallows_a_kill_meets_it_again() {
    check(|| {
        let count = Count::default();
        let theirs = count.clone();
        let task = spawn(move || {
            for _ in 0..3 {
                assert!(catch_unwind(AssertUnwindSafe(park)).is_err());
                theirs.up();
            }
            assert!(catch_unwind(|| sleep(EVER)).is_err());
            yield_now();
            theirs.up();
        });
        yield_now();
        task.kill();
        assert_eq!(count.get(), 3);
        assert!(task.join().unwrap_err().is_killed());

        // One that never parks again has its result.
        let task = spawn(|| {
            drop(catch_unwind(park));
            11
        });
        yield_now();
        task.kill();
        assert_eq!(task.join().unwrap(), 11);
    });
}

#[test]
fn rule_10_data_that_came_first_wins_over_the_kill() {
    check(|| {
        let (mut near, far) = UnixStream::pair().unwrap();
        let log = Log::default();
        let theirs = log.clone();
        let reader = spawn(move || {
            (&far).read_exact(&mut [0]).unwrap();
            theirs.add("read");
            park();
            theirs.add("went on");
        });
        idle();
        near.write_all(b"x").unwrap();
        // Through the poller, not past it: the reader is ready but has not run.
        let kills = spawn({
            let task = reader.task();
            move || task.kill()
        });
        kills.join().unwrap();
        assert!(reader.join().unwrap_err().is_killed());
        assert!(log.take().len() <= 1, "it did not get past its next parking point");
    });
}

#[test]
fn rule_10_a_kill_passes_a_permit_and_a_join_on() {
    check(|| {
        // Two join one task; the first is killed; the second hears of the end.
        let target = spawn(park).task();
        let (one, other) = (target.clone(), target.clone());
        let first = spawn(move || wait([one], None, None).len());
        let second = spawn(move || wait([other], None, None).len());
        yield_now();
        first.kill();
        target.unpark();
        assert_eq!(second.join().unwrap(), 1);
    });
}

// Rule 11: what a cancellation is, and shield

#[test]
fn rule_11_a_cancelled_call_returns_nothing() {
    check(|| {
        // `read_exact`, `read_to_end` and `write_all` try `Interrupted` again: a kill is not one.
        let (near, far) = UnixStream::pair().unwrap();
        let log = Log::default();
        let theirs = log.clone();
        let task = spawn(move || {
            let read = (&near).read_to_end(&mut Vec::new());
            theirs.add(format!("{read:?}"));
        });
        idle();
        task.kill();
        assert_eq!(log.take(), [""; 0]);
        drop(far);
    });
}

#[test]
fn rule_11_shield_holds_a_kill_back_until_its_end() {
    check(|| {
        let log = Log::default();
        let theirs = log.clone();
        let task = spawn(move || {
            shield(|| {
                shield(|| sleep(MS));
                sleep(MS);
                yield_now();
                theirs.add("inside");
            });
            theirs.add("after it");
            yield_now();
            theirs.add("past a parking point");
        });
        yield_now();
        task.kill();
        assert_eq!(log.take(), ["inside", "after it"]);
        assert!(task.join().unwrap_err().is_killed());
    });
}

#[test]
fn rule_11_shield_holds_an_outer_timeout_back_but_not_an_inner_one() {
    check(|| {
        let log = Log::default();
        let outer = timeout(2 * MS, || {
            shield(|| {
                assert!(timeout(MS, park).is_err(), "inside");
                sleep(5 * MS);
                assert!(timeout(MS, || timeout(EVER, park)).is_err(), "nested inside");
                log.add("whole");
            });
            sleep(EVER);
        });
        assert!(outer.is_err());
        assert_eq!(log.take(), ["whole"]);
    });
}

#[test]
fn rule_11_a_kill_behind_a_shield_does_not_stop_a_timeout_inside() {
    check(|| {
        let task = spawn(|| {
            shield(|| {
                yield_now();
                for _ in 0..3 {
                    assert!(timeout(MS, park).is_err());
                }
            });
            Log::default().add("no parking point after it");
            "done"
        });
        yield_now();
        task.kill();
        assert_eq!(task.join().unwrap(), "done");
    });
}

#[test]
fn rule_11_a_panic_leaves_a_shield() {
    check(|| {
        let task = spawn(|| {
            drop(catch_unwind(|| shield(|| fail::<()>("inside"))));
            park();
        });
        yield_now();
        soon(|| task.kill());
        assert!(task.join().unwrap_err().is_killed());
    });
}

// Rule 12: timeout

#[test]
fn rule_12_a_timeout_ends_every_kind_of_wait() {
    check(|| {
        let parked = spawn(park);
        let (near, _far) = UnixStream::pair().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let task = parked.task();
        let waits: [&dyn Fn(); 11] = [
            &|| sleep(EVER),
            &park,
            &|| drop(wait([&task], None, None)),
            &|| drop((&near).read(&mut [0])),
            &|| while (&near).write(&[0; 65536]).is_ok() {},
            &|| drop(udp.recv_from(&mut [0])),
            &|| drop(tcp.accept()),
            &|| drop(joinall([spawn(|| sleep(20 * MS))])),
            &|| scope(|s| drop(s.spawn(park))),
            &|| assert!(timeout(EVER, park).is_ok()),
            &|| drop(spawn_later(20 * MS, || ()).join()),
        ];
        for wait in waits {
            for length in [Duration::ZERO, MS] {
                let begun = Instant::now();
                let ended = soon(|| timeout(length, wait));
                assert!(ended.is_err());
                assert!(begun.elapsed() >= length);
            }
        }
        parked.kill();
        while greenroom::testing::live_tasks() > 0 {
            sleep(MS);
        }
    });
}

#[test]
fn rule_12_of_nested_timeouts_the_earliest_fires_and_only_its_block_is_elapsed() {
    check(|| {
        let inner_first = timeout(EVER, || timeout(MS, park));
        assert!(matches!(inner_first, Ok(Err(_))));
        let outer_first = timeout(MS, || timeout(EVER, park));
        assert!(outer_first.is_err());
        let middle = timeout(EVER, || timeout(MS, || timeout(EVER, park)));
        assert!(matches!(middle, Ok(Err(_))));
        // Both are due when somebody looks: the earlier deadline, though it is outside.
        let both = timeout(MS, || {
            timeout(2 * MS, || {
                let begun = Instant::now();
                while begun.elapsed() < 4 * MS {}
                park();
            })
        });
        assert!(both.is_err());
        let both = timeout(2 * MS, || {
            let inner = timeout(MS, || {
                let begun = Instant::now();
                while begun.elapsed() < 4 * MS {}
                park();
            });
            assert!(inner.is_err());
            "no parking point is left"
        });
        assert_eq!(both, Ok("no parking point is left"));
    });
}

#[test]
fn rule_12_a_body_that_does_not_park_succeeds_whatever_its_limit() {
    check(|| {
        for limit in [Duration::ZERO, Duration::from_nanos(1), MS, Duration::MAX] {
            let body = || {
                let begun = Instant::now();
                while begun.elapsed() < 2 * MS {}
                "done"
            };
            assert_eq!(timeout(limit, body), Ok("done"));
        }
    });
}

#[test]
fn rule_12_a_timeout_cannot_leak_into_later_code() {
    check(|| {
        for _ in 0..200 {
            // It fires, if at all, on the way out.
            let _either = timeout(Duration::from_micros(50), || sleep(Duration::from_micros(40)));
            yield_now();
        }
        for _ in 0..20 {
            let _fired_unseen = timeout(MS, || drop(catch_unwind(|| sleep(EVER))));
            sleep(MS);
        }
        let report = panic_of(|| {
            timeout(EVER, || ()).unwrap();
            timeout(EVER, || fail::<()>("left in a hurry")).unwrap();
        });
        assert_eq!(report, "left in a hurry");
        assert!(soon(|| panic_of(park)).starts_with("deadlock"), "no timer is left");
    });
}

#[test]
fn rule_12_who_swallows_a_timeout_meets_it_again_until_its_block_ends() {
    check(|| {
        let count = Count::default();
        let ended = timeout(MS, || {
            for _ in 0..3 {
                assert!(catch_unwind(|| sleep(EVER)).is_err());
                count.up();
            }
            "it goes on to its end"
        });
        assert_eq!(ended, Ok("it goes on to its end"));
        assert_eq!(count.get(), 3);
        let ended = timeout(MS, || {
            drop(catch_unwind(|| sleep(EVER)));
            sleep(EVER);
        });
        assert!(ended.is_err());
        sleep(MS);
    });
}

#[test]
fn rule_12_a_kill_wins_over_a_timeout() {
    check(|| {
        let task = spawn(|| {
            let _ = timeout(MS, || shield(park));
            "the timeout won"
        });
        sleep(3 * MS);
        // Now both are pending.
        task.kill_nowait();
        task.task().unpark();
        // The shield ends, and the body with it, without a parking point: it is done.
        assert_eq!(task.join().unwrap(), "the timeout won");

        let task = spawn(|| {
            let _ = timeout(MS, || {
                shield(park);
                park();
            });
            "the timeout won"
        });
        sleep(3 * MS);
        task.kill_nowait();
        task.task().unpark();
        assert!(task.join().unwrap_err().is_killed());
    });
}

#[test]
fn rule_12_an_elapsed_timeout_runs_the_destructors_of_its_body() {
    check(|| {
        let log = Log::default();
        let ended = timeout(MS, || {
            let _outer = OnDrop(log.clone(), "outer");
            let _inner = OnDrop(log.clone(), "inner");
            park();
        });
        let error = ended.unwrap_err();
        assert_eq!(log.take(), ["inner", "outer"]);
        assert_eq!(error.to_string(), "the time ran out");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
        assert!(!thread::panicking());
    });
}
