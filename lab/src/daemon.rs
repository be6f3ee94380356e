//! The programs on the node that a test starts, signals and watches: narrowgate itself, and fastd.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::error::{Context, Error, Result};
use crate::fastd::{ESTABLISHED, Start};
use crate::lab::Lab;
use crate::layout::{Host, TUNNEL_GID};
use crate::place::{self, PlacedCommand};
use crate::wait;

/// A running program. It is killed when dropped.
#[derive(Debug)]
pub struct Running {
    /// Its name, and that of its log.
    pub name: String,
    /// When it was started.
    pub started: Instant,
    child: Child,
    notify: Option<UnixDatagram>,
    /// How long its log was when it started.
    log_start: usize,
}

impl Running {
    /// Takes a child in charge, under a name.
    pub fn adopt(name: &str, child: Child) -> Self {
        Self { name: name.to_owned(), started: Instant::now(), child, notify: None, log_start: 0 }
    }

    pub(crate) fn new(name: &str, started: Instant, child: Child, log_start: usize) -> Self {
        Self { name: name.to_owned(), started, child, notify: None, log_start }
    }

    /// Its process number, in the outer namespace.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = place::number(self.child.id()).ok_or_else(|| Error::new("no process number"))?;
        kill(pid, signal).context(|| format!("signalling {}", self.name))
    }

    /// Kills it without warning, and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end with SIGTERM and waits.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(patience)
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        wait::until(&format!("the end of {}", self.name), patience, || Ok(self.child.try_wait()?))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for a message to the service manager that holds this line (sd_notify(3)), and returns how long after the
    /// start it came.
    pub fn wait_notify(&mut self, line: &str, patience: Duration) -> Result<Duration> {
        let socket =
            self.notify.as_ref().ok_or_else(|| Error::new(format!("{} has no notify socket", self.name)))?;
        let deadline = Instant::now() + patience;
        let mut buffer = [0; 4096];
        loop {
            // Short turns, so that a program that has died is noticed before the deadline.
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            if let Ok(length) = socket.recv(&mut buffer) {
                let message = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
                if message.lines().any(|said| said == line) {
                    return Ok(self.started.elapsed());
                }
            } else if let Some(status) = self.child.try_wait()? {
                return Err(Error::new(format!("{} ended before it said {line}: {status}", self.name)));
            } else if Instant::now() > deadline {
                return Err(Error::new(format!("{} did not say {line} within {patience:?}", self.name)));
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

impl Lab {
    /// Where narrowgate's configuration is in this lab.
    pub fn config_path(&self) -> PathBuf {
        self.file("narrowgate.conf")
    }

    /// Where narrowgate looks for hooks in this lab; not there unless a test makes it.
    pub fn hooks_dir(&self) -> PathBuf {
        self.file("hooks.d")
    }

    /// Makes a hook.
    pub fn write_hook(&self, name: &str, text: &str) -> Result<PathBuf> {
        std::fs::create_dir_all(self.hooks_dir())?;
        let path = self.write(&format!("hooks.d/{name}"), text)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(path)
    }

    /// Puts one of the ready-made hooks there.
    pub fn install_hook(&self, name: &str) -> Result<PathBuf> {
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/hooks").join(name);
        let text = std::fs::read_to_string(&from).context(|| from.display().to_string())?;
        self.write_hook(name, &text)
    }

    /// The arguments that every narrowgate command needs in this lab.
    pub fn narrowgate_arguments(&self) -> Vec<String> {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        vec![
            "--config".to_owned(),
            path(self.config_path()),
            "--runtime-dir".to_owned(),
            path(self.file("runtime")),
            "--state-dir".to_owned(),
            path(self.file("state")),
        ]
    }

    /// Starts `narrowgate run` on the node with this configuration. Does not wait for READY.
    pub fn spawn_narrowgate(&self, config: &str) -> Result<Running> {
        self.write("narrowgate.conf", config)?;
        let program = narrowgate()?;
        let socket = self.file("notify");
        let _ = std::fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).context(|| socket.display().to_string())?;
        let name = "narrowgate";
        let log_start = self.read_log(name).len();
        let command = self.host(Host::Node).command(program).args(self.narrowgate_arguments()).arg("run");
        let command = command
            .env("NOTIFY_SOCKET", &socket)
            .env("NARROWGATE_HOOKS_DIR", self.hooks_dir())
            .log_to(&self.log(name))?;
        let started = Instant::now();
        let child = command.spawn()?;
        Ok(Running { name: name.to_owned(), started, child, notify: Some(notify), log_start })
    }

    /// Starts `narrowgate run` and waits for READY. Returns how long that took, too.
    pub fn start_narrowgate(&self, config: &str) -> Result<(Running, Duration)> {
        let mut running = self.spawn_narrowgate(config)?;
        let ready = running.wait_notify("READY=1", Duration::from_secs(5));
        let ready = ready
            .map_err(|error| Error::new(format!("{error}; its log:\n{}", self.read_log("narrowgate"))))?;
        Ok((running, ready))
    }

    /// Runs another narrowgate command on the node; returns its exit code, standard output and standard error.
    pub fn narrowgate(&self, args: &[&str]) -> Result<(i32, String, String)> {
        let command = self.host(Host::Node).command(narrowgate()?);
        let output = command.args(self.narrowgate_arguments()).args(args).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }

    /// Starts the node's fastd.
    pub fn start_fastd(&self, start: Start) -> Result<Running> {
        let config = self.file(&format!("node-fastd-{start:?}.conf"));
        let name = "node-fastd";
        let log_start = self.read_log(name).len();
        let command = self.on_node(start, "fastd")?.arg("-c").arg(config).log_to(&self.log(name))?;
        let started = Instant::now();
        Ok(Running::new(name, started, command.spawn()?, log_start))
    }

    /// A program on the node, started in one of the ways.
    pub(crate) fn on_node(&self, start: Start, program: &str) -> Result<PlacedCommand> {
        let (node, group) = (self.host(Host::Node), TUNNEL_GID.to_string());
        Ok(match start {
            Start::Plain => node.command(program),
            Start::InGroup => {
                let command = node.command("setpriv").args(["--clear-groups", "--regid"]);
                command.arg(group).args(["--", program])
            }
            Start::Exec => {
                let command = node.command(narrowgate()?).args(self.narrowgate_arguments());
                command.args(["exec", "--group"]).arg(group).args(["--", program])
            }
        })
    }

    /// Waits until the node's fastd has said that the tunnel stands; returns the moment.
    pub fn wait_tunnel(&self, fastd: &Running, patience: Duration) -> Result<Instant> {
        self.wait_log(&fastd.name, ESTABLISHED, fastd.log_start, patience)?;
        Ok(Instant::now())
    }

    /// Waits until a program has logged `text` since it was started.
    pub fn wait_logged(&self, running: &Running, text: &str, patience: Duration) -> Result<()> {
        self.wait_log(&running.name, text, running.log_start, patience)
    }
}

/// The program under test.
pub fn narrowgate() -> Result<PathBuf> {
    under_test("narrowgate")
}

/// The library under test.
pub fn libpacketmark() -> Result<PathBuf> {
    under_test("libpacketmark.so")
}

fn under_test(name: &str) -> Result<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/release");
    let dir = std::env::var_os("NARROWGATE_BIN_DIR").map_or(root, PathBuf::from);
    let path = dir.join(name);
    let path = path.canonicalize();
    path.map_err(|_| {
        let text =
            "build it with `cargo build --release --workspace`, or say where it is in NARROWGATE_BIN_DIR";
        Error::new(format!("there is no {name} in {}: {text}", dir.display()))
    })
}
