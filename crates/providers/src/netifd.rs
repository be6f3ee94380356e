//! The `netifd` provider: what OpenWrt's network daemon knows of an uplink, asked over ubus. [`bus`] is the connection,
//! [`facts`] makes facts of the answers; this file says when to ask.
//!
//! netifd tells by events when an interface comes and goes, but not when only its DNS servers change. So events, links and
//! addresses are hints to ask again, and behind them there is a slow poll. What was learnt last stays until there is another
//! answer: a bus that is late, restarts or hangs takes nothing away.

pub mod bus;
pub mod facts;

use crate::auto::{Claim, Manager};
use crate::{Places, Provider, tell};
use alloc::{borrow::ToOwned, string::String, vec::Vec};
use bus::{Bus, News};
use core::time::Duration;
use facts::Selection;
use narrowgate_model::config::Uplink;
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Gather, Prefix, Server, Time};
use narrowgate_wire::ubus::network::Interface;
use rustix::fd::BorrowedFd;

/// The provider of one uplink.
pub struct Netifd {
    uplink: String,
    device: String,
    /// `list interface`
    interfaces: Vec<String>,
    /// The names that Gluon's packages list.
    listed: Vec<String>,
    /// `list dns`: overrides what is learnt.
    dns: Vec<Server>,
    bus: Bus,
    /// The last answer, and when it came.
    known: Vec<Interface>,
    answered: Option<Time>,
    started: Time,
    asked: Option<Time>,
    /// When to ask next; `None` while an answer is awaited or there is nobody to ask.
    ask_at: Option<Time>,
    /// Something happened while an answer was awaited, which may or may not be in it.
    again: bool,
    addresses: Vec<Prefix>,
    facts: Facts,
    complaint: String,
    /// Only being asked whether it manages the device: nobody wants to read its complaints.
    quiet: bool,
}

impl Netifd {
    /// Connects to the bus at once, at the first of its sockets that is there. It need not be.
    pub fn new(uplink: &Uplink, places: &Places, now: Time) -> Netifd {
        let mut netifd = Netifd {
            uplink: uplink.name.clone(),
            device: uplink.device.clone(),
            interfaces: uplink.interfaces.clone(),
            dns: uplink.dns.clone(),
            listed: listed(&places.gluon),
            bus: Bus::new(places.ubus.clone()),
            known: Vec::new(),
            answered: None,
            started: now,
            asked: None,
            ask_at: Some(now),
            again: false,
            addresses: Vec::new(),
            facts: Facts::default(),
            complaint: String::new(),
            quiet: false,
        };
        netifd.proceed(now);
        netifd
    }

    /// Something has happened: ask, but not more often than every [`PACE`].
    fn hint(&mut self, now: Time) {
        if self.bus.asking() {
            self.again = true;
            return;
        }
        let earliest = self.asked.map_or(now, |asked| asked + PACE).max(now);
        self.ask_at = Some(self.ask_at.map_or(earliest, |at| at.min(earliest)));
    }

    /// Does what is due and takes in what there is. True: the facts have changed.
    #[inline(never)]
    fn proceed(&mut self, now: Time) -> bool {
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask_at = None;
            self.asked = Some(now);
            self.again = false;
            self.bus.ask(now);
        }
        let mut changed = self.expire(now);
        while let Some(news) = self.bus.next(now) {
            match news {
                News::Hint => self.hint(now),
                News::Answer(known) => {
                    self.known = known;
                    self.answered = Some(now);
                    changed |= self.refresh(now);
                    self.ask_at = Some(now + self.patience(now));
                    if core::mem::take(&mut self.again) {
                        self.hint(now);
                    }
                }
                News::Trouble(text) => {
                    self.complain(text);
                    self.ask_at = Some(now + POLL);
                }
            }
        }
        changed
    }

    /// Takes away what is good no more and was not renewed.
    fn expire(&mut self, now: Time) -> bool {
        let before = self.facts.routes.len();
        self.facts.routes.retain(|r| r.until.is_none_or(|until| until > now));
        self.facts.routes.len() != before
    }

    /// How long until the next poll: lifetimes are renewed without an event, so before the first of them is over.
    fn patience(&self, now: Time) -> Duration {
        let first = self.facts.routes.iter().filter_map(|r| r.until).min();
        first.map_or(POLL, |until| (until.since(now) / 2).clamp(POLL_MIN, POLL))
    }

    /// Builds the facts anew; true if they are others than before.
    #[inline(never)]
    fn refresh(&mut self, now: Time) -> bool {
        let selection = self.selection();
        let (mut facts, problem) = facts::facts(&self.known, &selection, now);
        facts.link = self.facts.link.clone();
        facts::steady(&mut facts, &self.facts);
        match problem {
            Some(problem) => self.complain(problem),
            None if !self.complaint.is_empty() => {
                if !self.quiet {
                    log::info!("{}: netifd answers and knows the uplink", self.uplink);
                }
                self.complaint.clear();
            }
            None => {}
        }
        if facts == self.facts {
            return false;
        }
        self.facts = facts;
        true
    }

    fn selection(&self) -> Selection<'_> {
        let Netifd { device, interfaces, listed, dns, .. } = self;
        Selection { device, interfaces, listed, dns }
    }

    /// Logs what is not yet the last thing that was logged.
    fn complain(&mut self, text: String) {
        if self.complaint != text {
            if !self.quiet {
                log::warn!("{}: {text}", self.uplink);
            }
            self.complaint = text;
        }
    }
}

impl Manager for Netifd {
    /// By its interfaces that are on the device, or are named in the config.
    fn claim(&self) -> Claim {
        if self.answered.is_none() {
            return Claim::Silent;
        }
        let ours = |i: &&Interface| {
            i.device.as_deref() == Some(self.device.as_str()) || self.interfaces.contains(&i.name)
        };
        let names: Vec<_> = self.known.iter().filter(ours).map(|i| i.name.as_str()).gather();
        match names.is_empty() {
            true => Claim::None,
            false => Claim::Managed(format!(
                "netifd has {} as interface {}",
                self.device,
                narrowgate_model::join(&names, ", ")
            )),
        }
    }

    fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
        if !quiet && !self.complaint.is_empty() {
            log::warn!("{}: {}", self.uplink, self.complaint);
        }
    }
}

impl Provider for Netifd {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn on_link(&mut self, link: Option<&Link>, now: Time) -> bool {
        if self.facts.link.as_ref() == link {
            return self.proceed(now);
        }
        let index = |link: Option<&Link>| link.map(|l| l.index);
        if index(self.facts.link.as_ref()) != index(link) && self.facts.link.is_some() {
            // Another device, or none: what was learnt on the old one's cable is worth nothing.
            self.facts = Facts::default();
            self.known.clear();
            self.answered = None;
        }
        self.facts.link = link.cloned();
        self.hint(now);
        self.proceed(now);
        true
    }

    fn on_addresses(&mut self, addresses: &[Address], now: Time) -> bool {
        let addresses: Vec<Prefix> = addresses.iter().map(|a| a.prefix).gather();
        if self.addresses != addresses {
            self.addresses = addresses;
            self.hint(now);
        }
        self.proceed(now)
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        out.extend(self.bus.fd());
    }

    fn on_readable(&mut self, now: Time) -> bool {
        self.proceed(now)
    }

    fn on_timer(&mut self, now: Time) -> bool {
        self.proceed(now)
    }

    fn next_timeout(&self) -> Option<Time> {
        let expiry = self.facts.routes.iter().filter_map(|r| r.until);
        self.ask_at.into_iter().chain(self.bus.next_timeout()).chain(expiry).min()
    }

    fn settled(&self, now: Time) -> bool {
        self.answered.is_some() || now.since(self.started) >= LEARN
    }

    fn stop(&mut self, _: Time) {
        self.bus.close();
        self.ask_at = None;
        self.known.clear();
        self.facts = Facts::default();
    }

    fn kind(&self) -> &'static str {
        "netifd"
    }

    fn describe(&self, now: Time) -> Vec<(String, String)> {
        let selection = self.selection();
        let mut out: Vec<(String, String)> = Vec::new();
        for interface in facts::selected(&self.known, &selection) {
            tell(&mut out, "interface", facts::in_words(interface));
            facts::add_notes(interface, &mut out);
        }
        let answered = match self.answered {
            Some(at) => format!("answered {} s ago", now.since(at).as_secs()),
            None => "has not answered yet".to_owned(),
        };
        tell(&mut out, "netifd", answered);
        if !self.complaint.is_empty() {
            tell(&mut out, "problem", self.complaint.clone());
        }
        out
    }
}

/// The names in all files of a directory, in the order of the files' names, one a line.
#[inline(never)]
fn listed(dir: &narrowgate_sys::path::Path) -> Vec<String> {
    let mut files = narrowgate_sys::fs::names_in(dir).unwrap_or_default();
    narrowgate_model::sort::sort(&mut files);
    let mut names = Vec::new();
    for file in files {
        let text = narrowgate_sys::fs::read_to_string(dir.join(file)).unwrap_or_default();
        for name in text.lines().map(str::trim).filter(|name| !name.is_empty()) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The shortest time between two questions: events come in bunches.
const PACE: Duration = Duration::from_millis(100);
/// A change of the DNS servers alone makes no event.
const POLL: Duration = Duration::from_secs(30);
/// However short the lifetimes are.
const POLL_MIN: Duration = Duration::from_secs(2);
/// After that long what is not known will not be known soon.
const LEARN: Duration = Duration::from_secs(10);
