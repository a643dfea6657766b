//! What says when to look again at descriptors that poll(2) looks at: an epoll descriptor, for one wait at a time.
//!
//! A look knows numbers, the nest knows open files. So each wait tells it anew what to look at, one system call for each number: to
//! leave that out would miss a number that was closed and used again. It is kept for the next wait on this thread, which mostly has the
//! same descriptors. While nobody waits it is not in the hub's poller, so that what is left in it wakes nobody.
//!
//! Edges, for two reasons. What the look does not count (a hang-up, where urgent data is asked for; a file that had the
//! number before and lives on) would stay there as a level, and the wait would turn in circles. And edges that are
//! taken leave the list of what is ready empty, as `look.rs` wants it.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::process;
use std::sync::Arc;
use std::time::Instant;

use super::look::Bell;
use super::select::merge;
use crate::hub::Hub;
use crate::sys::{self, PollFd};
use crate::thread_block::on_root;
use crate::waiter::End;

pub(crate) struct Nest {
    fd: Arc<OwnedFd>,
    /// The numbers in it, in their order.
    known: Vec<RawFd>,
    /// Which version of what the caller looks at is in it; `None` when a call begins.
    filled: Option<u64>,
    /// The process that made it: a forked child shares the system's object, and must not change it.
    process: u32,
}

/// So many are kept on a thread.
const KEPT: usize = 4;

thread_local! {
    static NESTS: RefCell<Vec<Nest>> = const { RefCell::new(Vec::new()) };
}

impl Nest {
    /// One that was kept, or a new one.
    pub(crate) fn take() -> io::Result<Nest> {
        let process = process::id();
        loop {
            match on_root(|| NESTS.try_with(|nests| nests.borrow_mut().pop())).ok().flatten() {
                Some(nest) if nest.process == process => return Ok(nest),
                Some(_the_parents) => {}
                None => {
                    return Ok(Nest { fd: Arc::new(sys::nest_create()?), known: Vec::new(), filled: None, process });
                }
            }
        }
    }

    /// Keeps it for the next wait.
    pub(crate) fn keep(mut self) {
        self.filled = None;
        // Where the thread ends it is closed.
        let _ending = on_root(|| {
            NESTS.try_with(|nests| {
                let mut nests = nests.borrow_mut();
                if nests.len() < KEPT {
                    nests.push(self);
                }
            })
        });
    }

    /// For the bell of the wait.
    pub(super) fn fd(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    /// Parks until it is worth while to look at these again; `Ok(false)` if the deadline came first. Who retires the bell ends the wait.
    ///
    /// They are told to the nest once in a call, unless their version is another: as with poll(2), a wait is for what was open
    /// when it began. What is there at that moment, and does not count for the look, is then not seen again.
    pub(super) fn wait(
        &mut self,
        bell: &Bell,
        entries: &[PollFd],
        version: u64,
        deadline: Option<Instant>,
    ) -> io::Result<bool> {
        if self.filled != Some(version) {
            match Hub::held(|| self.fill(entries)) {
                // A descriptor that is not open is news.
                Err(error) if sys::is_bad_descriptor(&error) => return Ok(true),
                filled => filled?,
            }
            self.filled = Some(version);
        }
        if Hub::held(|| sys::nest_drain(self.fd.as_fd()))? {
            return Ok(true);
        }
        match bell.wait(deadline, End::Back) {
            Err(error) if sys::is_bad_descriptor(&error) => Ok(true),
            result => result,
        }
    }

    /// As [`wait`](Self::wait), where nobody retires the bell and the entries stay the same from the taking to the keeping.
    #[cfg(feature = "monkey")]
    pub(crate) fn wait_alone(&mut self, entries: &[PollFd], deadline: Option<Instant>) -> io::Result<bool> {
        let bell = Bell::new(self.fd());
        self.wait(&bell, entries, 0, deadline)
    }

    /// Has it look at these, and no others.
    fn fill(&mut self, entries: &[PollFd]) -> io::Result<()> {
        let wanted = merge(entries);
        let nest = self.fd.as_fd();
        let known = std::mem::take(&mut self.known);
        for &fd in &known {
            if wanted.binary_search_by_key(&fd, |entry| entry.fd).is_err() {
                sys::nest_unset(nest, fd);
            }
        }
        // On failure too: what is known and not there costs a call more, what is there and not known stays.
        self.known = wanted.iter().map(|entry| entry.fd).collect();
        for entry in &wanted {
            let is_known = known.binary_search(&entry.fd).is_ok();
            sys::nest_set(nest, entry.fd, sys::poll_wanted(entry), is_known)?;
        }
        Ok(())
    }
}
