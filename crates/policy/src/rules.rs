//! Our rules: the one for the mark, and the *twins* that close the fall-through.
//!
//! netifd adds rules that send packets to the WAN table for other reasons than the mark (`from <WAN address>`, `to <WAN
//! prefix>`, `iif lo`). A packet without the mark must not get there by them, and no foreign rule may be shadowed. So in
//! front of every such rule stands a twin: the same selector, for packets without the mark, that jumps behind it, to the
//! next rule that is none of them, or ends the list where there is none. For an unmarked packet it is as if the foreign rule
//! were not there; for everything else nothing has changed.
//!
//! What cannot be jumped over exactly is left to the guard: rules with selectors that we do not know, and rules that share
//! their priority with another one, since a jump leads to a priority and not to a rule.

use crate::routes::has_ipv6;
use alloc::vec::Vec;
use narrowgate_model::Gather;
use narrowgate_model::net::{FwMark, Rule, RuleAction, Selector};
use narrowgate_model::sort::sort_by_key;
use narrowgate_model::state::Observed;
use narrowgate_model::{Config, Mark, PROTOCOL};

/// All our rules. They follow from the config and the foreign rules alone.
#[inline(never)]
pub(crate) fn desired(config: &Config, observed: &Observed) -> Vec<Rule> {
    let mut rules = Vec::new();
    for ipv6 in [false, true] {
        if ipv6 && !has_ipv6(observed) {
            continue;
        }
        let mut foreign: Vec<&Rule> =
            observed.rules.iter().filter(|r| r.ipv6 == ipv6 && r.protocol != PROTOCOL).gather();
        sort_by_key(&mut foreign, |r| r.priority); // stable: the kernel's order among equals
        let marked = marked(config, ipv6, &foreign);
        let at = marked.priority;
        rules.push(marked);
        twins(config, at, &foreign, &mut rules);
    }
    rules
}

/// Whether this rule is there to keep the order of others: it has to come behind foreign ones of its priority.
pub(crate) fn is_twin(rule: &Rule) -> bool {
    rule.protocol == PROTOCOL && !matches!(rule.action, RuleAction::Lookup(_))
}

/// Whether the kernel takes the two for the same rule and refuses the second (`rule_exists` in net/core/fib_rules.c, which
/// looks neither at the protocol nor at where a `goto` leads).
pub(crate) fn collide(a: &Rule, b: &Rule) -> bool {
    let action = match (a.action, b.action) {
        (RuleAction::Goto(_), RuleAction::Goto(_)) => true,
        (a, b) => a == b,
    };
    action
        && (a.ipv6, a.priority, a.suppress_prefix_len) == (b.ipv6, b.priority, b.suppress_prefix_len)
        && a.selector == b.selector
}

/// A foreign `goto` leads here and finds nothing, so that the kernel passes over it: a rule of ours here would bring it to life.
fn is_dangling(foreign: &[&Rule], priority: u32) -> bool {
    foreign.iter().any(|r| r.action == RuleAction::Goto(priority))
        && !foreign.iter().any(|r| r.priority == priority)
}

/// `fwmark VALUE/MASK lookup TABLE`. If a foreign rule is just that at our priority, ours stands a little behind it.
fn marked(config: &Config, ipv6: bool, foreign: &[&Rule]) -> Rule {
    let mut rule = Rule {
        ipv6,
        priority: config.rule_priority,
        selector: Selector { mark: Some(config.mark.into()), ..Selector::default() },
        action: RuleAction::Lookup(config.table),
        suppress_prefix_len: None,
        protocol: PROTOCOL,
    };
    while foreign.iter().any(|f| collide(f, &rule)) || is_dangling(foreign, rule.priority) {
        rule.priority = rule.priority.saturating_add(1);
    }
    rule
}

/// Goes through the foreign rules from the last to the first, a priority at a time: all rules of one priority can be jumped
/// over, or none. `next` is where a jump from before has to lead.
#[inline(never)]
fn twins(config: &Config, marked_at: u32, foreign: &[&Rule], rules: &mut Vec<Rule>) {
    let mut next = RuleAction::Unreachable;
    let mut rest = foreign;
    // No packet with the mark comes past our rule, unless a foreign one jumps over it.
    let all_taken =
        !foreign.iter().any(|r| r.priority <= marked_at && matches!(r.action, RuleAction::Goto(_)));
    while let Some(last) = rest.last() {
        let start = rest.iter().take_while(|r| r.priority < last.priority).count();
        let (before, group) = rest.split_at(start);
        rest = before;
        // Behind the rules before, ahead of the group; a jump may pass the place, but none may lead there.
        let after = before.last().map_or(0, |r| r.priority);
        let mut places = (after..last.priority).rev();
        let place = places.find(|p| !is_dangling(foreign, *p));
        let known = rules.len();
        if !place.is_some_and(|place| {
            let behind = all_taken && place > marked_at;
            group.iter().all(|rule| add_twins(config, place, behind, rule, next, foreign, rules))
        }) {
            rules.truncate(known);
            next = RuleAction::Goto(last.priority);
        }
    }
}

/// The twins of a rule, to stand at `priority`; `behind` our rule for the mark or not. False if its group has to be passed
/// through as it is.
#[inline(never)]
fn add_twins(
    config: &Config,
    priority: u32,
    behind: bool,
    rule: &Rule,
    next: RuleAction,
    foreign: &[&Rule],
    rules: &mut Vec<Rule>,
) -> bool {
    if rule.action != RuleAction::Lookup(config.table) || rule.selector.unknown {
        return false;
    }
    let Some(marks) = unmarked(&rule.selector, config.mark, behind) else { return false };
    for mark in marks {
        let mut twin = rule.clone();
        twin.priority = priority;
        twin.selector.mark = mark;
        twin.action = next;
        twin.suppress_prefix_len = None;
        twin.protocol = PROTOCOL;
        if foreign.iter().any(|f| collide(f, &twin)) {
            return false;
        }
        if !rules.contains(&twin) {
            rules.push(twin);
        }
    }
    true
}

/// The packets that `selector` is for, less those with the mark: the marks of as many selectors, alike in everything else, that
/// together are just that. Empty if all of them have the mark. `None` if there are no such selectors.
///
/// A rule cannot say "not this mark" beside other selectors, but it can say of every single bit of the mark that it is the
/// other way round. Behind our rule for the mark (`behind`) no packet with the mark comes any more, so that there even an
/// inverted selector can be taken as it is.
fn unmarked(selector: &Selector, mark: Mark, behind: bool) -> Option<Vec<Option<FwMark>>> {
    let own = selector.mark.unwrap_or(FwMark { value: 0, mask: 0 });
    let mut marks = Vec::new();
    if selector.invert {
        if !behind {
            return None;
        }
        marks.push(selector.mark);
    } else if own.mask & mark.mask == mark.mask && own.value & mark.mask == mark.value {
        // All have the mark.
    } else if (own.value ^ mark.value) & own.mask & mark.mask != 0 || behind && mark.mask.count_ones() > 1 {
        // Some bit is the other way round already: there is no packet with the mark among them.
        marks.push(selector.mark);
    } else {
        let bits = (0..u32::BITS).map(|n| 1 << n).filter(|bit| mark.mask & !own.mask & bit != 0);
        let flipped = |bit| FwMark { value: own.value & own.mask | !mark.value & bit, mask: own.mask | bit };
        bits.map(|bit| Some(flipped(bit))).add_to(&mut marks);
    }
    Some(marks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowgate_model::Prefix;

    fn rule(priority: u32, action: RuleAction) -> Rule {
        Rule {
            ipv6: true,
            priority,
            selector: Selector::default(),
            action,
            suppress_prefix_len: None,
            protocol: 4,
        }
    }

    fn from(priority: u32, prefix: &str) -> Rule {
        let mut r = rule(priority, RuleAction::Lookup(1));
        r.selector.src = Some(prefix.parse::<Prefix>().unwrap());
        r
    }

    fn ends() -> [Rule; 2] {
        [rule(0, RuleAction::Lookup(255)), rule(32766, RuleAction::Lookup(254))]
    }

    /// What policy adds beside its rule for the mark.
    fn added(foreign: &[Rule]) -> Vec<(u32, RuleAction)> {
        let rules = [foreign, &ends()].concat();
        let observed = Observed { rules, ..Observed::default() };
        let twins = desired(&Config::default(), &observed).into_iter().filter(is_twin);
        twins.map(|r| (r.priority, r.action)).collect()
    }

    #[test]
    fn netifds_rules_are_jumped_over_to_the_next_foreign_one() {
        use RuleAction::*;
        assert_eq!(added(&[from(10000, "2001:db8::5/128")]), [(9999, Goto(32766))]);
        assert_eq!(
            added(&[from(10000, "2001:db8::5/128"), rule(15000, Lookup(52)), from(20000, "2001:db8::/64")]),
            [(19999, Goto(32766)), (9999, Goto(15000))]
        );
    }

    #[test]
    fn behind_the_last_rule_comes_the_end_of_the_list() {
        assert_eq!(added(&[from(90007, "::/0")]), [(90006, RuleAction::Unreachable)]);
    }

    #[test]
    fn rules_side_by_side_are_jumped_over_together() {
        use RuleAction::*;
        let foreign =
            [from(10000, "2001:db8::5/128"), from(10001, "2001:db8::6/128"), from(10001, "2001:db8::7/128")];
        assert_eq!(added(&foreign), [(10000, Goto(32766)), (10000, Goto(32766)), (9999, Goto(32766))]);
    }

    #[test]
    fn a_rule_that_shares_its_priority_with_another_one_is_left_to_the_guard() {
        assert_eq!(added(&[from(10000, "::/0"), rule(10000, RuleAction::Lookup(52))]), []);
        assert_eq!(added(&[rule(10000, RuleAction::Lookup(52)), from(10000, "::/0")]), []);
    }

    #[test]
    fn a_rule_that_we_cannot_read_is_left_to_the_guard() {
        let mut strange = from(10000, "::/0");
        strange.selector.unknown = true;
        assert_eq!(added(&[strange]), []);
        assert_eq!(added(&[from(0, "::/0")]), [], "nothing comes before priority 0");
    }

    #[test]
    fn the_twin_is_for_packets_without_the_mark_and_others_marks_stay() {
        let mut r = from(10000, "2001:db8::5/128");
        r.selector.mark = Some(FwMark { value: 0x100, mask: 0xff00 });
        let observed = Observed { rules: [&[r.clone()][..], &ends()].concat(), ..Observed::default() };
        let twin = desired(&Config::default(), &observed).into_iter().find(is_twin).unwrap().selector;
        assert_eq!(twin.mark, Some(FwMark { value: 0x100, mask: 0xff01 }));
        assert_eq!(twin.src, r.selector.src);
    }

    #[test]
    fn a_foreign_rule_for_marked_packets_alone_needs_no_twin() {
        let mut r = rule(50, RuleAction::Lookup(1));
        r.selector.mark = Some(FwMark { value: 1, mask: 1 });
        assert_eq!(added(&[r]), []);
    }

    #[test]
    fn a_mark_of_several_bits_is_missing_as_soon_as_one_of_them_is() {
        let twins = unmarked(&Selector::default(), Mark { value: 0x5, mask: 0x7 }, false).unwrap();
        for mark in 0u32..16 {
            let caught = twins.iter().any(|m| m.is_some_and(|m| (mark ^ m.value) & m.mask == 0));
            assert_eq!(caught, mark & 7 != 5, "{mark:#x}");
        }
    }

    #[test]
    fn a_foreign_jump_into_the_void_is_not_brought_to_life() {
        use RuleAction::*;
        let foreign = [rule(5000, Goto(9999)), from(10000, "::/0")];
        assert_eq!(added(&foreign), [(9998, Goto(32766))]);
        let foreign = [rule(50, Goto(100))];
        let observed = Observed { rules: [&foreign[..], &ends()].concat(), ..Observed::default() };
        assert!(desired(&Config::default(), &observed).iter().any(|r| r.ipv6 && r.priority == 101));
    }

    #[test]
    fn the_rule_for_the_mark_stands_beside_a_foreign_one_that_is_the_same() {
        let mut same = rule(100, RuleAction::Lookup(1));
        same.selector.mark = Some(FwMark { value: 1, mask: 1 });
        let observed = Observed { rules: [&[same][..], &ends()].concat(), ..Observed::default() };
        let ours = desired(&Config::default(), &observed);
        assert_eq!(ours.iter().filter(|r| r.ipv6).map(|r| r.priority).collect::<Vec<_>>(), [101]);
        assert_eq!(ours.iter().filter(|r| !r.ipv6).map(|r| r.priority).collect::<Vec<_>>(), [100]);
    }
}
