//! Properties of stacks. What ends a process runs in a child: the same test binary, told by a variable to be one.

use std::collections::BTreeMap;
use std::env;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, Output};
use std::ptr;
use std::thread;

use corosensei::stack::StackPointer;

use super::*;

#[test]
fn reuse_is_last_in_first_out() {
    on_new_thread(|| {
        let [first, second] = [Stack::new(DEFAULT_SIZE).unwrap(), Stack::new(DEFAULT_SIZE).unwrap()];
        let (first_base, second_base) = (first.base(), second.base());
        drop(first);
        drop(second);
        assert_eq!(Stack::new(DEFAULT_SIZE).unwrap().base(), second_base);
        let [third, fourth] = [Stack::new(DEFAULT_SIZE).unwrap(), Stack::new(DEFAULT_SIZE).unwrap()];
        assert_eq!((third.base(), fourth.base()), (second_base, first_base));
    });
}

#[test]
fn a_stack_has_the_size_asked_for_but_for_its_colour() {
    for asked in [0, 1, 16 << 10, (16 << 10) + 1, 100_000, DEFAULT_SIZE, 8 << 20, 1 << 30] {
        let stack = Stack::new(asked).unwrap();
        let usable = asked.max(16 << 10).next_power_of_two();
        assert!((usable - 1536..=usable).contains(&stack.size()), "{asked}: {}", stack.size());
        assert_eq!(stack.base() % 16, 0);
        assert_eq!(stack.limit() % memory::page_size(), 0);
    }
    for asked in [(1 << 30) + 1, usize::MAX] {
        assert_eq!(Stack::new(asked).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn neighbours_differ_in_colour_and_leave_most_of_a_page() {
    on_new_thread(|| {
        let stacks: Vec<_> = (0..100).map(|_| Stack::new(DEFAULT_SIZE).unwrap()).collect();
        let page = memory::page_size();
        let colours: Vec<_> = stacks.iter().map(|stack| stack.base().next_multiple_of(page) - stack.base()).collect();
        assert!(colours.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(colours.iter().all(|&colour| colour <= page - 2560));
    });
}

#[test]
fn a_handle_is_small() {
    assert!(size_of::<Stack>() <= 32);
}

#[test]
fn live_stacks_never_overlap_and_all_come_back() {
    on_new_thread(|| {
        let mut live: BTreeMap<usize, Stack> = BTreeMap::new();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            if random.usize(..1000) > live.len() {
                let stack = Stack::new(1 << random.u32(10..20)).unwrap();
                let below = live.range(..stack.limit()).next_back();
                assert!(below.is_none_or(|(_, below)| below.base() <= stack.limit()));
                let above = live.range(stack.limit()..).next();
                assert!(above.is_none_or(|(_, above)| above.limit() >= stack.base()));
                live.insert(stack.limit(), stack);
            } else {
                let limit = *live.keys().nth(random.usize(..live.len())).unwrap();
                live.remove(&limit);
            }
            if random.usize(..500) == 0 {
                trim();
            }
            assert_eq!(super::live(), live.len());
        }
        live.clear();
        assert_eq!(super::live(), 0);
    });
}

#[test]
fn trimming_gives_back_the_oldest_and_keeps_guards() {
    on_new_thread(|| {
        let stacks: Vec<_> = (0..400).map(|_| Stack::new(DEFAULT_SIZE).unwrap()).collect();
        let (page, stride) = (memory::page_size(), stride_of(class_for(DEFAULT_SIZE).unwrap()));
        let limits: Vec<_> = stacks.iter().map(Stack::limit).collect();
        for limit in &limits {
            // SAFETY: of a stack's slot, all but the guard is its memory. The stack is alive, and nothing runs on it.
            unsafe { ptr::write_bytes((limit + page) as *mut u8, 1, stride - page) };
        }
        assert!(!trim(), "all are in use");
        drop(stacks);

        assert!(trim(), "336 are more than one batch");
        assert!(!trim());
        let resident: Vec<_> = limits.iter().map(|limit| resident_pages(limit + page, stride - page)).collect();
        assert!(resident[..400 - KEEP].iter().all(|&pages| pages == 0), "{resident:?}");
        assert!(resident[400 - KEEP..].iter().all(|&pages| pages == stride / page - 1), "{resident:?}");
        #[cfg(target_os = "linux")]
        assert!(limits.iter().all(|&limit| memory::kernel_refuses(limit)));
        assert!(!trim());
    });
}

#[test]
fn a_steady_load_is_never_trimmed() {
    on_new_thread(|| {
        let steady: Vec<_> = (0..800).map(|_| Stack::new(DEFAULT_SIZE).unwrap()).collect();
        drop((0..KEEP + 100).map(|_| Stack::new(DEFAULT_SIZE).unwrap()).collect::<Vec<_>>());
        assert!(!trim());
        POOL.with(|pool| assert!(pool.classes.iter().all(|class| class.borrow().trimmed == 0)));
        drop(steady);
    });
}

#[test]
fn stacks_work_in_destructors_of_thread_locals() {
    struct Last(RefCell<Vec<Stack>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.borrow_mut().clear();
            let fresh = Stack::new(DEFAULT_SIZE).unwrap();
            // SAFETY: the first byte of a stack that is alive, and on which nothing runs.
            unsafe { touch(fresh.base() - 1) };
        }
    }
    thread_local! { static LAST: Last = const { Last(RefCell::new(Vec::new())) } }
    // Before the pool, and after it: destroyed in the reverse order.
    on_new_thread(|| LAST.with(|last| last.0.borrow_mut().push(Stack::new(DEFAULT_SIZE).unwrap())));
    on_new_thread(|| {
        prepare_thread();
        LAST.with(|last| last.0.borrow_mut().push(Stack::new(DEFAULT_SIZE).unwrap()));
    });
}

#[test]
fn a_forgotten_stack_stays_mapped_and_guarded() {
    let (base, limit) = on_new_thread(|| {
        let stack = Box::leak(Box::new(Stack::new(DEFAULT_SIZE).unwrap()));
        (stack.base(), stack.limit())
    });
    // SAFETY: the first byte of a stack that is leaked, and so mapped for ever (2), and on which nothing runs.
    unsafe { touch(base - 1) };
    assert!(registry::find_guard(limit, 1).is_some());
}

#[test]
fn a_thread_that_ends_unmaps_its_stacks() {
    let Some(output) = in_child("a_thread_that_ends_unmaps_its_stacks", &[], || {
        let limits = on_new_thread(|| {
            let stacks: Vec<_> = (0..100).map(|_| Stack::new(DEFAULT_SIZE).unwrap()).collect();
            stacks.iter().map(Stack::limit).collect::<Vec<_>>()
        });
        assert!(limits.iter().all(|&limit| registry::find_guard(limit, 1).is_none()));
        // Unmapped memory is refused as a guard is, and so is the page above the guard.
        assert!(limits.iter().all(|&limit| memory::kernel_refuses(limit + 4 * memory::page_size())));
    }) else {
        return;
    };
    assert_eq!(output.status.code(), Some(RETURNED), "{output:?}");
}

#[test]
fn the_registry_always_finds_ones_own_arena() {
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..300 {
                    on_new_thread(|| drop(Stack::new(16 << 10).unwrap()));
                }
            });
        }
        let stack = Stack::new(DEFAULT_SIZE).unwrap();
        for _ in 0..20_000 {
            let page = memory::page_size();
            assert_eq!(registry::find_guard(stack.limit() + page - 1, page), Some(DEFAULT_SIZE + page));
            assert_eq!(registry::find_guard(stack.limit() + page, page), None);
            assert_eq!(registry::find_guard(0, page), None);
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn many_guarded_stacks_are_few_mappings() {
    on_new_thread(|| {
        let stack = Stack::new(DEFAULT_SIZE).unwrap();
        if !guard::marks() {
            return;
        }
        let count = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        let before = count();
        let stacks: Vec<_> = (0..40_000).map(|_| Stack::new(DEFAULT_SIZE).unwrap()).collect();
        assert!(count() < before + 200, "{before} to {}", count());
        drop((stack, stacks));
    });
}

#[test]
fn an_overflow_is_reported() {
    expect_overflow("an_overflow_is_reported", &[], || overflow_a_stack(64 << 10), 64);
}

#[test]
fn an_overflow_is_reported_with_mprotect_guards() {
    let forced = [("GREENROOM_STACK_GUARD", "mprotect")];
    expect_overflow("an_overflow_is_reported_with_mprotect_guards", &forced, || overflow_a_stack(64 << 10), 64);
}

#[test]
fn an_overflow_is_reported_after_reuse_and_trimming() {
    let overflow = || {
        drop((0..1000).map(|_| Stack::new(DEFAULT_SIZE).unwrap()).collect::<Vec<_>>());
        while trim() {}
        let kept: Vec<_> = (0..900).map(|_| Stack::new(DEFAULT_SIZE).unwrap()).collect();
        overflow_a_stack(DEFAULT_SIZE);
        drop(kept);
    };
    expect_overflow("an_overflow_is_reported_after_reuse_and_trimming", &[], overflow, 256);
}

#[test]
fn an_overflow_is_reported_on_a_thread_that_c_made() {
    extern "C" fn start(_: *mut libc::c_void) -> *mut libc::c_void {
        prepare_thread();
        overflow_a_stack(DEFAULT_SIZE);
        ptr::null_mut()
    }
    let overflow = || with_c_thread(start);
    expect_overflow("an_overflow_is_reported_on_a_thread_that_c_made", &[], overflow, 256);
}

#[test]
fn a_signal_stack_goes_with_its_thread() {
    extern "C" fn start(_: *mut libc::c_void) -> *mut libc::c_void {
        prepare_thread();
        prepare_thread();
        drop(Stack::new(DEFAULT_SIZE).unwrap());
        ptr::null_mut()
    }
    for _ in 0..50 {
        with_c_thread(start);
    }
}

#[test]
fn other_faults_go_to_the_handler_before_ours() {
    extern "C" fn plain(signal: libc::c_int) {
        // SAFETY: no precondition, and allowed in a signal handler (signal-safety(7)).
        unsafe { libc::_exit(if signal == libc::SIGSEGV { 42 } else { 1 }) }
    }
    let name = "other_faults_go_to_the_handler_before_ours";
    let Some(output) = in_child(name, &[], || {
        // SAFETY: a handler takes the signal's number, as `plain` does, and may do what `plain` does.
        unsafe { libc::signal(libc::SIGSEGV, plain as extern "C" fn(libc::c_int) as usize) };
        prepare_thread();
        fault();
    }) else {
        return;
    };
    assert_eq!(output.status.code(), Some(42), "{output:?}");
}

#[test]
fn other_faults_without_a_handler_end_the_process_as_ever() {
    for (name, previous, act) in [
        ("fault", libc::SIG_DFL, fault as fn()),
        ("sent", libc::SIG_DFL, || send(libc::SIGSEGV)),
        ("ignored fault", libc::SIG_IGN, fault),
    ] {
        let Some(output) = in_child_as("other_faults_without_a_handler_end_the_process_as_ever", name, &[], || {
            // SAFETY: `SIG_DFL` or `SIG_IGN`, by the list above: nothing of ours is called.
            unsafe { libc::signal(libc::SIGSEGV, previous) };
            prepare_thread();
            act();
        }) else {
            continue;
        };
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{name}: {output:?}");
        assert!(!stderr(&output).contains("greenroom"), "{name}: {output:?}");
    }
}

#[test]
fn a_sent_signal_that_was_ignored_stays_ignored() {
    let Some(output) = in_child("a_sent_signal_that_was_ignored_stays_ignored", &[], || {
        // SAFETY: nothing of ours is called.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_IGN) };
        prepare_thread();
        send(libc::SIGSEGV);
    }) else {
        return;
    };
    assert_eq!(output.status.code(), Some(RETURNED), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_error_names_the_limit_on_mappings() {
    let forced = [("GREENROOM_STACK_GUARD", "mprotect")];
    let Some(output) = in_child("the_error_names_the_limit_on_mappings", &forced, || {
        expect_exhaustion("vm.max_map_count");
    }) else {
        return;
    };
    assert_eq!(output.status.code(), Some(RETURNED), "{output:?}");
}

#[test]
fn the_error_names_the_limit_on_address_space() {
    let Some(output) = in_child("the_error_names_the_limit_on_address_space", &[], || {
        let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
        // SAFETY: reads the limit, which is alive for the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        expect_exhaustion("RLIMIT_AS");
    }) else {
        return;
    };
    assert_eq!(output.status.code(), Some(RETURNED), "{output:?}");
}

/// Takes stacks until there are no more; afterwards all is as before.
fn expect_exhaustion(limit: &str) {
    let mut stacks = Vec::with_capacity(1 << 20);
    let error = loop {
        match Stack::new(DEFAULT_SIZE) {
            Ok(stack) => stacks.push(stack),
            Err(error) => break error,
        }
        assert!(stacks.len() < stacks.capacity(), "no limit was met");
    };
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    let taken = stacks.len();
    stacks.pop();
    Stack::new(DEFAULT_SIZE).expect("one came back");
    stacks.clear();
    assert_eq!(live(), 0);
    stacks.extend((0..taken).map(|_| Stack::new(DEFAULT_SIZE).expect("all came back")));
    drop(stacks);
    let message = error.to_string();
    assert!(message.contains(limit), "{message}");
    assert!(taken > 1000, "{taken}");
}

fn expect_overflow(test: &str, variables: &[(&str, &str)], overflow: fn(), size: usize) {
    let Some(output) = in_child(test, variables, || {
        set_describe(|report| {
            report.write_str("task \"eve\" spawned at src/main.rs:");
            report.write_usize(1203);
        });
        overflow();
    }) else {
        return;
    };
    let expected = format!(
        "\ngreenroom: stack overflow in task \"eve\" spawned at src/main.rs:1203: its stack has {size} KiB; \
         raise it with Builder::stack_size\n"
    );
    assert!(stderr(&output).contains(&expected), "{output:?}");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
}

fn overflow_a_stack(size: usize) {
    fn recurse(depth: usize) -> usize {
        let frame = black_box([depth; 32]);
        if depth == usize::MAX { 0 } else { recurse(depth + 1) + black_box(frame)[depth % 32] }
    }
    struct Borrowed<'a>(&'a Stack);
    // SAFETY: a `Stack` has a guard below it, which catches overflows, and room for more than `MIN_STACK_SIZE`. It is borrowed
    // for as long as this is.
    unsafe impl corosensei::stack::Stack for Borrowed<'_> {
        fn base(&self) -> StackPointer {
            StackPointer::new(self.0.base()).unwrap()
        }
        fn limit(&self) -> StackPointer {
            StackPointer::new(self.0.limit()).unwrap()
        }
    }
    let stack = Stack::new(size).unwrap();
    corosensei::on_stack(Borrowed(&stack), || black_box(recurse(0)));
}

fn fault() {
    // SAFETY: it has none: nothing is mapped there. That the processor refuses this one store is what is tested, in a child
    // process that does not outlive it.
    unsafe { touch(black_box(8)) };
}

/// # Safety
///
/// The byte at `address` is mapped, can be written, and nobody else uses it.
unsafe fn touch(address: usize) {
    // SAFETY: passed on to the caller; a byte is aligned anywhere.
    unsafe { (address as *mut u8).write_volatile(1) };
}

fn send(signal: libc::c_int) {
    // SAFETY: no precondition; what a handler does is its own matter.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

fn with_c_thread(start: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void) {
    let mut thread = std::mem::MaybeUninit::uninit();
    // SAFETY: writes one handle, alive for the call; null attributes are the usual ones, and `start` is safe to call with null.
    let result = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), start, ptr::null_mut()) };
    assert_eq!(result, 0);
    // SAFETY: the call succeeded and has filled it.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: made above, not detached, and joined once; nothing is written to a null place.
    assert_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
}

fn resident_pages(start: usize, len: usize) -> usize {
    let mut pages = vec![0; len / memory::page_size()];
    // SAFETY: the kernel checks the range, and writes a byte for each of its pages, for which there is room.
    assert_eq!(unsafe { libc::mincore(start as *mut _, len, pages.as_mut_ptr().cast()) }, 0);
    pages.iter().filter(|&&page: &&u8| page & 1 != 0).count()
}

/// Runs `body` on a thread, and so with a pool, of its own.
fn on_new_thread<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(body).join().unwrap()
}

/// The status of a child whose body returned: not zero, which a child that found no test to run would end with.
const RETURNED: i32 = 77;

/// Runs `body` in a child process; tells how the child ended.
fn in_child(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Option<Output> {
    in_child_as(test, "child", variables, body)
}

fn in_child_as(test: &str, role: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Option<Output> {
    const ROLE: &str = "GREENROOM_STACK_TEST_ROLE";
    if let Ok(ours) = env::var(ROLE) {
        if ours != role {
            return None;
        }
        // No core file for each death that was wanted.
        // SAFETY: reads the limit, which is alive for the call.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 }) };
        body();
        process::exit(RETURNED);
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([&format!("stack::tests::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .envs(variables.iter().copied())
        .output();
    Some(output.unwrap())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
