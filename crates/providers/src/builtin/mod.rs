//! The `builtin` provider: Router Advertisements and DHCPv4 by ourselves. [`ra`] and [`dhcp4`] are machines without I/O;
//! [`sockets`] and [`store`] are its hands; this file brings them together.
//!
//! Both families listen on packet sockets. They need no address, see an advertisement though our own link-local address
//! is still tentative, and stand ahead of every firewall. A lease is extended and given back by a UDP socket with the
//! mark, which is open only for that.

pub mod dhcp4;
mod prefixes;
pub mod ra;
pub mod slaac;
mod sockets;
mod store;

use crate::Provider;
use dhcp4::{Dhcp4, Held, Phase};
use narrowgate_model::config::Uplink;
use narrowgate_model::facts::{DnsFact, Origin};
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Mark, Server, Time};
use ra::Ra;
use sockets::Sockets;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;
use store::LeaseFile;

/// A source of random numbers; from outside, so that tests can say what chance does.
pub type Random = Box<dyn FnMut() -> u32>;

/// The provider of one uplink.
pub struct Builtin {
    uplink: String,
    device: String,
    /// `list dns`: overrides what is learnt.
    dns: Vec<Server>,
    secret: slaac::Secret,
    file: LeaseFile,
    kept: Option<Held>,
    facts: Facts,
    summary: String,
    first_carrier: Option<Time>,
    ra: Ra,
    dhcp: Option<Dhcp4>,
    sockets: Sockets,
}

impl Builtin {
    /// Nothing is opened or sent before the device is told of.
    pub fn new(uplink: &Uplink, mark: Mark, state_dir: &Path, _: Time) -> Builtin {
        let secret = store::secret(state_dir, &mut system_random());
        Builtin {
            uplink: uplink.name.clone(),
            device: uplink.device.clone(),
            dns: uplink.dns.clone(),
            secret,
            file: LeaseFile::new(state_dir, &uplink.name),
            kept: None,
            facts: Facts::default(),
            summary: String::new(),
            first_carrier: None,
            ra: Ra::new(&uplink.device, secret, system_random()),
            dhcp: None,
            sockets: Sockets::new(uplink, mark),
        }
    }

    /// Another device, or none: what was learnt on the old one is worth nothing.
    fn reset(&mut self, link: Option<&Link>, now: Time) {
        self.sockets.close();
        self.ra = Ra::new(&self.device, self.secret, system_random());
        self.reset_dhcp(link, now);
    }

    /// Another hardware address: for DHCP servers we are somebody else. Bridges change theirs as they get ports.
    fn reset_dhcp(&mut self, link: Option<&Link>, now: Time) {
        self.dhcp = link.and_then(|l| l.mac).map(|mac| {
            let loaded = self.file.load(mac);
            let wish = loaded.as_ref().map(|(held, _)| held.lease.ip());
            self.kept = loaded.filter(|(_, this_boot)| *this_boot).map(|(held, _)| held);
            Dhcp4::new(mac, wish, now, system_random())
        });
    }

    /// After every event: sockets as the phases want them, what is to be sent, the lease kept, the facts anew.
    fn act(&mut self) -> bool {
        self.keep_sockets();
        self.send();
        self.keep_sockets(); // what was sent may have been the last
        if let Some(held) = self.dhcp.as_ref().and_then(Dhcp4::held) {
            self.file.keep(held);
        }
        self.refresh()
    }

    fn keep_sockets(&mut self) {
        let phase = self.dhcp.as_ref().map_or(Phase::Idle, Dhcp4::phase);
        self.sockets.keep(self.facts.link.as_ref(), phase);
    }

    fn send(&mut self) {
        while let Some(packet) = self.ra.solicitation() {
            self.sockets.solicit(&packet);
        }
        for message in self.dhcp.as_mut().map(Dhcp4::take_out).unwrap_or_default() {
            self.sockets.dhcp(message);
        }
    }

    /// Builds the facts anew; true if they are others than before.
    fn refresh(&mut self) -> bool {
        let mut facts = Facts { link: self.facts.link.clone(), ..Facts::default() };
        self.ra.facts(&mut facts);
        if let Some(dhcp) = &self.dhcp {
            dhcp.facts(&self.device, &mut facts);
        }
        if !self.dns.is_empty() {
            let fact = |s: &Server| DnsFact {
                server: s.clone().scoped(&self.device),
                until: None,
                origin: Origin::Config,
            };
            facts.dns = self.dns.iter().map(fact).collect();
        }
        if facts == self.facts {
            return false;
        }
        self.facts = facts;
        let summary = summary(&self.facts);
        if summary != self.summary {
            log::info!("{}: {summary}", self.uplink);
            self.summary = summary;
        }
        true
    }
}

impl Provider for Builtin {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn on_link(&mut self, link: Option<&Link>, now: Time) -> bool {
        let before = self.facts.link.clone();
        let link = link.cloned();
        self.facts.link = link.clone();
        if before.as_ref().map(|l| l.index) != link.as_ref().map(|l| l.index) {
            self.reset(link.as_ref(), now);
        } else if before.as_ref().map(|l| l.mac) != link.as_ref().map(|l| l.mac) {
            self.reset_dhcp(link.as_ref(), now);
        }
        let carrier = link.as_ref().is_some_and(|l| l.up && l.carrier);
        if carrier {
            self.first_carrier.get_or_insert(now);
        }
        self.ra.on_carrier(carrier, now);
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.on_carrier(carrier, now);
        }
        self.act() | (before != link)
    }

    fn on_addresses(&mut self, addresses: &[Address], now: Time) -> bool {
        self.ra.on_addresses(addresses, now);
        if let Some((dhcp, kept)) = self.dhcp.as_mut().zip(self.kept.as_ref())
            && addresses.iter().any(|a| a.prefix.addr == kept.lease.address.addr)
            && let Some(kept) = self.kept.take()
        {
            dhcp.adopt(kept, now);
        }
        self.act()
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        self.sockets.fds(out);
    }

    fn on_readable(&mut self, now: Time) -> bool {
        let counts = |dhcp: &Option<Dhcp4>| dhcp.as_ref().map(Dhcp4::counts).unwrap_or_default();
        let (had_router, before) = (self.ra.has_router(), counts(&self.dhcp));
        self.sockets.read_adverts(|source, advert| self.ra.receive(source, advert, now));
        if let Some(dhcp) = &mut self.dhcp {
            self.sockets.read_dhcp(|message| dhcp.receive(message, now));
        }
        let after = counts(&self.dhcp);
        if after.naks != before.naks {
            log::warn!("{}: the DHCP server takes the address away (NAK)", self.uplink);
            self.file.forget();
        }
        // A household that answers in one family is awake: it need not be waited for in the other.
        if after.acks != before.acks {
            self.ra.nudge(now);
        }
        if !had_router
            && self.ra.has_router()
            && let Some(dhcp) = &mut self.dhcp
        {
            dhcp.nudge(now);
        }
        self.act()
    }

    fn on_timer(&mut self, now: Time) -> bool {
        self.ra.on_timer(now);
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.on_timer(now);
        }
        self.act()
    }

    fn next_timeout(&self) -> Option<Time> {
        self.ra.next_timeout().into_iter().chain(self.dhcp.as_ref().and_then(Dhcp4::next_timeout)).min()
    }

    fn settled(&self, now: Time) -> bool {
        let answered = self.ra.heard() && self.dhcp.as_ref().is_none_or(|d| d.counts().acks > 0);
        answered || self.first_carrier.is_some_and(|t| now.since(t) >= LEARN)
    }

    fn stop(&mut self, now: Time) {
        if let Some(dhcp) = &mut self.dhcp {
            let released = dhcp.held().is_some();
            dhcp.stop(now);
            if released {
                self.file.forget();
            }
            self.send();
        }
        self.facts.link = None;
        self.reset(None, now);
        self.facts = Facts::default();
    }

    fn kind(&self) -> &'static str {
        "builtin"
    }

    fn describe(&self, now: Time) -> Vec<(String, String)> {
        let mut out = Vec::new();
        self.ra.describe(now, &mut out);
        if let Some(dhcp) = &self.dhcp {
            dhcp.describe(now, &mut out);
        }
        self.sockets.describe(&mut out);
        out
    }
}

/// The facts in a line, without what changes with every message.
fn summary(facts: &Facts) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(facts.addresses.iter().map(|a| format!("address {} ({})", a.prefix, a.origin.as_str())));
    for route in facts.routes.iter().filter(|r| r.dst.is_default()) {
        parts.push(match route.via {
            Some(via) => format!("router {via}"),
            None => "no router needed".to_owned(),
        });
    }
    parts.extend(facts.dns.iter().map(|d| format!("DNS {} ({})", d.server, d.origin.as_str())));
    if parts.is_empty() { "nothing is known".to_owned() } else { parts.join(", ") }
}

/// The kernel's random numbers.
fn system_random() -> Random {
    Box::new(|| {
        let mut bytes = [0; 4];
        // Only a kernel without getrandom (before 3.17) or a filter could refuse; then ids can be guessed, and no more.
        let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
        u32::from_ne_bytes(bytes)
    })
}

/// For the first minute of asking the gaps stay short, in both families: routers boot, switches learn.
const EAGER: Duration = Duration::from_secs(60);
const EAGER_GAP: Duration = Duration::from_secs(8);
/// How long after a question a sign of life is worth another.
const NUDGE: Duration = Duration::from_secs(1);
/// How long the household gets to say what there is.
const LEARN: Duration = Duration::from_secs(5);
