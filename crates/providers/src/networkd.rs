//! The `networkd` provider: what systemd-networkd knows of an uplink. DNS servers come from its state files, routes from the
//! kernel, where it has put them: the files do not have the IPv6 ones.
//!
//! The files are watched by inotify(7); what happens to links, addresses and routes the daemon tells anyway. A slow poll
//! stands behind both.

pub mod routes;

use crate::Provider;
use crate::auto::{Claim, Manager};
use narrowgate_model::config::Uplink;
use narrowgate_model::facts::{DnsFact, Origin};
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Server, Time};
use narrowgate_wire::networkd::{Lease, LinkState, lease, link_state};
use rustix::fs::inotify;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The provider of one uplink.
pub struct Networkd {
    uplink: String,
    device: String,
    /// `list dns`: overrides what is learnt.
    dns: Vec<Server>,
    dir: PathBuf,
    watch: Option<OwnedFd>,
    state: Option<LinkState>,
    lease: Lease,
    facts: Facts,
    started: Time,
    poll_at: Time,
    complaint: String,
    /// Only being asked whether it manages the device: nobody wants to read its complaints.
    quiet: bool,
}

impl Networkd {
    /// Watches the state files in `dir`, which need not be there yet.
    pub fn new(uplink: &Uplink, dir: &Path, now: Time) -> Networkd {
        let mut networkd = Networkd {
            uplink: uplink.name.clone(),
            device: uplink.device.clone(),
            dns: uplink.dns.clone(),
            dir: dir.to_owned(),
            watch: None,
            state: None,
            lease: Lease::default(),
            facts: Facts::default(),
            started: now,
            poll_at: now + POLL,
            complaint: String::new(),
            quiet: false,
        };
        networkd.look();
        networkd
    }

    /// Opens the watch, if there is something to watch; before anything is read, so that nothing is missed.
    fn look(&mut self) {
        if self.watch.is_some() {
            return;
        }
        let open = || {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            for part in [LINKS, LEASES] {
                inotify::add_watch(&watch, self.dir.join(part), inotify::WatchFlags::MOVED_TO | CHANGED)?;
            }
            Ok::<_, rustix::io::Errno>(watch)
        };
        self.watch = open().ok();
    }

    /// Reads the files of the link. True: the facts have changed.
    fn read(&mut self, now: Time) -> bool {
        self.look();
        self.poll_at = now + POLL;
        let index = self.facts.link.as_ref().map(|link| link.index.to_string());
        let file = |part: &str| std::fs::read(self.dir.join(part).join(index.as_ref()?)).ok();
        self.state = file(LINKS).map(|text| link_state(&text));
        self.lease = file(LEASES).map(|text| lease(&text)).unwrap_or_default();
        self.refresh()
    }

    /// Builds the facts anew; true if they are others than before.
    fn refresh(&mut self) -> bool {
        let mut facts = Facts { link: self.facts.link.clone(), ..Facts::default() };
        let mut problem = None;
        match (&self.state, facts.link.as_ref().map(|link| link.index)) {
            (_, None) => {}
            (None, Some(_)) => {
                problem = Some(format!("systemd-networkd tells nothing about {}", self.device))
            }
            (Some(state), Some(_)) if !state.managed() => {
                problem = Some(format!(
                    "systemd-networkd does not manage {} ({}): write a .network file",
                    self.device, state.admin
                ));
            }
            (Some(state), Some(index)) => {
                let learnt = state.dns.iter().chain(&self.lease.dns);
                self.add_dns(&mut facts, learnt, Origin::Networkd);
                facts.search = state.search.iter().chain(&self.lease.search).cloned().collect();
                match routes::read(index) {
                    Ok(found) => {
                        problem = main_table(&found, &self.device);
                        facts.routes = routes::facts(found);
                    }
                    Err(error) => {
                        facts.routes.clone_from(&self.facts.routes);
                        problem = Some(format!("routes cannot be read: {error}"));
                    }
                }
            }
        }
        if !self.dns.is_empty() {
            facts.dns.clear();
            self.add_dns(&mut facts, self.dns.iter(), Origin::Config);
        }
        self.complain(problem.unwrap_or_default());
        if facts == self.facts {
            return false;
        }
        self.facts = facts;
        true
    }

    fn add_dns<'a>(&self, facts: &mut Facts, servers: impl Iterator<Item = &'a Server>, origin: Origin) {
        for server in servers.filter(|s| origin == Origin::Config || !s.addr.is_loopback()) {
            let fact = DnsFact { server: server.clone().scoped(&self.device), until: None, origin };
            if !facts.dns.contains(&fact) {
                facts.dns.push(fact);
            }
        }
    }

    /// Logs what is not yet the last thing that was logged.
    fn complain(&mut self, text: String) {
        if self.complaint != text {
            if !text.is_empty() && !self.quiet {
                log::warn!("{}: {text}", self.uplink);
            }
            self.complaint = text;
        }
    }
}

/// The state files do not say which network namespace they are about: networkd's own is that of the first process. Any
/// directory but the system's is for tests.
pub(crate) fn is_ours(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let namespace = |path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    dir != Path::new(crate::NETWORKD) || namespace("/proc/1/ns/net") == namespace("/proc/thread-self/ns/net")
}

impl Manager for Networkd {
    fn claim(&self) -> Claim {
        let Some(state) = self.state.as_ref().filter(|state| state.managed()) else { return Claim::None };
        let file = state.network_file.as_deref().unwrap_or("a file of its own");
        Claim::Managed(format!("systemd-networkd manages {} by {file}", self.device))
    }

    fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
        if !quiet && !self.complaint.is_empty() {
            log::warn!("{}: {}", self.uplink, self.complaint);
        }
    }
}

/// A default route in the main table takes away the tunnel's.
fn main_table(found: &[routes::Found], device: &str) -> Option<String> {
    found.iter().any(|r| r.table == routes::MAIN && r.fact.dst.is_default()).then(|| {
        format!(
            "systemd-networkd writes the default route of {device} to the main table: set RouteTable=1 in its .network file"
        )
    })
}

impl Provider for Networkd {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn on_link(&mut self, link: Option<&Link>, now: Time) -> bool {
        let index = |link: Option<&Link>| link.map(|l| l.index);
        let another = index(self.facts.link.as_ref()) != index(link);
        let changed = self.facts.link.as_ref() != link;
        self.facts.link = link.cloned();
        // Routes may have changed though the link has not: the daemon calls this after every change.
        let unseen = another || self.watch.is_none();
        if unseen { self.read(now) | changed } else { self.refresh() | changed }
    }

    fn on_addresses(&mut self, _: &[Address], _: Time) -> bool {
        false
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        out.extend(self.watch.as_ref().map(AsFd::as_fd));
    }

    fn on_readable(&mut self, now: Time) -> bool {
        let Some(watch) = &self.watch else { return false };
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(watch, &mut buffer);
        let mut any = false;
        let mut gone = false;
        while let Ok(event) = events.next() {
            any = true;
            gone |= event.events().contains(inotify::ReadFlags::IGNORED);
        }
        if gone {
            self.watch = None; // the directory was removed; the poll looks for another
        }
        any && self.read(now)
    }

    fn on_timer(&mut self, now: Time) -> bool {
        self.poll_at <= now && self.read(now)
    }

    fn next_timeout(&self) -> Option<Time> {
        Some(self.poll_at)
    }

    fn settled(&self, now: Time) -> bool {
        let configured = self.state.as_ref().is_some_and(|state| state.admin == "configured");
        configured || now.since(self.started) >= LEARN
    }

    fn stop(&mut self, _: Time) {
        self.watch = None;
        self.state = None;
        self.facts = Facts::default();
    }

    fn kind(&self) -> &'static str {
        "networkd"
    }

    fn describe(&self, _: Time) -> Vec<(String, String)> {
        let mut out = Vec::new();
        if let Some(state) = &self.state {
            let file = state.network_file.as_deref().unwrap_or("no .network file");
            out.push(("networkd".to_owned(), format!("{}, {} ({file})", state.admin, state.oper)));
        }
        if !self.complaint.is_empty() {
            out.push(("problem".to_owned(), self.complaint.clone()));
        }
        out
    }
}

const LINKS: &str = "links";
const LEASES: &str = "leases";
/// Files come by rename(2); in versions to come they may be written in place.
const CHANGED: inotify::WatchFlags = inotify::WatchFlags::CLOSE_WRITE.union(inotify::WatchFlags::DELETE);
const POLL: Duration = Duration::from_secs(30);
/// After that long what is not known will not be known soon.
const LEARN: Duration = Duration::from_secs(10);
