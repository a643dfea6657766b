//! select(2)'s three lists, looked at with poll(2), which has no limit on numbers.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::look::{Bell, find};
use super::nest::Nest;
use crate::sys::{self, PollFd, bits};

/// Which descriptors are ready, as numbers, in the order in which they were given to [`select()`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read, or the end.
    pub read: Vec<RawFd>,
    /// There is room to write.
    pub write: Vec<RawFd>,
    /// There is urgent data or the like.
    pub except: Vec<RawFd>,
}

impl Ready {
    /// Whether none is: the time ran out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty() && self.except.is_empty()
    }
}

/// Waits until one of many descriptors is ready, and gives all that are, as Python's `select.select`.
///
/// Anything with a descriptor will do, regular files included, which are always ready. A descriptor may stand in several lists, and more
/// than once. What counts as ready is as for select(2): an error and a hang-up can be read, an error can be written.
///
/// A `timeout` of `None` waits for ever, one of zero not at all; when it runs out, the lists of the result are empty. With empty
/// lists it sleeps.
///
/// # Switching
///
/// Yes, if nothing is ready; else now and then.
///
/// # Cancellation
///
/// Nothing is left behind.
///
/// # Errors
///
/// `EBADF` if a descriptor is not open. Those of the system: a lack of descriptors or memory for the wait.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
/// use std::time::Duration;
/// use greenroom::selectors::select;
///
/// let (reader, mut writer) = greenroom::io::pipe()?;
/// let ready = select(&[&reader], &[&writer], &[], None)?;
/// assert_eq!((ready.read, ready.write), (vec![], vec![writer.as_raw_fd()]));
///
/// greenroom::spawn(move || writer.write_all(b"ping"));
/// let ready = select(&[&reader], &[], &[], Some(Duration::from_secs(5)))?;
/// assert_eq!(ready.read, [reader.as_raw_fd()]);
/// # std::io::Result::Ok(())
/// ```
pub fn select(
    read: &[&dyn AsRawFd],
    write: &[&dyn AsRawFd],
    except: &[&dyn AsRawFd],
    timeout: Option<Duration>,
) -> io::Result<Ready> {
    let lists = RefCell::new(Lists::new(read, write, except)?);
    let mut nest = None;
    let found = find(
        timeout,
        |timeout| lists.borrow_mut().look(timeout),
        |deadline, _alone| {
            let waiting = match &mut nest {
                Some(waiting) => waiting,
                None => nest.insert(Nest::take()?),
            };
            let bell = Bell::new(waiting.fd());
            waiting.wait(&bell, &lists.borrow().entries, 0, deadline)
        },
    )?;
    if let Some(nest) = nest {
        nest.keep();
    }
    Ok(found.unwrap_or_default())
}

/// The three lists, one behind the other.
struct Lists {
    entries: Vec<PollFd>,
    /// Where the second and the third begin.
    write: usize,
    except: usize,
    /// Each number once, for a system that takes no more entries than a process may have descriptors.
    merged: Option<Vec<PollFd>>,
}

impl Lists {
    fn new(read: &[&dyn AsRawFd], write: &[&dyn AsRawFd], except: &[&dyn AsRawFd]) -> io::Result<Lists> {
        let mut entries = Vec::with_capacity(read.len() + write.len() + except.len());
        for (list, events) in [(read, bits::IN), (write, bits::OUT), (except, bits::PRI)] {
            for of in list {
                let fd = of.as_raw_fd();
                // poll(2) would skip it.
                if fd < 0 {
                    return Err(sys::bad_descriptor());
                }
                entries.push(sys::poll_entry(fd, events));
            }
        }
        Ok(Lists { entries, write: read.len(), except: read.len() + write.len(), merged: None })
    }

    fn look(&mut self, timeout: Option<Duration>) -> io::Result<Option<Ready>> {
        let count = match &mut self.merged {
            None => match sys::poll(&mut self.entries, timeout) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.merged = Some(merge(&self.entries));
                    return self.look(timeout);
                }
                result => result?,
            },
            Some(merged) => {
                let count = sys::poll(merged, timeout)?;
                for entry in &mut self.entries {
                    let place = merged.binary_search_by_key(&entry.fd, |entry| entry.fd);
                    entry.revents = merged[place.expect("each number is there")].revents;
                }
                count
            }
        };
        if count == 0 {
            return Ok(None);
        }
        if self.entries.iter().fold(0, |all, entry| all | sys::poll_found(entry)) & bits::NVAL != 0 {
            return Err(sys::bad_descriptor());
        }
        let (read, others) = self.entries.split_at(self.write);
        let (write, except) = others.split_at(self.except - self.write);
        let ready = Ready {
            read: among(read, count, bits::IN | bits::HUP | bits::ERR),
            write: among(write, count, bits::OUT | bits::ERR),
            except: among(except, count, bits::PRI),
        };
        Ok((!ready.is_empty()).then_some(ready))
    }
}

fn among(entries: &[PollFd], most: usize, events: u32) -> Vec<RawFd> {
    let mut ready = Vec::with_capacity(most.min(entries.len()));
    ready.extend(entries.iter().filter(|entry| sys::poll_found(entry) & events != 0).map(|entry| entry.fd));
    ready
}

/// Each number once, in their order, with all that is wanted of it.
pub(super) fn merge(entries: &[PollFd]) -> Vec<PollFd> {
    let mut merged = entries.to_vec();
    merged.sort_unstable_by_key(|entry| entry.fd);
    merged.dedup_by(|entry, kept| {
        let is_same = entry.fd == kept.fd;
        if is_same {
            kept.events |= entry.events;
        }
        is_same
    });
    merged
}
