//! The programs in the hooks' directory: one at a time, in the order of their names, none longer than [`LIMIT`].

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_sys::spawn::{Child, Program};
use narrowgate_sys::{env, fs};

/// The directory, and what of it runs.
pub struct Scripts {
    dir: PathBuf,
    /// What is still to be run for this event, the next one last.
    queue: Vec<PathBuf>,
    event: Vec<(&'static str, String)>,
    running: Option<Running>,
    /// What of the directory cannot be run and was said to be so.
    complained: Vec<PathBuf>,
}

struct Running {
    child: Child,
    path: PathBuf,
    until: Time,
    killed: bool,
}

impl Scripts {
    /// Nothing runs yet.
    pub fn new() -> Scripts {
        Scripts::of(env::var_os("NARROWGATE_HOOKS_DIR").unwrap_or_else(|| PathBuf::from(DIRECTORY)))
    }

    /// Those of another directory.
    pub fn of(dir: PathBuf) -> Scripts {
        Scripts { dir, queue: Vec::new(), event: Vec::new(), running: None, complained: Vec::new() }
    }

    /// Whether there is anything to run.
    pub fn any(&self) -> bool {
        fs::names_in(&self.dir).is_ok_and(|names| !names.is_empty())
    }

    /// Whether the last event is dealt with.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.queue.is_empty()
    }

    /// An event with its variables.
    pub fn begin(&mut self, action: &'static str, variables: Vec<(&'static str, String)>, now: Time) {
        self.event = variables;
        self.event.insert(0, ("ACTION", action.to_owned()));
        let program = env::current_exe().unwrap_or_default();
        self.event.push(("NARROWGATE", program.to_string_lossy().into_owned()));
        self.event.push(("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()));
        self.queue = self.list();
        self.step(now);
    }

    /// Buries the one that has ended, kills the one that takes too long, starts the next.
    #[inline(never)]
    pub fn step(&mut self, now: Time) {
        if let Some(running) = &mut self.running {
            let ended = match running.child.try_wait() {
                Ok(None) if running.until <= now && !running.killed => {
                    running.killed = true;
                    running.child.kill_group(); // with all that it has started and not put elsewhere
                    None
                }
                Ok(ended) => ended,
                Err(_) => Some(Default::default()),
            };
            let Some(status) = ended else { return };
            let name = running.path.display();
            let action = self.event.first().map_or("", |(_, action)| action);
            let outcome = match (status.code(), status.signal()) {
                _ if running.killed => "killed, it took longer than 10 s".to_owned(),
                (Some(0), _) => String::new(),
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("died of signal {}", signal.unwrap_or(0)),
            };
            if outcome.is_empty() {
                log::debug!("hook {name}: {action}: done");
            } else {
                log::warn!("hook {name}: {action}: {outcome}");
            }
            self.running = None;
        }
        while let Some(path) = self.queue.pop() {
            let program = Program { variables: &self.event, group: true, ..Program::new(&path) };
            match program.spawn() {
                Ok(child) => {
                    self.running = Some(Running { child, path, until: now + LIMIT, killed: false });
                    return;
                }
                Err(error) => log::warn!(
                    "hook {}: cannot be started: {error}; is the program that its first line (#!) names there?",
                    path.display()
                ),
            }
        }
    }

    /// When [`step`](Self::step) has to kill.
    pub fn next_timeout(&self) -> Option<Time> {
        self.running.as_ref().filter(|r| !r.killed).map(|r| r.until)
    }

    /// Says again what cannot be run.
    pub fn forget_complaints(&mut self) {
        self.complained.clear();
    }

    /// Kills what runs.
    pub fn stop(&mut self) {
        self.queue.clear();
        if let Some(mut running) = self.running.take() {
            running.child.kill_group();
            let _ = running.child.wait();
        }
    }

    /// What is to be run, in the reverse order of names.
    #[inline(never)]
    fn list(&mut self) -> Vec<PathBuf> {
        let mut names = fs::names_in(&self.dir).unwrap_or_default();
        narrowgate_model::sort::sort(&mut names);
        let mut paths = Vec::new();
        while let Some(name) = names.pop() {
            let path = self.dir.join(&name);
            match unfit(&name, &path) {
                None => paths.push(path),
                Some(why) if !self.complained.contains(&name) => {
                    log::warn!("hook {}: not run: {why}", path.display());
                    self.complained.push(name);
                }
                Some(_) => {}
            }
        }
        paths
    }
}

/// Why this is not to be run.
fn unfit(name: &Path, path: &Path) -> Option<&'static str> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
    if !name.as_bytes().iter().all(plain) {
        return Some(
            "its name has other characters than letters, digits, - and _; rename it, or leave it off so",
        );
    }
    let Ok(metadata) = fs::metadata(path) else { return Some("it cannot be read") };
    match metadata.mode() {
        _ if !metadata.is_file() => Some("it is no file"),
        mode if mode & 0o111 == 0 => Some("it is not executable; chmod 755 it, or remove it"),
        mode if mode & 0o002 != 0 => Some("anybody may write to it; chmod 755 it"),
        _ => None,
    }
}

/// Where they are, unless `NARROWGATE_HOOKS_DIR` says otherwise.
const DIRECTORY: &str = "/etc/narrowgate/hooks.d";
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn they_are_run_in_the_order_of_their_names_and_what_cannot_be_run_is_left_out() {
        let dir = std::env::temp_dir().join(format!("narrowgate-hooks-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("50-directory")).unwrap();
        for (name, mode) in [
            ("20-b", 0o755),
            ("10-a", 0o700),
            ("30-text", 0o644),
            ("40-open", 0o757),
            ("50-a.disabled", 0o755),
        ] {
            std::fs::write(dir.join(name), "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        let mut scripts = Scripts::of(PathBuf::from(&dir));
        assert!(scripts.any());
        assert_eq!(
            scripts.list(),
            ["20-b", "10-a"].map(|name| PathBuf::from(&dir.join(name))),
            "the next one last"
        );
        scripts.list();
        assert_eq!(scripts.complained, ["50-directory", "50-a.disabled", "40-open", "30-text"], "each once");
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(!scripts.any() && scripts.list().is_empty());
    }
}
