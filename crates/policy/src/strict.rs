//! `option strict`: marked packets may leave only to the uplink's DNS servers and to the tunnels' peers.
//!
//! The peers that are written as addresses are in the sets always. What the peers' names resolve to comes into them while we run, before the
//! resolver gives the answer away, and stays as long as packets go there; so the sets outlive every change of the rules.

use crate::desired::{Known, manages};
use crate::guard::{response, rule};
use crate::housekeeping::{ICMP, ICMPV6, Place, TCP, UDP};
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::Gather;
use narrowgate_model::config::Host;
use narrowgate_model::nft::{Action, CtDirection, IpVersion, Match, Rule, Set};
use narrowgate_model::sort::sort;
use narrowgate_model::{Config, Prefix, Server};

/// The sets of the peers; none where the config is not strict.
pub(crate) fn sets(config: &Config) -> Vec<Set> {
    if !config.strict {
        return Vec::new();
    }
    let set = |name, version, ipv6: bool| {
        let peers = config.tunnels.iter().flat_map(|t| &t.peers);
        let written = peers.filter_map(|p| match p.host {
            Host::Addr(addr) if addr.is_ipv6() == ipv6 => Some(addr),
            _ => None,
        });
        let mut elements: Vec<IpAddr> = written.gather();
        sort(&mut elements);
        elements.dedup();
        Set { name, version, elements }
    };
    vec![set(Set::PEERS4, IpVersion::V4, false), set(Set::PEERS6, IpVersion::V6, true)]
}

/// What may leave by this uplink, and the end of all else that is marked. `marked` makes what all these rules begin with.
pub(crate) fn rules(config: &Config, uplink: &Known<'_>, marked: &dyn Fn() -> Vec<Match>) -> Vec<Rule> {
    let original = || {
        let mut matches = marked();
        matches.push(Match::CtDirection(CtDirection::Original));
        matches
    };
    let mut rules = permitted(config, uplink, ["out_tunnel", "out_dns"], &|_| original());
    if let Some(request) = lease(uplink) {
        let mut matches = original();
        matches.push(Match::NfProto(IpVersion::V4));
        matches.extend(request);
        rules.push(rule("DHCP", matches, Some("out_housekeeping"), Action::Accept));
    }
    rules.push(rule("no peer", original(), Some(REFUSED), Action::Drop));
    rules
}

/// What of the marked frames may leave by this uplink, those of packet sockets among them. The last chain knows no connections, so an answer is told by its kind alone.
pub(crate) fn frames(config: &Config, uplink: &Known<'_>, mark: &Match) -> Vec<Rule> {
    let marked = |version| {
        vec![Match::Oif(uplink.config.device.clone()), Place::Netdev.version(version), mark.clone()]
    };
    let mut rules = permitted(config, uplink, [MARKED; 2], &marked);
    if let Some(request) = lease(uplink) {
        let mut matches = marked(IpVersion::V4);
        matches.extend(request);
        rules.push(rule("DHCP", matches, Some(MARKED), Action::Accept));
    }
    for version in [IpVersion::V4, IpVersion::V6] {
        let mut add = |what: [Match; 2]| {
            let mut matches = marked(version);
            matches.extend(what);
            rules.push(rule("answer", matches, Some(MARKED), Action::Accept));
        };
        let (protocol, errors): (_, &[u8]) =
            if version == IpVersion::V4 { (ICMP, &[3, 11, 12]) } else { (ICMPV6, &[1, 2, 3, 4]) };
        errors.iter().for_each(|kind| add([Match::L4Proto(protocol), Match::IcmpType(*kind)]));
        uplink.config.inbound.iter().flat_map(|service| response(*service)).for_each(&mut add);
    }
    rules
}

/// The end of all other marked frames, behind what passes in any case.
pub(crate) fn other_frames(mark: &Match) -> [Rule; 2] {
    [IpVersion::V4, IpVersion::V6].map(|version| {
        let matches = vec![Place::Netdev.version(version), mark.clone()];
        rule("no peer", matches, Some(FRAME_REFUSED), Action::Drop)
    })
}

/// To the peers and to the DNS servers. `marked` makes what all these rules begin with.
fn permitted(
    config: &Config,
    uplink: &Known<'_>,
    [tunnel, dns]: [&'static str; 2],
    marked: &dyn Fn(IpVersion) -> Vec<Match>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    // The sets first: nearly all packets are the tunnel's.
    for (set, version) in [(Set::PEERS4, IpVersion::V4), (Set::PEERS6, IpVersion::V6)] {
        let mut matches = marked(version);
        matches.push(Match::DstInSet(set, version));
        let action = Action::AcceptAndRefresh { set, version, seconds: Set::TIMEOUT };
        rules.push(rule("tunnel", matches, Some(tunnel), action));
    }
    for server in servers(config, uplink) {
        for protocol in [UDP, TCP] {
            let version = if server.addr.is_ipv6() { IpVersion::V6 } else { IpVersion::V4 };
            let mut matches = marked(version);
            matches.push(Match::DstAddr(Prefix::host(server.addr)));
            matches.push(Match::L4Proto(protocol));
            matches.push(Match::DstPort(server.port));
            rules.push(rule("tunnel's DNS", matches, Some(dns), Action::Accept));
        }
    }
    rules
}

/// The lease of a server that is behind another router is extended by our marked socket.
fn lease(uplink: &Known<'_>) -> Option<[Match; 3]> {
    manages(uplink.config).then_some([Match::L4Proto(UDP), Match::SrcPort(68), Match::DstPort(67)])
}

/// All servers that a resolver may come to ask by this uplink, whether there is a route to them now or not.
fn servers<'a>(config: &'a Config, uplink: &Known<'a>) -> Vec<&'a Server> {
    let learnt = uplink.facts.map_or(&[][..], |f| &f.dns).iter().map(|d| &d.server);
    let offered: Vec<&Server> = uplink.config.dns.iter().gather();
    let offered = if offered.is_empty() { learnt.gather() } else { offered };
    let mut servers: Vec<&Server> = Vec::new();
    for resolver in config.uplink_resolvers() {
        let written = resolver.servers.iter();
        let all = written.chain(offered.iter().copied().filter(|_| resolver.servers.is_empty()));
        for server in all {
            let same = |s: &&Server| (s.addr, s.port) == (server.addr, server.port);
            if servers.len() < MOST_SERVERS && !servers.iter().any(same) {
                servers.push(server);
            }
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
