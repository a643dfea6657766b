//! What is to be run, and how.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};

use super::child::Child;

/// Builds a child process, as [`std::process::Command`]: with the same methods, and those of
/// [`std::os::unix::process::CommandExt`] among them.
///
/// # Examples
///
/// ```
/// use greenroom::process::Command;
///
/// let output = Command::new("sh").args(["-c", "echo $GREETING"]).env("GREETING", "hello").output()?;
/// assert_eq!(output.stdout, b"hello\n");
/// # std::io::Result::Ok(())
/// ```
pub struct Command {
    inner: std::process::Command,
    /// Which of the three streams the user has set; what the others are depends on the call.
    set: [bool; 3],
    kill_on_drop: bool,
}

impl Command {
    /// Runs `program`, looked for in `PATH` unless it has a slash: without arguments, in this process's directory and environment,
    /// and with its standard streams ([`output`](Self::output) has others).
    pub fn new<S: AsRef<OsStr>>(program: S) -> Command {
        Command { inner: std::process::Command::new(program), set: [false; 3], kill_on_drop: false }
    }

    /// Adds an argument.
    pub fn arg<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I, S>(&mut self, args: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.inner.args(args);
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env<K, V>(&mut self, key: K, val: V) -> &mut Command
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.inner.env(key, val);
        self
    }

    /// Sets variables of the child's environment.
    pub fn envs<I, K, V>(&mut self, vars: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.inner.envs(vars);
        self
    }

    /// Takes a variable out of the child's environment.
    pub fn env_remove<K: AsRef<OsStr>>(&mut self, key: K) -> &mut Command {
        self.inner.env_remove(key);
        self
    }

    /// Lets the child inherit no variables, and forgets those that were set.
    pub fn env_clear(&mut self) -> &mut Command {
        self.inner.env_clear();
        self
    }

    /// Sets the child's directory. A `program` with a relative path should not be combined with it: which of the two comes first
    /// is not told.
    pub fn current_dir<P: AsRef<Path>>(&mut self, dir: P) -> &mut Command {
        self.inner.current_dir(dir);
        self
    }

    /// Sets the child's standard input. If it is not set, [`spawn`](Self::spawn) and [`status`](Self::status) let the child
    /// inherit this process's, and with [`output`](Self::output) it is empty.
    pub fn stdin<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.set[0] = true;
        self.inner.stdin(cfg);
        self
    }

    /// Sets the child's standard output. If it is not set, [`spawn`](Self::spawn) and [`status`](Self::status) let the child
    /// inherit this process's, and [`output`](Self::output) reads it.
    pub fn stdout<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.set[1] = true;
        self.inner.stdout(cfg);
        self
    }

    /// Sets the child's standard error; otherwise as [`stdout`](Self::stdout).
    pub fn stderr<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.set[2] = true;
        self.inner.stderr(cfg);
        self
    }

    /// Sets whether the children are killed when their [`Child`] is dropped; at first they are not. See
    /// [`Child::kill_on_drop`].
    ///
    /// With [`status`](Self::status) and [`output`](Self::output) this is for a caller that is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::{process::Command, timeout};
    /// use std::time::Duration;
    ///
    /// let mut nap = Command::new("sleep");
    /// nap.arg("3600").kill_on_drop(true);
    /// assert!(timeout(Duration::from_millis(10), || nap.status()).is_err());
    /// ```
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Command {
        self.kill_on_drop = kill;
        self
    }

    /// Starts the child.
    ///
    /// # Switching
    ///
    /// Never. The thread stops until the new program is loaded: some 0.2 ms, however much memory this process has. With
    /// [`uid`](Self::uid), [`gid`](Self::gid) or [`pre_exec`](Self::pre_exec) the process is copied first: 0.35 ms for a small one,
    /// 65 ms for one with 1 GiB in use (medians of 50, 2026-11, this VM).
    ///
    /// # Errors
    ///
    /// Those of the system, among them [`io::ErrorKind::NotFound`]; [`io::ErrorKind::InvalidInput`] if a string has a zero
    /// byte inside. Nothing is left behind then.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::process::Command;
    ///
    /// assert!(Command::new("true").spawn()?.wait()?.success());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn spawn(&mut self) -> io::Result<Child> {
        Ok(Child::new(self.inner.spawn()?, self.kill_on_drop))
    }

    /// Starts the child and waits until it has ended.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Cancellation
    ///
    /// The child goes on, unless it is to be [killed](Self::kill_on_drop); a native thread waits for it then.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn) and [`Child::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::process::Command;
    ///
    /// assert_eq!(Command::new("false").status()?.code(), Some(1));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait_to_the_end()
    }

    /// Starts the child, reads its outputs to their ends, and waits until it has ended.
    ///
    /// # Switching
    ///
    /// Yes.
    ///
    /// # Cancellation
    ///
    /// As [`Child::wait_with_output`]; with [`kill_on_drop`](Self::kill_on_drop) the child is killed.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn) and [`Child::wait_with_output`].
    ///
    /// # Examples
    ///
    /// ```
    /// use greenroom::{process::Command, spawn};
    ///
    /// // Both run at the same time.
    /// let names = ["one", "two"].map(|name| spawn(move || Command::new("echo").arg(name).output()));
    /// let texts = names.map(|name| String::from_utf8(name.join().unwrap().unwrap().stdout).unwrap());
    /// assert_eq!(texts, ["one\n", "two\n"]);
    /// ```
    pub fn output(&mut self) -> io::Result<Output> {
        self.set_rest([Stdio::null, Stdio::piped, Stdio::piped]);
        let child = self.spawn();
        self.set_rest([Stdio::inherit; 3]);
        child?.wait_with_output()
    }

    /// Sets the streams that the user has not set.
    fn set_rest(&mut self, [stdin, stdout, stderr]: [fn() -> Stdio; 3]) {
        if !self.set[0] {
            self.inner.stdin(stdin());
        }
        if !self.set[1] {
            self.inner.stdout(stdout());
        }
        if !self.set[2] {
            self.inner.stderr(stderr());
        }
    }

    /// The program, as it was given to [`new`](Self::new).
    #[must_use]
    pub fn get_program(&self) -> &OsStr {
        self.inner.get_program()
    }

    /// The arguments, without the program's name.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.inner.get_args()
    }

    /// The variables that were set, and those that were taken out (`None`).
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.inner.get_envs()
    }

    /// The directory, if it was set.
    #[must_use]
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.inner.get_current_dir()
    }

    /// Sets the child's user (setuid(2)).
    pub fn uid(&mut self, id: u32) -> &mut Command {
        self.inner.uid(id);
        self
    }

    /// Sets the child's group (setgid(2)).
    pub fn gid(&mut self, id: u32) -> &mut Command {
        self.inner.gid(id);
        self
    }

    /// Sets the name that the program sees as its own (`argv[0]`).
    pub fn arg0<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.inner.arg0(arg);
        self
    }

    /// Puts the child into a group of processes (setpgid(2)); 0: one of its own, which a Ctrl-C at the terminal does not reach.
    pub fn process_group(&mut self, pgroup: i32) -> &mut Command {
        self.inner.process_group(pgroup);
        self
    }

    /// Has `f` called in the child, after the fork and before the new program is loaded; an error of it is that of
    /// [`spawn`](Self::spawn).
    ///
    /// # Safety
    ///
    /// As [`CommandExt::pre_exec`]: in a copy of a process that has several threads, `f` must do nothing that needs what another
    /// thread may hold, memory from the allocator included. It must not call anything of this crate that switches: the poller
    /// there is still the parent's.
    pub unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: passed on to the caller.
        unsafe { self.inner.pre_exec(f) };
        self
    }

    /// Becomes the program: replaces this process with all its threads and tasks, of which no destructor runs. Returns only if that
    /// fails; the process may have been changed by then (directory, streams, user), as [`CommandExt::exec`] tells.
    ///
    /// # Switching
    ///
    /// Never.
    pub fn exec(&mut self) -> io::Error {
        self.inner.exec()
    }
}

/// Gives std's command, whose children stop the native thread.
impl From<Command> for std::process::Command {
    fn from(command: Command) -> std::process::Command {
        command.inner
    }
}

/// The program and its arguments, as std shows them.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
