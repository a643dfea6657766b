//! Waiting for any of several objects, in the order in which they become ready.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{JoinHandle, Task};
use crate::clock;
use crate::hub::{Hub, Reason, Tell, Wakes};
use crate::line::{self, List, Place};
use crate::lock::Lock;

/// Something that becomes ready and can be waited for among others: a [`JoinHandle`], a [`Task`], an event, a semaphore, a
/// receiver, a queue.
///
/// For [`wait`] and [`iwait`]. Implemented by this crate's types and references to them. Being ready is a hint: nothing has been
/// taken from the object, and another may be quicker to do so.
pub trait Waitable {
    /// Has `ready` called once the object is ready, on whatever thread makes it so, and perhaps under its lock: it must do no more than
    /// note the fact. `None`: it was ready, and `ready` has been called. Else a key to take the request back.
    #[doc(hidden)]
    fn watch(&self, ready: &Tell) -> Option<u64>;

    /// Takes a request back, if it is still open.
    #[doc(hidden)]
    fn unwatch(&self, key: u64);

    /// Whether other threads may make it ready.
    #[doc(hidden)]
    fn is_shared(&self) -> bool {
        true
    }

    /// Whether what makes it ready comes from outside of all tasks and threads, at any time.
    #[doc(hidden)]
    fn is_outside(&self) -> bool {
        false
    }
}

impl Waitable for Task {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        if self.is_finished() {
            ready();
            return None;
        }
        let ready = ready.clone();
        Some(Task::watch(self, Box::new(move || ready())))
    }

    fn unwatch(&self, key: u64) {
        Task::unwatch(self, key);
    }

    fn is_shared(&self) -> bool {
        false
    }
}

impl<T> Waitable for JoinHandle<T> {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        Waitable::watch(&self.task(), ready)
    }

    fn unwatch(&self, key: u64) {
        self.task().unwatch(key);
    }

    fn is_shared(&self) -> bool {
        false
    }
}

/// Gives a trait to what points to something that has it: `for_pointers!(Trait for P { items })`.
macro_rules! for_pointers {
    ($name:ident for $pointee:ident $items:tt) => {
        impl<$pointee: $name + ?Sized> $name for &$pointee $items
        impl<$pointee: $name + ?Sized> $name for Box<$pointee> $items
        impl<$pointee: $name + ?Sized> $name for std::rc::Rc<$pointee> $items
        impl<$pointee: $name + ?Sized> $name for std::sync::Arc<$pointee> $items
    };
}
pub(crate) use for_pointers;

for_pointers!(Waitable for W {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        (**self).watch(ready)
    }

    fn unwatch(&self, key: u64) {
        (**self).unwatch(key);
    }

    fn is_shared(&self) -> bool {
        (**self).is_shared()
    }

    fn is_outside(&self) -> bool {
        (**self).is_outside()
    }
});

/// Waits until `count` of the objects are ready (`None`: all), or until `timeout` (`None`: for ever), and gives those that are,
/// in the order in which they became ready; those that were ready before the call come first, in the order given.
///
/// The rest are dropped, which takes nothing from them if they are references. A `count` of 0 returns at once with
/// nothing. An object given twice counts twice.
///
/// # Switching
///
/// Yes, unless enough are ready.
///
/// # Cancellation
///
/// A caller that is cancelled leaves nothing behind.
///
/// # Examples
///
/// ```
/// use greenroom::{sleep, spawn, wait};
/// use std::time::Duration;
///
/// let tasks: Vec<_> = [20, 5].map(|ms| spawn(move || sleep(Duration::from_millis(ms)))).into();
/// let first = wait(&tasks, None, Some(1));
/// assert_eq!(first[0].task().id(), tasks[1].task().id());
/// ```
#[track_caller]
pub fn wait<W: Waitable>(
    objects: impl IntoIterator<Item = W>,
    timeout: Option<Duration>,
    count: Option<usize>,
) -> Vec<W> {
    let mut ready = iwait(objects);
    ready.deadline = timeout.and_then(clock::deadline_after);
    ready.take(count.unwrap_or(usize::MAX)).collect()
}

/// Gives the objects one by one as they become ready, until all have been; those that were ready before the call come
/// first, in the order given.
///
/// Dropping the iterator takes back every request that is still open.
///
/// # Switching
///
/// The call, never; the iterator's `next`, unless an object is ready.
///
/// # Examples
///
/// ```
/// use greenroom::{iwait, spawn, yield_now};
///
/// let tasks: Vec<_> = (0..3).map(|turns| spawn(move || for _ in turns..2 { yield_now() })).collect();
/// let order: Vec<_> = iwait(&tasks).map(|task| task.task().id()).collect();
/// assert_eq!(order, [2, 1, 0].map(|place: usize| tasks[place].task().id()));
/// ```
pub fn iwait<W: Waitable>(objects: impl IntoIterator<Item = W>) -> IWait<W> {
    let inbox = Arc::new(Inbox(Lock::new(Arrivals { ready: VecDeque::new(), waiters: List::new() })));
    // Held while it fills: should a later object panic, those before it are taken back.
    let mut all =
        IWait { objects: Vec::new(), left: 0, shared: false, outside: false, inbox: inbox.clone(), deadline: None };
    for (place, object) in objects.into_iter().enumerate() {
        let inbox = inbox.clone();
        let ready: Tell = Arc::new(move || inbox.push(place));
        all.shared |= object.is_shared();
        all.outside |= object.is_outside();
        let key = object.watch(&ready);
        all.objects.push(Some((object, key)));
        all.left += 1;
    }
    all
}

/// Iterator of [`iwait`].
pub struct IWait<W: Waitable> {
    /// Each with the key of its request, until it is given.
    objects: Vec<Option<(W, Option<u64>)>>,
    left: usize,
    shared: bool,
    outside: bool,
    inbox: Arc<Inbox>,
    deadline: Option<Instant>,
}

/// The places of objects that became ready, and who waits for the next. Filled from any thread.
struct Inbox(Lock<Arrivals>);

struct Arrivals {
    /// In order; empty while somebody waits.
    ready: VecDeque<usize>,
    waiters: List<Option<usize>>,
}

impl Inbox {
    fn push(&self, place: usize) {
        let mut wakes = Wakes::new();
        let mut arrivals = self.0.lock();
        if arrivals.waiters.serve(&mut wakes, |got| *got = Some(place)).is_none() {
            arrivals.ready.push_back(place);
        }
    }

    /// The next place, or `None` if the deadline comes first.
    fn pop(&self, deadline: Option<Instant>, shared: bool) -> Option<usize> {
        let mut arrivals = self.0.lock();
        if let Some(place) = arrivals.ready.pop_front() {
            return Some(place);
        }
        let reason = Reason::Other(&"one of several objects");
        line::wait(Next { shared }, &self.0, arrivals, None, reason, deadline).ok().flatten()
    }
}

/// The line of the one who iterates.
struct Next {
    shared: bool,
}

impl Place<Arrivals> for Next {
    type Payload = Option<usize>;

    fn list<'a>(&self, arrivals: &'a mut Arrivals) -> &'a mut List<Option<usize>> {
        &mut arrivals.waiters
    }

    fn left(&self, _: &mut Arrivals, _: &mut Wakes) {}

    fn pass_on(&self, arrivals: &mut Arrivals, place: &mut Option<usize>, _: &mut Wakes) {
        if let Some(place) = place.take() {
            arrivals.ready.push_front(place);
        }
    }

    fn is_shared(&self) -> bool {
        self.shared
    }
}

impl<W: Waitable> Iterator for IWait<W> {
    type Item = W;

    fn next(&mut self) -> Option<W> {
        while self.left > 0 {
            let pop = || self.inbox.pop(self.deadline, self.shared);
            let place = match Hub::get() {
                Some(hub) if self.outside => hub.on_outside(pop),
                _ => pop(),
            }?;
            // An object that tells twice counts once.
            if let Some((object, _told)) = self.objects[place].take() {
                self.left -= 1;
                return Some(object);
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl<W: Waitable> Drop for IWait<W> {
    fn drop(&mut self) {
        for (object, key) in self.objects.iter().flatten() {
            if let Some(key) = *key {
                object.unwatch(key);
            }
        }
    }
}

impl<W: Waitable> fmt::Debug for IWait<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IWait").field("left", &self.left).finish_non_exhaustive()
    }
}
