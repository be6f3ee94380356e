//! The same messages as the bindings write them that are generated from the kernel's own specifications.

use super::{family, route};
use narrowgate_model::Time;
use narrowgate_model::net::{Address, Link, Route, RouteKind, Rule, RuleAction};
use narrowgate_sys::netlink::attributes;
use netlink_bindings::rt_addr::{IfaCacheinfo, IfaFlags, Ifaddrmsg, OpNewaddrDo};
use netlink_bindings::rt_link::{Ifinfomsg, OpNewlinkDo};
use netlink_bindings::rt_route::{OpDelrouteDo, PushRouteAttrs, Rtmsg};
use netlink_bindings::rt_rule::{FibRuleHdr, FibRulePortRange, FibRuleUidRange, FrAct, OpDelruleDo};

/// What a message says: its header, and its attributes in any order.
pub(super) fn content(body: &[u8], header: usize) -> (Vec<u8>, Vec<(u16, Vec<u8>)>) {
    let (header, rest) = body.split_at(header);
    let mut list: Vec<_> = attributes(rest).map(|(kind, value)| (kind, value.to_vec())).collect();
    list.sort();
    (header.to_vec(), list)
}

pub(super) fn route_request(ipv6: bool, filter: route::Filter) -> Vec<u8> {
    let mut header = Rtmsg { rtm_family: family(ipv6), ..Rtmsg::new() };
    if let route::Filter::Protocol(protocol) = filter {
        header.rtm_protocol = protocol;
    }
    let mut body = header.as_slice().to_vec();
    match filter {
        route::Filter::Table(table) => drop(PushRouteAttrs::new(&mut body).push_table(table)),
        route::Filter::Device(index) => drop(PushRouteAttrs::new(&mut body).push_oif(index)),
        route::Filter::Protocol(_) => {}
    }
    body
}

pub(super) fn route(route: &Route, delete: bool) -> Vec<u8> {
    let header = Rtmsg {
        rtm_family: family(route.dst.is_ipv6()),
        rtm_dst_len: route.dst.len,
        rtm_table: u8::try_from(route.table).unwrap_or(252),
        rtm_protocol: route.protocol,
        rtm_scope: match route.kind {
            _ if delete => 255,
            RouteKind::Unicast if route.via.is_none() && !route.dst.is_ipv6() => 253,
            _ => 0,
        },
        rtm_type: match route.kind {
            RouteKind::Unicast => 1,
            RouteKind::Unreachable => 7,
            RouteKind::Other(number) => number,
        },
        rtm_flags: if route.onlink { 4 } else { 0 },
        ..Rtmsg::new()
    };
    let mut body = Vec::new();
    let mut request = OpDelrouteDo::encode_request(&mut body, &header)
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
        None => drop(request),
    }
    body
}

pub(super) fn rule(rule: &Rule) -> Vec<u8> {
    let selector = &rule.selector;
    let (action, table) = match rule.action {
        RuleAction::Lookup(table) => (FrAct::ToTbl as u8, Some(table)),
        RuleAction::Goto(_) => (FrAct::Goto as u8, None),
        RuleAction::Nop => (FrAct::Nop as u8, None),
        RuleAction::Unreachable => (FrAct::Unreachable as u8, None),
        RuleAction::Prohibit => (FrAct::Prohibit as u8, None),
        RuleAction::Blackhole => (FrAct::Blackhole as u8, None),
        RuleAction::Other(number) => (number, None),
    };
    let header = FibRuleHdr {
        family: family(rule.ipv6),
        dst_len: selector.dst.map_or(0, |p| p.len),
        src_len: selector.src.map_or(0, |p| p.len),
        tos: selector.tos.unwrap_or(0),
        table: table.and_then(|t| u8::try_from(t).ok()).unwrap_or(0),
        action,
        flags: if selector.invert { 2 } else { 0 },
        ..FibRuleHdr::new()
    };
    let mut body = Vec::new();
    let mut request = OpDelruleDo::encode_request(&mut body, &header)
        .push_priority(rule.priority)
        .push_protocol(rule.protocol);
    if let Some(table) = table {
        request = request.push_table(table);
    }
    if let RuleAction::Goto(target) = rule.action {
        request = request.push_goto(target);
    }
    if let Some(dst) = selector.dst.filter(|p| p.len > 0) {
        request = request.push_dst(dst.addr);
    }
    if let Some(src) = selector.src.filter(|p| p.len > 0) {
        request = request.push_src(src.addr);
    }
    if let Some(name) = &selector.iif {
        request = request.push_iifname_bytes(name.as_bytes());
    }
    if let Some(name) = &selector.oif {
        request = request.push_oifname_bytes(name.as_bytes());
    }
    if let Some(mark) = selector.mark {
        request = request.push_fwmark(mark.value).push_fwmask(mark.mask);
    }
    if let Some(protocol) = selector.ip_proto {
        request = request.push_ip_proto(protocol);
    }
    if let Some((start, end)) = selector.sport {
        request = request.push_sport_range(FibRulePortRange { start, end });
    }
    if let Some((start, end)) = selector.dport {
        request = request.push_dport_range(FibRulePortRange { start, end });
    }
    if let Some((start, end)) = selector.uid {
        request = request.push_uid_range(FibRuleUidRange { start, end });
    }
    if let Some(id) = selector.tun_id {
        request = request.push_tun_id(id.to_be()); // __be64, other than its specification says
    }
    if selector.l3mdev {
        request = request.push_l3mdev(1);
    }
    match rule.suppress_prefix_len {
        Some(len) => drop(request.push_suppress_prefixlen(len)),
        None => drop(request),
    }
    body
}

/// With lifetimes in seconds.
pub(super) fn address(address: &Address, now: Time) -> Vec<u8> {
    let seconds = |until: Option<Time>| until.map_or(u32::MAX, |t| t.seconds_from(now));
    let ipv6 = address.prefix.is_ipv6();
    let link_local = match address.prefix.addr {
        std::net::IpAddr::V4(a) => a.is_link_local(),
        std::net::IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    let header = Ifaddrmsg {
        ifa_family: family(ipv6),
        ifa_prefixlen: address.prefix.len,
        ifa_scope: if link_local { 253 } else { 0 },
        ifa_index: address.link,
        ..Ifaddrmsg::new()
    };
    let no_prefix_route = if address.no_prefix_route { IfaFlags::Noprefixroute as u32 } else { 0 };
    let optimistic = if ipv6 { IfaFlags::Optimistic as u32 } else { 0 };
    let mut body = Vec::new();
    let mut request = OpNewaddrDo::encode_request(&mut body, &header)
        .push_local(address.prefix.addr)
        .push_address(address.prefix.addr)
        .push_flags(no_prefix_route | optimistic)
        .push_cacheinfo(IfaCacheinfo {
            ifa_prefered: seconds(address.preferred_until),
            ifa_valid: seconds(address.valid_until),
            cstamp: 0,
            tstamp: 0,
        })
        .push_proto(address.protocol);
    if let Some(broadcast) = address.broadcast {
        request = request.push_broadcast(broadcast);
    }
    drop(request);
    body
}

pub(super) fn link(link: &Link) -> Vec<u8> {
    let header = Ifinfomsg {
        ifi_index: link.index as i32,
        ifi_flags: u32::from(link.up) | u32::from(link.carrier) << 16,
        ..Ifinfomsg::new()
    };
    let mut body = Vec::new();
    let mut request = OpNewlinkDo::encode_request(&mut body, &header)
        .push_ifname_bytes(link.name.as_bytes())
        .push_mtu(link.mtu)
        .push_carrier_down_count(link.carrier_losses);
    if let Some(mac) = link.mac {
        request = request.push_address(&mac);
    }
    if let Some(bridge) = link.bridge {
        let kind = request.push_master(bridge).nested_linkinfo().push_slave_kind(c"bridge");
        request = kind.end_nested();
    }
    drop(request);
    body
}

/// That switches a device on or off.
pub(super) fn switch(name: &str, up: bool) -> Vec<u8> {
    let header = Ifinfomsg { ifi_flags: up.into(), ifi_change: 1, ..Ifinfomsg::new() };
    let mut body = Vec::new();
    OpNewlinkDo::encode_request(&mut body, &header).push_ifname_bytes(name.as_bytes());
    body
}
