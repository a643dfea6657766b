//! What the tests of the rules share: a thread and a hub for each test, the baseline after it, and child processes.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Output};
use std::rc::Rc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const MS: Duration = Duration::from_millis(1);
/// Longer than any test takes: what waits for this long waits for ever.
pub(crate) const EVER: Duration = Duration::from_secs(3600);

/// Runs a test on a thread, and so a hub, of its own. Afterwards no task and no stack is left; a test that hangs fails.
#[track_caller]
pub(crate) fn check(body: impl FnOnce() + Send + 'static) {
    let (tell, told) = channel();
    let thread = thread::spawn(move || {
        body();
        assert_eq!(greenroom::testing::live_tasks(), 0, "tasks are left");
        assert_eq!(greenroom::testing::live_stacks(), 0, "stacks are left");
        tell.send(()).unwrap();
    });
    match told.recv_timeout(Duration::from_secs(120)) {
        Err(RecvTimeoutError::Timeout) => panic!("the test hangs"),
        // The thread's own destructors belong to the test.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => thread.join().unwrap_or_else(|payload| resume_unwind(payload)),
    }
}

/// Runs `body` in a child process that runs this test alone, and gives what came of it. `None` in the child.
pub(crate) fn in_child(test: &str, body: impl FnOnce()) -> Option<Output> {
    const KEY: &str = "GREENROOM_CHILD";
    if std::env::var(KEY).is_ok_and(|child| child == test) {
        body();
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--include-ignored"]).env(KEY, test);
    Some(command.output().unwrap())
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The message of the panic that `f` ends with.
#[track_caller]
pub(crate) fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it did not panic") };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast_ref::<&str>().expect("a panic with a message")).to_owned(),
    }
}

/// A log that tasks write to.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.borrow_mut().push(line.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// Adds a line to a log when dropped.
pub(crate) struct OnDrop(pub(crate) Log, pub(crate) &'static str);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

/// A number that tasks count up.
#[derive(Clone, Default)]
pub(crate) struct Count(Rc<Cell<u64>>);

impl Count {
    pub(crate) fn up(&self) {
        self.0.set(self.0.get() + 1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Says when `f` took too long. For what has a lower bound only by its own words: an hour, say.
#[track_caller]
pub(crate) fn soon<R>(f: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = f();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "took {took:?}");
    result
}

/// Tries a measurement a few times: other programs may have the processor, but not every time.
#[track_caller]
pub(crate) fn within(limit: Duration, mut measure: impl FnMut() -> Duration) {
    let mut best = Duration::MAX;
    for _ in 0..8 {
        best = best.min(measure());
        if best <= limit {
            return;
        }
    }
    panic!("{best:?} at best, and {limit:?} is the limit");
}

pub(crate) fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

/// Panics without a word on stderr.
pub(crate) fn fail<T>(text: &'static str) -> T {
    resume_unwind(Box::new(text))
}
