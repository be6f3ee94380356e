//! The last chain before the cable: `netdev egress` sees what the inet chains do not, frames of AF_PACKET sockets and ARP.
//!
//! It knows no connections, so it asks for the mark alone and leaves the rest to the inet chains before it; under `option strict` for the
//! destination as well, by sets of its own, since a table cannot see another's.

use crate::desired::{Known, manages};
use crate::guard::{chain, rule};
use crate::housekeeping::{ETH_IPV4, ETH_IPV6, Place, outgoing};
use crate::routes::onlink;
use crate::strict;
use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr};
use narrowgate_model::Gather;
use narrowgate_model::net::Link;
use narrowgate_model::nft::{Action, Chain, Family, Hook, Match, Rule, Table};
use narrowgate_model::sort::sort;
use narrowgate_model::{Config, Prefix};

/// The table of the family `netdev`; none while there is no device to hook it to. With `absent` it waits for those that are
/// not there: else a device that comes, or gets its name back, could send before we have seen it.
pub(crate) fn table(config: &Config, uplinks: &[Known<'_>], links: &[Link], absent: bool) -> Option<Table> {
    let present: Vec<&Known<'_>> = uplinks.iter().filter(|u| absent || u.link.is_some()).gather();
    let mut devices: Vec<String> = present.iter().map(|u| u.config.device.clone()).gather();
    sort(&mut devices);
    devices.dedup();
    if devices.is_empty() {
        return None;
    }
    let mark = config.mark;
    let mut rules = Vec::new();
    let marked = Match::Mark { value: mark.value, mask: mark.mask, eq: true };
    for ip in [ETH_IPV4, ETH_IPV6].into_iter().filter(|_| !config.strict) {
        let matches = vec![Match::EtherType(ip), marked.clone()];
        rules.push(rule("marked", matches, Some(strict::MARKED), Action::Accept));
    }
    for uplink in present {
        if config.strict {
            rules.append(&mut strict::frames(config, uplink, &marked));
        }
        rules.extend(arp(uplink, &onlink(uplink)));
        rules.extend(outgoing(Place::Netdev, uplink, "egress_housekeeping"));
    }
    if config.strict {
        rules.extend(strict::other_frames(&marked));
    }
    rules.push(rule("EAPOL", vec![Match::EtherType(ETH_EAPOL)], Some("egress_housekeeping"), Action::Accept));
    rules.push(rule("leak", vec![Match::EtherType(ETH_ARP)], Some("leak_arp"), Action::Drop));
    rules.push(rule("leak", Vec::new(), Some("leak_egress"), Action::Drop));
    let mut counters = COUNTERS.to_vec();
    if config.strict {
        counters.push(strict::FRAME_REFUSED);
    }
    let mut chains = Vec::new();
    let bit = seen_bit(config);
    let set = |label, value| rule(label, Vec::new(), None, Action::SetMark { value, mask: bit });
    let mut bridges = Vec::new();
    let mut ports = Vec::new();
    for (bridge, port) in bridged(config, links) {
        bridges.push(bridge.name.clone());
        ports.push(port.name.clone());
    }
    devices.retain(|name| !bridges.contains(name));
    sort(&mut bridges);
    bridges.dedup();
    let mut add = |name, hook, devices: &[String], rules| {
        if !devices.is_empty() {
            chains.push(Chain { devices: devices.to_vec(), ..chain(name, hook, 0, rules) });
        }
    };
    // In the very chain that drops: Linux takes the chains of a renamed device off one after the other.
    let mut seen = vec![set("seen", bit)];
    seen.extend_from_slice(&rules);
    // A bridge's ports: what comes by the bridge has the bit, and so has what comes in by another port. The bridge's own protocol comes from no socket.
    add("bridge", Hook::Egress, &bridges, seen.clone());
    add(Chain::SEEN, Hook::Egress, &devices, if absent { seen } else { rules });
    add("ports_in", Hook::Ingress, &ports, vec![set("seen", bit)]);
    let unseen = vec![Match::Socket, Match::Mark { value: 0, mask: bit, eq: true }];
    let port = vec![
        rule("EAPOL", vec![Match::EtherType(ETH_EAPOL)], None, Action::Accept),
        rule("leak", unseen, Some("leak_egress"), Action::Drop),
        set("unseen", 0),
    ];
    add("ports", Hook::Egress, &ports, port);
    Some(Table { family: Family::Netdev, counters, sets: strict::sets(config), chains })
}

/// The bit of the mark that tells of a frame, between two hooks of one device or bridge, that it came by the guard: the highest that is not the mark's.
pub(crate) fn seen_bit(config: &Config) -> u32 {
    1 << 31u32.saturating_sub(config.mark.mask.leading_ones())
}

/// The ports of the bridges that are uplinks, but for those that are uplinks themselves: each bridge, and its port.
pub(crate) fn bridged<'a>(config: &Config, links: &'a [Link]) -> Vec<(&'a Link, &'a Link)> {
    let uplink = |link: &Link| config.uplinks.iter().any(|u| u.device == link.name);
    let mut found = Vec::new();
    for port in links {
        let bridge = links.iter().find(|l| Some(l.index) == port.bridge);
        found.extend(bridge.filter(|b| uplink(b) && !uplink(port)).map(|b| (b, port)));
    }
    found
}

/// Answers for what is on-link, and requests for it, probes for a new address (RFC 5227) among them. A request for anything
/// else tells the household where somebody wanted to go, and an answer, which Linux gives for every address of the host,
/// which address it has in the mesh. A foreign manager probes, and has the address, before its facts reach us.
fn arp(uplink: &Known<'_>, onlink: &[Prefix]) -> Vec<Rule> {
    let device = &uplink.config.device;
    let on = || vec![Match::Oif(device.clone()), Match::EtherType(ETH_ARP)];
    let with = |label, more: &[Match]| {
        let mut matches = on();
        matches.extend_from_slice(more);
        rule(label, matches, Some("egress_housekeeping"), Action::Accept)
    };
    let near = || onlink.iter().filter(|p| !p.is_ipv6());
    let mut rules: Vec<Rule> = Vec::new();
    if manages(uplink.config) {
        near().map(|p| with("ARP answer", &[Match::ArpOp(2), Match::ArpSender(*p)])).add_to(&mut rules);
    } else {
        rules.push(with("ARP answer", &[Match::ArpOp(2)]));
        let nobody = Prefix { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 32 };
        rules.push(with("ARP probe", &[Match::ArpOp(1), Match::ArpSender(nobody)]));
    }
    near().map(|p| with("ARP request", &[Match::ArpOp(1), Match::ArpTarget(*p)])).add_to(&mut rules);
    rules
}

const ETH_ARP: u16 = 0x0806;
/// IEEE 802.1X: a wireless uplink lives by it.
const ETH_EAPOL: u16 = 0x888e;

const COUNTERS: [&str; 4] = [strict::MARKED, "egress_housekeeping", "leak_arp", "leak_egress"];
