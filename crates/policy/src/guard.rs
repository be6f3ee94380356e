//! The guard, the marking of what arrives, and the redirect: the tables `inet` and `arp`. Why each rule is there is told in
//! docs/policy.md, in the same order.
//!
//! Devices are matched by name, so that the guard stands before there is a device. Behind that, all that goes by the number
//! of a device that had the name is dropped: so it is until we have heard that somebody gave it another one. A packet that no rule of ours is for (it
//! neither comes nor goes by an uplink) passes all chains untouched.

use crate::desired::{Known, scope_devices};
use crate::egress::{Port, bridged, seen_bit};
use crate::housekeeping::{INCOMING, outgoing};
use crate::rows::If::*;
use crate::rows::Net::{Loopback4, Loopback6};
use crate::rows::{ICMP, ICMPV6, Place, Row, Rules, TCP, UDP, accept, drop, given};
use crate::strict;
use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;
use narrowgate_model::net::Link;
use narrowgate_model::nft::CtDirection::{Original, Reply};
use narrowgate_model::nft::{Action, Chain, ChainKind, Family, Hook, IpVersion, Match, Policy, Rule, Table};
use narrowgate_model::{Config, Mark};

/// The tables of the families `inet` and `arp`.
#[inline(never)]
pub(crate) fn tables(config: &Config, groups: &[u32], uplinks: &[Known<'_>], links: &[Link]) -> Vec<Table> {
    let devices = scope_devices(config);
    let ports = bridged(config, links);
    // What came in by a bridge's port for the bridge itself does not keep the bit.
    let mut mark = config.mark;
    if !ports.is_empty() {
        mark.mask |= seen_bit(config);
    }
    let mut chains = Vec::new();
    add_chain(&mut chains, "mark_in", Hook::Prerouting, RAW, &[], set_mark(config, &devices, mark));
    add_chain(&mut chains, "input", Hook::Input, FILTER, &[], arriving(config, uplinks));
    add_chain(
        &mut chains,
        "forward",
        Hook::Forward,
        FILTER,
        &[],
        forwarded(config, &devices, uplinks, &ports),
    );
    add_chain(&mut chains, "output", Hook::Output, LATE, &[], leaving(config, uplinks, &ports));
    add_chain(&mut chains, "postrouting", Hook::Postrouting, LATE, &[], on_the_way(config, &devices));
    let redirect = redirect(config, groups);
    if !redirect.is_empty() {
        add_chain(&mut chains, "dns_redirect", Hook::Output, DSTNAT, &[], redirect);
    }
    let mut arp = Vec::new();
    add_chain(&mut arp, "mark_in", Hook::Input, FILTER, &[], set_mark(config, &devices, mark));
    let mut counters = COUNTERS.to_vec();
    if config.strict {
        counters.push(strict::REFUSED);
    }
    vec![
        Table { family: Family::Inet, counters, sets: strict::sets(config), chains },
        Table { family: Family::Arp, counters: Vec::new(), sets: Vec::new(), chains: arp },
    ]
}

/// A chain, on these devices if it is one of `netdev`.
pub(crate) fn add_chain(
    chains: &mut Vec<Chain>,
    name: &'static str,
    hook: Hook,
    priority: i32,
    devices: &[String],
    rules: Vec<Rule>,
) {
    let kind = if priority == DSTNAT { ChainKind::Nat } else { ChainKind::Filter };
    let devices = devices.to_vec();
    chains.push(Chain { name, kind, hook, priority, policy: Policy::Accept, devices, rules });
}

/// Before connection tracking and routing, so that the look-up for the way back (`rp_filter`, ARP), the connections that are
/// accepted and the answers of the kernel all see the mark.
fn set_mark(config: &Config, devices: &[String], mark: Mark) -> Vec<Rule> {
    let mut rules = Rules::new(config, Place::Inet);
    rules.action = Action::SetMark { value: mark.value, mask: mark.mask };
    for device in devices {
        rules.device = device;
        rules.add("", const { &[given("came by the uplink", [Iif])] });
    }
    rules.list
}

/// The chain `input`.
#[inline(never)]
fn arriving(config: &Config, uplinks: &[Known<'_>]) -> Vec<Rule> {
    let mut rules = Rules::new(config, Place::Inet);
    for uplink in uplinks {
        rules.of(uplink);
        rules.add("in_reply", ANSWERS);
        for service in &uplink.config.inbound {
            rules.add_service("in_inbound", &INBOUND, *service, false);
        }
        rules.add("in_housekeeping", INCOMING);
        rules.add("in_refused", const { &[drop("not asked for", [Iif])] });
    }
    for link in uplinks.iter().filter_map(|u| u.link) {
        rules.index = link.index;
        rules.add("in_refused", RENAMED_IN);
    }
    rules.list
}

static RENAMED_IN: &[Row] = &[drop("renamed", [IifIndex])];
static RENAMED_OUT: &[Row] = &[drop("renamed", [OifIndex])];

static ANSWERS: &[Row] = &[
    accept("answer", [Iif, Ct(Reply)]),
    accept("error to ours", [Iif, L4(ICMP), Related]),
    accept("error to ours", [Iif, L4(ICMPV6), Related]),
];

static INBOUND: Row = accept("inbound", [Iif]);

/// The chain `forward`: nothing passes through the node from or to an uplink, marked or not.
#[inline(never)]
fn forwarded(config: &Config, devices: &[String], uplinks: &[Known<'_>], ports: &[Port<'_>]) -> Vec<Rule> {
    let mut rules = Rules::new(config, Place::Inet);
    for device in devices {
        rules.device = device;
        rules.add("leak_forward", const { &[drop("forwarded out", [Oif])] });
        rules.add("in_forward", const { &[drop("forwarded in", [Iif])] });
    }
    for link in uplinks.iter().filter_map(|u| u.link) {
        rules.index = link.index;
        rules.add("leak_forward", RENAMED_OUT);
        rules.add("in_forward", RENAMED_IN);
    }
    past_bridges(&mut rules, ports, "leak_forward");
    rules.list
}

/// The chain `output`.
#[inline(never)]
fn leaving(config: &Config, uplinks: &[Known<'_>], ports: &[Port<'_>]) -> Vec<Rule> {
    let mut rules = Rules::new(config, Place::Inet);
    for uplink in uplinks {
        rules.of(uplink);
        outgoing(&mut rules, uplink, "out_housekeeping");
        // Redirected queries still show the device that they were first routed to. If one really goes there, postrouting sees it.
        for ipv6 in [false, true] {
            if let Some(listen) = resolver(config, ipv6) {
                rules.add_server("", &REDIRECTED, listen.ip(), listen.port());
            }
        }
        rules.add("out_housekeeping", ERRORS);
        if config.strict {
            strict::rules(&mut rules, config, uplink);
        } else {
            rules.add("out_dns", DNS);
            rules.add("out_tunnel", const { &[accept("tunnel", [Oif, Marked, Ct(Original)])] });
        }
        for service in &uplink.config.inbound {
            rules.add_service("out_reply", &REPLY, *service, true);
        }
        rules.add("leak_output", const { &[drop("leak", [Oif])] });
    }
    for link in uplinks.iter().filter_map(|u| u.link) {
        rules.index = link.index;
        rules.add("leak_output", RENAMED_OUT);
    }
    past_bridges(&mut rules, ports, "leak_output");
    rules.list
}

/// Who binds to a bridge's port goes past the bridge.
fn past_bridges(rules: &mut Rules<'_>, ports: &[Port<'_>], counter: &'static str) {
    for (_, port) in ports {
        rules.index = port.index;
        rules.add(counter, const { &[drop("past the bridge", [OifIndex])] });
    }
}

static REDIRECTED: Row = accept("redirected", [Oif]);

static ERRORS: &[Row] = &[
    accept("error to theirs", [Oif, Marked, L4(ICMP), Related]),
    accept("error to theirs", [Oif, Marked, L4(ICMPV6), Related]),
];

static DNS: &[Row] = &[
    accept("tunnel's DNS", [Oif, Marked, Ct(Original), L4(UDP), DstPort(53)]),
    accept("tunnel's DNS", [Oif, Marked, Ct(Original), L4(TCP), DstPort(53)]),
];

static REPLY: Row = accept("reply", [Oif, Marked, Ct(Reply)]);

/// The chain `postrouting`, behind the redirect's new routing: what is still on its way to an uplink has no business to be for the
/// loopback.
fn on_the_way(config: &Config, devices: &[String]) -> Vec<Rule> {
    let mut rules = Rules::new(config, Place::Inet);
    for device in devices {
        rules.device = device;
        rules.add("leak_output", LOOPBACK);
    }
    rules.list
}

static LOOPBACK: &[Row] = &[drop("leak", [Oif, Dst(Loopback4)]), drop("leak", [Oif, Dst(Loopback6)])];

#[inline(never)]
fn redirect(config: &Config, groups: &[u32]) -> Vec<Rule> {
    let mut rules = Rules::new(config, Place::Inet);
    for (n, gid) in groups.iter().enumerate() {
        if groups.iter().take(n).any(|before| before == gid) {
            continue;
        }
        for (version, ipv6) in [(IpVersion::V4, false), (IpVersion::V6, true)] {
            let Some(to) = resolver(config, ipv6) else { continue };
            rules.action = Action::Dnat(to);
            for protocol in [UDP, TCP] {
                let of_group = vec![
                    Match::NfProto(version),
                    Match::SkGid(*gid),
                    Match::L4Proto(protocol),
                    Match::DstPort(53),
                ];
                rules.add_with("redirected", &REDIRECT, of_group);
            }
        }
    }
    rules.list
}

static REDIRECT: Row = given("group's DNS", []);

/// Where the first WAN resolver listens in a family.
fn resolver(config: &Config, ipv6: bool) -> Option<SocketAddr> {
    config.uplink_resolvers().flat_map(|r| &r.listen).find(|l| l.is_ipv6() == ipv6).copied()
}

const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
/// Behind the chains of others that set marks or translate addresses.
const LATE: i32 = 300;

/// The named counters of the table `inet`.
const COUNTERS: [&str; 12] = [
    "out_tunnel",
    "out_dns",
    "out_reply",
    "out_housekeeping",
    "leak_output",
    "leak_forward",
    "in_reply",
    "in_inbound",
    "in_housekeeping",
    "in_refused",
    "in_forward",
    "redirected",
];
