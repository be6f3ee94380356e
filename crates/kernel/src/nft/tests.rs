//! What a kernel that can do less gets, which the tests over the public interface cannot ask for. They need root.

use super::{Capabilities, OWNER, PERSIST, judge, observe, remove, set};
use narrowgate_model::nft::{Action, Chain, ChainKind, Family, Hook, Match, Policy, Rule, Ruleset, Table};
use narrowgate_sys::link;
use narrowgate_sys::netlink::{self, Protocol, Socket};
use std::process::Command;

const OLD: Capabilities = Capabilities { owner: true, persist: false, egress: false, absent_devices: false };
const NEW: Capabilities = Capabilities { owner: true, persist: true, egress: true, absent_devices: true };

#[test]
fn a_kernel_short_of_memory_has_not_said_that_it_has_no_egress_hooks() {
    let refusal =
        |errno, index| netlink::Error::from(netlink::Refusal { errno, text: None, index: Some(index) });
    let (enoent, eopnotsupp, enomem, enobufs) = (2, 95, 12, 105);
    let whole = Capabilities { owner: true, persist: true, egress: true, absent_devices: true };
    assert_eq!(judge(vec![]), Ok(whole));
    let before_616 = Capabilities { absent_devices: false, ..whole };
    assert_eq!(judge(vec![refusal(enoent, 5)]), Ok(before_616));
    let without = Capabilities { egress: false, ..before_616 };
    assert_eq!(judge(vec![refusal(eopnotsupp, 4), refusal(enoent, 5)]), Ok(without));
    for short in [enomem, enobufs] {
        assert_eq!(judge(vec![refusal(short, 4)]), Err(refusal(short, 4)));
        assert_eq!(judge(vec![refusal(enoent, 5), refusal(short, 3)]), Err(refusal(short, 3)));
    }
}

#[test]
fn without_persist_a_table_has_no_flags_and_outlives_its_socket_all_the_same() {
    let mut socket = enter();
    set(&mut socket, OLD, &ruleset()).unwrap();
    assert_eq!(flags(&mut socket), [(Family::Inet, 0)], "and no table in netdev");
    drop(socket);
    let mut socket = Socket::open(Protocol::Netfilter).unwrap();
    let mut guard = narrowgate_model::state::ObservedGuard::default();
    observe(&mut socket).unwrap().guard(socket.port(), &mut guard);
    assert_eq!((guard.chains.len(), guard.owned, guard.persistent), (1, false, false));
    set(&mut socket, OLD, &ruleset()).unwrap();
    remove(&mut socket).unwrap();
    assert_eq!(flags(&mut socket), []);
}

#[test]
fn after_an_upgrade_of_the_kernel_a_table_gets_the_flags_and_keeps_its_counters() {
    let mut socket = enter();
    set(&mut socket, OLD, &ruleset()).unwrap();
    nft("add counter inet narrowgate later packets 7 bytes 8");
    let mut wanted = ruleset();
    wanted.tables[0].counters.push("later");
    set(&mut socket, NEW, &wanted).unwrap();
    assert_eq!(flags(&mut socket), [(Family::Inet, OWNER | PERSIST), (Family::Netdev, OWNER | PERSIST)]);
    let seen = observe(&mut socket).unwrap();
    let counters: Vec<_> =
        seen.tables[0].counters.iter().map(|c| (c.name.as_str(), c.packets, c.bytes)).collect();
    assert_eq!(counters, [("dropped", 0, 0), ("later", 7, 8)]);
    set(&mut socket, NEW, &ruleset()).unwrap();
    assert_eq!(
        observe(&mut socket).unwrap().tables[0].counters.len(),
        1,
        "a counter that is not wanted goes"
    );
}

#[test]
fn a_change_by_somebody_else_between_look_and_commit_is_no_error() {
    let mut socket = enter();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut changes = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                nft("add table inet busy; delete table inet busy");
                changes += 1;
            }
            changes
        });
        let results: Vec<_> = (0..100).map(|_| set(&mut socket, NEW, &ruleset())).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(other.join().unwrap() > 0);
        assert_eq!(results.into_iter().find_map(Result::err), None);
    });
}

fn enter() -> Socket {
    link::new_network_namespace().expect("a new network namespace: these tests need root");
    Socket::open(Protocol::Netfilter).expect("a netlink socket")
}

fn nft(command: &str) {
    assert!(Command::new("nft").arg(command).status().expect("nft").success(), "{command}");
}

fn flags(socket: &mut Socket) -> Vec<(Family, u32)> {
    observe(socket).unwrap().tables.iter().map(|t| (t.family, t.flags)).collect()
}

fn ruleset() -> Ruleset {
    let chain = |hook, matches, counter, devices| Chain {
        name: "out",
        kind: ChainKind::Filter,
        hook,
        priority: 0,
        policy: Policy::Accept,
        devices,
        rules: vec![Rule { label: "drop", matches, counter, action: Action::Drop }],
    };
    let inet = chain(Hook::Output, vec![Match::SkGid(800)], Some("dropped"), vec![]);
    let egress = chain(Hook::Egress, vec![Match::EtherType(0x0800)], None, vec!["lo".to_owned()]);
    Ruleset {
        tables: vec![
            Table { family: Family::Inet, counters: vec!["dropped"], sets: vec![], chains: vec![inet] },
            Table { family: Family::Netdev, counters: vec![], sets: vec![], chains: vec![egress] },
        ],
    }
}
