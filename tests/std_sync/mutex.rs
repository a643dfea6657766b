//! The scenarios of std's tests of `Mutex`.

use super::{channel, give_way, go};
use crate::common::fail;
use greenroom::sync::{Condvar, Mutex, MutexGuard, TryLockError};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Poisons a mutex.
fn poison<T: Send + 'static>(mutex: &Arc<Mutex<T>>) {
    let theirs = mutex.clone();
    let body = go(move || {
        let _guard = theirs.lock().unwrap();
        fail::<()>("while it is held");
    });
    assert!(body.join().is_err());
}

/// Counts how often it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn it_can_be_taken_again_and_again() {
    let mutex = Mutex::new(());
    drop(mutex.lock().unwrap());
    drop(mutex.lock().unwrap());
}

#[test]
fn many_who_count_count_exactly() {
    const ROUNDS: u32 = 500;
    const BODIES: u32 = 3;
    let total = Arc::new(Mutex::new(0));
    let bodies: Vec<_> = (0..2 * BODIES)
        .map(|i| {
            let total = total.clone();
            go(move || {
                for _ in 0..ROUNDS {
                    let mut total = total.lock().unwrap();
                    if i % 2 == 0 {
                        give_way();
                    }
                    *total += 1;
                }
            })
        })
        .collect();
    bodies.into_iter().for_each(|body| body.join().unwrap());
    assert_eq!(*total.lock().unwrap(), ROUNDS * BODIES * 2);
}

#[test]
fn try_lock_takes_a_free_mutex_only() {
    let mutex = Mutex::new(1);
    let guard = mutex.try_lock().unwrap();
    assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    drop(guard);
    assert_eq!(*mutex.try_lock().unwrap(), 1);
}

#[test]
fn into_inner_gives_the_value_and_drops_it_once() {
    #[derive(Debug, PartialEq, Eq)]
    struct NonCopy(i32);
    assert_eq!(Mutex::new(NonCopy(10)).into_inner().unwrap(), NonCopy(10));

    let drops = Arc::new(AtomicUsize::new(0));
    let value = Mutex::new(Dropped(drops.clone())).into_inner().unwrap();
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(value);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn get_mut_and_into_inner_tell_of_poison() {
    let mutex = Arc::new(Mutex::new(1));
    poison(&mutex);
    let mut mutex = Arc::into_inner(mutex).unwrap();
    assert_eq!(**mutex.get_mut().unwrap_err().get_ref(), 1);
    assert_eq!(mutex.into_inner().unwrap_err().into_inner(), 1);

    let mut mutex = Mutex::new(1);
    *mutex.get_mut().unwrap() = 2;
    assert_eq!(mutex.into_inner().unwrap(), 2);
}

#[test]
fn a_condvar_carries_a_change_from_one_to_the_other() {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let theirs = shared.clone();
    let (send, receive) = channel();
    let body = go(move || {
        receive.recv().unwrap();
        *theirs.0.lock().unwrap() = true;
        theirs.1.notify_one();
    });
    let mut changed = shared.0.lock().unwrap();
    send.send(()).unwrap();
    while !*changed {
        changed = shared.1.wait(changed).unwrap();
    }
    drop(changed);
    body.join().unwrap();
}

#[test]
fn who_waits_on_a_condvar_is_told_of_poison() {
    let shared = Arc::new((Mutex::new(1), Condvar::new()));
    let theirs = shared.clone();
    let (send, receive) = channel();
    let body = go(move || {
        receive.recv().unwrap();
        let _guard = theirs.0.lock().unwrap();
        theirs.1.notify_one();
        fail::<()>("while it is held");
    });
    let guard = shared.0.lock().unwrap();
    send.send(()).unwrap();
    let error = shared.1.wait(guard).unwrap_err();
    assert_eq!(*error.into_inner(), 1);
    assert!(body.join().is_err());
}

#[test]
fn a_panic_of_the_holder_poisons_until_the_mark_is_cleared() {
    let mutex = Arc::new(Mutex::new(1));
    assert!(!mutex.is_poisoned());
    poison(&mutex);
    assert!(mutex.is_poisoned());
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
    let error = mutex.lock().unwrap_err();
    assert_eq!(**error.get_ref(), 1);
    drop(error);
    mutex.clear_poison();
    assert!(!mutex.is_poisoned());
    assert_eq!(*mutex.lock().unwrap(), 1);
}

#[test]
fn a_guard_taken_in_an_unwind_does_not_poison() {
    struct Add(Arc<Mutex<i32>>);
    impl Drop for Add {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let mutex = Arc::new(Mutex::new(1));
    let theirs = mutex.clone();
    let body = go(move || {
        let _add = Add(theirs);
        fail::<()>("not while it is held");
    });
    assert!(body.join().is_err());
    assert_eq!(*mutex.lock().unwrap(), 2);
}

#[test]
fn a_guard_that_outlives_a_caught_panic_does_not_poison() {
    let mutex = Mutex::new(0);
    let guard = mutex.lock().unwrap();
    assert!(catch_unwind(|| fail::<()>("caught")).is_err());
    drop(guard);
    assert!(!mutex.is_poisoned());
}

#[test]
fn mutexes_nest() {
    let inner = Arc::new(Mutex::new(1));
    let outer = Arc::new(Mutex::new(inner));
    let body = go(move || {
        let inner = outer.lock().unwrap();
        assert_eq!(*inner.lock().unwrap(), 1);
    });
    body.join().unwrap();
}

#[test]
fn the_value_may_be_unsized() {
    let mutex: &Mutex<[i32]> = &Mutex::new([1, 2, 3]);
    {
        let values = &mut *mutex.lock().unwrap();
        values[0] = 4;
        values[2] = 5;
    }
    assert_eq!(*mutex.lock().unwrap(), [4, 2, 5]);
}

#[test]
fn a_forgotten_guard_keeps_it_locked() {
    let mutex = Mutex::new(1);
    #[expect(clippy::mem_forget, reason = "what is tested")]
    std::mem::forget(mutex.lock().unwrap());
    assert!(mutex.try_lock().is_err());
    assert_eq!(mutex.into_inner().unwrap(), 1);
}

#[test]
fn it_prints_as_stds() {
    let mutex = Mutex::new(1);
    assert_eq!(format!("{mutex:?}"), format!("{:?}", std::sync::Mutex::new(1)));
    let guard = mutex.lock().unwrap();
    assert_eq!(format!("{mutex:?} {guard:?} {guard}"), "Mutex { data: <locked>, poisoned: false, .. } 1 1");
}

#[test]
fn it_has_stds_traits() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn guard<T: Sync + UnwindSafe + RefUnwindSafe>() {}
    all::<Mutex<i32>>();
    all::<Mutex<std::cell::Cell<i32>>>();
    guard::<MutexGuard<'static, i32>>();
    assert_eq!(*Mutex::<i32>::default().lock().unwrap(), *Mutex::from(0).lock().unwrap());
    let mutex = Mutex::new(1);
    let caught = catch_unwind(AssertUnwindSafe(|| *mutex.lock().unwrap()));
    assert_eq!(caught.unwrap(), 1);
}
