//! What we are told, and what not.

use crate::namespace::{NOW, enter_with_wan, observe, sh};
use crate::ruleset::everything;
use narrowgate_kernel::{Events, Kernel, Real, Scope};
use narrowgate_model::PROTOCOL;
use narrowgate_model::net::{Address, FwMark, Route, RouteKind, Rule, RuleAction, Selector};
use narrowgate_model::state::Step;

/// The kernel of a namespace in which all has been observed and nothing happens any more.
fn quiet() -> (Real, u32) {
    let (mut real, wan) = enter_with_wan();
    // The kernel tells of a carrier when it comes to it (link_watch), on a busy machine a second later.
    while sh("ip -o link show").matches(" state UP ").count() < 2 {}
    sh("sysctl -qw net.ipv6.conf.wan.disable_ipv6=1 net.ipv6.conf.lan.disable_ipv6=1");
    observe(&mut real);
    real.drain_events();
    (real, wan)
}

#[test]
fn what_others_change_is_told_by_its_kind() {
    let (mut real, _) = quiet();
    let none = Events::default();
    let cases = [
        ("ip addr add 192.0.2.1/24 dev lan", Events { addresses: true, ..none }),
        ("ip addr add 198.51.100.1/24 dev wan", Events { addresses: true, routes: true, ..none }),
        ("ip rule add pref 5 lookup 7", Events { rules: true, ..none }),
        ("ip -6 rule add pref 5 lookup 7", Events { rules: true, ..none }),
        ("ip route add 10.0.0.0/8 via 192.0.2.2 table 1", Events { routes: true, ..none }),
        ("ip route add 10.0.0.0/8 via 198.51.100.2 table 9", Events { routes: true, ..none }),
        ("ip route add 10.0.0.0/8 via 192.0.2.2 table 9 metric 9", none),
        ("ip link set lan mtu 1400", Events { links: true, ..none }),
        ("nft add table inet fw4", none),
        ("nft add table inet narrowgate", Events { nft: true, ..none }),
        ("nft flush ruleset", Events { nft: true, ..none }),
    ];
    for (command, expected) in cases {
        sh(command);
        assert_eq!(real.drain_events(), expected, "{command}");
        assert_eq!(real.drain_events(), none, "{command}");
    }
}

#[test]
fn a_sysctl_that_others_write_is_told_also_of_a_device_that_was_made_again() {
    let (mut real, _) = quiet();
    let (global, own) = ("net/ipv4/fwmark_reflect".to_owned(), "net/ipv4/conf/wan/src_valid_mark".to_owned());
    let scope = Scope { sysctls: vec![global.clone(), own.clone()], ..crate::namespace::scope() };
    real.observe(&scope, NOW).unwrap();
    let sysctls = Events { sysctls: true, ..Events::default() };
    for command in ["sysctl -w net.ipv4.fwmark_reflect=1", "sysctl -w net.ipv4.conf.wan.src_valid_mark=1"] {
        sh(command);
        assert_eq!(real.drain_events(), sysctls, "{command}");
        assert_eq!(real.drain_events(), Events::default(), "{command}");
    }
    sh("sysctl net.ipv4.fwmark_reflect && sysctl -w net.ipv4.conf.lan.src_valid_mark=1");
    assert_eq!(real.drain_events(), Events::default(), "reading, and what is not ours");
    for path in [global, own] {
        real.apply(&Step::SetSysctl { path, value: "0".to_owned() }, NOW).unwrap();
        assert_eq!(real.drain_events(), Events::default(), "what we write ourselves");
    }
    sh("ip link del wan && ip link add wan type veth peer name lan");
    real.observe(&scope, NOW).unwrap();
    real.drain_events();
    sh("sysctl -w net.ipv4.conf.wan.src_valid_mark=1");
    assert_eq!(real.drain_events(), sysctls);
}

#[test]
fn what_we_change_ourselves_is_not_told() {
    let (mut real, wan) = quiet();
    let address = Address {
        link: wan,
        prefix: "192.0.2.77/24".parse().unwrap(),
        broadcast: None,
        preferred_until: None,
        valid_until: None,
        no_prefix_route: true,
        protocol: PROTOCOL,
        dad_failed: false,
        tentative: false,
    };
    let route = Route {
        table: 1,
        dst: "192.0.2.0/24".parse().unwrap(),
        kind: RouteKind::Unicast,
        via: None,
        link: Some(wan),
        metric: 1024,
        onlink: false,
        source: None,
        protocol: PROTOCOL,
    };
    let mark = Some(FwMark { value: 1, mask: 1 });
    let rule = Rule {
        ipv6: true,
        priority: 900,
        selector: Selector { mark, ..Selector::default() },
        action: RuleAction::Lookup(1),
        suppress_prefix_len: None,
        protocol: PROTOCOL,
    };
    let steps = [
        Step::SetGuard(everything().into()),
        Step::AddRule(rule.clone()),
        Step::AddAddress(address.clone()),
        Step::AddRoute(route.clone()),
        Step::RemoveRoute(route),
        Step::RemoveAddress(address),
        Step::RemoveRule(rule),
        Step::RemoveGuard,
    ];
    for step in steps {
        real.apply(&step, NOW).unwrap();
        assert_eq!(real.drain_events(), Events::default(), "{step:?}");
    }
}

#[test]
fn a_flushed_guard_is_told_even_if_it_was_an_orphan() {
    let (mut real, _) = quiet();
    let mut other = Real::open().unwrap();
    other.apply(&Step::SetGuard(everything().into()), NOW).unwrap();
    drop(other);
    real.drain_events();
    sh("nft flush ruleset");
    assert!(real.drain_events().nft);
    assert!(observe(&mut real).guard.chains.is_empty());
}

#[test]
fn lost_events_are_told_as_such_and_the_next_ones_come() {
    let (mut real, _) = quiet();
    sh("for i in $(seq 4000); do echo rule add pref $i lookup 7; done | ip -batch -");
    let events = real.drain_events();
    assert!(events.lost && events.rules, "{events:?}");
    sh("ip rule del pref 4000");
    assert_eq!(real.drain_events(), Events { rules: true, ..Events::default() });
    assert_eq!(observe(&mut real).rules.iter().filter(|r| r.action == RuleAction::Lookup(7)).count(), 3999);
}
