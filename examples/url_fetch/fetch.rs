//! The program itself: fetch one URL, and fetch many at once.

use std::cell::RefCell;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use greenroom::pool::Pool;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, ResponseExt};

use crate::report::Report;
use crate::transport::{self, ConnectFailed, LookupFailed};

/// One URL to fetch.
pub(crate) struct Job {
    pub(crate) url: String,
    /// Where the body goes; without, it is counted and thrown away.
    pub(crate) file: Option<PathBuf>,
}

/// What came of one URL.
pub(crate) struct Outcome {
    /// Of the last answer, if one came.
    pub(crate) status: Option<u16>,
    /// Length of the body, as far as it came.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// Where redirects led.
    pub(crate) moved_to: Option<String>,
    /// What went wrong, in words.
    pub(crate) failure: Option<String>,
}

/// What came of all of them.
#[derive(Default)]
pub(crate) struct Total {
    pub(crate) fetched: usize,
    pub(crate) failed: usize,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

/// Fetches every job, at most `concurrency` of them at once, and reports each as it ends.
///
/// This is the whole secret: each job is a task of a pool. The tasks run on this one thread, so that they share a plain
/// total without a lock.
pub(crate) fn fetch_all(fetcher: &Fetcher, jobs: &[Job], concurrency: usize, report: &Report) -> Total {
    let started = Instant::now();
    let total = RefCell::new(Total::default());

    Pool::new(concurrency).map(jobs, |job| {
        let outcome = fetcher.fetch(job, report);
        total.borrow_mut().add(&outcome);
        report.outcome(job, &outcome);
    });

    let mut total = total.into_inner();
    total.took = started.elapsed();
    total
}

/// What the HTTP client's bytes go through.
#[derive(Clone, Copy)]
pub(crate) enum Transport {
    /// Green sockets, plugged into the client.
    Green,
    /// Its own: std's sockets, which are patched.
    #[cfg_attr(not(feature = "monkey"), expect(dead_code, reason = "nothing is patched without the feature"))]
    Std,
}

/// An HTTP client whose waiting parks a task instead of the thread.
pub(crate) struct Fetcher {
    agent: Agent,
    timeout: Duration,
    trusted: RootCerts,
    transport: Transport,
}

impl Fetcher {
    /// A client that gives each URL `timeout`, redirects and body included. It honours `HTTPS_PROXY` and its like.
    pub(crate) fn new(timeout: Duration, trusted: RootCerts, transport: Transport) -> Fetcher {
        Fetcher::with_config(Agent::config_builder(), timeout, trusted, transport)
    }

    /// The same client for servers on this host, which no proxy could reach.
    pub(crate) fn without_proxy(self) -> Fetcher {
        Fetcher::with_config(Agent::config_builder().proxy(None), self.timeout, self.trusted, self.transport)
    }

    fn with_config(
        config: ureq::config::ConfigBuilder<ureq::typestate::AgentScope>,
        timeout: Duration,
        trusted: RootCerts,
        transport: Transport,
    ) -> Fetcher {
        let config = config
            .timeout_global(Some(timeout))
            // We judge the status ourselves: a failed answer has a number worth printing.
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(trusted.clone()).build())
            .build();
        let agent = match transport {
            Transport::Green => transport::agent(config),
            Transport::Std => Agent::new_with_config(config),
        };
        Fetcher { agent, timeout, trusted, transport }
    }

    /// Fetches one URL to its end. Parks only the task that calls.
    pub(crate) fn fetch(&self, job: &Job, report: &Report) -> Outcome {
        let started = Instant::now();
        let mut outcome = Outcome { status: None, bytes: 0, took: Duration::ZERO, moved_to: None, failure: None };
        if let Err(failure) = self.try_fetch(job, report, &mut outcome) {
            outcome.failure = Some(failure);
        }
        outcome.took = started.elapsed();
        outcome
    }

    fn try_fetch(&self, job: &Job, report: &Report, outcome: &mut Outcome) -> Result<(), String> {
        let answer = self.agent.get(&job.url).call().map_err(|error| self.describe(error, None))?;
        let status = answer.status();
        outcome.status = Some(status.as_u16());
        if job.url.parse::<Uri>().is_ok_and(|asked| asked != *answer.get_uri()) {
            outcome.moved_to = Some(answer.get_uri().to_string());
        }
        if status.is_client_error() || status.is_server_error() {
            return Err(status.canonical_reason().unwrap_or("failed").to_owned());
        }

        let mut part = job.file.as_deref().map(PartFile::create).transpose().map_err(cannot_write)?;
        let mut body = answer.into_body().into_reader();

        // The body passes through one buffer, however long it is. On the heap: a task's stack is small.
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.describe(error.into(), Some(outcome.bytes))),
            };
            if let Some(part) = &mut part {
                part.file.write_all(&buffer[..read]).map_err(cannot_write)?;
            }
            outcome.bytes += read as u64;
            report.received(read);
        }

        part.map_or(Ok(()), PartFile::keep).map_err(cannot_write)
    }

    /// Says what happened in one line. `received` is the length of the body so far, once there was an answer.
    fn describe(&self, error: ureq::Error, received: Option<u64>) -> String {
        match (error, received) {
            (ureq::Error::Timeout(_), None) => format!("timed out after {:?} without an answer", self.timeout),
            (ureq::Error::Timeout(_), Some(bytes)) => {
                format!("timed out after {:?} with {bytes} bytes of the body", self.timeout)
            }
            (ureq::Error::Io(error), received) => describe_io(&error, received),
            (ureq::Error::Other(error), _) if error.is::<LookupFailed>() || error.is::<ConnectFailed>() => {
                error.to_string()
            }
            (error, _) => error.to_string(),
        }
    }
}

fn describe_io(error: &io::Error, received: Option<u64>) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls, error.kind(), received) {
        (Some(rustls::Error::InvalidCertificate(reason)), ..) => format!("bad certificate: {reason}"),
        (Some(error), ..) => format!("TLS failed: {error}"),
        (None, io::ErrorKind::UnexpectedEof, None) => "the server closed the connection without an answer".into(),
        (None, io::ErrorKind::UnexpectedEof, Some(bytes)) => format!("body cut short after {bytes} bytes"),
        (None, _, None) => error.to_string(),
        (None, _, Some(bytes)) => format!("body broke off after {bytes} bytes: {error}"),
    }
}

fn cannot_write(error: io::Error) -> String {
    format!("cannot write the file: {error}")
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.bytes += outcome.bytes;
        match outcome.failure {
            None => self.fetched += 1,
            Some(_) => self.failed += 1,
        }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Total { fetched, failed, bytes, took } = self;
        write!(f, "{fetched} fetched, {failed} failed, {bytes} bytes in {:.3} s", took.as_secs_f64())
    }
}

/// A file that gets its name only once it is complete.
///
/// Dropped before that, by an error or because its task was killed, it is removed. Writing to it blocks the thread: a
/// disk is always "ready", so that there is nothing to park on.
struct PartFile<'a> {
    file: File,
    part: PathBuf,
    whole: &'a Path,
    kept: bool,
}

impl<'a> PartFile<'a> {
    fn create(whole: &'a Path) -> io::Result<PartFile<'a>> {
        let name = whole.file_name().expect("names::file_name gave it a name").to_string_lossy();
        let part = whole.with_file_name(format!(".{name}.{}.part", std::process::id()));
        Ok(PartFile { file: File::create(&part)?, part, whole, kept: false })
    }

    fn keep(mut self) -> io::Result<()> {
        fs::rename(&self.part, self.whole)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for PartFile<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // There is nobody left to tell: the failure that brought us here is being reported.
            let _ = fs::remove_file(&self.part);
        }
    }
}
