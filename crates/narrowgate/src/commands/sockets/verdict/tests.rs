//! A node with an uplink `wan` (192.168.1.0/24, 2001:db8:1::/64, and 10.9.0.0/16 behind the household's router) and a mesh.

use super::*;
use narrowgate_model::config::Uplink;
use narrowgate_model::net::{Address, Link, Route, Rule, RuleAction, Selector};

const LO: u32 = 1;
const WAN: u32 = 2;
const MESH: u32 = 3;

const TUNNEL: Want = Want { mark: true, redirected: true };
const WAN_RESOLVER: Want = Want { mark: true, redirected: false };
const MESH_RESOLVER: Want = Want { mark: false, redirected: false };

fn config() -> Config {
    Config { uplinks: vec![Uplink::new("wan", "eth0")], ..Config::default() }
}

fn observed() -> Observed {
    let link = |index, name: &str| Link {
        index,
        name: name.into(),
        up: true,
        carrier: true,
        mtu: 1500,
        ..Link::default()
    };
    let address = |link, prefix: &str| Address {
        link,
        prefix: prefix.parse().unwrap(),
        broadcast: None,
        preferred_until: None,
        valid_until: None,
        no_prefix_route: true,
        protocol: 0,
        dad_failed: false,
        tentative: false,
    };
    let route = |table, dst: &str, link| Route {
        table,
        dst: dst.parse().unwrap(),
        kind: RouteKind::Unicast,
        via: None,
        link: Some(link),
        metric: 512,
        onlink: false,
        source: None,
        protocol: 0,
    };
    let rule = |ipv6, priority, table, mark: Option<Mark>| Rule {
        ipv6,
        priority,
        selector: Selector { mark: mark.map(Into::into), ..Selector::default() },
        action: RuleAction::Lookup(table),
        suppress_prefix_len: None,
        protocol: 0,
    };
    let rules = |ipv6| [rule(ipv6, 100, 1, Some(Mark::DEFAULT)), rule(ipv6, 32766, 254, None)];
    Observed {
        links: vec![link(LO, "lo"), link(WAN, "eth0"), link(MESH, "mesh-vpn")],
        addresses: vec![
            address(LO, "127.0.0.1/8"),
            address(WAN, "192.168.1.77/24"),
            address(WAN, "2001:db8:1::77/64"),
            address(MESH, "10.42.0.2/16"),
        ],
        routes: vec![
            route(1, "0.0.0.0/0", WAN),
            route(1, "::/0", WAN),
            route(1, "10.9.0.0/16", WAN),
            route(254, "10.0.0.0/8", MESH),
            route(254, "10.9.8.0/24", MESH),
            route(254, "0.0.0.0/0", MESH),
            route(254, "2000::/3", MESH),
            route(254, "fd42::/64", MESH),
        ],
        rules: [false, true].map(rules).concat(),
        ..Observed::default()
    }
}

fn udp(remote: &str) -> Seen {
    let local = if remote.starts_with('[') { "[::]:4711" } else { "0.0.0.0:4711" };
    Seen {
        protocol: "udp",
        local: local.parse().ok(),
        remote: Some(remote.parse().unwrap()),
        ..Seen::default()
    }
}

fn verdict(socket: &Seen, want: Want) -> Verdict {
    let observed = observed();
    Place::new(&config(), &observed).judge(socket, want).0
}

#[test]
fn what_is_marked_is_right_wherever_it_sends() {
    for (mark, expected) in [(1, Verdict::Marked), (0x101, Verdict::Marked), (0x100, Verdict::Unmarked)] {
        for remote in ["192.168.1.1:10000", "198.51.100.7:10000", "[2001:db8:99::1]:10000"] {
            assert_eq!(verdict(&Seen { mark, ..udp(remote) }, TUNNEL), expected, "{mark:#x} {remote}");
        }
    }
}

#[test]
fn an_unmarked_socket_to_the_uplinks_networks_is_one_whosoever_it_is() {
    let remotes = ["192.168.1.1:123", "10.9.0.1:123", "[2001:db8:1::1]:123", "[fe80::1%2]:123"];
    for want in [TUNNEL, WAN_RESOLVER, MESH_RESOLVER] {
        for remote in remotes {
            assert_eq!(verdict(&udp(remote), want), Verdict::Unmarked, "{remote} {want:?}");
        }
        let bound = Seen { device: Some(WAN), ..udp("203.0.113.1:123") };
        assert_eq!(verdict(&bound, want), Verdict::Unmarked);
        let from = Seen { local: "192.168.1.77:123".parse().ok(), remote: None, ..udp("192.0.2.1:1") };
        assert_eq!(verdict(&from, want), Verdict::Unmarked);
    }
}

#[test]
fn off_link_is_the_uplinks_for_a_tunnel_and_the_meshs_for_the_mesh_resolver() {
    for remote in ["198.51.100.7:10000", "[2001:db8:99::1]:10000", "255.255.255.255:1"] {
        assert_eq!(verdict(&udp(remote), TUNNEL), Verdict::Unmarked, "{remote}");
        assert_eq!(verdict(&udp(remote), WAN_RESOLVER), Verdict::Unmarked, "{remote}");
        assert_eq!(verdict(&udp(remote), MESH_RESOLVER), Verdict::Elsewhere, "{remote}");
    }
    let unconnected = Seen { remote: None, ..udp("[::]:1") };
    assert_eq!(verdict(&unconnected, TUNNEL), Verdict::Unmarked);
    assert_eq!(verdict(&unconnected, MESH_RESOLVER), Verdict::Elsewhere);
}

#[test]
fn another_devices_network_is_none_of_the_uplinks_unless_the_uplink_knows_it_better() {
    for remote in ["10.42.0.1:1", "10.200.0.1:1", "10.9.8.1:1", "[fd42::1]:1", "[fe80::1%3]:1"] {
        assert_eq!(verdict(&udp(remote), TUNNEL), Verdict::Elsewhere, "{remote}");
    }
    assert_eq!(verdict(&udp("10.9.7.1:1"), TUNNEL), Verdict::Unmarked);
    let bound = Seen { device: Some(MESH), remote: None, ..udp("0.0.0.0:1") };
    assert_eq!(verdict(&bound, TUNNEL), Verdict::Elsewhere);
    let from = Seen { local: "10.42.0.2:123".parse().ok(), remote: None, ..udp("0.0.0.0:1") };
    assert_eq!(verdict(&from, TUNNEL), Verdict::Elsewhere);
}

#[test]
fn what_does_not_leave_the_host_needs_no_mark() {
    for remote in ["127.0.0.1:54", "[::1]:54", "192.168.1.77:1", "10.42.0.2:1"] {
        assert_eq!(verdict(&udp(remote), TUNNEL), Verdict::Loopback, "{remote}");
    }
    let server = Seen { local: "127.0.0.1:54".parse().ok(), remote: None, ..udp("0.0.0.0:1") };
    assert_eq!(verdict(&server, WAN_RESOLVER), Verdict::Loopback);
    let listens = Seen { listens: true, remote: None, ..udp("0.0.0.0:1") };
    assert_eq!(verdict(&listens, TUNNEL), Verdict::Listens);
    assert_eq!(verdict(&Seen { unused: true, ..Seen::default() }, TUNNEL), Verdict::Unused);
}

#[test]
fn dns_is_redirected_by_the_group_but_not_from_the_uplinks_device() {
    for remote in ["198.51.100.7:53", "192.168.1.1:53"] {
        assert_eq!(verdict(&udp(remote), TUNNEL), Verdict::Loopback);
        assert_eq!(verdict(&udp(remote), WAN_RESOLVER), Verdict::Unmarked);
        assert_eq!(verdict(&Seen { device: Some(WAN), ..udp(remote) }, TUNNEL), Verdict::Unmarked);
    }
}

#[test]
fn a_netifd_rule_that_leads_an_unmarked_socket_out_is_seen() {
    let mut observed = observed();
    let source: Prefix = "2001:db8:1::77/128".parse().unwrap();
    let rule = Rule {
        ipv6: true,
        priority: 10_000,
        selector: Selector { src: Some(source), ..Selector::default() },
        action: RuleAction::Lookup(1),
        suppress_prefix_len: None,
        protocol: 0,
    };
    observed.rules.insert(3, rule);
    let socket = Seen { local: "[2001:db8:1::77]:1".parse().ok(), ..udp("[fd42::1]:1") };
    let config = config();
    let (verdict, why) = Place::new(&config, &observed).judge(&socket, MESH_RESOLVER);
    assert_eq!((verdict, why.as_str()), (Verdict::Unmarked, "it leaves by eth0"));
}
