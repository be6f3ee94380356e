//! Answers kept for a while, within a number of bytes. Those whose time is over stay as long as there is room: an old
//! address is better than none when no server answers (RFC 8767).

use super::index::Index;
use super::queries::Waiter;
use super::{Client, Engine, Outside, address};
use crate::message::{self, HEADER, Query, age, lifetime};
use alloc::vec::Vec;
use narrowgate_model::Time;

/// A place for an answer; without bytes it is free.
#[derive(Default)]
struct Entry {
    /// What was asked (see [`Cache::set_key`]), and the answer behind it.
    bytes: Vec<u8>,
    key_length: usize,
    hash: u64,
    stored: Time,
    fresh_until: Time,
    /// Since it was last passed over by the sweep.
    used: bool,
    /// It is being fetched anew.
    ending: bool,
}

/// See the module's head.
pub(super) struct Cache {
    limit: usize,
    bytes: usize,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// The entry that is considered for removal next; then the one behind it, round and round.
    hand: usize,
    index: Index,
    key: Vec<u8>,
    /// What was found last.
    found: u32,
}

impl Cache {
    /// A cache of so many bytes, its own bookkeeping included. 0 keeps nothing.
    pub fn new(limit: usize) -> Cache {
        Cache {
            limit,
            bytes: 0,
            entries: Vec::new(),
            free: Vec::new(),
            hand: 0,
            index: Index::new(limit / USUAL),
            key: Vec::new(),
            found: 0,
        }
    }

    /// Keeps an answer to this query, if it may be kept.
    #[inline(never)]
    pub fn keep(&mut self, now: Time, query: &[u8], parsed: &Query, answer: &[u8], out: &mut dyn Outside) {
        if self.limit == 0 || parsed.signed || answer.len() > self.limit / 4 {
            return;
        }
        let Some(lifetime) = lifetime(answer) else { return };
        let longest = if lifetime.negative { LONGEST_NEGATIVE } else { LONGEST };
        let fresh_until = Time(now.0 + 1000 * u64::from(lifetime.seconds.min(longest)));
        let hash = self.set_key(query, parsed, out);
        let (number, used) = match self.index.get(hash) {
            Some(number) => (number, true),
            None => {
                let number = self.free.pop().unwrap_or(self.entries.len() as u32);
                if number as usize == self.entries.len() {
                    self.entries.push(Entry::default());
                }
                self.index.insert(hash, number);
                (number, false)
            }
        };
        let Some(entry) = self.entries.get_mut(number as usize) else { return };
        if used {
            self.bytes -= cost(entry);
        }
        let mut bytes = Vec::with_capacity(self.key.len() + answer.len());
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(answer);
        let key_length = self.key.len();
        *entry = Entry { bytes, key_length, hash, stored: now, fresh_until, used, ending: false };
        self.bytes += cost(entry);
        self.shrink();
    }

    /// Takes out what was not used since it was last considered.
    fn shrink(&mut self) {
        while self.bytes > self.limit {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let Some(entry) = self.entries.get_mut(self.hand) else { return };
            if !core::mem::take(&mut entry.used) && !entry.bytes.is_empty() {
                self.bytes -= cost(entry);
                entry.bytes = Vec::new();
                self.index.remove(entry.hash, self.hand as u32);
                self.free.push(self.hand as u32);
            }
            self.hand += 1;
        }
    }

    /// The answer to this query as it is now, in `into`. With `stale` also one whose time is over, with a short lifetime.
    pub fn find(
        &mut self,
        now: Time,
        query: &[u8],
        parsed: &Query,
        stale: bool,
        into: &mut Vec<u8>,
        out: &mut dyn Outside,
    ) -> bool {
        if self.limit == 0 || parsed.signed {
            return false;
        }
        let hash = self.set_key(query, parsed, out);
        let Some(number) = self.index.get(hash) else { return false };
        let Some(entry) = self.entries.get_mut(number as usize) else { return false };
        let Some((key, answer)) = entry.bytes.split_at_checked(entry.key_length) else { return false };
        let over = entry.fresh_until <= now;
        if key != self.key || over && (!stale || entry.fresh_until.0 + STALEST <= now.0) {
            return false;
        }
        entry.used = true;
        self.found = number;
        into.clear();
        into.extend_from_slice(answer);
        if over {
            message::set_lifetimes(into, STALE_SECONDS)
        } else {
            age(into, now.seconds_from(entry.stored))
        }
        true
    }

    /// Whether the answer that was found last is in the last tenth of its lifetime. It is said once.
    pub fn is_ending(&mut self, now: Time) -> bool {
        let Some(entry) = self.entries.get_mut(self.found as usize).filter(|entry| !entry.ending) else {
            return false;
        };
        let tenth = (entry.fresh_until.0 - entry.stored.0) / 10;
        entry.ending = now.0 + tenth >= entry.fresh_until.0;
        entry.ending
    }

    /// What makes an answer another one: the question, and the bits by which a client says what it wants to see.
    fn set_key(&mut self, query: &[u8], parsed: &Query, out: &mut dyn Outside) -> u64 {
        let (rd, cd) = (query.get(2).map_or(0, |b| b & 1), query.get(3).map_or(0, |b| b & 0x30));
        let dnssec = parsed.edns.is_some_and(|edns| edns.dnssec);
        self.key.clear();
        self.key.extend_from_slice(query.get(HEADER - 1..parsed.question_end).unwrap_or(&[0]));
        if let [bits, name @ .., _, _, _, _] = &mut self.key[..] {
            *bits = rd | cd | (parsed.edns.is_some() as u8) << 1 | (dnssec as u8) << 2;
            name.make_ascii_lowercase(); // lengths are below 64 and so no capitals
        }
        self.index.hash(&self.key, out)
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
        if !self.cache.find(now, bytes, query, false, &mut self.scratch, out) {
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
    give(kept, waiter, bytes, query, out);
}

/// Gives an answer to a client under its id, or tells it to ask by TCP where the answer is larger than it takes.
pub(super) fn give(answer: &mut [u8], waiter: &Waiter, query: &[u8], parsed: &Query, out: &mut dyn Outside) {
    if matches!(waiter.client, Client::Udp { .. }) && answer.len() > parsed.udp_limit() {
        if let Some(mut short) = message::truncated(query, parsed) {
            address(&mut short, parsed, waiter);
            out.reply(&waiter.client, &short);
        }
        return;
    }
    address(answer, parsed, waiter);
    out.reply(&waiter.client, answer);
}

/// What an entry costs, with the tables' places and the allocator's headers.
fn cost(entry: &Entry) -> usize {
    entry.bytes.len() + 128
}

/// Bytes of an entry as most are.
const USUAL: usize = 256;
/// However long its zone says, in seconds: a day.
const LONGEST: u32 = 86_400;
/// RFC 2308, 5: one to three hours; a peer's name may be added sooner. In seconds.
const LONGEST_NEGATIVE: u32 = 900;
/// How long after its time an answer is still given when no server answers (RFC 8767, 5: one to three days). In milliseconds.
const STALEST: u64 = 3 * 86_400_000;
/// The lifetime that it is given with (RFC 8767, 4).
pub(super) const STALE_SECONDS: u32 = 30;
