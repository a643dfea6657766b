//! The kinds of queue as one, for what they have in common.

use std::fmt::Debug;
use std::time::Duration;

use greenroom::Elapsed;
use greenroom::queue::{
    Channel, GetError, GetTimeoutError, LifoQueue, PriorityQueue, PutError, PutTimeoutError, Queue, TryGetError,
    TryPutError,
};

/// A queue of numbers.
pub(crate) trait Kind: Debug + Send + Sync + Sized + 'static {
    /// Of this capacity; a channel has none.
    fn make(capacity: Option<usize>) -> Self;
    fn put(&self, item: u64) -> Result<(), PutError<u64>>;
    fn try_put(&self, item: u64) -> Result<(), TryPutError<u64>>;
    fn put_timeout(&self, item: u64, timeout: Duration) -> Result<(), PutTimeoutError<u64>>;
    fn get(&self) -> Result<u64, GetError>;
    fn try_get(&self) -> Result<u64, TryGetError>;
    fn get_timeout(&self, timeout: Duration) -> Result<u64, GetTimeoutError>;
    fn peek(&self) -> Result<u64, GetError>;
    fn try_peek(&self) -> Result<u64, TryGetError>;
    fn peek_timeout(&self, timeout: Duration) -> Result<u64, GetTimeoutError>;
    fn len(&self) -> usize;
    fn is_full(&self) -> bool;
    fn task_done(&self);
    fn unfinished(&self) -> usize;
    fn join(&self);
    fn join_timeout(&self, timeout: Duration) -> Result<(), Elapsed>;
    fn shutdown(&self);
    fn shutdown_now(&self) -> Vec<u64>;
    fn is_shut_down(&self) -> bool;

    fn until_end(&self) -> Vec<u64> {
        std::iter::from_fn(|| self.get().ok()).collect()
    }
}

macro_rules! kind {
    ($Queue:ident, |$capacity:ident| $make:expr) => {
        impl Kind for $Queue<u64> {
            fn make($capacity: Option<usize>) -> Self {
                $make
            }
            fn put(&self, item: u64) -> Result<(), PutError<u64>> {
                self.put(item)
            }
            fn try_put(&self, item: u64) -> Result<(), TryPutError<u64>> {
                self.try_put(item)
            }
            fn put_timeout(&self, item: u64, timeout: Duration) -> Result<(), PutTimeoutError<u64>> {
                self.put_timeout(item, timeout)
            }
            fn get(&self) -> Result<u64, GetError> {
                self.get()
            }
            fn try_get(&self) -> Result<u64, TryGetError> {
                self.try_get()
            }
            fn get_timeout(&self, timeout: Duration) -> Result<u64, GetTimeoutError> {
                self.get_timeout(timeout)
            }
            fn peek(&self) -> Result<u64, GetError> {
                self.peek()
            }
            fn try_peek(&self) -> Result<u64, TryGetError> {
                self.try_peek()
            }
            fn peek_timeout(&self, timeout: Duration) -> Result<u64, GetTimeoutError> {
                self.peek_timeout(timeout)
            }
            fn len(&self) -> usize {
                self.len()
            }
            fn is_full(&self) -> bool {
                self.is_full()
            }
            fn task_done(&self) {
                self.task_done()
            }
            fn unfinished(&self) -> usize {
                self.unfinished()
            }
            fn join(&self) {
                self.join()
            }
            fn join_timeout(&self, timeout: Duration) -> Result<(), Elapsed> {
                self.join_timeout(timeout)
            }
            fn shutdown(&self) {
                self.shutdown()
            }
            fn shutdown_now(&self) -> Vec<u64> {
                self.shutdown_now()
            }
            fn is_shut_down(&self) -> bool {
                self.is_shut_down()
            }
        }
    };
}

kind!(Queue, |capacity| capacity.map_or(Queue::unbounded(), Queue::bounded));
kind!(LifoQueue, |capacity| capacity.map_or(LifoQueue::unbounded(), LifoQueue::bounded));
kind!(PriorityQueue, |capacity| capacity.map_or(PriorityQueue::unbounded(), PriorityQueue::bounded));
kind!(Channel, |_capacity| Channel::new());

/// Runs a generic test for each kind of queue that has room, on a hub of its own.
macro_rules! for_all {
    ($test:ident) => {
        $crate::common::check($test::<greenroom::queue::Queue<u64>>);
        $crate::common::check($test::<greenroom::queue::LifoQueue<u64>>);
        $crate::common::check($test::<greenroom::queue::PriorityQueue<u64>>);
    };
}
pub(crate) use for_all;
