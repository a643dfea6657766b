//! What the system offers and std does not: forking.

use std::io;

use crate::hub::Hub;

/// In which of the two processes a [`fork`] has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// In the one that called it: the child's process number.
    Parent(i32),
    /// In the new one.
    Child,
}

/// Copies the process, as fork(2) does. The child has one task: the one that called.
///
/// In the child nothing of the other tasks runs, neither their code nor their destructors; their handles say that they were killed.
/// The hub has a poller of its own, with none of the parent's registrations: sockets that came along, and new ones, are used as ever.
/// A [`timeout`](crate::timeout()) around the call goes on in both.
///
/// The child ends with the task that called, as a process ends with `main`: with 0 if it returns, with 101 if it panics. Called on the
/// root, it goes on to the end of `main`.
///
/// # Switching
///
/// Never.
///
/// # Panics
///
/// Inside the panic hook.
///
/// # Errors
///
/// fork(2)'s, and those of making a poller. There is no child then.
///
/// # Safety
///
/// As fork(2) in a process with other threads: these are not in the child, and what they held or changed at that moment stays as it
/// was. Until it calls `exec` or ends, the child must not use what other threads may have held, or waited for: locks, the allocator of
/// a C library that does not care for forks, objects of [`sync`](crate::sync) and [`queue`](crate::queue) that other threads use. In
/// a process with no other thread (the greenroom way), there is nothing to mind. What other *tasks* held, they hold for ever.
///
/// Both processes have the same descriptors, buffered output that was not flushed, and random seeds.
///
/// # Examples
///
/// ```
/// use greenroom::os::{Fork, fork};
///
/// // SAFETY: the child only ends.
/// match unsafe { fork() }? {
///     Fork::Child => std::process::exit(0),
///     Fork::Parent(pid) => assert!(pid > 0),
/// }
/// # std::io::Result::Ok(())
/// ```
pub unsafe fn fork() -> io::Result<Fork> {
    // SAFETY: passed on to the caller.
    let pid = unsafe { Hub::try_here()?.fork() }?;
    Ok(pid.map_or(Fork::Child, Fork::Parent))
}
