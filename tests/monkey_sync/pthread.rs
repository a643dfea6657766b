//! The C library's locks, as C calls them.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::{c_int, c_void, timespec};

use super::mixes::{MIXES, give_way};
use super::patch;

const ROUNDS: usize = 300;

unsafe extern "C" {
    fn pthread_once(once: *mut c_int, run: extern "C" fn()) -> c_int;
    fn pthread_mutex_clocklock(mutex: *mut libc::pthread_mutex_t, clock: c_int, limit: *const timespec) -> c_int;
    fn pthread_cond_clockwait(
        condition: *mut libc::pthread_cond_t,
        mutex: *mut libc::pthread_mutex_t,
        clock: c_int,
        limit: *const timespec,
    ) -> c_int;
    fn pthread_timedjoin_np(thread: libc::pthread_t, value: *mut *mut c_void, limit: *const timespec) -> c_int;
}

/// An object of the C library's.
pub(crate) struct Shared<T>(UnsafeCell<T>);

// SAFETY: they are made for that.
unsafe impl<T> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Shared<T> {
        Shared(UnsafeCell::new(value))
    }

    pub(crate) fn at(&self) -> *mut T {
        self.0.get()
    }
}

fn mutex(kind: c_int) -> Shared<libc::pthread_mutex_t> {
    let mutex = Shared::new(libc::PTHREAD_MUTEX_INITIALIZER);
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: both are ours.
    unsafe {
        libc::pthread_mutexattr_init(attributes.as_mut_ptr());
        libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind);
        assert_eq!(libc::pthread_mutex_init(mutex.at(), attributes.as_ptr()), 0);
    }
    mutex
}

fn after(clock: c_int, time: Duration) -> timespec {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills one time.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let nanos = now.tv_nsec + i64::from(time.subsec_nanos());
    timespec { tv_sec: now.tv_sec + time.as_secs() as i64 + nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 }
}

#[test]
fn a_mutex_lets_one_in() {
    patch();
    // Tasks of a thread are one owner to the other kinds, unless they have thread-locals of their own.
    for kind in [libc::PTHREAD_MUTEX_NORMAL, 3] {
        for mix in MIXES {
            let state = Arc::new((mutex(kind), Shared::new((0_usize, 0_usize))));
            let inside = state.clone();
            mix.run(move |who| {
                for round in 0..ROUNDS {
                    // SAFETY: what the mutex guards is touched by who has it.
                    unsafe {
                        match round % 3 {
                            0 => assert_eq!(libc::pthread_mutex_lock(inside.0.at()), 0),
                            1 => {
                                let limit = after(libc::CLOCK_REALTIME, Duration::from_secs(100));
                                assert_eq!(libc::pthread_mutex_timedlock(inside.0.at(), &raw const limit), 0);
                            }
                            _ => {
                                let limit = after(libc::CLOCK_MONOTONIC, Duration::from_secs(100));
                                let clock = libc::CLOCK_MONOTONIC;
                                assert_eq!(pthread_mutex_clocklock(inside.0.at(), clock, &raw const limit), 0);
                            }
                        }
                        (*inside.1.at()).0 += 1;
                        give_way(round / 3 + who);
                        (*inside.1.at()).1 += 1;
                        assert_eq!((*inside.1.at()).0, (*inside.1.at()).1);
                        assert_eq!(libc::pthread_mutex_unlock(inside.0.at()), 0);
                    }
                }
            });
            // SAFETY: nobody else is left.
            assert_eq!(unsafe { (*state.1.at()).0 }, mix.all() * ROUNDS, "{mix:?}");
        }
    }
}

#[test]
fn a_mutex_that_processes_share_is_looked_at_again() {
    patch();
    for mix in MIXES {
        let state = Arc::new((Shared::new(libc::PTHREAD_MUTEX_INITIALIZER), Shared::new(0_usize)));
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: both are ours.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            assert_eq!(libc::pthread_mutex_init(state.0.at(), attributes.as_ptr()), 0);
        }
        let inside = state.clone();
        mix.run(move |who| {
            for round in 0..50 {
                // SAFETY: what the mutex guards is touched by who has it.
                unsafe {
                    assert_eq!(libc::pthread_mutex_lock(inside.0.at()), 0);
                    *inside.1.at() += 1;
                    give_way(round + who);
                    assert_eq!(libc::pthread_mutex_unlock(inside.0.at()), 0);
                }
            }
        });
        // SAFETY: nobody else is left.
        assert_eq!(unsafe { *state.1.at() }, mix.all() * 50, "{mix:?}");
    }
}

#[test]
fn a_lock_that_is_not_had_in_time_says_so() {
    patch();
    let lock = Arc::new(mutex(libc::PTHREAD_MUTEX_NORMAL));
    // SAFETY: ours, alive.
    unsafe { libc::pthread_mutex_lock(lock.at()) };
    let inside = lock.clone();
    let run = move || {
        let begun = Instant::now();
        let limit = after(libc::CLOCK_REALTIME, Duration::from_millis(20));
        // SAFETY: ours, alive.
        let ended = unsafe { libc::pthread_mutex_timedlock(inside.at(), &raw const limit) };
        assert_eq!(ended, libc::ETIMEDOUT);
        assert!(begun.elapsed() >= Duration::from_millis(19));
        let none = timespec { tv_sec: 0, tv_nsec: -1 };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::pthread_mutex_timedlock(inside.at(), &raw const none) }, libc::EINVAL);
    };
    let tasks: Vec<_> = (0..20).map(|_| greenroom::spawn(run.clone())).collect();
    let begun = Instant::now();
    greenroom::joinall(tasks).into_iter().for_each(|task| task.unwrap());
    assert!(begun.elapsed() < Duration::from_millis(20 * 20));
    // SAFETY: as above.
    unsafe { libc::pthread_mutex_unlock(lock.at()) };
}

#[test]
fn an_error_checking_mutex_knows_its_owner() {
    patch();
    let lock = mutex(libc::PTHREAD_MUTEX_ERRORCHECK);
    greenroom::spawn(move || {
        // SAFETY: ours, alive.
        unsafe {
            assert_eq!(libc::pthread_mutex_unlock(lock.at()), libc::EPERM);
            assert_eq!(libc::pthread_mutex_lock(lock.at()), 0);
            assert_eq!(libc::pthread_mutex_lock(lock.at()), libc::EDEADLK);
            assert_eq!(libc::pthread_mutex_unlock(lock.at()), 0);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn conditions_lose_nothing() {
    patch();
    for mix in MIXES {
        let state = Arc::new((
            mutex(libc::PTHREAD_MUTEX_NORMAL),
            Shared::new(libc::PTHREAD_COND_INITIALIZER),
            Shared::new(0_usize),
        ));
        let inside = state.clone();
        // A turn is handed round, to each in its order.
        mix.run(move |who| {
            for round in 0..60 {
                let mine = round * mix.all() + who;
                // SAFETY: what the mutex guards is touched by who has it.
                unsafe {
                    assert_eq!(libc::pthread_mutex_lock(inside.0.at()), 0);
                    while *inside.2.at() != mine {
                        let ended = match round % 3 {
                            0 => libc::pthread_cond_wait(inside.1.at(), inside.0.at()),
                            1 => {
                                let limit = after(libc::CLOCK_REALTIME, Duration::from_secs(100));
                                libc::pthread_cond_timedwait(inside.1.at(), inside.0.at(), &raw const limit)
                            }
                            _ => {
                                let limit = after(libc::CLOCK_MONOTONIC, Duration::from_secs(100));
                                let clock = libc::CLOCK_MONOTONIC;
                                pthread_cond_clockwait(inside.1.at(), inside.0.at(), clock, &raw const limit)
                            }
                        };
                        assert_eq!(ended, 0);
                    }
                    *inside.2.at() += 1;
                    give_way(round + who);
                    assert_eq!(libc::pthread_cond_broadcast(inside.1.at()), 0);
                    assert_eq!(libc::pthread_mutex_unlock(inside.0.at()), 0);
                }
            }
        });
        // SAFETY: nobody else is left.
        assert_eq!(unsafe { *state.2.at() }, mix.all() * 60, "{mix:?}");
    }
}

#[test]
fn one_signal_wakes_one_who_waits() {
    patch();
    for mix in MIXES {
        let state = Arc::new((
            mutex(libc::PTHREAD_MUTEX_NORMAL),
            Shared::new(libc::PTHREAD_COND_INITIALIZER),
            Shared::new((0_usize, 0_usize)),
        ));
        let inside = state.clone();
        let total = mix.all() / 2 * ROUNDS;
        mix.run(move |who| {
            if who / 2 >= mix.all() / 2 {
                return;
            }
            for round in 0..ROUNDS {
                // SAFETY: what the mutex guards is touched by who has it.
                unsafe {
                    assert_eq!(libc::pthread_mutex_lock(inside.0.at()), 0);
                    if who.is_multiple_of(2) {
                        (*inside.2.at()).0 += 1;
                        assert_eq!(libc::pthread_cond_signal(inside.1.at()), 0);
                        give_way(round);
                    } else {
                        while (*inside.2.at()).0 == 0 {
                            assert_eq!(libc::pthread_cond_wait(inside.1.at(), inside.0.at()), 0);
                        }
                        (*inside.2.at()).0 -= 1;
                        (*inside.2.at()).1 += 1;
                    }
                    assert_eq!(libc::pthread_mutex_unlock(inside.0.at()), 0);
                }
            }
        });
        // SAFETY: nobody else is left.
        assert_eq!(unsafe { *state.2.at() }, (0, total), "{mix:?}");
    }
}

#[test]
fn a_condition_times_out_by_its_own_clock() {
    patch();
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC] {
        let state = Arc::new((mutex(libc::PTHREAD_MUTEX_NORMAL), Shared::new(libc::PTHREAD_COND_INITIALIZER)));
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: both are ours.
        unsafe {
            libc::pthread_condattr_init(attributes.as_mut_ptr());
            libc::pthread_condattr_setclock(attributes.as_mut_ptr(), clock);
            assert_eq!(libc::pthread_cond_init(state.1.at(), attributes.as_ptr()), 0);
        }
        let wait = move || {
            let begun = Instant::now();
            let limit = after(clock, Duration::from_millis(20));
            // SAFETY: ours, alive.
            unsafe {
                assert_eq!(libc::pthread_mutex_lock(state.0.at()), 0);
                let ended = libc::pthread_cond_timedwait(state.1.at(), state.0.at(), &raw const limit);
                assert_eq!(ended, libc::ETIMEDOUT);
                assert_eq!(libc::pthread_mutex_unlock(state.0.at()), 0);
            }
            assert!((Duration::from_millis(19)..Duration::from_secs(10)).contains(&begun.elapsed()));
        };
        let native = thread::spawn(wait.clone());
        greenroom::spawn(wait).join().unwrap();
        native.join().unwrap();
    }
}

#[test]
fn read_write_locks_keep_their_word() {
    patch();
    for mix in MIXES {
        let state = Arc::new((Shared::new(libc::PTHREAD_RWLOCK_INITIALIZER), Shared::new((0_usize, 0_usize))));
        let inside = state.clone();
        mix.run(move |who| {
            for round in 0..ROUNDS {
                // SAFETY: what the lock guards is touched by who has it.
                unsafe {
                    if (round + who).is_multiple_of(4) {
                        assert_eq!(libc::pthread_rwlock_wrlock(inside.0.at()), 0);
                        (*inside.1.at()).0 += 1;
                        give_way(round);
                        (*inside.1.at()).1 += 1;
                    } else {
                        assert_eq!(libc::pthread_rwlock_rdlock(inside.0.at()), 0);
                        let before = *inside.1.at();
                        give_way(round);
                        assert_eq!(before, *inside.1.at());
                        assert_eq!(before.0, before.1);
                    }
                    assert_eq!(libc::pthread_rwlock_unlock(inside.0.at()), 0);
                }
            }
        });
        // SAFETY: nobody else is left.
        assert_eq!(unsafe { (*state.1.at()).0 }, mix.all() * ROUNDS / 4, "{mix:?}");
    }
}

#[test]
fn semaphores_count() {
    patch();
    for shared in [0, 1] {
        for mix in MIXES {
            // SAFETY: filled below.
            let state = Arc::new((Shared::new(unsafe { std::mem::zeroed::<libc::sem_t>() }), AtomicUsize::new(0)));
            // SAFETY: ours.
            assert_eq!(unsafe { libc::sem_init(state.0.at(), shared, 0) }, 0);
            let inside = state.clone();
            let rounds = if shared == 0 { ROUNDS } else { 20 };
            mix.run(move |who| {
                if who / 2 >= mix.all() / 2 {
                    return;
                }
                for round in 0..rounds {
                    // SAFETY: ours, alive.
                    unsafe {
                        if who.is_multiple_of(2) {
                            assert_eq!(libc::sem_post(inside.0.at()), 0);
                            give_way(round);
                        } else if round.is_multiple_of(2) {
                            assert_eq!(libc::sem_wait(inside.0.at()), 0);
                            inside.1.fetch_add(1, Ordering::SeqCst);
                        } else {
                            let limit = after(libc::CLOCK_REALTIME, Duration::from_secs(100));
                            assert_eq!(libc::sem_timedwait(inside.0.at(), &raw const limit), 0);
                            inside.1.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
            assert_eq!(state.1.load(Ordering::SeqCst), mix.all() / 2 * rounds, "{mix:?}");
            let mut value = -1;
            // SAFETY: as above.
            unsafe { libc::sem_getvalue(state.0.at(), &raw mut value) };
            assert_eq!(value, 0);
        }
    }
}

#[test]
fn a_semaphore_times_out() {
    patch();
    // SAFETY: filled below.
    let semaphore = Shared::new(unsafe { std::mem::zeroed::<libc::sem_t>() });
    greenroom::spawn(move || {
        // SAFETY: ours, alive.
        unsafe {
            libc::sem_init(semaphore.at(), 0, 0);
            let limit = after(libc::CLOCK_REALTIME, Duration::from_millis(10));
            assert_eq!(libc::sem_timedwait(semaphore.at(), &raw const limit), -1);
            assert_eq!(*libc::__errno_location(), libc::ETIMEDOUT);
            assert_eq!(libc::sem_trywait(semaphore.at()), -1);
            assert_eq!(*libc::__errno_location(), libc::EAGAIN);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn barriers_let_all_through_together() {
    patch();
    for mix in MIXES {
        // SAFETY: filled below.
        let state = Arc::new((
            Shared::new(unsafe { std::mem::zeroed::<libc::pthread_barrier_t>() }),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        ));
        // SAFETY: ours.
        unsafe { libc::pthread_barrier_init(state.0.at(), std::ptr::null(), mix.all() as u32) };
        let inside = state.clone();
        mix.run(move |_| {
            for round in 1..=10 {
                inside.1.fetch_add(1, Ordering::SeqCst);
                // SAFETY: ours, alive.
                if unsafe { libc::pthread_barrier_wait(inside.0.at()) } == libc::PTHREAD_BARRIER_SERIAL_THREAD {
                    inside.2.fetch_add(1, Ordering::SeqCst);
                }
                assert!(inside.1.load(Ordering::SeqCst) >= round * mix.all());
                // SAFETY: as above.
                unsafe { libc::pthread_barrier_wait(inside.0.at()) };
            }
        });
        assert_eq!(state.2.load(Ordering::SeqCst), 10, "{mix:?}");
    }
}

#[test]
fn what_is_run_once_may_park() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn run() {
        greenroom::sleep(Duration::from_millis(2));
        RUNS.fetch_add(1, Ordering::SeqCst);
    }
    patch();
    for (number, mix) in MIXES.into_iter().enumerate() {
        let once = Arc::new(Shared::new(0));
        mix.run(move |_| {
            // SAFETY: ours, alive.
            assert_eq!(unsafe { pthread_once(once.at(), run) }, 0);
            assert_eq!(RUNS.load(Ordering::SeqCst), number + 1);
        });
    }
}

#[test]
fn a_native_thread_is_joined_by_a_task_alone() {
    extern "C" fn run(value: *mut c_void) -> *mut c_void {
        thread::sleep(Duration::from_millis(30));
        value
    }
    patch();
    let begun = Instant::now();
    let tasks: Vec<_> = (1..=20_usize)
        .map(|number| {
            greenroom::spawn(move || {
                let mut id = 0;
                let mut value = std::ptr::null_mut();
                // SAFETY: a thread that is joined once.
                unsafe {
                    let place = std::ptr::without_provenance_mut(number);
                    // As C calls it: unless threads are patched, this is a native one.
                    assert_eq!(libc::pthread_create(&raw mut id, std::ptr::null(), run, place), 0);
                    let limit = after(libc::CLOCK_REALTIME, Duration::from_millis(1));
                    let early = pthread_timedjoin_np(id, &raw mut value, &raw const limit);
                    assert_eq!((early, value.addr()), (libc::ETIMEDOUT, 0));
                    assert_eq!(libc::pthread_join(id, &raw mut value), 0);
                    assert_eq!(libc::pthread_join(libc::pthread_self(), std::ptr::null_mut()), libc::EDEADLK);
                }
                assert_eq!(value.addr(), number);
            })
        })
        .collect();
    greenroom::joinall(tasks).into_iter().for_each(|task| task.unwrap());
    assert!(begun.elapsed() < Duration::from_millis(20 * 30));
    let handle = greenroom::spawn(|| thread::spawn(|| 7).join().unwrap());
    assert_eq!(handle.join().unwrap(), 7);
}
