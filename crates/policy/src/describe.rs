//! A step in the words of `ip`, `nft` and `sysctl`, for logs and for `plan`.

use alloc::{borrow::ToOwned, string::String};
use core::fmt::Write;
use narrowgate_model::net::{Address, Route, RouteKind, Rule, RuleAction, Selector};
use narrowgate_model::state::Step;

/// One line.
pub fn describe(step: &Step) -> String {
    match step {
        Step::SetGuard(rules) => {
            let chains = rules.tables.iter().map(|t| t.chains.len()).sum::<usize>();
            let mut text = String::from("set the guard (");
            put(&mut text, "", &chains);
            text + " chains)"
        }
        Step::RemoveGuard => "remove the guard".to_owned(),
        Step::SetSysctl { path, value } => ["sysctl ", path, "=", value].concat(),
        Step::SetLink { name, up } => ["ip link set ", name, if *up { " up" } else { " down" }].concat(),
        Step::AddAddress(a) => address("ip address replace ", a),
        Step::RemoveAddress(a) => address("ip address del ", a),
        Step::AddRoute(r) => route("route add ", r),
        Step::RemoveRoute(r) => route("route del ", r),
        Step::AddRule(r) => rule("rule add", r),
        Step::RemoveRule(r) => rule("rule del", r),
    }
}

/// `key`, then the value.
fn put(text: &mut String, key: &str, value: &dyn core::fmt::Display) {
    text.push_str(key);
    let _ = write!(text, "{value}"); // a String takes everything
}

/// The same with a number; nothing if there is none.
#[inline(never)]
fn number(text: &mut String, key: &str, value: Option<u32>) {
    if let Some(value) = value {
        put(text, key, &value);
    }
}

fn address(verb: &str, a: &Address) -> String {
    let mut text = verb.to_owned();
    put(&mut text, "", &a.prefix);
    number(&mut text, " dev #", Some(a.link));
    text
}

fn family(ipv6: bool) -> &'static str {
    if ipv6 { "ip -6 " } else { "ip " }
}

fn route(verb: &str, r: &Route) -> String {
    let mut text = [family(r.dst.is_ipv6()), verb].concat();
    match r.kind {
        RouteKind::Unicast => {}
        RouteKind::Unreachable => text.push_str("unreachable "),
        RouteKind::Other(n) => number(&mut text, "type ", Some(n.into())),
    }
    put(&mut text, "", &r.dst);
    if let Some(via) = r.via {
        put(&mut text, " via ", &via);
    }
    number(&mut text, " dev #", r.link);
    number(&mut text, " table ", Some(r.table));
    number(&mut text, " metric ", Some(r.metric));
    if r.onlink {
        text.push_str(" onlink");
    }
    text
}

fn rule(verb: &str, r: &Rule) -> String {
    let mut text = [family(r.ipv6), verb].concat();
    number(&mut text, " pref ", Some(r.priority));
    selector(&mut text, &r.selector);
    let (word, which) = match r.action {
        RuleAction::Lookup(table) => (" lookup ", Some(table)),
        RuleAction::Goto(to) => (" goto ", Some(to)),
        RuleAction::Nop => (" nop", None),
        RuleAction::Unreachable => (" unreachable", None),
        RuleAction::Prohibit => (" prohibit", None),
        RuleAction::Blackhole => (" blackhole", None),
        RuleAction::Other(n) => (" type ", Some(n.into())),
    };
    text.push_str(word);
    number(&mut text, "", which);
    number(&mut text, " suppress_prefixlength ", r.suppress_prefix_len);
    text
}

fn selector(text: &mut String, s: &Selector) {
    let flag = |text: &mut String, set: bool, word: &str| {
        if set {
            text.push_str(word);
        }
    };
    flag(text, s.invert, " not");
    for (key, prefix) in [(" from ", &s.src), (" to ", &s.dst)] {
        if let Some(prefix) = prefix {
            put(text, key, prefix);
        }
    }
    for (key, name) in [(" iif ", &s.iif), (" oif ", &s.oif)] {
        if let Some(name) = name {
            put(text, key, name);
        }
    }
    if let Some(mark) = s.mark {
        let _ = write!(text, " fwmark {:#x}/{:#x}", mark.value, mark.mask);
    }
    number(text, " ipproto ", s.ip_proto.map(u32::from));
    let wide = |(first, last): (u16, u16)| (u32::from(first), u32::from(last));
    let ranges = [(" sport ", s.sport.map(wide)), (" dport ", s.dport.map(wide)), (" uidrange ", s.uid)];
    for (key, range) in ranges {
        number(text, key, range.map(|(first, _)| first));
        number(text, "-", range.map(|(_, last)| last));
    }
    number(text, " tos ", s.tos.map(u32::from));
    flag(text, s.l3mdev, " l3mdev");
    flag(text, s.unknown, " (and more)");
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowgate_model::net::FwMark;
    use narrowgate_model::{PROTOCOL, Prefix};

    #[test]
    fn a_step_reads_like_the_command_that_would_do_it() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        let selector = Selector {
            src: Some(prefix("2001:db8::5/128")),
            iif: Some("lo".into()),
            mark: Some(FwMark { value: 0, mask: 1 }),
            ..Selector::default()
        };
        let twin = Rule {
            ipv6: true,
            priority: 9999,
            selector,
            action: RuleAction::Goto(15000),
            suppress_prefix_len: None,
            protocol: PROTOCOL,
        };
        let default = Route {
            table: 1,
            dst: Prefix::DEFAULT_V4,
            kind: RouteKind::Unicast,
            via: Some("10.0.0.1".parse().unwrap()),
            link: Some(2),
            metric: 528,
            onlink: true,
            source: None,
            protocol: PROTOCOL,
        };
        let dead =
            Route { kind: RouteKind::Unreachable, via: None, link: None, onlink: false, ..default.clone() };
        for (step, text) in [
            (
                Step::AddRule(twin),
                "ip -6 rule add pref 9999 from 2001:db8::5/128 iif lo fwmark 0x0/0x1 goto 15000",
            ),
            (Step::AddRoute(default), "ip route add 0.0.0.0/0 via 10.0.0.1 dev #2 table 1 metric 528 onlink"),
            (Step::RemoveRoute(dead), "ip route del unreachable 0.0.0.0/0 table 1 metric 528"),
            (Step::SetLink { name: "eth0".into(), up: true }, "ip link set eth0 up"),
            (Step::SetSysctl { path: "net/ipv4/x".into(), value: "1".into() }, "sysctl net/ipv4/x=1"),
        ] {
            assert_eq!(describe(&step), text);
        }
    }
}
