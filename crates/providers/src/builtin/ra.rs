//! What Router Advertisements tell, as a machine without I/O: RFC 4861 (host's side), 4862 (addresses), 4191 (preference,
//! specific routes), 8106 (DNS), 8781 (NAT64), 8910 (captive portal), 7559 (solicitations that do not give up).
//!
//! In: carrier, our link-local address, advertisements, time. Out: solicitations, and the facts that hold now.
//!
//! When the carrier has been away, the cable may lead to another network. What was known is kept until the first
//! advertisement shows where we are, or until nobody has answered for [`RECOGNISE`] (after RFC 6059).

use super::prefixes::Prefixes;
use super::slaac::Secret;
use super::{EAGER, EAGER_GAP, NUDGE, Random};
use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use narrowgate_model::facts::{DnsFact, Facts, Nat64Fact, Origin, Preference, RouteFact};
use narrowgate_model::net::Address;
use narrowgate_model::{Prefix, Server, Time};
use narrowgate_wire::ra::{RouterAdvert, packet};

/// Everything heard on one link.
pub struct Ra {
    device: String,
    random: Random,
    carrier: bool,
    /// What solicitations are sent from; none: the unspecified address.
    link_local: Option<Ipv6Addr>,
    soliciting: Option<Soliciting>,
    /// What is known was learnt before the carrier was lost; it is forgotten then.
    unconfirmed_until: Option<Time>,
    routers: Vec<Router>,
    prefixes: Prefixes,
    heard: u64,
    /// How often all was forgotten.
    forgotten: u32,
    /// A router was heard before there was a link-local address: the kernel, which keeps the routers' hardware addresses,
    /// was deaf then, and would have to look for the router itself, which it does not from an optimistic address.
    early: bool,
    due: bool,
}

/// A round of solicitations.
struct Soliciting {
    began: Time,
    last: Time,
    next: Time,
    gap: Duration,
}

/// What one router has told. It stays here as long as any of it holds.
struct Router {
    addr: Ipv6Addr,
    default: Option<(Preference, Until)>,
    routes: Vec<(Prefix, Preference, Until)>,
    dns: Vec<(Ipv6Addr, Until)>,
    search: Vec<(String, Until)>,
    /// M and O flags: DHCPv6 has addresses, or other things.
    flags: (bool, bool),
    /// Until when the flags hold that came without a default route's lifetime.
    flagged: Option<Time>,
    portal: Option<String>,
    nat64: Vec<(Prefix, Until)>,
    mtu: Option<u32>,
    /// To be asked for again by then, if nothing is heard of it: see [`refresh`].
    refresh: Option<Time>,
}

/// Until when something holds; `None`: for ever.
pub(super) type Until = Option<Time>;

/// The end of a lifetime of so many seconds.
pub(super) fn until(seconds: u32, now: Time) -> Until {
    (seconds != u32::MAX).then(|| now + Duration::from_secs(seconds.into()))
}

/// The earlier of two moments; `None` never comes.
pub(super) fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Whether it still holds.
pub(super) fn holds(until: Until, now: Time) -> bool {
    until.is_none_or(|t| t > now)
}

impl Ra {
    /// Nothing known yet. `device` gives link-local servers their scope and, with `secret`, us our addresses.
    pub fn new(device: &str, secret: Secret, random: Random) -> Ra {
        Ra {
            device: device.to_owned(),
            random,
            carrier: false,
            link_local: None,
            soliciting: None,
            unconfirmed_until: None,
            routers: Vec::new(),
            prefixes: Prefixes::new(device, secret),
            heard: 0,
            forgotten: 0,
            early: false,
            due: false,
        }
    }

    /// The carrier came or went.
    pub fn on_carrier(&mut self, carrier: bool, now: Time) {
        if carrier == self.carrier {
            return;
        }
        self.carrier = carrier;
        if carrier {
            self.solicit(now);
            self.unconfirmed_until = (!self.knows_nothing()).then(|| now + RECOGNISE);
        } else {
            self.soliciting = None;
            self.due = false;
            self.unconfirmed_until = None;
            self.prefixes.on_carrier_lost();
        }
    }

    /// The device's addresses: one to solicit from, and the outcome of duplicate address detection.
    pub fn on_addresses(&mut self, addresses: &[Address], now: Time) {
        let usable =
            |a: &&Address| !a.tentative && !a.dad_failed && Prefix::LINK_LOCAL.contains(a.prefix.addr);
        let link_local = addresses.iter().find(usable).and_then(|a| match a.prefix.addr {
            IpAddr::V6(addr) => Some(addr),
            IpAddr::V4(_) => None,
        });
        // Routers may keep back or slow down what they answer to the unspecified address: ask again at once.
        let first = self.link_local.is_none() && link_local.is_some();
        self.link_local = link_local;
        self.due |= first && (core::mem::take(&mut self.early) || self.soliciting.is_some());
        self.prefixes.on_addresses(addresses, now);
    }

    /// An advertisement came from this router.
    pub fn receive(&mut self, source: Ipv6Addr, advert: &RouterAdvert, now: Time) {
        self.heard += 1;
        self.early |= self.link_local.is_none();
        self.expire(now);
        if self.unconfirmed_until.take().is_some() && !self.recognises(source, advert) {
            self.forget();
        }
        if advert.lifetime > 0 {
            self.soliciting = None;
            self.due = false;
        }
        self.prefixes.update(&advert.prefixes, now);
        let index = match self.routers.iter().position(|r| r.addr == source) {
            Some(index) => index,
            None if self.routers.len() < MAX_ROUTERS => {
                self.routers.push(Router::new(source));
                self.routers.len() - 1
            }
            None => return,
        };
        if let Some(router) = self.routers.get_mut(index) {
            router.update(advert, now);
        }
        self.expire(now); // what was told with a lifetime of zero
    }

    /// There is a sign of life from the household: if it has not answered yet, it may now.
    pub fn nudge(&mut self, now: Time) {
        if self.soliciting.as_ref().is_some_and(|s| now.since(s.last) >= NUDGE) {
            self.solicit(now);
        }
    }

    /// Drops what does not hold any more and solicits when it is time.
    pub fn on_timer(&mut self, now: Time) {
        let had_router = self.has_router();
        self.expire(now);
        if self.unconfirmed_until.is_some_and(|t| t <= now) {
            self.unconfirmed_until = None;
            self.forget();
        }
        let mut ask = had_router && !self.has_router();
        for router in &mut self.routers {
            ask |= router.refresh.take_if(|t| *t <= now).is_some();
        }
        if ask && self.carrier && self.soliciting.is_none() {
            self.solicit(now);
        }
        if let Some(soliciting) = &mut self.soliciting
            && soliciting.next <= now
        {
            self.due = true;
            let patient = now.since(soliciting.began) >= EAGER;
            let most = if patient { LAST_GAP } else { EAGER_GAP };
            // The first gap comes twice: solicitations go out at 0, 250, 500, 1000, 2000 ms and so on.
            let first = soliciting.last == soliciting.began;
            soliciting.gap = if first { FIRST_GAP } else { (soliciting.gap * 2).min(most) };
            soliciting.last = now;
            soliciting.next = now + jitter(soliciting.gap, &mut self.random);
        }
    }

    /// When [`on_timer`](Self::on_timer) is to be called.
    pub fn next_timeout(&self) -> Option<Time> {
        let mut next = earlier(self.unconfirmed_until, self.soliciting.as_ref().map(|s| s.next));
        for router in &self.routers {
            next = earlier(next, router.refresh);
            router.ends().for_each(|end| next = earlier(next, end));
        }
        self.prefixes.ends().for_each(|end| next = earlier(next, end));
        next
    }

    /// A solicitation, if one is to be sent now: a whole IPv6 packet. Never with our link-layer address: our own address
    /// may still be optimistic (RFC 4429, 3.2).
    pub fn solicitation(&mut self) -> Option<Vec<u8>> {
        let due = core::mem::take(&mut self.due);
        due.then(|| packet::solicitation(self.link_local.unwrap_or(Ipv6Addr::UNSPECIFIED), None))
    }

    /// Adds what holds to the facts.
    pub fn facts(&self, facts: &mut Facts) {
        self.prefixes.facts(facts);
        for router in &self.routers {
            router.routes(&mut facts.routes);
            for &(addr, until) in &router.dns {
                let server = Server::new(addr).scoped(&self.device);
                match facts.dns.iter_mut().find(|d| d.server == server && d.origin == Origin::Ra) {
                    Some(known) => known.until = later(known.until, until),
                    None => facts.dns.push(DnsFact { server, until, origin: Origin::Ra }),
                }
            }
            for (name, _) in &router.search {
                if !facts.search.contains(name) {
                    facts.search.push(name.clone());
                }
            }
            super::portal(facts, router.portal.as_ref(), Origin::Ra);
            for &(prefix, until) in &router.nat64 {
                match facts.nat64.iter_mut().find(|n| n.prefix == prefix) {
                    Some(known) => known.until = later(known.until, until),
                    None => facts.nat64.push(Nat64Fact { prefix, until, origin: Origin::Ra }),
                }
            }
            // Of several the smallest: it passes everywhere.
            facts.mtu = facts.mtu.into_iter().chain(router.mtu).min();
        }
    }

    /// Whether there is a default router.
    pub fn has_router(&self) -> bool {
        self.routers.iter().any(|r| r.default.is_some())
    }

    /// Whether anybody has been heard.
    pub fn heard(&self) -> bool {
        self.heard > 0
    }

    /// Whether a router says that there is DHCPv6: for addresses, for other things.
    pub fn dhcp6(&self) -> (bool, bool) {
        self.routers.iter().fold((false, false), |(m, o), r| (m || r.flags.0, o || r.flags.1))
    }

    /// What is asked from: our link-local address, once it may be used.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.link_local
    }

    /// How often it has turned out that this is another network, or none.
    pub fn forgotten(&self) -> u32 {
        self.forgotten
    }

    /// For `status`.
    pub fn describe(&self, now: Time, out: &mut Vec<(String, String)>) {
        for router in &self.routers {
            let mut text = router.addr.to_string();
            match router.default {
                Some((preference, Some(until))) => {
                    text +=
                        &format!(", default for {} s, preference {preference:?}", until.seconds_from(now));
                }
                Some((preference, None)) => text += &format!(", default for ever, preference {preference:?}"),
                None => text += ", not a default router",
            }
            out.push(("router".to_owned(), text));
        }
        out.push(("advertisements".to_owned(), self.heard.to_string()));
    }

    fn solicit(&mut self, now: Time) {
        self.due = true;
        self.soliciting = Some(Soliciting { began: now, last: now, next: now + FIRST_GAP, gap: FIRST_GAP });
    }

    fn knows_nothing(&self) -> bool {
        self.routers.is_empty() && self.prefixes.is_empty()
    }

    /// Whether this is the network that we know. A router's address alone shows nothing: half the world's are `fe80::1`.
    fn recognises(&self, source: Ipv6Addr, advert: &RouterAdvert) -> bool {
        let known_router = self.routers.iter().any(|r| r.addr == source);
        known_router
            && (self.prefixes.is_empty() || advert.prefixes.iter().any(|p| self.prefixes.knows(p.prefix)))
    }

    fn forget(&mut self) {
        self.forgotten += 1;
        self.routers.clear();
        self.prefixes.clear();
    }

    fn expire(&mut self, now: Time) {
        self.prefixes.expire(now);
        for router in &mut self.routers {
            router.expire(now);
        }
        self.routers.retain(|r| r.ends().next().is_some());
    }
}

impl Router {
    fn new(addr: Ipv6Addr) -> Router {
        Router {
            addr,
            default: None,
            routes: Vec::new(),
            dns: Vec::new(),
            search: Vec::new(),
            flags: (false, false),
            flagged: None,
            portal: None,
            nat64: Vec::new(),
            mtu: None,
            refresh: None,
        }
    }

    fn update(&mut self, advert: &RouterAdvert, now: Time) {
        self.flags = (advert.managed, advert.other);
        let silent = advert.lifetime == 0 && (advert.managed || advert.other);
        self.flagged = silent.then(|| now + FLAGS);
        self.portal.clone_from(&advert.portal);
        for &(prefix, lifetime) in &advert.nat64 {
            remember(&mut self.nat64, prefix, until(lifetime.into(), now), MAX_NAT64);
        }
        self.mtu = advert.mtu.filter(|m| *m >= 1280).or(self.mtu);
        self.default = (advert.lifetime > 0).then(|| (advert.preference, until(advert.lifetime.into(), now)));
        for route in &advert.routes {
            let until = until(route.lifetime, now);
            if route.prefix.is_default() {
                // RFC 4191, 3.1: a host of type C takes it in place of what the header says.
                self.default = holds(until, now).then_some((route.preference, until));
                continue;
            }
            let told = (route.prefix, route.preference, until);
            if let Some(known) = self.routes.iter_mut().find(|r| r.0 == route.prefix) {
                *known = told;
            } else if self.routes.len() < MAX_ROUTES {
                self.routes.push(told);
            }
        }
        for &(addr, lifetime) in advert.dns.iter().filter(|(a, _)| askable(*a)) {
            remember(&mut self.dns, addr, until(lifetime, now), MAX_NAMES);
        }
        for (name, lifetime) in &advert.search {
            remember(&mut self.search, name.clone(), until(*lifetime, now), MAX_NAMES);
        }
        let default = self.default.iter().filter_map(|(_, until)| *until);
        let vital = default.chain(self.dns.iter().filter_map(|(_, until)| *until)).filter(|t| *t > now);
        self.refresh = vital.min().and_then(|end| refresh(end.since(now))).map(|span| now + span);
    }

    fn expire(&mut self, now: Time) {
        self.default = self.default.filter(|(_, until)| holds(*until, now));
        self.routes.retain(|(_, _, until)| holds(*until, now));
        self.dns.retain(|(_, until)| holds(*until, now));
        self.search.retain(|(_, until)| holds(*until, now));
        self.nat64.retain(|(_, until)| holds(*until, now));
        self.flagged = self.flagged.filter(|t| *t > now);
    }

    /// The ends of all that holds; none: nothing holds.
    fn ends(&self) -> impl Iterator<Item = Until> {
        let names = self.search.iter().map(|(_, until)| *until);
        let servers = self.dns.iter().map(|(_, until)| *until);
        let routes = self.routes.iter().map(|(_, _, until)| *until);
        let nat64 = self.nat64.iter().map(|(_, until)| *until);
        let flagged = self.flagged.map(Some);
        let default = self.default.iter().map(|(_, until)| *until);
        default.chain(routes).chain(servers).chain(names).chain(nat64).chain(flagged)
    }

    fn routes(&self, out: &mut Vec<RouteFact>) {
        let via = Some(IpAddr::V6(self.addr));
        let default = self.default.map(|(preference, until)| (Prefix::DEFAULT_V6, preference, until));
        for (dst, preference, until) in default.into_iter().chain(self.routes.iter().copied()) {
            out.push(RouteFact { dst, via, preference, until, origin: Origin::Ra });
        }
    }
}

/// Sets until when something holds, if there is room for it.
pub(super) fn remember<T: PartialEq>(list: &mut Vec<(T, Until)>, what: T, until: Until, max: usize) {
    if let Some(known) = list.iter_mut().find(|(known, _)| *known == what) {
        known.1 = until;
    } else if list.len() < max {
        list.push((what, until));
    }
}

fn askable(addr: Ipv6Addr) -> bool {
    !(addr.is_unspecified() || addr.is_loopback() || addr.is_multicast())
}

fn later(a: Until, b: Until) -> Until {
    a.zip(b).map(|(a, b)| a.max(b))
}

/// When to ask for what ends after this span: at three quarters of it. Advertisements come more often than that, unless
/// the switch, the wireless or the bridge between loses multicast; then an answer to a question still gets through.
fn refresh(span: Duration) -> Option<Duration> {
    Some(span * 3 / 4).filter(|span| *span >= MIN_REFRESH)
}

/// Within a tenth of the span, from a second on: nodes that got power at the same moment drift apart.
fn jitter(span: Duration, random: &mut Random) -> Duration {
    if span < Duration::from_secs(1) {
        return span;
    }
    let tenth = u32::try_from(span.as_millis() / 10).unwrap_or(u32::MAX).max(1);
    span - Duration::from_millis(tenth.into()) + Duration::from_millis((random() % tenth).into()) * 2
}

/// From the first solicitation to the second. RFC 4861 has 4 s, which is no time to wait for in a boot.
const FIRST_GAP: Duration = Duration::from_millis(250);
/// The longest gap (`MAX_SOL_INTERVAL`, RFC 7559: 3600 s).
const LAST_GAP: Duration = Duration::from_secs(3600);
/// What lives shorter than that is not worth a question of its own.
const MIN_REFRESH: Duration = Duration::from_secs(10);
/// How long what was known before the carrier was lost is kept without a confirmation.
pub const RECOGNISE: Duration = Duration::from_secs(4);
/// Bounds of what is remembered: a hostile link must not fill the memory.
const MAX_ROUTERS: usize = 8;
const MAX_ROUTES: usize = 16;
const MAX_NAMES: usize = 8;
const MAX_NAT64: usize = 4;
/// How long M and O flags hold where the sender is no default router: as long as such routers' lifetimes usually are.
const FLAGS: Duration = Duration::from_secs(1800);
