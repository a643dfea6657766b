//! Looking at 1000 descriptors of which some are ready, against the bare system call: the wait itself is left out, for it is the hub's.

use std::hint::black_box;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use greenroom::selectors::{DefaultSelector, EPOLLIN, EVENT_READ, Epoll, POLLIN, Poll, select};

const DESCRIPTORS: usize = 1000;

fn selectors(c: &mut Criterion) {
    for ready in [1, 100, DESCRIPTORS] {
        let mut group = c.benchmark_group(format!("selectors/{ready}_of_{DESCRIPTORS}"));
        group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        let pairs: Vec<_> = (0..DESCRIPTORS).map(|_| UnixStream::pair().expect("descriptors")).collect();
        for (_, writer) in pairs.iter().step_by(DESCRIPTORS / ready) {
            (&*writer).write_all(b"x").expect("room");
        }
        greenroom::yield_now();
        bare(&mut group, &pairs, ready);
        greenroom(&mut group, &pairs, ready);
        group.finish();
    }
}

/// The calls as a C program makes them, with buffers that it keeps.
fn bare(group: &mut BenchmarkGroup<'_, WallTime>, pairs: &[(UnixStream, UnixStream)], ready: usize) {
    let entry = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<_> = pairs.iter().map(|(reader, _)| entry(reader.as_raw_fd())).collect();
    group.bench_function("bare_poll", |b| {
        b.iter(|| {
            // SAFETY: so many entries, alive for the call.
            let count = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, 0) };
            assert_eq!(count as usize, ready);
        });
    });

    // SAFETY: no pointers. It stays open.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    for (reader, _) in pairs {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: reader.as_raw_fd() as u64 };
        // SAFETY: the event is alive for the call.
        let result = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, reader.as_raw_fd(), &raw mut event) };
        assert_eq!(result, 0);
    }
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; DESCRIPTORS];
    group.bench_function("bare_epoll_wait", |b| {
        b.iter(|| {
            // SAFETY: room for so many, alive for the call.
            let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), DESCRIPTORS as i32, 0) };
            assert_eq!(count as usize, ready);
        });
    });
    // SAFETY: made above, and not used any more.
    unsafe { libc::close(epoll) };
}

fn greenroom(group: &mut BenchmarkGroup<'_, WallTime>, pairs: &[(UnixStream, UnixStream)], ready: usize) {
    let list: Vec<&dyn AsRawFd> = pairs.iter().map(|(reader, _)| reader as _).collect();
    group.bench_function("select", |b| {
        b.iter(|| assert_eq!(select(black_box(&list), &[], &[], None).expect("all are open").read.len(), ready));
    });

    let poll = Poll::new();
    let epoll = Epoll::new().expect("a descriptor");
    let selector = DefaultSelector::new().expect("a descriptor");
    for (reader, _) in pairs {
        poll.register(reader, POLLIN).expect("a number");
        epoll.register(reader, EPOLLIN).expect("it is open");
        selector.register(reader, EVENT_READ, ()).expect("it is open");
    }
    group.bench_function("Poll", |b| b.iter(|| assert_eq!(poll.poll(None).expect("all are open").len(), ready)));
    group.bench_function("Epoll", |b| {
        b.iter(|| assert_eq!(epoll.poll(None, DESCRIPTORS).expect("it is open").len(), ready));
    });
    group.bench_function("DefaultSelector", |b| {
        b.iter(|| assert_eq!(selector.select(None).expect("it is open").len(), ready));
    });
}

criterion_group!(benches, selectors);
criterion_main!(benches);
