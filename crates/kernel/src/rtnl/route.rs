//! Routes (`RTM_*ROUTE`).

use super::{family, is_ipv6, of_family, unspecified};
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::Prefix;
use narrowgate_model::net::{Route, RouteKind};
use narrowgate_sys::netlink::{Put, attributes, ip, number};

pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
pub(crate) const RTM_GETROUTE: u16 = 26;

/// The kernel's table of its own addresses.
pub(crate) const RT_TABLE_LOCAL: u32 = 255;

/// Which routes to dump. The kernel filters by it from 4.20 on; older ones answer with all.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Filter {
    /// All of one table.
    Table(u32),
    /// All with this protocol number.
    Protocol(u8),
    /// All over this device.
    Device(u32),
}

/// The body of a dump request.
pub(crate) fn dump_request(ipv6: bool, filter: Filter) -> Vec<u8> {
    let (protocol, attribute) = match filter {
        Filter::Table(table) => (0, Some((RTA_TABLE, table))),
        Filter::Device(index) => (0, Some((RTA_OIF, index))),
        Filter::Protocol(protocol) => (protocol, None),
    };
    let mut body = Vec::new();
    body.extend_from_slice(&[family(ipv6), 0, 0, 0, 0, protocol, 0, 0, 0, 0, 0, 0]);
    if let Some((kind, number)) = attribute {
        body.put_number(kind, number);
    }
    body
}

/// The body of `RTM_NEWROUTE`, and with `delete` that of `RTM_DELROUTE`: all attributes, so that no other is deleted.
pub(crate) fn encode(body: &mut Vec<u8>, route: &Route, delete: bool) {
    let ipv6 = route.dst.is_ipv6();
    let table = u8::try_from(route.table).unwrap_or(RT_TABLE_COMPAT);
    let (scope, kind) = (scope(route, delete), kind_number(route.kind));
    body.extend_from_slice(&[family(ipv6), route.dst.len, 0, 0, table, route.protocol, scope, kind]);
    let flags = if route.onlink { RTNH_F_ONLINK } else { 0 };
    body.extend_from_slice(&flags.to_ne_bytes());
    body.put_number(RTA_TABLE, route.table);
    body.put_ip(RTA_DST, route.dst.network().addr);
    body.put_number(RTA_PRIORITY, route.metric);
    if let Some(link) = route.link {
        body.put_number(RTA_OIF, link);
    }
    if let Some(source) = route.source {
        body.put_ip(RTA_PREFSRC, source);
    }
    match route.via {
        Some(via) if via.is_ipv6() == ipv6 => body.put_ip(RTA_GATEWAY, via),
        Some(via) => {
            let start = body.open(RTA_VIA);
            body.extend_from_slice(&u16::from(family(!ipv6)).to_ne_bytes());
            match via {
                IpAddr::V4(via) => body.extend_from_slice(&via.octets()),
                IpAddr::V6(via) => body.extend_from_slice(&via.octets()),
            }
            body.close(start);
        }
        None => {}
    }
}

/// Hands on the routes of an `RTM_NEWROUTE`: several if it has several next hops, none if it is a cached one or of another family.
pub(crate) fn decode(body: &[u8], take: &mut dyn FnMut(Route)) {
    let Some((header, rest)) = body.split_first_chunk::<HEADER_LEN>() else { return };
    let [family, dst_len, _, _, table, protocol, _, kind_of_it, f0, f1, f2, f3] = *header;
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let Some(ipv6) = is_ipv6(family).filter(|_| flags & RTM_F_CLONED == 0) else { return };
    let mut route = Route {
        table: table.into(),
        dst: Prefix::new(unspecified(ipv6), dst_len),
        kind: kind(kind_of_it),
        via: None,
        link: None,
        metric: 0,
        onlink: flags & RTNH_F_ONLINK != 0,
        source: None,
        protocol,
    };
    let hops = read(rest, &mut route);
    if matches!(route.kind, RouteKind::Unreachable | RouteKind::Other(6 | 8 | 9)) {
        route.link = None; // IPv6 shows these over lo
    }
    if hops.is_empty() {
        take(route);
    } else {
        decode_hops(hops, &route, take);
    }
}

/// The attributes but for the next hops, which it returns.
#[inline(never)] // into the frame of the above, a local variable for each field and much copying
fn read<'a>(rest: &'a [u8], route: &mut Route) -> &'a [u8] {
    let ipv6 = route.dst.is_ipv6();
    let mut hops: &[u8] = &[];
    for (kind, value) in attributes(rest) {
        let (addr, number) = (of_family(ipv6, value), number(value));
        match kind {
            RTA_DST => route.dst.addr = addr.unwrap_or(route.dst.addr),
            RTA_GATEWAY => route.via = addr,
            RTA_VIA => route.via = route.via.or_else(|| decode_via(value)),
            RTA_OIF => route.link = number,
            RTA_PRIORITY => route.metric = number.unwrap_or(0),
            RTA_PREFSRC => route.source = addr,
            RTA_TABLE => route.table = number.unwrap_or(route.table),
            RTA_MULTIPATH => hops = value,
            _ => {}
        }
    }
    hops
}

/// `RTA_MULTIPATH`: an array of `struct rtnexthop`, each with attributes.
fn decode_hops(mut hops: &[u8], common: &Route, take: &mut dyn FnMut(Route)) {
    while let Some(header) = hops.first_chunk::<RTNEXTHOP_LEN>() {
        let [l0, l1, flags, _, i0, i1, i2, i3] = *header;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(rest) = hops.get(RTNEXTHOP_LEN..len) else { return };
        let mut route = common.clone();
        route.link = Some(u32::from_ne_bytes([i0, i1, i2, i3]));
        route.onlink = u32::from(flags) & RTNH_F_ONLINK != 0;
        for (kind, value) in attributes(rest) {
            match kind {
                RTA_GATEWAY => route.via = ip(value),
                RTA_VIA => route.via = decode_via(value),
                _ => {}
            }
        }
        take(route);
        hops = hops.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// `struct rtvia`: a family and an address of it, for IPv4 routes by an IPv6 router.
fn decode_via(value: &[u8]) -> Option<IpAddr> {
    value.get(2..).and_then(ip)
}

/// IPv4's scope: a route without a router leads no further than the link. For deletion: whatever it is.
fn scope(route: &Route, delete: bool) -> u8 {
    match route.kind {
        _ if delete => RT_SCOPE_NOWHERE,
        RouteKind::Unicast if route.via.is_none() && !route.dst.is_ipv6() => RT_SCOPE_LINK,
        _ => RT_SCOPE_UNIVERSE,
    }
}

fn kind(number: u8) -> RouteKind {
    match number {
        RTN_UNICAST => RouteKind::Unicast,
        RTN_UNREACHABLE => RouteKind::Unreachable,
        other => RouteKind::Other(other),
    }
}

fn kind_number(kind: RouteKind) -> u8 {
    match kind {
        RouteKind::Unicast => RTN_UNICAST,
        RouteKind::Unreachable => RTN_UNREACHABLE,
        RouteKind::Other(number) => number,
    }
}

const RTN_UNICAST: u8 = 1;
const RTN_UNREACHABLE: u8 = 7;
const RT_TABLE_COMPAT: u8 = 252;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_ONLINK: u32 = 4;
const RTNEXTHOP_LEN: usize = 8;
/// `struct rtmsg` and attributes (linux/rtnetlink.h).
const HEADER_LEN: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
