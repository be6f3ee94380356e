//! One thing that can happen to a query, and what comes of it.

use crate::world::{Host, Manner, World, query, question_end, rcode, udp_client};
use narrowgate_forwarder::engine::{Client, Limits, Set, Transport, UplinkState, Upstreams, wire_name};
use std::net::SocketAddr;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn host(manner: Manner) -> Host {
    Host { manner, rtt: 10, loss: 0 }
}

fn good() -> Host {
    host(Manner::Good)
}

#[test]
fn an_answer_comes_back_under_the_clients_id_and_in_its_letters() {
    let mut world = World::with(1, &[good()]);
    let question = query(0x1234, "VPN.example.net", 1, 1232);
    let (after, reply) = world.resolve(&question).unwrap();
    assert_eq!(after, MS(10));
    assert_eq!(reply[..2], [0x12, 0x34]);
    let end = question_end(&question);
    assert_eq!(reply[12..end], question[12..end]);
    let sent = &world.net.sent[0].3;
    assert_ne!(sent[..2], question[..2], "the id towards the server is our own");
    assert!(sent[12..end].eq_ignore_ascii_case(&question[12..end]));
}

#[test]
fn the_letters_case_is_another_secret() {
    let mut world = World::with(1, &[good()]);
    let mut spellings = std::collections::HashSet::new();
    for id in 0..20 {
        world.resolve(&query(id, "abcdefghijklmnopqrstuvwxyz.example", 1, 0));
    }
    for (.., sent) in &world.net.sent {
        spellings.insert(sent[12..].to_vec());
    }
    assert_eq!(spellings.len(), 20);
}

#[test]
fn a_server_that_does_not_keep_case_is_asked_in_plain_letters() {
    let mut world = World::with(1, &[host(Manner::LowersCase)]);
    let (after, reply) = world.resolve(&query(1, "VPN.Example.net", 1, 0)).unwrap();
    assert_eq!(rcode(&reply), 0, "after {after:?}");
    assert!(after <= MS(20));
    assert_eq!(&reply[13..16], b"VPN");
}

#[test]
fn a_silent_server_is_followed_by_the_next() {
    for first in [Manner::Dead, Manner::Closed, Manner::NoRoute, Manner::WrongId, Manner::WrongQuestion] {
        let mut world = World::with(1, &[host(first), good()]);
        let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 0)).unwrap();
        assert_eq!(rcode(&reply), 0, "{first:?}");
        assert!(after < MS(300), "{first:?}: {after:?}");
        let (after, _) = world.resolve(&query(2, "vpn.example.net", 1, 0)).unwrap();
        assert!(after < MS(150), "{first:?} is known by now: {after:?}");
    }
}

#[test]
fn a_refusal_is_followed_by_the_next_and_passed_on_only_if_all_refuse() {
    for first in [Manner::Refuses, Manner::Fails, Manner::NotImplemented] {
        let mut world = World::with(1, &[host(first), good()]);
        let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 0)).unwrap();
        assert_eq!((rcode(&reply), after), (0, MS(10)), "{first:?}");
    }
    let mut world = World::with(1, &[host(Manner::Refuses), host(Manner::Fails)]);
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 0)).unwrap();
    assert_eq!((rcode(&reply), after), (2, MS(10)), "SERVFAIL says more than REFUSED");
    let mut world = World::with(1, &[host(Manner::Fails), host(Manner::Dead)]);
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 0)).unwrap();
    assert_eq!(rcode(&reply), 2);
    assert!(after <= MS(1000), "the dead one is not waited for long: {after:?}");
}

#[test]
fn when_none_answers_the_client_is_told_why_before_its_patience_ends() {
    let mut world = World::with(1, &[host(Manner::Dead), host(Manner::Dead)]);
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!((rcode(&reply), after), (2, MS(4500)));
    let text = String::from_utf8_lossy(&reply).into_owned();
    assert!(text.contains("none of 2 DNS servers answers"), "{text}");
    assert_eq!(extended_error(&reply), Some(22));
}

fn extended_error(reply: &[u8]) -> Option<u16> {
    let opt = &reply[question_end(reply)..];
    (opt.len() > 17 && opt[11..13] == [0, 15]).then(|| u16::from_be_bytes([opt[15], opt[16]]))
}

#[test]
fn servers_that_cannot_bear_edns_are_asked_without() {
    let mut world = World::with(1, &[host(Manner::HatesEdns)]);
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!((rcode(&reply), after), (0, MS(20)));
    let (after, _) = world.resolve(&query(2, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!(after, MS(10), "it is remembered");
    let mut world = World::with(1, &[host(Manner::DropsEdns)]);
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!(rcode(&reply), 0);
    assert!(after < MS(500), "{after:?}");
    let (after, _) = world.resolve(&query(2, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!(after, MS(10), "it is remembered");
}

#[test]
fn a_truncated_answer_is_passed_on_and_tcp_is_served() {
    let mut world = World::with(1, &[host(Manner::Truncates)]);
    let question = query(1, "vpn.example.net", 16, 0);
    let (_, reply) = world.resolve(&question).unwrap();
    assert_ne!(reply[2] & 2, 0, "TC");
    world.ask(Client::Tcp(7), &question);
    world.run_for(MS(100));
    let reply = &world.net.replies.last().unwrap();
    assert_eq!((reply.client, reply.bytes[2] & 2, reply.bytes[7]), (Client::Tcp(7), 0, 1));
    assert_eq!(world.net.sent.last().unwrap().2, Transport::Tcp);
}

#[test]
fn a_tcp_client_is_served_though_the_server_drops_tcp() {
    let mut world = World::with(1, &[host(Manner::DropsTcp)]);
    world.ask(Client::Tcp(7), &query(1, "vpn.example.net", 1, 0));
    world.run_for(MS(1000));
    assert_eq!(rcode(&world.net.replies[0].bytes), 0);
}

#[test]
fn an_answer_that_is_larger_than_the_client_takes_is_cut() {
    let mut world = World::with(1, &[host(Manner::Dead)]);
    let question = query(1, "big.example", 16, 0);
    world.ask(udp_client(5), &question);
    let mut answer = world.net.sent[0].3.clone();
    answer[2] |= 0x80;
    answer.resize(600, 0);
    world.engine.upstream_message(world.net.now, 0, &mut answer, &mut world.net);
    let reply = &world.net.replies[0].bytes;
    assert!(reply.len() <= 512 && reply[2] & 2 != 0);
}

#[test]
fn a_clients_retry_is_not_asked_again() {
    let mut world = World::with(1, &[Host { rtt: 200, ..good() }]);
    let question = query(1, "vpn.example.net", 1, 0);
    for _ in 0..50 {
        world.ask(udp_client(9), &question);
    }
    world.ask(udp_client(10), &query(2, "vpn.example.net", 1, 0));
    assert_eq!(world.net.sent.len(), 1);
    world.run_for(MS(1500));
    let ids: Vec<_> = world.net.replies.iter().map(|r| r.bytes[1]).collect();
    assert_eq!(ids, [1, 2], "each client once, under its own id");
    assert_eq!((world.engine.counters().retries, world.engine.counters().joined), (49, 1));
}

#[test]
fn clients_that_ask_the_same_share_a_question_and_get_their_own_letters_back() {
    let mut world = World::with(1, &[good()]);
    let long = ["a".repeat(63), "b".repeat(63), "Example".to_owned()].join(".");
    for name in ["VPN.example.net", &long] {
        let (one, two) = (query(1, name, 1, 0), query(2, &name.to_ascii_uppercase(), 1, 0));
        let (sent, replies) = (world.net.sent.len(), world.net.replies.len());
        world.ask(udp_client(1), &one);
        world.ask(udp_client(2), &two);
        assert_eq!(world.net.sent.len(), sent + 1);
        world.run_for(MS(100));
        for (question, reply) in [one, two].iter().zip(&world.net.replies[replies..]) {
            assert_eq!(question[..2], reply.bytes[..2]);
            assert_eq!(question[12..], reply.bytes[12..question.len()]);
        }
        assert_eq!(world.net.replies.len(), replies + 2);
    }
}

#[test]
fn a_question_that_comes_back_through_another_forwarder_goes_round_once() {
    let mut world = World::with(1, &[host(Manner::Dead)]);
    world.ask(udp_client(1), &query(1, "vpn.example.net", 1, 1232));
    for n in 0..50 {
        // Another's id and letters, as of a forwarder like us whose server we are.
        let (.., mut back) = world.net.sent.last().unwrap().clone();
        back[0] ^= n + 1;
        back[13..16].make_ascii_uppercase();
        world.ask(udp_client(9), &back);
    }
    assert_eq!((world.net.sent.len(), world.engine.in_flight()), (1, 1));
    world.run_for(Duration::from_secs(7));
    assert_eq!(world.engine.in_flight(), 0);
    assert!(world.net.replies.iter().all(|reply| rcode(&reply.bytes) == 2), "and all are told so");
    assert_eq!(world.net.replies.len(), 51);
}

#[test]
fn a_query_that_comes_too_early_waits_for_the_uplink() {
    let mut world = World::new(1, Limits::default());
    world.ask(udp_client(9), &query(1, "vpn.example.net", 1, 1232));
    world.serve(&[], UplinkState::Waiting, "uplink wan: no address yet");
    world.run_for(MS(3500));
    assert!(world.net.replies.is_empty() && world.net.sent.is_empty());
    world.serve(&[good()], UplinkState::Up, "");
    world.run_for(MS(10));
    assert_eq!(rcode(&world.net.replies[0].bytes), 0);
}

#[test]
fn and_is_told_why_when_the_wait_is_over() {
    let mut world = World::new(1, Limits::default());
    world.serve(&[], UplinkState::Waiting, "uplink wan: no address yet");
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!((rcode(&reply), after, extended_error(&reply)), (2, MS(4000), Some(23)));
    assert!(String::from_utf8_lossy(&reply).contains("uplink wan: no address yet"));
}

#[test]
fn without_a_carrier_there_is_nothing_to_wait_for() {
    let mut world = World::new(1, Limits::default());
    world.serve(&[], UplinkState::NoCarrier, "uplink wan: no carrier");
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!((rcode(&reply), after, extended_error(&reply)), (2, MS(0), Some(23)));
    world.serve(&[], UplinkState::Waiting, "");
    world.ask(udp_client(3), &query(7, "vpn.example.net", 1, 0));
    world.run_for(MS(500));
    world.serve(&[good()], UplinkState::NoDevice, "");
    assert_eq!(world.net.replies.len(), 2, "those that wait fail when the cable is pulled");
}

#[test]
fn servers_change_under_a_running_query() {
    let mut world = World::with(1, &[Host { rtt: 300, ..good() }, host(Manner::Dead)]);
    world.ask(udp_client(3), &query(7, "vpn.example.net", 1, 0));
    world.run_for(MS(50));
    let other: SocketAddr = "198.51.100.1:53".parse().unwrap();
    let set = Set { servers: vec![other], state: UplinkState::Up, detail: String::new() };
    world.net.hosts.insert(other, host(Manner::Dead));
    world.engine.update(world.net.now, Upstreams::single(set), &mut world.net);
    world.run_for(MS(260));
    assert_eq!(rcode(&world.net.replies[0].bytes), 0, "the old server's answer is still good");
    assert!(world.net.sent.iter().any(|(_, server, ..)| *server == other), "and the new one was asked");
}

#[test]
fn peers_names_go_to_their_own_servers_whoever_asks() {
    let mut world = World::new(1, Limits::default());
    let (mesh, wan): (SocketAddr, SocketAddr) =
        ("[fd42::1]:53".parse().unwrap(), "127.0.0.1:54".parse().unwrap());
    world.net.hosts.extend([(mesh, good()), (wan, good())]);
    let upstreams = Upstreams {
        sets: vec![
            Set { servers: vec![mesh], state: UplinkState::Up, detail: String::new() },
            Set { servers: vec![wan], state: UplinkState::Up, detail: String::new() },
        ],
        names: vec![(wire_name("vpn.example.net").unwrap(), 1)],
        default: Some(0),
    };
    world.engine.update(world.net.now, upstreams.clone(), &mut world.net);
    world.resolve(&query(1, "VPN.example.net", 1, 0));
    world.resolve(&query(2, "www.example.net", 1, 0));
    world.resolve(&query(3, "x.vpn.example.net", 1, 0));
    let asked: Vec<_> = world.net.sent.iter().map(|(_, server, ..)| *server).collect();
    assert_eq!(asked, [wan, mesh, mesh]);
    let strict = Upstreams { default: None, ..upstreams };
    world.engine.update(world.net.now, strict, &mut world.net);
    let (_, reply) = world.resolve(&query(4, "www.example.net", 1, 1232)).unwrap();
    assert_eq!((rcode(&reply), extended_error(&reply)), (5, Some(15)));
    assert_eq!(world.net.sent.len(), 3, "it did not leave the node");
}

#[test]
fn what_is_asked_before_anybody_has_said_whom_to_ask_goes_where_it_belongs() {
    let (mesh, wan): (SocketAddr, SocketAddr) =
        ("[fd42::1]:53".parse().unwrap(), "127.0.0.1:54".parse().unwrap());
    let set = |server| Set { servers: vec![server], state: UplinkState::Up, detail: String::new() };
    let upstreams = Upstreams {
        sets: vec![set(mesh), set(wan)],
        names: vec![(wire_name("vpn.example.net").unwrap(), 1)],
        default: Some(0),
    };
    for strict in [false, true] {
        let mut world = World::new(1, Limits::default());
        world.net.hosts.extend([(mesh, host(Manner::NoRoute)), (wan, good())]);
        world.ask(udp_client(1), &query(1, "vpn.example.net", 1, 0));
        world.ask(udp_client(2), &query(2, "www.example.net", 1, 1232));
        let default = (!strict).then_some(0);
        world.engine.update(world.net.now, Upstreams { default, ..upstreams.clone() }, &mut world.net);
        world.run_for(MS(50));
        let of = |port| world.net.replies.iter().find(|r| r.client == udp_client(port));
        assert_eq!(of(1).map(|r| rcode(&r.bytes)), Some(0), "a peer's name");
        let other = of(2).map(|r| (rcode(&r.bytes), extended_error(&r.bytes)));
        assert_eq!(
            other,
            strict.then_some((5, Some(15))),
            "what is no tunnel's name waits for the mesh, or is refused"
        );
        assert!(world.net.sent.iter().all(|(_, server, ..)| *server == wan));
        assert_eq!(world.net.sent.len(), 1);
    }
}

#[test]
fn a_flood_from_one_client_leaves_room_for_others() {
    let mut world = World::new(1, Limits { queries: 100, cache: 0 });
    world.serve(&[host(Manner::Dead)], UplinkState::Up, "");
    for id in 0..1000 {
        world.ask(udp_client(9), &query(id, &format!("x{id}.example"), 1, 0));
    }
    assert_eq!(world.engine.in_flight(), 50, "half of what there is");
    world.serve(&[good()], UplinkState::Up, "");
    let before = world.net.replies.len();
    world.ask(udp_client(10), &query(1, "vpn.example.net", 1, 0));
    world.run_for(MS(200));
    assert!(world.net.replies[before..].iter().any(|r| r.client == udp_client(10) && rcode(&r.bytes) == 0));
}

#[test]
fn a_dead_server_is_asked_again_by_copies_of_queries_and_found_alive() {
    let mut world = World::with(1, &[host(Manner::Dead), Host { rtt: 30, ..good() }]);
    for id in 0..3 {
        world.resolve(&query(id, "vpn.example.net", 1, 0));
    }
    world.serve(&[Host { rtt: 2, ..good() }, Host { rtt: 30, ..good() }], UplinkState::Up, "");
    for id in 0..20 {
        world.resolve(&query(id, "vpn.example.net", 1, 0));
    }
    let (after, _) = world.resolve(&query(99, "vpn.example.net", 1, 0)).unwrap();
    assert_eq!(after, MS(2), "the nearer one is asked first again");
}

#[test]
fn while_few_queries_wait_a_server_that_comes_to_life_is_noticed_soon() {
    for late in [700, 1400, 2600, 4100] {
        let mut world = World::with(1, &[host(Manner::Dead), host(Manner::Dead), host(Manner::Dead)]);
        world.ask(udp_client(1), &query(1, "vpn.example.net", 1, 0));
        world.run_for(MS(late));
        world.net.hosts.insert(super::world::server(1), Host { rtt: 2, ..good() });
        world.run_for(MS(380));
        assert!(world.net.replies.iter().any(|r| rcode(&r.bytes) == 0), "after {late} ms");
    }
}

#[test]
fn when_nothing_is_asked_nothing_happens() {
    let mut world = World::with(1, &[good(), host(Manner::Dead)]);
    world.resolve(&query(1, "vpn.example.net", 1, 0));
    world.ask(Client::Tcp(1), &query(1, "vpn.example.net", 16, 0));
    world.run_for(Duration::from_secs(30));
    assert_eq!((world.engine.next_tick(), world.engine.in_flight()), (None, 0));
    let sent = world.net.sent.len();
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.net.sent.len(), sent);
}

#[test]
fn a_route_that_comes_late_is_used_at_once() {
    for first in [Manner::NoRoute, Manner::Closed] {
        let mut world = World::with(1, &[host(first), host(first)]);
        world.ask(udp_client(9), &query(1, "vpn.example.net", 1, 0));
        world.run_for(MS(2345));
        assert!(world.net.replies.is_empty());
        let servers: Vec<SocketAddr> = world.net.hosts.keys().copied().collect();
        for server in servers {
            world.net.hosts.insert(server, good());
        }
        world.run_for(MS(130));
        assert_eq!(world.net.replies.len(), 1, "{first:?}");
        assert_eq!(rcode(&world.net.replies[0].bytes), 0);
    }
}

#[test]
fn a_server_that_begins_to_listen_is_noticed_though_its_host_has_not_refused_each_query() {
    // Linux sends so many ICMP errors a second and no more (icmp_ratelimit).
    for (refused, silent) in [(1, 1), (1, 3), (2, 1), (6, 10), (1, 9)] {
        let mut world = World::with(1, &[host(Manner::Closed), host(Manner::Closed)]);
        world.ask(udp_client(9), &query(1, "vpn.example.net", 1, 0));
        let servers: Vec<SocketAddr> = world.net.hosts.keys().copied().collect();
        for n in 0..30 {
            let manner = if n % (refused + silent) < refused { Manner::Closed } else { Manner::Dead };
            servers.iter().for_each(|server| _ = world.net.hosts.insert(*server, host(manner)));
            world.run_for(MS(100));
        }
        assert!(world.net.replies.is_empty());
        servers.iter().for_each(|server| _ = world.net.hosts.insert(*server, good()));
        world.run_for(MS(330));
        assert_eq!(world.net.replies.len(), 1, "{refused} refused, {silent} silent");
        assert_eq!(rcode(&world.net.replies[0].bytes), 0);
    }
}

#[test]
fn a_server_that_nobody_listens_at_is_not_asked_without_end() {
    // It says so as soon as it is asked, as on this host.
    let closed = Host { manner: Manner::Closed, rtt: 0, loss: 0 };
    let mut world = World::with(1, &[closed]);
    let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 0)).unwrap();
    assert_eq!((rcode(&reply), after), (2, MS(4500)));
    assert!((40..100).contains(&world.net.sent.len()), "asked {} times", world.net.sent.len());
}

#[test]
fn a_cached_answer_ages_and_an_old_one_is_better_than_none() {
    let mut world = World::new(1, Limits { cache: 65536, ..Limits::default() });
    world.serve(&[good()], UplinkState::Up, "");
    let question = query(1, "vpn.example.net", 1, 1232);
    let ttl = |reply: &[u8]| {
        let at = question_end(reply) + 6;
        u32::from_be_bytes(reply[at..at + 4].try_into().unwrap())
    };
    assert_eq!(ttl(&world.resolve(&question).unwrap().1), 300);
    world.run_for(Duration::from_secs(100));
    let (after, reply) = world.resolve(&query(2, "VPN.example.net", 1, 1232)).unwrap();
    assert_eq!((after, reply[1], &reply[13..16]), (MS(0), 2, &b"VPN"[..]));
    assert_eq!(ttl(&reply), 300 - 106);
    world.serve(&[host(Manner::Dead)], UplinkState::Up, "");
    world.run_for(Duration::from_secs(300));
    let (after, reply) = world.resolve(&question).unwrap();
    assert_eq!((rcode(&reply), after, ttl(&reply)), (0, MS(1800), 30), "stale, with a short life");
    assert_eq!(extended_error(&reply[..]), None, "the server has said nothing of EDNS");
    assert_eq!(world.engine.counters().stale, 1);
    assert_eq!(
        rcode(&world.resolve(&query(1, "vpn.example.net", 28, 1232)).unwrap().1),
        2,
        "another type is another answer"
    );
}
