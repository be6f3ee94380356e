//! Who may touch our tables, and what outlives whom.

use crate::namespace::{NOW, enter_with_wan, observe, sh};
use crate::ruleset::{chain, rule, table};
use narrowgate_kernel::{Kernel, Real};
use narrowgate_model::nft::{Action, Chain, Family, Hook, Match, Ruleset};
use narrowgate_model::state::Step;
use narrowgate_sys::link;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn another_process_cannot_flush_delete_or_change_our_tables() {
    let (mut real, _) = enter_with_wan();
    real.apply(&Step::SetGuard(drops("a").into()), NOW).unwrap();
    let before = sh("nft -s list ruleset");
    sh("nft flush ruleset");
    for attempt in [
        "flush table inet narrowgate",
        "delete table inet narrowgate",
        "flush chain netdev narrowgate egress",
    ] {
        sh(&format!("! nft {attempt} 2>/dev/null"));
    }
    assert_eq!(sh("nft -s list ruleset"), before);
}

#[test]
fn the_guard_of_a_killed_process_stands_and_is_adopted_with_its_counters() {
    let (mut real, _) = enter_with_wan();
    let mut holder = Holder::start();
    assert_eq!(send_and_count(&mut real), 1);
    let seen = observe(&mut real).guard;
    assert!(seen.persistent && !seen.owned, "it belongs to the other process: {seen:?}");

    holder.kill();
    let seen = observe(&mut real).guard;
    assert!(seen.persistent && !seen.owned, "an orphan: {seen:?}");
    assert_eq!(seen.chains, drops("held").fingerprint());
    assert_eq!(send_and_count(&mut real), 2);

    real.apply(&Step::SetGuard(drops("adopted").into()), NOW).unwrap();
    let seen = observe(&mut real).guard;
    assert!(seen.persistent && seen.owned, "adopted: {seen:?}");
    assert_eq!(seen.chains, drops("adopted").fingerprint());
    assert_eq!(send_and_count(&mut real), 3);
    sh("nft flush ruleset");
    assert_eq!(observe(&mut real).guard.chains, drops("adopted").fingerprint());
}

#[test]
fn an_orphan_can_be_removed_by_whoever_comes_after() {
    let (mut real, _) = enter_with_wan();
    Holder::start().kill();
    real.apply(&Step::RemoveGuard, NOW).unwrap();
    assert_eq!(sh("nft list ruleset"), "");
}

#[test]
fn while_another_process_holds_the_guard_nothing_is_changed_and_the_error_says_why() {
    let (mut real, _) = enter_with_wan();
    let _holder = Holder::start();
    let before = sh("nft -s list ruleset");
    for step in [Step::SetGuard(drops("mine").into()), Step::RemoveGuard] {
        let error = real.apply(&step, NOW).unwrap_err();
        assert_eq!(error.errno(), Some(1));
        assert!(error.to_string().contains("another narrowgate"), "{error}");
    }
    assert_eq!(sh("nft -s list ruleset"), before);
}

#[test]
fn a_table_without_flags_is_made_anew_and_keeps_its_counters() {
    let (mut real, _) = enter_with_wan();
    sh("nft 'add table inet narrowgate; add counter inet narrowgate dropped packets 41 bytes 4100; \
        add chain inet narrowgate output { type filter hook output priority 7; }; add chain inet narrowgate other'");
    let seen = observe(&mut real).guard;
    assert!(!seen.owned && !seen.persistent && seen.chains.len() == 2, "{seen:?}");
    real.apply(&Step::SetGuard(drops("new").into()), NOW).unwrap();
    let seen = observe(&mut real).guard;
    assert!(seen.owned && seen.persistent, "{seen:?}");
    assert_eq!(seen.chains, drops("new").fingerprint());
    assert_eq!(send_and_count(&mut real), 42);
}

#[test]
fn the_socket_can_be_handed_on_without_the_tables_becoming_orphans() {
    let (mut old, _) = enter_with_wan();
    old.apply(&Step::SetGuard(drops("old").into()), NOW).unwrap();
    let socket = old.nft_socket().try_clone_to_owned().unwrap();
    drop(old);
    let mut new = Real::open_with(socket).unwrap();
    assert!(observe(&mut new).guard.owned);
    new.apply(&Step::SetGuard(drops("new").into()), NOW).unwrap();
    assert_eq!(observe(&mut new).guard.chains, drops("new").fingerprint());
}

/// A packet sent all the while must never arrive at the other end: not while rules, chains, devices or the owner change, nor
/// while somebody flushes.
#[test]
fn there_is_no_moment_without_guard() {
    let (mut real, _) = enter_with_wan();
    sh("sysctl -qw net.ipv6.conf.wan.disable_ipv6=1 net.ipv6.conf.lan.disable_ipv6=1");
    sh(
        "ip addr add 192.0.2.1/24 dev wan; ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev wan nud permanent",
    );
    let mut holder = Holder::start();
    let received = received_by_lan();
    let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
    let done = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0u64;
            while !done.load(Ordering::Relaxed) {
                let _ = socket.send_to(b"leak", "192.0.2.9:9"); // EPERM from the guard
                sent += 1;
            }
            sent
        });
        let stop = Stop(&done); // also if something panics, or the scope would wait for ever
        holder.kill();
        for i in 0..100 {
            let mut wanted = drops(if i % 2 == 0 { "even" } else { "odd" });
            if i % 3 == 0 {
                wanted.tables[0].chains[0].priority = -5; // a chain that has to be made anew
            }
            if i % 5 == 0 {
                wanted.tables[1].chains[0].devices.push("lo".to_owned());
            }
            real.apply(&Step::SetGuard(wanted.into()), NOW).unwrap();
            if i % 10 == 0 {
                sh("nft flush ruleset");
            }
        }
        drop(stop);
        sender.join().unwrap()
    });
    assert!(sent > 1000, "only {sent} packets were sent");
    assert_eq!(received_by_lan(), received);
    real.apply(&Step::RemoveGuard, NOW).unwrap();
    socket.send_to(b"now", "192.0.2.9:9").unwrap();
    assert_eq!(received_by_lan(), received + 1, "without a guard the packet arrives");
}

/// The other process of these tests: it loads a guard and holds it until its input ends or it is killed.
#[test]
#[ignore = "started by the other tests"]
fn holder() {
    if std::env::var_os(HOLDER).is_none() {
        link::new_network_namespace().expect("a new network namespace: these tests need root");
        sh("ip link add wan type veth peer name lan");
    }
    let mut real = Real::open().unwrap();
    real.apply(&Step::SetGuard(drops("held").into()), NOW).unwrap();
    println!("\n{HOLDER}");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    assert!(observe(&mut real).guard.owned);
}

/// Drops and counts all UDP to the device in `inet`, and all IPv4 in `netdev`.
fn drops(label: &'static str) -> Ruleset {
    let matches = vec![Match::Oif("wan".to_owned()), Match::L4Proto(17)];
    let output = chain("output", Hook::Output, vec![rule(label, matches, Some("dropped"), Action::Drop)]);
    let frames = vec![rule(label, vec![Match::EtherType(0x0800)], None, Action::Drop)];
    let egress = Chain { devices: vec!["wan".to_owned()], ..chain("egress", Hook::Egress, frames) };
    Ruleset {
        tables: vec![
            table(Family::Inet, vec!["dropped"], vec![output]),
            table(Family::Netdev, vec![], vec![egress]),
        ],
    }
}

/// Sends a packet that the guard drops; what its counter says then.
fn send_and_count(real: &mut Real) -> u64 {
    sh("ip addr replace 192.0.2.1/24 dev wan");
    let sent = UdpSocket::bind("192.0.2.1:0").unwrap().send_to(b"x", "192.0.2.9:9");
    assert_eq!(sent.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    real.counters().unwrap().iter().find(|c| c.name == "dropped").unwrap().packets
}

fn received_by_lan() -> u64 {
    let stats = sh("ip -s link show lan");
    let line = stats.lines().skip_while(|l| !l.contains("RX:")).nth(1).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Holder(Child);

impl Holder {
    fn start() -> Holder {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "owner::holder", "--ignored", "--nocapture"])
            .env(HOLDER, "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == HOLDER), "the other process has not loaded its guard");
        Holder(child)
    }

    /// SIGKILL. The kernel closes the socket, and so makes an orphan, before the process can be waited for.
    fn kill(&mut self) {
        let started = Instant::now();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const HOLDER: &str = "NARROWGATE_TEST_HOLDER";
