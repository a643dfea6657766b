//! Bodies are native threads, which have no hub and get none.

#[path = "../support/threads.rs"]
mod mode;

pub(crate) use std::sync::mpsc::channel;
pub(crate) use std::thread::yield_now as give_way;

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
