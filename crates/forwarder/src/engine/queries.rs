//! The queries under way: a table whose places are used again, an index by content, and their alarms.

use super::index::Index;
use super::{Client, Outside, SlotId};
use crate::message::{HEADER, Query as Parsed, is_same_name, question_name};
use alloc::boxed::Box;
use alloc::vec::Vec;
use narrowgate_model::Time;

/// Somebody who wants the answer, under his own id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub client: Client,
    pub id: u16,
    /// The case of its letters; nothing for a first one's that cannot be written again: the query's own are those.
    pub case: Option<u64>,
}

/// How far a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// For an uplink.
    #[default]
    Waiting,
    /// Servers have been asked.
    Asking,
    /// The answer is there, and of no use yet (see `families`).
    Held,
    /// The clients have their answer; other servers' are still listened for.
    Answered,
}

/// One question to one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Try {
    pub server: u16,
    pub slot: SlotId,
    pub id: u16,
    pub sent: Time,
    pub outcome: Outcome,
    pub form: Form,
    /// Its lateness was held against the server.
    pub missed: bool,
}

/// In which form a query is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// With the client's OPT, if there is one.
    pub edns: bool,
    /// With the letters' case changed.
    pub scrambled: bool,
    pub tcp: bool,
    /// With a cookie of ours.
    pub cookie: bool,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Pending,
    /// An answer that was passed on.
    Answered,
    /// A refusal or failure: this server is not asked again for this query.
    Refused,
    /// It could not be reached, or its answer was of no use in this form: it may be asked again.
    Broken,
}

impl Try {
    pub fn is_pending(&self) -> bool {
        self.outcome == Outcome::Pending
    }
}

/// One question of one or several clients.
#[derive(Default)]
pub(super) struct Query {
    used: bool,
    pub phase: Phase,
    pub set: u8,
    pub started: Time,
    pub asking_since: Time,
    pub waiters: Vec<Waiter>,
    /// As the first client sent it. Its id is any.
    pub message: Vec<u8>,
    pub parsed: Parsed,
    /// The bits for the letters' case.
    pub case: u64,
    pub tries: Vec<Try>,
    /// A refusal to pass on if nothing better comes.
    pub fallback: Option<Box<[u8]>>,
    key: Option<u64>,
}

impl Query {
    /// The name that is asked for.
    #[inline(never)]
    pub fn name(&self) -> &[u8] {
        question_name(&self.message, &self.parsed)
    }

    /// Whether an answer may still come.
    pub fn is_pending(&self) -> bool {
        self.tries.iter().any(Try::is_pending)
    }

    /// Tries with that server that are so.
    pub fn count(&self, server: u16, is_so: fn(&Try) -> bool) -> usize {
        let mut count = 0;
        for attempt in &self.tries {
            count += usize::from(attempt.server == server && is_so(attempt));
        }
        count
    }

    /// Whether a client of it asks by TCP.
    pub fn is_for_tcp(&self) -> bool {
        self.waiters.iter().any(|waiter| matches!(waiter.client, Client::Tcp(_)))
    }
}

/// See the module's head.
pub(super) struct Queries {
    table: Vec<Query>,
    free: Vec<u32>,
    by_key: Index,
    /// What the key is of.
    plain: Vec<u8>,
    /// When each is woken, or [`NEVER`]. They are looked through in each round, and so lie side by side.
    alarms: Vec<Time>,
}

impl Queries {
    /// A table for so many at most.
    pub fn new(most: usize) -> Queries {
        let (table, free, plain, alarms) = Default::default();
        Queries { table, free, by_key: Index::new(most), plain, alarms }
    }

    /// A number for what is asked: all of the message but the id and the letters' case, and how. So a question that comes back to us
    /// through another forwarder, which writes letters and id anew, is found to be our own, and a loop ends where it began.
    pub fn key(&mut self, message: &[u8], parsed: &Parsed, tcp: bool, out: &mut dyn Outside) -> u64 {
        self.plain.clear();
        self.plain.extend_from_slice(message.get(1..).unwrap_or(&[]));
        if let Some(place) = self.plain.first_mut() {
            *place = u8::from(tcp);
        }
        if let Some(name) = self.plain.get_mut(HEADER - 1..parsed.question_end.saturating_sub(5)) {
            name.make_ascii_lowercase();
        }
        self.by_key.hash(&self.plain, out)
    }

    /// The query under way that asks the same, if there is one.
    pub fn find(&mut self, key: u64, message: &[u8]) -> Option<&mut Query> {
        let index = self.by_key.get(key)?;
        let query = self.get_mut(index)?;
        // Bytes that differ in case where that counts have another hash.
        is_same_name(message.get(2..)?, query.message.get(2..)?).then_some(query)
    }

    /// Notes a new query. Without a key no other joins it; without a waiter it is nobody's.
    #[allow(clippy::too_many_arguments)] // a record of what was just found out, written once
    pub fn insert(
        &mut self,
        now: Time,
        key: Option<u64>,
        waiter: Option<Waiter>,
        message: &[u8],
        parsed: Parsed,
        set: u8,
        case: u64,
    ) -> u32 {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.table.push(Query::default());
                self.alarms.push(NEVER);
                self.table.len() as u32 - 1
            }
        };
        // A key that is taken belongs to another message of the same hash; this one goes without.
        let key = key.filter(|key| self.by_key.get(*key).is_none());
        if let Some(key) = key {
            self.by_key.insert(key, index);
        }
        if let Some(query) = self.table.get_mut(index as usize) {
            query.used = true;
            query.phase = Phase::Waiting;
            query.set = set;
            query.started = now;
            query.asking_since = now;
            if let Some(waiter) = waiter {
                query.waiters.push(waiter);
            }
            query.message.extend_from_slice(message);
            query.parsed = parsed;
            query.case = case;
            query.key = key;
        }
        index
    }

    #[inline(never)] // it is called in many places
    pub fn get(&self, index: u32) -> Option<&Query> {
        self.table.get(index as usize).filter(|query| query.used)
    }

    #[inline(never)]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Query> {
        self.table.get_mut(index as usize).filter(|query| query.used)
    }

    /// Later queries of the same content are new ones.
    pub fn unindex(&mut self, index: u32) {
        if let Some(key) = self.get_mut(index).and_then(|query| query.key.take()) {
            self.by_key.remove(key, index);
        }
    }

    /// Frees its place. The memory in it is kept for the next, up to a point.
    pub fn remove(&mut self, index: u32) {
        self.unindex(index);
        let Some(query) = self.get_mut(index) else { return };
        query.used = false;
        query.fallback = None;
        query.waiters.clear();
        query.message.clear();
        query.tries.clear();
        if query.waiters.capacity() > 4 {
            query.waiters = Vec::new();
        }
        if query.message.capacity() > 128 {
            query.message = Vec::new();
        }
        if query.tries.capacity() > 4 {
            query.tries = Vec::new();
        }
        self.set_alarm(index, NEVER);
        self.free.push(index);
    }

    /// Sets the alarm, in place of any other.
    pub fn wake_at(&mut self, index: u32, at: Time) {
        if self.get(index).is_some() {
            self.set_alarm(index, at);
        }
    }

    fn set_alarm(&mut self, index: u32, at: Time) {
        if let Some(alarm) = self.alarms.get_mut(index as usize) {
            *alarm = at;
        }
    }

    /// A query whose alarm goes off, of those from this number on.
    pub fn due(&mut self, now: Time, from: u32) -> Option<u32> {
        let rest = self.alarms.get_mut(from as usize..)?;
        let (index, alarm) = (from..).zip(rest).find(|(_, alarm)| **alarm <= now)?;
        *alarm = NEVER;
        Some(index)
    }

    /// When the next alarm goes off.
    pub fn next_due(&self) -> Time {
        self.alarms.iter().fold(NEVER, |next, alarm| next.min(*alarm))
    }

    /// The queries whose clients have no answer yet.
    pub fn open(&self) -> Vec<u32> {
        let mut open = Vec::new();
        for (index, query) in (0..).zip(&self.table) {
            if query.used && query.phase != Phase::Answered {
                open.push(index);
            }
        }
        open
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.table.len() - self.free.len()
    }

    /// How many of them this client asked first. On the loopback a client is known by its port, elsewhere by its address.
    pub fn of_client(&self, client: &Client) -> usize {
        self.table
            .iter()
            .filter(|q| q.used && q.waiters.first().is_some_and(|w| same_client(&w.client, client)))
            .count()
    }
}

/// No alarm is set.
pub(crate) const NEVER: Time = Time(u64::MAX);

fn same_client(a: &Client, b: &Client) -> bool {
    match (a, b) {
        (Client::Udp { from: a, .. }, Client::Udp { from: b, .. }) => {
            a.ip() == b.ip() && (!a.ip().is_loopback() || a.port() == b.port())
        }
        _ => a == b,
    }
}
