//! Bodies are tasks of one hub: whatever waits must let the others run.

#[path = "../support/tasks.rs"]
mod mode;

pub(crate) use crate::channel::channel;
pub(crate) use greenroom::yield_now as give_way;

pub(crate) use mode::go;

#[path = "barrier.rs"]
mod barrier;
#[path = "condvar.rs"]
mod condvar;
#[path = "lazy_lock.rs"]
mod lazy_lock;
#[path = "mutex.rs"]
mod mutex;
#[path = "once.rs"]
mod once;
#[path = "once_lock.rs"]
mod once_lock;
#[path = "rwlock.rs"]
mod rwlock;
