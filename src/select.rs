//! `select!`: waits for several things, and does one.
//!
//! ```text
//!   attempt each, in random order ── one can be had ──────────────────────────> done
//!     └ none: stand in all lines at once, then park
//!          └ one is served, in its line, to who wins the claim (`line::claim`) ──> leave the other lines, done
//! ```
//!
//! Places in line are taken one inside the other, each on the frame of the last, so that a cancelled wait leaves them all by
//! unwinding. Queues hand their items over as they do to anybody who waits (`line`); sockets and tasks, which have nothing to hand over,
//! only wake: what was served by then goes first.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::clock;
use crate::gate::Choosers;
use crate::hub::{self, Hub, Reason, Sleeper, Tell, Wakes};
use crate::io::Direction;
pub use crate::io::Pollable;
use crate::line::{self, Choice, Claim, Several, Taker};
use crate::lock::Lock;
use crate::queue::{Channel, GetError, LifoQueue, PriorityQueue, PutError, Queue};
use crate::store::{Buffer, Getters, Putters, Store};
use crate::sync::{AsyncResult, Event, Permit, Semaphore, mpsc};
use crate::task::{Task, Waitable, for_pointers};
use crate::waiter::Clause;

/// Waits until one of several operations can be done, does that one, and runs its arm.
///
/// ```text
/// select! {
///     operation(arguments) -> result => body,
///     operation(arguments) => body,
///     timeout(duration) => body,     // at most one: nothing could be done for so long
///     default => body,               // instead of a timeout: nothing can be done now
/// }
/// ```
///
/// The operations are the functions of the module [`select`](mod@crate::select):
///
/// | operation | result | when |
/// | --- | --- | --- |
/// | `recv(&receiver)` | `Result<T, RecvError>` | an item is received, or the senders are gone |
/// | `send(&sender, value)` | `Result<(), SendError<T>>` | the value is taken, or the receiver is gone |
/// | `get(&queue)` | `Result<T, GetError>` | an item is got, or the queue is shut down and empty |
/// | `put(&queue, value)` | `Result<(), PutError<T>>` | the value is put, or the queue is shut down |
/// | `send(&sender, from place)`, `put(&queue, from place)` | the same | as above; `place: Option<T>` keeps the value unless this arm is chosen |
/// | `acquire(&semaphore)` | `Permit` | a permit is taken |
/// | `wait(&event)`, `wait(&async_result)` | `()` | it is set |
/// | `join(&task)` | `()` | the task has ended |
/// | `readable(&socket)`, `writable(&socket)` | `()` | a call would not wait |
///
/// If several can be done, one of them is chosen at random, each with the same chance. What is not chosen is left as it was: its item
/// is still in its queue, its permit with its semaphore. The arguments of all arms are evaluated first, once, in order; a value given
/// to an arm that is not chosen is dropped with the arguments, unless it was given as `from` a place. Arms' values are the value of
/// the whole, so they have one type. An arm runs after the wait is over, and may do as it likes: `break`, `return`, `?`.
///
/// Without `timeout` and `default` it waits for as long as it takes; without any operation, for ever.
///
/// # Switching
///
/// Yes, unless something can be done at once or there is a `default`.
///
/// # Cancellation
///
/// A caller that is cancelled while it waits leaves all lines; what had just been handed to it goes to the next, or back.
///
/// # Panics
///
/// Never for what the operations find. As [`yield_now`](crate::yield_now) otherwise.
///
/// # Examples
///
/// ```
/// use greenroom::{select, sleep, spawn, sync::mpsc};
/// use std::time::Duration;
///
/// let (numbers, number) = mpsc::channel();
/// let (words, word) = mpsc::channel();
/// let sender = spawn(move || {
///     numbers.send(7).unwrap();
///     sleep(Duration::from_secs(3600));
///     words.send("late").unwrap();
/// });
///
/// let mut seen = Vec::new();
/// loop {
///     select! {
///         recv(&number) -> result => match result {
///             Ok(n) => seen.push(n.to_string()),
///             Err(_gone) => break,
///         },
///         recv(&word) -> result => seen.push(result.unwrap().to_string()),
///         timeout(Duration::from_millis(1)) => break,
///     }
/// }
/// assert_eq!(seen, ["7"]);
/// sender.kill();
/// ```
#[macro_export]
macro_rules! select {
    ($($arms:tt)*) => {
        $crate::__select!(@parse [] [] $($arms)*)
    };
}

/// The steps of [`select!`]: parse the arms, evaluate their arguments, run, branch.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // All arms are known: [operations] [what ends the wait].
    (@parse [$($arm:tt)*] []) => { $crate::__select!(@run [$($arm)*] [forever]) };
    (@parse [$($arm:tt)*] [$($end:tt)+]) => { $crate::__select!(@run [$($arm)*] [$($end)+]) };

    (@parse [$($arm:tt)*] [] default => $body:block, $($rest:tt)*) => {
        $crate::__select!(@parse [$($arm)*] [default $body] $($rest)*)
    };
    (@parse [$($arm:tt)*] [] default => $body:block $($rest:tt)*) => {
        $crate::__select!(@parse [$($arm)*] [default $body] $($rest)*)
    };
    (@parse [$($arm:tt)*] [] default => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse [$($arm)*] [default { $body }] $($($rest)*)?)
    };
    (@parse [$($arm:tt)*] [$($end:tt)+] default => $($rest:tt)*) => {
        compile_error!("select!: there is a `default` or a `timeout` already")
    };
    (@parse [$($arm:tt)*] [] timeout($limit:expr) => $body:block, $($rest:tt)*) => {
        $crate::__select!(@parse [$($arm)*] [timeout ($limit) $body] $($rest)*)
    };
    (@parse [$($arm:tt)*] [] timeout($limit:expr) => $body:block $($rest:tt)*) => {
        $crate::__select!(@parse [$($arm)*] [timeout ($limit) $body] $($rest)*)
    };
    (@parse [$($arm:tt)*] [] timeout($limit:expr) => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse [$($arm)*] [timeout ($limit) { $body }] $($($rest)*)?)
    };
    (@parse [$($arm:tt)*] [$($end:tt)+] timeout($limit:expr) => $($rest:tt)*) => {
        compile_error!("select!: there is a `default` or a `timeout` already")
    };

    (@parse [$($arm:tt)*] [$($end:tt)*] $op:ident $to:tt -> $result:pat => $body:block, $($rest:tt)*) => {
        $crate::__select!(@parse [$($arm)* { arm $op $to ($result) $body }] [$($end)*] $($rest)*)
    };
    (@parse [$($arm:tt)*] [$($end:tt)*] $op:ident $to:tt -> $result:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@parse [$($arm)* { arm $op $to ($result) $body }] [$($end)*] $($rest)*)
    };
    (@parse [$($arm:tt)*] [$($end:tt)*] $op:ident $to:tt -> $result:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse [$($arm)* { arm $op $to ($result) { $body } }] [$($end)*] $($($rest)*)?)
    };
    (@parse [$($arm:tt)*] [$($end:tt)*] $op:ident $to:tt => $body:block, $($rest:tt)*) => {
        $crate::__select!(@parse [$($arm)* { arm $op $to (_) $body }] [$($end)*] $($rest)*)
    };
    (@parse [$($arm:tt)*] [$($end:tt)*] $op:ident $to:tt => $body:block $($rest:tt)*) => {
        $crate::__select!(@parse [$($arm)* { arm $op $to (_) $body }] [$($end)*] $($rest)*)
    };
    (@parse [$($arm:tt)*] [$($end:tt)*] $op:ident $to:tt => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse [$($arm)* { arm $op $to (_) { $body } }] [$($end)*] $($($rest)*)?)
    };
    (@parse [$($arm:tt)*] [$($end:tt)*] $($unknown:tt)+) => {
        compile_error!("select!: an arm is `operation(arguments) -> pattern => body`, `timeout(duration) => body` or `default => body`")
    };

    (@run [$($arm:tt)*] [forever]) => {
        $crate::__select!(@branch ($crate::__select!(@operate [$($arm)*] [] ($crate::select::Limit::Never))) [$($arm)*] {
            ::core::unreachable!("a select without a limit ends with one of its operations")
        })
    };
    (@run [$($arm:tt)*] [default $body:block]) => {
        $crate::__select!(@branch ($crate::__select!(@operate [$($arm)*] [] ($crate::select::Limit::Now))) [$($arm)*] $body)
    };
    (@run [$($arm:tt)*] [timeout ($limit:expr) $body:block]) => {
        match $crate::select::Limit::after($limit) {
            limit => {
                $crate::__select!(@branch ($crate::__select!(@operate [$($arm)*] [] (limit))) [$($arm)*] $body)
            }
        }
    };

    // One `match` inside the other, so that temporaries among the arguments live until the wait is over.
    (@operate [{ $arm:ident $op:ident $to:tt $result:tt $body:tt } $($rest:tt)*] [$($ready:ident)*] $limit:tt) => {
        match $crate::__select!(@call $op $to) {
            mut $arm => $crate::__select!(@operate [$($rest)*] [$($ready)* $arm] $limit),
        }
    };
    (@call send($to:expr, from $place:expr)) => { $crate::select::send_from($to, &mut $place) };
    (@call put($to:expr, from $place:expr)) => { $crate::select::put_from($to, &mut $place) };
    (@call $op:ident($($argument:expr),* $(,)?)) => { $crate::select::$op($($argument),*) };
    (@operate [] [$($arm:ident)*] ($limit:expr)) => {{
        $crate::select::run(&mut [$(&mut $arm as &mut dyn $crate::select::Operation),*], $limit);
        $crate::__select!(@results $($arm)*)
    }};
    (@results $arm:ident $($rest:ident)*) => {
        ($crate::select::Outcome::finish($arm), $crate::__select!(@results $($rest)*))
    };
    (@results) => { () };

    (@branch ($results:expr) [{ $arm:ident $op:ident $to:tt ($result:pat) $body:block } $($rest:tt)*] $otherwise:block) => {
        match {
            // The temporaries of the operations end here.
            let results = $results;
            results
        } {
            (::core::option::Option::Some($result), _) => $body,
            (::core::option::Option::None, rest) => $crate::__select!(@branch (rest) [$($rest)*] $otherwise),
        }
    };
    (@branch ($results:expr) [] $otherwise:block) => {{
        let () = $results;
        $otherwise
    }};
}

/// How long to wait.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    Now,
    Until(Instant),
    Never,
}

impl Limit {
    #[doc(hidden)]
    pub fn after(limit: Duration) -> Limit {
        clock::deadline_after(limit).map_or(Limit::Never, Limit::Until)
    }
}

/// One of the things that a `select!` waits for.
#[doc(hidden)]
pub trait Operation {
    /// Does it, if it can be done at once; says whether it was done.
    fn attempt(&mut self) -> bool;

    /// Stands in line for it while `inner` runs, which does not run if it can be done before. Notes whether it was done.
    fn while_linked(&mut self, choice: &Chosen<'_>, clause: u32, inner: &mut dyn FnMut());

    /// It woke the wait, and nothing else was done: it is.
    fn woken(&mut self) {}

    /// Whether other threads may make it possible.
    fn is_shared(&self) -> bool {
        true
    }
}

/// What an operation gives.
#[doc(hidden)]
pub trait Outcome: Operation {
    type Output;

    /// `None`: it was not chosen.
    fn finish(self) -> Option<Self::Output>;
}

/// The wait of one `select!`.
#[doc(hidden)]
pub struct Chosen<'a>(&'a Several);

impl fmt::Debug for Chosen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chosen").finish_non_exhaustive()
    }
}

/// Does one of the operations, or none if the limit comes first.
#[doc(hidden)]
pub fn run(operations: &mut [&mut dyn Operation], limit: Limit) {
    for place in shuffled(operations.len()) {
        if operations[place].attempt() {
            return;
        }
    }
    let deadline = match limit {
        Limit::Now => return,
        Limit::Until(deadline) => Some(deadline),
        Limit::Never => None,
    };

    let shared = operations.iter().any(|operation| operation.is_shared());
    let several = Several { claim: Claim::new(), sleeper: Sleeper::arm() };
    let (parked, woken_by) = (Cell::new(false), Cell::new(None));
    stand_in_all(operations, 0, &several, &mut || {
        parked.set(true);
        woken_by.set(park(&several, shared, deadline));
    });
    if !parked.get() {
        several.sleeper.give_up();
    }
    if let Some(Clause(place)) = woken_by.get() {
        operations[place as usize].woken();
    }
}

/// Stands in the lines of all operations, the first one's outermost, and runs `park` there.
fn stand_in_all(operations: &mut [&mut dyn Operation], clause: u32, several: &Several, park: &mut dyn FnMut()) {
    match operations.split_first_mut() {
        None => park(),
        Some((first, rest)) => {
            first.while_linked(&Chosen(several), clause, &mut || stand_in_all(rest, clause + 1, several, park));
        }
    }
}

/// Parks, standing in all lines. Gives the clause that merely woke the wait, if nothing was served.
fn park(several: &Several, shared: bool, deadline: Option<Instant>) -> Option<Clause> {
    let Several { claim, sleeper } = several;
    let outcome = if claim.winner().is_some() {
        sleeper.give_up();
        hub::Outcome::Elapsed
    } else {
        sleeper.park(shared, Reason::Other(&"one of several things"), deadline, || claim.winner().is_some())
    };
    match (claim.withdraw(), outcome) {
        (Some(_served), _) => {
            sleeper.attend();
            None
        }
        (None, hub::Outcome::Fired(clause)) => Some(clause),
        (None, hub::Outcome::Elapsed) => None,
    }
}

/// The numbers below `len` in random order.
fn shuffled(len: usize) -> impl Iterator<Item = usize> {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    // An xorshift of 64 bits: for a fair choice, not against a guess. Without thread-locals the order is that of the arms.
    let next = || {
        STATE.try_with(|state| {
            let mut x = state.get();
            if x == 0 {
                // Of tasks too that have it to themselves, one after the other in one place.
                x = std::ptr::from_ref(state).addr() as u64 ^ crate::thread_block::identity() << 32 | 1;
            }
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            state.set(x);
            x
        })
    };
    // A permutation of few: each number is drawn from those that are left.
    let mut left: [u8; MOST] = std::array::from_fn(|place| place as u8);
    assert!(len <= MOST, "greenroom: a select! has {MOST} operations at most");
    (0..len).map(move |drawn| {
        let choices = (len - drawn) as u64;
        let place = drawn + (next().unwrap_or(0) % choices) as usize;
        left.swap(drawn, place);
        usize::from(left[drawn])
    })
}

/// More than this many operations would want another data structure.
const MOST: usize = 64;

/// An operation on something that hands out to those who stand in line.
struct InLine<'a, S, P: Choice<S>, F> {
    place: P,
    lock: &'a Lock<S>,
    payload: Option<P::Payload>,
    done: bool,
    output: F,
}

impl<'a, S, P: Choice<S> + Copy, F> InLine<'a, S, P, F> {
    fn new<O>(place: P, lock: &'a Lock<S>, payload: P::Payload, output: F) -> Self
    where
        F: FnOnce(P::Payload) -> O,
    {
        InLine { place, lock, payload: Some(payload), done: false, output }
    }
}

impl<S, P: Choice<S> + Copy, F> Operation for InLine<'_, S, P, F> {
    fn attempt(&mut self) -> bool {
        let payload = self.payload.as_mut().expect("it is taken by `finish`");
        let mut wakes = Wakes::new();
        let mut state = self.lock.lock();
        self.done = self.place.take_now(&mut state, payload, Taker::Free, &mut wakes);
        self.done
    }

    fn while_linked(&mut self, choice: &Chosen<'_>, clause: u32, inner: &mut dyn FnMut()) {
        let payload = self.payload.as_mut().expect("it is taken by `finish`");
        self.done = line::while_linked(self.place, self.lock, payload, choice.0, clause, inner);
    }
}

impl<S, P: Choice<S> + Copy, O, F: FnOnce(P::Payload) -> O> Outcome for InLine<'_, S, P, F> {
    type Output = O;

    fn finish(mut self) -> Option<O> {
        let payload = self.payload.take().filter(|_| self.done)?;
        Some((self.output)(payload))
    }
}

/// Puts the value of a place, which keeps it unless the operation is chosen. Without a value it never is.
struct PutFrom<'a, B: Buffer, E> {
    store: &'a Store<B>,
    place: &'a mut Option<B::Item>,
    done: bool,
    error: fn(B::Item) -> E,
}

impl<B: Buffer, E> Operation for PutFrom<'_, B, E> {
    fn attempt(&mut self) -> bool {
        let mut wakes = Wakes::new();
        let mut state = self.store.state.lock();
        self.done = Putters.take_now(&mut state, self.place, Taker::Free, &mut wakes);
        self.done
    }

    fn while_linked(&mut self, choice: &Chosen<'_>, clause: u32, inner: &mut dyn FnMut()) {
        if self.place.is_none() {
            return inner();
        }
        self.done = line::while_linked(Putters, &self.store.state, self.place, choice.0, clause, inner);
    }
}

impl<B: Buffer, E> Outcome for PutFrom<'_, B, E> {
    type Output = Result<(), E>;

    /// What comes back from a store that is closed is in the place.
    fn finish(self) -> Option<Result<(), E>> {
        self.done.then(|| match self.place.take() {
            None => Ok(()),
            Some(item) => Err((self.error)(item)),
        })
    }
}

/// Something that items are received from: an `mpsc` receiver, a queue.
pub trait Source {
    /// What is received.
    type Item;
    /// What [`recv`] gives when nothing comes any more.
    type Error;

    #[doc(hidden)]
    fn receiving(&self) -> impl Outcome<Output = Result<Self::Item, Self::Error>>;
}

/// Something that items are sent to: an `mpsc` sender, a queue.
pub trait Sink {
    /// What is sent.
    type Item;
    /// What gives an item back that can no longer be sent.
    type Error;

    #[doc(hidden)]
    fn sending(&self, item: Self::Item) -> impl Outcome<Output = Result<(), Self::Error>>;

    #[doc(hidden)]
    fn sending_from<'a>(&'a self, place: &'a mut Option<Self::Item>) -> impl Outcome<Output = Result<(), Self::Error>>;
}

/// Waits until an item is received, or the senders are gone.
pub fn recv<R: Source + ?Sized>(receiver: &R) -> impl Outcome<Output = Result<R::Item, R::Error>> {
    receiver.receiving()
}

/// Waits until the item is sent, or the receiver is gone. Dropped, if another arm is chosen.
pub fn send<S: Sink + ?Sized>(sender: &S, item: S::Item) -> impl Outcome<Output = Result<(), S::Error>> {
    sender.sending(item)
}

/// As [`send`], for the item that a place holds; it stays there if another arm is chosen. A place without one waits for ever.
pub fn send_from<'a, S: Sink + ?Sized>(
    sender: &'a S,
    place: &'a mut Option<S::Item>,
) -> impl Outcome<Output = Result<(), S::Error>> + use<'a, S> {
    sender.sending_from(place)
}

macro_rules! sources {
    ($($source:ty $(where $bound:ident)?: $error:ty = $gone:expr;)*) => {$(
        impl<T $(: $bound)?> Source for $source {
            type Item = T;
            type Error = $error;

            fn receiving(&self) -> impl Outcome<Output = Result<T, $error>> {
                getting(self.store(), || $gone)
            }
        }
    )*};
}

sources! {
    mpsc::Receiver<T>: mpsc::RecvError = mpsc::RecvError;
    Queue<T>: GetError = GetError::ShutDown;
    LifoQueue<T>: GetError = GetError::ShutDown;
    PriorityQueue<T> where Ord: GetError = GetError::ShutDown;
    Channel<T>: GetError = GetError::ShutDown;
}

macro_rules! sinks {
    ($($sink:ty $(where $bound:ident)?: $error:ty = $gone:expr;)*) => {$(
        impl<T $(: $bound)?> Sink for $sink {
            type Item = T;
            type Error = $error;

            fn sending(&self, item: T) -> impl Outcome<Output = Result<(), $error>> {
                putting(self.store(), item, $gone)
            }

            fn sending_from<'a>(&'a self, place: &'a mut Option<T>) -> impl Outcome<Output = Result<(), $error>> {
                PutFrom { store: self.store(), place, done: false, error: $gone }
            }
        }
    )*};
}

sinks! {
    mpsc::Sender<T>: mpsc::SendError<T> = mpsc::SendError;
    mpsc::SyncSender<T>: mpsc::SendError<T> = mpsc::SendError;
    Queue<T>: PutError<T> = PutError::ShutDown;
    LifoQueue<T>: PutError<T> = PutError::ShutDown;
    PriorityQueue<T> where Ord: PutError<T> = PutError::ShutDown;
    Channel<T>: PutError<T> = PutError::ShutDown;
}

/// Waits until an item is got, or the queue is shut down: [`recv`] by the name that it has for queues.
pub fn get<R: Source + ?Sized>(queue: &R) -> impl Outcome<Output = Result<R::Item, R::Error>> {
    queue.receiving()
}

/// Waits until the item is put, or the queue is shut down: [`send`] by the name that it has for queues.
pub fn put<S: Sink + ?Sized>(queue: &S, item: S::Item) -> impl Outcome<Output = Result<(), S::Error>> {
    queue.sending(item)
}

/// As [`put`], for the item that a place holds: see [`send_from`].
pub fn put_from<'a, S: Sink + ?Sized>(
    queue: &'a S,
    place: &'a mut Option<S::Item>,
) -> impl Outcome<Output = Result<(), S::Error>> + use<'a, S> {
    queue.sending_from(place)
}

/// Gets an item, or what `gone` gives if none will come.
fn getting<B: Buffer, E>(store: &Store<B>, gone: fn() -> E) -> impl Outcome<Output = Result<B::Item, E>> {
    InLine::new(Getters, &store.state, None, move |slot: Option<B::Slot>| slot.map(B::item).ok_or_else(gone))
}

// What points to something that can be waited for can be waited for itself.
for_pointers!(Source for P {
    type Item = P::Item;
    type Error = P::Error;

    fn receiving(&self) -> impl Outcome<Output = Result<P::Item, P::Error>> {
        (**self).receiving()
    }
});

for_pointers!(Sink for P {
    type Item = P::Item;
    type Error = P::Error;

    fn sending(&self, item: P::Item) -> impl Outcome<Output = Result<(), P::Error>> {
        (**self).sending(item)
    }

    fn sending_from<'a>(&'a self, place: &'a mut Option<P::Item>) -> impl Outcome<Output = Result<(), P::Error>> {
        (**self).sending_from(place)
    }
});

for_pointers!(Wait for P {
    fn waiting(&self) -> impl Outcome<Output = ()> {
        (**self).waiting()
    }
});

/// Puts an item of its own.
fn putting<B: Buffer, E>(
    store: &Store<B>,
    item: B::Item,
    error: fn(B::Item) -> E,
) -> impl Outcome<Output = Result<(), E>> {
    let output = move |left: Option<B::Item>| left.map_or(Ok(()), |item| Err(error(item)));
    InLine::new(Putters, &store.state, Some(item), output)
}

/// Waits for a permit and takes it.
pub fn acquire(semaphore: &Semaphore) -> impl Outcome<Output = Permit<'_>> {
    InLine::new(semaphore, semaphore.line(), 1, |permits| Permit::of(semaphore, permits))
}

/// Something that is waited for and not taken: an event, a result.
pub trait Wait {
    #[doc(hidden)]
    fn waiting(&self) -> impl Outcome<Output = ()>;
}

/// Waits until an event is set, or a result is there.
pub fn wait<W: Wait + ?Sized>(object: &W) -> impl Outcome<Output = ()> {
    object.waiting()
}

impl Wait for Event {
    fn waiting(&self) -> impl Outcome<Output = ()> {
        InLine::new(Choosers(|| self.is_set()), self.gate().state(), (), |()| ())
    }
}

impl<T> Wait for AsyncResult<T> {
    fn waiting(&self) -> impl Outcome<Output = ()> {
        InLine::new(Choosers(|| self.is_set()), self.gate().state(), (), |()| ())
    }
}

/// The end of a task.
struct Join {
    task: Task,
    done: bool,
}

/// Waits for a task's end. Its result stays with its handle, whose [`join`](crate::JoinHandle::join) then returns at once.
pub fn join(task: impl Into<Task>) -> impl Outcome<Output = ()> {
    Join { task: task.into(), done: false }
}

impl Operation for Join {
    fn attempt(&mut self) -> bool {
        self.done = self.task.is_finished();
        self.done
    }

    fn while_linked(&mut self, choice: &Chosen<'_>, clause: u32, inner: &mut dyn FnMut()) {
        /// Takes the watcher back before the wait is over.
        struct Unwatch<'a>(&'a Task, u64);
        impl Drop for Unwatch<'_> {
            fn drop(&mut self) {
                self.0.unwatch(self.1);
            }
        }
        // Tasks have a hub, and are of this thread.
        let (Some(hub), Some(waiter)) = (Hub::get(), choice.0.sleeper.waiter(Clause(clause))) else { return };
        let fire = move || {
            hub.fire(waiter);
        };
        let _unwatch = Unwatch(&self.task, self.task.watch(Box::new(fire)));
        inner();
    }

    fn woken(&mut self) {
        self.done = true;
    }

    fn is_shared(&self) -> bool {
        false
    }
}

impl Outcome for Join {
    type Output = ();

    fn finish(self) -> Option<()> {
        self.done.then_some(())
    }
}

/// The readiness of a socket: an operation of [`select!`](crate::select!), and something to [`wait`](crate::wait()) for. Made by
/// [`readable`] and [`writable`].
///
/// It stays on its thread, whose hub is told of the socket:
///
/// ```compile_fail
/// fn waits_elsewhere(socket: &'static greenroom::net::TcpStream) {
///     let readable = greenroom::select::readable(socket);
///     std::thread::spawn(move || greenroom::wait([readable], None, None).len());
/// }
/// ```
pub struct Readiness<'a, S: ?Sized> {
    socket: &'a S,
    direction: Direction,
    done: bool,
    /// Watched in the hub of the thread that asked; that of another would not be told.
    _stays: PhantomData<*const ()>,
}

impl<'a, S: ?Sized> Readiness<'a, S> {
    /// The socket.
    pub fn socket(&self) -> &'a S {
        self.socket
    }
}

impl<S: ?Sized> fmt::Debug for Readiness<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("direction", &self.direction).finish_non_exhaustive()
    }
}

impl<S: Pollable + ?Sized> Waitable for Readiness<'_, S> {
    fn watch(&self, ready: &Tell) -> Option<u64> {
        self.socket.awaited().0.watch(self.direction, ready)
    }

    fn unwatch(&self, key: u64) {
        self.socket.awaited().0.unwatch(self.direction, key);
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn is_outside(&self) -> bool {
        true
    }
}

/// Waits until a read would not block, or would fail. Nothing is read.
pub fn readable<S: Pollable + ?Sized>(socket: &S) -> Readiness<'_, S> {
    Readiness { socket, direction: Direction::Read, done: false, _stays: PhantomData }
}

/// Waits until a write would not block, or would fail. Nothing is written.
pub fn writable<S: Pollable + ?Sized>(socket: &S) -> Readiness<'_, S> {
    Readiness { socket, direction: Direction::Write, done: false, _stays: PhantomData }
}

impl<S: Pollable + ?Sized> Operation for Readiness<'_, S> {
    fn attempt(&mut self) -> bool {
        // The wait that may follow needs a hub.
        let _hub = Hub::here();
        self.done = self.socket.awaited().0.is_ready(self.direction);
        self.done
    }

    fn while_linked(&mut self, choice: &Chosen<'_>, clause: u32, inner: &mut dyn FnMut()) {
        let Some(waiter) = choice.0.sleeper.waiter(Clause(clause)) else { return };
        let waited = self.socket.awaited().0.while_awaited(self.direction, waiter, inner);
        // What cannot be waited for is a matter for the call that comes next. If something else won meanwhile, that counts.
        if !matches!(waited, Ok(true)) {
            self.done = choice.0.claim.win(clause);
        }
    }

    fn woken(&mut self) {
        self.done = true;
    }

    fn is_shared(&self) -> bool {
        false
    }
}

impl<S: Pollable + ?Sized> Outcome for Readiness<'_, S> {
    type Output = ();

    fn finish(self) -> Option<()> {
        self.done.then_some(())
    }
}
