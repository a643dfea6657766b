//! Greenlets: coroutines that are switched by hand, each to any other of its task.
//!
//! Every task, and every thread's root, has a *main* greenlet: what runs on the task's own stack. The others form a tree below
//! it, by their parents. Underneath there is no switch from one greenlet to another: main, while it waits in `switch`, resumes the
//! one whose turn it is, and a greenlet that switches names the next and suspends itself back to main:
//!
//! ```text
//!   task's stack                      a's stack                 b's stack
//!   ------------                      ---------                 ---------
//!   main: a.switch(1) -- resume ----> body(1)
//!         next: b  <---- suspend ---- b.switch(2)
//!         -------------- resume ------------------------------> body(2)
//!         next: main <-- suspend ------------------------------ main.switch(3)
//!   Ok(3)
//! ```
//!
//! - **L1** A greenlet that runs is its task's current one, and its suspender is good. Code in it may be on the stack of a
//!   generator, which is suspended with it.
//! - **L2** A greenlet is only suspended in `hand_over`, and waits there for what is put into its inbox.
//! - **L3** What is handed over is of the type that the receiver waits for: looked at before the switch.
//! - **L4** A greenlet that nobody refers to is ended by who let go of it last, on its own stack. So nothing that lies on that
//!   stack while it is suspended may count as a reference.

use std::any::{Any, TypeId, type_name};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::ptr;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::coroutine::{Coroutine, Suspender};
use crate::hub::{Cancelled, Frame, Hub, enter_boundary, leave_boundary};
use crate::stack::{self, Stack};
use crate::thread_block;

/// A body that runs when it is switched to, and until it switches away or ends. Cloning gives another handle.
///
/// `T` is what passes at each switch: [`switch`](Self::switch) hands a value to the other side, and returns what is handed back. The
/// first one becomes the body's argument; what the body returns goes to the greenlet's parent, which is the greenlet that made
/// it, or the one it was given. If the parent is dead it goes to the parent's parent, up to main. A panic goes the same way.
///
/// A greenlet keeps its parent alive. Greenlets belong to the task that made them, and what blocks in one parks that task. They cannot be switched to from other
/// tasks.
///
/// When the last handle of a suspended greenlet is dropped, [`GreenletExit`] is thrown into it, with the one that drops as its
/// parent, so that the destructors on its stack run before the drop is over. A greenlet with a handle
/// to itself on its own stack, were it the temporary in `Greenlet::current().parent().unwrap().switch(v)`, is kept by it as
/// long as it is suspended there.
///
/// # Cancellation
///
/// A kill of the task, or the end of a timeout around main's `switch`, unwinds the greenlet that is running, then its
/// parent, and so on to main. A timeout inside a greenlet is looked at when the greenlet runs: it ends nothing in others.
///
/// # Platform-specific behavior
///
/// In a program built with `panic = "abort"` nothing can be thrown, and a suspended greenlet that is dropped is left with its stack.
///
/// # Examples
///
/// ```
/// use greenroom::greenlet::Greenlet;
///
/// let main = Greenlet::<u32>::current();
/// let twice = Greenlet::new(move |first: u32| {
///     let second = main.switch(first * 2).unwrap();
///     second * 2
/// });
/// assert_eq!(twice.switch(1), Ok(2));
/// assert_eq!(twice.switch(5), Ok(10));
/// assert!(twice.is_dead());
/// ```
///
/// A greenlet stays on its thread:
///
/// ```compile_fail
/// fn send<T: Send>(_: T) {}
/// send(greenroom::greenlet::Greenlet::new(|n: u32| n));
/// ```
pub struct Greenlet<T: 'static> {
    node: Hold,
    values: PhantomData<fn(T) -> T>,
}

/// Ends the greenlet that it is thrown into. Seen as an error where a greenlet that ended so was waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GreenletExit;

impl<T: 'static> Greenlet<T> {
    /// Makes a greenlet whose parent is the current one. It begins when it is first switched to.
    ///
    /// # Switching
    ///
    /// Never.
    ///
    /// # Panics
    ///
    /// If the system gives no memory for its stack; [`with_stack_size`](Self::with_stack_size) gives an error instead.
    #[track_caller]
    pub fn new(body: impl FnOnce(T) -> T + 'static) -> Greenlet<T> {
        match Greenlet::with_stack_size(stack::DEFAULT_SIZE, body) {
            Ok(greenlet) => greenlet,
            Err(error) => panic!("greenroom: no greenlet can be made: {error}"),
        }
    }

    /// As [`new`](Self::new), below another parent.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new); and if the parent is of another task.
    #[track_caller]
    pub fn new_with_parent(parent: &Greenlet<T>, body: impl FnOnce(T) -> T + 'static) -> Greenlet<T> {
        let greenlet = Greenlet::new(body);
        greenlet.set_parent(parent);
        greenlet
    }

    /// As [`new`](Self::new), with room for `bytes` on its stack.
    ///
    /// # Errors
    ///
    /// If the system gives no memory for the stack, or it is to be larger than 1 GiB; if the thread can have no hub.
    pub fn with_stack_size(bytes: usize, body: impl FnOnce(T) -> T + 'static) -> io::Result<Greenlet<T>> {
        let family = Family::of_current(Hub::try_here()?);
        let stack = Stack::new(bytes)?;
        let node = Rc::new_cyclic(|this: &Weak<Node>| {
            let this = this.clone();
            let coroutine = Coroutine::owning(stack, move |suspender| live(&this, suspender));
            Node {
                parent: RefCell::new(Some(family.current())),
                family: RefCell::new(Rc::downgrade(&family)),
                coroutine: Cell::new(Some(coroutine)),
                body: Cell::new(Some(Box::new(move |first| Box::new(body(unpack(first)))))),
                gives: Kind::of::<T>(),
                waits_for: Cell::new(Kind::of::<T>()),
                ..Node::new(State::New)
            }
        });
        Ok(Greenlet::from(Hold(node)))
    }

    /// The greenlet that runs; main, if none was switched to.
    ///
    /// # Panics
    ///
    /// If the thread can have no hub.
    #[track_caller]
    pub fn current() -> Greenlet<T> {
        Greenlet::from(Family::of_current(Hub::here()).current())
    }

    /// Switches to this greenlet and hands it `value`. Returns what is handed back, when somebody switches to the caller again.
    ///
    /// One that has not begun begins; one that is suspended goes on; instead of one that is dead its parent does. Switching to
    /// oneself gives the value back at once.
    ///
    /// # Switching
    ///
    /// The task goes on in the other greenlet; other tasks run only if that blocks.
    ///
    /// # Panics
    ///
    /// With what was thrown into the caller, or what a child of it panicked with. If the greenlet belongs to another task, or waits for a
    /// value of another type: then nothing was switched and the value is dropped. In a switch tracer.
    ///
    /// # Errors
    ///
    /// [`GreenletExit`], if a greenlet whose parent is the caller ended by that. At once, if the caller itself is
    /// being ended because its last handle was dropped, and this is one of its destructors.
    #[track_caller]
    pub fn switch(&self, value: T) -> Result<T, GreenletExit> {
        self.transfer(Transit::Value(Box::new(value)))
    }

    /// Switches to this greenlet and unwinds it with `payload`, from where it is suspended.
    ///
    /// One that has not begun, or is dead, hands the payload on to its parent; [`GreenletExit`] becomes the error there.
    /// Otherwise as [`switch`](Self::switch). The panic hook sees nothing of this.
    ///
    /// # Switching
    ///
    /// As [`switch`](Self::switch).
    ///
    /// # Panics
    ///
    /// As [`switch`](Self::switch), and always in a program built with `panic = "abort"`.
    ///
    /// # Errors
    ///
    /// As [`switch`](Self::switch).
    #[track_caller]
    pub fn throw(&self, payload: Box<dyn Any + Send>) -> Result<T, GreenletExit> {
        if cfg!(panic = "abort") {
            panic!("greenroom: nothing can be thrown in a program built with panic = \"abort\"");
        }
        self.transfer(Transit::Throw(payload))
    }

    /// Throws [`GreenletExit`] into this greenlet: see [`throw`](Self::throw).
    ///
    /// # Errors
    ///
    /// [`GreenletExit`], if the greenlet ended by it and the caller is its parent.
    #[track_caller]
    pub fn exit(&self) -> Result<T, GreenletExit> {
        self.throw(Box::new(GreenletExit))
    }

    #[track_caller]
    fn transfer(&self, transit: Transit) -> Result<T, GreenletExit> {
        if Hub::is_gone() {
            return Err(GreenletExit);
        }
        assert!(!TRACING.get(), "greenroom: a switch tracer must not switch");
        let hub = Hub::here();
        assert!(hub.can_switch(), "greenroom: a switch inside the panic hook, or a comparison for a queue");
        let family = Family::of_current(hub);
        let me = family.current();
        if me.closing.get() {
            if !hub.is_unwinding(&hub.current()) {
                hub.pass_on(Box::new(GreenletExit));
            }
            return Err(GreenletExit);
        }
        assert!(
            ptr::eq(self.node.family.borrow().as_ptr(), Rc::as_ptr(&family)),
            "greenroom: a greenlet was switched to from another task than its own"
        );

        let (target, transit) = route(&self.node, transit);
        if !Rc::ptr_eq(&target.0, &me.0) {
            if let Transit::Value(_) = transit {
                target.waits_for.get().accept(Kind::of::<T>());
            }
            trace(&transit, &me, &target);
            me.waits_for.set(Kind::of::<T>());
        }
        match hand_over(hub, &family, me, target, transit) {
            Transit::Value(value) => Ok(unpack(value)),
            Transit::Exited => Err(GreenletExit),
            Transit::Throw(payload) => hub.pass_on(payload),
        }
    }

    /// Where control goes when this one ends; `None` for main.
    pub fn parent(&self) -> Option<Greenlet<T>> {
        self.node.parent().map(Greenlet::from)
    }

    /// Gives the greenlet another parent.
    ///
    /// # Panics
    ///
    /// If the parent is of another task, or is this greenlet or below it, or if this one is a main greenlet.
    #[track_caller]
    pub fn set_parent(&self, parent: &Greenlet<T>) {
        assert!(
            Weak::ptr_eq(&self.node.family.borrow(), &parent.node.family.borrow()),
            "greenroom: a greenlet and its parent belong to one task"
        );
        assert!(self.node.parent.borrow().is_some(), "greenroom: a main greenlet has no parent");
        let mut above = Some(parent.node.clone());
        while let Some(node) = above {
            assert!(
                !Rc::ptr_eq(&node.0, &self.node.0),
                "greenroom: a greenlet cannot be its own parent, or that of its parents"
            );
            above = node.parent();
        }
        let before = self.node.parent.replace(Some(parent.node.clone()));
        drop(before);
    }

    /// Whether the greenlet has ended.
    pub fn is_dead(&self) -> bool {
        matches!(self.node.state.get(), State::Dead)
    }

    /// Whether the greenlet has begun and not ended.
    pub fn is_active(&self) -> bool {
        matches!(self.node.state.get(), State::Active)
    }

    /// The number that a switch tracer is given; no other greenlet of the process has or had it.
    pub fn id(&self) -> u64 {
        self.node.id
    }

    fn from(node: Hold) -> Greenlet<T> {
        Greenlet { node, values: PhantomData }
    }
}

impl<T: 'static> Clone for Greenlet<T> {
    fn clone(&self) -> Greenlet<T> {
        Greenlet::from(self.node.clone())
    }
}

impl<T: 'static> PartialEq for Greenlet<T> {
    fn eq(&self, other: &Greenlet<T>) -> bool {
        Rc::ptr_eq(&self.node.0, &other.node.0)
    }
}

impl<T: 'static> Eq for Greenlet<T> {}

impl<T: 'static> fmt::Debug for Greenlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greenlet")
            .field("id", &self.id())
            .field("state", &self.node.state.get())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for GreenletExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the greenlet was told to exit")
    }
}

impl Error for GreenletExit {}

/// What a switch tracer is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A value is handed over.
    Switch,
    /// A panic, or [`GreenletExit`], is.
    Throw,
}

/// Is called before each switch with the numbers of the greenlets it goes from and to.
pub type Tracer = Rc<dyn Fn(Event, u64, u64)>;

/// Sets this thread's switch tracer, or none; gives the one that was there.
///
/// The tracer runs in the greenlet that is left, for the end of one too. It must not block, and not switch: that panics. If it panics it is
/// taken away, and the switch does not happen: the panic goes to who would have switched, or to the parent of one that ends.
///
/// # Examples
///
/// ```
/// use greenroom::greenlet::{self, Event, Greenlet};
/// use std::{cell::RefCell, rc::Rc};
///
/// let log = Rc::new(RefCell::new(Vec::new()));
/// let child = Greenlet::new(|()| ());
/// let seen = log.clone();
/// greenlet::set_trace(Some(Rc::new(move |event, from, to| seen.borrow_mut().push((event, from, to)))));
/// child.switch(()).unwrap();
/// greenlet::set_trace(None);
///
/// let main = Greenlet::<()>::current();
/// assert_eq!(*log.borrow(), [(Event::Switch, main.id(), child.id()), (Event::Switch, child.id(), main.id())]);
/// ```
pub fn set_trace(tracer: Option<Tracer>) -> Option<Tracer> {
    thread_block::on_root(|| TRACER.try_with(|place| place.replace(tracer))).ok().flatten()
}

thread_local! {
    static TRACER: RefCell<Option<Tracer>> = const { RefCell::new(None) };
    static TRACING: Cell<bool> = const { Cell::new(false) };
}

/// Tells the tracer of a switch that is about to happen.
fn trace(transit: &Transit, from: &Node, to: &Node) {
    let told = thread_block::on_root(|| TRACER.try_with(|place| place.borrow().clone()));
    let Ok(Some(tracer)) = told else { return };
    // It let go of a last handle.
    if TRACING.replace(true) {
        return;
    }
    let event = if let Transit::Value(_) = transit { Event::Switch } else { Event::Throw };
    let told = catch_unwind(AssertUnwindSafe(move || tracer(event, from.id, to.id)));
    TRACING.set(false);
    if let Err(payload) = told {
        drop(set_trace(None));
        resume_unwind(payload);
    }
}

/// What is handed over at a switch.
enum Transit {
    Value(Box<dyn Any>),
    /// Unwinds the receiver.
    Throw(Box<dyn Any + Send>),
    /// A child ended by [`GreenletExit`].
    Exited,
}

/// The type of values that a greenlet waits for.
#[derive(Clone, Copy)]
struct Kind {
    id: TypeId,
    name: &'static str,
}

impl Kind {
    fn of<T: 'static>() -> Kind {
        Kind { id: TypeId::of::<T>(), name: type_name::<T>() }
    }

    /// Panics unless a value of the given type is what is waited for (L3).
    #[track_caller]
    fn accept(self, given: Kind) {
        assert!(
            self.id == given.id,
            "greenroom: a greenlet that waits for a value of type `{}` was to be given one of type `{}`",
            self.name,
            given.name
        );
    }
}

/// What one waits for that lets go of a last handle: the end of that greenlet, and no value.
struct NoValue;

#[derive(Clone, Copy, Debug)]
enum State {
    New,
    Active,
    Dead,
}

type Body = Box<dyn FnOnce(Box<dyn Any>) -> Box<dyn Any>>;

/// A greenlet, whatever its values.
struct Node {
    id: u64,
    /// The type that its body gives in the end.
    gives: Kind,
    state: Cell<State>,
    /// Its task's. Another's while it is ended by that.
    family: RefCell<Weak<Family>>,
    /// `None` for main.
    parent: RefCell<Option<Hold>>,
    /// While suspended, or not begun. Main has none.
    coroutine: Cell<Option<Coroutine>>,
    body: Cell<Option<Body>>,
    /// Good while it is active (L1).
    suspender: Cell<*const Suspender>,
    /// The bottom of its part of the chain of frames.
    boundary: Pin<Box<Frame>>,
    /// Whose thread-locals it has, from its beginning on.
    home: Cell<u64>,
    /// The type that its pending `switch` returns, or its body takes.
    waits_for: Cell<Kind>,
    inbox: Cell<Option<Transit>>,
    /// The last handle is gone: it is to end.
    closing: Cell<bool>,
}

impl Node {
    fn new(state: State) -> Node {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Node {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            gives: Kind::of::<NoValue>(),
            state: Cell::new(state),
            family: RefCell::default(),
            parent: RefCell::new(None),
            coroutine: Cell::new(None),
            body: Cell::new(None),
            suspender: Cell::new(ptr::null()),
            boundary: Box::pin(Frame::boundary()),
            home: Cell::new(0),
            waits_for: Cell::new(Kind::of::<NoValue>()),
            inbox: Cell::new(None),
            closing: Cell::new(false),
        }
    }

    fn parent(&self) -> Option<Hold> {
        self.parent.borrow().clone()
    }
}

/// A reference to a greenlet that keeps it. The last to go ends it (L4).
#[derive(Clone)]
struct Hold(Rc<Node>);

impl Deref for Hold {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) > 1 || cfg!(panic = "abort") {
            return;
        }
        let State::Active = self.state.get() else { return };
        // Main has no stack of its own that could be unwound.
        let Some(coroutine) = self.coroutine.take() else { return };
        self.coroutine.set(Some(coroutine));
        // It cannot go on here (X1), nor anywhere else: left as it is, with the frames that timers lead to.
        if self.home.get() != thread_block::identity() {
            let _for_ever = ManuallyDrop::new(Rc::clone(&self.0));
            return;
        }

        self.closing.set(true);
        let exit = Transit::Throw(Box::new(GreenletExit));
        let came_back = match Hub::get() {
            Some(hub) => {
                let family = Family::of_current(hub);
                let me = family.current();
                drop(self.family.replace(Rc::downgrade(&family)));
                drop(self.parent.replace(Some(me.clone())));
                // Main may be about to go on with something, between two of those that it runs.
                let before = (me.waits_for.replace(Kind::of::<NoValue>()), me.inbox.take());
                let came_back = hand_over(hub, &family, me.clone(), self.clone(), exit);
                me.waits_for.set(before.0);
                me.inbox.set(before.1);
                came_back
            }
            None => {
                // Nobody can switch any more: it runs through.
                self.inbox.set(Some(exit));
                let mut coroutine = self.coroutine.take().expect("a suspended greenlet has a stack");
                let ended = coroutine.resume();
                debug_assert!(ended, "without a hub nothing switches");
                return;
            }
        };
        // A cancellation is still pending, and raised at the task's next parking point.
        if let Transit::Throw(payload) = came_back
            && !payload.is::<Cancelled>()
            && let Some(hub) = Hub::get()
            && !hub.is_unwinding(&hub.current())
        {
            hub.pass_on(payload);
        }
    }
}

/// The greenlets of one task: which one runs, and which one is to.
struct Family {
    current: RefCell<Hold>,
    /// Named by a greenlet that suspends itself to main.
    next: Cell<Option<Hold>>,
}

impl Family {
    /// The current task's, made at its first use.
    fn of_current(hub: &Hub) -> Rc<Family> {
        let header = hub.current();
        let there = header.peek_extra(|extra| extra.family.clone()).flatten();
        if let Some(family) = there.and_then(|family| family.downcast().ok()) {
            return family;
        }
        let main = Rc::new(Node::new(State::Active));
        let family = Rc::new(Family { current: RefCell::new(Hold(Rc::clone(&main))), next: Cell::new(None) });
        main.family.replace(Rc::downgrade(&family));
        header.with_extra(|extra| extra.family = Some(Rc::clone(&family) as Rc<dyn Any>));
        family
    }

    fn current(&self) -> Hold {
        self.current.borrow().clone()
    }

    fn set_current(&self, node: &Hold) {
        let before = self.current.replace(node.clone());
        drop(before);
    }
}

/// Finds who receives what is sent to `target`: a dead one's parent, and for a throw also that of one that has not begun, which
/// is dead from then on.
fn route(target: &Hold, mut transit: Transit) -> (Hold, Transit) {
    let mut target = target.clone();
    loop {
        let passes = match (target.state.get(), &transit) {
            (State::Active, _) | (State::New, Transit::Value(_)) => false,
            (State::Dead, _) | (State::New, _) => true,
        };
        let Some(parent) = target.parent() else {
            // Main cannot end by it.
            if matches!(&transit, Transit::Throw(payload) if payload.is::<GreenletExit>()) {
                transit = Transit::Exited;
            }
            return (target, transit);
        };
        if !passes {
            return (target, transit);
        }
        if let State::New = target.state.replace(State::Dead) {
            drop(target.coroutine.take());
            drop(target.body.take());
        }
        if matches!(&transit, Transit::Throw(payload) if payload.is::<GreenletExit>()) {
            transit = Transit::Exited;
        }
        target = parent;
    }
}

/// Hands control and `transit` to `target`; gives what `me`, which runs, is handed in its turn.
fn hand_over(hub: &'static Hub, family: &Rc<Family>, me: Hold, target: Hold, transit: Transit) -> Transit {
    if Rc::ptr_eq(&me.0, &target.0) {
        return transit;
    }
    target.inbox.set(Some(transit));
    if me.parent.borrow().is_none() {
        run_others(hub, family, &me, target);
        return me.inbox.take().expect("L2: main is handed something");
    }

    family.next.set(Some(target));
    let suspender = me.suspender.get();
    let weak = Rc::downgrade(&me.0);
    // L4: it must not keep itself.
    drop(me);
    // SAFETY: L1: the current greenlet's body has begun and not ended.
    unsafe { &*suspender }.suspend();
    let me = weak.upgrade().expect("who resumes a greenlet refers to it");
    me.inbox.take().expect("L2: who is resumed is handed something")
}

/// On main's stack: runs greenlets, each until it names the next, until that is main.
fn run_others(hub: &'static Hub, family: &Family, main: &Hold, first: Hold) {
    let mut node = first;
    while !Rc::ptr_eq(&node.0, &main.0) {
        let mut coroutine = node.coroutine.take().expect("a greenlet that does not run has its stack");
        if let State::New = node.state.replace(State::Active) {
            node.home.set(thread_block::identity());
            hub.pin();
        }
        family.set_current(&node);
        enter_boundary(hub, node.boundary.as_ref());
        let ended = coroutine.resume();
        leave_boundary(hub, node.boundary.as_ref());
        family.set_current(main);
        if ended {
            hub.unpin();
        } else {
            node.coroutine.set(Some(coroutine));
        }
        let next = family.next.take().expect("a greenlet that suspends or ends has named the next");
        // Perhaps the last reference to one that has just suspended itself: then it is ended here, by main.
        node = next;
    }
}

/// What a greenlet's coroutine runs.
fn live(this: &Weak<Node>, suspender: &Suspender) {
    let node = || Hold(this.upgrade().expect("who resumes a greenlet refers to it"));
    let (body, first) = {
        let node = node();
        node.suspender.set(suspender);
        (node.body.take(), node.inbox.take())
    };
    let (Some(body), Some(Transit::Value(first))) = (body, first) else {
        unreachable!("one that has not begun is only given values")
    };
    let ended = catch_unwind(AssertUnwindSafe(|| body(first)));

    let node = node();
    if let Some(hub) = Hub::get() {
        hub.current().unwinding.set(false);
    }
    let mut transit = match ended {
        Ok(value) => Transit::Value(value),
        Err(payload) => Transit::Throw(payload),
    };
    node.state.set(State::Dead);
    let Some(family) = node.family.borrow().upgrade() else { return };

    // The parent may not take such a value; the tracer may panic, and so may a body that is dropped on the way. Then that is what
    // is handed on. It cannot go on for ever: each is met once.
    let (target, transit) = loop {
        let routed = catch_unwind(AssertUnwindSafe(|| {
            let (target, transit) = route(&node, transit);
            if let Transit::Value(_) = transit
                && target.waits_for.get().id != TypeId::of::<NoValue>()
            {
                target.waits_for.get().accept(node.gives);
            }
            trace(&transit, &node, &target);
            (target, transit)
        }));
        match routed {
            Ok(routed) => break routed,
            Err(payload) => transit = Transit::Throw(payload),
        }
    };
    target.inbox.set(Some(transit));
    family.next.set(Some(target));
}

/// The value in its type, which was looked at before the switch (L3).
fn unpack<T: 'static>(value: Box<dyn Any>) -> T {
    *value.downcast().expect("L3: what is handed over is of the type that is waited for")
}
