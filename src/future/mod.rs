//! Futures: waiting for one in plain blocking code, and being one for async code.
//!
//! [`block_on`] runs a future in the calling task and parks only that task while the future waits. Nothing else is needed for
//! what only computes, or is woken by others: channels, locks, timers that an async runtime drives on a thread of its own.
//! There is no reactor here for the sockets of such a runtime; a future that wants one is to be polled inside it.
//!
//! | from | to | by |
//! | --- | --- | --- |
//! | a greenroom task | something async | [`block_on`] |
//! | a greenroom task | a task of an async runtime | `block_on(handle_of_the_runtime.spawn(…))` |
//! | async code on another thread | a greenroom hub | [`HubHandle::spawn`](crate::HubHandle::spawn), whose handle is a [`Future`] |
//! | async code on this thread | a greenroom task | [`JoinHandle`](crate::JoinHandle), which is a [`Future`] |
//! | async code | values of a [`Generator`](crate::generator::Generator), or of a [`Receiver`](crate::sync::mpsc::Receiver) | both are a [`Stream`] |
//!
//! # Wakers
//!
//! A waker of [`block_on`] may be cloned, sent to any thread, kept for as long as one likes and called from anywhere: in the
//! midst of the poll, between the poll and the park, twice, or when all is over. A wake-up that comes too late does nothing:
//! it ends no other wait of the task, and it is no [`unpark`](crate::Task::unpark).
//!
//! Wakers of others that are called here (by the end of a task, or by an item that is sent) are called once nothing is locked, and
//! may not wait: a call that would panics. A panic in one is reported by the panic hook and ends there.
//!
//! # Deadlocks
//!
//! As long as a clone of the waker exists, somebody may call it, and a root that waits is not reported as deadlocked, unless
//! this is the only thread: then it would have to call itself. When the last clone is gone and the future was not woken, nothing
//! can wake it any more. A clone that a [`JoinHandle`](crate::JoinHandle) of the same thread was given directly does not count:
//! the hub knows whether that task can still end.

use std::future::IntoFuture;
use std::pin::pin;
use std::task::{Context, Poll};

use crate::hub::Hub;

mod handle;
mod signal;
mod stream;

pub use futures_core::{FusedStream, Stream};

use signal::Signal;

/// Runs a future to its end in the calling task, which parks while the future waits.
///
/// The future need be neither `Send` nor `'static`; it is polled and dropped on the caller's stack. It may itself call what parks,
/// `block_on` too: that parks the task in the midst of the poll. On a native thread without a hub the thread stops, and gets no hub.
///
/// A future that is woken in the midst of its poll is polled again after the other tasks have had their turn.
///
/// # Switching
///
/// Yes, if the future is not ready at once; now and then even if it is, so that a loop starves nobody.
///
/// # Cancellation
///
/// The future is dropped by the unwind, with all that it waits for. A [`timeout`](crate::timeout()) around the call bounds it.
///
/// # Panics
///
/// With the future. And if the future waits and nothing can ever wake it, on the root and on a thread without a hub: see
/// [deadlocks](self#deadlocks).
///
/// # Examples
///
/// ```
/// use greenroom::future::block_on;
/// use std::rc::Rc;
///
/// let shared = Rc::new(20);
/// let task = greenroom::spawn(|| 22);
/// let sum = block_on(async { *shared + task.await.unwrap() });
/// assert_eq!(sum, 42);
/// ```
///
/// With a limit:
///
/// ```
/// use greenroom::{future::block_on, timeout};
/// use std::time::Duration;
///
/// let never = std::future::pending::<()>();
/// assert!(timeout(Duration::from_millis(1), || block_on(never)).is_err());
/// ```
#[track_caller]
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    if let Some(hub) = Hub::get() {
        hub.charge_little();
    }
    let signal = Signal::new();
    let waker = signal.waker();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future.into_future());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        signal.wait();
    }
}
