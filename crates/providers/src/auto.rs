//! The `auto` provider: asks who manages the device and lets that one tell the facts. [`MANAGERS`] is the list, in the order in
//! which they are believed; where none of them knows the device, it is ours, if the build has the builtin provider.
//!
//! Managers may start after us. So all are watched all the time, and when one turns out to manage the device, it takes over from
//! the builtin provider, which gives back what it was lent. The other way round there is no change: a manager that restarts
//! knows nothing for a moment, and two DHCP clients on one cable are worse than none.

#[cfg(any(feature = "networkd", feature = "networkmanager"))]
use crate::foreign::is_ours;
use crate::{Places, Provider, tell};
use alloc::{borrow::ToOwned, boxed::Box, string::String, vec::Vec};
use core::time::Duration;
use narrowgate_model::config::{ProviderKind, Uplink};
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Gather, Mark, Time};
use narrowgate_sys::path::{Path, PathBuf};
use rustix::fd::BorrowedFd;

/// The provider of somebody else's facts, who may or may not be the one that manages the device.
pub trait Manager: Provider {
    /// Whether it manages the device, as far as is known now.
    fn claim(&self) -> Claim;
    /// Whether to keep complaints from the log: nobody wants to read those of one that is only being asked. What there is to
    /// complain of when this ends is logged then.
    fn set_quiet(&mut self, quiet: bool);
}

/// What a manager says of the device.
pub enum Claim {
    /// Not its own.
    None,
    /// It is there, but has not answered.
    Silent,
    /// Its own; a sentence says by what.
    Managed(String),
}

/// Those who may manage a device, and how they are found: `None` while there is nothing of them on this system, which is
/// asked again whenever something happens.
const MANAGERS: &[(ProviderKind, Find)] = &[
    #[cfg(feature = "netifd")]
    (ProviderKind::Netifd, |uplink, places, now| {
        let netifd = || crate::netifd::Netifd::new(uplink, places, now);
        places.ubus.iter().any(|path| path.exists()).then(|| Box::new(netifd()) as _)
    }),
    #[cfg(feature = "networkd")]
    (ProviderKind::Networkd, |uplink, places, now| {
        let networkd = || crate::networkd::open(uplink, &places.networkd, now);
        is_ours(&places.networkd, crate::NETWORKD).then(|| Box::new(networkd()) as _)
    }),
    #[cfg(feature = "networkmanager")]
    (ProviderKind::NetworkManager, |uplink, places, now| {
        let dir = &places.networkmanager;
        let manager = || crate::networkmanager::open(uplink, dir, &places.nmcli, now);
        (dir.is_dir() && is_ours(dir, crate::NETWORKMANAGER)).then(|| Box::new(manager()) as _)
    }),
    #[cfg(feature = "hook")]
    (ProviderKind::Hook, |uplink, places, now| {
        let hook = || crate::hook::open(uplink, &places.handed, now);
        places.handed.is_dir().then(|| Box::new(hook()) as _)
    }),
];

type Find = fn(&Uplink, &Places, Time) -> Option<Box<dyn Manager>>;

/// narrowgate's own provider, where the build has it.
#[cfg(feature = "builtin")]
fn own(uplink: &Uplink, mark: Mark, state_dir: &Path, now: Time) -> Option<Box<dyn Provider>> {
    Some(Box::new(crate::builtin::Builtin::new(uplink, mark, state_dir, now)))
}

#[cfg(not(feature = "builtin"))]
fn own(_: &Uplink, _: Mark, _: &Path, _: Time) -> Option<Box<dyn Provider>> {
    None
}

/// The provider of one uplink whose manager is found out.
pub struct Auto {
    uplink: Uplink,
    mark: Mark,
    state_dir: PathBuf,
    places: Places,
    /// As [`MANAGERS`].
    managers: Vec<Option<Box<dyn Manager>>>,
    builtin: Option<Box<dyn Provider>>,
    choice: Choice,
    why: String,
    started: Time,
    nothing: Facts,
    link: Option<Link>,
    addresses: Vec<Address>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Not yet made: somebody is being asked.
    Open,
    /// By its row in [`MANAGERS`].
    Manager(usize),
    /// Nobody manages the device: we do, if we can.
    Own,
}

impl Auto {
    /// Asks at once.
    pub fn new(uplink: &Uplink, mark: Mark, state_dir: &Path, places: Places, now: Time) -> Auto {
        let mut auto = Auto {
            places,
            managers: MANAGERS.iter().map(|_| None).collect(),
            builtin: None,
            choice: Choice::Open,
            why: "who manages the device is being asked".to_owned(),
            started: now,
            nothing: Facts::default(),
            link: None,
            addresses: Vec::new(),
            uplink: uplink.clone(),
            mark,
            state_dir: state_dir.to_owned(),
        };
        auto.find(now);
        auto
    }

    /// A manager may come to be after us.
    fn find(&mut self, now: Time) {
        for (slot, (_, find)) in self.managers.iter_mut().zip(MANAGERS) {
            if slot.is_none()
                && let Some(mut manager) = find(&self.uplink, &self.places, now)
            {
                manager.set_quiet(true);
                manager.on_link(self.link.as_ref(), now);
                *slot = Some(manager);
            }
        }
    }

    /// Makes the choice anew. True: it is another one than before.
    fn choose(&mut self, now: Time) -> bool {
        if matches!(self.choice, Choice::Manager(_)) || self.link.is_none() {
            return false;
        }
        self.find(now);
        let patient = self.choice == Choice::Open && now.since(self.started) < PATIENCE;
        let mut silent = None;
        let mut found = None;
        for (row, manager) in self.managers.iter().enumerate() {
            match manager.as_ref().map_or(Claim::None, |m| m.claim()) {
                Claim::None => {}
                Claim::Silent if patient => return false,
                Claim::Silent => silent = silent.or(Some(row)),
                Claim::Managed(why) => {
                    found = Some((row, why));
                    break;
                }
            }
        }
        let device = &self.uplink.device;
        let (choice, why) = match (found, silent) {
            (Some((row, why)), _) => (Choice::Manager(row), why),
            (None, Some(row)) if self.choice == Choice::Open => (
                Choice::Manager(row),
                format!(
                    "{} is there, so {device} is taken for its own, though it does not answer",
                    word(row)
                ),
            ),
            _ => (Choice::Own, nobody(device)),
        };
        if choice == self.choice {
            return false;
        }
        (self.choice, self.why) = (choice, why);
        if let Some(mut builtin) = self.builtin.take() {
            builtin.stop(now);
        }
        match choice {
            Choice::Manager(row) => {
                // The others need not be asked any more.
                for (n, slot) in self.managers.iter_mut().enumerate() {
                    match slot {
                        Some(manager) if n == row => manager.set_quiet(false),
                        _ => *slot = None,
                    }
                }
            }
            _ => {
                self.builtin = own(&self.uplink, self.mark, &self.state_dir, now);
                if let Some(builtin) = &mut self.builtin {
                    builtin.on_link(self.link.as_ref(), now);
                    builtin.on_addresses(&self.addresses, now);
                }
            }
        }
        match self.chosen() {
            Some(chosen) => {
                log::info!("{}: provider {} is chosen: {}", self.uplink.name, chosen.kind(), self.why)
            }
            None => log::warn!("{}: {}", self.uplink.name, self.why),
        }
        true
    }

    /// Lets everybody who is there do something; true if what the chosen one knows, or the choice, has changed.
    fn each(&mut self, now: Time, act: &mut dyn FnMut(&mut dyn Provider) -> bool) -> bool {
        let mut changed = false;
        for (row, manager) in self.managers.iter_mut().enumerate() {
            let news = manager.as_mut().is_some_and(|m| act(&mut **m));
            changed |= news && self.choice == Choice::Manager(row);
        }
        changed |= self.builtin.as_mut().is_some_and(|p| act(&mut **p));
        changed | self.choose(now)
    }

    fn chosen(&self) -> Option<&dyn Provider> {
        match self.choice {
            Choice::Open => None,
            Choice::Manager(row) => self.managers.get(row)?.as_ref().map(|m| &**m as &dyn Provider),
            Choice::Own => self.builtin.as_deref(),
        }
    }

    fn everybody<'a>(&'a self, each: &mut dyn FnMut(&'a dyn Provider)) {
        for manager in self.managers.iter().flatten() {
            each(&**manager);
        }
        if let Some(builtin) = &self.builtin {
            each(&**builtin);
        }
    }
}

/// The provider's name in the config.
fn word(row: usize) -> &'static str {
    MANAGERS.get(row).map_or("auto", |(kind, _)| kind.as_str())
}

/// What is said where the device is nobody else's.
fn nobody(device: &str) -> String {
    let asked: Vec<_> = MANAGERS.iter().map(|(kind, _)| kind.as_str()).gather();
    let asked = narrowgate_model::join(&asked, ", ");
    match cfg!(feature = "builtin") {
        true => format!("nobody else manages {device} (asked: {asked})"),
        false => format!(
            "nobody manages {device} (asked: {asked}), and this build has no provider of its own: \
             let one of them manage it, or write: option provider 'static'"
        ),
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
        self.each(now, &mut |p| p.on_link(link, now)) | open
    }

    fn on_addresses(&mut self, addresses: &[Address], now: Time) -> bool {
        self.addresses = addresses.to_vec();
        self.each(now, &mut |p| p.on_addresses(addresses, now))
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        self.everybody(&mut |p| p.fds(out));
    }

    fn on_readable(&mut self, now: Time) -> bool {
        self.each(now, &mut |p| p.on_readable(now))
    }

    fn on_timer(&mut self, now: Time) -> bool {
        self.each(now, &mut |p| p.on_timer(now))
    }

    fn next_timeout(&self) -> Option<Time> {
        let mut first = (self.choice == Choice::Open && self.link.is_some()).then(|| self.started + PATIENCE);
        self.everybody(&mut |p| {
            if let Some(at) = p.next_timeout() {
                first = Some(first.map_or(at, |first| first.min(at)));
            }
        });
        first
    }

    fn settled(&self, now: Time) -> bool {
        self.chosen().map_or(self.choice == Choice::Own, |p| p.settled(now))
    }

    fn stop(&mut self, now: Time) {
        self.link = None; // so that no choice is made any more
        self.each(now, &mut |p| {
            p.stop(now);
            true
        });
        self.builtin = None;
        self.choice = Choice::Open;
        self.nothing = Facts::default();
    }

    fn kind(&self) -> &'static str {
        self.chosen().map_or("auto", Provider::kind)
    }

    fn describe(&self, now: Time) -> Vec<(String, String)> {
        let mut out = Vec::new();
        tell(&mut out, "chosen", self.why.clone());
        if let Some(chosen) = self.chosen() {
            out.append(&mut chosen.describe(now));
        }
        out
    }
}

/// How long a manager has to answer before the choice is made without it.
const PATIENCE: Duration = Duration::from_secs(5);
