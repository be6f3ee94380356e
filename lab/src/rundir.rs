//! The directory of one run, `/run/narrowgate-lab/<id>`, and the sweeping up after runs that died.
//!
//! The id says who made it: `<pid>-<start time>-<n>`. A directory whose maker is dead and whose holder (the file
//! `holder`, same form) is dead too belongs to nobody, and only such a one is swept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::wait;

/// Where the runs of this machine are.
pub const ROOT: &str = "/run/narrowgate-lab";

/// One process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its number in the machine's first PID namespace (as `/proc` shows it here).
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`, see proc(5)).
    pub start: u64,
}

impl Process {
    /// The process with this number as it is now, or `None` when there is none (a zombie counts as none).
    pub fn find(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; what follows the last parenthesis is numbers.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        if fields.next()? == "Z" {
            return None;
        }
        let start = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, start })
    }

    /// Whether this very process is still there.
    pub fn alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    fn parse(text: &str) -> Option<Self> {
        let (pid, start) = text.trim().split_once('-')?;
        Some(Self { pid: pid.parse().ok()?, start: start.parse().ok()? })
    }
}

/// The directory of one run.
#[derive(Debug, Clone)]
pub struct RunDir {
    id: String,
}

impl RunDir {
    /// Makes a new one under [`ROOT`], named after this process.
    pub fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let me = Process::find(std::process::id())
            .ok_or_else(|| Error::new("/proc does not show this process"))?;
        let id = format!("{}-{}-{}", me.pid, me.start, NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Self { id };
        fs::create_dir_all(dir.path()).context(|| format!("making {}", dir.path().display()))?;
        if let Some(cgroup) = dir.cgroup() {
            // Without one the lab works too; only the cgroups that are made inside it are then not swept.
            let _ = fs::create_dir(cgroup);
        }
        Ok(dir)
    }

    /// The one with this id, which must exist.
    pub fn open(id: &str) -> Result<Self> {
        let dir = Self { id: id.to_owned() };
        if !dir.path().is_dir() {
            return Err(Error::new(format!("there is no lab {id} under {ROOT}")));
        }
        Ok(dir)
    }

    /// Every one that there is, dead or alive.
    pub fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<_> = names.filter(|id| maker(id).is_some()).map(|id| Self { id }).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// The id: the directory's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        Path::new(ROOT).join(&self.id)
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The cgroup v2 that this run's processes live in, where the machine has a cgroup2 mount.
    pub fn cgroup(&self) -> Option<PathBuf> {
        Some(cgroup2_mount()?.join(format!("narrowgate-lab-{}", self.id)))
    }

    /// Writes down which process holds the namespaces.
    pub fn set_holder(&self, holder: Process) -> Result<()> {
        let text = format!("{}-{}\n", holder.pid, holder.start);
        fs::write(self.file("holder"), text).context(|| format!("writing {}", self.file("holder").display()))
    }

    /// Which process holds the namespaces, as far as it is written down.
    pub fn holder(&self) -> Option<Process> {
        Process::parse(&fs::read_to_string(self.file("holder")).ok()?)
    }

    /// Whether the maker or the holder is still there.
    pub fn alive(&self) -> bool {
        maker(&self.id).is_some_and(Process::alive) || self.holder().is_some_and(Process::alive)
    }

    /// Removes the directory and the run's cgroups. The processes must be gone.
    pub fn remove(&self) -> Result<()> {
        if let Some(cgroup) = self.cgroup().filter(|path| path.is_dir()) {
            // The last process may still be on its way out of the cgroup when its parent is told of its end.
            wait::until("the lab's cgroup to empty", Duration::from_secs(5), || {
                remove_cgroup(&cgroup);
                Ok((!cgroup.exists()).then_some(()))
            })?;
        }
        fs::remove_dir_all(self.path()).context(|| format!("removing {}", self.path().display()))
    }
}

/// Removes what runs that are dead left behind, and nothing else. Returns the ids of what was removed.
pub fn sweep() -> Vec<String> {
    let dead = RunDir::all().into_iter().filter(|dir| !dir.alive());
    dead.filter(|dir| dir.remove().is_ok()).map(|dir| dir.id).collect()
}

/// The process that made a run, from the run's id; `None` when the name is none of ours.
fn maker(id: &str) -> Option<Process> {
    let (process, count) = id.rsplit_once('-')?;
    count.parse::<u32>().ok()?;
    Process::parse(process)
}

/// Removes a cgroup with all below it, deepest first, as far as they are empty.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// Where cgroup v2 is mounted, by `/proc/self/mountinfo`.
fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2")
            .then(|| PathBuf::from(before.split(' ').nth(4).unwrap_or("/")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_with_another_start_is_not() {
        let me = Process::find(std::process::id()).expect("this process");
        assert!(me.alive());
        assert!(!Process { start: me.start + 1, ..me }.alive());
    }

    #[test]
    fn only_names_of_our_form_are_runs() {
        assert_eq!(maker("12-3456-0"), Some(Process { pid: 12, start: 3456 }));
        for foreign in ["", "12", "12-3456", "a-b-c", "12-3456-0x", "precious"] {
            assert_eq!(maker(foreign), None, "{foreign}");
        }
    }
}
