//! A child process, and what other tasks and threads hold of it.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::process::{ExitStatus, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::{Cause, CommunicateError, Ends, Exchange};
use super::pipes::{ChildStderr, ChildStdin, ChildStdout};
use super::running::Running;
use crate::clock;
use crate::hub::Tell;
use crate::io::{Direction, Pollable};
use crate::select::{self, Outcome, readable};
use crate::task::Waitable;

/// A child process, as [`std::process::Child`]; made by [`Command::spawn`](super::Command::spawn), or from std's.
///
/// Dropping it neither ends nor reaps the child, as std has it, unless [`kill_on_drop`](Self::kill_on_drop) says so: one
/// that has ended and is not waited for stays in the system's table until this process ends.
///
/// Other tasks and threads wait for the child, or kill it, through a [`handle`](Self::handle).
///
/// # Examples
///
/// ```
/// use greenroom::process::Command;
///
/// let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn()?;
/// assert_eq!(child.wait()?.code(), Some(3));
/// # std::io::Result::Ok(())
/// ```
pub struct Child {
    /// What the child reads from, if it was asked for with [`Stdio::piped`](super::Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// What the child writes to, if it was asked for.
    pub stdout: Option<ChildStdout>,
    /// What the child reports errors to, if it was asked for.
    pub stderr: Option<ChildStderr>,
    hold: Hold,
    /// What [`communicate`](Child::communicate) has not handed over yet.
    exchange: Exchange,
}

/// The child that a [`Child`] is about, and what becomes of it when that is dropped. Apart, so that the pipes can be moved out.
struct Hold {
    running: Arc<Running>,
    kill_on_drop: bool,
    /// Nobody will be there to reap it.
    reap_on_drop: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.kill_on_drop && self.running.is_ours() {
            // It can only have ended already, or have become somebody else by its own doing.
            let _ended = self.running.kill();
        }
        if self.kill_on_drop || self.reap_on_drop {
            self.running.reap_later();
        }
    }
}

impl Child {
    /// Wraps std's child, whose pipes were just made.
    pub(super) fn new(mut child: std::process::Child, kill_on_drop: bool) -> Child {
        Child {
            stdin: child.stdin.take().map(ChildStdin::new),
            stdout: child.stdout.take().map(ChildStdout::new),
            stderr: child.stderr.take().map(ChildStderr::new),
            hold: Hold { running: Arc::new(Running::new(child)), kill_on_drop, reap_on_drop: false },
            exchange: Exchange::default(),
        }
    }

    /// The number of the process (its `pid`).
    #[must_use]
    pub fn id(&self) -> u32 {
        self.hold.running.id()
    }

    /// Makes a handle, for other tasks and threads to wait for the child or to kill it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::{process::Command, spawn};
    ///
    /// let mut child = Command::new("sleep").arg("3600").spawn()?;
    /// let handle = child.handle();
    /// let waiting = spawn(move || child.wait());
    /// handle.kill()?;
    /// assert!(!waiting.join().unwrap()?.success());
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> ChildHandle {
        ChildHandle(self.hold.running.clone())
    }

    /// Sets whether the child is killed when this is dropped, by an unwind or otherwise; at first it is as
    /// [`Command::kill_on_drop`](super::Command::kill_on_drop) says, mostly not.
    ///
    /// A native thread then reaps it as soon as it is gone, which may be a moment later. If this was dropped in a forked copy of
    /// the process, nothing happens to the child.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::process::Command;
    ///
    /// let mut child = Command::new("sleep").arg("3600").spawn()?;
    /// child.kill_on_drop(true);
    /// let handle = child.handle();
    /// drop(child);
    /// assert!(!handle.wait()?.success());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn kill_on_drop(&mut self, kill: bool) {
        self.hold.kill_on_drop = kill;
    }

    /// Ends the child by `SIGKILL`; nothing if it has been waited for already. It has still to be waited for.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// Those of the system: a child that has become another user's cannot be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.hold.running.kill()
    }

    /// Gives the status if the child has ended, and reaps it; `None` if it still runs. Its standard input stays open.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.hold.running.try_wait()
    }

    /// Closes the standard input, if it is here, and waits until the child has ended. Afterwards it gives the same status again.
    ///
    /// A child whose outputs are pipes that nobody reads may never end: [`wait_with_output`](Self::wait_with_output) and
    /// [`communicate`](Self::communicate) read them.
    ///
    /// # Switching
    ///
    /// Yes, unless it has ended.
    ///
    /// # Cancellation
    ///
    /// The child goes on and can be waited for again. Its standard input is closed.
    ///
    /// # Errors
    ///
    /// Those of waitpid(2): `ECHILD` if other code has reaped the child, or if the program ignores `SIGCHLD`.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        self.handle().wait()
    }

    /// As [`wait`](Self::wait), but not longer than `timeout`: `None` if the child still runs then.
    ///
    /// # Switching
    ///
    /// Yes, unless it has ended.
    ///
    /// # Cancellation
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::process::Command;
    /// use std::time::Duration;
    ///
    /// let mut child = Command::new("sleep").arg("3600").spawn()?;
    /// assert_eq!(child.wait_timeout(Duration::from_millis(1))?, None);
    /// child.kill()?;
    /// assert!(child.wait_timeout(Duration::from_secs(60))?.is_some());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        self.stdin = None;
        self.hold.running.wait(clock::deadline_after(timeout))
    }

    /// Closes the standard input, reads both outputs to their ends, as far as they are here, and waits until the child has ended.
    ///
    /// An output ends when the last process that has it closes it: one that the child has started may keep it open.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Cancellation
    ///
    /// The child goes on with its outputs closed, which mostly ends it when it writes more; a native thread waits for it then. What
    /// was read is lost: [`communicate`](Self::communicate) keeps it.
    ///
    /// # Errors
    ///
    /// Those of reading, and of [`wait`](Self::wait).
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        self.stdin = None;
        self.hold.reap_on_drop = true;
        self.exchange(None)?;
        Ok(self.output(self.handle().wait()?))
    }

    /// Waits until the child has ended, with the outputs open; nobody else will be there to wait.
    pub(super) fn wait_to_the_end(mut self) -> io::Result<ExitStatus> {
        self.hold.reap_on_drop = true;
        self.wait()
    }

    /// Writes `input` to the child's standard input and closes that, reads both outputs to their ends meanwhile, waits until the
    /// child has ended, and gives what was read. All of this not longer than `timeout`; `None`: as long as it takes.
    ///
    /// This is `communicate` of Python's `subprocess`. What is not piped, or was taken out, is left alone; a child that
    /// closes its standard input early is not an error.
    ///
    /// If the time runs out nobody is killed and nothing is lost: the error has what was read so far, and a later call goes on from
    /// there and gives all. What that call is given as input follows what was given before, if there is still something to
    /// be written. So does a call after one that was killed. One that follows a success has the status, and no output.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Cancellation
    ///
    /// What was read, and what is still to be written, stays with the child for the next call.
    ///
    /// # Errors
    ///
    /// [`CommunicateError`], which tells whether the time ran out. Otherwise those of the system, and
    /// [`io::ErrorKind::InvalidInput`] if there is input and no standard input to write it to.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::process::{Command, Stdio};
    /// use std::time::Duration;
    ///
    /// let script = "echo begun; cat; exec sleep 3600";
    /// let mut child =
    ///     Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    ///
    /// let mut so_far = child.communicate("the input\n", Some(Duration::from_millis(100))).unwrap_err();
    /// while so_far.stdout.len() < 16 {
    ///     so_far = child.communicate("", Some(Duration::from_millis(100))).unwrap_err();
    /// }
    /// assert!(so_far.is_elapsed());
    /// assert_eq!(so_far.stdout, b"begun\nthe input\n");
    /// # child.kill()?;
    /// # child.wait()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn communicate(
        &mut self,
        input: impl Into<Vec<u8>>,
        timeout: Option<Duration>,
    ) -> Result<Output, CommunicateError> {
        let deadline = timeout.and_then(clock::deadline_after);
        let input = input.into();
        let ended = if input.is_empty() || self.stdin.is_some() {
            self.exchange.add_input(input);
            self.exchange_and_wait(deadline)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "the child has no standard input to write to"))
        };
        match ended {
            Ok(Some(status)) => Ok(self.output(status)),
            Ok(None) => Err(CommunicateError::new(&self.exchange, Cause::Elapsed)),
            Err(error) => Err(CommunicateError::new(&self.exchange, Cause::Io(error))),
        }
    }

    fn exchange_and_wait(&mut self, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
        if !self.exchange(deadline)? {
            return Ok(None);
        }
        self.hold.running.wait(deadline)
    }

    fn exchange(&mut self, deadline: Option<Instant>) -> io::Result<bool> {
        let Child { stdin, stdout, stderr, .. } = self;
        self.exchange.run(&mut Ends { stdin, stdout, stderr }, deadline)
    }

    /// Hands over what was read.
    fn output(&mut self, status: ExitStatus) -> Output {
        let Exchange { stdout, stderr, .. } = std::mem::take(&mut self.exchange);
        Output { status, stdout, stderr }
    }
}

/// Takes over std's child with its pipes, whose non-blocking modes are kept.
impl From<std::process::Child> for Child {
    fn from(mut child: std::process::Child) -> Child {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Child {
            stdin: stdin.map(ChildStdin::from),
            stdout: stdout.map(ChildStdout::from),
            stderr: stderr.map(ChildStderr::from),
            ..Child::new(child, false)
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id())
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}

/// What other tasks and threads hold of a [`Child`]: they wait for it, or kill it, however many and all at once.
///
/// It does not have the pipes. Once the child has ended and was waited for by somebody, all get the same status; a number that
/// the system has given to another process since is never killed. Made by [`Child::handle`], and cloned.
///
/// # Examples
///
/// ```
/// use greenroom::process::Command;
/// use std::thread;
///
/// let child = Command::new("sh").args(["-c", "exit 5"]).spawn()?;
/// let handle = child.handle();
/// let elsewhere = thread::spawn(move || handle.wait().unwrap().code());
/// assert_eq!(child.handle().wait()?.code(), Some(5));
/// assert_eq!(elsewhere.join().unwrap(), Some(5));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct ChildHandle(Arc<Running>);

impl ChildHandle {
    /// As [`Child::id`].
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// As [`Child::kill`].
    ///
    /// # Errors
    ///
    /// As [`Child::kill`].
    pub fn kill(&self) -> io::Result<()> {
        self.0.kill()
    }

    /// As [`Child::try_wait`].
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// Waits until the child has ended; its standard input stays as it is.
    ///
    /// # Switching
    ///
    /// Yes, unless it has ended.
    ///
    /// # Cancellation
    ///
    /// A caller that is killed leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub fn wait(&self) -> io::Result<ExitStatus> {
        self.0.wait(None).map(|status| status.expect("without a deadline only the end ends the wait"))
    }

    /// As [`wait`](Self::wait), but not longer than `timeout`: `None` if the child still runs then.
    ///
    /// # Switching
    ///
    /// Yes, unless it has ended.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        self.0.wait(clock::deadline_after(timeout))
    }
}

impl fmt::Debug for ChildHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}

macro_rules! waited_for {
    ($($child:ty: $this:ident => $running:expr;)*) => {$(
        /// Ready once the child has ended; it has still to be waited for.
        impl Waitable for $child {
            fn watch(&self, ready: &Tell) -> Option<u64> {
                let $this = self;
                $running.awaited().0.watch(Direction::Read, ready)
            }

            fn unwatch(&self, key: u64) {
                let $this = self;
                $running.awaited().0.unwatch(Direction::Read, key);
            }

            fn is_shared(&self) -> bool {
                false
            }

            fn is_outside(&self) -> bool {
                true
            }
        }

        /// Done once the child has ended; it has still to be waited for.
        impl select::Wait for $child {
            fn waiting(&self) -> impl Outcome<Output = ()> {
                let $this = self;
                readable($running)
            }
        }
    )*};
}

waited_for! {
    Child: child => &*child.hold.running;
    ChildHandle: handle => &*handle.0;
}
