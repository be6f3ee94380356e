//! The peers' addresses on disk: what was written is read, and nothing else is.

use narrowgate_wire::peers::{MAX_FILE, Peer, format, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;

fn peer(name: &str, addresses: &[&str]) -> Peer {
    (name.to_owned(), addresses.iter().map(|a| a.parse().unwrap()).collect())
}

#[test]
fn the_file_is_text_that_a_person_can_read() {
    let peers = [peer("vpn.example.net", &["198.51.100.1", "2001:db8::1"]), peer("vpn2.example.net", &[])];
    let text = format(&peers);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["narrowgate peers 1", "vpn.example.net 198.51.100.1 2001:db8::1"]);
    assert!(lines.len() == 3 && lines[2].starts_with("sum: "), "{text}");
    assert_eq!(parse(text.as_bytes()).unwrap(), peers[..1], "a name without an address says nothing");
    assert_eq!(parse(format(&[]).as_bytes()), Ok(vec![]));
}

#[test]
fn another_version_and_another_program_are_told_from_damage() {
    let text = format(&[peer("vpn.example.net", &["198.51.100.1"])]);
    let other = "it is of another kind or version";
    for bytes in ["", "narrowgate peers", "nameserver 192.0.2.1\n", &text.replace("peers 1", "peers 2")] {
        assert_eq!(parse(bytes.as_bytes()), Err(other), "{bytes}");
    }
    for bytes in
        ["narrowgate peers 1\n", &text[..text.len() - 1], &(text.clone() + "\n"), &(text.clone() + &text)]
    {
        assert_eq!(parse(bytes.as_bytes()), Err("it is damaged"), "{bytes}");
    }
}

/// Sums are right, and still: no such thing was ever written by us.
#[test]
fn what_we_would_not_write_is_not_believed() {
    for wrong in [
        peer("-vpn.example.net", &["198.51.100.1"]),
        peer("VPN.example.net", &["198.51.100.1"]),
        peer("vpn.example.net.", &["198.51.100.1"]),
        peer("sum:", &["198.51.100.1"]),
        peer("192.0.2.1", &["198.51.100.1"]),
        peer("vpn.example.net", &["127.0.0.1"]),
        peer("vpn.example.net", &["ff02::1"]),
        peer("vpn.example.net", &["0.0.0.0"]),
    ] {
        assert_eq!(parse(format(std::slice::from_ref(&wrong)).as_bytes()), Err("it is damaged"), "{wrong:?}");
    }
}

#[test]
fn it_is_small_however_much_there_is() {
    let addresses: Vec<IpAddr> =
        (0..100u16).map(|n| [0x2001, 0xdb8, 1, 2, 3, 4, 0x5555, 0x1000 + n].into()).collect();
    let label = "x".repeat(62);
    let peers: Vec<Peer> =
        (0..1000).map(|n| (format!("{label}.{label}.{label}.x{n:05}"), addresses.clone())).collect();
    let text = format(&peers);
    assert!(text.len() <= MAX_FILE, "{}", text.len());
    assert!(parse(text.as_bytes()).is_ok_and(|read| read.len() == 64 && read[0].1.len() == 16));
}

fn peers() -> impl Strategy<Value = Vec<Peer>> {
    let host = prop_oneof![
        (1u8..127, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d])),
        any::<[u16; 7]>().prop_map(|[b, c, d, e, f, g, h]| IpAddr::from([0x2001, b, c, d, e, f, g, h])),
    ];
    vec(("[a-z0-9_]{1,20}(\\.[a-z][a-z0-9]{0,9}){1,3}", vec(host, 1..9)), 0..9)
}

proptest! {
    #[test]
    fn what_is_written_is_read(peers in peers()) {
        prop_assert_eq!(parse(format(&peers).as_bytes()).unwrap(), peers);
    }

    #[test]
    fn half_of_it_or_one_wrong_byte_is_nothing(peers in peers(), at in any::<prop::sample::Index>(), bits in 1u8..) {
        let text = format(&peers).into_bytes();
        let at = at.index(text.len());
        prop_assert!(parse(&text[..at]).is_err());
        let mut wrong = text.clone();
        wrong[at] ^= bits;
        prop_assert!(parse(&wrong).is_err());
        wrong[at..].fill(0); // what a flash has after a power failure
        prop_assert!(parse(&wrong).is_err());
    }

    #[test]
    fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..200), headed: bool) {
        let header = if headed { &b"narrowgate peers 1\n"[..] } else { &[] };
        let _ = parse(&[header, &bytes].concat());
    }
}
