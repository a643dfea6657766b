//! What the queues promise: their order, first come first served on both sides, nothing lost and nothing twice, any thread.

mod common;

#[path = "queue/cancelled.rs"]
mod cancelled;
#[path = "queue/comparisons.rs"]
mod comparisons;
#[path = "queue/gevent.rs"]
mod gevent;
#[path = "queue/hammer.rs"]
mod hammer;
#[path = "queue/kinds.rs"]
mod kinds;
#[path = "queue/model.rs"]
mod model;
#[path = "queue/order.rs"]
mod order;
#[path = "queue/peek.rs"]
mod peek;
#[path = "queue/python.rs"]
mod python;
#[path = "queue/shutdown.rs"]
mod shutdown;
#[path = "queue/threads.rs"]
mod threads;
