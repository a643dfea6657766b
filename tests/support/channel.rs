//! A channel whose receiver parks its task: works within a hub and between hubs. Nobody here drops the last sender early,
//! so that it never tells of a disconnection.

use greenroom::Unparker;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(State { items: VecDeque::new(), receiver: None }));
    (Sender(shared.clone()), Receiver(shared))
}

pub(crate) struct Sender<T>(Arc<Mutex<State<T>>>);

pub(crate) struct Receiver<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    items: VecDeque<T>,
    receiver: Option<Unparker>,
}

/// Never made; the calls have std's shape.
pub(crate) type Disconnected = std::convert::Infallible;

impl<T> Sender<T> {
    pub(crate) fn send(&self, item: T) -> Result<(), Disconnected> {
        let mut state = self.0.lock().unwrap();
        state.items.push_back(item);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.unpark();
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender(self.0.clone())
    }
}

impl<T> Receiver<T> {
    pub(crate) fn recv(&self) -> Result<T, Disconnected> {
        loop {
            let mut state = self.0.lock().unwrap();
            if let Some(item) = state.items.pop_front() {
                return Ok(item);
            }
            state.receiver = Some(greenroom::current().unparker());
            drop(state);
            greenroom::park();
        }
    }
}
