//! Signals of the system: a closure that runs in a task of its own for each that comes, or a wait for the next.
//!
//! ```
//! use greenroom::signal::{self, SIGUSR1};
//! use greenroom::sync::Event;
//! use std::rc::Rc;
//!
//! let reloaded = Rc::new(Event::new());
//! let seen = reloaded.clone();
//! let listener = signal::on(SIGUSR1, move || seen.set())?;
//!
//! signal::raise(SIGUSR1)?;
//! reloaded.wait();
//! drop(listener);
//! # std::io::Result::Ok(())
//! ```
//!
//! # What comes through
//!
//! Any number of listeners, on any number of hubs, may listen for the same signal: each hears of it. Each listener hears of every
//! delivery, in order; 65,536 deliveries may wait for a listener (16,384 at least, on other systems than Linux), and what comes beyond
//! that is lost to it. The system itself makes one delivery of a signal that is sent again before the first was delivered, but for
//! real-time signals (signal(7)).
//!
//! The handler is [signal-hook]'s. It does no more than write a byte into each listener's pipe, where the reactor finds it; the
//! system calls it on the stack of whatever runs, a task's say, of which it takes a few KiB. Handlers that were there before are still
//! called, first. System calls that the signal interrupts go on by themselves.
//!
//! # What would have happened else
//!
//! While somebody listens, the signal's default action is off: Ctrl-C ends the process no more. When the last listener is gone, it is
//! on again, if it was when the first one came: so a second Ctrl-C ends a program that had waited for the first and is slow to
//! end. Should another user of signal-hook come for the same signal after that first listener, then he has to see to it that one of ours
//! lives as long: the default action would not ask him.
//!
//! # After a fork
//!
//! The child of [`os::fork`](crate::os::fork) has none of the listeners, and so the default actions; it makes its own. Programs that are
//! started have the default actions too, as ever after exec(2).
//!
//! [signal-hook]: https://docs.rs/signal-hook

use std::cell::Cell;
use std::fmt;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use signal_hook::consts::signal::*;
pub use signal_hook::low_level::raise;

use crate::clock;
use crate::hub::Tell;
use crate::io::{Awaitable, Awaited, Direction, Left, Pollable, Source};
use crate::select::{self, Outcome};
use crate::sys;
use crate::task::{Builder, Waitable};
use crate::time;

mod handler;

use handler::Registration;

/// Has `f` called in a new task of this hub for each delivery of `signal`, until the listener is dropped.
///
/// The tasks are independent of each other and of the listener: a call may wait, and the next one does not wait for it; one that
/// panics is reported as any task, and the listener goes on.
///
/// As long as there is a listener, a root that waits on its hub is not reported as deadlocked: a signal may come.
///
/// # Switching
///
/// Never.
///
/// # Panics
///
/// If the thread can have no hub.
///
/// # Errors
///
/// [`InvalidInput`](io::ErrorKind::InvalidInput): there is no such signal, or it cannot be listened for (`SIGKILL` and `SIGSTOP`, and
/// what the processor raises: `SIGSEGV`, `SIGBUS`, `SIGILL`, `SIGFPE`). Else those of the system: a lack of descriptors (a listener has
/// two) or memory.
///
/// # Examples
///
/// ```no_run
/// use greenroom::net::TcpListener;
/// use greenroom::signal::{self, SIGHUP};
///
/// let listener = TcpListener::bind("127.0.0.1:7777")?;
/// let _hangup = signal::on(SIGHUP, || eprintln!("{} tasks", greenroom::testing::live_tasks()))?;
/// for stream in listener.incoming() {
///     greenroom::spawn(move || drop(stream));
/// }
/// # std::io::Result::Ok(())
/// ```
#[track_caller]
pub fn on(signal: i32, f: impl Fn() + 'static) -> io::Result<Listener> {
    let inbox = Inbox::new()?;
    let registration = Cell::new(Some(inbox.register(signal)?));
    let ear = Rc::new(Ear { registration, inbox });

    let (heard, f) = (Heard(ear.clone()), Rc::new(f));
    let run_each = move || {
        while let Some(_delivery) = heard.0.next() {
            // Without memory for a stack the delivery waits until there is some.
            while let Err(_no_stack) = Builder::new().spawn({
                let f = f.clone();
                move || f()
            }) {
                time::sleep(A_WHILE);
            }
        }
    };
    drop(Builder::new().name(format!("signal {signal}")).spawn(run_each)?);
    Ok(Listener { ear, detached: false })
}

/// How long a delivery for which there is no memory waits before it tries again.
const A_WHILE: Duration = Duration::from_millis(10);

/// What has a closure called for each delivery of a signal. Made by [`on`]; ends when dropped, or with its hub.
///
/// Deliveries whose tasks were not made by then are forgotten; tasks that were made run.
///
/// It stays on its thread, as its tasks do.
#[must_use = "a listener that is dropped hears nothing: keep it, or `detach` it"]
pub struct Listener {
    ear: Rc<Ear>,
    detached: bool,
}

/// What a listener shares with the task that waits for its deliveries.
struct Ear {
    /// `None`, once the listener has ended. Dropped before the inbox that it writes into.
    registration: Cell<Option<Registration>>,
    inbox: Inbox,
}

/// The ear in the hands of that task: when the hub ends, and the task with it, the listener ends too.
struct Heard(Rc<Ear>);

impl Drop for Heard {
    fn drop(&mut self) {
        drop(self.0.registration.take());
    }
}

impl Listener {
    /// Ends it, as dropping it does.
    ///
    /// # Switching
    ///
    /// Never.
    pub fn cancel(self) {}

    /// Lets it go on to the end of its hub.
    ///
    /// # Switching
    ///
    /// Never.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.detached {
            drop(self.ear.registration.take());
            self.ear.inbox.nudge();
        }
    }
}

impl Ear {
    /// Waits for the next delivery; `None` once the listener has ended.
    fn next(&self) -> Option<i32> {
        loop {
            let signal = self.inbox.wait();
            let registration = self.registration.take()?;
            self.registration.set(Some(registration));
            if signal != NUDGE {
                return Some(signal);
            }
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("inbox", &self.ear.inbox).finish_non_exhaustive()
    }
}

/// Waits for the next delivery of `signal`, from this call on.
///
/// Before and after the call the signal does what it would do else. Who must not miss one between two calls keeps a [`Signals`].
///
/// # Switching
///
/// Yes.
///
/// # Cancellation
///
/// A caller that is cancelled leaves nothing behind.
///
/// # Errors
///
/// As [`on`].
///
/// # Examples
///
/// ```
/// use greenroom::signal::{self, SIGTERM};
///
/// let ended = greenroom::spawn(|| signal::wait(SIGTERM));
/// greenroom::yield_now();
/// signal::raise(SIGTERM)?;
/// ended.join().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub fn wait(signal: i32) -> io::Result<()> {
    Signals::new([signal])?.wait();
    Ok(())
}

/// Waits for Ctrl-C, from this call on: for `SIGINT`, as [`wait`] does.
///
/// A second Ctrl-C, after the return, ends the process, unless somebody else listens.
///
/// # Switching
///
/// Yes.
///
/// # Cancellation
///
/// A caller that is cancelled leaves nothing behind.
///
/// # Errors
///
/// As [`on`].
///
/// # Examples
///
/// ```
/// use greenroom::signal;
///
/// let server = greenroom::spawn(|| greenroom::park());
/// let ended = greenroom::spawn(|| signal::ctrl_c());
/// # greenroom::yield_now();
/// # signal::raise(signal::SIGINT)?; // as if pressed
/// ended.join().unwrap()?;
/// server.kill();
/// # std::io::Result::Ok(())
/// ```
pub fn ctrl_c() -> io::Result<()> {
    wait(SIGINT)
}

/// Deliveries of some signals, to be waited for, in the order in which they came.
///
/// Begins to listen when made and ends when dropped. May be used by several tasks, on any hub: each delivery goes to one of them.
///
/// In a [`select!`](crate::select!) it is waited for by [`wait(&signals)`](crate::select::wait), and in [`wait`](crate::wait()) and
/// [`iwait`](crate::iwait) by reference; both take nothing: [`try_wait`](Self::try_wait) does.
///
/// # Examples
///
/// ```
/// use greenroom::select;
/// use greenroom::signal::{self, SIGHUP, SIGTERM, Signals};
/// use std::time::Duration;
///
/// let signals = Signals::new([SIGHUP, SIGTERM])?;
/// signal::raise(SIGHUP)?;
/// signal::raise(SIGTERM)?;
///
/// let mut reloads = 0;
/// loop {
///     select! {
///         wait(&signals) => match signals.try_wait() {
///             Some(SIGHUP) => reloads += 1,
///             Some(_) => break,
///             None => {}
///         },
///         timeout(Duration::from_secs(60)) => panic!("nothing came"),
///     }
/// }
/// assert_eq!(reloads, 1);
/// # std::io::Result::Ok(())
/// ```
pub struct Signals {
    /// Dropped before the inbox that they write into.
    _registrations: Vec<Registration>,
    inbox: Inbox,
}

impl Signals {
    /// Begins to listen for these signals.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// As [`on`], for any of them.
    pub fn new(signals: impl IntoIterator<Item = i32>) -> io::Result<Signals> {
        let inbox = Inbox::new()?;
        let mut signals: Vec<i32> = signals.into_iter().collect();
        signals.sort_unstable();
        signals.dedup();
        let registrations = signals.into_iter().map(|signal| inbox.register(signal)).collect::<io::Result<_>>()?;
        Ok(Signals { _registrations: registrations, inbox })
    }

    /// Waits for the next delivery, and gives its signal.
    ///
    /// # Switching
    ///
    /// Yes, if none is there; now and then even if one is.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled has taken nothing.
    ///
    /// # Panics
    ///
    /// If the thread can have no hub; in a forked child, if this was made before the fork.
    #[track_caller]
    pub fn wait(&self) -> i32 {
        self.inbox.wait()
    }

    /// As [`wait`](Self::wait), but not longer than `timeout`; `None` if none came.
    ///
    /// # Switching
    ///
    /// Yes, if none is there.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<i32> {
        let deadline = clock::deadline_after(timeout);
        loop {
            if let Some(signal) = self.try_wait() {
                return Some(signal);
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(clock::now()));
            if left.is_zero() {
                return None;
            }
            crate::select! {
                wait(self) => {},
                timeout(left) => {},
            }
        }
    }

    /// Takes a delivery, if one is there.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn try_wait(&self) -> Option<i32> {
        self.inbox.try_wait()
    }

    /// Gives deliveries without an end; `for signal in &signals` does the same.
    ///
    /// # Switching
    ///
    /// The call, never; the iterator's `next`, as [`wait`](Self::wait).
    pub fn iter(&self) -> Iter<'_> {
        Iter(self)
    }
}

impl<'a> IntoIterator for &'a Signals {
    type Item = i32;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Ready: a delivery is there.
impl Waitable for Signals {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.inbox.reader.watch(Direction::Read, ready)
    }

    fn unwatch(&self, key: u64) {
        self.inbox.reader.unwatch(Direction::Read, key);
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn is_outside(&self) -> bool {
        true
    }
}

/// Until a delivery is there.
impl select::Wait for Signals {
    fn waiting(&self) -> impl Outcome<Output = ()> {
        select::readable(self)
    }
}

impl Pollable for Signals {
    fn awaited(&self) -> Awaited<'_> {
        Awaited(&self.inbox.reader)
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

/// Iterator of [`Signals::iter`].
#[derive(Debug)]
pub struct Iter<'a>(&'a Signals);

impl Iterator for Iter<'_> {
    type Item = i32;

    #[track_caller]
    fn next(&mut self) -> Option<i32> {
        Some(self.0.wait())
    }
}

/// Where handlers put the numbers of the signals that came: a pipe of ours alone, so both its ends are `O_NONBLOCK`.
#[derive(Debug)]
struct Inbox {
    reader: Source<PipeReader>,
    writer: Arc<PipeWriter>,
    /// The process that it was made in. In a forked child it is still the parent's.
    process: u32,
}

/// A byte that is no signal.
const NUDGE: i32 = 0;

impl Inbox {
    fn new() -> io::Result<Inbox> {
        let (reader, writer) = io::pipe()?;
        sys::set_nonblocking(reader.as_fd(), true)?;
        sys::set_nonblocking(writer.as_fd(), true)?;
        Ok(Inbox { reader: Source::new(reader), writer: Arc::new(writer), process: std::process::id() })
    }

    /// Has deliveries of `signal` put here. To be ended before the inbox goes: to write into a pipe without a reader is a signal too.
    fn register(&self, signal: i32) -> io::Result<Registration> {
        Registration::new(signal, self.writer.clone())
    }

    /// Has who waits look again.
    fn nudge(&self) {
        // If the pipe is full, he has enough to look at.
        let _full = (&*self.writer).write(&[NUDGE as u8]);
    }

    #[track_caller]
    fn wait(&self) -> i32 {
        self.assert_ours();
        let read = self.reader.perform(Direction::Read, take, |_| Left::Maybe);
        read.unwrap_or_else(|error| panic!("greenroom: signals cannot be waited for: {error}"))
    }

    #[track_caller]
    fn try_wait(&self) -> Option<i32> {
        self.assert_ours();
        take(self.reader.get()).ok()
    }

    /// What is in the pipe is the parent's.
    #[track_caller]
    fn assert_ours(&self) {
        assert!(self.process == std::process::id(), "greenroom: a forked child waits for signals of its parent");
    }
}

fn take(mut pipe: &PipeReader) -> io::Result<i32> {
    let mut signal = [0];
    match pipe.read(&mut signal)? {
        0 => unreachable!("the inbox holds a writer itself"),
        _ => Ok(signal[0].into()),
    }
}
