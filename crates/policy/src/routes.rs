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
use narrowgate_model::facts::{AddressFact, Preference, RouteFact};
use narrowgate_model::net::{Route, RouteKind};
use narrowgate_model::sort::{sort, sort_by_key};
use narrowgate_model::state::Observed;
use narrowgate_model::{Config, Facts, PROTOCOL, Prefix, Time};

/// All routes that should be there. Those over a device that is off are for [`crate::diff`] to leave out.
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

/// The prefixes that are on-link by the facts: what ARP and Neighbor Discovery may ask for.
///
/// A default route without a router is left out: it would let everybody ask for everything. So are more than [`MAX_ONLINK`].
pub(crate) fn onlink(uplink: &Known<'_>) -> Vec<Prefix> {
    let Some(facts) = uplink.facts else { return Vec::new() };
    let direct = facts.routes.iter().filter(|r| r.via.is_none()).map(|r| r.dst);
    let routers = facts.routes.iter().filter_map(|r| r.via).map(Prefix::host);
    let mut prefixes: Vec<Prefix> = direct
        .chain(facts.addresses.iter().filter(|a| !a.prefix.is_ipv6()).map(|a| a.prefix))
        .chain(routers)
        .map(Prefix::network)
        .filter(|p| !p.is_default() && !is_link_local(p.addr))
        .gather();
    sort(&mut prefixes);
    prefixes.dedup();
    let all = prefixes.clone();
    prefixes.retain(|p| !all.iter().any(|wider| wider.len < p.len && wider.contains(p.addr)));
    prefixes.truncate(MAX_ONLINK);
    prefixes
}

/// Whether a packet finds the way back to us that leaves by this route. By a router of IPv6 it does not from a link-local address,
/// and there is no other before DHCPv6 has given one, where the advertisements have no prefix to make one from. What a foreign
/// manager sets we are not told.
pub(crate) fn leads(uplink: &Uplink, facts: &Facts, route: &RouteFact) -> bool {
    let wide = |a: &AddressFact| a.prefix.is_ipv6() && !is_link_local(a.prefix.addr);
    route.via.is_none() || !route.dst.is_ipv6() || !manages(uplink) || facts.addresses.iter().any(wide)
}

struct Wan<'a> {
    number: u32,
    observed: &'a Observed,
    routes: Vec<Route>,
}

impl Wan<'_> {
    fn uplink(&mut self, uplink: &Known<'_>, base: u32, now: Time) {
        let Some(link) = uplink.link else { return };
        let mut facts: Vec<RouteFact> = Vec::new();
        if let Some(known) = uplink.facts {
            let leads = |r: &&RouteFact| alive(r.until, now) && leads(uplink.config, known, r);
            known.routes.iter().filter(leads).cloned().add_to(&mut facts);
            facts.extend(known.addresses.iter().filter(|a| alive(a.valid_until, now)).filter_map(|a| {
                // An IPv4 address tells its network; an IPv6 address does not (RFC 5942).
                let network = a.prefix.network();
                let tells = !network.is_ipv6() && network.len < 32;
                tells.then_some(RouteFact {
                    dst: network,
                    via: None,
                    preference: Preference::Medium,
                    until: None,
                    origin: a.origin,
                })
            }));
        }
        let fe80 = RouteFact {
            dst: Prefix::LINK_LOCAL,
            via: None,
            preference: Preference::Medium,
            until: None,
            origin: narrowgate_model::facts::Origin::Config,
        };
        facts.push(fe80);
        for fact in &mut facts {
            fact.dst = fact.dst.network();
        }
        // On-link ones first: a router has to be reachable when the kernel gets the route by it.
        sort_by_key(&mut facts, |f| (f.via.is_some(), f.dst, rank(f.preference), f.origin, f.via));
        facts.dedup_by_key(|f| (f.dst, f.via));
        let near: Vec<Prefix> = facts.iter().filter(|f| f.via.is_none()).map(|f| f.dst).gather();
        for fact in facts.iter().filter(|f| !(uplink.no_ipv6 && f.dst.is_ipv6())) {
            let seen = |r: &&Route| r.dst == fact.dst && r.link == Some(link.index) && r.via == fact.via;
            let sane = fact.via.is_none_or(|via| via.is_ipv6() == fact.dst.is_ipv6());
            if !sane || self.routes.iter().any(|r| seen(&r)) {
                continue;
            }
            let metric = self.free(fact.dst, base.saturating_add(rank(fact.preference) * SLOTS));
            self.routes.push(Route {
                table: self.number,
                dst: fact.dst,
                kind: RouteKind::Unicast,
                via: fact.via,
                link: Some(link.index),
                metric,
                onlink: fact
                    .via
                    .is_some_and(|via| !is_link_local(via) && !near.iter().any(|p| p.contains(via))),
                source: None,
                protocol: PROTOCOL,
            });
        }
    }

    fn unreachable(&mut self, dst: Prefix) {
        let foreign = self.foreign().filter(|r| r.dst == dst).map(|r| r.metric);
        let ours = self.routes.iter().filter(|r| r.dst == dst).map(|r| r.metric);
        let last = foreign.chain(ours).max().map_or(0, |m| m.saturating_add(1));
        self.routes.push(Route {
            table: self.number,
            dst,
            kind: RouteKind::Unreachable,
            via: None,
            link: None,
            metric: last.max(BEHIND_ALL),
            onlink: false,
            source: None,
            protocol: PROTOCOL,
        });
    }

    /// The first metric from `metric` on that no route to `dst` has, ours or foreign.
    fn free(&self, dst: Prefix, metric: u32) -> u32 {
        let mut metric = metric;
        let taken = |m: u32| self.foreign().chain(&self.routes).any(|r| r.dst == dst && r.metric == m);
        while metric < u32::MAX && taken(metric) {
            metric += 1;
        }
        metric
    }

    fn foreign(&self) -> impl Iterator<Item = &Route> {
        self.observed.routes.iter().filter(|r| r.table == self.number && r.protocol != PROTOCOL)
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
