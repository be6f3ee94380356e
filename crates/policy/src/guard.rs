//! The guard, the marking of what arrives, and the redirect: the tables `inet` and `arp`. Why each rule is there is told in
//! docs/policy.md, in the same order.
//!
//! Devices are matched by name, so that the guard stands before there is a device. Behind that, all that goes by the number
//! of a device that had the name is dropped: so it is until we have heard that somebody gave it another one. A packet that no rule of ours is for (it
//! neither comes nor goes by an uplink) passes all chains untouched.

use crate::desired::Known;
use crate::egress::{bridged, seen_bit};
use crate::housekeeping::{ICMP, ICMPV6, Place, TCP, UDP, incoming, outgoing};
use crate::strict;
use alloc::{borrow::ToOwned, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use narrowgate_model::Gather;
use narrowgate_model::config::Inbound;
use narrowgate_model::net::Link;
use narrowgate_model::nft::{
    Action, CT_RELATED, Chain, ChainKind, CtDirection, Family, Hook, IpVersion, Match, Policy, Rule, Table,
};
use narrowgate_model::sort::sort;
use narrowgate_model::{Config, Mark, Prefix};

/// The tables of the families `inet` and `arp`.
pub(crate) fn tables(config: &Config, groups: &[u32], uplinks: &[Known<'_>], links: &[Link]) -> Vec<Table> {
    let devices: Vec<&str> = devices(config);
    let mut input_rules = each(&config.uplinks, &|u| input(&u.device, &u.inbound));
    let mut forward_rules = each(&devices, &|d| forward(d));
    let mut output_rules = each(uplinks, &|u| output(config, u));
    for index in uplinks.iter().filter_map(|u| Some(u.link?.index)) {
        let (comes, goes) = (|| vec![Match::IifIndex(index)], || vec![Match::OifIndex(index)]);
        input_rules.push(drop("renamed", "in_refused", comes()));
        forward_rules.push(drop("renamed", "leak_forward", goes()));
        forward_rules.push(drop("renamed", "in_forward", comes()));
        output_rules.push(drop("renamed", "leak_output", goes()));
    }
    let ports = bridged(config, links);
    // What came in by a bridge's port for the bridge itself does not keep the bit.
    let mut arriving = config.mark;
    if !ports.is_empty() {
        arriving.mask |= seen_bit(config);
    }
    // Who binds to a bridge's port goes past the bridge.
    for (_, port) in ports {
        output_rules.push(drop("past the bridge", "leak_output", vec![Match::OifIndex(port.index)]));
        forward_rules.push(drop("past the bridge", "leak_forward", vec![Match::OifIndex(port.index)]));
    }
    let mut chains = vec![
        chain("mark_in", Hook::Prerouting, RAW, set_mark(&devices, arriving)),
        chain("input", Hook::Input, FILTER, input_rules),
        chain("forward", Hook::Forward, FILTER, forward_rules),
        chain("output", Hook::Output, LATE, output_rules),
        chain("postrouting", Hook::Postrouting, LATE, each(&devices, &|d| loopback(d))),
    ];
    let redirect = redirect(config, groups);
    if !redirect.is_empty() {
        chains.push(Chain { kind: ChainKind::Nat, ..chain("dns_redirect", Hook::Output, DSTNAT, redirect) });
    }
    let mut counters = COUNTERS.to_vec();
    if config.strict {
        counters.push(strict::REFUSED);
    }
    let arp = chain("mark_in", Hook::Input, FILTER, set_mark(&devices, arriving));
    vec![
        Table { family: Family::Inet, counters, sets: strict::sets(config), chains },
        Table { family: Family::Arp, counters: Vec::new(), sets: Vec::new(), chains: vec![arp] },
    ]
}

/// The rules of all uplinks, one after the other.
fn each<T>(items: &[T], rules_of: &dyn Fn(&T) -> Vec<Rule>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for item in items {
        rules.append(&mut rules_of(item));
    }
    rules
}

pub(crate) fn chain(name: &'static str, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        kind: ChainKind::Filter,
        hook,
        priority,
        policy: Policy::Accept,
        devices: Vec::new(),
        rules,
    }
}

pub(crate) fn rule(
    label: &'static str,
    matches: Vec<Match>,
    counter: Option<&'static str>,
    action: Action,
) -> Rule {
    Rule { label, matches, counter, action }
}

fn accept(label: &'static str, counter: &'static str, matches: Vec<Match>) -> Rule {
    rule(label, matches, Some(counter), Action::Accept)
}

fn drop(label: &'static str, counter: &'static str, matches: Vec<Match>) -> Rule {
    rule(label, matches, Some(counter), Action::Drop)
}

/// Before connection tracking and routing, so that the look-up for the way back (`rp_filter`, ARP), the connections that are
/// accepted and the answers of the kernel all see the mark.
fn set_mark(devices: &[&str], mark: Mark) -> Vec<Rule> {
    let action = Action::SetMark { value: mark.value, mask: mark.mask };
    devices
        .iter()
        .map(|d| rule("came by the uplink", vec![Match::Iif((*d).to_owned())], None, action))
        .gather()
}

fn input(device: &str, inbound: &[Inbound]) -> Vec<Rule> {
    let iif = || Match::Iif(device.to_owned());
    let mut rules = vec![accept("answer", "in_reply", vec![iif(), Match::CtDirection(CtDirection::Reply)])];
    for protocol in [ICMP, ICMPV6] {
        let matches = vec![iif(), Match::L4Proto(protocol), Match::CtState(CT_RELATED)];
        rules.push(accept("error to ours", "in_reply", matches));
    }
    for service in inbound {
        for [protocol, what] in request(*service) {
            rules.push(accept("inbound", "in_inbound", vec![iif(), protocol, what]));
        }
    }
    rules.extend(incoming(device, "in_housekeeping"));
    rules.push(drop("not asked for", "in_refused", vec![iif()]));
    rules
}

/// Nothing passes through the node from or to an uplink, marked or not.
fn forward(device: &str) -> Vec<Rule> {
    let device = device.to_owned();
    vec![
        drop("forwarded out", "leak_forward", vec![Match::Oif(device.clone())]),
        drop("forwarded in", "in_forward", vec![Match::Iif(device)]),
    ]
}

fn output(config: &Config, uplink: &Known<'_>) -> Vec<Rule> {
    let device = uplink.config.device.as_str();
    let mut rules = outgoing(Place::Inet, uplink, "out_housekeeping");
    let oif = || Match::Oif(device.to_owned());
    let with_mark = || Match::Mark { value: config.mark.value, mask: config.mark.mask, eq: true };
    // Redirected queries still show the device that they were first routed to. If one really goes there, postrouting sees it.
    for listen in [resolver(config, false), resolver(config, true)].into_iter().flatten() {
        for protocol in [UDP, TCP] {
            let to = [
                Match::DstAddr(Prefix::host(listen.ip())),
                Match::L4Proto(protocol),
                Match::DstPort(listen.port()),
            ];
            rules.push(rule("redirected", [oif()].into_iter().chain(to).gather(), None, Action::Accept));
        }
    }
    for protocol in [ICMP, ICMPV6] {
        let matches = vec![oif(), with_mark(), Match::L4Proto(protocol), Match::CtState(CT_RELATED)];
        rules.push(accept("error to theirs", "out_housekeeping", matches));
    }
    if config.strict {
        rules.append(&mut strict::rules(config, uplink, &|| vec![oif(), with_mark()]));
    } else {
        let original = || Match::CtDirection(CtDirection::Original);
        for protocol in [UDP, TCP] {
            let dns = vec![oif(), with_mark(), original(), Match::L4Proto(protocol), Match::DstPort(53)];
            rules.push(accept("tunnel's DNS", "out_dns", dns));
        }
        rules.push(accept("tunnel", "out_tunnel", vec![oif(), with_mark(), original()]));
    }
    for service in &uplink.config.inbound {
        for [protocol, what] in response(*service) {
            let matches = vec![oif(), with_mark(), Match::CtDirection(CtDirection::Reply), protocol, what];
            rules.push(accept("reply", "out_reply", matches));
        }
    }
    rules.push(drop("leak", "leak_output", vec![oif()]));
    rules
}

/// Behind the redirect's new routing: what is still on its way to an uplink has no business to be for the loopback.
fn loopback(device: &str) -> Vec<Rule> {
    let leak =
        |to: Prefix| drop("leak", "leak_output", vec![Match::Oif(device.to_owned()), Match::DstAddr(to)]);
    vec![
        leak(Prefix { addr: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), len: 8 }),
        leak(Prefix { addr: IpAddr::V6(Ipv6Addr::LOCALHOST), len: 128 }),
    ]
}

fn redirect(config: &Config, groups: &[u32]) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut done: Vec<u32> = Vec::new();
    for gid in groups {
        if done.contains(gid) {
            continue;
        }
        done.push(*gid);
        for (version, ipv6) in [(IpVersion::V4, false), (IpVersion::V6, true)] {
            let Some(to) = resolver(config, ipv6) else { continue };
            for protocol in [UDP, TCP] {
                let matches = vec![
                    Match::NfProto(version),
                    Match::SkGid(*gid),
                    Match::L4Proto(protocol),
                    Match::DstPort(53),
                ];
                rules.push(rule("group's DNS", matches, Some("redirected"), Action::Dnat(to)));
            }
        }
    }
    rules
}

/// Where the first WAN resolver listens in a family.
fn resolver(config: &Config, ipv6: bool) -> Option<SocketAddr> {
    config.uplink_resolvers().flat_map(|r| &r.listen).find(|l| l.is_ipv6() == ipv6).copied()
}

/// What asks for a service: the protocol, then a port or a type.
fn request(service: Inbound) -> Vec<[Match; 2]> {
    match service {
        Inbound::Ping => echo(8, 128),
        Inbound::Tcp(port) => vec![[Match::L4Proto(TCP), Match::DstPort(port)]],
        Inbound::Udp(port) => vec![[Match::L4Proto(UDP), Match::DstPort(port)]],
    }
}

/// What a service answers.
pub(crate) fn response(service: Inbound) -> Vec<[Match; 2]> {
    match service {
        Inbound::Ping => echo(0, 129),
        Inbound::Tcp(port) => vec![[Match::L4Proto(TCP), Match::SrcPort(port)]],
        Inbound::Udp(port) => vec![[Match::L4Proto(UDP), Match::SrcPort(port)]],
    }
}

fn echo(v4: u8, v6: u8) -> Vec<[Match; 2]> {
    vec![[Match::L4Proto(ICMP), Match::IcmpType(v4)], [Match::L4Proto(ICMPV6), Match::IcmpType(v6)]]
}

fn devices(config: &Config) -> Vec<&str> {
    let mut devices: Vec<&str> = config.uplinks.iter().map(|u| u.device.as_str()).gather();
    sort(&mut devices);
    devices.dedup();
    devices
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
