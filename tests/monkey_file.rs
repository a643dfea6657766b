//! Patched files: native threads make the call, the others run, positions and results are the original's.

#![allow(clippy::multiple_unsafe_ops_per_block, reason = "tables of calls of C")]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use common::{EVER, MS, check, soon};
use greenroom::monkey::{self, Areas};
use greenroom::{idle, joinall, spawn, timeout, yield_now};

fn patch() {
    // SAFETY: tasks of these tests share only what is Send.
    unsafe { monkey::patch(Areas::SOCKET | Areas::TIME | Areas::FILE) };
}

fn patched(body: impl FnOnce() + Send + 'static) {
    patch();
    check(|| {
        let other = spawn(|| greenroom::sleep(EVER));
        spawn(body).join().unwrap();
        other.task().kill();
    });
}

/// A name that is free, and is removed in the end.
struct Path(PathBuf);

impl Path {
    fn new() -> Path {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Path(std::env::temp_dir().join(format!("greenroom-monkey-file-{}-{number}", std::process::id())))
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

/// What the same steps give on a native thread and in a task.
#[track_caller]
fn same<T: std::fmt::Debug + PartialEq + Send + 'static>(case: fn() -> T) -> T {
    patch();
    let native = thread::spawn(case).join().unwrap();
    let task = thread::spawn(move || {
        let other = spawn(|| greenroom::sleep(EVER));
        let result = spawn(case).join().unwrap();
        other.task().kill();
        result
    });
    let task = task.join().unwrap();
    assert_eq!(task, native, "patched, and not");
    task
}

#[test]
fn reads_writes_and_positions_are_the_original_s() {
    same(|| {
        let path = Path::new();
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path.0).unwrap();
        let text: Vec<u8> = (0..1_000_000).map(|i| (i % 251) as u8).collect();
        let mut steps = vec![file.write(&text).unwrap() as u64];
        steps.push(file.stream_position().unwrap());
        steps
            .push(file.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")]).unwrap() as u64);
        steps.push(file.write_at(b"xyz", 10).unwrap() as u64);
        steps.push(file.stream_position().unwrap());
        file.rewind().unwrap();
        let mut all = vec![0; 2_000_000];
        steps.push(file.read(&mut all).unwrap() as u64);
        steps.push(file.read(&mut all).unwrap() as u64);
        steps.push(file.seek(SeekFrom::Start(5)).unwrap());
        let mut part = [0; 10];
        steps.push(file.read(&mut part).unwrap() as u64);
        steps.extend(part.map(u64::from));
        steps.push(file.stream_position().unwrap());
        steps.push(file.read_at(&mut part, 999_999).unwrap() as u64);
        steps.extend(part.map(u64::from));
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        file.set_len(7).unwrap();
        steps.push(file.metadata().unwrap().len());
        steps.push(file.read(&mut part).unwrap() as u64);
        let mut text = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut text).unwrap();
        steps.extend(text.into_iter().map(u64::from));
        steps
    });
}

#[test]
fn errors_are_the_original_s() {
    same(|| {
        let path = Path::new();
        let number = |result: std::io::Result<usize>| result.map_err(|error| error.raw_os_error());
        let mut results = vec![number(File::open(&path.0).map(|_| 0)), number(File::open("/").map(|_| 0))];
        fs::write(&path.0, "text").unwrap();
        results.push(number(OpenOptions::new().write(true).create_new(true).open(&path.0).map(|_| 0)));
        results.push(number(OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&path.0).map(|_| 0)));
        let read_only = File::open(&path.0).unwrap();
        results.push(number((&read_only).write(b"x")));
        results.push(number(read_only.write_at(b"x", 0)));
        let write_only = OpenOptions::new().append(true).open(&path.0).unwrap();
        results.push(number((&write_only).read(&mut [0])));
        results.push(number((&write_only).write(b"more")));
        results.push(number(read_only.read_at(&mut [0; 4], u64::MAX)));
        results.push(number(fs::read(&path.0).map(|text| text.len())));
        results.push(number(File::open("/tmp").unwrap().read(&mut [0])));
        // SAFETY: null is answered by an error.
        unsafe {
            results.push(Ok(libc::open(std::ptr::null(), 0) as usize));
            results.push(Ok(libc::read(read_only.as_raw_fd(), std::ptr::null_mut(), 4) as usize));
            results.push(Ok(libc::read(read_only.as_raw_fd(), 8 as *mut _, 4) as usize));
            results.push(Ok(libc::write(write_only.as_raw_fd(), 8 as *const _, 4) as usize));
        }
        // The mode counts.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path.0.with_extension("mode"));
        results.push(Ok(std::os::unix::fs::MetadataExt::mode(&made.unwrap().metadata().unwrap()) as usize));
        fs::remove_file(path.0.with_extension("mode")).unwrap();
        results
    });
}

#[test]
fn many_tasks_write_one_file() {
    patched(|| {
        let path = Path::new();
        let file = OpenOptions::new().append(true).create_new(true).open(&path.0).unwrap();
        let writers: Vec<_> = (0..20_u8)
            .map(|id| {
                let file = file.try_clone().unwrap();
                spawn(move || {
                    for _ in 0..20 {
                        (&file).write_all(&[id; 100]).unwrap();
                    }
                })
            })
            .collect();
        joinall(writers).into_iter().for_each(Result::unwrap);
        let text = fs::read(&path.0).unwrap();
        assert_eq!(text.len(), 20 * 20 * 100);
        for block in text.chunks(100) {
            assert!(block.iter().all(|byte| *byte == block[0]));
        }
    });
}

#[test]
fn tasks_that_share_a_position_read_each_part_once() {
    patched(|| {
        let path = Path::new();
        fs::write(&path.0, (0..1000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let file = std::rc::Rc::new(File::open(&path.0).unwrap());
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let file = file.clone();
                spawn(move || {
                    let mut got = Vec::new();
                    let mut part = [0; 4];
                    while (&*file).read(&mut part).unwrap() == 4 {
                        got.push(u32::from_le_bytes(part));
                        yield_now();
                    }
                    got
                })
            })
            .collect();
        let mut got: Vec<u32> = joinall(readers).into_iter().flat_map(Result::unwrap).collect();
        got.sort_unstable();
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
    });
}

#[test]
fn opening_a_fifo_parks_only_the_task_and_can_be_killed() {
    patched(|| {
        let path = Path::new();
        let name = std::ffi::CString::new(path.0.to_str().unwrap()).unwrap();
        // SAFETY: a name.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let killed = spawn({
            let path = path.0.clone();
            move || File::open(path).unwrap_err().raw_os_error()
        });
        idle_for_natives();
        killed.task().kill_nowait();
        assert_eq!(soon(|| killed.join().unwrap()), Some(libc::ECANCELED));

        let reader = spawn({
            let path = path.0.clone();
            move || {
                let mut text = String::new();
                File::open(path).unwrap().read_to_string(&mut text).unwrap();
                text
            }
        });
        idle_for_natives();
        let mut writer = OpenOptions::new().write(true).open(&path.0).unwrap();
        writer.write_all(b"through").unwrap();
        drop(writer);
        assert_eq!(soon(|| reader.join().unwrap()), "through");
    });
}

/// Gives native threads the time to begin; nothing is wrong if they have not.
fn idle_for_natives() {
    idle();
    greenroom::sleep(MS);
}

#[test]
fn a_kill_comes_after_the_write() {
    patched(|| {
        let path = Path::new();
        for _ in 0..20 {
            let task = spawn({
                let path = path.0.clone();
                move || {
                    let mut file = File::create(path).unwrap();
                    yield_now();
                    let first = file.write(&vec![1; 300_000]);
                    let second = file.write(b"x");
                    (first.ok(), second.map_err(|error| error.raw_os_error()))
                }
            });
            let limit = timeout(EVER, || {
                while !path.0.exists() {
                    yield_now();
                }
                greenroom::sleep(MS / 10);
            });
            limit.unwrap();
            task.task().kill_nowait();
            let (first, second) = task.join().unwrap_or((None, Ok(0)));
            let length = fs::metadata(&path.0).unwrap().len() as usize;
            // Whatever came first, what was counted is there.
            assert_eq!(length, first.unwrap_or(0) + second.unwrap_or(0));
            fs::remove_file(&path.0).unwrap();
        }
    });
}

#[test]
fn other_tasks_run_while_a_file_is_written() {
    patched(|| {
        let path = Path::new();
        let turns = common::Count::default();
        let other = spawn({
            let turns = turns.clone();
            move || {
                loop {
                    turns.up();
                    yield_now();
                }
            }
        });
        let mut file = File::create(&path.0).unwrap();
        let before = turns.get();
        file.write_all(&vec![0; 8 << 20]).unwrap();
        file.sync_all().unwrap();
        assert!(turns.get() > before + 10, "{} turns", turns.get() - before);
        other.task().kill();
        assert_eq!(fs::copy(&path.0, path.0.with_extension("copy")).unwrap(), 8 << 20);
        fs::remove_file(path.0.with_extension("copy")).unwrap();
    });
}

#[test]
fn not_found_is_still_not_found() {
    patched(|| {
        assert_eq!(fs::read("/nowhere").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(fs::read_to_string("/proc/self/status").unwrap().contains("Pid:"));
    });
}
