//! std alone: sockets, pipes, processes, files, names and time.

#![allow(missing_docs, reason = "a test binary")]

use greenroom_patched::{MS, check, child, go, is_child, overlap};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

const MANY: usize = 200;

/// No server answers before all of them have read.
#[test]
fn tcp_between_tasks_of_one_thread() {
    check(
        || (),
        |()| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let asked = Arc::new(Barrier::new(MANY));
            let (answers, stats) = overlap(2 * MANY, move |i| {
                if i < MANY {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut question = String::new();
                    stream.read_to_string(&mut question).unwrap();
                    asked.wait();
                    write!(stream, "{question} answered").unwrap();
                    return None;
                }
                let mut stream = TcpStream::connect(address).unwrap();
                write!(stream, "number {i}").unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                Some(answer)
            });
            let wanted = |i| (i >= MANY).then(|| format!("number {i} answered"));
            assert!(answers.iter().enumerate().all(|(i, answer)| *answer == wanted(i)));
            stats.on_one_thread(0);
        },
    );
}

/// More than the buffers of the system hold, in both directions at once, through clones of one socket.
#[test]
fn a_stream_is_read_and_written_at_once() {
    const SIZE: usize = 4 << 20;
    check(
        || (),
        |()| {
            let byte = |pair: usize, n: usize| (n / 1000 + pair) as u8;
            let (_, stats) = overlap(10, move |pair| {
                let (here, there) = UnixStream::pair().unwrap();
                let copies: Vec<_> = [here, there]
                    .into_iter()
                    .flat_map(|stream| {
                        let (mut reader, mut writer) = (stream.try_clone().unwrap(), stream);
                        let reads = go(move || {
                            let mut all = Vec::new();
                            reader.read_to_end(&mut all).unwrap();
                            assert!(all.len() == SIZE && all.iter().enumerate().all(|(n, got)| *got == byte(pair, n)));
                        });
                        let writes = go(move || {
                            let all: Vec<u8> = (0..SIZE).map(|n| byte(pair, n)).collect();
                            writer.write_all(&all).unwrap();
                            writer.shutdown(std::net::Shutdown::Write).unwrap();
                        });
                        [reads, writes]
                    })
                    .collect();
                copies.into_iter().for_each(|copy| copy.join());
            });
            stats.on_one_thread(0);
        },
    );
}

#[test]
fn datagrams_between_tasks_of_one_thread() {
    check(
        || (),
        |()| {
            let asked = Arc::new(Barrier::new(MANY));
            let (_, stats) = overlap(MANY, move |i| {
                let server = UdpSocket::bind("127.0.0.1:0").unwrap();
                let address = server.local_addr().unwrap();
                let asked = asked.clone();
                let serving = go(move || {
                    let mut buffer = [0; 100];
                    let (count, from) = server.recv_from(&mut buffer).unwrap();
                    asked.wait();
                    server.send_to(&buffer[..count], from).unwrap();
                });
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.connect(address).unwrap();
                client.send(format!("number {i}").as_bytes()).unwrap();
                let mut buffer = [0; 100];
                let count = client.recv(&mut buffer).unwrap();
                assert_eq!(buffer[..count], *format!("number {i}").as_bytes());
                serving.join();
            });
            stats.on_one_thread(0);

            let (here, there) = UnixDatagram::pair().unwrap();
            let echo = go(move || {
                let mut buffer = [0; 100];
                let count = there.recv(&mut buffer).unwrap();
                there.send(&buffer[..count]).unwrap();
            });
            let mut buffer = [0; 100];
            here.send(b"hello").unwrap();
            assert_eq!(go(move || here.recv(&mut buffer).unwrap()).join(), 5);
            echo.join();
        },
    );
}

#[test]
fn timeouts_of_sockets_are_kept_at_once() {
    check(
        || (),
        |()| {
            let (waited, stats) = overlap(MANY, |i| {
                let (mut here, _there) = UnixStream::pair().unwrap();
                here.set_read_timeout(Some(200 * MS)).unwrap();
                here.set_write_timeout(Some(200 * MS)).unwrap();
                let begun = Instant::now();
                let error = match i % 2 {
                    0 => here.read(&mut [0; 10]).unwrap_err(),
                    _ => here.write_all(&[0; 1 << 20]).unwrap_err(),
                };
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                begun.elapsed()
            });
            // The kernel's own socket timeouts count in ticks, and may end one early.
            assert!(waited.iter().all(|waited| *waited >= 190 * MS), "{waited:?}");
            assert!(stats.on_one_thread(0).wall < MANY as u32 * 200 * MS / 4, "{stats:?}");
        },
    );
}

#[test]
fn a_socket_that_the_program_made_non_blocking_stays_so() {
    check(
        || (),
        |()| {
            go(|| {
                let (mut here, mut there) = UnixStream::pair().unwrap();
                here.set_nonblocking(true).unwrap();
                assert_eq!(here.read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
                here.set_nonblocking(false).unwrap();
                let writing = go(move || there.write_all(b"hello").unwrap());
                let mut text = String::new();
                here.read_to_string(&mut text).unwrap();
                assert_eq!(text, "hello");
                writing.join();
                let refused = TcpStream::connect_timeout(&"127.0.0.1:1".parse().unwrap(), 1000 * MS).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            })
            .join();
        },
    );
}

#[test]
fn sleepers_overlap() {
    check(
        || (),
        |()| {
            let (waited, stats) = overlap(1000, |_| {
                let begun = Instant::now();
                thread::sleep(100 * MS);
                begun.elapsed()
            });
            assert!(waited.iter().all(|waited| *waited >= 100 * MS));
            assert!(stats.on_one_thread(0).wall < 1000 * 100 * MS / 50 + stats.queued, "{stats:?}");
        },
    );
}

#[test]
fn pipes_between_tasks_of_one_thread() {
    check(
        || (),
        |()| {
            let all = Arc::new(Barrier::new(MANY));
            let (_, stats) = overlap(MANY, move |i| {
                let (mut reader, mut writer) = std::io::pipe().unwrap();
                let all = all.clone();
                let writing = go(move || {
                    all.wait();
                    writer.write_all(&vec![i as u8; 100_000]).unwrap();
                });
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes, vec![i as u8; 100_000]);
                writing.join();
            });
            stats.on_one_thread(0);
        },
    );
}

/// Each child waits until all of them are there.
#[test]
fn outputs_of_children_overlap() {
    const CHILDREN: usize = 20;
    check(
        || (),
        |()| {
            let directory = std::env::temp_dir().join(format!("greenroom-children-{}", std::process::id()));
            std::fs::create_dir(&directory).unwrap();
            let place = directory.clone();
            let (lines, stats) = overlap(CHILDREN, move |i| {
                let script =
                    format!("touch {i}; while [ $(ls | wc -l) -lt {CHILDREN} ]; do sleep 0.02; done; echo number {i}");
                let output = Command::new("sh").args(["-c", &script]).current_dir(&place).output().unwrap();
                assert!(output.status.success());
                String::from_utf8(output.stdout).unwrap()
            });
            std::fs::remove_dir_all(directory).unwrap();
            assert!(lines.iter().enumerate().all(|(i, line)| *line == format!("number {i}\n")));
            stats.on_one_thread(0);
        },
    );
}

/// Children that end only when they are told to, after all of them have said something.
#[test]
fn children_are_talked_to_and_waited_for_at_once() {
    const CHILDREN: usize = 40;
    check(
        || (),
        |()| {
            let greeted = Arc::new(Barrier::new(CHILDREN));
            let (codes, stats) = overlap(CHILDREN, move |i| {
                let script = format!("echo {i}; read code; exit $code");
                let mut command = Command::new("sh");
                command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
                let mut child = command.spawn().unwrap();
                let mut line = String::new();
                BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
                assert_eq!(line, format!("{i}\n"));
                greeted.wait();
                let mut stdin = child.stdin.take().unwrap();
                let telling = go(move || {
                    thread::sleep(20 * MS);
                    writeln!(stdin, "{i}").unwrap();
                });
                let status = child.wait().unwrap();
                telling.join();
                status.code().unwrap() as usize
            });
            assert!(codes.into_iter().eq(0..CHILDREN));
            stats.on_one_thread(0);
        },
    );
}

/// A task that waits for a line stops only itself: the other ticks, and tells so, and then the line comes.
#[test]
fn stdin_is_a_pipe() {
    const NAME: &str = "stdin_is_a_pipe";
    if is_child(NAME) {
        return check(
            || (),
            |()| {
                let flags =
                    || std::fs::read_to_string("/proc/self/fdinfo/0").unwrap().lines().nth(1).unwrap().to_owned();
                let before = flags();
                let reader = go(|| std::io::stdin().lines().map(Result::unwrap).collect::<Vec<_>>());
                go(|| {
                    for _ in 0..100 {
                        thread::sleep(MS);
                    }
                    eprintln!("ticked");
                })
                .join();
                let lines = reader.join();
                assert!(lines.iter().enumerate().all(|(i, line)| *line == format!("line {i}")));
                assert_eq!(lines.len(), 10_000);
                // The flags of what the process inherited are the parent's, too.
                assert_eq!(flags(), before);
                eprintln!("right");
            },
        );
    }
    let mut process = child(NAME).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (heard, hears) = std::sync::mpsc::channel();
    let stderr = process.stderr.take().unwrap();
    thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| heard.send(line)));
    let mut said = Vec::new();
    let mut hear = |wanted: &str| loop {
        match hears.recv_timeout(Duration::from_secs(20)) {
            Ok(line) if line == wanted => break true,
            Ok(line) => said.push(line),
            Err(_) => break false,
        }
    };
    let mut right = hear("ticked");
    if right {
        let mut stdin = process.stdin.take().unwrap();
        (0..10_000).for_each(|i| writeln!(stdin, "line {i}").unwrap());
        drop(stdin);
        right = hear("right");
    }
    let _ = process.kill();
    process.wait().unwrap();
    assert!(right, "{said:#?}");
}

/// Lines of hundreds of tasks come out whole, though the pipe is full most of the time.
#[test]
fn printed_lines_are_whole() {
    const NAME: &str = "printed_lines_are_whole";
    const TASKS: usize = 100;
    const LINES: usize = 50;
    if is_child(NAME) {
        return check(
            || (),
            |()| {
                // The harness has begun a line.
                println!();
                overlap(TASKS, |i| {
                    for line in 0..LINES {
                        println!("task {i} line {line} {}", "x".repeat(100));
                        if line % 10 == i % 10 {
                            thread::sleep(MS);
                        }
                    }
                });
            },
        );
    }
    let mut process = child(NAME).stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = vec![0; TASKS];
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let ["task", task, "line", number, xs] = words[..] else { continue };
        assert!(xs == "x".repeat(100), "{line:?}");
        let task: usize = task.parse().unwrap();
        assert_eq!(number.parse::<usize>().unwrap(), seen[task]);
        seen[task] += 1;
    }
    assert!(process.wait().unwrap().success());
    assert_eq!(seen, [LINES; TASKS]);
}

#[test]
fn files_are_read_and_written() {
    check(
        || (),
        |()| {
            let directory = std::env::temp_dir().join(format!("greenroom-files-{}", std::process::id()));
            std::fs::create_dir(&directory).unwrap();
            let place = directory.clone();
            let (_, stats) = overlap(100, move |i| {
                let path = place.join(i.to_string());
                let content: Vec<u8> = (0..100_000_usize).map(|n| (n / 100 + i) as u8).collect();
                std::fs::write(&path, &content).unwrap();
                assert!(std::fs::read(&path).unwrap() == content);
            });
            std::fs::remove_dir_all(directory).unwrap();
            stats.on_one_thread(0);
        },
    );
}

/// The answer to any of these names comes when a file is there, which is made by a task of the same thread.
#[test]
fn names_are_looked_up_beside_the_hub() {
    const NAME: &str = "names_are_looked_up_beside_the_hub";
    const FILE: &str = "GREENROOM_RESOLVER_FILE";
    if is_child(NAME) {
        return check(
            || (),
            |()| {
                let lookups: Vec<_> = (0..20)
                    .map(|i| {
                        go(move || {
                            let mut found = (format!("slow-{i}.test"), 80 + i).to_socket_addrs().unwrap();
                            assert_eq!(found.next().unwrap(), ([127, 0, 0, 9], 80 + i).into());
                        })
                    })
                    .collect();
                go(|| {
                    for _ in 0..100 {
                        thread::sleep(MS);
                    }
                    std::fs::write(std::env::var(FILE).unwrap(), "").unwrap();
                })
                .join();
                lookups.into_iter().for_each(|lookup| lookup.join());
                // The errors, too, are those of the original.
                go(|| ("none.test", 80).to_socket_addrs().unwrap_err()).join();
                go(|| assert!("localhost:80".to_socket_addrs().unwrap().all(|address| address.port() == 80))).join();
            },
        );
    }
    let directory = std::env::temp_dir().join(format!("greenroom-resolver-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let (library, file) = (directory.join("resolver.so"), directory.join("now"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slow_resolver.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status().unwrap();
    assert!(compiled.success());
    let mut command = child(NAME);
    command.env("LD_PRELOAD", &library).env(FILE, &file).stdout(Stdio::null());
    let mut process = command.spawn().unwrap();
    let begun = Instant::now();
    let mut ended = None;
    while ended.is_none() && begun.elapsed() < Duration::from_secs(30) {
        thread::sleep(10 * MS);
        ended = process.try_wait().unwrap();
    }
    let _ = process.kill();
    process.wait().unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    assert!(ended.expect("it hangs").success());
}

/// A connection that breaks while it is waited for, a peer that resets, and a listener that is gone: errors as ever.
#[test]
fn errors_are_those_of_the_originals() {
    check(
        || (),
        |()| {
            let broken = Arc::new(AtomicUsize::new(0));
            let seen = broken.clone();
            overlap(50, move |_| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let peer = go(move || {
                    let (stream, _) = listener.accept().unwrap();
                    thread::sleep(5 * MS);
                    // With unread data: a reset.
                    drop(stream);
                });
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"unread").unwrap();
                let error = stream.read(&mut [0; 10]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                let error = stream.write_all(&[0; 1 << 20]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                peer.join();
                let error = TcpStream::connect(address).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                seen.fetch_add(1, Ordering::SeqCst);
            });
            assert_eq!(broken.load(Ordering::SeqCst), 50);
        },
    );
}

/// Each in the middle of a call of std that would never end: the kill ends it, and what it waited on can be used by others.
#[test]
#[cfg(not(feature = "control"))]
fn whoever_is_killed_in_a_call_of_std_ends() {
    check(
        || (),
        |()| {
            let calls: [(&str, fn()); 9] = [
                ("read", || drop(UnixStream::pair().map(|(mut here, _there)| here.read(&mut [0])))),
                ("write", || drop(UnixStream::pair().map(|(mut here, _there)| here.write_all(&[0; 1 << 22])))),
                ("accept", || drop(TcpListener::bind("127.0.0.1:0").unwrap().accept())),
                ("receive", || drop(UdpSocket::bind("127.0.0.1:0").unwrap().recv(&mut [0]))),
                ("sleep", || thread::sleep(Duration::from_secs(1000))),
                ("pipe", || drop(std::io::pipe().map(|(mut reader, _writer)| reader.read(&mut [0])))),
                ("output", || drop(Command::new("sleep").arg("7").output())),
                ("wait", || {
                    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
                    let waited = child.wait();
                    child.kill().unwrap();
                    drop(waited);
                }),
                ("condition", || {
                    // No wait of std's for others has an error: it ends when it would.
                    let (mutex, condition) = (std::sync::Mutex::new(()), std::sync::Condvar::new());
                    drop(condition.wait_timeout(mutex.lock().unwrap(), Duration::from_secs(1)));
                }),
            ];
            for (name, call) in calls {
                eprintln!("-- {name}");
                let many: Vec<_> = (0..20).map(|_| greenroom::spawn(call)).collect();
                greenroom::sleep(20 * MS);
                let begun = Instant::now();
                greenroom::killall(many.iter().map(|task| task.task()));
                assert!(begun.elapsed() < Duration::from_secs(5), "{name}: {:?}", begun.elapsed());
                let timed = greenroom::spawn(move || greenroom::timeout(20 * MS, call).unwrap_or(()));
                for ended in greenroom::joinall(many.into_iter().chain([timed])) {
                    // The error is nothing that std reckons with when it reads two pipes at once: it unwraps.
                    let panicked = matches!(ended, Err(greenroom::JoinError::Panicked(_)));
                    assert!(!panicked || name == "output", "{name}: {ended:?}");
                }
            }
        },
    );
}
