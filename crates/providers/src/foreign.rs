//! What the providers for other network managers have in common. A [`Source`] says what the manager has told; routes come from the
//! kernel, where the manager has put them, in whatever table.
//!
//! Files are watched by inotify(7); what happens to links, addresses and routes the daemon tells anyway. A slow poll stands behind
//! both. What was told last stays while there is nobody to ask.

pub mod routes;

use crate::Provider;
use crate::auto::{Claim, Manager};
use alloc::{borrow::ToOwned, boxed::Box, string::String, vec::Vec};
use core::net::IpAddr;
use core::time::Duration;
use narrowgate_model::config::{ProviderKind, Uplink};
use narrowgate_model::facts::{DnsFact, Origin, PortalFact};
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Prefix, Server, Time};
use narrowgate_sys::path::{Path, PathBuf};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify;

/// What one manager tells, and how it is asked.
pub(crate) trait Source {
    /// Its word in the config.
    fn kind(&self) -> ProviderKind;
    /// What its facts are called.
    fn origin(&self) -> Origin;
    /// Directories in which files come and go when something has changed. They need not be there.
    fn dirs(&self) -> Vec<PathBuf>;
    /// To read anew, or to begin asking, about the device, if there is one. `hint`: something has happened.
    fn ask(&mut self, link: Option<&Link>, hint: bool, now: Time);
    /// What is known, or in a sentence why nothing is.
    fn told(&self) -> Result<Told, String>;
    /// As [`Manager::claim`].
    fn claim(&self) -> Claim;
    /// The manager says that it has done its work.
    fn done(&self) -> bool;
    /// As [`Provider::describe`].
    fn describe(&self, out: &mut Vec<(String, String)>);
    /// How a person keeps its default route out of the main table; said behind "NAME writes the default route … to the main table: ".
    fn mend(&self) -> (String, String);
    /// What to poll for reading while an answer is awaited.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// Reads the answer and does what is due. True: something new was told.
    fn proceed(&mut self, _now: Time) -> bool {
        false
    }
    /// When [`proceed`](Self::proceed) wants to be called.
    fn next_timeout(&self) -> Option<Time> {
        None
    }
    /// Lets go of all it has.
    fn stop(&mut self);
}

/// What a manager has told of the device.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub dns: Vec<Server>,
    pub search: Vec<String>,
    /// Beside those in the kernel.
    pub routes: Vec<(Prefix, Option<IpAddr>)>,
    pub portal: Option<String>,
    /// What is wrong all the same.
    pub problem: Option<String>,
}

/// The provider of one uplink that another manager brings up.
pub struct Foreign {
    uplink: String,
    device: String,
    /// `list dns`: overrides what is learnt.
    dns: Vec<Server>,
    source: Box<dyn Source>,
    watch: Option<OwnedFd>,
    addresses: Vec<Prefix>,
    facts: Facts,
    started: Time,
    poll_at: Time,
    complaint: String,
    /// Only being asked whether it manages the device: nobody wants to read its complaints.
    quiet: bool,
}

impl Foreign {
    pub(crate) fn new(uplink: &Uplink, source: Box<dyn Source>, now: Time) -> Foreign {
        let mut foreign = Foreign {
            uplink: uplink.name.clone(),
            device: uplink.device.clone(),
            dns: uplink.dns.clone(),
            source,
            watch: None,
            addresses: Vec::new(),
            facts: Facts::default(),
            started: now,
            poll_at: now + POLL,
            complaint: String::new(),
            quiet: false,
        };
        foreign.look();
        foreign
    }

    /// Opens the watch, if there is something to watch; before anything is read, so that nothing is missed.
    fn look(&mut self) {
        if self.watch.is_some() {
            return;
        }
        let open = || {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            for dir in self.source.dirs() {
                inotify::add_watch(&watch, &*dir, inotify::WatchFlags::MOVED_TO | CHANGED)?;
            }
            Ok::<_, rustix::io::Errno>(watch)
        };
        self.watch = open().ok();
    }

    /// Asks about the link. True: the facts have changed.
    fn ask(&mut self, hint: bool, now: Time) -> bool {
        self.look();
        self.poll_at = now + POLL;
        self.source.ask(self.facts.link.as_ref(), hint, now);
        self.refresh()
    }

    /// Builds the facts anew; true if they are others than before.
    fn refresh(&mut self) -> bool {
        let mut facts = Facts { link: self.facts.link.clone(), ..Facts::default() };
        let mut problem = None;
        if let Some(index) = facts.link.as_ref().map(|link| link.index) {
            match self.source.told() {
                Ok(told) => problem = self.take(told, index, &mut facts),
                Err(why) => problem = Some(why),
            }
        }
        if !self.dns.is_empty() {
            facts.dns.clear();
            self.add_dns(&mut facts, &self.dns, Origin::Config);
        }
        self.complain(problem.unwrap_or_default());
        if facts == self.facts {
            return false;
        }
        self.facts = facts;
        true
    }

    /// Makes facts of what was told; a problem, if there is one.
    fn take(&self, told: Told, index: u32, facts: &mut Facts) -> Option<String> {
        let origin = self.source.origin();
        let mut problem = told.problem;
        self.add_dns(facts, &told.dns, origin);
        facts.search = told.search;
        facts.portals.extend(told.portal.map(|uri| PortalFact { uri, origin }));
        match routes::read(index, origin) {
            Ok(found) => {
                problem = problem.or_else(|| self.main_table(&found));
                facts.routes = routes::facts(found, told.routes, origin);
            }
            Err(error) => {
                facts.routes.clone_from(&self.facts.routes);
                problem = Some(format!("routes cannot be read: {error}"));
            }
        }
        problem
    }

    /// A default route in the main table takes away the tunnel's.
    fn main_table(&self, found: &[routes::Found]) -> Option<String> {
        let there = found.iter().any(|r| r.table == routes::MAIN && r.fact.dst.is_default());
        let (name, mend) = self.source.mend();
        there.then(|| format!("{name} writes the default route of {} to the main table: {mend}", self.device))
    }

    fn add_dns(&self, facts: &mut Facts, servers: &[Server], origin: Origin) {
        for server in servers.iter().filter(|s| origin == Origin::Config || !s.addr.is_loopback()) {
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

impl Manager for Foreign {
    fn claim(&self) -> Claim {
        self.source.claim()
    }

    fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
        if !quiet && !self.complaint.is_empty() {
            log::warn!("{}: {}", self.uplink, self.complaint);
        }
    }
}

impl Provider for Foreign {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn on_link(&mut self, link: Option<&Link>, now: Time) -> bool {
        let changed = self.facts.link.as_ref() != link;
        self.facts.link = link.cloned();
        // Routes may have changed though the link has not: the daemon calls this after every change.
        let hint = changed | self.refresh();
        let asked = (hint || self.watch.is_none()) && self.ask(true, now);
        hint | asked
    }

    fn on_addresses(&mut self, addresses: &[Address], now: Time) -> bool {
        let addresses: Vec<Prefix> = addresses.iter().map(|a| a.prefix).collect();
        let changed = self.addresses != addresses;
        self.addresses = addresses;
        changed && self.ask(true, now)
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        out.extend(self.watch.as_ref().map(AsFd::as_fd));
        out.extend(self.source.fd());
    }

    fn on_readable(&mut self, now: Time) -> bool {
        let told = self.source.proceed(now) && self.refresh();
        let Some(watch) = &self.watch else { return told };
        let mut buffer = [core::mem::MaybeUninit::uninit(); 1024];
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
        let asked = any && self.ask(true, now);
        told | asked
    }

    fn on_timer(&mut self, now: Time) -> bool {
        let told = self.source.proceed(now) && self.refresh();
        let asked = self.poll_at <= now && self.ask(false, now);
        told | asked
    }

    fn next_timeout(&self) -> Option<Time> {
        Some(self.source.next_timeout().map_or(self.poll_at, |at| at.min(self.poll_at)))
    }

    fn settled(&self, now: Time) -> bool {
        self.source.done() || now.since(self.started) >= LEARN
    }

    fn stop(&mut self, _: Time) {
        self.watch = None;
        self.source.stop();
        self.facts = Facts::default();
    }

    fn kind(&self) -> &'static str {
        self.source.kind().as_str()
    }

    fn describe(&self, _: Time) -> Vec<(String, String)> {
        let mut out = Vec::new();
        self.source.describe(&mut out);
        if !self.complaint.is_empty() {
            out.push(("problem".to_owned(), self.complaint.clone()));
        }
        out
    }
}

/// Files do not say which network namespace they are about: a manager's own is that of the first process. Any directory but the
/// system's is for tests.
pub(crate) fn is_ours(dir: &Path, systems: &str) -> bool {
    let namespace = |path| narrowgate_sys::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    dir != Path::new(systems) || namespace("/proc/1/ns/net") == namespace("/proc/thread-self/ns/net")
}

/// Files come by rename(2), or are written in place.
const CHANGED: inotify::WatchFlags = inotify::WatchFlags::CLOSE_WRITE.union(inotify::WatchFlags::DELETE);
/// How often is looked without any hint.
pub(crate) const POLL: Duration = Duration::from_secs(30);
/// After that long what is not known will not be known soon.
const LEARN: Duration = Duration::from_secs(10);
