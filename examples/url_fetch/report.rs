//! What the user sees: a line for each URL on standard output, and a bar below them where there is a terminal.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::fetch::{Job, Outcome};

/// Prints as things happen.
pub(crate) struct Report {
    /// Draws on standard error; where that is no terminal, it stays hidden by itself.
    bar: ProgressBar,
    received: Cell<u64>,
    /// Standard output is gone (`| head`): what was asked for is still fetched.
    closed: Cell<bool>,
}

impl Report {
    pub(crate) fn new(urls: usize) -> Report {
        let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {pos} of {len} URLs, {msg}")
            .expect("the template is well-formed")
            .progress_chars("=> ");
        let bar = ProgressBar::new(urls as u64).with_style(style).with_message("0 B");
        Report { bar, received: Cell::new(0), closed: Cell::new(false) }
    }

    /// Notes that more of some body has come.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
        if !self.bar.is_hidden() {
            self.bar.set_message(HumanBytes(self.received.get()).to_string());
        }
    }

    /// Prints what came of one URL.
    pub(crate) fn outcome(&self, job: &Job, outcome: &Outcome) {
        let status = outcome.status.map_or_else(|| "failed".to_owned(), |status| status.to_string());
        let millis = outcome.took.as_secs_f64() * 1000.0;
        let moved = outcome.moved_to.as_ref().map(|to| format!(" -> {to}")).unwrap_or_default();
        let failure = outcome.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
        self.line(format_args!("{status:6} {:>10} B {millis:>9.1} ms  {}{moved}{failure}", outcome.bytes, job.url));
        self.bar.inc(1);
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, line: fmt::Arguments<'_>) {
        if self.closed.get() {
            return;
        }
        let printed = self.bar.suspend(|| writeln!(io::stdout(), "{line}"));
        self.closed.set(printed.is_err());
    }

    /// Takes the bar away.
    ///
    /// Not in a destructor: Ctrl-C unwinds the tasks, and indicatif draws nothing while a thread unwinds.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
