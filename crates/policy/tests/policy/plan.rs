//! Promises of the plan: it arrives, it touches nothing foreign, it never leaks on the way, and the way down is the way back.

use crate::make::*;
use crate::world::World;
use narrowgate_model::net::{Address, RouteKind};
use narrowgate_model::state::{Before, Observed, Step};
use narrowgate_model::{ByName, Facts, PROTOCOL, Prefix, Time};
use narrowgate_policy::verdict::{Packet, Source, way_out};
use narrowgate_policy::{desired, diff, give_back, remember, teardown};
use proptest::prelude::*;

/// Where a step belongs on the way up.
fn stage(step: &Step) -> u32 {
    match step {
        Step::SetGuard(_) => 0,
        Step::SetSysctl { .. } => 1,
        Step::AddRoute(r) if r.kind != RouteKind::Unicast => 2,
        Step::AddRule(_) | Step::RemoveRule(_) => 3,
        Step::SetLink { .. } => 4,
        Step::AddAddress(_) | Step::RemoveAddress(_) => 5,
        Step::AddRoute(_) => 6,
        Step::RemoveRoute(_) | Step::RemoveGuard => 7,
    }
}

#[test]
fn a_bare_node_is_brought_up_in_the_order_that_cannot_leak() {
    let config = config();
    let mut world = World { observed: bare(&config), guard: None };
    let facts = learnt(facts());
    let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
    assert!(matches!(plan.first(), Some(Step::SetGuard(_))));
    let stages: Vec<u32> = plan.iter().map(stage).collect();
    assert!(stages.is_sorted(), "{stages:?}");
    for n in 0..7 {
        assert!(stages.contains(&n), "nothing of stage {n}");
    }
    world.apply_all(&plan);
    assert_eq!(diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW), []);
}

#[test]
fn optimistic_addresses_are_switched_on_before_the_device() {
    let config = config();
    let observed = bare(&config);
    let plan = diff(&desired(&inputs(&config, &ByName::new(), &observed)), &observed, NOW);
    let at = |wanted: fn(&Step) -> bool| plan.iter().position(wanted).unwrap();
    let sysctl = at(|s| matches!(s, Step::SetSysctl { path, .. } if path.ends_with("eth0/optimistic_dad")));
    assert!(sysctl < at(|s| matches!(s, Step::SetLink { .. })));
}

#[test]
fn before_there_is_a_device_the_guard_and_the_rules_stand() {
    let config = config();
    let mut observed = bare(&config);
    observed.links.retain(|l| l.name != "eth0");
    let plan = diff(&desired(&inputs(&config, &ByName::new(), &observed)), &observed, NOW);
    assert!(matches!(plan.first(), Some(Step::SetGuard(_))));
    assert_eq!(plan.iter().filter(|s| matches!(s, Step::AddRule(_))).count(), 2);
    assert_eq!(plan.iter().filter(|s| matches!(s, Step::AddRoute(_))).count(), 2, "the unreachable defaults");
    assert!(!plan.iter().any(|s| matches!(s, Step::SetLink { .. })));
}

#[test]
fn what_another_program_takes_away_comes_back() {
    let config = config();
    let facts = learnt(facts());
    let mut world = World { observed: bare(&config), guard: None };
    let full = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
    world.apply_all(&full);
    for n in 0..world.observed.rules.len() {
        let mut hurt = world.clone();
        if hurt.observed.rules.remove(n).protocol == PROTOCOL {
            let plan = diff(&desired(&inputs(&config, &facts, &hurt.observed)), &hurt.observed, NOW);
            assert!(matches!(plan[..], [Step::AddRule(_)]), "{plan:?}");
        }
    }
    for n in 0..world.observed.routes.len() {
        let mut hurt = world.clone();
        hurt.observed.routes.remove(n);
        let plan = diff(&desired(&inputs(&config, &facts, &hurt.observed)), &hurt.observed, NOW);
        assert!(matches!(plan[..], [Step::AddRoute(_)]), "{plan:?}");
    }
    world.observed.guard.chains.pop();
    let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
    assert!(matches!(plan[..], [Step::SetGuard(_)]), "{plan:?}");
}

#[test]
fn an_orphaned_guard_is_adopted_and_one_that_cannot_be_owned_is_left_alone() {
    let config = config();
    let facts = learnt(facts());
    let mut world = World { observed: bare(&config), guard: None };
    let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
    world.apply_all(&plan);
    world.observed.guard.owned = false;
    let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
    assert!(matches!(plan[..], [Step::SetGuard(_)]), "{plan:?}");
    world.observed.guard.persistent = false;
    assert_eq!(diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW), []);
}

#[test]
fn lifetimes_are_set_again_when_they_differ_by_more_than_the_kernels_rounding() {
    let config = config();
    let mut f = facts();
    f.addresses[1].valid_until = Some(Time(NOW.0 + 60_000));
    f.addresses[1].preferred_until = Some(Time(NOW.0 + 30_000));
    let facts = learnt(f);
    let mut world = World { observed: bare(&config), guard: None };
    let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
    world.apply_all(&plan);
    for (shift, steps) in [(0, 0), (1500, 0), (2500, 1)] {
        let mut observed = world.observed.clone();
        let is = |a: &&mut Address| a.prefix == prefix("2001:db8:1::77/64");
        observed.addresses.iter_mut().find(is).unwrap().valid_until = Some(Time(NOW.0 + 60_000 - shift));
        let plan = diff(&desired(&inputs(&config, &facts, &observed)), &observed, NOW);
        assert_eq!(plan.len(), steps, "{shift} ms: {plan:?}");
        assert!(plan.iter().all(|s| matches!(s, Step::AddAddress(_))), "{plan:?}");
    }
}

#[test]
fn a_changed_lease_takes_no_route_with_it_that_is_still_wanted() {
    // The kernel forgets all IPv4 routes over a device with its last IPv4 address.
    let config = config();
    let mut world = World { observed: bare(&config), guard: None };
    for address in ["192.168.1.77/24", "192.168.1.78/24", "192.168.1.78/25"] {
        let mut f = facts();
        f.addresses[0] = has(address);
        let facts = learnt(f);
        let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
        world.apply_all(&plan);
        assert_eq!(diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW), []);
        assert!(world.observed.routes.iter().any(|r| r.via == Some(addr("192.168.1.1"))));
        let v4: Vec<_> =
            world.observed.addresses.iter().filter(|a| !a.prefix.is_ipv6()).map(|a| a.prefix).collect();
        assert_eq!(v4, [prefix(address)]);
    }
}

#[test]
fn a_router_that_comes_or_goes_leaves_no_moment_without_a_default_route() {
    let config = config();
    let mut world = World { observed: bare(&config), guard: None };
    for (round, routers) in
        [&["2"][..], &["1", "2"], &["2", "3"], &["0", "1", "2", "3"], &["3"]].iter().enumerate()
    {
        let mut f = facts();
        f.routes.retain(|r| !r.dst.is_default());
        f.routes.extend(routers.iter().map(|n| by("::/0", &format!("fe80::{n}"))));
        f.routes.extend(routers.iter().map(|n| by("0.0.0.0/0", &format!("192.168.1.{n}"))));
        let facts = learnt(f);
        let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
        for step in &plan {
            world.apply(step);
            for dst in [Prefix::DEFAULT_V4, Prefix::DEFAULT_V6] {
                let way = world.observed.routes.iter().any(|r| r.dst == dst && r.kind == RouteKind::Unicast);
                assert!(way || round == 0, "round {round}, {dst}, behind {step:?}");
            }
        }
        assert_eq!(diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW), []);
    }
}

#[test]
fn an_address_that_somebody_else_has_set_is_left_alone() {
    let config = config();
    let mut f = facts();
    f.addresses[1].valid_until = Some(Time(NOW.0 + 60_000));
    let facts = learnt(f);
    let bare = bare(&config);
    let mut theirs = desired(&inputs(&config, &facts, &bare)).addresses;
    let refreshed = |addresses: &[Address]| {
        let observed = Observed { addresses: addresses.to_vec(), ..bare.clone() };
        let plan = diff(&desired(&inputs(&config, &facts, &observed)), &observed, NOW);
        plan.iter().filter(|s| stage(s) == 5).count()
    };
    for address in &mut theirs {
        (address.protocol, address.valid_until) = (0, None);
    }
    let link_local =
        Address { protocol: 3, no_prefix_route: false, prefix: prefix("fe80::5/64"), ..theirs[0].clone() };
    assert_eq!(refreshed(&[&theirs[..], &[link_local]].concat()), 0);
    // A kernel that keeps no protocols: then they are taken for ours, or their lifetime would never be set again.
    assert_eq!(refreshed(&theirs), 1);
}

#[test]
fn facts_of_a_device_that_was_replaced_by_another_one_do_not_count() {
    let config = config();
    let facts = learnt(facts());
    let mut observed = bare(&config);
    observed.links[1].index = 9;
    let wanted = desired(&inputs(&config, &facts, &observed));
    assert_eq!(wanted.addresses, []);
    assert!(wanted.routes.iter().all(|r| r.via.is_none()), "{:?}", wanted.routes);
}

#[test]
fn what_was_changed_for_an_uplink_that_is_gone_is_given_back() {
    let config = config();
    let mut world = World { observed: bare(&config), guard: None };
    let facts = learnt(facts());
    let mut before = Before::default();
    let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
    assert!(remember(&mut before, &world.observed, &plan));
    assert!(!remember(&mut before, &world.observed, &plan), "nothing new the second time");
    world.apply_all(&plan);
    let mut other = config.clone();
    other.uplinks[0].device = "eth1".into();
    let wanted = desired(&inputs(&other, &facts, &world.observed));
    let plan = give_back(&wanted, &world.observed, &before);
    assert!(plan.contains(&Step::SetLink { name: "eth0".into(), up: false }));
    assert!(plan.iter().any(|s| matches!(s, Step::SetSysctl { path, value } if path.ends_with("eth0/src_valid_mark") && value == "0")));
    assert!(
        !plan.iter().any(|s| matches!(s, Step::SetSysctl { path, .. } if path.ends_with("fwmark_reflect")))
    );
}

#[test]
fn the_announced_mtu_is_ipv6s_within_the_devices_and_goes_as_it_came() {
    let config = config();
    let path = "net/ipv6/conf/eth0/mtu";
    let mut world = World { observed: bare(&config), guard: None };
    world.observed.sysctls.insert(path.to_owned(), "1500".to_owned());
    let wanted = |mtu, observed: &Observed| {
        let facts = learnt(Facts { mtu, ..facts() });
        desired(&inputs(&config, &facts, observed)).sysctls.get(path).cloned()
    };
    assert_eq!(wanted(None, &world.observed), None, "not ours to say");
    assert_eq!(wanted(Some(9000), &world.observed).as_deref(), Some("1500"));
    assert_eq!(wanted(Some(1279), &world.observed), None);
    let facts = learnt(Facts { mtu: Some(1492), ..facts() });
    let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
    let mut before = Before::default();
    remember(&mut before, &world.observed, &plan);
    world.apply_all(&plan);
    assert_eq!(world.observed.sysctls.get(path).map(String::as_str), Some("1492"));
    // The router says nothing of it any more, or we go.
    let silent = learnt(crate::make::facts());
    let restored = Step::SetSysctl { path: path.to_owned(), value: "1500".to_owned() };
    let wanted = desired(&inputs(&config, &silent, &world.observed));
    assert_eq!(give_back(&wanted, &world.observed, &before), std::slice::from_ref(&restored));
    assert!(teardown(&world.observed, &before).contains(&restored));
    // A device that has become narrower takes no more.
    world.observed.links.iter_mut().for_each(|l| l.mtu = 1400);
    assert!(!teardown(&world.observed, &before).contains(&restored));
}

/// Packets without the mark that must not get out by `device`, whatever the state.
fn leaks(device: &str) -> Vec<(Packet, Source)> {
    let mut packets = Vec::new();
    for (src, dst) in [
        ("192.168.1.77", "198.51.100.1"),
        ("192.168.1.77", "192.168.1.1"),
        ("2001:db8:1::77", "2001:db8:ffff::1"),
    ] {
        for l4proto in [6, 17, 1, 58, 132] {
            let packet =
                Packet { l4proto, dport: 53, icmp_type: 8, ..Packet::out(device, addr(src), addr(dst)) };
            packets.push((packet.clone(), Source::Local));
            packets.push((packet, Source::Forwarded));
        }
    }
    packets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_plan_arrives_from_anywhere_and_leaves_what_is_foreign(
        (config, observed) in any_config().prop_flat_map(|c| { let o = any_observed(&c); (Just(c), o) }),
        facts in any_facts(),
    ) {
        let mut world = World { observed, guard: None };
        let foreign = world.foreign();
        let wanted = desired(&inputs(&config, &facts, &world.observed));
        let plan = diff(&wanted, &world.observed, NOW);
        for step in &plan {
            world.apply(step);
            prop_assert!(world.guard.as_ref() == Some(&wanted.ruleset), "before {:?} there is no guard", step);
        }
        prop_assert_eq!(world.foreign(), foreign);
        let again = desired(&inputs(&config, &facts, &world.observed));
        prop_assert_eq!(&again, &wanted, "what is ours changed what we want");
        prop_assert_eq!(diff(&again, &world.observed, NOW), []);
    }

    #[test]
    fn nothing_leaks_behind_any_step_up_or_down(
        (config, observed) in any_config().prop_flat_map(|c| { let o = any_observed(&c); (Just(c), o) }),
        facts in any_facts(),
    ) {
        let mut world = World { observed, guard: None };
        let devices: Vec<String> = config.uplinks.iter().map(|u| u.device.clone()).collect();
        let packets: Vec<_> = devices.iter().flat_map(|d| leaks(d)).collect();
        let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
        let mut before = Before::default();
        remember(&mut before, &world.observed, &plan);
        let mut up = world.clone();
        up.apply_all(&plan);
        let down = teardown(&up.observed, &before);
        prop_assert!(matches!(down.last(), Some(Step::RemoveGuard)));
        for step in plan.iter().chain(&down[..down.len() - 1]) {
            let had = world.guard.clone();
            world.apply(step);
            let guard = world.guard.as_ref().unwrap();
            for (packet, source) in packets.iter().filter(|_| had.as_ref() != Some(guard)) {
                prop_assert!(!way_out(guard, packet, *source).passes, "{:?} behind {:?}", packet, step);
            }
        }
    }

    #[test]
    fn a_crash_behind_any_step_is_mended_by_the_next_plan(
        (config, observed) in any_config().prop_flat_map(|c| { let o = any_observed(&c); (Just(c), o) }),
        facts in any_facts(), part in 0.0..1.0,
    ) {
        let mut world = World { observed, guard: None };
        let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
        world.apply_all(&plan[..(plan.len() as f64 * part) as usize]);
        // The dead process owns nothing any more.
        world.observed.guard.owned = false;
        let plan = diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW);
        world.apply_all(&plan);
        prop_assert!(world.observed.guard.owned);
        prop_assert_eq!(diff(&desired(&inputs(&config, &facts, &world.observed)), &world.observed, NOW), []);
    }

    #[test]
    fn the_way_down_is_the_way_back(
        (config, observed) in any_config().prop_flat_map(|c| { let o = any_observed(&c); (Just(c), o) }),
        facts in any_facts(), facts2 in any_facts(),
    ) {
        // A node that we have never been on, two rounds of facts, a crash in between, and a stop.
        let mut start = World { observed, guard: None };
        start.observed.rules.retain(|r| r.protocol != PROTOCOL);
        start.observed.routes.retain(|r| r.protocol != PROTOCOL);
        start.observed.addresses.retain(|a| a.protocol != PROTOCOL);
        let mut world = start.clone();
        let mut before = Before::default();
        for (round, facts) in [&facts, &facts2].into_iter().enumerate() {
            let plan = diff(&desired(&inputs(&config, facts, &world.observed)), &world.observed, NOW);
            remember(&mut before, &world.observed, &plan);
            let crash = if round == 0 { plan.len() / 2 } else { plan.len() };
            world.apply_all(&plan[..crash]);
        }
        let down = teardown(&world.observed, &before);
        world.apply_all(&down);
        prop_assert_eq!(&world.observed, &start.observed);
        prop_assert_eq!(teardown(&world.observed, &before), []);
    }

    #[test]
    fn facts_do_not_touch_the_guard_before_there_is_a_device(facts in any_facts()) {
        let config = config();
        let mut observed = bare(&config);
        observed.links.retain(|l| l.name == "lo");
        let none: ByName<Facts> = ByName::new();
        let guard = desired(&inputs(&config, &none, &observed)).ruleset;
        let with: ByName<Facts> =
            facts.into_iter().map(|(n, f)| (n, Facts { addresses: Vec::new(), routes: Vec::new(), ..f })).collect();
        prop_assert_eq!(desired(&inputs(&config, &with, &observed)).ruleset, guard);
    }
}
