//! The scenarios of std's tests of `RwLock`.

use super::{channel, give_way, go};
use crate::common::fail;
use greenroom::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Unwinds a body that holds the lock.
fn unwind_with<T: Send + Sync + 'static>(lock: &Arc<RwLock<T>>, write: bool) {
    let theirs = lock.clone();
    let body = go(move || {
        let _writer = write.then(|| theirs.write().unwrap());
        let _reader = (!write).then(|| theirs.read().unwrap());
        fail::<()>("while it is held");
    });
    assert!(body.join().is_err());
}

#[test]
fn it_can_be_taken_again_and_again() {
    let lock = RwLock::new(());
    drop(lock.read().unwrap());
    drop(lock.write().unwrap());
    drop((lock.read().unwrap(), lock.read().unwrap()));
    drop(lock.write().unwrap());
}

#[test]
fn readers_and_writers_at_random_all_come_to_an_end() {
    const BODIES: u64 = 10;
    let lock = Arc::new(RwLock::new((0_u64, 0_u64)));
    let bodies: Vec<_> = (0..BODIES)
        .map(|seed| {
            let lock = lock.clone();
            go(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut written = 0;
                for _ in 0..200 {
                    if random.u8(..BODIES as u8) == 0 {
                        let mut pair = lock.write().unwrap();
                        pair.0 += 1;
                        give_way();
                        pair.1 += 1;
                        written += 1;
                    } else {
                        let pair = lock.read().unwrap();
                        if random.bool() {
                            give_way();
                        }
                        assert_eq!(pair.0, pair.1);
                    }
                }
                written
            })
        })
        .collect();
    let written: u64 = bodies.into_iter().map(|body| body.join().unwrap()).sum();
    assert_eq!(*lock.read().unwrap(), (written, written));
}

#[test]
fn a_writer_that_unwinds_poisons_and_a_reader_does_not() {
    let lock = Arc::new(RwLock::new(1));
    unwind_with(&lock, false);
    assert!(!lock.is_poisoned());
    assert_eq!((*lock.read().unwrap(), *lock.read().unwrap()), (1, 1));
    assert_eq!(*lock.write().unwrap(), 1);

    unwind_with(&lock, true);
    assert!(lock.is_poisoned());
    assert_eq!(**lock.read().unwrap_err().get_ref(), 1);
    assert_eq!(**lock.write().unwrap_err().get_ref(), 1);
    assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
    assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));

    lock.clear_poison();
    assert!(!lock.is_poisoned());
    assert_eq!(*lock.write().unwrap(), 1);
}

#[test]
fn readers_see_what_a_writer_did_and_never_the_midst_of_it() {
    let lock = Arc::new(RwLock::new(0));
    let theirs = lock.clone();
    let (send, receive) = channel();
    let writer = go(move || {
        let mut value = theirs.write().unwrap();
        for _ in 0..10 {
            let before = *value;
            *value = -1;
            give_way();
            *value = before + 1;
        }
        send.send(()).unwrap();
    });
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let lock = lock.clone();
            go(move || assert!(*lock.read().unwrap() >= 0))
        })
        .collect();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    receive.recv().unwrap();
    assert_eq!(*lock.read().unwrap(), 10);
    writer.join().unwrap();
}

#[test]
fn a_guard_taken_in_an_unwind_does_not_poison() {
    struct Add(Arc<RwLock<i32>>);
    impl Drop for Add {
        fn drop(&mut self) {
            *self.0.write().unwrap() += 1;
        }
    }
    let lock = Arc::new(RwLock::new(1));
    let theirs = lock.clone();
    let body = go(move || {
        let _add = Add(theirs);
        fail::<()>("not while it is held");
    });
    assert!(body.join().is_err());
    assert_eq!(*lock.read().unwrap(), 2);
}

#[test]
fn the_value_may_be_unsized() {
    let lock: &RwLock<[i32]> = &RwLock::new([1, 2, 3]);
    lock.write().unwrap()[0] = 4;
    assert_eq!(*lock.read().unwrap(), [4, 2, 3]);
}

#[test]
fn the_try_forms_take_what_goes_together() {
    let lock = RwLock::new(0);
    let reader = lock.read().unwrap();
    assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    drop(lock.try_read().unwrap());
    drop(reader);
    let writer = lock.try_write().unwrap();
    assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
    assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    drop(writer);
    drop(lock.try_read().unwrap());
}

#[test]
fn into_inner_gives_the_value_and_drops_it_once() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let value = RwLock::new(Dropped(drops.clone())).into_inner().unwrap();
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(value);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn get_mut_and_into_inner_tell_of_poison() {
    let lock = Arc::new(RwLock::new(1));
    unwind_with(&lock, true);
    let mut lock = Arc::into_inner(lock).unwrap();
    assert_eq!(**lock.get_mut().unwrap_err().get_ref(), 1);
    assert_eq!(lock.into_inner().unwrap_err().into_inner(), 1);

    let mut lock = RwLock::new(1);
    *lock.get_mut().unwrap() = 2;
    assert_eq!(lock.into_inner().unwrap(), 2);
}

#[test]
fn a_read_guard_is_covariant() {
    fn shorten<'a>(guard: RwLockReadGuard<'a, &'static str>, _as_long_as: &'a str) -> RwLockReadGuard<'a, &'a str> {
        guard
    }
    let lock = RwLock::new("long");
    let short = String::from("short");
    assert_eq!(*shorten(lock.read().unwrap(), &short), "long");
}

#[test]
fn a_downgraded_writer_reads_with_others() {
    let lock = RwLock::new(0);
    let mut writer = lock.write().unwrap();
    *writer = 1;
    let reader = RwLockWriteGuard::downgrade(writer);
    assert_eq!((*reader, *lock.read().unwrap()), (1, 1));
    assert!(lock.try_write().is_err());
    drop(reader);
    assert!(lock.try_write().is_ok());
}

#[test]
fn readers_that_wait_go_in_with_a_downgraded_writer() {
    const READERS: usize = 4;
    let lock = Arc::new(RwLock::new(0));
    let (send, receive) = channel();
    let mut writer = lock.write().unwrap();
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (lock, send) = (lock.clone(), send.clone());
            go(move || {
                let value = *lock.read().unwrap();
                send.send(value).unwrap();
            })
        })
        .collect();
    give_way();
    *writer = 1;
    let reader = RwLockWriteGuard::downgrade(writer);
    // They come to their end although this one still reads.
    for _ in 0..READERS {
        assert_eq!(receive.recv().unwrap(), 1);
    }
    drop(reader);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn no_writer_comes_between_a_write_and_its_downgrade() {
    const ROUNDS: u32 = 300;
    let lock = Arc::new(RwLock::new(0));
    let bodies: Vec<_> = (1..=3)
        .map(|me| {
            let lock = lock.clone();
            go(move || {
                for round in 0..ROUNDS {
                    let mut writer = lock.write().unwrap();
                    *writer = me * ROUNDS + round;
                    let reader = RwLockWriteGuard::downgrade(writer);
                    give_way();
                    assert_eq!(*reader, me * ROUNDS + round);
                }
            })
        })
        .collect();
    bodies.into_iter().for_each(|body| body.join().unwrap());
}

#[test]
fn a_downgrade_in_an_unwind_does_not_poison() {
    let lock = Arc::new(RwLock::new(0));
    let theirs = lock.clone();
    let body = go(move || {
        let _reader = RwLockWriteGuard::downgrade(theirs.write().unwrap());
        fail::<()>("while it is read");
    });
    assert!(body.join().is_err());
    assert!(!lock.is_poisoned());
    assert!(lock.try_write().is_ok());
}

#[test]
fn forgotten_guards_keep_it_locked() {
    let lock = RwLock::new(1);
    #[expect(clippy::mem_forget, reason = "what is tested")]
    std::mem::forget(lock.read().unwrap());
    assert!(lock.try_write().is_err());
    assert_eq!(*lock.read().unwrap(), 1);
    assert_eq!(lock.into_inner().unwrap(), 1);
}

#[test]
fn it_prints_as_stds() {
    let lock = RwLock::new(1);
    assert_eq!(format!("{lock:?}"), format!("{:?}", std::sync::RwLock::new(1)));
    let writer = lock.write().unwrap();
    assert_eq!(format!("{lock:?} {writer:?} {writer}"), "RwLock { data: <locked>, poisoned: false, .. } 1 1");
    let reader = RwLockWriteGuard::downgrade(writer);
    assert_eq!(format!("{reader:?} {reader}"), "1 1");
}

#[test]
fn it_has_stds_traits() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn guard<T: Sync + UnwindSafe + RefUnwindSafe>() {}
    all::<RwLock<i32>>();
    guard::<RwLockReadGuard<'static, i32>>();
    guard::<RwLockWriteGuard<'static, i32>>();
    assert_eq!(*RwLock::<i32>::default().read().unwrap(), *RwLock::from(0).read().unwrap());
    let lock = RwLock::new(1);
    assert_eq!(catch_unwind(|| *lock.read().unwrap()).unwrap(), 1);
}
