//! Drives the example `chat`: a hundred clients, of whom one never reads.
//!
//! `cargo test` builds the example; `cargo test --test chat` alone does not, and then finds the last one built.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Server(Child, SocketAddr);

impl Server {
    fn start() -> Server {
        let here = std::env::current_exe().expect("a test knows its path");
        let example =
            here.parent().and_then(Path::parent).expect("it lies in target/<profile>/deps").join("examples/chat");
        let mut child = Command::new(example).stdout(Stdio::piped()).spawn().expect("`cargo test` builds the example");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Server(child, address)
    }

    /// Joins the chat, and waits until this is known there: by the word of another, if there is one.
    fn join(&self, name: &str, witness: Option<&mut Client>) -> Client {
        let stream = TcpStream::connect(self.1).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        writeln!(&stream, "{name}").unwrap();
        if let Some(witness) = witness {
            assert_eq!(witness.hears(), format!("* {name} has come"));
        }
        Client(BufReader::new(stream))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn hears(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn says(&self, line: &str) {
        writeln!(self.0.get_ref(), "{line}").unwrap();
    }
}

#[test]
fn all_hear_each_other_and_who_comes_and_goes() {
    let server = Server::start();
    let mut ann = server.join("Ann", None);
    let mut bob = server.join("Bob", Some(&mut ann));
    ann.says("hello");
    assert_eq!(bob.hears(), "Ann: hello");
    bob.says("hello yourself");
    assert_eq!(ann.hears(), "Bob: hello yourself");
    // A line that is too long ends the talk, as going does.
    bob.says(&"x".repeat(2000));
    assert_eq!(ann.hears(), "* Bob has gone");
    let cy = server.join("Cy", Some(&mut ann));
    drop(cy);
    assert_eq!(ann.hears(), "* Cy has gone");
}

#[test]
fn one_in_a_hundred_never_reads_and_is_shown_out() {
    const LINES: usize = 50;
    let server = Server::start();
    let mut talker = server.join("talker", None);
    let _mute = server.join("mute", Some(&mut talker));
    let mut others: Vec<_> =
        (2..100).map(|number| server.join(&format!("client {number}"), Some(&mut talker))).collect();
    // Each has heard of those who came after him.
    for (number, client) in others.iter_mut().enumerate() {
        for later in number + 3..100 {
            assert_eq!(client.hears(), format!("* client {later} has come"));
        }
    }

    // So much at a time that nobody else's queue can be full.
    let text = "x".repeat(1000);
    let mut gone = vec![false; others.len()];
    let mut said = 0;
    while !gone.iter().all(|gone| *gone) {
        assert!(said < 40_000, "who never reads is still there");
        for line in said..said + LINES {
            talker.says(&format!("{line} {text}"));
        }
        for (client, gone) in others.iter_mut().zip(&mut gone) {
            let mut expected = said;
            while expected < said + LINES {
                let line = client.hears();
                if line == "* mute has gone" {
                    assert!(!std::mem::replace(gone, true), "he goes once");
                } else {
                    assert_eq!(line, format!("talker: {expected} {text}"));
                    expected += 1;
                }
            }
        }
        said += LINES;
    }
    assert_eq!(talker.hears(), "* mute has gone");
}
