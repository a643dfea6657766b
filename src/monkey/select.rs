//! `select` and `pselect`: sets of bits in place of lists, and, for `select`, the time that is left.
//!
//! The originals change what they are given, so each look gets a copy, and the caller's sets are written once, at the end.
//!
//! The system looks at no more bits than the process has room for descriptors, and programs that say a huge number rely on it. So is it
//! done here: beyond an `fd_set`'s own size, the size of the table bounds what is read.

use std::time::Duration;

use libc::{c_int, c_short, fd_set, pollfd, sigset_t, timespec, timeval};

use super::poll::{NO_TIME, find, time_of};
use super::symbol::interpose;
use crate::clock;
use crate::hub::Hub;

interpose! {
    fn select(
        count: c_int,
        read: *mut fd_set,
        write: *mut fd_set,
        except: *mut fd_set,
        timeout: *mut timeval,
    ) -> c_int, POLL => select_select;
    fn pselect(
        count: c_int,
        read: *mut fd_set,
        write: *mut fd_set,
        except: *mut fd_set,
        timeout: *const timespec,
        mask: *const sigset_t,
    ) -> c_int, POLL => select_pselect;
}

unsafe fn select_select(
    hub: &'static Hub,
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: passed on to the caller.
    let time = unsafe { timeout.as_ref() }.map(duration);
    let (Some(bits), false) = (bits_of(count), time == Some(None)) else {
        // SAFETY: passed on to the caller, for the original's own errors.
        return unsafe { original::select(count, read, write, except, timeout) };
    };
    let time = time.flatten();
    let begun = time.map(|_| clock::now());
    // SAFETY: passed on to the caller.
    let sets = unsafe { Sets::new(bits, [read, write, except]) };
    let found = sets.find(hub, time, None, |[read, write, except]| {
        let mut none = timeval { tv_sec: 0, tv_usec: 0 };
        // SAFETY: sets of so many bits, or null, and a time.
        unsafe { original::select(bits as c_int, read, write, except, &raw mut none) }
    });
    if let (Some(time), Some(begun)) = (time, begun) {
        let left = time.saturating_sub(clock::now().saturating_duration_since(begun));
        let left = timeval { tv_sec: left.as_secs() as libc::time_t, tv_usec: left.subsec_micros().into() };
        // SAFETY: not null, and the caller's to be written.
        unsafe { *timeout = left };
    }
    found
}

unsafe fn select_pselect(
    hub: &'static Hub,
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: passed on to the caller.
    let time = unsafe { time_of(timeout) };
    let (Some(bits), Some(time)) = (bits_of(count), time) else {
        // SAFETY: passed on to the caller, for the original's own errors.
        return unsafe { original::pselect(count, read, write, except, timeout, mask) };
    };
    // SAFETY: passed on to the caller.
    let sets = unsafe { Sets::new(bits, [read, write, except]) };
    // SAFETY: passed on to the caller.
    let set = unsafe { mask.as_ref() };
    sets.find(hub, time, set, |[read, write, except]| {
        // SAFETY: sets of so many bits, or null, a time, and the caller's mask.
        unsafe { original::pselect(bits as c_int, read, write, except, &raw const NO_TIME, mask) }
    })
}

/// A time, if it is one. As many microseconds as one likes.
fn duration(time: &timeval) -> Option<Duration> {
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).ok()?);
    let micros = Duration::from_micros(u64::try_from(time.tv_usec).ok()?);
    Some(seconds.saturating_add(micros))
}

/// How many bits the system looks at; `None` if it is the original's to say.
fn bits_of(count: c_int) -> Option<usize> {
    let count = usize::try_from(count).ok()?;
    if count <= libc::FD_SETSIZE {
        return Some(count);
    }
    Some(count.min(table_size()?))
}

/// The size of the table of descriptors, of which the system tells only there.
fn table_size() -> Option<usize> {
    let status = Hub::held(|| std::fs::read_to_string("/proc/self/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"))?;
    line.trim().parse().ok()
}

const WORD: usize = u64::BITS as usize;

/// What each set asks for.
const EVENTS: [c_short; 3] = [libc::POLLIN, libc::POLLOUT, libc::POLLPRI];

/// The caller's three sets: for reading, for writing, for what is urgent.
struct Sets {
    bits: usize,
    places: [*mut fd_set; 3],
    wanted: [Vec<u64>; 3],
}

impl Sets {
    /// # Safety
    ///
    /// Each is null, or a set of so many bits that stays there for the life of this.
    unsafe fn new(bits: usize, places: [*mut fd_set; 3]) -> Sets {
        let wanted = places.map(|place| {
            let mut words = vec![0; if place.is_null() { 0 } else { bits.div_ceil(WORD) }];
            if !words.is_empty() {
                // SAFETY: so many words of the caller's, to as many of ours.
                unsafe { std::ptr::copy_nonoverlapping(place.cast(), words.as_mut_ptr(), words.len()) };
            }
            words
        });
        Sets { bits, places, wanted }
    }

    /// Looks until something is found or the time is over, and tells the caller's sets.
    fn find(
        &self,
        hub: &'static Hub,
        time: Option<Duration>,
        mask: Option<&sigset_t>,
        look: impl Fn([*mut fd_set; 3]) -> c_int,
    ) -> c_int {
        let mut told = self.wanted.clone();
        let found = find(
            hub,
            || self.entries(),
            time,
            mask,
            || {
                for (told, wanted) in told.iter_mut().zip(&self.wanted) {
                    told.clone_from(wanted);
                }
                let pointer = |i: usize, words: &mut Vec<u64>| {
                    if self.places[i].is_null() { std::ptr::null_mut() } else { words.as_mut_ptr().cast() }
                };
                let [read, write, except] = &mut told;
                look([pointer(0, read), pointer(1, write), pointer(2, except)])
            },
        );
        if found >= 0 {
            for (place, words) in self.places.iter().zip(&told).filter(|(_, words)| !words.is_empty()) {
                // SAFETY: as many words as were read there.
                unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), place.cast(), words.len()) };
            }
        }
        found
    }

    fn entries(&self) -> Vec<pollfd> {
        let mut entries = Vec::new();
        for (set, events) in self.wanted.iter().zip(EVENTS) {
            for (index, &word) in set.iter().enumerate() {
                let mut left = word;
                while left != 0 {
                    let bit = index * WORD + left.trailing_zeros() as usize;
                    left &= left - 1;
                    // The last word may have more than the system looks at.
                    if bit < self.bits {
                        entries.push(pollfd { fd: bit as c_int, events, revents: 0 });
                    }
                }
            }
        }
        entries
    }
}
