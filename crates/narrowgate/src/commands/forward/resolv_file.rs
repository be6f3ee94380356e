//! A resolv.conf that is watched.

use super::said;
use crate::watch::{DONE, FileWatch};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use narrowgate_model::Server;
use narrowgate_sys::path::{Path, PathBuf};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::inotify::WatchFlags;

/// See the module's head.
pub(super) struct ResolvFile {
    path: PathBuf,
    watch: FileWatch,
    servers: Option<Vec<Server>>,
}

impl ResolvFile {
    /// Watches the file's directory, which must be there.
    #[inline(never)]
    pub fn watch(path: &Path) -> Result<ResolvFile, String> {
        let bad = |why: &dyn Display| said(&format_args!("--resolv-file {}", path.display()), why);
        if path.file_name().is_none() {
            return Err(bad(&"no file"));
        }
        // Whoever writes it may keep it open.
        let watch = FileWatch::new(path, DONE | WatchFlags::MODIFY | WatchFlags::CREATE)
            .map_err(|e| bad(&format_args!("its directory cannot be watched: {e}")))?;
        Ok(ResolvFile { path: path.to_owned(), watch, servers: None })
    }

    /// The servers as they stand there now. Read again only after a change.
    #[inline(never)]
    pub fn servers(&mut self) -> &[Server] {
        if self.watch.changed() || self.servers.is_none() {
            match narrowgate_sys::fs::read(&self.path) {
                Ok(bytes) => self.servers = Some(nameservers(&String::from_utf8_lossy(&bytes))),
                // Gone: the servers are as they were, for a file that is written anew is away for a moment.
                Err(error) => {
                    let servers = self.servers.get_or_insert_default();
                    let keeping = if servers.is_empty() { "" } else { "; keeping its servers" };
                    log::warn!("forward: {}: {error}{keeping}", self.path.display());
                }
            }
        }
        self.servers.as_deref().unwrap_or_default()
    }
}

impl AsFd for ResolvFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// The servers of a resolv.conf(5): `nameserver ADDR[%dev]`. A line that cannot be read is told and left out: the others still help.
fn nameservers(text: &str) -> Vec<Server> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (Some("nameserver"), Some(word)) = (words.next(), words.next()) else { continue };
        match word.parse::<Server>() {
            Ok(server) if !servers.contains(&server) => servers.push(server),
            Ok(_) => {}
            Err(error) => log::warn!("forward: nameserver {word}: {error}"),
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_among_other_things() {
        let text = "# Interface wan\nnameserver 192.0.2.1\nnameserver fe80::1%br-wan\nsearch lan\noptions edns0\n nameserver 192.0.2.1 ; again\nnameserver nonsense\nnameserver\n";
        let servers: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1", "fe80::1%br-wan"]);
    }

    #[test]
    fn a_file_may_come_late_be_replaced_and_go() {
        let folder = std::env::temp_dir().join(format!("narrowgate-resolv-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = PathBuf::from(folder.join("resolv.conf"));
        let mut file = ResolvFile::watch(&path).unwrap();
        assert!(file.servers().is_empty());
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(file.servers().len(), 1);
        let new = folder.join("new");
        std::fs::write(&new, "nameserver 192.0.2.2\nnameserver 192.0.2.3\n").unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert_eq!(file.servers().len(), 2);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.servers().len(), 2, "what was known is better than nothing");
        std::fs::write(&path, "").unwrap();
        assert!(file.servers().is_empty(), "an empty file is a word");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
