//! Child processes, in std's shape: whoever waits for one, or for its pipes, parks, and the other tasks go on.
//!
//! ```
//! use greenroom::process::{Command, Stdio};
//! use std::io::Write;
//!
//! let mut child = Command::new("tr").args(["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
//! child.stdin.take().expect("it is piped").write_all(b"louder")?;
//! let output = child.wait_with_output()?;
//! assert!(output.status.success());
//! assert_eq!(output.stdout, b"LOUDER");
//! # std::io::Result::Ok(())
//! ```
//!
//! Beside what [`std::process`] has there are [`Child::wait_timeout`], [`Child::communicate`], [`Child::kill_on_drop`], and
//! [`ChildHandle`], with which other tasks and threads wait for a child or kill it. A child is something to
//! [`wait`](crate::wait()) for among others, and an operation of [`select!`](crate::select!): `wait(&child)`. Its pipes are
//! [`readable`](crate::select::readable) and [`writable`](crate::select::writable).
//!
//! # How a child is waited for
//!
//! Through a descriptor of its own (pidfd_open(2), Linux 5.3 and later), from any thread, and without a handler for `SIGCHLD`:
//! that signal is the program's. Where the system has no such descriptor, a native thread waits for each child that somebody waits
//! for. A child is reaped once, by whoever first learns of its end; all others get the same status. Like std this asks for one
//! child by its number, so other code of the program may have children too; it must not reap those of others, as `waitpid(-1)`
//! does.
//!
//! # What spawning costs
//!
//! [`spawn`](Command::spawn) does not switch: the thread stops until the new program is loaded, or was found to be missing. Mostly
//! std uses `posix_spawn`, which does not copy the parent. With
//! [`uid`](Command::uid), [`gid`](Command::gid), [`pre_exec`](Command::pre_exec) and the like it has to fork, which takes the
//! longer the more memory the process has. Figures stand at [`spawn`](Command::spawn).

mod child;
mod command;
mod exchange;
mod pipes;
mod running;

pub use std::process::{CommandArgs, CommandEnvs, ExitCode, ExitStatus, Output, Stdio, Termination, abort, exit, id};

pub use child::{Child, ChildHandle};
pub use command::Command;
pub use exchange::CommunicateError;
pub use pipes::{ChildStderr, ChildStdin, ChildStdout};
