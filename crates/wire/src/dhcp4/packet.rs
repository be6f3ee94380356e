//! IPv4 (RFC 791) and UDP (RFC 768) headers around a message, for packet sockets: before there is a lease there is no
//! address that a UDP socket could use.

use super::{CLIENT_PORT, SERVER_PORT};
use crate::checksum::Sum;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

/// The message as a whole IPv4 packet from `source` to everybody on the link.
pub fn broadcast(source: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let target = Ipv4Addr::BROADCAST;
    let udp_len = u16::try_from(message.len() + 8).unwrap_or(u16::MAX);
    let mut udp = Vec::with_capacity(usize::from(udp_len));
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(message);
    let sum = match udp_checksum(source, target, &udp) {
        0 => 0xffff, // 0 on the wire says that there is none
        sum => sum,
    };
    put(&mut udp, 6, sum);

    let mut packet = Vec::with_capacity(20 + udp.len());
    packet.extend([0x45, 0]);
    packet.extend(udp_len.saturating_add(20).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]); // don't fragment; TTL 64
    packet.extend(source.octets());
    packet.extend(target.octets());
    let mut sum = Sum::default();
    sum.add(&packet);
    put(&mut packet, 10, sum.finish());
    packet.extend(udp);
    packet
}

/// The message in a whole IPv4 packet to a client's port; `None` if it is anything else or damaged.
///
/// `checksummed` is false where the kernel says that the sender on the same machine has left the UDP checksum to a
/// network card that there is not.
pub fn open(packet: &[u8], checksummed: bool) -> Option<&[u8]> {
    let head = packet.first_chunk::<20>()?;
    let [first, _, len_hi, len_lo, _, _, frag_hi, frag_lo, _, protocol, _, _, s0, s1, s2, s3, t0, t1, t2, t3] =
        *head;
    let head_len = usize::from(first & 15) * 4;
    let packet = packet.get(..usize::from(u16::from_be_bytes([len_hi, len_lo])))?;
    let (header, udp) = packet.split_at_checked(head_len)?;
    let mut sum = Sum::default();
    sum.add(header);
    if first >> 4 != 4
        || head_len < 20
        || frag_hi & 0x3f != 0
        || frag_lo != 0
        || protocol != UDP
        || sum.finish() != 0
    {
        return None;
    }
    let [_, _, to_hi, to_lo, len_hi, len_lo, sum_hi, sum_lo] = *udp.first_chunk::<8>()?;
    let udp = udp.get(..usize::from(u16::from_be_bytes([len_hi, len_lo])))?;
    let has_sum = checksummed && [sum_hi, sum_lo] != [0, 0];
    let (source, target) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(t0, t1, t2, t3));
    if u16::from_be_bytes([to_hi, to_lo]) != CLIENT_PORT || has_sum && udp_checksum(source, target, udp) != 0
    {
        return None;
    }
    udp.get(8..)
}

/// The checksum over pseudo-header and datagram; over a datagram that has a right one in it: 0.
fn udp_checksum(source: Ipv4Addr, target: Ipv4Addr, udp: &[u8]) -> u16 {
    let mut sum = Sum::default();
    sum.add(&source.octets());
    sum.add(&target.octets());
    sum.add(&[0, UDP]);
    sum.add(&(udp.len() as u16).to_be_bytes());
    sum.add(udp);
    sum.finish()
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *to = from;
    }
}

const UDP: u8 = 17;
