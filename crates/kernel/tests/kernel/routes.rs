//! Routes.

use crate::namespace::{NOW, apply_twice, enter_with_wan, observe, sh};
use narrowgate_kernel::Kernel;
use narrowgate_model::PROTOCOL;
use narrowgate_model::net::{Route, RouteKind};
use narrowgate_model::state::{Observed, Step};

fn route(dst: &str, metric: u32) -> Route {
    Route {
        table: 1,
        dst: dst.parse().unwrap(),
        kind: RouteKind::Unicast,
        via: None,
        link: None,
        metric,
        onlink: false,
        source: None,
        protocol: PROTOCOL,
    }
}

fn unreachable(dst: &str, metric: u32) -> Route {
    Route { kind: RouteKind::Unreachable, ..route(dst, metric) }
}

fn ours(observed: &Observed) -> Vec<Route> {
    observed.routes.iter().filter(|r| r.protocol == PROTOCOL).cloned().collect()
}

#[test]
fn every_kind_of_route_shows_as_it_was_added_and_goes_when_removed() {
    let (mut real, wan) = enter_with_wan();
    sh("ip addr add 192.0.2.77/24 dev wan; ip -6 addr add 2001:db8::77/64 dev wan nodad");
    let link = Some(wan);
    let via = |addr: &str| Some(addr.parse().unwrap());
    let routes = [
        Route { link, ..route("192.0.2.0/24", 1024) },
        Route { link, via: via("192.0.2.1"), source: via("192.0.2.77"), ..route("0.0.0.0/0", 1024) },
        Route { link, via: via("198.51.100.1"), onlink: true, ..route("203.0.113.0/24", 5) },
        Route { table: 1000, link, via: via("192.0.2.1"), ..route("0.0.0.0/0", 0) },
        unreachable("0.0.0.0/0", 65535),
        Route { link, ..route("2001:db8::/64", 1024) },
        Route { link, ..route("fe80::/64", 1024) },
        Route { link, via: via("fe80::1"), source: via("2001:db8::77"), ..route("::/0", 1024) },
        Route {
            table: 100_000,
            link,
            via: via("2001:db8:1::1"),
            onlink: true,
            ..route("2001:db8:5::/48", 7)
        },
        unreachable("::/0", 65535),
    ];
    for wanted in &routes {
        let observed = apply_twice(&mut real, &Step::AddRoute(wanted.clone()));
        assert!(observed.routes.contains(wanted), "{wanted:?} in {:?}", observed.routes);
    }
    let mut expected = routes.to_vec();
    expected.sort();
    assert_eq!(ours(&observe(&mut real)), expected);
    for wanted in &routes {
        let observed = apply_twice(&mut real, &Step::RemoveRoute(wanted.clone()));
        assert!(!observed.routes.contains(wanted), "{wanted:?}");
    }
    assert_eq!(ours(&observe(&mut real)), []);
}

#[test]
fn a_router_is_on_link_by_a_route_of_the_wan_table_alone() {
    let (mut real, wan) = enter_with_wan();
    // As policy does it: no prefix route in the main table.
    sh(
        "ip addr add 192.0.2.77/24 dev wan noprefixroute; ip -6 addr add 2001:db8::77/64 dev wan noprefixroute nodad",
    );
    let by =
        |dst, router: &str| Route { link: Some(wan), via: Some(router.parse().unwrap()), ..route(dst, 1024) };
    for (network, default) in [
        (route("192.0.2.0/24", 1024), by("0.0.0.0/0", "192.0.2.1")),
        (route("2001:db8::/64", 1024), by("::/0", "2001:db8::1")),
    ] {
        let network = Route { link: Some(wan), ..network };
        real.apply(&Step::AddRoute(default.clone()), NOW).unwrap_err();
        apply_twice(&mut real, &Step::AddRoute(network));
        let observed = apply_twice(&mut real, &Step::AddRoute(default.clone()));
        assert!(ours(&observed).contains(&default), "{:?}", observed.routes);
    }
}

#[test]
fn an_ipv4_route_replaces_the_one_with_its_key() {
    let (mut real, wan) = enter_with_wan();
    sh("ip addr add 192.0.2.77/24 dev wan");
    let by = |router: &str| Route {
        link: Some(wan),
        via: Some(router.parse().unwrap()),
        ..route("0.0.0.0/0", 1024)
    };
    apply_twice(&mut real, &Step::AddRoute(by("192.0.2.1")));
    assert_eq!(ours(&apply_twice(&mut real, &Step::AddRoute(by("192.0.2.2")))), [by("192.0.2.2")]);
    assert_eq!(
        ours(&apply_twice(&mut real, &Step::AddRoute(unreachable("0.0.0.0/0", 1024)))),
        [unreachable("0.0.0.0/0", 1024)]
    );
}

#[test]
fn ipv6_routes_by_two_routers_stand_beside_each_other_and_go_one_by_one() {
    let (mut real, wan) = enter_with_wan();
    let by =
        |router: &str| Route { link: Some(wan), via: Some(router.parse().unwrap()), ..route("::/0", 1024) };
    apply_twice(&mut real, &Step::AddRoute(by("fe80::1")));
    let observed = apply_twice(&mut real, &Step::AddRoute(by("fe80::2")));
    assert_eq!(ours(&observed), [by("fe80::1"), by("fe80::2")]);
    let observed = apply_twice(&mut real, &Step::RemoveRoute(by("fe80::1")));
    assert_eq!(ours(&observed), [by("fe80::2")]);
}

#[test]
fn an_ipv6_route_that_differs_in_its_source_only_is_replaced() {
    let (mut real, wan) = enter_with_wan();
    sh("ip -6 addr add 2001:db8::77/64 dev wan nodad");
    let plain = Route { link: Some(wan), via: Some("fe80::1".parse().unwrap()), ..route("::/0", 1024) };
    let sourced = Route { source: Some("2001:db8::77".parse().unwrap()), ..plain.clone() };
    apply_twice(&mut real, &Step::AddRoute(plain));
    assert_eq!(ours(&apply_twice(&mut real, &Step::AddRoute(sourced.clone()))), [sourced]);
}

#[test]
fn removing_a_route_leaves_a_foreign_one_of_the_same_destination() {
    let (mut real, wan) = enter_with_wan();
    sh("ip addr add 192.0.2.77/24 dev wan");
    sh("ip route add default via 192.0.2.1 dev wan table 1 metric 1024 proto static");
    sh("ip -6 route add default via fe80::1 dev wan table 1 metric 1024 proto static");
    let before = observe(&mut real).routes;
    for (dst, via) in [("0.0.0.0/0", "192.0.2.1"), ("::/0", "fe80::1")] {
        let ours = Route { link: Some(wan), via: Some(via.parse().unwrap()), ..route(dst, 1024) };
        real.apply(&Step::RemoveRoute(ours), NOW).unwrap();
    }
    assert_eq!(observe(&mut real).routes, before);
}

#[test]
fn only_what_the_scope_asks_for_is_observed() {
    let (mut real, wan) = enter_with_wan();
    sh("ip addr add 192.0.2.77/24 dev wan; ip addr add 198.51.100.1/24 dev lan");
    sh("ip route add 10.1.0.0/16 via 192.0.2.1 table 77; ip route add 10.2.0.0/16 via 198.51.100.2 table 77");
    sh(
        "ip route add 10.3.0.0/16 via 198.51.100.2 table 1; ip route add unreachable 10.4.0.0/16 table 77 proto 110",
    );
    let routes = observe(&mut real).routes;
    let seen: Vec<_> = routes
        .iter()
        .filter(|r| !r.dst.is_ipv6())
        .map(|r| (r.table, r.dst.to_string(), r.link == Some(wan)))
        .collect();
    let expected = [
        (1, "10.3.0.0/16", false),
        (77, "10.1.0.0/16", true),
        (77, "10.4.0.0/16", false),
        (254, "192.0.2.0/24", true),
    ];
    assert_eq!(seen, expected.map(|(t, d, w)| (t, d.to_owned(), w)));
}

#[test]
fn each_next_hop_of_a_multipath_route_is_seen() {
    let (mut real, wan) = enter_with_wan();
    sh("ip addr add 192.0.2.77/24 dev wan");
    sh("ip route add default table 1 nexthop via 192.0.2.1 dev wan nexthop via 192.0.2.2 dev wan weight 3");
    sh("ip route add 10.0.0.0/8 table 1 via inet6 fe80::1 dev wan");
    let routes = observe(&mut real).routes;
    let hops: Vec<_> = routes
        .iter()
        .filter(|r| r.table == 1 && !r.dst.is_ipv6())
        .map(|r| (r.via.unwrap().to_string(), r.link))
        .collect();
    assert_eq!(hops, ["192.0.2.1", "192.0.2.2", "fe80::1"].map(|a| (a.to_owned(), Some(wan))));
}

#[test]
fn the_error_names_the_route_and_gives_the_kernels_words() {
    let (mut real, wan) = enter_with_wan();
    let bad = Route { link: Some(wan), via: Some("203.0.113.1".parse().unwrap()), ..route("0.0.0.0/0", 9) };
    let error = real.apply(&Step::AddRoute(bad), NOW).unwrap_err().to_string();
    assert!(error.starts_with("adding route 0.0.0.0/0 metric 9 in table 1: "), "{error}");
    assert!(error.contains("Nexthop has invalid gateway"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}
