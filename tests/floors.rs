//! Holds the floors of ARCHITECTURE.md: who may use whom, who may name what, and where `unsafe` may stand.
//!
//! A module uses modules of lower floors, and those of its own floor that its row names. The test reads the source as
//! text: it looks for `crate::name` in code, whether imported or spelled out. Tests may use what they like: files named
//! `tests.rs`, folders named `tests` and everything from a file's `#[cfg(test)]` module on are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Floor, module, and the modules of its own floor that it may use.
const FLOORS: &[(u32, &str, &[&str])] = &[
    // Symbols of libc, which nobody imports.
    (8, "monkey", &[]),
    // What programs are made of.
    (7, "server", &["pool"]),
    (7, "pool", &[]),
    (7, "process", &[]),
    (7, "selectors", &[]),
    (7, "signal", &[]),
    // Waiting for something outside.
    (6, "select", &["io", "queue"]),
    (6, "future", &[]),
    (6, "net", &["io", "offload"]),
    (6, "offload", &[]),
    (6, "queue", &[]),
    (6, "fs", &["io", "offload"]),
    (6, "io", &["offload"]),
    // Locks, channels, events; sleeping; values of a task; borrowed tasks.
    (5, "sync", &[]),
    (5, "scope", &[]),
    (5, "local", &[]),
    (5, "time", &[]),
    // What other threads can end.
    (4, "store", &["line", "task"]),
    (4, "promise", &["gate"]),
    (4, "gate", &["line"]),
    (4, "line", &[]),
    // The nouns.
    (4, "os", &[]),
    (4, "generator", &[]),
    (4, "greenlet", &[]),
    (4, "task", &["line", "promise"]),
    // The only code that switches.
    (3, "hub", &[]),
    // Three mechanisms that do not know each other.
    (2, "remote", &[]),
    (2, "reactor", &[]),
    (2, "coroutine", &[]),
    // Plain data.
    (1, "waiter", &[]),
    (1, "timers", &[]),
    (1, "run_queue", &[]),
    // Memory, libc, a lock for a moment, time.
    (0, "lock", &[]),
    (0, "error", &[]),
    (0, "clock", &[]),
    (0, "sys", &["thread_block"]),
    (0, "stack", &["lock", "thread_block"]),
    (0, "thread_block", &["lock"]),
];

/// Modules that stand beside the building: nothing in it may use them, and they may use all of it.
const BESIDE: &[&str] = &["testing"];

/// A crate or path, and the files and folders that may name it.
const BANS: &[(&str, &[&str])] = &[
    ("corosensei::", &["coroutine.rs"]),
    ("mio::", &["reactor.rs"]),
    ("futures_core::", &["future/"]),
    ("signal_hook::", &["signal/"]),
    (
        "libc::",
        &[
            "sys/",
            "stack/",
            "thread_block/",
            "lock.rs",
            "io/source.rs",
            "fs/options.rs",
            "net/connect.rs",
            "remote.rs",
            "monkey/",
        ],
    ),
    ("loom::", &["remote.rs", "remote/", "line/claim.rs", "line/claim/", "monkey/parking/"]),
];

/// The files and folders that may hold `unsafe` code. All other files forbid it.
const UNSAFE: &[&str] = &[
    "stack/",
    "sys/",
    "thread_block/",
    "lock.rs",
    "waiter.rs",
    "coroutine.rs",
    "remote.rs",
    "remote/",
    "hub/",
    "line.rs",
    "os.rs",
    "sync/mutex.rs",
    "sync/reentrant_mutex.rs",
    "sync/rwlock.rs",
    "sync/once_lock.rs",
    "sync/lazy_lock.rs",
    "task/mod.rs",
    "greenlet.rs",
    "scope.rs",
    "future/signal.rs",
    "io/source.rs",
    "io/pipe.rs",
    "fs/fd.rs",
    "net/fd.rs",
    "process/command.rs",
    "signal/handler.rs",
    "monkey/",
];

#[test]
fn modules_use_lower_floors_only() {
    let floor = |module: &str| FLOORS.iter().find(|row| row.1 == module);
    let mut faults = Vec::new();

    for file in sources() {
        let module = file.module.as_str();
        if module == "lib" || BESIDE.contains(&module) {
            continue;
        }
        let Some(&(height, _, own_floor)) = floor(module) else {
            faults.push(format!("{}: module `{module}` has no floor: give it a row in tests/floors.rs", file.name()));
            continue;
        };
        for (line, used) in file.uses() {
            if used == module || !is_module(&used) {
                continue;
            }
            let allowed = match floor(&used) {
                Some(&(below, _, _)) => below < height || own_floor.contains(&used.as_str()),
                None => false,
            };
            if !allowed {
                faults.push(format!(
                    "{}:{line}: `{module}` (floor {height}) may not use `{used}` ({}): a module uses lower floors, \
                     and of its own only what its row in tests/floors.rs names",
                    file.name(),
                    floor(&used).map_or("beside the floors".into(), |row| format!("floor {}", row.0)),
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn only_few_name_the_outside() {
    let mut faults = Vec::new();
    for file in sources() {
        for &(outside, allowed) in BANS {
            if file.is_among(allowed) || BESIDE.contains(&file.module.as_str()) {
                continue;
            }
            for (line, text) in file.code() {
                if mentions(text, outside) {
                    faults.push(format!(
                        "{}:{line}: names `{outside}`, which only {allowed:?} may: go through one of them",
                        file.name()
                    ));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn unsafe_stands_only_where_it_is_listed() {
    let all = sources();
    let forbids = |file: &Source| file.text.contains("#![forbid(unsafe_code)]");
    // A `forbid` in the file of a module holds for the files below it too.
    let forbidden: BTreeSet<&str> =
        all.iter().filter(|file| file.is_module_root() && forbids(file)).map(|file| file.module.as_str()).collect();

    let mut faults = Vec::new();
    for file in &all {
        // The file of a module cannot forbid what a file below it may do: there the scan has to do.
        let parent = file.path.ends_with("mod.rs") && !file.code().any(|(_, text)| mentions(text, "unsafe "));
        let exempt = parent || file.is_among(UNSAFE) || BESIDE.contains(&file.module.as_str()) || file.module == "lib";
        if !exempt && !forbids(file) && !forbidden.contains(file.module.as_str()) {
            faults.push(format!("{}: neither listed in tests/floors.rs nor `#![forbid(unsafe_code)]`", file.name()));
        }
    }
    for listed in UNSAFE {
        let mut files = all.iter().filter(|file| file.is_among(&[listed]));
        if !files.any(|file| file.code().any(|(_, text)| mentions(text, "unsafe "))) {
            faults.push(format!("src/{listed} holds no `unsafe`: take it off the list and forbid it there"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_table_names_no_module_that_is_gone() {
    let present: BTreeSet<String> = sources().into_iter().map(|file| file.module).collect();
    let gone: Vec<&str> = FLOORS.iter().map(|row| row.1).filter(|module| !present.contains(*module)).collect();
    assert!(gone.is_empty(), "no source file belongs to {gone:?}: take their rows out of tests/floors.rs");
}

#[test]
fn the_scan_sees_imports_paths_and_groups() {
    let found = |text: &str| used_in(text).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(found("use crate::hub::Hub;"), "hub");
    assert_eq!(found("pub(crate) use crate::{clock, waiter::{End, Clause}};"), "clock waiter");
    assert_eq!(found("let now = crate::clock::now();"), "clock");
    assert_eq!(found("notcrate::hub"), "");
    assert!(mentions("x = libc::read()", "libc::") && !mentions("mylibc::read()", "libc::"));
}

/// A file of the library.
struct Source {
    /// Relative to `src`.
    path: PathBuf,
    /// The top-level module that it belongs to; `lib` for the crate root.
    module: String,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        format!("src/{}", self.path.display())
    }

    /// Whether one of these is this file, or a folder above it.
    fn is_among(&self, paths: &[&str]) -> bool {
        paths
            .iter()
            .any(|path| if path.ends_with('/') { self.path.starts_with(path) } else { self.path == Path::new(path) })
    }

    fn is_module_root(&self) -> bool {
        self.path == Path::new(&format!("{}.rs", self.module)) || self.path == Path::new(&self.module).join("mod.rs")
    }

    /// The numbered lines that are code: no comments, and nothing from a test module on.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines
            .windows(2)
            .position(|pair| pair[0].contains("#[cfg(") && pair[0].contains("test") && pair[1].contains("mod "));
        let code = lines.into_iter().take(tests.unwrap_or(usize::MAX));
        code.enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(index, line)| (index + 1, line))
    }

    /// The top-level names that this file takes from the crate, each with the line of its first mention.
    fn uses(&self) -> Vec<(usize, String)> {
        let mut first = BTreeMap::new();
        // A group may go over several lines: join them up to the semicolon, and count them as its first.
        let mut open: Option<(usize, String)> = None;
        for (line, text) in self.code() {
            let (start, statement) = match open.take() {
                Some((start, before)) => (start, before + text),
                None => (line, text.to_owned()),
            };
            if statement.contains("crate::{") && !statement.contains(';') {
                open = Some((start, statement));
                continue;
            }
            for used in used_in(&statement) {
                first.entry(used).or_insert(start);
            }
        }
        first.into_iter().map(|(used, line)| (line, used)).collect()
    }
}

/// The names that follow `crate::` in a statement, groups included.
fn used_in(statement: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in statement.match_indices("crate::") {
        if statement[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &statement[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => used.extend(identifier(rest)),
            Some(group) => {
                // The members of the group: what follows its brace and each comma, unless deeper braces enclose it.
                let mut depth = 0;
                let mut expects_name = true;
                for (index, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => expects_name = true,
                        c if expects_name && !c.is_whitespace() => {
                            used.extend(identifier(&group[index..]));
                            expects_name = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    used
}

fn identifier(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// Modules are written small; what the root re-exports under `crate::` is not.
fn is_module(name: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name).with_extension("rs").exists()
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name).is_dir()
}

/// Whether `word` stands in `text` and is not the tail of a longer word.
fn mentions(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are ASCII");
            if path.is_dir() {
                if name != "tests" {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let inside = path.strip_prefix(&root).expect("it was found there").to_owned();
                let first = inside.components().next().expect("it has a name").as_os_str().to_str().expect("as above");
                let module = first.trim_end_matches(".rs").to_owned();
                found.push(Source { text: fs::read_to_string(&path).expect("it is text"), path: inside, module });
            }
        }
    }
    found
}
