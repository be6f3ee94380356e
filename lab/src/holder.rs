//! The holder: pid 1 of the lab's PID namespace. When it ends, the kernel kills every process of the lab, and with the
//! last of them go the network namespaces. It ends when its standard input closes, which the kernel does when the process
//! that made the lab dies, however that comes; a detached lab's holder waits for a signal from `down`.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};

use crate::error::{Context, Error, Result};
use crate::place;
use crate::rundir::Process;
use crate::wait;

/// A running holder, as its maker sees it.
#[derive(Debug)]
pub struct Holder {
    /// `unshare`, whose child the holder is. Its standard input is the lab's life line.
    unshare: Child,
    /// The holder itself.
    pub process: Process,
}

impl Holder {
    /// Starts one.
    pub fn start(detached: bool) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount", "--propagation", "private", "--"]);
        command.arg(program()?).arg("hold");
        if detached {
            command.arg("--detached").stdin(Stdio::null()).stderr(Stdio::null());
        } else {
            command.stdin(Stdio::piped());
        }
        command.stdout(Stdio::piped());
        // A Ctrl-C is for the maker; the holder follows by its life line, and in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut unshare = command.spawn().context(|| "starting unshare (package util-linux)".to_owned())?;
        let mut line = String::new();
        if let Some(mut stdout) = unshare.stdout.take() {
            let mut byte = [0];
            while stdout.read(&mut byte)? == 1 && byte[0] != b'\n' {
                line.push(char::from(byte[0]));
            }
        }
        let process = line.parse().ok().and_then(Process::find);
        let process = process
            .ok_or_else(|| Error::new(format!("the lab's holder did not start (it said {line:?})")))?;
        Ok(Self { unshare, process })
    }

    /// Ends the holder and with it every process of the lab. `reap` reaps those that are this process's own
    /// children: the kernel does not let pid 1 of a namespace go before they are.
    pub fn end(&mut self, reap: impl Fn() -> bool) {
        match self.unshare.stdin.take() {
            Some(life_line) => drop(life_line),
            None => kill(self.process),
        }
        let gone = wait::until("the end of the lab's processes", Duration::from_secs(5), || {
            let reaped = reap();
            Ok(self.unshare.try_wait()?.filter(|_| reaped).map(drop))
        });
        if let Err(error) = gone {
            eprintln!("narrowgate-lab: {error}");
        }
    }
}

/// Kills a holder that this process has not started.
pub fn kill(holder: Process) {
    if let Some(pid) = place::number(holder.pid) {
        // The check and the kill are not one step; a process number is not used again that soon.
        if holder.alive() {
            let _ = signal::kill(pid, Signal::SIGKILL);
        }
    }
}

/// The holder's own main function: `narrowgate-lab hold`.
pub fn hold(detached: bool) -> Result<()> {
    if std::process::id() != 1 {
        return Err(Error::new("hold: only the lab itself starts this, as pid 1 of a PID namespace"));
    }
    // /proc is still the one of the outer namespace here, so this is our number out there.
    let outer = std::fs::read_link("/proc/self")?;
    println!("{}", outer.display());
    std::io::stdout().flush()?;
    std::thread::spawn(|| {
        loop {
            // The hosts' processes are children of others at first; with none of our own there is nothing to wait for.
            if nix::sys::wait::wait().is_err() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    });
    if detached {
        loop {
            std::thread::park();
        }
    }
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    Ok(())
}

/// The lab's program: this executable, or for a test the one that cargo built beside it.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("NARROWGATE_LAB") {
        return Ok(PathBuf::from(path));
    }
    let me = std::env::current_exe()?;
    let candidates = me.ancestors().take(3).map(|dir| dir.join("narrowgate-lab"));
    std::iter::once(me.clone())
        .chain(candidates)
        .find(|path| path.file_name().is_some_and(|name| name == "narrowgate-lab") && path.is_file())
        .ok_or_else(|| {
            Error::new(format!(
                "no narrowgate-lab beside {}: build it, or name it in NARROWGATE_LAB",
                me.display()
            ))
        })
}
