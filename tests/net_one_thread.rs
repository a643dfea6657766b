//! std's net scenarios with both sides on one thread: bodies are tasks of one hub, and whatever waits must let the
//! other side run.

mod support;

#[path = "support/tasks.rs"]
mod mode;

#[path = "std_net/addr.rs"]
mod addr;
#[path = "std_net/tcp.rs"]
mod tcp;
#[path = "std_net/udp.rs"]
mod udp;
#[path = "std_net/unix.rs"]
mod unix;
