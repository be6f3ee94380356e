//! `option strict`: marked packets may leave only to the uplink's DNS servers and to the tunnels' peers.
//!
//! The peers that are written as addresses are in the sets always. What the peers' names resolve to comes into them while we run, before the
//! resolver gives the answer away, and stays as long as packets go there; so the sets outlive every change of the rules.

use crate::desired::{Known, manages};
use crate::rows::If::*;
use crate::rows::{ICMP, ICMPV6, Row, Rules, UDP, accept, drop};
use alloc::vec::Vec;
use narrowgate_model::config::Host;
use narrowgate_model::nft::CtDirection::Original;
use narrowgate_model::nft::IpVersion::{V4, V6};
use narrowgate_model::nft::{Match, Set};
use narrowgate_model::sort::sort;
use narrowgate_model::{Config, Server};

/// The sets of the peers; none where the config is not strict.
pub(crate) fn sets(config: &Config) -> Vec<Set> {
    if !config.strict {
        return Vec::new();
    }
    let mut sets = vec![
        Set { name: Set::PEERS4, version: V4, elements: Vec::new() },
        Set { name: Set::PEERS6, version: V6, elements: Vec::new() },
    ];
    for peer in config.tunnels.iter().flat_map(|t| &t.peers) {
        let Host::Addr(addr) = peer.host else { continue };
        let set = sets.iter_mut().find(|set| set.name == Set::peers(&addr));
        if let Some(Set { elements, .. }) = set.filter(|set| !set.elements.contains(&addr)) {
            elements.push(addr);
            sort(elements);
        }
    }
    sets
}

/// What marked packets, or frames, may do.
struct Permitted {
    /// The counters of the tunnels, of their DNS, and of the lease.
    counters: [&'static str; 3],
    /// To the peers.
    peers: [Row; 2],
    /// To a DNS server, IPv4 and IPv6.
    dns: [Row; 2],
    /// The lease of a server that is behind another router is extended by our marked socket.
    lease: Row,
}

static PACKETS: Permitted = Permitted {
    counters: ["out_tunnel", "out_dns", "out_housekeeping"],
    peers: [
        accept("tunnel", [Oif, Marked, Ct(Original), Peer(V4)]),
        accept("tunnel", [Oif, Marked, Ct(Original), Peer(V6)]),
    ],
    dns: [
        accept("tunnel's DNS", [Oif, Marked, Ct(Original)]),
        accept("tunnel's DNS", [Oif, Marked, Ct(Original)]),
    ],
    lease: accept("DHCP", [Oif, Marked, Ct(Original), Of(V4, UDP)]),
};

/// The last chain knows no connections.
static FRAMES: Permitted = Permitted {
    counters: [MARKED; 3],
    peers: [
        accept("tunnel", [Oif, Version(V4), Marked, Peer(V4)]),
        accept("tunnel", [Oif, Version(V6), Marked, Peer(V6)]),
    ],
    dns: [
        accept("tunnel's DNS", [Oif, Version(V4), Marked]),
        accept("tunnel's DNS", [Oif, Version(V6), Marked]),
    ],
    lease: accept("DHCP", [Oif, Version(V4), Marked, L4(UDP)]),
};

/// What may leave by this uplink, and the end of all else that is marked.
pub(crate) fn rules(rules: &mut Rules<'_>, config: &Config, uplink: &Known<'_>) {
    permitted(&PACKETS, rules, config, uplink);
    rules.add(REFUSED, const { &[drop("no peer", [Oif, Marked, Ct(Original)])] });
}

/// What of the marked frames may leave by this uplink, those of packet sockets among them. An answer is told by its kind alone.
pub(crate) fn frames(rules: &mut Rules<'_>, config: &Config, uplink: &Known<'_>) {
    permitted(&FRAMES, rules, config, uplink);
    for (errors, answer) in &ANSWERS {
        rules.add(MARKED, errors);
        for service in &uplink.config.inbound {
            rules.add_service(MARKED, answer, *service, true);
        }
    }
}

/// ICMP's errors and what services answer, of either version.
static ANSWERS: [(&[Row], Row); 2] = [
    (
        &[
            accept("answer", [Oif, Version(V4), Marked, L4(ICMP), Icmp(3)]),
            accept("answer", [Oif, Version(V4), Marked, L4(ICMP), Icmp(11)]),
            accept("answer", [Oif, Version(V4), Marked, L4(ICMP), Icmp(12)]),
        ],
        accept("answer", [Oif, Version(V4), Marked]),
    ),
    (
        &[
            accept("answer", [Oif, Version(V6), Marked, L4(ICMPV6), Icmp(1)]),
            accept("answer", [Oif, Version(V6), Marked, L4(ICMPV6), Icmp(2)]),
            accept("answer", [Oif, Version(V6), Marked, L4(ICMPV6), Icmp(3)]),
            accept("answer", [Oif, Version(V6), Marked, L4(ICMPV6), Icmp(4)]),
        ],
        accept("answer", [Oif, Version(V6), Marked]),
    ),
];

/// The end of all other marked frames, behind what passes in any case.
pub(crate) static OTHER_FRAMES: &[Row] =
    &[drop("no peer", [Version(V4), Marked]), drop("no peer", [Version(V6), Marked])];

/// To the peers and to the DNS servers. The sets first: nearly all packets are the tunnel's.
fn permitted(may: &'static Permitted, rules: &mut Rules<'_>, config: &Config, uplink: &Known<'_>) {
    let [tunnel, dns, lease] = may.counters;
    rules.add(tunnel, &may.peers);
    let [dns4, dns6] = &may.dns;
    for server in servers(config, uplink) {
        let row = if server.addr.is_ipv6() { dns6 } else { dns4 };
        rules.add_server(dns, row, server.addr, server.port);
    }
    if manages(uplink.config) {
        rules.add_with(lease, &may.lease, vec![Match::SrcPort(68), Match::DstPort(67)]);
    }
}

/// All servers that a resolver may come to ask by this uplink, whether there is a route to them now or not.
fn servers<'a>(config: &'a Config, uplink: &Known<'a>) -> Vec<&'a Server> {
    let mut servers: Vec<&Server> = Vec::new();
    let mut add = |server: &'a Server| {
        let same = |s: &&Server| (s.addr, s.port) == (server.addr, server.port);
        if servers.len() < MOST_SERVERS && !servers.iter().any(same) {
            servers.push(server);
        }
    };
    for resolver in config.uplink_resolvers() {
        if !resolver.servers.is_empty() {
            resolver.servers.iter().for_each(&mut add);
        } else if !uplink.config.dns.is_empty() {
            uplink.config.dns.iter().for_each(&mut add);
        } else if let Some(facts) = uplink.facts {
            facts.dns.iter().for_each(|known| add(&known.server));
        }
    }
    servers
}

/// Counts what strict refuses: no leak, since it has the mark.
pub(crate) const REFUSED: &str = "out_strict_refused";
/// The same of frames that came by no chain of `inet`.
pub(crate) const FRAME_REFUSED: &str = "egress_strict_refused";
/// Frames with the mark that pass.
pub(crate) const MARKED: &str = "egress_marked";
/// More than a resolver asks; a household that tells of thousands shall not fill the guard.
const MOST_SERVERS: usize = 32;
