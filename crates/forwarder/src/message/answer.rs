//! Does an answer belong to a question? (RFC 5452, 9.1: what a forger has to hit.)

use super::{HEADER, Query, is_same_name, rcode, u16_at};

/// Why an answer is not believed. The id, port and address were compared before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// It is no answer at all.
    NotAnAnswer,
    /// It answers another question.
    Question,
    /// It answers our question, with this response code, but with letters in another case than they were sent in.
    Case(u8),
}

/// Compares an answer with the query as it was sent. The response code, if it belongs to it.
///
/// A server that could not read the query, or will not, may leave the question out (RFC 8906, 3): then the code says so.
pub fn check_answer(answer: &[u8], sent: &[u8], query: &Query) -> Result<u8, Mismatch> {
    let header: &[u8; HEADER] = answer.first_chunk().ok_or(Mismatch::NotAnAnswer)?;
    if header[2] & 0x80 == 0 || header[2] & 0x78 != 0 {
        return Err(Mismatch::NotAnAnswer);
    }
    let code = header[3] & 0x0f;
    match u16_at(answer, 4) {
        Some(1) => {}
        Some(0) if matches!(code, rcode::FORMERR | rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED) => {
            return Ok(code);
        }
        _ => return Err(Mismatch::NotAnAnswer),
    }
    let question = HEADER..query.question_end;
    let theirs = answer.get(question.clone()).and_then(<[u8]>::split_last_chunk::<4>);
    let ours = sent.get(question).and_then(<[u8]>::split_last_chunk::<4>);
    let (Some((their_name, their_kind)), Some((name, kind))) = (theirs, ours) else {
        return Err(Mismatch::Question);
    };
    match their_name == name {
        _ if their_kind != kind => Err(Mismatch::Question),
        true => Ok(code),
        false if is_same_name(their_name, name) => Err(Mismatch::Case(code)),
        false => Err(Mismatch::Question),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::query;

    #[test]
    fn only_the_same_question_is_an_answer() {
        let sent = query(1, "vpn.example.net", 1, 0);
        let q = Query::parse(&sent).unwrap();
        let mut answer = sent.clone();
        answer[2] |= 0x80;
        answer[3] = rcode::NXDOMAIN;
        assert_eq!(check_answer(&answer, &sent, &q), Ok(rcode::NXDOMAIN));
        let with = |at: usize, to: u8| {
            let mut a = answer.clone();
            a[at] = to;
            check_answer(&a, &sent, &q)
        };
        assert_eq!(with(2, 0), Err(Mismatch::NotAnAnswer));
        assert_eq!(with(13, b'V'), Err(Mismatch::Case(rcode::NXDOMAIN)));
        assert_eq!(with(13, b'x'), Err(Mismatch::Question));
        assert_eq!(with(sent.len() - 3, 28), Err(Mismatch::Question));
        assert_eq!(with(5, 2), Err(Mismatch::NotAnAnswer));
        assert_eq!(check_answer(&answer[..20], &sent, &q), Err(Mismatch::Question));
        assert_eq!(check_answer(&answer[..5], &sent, &q), Err(Mismatch::NotAnAnswer));
    }

    #[test]
    fn a_refusal_may_leave_the_question_out_but_an_answer_may_not() {
        let sent = query(1, "a", 1, 0);
        let q = Query::parse(&sent).unwrap();
        let bare = |code: u8| [0, 1, 0x80, code, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(check_answer(&bare(rcode::FORMERR), &sent, &q), Ok(rcode::FORMERR));
        assert_eq!(check_answer(&bare(rcode::NXDOMAIN), &sent, &q), Err(Mismatch::NotAnAnswer));
    }
}
