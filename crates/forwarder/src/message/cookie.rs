//! DNS cookies (RFC 7873) as bytes: an option of the OPT, added to a query and taken out of its answer.

use super::{Edns, Walk, rtype, u16_at};
use alloc::vec::Vec;
use core::ops::Range;

/// Length of a client's cookie.
pub const CLIENT_COOKIE: usize = 8;

/// Whether the client put a cookie of its own into its OPT.
pub fn has_cookie(query: &[u8], edns: &Edns) -> bool {
    find(query, edns.start + 11..edns.end).is_some()
}

/// Adds a cookie to the OPT of a query.
#[inline(never)]
pub fn add_cookie(query: &mut Vec<u8>, edns: &Edns, client: &[u8], server: &[u8]) {
    let Some(behind) = query.get(edns.end..).map(<[u8]>::to_vec) else { return };
    let Some(before) = u16_at(query, edns.start + 9) else { return };
    let length = (client.len() + server.len()) as u16;
    if let Some(place) = query.get_mut(edns.start + 9..).and_then(|rest| rest.first_chunk_mut()) {
        *place = before.saturating_add(4 + length).to_be_bytes();
    }
    query.truncate(edns.end);
    let [high, low] = length.to_be_bytes();
    for part in [&[0, COOKIE as u8, high, low], client, server, &behind] {
        query.extend_from_slice(part);
    }
}

/// What an answer's OPT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerCookie {
    /// The upper eight bits of the response code.
    pub extended_rcode: u8,
    /// Where the OPT's length stands, and the option with its head.
    place: Option<(usize, Range<usize>)>,
}

impl AnswerCookie {
    /// Looks for the OPT of an answer, and a cookie in it. Nothing if there is no OPT.
    #[inline(never)]
    pub fn find(answer: &[u8]) -> Option<AnswerCookie> {
        let mut walk = Walk::new(answer);
        while let Some(record) = walk.next(answer) {
            if record.rtype == rtype::OPT && record.section == 2 {
                let option = find(answer, record.rdata..record.end);
                return Some(AnswerCookie {
                    extended_rcode: (record.ttl >> 24) as u8,
                    place: option.map(|option| (record.rdata - 2, option)),
                });
            }
        }
        None
    }

    /// The client's cookie as the server gave it back, and the server's own.
    pub fn parts<'a>(&self, answer: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let (_, option) = self.place.as_ref()?;
        answer.get(option.start + 4..option.end)?.split_at_checked(CLIENT_COOKIE)
    }

    /// Takes the cookie out; the answer's length without it.
    pub fn take_out(&self, answer: &mut [u8]) -> usize {
        let Some((length_at, option)) = &self.place else { return answer.len() };
        if option.end <= answer.len()
            && let Some(length) = answer.get_mut(*length_at..).and_then(|rest| rest.first_chunk_mut())
        {
            *length = u16::from_be_bytes(*length).saturating_sub(option.len() as u16).to_be_bytes();
            answer.copy_within(option.end.., option.start);
            return answer.len() - option.len();
        }
        answer.len()
    }
}

/// The cookie among the options that stand there, with its head.
fn find(message: &[u8], options: Range<usize>) -> Option<Range<usize>> {
    let mut at = options.start;
    while at + 4 <= options.end {
        let end = at + 4 + usize::from(u16_at(message, at + 2)?);
        if end > options.end || end > message.len() {
            return None;
        }
        if u16_at(message, at)? == COOKIE {
            return Some(at..end);
        }
        at = end;
    }
    None
}

/// Its option code.
const COOKIE: u16 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Query;
    use crate::message::tests::query;
    use domain::base::Message;
    use domain::base::opt::Cookie;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cookie_that_is_added_is_one_to_others_and_can_be_taken_out(
            client in any::<[u8; 8]>(),
            server in prop_oneof![Just(Vec::new()), proptest::collection::vec(any::<u8>(), 8..=32)],
            others in proptest::collection::vec((11u16..100, proptest::collection::vec(any::<u8>(), 0..20)), 0..3),
        ) {
            let mut before = query(7, "vpn.example.net", 1, 1232);
            let length_at = before.len() - 2;
            for (code, data) in &others {
                before.extend(code.to_be_bytes());
                before.extend((data.len() as u16).to_be_bytes());
                before.extend(data);
            }
            let length = (before.len() - length_at - 2) as u16;
            before[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
            let edns = Query::parse(&before).unwrap().edns.unwrap();
            prop_assert!(!has_cookie(&before, &edns));
            let mut with = before.clone();
            add_cookie(&mut with, &edns, &client, &server);
            let parsed = Query::parse(&with).unwrap();
            prop_assert!(has_cookie(&with, &parsed.edns.unwrap()));
            let theirs = Message::from_octets(&with).unwrap().opt().unwrap();
            let theirs = theirs.opt().iter::<Cookie>().next().unwrap().unwrap();
            prop_assert_eq!(theirs.client().into_octets(), client);
            prop_assert_eq!(theirs.server().map(|s| s.as_ref().to_vec()).unwrap_or_default(), server.clone());
            let found = AnswerCookie::find(&with).unwrap();
            prop_assert_eq!(found.parts(&with), Some((&client[..], &server[..])));
            let length = found.take_out(&mut with);
            prop_assert_eq!(&with[..length], &before[..]);
        }

        #[test]
        fn no_bytes_do_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(found) = AnswerCookie::find(&bytes) {
                let _ = found.parts(&bytes);
                prop_assert!(found.take_out(&mut bytes) <= bytes.len());
            }
        }
    }
}
