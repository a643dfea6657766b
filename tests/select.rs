//! `select!`: one of several things is done, and the others are left as they were.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use greenroom::net::{TcpListener, TcpStream};
use greenroom::queue::{Channel, GetError, LifoQueue, PriorityQueue, PutError, Queue};
use greenroom::sync::mpsc::{Receiver, RecvError, SendError, SyncSender, channel, sync_channel};
use greenroom::sync::{Event, Semaphore};
use greenroom::{JoinHandle, Waitable, iwait, joinall, select, sleep, spawn, timeout, wait, yield_now};

mod common;
use common::{EVER, MS, check, panic_of, soon};

fn sleeper() -> JoinHandle<()> {
    spawn(|| sleep(EVER))
}

// What ends the wait

#[test]
fn a_default_is_taken_when_nothing_can_be_done() {
    check(|| {
        let task = sleeper();
        let ask = || {
            select! {
                join(&task) => "ended",
                default => "not yet",
            }
        };
        assert_eq!(ask(), "not yet");
        task.kill();
        assert_eq!(ask(), "ended");
    });
}

#[test]
fn a_block_may_have_a_comma_behind_it() {
    check(|| {
        let (to, from) = channel();
        to.send(1).unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            select! {
                recv(&from) -> item => { seen.push(item.unwrap()); },
                default => { seen.push(0); },
            }
        }
        select! {
            recv(&from) => { seen.push(2); },
            timeout(MS) => { seen.push(3); },
        }
        assert_eq!(seen, [1, 0, 3]);
    });
}

#[test]
fn a_default_never_gives_the_others_a_turn() {
    check(|| {
        let ran = Rc::new(Cell::new(false));
        let flag = ran.clone();
        let other = spawn(move || flag.set(true));
        let (_sender, receiver) = channel::<()>();
        select! {
            recv(&receiver) -> _ => unreachable!(),
            default => {}
        }
        assert!(!ran.get());
        other.join().unwrap();
    });
}

#[test]
fn a_timeout_is_taken_when_nothing_came_in_time() {
    check(|| {
        let (_sender, receiver) = channel::<()>();
        let begun = std::time::Instant::now();
        let chosen = select! {
            recv(&receiver) -> _ => "received",
            timeout(MS * 2) => { "late" }
        };
        assert_eq!(chosen, "late");
        assert!(begun.elapsed() >= MS * 2);
    });
}

#[test]
fn a_timeout_of_zero_takes_what_is_there() {
    check(|| {
        let (sender, receiver) = channel();
        sender.send(1).unwrap();
        let chosen = select! {
            recv(&receiver) -> got => got.unwrap(),
            timeout(Duration::ZERO) => 0,
        };
        assert_eq!(chosen, 1);
    });
}

#[test]
fn a_limit_beyond_the_clock_is_none() {
    check(|| {
        let (sender, receiver) = channel();
        let sending = spawn(move || sender.send(1));
        let got = select! {
            recv(&receiver) -> got => got,
            timeout(Duration::MAX) => unreachable!(),
        };
        assert_eq!(got, Ok(1));
        sending.join().unwrap().unwrap();
    });
}

#[test]
fn an_outer_timeout_ends_it() {
    check(|| {
        let (_sender, receiver) = channel::<()>();
        let ended = timeout(MS, || {
            select! {
                recv(&receiver) -> _ => {}
            }
        });
        assert!(ended.is_err());
    });
}

// Each operation

#[test]
fn an_item_that_comes_later_is_received() {
    check(|| {
        let (sender, receiver) = channel();
        let task = sleeper();
        let sending = spawn(move || sender.send("item"));
        let got = select! {
            join(&task) => unreachable!(),
            recv(&receiver) -> item => item,
        };
        assert_eq!(got, Ok("item"));
        sending.join().unwrap().unwrap();
        task.kill();
    });
}

#[test]
fn senders_that_are_gone_are_told() {
    check(|| {
        let (sender, receiver) = channel::<()>();
        let dropping = spawn(move || drop(sender));
        let receive = || {
            select! {
                recv(&receiver) -> item => item,
            }
        };
        assert_eq!(receive(), Err(RecvError));
        assert_eq!(receive(), Err(RecvError));
        dropping.join().unwrap();
    });
}

#[test]
fn a_value_is_sent_once_there_is_room() {
    check(|| {
        let (sender, receiver) = sync_channel(1);
        sender.send(1).unwrap();
        let receiving = spawn(move || (receiver.recv(), receiver.recv()));
        let sent = select! {
            send(&sender, 2) -> sent => sent,
        };
        assert_eq!(sent, Ok(()));
        assert_eq!(receiving.join().unwrap(), (Ok(1), Ok(2)));
    });
}

#[test]
fn a_value_comes_back_when_the_receiver_goes() {
    check(|| {
        let (sender, receiver) = sync_channel(0);
        let dropping = spawn(move || drop(receiver));
        let sent = select! {
            send(&sender, 7) -> sent => sent,
        };
        assert_eq!(sent, Err(SendError(7)));
        dropping.join().unwrap();
    });
}

#[test]
fn a_value_from_a_place_stays_there_unless_it_is_sent() {
    check(|| {
        let (sender, receiver) = sync_channel(0);
        let mut place = Some(String::from("kept"));
        select! {
            send(&sender, from place) -> _ => unreachable!(),
            timeout(MS) => {}
        }
        assert_eq!(place.as_deref(), Some("kept"));

        let receiving = spawn(move || receiver.recv());
        yield_now();
        select! {
            send(&sender, from place) -> sent => sent.unwrap(),
        }
        assert_eq!(place, None);
        assert_eq!(receiving.join().unwrap().unwrap(), "kept");

        // An empty place is never chosen.
        select! {
            send(&sender, from place) -> _ => unreachable!(),
            timeout(MS) => {}
        }
    });
}

#[test]
fn a_permit_is_taken_and_given_back() {
    check(|| {
        let semaphore = Semaphore::new(1);
        let task = sleeper();
        select! {
            acquire(&semaphore) -> permit => {
                assert_eq!(semaphore.available(), 0);
                drop(permit);
            }
            join(&task) => unreachable!(),
        }
        assert_eq!(semaphore.available(), 1);
        task.kill();
    });
}

#[test]
fn a_permit_that_comes_later_is_taken() {
    check(|| {
        let semaphore = Rc::new(Semaphore::new(0));
        let giver = semaphore.clone();
        let giving = spawn(move || giver.release(1));
        select! {
            acquire(&semaphore) -> permit => permit.forget(),
        }
        assert_eq!(semaphore.available(), 0);
        giving.join().unwrap();
    });
}

#[test]
fn an_event_wakes() {
    check(|| {
        let event = Rc::new(Event::new());
        let setter = event.clone();
        let setting = spawn(move || {
            setter.set();
            setter.clear();
        });
        let (_sender, receiver) = channel::<()>();
        select! {
            wait(&event) => {}
            recv(&receiver) -> _ => unreachable!(),
        }
        assert!(!event.is_set());
        setting.join().unwrap();
    });
}

#[test]
fn a_socket_that_can_be_read_wakes_and_nothing_is_read() {
    check(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let task = sleeper();
        let writing = spawn(move || {
            yield_now();
            client.write_all(b"x").unwrap();
            client
        });
        select! {
            join(&task) => unreachable!(),
            readable(&server) => {}
        }
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        select! {
            readable(&server) => unreachable!("its only byte has been read"),
            join(&writing) => {}
        }
        select! {
            writable(&server) => {}
        }
        drop(writing.join());
        select! {
            readable(&server) => assert_eq!(server.read(&mut byte).unwrap(), 0, "the end"),
        }
        task.kill();
    });
}

#[test]
fn a_reader_behind_a_select_that_chose_something_else_is_woken() {
    check(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let server = Rc::new(server);
        let (sender, receiver) = channel();
        let chooser = {
            let server = server.clone();
            spawn(move || {
                select! {
                    recv(&receiver) -> got => got.is_ok(),
                    readable(&server) => false,
                }
            })
        };
        yield_now();
        let reader = spawn(move || (&*server).read(&mut [0]).unwrap());
        yield_now();
        // The item is handed over before the poller tells of the byte.
        client.write_all(b"x").unwrap();
        sender.send(()).unwrap();
        assert!(chooser.join().unwrap());
        assert_eq!(soon(|| reader.join().unwrap()), 1);
    });
}

// What is not chosen

#[test]
fn what_is_not_chosen_is_left_where_it_is() {
    check(|| {
        let (one, ones) = channel();
        let (two, twos) = channel();
        let semaphore = Semaphore::new(1);
        for round in 0..100 {
            one.send(round).unwrap();
            two.send(round).unwrap();
            let left = select! {
                recv(&ones) -> item => {
                    assert_eq!(item, Ok(round));
                    vec![twos.try_recv()]
                }
                recv(&twos) -> item => {
                    assert_eq!(item, Ok(round));
                    vec![ones.try_recv()]
                }
                acquire(&semaphore) -> _permit => {
                    assert_eq!(semaphore.available(), 0);
                    vec![ones.try_recv(), twos.try_recv()]
                }
            };
            assert!(left.iter().all(|item| *item == Ok(round)));
            assert!(ones.try_recv().is_err() && twos.try_recv().is_err());
            assert_eq!(semaphore.available(), 1);
        }
    });
}

#[test]
fn all_that_are_ready_are_chosen_about_as_often() {
    check(|| {
        let (_keep, never) = channel::<()>();
        let semaphores = [Semaphore::new(1), Semaphore::new(1), Semaphore::new(0), Semaphore::new(1)];
        let mut chosen = [0; 4];
        for _ in 0..3000 {
            select! {
                acquire(&semaphores[0]) -> _permit => chosen[0] += 1,
                recv(&never) -> _ => unreachable!(),
                acquire(&semaphores[1]) -> _permit => chosen[1] += 1,
                acquire(&semaphores[2]) -> _permit => chosen[2] += 1,
                acquire(&semaphores[3]) -> _permit => chosen[3] += 1,
            }
        }
        assert_eq!(chosen[2], 0);
        // 1000 each is expected, 26 the deviation: ten of them.
        assert!([0, 1, 3].iter().all(|&place| (740..=1260).contains(&chosen[place])), "{chosen:?}");
    });
}

#[test]
fn those_who_wait_behind_one_who_chose_something_else_are_served() {
    check(|| {
        let semaphore = Rc::new(Semaphore::new(0));
        let (sender, receiver) = channel();
        let chooser = {
            let semaphore = semaphore.clone();
            spawn(move || {
                select! {
                    recv(&receiver) -> got => got.is_ok(),
                    acquire(&semaphore) -> _permit => false,
                }
            })
        };
        yield_now();
        let behind = {
            let semaphore = semaphore.clone();
            spawn(move || semaphore.acquire().forget())
        };
        yield_now();
        sender.send(()).unwrap();
        // The chooser has won its item and still stands in the semaphore's line.
        semaphore.release(1);
        assert!(chooser.join().unwrap());
        behind.join().unwrap();
        assert_eq!(semaphore.available(), 0);
    });
}

#[test]
fn a_chooser_killed_after_it_was_handed_an_item_passes_it_on() {
    check(|| {
        let (sender, receiver) = channel();
        let receiver = Rc::new(receiver);
        let (_keep, other) = channel::<()>();
        let chooser = {
            let receiver = receiver.clone();
            spawn(move || {
                select! {
                    recv(&receiver) -> _ => {}
                    recv(&other) -> _ => {}
                }
            })
        };
        yield_now();
        sender.send(5).unwrap();
        chooser.kill();
        assert_eq!(receiver.try_recv(), Ok(5));
    });
}

#[test]
fn a_chooser_that_is_killed_leaves_no_trace() {
    check(|| {
        let (sender, receiver) = channel();
        let receiver = Rc::new(receiver);
        let semaphore = Rc::new(Semaphore::new(0));
        let task = sleeper();
        let chooser = {
            let (receiver, semaphore, task) = (receiver.clone(), semaphore.clone(), task.task());
            spawn(move || {
                select! {
                    recv(&receiver) -> _ => {}
                    acquire(&semaphore) -> _permit => {}
                    join(&task) => {}
                }
            })
        };
        yield_now();
        chooser.kill();
        sender.send(1).unwrap();
        semaphore.release(1);
        assert_eq!(receiver.try_recv(), Ok(1));
        assert!(semaphore.try_acquire().is_some());
        task.kill();
    });
}

// The macro

#[test]
fn an_arm_may_leave_the_loop_around_it() {
    check(|| {
        let (sender, receiver) = channel();
        for item in 0..3 {
            sender.send(item).unwrap();
        }
        drop(sender);
        let mut seen = vec![];
        loop {
            select! {
                recv(&receiver) -> item => match item {
                    Ok(1) => continue,
                    Ok(item) => seen.push(item),
                    Err(_) => break,
                },
            }
        }
        assert_eq!(seen, [0, 2]);
    });
}

#[test]
fn an_arm_may_use_what_was_waited_for_and_return_early() {
    fn next(receiver: greenroom::sync::mpsc::Receiver<i32>) -> Result<i32, RecvError> {
        let first = select! {
            recv(&receiver) -> item => item?,
            default => return Ok(-1),
        };
        drop(receiver);
        Ok(first)
    }
    check(|| {
        let (sender, receiver) = channel();
        assert_eq!(next(receiver), Ok(-1));
        assert!(sender.send(1).is_err());
        let (sender, receiver) = channel();
        sender.send(1).unwrap();
        assert_eq!(next(receiver), Ok(1));
    });
}

#[test]
fn arguments_are_evaluated_once_in_order_and_temporaries_live() {
    check(|| {
        let log = std::cell::RefCell::new(vec![]);
        let note = |what: &'static str| log.borrow_mut().push(what);
        let (sender, receiver) = sync_channel::<i32>(1);
        let task = sleeper();
        select! {
            join({ note("one"); &task }) => {}
            send((note("two"), &sender.clone()).1, { note("three"); 1 }) -> sent => sent.unwrap(),
        }
        assert_eq!(log.take(), ["one", "two", "three"]);
        assert_eq!(receiver.recv(), Ok(1));
        task.kill();
    });
}

#[test]
fn a_select_without_operations_is_its_limit() {
    check(|| {
        assert_eq!(select! { default => 1 }, 1);
        assert_eq!(select! { timeout(MS) => 2 }, 2);
    });
}

#[test]
fn too_many_operations_are_refused_with_a_sentence() {
    // A select of 65 arms would say so; here is what the limit is about.
    check(|| {
        let said = panic_of(|| {
            let (_sender, receiver) = channel::<()>();
            let mut arms: Vec<_> = (0..65).map(|_| greenroom::select::recv(&receiver)).collect();
            let mut all: Vec<&mut dyn greenroom::select::Operation> = vec![];
            for arm in &mut arms {
                all.push(arm);
            }
            greenroom::select::run(&mut all, greenroom::select::Limit::Now);
        });
        assert!(said.contains("64 operations"), "{said}");
    });
}

// Between threads

/// Two sides that both choose, on a rendezvous channel of each direction: every meeting is one item, sent once and received once.
#[test]
fn choosers_on_both_sides_of_a_rendezvous_meet() {
    const EACH: usize = 2000;
    fn side(to: SyncSender<usize>, from: Receiver<usize>) {
        let (mut sent, mut received) = (0, 0);
        while sent < EACH || received < EACH {
            let mut next = (sent < EACH).then_some(sent);
            select! {
                recv(&from) -> item => {
                    assert_eq!(item, Ok(received));
                    received += 1;
                }
                send(&to, from next) -> result => {
                    result.unwrap();
                    sent += 1;
                }
            }
        }
    }
    let (there, from_here) = sync_channel(0);
    let (back, from_there) = sync_channel(0);
    let native = thread::spawn(move || side(back, from_here));
    spawn(move || side(there, from_there)).join().unwrap();
    native.join().unwrap();
}

#[test]
fn choosers_of_two_hubs_and_a_native_thread_share_items_and_permits_exactly() {
    const ITEMS: usize = 3000;
    let semaphore = Arc::new(Semaphore::new(0));
    let taken = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(Event::new());
    let choose = |semaphore: Arc<Semaphore>, taken: Arc<AtomicUsize>, stop: Arc<Event>| {
        move || loop {
            select! {
                acquire(&semaphore) -> permit => {
                    permit.forget();
                    taken.fetch_add(1, Ordering::Relaxed);
                }
                wait(&stop) => return,
            }
        }
    };
    let threads: Vec<_> = (0..3)
        .map(|kind| {
            let body = choose(semaphore.clone(), taken.clone(), stop.clone());
            let again = (semaphore.clone(), taken.clone(), stop.clone());
            thread::spawn(move || match kind {
                0 => body(),
                _ => {
                    let tasks: Vec<_> = (0..20)
                        .map(|_| {
                            let (semaphore, taken, stop) = again.clone();
                            spawn(choose(semaphore, taken, stop))
                        })
                        .collect();
                    // Some are killed on the way: what they were handed goes to others.
                    for victim in tasks.iter().take(10) {
                        yield_now();
                        victim.kill();
                    }
                    joinall(tasks);
                }
            })
        })
        .collect();
    for _ in 0..ITEMS {
        semaphore.release(1);
    }
    while taken.load(Ordering::Relaxed) + semaphore.available() < ITEMS || semaphore.available() > 0 {
        thread::yield_now();
    }
    stop.set();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((taken.load(Ordering::Relaxed), semaphore.available()), (ITEMS, 0));
}

// wait and iwait

#[test]
fn sockets_can_be_waited_for_among_others() {
    check(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let (mut one, one_here) = pair();
        let (_two, two_here) = pair();
        let (event, semaphore) = (Event::new(), Semaphore::new(0));
        let writing = spawn(move || one.write_all(b"x").map(|()| one));
        let readiness = [greenroom::select::readable(&one_here), greenroom::select::readable(&two_here)];
        let objects: [&dyn Waitable; 5] = [&readiness[1], &readiness[0], &event, &semaphore, &writing];
        let ready = wait(objects, None, Some(2));
        let place = |object: &dyn Waitable| objects.iter().position(|other| std::ptr::addr_eq(*other, object)).unwrap();
        let mut places: Vec<_> = ready.into_iter().map(place).collect();
        places.sort_unstable();
        assert_eq!(places, [1, 4]);
        assert!(wait([&readiness[1]], Some(MS), None).is_empty());
    });
}

#[test]
fn a_listener_can_be_waited_for() {
    check(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ready = iwait([greenroom::select::readable(&listener)]);
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(ready.next().unwrap().socket().local_addr().unwrap(), other.peer_addr().unwrap());
        assert!(ready.next().is_none());
    });
}

// Queues

#[test]
fn queues_of_all_kinds_can_be_chosen() {
    check(|| {
        let (queue, stack, heap, meeting) =
            (Queue::bounded(1), LifoQueue::unbounded(), PriorityQueue::unbounded(), Rc::new(Channel::new()));
        let mut got = vec![];
        queue.put(1).unwrap();
        stack.put(2).unwrap();
        stack.put(3).unwrap();
        heap.put(5).unwrap();
        heap.put(4).unwrap();
        let putting = {
            let meeting = meeting.clone();
            spawn(move || select! { put(&meeting, 6) -> done => done })
        };
        yield_now();
        for _ in 0..6 {
            got.push(select! {
                get(&queue) -> item => item.unwrap(),
                get(&stack) -> item => item.unwrap(),
                get(&heap) -> item => item.unwrap(),
                get(&meeting) -> item => item.unwrap(),
            });
        }
        let place = |item: i32| got.iter().position(|other| *other == item).unwrap();
        assert!(place(3) < place(2) && place(4) < place(5));
        got.sort_unstable();
        assert_eq!(got, [1, 2, 3, 4, 5, 6]);
        putting.join().unwrap().unwrap();

        queue.shutdown();
        let mut place = Some(7);
        let refused = select! { put(&queue, from place) -> done => done };
        assert_eq!(refused, Err(PutError::ShutDown(7)));
        assert_eq!(select! { get(&queue) -> item => item }, Err(GetError::ShutDown));
    });
}

/// Items go through choosers of three threads, some of which are killed: each comes out once.
#[test]
fn items_that_choosers_pass_on_are_neither_lost_nor_doubled() {
    const ITEMS: usize = 2000;
    let (input, output) = (Arc::new(Queue::bounded(4)), Arc::new(Queue::unbounded()));
    let stop = Arc::new(Event::new());
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (input, output, stop) = (input.clone(), output.clone(), stop.clone());
            thread::spawn(move || {
                let chooser = || {
                    let (input, output, stop) = (input.clone(), output.clone(), stop.clone());
                    spawn(move || {
                        loop {
                            select! {
                                get(&input) -> item => output.put(item.unwrap()).unwrap(),
                                wait(&stop) => return,
                                timeout(MS) => {}
                            }
                        }
                    })
                };
                let mut choosers: Vec<_> = (0..10).map(|_| chooser()).collect();
                for round in 0..200 {
                    let last = choosers.len() - 1;
                    let victim = std::mem::replace(&mut choosers[round % last], chooser());
                    victim.kill_nowait();
                    yield_now();
                }
                joinall(choosers);
            })
        })
        .collect();
    for item in 0..ITEMS {
        select! {
            put(&input, item) -> done => done.unwrap(),
        }
    }
    let mut items: Vec<usize> = (0..ITEMS).map(|_| output.get().unwrap()).collect();
    stop.set();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    items.sort_unstable();
    assert!(items.iter().copied().eq(0..ITEMS));
    assert!(input.is_empty() && output.is_empty());
}

#[test]
fn a_comma_may_follow_a_block() {
    check(|| {
        let (sender, receiver) = channel();
        sender.send(1).unwrap();
        let event = Event::new();
        let chosen = select! {
            recv(&receiver) -> item => { item.unwrap() },
            wait(&event) => { 2 },
            timeout(EVER) => { 3 },
        };
        assert_eq!(chosen, 1);
        let chosen = select! {
            wait(&event) => { 2 },
            default => { 3 },
        };
        assert_eq!(chosen, 3);
    });
}
