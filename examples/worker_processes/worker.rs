//! The worker's side: what it may be told to do, and how it does it. It has one task, and waits as it likes.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use greenroom::net::UnixStream;
use serde::{Deserialize, Serialize};

use crate::pipe::Pipe;

/// The name of the value that [`Work::Count`] counts up.
pub(crate) const COUNTER: &str = "counter";

/// What the parent says.
#[derive(Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// The answer is [`ToParent::Done`].
    Do { job: Job, attempt: u32 },
    /// The lock that was asked for is yours, and this is the value.
    Value(u64),
}

/// What a worker says.
#[derive(Serialize, Deserialize)]
pub(crate) enum ToParent {
    /// Asks for a lock; the answer is [`ToWorker::Value`].
    Lock(String),
    /// Gives the lock back, with what the value is now.
    Unlock { name: String, value: u64 },
    /// Something for everybody's eyes.
    Put(String),
    /// The result of the job, or the message of the panic that it has ended with. Locks that were not given back are free now.
    Done(Result<u64, String>),
}

/// A closure cannot be sent to another process; the name of what it would do can.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) number: u32,
    pub(crate) work: Work,
    pub(crate) trouble: Option<Trouble>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Work {
    /// How many primes are there?
    Primes(Range<u32>),
    /// Something that takes its time.
    Nap { millis: u32 },
    /// Adds one to the counter.
    Count,
}

/// What goes wrong, for all to see how it ends.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Trouble {
    /// The worker dies at the first try.
    Crash,
    /// It dies at each.
    Poison,
    /// It sleeps with the counter's lock in its hands, at the first try.
    Hang,
    /// It panics.
    Panic,
}

/// Does what it is told until its pipe is at the end.
pub(crate) fn work() -> io::Result<()> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut parent = Parent(Pipe::new(stream));
    while let Some(message) = parent.0.receive()? {
        let ToWorker::Do { job, attempt } = message else { return Err(nonsense()) };
        let result = match catch_unwind(AssertUnwindSafe(|| job.run(attempt, &mut parent))) {
            Ok(result) => Ok(result?),
            Err(payload) => Err(text_of(payload)),
        };
        parent.0.send(&ToParent::Done(result))?;
    }
    Ok(())
}

impl Job {
    fn run(self, attempt: u32, parent: &mut Parent) -> io::Result<u64> {
        let (number, process) = (self.number, std::process::id());
        match self.trouble {
            Some(Trouble::Crash) if attempt == 1 => die()?,
            Some(Trouble::Poison) => die()?,
            Some(Trouble::Panic) => panic!("job {number} is a bad one"),
            Some(Trouble::Hang) if attempt == 1 => {
                let _count = parent.lock(COUNTER)?;
                parent.put(format!("process {process} hangs in job {number}"))?;
                std::thread::sleep(Duration::MAX);
            }
            _ => {}
        }
        match self.work {
            Work::Primes(numbers) => Ok(numbers.filter(|&n| is_prime(n)).count() as u64),
            Work::Nap { millis } => {
                std::thread::sleep(Duration::from_millis(millis.into()));
                Ok(millis.into())
            }
            Work::Count => {
                let count = parent.lock(COUNTER)? + 1;
                parent.unlock(COUNTER, count)?;
                Ok(count)
            }
        }
    }
}

/// What a panic says.
fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast::<String>().map(|text| *text);
    text.unwrap_or_else(|payload| payload.downcast_ref().copied().unwrap_or("without a message").to_owned())
}

/// As a fault of the memory would have it: nothing is said, and no destructor runs.
fn die() -> io::Result<()> {
    signal_hook::low_level::raise(signal_hook::consts::SIGKILL)
}

fn is_prime(n: u32) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// What a job can ask of the process that it works for.
struct Parent(Pipe);

impl Parent {
    /// Waits for the lock of a shared value, and gives the value.
    fn lock(&mut self, name: &str) -> io::Result<u64> {
        self.0.send(&ToParent::Lock(name.to_owned()))?;
        match self.0.receive()? {
            Some(ToWorker::Value(value)) => Ok(value),
            _ => Err(nonsense()),
        }
    }

    /// Gives the lock back, and the value that all others see from now on.
    fn unlock(&mut self, name: &str, value: u64) -> io::Result<()> {
        self.0.send(&ToParent::Unlock { name: name.to_owned(), value })
    }

    /// Puts a line onto the parent's queue.
    fn put(&mut self, line: String) -> io::Result<()> {
        self.0.send(&ToParent::Put(line))
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message that nobody expects")
}
