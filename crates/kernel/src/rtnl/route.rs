//! Routes (`RTM_*ROUTE`).

use super::{family, is_ipv6, of_family, unspecified};
use narrowgate_model::Prefix;
use narrowgate_model::net::{Route, RouteKind};
use netlink_bindings::rt_route::{OpDelrouteDo, OpGetrouteDump, PushRouteAttrs, RouteAttrs, Rtmsg};
use netlink_bindings::utils::{IterableChunks, find_attr, nla_align_up};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    let mut header = Rtmsg { rtm_family: family(ipv6), ..Rtmsg::new() };
    if let Filter::Protocol(protocol) = filter {
        header.rtm_protocol = protocol;
    }
    let mut body = header.as_slice().to_vec();
    match filter {
        Filter::Table(table) => drop(PushRouteAttrs::new(&mut body).push_table(table)),
        Filter::Device(index) => drop(PushRouteAttrs::new(&mut body).push_oif(index)),
        Filter::Protocol(_) => {}
    }
    body
}

/// The body of `RTM_NEWROUTE`, and with `delete` that of `RTM_DELROUTE`: all attributes, so that no other is deleted.
pub(crate) fn encode(body: &mut Vec<u8>, route: &Route, delete: bool) {
    let header = Rtmsg {
        rtm_family: family(route.dst.is_ipv6()),
        rtm_dst_len: route.dst.len,
        rtm_table: u8::try_from(route.table).unwrap_or(RT_TABLE_COMPAT),
        rtm_protocol: route.protocol,
        rtm_scope: scope(route, delete),
        rtm_type: kind_number(route.kind),
        rtm_flags: if route.onlink { RTNH_F_ONLINK } else { 0 },
        ..Rtmsg::new()
    };
    let mut request = OpDelrouteDo::encode_request(body, &header)
        .push_table(route.table)
        .push_dst(route.dst.network().addr)
        .push_priority(route.metric);
    if let Some(link) = route.link {
        request = request.push_oif(link);
    }
    if let Some(source) = route.source {
        request = request.push_prefsrc(source);
    }
    match route.via {
        Some(via) if via.is_ipv6() == route.dst.is_ipv6() => drop(request.push_gateway(via)),
        Some(via) => drop(request.push_via(via)),
        None => {}
    }
}

/// The routes of an `RTM_NEWROUTE`: several if it has several next hops, none if it is a cached one or of another family.
pub(crate) fn decode(body: &[u8], routes: &mut Vec<Route>) {
    if body.len() < Rtmsg::len() {
        return;
    }
    let (header, attributes) = OpGetrouteDump::decode_request(body);
    let Some(ipv6) = is_ipv6(header.rtm_family).filter(|_| header.rtm_flags & RTM_F_CLONED == 0) else {
        return;
    };
    let mut route = Route {
        table: header.rtm_table.into(),
        dst: Prefix::new(unspecified(ipv6), header.rtm_dst_len),
        kind: kind(header.rtm_type),
        via: None,
        link: None,
        metric: 0,
        onlink: header.rtm_flags & RTNH_F_ONLINK != 0,
        source: None,
        protocol: header.rtm_protocol,
    };
    let mut hops: &[u8] = &[];
    for attribute in attributes.flatten() {
        match attribute {
            RouteAttrs::Dst(addr) if addr.is_ipv6() == ipv6 => {
                route.dst = Prefix::new(addr, header.rtm_dst_len)
            }
            RouteAttrs::Gateway(addr) => route.via = of_family(ipv6, addr),
            RouteAttrs::Oif(index) => route.link = Some(index),
            RouteAttrs::Priority(metric) => route.metric = metric,
            RouteAttrs::Prefsrc(addr) => route.source = of_family(ipv6, addr),
            RouteAttrs::Table(table) => route.table = table,
            RouteAttrs::Multipath(bytes) => hops = bytes,
            _ => {}
        }
    }
    route.via = route.via.or_else(|| find_attr(attributes.get_buf(), RTA_VIA).and_then(decode_via));
    if matches!(route.kind, RouteKind::Unreachable | RouteKind::Other(6 | 8 | 9)) {
        route.link = None; // IPv6 shows these over lo
    }
    if hops.is_empty() {
        routes.push(route);
    } else {
        decode_hops(hops, &route, routes);
    }
}

/// `RTA_MULTIPATH`: an array of `struct rtnexthop`, each with attributes.
fn decode_hops(mut hops: &[u8], common: &Route, routes: &mut Vec<Route>) {
    while let Some(header) = hops.first_chunk::<RTNEXTHOP_LEN>() {
        let [l0, l1, flags, _, i0, i1, i2, i3] = *header;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(attributes) = hops.get(RTNEXTHOP_LEN..len) else { return };
        let mut route = common.clone();
        route.link = Some(u32::from_ne_bytes([i0, i1, i2, i3]));
        route.onlink = u32::from(flags) & RTNH_F_ONLINK != 0;
        for (header, value) in IterableChunks::new(attributes) {
            match header.r#type {
                RTA_GATEWAY => route.via = decode_ip(value),
                RTA_VIA => route.via = decode_via(value),
                _ => {}
            }
        }
        routes.push(route);
        hops = hops.get(nla_align_up(len)..).unwrap_or_default();
    }
}

/// `struct rtvia`: a family and an address of it, for IPv4 routes by an IPv6 router.
fn decode_via(value: &[u8]) -> Option<IpAddr> {
    value.get(2..).and_then(decode_ip)
}

fn decode_ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk().map(|b| Ipv4Addr::from(*b).into()),
        16 => value.first_chunk().map(|b| Ipv6Addr::from(*b).into()),
        _ => None,
    }
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
const RTA_GATEWAY: u16 = 5;
const RTA_VIA: u16 = 18;
