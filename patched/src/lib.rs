//! What the tests of patched programs share: a turn for each, calls that overlap, and the servers they are made to.
//!
//! With the feature `control` nothing is patched and each task is a native thread: the tests and the servers prove
//! themselves that way, before they prove anything else.
//!
//! That calls overlapped is proven without looking at a clock wherever it can be: the server, or a [`Relay`] in front of
//! it, answers nobody before all have asked. Callers that took turns would wait for ever.

mod bad_days;
mod http;
mod programs;
mod relay;

pub use bad_days::bad_days;
pub use http::{Certificate, HttpServer};
pub use programs::{Program, ftp, mariadb, memcached, mosquitto, postgres, redis, smtp};
pub use relay::Relay;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A millisecond.
pub const MS: Duration = Duration::from_millis(1);
/// How long a test may take before it counts as hanging.
const HANGING: Duration = Duration::from_secs(120);
/// As much as std gives a thread: what nobody here wrote expects no less.
const STACK: usize = 2 << 20;

/// Patches the program.
pub fn patch() {
    #[cfg(not(feature = "control"))]
    // SAFETY: what is not `Send` stays with the task that made it: `go` asks for that.
    unsafe {
        greenroom::monkey::patch_all();
    }
}

/// Makes threads that start from now on tasks, in the whole process and for good.
pub fn patch_threads() {
    #[cfg(not(feature = "control"))]
    // SAFETY: as in `patch`.
    unsafe {
        greenroom::monkey::patch(greenroom::monkey::Areas::ALL | greenroom::monkey::Areas::THREAD);
    }
}

/// Runs a test: `start` starts its servers on this thread, which has no hub, and `body` runs on a thread and hub of its own.
///
/// One at a time in a process, so that the threads and the CPU time of the process are those of the test. A test that hangs
/// fails, and leaves its thread behind; its servers end with the thread that started them, this one.
#[track_caller]
pub fn check<S: Send + Sync + 'static>(start: impl FnOnce() -> S, body: impl FnOnce(&S) + Send + 'static) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    static LIMITS: Once = Once::new();
    LIMITS.call_once(raise_limits);
    harness();
    let servers = Arc::new(start());
    patch();

    let (tell, told) = channel();
    let shared = servers.clone();
    let run = move || {
        body(&shared);
        drop(shared);
        // Some that crates have started end in a while.
        until("no task is left", || greenroom::testing::live_tasks() == 0);
        let _ = tell.send(());
    };
    // Threads that it starts are told from the harness's by their name, which is this one unless they get another.
    let thread = thread::Builder::new().name("body".to_owned()).spawn(run).expect("a thread");
    match told.recv_timeout(HANGING) {
        Err(RecvTimeoutError::Timeout) => panic!("the test hangs"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => thread.join().unwrap_or_else(|payload| resume_unwind(payload)),
    }
    drop(servers);
}

/// As many descriptors as the system lets a process have: some clients take four each.
fn raise_limits() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a place for the answer (getrlimit(2)).
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: a value that the call reads (setrlimit(2)).
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// A task, or with `control` a native thread.
#[derive(Debug)]
pub struct Going<T> {
    #[cfg(not(feature = "control"))]
    task: greenroom::JoinHandle<T>,
    #[cfg(feature = "control")]
    thread: thread::JoinHandle<T>,
}

/// Starts a task, or with `control` a native thread.
pub fn go<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Going<T> {
    #[cfg(not(feature = "control"))]
    let going = Going { task: greenroom::Builder::new().stack_size(STACK).spawn(body).expect("memory for a stack") };
    #[cfg(feature = "control")]
    let going = Going { thread: thread::Builder::new().stack_size(STACK).spawn(body).expect("memory for a stack") };
    going
}

impl<T> Going<T> {
    /// Waits for its end. Panics if it did.
    pub fn join(self) -> T {
        #[cfg(not(feature = "control"))]
        match self.task.join() {
            Ok(value) => value,
            Err(greenroom::JoinError::Panicked(payload)) => resume_unwind(payload),
            Err(error) => panic!("{error}"),
        }
        #[cfg(feature = "control")]
        self.thread.join().unwrap_or_else(|payload| resume_unwind(payload))
    }
}

/// What it took to make calls that overlap.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// From the first spawn to the last join.
    pub wall: Duration,
    /// Of the whole process, with the servers that are native threads of it.
    pub cpu: Duration,
    /// How many native threads there were at most, more than before. Without those of greenroom's own pools, for names and files.
    pub more_threads: usize,
    /// For how long its threads waited for a processor.
    pub queued: Duration,
    /// On how many native threads the bodies ran.
    pub ran_on: usize,
}

impl Stats {
    /// Checks that all bodies ran on one native thread, and that no more than `others` were started meanwhile, by the crate.
    #[track_caller]
    pub fn on_one_thread(&self, others: usize) -> &Stats {
        if cfg!(not(feature = "control")) {
            assert_eq!(self.ran_on, 1, "{self:?}");
            assert!(self.more_threads <= others, "{self:?}");
        }
        self
    }
}

/// Runs `body` for each number below `count`, all at once, and gives the results in order. Panics if one of them did.
pub fn overlap<T: Send + 'static>(count: usize, body: impl Fn(usize) -> T + Send + Sync + 'static) -> (Vec<T>, Stats) {
    let sampler = Sampler::start();
    let body = Arc::new(body);
    let (cpu, queued, begun) = (cpu_time(), queued_time(), Instant::now());
    let going: Vec<_> = (0..count)
        .map(|i| {
            let body = body.clone();
            go(move || (body(i), kernel_thread()))
        })
        .collect();
    let (results, threads): (Vec<T>, HashSet<i32>) = going.into_iter().map(Going::join).unzip();
    let (wall, cpu, queued) = (begun.elapsed(), cpu_time() - cpu, queued_time().saturating_sub(queued));
    (results, Stats { wall, cpu, queued, more_threads: sampler.stop(), ran_on: threads.len() })
}

/// Counts the native threads of the process, again and again.
struct Sampler {
    enough: Arc<AtomicBool>,
    thread: thread::JoinHandle<usize>,
}

impl Sampler {
    fn start() -> Sampler {
        let named = || threads().map(|(number, [name, _])| (number, name)).collect::<Vec<_>>();
        let before = named();
        let enough = Arc::new(AtomicBool::new(false));
        let seen = enough.clone();
        let sample = move || {
            // By the last names that were seen: a thread that has just begun has its parent's.
            let (mut names, mut samples) = (HashMap::<OsString, String>::new(), vec![before]);
            while !seen.load(Ordering::Relaxed) {
                samples.push(named());
                thread::sleep(5 * MS);
            }
            // One that has begun just now has its own name soon.
            thread::sleep(20 * MS);
            samples.iter().cloned().for_each(|sample| names.extend(sample));
            names.extend(named());
            let counted =
                |sample: &Vec<(OsString, String)>| sample.iter().filter(|(number, _)| counts(&names[number])).count();
            samples.iter().map(counted).max().unwrap_or(0).saturating_sub(counted(&samples[0]))
        };
        let thread = thread::Builder::new().name(SAMPLER.to_owned()).spawn(sample).expect("a thread");
        Sampler { enough, thread }
    }

    fn stop(self) -> usize {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only counts")
    }
}

/// Runs `body` for `3 * each` numbers at once: as tasks of this thread, as tasks of another, and on native threads.
pub fn everywhere(each: usize, body: impl Fn(usize) + Send + Sync + Clone + 'static) {
    let native: Vec<_> = (2 * each..3 * each)
        .map(|i| {
            let body = body.clone();
            thread::spawn(move || body(i))
        })
        .collect();
    let there = body.clone();
    let other_hub = thread::spawn(move || overlap(each, move |i| there(each + i)).1);
    overlap(each, body).1.on_one_thread(usize::MAX);
    let joined = native.into_iter().map(thread::JoinHandle::join).collect::<Result<Vec<()>, _>>();
    joined.unwrap_or_else(|payload| resume_unwind(payload));
    other_hub.join().unwrap_or_else(|payload| resume_unwind(payload)).on_one_thread(usize::MAX);
}

/// The command that runs this test alone, in a child process, where [`is_child`] is true.
pub fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("it has a path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, test);
    command
}

/// Whether this process is the child of that test.
pub fn is_child(test: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|child| child == test)
}

const CHILD: &str = "GREENROOM_CHILD";

/// How many native threads the process has, without those that count them and those of greenroom's pools.
pub fn native_threads() -> usize {
    threads().filter(|(_, [name, _])| counts(name)).count()
}

fn counts(name: &str) -> bool {
    let name = name.trim_end();
    name != SAMPLER && !name.starts_with("greenroom-") && !harness().iter().any(|of_harness| of_harness == name)
}

/// The names of threads that the harness may start or end meanwhile, for the other tests, as the kernel cuts them.
fn harness() -> &'static [String] {
    const LONGEST: usize = 15;
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let list = Command::new(std::env::current_exe().expect("it has a path")).arg("--list").output();
        let list = String::from_utf8(list.expect("it runs").stdout).expect("names are ASCII");
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
        // One that has just begun still has the name of the main thread.
        let main = std::fs::read_to_string("/proc/self/comm").expect("procfs is mounted");
        tests.map(|name| name.chars().take(LONGEST).collect()).chain([main.trim_end().to_owned()]).collect()
    })
}

/// How long the native threads that there are have waited for a processor, but for those that count them.
fn queued_time() -> Duration {
    let waited = threads().filter(|(_, [name, _])| name.trim_end() != SAMPLER);
    waited.filter_map(|(_, [_, times])| times.split(' ').nth(1)?.parse().ok()).map(Duration::from_nanos).sum()
}

/// The number, and the name and the `schedstat` of each native thread. One that has just ended is left out.
fn threads() -> impl Iterator<Item = (OsString, [String; 2])> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs is mounted");
    tasks.filter_map(|task| {
        let task = task.ok()?;
        let told = |file| std::fs::read_to_string(task.path().join(file)).ok();
        Some((task.file_name(), [told("comm")?, told("schedstat")?]))
    })
}

const SAMPLER: &str = "sampler";

/// The kernel's number for the native thread that this runs on.
pub fn kernel_thread() -> i32 {
    // SAFETY: no obligations (gettid(2)).
    unsafe { libc::gettid() }
}

/// The CPU time of the whole process.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer (clock_gettime(2)).
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Waits on a native thread until `true_now` is, and fails the test if that never comes.
#[track_caller]
pub fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !true_now() {
        assert!(begun.elapsed() < HANGING / 2, "never: {what}");
        thread::sleep(MS);
    }
}
