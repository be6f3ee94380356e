//! Rules.

use crate::namespace::{NOW, apply_twice, enter, observe, sh};
use narrowgate_kernel::Kernel;
use narrowgate_model::PROTOCOL;
use narrowgate_model::net::{FwMark, Rule, RuleAction, Selector};
use narrowgate_model::state::Step;

fn rule(ipv6: bool, priority: u32, selector: Selector, action: RuleAction) -> Rule {
    Rule { ipv6, priority, selector, action, suppress_prefix_len: None, protocol: PROTOCOL }
}

fn ours(rules: &[Rule]) -> Vec<Rule> {
    rules.iter().filter(|r| r.protocol == PROTOCOL).cloned().collect()
}

/// One of each selector and action that the model has.
fn samples(ipv6: bool) -> Vec<Rule> {
    let none = Selector::default;
    let prefix = |v4: &str, v6: &str| Some(if ipv6 { v6 } else { v4 }.parse().unwrap());
    let mark = |value, mask| Some(FwMark { value, mask });
    let mut rules = vec![
        rule(ipv6, 900, Selector { mark: mark(1, 1), ..none() }, RuleAction::Lookup(1)),
        rule(ipv6, 901, Selector { mark: mark(0, 1), ..none() }, RuleAction::Lookup(254)),
        rule(ipv6, 902, Selector { mark: mark(0, 1), ..none() }, RuleAction::Unreachable),
        rule(
            ipv6,
            903,
            Selector { src: prefix("10.0.0.0/8", "2001:db8::/32"), ..none() },
            RuleAction::Lookup(100_000),
        ),
        rule(
            ipv6,
            904,
            Selector { dst: prefix("10.1.2.3/32", "2001:db8::1/128"), ..none() },
            RuleAction::Prohibit,
        ),
        rule(ipv6, 905, Selector { iif: Some("lo".to_owned()), ..none() }, RuleAction::Blackhole),
        rule(ipv6, 906, Selector { oif: Some("wan.7".to_owned()), ..none() }, RuleAction::Nop),
        rule(
            ipv6,
            907,
            Selector { ip_proto: Some(17), dport: Some((53, 53)), ..none() },
            RuleAction::Lookup(1),
        ),
        rule(
            ipv6,
            908,
            Selector { ip_proto: Some(6), sport: Some((22, 80)), ..none() },
            RuleAction::Lookup(1),
        ),
        rule(ipv6, 909, Selector { uid: Some((0, 1000)), ..none() }, RuleAction::Lookup(1)),
        rule(ipv6, 910, Selector { tos: Some(0x10), ..none() }, RuleAction::Lookup(1)),
        rule(ipv6, 911, Selector { tun_id: Some(0x0102_0304_0506), ..none() }, RuleAction::Lookup(1)),
        rule(ipv6, 912, Selector { invert: true, mark: mark(1, 1), ..none() }, RuleAction::Lookup(1)),
        rule(ipv6, 913, none(), RuleAction::Goto(920)),
        rule(ipv6, 920, none(), RuleAction::Nop),
        rule(ipv6, 921, none(), RuleAction::Lookup(254)),
    ];
    if let Some(last) = rules.last_mut() {
        last.suppress_prefix_len = Some(0);
    }
    rules
}

#[test]
fn every_selector_and_action_shows_as_it_was_added_and_goes_when_removed() {
    let mut real = enter();
    let before = observe(&mut real).rules;
    for ipv6 in [false, true] {
        for wanted in samples(ipv6) {
            let observed = apply_twice(&mut real, &Step::AddRule(wanted.clone()));
            assert!(observed.rules.contains(&wanted), "{wanted:?} in {:?}", ours(&observed.rules));
        }
        assert_eq!(ours(&observe(&mut real).rules), samples(ipv6));
        for wanted in samples(ipv6) {
            let observed = apply_twice(&mut real, &Step::RemoveRule(wanted.clone()));
            assert!(!observed.rules.contains(&wanted), "{wanted:?}");
        }
    }
    assert_eq!(observe(&mut real).rules, before);
}

#[test]
fn what_ip_adds_by_words_is_what_we_mean_by_the_same() {
    let mut real = enter();
    let words = [
        "pref 900 fwmark 1/1 lookup 1",
        "pref 901 fwmark 0/1 lookup main",
        "pref 902 fwmark 0/1 unreachable",
        "pref 903 from PREFIX lookup 100000",
        "pref 904 to HOST prohibit",
        "pref 905 iif lo blackhole",
        "pref 906 oif wan.7 nop",
        "pref 907 ipproto udp dport 53 lookup 1",
        "pref 908 ipproto tcp sport 22-80 lookup 1",
        "pref 909 uidrange 0-1000 lookup 1",
        "pref 910 tos 0x10 lookup 1",
        "pref 911 tun_id 1108152157446 lookup 1",
        "pref 912 not fwmark 1/1 lookup 1",
        "pref 913 goto 920",
        "pref 920 nop",
        "pref 921 lookup main suppress_prefixlength 0",
    ];
    for (ipv6, flag, prefix, host) in
        [(false, "-4", "10.0.0.0/8", "10.1.2.3"), (true, "-6", "2001:db8::/32", "2001:db8::1")]
    {
        for words in words {
            let words = words.replace("PREFIX", prefix).replace("HOST", host);
            sh(&format!("ip {flag} rule add {words} protocol 110"));
        }
        for (seen, wanted) in ours(&observe(&mut real).rules).into_iter().zip(samples(ipv6)) {
            assert_eq!(seen, wanted);
        }
        samples(ipv6).into_iter().for_each(|r| real.apply(&Step::RemoveRule(r), NOW).unwrap());
    }
}

#[test]
fn the_rules_of_a_fresh_namespace_are_the_kernels() {
    let mut real = enter();
    let seen: Vec<_> =
        observe(&mut real).rules.iter().map(|r| (r.ipv6, r.priority, r.action, r.protocol)).collect();
    let lookup = RuleAction::Lookup;
    let expected = [
        (false, 0, lookup(255), 2),
        (false, 32766, lookup(254), 2),
        (false, 32767, lookup(253), 2),
        (true, 0, lookup(255), 2),
        (true, 32766, lookup(254), 2),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn removing_a_rule_leaves_a_foreign_one_that_is_the_same_but_for_its_protocol() {
    let mut real = enter();
    sh("ip rule add pref 900 fwmark 1/1 lookup 1; ip -6 rule add pref 900 fwmark 1/1 lookup 1");
    let before = observe(&mut real).rules;
    for ipv6 in [false, true] {
        let mark = Some(FwMark { value: 1, mask: 1 });
        let mine = rule(ipv6, 900, Selector { mark, ..Selector::default() }, RuleAction::Lookup(1));
        apply_twice(&mut real, &Step::RemoveRule(mine.clone()));
        assert_eq!(observe(&mut real).rules, before);
        apply_twice(&mut real, &Step::AddRule(mine.clone()));
        assert_eq!(observe(&mut real).rules.len(), before.len() + 1);
        apply_twice(&mut real, &Step::RemoveRule(mine));
        assert_eq!(observe(&mut real).rules, before);
    }
}

#[test]
fn a_rule_with_what_the_model_has_no_word_for_is_seen_as_unknown_and_never_touched() {
    let mut real = enter();
    sh("ip rule add pref 950 suppress_ifgroup 3 lookup 1 protocol 110");
    let seen = ours(&observe(&mut real).rules);
    assert_eq!(seen.iter().map(|r| (r.priority, r.selector.unknown)).collect::<Vec<_>>(), [(950, true)]);
    let error = real.apply(&Step::RemoveRule(seen[0].clone()), NOW).unwrap_err().to_string();
    assert!(error.starts_with("removing IPv4 rule 950: "), "{error}");
    assert_eq!(ours(&observe(&mut real).rules), seen);
}

#[test]
fn l3mdev_rules_of_others_are_read() {
    let mut real = enter();
    sh("ip rule add pref 960 l3mdev");
    let rules = observe(&mut real).rules;
    let seen = rules.iter().find(|r| r.priority == 960).unwrap();
    assert!(seen.selector.l3mdev && !seen.selector.unknown, "{seen:?}");
}
