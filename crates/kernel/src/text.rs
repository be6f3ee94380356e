//! Our ruleset as nft(8) would be told it: for people, and for the tests, which let nft load it and compare.

use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::{IpAddr, SocketAddr};
use narrowgate_model::nft::{
    Action, CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED, CT_UNTRACKED, Chain, ChainKind, CtDirection,
    Family, Hook, IpVersion, Match, Policy, Rule, Ruleset, Set, Table,
};
use narrowgate_model::{Gather, NFT_TABLE, Prefix};

/// The ruleset in the syntax of `nft -f`.
pub fn render(ruleset: &Ruleset) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = ruleset.tables.iter().try_for_each(|t| write_table(&mut out, t));
    out
}

fn write_table(out: &mut String, table: &Table) -> core::fmt::Result {
    writeln!(out, "table {} {NFT_TABLE} {{", family(table.family))?;
    for name in &table.counters {
        writeln!(out, "\tcounter {name} {{\n\t}}\n")?;
    }
    for set in &table.sets {
        write_set(out, set)?;
    }
    for chain in &table.chains {
        write_chain(out, chain)?;
    }
    writeln!(out, "}}")
}

fn write_set(out: &mut String, set: &Set) -> core::fmt::Result {
    let kind = if set.version == IpVersion::V4 { "ipv4_addr" } else { "ipv6_addr" };
    writeln!(
        out,
        "\tset {} {{\n\t\ttype {kind}\n\t\tsize {}\n\t\tflags dynamic,timeout",
        set.name,
        Set::SIZE
    )?;
    if !set.elements.is_empty() {
        let elements: Vec<String> = set.elements.iter().map(IpAddr::to_string).collect();
        writeln!(out, "\t\telements = {{ {} }}", elements.join(", "))?;
    }
    writeln!(out, "\t}}\n")
}

fn write_chain(out: &mut String, chain: &Chain) -> core::fmt::Result {
    let Chain { name, priority, .. } = chain;
    write!(out, "\tchain {name} {{\n\t\ttype {} hook {}", chain_type(chain.kind), hook(chain.hook))?;
    if !chain.devices.is_empty() {
        let names: Vec<String> = chain.devices.iter().map(|d| format!("{d:?}")).collect();
        write!(out, " devices = {{ {} }}", names.join(", "))?;
    }
    writeln!(out, " priority {priority}; policy {};", policy(chain.policy))?;
    for rule in &chain.rules {
        write_rule(out, rule)?;
    }
    writeln!(out, "\t}}")
}

fn write_rule(out: &mut String, rule: &Rule) -> core::fmt::Result {
    out.push_str("\t\t");
    let mut l4 = None;
    for one in &rule.matches {
        if let Match::L4Proto(number) = one {
            l4 = Some(*number);
        }
        write_match(out, one, l4)?;
        out.push(' ');
    }
    if let Some(name) = rule.counter {
        write!(out, "counter name {name:?} ")?;
    }
    match rule.action {
        Action::Continue => {}
        Action::Accept => out.push_str("accept "),
        Action::AcceptAndRefresh { set, version, seconds } => {
            write!(out, "update @{set} {{ {} daddr timeout {seconds}s }} accept ", ip_name(version))?
        }
        Action::Drop => out.push_str("drop "),
        Action::SetMark { value, mask } => {
            write!(out, "meta mark set meta mark & {:#010x} | {value:#010x} ", !mask)?
        }
        Action::Dnat(SocketAddr::V4(to)) => write!(out, "dnat ip to {to} ")?,
        Action::Dnat(SocketAddr::V6(to)) => write!(out, "dnat ip6 to [{}]:{} ", to.ip(), to.port())?,
    }
    writeln!(out, "comment {:?}", rule.comment())
}

/// `l4` is the transport protocol that the matches before this one have settled.
fn write_match(out: &mut String, one: &Match, l4: Option<u8>) -> core::fmt::Result {
    match one {
        Match::Oif(name) => write!(out, "oifname {name:?}"),
        Match::Iif(name) => write!(out, "iifname {name:?}"),
        Match::OifIndex(index) => write!(out, "oif {index}"),
        Match::IifIndex(index) => write!(out, "iif {index}"),
        Match::Mark { value, mask, eq } => {
            write!(out, "meta mark & {mask:#010x} {} {value:#010x}", if *eq { "==" } else { "!=" })
        }
        Match::NfProto(version) => {
            write!(out, "meta nfproto {}", if *version == IpVersion::V4 { "ipv4" } else { "ipv6" })
        }
        Match::EtherType(number) => write!(out, "meta protocol {number:#06x}"),
        Match::L4Proto(number) => write!(out, "meta l4proto {number}"),
        Match::Socket => out.write_str("meta skuid >= 0"),
        Match::SkGid(gid) => write!(out, "meta skgid {gid}"),
        Match::SrcPort(port) => write!(out, "th sport {port}"),
        Match::DstPort(port) => write!(out, "th dport {port}"),
        Match::IcmpType(number) => match l4 {
            Some(1) => write!(out, "icmp type {number}"),
            Some(58) => write!(out, "icmpv6 type {number}"),
            _ => write!(out, "@th,0,8 {number}"),
        },
        Match::SrcAddr(prefix) => write!(out, "{} saddr {}", ip(prefix), network(prefix)),
        Match::DstAddr(prefix) => write!(out, "{} daddr {}", ip(prefix), network(prefix)),
        Match::DstInSet(set, version) => write!(out, "{} daddr @{set}", ip_name(*version)),
        Match::NdTarget(prefix) => write_target(out, prefix),
        Match::CtDirection(CtDirection::Original) => out.write_str("ct direction original"),
        Match::CtDirection(CtDirection::Reply) => out.write_str("ct direction reply"),
        Match::CtState(bits) => write!(out, "ct state {}", states(*bits)),
        Match::ArpOp(number) => write!(out, "arp operation {number}"),
        Match::ArpSender(prefix) => write!(out, "arp saddr ip {}", network(prefix)),
        Match::ArpTarget(prefix) => write!(out, "arp daddr ip {}", network(prefix)),
    }
}

/// The target of a Neighbor Solicitation as raw bits, since nft has no older name for it than 1.0.7's.
fn write_target(out: &mut String, prefix: &Prefix) -> core::fmt::Result {
    let bits = |addr: IpAddr| match addr {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => u128::from(a),
    };
    let value = bits(prefix.network().addr);
    match prefix.len {
        128 => write!(out, "@th,64,128 {value:#034x}"),
        len => {
            let mask = bits(Prefix::new([0xff; 16], len).network().addr);
            write!(out, "@th,64,128 & {mask:#034x} == {value:#034x}")
        }
    }
}

fn states(bits: u32) -> String {
    let named: Vec<&str> = STATES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).gather();
    named.join(",")
}

/// Without the length where it is the address alone: that is how nft writes it.
fn network(prefix: &Prefix) -> String {
    let network = prefix.network();
    if Prefix::host(network.addr) == network { network.addr.to_string() } else { network.to_string() }
}

fn ip(prefix: &Prefix) -> &'static str {
    if prefix.is_ipv6() { "ip6" } else { "ip" }
}

fn ip_name(version: IpVersion) -> &'static str {
    if version == IpVersion::V6 { "ip6" } else { "ip" }
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Inet => "inet",
        Family::Arp => "arp",
        Family::Netdev => "netdev",
    }
}

fn chain_type(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    }
}

fn hook(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
        Hook::Ingress => "ingress",
        Hook::Egress => "egress",
    }
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Accept => "accept",
        Policy::Drop => "drop",
    }
}

const STATES: [(u32, &str); 5] = [
    (CT_INVALID, "invalid"),
    (CT_ESTABLISHED, "established"),
    (CT_RELATED, "related"),
    (CT_NEW, "new"),
    (CT_UNTRACKED, "untracked"),
];
