//! The socket calls std has no name for: sends and receives that never wait, and a connect in two steps.
//!
//! Each function is one system call on a borrowed descriptor, with slices for buffers and `io::Error` for `errno`.
//! Nothing here retries, waits or remembers. `MSG_DONTWAIT` makes one call non-blocking without a look at the open
//! file's flags, which other descriptors and other processes share (SEMANTICS 20).
//!
//! Two obligations repeat, and their `SAFETY` lines cite them:
//!
//! - **S1** A pointer and a length given to the kernel come from one live slice or value, mutable where the kernel writes.
//! - **S2** `IoSlice` and `IoSliceMut` have the layout of `iovec`: std guarantees it on Unix.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{offset_of, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::ptr;

#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;

/// Takes up to `buf.len()` bytes that have arrived.
pub(crate) fn receive(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    receive_with(fd, buf, 0)
}

/// Copies up to `buf.len()` bytes that have arrived, and leaves them there.
pub(crate) fn peek(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    receive_with(fd, buf, libc::MSG_PEEK)
}

fn receive_with(fd: BorrowedFd<'_>, buf: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
    // SAFETY: S1, `buf`.
    let n = unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags | libc::MSG_DONTWAIT) };
    length(n)
}

/// What [`receive_vectored`] took.
pub(crate) struct Received {
    /// Bytes, over all buffers.
    pub(crate) bytes: usize,
    /// Whether ancillary data was dropped (`MSG_CTRUNC`). On a Unix stream such data also ends the read early, so a
    /// short read then says nothing about what is left.
    pub(crate) ancillary_dropped: bool,
}

/// Takes bytes that have arrived into several buffers, of which the first [`IOV_MAX`] count.
pub(crate) fn receive_vectored(fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<Received> {
    let mut message = empty_message();
    message.msg_iov = bufs.as_mut_ptr().cast();
    message.msg_iovlen = bufs.len().min(IOV_MAX) as _;

    // SAFETY: S1, `message` and by S2 `bufs`; all its other pointers are null with length zero.
    let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
    length(n).map(|bytes| Received { bytes, ancillary_dropped: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// Takes one datagram and its sender's address; with `peek`, leaves it there.
pub(crate) fn receive_from(fd: BorrowedFd<'_>, buf: &mut [u8], peek: bool) -> io::Result<(usize, Address)> {
    let flags = if peek { libc::MSG_PEEK } else { 0 } | libc::MSG_DONTWAIT;
    let mut from = Address { length: size_of::<libc::sockaddr_storage>() as libc::socklen_t, ..Address::NONE };
    let storage = ptr::from_mut(&mut from.storage).cast();

    // SAFETY: S1, `buf`, and `from.storage` with its own size in `from.length`.
    let n =
        unsafe { libc::recvfrom(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags, storage, &mut from.length) };
    length(n).map(|n| (n, from))
}

/// Hands over as much of `buf` as fits, without `SIGPIPE`.
pub(crate) fn send(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    // SAFETY: S1, `buf`.
    let n = unsafe { libc::send(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len(), SEND_FLAGS) };
    length(n)
}

/// Hands over as much of several buffers as fits, without `SIGPIPE`; the first [`IOV_MAX`] count.
pub(crate) fn send_vectored(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut message = empty_message();
    message.msg_iov = bufs.as_ptr().cast_mut().cast();
    message.msg_iovlen = bufs.len().min(IOV_MAX) as _;

    // SAFETY: S1, `message` and by S2 `bufs`, which sendmsg(2) only reads; its other pointers are null with length zero.
    let n = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, SEND_FLAGS) };
    length(n)
}

/// Hands over one datagram for `to`, without `SIGPIPE`.
pub(crate) fn send_to(fd: BorrowedFd<'_>, buf: &[u8], to: &Address) -> io::Result<usize> {
    // SAFETY: S1, `buf` and `to`.
    let n = unsafe { libc::sendto(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len(), SEND_FLAGS, to.as_ptr(), to.length) };
    length(n)
}

/// Makes a stream socket for addresses of `to`'s family, close-on-exec and non-blocking.
pub(crate) fn stream_socket(to: &Address) -> io::Result<OwnedFd> {
    #[cfg(not(target_vendor = "apple"))]
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    #[cfg(target_vendor = "apple")]
    let kind = libc::SOCK_STREAM;

    // SAFETY: takes and gives integers only.
    let fd = check(unsafe { libc::socket(to.storage.ss_family.into(), kind, 0) })?;
    // SAFETY: socket(2) just made it, so nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };

    #[cfg(target_vendor = "apple")]
    {
        let on: libc::c_int = 1;
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: FIOCLEX takes no argument.
        check(unsafe { libc::ioctl(fd, libc::FIOCLEX) })?;
        // SAFETY: S1, `on`.
        check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, ptr::from_ref(&on).cast(), size) })?;
        set_nonblocking(std::os::fd::AsFd::as_fd(&socket), true)?;
    }
    Ok(socket)
}

/// Starts to connect; connect(2) lists the errors that mean "under way".
pub(crate) fn connect(fd: BorrowedFd<'_>, to: &Address) -> io::Result<()> {
    // SAFETY: S1, `to`.
    check(unsafe { libc::connect(fd.as_raw_fd(), to.as_ptr(), to.length) }).map(drop)
}

/// Takes the error that the socket holds for whoever asks next (`SO_ERROR`).
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let mut error: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    let value = ptr::from_mut(&mut error).cast();
    // SAFETY: S1, `error` with its own size, and `size`.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, value, &mut size) })?;
    Ok((error != 0).then(|| io::Error::from_raw_os_error(error)))
}

/// Whether the socket has a peer.
pub(crate) fn is_connected(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut peer = Address { length: size_of::<libc::sockaddr_storage>() as libc::socklen_t, ..Address::NONE };
    let storage = ptr::from_mut(&mut peer.storage).cast();
    // SAFETY: S1, `peer.storage` with its own size in `peer.length`.
    match check(unsafe { libc::getpeername(fd.as_raw_fd(), storage, &mut peer.length) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether nothing will be received any more, because the reading end was shut down.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_read_shut_down(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: S1, `poll`: one entry.
    check(unsafe { libc::poll(&mut poll, 1, 0) })?;
    Ok(poll.revents & libc::POLLRDHUP != 0)
}

/// Sets or clears `O_NONBLOCK` of the open file.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    let mut value = libc::c_int::from(nonblocking);
    // SAFETY: FIONBIO reads one c_int; S1, `value`.
    #[cfg(not(feature = "monkey"))]
    return check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONBIO, &mut value) }).map(drop);
    // The patched symbol would take it for the user's wish.
    // SAFETY: as above; the system call takes what the function takes.
    #[cfg(feature = "monkey")]
    return length(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), libc::FIONBIO, &raw mut value) } as isize)
        .map(drop);
}

/// Sets how many connections may wait to be accepted; the system's own limit (`net.core.somaxconn`) still holds.
pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// Whether `O_NONBLOCK` of the open file is set.
pub(crate) fn is_nonblocking(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: F_GETFL takes no argument.
    #[cfg(not(feature = "monkey"))]
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // The patched symbol would tell the user's view.
    // SAFETY: as above; the system call takes what the function takes.
    #[cfg(feature = "monkey")]
    let flags = check(unsafe { libc::syscall(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_GETFL) } as libc::c_int)?;
    Ok(flags & libc::O_NONBLOCK != 0)
}

/// What a failed accept(2) or recvfrom(2) tells about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Of this one connection or datagram: the next may be good.
    Passing,
    /// Something is used up or out of order: the next would fail likewise, for a while.
    Lasting,
    /// The descriptor is none, or not one that can do this.
    Fatal,
}

impl Trouble {
    /// Linux hands out errors of the new connection's network here (accept(2), "Error handling"). `EOPNOTSUPP` is one of them, but
    /// counts as lasting: a socket of the wrong kind gives it for ever.
    pub(crate) fn of(error: &io::Error) -> Trouble {
        use io::ErrorKind::{
            ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
            NetworkUnreachable,
        };
        match error.raw_os_error() {
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK) => Trouble::Fatal,
            Some(libc::EPROTO | libc::EHOSTDOWN) => Trouble::Passing,
            _ => match error.kind() {
                ConnectionAborted | ConnectionRefused | ConnectionReset | HostUnreachable | Interrupted
                | NetworkDown | NetworkUnreachable => Trouble::Passing,
                _ => Trouble::Lasting,
            },
        }
    }
}

/// A socket address as the kernel has it: of any family, with its length.
#[derive(Clone, Copy)]
pub(crate) struct Address {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl Address {
    /// No address, as the kernel gives for a sender without a name.
    // SAFETY: plain integers and arrays of them: all zeroes is a value.
    pub(crate) const NONE: Address = Address { storage: unsafe { std::mem::zeroed() }, length: 0 };

    fn of<T: Family>(address: T) -> Address {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        let mut this = Address { length: size_of::<T>() as libc::socklen_t, ..Address::NONE };
        // SAFETY: the storage has room for `T` (asserted above) and is aligned for every family's address (POSIX).
        unsafe { ptr::from_mut(&mut this.storage).cast::<T>().write(address) };
        this
    }

    fn read<T: Family>(&self) -> T {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        // SAFETY: large enough (asserted), aligned (POSIX), initialised (`NONE`), and any bits are a `T` (`Family`).
        unsafe { ptr::from_ref(&self.storage).cast::<T>().read() }
    }

    fn as_ptr(&self) -> *const libc::sockaddr {
        ptr::from_ref(&self.storage).cast()
    }

    /// Whether this is an address of the Unix family.
    pub(crate) fn is_unix(&self) -> bool {
        i32::from(self.storage.ss_family) == libc::AF_UNIX
    }

    /// The internet address that this is.
    pub(crate) fn to_inet(self) -> io::Result<SocketAddr> {
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                let a: libc::sockaddr_in = self.read();
                let ip = Ipv4Addr::from(a.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(a.sin_port)).into())
            }
            libc::AF_INET6 => {
                let a: libc::sockaddr_in6 = self.read();
                let ip = Ipv6Addr::from(a.sin6_addr.s6_addr);
                Ok(SocketAddrV6::new(ip, u16::from_be(a.sin6_port), a.sin6_flowinfo, a.sin6_scope_id).into())
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "invalid argument")),
        }
    }

    /// The Unix address that this is; a socket without a name may have sent no address at all.
    ///
    /// A path that fills `sun_path` to the last byte has no std form and comes out as unnamed: the datagram matters more.
    pub(crate) fn to_unix(self) -> UnixAddr {
        let a: libc::sockaddr_un = self.read();
        let name_length = (self.length as usize).saturating_sub(PATH_OFFSET).min(a.sun_path.len());
        let name = a.sun_path.map(|c| c as u8);
        let name = &name[..name_length];

        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let [0, rest @ ..] = name
            && let Ok(address) = UnixAddr::from_abstract_name(rest)
        {
            return address;
        }

        let path = name.split(|&byte| byte == 0).next().unwrap_or_default();
        UnixAddr::from_pathname(OsStr::from_bytes(path))
            .unwrap_or_else(|_| UnixAddr::from_pathname("").expect("the empty path is std's unnamed address"))
    }
}

impl From<&SocketAddr> for Address {
    fn from(address: &SocketAddr) -> Address {
        match address {
            SocketAddr::V4(v4) => {
                let mut a = libc::sockaddr_in::EMPTY;
                a.sin_family = libc::AF_INET as libc::sa_family_t;
                a.sin_port = v4.port().to_be();
                a.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                Address::of(a)
            }
            SocketAddr::V6(v6) => {
                let mut a = libc::sockaddr_in6::EMPTY;
                a.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                a.sin6_port = v6.port().to_be();
                a.sin6_addr.s6_addr = v6.ip().octets();
                a.sin6_flowinfo = v6.flowinfo();
                a.sin6_scope_id = v6.scope_id();
                Address::of(a)
            }
        }
    }
}

impl From<&UnixAddr> for Address {
    fn from(address: &UnixAddr) -> Address {
        let mut a = libc::sockaddr_un::EMPTY;
        a.sun_family = libc::AF_UNIX as libc::sa_family_t;

        // A path counts with its closing zero, an abstract name with its leading one, and no name is nothing (unix(7)).
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let abstract_name = address.as_abstract_name();
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let abstract_name = None::<&[u8]>;
        let (start, name, name_length) = match (address.as_pathname(), abstract_name) {
            (Some(path), _) => (0, path.as_os_str().as_bytes(), path.as_os_str().len() + 1),
            (None, Some(name)) => (1, name, name.len() + 1),
            (None, None) => (0, &[][..], 0),
        };
        for (to, &from) in a.sun_path[start..].iter_mut().zip(name) {
            *to = from as libc::c_char;
        }

        let mut this = Address::of(a);
        this.length = (PATH_OFFSET + name_length) as libc::socklen_t;
        this
    }
}

/// Marks libc's address structs: integers and arrays of integers only, so that any bits are a value.
trait Family: Copy {
    const EMPTY: Self;
}

macro_rules! family {
    ($($family:ident),*) => {$(
        impl Family for libc::$family {
            // SAFETY: plain integers and arrays of them: all zeroes is a value.
            const EMPTY: Self = unsafe { std::mem::zeroed() };
        }
    )*};
}

family!(sockaddr_in, sockaddr_in6, sockaddr_un);

/// The most buffers one vectored call takes (`UIO_MAXIOV` on Linux, the same number elsewhere).
pub(crate) const IOV_MAX: usize = 1024;

/// Where the name starts in a Unix address.
const PATH_OFFSET: usize = offset_of!(libc::sockaddr_un, sun_path);

#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
/// Without `MSG_NOSIGNAL`: sockets are made with `SO_NOSIGPIPE`, by us and by std.
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT;

fn empty_message() -> libc::msghdr {
    // SAFETY: integers and pointers: all zeroes is a value (null, length zero).
    unsafe { std::mem::zeroed() }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub(super) fn length(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inet_addresses_survive_the_round_trip() {
        for text in ["127.0.0.1:80", "[2001:db8::1]:65535", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(&address).to_inet().unwrap(), address);
        }
    }

    #[test]
    fn unix_addresses_survive_the_round_trip() {
        let path = UnixAddr::from_pathname("/tmp/some socket").unwrap();
        assert_eq!(Address::from(&path).to_unix().as_pathname(), path.as_pathname());

        let longest = UnixAddr::from_pathname("x".repeat(107)).unwrap();
        assert_eq!(Address::from(&longest).to_unix().as_pathname(), longest.as_pathname());

        let unnamed = UnixAddr::from_pathname("").unwrap();
        assert!(Address::from(&unnamed).to_unix().is_unnamed());
        assert!(Address::NONE.to_unix().is_unnamed());
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn abstract_names_may_hold_zeroes() {
        let address = UnixAddr::from_abstract_name(b"a\0b").unwrap();
        assert_eq!(Address::from(&address).to_unix().as_abstract_name(), Some(&b"a\0b"[..]));
    }
}
