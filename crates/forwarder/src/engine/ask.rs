//! Asking servers: which, when, in what form; and what becomes of those that do not answer.

use super::queries::{Form, Outcome, Phase, Query, Try};
use super::servers::Server;
use super::{CannotAsk, Engine, Outside, SlotId, Transport};
use crate::message::{self, HEADER};
use alloc::vec::Vec;
use narrowgate_model::Time;

impl Engine {
    /// The best server; and a copy to those that are due for a probe.
    pub(super) fn ask_first(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        self.ask_next(now, index, out);
        let Some(query) = self.queries.get(index) else { return };
        let (set, mut n) = (query.set, 0);
        while let Some(number) = self.member(set, n) {
            n += 1;
            let asked = self.queries.get(index).is_some_and(|q| q.count(number, |_| true) > 0);
            if !asked && self.servers.get_mut(number).is_some_and(|server| server.probe(now)) {
                let _ = self.ask(now, index, number, out);
            }
        }
        self.schedule(now, index);
    }

    /// The best of those that were asked least, and the next if that one cannot be reached. Nothing if none is left.
    pub(super) fn ask_next(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let set = self.queries.get(index).map_or(0, |query| query.set);
        for _ in 0..self.members(set) {
            let Some(server) = self.best(index) else { return };
            if self.ask(now, index, server, out).is_ok() {
                return;
            }
        }
    }

    pub(super) fn best(&self, index: u32) -> Option<u16> {
        let query = self.queries.get(index).filter(|query| query.tries.len() < MOST_TRIES)?;
        let (mut best, mut least) = (None, u64::MAX);
        for number in self.sets.get(usize::from(query.set))? {
            if query.count(*number, |t| t.outcome == Outcome::Refused) > 0 {
                continue;
            }
            let (doubtful, mean) = self.servers.get(*number).map_or((true, u32::MAX), Server::rank);
            let asked = query.count(*number, |_| true) as u64;
            let order = asked << 33 | u64::from(doubtful) << 32 | u64::from(mean);
            if order < least {
                (best, least) = (Some(*number), order);
            }
        }
        best
    }

    pub(super) fn ask(
        &mut self,
        now: Time,
        index: u32,
        number: u16,
        out: &mut dyn Outside,
    ) -> Result<(), CannotAsk> {
        let (Some(query), Some(server)) = (self.queries.get(index), self.servers.get_mut(number)) else {
            return Err(CannotAsk::NoSocket);
        };
        let takes_edns = server.takes_edns(now);
        let before = query.tries.iter().rfind(|t| t.server == number);
        // A server that never answered with EDNS may be one that drops it: try the other way in the next round.
        let edns_failed = !server.edns_works && query.count(number, |t| t.form.edns) > 0;
        // And what came to nothing by TCP may come by UDP.
        let tcp_first = before.map_or(server.tcp_failures < 2, |t| !t.form.tcp);
        let cookie_failed = !server.cookies.are_spoken() && query.count(number, |t| t.form.cookie) > 0;
        let has_cookie = |edns| message::has_cookie(&query.message, &edns);
        let form = Form {
            edns: query.parsed.signed || takes_edns && !edns_failed,
            scrambled: server.keeps_case && !query.parsed.signed,
            tcp: query.is_for_tcp() && tcp_first,
            cookie: server.edns_works
                && takes_edns
                && server.cookies.are_on(now)
                && !cookie_failed
                && !query.parsed.signed
                && query.parsed.edns.is_some_and(|edns| !has_cookie(edns)),
        };
        self.ask_in_form(now, index, number, form, out)
    }

    pub(super) fn ask_in_form(
        &mut self,
        now: Time,
        index: u32,
        number: u16,
        form: Form,
        out: &mut dyn Outside,
    ) -> Result<(), CannotAsk> {
        let (Some(query), Some(server)) = (self.queries.get_mut(index), self.servers.get_mut(number)) else {
            return Err(CannotAsk::NoSocket);
        };
        let transport = if form.tcp { Transport::Tcp } else { Transport::Udp };
        let mut attempt =
            Try { server: number, slot: 0, id: 0, sent: now, outcome: Outcome::Broken, form, missed: false };
        self.counters.asked += 1;
        let taken = self.slots.take(now, number, server.addr, transport, out);
        let result = match taken {
            Ok((slot, id)) => {
                (attempt.slot, attempt.id) = (slot, id);
                build(&mut self.scratch, query, &attempt);
                if let Some(edns) = query.parsed.edns.filter(|_| form.cookie) {
                    let (ours, theirs) = server.cookies.outgoing(|| out.random());
                    message::add_cookie(&mut self.scratch, &edns, ours, theirs);
                }
                out.send(slot, &self.scratch)
            }
            Err(error) => Err(error),
        };
        if result.is_ok() {
            attempt.outcome = Outcome::Pending;
            self.slots.fly(attempt.slot, attempt.id, index, query.tries.len() as u8); // MOST_TRIES fits
        } else if result == Err(CannotAsk::Unreachable) {
            self.counters.unreachable += 1;
            server.doubt(now);
        }
        query.tries.push(attempt);
        self.servers.hold(number);
        if result.is_err()
            && let Ok((slot, _)) = taken
        {
            self.slot_failed(now, slot, out);
        }
        result
    }

    /// All that was in flight by this slot has to find another way. Not here, but at the next tick: else one failure could lead to the next without end.
    pub(super) fn slot_failed(&mut self, now: Time, slot: SlotId, out: &mut dyn Outside) {
        let tcp = self.slots.is_tcp(slot);
        let (server, disappointed) = self.give_slot_up(now, slot, out);
        if let Some(server) = server.and_then(|number| self.servers.get_mut(number))
            && disappointed
        {
            self.counters.unreachable += 1;
            if tcp { server.tcp_failures += 1 } else { server.doubt(now) }
        }
    }

    /// Closes a slot; its server, and whether anything was in flight by it.
    fn give_slot_up(&mut self, now: Time, slot: SlotId, out: &mut dyn Outside) -> (Option<u16>, bool) {
        let (server, flying) = self.slots.fail(slot, out);
        for (_, index, place) in &flying {
            if let Some(query) = self.queries.get_mut(*index) {
                if let Some(attempt) = query.tries.get_mut(usize::from(*place)) {
                    attempt.outcome = Outcome::Broken;
                }
                // Others wait for something else than this slot.
                if matches!(query.phase, Phase::Asking | Phase::Answered) {
                    self.queries.wake_at(*index, now);
                }
            }
        }
        (server, !flying.is_empty())
    }

    /// Nobody waits for that id. Many of them mean that somebody has found the port and tries all ids: then the questions are asked again from other ports.
    pub(super) fn unmatched(&mut self, now: Time, slot: SlotId, out: &mut dyn Outside) {
        self.counters.unmatched += 1;
        if self.slots.is_besieged(slot) {
            self.give_slot_up(now, slot, out);
        }
    }

    /// An alarm went off.
    #[inline(never)]
    pub(super) fn wake(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let Some(query) = self.queries.get_mut(index) else { return };
        match query.phase {
            Phase::Waiting => self.fail_for_uplink(now, index, out),
            Phase::Held => self.release(now, index, out),
            Phase::Answered => {
                self.blame_the_late(now, index, 0);
                self.remove(index, now, out);
            }
            Phase::Asking => {
                let age = now.0.saturating_sub(query.asking_since.0);
                if age >= GIVE_UP || query.fallback.is_some() && age >= HOPE {
                    return self.give_up(now, index, out);
                }
                if query.stale_at() <= now && self.answer_stale(now, index, out) {
                    self.asked_in_vain(now, index);
                    return self.answered(now, index, out);
                }
                self.blame_the_late(now, index, LATE);
                let later = self.start_over_if_all_broke(now, index).or_else(|| self.later(now, index));
                let Some(query) = self.queries.get(index) else { return };
                if let Some(later) = later {
                    let end = Time(query.asking_since.0 + GIVE_UP);
                    return self.queries.wake_at(index, later.min(end));
                }
                self.counters.hedged += u64::from(query.is_pending());
                self.ask_next(now, index, out);
                self.schedule(now, index);
            }
        }
    }

    /// Nobody could be reached: that is no round of questions. The network may be there any moment; but not this one, if each server was
    /// tried twice: a server that nobody listens at says so at once. Then it is when to try again.
    fn start_over_if_all_broke(&mut self, now: Time, index: u32) -> Option<Time> {
        let query = self.queries.get_mut(index)?;
        let all_broke = query.fallback.is_none() && query.tries.iter().all(|t| t.outcome == Outcome::Broken);
        let again = Time(query.tries.last()?.sent.0 + AGAIN);
        let (set, tries) = (query.set, query.tries.len());
        if !all_broke || tries < 2 * self.members(set) {
            return None;
        }
        if again > now {
            return Some(again);
        }
        let query = self.queries.get_mut(index)?;
        while let Some(attempt) = query.tries.pop() {
            self.servers.release(attempt.server);
        }
        None
    }

    /// When to ask again where some say at once that nobody listens and others are silent (so does one server, as Linux sends so many ICMP
    /// errors a second and no more): not whenever an error comes, or the tries are used up before the last one is worth it.
    fn later(&self, now: Time, index: u32) -> Option<Time> {
        let query = self.queries.get(index)?;
        let next = Time(query.tries.last()?.sent.0 + self.apart(query)?);
        (next > now).then_some(next)
    }

    /// How far apart the tries behind the second round are, where errors have come: so that they last.
    fn apart(&self, query: &Query) -> Option<u64> {
        let servers = self.members(query.set);
        let errors = query.tries.iter().any(|t| t.outcome == Outcome::Broken);
        let left = MOST_TRIES.saturating_sub(2 * servers).max(MOST_TRIES / 4) as u64;
        (errors && query.tries.len() >= 2 * servers).then(|| AGAIN.max(GIVE_UP / left))
    }

    /// Servers that were given more than their time and `grace`, and did not use it.
    fn blame_the_late(&mut self, now: Time, index: u32, grace: u64) {
        let Some(query) = self.queries.get_mut(index) else { return };
        for attempt in query.tries.iter_mut().filter(|t| t.is_pending() && !t.missed) {
            if let Some(server) = self.servers.get_mut(attempt.server)
                && now.0.saturating_sub(attempt.sent.0) >= server.expected().max(grace)
            {
                attempt.missed = true;
                if attempt.form.cookie {
                    server.cookies.unanswered(now);
                }
                if attempt.form.tcp { server.tcp_failures += 1 } else { server.missed(now) }
            }
        }
    }

    /// When the next server is asked, if no answer comes before.
    pub(super) fn schedule(&mut self, now: Time, index: u32) {
        let Some(query) = self.queries.get(index).filter(|query| query.phase == Phase::Asking) else {
            return;
        };
        let servers = self.members(query.set).max(1) as u64;
        let asked = query.tries.len() as u64;
        let last = query.tries.last().filter(|t| t.is_pending());
        let expected = last.and_then(|t| self.servers.get(t.server)).map_or(BETWEEN, Server::expected);
        let pause = if !query.is_pending() {
            AGAIN
        } else if let Some(apart) = self.apart(query) {
            apart
        } else if asked < servers {
            expected.min(ROUND / servers)
        } else if !asked.is_multiple_of(servers) {
            BETWEEN
        } else {
            // The end of a round. Each pause is twice the one before; but while few queries wait, as on a node that comes up, a server that
            // comes to life is to be noticed soon: as soon as the tries go round.
            let pause = expected.max(PAUSE) << (asked / servers - 1).min(5);
            let soon = (GIVE_UP * servers / MOST_TRIES as u64).max(SOON);
            if self.queries.len() <= FEW { pause.min(soon) } else { pause }
        };
        let (mut at, stale_at) = (now.0 + pause, query.stale_at());
        let end = if query.fallback.is_some() { HOPE } else { GIVE_UP };
        at = at.min(query.asking_since.0 + end);
        if stale_at > now {
            at = at.min(stale_at.0);
        }
        self.queries.wake_at(index, Time(at).max(now));
    }
}

/// The message for this try, as it is sent.
pub(super) fn build(scratch: &mut Vec<u8>, query: &Query, attempt: &Try) {
    let message = &query.message[..];
    let left_out = query.parsed.edns.filter(|_| !attempt.form.edns);
    let (before, behind) = left_out.map_or((message, None), |edns| {
        (message.get(..edns.start).unwrap_or_default(), message.get(edns.end..))
    });
    scratch.clear();
    scratch.extend_from_slice(before);
    if let Some(behind) = behind {
        scratch.extend_from_slice(behind);
        if let Some(count) = scratch.get_mut(10..).and_then(|rest| rest.first_chunk_mut()) {
            *count = u16::from_be_bytes(*count).saturating_sub(1).to_be_bytes();
        }
    }
    message::set_id(scratch, attempt.id);
    if attempt.form.scrambled
        && let Some(name) = scratch.get_mut(HEADER..query.parsed.question_end.saturating_sub(4))
    {
        message::scramble(name, query.case);
    }
}

/// Milliseconds between two servers when all have been asked before.
const BETWEEN: u64 = 25;
/// When no server could be reached.
const AGAIN: u64 = 100;
/// After the first round.
const PAUSE: u64 = 150;
/// The longest pause between two rounds, while no more than [`FEW`] queries are under way.
const SOON: u64 = 300;
const FEW: usize = 16;
/// How late an answer has to be to be held against its server.
const LATE: u64 = 300;
/// With a refusal in hand, how long the others are given.
const HOPE: u64 = 900;
/// How long servers are asked before the client is told that none answers.
const GIVE_UP: u64 = 4500;
/// Within this time all servers have been asked once.
const ROUND: u64 = 400;
/// Questions that one query may lead to.
pub(super) const MOST_TRIES: usize = 48;
