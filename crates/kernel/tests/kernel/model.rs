//! The fake kernel does what the real one does: any steps in any order have the same success and leave the same behind.

use crate::namespace::{NOW, enter, scope, sh};
use narrowgate_kernel::{Fake, Kernel, Real};
use narrowgate_model::PROTOCOL;
use narrowgate_model::net::{Address, FwMark, Route, RouteKind, Rule, RuleAction, Selector};
use narrowgate_model::state::{Observed, Step};
use narrowgate_sys::link;
use proptest::prelude::*;
use std::time::{Duration, Instant};

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fake_kernel_and_the_real_one_agree(choices in prop::collection::vec(any::<prop::sample::Index>(), 1..40)) {
        let (mut real, wan) = a_device_without_noise();
        let mut fake = Fake::new();
        fake.add_link("lan", true);
        fake.links.push(narrowgate_model::net::Link { index: wan, name: "wan".to_owned(), ..fake.links[0].clone() });
        for up in ["lo", "lan", "wan"] {
            fake.apply(&Step::SetLink { name: up.to_owned(), up: true }, NOW).unwrap();
        }
        let steps = pool(wan);
        let mut done = Vec::new();
        for choice in choices {
            let step = choice.get(&steps);
            done.push(step);
            let on_real = real.apply(step, NOW);
            let on_fake = fake.apply(step, NOW);
            prop_assert_eq!(on_real.is_ok(), on_fake.is_ok(), "{:?} {:?} after {:#?}", on_real, on_fake, done);
            let seen = settled(&mut real);
            let expected = fake.observe(&scope(), NOW).unwrap();
            prop_assert_eq!(summary(&seen), summary(&expected), "after {:#?}", done);
        }
    }
}

/// A new namespace with `wan` and `lan`, where the kernel makes no addresses and routes of its own.
fn a_device_without_noise() -> (Real, u32) {
    let real = enter();
    sh(
        "ip link add wan type veth peer name lan; ip link set wan addrgenmode none; ip link set lan addrgenmode none",
    );
    sh(
        "sysctl -qw net.ipv6.conf.wan.accept_dad=0; ip link set lo up; ip link set lan up; ip link set wan up",
    );
    (real, link::index_of("wan").unwrap())
}

/// What is there when no address is tentative any more: until then none can be a route's source.
fn settled(real: &mut Real) -> Observed {
    let started = Instant::now();
    loop {
        let seen = real.observe(&scope(), NOW).unwrap();
        if !seen.addresses.iter().any(|a| a.tentative) {
            return seen;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "an address stays tentative: {:?}",
            seen.addresses
        );
        std::thread::yield_now();
    }
}

type Summary = (Vec<(String, u32, bool, u8)>, Vec<Route>, Vec<Rule>, bool);

fn summary(observed: &Observed) -> Summary {
    let mut addresses: Vec<_> = observed
        .addresses
        .iter()
        .map(|a| (a.prefix.to_string(), a.link, a.no_prefix_route, a.protocol))
        .collect();
    addresses.sort();
    let up = observed.links.iter().any(|l| l.name == "wan" && l.up);
    let mut routes = observed.routes.clone();
    routes.sort();
    (addresses, routes, observed.rules.clone(), up)
}

/// Steps of a little world in which they get in each other's way.
fn pool(wan: u32) -> Vec<Step> {
    let mut steps = vec![
        Step::SetLink { name: "wan".to_owned(), up: true },
        Step::SetLink { name: "wan".to_owned(), up: false },
        Step::SetLink { name: "gone".to_owned(), up: true },
        Step::SetSysctl { path: "net/ipv4/conf/gone/rp_filter".to_owned(), value: "0".to_owned() },
    ];
    for text in ["192.0.2.77/24", "192.0.2.78/24", "198.51.100.7/31", "2001:db8::77/64", "2001:db8:1::78/64"]
    {
        let address = address(wan, text);
        steps.push(Step::AddAddress(address.clone()));
        steps.push(Step::RemoveAddress(address));
    }
    for route in routes(wan) {
        steps.push(Step::AddRoute(route.clone()));
        steps.push(Step::RemoveRoute(route));
    }
    for rule in rules() {
        steps.push(Step::AddRule(rule.clone()));
        steps.push(Step::RemoveRule(rule));
    }
    steps
}

fn address(link: u32, text: &str) -> Address {
    Address {
        link,
        prefix: text.parse().unwrap(),
        broadcast: None,
        // With an end to it, an IPv6 address leaves its prefix route to expire.
        preferred_until: None,
        valid_until: None,
        // The two that share a prefix have none, lest it matter which of them the route is of.
        no_prefix_route: text.starts_with("192.0.2"),
        protocol: PROTOCOL,
        dad_failed: false,
        tentative: false,
    }
}

fn routes(wan: u32) -> Vec<Route> {
    let route = |dst: &str, via: Option<&str>, source: Option<&str>, metric| Route {
        table: 1,
        dst: dst.parse().unwrap(),
        kind: RouteKind::Unicast,
        via: via.map(|a| a.parse().unwrap()),
        link: Some(wan),
        metric,
        onlink: false,
        source: source.map(|a| a.parse().unwrap()),
        protocol: PROTOCOL,
    };
    let unreachable =
        |dst, metric| Route { kind: RouteKind::Unreachable, link: None, ..route(dst, None, None, metric) };
    vec![
        route("192.0.2.0/24", None, None, 10),
        route("0.0.0.0/0", Some("192.0.2.1"), None, 10),
        route("0.0.0.0/0", Some("192.0.2.2"), Some("192.0.2.77"), 10),
        route("0.0.0.0/0", Some("198.51.100.6"), None, 20),
        Route { onlink: true, ..route("203.0.113.0/24", Some("203.0.113.1"), None, 10) },
        unreachable("0.0.0.0/0", 65535),
        route("2001:db8::/64", None, None, 10),
        route("fe80::/64", None, None, 10),
        route("::/0", Some("fe80::1"), None, 10),
        route("::/0", Some("fe80::2"), None, 10),
        // With a metric of their own: of routes that differ in the router alone, the kernel shows one source for all.
        route("::/0", Some("fe80::1"), Some("2001:db8::77"), 30),
        route("::/0", Some("fe80::1"), None, 30),
        unreachable("::/0", 65535),
    ]
}

fn rules() -> Vec<Rule> {
    let rule = |ipv6, priority, value, action| Rule {
        ipv6,
        priority,
        selector: Selector { mark: Some(FwMark { value, mask: 1 }), ..Selector::default() },
        action,
        suppress_prefix_len: None,
        protocol: PROTOCOL,
    };
    vec![
        rule(false, 900, 1, RuleAction::Lookup(1)),
        rule(false, 901, 0, RuleAction::Lookup(254)),
        rule(true, 900, 1, RuleAction::Lookup(1)),
        rule(true, 901, 0, RuleAction::Unreachable),
    ]
}
