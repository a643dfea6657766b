//! The explicit form of a program's life.

#![forbid(unsafe_code)]

use crate::hub::Hub;

/// Runs `f`; the tasks of this hub that were spawned meanwhile, by whomever, and are left when it returns are killed and joined
/// before this does.
///
/// The hub needs no such call: it is made by the first one that needs it. `run` is for when nothing may be left behind.
///
/// # Switching
///
/// As `f` does; and at the end, if tasks are left.
///
/// # Panics
///
/// With `f`, after the tasks have ended.
///
/// # Platform-specific behavior
///
/// In a program built with `panic = "abort"` tasks that have begun cannot be killed: they are left.
///
/// # Examples
///
/// ```
/// let sum = greenroom::run(|| {
///     greenroom::spawn(|| greenroom::park());
///     1 + 1
/// });
/// assert_eq!(sum, 2);
/// ```
#[track_caller]
pub fn run<T>(f: impl FnOnce() -> T) -> T {
    struct End(&'static Hub, u64);
    impl Drop for End {
        fn drop(&mut self) {
            self.0.end_all_since(self.1);
        }
    }
    let hub = Hub::here();
    let _end = End(hub, hub.next_id());
    f()
}
