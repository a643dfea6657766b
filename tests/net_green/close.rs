//! Rule 17: shutting down and closing under a waiter.

use crate::support::{alias, descriptors, disowned, in_child, settle};
use crate::{byte, pair};
use greenroom::net::{Shutdown, TcpStream};
use greenroom::spawn;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::rc::Rc;

fn read(stream: &TcpStream) -> io::Result<usize> {
    let mut stream = stream;
    stream.read(&mut [0])
}

/// Fills the stream's buffers, and then waits for room.
fn write_until_an_error(stream: &TcpStream) -> io::Error {
    let mut stream = stream;
    loop {
        if let Err(error) = stream.write(&[0; 1 << 16]) {
            return error;
        }
    }
}

#[test]
fn shutdown_of_reading_wakes_every_reader_with_the_end() {
    let (stream, _peer) = pair();
    let stream = Rc::new(stream);
    let readers = [(); 5].map(|()| {
        let stream = stream.clone();
        spawn(move || read(&stream).unwrap())
    });
    settle();
    stream.shutdown(Shutdown::Read).unwrap();
    assert!(greenroom::joinall(readers).into_iter().all(|read| read.unwrap() == 0));
    assert_eq!(read(&stream).unwrap(), 0);
    (&*stream).write_all(&[1]).unwrap();
}

#[test]
fn shutdown_of_both_wakes_both_directions() {
    let (stream, _peer) = pair();
    let stream = Rc::new(stream);
    let reader = spawn({
        let stream = stream.clone();
        move || read(&stream).unwrap()
    });
    let writer = spawn({
        let stream = stream.clone();
        move || write_until_an_error(&stream).kind()
    });
    settle();
    stream.shutdown(Shutdown::Both).unwrap();
    assert_eq!(reader.join().unwrap(), 0);
    assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
}

#[test]
fn closing_wakes_every_waiter_with_ebadf() {
    in_child("close::closing_wakes_every_waiter_with_ebadf", || {
        let (stream, _peer) = pair();
        let owner = alias(&stream);
        let stream = disowned(stream);
        let readers = [(); 3].map(|()| {
            let stream = stream.clone();
            spawn(move || read(&stream).unwrap_err().raw_os_error())
        });
        let writers = [(); 3].map(|()| {
            let stream = stream.clone();
            spawn(move || write_until_an_error(&stream).raw_os_error())
        });
        settle();
        drop(owner);
        for error in greenroom::joinall(readers.into_iter().chain(writers)) {
            assert_eq!(error.unwrap(), Some(libc::EBADF));
        }
    });
}

#[test]
fn closing_a_listener_wakes_who_accepts() {
    in_child("close::closing_a_listener_wakes_who_accepts", || {
        let listener = greenroom::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = listener.as_raw_fd();
        let listener = ManuallyDrop::new(listener);
        let acceptor = spawn(move || listener.accept().unwrap_err().raw_os_error());
        settle();
        // SAFETY: the first owner never closes it.
        drop(unsafe { <greenroom::net::TcpListener as std::os::fd::FromRawFd>::from_raw_fd(fd) });
        assert_eq!(acceptor.join().unwrap(), Some(libc::EBADF));
    });
}

/// How the old descriptor comes to its end.
#[derive(Clone, Copy, Debug)]
enum Closing {
    Here,
    OnAnotherThread,
}

/// The number of a closed descriptor is in use again before its waiters run: they must neither touch the new socket, nor
/// be woken by it, nor take its registration away.
fn reuse(closing: Closing, woken_already: bool) {
    for round in 0..100 {
        let (stream, mut peer) = pair();
        let owner = alias(&stream);
        let fd = stream.as_raw_fd();
        let stream = disowned(stream);
        let old: Vec<_> = (0..3)
            .map(|_| {
                let stream = stream.clone();
                spawn(move || read(&stream).map_err(|error| error.raw_os_error()))
            })
            .collect();
        settle();

        let body = move || {
            match closing {
                Closing::Here => drop(owner),
                Closing::OnAnotherThread => std::thread::spawn(|| drop(owner)).join().unwrap(),
            }
            // The lowest free numbers: the old one's is among the two.
            let (one, other) = pair_now();
            let (new, mut new_peer) = if one.as_raw_fd() == fd { (one, other) } else { (other, one) };
            assert_eq!(new.as_raw_fd(), fd);
            let new = Rc::new(new);
            let reader = spawn({
                let new = new.clone();
                move || (byte(&new), byte(&new))
            });
            // Registers the new one at once, ahead of whatever the old one's end still sets off.
            greenroom::yield_now();
            new_peer.write_all(&[1]).unwrap();
            settle();
            new_peer.write_all(&[2]).unwrap();
            assert_eq!(reader.join().unwrap(), (1, 2), "round {round}");
        };
        if woken_already {
            // One poll wakes this task and, after it, the first of the old readers.
            let (trigger, mut trigger_peer) = pair();
            let closer = spawn(move || {
                byte(&trigger);
                body();
                trigger
            });
            settle();
            trigger_peer.write_all(&[0]).unwrap();
            peer.write_all(&[77]).unwrap();
            drop(closer.join().unwrap());
        } else {
            body();
        }
        for task in old {
            assert_eq!(task.join().unwrap(), Err(Some(libc::EBADF)), "round {round}");
        }
    }
}

/// Two connected sockets without a switch in between.
fn pair_now() -> (TcpStream, TcpStream) {
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    // A Unix stream in TCP clothes: reading and writing is all that is done with it. By way of descriptors, as if the
    // sockets came from outside.
    (std::os::fd::OwnedFd::from(one).into(), std::os::fd::OwnedFd::from(other).into())
}

#[test]
fn a_number_that_is_reused_at_once_is_not_confused() {
    in_child("close::a_number_that_is_reused_at_once_is_not_confused", || {
        let before = descriptors();
        reuse(Closing::Here, false);
        settle();
        assert_eq!(descriptors().0, before.0 + 3, "the hub's own");
    });
}

#[test]
fn a_number_reused_after_a_close_elsewhere_is_not_confused() {
    in_child("close::a_number_reused_after_a_close_elsewhere_is_not_confused", || {
        reuse(Closing::OnAnotherThread, false);
    });
}

#[test]
fn a_number_reused_when_its_waiter_was_woken_is_not_confused() {
    in_child("close::a_number_reused_when_its_waiter_was_woken_is_not_confused", || {
        reuse(Closing::Here, true);
    });
}

#[test]
fn two_owners_of_one_descriptor_work() {
    let (stream, mut peer) = pair();
    let other = Rc::new(ManuallyDrop::new(alias(&stream)));
    let stream = Rc::new(stream);
    let log = Rc::new(std::cell::RefCell::new(Vec::new()));
    let mut tasks = Vec::new();
    for name in ['a', 'b'] {
        let (stream, log) = (stream.clone(), log.clone());
        tasks.push(spawn(move || {
            let byte = byte(&stream);
            log.borrow_mut().push((name, byte));
        }));
        settle();
    }
    for name in ['c', 'd'] {
        let (other, log) = (other.clone(), log.clone());
        tasks.push(spawn(move || {
            let byte = byte(&other);
            log.borrow_mut().push((name, byte));
        }));
        settle();
    }
    (&**other).write_all(&[42]).unwrap();
    assert_eq!(byte(&peer), 42);
    for i in 0..4 {
        peer.write_all(&[i]).unwrap();
        settle();
    }
    greenroom::joinall(tasks).into_iter().for_each(Result::unwrap);
    assert_eq!(*log.borrow(), [('a', 0), ('b', 1), ('c', 2), ('d', 3)]);
}
