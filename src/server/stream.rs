//! `StreamServer`: a task for each connection.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::life::{self, Client, Control, Counts, Pace, STOP_TIMEOUT, ServerHandle};
use crate::net::{self, TcpListener, TcpStream, UnixListener, UnixStream};
use crate::pool::Pool;
use crate::task::Builder;
use crate::time::timeout;

/// Where connections come from.
///
/// For listeners of other kinds than this crate's, say one that admits some peers only.
pub trait Listen: 'static {
    /// A connection.
    type Stream: 'static;
    /// Who has connected; and where the listener is.
    type Address: Clone + 'static;

    /// Waits for a connection: by parking the task, if at all. It is killed there when its server stops.
    ///
    /// # Errors
    ///
    /// What they mean to a server is told [above](super#when-something-is-used-up).
    fn accept(&self) -> io::Result<(Self::Stream, Self::Address)>;

    /// Where clients find it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn local_addr(&self) -> io::Result<Self::Address>;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Address = net::SocketAddr;

    fn accept(&self) -> io::Result<(TcpStream, net::SocketAddr)> {
        TcpListener::accept(self)
    }

    fn local_addr(&self) -> io::Result<net::SocketAddr> {
        TcpListener::local_addr(self)
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    type Address = std::os::unix::net::SocketAddr;

    fn accept(&self) -> io::Result<(UnixStream, Self::Address)> {
        UnixListener::accept(self)
    }

    fn local_addr(&self) -> io::Result<Self::Address> {
        UnixListener::local_addr(self)
    }
}

/// Accepts connections, and runs a handler for each in a task of its own.
///
/// With a [pool size](StreamServerBuilder::pool_size) it accepts no more than it can serve: further clients wait in the system's
/// queue. A handler that panics, or is killed, closes its own connection and nothing else. What a handler returns is dropped.
///
/// The listener must be in blocking mode, which is how it is made.
///
/// A clone is another handle on the same server; it stays on its thread, and [`handle`](Self::handle) gives one that does not. Dropping them
/// leaves a server that was started running.
///
/// # Examples
///
/// ```
/// use greenroom::net::{TcpListener, TcpStream};
/// use greenroom::server::StreamServer;
/// use std::io::{self, Read, Write};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let server = StreamServer::builder(listener).pool_size(100).build(|stream, _client| io::copy(&mut &stream, &mut &stream));
/// server.start()?;
///
/// let mut client = TcpStream::connect(server.local_addr()?)?;
/// client.write_all(b"echo")?;
/// let mut echo = [0; 4];
/// client.read_exact(&mut echo)?;
/// assert_eq!(&echo, b"echo");
/// drop(client);
/// server.stop();
/// assert!(TcpStream::connect(server.local_addr()?).is_err());
/// # io::Result::Ok(())
/// ```
pub struct StreamServer<L: Listen> {
    core: Rc<Core<L>>,
}

struct Core<L: Listen> {
    control: Arc<Control>,
    pool: Pool,
    tasks: Builder,
    address: Result<L::Address, io::ErrorKind>,
    /// Until the loop has taken it.
    listener: Cell<Option<L>>,
    serve: Box<dyn Fn(L::Stream, L::Address)>,
}

impl<L: Listen> StreamServer<L> {
    /// A server with the defaults of [`builder`](Self::builder). Nothing is accepted until it is started.
    pub fn new<R>(listener: L, handler: impl Fn(L::Stream, L::Address) -> R + 'static) -> StreamServer<L> {
        StreamServer::builder(listener).build(handler)
    }

    /// Begins to make a server: with no bound on its tasks, and connections as they come.
    pub fn builder(listener: L) -> StreamServerBuilder<L> {
        StreamServerBuilder {
            control: Control::new(),
            listener,
            pool_size: usize::MAX,
            tasks: Builder::new(),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            has_wrap: false,
            wrap: Box::new(Some),
        }
    }

    /// Begins to accept, in a task of its own. A server that runs already goes on.
    ///
    /// # Switching
    ///
    /// Never, unless it fails.
    ///
    /// # Errors
    ///
    /// If the server was stopped. If no task can be made (see [`Builder::spawn`]): then the listener is closed.
    pub fn start(&self) -> io::Result<()> {
        let (core, left) = (self.core.clone(), self.core.clone());
        let serve = move || core.accept_all();
        let started =
            life::start(&self.core.control, &self.core.pool, false, serve, move || drop(left.listener.take()));
        if started.is_err() {
            drop(self.core.listener.take());
        }
        started
    }

    /// Starts the server, if that was not done, and returns when it has ended.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Cancellation
    ///
    /// If the caller is cancelled while it waits, the server is stopped, as by [`stop_nowait`](ServerHandle::stop_nowait).
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), but none after a stop; what ended the server, if the listener failed for good.
    pub fn serve_forever(&self) -> io::Result<()> {
        if !self.core.control.is_ended() {
            self.start()?;
        }
        self.core.control.wait_for_end()
    }

    /// Stops the server: see [`ServerHandle::stop`].
    pub fn stop(&self) {
        self.stop_timeout(STOP_TIMEOUT);
    }

    /// Stops the server, and lets those who are served go on for so long: see [`ServerHandle::stop_timeout`].
    pub fn stop_timeout(&self, timeout: Duration) {
        self.handle().stop_timeout(timeout);
        // One that was never started.
        drop(self.core.listener.take());
    }

    /// A handle for any thread.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(&self.core.control)
    }

    /// The address that the listener is, or was, bound to.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<L::Address> {
        self.core.address.clone().map_err(io::Error::from)
    }

    /// Whether the server was started and has not ended.
    pub fn is_running(&self) -> bool {
        self.handle().is_running()
    }

    /// What the server has done so far.
    pub fn counts(&self) -> Counts {
        self.handle().counts()
    }
}

impl<L: Listen> Clone for StreamServer<L> {
    fn clone(&self) -> StreamServer<L> {
        StreamServer { core: self.core.clone() }
    }
}

impl<L: Listen> fmt::Debug for StreamServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("StreamServer");
        out.field("is_running", &self.is_running()).field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl<L: Listen> Core<L> {
    /// The loop.
    fn accept_all(self: Rc<Self>) -> io::Result<()> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let mut pace = Pace::new();
        loop {
            self.pool.wait_available();
            if self.control.is_stopping() {
                return Ok(());
            }
            match listener.accept().and_then(|(stream, address)| self.clone().admit(stream, address)) {
                Ok(()) => pace.succeeded(),
                Err(error) => pace.failed(&self.control, error)?,
            }
        }
    }

    /// Makes the task of a client; without one, the connection is closed.
    fn admit(self: Rc<Self>, stream: L::Stream, address: L::Address) -> io::Result<()> {
        if self.control.is_stopping() {
            return Ok(());
        }
        let visit = Visit { stream, address, client: Client::new(&self.control), core: self.clone() };
        self.pool.spawn_with(self.tasks.clone(), move || visit.run()).map(drop)
    }
}

/// A connection and who it is served by; dropped in this order.
struct Visit<L: Listen> {
    stream: L::Stream,
    address: L::Address,
    core: Rc<Core<L>>,
    client: Client,
}

impl<L: Listen> Visit<L> {
    fn run(self) {
        let Visit { client: _client, core, stream, address } = self;
        (core.serve)(stream, address);
    }
}

/// What a wrapped connection comes out of; `None` if it failed.
type Wrap<L, S> = Box<dyn Fn(<L as Listen>::Stream) -> Option<S>>;

/// Makes a [`StreamServer`]; got from [`StreamServer::builder`].
#[must_use = "a builder makes nothing until `build`"]
pub struct StreamServerBuilder<L: Listen, S = <L as Listen>::Stream> {
    control: Arc<Control>,
    listener: L,
    pool_size: usize,
    tasks: Builder,
    handshake_timeout: Duration,
    has_wrap: bool,
    wrap: Wrap<L, S>,
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

impl<L: Listen, S: 'static> StreamServerBuilder<L, S> {
    /// Serves no more than so many at once. While all places are taken, nothing is accepted.
    pub fn pool_size(mut self, size: usize) -> Self {
        self.pool_size = size;
        self
    }

    /// How the tasks of handlers are made: their name and stack size.
    pub fn tasks(mut self, builder: Builder) -> Self {
        self.tasks = builder;
        self
    }

    /// How long [`wrap`](Self::wrap) may take; 10 seconds if not said, and [`Duration::MAX`] is for ever.
    ///
    /// A program built with `panic = "abort"` has no such limits.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// Turns every connection into what the handler gets, by TLS for instance. Of several, each gets what the one before gave.
    ///
    /// `f` runs in the task of the connection: one that says nothing holds up nobody else. If it fails or takes longer than the
    /// [limit](Self::handshake_timeout), that connection is closed and counted, and the error dropped: who wants to know it
    /// looks at it inside `f`. A handshake is part of it only if `f` waits for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::net::{TcpListener, TcpStream};
    /// use greenroom::server::StreamServer;
    /// use std::io::{self, BufRead, BufReader, Read, Write};
    ///
    /// // A line that has to come first.
    /// let wrap = |stream: TcpStream| -> io::Result<(String, TcpStream)> {
    ///     let mut name = String::new();
    ///     BufReader::new(&stream).read_line(&mut name)?;
    ///     Ok((name, stream))
    /// };
    /// let server = StreamServer::builder(TcpListener::bind("127.0.0.1:0")?)
    ///     .wrap(wrap)
    ///     .build(|(name, mut stream), _address| write!(stream, "hello {name}"));
    /// server.start()?;
    ///
    /// let mut client = TcpStream::connect(server.local_addr()?)?;
    /// client.write_all(b"Ann\n")?;
    /// let mut greeting = String::new();
    /// client.read_to_string(&mut greeting)?;
    /// assert_eq!(greeting, "hello Ann\n");
    /// # server.stop();
    /// # io::Result::Ok(())
    /// ```
    pub fn wrap<W: 'static, E>(self, f: impl Fn(S) -> Result<W, E> + 'static) -> StreamServerBuilder<L, W> {
        let before = self.wrap;
        StreamServerBuilder {
            control: self.control,
            listener: self.listener,
            pool_size: self.pool_size,
            tasks: self.tasks,
            handshake_timeout: self.handshake_timeout,
            has_wrap: true,
            wrap: Box::new(move |stream| f(before(stream)?).ok()),
        }
    }

    /// A handle on the server to be, for its handler to hold.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(&self.control)
    }

    /// Makes the server, with what is done for each connection. Nothing is accepted until it is started.
    pub fn build<R>(self, handler: impl Fn(S, L::Address) -> R + 'static) -> StreamServer<L> {
        let limit = (self.has_wrap && !cfg!(panic = "abort")).then_some(self.handshake_timeout);
        let (control, wrap) = (self.control.clone(), self.wrap);
        let serve = move |stream, address| {
            let failure = CountOnDrop(&control);
            let wrapped = match limit {
                Some(limit) => timeout(limit, || wrap(stream)).ok().flatten(),
                None => wrap(stream),
            };
            if let Some(stream) = wrapped {
                failure.dismiss();
                handler(stream, address);
            }
        };
        let core = Core {
            control: self.control,
            pool: Pool::new(self.pool_size),
            tasks: self.tasks,
            address: self.listener.local_addr().map_err(|error| error.kind()),
            listener: Cell::new(Some(self.listener)),
            serve: Box::new(serve),
        };
        StreamServer { core: Rc::new(core) }
    }
}

/// Counts a handshake that comes to nothing, whatever way.
struct CountOnDrop<'a>(&'a Control);

impl CountOnDrop<'_> {
    fn dismiss(self) {
        let _not_dropped = ManuallyDrop::new(self);
    }
}

impl Drop for CountOnDrop<'_> {
    fn drop(&mut self) {
        self.0.count_failed_handshake();
    }
}

impl<L: Listen, S> fmt::Debug for StreamServerBuilder<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("StreamServerBuilder");
        out.field("pool_size", &self.pool_size).field("tasks", &self.tasks);
        out.field("handshake_timeout", &self.handshake_timeout).finish_non_exhaustive()
    }
}
