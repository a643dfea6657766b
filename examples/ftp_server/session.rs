//! A client's session: one command after the other, and beside a transfer those that concern it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::TryLockError;
use std::io::{self, Seek, SeekFrom};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom::fs::File;
use greenroom::net::TcpStream;
use greenroom::sync::Event;
use greenroom::{scope, select, sleep};

use super::command::{Command, Epsv, Line, Reply, Type};
use super::control::{Control, Next};
use super::data::Way;
use super::listing::{self, Wanted};
use super::root::{Entry, Facts, Kind, Place, Root};
use super::transfer::{self, Failure};

/// What clients may do, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// The only user, with his password; without, those who call themselves anonymous.
    pub(crate) account: Option<(String, String)>,
    pub(crate) writable: bool,
    pub(crate) max_clients: usize,
    pub(crate) max_per_address: usize,
    /// Without a command or a transfer.
    pub(crate) idle: Duration,
    /// Until a data connection comes about, and while no byte moves on it.
    pub(crate) patience: Duration,
    pub(crate) passive_ports: Option<RangeInclusive<u16>>,
    /// Where clients find the server, if that is another address than it has itself.
    pub(crate) public_address: Option<Ipv4Addr>,
}

/// While nobody takes a reply.
const REPLY_PATIENCE: Duration = Duration::from_secs(30);
/// A wrong password costs time, and only so many are taken.
const WRONG_PASSWORD: Duration = Duration::from_millis(300);
const MOST_WRONG: u32 = 3;

/// What all sessions share.
pub(crate) struct Service {
    root: Root,
    policy: Policy,
    stopping: Event,
    clients: Cell<usize>,
    by_address: RefCell<HashMap<IpAddr, usize>>,
}

impl Service {
    pub(crate) fn new(root: Root, policy: Policy) -> Service {
        Service { root, policy, stopping: Event::new(), clients: Cell::new(0), by_address: RefCell::default() }
    }

    /// Ends each session when its transfer is done; those that have none at once.
    pub(crate) fn wind_up(&self) {
        self.stopping.set();
    }

    /// Serves a client to the end.
    pub(crate) fn serve(&self, stream: TcpStream, client: SocketAddr) -> io::Result<()> {
        let peer = client.ip().to_canonical();
        let here = stream.local_addr()?.ip().to_canonical();
        let control = Control::new(stream, REPLY_PATIENCE)?;
        let Some(_admitted) = self.admit(peer) else {
            return control.close(&Reply::new(421, "Too many clients, come again later"));
        };
        let mut session = Session {
            service: self,
            control,
            peer,
            here,
            user: None,
            logged_in: false,
            wrong_passwords: 0,
            directory: Place::default(),
            how: Type::Ascii,
            way: None,
            only_epsv: false,
            rest: 0,
            renaming: None,
            wanted: Wanted::ALL,
        };
        session.converse()
    }

    fn admit(&self, peer: IpAddr) -> Option<Admitted<'_>> {
        let mut by_address = self.by_address.borrow_mut();
        let from_there = by_address.entry(peer).or_default();
        if self.clients.get() >= self.policy.max_clients || *from_there >= self.policy.max_per_address {
            return None;
        }
        *from_there += 1;
        self.clients.set(self.clients.get() + 1);
        Some(Admitted { service: self, peer })
    }
}

/// A client that is counted.
struct Admitted<'a> {
    service: &'a Service,
    peer: IpAddr,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.service.clients.set(self.service.clients.get() - 1);
        let mut by_address = self.service.by_address.borrow_mut();
        if let Some(from_there) = by_address.get_mut(&self.peer) {
            *from_there -= 1;
            if *from_there == 0 {
                by_address.remove(&self.peer);
            }
        }
    }
}

struct Session<'a> {
    service: &'a Service,
    control: Control,
    /// The client's address and ours, IPv4 as such.
    peer: IpAddr,
    here: IpAddr,
    user: Option<Vec<u8>>,
    logged_in: bool,
    wrong_passwords: u32,
    directory: Place,
    how: Type,
    /// For the next transfer.
    way: Option<Way>,
    only_epsv: bool,
    /// Where the next transfer begins.
    rest: u64,
    /// What `RNFR` named, until the next command.
    renaming: Option<Place>,
    wanted: Wanted,
}

/// How a transfer ended.
enum Ended {
    Done,
    Failed(Failure),
    /// By the client's `ABOR`.
    Aborted,
    /// The client has hung up.
    Gone,
}

/// A command's outcome: what is said to it. An error of the control connection ends the session.
type Answer = Result<Reply, Reply>;

impl Session<'_> {
    fn converse(&mut self) -> io::Result<()> {
        self.control.reply(&Reply::new(220, "Ready"))?;
        loop {
            let line = match self.control.next(self.service.policy.idle, &self.service.stopping)? {
                Next::Line(Line::Whole(line)) => line,
                Next::Line(Line::TooLong) => {
                    self.control.reply(&Reply::new(500, "Line too long"))?;
                    continue;
                }
                Next::Idle => return self.control.close(&Reply::new(421, "Nothing was said for too long")),
                Next::Stopping => return self.control.close(&Reply::new(421, "The server is going down")),
                Next::Gone => return Ok(()),
            };
            let reply = match Command::parse(&line) {
                Ok(Command::Quit) => return self.control.close(&Reply::new(221, "Goodbye")),
                Ok(command) => self.obey(command)?,
                Err(reply) => reply,
            };
            self.control.reply(&reply)?;
            if self.wrong_passwords >= MOST_WRONG {
                return self.control.close(&Reply::new(421, "Too many wrong passwords"));
            }
        }
    }

    fn obey(&mut self, command: Command) -> io::Result<Reply> {
        if command.needs_login() && !self.logged_in {
            return Ok(Reply::new(530, "Log in first"));
        }
        if command.writes() && !self.service.policy.writable {
            return Ok(Reply::new(550, "Nothing can be changed here"));
        }
        let renaming = self.renaming.take();
        let answer = match command {
            Command::Retr(path) => self.retrieve(&path)?,
            Command::Stor(path) => match mem::take(&mut self.rest) {
                0 => self.store(&path)?,
                offset => self.store_on(&path, Some(offset))?,
            },
            Command::Appe(path) => {
                self.rest = 0;
                self.store_on(&path, None)?
            }
            Command::List(path) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
                self.send_list(path, false, |entry| listing::long_line(entry, now))?
            }
            Command::Nlst(path) => self.send_list(path, false, |entry| super::command::shown(&entry.name).collect())?,
            Command::Mlsd(path) => {
                let (wanted, writable) = (self.wanted, self.service.policy.writable);
                self.send_list(path, true, |entry| listing::fact_line(entry, wanted, writable))?
            }
            Command::User(name) => self.user(name),
            Command::Pass(password) => self.pass(&password),
            Command::Rnfr(path) => self.rename_from(&path),
            Command::Rnto(path) => self.rename_to(renaming, &path),
            Command::Pasv => self.pasv(),
            Command::Epsv(which) => self.epsv(which),
            Command::Port(address) => self.port(address),
            other => self.obey_at_once(other),
        };
        Ok(answer.unwrap_or_else(|refusal| refusal))
    }

    /// What is neither a transfer nor has to do with one.
    fn obey_at_once(&mut self, command: Command) -> Answer {
        let root = &self.service.root;
        let place = |path: &[u8]| self.directory.join(path);
        Ok(match command {
            Command::Syst => Reply::new(215, "UNIX Type: L8"),
            Command::Noop => Reply::new(200, "Well"),
            Command::Agree => Reply::new(200, "So be it"),
            Command::Help => Reply::help(),
            Command::Feat => self.features(),
            Command::Opts(text) => return self.options(&text),
            Command::Type(how) => {
                self.how = how;
                Reply::new(200, "Type set")
            }
            Command::Rest(offset) if offset > 0 && self.how == Type::Ascii => {
                return Err(Reply::new(504, "An offset needs TYPE I"));
            }
            Command::Rest(offset) => {
                self.rest = offset;
                Reply::new(350, format!("The next transfer begins at {offset}"))
            }
            Command::Abor => Reply::new(226, "Nothing is under way"),

            Command::Pwd => Reply::new(257, [quoted(&self.directory.path()), b" is where you are".to_vec()].concat()),
            Command::Cwd(path) => return self.change_directory(&path),
            Command::Cdup => return self.change_directory(b".."),
            Command::Mkd(path) => {
                let place = place(&path);
                root.make_directory(&place).map_err(|error| refusal(550, &error))?;
                Reply::new(257, [quoted(&place.path()), b" is made".to_vec()].concat())
            }
            Command::Rmd(path) => {
                root.remove_directory(&place(&path)).map_err(|error| refusal(550, &error))?;
                Reply::new(250, "Removed")
            }
            Command::Dele(path) => {
                root.remove_file(&place(&path)).map_err(|error| refusal(550, &error))?;
                Reply::new(250, "Removed")
            }
            Command::Size(_) if self.how == Type::Ascii => return Err(Reply::new(550, "A size needs TYPE I")),
            Command::Size(path) => Reply::new(213, self.file_facts(&path)?.size.to_string()),
            Command::Mdtm(path) => Reply::new(213, listing::time_stamp(self.file_facts(&path)?.modified)),
            Command::Mlst(path) => {
                let place = place(&path.unwrap_or_default());
                let facts = root.facts(&place).map_err(|error| refusal(550, &error))?;
                let entry = Entry { name: place.path(), facts };
                let line = listing::fact_line(&entry, self.wanted, self.service.policy.writable);
                Reply::of_lines(250, vec![b"Facts".into(), line, b"End".into()])
            }
            Command::Stat(None) => {
                let user = String::from_utf8_lossy(self.user.as_deref().unwrap_or_default()).into_owned();
                let lines = [
                    "Status".to_owned(),
                    format!("Logged in as {user} from {}", self.peer),
                    format!("Type {}", if self.how == Type::Ascii { "A" } else { "I" }),
                    "End".to_owned(),
                ];
                Reply::of_lines(211, lines.map(String::into_bytes).into())
            }
            Command::Stat(Some(path)) => {
                let mut lines = vec![b"Status".to_vec()];
                lines.extend(self.entries(&path, false)?.iter().map(|entry| listing::long_line(entry, 0)));
                lines.push(b"End".into());
                Reply::of_lines(213, lines)
            }
            _ => Reply::new(502, "Not done here"),
        })
    }

    fn user(&mut self, name: Vec<u8>) -> Answer {
        self.logged_in = false;
        self.user = Some(name);
        // The same to everybody: who is known here is nobody's business.
        Ok(Reply::new(331, "And the password?"))
    }

    fn pass(&mut self, password: &[u8]) -> Answer {
        let Some(user) = self.user.as_deref().filter(|_| !self.logged_in) else {
            return Err(Reply::new(503, "USER comes first"));
        };
        self.logged_in = match &self.service.policy.account {
            Some((name, secret)) => same(name.as_bytes(), user) & same(secret.as_bytes(), password),
            None => user.eq_ignore_ascii_case(b"anonymous") || user.eq_ignore_ascii_case(b"ftp"),
        };
        if self.logged_in {
            self.wrong_passwords = 0;
            return Ok(Reply::new(230, "Welcome"));
        }
        self.user = None;
        self.wrong_passwords += 1;
        sleep(WRONG_PASSWORD);
        Err(Reply::new(530, "Not let in"))
    }

    fn features(&self) -> Reply {
        let mlst = format!("MLST {}", self.wanted.show(true));
        let lines = ["Features", "EPRT", "EPSV", "MDTM", &mlst, "REST STREAM", "SIZE", "TVFS", "UTF8", "End"];
        Reply::of_lines(211, lines.iter().map(|line| line.as_bytes().to_vec()).collect())
    }

    fn options(&mut self, text: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(text).to_ascii_uppercase();
        match text.trim() {
            "UTF8" | "UTF8 ON" | "UTF-8 ON" => Ok(Reply::new(200, "Names are UTF-8")),
            "MLST" => {
                self.wanted = Wanted::parse("");
                Ok(Reply::new(200, "MLST OPTS"))
            }
            text => match text.strip_prefix("MLST ") {
                Some(facts) => {
                    self.wanted = Wanted::parse(facts);
                    Ok(Reply::new(200, format!("MLST OPTS {}", self.wanted.show(false))))
                }
                None => Err(Reply::new(501, "Not an option")),
            },
        }
    }

    fn change_directory(&mut self, path: &[u8]) -> Answer {
        let place = self.directory.join(path);
        let facts = self.service.root.facts(&place).map_err(|error| refusal(550, &error))?;
        if facts.kind != Kind::Directory {
            return Err(Reply::new(550, "Not a directory"));
        }
        self.directory = place;
        Ok(Reply::new(250, [b"Now in ".to_vec(), quoted(&self.directory.path())].concat()))
    }

    fn file_facts(&self, path: &[u8]) -> Result<Facts, Reply> {
        let facts = self.service.root.facts(&self.directory.join(path)).map_err(|error| refusal(550, &error))?;
        if facts.kind == Kind::File { Ok(facts) } else { Err(Reply::new(550, "Not a file")) }
    }

    fn rename_from(&mut self, path: &[u8]) -> Answer {
        let place = self.directory.join(path);
        self.service.root.exists(&place).map_err(|error| refusal(550, &error))?;
        self.renaming = Some(place);
        Ok(Reply::new(350, "And the new name?"))
    }

    fn rename_to(&mut self, from: Option<Place>, path: &[u8]) -> Answer {
        let Some(from) = from else { return Err(Reply::new(503, "RNFR comes first")) };
        self.service.root.rename(&from, &self.directory.join(path)).map_err(|error| refusal(553, &error))?;
        Ok(Reply::new(250, "Renamed"))
    }

    /// Listens for the next data connection.
    fn listen(&mut self) -> Result<u16, Reply> {
        // The port of the one before may be the only free one.
        self.way = None;
        let listener = Way::listen(self.here, self.service.policy.passive_ports.as_ref())
            .and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
        let (port, listener) = listener.map_err(|_| Reply::new(425, "No port is free"))?;
        self.way = Some(Way::Passive(listener));
        Ok(port)
    }

    fn pasv(&mut self) -> Answer {
        let IpAddr::V4(here) = self.here else { return Err(Reply::wrong_protocol()) };
        self.allow_old_ways()?;
        let [a, b, c, d] = self.service.policy.public_address.unwrap_or(here).octets();
        let [high, low] = self.listen()?.to_be_bytes();
        Ok(Reply::new(227, format!("Entering Passive Mode ({a},{b},{c},{d},{high},{low})")))
    }

    fn epsv(&mut self, which: Epsv) -> Answer {
        match which {
            Epsv::All => {
                self.only_epsv = true;
                return Ok(Reply::new(200, "EPSV only, then"));
            }
            Epsv::V4 if self.here.is_ipv6() => return Err(Reply::wrong_protocol()),
            Epsv::V6 if self.here.is_ipv4() => return Err(Reply::wrong_protocol()),
            Epsv::Any | Epsv::V4 | Epsv::V6 => {}
        }
        Ok(Reply::new(229, format!("Entering Extended Passive Mode (|||{}|)", self.listen()?)))
    }

    fn port(&mut self, address: SocketAddr) -> Answer {
        self.allow_old_ways()?;
        if !Way::may_call(address, self.peer) {
            return Err(Reply::new(504, "Data go to your own address, and to no port below 1024"));
        }
        self.way = Some(Way::Active(address));
        Ok(Reply::new(200, "Will call there"))
    }

    fn allow_old_ways(&self) -> Result<(), Reply> {
        if self.only_epsv { Err(Reply::new(503, "EPSV ALL was promised")) } else { Ok(()) }
    }

    /// A directory's entries; for a file its own.
    fn entries(&self, path: &[u8], only_directories: bool) -> Result<Vec<Entry>, Reply> {
        let (root, place) = (&self.service.root, self.directory.join(path));
        let facts = root.facts(&place).map_err(|error| refusal(550, &error))?;
        match facts.kind {
            Kind::Directory => root.list(&place).map_err(|error| refusal(550, &error)),
            _ if only_directories => Err(Reply::new(501, "Not a directory")),
            _ => Ok(vec![Entry { name: place.name().to_owned(), facts }]),
        }
    }

    fn send_list(
        &mut self,
        path: Option<Vec<u8>>,
        only_directories: bool,
        line: impl Fn(&Entry) -> Vec<u8>,
    ) -> io::Result<Answer> {
        self.rest = 0;
        let entries = match self.entries(&path.unwrap_or_default(), only_directories) {
            Ok(entries) => entries,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let text = entries.iter().flat_map(|entry| [line(entry), b"\r\n".to_vec()].concat()).collect::<Vec<u8>>();
        let ended = self.transfer(|stream, sent| transfer::send_bytes(&text, stream, sent))?;
        self.conclude(ended)
    }

    fn retrieve(&mut self, path: &[u8]) -> io::Result<Answer> {
        let offset = mem::take(&mut self.rest);
        let opened = self.service.root.read(&self.directory.join(path));
        let sized = opened.and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = match sized {
            Ok(sized) => sized,
            Err(error) => return Ok(Err(refusal(550, &error))),
        };
        if offset > size {
            return Ok(Err(Reply::new(554, "The file ends before that")));
        }
        let (how, patience) = (self.how, self.service.policy.patience);
        let ended = self.transfer(|stream, sent| transfer::send_file(file, offset, how, stream, patience, sent))?;
        self.conclude(ended)
    }

    /// `STOR` from the beginning: all or nothing.
    fn store(&mut self, path: &[u8]) -> io::Result<Answer> {
        if self.way.is_none() {
            return Ok(Err(no_way()));
        }
        let upload = match self.service.root.upload(&self.directory.join(path)) {
            Ok(upload) => upload,
            Err(error) => return Ok(Err(refusal(553, &error))),
        };
        let how = self.how;
        let ended = self.transfer(|stream, taken| transfer::receive(upload.file(), how, stream, taken))?;
        let ended = match ended {
            Ended::Done if self.control.is_gone() => Ended::Gone,
            ended => ended,
        };
        match ended {
            Ended::Done => {
                if let Err(error) = upload.finish() {
                    return Ok(Err(refusal(553, &error)));
                }
            }
            _ => upload.discard(),
        }
        self.conclude(ended)
    }

    /// `STOR` after `REST`, and `APPE`: goes on with a file that is there, and keeps what came if it is cut short, so that the client
    /// can go on from there once more.
    fn store_on(&mut self, path: &[u8], offset: Option<u64>) -> io::Result<Answer> {
        if self.way.is_none() {
            return Ok(Err(no_way()));
        }
        let open = || -> Result<File, Reply> {
            let opened = self.service.root.write(&self.directory.join(path), offset.is_none());
            let mut file = opened.map_err(|error| refusal(553, &error))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Reply::new(450, "Somebody else is writing it")),
                Err(TryLockError::Error(error)) => return Err(refusal(553, &error)),
            }
            let end = file.seek(SeekFrom::End(0)).map_err(|error| refusal(451, &error))?;
            if offset > Some(end) {
                return Err(Reply::new(554, "The file ends before that"));
            }
            file.seek(SeekFrom::Start(offset.unwrap_or(end))).map_err(|error| refusal(451, &error))?;
            Ok(file)
        };
        let file = match open() {
            Ok(file) => file,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let how = self.how;
        let ended = self.transfer(|stream, taken| {
            transfer::receive(&file, how, stream, taken)?;
            // What was behind it before is no part of it.
            let end = (&file).stream_position().map_err(Failure::File)?;
            file.set_len(end).map_err(Failure::File)
        })?;
        self.conclude(ended)
    }

    /// Opens the data connection and works on it, in a task of its own, while this one listens to what the client says meanwhile: an
    /// `ABOR` ends the transfer, a `STAT` asks how far it is, and everything else waits for its turn.
    fn transfer(&mut self, work: impl FnOnce(&TcpStream, &Cell<u64>) -> Result<(), Failure>) -> io::Result<Ended> {
        let Some(way) = self.way.take() else { return Ok(Ended::Failed(Failure::NoWay)) };
        self.control.reply(&Reply::new(150, "About to open the data connection"))?;
        let (peer, patience) = (self.peer, self.service.policy.patience);
        let moved = Cell::new(0);
        scope(|s| {
            let transfer = s.spawn(|| {
                let stream = way.open(peer, patience).map_err(|_| Failure::NoConnection)?;
                drop(way);
                work(&stream, &moved)
            });
            let mut cut = None;
            while cut.is_none() && !transfer.is_finished() {
                if self.control.take(|line| is_command(line, &Command::Abor)).is_some() {
                    cut = Some(Ended::Aborted);
                } else if self.control.take(|line| is_command(line, &Command::Stat(None))).is_some() {
                    let text = format!("{} bytes have gone over the data connection", moved.get());
                    if self.control.reply(&Reply::new(211, text)).is_err() {
                        cut = Some(Ended::Gone);
                    }
                } else if !self.control.listens() {
                    select! { join(&transfer) => {} }
                } else {
                    select! {
                        join(&transfer) => {}
                        readable(self.control.stream()) => {
                            if self.control.read().is_err() || self.control.is_gone() {
                                cut = Some(Ended::Gone);
                            }
                        }
                    }
                }
            }
            if cut.is_some() {
                transfer.kill();
            }
            Ok(match (transfer.join(), cut) {
                (Ok(Ok(())), Some(Ended::Aborted)) => {
                    // It came too late, and is answered in its turn.
                    self.control.put_back(Line::Whole(b"ABOR".into()));
                    Ended::Done
                }
                (_, Some(cut)) => cut,
                (Ok(Ok(())), None) => Ended::Done,
                (Ok(Err(failure)), None) => Ended::Failed(failure),
                (Err(_killed), None) => Ended::Aborted,
            })
        })
    }

    /// What is said about a transfer in the end.
    fn conclude(&mut self, ended: Ended) -> io::Result<Answer> {
        Ok(match ended {
            Ended::Done => Ok(Reply::new(226, "All is transferred")),
            Ended::Aborted => {
                self.control.reply(&Reply::new(426, "The transfer is aborted"))?;
                Ok(Reply::new(226, "Aborted"))
            }
            Ended::Gone => return Err(io::ErrorKind::ConnectionAborted.into()),
            Ended::Failed(Failure::NoWay) => Err(no_way()),
            Ended::Failed(Failure::NoConnection) => Err(Reply::new(425, "The data connection did not come about")),
            Ended::Failed(Failure::Connection(error)) => Err(match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    Reply::new(426, "Nothing has moved for too long")
                }
                _ => Reply::new(426, "The data connection broke"),
            }),
            Ended::Failed(Failure::File(error)) => Err(refusal(451, &error)),
        })
    }
}

fn no_way() -> Reply {
    Reply::new(425, "PASV, EPSV, PORT or EPRT comes first")
}

fn is_command(line: &Line, command: &Command) -> bool {
    matches!(line, Line::Whole(line) if Command::parse(line).as_ref() == Ok(command))
}

/// In double quotes, with those inside doubled (RFC 959, appendix II).
fn quoted(path: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for &byte in path {
        quoted.push(byte);
        if byte == b'"' {
            quoted.push(byte);
        }
    }
    quoted.push(b'"');
    quoted
}

/// Compares in a time that tells nothing about where the difference is.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let differences = given.iter().enumerate().fold(secret.len() ^ given.len(), |sum, (index, byte)| {
        sum | usize::from(byte ^ secret.get(index % secret.len().max(1)).unwrap_or(&0))
    });
    differences == 0
}

/// Says that something failed: by this code, unless space or the server's means were the matter. The system's own words are not for
/// clients.
fn refusal(code: u16, error: &io::Error) -> Reply {
    match error.kind() {
        io::ErrorKind::StorageFull => Reply::new(452, "No space is left"),
        io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Reply::new(552, "More than is allowed"),
        io::ErrorKind::NotFound => Reply::new(code, "Not there"),
        io::ErrorKind::AlreadyExists => Reply::new(code, "There already"),
        io::ErrorKind::IsADirectory => Reply::new(code, "A directory"),
        io::ErrorKind::NotADirectory => Reply::new(code, "Not a directory"),
        io::ErrorKind::DirectoryNotEmpty => Reply::new(code, "Not empty"),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Reply::new(code, "Not permitted"),
        _ => match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Reply::new(450, "Not now"),
            _ => Reply::new(code, "Not possible"),
        },
    }
}
