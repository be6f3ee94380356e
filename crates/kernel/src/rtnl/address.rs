//! Addresses on devices (`RTM_*ADDR`).

use super::{family, is_ipv6, of_family};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use narrowgate_model::net::Address;
use narrowgate_model::{Prefix, Time};
use narrowgate_sys::netlink::{self, Put, attributes};

pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
pub(crate) const RTM_GETADDR: u16 = 22;

/// The body of a dump request for all addresses of both families.
pub(crate) const DUMP_REQUEST: [u8; HEADER_LEN] = [0; HEADER_LEN];

/// The body of `RTM_NEWADDR`. An IPv6 address is sent as optimistic (RFC 4429): the kernel heeds that where it may.
pub(crate) fn encode_new(body: &mut Vec<u8>, address: &Address, now: Time) {
    let ipv6 = address.prefix.is_ipv6();
    let mut flags = 0;
    if address.no_prefix_route {
        flags |= IFA_F_NOPREFIXROUTE;
    }
    if ipv6 {
        flags |= IFA_F_OPTIMISTIC;
    }
    // A valid lifetime of 0 is refused, and so is a preferred one that is longer than the valid one.
    let valid = lifetime(address.valid_until, now).max(1);
    let preferred = lifetime(address.preferred_until, now).min(valid);
    encode_delete(body, address);
    body.put_number(IFA_FLAGS, flags);
    let lifetimes = body.open(IFA_CACHEINFO);
    for number in [preferred, valid, 0, 0] {
        body.extend_from_slice(&number.to_ne_bytes());
    }
    body.close(lifetimes);
    if address.protocol != 0 {
        body.put(IFA_PROTO, &[address.protocol]);
    }
    if let (Some(broadcast), false) = (address.broadcast, ipv6) {
        body.put_ip(IFA_BROADCAST, broadcast.into());
    }
}

/// The body of `RTM_DELADDR`.
pub(crate) fn encode_delete(body: &mut Vec<u8>, address: &Address) {
    let prefix = address.prefix;
    let link_local = match prefix.addr {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    let scope = if link_local { RT_SCOPE_LINK } else { 0 };
    body.extend_from_slice(&[family(prefix.is_ipv6()), prefix.len, 0, scope]);
    body.extend_from_slice(&address.link.to_ne_bytes());
    body.put_ip(IFA_LOCAL, prefix.addr);
    body.put_ip(IFA_ADDRESS, prefix.addr);
}

/// The address of an `RTM_NEWADDR`.
pub(crate) fn decode(body: &[u8], now: Time) -> Option<Address> {
    let (header, rest) = body.split_first_chunk::<HEADER_LEN>()?;
    let [family, prefix_len, flags, _, i0, i1, i2, i3] = *header;
    let ipv6 = is_ipv6(family)?;
    let mut flags = u32::from(flags);
    let (mut local, mut peer, mut broadcast, mut protocol) = (None, None, None, 0);
    let (mut preferred, mut valid) = (INFINITY, INFINITY);
    for (kind, value) in attributes(rest) {
        let (ip, number) = (of_family(ipv6, value), netlink::number(value));
        match kind {
            IFA_LOCAL => local = ip,
            IFA_ADDRESS => peer = ip,
            IFA_BROADCAST => broadcast = ip,
            IFA_CACHEINFO => {
                preferred = number.unwrap_or(preferred);
                valid = value.get(4..).and_then(netlink::number).unwrap_or(valid);
            }
            IFA_FLAGS => flags = number.unwrap_or(flags),
            IFA_PROTO => protocol = value.first().copied().unwrap_or(protocol),
            _ => {}
        }
    }
    let has = |flag: u32| flags & flag != 0;
    Some(Address {
        link: u32::from_ne_bytes([i0, i1, i2, i3]),
        prefix: Prefix::new(local.or(peer)?, prefix_len),
        broadcast: match broadcast {
            Some(IpAddr::V4(broadcast)) => Some(broadcast),
            _ => None,
        },
        preferred_until: until(preferred, now),
        valid_until: until(valid, now),
        no_prefix_route: has(IFA_F_NOPREFIXROUTE),
        protocol,
        dad_failed: has(IFA_F_DADFAILED),
        tentative: has(IFA_F_TENTATIVE) && !has(IFA_F_OPTIMISTIC),
    })
}

/// Seconds left; `INFINITY` is the one number that is no number of seconds.
fn lifetime(until: Option<Time>, now: Time) -> u32 {
    until.map_or(INFINITY, |t| t.seconds_from(now).min(INFINITY - 1))
}

fn until(seconds: u32, now: Time) -> Option<Time> {
    (seconds != INFINITY).then(|| now + Duration::from_secs(seconds.into()))
}

const INFINITY: u32 = u32::MAX;
const RT_SCOPE_LINK: u8 = 253;
/// `struct ifaddrmsg`, attributes and flags (linux/if_addr.h).
const HEADER_LEN: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
