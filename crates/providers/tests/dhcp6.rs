//! The DHCPv6 client's machine against a simulated server, in simulated time.

use narrowgate_model::net::Address;
use narrowgate_model::{Facts, Prefix, Time};
use narrowgate_providers::builtin::dhcp6::{Dhcp6, Held, Phase, Wanted};
use proptest::prelude::*;
use std::net::Ipv6Addr;
use std::time::Duration;

const T0: Time = Time(5_000_000);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const A: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xaa];
const B: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xbb];

#[test]
fn solicit_advertise_request_reply_and_the_lease_is_there() {
    let mut client = addresses();
    let solicit = asked(&mut client);
    assert_eq!((kind(&solicit), option(&solicit, 14)), (SOLICIT, Some(vec![])));
    client.receive(&Reply::to(&solicit).kind(ADVERTISE).lend(1, 100, 200).build(), T0);
    assert_eq!(facts(&client), Facts::default(), "an offer is no lease");
    let request = asked(&mut client);
    assert_eq!((kind(&request), option(&request, 2)), (REQUEST, Some(A.to_vec())));
    assert_eq!(requested(&request), [ip(1)]);
    client.receive(&Reply::to(&request).lend(1, 100, 200).build(), Time(T0.0 + 400));
    let facts = facts(&client);
    assert_eq!(facts.addresses.len(), 1);
    assert_eq!(facts.addresses[0].prefix, Prefix::host(ip(1)));
    assert_eq!(facts.addresses[0].preferred_until, Some(after(100)), "it counts from the request");
    assert_eq!(facts.addresses[0].valid_until, Some(after(200)));
    assert_eq!(facts.routes, [], "what is on-link RAs alone say");
    assert_eq!(facts.dns[0].server.to_string(), "fe80::53%eth0");
    assert_eq!(
        (client.phase(), client.next_timeout()),
        (Phase::Bound, Some(after(50))),
        "half the preferred time"
    );
    assert!(!client.needs_socket());
}

#[test]
fn rapid_commit_saves_a_round_but_only_where_it_is_one() {
    let mut client = addresses();
    let solicit = asked(&mut client);
    client.receive(&Reply::to(&solicit).lend(1, 100, 200).build(), T0);
    assert_eq!(client.phase(), Phase::Soliciting, "a Reply without the option is no grant");
    client.receive(&Reply::to(&solicit).rapid().lend(1, 100, 200).build(), T0);
    assert_eq!(client.phase(), Phase::Bound);
}

#[test]
fn nobody_answers_and_it_asks_on_quickly_first_then_every_two_minutes_and_for_information_too() {
    let mut client = addresses();
    let (mut solicits, mut informs) = (vec![], vec![]);
    let mut now = T0;
    while now < after(3600) {
        for message in client.take_out() {
            let list = if kind(&message) == SOLICIT { &mut solicits } else { &mut informs };
            let elapsed = option(&message, 8).unwrap();
            if kind(&message) == SOLICIT && now.since(T0) < Duration::from_secs(600) {
                assert_eq!(
                    u128::from(u16::from_be_bytes([elapsed[0], elapsed[1]])),
                    now.since(T0).as_millis() / 10
                );
            }
            list.push(now.since(T0).as_secs());
        }
        now = client.next_timeout().expect("it does not give up");
        client.on_timer(now);
    }
    assert_eq!(solicits[0], 0);
    assert!(solicits.windows(2).filter(|w| w[0] < 50).all(|w| w[1] - w[0] <= 9), "{solicits:?}");
    assert!((30..50).contains(&solicits.len()), "{}", solicits.len());
    assert!(informs[0] <= 3 && (30..50).contains(&informs.len()), "{informs:?}");
}

#[test]
fn a_server_may_ask_for_more_patience() {
    let mut client = addresses();
    let solicit = asked(&mut client);
    client.receive(&Reply::to(&solicit).kind(ADVERTISE).option(82, &3600u32.to_be_bytes()).build(), T0);
    let mut times = vec![];
    let mut now = T0;
    while now < after(86_400) {
        times
            .extend(client.take_out().iter().filter(|m| kind(m) == SOLICIT).map(|_| now.since(T0).as_secs()));
        now = client.next_timeout().unwrap();
        client.on_timer(now);
    }
    assert!(times.windows(2).last().is_some_and(|w| w[1] - w[0] > 3000), "{times:?}");
}

#[test]
fn a_server_without_addresses_is_asked_for_the_rest_at_once() {
    let mut client = addresses();
    let solicit = asked(&mut client);
    client.receive(&Reply::to(&solicit).kind(ADVERTISE).status(2).build(), T0);
    let inform = asked(&mut client);
    assert_eq!((kind(&inform), option(&inform, 1)), (INFORMATION, None));
    client.receive(&Reply::to(&inform).build(), T0);
    assert_eq!(facts(&client).dns.len(), 1);
    assert_eq!(client.phase(), Phase::Soliciting, "and for an address now and then");
}

#[test]
fn information_is_asked_for_again_when_it_is_time_and_ends_if_nobody_confirms_it() {
    let mut client = client();
    client.on_link(true, Wanted::Information, T0);
    let inform = asked(&mut client);
    client.receive(&Reply::to(&inform).option(32, &5u32.to_be_bytes()).build(), T0);
    assert_eq!(client.next_timeout(), Some(after(600)), "600 s at least (RFC 8415, 21.23)");
    assert!(!client.needs_socket());
    client.on_timer(after(600));
    let again = asked(&mut client);
    client.receive(&Reply::to(&again).option(32, &700u32.to_be_bytes()).build(), after(600));
    let mut now = after(600);
    while let Some(next) = client.next_timeout().filter(|t| *t < after(2000)) {
        now = next;
        client.on_timer(now);
        assert_eq!(facts(&client).dns.len(), 1);
    }
    assert!(now > after(1300));
    client.on_timer(after(2000));
    assert_eq!(facts(&client), Facts::default());
}

#[test]
fn it_renews_with_its_server_at_t1_rebinds_with_any_at_t2_and_ends_on_time() {
    let mut client = bound();
    client.on_timer(after(50));
    let renew = asked(&mut client);
    assert_eq!((kind(&renew), option(&renew, 2), requested(&renew)), (RENEW, Some(A.to_vec()), vec![ip(1)]));
    client.receive(&Reply::to(&renew).from(B).lend(1, 100, 200).build(), after(51));
    assert_eq!(client.phase(), Phase::Renewing, "another server has no say now");
    let (mut now, mut rebinds) = (after(51), 0);
    while now < after(200) {
        now = client.next_timeout().unwrap();
        client.on_timer(now);
        for message in client.take_out() {
            match kind(&message) {
                RENEW => assert!(now < after(80)),
                REBIND => {
                    rebinds += 1;
                    assert!(now >= after(80) && option(&message, 2).is_none());
                }
                SOLICIT => assert_eq!(now, after(200)),
                other => panic!("{other}"),
            }
        }
        assert_eq!(facts(&client).addresses.len(), usize::from(now < after(200)));
    }
    assert!(rebinds >= 2);

    let mut rebinding = bound();
    rebinding.on_timer(after(50));
    rebinding.on_timer(after(80));
    let rebind = rebinding.take_out().pop().unwrap();
    rebinding.receive(&Reply::to(&rebind).from(B).lend(1, 100, 200).build(), after(81));
    assert_eq!(facts(&rebinding).addresses[0].valid_until, Some(after(280)));
    rebinding.on_timer(after(130));
    assert_eq!(option(&asked(&mut rebinding), 2), Some(B.to_vec()), "it is B's lease now");
}

#[test]
fn a_server_that_does_not_know_the_lease_is_asked_for_it_and_nothing_is_lost_meanwhile() {
    let mut client = bound();
    client.on_timer(after(50));
    let renew = asked(&mut client);
    client.receive(&Reply::to(&renew).ia_status(3).build(), after(50));
    let request = asked(&mut client);
    assert_eq!((kind(&request), requested(&request)), (REQUEST, vec![ip(1)]));
    assert_eq!(facts(&client).addresses.len(), 1);
    client.receive(&Reply::to(&request).lend(1, 100, 200).build(), after(50) + Duration::from_millis(500));
    assert_eq!(facts(&client).addresses[0].valid_until, Some(after(250)), "it counts from the request");
}

#[test]
fn an_extension_may_take_an_address_away_and_bring_another() {
    let mut client = bound();
    client.on_timer(after(50));
    let renew = asked(&mut client);
    client.receive(&Reply::to(&renew).lend(1, 0, 0).lend(2, 100, 200).build(), after(50));
    let held: Vec<Prefix> = facts(&client).addresses.iter().map(|a| a.prefix).collect();
    assert_eq!(held, [Prefix::host(ip(2))]);
}

#[test]
fn failures_that_pass_are_tried_again_and_refusals_begin_anew_without_haste() {
    let mut client = addresses();
    let solicit = asked(&mut client);
    client.receive(&Reply::to(&solicit).kind(ADVERTISE).lend(1, 100, 200).build(), T0);
    let request = asked(&mut client);
    client.receive(&Reply::to(&request).status(1).build(), T0);
    assert!(matches!(client.phase(), Phase::Requesting), "UnspecFail");
    client.receive(&Reply::to(&request).from(B).lend(1, 100, 200).build(), T0);
    assert!(matches!(client.phase(), Phase::Requesting), "not whom we asked");
    client.receive(&Reply::to(&request).ia_status(2).build(), T0);
    assert_eq!(client.phase(), Phase::Waiting);
    let mut now = T0;
    while client.phase() == Phase::Waiting {
        now = client.next_timeout().unwrap();
        client.on_timer(now);
    }
    assert!(now >= after(10));
    assert_eq!(kind(&client.take_out().pop().unwrap()), SOLICIT);
}

#[test]
fn a_server_that_vanishes_between_offer_and_request_is_given_up() {
    let mut client = addresses();
    let solicit = asked(&mut client);
    client.receive(&Reply::to(&solicit).kind(ADVERTISE).lend(1, 100, 200).build(), T0);
    let mut now = T0;
    let mut requests = 0;
    while client.phase() == Phase::Requesting {
        requests += client.take_out().iter().filter(|m| kind(m) == REQUEST).count();
        now = client.next_timeout().unwrap();
        client.on_timer(now);
    }
    assert_eq!((requests, client.phase()), (4, Phase::Soliciting));
    assert!(now < after(20));
}

#[test]
fn after_a_flap_the_lease_is_confirmed_and_kept_unless_a_server_says_no() {
    let flapped = || {
        let mut client = bound();
        client.on_link(false, Wanted::Addresses, after(5));
        assert_eq!(facts(&client).addresses.len(), 1);
        client.on_link(true, Wanted::Addresses, after(6));
        let confirm = asked(&mut client);
        assert_eq!((kind(&confirm), requested(&confirm)), (CONFIRM, vec![ip(1)]));
        (client, confirm)
    };
    let (mut client, confirm) = flapped();
    client.receive(&Reply::to(&confirm).status(0).build(), after(6));
    assert_eq!((client.phase(), client.next_timeout()), (Phase::Bound, Some(after(50))));

    let (mut client, confirm) = flapped();
    client.receive(&Reply::to(&confirm).status(4).build(), after(6));
    assert_eq!(facts(&client), Facts::default());
    assert_eq!(kind(&asked(&mut client)), SOLICIT);

    let (mut silent, _) = flapped();
    while silent.phase() == Phase::Confirming {
        let now = silent.next_timeout().unwrap();
        assert!(now < after(20));
        silent.on_timer(now);
    }
    assert_eq!((silent.phase(), facts(&silent).addresses.len()), (Phase::Bound, 1));

    let (mut elsewhere, _) = flapped();
    elsewhere.forget(after(7));
    assert_eq!(facts(&elsewhere), Facts::default());
    assert_eq!(elsewhere.phase(), Phase::Soliciting);
}

/// RFC 8415, 18.2.5: what is left of its time only a server can say.
#[test]
fn what_was_lent_before_a_reboot_is_asked_for_again_of_any_server() {
    let returning = || {
        let mut client = client_that_wants(vec![ip(1)]);
        client.on_link(true, Wanted::Nothing, T0);
        assert_eq!(client.take_out(), [[0u8; 0]; 0], "no router has said that there is a server");
        client.on_link(true, Wanted::Addresses, T0);
        let rebind = asked(&mut client);
        assert_eq!((kind(&rebind), option(&rebind, 2), requested(&rebind)), (REBIND, None, vec![ip(1)]));
        assert_eq!(facts(&client), Facts::default(), "it may be somebody else's by now");
        (client, rebind)
    };
    let (mut client, rebind) = returning();
    client.receive(&Reply::to(&rebind).from(B).lend(1, 100, 200).build(), T0);
    assert_eq!((client.phase(), facts(&client).addresses[0].valid_until), (Phase::Bound, Some(after(200))));

    for no in [
        Reply::to(&rebind).ia_status(3).build(),
        Reply::to(&rebind).status(4).build(),
        Reply::to(&rebind).lend(1, 0, 0).build(),
        Reply::to(&rebind).build(),
    ] {
        let (mut client, _) = returning();
        client.receive(&no, T0);
        let solicit = asked(&mut client);
        assert_eq!(
            (kind(&solicit), requested(&solicit)),
            (SOLICIT, vec![ip(1)]),
            "it would still be welcome"
        );
    }

    let (mut silent, _) = returning();
    let mut now = T0;
    let mut said = vec![];
    while silent.phase() == Phase::Returning {
        now = silent.next_timeout().unwrap();
        silent.on_timer(now);
        said.extend(silent.take_out().iter().map(|message| kind(message)));
    }
    assert_eq!(said, [REBIND, SOLICIT]);
    assert!((Duration::from_millis(800)..Duration::from_millis(1000)).contains(&now.since(T0)), "{now:?}");
}

/// The daemon died, the address still stands: RFC 8415, 18.2.12.
#[test]
fn a_lease_that_is_adopted_holds_and_is_confirmed() {
    let lease = Reply::to(&asked(&mut addresses())).rapid().lend(1, 100, 200).build();
    let kept = |now| Held::of_kept(lease.clone(), T0, MAC, now);
    let mut client = client_that_wants(vec![ip(1)]);
    client.adopt(kept(after(30)).unwrap());
    client.on_link(true, Wanted::Nothing, after(30));
    assert_eq!(facts(&client).addresses[0].valid_until, Some(after(200)), "as it was lent");
    let confirm = asked(&mut client);
    assert_eq!((kind(&confirm), requested(&confirm)), (CONFIRM, vec![ip(1)]));
    client.receive(&Reply::to(&confirm).build(), after(30));
    assert_eq!((client.phase(), client.next_timeout()), (Phase::Bound, Some(after(50))));
    assert_eq!(client.held().map(|held| &held.message), Some(&lease), "what a Confirm's answer does not say");

    let mut late = client_that_wants(vec![ip(1)]);
    late.adopt(kept(after(200)).unwrap());
    late.on_link(true, Wanted::Addresses, after(200));
    assert_eq!(kind(&asked(&mut late)), REBIND, "over");

    assert!(Held::of_kept(lease.clone(), T0, [2, 0, 0, 0, 0, 8], T0).is_none(), "another device's");
    let offer = Reply::to(&asked(&mut addresses())).kind(ADVERTISE).lend(1, 100, 200).build();
    assert!(Held::of_kept(offer, T0, MAC, T0).is_none());
    for length in 0..lease.len() {
        // Half a message may still be one; it does no harm.
        let _ = Held::of_kept(lease[..length].to_vec(), T0, MAC, T0);
    }
}

#[test]
fn a_lease_outlives_the_flag_and_no_flag_means_no_question() {
    let mut client = bound();
    client.on_link(true, Wanted::Nothing, after(10));
    assert_eq!(facts(&client).addresses.len(), 1);
    client.on_timer(after(50));
    assert_eq!(kind(&asked(&mut client)), RENEW);
    client.on_timer(after(200));
    assert_eq!((client.phase(), facts(&client)), (Phase::Idle, Facts::default()));
    let _ = client.take_out();
    assert_eq!(client.next_timeout(), None);

    let mut asking = addresses();
    let _ = asking.take_out();
    asking.on_link(true, Wanted::Nothing, T0);
    assert_eq!((asking.phase(), asking.next_timeout()), (Phase::Idle, None));
}

#[test]
fn stopping_gives_the_lease_back_to_its_server() {
    let mut client = bound();
    client.stop(after(9));
    let release = asked(&mut client);
    assert_eq!(
        (kind(&release), option(&release, 2), requested(&release)),
        (RELEASE, Some(A.to_vec()), vec![ip(1)])
    );
    assert_eq!((facts(&client), client.next_timeout()), (Facts::default(), None));
}

#[test]
fn an_address_that_is_somebody_elses_is_declined() {
    let mut failed = bound();
    failed.on_addresses(&[own(ip(1), true)], after(2));
    let out = failed.take_out();
    assert_eq!((kind(&out[0]), requested(&out[0]), kind(&out[1])), (DECLINE, vec![ip(1)], SOLICIT));
    assert_eq!(facts(&failed), Facts::default());

    let mut vanished = bound();
    vanished.on_addresses(&[own(ip(1), false)], after(2));
    vanished.on_addresses(&[], after(3));
    assert_eq!(kind(&vanished.take_out()[0]), DECLINE, "so the kernel tells that its detection failed");

    let mut flushed = bound();
    flushed.on_addresses(&[own(ip(1), false)], after(2));
    flushed.on_addresses(&[], after(30));
    assert_eq!(flushed.take_out().len(), 0, "somebody has taken it away, long after");

    // One that declines for ever does not flood.
    let mut now = T0;
    let mut client = addresses();
    let mut declines = 0;
    while now < after(600) {
        for message in client.take_out() {
            match kind(&message) {
                SOLICIT => client.receive(&Reply::to(&message).rapid().lend(1, 100, 200).build(), now),
                DECLINE => declines += 1,
                _ => {}
            }
        }
        if client.held().is_some() {
            client.on_addresses(&[own(ip(1), true)], now);
        } else {
            now = client.next_timeout().unwrap().max(now);
            client.on_timer(now);
        }
    }
    assert!((10..=70).contains(&declines), "{declines}");
}

#[test]
fn a_lease_for_ever_has_no_end_and_is_not_asked_about() {
    let mut client = addresses();
    let solicit = asked(&mut client);
    client.receive(&Reply::to(&solicit).rapid().lend(1, u32::MAX, u32::MAX).build(), T0);
    assert_eq!(facts(&client).addresses[0].valid_until, None);
    assert_eq!(client.next_timeout(), None);
}

#[derive(Debug, Clone)]
enum Event {
    Link(bool, u8),
    Reply {
        kind: bool,
        rapid: bool,
        server: bool,
        status: u16,
        ia_status: u16,
        lend: Vec<(u8, u32, u32)>,
        times: (u32, u32),
    },
    Pass(u64),
    Addresses(bool, bool),
    Forget,
    Noise(Vec<u8>),
}

fn event() -> impl Strategy<Value = Event> {
    let lend = proptest::collection::vec((0u8..4, 0u32..300, 0u32..300), 0..4);
    prop_oneof![
        1 => (any::<bool>(), 0u8..3).prop_map(|(ready, wanted)| Event::Link(ready, wanted)),
        6 => (any::<bool>(), any::<bool>(), any::<bool>(), 0u16..7, 0u16..7, lend, (0u32..200, 0u32..200)).prop_map(
            |(kind, rapid, server, status, ia_status, lend, times)| Event::Reply {
                kind, rapid, server, status: status.saturating_sub(4), ia_status: ia_status.saturating_sub(3), lend, times,
            }
        ),
        4 => (0u64..100_000).prop_map(Event::Pass),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(there, failed)| Event::Addresses(there, failed)),
        1 => Just(Event::Forget),
        1 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Event::Noise),
    ]
}

proptest! {
    /// Whatever comes in whatever order: nothing is held beyond its time, the timer is never in the past, and no more is
    /// sent than two messages a second on average.
    #[test]
    fn it_holds_no_lease_too_long_and_does_not_flood(events in proptest::collection::vec(event(), 1..60)) {
        let mut client = addresses();
        let (mut now, mut last) = (T0, None::<Vec<u8>>);
        for event in &events {
            match event.clone() {
                Event::Link(ready, wanted) => {
                    let wanted = [Wanted::Nothing, Wanted::Information, Wanted::Addresses][usize::from(wanted)];
                    client.on_link(ready, wanted, now);
                }
                Event::Reply { kind, rapid, server, status, ia_status, lend, times } => {
                    let Some(message) = &last else { continue };
                    let mut reply = Reply::to(message).status(status).ia_status(ia_status).times(times.0, times.1);
                    reply = if kind { reply.kind(ADVERTISE) } else { reply };
                    reply = if rapid { reply.rapid() } else { reply };
                    reply = if server { reply.from(B) } else { reply };
                    for (n, preferred, valid) in lend {
                        reply = reply.lend(n.into(), preferred, valid);
                    }
                    client.receive(&reply.build(), now);
                }
                Event::Pass(span) => {
                    let end = Time(now.0 + span);
                    let mut messages = 0;
                    while let Some(next) = client.next_timeout().filter(|t| *t <= end) {
                        now = next.max(now);
                        client.on_timer(now);
                        prop_assert!(client.next_timeout().is_none_or(|t| t > now), "it would spin");
                        let out = client.take_out();
                        messages += out.len() as u64;
                        last = out.last().cloned().or(last);
                    }
                    now = end;
                    prop_assert!(messages <= 10 + 2 * span / 1000, "{} in {} ms", messages, span);
                }
                Event::Addresses(there, failed) => {
                    let there: Vec<Address> = (0..4).filter(|_| there).map(|n| own(ip(n), failed)).collect();
                    client.on_addresses(&there, now);
                }
                Event::Forget => client.forget(now),
                Event::Noise(bytes) => client.receive(&bytes, now),
            }
            let facts = facts(&client);
            let mut ends = facts.addresses.iter().map(|a| a.valid_until).chain(facts.dns.iter().map(|d| d.until));
            client.on_timer(now);
            prop_assert!(ends.all(|end| end.is_none_or(|t| t > now || !matches!(event, Event::Pass(_)))));
            prop_assert!(facts.addresses.len() <= 4);
            last = client.take_out().pop().or(last);
        }
    }
}

fn client() -> Dhcp6 {
    client_that_wants(vec![])
}

/// One that had these addresses before.
fn client_that_wants(wish: Vec<Ipv6Addr>) -> Dhcp6 {
    let mut n = 0u32;
    Dhcp6::new(
        MAC,
        wish,
        T0,
        Box::new(move || {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            n
        }),
    )
}

/// One that has just been told that there are addresses.
fn addresses() -> Dhcp6 {
    let mut client = client();
    client.on_link(true, Wanted::Addresses, T0);
    client
}

/// With an address from A, preferred for 100 s and valid for 200, T1 50 s, T2 80 s.
fn bound() -> Dhcp6 {
    let mut client = addresses();
    let solicit = asked(&mut client);
    client.receive(&Reply::to(&solicit).rapid().lend(1, 100, 200).build(), T0);
    assert_eq!(client.phase(), Phase::Bound);
    client
}

/// The one message that is to be sent.
fn asked(client: &mut Dhcp6) -> Vec<u8> {
    assert!(client.needs_socket());
    let mut out = client.take_out();
    assert_eq!(out.len(), 1, "{:?}", out.iter().map(|m| kind(m)).collect::<Vec<_>>());
    out.remove(0)
}

/// A server's answer, by hand; with one DNS server.
struct Reply {
    kind: u8,
    xid: [u8; 3],
    server: Vec<u8>,
    status: u16,
    ia_status: u16,
    times: (u32, u32),
    addresses: Vec<u8>,
    options: Vec<u8>,
    client: bool,
}

impl Reply {
    fn to(message: &[u8]) -> Reply {
        Reply {
            kind: REPLY,
            xid: message[1..4].try_into().unwrap(),
            server: A.to_vec(),
            status: 0,
            ia_status: 0,
            times: (0, 0),
            addresses: vec![],
            options: vec![],
            client: option(message, 1).is_some(),
        }
    }

    fn kind(self, kind: u8) -> Reply {
        Reply { kind, ..self }
    }

    fn from(self, server: &[u8]) -> Reply {
        Reply { server: server.to_vec(), ..self }
    }

    fn status(self, status: u16) -> Reply {
        Reply { status, ..self }
    }

    fn ia_status(self, ia_status: u16) -> Reply {
        Reply { ia_status, ..self }
    }

    fn times(self, t1: u32, t2: u32) -> Reply {
        Reply { times: (t1, t2), ..self }
    }

    fn rapid(self) -> Reply {
        self.option(14, &[])
    }

    fn option(mut self, code: u16, content: &[u8]) -> Reply {
        put(&mut self.options, code, content);
        self
    }

    fn lend(mut self, n: u16, preferred: u32, valid: u32) -> Reply {
        let content = [&ip(n).octets()[..], &preferred.to_be_bytes(), &valid.to_be_bytes()].concat();
        put(&mut self.addresses, 5, &content);
        self
    }

    fn build(self) -> Vec<u8> {
        let mut m = vec![self.kind];
        m.extend(self.xid);
        if self.client {
            put(&mut m, 1, &[&[0, 3, 0, 1][..], &MAC].concat());
        }
        put(&mut m, 2, &self.server);
        put(&mut m, 23, &"fe80::53".parse::<Ipv6Addr>().unwrap().octets());
        if self.status != 0 {
            put(&mut m, 13, &self.status.to_be_bytes());
        }
        let mut ia = MAC[2..].to_vec();
        ia.extend(self.times.0.to_be_bytes());
        ia.extend(self.times.1.to_be_bytes());
        ia.extend(self.addresses);
        if self.ia_status != 0 {
            put(&mut ia, 13, &self.ia_status.to_be_bytes());
        }
        put(&mut m, 3, &ia);
        m.extend(self.options);
        m
    }
}

fn put(to: &mut Vec<u8>, code: u16, content: &[u8]) {
    to.extend(code.to_be_bytes());
    to.extend((content.len() as u16).to_be_bytes());
    to.extend(content);
}

fn kind(message: &[u8]) -> u8 {
    message[0]
}

fn option(message: &[u8], wanted: u16) -> Option<Vec<u8>> {
    find(&message[4..], wanted)
}

/// The addresses in a message's association.
fn requested(message: &[u8]) -> Vec<Ipv6Addr> {
    let ia = option(message, 3).unwrap();
    let address = find(&ia[12..], 5).map(|a| <[u8; 16]>::try_from(&a[..16]).unwrap());
    address.into_iter().map(Ipv6Addr::from).collect()
}

fn find(mut rest: &[u8], wanted: u16) -> Option<Vec<u8>> {
    while !rest.is_empty() {
        let (code, len) =
            (u16::from_be_bytes([rest[0], rest[1]]), usize::from(u16::from_be_bytes([rest[2], rest[3]])));
        if code == wanted {
            return Some(rest[4..4 + len].to_vec());
        }
        rest = &rest[4 + len..];
    }
    None
}

fn own(address: Ipv6Addr, dad_failed: bool) -> Address {
    Address {
        link: 2,
        prefix: Prefix::host(address),
        broadcast: None,
        preferred_until: None,
        valid_until: None,
        no_prefix_route: true,
        protocol: 0,
        dad_failed,
        tentative: false,
    }
}

fn ip(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n)
}

fn after(seconds: u64) -> Time {
    T0 + Duration::from_secs(seconds)
}

fn facts(client: &Dhcp6) -> Facts {
    let mut facts = Facts::default();
    client.facts("eth0", &mut facts);
    facts
}

const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const REPLY: u8 = 7;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
const INFORMATION: u8 = 11;
