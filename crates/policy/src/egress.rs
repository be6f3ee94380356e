//! The last chain before the cable: `netdev egress` sees what the inet chains do not, frames of AF_PACKET sockets and ARP.
//!
//! It knows no connections, so it asks for the mark alone and leaves the rest to the inet chains before it; under `option strict` for the
//! destination as well, by sets of its own, since a table cannot see another's.

use crate::desired::{Known, manages, note};
use crate::guard::add_chain;
use crate::housekeeping::outgoing;
use crate::rows::If::*;
use crate::rows::Net::{Near4, Unspecified4};
use crate::rows::{ETH_IPV4, ETH_IPV6, Place, Row, Rules, accept, drop, given};
use crate::strict;
use alloc::vec::Vec;
use narrowgate_model::Config;
use narrowgate_model::net::Link;
use narrowgate_model::nft::{Action, Chain, Family, Hook, Match, Rule, Table};

/// The table of the family `netdev`; none while there is no device to hook it to. With `absent` it waits for those that are
/// not there: else a device that comes, or gets its name back, could send before we have seen it.
#[inline(never)]
pub(crate) fn table(config: &Config, uplinks: &[Known<'_>], links: &[Link], absent: bool) -> Option<Table> {
    let present = || uplinks.iter().filter(|u| absent || u.link.is_some());
    present().next()?;
    let bit = seen_bit(config);
    let mut counters = COUNTERS.to_vec();
    if config.strict {
        counters.push(strict::FRAME_REFUSED);
    }
    let (mut devices, mut bridges, mut ports) = (Vec::new(), Vec::new(), Vec::new());
    for (bridge, port) in bridged(config, links) {
        note(&mut bridges, &bridge.name);
        ports.push(port.name.clone());
    }
    for device in present().map(|u| &u.config.device).filter(|name| !bridges.contains(name)) {
        note(&mut devices, device);
    }
    let mut chains = Vec::new();
    // A bridge's ports: what comes by the bridge has the bit, and so has what comes in by another port. The bridge's own protocol comes from no socket.
    if !bridges.is_empty() {
        let rules = frames(config, uplinks, absent, true);
        add_chain(&mut chains, "bridge", Hook::Egress, 0, &bridges, rules);
    }
    if !devices.is_empty() {
        let rules = frames(config, uplinks, absent, absent);
        add_chain(&mut chains, Chain::SEEN, Hook::Egress, 0, &devices, rules);
    }
    if !ports.is_empty() {
        let mut rules = Rules::new(config, Place::Netdev);
        rules.action = Action::SetMark { value: bit, mask: bit };
        rules.add("", SEEN);
        add_chain(&mut chains, "ports_in", Hook::Ingress, 0, &ports, rules.list);
        let mut rules = Rules::new(config, Place::Netdev);
        rules.add("", EAPOL);
        let unseen = vec![Match::Socket, Match::Mark { value: 0, mask: bit, eq: true }];
        rules.add_with("leak_egress", const { &drop("leak", []) }, unseen);
        rules.action = Action::SetMark { value: 0, mask: bit };
        rules.add("", const { &[given("unseen", [])] });
        add_chain(&mut chains, "ports", Hook::Egress, 0, &ports, rules.list);
    }
    Some(Table { family: Family::Netdev, counters, sets: strict::sets(config), chains })
}

/// What may pass by the uplinks that are there, `absent` ones too. With `marks` it gets the bit, in the very chain that drops: Linux
/// takes the chains of a renamed device off one after the other.
#[inline(never)]
fn frames(config: &Config, uplinks: &[Known<'_>], absent: bool, marks: bool) -> Vec<Rule> {
    let mut rules = Rules::new(config, Place::Netdev);
    if marks {
        let bit = seen_bit(config);
        rules.action = Action::SetMark { value: bit, mask: bit };
        rules.add("", SEEN);
    }
    if !config.strict {
        rules.add(strict::MARKED, MARKED);
    }
    for uplink in uplinks.iter().filter(|u| absent || u.link.is_some()) {
        rules.of(uplink);
        if config.strict {
            strict::frames(&mut rules, config, uplink);
        }
        rules.add(HOUSEKEEPING, if manages(uplink.config) { ARP_OWN } else { ARP_ANY });
        rules.add(HOUSEKEEPING, ARP_REQUESTS);
        outgoing(&mut rules, uplink, HOUSEKEEPING);
    }
    if config.strict {
        rules.add(strict::FRAME_REFUSED, strict::OTHER_FRAMES);
    }
    rules.add(HOUSEKEEPING, EAPOL);
    rules.add("leak_arp", const { &[drop("leak", [Ether(ETH_ARP)])] });
    rules.add("leak_egress", const { &[drop("leak", [])] });
    rules.list
}

static SEEN: &[Row] = &[given("seen", [])];

static MARKED: &[Row] =
    &[accept("marked", [Ether(ETH_IPV4), Marked]), accept("marked", [Ether(ETH_IPV6), Marked])];

static EAPOL: &[Row] = &[accept("EAPOL", [Ether(ETH_EAPOL)])];

/// Answers for what is on-link, and requests for it, probes for a new address (RFC 5227) among them. A request for anything
/// else tells the household where somebody wanted to go, and an answer, which Linux gives for every address of the host,
/// which address it has in the mesh.
static ARP_OWN: &[Row] = &[accept("ARP answer", [Oif, Ether(ETH_ARP), ArpOp(2), ArpSender(Near4)])];

/// A foreign manager probes, and has the address, before its facts reach us.
static ARP_ANY: &[Row] = &[
    accept("ARP answer", [Oif, Ether(ETH_ARP), ArpOp(2)]),
    accept("ARP probe", [Oif, Ether(ETH_ARP), ArpOp(1), ArpSender(Unspecified4)]),
];

/// The bit of the mark that tells of a frame, between two hooks of one device or bridge, that it came by the guard: the highest that is not the mark's.
pub(crate) fn seen_bit(config: &Config) -> u32 {
    1 << 31u32.saturating_sub(config.mark.mask.leading_ones())
}

/// A bridge, and its port.
pub(crate) type Port<'a> = (&'a Link, &'a Link);

/// The ports of the bridges that are uplinks, but for those that are uplinks themselves: each bridge, and its port.
pub(crate) fn bridged<'a>(config: &Config, links: &'a [Link]) -> Vec<Port<'a>> {
    let uplink = |link: &Link| config.uplinks.iter().any(|u| u.device == link.name);
    let mut found = Vec::new();
    for port in links {
        let bridge = links.iter().find(|l| Some(l.index) == port.bridge);
        found.extend(bridge.filter(|b| uplink(b) && !uplink(port)).map(|b| (b, port)));
    }
    found
}

static ARP_REQUESTS: &[Row] = &[accept("ARP request", [Oif, Ether(ETH_ARP), ArpOp(1), ArpTarget(Near4)])];

const ETH_ARP: u16 = 0x0806;
/// IEEE 802.1X: a wireless uplink lives by it.
const ETH_EAPOL: u16 = 0x888e;

const COUNTERS: [&str; 4] = [strict::MARKED, HOUSEKEEPING, "leak_arp", "leak_egress"];
const HOUSEKEEPING: &str = "egress_housekeeping";
