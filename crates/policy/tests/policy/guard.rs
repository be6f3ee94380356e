//! Promises of the guard, as a table of packets and as a property: what passes is what the contract says, and nothing else.

use crate::make::*;
use narrowgate_model::config::{Inbound, ProviderKind, Uplink};
use narrowgate_model::net::Link;
use narrowgate_model::nft::{
    Action, CT_ESTABLISHED, CT_NEW, CT_RELATED, Chain, ChainKind, CtDirection, Family, Hook, Match, Ruleset,
    Table,
};
use narrowgate_model::state::Observed;
use narrowgate_model::{ByName, Config, Mark};
use narrowgate_policy::verdict::{Packet, Source, walk, way_in, way_out};
use narrowgate_policy::{Capabilities, Inputs, desired};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const ORIGINAL: Option<(CtDirection, u32)> = Some((CtDirection::Original, CT_ESTABLISHED));
const REPLY: Option<(CtDirection, u32)> = Some((CtDirection::Reply, CT_ESTABLISHED));
const RELATED: Option<(CtDirection, u32)> = Some((CtDirection::Reply, CT_RELATED));

fn ruleset(config: &Config) -> Ruleset {
    let mut observed = bare(config);
    observed.links[1].up = true;
    let facts = learnt(facts());
    (*desired(&inputs(config, &facts, &observed)).ruleset).clone()
}

/// To somewhere in the internet, by `eth0`.
fn dhcp(to: &str) -> Packet {
    Packet { l4proto: UDP, sport: 68, dport: 67, dst: Some(addr(to)), ..v4() }
}

fn v4() -> Packet {
    Packet::out("eth0", addr("192.168.1.77"), addr("198.51.100.1"))
}

fn v6() -> Packet {
    Packet::out("eth0", addr("2001:db8:1::77"), addr("2001:db8:ffff::1"))
}

fn marked(packet: Packet) -> Packet {
    Packet { mark: 1, ..packet }
}

fn arp(op: u16, sender: &str, target: &str) -> Packet {
    let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    Packet {
        ether_type: 0x0806,
        src: None,
        dst: None,
        ct: None,
        arp: Some((op, ip(sender), ip(target))),
        ..v4()
    }
}

fn nd(icmp_type: u8, src: &str, dst: &str, target: &str) -> Packet {
    Packet {
        l4proto: ICMPV6,
        icmp_type,
        nd_target: Some(target.parse().unwrap()),
        ct: None,
        ..Packet::out("eth0", addr(src), addr(dst))
    }
}

#[test]
fn what_may_leave_and_what_may_not() {
    use Source::*;
    let rules = ruleset(&config());
    let dns = |p: Packet| Packet { l4proto: UDP, dport: 53, ..p };
    let tcp = |p: Packet, sport| Packet { l4proto: TCP, sport, ct: REPLY, ..p };
    let icmp = |p: Packet, l4proto, icmp_type| Packet { l4proto, icmp_type, ..p };
    for (what, packet, source, passes) in [
        ("the tunnel, IPv4", marked(v4()), Local, true),
        ("the tunnel, IPv6", marked(v6()), Local, true),
        ("the tunnel with others' marks beside", Packet { mark: 0xff01, ..v4() }, Local, true),
        ("the tunnel's DNS", dns(marked(v4())), Local, true),
        ("an unmarked packet, IPv4", v4(), Local, false),
        ("an unmarked packet, IPv6", v6(), Local, false),
        ("somebody else's mark", Packet { mark: 0xff00, ..v4() }, Local, false),
        ("unmarked DNS", dns(v4()), Local, false),
        ("unmarked DNS to the router", Packet { dst: Some(addr("192.168.1.1")), ..dns(v4()) }, Local, false),
        (
            "unmarked DNS to the link-local router",
            Packet { dst: Some(addr("fe80::1")), ..dns(v6()) },
            Local,
            false,
        ),
        ("mDNS", Packet { dst: Some(addr("224.0.0.251")), dport: 5353, ..dns(v4()) }, Local, false),
        ("mDNS, IPv6", Packet { dst: Some(addr("ff02::fb")), dport: 5353, ..dns(v6()) }, Local, false),
        ("a broadcast", Packet { dst: Some(addr("255.255.255.255")), ..dns(v4()) }, Local, false),
        ("a ping", icmp(v4(), ICMP, 8), Local, false),
        ("a ping, IPv6", icmp(v6(), ICMPV6, 128), Local, false),
        ("a marked ping", icmp(marked(v4()), ICMP, 8), Local, true),
        ("a packet that conntrack does not know", Packet { ct: None, ..marked(v4()) }, Local, false),
        ("a forwarded packet", v4(), Forwarded, false),
        ("a forwarded packet with the mark", marked(v6()), Forwarded, false),
        ("ssh's answer to the household", tcp(marked(v4()), 22), Local, true),
        ("ssh's answer without the mark", tcp(v4(), 22), Local, false),
        ("a web server's answer", tcp(marked(v4()), 80), Local, false),
        ("a ping's answer", Packet { ct: REPLY, ..icmp(marked(v4()), ICMP, 0) }, Local, true),
        ("a ping's answer, IPv6", Packet { ct: REPLY, ..icmp(marked(v6()), ICMPV6, 129) }, Local, true),
        ("an ICMP error", Packet { ct: RELATED, ..icmp(marked(v4()), ICMP, 3) }, Local, true),
        (
            "an ICMP error that belongs to nothing",
            Packet { ct: None, ..icmp(marked(v4()), ICMP, 3) },
            Local,
            false,
        ),
        ("a redirected query", Packet { dst: Some(addr("127.0.0.1")), dport: 54, ..dns(v4()) }, Local, false),
        ("an AF_PACKET frame", v4(), Frame, false),
        ("an AF_PACKET frame with the mark", marked(v4()), Frame, true),
        ("DHCP to everybody", dhcp("255.255.255.255"), Frame, true),
        ("DHCP to everybody by an IP socket", dhcp("255.255.255.255"), Local, true),
        ("DHCP to the household's server", dhcp("192.168.1.1"), Frame, true),
        ("DHCP to the household's server by an IP socket", dhcp("192.168.1.1"), Local, true),
        ("DHCP to a stranger", dhcp("198.51.100.1"), Frame, false),
        ("DHCP to a stranger by an IP socket", dhcp("198.51.100.1"), Local, false),
        ("DHCP to a server elsewhere with the mark", marked(dhcp("198.51.100.1")), Local, true),
        (
            "DHCPv6",
            Packet { l4proto: UDP, sport: 546, dport: 547, dst: Some(addr("ff02::1:2")), ..v6() },
            Local,
            true,
        ),
        ("DHCPv6 to anybody", Packet { l4proto: UDP, sport: 546, dport: 547, ..v6() }, Local, false),
        ("ARP for the router", arp(1, "192.168.1.77", "192.168.1.1"), Frame, true),
        ("ARP for a stranger", arp(1, "192.168.1.77", "198.51.100.1"), Frame, false),
        ("ARP probe", arp(1, "0.0.0.0", "192.168.1.78"), Frame, true),
        ("ARP probe for a stranger", arp(1, "0.0.0.0", "10.0.0.1"), Frame, false),
        ("ARP answer", arp(2, "192.168.1.77", "192.168.1.1"), Frame, true),
        ("ARP answer for the mesh's address", arp(2, "10.42.0.2", "192.168.1.1"), Frame, false),
        ("router solicitation", nd(133, "fe80::77", "ff02::2", "::"), Local, true),
        ("duplicate address detection", nd(135, "::", "ff02::1:ff00:77", "2001:db8:1::77"), Local, true),
        ("neighbour solicitation", nd(135, "fe80::77", "ff02::1:ff00:1", "2001:db8:1::1"), Local, true),
        ("neighbour solicitation, link-local", nd(135, "fe80::77", "ff02::1:ff00:1", "fe80::1"), Local, true),
        (
            "neighbour solicitation for a stranger",
            nd(135, "fe80::77", "ff02::1:ff00:1", "2001:db8:ffff::1"),
            Local,
            false,
        ),
        ("neighbour advertisement", nd(136, "fe80::77", "fe80::1", "fe80::77"), Local, true),
        (
            "neighbour advertisement to a stranger",
            nd(136, "fe80::77", "2001:db8:ffff::1", "fe80::77"),
            Local,
            false,
        ),
        (
            "neighbour advertisement of our address to a router that asks from elsewhere",
            nd(136, "2001:db8:1::77", "2001:db8:ffff::1", "2001:db8:1::77"),
            Local,
            true,
        ),
        (
            "neighbour advertisement of somebody else's address to a stranger",
            nd(136, "2001:db8:1::77", "2001:db8:ffff::1", "2001:db8:1::78"),
            Local,
            false,
        ),
        ("MLD report", nd(143, "fe80::77", "ff02::16", "::"), Local, true),
        ("MLD report of version 1", nd(131, "fe80::77", "ff05::2", "::"), Local, true),
        ("MLD report to a whole site", nd(143, "fe80::77", "ff05::2", "::"), Local, false),
        ("IGMP report", Packet { l4proto: 2, dst: Some(addr("224.0.0.22")), ..v4() }, Local, true),
        ("IGMP to a stranger", Packet { l4proto: 2, ..v4() }, Local, false),
        ("ICMPv6's number in IPv4", Packet { l4proto: ICMPV6, icmp_type: 135, ..v4() }, Local, false),
        ("LLDP", Packet { ether_type: 0x88cc, src: None, dst: None, ..v4() }, Frame, false),
        (
            "LLDP with the mark",
            Packet { ether_type: 0x88cc, src: None, dst: None, ..marked(v4()) },
            Frame,
            false,
        ),
        ("EAPOL", Packet { ether_type: 0x888e, src: None, dst: None, ..v4() }, Frame, true),
    ] {
        let passage = way_out(&rules, &packet, source);
        assert_eq!(passage.passes, passes, "{what}: {:?}", passage.rule);
        if source == Local {
            // Not only thanks to egress, which older kernels have not.
            let inet = [(Family::Inet, Hook::Output), (Family::Inet, Hook::Postrouting)];
            assert_eq!(walk(&rules, &inet, &packet).passes, passes, "{what}, without egress");
        }
        assert!(passage.passes || passage.rule.is_some_and(|r| r.counter.is_some()), "{what}: not counted");
        let elsewhere = Packet { oif: Some("mesh-vpn".into()), ..packet };
        assert!(way_out(&rules, &elsewhere, source).passes, "{what}, but by the mesh");
    }
}

#[test]
fn a_redirected_query_is_not_taken_for_a_leak_before_its_new_way_is_known() {
    // Chains of the output hook still see the device of the first routing; postrouting sees the real one.
    let rules = ruleset(&config());
    for to in ["127.0.0.1", "::1"] {
        let base = if to == "::1" { v6() } else { v4() };
        let query = Packet { l4proto: UDP, dport: 54, dst: Some(addr(to)), ..base };
        assert!(walk(&rules, &[(Family::Inet, Hook::Output)], &query).passes);
        assert!(!walk(&rules, &[(Family::Inet, Hook::Postrouting)], &query).passes);
    }
}

#[test]
fn what_may_come_in_and_what_may_not() {
    let rules = ruleset(&config());
    let came = |p: Packet| Packet { iif: Some("eth0".into()), oif: None, ..p };
    let new =
        |l4proto, dport| Packet { l4proto, dport, ct: Some((CtDirection::Original, CT_NEW)), ..came(v4()) };
    for (what, packet, passes) in [
        ("the tunnel's answer", Packet { ct: REPLY, ..came(v4()) }, true),
        ("ssh", new(TCP, 22), true),
        ("the middle of ssh", Packet { ct: ORIGINAL, ..new(TCP, 22) }, true),
        ("ping", Packet { icmp_type: 8, ..new(ICMP, 0) }, true),
        ("ping, IPv6", Packet { l4proto: ICMPV6, icmp_type: 128, ..came(v6()) }, true),
        ("the web server", new(TCP, 80), false),
        ("a gateway that speaks first", new(UDP, 10000), false),
        ("the rest of what it says", Packet { ct: ORIGINAL, ..new(UDP, 10000) }, false),
        (
            "an ICMP error to the tunnel",
            Packet { ct: RELATED, l4proto: ICMP, icmp_type: 3, ..came(v4()) },
            true,
        ),
        (
            "a connection that a helper expects",
            Packet { ct: Some((CtDirection::Original, CT_RELATED)), ..new(TCP, 20) },
            false,
        ),
        ("an RA", Packet { ct: None, l4proto: ICMPV6, icmp_type: 134, ..came(v6()) }, true),
        (
            "ICMPv6's number in IPv4",
            Packet { ct: None, l4proto: ICMPV6, icmp_type: 134, ..came(v4()) },
            false,
        ),
        ("DHCP", Packet { sport: 67, ..new(UDP, 68) }, true),
        ("what conntrack cannot place", Packet { ct: None, ..new(TCP, 80) }, false),
    ] {
        let passage = way_in(&rules, &packet);
        assert_eq!(passage.passes, passes, "{what}: {:?}", passage.rule);
        assert_eq!(passage.mark, 1, "{what}: it gets the mark");
        let elsewhere = Packet { iif: Some("mesh-vpn".into()), ..packet };
        let passage = way_in(&rules, &elsewhere);
        assert!(passage.passes && passage.mark == 0, "{what}, but by the mesh");
    }
}

#[test]
fn arp_that_arrives_gets_the_mark_so_that_strict_reverse_paths_answer() {
    let packet =
        Packet { iif: Some("eth0".into()), oif: None, mark: 0x100, ..arp(1, "192.168.1.1", "192.168.1.77") };
    assert_eq!(way_in(&ruleset(&config()), &packet).mark, 0x101, "others' bits stay");
}

#[test]
fn the_groups_dns_is_redirected_whoever_it_is_sent_to() {
    let rules = ruleset(&config());
    for (to, resolver) in [
        ("198.51.100.1", "127.0.0.1:54"),
        ("127.0.0.1", "127.0.0.1:54"),
        ("2001:db8::53", "[::1]:54"),
        ("::1", "[::1]:54"),
    ] {
        for l4proto in [UDP, TCP] {
            let query =
                Packet { l4proto, dport: 53, gid: Some(800), ..Packet::out("lo", addr(to), addr(to)) };
            let way = |p: &Packet| walk(&rules, &[(Family::Inet, Hook::Output)], p).dnat;
            assert_eq!(way(&query), Some(resolver.parse().unwrap()), "{to}");
            assert_eq!(way(&Packet { gid: Some(0), ..query.clone() }), None, "another group");
            assert_eq!(way(&Packet { dport: 443, ..query }), None, "not DNS");
        }
    }
}

#[test]
fn a_family_without_a_resolver_is_not_redirected_and_without_groups_there_is_no_nat() {
    let mut config = config();
    config.resolvers[0].listen.truncate(1);
    let nat = |rules: &Ruleset| -> Vec<_> {
        let chains = rules.tables.iter().flat_map(|t| &t.chains);
        chains.filter(|c| c.kind == ChainKind::Nat).map(|c| c.rules.len()).collect()
    };
    assert_eq!(nat(&ruleset(&config)), [2], "UDP and TCP over IPv4");
    let (facts, observed) = (ByName::new(), bare(&config));
    let none = Inputs { groups: &[], ..inputs(&config, &facts, &observed) };
    assert_eq!(nat(&desired(&none).ruleset), []);
}

#[test]
fn the_guard_stands_before_the_device_does() {
    let config = config();
    let mut observed = bare(&config);
    observed.links.retain(|l| l.name == "lo");
    let facts = ByName::new();
    let rules = desired(&inputs(&config, &facts, &observed)).ruleset;
    for (packet, source) in [(v4(), Source::Local), (v6(), Source::Local), (marked(v4()), Source::Forwarded)]
    {
        assert!(!way_out(&rules, &packet, source).passes);
    }
    assert!(
        rules.tables.iter().all(|t| t.family != Family::Netdev),
        "the kernel refuses a chain without a device"
    );
}

#[test]
fn where_the_kernel_can_a_device_is_guarded_before_it_comes() {
    let (config, observed) = (config(), Observed::default());
    let nothing = ByName::new();
    let tables = |absent_devices| {
        let capabilities = Capabilities { egress: true, absent_devices };
        desired(&Inputs { capabilities, ..inputs(&config, &nothing, &observed) }).ruleset.tables.clone()
    };
    let hooked = |tables: &[Table]| {
        let egress = tables.iter().filter(|t| t.family == Family::Netdev).flat_map(|t| &t.chains);
        egress.flat_map(|c| c.devices.clone()).collect::<Vec<_>>()
    };
    assert_eq!(hooked(&tables(false)), [""; 0]);
    assert_eq!(hooked(&tables(true)), ["eth0"]);
}

#[test]
fn a_device_that_has_another_name_since_we_looked_lets_nothing_pass_by_its_number() {
    let config = config();
    let rules = ruleset(&config);
    let renamed = |packet: Packet| Packet {
        oif: packet.oif.map(|_| "other".to_owned()),
        iif: packet.iif.map(|_| "other".to_owned()),
        index: Some(2),
        ..packet
    };
    for packet in [v4(), v6(), marked(v4())] {
        for source in [Source::Local, Source::Forwarded] {
            let before = Packet { index: Some(2), ..packet.clone() };
            assert_eq!(way_out(&rules, &before, source), way_out(&rules, &packet, source));
            let passage = way_out(&rules, &renamed(packet.clone()), source);
            assert!(!passage.passes, "{packet:?}");
            let other = Packet { index: Some(7), ..renamed(packet.clone()) };
            assert!(way_out(&rules, &other, source).passes, "of another device: {packet:?}");
        }
        let arrives = Packet { iif: packet.oif.clone(), oif: None, ..packet };
        assert!(!way_in(&rules, &renamed(arrives)).passes);
    }
}

#[test]
fn the_bit_that_says_that_a_frame_came_by_the_guard_is_none_of_the_mark() {
    for (mask, bit) in [(1, 1 << 31), (0x8000_0000, 1 << 30), (0xc000_00ff, 1 << 29)] {
        let config = Config { mark: Mark { value: mask, mask }, ..config() };
        let (facts, observed) = (ByName::new(), bare(&config));
        let capabilities = Capabilities { egress: true, absent_devices: true };
        let desired = desired(&Inputs { capabilities, ..inputs(&config, &facts, &observed) });
        let chains: Vec<_> = desired.ruleset.tables.iter().flat_map(|t| &t.chains).collect();
        let seen = chains.iter().find(|c| c.name == Chain::SEEN).unwrap();
        assert_eq!(seen.rules[0].action, Action::SetMark { value: bit, mask: bit });
    }
}

#[test]
fn by_a_bridges_port_leaves_what_came_by_the_bridge_or_from_no_socket_of_ours() {
    let config = config();
    let mut observed = bare(&config);
    observed.links.push(Link { bridge: Some(2), ..link(8, "lan1", true) });
    observed.links.push(Link { bridge: Some(3), ..link(9, "lan2", true) });
    let facts = ByName::new();
    for absent_devices in [false, true] {
        let capabilities = Capabilities { egress: true, absent_devices };
        let rules = desired(&Inputs { capabilities, ..inputs(&config, &facts, &observed) }).ruleset;
        let out = |device: &str, mark, socket| {
            let packet = Packet { mark, socket, ..Packet { oif: Some(device.into()), ..v4() } };
            let passage = way_out(&rules, &packet, Source::Frame);
            passage.passes.then_some(passage.mark)
        };
        assert_eq!(out("eth0", 1, true), Some(1 << 31 | 1), "by the bridge");
        assert_eq!(out("lan1", 1 << 31 | 1, true), Some(1), "then by its port");
        assert_eq!(out("lan1", 1, true), None, "past the bridge");
        assert_eq!(out("lan1", 0, false), Some(0), "of another host");
        assert_eq!(out("lan2", 0, true), Some(0), "another bridge's");
        let arrives = Packet { iif: Some("eth0".into()), oif: None, mark: 1 << 31, ..v4() };
        assert_eq!(way_in(&rules, &arrives).mark, 1, "for this host");
        let chains = rules.tables.iter().flat_map(|t| &t.chains);
        let entered = chains.clone().find(|c| c.hook == Hook::Ingress).unwrap();
        assert_eq!(entered.devices, ["lan1"]);
        let seen = chains.filter(|c| c.name == Chain::SEEN).count();
        assert_eq!(seen, 0, "whose program would take the bit off before the port");
        let bound = Packet { oif: Some("lan1".into()), index: Some(8), ..marked(v4()) };
        assert!(!way_out(&rules, &bound, Source::Local).passes);
        assert!(!way_out(&rules, &bound, Source::Forwarded).passes);
    }
}

#[test]
fn a_kernel_without_egress_gets_all_the_rest() {
    let (config, facts) = (config(), learnt(facts()));
    let observed = bare(&config);
    let without = Inputs { capabilities: Capabilities::default(), ..inputs(&config, &facts, &observed) };
    let (with, without) = (ruleset(&config), desired(&without).ruleset);
    assert_eq!(with.tables.len(), without.tables.len() + 1);
    assert_eq!(with.tables[..2], without.tables[..]);
}

#[test]
fn every_counter_that_a_rule_names_is_there_and_labels_are_short() {
    let mut config = config();
    config.uplinks.push(Uplink { provider: ProviderKind::Netifd, ..Uplink::new("cellular", "wwan0") });
    for table in ruleset(&config).tables {
        for rule in table.chains.iter().flat_map(|c| &c.rules) {
            assert!(rule.counter.is_none_or(|c| table.counters.contains(&c)), "{rule:?}");
            assert!(rule.label.len() <= 20, "{}", rule.label);
        }
    }
}

#[test]
fn matches_stand_in_an_order_that_nftables_takes() {
    for table in ruleset(&config()).tables {
        for rule in table.chains.iter().flat_map(|c| &c.rules) {
            let at = |f: fn(&Match) -> bool| rule.matches.iter().position(f);
            let protocol = at(|m| matches!(m, Match::L4Proto(_)));
            let transport = at(|m| matches!(m, Match::SrcPort(_) | Match::DstPort(_) | Match::IcmpType(_)));
            assert!(transport.is_none() || protocol.is_some() && protocol < transport, "{rule:?}");
            let version = at(|m| matches!(m, Match::EtherType(_)));
            let network = at(|m| {
                matches!(m, Match::SrcAddr(_) | Match::DstAddr(_) | Match::L4Proto(_) | Match::ArpOp(_))
            });
            let netdev = table.family == Family::Netdev && network.is_some();
            assert!(!netdev || version.is_some() && version < network, "{rule:?}");
        }
    }
}

#[test]
fn a_household_that_calls_everything_on_link_does_not_open_the_guard() {
    let config = config();
    let mut f = facts();
    f.routes = vec![on_link("0.0.0.0/0"), on_link("::/0")];
    f.routes.extend((0..500).map(|n| on_link(&format!("2001:db8:{n:x}::/64"))));
    let (facts, observed) = (learnt(f), bare(&config));
    let rules = desired(&inputs(&config, &facts, &observed)).ruleset;
    assert!(!way_out(&rules, &arp(1, "192.168.1.77", "198.51.100.1"), Source::Frame).passes);
    assert!(!way_out(&rules, &nd(135, "fe80::77", "ff02::1:ff00:1", "2001:dead::1"), Source::Local).passes);
    let count: usize = rules.tables.iter().flat_map(|t| &t.chains).map(|c| c.rules.len()).sum();
    assert!(count < 250, "{count} rules");
}

// ---- the contract once more, as a predicate, against any packet ----

fn allowed(packet: &Packet, source: Source, mark: Mark, inbound: &[Inbound]) -> bool {
    let with_mark = mark.matches(packet.mark);
    match (source, packet.ether_type) {
        (Source::Forwarded, _) => false,
        (Source::Frame, 0x0806) => packet.arp.is_some_and(|(op, sender, target)| {
            let near = |addr: Ipv4Addr| prefix("192.168.1.0/24").contains(addr.into());
            op == 2 && near(sender) || op == 1 && near(target)
        }),
        (Source::Frame, 0x888e) => true,
        (Source::Frame, 0x0800 | 0x86dd) => with_mark || housekeeping(packet),
        (Source::Frame, _) => false,
        (Source::Local, _) => {
            let looped = packet.dst.is_some_and(|d| d.is_loopback());
            let icmp = matches!(packet.l4proto, ICMP | ICMPV6);
            let tracked = packet.ct.is_some_and(|(direction, state)| match direction {
                _ if icmp && state & CT_RELATED != 0 => true,
                CtDirection::Original => true,
                CtDirection::Reply => inbound.iter().any(|service| match service {
                    Inbound::Tcp(port) => packet.l4proto == TCP && packet.sport == *port,
                    Inbound::Udp(port) => packet.l4proto == UDP && packet.sport == *port,
                    Inbound::Ping => {
                        packet.l4proto == ICMP && packet.icmp_type == 0
                            || packet.l4proto == ICMPV6 && packet.icmp_type == 129
                    }
                }),
            });
            !looped && (housekeeping(packet) || with_mark && tracked)
        }
    }
}

/// A foreign manager's addresses are not told us, so what is asked for may be one of them.
#[test]
fn a_router_is_answered_where_a_foreign_manager_sets_the_addresses() {
    let mut config = config();
    config.uplinks[0].provider = ProviderKind::Netifd;
    let rules = ruleset(&config);
    let packet = nd(136, "2001:db8:1::9", "2001:db8:ffff::1", "2001:db8:1::9");
    for source in [Source::Local, Source::Frame] {
        let passage = way_out(&rules, &packet, source);
        assert!(passage.passes, "{:?}", passage.rule);
    }
}

pub fn housekeeping(packet: &Packet) -> bool {
    let (Some(src), Some(dst)) = (packet.src, packet.dst) else { return false };
    let within = |a: IpAddr, list: &[&str]| list.iter().any(|p| prefix(p).contains(a));
    let near = ["fe80::/10", "2001:db8:1::/64"];
    match (dst.is_ipv6(), packet.l4proto) {
        (true, ICMPV6) => match packet.icmp_type {
            133 => within(dst, &["ff02::/16", "fe80::/10"]),
            135 => src.is_unspecified() || packet.nd_target.is_some_and(|t| within(t.into(), &near)),
            136 => {
                let ours = packet.nd_target.is_some_and(|t| addr("2001:db8:1::77") == t);
                ours || within(dst, &near) || within(dst, &["ff02::/16"])
            }
            131 => within(dst, &["ff00::/8"]),
            132 | 143 => within(dst, &["ff02::/16"]),
            _ => false,
        },
        (true, UDP) => {
            packet.sport == 546 && packet.dport == 547 && within(dst, &["ff02::1:2/128", "fe80::/10"])
        }
        (false, UDP) => {
            packet.sport == 68 && packet.dport == 67 && within(dst, &["255.255.255.255/32", "192.168.1.0/24"])
        }
        (false, 2) => within(dst, &["224.0.0.0/4"]),
        _ => false,
    }
}

pub fn any_packet() -> impl Strategy<Value = (Packet, Source)> {
    let ends = prop_oneof![
        (
            Just("192.168.1.77"),
            prop_oneof![
                Just("198.51.100.1"),
                Just("192.168.1.1"),
                Just("224.0.0.22"),
                Just("255.255.255.255"),
                Just("127.0.0.1")
            ]
        ),
        (
            prop_oneof![Just("2001:db8:1::77"), Just("fe80::77"), Just("::")],
            prop_oneof![
                Just("2001:db8:ffff::1"),
                Just("2001:db8:1::1"),
                Just("fe80::1"),
                Just("ff02::2"),
                Just("ff05::2"),
                Just("ff02::1:2"),
                Just("::1")
            ]
        )
    ];
    let l4proto = prop_oneof![Just(ICMP), Just(2u8), Just(TCP), Just(UDP), Just(ICMPV6), Just(132u8)];
    let port = || {
        prop_oneof![
            Just(0u16),
            Just(22),
            Just(53),
            Just(54),
            Just(67),
            Just(68),
            Just(80),
            Just(161),
            Just(546),
            Just(547)
        ]
    };
    let icmp_type = prop_oneof![Just(0u8), Just(3), Just(8), 128u8..145];
    let target = prop_oneof![
        Just(None),
        Just(Some("fe80::1")),
        Just(Some("2001:db8:1::1")),
        Just(Some("2001:db8:1::77")),
        Just(Some("2001:db8:ffff::1"))
    ];
    let direction = prop_oneof![Just(CtDirection::Original), Just(CtDirection::Reply)];
    let ct = proptest::option::weighted(
        0.8,
        (direction, prop_oneof![Just(CT_NEW), Just(CT_ESTABLISHED), Just(CT_RELATED)]),
    );
    let source =
        prop_oneof![3 => Just(Source::Local), 1 => Just(Source::Forwarded), 2 => Just(Source::Frame)];
    let kind = prop_oneof![6 => Just(None), 1 => (0u16..4, prop_oneof![Just("0.0.0.0"), Just("192.168.1.77")], prop_oneof![Just("192.168.1.1"), Just("10.0.0.1")]).prop_map(Some)];
    (
        ends,
        l4proto,
        (port(), port(), icmp_type),
        target,
        ct,
        source,
        prop_oneof![Just(0u32), Just(1), any::<u32>()],
        kind,
    )
        .prop_map(|((src, dst), l4proto, (sport, dport, icmp_type), target, ct, source, mark, kind)| {
            let base = Packet::out("eth0", addr(src), addr(dst));
            let ip = Packet {
                l4proto,
                sport,
                dport,
                icmp_type,
                nd_target: target.map(|t| t.parse().unwrap()),
                ct,
                mark,
                ..base
            };
            match kind {
                Some((op, sender, target)) => (Packet { mark, ..arp(op, sender, target) }, Source::Frame),
                None => (ip, source),
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_leaves_is_what_the_contract_allows(
        (packet, source) in any_packet(),
        inbound in prop_oneof![Just(vec![]), Just(vec![Inbound::Tcp(22), Inbound::Ping]), Just(vec![Inbound::Udp(161)])],
        mark in prop_oneof![Just(Mark::DEFAULT), Just(Mark { value: 5, mask: 7 })],
    ) {
        let mut config = Config { mark, ..config() };
        config.uplinks[0].inbound = inbound.clone();
        let rules = ruleset(&config);
        let passage = way_out(&rules, &packet, source);
        prop_assert_eq!(passage.passes, allowed(&packet, source, mark, &inbound), "{:?}", passage.rule);
    }
}
