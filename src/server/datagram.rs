//! `DatagramServer`: a handler for each datagram.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::life::{self, Client, Control, Counts, Pace, STOP_TIMEOUT, ServerHandle};
use crate::hub::{Cancelled, Hub};
use crate::net::{self, UdpSocket, UnixDatagram};
use crate::pool::Pool;
use crate::task::Builder;

/// Where datagrams come from.
pub trait Datagrams: 'static {
    /// Who has sent one; and where the socket is.
    type Address: Clone + 'static;

    /// Waits for a datagram: by parking the task, if at all. It is killed there when its server stops.
    ///
    /// # Errors
    ///
    /// What they mean to a server is told [above](super#when-something-is-used-up).
    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, Self::Address)>;

    /// Where clients find it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn local_addr(&self) -> io::Result<Self::Address>;
}

impl Datagrams for UdpSocket {
    type Address = net::SocketAddr;

    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, net::SocketAddr)> {
        UdpSocket::recv_from(self, buf)
    }

    fn local_addr(&self) -> io::Result<net::SocketAddr> {
        UdpSocket::local_addr(self)
    }
}

impl Datagrams for UnixDatagram {
    type Address = std::os::unix::net::SocketAddr;

    fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, Self::Address)> {
        UnixDatagram::recv_from(self, buf)
    }

    fn local_addr(&self) -> io::Result<Self::Address> {
        UnixDatagram::local_addr(self)
    }
}

/// Receives datagrams, and runs a handler for each: in a task of its own, or [inline](DatagramServerBuilder::inline).
///
/// The handler gets the socket, to answer with, the datagram, and who has sent it. One that panics ends with its datagram
/// and nothing else. What a handler returns is dropped. The socket, which must be in blocking mode, is closed when the last
/// handler has ended.
///
/// A clone is another handle on the same server; it stays on its thread, and [`handle`](Self::handle) gives one that does not. Dropping
/// them leaves a server that was started running.
///
/// # Examples
///
/// ```
/// use greenroom::net::UdpSocket;
/// use greenroom::server::DatagramServer;
///
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let server = DatagramServer::new(socket, |socket, datagram, from| socket.send_to(datagram, from));
/// server.start()?;
///
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"echo", server.local_addr()?)?;
/// let mut echo = [0; 16];
/// assert_eq!(client.recv_from(&mut echo)?, (4, server.local_addr()?));
/// server.stop();
/// # std::io::Result::Ok(())
/// ```
pub struct DatagramServer<S: Datagrams> {
    core: Rc<Core<S>>,
}

struct Core<S: Datagrams> {
    control: Arc<Control>,
    pool: Pool,
    tasks: Builder,
    inline: bool,
    max_size: usize,
    address: Result<S::Address, io::ErrorKind>,
    /// Until the loop has taken it.
    socket: Cell<Option<S>>,
    serve: Box<Handler<S>>,
}

type Handler<S> = dyn Fn(&S, &[u8], <S as Datagrams>::Address);

impl<S: Datagrams> DatagramServer<S> {
    /// A server with the defaults of [`builder`](Self::builder). Nothing is received until it is started.
    pub fn new<R>(socket: S, handler: impl Fn(&S, &[u8], S::Address) -> R + 'static) -> DatagramServer<S> {
        DatagramServer::builder(socket).build(handler)
    }

    /// Begins to make a server: with a task for each datagram, and no bound on them.
    pub fn builder(socket: S) -> DatagramServerBuilder<S> {
        DatagramServerBuilder {
            control: Control::new(),
            socket,
            pool_size: usize::MAX,
            tasks: Builder::new(),
            inline: false,
            max_size: MAX_SIZE,
        }
    }

    /// Begins to receive, in a task of its own. A server that runs already goes on.
    ///
    /// # Switching
    ///
    /// Never, unless it fails.
    ///
    /// # Errors
    ///
    /// If the server was stopped. If no task can be made (see [`Builder::spawn`]): then the socket is closed.
    pub fn start(&self) -> io::Result<()> {
        let Core { control, pool, inline, .. } = &*self.core;
        let (core, left) = (self.core.clone(), self.core.clone());
        let serve = move || core.receive_all();
        let started = life::start(control, pool, *inline, serve, move || drop(left.socket.take()));
        if started.is_err() {
            drop(self.core.socket.take());
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
    /// As [`start`](Self::start), but none after a stop; what ended the server, if the socket failed for good.
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

    /// Stops the server, and lets handlers go on for so long: see [`ServerHandle::stop_timeout`].
    pub fn stop_timeout(&self, timeout: Duration) {
        self.handle().stop_timeout(timeout);
        // One that was never started.
        drop(self.core.socket.take());
    }

    /// A handle for any thread.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(&self.core.control)
    }

    /// The address that the socket is, or was, bound to.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<S::Address> {
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

impl<S: Datagrams> Clone for DatagramServer<S> {
    fn clone(&self) -> DatagramServer<S> {
        DatagramServer { core: self.core.clone() }
    }
}

impl<S: Datagrams> fmt::Debug for DatagramServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("DatagramServer");
        out.field("is_running", &self.is_running()).field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl<S: Datagrams> Core<S> {
    /// The loop.
    fn receive_all(self: Rc<Self>) -> io::Result<()> {
        let Some(socket) = self.socket.take() else { return Ok(()) };
        let socket = Rc::new(socket);
        let mut buffer = vec![0; self.max_size];
        let mut pace = Pace::new();
        loop {
            self.pool.wait_available();
            if self.control.is_stopping() {
                return Ok(());
            }
            let received = socket.recv_from(&mut buffer);
            match received.and_then(|(size, from)| self.take_in(&socket, &buffer[..size], from)) {
                Ok(()) => pace.succeeded(),
                Err(error) => pace.failed(&self.control, error)?,
            }
        }
    }

    fn take_in(self: &Rc<Self>, socket: &Rc<S>, datagram: &[u8], from: S::Address) -> io::Result<()> {
        if self.control.is_stopping() {
            return Ok(());
        }
        let client = Client::new(&self.control);
        if self.inline {
            self.serve_here(socket, datagram, from);
            return Ok(());
        }
        let letter =
            Letter { datagram: datagram.to_vec(), from, socket: socket.clone(), core: self.clone(), _client: client };
        let run = move || {
            let letter = letter;
            (letter.core.serve)(&letter.socket, &letter.datagram, letter.from.clone());
        };
        self.pool.spawn_with(self.tasks.clone(), run).map(drop)
    }

    /// Runs the handler in the loop's task, which a panic must not end. The hook has reported it.
    fn serve_here(&self, socket: &S, datagram: &[u8], from: S::Address) {
        let served = catch_unwind(AssertUnwindSafe(|| (self.serve)(socket, datagram, from)));
        if let Err(payload) = served
            && payload.is::<Cancelled>()
        {
            Hub::here().pass_on(payload);
        }
    }
}

/// A datagram and who it is served by; dropped in this order.
struct Letter<S: Datagrams> {
    datagram: Vec<u8>,
    from: S::Address,
    socket: Rc<S>,
    core: Rc<Core<S>>,
    _client: Client,
}

/// Makes a [`DatagramServer`]; got from [`DatagramServer::builder`].
#[must_use = "a builder makes nothing until `build`"]
pub struct DatagramServerBuilder<S: Datagrams> {
    control: Arc<Control>,
    socket: S,
    pool_size: usize,
    tasks: Builder,
    inline: bool,
    max_size: usize,
}

/// No UDP datagram is larger.
const MAX_SIZE: usize = 64 * 1024;

impl<S: Datagrams> DatagramServerBuilder<S> {
    /// Serves no more than so many datagrams at once. While all places are taken, nothing is received, and the system drops
    /// what does not fit its queue.
    pub fn pool_size(mut self, size: usize) -> Self {
        self.pool_size = size;
        self
    }

    /// How the tasks of handlers are made: their name and stack size.
    pub fn tasks(mut self, builder: Builder) -> Self {
        self.tasks = builder;
        self
    }

    /// Runs the handler in the receiving task itself, one datagram after the other. For handlers that do not wait: there is
    /// no task to make and no datagram to copy.
    pub fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Cuts datagrams that are larger; 64 KiB if not said.
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// A handle on the server to be, for its handler to hold.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(&self.control)
    }

    /// Makes the server, with what is done for each datagram. Nothing is received until it is started.
    pub fn build<R>(self, handler: impl Fn(&S, &[u8], S::Address) -> R + 'static) -> DatagramServer<S> {
        let core = Core {
            control: self.control,
            pool: Pool::new(self.pool_size),
            tasks: self.tasks,
            inline: self.inline,
            max_size: self.max_size,
            address: self.socket.local_addr().map_err(|error| error.kind()),
            socket: Cell::new(Some(self.socket)),
            serve: Box::new(move |socket, datagram, from| drop(handler(socket, datagram, from))),
        };
        DatagramServer { core: Rc::new(core) }
    }
}

impl<S: Datagrams> fmt::Debug for DatagramServerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("DatagramServerBuilder");
        out.field("pool_size", &self.pool_size).field("tasks", &self.tasks);
        out.field("inline", &self.inline).field("max_size", &self.max_size).finish_non_exhaustive()
    }
}
