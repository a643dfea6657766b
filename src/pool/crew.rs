//! Those who belong to a group, and the slots that they take up.
//!
//! ```text
//!   take: a Slot --> enroll: its task's --+--> the task has ended, however   --+--> given back
//!         |                               +--> it is discarded               --+
//!         +--> nothing was spawned --------------------------------------------+
//! ```
//!
//! - **C1** A slot is a value, and dropping it gives it back: once, whatever happens. A member's is owned by the watcher of
//!   its task's end, which runs when the task has ended, killed before its first run included.
//! - **C2** A slot is free only while nobody stands in line for one.
//!
//! Why not `sync::Semaphore`: it is shared with other threads, so that waiting for it is never a deadlock for certain
//! (rule 7); a pool belongs to one thread. And its permits cannot be taken away while they are out, as a smaller size does.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;
use std::time::Instant;

use crate::hub::{Hub, Outcome, Reason, Wakes};
use crate::line::{self, List, Place};
use crate::lock::{Lock, steadily, steady};
use crate::task::{Task, TaskId, current};
use crate::waiter::{Clause, End, WaitQueue};

/// A group's members and slots.
pub(super) struct Crew {
    slots: Lock<Slots>,
    /// Each with the key of the watcher that owns its slot.
    members: RefCell<BTreeMap<TaskId, (Task, u64)>>,
    /// Tasks that will stand in line for a slot, at the latest from their first turn on.
    coming: Cell<usize>,
    /// Rung when at most one slot is taken, and when nobody is coming any more.
    emptied: Bell,
    /// Rung when a slot is free.
    freed: Bell,
}

struct Slots {
    size: usize,
    /// Above `size` for a while after it was made smaller.
    taken: usize,
    line: List<()>,
}

/// Room for one task, taken. Given back when dropped (C1).
pub(super) struct Slot {
    crew: Rc<Crew>,
    member: Option<TaskId>,
}

/// A task that was made, and waits for its slot itself.
pub(super) struct Coming(Rc<Crew>);

impl Crew {
    pub(super) fn new(size: usize) -> Rc<Crew> {
        Rc::new(Crew {
            slots: Lock::new(Slots { size, taken: 0, line: List::new() }),
            members: RefCell::default(),
            coming: Cell::new(0),
            emptied: Bell::new(),
            freed: Bell::new(),
        })
    }

    /// A slot, if one is free.
    pub(super) fn try_take(self: &Rc<Self>) -> Option<Slot> {
        let mut slots = self.slots.lock();
        if slots.taken >= slots.size {
            return None;
        }
        slots.taken += 1;
        Some(Slot { crew: self.clone(), member: None })
    }

    /// Waits in line for a slot; `None` if the deadline came first.
    pub(super) fn take_until(self: &Rc<Self>, deadline: Option<Instant>) -> Option<Slot> {
        self.try_take().or_else(|| self.take_slow(deadline))
    }

    pub(super) fn take(self: &Rc<Self>) -> Slot {
        self.take_until(None).expect("without a deadline, who waits is served")
    }

    #[cold]
    fn take_slow(self: &Rc<Self>, deadline: Option<Instant>) -> Option<Slot> {
        // It is a task that waits here, for others of this thread: without a hub the thread would stop.
        let _hub = Hub::here();
        let slots = self.slots.lock();
        line::wait(&**self, &self.slots, slots, (), Reason::Other(&"a slot of a pool"), deadline).ok()?;
        Some(Slot { crew: self.clone(), member: None })
    }

    /// Hands a slot that is given back to the first in line.
    fn give_back(&self, slots: &mut Slots, wakes: &mut Wakes) {
        if slots.taken <= slots.size && slots.line.serve(wakes, |()| ()).is_some() {
            return;
        }
        slots.taken -= 1;
        if slots.taken < slots.size {
            self.freed.ring();
        }
        // One who is left may be the one who waits for all others.
        if slots.taken <= 1 {
            self.emptied.ring();
        }
    }

    pub(super) fn resize(&self, size: usize) {
        let mut wakes = Wakes::new();
        let mut slots = self.slots.lock();
        slots.size = size;
        while slots.taken < size && slots.line.serve(&mut wakes, |()| ()).is_some() {
            slots.taken += 1;
        }
        if slots.taken < size {
            self.freed.ring();
        }
    }

    pub(super) fn size(&self) -> usize {
        self.slots.lock().size
    }

    pub(super) fn free(&self) -> usize {
        let slots = self.slots.lock();
        slots.size.saturating_sub(slots.taken)
    }

    /// Waits until a slot is free. Takes nothing, so that another may be quicker.
    pub(super) fn wait_free(&self, deadline: Option<Instant>) -> bool {
        self.freed.wait(|| self.free() > 0, Reason::Other(&"a free slot of a pool"), deadline)
    }

    /// Waits until no slot is taken, but for the caller's own, and nobody is coming.
    pub(super) fn wait_empty(&self, deadline: Option<Instant>) -> bool {
        let is_empty = || {
            let own = usize::from(self.has_current());
            self.coming.get() == 0 && self.slots.lock().taken <= own
        };
        self.emptied.wait(is_empty, Reason::Other(&"the end of a group's tasks"), deadline)
    }

    pub(super) fn len(&self) -> usize {
        self.members.borrow().len()
    }

    pub(super) fn contains(&self, task: &Task) -> bool {
        self.members.borrow().contains_key(&task.id())
    }

    /// Whether the running task is a member.
    pub(super) fn has_current(&self) -> bool {
        // Nobody is, on a thread that has no tasks.
        Hub::get().is_some() && self.contains(&current())
    }

    pub(super) fn discard(&self, task: &Task) -> bool {
        let Some(key) = self.members.borrow().get(&task.id()).map(|(_, key)| *key) else { return false };
        // Its watcher owns the slot, and the slot the membership.
        task.unwatch(key)
    }

    /// The members, in the order in which they were spawned.
    pub(super) fn members(&self) -> Vec<Task> {
        self.members.borrow().values().map(|(task, _)| task.clone()).collect()
    }

    #[track_caller]
    pub(super) fn kill_nowait(&self) {
        for task in self.members() {
            task.kill_nowait();
        }
    }

    /// Kills all members and waits for their ends, the caller last.
    #[track_caller]
    pub(super) fn kill_until(&self, deadline: Option<Instant>) -> bool {
        let own = current();
        let ended = self.kill_others(&own, deadline);
        if !self.contains(&own) {
            return ended;
        }
        // This comes back only if it is held back.
        own.kill();
        false
    }

    #[track_caller]
    fn kill_others(&self, own: &Task, deadline: Option<Instant>) -> bool {
        loop {
            // Those who end may spawn others.
            let mut others = self.members();
            others.retain(|task| task != own);
            if others.is_empty() {
                return true;
            }
            for task in &others {
                task.kill_nowait();
            }
            for task in &others {
                if !task.wait_until(deadline) {
                    return false;
                }
            }
        }
    }
}

impl Place<Slots> for &Crew {
    type Payload = ();

    fn list<'a>(&self, slots: &'a mut Slots) -> &'a mut List<()> {
        &mut slots.line
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn left(&self, _: &mut Slots, _: &mut Wakes) {}

    fn pass_on(&self, slots: &mut Slots, (): &mut (), wakes: &mut Wakes) {
        self.give_back(slots, wakes);
    }
}

impl Coming {
    pub(super) fn new(crew: &Rc<Crew>) -> Coming {
        crew.coming.set(crew.coming.get() + 1);
        Coming(crew.clone())
    }

    /// Waits for a slot, and makes the running task a member.
    pub(super) fn arrive(self) {
        self.0.take().enroll(&current());
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.coming.set(self.0.coming.get() - 1);
        if self.0.coming.get() == 0 {
            self.0.emptied.ring();
        }
    }
}

impl Slot {
    /// Makes a task a member, until it ends or is discarded. One that has ended, or is a member already, takes no slot.
    pub(super) fn enroll(mut self, task: &Task) {
        let _steady = steady();
        if task.is_finished() {
            return;
        }
        let crew = self.crew.clone();
        let mut members = crew.members.borrow_mut();
        let Entry::Vacant(place) = members.entry(task.id()) else { return };
        self.member = Some(task.id());
        let key = task.watch(Box::new(move || drop(self)));
        place.insert((task.clone(), key));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let member = self.member.and_then(|id| steadily(|| self.crew.members.borrow_mut().remove(&id)));
        let mut wakes = Wakes::new();
        self.crew.give_back(&mut self.crew.slots.lock(), &mut wakes);
        drop(member);
    }
}

/// Tasks of one thread that wait for a condition, each looking for itself whenever the bell rings.
pub(super) struct Bell(WaitQueue);

impl Bell {
    pub(super) fn new() -> Bell {
        Bell(WaitQueue::new())
    }

    /// Wakes all who wait.
    pub(super) fn ring(&self) {
        if self.0.is_empty() {
            return;
        }
        let Some(hub) = Hub::get() else { return };
        self.0.offer(|waiter| {
            hub.fire(waiter);
            false
        });
    }

    /// Waits until `met`; false if the deadline came first.
    #[track_caller]
    pub(super) fn wait(&self, met: impl Fn() -> bool, reason: Reason, deadline: Option<Instant>) -> bool {
        while !met() {
            let hub = Hub::here();
            let waiter = hub.arm(Clause(0));
            let outcome = self.0.while_linked(waiter, End::Back, || hub.park(reason, deadline));
            if outcome == Outcome::Elapsed {
                return met();
            }
        }
        true
    }
}
