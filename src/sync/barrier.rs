//! `Barrier`: std's, whose waiters park.

#![forbid(unsafe_code)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::hub::{Reason, Wakes};
use crate::line::{self, List, Place};
use crate::lock::Lock;

/// Lets a number of tasks or threads wait until all of them have come: [`std::sync::Barrier`], but who waits parks.
///
/// The last to come is the leader and does not wait. Then the barrier starts anew.
///
/// # Examples
///
/// ```
/// use greenroom::sync::Barrier;
/// use std::rc::Rc;
///
/// let barrier = Rc::new(Barrier::new(3));
/// let tasks: Vec<_> = (0..3)
///     .map(|_| {
///         let barrier = barrier.clone();
///         greenroom::spawn(move || barrier.wait().is_leader())
///     })
///     .collect();
/// let leads: Vec<_> = greenroom::joinall(tasks).into_iter().map(Result::unwrap).collect();
/// assert_eq!(leads, [false, false, true]);
/// ```
pub struct Barrier {
    count: usize,
    state: Lock<State>,
}

struct State {
    waiting: usize,
    line: List<()>,
}

// It guards no data.
impl UnwindSafe for Barrier {}
impl RefUnwindSafe for Barrier {}

/// What [`Barrier::wait`] gives: whether the caller was the last to come.
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether the caller was the last to come; one of each round is.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl Barrier {
    /// A barrier for `n` at a time. With 0, as with 1, nobody waits.
    #[inline]
    #[must_use]
    pub const fn new(n: usize) -> Barrier {
        Barrier { count: n, state: Lock::new(State { waiting: 0, line: List::new() }) }
    }

    /// Waits until as many have come as the barrier is for.
    ///
    /// # Switching
    ///
    /// Yes, unless the caller is the last.
    ///
    /// # Cancellation
    ///
    /// A caller that is cancelled while it waits has not come: another must come in its place.
    pub fn wait(&self) -> BarrierWaitResult {
        let mut wakes = Wakes::new();
        let mut state = self.state.lock();
        // Not `waiting + 1 == count`: there are barriers for none.
        if state.waiting + 1 < self.count {
            let reason = Reason::Other(&"the others at a barrier");
            let _all = line::wait_after(self, &self.state, state, (), reason, None, |mut state| state.waiting += 1);
            return BarrierWaitResult(false);
        }
        state.waiting = 0;
        while state.line.serve(&mut wakes, |()| ()).is_some() {}
        BarrierWaitResult(true)
    }
}

impl Place<State> for &Barrier {
    type Payload = ();

    fn list<'a>(&self, state: &'a mut State) -> &'a mut List<()> {
        &mut state.line
    }

    fn left(&self, state: &mut State, _: &mut Wakes) {
        state.waiting -= 1;
    }

    /// Its round is over, and it was part of it.
    fn pass_on(&self, _: &mut State, (): &mut (), _: &mut Wakes) {}
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}

impl fmt::Debug for BarrierWaitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWaitResult").field("is_leader", &self.is_leader()).finish()
    }
}
