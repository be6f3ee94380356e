//! Which servers a resolver may ask, and why it may ask none.

use crate::desired::manages;
use crate::routes::leads;
use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::net::IpAddr;
use narrowgate_model::Gather;
use narrowgate_model::config::{Resolver, Uplink, Via};
use narrowgate_model::facts::UplinkState;
use narrowgate_model::sort::sort_by_key;
use narrowgate_model::{ByName, Config, Facts, Server};

/// The servers of a resolver, the best first, each once.
///
/// Those written at the resolver count alone; else those written at an uplink; else what the uplink offers. A server is left
/// out while there is no way to it: its uplink is down, or has no route for it. Then a query waits instead of failing.
///
/// Where there are several uplinks each server is asked by its own: households often have theirs at the same address, and
/// the best route leads to one of them. Those written at the resolver are asked by every uplink that leads to them.
pub fn upstreams(config: &Config, resolver: &Resolver, facts: &ByName<Facts>) -> Vec<Server> {
    if resolver.via == Via::Mesh {
        return unique(resolver.servers.iter().cloned());
    }
    let uplinks = by_metric(config);
    let live = |u: &&Uplink| facts.get(&u.name).is_some_and(|f| f.state() >= UplinkState::Waiting);
    let mut servers = Vec::new();
    if !resolver.servers.is_empty() {
        for server in &resolver.servers {
            let way = |u: &&Uplink| facts.get(&u.name).is_some_and(|f| reachable(u, f, server));
            let ways = uplinks.iter().copied().filter(live).filter(way);
            ways.map(|u| by(config, server, &u.device)).add_to(&mut servers);
        }
        return unique(servers.into_iter());
    }
    for uplink in uplinks.iter().copied().filter(live) {
        let Some(known) = facts.get(&uplink.name) else { continue };
        let offered = offered(uplink, known).filter(|s| reachable(uplink, known, s));
        offered.map(|s| by(config, s, &uplink.device)).add_to(&mut servers);
    }
    unique(servers.into_iter())
}

fn by(config: &Config, server: &Server, device: &str) -> Server {
    let server = server.clone();
    if config.uplinks.len() > 1 { server.over(device) } else { server.scoped(device) }
}

/// How far the best of the uplinks is, and a sentence that says so: what a query gets that cannot be answered.
pub fn resolver_state(config: &Config, resolver: &Resolver, facts: &ByName<Facts>) -> (UplinkState, String) {
    if resolver.via == Via::Mesh {
        return (UplinkState::Up, "through the mesh".to_owned());
    }
    let best = by_metric(config)
        .into_iter()
        .map(|u| (state(u, resolver, facts), u))
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    let Some((state, uplink)) = best else {
        return (UplinkState::NoDevice, "the config has no uplink".to_owned());
    };
    let device = uplink.device.as_str();
    let known = facts.get(&uplink.name);
    let parts: [&str; 3] = match state {
        UplinkState::NoDevice => ["there is no device ", device, ""],
        UplinkState::Down => [device, " is switched off", ""],
        UplinkState::NoCarrier => ["no carrier on ", device, ""],
        UplinkState::Waiting if known.is_none_or(|f| f.routes.is_empty()) => {
            ["no address and route yet on ", device, ""]
        }
        UplinkState::Waiting if known.is_some_and(|f| has_servers(uplink, resolver, f)) => {
            ["no route to any DNS server on ", device, ""]
        }
        UplinkState::Waiting => ["no DNS server learnt yet on ", device, ""],
        UplinkState::Up => ["up on ", device, ""],
    };
    (state, ["uplink ", &uplink.name, ": ", parts[0], parts[1], parts[2]].concat())
}

/// Whether IPv4 and IPv6 lead beyond the household now, by any uplink. A unique local address (RFC 4193) does not: a router
/// that has no IPv6 itself gives such ones.
pub fn ip_versions(config: &Config, facts: &ByName<Facts>) -> (bool, bool) {
    let leads = |ipv6: bool| {
        config.uplinks.iter().filter_map(|u| Some((u, facts.get(&u.name)?))).any(|(uplink, known)| {
            let routed = known.routes.iter().any(|r| r.via.is_some() && r.dst.is_ipv6() == ipv6);
            let addressed =
                || known.addresses.iter().any(|a| a.prefix.is_ipv6() == ipv6 && !is_local(a.prefix.addr));
            // A foreign manager sets the addresses and does not tell them.
            routed && known.state() >= UplinkState::Waiting && (!manages(uplink) || addressed())
        })
    };
    (leads(false), leads(true))
}

fn is_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(a) if a.segments()[0] & 0xfe00 == 0xfc00)
}

fn state(uplink: &Uplink, resolver: &Resolver, facts: &ByName<Facts>) -> UplinkState {
    let Some(known) = facts.get(&uplink.name) else { return UplinkState::NoDevice };
    let state = known.state();
    if state < UplinkState::Waiting {
        return state;
    }
    let up = if resolver.servers.is_empty() {
        offered(uplink, known).any(|s| reachable(uplink, known, s))
    } else {
        resolver.servers.iter().any(|s| reachable(uplink, known, s))
    };
    if up { UplinkState::Up } else { UplinkState::Waiting }
}

fn has_servers(uplink: &Uplink, resolver: &Resolver, facts: &Facts) -> bool {
    !resolver.servers.is_empty() || offered(uplink, facts).next().is_some()
}

/// What is written at the uplink, or else what was learnt there.
fn offered<'a>(uplink: &'a Uplink, facts: &'a Facts) -> impl Iterator<Item = &'a Server> {
    let learnt = facts.dns.iter().map(|d| &d.server).filter(|_| uplink.dns.is_empty());
    uplink.dns.iter().chain(learnt)
}

/// Whether a packet to the server finds a route: by one of the uplink's, on its own link, or on this host.
fn reachable(uplink: &Uplink, facts: &Facts, server: &Server) -> bool {
    server.is_link_local()
        || server.addr.is_loopback()
        || facts.routes.iter().any(|r| r.dst.contains(server.addr) && leads(uplink, facts, r))
}

fn by_metric(config: &Config) -> Vec<&Uplink> {
    let mut uplinks: Vec<&Uplink> = config.uplinks.iter().gather();
    sort_by_key(&mut uplinks, |u| u.metric);
    uplinks
}

fn unique(servers: impl Iterator<Item = Server>) -> Vec<Server> {
    let mut seen = Vec::new();
    for server in servers {
        if !seen.contains(&server) {
            seen.push(server);
        }
    }
    seen
}
