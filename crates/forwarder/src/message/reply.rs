//! The few answers that are our own: errors, and "ask again by TCP".

use super::{HEADER, OUR_UDP, Query, rcode};
use alloc::vec::Vec;

/// Extended error codes (RFC 8914, 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Reason {
    /// Anything else; the text says what.
    Other = 0,
    /// An answer out of the cache whose time is over.
    StaleAnswer = 3,
    /// The resolver's owner does not want this name to be asked.
    Blocked = 15,
    /// This client may not ask that.
    Prohibited = 18,
    /// No server could be asked.
    NoReachableAuthority = 22,
    /// The network is not there.
    NetworkError = 23,
}

/// An error in answer to `query`, whatever that is: its question is repeated if it can be read. A client that sent an OPT gets one with the extended
/// error in it (RFC 8914, 2). Nothing for what is too short to have an id.
pub fn error_reply(query: &[u8], code: u8, why: Option<(Reason, &str)>) -> Option<Vec<u8>> {
    reply(query, Query::parse(query).ok().as_ref(), 0, code, why)
}

/// An empty answer with TC: the client asks again by TCP (RFC 2181, 9). For an answer that is larger than the client takes.
pub fn truncated(query: &[u8], parsed: &Query) -> Option<Vec<u8>> {
    reply(query, Some(parsed), 2, rcode::NOERROR, None)
}

fn reply(
    query: &[u8],
    parsed: Option<&Query>,
    truncated: u8,
    code: u8,
    why: Option<(Reason, &str)>,
) -> Option<Vec<u8>> {
    let end = parsed.map_or(HEADER, |parsed| parsed.question_end);
    let mut reply = query.get(..end)?.to_vec();
    let edns = parsed.and_then(|parsed| parsed.edns);
    let [_, _, flags, more, counts @ ..] = reply.first_chunk_mut::<HEADER>()?;
    // QR, the opcode and RD as they were; RA, since we do recurse, and CD as it was.
    *flags = 0x80 | truncated | *flags & 0x79;
    *more = 0x80 | code & 0x0f | *more & 0x10;
    *counts = [0, parsed.is_some().into(), 0, 0, 0, 0, 0, edns.is_some().into()];
    if let Some(edns) = edns {
        push_opt(&mut reply, edns.dnssec, why);
    }
    Some(reply)
}

pub(super) fn push_opt(reply: &mut Vec<u8>, dnssec: bool, why: Option<(Reason, &str)>) {
    let [high, low] = OUR_UDP.to_be_bytes();
    let dnssec = if dnssec { 0x80 } else { 0 };
    let Some((reason, text)) = why else {
        return reply.extend_from_slice(&[0, 0, 41, high, low, 0, 0, dnssec, 0, 0, 0]);
    };
    // Short enough for any client's 512 bytes beside the longest question; cut where a character begins.
    let mut cut = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let text = text.as_bytes().get(..cut).unwrap_or_default();
    let length = 2 + text.len() as u8;
    // Reasons are below 256. 15: EDE.
    reply.extend_from_slice(&[0, 0, 41, high, low, 0, 0, dnssec, 0, 0, length + 4]);
    reply.extend_from_slice(&[0, 15, 0, length, 0, reason as u8]);
    reply.extend_from_slice(text);
}

const MAX_TEXT: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::query;
    use domain::base::Message;
    use domain::base::opt::ExtendedError;

    #[test]
    fn an_error_says_why_to_a_client_that_can_read_it() {
        let q = query(0xabcd, "vpn.example.net", 1, 1232);
        let reply = error_reply(&q, 2, Some((Reason::NetworkError, "uplink wan: no carrier"))).unwrap();
        let theirs = Message::from_octets(&reply).unwrap();
        assert_eq!(theirs.header().id(), 0xabcd);
        assert_eq!(theirs.header().rcode().to_int(), 2);
        assert!(theirs.header().qr() && theirs.header().rd() && theirs.header().ra());
        assert_eq!(theirs.sole_question().unwrap().qname().to_string(), "vpn.example.net");
        let opt = theirs.opt().unwrap();
        let error = opt.opt().iter::<ExtendedError<&[u8]>>().next().unwrap().unwrap();
        assert_eq!(error.code().to_int(), 23);
        assert_eq!(*error.text().unwrap().unwrap(), *"uplink wan: no carrier");
    }

    #[test]
    fn a_client_without_edns_gets_none() {
        let q = query(1, "a", 1, 0);
        let reply = error_reply(&q, 2, Some((Reason::Other, "x"))).unwrap();
        assert!(Message::from_octets(&reply).unwrap().opt().is_none());
    }

    #[test]
    fn what_cannot_be_read_is_answered_with_a_header() {
        let mut q = query(9, "a", 1, 0);
        q[5] = 2;
        let reply = error_reply(&q, 1, None).unwrap();
        assert_eq!(reply, [0, 9, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(error_reply(&q[..5], 1, None), None);
    }

    #[test]
    fn the_longest_error_fits_everywhere() {
        let name = ["x".repeat(63), "x".repeat(63), "x".repeat(63), "x".repeat(61)].join(".");
        let q = query(9, &name, 1, 512);
        let reply = error_reply(&q, 2, Some((Reason::Other, &"\u{e4}".repeat(500)))).unwrap();
        assert!(reply.len() <= 512 && Message::from_octets(&reply).unwrap().opt().is_some());
    }

    #[test]
    fn truncated_means_ask_by_tcp() {
        let q = query(9, "a.b", 16, 1232);
        let reply = truncated(&q, &Query::parse(&q).unwrap()).unwrap();
        let theirs = Message::from_octets(&reply).unwrap();
        assert!(theirs.header().tc() && theirs.opt().is_some());
        assert_eq!(theirs.header_counts().ancount(), 0);
    }
}
