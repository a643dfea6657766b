//! A full disk: the error comes to who writes, with what was written before kept, and nobody else notices.
//!
//! The disk is a tmpfs of 64 KiB that only the test's child process sees. Where mounting is not permitted, nothing is tested.
#![cfg(target_os = "linux")]

mod common;

use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Count, MS, soon};
use greenroom::fs::{self, File};
use greenroom::{sleep, spawn};

const SIZE: usize = 64 * 1024;
const KEY: &str = "GREENROOM_SMALL_DISK";

/// Runs `test` on a small disk, in a process of its own with mounts of its own, and fails as it fails.
fn on_a_small_disk(name: &str, test: impl FnOnce(&Path)) {
    if let Some(disk) = std::env::var_os(KEY) {
        return soon(|| test(Path::new(&disk)));
    }
    let disk: PathBuf = std::env::temp_dir().join(format!("greenroom-disk-{name}-{}", std::process::id()));
    std::fs::create_dir(&disk).unwrap();
    let mounted = |then: &[&str]| {
        // Its mounts are private, and go with the process.
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs \"$0\" && exec \"$@\""]);
        command.arg(&disk).args(then).env(KEY, &disk).output()
    };
    let permitted = mounted(&["true"]).is_ok_and(|output| output.status.success());
    let this = std::env::current_exe().unwrap();
    let output = permitted.then(|| mounted(&[this.to_str().unwrap(), "--exact", name, "--nocapture"]).unwrap());
    std::fs::remove_dir(&disk).unwrap();
    if let Some(output) = output {
        assert!(output.status.success(), "{}", common::stderr(&output));
    }
}

#[test]
fn a_full_disk_is_the_writer_s_affair() {
    on_a_small_disk("a_full_disk_is_the_writer_s_affair", |disk| {
        let ticks = Count::default();
        let ticker = spawn({
            let ticks = ticks.clone();
            move || {
                loop {
                    sleep(MS);
                    ticks.up();
                }
            }
        });

        let path = disk.join("much");
        let mut file = File::create(&path).unwrap();
        let error = (0..).find_map(|_| file.write_all(&[7; 1000]).err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        // What fitted is there, the last write in part.
        let kept = fs::read(&path).unwrap();
        assert!(
            kept.len() <= SIZE && kept.len() >= SIZE - 4096 && kept.iter().all(|&byte| byte == 7),
            "{}",
            kept.len()
        );

        let other = disk.join("other");
        assert_eq!(fs::write(&other, [1; 8192]).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fs::copy(&path, &other).unwrap_err().kind(), ErrorKind::StorageFull);
        // What is left in a buffer is lost without a panic, as in std.
        let mut buffered = BufWriter::new(File::create(&other).unwrap());
        buffered.write_all(&[1; 100]).unwrap();
        assert_eq!(buffered.flush().unwrap_err().kind(), ErrorKind::StorageFull);
        drop(buffered);

        // With room again, the same file goes on where it was.
        file.set_len(1000).unwrap();
        fs::write(&other, [1; 8192]).unwrap();
        assert_eq!(fs::read(&other).unwrap(), [1; 8192]);
        sleep(5 * MS);
        assert!(ticks.get() > 0);
        ticker.kill();
    });
}

#[test]
fn many_writers_on_a_full_disk_all_hear_of_it() {
    on_a_small_disk("many_writers_on_a_full_disk_all_hear_of_it", |disk| {
        let writers: Vec<_> = (0..20)
            .map(|i| {
                let path = disk.join(i.to_string());
                spawn(move || {
                    let mut file = File::create(path).unwrap();
                    (0..).find_map(|_| file.write_all(&[i; 512]).err()).unwrap().kind()
                })
            })
            .collect();
        for kind in greenroom::joinall(writers) {
            assert_eq!(kind.unwrap(), ErrorKind::StorageFull);
        }
        // No byte is another's, and none is lost.
        let mut total = 0;
        for i in 0..20 {
            let bytes = fs::read(disk.join(i.to_string())).unwrap();
            assert!(bytes.iter().all(|&byte| byte == i));
            total += bytes.len();
        }
        assert!(total <= SIZE && total > SIZE / 2, "{total}");
    });
}
