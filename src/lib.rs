//! Green threads with automatic switching on I/O, on one thread: what gevent is to Python.
//!
//! A program is plain blocking code with the names of `std`. Where `std` would stop the thread, greenroom parks only the
//! task, and the thread goes on with its other tasks. There is no `async`, and no runtime to start: the first call on a
//! thread makes that thread's *hub*, and `main` is a task like the others, the *root*.
//!
//! ```
//! use std::io::{Read, Write};
//! use greenroom::net::{TcpListener, TcpStream};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! greenroom::spawn(move || -> std::io::Result<()> {
//!     let (mut stream, _client) = listener.accept()?;
//!     stream.write_all(b"hello")
//! });
//!
//! let mut greeting = String::new();
//! TcpStream::connect(address)?.read_to_string(&mut greeting)?;
//! assert_eq!(greeting, "hello");
//! # std::io::Result::Ok(())
//! ```
//!
//! # Where to start
//!
//! | to | use |
//! | --- | --- |
//! | make tasks and wait for them | [`spawn`], [`JoinHandle`], [`joinall`], [`try_joinall`], [`iwait`] |
//! | make tasks that borrow | [`scope()`] |
//! | make many, so many at a time | [`pool`] |
//! | name a task, or give it a larger stack | [`Builder`] |
//! | talk to others | [`net`] |
//! | use files, pipes, the standard streams | [`fs`], [`io`] |
//! | run other programs | [`process`] |
//! | serve many clients | [`server`] |
//! | call what stops a thread, on another one | [`offload()`], [`offload::ThreadPool`] |
//! | let time pass, or bound it | [`sleep`], [`timeout`] |
//! | end a task from outside | [`Task::kill`], [`killall`]; hold that off: [`shield`] |
//! | end a program with all its tasks | [`run`] |
//! | share between tasks and threads | [`sync`], [`queue`] |
//! | wait for one of several things | [`select!`], [`wait()`], [`iwait`] |
//! | wait for many descriptors in one task | [`selectors`] |
//! | act on signals of the system | `signal`, a feature |
//! | fork the process | [`os::fork`] |
//! | wait for a call by somebody | [`park`], [`Task::unpark`] |
//! | have values for each task | [`task_local!`] |
//! | reach a hub from other threads | [`HubHandle`], [`Unparker`] |
//! | wait for a future, or be one for async code | [`future`] |
//! | write an iterator as a loop | [`generator`] |
//! | switch by hand | [`greenlet`] |
//! | have blocking crates and C libraries join in | `monkey`, a feature |
//!
//! # What to know
//!
//! - A task stays on its thread, and all tasks of a thread take turns. They share `Rc` and `Cell`; what parks a task says so
//!   under *Switching*, and between two such calls nobody else runs.
//! - What blocks in `std` stops the thread with all its tasks: `std::net`, `thread::sleep`, a full or empty `mpsc` channel, a
//!   contended `Mutex`, a `Condvar`, joining a thread. [`net`], [`sleep`], [`sync`], [`io`] and [`fs`] have what
//!   parks only the task; [`offload()`] helps with the rest.
//! - A task that is killed, or whose time runs out, unwinds: its destructors run. With `panic = "abort"` both refuse.
//! - A task that is left when its thread ends is killed then and waited for; thread-locals that were first used after the
//!   thread's hub was made may be gone by that time, and [`run`] ends tasks before. On the main thread, tasks that are left
//!   stop with the process.
//! - `thread::panicking` counts for the thread: it is true in one task while another is parked in its unwind.
//! - A stack is 256 KiB; an overflow ends the process and names the task.
//! - A root that waits for what cannot come any more panics with a list of all tasks and what they wait for. Where a task waits for
//!   what other threads may share (a lock, a queue), that can be told only when no other thread is left.
//!
//! # Features and platforms
//!
//! No feature is on by default. `signal` and `monkey` add the modules of these names. `sanitizer` is for builds with AddressSanitizer.
//! Linux on x86-64 is what all of this has been run on; for aarch64, macOS and FreeBSD it compiles, but was not run. Windows is not
//! written.

pub mod fs;
pub mod future;
pub mod generator;
pub mod greenlet;
pub mod io;
mod local;
#[cfg(all(feature = "monkey", target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")))]
pub mod monkey;
pub mod net;
pub mod offload;
pub mod os;
pub mod pool;
pub mod process;
pub mod queue;
mod scope;
pub mod select;
pub mod selectors;
pub mod server;
#[cfg(feature = "signal")]
pub mod signal;
pub mod sync;
mod task;
mod time;

#[cfg(all(feature = "monkey", not(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")))))]
compile_error!(
    "the feature `monkey` of greenroom needs Linux with glibc, linked dynamically: elsewhere a program's own symbols do not stand \
     in for the C library's (macOS), or there is no original to be found behind them (static executables)"
);

mod gate;
mod line;
mod promise;
mod store;

mod hub;

mod coroutine;
mod reactor;
mod remote;

mod run_queue;
mod timers;
mod waiter;

mod clock;
mod error;
mod lock;
mod stack;
mod sys;
mod thread_block;

pub use error::{AccessError, Elapsed, JoinError};
pub use local::LocalKey;
pub use offload::offload;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use task::{
    Builder, HubHandle, IWait, JoinHandle, Link, RemoteJoinHandle, Task, TaskId, Unparker, Waitable, current, idle,
    iwait, joinall, killall, park, park_timeout, run, spawn, spawn_later, try_joinall, wait, yield_now,
};
pub use time::{shield, sleep, sleep_until, timeout};

#[doc(hidden)]
pub mod testing;

/// The code of the README is tested with the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
