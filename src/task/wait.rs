//! Waiting for any of several objects, in the order in which they become ready.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{JoinHandle, Task};
use crate::clock;
use crate::hub::{Hub, Outcome, Reason};
use crate::waiter::{Clause, Waiter};

/// Something that becomes ready, once, and can be waited for among others: a [`JoinHandle`], a [`Task`].
///
/// For [`wait`] and [`iwait`]. Implemented by this crate's types and references to them.
pub trait Waitable {
    /// Has `ready` called once the object is ready: during the call, if it is so already. The call comes on the hub's thread,
    /// and must do no more than note the fact. What is returned takes the request back when dropped.
    #[doc(hidden)]
    fn watch(&self, ready: Rc<dyn Fn()>) -> Watch;
}

/// A request to be told; dropping it takes it back.
#[doc(hidden)]
pub struct Watch(Option<Box<dyn FnOnce()>>);

impl Watch {
    /// Nothing to take back: it was ready.
    pub(crate) fn done() -> Watch {
        Watch(None)
    }

    pub(crate) fn new(unwatch: impl FnOnce() + 'static) -> Watch {
        Watch(Some(Box::new(unwatch)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(unwatch) = self.0.take() {
            unwatch();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
}

impl Waitable for Task {
    fn watch(&self, ready: Rc<dyn Fn()>) -> Watch {
        if self.is_finished() {
            ready();
            return Watch::done();
        }
        let key = Task::watch(self, Box::new(move || ready()));
        let task = self.clone();
        Watch::new(move || {
            task.unwatch(key);
        })
    }
}

impl<T> Waitable for JoinHandle<T> {
    fn watch(&self, ready: Rc<dyn Fn()>) -> Watch {
        Waitable::watch(&self.task(), ready)
    }
}

impl<W: Waitable + ?Sized> Waitable for &W {
    fn watch(&self, ready: Rc<dyn Fn()>) -> Watch {
        (**self).watch(ready)
    }
}

impl<W: Waitable + ?Sized> Waitable for Box<W> {
    fn watch(&self, ready: Rc<dyn Fn()>) -> Watch {
        (**self).watch(ready)
    }
}

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
    let inbox = Rc::new(Inbox { ready: RefCell::default(), waiter: Cell::new(None) });
    let mut objects: Vec<Option<(W, Option<Watch>)>> = objects.into_iter().map(|object| Some((object, None))).collect();
    for (place, object) in objects.iter_mut().enumerate() {
        let inbox = inbox.clone();
        let (object, watch) = object.as_mut().expect("none is taken yet");
        *watch = Some(object.watch(Rc::new(move || inbox.push(place))));
    }
    IWait { left: objects.len(), objects, inbox, deadline: None }
}

/// Iterator of [`iwait`].
pub struct IWait<W> {
    objects: Vec<Option<(W, Option<Watch>)>>,
    left: usize,
    inbox: Rc<Inbox>,
    deadline: Option<Instant>,
}

/// The places of objects that became ready, in order, and who waits for the next.
struct Inbox {
    ready: RefCell<VecDeque<usize>>,
    waiter: Cell<Option<Waiter>>,
}

impl Inbox {
    fn push(&self, place: usize) {
        self.ready.borrow_mut().push_back(place);
        if let Some(waiter) = self.waiter.take()
            && let Some(hub) = Hub::get()
        {
            hub.fire(waiter);
        }
    }

    fn pop(&self) -> Option<usize> {
        self.ready.borrow_mut().pop_front()
    }

    /// Parks until something is pushed; false if the deadline came first.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        /// The waiter must not stay behind if the park unwinds: its task may end.
        struct Clear<'a>(&'a Inbox);
        impl Drop for Clear<'_> {
            fn drop(&mut self) {
                self.0.waiter.set(None);
            }
        }
        let hub = Hub::here();
        self.waiter.set(Some(hub.arm(Clause(0))));
        let _clear = Clear(self);
        hub.park(Reason::Other(&"one of several objects"), deadline) != Outcome::Elapsed
    }
}

impl<W> Iterator for IWait<W> {
    type Item = W;

    fn next(&mut self) -> Option<W> {
        if self.left == 0 {
            return None;
        }
        loop {
            let place = match self.inbox.pop() {
                Some(place) => place,
                None if self.inbox.wait(self.deadline) => continue,
                None => self.inbox.pop()?,
            };
            // An object that tells twice counts once.
            if let Some((object, _told)) = self.objects[place].take() {
                self.left -= 1;
                return Some(object);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl<W> fmt::Debug for IWait<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IWait").field("left", &self.left).finish_non_exhaustive()
    }
}
