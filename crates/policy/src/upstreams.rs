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
    let mut servers: Vec<Server> = Vec::new();
    let mut add = |server: Server| {
        if !servers.contains(&server) {
            servers.push(server);
        }
    };
    if resolver.via == Via::Mesh {
        resolver.servers.iter().for_each(|server| add(server.clone()));
        return servers;
    }
    let mut ask = |server: &Server, uplink: &Uplink, known: Option<&Facts>| {
        let live = |f: &Facts| f.state() >= UplinkState::Waiting && reachable(uplink, f, server);
        if known.is_some_and(live) {
            let server = server.clone();
            let several = config.uplinks.len() > 1;
            add(if several { server.over(&uplink.device) } else { server.scoped(&uplink.device) });
        }
    };
    let uplinks = by_metric(config, facts);
    for server in &resolver.servers {
        uplinks.iter().for_each(|(uplink, known)| ask(server, uplink, *known));
    }
    if resolver.servers.is_empty() {
        for (uplink, known) in uplinks {
            for server in known.map_or(Vec::new(), |known| candidates(uplink, resolver, known)) {
                ask(server, uplink, known);
            }
        }
    }
    servers
}

/// How far the best of the uplinks is, and a sentence that says so: what a query gets that cannot be answered.
pub fn resolver_state(config: &Config, resolver: &Resolver, facts: &ByName<Facts>) -> (UplinkState, String) {
    if resolver.via == Via::Mesh {
        return (UplinkState::Up, "through the mesh".to_owned());
    }
    let mut best: Option<(UplinkState, &Uplink)> = None;
    for (uplink, known) in by_metric(config, facts) {
        let state = state(uplink, resolver, known);
        if best.is_none_or(|(than, ..)| state > than) {
            best = Some((state, uplink));
        }
    }
    let Some((state, uplink)) = best else {
        return (UplinkState::NoDevice, "the config has no uplink".to_owned());
    };
    let known = facts.get(&uplink.name);
    let (before, behind) = match state {
        UplinkState::NoDevice => ("there is no device ", ""),
        UplinkState::Down => ("", " is switched off"),
        UplinkState::NoCarrier => ("no carrier on ", ""),
        UplinkState::Waiting if known.is_none_or(|f| f.routes.is_empty()) => {
            ("no address and route yet on ", "")
        }
        UplinkState::Waiting if known.is_some_and(|f| !candidates(uplink, resolver, f).is_empty()) => {
            ("no route to any DNS server on ", "")
        }
        UplinkState::Waiting => ("no DNS server learnt yet on ", ""),
        UplinkState::Up => ("up on ", ""),
    };
    (state, ["uplink ", &uplink.name, ": ", before, &uplink.device, behind].concat())
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

fn state(uplink: &Uplink, resolver: &Resolver, known: Option<&Facts>) -> UplinkState {
    let Some(known) = known else { return UplinkState::NoDevice };
    let state = known.state();
    let servers = candidates(uplink, resolver, known);
    if state < UplinkState::Waiting {
        state
    } else if servers.into_iter().any(|s| reachable(uplink, known, s)) {
        UplinkState::Up
    } else {
        UplinkState::Waiting
    }
}

/// What is written at the resolver, or else at the uplink, or else what was learnt there.
fn candidates<'a>(uplink: &'a Uplink, resolver: &'a Resolver, facts: &'a Facts) -> Vec<&'a Server> {
    let written = if resolver.servers.is_empty() { &uplink.dns } else { &resolver.servers };
    if written.is_empty() { facts.dns.iter().map(|d| &d.server).gather() } else { written.iter().gather() }
}

/// Whether a packet to the server finds a route: by one of the uplink's, on its own link, or on this host.
fn reachable(uplink: &Uplink, facts: &Facts, server: &Server) -> bool {
    server.is_link_local()
        || server.addr.is_loopback()
        || facts.routes.iter().any(|r| r.dst.contains(server.addr) && leads(uplink, facts, r))
}

/// The uplinks, the best first, with what is known of each.
fn by_metric<'a>(config: &'a Config, facts: &'a ByName<Facts>) -> Vec<(&'a Uplink, Option<&'a Facts>)> {
    let mut uplinks: Vec<&Uplink> = config.uplinks.iter().gather();
    sort_by_key(&mut uplinks, |u| u.metric);
    uplinks.into_iter().map(|u| (u, facts.get(&u.name))).gather()
}
