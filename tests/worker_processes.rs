//! Drives the example `worker_processes`: no job is lost or done twice, the counter is exact, who dies is replaced, and nobody is
//! left behind.
//!
//! `cargo test` builds the example; `cargo test --test worker_processes` alone does not, and then finds the last one built.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const BELOW: usize = 200_000;

/// The program as it runs, and what it has printed so far.
struct Run {
    program: Child,
    stdout: BufReader<ChildStdout>,
    lines: Vec<String>,
}

/// How the program ended.
struct Ended {
    code: Option<i32>,
    lines: Vec<String>,
    stderr: String,
}

fn start(arguments: &[&str]) -> Run {
    let here = std::env::current_exe().expect("a test knows its path");
    let profile = here.parent().and_then(Path::parent).expect("it lies in target/<profile>/deps");
    let mut command = Command::new(profile.join("examples/worker_processes"));
    command.args(arguments).env("RUST_BACKTRACE", "0");
    let mut program = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(program.stdout.take().expect("it is piped"));
    Run { program, stdout, lines: Vec::new() }
}

/// Runs it to its end.
fn run(arguments: &[&str]) -> Ended {
    start(arguments).finish()
}

impl Run {
    /// Reads on until a line is the right one, and gives it.
    #[track_caller]
    fn until(&mut self, is_it: impl Fn(&str) -> bool) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "the program has ended: {:#?}", self.lines);
            let line = line.trim_end().to_owned();
            self.lines.push(line.clone());
            if is_it(&line) {
                return line;
            }
        }
    }

    /// Reads on until a worker has begun to hang, and gives the number of its process.
    #[track_caller]
    fn hung(&mut self, job: u32) -> u32 {
        let line = self.until(|line| line.ends_with(&format!(" hangs in job {job}")));
        number_in(&line, "process ", " hangs").unwrap()
    }

    /// The processes that came as that worker, the last one last.
    fn processes_of(&self, worker: u32) -> Vec<u32> {
        let head = format!("worker {worker} is process ");
        self.lines.iter().filter_map(|line| line.strip_prefix(&head)).map(|pid| pid.parse().unwrap()).collect()
    }

    fn finish(mut self) -> Ended {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        self.lines.extend(rest.lines().map(str::to_owned));
        let mut stderr = String::new();
        self.program.stderr.take().expect("it is piped").read_to_string(&mut stderr).unwrap();
        let code = self.program.wait().unwrap().code();
        let ended = Ended { code, lines: self.lines, stderr };
        for process in ended.processes() {
            assert_eq!(state(process), None, "process {process} is left of {:#?}", ended.lines);
        }
        ended
    }
}

impl Ended {
    /// What follows a head, of the only line that has it.
    #[track_caller]
    fn says(&self, head: &str) -> &str {
        let mut found = self.lines.iter().filter_map(|line| line.strip_prefix(head));
        match (found.next(), found.next()) {
            (Some(line), None) => line,
            _ => panic!("not one line with {head:?} in {:#?}{}", self.lines, self.stderr),
        }
    }

    /// The numbers on such a line.
    #[track_caller]
    fn numbers(&self, head: &str) -> Vec<usize> {
        self.says(head).split_whitespace().map(|word| word.parse().unwrap_or(usize::MAX)).collect()
    }

    /// All workers that there ever were.
    fn processes(&self) -> BTreeSet<u32> {
        let pids = self.lines.iter().filter(|line| line.starts_with("worker "));
        pids.filter_map(|line| line.split_once(" is process ")).map(|(_, pid)| pid.parse().unwrap()).collect()
    }

    fn deaths(&self) -> usize {
        self.lines.iter().filter(|line| line.contains(") has died ")).count()
    }

    /// All went well, but for the jobs in `failed`; so many workers have died, each was replaced.
    #[track_caller]
    fn is_complete(&self, workers: usize, jobs: usize, died: usize, failed: &[usize]) {
        assert_eq!(self.code, Some(0), "{:#?}{}", self.lines, self.stderr);
        let is_good = |job: usize| !failed.contains(&job);
        let pieces: Vec<usize> = (1..=jobs)
            .map(|job| if is_good(job) { primes(BELOW * (job - 1) / jobs, BELOW * job / jobs) } else { usize::MAX })
            .collect();
        assert!(self.numbers("map: ") == pieces, "{:#?}", self.lines);

        let mut ended = self.numbers("imap_unordered: ");
        ended.sort_unstable();
        assert!(ended.into_iter().eq(jobs + 1..=2 * jobs), "{:#?}", self.lines);

        let done = (2 * jobs + 1..=3 * jobs).filter(|&job| is_good(job)).count();
        assert_eq!(self.says("apply_async: "), format!("{done} done, {} failed", jobs - done));
        assert_eq!(self.says("counter: "), done.to_string());
        assert_eq!(self.says("workers: "), format!("{workers}, and {died} in place of those that died"));
        assert_eq!((self.deaths(), self.processes().len()), (died, workers + died), "{:#?}", self.lines);
    }
}

/// The number between two words of a line.
fn number_in(line: &str, before: &str, after: &str) -> Option<u32> {
    line.split_once(before)?.1.split_once(after)?.0.parse().ok()
}

/// The state of a worker's process (`Z`: it has ended, and nobody has waited for it); none when it is gone.
fn state(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Between parentheses, cut off by the kernel. Another program may have the number by now.
    let (name, rest) = stat.rsplit_once(") ")?;
    name.contains("(worker_process").then(|| rest.chars().next()).flatten()
}

fn primes(from: usize, to: usize) -> usize {
    (from.max(2)..to).filter(|&n| (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))).count()
}

fn kill(process: u32, signal: i32) {
    // SAFETY: the numbers of workers and programs that were not yet waited for.
    assert_eq!(unsafe { libc::kill(process as i32, signal) }, 0);
}

#[test]
fn all_results_come_and_those_of_map_in_order() {
    for workers in [1, 3] {
        let ended = run(&["--workers", &workers.to_string(), "--jobs", "40"]);
        ended.is_complete(workers, 40, 0, &[]);
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn the_counter_is_exact_however_many_count() {
    run(&["--workers", "8", "--jobs", "2000", "--crash-every", "250"]).is_complete(8, 2000, 24, &[]);
}

#[test]
fn without_jobs_the_workers_come_and_go() {
    run(&["--workers", "5", "--jobs", "0"]).is_complete(5, 0, 0, &[]);
}

#[test]
fn a_worker_that_dies_is_replaced_and_its_job_tried_again() {
    let ended = run(&["--workers", "3", "--jobs", "30", "--crash-every", "4"]);
    ended.is_complete(3, 30, 22, &[]);
    // One that dies in every job has a successor for every job.
    run(&["--workers", "2", "--jobs", "10", "--crash-every", "1"]).is_complete(2, 10, 30, &[]);
}

#[test]
fn a_poisonous_job_fails_and_the_others_are_done() {
    for (job, way) in [(4, "map"), (15, "imap_unordered"), (26, "apply_async")] {
        // With one worker, it stands in the way of all that come after it.
        for workers in [1, 3] {
            let job = job.to_string();
            let ended = run(&["--workers", &workers.to_string(), "--jobs", "10", "--tries", "4", "--poison", &job]);
            ended.is_complete(workers, 10, 4, &[job.parse().unwrap()]);
            let why = ended.says(&format!("job {job} has failed: "));
            assert_eq!(why, "no worker has lived through it, in 4 tries", "{way}");
        }
    }
}

#[test]
fn a_panic_is_the_outcome_of_its_job_and_the_worker_lives() {
    let ended = run(&["--workers", "2", "--jobs", "10", "--panic", "25"]);
    ended.is_complete(2, 10, 0, &[25]);
    assert_eq!(ended.says("job 25 has failed: "), "it has panicked: job 25 is a bad one");
}

#[test]
fn a_worker_that_is_killed_with_the_lock_leaves_neither_lock_nor_change() {
    // In each of the three ways; in the last the others wait for the lock meanwhile.
    for job in [3, 13, 23] {
        let mut run = start(&["--workers", "3", "--jobs", "10", "--hang", &job.to_string()]);
        let hung = run.hung(job);
        kill(hung, libc::SIGKILL);
        let line = run.until(|line| line.ends_with("signal: 9 (SIGKILL)"));
        assert!(line.contains(&format!("(process {hung}) has died in job {job}, try 1;")), "{line}");
        run.finish().is_complete(3, 10, 1, &[]);
    }
}

#[test]
fn a_job_that_hangs_holds_up_nobody() {
    let mut run = start(&["--workers", "2", "--jobs", "20", "--hang", "21", "--verbose"]);
    let hung = run.hung(21);
    let is_done = |line: &&String| number_in(line, "job ", " gives").is_some_and(|job| job > 21);
    while run.lines.iter().filter(is_done).count() < 19 {
        run.until(|_| true);
    }
    kill(hung, libc::SIGKILL);
    let ended = run.finish();
    ended.is_complete(2, 20, 1, &[]);
    assert_eq!(ended.numbers("imap_unordered: ").last(), Some(&21));
}

#[test]
fn an_idle_worker_that_is_killed_is_replaced_too() {
    let mut run = start(&["--workers", "2", "--jobs", "1", "--hang", "1"]);
    let hung = run.hung(1);
    while run.processes_of(1).is_empty() || run.processes_of(2).is_empty() {
        run.until(|_| true);
    }
    let idle = if run.processes_of(1) == [hung] { 2 } else { 1 };
    kill(run.processes_of(idle)[0], libc::SIGKILL);
    let line = run.until(|line| line.ends_with("signal: 9 (SIGKILL)"));
    assert!(line.contains("has died without a job;"), "{line}");
    while run.processes_of(idle).len() < 2 {
        run.until(|_| true);
    }
    kill(hung, libc::SIGKILL);
    run.finish().is_complete(2, 1, 2, &[]);
}

#[test]
fn a_signal_ends_the_program_and_its_workers() {
    for (signal, job) in [(libc::SIGINT, 2), (libc::SIGTERM, 12), (libc::SIGINT, 22)] {
        let mut run = start(&["--workers", "4", "--jobs", "10", "--hang", &job.to_string()]);
        let hung = run.hung(job);
        assert!(state(hung).is_some());
        kill(run.program.id(), signal);
        let ended = run.finish();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(128 + signal), ""), "{:#?}", ended.lines);
        assert!(ended.processes().contains(&hung));
    }
}

#[test]
fn workers_whose_program_is_killed_go_by_themselves() {
    // With no job in their hands.
    let mut run = start(&["--workers", "3", "--jobs", "1", "--hang", "1"]);
    let hung = run.hung(1);
    while (1..=3).any(|worker| run.processes_of(worker).is_empty()) {
        run.until(|_| true);
    }
    let idle: Vec<u32> = (1..=3).flat_map(|worker| run.processes_of(worker)).filter(|&pid| pid != hung).collect();
    assert_eq!(idle.len(), 2);
    run.program.kill().unwrap();
    run.program.wait().unwrap();
    let begun = Instant::now();
    // They are now the children of another, who may or may not wait for them.
    while idle.iter().any(|&process| state(process).is_some_and(|state| state != 'Z')) {
        assert!(begun.elapsed() < Duration::from_secs(60), "they stay");
        thread::yield_now();
    }
    // This one sleeps for good, as it was asked to.
    kill(hung, libc::SIGKILL);
}

#[test]
fn wrong_arguments_are_explained() {
    for wrong in [["--workers", "0"], ["--workers", "many"], ["--tries", "0"], ["--crash-every", "0"], ["--what", "1"]]
    {
        let ended = run(&wrong);
        assert_eq!(ended.code, Some(2), "{wrong:?}");
        assert!(ended.stderr.starts_with("error: ") && ended.lines.is_empty(), "{}", ended.stderr);
    }
    // Run by hand, a worker finds no pipe.
    let ended = run(&["--worker"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
}
