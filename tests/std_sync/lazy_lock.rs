//! The scenarios of std's tests of `LazyLock`.

use super::{give_way, go};
use crate::common::{fail, panic_of};
use greenroom::sync::{LazyLock, Mutex};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const POISONED: &str = "LazyLock instance has previously been poisoned";

#[test]
fn the_value_is_made_when_it_is_looked_at() {
    let calls = Cell::new(0);
    let lazy = LazyLock::new(|| {
        calls.set(calls.get() + 1);
        92
    });
    assert_eq!((calls.get(), LazyLock::get(&lazy)), (0, None));
    assert_eq!((*lazy - 30, calls.get()), (62, 1));
    assert_eq!((*LazyLock::force(&lazy) - 30, calls.get()), (62, 1));
    assert_eq!(LazyLock::get(&lazy), Some(&92));
}

#[test]
fn default_makes_the_default() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    struct Counted(u8);
    impl Default for Counted {
        fn default() -> Counted {
            CALLS.fetch_add(1, Ordering::SeqCst);
            Counted(42)
        }
    }
    let before = CALLS.load(Ordering::SeqCst);
    let lazy: LazyLock<Mutex<Counted>> = LazyLock::default();
    assert_eq!(CALLS.load(Ordering::SeqCst), before);
    assert_eq!(lazy.lock().unwrap().0, 42);
    lazy.lock().unwrap().0 = 21;
    assert_eq!(lazy.lock().unwrap().0, 21);
    assert_eq!(CALLS.load(Ordering::SeqCst), before + 1);
}

#[test]
fn statics_are_seen_by_all() {
    static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
        give_way();
        vec!["one".to_owned(), "two".to_owned()]
    });
    let bodies: Vec<_> = (0..4).map(|_| go(|| WORDS.join(" "))).collect();
    bodies.into_iter().for_each(|body| assert_eq!(body.join().unwrap(), "one two"));
    assert_eq!(WORDS.len(), 2);
}

#[test]
fn it_is_made_of_a_function_or_a_closure() {
    fn made() -> i32 {
        3
    }
    let (one, two, three) = (1, LazyLock::new(|| 2), LazyLock::<i32>::new(made));
    let sum = LazyLock::new(|| one + *two + *three);
    assert_eq!(*sum, 6);
}

#[test]
fn a_panic_poisons_for_good() {
    let lazy = LazyLock::new(|| fail::<String>("in the initializer"));
    for _ in 0..2 {
        assert!(catch_unwind(AssertUnwindSafe(|| lazy.len())).is_err());
    }
    assert_eq!(panic_of(|| lazy.len()), POISONED);
    assert_eq!(LazyLock::get(&lazy), None);
    let mut lazy = lazy;
    assert_eq!(panic_of(|| LazyLock::force_mut(&mut lazy).len()), POISONED);
    assert_eq!(LazyLock::get_mut(&mut lazy), None);
}

#[test]
fn a_panic_of_force_mut_poisons_too() {
    let mut lazy = LazyLock::new(|| fail::<String>("in the initializer"));
    assert!(catch_unwind(AssertUnwindSafe(|| LazyLock::force_mut(&mut lazy).len())).is_err());
    assert_eq!(panic_of(|| lazy.len()), POISONED);
    assert_eq!(panic_of(|| LazyLock::force_mut(&mut lazy).len()), POISONED);
}

#[test]
fn an_exclusive_reference_changes_the_value() {
    let mut lazy = LazyLock::new(|| 92);
    assert_eq!(LazyLock::get_mut(&mut lazy), None);
    *LazyLock::force_mut(&mut lazy) = 44;
    assert_eq!((*lazy, LazyLock::get(&lazy)), (44, Some(&44)));
    *LazyLock::get_mut(&mut lazy).unwrap() += 1;
    *lazy += 1;
    assert_eq!(*lazy, 46);
    let mut lazy = LazyLock::new(|| 1);
    assert_eq!(*lazy, 1);
    *LazyLock::force_mut(&mut lazy) += 1;
    assert_eq!(*lazy, 2);
}

#[test]
fn what_was_not_made_is_not_dropped_and_the_initializer_is() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let value = Dropped(drops.clone());
    drop(LazyLock::new(move || value));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    let value = Dropped(drops.clone());
    let lazy = LazyLock::new(move || value);
    LazyLock::force(&lazy);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    drop(lazy);
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

#[test]
fn an_initializer_that_looks_at_its_own_value_panics() {
    static LAZY: LazyLock<i32> = LazyLock::new(|| *LAZY + 1);
    let text = panic_of(|| *LAZY);
    assert!(text.contains("would wait for itself"), "{text}");
    assert_eq!(panic_of(|| *LAZY), POISONED);
}

#[test]
fn it_prints_as_stds() {
    let lazy = LazyLock::new(|| 1);
    assert_eq!(format!("{lazy:?}"), "LazyLock(<uninit>)");
    LazyLock::force(&lazy);
    assert_eq!(format!("{lazy:?}"), "LazyLock(1)");
}

#[test]
fn it_has_stds_traits() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    all::<LazyLock<i32>>();
    all::<LazyLock<i32, Box<dyn FnOnce() -> i32 + Send + UnwindSafe>>>();
}
