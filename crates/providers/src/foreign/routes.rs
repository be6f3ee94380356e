//! The kernel's routes over a device, but for our own and its own: what a foreign manager has put there.

use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::facts::{Origin, Preference, RouteFact};
use narrowgate_model::sort::sort_by_key;
use narrowgate_model::{PROTOCOL, Prefix};
use narrowgate_sys::io;
use narrowgate_sys::netlink::{Protocol, Put, Socket, attributes, ip};

/// A route with the table it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The table.
    pub table: u32,
    /// The route.
    pub fact: RouteFact,
}

/// The routes over the device of that index, in any table. The kernel answers at once.
///
/// # Errors
/// As the kernel says, or socket(2).
pub fn read(index: u32, origin: Origin) -> io::Result<Vec<Found>> {
    let mut socket = Socket::open(Protocol::Route)?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut request = vec![family];
        request.resize(RTMSG_LEN, 0);
        request.put_number(RTA_OIF, index);
        match socket.dump(RTM_GETROUTE, &request) {
            Ok(dump) => dump.messages().for_each(|m| decode(m.body, index, origin, &mut found)),
            Err(error) if family == AF_INET6 && error.errno == EAFNOSUPPORT => {}
            Err(error) => return Err(io::Error::from_raw_os_error(error.errno)),
        }
    }
    Ok(found)
}

/// Each destination and router once: what is in tables of the manager's own, in main, and what it has only told.
pub(super) fn facts(
    mut found: Vec<Found>,
    told: Vec<(Prefix, Option<IpAddr>)>,
    origin: Origin,
) -> Vec<RouteFact> {
    sort_by_key(&mut found, |f| f.table == MAIN);
    let preference = Preference::Medium;
    let told = told.into_iter().map(|(dst, via)| RouteFact { dst, via, preference, until: None, origin });
    let mut facts: Vec<RouteFact> = Vec::new();
    for fact in found.into_iter().map(|f| f.fact).chain(told) {
        if !facts.iter().any(|f| f.dst == fact.dst && f.via == fact.via) {
            facts.push(fact);
        }
    }
    facts
}

/// The routes of an `RTM_NEWROUTE` over the device: several if it has several next hops.
fn decode(body: &[u8], index: u32, origin: Origin, found: &mut Vec<Found>) {
    let Some((header, rest)) = body.split_first_chunk::<RTMSG_LEN>() else { return };
    let [family, dst_len, _, _, table, protocol, _, kind, f0, f1, f2, f3] = *header;
    let cloned = u32::from_ne_bytes([f0, f1, f2, f3]) & RTM_F_CLONED != 0;
    if cloned || kind != RTN_UNICAST || protocol == PROTOCOL {
        return;
    }
    let any = if family == AF_INET6 { Prefix::DEFAULT_V6 } else { Prefix::DEFAULT_V4 };
    let mut table = u32::from(table);
    let mut dst = any.addr;
    let mut preference = Preference::Medium;
    let mut hop = Hop::default();
    let mut hops: &[u8] = &[];
    for (kind, value) in attributes(rest) {
        match kind {
            RTA_DST => dst = ip(value).unwrap_or(dst),
            RTA_TABLE => table = number(value).unwrap_or(table),
            RTA_MULTIPATH => hops = value,
            RTA_PREF => preference = value.first().map_or(preference, |p| rank(*p)),
            _ => hop.take(kind, value),
        }
    }
    let fact =
        RouteFact { dst: Prefix::new(dst, dst_len).network(), via: None, preference, until: None, origin };
    let everywhere = fact.dst.addr.is_multicast() || fact.dst == Prefix::LINK_LOCAL;
    if table == LOCAL || everywhere || dst.is_ipv6() != any.is_ipv6() {
        return;
    }
    let several = multipath(hops);
    let hops = if several.is_empty() { vec![hop] } else { several };
    for hop in hops.into_iter().filter(|hop| hop.link == Some(index)) {
        found.push(Found { table, fact: RouteFact { via: hop.via, ..fact.clone() } });
    }
}

#[derive(Default)]
struct Hop {
    link: Option<u32>,
    via: Option<IpAddr>,
}

impl Hop {
    fn take(&mut self, kind: u16, value: &[u8]) {
        match kind {
            RTA_OIF => self.link = number(value),
            RTA_GATEWAY => self.via = ip(value),
            _ => {}
        }
    }
}

/// An array of `struct rtnexthop`, each with attributes.
fn multipath(mut bytes: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let Some(header) = bytes.first_chunk::<RTNEXTHOP_LEN>() {
        let [l0, l1, _, _, i0, i1, i2, i3] = *header;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(inner) = bytes.get(RTNEXTHOP_LEN..len) else { break };
        let mut hop = Hop { link: Some(u32::from_ne_bytes([i0, i1, i2, i3])), via: None };
        attributes(inner).for_each(|(kind, value)| hop.take(kind, value));
        hops.push(hop);
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
    }
    hops
}

fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Of just four bytes.
fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// `ICMPV6_ROUTER_PREF_*`
fn rank(preference: u8) -> Preference {
    match preference {
        1 => Preference::High,
        3 => Preference::Low,
        _ => Preference::Medium,
    }
}

/// `RT_TABLE_MAIN`
pub(super) const MAIN: u32 = 254;
const LOCAL: u32 = 255;
const RTM_GETROUTE: u16 = 26;
const RTMSG_LEN: usize = 12;
const RTNEXTHOP_LEN: usize = 8;
const RTN_UNICAST: u8 = 1;
const RTM_F_CLONED: u32 = 0x200;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_PREF: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const EAFNOSUPPORT: i32 = 97;

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(4 + value.len()).unwrap();
        let mut out = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        out.extend_from_slice(value);
        out.resize(aligned(out.len()), 0);
        out
    }

    fn message(protocol: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        [&[AF_INET6, 0, 0, 0, 1, protocol, 0, RTN_UNICAST, 0, 0, 0, 0][..], &attributes.concat()].concat()
    }

    #[test]
    fn two_routers_of_one_metric_are_two_routes() {
        let hop = |index: u32, last: u8| {
            let gateway =
                attribute(RTA_GATEWAY, &Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last.into()).octets());
            let len = u16::try_from(RTNEXTHOP_LEN + gateway.len()).unwrap();
            [&len.to_ne_bytes()[..], &[0, 0], &index.to_ne_bytes(), &gateway].concat()
        };
        let hops = [hop(7, 1), hop(8, 2), hop(7, 3)].concat();
        let message = message(9, &[attribute(RTA_PREF, &[1]), attribute(RTA_MULTIPATH, &hops)]);
        let mut found = Vec::new();
        decode(&message, 7, Origin::Networkd, &mut found);
        let shown: Vec<String> = found.iter().map(|f| f.fact.via.unwrap().to_string()).collect();
        assert_eq!(shown, ["fe80::1", "fe80::3"]);
        assert!(found.iter().all(|f| f.table == 1 && f.fact.preference == Preference::High));
    }

    #[test]
    fn our_own_routes_and_other_devices_are_left_out_and_cuts_do_no_harm() {
        let whole = message(9, &[attribute(RTA_OIF, &7u32.to_ne_bytes())]);
        let count = |message: &[u8], index| {
            let mut found = Vec::new();
            decode(message, index, Origin::Networkd, &mut found);
            found.len()
        };
        assert_eq!(count(&whole, 7), 1);
        assert_eq!(count(&whole, 8), 0);
        assert_eq!(count(&message(PROTOCOL, &[attribute(RTA_OIF, &7u32.to_ne_bytes())]), 7), 0);
        for end in 0..whole.len() {
            assert_eq!(count(&whole[..end], 7), 0);
        }
    }
}
