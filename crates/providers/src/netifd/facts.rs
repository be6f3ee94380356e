//! netifd's interfaces become facts. Pure.

use crate::tell;
use alloc::{string::String, vec::Vec};
use core::net::IpAddr;
use core::time::Duration;
use narrowgate_model::facts::{DnsFact, Origin, Preference, RouteFact};
use narrowgate_model::{Facts, Prefix, Server, Time};
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
pub fn selected<'a>(known: &'a [Interface], selection: &Selection<'_>) -> Vec<&'a Interface> {
    let named = !selection.interfaces.is_empty();
    let mut found: Vec<&Interface> = Vec::new();
    for interface in known {
        let on_device = interface.device.as_deref() == Some(selection.device);
        if if named { selection.interfaces.contains(&interface.name) } else { on_device } {
            found.push(interface);
        }
    }
    let place = |name: &String| {
        let among = |list: &[String]| list.iter().position(|n| n == name);
        if named {
            return among(selection.interfaces);
        }
        let usual = USUAL.iter().position(|n| n == name);
        let listed = || Some(USUAL.len() + among(selection.listed).unwrap_or(selection.listed.len()));
        usual.or_else(listed)
    };
    narrowgate_model::sort::sort_by_key(&mut found, |i| place(&i.name));
    found
}

/// The facts, without the link, and what is wrong with the selection.
#[inline(never)]
pub fn facts(known: &[Interface], selection: &Selection<'_>, now: Time) -> (Facts, Option<String>) {
    let mut facts = Facts::default();
    let mut problem = missing(known, selection);
    for interface in selected(known, selection).into_iter().filter(|i| i.up) {
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
        facts.dns.clear();
        selection.dns.iter().for_each(|s| facts.dns.push(dns(s.clone(), selection, Origin::Config)));
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
    let Interface { name, proto, .. } = interface;
    let up = if interface.up { "up" } else { "down" };
    let mut text = format!("{name} ({proto}, {up}");
    for (option, table) in [("ip4table", interface.ip4table), ("ip6table", interface.ip6table)] {
        if let Some(table) = table {
            text.push_str(&format!(", {option} {table}"));
        }
    }
    text.push(')');
    text
}

/// What the operator should know though it is no fault: default routes that netifd puts beside the tunnel's.
pub fn add_notes(interface: &Interface, out: &mut Vec<(String, String)>) {
    let families = [
        ("IPv4", "ip4table", interface.ip4table, Prefix::DEFAULT_V4),
        ("IPv6", "ip6table", interface.ip6table, Prefix::DEFAULT_V6),
    ];
    for (family, option, table, default) in &families {
        let there = interface.up && interface.routes.iter().any(|r| r.active && r.dst == *default);
        if there && table.is_none() {
            let Interface { name, .. } = interface;
            let note = format!(
                "netifd writes the {family} default route of '{name}' to the main table (only the guard keeps packets in): \
                 uci set network.{name}.{option}=1"
            );
            tell(out, "note", note);
        }
    }
}

fn missing(known: &[Interface], selection: &Selection<'_>) -> Option<String> {
    let mut absent = String::new();
    if selection.interfaces.is_empty() {
        if !selected(known, selection).is_empty() {
            return None;
        }
        enumerate(&mut absent, &["on ", selection.device]);
    }
    for name in selection.interfaces {
        if !known.iter().any(|i| i.name == *name) {
            enumerate(&mut absent, &[name]);
        }
    }
    if absent.is_empty() {
        return None;
    }
    let mut all = String::new();
    for interface in known {
        enumerate(&mut all, &[&interface.name, " on ", interface.device.as_deref().unwrap_or("no device")]);
    }
    if all.is_empty() {
        all.push_str("none");
    }
    Some(format!("netifd has no interface {absent}; it has: {all}"))
}

/// One more in a list for people.
fn enumerate(list: &mut String, item: &[&str]) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.push_str(&item.concat());
}

fn add(facts: &mut Facts, interface: &Interface, selection: &Selection<'_>, now: Time) {
    // An IPv4 address tells its network; an IPv6 address does only where it was written by hand (RFC 5942): of others the
    // prefixes that are on-link are among the routes.
    let told = |p: &&Prefix| (!p.is_ipv6() || interface.proto == "static") && **p != Prefix::host(p.addr);
    for prefix in interface.addresses.iter().filter(told) {
        add_route(facts, on_link(prefix.network()));
    }
    for route in &interface.routes {
        add_route(facts, offered(route, now));
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

/// But for the multicast and link-local ones, which are on every link, and those that are there.
fn add_route(facts: &mut Facts, route: RouteFact) {
    let everywhere = route.dst.addr.is_multicast() || Prefix::LINK_LOCAL == route.dst;
    if !everywhere && !facts.routes.iter().any(|r| r.dst == route.dst && r.via == route.via) {
        facts.routes.push(route);
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
