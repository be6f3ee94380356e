//! rtnetlink's messages to our nouns and back. A file an object; bytes only, no socket.

pub(crate) mod address;
pub(crate) mod link;
#[cfg(test)]
mod oracle;
pub(crate) mod route;
pub(crate) mod rule;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use narrowgate_sys::netlink;

/// `AF_INET6` or `AF_INET`.
pub(crate) fn family(ipv6: bool) -> u8 {
    if ipv6 { AF_INET6 } else { AF_INET }
}

/// `::` or `0.0.0.0`.
fn unspecified(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Whether it is IPv6's; `None` for the families that we leave alone (bridges, MPLS, multicast routing).
fn is_ipv6(family: u8) -> Option<bool> {
    match family {
        AF_INET => Some(false),
        AF_INET6 => Some(true),
        _ => None,
    }
}

/// A value as an address of that family.
fn of_family(ipv6: bool, value: &[u8]) -> Option<IpAddr> {
    netlink::ip(value).filter(|addr| addr.is_ipv6() == ipv6)
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
