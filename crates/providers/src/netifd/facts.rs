//! netifd's interfaces become facts. Pure.

use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::net::IpAddr;
use core::time::Duration;
use narrowgate_model::facts::{DnsFact, Origin, Preference, RouteFact};
use narrowgate_model::{Facts, Gather, Prefix, Server, Time};
use narrowgate_wire::ubus::network::{Interface, Route};

/// Which of netifd's interfaces are the uplink.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The uplink's device: what is told of another is another uplink's.
    pub device: &'a str,
    /// `list interface`. Empty: all that are on the device.
    pub interfaces: &'a [String],
    /// The names that Gluon's packages list, in their order.
    pub listed: &'a [String],
    /// `list dns`: overrides what is learnt.
    pub dns: &'a [Server],
}

/// The interfaces that are the uplink: those named, in that order; or else all on the device: Gluon's and OpenWrt's usual names
/// first, then what Gluon's packages list, then the rest, so that no list of names can forget a new kind of uplink.
pub fn selected<'a>(
    known: &'a [Interface],
    selection: &Selection<'a>,
) -> impl Iterator<Item = &'a Interface> + use<'a> {
    let on_device = |i: &&Interface| i.device.as_deref() == Some(selection.device);
    let named = !selection.interfaces.is_empty();
    let mut found: Vec<&Interface> = known
        .iter()
        .filter(|i| if named { selection.interfaces.contains(&i.name) } else { on_device(i) })
        .gather();
    let place = |i: &&Interface| match named {
        true => selection.interfaces.iter().position(|name| *name == i.name),
        false => {
            let mut known = USUAL.iter().copied().chain(selection.listed.iter().map(String::as_str));
            Some(known.position(|name| name == i.name).unwrap_or(usize::MAX))
        }
    };
    narrowgate_model::sort::sort_by_key(&mut found, place);
    found.into_iter()
}

/// The facts, without the link, and what is wrong with the selection.
pub fn facts(known: &[Interface], selection: &Selection<'_>, now: Time) -> (Facts, Option<String>) {
    let mut facts = Facts::default();
    let mut problem = missing(known, selection);
    for interface in selected(known, selection).filter(|i| i.up) {
        match interface.device.as_deref() {
            Some(other) if other != selection.device => {
                let Interface { name, .. } = interface;
                problem = Some(format!(
                    "netifd has interface '{name}' on {other}, not on {}: correct `option device` or `list interface`",
                    selection.device
                ));
            }
            _ => add(&mut facts, interface, selection, now),
        }
    }
    if !selection.dns.is_empty() {
        let fact = |s: &Server| dns(s.clone(), selection, Origin::Config);
        facts.dns = selection.dns.iter().map(fact).gather();
    }
    (facts, problem)
}

/// Lifetimes are told in whole seconds from now, so they seem to jitter: one that has moved by no more than that has not moved.
pub fn steady(facts: &mut Facts, before: &Facts) {
    for route in &mut facts.routes {
        let same = |old: &&RouteFact| old.dst == route.dst && old.via == route.via;
        if let Some((old, new)) = before.routes.iter().find(same).and_then(|old| old.until.zip(route.until))
            && old.since(new).max(new.since(old)) <= JITTER
        {
            route.until = Some(old);
        }
    }
}

/// An interface for `status`.
pub fn in_words(interface: &Interface) -> String {
    let mut text = format!("{} ({}", interface.name, interface.proto);
    text.push_str(if interface.up { ", up" } else { ", down" });
    for (option, table) in [("ip4table", interface.ip4table), ("ip6table", interface.ip6table)] {
        if let Some(table) = table {
            text.push_str(&format!(", {option} {table}"));
        }
    }
    text.push(')');
    text
}

/// What the operator should know though it is no fault: default routes that netifd puts beside the tunnel's.
pub fn notes(interface: &Interface) -> Vec<String> {
    let note = |(family, option, table, default): (&str, &str, Option<u32>, Prefix)| {
        let there = interface.up && interface.routes.iter().any(|r| r.active && r.dst == default);
        (there && table.is_none()).then(|| {
            let Interface { name, .. } = interface;
            format!(
                "netifd writes the {family} default route of '{name}' to the main table (only the guard keeps packets in): \
                 uci set network.{name}.{option}=1"
            )
        })
    };
    let families = [
        ("IPv4", "ip4table", interface.ip4table, Prefix::DEFAULT_V4),
        ("IPv6", "ip6table", interface.ip6table, Prefix::DEFAULT_V6),
    ];
    families.into_iter().filter_map(note).gather()
}

fn missing(known: &[Interface], selection: &Selection<'_>) -> Option<String> {
    let names = |list: Vec<&str>| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let all = || {
        let place = |i: &Interface| format!("{} on {}", i.name, i.device.as_deref().unwrap_or("no device"));
        let all: Vec<String> = known.iter().map(place).collect();
        names(all.iter().map(String::as_str).collect())
    };
    if selection.interfaces.is_empty() {
        let nobody = selected(known, selection).next().is_none();
        return nobody.then(|| format!("netifd has no interface on {}; it has: {}", selection.device, all()));
    }
    let absent: Vec<&str> = selection
        .interfaces
        .iter()
        .map(String::as_str)
        .filter(|n| !known.iter().any(|i| i.name == *n))
        .gather();
    (!absent.is_empty()).then(|| format!("netifd has no interface {}; it has: {}", names(absent), all()))
}

fn add(facts: &mut Facts, interface: &Interface, selection: &Selection<'_>, now: Time) {
    // An IPv4 address tells its network; an IPv6 address does only where it was written by hand (RFC 5942): of others the
    // prefixes that are on-link are among the routes.
    let told = |p: &&Prefix| (!p.is_ipv6() || interface.proto == "static") && **p != Prefix::host(p.addr);
    let near = interface.addresses.iter().filter(told).map(|p| on_link(p.network()));
    for route in near.chain(interface.routes.iter().map(|route| offered(route, now))) {
        // The multicast and link-local ones are on every link.
        let everywhere = route.dst.addr.is_multicast() || Prefix::LINK_LOCAL == route.dst;
        if !everywhere && !facts.routes.iter().any(|r| r.dst == route.dst && r.via == route.via) {
            facts.routes.push(route);
        }
    }
    for &addr in interface.dns.iter().filter(|addr| is_elsewhere(**addr)) {
        let fact = dns(Server::new(addr), selection, Origin::Netifd);
        if !facts.dns.contains(&fact) {
            facts.dns.push(fact);
        }
    }
    for domain in &interface.search {
        if !facts.search.contains(domain) {
            facts.search.push(domain.clone());
        }
    }
}

fn on_link(dst: Prefix) -> RouteFact {
    RouteFact { dst, via: None, preference: Preference::Medium, until: None, origin: Origin::Netifd }
}

fn offered(route: &Route, now: Time) -> RouteFact {
    let preference = match route.metric {
        _ if !route.dst.is_ipv6() || route.via.is_none() => Preference::Medium,
        Some(HIGH) => Preference::High,
        Some(LOW) => Preference::Low,
        _ => Preference::Medium,
    };
    RouteFact {
        dst: route.dst,
        via: route.via,
        preference,
        until: route.valid.map(|seconds| now + Duration::from_secs(seconds.into())),
        origin: Origin::Netifd,
    }
}

fn dns(server: Server, selection: &Selection<'_>, origin: Origin) -> DnsFact {
    DnsFact { server: server.scoped(selection.device), until: None, origin }
}

/// A server on this very host would be the one that asks us.
fn is_elsewhere(addr: IpAddr) -> bool {
    !addr.is_loopback() && !addr.is_unspecified() && !addr.is_multicast()
}

/// The names that Gluon gives to uplinks, which are OpenWrt's: the order in which servers are asked.
const USUAL: [&str; 4] = ["wan", "wan6", "cellular", "cellular_4"];
/// odhcp6c's metrics for router preferences (RFC 4191); medium is 512.
const HIGH: u32 = 384;
const LOW: u32 = 640;
const JITTER: Duration = Duration::from_secs(2);
