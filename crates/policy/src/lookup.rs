//! A model of the kernel's routing: which rule, which table and which route a packet meets (`fib_rules_lookup` in
//! net/core/fib_rules.c, longest prefix and lowest metric in a table).
//!
//! The rules are gone through in their order. One that matches and says `lookup` ends the search if its table has a route; a
//! `goto` whose target is not there, a `throw` route and a route that is too short for `suppress_prefixlength` let it go on.
//! Not in the model: an IPv4 socket that is bound to a device sends even where nothing is found; IPv6 looks up again when it
//! has chosen a source address, so ask twice.

use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::net::IpAddr;
use narrowgate_model::Gather;
use narrowgate_model::net::{Link, Route, RouteKind, Rule, RuleAction, Selector};

/// What the kernel has.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// All rules of both families, in the kernel's order.
    pub rules: &'a [Rule],
    /// The routes of all tables that rules lead to.
    pub routes: &'a [Route],
    /// All devices.
    pub links: &'a [Link],
}

/// What is looked up: the kernel's `struct flowi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The source, if it is chosen already.
    pub src: Option<IpAddr>,
    /// The destination; it decides the family.
    pub dst: IpAddr,
    /// The mark.
    pub mark: u32,
    /// Where it came in; `lo` for packets of this host.
    pub iif: String,
    /// The device that the socket is bound to.
    pub oif: Option<String>,
    /// Transport protocol; 0 if it is not known.
    pub ip_proto: u8,
    /// Source port; 0 if it is not known.
    pub sport: u16,
    /// Destination port; 0 if it is not known.
    pub dport: u16,
    /// User of the socket.
    pub uid: u32,
    /// Type of service, the raw byte.
    pub tos: u8,
}

impl Flow {
    /// A packet of this host's root, unbound, without a mark.
    pub fn to(dst: IpAddr) -> Flow {
        Flow {
            src: None,
            dst,
            mark: 0,
            iif: "lo".to_owned(),
            oif: None,
            ip_proto: 0,
            sport: 0,
            dport: 0,
            uid: 0,
            tos: 0,
        }
    }
}

/// How the search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The rule that decided; `None` at the end of the list.
    pub rule: Option<&'a Rule>,
    /// What it decided.
    pub verdict: Verdict<'a>,
    /// The first rule on the way that the model cannot judge and has passed over: the outcome is not certain.
    pub doubt: Option<&'a Rule>,
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It takes this route, which may be an unreachable one.
    Route(&'a Route),
    /// The rule itself refuses it.
    Refused(RuleAction),
    /// Nothing fits: ENETUNREACH.
    NoRoute,
}

impl Verdict<'_> {
    /// Whether the packet gets nowhere.
    pub fn is_dead_end(&self) -> bool {
        !matches!(self, Verdict::Route(r) if r.kind != RouteKind::Unreachable)
    }
}

/// Goes through the rules as the kernel does.
pub fn lookup<'a>(tables: Tables<'a>, flow: &Flow) -> Outcome<'a> {
    let rules: Vec<&Rule> = tables.rules.iter().filter(|r| r.ipv6 == flow.dst.is_ipv6()).gather();
    let mut doubt = None;
    let mut next = 0;
    while let Some(rule) = rules.get(next).copied() {
        next += 1;
        let Some(matched) = matches(&rule.selector, flow) else {
            doubt = doubt.or(Some(rule));
            continue;
        };
        if !matched {
            continue;
        }
        match rule.action {
            RuleAction::Lookup(table) => {
                if let Some(route) = best(tables, table, flow).filter(|r| counts(rule, r)) {
                    return Outcome { rule: Some(rule), verdict: Verdict::Route(route), doubt };
                }
            }
            RuleAction::Goto(to) if to > rule.priority => {
                if let Some(target) = rules.iter().position(|r| r.priority == to) {
                    next = target;
                }
            }
            RuleAction::Goto(_) | RuleAction::Nop => {}
            action => return Outcome { rule: Some(rule), verdict: Verdict::Refused(action), doubt },
        }
    }
    Outcome { rule: None, verdict: Verdict::NoRoute, doubt }
}

/// Whether a rule is for a packet; `None` if the model cannot tell.
pub fn matches(selector: &Selector, flow: &Flow) -> Option<bool> {
    if selector.unknown || selector.l3mdev {
        return None;
    }
    let within =
        |range: Option<(u16, u16)>, port| range.is_none_or(|(first, last)| (first..=last).contains(&port));
    let all = selector.src.is_none_or(|p| p.is_default() || flow.src.is_some_and(|src| p.contains(src)))
        && selector.dst.is_none_or(|p| p.contains(flow.dst))
        && selector.iif.as_ref().is_none_or(|iif| *iif == flow.iif)
        && selector.oif.as_ref().is_none_or(|oif| Some(oif) == flow.oif.as_ref())
        && selector.mark.is_none_or(|m| (m.value ^ flow.mark) & m.mask == 0)
        && selector.ip_proto.is_none_or(|p| p == flow.ip_proto)
        && within(selector.sport, flow.sport)
        && within(selector.dport, flow.dport)
        && selector.uid.is_none_or(|(first, last)| (first..=last).contains(&flow.uid))
        && selector.tos.is_none_or(|tos| tos == flow.tos)
        && selector.tun_id.is_none_or(|id| id == 0);
    Some(all != selector.invert)
}

/// The longest prefix, and among equals the lowest metric. Routes over other devices than the bound one do not count.
fn best<'a>(tables: Tables<'a>, table: u32, flow: &Flow) -> Option<&'a Route> {
    let bound = flow.oif.as_ref().map(|name| tables.links.iter().find(|l| l.name == *name).map(|l| l.index));
    let usable = |r: &&Route| {
        r.table == table
            && r.dst.contains(flow.dst)
            && (r.kind != RouteKind::Unicast || bound.is_none_or(|index| r.link == index))
    };
    let order = |r: &&Route| (core::cmp::Reverse(r.dst.len), r.metric);
    tables.routes.iter().filter(usable).min_by_key(order)
}

/// Whether a route that was found ends the search.
fn counts(rule: &Rule, route: &Route) -> bool {
    route.kind != THROW && rule.suppress_prefix_len.is_none_or(|len| u32::from(route.dst.len) > len)
}

/// `RTN_THROW`: as if the table had no route.
const THROW: RouteKind = RouteKind::Other(9);
