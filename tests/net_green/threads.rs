//! Rule 18: sockets move between threads and are shared by them; each thread has its hub.

use crate::support::{alias, disowned, listen, settle};
use crate::{byte, local, pair};
use greenroom::net::TcpStream;
use greenroom::spawn;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::thread;

/// Waits for one byte in a task, so that the stream is registered with this thread's hub.
fn use_here(stream: TcpStream, peer: &TcpStream) -> TcpStream {
    let task = spawn(move || {
        assert_eq!(byte(&stream), 8);
        stream
    });
    settle();
    let mut peer = peer;
    peer.write_all(&[8]).unwrap();
    task.join().unwrap()
}

#[test]
fn a_stream_works_wherever_it_goes() {
    let (stream, peer) = pair();
    let mut stream = use_here(stream, &peer);
    let peer = Arc::new(peer);
    for _ in 0..20 {
        let other = peer.clone();
        let moved = thread::spawn(move || use_here(stream, &other));
        stream = use_here(moved.join().unwrap(), &peer);
    }
    // Closed elsewhere, while registered here.
    thread::spawn(move || drop(stream)).join().unwrap();
    assert_eq!((&*peer).read(&mut [0]).unwrap(), 0);
    // Whoever gets the number next is served.
    for _ in 0..5 {
        let (stream, peer) = pair();
        use_here(stream, &peer);
    }
}

#[test]
fn a_waiter_here_learns_of_a_close_elsewhere() {
    crate::support::in_child("threads::a_waiter_here_learns_of_a_close_elsewhere", || {
        for _ in 0..50 {
            let (stream, _peer) = pair();
            let owner = alias(&stream);
            let stream = disowned(stream);
            let readers = [(); 3].map(|()| {
                let stream = stream.clone();
                spawn(move || (&**stream).read(&mut [0]).unwrap_err().raw_os_error())
            });
            settle();
            let closer = thread::spawn(move || drop(owner));
            for error in greenroom::joinall(readers) {
                assert_eq!(error.unwrap(), Some(libc::EBADF));
            }
            closer.join().unwrap();
        }
    });
}

#[test]
fn waiters_of_several_hubs_learn_of_a_close() {
    crate::support::in_child("threads::waiters_of_several_hubs_learn_of_a_close", || {
        for _ in 0..30 {
            let (stream, _peer) = pair();
            let owner = alias(&stream);
            let stream = Arc::new(ManuallyDrop::new(stream));
            let (started, starts) = std::sync::mpsc::channel();
            let threads = [(); 3].map(|()| {
                let (stream, started) = (stream.clone(), started.clone());
                thread::spawn(move || {
                    let task = spawn(move || (&**stream).read(&mut [0]).unwrap_err().raw_os_error());
                    settle();
                    started.send(()).unwrap();
                    task.join().unwrap()
                })
            });
            (0..3).for_each(|_| starts.recv().unwrap());
            drop(owner);
            for thread in threads {
                assert_eq!(thread.join().unwrap(), Some(libc::EBADF));
            }
        }
    });
}

#[test]
fn shutdown_elsewhere_wakes_readers_of_every_hub() {
    let (stream, _peer) = pair();
    let stream = Arc::new(stream);
    let threads = [(); 3].map(|()| {
        let stream = stream.clone();
        thread::spawn(move || {
            let tasks = [(); 3].map(|()| {
                let stream = stream.clone();
                spawn(move || (&*stream).read(&mut [0]).unwrap())
            });
            assert!(greenroom::joinall(tasks).into_iter().all(|read| read.unwrap() == 0));
        })
    });
    thread::sleep(std::time::Duration::from_millis(20));
    stream.shutdown(std::net::Shutdown::Read).unwrap();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn several_hubs_accept_from_one_listener() {
    const HUBS: usize = 4;
    const CONNECTIONS: usize = 200;
    let (listener, address) = listen(local());
    let listener = Arc::new(listener);
    let (done, dones) = std::sync::mpsc::channel();
    let acceptors: Vec<_> = (0..HUBS)
        .map(|_| {
            let (listener, done) = (listener.clone(), done.clone());
            thread::spawn(move || {
                let acceptors = [(); 2].map(|()| {
                    let (listener, done) = (listener.clone(), done.clone());
                    spawn(move || {
                        while let Ok((mut stream, _)) = listener.accept() {
                            let done = done.clone();
                            drop(spawn(move || {
                                let mut buf = [0];
                                stream.read_exact(&mut buf).unwrap();
                                stream.write_all(&buf).unwrap();
                                done.send(buf[0]).unwrap();
                            }));
                        }
                    })
                });
                greenroom::joinall(acceptors).into_iter().for_each(Result::unwrap);
            })
        })
        .collect();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|i| {
            spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(&[i as u8]).unwrap();
                assert_eq!(byte(&stream), i as u8);
            })
        })
        .collect();
    greenroom::joinall(clients).into_iter().for_each(Result::unwrap);
    assert_eq!(dones.iter().take(CONNECTIONS).count(), CONNECTIONS);
    // Ends every acceptor: they are waiting in `accept`.
    // SAFETY: shutting a listener down touches no memory.
    unsafe { libc::shutdown(std::os::fd::AsRawFd::as_raw_fd(&*listener), libc::SHUT_RDWR) };
    for acceptor in acceptors {
        acceptor.join().unwrap();
    }
}

#[test]
fn clones_are_read_here_and_written_there() {
    const EACH: usize = 500;
    let (stream, peer) = pair();
    let echo = thread::spawn(move || {
        let mut peer = peer;
        let mut total = 0;
        let mut buf = [0; 1000];
        loop {
            match peer.read(&mut buf).unwrap() {
                0 => break total,
                n => {
                    peer.write_all(&buf[..n]).unwrap();
                    total += n;
                }
            }
        }
    });
    let clone = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        let clone = std::rc::Rc::new(clone);
        let writers: Vec<_> = (0..5)
            .map(|i| {
                let clone = clone.clone();
                spawn(move || {
                    for _ in 0..EACH {
                        (&*clone).write_all(&[i]).unwrap();
                        greenroom::yield_now();
                    }
                })
            })
            .collect();
        greenroom::joinall(writers).into_iter().for_each(Result::unwrap);
    });
    let stream = std::rc::Rc::new(stream);
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let stream = stream.clone();
            spawn(move || (0..EACH).map(|_| byte(&stream)).collect::<Vec<_>>())
        })
        .collect();
    let mut counts = [0; 5];
    for bytes in greenroom::joinall(readers) {
        bytes.unwrap().into_iter().for_each(|byte| counts[usize::from(byte)] += 1);
    }
    assert_eq!(counts, [EACH; 5]);
    writer.join().unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(echo.join().unwrap(), 5 * EACH);
}
