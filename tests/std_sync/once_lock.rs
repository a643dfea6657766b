//! The scenarios of std's tests of `OnceLock`.

use super::{channel, give_way, go};
use crate::common::{fail, panic_of};
use greenroom::sync::OnceLock;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_value_is_set_once() {
    let cell = OnceLock::new();
    assert_eq!(cell.get(), None);
    assert_eq!(cell.get_or_init(|| 92), &92);
    assert_eq!(cell.get(), Some(&92));
    assert_eq!(cell.get_or_init(|| unreachable!("it is set")), &92);
    assert_eq!(cell.set(3), Err(3));

    let cell = OnceLock::new();
    assert_eq!(cell.set(1), Ok(()));
    assert_eq!((cell.wait(), cell.get()), (&1, Some(&1)));
}

#[test]
fn get_mut_changes_it() {
    let mut cell = OnceLock::new();
    assert_eq!(cell.get_mut(), None);
    cell.set(90).unwrap();
    *cell.get_mut().unwrap() += 2;
    assert_eq!(cell.get(), Some(&92));
}

#[test]
fn what_one_body_sets_another_sees() {
    let cell = Arc::new(OnceLock::new());
    let theirs = cell.clone();
    go(move || assert_eq!(theirs.set("there".to_owned()), Ok(()))).join().unwrap();
    assert_eq!(cell.get().map(String::as_str), Some("there"));
}

#[test]
fn the_value_is_dropped_once_or_not_at_all() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let cell = OnceLock::new();
    let theirs = drops.clone();
    let body = go(move || {
        cell.get_or_init(|| Dropped(theirs.clone()));
        assert_eq!(theirs.load(Ordering::SeqCst), 0);
        drop(cell);
    });
    body.join().unwrap();
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    drop(OnceLock::<Dropped>::new());
}

#[test]
fn it_is_cloned_compared_made_of_a_value_and_taken_apart() {
    let mut cell = OnceLock::new();
    assert_eq!((cell.clone().get(), cell.take()), (None, None));
    cell.set("hello".to_owned()).unwrap();
    let copy = cell.clone();
    assert_eq!((copy.get().unwrap(), &copy), (&"hello".to_owned(), &cell));
    assert_eq!(OnceLock::from("hello".to_owned()), cell);
    assert_ne!(OnceLock::from("other".to_owned()), cell);
    assert_ne!(OnceLock::default(), cell);
    assert_eq!(cell.take().as_deref(), Some("hello"));
    assert_eq!(cell.get(), None);
    assert_eq!(cell.set("again".to_owned()), Ok(()));
    assert_eq!(cell.into_inner().as_deref(), Some("again"));
}

#[test]
fn it_may_hold_what_it_borrows() {
    let text = String::from("borrowed");
    let cell = OnceLock::new();
    cell.set(&text).unwrap();
    assert_eq!(cell.get(), Some(&&text));

    // No destructor of the cell looks at the reference.
    let cell = OnceLock::new();
    let inner = String::from("dropped before the cell");
    cell.set(&inner).unwrap();
}

#[test]
fn one_initializer_wins_and_all_see_its_value() {
    let shared = Arc::new((OnceLock::new(), AtomicUsize::new(0)));
    let bodies: Vec<_> = (0..8)
        .map(|i| {
            let shared = shared.clone();
            go(move || {
                *shared.0.get_or_init(|| {
                    shared.1.fetch_add(1, Ordering::SeqCst);
                    give_way();
                    i
                })
            })
        })
        .collect();
    let values: Vec<usize> = bodies.into_iter().map(|body| body.join().unwrap()).collect();
    assert!(values.iter().all(|value| Some(value) == shared.0.get()), "{values:?}");
    assert_eq!(shared.1.load(Ordering::SeqCst), 1);
}

#[test]
fn nobody_sees_a_half_made_value() {
    const ROUNDS: usize = 100;
    const TEXT: &str = "a boxed string, whole";
    let cells: Arc<Vec<OnceLock<String>>> = Arc::new((0..ROUNDS).map(|_| OnceLock::new()).collect());
    let bodies: Vec<_> = (0..4)
        .map(|writes| {
            let cells = cells.clone();
            go(move || {
                for cell in &*cells {
                    if writes < 2 {
                        let _other = cell.set(TEXT.to_owned());
                    }
                    while cell.get().is_none_or(|text| text != TEXT) {
                        assert!(cell.get().is_none_or(|text| text == TEXT));
                        give_way();
                    }
                }
            })
        })
        .collect();
    bodies.into_iter().for_each(|body| body.join().unwrap());
}

#[test]
fn a_panic_leaves_it_to_the_next() {
    let cell = OnceLock::new();
    assert!(catch_unwind(AssertUnwindSafe(|| *cell.get_or_init(|| fail::<i32>("in the initializer")))).is_err());
    assert_eq!(cell.get(), None);
    assert_eq!(cell.get_or_init(|| 1), &1);
}

#[test]
fn a_panic_leaves_it_to_who_waits() {
    let cell = Arc::new(OnceLock::new());
    let (begun, has_begun) = channel();
    let (go_on, goes_on) = channel();
    let theirs = cell.clone();
    let fails = go(move || {
        theirs.get_or_init(|| {
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
            fail("in the initializer")
        });
    });
    has_begun.recv().unwrap();
    let (theirs, patient) = (cell.clone(), cell.clone());
    let tries = go(move || *theirs.get_or_init(|| 2));
    let waits = go(move || *patient.wait());
    give_way();
    go_on.send(()).unwrap();
    assert!(fails.join().is_err());
    assert_eq!((tries.join().unwrap(), waits.join().unwrap()), (2, 2));
}

#[test]
fn those_who_wait_get_the_value() {
    let cell = Arc::new(OnceLock::new());
    let bodies: Vec<_> = (0..5)
        .map(|_| {
            let cell = cell.clone();
            go(move || *cell.wait())
        })
        .collect();
    give_way();
    cell.set(7).unwrap();
    bodies.into_iter().for_each(|body| assert_eq!(body.join().unwrap(), 7));
}

#[test]
fn an_initializer_that_asks_for_itself_panics() {
    let cell = OnceLock::<i32>::new();
    let text = panic_of(|| *cell.get_or_init(|| *cell.get_or_init(|| 1)));
    assert!(text.contains("would wait for itself"), "{text}");
    assert_eq!(cell.get_or_init(|| 2), &2);
}

#[test]
fn statics_work() {
    static CELL: OnceLock<Vec<i32>> = OnceLock::new();
    let values = go(|| CELL.get_or_init(|| vec![1, 2]).len());
    assert_eq!((values.join().unwrap(), CELL.wait().len()), (2, 2));
}

#[test]
fn it_prints_as_stds() {
    let cell = OnceLock::new();
    assert_eq!(format!("{cell:?}"), format!("{:?}", std::sync::OnceLock::<i32>::new()));
    cell.set(1).unwrap();
    assert_eq!(format!("{cell:?}"), format!("{:?}", std::sync::OnceLock::from(1)));
}

#[test]
fn it_has_stds_traits() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    all::<OnceLock<i32>>();
}
