//! Pipes, standard streams and copying, in std's shape: what would stop the thread parks only the task.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! let (mut reader, mut writer) = greenroom::io::pipe()?;
//! greenroom::spawn(move || writer.write_all(b"ping"));
//! let mut text = String::new();
//! reader.read_to_string(&mut text)?;
//! assert_eq!(text, "ping");
//! # std::io::Result::Ok(())
//! ```
//!
//! The traits (`Read`, `Write`, `BufRead`, `Seek`), the adapters (`BufReader`, `BufWriter`, `LineWriter`) and the error are
//! those of [`std::io`].

mod copy;
mod flow;
mod native;
mod pipe;
mod source;
mod stdio;

pub use copy::copy;
pub(crate) use flow::Flow;
pub(crate) use native::{can_park, held, native, waits};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use source::Pollable;
pub(crate) use source::{Awaitable, Awaited, Direction, Left, Source, charge, wait_any};
#[cfg(feature = "monkey")]
pub(crate) use source::{SharedMode, Underneath, View};
pub use stdio::{Stderr, StderrLock, Stdin, StdinLock, Stdout, StdoutLock, stderr, stdin, stdout};
