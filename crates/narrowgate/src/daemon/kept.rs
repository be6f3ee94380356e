//! Where the tunnels' peers were found last, kept on disk, so that a node whose household's DNS is broken from the start still finds its gateway.
//!
//! The resolvers tell what they find and are told what was kept; under `option strict` the guard is, too. The file is written rarely, since flash wears:
//!
//! - when none of the addresses that it has for a name is right any more, or it has none: soon, but every [`SELDOM`] at most;
//! - when others have come or gone: an hour after the last time;
//! - when the daemon ends and it is not up to date.
//!
//! No change, no timer.

use super::{now, sooner};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use narrowgate_forwarder::engine::{self, wire_name};
use narrowgate_model::Gather;
use narrowgate_model::peers::renew;
use narrowgate_model::{Config, Time};
use narrowgate_sys::file::{self, Sync};
use narrowgate_sys::fs;
use narrowgate_sys::io::{self, ErrorKind};
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_sys::time::Clock;
use narrowgate_wire::peers::{self, Peer};

/// What is known, and what the file says.
pub struct Kept {
    path: PathBuf,
    peers: Vec<Peer>,
    on_disk: Vec<Peer>,
    /// The last time, if that was lately.
    written: Option<Time>,
    due: Option<Time>,
    problem: Option<String>,
}

impl Kept {
    /// Reads the file. One that is not ours or is damaged is dropped, with a line in the log.
    #[inline(never)]
    pub fn load(state_dir: &Path) -> Kept {
        let path = state_dir.join("peers");
        let (peers, written) = read(&path).unwrap_or_else(|why| {
            if let Some(why) = why {
                log::warn!("{}: {why}: the peers' last addresses are forgotten", path.display());
            }
            (Vec::new(), None)
        });
        Kept { path, on_disk: peers.clone(), peers, written, due: None, problem: None }
    }

    /// The peers of this config, as a resolver is told of them.
    pub fn peers(&self, config: &Config) -> Vec<engine::Peer> {
        let known = |name: &str| Some((wire_name(name)?, find(&self.peers, name).to_vec()));
        config.peer_names().filter_map(known).filter(|(_, addresses)| !addresses.is_empty()).gather()
    }

    /// All addresses of the peers of this config.
    pub fn addresses(&self, config: &Config) -> Vec<IpAddr> {
        config.peer_names().flat_map(|name| find(&self.peers, name)).copied().gather()
    }

    /// A resolver found a peer there. Its process talks to strangers: names that are no peers do not count. Whether anything has changed.
    #[inline(never)]
    pub fn learn(&mut self, config: &Config, (name, found): &engine::Peer) -> bool {
        let Some(name) = config.peer_names().find(|peer| wire_name(peer).as_ref() == Some(name)) else {
            return false;
        };
        if !self.peers.iter().any(|(known, _)| known == name) {
            self.peers.push((name.to_owned(), Vec::new()));
        }
        let known = self.peers.iter_mut().find(|(known, _)| known == name);
        let changed = known.is_some_and(|(_, addresses)| renew(addresses, found));
        if changed {
            self.plan(config);
        }
        changed
    }

    /// When the file is to be written.
    pub fn next_timeout(&self) -> Option<Time> {
        self.due
    }

    /// Writes the file if it is time.
    pub fn on_timer(&mut self, config: &Config) {
        if self.due.is_some_and(|at| at <= now()) {
            self.write(config);
        }
    }

    /// The daemon ends: writes what the file does not have yet.
    pub fn flush(&mut self, config: &Config) {
        if self.due.is_some() {
            self.write(config);
        }
    }

    /// What `status` says of a peer.
    pub fn describe(&self, name: &str) -> Option<String> {
        let addresses: Vec<String> = find(&self.peers, name).iter().map(IpAddr::to_string).gather();
        (!addresses.is_empty()).then(|| narrowgate_model::join(&addresses, " "))
    }

    /// Why the file could not be written.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    #[inline(never)]
    fn plan(&mut self, config: &Config) {
        let names = || config.peer_names().map(|name| (find(&self.peers, name), find(&self.on_disk, name)));
        let at = |pause| {
            let earliest = now() + TOGETHER;
            let at = self.written.map_or(earliest, |at| earliest.max(at + pause));
            sooner(self.due, Some(at))
        };
        self.due = if names().all(|(known, on_disk)| known == on_disk) {
            None
        } else if names()
            .any(|(known, on_disk)| !known.is_empty() && !known.iter().any(|a| on_disk.contains(a)))
        {
            // Other names and the other IP version follow in a moment.
            at(SELDOM)
        } else {
            at(RARELY)
        };
    }

    fn write(&mut self, config: &Config) {
        self.due = None;
        self.peers.retain(|(name, _)| config.peer_names().any(|peer| peer == name));
        let text = peers::format(&self.peers);
        let result = file::replace(&self.path, text.as_bytes(), file::ROOT_ALONE, Sync::Wait);
        self.problem = result.err().map(|error| {
            let problem =
                format!("{}: {error}: the peers' addresses will not outlive a reboot", self.path.display());
            log::warn!("{problem}");
            problem
        });
        // Also if it failed: to try again and again would not help.
        self.on_disk = self.peers.clone();
        self.written = Some(now());
    }
}

fn find<'a>(peers: &'a [Peer], name: &str) -> &'a [IpAddr] {
    peers.iter().find(|(known, _)| known == name).map_or(&[], |(_, addresses)| addresses)
}

/// The peers, and when they were written by our clock; or what is wrong, if there is a file.
#[inline(never)]
fn read(path: &Path) -> Result<(Vec<Peer>, Option<Time>), Option<String>> {
    let why = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => None,
        _ => Some(error.to_string()),
    };
    let bytes = file::read(path).map_err(why)?;
    let peers = peers::parse(&bytes).map_err(|why| Some(why.to_owned()))?;
    // A daemon that dies again and again must not wear the flash either. The clock may have jumped since: then it is as if it were long ago.
    let modified = fs::metadata(path).map_or(i64::MAX, |about| about.modified());
    let age = Clock::Realtime.now().0.checked_sub(modified);
    let age = age.and_then(|age| u64::try_from(age).ok()).filter(|age| *age < RARELY.as_secs());
    Ok((peers, age.map(|age| Time(now().0.saturating_sub(age * 1000)))))
}

/// Between two writings, if what the file has is of no use.
const SELDOM: Duration = Duration::from_secs(600);
/// If it still is.
const RARELY: Duration = Duration::from_secs(3600);
/// So long after a change it is written, with all that came meanwhile.
const TOGETHER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use narrowgate_model::config::{Host, Peer, Tunnel};

    fn config(names: &[&str]) -> Config {
        let peers =
            names.iter().map(|name| Peer { host: Host::Name((*name).to_owned()), port: None }).collect();
        let tunnel = Tunnel { name: "vpn".to_owned(), group: None, device: None, peers, cgroup: None };
        Config { tunnels: vec![tunnel], ..Config::default() }
    }

    fn found(name: &str, addresses: &[&str]) -> engine::Peer {
        (wire_name(name).unwrap(), addresses.iter().map(|a| a.parse().unwrap()).collect())
    }

    /// A directory of its own; it is removed in the end.
    struct Dir(PathBuf);

    impl Dir {
        fn new(what: &str) -> Dir {
            let name = format!("narrowgate-kept-test-{what}-{}", std::process::id());
            Dir(PathBuf::from(&std::env::temp_dir().join(name)))
        }

        fn text(&self) -> Option<String> {
            std::fs::read_to_string(self.0.join("peers")).ok()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// It is planned for so many seconds from now, or for a little sooner, since this is a busy machine.
    fn is_in(kept: &Kept, seconds: u64) -> bool {
        let end = now() + Duration::from_secs(seconds);
        kept.next_timeout().is_some_and(|at| at <= end && end.since(at) < Duration::from_secs(60))
    }

    #[test]
    fn what_one_run_finds_the_next_one_knows() {
        let (dir, config) = (Dir::new("next"), config(&["vpn1.example.net", "vpn2.example.net"]));
        let mut kept = Kept::load(&dir.0);
        assert_eq!((kept.peers(&config), kept.next_timeout()), (vec![], None));
        assert!(kept.learn(&config, &found("vpn1.example.net", &["192.0.2.1"])));
        assert!(kept.learn(&config, &found("vpn1.example.net", &["2001:db8::1"])));
        assert!(!kept.learn(&config, &found("other.example.net", &["192.0.2.9"])), "no peer");
        assert_eq!(dir.text(), None, "not yet");
        kept.flush(&config);
        let next = Kept::load(&dir.0);
        let known = found("vpn1.example.net", &["192.0.2.1", "2001:db8::1"]);
        assert_eq!(next.peers(&config), std::slice::from_ref(&known));
        assert_eq!(next.addresses(&config), known.1);
        assert_eq!(next.peers(&self::config(&["vpn2.example.net"])), [], "a peer no more");
        assert_eq!(
            (next.next_timeout(), next.describe("vpn1.example.net")),
            (None, Some("192.0.2.1 2001:db8::1".to_owned()))
        );
    }

    #[test]
    fn it_is_written_when_it_is_of_no_use_any_more_and_else_rarely() {
        let (dir, config) = (Dir::new("rarely"), config(&["vpn1.example.net", "vpn2.example.net"]));
        let mut kept = Kept::load(&dir.0);
        kept.learn(&config, &found("vpn1.example.net", &["192.0.2.1", "192.0.2.2"]));
        assert!(is_in(&kept, 2), "there was none");
        kept.write(&config);
        assert_eq!(kept.next_timeout(), None);
        let first = dir.text();
        kept.learn(&config, &found("vpn1.example.net", &["192.0.2.2", "192.0.2.3"]));
        assert!(is_in(&kept, 3600), "one of them is still right");
        kept.learn(&config, &found("vpn1.example.net", &["192.0.2.2", "192.0.2.1"]));
        assert_eq!(kept.next_timeout(), None, "as it was");
        kept.learn(&config, &found("vpn1.example.net", &["192.0.2.4"]));
        assert!(is_in(&kept, 600), "none of them is right; but the file has just been written");
        let mut after_a_crash = Kept::load(&dir.0);
        after_a_crash.learn(&config, &found("vpn2.example.net", &["192.0.2.4"]));
        assert!(is_in(&after_a_crash, 600), "nor by one crash after the other");
        kept.on_timer(&config);
        assert_eq!(dir.text(), first, "it is not time");
    }

    #[test]
    fn garbage_is_dropped_and_the_next_file_is_whole() {
        let (dir, config) = (Dir::new("garbage"), config(&["vpn.example.net"]));
        std::fs::create_dir_all(&dir.0).unwrap();
        let long = vec![b'x'; 1 << 20];
        for garbage in [&b""[..], b"narrowgate peers 1\nvpn.example.net 192.0.2.1\n", b"\0\0\0\0", &long] {
            std::fs::write(dir.0.join("peers"), garbage).unwrap();
            let mut kept = Kept::load(&dir.0);
            assert_eq!(kept.peers(&config), []);
            kept.learn(&config, &found("vpn.example.net", &["192.0.2.1"]));
            kept.flush(&config);
            assert_eq!(Kept::load(&dir.0).addresses(&config).len(), 1);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_said_once() {
        let (dir, config) = (Dir::new("readonly"), config(&["vpn.example.net"]));
        std::fs::write(&dir.0, "a file where the directory should be").unwrap();
        let mut kept = Kept::load(&dir.0);
        kept.learn(&config, &found("vpn.example.net", &["192.0.2.1"]));
        kept.flush(&config);
        assert!(kept.problem().is_some_and(|p| p.contains("/peers: ")), "{:?}", kept.problem());
        assert_eq!(
            (kept.next_timeout(), kept.addresses(&config).len()),
            (None, 1),
            "this run knows it all the same"
        );
        std::fs::remove_file(&dir.0).unwrap();
    }
}
