//! Bodies on one thread: tasks of the caller's hub.

/// A running body; `join().unwrap()` gives its value.
pub(crate) type Handle<T> = greenroom::JoinHandle<T>;

/// Runs `f` concurrently with its caller.
pub(crate) fn go<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Handle<T> {
    greenroom::spawn(f)
}
