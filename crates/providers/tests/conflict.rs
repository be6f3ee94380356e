//! Detecting that somebody else has the leased IPv4 address, in simulated time.

use narrowgate_model::Time;
use narrowgate_providers::builtin::conflict::Conflict;
use narrowgate_wire::dhcp4::arp;
use std::net::Ipv4Addr;
use std::time::Duration;

const T0: Time = Time(7_000_000);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 8];
const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

#[test]
fn three_probes_two_announcements_and_then_silence() {
    let mut conflict = watching();
    let (mut sent, mut now) = (vec![], T0);
    while let Some(next) = conflict.next_timeout() {
        now = next;
        conflict.on_timer(now);
        sent.extend(conflict.take_out().into_iter().map(|packet| (now.since(T0).as_millis(), packet)));
    }
    let packets: Vec<&Vec<u8>> = sent.iter().map(|(_, packet)| packet).collect();
    let (probe, announcement) = (arp::probe(MAC, IP), arp::announcement(MAC, IP));
    assert_eq!(packets, [&probe, &probe, &probe, &announcement, &announcement]);
    assert!(sent[0].0 < 250, "the first at once");
    let gaps: Vec<u128> = sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps[..2].iter().all(|gap| (1000..2000).contains(gap)) && gaps[2..] == [2000, 2000], "{gaps:?}");
    assert!(conflict.is_undisputed());
    assert!(now.since(T0) < Duration::from_secs(20));
}

#[test]
fn whoever_answers_a_probe_has_it_and_our_own_packets_say_nothing() {
    let mut conflict = watching();
    assert!(!conflict.receive(&arp::announcement(MAC, IP), T0));
    assert!(!conflict.receive(&arp::announcement(OTHER, Ipv4Addr::new(192, 0, 2, 78)), T0));
    assert!(
        !conflict.receive(&arp::probe(OTHER, IP), T0),
        "one that probes has our answer: the address is set"
    );
    assert!(!conflict.receive(&[0; 28], T0));
    assert!(conflict.receive(&answer(), T0));
}

#[test]
fn a_claimed_address_is_defended_once_and_given_up_if_that_does_not_help() {
    let mut conflict = claimed();
    assert!(!conflict.receive(&answer(), after(100)));
    assert_eq!(conflict.take_out(), [arp::announcement(MAC, IP)]);
    assert!(!conflict.receive(&answer(), after(111)), "the defence has held for 10 s");
    assert!(conflict.receive(&answer(), after(112)));
}

#[test]
fn an_address_that_is_kept_all_the_same_is_not_argued_about() {
    let mut conflict = watching();
    conflict.resign();
    assert!(!conflict.receive(&answer(), T0));
    assert_eq!(conflict.next_timeout(), None);
    assert!(!conflict.is_undisputed());
    // Another network, another try.
    conflict.watch(None, after(1));
    conflict.watch(Some(IP), after(2));
    assert!(conflict.next_timeout().is_some() && conflict.receive(&answer(), after(2)));
}

#[test]
fn what_is_not_leased_any_more_is_not_watched() {
    let mut conflict = watching();
    conflict.on_timer(after(1));
    conflict.watch(None, after(1));
    assert_eq!((conflict.next_timeout(), conflict.take_out().len()), (None, 0));
    assert!(!conflict.receive(&answer(), after(1)));
}

fn watching() -> Conflict {
    let mut n = 0u32;
    let random = move || {
        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        n
    };
    let mut conflict = Conflict::new(MAC, Box::new(random));
    conflict.watch(Some(IP), T0);
    conflict
}

fn claimed() -> Conflict {
    let mut conflict = watching();
    while let Some(next) = conflict.next_timeout() {
        conflict.on_timer(next);
    }
    let _ = conflict.take_out();
    conflict
}

/// What the one who has it says.
fn answer() -> Vec<u8> {
    let mut packet = arp::announcement(OTHER, IP);
    packet[7] = 2;
    packet
}

fn after(seconds: u64) -> Time {
    T0 + Duration::from_secs(seconds)
}
