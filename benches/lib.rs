//! Shared by the benches: bare stacks, CPU clocks, and how much to run.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

use corosensei::stack::{Stack, StackPointer};

/// Bytes of each bare stack: as many as greenroom's have by default.
pub const BARE_STACK: usize = 256 * 1024;

/// Stacks side by side in one mapping: no guards, no colours, all at the same offset of a page. Never unmapped.
#[derive(Debug)]
pub struct BareStacks {
    next: usize,
    end: usize,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct BareStack {
    base: StackPointer,
    limit: StackPointer,
}

impl BareStacks {
    /// Maps `count` stacks.
    pub fn new(count: usize) -> BareStacks {
        let len = count * BARE_STACK;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping touches nothing that is there.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "no room for {count} stacks");
        // SAFETY: the range was just mapped. Huge pages would measure something else at each run.
        unsafe { libc::madvise(start, len, libc::MADV_NOHUGEPAGE) };
        BareStacks { next: start.addr(), end: start.addr() + len }
    }
}

impl Iterator for BareStacks {
    type Item = BareStack;

    fn next(&mut self) -> Option<BareStack> {
        if self.next == self.end {
            return None;
        }
        let limit = StackPointer::new(self.next)?;
        self.next += BARE_STACK;
        Some(BareStack { base: NonZeroUsize::new(self.next)?, limit })
    }
}

// SAFETY: base and limit bound a mapping that is never unmapped. There is no guard page: what the benches run on these
// stacks needs a few hundred bytes.
unsafe impl Stack for BareStack {
    #[inline]
    fn base(&self) -> StackPointer {
        self.base
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        self.limit
    }
}

/// CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The CPU clock of the calling thread, to be read from another one by [`read_clock`] while this one lives.
pub fn clock_of_this_thread() -> libc::clockid_t {
    let mut clock = 0;
    // SAFETY: the calling thread lives, and `clock` is written.
    let error = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
    assert_eq!(error, 0, "every thread has a CPU clock");
    clock
}

/// Reads a clock.
pub fn read_clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is written.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "the thread of this clock lives");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resident bytes of the process.
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has a /proc");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number");
    pages * 4096
}

/// Whether a bench without criterion should only show that it works: run by `cargo test`, or with `--test`.
pub fn is_trial() -> bool {
    has_flag("--test") || !has_flag("--bench")
}

/// Whether fewer rounds will do.
pub fn is_quick() -> bool {
    has_flag("--quick")
}

fn has_flag(flag: &str) -> bool {
    std::env::args().any(|arg| arg == flag)
}

/// Runs `rounds` of `per_round` operations each, at least `iters` operations in all, and gives the time of `iters`.
///
/// For criterion's `iter_custom`, so that its rows show the time of one operation whatever the round's size.
pub fn scaled(iters: u64, per_round: u64, run: impl FnOnce(u64) -> Duration) -> Duration {
    let rounds = iters.div_ceil(per_round);
    run(rounds).mul_f64(iters as f64 / (rounds * per_round) as f64)
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The smallest value.
pub fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// epoll, as bare as std leaves it: level-triggered, readable only.
#[derive(Debug)]
pub struct Epoll(RawFd);

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Epoll(fd)) }
    }

    /// Adds a descriptor, whose events bear `data`.
    pub fn add(&self, fd: RawFd, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: data };
        // SAFETY: `event` is read.
        let result = unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Room for the events of one wait.
    pub fn room() -> Vec<libc::epoll_event> {
        vec![libc::epoll_event { events: 0, u64: 0 }; 1024]
    }

    /// Waits until something is readable.
    pub fn wait<'a>(&self, events: &'a mut [libc::epoll_event]) -> io::Result<&'a [libc::epoll_event]> {
        // SAFETY: the kernel writes no more than `events` holds.
        let count = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), events.len() as i32, -1) };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(&events[..count as usize]) }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // SAFETY: closed once, here.
        unsafe { libc::close(self.0) };
    }
}
