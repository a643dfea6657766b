//! Fetches many URLs at once, on one thread, in plain blocking code.
//!
//! ```text
//! cargo run --release --example url_fetch
//! ```
//!
//! starts a server of its own on a free loopback port, fetches its 100 pages one after the other and then all at once,
//! and prints how much faster that was. Each page is answered after 50 ms, so that one after the other takes five
//! seconds and all at once the time of the slowest. Server and client share the one thread.
//!
//! ```text
//! cargo run --release --example url_fetch -- https://example.com https://example.org/page --output pages
//! cargo run --release --example url_fetch -- --file list.txt --concurrency 20 --timeout 5
//! printf '%s\n' https://example.com | cargo run --release --example url_fetch -- -
//! ```
//!
//! fetches those. For each URL one line tells status, bytes and time, or what went wrong; a URL that fails does not
//! disturb the others. A status of 400 and above counts as a failure, and its body is not kept.
//!
//! ```text
//! cargo run --release --features monkey --example url_fetch -- --patched
//! ```
//!
//! does the same with the HTTP client as it comes, which knows nothing of this library: what it calls of libc is patched.
//!
//! The exit code is 0 if all went well, 1 if any URL failed, 2 if the arguments make no sense, 130 after Ctrl-C.
//!
//! Read on in this order: [`fetch`] is the program, [`transport`] puts the HTTP client onto green sockets, [`server`] is
//! the other side, [`report`] prints, and [`names`] finds safe file names. There is no callback and no `async` anywhere:
//! a task that waits for a byte gives the thread away, and the line after the read runs when the byte is there.
#![allow(missing_docs, reason = "a program: what it is for stands above, and nobody imports it")]

mod fetch;
mod names;
mod report;
mod server;
mod transport;

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use greenroom::net::UnixStream;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

use crate::fetch::{Fetcher, Job, Transport, fetch_all};
use crate::report::Report;

/// Fetches many URLs at once on one thread; without URLs, the pages of a server of its own.
#[derive(Parser)]
#[command(name = "url_fetch")]
struct Args {
    /// What to fetch: http or https; `-` reads more from standard input, one a line.
    #[arg(value_name = "URL")]
    urls: Vec<String>,

    /// Reads URLs from a file, one a line (`-`: standard input); skips empty lines and those that start with #.
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,

    /// How many URLs are fetched at once.
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,

    /// Seconds after which a URL is given up, redirects and body included.
    #[arg(long, value_name = "S", default_value = "60", allow_negative_numbers = true, value_parser = seconds)]
    timeout: Duration,

    /// Keeps the bodies in this directory, which is made if need be; names come from the URLs.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Trusts the certificates of this PEM file, instead of Mozilla's list.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Uses the HTTP client as it comes, on the sockets of std, and patches what it calls (needs the feature `monkey`).
    #[arg(long)]
    patched: bool,
}

/// What to fetch and how: arguments that made sense.
struct Plan {
    /// Nothing: the pages of our own server.
    urls: Vec<String>,
    concurrency: usize,
    timeout: Duration,
    output: Option<PathBuf>,
    trusted: RootCerts,
    transport: Transport,
}

fn main() -> ExitCode {
    let plan = match Plan::new(Args::parse()) {
        Ok(plan) => plan,
        Err(message) => {
            eprintln!("url_fetch: {message}");
            return ExitCode::from(2);
        }
    };

    let fetches = if plan.urls.is_empty() { 2 * server::PAGES } else { plan.urls.len() };
    let report = Rc::new(Report::new(fetches));

    // Two tasks: the program, and one that waits for Ctrl-C. The first to finish decides, and when `run` returns it has
    // killed and unwound whatever is left: half-written files are removed by their destructors.
    let end = greenroom::run(|| {
        let printer = Rc::clone(&report);
        let program = greenroom::spawn(move || match plan.urls.is_empty() {
            true => demonstrate(&plan, &printer),
            false => fetch(&plan, &printer),
        });
        let interrupt = greenroom::spawn(wait_for_ctrl_c);
        let first = greenroom::iwait([program, interrupt]).next();
        first.expect("two tasks were given").join()
    });

    report.finish();
    match end {
        Ok(Ok(End::Done { failed: 0 })) => ExitCode::SUCCESS,
        Ok(Ok(End::Done { .. })) => ExitCode::FAILURE,
        Ok(Ok(End::Interrupted)) => {
            eprintln!("url_fetch: interrupted");
            ExitCode::from(130)
        }
        Ok(Err(error)) => {
            eprintln!("url_fetch: {error}");
            ExitCode::FAILURE
        }
        // A bug: the panic hook has reported it.
        Err(_panicked) => ExitCode::from(101),
    }
}

/// How it ended.
enum End {
    Done { failed: usize },
    Interrupted,
}

/// Fetches the URLs that were asked for.
fn fetch(plan: &Plan, report: &Report) -> io::Result<End> {
    let fetcher = Fetcher::new(plan.timeout, plan.trusted.clone(), plan.transport);
    let total = fetch_all(&fetcher, &plan.jobs(), plan.concurrency, report);

    report.line(format_args!("\n{total}"));
    Ok(End::Done { failed: total.failed })
}

/// Fetches the pages of our own server, first one after the other, then all at once.
fn demonstrate(plan: &Plan, report: &Report) -> io::Result<End> {
    let address = server::start()?;
    let urls: Vec<String> = (0..server::PAGES).map(|page| format!("http://{address}/page/{page}")).collect();
    let plan = Plan { urls, output: plan.output.clone(), trusted: plan.trusted.clone(), ..*plan };
    let fetcher = Fetcher::new(plan.timeout, plan.trusted.clone(), plan.transport).without_proxy();

    report.line(format_args!("one after the other:"));
    let in_turn = fetch_all(&fetcher, &plan.jobs(), 1, report);
    report.line(format_args!("\nall at once:"));
    let at_once = fetch_all(&fetcher, &plan.jobs(), plan.urls.len(), report);

    report.line(format_args!("\none after the other: {in_turn}"));
    report.line(format_args!("all at once:         {at_once}"));
    report.line(format_args!(
        "ratio:               {:.1} times faster, on one thread",
        in_turn.took.as_secs_f64() / at_once.took.as_secs_f64()
    ));
    Ok(End::Done { failed: in_turn.failed + at_once.failed })
}

/// Parks until the user presses Ctrl-C.
///
/// The signal handler writes one byte into one end of a socket pair, which is all that a handler may safely do; this
/// task reads the other end like any other socket.
fn wait_for_ctrl_c() -> io::Result<End> {
    let (mut pressed, handler) = UnixStream::pair()?;
    let handler = std::os::unix::net::UnixStream::from(handler);
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, handler)?;

    pressed.read_exact(&mut [0])?;
    Ok(End::Interrupted)
}

impl Plan {
    fn new(args: Args) -> Result<Plan, String> {
        let listed = !args.file.is_empty() || args.urls.iter().any(|url| url == "-");
        let mut urls = Vec::new();
        for url in args.urls {
            if url == "-" {
                urls.extend(read_list(Path::new("-"))?);
            } else {
                urls.push(url);
            }
        }
        for file in &args.file {
            urls.extend(read_list(file)?);
        }
        if listed && urls.is_empty() {
            return Err("the list holds no URL".into());
        }

        if let Some(dir) = &args.output {
            fs::create_dir_all(dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        }
        let transport = if args.patched { patch()? } else { Transport::Green };
        let trusted = args.ca.as_deref().map_or(Ok(RootCerts::WebPki), read_certificates)?;

        let concurrency = args.concurrency as usize;
        Ok(Plan { urls, concurrency, timeout: args.timeout, output: args.output, trusted, transport })
    }

    /// Each URL with the file that its body goes to.
    fn jobs(&self) -> Vec<Job> {
        let mut taken = HashSet::new();
        let mut file = |url: &str| Some(self.output.as_ref()?.join(names::file_name(url, &mut taken)));
        self.urls.iter().map(|url| Job { url: url.clone(), file: file(url) }).collect()
    }
}

/// From here on what blocks in std parks only the task.
#[cfg(feature = "monkey")]
fn patch() -> Result<Transport, String> {
    // SAFETY: the tasks of this program share a report and a sum, which know nothing of thread-locals; the client can be sent to
    // other threads.
    unsafe { greenroom::monkey::patch_all() };
    Ok(Transport::Std)
}

#[cfg(not(feature = "monkey"))]
fn patch() -> Result<Transport, String> {
    Err("--patched needs a build with the feature `monkey`: cargo run --release --features monkey --example url_fetch"
        .into())
}

/// Reads a list of URLs. It is read to its end before the first task starts, so it may block the thread.
fn read_list(file: &Path) -> Result<Vec<String>, String> {
    let text = if file == Path::new("-") {
        io::read_to_string(io::stdin()).map_err(|error| format!("cannot read standard input: {error}"))?
    } else {
        fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

fn read_certificates(file: &Path) -> Result<RootCerts, String> {
    let pem = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let certificates: Vec<Certificate> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(format!("{}: {error}", file.display()))),
        })
        .collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(format!("{} holds no certificate", file.display()));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if seconds.is_nan() || seconds <= 0.0 {
        return Err("must be more than 0".into());
    }
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| "too long".to_owned())?;
    if duration.is_zero() { Err("must be more than 0".into()) } else { Ok(duration) }
}
