//! The sorter: what is this frame of the node's on the WAN cable? A pure function of the frame and of what the
//! household and the tunnel are at that moment.
//!
//! What is not known to be allowed is a leak. So a new kind of packet is found, and not overlooked.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::{Content, Frame, Packet, Transport, question};
use crate::layout::Household;

/// What the sorter has to know.
#[derive(Debug, Clone)]
pub struct Context {
    /// The household's networks; two while it renumbers.
    pub households: Vec<Household>,
    /// The DNS servers that the household handed out, or that the node was configured with.
    pub dns: Vec<IpAddr>,
    /// The VPN gateway's addresses and its UDP ports: fastd's and WireGuard's.
    pub gate: (Vec<IpAddr>, Vec<u16>),
    /// The names that the tunnel has reason to ask for.
    pub tunnel_names: Vec<String>,
    /// Other names that a test asks the WAN resolver for, on purpose.
    pub other_names: Vec<String>,
    /// TCP ports that the household may connect to.
    pub inbound: Vec<u16>,
}

/// What a frame is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// UDP from the node to the gateway's VPN daemons.
    Tunnel,
    /// DNS to a server of the household's, for a name of the tunnel's (or the bare TCP segments of such a query).
    TunnelDns,
    /// DNS to a server of the household's, for a name that the test asked for on purpose.
    OtherDns,
    /// What a link needs to live: which protocol of that sort.
    Housekeeping(&'static str),
    /// The answer to something that the household may ask.
    Reply(&'static str),
    /// Everything else: what it is.
    Leak(String),
}

impl Kind {
    /// Whether it is a leak.
    pub fn is_leak(&self) -> bool {
        matches!(self, Self::Leak(_))
    }

    /// The name of the sort, for tables.
    pub fn label(&self) -> &str {
        match self {
            Self::Tunnel => "tunnel",
            Self::TunnelDns => "tunnel's DNS",
            Self::OtherDns => "other DNS, asked for",
            Self::Housekeeping(what) | Self::Reply(what) => what,
            Self::Leak(_) => "LEAK",
        }
    }
}

/// Sorts one frame that the node sent.
pub fn sort(frame: &Frame, context: &Context) -> Kind {
    let allowed = match &frame.content {
        Content::Arp { request, sender, target } => context.arp(*request, *sender, *target),
        Content::Ip(packet) => context.packet(packet),
        Content::Other(_) => None,
    };
    allowed.unwrap_or_else(|| Kind::Leak(describe(frame)))
}

impl Context {
    fn on_link(&self, addr: IpAddr) -> bool {
        self.households.iter().any(|household| household.on_link(addr))
    }

    /// Requests for neighbours, probes and announcements (RFC 5227); answers only about addresses of the link.
    fn arp(&self, request: bool, sender: Ipv4Addr, target: Ipv4Addr) -> Option<Kind> {
        let sender_fits = self.on_link(sender.into()) || (request && sender.is_unspecified());
        (sender_fits && self.on_link(target.into())).then_some(Kind::Housekeeping("ARP"))
    }

    fn packet(&self, packet: &Packet) -> Option<Kind> {
        if probe_tag(packet).is_some() {
            return None;
        }
        match packet.transport {
            Transport::Udp { source, destination } => self.udp(packet, source, destination),
            Transport::Tcp { source, destination, flags } => self.tcp(packet, source, destination, flags),
            Transport::Icmp { kind, .. } if packet.protocol == 1 => self.icmp4(packet, kind),
            Transport::Icmp { kind, .. } => self.icmp6(packet, kind),
            Transport::Fragment => {
                (packet.protocol == 17 && self.gate.0.contains(&packet.destination)).then_some(Kind::Tunnel)
            }
            Transport::Other => self.igmp(packet),
        }
    }

    fn udp(&self, packet: &Packet, source: u16, destination: u16) -> Option<Kind> {
        if self.gate.1.contains(&destination) && self.gate.0.contains(&packet.destination) {
            return Some(Kind::Tunnel);
        }
        match (source, destination) {
            (_, 53) if self.dns.contains(&packet.destination) => self.dns(&question(&packet.payload)?),
            (68, 67) => {
                let broadcast = packet.destination == IpAddr::V4(Ipv4Addr::BROADCAST);
                (broadcast || self.on_link(packet.destination)).then_some(Kind::Housekeeping("DHCPv4"))
            }
            (546, 547) => (packet.destination == ip6("ff02::1:2")).then_some(Kind::Housekeeping("DHCPv6")),
            _ => None,
        }
    }

    fn tcp(&self, packet: &Packet, source: u16, destination: u16, flags: u8) -> Option<Kind> {
        let opening = flags & (SYN | ACK) == SYN;
        if self.inbound.contains(&source) && !opening && self.on_link(packet.destination) {
            return Some(Kind::Reply("reply to ssh"));
        }
        if destination != 53 || !self.dns.contains(&packet.destination) {
            return None;
        }
        // A query begins with its length (RFC 1035, 4.2.2); segments without payload belong to one.
        match packet.payload.get(2..) {
            None if packet.payload.is_empty() => Some(Kind::TunnelDns),
            None => None,
            Some(message) => self.dns(&question(message)?),
        }
    }

    fn dns(&self, name: &str) -> Option<Kind> {
        let among = |names: &[String]| names.iter().any(|known| known == name);
        if among(&self.tunnel_names) {
            Some(Kind::TunnelDns)
        } else {
            among(&self.other_names).then_some(Kind::OtherDns)
        }
    }

    fn icmp4(&self, packet: &Packet, kind: u8) -> Option<Kind> {
        match kind {
            0 => self.on_link(packet.destination).then_some(Kind::Reply("reply to ping")),
            3 | 11 | 12 => Some(Kind::Housekeeping("ICMP error")),
            _ => None,
        }
    }

    fn icmp6(&self, packet: &Packet, kind: u8) -> Option<Kind> {
        // Neighbour discovery counts only on the link (RFC 4861: hop limit 255, never forwarded).
        let local = packet.hops == 255;
        let multicast = matches!(packet.destination, IpAddr::V6(to) if to.is_multicast());
        match kind {
            1..=4 => Some(Kind::Housekeeping("ICMP error")),
            129 => self.on_link(packet.destination).then_some(Kind::Reply("reply to ping")),
            131 | 132 | 143 => (packet.hops == 1 && multicast).then_some(Kind::Housekeeping("MLD")),
            133 => (local && packet.destination == ip6("ff02::2"))
                .then_some(Kind::Housekeeping("router solicitation")),
            135 | 136 => {
                let target = packet.payload.get(4..20).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())?;
                let near = multicast || self.on_link(packet.destination);
                let fits = local && near && self.on_link(IpAddr::V6(Ipv6Addr::from(target)));
                fits.then_some(Kind::Housekeeping("neighbour discovery"))
            }
            _ => None,
        }
    }

    /// IGMP stays on the link: membership reports go to 224.0.0.0/24 or to the group itself, with TTL 1.
    fn igmp(&self, packet: &Packet) -> Option<Kind> {
        let multicast = matches!(packet.destination, IpAddr::V4(to) if to.is_multicast());
        (packet.protocol == 2 && packet.hops == 1 && multicast).then_some(Kind::Housekeeping("IGMP"))
    }
}

/// The kinds of probe whose frames were seen among some leaks.
pub fn probes<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> BTreeSet<String> {
    frames.into_iter().filter_map(tag).collect()
}

/// The kind of probe that a frame is tagged with.
pub fn tag(frame: &Frame) -> Option<String> {
    match &frame.content {
        Content::Ip(packet) => probe_tag(packet),
        Content::Arp { target, .. } => {
            (*target == crate::probe::ARP_TARGET).then(|| "arp-foreign".to_owned())
        }
        Content::Other(_) => None,
    }
}

/// Probes carry their kind in the payload, in a DNS name, or in the TCP source port.
fn probe_tag(packet: &Packet) -> Option<String> {
    if let Transport::Tcp { source, .. } = packet.transport {
        return crate::probe::by_port(source).map(str::to_owned);
    }
    if let Transport::Udp { destination: 53 | 5353, .. } = packet.transport
        && let Some(name) = question(&packet.payload)
    {
        return name.strip_suffix(crate::probe::DNS_SUFFIX).map(str::to_owned);
    }
    let magic = crate::probe::MAGIC;
    let start = packet.payload.windows(magic.len()).position(|window| window == magic)?;
    let tail = packet.payload.get(start + magic.len()..)?;
    let end = tail.iter().position(|byte| *byte == b';')?;
    Some(String::from_utf8_lossy(tail.get(..end)?).into_owned())
}

fn describe(frame: &Frame) -> String {
    let mut text = frame.to_string();
    if let Content::Ip(packet) = &frame.content
        && matches!(packet.transport, Transport::Udp { destination: 53 | 5353, .. })
        && let Some(name) = question(&packet.payload)
    {
        text.push_str(&format!(", asks for {name}"));
    }
    if let Some(tag) = tag(frame) {
        text.push_str(&format!(" [probe {tag}]"));
    }
    text
}

fn ip6(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}

const SYN: u8 = 2;
const ACK: u8 = 16;

#[cfg(test)]
#[path = "sort_tests.rs"]
mod tests;
