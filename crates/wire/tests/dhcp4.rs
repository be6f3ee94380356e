//! DHCP for IPv4, with the crate dhcproto as the oracle: what it writes we read, what we write it reads.

use critical_section as _; // linked in, for dhcproto
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use narrowgate_model::Prefix;
use narrowgate_wire::dhcp4::{Lease, Refused, Reply, Request, RequestKind, Unusable, packet, parse};
use proptest::prelude::*;
use std::net::Ipv4Addr;

const MAC: [u8; 6] = [2, 0, 0, 0xab, 0xcd, 0xef];
const XID: u32 = 0x1234_5678;
const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[test]
fn what_we_ask_is_what_the_oracle_reads_and_nothing_more_is_told() {
    use RequestKind::*;
    let (address, server) = (IP, SERVER);
    for (kind, expected, ciaddr) in [
        (Discover { wish: Some(IP) }, MessageType::Discover, Ipv4Addr::UNSPECIFIED),
        (Select { address, server }, MessageType::Request, Ipv4Addr::UNSPECIFIED),
        (Reboot { address }, MessageType::Request, Ipv4Addr::UNSPECIFIED),
        (Extend { address }, MessageType::Request, IP),
        (Release { address, server }, MessageType::Release, IP),
        (Decline { address, server }, MessageType::Decline, Ipv4Addr::UNSPECIFIED),
    ] {
        let bytes = Request { kind, xid: XID, secs: 7, mac: MAC }.build();
        assert!(bytes.len() >= 300);
        let read = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((read.opcode(), read.xid(), read.secs()), (Opcode::BootRequest, XID, 7));
        assert_eq!((read.chaddr(), read.ciaddr(), read.flags()), (&MAC[..], ciaddr, Flags::default()));
        assert_eq!(read.opts().msg_type(), Some(expected));
        // RFC 2131, tables 4 and 5.
        let requested = !matches!(kind, Extend { .. } | Release { .. });
        let identified = matches!(kind, Select { .. } | Release { .. } | Decline { .. });
        let wants = !matches!(kind, Release { .. } | Decline { .. });
        let has = |code| read.opts().get(code);
        assert_eq!(
            has(OptionCode::RequestedIpAddress),
            requested.then_some(&DhcpOption::RequestedIpAddress(IP))
        );
        assert_eq!(
            has(OptionCode::ServerIdentifier),
            identified.then_some(&DhcpOption::ServerIdentifier(SERVER))
        );
        assert_eq!(has(OptionCode::MaxMessageSize), wants.then_some(&DhcpOption::MaxMessageSize(1500)));
        assert_eq!(has(OptionCode::ParameterRequestList).is_some(), wants);
        let id = DhcpOption::ClientIdentifier([&[1], &MAC[..]].concat());
        assert_eq!(has(OptionCode::ClientIdentifier), Some(&id));
        let count = 2 + usize::from(requested) + usize::from(identified) + 2 * usize::from(wants);
        assert_eq!(read.opts().iter().count(), count, "{kind:?} tells more than it has to");
    }
}

#[test]
fn a_whole_lease_is_read_as_the_oracle_wrote_it() {
    let mut message = ack();
    let options = message.opts_mut();
    options.insert(DhcpOption::Router(vec![SERVER, Ipv4Addr::new(192, 0, 2, 2)]));
    options.insert(DhcpOption::DomainNameServer(vec![
        SERVER,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::new(198, 51, 100, 53),
    ]));
    options.insert(DhcpOption::DomainName("Home.example\0".into()));
    options.insert(DhcpOption::BroadcastAddr(Ipv4Addr::new(192, 0, 2, 255)));
    options.insert(DhcpOption::InterfaceMtu(1400));
    options.insert(DhcpOption::Renewal(100));
    options.insert(DhcpOption::Rebinding(200));
    assert_eq!(
        lease(&message),
        Ok(Lease {
            address: "192.0.2.77/24".parse().unwrap(),
            server: SERVER,
            time: Some(3600),
            renew: Some(100),
            rebind: Some(200),
            routes: vec![
                (Prefix::DEFAULT_V4, Some(SERVER)),
                (Prefix::DEFAULT_V4, Some(Ipv4Addr::new(192, 0, 2, 2)))
            ],
            dns: vec![SERVER, Ipv4Addr::new(198, 51, 100, 53)],
            broadcast: Some(Ipv4Addr::new(192, 0, 2, 255)),
            mtu: Some(1400),
            search: vec!["home.example".into()],
            portal: None,
        })
    );
}

#[test]
fn classless_routes_go_before_static_ones_and_routers() {
    let mut message = ack();
    let options = message.opts_mut();
    options.insert(DhcpOption::Router(vec![SERVER]));
    options.insert(DhcpOption::StaticRoutingTable(vec![
        (Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(192, 0, 2, 3)),
        (Ipv4Addr::new(203, 0, 113, 9), Ipv4Addr::new(192, 0, 2, 4)),
        (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 5)),
    ]));
    let via = |d| Some(Ipv4Addr::new(192, 0, 2, d));
    let shown = |message: &Message| {
        lease(message).unwrap().routes.iter().map(|(dst, via)| (dst.to_string(), *via)).collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&message),
        [
            ("10.0.0.0/8".into(), via(3)),
            ("203.0.113.9/32".into(), via(4)),
            ("0.0.0.0/0".into(), Some(SERVER))
        ]
    );
    // RFC 3442's own examples of how a destination is written.
    let classless = [
        &[0, 192, 0, 2, 6][..],
        &[8, 10, 192, 0, 2, 7],
        &[24, 10, 0, 0, 0, 0, 0, 0],
        &[25, 10, 229, 0, 128, 192, 0, 2, 8],
    ];
    let bytes = insert_raw(&message, 121, &classless.concat());
    let routes: Vec<(String, Option<Ipv4Addr>)> =
        read(&bytes).unwrap().routes.iter().map(|(dst, via)| (dst.to_string(), *via)).collect();
    let expected =
        [("0.0.0.0/0", via(6)), ("10.0.0.0/8", via(7)), ("10.0.0.0/24", None), ("10.229.0.128/25", via(8))];
    assert_eq!(routes, expected.map(|(d, v)| (d.to_string(), v)));
}

#[test]
fn times_that_are_missing_or_out_of_order_are_what_the_rfc_says() {
    let times = |time: Option<u32>, t1: Option<u32>, t2: Option<u32>| {
        let mut message = ack();
        let options = message.opts_mut();
        options.remove(OptionCode::AddressLeaseTime);
        time.map(|t| options.insert(DhcpOption::AddressLeaseTime(t)));
        t1.map(|t| options.insert(DhcpOption::Renewal(t)));
        t2.map(|t| options.insert(DhcpOption::Rebinding(t)));
        lease(&message).map(|l| (l.time, l.renew, l.rebind))
    };
    assert_eq!(times(Some(800), None, None), Ok((Some(800), Some(400), Some(700))));
    assert_eq!(times(Some(800), Some(700), Some(600)), Ok((Some(800), Some(400), Some(600))));
    assert_eq!(times(Some(800), Some(900), Some(900)), Ok((Some(800), Some(400), Some(700))));
    assert_eq!(
        times(None, None, None),
        Ok((Some(3600), Some(1800), Some(3150))),
        "a server that does not say"
    );
    assert_eq!(times(Some(u32::MAX), None, None), Ok((None, None, None)), "for ever");
    assert_eq!(times(Some(u32::MAX), Some(60), None), Ok((None, Some(60), None)));
    assert_eq!(times(Some(0), None, None), Err(Refused::Unusable(Unusable::Time)));
}

#[test]
fn one_option_that_is_malformed_does_not_cost_the_lease() {
    for (code, content) in
        [(119, &[5u8, b'a'][..]), (15, &[0xff, 0xfe]), (51, &[1, 2]), (121, &[33]), (26, &[1])]
    {
        let bytes = insert_raw(&ack(), code, content);
        assert!(read(&bytes).is_ok(), "option {code}");
    }
    let mut cut = to_bytes(&ack());
    let end = cut.iter().rposition(|b| *b == 255).unwrap();
    cut[end] = 6; // a last option without a length, in place of the end
    cut.truncate(end + 1);
    assert!(read(&cut).is_ok());
}

#[test]
fn a_captive_portal_is_told_of() {
    let portal = |content: &[u8]| read(&insert_raw(&ack(), 114, content)).unwrap().portal;
    assert_eq!(portal(b"https://portal.example/api").as_deref(), Some("https://portal.example/api"));
    assert_eq!(portal(b"urn:ietf:params:capport:unrestricted"), None);
    assert_eq!(portal(b"two words"), None);
}

#[test]
fn arp_packets_are_what_the_rfcs_say() {
    use narrowgate_wire::dhcp4::arp;
    let probe = arp::probe(MAC, IP);
    assert_eq!(probe[..14], [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0xab, 0xcd, 0xef]);
    assert_eq!(probe[14..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 77]);
    assert_eq!(arp::sender(&probe), Some((MAC, Ipv4Addr::UNSPECIFIED)));
    let announcement = arp::announcement(MAC, IP);
    assert_eq!(announcement[14..], [192, 0, 2, 77, 0, 0, 0, 0, 0, 0, 192, 0, 2, 77]);
    assert_eq!(arp::sender(&announcement), Some((MAC, IP)));
    for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (6, 1), (7, 3)] {
        let mut other = announcement.clone();
        other[at] = value;
        assert_eq!(arp::sender(&other), None, "byte {at}");
    }
    assert_eq!(arp::sender(&announcement[..17]), None);
}

#[test]
fn long_and_overloaded_options_are_put_together() {
    // RFC 3396: the same code twice is one option.
    let bytes = insert_raw(&ack(), 6, &[192, 0, 2, 53, 198, 51]);
    let bytes = insert_raw_bytes(&bytes, 6, &[100, 53]);
    assert_eq!(read(&bytes).unwrap().dns, [Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(198, 51, 100, 53)]);
    // RFC 2132, 9.3: `file` holds options as well. dhcproto does not read these.
    let mut bytes = insert_raw(&ack(), 52, &[1]);
    bytes[108..115].copy_from_slice(&[6, 4, 192, 0, 2, 54, 255]);
    assert_eq!(read(&bytes).unwrap().dns, [Ipv4Addr::new(192, 0, 2, 54)]);
}

#[test]
fn search_domains_are_read_with_their_pointers_which_cannot_loop() {
    // home.example, lab.<example>.
    let names = [&[4u8][..], b"home", &[7], b"example", &[0, 3], b"lab", &[0xc0, 5]].concat();
    assert_eq!(read(&insert_raw(&ack(), 119, &names)).unwrap().search, ["home.example", "lab.example"]);
    for looping in [&[0xc0u8, 0][..], &[1, b'a', 0xc0, 0], &[0xc0, 2, 0xc0, 0]] {
        assert!(read(&insert_raw(&ack(), 119, looping)).unwrap().search.len() <= 1);
    }
}

#[test]
fn what_is_not_for_us_or_cannot_be_used_is_refused_with_its_reason() {
    let good = to_bytes(&ack());
    assert_eq!(parse(&good, XID + 1, MAC), Err(Refused::Foreign));
    assert_eq!(parse(&good, XID, [9; 6]), Err(Refused::Foreign));
    assert_eq!(parse(&good[..239], XID, MAC), Err(Refused::Malformed));
    let mut request = ack();
    request.set_opcode(Opcode::BootRequest);
    assert_eq!(lease(&request), Err(Refused::Malformed));
    for bad in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)]
    {
        let mut message = ack();
        message.set_yiaddr(bad);
        assert_eq!(lease(&message), Err(Refused::Unusable(Unusable::Address)), "{bad}");
    }
    let mut message = ack();
    message.opts_mut().remove(OptionCode::ServerIdentifier);
    assert_eq!(lease(&message), Err(Refused::Unusable(Unusable::Server)));
    let mut nak = ack();
    nak.opts_mut().insert(DhcpOption::MessageType(MessageType::Nak));
    assert_eq!(parse(&to_bytes(&nak), XID, MAC), Ok(Reply::Nak(Some(SERVER))));
}

#[test]
fn a_mask_that_is_missing_or_has_holes_is_that_of_the_class() {
    let mut message = ack();
    message.opts_mut().insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0)));
    message.set_yiaddr(Ipv4Addr::new(10, 1, 2, 3));
    assert_eq!(lease(&message).unwrap().address.to_string(), "10.1.2.3/8");
    message.opts_mut().insert(DhcpOption::SubnetMask(Ipv4Addr::BROADCAST));
    assert_eq!(lease(&message).unwrap().address.to_string(), "10.1.2.3/32");
}

#[test]
fn the_headers_are_right_and_damage_is_seen() {
    let mut packet = packet::broadcast(Ipv4Addr::UNSPECIFIED, b"hello");
    assert_eq!(packet[..10], [0x45, 0, 0, 33, 0, 0, 0x40, 0, 64, 17]);
    assert_eq!(packet[12..28], [0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67, 0, 13, packet[26], packet[27]]);
    assert_eq!(packet::open(&packet, true), None, "for the server, not for us");
    (packet[21], packet[23]) = (67, 68); // answered: the sums stay the same
    assert_eq!(packet::open(&packet, true), Some(&b"hello"[..]));
    assert_eq!(packet::open(&[packet.clone(), vec![0; 20]].concat(), true), Some(&b"hello"[..]), "padding");
    for at in [0, 3, 6, 9, 12, 23, 25, 27, 30] {
        let mut bad = packet.clone();
        bad[at] ^= 0x21;
        assert_eq!(packet::open(&bad, true), None, "byte {at}");
    }
    packet[30] ^= 1;
    assert_eq!(
        packet::open(&packet, false),
        Some(&b"hemlo"[..]),
        "a sender on this machine leaves the sum out"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700), checked: bool) {
        let _ = packet::open(&bytes, checked);
        let _ = parse(&bytes, XID, MAC);
    }

    #[test]
    fn no_options_make_the_parser_panic(content in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = to_bytes(&ack());
        bytes.truncate(bytes.iter().rposition(|b| *b == 255).unwrap());
        bytes.extend(content);
        let _ = read(&bytes);
    }

    /// Whatever the oracle can read of our kind of message, we read the same.
    #[test]
    fn we_read_what_the_oracle_writes(
        ip in 0x0100_0000u32..0x7f00_0000, len in 1u8..=32, time in 1u32..u32::MAX,
        dns in proptest::collection::vec(0x0100_0000u32..0x7f00_0000, 0..80),
        routers in proptest::collection::vec(0x0100_0000u32..0x7f00_0000, 0..5),
        mtu in 576u16..,
    ) {
        let mask = Ipv4Addr::from(u32::MAX << (32 - len));
        let addresses = |list: &[u32]| list.iter().map(|a| Ipv4Addr::from(*a)).collect::<Vec<_>>();
        let mut message = ack();
        message.set_yiaddr(Ipv4Addr::from(ip));
        let options = message.opts_mut();
        options.insert(DhcpOption::SubnetMask(mask));
        options.insert(DhcpOption::AddressLeaseTime(time));
        options.insert(DhcpOption::DomainNameServer(addresses(&dns)));
        options.insert(DhcpOption::Router(addresses(&routers)));
        options.insert(DhcpOption::InterfaceMtu(mtu));
        let read = lease(&message).unwrap();
        prop_assert_eq!(read.address, Prefix::new(Ipv4Addr::from(ip), len));
        prop_assert_eq!(read.time, Some(time));
        prop_assert!(read.renew <= read.rebind && read.rebind <= read.time);
        prop_assert_eq!(read.dns, addresses(&dns));
        let via: Vec<Ipv4Addr> = read.routes.iter().filter_map(|r| r.1).collect();
        prop_assert_eq!(via, addresses(&routers));
        prop_assert_eq!(read.mtu, Some(mtu));
    }
}

/// 192.0.2.77/24 from 192.0.2.1 for an hour.
fn ack() -> Message {
    let mut message = Message::default();
    message.set_opcode(Opcode::BootReply).set_xid(XID).set_chaddr(&MAC).set_yiaddr(IP);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(MessageType::Ack));
    options.insert(DhcpOption::ServerIdentifier(SERVER));
    options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    options.insert(DhcpOption::AddressLeaseTime(3600));
    message
}

fn to_bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn read(bytes: &[u8]) -> Result<Lease, Refused> {
    match parse(bytes, XID, MAC)? {
        Reply::Ack(lease) => Ok(lease),
        other => panic!("{other:?}"),
    }
}

fn lease(message: &Message) -> Result<Lease, Refused> {
    read(&to_bytes(message))
}

/// The message with one more option at its end, which the oracle would refuse to write.
fn insert_raw(message: &Message, code: u8, content: &[u8]) -> Vec<u8> {
    insert_raw_bytes(&to_bytes(message), code, content)
}

fn insert_raw_bytes(message: &[u8], code: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let end = bytes.iter().rposition(|b| *b == 255).unwrap();
    bytes.truncate(end);
    bytes.extend([code, content.len() as u8]);
    bytes.extend(content);
    bytes.push(255);
    bytes
}
