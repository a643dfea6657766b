//! Reports: who is running when a stack overflows, and who waits for what when nothing can go on.

use std::fmt::Write as _;

use super::Hub;
use super::header::Header;
use crate::clock;
use crate::stack::overflow;

impl Hub {
    /// Panics in the root with a list of every task (rule 7).
    pub(super) fn report_deadlock(&self) -> ! {
        let report = self.deadlock_report();
        self.root.wait.settle();
        panic!("{report}");
    }

    fn deadlock_report(&self) -> String {
        let tasks = self.tasks();
        let mut report = String::from(
            "deadlock: the root waits, and no task, timer, descriptor, native thread or handle is left that could wake it",
        );
        let root: &Header = &self.root;
        let headers = std::iter::once(root).chain(tasks.iter().map(|task| task.header()));
        for header in headers {
            self.describe(header, &mut report);
        }
        report
    }

    fn describe(&self, header: &Header, out: &mut String) {
        let waited = clock::now().saturating_duration_since(header.since.get());
        out.push_str("\n  ");
        let _infallible = header.write_name(out);
        if !header.is_root() {
            // The number too where there is a name: who waits for the task's end names it by that.
            if out.ends_with('\'') {
                let _infallible = write!(out, " (#{})", header.id);
            }
            let _infallible = write!(out, ", spawned at {}", header.spawned_at);
        }
        let _infallible = write!(out, ", waits for {}, for {waited:.1?}", header.reason.get());
    }
}

/// Tells the overflow handler who is running. Called from a signal handler: allocates nothing, locks nothing.
pub(super) fn describe_current(report: &mut overflow::Report<'_>) {
    let Some(hub) = Hub::get() else { return };
    let header = hub.current();
    // The root's own stack is none of ours.
    report.write_str(if header.is_root() { "a generator or greenlet of task " } else { "task " });
    let _nowhere_to_report = header.write_name(report);
    if !header.is_root() {
        let _nowhere_to_report = write!(
            report,
            " (spawned at {}:{}:{})",
            header.spawned_at.file(),
            header.spawned_at.line(),
            header.spawned_at.column()
        );
    }
}
