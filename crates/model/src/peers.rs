//! Where the tunnels' peers were found last: what their names resolved to, for the day on which no DNS server answers.

use alloc::vec::Vec;
use core::net::IpAddr;

/// Names that are remembered: more peers has no tunnel.
pub const MOST_NAMES: usize = 64;
/// Addresses of each IP version that are remembered of a name.
pub const MOST_ADDRESSES: usize = 8;

/// An address that some other host can have. A household's DNS may answer with anything, and none of the others is a tunnel's peer.
pub fn is_host(addr: &IpAddr) -> bool {
    let broadcast = matches!(addr, IpAddr::V4(a) if a.is_broadcast());
    !(broadcast || addr.is_unspecified() || addr.is_loopback() || addr.is_multicast())
}

/// Remembers what a name was `found` to resolve to, in the IP version of the first of them, in place of what is `known` of that version. Whether
/// that has changed anything.
///
/// What is no host does not count; and what only the household can reach does not take the place of what the world can: so answers a captive portal for every name.
pub fn renew(known: &mut Vec<IpAddr>, found: &[IpAddr]) -> bool {
    let mut new: Vec<IpAddr> = Vec::new();
    for addr in found {
        if is_host(addr) && new.first().is_none_or(|first| first.is_ipv6() == addr.is_ipv6()) {
            insert(&mut new, addr);
        }
    }
    new.truncate(MOST_ADDRESSES);
    let Some(ipv6) = new.first().map(IpAddr::is_ipv6) else { return false };
    if new.iter().all(is_private) && known.iter().any(|addr| addr.is_ipv6() == ipv6 && !is_private(addr)) {
        return false;
    }
    known.iter().filter(|addr| addr.is_ipv6() != ipv6).for_each(|addr| insert(&mut new, addr));
    let changed = *known != new;
    *known = new;
    changed
}

/// Puts an address in its place, if it is not there.
#[inline(never)]
fn insert(list: &mut Vec<IpAddr>, addr: &IpAddr) {
    if !list.contains(addr) {
        let place = list.iter().take_while(|is| in_order(is) < in_order(addr)).count();
        list.insert(place, *addr);
    }
}

/// What tells which of two addresses is the first; the standard library's comparison is three times as long.
fn in_order(addr: &IpAddr) -> (bool, u128) {
    match addr {
        IpAddr::V4(addr) => (false, u32::from(*addr).into()),
        IpAddr::V6(addr) => (true, u128::from(*addr)),
    }
}

/// RFC 1918, 3927, 6598; RFC 4193 and 4291, 2.5.6.
fn is_private(addr: &IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => {
            let [a, b, ..] = addr.octets();
            addr.is_private() || addr.is_link_local() || a == 100 && b & 0xc0 == 64
        }
        IpAddr::V6(addr) => addr.is_unique_local() || addr.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_no_other_host_is_none() {
        for (addr, host) in [
            ("198.51.100.1", true),
            ("192.168.1.5", true),
            ("2001:db8::1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("224.0.0.251", false),
            ("255.255.255.255", false),
            ("ff02::fb", false),
        ] {
            assert_eq!(is_host(&addr.parse().unwrap()), host, "{addr}");
        }
    }

    #[test]
    fn the_latest_counts_version_by_version_and_its_order_does_not() {
        let mut known = Vec::new();
        for (found, changed, then) in [
            ("192.0.2.2 192.0.2.1 192.0.2.2", true, "192.0.2.1 192.0.2.2"),
            ("192.0.2.1 192.0.2.2", false, "192.0.2.1 192.0.2.2"),
            ("2001:db8::1", true, "192.0.2.1 192.0.2.2 2001:db8::1"),
            ("192.0.2.3", true, "192.0.2.3 2001:db8::1"),
            ("", false, "192.0.2.3 2001:db8::1"),
            ("0.0.0.0 127.0.0.1 ::1", false, "192.0.2.3 2001:db8::1"),
        ] {
            assert_eq!(renew(&mut known, &addrs(found)), changed, "{found}");
            assert_eq!(known, addrs(then), "{found}");
        }
        let many: Vec<IpAddr> = (1..=30u8).map(|n| [192, 0, 2, n].into()).collect();
        assert!(renew(&mut known, &many));
        assert_eq!(known.len(), MOST_ADDRESSES + 1);
    }

    #[test]
    fn a_captive_portal_does_not_make_the_peers_forgotten() {
        for portal in ["10.0.0.1", "192.168.1.1 172.16.0.1", "169.254.1.1", "100.64.0.1"] {
            let mut known = addrs("192.0.2.1 2001:db8::1");
            assert!(!renew(&mut known, &addrs(portal)), "{portal}");
        }
        for portal in ["fd00::1", "fe80::1"] {
            assert!(!renew(&mut addrs("192.0.2.1 2001:db8::1"), &addrs(portal)), "{portal}");
            assert!(renew(&mut addrs("192.0.2.1"), &addrs(portal)), "there was none of that version");
        }
        let mut known = addrs("10.0.0.1");
        assert!(renew(&mut known, &addrs("10.0.0.2")), "a peer that lives in the household");
        assert!(renew(&mut known, &addrs("192.0.2.1 10.0.0.2")));
        assert_eq!(known, addrs("10.0.0.2 192.0.2.1"));
    }
}
