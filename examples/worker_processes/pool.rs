//! The parent's side: a task for each worker, which hands it jobs, answers what it asks, and starts another when it dies.
//!
//! ```text
//!   map, imap_unordered, apply_async ──> Queue ──> a task for each worker ── pipe ── worker process
//!                    callbacks <────────────────────────┘
//! ```

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use greenroom::net::UnixStream;
use greenroom::pool::Group;
use greenroom::process::{Child, Command, ExitStatus};
use greenroom::queue::Queue;
use greenroom::sync::mpsc;
use greenroom::{JoinHandle, select, sleep, spawn};

use crate::pipe::Pipe;
use crate::shared::Shared;
use crate::worker::{Job, ToParent, ToWorker};

/// What comes of a job.
pub(crate) type Outcome = Result<u64, Failed>;

/// Why a job has no result.
pub(crate) enum Failed {
    /// It has panicked, with this message.
    Panicked(String),
    /// There was no worker that lived through it.
    Killed { tries: u32 },
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Panicked(message) => write!(f, "it has panicked: {message}"),
            Failed::Killed { tries } => write!(f, "no worker has lived through it, in {tries} tries"),
        }
    }
}

/// Worker processes, and jobs for them.
pub(crate) struct Pool {
    office: Rc<Office>,
    keepers: Vec<JoinHandle<()>>,
}

/// What the tasks of a pool share.
struct Office {
    orders: Queue<Order>,
    shared: Rc<Shared>,
    tries: u32,
    news: mpsc::Sender<String>,
    /// The tasks in which callbacks run, so that one that waits, or panics, is no affair of the workers'.
    callbacks: Group,
    started: Cell<u32>,
}

struct Order {
    job: Job,
    callback: Box<dyn FnOnce(Outcome)>,
}

/// So long after a worker has died without a job in its hands the next one is started.
const PAUSE: Duration = Duration::from_millis(100);

impl Pool {
    /// Starts so many workers. What they and the pool have to say goes to `news`.
    pub(crate) fn new(workers: u32, tries: u32, shared: Rc<Shared>, news: mpsc::Sender<String>) -> Pool {
        let (orders, callbacks, started) = (Queue::unbounded(), Group::new(), Cell::new(0));
        let office = Rc::new(Office { orders, shared, tries, news, callbacks, started });
        let keepers = (1..=workers)
            .map(|number| {
                let office = office.clone();
                spawn(move || Desk { office: &office, number, worker: None }.serve())
            })
            .collect();
        Pool { office, keepers }
    }

    /// Has a job done, and then `callback` called with its outcome: once, in a task of its own.
    pub(crate) fn apply_async(&self, job: Job, callback: impl FnOnce(Outcome) + 'static) {
        let put = self.office.orders.put(Order { job, callback: Box::new(callback) });
        assert!(put.is_ok(), "the queue is shut down by who closes the pool, and that consumes it");
    }

    /// Has jobs done, and gives the outcomes as they come, each with the index of its job.
    pub(crate) fn imap_unordered(&self, jobs: impl IntoIterator<Item = Job>) -> mpsc::IntoIter<(usize, Outcome)> {
        let (send, outcomes) = mpsc::channel();
        for (index, job) in jobs.into_iter().enumerate() {
            let send = send.clone();
            self.apply_async(job, move |outcome| drop(send.send((index, outcome))));
        }
        // It ends after the last outcome: then all senders are gone.
        outcomes.into_iter()
    }

    /// Has jobs done, and gives their outcomes in the order of the jobs.
    pub(crate) fn map(&self, jobs: impl IntoIterator<Item = Job>) -> Vec<Outcome> {
        let mut outcomes: Vec<_> = self.imap_unordered(jobs).collect();
        outcomes.sort_unstable_by_key(|(index, _)| *index);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Waits for all jobs and callbacks, ends the workers, and says how many had come in place of others.
    pub(crate) fn close(self) -> u32 {
        let Pool { office, keepers } = self;
        let workers = keepers.len() as u32;
        office.orders.shutdown();
        for ended in greenroom::joinall(keepers) {
            ended.expect("nobody kills them");
        }
        office.callbacks.join();
        office.started.get().saturating_sub(workers)
    }
}

/// Where one worker works, or the one that comes in its place.
struct Desk<'a> {
    office: &'a Office,
    number: u32,
    worker: Option<Worker>,
}

impl Desk<'_> {
    /// Has one job done after the other until there are no more.
    fn serve(mut self) {
        while let Some(Order { job, callback }) = self.next() {
            let outcome = self.see_through(&job);
            drop(self.office.callbacks.spawn(move || callback(outcome)));
        }
        if let Some(Err(error)) = self.worker.take().map(Worker::end) {
            self.tell(format_args!("cannot be waited for: {error}"));
        }
    }

    /// Waits for a job. A worker that dies meanwhile is replaced.
    fn next(&mut self) -> Option<Order> {
        loop {
            let orders = &self.office.orders;
            // Without a worker, the job will find out why there is none.
            let Ok(worker) = self.worker() else { return orders.get().ok() };
            select! {
                get(orders) -> order => return order.ok(),
                wait(&worker.child) => {}
            }
            self.bury("without a job");
            // One that cannot live must not keep us busy.
            sleep(PAUSE);
        }
    }

    /// Has a job tried until it has an outcome.
    fn see_through(&mut self, job: &Job) -> Outcome {
        for attempt in 1..=self.office.tries {
            let office = self.office;
            match self.worker().and_then(|worker| worker.try_job(job, attempt, office)) {
                Ok(outcome) => return outcome,
                Err(error) => self.bury(&format!("in job {}, try {attempt}{}", job.number, Reason(&error))),
            }
        }
        Err(Failed::Killed { tries: self.office.tries })
    }

    /// The worker at this desk; if there is none, a new one.
    fn worker(&mut self) -> io::Result<&mut Worker> {
        if self.worker.is_none() {
            let worker = Worker::start()?;
            let process = worker.child.id();
            self.worker = Some(worker);
            self.office.started.set(self.office.started.get() + 1);
            self.tell(format_args!("is process {process}"));
        }
        Ok(self.worker.as_mut().expect("it was just seen to"))
    }

    /// Makes sure that a worker is gone, and says so.
    fn bury(&mut self, when: &str) {
        let Some(mut worker) = self.worker.take() else {
            return self.tell(format_args!("could not be started {when}"));
        };
        let process = worker.child.id();
        match worker.child.kill().and_then(|()| worker.child.wait()) {
            Ok(status) => self.tell(format_args!("(process {process}) has died {when}; {status}")),
            Err(error) => self.tell(format_args!("(process {process}) has died {when}; {error}")),
        }
    }

    fn tell(&self, what: fmt::Arguments<'_>) {
        // Nobody listens any more when the program ends.
        drop(self.office.news.send(format!("worker {} {what}", self.number)));
    }
}

/// An error, unless it only says that there is nobody at the other end.
struct Reason<'a>(&'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(()),
            _ => write!(f, ": {}", self.0),
        }
    }
}

/// A worker process. It does not outlive this.
struct Worker {
    child: Child,
    pipe: Pipe,
}

impl Worker {
    fn start() -> io::Result<Worker> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        // In a group of its own, so that Ctrl-C is the parent's affair.
        command.arg("--worker").stdin(OwnedFd::from(theirs)).process_group(0);
        Ok(Worker { child: command.spawn()?, pipe: Pipe::new(ours) })
    }

    /// Has a job done and answers what the worker asks meanwhile. An error means that the worker is gone, or out of its mind;
    /// whatever it was given is taken back then.
    fn try_job(&mut self, job: &Job, attempt: u32, office: &Office) -> io::Result<Outcome> {
        let mut locked = HashMap::new();
        self.pipe.send(&ToWorker::Do { job: job.clone(), attempt })?;
        loop {
            match self.pipe.receive()? {
                Some(ToParent::Lock(name)) if !locked.contains_key(&name) => {
                    let value = office.shared.lock(&name)?;
                    self.pipe.send(&ToWorker::Value(*value))?;
                    locked.insert(name, value);
                }
                Some(ToParent::Unlock { name, value }) => match locked.remove(&name) {
                    Some(mut place) => *place = value,
                    None => return Err(out_of_order()),
                },
                Some(ToParent::Put(line)) => drop(office.news.send(line)),
                Some(ToParent::Done(result)) => return Ok(result.map_err(Failed::Panicked)),
                Some(ToParent::Lock(_again)) => return Err(out_of_order()),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Lets a worker go that has nothing to do.
    fn end(mut self) -> io::Result<ExitStatus> {
        self.pipe.close()?;
        self.child.wait()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Errors say that it is gone. The wait keeps it from staying in the system's table.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn out_of_order() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it gives back what it has not, or asks for what it has")
}
