//! What a Gluon node shares with us: its file of the WAN's DNS servers, which other programs read and we write, and its own
//! config of them (`/etc/config/gluon-wan-dnsmasq`), which may be written by anybody at any time.

use crate::config_file;
use crate::runtime::replace;
use crate::watch::{DONE, FileWatch};
use alloc::string::String;
use narrowgate_model::Server;
use narrowgate_sys::fs;
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_wire::resolv;
use rustix::fd::{AsFd, BorrowedFd};

/// See the module's head.
#[derive(Debug)]
pub struct Gluon {
    file: PathBuf,
    /// One of them is there on a Gluon node. Elsewhere no file is written.
    signs: &'static [&'static str],
    written: Option<String>,
    watch: Option<FileWatch>,
}

impl Gluon {
    /// Watches Gluon's config, which lies beside ours.
    #[inline(never)]
    pub fn new(config: &Path) -> Gluon {
        let theirs = config.with_file_name(config_file::GLUON);
        let watch = FileWatch::new(&theirs, DONE)
            .map_err(|error| log::info!("{}: not watched: {error}; SIGHUP reads it again", theirs.display()));
        Gluon { file: PathBuf::from(FILE), signs: SIGNS, written: None, watch: watch.ok() }
    }

    /// To be polled for reading.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Whether Gluon's config has changed since the last time.
    pub fn changed(&self) -> bool {
        self.watch.as_ref().is_some_and(FileWatch::changed)
    }

    /// Writes the servers, if they are others than before. That there are none is believed only if it is `sure`: after a start
    /// those of the run before are better than nothing. Without a run before the file is made, since its readers expect it.
    pub fn tell(&mut self, servers: &[Server], sure: bool) {
        let text = resolv::write(servers);
        if self.written.as_ref() == Some(&text) || (servers.is_empty() && !sure && self.file.exists()) {
            return;
        }
        if !self.signs.iter().any(|sign| Path::new(sign).exists()) {
            return;
        }
        let there = fs::read(&self.file).is_ok_and(|there| there == text.as_bytes());
        if !there && let Err(error) = replace(&self.file, &text) {
            log::warn!(
                "{}: {error}: who reads it does not hear of the WAN's DNS servers",
                self.file.display()
            );
        }
        self.written = Some(text);
    }
}

/// Where Gluon's programs look for the WAN's DNS servers.
const FILE: &str = "/var/gluon/wan-dnsmasq/resolv.conf";
/// Gluon's own places.
const SIGNS: &[&str] = &["/lib/gluon", "/var/gluon", "/etc/config/gluon-wan-dnsmasq"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn servers(words: &[&str]) -> Vec<Server> {
        words.iter().map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn servers_are_written_on_change_by_rename_and_only_on_a_gluon_node() {
        let dir = std::env::temp_dir().join(format!("narrowgate-gluon-{}", std::process::id()));
        let file = dir.join("wan-dnsmasq/resolv.conf");
        std::fs::create_dir_all(&dir).unwrap();
        let mut gluon =
            Gluon { file: PathBuf::from(&file), signs: &["/nowhere"], written: None, watch: None };
        gluon.tell(&servers(&["192.0.2.1"]), true);
        assert!(!file.exists());

        gluon.signs = &["/nowhere", "/proc"];
        let content = || std::fs::read_to_string(&file).unwrap();
        gluon.tell(&[], false);
        assert_eq!(content(), "");
        let two = servers(&["192.0.2.1", "fe80::1%br-wan"]);
        gluon.tell(&two, false);
        assert_eq!(content(), "nameserver 192.0.2.1\nnameserver fe80::1%br-wan\n");
        let first = file.metadata().unwrap().ino();
        gluon.tell(&two, true);
        // The next run finds it as it should be.
        gluon.written = None;
        gluon.tell(&two, true);
        assert_eq!(file.metadata().unwrap().ino(), first);
        gluon.tell(&servers(&["192.0.2.1"]), true);
        assert_ne!(file.metadata().unwrap().ino(), first);
        gluon.tell(&[], false);
        assert_eq!(content(), "nameserver 192.0.2.1\n");
        gluon.tell(&[], true);
        assert_eq!(content(), "");
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing else stays");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn gluons_config_is_watched_beside_ours() {
        let dir = std::env::temp_dir().join(format!("narrowgate-gluon-watch-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let gluon = Gluon::new(Path::new(&dir.join("narrowgate")));
        assert!(gluon.fd().is_some() && !gluon.changed());
        std::fs::write(dir.join("narrowgate"), "").unwrap();
        assert!(!gluon.changed(), "ours is read again on demand only");
        let theirs = dir.join(config_file::GLUON);
        std::fs::write(&theirs, "config static\n").unwrap();
        assert!(gluon.changed() && !gluon.changed());
        // As uci does it.
        let new = dir.join(".gluon-wan-dnsmasq.uci-x");
        std::fs::write(&new, "config static\n").unwrap();
        assert!(!gluon.changed());
        std::fs::rename(&new, &theirs).unwrap();
        assert!(gluon.changed());
        std::fs::remove_file(&theirs).unwrap();
        assert!(gluon.changed());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
