//! A stream that gave less than was asked is taken to be drained. Here is what could prove that wrong.

use crate::support::settle;
use crate::{byte, pair};
use greenroom::net::{Shutdown, TcpStream, UnixStream};
use greenroom::spawn;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::rc::Rc;
use std::time::Duration;

/// Closes with a reset instead of an end.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// One task has waited on the stream, so that the poller tells of it from now on.
fn warmed_up() -> (TcpStream, TcpStream) {
    let (mut stream, peer) = pair();
    let task = spawn(move || {
        stream.read_exact(&mut [0]).unwrap();
        stream
    });
    settle();
    (&peer).write_all(&[0]).unwrap();
    (task.join().unwrap(), peer)
}

#[test]
fn data_and_end_that_come_together_are_both_seen() {
    let (mut stream, mut peer) = warmed_up();
    let reader = spawn(move || {
        let mut buf = [0; 100];
        (stream.read(&mut buf).unwrap(), stream.read(&mut buf).unwrap(), stream.read(&mut buf).unwrap())
    });
    settle();
    peer.write_all(b"abc").unwrap();
    drop(peer);
    assert_eq!(reader.join().unwrap(), (3, 0, 0));
}

#[test]
fn an_end_between_a_short_read_and_the_next_is_seen() {
    let (mut stream, mut peer) = warmed_up();
    let mut buf = [0; 100];
    peer.write_all(b"abc").unwrap();
    settle();
    assert_eq!(stream.read(&mut buf).unwrap(), 3);
    drop(peer);
    assert_eq!(stream.read(&mut buf).unwrap(), 0);
    assert_eq!(stream.read(&mut buf).unwrap(), 0);
}

#[test]
fn an_end_that_came_before_the_short_read_is_seen() {
    let (mut stream, mut peer) = warmed_up();
    let mut buf = [0; 100];
    peer.write_all(b"abc").unwrap();
    drop(peer);
    // The hub has heard of the data and the end before the first read.
    settle();
    assert_eq!(stream.read(&mut buf).unwrap(), 3);
    assert_eq!(stream.read(&mut buf).unwrap(), 0);
}

#[test]
fn a_reset_after_a_short_read_is_seen() {
    let (mut stream, mut peer) = warmed_up();
    let mut buf = [0; 100];
    peer.write_all(b"abc").unwrap();
    assert_eq!(stream.read(&mut buf).unwrap(), 3);
    reset(peer);
    assert_eq!(stream.read(&mut buf).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(stream.read(&mut buf).unwrap(), 0);
}

#[test]
fn a_reset_wakes_readers_and_writers() {
    let (stream, peer) = warmed_up();
    let stream = Rc::new(stream);
    let readers = [(); 2].map(|()| {
        let stream = stream.clone();
        spawn(move || (&*stream).read(&mut [0]).map_err(|error| error.kind()))
    });
    let writer = spawn({
        let stream = stream.clone();
        move || {
            loop {
                if let Err(error) = (&*stream).write(&[0; 1 << 16]) {
                    return error.kind();
                }
            }
        }
    });
    settle();
    reset(peer);
    // The pending error goes to the first who asks; the others find the connection gone.
    let writer = writer.join().unwrap();
    let readers: Vec<_> = greenroom::joinall(readers).into_iter().map(Result::unwrap).collect();
    assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&writer), "{writer:?}");
    assert!(readers.iter().all(|read| [Ok(0), Err(ErrorKind::ConnectionReset)].contains(read)), "{readers:?}");
}

#[test]
fn after_a_half_close_the_other_half_works() {
    let (mut stream, mut peer) = warmed_up();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let reader = spawn(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        received.len()
    });
    // More than the buffers hold: the writer has to wait, on a socket whose other direction has ended.
    stream.write_all(&vec![1; 8 << 20]).unwrap();
    drop(stream);
    assert_eq!(reader.join().unwrap(), 8 << 20);
}

#[test]
fn single_bytes_dribble_in() {
    let (mut stream, mut peer) = pair();
    peer.set_nodelay(true).unwrap();
    const LENGTH: usize = 300;
    let writer = spawn(move || {
        for i in 0..LENGTH {
            peer.write_all(&[i as u8]).unwrap();
            if i % 7 == 0 { settle() } else { greenroom::yield_now() }
        }
    });
    let mut received = Vec::new();
    let mut buf = [0; 64];
    while received.len() < LENGTH {
        let n = stream.read(&mut buf).unwrap();
        assert!(n > 0);
        received.extend_from_slice(&buf[..n]);
    }
    assert!(received.iter().enumerate().all(|(i, &byte)| byte == i as u8));
    writer.join().unwrap();
    assert_eq!(stream.read(&mut buf).unwrap(), 0);
}

#[test]
fn urgent_data_is_followed_by_the_rest() {
    let (mut stream, peer) = warmed_up();
    for round in 0..20 {
        (&peer).write_all(b"ab").unwrap();
        socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap();
        (&peer).write_all(b"cd").unwrap();
        if round % 2 == 0 {
            settle();
        }
        let mut received = Vec::new();
        while received.len() < 4 {
            let mut buf = [0; 16];
            let n = stream.read(&mut buf).unwrap();
            received.extend_from_slice(&buf[..n]);
        }
        assert_eq!(received, b"abcd");
    }
}

#[test]
fn a_peek_does_not_drain() {
    let (mut stream, mut peer) = warmed_up();
    let peeker = spawn(move || {
        let mut buf = [0; 100];
        let peeked = stream.peek(&mut buf).unwrap();
        (peeked, stream.peek(&mut buf).unwrap(), stream.read(&mut buf[..2]).unwrap(), stream.read(&mut buf).unwrap())
    });
    settle();
    peer.write_all(b"abcde").unwrap();
    assert_eq!(peeker.join().unwrap(), (5, 5, 2, 3));
}

#[test]
fn who_peeks_and_who_reads_are_both_served() {
    let (stream, mut peer) = warmed_up();
    let stream = Rc::new(stream);
    let peekers = [(); 3].map(|()| {
        let stream = stream.clone();
        spawn(move || stream.peek(&mut [0; 10]).unwrap())
    });
    settle();
    let reader = spawn({
        let stream = stream.clone();
        move || byte(&stream)
    });
    settle();
    peer.write_all(&[3]).unwrap();
    assert!(greenroom::joinall(peekers).into_iter().all(|peeked| peeked.unwrap() == 1));
    assert_eq!(reader.join().unwrap(), 3);
}

#[test]
fn vectored_transfers_larger_than_the_buffers_are_whole() {
    const LENGTH: usize = 5 << 20;
    let (mut stream, peer) = pair();
    let data: Vec<u8> = (0..LENGTH).map(|i| (i / 251) as u8).collect();
    let expected = data.clone();
    let writer = spawn(move || {
        let mut at = 0;
        while at < LENGTH {
            let bufs: Vec<_> = data[at..].chunks(70_001).map(IoSlice::new).collect();
            at += (&peer).write_vectored(&bufs).unwrap();
        }
    });
    let mut received = Vec::new();
    loop {
        let mut storage = vec![0; 300_000];
        let mut bufs: Vec<_> = storage.chunks_mut(7001).map(IoSliceMut::new).collect();
        let n = stream.read_vectored(&mut bufs).unwrap();
        if n == 0 {
            break;
        }
        received.extend_from_slice(&storage[..n]);
    }
    assert!(received == expected);
    writer.join().unwrap();
}

#[test]
fn a_slow_reader_holds_the_writer_but_loses_nothing() {
    let (mut stream, mut peer) = pair();
    const LENGTH: usize = 6 << 20;
    let writer = spawn(move || peer.write_all(&vec![5; LENGTH]).unwrap());
    let mut received = 0;
    let mut buf = vec![0; 50_000];
    loop {
        greenroom::sleep(Duration::from_micros(200));
        match stream.read(&mut buf).unwrap() {
            0 => break,
            n => received += n,
        }
    }
    assert_eq!(received, LENGTH);
    writer.join().unwrap();
}

#[test]
fn empty_transfers_do_not_wait() {
    let (mut stream, mut peer) = warmed_up();
    assert_eq!(peer.write(&[]).unwrap(), 0);
    // As std's, which wait neither: nothing is there.
    assert_eq!(stream.read(&mut []).unwrap(), 0);
    assert_eq!(stream.read_vectored(&mut [IoSliceMut::new(&mut [])]).unwrap(), 0);
    assert_eq!(stream.peek(&mut []).unwrap(), 0);
}

/// Many connections with random sizes, ends and resets: every reader sees all bytes and then the end.
#[test]
fn random_writers_are_read_to_the_end() {
    fastrand::seed(7);
    let tasks: Vec<_> = (0..200)
        .map(|i| {
            let (mut one, mut other): (Box<dyn Write>, Box<dyn Read>) = if i % 2 == 0 {
                let (one, other) = pair();
                (Box::new(one), Box::new(other))
            } else {
                let (one, other) = UnixStream::pair().unwrap();
                (Box::new(one), Box::new(other))
            };
            let chunks: Vec<usize> = (0..fastrand::usize(..20)).map(|_| fastrand::usize(1..2000)).collect();
            let total: usize = chunks.iter().sum();
            drop(spawn(move || {
                for chunk in chunks {
                    one.write_all(&vec![1; chunk]).unwrap();
                    match fastrand::u8(..4) {
                        0 => settle(),
                        1 => greenroom::yield_now(),
                        2 => greenroom::sleep(Duration::from_micros(fastrand::u64(..300))),
                        _ => {}
                    }
                }
            }));
            let mut buf = vec![0; fastrand::usize(1..3000)];
            spawn(move || {
                let mut received = 0;
                loop {
                    match other.read(&mut buf).unwrap() {
                        0 => break received == total,
                        n => received += n,
                    }
                }
            })
        })
        .collect();
    assert!(greenroom::joinall(tasks).into_iter().all(Result::unwrap));
}
