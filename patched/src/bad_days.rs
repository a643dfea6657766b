//! What must stay true when a call is cut short, wherever in its conversation that is.

#[cfg(not(feature = "control"))]
use crate::MS;
use crate::{Relay, go, until};
use std::fmt::Debug;
use std::net::SocketAddr;

/// Makes a call through a relay that stops it after so many bytes of the server's, for a few numbers of bytes, and ends it
/// then: the server hangs up, and without `control` the task is killed, or its time runs out. The call must end, with an
/// error or by an unwind, and leave its connection; and the next call to the same server must succeed.
///
/// `call` gives what it got, or the crate's error. A crate that panics for an error that it does not know may do so.
pub fn bad_days<T, E>(server: SocketAddr, call: impl Fn(SocketAddr) -> Result<T, E> + Clone + Send + 'static)
where
    T: Send + Debug + 'static,
    E: Send + Debug + 'static,
{
    let relay = Relay::limit(server, usize::MAX);
    let address = relay.address();
    let whole = call.clone();
    go(move || whole(address)).join().expect("the server answers");
    until("the connection is closed", || relay.accepted() > 0 && relay.left() == relay.accepted());
    let total = relay.passed();
    drop(relay);

    let mut limits = vec![0, 1, total / 4, total / 2, total * 3 / 4, total - 1];
    limits.dedup();
    for limit in limits {
        for &end in ENDS {
            eprintln!("-- {end:?} after {limit} of {total} bytes");
            let relay = match end {
                End::HangUp => Relay::hang_up(server, limit),
                #[cfg(not(feature = "control"))]
                End::Kill | End::Timeout => Relay::limit(server, limit),
            };
            let address = relay.address();
            let cut = call.clone();
            let outcome = match end {
                End::HangUp => go(move || cut(address).map_err(Some)).join(),
                #[cfg(not(feature = "control"))]
                End::Kill => killed(&relay, move || cut(address)),
                #[cfg(not(feature = "control"))]
                End::Timeout => {
                    let timed = move || match greenroom::timeout(100 * MS, || cut(address)) {
                        Ok(outcome) => outcome.map_err(Some),
                        Err(greenroom::Elapsed { .. }) => Err(None),
                    };
                    let timed = greenroom::Builder::new().stack_size(crate::STACK).spawn(timed);
                    ended(timed.expect("memory for a stack").join())
                }
            };
            // Few need the last bytes of all: a good-bye, say.
            if limit < total / 2 {
                let error = outcome.expect_err("the answer cannot have come");
                eprintln!("   {error:?}");
            }
            until("the connection is closed", || relay.left() >= relay.accepted());
            let again = call.clone();
            go(move || again(server)).join().expect("the server still answers");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    HangUp,
    #[cfg(not(feature = "control"))]
    Kill,
    #[cfg(not(feature = "control"))]
    Timeout,
}

const ENDS: &[End] = &[
    End::HangUp,
    #[cfg(not(feature = "control"))]
    End::Kill,
    #[cfg(not(feature = "control"))]
    End::Timeout,
];

/// Kills the call when it has got all that it gets.
#[cfg(not(feature = "control"))]
fn killed<T: 'static, E: 'static>(
    relay: &Relay,
    call: impl FnOnce() -> Result<T, E> + 'static,
) -> Result<T, Option<E>> {
    let call = greenroom::Builder::new().stack_size(crate::STACK).spawn(call).expect("memory for a stack");
    while relay.at_the_limit() == 0 && !call.is_finished() {
        greenroom::sleep(MS);
    }
    // Once more, so that it has read them.
    greenroom::sleep(MS);
    assert!(call.kill_timeout(20_000 * MS), "it does not end");
    ended(call.join().map(|outcome| outcome.map_err(Some)))
}

/// What a task came to. The error of a call that is cancelled is one that no crate knows, and some make a panic of it.
#[cfg(not(feature = "control"))]
fn ended<T, E>(joined: Result<Result<T, Option<E>>, greenroom::JoinError>) -> Result<T, Option<E>> {
    match joined {
        Ok(outcome) => outcome,
        Err(greenroom::JoinError::Killed) => Err(None),
        Err(error) if error.to_string().contains("Operation canceled") => Err(None),
        Err(error) => panic!("{error}"),
    }
}
