//! A pool of worker processes, as Python's `multiprocessing` has it: this program runs itself again, and one thread looks after all.
//!
//! ```text
//! cargo run --release --example worker_processes -- --workers 4 --crash-every 10
//! ```
//!
//! gives the workers jobs in three ways, lets a worker die in every tenth job, and prints what came of it. A job whose worker dies is
//! tried again, from its beginning, by the worker that comes in its place; one that has ended so many workers as `--tries`
//! says has failed, and the next job is done.
//!
//! | `multiprocessing` | here |
//! | --- | --- |
//! | `Process` | `Worker` in [`pool`]: a `greenroom::process::Child`, killed and waited for when it is dropped |
//! | `Pipe` | [`pipe`]: messages, each a line of JSON, on a pair of sockets; one of them is the worker's standard input |
//! | `Queue` | a `greenroom::queue::Queue` from which each worker's task takes the next job; what a worker `put`s comes out of a channel |
//! | `Manager`, `Value`, `Lock` | [`shared`]: values that lie in this process, each behind a lock, which a worker asks for over its pipe |
//! | `Pool` | [`pool`]: `map`, `imap_unordered`, `apply_async` with a callback |
//!
//! Ctrl-C and SIGTERM end the workers, and then the program; when it is killed otherwise, its workers find their pipes at the end and
//! go when they are done with their jobs. The exit code is 0 however many jobs have failed, 1 if the program could not do its
//! work, 130 after Ctrl-C, 143 after SIGTERM.
#![allow(missing_docs, reason = "a program: what it is for stands above, and nobody imports it")]

mod pipe;
mod pool;
mod shared;
mod worker;

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use greenroom::net::UnixStream;
use greenroom::spawn;
use greenroom::sync::mpsc;

use crate::pool::{Outcome, Pool};
use crate::shared::Shared;
use crate::worker::{COUNTER, Job, Trouble, Work};

/// Primes are counted below this number.
const BELOW: u32 = 200_000;

/// Gives jobs to a pool of worker processes.
#[derive(Parser)]
struct Args {
    /// How many worker processes.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,

    /// How many jobs in each of the three ways; they are numbered from 1 on.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    jobs: u32,

    /// How many workers a job may end before it has failed.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,

    /// In every N-th job the worker dies at the first try.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    crash_every: Option<u32>,

    /// Say the result of each job.
    #[arg(long)]
    verbose: bool,

    /// In this job the worker dies at every try.
    #[arg(long, value_name = "JOB")]
    poison: Option<u32>,

    /// In this job the worker panics.
    #[arg(long, value_name = "JOB")]
    panic: Option<u32>,

    /// In this job the worker takes the counter's lock and sleeps at the first try, for somebody to kill it from outside.
    #[arg(long, value_name = "JOB")]
    hang: Option<u32>,

    /// This process is a worker.
    #[arg(long, hide = true)]
    worker: bool,
}

/// How the program ended.
enum End {
    Done,
    Signal(u8),
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.worker {
        // If its pipe breaks, then there is nobody left to be told.
        return worker::work().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }

    // The first to finish decides, and when `run` returns it has killed and unwound whatever is left: that ends the workers.
    let end = greenroom::run(|| {
        let program = spawn(move || show(&args));
        let interrupted = spawn(|| wait_for(signal_hook::consts::SIGINT));
        let terminated = spawn(|| wait_for(signal_hook::consts::SIGTERM));
        let first = greenroom::iwait([program, interrupted, terminated]).next();
        first.expect("three tasks were given").join()
    });
    match end {
        Ok(Ok(End::Done)) => ExitCode::SUCCESS,
        Ok(Ok(End::Signal(signal))) => ExitCode::from(128 + signal),
        Ok(Err(error)) => {
            eprintln!("worker_processes: {error}");
            ExitCode::FAILURE
        }
        // A bug: the panic hook has reported it.
        Err(_panicked) => ExitCode::from(101),
    }
}

/// Parks until the signal comes. Its handler writes a byte into one end of a socket pair, and a task reads the other end.
fn wait_for(signal: i32) -> io::Result<End> {
    let (mut came, handler) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal, std::os::unix::net::UnixStream::from(handler))?;
    came.read_exact(&mut [0])?;
    Ok(End::Signal(signal as u8))
}

/// Uses the pool in its three ways.
fn show(args: &Args) -> io::Result<End> {
    // Whatever is to be printed passes through here, what the workers say too.
    let (news, lines) = mpsc::channel::<String>();
    let printer = spawn(move || lines.iter().try_for_each(|line| say(&line)));
    let shared = Rc::new(Shared::new([COUNTER]));
    let pool = Pool::new(args.workers, args.tries, shared.clone(), news.clone());
    let tell = |line: String| drop(news.send(line));

    // In order: the results stand where the jobs stood.
    let numbers = 1..=args.jobs;
    let results = pool.map(numbers.clone().map(|number| args.job(number, Work::Primes(piece(number, args.jobs)))));
    let found: Vec<_> =
        numbers.zip(&results).map(|(number, result)| good(&tell, args.verbose, number, result)).collect();
    tell(format!("map: {}", words(found.iter().map(|found| found.map_or("-".to_owned(), |n| n.to_string())))));
    tell(format!("primes: {} below {BELOW}", found.iter().flatten().sum::<u64>()));

    // As they are done: a long job holds up nobody.
    let numbers = args.jobs + 1..=2 * args.jobs;
    let naps = numbers.map(|number| args.job(number, Work::Nap { millis: number % 7 }));
    let mut order = Vec::new();
    for (index, result) in pool.imap_unordered(naps) {
        let number = args.jobs + 1 + index as u32;
        good(&tell, args.verbose, number, &result);
        order.push(number.to_string());
    }
    tell(format!("imap_unordered: {}", words(order)));

    // And with a callback for each. These jobs change a value that all workers share.
    let called = Rc::new([(); 2].map(|()| Cell::new(0_u32)));
    for number in 2 * args.jobs + 1..=3 * args.jobs {
        let (called, news, verbose) = (called.clone(), news.clone(), args.verbose);
        pool.apply_async(args.job(number, Work::Count), move |result| {
            let tell = |line| drop(news.send(line));
            let calls = &called[usize::from(good(&tell, verbose, number, &result).is_none())];
            calls.set(calls.get() + 1);
        });
    }

    // From here on nobody is left who could change anything.
    let replaced = pool.close();
    let [done, failed] = &*called;
    tell(format!("apply_async: {} done, {} failed", done.get(), failed.get()));
    tell(format!("counter: {}", shared.get(COUNTER)));
    tell(format!("workers: {}, and {replaced} in place of those that died", args.workers));
    drop(news);
    printer.join().expect("nobody kills it")?;
    Ok(End::Done)
}

/// The value of a job that has one; of one that has failed is told why.
fn good(tell: &dyn Fn(String), verbose: bool, number: u32, result: &Outcome) -> Option<u64> {
    match result {
        Ok(value) => {
            if verbose {
                tell(format!("job {number} gives {value}"));
            }
            Some(*value)
        }
        Err(failed) => {
            tell(format!("job {number} has failed: {failed}"));
            None
        }
    }
}

fn words(all: impl IntoIterator<Item = String>) -> String {
    all.into_iter().collect::<Vec<_>>().join(" ")
}

/// The numbers that one of the first jobs looks at.
fn piece(number: u32, of: u32) -> std::ops::Range<u32> {
    let border = |number: u32| (u64::from(BELOW) * u64::from(number) / u64::from(of)) as u32;
    border(number - 1)..border(number)
}

impl Args {
    /// A job, with the trouble that was asked for.
    fn job(&self, number: u32, work: Work) -> Job {
        let trouble = if self.poison == Some(number) {
            Some(Trouble::Poison)
        } else if self.panic == Some(number) {
            Some(Trouble::Panic)
        } else if self.hang == Some(number) {
            Some(Trouble::Hang)
        } else if self.crash_every.is_some_and(|every| number.is_multiple_of(every)) {
            Some(Trouble::Crash)
        } else {
            None
        };
        Job { number, work, trouble }
    }
}

/// Prints a line. A terminal that is slow parks only the task.
fn say(line: &str) -> io::Result<()> {
    let mut out = greenroom::io::stdout();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}
