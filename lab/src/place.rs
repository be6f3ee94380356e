//! Running commands inside the lab: a thread of ours enters the PID and network namespace, and what it starts
//! then enters the mount namespace by `nsenter`, which does not fork. So the process number of the child is the
//! number of the program itself, and a signal sent to it arrives.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};

/// A set of namespaces to run things in.
#[derive(Debug, Clone)]
pub struct Place {
    /// What to call it in errors.
    pub name: String,
    /// The process whose network and mount namespace it is.
    pub pin: u32,
    /// The process that is pid 1 of the lab.
    pub holder: u32,
    /// The cgroup to run in, when there is one.
    pub cgroup: Option<PathBuf>,
    /// What was started in the lab by this process and may not be reaped yet.
    pub started: Started,
}

/// The children of this process in a lab. The kernel lets a PID namespace go only when all of them are reaped, so the lab
/// does that at its end for those whose owners did not.
#[derive(Debug, Clone, Default)]
pub struct Started(Arc<Mutex<Vec<Pid>>>);

impl Started {
    fn add(&self, child: &Child) {
        self.lock().extend(number(child.id()));
    }

    fn forget(&self, id: u32) {
        self.lock().retain(|pid| u32::try_from(pid.as_raw()) != Ok(id));
    }

    /// Reaps those that have ended. Returns whether all have.
    pub fn reap(&self) -> bool {
        let mut pids = self.lock();
        pids.retain(|pid| waitpid(*pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive));
        pids.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A command to be run here. Standard input is `/dev/null` unless told otherwise.
    pub fn command(&self, program: impl AsRef<OsStr>) -> PlacedCommand {
        // A shell puts itself into the cgroup, then becomes the program: before the program's first instruction.
        let mut command = Command::new("sh");
        command.arg("-c").arg(ENTER).arg("lab");
        command.arg(self.cgroup.as_deref().unwrap_or(Path::new("")));
        command.arg(format!("/proc/{}/ns/mnt", self.pin));
        command.arg(program);
        command.stdin(Stdio::null());
        PlacedCommand { place: self.clone(), command }
    }

    /// Calls `work` on a thread that is in this place's network namespace.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.on_thread(false, work)
    }

    fn on_thread<T: Send>(&self, with_pids: bool, work: impl FnOnce() -> T + Send) -> Result<T> {
        let net = open_namespace(self.pin, "net")?;
        let pid = open_namespace(self.holder, "pid")?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                if with_pids {
                    setns(pid.as_fd(), CloneFlags::CLONE_NEWPID)?;
                }
                setns(net.as_fd(), CloneFlags::CLONE_NEWNET)?;
                Ok::<_, std::io::Error>(work())
            });
            thread.join().map_err(|_| Error::new("a thread of the lab panicked"))
        })?
        .context(|| format!("entering {}", self.name))
    }
}

/// A command that will run in a [`Place`]. A thin cover over [`std::process::Command`].
#[derive(Debug)]
pub struct PlacedCommand {
    place: Place,
    command: Command,
}

impl PlacedCommand {
    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Sends both outputs to a file, appending.
    pub fn log_to(mut self, path: &Path) -> Result<Self> {
        let log =
            File::options().create(true).append(true).open(path).context(|| path.display().to_string())?;
        self.command.stdout(log.try_clone()?).stderr(log);
        Ok(self)
    }

    /// Sets where standard input, output and error go.
    #[must_use]
    pub fn stdio(mut self, input: Stdio, output: Stdio, error: Stdio) -> Self {
        self.command.stdin(input).stdout(output).stderr(error);
        self
    }

    /// Starts it.
    pub fn spawn(mut self) -> Result<Child> {
        let command = &mut self.command;
        let spawned = self.place.on_thread(true, move || command.spawn())?;
        let child = spawned.context(|| format!("starting {:?} in {}", self.command, self.place.name))?;
        self.place.started.add(&child);
        Ok(child)
    }

    /// Runs it to its end and collects its outputs.
    pub fn output(self) -> Result<Output> {
        let started = self.place.started.clone();
        let child = self.stdio(Stdio::null(), Stdio::piped(), Stdio::piped()).spawn()?;
        let id = child.id();
        let output = child.wait_with_output()?;
        started.forget(id);
        Ok(output)
    }

    /// Runs it to its end and returns what it wrote to standard output; fails with its standard error.
    pub fn read(self) -> Result<String> {
        let what = format!("{:?} in {}", self.command, self.place.name);
        let output = self.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(format!("{what}: {}: {}", output.status, said.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A process number, as system calls take it: theirs say "all of a group" too, by zero and less, and are never meant here.
pub(crate) fn number(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().filter(|id| *id > 0).map(Pid::from_raw)
}

fn open_namespace(pid: u32, kind: &str) -> Result<File> {
    let path = format!("/proc/{pid}/ns/{kind}");
    File::open(&path).context(|| format!("{path} (is the lab still there?)"))
}

/// Arguments: cgroup or nothing, mount namespace, program and its arguments.
const ENTER: &str = r#"if [ -n "$1" ]; then echo 0 >"$1/cgroup.procs" || exit 126; fi
mount=$2; shift 2; exec nsenter --mount="$mount" -- "$@""#;
