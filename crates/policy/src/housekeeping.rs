//! What a link needs to live: Neighbor Discovery, router solicitation, group membership, DHCP. Each no wider than it has to
//! be, since none of it needs the mark: with the right type or port alone any program could talk to anybody.
//!
//! The same rules stand in the inet output chain and in the netdev egress chain; only the match on the IP version differs.
//! ICMP errors are not here: the kernel gives them the mark of the packet that they answer (`fwmark_reflect`).

use crate::desired::{Known, manages};
use crate::routes::onlink;
use alloc::{borrow::ToOwned, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use narrowgate_model::Prefix;
use narrowgate_model::nft::{Action, IpVersion, Match, Rule};

/// In which family of nftables a rule is to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Inet,
    Netdev,
}

impl Place {
    /// The match on the IP version. In netdev it has to come before any match on addresses.
    pub(crate) fn version(self, version: IpVersion) -> Match {
        match (self, version) {
            (Place::Inet, version) => Match::NfProto(version),
            (Place::Netdev, IpVersion::V4) => Match::EtherType(ETH_IPV4),
            (Place::Netdev, IpVersion::V6) => Match::EtherType(ETH_IPV6),
        }
    }
}

/// What may leave by `uplink` without the mark.
pub(crate) fn outgoing(place: Place, uplink: &Known<'_>, counter: &'static str) -> Vec<Rule> {
    let mut rules = Vec::new();
    let device = uplink.config.device.as_str();
    let onlink = onlink(uplink);
    let mut add = |label, version, protocol, last: &[Match]| {
        let mut matches =
            vec![Match::Oif(device.to_owned()), place.version(version), Match::L4Proto(protocol)];
        matches.extend_from_slice(last);
        rules.push(Rule { label, matches, counter: Some(counter), action: Action::Accept });
    };
    let near = || onlink.iter().copied().filter(|p| p.is_ipv6());
    for to in [LINK_MULTICAST, LINK_LOCAL] {
        add("solicit routers", IpVersion::V6, ICMPV6, &[Match::IcmpType(133), Match::DstAddr(to)]);
    }
    add("duplicate address", IpVersion::V6, ICMPV6, &[Match::IcmpType(135), Match::SrcAddr(UNSPECIFIED)]);
    for target in [LINK_LOCAL].into_iter().chain(near()) {
        add("solicit neighbour", IpVersion::V6, ICMPV6, &[Match::IcmpType(135), Match::NdTarget(target)]);
    }
    for to in [LINK_MULTICAST, LINK_LOCAL].into_iter().chain(near()) {
        add("answer neighbour", IpVersion::V6, ICMPV6, &[Match::IcmpType(136), Match::DstAddr(to)]);
    }
    // A router asks from whatever address it has on the link, also one that no advertisement calls on-link (RFC 5942).
    if manages(uplink.config) {
        let own = uplink.facts.into_iter().flat_map(|f| &f.addresses).map(|a| Prefix::host(a.prefix.addr));
        for target in own.filter(|p| p.is_ipv6()) {
            add("answer for us", IpVersion::V6, ICMPV6, &[Match::IcmpType(136), Match::NdTarget(target)]);
        }
    } else {
        add("answer for us", IpVersion::V6, ICMPV6, &[Match::IcmpType(136)]);
    }
    for (kind, to) in [(131, MULTICAST_V6), (132, LINK_MULTICAST), (143, LINK_MULTICAST)] {
        add("report groups", IpVersion::V6, ICMPV6, &[Match::IcmpType(kind), Match::DstAddr(to)]);
    }
    add("report groups", IpVersion::V4, IGMP, &[Match::DstAddr(MULTICAST_V4)]);
    for to in [BROADCAST].into_iter().chain(onlink.iter().copied().filter(|p| !p.is_ipv6())) {
        add("DHCP", IpVersion::V4, UDP, &[Match::DstAddr(to), Match::SrcPort(68), Match::DstPort(67)]);
    }
    for to in [DHCP_SERVERS, LINK_LOCAL] {
        add("DHCPv6", IpVersion::V6, UDP, &[Match::SrcPort(546), Match::DstPort(547), Match::DstAddr(to)]);
    }
    rules
}

/// What is taken from the household although nobody asked for it.
pub(crate) fn incoming(device: &str, counter: &'static str) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut add = |label, version, protocol, last: &[Match]| {
        let mut matches =
            vec![Match::Iif(device.to_owned()), Match::NfProto(version), Match::L4Proto(protocol)];
        matches.extend_from_slice(last);
        rules.push(Rule { label, matches, counter: Some(counter), action: Action::Accept });
    };
    for kind in [134, 135, 136, 137] {
        add("neighbours", IpVersion::V6, ICMPV6, &[Match::IcmpType(kind)]);
    }
    for kind in [130, 131, 132, 143] {
        add("groups", IpVersion::V6, ICMPV6, &[Match::IcmpType(kind)]);
    }
    add("groups", IpVersion::V4, IGMP, &[]);
    add("DHCP", IpVersion::V4, UDP, &[Match::SrcPort(67), Match::DstPort(68)]);
    add("DHCPv6", IpVersion::V6, UDP, &[Match::SrcPort(547), Match::DstPort(546)]);
    rules
}

const fn v6(a: u16, g: u16, h: u16, len: u8) -> Prefix {
    Prefix { addr: IpAddr::V6(Ipv6Addr::new(a, 0, 0, 0, 0, 0, g, h)), len }
}

const UNSPECIFIED: Prefix = v6(0, 0, 0, 128);
/// All link-local addresses (RFC 4291, 2.4), not only the /64 that is in use.
const LINK_LOCAL: Prefix = v6(0xfe80, 0, 0, 10);
/// Link-local scope multicast: all nodes, all routers, the solicited nodes.
const LINK_MULTICAST: Prefix = v6(0xff02, 0, 0, 16);
/// MLDv1 reports a group to the group (RFC 2710, 4); all else goes to routers of the link.
const MULTICAST_V6: Prefix = v6(0xff00, 0, 0, 8);
const BROADCAST: Prefix = Prefix { addr: IpAddr::V4(Ipv4Addr::BROADCAST), len: 32 };
const MULTICAST_V4: Prefix = Prefix { addr: IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), len: 4 };
/// All DHCP relay agents and servers (RFC 8415, 7.1).
const DHCP_SERVERS: Prefix = v6(0xff02, 1, 2, 128);

pub(crate) const ICMP: u8 = 1;
const IGMP: u8 = 2;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

pub(crate) const ETH_IPV4: u16 = 0x0800;
pub(crate) const ETH_IPV6: u16 = 0x86dd;
