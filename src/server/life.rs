//! How a server begins and ends, whatever it serves.
//!
//! ```text
//!   New --start--> Running --stop is asked, or the loop has ended--> Stopping --nobody is left--> Ended
//!    |                                                                                             ^
//!    +--stop---------------------------------------------------------------------------------------+
//! ```
//!
//! Two tasks. The *loop* takes clients; it alone owns the listener, so that its end closes that. The *warden* waits until a stop is
//! asked, ends the loop, waits for those who are served, and kills who is left when the time is up. So asking is no more than a
//! note and a bell, which any thread can leave, and nothing has to be spawned when memory may be short.
//!
//! - **V1** Whatever way the warden ends, the others have ended before it, the listener is closed, and the server is `Ended`: who waits for
//!   that waits not for ever.
//! - **V2** A deadline for the end only ever becomes earlier.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::JoinError;
use crate::hub::Tell;
use crate::lock::Lock;
use crate::net::Backoff;
use crate::pool::Pool;
use crate::sync::Event;
use crate::sys::Trouble;
use crate::task::{Builder, JoinHandle, Task, Waitable, current, yield_now};
use crate::thread_block::on_root;

/// How long [`stop`](ServerHandle::stop) lets those who are served go on.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A server, for any thread: stops it, and tells how it is.
///
/// A handle does not keep the server running, nor does dropping it stop it. For [`wait`](crate::wait()) and
/// [`iwait`](crate::iwait) it is ready when the server has ended.
///
/// # Examples
///
/// ```
/// use greenroom::net::TcpListener;
/// use greenroom::server::StreamServer;
///
/// let server = StreamServer::new(TcpListener::bind("127.0.0.1:0")?, |_stream, _client| ());
/// let handle = server.handle();
/// let other = std::thread::spawn(move || handle.stop());
/// server.serve_forever()?;
/// other.join().unwrap();
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct ServerHandle {
    control: Arc<Control>,
}

impl ServerHandle {
    pub(super) fn new(control: &Arc<Control>) -> ServerHandle {
        ServerHandle { control: control.clone() }
    }

    /// Stops the server, and waits until it has ended: [`stop_timeout`](Self::stop_timeout) with [`STOP_TIMEOUT`].
    ///
    /// # Switching
    ///
    /// Yes, unless the server has ended.
    ///
    /// # Cancellation
    ///
    /// The server ends all the same.
    pub fn stop(&self) {
        self.stop_timeout(STOP_TIMEOUT);
    }

    /// Closes the listener, lets those who are served go on for as long as `timeout`, kills who is left, and returns when all of
    /// them have ended.
    ///
    /// A server that is being stopped already takes the earlier end. One that was not started never will be. Called by a handler
    /// of this server, it asks for the stop and returns at once; the handler is one of those who may go on. A task that a handler
    /// waits for takes [`stop_nowait`](Self::stop_nowait).
    ///
    /// In a program built with `panic = "abort"` nobody can be killed: the listener is closed when the next client comes, which is turned
    /// away, and handlers are waited for however long they take.
    ///
    /// # Switching
    ///
    /// Yes, unless the server has ended.
    ///
    /// # Cancellation
    ///
    /// The server ends all the same.
    pub fn stop_timeout(&self, timeout: Duration) {
        self.control.ask(timeout);
        if !self.control.waits_for_caller() {
            self.control.ended.wait();
        }
    }

    /// As [`stop_timeout`](Self::stop_timeout), but does not wait.
    ///
    /// # Switching
    ///
    /// Never.
    pub fn stop_nowait(&self, timeout: Duration) {
        self.control.ask(timeout);
    }

    /// Whether the server was started and has not ended.
    pub fn is_running(&self) -> bool {
        matches!(self.control.state.lock().phase, Phase::Running | Phase::Stopping)
    }

    /// What the server has done so far.
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counters = &self.control.counters;
        // In this order, so that a client who goes meanwhile is not missed.
        let done = read(&counters.done);
        let accepted = read(&counters.accepted);
        Counts {
            accepted,
            active: accepted.saturating_sub(done),
            failed_handshakes: read(&counters.failed_handshakes),
            errors: read(&counters.errors),
        }
    }
}

impl Waitable for ServerHandle {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.control.ended.watch(ready)
    }

    fn unwatch(&self, key: u64) {
        self.control.ended.unwatch(key);
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("is_running", &self.is_running())
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// What a server has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted, or datagrams received.
    pub accepted: u64,
    /// How many of them are being served.
    pub active: u64,
    /// Connections that ended in [`wrap`](super::StreamServerBuilder::wrap): it failed, panicked or took too long.
    pub failed_handshakes: u64,
    /// Failed tries to accept or receive, or to make a task.
    pub errors: u64,
}

/// What server, handles and tasks share.
pub(super) struct Control {
    state: Lock<State>,
    /// There is something for the warden to look at.
    news: Event,
    ended: Event,
    counters: Counters,
}

struct State {
    phase: Phase,
    /// When those who are left are killed; `None` is never. Said by a stop.
    deadline: Option<Instant>,
    /// Why the loop ended by itself.
    fault: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    Stopping,
    Ended,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    done: AtomicU64,
    failed_handshakes: AtomicU64,
    errors: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Control {
    pub(super) fn new() -> Arc<Control> {
        Arc::new(Control {
            state: Lock::new(State { phase: Phase::New, deadline: None, fault: None }),
            news: Event::new(),
            ended: Event::new(),
            counters: Counters::default(),
        })
    }

    /// Notes that the server shall end, and by when.
    pub(super) fn ask(&self, timeout: Duration) {
        let deadline = clock::deadline_after(timeout);
        let mut state = self.state.lock();
        match state.phase {
            Phase::New => {
                state.phase = Phase::Ended;
                drop(state);
                self.ended.set();
                return;
            }
            Phase::Running => {
                state.phase = Phase::Stopping;
                state.deadline = deadline;
            }
            Phase::Stopping => state.deadline = state.deadline.into_iter().chain(deadline).min(),
            Phase::Ended => return,
        }
        drop(state);
        self.news.set();
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Stopping | Phase::Ended)
    }

    fn end(&self) {
        self.state.lock().phase = Phase::Ended;
        self.ended.set();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.is_set()
    }

    pub(super) fn count_failed_handshake(&self) {
        count(&self.counters.failed_handshakes);
    }

    fn active(&self) -> u64 {
        self.counters.accepted.load(Ordering::Relaxed) - self.counters.done.load(Ordering::Relaxed)
    }

    fn deadline(&self) -> Option<Instant> {
        self.state.lock().deadline
    }

    /// Waits until the server has ended; gives what ended it, once, if that was no stop. A caller that is cancelled stops it.
    pub(super) fn wait_for_end(&self) -> io::Result<()> {
        struct StopOnUnwind<'a>(&'a Control);
        impl Drop for StopOnUnwind<'_> {
            fn drop(&mut self) {
                self.0.ask(STOP_TIMEOUT);
            }
        }
        let stop = StopOnUnwind(self);
        self.ended.wait();
        drop(stop);
        let fault = self.state.lock().fault.take();
        fault.map_or(Ok(()), Err)
    }

    /// Whether the running task is one whose end the warden waits for.
    fn waits_for_caller(&self) -> bool {
        let caller = current();
        let ours = on_root(|| {
            HERE.try_with(|here| {
                here.borrow().iter().any(|crew| std::ptr::eq(&*crew.control, self) && crew.has(&caller))
            })
        });
        ours.unwrap_or(false)
    }
}

/// Starts the two tasks, unless that was done; a server that cannot be started has ended. `serve` is the loop, and `close` closes a listener that the loop, ended before its first
/// turn, has left. With `inline`, it is the loop that serves: it is let go on as a handler is.
pub(super) fn start(
    control: &Arc<Control>,
    pool: &Pool,
    inline: bool,
    serve: impl FnOnce() -> io::Result<()> + 'static,
    close: impl FnOnce() + 'static,
) -> io::Result<()> {
    {
        let mut state = control.state.lock();
        match state.phase {
            Phase::New => state.phase = Phase::Running,
            Phase::Running | Phase::Stopping => return Ok(()),
            Phase::Ended => return Err(io::Error::other("the server was stopped")),
        }
    }
    let begun = begin(control, pool, inline, serve, close);
    if begun.is_err() {
        control.end();
    }
    begun
}

fn begin(
    control: &Arc<Control>,
    pool: &Pool,
    inline: bool,
    serve: impl FnOnce() -> io::Result<()> + 'static,
    close: impl FnOnce() + 'static,
) -> io::Result<()> {
    let ending = AskOnDrop(control.clone());
    let serving = Builder::new().name("server".into()).spawn(move || {
        let _ending = ending;
        serve()
    });
    let serving = serving?;
    let crew = Crew { control: control.clone(), pool: pool.clone(), serving: serving.task() };
    // Before the loop has its first turn, in which it may be stopped.
    // Where the thread ends, a server that is begun so late is not known by its tasks.
    let _ending = on_root(|| HERE.try_with(|here| here.borrow_mut().push(crew.clone())));
    let farewell = Farewell { crew, close: Some(close) };
    let warden = Builder::new().name("server's warden".into());
    warden.spawn(move || oversee(&farewell.crew, serving, inline)).map(drop)
}

/// A loop that ends, ends its server.
struct AskOnDrop(Arc<Control>);

impl Drop for AskOnDrop {
    fn drop(&mut self) {
        self.0.ask(STOP_TIMEOUT);
    }
}

/// What the warden does.
fn oversee(crew: &Crew, serving: JoinHandle<io::Result<()>>, inline: bool) {
    let control = &crew.control;
    control.news.wait();

    // No more clients.
    if inline {
        wait_for_clients(control);
    }
    if !cfg!(panic = "abort") {
        serving.task().kill();
    }
    let fault = match serving.join() {
        Ok(result) => result.err(),
        Err(JoinError::Killed) => None,
        Err(error @ JoinError::Panicked(_)) => Some(io::Error::other(error.to_string())),
    };
    let old = std::mem::replace(&mut control.state.lock().fault, fault);
    debug_assert!(old.is_none(), "a server ends once");

    let in_time = wait_for_clients(control) && crew.pool.join_until(control.deadline());
    if !in_time && !cfg!(panic = "abort") {
        crew.pool.kill();
    }
    crew.pool.join();
}

/// Waits until nobody is served; false if the deadline, which may become earlier meanwhile, came first.
fn wait_for_clients(control: &Control) -> bool {
    loop {
        // Cleared first: what comes after this look rings again.
        control.news.clear();
        if control.active() == 0 {
            return true;
        }
        match control.deadline() {
            None => control.news.wait(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                control.news.wait_timeout(left);
            }
        }
    }
}

/// The tasks of a server.
#[derive(Clone)]
struct Crew {
    control: Arc<Control>,
    pool: Pool,
    serving: Task,
}

impl Crew {
    fn has(&self, task: &Task) -> bool {
        *task == self.serving || self.pool.contains(task)
    }
}

thread_local! {
    /// The servers that run on this thread: a stop by one of their own tasks must not wait for itself.
    static HERE: RefCell<Vec<Crew>> = const { RefCell::new(Vec::new()) };
}

/// Makes an end, whatever way the warden ends, before its first turn too (V1).
struct Farewell<C: FnOnce()> {
    crew: Crew,
    close: Option<C>,
}

impl<C: FnOnce()> Drop for Farewell<C> {
    fn drop(&mut self) {
        /// Last, even if a destructor of the user's panics.
        struct End<'a>(&'a Control);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        let Crew { control, pool, serving } = &self.crew;
        let _end = End(control);
        let own = on_root(|| {
            HERE.try_with(|here| {
                let mut here = here.borrow_mut();
                let place = here.iter().position(|crew| Arc::ptr_eq(&crew.control, control))?;
                Some(here.remove(place))
            })
        });
        drop(own);
        // They are left only if this task was itself killed. The end that others are told of is theirs, too.
        if !cfg!(panic = "abort") {
            serving.kill();
            pool.kill();
        }
        if let Some(close) = self.close.take() {
            close();
        }
    }
}

/// One who is served, from the moment he is accepted. Dropped last of what his task has.
pub(super) struct Client(Arc<Control>);

impl Client {
    pub(super) fn new(control: &Arc<Control>) -> Client {
        count(&control.counters.accepted);
        Client(control.clone())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        count(&self.0.counters.done);
        if self.0.active() == 0 && self.0.is_stopping() {
            self.0.news.set();
        }
    }
}

/// What a loop does about errors, and when it lets others run.
pub(super) struct Pace {
    backoff: Backoff,
    /// Successes since the last pause or yield.
    taken: u32,
    /// Passing errors in a row.
    passing: u32,
}

/// After so many in a row, whoever is ready has a turn.
const BATCH: u32 = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { backoff: Backoff::between(FIRST_PAUSE, LONGEST_PAUSE), taken: 0, passing: 0 }
    }

    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        self.passing = 0;
        self.taken += 1;
        if self.taken == BATCH {
            self.taken = 0;
            yield_now();
        }
    }

    /// Pauses if need be. Gives the error back if there is no use in going on.
    pub(super) fn failed(&mut self, control: &Control, error: io::Error) -> io::Result<()> {
        count(&control.counters.errors);
        match Trouble::of(&error) {
            Trouble::Fatal => return Err(error),
            Trouble::Passing if self.passing < BATCH => self.passing += 1,
            _ => {
                self.backoff.pause()?;
                self.taken = 0;
            }
        }
        Ok(())
    }
}
