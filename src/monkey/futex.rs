//! Futexes, on which std's locks and those of most crates stand, and which they reach through `syscall`.
//!
//! - A task that waits stands in a table of ours ([`parking`]); a native thread, and code that may not switch, waits in the kernel. Who
//!   wakes looks into the table, then into the kernel; every eighth time the other way round, so that neither starves.
//! - A wait cannot be cancelled: std's locks would ask again at once. A kill stays pending. Time-outs are the caller's.
//! - Waits on words that are shared with other processes are done by a native thread: nobody else can hear those processes.
//! - Requeueing wakes whom it would move, which users of futexes have to expect anyway. Locks with priority inheritance
//!   are left alone.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libc::{c_int, c_long, timespec};

use super::gate::{errno, hub_for, set_errno};
use super::parking::{self, ANY, Caller, End, Key, Kind, Until};
use super::symbol::interpose;
use super::time;
use crate::hub::Hub;

interpose! {
    fn syscall(
        number: c_long,
        first: c_long,
        second: c_long,
        third: c_long,
        fourth: c_long,
        fifth: c_long,
        sixth: c_long,
    ) -> c_long, all SYNC => futex_syscall;
}

/// The arguments of futex(2), as they come.
#[derive(Clone, Copy)]
struct Call {
    address: usize,
    operation: c_int,
    value: u32,
    /// A time, or a second count.
    fourth: c_long,
    second_address: usize,
    third_value: u32,
}

const COMMAND: c_int = !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);

/// Addresses below this are never mapped: the kernel says so.
const LOWEST: usize = 4096;

// `syscall` has a variable number of arguments in C. On the System V ABIs of x86-64 and aarch64 words are passed in the same registers
// either way, and who passes fewer leaves the rest undefined, which the kernel does not look at.
unsafe fn futex_syscall(
    number: c_long,
    first: c_long,
    second: c_long,
    third: c_long,
    fourth: c_long,
    fifth: c_long,
    sixth: c_long,
) -> c_long {
    // SAFETY: passed on to the caller.
    let original = || unsafe { original::syscall(number, first, second, third, fourth, fifth, sixth) };
    if number != libc::SYS_futex {
        return original();
    }
    let call = Call {
        address: first as usize,
        operation: second as c_int,
        value: third as u32,
        fourth,
        second_address: fifth as usize,
        third_value: sixth as u32,
    };
    if !call.address.is_multiple_of(4) || call.address < LOWEST {
        return original();
    }
    match call.operation & COMMAND {
        libc::FUTEX_WAIT => futex_wait(&call, ANY, original),
        libc::FUTEX_WAIT_BITSET => futex_wait(&call, call.third_value, original),
        _ if !call.is_private() => original(),
        libc::FUTEX_WAKE => futex_wake(&call, ANY),
        libc::FUTEX_WAKE_BITSET if call.third_value != 0 => futex_wake(&call, call.third_value),
        libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE => {
            let done = original();
            if done < 0 { done } else { done + call.wake_tasks(call.address, call.value.saturating_add(fourth as u32)) }
        }
        libc::FUTEX_WAKE_OP => {
            // Whether the second count is for anybody is known to the kernel alone.
            let done = original();
            if done < 0 {
                return done;
            }
            let first = call.wake_tasks(call.address, call.value);
            done + first + call.wake_tasks(call.second_address, fourth as u32)
        }
        _ => original(),
    }
}

impl Call {
    fn is_private(&self) -> bool {
        self.operation & libc::FUTEX_PRIVATE_FLAG != 0
    }

    fn wake_tasks(&self, address: usize, count: u32) -> c_long {
        let key = Key { address, kind: Kind::Futex };
        parking::wake(key, ANY, count as usize) as c_long
    }

    /// Until when the caller waits; `Err` if the time is none.
    fn until(&self) -> Result<Option<Until>, ()> {
        // SAFETY: passed on to the caller of the symbol: null, or a time.
        let Some(limit) = (unsafe { (self.fourth as *const timespec).as_ref() }) else { return Ok(None) };
        // SAFETY: a reference.
        let time = unsafe { time::read_timespec(limit) }.ok_or(())?;
        let clock = match self.operation & libc::FUTEX_CLOCK_REALTIME {
            0 => libc::CLOCK_MONOTONIC,
            _ => libc::CLOCK_REALTIME,
        };
        let is_relative = self.operation & COMMAND == libc::FUTEX_WAIT;
        Ok(Some(if is_relative { Until::after(time) } else { Until::at(clock, time) }))
    }
}

/// `EAGAIN`, `ETIMEDOUT`, or 0 when woken.
fn futex_wait(call: &Call, bits: u32, original: impl Fn() -> c_long) -> c_long {
    let Some(hub) = hub_for(super::Areas::SYNC) else { return original() };
    let Caller::Task(hub) = Caller::here(Some(hub)) else { return original() };
    let (Ok(until), true) = (call.until(), bits != 0) else { return original() };
    if !call.is_private() {
        return wait_for_others(hub, *call);
    }
    let saved = errno();
    // SAFETY: a futex is a word that several threads look at; it is mapped, as far as we can know.
    let word = unsafe { AtomicU32::from_ptr(call.address as *mut u32) };
    let key = Key { address: call.address, kind: Kind::Futex };
    let stay = || word.load(Ordering::SeqCst) == call.value;
    let ended = match until.map(Until::deadline) {
        // Its time is over: the kernel looks at the word first, and so do we.
        Some(None) if stay() => End::Elapsed,
        Some(None) => End::Refused,
        _ => parking::wait_until(Caller::Task(hub), key, bits, until, |_| stay()),
    };
    let number = match ended {
        End::Woken => {
            set_errno(saved);
            return 0;
        }
        End::Elapsed => libc::ETIMEDOUT,
        End::Refused => libc::EAGAIN,
    };
    set_errno(number);
    -1
}

fn futex_wake(call: &Call, bits: u32) -> c_long {
    let key = Key { address: call.address, kind: Kind::Futex };
    let saved = errno();
    let natives = |count: c_long| {
        let (address, operation) = (call.address as c_long, call.operation.into());
        // SAFETY: wakes, which touches nothing.
        unsafe { original::syscall(libc::SYS_futex, address, operation, count, 0, 0, bits.into()) }
    };
    // The kernel takes the count for one with a sign, and wakes one if it is none.
    let count = c_long::from((call.value as c_int).max(1));
    if !parking::is_awaited(call.address) {
        return natives(count);
    }
    let tasks;
    let woken = if parking::natives_first(call.address) {
        let first = natives(count).max(0);
        tasks = parking::wake(key, bits, (count - first) as usize) as c_long;
        first + tasks
    } else {
        tasks = parking::wake(key, bits, count as usize) as c_long;
        tasks + if tasks < count { natives(count - tasks).max(0) } else { 0 }
    };
    if tasks > 0 {
        parking::let_others_go_first();
    }
    set_errno(saved);
    woken
}

/// Waits on a word that other processes see: a native thread does.
#[cold]
fn wait_for_others(hub: &'static Hub, call: Call) -> c_long {
    // SAFETY: null, or a time.
    let limit = unsafe { (call.fourth as *const timespec).as_ref() }.copied();
    let wait = move || {
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let (address, operation, value) = (call.address as c_long, call.operation.into(), call.value.into());
        let bits = call.third_value.into();
        // SAFETY: the words are the caller's, who waits for this; the time is alive for the call.
        let ended = unsafe { original::syscall(libc::SYS_futex, address, operation, value, limit as c_long, 0, bits) };
        (ended, errno())
    };
    let saved = errno();
    let (ended, number) = super::natively(hub, wait);
    set_errno(if ended < 0 { number } else { saved });
    ended
}

/// Stops the calling thread while the word is `value`, for that long at most.
pub(super) fn stop(word: &AtomicU32, value: u32, limit: Option<Duration>) {
    let limit = limit.map(|time| timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let (address, operation) = (word.as_ptr() as c_long, (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG).into());
    // SAFETY: the word and the time are alive for the call.
    unsafe { original::syscall(libc::SYS_futex, address, operation, value.into(), limit as c_long, 0, 0) };
}

/// Wakes the thread that has stopped at this word, which may be gone.
pub(super) fn start(word: *const AtomicU32) {
    let (address, operation) = (word as c_long, (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG).into());
    let saved = errno();
    // SAFETY: wakes, which touches nothing.
    unsafe { original::syscall(libc::SYS_futex, address, operation, 1, 0, 0, 0) };
    set_errno(saved);
}
