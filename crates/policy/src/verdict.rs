//! A model of what our chains do with a packet: which rule lets it pass or drops it.
//!
//! Chains of one hook are gone through by priority. `accept` ends its chain only, `drop` ends everything.

use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use narrowgate_model::Gather;
use narrowgate_model::nft::{
    Action, Chain, CtDirection, Family, Hook, IpVersion, Match, Policy, Rule, Ruleset,
};
use narrowgate_model::sort::sort_by_key;

/// A packet or frame, as far as our rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// EtherType.
    pub ether_type: u16,
    /// Where it came in.
    pub iif: Option<String>,
    /// Where it goes out.
    pub oif: Option<String>,
    /// That device's number, or the one's that it came by.
    pub index: Option<u32>,
    /// Its mark.
    pub mark: u32,
    /// Source address, of IP packets.
    pub src: Option<IpAddr>,
    /// Destination address, of IP packets.
    pub dst: Option<IpAddr>,
    /// Transport protocol, of IP packets.
    pub l4proto: u8,
    /// Transport source port, of TCP and UDP.
    pub sport: u16,
    /// Transport destination port, of TCP and UDP.
    pub dport: u16,
    /// Type, of ICMP, ICMPv6 and IGMP.
    pub icmp_type: u8,
    /// Target of a Neighbor Solicitation.
    pub nd_target: Option<Ipv6Addr>,
    /// Its destination is in the guard's sets of peers (`option strict`).
    pub to_peer: bool,
    /// Connection tracking's direction and state bit; `None` if it does not know the packet.
    pub ct: Option<(CtDirection, u32)>,
    /// It comes from a socket of this host.
    pub socket: bool,
    /// Group that the socket was made with.
    pub gid: Option<u32>,
    /// ARP operation, sender and target.
    pub arp: Option<(u16, Ipv4Addr, Ipv4Addr)>,
}

impl Packet {
    /// An IP packet that leaves by `oif`, new to connection tracking, of protocol 0.
    pub fn out(oif: &str, src: IpAddr, dst: IpAddr) -> Packet {
        Packet {
            ether_type: if dst.is_ipv6() { IPV6 } else { IPV4 },
            iif: None,
            oif: Some(oif.to_owned()),
            index: None,
            mark: 0,
            src: Some(src),
            dst: Some(dst),
            l4proto: 0,
            sport: 0,
            dport: 0,
            icmp_type: 0,
            nd_target: None,
            to_peer: false,
            ct: Some((CtDirection::Original, narrowgate_model::nft::CT_NEW)),
            socket: false,
            gid: None,
            arp: None,
        }
    }
}

/// Where a packet that leaves comes from; it decides which hooks see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A socket of this host or its kernel.
    Local,
    /// Another host.
    Forwarded,
    /// An AF_PACKET socket, or ARP: no IP hook sees it.
    Frame,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage<'a> {
    /// Whether it passes.
    pub passes: bool,
    /// The last rule that said anything final; `None` if all chains let it through by their policy.
    pub rule: Option<&'a Rule>,
    /// Its mark behind the chains.
    pub mark: u32,
    /// Where it was redirected to.
    pub dnat: Option<SocketAddr>,
}

/// The way of a leaving packet through all hooks of ours.
pub fn way_out<'a>(ruleset: &'a Ruleset, packet: &Packet, source: Source) -> Passage<'a> {
    let hooks: &[(Family, Hook)] = match source {
        Source::Local => {
            &[(Family::Inet, Hook::Output), (Family::Inet, Hook::Postrouting), (Family::Netdev, Hook::Egress)]
        }
        Source::Forwarded => &[
            (Family::Inet, Hook::Forward),
            (Family::Inet, Hook::Postrouting),
            (Family::Netdev, Hook::Egress),
        ],
        Source::Frame => &[(Family::Netdev, Hook::Egress)],
    };
    walk(ruleset, hooks, packet)
}

/// The way of a packet to this host through all hooks of ours.
pub fn way_in<'a>(ruleset: &'a Ruleset, packet: &Packet) -> Passage<'a> {
    let hooks: &[(Family, Hook)] = if packet.arp.is_some() {
        &[(Family::Arp, Hook::Input)]
    } else {
        &[(Family::Inet, Hook::Prerouting), (Family::Inet, Hook::Input)]
    };
    walk(ruleset, hooks, packet)
}

/// The chains of these hooks, one hook after the other.
pub fn walk<'a>(ruleset: &'a Ruleset, hooks: &[(Family, Hook)], packet: &Packet) -> Passage<'a> {
    let mut packet = packet.clone();
    let mut passage = Passage { passes: true, rule: None, mark: packet.mark, dnat: None };
    for (family, hook) in hooks {
        for chain in chains(ruleset, *family, *hook, &packet) {
            let mut verdict = chain.policy;
            for rule in &chain.rules {
                if !rule.matches.iter().all(|m| matches(m, &packet)) {
                    continue;
                }
                match rule.action {
                    Action::Continue => continue,
                    Action::SetMark { value, mask } => {
                        packet.mark = packet.mark & !mask | value;
                        passage.mark = packet.mark;
                        continue;
                    }
                    Action::Dnat(to) => {
                        passage.dnat = Some(to);
                        verdict = Policy::Accept;
                    }
                    Action::Accept | Action::AcceptAndRefresh { .. } => verdict = Policy::Accept,
                    Action::Drop => verdict = Policy::Drop,
                }
                passage.rule = Some(rule);
                break;
            }
            if verdict == Policy::Drop {
                passage.passes = false;
                return passage;
            }
        }
    }
    passage
}

fn chains<'a>(ruleset: &'a Ruleset, family: Family, hook: Hook, packet: &Packet) -> Vec<&'a Chain> {
    let hooked = |c: &&Chain| {
        c.hook == hook
            && (family != Family::Netdev || packet.oif.as_ref().is_some_and(|o| c.devices.contains(o)))
    };
    let tables = ruleset.tables.iter().filter(|t| t.family == family);
    let mut chains: Vec<&Chain> = tables.flat_map(|t| &t.chains).filter(hooked).gather();
    sort_by_key(&mut chains, |c| c.priority);
    chains
}

/// Whether one match of a rule holds.
pub fn matches(m: &Match, packet: &Packet) -> bool {
    let is_ip = matches!(packet.ether_type, IPV4 | IPV6);
    match m {
        Match::Oif(name) => packet.oif.as_ref() == Some(name),
        Match::Iif(name) => packet.iif.as_ref() == Some(name),
        Match::OifIndex(index) => packet.oif.is_some() && packet.index == Some(*index),
        Match::IifIndex(index) => packet.iif.is_some() && packet.index == Some(*index),
        Match::Mark { value, mask, eq } => (packet.mark & mask == *value) == *eq,
        Match::NfProto(IpVersion::V4) => packet.ether_type == IPV4,
        Match::NfProto(IpVersion::V6) => packet.ether_type == IPV6,
        Match::EtherType(ether_type) => packet.ether_type == *ether_type,
        Match::L4Proto(protocol) => is_ip && packet.l4proto == *protocol,
        Match::Socket => packet.socket,
        Match::SkGid(gid) => packet.gid == Some(*gid),
        Match::SrcPort(port) => is_ip && packet.sport == *port,
        Match::DstPort(port) => is_ip && packet.dport == *port,
        Match::IcmpType(kind) => is_ip && packet.icmp_type == *kind,
        Match::SrcAddr(prefix) => packet.src.is_some_and(|a| prefix.contains(a)),
        Match::DstAddr(prefix) => packet.dst.is_some_and(|a| prefix.contains(a)),
        Match::DstInSet(_, version) => {
            packet.to_peer && packet.ether_type == if *version == IpVersion::V6 { IPV6 } else { IPV4 }
        }
        Match::NdTarget(prefix) => packet.nd_target.is_some_and(|a| prefix.contains(a.into())),
        Match::CtDirection(direction) => packet.ct.is_some_and(|(d, _)| d == *direction),
        Match::CtState(bits) => packet.ct.is_some_and(|(_, state)| state & bits != 0),
        Match::ArpOp(op) => packet.arp.is_some_and(|(o, _, _)| o == *op),
        Match::ArpSender(prefix) => packet.arp.is_some_and(|(_, sender, _)| prefix.contains(sender.into())),
        Match::ArpTarget(prefix) => packet.arp.is_some_and(|(_, _, target)| prefix.contains(target.into())),
    }
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
