//! Pi from ten child processes, over each of the system's ways between processes, while a ticker never misses a beat.
//!
//! ```text
//! cargo run --release --example pi_ipc -- --transport fifo
//! ```
//!
//! starts this program ten times more, each to sum up a tenth of a series, gathers the ten sums over the transport that was
//! asked for (without one, over all in turn) and prints `3.14159262176`: that far ten million terms get. Each child reports a little later
//! than the one before. All the while a task prints ticks, and if it ever comes later than it should, the parent has blocked,
//! and the program fails.
//!
//! A child that ends before it has reported is named, and ends the program; whatever the end, Ctrl-C included, no file, queue or
//! shared memory is left behind. The exit code is 0 if all went well, 1 if not, 130 after Ctrl-C, 143 after SIGTERM.
//!
//! Read on in this order: [`way`] is what all transports have in common, [`streams`] has those that are files and sockets,
//! [`system`] the queues and the shared memory, which other systems than Linux have not, or not as something to wait for.
#![allow(missing_docs, reason = "a program: what it is for stands above, and nobody imports it")]

mod streams;
#[cfg(target_os = "linux")]
mod system;
mod way;

use std::cell::Cell;
use std::fmt::Arguments;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use greenroom::net::UnixStream;
use greenroom::process::{Child, ChildHandle, Command, ExitStatus};
use greenroom::sync::mpsc;
use greenroom::{sleep, sleep_until, spawn, timeout};

use crate::way::{Report, Transport, Way};

const CHILDREN: usize = 10;
const BEAT: Duration = Duration::from_millis(20);
/// A tick is printed every so many beats.
const PRINTED: u32 = 5;
/// After so long without all sums something is wrong.
const ENOUGH: Duration = Duration::from_secs(60);

/// Computes pi in ten processes, and gathers it over the system's ways between processes.
#[derive(Parser)]
struct Args {
    /// How the children report; without it, all ways in turn.
    #[arg(long, value_enum)]
    transport: Option<Transport>,

    /// How many terms of the series.
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    terms: u64,

    /// By how many milliseconds each child is later than the one before.
    #[arg(long, value_name = "MS", default_value_t = 30)]
    spread: u64,

    /// How many milliseconds late the ticker may be.
    #[arg(long, value_name = "MS", default_value_t = 150)]
    patience: u64,

    /// This process is a child: the one of that number.
    #[arg(long, hide = true, requires = "transport")]
    child: Option<usize>,

    /// Where a child reports to.
    #[arg(long, hide = true)]
    at: Option<PathBuf>,

    /// The child of that number dies halfway.
    #[arg(long, hide = true)]
    broken: Option<usize>,
}

/// How the parent ended.
enum End {
    Done,
    Signal(u8),
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let (Some(child), Some(transport)) = (args.child, args.transport) {
        return exit_code(report(&args, child, transport).map(|()| End::Done));
    }

    // The first to finish decides, and when `run` returns it has killed and unwound whatever is left: that removes files and
    // queues, and kills children.
    let end = greenroom::run(|| {
        let program = spawn(move || gather_all(&args));
        let interrupted = spawn(|| wait_for(signal_hook::consts::SIGINT));
        let terminated = spawn(|| wait_for(signal_hook::consts::SIGTERM));
        let first = greenroom::iwait([program, interrupted, terminated]).next();
        first.expect("three tasks were given").join()
    });
    match end {
        Ok(end) => exit_code(end),
        // A bug: the panic hook has reported it.
        Err(_panicked) => ExitCode::from(101),
    }
}

fn exit_code(end: io::Result<End>) -> ExitCode {
    match end {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Signal(signal)) => ExitCode::from(128 + signal),
        Err(error) => {
            eprintln!("pi_ipc: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Parks until the signal comes. Its handler writes a byte into one end of a socket pair, and a task reads the other end.
fn wait_for(signal: i32) -> io::Result<End> {
    let (mut came, handler) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal, std::os::unix::net::UnixStream::from(handler))?;
    came.read_exact(&mut [0])?;
    Ok(End::Signal(signal as u8))
}

/// The series: pi²/8 is the sum of 1/(2k+1)².
fn partial_sum(child: usize, of: Range) -> f64 {
    let (from, to) = of.part(child);
    (from..to).map(|k| (2 * k + 1) as f64).map(|odd| 1.0 / (odd * odd)).sum()
}

/// So many terms, to be shared among the children.
#[derive(Clone, Copy)]
struct Range(u64);

impl Range {
    fn part(self, child: usize) -> (u64, u64) {
        let border = |child: usize| (u128::from(self.0) * child as u128 / CHILDREN as u128) as u64;
        (border(child), border(child + 1))
    }
}

/// A child's work. It has nothing else to do, and blocks as it likes.
fn report(args: &Args, child: usize, transport: Transport) -> io::Result<()> {
    // Ten that compute would keep the ticker from its processor: the system's doing, not the hub's.
    // SAFETY: no precondition.
    unsafe { libc::nice(19) };
    if args.broken == Some(child) {
        partial_sum(child, Range(args.terms / 2));
        signal_hook::low_level::raise(libc::SIGKILL)?;
    }
    let sum = partial_sum(child, Range(args.terms));
    std::thread::sleep(Duration::from_millis(args.spread * child as u64));
    transport.send(args.at.as_deref().unwrap_or(Path::new("")), Report { child, sum })
}

/// Computes pi over the transport that was asked for, or over all.
fn gather_all(args: &Args) -> io::Result<End> {
    let transports = match &args.transport {
        Some(transport) => std::slice::from_ref(transport),
        None => Transport::value_variants(),
    };
    for transport in transports {
        say(format_args!("{}:", transport.name()))?;
        let pi = timeout(ENOUGH, || gather(args, *transport))
            .unwrap_or_else(|_elapsed| Err(io::Error::other("not all children have reported in time")))?;
        say(format_args!("{pi:.11}"))?;
    }
    Ok(End::Done)
}

/// What the tasks of the parent tell the one that gathers.
enum News {
    Report(Report),
    /// What went wrong, and with whom.
    Failed(String),
}

/// Starts the children and waits for their reports, and for their ends.
fn gather(args: &Args, transport: Transport) -> io::Result<f64> {
    let (tell, news) = mpsc::channel();
    let beats = Rc::new(Beats::default());
    let ticker = spawn({
        let (beats, tell, patience) = (beats.clone(), tell.clone(), Duration::from_millis(args.patience));
        move || beats.tick(patience, &tell)
    });

    let way = transport.open()?;
    let mut children = Vec::new();
    for index in 0..CHILDREN {
        let child = start(args, transport, &*way, index)?;
        let (handle, tell, way) = (child.handle(), tell.clone(), way.clone());
        spawn(move || receive(&*way, index, &handle, &tell));
        children.push(child);
        // Starting a program keeps the thread for a moment: the ticker may be due.
        sleep(Duration::from_millis(1));
    }

    let mut sums = [None; CHILDREN];
    while sums.iter().any(Option::is_none) {
        match news.recv().expect("we have a sender ourselves") {
            News::Failed(what) => return Err(io::Error::other(what)),
            News::Report(Report { child, sum }) => {
                let slot = sums.get_mut(child).filter(|slot| slot.is_none());
                *slot.ok_or_else(|| io::Error::other(format!("a report too many, from child {child}")))? = Some(sum);
                beats.reports.set(beats.reports.get() + 1);
            }
        }
    }
    for (index, mut child) in children.into_iter().enumerate() {
        let status = child.wait()?;
        if !status.success() {
            return Err(io::Error::other(ended(index, child.id(), status)));
        }
    }
    ticker.kill();
    // A tick that was late is an error however well the rest went.
    while let Ok(news) = news.try_recv() {
        if let News::Failed(what) = news {
            return Err(io::Error::other(what));
        }
    }
    say(format_args!("{} beats, the latest by {:.1} ms", beats.count.get(), beats.latest.get().as_secs_f64() * 1e3))?;
    Ok((8.0 * sums.iter().flatten().sum::<f64>()).sqrt())
}

/// Runs this program as a child.
fn start(args: &Args, transport: Transport, way: &dyn Way, index: usize) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    // In a group of its own, so that Ctrl-C is the parent's affair.
    command.process_group(0).kill_on_drop(true);
    command.args(["--transport", &transport.name(), "--child", &index.to_string()]);
    command.args(["--terms", &args.terms.to_string(), "--spread", &args.spread.to_string()]);
    if let Some(broken) = args.broken {
        command.args(["--broken", &broken.to_string()]);
    }
    way.prepare(index, &mut command)?;
    command.spawn()
}

/// Waits for a report, perhaps another child's, and for the end of this one.
fn receive(way: &dyn Way, index: usize, child: &ChildHandle, tell: &mpsc::Sender<News>) {
    let watched = spawn({
        let (child, tell) = (child.clone(), tell.clone());
        move || match child.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => drop(tell.send(News::Failed(ended(index, child.id(), status)))),
            Err(error) => drop(tell.send(News::Failed(format!("child {index} cannot be waited for: {error}")))),
        }
    });
    match way.receive(index, child) {
        Ok(report) => drop(tell.send(News::Report(report))),
        Err(error) => {
            // If it has died, then its status says more.
            let _ended = watched.join();
            drop(tell.send(News::Failed(format!("child {index}: {error}"))));
        }
    }
}

fn ended(index: usize, process: u32, status: ExitStatus) -> String {
    format!("child {index} (process {process}) has failed: {status}")
}

/// What the ticker counts.
#[derive(Default)]
struct Beats {
    count: Cell<u32>,
    latest: Cell<Duration>,
    reports: Cell<usize>,
}

impl Beats {
    /// Ticks for ever. A beat that comes too late is a failure: somebody has kept the thread.
    fn tick(&self, patience: Duration, tell: &mpsc::Sender<News>) {
        let mut next = Instant::now() + BEAT;
        loop {
            sleep_until(next);
            let late = next.elapsed();
            self.latest.set(self.latest.get().max(late));
            if late > patience {
                drop(tell.send(News::Failed(format!("the ticker was {late:?} late"))));
            }
            self.count.set(self.count.get() + 1);
            if self.count.get().is_multiple_of(PRINTED) {
                let printed = say(format_args!("tick: {} of {CHILDREN} sums", self.reports.get()));
                if let Err(error) = printed {
                    drop(tell.send(News::Failed(format!("cannot print: {error}"))));
                }
            }
            next = Instant::now().max(next + BEAT);
        }
    }
}

/// Prints a line. A terminal that is slow parks only the task.
fn say(line: Arguments<'_>) -> io::Result<()> {
    let mut out = greenroom::io::stdout();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}
