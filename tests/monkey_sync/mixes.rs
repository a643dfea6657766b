//! Who takes part: so many tasks on each of so many hubs, and so many native threads.

use std::sync::Arc;
use std::thread;

/// How many of which kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) hubs: usize,
    pub(crate) tasks: usize,
    pub(crate) natives: usize,
}

impl Mix {
    pub(crate) fn all(self) -> usize {
        self.hubs * self.tasks + self.natives
    }

    /// Runs `body` with the number of each, and waits for all.
    pub(crate) fn run(self, body: impl Fn(usize) + Send + Sync + 'static) {
        let body = Arc::new(body);
        let mut threads = Vec::new();
        for hub in 0..self.hubs {
            let body = body.clone();
            threads.push(thread::spawn(move || {
                let tasks = (0..self.tasks).map(|task| {
                    let body = body.clone();
                    greenroom::spawn(move || body(hub * self.tasks + task))
                });
                for result in greenroom::joinall(tasks.collect::<Vec<_>>()) {
                    result.unwrap();
                }
            }));
        }
        for native in 0..self.natives {
            let body = body.clone();
            threads.push(thread::spawn(move || body(self.hubs * self.tasks + native)));
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

/// One thread, two hubs, one hub and threads, two hubs and threads.
pub(crate) const MIXES: [Mix; 5] = [
    Mix { hubs: 1, tasks: 8, natives: 0 },
    Mix { hubs: 2, tasks: 5, natives: 0 },
    Mix { hubs: 1, tasks: 5, natives: 3 },
    Mix { hubs: 2, tasks: 4, natives: 2 },
    Mix { hubs: 0, tasks: 0, natives: 4 },
];

/// Gives the thread away, of a task and of a native one.
pub(crate) fn give_way(round: usize) {
    if round.is_multiple_of(3) {
        greenroom::yield_now();
    }
}
