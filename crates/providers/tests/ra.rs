//! The machine behind Router Advertisements, in simulated time.

use narrowgate_model::facts::{Facts, Preference};
use narrowgate_model::net::Address;
use narrowgate_model::{Prefix, Time};
use narrowgate_providers::builtin::ra::{RECOGNISE, Ra};
use narrowgate_wire::ra::{PrefixInfo, RouteInfo, RouterAdvert};
use proptest::prelude::*;
use std::net::Ipv6Addr;
use std::time::Duration;

const T0: Time = Time(1_000_000);

#[test]
fn it_solicits_at_once_then_quickly_then_ever_more_slowly_but_does_not_give_up() {
    let mut ra = ra();
    assert_eq!(ra.solicitation(), None, "no carrier yet");
    ra.on_carrier(true, T0);
    let mut times = vec![];
    let mut now = T0;
    while now < T0 + Duration::from_secs(86_400) {
        while ra.solicitation().is_some() {
            times.push(now.since(T0).as_millis());
        }
        now = ra.next_timeout().expect("it does not give up");
        ra.on_timer(now);
    }
    assert_eq!(times[..4], [0, 250, 500, 1000]);
    let gaps: Vec<u128> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(times[1..].iter().zip(&gaps).filter(|(t, _)| **t < 60_000).all(|(_, g)| *g <= 8800), "{times:?}");
    assert!(
        gaps[3..].iter().zip(&gaps[4..]).all(|(a, b)| *b * 10 >= *a * 8 && *b * 10 <= *a * 25),
        "{gaps:?}"
    );
    assert!(gaps.iter().all(|g| *g <= 3_960_000), "RFC 7559: 3600 s and a tenth for chance");
    assert!((30..50).contains(&times.len()), "{}", times.len());
}

#[test]
fn a_sign_of_life_from_the_household_is_worth_a_question() {
    let mut ra = up();
    assert!(ra.solicitation().is_some());
    ra.nudge(T0);
    assert_eq!(ra.solicitation(), None, "it has been asked just now");
    ra.nudge(after(5));
    assert!(ra.solicitation().is_some());
    assert_eq!(ra.next_timeout(), Some(after(5) + Duration::from_millis(250)));
    ra.receive(router(1), &advert(), after(6));
    ra.nudge(after(9));
    assert_eq!(ra.solicitation(), None, "it has answered");
}

#[test]
fn a_router_that_was_quicker_than_the_kernel_is_asked_once_more() {
    let mut ra = up();
    assert!(ra.solicitation().is_some());
    ra.receive(router(1), &advert(), T0);
    assert_eq!(ra.solicitation(), None);
    let link_local = [own("fe80::77", false)];
    ra.on_addresses(&link_local, T0);
    assert!(ra.solicitation().is_some(), "for the kernel to hear it too");
    ra.receive(router(1), &advert(), T0);
    ra.on_addresses(&[], T0);
    ra.on_addresses(&link_local, T0);
    assert_eq!(ra.solicitation(), None, "it has");
}

#[test]
fn a_router_ends_the_soliciting_and_its_own_end_begins_it_again() {
    let mut ra = up();
    ra.receive(router(1), &RouterAdvert::default(), T0);
    assert!(
        ra.next_timeout().is_some_and(|t| t.since(T0) <= Duration::from_millis(250)),
        "that was no router"
    );
    ra.receive(router(1), &RouterAdvert { lifetime: 60, ..RouterAdvert::default() }, T0);
    assert_eq!(ra.solicitation(), None);
    assert!(ra.next_timeout() >= Some(after(45)));
    ra.receive(router(1), &RouterAdvert { lifetime: 8, ..RouterAdvert::default() }, T0);
    assert_eq!(ra.next_timeout(), Some(after(8)));
    ra.on_timer(after(8));
    assert!(ra.solicitation().is_some());
    assert_eq!(routes(&ra), [""; 0]);
}

#[test]
fn what_is_about_to_end_is_asked_for_in_time() {
    // A switch that loses multicast: only what was asked for arrives.
    let mut ra = up();
    let _ = ra.solicitation();
    ra.receive(router(1), &advert(), T0); // its DNS server ends first, after 600 s
    let mut asked = 0;
    while let Some(now) = ra.next_timeout().filter(|t| *t < after(86_400)) {
        ra.on_timer(now);
        if ra.solicitation().is_some() {
            asked += 1;
            ra.receive(router(1), &advert(), now);
        }
        assert_eq!(dns(&ra), ["2001:db8:1::53"]);
    }
    assert!((190..=192).contains(&asked), "{asked} times a day: every 450 s");
    let mut heard = up();
    let _ = heard.solicitation();
    for n in 0..100 {
        heard.receive(router(1), &advert(), after(n * 400));
        heard.on_timer(after(n * 400 + 399));
        assert_eq!(heard.solicitation(), None, "nothing is asked that is told anyway");
    }
}

#[test]
fn a_link_local_address_that_gets_ready_is_asked_from_at_once() {
    let mut ra = up();
    assert_eq!(
        ra.solicitation().unwrap()[8..24],
        [0; 16],
        "from the unspecified address, before there is another"
    );
    let mut address = own("fe80::7", false);
    address.tentative = true;
    ra.on_addresses(&[address.clone()], T0);
    assert_eq!(ra.solicitation(), None);
    address.tentative = false; // or optimistic
    ra.on_addresses(&[address.clone()], T0);
    let packet = ra.solicitation().unwrap();
    assert_eq!(packet[8..24], "fe80::7".parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(packet.len(), 48, "without a link-layer address: RFC 4429");
    ra.on_addresses(&[address.clone()], T0);
    assert_eq!(ra.solicitation(), None, "once is enough");
    ra.receive(router(1), &advert(), T0);
    ra.on_addresses(&[], T0);
    ra.on_addresses(&[address], T0);
    assert_eq!(ra.solicitation(), None, "nothing to ask for any more");
}

#[test]
fn everything_holds_to_the_millisecond_as_long_as_was_told_and_zero_ends_it() {
    let mut ra = up();
    let told = RouterAdvert {
        lifetime: 30,
        prefixes: vec![prefix("2001:db8:1::/64", 100, 50)],
        routes: vec![route("2001:db8:f::/48", Preference::High, 40)],
        dns: vec![(addr("fe80::1"), 20), (addr("2001:db8::53"), u32::MAX)],
        search: vec![("home.example".into(), 10)],
        ..RouterAdvert::default()
    };
    ra.receive(router(1), &told, T0);
    let all = ["2001:db8:1::/64", "::/0 via fe80::1", "2001:db8:f::/48 via fe80::1"];
    assert_eq!(routes(&ra), all);
    assert_eq!(dns(&ra), ["fe80::1%eth0", "2001:db8::53"]);
    let mut step = |seconds, routes_left: &[&str], dns_left: &[&str], search: usize, addresses: usize| {
        let end = after(seconds);
        let before = facts(&ra);
        loop {
            let next = ra.next_timeout().unwrap();
            if next >= end {
                assert_eq!(next, end);
                break;
            }
            ra.on_timer(next); // solicitations, which are not what this is about
            assert_eq!(facts(&ra), before);
        }
        ra.on_timer(Time(end.0 - 1));
        assert_eq!(facts(&ra), before);
        ra.on_timer(end);
        // Without a router it solicits on; this one's farewell ends that.
        ra.receive(router(9), &RouterAdvert { lifetime: 1, ..RouterAdvert::default() }, end);
        ra.receive(router(9), &RouterAdvert { lifetime: 0, ..RouterAdvert::default() }, end);
        assert_eq!(routes(&ra), routes_left);
        assert_eq!(dns(&ra), dns_left);
        assert_eq!((facts(&ra).search.len(), facts(&ra).addresses.len()), (search, addresses));
    };
    step(10, &all, &["fe80::1%eth0", "2001:db8::53"], 0, 1);
    step(20, &all, &["2001:db8::53"], 0, 1);
    step(30, &["2001:db8:1::/64", "2001:db8:f::/48 via fe80::1"], &["2001:db8::53"], 0, 1);
    step(40, &["2001:db8:1::/64"], &["2001:db8::53"], 0, 1);
    step(100, &[], &["2001:db8::53"], 0, 0);
    let zero = RouterAdvert { dns: vec![(addr("2001:db8::53"), 0)], ..RouterAdvert::default() };
    ra.receive(router(1), &zero, after(200));
    assert_eq!(facts(&ra), Facts::default());
}

#[test]
fn zero_lifetimes_take_back_each_thing_that_was_told() {
    let mut ra = up();
    let mut told = RouterAdvert {
        routes: vec![route("2001:db8:f::/48", Preference::Medium, 100)],
        search: vec![("home.example".into(), 100)],
        ..advert()
    };
    ra.receive(router(1), &told, T0);
    told.lifetime = 0;
    told.routes[0].lifetime = 0;
    told.dns[0].1 = 0;
    told.search[0].1 = 0;
    told.prefixes[0].valid = 0;
    told.prefixes[0].preferred = 0;
    ra.receive(router(1), &told, T0);
    let facts = facts(&ra);
    assert_eq!((facts.routes.len(), facts.dns.len(), facts.search.len()), (0, 0, 0));
    // All but the address, which RFC 4862 protects; but new connections use it no more.
    assert_eq!(facts.addresses[0].valid_until, Some(after(1000)));
    assert_eq!(facts.addresses[0].preferred_until, Some(T0));
}

#[test]
fn an_address_lives_two_hours_at_least_once_it_is_told_so_whoever_says_less() {
    // (remaining, told) -> valid then: RFC 4862, 5.5.3 e, 1 to 3.
    for (remaining, told, then) in [
        (100, 200, 200),
        (100, 50, 100),
        (7200, 0, 7200),
        (7201, 0, 7200),
        (100_000, 10, 7200),
        (100_000, 7201, 7201),
        (100_000, 200_000, 200_000),
    ] {
        let mut ra = up();
        ra.receive(router(1), &with(prefix("2001:db8:1::/64", remaining, 0)), T0);
        ra.receive(router(1), &with(prefix("2001:db8:1::/64", told, 0)), T0);
        assert_eq!(facts(&ra).addresses[0].valid_until, Some(after(then)), "{remaining} {told}");
    }
    let mut ra = up();
    ra.receive(router(1), &with(prefix("2001:db8:1::/64", u32::MAX, u32::MAX)), T0);
    assert_eq!(facts(&ra).addresses[0].valid_until, None);
    ra.receive(router(1), &with(prefix("2001:db8:1::/64", 5, 5)), T0);
    assert_eq!(facts(&ra).addresses[0].valid_until, Some(after(7200)));
    ra.receive(router(1), &with(prefix("2001:db8:1::/64", u32::MAX, 5)), T0);
    assert_eq!(facts(&ra).addresses[0].valid_until, None);
}

#[test]
fn only_what_may_make_an_address_makes_one() {
    let mut info = prefix("2001:db8:1::/64", 100, 50);
    let made = |info: PrefixInfo| {
        let mut ra = up();
        ra.receive(router(1), &with(info), T0);
        (facts(&ra).addresses.len(), facts(&ra).routes.len())
    };
    assert_eq!(made(info), (1, 1));
    info.on_link = false;
    assert_eq!(made(info), (1, 0));
    info.autonomous = false;
    assert_eq!(made(info), (0, 0));
    assert_eq!(made(prefix("2001:db8:1::/63", 100, 50)), (0, 1));
    assert_eq!(made(prefix("2001:db8:1::/64", 50, 100)), (0, 1), "preferred longer than valid");
    assert_eq!(made(prefix("2001:db8:1::/64", 0, 0)), (0, 0));
    assert_eq!(made(prefix("fe80::/64", 100, 50)), (0, 0));
    assert_eq!(made(prefix("ff02::/64", 100, 50)), (0, 0));
    assert_eq!(made(prefix("::/0", 100, 50)), (0, 0), "the internet is not on-link");
}

#[test]
fn an_address_that_is_taken_makes_room_for_the_next_three_times() {
    let mut ra = up();
    ra.receive(router(1), &with(prefix("2001:db8:1::/64", 100, 50)), T0);
    let mut seen = vec![];
    while let Some(fact) = facts(&ra).addresses.first() {
        assert!(!seen.contains(&fact.prefix) && seen.len() < 4);
        seen.push(fact.prefix);
        let addr = fact.prefix.addr.to_string();
        ra.on_addresses(&[own(&addr, true)], T0);
        ra.on_addresses(&[own(&seen[0].addr.to_string(), true)], T0); // an old one, still standing there: no second failure
    }
    assert_eq!(seen.len(), 4);
    ra.receive(router(1), &with(prefix("2001:db8:1::/64", 100, 50)), T0);
    assert_eq!(facts(&ra).addresses, [], "nor does the next advertisement try again");
}

#[test]
fn an_address_that_vanishes_as_soon_as_it_is_set_was_taken() {
    let known = || {
        let mut ra = up();
        ra.receive(router(1), &with(prefix("2001:db8:1::/64", 100, 50)), T0);
        let addr = facts(&ra).addresses[0].prefix.addr.to_string();
        ra.on_addresses(&[], T0); // not set yet
        assert_eq!(facts(&ra).addresses[0].prefix.addr.to_string(), addr);
        ra.on_addresses(&[own(&addr, false)], after(1));
        (ra, addr)
    };
    let vanished = |ra: &mut Ra, when| {
        ra.on_addresses(&[], when);
        facts(ra).addresses[0].prefix.addr.to_string()
    };
    let (mut ra, addr) = known();
    assert_ne!(vanished(&mut ra, after(2)), addr);
    let (mut ra, addr) = known();
    assert_eq!(vanished(&mut ra, after(10)), addr, "detection was over: somebody has deleted it");
    let mut ra = up();
    ra.receive(router(1), &with(prefix("2001:db8:1::/64", 3, 3)), T0);
    let addr = facts(&ra).addresses[0].prefix.addr.to_string();
    ra.on_addresses(&[own(&addr, false)], T0);
    assert_eq!(vanished(&mut ra, after(2)), addr, "its lifetime of 3 s is over by the kernel's clock");
    let (mut ra, addr) = known();
    ra.on_carrier(false, after(2));
    assert_eq!(vanished(&mut ra, after(2)), addr, "the device went down");
}

#[test]
fn several_routers_stand_side_by_side_with_their_preferences() {
    let mut ra = up();
    ra.receive(router(1), &RouterAdvert { preference: Preference::Low, ..advert() }, T0);
    let second = RouterAdvert {
        preference: Preference::Low,
        routes: vec![route("::/0", Preference::High, 300)],
        dns: vec![(addr("2001:db8:1::53"), 900)],
        ..advert()
    };
    ra.receive(router(2), &second, T0);
    let defaults: Vec<_> =
        facts(&ra).routes.iter().filter(|r| r.dst.is_default()).map(|r| (r.preference, r.until)).collect();
    // RFC 4191, 3.1: a route to ::/0 takes the place of what the header says.
    assert_eq!(defaults, [(Preference::Low, Some(after(1800))), (Preference::High, Some(after(300)))]);
    let servers = facts(&ra).dns;
    assert_eq!(servers.len(), 1, "one server that two routers tell of");
    assert_eq!(servers[0].until, Some(after(900)), "until the last of them");
    ra.receive(router(2), &RouterAdvert { lifetime: 0, ..RouterAdvert::default() }, T0);
    assert_eq!(routes(&ra).iter().filter(|r| r.starts_with("::/0")).count(), 1);
}

#[test]
fn after_the_carrier_was_away_the_first_advertisement_shows_where_we_are() {
    let known = || {
        let mut ra = up();
        ra.receive(router(1), &advert(), T0);
        ra.on_carrier(false, after(10));
        assert_eq!(dns(&ra), ["2001:db8:1::53"]);
        ra.on_carrier(true, after(20));
        assert!(ra.solicitation().is_some());
        ra
    };
    let mut same = known();
    same.receive(router(1), &RouterAdvert { dns: vec![], ..advert() }, after(21));
    assert_eq!(dns(&same), ["2001:db8:1::53"], "the same network: all holds");

    let elsewhere = RouterAdvert {
        prefixes: vec![prefix("2001:db8:99::/64", 100, 50)],
        dns: vec![(addr("2001:db8:99::53"), 100)],
        ..advert()
    };
    let mut other = known();
    other.receive(router(1), &elsewhere, after(21));
    assert_eq!(dns(&other), ["2001:db8:99::53"], "another network with a router of the same name");
    assert_eq!(facts(&other).addresses.len(), 1);

    let mut silent = known();
    let end = after(20) + RECOGNISE;
    silent.on_timer(Time(end.0 - 1));
    assert_eq!(dns(&silent), ["2001:db8:1::53"]);
    silent.on_timer(end);
    assert_eq!(facts(&silent), Facts::default(), "nobody there");
}

#[test]
fn captive_portal_and_nat64_are_facts_as_long_as_they_hold() {
    let mut ra = up();
    let told = RouterAdvert {
        portal: Some("https://portal.example/api".into()),
        nat64: vec![("64:ff9b::/96".parse().unwrap(), 600)],
        ..advert()
    };
    let portals = |ra: &Ra| facts(ra).portals.into_iter().map(|p| p.uri).collect::<Vec<_>>();
    ra.receive(router(1), &told, T0);
    assert_eq!(portals(&ra), ["https://portal.example/api"]);
    let nat64 = facts(&ra).nat64;
    assert_eq!(nat64.iter().map(|n| n.prefix.to_string()).collect::<Vec<_>>(), ["64:ff9b::/96"]);
    assert_eq!(nat64[0].until, Some(after(600)));
    ra.on_timer(after(600));
    assert_eq!((facts(&ra).nat64, portals(&ra).len()), (vec![], 1));
    ra.receive(router(1), &advert(), after(601));
    assert_eq!(portals(&ra), [""; 0], "the network is open now");
}

#[test]
fn of_several_mtus_the_smallest_is_a_fact_while_its_router_lives() {
    let mut ra = up();
    ra.receive(router(1), &RouterAdvert { mtu: Some(1492), ..advert() }, T0);
    assert_eq!(facts(&ra).mtu, Some(1492));
    ra.receive(router(2), &RouterAdvert { mtu: Some(1480), lifetime: 60, ..RouterAdvert::default() }, T0);
    ra.receive(router(3), &RouterAdvert { mtu: Some(1279), ..advert() }, T0);
    assert_eq!(facts(&ra).mtu, Some(1480), "less than IPv6 takes is none");
    ra.on_timer(after(60));
    assert_eq!(facts(&ra).mtu, Some(1492));
}

#[test]
fn what_is_said_of_dhcpv6_holds_as_long_as_the_router_and_without_one_for_half_an_hour() {
    let mut ra = up();
    assert_eq!(ra.dhcp6(), (false, false));
    ra.receive(router(1), &RouterAdvert { managed: true, ..advert() }, T0);
    ra.receive(router(2), &RouterAdvert { other: true, lifetime: 0, ..RouterAdvert::default() }, T0);
    assert_eq!(ra.dhcp6(), (true, true));
    ra.receive(router(1), &RouterAdvert { managed: false, ..advert() }, after(1));
    assert_eq!(ra.dhcp6(), (false, true));
    ra.on_timer(Time(after(1800).0 - 1));
    assert_eq!(ra.dhcp6(), (false, true));
    ra.on_timer(after(1800));
    assert_eq!(ra.dhcp6(), (false, false));
}

#[test]
fn it_is_told_when_this_turns_out_to_be_another_network() {
    let mut ra = up();
    ra.receive(router(1), &advert(), T0);
    ra.on_carrier(false, after(1));
    ra.on_carrier(true, after(2));
    ra.receive(router(1), &advert(), after(3));
    assert_eq!(ra.forgotten(), 0);
    ra.on_carrier(false, after(4));
    ra.on_carrier(true, after(5));
    ra.receive(router(9), &advert(), after(6));
    assert_eq!(ra.forgotten(), 1);
}

#[test]
fn a_hostile_link_cannot_fill_the_memory() {
    let mut ra = up();
    for n in 0..1000u16 {
        let told = RouterAdvert {
            prefixes: vec![prefix(&format!("2001:db8:{n:x}::/64"), 100, 50)],
            routes: (0..50)
                .map(|i| route(&format!("2001:db8:{n:x}:{i:x}::/64"), Preference::High, 100))
                .collect(),
            dns: (0..50).map(|i| (addr(&format!("2001:db8:{n:x}:{i:x}::53")), 100)).collect(),
            search: (0..50).map(|i| (format!("{n}.{i}"), 100)).collect(),
            nat64: (0..50).map(|i| (format!("2001:db8:{n:x}:{i:x}::/64").parse().unwrap(), 100)).collect(),
            ..advert()
        };
        ra.receive(router(n), &told, T0);
    }
    let facts = facts(&ra);
    assert!(
        facts.routes.len() <= 200
            && facts.dns.len() <= 64
            && facts.addresses.len() <= 16
            && facts.search.len() <= 64
    );
}

proptest! {
    /// In whatever order advertisements come and time passes: nothing is told that is over, `next_timeout` is never
    /// late, and every address stays within its prefix.
    #[test]
    fn nothing_is_told_that_does_not_hold(
        events in proptest::collection::vec((0u16..3, 0u16..100, 0u32..200, 0u32..200, 0u64..60_000, any::<bool>()), 1..40)
    ) {
        let mut ra = up();
        let mut now = T0;
        for (from, lifetime, valid, preferred, passed, flap) in events {
            ra.receive(router(from), &RouterAdvert {
                lifetime,
                prefixes: vec![prefix(&format!("2001:db8:{}::/64", valid % 3), valid, preferred)],
                routes: vec![route("2001:db8:f::/48", Preference::Medium, preferred)],
                dns: vec![(addr("2001:db8::53"), preferred), (addr("fe80::1"), valid)],
                ..RouterAdvert::default()
            }, now);
            let end = Time(now.0 + passed);
            while let Some(next) = ra.next_timeout().filter(|t| *t <= end) {
                prop_assert!(next > now || ra.next_timeout() > Some(now) || next == now);
                now = next.max(now);
                ra.on_timer(now);
                let _ = ra.solicitation();
                prop_assert!(ra.next_timeout().is_none_or(|t| t > now), "it would spin");
                let facts = facts(&ra);
                let mut ends = facts.addresses.iter().map(|a| a.valid_until)
                    .chain(facts.routes.iter().map(|r| r.until)).chain(facts.dns.iter().map(|d| d.until));
                prop_assert!(ends.all(|until| until.is_some_and(|t| t > now)));
                prop_assert!(facts.addresses.iter().all(|a| a.prefix.len == 64));
            }
            now = end;
            ra.on_timer(now);
            if flap {
                ra.on_carrier(false, now);
                ra.on_carrier(true, now);
            }
        }
    }
}

fn ra() -> Ra {
    let mut n = 0u32;
    Ra::new(
        "eth0",
        [7; 16],
        Box::new(move || {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            n
        }),
    )
}

fn up() -> Ra {
    let mut ra = ra();
    ra.on_carrier(true, T0);
    ra
}

fn advert() -> RouterAdvert {
    RouterAdvert {
        lifetime: 1800,
        prefixes: vec![prefix("2001:db8:1::/64", 1000, 500)],
        dns: vec![(addr("2001:db8:1::53"), 600)],
        ..RouterAdvert::default()
    }
}

fn with(info: PrefixInfo) -> RouterAdvert {
    RouterAdvert { prefixes: vec![info], ..RouterAdvert::default() }
}

fn prefix(text: &str, valid: u32, preferred: u32) -> PrefixInfo {
    PrefixInfo { prefix: text.parse().unwrap(), on_link: true, autonomous: true, valid, preferred }
}

fn route(text: &str, preference: Preference, lifetime: u32) -> RouteInfo {
    RouteInfo { prefix: text.parse().unwrap(), preference, lifetime }
}

fn own(text: &str, dad_failed: bool) -> Address {
    Address {
        link: 2,
        prefix: Prefix::new(addr(text), 64),
        broadcast: None,
        preferred_until: None,
        valid_until: None,
        no_prefix_route: true,
        protocol: 0,
        dad_failed,
        tentative: false,
    }
}

fn router(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n)
}

fn addr(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn after(seconds: u64) -> Time {
    T0 + Duration::from_secs(seconds)
}

fn facts(ra: &Ra) -> Facts {
    let mut facts = Facts::default();
    ra.facts(&mut facts);
    facts
}

fn routes(ra: &Ra) -> Vec<String> {
    let shown = |via: std::net::IpAddr| format!(" via {via}");
    facts(ra).routes.iter().map(|r| format!("{}{}", r.dst, r.via.map(shown).unwrap_or_default())).collect()
}

fn dns(ra: &Ra) -> Vec<String> {
    facts(ra).dns.iter().map(|d| d.server.to_string()).collect()
}
