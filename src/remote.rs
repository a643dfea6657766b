//! The one door into a hub for other threads: a mailbox that knows whether its hub sleeps.
//!
//! Any thread pushes messages; one thread, the hub's, takes them. The hub sleeps in its poll and can be rung (by a
//! waker that lies beside the mailbox); ringing is a system call, so a push says whether it is needed.
//!
//! # The protocol
//!
//! Mail and mark are one atomic word, `head`:
//!
//! | `head` | the hub | mail |
//! | --- | --- | --- |
//! | `AWAKE` (null) | runs, and will look | none |
//! | `ASLEEP` | sleeps, or is about to | none |
//! | a node | was notified: runs, or was rung | this node, and those linked behind it, newest first |
//! | `CLOSED` | is gone | none, ever again |
//!
//! ```text
//!   push              AWAKE -> node     node -> node     ASLEEP -> node, and ring     CLOSED: give the message back
//!   take              node -> AWAKE
//!   prepare_to_sleep  AWAKE -> ASLEEP   (refused while there is a node)
//!   awake             ASLEEP -> AWAKE   (a node stays: it is mail)
//!   close             anything -> CLOSED
//! ```
//!
//! 1. *No wake-up is lost.* "Mark as asleep, then look for mail" and "push, then look at the mark" is the classic pair
//!    that needs a sequentially consistent fence on both sides. Here each is a single read-modify-write of the same
//!    word, which has one order of modification: either the push comes first and `prepare_to_sleep` is refused, or the
//!    mark comes first and the push replaces it and rings. No fence is needed.
//! 2. *No storm of ringing.* Only the push that replaces `ASLEEP` rings, and only `prepare_to_sleep` writes it: at most
//!    one ring a sleep. A ring may arrive late, when something else woke the hub: its next sleep is then a short one.
//! 3. *No message is lost.* Nodes leave the word only by a swap, whole chain and all, and whoever swapped owns them. A
//!    push that finds `CLOSED` still owns its message.
//! 4. *What was written before a push is seen after its `take`*: a push publishes with `Release`, `take` and `close`
//!    acquire; the pushes between are read-modify-writes and carry the release on. Likewise what the hub did before
//!    `close` is seen by whoever is given a message back.
//!
//! A node's address may come back while a push is at work on it (ABA); this is harmless, because that push uses of the
//! old head only the address, and links to whatever lies there now. For the same reason the provenance of nodes is
//! exposed: such a link still has that of the node which lay there before.
//!
//! Why not a mutex and a `Vec`, which would need no unsafe code: std's mutex waits through `libc::syscall`, which
//! `monkey` answers with a switch, whereas a push must never switch; and waking a task of another hub would push again
//! from inside the unlock. A push here takes no lock, and costs one allocation.

use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Mutex;

#[cfg(loom)]
use loom::sync::atomic::{AtomicPtr, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicPtr, Ordering};

/// Messages of other threads to one hub. Shared by the hub and its handles through an `Arc`.
pub(crate) struct Mailbox<M> {
    head: AtomicPtr<Node<M>>,
    /// `Send` and `Sync` on the terms of a mutex, when `M: Send`; an `AtomicPtr` alone would set none.
    _terms: PhantomData<Mutex<M>>,
}

struct Node<M> {
    message: M,
    /// The message sent before this one; null if there is none.
    older: *mut Node<M>,
}

impl<M> Mailbox<M> {
    const AWAKE: *mut Node<M> = ptr::null_mut();
    // Addresses at which no node can lie, for it is aligned like a pointer.
    const ASLEEP: *mut Node<M> = ptr::without_provenance_mut(1);
    const CLOSED: *mut Node<M> = ptr::without_provenance_mut(2);

    /// An empty mailbox, whose hub is awake.
    pub(crate) fn new() -> Self {
        Self { head: AtomicPtr::new(Self::AWAKE), _terms: PhantomData }
    }

    /// Sends a message, from any thread; never blocks, never switches.
    ///
    /// `Ok(true)`: the hub sleeps, or is about to, and the caller must ring it. `Ok(false)`: it will look by itself.
    ///
    /// # Errors
    ///
    /// The hub is gone: the message is given back, and all that the hub did before [`close`](Mailbox::close) is seen.
    pub(crate) fn push(&self, message: M) -> Result<bool, M> {
        let mut head = self.head.load(Ordering::Acquire);
        if head == Self::CLOSED {
            return Err(message);
        }
        let node = Box::into_raw(Box::new(Node { message, older: ptr::null_mut() }));
        node.expose_provenance();
        loop {
            if head == Self::CLOSED {
                // SAFETY: `node` came from `Box::into_raw` above, and was not published: each exchange so far failed.
                let node = unsafe { Box::from_raw(node) };
                return Err(node.message);
            }
            let older = if Self::is_mail(head) { head } else { ptr::null_mut() };
            // SAFETY: as above, `node` is live and still ours alone.
            unsafe { (*node).older = older };

            match self.head.compare_exchange_weak(head, node, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return Ok(head == Self::ASLEEP),
                Err(now) => head = now,
            }
        }
    }

    /// Whether the owner is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.head.load(Ordering::Acquire) == Self::CLOSED
    }

    /// Whether there is mail: one relaxed load, for the hub to test at every tick.
    ///
    /// It may miss a message that is being pushed; `prepare_to_sleep` never does.
    #[inline]
    pub(crate) fn is_notified(&self) -> bool {
        Self::is_mail(self.head.load(Ordering::Relaxed))
    }

    /// Moves everything sent so far to the end of `into`, in the order in which it was sent. For the hub only.
    pub(crate) fn take(&self, into: &mut Vec<M>) {
        // Only the hub takes mail away, so what is mail now is mail still at the swap. Marks are left as they are.
        if self.is_notified() {
            Self::unchain(self.head.swap(Self::AWAKE, Ordering::Acquire), into);
        }
    }

    /// Marks the hub as asleep, right before its poll. For the hub only.
    ///
    /// `false`: it is not marked, and must not sleep: there is mail to take (or the mailbox is closed).
    #[must_use]
    pub(crate) fn prepare_to_sleep(&self) -> bool {
        // Publishes nothing, for the mark leads to no data: whoever rings has the waker already.
        self.head.compare_exchange(Self::AWAKE, Self::ASLEEP, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Takes the mark back, right after the poll returned for whatever reason. For the hub only.
    pub(crate) fn awake(&self) {
        // A failure means that there is mail, which stays: a push took the mark, and `take` comes next.
        let _ = self.head.compare_exchange(Self::ASLEEP, Self::AWAKE, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Ends the mailbox and gives what was still in it, in order; later pushes give their message back.
    ///
    /// A push that is at work meanwhile comes before or after: its message is in the answer, or given back. One that
    /// came before may still be about to ring. Closing again gives nothing.
    pub(crate) fn close(&self) -> Vec<M> {
        let mut rest = Vec::new();
        Self::unchain(self.head.swap(Self::CLOSED, Ordering::AcqRel), &mut rest);
        rest
    }

    #[inline]
    fn is_mail(head: *mut Node<M>) -> bool {
        head.addr() > Self::CLOSED.addr()
    }

    /// Frees the chain that a swap took out of `head`, and moves its messages to the end of `into`, oldest first.
    fn unchain(head: *mut Node<M>, into: &mut Vec<M>) {
        let first = into.len();
        let mut next = if Self::is_mail(head) { head } else { ptr::null_mut() };
        while !next.is_null() {
            // SAFETY: a push made this node by `Box::into_raw` and published it complete (4); the swap made the whole
            // chain ours alone (3), and each node is met once.
            let node = unsafe { Box::from_raw(ptr::with_exposed_provenance_mut::<Node<M>>(next.addr())) };
            next = node.older;
            into.push(node.message);
        }
        into[first..].reverse();
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.head.load(Ordering::Relaxed) {
            head if head == Self::AWAKE => "awake",
            head if head == Self::ASLEEP => "asleep",
            head if head == Self::CLOSED => "closed",
            _ => "notified",
        };
        f.debug_struct("Mailbox").field("state", &state).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::thread;

    fn taken<M>(mailbox: &Mailbox<M>) -> Vec<M> {
        let mut mail = Vec::new();
        mailbox.take(&mut mail);
        mail
    }

    #[test]
    fn mail_is_taken_in_the_order_of_sending_behind_what_was_there() {
        let mailbox = Mailbox::new();
        assert!(!mailbox.is_notified());
        for message in 1..=3 {
            assert_eq!(mailbox.push(message), Ok(false));
        }
        assert!(mailbox.is_notified());
        let mut mail = vec![0];
        mailbox.take(&mut mail);
        assert_eq!(mail, [0, 1, 2, 3]);
        assert!(!mailbox.is_notified());
        assert_eq!(taken(&mailbox), []);
    }

    #[test]
    fn the_first_push_of_a_sleep_rings_and_no_other() {
        let mailbox = Mailbox::new();
        for _ in 0..2 {
            assert!(mailbox.prepare_to_sleep());
            assert_eq!(mailbox.push(1), Ok(true));
            assert_eq!(mailbox.push(2), Ok(false));
            mailbox.awake();
            assert_eq!(mailbox.push(3), Ok(false));
            assert_eq!(taken(&mailbox), [1, 2, 3]);
        }
    }

    #[test]
    fn nobody_rings_a_hub_that_something_else_woke() {
        let mailbox = Mailbox::new();
        assert!(mailbox.prepare_to_sleep());
        mailbox.awake();
        assert_eq!(mailbox.push(1), Ok(false));
    }

    #[test]
    fn a_hub_with_mail_does_not_sleep() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.push(1), Ok(false));
        assert!(!mailbox.prepare_to_sleep());
        assert_eq!(taken(&mailbox), [1]);
        assert!(mailbox.prepare_to_sleep());
    }

    #[test]
    fn taking_nothing_keeps_the_mark() {
        let mailbox = Mailbox::new();
        assert!(mailbox.prepare_to_sleep());
        assert_eq!(taken(&mailbox), []);
        assert_eq!(mailbox.push(1), Ok(true));
    }

    #[test]
    fn a_closed_mailbox_gives_messages_back_and_stays_closed() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.push(1), Ok(false));
        assert_eq!(mailbox.close(), [1]);
        assert_eq!(mailbox.push(2), Err(2));
        assert_eq!(taken(&mailbox), []);
        assert!(!mailbox.prepare_to_sleep());
        mailbox.awake();
        assert_eq!(mailbox.push(3), Err(3));
        assert_eq!(mailbox.close(), []);
    }

    #[test]
    fn mail_nobody_took_is_dropped_with_the_mailbox() {
        let witness = Rc::new(());
        let mailbox = Mailbox::new();
        mailbox.push(witness.clone()).expect("open");
        mailbox.push(witness.clone()).expect("open");
        drop(mailbox);
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[test]
    fn a_sleeping_hub_gets_every_message_of_many_threads() {
        const SENDERS: usize = 4;
        const EACH: usize = if cfg!(miri) { 20 } else { 10_000 };

        let mailbox = Arc::new(Mailbox::new());
        let hub = thread::current();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (mailbox, hub) = (mailbox.clone(), hub.clone());
                thread::spawn(move || {
                    for number in 0..EACH {
                        if mailbox.push((sender, number)).expect("open") {
                            hub.unpark();
                        }
                    }
                })
            })
            .collect();

        let (mut mail, mut next) = (Vec::new(), [0; SENDERS]);
        while next != [EACH; SENDERS] {
            if mailbox.prepare_to_sleep() {
                thread::park();
                mailbox.awake();
            }
            mailbox.take(&mut mail);
            for (sender, number) in mail.drain(..) {
                assert_eq!(number, next[sender]);
                next[sender] += 1;
            }
        }
        senders.into_iter().for_each(|sender| sender.join().expect("it does not panic"));
    }
}
