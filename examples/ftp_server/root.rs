//! Files below one directory, and nothing else, whatever a client sends.
//!
//! A client's path becomes a [`Place`]: names from the root down, with `.` and `..` worked out as text, so that `..` stops at the
//! root. Places are looked up by `openat2` with `RESOLVE_BENEATH`: the system itself refuses each step that would lead out, by a
//! link too, at the moment it is made, so that nothing can change between a check and a use. What is removed, made or renamed is named
//! by a descriptor of its directory, got that way, and one name.
//!
//! All of it runs on native threads, for disks take their time.

use std::fs::File as NativeFile;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use greenroom::fs::File;
use greenroom::{offload, shield};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Names of uploads under way begin so. For clients there are no such names.
const HIDDEN: &[u8] = b".ftp_server-upload-";

/// What is opened may turn out to be a fifo, whose other side never comes, or a terminal.
const OPENED_CAREFULLY: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_NOCTTY);

/// Where something is, or would be: names from the root down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place(Vec<Vec<u8>>);

impl Place {
    /// Where a client's path leads from here.
    pub(crate) fn join(&self, path: &[u8]) -> Place {
        let mut names = if path.starts_with(b"/") { Vec::new() } else { self.0.clone() };
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name.to_owned()),
            }
        }
        Place(names)
    }

    /// As clients see it.
    pub(crate) fn path(&self) -> Vec<u8> {
        if self.0.is_empty() {
            b"/".to_vec()
        } else {
            self.0.iter().flat_map(|name| [b"/", &name[..]].concat()).collect()
        }
    }

    /// The last name; nothing for the root.
    pub(crate) fn name(&self) -> &[u8] {
        self.0.last().map_or(b"", |name| name)
    }

    fn split(&self) -> io::Result<(Place, &[u8])> {
        match self.0.split_last() {
            Some((name, names)) => Ok((Place(names.to_vec()), name)),
            None => Err(Errno::EBUSY.into()),
        }
    }
}

/// What is known of a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    /// The permission bits.
    pub(crate) mode: u32,
    pub(crate) links: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// A fifo, a device: nothing to transfer.
    Other,
}

impl Facts {
    fn of(status: &FileStat) -> Facts {
        let kind = match status.st_mode & libc::S_IFMT {
            libc::S_IFREG => Kind::File,
            libc::S_IFDIR => Kind::Directory,
            _ => Kind::Other,
        };
        Facts {
            kind,
            size: u64::try_from(status.st_size).unwrap_or(0),
            modified: status.st_mtime,
            mode: status.st_mode & 0o777,
            links: status.st_nlink,
        }
    }
}

/// A directory's entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) facts: Facts,
}

/// The directory that clients see as `/`.
#[derive(Clone, Debug)]
pub(crate) struct Root(Arc<OwnedFd>);

impl Root {
    /// Opens a directory that all the rest is beneath.
    pub(crate) fn open(path: &Path) -> io::Result<Root> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        let opened = openat2(AT_FDCWD, path, how);
        opened.map(|root| Root(Arc::new(root))).map_err(|errno| match errno {
            Errno::ENOSYS | Errno::EPERM => io::Error::new(
                io::ErrorKind::Unsupported,
                "openat2 is not to be had, which keeps clients below the root (it came with Linux 5.6; a sandbox may forbid it)",
            ),
            errno => errno.into(),
        })
    }

    pub(crate) fn facts(&self, place: &Place) -> io::Result<Facts> {
        self.run(place, |root, place| Ok(Facts::of(&fstat(root.find(&place, OFlag::O_PATH)?)?)))
    }

    /// Opens a file to be read.
    pub(crate) fn read(&self, place: &Place) -> io::Result<File> {
        self.run(place, |root, place| root.find(&place, OFlag::O_RDONLY | OPENED_CAREFULLY).and_then(plain_file))
    }

    /// Opens a file to be written in place; makes it, if that is asked.
    pub(crate) fn write(&self, place: &Place, create: bool) -> io::Result<File> {
        self.run(place, move |root, place| {
            let flags = if create { OFlag::O_CREAT } else { OFlag::empty() };
            plain_file(root.find(&place, flags | OFlag::O_WRONLY | OPENED_CAREFULLY)?)
        })
    }

    /// Begins to write what shall be a file once it is whole. It is not left half begun.
    pub(crate) fn upload(&self, place: &Place) -> io::Result<Upload> {
        let begin = |root: &Root, place: Place| {
            let (directory, name) = place.split()?;
            let directory = root.find(&directory, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            // Found out before the bytes come, rather than after.
            let there = fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
            if there.is_ok_and(|status| Facts::of(&status).kind == Kind::Directory) {
                return Err(Errno::EISDIR.into());
            }
            let hidden = hidden_name();
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let file = openat2(&directory, &hidden[..], beneath(flags))?;
            Ok(Upload { file: NativeFile::from(file).into(), directory, hidden, name: name.to_owned(), renamed: false })
        };
        shield(|| self.run(place, begin))
    }

    /// What is in a directory, by name. A link counts as what it leads to, and is left out if that is nothing beneath the root.
    pub(crate) fn list(&self, place: &Place) -> io::Result<Vec<Entry>> {
        self.run(place, |root, place| {
            let mut directory = Dir::from_fd(root.find(&place, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)?;
            let names: Vec<_> = directory
                .iter()
                .map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_vec()))
                .collect::<Result<_, _>>()?;
            let mut entries = Vec::new();
            for name in names {
                if name == b"." || name == b".." || name.starts_with(HIDDEN) {
                    continue;
                }
                // What has gone meanwhile is not there.
                let Ok(mut status) = fstatat(&directory, &name[..], AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
                if status.st_mode & libc::S_IFMT == libc::S_IFLNK {
                    let target = root.find(&place.join(&name), OFlag::O_PATH).and_then(|target| Ok(fstat(target)?));
                    let Ok(target) = target else { continue };
                    status = target;
                }
                entries.push(Entry { name, facts: Facts::of(&status) });
            }
            entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        })
    }

    pub(crate) fn make_directory(&self, place: &Place) -> io::Result<()> {
        self.at(place, |directory, name| mkdirat(directory, name, Mode::from_bits_truncate(0o777)))
    }

    pub(crate) fn remove_directory(&self, place: &Place) -> io::Result<()> {
        self.at(place, |directory, name| unlinkat(directory, name, UnlinkatFlags::RemoveDir))
    }

    pub(crate) fn remove_file(&self, place: &Place) -> io::Result<()> {
        self.at(place, |directory, name| unlinkat(directory, name, UnlinkatFlags::NoRemoveDir))
    }

    /// Whether there is something that could be renamed.
    pub(crate) fn exists(&self, place: &Place) -> io::Result<()> {
        self.at(place, |directory, name| fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(drop))
    }

    pub(crate) fn rename(&self, from: &Place, to: &Place) -> io::Result<()> {
        let to = to.clone();
        self.run(from, move |root, from| {
            let ((from, old), (to, new)) = (from.split()?, to.split()?);
            if new.starts_with(HIDDEN) {
                return Err(Errno::EACCES.into());
            }
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            Ok(renameat(root.find(&from, flags)?, old, root.find(&to, flags)?, new)?)
        })
    }

    /// Does something with a name in its directory.
    fn at(&self, place: &Place, f: impl FnOnce(&OwnedFd, &[u8]) -> nix::Result<()> + Send + 'static) -> io::Result<()> {
        self.run(place, |root, place| {
            let (directory, name) = place.split()?;
            let directory = root.find(&directory, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            Ok(f(&directory, name)?)
        })
    }

    /// Does something on a native thread.
    fn run<T: Send + 'static>(
        &self,
        place: &Place,
        f: impl FnOnce(&Root, Place) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if place.0.iter().any(|name| name.starts_with(HIDDEN)) {
            return Err(Errno::ENOENT.into());
        }
        let (root, place) = (self.clone(), place.clone());
        offload(move || f(&root, place))
    }

    /// Opens what is at a place beneath the root.
    fn find(&self, place: &Place, flags: OFlag) -> io::Result<OwnedFd> {
        let path = if place.0.is_empty() { b".".to_vec() } else { place.0.join(&b'/') };
        let how = beneath(flags | OFlag::O_CLOEXEC);
        let mut tries = 0;
        loop {
            match openat2(&*self.0, &path[..], how) {
                // Something was renamed meanwhile, so that the system cannot tell where `..` leads (openat2(2)).
                Err(Errno::EAGAIN | Errno::EINTR) if tries < 100 => tries += 1,
                opened => return Ok(opened?),
            }
        }
    }
}

fn beneath(flags: OFlag) -> OpenHow {
    let mode = if flags.contains(OFlag::O_CREAT) { Mode::from_bits_truncate(0o666) } else { Mode::empty() };
    OpenHow::new().flags(flags).mode(mode).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

/// Only what is a file in the narrow sense can be transferred.
fn plain_file(opened: OwnedFd) -> io::Result<File> {
    match Facts::of(&fstat(&opened)?).kind {
        Kind::File => Ok(NativeFile::from(opened).into()),
        Kind::Directory => Err(Errno::EISDIR.into()),
        Kind::Other => Err(Errno::EACCES.into()),
    }
}

/// A name that no client can guess: two numbers of a hash whose key is the process's secret.
fn hidden_name() -> Vec<u8> {
    let mut name = HIDDEN.to_vec();
    for _ in 0..2 {
        name.extend_from_slice(format!("{:016x}", RandomState::new().hash_one(0)).as_bytes());
    }
    name
}

/// A file on its way: it has a hidden name until it is whole, and no name if that never comes.
#[derive(Debug)]
pub(crate) struct Upload {
    file: File,
    directory: OwnedFd,
    hidden: Vec<u8>,
    name: Vec<u8>,
    renamed: bool,
}

impl Upload {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, in place of whatever had it.
    pub(crate) fn finish(self) -> io::Result<()> {
        let mut upload = self;
        let rename = move || {
            // All of it: what is left when the job is done removes the hidden name, or not.
            let upload = &mut upload;
            renameat(&upload.directory, &upload.hidden[..], &upload.directory, &upload.name[..])?;
            upload.renamed = true;
            Ok(())
        };
        shield(|| offload(rename))
    }

    /// Removes it; returns when it is gone, whatever else is going on.
    pub(crate) fn discard(self) {
        shield(|| offload(move || drop(self)));
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.renamed {
            // One who is killed has no time to wait for another thread. An error: somebody else was quicker.
            let _gone = unlinkat(&self.directory, &self.hidden[..], UnlinkatFlags::NoRemoveDir);
        }
    }
}
