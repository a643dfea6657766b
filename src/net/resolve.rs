//! Name lookups: native threads that call `getaddrinfo` through std, so that no hub ever waits for a name server.
//!
//! A lookup goes through three places:
//!
//! ```text
//! lookup(host) ── new ──► pending + queue ──► pending, on a thread ──► outcome, for all who wait
//!      └─ someone asks already: joins that one ─┘
//! ```
//!
//! - **N1** A host is in `pending` exactly while its lookup is queued or on a thread: later callers join it, and nothing
//!   is cached once it has an answer.
//! - **N2** A caller holds nothing but an `Arc` of the lookup. One that is killed or times out drops it, and no other
//!   caller notices; a queued lookup that all have left is never started.
//! - **N3** A queued lookup has a thread that will take it, one of a pool of their own: O1 of `offload`.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};

use crate::hub::{Hub, Reason};
use crate::lock::{Slow, SlowGuard};
use crate::offload::ThreadPool;
use crate::promise::Promise;

/// Looks up the addresses of `host`, each with `port`.
pub(super) fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    static POOL: Pool = Pool::new(system_lookup);
    // Where nothing can park, the native thread waits.
    let mut found = if Hub::can_park() {
        // A hub that cannot be made is an error here; a panic in the wait.
        Hub::try_here()?;
        POOL.lookup(host)?
    } else {
        system_lookup(host)?
    };
    for address in &mut found {
        address.set_port(port);
    }
    Ok(found)
}

/// std's own lookup: blocks. The port is the caller's business, so that all ports share one lookup.
fn system_lookup(host: &str) -> io::Result<Vec<SocketAddr>> {
    (host, 0).to_socket_addrs().map(Iterator::collect)
}

/// The most native threads that look names up at once; more lookups queue.
const MAX_THREADS: usize = 8;

struct Pool {
    state: Slow<Option<State>>,
    threads: LazyLock<ThreadPool>,
    resolve: fn(&str) -> io::Result<Vec<SocketAddr>>,
}

#[derive(Default)]
struct State {
    /// The process whose lookups these are: a forked child has none of its parent's threads.
    process: u32,
    pending: HashMap<Arc<str>, Arc<Lookup>>,
}

impl Pool {
    const fn new(resolve: fn(&str) -> io::Result<Vec<SocketAddr>>) -> Pool {
        let threads: LazyLock<_> = LazyLock::new(|| ThreadPool::named(MAX_THREADS, "greenroom-resolver"));
        Pool { state: Slow::new(None), threads, resolve }
    }

    fn lookup(&'static self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let lookup = self.join_or_start(host)?;
        wait_for(&lookup)
    }

    fn join_or_start(&'static self, host: &str) -> io::Result<Arc<Lookup>> {
        let mut guard = self.lock();
        let state = guard.get_or_insert_default();
        if state.process != std::process::id() {
            *state = State { process: std::process::id(), pending: HashMap::new() };
        }

        if let Some(lookup) = state.pending.get(host) {
            return Ok(lookup.clone());
        }

        let lookup = Arc::new(Lookup { host: host.into(), outcome: Promise::new() });
        let theirs = lookup.clone();
        // Without a thread the error is the caller's; with one, the lookup merely waits longer (N3).
        self.threads.try_spawn(move || self.answer(theirs))?;
        state.pending.insert(lookup.host.clone(), lookup.clone());
        Ok(lookup)
    }

    /// Makes the lookup, unless nobody waits for it any more. On a thread of the pool.
    fn answer(&self, lookup: Arc<Lookup>) {
        let mut guard = self.lock();
        let Some(state) = guard.as_mut() else { return };
        // Two are ours: `pending` and the one given. More cannot come while we hold the lock (N2).
        if Arc::strong_count(&lookup) <= 2 {
            state.pending.remove(&lookup.host);
            return;
        }
        drop(guard);
        let outcome = (self.resolve)(&lookup.host);

        // Out of `pending` first: who comes after the answer asks again (N1).
        if let Some(state) = self.lock().as_mut() {
            state.pending.remove(&lookup.host);
        }
        let kept = lookup.outcome.keep(outcome.map_err(SharedError::from));
        debug_assert!(kept.is_ok(), "a lookup is made once");
    }

    fn lock(&self) -> SlowGuard<'_, Option<State>> {
        self.state.lock()
    }
}

/// One lookup and all who wait for it.
struct Lookup {
    host: Arc<str>,
    outcome: Promise<Outcome>,
}

type Outcome = Result<Vec<SocketAddr>, SharedError>;

/// Parks until `lookup` has its outcome. A task that is killed here leaves nothing behind.
fn wait_for(lookup: &Lookup) -> io::Result<Vec<SocketAddr>> {
    lookup.outcome.wait(Reason::Other(&"a name lookup"), |outcome| match outcome {
        Ok(addresses) => Ok(addresses.clone()),
        Err(error) => Err(error.to_error()),
    })
}

/// An `io::Error` that several callers can each get one of.
enum SharedError {
    Os(i32),
    Other(io::ErrorKind, String),
}

impl From<io::Error> for SharedError {
    fn from(error: io::Error) -> SharedError {
        match error.raw_os_error() {
            Some(code) => SharedError::Os(code),
            None => SharedError::Other(error.kind(), error.to_string()),
        }
    }
}

impl SharedError {
    fn to_error(&self) -> io::Error {
        match self {
            SharedError::Os(code) => io::Error::from_raw_os_error(*code),
            SharedError::Other(kind, message) => io::Error::new(*kind, message.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn answer() -> Vec<SocketAddr> {
        vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]
    }

    #[test]
    fn lookups_of_one_host_share_one_call_and_the_answer_is_not_kept() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        static GATE: Mutex<()> = Mutex::new(());
        static POOL: Pool = Pool::new(|_| {
            CALLS.fetch_add(1, Ordering::SeqCst);
            drop(GATE.lock().unwrap());
            Ok(answer())
        });

        let closed = GATE.lock().unwrap();
        let joined: Vec<_> = (0..50).map(|_| POOL.join_or_start("one").unwrap()).collect();
        drop(closed);
        for lookup in joined {
            assert_eq!(wait_for(&lookup).unwrap(), answer());
        }
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);

        assert_eq!(POOL.lookup("one").unwrap(), answer());
        assert_eq!(CALLS.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_caller_that_leaves_does_not_cancel_the_others() {
        static GATE: Mutex<()> = Mutex::new(());
        static POOL: Pool = Pool::new(|_| {
            drop(GATE.lock().unwrap());
            Ok(answer())
        });

        let closed = GATE.lock().unwrap();
        let leaves = POOL.join_or_start("host").unwrap();
        let stays = POOL.join_or_start("host").unwrap();
        drop(leaves);
        drop(closed);
        assert_eq!(wait_for(&stays).unwrap(), answer());
    }

    #[test]
    fn a_queued_lookup_that_all_left_never_starts() {
        static GATE: Mutex<()> = Mutex::new(());
        static POOL: Pool = Pool::new(|host| {
            assert_ne!(host, "abandoned");
            drop(GATE.lock().unwrap());
            Ok(answer())
        });

        let closed = GATE.lock().unwrap();
        let busy: Vec<_> = (0..MAX_THREADS).map(|i| POOL.join_or_start(&format!("busy{i}")).unwrap()).collect();
        // All threads are at the gate, or will be before they come to the end of the queue.
        drop(POOL.join_or_start("abandoned").unwrap());
        let last = POOL.join_or_start("last").unwrap();
        drop(closed);

        for lookup in &busy {
            wait_for(lookup).unwrap();
        }
        wait_for(&last).unwrap();
        assert!(POOL.lock().as_ref().unwrap().pending.is_empty());
        assert!(POOL.threads.threads() <= MAX_THREADS);
    }

    #[test]
    fn errors_reach_every_caller_alike() {
        static GATE: Mutex<()> = Mutex::new(());
        static POOL: Pool = Pool::new(|host| {
            drop(GATE.lock().unwrap());
            match host {
                "os" => Err(io::Error::from_raw_os_error(5)),
                _ => Err(io::Error::other("no such name")),
            }
        });

        let closed = GATE.lock().unwrap();
        let os = [(); 2].map(|()| POOL.join_or_start("os").unwrap());
        let other = [(); 2].map(|()| POOL.join_or_start("other").unwrap());
        drop(closed);
        for lookup in os {
            assert_eq!(wait_for(&lookup).unwrap_err().raw_os_error(), Some(5));
        }
        for lookup in other {
            assert_eq!(wait_for(&lookup).unwrap_err().to_string(), "no such name");
        }
    }
}
