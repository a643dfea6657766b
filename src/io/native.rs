//! The native threads behind files: which wait can be cancelled, and what becomes of a job whose caller is gone.
//!
//! A job owns all that it touches: paths, buffers, a share of the open file. So nothing that happens to the caller's stack can
//! reach it; the price is one copy of the bytes, small beside the way to another thread and back (some 10 µs against 1 µs for
//! 10 KiB). Jobs that wrote into the caller's buffer would need a wait that no unwind and no leak can end.
//!
//! - **F1** What moves bytes, a position or an attribute of an open file is [`held`]: a kill comes after it. Such calls end by
//!   themselves, and a read that was cancelled half-way would have lost its bytes.
//!   They and what else asks the disk have a pool of their own ([`files`]): in the line of the default pool they, and their kills,
//!   would come after whatever the program gives to that.
//! - **F2** What may wait for others, for ever, runs in another pool ([`waits`]): opening fifos and devices, locks. It is
//!   cancelled at once, and what it gets after that is given back.

#![forbid(unsafe_code)]

use std::sync::LazyLock;

use crate::hub::Hub;
use crate::offload::ThreadPool;
use crate::time::shield;

/// Runs `f` on a native thread. Killed, the caller leaves at once, and `f` goes on.
pub(crate) fn native<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    files().apply_or_run(f)
}

/// Runs `f` on a native thread, and holds kills and timeouts back until it is done (F1); what was pending before is raised first.
pub(crate) fn held<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    if !can_park() {
        return f();
    }
    // A loop of such calls would otherwise never come to a point where it can be cancelled, nor give way if each is done before
    // the caller has looked.
    let hub = Hub::here();
    hub.charge();
    let task = hub.current();
    if task.attention.get() {
        hub.attend(&task);
    }
    shield(|| files().apply_or_run(f))
}

/// The pool for jobs that wait for a disk (F1).
fn files() -> &'static ThreadPool {
    static POOL: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::named(MOST_FILES, "greenroom-files"));
    &POOL
}

/// So many jobs are with the disks at once; more stand in line.
const MOST_FILES: usize = 16;

/// The pool for jobs that wait for other processes (F2). A thread is started for each, and goes when there has been no use for it.
pub(crate) fn waits() -> &'static ThreadPool {
    static POOL: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::named(MOST_WAITS, "greenroom-waits"));
    &POOL
}

/// So many may wait at once; more stand in line.
const MOST_WAITS: usize = 4096;

/// Whether the caller can leave the thread to others meanwhile. Not in a panic hook, nor where there can be no hub.
pub(crate) fn can_park() -> bool {
    Hub::can_park() && Hub::try_here().is_ok()
}
