//! Cookies towards servers (RFC 7873): those that speak them, those that do not, and those that cannot bear them.

use crate::world::{Host, Manner, Reply, World, cookie, query, question_end, rcode};
use narrowgate_forwarder::engine::{Transport, UplinkState};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn host(manner: Manner) -> Host {
    Host { manner, rtt: 10, loss: 0 }
}

/// A world whose server is known to bear EDNS, and the number of messages that were sent so far.
fn acquainted(manner: Manner) -> World {
    let mut world = World::with(1, &[host(Manner::Good)]);
    world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!(cookie(&world.net.sent[0].3), None, "one who is not known yet gets none");
    world.net.sent.clear();
    world.net.hosts.values_mut().for_each(|h| *h = host(manner));
    world
}

#[test]
fn a_server_that_speaks_cookies_gets_its_own_back_and_the_client_sees_none() {
    let mut world = acquainted(Manner::GivesCookies);
    for id in 0..3 {
        let (after, reply) = world.resolve(&query(id, "vpn.example.net", 1, 1232)).unwrap();
        assert_eq!((rcode(&reply), after), (0, MS(10)));
        assert_eq!(reply[reply.len() - 2..], [0, 0], "an OPT without options");
    }
    let sent: Vec<&[u8]> = world.net.sent.iter().map(|(.., message)| cookie(message).unwrap()).collect();
    assert_eq!(sent[0].len(), 8);
    assert_eq!(sent[1], [sent[0], b"a server"].concat());
    assert_eq!(sent[2], sent[1]);
}

#[test]
fn one_that_insists_on_cookies_is_satisfied_at_once() {
    let mut world = World::with(1, &[host(Manner::GivesCookies)]);
    world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    world.net.hosts.values_mut().for_each(|h| *h = host(Manner::WantsCookies));
    let (after, reply) = world.resolve(&query(2, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!((rcode(&reply), after), (0, MS(20)), "BADCOOKIE, and again with the server's");
    let (after, _) = world.resolve(&query(3, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!(after, MS(10));
}

#[test]
fn a_clients_own_cookie_is_left_as_it_is() {
    let mut world = acquainted(Manner::GivesCookies);
    let mut question = query(1, "vpn.example.net", 1, 1232);
    let end = question.len();
    question[end - 1] = 12;
    question.extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let (_, reply) = world.resolve(&question).unwrap();
    assert_eq!(cookie(&world.net.sent[0].3), Some(&[1, 2, 3, 4, 5, 6, 7, 8][..]));
    assert!(reply.windows(16).any(|part| part == b"\x01\x02\x03\x04\x05\x06\x07\x08a server"));
    assert!(reply.len() > question_end(&reply));
}

#[test]
fn a_wrong_cookie_is_a_forgery() {
    let mut world = acquainted(Manner::WrongCookie);
    let (_, reply) = world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!(rcode(&reply), 0, "asked again without one");
    assert_eq!(world.engine.counters().mismatched, 1);
}

#[test]
fn who_always_gave_cookies_and_gives_none_is_asked_again_without() {
    let mut world = acquainted(Manner::GivesCookies);
    for id in 0..20 {
        world.resolve(&query(id, "vpn.example.net", 1, 1232)).unwrap();
    }
    world.net.hosts.values_mut().for_each(|h| *h = host(Manner::Good));
    let (after, reply) = world.resolve(&query(50, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!((rcode(&reply), after), (0, MS(20)), "the first answer was not believed");
    let (after, _) = world.resolve(&query(51, "vpn.example.net", 1, 1232)).unwrap();
    assert_eq!(after, MS(10), "it is remembered");
    assert_eq!(cookie(&world.net.sent.last().unwrap().3), None);
}

#[test]
fn an_error_without_a_cookie_ends_nothing() {
    let mut world = acquainted(Manner::GivesCookies);
    for manner in [Manner::GivesCookies, Manner::Fails, Manner::GivesCookies] {
        world.net.hosts.values_mut().for_each(|h| *h = host(manner));
        world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    }
    assert_eq!(cookie(&world.net.sent.last().unwrap().3).map(<[u8]>::len), Some(16));
}

#[test]
fn servers_that_cannot_bear_cookies_are_asked_without() {
    for (manner, patience) in
        [(Manner::HatesCookies, MS(20)), (Manner::DropsCookies, MS(300)), (Manner::Good, MS(10))]
    {
        let mut world = acquainted(manner);
        let (after, reply) = world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
        assert_eq!(rcode(&reply), 0);
        assert!(after <= patience, "{manner:?}: {after:?}");
        world.run_for(Duration::from_secs(2));
        let (after, _) = world.resolve(&query(2, "vpn.example.net", 1, 1232)).unwrap();
        assert_eq!(after, MS(10), "{manner:?}: it is remembered");
        let (.., transport, last) = world.net.sent.last().unwrap();
        assert_eq!((cookie(last), *transport), (None, Transport::Udp));
    }
}

#[test]
fn a_new_network_does_not_see_the_old_ones_cookies() {
    let mut world = acquainted(Manner::GivesCookies);
    world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    world.serve(&[host(Manner::GivesCookies)], UplinkState::Up, "");
    world.resolve(&query(2, "vpn.example.net", 1, 1232)).unwrap();
    let sent: Vec<&[u8]> = world.net.sent.iter().map(|(.., message)| cookie(message).unwrap()).collect();
    assert!(sent[0] != sent[1] && sent[1].len() == 8);
    let replies: &[Reply] = &world.net.replies;
    assert_eq!(replies.len(), 3);
}

#[test]
fn who_was_left_in_peace_and_asks_for_a_cookie_gets_one() {
    let mut world = acquainted(Manner::HatesCookies);
    world.resolve(&query(1, "vpn.example.net", 1, 1232)).unwrap();
    world.net.sent.clear();
    world.net.hosts.values_mut().for_each(|h| *h = host(Manner::WantsCookies));
    let (after, reply) = world.resolve(&query(2, "vpn.example.net", 28, 1232)).unwrap();
    assert_eq!((rcode(&reply), after), (0, MS(30)), "without, with ours, with the server's");
    assert_eq!(
        world.net.sent.iter().map(|s| cookie(&s.3).map_or(0, <[u8]>::len)).collect::<Vec<_>>(),
        [0, 8, 16]
    );
}
