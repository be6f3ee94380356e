//! What a link needs to live: Neighbor Discovery, router solicitation, group membership, DHCP. Each no wider than it has to
//! be, since none of it needs the mark: with the right type or port alone any program could talk to anybody.
//!
//! The same rules stand in the inet output chain and in the netdev egress chain; only the match on the IP version differs.
//! ICMP errors are not here: the kernel gives them the mark of the packet that they answer (`fwmark_reflect`).

use crate::desired::{Known, manages};
use crate::rows::If::*;
use crate::rows::Net::*;
use crate::rows::{ICMPV6, IGMP, Row, Rules, UDP, accept};
use narrowgate_model::nft::IpVersion::{V4, V6};

/// What may leave by `uplink` without the mark.
pub(crate) fn outgoing(rules: &mut Rules<'_>, uplink: &Known<'_>, counter: &'static str) {
    rules.add(counter, OUTGOING);
    rules.add(counter, if manages(uplink.config) { OWN_ADDRESSES } else { ANY_ADDRESS });
    rules.add(counter, OUTGOING_ELSE);
}

static OUTGOING: &[Row] = &[
    accept("solicit routers", [Oif, Of(V6, ICMPV6), Icmp(133), Dst(LinkMulticast)]),
    accept("solicit routers", [Oif, Of(V6, ICMPV6), Icmp(133), Dst(LinkLocal)]),
    accept("duplicate address", [Oif, Of(V6, ICMPV6), Icmp(135), Src(Unspecified6)]),
    accept("solicit neighbour", [Oif, Of(V6, ICMPV6), Icmp(135), Target(LinkLocal)]),
    accept("solicit neighbour", [Oif, Of(V6, ICMPV6), Icmp(135), Target(Near6)]),
    accept("answer neighbour", [Oif, Of(V6, ICMPV6), Icmp(136), Dst(LinkMulticast)]),
    accept("answer neighbour", [Oif, Of(V6, ICMPV6), Icmp(136), Dst(LinkLocal)]),
    accept("answer neighbour", [Oif, Of(V6, ICMPV6), Icmp(136), Dst(Near6)]),
];

/// A router asks from whatever address it has on the link, also one that no advertisement calls on-link (RFC 5942).
static OWN_ADDRESSES: &[Row] = &[accept("answer for us", [Oif, Of(V6, ICMPV6), Icmp(136), Target(Own6)])];

/// The same where a foreign manager sets the addresses.
static ANY_ADDRESS: &[Row] = &[accept("answer for us", [Oif, Of(V6, ICMPV6), Icmp(136)])];

static OUTGOING_ELSE: &[Row] = &[
    // MLDv1 reports a group to the group (RFC 2710, 4); all else goes to routers of the link.
    accept("report groups", [Oif, Of(V6, ICMPV6), Icmp(131), Dst(Multicast6)]),
    accept("report groups", [Oif, Of(V6, ICMPV6), Icmp(132), Dst(LinkMulticast)]),
    accept("report groups", [Oif, Of(V6, ICMPV6), Icmp(143), Dst(LinkMulticast)]),
    accept("report groups", [Oif, Of(V4, IGMP), Dst(Multicast4)]),
    accept("DHCP", [Oif, Of(V4, UDP), Dst(Broadcast), SrcPort(68), DstPort(67)]),
    accept("DHCP", [Oif, Of(V4, UDP), Dst(Near4), SrcPort(68), DstPort(67)]),
    accept("DHCPv6", [Oif, Of(V6, UDP), SrcPort(546), DstPort(547), Dst(DhcpServers)]),
    accept("DHCPv6", [Oif, Of(V6, UDP), SrcPort(546), DstPort(547), Dst(LinkLocal)]),
];

/// What is taken from the household although nobody asked for it.
pub(crate) static INCOMING: &[Row] = &[
    accept("neighbours", [Iif, Of(V6, ICMPV6), Icmp(134)]),
    accept("neighbours", [Iif, Of(V6, ICMPV6), Icmp(135)]),
    accept("neighbours", [Iif, Of(V6, ICMPV6), Icmp(136)]),
    accept("neighbours", [Iif, Of(V6, ICMPV6), Icmp(137)]),
    accept("groups", [Iif, Of(V6, ICMPV6), Icmp(130)]),
    accept("groups", [Iif, Of(V6, ICMPV6), Icmp(131)]),
    accept("groups", [Iif, Of(V6, ICMPV6), Icmp(132)]),
    accept("groups", [Iif, Of(V6, ICMPV6), Icmp(143)]),
    accept("groups", [Iif, Of(V4, IGMP)]),
    accept("DHCP", [Iif, Of(V4, UDP), SrcPort(67), DstPort(68)]),
    accept("DHCPv6", [Iif, Of(V6, UDP), SrcPort(547), DstPort(546)]),
];
