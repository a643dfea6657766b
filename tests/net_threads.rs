//! std's net scenarios across native threads: each body has a hub of its own, and sockets move and are shared between
//! them.

mod support;

#[path = "support/threads.rs"]
mod mode;

#[path = "std_net/addr.rs"]
mod addr;
#[path = "std_net/tcp.rs"]
mod tcp;
#[path = "std_net/udp.rs"]
mod udp;
#[path = "std_net/unix.rs"]
mod unix;
