//! Strict: an answer that names addresses is withheld until the guard lets packets go there.
//!
//! 1. The addresses of an answer (all A and AAAA records in its answer section, whatever aliases lead to them) are told to the parent,
//!    and the answer waits. Answers with the same addresses wait together.
//! 2. The parent puts them into the guard's sets and says so. Then the clients get the answer.
//! 3. If it cannot, or says nothing for [`PATIENCE`], they get SERVFAIL: an address that no packet can reach would be worse, since a VPN would
//!    keep to it.
//! 4. What was let in a moment ago is not told again. Without a parent nothing new can be let in, but what is in the sets stays there
//!    for long, and is answered for a while.
//!
//! It stands between the engine and the clients, so whatever an answer comes from (a server, the cache, an old entry of it) it comes by here.

use super::Client;
use crate::message::{self, HEADER, Reason, Walk, rcode, rtype, u16_at};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use narrowgate_model::Time;

/// See the module's head.
#[derive(Default)]
pub struct Resolved {
    strict: bool,
    alone: bool,
    waiting: Vec<Waiting>,
    /// What the guard was told, and when.
    admitted: Vec<(IpAddr, Time)>,
    last_id: u32,
}

struct Waiting {
    id: u32,
    told: bool,
    addresses: Vec<IpAddr>,
    until: Time,
    answers: Vec<(Client, Vec<u8>)>,
}

/// What becomes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes to the client now.
    Pass,
    /// It waits for the parent.
    Wait,
    /// This goes in its place.
    Fail(Vec<u8>),
}

impl Resolved {
    /// Whether answers wait at all. A change of it forgets what was let in.
    pub fn set_strict(&mut self, strict: bool) {
        if self.strict != strict {
            self.strict = strict;
            self.admitted.clear();
        }
    }

    /// The parent is gone.
    pub fn orphaned(&mut self) {
        self.alone = true;
    }

    /// Whether this answer to this client may go now; if not, a copy of it is kept.
    pub fn fate(&mut self, now: Time, client: &Client, answer: &[u8]) -> Fate {
        if !self.strict {
            return Fate::Pass;
        }
        let Some(addresses) = addresses(answer) else { return Fate::Fail(failure(answer)) };
        let window = if self.alone { ALONE } else { LATELY };
        let is_admitted =
            |addr: &IpAddr| self.admitted.iter().any(|(a, at)| a == addr && now.0 < at.0 + window);
        if addresses.iter().all(is_admitted) {
            return Fate::Pass;
        }
        let kept: usize = self.waiting.iter().map(|w| w.answers.len()).sum();
        if self.alone || kept >= MOST_WAITING {
            return Fate::Fail(failure(answer));
        }
        let known = self.waiting.iter().position(|w| w.addresses == addresses);
        let place = known.unwrap_or(self.waiting.len());
        if known.is_none() {
            self.last_id = self.last_id.wrapping_add(1);
            let (id, until) = (self.last_id, now + PATIENCE);
            self.waiting.push(Waiting { id, told: false, addresses, until, answers: Vec::new() });
        }
        if let Some(waiting) = self.waiting.get_mut(place) {
            waiting.answers.push((*client, answer.to_vec()));
        }
        Fate::Wait
    }

    /// What the parent has to be told next, if there is anything: a number, and addresses to let in.
    pub fn untold(&mut self) -> Option<(u32, Vec<IpAddr>)> {
        let waiting = self.waiting.iter_mut().find(|w| !w.told)?;
        waiting.told = true;
        Some((waiting.id, waiting.addresses.clone()))
    }

    /// The parent's word about a number: what goes to whom.
    pub fn decided(&mut self, now: Time, id: u32, let_in: bool) -> Vec<(Client, Vec<u8>)> {
        let Some(place) = self.waiting.iter().position(|w| w.id == id) else { return Vec::new() };
        let mut waiting = self.waiting.swap_remove(place);
        if !let_in {
            for (_, answer) in &mut waiting.answers {
                *answer = failure(answer);
            }
            return waiting.answers;
        }
        for addr in waiting.addresses {
            let known = self.admitted.iter().position(|(a, _)| *a == addr);
            let old = known.unwrap_or(if self.admitted.len() < MOST_ADMITTED { MOST_ADMITTED } else { 0 });
            if old < self.admitted.len() {
                self.admitted.remove(old);
            }
            self.admitted.push((addr, now));
        }
        waiting.answers
    }

    /// The failures for what has waited too long with one set of addresses.
    pub fn given_up(&mut self, now: Time) -> Vec<(Client, Vec<u8>)> {
        let late = self.waiting.iter().find(|w| w.until <= now).map(|w| w.id);
        late.map_or(Vec::new(), |id| self.decided(now, id, false))
    }

    /// When something has waited too long.
    pub fn next_due(&self) -> Option<Time> {
        self.waiting.iter().map(|w| w.until).min()
    }
}

/// The addresses in an answer; nothing if it cannot be read, or has more than any name has.
pub(super) fn addresses(answer: &[u8]) -> Option<Vec<IpAddr>> {
    let (mut found, mut walk) = (Vec::new(), Walk::new(answer));
    if u16_at(answer, 6)? == 0 {
        return Some(found);
    }
    while let Some(record) = walk.next(answer).filter(|record| record.section == 0) {
        let data = answer.get(record.rdata..record.end)?;
        let addr = match record.rtype {
            rtype::A => IpAddr::from(*<&[u8; 4]>::try_from(data).ok()?),
            rtype::AAAA => IpAddr::from(*<&[u8; 16]>::try_from(data).ok()?),
            _ => continue,
        };
        if !found.contains(&addr) {
            found.push(addr);
        }
        if found.len() > MOST_ADDRESSES {
            return None;
        }
    }
    // What is behind the answers is nobody's address, and may be as it will.
    (walk.is_whole || walk.is_behind_answers()).then_some(found)
}

/// SERVFAIL in the place of this answer.
#[inline(never)]
fn failure(answer: &[u8]) -> Vec<u8> {
    let mut query = answer.to_vec();
    // The question as it was asked: no answer bit, no records; an OPT if the answer has one.
    let end = message::question_end(answer).unwrap_or(HEADER);
    let edns = has_opt(answer);
    query.truncate(end);
    if let Some([_, _, flags, more, _, one, counts @ ..]) = query.first_chunk_mut::<HEADER>() {
        (*flags, *more, *one) = (*flags & 0x01, *more & 0x10, u8::from(end > HEADER));
        *counts = [0, 0, 0, 0, 0, u8::from(edns)];
    }
    if edns {
        query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    let why = (Reason::Other, "the guard could not be told of the address");
    message::error_reply(&query, rcode::SERVFAIL, Some(why)).unwrap_or_default()
}

fn has_opt(answer: &[u8]) -> bool {
    Walk::new(answer).any(answer, |record| record.rtype == rtype::OPT)
}

/// How long an answer waits for the parent, which needs some milliseconds; a stub waits for seconds, but asks another server soon.
pub const PATIENCE: Duration = Duration::from_millis(400);
/// How long the parent is not told again, in milliseconds.
const LATELY: u64 = 30_000;
/// The same without a parent: well below the time that an element stays in the guard's sets.
const ALONE: u64 = 12 * 3_600_000;
/// Answers that wait at a time.
const MOST_WAITING: usize = 256;
/// Addresses that one answer may let in: what fits a message without TCP.
const MOST_ADDRESSES: usize = 64;
/// Addresses that are remembered.
const MOST_ADMITTED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::query;
    use domain::base::Message;
    use proptest::prelude::*;

    const A: (u16, &[u8]) = (1, &[192, 0, 2, 1]);
    const A2: (u16, &[u8]) = (1, &[192, 0, 2, 2]);
    const AAAA: (u16, &[u8]) = (28, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    const CNAME: (u16, &[u8]) = (5, &[1, b'x', 0]);

    fn answer(records: &[(u16, &[u8])], edns: bool) -> Vec<u8> {
        let mut m = query(7, "vpn.example.net", 1, 0);
        m[2] |= 0x80;
        m[7] = records.len() as u8;
        for (rtype, data) in records {
            m.extend([0xc0, 12]);
            m.extend(rtype.to_be_bytes());
            m.extend([0, 1, 0, 0, 0, 5]);
            m.extend((data.len() as u16).to_be_bytes());
            m.extend(*data);
        }
        if edns {
            m[11] = 1;
            m.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        }
        m
    }

    fn client(n: u16) -> Client {
        Client::Udp { listener: 0, from: ([127, 0, 0, 1], n).into() }
    }

    fn strict() -> Resolved {
        Resolved { strict: true, ..Resolved::default() }
    }

    fn at(ms: u64) -> Time {
        Time(1_000_000 + ms)
    }

    fn is_failure(message: &[u8], edns: bool) -> bool {
        let m = Message::from_octets(message).unwrap();
        m.header().id() == 7
            && m.header().qr()
            && m.header().rcode().to_int() == 2
            && m.header_counts().ancount() == 0
            && m.sole_question().unwrap().qname().to_string() == "vpn.example.net"
            && m.opt().is_some() == edns
    }

    #[test]
    fn an_answer_waits_until_all_its_addresses_are_let_in() {
        let mut r = strict();
        let m = answer(&[CNAME, A, AAAA], true);
        assert_eq!(r.fate(at(0), &client(1), &m), Fate::Wait);
        assert_eq!(r.fate(at(1), &client(2), &m), Fate::Wait);
        let Some((id, addresses)) = &r.untold() else { panic!() };
        assert_eq!(*addresses, ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
        assert_eq!(r.untold(), None, "told once");
        assert_eq!(r.decided(at(2), id + 1, true), [], "another number");
        assert_eq!(r.decided(at(2), *id, true), [(client(1), m.clone()), (client(2), m.clone())]);
        assert_eq!(r.next_due(), None);
        assert_eq!(r.fate(at(3), &client(3), &m), Fate::Pass, "a moment ago");
        assert_eq!(r.fate(at(3), &client(3), &answer(&[A, A2], true)), Fate::Wait, "one of them is new");
        assert_eq!(r.fate(at(40_000), &client(3), &m), Fate::Wait, "also what comes from the cache later");
    }

    #[test]
    fn without_the_parents_word_the_answer_is_a_failure() {
        for edns in [false, true] {
            let mut r = strict();
            let m = answer(&[A], edns);
            assert_eq!(r.fate(at(0), &client(1), &m), Fate::Wait);
            let (id, _) = r.untold().unwrap();
            let refused = r.decided(at(1), id, false);
            assert!(refused.len() == 1 && is_failure(&refused[0].1, edns));
            assert_eq!(r.fate(at(2), &client(1), &m), Fate::Wait, "it is asked anew");
            let due = r.next_due().unwrap();
            assert_eq!(r.given_up(Time(due.0 - 1)), []);
            let late = r.given_up(due);
            assert!(late.len() == 1 && is_failure(&late[0].1, edns));
            assert_eq!((r.next_due(), r.given_up(due)), (None, vec![]));
        }
    }

    #[test]
    fn alone_what_was_let_in_is_answered_and_nothing_else() {
        let mut r = strict();
        assert_eq!(r.fate(at(0), &client(1), &answer(&[A], false)), Fate::Wait);
        let (id, _) = r.untold().unwrap();
        r.decided(at(1), id, true);
        r.orphaned();
        assert_eq!(r.fate(at(3_600_000), &client(1), &answer(&[A], false)), Fate::Pass);
        let Fate::Fail(failure) = r.fate(at(3_600_000), &client(1), &answer(&[A2], false)) else { panic!() };
        assert!(is_failure(&failure, false));
        assert!(matches!(r.fate(at(13 * 3_600_000), &client(1), &answer(&[A], false)), Fate::Fail(_)));
    }

    #[test]
    fn what_names_no_address_passes_and_what_cannot_be_read_does_not() {
        let mut r = strict();
        assert_eq!(r.fate(at(0), &client(1), &answer(&[], true)), Fate::Pass);
        assert_eq!(r.fate(at(0), &client(1), &answer(&[CNAME], true)), Fate::Pass);
        let whole = answer(&[CNAME, A], false);
        let Fate::Fail(failure) = r.fate(at(0), &client(1), &whole[..whole.len() - 1]) else { panic!() };
        assert!(is_failure(&failure, false));
        let many: Vec<[u8; 4]> = (0..=MOST_ADDRESSES as u8).map(|n| [10, 0, 0, n]).collect();
        let many: Vec<(u16, &[u8])> = many.iter().map(|a| (1, &a[..])).collect();
        assert!(matches!(r.fate(at(0), &client(1), &answer(&many, false)), Fate::Fail(_)));
        assert!(matches!(r.fate(at(0), &client(1), &answer(&[(1, &[1, 2, 3])], false)), Fate::Fail(_)));
    }

    #[test]
    fn without_strict_all_passes_and_a_change_forgets() {
        let mut r = Resolved::default();
        let m = answer(&[A], false);
        assert_eq!(r.fate(at(0), &client(1), &m), Fate::Pass);
        r.set_strict(true);
        assert_eq!(r.fate(at(0), &client(1), &m), Fate::Wait);
        let (id, _) = r.untold().unwrap();
        r.decided(at(1), id, true);
        r.set_strict(true);
        assert_eq!(r.fate(at(2), &client(1), &m), Fate::Pass);
        r.set_strict(false);
        r.set_strict(true);
        assert_eq!(r.fate(at(3), &client(1), &m), Fate::Wait, "the sets may have gone meanwhile");
    }

    #[test]
    fn a_flood_does_not_fill_the_memory() {
        let mut r = strict();
        for n in 0..2000u16 {
            let addr = [10, 0, (n >> 8) as u8, n as u8];
            let fate = r.fate(at(0), &client(n), &answer(&[(1, &addr)], false));
            assert_eq!(fate == Fate::Wait, usize::from(n) < MOST_WAITING);
        }
        while let Some((id, _)) = r.untold() {
            r.decided(at(1), id, true);
        }
        assert!(r.admitted.len() <= MOST_ADMITTED && r.waiting.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), few: bool) {
            if few && bytes.len() > 11 {
                (bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[10]) = (0, 1, 0, bytes[7] % 4, 0, 0);
            }
            let mut r = strict();
            let _ = r.fate(at(0), &client(1), &bytes);
            let _ = r.given_up(at(10_000));
            let _ = failure(&bytes);
        }
    }
}
