//! DHCP for IPv6, with the crate dhcproto as the oracle: what it writes we read, what we write it reads.

use critical_section as _; // linked in, for dhcproto
use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, ORO, OptionCode, Status, StatusCode,
    UnknownOption,
};
use dhcproto::{Decodable, Decoder, Encodable};
use narrowgate_wire::dhcp6::{Answer, Ia, Lent, Refused, Request, RequestKind, parse};
use proptest::prelude::*;
use std::net::Ipv6Addr;
use std::time::Duration;

const MAC: [u8; 6] = [2, 0, 0, 0xab, 0xcd, 0xef];
const XID: u32 = 0x12_3456;
const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

#[test]
fn what_we_ask_is_what_the_oracle_reads_and_nothing_more_is_told() {
    use RequestKind::*;
    let ip = addr("2001:db8:1::77");
    for (kind, expected, server, addresses) in [
        (Solicit, MessageType::Solicit, None, &[][..]),
        (Request, MessageType::Request, Some(SERVER), &[ip]),
        (Confirm, MessageType::Confirm, None, &[ip]),
        (Renew, MessageType::Renew, Some(SERVER), &[ip]),
        (Rebind, MessageType::Rebind, None, &[ip]),
        (Release, MessageType::Release, Some(SERVER), &[ip]),
        (Decline, MessageType::Decline, Some(SERVER), &[ip]),
        (Information, MessageType::InformationRequest, None, &[]),
    ] {
        let elapsed = Duration::from_millis(1230);
        let bytes = self::Request { kind, xid: XID, elapsed, mac: MAC, server, addresses }.build();
        let read = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((read.msg_type(), read.xid_num()), (expected, XID));
        let has = |code| read.opts().get(code).cloned();
        assert_eq!(has(OptionCode::ElapsedTime), Some(DhcpOption::ElapsedTime(123)));
        let named = kind != Information;
        let duid = [&[0, 3, 0, 1][..], &MAC].concat();
        assert_eq!(has(OptionCode::ClientId), named.then_some(DhcpOption::ClientId(duid)), "{kind:?}");
        assert_eq!(has(OptionCode::ServerId), server.map(|s| DhcpOption::ServerId(s.to_vec())), "{kind:?}");
        assert_eq!(has(OptionCode::RapidCommit).is_some(), kind == Solicit);
        // RFC 8415, 21.7: what has to be wanted.
        let wanted: Option<Vec<u16>> = match kind {
            Solicit | Request | Renew | Rebind => Some(vec![23, 24, 82, 103]),
            Information => Some(vec![23, 24, 32, 83, 103]),
            Confirm | Release | Decline => None,
        };
        let wanted = wanted
            .map(|codes| DhcpOption::ORO(ORO { opts: codes.into_iter().map(OptionCode::from).collect() }));
        assert_eq!(has(OptionCode::ORO), wanted, "{kind:?}");
        let ia = named.then(|| {
            let mut opts = DhcpOptions::new();
            for addr in addresses {
                let opts_of = DhcpOptions::new();
                opts.insert(DhcpOption::IAAddr(IAAddr {
                    addr: *addr,
                    preferred_life: 0,
                    valid_life: 0,
                    opts: opts_of,
                }));
            }
            DhcpOption::IANA(IANA { id: 0x00ab_cdef, t1: 0, t2: 0, opts })
        });
        assert_eq!(has(OptionCode::IANA), ia);
        let count = 1
            + 2 * usize::from(named)
            + usize::from(server.is_some())
            + usize::from(kind == Solicit)
            + usize::from(!matches!(kind, Confirm | Release | Decline));
        assert_eq!(read.opts().iter().count(), count, "{kind:?} tells more than it has to");
    }
}

#[test]
fn a_whole_answer_is_read_as_the_oracle_wrote_it() {
    let mut message = reply(&[(addr("2001:db8:1::77"), 50, 100)], 10, 20);
    let options = message.opts_mut();
    options.insert(DhcpOption::DomainNameServers(vec![
        addr("2001:db8::53"),
        addr("ff02::1"),
        addr("fe80::1"),
    ]));
    options.insert(unknown(24, b"\x04home\x07example\0\x03lab\x07example\0"));
    options.insert(DhcpOption::RapidCommit);
    options.insert(DhcpOption::InformationRefreshTime(7200));
    options.insert(unknown(82, &3600u32.to_be_bytes()));
    options.insert(unknown(83, &1800u32.to_be_bytes()));
    options.insert(unknown(103, b"https://portal.example/api"));
    assert_eq!(
        read(&message),
        Ok(Answer {
            advertise: false,
            server: SERVER.to_vec(),
            status: 0,
            rapid_commit: true,
            ia: Some(Ia {
                renew: 10,
                rebind: 20,
                status: 0,
                addresses: vec![Lent { address: addr("2001:db8:1::77"), preferred: 50, valid: 100 }],
            }),
            dns: vec![addr("2001:db8::53"), addr("fe80::1")],
            search: vec!["home.example".into(), "lab.example".into()],
            portal: Some("https://portal.example/api".into()),
            refresh: Some(7200),
            most_solicit: Some(3600),
            most_inform: Some(1800),
        })
    );
}

#[test]
fn refusals_are_told_for_the_message_and_for_the_association() {
    let code = |status| DhcpOption::StatusCode(StatusCode { status, msg: "no".into() });
    let mut message = reply(&[], 0, 0);
    message.opts_mut().insert(code(Status::NotOnLink));
    assert_eq!(read(&message).unwrap().status, 4);
    let mut message = reply(&[], 0, 0);
    let mut opts = DhcpOptions::new();
    opts.insert(code(Status::NoBinding));
    message.opts_mut().remove(OptionCode::IANA);
    message.opts_mut().insert(DhcpOption::IANA(IANA { id: 0x00ab_cdef, t1: 0, t2: 0, opts }));
    let ia = read(&message).unwrap().ia.unwrap();
    assert_eq!((ia.status, ia.addresses), (3, vec![]));
}

#[test]
fn what_makes_no_sense_is_as_if_it_were_not_there() {
    assert_eq!(read(&reply(&[(addr("2001:db8::1"), 1, 2)], 30, 20)).unwrap().ia, None, "T1 behind T2");
    for (bad, preferred, valid) in [
        ("2001:db8::1", 3, 2), // preferred for longer than it is valid
        ("fe80::1", 1, 2),
        ("ff02::1", 1, 2),
        ("::", 1, 2),
        ("::1", 1, 2),
    ] {
        let ia = read(&reply(&[(addr(bad), preferred, valid)], 0, 0)).unwrap().ia.unwrap();
        assert_eq!(ia.addresses, [], "{bad}");
    }
    let mut message = reply(&[(addr("2001:db8::1"), 1, 2)], 0, 0);
    message.opts_mut().insert(unknown(103, b"not a uri\n"));
    message.opts_mut().insert(unknown(24, b"\x3fshort"));
    let answer = read(&message).unwrap();
    assert_eq!((answer.portal, answer.search), (None, vec![]));
    // A last option that is cut off.
    let mut bytes = message.to_vec().unwrap();
    bytes.extend([0, 23, 0, 16, 1]);
    assert!(parse(&bytes, XID, Some(MAC)).unwrap().dns.is_empty());
}

#[test]
fn what_is_not_for_us_is_refused_with_its_reason() {
    let good = reply(&[(addr("2001:db8::1"), 1, 2)], 0, 0);
    let bytes = good.to_vec().unwrap();
    assert!(parse(&bytes, XID, Some(MAC)).is_ok());
    assert_eq!(parse(&bytes, XID + 1, Some(MAC)), Err(Refused::Foreign));
    assert_eq!(parse(&bytes, XID, Some([9; 6])), Err(Refused::Foreign));
    assert_eq!(parse(&bytes[..3], XID, Some(MAC)), Err(Refused::Malformed));
    let mut other = good.clone();
    other.opts_mut().remove(OptionCode::ClientId);
    assert_eq!(read(&other), Err(Refused::Foreign), "nobody is named");
    assert!(
        parse(&other.to_vec().unwrap(), XID, None).is_ok(),
        "but nobody has to be, who has not said who asks"
    );
    let mut other = good.clone();
    other.opts_mut().remove(OptionCode::ServerId);
    assert_eq!(read(&other), Err(Refused::Malformed));
    let mut other = good.clone();
    other.set_msg_type(MessageType::Solicit);
    assert_eq!(read(&other), Err(Refused::Malformed));
    let mut ia = good;
    ia.opts_mut().remove(OptionCode::IANA);
    ia.opts_mut().insert(DhcpOption::IANA(IANA { id: 1, t1: 0, t2: 0, opts: DhcpOptions::new() }));
    assert_eq!(read(&ia).unwrap().ia, None, "another association");
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), named: bool) {
        let _ = parse(&bytes, XID, named.then_some(MAC));
    }

    #[test]
    fn no_options_make_the_parser_panic_or_tell_more_than_they_hold(
        options in proptest::collection::vec((0u16..110, proptest::collection::vec(any::<u8>(), 0..80)), 0..10)
    ) {
        let mut bytes = reply(&[], 0, 0).to_vec().unwrap();
        for (code, content) in options {
            bytes.extend(code.to_be_bytes());
            bytes.extend((content.len() as u16).to_be_bytes());
            bytes.extend(content);
        }
        if let Ok(answer) = parse(&bytes, XID, Some(MAC)) {
            prop_assert!(answer.dns.len() * 16 <= bytes.len() && answer.server.len() <= 130);
            prop_assert!(answer.portal.is_none_or(|uri| uri.len() < 256 && uri.is_ascii()));
            prop_assert!(answer.ia.is_none_or(|ia| ia.addresses.len() <= 4));
        }
    }

    /// Whatever the oracle can write of an association, we read the same.
    #[test]
    fn we_read_what_the_oracle_writes(low in 1u16.., preferred: u32, longer: u32, t1: u32, later: u32) {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low);
        let (valid, t2) = (preferred.saturating_add(longer), t1.saturating_add(later));
        let ia = read(&reply(&[(address, preferred, valid)], t1, t2)).unwrap().ia.unwrap();
        prop_assert_eq!((ia.renew, ia.rebind), (t1, t2));
        prop_assert_eq!(ia.addresses, vec![Lent { address, preferred, valid }]);
    }
}

/// A server's reply with these addresses: preferred, valid.
fn reply(addresses: &[(Ipv6Addr, u32, u32)], t1: u32, t2: u32) -> Message {
    let mut message = Message::new(MessageType::Reply);
    message.set_xid_num(XID);
    let mut opts = DhcpOptions::new();
    for &(addr, preferred_life, valid_life) in addresses {
        opts.insert(DhcpOption::IAAddr(IAAddr {
            addr,
            preferred_life,
            valid_life,
            opts: DhcpOptions::new(),
        }));
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::ClientId([&[0, 3, 0, 1][..], &MAC].concat()));
    options.insert(DhcpOption::ServerId(SERVER.to_vec()));
    options.insert(DhcpOption::IANA(IANA { id: 0x00ab_cdef, t1, t2, opts }));
    message
}

fn unknown(code: u16, content: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), content.to_vec()))
}

fn read(message: &Message) -> Result<Answer, Refused> {
    parse(&message.to_vec().unwrap(), XID, Some(MAC))
}

fn addr(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}
