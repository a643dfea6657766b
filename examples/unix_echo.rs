//! Echo over a Unix socket: a server and four clients in one thread, and a path that is cleaned up.
//!
//! ```text
//! cargo run --example unix_echo
//! ```
//!
//! prints what each client sent and got back, and how long all of them took. The server answers each line 100 ms late, and each
//! client from a task of its own, so that nobody waits for another.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use greenroom::net::{UnixListener, UnixStream};
use greenroom::{joinall, sleep, spawn};

fn main() -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("greenroom_unix_echo_{}", std::process::id()));
    let listener = UnixListener::bind(&path)?;
    // Nobody waits for the server: dropping its handle detaches it. It ends with the program.
    spawn(move || {
        for stream in listener.incoming().flatten() {
            spawn(move || serve(&stream));
        }
    });

    let result = talk(&path);
    // A Unix socket leaves its name behind.
    std::fs::remove_file(&path)?;
    result
}

/// Sends back each line, a little late, until the client has no more to say.
fn serve(mut stream: &UnixStream) -> io::Result<()> {
    for line in BufReader::new(stream).lines() {
        sleep(Duration::from_millis(100));
        writeln!(stream, "{}", line?)?;
    }
    Ok(())
}

/// All clients at once.
fn talk(path: &Path) -> io::Result<()> {
    let started = Instant::now();
    let clients: Vec<_> = (1..=4)
        .map(|number| {
            let path = path.to_owned();
            spawn(move || ask(&path, number))
        })
        .collect();
    for result in joinall(clients) {
        result.expect("the task did not panic")?;
    }
    println!("all answered after {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Two lines, one after the other.
fn ask(path: &Path, number: u32) -> io::Result<()> {
    let stream = UnixStream::connect(path)?;
    let mut answers = BufReader::new(&stream).lines();
    for question in ["first", "second"] {
        let question = format!("client {number}, {question} question");
        writeln!(&stream, "{question}")?;
        let answer = answers.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        assert_eq!(answer, question);
        println!("{answer}: answered");
    }
    Ok(())
}
