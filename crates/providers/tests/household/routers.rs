//! Several routers and prefixes (radvd), and DHCPv4 by another server than dnsmasq (Kea).

use crate::node::{Node, now};
use crate::place::{Place, WAN, ip};
use crate::{DHCP, has_address, has_default, has_dns};
use narrowgate_model::facts::{Origin, Preference};

#[test]
fn several_routers_and_prefixes_stand_side_by_side_with_their_preferences() {
    let mut place = Place::new();
    place.neighbour(&[]);
    place.radvd(&(QUICK.to_owned() + "AdvLinkMTU 1492; AdvDefaultPreference high; prefix 2001:db8:1::/64 {}; \
        prefix 2001:db8:2::/64 { AdvAutonomous off; }; prefix 2001:db8:4::/64 { AdvOnLink off; }; RDNSS 2001:db8:1::53 { AdvRDNSSLifetime 60; };"));
    place.second_router(
        &(QUICK.to_owned()
            + "AdvDefaultPreference low; prefix 2001:db8:3::/64 {}; \
        route 2001:db8:f::/48 {};"),
    );
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("both routers", 10, |f| {
        let defaults: Vec<Preference> =
            f.routes.iter().filter(|r| r.dst.is_default()).map(|r| r.preference).collect();
        defaults.contains(&Preference::High) && defaults.contains(&Preference::Low)
    });
    let facts = node.provider.facts();
    let on_link: Vec<String> =
        facts.routes.iter().filter(|r| r.via.is_none()).map(|r| r.dst.to_string()).collect();
    for prefix in ["2001:db8:1::/64", "2001:db8:2::/64", "2001:db8:3::/64"] {
        assert!(on_link.contains(&prefix.to_owned()), "{on_link:?}");
    }
    assert_eq!(on_link.len(), 3);
    assert_eq!(facts.addresses.len(), 3);
    for start in ["2001:db8:1:", "2001:db8:3:", "2001:db8:4:"] {
        assert!(has_address(facts, start), "{start}");
    }
    let routers: Vec<_> = facts.routes.iter().filter(|r| r.dst.is_default()).map(|r| r.via).collect();
    let specific = facts.routes.iter().find(|r| r.dst.to_string() == "2001:db8:f::/48").expect("the route");
    assert!(routers.contains(&specific.via));
    assert!(has_dns(facts, "2001:db8:1::53"));
    assert_eq!(facts.mtu, Some(1492));
    // One of them leaves: radvd says so when it ends, by a lifetime of 0.
    place.stop_second_router();
    node.until("the first alone", 10, |f| f.routes.iter().filter(|r| r.dst.is_default()).count() == 1);
}

#[test]
fn a_household_that_is_renumbered_is_followed_at_once() {
    let mut place = Place::new();
    place.radvd(
        &(QUICK.to_owned() + "prefix 2001:db8:1::/64 {}; RDNSS 2001:db8:1::53 { AdvRDNSSLifetime 60; };"),
    );
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("the old prefix", 10, |f| has_address(f, "2001:db8:1:") && has_dns(f, "2001:db8:1::53"));
    place.stop_daemons();
    place.radvd(
        &(QUICK.to_owned()
            + "prefix 2001:db8:1::/64 { AdvValidLifetime 0; AdvPreferredLifetime 0; }; \
        prefix 2001:db8:2::/64 {}; RDNSS 2001:db8:1::53 { AdvRDNSSLifetime 0; }; RDNSS 2001:db8:2::53 { AdvRDNSSLifetime 60; };"),
    );
    node.until("the new prefix", 10, |f| {
        has_address(f, "2001:db8:2:") && has_dns(f, "2001:db8:2::53") && !has_dns(f, "2001:db8:1::53")
    });
    let facts = node.provider.facts();
    assert!(has_default(facts, Origin::Ra));
    assert!(!facts.routes.iter().any(|r| r.dst.to_string() == "2001:db8:1::/64"), "on-link no more");
    let old =
        facts.addresses.iter().find(|a| a.prefix.to_string().starts_with("2001:db8:1:")).expect("two hours");
    assert!(old.preferred_until.is_some_and(|t| t <= now()), "but for nothing new");
}

#[test]
fn dns_servers_stand_in_the_order_in_which_the_household_named_them() {
    let mut place = Place::new();
    place.dnsmasq(&[DHCP, &["--dhcp-option=option:dns-server,192.0.2.53,192.0.2.54"]].concat());
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("DHCPv4's", 10, |f| has_dns(f, "192.0.2.54"));
    place.radvd(&(QUICK.to_owned() + "RDNSS 2001:db8:1::53 { AdvRDNSSLifetime 60; };"));
    node.until("the RA's", 10, |f| has_dns(f, "2001:db8:1::53"));
    let dns: Vec<String> = node.provider.facts().dns.iter().map(|d| d.server.to_string()).collect();
    assert_eq!(dns, ["192.0.2.53", "192.0.2.54", "2001:db8:1::53"]);
}

#[test]
fn kea_lends_with_classless_routes_and_a_captive_portal() {
    let mut place = Place::new();
    place.kea(
        "kea-dhcp4",
        r#"{ "Dhcp4": {
            "interfaces-config": { "interfaces": [ "lan0" ], "service-sockets-max-retries": 50, "service-sockets-retry-wait-time": 100 },
            "lease-database": { "type": "memfile", "persist": false },
            "renew-timer": 3, "rebind-timer": 6, "valid-lifetime": 3600,
            "option-def": [ { "name": "classless", "code": 121, "type": "binary" } ],
            "option-data": [
                { "name": "routers", "data": "192.0.2.9" },
                { "name": "domain-name-servers", "data": "192.0.2.53" },
                { "name": "v4-captive-portal", "data": "https://portal.example/api" },
                { "name": "classless", "data": "00c00002010c0a10c0000207" }
            ],
            "subnet4": [ { "interface": "lan0", "subnet": "192.0.2.0/24",
                "pools": [ { "pool": "192.0.2.100-192.0.2.150" } ] } ],
            "loggers": [ { "name": "kea-dhcp4", "severity": "INFO", "output_options": [ { "output": "stdout" } ] } ]
        } }"#,
    );
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("a lease", 10, |f| has_address(f, "192.0.2.1") && has_dns(f, "192.0.2.53"));
    let facts = node.provider.facts();
    let routes: Vec<String> = facts
        .routes
        .iter()
        .map(|r| format!("{} {}", r.dst, r.via.map_or("on-link".to_owned(), |via| via.to_string())))
        .collect();
    assert_eq!(routes, ["192.0.2.0/24 on-link", "0.0.0.0/0 192.0.2.1", "10.16.0.0/12 192.0.2.7"]);
    assert_eq!(facts.portals[0].uri, "https://portal.example/api");
    let first = facts.addresses[0].clone();
    node.until("its extension", 6, |f| f.addresses[0].valid_until > first.valid_until);
    assert_eq!(node.provider.facts().addresses[0].prefix, first.prefix);
}

const QUICK: &str = "MinRtrAdvInterval 3; MaxRtrAdvInterval 4; ";
