//! An FTP server (RFC 959, 2389, 2428, 3659): a task for each client, plain code in each, and limits for those who mean no good.
//!
//! ```text
//! cargo run --release --example ftp_server -- --listen 127.0.0.1:2121 --root public
//! ```
//!
//! prints the address it listens on, and serves the files below `--root`: to anybody who calls himself anonymous, or to `--user` alone.
//! Nothing can be changed unless it is `--writable`. On Ctrl-C or SIGTERM it takes no more clients, finishes the transfers under way,
//! and ends; on a second one it ends at once.
//!
//! **What an upload leaves behind.** `STOR` is all or nothing: the bytes go to a hidden file beside, which takes the name when the last one has
//! come. If the client aborts or dies, if the disk is full or the server is stopped, nothing stays, and whatever had the name before still has it.
//! `STOR` after `REST`, and `APPE`, write in place and keep what came, for those are the commands of a client that wants to go on from
//! where it was cut off. Of two who write in place, the second is refused. Only a server that is killed by force leaves a hidden file.
//!
//! **Who gets a data connection.** The address that the control connection comes from, and nobody else, in either direction.
//!
//! Read on in this order: `session.rs` is what is said to each command, `control.rs` the connection it is said on, `command.rs`
//! the same as bytes; `root.rs` keeps clients below the root; `data.rs` and `transfer.rs` move files, `listing.rs` describes them.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

mod command;
mod control;
mod data;
mod listing;
mod root;
mod session;
mod transfer;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use greenroom::net::{TcpListener, TcpStream, UnixStream};
use greenroom::server::StreamServer;
use greenroom::spawn;

use root::Root;
use session::{Policy, Service};

/// Serves the files below a directory by FTP.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The directory that clients see as `/`.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    root: PathBuf,
    /// Lets only this user in, by a password.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The user's password; other users of this machine do not see it in the environment variable FTP_PASSWORD.
    #[arg(long, value_name = "TEXT", requires = "user")]
    password: Option<String>,
    /// Lets clients change files, too.
    #[arg(long)]
    writable: bool,
    /// How many clients are served at once; further ones are told to come again.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_clients: usize,
    /// How many of them may come from one address; as many as there are, if it is not said.
    #[arg(long, value_name = "N")]
    max_per_address: Option<usize>,
    /// Seconds that a client may say nothing.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    idle: Duration,
    /// Seconds for a data connection to come about, and that no byte may move on it.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    data_timeout: Duration,
    /// The ports for data connections, as LOWEST-HIGHEST; any, if it is not said.
    #[arg(long, value_name = "RANGE", value_parser = ports)]
    passive_ports: Option<RangeInclusive<u16>>,
    /// The address to tell clients for data connections: that of a router in front, say.
    #[arg(long, value_name = "ADDRESS")]
    public_address: Option<Ipv4Addr>,
    /// Seconds that transfers under way have to finish when the server stops.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    stop_timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = text.split_once('-').and_then(|(low, high)| Some(low.parse().ok()?..=high.parse().ok()?));
    range.filter(|range| !range.is_empty() && *range.start() > 0).ok_or_else(|| "not a range of ports".to_owned())
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let account = match args.user {
        None => None,
        Some(user) => {
            let password = args.password.or_else(|| std::env::var("FTP_PASSWORD").ok());
            Some((user, password.ok_or_else(|| io::Error::other("a user needs a password"))?))
        }
    };
    let policy = Policy {
        account,
        writable: args.writable,
        max_clients: args.max_clients,
        max_per_address: args.max_per_address.unwrap_or(usize::MAX),
        idle: args.idle,
        patience: args.data_timeout,
        passive_ports: args.passive_ports,
        public_address: args.public_address,
    };
    let service = Rc::new(Service::new(Root::open(&args.root)?, policy));

    let listener = TcpListener::bind(args.listen)?;
    let serving = service.clone();
    // An error is the client's affair: he went without a word. There is room for some more, who are told that there is none.
    let server = StreamServer::builder(listener)
        .pool_size(args.max_clients.saturating_add(100))
        .build(move |stream: TcpStream, client| serving.serve(stream, client));
    println!("listening on {}", server.local_addr()?);

    let (mut signals, handle) = (signals()?, server.handle());
    drop(spawn(move || {
        if signals.read_exact(&mut [0]).is_ok() {
            handle.stop_nowait(args.stop_timeout);
            service.wind_up();
        }
        if signals.read_exact(&mut [0]).is_ok() {
            handle.stop_nowait(Duration::ZERO);
        }
    }));
    server.serve_forever()
}

/// A byte for each SIGINT and SIGTERM.
fn signals() -> io::Result<UnixStream> {
    let (writing, reading) = std::os::unix::net::UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, writing.try_clone()?)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, writing)?;
    Ok(reading.into())
}
