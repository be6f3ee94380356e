//! The guard, the marking of what arrives, and the redirect: the tables `inet` and `arp`. Why each rule is there is told in
//! docs/policy.md, in the same order.
//!
//! Devices are matched by name, so that the guard stands before there is a device. Behind that, all that goes by the number
//! of a device that had the name is dropped: so it is until we have heard that somebody gave it another one. A packet that no rule of ours is for (it
//! neither comes nor goes by an uplink) passes all chains untouched.

use crate::desired::{Known, scope_devices};
use crate::egress::{bridged, seen_bit};
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
    let mut input = Rules::new(config, Place::Inet);
    let mut forward = Rules::new(config, Place::Inet);
    let mut output = Rules::new(config, Place::Inet);
    let mut postrouting = Rules::new(config, Place::Inet);
    for uplink in uplinks {
        input.of(uplink);
        arriving(&mut input, uplink);
        output.of(uplink);
        leaving(&mut output, config, uplink);
    }
    // Nothing passes through the node from or to an uplink, marked or not.
    for device in &devices {
        forward.device = device;
        forward.add("leak_forward", const { &[drop("forwarded out", [Oif])] });
        forward.add("in_forward", const { &[drop("forwarded in", [Iif])] });
        postrouting.device = device;
        postrouting.add("leak_output", LOOPBACK);
    }
    for link in uplinks.iter().filter_map(|u| u.link) {
        for rules in [&mut input, &mut forward, &mut output] {
            rules.index = link.index;
        }
        input.add("in_refused", const { &[drop("renamed", [IifIndex])] });
        forward.add("leak_forward", const { &[drop("renamed", [OifIndex])] });
        forward.add("in_forward", const { &[drop("renamed", [IifIndex])] });
        output.add("leak_output", const { &[drop("renamed", [OifIndex])] });
    }
    let mut mark = config.mark;
    // Who binds to a bridge's port goes past the bridge.
    for (_, port) in bridged(config, links) {
        for (rules, counter) in [(&mut output, "leak_output"), (&mut forward, "leak_forward")] {
            rules.index = port.index;
            rules.add(counter, const { &[drop("past the bridge", [OifIndex])] });
        }
        // What came in by a bridge's port for the bridge itself does not keep the bit.
        mark.mask |= seen_bit(config);
    }
    let mut chains = Vec::new();
    add_chain(&mut chains, "mark_in", Hook::Prerouting, RAW, &[], set_mark(config, &devices, mark));
    add_chain(&mut chains, "input", Hook::Input, FILTER, &[], input.list);
    add_chain(&mut chains, "forward", Hook::Forward, FILTER, &[], forward.list);
    add_chain(&mut chains, "output", Hook::Output, LATE, &[], output.list);
    add_chain(&mut chains, "postrouting", Hook::Postrouting, LATE, &[], postrouting.list);
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
fn arriving(rules: &mut Rules<'_>, uplink: &Known<'_>) {
    rules.add("in_reply", ANSWERS);
    for service in &uplink.config.inbound {
        rules.add_service("in_inbound", &INBOUND, *service, false);
    }
    rules.add("in_housekeeping", INCOMING);
    rules.add("in_refused", const { &[drop("not asked for", [Iif])] });
}

static ANSWERS: &[Row] = &[
    accept("answer", [Iif, Ct(Reply)]),
    accept("error to ours", [Iif, L4(ICMP), Related]),
    accept("error to ours", [Iif, L4(ICMPV6), Related]),
];

static INBOUND: Row = accept("inbound", [Iif]);

/// The chain `output`.
fn leaving(rules: &mut Rules<'_>, config: &Config, uplink: &Known<'_>) {
    outgoing(rules, uplink, "out_housekeeping");
    // Redirected queries still show the device that they were first routed to. If one really goes there, postrouting sees it.
    for listen in [resolver(config, false), resolver(config, true)].into_iter().flatten() {
        rules.add_server("", &REDIRECTED, listen.ip(), listen.port());
    }
    rules.add("out_housekeeping", ERRORS);
    if config.strict {
        strict::rules(rules, config, uplink);
    } else {
        rules.add("out_dns", DNS);
        rules.add("out_tunnel", const { &[accept("tunnel", [Oif, Marked, Ct(Original)])] });
    }
    for service in &uplink.config.inbound {
        rules.add_service("out_reply", &REPLY, *service, true);
    }
    rules.add("leak_output", const { &[drop("leak", [Oif])] });
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

/// Behind the redirect's new routing: what is still on its way to an uplink has no business to be for the loopback.
static LOOPBACK: &[Row] = &[drop("leak", [Oif, Dst(Loopback4)]), drop("leak", [Oif, Dst(Loopback6)])];

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
                let of_group = [
                    Match::NfProto(version),
                    Match::SkGid(*gid),
                    Match::L4Proto(protocol),
                    Match::DstPort(53),
                ];
                rules.add_with("redirected", &REDIRECT, &of_group);
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
