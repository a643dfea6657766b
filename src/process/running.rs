//! A child that was spawned: its number, whether it has ended, and how to wait for that.
//!
//! - **C1** Whether the child was reaped is known under the lock, and its number is used under the lock only, while it was
//!   not: to reap it, to kill it, to open the descriptor of its end. So a number that the system has given to another process is
//!   never meant. (The native threads of C3 merely look.)
//! - **C2** The descriptor tells each hub that asked, once, and stays readable. Who is told tries to reap, and wakes the next who
//!   waits on the same hub.
//! - **C3** Where there is no such descriptor it is the reading end of a pipe, and a native thread that looks for the end, without
//!   reaping, writes to the other. Where there is no descriptor left at all, the native thread does alone.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::panic::RefUnwindSafe;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Instant;

use crate::clock;
use crate::hub::Tell;
use crate::io::{Awaitable, Awaited, Direction, Left, Pollable, Source, can_park};
use crate::lock::Lock;
use crate::offload::ThreadPool;
use crate::sys;
use crate::waiter::Waiter;

/// A child, as all its handles share it.
#[derive(Debug)]
pub(super) struct Running {
    id: u32,
    /// The process whose child it is: this one, unless it was forked since.
    parent: u32,
    /// Without its pipes. Knows whether it was reaped (C1).
    child: Lock<std::process::Child>,
    /// Readable once the child has ended; made when first needed.
    end: OnceLock<Source<OwnedFd>>,
}

/// The lock guards nothing that could be half changed.
impl RefUnwindSafe for Running {}

impl Running {
    pub(super) fn new(child: std::process::Child) -> Running {
        Running { id: child.id(), parent: std::process::id(), child: Lock::new(child), end: OnceLock::new() }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Whether it is a child of this very process.
    pub(super) fn is_ours(&self) -> bool {
        self.parent == std::process::id()
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        self.child.lock().kill()
    }

    /// The status, if it has ended.
    pub(super) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.child.lock().try_wait()
    }

    /// Parks until it has ended; `None` if the deadline came first.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.try_wait()? {
            return Ok(Some(status));
        }
        let end = match self.end() {
            Ok(Some(end)) => end,
            Ok(None) => return self.try_wait(),
            Err(error) => return self.wait_without_descriptor(deadline, error),
        };
        let reap = |_: &OwnedFd| self.try_wait()?.ok_or_else(|| io::ErrorKind::WouldBlock.into());
        match end.perform_until(Direction::Read, deadline, reap, |_| Left::Maybe) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => result.map(Some),
        }
    }

    #[cold]
    fn wait_without_descriptor(&self, deadline: Option<Instant>, error: io::Error) -> io::Result<Option<ExitStatus>> {
        if !can_park() {
            return Err(error);
        }
        let child = self.id;
        let mut job = watchers().try_spawn(move || sys::wait_for_end(child))?;
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(clock::now()));
            let ended = match left {
                None => job.join(),
                Some(left) => match job.join_timeout(left) {
                    Ok(ended) => ended,
                    Err(_running) => return self.try_wait(),
                },
            };
            ended.map_err(|never_ran| io::Error::other(never_ran.to_string()))?;
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            job = watchers().try_spawn(move || sys::wait_for_end(child))?;
        }
    }

    /// What is readable once the child has ended; `None` if it has been reaped, and there is no such descriptor.
    fn end(&self) -> io::Result<Option<&Source<OwnedFd>>> {
        if let Some(end) = self.end.get() {
            return Ok(Some(end));
        }
        let opened = {
            let mut child = self.child.lock();
            if child.try_wait()?.is_some() {
                return Ok(None);
            }
            pidfd(self.id)
        };
        let fd = match opened {
            Some(fd) => fd,
            None => told_by_thread(self.id)?,
        };
        // Another thread may have been quicker; then its own goes.
        Ok(Some(self.end.get_or_init(|| Source::new(fd))))
    }

    /// Has a native thread reap it when it ends; nobody else may be there to do so.
    pub(super) fn reap_later(self: &Arc<Running>) {
        if !self.is_ours() || !matches!(self.try_wait(), Ok(None)) {
            return;
        }
        let this = self.clone();
        // Without a thread it stays unreaped until this process ends.
        let _no_thread = watchers().try_spawn(move || {
            sys::wait_for_end(this.id);
            this.try_wait()
        });
    }
}

fn pidfd(child: u32) -> Option<OwnedFd> {
    /// The system has no such call, or forbids it.
    static MISSING: AtomicBool = AtomicBool::new(false);

    if MISSING.load(Ordering::Relaxed) {
        return None;
    }
    match sys::pidfd_open(child) {
        Ok(fd) => Some(fd),
        Err(error) => {
            if sys::is_refusal(&error) {
                MISSING.store(true, Ordering::Relaxed);
            }
            None
        }
    }
}

/// The reading end of a pipe, to which a native thread writes when the child has ended.
#[cold]
fn told_by_thread(child: u32) -> io::Result<OwnedFd> {
    let (reader, mut writer) = io::pipe()?;
    watchers().try_spawn(move || {
        sys::wait_for_end(child);
        // A byte, for a forked process may have a duplicate of the writing end. If nobody reads any more, nobody is told.
        let _nobody = writer.write_all(&[0]);
    })?;
    Ok(reader.into())
}

/// The native threads that look for the ends of children: one for each of those, so many at once.
fn watchers() -> &'static ThreadPool {
    static POOL: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::named(MOST_WATCHERS, "greenroom-child"));
    &POOL
}

const MOST_WATCHERS: usize = 4096;

impl Pollable for Running {
    fn awaited(&self) -> Awaited<'_> {
        match self.end() {
            Ok(Some(end)) => Awaited(end),
            // It has ended; or it cannot be waited for so, and the call that comes next will do better.
            Ok(None) | Err(_) => Awaited(&Ended),
        }
    }
}

/// Always ready.
struct Ended;

impl Awaitable for Ended {
    fn is_ready(&self, _: Direction) -> bool {
        true
    }

    fn while_awaited(&self, _: Direction, _: Waiter, _: &mut dyn FnMut()) -> io::Result<bool> {
        Ok(false)
    }

    fn watch(&self, _: Direction, ready: &Tell) -> Option<u64> {
        ready();
        None
    }

    fn unwatch(&self, _: Direction, _: u64) {}
}
