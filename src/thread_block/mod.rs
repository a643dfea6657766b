//! Thread blocks: thread-locals of a task's own (rule 29).
//!
//! What a thread has of its own (`errno`, every `thread_local!`, its number, what `pthread_self` names) lies in one block, and
//! one register of the processor leads to it, the *thread pointer*, which belongs to user space. A task with a block is a
//! thread in all but the kernel's eyes: the hub sets the register before it resumes the task and sets it back after.
//!
//! ```text
//!   hub's loop, on the root's stack                 a task's stack
//!   -------------------------------                 --------------
//!   Block::run: register = task's block
//!               resume ---------------------------> Block::enter (once), body, park
//!               register = root's block <---------- suspend
//! ```
//!
//! - **X1** On each stack the thread pointer is the same before and after every suspension. So what the compiler keeps across a
//!   call, the address of a thread-local say, stays right. Hence a generator that has begun goes on in no other task
//!   ([`identity`]), and hence T1.
//! - **X2** Between a write of the register and the switch that follows, or between the two writes of [`on_root`], nothing of the
//!   caller's runs and no thread-local is looked at: both stand in functions of their own that are never inlined.
//! - **X3** A block is in one place: of one task, or in the free list. It goes back when its task has ended, its values have been
//!   destroyed, and control has left its stack for good; that of a task that is leaked half-way is leaked with it (T2).
//! - **X4** A block that is used again is as a new one: the image of every module is laid down again, but libc's own part is
//!   kept, with what its allocator caches. Where modules have come or gone since, or one has given the task memory
//!   that is not in the block, the block is renewed: libc's part moves to a fresh one.
//!
//! What is the thread's and not the task's (its stacks, the hub) is found through [`on_root`], or copied when the block is entered.

/// Where blocks cannot be had, the file of that name; its `Block` has no values, and what is done with one is no code.
#[cfg_attr(
    all(
        feature = "monkey",
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(target_feature = "crt-static")
    ),
    path = "glibc/mod.rs"
)]
mod system;

#[cfg(feature = "monkey")]
use std::io;
#[cfg(feature = "monkey")]
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "monkey")]
pub(crate) use system::supported;
pub(crate) use system::{Block, hold, identity, is_away, on_root};

/// Whether tasks get blocks for which nothing else is said.
#[cfg(feature = "monkey")]
static DEFAULT: AtomicBool = AtomicBool::new(false);

/// Gives every task that is spawned from now on a block, or none, where its builder says nothing.
///
/// # Errors
///
/// As [`supported`], if they are to have some; then nothing has changed.
#[cfg(feature = "monkey")]
pub(crate) fn set_default(own: bool) -> io::Result<()> {
    if own {
        supported()?;
    }
    DEFAULT.store(own, Ordering::Relaxed);
    Ok(())
}

/// Whether a task is to have a block, of which its builder has said `own`.
#[inline]
pub(crate) fn wanted(own: Option<bool>) -> bool {
    #[cfg(feature = "monkey")]
    return own.unwrap_or_else(|| DEFAULT.load(Ordering::Relaxed));
    #[cfg(not(feature = "monkey"))]
    own.unwrap_or(false)
}
