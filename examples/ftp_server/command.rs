//! The control connection as bytes: lines in, commands, replies out (RFC 959, 2389, 2428, 3659). Nothing here waits.

use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Bytes of a command line, at most: a path as long as the system takes, with room to spare.
pub(crate) const LONGEST_LINE: usize = 8 * 1024;

/// A line of the control connection, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// Makes lines of bytes, in whatever pieces they come, and takes out what is Telnet's (RFC 854): clients put `IAC IP IAC DM` before
/// an `ABOR`.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    too_long: bool,
    telnet: Telnet,
}

#[derive(Clone, Copy, Debug, Default)]
enum Telnet {
    #[default]
    Text,
    /// After IAC.
    Command,
    /// After a command that has an option.
    Option,
}

const IAC: u8 = 255;

impl Lines {
    /// Takes bytes, and gives the lines that are whole now.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(Line)) {
        for &byte in bytes {
            self.telnet = match (self.telnet, byte) {
                (Telnet::Text, IAC) => Telnet::Command,
                (Telnet::Command, IAC) | (Telnet::Text, _) => {
                    if let Some(line) = self.push(byte) {
                        take(line);
                    }
                    Telnet::Text
                }
                // WILL, WONT, DO and DONT.
                (Telnet::Command, 251..=254) => Telnet::Option,
                (Telnet::Command | Telnet::Option, _) => Telnet::Text,
            };
        }
    }

    fn push(&mut self, byte: u8) -> Option<Line> {
        if byte != b'\n' {
            if self.line.len() < LONGEST_LINE {
                self.line.push(byte);
            } else {
                self.too_long = true;
            }
            return None;
        }
        let mut line = mem::take(&mut self.line);
        if mem::take(&mut self.too_long) {
            return Some(Line::TooLong);
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(Line::Whole(line))
    }
}

/// What a client asks for. A path is as it was sent, without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    User(Vec<u8>),
    Pass(Vec<u8>),
    Quit,
    Noop,
    Syst,
    Feat,
    Help,
    Stat(Option<Vec<u8>>),
    Opts(Vec<u8>),
    Type(Type),
    /// Says what is so anyway: `MODE S`, `STRU F`, `ALLO`.
    Agree,
    Pwd,
    Cwd(Vec<u8>),
    Cdup,
    Mkd(Vec<u8>),
    Rmd(Vec<u8>),
    Dele(Vec<u8>),
    Rnfr(Vec<u8>),
    Rnto(Vec<u8>),
    Size(Vec<u8>),
    Mdtm(Vec<u8>),
    List(Option<Vec<u8>>),
    Nlst(Option<Vec<u8>>),
    Mlsd(Option<Vec<u8>>),
    Mlst(Option<Vec<u8>>),
    Pasv,
    Epsv(Epsv),
    /// `PORT` and `EPRT`.
    Port(SocketAddr),
    Rest(u64),
    Retr(Vec<u8>),
    Stor(Vec<u8>),
    Appe(Vec<u8>),
    Abor,
}

/// How a file's bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Lines end with CR LF on the way.
    Ascii,
    Image,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Epsv {
    Any,
    V4,
    V6,
    /// No other command for data connections will come.
    All,
}

/// The commands that `HELP` names.
const NAMES: &str = "ABOR ALLO APPE CDUP CWD DELE EPRT EPSV FEAT HELP LIST MDTM MKD MLSD MLST MODE NLST NOOP OPTS PASS PASV \
                     PORT PWD QUIT REST RETR RMD RNFR RNTO SIZE STAT STOR STRU SYST TYPE USER";

impl Command {
    /// Reads a line; the error is what is said to one that is not understood.
    pub(crate) fn parse(line: &[u8]) -> Result<Command, Reply> {
        let (name, rest) = match line.iter().position(|&byte| byte == b' ') {
            Some(space) => (&line[..space], &line[space + 1..]),
            None => (line, &[][..]),
        };
        let name = name.to_ascii_uppercase();
        let path = || {
            if rest.is_empty() {
                return Err(Reply::new(501, "A name is missing"));
            }
            plain(rest)
        };
        let perhaps = || if rest.is_empty() { Ok(None) } else { plain(rest).map(Some) };
        let word = || std::str::from_utf8(rest).unwrap_or("?").trim().to_ascii_uppercase();

        Ok(match &name[..] {
            b"USER" => Command::User(path()?),
            b"PASS" => Command::Pass(rest.to_owned()),
            b"QUIT" => Command::Quit,
            b"NOOP" => Command::Noop,
            b"SYST" => Command::Syst,
            b"FEAT" => Command::Feat,
            b"HELP" => Command::Help,
            b"STAT" => Command::Stat(perhaps()?),
            b"OPTS" => Command::Opts(path()?),
            b"TYPE" => Command::Type(match &word()[..] {
                "A" | "A N" => Type::Ascii,
                "I" | "L 8" => Type::Image,
                "E" | "A T" | "A C" | "E N" | "E T" | "E C" => return Err(Reply::new(504, "Types are A and I")),
                _ => return Err(Reply::new(501, "Not a type")),
            }),
            b"MODE" => agree(&word(), "S", &["B", "C"])?,
            b"STRU" => agree(&word(), "F", &["R", "P"])?,
            b"ALLO" => match word().split(" R ").all(|size| !size.is_empty() && decimal(size.as_bytes()).is_some()) {
                true => Command::Agree,
                false => return Err(Reply::new(501, "Not a size")),
            },
            b"PWD" | b"XPWD" => Command::Pwd,
            b"CWD" | b"XCWD" => Command::Cwd(path()?),
            b"CDUP" | b"XCUP" => Command::Cdup,
            b"MKD" | b"XMKD" => Command::Mkd(path()?),
            b"RMD" | b"XRMD" => Command::Rmd(path()?),
            b"DELE" => Command::Dele(path()?),
            b"RNFR" => Command::Rnfr(path()?),
            b"RNTO" => Command::Rnto(path()?),
            b"SIZE" => Command::Size(path()?),
            b"MDTM" => Command::Mdtm(path()?),
            b"LIST" => Command::List(without_options(perhaps()?)),
            b"NLST" => Command::Nlst(without_options(perhaps()?)),
            b"MLSD" => Command::Mlsd(perhaps()?),
            b"MLST" => Command::Mlst(perhaps()?),
            b"PASV" => Command::Pasv,
            b"EPSV" => Command::Epsv(match &word()[..] {
                "" => Epsv::Any,
                "1" => Epsv::V4,
                "2" => Epsv::V6,
                "ALL" => Epsv::All,
                other if decimal(other.as_bytes()).is_some() => return Err(Reply::wrong_protocol()),
                _ => return Err(Reply::new(501, "Not a protocol")),
            }),
            b"PORT" => Command::Port(port(rest).ok_or_else(|| Reply::new(501, "Not an address and a port"))?),
            b"EPRT" => Command::Port(eprt(rest)?),
            b"REST" => match decimal(rest) {
                Some(offset) if i64::try_from(offset).is_ok() => Command::Rest(offset),
                _ => return Err(Reply::new(501, "Not an offset")),
            },
            b"RETR" => Command::Retr(path()?),
            b"STOR" => Command::Stor(path()?),
            b"APPE" => Command::Appe(path()?),
            b"ABOR" => Command::Abor,
            b"ACCT" | b"SMNT" | b"REIN" | b"STOU" | b"SITE" | b"AUTH" | b"ADAT" | b"PROT" | b"PBSZ" | b"CCC"
            | b"MIC" | b"CONF" | b"ENC" | b"LANG" | b"HOST" | b"MFMT" => {
                return Err(Reply::new(502, "Not done here"));
            }
            _ => return Err(Reply::new(500, "Not a command")),
        })
    }

    /// Whether it is only for those who have logged in.
    pub(crate) fn needs_login(&self) -> bool {
        !matches!(
            self,
            Command::User(_)
                | Command::Pass(_)
                | Command::Quit
                | Command::Noop
                | Command::Syst
                | Command::Feat
                | Command::Help
                | Command::Opts(_)
        )
    }

    /// Whether it changes files.
    pub(crate) fn writes(&self) -> bool {
        matches!(
            self,
            Command::Mkd(_)
                | Command::Rmd(_)
                | Command::Dele(_)
                | Command::Rnfr(_)
                | Command::Rnto(_)
                | Command::Stor(_)
                | Command::Appe(_)
        )
    }
}

/// A name without control characters: no reply and no listing could show it as it is.
fn plain(name: &[u8]) -> Result<Vec<u8>, Reply> {
    if name.iter().any(u8::is_ascii_control) {
        return Err(Reply::new(501, "Names with control characters are not taken"));
    }
    Ok(name.to_owned())
}

/// What many clients put before a name, as if this were ls(1).
fn without_options(name: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut name = &name?[..];
    while name.starts_with(b"-") {
        name = match name.iter().position(|&byte| byte == b' ') {
            Some(space) => &name[space + 1..],
            None => return None,
        };
    }
    (!name.is_empty()).then(|| name.to_owned())
}

fn agree(word: &str, ours: &str, others: &[&str]) -> Result<Command, Reply> {
    match word {
        _ if word == ours => Ok(Command::Agree),
        _ if others.contains(&word) => Err(Reply::new(504, "Not done here")),
        _ => Err(Reply::new(501, "Not understood")),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `h1,h2,h3,h4,p1,p2`.
fn port(text: &[u8]) -> Option<SocketAddr> {
    let numbers: Vec<u8> = text
        .trim_ascii()
        .split(|&byte| byte == b',')
        .map(|number| decimal(number).and_then(|number| u8::try_from(number).ok()))
        .collect::<Option<_>>()?;
    let [a, b, c, d, high, low] = numbers[..] else { return None };
    Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))))
}

/// `|protocol|address|port|`, with any printable character for the bars (RFC 2428).
fn eprt(text: &[u8]) -> Result<SocketAddr, Reply> {
    let bad = || Reply::new(501, "Not a protocol, an address and a port");
    let bar = *text.first().filter(|bar| bar.is_ascii_graphic()).ok_or_else(bad)?;
    let parts: Vec<_> = text.split(|&byte| byte == bar).collect();
    let [[], protocol, address, port, []] = parts[..] else { return Err(bad()) };
    let address: Option<IpAddr> = std::str::from_utf8(address).ok().and_then(|address| address.parse().ok());
    let port = decimal(port).and_then(|port| u16::try_from(port).ok()).ok_or_else(bad)?;
    match (decimal(protocol).ok_or_else(bad)?, address) {
        (1, Some(address @ IpAddr::V4(_))) | (2, Some(address @ IpAddr::V6(_))) => Ok(SocketAddr::new(address, port)),
        (1 | 2, _) => Err(bad()),
        _ => Err(Reply::wrong_protocol()),
    }
}

/// What is said to a client: a code, and one line or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    lines: Vec<Vec<u8>>,
}

impl Reply {
    pub(crate) fn new(code: u16, text: impl AsRef<[u8]>) -> Reply {
        Reply { code, lines: vec![text.as_ref().to_owned()] }
    }

    /// Several lines; the first and the last are about those between.
    pub(crate) fn of_lines(code: u16, lines: Vec<Vec<u8>>) -> Reply {
        Reply { code, lines }
    }

    pub(crate) fn wrong_protocol() -> Reply {
        Reply::new(522, "Network protocol not supported, use (1,2)")
    }

    pub(crate) fn help() -> Reply {
        Reply::of_lines(214, vec![b"Commands".into(), NAMES.into(), b"End".into()])
    }

    /// As it goes over the wire. Whatever is in a name, it is one reply: control characters become `?`, and IAC is doubled.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let last = self.lines.len().saturating_sub(1);
        for (index, line) in self.lines.iter().enumerate() {
            match index {
                _ if index == last => bytes.extend_from_slice(format!("{} ", self.code).as_bytes()),
                0 => bytes.extend_from_slice(format!("{}-", self.code).as_bytes()),
                _ => bytes.push(b' '),
            }
            for byte in shown(line) {
                bytes.push(byte);
                if byte == IAC {
                    bytes.push(IAC);
                }
            }
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }
}

/// A name as replies and listings show it.
pub(crate) fn shown(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    name.iter().map(|&byte| if byte.is_ascii_control() { b'?' } else { byte })
}
