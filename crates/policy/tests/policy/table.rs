//! Promises of the WAN table and of the addresses.

use crate::make::*;
use narrowgate_model::Time;
use narrowgate_model::config::{ProviderKind, Uplink};
use narrowgate_model::facts::Preference;
use narrowgate_model::net::{Route, RouteKind};
use narrowgate_model::state::Observed;
use narrowgate_model::{ByName, Config, Facts, PROTOCOL};
use narrowgate_policy::desired;
use proptest::prelude::*;

fn routes(config: &Config, facts: &ByName<Facts>, observed: &Observed) -> Vec<Route> {
    desired(&inputs(config, facts, observed)).routes
}

fn of_wan(facts: Facts) -> Vec<Route> {
    let config = config();
    let observed = bare(&config);
    routes(&config, &learnt(facts), &observed)
}

/// Device and router of the default route that is used.
fn first<'a>(routes: &'a [Route], dst: &str) -> &'a Route {
    routes.iter().filter(|r| r.dst == prefix(dst)).min_by_key(|r| r.metric).unwrap()
}

#[test]
fn the_table_has_default_routes_the_links_own_prefixes_and_link_local() {
    let table = of_wan(facts());
    for dst in ["0.0.0.0/0", "192.168.1.0/24", "::/0", "2001:db8:1::/64", "fe80::/64"] {
        assert_eq!(first(&table, dst).kind, RouteKind::Unicast, "{dst}");
    }
    assert!(table.iter().all(|r| r.table == 1 && r.protocol == PROTOCOL), "nothing in another table");
}

#[test]
fn without_an_address_to_answer_to_no_ipv6_router_is_used_unless_somebody_else_manages_the_addresses() {
    let mut f = facts();
    f.addresses.retain(|a| !a.prefix.is_ipv6());
    let unicast = |config: &Config, f: &Facts| {
        let table = routes(config, &learnt(f.clone()), &bare(config));
        let dst =
            table.into_iter().filter(|r| r.kind == RouteKind::Unicast && r.dst.is_ipv6()).map(|r| r.dst);
        dst.collect::<Vec<_>>()
    };
    let mut config = config();
    assert_eq!(unicast(&config, &f), [prefix("2001:db8:1::/64"), prefix("fe80::/64")]);
    config.uplinks[0].provider = ProviderKind::Netifd;
    assert_eq!(unicast(&config, &f).len(), 3);
    config.uplinks[0].provider = ProviderKind::Builtin;
    f.addresses.push(has("2001:db8:9::77/128")); // by DHCPv6
    assert_eq!(unicast(&config, &f).len(), 3);
}

#[test]
fn behind_everything_both_families_are_unreachable() {
    for table in [of_wan(facts()), of_wan(Facts::default())] {
        for dst in ["0.0.0.0/0", "::/0"] {
            let last = table.iter().filter(|r| r.dst == prefix(dst)).max_by_key(|r| r.metric).unwrap();
            assert_eq!((last.kind, last.metric), (RouteKind::Unreachable, 65535));
        }
    }
}

#[test]
fn a_preferred_router_is_used_before_the_others() {
    let mut f = facts();
    f.routes = vec![by("::/0", "fe80::1"), by("::/0", "fe80::2"), by("::/0", "fe80::3")];
    f.routes[0].preference = Preference::Low;
    f.routes[2].preference = Preference::High;
    let table = of_wan(f);
    assert_eq!(first(&table, "::/0").via, Some(addr("fe80::3")));
    let mut order: Vec<_> = table.iter().filter(|r| r.dst.is_default() && r.dst.is_ipv6()).collect();
    order.sort_by_key(|r| r.metric);
    let vias: Vec<_> = order.iter().filter_map(|r| r.via).map(|v| v.to_string()).collect();
    assert_eq!(vias, ["fe80::3", "fe80::2", "fe80::1"]);
}

#[test]
fn the_uplink_with_the_lower_metric_is_used_and_one_without_a_carrier_only_if_there_is_no_other() {
    let mut config = config();
    config.uplinks[0].metric = 20;
    config.uplinks.push(Uplink { metric: 10, ..Uplink::new("cellular", "wwan0") });
    let mut observed = bare(&config);
    observed.links.push(link(4, "wwan0", true));
    let mut both = learnt(facts());
    let mut cellular = Facts { link: Some(link(4, "wwan0", true)), ..Facts::default() };
    cellular.routes = vec![by("0.0.0.0/0", "10.64.64.64")];
    both.insert("cellular".into(), cellular.clone());
    assert_eq!(first(&routes(&config, &both, &observed), "0.0.0.0/0").link, Some(4));
    cellular.link.as_mut().unwrap().carrier = false;
    both.insert("cellular".into(), cellular);
    assert_eq!(first(&routes(&config, &both, &observed), "0.0.0.0/0").link, Some(2));
}

#[test]
fn a_router_outside_of_all_prefixes_is_reached_all_the_same() {
    let mut f = facts();
    f.routes.push(by("0.0.0.0/0", "10.0.0.1"));
    let table = of_wan(f);
    let onlink = |via: &str| table.iter().find(|r| r.via == Some(addr(via))).unwrap().onlink;
    assert!(onlink("10.0.0.1"));
    assert!(!onlink("192.168.1.1"));
    assert!(!onlink("fe80::1"));
}

#[test]
fn more_specific_routes_are_the_uplinks_as_well() {
    let mut f = facts();
    f.routes.push(by("203.0.113.0/24", "192.168.1.2"));
    f.routes.push(by("2001:db8:5::/48", "fe80::2"));
    let table = of_wan(f);
    assert_eq!(first(&table, "203.0.113.0/24").via, Some(addr("192.168.1.2")));
    assert_eq!(first(&table, "2001:db8:5::/48").via, Some(addr("fe80::2")));
}

#[test]
fn what_has_expired_is_not_wanted_any_more() {
    let mut f = facts();
    for route in &mut f.routes {
        route.until = Some(Time(NOW.0));
    }
    for address in &mut f.addresses {
        address.valid_until = Some(Time(NOW.0 + 999));
    }
    let config = config();
    let (facts, observed) = (learnt(f), bare(&config));
    let wanted = desired(&inputs(&config, &facts, &observed));
    assert_eq!(wanted.addresses, []);
    assert!(wanted.routes.iter().all(|r| r.kind == RouteKind::Unreachable || r.dst == prefix("fe80::/64")));
}

#[test]
fn addresses_bring_no_prefix_route_and_are_preferred_no_longer_than_valid() {
    let mut f = facts();
    f.addresses[1].valid_until = Some(Time(NOW.0 + 60_000));
    let config = config();
    let (facts, observed) = (learnt(f), bare(&config));
    let wanted = desired(&inputs(&config, &facts, &observed)).addresses;
    assert!(wanted.iter().all(|a| a.no_prefix_route && a.protocol == PROTOCOL));
    assert_eq!(wanted[1].preferred_until, wanted[1].valid_until);
}

#[test]
fn a_kernel_without_ipv6_is_asked_for_none() {
    let config = config();
    let mut observed = bare(&config);
    observed.rules.retain(|r| !r.ipv6);
    observed.sysctls.retain(|path, _| !path.starts_with("net/ipv6/"));
    let facts = learnt(facts());
    let wanted = desired(&inputs(&config, &facts, &observed));
    assert!(wanted.rules.iter().all(|r| !r.ipv6));
    assert!(wanted.routes.iter().all(|r| !r.dst.is_ipv6()), "{:?}", wanted.routes);
    assert!(wanted.sysctls.keys().all(|path| !path.starts_with("net/ipv6/")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_routes_to_one_destination_have_the_same_metric(
        (config, observed) in any_config().prop_flat_map(|c| { let o = any_observed(&c); (Just(c), o) }),
        facts in any_facts(),
    ) {
        let ours = routes(&config, &facts, &observed);
        let foreign = observed.routes.iter().filter(|r| r.table == 1 && r.protocol != PROTOCOL);
        let mut keys: Vec<_> = foreign.chain(&ours).map(|r| (r.dst, r.metric)).collect();
        let all = keys.len();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), all);
        for route in ours.iter().filter(|r| r.kind == RouteKind::Unreachable) {
            prop_assert!(ours.iter().all(|r| r.dst != route.dst || r.metric <= route.metric));
        }
    }
}
