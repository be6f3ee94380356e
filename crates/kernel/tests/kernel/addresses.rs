//! Addresses.

use crate::namespace::{NOW, apply_twice, enter_with_wan, observe, sh};
use narrowgate_kernel::Kernel;
use narrowgate_model::net::Address;
use narrowgate_model::state::Step;
use narrowgate_model::{PROTOCOL, Time};
use std::time::Duration;

fn address(link: u32, prefix: &str) -> Address {
    Address {
        link,
        prefix: prefix.parse().unwrap(),
        broadcast: None,
        preferred_until: None,
        valid_until: None,
        no_prefix_route: true,
        protocol: PROTOCOL,
        dad_failed: false,
        tentative: false,
    }
}

#[test]
fn an_address_shows_as_it_was_added_and_goes_when_removed() {
    let (mut real, wan) = enter_with_wan();
    let mut four = address(wan, "192.0.2.77/24");
    four.broadcast = Some("192.0.2.255".parse().unwrap());
    for wanted in [four, address(wan, "2001:db8::77/64")] {
        let observed = apply_twice(&mut real, &Step::AddAddress(wanted.clone()));
        assert!(has(&observed, &wanted), "{:?}", observed.addresses);
        let observed = apply_twice(&mut real, &Step::RemoveAddress(wanted.clone()));
        assert!(!observed.addresses.iter().any(|a| a.prefix == wanted.prefix), "{:?}", observed.addresses);
    }
}

#[test]
fn an_address_without_prefix_route_makes_none_and_one_with_it_does() {
    let (mut real, wan) = enter_with_wan();
    for (prefix, network) in [("192.0.2.77/24", "192.0.2.0/24"), ("2001:db8::77/64", "2001:db8::/64")] {
        let mut wanted = address(wan, prefix);
        let has_route =
            |o: &narrowgate_model::state::Observed| o.routes.iter().any(|r| r.dst.to_string() == network);
        let observed = apply_twice(&mut real, &Step::AddAddress(wanted.clone()));
        assert!(!has_route(&observed), "{:?}", observed.routes);
        real.apply(&Step::RemoveAddress(wanted.clone()), NOW).unwrap();
        wanted.no_prefix_route = false;
        let observed = apply_twice(&mut real, &Step::AddAddress(wanted.clone()));
        assert!(has_route(&observed), "{:?}", observed.routes);
        assert!(has(&observed, &wanted), "{:?}", observed.addresses);
    }
}

#[test]
fn lifetimes_come_back_to_the_second_and_are_changed_in_place() {
    let (mut real, wan) = enter_with_wan();
    for prefix in ["192.0.2.77/24", "2001:db8::77/64"] {
        for (preferred, valid) in
            [(Some(1800), Some(3600)), (Some(60), Some(120)), (None, None), (Some(0), Some(7200))]
        {
            let mut wanted = address(wan, prefix);
            wanted.preferred_until = preferred.map(|s| NOW + Duration::from_secs(s));
            wanted.valid_until = valid.map(|s| NOW + Duration::from_secs(s));
            real.apply(&Step::AddAddress(wanted.clone()), NOW).unwrap();
            let seen = observe(&mut real).addresses.into_iter().find(|a| a.prefix == wanted.prefix).unwrap();
            assert!(close(seen.preferred_until, wanted.preferred_until), "{prefix}: {seen:?}");
            assert!(close(seen.valid_until, wanted.valid_until), "{prefix}: {seen:?}");
        }
    }
}

#[test]
fn removing_an_address_leaves_the_others_of_its_network_and_the_routes() {
    let (mut real, wan) = enter_with_wan();
    for prefix in ["192.0.2.77/24", "192.0.2.78/24"] {
        real.apply(&Step::AddAddress(address(wan, prefix)), NOW).unwrap();
    }
    sh("ip addr add 192.0.2.79/24 dev wan; ip route add 203.0.113.0/24 dev wan src 192.0.2.78");
    real.apply(&Step::RemoveAddress(address(wan, "192.0.2.77/24")), NOW).unwrap();
    let observed = observe(&mut real);
    let mut left: Vec<_> =
        observed.addresses.iter().filter(|a| !a.prefix.is_ipv6()).map(|a| a.prefix.to_string()).collect();
    left.sort();
    assert_eq!(left, ["192.0.2.78/24", "192.0.2.79/24"]);
    assert!(observed.routes.iter().any(|r| r.dst.to_string() == "203.0.113.0/24"), "{:?}", observed.routes);
    assert_eq!(sh("sysctl -n net.ipv4.conf.wan.promote_secondaries").trim(), "0");
}

#[test]
fn a_foreign_address_is_seen_on_the_uplink_and_not_elsewhere() {
    let (mut real, wan) = enter_with_wan();
    sh("ip addr add 198.51.100.1/24 dev wan; ip addr add 198.51.100.2/24 dev lan");
    let addresses = observe(&mut real).addresses;
    let foreign: Vec<_> =
        addresses.iter().filter(|a| !a.prefix.is_ipv6()).map(|a| (a.link, a.protocol)).collect();
    assert_eq!(foreign, [(wan, 0)]);
}

#[test]
fn a_duplicate_address_is_seen_as_such() {
    let (mut real, wan) = enter_with_wan();
    sh("sysctl -qw net.ipv6.conf.wan.accept_dad=1 net.ipv6.conf.wan.dad_transmits=1");
    sh("ip -6 addr add 2001:db8::1/64 dev lan nodad");
    sh("ip link set wan down && ip link set wan up");
    real.apply(&Step::AddAddress(address(wan, "2001:db8::1/64")), NOW).unwrap();
    let started = std::time::Instant::now();
    loop {
        let seen = observe(&mut real)
            .addresses
            .into_iter()
            .find(|a| a.prefix.to_string() == "2001:db8::1/64")
            .unwrap();
        assert!(seen.tentative || seen.dad_failed, "{seen:?}");
        if seen.dad_failed {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "the kernel has not found the duplicate");
        std::thread::yield_now();
    }
}

/// IPv6 addresses are tentative for the moment that the kernel takes to see that it need not look for duplicates.
fn has(observed: &narrowgate_model::state::Observed, wanted: &Address) -> bool {
    observed.addresses.iter().any(|a| Address { tentative: false, ..a.clone() } == *wanted)
}

fn close(a: Option<Time>, b: Option<Time>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.0.abs_diff(b.0) <= 2000,
        (a, b) => a == b,
    }
}
