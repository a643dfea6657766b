//! Random programs on a shuffled run queue, against a model of what must be true of them.
//!
//! A program is a tree of tasks, each a random series of steps. Every step is bounded, so that the program ends; what it
//! may and may not do is noted in the [`World`] while it runs:
//!
//! - A task ends once, with the result that its own books explain. Only who was killed is `Killed`.
//! - A sleep, a park or a time limit that ran out did not do so early; a body that was done is never `Elapsed`.
//! - Nothing is raised inside a shield, or in a destructor that unwinds; a scope's tasks have ended when it returns.
//! - An unpark is worth one park, a byte or datagram written is read once.
//! - What is shared is kept as `support/things.rs` says, and a pool has no more tasks than slots.
//! - At the end no task, stack, byte, item or permit is left over.
//!
//! `GREENROOM_RANDOM_SECONDS` says how long to go on, `GREENROOM_SEED` which program to run, alone.

mod common;
#[path = "support/things.rs"]
mod things;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::env;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use greenroom::net::{TcpListener, TcpStream, UnixDatagram, UnixStream};
use greenroom::pool::Pool;
use greenroom::sync::mpsc::Receiver;
use greenroom::{
    JoinError, JoinHandle, Task, current, idle, iwait, killall, park_timeout, scope, select, shield, sleep, spawn,
    spawn_later, timeout, wait, yield_now,
};
use things::{Actor, Item, Ledger, Things};

/// Under the feature `monkey` each program's tasks have thread-locals of their own, unless this says otherwise (rule 29).
#[cfg(feature = "monkey")]
const SHARED: &str = "GREENROOM_SHARED_THREAD_LOCALS";

#[test]
fn random_programs_keep_the_rules() {
    #[cfg(feature = "monkey")]
    if env::var_os(SHARED).is_none() {
        // SAFETY: nothing that the tasks share cares for thread-locals.
        if let Err(error) = unsafe { greenroom::testing::own_thread_locals_by_default() } {
            eprintln!("{error}");
        }
    }
    if let Ok(seed) = env::var("GREENROOM_SEED") {
        return run_program(seed.parse().expect("a number"));
    }
    let seconds = env::var("GREENROOM_RANDOM_SECONDS").map_or(3.0, |seconds| seconds.parse().expect("a number"));
    let (begun, mut seed, mut programs) = (Instant::now(), fastrand::u64(..), 0);
    while begun.elapsed().as_secs_f64() < seconds {
        run_program(seed);
        seed = seed.wrapping_add(1);
        programs += 1;
    }
    eprintln!("{programs} programs");
}

fn run_program(seed: u64) {
    let ran = catch_unwind(|| {
        common::check(move || {
            // One in four keeps the order.
            if !seed.is_multiple_of(4) {
                greenroom::testing::shuffle(seed);
            }
            let world = World::new();
            world.clone().play(seed);
            let mut violations = world.violations.take();
            let ledger = world.ledger.clone();
            drop(world);
            violations.append(&mut ledger.take());
            assert!(violations.is_empty(), "{violations:#?}");
        });
    });
    if let Err(payload) = ran {
        eprintln!("the program was GREENROOM_SEED={seed}");
        resume_unwind(payload);
    }
}

/// The books of one task.
#[derive(Debug, Default)]
struct Book {
    number: usize,
    /// Somebody asked for its end.
    killed: Cell<bool>,
    /// Its scope may kill it at any time.
    scoped: bool,
    /// Its body came to its end, or to its own panic, without parking again.
    outcome: Cell<Option<Outcome>>,
    began: Cell<bool>,
    /// How often what its body captured was dropped: once, at last.
    dropped: Cell<u32>,
    /// An unpark that was not used up.
    permit: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Returns,
    Panics,
}

/// The payload of the programs' own panics; raised without a word on stderr.
struct Oops;

struct World {
    books: RefCell<Vec<(Rc<Book>, Option<Task>)>>,
    violations: RefCell<Vec<String>>,
    pipes: Vec<Pipe>,
    things: Things,
    receiver: Receiver<Item>,
    ledger: Ledger,
    pool: Pool,
    /// Tasks of the pool that are inside their bodies.
    pooled: Cell<usize>,
    /// Steps that all tasks together may still begin.
    fuel: Cell<u32>,
}

/// A connection that anybody may use, with how many of each byte went in and came out.
struct Pipe {
    ends: (End, End),
    written: RefCell<[u64; 256]>,
    read: RefCell<[u64; 256]>,
}

enum End {
    Unix(UnixStream),
    Tcp(TcpStream),
    Datagram(UnixDatagram),
}

/// Where in a task a step is.
#[derive(Clone)]
struct Place {
    world: Rc<World>,
    book: Rc<Book>,
    depth: u32,
    shielded: bool,
    /// A destructor further out parks without a shield.
    ///
    /// A payload that goes past it by `resume_unwind`, unseen by the panic hook, while another task is parked in its
    /// own unwind, could not be told from no unwind at all.
    careful: bool,
}

impl World {
    fn new() -> Rc<World> {
        let unix = || {
            let (one, other) = UnixStream::pair().unwrap();
            (End::Unix(one), End::Unix(other))
        };
        let tcp = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (End::Tcp(one), End::Tcp(listener.accept().unwrap().0))
        };
        let datagram = || {
            let (one, other) = UnixDatagram::pair().unwrap();
            (End::Datagram(one), End::Datagram(other))
        };
        let pipes = [unix(), tcp(), datagram()].map(Pipe::new).into();
        let ledger = Ledger::default();
        let (things, receiver) = Things::new(&ledger);
        Rc::new(World {
            books: RefCell::default(),
            violations: RefCell::default(),
            pipes,
            things,
            receiver,
            ledger,
            pool: Pool::new(SLOTS),
            pooled: Cell::new(0),
            fuel: Cell::new(0),
        })
    }

    fn violated(&self, what: impl Into<String>) {
        self.violations.borrow_mut().push(what.into());
    }

    fn check(&self, fact: bool, what: impl FnOnce() -> String) {
        if !fact {
            self.violated(what());
        }
    }

    fn play(self: Rc<World>, seed: u64) {
        let mut rng = Rng::with_seed(seed);
        self.fuel.set(rng.u32(20..400));
        let handles: Vec<_> = (0..rng.usize(1..8)).map(|_| new_task(&self, &mut rng, 0, None)).collect();
        for (book, handle) in handles {
            if rng.bool() {
                drop(handle);
            } else {
                judge(&self, &book, handle.join());
            }
        }
        // Those that were detached, and those that they spawn.
        let mut next = 0;
        loop {
            let Some(task) = self.books.borrow().get(next).map(|(_, task)| task.clone()) else { break };
            wait(task, None, None);
            next += 1;
        }
        // Links, which are in no books.
        idle();
        for (book, task) in &*self.books.borrow() {
            self.check(task.as_ref().is_none_or(Task::is_finished), || format!("never ended: {book:?}"));
            self.check(book.dropped.get() == 1, || format!("not dropped once: {book:?}"));
        }
        for pipe in &self.pipes {
            pipe.settle(&self);
        }
        self.things.settle(&self.receiver);
        self.pool.join();
        self.check(self.pool.free_count() == SLOTS && self.pool.is_empty(), || format!("left: {:?}", self.pool));
    }
}

/// The pool's.
const SLOTS: usize = 2;

/// Spawns a task with books of its own.
fn new_task(world: &Rc<World>, rng: &mut Rng, depth: u32, later: Option<Duration>) -> (Rc<Book>, JoinHandle<usize>) {
    let (book, body) = new_body(world, rng, depth, false);
    let handle = match later {
        None => spawn(body),
        Some(delay) => {
            let (begun, world) = (Instant::now(), world.clone());
            spawn_later(delay, move || {
                world.check(begun.elapsed() >= delay, || "a later task began early".into());
                body()
            })
        }
    };
    world.books.borrow_mut()[book.number].1 = Some(handle.task());
    (book, handle)
}

fn new_body(world: &Rc<World>, rng: &mut Rng, depth: u32, scoped: bool) -> (Rc<Book>, impl FnOnce() -> usize + use<>) {
    let number = world.books.borrow().len();
    let book = Rc::new(Book { number, scoped, ..Book::default() });
    world.books.borrow_mut().push((book.clone(), None));
    let place = Place { world: world.clone(), book: book.clone(), depth, shielded: false, careful: false };
    let mut rng = rng.fork();
    let guard = Guard(book.clone());
    let body = move || {
        let _guard = guard;
        place.world.check(!place.book.began.replace(true), || format!("began twice: {:?}", place.book));
        place.steps(&mut rng);
        place.book.outcome.set(Some(Outcome::Returns));
        number
    };
    (book, body)
}

struct Guard(Rc<Book>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped.set(self.0.dropped.get() + 1);
    }
}

/// Whether a result is what the books say.
fn judge(world: &World, book: &Book, result: Result<usize, JoinError>) {
    let explained = match (&result, book.outcome.get()) {
        (Ok(number), Some(Outcome::Returns)) => *number == book.number,
        (Err(JoinError::Panicked(payload)), Some(Outcome::Panics)) => {
            // Its own; or that of a scope's task, which came before it.
            payload.is::<Oops>()
        }
        (Err(JoinError::Killed), None) => book.killed.get() || book.scoped,
        _ => false,
    };
    world.check(explained, || format!("ended as {result:?}, and {book:?}"));
    world.check(book.dropped.get() == 1, || format!("joined before its end: {book:?}"));
}

fn short(rng: &mut Rng) -> Duration {
    match rng.u8(..4) {
        0 => Duration::ZERO,
        1 => Duration::from_micros(rng.u64(..100)),
        _ => Duration::from_micros(rng.u64(..1500)),
    }
}

impl Place {
    /// The same place, one level further in.
    fn inside(&self) -> Place {
        Place { depth: self.depth + 1, ..self.clone() }
    }

    fn steps(&self, rng: &mut Rng) {
        for _ in 0..rng.u32(..7) {
            let fuel = self.world.fuel.get();
            if fuel == 0 {
                return;
            }
            self.world.fuel.set(fuel - 1);
            self.step(rng);
        }
    }

    fn step(&self, rng: &mut Rng) {
        match rng.u8(..42) {
            0..=2 => yield_now(),
            3..=4 => self.sleeps(rng),
            5 => self.parks(rng),
            6 => self.unparks(rng),
            7 | 8 => self.kills(rng),
            9 | 10 => self.limits(rng),
            11 => self.shields(rng),
            12..=14 => self.spawns(rng),
            15 => self.scopes(rng),
            16 => self.swallows(rng),
            17 => self.leaves_something(rng),
            18 => self.watches(rng),
            19..=22 => self.transfers(rng),
            23 => self.panics(rng),
            24 => self.chooses(rng),
            25 | 26 => self.pools(rng),
            _ => self.shares(rng),
        }
    }

    fn sleeps(&self, rng: &mut Rng) {
        let length = short(rng);
        let begun = Instant::now();
        sleep(length);
        self.world.check(begun.elapsed() >= length, || format!("slept {:?} of {length:?}", begun.elapsed()));
    }

    fn parks(&self, rng: &mut Rng) {
        let length = short(rng);
        let begun = Instant::now();
        let unparked = park_timeout(length);
        let permit = self.book.permit.replace(false);
        self.world.check(unparked == permit, || format!("unparked {unparked}, though {permit} says {:?}", self.book));
        self.world.check(unparked || begun.elapsed() >= length, || "a park ended early".into());
    }

    /// Somebody of the program, most likely a late one.
    fn somebody(&self, rng: &mut Rng) -> Option<(Rc<Book>, Task)> {
        let books = self.world.books.borrow();
        let (book, task) = &books[rng.usize(..books.len()).max(rng.usize(..books.len()))];
        Some((book.clone(), task.clone()?))
    }

    fn unparks(&self, rng: &mut Rng) {
        if let Some((book, task)) = self.somebody(rng) {
            book.permit.set(true);
            task.unpark();
        }
    }

    fn kills(&self, rng: &mut Rng) {
        let Some((book, task)) = self.somebody(rng) else { return };
        book.killed.set(true);
        match rng.u8(..5) {
            // Not for ever: who is joined from inside a shield might wait for the one who joins.
            0 if !self.shielded => {
                if timeout(short(rng), || task.kill()).is_ok() {
                    self.world
                        .check(task.is_finished() || task == current(), || format!("killed, but alive: {book:?}"));
                }
            }
            1 if !self.shielded => {
                let _in_time = timeout(short(rng), || killall([&task, &task]));
            }
            2 => {
                let ended = task.kill_timeout(short(rng));
                self.world.check(ended == task.is_finished(), || "kill_timeout lied".into());
            }
            _ => task.kill_nowait(),
        }
    }

    /// Runs steps within a time limit.
    fn limits(&self, rng: &mut Rng) {
        if self.depth > 4 {
            return;
        }
        let length = short(rng);
        let (begun, done) = (Instant::now(), Cell::new(false));
        let result = timeout(length, || {
            self.inside().steps(rng);
            done.set(true);
        });
        match result {
            Ok(()) => self.world.check(done.get(), || "a time limit invented a success".into()),
            Err(_) => {
                self.world.check(!done.get(), || "a body that was done is elapsed".into());
                self.world.check(begun.elapsed() >= length, || format!("{:?} of {length:?}", begun.elapsed()));
            }
        }
    }

    fn shields(&self, rng: &mut Rng) {
        if self.depth > 4 {
            return;
        }
        let whole = Cell::new(false);
        let result = catch_unwind(AssertUnwindSafe(|| {
            shield(|| Place { shielded: true, ..self.inside() }.steps(rng));
            whole.set(true);
        }));
        if let Err(payload) = result {
            self.world.check(payload.is::<Oops>(), || format!("raised inside a shield: {:?}", self.book));
            resume_unwind(payload);
        }
    }

    fn spawns(&self, rng: &mut Rng) {
        if self.depth > 4 {
            return;
        }
        let later = (rng.u8(..4) == 0).then(|| short(rng));
        let (book, handle) = new_task(&self.world, rng, self.depth + 1, later);
        match rng.u8(..6) {
            0 => drop(handle),
            1 => {
                self.steps(rng);
                judge(&self.world, &book, handle.join());
            }
            2 => match handle.join_timeout(short(rng)) {
                Ok(result) => judge(&self.world, &book, result),
                Err(handle) => {
                    self.world.check(!handle.is_finished(), || "gave an ended handle back".into());
                    book.killed.set(true);
                    handle.kill();
                    judge(&self.world, &book, handle.join());
                }
            },
            3 => {
                yield_now();
                book.killed.set(true);
                handle.kill_nowait();
                judge(&self.world, &book, handle.join());
            }
            4 => {
                let linked = Rc::new(Cell::new(false));
                let tells = linked.clone();
                handle.link(move |task| tells.set(task.is_finished()));
                judge(&self.world, &book, handle.join());
                shield(|| sleep(Duration::from_micros(100)));
                // It ran in the turn after the end; the shuffled queue has gone round since.
                while !linked.get() {
                    shield(yield_now);
                }
            }
            _ => judge(&self.world, &book, handle.join()),
        }
    }

    fn scopes(&self, rng: &mut Rng) {
        if self.depth > 4 {
            return;
        }
        let (alive, panicked) = (Cell::new(0_i32), Cell::new(false));
        struct Alive<'a>(&'a Cell<i32>);
        impl Drop for Alive<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        let (alive, panicked) = (&alive, &panicked);
        let result = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                for _ in 0..rng.u32(1..4) {
                    let (book, body) = new_body(&self.world, rng, self.depth + 1, true);
                    alive.set(alive.get() + 1);
                    let lives = Alive(alive);
                    let handle = s.spawn(move || {
                        let _lives = lives;
                        match catch_unwind(AssertUnwindSafe(body)) {
                            Ok(number) => number,
                            Err(payload) => {
                                panicked.set(panicked.get() || payload.is::<Oops>());
                                resume_unwind(payload)
                            }
                        }
                    });
                    self.world.books.borrow_mut()[book.number].1 = Some(handle.task());
                    match rng.u8(..4) {
                        0 => handle.kill_nowait(),
                        1 => {
                            let joined = handle.join();
                            let panics = matches!(&joined, Err(JoinError::Panicked(_)));
                            self.world.check(!panics || panicked.get(), || "an invented panic".into());
                            if !panics {
                                judge(&self.world, &book, joined);
                            }
                        }
                        _ => {}
                    }
                }
                self.inside().steps(rng);
            });
        }));
        self.world.check(alive.get() == 0, || format!("{} of a scope's tasks are alive", alive.get()));
        match result {
            Ok(()) => self.world.check(!panicked.get(), || "a scope forgot a panic".into()),
            // The body's own panic is the task's; one of the tasks' is over.
            Err(payload) if panicked.get() && payload.is::<Oops>() && self.book.outcome.get().is_none() => {}
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Catches whatever ends it, and goes on: it will meet it again.
    fn swallows(&self, rng: &mut Rng) {
        let caught: Result<(), Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(|| self.sleeps(rng)));
        drop(caught);
    }

    /// Has something on its stack whose destructor parks.
    fn leaves_something(&self, rng: &mut Rng) {
        struct Slow<'a>(&'a World, Duration, bool);
        impl Drop for Slow<'_> {
            fn drop(&mut self) {
                let Slow(world, length, shielded) = *self;
                let begun = Instant::now();
                if shielded {
                    shield(|| sleep(length));
                    world.check(begun.elapsed() >= length, || "a destructor slept too little".into());
                } else {
                    sleep(length);
                }
            }
        }
        if self.depth > 4 {
            return;
        }
        let shielded = rng.bool();
        let world = self.world.clone();
        let _slow = Slow(&world, short(rng), shielded);
        Place { careful: self.careful || !shielded, ..self.inside() }.steps(rng);
    }

    /// Waits for some of all tasks, for a while.
    fn watches(&self, rng: &mut Rng) {
        let some: Vec<_> = (0..rng.usize(..5)).filter_map(|_| self.somebody(rng)).map(|(_, task)| task).collect();
        let count = rng.usize(..4);
        let begun = Instant::now();
        let limit = short(rng);
        if rng.bool() {
            let ready = wait(&some, Some(limit), Some(count));
            self.world.check(ready.iter().all(|task| task.is_finished()), || "an unfinished task is ready".into());
            let enough = ready.len() == count.min(some.len());
            self.world.check(enough || begun.elapsed() >= limit, || "a wait gave up early".into());
        } else {
            let _whatever = timeout(limit, || iwait(&some).take(count).for_each(drop));
        }
    }

    fn transfers(&self, rng: &mut Rng) {
        let pipe = &self.world.pipes[rng.usize(..self.world.pipes.len())];
        let limit = short(rng);
        let byte = rng.u8(..);
        // A limit from outside, none of the socket's: that one belongs to all.
        if rng.bool() {
            let length = if rng.u8(..8) == 0 { rng.usize(1..30_000) } else { rng.usize(1..100) };
            let buf = vec![byte; length];
            let _in_time = timeout(limit, || {
                let written = pipe.ends.0.write(&buf).unwrap();
                pipe.written.borrow_mut()[usize::from(byte)] += written as u64;
            });
        } else {
            let mut buf = vec![0; if rng.bool() { 10 } else { 60_000 }];
            let _in_time = timeout(limit, || {
                let read = if pipe.ends.1.is_datagram() {
                    buf.resize(60_000, 0);
                    pipe.ends.1.read(&mut buf)
                } else {
                    pipe.ends.1.read(&mut buf)
                };
                pipe.count(&buf[..read.unwrap()]);
            });
        }
    }

    fn shares(&self, rng: &mut Rng) {
        let actor = Actor { receiver: Some(&self.world.receiver), native: false };
        self.world.things.step(rng, actor, &mut |rng| {
            if self.depth < 5 {
                self.inside().steps(rng);
            }
        });
    }

    /// Chooses between a task's end, a socket and a message.
    fn chooses(&self, rng: &mut Rng) {
        let Some((_, task)) = self.somebody(rng) else { return };
        let (limit, begun) = (short(rng), Instant::now());
        let (world, pipe) = (&self.world, &self.world.pipes[rng.usize(..2)]);
        let stream: &dyn greenroom::select::Pollable = match &pipe.ends.1 {
            End::Unix(stream) => stream,
            End::Tcp(stream) => stream,
            End::Datagram(socket) => socket,
        };
        let _in_time = timeout(limit * 2, || {
            select! {
                join(&task) => world.check(task.is_finished(), || "an unfinished task was chosen".into()),
                readable(stream) => {}
                recv(&world.receiver) -> item => item.into_iter().for_each(Item::taken),
                timeout(limit) => world.check(begun.elapsed() >= limit, || "a select gave up early".into()),
            }
        });
    }

    /// Has something done by a task of the pool.
    fn pools(&self, rng: &mut Rng) {
        struct Pooled(Rc<World>);
        impl Drop for Pooled {
            fn drop(&mut self) {
                self.0.pooled.set(self.0.pooled.get() - 1);
            }
        }
        if self.depth > 4 {
            return;
        }
        let (world, limit) = (&self.world, short(rng));
        let (book, body) = new_body(world, rng, self.depth + 1, false);
        let theirs = world.clone();
        let counted = move || {
            theirs.pooled.set(theirs.pooled.get() + 1);
            let pooled = theirs.pooled.get();
            theirs.check(pooled <= SLOTS, || format!("{pooled} tasks of a pool of {SLOTS}"));
            let _pooled = Pooled(theirs);
            body()
        };
        let handle = match rng.u8(..5) {
            0 => world.pool.try_spawn(counted).ok(),
            1 => world.pool.spawn_timeout(limit, counted).ok(),
            2 => timeout(limit, || world.pool.spawn(counted)).ok(),
            3 => {
                let limit = limit * 2;
                let (begun, turns) = (Instant::now(), rng.u32(..4));
                let items = world.pool.imap_unordered(0..turns, |turn| {
                    (0..turn).for_each(|_| yield_now());
                    turn
                });
                let got = timeout(limit, || items.map(|turn| turn.unwrap_or(0)).sum::<u32>());
                let fair = got.map_or(begun.elapsed() >= limit, |sum| sum <= turns * (turns + 1) / 2);
                world.check(fair, || "an imap is wrong".into());
                drop(counted);
                None
            }
            _ => Some(world.pool.apply_async(counted)),
        };
        let Some(handle) = handle else { return };
        world.books.borrow_mut()[book.number].1 = Some(handle.task());
        match rng.u8(..4) {
            0 => {
                book.killed.set(true);
                handle.kill_nowait();
            }
            1 => match handle.join_timeout(short(rng)) {
                Ok(result) => judge(world, &book, result),
                Err(_detached) => {}
            },
            _ => {}
        }
    }

    fn panics(&self, rng: &mut Rng) {
        if rng.u8(..4) == 0 && !self.careful {
            // A panic in a time limit, shield or scope goes through to the task's end.
            self.book.outcome.set(Some(Outcome::Panics));
            resume_unwind(Box::new(Oops));
        }
    }
}

impl Pipe {
    fn new(ends: (End, End)) -> Pipe {
        Pipe { ends, written: RefCell::new([0; 256]), read: RefCell::new([0; 256]) }
    }

    fn count(&self, bytes: &[u8]) {
        let mut read = self.read.borrow_mut();
        for byte in bytes {
            read[usize::from(*byte)] += 1;
        }
    }

    /// What was never read is still there, and nothing else.
    fn settle(&self, world: &World) {
        let mut buf = [0; 65536];
        self.ends.1.set_nonblocking();
        while self.written.borrow().iter().sum::<u64>() > self.read.borrow().iter().sum::<u64>() {
            match self.ends.1.read(&mut buf) {
                Ok(read) => self.count(&buf[..read]),
                // The loopback device may take a moment.
                Err(_) if matches!(self.ends.1, End::Tcp(_)) => sleep(Duration::from_micros(100)),
                Err(error) => return world.violated(format!("bytes were lost: {error}")),
            }
        }
        world.check(*self.written.borrow() == *self.read.borrow(), || "other bytes came than went".into());
        world.check(self.ends.1.read(&mut buf).is_err(), || "a byte came twice".into());
    }
}

impl End {
    fn is_datagram(&self) -> bool {
        matches!(self, End::Datagram(_))
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            End::Unix(stream) => (&*stream).read(buf),
            End::Tcp(stream) => (&*stream).read(buf),
            End::Datagram(socket) => socket.recv(buf),
        }
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        match self {
            End::Unix(stream) => (&*stream).write(buf),
            End::Tcp(stream) => (&*stream).write(buf),
            End::Datagram(socket) => socket.send(buf),
        }
    }

    fn set_nonblocking(&self) {
        match self {
            End::Unix(stream) => stream.set_nonblocking(true).unwrap(),
            End::Tcp(stream) => stream.set_nonblocking(true).unwrap(),
            End::Datagram(socket) => socket.set_nonblocking(true).unwrap(),
        }
    }
}
