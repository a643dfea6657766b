//! Signals at any time: `EINTR` never surfaces where std hides it, and nothing hangs or ends early.

use crate::support::{in_child, listen};
use crate::{byte, local, pair};
use greenroom::net::{TcpStream, UdpSocket, UnixDatagram, lookup_host};
use greenroom::spawn;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Has signals rain on this thread, whose handler does not restart what it interrupts, while `f` runs.
fn in_a_storm(f: impl FnOnce()) {
    // SAFETY: all zeroes is a sigaction with an empty mask and no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count as *const () as usize;
    // SAFETY: the action is alive for the call, and its handler only counts.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) }, 0);
    // SAFETY: no precondition.
    let target = unsafe { libc::pthread_self() };
    let stop = Arc::new(AtomicBool::new(false));
    let storm = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: the target waits for this thread before it ends.
                unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_micros(20));
            }
        }
    });
    let before = SIGNALS.load(Ordering::Relaxed);
    f();
    stop.store(true, Ordering::Relaxed);
    storm.join().unwrap();
    assert!(SIGNALS.load(Ordering::Relaxed) > before);
}

#[test]
fn signals_disturb_nothing() {
    in_child("signals::signals_disturb_nothing", || {
        in_a_storm(|| {
            for round in 0..10 {
                let (listener, address) = listen(local());
                let server = spawn(move || {
                    for _ in 0..20 {
                        let (mut stream, _) = listener.accept().unwrap();
                        drop(spawn(move || {
                            let mut buf = [0; 64];
                            loop {
                                match stream.read(&mut buf).unwrap() {
                                    0 => break,
                                    n => stream.write_all(&buf[..n]).unwrap(),
                                }
                            }
                        }));
                    }
                });
                let clients = (0..20).map(|i| {
                    spawn(move || {
                        let mut stream = TcpStream::connect(address).unwrap();
                        for _ in 0..20 {
                            // `write`, `read` and `peek` themselves: `write_all` would hide an `Interrupted`.
                            assert_eq!(stream.write(&[i]).unwrap(), 1);
                            assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
                            let mut buf = [0];
                            assert_eq!(stream.read(&mut buf).unwrap(), 1);
                            assert_eq!(buf, [i]);
                            let nap = Duration::from_micros(u64::from(i) * 50);
                            let start = Instant::now();
                            greenroom::sleep(nap);
                            assert!(start.elapsed() >= nap);
                        }
                    })
                });
                greenroom::joinall(clients).into_iter().for_each(Result::unwrap);
                server.join().unwrap();
                lookup_host(&format!("localhost:{}", round + 1)).unwrap();
            }
        });
    });
}

#[test]
fn waits_last_as_long_as_they_should() {
    in_child("signals::waits_last_as_long_as_they_should", || {
        in_a_storm(|| {
            let timeout = Duration::from_millis(100);
            let (mut stream, mut peer) = pair();
            stream.set_read_timeout(Some(timeout)).unwrap();
            let start = Instant::now();
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            assert!(start.elapsed() >= timeout);

            stream.set_read_timeout(None).unwrap();
            let late = spawn(move || {
                greenroom::sleep(timeout);
                peer.write_all(&[1]).unwrap();
            });
            assert_eq!(byte(&stream), 1);
            late.join().unwrap();

            let socket = UdpSocket::bind(local()).unwrap();
            socket.set_read_timeout(Some(timeout)).unwrap();
            assert_eq!(socket.recv_from(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

            let (_listener, address, _held) = crate::support::silent();
            let error = TcpStream::connect_timeout(&address, timeout).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);

            let (one, other) = UnixDatagram::pair().unwrap();
            let sender = spawn(move || (0..2000_u32).for_each(|i| assert_eq!(one.send(&i.to_ne_bytes()).unwrap(), 4)));
            for i in 0..2000_u32 {
                let mut buf = [0; 4];
                other.recv(&mut buf).unwrap();
                assert_eq!(u32::from_ne_bytes(buf), i);
            }
            sender.join().unwrap();
        });
    });
}
