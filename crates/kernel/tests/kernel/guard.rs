//! The guard: what we load over netlink is what nft shows for the same rules as text.

use crate::namespace::{NOW, apply_twice, enter, enter_with_wan, observe, sh};
use crate::ruleset::{chain, everything, rule, table};
use narrowgate_kernel::{Kernel, Real, text};
use narrowgate_model::nft::{Action, Chain, Family, Hook, Match, Policy, Ruleset};
use narrowgate_model::state::Step;
use narrowgate_sys::link;
use narrowgate_sys::packet::{Interest, PacketSocket};
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn every_match_and_action_is_what_nft_makes_of_the_same_text() {
    let (mut real, _) = enter_with_wan();
    assert_same_as_nft(&mut real, &everything());
}

#[test]
fn every_match_alone_is_what_nft_makes_of_the_same_text() {
    let (mut real, _) = enter_with_wan();
    for table_of_all in everything().tables {
        for chain_of_all in &table_of_all.chains {
            for one in &chain_of_all.rules {
                let mut table = table_of_all.clone();
                let mut chain = chain_of_all.clone();
                chain.rules = vec![one.clone()];
                table.chains = vec![chain];
                assert_same_as_nft(&mut real, &Ruleset { tables: vec![table] });
            }
        }
    }
}

#[test]
fn what_was_loaded_is_what_is_observed() {
    let (mut real, _) = enter_with_wan();
    let wanted = everything();
    let observed = apply_twice(&mut real, &Step::SetGuard(wanted.clone().into())).guard;
    assert_eq!(observed.chains, wanted.fingerprint());
    assert!(observed.owned && observed.persistent, "{observed:?}");
    let observed = apply_twice(&mut real, &Step::RemoveGuard).guard;
    assert_eq!(observed, Default::default());
    assert_eq!(sh("nft list ruleset"), "");
}

#[test]
fn a_replaced_ruleset_leaves_nothing_of_the_old_one() {
    let (mut real, _) = enter_with_wan();
    real.apply(&Step::SetGuard(everything().into()), NOW).unwrap();
    let drops = vec![rule("drop", vec![Match::Oif("wan".to_owned())], Some("dropped"), Action::Drop)];
    let mut output = chain("output", Hook::Output, drops);
    output.policy = Policy::Drop;
    let small = Ruleset { tables: vec![table(Family::Inet, vec!["dropped"], vec![output])] };
    let observed = apply_twice(&mut real, &Step::SetGuard(small.clone().into())).guard;
    assert_eq!(observed.chains, small.fingerprint());
    assert_same_as_nft(&mut real, &small);
    assert_eq!(sh("nft list tables"), "table inet narrowgate\n");
    assert_same_as_nft(&mut real, &everything());
}

#[test]
fn a_chain_that_moves_to_another_hook_or_priority_is_made_anew() {
    let mut real = enter();
    let mut moving = chain("moving", Hook::Output, vec![rule("all", vec![], None, Action::Accept)]);
    for (hook, priority) in [(Hook::Output, 0), (Hook::Output, -300), (Hook::Forward, -300), (Hook::Input, 5)]
    {
        (moving.hook, moving.priority) = (hook, priority);
        assert_same_as_nft(
            &mut real,
            &Ruleset { tables: vec![table(Family::Inet, vec![], vec![moving.clone()])] },
        );
    }
}

#[test]
fn counters_keep_counting_over_a_replacement() {
    let (mut real, _) = enter_with_wan();
    sh("ip addr add 192.0.2.1/24 dev wan");
    let count = |label| {
        let matches = vec![Match::Oif("wan".to_owned()), Match::L4Proto(17)];
        let output = chain("output", Hook::Output, vec![rule(label, matches, Some("seen"), Action::Accept)]);
        Step::SetGuard(Ruleset { tables: vec![table(Family::Inet, vec!["seen"], vec![output])] }.into())
    };
    let packets = |real: &mut Real| {
        real.counters().unwrap().iter().map(|c| (c.name.clone(), c.packets)).collect::<Vec<_>>()
    };
    real.apply(&count("one"), NOW).unwrap();
    let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
    socket.send_to(b"x", "192.0.2.9:9").unwrap();
    assert_eq!(packets(&mut real), [("seen".to_owned(), 1)]);
    real.apply(&count("two"), NOW).unwrap();
    assert_eq!(packets(&mut real), [("seen".to_owned(), 1)]);
    socket.send_to(b"x", "192.0.2.9:9").unwrap();
    assert_eq!(packets(&mut real), [("seen".to_owned(), 2)]);
}

#[test]
fn foreign_tables_stay_as_they_are() {
    let (mut real, _) = enter_with_wan();
    sh(
        "nft 'add table inet fw4; add chain inet fw4 narrowgate { type filter hook output priority 0; }; add rule inet fw4 narrowgate counter'",
    );
    sh("nft 'add table ip narrowgate; add chain ip narrowgate output; add table netdev other'");
    let before = sh("nft -s list ruleset");
    real.apply(&Step::SetGuard(everything().into()), NOW).unwrap();
    real.apply(&Step::RemoveGuard, NOW).unwrap();
    assert_eq!(sh("nft -s list ruleset"), before);
}

#[test]
fn a_refused_ruleset_changes_nothing() {
    let (mut real, _) = enter_with_wan();
    real.apply(&Step::SetGuard(everything().into()), NOW).unwrap();
    let before = sh("nft -s list ruleset");
    let bad = rule("bad", vec![], Some("no-such-counter"), Action::Drop);
    let bad =
        Ruleset { tables: vec![table(Family::Inet, vec![], vec![chain("output", Hook::Output, vec![bad])])] };
    let error = real.apply(&Step::SetGuard(bad.into()), NOW).unwrap_err();
    let thing = "loading the nftables tables narrowgate, table inet chain output rule \"bad ";
    assert!(error.to_string().starts_with(thing), "{error}");
    assert!(error.to_string().contains("No such file"), "{error}");
    assert_eq!(sh("nft -s list ruleset"), before);
}

#[test]
fn thousands_of_rules_go_in_one_transaction_and_so_do_thousands_of_mistakes() {
    let mut real = enter();
    let of = |counter: Option<&'static str>| {
        let rules = (0..3000)
            .map(|i| rule("many", vec![Match::L4Proto(17), Match::DstPort(i)], counter, Action::Drop));
        Ruleset {
            tables: vec![table(Family::Inet, vec![], vec![chain("output", Hook::Output, rules.collect())])],
        }
    };
    let observed = apply_twice(&mut real, &Step::SetGuard(of(None).into())).guard;
    assert_eq!(observed.chains, of(None).fingerprint());
    let error = real.apply(&Step::SetGuard(of(Some("no-such-counter")).into()), NOW).unwrap_err();
    assert!(error.to_string().contains("chain output rule \"many "), "{error}");
    assert_eq!(observe(&mut real).guard, observed);
}

#[test]
fn the_probe_leaves_no_trace_and_this_kernel_can_do_all() {
    let real = enter();
    assert_eq!(sh("nft list ruleset"), "");
    let can = real.capabilities();
    assert!(can.owner && can.persist && can.egress && can.absent_devices, "{can:?}");
}

#[test]
fn a_device_that_is_named_before_it_comes_is_guarded_from_its_first_frame() {
    let mut real = enter();
    let observed = apply_twice(&mut real, &Step::SetGuard(everything().into())).guard;
    assert_eq!(observed.chains, everything().fingerprint());
    sh("ip link add wan type veth peer name lan && ip link set lan up && ip link set wan up");
    assert!(drops_on_egress(), "the egress hook is not on the new device");
    assert_eq!(observe(&mut real).guard, observed);
}

#[test]
fn a_device_that_vanishes_and_comes_back_is_guarded_or_seen_to_be_not() {
    let (mut real, _) = enter_with_wan();
    real.apply(&Step::SetGuard(everything().into()), NOW).unwrap();
    sh("ip link del wan");
    real.drain_events();
    sh("ip link add wan type veth peer name lan && ip link set lan up && ip link set wan up");
    let hooked = sh("nft list ruleset").contains("\"wan\"");
    let observed = observe(&mut real).guard;
    assert_eq!(observed.chains == everything().fingerprint(), hooked, "{observed:?}");
    let observed = apply_twice(&mut real, &Step::SetGuard(everything().into())).guard;
    assert_eq!(observed.chains, everything().fingerprint());
    assert!(drops_on_egress(), "the egress hook is not on the new device");
}

/// In the kernel's own words the chain is gone with the name.
#[test]
fn a_renamed_device_lets_no_frame_out_before_the_guard_goes_by_its_new_name() {
    let (mut real, index) = enter_with_wan();
    let guard = |device: &str| {
        let bit = Action::SetMark { value: 1 << 31, mask: 1 << 31 };
        let seen = chain(Chain::SEEN, Hook::Egress, vec![rule("seen", vec![], None, bit)]);
        let seen = Chain { devices: vec![device.to_owned()], ..seen };
        Ruleset { tables: vec![table(Family::Netdev, vec![], vec![seen])] }
    };
    let out = PacketSocket::open(index, Interest::DhcpClient).unwrap();
    let arrived = PacketSocket::open(link::index_of("lan").unwrap(), Interest::DhcpClient).unwrap();
    // UDP to port 68, for the filter of those who listen; the last byte tells which it is.
    let send = |number: u8| {
        let head = [0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        let _ = out.send(&[&head[..], &[0, 67, 0, 68, 0, 9, 0, 0, number]].concat(), None);
    };
    let next = || {
        let mut buffer = [0; 64];
        wait_until(|| arrived.recv(&mut buffer).is_ok());
        buffer[28]
    };
    send(1);
    assert_eq!(next(), 1, "without a guard");
    apply_twice(&mut real, &Step::SetGuard(guard("wan").into()));
    real.watch_names(&guard("wan"));
    send(2);
    assert_eq!(next(), 2, "with the chain");
    sh("ip link set wan name other");
    send(3);
    apply_twice(&mut real, &Step::SetGuard(guard("other").into()));
    send(4);
    assert_eq!(next(), 4, "the one before has come out as well, without any guard");
    real.apply(&Step::RemoveGuard, NOW).unwrap();
    send(5);
    assert_eq!(next(), 5, "without a guard again");
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !done() {
        assert!(std::time::Instant::now() < end, "waited in vain");
        std::thread::yield_now();
    }
}

/// Whether a frame to the device is counted, and dropped, by the last rule of `everything`'s egress chain.
fn drops_on_egress() -> bool {
    sh("ip addr replace 192.0.2.1/24 dev wan");
    let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
    let _ = socket.send_to(b"x", "192.0.2.99:9"); // has the kernel ask for a neighbour
    !sh("nft list counter netdev narrowgate frames").contains("packets 0")
}

/// Loads the ruleset over netlink, and its text, in tables of another name, by nft; nft must show both alike.
pub fn assert_same_as_nft(real: &mut Real, ruleset: &Ruleset) {
    real.apply(&Step::SetGuard(ruleset.clone().into()), NOW)
        .unwrap_or_else(|e| panic!("{}: {e}", text::render(ruleset)));
    let rendered = text::render(ruleset).replace(" narrowgate {", " oracle {");
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    nft.stdin.take().unwrap().write_all(rendered.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft refuses {rendered}");
    for table in &ruleset.tables {
        let family = match table.family {
            Family::Inet => "inet",
            Family::Arp => "arp",
            Family::Netdev => "netdev",
        };
        let loaded = list(family, "narrowgate");
        let expected = list(family, "oracle");
        assert_eq!(loaded, expected, "for {rendered}");
        sh(&format!("nft delete table {family} oracle"));
    }
}

/// What nft shows of a table, without its name, its flags, and what was counted.
fn list(family: &str, name: &str) -> Vec<String> {
    let listed = sh(&format!("nft -ns list table {family} {name}"));
    let lines = listed.lines().skip(1).filter(|l| !l.trim().is_empty() && !l.trim().starts_with("flags "));
    lines.map(str::to_owned).collect()
}
