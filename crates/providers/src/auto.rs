//! The `auto` provider: asks who manages the device and lets that one tell the facts. netifd comes first, then networkd; where
//! neither knows the device, it is ours.
//!
//! Managers may start after us. So both are watched all the time, and when one turns out to manage the device, it takes over from
//! the builtin provider, which gives back what it was lent. The other way round there is no change: a manager that restarts
//! knows nothing for a moment, and two DHCP clients on one cable are worse than none.

use crate::Provider;
use crate::builtin::Builtin;
use crate::netifd::Netifd;
use crate::networkd::Networkd;
use narrowgate_model::config::Uplink;
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Mark, Time};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The provider of one uplink whose manager is found out.
pub struct Auto {
    uplink: Uplink,
    mark: Mark,
    state_dir: PathBuf,
    sockets: Vec<PathBuf>,
    /// There if there is a bus to ask.
    netifd: Option<Netifd>,
    /// There unless it is another network namespace's.
    networkd: Option<Networkd>,
    builtin: Option<Builtin>,
    choice: Choice,
    why: String,
    started: Time,
    nothing: Facts,
    link: Option<Link>,
    addresses: Vec<Address>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Not yet made: netifd is being asked.
    Open,
    Netifd,
    Networkd,
    Builtin,
}

impl Auto {
    /// Asks at once, at ubus's `sockets` and in networkd's directory.
    pub fn new(
        uplink: &Uplink,
        mark: Mark,
        state_dir: &Path,
        sockets: Vec<PathBuf>,
        networkd: &Path,
        now: Time,
    ) -> Auto {
        let mut auto = Auto {
            sockets,
            netifd: None,
            networkd: is_ours(networkd).then(|| Networkd::new(uplink, networkd, now)),
            builtin: None,
            choice: Choice::Open,
            why: "netifd is being asked".to_owned(),
            started: now,
            nothing: Facts::default(),
            link: None,
            addresses: Vec::new(),
            uplink: uplink.clone(),
            mark,
            state_dir: state_dir.to_owned(),
        };
        if let Some(networkd) = &mut auto.networkd {
            networkd.set_quiet(true);
        }
        auto.find_bus(now);
        auto
    }

    /// The bus may come to be after us.
    fn find_bus(&mut self, now: Time) {
        if self.netifd.is_none() && self.sockets.iter().any(|path| path.exists()) {
            let netifd = self.netifd.insert(Netifd::new(&self.uplink, self.sockets.clone(), now));
            netifd.set_quiet(true);
            netifd.on_link(self.link.as_ref(), now);
        }
    }

    /// Makes the choice anew. True: it is another one than before.
    fn choose(&mut self, now: Time) -> bool {
        if matches!(self.choice, Choice::Netifd | Choice::Networkd) || self.link.is_none() {
            return false;
        }
        self.find_bus(now);
        let device = &self.uplink.device;
        let managing = self.netifd.as_ref().map(Netifd::managing);
        let late = now.since(self.started) >= PATIENCE;
        let (choice, why) = match managing {
            Some(Some(names)) if !names.is_empty() => {
                (Choice::Netifd, format!("netifd has {device} as interface {}", names.join(", ")))
            }
            Some(None) if self.choice == Choice::Open && !late => return false,
            silent => match self.networkd.as_ref().and_then(Networkd::managing) {
                Some(file) => (Choice::Networkd, format!("systemd-networkd manages {device} by {file}")),
                None if silent == Some(None) && self.choice == Choice::Open => (
                    Choice::Netifd,
                    "ubus is there, so this is netifd's, though it does not answer".to_owned(),
                ),
                None => (Choice::Builtin, format!("neither netifd nor systemd-networkd manages {device}")),
            },
        };
        if choice == self.choice {
            return false;
        }
        log::info!("{}: provider {} is chosen: {why}", self.uplink.name, name(choice));
        (self.choice, self.why) = (choice, why);
        if let Some(mut builtin) = self.builtin.take() {
            builtin.stop(now);
        }
        match choice {
            Choice::Netifd => self.netifd.iter_mut().for_each(|p| p.set_quiet(false)),
            Choice::Networkd => self.networkd.iter_mut().for_each(|p| p.set_quiet(false)),
            _ => {}
        }
        if choice == Choice::Builtin {
            let builtin = self.builtin.insert(Builtin::new(&self.uplink, self.mark, &self.state_dir, now));
            builtin.on_link(self.link.as_ref(), now);
            builtin.on_addresses(&self.addresses, now);
        }
        true
    }

    /// Lets everybody who is there do something; true if what the chosen one knows, or the choice, has changed.
    fn each(&mut self, now: Time, mut act: impl FnMut(&mut dyn Provider) -> bool) -> bool {
        let netifd = self.netifd.as_mut().is_some_and(|p| act(p));
        let networkd = self.networkd.as_mut().is_some_and(|p| act(p));
        let builtin = self.builtin.as_mut().is_some_and(|p| act(p));
        let changed = match self.choice {
            Choice::Open => false,
            Choice::Netifd => netifd,
            Choice::Networkd => networkd,
            Choice::Builtin => builtin,
        };
        changed | self.choose(now)
    }

    fn chosen(&self) -> Option<&dyn Provider> {
        match self.choice {
            Choice::Open => None,
            Choice::Netifd => self.netifd.as_ref().map(|p| p as &dyn Provider),
            Choice::Networkd => self.networkd.as_ref().map(|p| p as &dyn Provider),
            Choice::Builtin => self.builtin.as_ref().map(|p| p as &dyn Provider),
        }
    }

    fn everybody(&self) -> impl Iterator<Item = &dyn Provider> {
        let netifd = self.netifd.as_ref().map(|p| p as &dyn Provider);
        let networkd = self.networkd.as_ref().map(|p| p as &dyn Provider);
        let builtin = self.builtin.as_ref().map(|p| p as &dyn Provider);
        [netifd, networkd, builtin].into_iter().flatten()
    }
}

/// The state files do not say which network namespace they are about: networkd's own is that of the first process. Any
/// directory but the system's is for tests.
fn is_ours(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let namespace = |path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    dir != Path::new(crate::networkd::DIR)
        || namespace("/proc/1/ns/net") == namespace("/proc/thread-self/ns/net")
}

fn name(choice: Choice) -> &'static str {
    match choice {
        Choice::Open => "auto",
        Choice::Netifd => "netifd",
        Choice::Networkd => "networkd",
        Choice::Builtin => "builtin",
    }
}

impl Provider for Auto {
    fn facts(&self) -> &Facts {
        self.chosen().map_or(&self.nothing, Provider::facts)
    }

    fn on_link(&mut self, link: Option<&Link>, now: Time) -> bool {
        let open = self.choice == Choice::Open && self.nothing.link.as_ref() != link;
        self.nothing.link = link.cloned();
        self.link = link.cloned();
        self.each(now, |p| p.on_link(link, now)) | open
    }

    fn on_addresses(&mut self, addresses: &[Address], now: Time) -> bool {
        self.addresses = addresses.to_vec();
        self.each(now, |p| p.on_addresses(addresses, now))
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        self.everybody().for_each(|p| p.fds(out));
    }

    fn on_readable(&mut self, now: Time) -> bool {
        self.each(now, |p| p.on_readable(now))
    }

    fn on_timer(&mut self, now: Time) -> bool {
        self.each(now, |p| p.on_timer(now))
    }

    fn next_timeout(&self) -> Option<Time> {
        let choice = (self.choice == Choice::Open && self.link.is_some()).then(|| self.started + PATIENCE);
        self.everybody().filter_map(Provider::next_timeout).chain(choice).min()
    }

    fn settled(&self, now: Time) -> bool {
        self.chosen().is_some_and(|p| p.settled(now))
    }

    fn stop(&mut self, now: Time) {
        self.link = None; // so that no choice is made any more
        self.each(now, |p| {
            p.stop(now);
            true
        });
        self.builtin = None;
        self.choice = Choice::Open;
        self.nothing = Facts::default();
    }

    fn kind(&self) -> &'static str {
        name(self.choice)
    }

    fn describe(&self, now: Time) -> Vec<(String, String)> {
        let mut out = vec![("chosen".to_owned(), self.why.clone())];
        out.extend(self.chosen().map(|p| p.describe(now)).unwrap_or_default());
        out
    }
}

/// How long netifd has to answer before the choice is made without it.
const PATIENCE: Duration = Duration::from_secs(5);
