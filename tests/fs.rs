//! Files: std's scenarios, and what tasks add to them (rules 10, 11, 12, 20, 21).

mod common;

use std::cell::Cell;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, DirEntryExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use common::{EVER, Log, MS, check, in_child, soon};
use greenroom::fs::{self, File, FileTimes, OpenOptions, TryLockError};
use greenroom::offload::default_pool;
use greenroom::{idle, sleep, spawn, timeout, yield_now};

/// A directory that goes with its test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("greenroom-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn fifo(&self) -> PathBuf {
        let path = self.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn with_dir(body: impl FnOnce(&Dir) + Send + 'static) {
    check(move || body(&Dir::new()));
}

/// How many descriptors of the process lead to this path.
fn open_at(path: &Path) -> usize {
    let links =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link == path).count()
}

/// How many threads are in open(2).
fn opening() -> usize {
    let opens = format!("{} ", libc::SYS_openat);
    let call = |path: PathBuf| std::fs::read_to_string(path.join("syscall")).unwrap_or_default();
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads.filter(|thread| call(thread.as_ref().unwrap().path()).starts_with(&opens)).count()
}

fn wait_until(what: impl Fn() -> bool) {
    soon(|| {
        while !what() {
            sleep(MS);
        }
    });
}

fn send_sync<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}

#[test]
fn a_file_can_be_shared() {
    send_sync::<File>();
    send_sync::<OpenOptions>();
}

// library/std/src/fs/tests.rs
#[test]
fn std_file_test_io_smoke_test() {
    with_dir(|dir| {
        let message = "it's alright. have a good time";
        let filename = dir.join("file_rt_io_file_test.txt");
        {
            let mut write_stream = File::create(&filename).unwrap();
            write_stream.write_all(message.as_bytes()).unwrap();
        }
        {
            let mut read_stream = File::open(&filename).unwrap();
            let mut read_buf = [0; 1028];
            let read_str = match read_stream.read(&mut read_buf).unwrap() {
                0 => panic!("shouldn't happen"),
                n => std::str::from_utf8(&read_buf[..n]).unwrap().to_string(),
            };
            assert_eq!(read_str, message);
        }
        fs::remove_file(&filename).unwrap();
    });
}

#[test]
fn std_invalid_path_raises() {
    with_dir(|dir| {
        let filename = dir.join("file_that_does_not_exist.txt");
        assert_eq!(File::open(&filename).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs::remove_file(&filename).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs::read(&filename).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs::read_to_string("a\0b").unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn std_file_test_io_non_positional_read() {
    with_dir(|dir| {
        let message = "ten-four";
        let mut read_mem = [0; 8];
        let filename = dir.join("file_rt_io_file_test_positional.txt");
        File::create(&filename).unwrap().write_all(message.as_bytes()).unwrap();
        let mut read_stream = File::open(&filename).unwrap();
        read_stream.read_exact(&mut read_mem[0..4]).unwrap();
        read_stream.read_exact(&mut read_mem[4..8]).unwrap();
        assert_eq!(&read_mem, message.as_bytes());
        assert_eq!(read_stream.read(&mut read_mem).unwrap(), 0);
    });
}

#[test]
fn std_file_test_io_seek_and_write() {
    with_dir(|dir| {
        let filename = dir.join("file_rt_io_file_test_seek_and_write.txt");
        let mut rw_stream = File::create(&filename).unwrap();
        rw_stream.write_all(b"food-is-yummy").unwrap();
        assert_eq!(rw_stream.seek(SeekFrom::Start(3)).unwrap(), 3);
        rw_stream.write_all(b"-the-bar!!").unwrap();
        assert_eq!(rw_stream.stream_position().unwrap(), 13);
        drop(rw_stream);
        let mut file = File::open(&filename).unwrap();
        assert_eq!(file.seek(SeekFrom::End(-4)).unwrap(), 9);
        let mut end = String::new();
        assert_eq!(file.read_to_string(&mut end).unwrap(), 4);
        assert_eq!(end, "ar!!");
        assert_eq!(fs::read_to_string(&filename).unwrap(), "foo-the-bar!!");
        assert_eq!(file.seek(SeekFrom::Current(-5)).unwrap(), 8);
        assert_eq!(file.seek(SeekFrom::End(-100)).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(file.stream_position().unwrap(), 8);
    });
}

#[test]
fn std_file_test_io_eof() {
    with_dir(|dir| {
        let filename = dir.join("file_rt_io_file_test_eof.txt");
        let mut file = OpenOptions::new().create_new(true).write(true).read(true).open(&filename).unwrap();
        let mut buf = [0; 256];
        for _ in 0..2 {
            assert_eq!(file.read(&mut buf).unwrap(), 0);
        }
        file.write_all(b"x").unwrap();
        assert_eq!(file.read(&mut buf).unwrap(), 0);
        assert!(file.read_exact(&mut buf[..1]).is_err());
        file.rewind().unwrap();
        assert_eq!(file.read(&mut buf).unwrap(), 1);
        assert_eq!(File::create_new(&filename).unwrap_err().kind(), ErrorKind::AlreadyExists);
    });
}

#[test]
fn std_file_test_io_read_write_at() {
    with_dir(|dir| {
        let filename = dir.join("file_rt_io_file_test_read_write_at.txt");
        let mut buf = [0; 256];
        let oo = OpenOptions::new().create_new(true).write(true).read(true).clone();
        let mut rw = oo.open(&filename).unwrap();
        assert_eq!(rw.write_at(b"asdf", 5).unwrap(), 4);
        assert_eq!(rw.stream_position().unwrap(), 0);
        assert_eq!(rw.read_at(&mut buf, 5).unwrap(), 4);
        assert_eq!(&buf[..4], b"asdf");
        assert_eq!(rw.stream_position().unwrap(), 0);
        rw.write_all_at(b"zz", 0).unwrap();
        rw.read_exact_at(&mut buf[..2], 0).unwrap();
        assert_eq!(&buf[..2], b"zz");
        assert_eq!(rw.read_at(&mut buf, 1 << 40).unwrap(), 0);
        assert_eq!(rw.read_at(&mut buf, u64::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(rw.read(&mut buf).unwrap(), 9);
    });
}

#[test]
fn std_file_test_vectored() {
    with_dir(|dir| {
        let filename = dir.join("vectored");
        let mut file = File::create_new(&filename).unwrap();
        assert_eq!(file.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cde")]).unwrap(), 5);
        file.rewind().unwrap();
        let (mut a, mut b) = ([0; 3], [0; 4]);
        assert_eq!(file.read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)]).unwrap(), 5);
        assert_eq!((&a, &b[..2]), (b"abc", &b"de"[..]));
    });
}

#[test]
fn std_attributes() {
    with_dir(|dir| {
        let path = dir.join("file");
        let file = File::create(&path).unwrap();
        file.set_len(10).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 10);
        assert_eq!(fs::metadata(&path).unwrap().len(), 10);
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(fs::metadata(&path).unwrap().permissions().readonly());
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        file.set_modified(then).unwrap();
        assert_eq!(file.metadata().unwrap().modified().unwrap(), then);
        file.set_times(FileTimes::new().set_accessed(then)).unwrap();
        assert_eq!(file.metadata().unwrap().accessed().unwrap(), then);
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        let read_only = File::open(&path).unwrap();
        assert_eq!(read_only.set_len(5).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!({ &read_only }.write(b"x").unwrap_err().raw_os_error(), Some(libc::EBADF));
        let special = OpenOptions::new().write(true).create(true).mode(0o640).open(dir.join("mode")).unwrap();
        assert_eq!(special.metadata().unwrap().mode() & 0o777 & !0o022, 0o640);
    });
}

#[test]
fn std_names() {
    with_dir(|dir| {
        let (one, two, three) = (dir.join("one"), dir.join("two"), dir.join("three"));
        fs::write(&one, b"text").unwrap();
        fs::rename(&one, &two).unwrap();
        assert!(!fs::exists(&one).unwrap() && fs::exists(&two).unwrap());
        assert_eq!(fs::copy(&two, &one).unwrap(), 4);
        fs::hard_link(&one, &three).unwrap();
        assert_eq!(fs::metadata(&three).unwrap().nlink(), 2);
        std::os::unix::fs::symlink("one", dir.join("link")).unwrap();
        assert_eq!(fs::read_link(dir.join("link")).unwrap(), Path::new("one"));
        assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
        assert_eq!(fs::canonicalize(dir.join("link")).unwrap(), fs::canonicalize(&one).unwrap());
        fs::remove_file(&one).unwrap();
        assert_eq!(fs::read(&three).unwrap(), b"text");
        fs::write(&three, [0xff, 0xfe]).unwrap();
        assert_eq!(fs::read_to_string(&three).unwrap_err().kind(), ErrorKind::InvalidData);
    });
}

#[test]
fn std_directories() {
    with_dir(|dir| {
        fs::create_dir(dir.join("a")).unwrap();
        assert_eq!(fs::create_dir(dir.join("a")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        fs::create_dir_all(dir.join("a/b/c")).unwrap();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("a/d/e")).unwrap();
        assert_eq!(fs::metadata(dir.join("a/d/e")).unwrap().mode() & 0o777, 0o700);
        // More than one batch.
        for n in 0..600 {
            fs::write(dir.join(&format!("a/b/{n}")), "").unwrap();
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(dir.join("a/b")).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.ino(), entry.metadata().unwrap().ino());
            assert_eq!(entry.file_type().unwrap().is_dir(), entry.file_name() == "c");
            assert_eq!(entry.path(), dir.join("a/b").join(entry.file_name()));
            names.push(entry.file_name());
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 601);
        assert_eq!(fs::remove_dir(dir.join("a/b")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        fs::remove_dir(dir.join("a/b/c")).unwrap();
        fs::remove_dir_all(dir.join("a")).unwrap();
        assert_eq!(fs::read_dir(dir.join("a")).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(File::open(&dir.0).unwrap().read(&mut [0]).is_err());
    });
}

#[test]
fn large_files_come_whole() {
    with_dir(|dir| {
        let data: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
        let path = dir.join("large");
        fs::write(&path, &data).unwrap();
        assert!(fs::read(&path).unwrap() == data);
        let mut file = File::open(&path).unwrap();
        let mut all = vec![0; data.len()];
        file.read_exact(&mut all).unwrap();
        assert!(all == data);
        assert_eq!(std::io::copy(&mut File::open(&path).unwrap(), &mut std::io::sink()).unwrap(), data.len() as u64);
        // What is kept in a buffer stays before what is read.
        let mut more = vec![7];
        file.rewind().unwrap();
        file.read_to_end(&mut more).unwrap();
        assert!(more[0] == 7 && more[1..] == data);
    });
}

// /proc gives files without a size, which know no read without waiting.
#[test]
fn files_of_the_system() {
    check(|| {
        assert!(fs::read_to_string("/proc/self/status").unwrap().contains("Threads"));
        let mut null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        assert_eq!(null.read(&mut [0; 8]).unwrap(), 0);
        null.write_all(b"gone").unwrap();
        let mut zeroes = [1; 9];
        File::open("/dev/zero").unwrap().read_exact(&mut zeroes).unwrap();
        File::open("/dev/urandom").unwrap().read_exact(&mut [0; 9]).unwrap();
        assert_eq!(zeroes, [0; 9]);
    });
}

#[test]
fn descriptors_and_std_files() {
    with_dir(|dir| {
        let path = dir.join("file");
        let file = File::from(std::fs::File::create(&path).unwrap());
        { &file }.write_all(b"one").unwrap();
        let fd: OwnedFd = file.into();
        let raw = File::from(fd).into_raw_fd();
        // SAFETY: it was just given away.
        let file = unsafe { File::from_raw_fd(raw) };
        let mut file: std::fs::File = file.into();
        file.write_all(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"onetwo");
    });
}

// Rule 21.
#[test]
fn others_run_while_a_disk_is_waited_for() {
    with_dir(|dir| {
        let ticks = Rc::new(Cell::new(0_u32));
        let counter = ticks.clone();
        let ticker = spawn(move || {
            loop {
                counter.set(counter.get() + 1);
                yield_now();
            }
        });
        let path = dir.join("file");
        let mut file = File::create(&path).unwrap();
        // What is done before the caller has looked does not park it; not every time.
        let before = ticks.get();
        for _ in 0..20 {
            file.write_all(&[1; 4096]).unwrap();
            file.sync_all().unwrap();
        }
        assert!(ticks.get() > before, "nobody ran while 20 writes went to the disk");
        ticker.kill();
    });
}

// What is in memory needs no thread: all happens in one turn.
#[test]
fn files_do_not_stand_in_line_behind_the_jobs_of_the_program() {
    with_dir(|dir| {
        // One thousand, and sixteen threads for them, which wait until this is over.
        let over = Arc::new(RwLock::new(()));
        let running = over.write().unwrap();
        let jobs: Vec<_> = (0..1000)
            .map(|_| {
                let over = over.clone();
                default_pool().spawn(move || drop(over.read()))
            })
            .collect();

        let path = dir.join("file");
        soon(|| fs::write(&path, "some text")).unwrap();
        assert_eq!(soon(|| fs::read(&path)).unwrap(), b"some text");
        assert_eq!(soon(|| fs::metadata(&path)).unwrap().len(), 9);
        // A kill, which comes after the write that it meets, does not wait for them either.
        let written = path.clone();
        let writer = spawn(move || {
            let mut file = File::create(written).unwrap();
            loop {
                file.write_all(b"more").unwrap();
            }
        });
        yield_now();
        soon(|| writer.kill());

        assert!(!jobs.iter().any(|job| job.is_finished()));
        drop(running);
        jobs.into_iter().for_each(|job| job.join().unwrap());
    });
}

#[test]
fn a_cached_read_switches_only_now_and_then() {
    with_dir(|dir| {
        let path = dir.join("file");
        fs::write(&path, [5; 100]).unwrap();
        let file = File::open(&path).unwrap();
        file.read_at(&mut [0; 100], 0).unwrap();
        let turns = Rc::new(Cell::new(0));
        let counter = turns.clone();
        let other = spawn(move || {
            loop {
                counter.set(counter.get() + 1);
                yield_now();
            }
        });
        for _ in 0..1000 {
            assert_eq!(file.read_at(&mut [0; 100], 0).unwrap(), 100);
        }
        assert!((1..500).contains(&turns.get()), "{} turns of another task during 1000 reads", turns.get());
        other.kill();
    });
}

#[test]
fn tasks_that_share_a_file_have_their_turns() {
    with_dir(|dir| {
        let path = dir.join("file");
        let file = Rc::new(File::create_new(&path).unwrap());
        let tasks: Vec<_> = (0..20_u8)
            .map(|n| {
                let file = file.clone();
                spawn(move || { &*file }.write_all(&[n; 10]).unwrap())
            })
            .collect();
        greenroom::joinall(tasks);
        let all = fs::read(&path).unwrap();
        let order: Vec<u8> = all.chunks(10).map(|chunk| chunk[0]).collect();
        assert_eq!(order, (0..20).collect::<Vec<u8>>());
    });
}

// Rule 10: what a killed task has begun is done, and what it had not begun is not; no byte is taken and lost.
#[test]
fn a_kill_does_not_cut_a_read_short() {
    with_dir(|dir| {
        let path = dir.join("file");
        fs::write(&path, [3; 100]).unwrap();
        // Not in memory at once, as this system tells nothing of its files.
        for _ in 0..50 {
            let file = Rc::new(File::open(&path).unwrap());
            let (reader, got) = (file.clone(), Rc::new(Cell::new(0)));
            let count = got.clone();
            let task = spawn(move || {
                let mut all = Vec::new();
                // One job for the whole file, whatever is in memory.
                { &*reader }.read_to_end(&mut all).unwrap();
                count.set(all.len());
            });
            yield_now();
            task.kill();
            let left = { &*file }.read_to_end(&mut Vec::new()).unwrap();
            assert_eq!(got.get() + left, 100);
        }
    });
}

// Each call is held together, the loop around them is not.
#[test]
fn a_task_that_only_writes_can_be_killed() {
    with_dir(|dir| {
        let path = dir.join("file");
        let file = File::create(&path).unwrap();
        let other = file.try_clone().unwrap();
        let writing = spawn(move || {
            loop {
                file.write_at(b"x", 0).unwrap();
            }
        });
        sleep(MS);
        soon(|| writing.kill());
        let elapsed = timeout(5 * MS, || {
            loop {
                { &other }.write_all_at(b"y", 0).unwrap();
            }
        });
        assert!(elapsed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"y");
    });
}

#[test]
fn a_lock_keeps_other_open_files_out() {
    with_dir(|dir| {
        let path = dir.join("file");
        let (one, two) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        one.lock().unwrap();
        assert!(matches!(two.try_lock(), Err(TryLockError::WouldBlock)));
        assert!(matches!(two.try_lock_shared(), Err(TryLockError::WouldBlock)));
        let log = Log::default();
        let waiting = spawn({
            let log = log.clone();
            move || {
                two.lock().unwrap();
                log.add("second");
                two.unlock().unwrap();
            }
        });
        sleep(5 * MS);
        log.add("first");
        one.unlock().unwrap();
        waiting.join().unwrap();
        assert_eq!(log.take(), ["first", "second"]);
        let (three, four) = (File::open(&path).unwrap(), File::open(&path).unwrap());
        three.lock_shared().unwrap();
        four.try_lock_shared().unwrap();
        assert!(matches!(one.try_lock(), Err(TryLockError::WouldBlock)));
    });
}

// The thread that waits for the lock gets it in the end, and must give it back.
#[test]
fn a_lock_that_comes_after_its_owner_was_killed_is_given_back() {
    with_dir(|dir| {
        let path = dir.join("file");
        let (one, two, three) = (File::create(&path).unwrap(), File::open(&path).unwrap(), File::open(&path).unwrap());
        one.lock().unwrap();
        let two = Rc::new(two);
        let waits = two.clone();
        let waiting = spawn(move || waits.lock());
        sleep(5 * MS);
        soon(|| waiting.kill());
        one.unlock().unwrap();
        soon(|| three.lock().unwrap());
        drop(two);
    });
}

#[test]
fn more_tasks_than_threads_can_wait_for_a_lock() {
    with_dir(|dir| {
        let path = dir.join("file");
        let holder = File::create(&path).unwrap();
        holder.lock().unwrap();
        let waiting: Vec<_> = (0..40)
            .map(|_| {
                let path = path.clone();
                spawn(move || File::open(path).unwrap().lock().unwrap())
            })
            .collect();
        sleep(5 * MS);
        // The pool for files has threads left.
        soon(|| fs::write(&path, "x").unwrap());
        holder.unlock().unwrap();
        soon(|| greenroom::joinall(waiting));
    });
}

#[test]
fn opening_a_fifo_waits_for_the_other_side() {
    with_dir(|dir| {
        let path = dir.fifo();
        let log = Log::default();
        let reading = spawn({
            let (path, log) = (path.clone(), log.clone());
            move || {
                let mut file = File::open(path).unwrap();
                log.add("open");
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            }
        });
        sleep(5 * MS);
        log.add("others run");
        let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
        writer.write_all(b"part").unwrap();
        writer.write_all(b" and part").unwrap();
        drop(writer);
        assert_eq!(reading.join().unwrap(), "part and part");
        assert_eq!(log.take(), ["others run", "open"]);
    });
}

#[test]
fn a_reader_of_a_fifo_parks_alone() {
    with_dir(|dir| {
        let path = dir.fifo();
        // Both sides of it: nothing is waited for.
        let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let both = Rc::new(both);
        let reader = both.clone();
        let reading = spawn(move || {
            let mut word = [0; 4];
            { &*reader }.read_exact(&mut word).unwrap();
            word
        });
        idle();
        assert!(timeout(MS, || { &*both }.read(&mut [0])).is_err());
        { &*both }.write_all(b"word").unwrap();
        assert_eq!(&reading.join().unwrap(), b"word");
        // And is not in non-blocking mode.
        // SAFETY: takes integers only.
        let flags = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&*both), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        // A full one parks its writer.
        let mut filled = 0;
        while let Ok(n) = timeout(MS, || { &*both }.write(&[b'.'; 4096]).unwrap()) {
            filled += n;
        }
        assert!(filled >= 4096);
        let writer = both.clone();
        let writing = spawn(move || { &*writer }.write_all(&[b'x'; 10_000]).unwrap());
        idle();
        let mut all = vec![0; filled + 10_000];
        { &*both }.read_exact(&mut all).unwrap();
        writing.join().unwrap();
        assert!(all[filled..].iter().all(|&byte| byte == b'x'));
    });
}

// A fifo is looked at and then read: no other handle of the process comes in between, and no thread is left waiting in the kernel.
#[test]
fn readers_of_a_fifo_on_two_hubs_take_turns() {
    with_dir(|dir| {
        let path = dir.fifo();
        let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let reader = both.try_clone().unwrap();
                std::thread::spawn(move || {
                    // The last byte for each is a zero.
                    let (mut sum, mut byte) = (0, [0]);
                    loop {
                        // Should this hub be stopped by the other's byte, its timer would be late, and the test would hang.
                        match timeout(MS, || { &reader }.read_exact(&mut byte).unwrap()) {
                            Ok(()) if byte[0] == 0 => return sum,
                            Ok(()) => sum += u32::from(byte[0]),
                            Err(_) => {}
                        }
                    }
                })
            })
            .collect();
        let mut writer = both;
        for n in 0..5000 {
            writer.write_all(&[1]).unwrap();
            if n % 8 == 0 {
                yield_now();
            }
        }
        writer.write_all(&[0, 0]).unwrap();
        let sums: Vec<_> = threads.into_iter().map(|thread| soon(|| thread.join().unwrap())).collect();
        assert_eq!(sums.iter().sum::<u32>(), 5000);
    });
}

#[test]
fn a_fifo_whose_other_side_has_gone() {
    with_dir(|dir| {
        let path = dir.fifo();
        let opening = {
            let path = path.clone();
            spawn(move || OpenOptions::new().write(true).open(path).unwrap())
        };
        let mut reader = File::open(&path).unwrap();
        let mut writer = opening.join().unwrap();
        writer.write_all(b"x").unwrap();
        let reading = spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            (reader, all)
        });
        idle();
        drop(writer);
        let (mut reader, all) = reading.join().unwrap();
        assert_eq!(all, b"x");
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);

        let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
        drop(reader);
        // A child of another test may hold the reading end for the moment between its fork and its exec.
        let error = soon(|| {
            loop {
                match writer.write_all(b"x") {
                    Ok(()) => yield_now(),
                    Err(error) => return error,
                }
            }
        });
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

// Neither a descriptor nor a thread stays behind: `in_child`, so that both can be counted.
#[test]
fn a_killed_opener_leaves_nothing() {
    let output = in_child("a_killed_opener_leaves_nothing", || {
        with_dir(|dir| {
            let path = dir.fifo();
            for write in [false, true] {
                let options = OpenOptions::new().read(!write).write(write).clone();
                let openers: Vec<_> = (0..30)
                    .map(|_| {
                        let (options, path) = (options.clone(), path.clone());
                        spawn(move || drop(options.open(path).unwrap()))
                    })
                    .collect();
                wait_until(|| opening() == 30);
                soon(|| greenroom::killall(&openers));
                wait_until(|| opening() == 0);
                wait_until(|| open_at(&path) == 0);
                drop(openers);
            }
        });
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{}", common::stderr(&output));
    }
}

#[test]
fn a_timeout_ends_an_open() {
    with_dir(|dir| {
        let path = dir.fifo();
        assert!(timeout(5 * MS, || File::open(&path)).is_err());
        // Its thread is let go by a writer of a moment, which would let the next reader through too.
        wait_until(|| opening() == 0 && open_at(&path) == 0);
        let opening = {
            let path = path.clone();
            spawn(move || File::open(path).unwrap().read(&mut [0; 4]).unwrap())
        };
        let mut writer = timeout(EVER, || OpenOptions::new().write(true).open(&path)).unwrap().unwrap();
        writer.write_all(b"four").unwrap();
        assert_eq!(opening.join().unwrap(), 4);
    });
}

#[test]
fn files_can_be_used_in_jobs_and_on_threads() {
    with_dir(|dir| {
        let path = dir.join("file");
        let inner = path.clone();
        greenroom::offload(move || fs::write(inner, "job").unwrap());
        let inner = path.clone();
        assert_eq!(std::thread::spawn(move || fs::read_to_string(inner).unwrap()).join().unwrap(), "job");
    });
}

// Where nothing can park the calls block, as std's.
#[test]
fn a_file_can_be_written_in_the_panic_hook() {
    let output = in_child("a_file_can_be_written_in_the_panic_hook", || {
        let dir = Dir::new();
        let path = dir.join("file");
        let inner = path.clone();
        std::panic::set_hook(Box::new(move |_| {
            fs::write(&inner, "from the hook").unwrap();
            assert_eq!(fs::read_to_string(&inner).unwrap(), "from the hook");
        }));
        assert!(spawn(|| panic!("!")).join().is_err());
        let _default = std::panic::take_hook();
        assert_eq!(fs::read_to_string(&path).unwrap(), "from the hook");
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{}", common::stderr(&output));
    }
}
