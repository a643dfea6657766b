//! The signal handler, and who stands behind it.
//!
//! signal-hook's handler calls what is registered for its signal, in the order of registration, on whatever thread and in the midst of
//! whatever runs there. What we register obeys signal-safety(7): getpid(2), write(2) of one byte that does not wait, and atomic
//! loads. It neither allocates nor locks, and touches no thread-local but `errno`, which signal-hook restores.
//!
//! - **A1** A registration writes only in the process that it was made in: the pipe of a forked child is its parent's.
//! - **A2** While no registration of this process lives, the default action is done from the handler, for signals that had it when the
//!   first registration came. signal-hook never takes its own handler away.

use std::io::{self, PipeWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use signal_hook::SigId;
use signal_hook::consts::{FORBIDDEN, SIGBUS};
use signal_hook::low_level::{emulate_default_handler, register, unregister};

use crate::lock::Slow;
use crate::sys;

/// Has a byte with the number of a signal written for each delivery, until it is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    id: SigId,
    signal: usize,
    process: u32,
}

/// For each signal how many registrations live, in the lower half, and in which process, in the upper half.
static LIVE: [AtomicU64; 1 + GREATEST] = [const { AtomicU64::new(0) }; 1 + GREATEST];

/// Signals that we have put a handler for the default action behind. Locked while `LIVE` is changed.
static SETTLED: Slow<[bool; 1 + GREATEST]> = Slow::new([false; 1 + GREATEST]);

/// No system has more signals, and they fit into a byte.
const GREATEST: usize = 128;

impl Registration {
    pub(super) fn new(signal: i32, writer: Arc<PipeWriter>) -> io::Result<Registration> {
        let place = usize::try_from(signal).ok().filter(|place| (1..=GREATEST).contains(place));
        let (Some(place), Ok(byte)) = (place, u8::try_from(signal)) else {
            return Err(refused(signal, "is no signal"));
        };
        if FORBIDDEN.contains(&signal) || signal == SIGBUS {
            return Err(refused(signal, "cannot be listened for"));
        }

        let mut settled = SETTLED.lock();
        let had_default = sys::has_default_action(signal)?;
        let process = std::process::id();
        let deliver = move || {
            // A1. A pipe that is full has enough to tell.
            if std::process::id() == process {
                let _full = (&*writer).write(&[byte]);
            }
        };
        // SAFETY: it calls getpid and write only. The writer is dropped by `unregister`, on a thread that drops a registration.
        let id = unsafe { register(signal, deliver) }?;
        LIVE[place].store(with(process, live(place, process) + 1), Ordering::Relaxed);
        let registration = Registration { id, signal: place, process };

        if !settled[place] {
            settled[place] = true;
            if had_default {
                let act_as_default = move || {
                    if live(place, std::process::id()) == 0 {
                        // There is nothing to be done about a signal whose default action is not known.
                        let _unknown = emulate_default_handler(signal);
                    }
                };
                // The first registration is not yet known to anybody: it goes, should this one fail.
                let unlock_first = |error| {
                    settled[place] = false;
                    error
                };
                // SAFETY: it loads an atomic, and calls getpid and what signal-hook says may be called in a handler.
                let result = unsafe { register(signal, act_as_default) }.map_err(unlock_first);
                drop(settled);
                result?;
            }
        }
        Ok(registration)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        unregister(self.id);
        let _settled = SETTLED.lock();
        // In a forked child it was not counted.
        if self.process == std::process::id() {
            let left = live(self.signal, self.process).saturating_sub(1);
            LIVE[self.signal].store(with(self.process, left), Ordering::Relaxed);
        }
    }
}

/// How many registrations of this process there are for a signal.
fn live(signal: usize, process: u32) -> u32 {
    let word = LIVE[signal].load(Ordering::Relaxed);
    if (word >> 32) as u32 == process { word as u32 } else { 0 }
}

fn with(process: u32, live: u32) -> u64 {
    u64::from(process) << 32 | u64::from(live)
}

fn refused(signal: i32, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{signal} {why}"))
}
