//! The DHCP client's machine against a simulated server, in simulated time.

use narrowgate_model::{Facts, Time};
use narrowgate_providers::builtin::dhcp4::{Dhcp4, Held, Phase, Send};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;

const T0: Time = Time(5_000_000);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const LEASE: u32 = 3600;

#[test]
fn discover_offer_request_ack_and_the_lease_is_there() {
    let mut dhcp = client(None);
    assert_eq!(dhcp.next_timeout(), None);
    dhcp.on_carrier(true, T0);
    let discover = broadcast(&mut dhcp);
    assert_eq!((kind(&discover), option(&discover, 50)), (DISCOVER, None));
    dhcp.receive(&reply(&discover, OFFER, IP, SERVER, LEASE), T0);
    let request = broadcast(&mut dhcp);
    assert_eq!(kind(&request), REQUEST);
    assert_eq!(option(&request, 50), Some(IP.octets().to_vec()));
    assert_eq!(option(&request, 54), Some(SERVER.octets().to_vec()));
    assert_eq!(facts(&dhcp), Facts::default(), "an offer is no lease");
    dhcp.receive(&reply(&request, ACK, IP, SERVER, LEASE), Time(T0.0 + 400));
    let facts = facts(&dhcp);
    assert_eq!(facts.addresses[0].prefix.to_string(), "192.0.2.77/24");
    assert_eq!(
        facts.addresses[0].valid_until,
        Some(after(3600)),
        "it counts from the request, not from the answer"
    );
    let routes: Vec<String> = facts.routes.iter().map(|r| format!("{} {:?}", r.dst, r.via)).collect();
    assert_eq!(routes, ["192.0.2.0/24 None", "0.0.0.0/0 Some(192.0.2.1)"]);
    assert_eq!(facts.dns[0].server.to_string(), "192.0.2.1");
    assert_eq!((dhcp.phase(), dhcp.next_timeout()), (Phase::Bound, Some(after(1800))));
}

#[test]
fn nobody_answers_and_it_asks_on_quickly_first_then_twice_a_minute_for_ever() {
    let mut dhcp = client(None);
    dhcp.on_carrier(true, T0);
    let mut times = vec![];
    let mut now = T0;
    while now < after(3600) {
        for send in dhcp.take_out() {
            let Send::Broadcast(source, message) = send else { panic!("to whom?") };
            assert_eq!((source, kind(&message)), (Ipv4Addr::UNSPECIFIED, DISCOVER));
            assert_eq!(
                u64::from(u16::from_be_bytes([message[8], message[9]])),
                now.since(T0).as_secs(),
                "secs"
            );
            times.push(now.since(T0).as_millis());
        }
        now = dhcp.next_timeout().unwrap();
        dhcp.on_timer(now);
    }
    for (n, pair) in times.windows(2).enumerate() {
        let about = if pair[0] >= 60_000 { 32_000 } else { (1000 << n.min(10)).min(8000) };
        assert!((pair[1] - pair[0]).abs_diff(about) <= about / 8, "{times:?}");
    }
}

#[test]
fn a_sign_of_life_from_the_household_is_worth_a_question() {
    let mut dhcp = client(None);
    dhcp.on_carrier(true, T0);
    let first = broadcast(&mut dhcp);
    dhcp.nudge(T0);
    assert_eq!(dhcp.take_out(), [], "it has been asked just now");
    while dhcp.next_timeout().unwrap() < after(20) {
        dhcp.on_timer(dhcp.next_timeout().unwrap());
        broadcast(&mut dhcp);
    }
    dhcp.nudge(after(20));
    let again = broadcast(&mut dhcp);
    assert_eq!(kind(&again), DISCOVER);
    assert_ne!(again[4..8], first[4..8]);
    assert!(dhcp.next_timeout().unwrap() < after(22), "and then quickly again");
    let mut bound = bound();
    bound.nudge(after(20));
    assert_eq!(bound.take_out(), []);
}

#[test]
fn a_lost_answer_is_asked_for_again_and_a_server_that_is_gone_is_given_up() {
    let mut dhcp = client(None);
    dhcp.on_carrier(true, T0);
    let discover = broadcast(&mut dhcp);
    dhcp.receive(&reply(&discover, OFFER, IP, SERVER, LEASE), T0);
    let first = broadcast(&mut dhcp);
    let mut requests = 1;
    let next = loop {
        dhcp.on_timer(dhcp.next_timeout().unwrap());
        let message = broadcast(&mut dhcp);
        if kind(&message) != REQUEST {
            break message;
        }
        assert_eq!(message[4..8], first[4..8], "the same transaction");
        requests += 1;
    };
    assert_eq!((requests, kind(&next)), (4, DISCOVER));
    assert_ne!(next[4..8], first[4..8]);
}

#[test]
fn it_renews_with_its_server_at_t1_rebinds_with_any_at_t2_and_ends_on_time() {
    let mut dhcp = bound();
    let mut log = vec![];
    let mut now = T0;
    while dhcp.held().is_some() {
        now = dhcp.next_timeout().unwrap();
        dhcp.on_timer(now);
        for send in dhcp.take_out() {
            let at = now.since(T0).as_secs();
            match send {
                Send::Unicast(from, to, message) => {
                    assert_eq!((from, to, &message[12..16]), (IP, SERVER, &IP.octets()[..]));
                    assert!((1800..3150).contains(&at));
                    assert_eq!(
                        (option(&message, 50), option(&message, 54)),
                        (None, None),
                        "RFC 2131, table 4"
                    );
                    log.push(at);
                }
                Send::Broadcast(from, message) if dhcp.held().is_some() => {
                    assert_eq!((from, &message[12..16]), (IP, &IP.octets()[..]));
                    assert!((3150..3600).contains(&at));
                    log.push(at);
                }
                Send::Broadcast(from, message) => {
                    assert_eq!((from, kind(&message), at), (Ipv4Addr::UNSPECIFIED, DISCOVER, 3600));
                }
            }
        }
    }
    assert_eq!(now, after(3600), "not a moment longer, not a moment less");
    assert_eq!((log[0], log.contains(&3150)), (1800, true), "{log:?}");
    assert!(log.windows(2).all(|w| w[1] - w[0] >= 10 || w[1] == 3150), "{log:?}");
    assert_eq!(facts(&dhcp), Facts::default());
}

#[test]
fn an_extended_lease_counts_from_its_own_request() {
    let mut dhcp = bound();
    dhcp.on_timer(after(1800));
    let Some(Send::Unicast(.., request)) = dhcp.take_out().pop() else { panic!("nothing sent") };
    let ack = reply(&request, ACK, IP, SERVER, LEASE);
    dhcp.receive(&ack, after(1801));
    assert_eq!(dhcp.held().unwrap().end(), Some(after(5400)));
    dhcp.receive(&ack, after(1900)); // a second copy changes nothing
    assert_eq!(dhcp.held().unwrap().end(), Some(after(5400)));
    assert_eq!(dhcp.counts().foreign, 1);
}

#[test]
fn an_answer_that_comes_when_its_lease_is_over_gives_none() {
    let mut dhcp = client(None);
    dhcp.on_carrier(true, T0);
    let discover = broadcast(&mut dhcp);
    dhcp.receive(&reply(&discover, OFFER, IP, SERVER, 1), T0);
    let request = broadcast(&mut dhcp);
    dhcp.receive(&reply(&request, ACK, IP, SERVER, 1), after(1));
    assert_eq!(facts(&dhcp), Facts::default());
}

#[test]
fn a_nak_takes_the_lease_away_at_once_and_many_do_not_make_it_hurry() {
    let mut dhcp = bound();
    dhcp.on_timer(after(1800));
    let Some(Send::Unicast(.., request)) = dhcp.take_out().pop() else { panic!("nothing sent") };
    dhcp.receive(&reply(&request, NAK, IP, SERVER, 0), after(1800));
    assert_eq!(facts(&dhcp), Facts::default());
    let discover = broadcast(&mut dhcp);
    assert_eq!(
        (kind(&discover), option(&discover, 50)),
        (DISCOVER, None),
        "what was refused is not wished for"
    );
    // A server that offers what it then refuses.
    let mut now = after(1800);
    let mut asked = Some(discover);
    let mut count = 0;
    while now < after(1860) {
        if let Some(discover) = asked.take() {
            count += 1;
            dhcp.receive(&reply(&discover, OFFER, IP, SERVER, LEASE), now);
            let request = broadcast(&mut dhcp);
            dhcp.receive(&reply(&request, NAK, IP, SERVER, 0), now);
        }
        now = dhcp.next_timeout().unwrap();
        dhcp.on_timer(now);
        asked = dhcp.take_out().pop().map(|send| match send {
            Send::Broadcast(_, message) => message,
            Send::Unicast(..) => panic!("with what address?"),
        });
    }
    assert!((4..9).contains(&count), "{count} times in a minute");
}

#[test]
fn only_the_server_that_was_chosen_may_grant_or_refuse() {
    let mut dhcp = client(None);
    dhcp.on_carrier(true, T0);
    let discover = broadcast(&mut dhcp);
    dhcp.receive(&reply(&discover, ACK, IP, SERVER, LEASE), T0);
    assert!(dhcp.held().is_none(), "an ACK without a request");
    dhcp.receive(&reply(&discover, OFFER, IP, SERVER, LEASE), T0);
    let request = broadcast(&mut dhcp);
    dhcp.receive(&reply(&request, ACK, IP, OTHER, LEASE), T0);
    dhcp.receive(&reply(&request, NAK, IP, OTHER, LEASE), T0);
    dhcp.receive(&reply(&discover, OFFER, IP, OTHER, LEASE), T0);
    assert_eq!(dhcp.phase(), Phase::Requesting { address: IP, server: SERVER });
    let mut stray = reply(&request, ACK, IP, SERVER, LEASE);
    stray[4] ^= 1;
    dhcp.receive(&stray, T0);
    assert!(dhcp.held().is_none());
    dhcp.receive(&reply(&request, ACK, IP, SERVER, LEASE), T0);
    assert!(dhcp.held().is_some());
    assert_eq!(dhcp.counts().foreign, 5);
}

#[test]
fn after_a_flap_the_lease_stays_while_it_is_asked_for_again() {
    let mut dhcp = bound();
    dhcp.on_carrier(false, after(100));
    assert_eq!(dhcp.next_timeout(), Some(after(3600)), "its end, and nothing else");
    dhcp.on_carrier(true, after(110));
    let request = broadcast(&mut dhcp);
    assert_eq!((kind(&request), option(&request, 54)), (REQUEST, None));
    assert_eq!((option(&request, 50), &request[12..16]), (Some(IP.octets().to_vec()), &[0; 4][..]));
    assert_eq!(facts(&dhcp).addresses.len(), 1);
    // A server that knows nothing says nothing: within a second everybody is asked.
    let (now, discover) = loop {
        let now = dhcp.next_timeout().unwrap();
        dhcp.on_timer(now);
        let message = broadcast(&mut dhcp);
        if kind(&message) == DISCOVER {
            break (now, message);
        }
    };
    assert!(now.since(after(110)) < Duration::from_secs(1));
    assert_eq!(facts(&dhcp).addresses.len(), 1, "nobody has said that it is not ours");
    let new = Ipv4Addr::new(198, 51, 100, 7);
    dhcp.receive(&reply(&discover, OFFER, new, OTHER, LEASE), now);
    let request = broadcast(&mut dhcp);
    dhcp.receive(&reply(&request, ACK, new, OTHER, LEASE), now);
    assert_eq!(facts(&dhcp).addresses[0].prefix.addr, new);
    assert_eq!(facts(&dhcp).addresses.len(), 1);
}

#[test]
fn a_lease_of_an_earlier_run_is_asked_for_first_and_held_where_its_address_still_stands() {
    let kept = bound().held().unwrap().clone();
    let mut dhcp = client(Some(IP));
    dhcp.on_carrier(true, after(10));
    let request = broadcast(&mut dhcp);
    assert_eq!((kind(&request), option(&request, 50)), (REQUEST, Some(IP.octets().to_vec())));
    assert!(dhcp.held().is_none());
    dhcp.adopt(kept.clone(), after(10));
    assert_eq!(dhcp.held(), Some(&kept));
    dhcp.receive(&reply(&request, NAK, IP, OTHER, 0), after(10));
    assert!(dhcp.held().is_none(), "any server may say that we are elsewhere");
    dhcp.adopt(kept.clone(), after(10));
    assert!(dhcp.held().is_none(), "then the file is wrong");

    let mut late = client(Some(IP));
    late.adopt(kept, after(3600));
    assert!(late.held().is_none(), "over");
}

#[test]
fn stopping_gives_the_lease_back_to_its_server() {
    let mut dhcp = bound();
    dhcp.stop(after(5));
    let [Send::Unicast(from, to, message)] = &dhcp.take_out()[..] else { panic!("no release") };
    assert_eq!((*from, *to, kind(message)), (IP, SERVER, RELEASE));
    assert_eq!((facts(&dhcp), dhcp.next_timeout()), (Facts::default(), None));
    dhcp.stop(after(5));
    assert_eq!(dhcp.take_out(), []);
}

#[test]
fn an_address_that_somebody_else_uses_is_declined_and_asked_for_no_more() {
    let mut dhcp = bound();
    dhcp.conflict(after(5));
    let decline = broadcast(&mut dhcp);
    assert_eq!((kind(&decline), option(&decline, 50)), (DECLINE, Some(IP.octets().to_vec())));
    assert_eq!(facts(&dhcp), Facts::default());
    let next = dhcp.next_timeout().unwrap();
    assert!(next.since(after(5)) >= Duration::from_secs(8), "RFC 2131, 3.1, 5: ten seconds");
    dhcp.on_timer(next);
    let discover = broadcast(&mut dhcp);
    assert_eq!((kind(&discover), option(&discover, 50)), (DISCOVER, None));
}

#[test]
fn a_host_lease_with_a_router_outside_gets_a_way_to_it() {
    let mut dhcp = client(None);
    dhcp.on_carrier(true, T0);
    let discover = broadcast(&mut dhcp);
    dhcp.receive(&reply(&discover, OFFER, IP, SERVER, LEASE), T0);
    let request = broadcast(&mut dhcp);
    let mut ack = reply(&request, ACK, IP, SERVER, LEASE);
    let at = ack.windows(6).position(|w| w == [1, 4, 255, 255, 255, 0]).unwrap();
    ack[at + 5] = 255;
    dhcp.receive(&ack, T0);
    let routes: Vec<String> = facts(&dhcp).routes.iter().map(|r| format!("{} {:?}", r.dst, r.via)).collect();
    assert_eq!(routes, ["192.0.2.1/32 None", "0.0.0.0/0 Some(192.0.2.1)"]);
}

#[test]
fn a_lease_for_ever_has_no_end_and_is_not_asked_about() {
    let mut dhcp = client(None);
    dhcp.on_carrier(true, T0);
    let discover = broadcast(&mut dhcp);
    dhcp.receive(&reply(&discover, OFFER, IP, SERVER, u32::MAX), T0);
    let request = broadcast(&mut dhcp);
    dhcp.receive(&reply(&request, ACK, IP, SERVER, u32::MAX), T0);
    assert_eq!(facts(&dhcp).addresses[0].valid_until, None);
    assert_eq!(dhcp.next_timeout(), None);
}

#[derive(Debug, Clone)]
enum Event {
    Reply(u8, u8, u32),
    Garbage(Vec<u8>),
    Carrier(bool),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (prop_oneof![Just(OFFER), Just(ACK), Just(NAK)], 1u8..4, 1u32..300)
            .prop_map(|(kind, server, lease)| Event::Reply(kind, server, lease)),
        1 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(Event::Garbage),
        1 => any::<bool>().prop_map(Event::Carrier),
        3 => (0u64..100_000).prop_map(Event::Pass),
    ]
}

proptest! {
    /// Whatever comes: a lease is never told beyond its end, timers never stand still, and it never asks more often
    /// than a household bears.
    #[test]
    fn it_holds_no_lease_too_long_and_does_not_flood(events in proptest::collection::vec(event(), 1..60)) {
        let mut dhcp = client(None);
        let (mut now, mut last, mut sent) = (T0, None, 0u64);
        dhcp.on_carrier(true, now);
        for event in events {
            let answer = |dhcp: &mut Dhcp4, last: &mut Option<Vec<u8>>, sent: &mut u64| {
                for send in dhcp.take_out() {
                    *sent += 1;
                    let (Send::Broadcast(_, message) | Send::Unicast(.., message)) = send;
                    *last = Some(message);
                }
            };
            answer(&mut dhcp, &mut last, &mut sent);
            match event {
                Event::Reply(kind, server, lease) => {
                    if let Some(asked) = &last {
                        dhcp.receive(&reply(asked, kind, IP, Ipv4Addr::new(192, 0, 2, server), lease), now);
                    }
                }
                Event::Garbage(bytes) => dhcp.receive(&bytes, now),
                Event::Carrier(carrier) => {
                    dhcp.on_carrier(carrier, now);
                }
                Event::Pass(millis) => {
                    let end = Time(now.0 + millis);
                    let before = sent;
                    while let Some(next) = dhcp.next_timeout().filter(|t| *t <= end) {
                        now = next.max(now);
                        dhcp.on_timer(now);
                        prop_assert!(dhcp.next_timeout().is_none_or(|t| t > now), "it would spin");
                        answer(&mut dhcp, &mut last, &mut sent);
                    }
                    now = end;
                    dhcp.on_timer(now);
                    answer(&mut dhcp, &mut last, &mut sent);
                    prop_assert!(sent - before <= 4 + millis / 600, "{} in {millis} ms", sent - before);
                }
            }
            prop_assert!(dhcp.held().and_then(Held::end).is_none_or(|end| end > now));
            prop_assert_eq!(facts(&dhcp).addresses.len(), usize::from(dhcp.held().is_some()));
        }
    }
}

fn client(wish: Option<Ipv4Addr>) -> Dhcp4 {
    let mut n = 1u32;
    let random = move || {
        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        n
    };
    Dhcp4::new(MAC, wish, T0, Box::new(random))
}

/// With a lease of an hour, asked for at T0.
fn bound() -> Dhcp4 {
    let mut dhcp = client(None);
    dhcp.on_carrier(true, T0);
    let discover = broadcast(&mut dhcp);
    dhcp.receive(&reply(&discover, OFFER, IP, SERVER, LEASE), T0);
    let request = broadcast(&mut dhcp);
    dhcp.receive(&reply(&request, ACK, IP, SERVER, LEASE), T0);
    dhcp
}

/// The one message that is to be sent, from no address.
fn broadcast(dhcp: &mut Dhcp4) -> Vec<u8> {
    let mut out = dhcp.take_out();
    match (out.pop(), out.pop()) {
        (Some(Send::Broadcast(Ipv4Addr::UNSPECIFIED, message)), None) => message,
        other => panic!("{other:?}"),
    }
}

/// A server's answer, by hand; with a /24, one router and one DNS server.
fn reply(to: &[u8], kind: u8, ip: Ipv4Addr, server: Ipv4Addr, lease: u32) -> Vec<u8> {
    let mut m = to[..236].to_vec();
    m[0] = 2;
    m[16..20].copy_from_slice(&if kind == NAK { [0; 4] } else { ip.octets() });
    m.extend([99, 130, 83, 99, 53, 1, kind, 54, 4]);
    m.extend(server.octets());
    if kind != NAK {
        m.extend([51, 4]);
        m.extend(lease.to_be_bytes());
        m.extend([1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 1, 6, 4, 192, 0, 2, 1]);
    }
    m.push(255);
    m
}

fn kind(message: &[u8]) -> u8 {
    option(message, 53).unwrap()[0]
}

fn option(message: &[u8], wanted: u8) -> Option<Vec<u8>> {
    let mut rest = &message[240..];
    while rest[0] != 255 {
        let len = usize::from(rest[1]);
        if rest[0] == wanted {
            return Some(rest[2..2 + len].to_vec());
        }
        rest = &rest[2 + len..];
    }
    None
}

fn after(seconds: u64) -> Time {
    T0 + Duration::from_secs(seconds)
}

fn facts(dhcp: &Dhcp4) -> Facts {
    let mut facts = Facts::default();
    dhcp.facts("eth0", &mut facts);
    facts
}

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const NAK: u8 = 6;
const RELEASE: u8 = 7;
