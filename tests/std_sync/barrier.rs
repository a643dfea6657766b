//! The scenarios of std's tests of `Barrier`.

use super::{channel, give_way, go};
use greenroom::sync::{Barrier, BarrierWaitResult};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn nobody_passes_before_the_last_has_come_and_one_leads() {
    const BODIES: usize = 10;
    let barrier = Arc::new(Barrier::new(BODIES));
    let passed = Arc::new(AtomicUsize::new(0));
    let (send, receive) = channel();
    let bodies: Vec<_> = (0..BODIES - 1)
        .map(|_| {
            let (barrier, send, passed) = (barrier.clone(), send.clone(), passed.clone());
            go(move || {
                let result = barrier.wait();
                passed.fetch_add(1, Ordering::SeqCst);
                send.send(result.is_leader()).unwrap();
            })
        })
        .collect();
    for _ in 0..BODIES {
        give_way();
    }
    assert_eq!(passed.load(Ordering::SeqCst), 0);
    let mut leaders = usize::from(barrier.wait().is_leader());
    for _ in 0..BODIES - 1 {
        leaders += usize::from(receive.recv().unwrap());
    }
    assert_eq!(leaders, 1);
    bodies.into_iter().for_each(|body| body.join().unwrap());
}

#[test]
fn it_starts_anew_each_round() {
    const BODIES: usize = 4;
    const ROUNDS: usize = 50;
    let shared = Arc::new((Barrier::new(BODIES), AtomicUsize::new(0), AtomicUsize::new(0)));
    let bodies: Vec<_> = (0..BODIES)
        .map(|_| {
            let shared = shared.clone();
            go(move || {
                let (barrier, count, leaders) = &*shared;
                for round in 1..=ROUNDS {
                    count.fetch_add(1, Ordering::SeqCst);
                    leaders.fetch_add(barrier.wait().is_leader().into(), Ordering::SeqCst);
                    assert_eq!(count.load(Ordering::SeqCst), BODIES * round);
                    barrier.wait();
                }
            })
        })
        .collect();
    bodies.into_iter().for_each(|body| body.join().unwrap());
    assert_eq!(shared.2.load(Ordering::SeqCst), ROUNDS);
}

#[test]
fn a_barrier_for_none_or_one_holds_nobody_up() {
    assert!(Barrier::new(0).wait().is_leader());
    assert!(Barrier::new(1).wait().is_leader());
}

#[test]
fn it_has_stds_traits() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    all::<Barrier>();
    all::<BarrierWaitResult>();
    static ONE: Barrier = Barrier::new(1);
    assert_eq!(format!("{ONE:?} {:?}", ONE.wait()), "Barrier { .. } BarrierWaitResult { is_leader: true }");
}
