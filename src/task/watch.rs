//! What a stream that waits asks of its object: to call the waker of whoever polled last.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use super::Waitable;
use crate::hub::Tell;

/// The request of one stream, if it waits.
pub(crate) struct Watch(Option<Request>);

pub(crate) struct Request {
    waker: Waker,
    /// Calls a clone of it.
    ready: Tell,
    key: Option<u64>,
}

impl Watch {
    pub(crate) const fn new() -> Watch {
        Watch(None)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Has `waker` called once the object is ready, in place of the one before: in this call, if it is so now.
    pub(crate) fn renew(&mut self, object: &impl Waitable, waker: &Waker) {
        let mut request = match self.take(object) {
            Some(request) if request.waker.will_wake(waker) => request,
            old => {
                drop(old);
                let theirs = waker.clone();
                let ready: Tell = Arc::new(move || theirs.wake_by_ref());
                Request { waker: waker.clone(), ready, key: None }
            }
        };
        request.key = object.watch(&request.ready);
        self.0 = Some(request);
    }

    /// Takes the request back, if there is one. What it gives holds a waker of the user's: to be dropped last.
    pub(crate) fn take(&mut self, object: &impl Waitable) -> Option<Request> {
        let mut request = self.0.take()?;
        if let Some(key) = request.key.take() {
            object.unwatch(key);
        }
        Some(request)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("waits", &self.0.is_some()).finish_non_exhaustive()
    }
}
