//! The runtime directory: what one run leaves for the next of the same boot.
//!
//! `lock` is held while a daemon lives. `before` is what teardown restores. `resolver.NAME` says which process holds
//! that resolver's sockets. `control` is the socket that `status` asks. `uplink` is where hooks of other network managers hand
//! over what they know.

use alloc::borrow::ToOwned;
use alloc::string::String;
use narrowgate_model::state::Before;
use narrowgate_sys::file::{self, Sync};
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_sys::{fs, io};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

/// The runtime directory of one node.
#[derive(Debug, Clone)]
pub struct RuntimeDir {
    path: PathBuf,
}

/// Held while the daemon lives: the kernel lets go of it whatever way we die.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

impl RuntimeDir {
    /// The directory at `path`; not made yet.
    pub fn new(path: impl AsRef<Path>) -> RuntimeDir {
        RuntimeDir { path: path.as_ref().to_owned() }
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the directory and takes the lock.
    ///
    /// # Errors
    /// A sentence: the directory cannot be made, or another daemon holds the lock.
    pub fn lock(&self) -> Result<Lock, String> {
        let dir = self.path.display();
        fs::create_dir_all(&self.path)
            .map_err(|e| format!("runtime directory {dir}: {e}; give another with --runtime-dir"))?;
        let path = self.file("lock");
        let file = fs::open(&path, OFlags::CREATE | OFlags::RDWR, file::EVERYBODY)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        if let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != Errno::WOULDBLOCK {
                return Err(format!("{}: cannot be locked: {error}", path.display()));
            }
            let holder = file::text(&path);
            return Err(format!(
                "another narrowgate runs (process {}, runtime directory {dir}); stop it first, or give this one its own --runtime-dir",
                holder.trim()
            ));
        }
        // The number is for people: a full file system shall not keep the guard from being set.
        let _ = rustix::fs::ftruncate(&file, 0);
        let _ = io::write_all(file.as_fd(), format!("{}\n", narrowgate_sys::process::id()).as_bytes());
        Ok(Lock { _file: file })
    }

    /// What a run before this one remembered; nothing if there was none or its format is another.
    pub fn read_before(&self) -> Before {
        parse_before(&file::text(self.file("before")))
    }

    /// Remembers, on disk before anything is changed.
    pub fn write_before(&self, before: &Before) -> io::Result<()> {
        replace(&self.file("before"), &format_before(before))
    }

    /// Removes all that a clean exit leaves behind; the lock file last, the directory if it is empty then.
    pub fn clean(&self) {
        for name in ["before", "control", "lock"] {
            let _ = fs::remove_file(self.file(name));
        }
        // What hooks of other network managers have handed over is theirs to remove.
        let _ = fs::remove_dir(self.file("uplink"));
        let _ = fs::remove_dir(&self.path);
    }
}

/// Writes a file that lives as long as the boot; a reader sees the old one or the new one, whole.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    file::replace(path, text.as_bytes(), file::EVERYBODY, Sync::DoNotWait)
}

const HEADER: &str = "narrowgate before 1";

fn format_before(before: &Before) -> String {
    let mut text = format!("{HEADER}\n");
    for (path, value) in before.sysctls.iter() {
        text.push_str(&format!("sysctl {path} {value}\n"));
    }
    for name in &before.links_down {
        text.push_str(&format!("down {name}\n"));
    }
    text
}

fn parse_before(text: &str) -> Before {
    let mut before = Before::default();
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return before;
    }
    for line in lines {
        match line.split_once(' ') {
            Some(("sysctl", rest)) => {
                if let Some((path, value)) = rest.split_once(' ') {
                    before.sysctls.insert(path.to_owned(), value.to_owned());
                }
            }
            Some(("down", name)) => before.links_down.push(name.to_owned()),
            _ => {}
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_back_and_another_version_is_not_obeyed() {
        let mut before = Before::default();
        before.sysctls.insert("net/ipv4/conf/eth0.2/src_valid_mark".into(), "0".into());
        before.sysctls.insert("net/ipv4/ip_local_port_range".into(), "32768\t60999".into());
        before.links_down.push("eth0.2".into());
        let text = format_before(&before);
        assert_eq!(parse_before(&text), before);
        assert_eq!(parse_before(&text.replace("before 1", "before 2")), Before::default());
        assert_eq!(parse_before(""), Before::default());
    }

    #[test]
    fn a_second_daemon_is_told_who_holds_the_lock() {
        let path = std::env::temp_dir().join(format!("narrowgate-lock-test-{}", std::process::id()));
        let dir = RuntimeDir::new(&path);
        let lock = dir.lock().unwrap();
        let refused = dir.lock().unwrap_err();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(lock);
        dir.lock().unwrap();
        dir.clean();
        assert!(!path.exists());
    }
}
