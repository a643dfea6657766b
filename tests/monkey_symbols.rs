//! Which symbols of the C library are ours, and which that may wait are not: the list is checked against what std and the C libraries
//! that programs use most really import.
//!
//! A symbol is covered if it stands in an `interpose!` of src/monkey, or in [`LEFT`] with the reason. What an update of a library
//! begins to import is named by these tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use greenroom::monkey::{self, Areas};

/// Everything in the C library that may wait for something outside, or for another thread, apart from those that are ours.
/// Blocks whose symbols hardly differ are written as one: `a b c`.
const LEFT: &[(&str, &str)] = &[
    // By design.
    ("vfork _Fork", "the child must not use the hub: the originals"),
    (
        "posix_spawn posix_spawnp popen execv execve execvp execvpe execl execlp execle fexecve",
        "wait for the start of a program alone",
    ),
    ("wordexp", "forks inside the C library"),
    ("pause sigsuspend sigwait sigwaitinfo sigtimedwait", "signals go to the thread: they stop it, as documented"),
    ("pthread_yield", "gives the processor away, and returns"),
    ("getrandom getentropy", "wait only while the system boots"),
    (
        "longjmp _longjmp siglongjmp __longjmp_chk setcontext swapcontext",
        "go to where the caller says, which is on his own stack",
    ),
    ("exit _exit _Exit quick_exit abort pthread_exit", "do not return"),
    ("raise kill tgkill sigqueue", "do not wait"),
    ("epoll_create epoll_create1 epoll_ctl eventfd signalfd timerfd_create inotify_init1", "do not wait"),
    ("bind listen getsockname getpeername getsockopt", "do not wait"),
    // Buffers of the C library, whose reads and writes are its own. They stop the thread where a pipe or terminal does.
    (
        "fopen fopen64 fdopen freopen freopen64 fclose fread fwrite fgets fgetc getc getchar fputs fputc putc putchar puts fflush \
         fscanf getline getdelim fprintf vfprintf printf vprintf __fprintf_chk __vfprintf_chk __printf_chk perror \
         fread_unlocked fwrite_unlocked __fgets_chk __fread_chk dprintf vdprintf",
        "streams: reads and writes inside the C library, of files mostly",
    ),
    ("syslog vsyslog __syslog_chk __vsyslog_chk openlog closelog", "writes to the system's log inside the C library"),
    // Databases of the system: files mostly, sometimes servers.
    (
        "getpwnam getpwuid getpwnam_r getpwuid_r getgrnam getgrgid getgrnam_r getgrgid_r getgrouplist initgroups getlogin getlogin_r \
         getservbyname getservbyport getservbyname_r getservbyport_r getprotobyname getprotobyname_r getaddrinfo_a \
         res_init __res_init __res_ninit res_query __res_query res_search __res_search res_nsearch __res_nsearch",
        "databases, asked inside the C library; see `dns`",
    ),
    // The file system's own calls: at once on a local disk.
    (
        "stat stat64 fstat fstat64 lstat lstat64 fstatat fstatat64 statx statfs fstatfs access faccessat opendir fdopendir readdir readdir64 \
         closedir dirfd scandir readlink readlinkat realpath mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat \
         symlink symlinkat chmod fchmod fchmodat chown fchown lchown fchownat truncate truncate64 utimes utimensat futimens \
         chdir fchdir getcwd mkstemp mkstemp64 mkostemp mkostemp64 mkdtemp tmpfile tmpfile64 nftw ftw mkfifo mkfifoat mknod lseek lseek64 \
         fallocate fallocate64 posix_fallocate posix_fallocate64 posix_fadvise posix_fadvise64 sync syncfs sync_file_range readahead msync \
         mlock mlockall dlopen dlclose dlmopen mount umount umount2 pivot_root",
        "the file system's own calls: local, and soon done",
    ),
    ("flock lockf lockf64", "locks of files between processes: wait with the thread"),
    ("tcdrain tcflush tcsetattr tcgetattr", "terminals are never waited for by a task"),
    (
        "msgrcv msgsnd semop semtimedop mq_receive mq_send mq_timedreceive mq_timedsend aio_suspend lio_listio",
        "System V's and POSIX's own queues and semaphores: nothing tells when they are ready",
    ),
    ("vmsplice tee", "between pipes: hardly used"),
    ("ptrace process_vm_readv process_vm_writev", "for debuggers"),
    ("gethostent gethostent_r", "reads a file"),
    ("sigset siginterrupt", "of no use any more; the handlers of `sigset` are not seen"),
    ("preadv2 pwritev2 preadv64v2 pwritev64v2", "say for themselves whether they wait"),
];

/// What a library imports that may wait: ours, or in [`LEFT`]. Everything else that is imported is here, by pattern or by name: it does
/// not wait.
const HARMLESS: &[&str] = &[
    // Memory and text.
    "mem*",
    "__mem*",
    "str*",
    "__str*",
    "stp*",
    "__stp*",
    "wcs*",
    "bcmp",
    "bcopy",
    "bzero",
    "explicit_bzero",
    "__explicit_bzero_chk",
    "rawmemchr",
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "posix_memalign",
    "aligned_alloc",
    "malloc_usable_size",
    "mmap",
    "mmap64",
    "munmap",
    "mprotect",
    "madvise",
    "mremap",
    "munlock",
    "snprintf",
    "vsnprintf",
    "sprintf",
    "vsprintf",
    "sscanf",
    "vsscanf",
    "asprintf",
    "vasprintf",
    "__snprintf_chk",
    "__vsnprintf_chk",
    "__sprintf_chk",
    "__vsprintf_chk",
    "__asprintf_chk",
    "__vasprintf_chk",
    "__isoc99_*",
    "__isoc23_*",
    "qsort",
    "qsort_r",
    "bsearch",
    "tolower",
    "toupper",
    "is*",
    "__ctype_*",
    "atoi",
    "atol",
    "atoll",
    "abs",
    "labs",
    "__xpg_*",
    "fnmatch",
    "basename",
    "dirname",
    "regcomp",
    "regexec",
    "regfree",
    "rand",
    "srand",
    "rand_r",
    "random",
    "srandom",
    "lrand48",
    "drand48",
    "swab",
    "ffs",
    "*toupper_loc",
    "*tolower_loc",
    "mb*",
    "wc*",
    "iconv*",
    "towupper",
    "towlower",
    // Streams in memory, and what only asks or sets.
    "feof",
    "ferror",
    "clearerr",
    "fileno",
    "fseek",
    "fseeko",
    "fseeko64",
    "ftell",
    "ftello",
    "ftello64",
    "rewind",
    "setbuf",
    "setvbuf",
    "stdin",
    "stdout",
    "stderr",
    "ungetc",
    "open_memstream",
    "fmemopen",
    "__errno_location",
    "__h_errno_location",
    "gai_strerror",
    "hstrerror",
    "h_errno",
    // Time.
    "time",
    "gettimeofday",
    "clock",
    "clock_gettime",
    "clock_getres",
    "localtime*",
    "gmtime*",
    "mktime",
    "timegm",
    "difftime",
    "tzset",
    "ctime*",
    "asctime*",
    "times",
    "ftime",
    "timespec_get",
    // The process: who it is, its environment, limits, signals' sets and masks.
    "get*id",
    "set*id",
    "getgroups",
    "setgroups",
    "getpgrp",
    "getenv",
    "secure_getenv",
    "__secure_getenv",
    "setenv",
    "unsetenv",
    "putenv",
    "environ",
    "__environ",
    "getauxval",
    "__getauxval",
    "getrlimit",
    "getrlimit64",
    "setrlimit",
    "setrlimit64",
    "prlimit",
    "prlimit64",
    "getrusage",
    "getpriority",
    "setpriority",
    "nice",
    "sysconf",
    "sysinfo",
    "uname",
    "gethostname",
    "getdomainname",
    "umask",
    "getpagesize",
    "get_nprocs*",
    "getopt*",
    "optarg",
    "optind",
    "opterr",
    "optopt",
    "sig*set",
    "sigismember",
    "sigaltstack",
    "sigpending",
    "sigprocmask",
    "pthread_sigmask",
    "alarm",
    "setitimer",
    "getitimer",
    "timer_*",
    "atexit",
    "__cxa_*",
    "on_exit",
    "prctl",
    "sched_*affinity",
    "sched_getparam",
    "sched_get_priority_*",
    "sched_setscheduler",
    "sched_getscheduler",
    "posix_spawn_file_actions_*",
    "posix_spawnattr_*",
    "personality",
    "capget",
    "capset",
    "chroot",
    "isatty",
    "ttyname*",
    "tcgetpgrp",
    "tcsetpgrp",
    "cfset*",
    "cfget*",
    "ptsname*",
    "grantpt",
    "unlockpt",
    "posix_openpt",
    // Addresses and interfaces.
    "inet_*",
    "__inet_*",
    "if_*",
    "getifaddrs",
    "freeifaddrs",
    "freeaddrinfo",
    "hton*",
    "ntoh*",
    "ether_*",
    "getdtablesize",
    "__fdelt_chk",
    "dn_expand",
    "__dn_expand",
    "dn_skipname",
    "__dn_skipname",
    "ns_*",
    // Threads: making, naming, keys, attributes.
    "pthread_attr_*",
    "pthread_self",
    "pthread_equal",
    "pthread_key_*",
    "pthread_getspecific",
    "pthread_setspecific",
    "pthread_*_init",
    "pthread_*_destroy",
    "pthread_condattr_*",
    "pthread_mutexattr_*",
    "pthread_rwlockattr_*",
    "pthread_barrierattr_*",
    "sched_getcpu",
    "pthread_getattr_np",
    "pthread_atfork",
    "__register_atfork",
    "pthread_set*",
    "pthread_get*",
    "pthread_spin_*",
    "pthread_testcancel",
    "__pthread_key_create",
    "pthread_mutex_consistent",
    "sem_init",
    "sem_destroy",
    "sem_getvalue",
    "sem_open",
    "sem_close",
    "sem_unlink",
    "__pthread_register_cancel",
    "__pthread_unregister_cancel",
    "__pthread_unwind_next",
    "shm*",
    "semget",
    "semctl",
    "msgget",
    "msgctl",
    "mq_open",
    "mq_close",
    "mq_unlink",
    "mq_getattr",
    "mq_setattr",
    "mq_notify",
    // The dynamic linker, the C library itself, stacks.
    "dl_iterate_phdr",
    "dladdr",
    "dladdr1",
    "dlerror",
    "dlsym",
    "dlvsym",
    "dlinfo",
    "gnu_get_libc_version",
    "__libc_*",
    "__tls_get_addr",
    "__stack_chk_*",
    "__gmon_start__",
    "__assert_*",
    "_setjmp",
    "setjmp",
    "__sigsetjmp",
    "getcontext",
    "makecontext",
    "backtrace*",
    "_Unwind_*",
    "__fortify_fail",
    "__chk_fail",
    "_dl_*",
    "__tunable*",
    "_rtld_global*",
    "_ITM_*",
    // Languages and messages.
    "setlocale",
    "localeconv",
    "newlocale",
    "uselocale",
    "freelocale",
    "duplocale",
    "nl_langinfo",
    "nl_langinfo_l",
    "bindtextdomain",
    "bind_textdomain_codeset",
    "textdomain",
    "gettext",
    "dgettext",
    "dcgettext",
    "ngettext",
    "dngettext",
    "dcngettext",
    // Numbers.
    "strto*",
    "frexp*",
    "ldexp*",
    "modf*",
    "pow*",
    "log*",
    "exp",
    "exp2*",
    "expm1*",
    "floor*",
    "ceil*",
    "round*",
    "rint*",
    "trunc*",
    "fmod*",
    "sqrt*",
    "sin*",
    "cos*",
    "tan*",
    "fabs*",
    "lround*",
    "lrint*",
    "__isnan*",
    "__isinf*",
    "__finite*",
    "signbit*",
    "__signbit*",
    "copysign*",
    "isnan*",
    "isinf*",
];

/// The libraries that programs of Rust speak to by `-sys` crates, and the Debian package of each.
const LIBRARIES: &[(&str, &str)] = &[
    ("libssl.so.3", "libssl3"),
    ("libcrypto.so.3", "libssl3"),
    ("libpq.so.5", "libpq5"),
    ("libcurl.so.4", "libcurl4"),
    ("libmariadb.so.3", "libmariadb3"),
];

#[test]
fn what_c_libraries_import_and_may_wait_is_ours() {
    let ours = interposed();
    let mut faults = Vec::new();
    for &(library, package) in LIBRARIES {
        let path = find_library(library).unwrap_or_else(|| {
            panic!("{library} is not on this machine: install the Debian package {package}, as .ci/run does")
        });
        for name in imported(&path) {
            if let Some(fault) = fault_of(&name, &ours) {
                faults.push(format!("{library}: {fault}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// This program has the library, std and libc's own crate in it. What it still imports from the C library is not ours.
#[test]
fn what_std_imports_is_ours() {
    // Else the library would not be in it.
    assert!(!monkey::is_patched(Areas::ALL));
    let ours = interposed();
    let faults: Vec<_> = imported(&std::env::current_exe().unwrap())
        .into_iter()
        .filter_map(|name| {
            if ours.contains(&name) {
                return Some(format!("`{name}` is ours, and this program has the C library's"));
            }
            fault_of(&name, &ours)
        })
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_symbol_is_documented() {
    let text = fs::read_to_string("src/monkey/mod.rs").unwrap();
    let docs: Vec<&str> = text.lines().filter_map(|line| line.trim_start().strip_prefix("//!")).collect();
    let docs = docs.join("\n");
    let missing: Vec<_> = interposed().into_iter().filter(|name| !docs.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "the table in src/monkey/mod.rs does not name: `{}`", missing.join("`, `"));
}

#[test]
fn nothing_is_listed_twice() {
    let ours = interposed();
    let mut known = BTreeMap::new();
    let mut faults = Vec::new();
    for (names, reason) in LEFT {
        for name in names.split_whitespace() {
            if ours.contains(name) {
                faults.push(format!("`{name}` is ours: take it out of LEFT ({reason})"));
            }
            if known.insert(name, reason).is_some() {
                faults.push(format!("`{name}` is in LEFT twice"));
            }
        }
    }
    for name in &ours {
        if is_harmless(name) && !known.contains_key(name.as_str()) {
            let pattern = HARMLESS.iter().find(|pattern| **pattern == name.as_str());
            faults.extend(pattern.map(|pattern| format!("`{pattern}` is ours: take it out of HARMLESS")));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn fault_of(name: &str, ours: &BTreeSet<String>) -> Option<String> {
    let is_left = LEFT.iter().any(|(names, _)| names.split_whitespace().any(|left| left == name));
    if ours.contains(name) || is_left || is_harmless(name) {
        return None;
    }
    Some(format!(
        "`{name}` is neither ours nor known: interpose it, or list it in tests/monkey_symbols.rs with the reason"
    ))
}

fn is_harmless(name: &str) -> bool {
    HARMLESS.iter().any(|pattern| match pattern.split_once('*') {
        None => *pattern == name,
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
    })
}

/// The names in every `interpose!` of the module.
fn interposed() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in fs::read_dir("src/monkey").unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let mut is_inside = false;
        for line in text.lines() {
            match line {
                "interpose! {" => is_inside = true,
                "}" => is_inside = false,
                _ if is_inside => {
                    let name = line.strip_prefix("    fn ").and_then(|rest| rest.split_once('(')).map(|(name, _)| name);
                    names.extend(name.map(str::to_owned));
                }
                _ => {}
            }
        }
    }
    assert!(names.contains("poll") && names.contains("recv"), "{names:?}");
    names
}

/// What a program or library takes from the C library.
fn imported(path: &Path) -> BTreeSet<String> {
    let output = Command::new("nm").args(["-D", "--undefined-only"]).arg(path).output();
    let output = output.expect("nm is needed: install the Debian package binutils");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let symbols = text.lines().filter_map(|line| line.split_whitespace().last());
    symbols
        .filter_map(|symbol| symbol.split_once("@GLIBC"))
        .map(|(name, _)| name.trim_end_matches('@').to_owned())
        .collect()
}

fn find_library(name: &str) -> Option<PathBuf> {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = ["/usr/lib/", "/lib/", "/usr/lib64/", "/usr/local/lib/"];
    let folders = folders.iter().flat_map(|folder| [format!("{folder}{triple}"), (*folder).to_owned()]);
    folders.map(|folder| Path::new(&folder).join(name)).find(|path| path.exists())
}
