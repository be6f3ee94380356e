//! What servers' answers lead to: belief or not, the next server, or the clients' reply.

use super::ask::{MOST_TRIES, build};
use super::cache::give;
use super::queries::{Form, Outcome, Phase, Query, Try};
use super::{Engine, Outside, SlotId};
use crate::message::{self, AnswerCookie, HEADER, Mismatch, Reason, rcode};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use narrowgate_model::Time;

impl Engine {
    /// A message came by a slot.
    pub(super) fn answer(&mut self, now: Time, slot: SlotId, mut bytes: &mut [u8], out: &mut dyn Outside) {
        let flying =
            message::u16_at(bytes, 0).and_then(|id| self.slots.find(slot, id).map(|found| (id, found)));
        let Some((id, (index, place))) = flying else { return self.unmatched(now, slot, out) };
        let Some(query) = self.queries.get_mut(index) else { return };
        let Some(attempt) = query.tries.get(usize::from(place)).copied() else { return };
        let Some(server) = self.servers.get_mut(attempt.server) else { return };
        build(&mut self.scratch, query, &attempt);
        let verdict = match message::check_answer(bytes, &self.scratch, &query.parsed) {
            Ok(code) => Some(code),
            // Letters that were not changed are no secret: a server may write them as it likes.
            Err(Mismatch::Case(code)) => (!attempt.form.scrambled).then_some(code),
            Err(Mismatch::NotAnAnswer | Mismatch::Question) => return self.counters.mismatched += 1,
        };
        let cookie = AnswerCookie::find(bytes).filter(|_| attempt.form.cookie);
        let parts = cookie.as_ref().and_then(|cookie| cookie.parts(bytes));
        if attempt.form.cookie {
            let believed = match parts {
                Some((ours, theirs)) => server.cookies.came(ours, theirs),
                // Errors come from places where a server has not looked at cookies yet.
                None => {
                    let is_error = !matches!(verdict, Some(rcode::NOERROR | rcode::NXDOMAIN))
                        || cookie.as_ref().is_some_and(|c| c.extended_rcode != 0);
                    is_error || server.cookies.missing(now)
                }
            };
            if !believed {
                self.counters.mismatched += 1;
                // If it is the server that has changed, it is asked without one.
                if parts.is_none() && query.phase == Phase::Asking {
                    self.queries.wake_at(index, now);
                }
                return;
            }
        }
        let bad_cookie = parts.is_some() && cookie.as_ref().is_some_and(|c| c.extended_rcode == 1);
        if let Some(cookie) = cookie {
            let length = cookie.take_out(bytes);
            bytes = bytes.get_mut(..length).unwrap_or_default();
        }
        if let Some(attempt) = query.tries.get_mut(usize::from(place)) {
            attempt.outcome = Outcome::Broken;
        }
        self.slots.finish(slot, id, now, out);
        server.answered(now.0.saturating_sub(attempt.sent.0));
        if attempt.form.tcp {
            server.tcp_failures = 0;
        }
        self.lead(now, index, place, verdict, bad_cookie, bytes, out);
    }

    /// To what an answer with this response code leads; without a code its letters are not those that were sent.
    #[allow(clippy::too_many_arguments)] // what was found out about it
    #[inline(never)]
    fn lead(
        &mut self,
        now: Time,
        index: u32,
        place: u8,
        code: Option<u8>,
        bad_cookie: bool,
        bytes: &mut [u8],
        out: &mut dyn Outside,
    ) {
        let Some(query) = self.queries.get_mut(index) else { return };
        let Some(attempt) = query.tries.get(usize::from(place)).copied() else { return };
        let Some(server) = self.servers.get_mut(attempt.server) else { return };
        let mut form = attempt.form;
        let Some(code) = code else {
            // Forged, or a server that does not keep case. Asked once more with plain letters, by a new id, both come to nothing.
            self.counters.wrong_case += 1;
            server.keeps_case = false;
            form.scrambled = false;
            return self.ask_again(now, index, attempt.server, form, out);
        };
        let has_edns = query.parsed.edns.is_some();
        match code {
            // BADCOOKIE: it wants to see its own, which it gave by this. The second time it gets no more of ours, but a connection.
            YXRRSET if bad_cookie => {
                if query.count(attempt.server, |t| t.form.cookie) > 1 {
                    server.cookies.give_up(now);
                    (form.cookie, form.tcp) = (false, true);
                } else {
                    form.cookie = true;
                }
            }
            // The same to a query without any: it wants one now, whatever was found out before.
            YXRRSET
                if form.edns
                    && query.count(attempt.server, |t| t.form.cookie) == 0
                    && query.parsed.edns.is_some_and(|edns| !message::has_cookie(&query.message, &edns))
                    && !query.parsed.signed =>
            {
                server.cookies = Default::default();
                form.cookie = true;
            }
            rcode::FORMERR if form.cookie && !server.cookies.are_spoken() => {
                server.cookies.give_up(now);
                form.cookie = false;
            }
            rcode::FORMERR | rcode::NOTIMP
                if has_edns && form.edns && !server.edns_works && !query.parsed.signed =>
            {
                server.dislikes_edns(now);
                (form.edns, form.cookie) = (false, false);
            }
            rcode::NOERROR | rcode::NXDOMAIN => {
                if has_edns && form.edns {
                    server.edns_works = true;
                } else if has_edns && query.count(attempt.server, |t| t.form.edns && t.is_pending()) > 0 {
                    server.dislikes_edns(now);
                }
                let truncated = bytes.get(2).is_some_and(|flags| flags & 2 != 0);
                if truncated && !form.tcp && query.is_for_tcp() {
                    return self.refused(now, index, place, bytes, Outcome::Broken, out);
                }
                self.set_outcome(index, place, Outcome::Answered);
                return self.deliver(now, index, bytes, true, out);
            }
            _ => {
                if matches!(code, rcode::REFUSED | rcode::NOTIMP) {
                    server.doubt(now);
                }
                return self.refused(now, index, place, bytes, Outcome::Refused, out);
            }
        }
        self.ask_again(now, index, attempt.server, form, out);
    }

    /// The same server in another form.
    fn ask_again(&mut self, now: Time, index: u32, server: u16, form: Form, out: &mut dyn Outside) {
        let Some(query) = self.queries.get(index) else { return };
        match query.phase {
            Phase::Asking if query.tries.len() < MOST_TRIES => {
                if self.ask_in_form(now, index, server, form, out).is_err() {
                    self.queries.wake_at(index, now);
                }
            }
            Phase::Asking | Phase::Waiting | Phase::Held => {}
            Phase::Answered => self.remove_if_done(now, index, out),
        }
    }

    /// A server said no. The next is asked at once; if there is none, and none that might still answer, that is the answer.
    fn refused(
        &mut self,
        now: Time,
        index: u32,
        place: u8,
        bytes: &mut [u8],
        outcome: Outcome,
        out: &mut dyn Outside,
    ) {
        self.set_outcome(index, place, outcome);
        let Some(query) = self.queries.get_mut(index) else { return };
        if query.phase != Phase::Asking {
            return self.remove_if_done(now, index, out);
        }
        let better = |old: &[u8]| goodness(bytes) > goodness(old);
        if query.fallback.as_deref().is_none_or(better) {
            query.fallback = Some(Box::from(&*bytes));
        }
        self.counters.server_failures += 1;
        let under_way = |server: u16| {
            let query = self.queries.get(index);
            query.is_some_and(|q| q.count(server, Try::is_pending) > 0)
        };
        if self.best(index).is_some_and(|server| !under_way(server)) {
            self.ask_next(now, index, out);
        }
        if self.queries.get(index).is_some_and(Query::is_pending) {
            self.schedule(now, index);
        } else if self.best(index).is_none() || outcome == Outcome::Refused {
            self.give_up(now, index, out);
        } else {
            self.queries.wake_at(index, now);
        }
    }

    /// The best refusal that came, or our own.
    pub(super) fn give_up(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        self.asked_in_vain(now, index);
        let Some(query) = self.queries.get_mut(index) else { return };
        match query.fallback.take() {
            Some(mut bytes) => {
                if self.answer_stale(now, index, out) {
                    return self.answered(now, index, out);
                }
                if message::u16_at(&bytes, 4) != Some(1) {
                    // A bare header. Clients want to see their question.
                    return self.fail(now, index, Reason::Other, "the DNS server could not answer this", out);
                }
                self.deliver(now, index, &mut bytes, false, out);
            }
            None => {
                let set = query.set;
                let text = match self.members(set) {
                    0 => "the uplink told of no DNS server".to_owned(),
                    1 => "the DNS server does not answer".to_owned(),
                    n => format!("none of {n} DNS servers answers"),
                };
                self.fail(now, index, Reason::NoReachableAuthority, &text, out);
            }
        }
    }

    /// Gives the answer to all that wait for it, under their ids and with the question as they wrote it.
    fn deliver(&mut self, now: Time, index: u32, bytes: &mut [u8], keep: bool, out: &mut dyn Outside) {
        let Some(query) = self.queries.get(index) else { return };
        let phase = query.phase;
        restore_question(bytes, query);
        if keep && self.upstreams.default.is_none() {
            self.aliases.learn(bytes, query.set);
        }
        if keep {
            self.cache.keep(now, &query.message, &query.parsed, bytes, out);
            self.learn_peer(index, bytes);
            self.has_answered(now, index);
        }
        if phase == Phase::Answered {
            return self.remove_if_done(now, index, out);
        }
        if phase != Phase::Held && !self.hold_back(now, index, bytes, out) {
            self.pass_on(now, index, bytes, out);
        }
    }

    /// To every client that waits, under its id.
    pub(super) fn pass_on(&mut self, now: Time, index: u32, bytes: &mut [u8], out: &mut dyn Outside) {
        let Some(query) = self.queries.get(index) else { return };
        for waiter in &query.waiters {
            self.counters.answers += 1;
            give(bytes, waiter, &query.message, &query.parsed, out);
        }
        self.answered(now, index, out);
    }

    fn set_outcome(&mut self, index: u32, place: u8, outcome: Outcome) {
        if let Some(attempt) = self.queries.get_mut(index).and_then(|q| q.tries.get_mut(usize::from(place))) {
            attempt.outcome = outcome;
        }
    }

    /// Of one that is answered nothing is left to be learnt. (One that is held still has its clients.)
    fn remove_if_done(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let done = |q: &Query| q.phase == Phase::Answered && !q.is_pending();
        if self.queries.get(index).is_some_and(done) {
            self.remove(index, now, out);
        }
    }
}

/// The question as the client wrote it. A refusal may have none.
fn restore_question(bytes: &mut [u8], query: &Query) {
    let question = HEADER..query.parsed.question_end;
    if message::u16_at(bytes, 4) == Some(1)
        && let (Some(theirs), Some(ours)) = (bytes.get_mut(question.clone()), query.message.get(question))
    {
        theirs.copy_from_slice(ours);
    }
}

/// The lower four bits of BADCOOKIE (RFC 7873, 8).
const YXRRSET: u8 = 7;

/// Which of two useless answers says more: half an answer, then that it failed, then that it will not, then that it did not understand.
fn goodness(answer: &[u8]) -> u8 {
    match answer.get(3).map_or(0, |byte| byte & 0x0f) {
        rcode::NOERROR | rcode::NXDOMAIN => 4,
        rcode::SERVFAIL => 3,
        rcode::REFUSED => 2,
        _ => 1,
    }
}
