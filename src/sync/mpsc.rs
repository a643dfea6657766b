//! Channels, many senders to one receiver: [`std::sync::mpsc`], but who waits parks.
//!
//! The signatures are std's, and so are the error types. Both ends work in tasks of one hub, of several hubs, and on native
//! threads with or without a hub. Items that are not `Send` may go between tasks of one thread: both ends stay there then.
//!
//! Items arrive in the order in which they were sent; senders that wait for room are served in the order in which they
//! came. No item is lost to a cancelled receiver: one that had just been handed over stays for the next `recv`. A
//! sender that is cancelled while it waits takes its item along.
//!
//! # Disconnection
//!
//! When all senders are gone, what was sent before is still received, and then comes the error. When the receiver is gone, what
//! it left is dropped, and senders have their item back, those that wait at once.
//!
//! # Examples
//!
//! ```
//! use greenroom::sync::mpsc;
//!
//! let (sender, receiver) = mpsc::channel();
//! for i in 0..3 {
//!     let sender = sender.clone();
//!     greenroom::spawn(move || sender.send(i).unwrap());
//! }
//! drop(sender);
//! assert_eq!(receiver.iter().sum::<i32>(), 3);
//! ```

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock;
use crate::hub::Tell;
use crate::store::{self, Fifo, GetError, PutError, Store};
use crate::task::{Waitable, Watch};

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

/// Makes a channel without a bound: [`Sender::send`] never waits.
///
/// # Examples
///
/// ```
/// use greenroom::sync::mpsc::{RecvError, channel};
///
/// let (sender, receiver) = channel();
/// sender.send(1).unwrap();
/// drop(sender);
/// assert_eq!(receiver.recv(), Ok(1));
/// assert_eq!(receiver.recv(), Err(RecvError));
/// ```
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let chan = Chan::new(usize::MAX);
    (Sender { chan: chan.clone() }, Receiver { chan, watch: Watch::new(), _alone: PhantomData })
}

/// Makes a channel that holds `bound` items: [`SyncSender::send`] waits for room.
///
/// With a bound of 0 each send waits until the item is received, and on one hub until the receiver has had its turn with
/// it: *sending*, *received*, *sent*.
///
/// # Examples
///
/// ```
/// use greenroom::sync::mpsc::{TrySendError, sync_channel};
///
/// let (sender, receiver) = sync_channel(1);
/// sender.send(1).unwrap();
/// assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
///
/// let waiting = greenroom::spawn(move || sender.send(3));
/// greenroom::yield_now();
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 3]);
/// waiting.join().unwrap().unwrap();
/// ```
#[must_use]
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let chan = Chan::new(bound);
    (SyncSender { chan: chan.clone() }, Receiver { chan, watch: Watch::new(), _alone: PhantomData })
}

/// What both ends share. It is closed by whichever side is gone first.
struct Chan<T> {
    store: Store<Fifo<T>>,
    /// Each holds the `Arc` too, whose own guard against too many clones is the guard of this count.
    senders: AtomicUsize,
}

impl<T> Chan<T> {
    fn new(bound: usize) -> Arc<Chan<T>> {
        Arc::new(Chan { store: Store::new(Fifo::new(), bound), senders: AtomicUsize::new(1) })
    }

    fn add_sender(self: &Arc<Self>) -> Arc<Chan<T>> {
        let chan = self.clone();
        chan.senders.fetch_add(1, Ordering::Relaxed);
        chan
    }

    fn remove_sender(&self) {
        // Release and acquire: what the others have sent comes before the end.
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.store.close();
        }
    }
}

/// The sending end of [`channel`].
///
/// As with std's, it may be used on any thread if the items may, and only then:
///
/// ```compile_fail
/// let (sender, _receiver) = greenroom::sync::mpsc::channel::<std::rc::Rc<()>>();
/// std::thread::spawn(move || drop(sender));
/// ```
pub struct Sender<T> {
    chan: Arc<Chan<T>>,
}

impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}

impl<T> Sender<T> {
    /// Sends an item. An `Ok` says that the receiver is there, not that it will take the item.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// The item, if the receiver is gone.
    #[inline]
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        match self.chan.store.try_put(t) {
            Ok(()) => Ok(()),
            Err(PutError::Closed(t) | PutError::Full(t)) => Err(SendError(t)),
        }
    }
}

impl<T> Sender<T> {
    pub(crate) fn store(&self) -> &Store<Fifo<T>> {
        &self.chan.store
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { chan: self.chan.add_sender() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.chan.remove_sender();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// The sending end of [`sync_channel`].
///
/// As with std's, it may be used on any thread if the items may, and only then:
///
/// ```compile_fail
/// let (sender, _receiver) = greenroom::sync::mpsc::sync_channel::<std::rc::Rc<()>>(1);
/// std::thread::spawn(move || drop(sender));
/// ```
pub struct SyncSender<T> {
    chan: Arc<Chan<T>>,
}

impl<T> UnwindSafe for SyncSender<T> {}
impl<T> RefUnwindSafe for SyncSender<T> {}

impl<T> SyncSender<T> {
    /// Sends an item, and waits until there is room; with a bound of 0, until it is received.
    ///
    /// # Switching
    ///
    /// Yes, if there is no room or the bound is 0; now and then even if there is, so that a loop starves nobody.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled while it waits leaves the line and drops its item, unless that was just taken: then it is received.
    ///
    /// # Errors
    ///
    /// The item, if the receiver is gone, or goes meanwhile.
    #[inline(always)]
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        let done = self.chan.store.put(t, None);
        store::charge();
        match done {
            Ok(()) => Ok(()),
            Err(PutError::Closed(t) | PutError::Full(t)) => Err(SendError(t)),
        }
    }

    /// Sends an item if there is room; with a bound of 0, if the receiver waits for one.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// The item: as [`TrySendError::Full`], or as [`TrySendError::Disconnected`] if the receiver is gone.
    #[inline]
    pub fn try_send(&self, t: T) -> Result<(), TrySendError<T>> {
        match self.chan.store.try_put(t) {
            Ok(()) => Ok(()),
            Err(PutError::Full(t)) => Err(TrySendError::Full(t)),
            Err(PutError::Closed(t)) => Err(TrySendError::Disconnected(t)),
        }
    }
}

impl<T> SyncSender<T> {
    pub(crate) fn store(&self) -> &Store<Fifo<T>> {
        &self.chan.store
    }
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> SyncSender<T> {
        SyncSender { chan: self.chan.add_sender() }
    }
}

impl<T> Drop for SyncSender<T> {
    fn drop(&mut self) {
        self.chan.remove_sender();
    }
}

impl<T> fmt::Debug for SyncSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncSender").finish_non_exhaustive()
    }
}

/// The receiving end of [`channel`] and [`sync_channel`].
///
/// Dropping it drops the items that it left. Several tasks of one thread may wait on it, behind an `Rc` say; they are served in
/// the order in which they came. It may move to another thread if the items may, but as with std's two threads cannot share it:
///
/// ```compile_fail
/// let (sender, receiver) = greenroom::sync::mpsc::channel();
/// std::thread::scope(|s| {
///     s.spawn(|| receiver.recv());
///     sender.send(1)
/// });
/// ```
pub struct Receiver<T> {
    chan: Arc<Chan<T>>,
    /// As a stream.
    watch: Watch,
    /// `Send`, not `Sync`.
    _alone: PhantomData<Cell<()>>,
}

impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Receiver<T> {
    pub(crate) fn store(&self) -> &Store<Fifo<T>> {
        &self.chan.store
    }

    /// Receives an item, and waits for one.
    ///
    /// # Switching
    ///
    /// Yes, if there is none; now and then even if there is, so that a loop starves nobody.
    ///
    /// # Cancellation
    ///
    /// If an item had just been handed over, the next receive gets it.
    ///
    /// # Errors
    ///
    /// [`RecvError`], if nothing is left and no sender.
    #[inline(always)]
    pub fn recv(&self) -> Result<T, RecvError> {
        store::charge();
        self.chan.store.get(None).map_err(|_| RecvError)
    }

    /// Receives an item if there is one.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]; [`TryRecvError::Disconnected`], if there is no sender either.
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.chan.store.try_get().map_err(|error| match error {
            GetError::Empty => TryRecvError::Empty,
            GetError::Closed => TryRecvError::Disconnected,
        })
    }

    /// Receives an item, and waits for one up to `timeout`, which is relative. An item that is there is received even with a
    /// timeout of 0.
    ///
    /// # Switching
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancellation
    ///
    /// As with [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`]; [`RecvTimeoutError::Disconnected`], if nothing is left and no sender.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::sync::mpsc::{RecvTimeoutError, channel};
    /// use std::time::Duration;
    ///
    /// let (sender, receiver) = channel::<i32>();
    /// assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// drop(sender);
    /// assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Disconnected));
    /// ```
    #[inline]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(clock::deadline_after(timeout))
    }

    #[inline]
    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        store::charge();
        self.chan.store.get(deadline).map_err(|error| match error {
            GetError::Empty => RecvTimeoutError::Timeout,
            GetError::Closed => RecvTimeoutError::Disconnected,
        })
    }

    /// Receives items until no sender is left: each step is a [`recv`](Self::recv).
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { rx: self }
    }

    /// Receives what lies ready: each step is a [`try_recv`](Self::try_recv).
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { rx: self }
    }
}

impl<T> Receiver<T> {
    /// Receives an item if there is one; else `waker` is called once there is, in place of the one before. `None`: nothing is left
    /// and no sender.
    pub(crate) fn poll_recv(&mut self, waker: &Waker) -> Poll<Option<T>> {
        store::charge();
        let store = &self.chan.store;
        if self.watch.is_open() && store.is_ready() {
            // Before an item is taken, which would be lost should the waker's destructor panic.
            drop(self.watch.take(store));
        }
        if !self.watch.is_open() {
            match store.try_get() {
                Err(GetError::Empty) => {}
                item => return Poll::Ready(item.ok()),
            }
        }
        self.watch.renew(store, waker);
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let _waker = self.watch.take(&self.chan.store);
        self.chan.store.close();
        // Their destructors are the user's, and may use the channel: not under its lock.
        let left = mem::replace(&mut self.chan.store.lock().buffer, Fifo::new());
        drop(left);
    }
}

/// Ready when there is an item, or no sender any more.
impl<T> Waitable for Receiver<T> {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.chan.store.watch(ready)
    }

    fn unwatch(&self, key: u64) {
        self.chan.store.unwatch(key);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { rx: self }
    }
}

/// Iterator of [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: 'a> {
    rx: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        self.rx.recv().ok()
    }
}

/// Iterator of [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T: 'a> {
    rx: &'a Receiver<T>,
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        self.rx.try_recv().ok()
    }
}

/// Iterator over a [`Receiver`] that it owns: each step is a [`Receiver::recv`].
#[derive(Debug)]
pub struct IntoIter<T> {
    rx: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        self.rx.recv().ok()
    }
}
