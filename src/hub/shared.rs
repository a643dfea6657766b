//! What other threads hold of a hub: a door for messages, and handles that are counted.
//!
//! As long as a handle exists on which some thread could call, a hub whose root waits is not deadlocked (rule 7). So
//! every such handle is a [`Remote`], which counts itself, and the hub looks again when the last one goes.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::header::{ROOT_SLOT, TaskRef};
use super::{Hub, Spec, life};
use crate::lock::{Guard, Lock, steady};
use crate::reactor::{Link, Peer};
use crate::remote::Mailbox;
use crate::waiter::Clause;

/// The part of a hub that any thread may touch.
pub(crate) struct Shared {
    mailbox: Mailbox<Message>,
    /// Gone with the hub, so that a handle that is kept for long keeps no descriptors open.
    link: Lock<Option<Link>>,
    handles: AtomicUsize,
}

/// What another thread asks of a hub.
pub(crate) enum Message {
    /// Fire a clause of a task's wait.
    Fire(RemoteTask, u32, Clause),
    /// Run a body in a new task.
    Spawn(Spec, Box<dyn FnOnce() + Send>),
    /// Unpark a task.
    Unpark(RemoteTask),
    /// End a task.
    Kill(RemoteTask),
    /// A descriptor registered in that generation was closed.
    Closed(RawFd, u32),
    /// The last handle is gone: see whether anything can still happen.
    Look,
}

/// The name of a task on another thread. The number tells it from a later task in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemoteTask {
    slot: u32,
    id: u64,
}

impl Shared {
    pub(super) fn new(link: Link) -> Shared {
        Shared { mailbox: Mailbox::new(), link: Lock::new(Some(link)), handles: AtomicUsize::new(0) }
    }

    /// Hands a message to the hub; gives it back if the hub is gone.
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        let _steady = steady();
        if self.mailbox.push(message)? {
            self.with_link(Link::ring);
        }
        Ok(())
    }

    pub(super) fn is_notified(&self) -> bool {
        self.mailbox.is_notified()
    }

    pub(super) fn prepare_to_sleep(&self) -> bool {
        self.mailbox.prepare_to_sleep()
    }

    pub(super) fn awake(&self) {
        self.mailbox.awake();
    }

    /// The hub ends: gives what was sent and not taken.
    pub(super) fn close(&self) -> Vec<Message> {
        let left = self.mailbox.close();
        drop(self.lock_link().take());
        left
    }

    /// Whether the hub has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Holds the link, so that no other thread has it when the process forks.
    pub(super) fn hold_link(&self) -> Guard<'_, Option<Link>> {
        self.lock_link()
    }

    /// What was sent and not taken.
    pub(super) fn take_all(&self, into: &mut Vec<Message>) {
        self.mailbox.take(into);
    }

    fn with_link(&self, f: impl FnOnce(&Link)) {
        if let Some(link) = &*self.lock_link() {
            f(link);
        }
    }

    fn lock_link(&self) -> Guard<'_, Option<Link>> {
        self.link.lock()
    }

    pub(super) fn has_handles(&self) -> bool {
        // Acquire pairs with the release in `Remote::drop`: what a handle sent before it went is seen.
        self.handles.load(Ordering::Acquire) > 0
    }
}

impl Peer for Shared {
    fn evict(&self, fd: RawFd, generation: u32) {
        self.with_link(|link| link.deregister(fd));
        // On the hub's own thread at once: a waiter that is ready to run must not meet the number's next owner.
        if let Some(hub) = Hub::get()
            && std::ptr::eq(&*hub.shared, self)
        {
            hub.reactor.forget(fd, generation, |waiter| hub.fire(waiter));
            return;
        }
        // A hub that is gone has nobody left to wake.
        let _gone = self.send(Message::Closed(fd, generation));
    }
}

/// A handle on a hub, for any thread.
pub(crate) struct Remote(Arc<Shared>);

impl Remote {
    fn new(shared: &Arc<Shared>) -> Remote {
        shared.handles.fetch_add(1, Ordering::Relaxed);
        Remote(shared.clone())
    }

    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        self.0.send(message)
    }

    pub(crate) fn unpark(&self, task: RemoteTask) {
        // A hub that is gone has nobody left to unpark.
        let _gone = self.send(Message::Unpark(task));
    }

    pub(crate) fn kill(&self, task: RemoteTask) {
        // A hub that is gone has ended all its tasks.
        let _gone = self.send(Message::Kill(task));
    }
}

impl Clone for Remote {
    fn clone(&self) -> Remote {
        Remote::new(&self.0)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if self.0.handles.fetch_sub(1, Ordering::Release) == 1 {
            let _gone = self.0.send(Message::Look);
        }
    }
}

impl Hub {
    pub(crate) fn remote(&self) -> Remote {
        Remote::new(&self.shared)
    }

    /// The current task's name for other threads.
    pub(crate) fn remote_task(&self, task: TaskRef) -> RemoteTask {
        RemoteTask { slot: task.slot.get(), id: task.id }
    }

    fn find(&self, task: RemoteTask) -> Option<TaskRef> {
        if task.slot == ROOT_SLOT {
            return Some(self.root);
        }
        let tasks = self.tasks.borrow();
        let found = TaskRef::from_header(tasks.get(task.slot as usize)?.header());
        (found.id == task.id).then_some(found)
    }

    /// Does what other threads asked for.
    pub(super) fn take_messages(&self) {
        if !self.shared.is_notified() {
            return;
        }
        let mut inbox = self.inbox.take();
        self.shared.mailbox.take(&mut inbox);
        for message in inbox.drain(..) {
            match message {
                Message::Fire(task, generation, clause) => {
                    if let Some(task) = self.find(task) {
                        self.fire(task.waiter(generation, clause));
                    }
                }
                Message::Spawn(spec, body) => {
                    // Without memory for a stack the body is dropped here, which tells whoever waits for it. A panic in that
                    // would unwind the root, and take the other messages along (P2).
                    self.hold(|| {
                        life::quietly(|| {
                            // SAFETY: the body borrows nothing.
                            drop(unsafe { self.spawn(spec, None, body) });
                        });
                    });
                }
                Message::Unpark(task) => {
                    if let Some(task) = self.find(task) {
                        self.unpark(&task);
                    }
                }
                Message::Kill(task) => {
                    if let Some(task) = self.find(task) {
                        self.kill(&task);
                    }
                }
                Message::Closed(fd, generation) => self.reactor.forget(fd, generation, |waiter| self.fire(waiter)),
                Message::Look => {}
            }
        }
        self.inbox.replace(inbox);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::Location;

    #[test]
    fn a_body_that_finds_no_stack_and_panics_when_dropped_stops_nobody() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a body's destructor");
            }
        }
        let test = || {
            let parked = crate::spawn(crate::park);
            crate::yield_now();
            let hub = Hub::here();
            let bomb = Bomb;
            let (stack_size, spawned_at) = (usize::MAX, Location::caller());
            let spec = Spec { name: None, stack_size, own_thread_locals: false, spawned_at };
            let spawn = Message::Spawn(spec, Box::new(move || drop(bomb)));
            assert!(hub.shared.send(spawn).is_ok());
            assert!(
                hub.shared.send(Message::Unpark(hub.remote_task(TaskRef::from_header(parked.task().header())))).is_ok()
            );
            parked.join().unwrap();
        };
        std::thread::spawn(test).join().unwrap();
    }
}
