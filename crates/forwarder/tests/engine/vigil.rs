//! Peers asked for in vain: who hears of it, what is sent until there are answers, and that nothing is sent afterwards.

use crate::world::{Host, Manner, Told, World, query, rcode, server, udp_client};
use narrowgate_forwarder::engine::{Limits, UplinkState, wire_name};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;
const A: u16 = 1;
const AAAA: u16 = 28;
const PEER: &str = "vpn.example.net";

fn host(manner: Manner) -> Host {
    Host { manner, rtt: 10, loss: 0 }
}

/// A tunnel with two peers, and these servers; the parent keeps what it is told, and has kept nothing yet.
fn world(manners: &[Manner]) -> World {
    let mut world = World::new(1, Limits::default());
    world.peers = vec![PEER.to_owned(), "vpn2.example.net".to_owned()];
    world.engine.keep(Vec::new());
    serve(&mut world, manners);
    world
}

fn serve(world: &mut World, manners: &[Manner]) {
    let hosts: Vec<Host> = manners.iter().map(|manner| host(*manner)).collect();
    world.serve(&hosts, UplinkState::Up, "");
}

/// The servers go on in another way, and nobody tells the engine.
fn become_(world: &mut World, manner: Manner) {
    world.net.hosts.values_mut().for_each(|host| host.manner = manner);
}

fn vain(name: &str) -> Vec<(Vec<u8>, bool)> {
    vec![(wire_name(name).unwrap(), false)]
}

fn answered(name: &str) -> Vec<(Vec<u8>, bool)> {
    vec![(wire_name(name).unwrap(), true)]
}

#[test]
fn answers_after_an_outage_are_noticed_in_an_eighth_of_its_time_and_in_three_seconds_at_most() {
    for (outage, at_most) in [(MS(1500), 250), (MS(10_000), 1300), (MS(500_000), 3000)] {
        for manner in [Manner::Dead, Manner::Closed, Manner::Refuses, Manner::Fails, Manner::NoRoute] {
            let mut world = world(&[manner, manner]);
            world.resolve(&query(1, "VPN.example.net", A, 1232)).unwrap();
            assert_eq!(world.engine.take_news(), vain(PEER), "{manner:?}");
            world.engine.watch(world.net.now);
            world.run_for(outage);
            assert_eq!(world.engine.take_news(), [], "{manner:?}");
            become_(&mut world, Manner::Good);
            // The query itself had lasted a while before it was given up.
            world.run_for(MS(at_most + 10 + 7000 / 8));
            assert_eq!(world.engine.take_news(), answered(PEER), "{manner:?} {outage:?}");
            world.net.sent.clear();
            world.run_for(Duration::from_secs(600));
            assert_eq!(world.net.sent.len(), 0, "it is over");
            assert_eq!(world.engine.next_tick(), None, "no timer runs");
        }
    }
}

#[test]
fn what_is_sent_is_small_and_little() {
    let mut world = world(&[Manner::Dead, Manner::Dead, Manner::Dead]);
    world.resolve(&query(1, PEER, A, 1232)).unwrap();
    world.engine.watch(world.net.now);
    world.net.sent.clear();
    let mut sent = |span: u64| {
        world.run_for(Duration::from_secs(span));
        std::mem::take(&mut world.net.sent)
    };
    let first = sent(60);
    assert!((60..=120).contains(&first.len()), "in the first minute: {}", first.len());
    let name = wire_name(PEER).unwrap().len();
    assert!(first.iter().all(|(.., bytes)| bytes.len() == 12 + name + 4), "a question and nothing else");
    assert!((0..3).all(|n| first.iter().any(|(_, to, ..)| *to == server(n))), "all servers");
    let at: Vec<_> = first.iter().filter(|(_, to, ..)| *to == server(0)).map(|(at, ..)| *at).collect();
    assert!(at.windows(2).all(|w| w[1].since(w[0]) >= MS(250)), "{at:?}");
    sent(86_400);
    let later = sent(3600).len();
    assert!((100..=190).contains(&later), "in an hour, a day later: {later}");
}

#[test]
fn the_client_gets_what_was_known_before_and_that_is_in_vain_too() {
    let mut world = world(&[Manner::Dead]);
    world.engine.keep(vec![(wire_name(PEER).unwrap(), vec!["192.0.2.7".parse().unwrap()])]);
    let (after, reply) = world.resolve(&query(1, PEER, A, 0)).unwrap();
    assert_eq!((after, rcode(&reply), reply[7]), (MS(1800), 0, 1));
    assert_eq!(world.engine.take_news(), vain(PEER));
}

#[test]
fn it_is_told_once_and_nothing_is_sent_unless_the_parent_wants_it() {
    let mut world = world(&[Manner::Dead]);
    for _ in 0..3 {
        world.resolve(&query(1, PEER, A, 0)).unwrap();
    }
    assert_eq!(world.engine.take_news(), vain(PEER));
    world.net.sent.clear();
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.net.sent.len(), 0);
    become_(&mut world, Manner::Good);
    world.resolve(&query(1, PEER, AAAA, 0)).unwrap();
    assert_eq!(world.engine.take_news(), answered(PEER), "who asked found out");
}

/// As a VPN does, for both kinds of address at once.
#[test]
fn a_kind_of_record_or_a_name_that_is_broken_is_no_outage() {
    let mut world = world(&[Manner::DropsAaaa, Manner::DropsAaaa]);
    world.ask(udp_client(5), &query(1, PEER, A, 0));
    world.ask(udp_client(5), &query(2, PEER, AAAA, 0));
    world.run_for(Duration::from_secs(7));
    assert_eq!(world.net.replies.len(), 2);
    assert_eq!(world.engine.take_news(), []);
}

#[test]
fn names_that_are_no_peers_are_nobodys_business() {
    let mut world = world(&[Manner::Dead]);
    world.resolve(&query(1, "www.example.net", A, 0)).unwrap();
    world.resolve(&query(1, PEER, 16, 0)).unwrap();
    assert_eq!(world.engine.take_news(), []);
    world.resolve(&query(1, PEER, A, 0)).unwrap();
    world.engine.watch(world.net.now);
    world.peers.remove(0);
    serve(&mut world, &[Manner::Dead]);
    world.net.sent.clear();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.net.sent.len(), 0, "a peer no more");
}

#[test]
fn other_servers_are_asked_at_once_and_none_where_there_is_no_uplink() {
    let mut world = world(&[Manner::Dead]);
    world.resolve(&query(1, PEER, A, 0)).unwrap();
    world.engine.watch(world.net.now);
    world.run_for(Duration::from_secs(300));
    world.serve(&[host(Manner::Good)], UplinkState::NoCarrier, "");
    world.net.sent.clear();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.net.sent.len(), 0);
    world.engine.take_news();
    serve(&mut world, &[Manner::Good]);
    world.run_for(MS(11));
    assert_eq!(world.engine.take_news(), answered(PEER));
}

#[test]
fn an_uplink_that_names_its_servers_late() {
    let mut world = world(&[]);
    let (_, reply) = world.resolve(&query(1, PEER, A, 0)).unwrap();
    assert_eq!((rcode(&reply), world.engine.take_news()), (2, vain(PEER)));
    world.engine.watch(world.net.now);
    world.run_for(Duration::from_secs(60));
    serve(&mut world, &[Manner::Good]);
    world.run_for(MS(11));
    assert_eq!(world.engine.take_news(), answered(PEER));
}
