//! Answers from memory when no server gives any (RFC 8767).

use super::reply::push_opt;
use super::{HEADER, Query, Reason, Walk, rtype};
use alloc::vec::Vec;
use core::net::IpAddr;

/// Writes an answer to this query into `into`: these addresses, each with this lifetime in seconds, or NODATA if there are none. A client that sent an OPT gets the reason.
pub fn kept_reply(
    query: &[u8],
    parsed: &Query,
    addresses: &[IpAddr],
    seconds: u32,
    why: (Reason, &str),
    into: &mut Vec<u8>,
) {
    into.clear();
    into.extend_from_slice(query.get(..parsed.question_end).unwrap_or(&[]));
    let Some([_, _, flags, more, counts @ ..]) = into.first_chunk_mut::<HEADER>() else { return };
    // As in an error: the opcode, RD and CD as they were; RA.
    (*flags, *more) = (0x80 | *flags & 0x79, 0x80 | *more & 0x10);
    *counts = [0, 1, 0, addresses.len() as u8, 0, 0, 0, u8::from(parsed.edns.is_some())];
    for addr in addresses {
        into.extend_from_slice(&[0xc0, HEADER as u8]);
        let mut record = |kind: u16, data: &[u8]| {
            into.extend_from_slice(&kind.to_be_bytes());
            into.extend_from_slice(&[0, 1]);
            into.extend_from_slice(&seconds.to_be_bytes());
            into.extend_from_slice(&[0, data.len() as u8]);
            into.extend_from_slice(data);
        };
        match addr {
            IpAddr::V4(addr) => record(rtype::A, &addr.octets()),
            IpAddr::V6(addr) => record(rtype::AAAA, &addr.octets()),
        }
    }
    if let Some(edns) = parsed.edns {
        push_opt(into, edns.dnssec, Some(why));
    }
}

/// Tells the reason in an answer whose last record is an OPT without options, which is where and how servers put it. Others stay as they are.
pub fn add_reason(answer: &mut Vec<u8>, reason: Reason) {
    let (mut walk, mut last) = (Walk::new(answer), None);
    while let Some(record) = walk.next(answer) {
        last = Some(record);
    }
    let Some(last) = last.filter(|_| walk.is_whole) else { return };
    if last.section == 2 && last.rtype == rtype::OPT && last.rdata == answer.len() {
        answer.truncate(last.end - 2);
        let [high, low] = (reason as u16).to_be_bytes();
        answer.extend_from_slice(&[0, 6, 0, 15, 0, 2, high, low]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::query;
    use domain::base::Message;
    use domain::base::opt::ExtendedError;
    use domain::rdata::{A, Aaaa};
    use proptest::prelude::*;

    const WHY: (Reason, &str) = (Reason::StaleAnswer, "no server");

    fn reason(answer: &[u8]) -> Option<u16> {
        let message = Message::from_octets(answer).unwrap();
        let opt = message.opt()?;
        let error = opt.opt().iter::<ExtendedError<&[u8]>>().next()?.unwrap();
        Some(error.code().to_int())
    }

    #[test]
    fn addresses_are_an_answer_that_others_can_read() {
        let addresses = ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap());
        for udp in [0, 1232] {
            let q = query(0xabcd, "Vpn.example.net", 1, udp);
            let mut reply = vec![7; 900];
            kept_reply(&q, &Query::parse(&q).unwrap(), &addresses, 30, WHY, &mut reply);
            let theirs = Message::from_octets(&reply).unwrap();
            let header = theirs.header();
            assert!(header.qr() && header.rd() && header.ra() && !header.aa() && !header.tc());
            assert_eq!((header.id(), header.rcode().to_int()), (0xabcd, 0));
            assert_eq!(theirs.sole_question().unwrap().qname().to_string(), "Vpn.example.net");
            let records: Vec<_> = theirs.answer().unwrap().limit_to::<A>().map(Result::unwrap).collect();
            let found: Vec<IpAddr> = records.iter().map(|r| r.data().addr().into()).collect();
            assert_eq!(found, addresses);
            assert!(
                records.iter().all(|r| r.ttl().as_secs() == 30 && r.owner().to_string() == "Vpn.example.net")
            );
            assert_eq!(reason(&reply), (udp > 0).then_some(3));
        }
    }

    #[test]
    fn no_address_of_that_kind_is_an_answer_too() {
        let q = query(1, "vpn.example.net", 28, 1232);
        let mut reply = Vec::new();
        kept_reply(&q, &Query::parse(&q).unwrap(), &[], 30, WHY, &mut reply);
        let theirs = Message::from_octets(&reply).unwrap();
        assert_eq!((theirs.header().rcode().to_int(), theirs.header_counts().ancount()), (0, 0));
        assert_eq!(reason(&reply), Some(3));
        kept_reply(&q, &Query::parse(&q).unwrap(), &["2001:db8::1".parse().unwrap()], 30, WHY, &mut reply);
        let theirs = Message::from_octets(&reply).unwrap();
        assert_eq!(theirs.answer().unwrap().limit_to::<Aaaa>().count(), 1);
    }

    #[test]
    fn the_most_addresses_of_the_longest_name_fit_every_client_but_the_smallest() {
        let name = ["x".repeat(63), "x".repeat(63), "x".repeat(63), "x".repeat(61)].join(".");
        let q = query(1, &name, 28, 512);
        let mut reply = Vec::new();
        let most = vec!["2001:db8::1".parse().unwrap(); narrowgate_model::peers::MOST_ADDRESSES];
        kept_reply(&q, &Query::parse(&q).unwrap(), &most, 30, WHY, &mut reply);
        assert!(reply.len() < 600, "{}", reply.len());
        assert!(
            Message::from_octets(&reply).unwrap().answer().unwrap().limit_to::<Aaaa>().count() == most.len()
        );
    }

    #[test]
    fn a_reason_goes_into_an_opt_that_is_there() {
        let mut answer = query(1, "a.b", 1, 1232);
        answer[2] |= 0x80;
        add_reason(&mut answer, Reason::StaleAnswer);
        assert_eq!(reason(&answer), Some(3));
        let with = answer.clone();
        add_reason(&mut answer, Reason::StaleAnswer);
        assert_eq!(answer, with, "it has options");
        let mut plain = query(1, "a.b", 1, 0);
        add_reason(&mut plain, Reason::StaleAnswer);
        assert_eq!(plain, query(1, "a.b", 1, 0));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            add_reason(&mut bytes, Reason::StaleAnswer);
        }
    }
}
