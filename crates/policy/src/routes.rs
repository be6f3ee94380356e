//! The WAN table: what the uplinks offer, best first, and behind it all an unreachable default, so that marked packets
//! without an uplink fail at once and in the tunnel's own table instead of looking further.
//!
//! No two routes to one destination have the same metric. IPv4 would replace the one by the other, IPv6 would make a
//! multipath route of them, foreign ones included.

use crate::desired::{Known, alive, manages};
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::Gather;
use narrowgate_model::config::Uplink;
use narrowgate_model::facts::{AddressFact, Origin, Preference, RouteFact};
use narrowgate_model::net::{Route, RouteKind};
use narrowgate_model::sort::sort_by_key;
use narrowgate_model::state::Observed;
use narrowgate_model::{Config, Facts, PROTOCOL, Prefix, Time};

/// All routes that should be there. Those over a device that is off are for [`crate::diff`] to leave out.
#[inline(never)]
pub(crate) fn desired(config: &Config, uplinks: &[Known<'_>], observed: &Observed, now: Time) -> Vec<Route> {
    let mut table = Wan { number: config.table, observed, routes: Vec::new() };
    let mut order: Vec<&Known<'_>> = uplinks.iter().gather();
    sort_by_key(&mut order, |u| u.config.metric);
    let mut next = 1; // IPv6 reads 0 as 1024
    for uplink in order {
        let base = next.max(uplink.config.metric);
        next = base.saturating_add(BAND);
        table.uplink(uplink, if uplink.dead { base.saturating_add(DEAD) } else { base }, now);
    }
    table.unreachable(Prefix::DEFAULT_V4);
    if has_ipv6(observed) {
        table.unreachable(Prefix::DEFAULT_V6);
    } else {
        table.routes.retain(|r| !r.dst.is_ipv6());
    }
    table.routes
}

/// Whether the kernel knows IPv6 at all: it has rules then, or sysctls.
pub(crate) fn has_ipv6(observed: &Observed) -> bool {
    observed.rules.is_empty()
        || observed.rules.iter().any(|r| r.ipv6)
        || observed.sysctls.keys().any(|path| path.starts_with("net/ipv6/"))
}

/// The prefixes that are on-link by the facts, in order: what ARP and Neighbor Discovery may ask for.
///
/// A default route without a router is left out: it would let everybody ask for everything. So are more than [`MAX_ONLINK`].
#[inline(never)]
pub(crate) fn onlink(facts: &Facts) -> Vec<Prefix> {
    let mut all: Vec<Prefix> = Vec::new();
    let mut add = |prefix: Prefix| {
        let prefix = prefix.network();
        let place = all.iter().take_while(|p| **p < prefix).count();
        if !prefix.is_default() && !is_link_local(prefix.addr) && all.get(place) != Some(&prefix) {
            all.insert(place, prefix);
        }
    };
    facts.routes.iter().for_each(|r| add(r.via.map_or(r.dst, Prefix::host)));
    for address in facts.addresses.iter().filter(|a| !a.prefix.is_ipv6()) {
        add(address.prefix);
    }
    let narrower = |p: &&Prefix| all.iter().any(|wider| wider.len < p.len && wider.contains(p.addr));
    all.iter().filter(|p| !narrower(p)).take(MAX_ONLINK).copied().gather()
}

/// Whether a packet finds the way back to us that leaves by this route. By a router of IPv6 it does not from a link-local address,
/// and there is no other before DHCPv6 has given one, where the advertisements have no prefix to make one from. What a foreign
/// manager sets we are not told.
pub(crate) fn leads(uplink: &Uplink, facts: &Facts, route: &RouteFact) -> bool {
    let wide = |a: &AddressFact| a.prefix.is_ipv6() && !is_link_local(a.prefix.addr);
    route.via.is_none() || !route.dst.is_ipv6() || !manages(uplink) || facts.addresses.iter().any(wide)
}

/// A route that an uplink offers, in the order in which they are set: on-link ones first, since a router has to be reachable
/// when the kernel gets the route by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    routed: bool,
    dst: Prefix,
    rank: u32,
    origin: Origin,
    via: Option<IpAddr>,
}

/// The offers of an uplink.
#[inline(never)]
fn offers(uplink: &Known<'_>, now: Time) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    let mut add = |dst: Prefix, via: Option<IpAddr>, rank, origin| {
        let offer = Offer { routed: via.is_some(), dst: dst.network(), rank, origin, via };
        let place = offers.iter().take_while(|o| **o < offer).count();
        offers.insert(place, offer);
    };
    if let Some(known) = uplink.facts {
        for route in known.routes.iter().filter(|r| alive(r.until, now) && leads(uplink.config, known, r)) {
            add(route.dst, route.via, rank(route.preference), route.origin);
        }
        for address in known.addresses.iter().filter(|a| alive(a.valid_until, now)) {
            // An IPv4 address tells its network; an IPv6 address does not (RFC 5942).
            if !address.prefix.is_ipv6() && address.prefix.len < 32 {
                add(address.prefix, None, rank(Preference::Medium), address.origin);
            }
        }
    }
    add(Prefix::LINK_LOCAL, None, rank(Preference::Medium), Origin::Config);
    offers
}

struct Wan<'a> {
    number: u32,
    observed: &'a Observed,
    routes: Vec<Route>,
}

impl Wan<'_> {
    #[inline(never)]
    fn uplink(&mut self, uplink: &Known<'_>, base: u32, now: Time) {
        let Some(link) = uplink.link else { return };
        let offers = offers(uplink, now);
        for Offer { dst, via, rank, .. } in &offers {
            let seen = |r: &Route| r.dst == *dst && r.link == Some(link.index) && r.via == *via;
            let sane = via.is_none_or(|via| via.is_ipv6() == dst.is_ipv6());
            if !sane || uplink.no_ipv6 && dst.is_ipv6() || self.routes.iter().any(seen) {
                continue;
            }
            let near = |via| offers.iter().any(|near| !near.routed && near.dst.contains(via));
            let onlink = via.is_some_and(|via| !is_link_local(via) && !near(via));
            let mut metric = base.saturating_add(rank * SLOTS);
            let taken = self.metrics(*dst);
            while metric < u32::MAX && taken.contains(&metric) {
                metric += 1;
            }
            self.add(RouteKind::Unicast, *dst, *via, Some(link.index), metric, onlink);
        }
    }

    fn unreachable(&mut self, dst: Prefix) {
        let last = self.metrics(dst).into_iter().fold(0, |last, m| last.max(m.saturating_add(1)));
        self.add(RouteKind::Unreachable, dst, None, None, last.max(BEHIND_ALL), false);
    }

    /// The metrics that routes to `dst` have, ours and foreign.
    fn metrics(&self, dst: Prefix) -> Vec<u32> {
        let mut taken = Vec::new();
        for (routes, ours) in [(&self.observed.routes, false), (&self.routes, true)] {
            for r in routes {
                if (r.protocol == PROTOCOL) == ours && r.table == self.number && r.dst == dst {
                    taken.push(r.metric);
                }
            }
        }
        taken
    }

    fn add(
        &mut self,
        kind: RouteKind,
        dst: Prefix,
        via: Option<IpAddr>,
        link: Option<u32>,
        metric: u32,
        onlink: bool,
    ) {
        let table = self.number;
        self.routes.push(Route {
            table,
            dst,
            kind,
            via,
            link,
            metric,
            onlink,
            source: None,
            protocol: PROTOCOL,
        });
    }
}

fn rank(preference: Preference) -> u32 {
    match preference {
        Preference::High => 0,
        Preference::Medium => 1,
        Preference::Low => 2,
    }
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local())
}

/// Metric of the unreachable defaults, Gluon's. More if something else is behind it.
const BEHIND_ALL: u32 = 65535;
/// Metrics between one preference and the next: that many routers of one preference keep their order.
const SLOTS: u32 = 16;
/// Metrics between one uplink and the next, at least.
const BAND: u32 = 64;
/// Added where the cable is unplugged: any other uplink is better.
const DEAD: u32 = 0x2000;
/// An uplink that announces hundreds of prefixes shall not grow the guard without bound.
const MAX_ONLINK: usize = 32;
