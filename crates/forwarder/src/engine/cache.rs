//! Answers kept for a while, within a number of bytes. Those whose time is over stay as long as there is room: an old
//! address is better than none when no server answers (RFC 8767).

use super::queries::Waiter;
use super::{Client, Engine, Outside, address};
use crate::message::{self, HEADER, Query, age, lifetime};
use narrowgate_model::Time;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

struct Entry {
    answer: Box<[u8]>,
    stored: Time,
    fresh: Duration,
    /// Since it was last passed over by the sweep.
    used: bool,
    /// It is being fetched anew.
    ending: bool,
}

/// See the module's head.
pub(super) struct Cache {
    limit: usize,
    bytes: usize,
    entries: HashMap<Box<[u8]>, Entry>,
    /// In the order in which they are considered for removal.
    order: VecDeque<Box<[u8]>>,
    key: Vec<u8>,
}

impl Cache {
    /// A cache of so many bytes, its own bookkeeping included. 0 keeps nothing.
    pub fn new(limit: usize) -> Cache {
        Cache { limit, bytes: 0, entries: HashMap::new(), order: VecDeque::new(), key: Vec::new() }
    }

    /// Keeps an answer to this query, if it may be kept.
    pub fn keep(&mut self, now: Time, query: &[u8], parsed: &Query, answer: &[u8]) {
        if self.limit == 0 || parsed.signed || answer.len() > self.limit / 4 {
            return;
        }
        let Some(lifetime) = lifetime(answer) else { return };
        let longest = if lifetime.negative { LONGEST_NEGATIVE } else { LONGEST };
        let fresh = Duration::from_secs(lifetime.seconds.into()).min(longest);
        self.set_key(query, parsed);
        let size = cost(&self.key, answer);
        if let Some(old) = self.entries.get_mut(self.key.as_slice()) {
            self.bytes = self.bytes + answer.len() - old.answer.len();
            *old = Entry { answer: answer.into(), stored: now, fresh, used: true, ending: false };
        } else {
            let key: Box<[u8]> = self.key.as_slice().into();
            self.bytes += size;
            self.order.push_back(key.clone());
            self.entries
                .insert(key, Entry { answer: answer.into(), stored: now, fresh, used: false, ending: false });
        }
        self.shrink();
    }

    /// Takes the oldest out that was not used since it was last considered.
    fn shrink(&mut self) {
        while self.bytes > self.limit {
            let Some(key) = self.order.pop_front() else { return };
            match self.entries.get_mut(&key) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.order.push_back(key);
                }
                Some(entry) => {
                    self.bytes -= cost(&key, &entry.answer);
                    self.entries.remove(&key);
                }
                None => {}
            }
        }
    }

    /// The answer to this query as it is now, in `into`. With `stale` also one whose time is over, with a short lifetime.
    pub fn find(&mut self, now: Time, query: &[u8], parsed: &Query, stale: bool, into: &mut Vec<u8>) -> bool {
        if self.limit == 0 || parsed.signed {
            return false;
        }
        self.set_key(query, parsed);
        let Some(entry) = self.entries.get_mut(self.key.as_slice()) else { return false };
        let old = now.since(entry.stored);
        let over = old >= entry.fresh;
        if over && (!stale || old >= entry.fresh + STALEST) {
            return false;
        }
        entry.used = true;
        into.clear();
        into.extend_from_slice(&entry.answer);
        let seconds = u32::try_from(old.as_secs()).unwrap_or(u32::MAX);
        if over {
            message::set_lifetimes(into, STALE_SECONDS)
        } else {
            age(into, seconds)
        }
        true
    }

    /// Whether the answer that was found last is in the last tenth of its lifetime. It is said once.
    pub fn is_ending(&mut self, now: Time) -> bool {
        let Some(entry) = self.entries.get_mut(self.key.as_slice()).filter(|entry| !entry.ending) else {
            return false;
        };
        entry.ending = now.since(entry.stored) >= entry.fresh / 10 * 9;
        entry.ending
    }

    /// What makes an answer another one: the question, and the bits by which a client says what it wants to see.
    fn set_key(&mut self, query: &[u8], parsed: &Query) {
        self.key.clear();
        let (rd, cd) = (query.get(2).map_or(0, |b| b & 1), query.get(3).map_or(0, |b| b & 0x30));
        let dnssec = parsed.edns.is_some_and(|edns| edns.dnssec);
        self.key.push(rd | cd | (parsed.edns.is_some() as u8) << 1 | (dnssec as u8) << 2);
        let name = parsed.question_end.saturating_sub(4);
        self.key.extend(query.get(HEADER..name).unwrap_or(&[]).iter().map(u8::to_ascii_lowercase));
        self.key.extend_from_slice(query.get(name..parsed.question_end).unwrap_or(&[]));
    }
}

impl Engine {
    pub(super) fn answer_from_cache(
        &mut self,
        now: Time,
        waiter: &Waiter,
        bytes: &[u8],
        query: &Query,
        out: &mut dyn Outside,
    ) -> bool {
        if !self.cache.find(now, bytes, query, false, &mut self.scratch) {
            return false;
        }
        self.counters.cached += 1;
        reply_kept(&mut self.scratch, waiter, bytes, query, out);
        true
    }
}

/// Gives an answer that was kept to a client, in its words.
pub(super) fn reply_kept(
    kept: &mut [u8],
    waiter: &Waiter,
    bytes: &[u8],
    query: &Query,
    out: &mut dyn Outside,
) {
    let question = HEADER..query.question_end;
    if let (Some(to), Some(from)) = (kept.get_mut(question.clone()), bytes.get(question)) {
        to.copy_from_slice(from);
    }
    if matches!(waiter.client, Client::Udp { .. }) && kept.len() > query.udp_limit() {
        if let Some(mut short) = message::truncated(bytes, query) {
            address(&mut short, query, waiter);
            out.reply(&waiter.client, &short);
        }
        return;
    }
    address(kept, query, waiter);
    out.reply(&waiter.client, kept);
}

/// What an entry costs, with its key twice, the tables' places and the allocator's headers.
fn cost(key: &[u8], answer: &[u8]) -> usize {
    2 * key.len() + answer.len() + 160
}

/// However long its zone says.
const LONGEST: Duration = Duration::from_secs(86_400);
/// RFC 2308, 5: one to three hours; a peer's name may be added sooner.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(900);
/// How long after its time an answer is still given when no server answers (RFC 8767, 5: one to three days).
const STALEST: Duration = Duration::from_secs(3 * 86_400);
/// The lifetime that it is given with (RFC 8767, 4).
pub(super) const STALE_SECONDS: u32 = 30;
