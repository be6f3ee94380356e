//! The `builtin` provider: Router Advertisements, DHCPv4 and DHCPv6 by ourselves. [`ra`], [`dhcp4`], [`dhcp6`] and
//! [`conflict`] are machines without I/O; [`sockets`] and [`store`] are its hands; this file brings them together.
//!
//! Both families listen on packet sockets. They need no address, see an advertisement though our own link-local address
//! is still tentative, and stand ahead of every firewall. A lease is extended and given back by a UDP socket with the
//! mark, which is open only for that. DHCPv6 is spoken from our link-local address, by a plain UDP socket.

pub mod conflict;
pub mod dhcp4;
pub mod dhcp6;
mod prefixes;
pub mod ra;
pub mod slaac;
mod sockets;
mod store;

use crate::Provider;
use alloc::{borrow::ToOwned, boxed::Box, string::String, vec::Vec};
use conflict::Conflict;
use core::net::IpAddr;
use core::time::Duration;
use dhcp4::{Dhcp4, Held, Phase};
use dhcp6::{Dhcp6, Wanted};
use narrowgate_model::config::Uplink;
use narrowgate_model::facts::{DnsFact, Origin, PortalFact};
use narrowgate_model::net::{Address, Link};
use narrowgate_model::sort::sort_by_key;
use narrowgate_model::{Facts, Mark, Server, Time};
use narrowgate_sys::path::Path;
use ra::{Ra, earlier};
use rustix::fd::BorrowedFd;
use sockets::{Needs, Sockets};
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
    file6: LeaseFile,
    kept6: Option<dhcp6::Held>,
    facts: Facts,
    /// Who has named DNS servers, in the order in which they did.
    named: Vec<Origin>,
    first_carrier: Option<Time>,
    ra: Ra,
    /// [`Ra::forgotten`], as it was when last looked at.
    forgotten: u32,
    dhcp: Option<Dhcp4>,
    dhcp6: Option<Dhcp6>,
    conflict: Option<Conflict>,
    /// The addresses that stand on the device.
    standing: Vec<IpAddr>,
    /// Conflicts since an address was claimed undisputed.
    conflicts: u32,
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
            file: LeaseFile::new(state_dir, "lease", &uplink.name),
            kept: None,
            file6: LeaseFile::new(state_dir, "lease6", &uplink.name),
            kept6: None,
            facts: Facts::default(),
            named: Vec::new(),
            first_carrier: None,
            ra: Ra::new(&uplink.device, secret, system_random()),
            forgotten: 0,
            dhcp: None,
            dhcp6: None,
            conflict: None,
            standing: Vec::new(),
            conflicts: 0,
            sockets: Sockets::new(uplink, mark),
        }
    }

    /// Another device, or none: what was learnt on the old one is worth nothing.
    fn reset(&mut self, link: Option<&Link>, now: Time) {
        self.sockets.close();
        self.ra = Ra::new(&self.device, self.secret, system_random());
        self.forgotten = 0;
        self.reset_dhcp(link, now);
    }

    /// Another hardware address: for DHCP servers we are somebody else. Bridges change theirs as they get ports.
    fn reset_dhcp(&mut self, link: Option<&Link>, now: Time) {
        let mac = link.and_then(|l| l.mac);
        self.dhcp6 = mac.map(|mac| {
            let loaded = self.file6.load6(mac, now);
            let wish = loaded.as_ref().map(|(held, _)| held.list()).unwrap_or_default();
            self.kept6 = loaded.filter(|(_, this_boot)| *this_boot).map(|(held, _)| held);
            Dhcp6::new(mac, wish, now, system_random())
        });
        self.conflict = mac.map(|mac| Conflict::new(mac, system_random()));
        self.dhcp = mac.map(|mac| {
            let loaded = self.file.load4(mac);
            let wish = loaded.as_ref().map(|(held, _)| held.lease.ip());
            self.kept = loaded.filter(|(_, this_boot)| *this_boot).map(|(held, _)| held);
            Dhcp4::new(mac, wish, now, system_random())
        });
    }

    /// After every event: sockets as the phases want them, what is to be sent, the lease kept, the facts anew.
    fn act(&mut self, now: Time) -> bool {
        self.follow_adverts(now);
        self.watch(now);
        self.keep_sockets();
        self.send();
        self.keep_sockets(); // what was sent may have been the last
        if let Some(held) = self.dhcp.as_ref().and_then(Dhcp4::held) {
            self.file.keep4(held);
        }
        if let Some(held) = self.dhcp6.as_ref().and_then(Dhcp6::held) {
            self.file6.keep6(held);
        }
        self.refresh()
    }

    fn keep_sockets(&mut self) {
        let speaks = self.dhcp6.as_ref().is_some_and(Dhcp6::needs_socket);
        let needs = Needs {
            dhcp: self.dhcp.as_ref().map_or(Phase::Idle, Dhcp4::phase),
            dhcp6: self.ra.link_local().filter(|_| speaks),
            arp: self.conflict.as_ref().and_then(Conflict::address),
        };
        self.sockets.keep(self.facts.link.as_ref(), needs);
    }

    /// What advertisements say of DHCPv6, and of where we are.
    fn follow_adverts(&mut self, now: Time) {
        let Some(dhcp6) = &mut self.dhcp6 else { return };
        if self.forgotten != self.ra.forgotten() {
            self.forgotten = self.ra.forgotten();
            dhcp6.forget(now);
        }
        let ready = has_carrier(&self.facts) && self.ra.link_local().is_some();
        dhcp6.on_link(ready, wanted(&self.ra), now);
    }

    /// Watches the leased address, once it stands on the device and the lease is known to be of this network.
    fn watch(&mut self, now: Time) {
        let Some((conflict, dhcp)) = self.conflict.as_mut().zip(self.dhcp.as_ref()) else { return };
        let sure = !matches!(dhcp.phase(), Phase::Idle | Phase::Rebooting); // idle: no carrier
        let held = dhcp.held().filter(|_| sure).map(|held| held.lease.ip());
        conflict.watch(held.filter(|a| self.standing.contains(&IpAddr::V4(*a))), now);
    }

    /// Hears who else says to have the leased address.
    fn hear_arp(&mut self, now: Time) {
        let Some((conflict, dhcp)) = self.conflict.as_mut().zip(self.dhcp.as_mut()) else { return };
        let mut lost = false;
        self.sockets.read_arp(|packet| lost |= conflict.receive(packet, now));
        let Some(address) = conflict.address().filter(|_| lost) else { return };
        self.conflicts = self.conflicts.saturating_add(1);
        if self.conflicts > CONFLICTS {
            // Somebody answers for every address: better a doubtful one than no uplink.
            return conflict.resign();
        }
        log::warn!("{}: {address} is somebody else's (ARP); asking for another", self.uplink);
        dhcp.conflict(now);
        self.file.forget();
    }

    fn send(&mut self) {
        while let Some(packet) = self.ra.solicitation() {
            self.sockets.solicit(&packet);
        }
        for message in self.dhcp.as_mut().map(Dhcp4::take_out).unwrap_or_default() {
            self.sockets.dhcp(message);
        }
        for message in self.dhcp6.as_mut().map(Dhcp6::take_out).unwrap_or_default() {
            self.sockets.dhcp6(&message);
        }
        for packet in self.conflict.as_mut().map(Conflict::take_out).unwrap_or_default() {
            self.sockets.arp(&packet);
        }
    }

    /// Builds the facts anew; true if they are others than before.
    fn refresh(&mut self) -> bool {
        let mut facts = Facts { link: self.facts.link.clone(), ..Facts::default() };
        self.ra.facts(&mut facts);
        if let Some(dhcp) = &self.dhcp {
            dhcp.facts(&self.device, &mut facts);
        }
        if let Some(dhcp6) = &self.dhcp6 {
            dhcp6.facts(&self.device, &mut facts);
        }
        self.order(&mut facts.dns);
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
        true
    }

    /// Whoever has named DNS servers first stays first: what comes later must not push aside what works.
    fn order(&mut self, dns: &mut [DnsFact]) {
        self.named.retain(|origin| dns.iter().any(|d| d.origin == *origin));
        for fact in dns.iter() {
            if !self.named.contains(&fact.origin) {
                self.named.push(fact.origin);
            }
        }
        sort_by_key(dns, |fact| self.named.iter().position(|origin| *origin == fact.origin));
    }
}

impl Provider for Builtin {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn on_link(&mut self, link: Option<&Link>, now: Time) -> bool {
        let before = self.facts.link.clone();
        let link = link.cloned();
        if let Some((before, link)) = before.as_ref().zip(link.as_ref())
            && was_away(before, link)
        {
            self.on_link(Some(&Link { carrier: false, ..link.clone() }), now);
        }
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
        self.act(now) | (before != link)
    }

    fn on_addresses(&mut self, addresses: &[Address], now: Time) -> bool {
        self.ra.on_addresses(addresses, now);
        if let Some((dhcp, kept)) = self.dhcp.as_mut().zip(self.kept.as_ref())
            && addresses.iter().any(|a| a.prefix.addr == kept.lease.address.addr)
            && let Some(kept) = self.kept.take()
        {
            dhcp.adopt(kept, now);
        }
        if let Some(dhcp6) = &mut self.dhcp6 {
            let stands = |kept: &mut dhcp6::Held| {
                let list = kept.list();
                addresses.iter().any(|a| list.iter().any(|lent| a.prefix.addr == IpAddr::V6(*lent)))
            };
            if let Some(kept) = self.kept6.take_if(stands) {
                dhcp6.adopt(kept);
            }
            dhcp6.on_addresses(addresses, now);
        }
        self.standing = addresses.iter().map(|a| a.prefix.addr).collect();
        self.act(now)
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
        if let Some(dhcp6) = &mut self.dhcp6 {
            self.sockets.read_dhcp6(|message| dhcp6.receive(message, now));
        }
        self.hear_arp(now);
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
        self.act(now)
    }

    fn on_timer(&mut self, now: Time) -> bool {
        self.ra.on_timer(now);
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.on_timer(now);
        }
        if let Some(dhcp6) = &mut self.dhcp6 {
            dhcp6.on_timer(now);
        }
        if let Some(conflict) = &mut self.conflict {
            conflict.on_timer(now);
            if conflict.is_undisputed() {
                self.conflicts = 0;
            }
        }
        self.act(now)
    }

    fn next_timeout(&self) -> Option<Time> {
        let dhcp = self.dhcp.as_ref().and_then(Dhcp4::next_timeout);
        let dhcp6 = self.dhcp6.as_ref().and_then(Dhcp6::next_timeout);
        let conflict = self.conflict.as_ref().and_then(Conflict::next_timeout);
        earlier(earlier(self.ra.next_timeout(), dhcp), earlier(dhcp6, conflict))
    }

    fn settled(&self, now: Time) -> bool {
        let lent = |d: &Dhcp6| wanted(&self.ra) == Wanted::Nothing || d.counts().replies > 0;
        let answered = self.ra.heard()
            && self.dhcp.as_ref().is_none_or(|d| d.counts().acks > 0)
            && self.dhcp6.as_ref().is_none_or(lent);
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
        if let Some(dhcp6) = &mut self.dhcp6 {
            if dhcp6.held().is_some() {
                self.file6.forget();
            }
            dhcp6.stop(now);
            self.keep_sockets();
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
        if let Some(dhcp6) = &self.dhcp6 {
            dhcp6.describe(now, &mut out);
        }
        if self.conflicts > CONFLICTS {
            let text = "somebody else has the leased IPv4 address, as those before, or answers for every one";
            out.push(("problem".to_owned(), text.to_owned()));
        }
        self.sockets.describe(&mut out);
        out
    }
}

/// Adds a captive portal, each once. DHCP's stand before those of RAs (RFC 8910, 3).
fn portal(facts: &mut Facts, uri: Option<&String>, origin: Origin) {
    let Some(uri) = uri.filter(|uri| facts.portals.iter().all(|known| known.uri != **uri)) else { return };
    let place = facts.portals.iter().position(|p| origin != Origin::Ra && p.origin == Origin::Ra);
    facts.portals.insert(place.unwrap_or(facts.portals.len()), PortalFact { uri: uri.clone(), origin });
}

/// What advertisements say that DHCPv6 has.
fn wanted(ra: &Ra) -> Wanted {
    match ra.dhcp6() {
        (true, _) => Wanted::Addresses,
        (false, true) => Wanted::Information,
        (false, false) => Wanted::Nothing,
    }
}

/// Whether the carrier was lost and came back between two looks: the cable may lead elsewhere now.
fn was_away(before: &Link, now: &Link) -> bool {
    let same = before.index == now.index && before.carrier && now.carrier;
    same && before.carrier_losses != now.carrier_losses
}

fn has_carrier(facts: &Facts) -> bool {
    facts.link.as_ref().is_some_and(|l| l.up && l.carrier)
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

/// So many leased addresses are declined because of a conflict; the next one is kept all the same.
const CONFLICTS: u32 = 2;
/// For the first minute of asking the gaps stay short, in both families: routers boot, switches learn.
const EAGER: Duration = Duration::from_secs(60);
const EAGER_GAP: Duration = Duration::from_secs(8);
/// How long after a question a sign of life is worth another.
const NUDGE: Duration = Duration::from_secs(1);
/// How long the household gets to say what there is.
const LEARN: Duration = Duration::from_secs(5);
