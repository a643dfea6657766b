//! Patched symbols, seen from std: rules 11 and 15 to 21 for code that knows nothing of this crate.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use greenroom::monkey;

fn patch() {
    // SAFETY: tasks of these tests share only what is Send.
    unsafe { monkey::patch_all() };
}

#[test]
fn sleeps_overlap() {
    patch();
    let begun = Instant::now();
    let sleepers: Vec<_> = (0..100).map(|_| greenroom::spawn(|| thread::sleep(Duration::from_millis(20)))).collect();
    for result in greenroom::joinall(sleepers) {
        result.unwrap();
    }
    assert!(begun.elapsed() >= Duration::from_millis(20));
    assert!(begun.elapsed() < Duration::from_millis(100 * 20));
}

#[test]
fn two_tasks_of_a_thread_talk_by_std_sockets() {
    patch();
    let (mut here, mut there) = UnixStream::pair().unwrap();
    let echo = greenroom::spawn(move || {
        let mut buffer = [0; 1000];
        loop {
            match there.read(&mut buffer).unwrap() {
                0 => break,
                n => there.write_all(&buffer[..n]).unwrap(),
            }
        }
    });
    let client = greenroom::spawn(move || {
        for round in 0..1000_u32 {
            here.write_all(&round.to_le_bytes()).unwrap();
            let mut answer = [0; 4];
            here.read_exact(&mut answer).unwrap();
            assert_eq!(u32::from_le_bytes(answer), round);
        }
    });
    client.join().unwrap();
    echo.join().unwrap();
}

#[test]
fn rule_11_a_kill_and_a_timeout_are_an_error_in_a_patched_call() {
    patch();
    let (mut here, there) = UnixStream::pair().unwrap();
    let task = greenroom::spawn(move || {
        let mut buffer = [0; 1];
        let late =
            greenroom::timeout(Duration::from_millis(1), || here.read(&mut buffer).map_err(|e| e.raw_os_error()));
        assert!(late.is_err(), "{late:?}");
        let killed = here.read(&mut buffer).unwrap_err().raw_os_error();
        assert_eq!(killed, Some(libc_ecanceled()));
        killed
    });
    greenroom::sleep(Duration::from_millis(10));
    task.task().kill();
    assert_eq!(task.join().unwrap(), Some(libc_ecanceled()));
    drop(there);
}

fn libc_ecanceled() -> i32 {
    125
}
