//! Any bytes can be decoded, what we encode comes back, and is what the bindings encode.

use super::oracle::{self, content};
use super::{address, link, route, rule};
use narrowgate_model::net::{Address, FwMark, Link, Route, RouteKind, Rule, RuleAction, Selector};
use narrowgate_model::{Prefix, Time};
use proptest::prelude::*;
use std::net::IpAddr;
use std::time::Duration;

const NOW: Time = Time(1_000_000);

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_a_panic(body in message()) {
        let _ = (decoded(link::decode, &body), decoded(rule::decode, &body));
        let _ = address::decode(&body, NOW);
        let mut routes = Vec::new();
        route::decode(&body, &mut |route| routes.push(route));
        // No hop is shorter than its header.
        prop_assert!(routes.len() <= 1 + body.len() / 8);
    }

    #[test]
    fn a_route_comes_back_as_it_was_encoded(wanted in routes()) {
        let mut body = Vec::new();
        route::encode(&mut body, &wanted, false);
        for encoded in [&body, &oracle::route(&wanted, false)] {
            let mut seen = Vec::new();
            route::decode(encoded, &mut |route| seen.push(route));
            prop_assert_eq!(&seen[..], std::slice::from_ref(&wanted));
            prop_assert_eq!(content(encoded, 12), content(&body, 12));
        }
        body.clear();
        route::encode(&mut body, &wanted, true);
        prop_assert_eq!(content(&oracle::route(&wanted, true), 12), content(&body, 12));
    }

    #[test]
    fn a_question_for_routes_is_that_of_the_bindings(ipv6: bool, number: u32, protocol: u8) {
        use route::Filter;
        for filter in [Filter::Table(number), Filter::Protocol(protocol), Filter::Device(number)] {
            prop_assert_eq!(route::dump_request(ipv6, filter), oracle::route_request(ipv6, filter));
        }
    }

    #[test]
    fn a_rule_comes_back_as_it_was_encoded(wanted in rules()) {
        let mut body = Vec::new();
        rule::encode(&mut body, &wanted);
        let theirs = oracle::rule(&wanted);
        prop_assert_eq!(content(&body, 12), content(&theirs, 12));
        prop_assert_eq!(decoded(rule::decode, &theirs), Some(wanted.clone()));
        prop_assert_eq!(decoded(rule::decode, &body), Some(wanted));
    }

    #[test]
    fn an_address_comes_back_as_it_was_encoded_with_lifetimes_to_the_second(wanted in addresses()) {
        let mut body = Vec::new();
        address::encode_new(&mut body, &wanted, NOW);
        let theirs = oracle::address(&wanted, NOW);
        prop_assert_eq!(content(&body, 8), content(&theirs, 8));
        prop_assert_eq!(address::decode(&theirs, NOW), Some(wanted.clone()));
        prop_assert_eq!(address::decode(&body, NOW), Some(wanted));
    }

    #[test]
    fn a_link_of_the_bindings_is_read(wanted in links()) {
        prop_assert_eq!(decoded(link::decode, &oracle::link(&wanted)), Some(wanted.clone()));
        let mut body = Vec::new();
        link::encode_switch(&mut body, &wanted.name, wanted.up);
        prop_assert_eq!(content(&body, 16), content(&oracle::switch(&wanted.name, wanted.up), 16));
    }
}

#[test]
fn a_lifetime_that_has_passed_is_never_sent_as_none_at_all() {
    let mut old = Address {
        link: 1,
        prefix: "192.0.2.1/24".parse().unwrap(),
        broadcast: None,
        preferred_until: Some(Time(0)),
        valid_until: Some(Time(0)),
        no_prefix_route: true,
        protocol: 0,
        dad_failed: false,
        tentative: false,
    };
    for (preferred, seen) in [(Some(Time(0)), Some(NOW)), (None, Some(NOW + Duration::from_secs(1)))] {
        old.preferred_until = preferred;
        let mut body = Vec::new();
        address::encode_new(&mut body, &old, NOW);
        let decoded = address::decode(&body, NOW).unwrap();
        // The kernel refuses a valid lifetime of 0, and a preferred one longer than the valid one.
        assert_eq!(
            (decoded.valid_until, decoded.preferred_until),
            (Some(NOW + Duration::from_secs(1)), seen)
        );
    }
}

#[test]
fn a_rule_with_more_than_we_know_is_said_to_be_unknown() {
    use narrowgate_sys::netlink::Put;
    let rule = Rule {
        ipv6: false,
        priority: 1,
        selector: Selector::default(),
        action: RuleAction::Lookup(1),
        suppress_prefix_len: None,
        protocol: 0,
    };
    let unknown = |kind, value: &[u8]| {
        let mut body = Vec::new();
        rule::encode(&mut body, &rule);
        body.put(kind, value);
        decoded(rule::decode, &body).expect("of IPv4").selector.unknown
    };
    let known: [(u16, &[u8]); 6] =
        [(11, &[0; 4]), (18, &[]), (25, &[4]), (28, &[0xff; 2]), (29, &[0xff; 2]), (30, &[0x3f])];
    for (kind, value) in known {
        assert!(!unknown(kind, value), "{kind}");
    }
    let strange: [(u16, &[u8]); 11] = [
        (1, &[0; 16]),
        (4, &[0; 3]),
        (5, &[]),
        (13, &[0; 4]),
        (20, &[0; 7]),
        (26, &[0; 4]),
        (28, &[0xff, 0xfe]),
        (29, &[0; 2]),
        (30, &[0x3e]),
        (31, &[0; 4]),
        (63, &[]),
    ];
    for (kind, value) in strange {
        assert!(unknown(kind, value), "{kind}");
    }
}

/// The one thing that a message is about.
fn decoded<T>(decode: fn(&[u8], &mut Vec<T>), body: &[u8]) -> Option<T> {
    let mut all = Vec::new();
    decode(body, &mut all);
    assert!(all.len() <= 1);
    all.pop()
}

/// Bytes that look like messages often enough: a header of some family, and attributes that mostly have sane lengths.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let header =
        (prop_oneof![Just(2u8), Just(10), Just(0), any::<u8>()], prop::collection::vec(any::<u8>(), 7..16));
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(prop_oneof![Just(0u8), Just(8), Just(5), Just(1)], 0..40),
    ];
    let attribute = (value, 0u16..64, prop_oneof![9 => Just(0i16), 1 => -50..50i16]);
    (header, prop::collection::vec(attribute, 0..8)).prop_map(|((family, rest), attributes)| {
        let mut body = vec![family];
        body.extend(rest);
        for (value, kind, wrong) in attributes {
            let len = (value.len() as u16 + 4).wrapping_add_signed(wrong);
            body.extend(len.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(&value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body
    })
}

fn address_of(ipv6: bool) -> BoxedStrategy<IpAddr> {
    if ipv6 {
        any::<[u8; 16]>().prop_map(IpAddr::from).boxed()
    } else {
        any::<[u8; 4]>().prop_map(IpAddr::from).boxed()
    }
}

fn prefix(ipv6: bool, at_least: u8) -> impl Strategy<Value = Prefix> {
    (address_of(ipv6), at_least..=if ipv6 { 128 } else { 32 }).prop_map(|(addr, len)| Prefix::new(addr, len))
}

fn routes() -> impl Strategy<Value = Route> {
    any::<bool>().prop_flat_map(|ipv6| {
        let rest = (1u32.., any::<Option<u32>>(), any::<u32>(), any::<bool>(), any::<u8>());
        let addresses =
            (prefix(ipv6, 0), prop::option::of(address_of(ipv6)), prop::option::of(address_of(ipv6)));
        (addresses, rest).prop_map(|((dst, via, source), (table, link, metric, onlink, protocol))| Route {
            table,
            dst: dst.network(),
            kind: if link.is_some() { RouteKind::Unicast } else { RouteKind::Unreachable },
            via,
            link,
            metric,
            onlink,
            source,
            protocol,
        })
    })
}

fn links() -> impl Strategy<Value = Link> {
    let numbers = (1u32..1 << 31, any::<u32>(), any::<u32>());
    let rest = (any::<Option<[u8; 6]>>(), any::<bool>(), any::<bool>(), any::<Option<u32>>());
    ("[a-z0-9.-]{1,15}", numbers, rest).prop_map(
        |(name, (index, carrier_losses, mtu), (mac, up, carrier, bridge))| Link {
            index,
            name,
            mac,
            up,
            carrier,
            carrier_losses,
            mtu,
            bridge,
        },
    )
}

fn rules() -> impl Strategy<Value = Rule> {
    let name = || prop::option::of("[a-z0-9.-]{1,15}");
    any::<bool>().prop_flat_map(move |ipv6| {
        let prefix = || prop::option::of(prefix(ipv6, 1));
        let mark = prop::option::of(any::<(u32, u32)>().prop_map(|(value, mask)| FwMark { value, mask }));
        let numbers = (
            any::<Option<u8>>(),
            any::<Option<(u16, u16)>>(),
            any::<Option<(u16, u16)>>(),
            any::<Option<(u32, u32)>>(),
        );
        let selector = (
            any::<bool>(),
            prefix(),
            prefix(),
            name(),
            name(),
            mark,
            numbers,
            any::<Option<u64>>(),
            any::<bool>(),
        );
        let action = prop_oneof![
            (1u32..).prop_map(RuleAction::Lookup),
            any::<u32>().prop_map(RuleAction::Goto),
            Just(RuleAction::Nop),
            Just(RuleAction::Unreachable),
            Just(RuleAction::Prohibit),
            Just(RuleAction::Blackhole),
            Just(RuleAction::Other(77)),
        ];
        (selector, action, any::<u32>(), any::<u8>(), prop::option::of(0u32..=128)).prop_map(
            move |(
                (invert, src, dst, iif, oif, mark, (ip_proto, sport, dport, uid), tun_id, l3mdev),
                action,
                priority,
                protocol,
                len,
            )| Rule {
                ipv6,
                priority,
                selector: Selector {
                    invert,
                    src,
                    dst,
                    iif,
                    oif,
                    mark,
                    ip_proto,
                    sport,
                    dport,
                    uid,
                    tos: Some(0x10),
                    tun_id,
                    l3mdev,
                    unknown: false,
                },
                action,
                suppress_prefix_len: len,
                protocol,
            },
        )
    })
}

fn addresses() -> impl Strategy<Value = Address> {
    any::<bool>().prop_flat_map(|ipv6| {
        let seconds = prop::option::of(1u64..u32::MAX as u64);
        let broadcast = if ipv6 {
            Just(None).boxed()
        } else {
            any::<Option<[u8; 4]>>().prop_map(|b| b.map(Into::into)).boxed()
        };
        (prefix(ipv6, 0), any::<u32>(), seconds.clone(), seconds, any::<bool>(), 1u8.., broadcast).prop_map(
            |(prefix, link, a, b, no_prefix_route, protocol, broadcast)| {
                let until = |s: u64| NOW + Duration::from_secs(s);
                // The preferred lifetime is not the longer one.
                let (preferred, valid) = match (a, b) {
                    (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
                    (a, b) => (a.or(b), None),
                };
                Address {
                    link,
                    prefix,
                    broadcast,
                    preferred_until: preferred.map(until),
                    valid_until: valid.map(until),
                    no_prefix_route,
                    protocol,
                    dad_failed: false,
                    tentative: false,
                }
            },
        )
    })
}
