//! The IPv6 header (RFC 8200, 3) around the messages, for packet sockets: they see an advertisement even while our own
//! link-local address is tentative, ahead of every firewall, and can solicit from the unspecified address.

use super::Malformed;
use crate::checksum::Sum;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

/// All routers on the link: where solicitations go.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Its Ethernet address (RFC 2464, 7).
pub const ALL_ROUTERS_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];

/// Checks what RFC 4861, 6.1.2, says of the header: the source is link-local and the hop limit 255, so that no router
/// has passed the packet on. Gives the source and the ICMPv6 message.
///
/// `checksummed` is false where the kernel says that the sender on the same machine has left the checksum to a network
/// card that there is not.
pub fn open(packet: &[u8], checksummed: bool) -> Result<(Ipv6Addr, &[u8]), Malformed> {
    let (head, rest) = packet.split_first_chunk::<40>().ok_or(Malformed::Short)?;
    let [version, _, _, _, len_hi, len_lo, next, hops, ..] = *head;
    let message = rest.get(..usize::from(u16::from_be_bytes([len_hi, len_lo]))).ok_or(Malformed::Short)?;
    let address = |at: usize| head.get(at..).and_then(|a| a.first_chunk::<16>()).map(|a| Ipv6Addr::from(*a));
    let (source, target) = address(8).zip(address(24)).ok_or(Malformed::Short)?;
    if version >> 4 != 6 || next != ICMPV6 || hops != 255 || !source.is_unicast_link_local() {
        return Err(Malformed::Header);
    }
    if checksummed && checksum(source, target, message) != 0 {
        return Err(Malformed::Checksum);
    }
    Ok((source, message))
}

/// A Router Solicitation as a whole IPv6 packet, to all routers. `mac` as in [`super::solicit`].
pub fn solicitation(source: Ipv6Addr, mac: Option<[u8; 6]>) -> Vec<u8> {
    let mut message = super::solicit(mac);
    let sum = checksum(source, ALL_ROUTERS, &message).to_be_bytes();
    for (to, from) in message.iter_mut().skip(2).zip(sum) {
        *to = from;
    }
    let len = message.len() as u8; // 8 or 16
    let mut packet = vec![0x60, 0, 0, 0, 0, len, ICMPV6, 255];
    packet.extend(source.octets());
    packet.extend(ALL_ROUTERS.octets());
    packet.extend(message);
    packet
}

/// The checksum over pseudo-header and message; over a message that has a right one in it: 0 (RFC 8200, 8.1).
fn checksum(source: Ipv6Addr, target: Ipv6Addr, message: &[u8]) -> u16 {
    let mut sum = Sum::default();
    sum.add(&source.octets());
    sum.add(&target.octets());
    sum.add(&(message.len() as u32).to_be_bytes());
    sum.add(&[0, 0, 0, ICMPV6]);
    sum.add(message);
    sum.finish()
}

const ICMPV6: u8 = 58;
