//! Promises of the rules, proved with the model of the kernel's look-up: what has the mark takes the WAN table and nothing
//! else, what has not never gets there, and foreign rules work as if we were not there.

use crate::make::*;
use crate::world::World;
use narrowgate_model::net::{Route, RouteKind, Rule, RuleAction};
use narrowgate_model::state::Observed;
use narrowgate_model::{Config, PROTOCOL};
use narrowgate_policy::lookup::{Flow, Outcome, Tables, Verdict, lookup, matches};
use narrowgate_policy::{desired, diff};
use proptest::prelude::*;

/// The kernel behind our plan, with routes in the main table and in a foreign one.
fn applied(config: &Config, foreign: Vec<Rule>) -> Observed {
    let mut observed = bare(config);
    observed.rules = rules(foreign, config);
    let way = |table, dst: &str| Route {
        table,
        dst: prefix(dst),
        kind: RouteKind::Unicast,
        via: None,
        link: Some(3),
        metric: 1,
        onlink: false,
        source: None,
        protocol: 4,
    };
    observed.routes =
        vec![way(254, "2001:db8:9::/64"), way(254, "0.0.0.0/0"), way(52, "::/0"), way(255, "::1/128")];
    let facts = learnt(facts());
    let mut world = World { observed, guard: None };
    let plan = diff(&desired(&inputs(config, &facts, &world.observed)), &world.observed, NOW);
    world.apply_all(&plan);
    world.observed
}

fn ask<'a>(observed: &'a Observed, flow: &Flow) -> Outcome<'a> {
    lookup(Tables { rules: &observed.rules, routes: &observed.routes, links: &observed.links }, flow)
}

/// The same kernel where we have no rules, and where the foreign rules to the WAN table that we promise to jump over do nothing.
fn without_us(observed: &Observed, config: &Config) -> Observed {
    let mut reference = observed.clone();
    reference.rules.retain(|r| r.protocol != PROTOCOL);
    let promised: Vec<bool> =
        reference.rules.iter().map(|r| is_promised(r, &reference.rules, config)).collect();
    for (rule, promised) in reference.rules.iter_mut().zip(promised) {
        if promised {
            rule.action = RuleAction::Nop;
        }
    }
    reference
}

/// Not priority 0, and all rules of its priority go to the WAN table and can be read; inverted ones only behind our rule.
fn is_promised(rule: &Rule, foreign: &[Rule], config: &Config) -> bool {
    let readable =
        |r: &Rule| !r.selector.unknown && (!r.selector.invert || r.priority > config.rule_priority + 1);
    let peers = foreign.iter().filter(|r| r.ipv6 == rule.ipv6 && r.priority == rule.priority);
    rule.priority > 0
        && peers.into_iter().all(|r| r.action == RuleAction::Lookup(config.table) && readable(r))
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let pair = prop_oneof![
        Just((None, "2001:db8:ffff::1")),
        Just((Some("2001:db8:1::77"), "2001:db8:ffff::1")),
        Just((Some("2001:db8:1::78"), "2001:db8:1::1")),
        Just((Some("fd00::1"), "2001:db8:9::1")),
        Just((None, "198.51.100.1")),
        Just((Some("192.168.1.77"), "192.168.1.1")),
        Just((Some("10.1.1.1"), "198.51.100.1"))
    ];
    let mark = prop_oneof![Just(0u32), Just(1), Just(5), Just(0x100), Just(0x101), any::<u32>()];
    let iif = prop_oneof![3 => Just("lo"), 1 => Just("mesh-vpn")];
    (pair, mark, iif, prop_oneof![Just(0u32), Just(1000)]).prop_map(|((src, dst), mark, iif, uid)| Flow {
        src: src.map(addr),
        mark,
        iif: iif.to_owned(),
        uid,
        ..Flow::to(addr(dst))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn for_unmarked_packets_it_is_as_if_only_the_rules_to_the_wan_table_were_gone(
        config in any_config(), foreign in any_foreign_rules(), flows in proptest::collection::vec(any_flow(), 1..8),
    ) {
        let observed = applied(&config, foreign);
        let reference = without_us(&observed, &config);
        let untouched = Observed { rules: observed.rules.iter().filter(|r| r.protocol != PROTOCOL).cloned().collect(), ..observed.clone() };
        // A foreign goto may lead straight to a rule that we stand in front of: then nothing has changed.
        let jumps = untouched.rules.iter().any(|r| matches!(r.action, RuleAction::Goto(_)));
        for flow in flows.iter().filter(|f| !config.mark.matches(f.mark)) {
            let is = ask(&observed, flow).verdict;
            let should = ask(&reference, flow).verdict;
            let dead = |v: &Verdict<'_>| matches!(v, Verdict::NoRoute | Verdict::Refused(RuleAction::Unreachable));
            let same = is == should || dead(&is) && dead(&should);
            let left_alone = jumps && is == ask(&untouched, flow).verdict;
            prop_assert!(same || left_alone, "{:?}: {:?} instead of {:?}\n{:#?}", flow, is, should, observed.rules);
        }
    }

    #[test]
    fn marked_packets_take_the_wan_table_or_what_a_foreign_rule_ahead_says(
        config in any_config(), foreign in any_foreign_rules(), flow in any_flow(),
    ) {
        let flow = Flow { mark: config.mark.apply(flow.mark), ..flow };
        let observed = applied(&config, foreign);
        let outcome = ask(&observed, &flow);
        let ours = |r: &Rule| r.protocol == PROTOCOL;
        // Where ours really stands: a foreign jump to its place moves it.
        let at = observed.rules.iter().filter(|r| ours(r) && r.ipv6 == flow.dst.is_ipv6() && r.action == RuleAction::Lookup(config.table));
        let at = at.map(|r| r.priority).max().unwrap_or(config.rule_priority);
        let ahead = |r: &&Rule| !ours(r) && r.priority <= at && r.ipv6 == flow.dst.is_ipv6()
            && matches(&r.selector, &flow) == Some(true) && r.action != RuleAction::Lookup(255);
        if observed.rules.iter().any(|r| ahead(&r)) {
            return Ok(());
        }
        prop_assert!(outcome.rule.is_some_and(ours), "{:?}", outcome);
        prop_assert!(matches!(outcome.verdict, Verdict::Route(r) if r.table == config.table), "{:?}", outcome);
    }

    #[test]
    fn marked_packets_never_notice_the_twins(
        config in any_config(), foreign in any_foreign_rules(), flow in any_flow(),
    ) {
        let flow = Flow { mark: config.mark.apply(flow.mark), ..flow };
        let observed = applied(&config, foreign);
        let mut without = observed.clone();
        without.rules.retain(|r| r.protocol != PROTOCOL || matches!(r.action, RuleAction::Lookup(_)));
        prop_assert_eq!(ask(&observed, &flow), ask(&without, &flow));
    }
}

/// netifd's rules of one interface, as measured.
fn netifd() -> Vec<Rule> {
    let mut from = foreign(true, 10000, RuleAction::Lookup(1));
    from.selector.src = Some(prefix("2001:db8:1::77/128"));
    let mut to = foreign(true, 20000, RuleAction::Lookup(1));
    to.selector.dst = Some(prefix("2001:db8:1::/64"));
    let mut iif = foreign(true, 90007, RuleAction::Lookup(1));
    iif.selector.iif = Some("lo".into());
    vec![from, to, iif]
}

#[test]
fn beside_netifd_an_unmarked_connect_finds_no_way_over_the_wan() {
    let observed = applied(&config(), netifd());
    for (src, dst) in [
        (None, "2001:db8:ffff::1"),
        (Some("2001:db8:1::77"), "2001:db8:ffff::1"),
        (Some("2001:db8:1::77"), "2001:db8:1::1"),
    ] {
        let flow = Flow { src: src.map(addr), ..Flow::to(addr(dst)) };
        assert!(ask(&observed, &flow).verdict.is_dead_end(), "{flow:?}");
        let marked = Flow { mark: 1, ..flow };
        assert!(!ask(&observed, &marked).verdict.is_dead_end(), "{marked:?}");
    }
}

#[test]
fn beside_netifd_and_tailscale_the_latter_still_gets_its_packets() {
    let mut tailscale = foreign(true, 15000, RuleAction::Lookup(52));
    tailscale.selector.uid = Some((0, 99));
    let observed = applied(&config(), [netifd(), vec![tailscale]].concat());
    let flow = Flow { src: Some(addr("2001:db8:1::77")), ..Flow::to(addr("2001:db8:ffff::1")) };
    assert!(matches!(ask(&observed, &flow).verdict, Verdict::Route(r) if r.table == 52));
}

#[test]
fn a_twin_that_a_foreign_rule_has_got_behind_is_moved() {
    let config = config();
    let mut observed = applied(&config, netifd());
    let facts = learnt(facts());
    // Somebody takes the priority of our twin.
    let at = observed.rules.iter().position(|r| r.priority == 10000).unwrap();
    observed.rules.insert(at, foreign(true, 9999, RuleAction::Lookup(52)));
    let flow = Flow { src: Some(addr("2001:db8:1::77")), ..Flow::to(addr("2001:db8:ffff::1")) };
    assert!(ask(&observed, &flow).verdict.is_dead_end());
    let mut world = World { observed, guard: None };
    let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
    world.apply_all(&plan);
    assert!(matches!(ask(&world.observed, &flow).verdict, Verdict::Route(r) if r.table == 52));
    assert_eq!(diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW), []);
}

#[test]
fn without_an_uplink_marked_packets_fail_at_once_and_look_no_further() {
    let config = config();
    let mut observed = applied(&config, Vec::new());
    observed.routes.retain(|r| r.protocol != PROTOCOL || r.kind == RouteKind::Unreachable);
    for dst in ["198.51.100.1", "2001:db8:9::1"] {
        let outcome = lookup(
            Tables { rules: &observed.rules, routes: &observed.routes, links: &observed.links },
            &Flow { mark: 1, ..Flow::to(addr(dst)) },
        );
        assert!(
            matches!(outcome.verdict, Verdict::Route(r) if r.kind == RouteKind::Unreachable),
            "{outcome:?}"
        );
    }
}
