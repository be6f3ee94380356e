//! While the uplink has one IP version only.

use crate::world::{Host, Manner, World, query, rcode, udp_client};
use narrowgate_forwarder::engine::{Limits, UplinkState};
use std::time::Duration;

const A: u16 = 1;
const AAAA: u16 = 28;

fn good() -> Host {
    Host { manner: Manner::Good, rtt: 10, loss: 0 }
}

fn up_by(state: UplinkState) -> World {
    let mut world = World::new(1, Limits::default());
    world.serve(&[good()], state, "");
    world
}

/// Answer records that the n-th reply has.
fn answers(world: &World, n: usize) -> u8 {
    world.net.replies[n].bytes[7]
}

#[test]
fn addresses_that_cannot_be_reached_yet_are_kept_from_a_client_that_has_others() {
    for (state, of_no_use, of_use) in [(UplinkState::Ipv6Only, A, AAAA), (UplinkState::Ipv4Only, AAAA, A)] {
        for order in [[of_no_use, of_use], [of_use, of_no_use]] {
            let mut world = up_by(state);
            for (id, qtype) in (1..).zip(order) {
                world.ask(udp_client(9), &query(id, "vpn.example.net", qtype, 1232));
                world.run_for(Duration::from_millis(5));
            }
            world.run_for(Duration::from_millis(50));
            let told: Vec<(u8, u8)> =
                (0..2).map(|n| (world.net.replies[n].bytes[1], answers(&world, n))).collect();
            let of_no_use_id = 1 + u8::from(order[1] == of_no_use);
            assert!(told.contains(&(of_no_use_id, 0)), "{state:?} {order:?}: {told:?}");
            assert!(told.contains(&(3 - of_no_use_id, 1)), "{state:?} {order:?}: {told:?}");
            assert!(world.net.replies.iter().all(|r| rcode(&r.bytes) == 0));
            assert!(
                world.engine.next_tick().is_none_or(|at| at > world.net.now),
                "nothing is left to do now"
            );
        }
    }
}

#[test]
fn a_name_without_others_waits_for_its_version_to_come() {
    let mut world = up_by(UplinkState::Ipv6Only);
    world.ask(udp_client(9), &query(1, "vpn.example.net", A, 1232));
    world.run_for(Duration::from_secs(3));
    assert!(world.net.replies.is_empty());
    world.serve(&[good()], UplinkState::Up, "");
    assert_eq!((world.net.replies.len(), answers(&world, 0)), (1, 1), "at once");
}

#[test]
fn and_gets_its_answer_as_it_is_when_the_wait_is_over() {
    let mut world = up_by(UplinkState::Ipv6Only);
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", A, 1232)).unwrap();
    assert_eq!((after, rcode(&reply), reply[7]), (Duration::from_secs(4), 0, 1));
}

#[test]
fn what_is_no_address_is_not_held() {
    let mut world = up_by(UplinkState::Ipv6Only);
    for qtype in [AAAA, 16, 33] {
        let (after, _) = world.resolve(&query(qtype, "vpn.example.net", qtype, 1232)).unwrap();
        assert_eq!(after, Duration::from_millis(10), "type {qtype}");
    }
}

#[test]
fn a_client_that_repeats_itself_is_held_once() {
    let mut world = up_by(UplinkState::Ipv6Only);
    for _ in 0..3 {
        world.ask(udp_client(9), &query(1, "vpn.example.net", A, 0));
        world.run_for(Duration::from_millis(900));
    }
    assert_eq!((world.engine.counters().held, world.engine.counters().retries), (1, 2));
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.net.replies.len(), 1);
}

#[test]
fn a_refusal_that_comes_while_an_answer_waits_for_its_version_loses_nobody() {
    let mut world = World::new(1, Limits::default());
    let refuses = Host { manner: Manner::Refuses, rtt: 50, loss: 0 };
    world.serve(&[good(), refuses], UplinkState::Ipv6Only, "");
    world.ask(udp_client(9), &query(1, "vpn.example.net", A, 1232));
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.net.sent.len(), world.net.replies.len()), (2, 0), "both were asked, and it waits");
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.net.replies.len(), 1);
    assert_eq!(answers(&world, 0), 1);
}
