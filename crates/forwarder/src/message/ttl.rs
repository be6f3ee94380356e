//! Lifetimes of answers: how long one may be kept (RFC 2308), and how an older one is told from a fresh one.

use super::{HEADER, Walk, rcode, rtype, u16_at};

/// How long an answer may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Seconds.
    pub seconds: u32,
    /// Whether it says that there is nothing (RFC 2308).
    pub negative: bool,
}

/// How long this answer may be kept; nothing if it may not be at all: errors, truncated ones, and negative ones without a SOA.
pub fn lifetime(answer: &[u8]) -> Option<Lifetime> {
    let header: &[u8; HEADER] = answer.first_chunk()?;
    let code = header[3] & 0x0f;
    let truncated = header[2] & 2 != 0;
    if truncated || !matches!(code, rcode::NOERROR | rcode::NXDOMAIN) || u16_at(answer, 4)? != 1 {
        return None;
    }
    let (mut walk, mut shortest, mut negative_for) = (Walk::new(answer), u32::MAX, None);
    while let Some(record) = walk.next(answer) {
        if record.rtype == rtype::OPT {
            // The upper eight bits of the response code: BADVERS, BADCOOKIE.
            // And options (cookies, padding, whose subnet) are for this client and no other.
            if record.ttl >> 24 != 0 || record.end != record.rdata {
                return None;
            }
            continue;
        }
        shortest = shortest.min(if record.ttl > i32::MAX as u32 { 0 } else { record.ttl }); // RFC 2181, 8
        if record.section == 1 && record.rtype == rtype::SOA && record.end >= record.rdata + 4 {
            let minimum =
                u32::from(u16_at(answer, record.end - 4)?) << 16 | u32::from(u16_at(answer, record.end - 2)?);
            negative_for = Some(minimum.min(record.ttl));
        }
    }
    if !walk.is_whole {
        return None;
    }
    // NODATA behind a chain of aliases has answers and a SOA: its lifetime is the shortest of them all.
    let negative = code == rcode::NXDOMAIN || u16_at(answer, 6)? == 0 || negative_for.is_some();
    let seconds = match (negative, negative_for) {
        (true, None) => return None,
        (true, Some(seconds)) => seconds.min(shortest),
        (false, _) => shortest,
    };
    (seconds > 0).then_some(Lifetime { seconds, negative })
}

/// Whether there is a record of this type among the answers: aliases alone are none.
pub fn has_record(answer: &[u8], wanted: u16) -> bool {
    Walk::new(answer).any(answer, |record| record.section == 0 && record.rtype == wanted)
}

/// Counts the lifetimes of all records down by so many seconds, down to zero.
pub fn age(answer: &mut [u8], seconds: u32) {
    change_lifetimes(answer, seconds, None);
}

/// Gives all records this lifetime.
pub fn set_lifetimes(answer: &mut [u8], seconds: u32) {
    change_lifetimes(answer, 0, Some(seconds));
}

fn change_lifetimes(answer: &mut [u8], less: u32, fixed: Option<u32>) {
    let mut walk = Walk::new(answer);
    while let Some(record) = walk.next(answer) {
        if record.rtype != rtype::OPT
            && let Some(place) = answer.get_mut(record.ttl_at..).and_then(|rest| rest.first_chunk_mut())
        {
            *place = fixed.unwrap_or(record.ttl.saturating_sub(less)).to_be_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::query;

    fn answer(records: &[(u8, u16, u32, &[u8])], code: u8) -> Vec<u8> {
        let mut m = query(1, "a.b", 1, 0);
        m[2] |= 0x80;
        m[3] = code;
        for (section, rtype, ttl, data) in records {
            m[7 + 2 * usize::from(*section)] += 1;
            m.extend([0xc0, 12]);
            m.extend(rtype.to_be_bytes());
            m.extend([0, 1]);
            m.extend(ttl.to_be_bytes());
            m.extend((data.len() as u16).to_be_bytes());
            m.extend(*data);
        }
        m
    }

    const SOA_600: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 2, 88];

    #[test]
    fn an_answer_lives_as_long_as_its_shortest_record() {
        let m = answer(&[(0, 5, 300, &[0]), (0, 1, 60, &[1, 2, 3, 4])], 0);
        assert_eq!(lifetime(&m), Some(Lifetime { seconds: 60, negative: false }));
        assert_eq!(lifetime(&answer(&[(0, 1, 0, &[1, 2, 3, 4])], 0)), None);
        assert_eq!(lifetime(&answer(&[(0, 1, 1 << 31, &[1, 2, 3, 4])], 0)), None);
    }

    #[test]
    fn a_negative_answer_lives_as_its_soa_says() {
        assert_eq!(
            lifetime(&answer(&[(1, 6, 900, SOA_600)], 3)),
            Some(Lifetime { seconds: 600, negative: true })
        );
        assert_eq!(
            lifetime(&answer(&[(1, 6, 30, SOA_600)], 0)),
            Some(Lifetime { seconds: 30, negative: true })
        );
        assert_eq!(lifetime(&answer(&[], 3)), None, "without a SOA it is not kept");
        let behind_alias = answer(&[(0, 5, 10, &[0]), (1, 6, 900, SOA_600)], 0);
        assert_eq!(lifetime(&behind_alias), Some(Lifetime { seconds: 10, negative: true }));
    }

    #[test]
    fn failures_and_halves_are_not_kept() {
        let record: &[(u8, u16, u32, &[u8])] = &[(0, 1, 60, &[1, 2, 3, 4])];
        assert_eq!(lifetime(&answer(record, 2)), None);
        let mut m = answer(record, 0);
        m[2] |= 2;
        assert_eq!(lifetime(&m), None);
    }

    #[test]
    fn what_was_said_to_one_client_alone_is_not_kept() {
        let with_opt = |data: &[u8]| {
            let mut m = answer(&[(0, 1, 60, &[1, 2, 3, 4])], 0);
            m[11] = 1;
            m.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, data.len() as u8]);
            m.extend(data);
            m
        };
        assert!(lifetime(&with_opt(&[])).is_some());
        assert_eq!(lifetime(&with_opt(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8])), None, "a cookie");
    }

    #[test]
    fn lifetimes_count_down_and_stop_at_nothing() {
        let mut m = answer(&[(0, 5, 300, &[0]), (0, 1, 60, &[1, 2, 3, 4])], 0);
        age(&mut m, 59);
        assert_eq!(lifetime(&m).unwrap().seconds, 1);
        age(&mut m, 59);
        assert_eq!(lifetime(&m), None);
        assert_eq!(m, answer(&[(0, 5, 182, &[0]), (0, 1, 0, &[1, 2, 3, 4])], 0));
    }
}
