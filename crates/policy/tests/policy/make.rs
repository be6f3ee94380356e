//! Short hands, and generators that like collisions.

use narrowgate_model::config::{Inbound, ProviderKind, Tunnel, Uplink};
use narrowgate_model::facts::{AddressFact, DnsFact, Origin, Preference, RouteFact};
use narrowgate_model::net::{Address, FwMark, Link, Route, RouteKind, Rule, RuleAction, Selector};
use narrowgate_model::state::Observed;
use narrowgate_model::{ByName, Config, Facts, Mark, PROTOCOL, Prefix, Time};
use narrowgate_policy::{Capabilities, Inputs, sysctl_paths};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;

pub const NOW: Time = Time(1_000_000);

pub fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One uplink `wan` on `eth0`, one tunnel.
pub fn config() -> Config {
    let tunnel =
        Tunnel { name: "mesh_vpn".into(), group: None, device: None, peers: Vec::new(), cgroup: None };
    Config { uplinks: vec![Uplink::new("wan", "eth0")], tunnels: vec![tunnel], ..Config::default() }
}

pub fn link(index: u32, name: &str, up: bool) -> Link {
    Link {
        index,
        name: name.into(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        up,
        carrier: up,
        mtu: 1500,
        ..Link::default()
    }
}

pub fn on_link(dst: &str) -> RouteFact {
    RouteFact { dst: prefix(dst), via: None, preference: Preference::Medium, until: None, origin: Origin::Ra }
}

pub fn by(dst: &str, via: &str) -> RouteFact {
    RouteFact { via: Some(addr(via)), ..on_link(dst) }
}

pub fn has(address: &str) -> AddressFact {
    AddressFact {
        prefix: prefix(address),
        broadcast: None,
        preferred_until: None,
        valid_until: None,
        origin: Origin::Dhcp4,
    }
}

pub fn dns(server: &str) -> DnsFact {
    DnsFact { server: server.parse().unwrap(), until: None, origin: Origin::Ra }
}

/// A household with both families.
pub fn facts() -> Facts {
    Facts {
        link: Some(link(2, "eth0", true)),
        addresses: vec![has("192.168.1.77/24"), has("2001:db8:1::77/64")],
        routes: vec![on_link("2001:db8:1::/64"), by("::/0", "fe80::1"), by("0.0.0.0/0", "192.168.1.1")],
        dns: vec![dns("fe80::1"), dns("192.168.1.1")],
        ..Facts::default()
    }
}

pub fn learnt(facts: Facts) -> ByName<Facts> {
    ByName::from([("wan".to_owned(), facts)])
}

/// A kernel as it boots: two devices, its own rules, all sysctls at 0.
pub fn bare(config: &Config) -> Observed {
    let standing = |ipv6, priority, table| foreign(ipv6, priority, RuleAction::Lookup(table));
    Observed {
        sysctls: sysctl_paths(config).into_iter().map(|path| (path, "0".to_owned())).collect(),
        links: vec![link(1, "lo", true), link(2, "eth0", false), link(3, "mesh-vpn", true)],
        rules: [false, true].map(|v6| [standing(v6, 0, 255), standing(v6, 32766, 254)]).concat(),
        ..Observed::default()
    }
}

pub fn foreign(ipv6: bool, priority: u32, action: RuleAction) -> Rule {
    Rule { ipv6, priority, selector: Selector::default(), action, suppress_prefix_len: None, protocol: 2 }
}

pub fn inputs<'a>(config: &'a Config, facts: &'a ByName<Facts>, observed: &'a Observed) -> Inputs<'a> {
    Inputs {
        config,
        groups: &[800],
        facts,
        observed,
        capabilities: Capabilities { egress: true, absent_devices: false },
        now: NOW,
    }
}

// ---- generators ----

pub fn any_config() -> impl Strategy<Value = Config> {
    let provider = prop_oneof![
        Just(ProviderKind::Auto),
        Just(ProviderKind::Builtin),
        Just(ProviderKind::Netifd),
        Just(ProviderKind::Static)
    ];
    let mark = prop_oneof![
        4 => Just(Mark::DEFAULT),
        1 => Just(Mark { value: 0x5, mask: 0x7 }),
        1 => Just(Mark { value: 0x100, mask: 0xff00 })
    ];
    let inbound =
        vec(prop_oneof![Just(Inbound::Ping), Just(Inbound::Tcp(22)), Just(Inbound::Udp(161))], 0..3);
    let uplink = (provider, inbound, prop_oneof![Just(0u32), Just(1), Just(84), Just(512)]);
    (vec(uplink, 1..3), mark, prop_oneof![4 => Just(100u32), 1 => Just(1u32), 1 => Just(20000u32)]).prop_map(
        |(uplinks, mark, rule_priority)| {
            let names = [("wan", "eth0"), ("cellular", "wwan0")];
            let uplinks =
                uplinks.into_iter().zip(names).map(|((provider, inbound, metric), (name, device))| Uplink {
                    provider,
                    inbound,
                    metric,
                    ..Uplink::new(name, device)
                });
            Config { uplinks: uplinks.collect(), mark, rule_priority, ..config() }
        },
    )
}

pub fn any_route_fact() -> impl Strategy<Value = RouteFact> {
    let dst = prop_oneof![
        Just("0.0.0.0/0"),
        Just("::/0"),
        Just("192.168.1.0/24"),
        Just("2001:db8:1::/64"),
        Just("fe80::/64"),
        Just("10.0.0.0/8")
    ];
    let via = prop_oneof![
        Just(None),
        Just(Some("192.168.1.1")),
        Just(Some("192.168.1.2")),
        Just(Some("10.9.9.9")),
        Just(Some("fe80::1")),
        Just(Some("fe80::2")),
        Just(Some("2001:db8:2::1"))
    ];
    let preference = prop_oneof![Just(Preference::Low), Just(Preference::Medium), Just(Preference::High)];
    (dst, via, preference, proptest::option::of(999_000u64..1_010_000)).prop_map(
        |(dst, via, preference, until)| RouteFact {
            dst: prefix(dst),
            via: via.map(addr),
            preference,
            until: until.map(Time),
            origin: Origin::Ra,
        },
    )
}

fn any_address_fact() -> impl Strategy<Value = AddressFact> {
    let until = || proptest::option::of(999_000u64..1_100_000);
    (any_own_prefix(), until(), until()).prop_map(|(text, preferred, valid)| AddressFact {
        preferred_until: preferred.map(Time),
        valid_until: valid.map(Time),
        ..has(text)
    })
}

fn any_own_prefix() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("192.168.1.77/24"),
        Just("192.168.1.78/24"),
        Just("10.0.0.5/8"),
        Just("2001:db8:1::77/64"),
        Just("2001:db8:1::77/128"),
        Just("2001:db8:1::78/64")
    ]
}

fn any_mtu() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![Just(None), Just(Some(1280)), Just(Some(1492)), Just(Some(9000))]
}

/// Facts of both uplinks, their devices there or not.
pub fn any_facts() -> impl Strategy<Value = ByName<Facts>> {
    let one = |index, device: &'static str| {
        let known = (vec(any_route_fact(), 0..6), vec(any_address_fact(), 0..4), any::<bool>(), any_mtu());
        known.prop_map(move |(routes, addresses, carrier, mtu)| Facts {
            link: Some(Link { carrier, ..link(index, device, true) }),
            routes,
            addresses,
            mtu,
            ..Facts::default()
        })
    };
    (one(2, "eth0"), one(4, "wwan0")).prop_map(|(wan, cellular)| {
        ByName::from([("wan".to_owned(), wan), ("cellular".to_owned(), cellular)])
    })
}

pub fn any_selector() -> impl Strategy<Value = Selector> {
    let src = prop_oneof![4 => Just(None), 1 => Just(Some("2001:db8:1::77/128")), 1 => Just(Some("2001:db8:1::/64"))];
    let dst =
        prop_oneof![4 => Just(None), 1 => Just(Some("2001:db8:1::/64")), 1 => Just(Some("2001:db8:9::/64"))];
    let iif = prop_oneof![3 => Just(None), 2 => Just(Some("lo")), 1 => Just(Some("mesh-vpn"))];
    let mark = prop_oneof![
        6 => Just(None),
        1 => Just(Some((1, 1))),
        1 => Just(Some((0, 1))),
        1 => Just(Some((0x100, 0xff00))),
        1 => Just(Some((4, 6)))
    ];
    let rare = (
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.05),
        proptest::option::weighted(0.1, Just((0, 99))),
    );
    (src, dst, iif, mark, rare).prop_map(|(src, dst, iif, mark, (invert, unknown, uid))| Selector {
        invert,
        src: src.map(prefix),
        dst: dst.map(prefix),
        iif: iif.map(str::to_owned),
        mark: mark.map(|(value, mask)| FwMark { value, mask }),
        uid,
        unknown,
        ..Selector::default()
    })
}

fn any_rule(protocol: u8) -> impl Strategy<Value = Rule> {
    let priority = prop_oneof![
        Just(0u32),
        Just(1),
        Just(99),
        Just(100),
        Just(101),
        Just(9999),
        Just(10000),
        Just(10001),
        Just(20000),
        Just(32766),
        Just(90007)
    ];
    let action = prop_oneof![
        8 => Just(RuleAction::Lookup(1)),
        2 => Just(RuleAction::Lookup(52)),
        2 => Just(RuleAction::Lookup(254)),
        1 => prop_oneof![Just(100u32), Just(10000), Just(20000), Just(32766), Just(50000)].prop_map(RuleAction::Goto),
        1 => Just(RuleAction::Nop),
        1 => Just(RuleAction::Unreachable),
        1 => Just(RuleAction::Prohibit)
    ];
    let suppress = proptest::option::weighted(0.1, Just(0));
    (any::<bool>(), priority, any_selector(), action, suppress).prop_map(
        move |(ipv6, priority, mut selector, action, suppress_prefix_len)| {
            if !ipv6 {
                selector.src = selector.src.map(|_| prefix("192.168.1.0/24"));
                selector.dst = selector.dst.map(|_| prefix("192.168.1.0/24"));
            }
            Rule { ipv6, priority, selector, action, suppress_prefix_len, protocol }
        },
    )
}

/// What a kernel could have: nothing twice, no jumps backwards, in order of priority, its own rules beside.
pub fn rules(foreign: Vec<Rule>, config: &Config) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    for rule in bare(config).rules.into_iter().chain(foreign) {
        let backwards = matches!(rule.action, RuleAction::Goto(to) if to <= rule.priority);
        if !backwards && !all.iter().any(|is| super::world::exists(is, &rule)) {
            all.push(rule);
        }
    }
    all.sort_by_key(|r| (r.ipv6, r.priority));
    all
}

pub fn any_foreign_rules() -> impl Strategy<Value = Vec<Rule>> {
    vec(any_rule(2), 0..8)
}

fn any_route(protocol: u8) -> impl Strategy<Value = Route> {
    let metric =
        prop_oneof![Just(1u32), Just(17), Just(18), Just(100), Just(65535), Just(65536), Just(70000)];
    let link = prop_oneof![Just(2u32), Just(4), Just(3)];
    let table = prop_oneof![4 => Just(1u32), 1 => Just(254), 1 => Just(52)];
    (any_route_fact(), metric, link, table, any::<bool>()).prop_map(
        move |(fact, metric, link, table, dead)| {
            let via = fact.via.filter(|via| via.is_ipv6() == fact.dst.is_ipv6());
            Route {
                table,
                dst: fact.dst,
                kind: if dead { RouteKind::Unreachable } else { RouteKind::Unicast },
                via: via.filter(|_| !dead),
                link: if dead { fact.dst.is_ipv6().then_some(1) } else { Some(link) },
                metric,
                onlink: via.is_some() && !dead,
                source: None,
                protocol,
            }
        },
    )
}

fn any_address(protocol: u8) -> impl Strategy<Value = Address> {
    let until = || proptest::option::of(999_000u64..1_100_000);
    let link = prop_oneof![Just(2u32), Just(4)];
    (any_own_prefix(), link, until(), any::<bool>()).prop_map(move |(text, link, valid, no_prefix_route)| {
        Address {
            link,
            prefix: prefix(text),
            broadcast: None,
            preferred_until: valid.map(Time),
            valid_until: valid.map(Time),
            no_prefix_route,
            protocol,
            dad_failed: false,
            tentative: false,
        }
    })
}

/// Any kernel: with foreign things, and with leftovers of ours that fit or do not.
pub fn any_observed(config: &Config) -> impl Strategy<Value = Observed> + use<> {
    let config = config.clone();
    let devices = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let sysctl = prop_oneof![Just("0"), Just("1")];
    let things = (
        vec(prop_oneof![any_rule(2), any_rule(2), any_rule(PROTOCOL)], 0..10),
        vec(prop_oneof![any_route(4), any_route(PROTOCOL)], 0..8),
        vec(prop_oneof![any_address(3), any_address(PROTOCOL)], 0..5),
    );
    (devices, sysctl, things).prop_map(
        move |((eth_there, eth_up, wwan_there, wwan_up), value, (rs, routes, addresses))| {
            let mut o = bare(&config);
            o.links = vec![link(1, "lo", true), link(3, "mesh-vpn", true)];
            o.links.extend(eth_there.then(|| link(2, "eth0", eth_up)));
            o.links.extend(wwan_there.then(|| link(4, "wwan0", wwan_up)));
            o.sysctls.retain(|_, v| {
                value.clone_into(v);
                true
            });
            o.rules = rules(rs, &config);
            for route in routes {
                let key = |r: &Route| (r.table, r.dst, r.metric);
                let up = route.link.is_none_or(|i| o.links.iter().any(|l| l.index == i && l.up));
                if up && !o.routes.iter().any(|r| key(r) == key(&route)) {
                    o.routes.push(route);
                }
            }
            for address in addresses {
                let twice = |a: &Address| a.link == address.link && a.prefix.addr == address.prefix.addr;
                if o.links.iter().any(|l| l.index == address.link) && !o.addresses.iter().any(twice) {
                    o.addresses.push(address);
                }
            }
            o
        },
    )
}
