//! Rule 16: waiters of each direction are served first come, first served; the directions do not hinder each other.

use crate::support::settle;
use crate::{byte, pair};
use greenroom::net::TcpStream;
use greenroom::{JoinHandle, spawn};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

/// Who was served, in order, and with what.
type Log = Rc<RefCell<Vec<(char, u8)>>>;

/// A task that takes one byte; it waits when this returns, unless there is a byte for it.
fn reader(name: char, stream: &Rc<TcpStream>, log: &Log) -> JoinHandle<()> {
    let (stream, log) = (stream.clone(), log.clone());
    let task = spawn(move || {
        let byte = byte(&stream);
        log.borrow_mut().push((name, byte));
    });
    settle();
    task
}

fn set_up() -> (Rc<TcpStream>, TcpStream, Log) {
    let (stream, peer) = pair();
    (Rc::new(stream), peer, Log::default())
}

#[test]
fn readers_are_served_in_order() {
    let (stream, mut peer, log) = set_up();
    let tasks = ['a', 'b', 'c', 'd'].map(|name| reader(name, &stream, &log));
    peer.write_all(&[0]).unwrap();
    settle();
    peer.write_all(&[1, 2]).unwrap();
    settle();
    peer.write_all(&[3]).unwrap();
    greenroom::joinall(tasks).into_iter().for_each(Result::unwrap);
    assert_eq!(*log.borrow(), [('a', 0), ('b', 1), ('c', 2), ('d', 3)]);
}

#[test]
fn a_newcomer_does_not_overtake() {
    let (stream, mut peer, log) = set_up();
    let mut tasks = vec![reader('a', &stream, &log), reader('b', &stream, &log)];
    peer.write_all(&[0, 1]).unwrap();
    // Runs before the hub has looked at the socket: there is data, and others wait for it.
    tasks.push(reader('c', &stream, &log));
    peer.write_all(&[2]).unwrap();
    greenroom::joinall(tasks).into_iter().for_each(Result::unwrap);
    assert_eq!(*log.borrow(), [('a', 0), ('b', 1), ('c', 2)]);
}

#[test]
fn one_who_was_woken_for_nothing_keeps_its_turn() {
    let (stream, mut peer, log) = set_up();
    let tasks = ['a', 'b', 'c'].map(|name| reader(name, &stream, &log));
    peer.write_all(&[0]).unwrap();
    // The byte is gone when the first one tries: taken past the queue.
    assert_eq!(socket2::SockRef::from(&*stream).recv(&mut [std::mem::MaybeUninit::uninit()]).unwrap(), 1);
    settle();
    assert!(log.borrow().is_empty());
    peer.write_all(&[1, 2, 3]).unwrap();
    greenroom::joinall(tasks).into_iter().for_each(Result::unwrap);
    assert_eq!(*log.borrow(), [('a', 1), ('b', 2), ('c', 3)]);
}

#[test]
fn a_killed_reader_leaves_the_queue() {
    let (stream, mut peer, log) = set_up();
    let tasks = ['a', 'b', 'c', 'd'].map(|name| reader(name, &stream, &log));
    tasks[1].kill();
    // The data is there when the kill comes: it is for the next one.
    peer.write_all(&[0, 1]).unwrap();
    tasks[0].kill();
    settle();
    assert_eq!(*log.borrow(), [('c', 0), ('d', 1)]);
    assert!(tasks.iter().all(JoinHandle::is_finished));
}

/// The kill comes between the wake-up and the turn: the byte has an owner then, and the next byte goes to the next one.
#[test]
fn a_reader_killed_after_its_wake_up_loses_nothing() {
    let (stream, mut peer, log) = set_up();
    let (other, mut other_peer) = pair();
    let tasks = Rc::new(['a', 'b'].map(|name| reader(name, &stream, &log)));
    let killer = spawn({
        let tasks = tasks.clone();
        move || {
            byte(&other);
            tasks[0].kill_nowait();
        }
    });
    settle();
    // One poll brings both, in this order.
    other_peer.write_all(&[0]).unwrap();
    peer.write_all(&[0, 1]).unwrap();
    killer.join().unwrap();
    settle();
    assert!(tasks.iter().all(JoinHandle::is_finished));
    let mut left = 2 - log.borrow().len();
    if left == 1 {
        assert_eq!(*log.borrow(), [('b', 0)]);
        assert_eq!(byte(&stream), 1);
        left -= 1;
    }
    assert_eq!(left, 0);
}

#[test]
fn a_reader_out_of_time_leaves_the_queue() {
    let (stream, mut peer, log) = set_up();
    let first = spawn({
        let stream = stream.clone();
        move || greenroom::timeout(Duration::from_millis(20), || byte(&stream)).unwrap_err()
    });
    settle();
    let tasks = ['b', 'c'].map(|name| reader(name, &stream, &log));
    first.join().unwrap();
    peer.write_all(&[0, 1]).unwrap();
    greenroom::joinall(tasks).into_iter().for_each(Result::unwrap);
    assert_eq!(*log.borrow(), [('b', 0), ('c', 1)]);
}

#[test]
fn the_socket_s_own_timeout_counts_in_the_queue_too() {
    let (stream, _peer, _) = set_up();
    let timeout = Duration::from_millis(50);
    stream.set_read_timeout(Some(timeout)).unwrap();
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let stream = stream.clone();
            let task = spawn(move || {
                let start = std::time::Instant::now();
                let error = (&*stream).read(&mut [0]).unwrap_err();
                (error.kind(), start.elapsed())
            });
            greenroom::sleep(Duration::from_millis(5));
            task
        })
        .collect();
    for task in tasks {
        let (kind, elapsed) = task.join().unwrap();
        assert_eq!(kind, std::io::ErrorKind::WouldBlock);
        assert!(elapsed >= timeout, "{elapsed:?}");
    }
}

#[test]
fn writers_are_served_in_order() {
    let (stream, mut peer) = pair();
    let stream = Rc::new(stream);
    stream.set_nonblocking(true).unwrap();
    while (&*stream).write(&[255; 1 << 16]).is_ok() {}
    stream.set_nonblocking(false).unwrap();
    const LENGTH: usize = 1000;
    let tasks: Vec<_> = (0..10)
        .map(|i| {
            let stream = stream.clone();
            let task = spawn(move || (&*stream).write(&[i; LENGTH]).unwrap());
            settle();
            task
        })
        .collect();
    tasks[3].kill();
    let reader = spawn(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        received
    });
    let written: Vec<_> = greenroom::joinall(tasks).into_iter().map(Result::ok).collect();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let received = reader.join().unwrap();
    let tail: Vec<u8> = received.into_iter().filter(|&byte| byte != 255).collect();
    let expected: Vec<u8> =
        (0..10).filter(|&i| i != 3).flat_map(|i| vec![i; written[usize::from(i)].unwrap()]).collect();
    assert!(written[3].is_none());
    assert_eq!(tail, expected);
}

/// A reader waits all the time, while others fill and drain the other direction of the same socket.
#[test]
fn reading_and_writing_at_once_is_normal() {
    const LENGTH: usize = 4 << 20;
    let (stream, peer) = pair();
    let (stream, peer) = (Rc::new(stream), Rc::new(peer));
    let waiting = spawn({
        let stream = stream.clone();
        move || byte(&stream)
    });
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let stream = stream.clone();
            spawn(move || (&*stream).write_all(&vec![7; LENGTH / 4]).unwrap())
        })
        .collect();
    let drain = spawn({
        let peer = peer.clone();
        move || {
            let mut buf = vec![0; LENGTH];
            (&*peer).read_exact(&mut buf).unwrap();
            assert!(buf.iter().all(|&byte| byte == 7));
            (&*peer).write_all(&[9]).unwrap();
        }
    });
    greenroom::joinall(writers).into_iter().for_each(Result::unwrap);
    drain.join().unwrap();
    assert_eq!(waiting.join().unwrap(), 9);
}

/// Many tasks share both ends: no byte is lost, none is seen twice.
#[test]
fn a_crowd_on_one_socket_loses_nothing() {
    let (stream, peer) = pair();
    let (stream, peer) = (Rc::new(stream), Rc::new(peer));
    const EACH: usize = 200;
    let writers: Vec<_> = (0..20)
        .map(|i| {
            let stream = stream.clone();
            spawn(move || (0..EACH).for_each(|_| (&*stream).write_all(&[i]).unwrap()))
        })
        .collect();
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let peer = peer.clone();
            spawn(move || (0..EACH).map(|_| byte(&peer)).collect::<Vec<_>>())
        })
        .collect();
    greenroom::joinall(writers).into_iter().for_each(Result::unwrap);
    let mut counts = [0; 20];
    for bytes in greenroom::joinall(readers) {
        bytes.unwrap().into_iter().for_each(|byte| counts[usize::from(byte)] += 1);
    }
    assert_eq!(counts, [EACH; 20]);
}
