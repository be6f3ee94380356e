//! Routing policy rules (`RTM_*RULE`).

use super::{family, is_ipv6, of_family, unspecified};
use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_model::Prefix;
use narrowgate_model::net::{FwMark, Rule, RuleAction, Selector};
use narrowgate_sys::netlink::{self, Put, attributes, text};

pub(crate) const RTM_NEWRULE: u16 = 32;
pub(crate) const RTM_DELRULE: u16 = 33;
pub(crate) const RTM_GETRULE: u16 = 34;

/// The body of a dump request for the rules of one family.
pub(crate) fn dump_request(ipv6: bool) -> [u8; HEADER_LEN] {
    [family(ipv6), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The body of `RTM_NEWRULE` and of `RTM_DELRULE`. Deletion takes the first rule that has all that is given, so all of it
/// is given, the priority and the protocol number first of all.
pub(crate) fn encode(body: &mut Vec<u8>, rule: &Rule) {
    let selector = &rule.selector;
    let (action, target) = match rule.action {
        RuleAction::Lookup(table) => (FR_ACT_TO_TBL, Some((FRA_TABLE, table))),
        RuleAction::Goto(target) => (FR_ACT_GOTO, Some((FRA_GOTO, target))),
        RuleAction::Nop => (FR_ACT_NOP, None),
        RuleAction::Unreachable => (FR_ACT_UNREACHABLE, None),
        RuleAction::Prohibit => (FR_ACT_PROHIBIT, None),
        RuleAction::Blackhole => (FR_ACT_BLACKHOLE, None),
        RuleAction::Other(number) => (number, None),
    };
    let table = match rule.action {
        RuleAction::Lookup(table) => u8::try_from(table).unwrap_or(0),
        _ => 0,
    };
    let (dst, src) = (selector.dst.map_or(0, |p| p.len), selector.src.map_or(0, |p| p.len));
    let tos = selector.tos.unwrap_or(0);
    body.extend_from_slice(&[family(rule.ipv6), dst, src, tos, table, 0, 0, action]);
    let flags = if selector.invert { FIB_RULE_INVERT } else { 0 };
    body.extend_from_slice(&flags.to_ne_bytes());
    body.put_number(FRA_PRIORITY, rule.priority);
    body.put(FRA_PROTOCOL, &[rule.protocol]);
    let (mark, mask) = (selector.mark.map(|mark| mark.value), selector.mark.map(|mark| mark.mask));
    let (target, number) = target.map_or((FRA_TABLE, None), |(kind, number)| (kind, Some(number)));
    put_number(body, target, number);
    put_number(body, FRA_FWMARK, mark);
    put_number(body, FRA_FWMASK, mask);
    put_number(body, FRA_SUPPRESS_PREFIXLEN, rule.suppress_prefix_len);
    put_prefix(body, FRA_DST, &selector.dst);
    put_prefix(body, FRA_SRC, &selector.src);
    put_name(body, FRA_IIFNAME, &selector.iif);
    put_name(body, FRA_OIFNAME, &selector.oif);
    if let Some(protocol) = selector.ip_proto {
        body.put(FRA_IP_PROTO, &[protocol]);
    }
    put_ports(body, FRA_SPORT_RANGE, selector.sport);
    put_ports(body, FRA_DPORT_RANGE, selector.dport);
    if let Some((start, end)) = selector.uid {
        let range = body.open(FRA_UID_RANGE);
        body.extend_from_slice(&start.to_ne_bytes());
        body.extend_from_slice(&end.to_ne_bytes());
        body.close(range);
    }
    if let Some(id) = selector.tun_id {
        body.put(FRA_TUN_ID, &id.to_be_bytes());
    }
    if selector.l3mdev {
        body.put(FRA_L3MDEV, &[1]);
    }
}

#[inline(never)]
fn put_number(body: &mut Vec<u8>, kind: u16, number: Option<u32>) {
    if let Some(number) = number {
        body.put_number(kind, number);
    }
}

/// A prefix of length 0 has no attribute: the kernel has no such selector.
#[inline(never)]
fn put_prefix(body: &mut Vec<u8>, kind: u16, prefix: &Option<Prefix>) {
    if let Some(prefix) = prefix
        && prefix.len > 0
    {
        body.put_ip(kind, prefix.addr);
    }
}

#[inline(never)]
fn put_name(body: &mut Vec<u8>, kind: u16, name: &Option<String>) {
    if let Some(name) = name {
        body.put_text(kind, name);
    }
}

#[inline(never)]
fn put_ports(body: &mut Vec<u8>, kind: u16, ports: Option<(u16, u16)>) {
    if let Some((start, end)) = ports {
        let ([s0, s1], [e0, e1]) = (start.to_ne_bytes(), end.to_ne_bytes());
        body.put(kind, &[s0, s1, e0, e1]);
    }
}

/// The rule of an `RTM_NEWRULE`; none if it is of another family (multicast routing has rules too).
pub(crate) fn decode(body: &[u8], rules: &mut Vec<Rule>) {
    let Some((header, rest)) = body.split_first_chunk::<HEADER_LEN>() else { return };
    let Some(ipv6) = is_ipv6(header[0]) else { return };
    let (action, selector) = (RuleAction::Nop, Selector::default());
    let mut rule = Rule { ipv6, priority: 0, selector, action, suppress_prefix_len: None, protocol: 0 };
    read(header, rest, &mut rule);
    rules.push(rule);
}

#[inline(never)] // into the frame of the above, a local variable for each field and much copying
fn read(header: &[u8; HEADER_LEN], rest: &[u8], rule: &mut Rule) {
    let [_, dst_len, src_len, tos, table, _, _, action, f0, f1, f2, f3] = *header;
    let ipv6 = rule.ipv6;
    let whole = |len: u8| (len > 0).then(|| Prefix::new(unspecified(ipv6), len));
    let selector = &mut rule.selector;
    selector.invert = u32::from_ne_bytes([f0, f1, f2, f3]) & FIB_RULE_INVERT != 0;
    (selector.src, selector.dst) = (whole(src_len), whole(dst_len));
    selector.tos = Some(tos).filter(|tos| *tos != 0);
    let (mut table, mut target) = (u32::from(table), 0);
    let (mut mark, mut mask) = (None, None);
    for (kind, value) in attributes(rest) {
        let least = LEAST.get(usize::from(kind)).copied().unwrap_or(UNKNOWN);
        if value.len() < usize::from(least) {
            selector.unknown = true;
            continue;
        }
        let byte = value.first().copied().unwrap_or(0);
        let number = netlink::number(value).unwrap_or(0);
        match kind {
            FRA_DST | FRA_SRC => match of_family(ipv6, value) {
                Some(addr) if kind == FRA_DST => selector.dst = Some(Prefix::new(addr, dst_len)),
                Some(addr) => selector.src = Some(Prefix::new(addr, src_len)),
                None => selector.unknown = true,
            },
            FRA_IIFNAME => selector.iif = Some(text(value)),
            FRA_OIFNAME => selector.oif = Some(text(value)),
            FRA_PRIORITY => rule.priority = number,
            FRA_PROTOCOL => rule.protocol = byte,
            FRA_TABLE => table = number,
            FRA_GOTO => target = number,
            FRA_FWMARK => mark = Some(number),
            FRA_FWMASK => mask = Some(number),
            FRA_TUN_ID => selector.tun_id = value.first_chunk().map(|id| u64::from_be_bytes(*id)),
            FRA_L3MDEV => selector.l3mdev = byte != 0,
            FRA_UID_RANGE => {
                selector.uid = value.get(4..).and_then(netlink::number).map(|last| (number, last));
            }
            FRA_IP_PROTO => selector.ip_proto = Some(byte),
            FRA_SPORT_RANGE => selector.sport = ports(value),
            FRA_DPORT_RANGE => selector.dport = ports(value),
            FRA_SUPPRESS_PREFIXLEN => {
                rule.suppress_prefix_len = Some(number).filter(|len| *len != u32::MAX);
            }
            FRA_DSCP => selector.tos = Some(byte << 2),
            FRA_DSCP_MASK => selector.unknown |= byte != DSCP_ALL,
            FRA_SPORT_MASK | FRA_DPORT_MASK => selector.unknown |= !value.starts_with(&[0xff; 2]),
            _ => {} // padding, and the flow, which is a label for accounting
        }
    }
    if mark.is_some() || mask.is_some() {
        selector.mark = Some(FwMark { value: mark.unwrap_or(0), mask: mask.unwrap_or(u32::MAX) });
    }
    rule.action = match action {
        FR_ACT_TO_TBL => RuleAction::Lookup(table),
        FR_ACT_GOTO => RuleAction::Goto(target),
        FR_ACT_NOP => RuleAction::Nop,
        FR_ACT_BLACKHOLE => RuleAction::Blackhole,
        FR_ACT_UNREACHABLE => RuleAction::Unreachable,
        FR_ACT_PROHIBIT => RuleAction::Prohibit,
        other => RuleAction::Other(other),
    };
}

/// The first port and the last.
fn ports(value: &[u8]) -> Option<(u16, u16)> {
    let [s0, s1, e0, e1] = *value.first_chunk()?;
    Some((u16::from_ne_bytes([s0, s1]), u16::from_ne_bytes([e0, e1])))
}

/// Of each attribute that we know how long it is at least. A rule with another, or one that is shorter, cannot be judged. What comes
/// after the last (Linux 6.15) we have not read about.
static LEAST: [u8; 31] = {
    let mut least = [UNKNOWN; 31];
    let known = [
        (FRA_DST, 4),
        (FRA_SRC, 4),
        (FRA_IIFNAME, 1),
        (FRA_GOTO, 4),
        (FRA_PRIORITY, 4),
        (FRA_FWMARK, 4),
        (FRA_FLOW, 4),
        (FRA_TUN_ID, 8),
        (FRA_SUPPRESS_PREFIXLEN, 4),
        (FRA_TABLE, 4),
        (FRA_FWMASK, 4),
        (FRA_OIFNAME, 1),
        (FRA_PAD, 0),
        (FRA_L3MDEV, 1),
        (FRA_UID_RANGE, 8),
        (FRA_PROTOCOL, 1),
        (FRA_IP_PROTO, 1),
        (FRA_SPORT_RANGE, 4),
        (FRA_DPORT_RANGE, 4),
        (FRA_DSCP, 1),
        (FRA_SPORT_MASK, 2),
        (FRA_DPORT_MASK, 2),
        (FRA_DSCP_MASK, 1),
    ];
    let mut i = 0;
    while i < known.len() {
        least[known[i].0 as usize] = known[i].1;
        i += 1;
    }
    least
};
const UNKNOWN: u8 = u8::MAX;

/// `struct fib_rule_hdr`, attributes and actions (linux/fib_rules.h).
const HEADER_LEN: usize = 12;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_FLOW: u16 = 11;
const FRA_TUN_ID: u16 = 12;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_PAD: u16 = 18;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
const FRA_DSCP: u16 = 25;
const FRA_SPORT_MASK: u16 = 28;
const FRA_DPORT_MASK: u16 = 29;
const FRA_DSCP_MASK: u16 = 30;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_GOTO: u8 = 2;
const FR_ACT_NOP: u8 = 3;
const FR_ACT_BLACKHOLE: u8 = 6;
const FR_ACT_UNREACHABLE: u8 = 7;
const FR_ACT_PROHIBIT: u8 = 8;
const FIB_RULE_INVERT: u32 = 2;
const DSCP_ALL: u8 = 0x3f;
