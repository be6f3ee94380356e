//! Router Advertisements: what a real router sent, every option by hand, and whatever else may come.

use narrowgate_model::facts::Preference;
use narrowgate_wire::ra::{Malformed, PrefixInfo, RouteInfo, RouterAdvert, packet, parse, solicit};
use proptest::prelude::*;
use std::net::Ipv6Addr;

/// dnsmasq 2.90, recorded from a cable: MTU, high preference, two DNS servers (one link-local), two search domains.
const DNSMASQ: &str = "
    6c00d56300903afffe800000000000006ce0e9fffe5f1cb2ff0200000000000000000000000000018600c4bd40080708
    0000000000000000030440c00000007800000078000000002001 0db800010000000000000000000005010000000005780101
    6ee0e95f1cb21f0500000000007804686f6d65076578616d706c6500036c6162076578616d706c650000000000001905
    00000000007820010db8000100000000000000000053fe800000000000006ce0e9fffe5f1cb2";

#[test]
fn what_a_real_router_sent_is_read_whole() {
    let bytes = hex(DNSMASQ);
    let (source, message) = packet::open(&bytes, true).unwrap();
    assert_eq!(source, addr("fe80::6ce0:e9ff:fe5f:1cb2"));
    assert_eq!(
        parse(message).unwrap(),
        RouterAdvert {
            hop_limit: 64,
            managed: false,
            other: false,
            preference: Preference::High,
            lifetime: 1800,
            source_mac: Some([0x6e, 0xe0, 0xe9, 0x5f, 0x1c, 0xb2]),
            mtu: Some(1400),
            prefixes: vec![PrefixInfo {
                prefix: "2001:db8:1::/64".parse().unwrap(),
                on_link: true,
                autonomous: true,
                valid: 120,
                preferred: 120,
            }],
            routes: vec![],
            dns: vec![(addr("2001:db8:1::53"), 120), (addr("fe80::6ce0:e9ff:fe5f:1cb2"), 120)],
            search: vec![("home.example".into(), 120), ("lab.example".into(), 120)],
            portal: None,
            nat64: vec![],
        }
    );
}

#[test]
fn a_packet_that_no_neighbour_has_sent_is_refused() {
    let good = hex(DNSMASQ);
    let with = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        bad
    };
    assert_eq!(packet::open(&with(7, 254), true), Err(Malformed::Header), "hop limit");
    assert_eq!(packet::open(&with(8, 0x20), true), Err(Malformed::Header), "a global source");
    assert_eq!(packet::open(&with(0, 0x4c), true), Err(Malformed::Header), "version");
    assert_eq!(packet::open(&with(6, 17), true), Err(Malformed::Header), "next header");
    assert_eq!(packet::open(&with(50, 9), true), Err(Malformed::Checksum), "a bit that fell over");
    assert!(packet::open(&with(50, 9), false).is_ok(), "no checksum to check: a sender on this machine");
    assert_eq!(packet::open(&good[..good.len() - 1], true), Err(Malformed::Short));
    assert!(packet::open(&[good, vec![0; 6]].concat(), true).is_ok(), "Ethernet pads short packets");
}

#[test]
fn routes_are_read_in_every_length_that_holds_their_prefix() {
    let route = |body: &[u8]| parse(&advert(&[body])).unwrap().routes;
    let told = |prefix: &str, preference, lifetime| RouteInfo {
        prefix: prefix.parse().unwrap(),
        preference,
        lifetime,
    };
    assert_eq!(route(&[24, 1, 0, 0, 0, 0, 0, 60]), [told("::/0", Preference::Medium, 60)]);
    assert_eq!(
        route(&[24, 2, 48, 0x18, 0, 0, 0, 60, 0x20, 1, 0xd, 0xb8, 0, 5, 0, 0]),
        [told("2001:db8:5::/48", Preference::Low, 60)]
    );
    let mut long = vec![24, 3, 128, 0x08, 0xff, 0xff, 0xff, 0xff];
    long.extend(addr("2001:db8::9").octets());
    assert_eq!(route(&long), [told("2001:db8::9/128", Preference::High, u32::MAX)]);
    assert_eq!(route(&[24, 1, 48, 0, 0, 0, 0, 60]), [], "48 bits do not fit in none");
    assert_eq!(route(&[24, 2, 65, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0]), [], "nor 65 in 64");
    assert_eq!(route(&[24, 1, 0, 0x10, 0, 0, 0, 60]), [], "the reserved preference (RFC 4191, 2.3)");
}

#[test]
fn a_captive_portal_and_a_nat64_are_told_of() {
    let mut portal = vec![37, 4];
    portal.extend(b"https://portal.example/api\0\0\0\0");
    // RFC 8781, 4: 600 s, that is 75 units of 8; the well-known prefix, and a /64 behind code 1.
    let well_known = [38, 2, 0x02, 0x58, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
    let own = [38, 2, 0x02, 0x59, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0x64, 0xff, 0xff, 0, 0];
    let wrong = [38, 2, 0x02, 0x5e, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0x64, 0, 0, 0, 0];
    let read = parse(&advert(&[&portal, &well_known, &own, &wrong, &[38, 1, 0, 0, 0, 0, 0, 0]])).unwrap();
    assert_eq!(read.portal.as_deref(), Some("https://portal.example/api"));
    assert_eq!(
        read.nat64,
        [("64:ff9b::/96".parse().unwrap(), 600), ("2001:db8:0:64::/64".parse().unwrap(), 600)]
    );
    for none in [&b"urn:ietf:params:capport:unrestricted\0\0"[..], b"a\x1b[31m\0", &[0; 6]] {
        let mut option = vec![37, (none.len() as u8 + 2).div_ceil(8)];
        option.extend(none);
        option.resize(usize::from(option[1]) * 8, 0);
        assert_eq!(parse(&advert(&[&option])).unwrap().portal, None);
    }
}

#[test]
fn the_header_says_how_long_how_and_how_well() {
    let mut bytes = advert(&[]);
    (bytes[5], bytes[6], bytes[7]) = (0xc0 | 0x18, 0x12, 0x34);
    let read = parse(&bytes).unwrap();
    assert_eq!(
        (read.managed, read.other, read.preference, read.lifetime),
        (true, true, Preference::Low, 0x1234)
    );
    bytes[5] = 0x10;
    assert_eq!(parse(&bytes).unwrap().preference, Preference::Medium, "the reserved value (RFC 4191, 2.2)");
}

#[test]
fn options_that_are_unknown_or_make_no_sense_are_skipped_and_the_others_hold() {
    let mtu = [5, 1, 0, 0, 0, 0, 5, 0];
    let nonsense: [&[u8]; 6] = [
        &[253, 1, 0, 0, 0, 0, 0, 0],
        &[3, 1, 64, 0xc0, 0, 0, 0, 0], // prefix information, too short
        &[1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], // a link-layer address of 14 bytes
        &[25, 1, 0, 0, 0, 0, 0, 9],    // RDNSS without a server
        &[31, 2, 0, 0, 0, 0, 0, 9, 63, b'a', 0, 0, 0, 0, 0, 0], // DNSSL whose label does not end
        &[31, 2, 0, 0, 0, 0, 0, 9, 0xc0, 0, 0, 0, 0, 0, 0, 0], // compressed, which it must not be
    ];
    for option in nonsense {
        let read = parse(&advert(&[option, &mtu])).unwrap();
        assert_eq!(
            read,
            RouterAdvert { hop_limit: 64, lifetime: 1800, mtu: Some(1280), ..RouterAdvert::default() }
        );
    }
}

#[test]
fn a_message_with_an_option_of_no_length_or_beyond_its_end_is_dropped_whole() {
    assert_eq!(parse(&advert(&[&[5, 0, 0, 0, 0, 0, 5, 0]])), Err(Malformed::Option));
    assert_eq!(parse(&advert(&[&[5, 2, 0, 0, 0, 0, 5, 0]])), Err(Malformed::Option));
    assert_eq!(parse(&advert(&[&[5]])), Err(Malformed::Option));
    assert_eq!(parse(&advert(&[])[..15]), Err(Malformed::Short));
    let mut other = advert(&[]);
    other[0] = 133;
    assert_eq!(parse(&other), Err(Malformed::Type));
    (other[0], other[1]) = (134, 1);
    assert_eq!(parse(&other), Err(Malformed::Type));
}

#[test]
fn a_solicitation_is_what_the_rfc_says() {
    assert_eq!(solicit(None), [133, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(solicit(Some([2, 0, 0, 0, 0, 9]))[8..], [1, 1, 2, 0, 0, 0, 0, 9]);
    // From ::, as Linux sends it; checksum computed by hand: ~(ff02 + 2 + 8 + 3a + 8500).
    let bytes = packet::solicitation(Ipv6Addr::UNSPECIFIED, None);
    let head = hex("6000000000083aff 00000000000000000000000000000000 ff020000000000000000000000000002");
    assert_eq!(bytes[..40], head);
    assert_eq!(bytes[40..], [133, 0, 0x7b, 0xb8, 0, 0, 0, 0]);
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), checked: bool) {
        let _ = packet::open(&bytes, checked);
        let _ = parse(&bytes);
    }

    /// Behind a right header and with right lengths, so that the options themselves are met.
    #[test]
    fn no_options_make_the_parser_panic_or_tell_more_than_they_hold(
        options in proptest::collection::vec((0u8..40, proptest::collection::vec(any::<u8>(), 6..70)), 0..8)
    ) {
        let options: Vec<Vec<u8>> = options.into_iter().map(|(kind, mut body)| {
            body.resize((body.len() + 2).div_ceil(8) * 8 - 2, 0);
            [vec![kind, ((body.len() + 2) / 8) as u8], body].concat()
        }).collect();
        let options: Vec<&[u8]> = options.iter().map(Vec::as_slice).collect();
        let bytes = advert(&options);
        let read = parse(&bytes).unwrap();
        prop_assert!(read.dns.len() * 16 + read.prefixes.len() * 32 + read.routes.len() * 8 <= bytes.len());
        prop_assert!(read.prefixes.iter().all(|p| p.prefix == p.prefix.network()));
        prop_assert!(read.search.iter().all(|(name, _)| !name.is_empty() && name.len() < 254 && name.is_ascii()));
    }

    #[test]
    fn a_solicitation_has_a_right_checksum_from_any_source(source: [u8; 16], mac: Option<[u8; 6]>) {
        let mut source = source;
        (source[0], source[1]) = (0xfe, 0x80);
        let bytes = packet::solicitation(source.into(), mac);
        let (from, message) = packet::open(&bytes, true).unwrap();
        prop_assert_eq!(from, Ipv6Addr::from(source));
        prop_assert_eq!(message.len(), if mac.is_some() { 16 } else { 8 });
    }
}

/// Hop limit 64, lifetime 1800 s, these options.
fn advert(options: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(options.concat());
    bytes
}

fn addr(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
