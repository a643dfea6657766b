//! The handles of tasks as futures.

#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::signal;
use crate::error::JoinError;
use crate::task::{JoinHandle, RemoteJoinHandle};

/// The task's result, as [`JoinHandle::join`] gives it, for async code on the task's thread.
///
/// Dropping the future is dropping the handle, which detaches the task.
///
/// # Switching
///
/// Never.
///
/// # Panics
///
/// If it is polled, or joined, after it has given the result.
///
/// # Examples
///
/// ```
/// use greenroom::{future::block_on, spawn};
///
/// let (left, right) = (spawn(|| 1), spawn(|| 2));
/// assert_eq!(block_on(async { left.await.unwrap() + right.await.unwrap() }), 3);
/// ```
impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        let header = self.cell().header();
        if header.has_ended() {
            return Poll::Ready(self.take_result());
        }
        let is_known = header
            .peek_extra(|extra| extra.waker.as_ref().is_some_and(|known| signal::are_alike(known, context.waker())));
        if is_known == Some(true) {
            return Poll::Pending;
        }
        // Copied and dropped while nothing is borrowed: both are code of the user's, in which the task may even end.
        let waker = signal::copy_for_here(context.waker());
        if header.has_ended() {
            drop(waker);
            return Poll::Ready(self.take_result());
        }
        let before = header.with_extra(|extra| extra.waker.replace(waker));
        drop(before);
        Poll::Pending
    }
}

/// A handle leads to its result and does not hold it.
impl<T> Unpin for JoinHandle<T> {}

/// The task's result, as [`RemoteJoinHandle::join`] gives it, for async code on any thread.
///
/// Dropping the future is dropping the handle, which detaches the task.
///
/// # Switching
///
/// Never.
///
/// # Panics
///
/// If it is polled, or joined, after it has given the result.
///
/// # Examples
///
/// ```
/// use greenroom::{HubHandle, future::block_on};
///
/// let hub = HubHandle::current();
/// // Any executor will do here: this one parks a thread that has no hub.
/// let elsewhere = std::thread::spawn(move || block_on(async { hub.spawn(|| 6 * 7).await.unwrap() }));
/// while !elsewhere.is_finished() {
///     greenroom::sleep(std::time::Duration::from_millis(1));
/// }
/// assert_eq!(elsewhere.join().unwrap(), 42);
/// ```
impl<T: Send + 'static> Future for RemoteJoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        self.poll_result(context.waker())
    }
}
