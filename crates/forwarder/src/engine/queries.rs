//! The queries under way: a table whose places are used again, an index by content, and their alarms.

use super::{Client, SlotId};
use crate::message::{HEADER, Query as Parsed};
use narrowgate_model::Time;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, RandomState};

/// Somebody who wants the answer, under his own id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub client: Client,
    pub id: u16,
    /// The case of its letters; nothing for a first one's that cannot be written again: the query's own are those.
    pub case: Option<u64>,
}

/// How far a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// For an uplink.
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
    /// With the client's OPT, if there is one.
    pub edns: bool,
    /// With the letters' case changed.
    pub scrambled: bool,
    pub tcp: bool,
    /// With a cookie of ours.
    pub cookie: bool,
    /// Its lateness was held against the server.
    pub missed: bool,
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
pub(super) struct Query {
    /// Tells this use of the place from earlier ones.
    generation: u32,
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
    wake: Option<Time>,
    key: Option<u64>,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Queries {
    table: Vec<Query>,
    free: Vec<u32>,
    by_key: HashMap<u64, u32>,
    hasher: RandomState,
    /// What the key is of.
    plain: Vec<u8>,
    alarms: BinaryHeap<Reverse<(Time, u32, u32)>>,
}

impl Queries {
    /// A number for what is asked: all of the message but the id and the letters' case, and how. So a question that comes back to us
    /// through another forwarder, which writes letters and id anew, is found to be our own, and a loop ends where it began.
    pub fn key(&mut self, message: &[u8], parsed: &Parsed, tcp: bool) -> u64 {
        self.plain.clear();
        self.plain.extend_from_slice(message.get(2..).unwrap_or(&[]));
        if let Some(name) = self.plain.get_mut(HEADER - 2..parsed.question_end.saturating_sub(6)) {
            name.make_ascii_lowercase();
        }
        self.hasher.hash_one((&self.plain, tcp))
    }

    /// The query under way that asks the same, if there is one.
    pub fn find(&mut self, key: u64, message: &[u8], parsed: &Parsed) -> Option<&mut Query> {
        let index = *self.by_key.get(&key)?;
        let query = self.get_mut(index)?;
        let name = HEADER..parsed.question_end.saturating_sub(4);
        let same = message.get(2..HEADER) == query.message.get(2..HEADER)
            && message.get(name.end..) == query.message.get(name.end..)
            && message.get(name.clone())?.eq_ignore_ascii_case(query.message.get(name)?);
        same.then_some(query)
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
        let index = self.free.pop().unwrap_or_else(|| {
            self.table.push(Query {
                generation: 0,
                used: false,
                phase: Phase::Waiting,
                set,
                started: now,
                asking_since: now,
                waiters: Vec::new(),
                message: Vec::new(),
                parsed,
                case,
                tries: Vec::new(),
                fallback: None,
                wake: None,
                key: None,
            });
            self.table.len() as u32 - 1
        });
        // A key that is taken belongs to another message of the same hash; this one goes without.
        let key = key.filter(|key| *self.by_key.entry(*key).or_insert(index) == index);
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

    pub fn get(&self, index: u32) -> Option<&Query> {
        self.table.get(index as usize).filter(|query| query.used)
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut Query> {
        self.table.get_mut(index as usize).filter(|query| query.used)
    }

    /// Later queries of the same content are new ones.
    pub fn unindex(&mut self, index: u32) {
        if let Some(key) = self.get_mut(index).and_then(|query| query.key.take()) {
            self.by_key.remove(&key);
        }
    }

    /// Frees its place. The memory in it is kept for the next, up to a point.
    pub fn remove(&mut self, index: u32) {
        self.unindex(index);
        let Some(query) = self.get_mut(index) else { return };
        query.used = false;
        query.generation = query.generation.wrapping_add(1);
        query.wake = None;
        query.fallback = None;
        query.waiters.clear();
        query.waiters.shrink_to(2);
        query.message.clear();
        query.message.shrink_to(128);
        query.tries.clear();
        query.tries.shrink_to(4);
        self.free.push(index);
    }

    /// Sets the alarm, in place of any other.
    pub fn wake_at(&mut self, index: u32, at: Time) {
        let Some(query) = self.get_mut(index) else { return };
        if query.wake != Some(at) {
            query.wake = Some(at);
            let alarm = Reverse((at, index, query.generation));
            self.alarms.push(alarm);
            self.drop_dead_alarms();
        }
    }

    /// A query whose alarm goes off.
    pub fn due(&mut self, now: Time) -> Option<u32> {
        loop {
            let Reverse((at, index, generation)) = *self.alarms.peek()?;
            if !self.is_live(at, index, generation) {
                self.alarms.pop();
            } else if at > now {
                return None;
            } else {
                self.alarms.pop();
                if let Some(query) = self.get_mut(index) {
                    query.wake = None;
                }
                return Some(index);
            }
        }
    }

    /// When the next alarm goes off.
    pub fn next_due(&mut self) -> Option<Time> {
        loop {
            let Reverse((at, index, generation)) = *self.alarms.peek()?;
            if self.is_live(at, index, generation) {
                return Some(at);
            }
            self.alarms.pop();
        }
    }

    fn is_live(&self, at: Time, index: u32, generation: u32) -> bool {
        self.get(index).is_some_and(|query| query.generation == generation && query.wake == Some(at))
    }

    /// Answered queries leave their alarms behind. They are swept out when they are many, so that the heap stays in proportion to the table.
    fn drop_dead_alarms(&mut self) {
        if self.alarms.len() > 64 + 4 * self.table.len() {
            let mut alarms = std::mem::take(&mut self.alarms);
            alarms.retain(|Reverse((at, index, generation))| self.is_live(*at, *index, *generation));
            self.alarms = alarms;
        }
    }

    /// The queries whose clients have no answer yet.
    pub fn open(&self) -> Vec<u32> {
        let open = |(index, query): (usize, &Query)| {
            (query.used && query.phase != Phase::Answered).then_some(index as u32)
        };
        self.table.iter().enumerate().filter_map(open).collect()
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

fn same_client(a: &Client, b: &Client) -> bool {
    match (a, b) {
        (Client::Udp { from: a, .. }, Client::Udp { from: b, .. }) => {
            a.ip() == b.ip() && (!a.ip().is_loopback() || a.port() == b.port())
        }
        _ => a == b,
    }
}
