//! What a process can tell of itself, and tests that need one of their own.

use std::process::Command;

const CHILD: &str = "GREENROOM_TEST_CHILD";

/// Runs `body` in a process of its own: this test binary again, with only the test `name`.
pub(crate) fn in_child(name: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name} in a child: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// How many descriptors are open, and how many of them are registered with a poller.
pub(crate) fn descriptors() -> (usize, usize) {
    let mut open = 0;
    let mut registered = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        // The directory's own descriptor is among them each time.
        open += 1;
        if std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]") {
            let info = std::path::Path::new("/proc/self/fdinfo").join(entry.file_name());
            let info = std::fs::read_to_string(info).unwrap();
            registered += info.lines().filter(|line| line.starts_with("tfd:")).count();
        }
    }
    (open, registered)
}

/// How many native threads the process has.
pub(crate) fn native_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Lowers how many descriptors the process may open.
pub(crate) fn limit_descriptors(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: reads one rlimit, alive for the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}
