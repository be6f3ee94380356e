//! No server answers: what the tunnels' peers get from memory; and what is fetched before it is needed.

use crate::world::{Host, Manner, Told, World, query, question_end, rcode, udp_client};
use narrowgate_forwarder::engine::{Client, Limits, STALE_AFTER, UplinkState, wire_name};
use std::net::IpAddr;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;
const A: u16 = 1;
const AAAA: u16 = 28;

fn host(manner: Manner) -> Host {
    Host { manner, rtt: 10, loss: 0 }
}

/// The peer `vpn.example.net`, found at these addresses in an earlier life; no cache.
fn world(hosts: &[Host], known: &[&str]) -> World {
    let mut world = World::new(1, Limits::default());
    world.peers = vec!["vpn.example.net".to_owned(), "vpn2.example.net".to_owned()];
    let known = known.iter().map(|addr| addr.parse().unwrap()).collect();
    world.engine.keep(vec![(wire_name("vpn.example.net").unwrap(), known)]);
    world.serve(hosts, UplinkState::Up, "");
    world
}

/// The addresses in an answer, each with its lifetime.
fn addresses(reply: &[u8]) -> Vec<(IpAddr, u32)> {
    let mut at = question_end(reply);
    let mut found = Vec::new();
    for _ in 0..reply[7] {
        let number = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
        let ttl = u32::from_be_bytes(reply[at + 6..at + 10].try_into().unwrap());
        let end = at + 12 + usize::from(number(at + 10));
        let data = &reply[at + 12..end];
        let addr = match number(at + 2) {
            A => IpAddr::from(<[u8; 4]>::try_from(data).unwrap()),
            _ => IpAddr::from(<[u8; 16]>::try_from(data).unwrap()),
        };
        found.push((addr, ttl));
        at = end;
    }
    found
}

/// The extended error of an answer whose OPT comes last and has nothing else.
fn extended_error(reply: &[u8]) -> Option<u16> {
    let opt = reply.windows(5).rposition(|bytes| bytes == [0, 0, 41, 4, 208])?;
    let options = &reply[opt + 11..];
    (options.first_chunk() == Some(&[0, 15])).then(|| u16::from_be_bytes([options[4], options[5]]))
}

#[test]
fn a_peer_is_found_where_it_was_last_when_all_servers_are_silent() {
    let mut world = world(&[host(Manner::Dead), host(Manner::Dead)], &["192.0.2.7", "192.0.2.8"]);
    let (after, reply) = world.resolve(&query(7, "VPN.example.net", A, 1232)).unwrap();
    assert_eq!((after, rcode(&reply), reply[1]), (MS(1800), 0, 7));
    assert_eq!(&reply[13..16], b"VPN");
    let known = ["192.0.2.7", "192.0.2.8"].map(|a| (a.parse().unwrap(), 30));
    assert_eq!((addresses(&reply), extended_error(&reply)), (known.to_vec(), Some(3)));
    assert_eq!(world.engine.counters().stale, 1);

    let (after, reply) = world.resolve(&query(8, "vpn.example.net", AAAA, 1232)).unwrap();
    assert_eq!(
        (after, rcode(&reply), reply[7]),
        (MS(1800), 0, 0),
        "stubs wait for both kinds: there is none of this"
    );
    assert_eq!(extended_error(&reply), Some(3));

    for (name, qtype) in [("vpn2.example.net", A), ("www.example.net", A), ("vpn.example.net", 16)] {
        let (after, reply) = world.resolve(&query(9, name, qtype, 1232)).unwrap();
        assert_eq!((after, rcode(&reply)), (MS(4500), 2), "{name} {qtype}: nothing is known of it");
    }
    assert_eq!(world.engine.take_found(), [], "what was told is no news");
}

#[test]
fn over_tcp_and_without_edns_too() {
    let mut world = world(&[host(Manner::Dead)], &["192.0.2.7"]);
    world.ask(Client::Tcp(5), &query(1, "vpn.example.net", A, 0));
    world.run_for(Duration::from_secs(7));
    let [reply] = &world.net.replies[..] else { panic!("{:?}", world.net.replies) };
    assert_eq!((addresses(&reply.bytes).len(), extended_error(&reply.bytes)), (1, None));
}

#[test]
fn servers_that_refuse_or_fail_are_not_waited_for() {
    for manner in [Manner::Refuses, Manner::Fails, Manner::NotImplemented] {
        let mut world = world(&[host(manner), host(manner)], &["192.0.2.7"]);
        let (after, reply) = world.resolve(&query(1, "vpn.example.net", A, 0)).unwrap();
        assert_eq!(addresses(&reply).len(), 1, "{manner:?}");
        assert!(after <= MS(1000), "{manner:?}: {after:?}");
    }
}

#[test]
fn a_server_that_answers_in_time_is_believed_and_a_later_one_is_heard() {
    let slow = |rtt| [Host { manner: Manner::Good, rtt, loss: 0 }];
    let mut world = world(&slow(1500), &["10.0.0.9"]);
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", A, 1232)).unwrap();
    assert_eq!((after, addresses(&reply)[0].0), (MS(1500), IpAddr::from([10, 0, 0, 1])));
    let name = wire_name("vpn.example.net").unwrap();
    assert_eq!(world.engine.take_found(), [(name.clone(), vec![[10, 0, 0, 1].into()])]);
    world.resolve(&query(1, "vpn.example.net", A, 1232)).unwrap();
    assert_eq!(world.engine.take_found(), [], "it is where it was");

    world.engine.keep(vec![(name.clone(), vec![[10, 0, 0, 9].into()])]);
    world.serve(&slow(2500), UplinkState::Up, "");
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", A, 1232)).unwrap();
    assert_eq!((after, addresses(&reply)[0].0), (STALE_AFTER, IpAddr::from([10, 0, 0, 9])));
    assert_eq!(world.engine.take_found(), [(name, vec![[10, 0, 0, 1].into()])], "what came late");
}

#[test]
fn what_was_resolved_is_remembered_without_a_cache() {
    let mut world = world(&[host(Manner::Good)], &[]);
    world.resolve(&query(1, "Vpn2.example.net", A, 0)).unwrap();
    world.resolve(&query(1, "www.example.net", A, 0)).unwrap();
    assert_eq!(world.engine.take_found().len(), 1, "peers alone");
    world.serve(&[host(Manner::Dead)], UplinkState::Up, "");
    let (after, reply) = world.resolve(&query(1, "vpn2.example.net", A, 0)).unwrap();
    assert_eq!((after, addresses(&reply)), (MS(1800), vec![([10, 0, 0, 1].into(), 30)]));
}

/// A resolver through the mesh: what it would tell nobody has let in.
#[test]
fn a_resolver_that_was_not_told_to_remember_does_not() {
    let mut world = World::new(1, Limits::default());
    world.peers = vec!["vpn.example.net".to_owned()];
    world.serve(&[host(Manner::Good)], UplinkState::Up, "");
    world.resolve(&query(1, "vpn.example.net", A, 0)).unwrap();
    world.serve(&[host(Manner::Dead)], UplinkState::Up, "");
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", A, 0)).unwrap();
    assert_eq!((after, rcode(&reply), world.engine.take_found()), (MS(4500), 2, vec![]));
}

#[test]
fn a_query_that_waited_for_the_uplink_is_asked_first() {
    let mut world = world(&[], &["192.0.2.7"]);
    world.serve(&[], UplinkState::Waiting, "");
    world.ask(udp_client(9), &query(1, "vpn.example.net", A, 0));
    world.run_for(MS(3000));
    assert!(world.net.replies.is_empty(), "the uplink may come any moment");
    let start = world.net.now;
    world.serve(&[host(Manner::Dead)], UplinkState::Up, "");
    world.run_for(MS(4000));
    let [reply] = &world.net.replies[..] else { panic!("{:?}", world.net.replies) };
    assert_eq!((reply.at.since(start), addresses(&reply.bytes).len()), (MS(600), 1), "within a stub's 5 s");
}

#[test]
fn an_uplink_that_does_not_come_is_no_reason_to_say_nothing() {
    let mut world = world(&[], &["192.0.2.7"]);
    for (state, wait) in [(UplinkState::Waiting, 4000), (UplinkState::NoCarrier, 0)] {
        world.serve(&[], state, "");
        let (after, reply) = world.resolve(&query(1, "vpn.example.net", A, 0)).unwrap();
        assert_eq!((after, addresses(&reply).len()), (MS(wait), 1), "{state:?}");
    }
}

#[test]
fn of_two_kinds_of_address_the_one_that_can_be_reached_is_given() {
    for (state, of_use, of_no_use) in [(UplinkState::Ipv4Only, A, AAAA), (UplinkState::Ipv6Only, AAAA, A)] {
        let mut world = world(&[], &["192.0.2.7", "2001:db8::7"]);
        world.serve(&[host(Manner::Dead)], state, "");
        let counts = [of_use, of_no_use].map(|qtype| {
            let (after, reply) = world.resolve(&query(1, "vpn.example.net", qtype, 0)).unwrap();
            assert_eq!((after, rcode(&reply)), (MS(1800), 0));
            addresses(&reply).len()
        });
        assert_eq!(counts, [1, 0], "{state:?}");
    }
}

#[test]
fn a_peers_answer_is_fetched_anew_in_the_last_tenth_of_its_life_and_nobody_waits_for_it() {
    let mut world = World::new(1, Limits { cache: 65536, ..Limits::default() });
    world.peers = vec!["vpn.example.net".to_owned()];
    world.serve(&[Host { manner: Manner::Good, rtt: 900, loss: 0 }], UplinkState::Up, "");
    let asked = |world: &mut World, name: &str, seconds: u64| {
        world.run_for(Duration::from_secs(seconds));
        let before = world.net.sent.len();
        let replies = world.net.replies.len();
        for id in 1..4 {
            world.ask(udp_client(id), &query(id, name, A, 0));
        }
        (world.net.replies.len() - replies, world.net.sent.len() - before)
    };
    assert_eq!(asked(&mut world, "vpn.example.net", 0), (0, 1), "three clients, one question");
    assert_eq!(asked(&mut world, "vpn.example.net", 100), (3, 0));
    assert_eq!(
        asked(&mut world, "vpn.example.net", 172),
        (3, 1),
        "272 s of 300: all three are answered, one question"
    );
    assert_eq!(asked(&mut world, "vpn.example.net", 60), (3, 0), "it has been renewed");
    let counters = world.engine.counters();
    assert_eq!((counters.prefetched, counters.cached, counters.failed), (1, 9, 0));
    // Other names are not, and a peer that nobody asks for is not.
    assert_eq!(asked(&mut world, "www.example.net", 0).1, 1);
    assert_eq!(asked(&mut world, "www.example.net", 280), (3, 0));
    let sent = world.net.sent.len();
    assert_eq!(world.engine.next_tick(), None, "idle is idle");
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.net.sent.len(), sent);
}

#[test]
fn a_fetch_that_fails_is_nobodys_failure() {
    let mut world = World::new(1, Limits { cache: 65536, ..Limits::default() });
    world.peers = vec!["vpn.example.net".to_owned()];
    world.serve(&[host(Manner::Good)], UplinkState::Up, "");
    world.resolve(&query(1, "vpn.example.net", A, 0)).unwrap();
    world.serve(&[host(Manner::Dead)], UplinkState::Up, "");
    world.run_for(Duration::from_secs(275));
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", A, 0)).unwrap();
    assert_eq!((after, rcode(&reply)), (MS(0), 0));
    let counters = world.engine.counters();
    assert_eq!((counters.prefetched, counters.failed, counters.stale), (1, 0, 0));
    assert_eq!((world.engine.in_flight(), world.engine.next_tick()), (0, None));
}
