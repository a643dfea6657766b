//! The standard streams, in std's shape: whoever waits for them parks.
//!
//! Descriptors 0 to 2 belong to whoever started the program, and are shared with it: their flags are never changed (rule 20),
//! whatever they are:
//!
//! | it is | it is read and written |
//! | --- | --- |
//! | a pipe, a fifo, a socket, a device | as `Flow` does |
//! | a terminal | read as those. Written by a native thread: its room cannot be told from outside, and it may be stopped (Ctrl-S) |
//! | a disk file | from memory if it is there, otherwise by native threads |
//! | closed | as if it were `/dev/null`, as std has it |
//!
//! What a descriptor is, is asked before each call (0.2 µs, and there is a buffer above it): programs redirect them by `dup2`.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, IsTerminal, LineWriter, Lines, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::catch_unwind;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Once, PoisonError};

use super::flow::Flow;
use super::native::{can_park, held};
use super::source::{Awaitable, Awaited, Direction, Pollable};
use crate::hub::{Hub, Tell};
use crate::lock::Slow;
use crate::offload::ThreadPool;
use crate::sync::{Mutex, MutexGuard, ReentrantMutex, ReentrantMutexGuard};
use crate::sys::{self, FileId, FileKind};
use crate::waiter::Waiter;

/// One of the three descriptors, and what it was when it was last looked at.
struct Inherited<S: AsFd + 'static> {
    handle: LazyLock<S>,
    flow: Slow<Option<(FileId, Inflow<S>)>>,
}

type Inflow<S> = Arc<Flow<&'static S>>;

/// How a call is to be made.
enum Means<S: AsFd + 'static> {
    Flow(Inflow<S>),
    Terminal,
    Disk,
}

static INPUT: Inherited<io::Stdin> = Inherited::new(io::stdin);
static OUTPUT: Inherited<io::Stdout> = Inherited::new(io::stdout);
static ERRORS: Inherited<io::Stderr> = Inherited::new(io::stderr);

/// The process is in `exit(3)`: nothing switches any more.
static EXITING: AtomicBool = AtomicBool::new(false);

/// The most that one job moves.
const MOST_AT_ONCE: usize = 1 << 20;

impl<S: AsFd + IsTerminal + Send + Sync + 'static> Inherited<S> {
    const fn new(handle: fn() -> S) -> Inherited<S> {
        Inherited { handle: LazyLock::new(handle), flow: Slow::new(None) }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    fn flow(&'static self) -> io::Result<(Inflow<S>, FileKind)> {
        let (id, kind) = sys::file_kind(self.fd())?;
        let mut flow = self.flow.lock();
        if let Some((known, flow)) = &*flow
            && *known == id
        {
            return Ok((flow.clone(), kind));
        }
        // What was known of the number goes before it is used for the new file.
        *flow = None;
        let new = Arc::new(Flow::from_outside(&*self.handle));
        new.source().ignore_flags();
        *flow = Some((id, new.clone()));
        Ok((new, kind))
    }

    fn means(&'static self, direction: Direction) -> io::Result<Means<S>> {
        let (flow, kind) = self.flow()?;
        Ok(match kind {
            FileKind::Disk => Means::Disk,
            FileKind::Character if direction == Direction::Write && self.handle.is_terminal() => Means::Terminal,
            FileKind::Character | FileKind::Other => Means::Flow(flow),
        })
    }

    /// What there is to wait for, if the poller takes it.
    fn awaited_flow(&'static self) -> Option<Inflow<S>> {
        self.flow().ok().filter(|(_, kind)| *kind != FileKind::Disk).map(|(flow, _)| flow)
    }

    fn read(&'static self, buf: &mut [u8]) -> io::Result<usize> {
        match self.means(Direction::Read) {
            Err(error) if sys::is_closed(&error) => Ok(0),
            Err(error) => Err(error),
            Ok(Means::Flow(flow)) => flow.read(buf),
            Ok(Means::Terminal | Means::Disk) => self.read_disk(buf),
        }
    }

    fn read_disk(&'static self, buf: &mut [u8]) -> io::Result<usize> {
        if can_park() {
            Hub::try_here()?.charge();
        }
        if sys::nowait_knows_the_end() {
            match sys::read_nowait(self.fd(), &mut [IoSliceMut::new(buf)], sys::HERE) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || sys::is_refusal(&error) => {}
                done => return done,
            }
        }
        let most = buf.len().min(MOST_AT_ONCE);
        let read = held(move || {
            let mut own = vec![0; most];
            let n = sys::read(self.fd(), &mut [IoSliceMut::new(&mut own)])?;
            own.truncate(n);
            io::Result::Ok(own)
        })?;
        buf[..read.len()].copy_from_slice(&read);
        Ok(read.len())
    }

    fn write(&'static self, buf: &[u8]) -> io::Result<usize> {
        let bare = move |buf: &[u8]| sys::write(self.fd(), &[IoSlice::new(buf)]);
        let own = || buf[..buf.len().min(MOST_AT_ONCE)].to_vec();
        let result = if EXITING.load(Ordering::Relaxed) {
            bare(buf)
        } else {
            match self.means(Direction::Write) {
                Err(error) => Err(error),
                Ok(Means::Flow(flow)) => flow.write(buf),
                Ok(Means::Disk) => {
                    let own = own();
                    held(move || bare(&own))
                }
                Ok(Means::Terminal) if can_park() => {
                    let own = own();
                    terminal().apply(move || bare(&own))
                }
                Ok(Means::Terminal) => bare(buf),
            }
        };
        match result {
            Err(error) if sys::is_closed(&error) => Ok(buf.len()),
            result => result,
        }
    }
}

impl<S: AsFd + IsTerminal + Send + Sync + 'static> Awaitable for &'static Inherited<S> {
    fn is_ready(&self, direction: Direction) -> bool {
        self.awaited_flow().is_none_or(|flow| flow.source().is_ready(direction))
    }

    fn while_awaited(&self, direction: Direction, waiter: Waiter, inner: &mut dyn FnMut()) -> io::Result<bool> {
        self.awaited_flow().map_or(Ok(false), |flow| flow.source().while_awaited(direction, waiter, inner))
    }

    fn watch(&self, direction: Direction, ready: &Tell) -> Option<u64> {
        match self.awaited_flow() {
            Some(flow) => flow.source().watch(direction, ready),
            None => {
                ready();
                None
            }
        }
    }

    fn unwatch(&self, direction: Direction, key: u64) {
        if let Some(flow) = self.awaited_flow() {
            flow.source().unwatch(direction, key);
        }
    }
}

/// One thread, so that what a killed task has begun to write comes before what others write then.
fn terminal() -> &'static ThreadPool {
    static POOL: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::named(1, "greenroom-terminal"));
    &POOL
}

/// Reads past the buffer.
struct RawInput;

impl Read for RawInput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        INPUT.read(buf)
    }
}

/// Writes past the buffer.
struct RawOutput;

impl Write for RawOutput {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        OUTPUT.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The standard input, as [`std::io::stdin`].
///
/// Its buffer is the process's one, for all handles; it is not that of [`std::io::stdin`]: a program uses one or the other.
///
/// # Examples
///
/// ```no_run
/// for line in greenroom::io::stdin().lines() {
///     println!("{}", line?.to_uppercase());
/// }
/// # std::io::Result::Ok(())
/// ```
#[must_use]
pub fn stdin() -> Stdin {
    Stdin(())
}

fn input() -> &'static Mutex<BufReader<RawInput>> {
    static BUFFER: LazyLock<Mutex<BufReader<RawInput>>> = LazyLock::new(|| Mutex::new(BufReader::new(RawInput)));
    &BUFFER
}

/// A handle on the standard input, as [`std::io::Stdin`]; made by [`stdin`].
///
/// # Switching
///
/// A read parks its task until there is something, or the end. While another task or thread reads, it waits for that first, in the
/// order of coming.
///
/// # Cancellation
///
/// Bytes that have not been given to the caller stay in the buffer. What [`read_line`](Stdin::read_line) has put into its string
/// is there.
pub struct Stdin(());

impl Stdin {
    /// Has the input to itself until the guard is dropped.
    #[must_use]
    pub fn lock(&self) -> StdinLock<'static> {
        StdinLock(input().lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends a line to `buf`, with its newline, and gives its length in bytes; 0 at the end.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if it is not UTF-8, or those of the system.
    pub fn read_line(&self, buf: &mut String) -> io::Result<usize> {
        self.lock().read_line(buf)
    }

    /// Iterates over the lines, without their newlines, and keeps the input locked meanwhile.
    pub fn lines(self) -> Lines<StdinLock<'static>> {
        self.lock().lines()
    }

    /// Whether the input is a terminal: std's `IsTerminal`, which only std can implement.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        io::stdin().is_terminal()
    }
}

/// The standard input, locked, as [`std::io::StdinLock`]; made by [`Stdin::lock`].
///
/// What it switches for is told at [`Stdin`]. It stays on its thread, as std's does:
///
/// ```compile_fail
/// fn send<T: Send>(_: T) {}
/// send(greenroom::io::stdin().lock());
/// ```
pub struct StdinLock<'a>(MutexGuard<'a, BufReader<RawInput>>);

impl Read for StdinLock<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(bufs)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        self.0.read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        self.0.read_to_string(buf)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(buf)
    }
}

impl BufRead for StdinLock<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }

    fn read_until(&mut self, byte: u8, buf: &mut Vec<u8>) -> io::Result<usize> {
        self.0.read_until(byte, buf)
    }

    fn read_line(&mut self, buf: &mut String) -> io::Result<usize> {
        self.0.read_line(buf)
    }
}

macro_rules! read_by_lock {
    ($($handle:ty),*) => {$(
        impl Read for $handle {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.lock().read(buf)
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.lock().read_vectored(bufs)
            }

            fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
                self.lock().read_to_end(buf)
            }

            fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
                self.lock().read_to_string(buf)
            }

            fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
                self.lock().read_exact(buf)
            }
        }
    )*};
}

read_by_lock!(Stdin, &Stdin);

/// The standard output, as [`std::io::stdout`]: what is written comes out with the next newline, or by `flush`.
///
/// Its buffer is not that of [`std::io::stdout`] and `println!`: parts of lines that are written through both may change
/// places. What is in it when the process exits is written then.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// writeln!(greenroom::io::stdout(), "a line, whoever reads it how slowly")?;
/// # std::io::Result::Ok(())
/// ```
#[must_use]
pub fn stdout() -> Stdout {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| sys::at_process_exit(flush_at_exit));
    Stdout(())
}

type Output = RefCell<LineWriter<RawOutput>>;

fn output() -> &'static ReentrantMutex<Output> {
    static BUFFER: LazyLock<ReentrantMutex<Output>> =
        LazyLock::new(|| ReentrantMutex::new(RefCell::new(LineWriter::new(RawOutput))));
    &BUFFER
}

/// Writes what is left in the buffer, unless somebody is at it.
extern "C" fn flush_at_exit() {
    EXITING.store(true, Ordering::Relaxed);
    let _nobody_is_left_to_tell = catch_unwind(|| {
        if let Some(output) = output().try_lock()
            && let Ok(mut output) = output.try_borrow_mut()
        {
            return output.flush();
        }
        Ok(())
    });
}

/// A handle on the standard output, as [`std::io::Stdout`]; made by [`stdout`].
///
/// # Switching
///
/// A write that has to leave the buffer parks its task until there is room. While another task or thread holds the lock, it waits
/// for that first.
///
/// # Cancellation
///
/// What has been put into the buffer stays there. A terminal may still get what a write was about to write.
pub struct Stdout(());

/// The standard output, locked, as [`std::io::StdoutLock`]; made by [`Stdout::lock`]. It stays on its thread, as std's does:
///
/// ```compile_fail
/// fn send<T: Send>(_: T) {}
/// send(greenroom::io::stdout().lock());
/// ```
pub struct StdoutLock<'a> {
    /// `None` in a panic hook or the like, if a task has the lock that cannot run now: then there is no buffer.
    guard: Option<ReentrantMutexGuard<'a, Output>>,
}

impl Stdout {
    /// Has the output to itself until the guard is dropped. The same task may lock it again.
    #[must_use]
    pub fn lock(&self) -> StdoutLock<'static> {
        StdoutLock { guard: if can_park() { Some(output().lock()) } else { output().try_lock() } }
    }

    /// Whether the output is a terminal: std's `IsTerminal`, which only std can implement.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }
}

impl Write for StdoutLock<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &self.guard {
            Some(output) => output.borrow_mut().write(buf),
            None => OUTPUT.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.guard {
            Some(output) => output.borrow_mut().flush(),
            None => Ok(()),
        }
    }
}

/// The standard error, as [`std::io::stderr`]: without a buffer.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// writeln!(greenroom::io::stderr(), "what went wrong")?;
/// # std::io::Result::Ok(())
/// ```
#[must_use]
pub fn stderr() -> Stderr {
    Stderr(())
}

fn errors() -> &'static ReentrantMutex<()> {
    static LOCK: ReentrantMutex<()> = ReentrantMutex::new(());
    &LOCK
}

/// A handle on the standard error, as [`std::io::Stderr`]; made by [`stderr`].
///
/// # Switching
///
/// As for [`Stdout`].
///
/// # Cancellation
///
/// A single write that is killed while it waits has written nothing, but to a terminal.
pub struct Stderr(());

/// The standard error, locked, as [`std::io::StderrLock`]; made by [`Stderr::lock`].
pub struct StderrLock<'a> {
    /// `None` as for [`StdoutLock`].
    _guard: Option<ReentrantMutexGuard<'a, ()>>,
}

impl Stderr {
    /// Has the output to itself until the guard is dropped. The same task may lock it again.
    #[must_use]
    pub fn lock(&self) -> StderrLock<'static> {
        StderrLock { _guard: if can_park() { Some(errors().lock()) } else { errors().try_lock() } }
    }

    /// Whether the output is a terminal: std's `IsTerminal`, which only std can implement.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }
}

impl Write for StderrLock<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        ERRORS.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

macro_rules! write_by_lock {
    ($($handle:ty),*) => {$(
        impl Write for $handle {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.lock().write(buf)
            }

            fn flush(&mut self) -> io::Result<()> {
                self.lock().flush()
            }

            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                self.lock().write_all(buf)
            }

            fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
                self.lock().write_fmt(text)
            }
        }
    )*};
}

write_by_lock!(Stdout, &Stdout, Stderr, &Stderr);

macro_rules! handles {
    ($($handle:ident, $lock:ident = $inherited:ident;)*) => {$(
        impl AsFd for $handle {
            fn as_fd(&self) -> BorrowedFd<'_> {
                $inherited.fd()
            }
        }

        impl AsFd for $lock<'_> {
            fn as_fd(&self) -> BorrowedFd<'_> {
                $inherited.fd()
            }
        }

        impl AsRawFd for $handle {
            fn as_raw_fd(&self) -> RawFd {
                $inherited.fd().as_raw_fd()
            }
        }

        impl AsRawFd for $lock<'_> {
            fn as_raw_fd(&self) -> RawFd {
                $inherited.fd().as_raw_fd()
            }
        }

        /// The descriptor's readiness; what is in the buffer is not looked at.
        impl Pollable for $handle {
            fn awaited(&self) -> Awaited<'_> {
                static INHERITED: &Inherited<io::$handle> = &$inherited;
                Awaited(&INHERITED)
            }
        }

        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($handle)).finish_non_exhaustive()
            }
        }

        impl fmt::Debug for $lock<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($lock)).finish_non_exhaustive()
            }
        }
    )*};
}

handles! {
    Stdin, StdinLock = INPUT;
    Stdout, StdoutLock = OUTPUT;
    Stderr, StderrLock = ERRORS;
}

/// Has a child process write to the same place.
impl From<Stdout> for Stdio {
    fn from(_: Stdout) -> Stdio {
        io::stdout().into()
    }
}

/// Has a child process write to the same place.
impl From<Stderr> for Stdio {
    fn from(_: Stderr) -> Stdio {
        io::stderr().into()
    }
}
