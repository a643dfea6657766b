//! Generators: functions that give their values one by one, each when it is asked for.
//!
//! A generator runs on a stack of its own, and only while its consumer waits in `next` or `resume`:
//!
//! ```text
//!   consumer's stack                     generator's stack
//!   ----------------                     -----------------
//!   for n in generator -- resume ------> body: reads, computes, sleeps
//!        n  <--------------- suspend --- yielder.yield_(n)
//! ```
//!
//! Whatever blocks inside parks the whole task that is asking, and the other tasks go on (rule 14). A timeout or a kill that is
//! meant for the consumer reaches the body while it runs; a timeout inside the body ends nothing but its own block.
//! Between two values a generator belongs to nobody: it may be moved to another task of its thread, and go on there.
//!
//! - **G1** A value is in its cell only across one switch: the two sides never hold it both, and never neither.
//! - **G2** Only code on a generator's own stack suspends it. A [`Yielder`] that was lent to a task of a scope is refused there.
//! - **G3** A body ends on its own stack: by returning, by a panic that its consumer then meets, or closed. Nothing unwinds it from
//!   outside, so that its destructors may park.

#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;

use crate::coroutine::{Coroutine, Suspender};
use crate::hub::{Cancelled, Frame, Hub, enter_boundary, leave_boundary};
use crate::stack::{self, Stack};
use crate::thread_block;

use kind::Kind;

/// A body that gives values one by one: `Generator<Y>` is an iterator over `Y`; `Generator<Resume, Yield, Return>` also takes
/// a value each time, and ends with one.
///
/// The body begins at the first `next` or [`resume`](Self::resume). It may block: then the task that asked is parked. A panic in
/// it surfaces in the `next` or `resume` that it answers; afterwards the generator is done.
///
/// Dropping one that is suspended closes it: its `yield_` unwinds, so that the destructors on its stack run, innermost
/// first, before the drop is over. One that was never started only drops its closure. One that is forgotten keeps its
/// stack for ever.
///
/// # Switching
///
/// `next`, [`resume`](Self::resume) and drop: as the body does.
///
/// # Cancellation
///
/// A kill of the task that asks, or the end of a timeout around the call, unwinds the body first and then the caller;
/// afterwards the generator is done. While the caller is already unwinding, neither is raised. A body that is closed by a
/// caller that unwinds counts as unwinding to its end, even if it catches that: its own timeouts end nothing any more.
///
/// # Panics
///
/// `next` and [`resume`](Self::resume): with the body; and if the thread has no hub yet and the system gives no poller for
/// one. Drop: with a destructor on the generator's stack, unless the caller is already unwinding.
///
/// # Platform-specific behavior
///
/// In a program built with `panic = "abort"` a suspended generator that is dropped is left as it is, with its stack, for ever.
///
/// # Examples
///
/// ```
/// use greenroom::generator::{Generator, Yielder};
///
/// let squares = Generator::new(|y: &Yielder<(), u32>| {
///     for n in 1.. {
///         y.yield_(n * n);
///     }
/// });
/// assert_eq!(squares.take(4).collect::<Vec<_>>(), [1, 4, 9, 16]);
/// ```
///
/// Values both ways:
///
/// ```
/// use greenroom::generator::{Generator, GeneratorState, Yielder};
///
/// let mut sum = Generator::with_resume(|y: &Yielder<Option<i32>, i32>, first: Option<i32>| {
///     let mut total = 0;
///     let mut next = first;
///     while let Some(n) = next {
///         total += n;
///         next = y.yield_(total);
///     }
///     format!("{total} in all")
/// });
/// assert_eq!(sum.resume(Some(1)), GeneratorState::Yielded(1));
/// assert_eq!(sum.resume(Some(2)), GeneratorState::Yielded(3));
/// assert_eq!(sum.resume(None), GeneratorState::Complete("3 in all".to_owned()));
/// ```
///
/// A generator stays on its thread, for its stack may hold what is not `Send`:
///
/// ```compile_fail
/// fn send<T: Send>(_: T) {}
/// send(greenroom::generator::Generator::new(|y: &greenroom::generator::Yielder<(), u32>| { y.yield_(1); }));
/// ```
///
/// An iterator takes no values, so it has no `resume`:
///
/// ```compile_fail
/// let mut numbers = greenroom::generator::Generator::new(|y: &greenroom::generator::Yielder<(), u32>| { y.yield_(1); });
/// numbers.resume(1);
/// ```
#[must_use = "a generator does nothing until it is asked for a value"]
pub struct Generator<A, B: ?Sized + Kind = Iter, C = ()> {
    /// Before the cells: closed while they are there.
    core: Core,
    cells: Rc<B::Cells<A, C>>,
}

/// What a two-way generator answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GeneratorState<Y, C> {
    /// It yielded a value and can be resumed.
    Yielded(Y),
    /// It returned a value and is done.
    Complete(C),
}

/// Stands in [`Generator`]'s second place for one that is an iterator.
pub struct Iter {
    /// No value can be made, and no sized type is this one: it overlaps with no type of values.
    _unsized: [()],
}

impl<Y: 'static> Generator<Y> {
    /// Makes a generator that is an iterator over what `body` yields.
    ///
    /// # Switching
    ///
    /// Never: `body` begins with the first `next`.
    ///
    /// # Panics
    ///
    /// If the system gives no memory for its stack. [`Builder::build`] gives an error instead.
    #[track_caller]
    pub fn new(body: impl FnOnce(&Yielder<'_, (), Y>) + 'static) -> Generator<Y> {
        made(Builder::new().build(body))
    }
}

impl<R: 'static, Y: 'static, C: 'static> Generator<R, Y, C> {
    /// Makes a generator that takes a value at each [`resume`](Self::resume); `body` is given the first.
    ///
    /// # Switching
    ///
    /// Never: `body` begins with the first resume.
    ///
    /// # Panics
    ///
    /// If the system gives no memory for its stack. [`Builder::build_with_resume`] gives an error instead.
    #[track_caller]
    pub fn with_resume(body: impl FnOnce(&Yielder<'_, R, Y>, R) -> C + 'static) -> Generator<R, Y, C> {
        made(Builder::new().build_with_resume(body))
    }

    /// Runs the body until it yields or returns: `value` is what its `yield_` returns, or its argument if it had not begun.
    ///
    /// # Switching
    ///
    /// As the body does.
    ///
    /// # Panics
    ///
    /// With the body, and if the generator is done.
    #[track_caller]
    pub fn resume(&mut self, value: R) -> GeneratorState<Y, C> {
        assert!(!self.core.is_done(), "greenroom: a generator was resumed that is done");
        self.cells.resume.set(Some(value));
        if let Suspended = self.core.run() {
            let value = self.cells.yielded.take();
            return GeneratorState::Yielded(value.expect("G1: a generator that suspends has yielded"));
        }
        self.core.surface();
        let value = self.cells.returned.take();
        GeneratorState::Complete(value.expect("G3: a body that did not panic has returned"))
    }
}

impl<A, B: ?Sized + Kind, C> Generator<A, B, C> {
    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.core.is_done()
    }
}

impl<Y: 'static> Iterator for Generator<Y> {
    type Item = Y;

    fn next(&mut self) -> Option<Y> {
        if self.core.is_done() {
            return None;
        }
        self.cells.resume.set(Some(()));
        if let Suspended = self.core.run() {
            return self.cells.yielded.take();
        }
        self.core.surface();
        None
    }
}

impl<Y: 'static> FusedIterator for Generator<Y> {}

impl<A, B: ?Sized + Kind, C> fmt::Debug for Generator<A, B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").field("done", &self.is_done()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Iter")
    }
}

/// Gives a generator's values to its consumer. Lent to the body.
pub struct Yielder<'body, R, Y> {
    suspender: &'body Suspender,
    control: &'body Control,
    resume: &'body Cell<Option<R>>,
    yielded: &'body Cell<Option<Y>>,
}

impl<R: 'static, Y> Yielder<'_, R, Y> {
    /// Hands `value` to the consumer, and returns what it resumes the generator with.
    ///
    /// If the generator is dropped meanwhile, this unwinds the body instead; the panic hook does not see that. Code that
    /// catches it and yields again meets it again.
    ///
    /// A body that is unwinding cannot yield any more: in a destructor that runs then, the value is dropped and the call
    /// returns at once if `R` is `()`.
    ///
    /// # Switching
    ///
    /// The task goes on in the consumer; no other task runs.
    ///
    /// # Panics
    ///
    /// If it is not called on the generator's own stack, but from a scope's task that borrowed the yielder, or from a generator
    /// inside this one. While the body is unwinding, if `R` is not `()`: in a destructor, that aborts the program.
    #[track_caller]
    pub fn yield_(&self, value: Y) -> R {
        assert!(
            self.suspender.is_innermost(self.control.limit),
            "greenroom: a generator can only yield from its own body, not from another task or generator"
        );
        if std::thread::panicking() && self.control.is_unwinding() {
            drop(value);
            return nothing().expect("greenroom: a generator that unwinds was to yield, and to be given a value");
        }
        if self.control.closing.get() {
            drop(value);
            self.control.close();
        }

        self.yielded.set(Some(value));
        self.suspender.suspend();
        if self.control.closing.get() {
            self.control.close();
        }
        self.resume.take().expect("G1: who resumes a generator gives it a value")
    }
}

impl<Y> Yielder<'_, (), Y> {
    /// Yields each value of an iterator: another generator's, say, which may be made by the same function.
    ///
    /// # Switching
    ///
    /// As [`yield_`](Self::yield_), and as the iterator does.
    ///
    /// # Panics
    ///
    /// As [`yield_`](Self::yield_), and with the iterator.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::generator::{Generator, Yielder};
    ///
    /// fn countdown(from: u32) -> Generator<u32> {
    ///     Generator::new(move |y: &Yielder<(), u32>| {
    ///         y.yield_(from);
    ///         if from > 0 {
    ///             y.yield_from(countdown(from - 1));
    ///         }
    ///     })
    /// }
    /// assert_eq!(countdown(3).collect::<Vec<_>>(), [3, 2, 1, 0]);
    /// ```
    #[track_caller]
    pub fn yield_from(&self, values: impl IntoIterator<Item = Y>) {
        for value in values {
            self.yield_(value);
        }
    }
}

impl<R, Y> fmt::Debug for Yielder<'_, R, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}

/// Makes generators that are not as usual.
///
/// # Examples
///
/// ```
/// use greenroom::generator::{Builder, Yielder};
///
/// let deep = Builder::new().stack_size(1 << 20).build(|y: &Yielder<(), u8>| { y.yield_(1); })?;
/// assert_eq!(deep.sum::<u8>(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    stack_size: usize,
}

impl Builder {
    /// Begins with the usual.
    pub fn new() -> Builder {
        Builder { stack_size: stack::DEFAULT_SIZE }
    }

    /// Sets the room for the body's stack, in bytes: 256 KiB if this is not called. Rounded up to a power of two.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = bytes;
        self
    }

    /// As [`Generator::new`].
    ///
    /// # Errors
    ///
    /// If the system gives no memory for the stack, or it is to be larger than 1 GiB.
    pub fn build<Y: 'static>(self, body: impl FnOnce(&Yielder<'_, (), Y>) + 'static) -> io::Result<Generator<Y>> {
        let (core, cells) = lay_out(self.stack_size, Box::new(move |yielder, ()| body(yielder)))?;
        Ok(Generator { core, cells })
    }

    /// As [`Generator::with_resume`].
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_with_resume<R: 'static, Y: 'static, C: 'static>(
        self,
        body: impl FnOnce(&Yielder<'_, R, Y>, R) -> C + 'static,
    ) -> io::Result<Generator<R, Y, C>> {
        let (core, cells) = lay_out(self.stack_size, Box::new(body))?;
        Ok(Generator { core, cells })
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

#[track_caller]
fn made<G>(generator: io::Result<G>) -> G {
    match generator {
        Ok(generator) => generator,
        Err(error) => panic!("greenroom: no generator can be made: {error}"),
    }
}

mod kind {
    use super::{Cells, Iter};

    /// Which values pass between the two sides: told by the second of [`Generator`](super::Generator)'s types.
    pub trait Kind {
        /// The cells that they pass through.
        type Cells<A, C>;
    }

    impl<Y> Kind for Y {
        type Cells<R, C> = Cells<R, Y, C>;
    }

    impl Kind for Iter {
        type Cells<Y, C> = Cells<(), Y, C>;
    }

    impl<R, Y, C> std::fmt::Debug for Cells<R, Y, C> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Cells").finish_non_exhaustive()
        }
    }
}

type Body<R, Y, C> = Box<dyn FnOnce(&Yielder<'_, R, Y>, R) -> C>;

/// What passes between the two sides (G1).
pub struct Cells<R, Y, C> {
    /// Until it begins. Not on its stack, so that one that never begins is dropped where the generator is.
    body: Cell<Option<Body<R, Y, C>>>,
    resume: Cell<Option<R>>,
    yielded: Cell<Option<Y>>,
    returned: Cell<Option<C>>,
}

/// What both sides know, whatever the values. Leaked with the stack if the generator is forgotten.
struct Control {
    /// The bottom of the generator's part of the chain of frames.
    boundary: Pin<Box<Frame>>,
    /// The lowest address of the stack.
    limit: usize,
    /// The generator is being dropped: the body is to end.
    closing: Cell<bool>,
    /// That was raised.
    raised: Cell<bool>,
    /// Whose thread-locals the body has, from its beginning on.
    home: Cell<u64>,
    /// The thread was already panicking when the body was resumed; only known, and asked, where there is no hub.
    resumed_panicking: Cell<bool>,
    /// What the body panicked with, or was cancelled with, on its way to the consumer.
    payload: Cell<Option<Box<dyn Any + Send>>>,
}

/// The private payload of the unwind that closes a generator.
struct Closed;

impl Control {
    /// Whether the body is unwinding, on its own stack.
    #[cold]
    fn is_unwinding(&self) -> bool {
        match Hub::get() {
            Some(hub) => hub.is_unwinding(&hub.current()),
            // Without a hub nobody keeps apart who panics: rather too often than to raise in a destructor.
            None => !self.resumed_panicking.get() || self.raised.get(),
        }
    }

    /// Unwinds the body.
    #[cold]
    fn close(&self) -> ! {
        self.raised.set(true);
        pass_on(Box::new(Closed))
    }
}

/// The consumer's hold of a generator, whatever the values.
struct Core {
    /// `None` once the body has ended.
    coroutine: Option<Coroutine>,
    control: Rc<Control>,
    pinned: bool,
}

/// How a resume came back.
enum Came {
    Suspended,
    Ended,
}
use Came::{Ended, Suspended};

/// The two parts of a new generator.
type Parts<R, Y, C> = (Core, Rc<Cells<R, Y, C>>);

/// Lays a body onto a new stack.
fn lay_out<R: 'static, Y: 'static, C: 'static>(stack_size: usize, body: Body<R, Y, C>) -> io::Result<Parts<R, Y, C>> {
    let stack = Stack::new(stack_size)?;
    let control = Rc::new(Control {
        boundary: Box::pin(Frame::boundary()),
        limit: stack.limit(),
        closing: Cell::new(false),
        raised: Cell::new(false),
        home: Cell::new(0),
        resumed_panicking: Cell::new(false),
        payload: Cell::new(None),
    });
    let cells = Rc::new(Cells {
        body: Cell::new(Some(body)),
        resume: Cell::new(None),
        yielded: Cell::new(None),
        returned: Cell::new(None),
    });

    let shared = (Rc::clone(&control), Rc::clone(&cells));
    let coroutine = Coroutine::owning(stack, move |suspender| {
        let (control, cells) = shared;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let body = cells.body.take().expect("a body begins once");
            let first = cells.resume.take().expect("G1: who resumes a generator gives it a value");
            let yielder = Yielder { suspender, control: &control, resume: &cells.resume, yielded: &cells.yielded };
            body(&yielder, first)
        }));
        if let Some(hub) = Hub::get() {
            hub.current().unwinding.set(false);
        }
        match ended {
            Ok(value) => cells.returned.set(Some(value)),
            Err(payload) if control.closing.get() && payload.is::<Closed>() => {}
            Err(payload) => control.payload.set(Some(payload)),
        }
    });
    Ok((Core { coroutine: Some(coroutine), control, pinned: false }, cells))
}

impl Core {
    fn is_done(&self) -> bool {
        self.coroutine.is_none()
    }

    /// Runs the body until it suspends or ends.
    #[track_caller]
    fn run(&mut self) -> Came {
        let here = thread_block::identity();
        let coroutine = self.coroutine.as_mut().expect("only a generator that is not done is run");
        if !coroutine.started() {
            self.control.home.set(here);
        }
        assert!(
            self.control.home.get() == here,
            "greenroom: a generator that has begun in a task with thread-locals of its own goes on only there, and no other \
             goes on in such a task"
        );
        // One or the other for the whole of the call: a hub cannot come when one has gone.
        let hub = match Hub::get() {
            None if Hub::is_gone() => None,
            _ => Some(Hub::here()),
        };
        let boundary = self.control.boundary.as_ref();
        match hub {
            None => self.control.resumed_panicking.set(std::thread::panicking()),
            Some(hub) => {
                if !self.pinned {
                    self.pinned = true;
                    hub.pin();
                }
                enter_boundary(hub, boundary);
            }
        }

        let ended = coroutine.resume();

        if let Some(hub) = hub {
            leave_boundary(hub, boundary);
        }
        if !ended {
            return Suspended;
        }
        self.coroutine = None;
        if let Some(hub) = hub {
            hub.unpin();
        }
        Ended
    }

    /// Goes on in the consumer with the unwind that ended the body, if one did.
    #[inline]
    fn surface(&self) {
        if let Some(payload) = self.control.payload.take() {
            pass_on(payload);
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // What cannot be unwound is left with its stack (T2).
        if cfg!(panic = "abort") || !self.coroutine.as_ref().is_some_and(Coroutine::started) {
            return;
        }
        // It cannot go on here (X1), and the task that it can go on in may have ended.
        if self.control.home.get() != thread_block::identity() {
            return;
        }
        self.control.closing.set(true);
        let Ended = self.run() else { unreachable!("a generator that is being closed yields no more") };
        let Some(payload) = self.control.payload.take() else { return };

        // A cancellation is still pending, and raised at the task's next parking point.
        let unwinding = match Hub::get() {
            Some(hub) => hub.is_unwinding(&hub.current()),
            None => std::thread::panicking(),
        };
        if !payload.is::<Cancelled>() && !unwinding {
            pass_on(payload);
        }
    }
}

/// Goes on with an unwind, or starts one that the panic hook does not see.
fn pass_on(payload: Box<dyn Any + Send>) -> ! {
    match Hub::get() {
        Some(hub) => hub.pass_on(payload),
        None => resume_unwind(payload),
    }
}

/// The value of a type that has only one.
fn nothing<R: 'static>() -> Option<R> {
    let mut unit: Option<()> = Some(());
    (&mut unit as &mut dyn Any).downcast_mut::<Option<R>>()?.take()
}
