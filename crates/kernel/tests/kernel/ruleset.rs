//! Rulesets to load.

use narrowgate_model::Prefix;
use narrowgate_model::nft::{
    Action, CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED, CT_UNTRACKED, Chain, ChainKind, CtDirection,
    Family, Hook, IpVersion, Match, Policy, Rule, Ruleset, Table,
};

pub fn rule(label: &'static str, matches: Vec<Match>, counter: Option<&'static str>, action: Action) -> Rule {
    Rule { label, matches, counter, action }
}

pub fn chain(name: &'static str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        kind: ChainKind::Filter,
        hook,
        priority: 0,
        policy: Policy::Accept,
        devices: Vec::new(),
        rules,
    }
}

pub fn table(family: Family, counters: Vec<&'static str>, chains: Vec<Chain>) -> Table {
    Table { family, counters, sets: Vec::new(), chains }
}

/// All matches and all actions in all families, on the device `wan`.
pub fn everything() -> Ruleset {
    let filter = chain("output", Hook::Output, inet_matches().into_iter().map(accept).collect());
    let mut marking = chain(
        "marking",
        Hook::Prerouting,
        vec![mark(1, 1), mark(0x10, 0xff), mark(0xffff_ffff, 0xffff_ffff)],
    );
    marking.priority = -150;
    let mut forward =
        chain("forwarding", Hook::Forward, vec![rule("count", vec![], Some("forwarded"), Action::Continue)]);
    forward.policy = Policy::Drop;
    let input = chain(
        "input",
        Hook::Input,
        vec![rule("drop", vec![Match::Iif("wan".to_owned())], Some("dropped"), Action::Drop)],
    );
    let postrouting = chain("post", Hook::Postrouting, vec![rule("none", vec![], None, Action::Accept)]);
    let nat = Chain { kind: ChainKind::Nat, priority: -100, ..chain("redirecting", Hook::Output, dnat()) };
    let inet = vec![filter, marking, forward, input, postrouting, nat];
    let arp = vec![
        chain("arpin", Hook::Input, vec![mark(1, 1)]),
        chain("arpout", Hook::Output, arp_matches().into_iter().map(accept).collect()),
    ];
    let egress = Chain {
        devices: vec!["wan".to_owned()],
        ..chain("egress", Hook::Egress, netdev_matches().into_iter().map(accept).chain([frames()]).collect())
    };
    Ruleset {
        tables: vec![
            table(Family::Inet, vec!["dropped", "forwarded"], inet),
            table(Family::Arp, vec![], arp),
            table(Family::Netdev, vec!["frames"], vec![egress]),
        ],
    }
}

fn accept(matches: Vec<Match>) -> Rule {
    rule("accept", matches, None, Action::Accept)
}

fn frames() -> Rule {
    rule("frame", vec![], Some("frames"), Action::Drop)
}

fn mark(value: u32, mask: u32) -> Rule {
    rule("mark", vec![Match::Iif("wan".to_owned())], None, Action::SetMark { value, mask })
}

fn dnat() -> Vec<Rule> {
    let redirect = |version, proto, to: &str| {
        let matches =
            vec![Match::SkGid(800), Match::NfProto(version), Match::L4Proto(proto), Match::DstPort(53)];
        rule("dns", matches, None, Action::Dnat(to.parse().unwrap()))
    };
    vec![redirect(IpVersion::V4, 17, "127.0.0.1:54"), redirect(IpVersion::V6, 6, "[::1]:54")]
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn inet_matches() -> Vec<Vec<Match>> {
    vec![
        vec![],
        vec![Match::Oif("wan".to_owned())],
        vec![Match::Iif("abcdefghijklmno".to_owned())],
        vec![Match::Socket],
        vec![Match::OifIndex(70_000)],
        vec![Match::IifIndex(9)],
        vec![Match::Mark { value: 1, mask: 1, eq: true }],
        vec![Match::Mark { value: 0x10, mask: 0xf0, eq: false }],
        vec![Match::NfProto(IpVersion::V4)],
        vec![Match::NfProto(IpVersion::V6)],
        vec![Match::L4Proto(6)],
        vec![Match::L4Proto(255)],
        vec![Match::SkGid(800)],
        vec![Match::L4Proto(17), Match::SrcPort(68), Match::DstPort(67)],
        vec![Match::L4Proto(6), Match::DstPort(22)],
        vec![Match::NfProto(IpVersion::V4), Match::L4Proto(1), Match::IcmpType(8)],
        vec![Match::NfProto(IpVersion::V6), Match::L4Proto(58), Match::IcmpType(133)],
        vec![Match::NfProto(IpVersion::V4), Match::L4Proto(2), Match::IcmpType(0x16)],
        vec![Match::SrcAddr(prefix("10.0.0.0/8"))],
        vec![Match::SrcAddr(prefix("0.0.0.0/0"))],
        vec![Match::DstAddr(prefix("192.0.2.77/25"))],
        vec![Match::NfProto(IpVersion::V4), Match::DstAddr(prefix("192.0.2.1"))],
        vec![Match::SrcAddr(prefix("fe80::/10"))],
        vec![Match::DstAddr(prefix("ff02::16"))],
        vec![Match::SrcAddr(prefix("::")), Match::DstAddr(prefix("ff02::1:ff00:0/104"))],
        vec![
            Match::NfProto(IpVersion::V6),
            Match::L4Proto(58),
            Match::IcmpType(135),
            Match::NdTarget(prefix("fe80::/64")),
        ],
        vec![
            Match::NfProto(IpVersion::V6),
            Match::L4Proto(58),
            Match::IcmpType(135),
            Match::NdTarget(prefix("2001:db8::1")),
        ],
        vec![Match::CtDirection(CtDirection::Original)],
        vec![Match::CtDirection(CtDirection::Reply)],
        vec![Match::CtState(CT_ESTABLISHED | CT_RELATED)],
        vec![Match::CtState(CT_INVALID)],
        vec![Match::CtState(CT_NEW | CT_UNTRACKED)],
    ]
}

fn arp_matches() -> Vec<Vec<Match>> {
    vec![
        vec![Match::Oif("wan".to_owned()), Match::ArpOp(1)],
        vec![Match::ArpOp(2)],
        vec![Match::ArpSender(prefix("192.0.2.0/24"))],
        vec![Match::ArpOp(1), Match::ArpSender(prefix("0.0.0.0")), Match::ArpTarget(prefix("192.0.2.0/26"))],
    ]
}

fn netdev_matches() -> Vec<Vec<Match>> {
    vec![
        vec![Match::EtherType(0x0806), Match::ArpOp(2), Match::ArpTarget(prefix("192.0.2.128/25"))],
        vec![Match::EtherType(0x86dd), Match::Mark { value: 1, mask: 1, eq: true }],
        vec![Match::EtherType(0x0800), Match::L4Proto(17), Match::SrcPort(68), Match::DstPort(67)],
        vec![Match::EtherType(0x0800), Match::SrcAddr(prefix("192.0.2.200/29"))],
        vec![
            Match::EtherType(0x86dd),
            Match::L4Proto(58),
            Match::IcmpType(135),
            Match::NdTarget(prefix("fe80::/10")),
        ],
        vec![Match::EtherType(0x86dd), Match::DstAddr(prefix("ff02::2"))],
        vec![Match::EtherType(0x88cc)],
    ]
}
