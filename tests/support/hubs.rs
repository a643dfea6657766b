//! Bodies that are tasks, each of a native thread and hub of its own.

/// A running body; `join().unwrap()` gives its value.
pub(crate) type Handle<T> = std::thread::JoinHandle<T>;

/// Runs `f` concurrently with its caller.
pub(crate) fn go<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Handle<T> {
    std::thread::spawn(|| match greenroom::spawn(f).join() {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    })
}
