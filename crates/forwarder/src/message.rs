//! DNS messages as a forwarder sees them (RFC 1035, 4.1): a header, one question, perhaps an OPT, and bytes that are passed on.
//!
//! Nothing is decoded that need not be. A query is looked at up to the end of its additional section, to find its OPT; an
//! answer up to the end of its question. Both stay bytes: only the id, the letters of the question's name and, where a
//! server needs it, the OPT are ever changed.

mod answer;
mod cookie;
mod kept;
mod reply;
mod ttl;

pub use answer::{Mismatch, check_answer};
pub use cookie::{AnswerCookie, CLIENT_COOKIE, add_cookie, has_cookie};
pub use kept::{add_reason, kept_reply};
pub use reply::{Reason, error_reply, truncated};
pub use ttl::{Lifetime, age, has_record, lifetime, set_lifetimes};

/// Length of the header.
pub const HEADER: usize = 12;
/// The longest name, with its lengths and the root (RFC 1035, 2.3.4).
pub const MAX_NAME: usize = 255;
/// What a client without EDNS takes by UDP.
pub const PLAIN_UDP: u16 = 512;
/// What we say that we take by UDP, in an OPT of our own: what crosses every path unfragmented (DNS flag day 2020).
pub const OUR_UDP: u16 = 1232;

/// Response codes (RFC 1035, 4.1.1; RFC 6891).
pub mod rcode {
    /// No error.
    pub const NOERROR: u8 = 0;
    /// The message could not be understood.
    pub const FORMERR: u8 = 1;
    /// The server failed.
    pub const SERVFAIL: u8 = 2;
    /// There is no such name.
    pub const NXDOMAIN: u8 = 3;
    /// That kind of message is not served.
    pub const NOTIMP: u8 = 4;
    /// The server will not.
    pub const REFUSED: u8 = 5;
}

/// Record types that mean something to a forwarder.
pub mod rtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Alias (RFC 1034, 3.6.2).
    pub const CNAME: u16 = 5;
    /// Start of authority: the lifetime of a negative answer.
    pub const SOA: u16 = 6;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// EDNS (RFC 6891).
    pub const OPT: u16 = 41;
    /// Transaction signature (RFC 8945): the bytes must stay as they are.
    pub const TSIG: u16 = 250;
    /// Zone transfers: many messages, so not forwarded.
    pub const IXFR: u16 = 251;
    /// See [`IXFR`].
    pub const AXFR: u16 = 252;
}

/// A client's OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Where its record begins in the message.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// What the client takes by UDP.
    pub udp: u16,
    /// DNSSEC OK (RFC 3225).
    pub dnssec: bool,
}

/// A client's query that can be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query {
    /// The client's id.
    pub id: u16,
    /// Where the question ends: its name begins at 12, type and class are its last four bytes.
    pub question_end: usize,
    /// The type asked for.
    pub qtype: u16,
    /// The class asked for.
    pub class: u16,
    /// The OPT, if there is one.
    pub edns: Option<Edns>,
    /// Whether the message is signed, so that its bytes must not change.
    pub signed: bool,
}

/// What is to be done with a message that is no query to forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Say nothing: it is too short to answer, or is an answer itself.
    Silently,
    /// Answer with this response code.
    With(u8),
}

impl Query {
    /// Looks at a client's message.
    pub fn parse(message: &[u8]) -> Result<Query, Refused> {
        let header: &[u8; HEADER] = message.first_chunk().ok_or(Refused::Silently)?;
        if header[2] & 0x80 != 0 {
            return Err(Refused::Silently); // an answer; answering it could go on for ever
        }
        if header[2] & 0x78 != 0 {
            return Err(Refused::With(rcode::NOTIMP)); // opcodes other than QUERY, NOTIFY and UPDATE among them
        }
        let formerr = Refused::With(rcode::FORMERR);
        if u16_at(message, 4) != Some(1) {
            return Err(formerr); // RFC 9619
        }
        let question_end = question_end(message).ok_or(formerr)?;
        let qtype = u16_at(message, question_end - 4).ok_or(formerr)?;
        let class = u16_at(message, question_end - 2).ok_or(formerr)?;
        if matches!(qtype, rtype::IXFR | rtype::AXFR) {
            return Err(Refused::With(rcode::NOTIMP));
        }
        let mut query = Query {
            id: u16::from_be_bytes([header[0], header[1]]),
            question_end,
            qtype,
            class,
            edns: None,
            signed: false,
        };
        let mut walk = Walk::from(message, question_end);
        let mut at = question_end;
        while let Some(record) = walk.next(message) {
            if record.section == 2 && record.rtype == rtype::OPT {
                if query.edns.is_some() || record.rdata != at + 11 {
                    return Err(formerr); // RFC 6891, 6.1.1: one OPT, of the root
                }
                let edns = Edns {
                    start: at,
                    end: record.end,
                    udp: record.class.max(PLAIN_UDP),
                    dnssec: record.ttl & 0x8000 != 0,
                };
                query.edns = Some(edns);
            }
            query.signed |= record.rtype == rtype::TSIG || record.rtype == 24; // 24: SIG(0), RFC 2931
            at = record.end;
        }
        if walk.is_whole && at == message.len() { Ok(query) } else { Err(formerr) }
    }

    /// The largest answer that the client takes by UDP.
    pub fn udp_limit(&self) -> usize {
        usize::from(self.edns.map_or(PLAIN_UDP, |edns| edns.udp))
    }
}

/// The name in the question of a message that [`Query::parse`] took: lengths and letters, without the type and class behind it.
pub fn question_name<'a>(message: &'a [u8], query: &Query) -> &'a [u8] {
    message.get(HEADER..query.question_end.saturating_sub(4)).unwrap_or(&[])
}

/// Whether two names are the same, whatever the case of their letters. (Lengths are below 64 and so never letters.)
#[inline(never)]
pub(crate) fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    // The standard library's way with slices is for long ones, and 300 bytes more.
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// Where the only question ends. Its name may not be compressed: there is nothing before it to point to.
pub(crate) fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..64 => at += length,
            _ => return None,
        }
        if at - HEADER >= MAX_NAME {
            return None;
        }
    }
    (message.len() >= at + 4).then_some(at + 4)
}

/// One resource record, as far as a forwarder cares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// Where it stands: 0 is among the answers, 1 the authority, 2 behind both. (Only a [`Walk`] knows.)
    pub section: u8,
    pub rtype: u16,
    pub class: u16,
    pub ttl: u32,
    /// Where the lifetime stands.
    pub ttl_at: usize,
    /// Where the data begins.
    pub rdata: usize,
    /// Where the record ends.
    pub end: usize,
}

impl Record {
    /// The record at `at`, if all of it is there.
    pub fn at(message: &[u8], at: usize) -> Option<Record> {
        let fixed = skip_name(message, at)?;
        let head: &[u8; 10] = message.get(fixed..)?.first_chunk()?;
        let [t0, t1, c0, c1, l0, l1, l2, l3, d0, d1] = *head;
        let rdata = fixed + head.len();
        let end = rdata + usize::from(u16::from_be_bytes([d0, d1]));
        (end <= message.len()).then_some(Record {
            section: 0,
            rtype: u16::from_be_bytes([t0, t1]),
            class: u16::from_be_bytes([c0, c1]),
            ttl: u32::from_be_bytes([l0, l1, l2, l3]),
            ttl_at: fixed + 4,
            rdata,
            end,
        })
    }
}

/// A walk along the records of a message.
pub(crate) struct Walk {
    at: usize,
    section: u8,
    /// Records of this section that have not been seen.
    left: u16,
    /// What was looked at was all there.
    pub is_whole: bool,
}

impl Walk {
    /// From the first record on.
    pub fn new(message: &[u8]) -> Walk {
        let question = if u16_at(message, 4) == Some(0) { Some(HEADER) } else { question_end(message) };
        Walk { is_whole: question.is_some(), ..Walk::from(message, question.unwrap_or(usize::MAX)) }
    }

    /// From the first record on, which is there.
    fn from(message: &[u8], at: usize) -> Walk {
        Walk { at, section: 0, left: u16_at(message, 6).unwrap_or(0), is_whole: true }
    }

    /// The next record; nothing at the end, or if it is not all there.
    #[inline(never)]
    pub fn next(&mut self, message: &[u8]) -> Option<Record> {
        while self.left == 0 && self.is_whole && self.section < 2 {
            self.section += 1;
            self.left = u16_at(message, 6 + 2 * usize::from(self.section)).unwrap_or(0);
        }
        self.left = self.left.checked_sub(1)?;
        let record = Record::at(message, self.at).map(|record| Record { section: self.section, ..record });
        match &record {
            Some(record) => self.at = record.end,
            None => (self.is_whole, self.left) = (false, 0),
        }
        record
    }

    /// Whether it has come to the end of the answers.
    pub fn is_behind_answers(&self) -> bool {
        self.section > 0
    }

    /// Whether one of the records to come is so.
    pub fn any(mut self, message: &[u8], is_so: impl Fn(&Record) -> bool) -> bool {
        while let Some(record) = self.next(message) {
            if is_so(&record) {
                return true;
            }
        }
        false
    }
}

/// Where the name at `at` ends in this place; a pointer ends it (RFC 1035, 4.1.4) and is not followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..64 => at += 1 + usize::from(length),
            0xc0.. => return (at + 1 < message.len()).then_some(at + 2),
            _ => return None,
        }
        if at - start >= MAX_NAME {
            return None;
        }
    }
}

/// Two bytes in network order.
#[inline(never)]
pub(crate) fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

/// Writes the id.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

/// Turns the case of the letters in `name` by the bits of `bits`, in turn ("0x20": a forger has to guess them).
/// Lengths are below 64 and so never letters.
pub fn scramble(name: &mut [u8], bits: u64) {
    let mut n = 0;
    for byte in name {
        if byte.is_ascii_alphabetic() {
            *byte = *byte & !0x20 | ((bits >> (n % 64)) as u8 & 1) << 5;
            n += 1;
        }
    }
}

/// The case of the letters in `name`, so that [`scramble`] would write it again. Nothing if they are more than 64, and not of one kind
/// where the bits begin anew.
pub fn case_of(name: &[u8]) -> Option<u64> {
    let (mut bits, mut n) = (0u64, 0);
    for byte in name.iter().filter(|byte| byte.is_ascii_alphabetic()) {
        let bit = u64::from(byte >> 5 & 1);
        if n < 64 {
            bits |= bit << n;
        } else if bits >> (n % 64) & 1 != bit {
            return None;
        }
        n += 1;
    }
    Some(bits)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A query for `name` of type A; with an OPT of this size if it is not 0.
    pub(crate) fn query(id: u16, name: &str, qtype: u16, udp: u16) -> Vec<u8> {
        let mut m = vec![(id >> 8) as u8, id as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, (udp > 0) as u8];
        for label in name.split('.').filter(|l| !l.is_empty()) {
            m.push(label.len() as u8);
            m.extend(label.bytes());
        }
        m.push(0);
        m.extend(qtype.to_be_bytes());
        m.extend([0, 1]);
        if udp > 0 {
            m.extend([0, 0, 41, (udp >> 8) as u8, udp as u8, 0, 0, 0, 0, 0, 0]);
        }
        m
    }

    #[test]
    fn a_plain_query_is_read() {
        let m = query(0x1234, "vpn.example.net", 28, 0);
        let q = Query::parse(&m).unwrap();
        assert_eq!((q.id, q.qtype, q.class, q.edns, q.question_end), (0x1234, 28, 1, None, m.len()));
        assert_eq!(question_name(&m, &q), b"\x03vpn\x07example\x03net\0");
        assert_eq!(q.udp_limit(), 512);
    }

    #[test]
    fn an_opt_tells_the_size_and_dnssec() {
        let mut m = query(1, "a", 1, 1232);
        let at = m.len() - 11;
        m[at + 7] = 0x80;
        let q = Query::parse(&m).unwrap();
        assert_eq!(q.edns, Some(Edns { start: at, end: m.len(), udp: 1232, dnssec: true }));
        let small = query(1, "a", 1, 100);
        assert_eq!(Query::parse(&small).unwrap().udp_limit(), 512);
    }

    #[test]
    fn what_is_no_query_is_refused_as_it_should_be() {
        let good = query(1, "a.b", 1, 4096);
        let change = |at: usize, to: u8| {
            let mut m = good.clone();
            m[at] = to;
            Query::parse(&m)
        };
        assert_eq!(Query::parse(&good[..11]), Err(Refused::Silently));
        assert_eq!(change(2, 0x80), Err(Refused::Silently), "an answer");
        assert_eq!(change(2, 0x28), Err(Refused::With(rcode::NOTIMP)), "UPDATE");
        assert_eq!(change(5, 0), Err(Refused::With(rcode::FORMERR)), "no question");
        assert_eq!(change(5, 2), Err(Refused::With(rcode::FORMERR)), "two questions");
        assert_eq!(change(12, 0xc0), Err(Refused::With(rcode::FORMERR)), "a pointer in the question");
        assert_eq!(change(11, 2), Err(Refused::With(rcode::FORMERR)), "a record that is not there");
        assert_eq!(change(11, 0), Err(Refused::With(rcode::FORMERR)), "bytes behind the message");
        assert_eq!(change(18, 252), Err(Refused::With(rcode::NOTIMP)), "AXFR");
        for end in HEADER..good.len() {
            assert_eq!(Query::parse(&good[..end]), Err(Refused::With(rcode::FORMERR)), "cut at {end}");
        }
        let mut twice = good.clone();
        twice[11] = 2;
        twice.extend(&good[good.len() - 11..]);
        assert_eq!(Query::parse(&twice), Err(Refused::With(rcode::FORMERR)), "two OPTs");
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), answer in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(q) = Query::parse(&bytes) {
                prop_assert!(q.question_end <= bytes.len());
                let _ = check_answer(&answer, &bytes, &q);
                let _ = error_reply(&bytes, 2, Some((Reason::NetworkError, "no carrier")));
                let _ = truncated(&bytes, &q);
            }
            let _ = lifetime(&bytes);
            let mut copy = bytes.clone();
            age(&mut copy, 7);
            prop_assert_eq!(copy.len(), bytes.len());
        }

        #[test]
        fn a_query_that_is_taken_is_one_to_others_too(name in "([a-zA-Z0-9_-]{1,63}\\.){0,3}[a-z]{1,20}", qtype in 1u16..250, udp in prop_oneof![Just(0u16), 512u16..5000]) {
            let m = query(7, &name, qtype, udp);
            let q = Query::parse(&m);
            let theirs = domain::base::Message::from_octets(&m).unwrap();
            let question = theirs.sole_question().unwrap();
            prop_assert_eq!(q.unwrap().qtype, question.qtype().to_int());
            prop_assert_eq!(theirs.opt().map(|o| o.udp_payload_size()), q.unwrap().edns.map(|e| e.udp));
        }

        #[test]
        fn scrambling_changes_nothing_but_case(bits in any::<u64>()) {
            let m = query(7, "Vpn-01.Example.NET", 1, 0);
            let mut s = m.clone();
            scramble(&mut s[12..], bits);
            prop_assert!(s.eq_ignore_ascii_case(&m));
            let mut again = m.clone();
            scramble(&mut again[12..], case_of(&s[12..m.len() - 4]).unwrap());
            prop_assert_eq!(&again, &s);
            let mut back = s.clone();
            scramble(&mut back[12..], bits);
            prop_assert_eq!(back, s);
        }
    }
}
