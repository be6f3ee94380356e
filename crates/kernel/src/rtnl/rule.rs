//! Routing policy rules (`RTM_*RULE`).

use super::{family, is_ipv6, unspecified};
use narrowgate_model::Prefix;
use narrowgate_model::net::{FwMark, Rule, RuleAction, Selector};
use netlink_bindings::rt_rule::{
    FibRuleAttrs, FibRuleHdr, FibRulePortRange, FibRuleUidRange, FrAct, OpDelruleDo, OpGetruleDump,
};
use netlink_bindings::utils::IterableChunks;

pub(crate) const RTM_NEWRULE: u16 = 32;
pub(crate) const RTM_DELRULE: u16 = 33;
pub(crate) const RTM_GETRULE: u16 = 34;

/// The body of a dump request for the rules of one family.
pub(crate) fn dump_request(ipv6: bool) -> Vec<u8> {
    FibRuleHdr { family: family(ipv6), ..FibRuleHdr::new() }.as_slice().to_vec()
}

/// The body of `RTM_NEWRULE` and of `RTM_DELRULE`. Deletion takes the first rule that has all that is given, so all of it
/// is given, the priority and the protocol number first of all.
pub(crate) fn encode(body: &mut Vec<u8>, rule: &Rule) {
    let selector = &rule.selector;
    let (action, table) = match rule.action {
        RuleAction::Lookup(table) => (FrAct::ToTbl as u8, Some(table)),
        RuleAction::Goto(_) => (FrAct::Goto as u8, None),
        RuleAction::Nop => (FrAct::Nop as u8, None),
        RuleAction::Unreachable => (FrAct::Unreachable as u8, None),
        RuleAction::Prohibit => (FrAct::Prohibit as u8, None),
        RuleAction::Blackhole => (FrAct::Blackhole as u8, None),
        RuleAction::Other(number) => (number, None),
    };
    let header = FibRuleHdr {
        family: family(rule.ipv6),
        dst_len: selector.dst.map_or(0, |p| p.len),
        src_len: selector.src.map_or(0, |p| p.len),
        tos: selector.tos.unwrap_or(0),
        table: table.and_then(|t| u8::try_from(t).ok()).unwrap_or(0),
        action,
        flags: if selector.invert { FIB_RULE_INVERT } else { 0 },
        ..FibRuleHdr::new()
    };
    let mut request =
        OpDelruleDo::encode_request(body, &header).push_priority(rule.priority).push_protocol(rule.protocol);
    if let Some(table) = table {
        request = request.push_table(table);
    }
    if let RuleAction::Goto(target) = rule.action {
        request = request.push_goto(target);
    }
    // A prefix of length 0 has no attribute: the kernel has no such selector.
    if let Some(dst) = selector.dst.filter(|p| p.len > 0) {
        request = request.push_dst(dst.addr);
    }
    if let Some(src) = selector.src.filter(|p| p.len > 0) {
        request = request.push_src(src.addr);
    }
    if let Some(name) = &selector.iif {
        request = request.push_iifname_bytes(name.as_bytes());
    }
    if let Some(name) = &selector.oif {
        request = request.push_oifname_bytes(name.as_bytes());
    }
    if let Some(mark) = selector.mark {
        request = request.push_fwmark(mark.value).push_fwmask(mark.mask);
    }
    if let Some(protocol) = selector.ip_proto {
        request = request.push_ip_proto(protocol);
    }
    if let Some((start, end)) = selector.sport {
        request = request.push_sport_range(FibRulePortRange { start, end });
    }
    if let Some((start, end)) = selector.dport {
        request = request.push_dport_range(FibRulePortRange { start, end });
    }
    if let Some((start, end)) = selector.uid {
        request = request.push_uid_range(FibRuleUidRange { start, end });
    }
    if let Some(id) = selector.tun_id {
        request = request.push_tun_id(id.to_be()); // __be64, other than its specification says
    }
    if selector.l3mdev {
        request = request.push_l3mdev(1);
    }
    if let Some(len) = rule.suppress_prefix_len {
        request.push_suppress_prefixlen(len);
    }
}

/// The rule of an `RTM_NEWRULE`; `None` if it is of another family (multicast routing has rules too).
pub(crate) fn decode(body: &[u8]) -> Option<Rule> {
    if body.len() < FibRuleHdr::len() {
        return None;
    }
    let (header, attributes) = OpGetruleDump::decode_request(body);
    let ipv6 = is_ipv6(header.family)?;
    let whole = |len: u8| (len > 0).then(|| Prefix::new(unspecified(ipv6), len));
    let mut selector = Selector {
        invert: header.flags & FIB_RULE_INVERT != 0,
        src: whole(header.src_len),
        dst: whole(header.dst_len),
        tos: Some(header.tos).filter(|tos| *tos != 0),
        unknown: IterableChunks::new(attributes.get_buf()).any(|(h, _)| h.r#type > FRA_LAST_KNOWN),
        ..Selector::default()
    };
    let (mut priority, mut protocol, mut suppress_prefix_len) = (0, 0, None);
    let (mut table, mut target) = (u32::from(header.table), 0);
    let (mut mark, mut mask) = (None, None);
    for attribute in attributes {
        let Ok(attribute) = attribute else {
            selector.unknown = true;
            continue;
        };
        match attribute {
            FibRuleAttrs::Dst(addr) if addr.is_ipv6() == ipv6 => {
                selector.dst = Some(Prefix::new(addr, header.dst_len))
            }
            FibRuleAttrs::Src(addr) if addr.is_ipv6() == ipv6 => {
                selector.src = Some(Prefix::new(addr, header.src_len))
            }
            FibRuleAttrs::Iifname(name) => selector.iif = Some(name.to_string_lossy().into_owned()),
            FibRuleAttrs::Oifname(name) => selector.oif = Some(name.to_string_lossy().into_owned()),
            FibRuleAttrs::Priority(number) => priority = number,
            FibRuleAttrs::Protocol(number) => protocol = number,
            FibRuleAttrs::Table(number) => table = number,
            FibRuleAttrs::Goto(number) => target = number,
            FibRuleAttrs::Fwmark(value) => mark = Some(value),
            FibRuleAttrs::Fwmask(value) => mask = Some(value),
            FibRuleAttrs::TunId(id) => selector.tun_id = Some(u64::from_be(id)),
            FibRuleAttrs::L3mdev(on) => selector.l3mdev = on != 0,
            FibRuleAttrs::UidRange(range) => selector.uid = Some((range.start, range.end)),
            FibRuleAttrs::IpProto(number) => selector.ip_proto = Some(number),
            FibRuleAttrs::SportRange(range) => selector.sport = Some((range.start, range.end)),
            FibRuleAttrs::DportRange(range) => selector.dport = Some((range.start, range.end)),
            FibRuleAttrs::SuppressPrefixlen(len) => {
                suppress_prefix_len = Some(len).filter(|l| *l != u32::MAX)
            }
            FibRuleAttrs::Dscp(dscp) => selector.tos = Some(dscp << 2),
            FibRuleAttrs::DscpMask(DSCP_ALL)
            | FibRuleAttrs::SportMask(u16::MAX)
            | FibRuleAttrs::DportMask(u16::MAX) => {}
            FibRuleAttrs::Pad(_) | FibRuleAttrs::Flow(_) => {} // the flow is a label for accounting
            _ => selector.unknown = true,
        }
    }
    if mark.is_some() || mask.is_some() {
        selector.mark = Some(FwMark { value: mark.unwrap_or(0), mask: mask.unwrap_or(u32::MAX) });
    }
    let action = match header.action {
        1 => RuleAction::Lookup(table),
        2 => RuleAction::Goto(target),
        3 => RuleAction::Nop,
        6 => RuleAction::Blackhole,
        7 => RuleAction::Unreachable,
        8 => RuleAction::Prohibit,
        other => RuleAction::Other(other),
    };
    Some(Rule { ipv6, priority, selector, action, suppress_prefix_len, protocol })
}

const FIB_RULE_INVERT: u32 = 2;
/// `FRA_DSCP_MASK`: what comes after it (Linux 6.15) we have not read about.
const FRA_LAST_KNOWN: u16 = 30;
const DSCP_ALL: u8 = 0x3f;
