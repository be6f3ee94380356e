//! Addresses on devices (`RTM_*ADDR`).

use super::{family, is_ipv6, of_family};
use narrowgate_model::net::Address;
use narrowgate_model::{Prefix, Time};
use netlink_bindings::rt_addr::{
    AddrAttrs, IfaCacheinfo, IfaFlags, Ifaddrmsg, OpDeladdrDo, OpGetaddrDump, OpNewaddrDo,
};
use std::time::Duration;

pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
pub(crate) const RTM_GETADDR: u16 = 22;

/// The body of a dump request for all addresses of both families.
pub(crate) fn dump_request() -> Vec<u8> {
    Ifaddrmsg::new().as_slice().to_vec()
}

/// The body of `RTM_NEWADDR`. An IPv6 address is sent as optimistic (RFC 4429): the kernel heeds that where it may.
pub(crate) fn encode_new(body: &mut Vec<u8>, address: &Address, now: Time) {
    let ipv6 = address.prefix.is_ipv6();
    let mut flags = 0;
    if address.no_prefix_route {
        flags |= IfaFlags::Noprefixroute as u32;
    }
    if ipv6 {
        flags |= IfaFlags::Optimistic as u32;
    }
    // A valid lifetime of 0 is refused, and so is a preferred one that is longer than the valid one.
    let valid = lifetime(address.valid_until, now).max(1);
    let lifetimes = IfaCacheinfo {
        ifa_prefered: lifetime(address.preferred_until, now).min(valid),
        ifa_valid: valid,
        cstamp: 0,
        tstamp: 0,
    };
    let request = OpNewaddrDo::encode_request(body, &header(address))
        .push_local(address.prefix.addr)
        .push_address(address.prefix.addr)
        .push_flags(flags)
        .push_cacheinfo(lifetimes);
    let request = match address.protocol {
        0 => request,
        protocol => request.push_proto(protocol),
    };
    if let (Some(broadcast), false) = (address.broadcast, ipv6) {
        request.push_broadcast(broadcast);
    }
}

/// The body of `RTM_DELADDR`.
pub(crate) fn encode_delete(body: &mut Vec<u8>, address: &Address) {
    OpDeladdrDo::encode_request(body, &header(address))
        .push_local(address.prefix.addr)
        .push_address(address.prefix.addr);
}

/// The address of an `RTM_NEWADDR`.
pub(crate) fn decode(body: &[u8], now: Time) -> Option<Address> {
    if body.len() < Ifaddrmsg::len() {
        return None;
    }
    let (header, attributes) = OpGetaddrDump::decode_request(body);
    let ipv6 = is_ipv6(header.ifa_family)?;
    let mut flags = u32::from(header.ifa_flags);
    let (mut local, mut peer, mut broadcast, mut protocol) = (None, None, None, 0);
    let (mut preferred, mut valid) = (INFINITY, INFINITY);
    for attribute in attributes.flatten() {
        match attribute {
            AddrAttrs::Local(addr) => local = of_family(ipv6, addr),
            AddrAttrs::Address(addr) => peer = of_family(ipv6, addr),
            AddrAttrs::Broadcast(addr) if !ipv6 => broadcast = Some(addr),
            AddrAttrs::Cacheinfo(info) => (preferred, valid) = (info.ifa_prefered, info.ifa_valid),
            AddrAttrs::Flags(all) => flags = all,
            AddrAttrs::Proto(number) => protocol = number,
            _ => {}
        }
    }
    let has = |flag: IfaFlags| flags & flag as u32 != 0;
    Some(Address {
        link: header.ifa_index,
        prefix: Prefix::new(local.or(peer)?, header.ifa_prefixlen),
        broadcast,
        preferred_until: until(preferred, now),
        valid_until: until(valid, now),
        no_prefix_route: has(IfaFlags::Noprefixroute),
        protocol,
        dad_failed: has(IfaFlags::Dadfailed),
        tentative: has(IfaFlags::Tentative) && !has(IfaFlags::Optimistic),
    })
}

fn header(address: &Address) -> Ifaddrmsg {
    let prefix = address.prefix;
    let link_local = match prefix.addr {
        std::net::IpAddr::V4(a) => a.is_link_local(),
        std::net::IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    Ifaddrmsg {
        ifa_family: family(prefix.is_ipv6()),
        ifa_prefixlen: prefix.len,
        ifa_scope: if link_local { RT_SCOPE_LINK } else { 0 },
        ifa_index: address.link,
        ..Ifaddrmsg::new()
    }
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
