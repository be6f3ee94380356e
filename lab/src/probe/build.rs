//! Frames and packets made by hand, with their checksums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ARP_TARGET, DNS_SUFFIX, MAGIC};
use crate::layout::{CABLE, WAN};

/// The payload that names a kind.
pub fn payload(kind: &str) -> Vec<u8> {
    [MAGIC, kind.as_bytes(), b";"].concat()
}

/// A DNS query for an A record of a name that holds the kind (RFC 1035, section 4).
pub fn query(kind: &str) -> Vec<u8> {
    let mut message = vec![0x4e, 0x47, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in format!("{kind}{DNS_SUFFIX}").split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// An ICMP or ICMPv6 echo request; the kernel fills in the checksum of the latter.
pub fn echo(v6: bool, kind: &str) -> Vec<u8> {
    let mut message = vec![if v6 { 128 } else { 8 }, 0, 0, 0, 0x4e, 0x47, 0, 1];
    message.extend(payload(kind));
    if !v6 {
        let sum = checksum(&[&message]);
        set(&mut message, 2, sum);
    }
    message
}

/// A whole Ethernet frame with a UDP datagram, from the node to the household's router.
pub fn udp_frame(source: IpAddr, destination: IpAddr, port: u16, data: &[u8]) -> Vec<u8> {
    let mut udp = vec![0x9c, 0x40];
    udp.extend(port.to_be_bytes());
    udp.extend(u16::try_from(data.len() + 8).unwrap_or(u16::MAX).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(data);
    ip_frame(CABLE.1, source, destination, 17, 64, udp, 6)
}

/// The ARP request for a foreign address.
pub fn arp_frame(sender: Ipv4Addr) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &WAN.1, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &WAN.1].concat();
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(ARP_TARGET.octets());
    frame
}

/// The address that a marker asks for.
pub fn marker_target(nonce: u32) -> Ipv6Addr {
    let [a, b, c, d] = nonce.to_be_bytes();
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x4e, 0x47, 0x4d, 0x4b, a, b, c, d])
}

/// A neighbour solicitation as duplicate address detection sends it (RFC 4862, 5.4.2).
pub fn marker(nonce: u32) -> Vec<u8> {
    let target = marker_target(nonce);
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]);
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    ip_frame([0x33, 0x33, 0xff, x, y, z], Ipv6Addr::UNSPECIFIED.into(), group.into(), 58, 255, message, 2)
}

/// A Router Advertisement to all nodes, from a router of that address, with a prefix of that many seconds (RFC 4861, 4.2 and 4.6.2).
pub fn advertisement(source: Ipv6Addr, lifetime: u32) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([3, 4, 64, 0xc0]);
    message.extend([lifetime.to_be_bytes(), lifetime.to_be_bytes(), [0; 4]].concat());
    message.extend(Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0).octets());
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    ip_frame([0x33, 0x33, 0, 0, 0, 1], source.into(), all.into(), 58, 255, message, 2)
}

/// Puts an IP and an Ethernet header before a message whose checksum field is at `sum_at`.
fn ip_frame(
    to: [u8; 6],
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    hops: u8,
    mut message: Vec<u8>,
    sum_at: usize,
) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let (source, destination) = (octets(source), octets(destination));
    let [high, low] = length.to_be_bytes();
    let sum = checksum(&[&source, &destination, &[0, 0, high, low, 0, 0, 0, protocol], &message]);
    set(&mut message, sum_at, sum);
    let mut frame = [&to[..], &WAN.1].concat();
    if source.len() == 4 {
        let [high, low] = (length + 20).to_be_bytes();
        let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, hops, protocol, 0, 0];
        header.extend(&source);
        header.extend(&destination);
        let sum = checksum(&[&header]);
        set(&mut header, 10, sum);
        frame.extend([8, 0]);
        frame.extend(header);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, protocol, hops]);
        frame.extend(&source);
        frame.extend(&destination);
    }
    frame.extend(message);
    frame
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

fn set(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// The internet checksum (RFC 1071) of parts that each have an even length, but for the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}
