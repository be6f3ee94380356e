//! What an Ethernet frame says about itself, as far as a leak detector needs to know. Pure and total: every sequence of
//! bytes is some [`Frame`], and what cannot be read is called so rather than left out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A decoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Destination hardware address.
    pub to: [u8; 6],
    /// Source hardware address.
    pub from: [u8; 6],
    /// What is in it.
    pub content: Content,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An ARP packet (RFC 826) for Ethernet and IPv4.
    Arp {
        /// Whether it is a request.
        request: bool,
        /// The sender's protocol address.
        sender: Ipv4Addr,
        /// The address that is asked for.
        target: Ipv4Addr,
    },
    /// An IP packet of either version.
    Ip(Packet),
    /// An EtherType that is none of these, or a packet cut short.
    Other(u16),
}

/// A decoded IP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub hops: u8,
    /// The upper-layer protocol's number, past IPv6 extension headers.
    pub protocol: u8,
    /// What the upper layer says.
    pub transport: Transport,
    /// What follows the transport header, as far as it was captured.
    pub payload: Vec<u8>,
}

/// The upper layer of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// The flags byte (RFC 9293): FIN 1, SYN 2, RST 4, ACK 16.
        flags: u8,
    },
    /// ICMP or ICMPv6.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A fragment that is not the first: its ports are elsewhere.
    Fragment,
    /// Another protocol, or a header cut short.
    Other,
}

/// Reads a frame. `None` when it has not even an Ethernet header.
pub fn decode(bytes: &[u8]) -> Option<Frame> {
    let to = array(bytes, 0)?;
    let from = array(bytes, 6)?;
    let ethertype = u16_at(bytes, 12)?;
    let rest = bytes.get(14..).unwrap_or_default();
    let content = match ethertype {
        0x0800 => ipv4(rest),
        0x86dd => ipv6(rest),
        0x0806 => arp(rest),
        _ => None,
    };
    Some(Frame { to, from, content: content.unwrap_or(Content::Other(ethertype)) })
}

/// The question's name in a DNS message (RFC 1035, 4.1.2), lower case, without the final dot.
pub fn question(message: &[u8]) -> Option<String> {
    if u16_at(message, 4)? == 0 {
        return None;
    }
    let mut name = String::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some(name),
            1..=63 => {
                let label = message.get(at + 1..at + 1 + length)?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                at += 1 + length;
            }
            _ => return None,
        }
        if name.len() > 255 {
            return None;
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Arp { request: true, sender, target } => {
                write!(f, "ARP who has {target}, tell {sender}")
            }
            Content::Arp { request: false, sender, target } => write!(f, "ARP {sender} is here, to {target}"),
            Content::Other(ethertype) => write!(f, "EtherType {ethertype:#06x}"),
            Content::Ip(packet) => write!(f, "{packet}"),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination) = (self.source, self.destination);
        match self.transport {
            Transport::Udp { source: from, destination: to } => {
                write!(f, "UDP {source} port {from} -> {destination} port {to}")?;
            }
            Transport::Tcp { source: from, destination: to, flags } => {
                write!(f, "TCP {source} port {from} -> {destination} port {to} flags {flags:#04x}")?;
            }
            Transport::Icmp { kind, code } => {
                write!(f, "ICMP {source} -> {destination} type {kind} code {code}")?;
            }
            Transport::Fragment => {
                write!(f, "fragment {source} -> {destination} of protocol {}", self.protocol)?
            }
            Transport::Other => write!(f, "protocol {} {source} -> {destination}", self.protocol)?,
        }
        write!(f, ", {} bytes", self.payload.len())
    }
}

fn arp(bytes: &[u8]) -> Option<Content> {
    if array(bytes, 0)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let operation = u16_at(bytes, 6)?;
    let sender = Ipv4Addr::from(array::<4>(bytes, 14)?);
    let target = Ipv4Addr::from(array::<4>(bytes, 24)?);
    (1..=2).contains(&operation).then_some(Content::Arp { request: operation == 1, sender, target })
}

fn ipv4(bytes: &[u8]) -> Option<Content> {
    let first = *bytes.first()?;
    let header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header < 20 {
        return None;
    }
    let protocol = *bytes.get(9)?;
    let source = Ipv4Addr::from(array::<4>(bytes, 12)?);
    let destination = Ipv4Addr::from(array::<4>(bytes, 16)?);
    let fragment = u16_at(bytes, 6)? & 0x1fff != 0;
    // Ethernet pads short frames: the header knows how long the packet is.
    let total = usize::from(u16_at(bytes, 2)?).max(header);
    let body = bytes.get(header..total.min(bytes.len()).max(header))?;
    Some(packet(source.into(), destination.into(), *bytes.get(8)?, protocol, fragment, body))
}

fn ipv6(bytes: &[u8]) -> Option<Content> {
    if bytes.first()? >> 4 != 6 {
        return None;
    }
    let source = Ipv6Addr::from(array::<16>(bytes, 8)?);
    let destination = Ipv6Addr::from(array::<16>(bytes, 24)?);
    let hops = *bytes.get(7)?;
    let mut protocol = *bytes.get(6)?;
    let length = usize::from(u16_at(bytes, 4)?);
    let mut body = bytes.get(40..bytes.len().min(40 + length))?;
    let mut fragment = false;
    // Hop-by-hop, routing, destination options, fragment (RFC 8200, section 4).
    while matches!(protocol, 0 | 43 | 60 | 44) && !fragment {
        let next = *body.first()?;
        let size = if protocol == 44 { 8 } else { (usize::from(*body.get(1)?) + 1) * 8 };
        fragment = protocol == 44 && u16_at(body, 2)? & 0xfff8 != 0;
        protocol = next;
        body = body.get(size..)?;
    }
    Some(packet(source.into(), destination.into(), hops, protocol, fragment, body))
}

fn packet(
    source: IpAddr,
    destination: IpAddr,
    hops: u8,
    protocol: u8,
    fragment: bool,
    body: &[u8],
) -> Content {
    let (transport, header) = if fragment {
        (Transport::Fragment, 0)
    } else {
        transport(protocol, body).unwrap_or((Transport::Other, 0))
    };
    let payload = body.get(header..).unwrap_or_default().to_vec();
    Content::Ip(Packet { source, destination, hops, protocol, transport, payload })
}

fn transport(protocol: u8, body: &[u8]) -> Option<(Transport, usize)> {
    match protocol {
        17 => Some((Transport::Udp { source: u16_at(body, 0)?, destination: u16_at(body, 2)? }, 8)),
        6 => {
            let header = usize::from(body.get(12)? >> 4) * 4;
            let (source, destination) = (u16_at(body, 0)?, u16_at(body, 2)?);
            Some((Transport::Tcp { source, destination, flags: *body.get(13)? }, header.max(20)))
        }
        1 | 58 => Some((Transport::Icmp { kind: *body.first()?, code: *body.get(1)? }, 4)),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..4) {
            let mut bytes = bytes;
            if let Some(place) = bytes.get_mut(12..14) {
                place.copy_from_slice([[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]].get(kind).unwrap_or(&[0, 0]));
            }
            let frame = decode(&bytes);
            prop_assert_eq!(frame.is_some(), bytes.len() >= 14);
            let _ = frame.map(|frame| frame.to_string());
            let _ = question(&bytes);
        }
    }
}
