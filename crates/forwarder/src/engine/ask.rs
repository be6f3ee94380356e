//! Asking servers: which, when, in what form; and what becomes of those that do not answer.

use super::queries::{Outcome, Phase, Query, Try};
use super::{CannotAsk, Client, Engine, GIVE_UP, Outside, ROUND, SlotId, Transport};
use crate::message::{self, HEADER};
use narrowgate_model::Time;
use std::time::Duration;

/// In which form a query is sent.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub edns: bool,
    pub scrambled: bool,
    pub tcp: bool,
    pub cookie: bool,
}

impl Form {
    /// The form that this one had.
    pub fn of(attempt: &Try) -> Form {
        let Try { edns, scrambled, tcp, cookie, .. } = *attempt;
        Form { edns, scrambled, tcp, cookie }
    }
}

impl Engine {
    /// The best server; and a copy to those that are due for a probe.
    pub(super) fn ask_first(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        self.ask_next(now, index, out);
        let Some(query) = self.queries.get(index) else { return };
        let set = usize::from(query.set);
        for at in 0..self.sets.get(set).map_or(0, Vec::len) {
            let Some(number) = self.sets.get(set).and_then(|numbers| numbers.get(at)).copied() else {
                continue;
            };
            let asked = self.queries.get(index).is_some_and(|q| q.tries.iter().any(|t| t.server == number));
            if !asked && self.servers.get_mut(number).is_some_and(|server| server.probe(now)) {
                let _ = self.ask(now, index, number, out);
            }
        }
        self.schedule(now, index);
    }

    /// The best of those that were asked least, and the next if that one cannot be reached. Nothing if none is left.
    pub(super) fn ask_next(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let set = self.queries.get(index).map_or(0, |query| usize::from(query.set));
        for _ in 0..self.sets.get(set).map_or(0, Vec::len) {
            let Some(server) = self.best(index) else { return };
            if self.ask(now, index, server, out).is_ok() {
                return;
            }
        }
    }

    pub(super) fn best(&self, index: u32) -> Option<u16> {
        let query = self.queries.get(index).filter(|query| query.tries.len() < MOST_TRIES)?;
        let numbers = self.sets.get(usize::from(query.set))?;
        let useful = |number: &&u16| {
            !query.tries.iter().any(|t| t.server == **number && t.outcome == Outcome::Refused)
        };
        let order = |number: &&u16| {
            let asked = query.tries.iter().filter(|t| t.server == **number).count();
            (asked, self.servers.get(**number).map(|server| server.rank()))
        };
        numbers.iter().filter(useful).min_by_key(order).copied()
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
        let edns_failed = !server.edns_works && query.tries.iter().any(|t| t.server == number && t.edns);
        // And what came to nothing by TCP may come by UDP.
        let tcp_first = before.map_or(server.tcp_failures < 2, |t| !t.tcp);
        let by_tcp = query.waiters.iter().any(|w| matches!(w.client, Client::Tcp(_)));
        let cookie_failed =
            !server.cookies.are_spoken() && query.tries.iter().any(|t| t.server == number && t.cookie);
        let has_cookie = |edns| message::has_cookie(&query.message, &edns);
        let form = Form {
            edns: query.parsed.signed || takes_edns && !edns_failed,
            scrambled: server.keeps_case && !query.parsed.signed,
            tcp: by_tcp && tcp_first,
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
        let mut attempt = Try {
            server: number,
            slot: 0,
            id: 0,
            sent: now,
            outcome: Outcome::Broken,
            edns: form.edns,
            scrambled: form.scrambled,
            tcp: form.tcp,
            cookie: form.cookie,
            missed: false,
        };
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
    pub(super) fn wake(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let Some(query) = self.queries.get_mut(index) else { return };
        match query.phase {
            Phase::Waiting => self.fail_for_uplink(now, index, out),
            Phase::Held => self.release(now, index, out),
            Phase::Answered => {
                self.blame_the_late(now, index, Duration::ZERO);
                self.remove(index, now, out);
            }
            Phase::Asking => {
                let age = now.since(query.asking_since);
                if age >= GIVE_UP || query.fallback.is_some() && age >= HOPE {
                    return self.give_up(now, index, out);
                }
                if query.stale_at() <= now && self.answer_stale(now, index, out) {
                    self.asked_in_vain(now, index);
                    return self.answered(now, index, out);
                }
                self.blame_the_late(now, index, LATE);
                let later = self.start_over_if_all_broke(now, index).or_else(|| self.later(now, index));
                if let Some(later) = later {
                    return self.queries.wake_at(index, later);
                }
                let hedges = self.queries.get(index).is_some_and(|q| q.tries.iter().any(Try::is_pending));
                self.counters.hedged += u64::from(hedges);
                self.ask_next(now, index, out);
                self.schedule(now, index);
            }
        }
    }

    /// Nobody could be reached: that is no round of questions. The network may be there any moment; but not this one, if each server was
    /// tried twice: a server that nobody listens at says so at once. Then it is when to try again.
    fn start_over_if_all_broke(&mut self, now: Time, index: u32) -> Option<Time> {
        let query = self.queries.get_mut(index)?;
        let servers = self.sets.get(usize::from(query.set)).map_or(0, Vec::len);
        let all_broke = query.fallback.is_none() && query.tries.iter().all(|t| t.outcome == Outcome::Broken);
        if !all_broke || query.tries.len() < 2 * servers {
            return None;
        }
        let again = query.tries.last()?.sent + AGAIN;
        if again > now {
            return Some(again.min(query.asking_since + GIVE_UP));
        }
        for attempt in query.tries.drain(..) {
            self.servers.release(attempt.server);
        }
        None
    }

    /// When to ask again where some say at once that nobody listens and others are silent (so does one server, as Linux sends so many ICMP
    /// errors a second and no more): not whenever an error comes, or the tries are used up before the last one is worth it.
    fn later(&self, now: Time, index: u32) -> Option<Time> {
        let query = self.queries.get(index)?;
        let next = query.tries.last()?.sent + self.apart(query)?;
        (next > now).then(|| next.min(query.asking_since + GIVE_UP))
    }

    /// How far apart the tries behind the second round are, where errors have come: so that they last.
    fn apart(&self, query: &Query) -> Option<Duration> {
        let servers = self.sets.get(usize::from(query.set)).map_or(0, Vec::len);
        let errors = query.tries.iter().any(|t| t.outcome == Outcome::Broken);
        let left = MOST_TRIES.saturating_sub(2 * servers).max(MOST_TRIES / 4) as u32;
        (errors && query.tries.len() >= 2 * servers).then(|| AGAIN.max(GIVE_UP / left))
    }

    /// Servers that were given more than their time and `grace`, and did not use it.
    fn blame_the_late(&mut self, now: Time, index: u32, grace: Duration) {
        let Some(query) = self.queries.get_mut(index) else { return };
        for attempt in query.tries.iter_mut().filter(|t| t.is_pending() && !t.missed) {
            if let Some(server) = self.servers.get_mut(attempt.server)
                && now.since(attempt.sent) >= server.expected().max(grace)
            {
                attempt.missed = true;
                if attempt.cookie {
                    server.cookies.unanswered(now);
                }
                if attempt.tcp { server.tcp_failures += 1 } else { server.missed(now) }
            }
        }
    }

    /// When the next server is asked, if no answer comes before.
    pub(super) fn schedule(&mut self, now: Time, index: u32) {
        let Some(query) = self.queries.get(index).filter(|query| query.phase == Phase::Asking) else {
            return;
        };
        let servers = self.sets.get(usize::from(query.set)).map_or(1, |set| set.len().max(1)) as u32;
        let asked = query.tries.len() as u32;
        let expected = query
            .tries
            .last()
            .filter(|t| t.is_pending())
            .and_then(|t| self.servers.get(t.server))
            .map_or(BETWEEN, |server| server.expected());
        let pause = if !query.tries.iter().any(Try::is_pending) {
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
            let pause = expected.max(PAUSE) * (1 << (asked / servers - 1).min(5));
            let soon = (GIVE_UP * servers / MOST_TRIES as u32).max(SOON);
            if self.queries.len() <= FEW { pause.min(soon) } else { pause }
        };
        let mut end = query.asking_since + GIVE_UP;
        if query.stale_at() > now {
            end = end.min(query.stale_at());
        }
        if query.fallback.is_some() {
            end = end.min(query.asking_since + HOPE);
        }
        self.queries.wake_at(index, end.min(now + pause).max(now));
    }
}

/// The message for this try, as it is sent.
pub(super) fn build(scratch: &mut Vec<u8>, query: &Query, attempt: &Try) {
    scratch.clear();
    scratch.extend_from_slice(&query.message);
    message::set_id(scratch, attempt.id);
    if attempt.scrambled
        && let Some(name) = scratch.get_mut(HEADER..query.parsed.question_end.saturating_sub(4))
    {
        message::scramble(name, query.case);
    }
    if let Some(edns) = query.parsed.edns.filter(|_| !attempt.edns) {
        scratch.drain(edns.start.min(scratch.len())..edns.end.min(scratch.len()));
        if let Some(count) = scratch.get_mut(10..).and_then(|rest| rest.first_chunk_mut()) {
            *count = u16::from_be_bytes(*count).saturating_sub(1).to_be_bytes();
        }
    }
}

/// Between two servers when all have been asked before.
const BETWEEN: Duration = Duration::from_millis(25);
/// When no server could be reached.
const AGAIN: Duration = Duration::from_millis(100);
/// After the first round.
const PAUSE: Duration = Duration::from_millis(150);
/// The longest pause between two rounds, while no more than [`FEW`] queries are under way.
const SOON: Duration = Duration::from_millis(300);
const FEW: usize = 16;
/// How late an answer has to be to be held against its server.
const LATE: Duration = Duration::from_millis(300);
/// With a refusal in hand, how long the others are given.
const HOPE: Duration = Duration::from_millis(900);
/// Questions that one query may lead to.
pub(super) const MOST_TRIES: usize = 48;
