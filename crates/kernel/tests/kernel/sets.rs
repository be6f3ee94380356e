//! The sets of peers: what nft makes of the same text, how elements come and stay, what they outlive.

use crate::namespace::{NOW, apply_twice, enter, enter_with_wan, sh};
use crate::ruleset::{chain, rule, table};
use narrowgate_kernel::{Kernel, Real};
use narrowgate_model::nft::{Action, Chain, Family, Hook, IpVersion, Match, Ruleset, Set, Table};
use narrowgate_model::state::Step;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What is in the sets passes and is refreshed for so many seconds; all else by `wan` is dropped.
pub fn strict(label: &'static str, seconds: u32, always: &[&str]) -> Ruleset {
    let of = |ipv6: bool| addrs(always).into_iter().filter(|a| a.is_ipv6() == ipv6).collect();
    let sets = vec![
        Set { name: Set::PEERS4, version: IpVersion::V4, elements: of(false) },
        Set { name: Set::PEERS6, version: IpVersion::V6, elements: of(true) },
    ];
    let oif = || Match::Oif("wan".to_owned());
    let passes = |set, version| {
        let action = Action::AcceptAndRefresh { set, version, seconds };
        rule(label, vec![oif(), Match::DstInSet(set, version)], Some("passed"), action)
    };
    let rules = vec![
        passes(Set::PEERS4, IpVersion::V4),
        passes(Set::PEERS6, IpVersion::V6),
        rule(
            "version settled",
            vec![Match::NfProto(IpVersion::V6), Match::DstInSet(Set::PEERS6, IpVersion::V6)],
            None,
            Action::Continue,
        ),
        rule("refused", vec![oif()], Some("refused"), Action::Drop),
    ];
    let mut inet = table(Family::Inet, vec!["passed", "refused"], vec![chain("output", Hook::Output, rules)]);
    inet.sets = sets;
    Ruleset { tables: vec![inet] }
}

#[test]
fn sets_and_their_rules_are_what_nft_makes_of_the_same_text() {
    let (mut real, _) = enter_with_wan();
    for always in [&[][..], &["192.0.2.7", "2001:db8::7", "192.0.2.1"]] {
        crate::guard::assert_same_as_nft(&mut real, &strict("a", 3600, always));
    }
}

#[test]
fn what_is_always_in_them_is_observed_and_made_so() {
    let mut real = enter();
    for always in [&["192.0.2.7", "192.0.2.8"][..], &["192.0.2.8", "2001:db8::1"], &[]] {
        let wanted = strict("a", 3600, always);
        let observed = apply_twice(&mut real, &Step::SetGuard(wanted.clone().into())).guard;
        assert_eq!(observed.chains, wanted.fingerprint());
        assert_eq!(elements(), addrs(always));
    }
}

#[test]
fn a_peer_that_was_resolved_and_is_then_written_stays_for_good_and_the_other_way_round() {
    let mut real = enter();
    real.apply(&Step::SetGuard(strict("a", 3600, &["192.0.2.7"]).into()), NOW).unwrap();
    real.add_elements(&addrs(&["192.0.2.7", "192.0.2.8"]), 60).unwrap();
    assert_eq!(lasting(), addrs(&["192.0.2.7"]), "what is written has no end, whatever it resolves to");
    let wanted = strict("a", 3600, &["192.0.2.8"]);
    let observed = apply_twice(&mut real, &Step::SetGuard(wanted.clone().into())).guard;
    assert_eq!(observed.chains, wanted.fingerprint());
    assert_eq!((elements(), lasting()), (addrs(&["192.0.2.8"]), addrs(&["192.0.2.8"])));
}

#[test]
fn elements_outlive_a_change_of_the_rules_and_go_with_their_sets() {
    let mut real = enter();
    let peers = addrs(&["192.0.2.9", "2001:db8::9"]);
    real.apply(&Step::SetGuard(strict("a", 3600, &[]).into()), NOW).unwrap();
    real.add_elements(&peers, 3600).unwrap();
    real.apply(&Step::SetGuard(strict("b", 60, &[]).into()), NOW).unwrap();
    assert_eq!(elements(), peers);
    let sizes = real.set_sizes().unwrap();
    assert_eq!(sizes.iter().map(|s| s.elements).sum::<usize>(), 2, "{sizes:?}");
    let none = Ruleset { tables: vec![table(Family::Inet, vec![], vec![])] };
    let observed = apply_twice(&mut real, &Step::SetGuard(none.clone().into())).guard;
    assert_eq!(observed.chains, none.fingerprint());
    assert!(real.add_elements(&peers, 3600).is_err(), "there is no set");
}

#[test]
fn elements_outlive_the_socket_that_owned_them_and_a_table_made_anew() {
    let mut real = enter();
    let peers = addrs(&["192.0.2.9", "2001:db8::9"]);
    let mut other = Real::open().unwrap();
    other.apply(&Step::SetGuard(strict("held", 60, &[]).into()), NOW).unwrap();
    other.add_elements(&peers, 60).unwrap();
    assert_eq!(elements(), peers);
    assert!(real.add_elements(&peers, 60).is_err(), "the sets belong to the other's socket");
    release(other);
    let wanted = strict("adopted", 60, &[]);
    let observed = apply_twice(&mut real, &Step::SetGuard(wanted.clone().into())).guard;
    assert_eq!(observed.chains, wanted.fingerprint());
    assert_eq!(elements(), peers, "adopted");
    assert!(observed.owned && observed.persistent, "{observed:?}");
    release(real);

    // A table without flags, as older kernels have it, has to be made anew.
    sh("nft delete table inet narrowgate");
    sh(
        "nft 'add table inet narrowgate; add set inet narrowgate peers4 { type ipv4_addr; size 4096; flags dynamic,timeout; }; \
        add element inet narrowgate peers4 { 192.0.2.9 timeout 60s expires 30s, 192.0.2.10 }'",
    );
    let mut real = Real::open().unwrap();
    real.apply(&Step::SetGuard(wanted.into()), NOW).unwrap();
    assert_eq!(
        elements(),
        addrs(&["192.0.2.9"]),
        "without a timeout it was one that is written, and is so no more"
    );
    let listed = sh("nft list set inet narrowgate peers4");
    assert!(listed.contains("timeout 1m expires 2"), "with the time that was left: {listed}");
}

#[test]
fn a_set_of_another_kind_gives_way() {
    let mut real = enter();
    real.apply(&Step::SetGuard(Ruleset { tables: vec![table(Family::Inet, vec![], vec![])] }.into()), NOW)
        .unwrap();
    release(real);
    sh(
        "nft 'add set inet narrowgate peers4 { type inet_service; }; add set inet narrowgate other { type ipv4_addr; }'",
    );
    let mut real = Real::open().unwrap();
    let wanted = strict("a", 60, &["192.0.2.1"]);
    let observed = apply_twice(&mut real, &Step::SetGuard(wanted.clone().into())).guard;
    assert_eq!(observed.chains, wanted.fingerprint());
    assert_eq!(elements(), addrs(&["192.0.2.1"]));
}

#[test]
fn adding_gives_what_is_there_its_time_anew() {
    let mut real = enter();
    real.apply(&Step::SetGuard(strict("a", 3600, &[]).into()), NOW).unwrap();
    let peers = addrs(&["192.0.2.9", "192.0.2.9", "2001:db8::9"]);
    real.add_elements(&peers, 60).unwrap();
    real.add_elements(&peers, 3600).unwrap();
    for set in [Set::PEERS4, Set::PEERS6] {
        let listed = sh(&format!("nft list set inet narrowgate {set}"));
        assert!(listed.contains("timeout 1h expires 59m"), "{listed}");
    }
}

#[test]
fn a_set_that_is_full_takes_nothing_more_and_says_so() {
    let mut real = enter();
    real.apply(&Step::SetGuard(strict("a", 3600, &[]).into()), NOW).unwrap();
    let many: Vec<IpAddr> =
        (0..Set::SIZE).map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).into()).collect();
    real.add_elements(&many, 60).unwrap();
    assert_eq!(real.set_sizes().unwrap()[0].elements, Set::SIZE as usize);
    let error = real.add_elements(&addrs(&["192.0.2.9", "2001:db8::9"]), 60).unwrap_err();
    assert!(error.to_string().contains("set peers4"), "{error}");
    assert_eq!(real.set_sizes().unwrap()[1].elements, 0, "all of them or none");
    real.add_elements(&many[..9], 3600).unwrap();
}

/// The promise: who was resolved once, for the shortest of times, is reached as long as packets go there; and after that no more.
#[test]
fn traffic_keeps_an_element_and_silence_ends_it() {
    let (mut real, _) = enter_with_wan();
    sh("ip addr add 192.0.2.1/24 dev wan; ip -6 addr add 2001:db8::1/64 dev wan nodad");
    sh(
        "ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev wan nud permanent; ip neigh add 2001:db8::9 lladdr 02:00:00:00:00:09 dev wan nud permanent",
    );
    real.apply(&Step::SetGuard(strict("a", 2, &[]).into()), NOW).unwrap();
    let peers = addrs(&["192.0.2.9", "2001:db8::9"]);
    let sockets = [UdpSocket::bind("192.0.2.1:0").unwrap(), UdpSocket::bind("[2001:db8::1]:0").unwrap()];
    let send = |n: usize| sockets[n].send_to(b"x", (peers[n], 9)).is_ok();
    assert!(!send(0) && !send(1), "before they are resolved");
    real.add_elements(&peers, 2).unwrap();
    let start = Instant::now();
    // IPv4 speaks on; IPv6 is silent until it is forgotten. Only the kernel's clock can tell, so it is asked.
    while elements().contains(&peers[1]) {
        assert!(send(0), "after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(30), "the silent one is not forgotten");
        std::thread::sleep(Duration::from_millis(50));
    }
    while start.elapsed() < Duration::from_secs(5) {
        assert!(send(0), "after {:?}, more than twice its time", start.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!send(1), "after it was silent for {:?}", start.elapsed());
}

/// The same sets in the last chain, which packet sockets meet alone: what is added comes into both, and a table that comes later, with its
/// device, gets what the other has.
#[test]
fn a_table_of_another_family_gets_the_same_elements_whenever_it_comes() {
    let (mut real, _) = enter_with_wan();
    if !real.capabilities().egress {
        println!("this kernel has no netdev egress");
        return;
    }
    let inet = strict("a", 3600, &["192.0.2.7"]);
    let mut both = inet.clone();
    let marked = |version, set| {
        let matches = vec![
            Match::EtherType(if version == IpVersion::V4 { 0x0800 } else { 0x86dd }),
            Match::DstInSet(set, version),
        ];
        rule("peer", matches, Some("passed"), Action::AcceptAndRefresh { set, version, seconds: 3600 })
    };
    let rules = vec![marked(IpVersion::V4, Set::PEERS4), marked(IpVersion::V6, Set::PEERS6)];
    let egress = Chain { devices: vec!["wan".to_owned()], ..chain("egress", Hook::Egress, rules) };
    both.tables.push(Table {
        sets: inet.tables[0].sets.clone(),
        ..table(Family::Netdev, vec!["passed"], vec![egress])
    });
    crate::guard::assert_same_as_nft(&mut real, &both);
    real.apply(&Step::SetGuard(inet.into()), NOW).unwrap();
    real.add_elements(&addrs(&["192.0.2.9", "2001:db8::9"]), 600).unwrap();
    let observed = apply_twice(&mut real, &Step::SetGuard(both.clone().into())).guard;
    assert_eq!(observed.chains, both.fingerprint());
    assert_eq!(
        listed_in("netdev", |_| true),
        addrs(&["192.0.2.7", "192.0.2.9", "2001:db8::9"]),
        "what was there before it"
    );
    assert_eq!(listed_in("netdev", |e| !e.contains("timeout")), addrs(&["192.0.2.7"]));
    real.add_elements(&addrs(&["192.0.2.10"]), 600).unwrap();
    for family in ["inet", "netdev"] {
        let there = listed_in(family, |_| true);
        assert_eq!(there, addrs(&["192.0.2.7", "192.0.2.9", "192.0.2.10", "2001:db8::9"]), "{family}");
    }
    let sizes: Vec<usize> = real.set_sizes().unwrap().iter().map(|s| s.elements).collect();
    assert_eq!(sizes, [3, 1], "told once");
}

/// Closes the socket, and waits until its tables are orphans: a child that another test is just starting may hold a copy of it.
fn release(real: Real) {
    drop(real);
    let start = Instant::now();
    while sh("nft list table inet narrowgate").contains("flags owner") {
        assert!(start.elapsed() < Duration::from_secs(10), "still owned");
    }
}

fn addrs(texts: &[&str]) -> Vec<IpAddr> {
    let mut addrs: Vec<IpAddr> = texts.iter().map(|t| t.parse().unwrap()).collect();
    addrs.sort();
    addrs
}

/// All elements of both sets as nft shows them, sorted.
fn elements() -> Vec<IpAddr> {
    listed(|_| true)
}

/// Those without an end.
fn lasting() -> Vec<IpAddr> {
    listed(|element| !element.contains("timeout"))
}

fn listed(wanted: fn(&str) -> bool) -> Vec<IpAddr> {
    listed_in("inet", wanted)
}

fn listed_in(family: &str, wanted: fn(&str) -> bool) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for set in [Set::PEERS4, Set::PEERS6] {
        let text = sh(&format!("nft list set {family} narrowgate {set}"));
        let Some((_, elements)) = text.split_once("elements = {") else { continue };
        let elements = elements.split('}').next().unwrap().split(',').map(str::trim).filter(|e| wanted(e));
        found.extend(elements.map(|e| e.split(' ').next().unwrap().parse::<IpAddr>().unwrap()));
    }
    found.sort();
    found
}
