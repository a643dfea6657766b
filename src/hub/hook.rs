//! The panic hook: says which task panicked, then lets the hook that was there before report the panic.

use std::panic;
use std::sync::Once;

use super::Hub;

/// Puts our hook in front of the one that is there, once in the process.
///
/// A hook that the user sets later replaces ours, and can ask [`current`](crate::current) for the task.
pub(super) fn install() {
    static INSTALL: Once = Once::new();
    // A thread that is panicking may not change the hook; the next hub will.
    if std::thread::panicking() {
        return;
    }
    INSTALL.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| match Hub::get() {
            None => previous(info),
            Some(hub) => {
                let header = hub.current();
                header.unwinding.set(true);
                #[cfg(feature = "monkey")]
                let is_thread = header.peek_extra(|extra| extra.is_thread) == Some(true);
                #[cfg(not(feature = "monkey"))]
                let is_thread = false;
                if !header.is_root() && !is_thread {
                    let mut name = String::new();
                    let _infallible = header.write_name(&mut name);
                    eprintln!("\ntask {name} (spawned at {}) panicked:", header.spawned_at);
                }
                // A panic that is being reported holds locks of std's.
                hub.hold(|| previous(info));
            }
        }));
    });
}
