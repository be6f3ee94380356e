//! ARP for IPv4 on Ethernet (RFC 826), as far as detecting an address's conflict needs it (RFC 5227).

use alloc::vec::Vec;
use core::net::Ipv4Addr;

/// Asks whether somebody has the address, without claiming it: the sender's address is unspecified.
pub fn probe(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    request(mac, Ipv4Addr::UNSPECIFIED, address)
}

/// Says that the address is ours.
pub fn announcement(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    request(mac, address, address)
}

/// The hardware and the IPv4 address that a packet, a request or an answer, says to be from.
pub fn sender(packet: &[u8]) -> Option<([u8; 6], Ipv4Addr)> {
    let (head, rest) = packet.split_first_chunk::<6>()?;
    let (operation, rest) = rest.split_first_chunk::<2>()?;
    let (mac, rest) = rest.split_first_chunk::<6>()?;
    let address = rest.first_chunk::<4>()?;
    (*head == ETHERNET_IPV4 && matches!(*operation, [0, 1 | 2])).then(|| (*mac, Ipv4Addr::from(*address)))
}

fn request(mac: [u8; 6], from: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = Vec::with_capacity(28);
    packet.extend(ETHERNET_IPV4);
    packet.extend([0, 1]);
    packet.extend(mac);
    packet.extend(from.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    packet
}

/// Hardware type 1, protocol 0x0800, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
