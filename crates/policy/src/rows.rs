//! The rules of the guard as they stand in its tables: a row says what it asks of a packet, and [`Rules`] makes of it the rules
//! for one uplink.

use crate::desired::Known;
use alloc::{borrow::ToOwned, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::slice;
use narrowgate_model::config::Inbound;
use narrowgate_model::nft::{Action, CT_RELATED, CtDirection, IpVersion, Match, Rule, Set};
use narrowgate_model::{Config, Prefix};

/// In which family of nftables a rule is to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Inet,
    Netdev,
}

/// One rule of a table, or one for each prefix, where it is about several.
pub(crate) struct Row {
    label: &'static str,
    what: [If; MOST],
    end: End,
}

/// What it asks of a packet: the [`Match`]es that follow from it for one uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum If {
    /// Nothing: the rest of a short row.
    Any,
    /// It comes by the uplink.
    Iif,
    /// It goes by the uplink.
    Oif,
    /// It comes by the device of the uplink's number.
    IifIndex,
    /// It goes by the device of the uplink's number.
    OifIndex,
    /// It has our mark.
    Marked,
    /// The IP version. In netdev it has to come before any match on addresses.
    Version(IpVersion),
    /// The IP version, and the transport protocol.
    Of(IpVersion, u8),
    /// The EtherType.
    Ether(u16),
    /// The transport protocol.
    L4(u8),
    /// The transport source port.
    SrcPort(u16),
    /// The transport destination port.
    DstPort(u16),
    /// Type of ICMP, ICMPv6 or IGMP.
    Icmp(u8),
    /// The source.
    Src(Net),
    /// The destination.
    Dst(Net),
    /// Target of a Neighbor Solicitation.
    Target(Net),
    /// The destination is a tunnel's peer; its element of the set gets its time anew.
    Peer(IpVersion),
    /// Direction of the connection.
    Ct(CtDirection),
    /// It is related to a connection.
    Related,
    /// ARP operation.
    ArpOp(u16),
    /// Who sends the ARP packet.
    ArpSender(Net),
    /// Who is asked for.
    ArpTarget(Net),
}

/// The addresses that rows are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    Unspecified4,
    Loopback4,
    Broadcast,
    Multicast4,
    Unspecified6,
    Loopback6,
    /// All link-local addresses (RFC 4291, 2.4), not only the /64 that is in use.
    LinkLocal,
    /// Link-local scope multicast: all nodes, all routers, the solicited nodes.
    LinkMulticast,
    Multicast6,
    /// All DHCP relay agents and servers (RFC 8415, 7.1).
    DhcpServers,
    /// Every IPv4 prefix that is on-link.
    Near4,
    /// Every IPv6 prefix that is on-link.
    Near6,
    /// Every IPv6 address of the uplink.
    Own6,
}

/// The addresses of [`Net`] that are the same everywhere, in its order.
static NETS: [Prefix; 10] = [
    v4([0; 4], 32),
    v4([127, 0, 0, 0], 8),
    v4([255; 4], 32),
    v4([224, 0, 0, 0], 4),
    v6(0, 0, 0, 128),
    v6(0, 0, 1, 128),
    v6(0xfe80, 0, 0, 10),
    v6(0xff02, 0, 0, 16),
    v6(0xff00, 0, 0, 8),
    v6(0xff02, 1, 2, 128),
];

const fn v4(addr: [u8; 4], len: u8) -> Prefix {
    let [a, b, c, d] = addr;
    Prefix { addr: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), len }
}

const fn v6(a: u16, g: u16, h: u16, len: u8) -> Prefix {
    Prefix { addr: IpAddr::V6(Ipv6Addr::new(a, 0, 0, 0, 0, 0, g, h)), len }
}

/// What a row leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Accept,
    Drop,
    Given,
}

/// What is like all of these may pass the chain.
pub(crate) const fn accept<const N: usize>(label: &'static str, what: [If; N]) -> Row {
    row(label, what, End::Accept)
}

/// What is like all of these ends there.
pub(crate) const fn drop<const N: usize>(label: &'static str, what: [If; N]) -> Row {
    row(label, what, End::Drop)
}

/// What is like all of these meets [`Rules::action`].
pub(crate) const fn given<const N: usize>(label: &'static str, what: [If; N]) -> Row {
    row(label, what, End::Given)
}

const fn row<const N: usize>(label: &'static str, what: [If; N], end: End) -> Row {
    let mut all = [If::Any; MOST];
    let mut n = 0;
    while n < N {
        all[n] = what[n];
        n += 1;
    }
    Row { label, what: all, end }
}

/// Rules as they come to be, one behind the other.
pub(crate) struct Rules<'a> {
    config: &'a Config,
    place: Place,
    /// Name of the device that the next ones are about.
    pub device: &'a str,
    /// Its number.
    pub index: u32,
    /// What is on-link there.
    near: &'a [Prefix],
    /// Its own addresses.
    own: &'a [Prefix],
    /// What rows lead to that do not say it.
    pub action: Action,
    pub list: Vec<Rule>,
}

impl<'a> Rules<'a> {
    #[inline(never)]
    pub(crate) fn new(config: &'a Config, place: Place) -> Rules<'a> {
        let action = Action::Continue;
        Rules { config, place, device: "", index: 0, near: &[], own: &[], action, list: Vec::new() }
    }

    /// The next ones are this uplink's.
    pub(crate) fn of(&mut self, uplink: &'a Known<'a>) {
        self.device = &uplink.config.device;
        self.near = &uplink.near;
        self.own = &uplink.own;
    }

    /// The rules of all rows, with this counter; without one if it is empty.
    pub(crate) fn add(&mut self, counter: &'static str, rows: &[Row]) {
        for row in rows {
            self.add_with(counter, row, Vec::new());
        }
    }

    /// The rule of a row that asks for `more` than what is written; the rules, where it asks for no more.
    pub(crate) fn add_with(&mut self, counter: &'static str, row: &Row, mut more: Vec<Match>) {
        let net = row.what.iter().find_map(|what| match what {
            If::Src(net) | If::Dst(net) | If::Target(net) | If::ArpSender(net) | If::ArpTarget(net) => {
                Some(*net)
            }
            _ => None,
        });
        let (nets, ipv6) = match net.unwrap_or(Net::Unspecified4) {
            Net::Near4 => (self.near, false),
            Net::Near6 => (self.near, true),
            Net::Own6 => (self.own, true),
            known => {
                let known = NETS.get(known as usize).unwrap_or(&Prefix::DEFAULT_V6);
                (slice::from_ref(known), known.is_ipv6())
            }
        };
        for net in nets.iter().filter(|net| net.is_ipv6() == ipv6) {
            let mut matches = Vec::new();
            row.what.iter().for_each(|what| self.expand(*what, *net, &mut matches));
            matches.append(&mut more);
            let action = match (row.end, row.what) {
                (_, [.., If::Peer(version), If::Any]) => {
                    Action::AcceptAndRefresh { set: peers(version), version, seconds: Set::TIMEOUT }
                }
                (End::Accept, _) => Action::Accept,
                (End::Drop, _) => Action::Drop,
                (End::Given, _) => self.action,
            };
            let counter = Some(counter).filter(|counter| !counter.is_empty());
            self.list.push(Rule { label: row.label, matches, counter, action });
        }
    }

    fn expand(&self, what: If, net: Prefix, matches: &mut Vec<Match>) {
        let version = |version| match (self.place, version) {
            (Place::Inet, version) => Match::NfProto(version),
            (Place::Netdev, IpVersion::V4) => Match::EtherType(ETH_IPV4),
            (Place::Netdev, IpVersion::V6) => Match::EtherType(ETH_IPV6),
        };
        let one = match what {
            If::Any => return,
            If::Iif => Match::Iif(self.device.to_owned()),
            If::Oif => Match::Oif(self.device.to_owned()),
            If::IifIndex => Match::IifIndex(self.index),
            If::OifIndex => Match::OifIndex(self.index),
            If::Marked => {
                Match::Mark { value: self.config.mark.value, mask: self.config.mark.mask, eq: true }
            }
            If::Version(v) => version(v),
            If::Of(v, protocol) => {
                matches.push(version(v));
                Match::L4Proto(protocol)
            }
            If::Ether(ether_type) => Match::EtherType(ether_type),
            If::L4(protocol) => Match::L4Proto(protocol),
            If::SrcPort(port) => Match::SrcPort(port),
            If::DstPort(port) => Match::DstPort(port),
            If::Icmp(kind) => Match::IcmpType(kind),
            If::Src(_) => Match::SrcAddr(net),
            If::Dst(_) => Match::DstAddr(net),
            If::Target(_) => Match::NdTarget(net),
            If::Peer(version) => Match::DstInSet(peers(version), version),
            If::Ct(direction) => Match::CtDirection(direction),
            If::Related => Match::CtState(CT_RELATED),
            If::ArpOp(op) => Match::ArpOp(op),
            If::ArpSender(_) => Match::ArpSender(net),
            If::ArpTarget(_) => Match::ArpTarget(net),
        };
        matches.push(one);
    }

    /// What goes to this address and port, by UDP and by TCP.
    pub(crate) fn add_server(&mut self, counter: &'static str, row: &Row, addr: IpAddr, port: u16) {
        for protocol in [UDP, TCP] {
            let to = vec![Match::DstAddr(Prefix::host(addr)), Match::L4Proto(protocol), Match::DstPort(port)];
            self.add_with(counter, row, to);
        }
    }

    /// What asks for a service, or what a service answers.
    pub(crate) fn add_service(&mut self, counter: &'static str, row: &Row, service: Inbound, answers: bool) {
        let (protocol, port) = match service {
            Inbound::Ping => {
                for (protocol, asks, answer) in [(ICMP, 8, 0), (ICMPV6, 128, 129)] {
                    let kind = if answers { answer } else { asks };
                    self.add_with(counter, row, vec![Match::L4Proto(protocol), Match::IcmpType(kind)]);
                }
                return;
            }
            Inbound::Tcp(port) => (TCP, port),
            Inbound::Udp(port) => (UDP, port),
        };
        let port = if answers { Match::SrcPort(port) } else { Match::DstPort(port) };
        self.add_with(counter, row, vec![Match::L4Proto(protocol), port]);
    }
}

fn peers(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => Set::PEERS4,
        IpVersion::V6 => Set::PEERS6,
    }
}

/// What a row asks for at most.
const MOST: usize = 5;

pub(crate) const ICMP: u8 = 1;
pub(crate) const IGMP: u8 = 2;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

pub(crate) const ETH_IPV4: u16 = 0x0800;
pub(crate) const ETH_IPV6: u16 = 0x86dd;
