//! `option strict`: what is marked leaves only to the uplink's DNS servers and to the peers.

use crate::guard::{any_packet, housekeeping};
use crate::make::*;
use narrowgate_model::config::{Host, Inbound, Peer, Resolver, Uplink};
use narrowgate_model::nft::{
    Action, CT_ESTABLISHED, CT_RELATED, CtDirection, Family, Hook, Match, Ruleset, Set,
};
use narrowgate_model::{Config, Facts};
use narrowgate_policy::desired;
use narrowgate_policy::verdict::{Packet, Source, walk, way_out};
use proptest::prelude::*;
use std::net::IpAddr;

const TCP: u8 = 6;
const UDP: u8 = 17;

fn strict() -> Config {
    Config { strict: true, ..config() }
}

fn ruleset(config: &Config, facts: Facts) -> Ruleset {
    let mut observed = bare(config);
    observed.links[1].up = true;
    let facts = learnt(facts);
    (*desired(&inputs(config, &facts, &observed)).ruleset).clone()
}

/// Through the chains that see what this host's own sockets send.
fn leaves(rules: &Ruleset, packet: &Packet) -> (bool, Option<&'static str>) {
    let passage = walk(rules, &[(Family::Inet, Hook::Output), (Family::Inet, Hook::Postrouting)], packet);
    (passage.passes, passage.rule.and_then(|r| r.counter))
}

fn marked(to: &str) -> Packet {
    let from = if to.contains(':') { "2001:db8:1::77" } else { "192.168.1.77" };
    Packet { mark: 1, l4proto: UDP, dport: 10000, ..Packet::out("eth0", addr(from), addr(to)) }
}

#[test]
fn marked_packets_leave_to_peers_and_dns_servers_and_nobody_else() {
    let rules = ruleset(&strict(), facts());
    let peer = |p: Packet| Packet { to_peer: true, ..p };
    let dns = |p: Packet| Packet { dport: 53, ..p };
    for (what, packet, verdict) in [
        ("a peer", peer(marked("198.51.100.1")), (true, "out_tunnel")),
        ("a peer, IPv6", peer(marked("2001:db8:f::1")), (true, "out_tunnel")),
        (
            "a peer, without the mark",
            Packet { mark: 0, ..peer(marked("198.51.100.1")) },
            (false, "leak_output"),
        ),
        ("no peer", marked("198.51.100.1"), (false, "out_strict_refused")),
        ("no peer, IPv6", marked("2001:db8:f::1"), (false, "out_strict_refused")),
        ("DNS", dns(marked("192.168.1.1")), (true, "out_dns")),
        ("DNS over TCP", Packet { l4proto: TCP, ..dns(marked("192.168.1.1")) }, (true, "out_dns")),
        ("DNS, link-local", dns(marked("fe80::1")), (true, "out_dns")),
        ("DNS to a server that nobody told of", dns(marked("198.51.100.1")), (false, "out_strict_refused")),
        (
            "the DNS server's web page",
            Packet { l4proto: TCP, dport: 80, ..marked("192.168.1.1") },
            (false, "out_strict_refused"),
        ),
        (
            "an answer to a listed service",
            Packet {
                l4proto: TCP,
                sport: 22,
                ct: Some((CtDirection::Reply, CT_ESTABLISHED)),
                ..marked("192.168.1.9")
            },
            (true, "out_reply"),
        ),
    ] {
        assert_eq!(leaves(&rules, &packet), (verdict.0, Some(verdict.1)), "{what}");
    }
}

/// A packet socket with the mark passes no chain but the last.
#[test]
fn marked_frames_of_packet_sockets_go_where_marked_packets_go() {
    let rules = ruleset(&strict(), facts());
    let frame = |packet: Packet| {
        let passage = way_out(&rules, &Packet { ct: None, ..packet }, Source::Frame);
        (passage.passes, passage.rule.and_then(|r| r.counter))
    };
    for (what, packet, verdict) in [
        ("a peer", Packet { to_peer: true, ..marked("198.51.100.1") }, (true, "egress_marked")),
        ("a peer, IPv6", Packet { to_peer: true, ..marked("2001:db8:f::1") }, (true, "egress_marked")),
        (
            "a peer, unmarked",
            Packet { to_peer: true, mark: 0, ..marked("198.51.100.1") },
            (false, "leak_egress"),
        ),
        ("no peer", marked("198.51.100.1"), (false, "egress_strict_refused")),
        ("no peer, IPv6", marked("2001:db8:f::1"), (false, "egress_strict_refused")),
        ("DNS", Packet { dport: 53, ..marked("192.168.1.1") }, (true, "egress_marked")),
        ("DNS, link-local", Packet { dport: 53, ..marked("fe80::1") }, (true, "egress_marked")),
        (
            "another DNS server",
            Packet { dport: 53, ..marked("198.51.100.1") },
            (false, "egress_strict_refused"),
        ),
        (
            "an answer of ssh",
            Packet { l4proto: TCP, sport: 22, ..marked("192.168.1.9") },
            (true, "egress_marked"),
        ),
        (
            "a question to ssh",
            Packet { l4proto: TCP, dport: 22, ..marked("192.168.1.9") },
            (false, "egress_strict_refused"),
        ),
        (
            "a ping",
            Packet { l4proto: 1, icmp_type: 8, ..marked("192.168.1.9") },
            (false, "egress_strict_refused"),
        ),
        (
            "an answer to one",
            Packet { l4proto: 1, icmp_type: 0, ..marked("192.168.1.9") },
            (true, "egress_marked"),
        ),
        (
            "an error",
            Packet { l4proto: 58, icmp_type: 1, ..marked("2001:db8:1::9") },
            (true, "egress_marked"),
        ),
        ("DHCP", Packet { sport: 68, dport: 67, ..marked("255.255.255.255") }, (true, "egress_marked")),
    ] {
        assert_eq!(frame(packet), (verdict.0, Some(verdict.1)), "{what}");
    }
    let rules = ruleset(&config(), facts());
    assert!(
        way_out(&rules, &marked("198.51.100.1"), Source::Frame).passes,
        "without strict the mark is enough"
    );
}

#[test]
fn the_servers_are_those_that_the_resolver_asks_with_their_ports() {
    let to = |server: &str, port| Packet { dport: port, ..marked(server) };
    let mut config = strict();
    config.uplinks[0].dns = vec!["192.0.2.53:5353".parse().unwrap()];
    let rules = ruleset(&config, facts());
    assert!(leaves(&rules, &to("192.0.2.53", 5353)).0, "written at the uplink");
    assert!(!leaves(&rules, &to("192.0.2.53", 53)).0, "another port");
    assert!(!leaves(&rules, &to("192.168.1.1", 53)).0, "what was learnt does not count then");

    config.resolvers[0].servers = vec!["192.0.2.54".parse().unwrap()];
    let rules = ruleset(&config, facts());
    assert!(leaves(&rules, &to("192.0.2.54", 53)).0, "written at the resolver");
    assert!(!leaves(&rules, &to("192.0.2.53", 5353)).0);

    config.resolvers.push(Resolver { name: "other".into(), servers: Vec::new(), ..Resolver::default_wan() });
    let rules = ruleset(&config, facts());
    assert!(leaves(&rules, &to("192.0.2.54", 53)).0 && leaves(&rules, &to("192.0.2.53", 5353)).0);
}

#[test]
fn peers_that_are_written_as_addresses_are_in_the_sets_before_anything_is_known() {
    let mut config = strict();
    let peer = |host: &str| Peer {
        host: host.parse().map_or_else(|_| Host::Name(host.into()), Host::Addr),
        port: None,
    };
    let hosts = ["198.51.100.9", "vpn.example.net", "2001:db8:f::9", "198.51.100.9", "198.51.100.1"];
    config.tunnels[0].peers = hosts.map(peer).to_vec();
    let observed = bare(&config);
    let rules = desired(&inputs(&config, &Default::default(), &observed)).ruleset;
    let sets = &rules.tables.iter().find(|t| t.family == Family::Inet).unwrap().sets;
    let of = |name| sets.iter().find(|s: &&Set| s.name == name).unwrap().elements.clone();
    assert_eq!(of(Set::PEERS4), [addr("198.51.100.1"), addr("198.51.100.9")]);
    assert_eq!(of(Set::PEERS6), [addr("2001:db8:f::9")]);
    let fewer = Config { tunnels: Vec::new(), ..config.clone() };
    let others = desired(&inputs(&fewer, &Default::default(), &observed)).ruleset;
    assert_ne!(rules.fingerprint(), others.fingerprint(), "a change of them alone is a change of the guard");
}

#[test]
fn without_strict_there_are_no_sets_and_marked_packets_go_anywhere() {
    let rules = ruleset(&config(), facts());
    assert!(rules.tables.iter().all(|t| t.sets.is_empty()));
    assert!(leaves(&rules, &marked("198.51.100.1")).0);
    let names = rules.tables.iter().flat_map(|t| &t.counters);
    assert!(names.clone().all(|c| *c != "out_strict_refused"));
}

#[test]
fn every_set_that_a_rule_names_is_there_and_what_is_refreshed_was_matched() {
    let mut config = strict();
    config.uplinks.push(Uplink::new("cellular", "wwan0"));
    for table in ruleset(&config, facts()).tables {
        for rule in table.chains.iter().flat_map(|c| &c.rules) {
            for m in &rule.matches {
                if let Match::DstInSet(name, version) = m {
                    assert!(table.sets.iter().any(|s| (s.name, s.version) == (name, *version)), "{rule:?}");
                }
            }
            if let Action::AcceptAndRefresh { set, version, .. } = rule.action {
                assert!(rule.matches.contains(&Match::DstInSet(set, version)), "{rule:?}");
            }
        }
    }
}

#[test]
fn a_household_that_tells_of_thousands_of_servers_does_not_fill_the_guard() {
    let mut told = facts();
    told.dns = (0..5000).map(|n| dns(&format!("10.1.{}.{}", n / 256, n % 256))).collect();
    let rules = ruleset(&strict(), told);
    let count: usize = rules.tables.iter().flat_map(|t| &t.chains).map(|c| c.rules.len()).sum();
    assert!(count < 250, "{count} rules");
    let first = Packet { dport: 53, ..marked("10.1.0.0") };
    assert!(leaves(&rules, &first).0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The contract as a predicate: whatever leaves with the mark is housekeeping, goes to a peer or to a DNS server, or answers somebody.
    #[test]
    fn nothing_marked_leaves_but_to_dns_servers_and_set_members((packet, _) in any_packet(), to_peer: bool, to_server: bool) {
        let mut packet = Packet { to_peer, mark: packet.mark | 1, ..packet };
        if to_server && packet.dst.is_some() {
            let v6 = packet.dst.is_some_and(|d| d.is_ipv6());
            packet.dst = Some(addr(if v6 { "fe80::1" } else { "192.168.1.1" }));
        }
        if packet.arp.is_some() {
            return Ok(()); // has no mark
        }
        let config = Config { strict: true, ..config() };
        let rules = ruleset(&config, facts());
        let looped = packet.dst.is_some_and(|d| d.is_loopback());
        let servers: [IpAddr; 2] = [addr("fe80::1"), addr("192.168.1.1")];
        let dns = packet.dst.is_some_and(|d| servers.contains(&d)) && matches!(packet.l4proto, TCP | UDP) && packet.dport == 53;
        let icmp = matches!(packet.l4proto, 1 | 58);
        let answers = packet.ct.is_some_and(|(direction, state)| {
            icmp && state & CT_RELATED != 0
                || direction == CtDirection::Reply
                    && (packet.l4proto == TCP && packet.sport == 22
                        || packet.l4proto == 1 && packet.icmp_type == 0
                        || packet.l4proto == 58 && packet.icmp_type == 129)
        });
        // A lease's server may be behind the household's router.
        let dhcp = packet.ether_type == 0x0800 && (packet.l4proto, packet.sport, packet.dport) == (UDP, 68, 67);
        let original = packet.ct.is_some_and(|(direction, _)| direction == CtDirection::Original);
        let allowed = !looped && (housekeeping(&packet) || answers || original && (to_peer || dns || dhcp));
        prop_assert_eq!(leaves(&rules, &packet).0, allowed);
        // The last chain, which a packet socket's frame meets alone, knows no connections.
        let v6 = packet.dst.is_some_and(|d| d.is_ipv6());
        let looks_like_an_answer = match packet.l4proto {
            TCP => packet.sport == 22,
            1 => packet.icmp_type == 0 || !v6 && matches!(packet.icmp_type, 3 | 11 | 12),
            58 => packet.icmp_type == 129 || v6 && matches!(packet.icmp_type, 1..=4),
            _ => false,
        };
        let frame = way_out(&rules, &packet, Source::Frame);
        prop_assert_eq!(frame.passes, housekeeping(&packet) || to_peer || dns || dhcp || looks_like_an_answer);
        if !frame.passes {
            prop_assert_eq!(frame.rule.and_then(|r| r.counter), Some("egress_strict_refused"));
        }
        prop_assert!(config.uplinks[0].inbound.contains(&Inbound::Tcp(22)));
    }
}
