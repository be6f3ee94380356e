//! The forwarder's mind: which server to ask, when to ask the next, what to believe, what to answer. It has no socket and no clock.
//!
//! How a query goes:
//!
//! 1. A client's message is looked at. What cannot be forwarded is answered at once. One that is being asked already (a
//!    client's retry, or another client with the same bytes) waits for that answer.
//! 2. Before the uplink is up it waits, up to [`WAIT`]; where there is no cable to wait for it fails at once, saying why.
//! 3. The best server is asked: the one that answers soonest, of those that do answer. When its expected time is over the next one is
//!    asked as well, so that in 0.4 s all have been asked; then the rounds go on, slower and slower. All that were asked may still answer.
//! 4. An answer counts if it comes from the server, to the port, with the id, the question and its letters' case. A server that refuses or fails is
//!    followed by the next at once; only when none is left its refusal is passed on.
//! 5. What was known before is given while no server answers, if it is asked for by a client that has waited long enough (see `kept`).
//! 6. Servers that stay silent sink to the end of the order. A copy of somebody's query asks them again now and then; when
//!    nobody asks anything, nothing is sent and no timer runs. (But see `vigil`: what a VPN has asked in vain.)

mod aliases;
mod answer;
mod ask;
mod cache;
mod cookies;
mod counters;
mod families;
mod index;
mod kept;
mod names;
mod prefetch;
mod queries;
mod resolved;
mod servers;
mod slots;
mod upstreams;
mod vigil;

pub use counters::Counters;
pub use kept::{Peer, STALE_AFTER};
pub use resolved::{Fate, Resolved};
pub use servers::ServerReport;
pub use upstreams::{Set, UplinkState, Upstreams, wire_name};

use crate::control::ToParent;
use crate::message::{self, Query, Reason, Refused, rcode};
use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use cache::Cache;
use core::net::SocketAddr;
use core::time::Duration;
use names::Names;
use narrowgate_model::Time;
pub(crate) use queries::NEVER;
use queries::{Phase, Queries, Waiter};
use servers::Servers;
use slots::Slots;

/// A socket of the driver's, connected to a server: its number in the driver's table.
pub type SlotId = u32;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// By UDP: at which of our listeners, and from where.
    Udp {
        /// Its number in the driver's table.
        listener: u8,
        /// The client's address.
        from: SocketAddr,
    },
    /// By a TCP connection: its number, never used twice.
    Tcp(u64),
}

/// How a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A connection.
    Tcp,
}

/// Why a server could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CannotAsk {
    /// No socket is left.
    NoSocket,
    /// The kernel has no way there, or the other side said that nobody listens.
    Unreachable,
}

/// What the engine needs done. The driver does it with sockets, the tests with a simulated network.
pub trait Outside {
    /// A socket with a fresh port, connected to that server.
    fn open(&mut self, transport: Transport, server: SocketAddr) -> Result<SlotId, CannotAsk>;
    /// Sends a message by it. The slot stays open also after an error.
    fn send(&mut self, slot: SlotId, message: &[u8]) -> Result<(), CannotAsk>;
    /// The socket is not needed any more. What still comes to it must not come to the slot's next use.
    fn close(&mut self, slot: SlotId);
    /// Answers a client, if it is still there.
    fn reply(&mut self, client: &Client, message: &[u8]);
    /// Random bits that nobody can foresee.
    fn random(&mut self) -> u64;
}

/// What may be used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queries in flight, of all clients together.
    pub queries: usize,
    /// Bytes of the cache; 0 is no cache.
    pub cache: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { queries: 1024, cache: 0 }
    }
}

/// See the module's head.
pub struct Engine {
    limits: Limits,
    upstreams: Upstreams,
    /// For each set of `upstreams`, its servers' numbers in `servers`.
    sets: Vec<Vec<u16>>,
    servers: Servers,
    queries: Queries,
    slots: Slots,
    cache: Cache,
    /// Names that were found lately to have addresses that can be reached, and when.
    reachable: Names,
    kept: kept::Kept,
    aliases: aliases::Aliases,
    vigil: vigil::Vigil,
    /// What the parent does not know yet.
    told: Vec<ToParent>,
    counters: Counters,
    /// The message being built.
    scratch: Vec<u8>,
}

impl Engine {
    /// An engine that knows no server yet.
    #[inline(never)]
    pub fn new(limits: Limits) -> Engine {
        Engine {
            limits,
            upstreams: Upstreams::default(),
            sets: Vec::new(),
            servers: Servers::default(),
            queries: Queries::new(limits.queries),
            slots: Slots::default(),
            cache: Cache::new(limits.cache),
            reachable: Names::default(),
            kept: kept::Kept::default(),
            aliases: aliases::Aliases::default(),
            vigil: vigil::Vigil::default(),
            told: Vec::new(),
            counters: Counters::default(),
            scratch: Vec::new(),
        }
    }

    /// A client's message, without TCP's length.
    pub fn client_message(&mut self, now: Time, client: Client, bytes: &[u8], out: &mut dyn Outside) {
        self.counters.queries += 1;
        let query = match Query::parse(bytes) {
            Ok(query) => query,
            Err(Refused::Silently) => return self.counters.ignored += 1,
            Err(Refused::With(code)) => {
                self.counters.malformed += 1;
                return refuse(out, &client, bytes, code, None);
            }
        };
        let name = message::question_name(bytes, &query);
        let Some(set) = self.route(name) else {
            self.counters.blocked += 1;
            return refuse(out, &client, bytes, rcode::REFUSED, Some(BLOCKED));
        };
        let case = message::case_of(name);
        let waiter = Waiter { client, id: query.id, case };
        let key = self.queries.key(bytes, &query, matches!(client, Client::Tcp(_)), out);
        // Letters that cannot be written again later are a question of their own.
        if let Some(found) = self.queries.find(key, bytes).filter(|_| case.is_some()) {
            if found.waiters.contains(&waiter) {
                return self.counters.retries += 1;
            }
            if found.waiters.len() < MAX_WAITERS {
                found.waiters.push(waiter);
                return self.counters.joined += 1;
            }
        }
        if !self.is_out_of_reach(set, query.qtype) && self.answer_from_cache(now, &waiter, bytes, &query, out)
        {
            return self.prefetch(now, bytes, &query, set, out);
        }
        if bytes.len() > MAX_QUERY || self.is_too_much(&client) {
            self.counters.refused += 1;
            let why = (Reason::Other, "too many queries at once");
            return refuse(out, &client, bytes, rcode::REFUSED, Some(why));
        }
        let index = self.queries.insert(now, Some(key), Some(waiter), bytes, query, set, out.random());
        self.begin(now, index, out);
    }

    /// A message from the server that the slot is connected to. It is changed in place into the answer.
    pub fn upstream_message(&mut self, now: Time, slot: SlotId, bytes: &mut [u8], out: &mut dyn Outside) {
        self.answer(now, slot, bytes, out);
    }

    /// Whether an answer is due by this slot.
    pub fn expects(&self, slot: SlotId) -> bool {
        self.slots.is_flying(slot)
    }

    /// The slot's server cannot be reached by it: refused, no route, connection closed. The slot is closed.
    pub fn upstream_error(&mut self, now: Time, slot: SlotId, out: &mut dyn Outside) {
        self.slot_failed(now, slot, out);
    }

    /// Does what was due by now.
    pub fn tick(&mut self, now: Time, out: &mut dyn Outside) {
        let mut from = 0;
        while let Some(index) = self.queries.due(now, from) {
            self.wake(now, index, out);
            from = index + 1;
        }
        self.keep_vigil(now, out);
        self.slots.close_idle(now, out);
    }

    /// When to call [`tick`](Self::tick) next; never, if nothing is waited for.
    pub fn next_tick(&self) -> Option<Time> {
        let next = self.queries.next_due().min(self.slots.next_due()).min(self.vigil_due());
        (next != NEVER).then_some(next)
    }

    /// New servers, or news of the uplink. Queries that wait are asked; those that are under way go on, with the new servers from now.
    #[inline(never)]
    pub fn update(&mut self, now: Time, upstreams: Upstreams, out: &mut dyn Outside) {
        self.sets = self.servers.update(&upstreams);
        self.servers.forget_cookies();
        if self.upstreams.names != upstreams.names {
            self.aliases.clear();
        }
        self.upstreams = upstreams;
        for index in self.queries.open() {
            self.set_changed(now, index, out);
        }
        self.vigil_changed(now);
        self.servers.forget_unused();
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is known of the servers.
    pub fn servers(&self) -> Vec<ServerReport> {
        self.servers.report(&self.sets)
    }

    /// How many queries are being asked or waited with.
    pub fn in_flight(&self) -> usize {
        self.queries.len()
    }

    /// In all there is a limit; and once half of that is used, no client may have a quarter of it, so that a flood from one leaves room for the others.
    fn is_too_much(&self, client: &Client) -> bool {
        let limit = self.limits.queries;
        self.queries.len() >= limit
            || self.queries.len() >= limit / 2 && self.queries.of_client(client) >= limit / 4
    }

    /// Asks, waits or fails, as the uplink is.
    fn begin(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let Some(set) = self.queries.get(index).map(|query| query.set) else { return };
        let (state, has_servers) = (self.upstreams.state(set), self.members(set) > 0);
        if matches!(state, UplinkState::NoCarrier | UplinkState::NoDevice) {
            return self.fail_for_uplink(now, index, out);
        }
        let Some(query) = self.queries.get_mut(index) else { return };
        if state.is_up() && has_servers {
            query.phase = Phase::Asking;
            query.asking_since = now;
            self.ask_first(now, index, out);
        } else {
            query.phase = Phase::Waiting;
            let until = query.started + WAIT;
            self.queries.wake_at(index, until);
        }
    }

    fn set_changed(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let Some(query) = self.queries.get(index) else { return };
        // It may have come before anybody knew which names are the tunnels', and what is asked of whom.
        let Some(set) = self.route(query.name()) else { return self.block(now, index, out) };
        let Some(query) = self.queries.get_mut(index) else { return };
        query.set = set;
        match query.phase {
            Phase::Waiting => self.begin(now, index, out),
            Phase::Asking => match self.upstreams.state(set) {
                UplinkState::NoCarrier | UplinkState::NoDevice => self.fail_for_uplink(now, index, out),
                _ => self.queries.wake_at(index, now),
            },
            Phase::Held => {
                let qtype = query.parsed.qtype;
                if !self.is_out_of_reach(set, qtype) {
                    self.release(now, index, out);
                }
            }
            Phase::Answered => {}
        }
    }

    /// Its name is none of the tunnels', as is known now.
    fn block(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        self.counters.blocked += self.tell_all(now, index, rcode::REFUSED, BLOCKED, out);
    }

    fn fail_for_uplink(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let Some(query) = self.queries.get(index) else { return };
        let set = query.set;
        let text = match self.upstreams.detail(set) {
            "" => match self.upstreams.state(set) {
                UplinkState::NoDevice => "no uplink device",
                UplinkState::NoCarrier => "the uplink has no carrier",
                UplinkState::Waiting => "the uplink is not up yet",
                _ => "the uplink told of no DNS server",
            },
            detail => detail,
        }
        .to_owned();
        if self.upstreams.state(set).is_up() {
            self.asked_in_vain(now, index);
        }
        self.counters.no_uplink += 1;
        self.fail(now, index, Reason::NetworkError, &text, out);
    }

    /// SERVFAIL to all that wait, with the reason.
    fn fail(&mut self, now: Time, index: u32, reason: Reason, text: &str, out: &mut dyn Outside) {
        if self.answer_stale(now, index, out) {
            return self.answered(now, index, out);
        }
        let told = self.tell_all(now, index, rcode::SERVFAIL, (reason, text), out);
        self.counters.failed += told.min(1);
    }

    /// The same to all that wait, without any records; how many that were.
    fn tell_all(
        &mut self,
        now: Time,
        index: u32,
        code: u8,
        why: (Reason, &str),
        out: &mut dyn Outside,
    ) -> u64 {
        let Some(query) = self.queries.get_mut(index) else { return 0 };
        let told = query.waiters.len() as u64;
        for waiter in &query.waiters {
            address(&mut query.message, &query.parsed, waiter);
            refuse(out, &waiter.client, &query.message, code, Some(why));
        }
        self.answered(now, index, out);
        told
    }

    /// The clients have their answer. What was asked and not answered yet is waited for a little longer, to learn from it.
    fn answered(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let Some(query) = self.queries.get_mut(index) else { return };
        query.waiters.clear();
        query.fallback = None;
        if query.is_pending() {
            query.phase = Phase::Answered;
            self.queries.unindex(index);
            self.queries.wake_at(index, now + LINGER);
        } else {
            self.remove(index, now, out);
        }
    }

    fn remove(&mut self, index: u32, now: Time, out: &mut dyn Outside) {
        if let Some(query) = self.queries.get(index) {
            for t in query.tries.iter() {
                if t.is_pending() {
                    self.slots.finish(t.slot, t.id, now, out);
                }
                self.servers.release(t.server);
            }
        }
        self.queries.remove(index);
    }
}

impl Engine {
    /// The set for a name that may be asked.
    fn route(&self, name: &[u8]) -> Option<u8> {
        self.upstreams.route(name).or_else(|| self.aliases.find(name))
    }

    /// The number of the n-th server of a set.
    fn member(&self, set: u8, n: usize) -> Option<u16> {
        self.sets.get(usize::from(set))?.get(n).copied()
    }

    /// How many servers a set has.
    fn members(&self, set: u8) -> usize {
        self.sets.get(usize::from(set)).map_or(0, Vec::len)
    }
}

/// Writes the waiter's id and its letters.
fn address(message: &mut [u8], parsed: &Query, waiter: &Waiter) {
    message::set_id(message, waiter.id);
    if let Some(case) = waiter.case
        && message::u16_at(message, 4) == Some(1)
        && let Some(name) = message.get_mut(message::HEADER..parsed.question_end.saturating_sub(4))
    {
        message::scramble(name, case);
    }
}

fn refuse(out: &mut dyn Outside, client: &Client, query: &[u8], code: u8, why: Option<(Reason, &str)>) {
    if let Some(reply) = message::error_reply(query, code, why) {
        out.reply(client, &reply);
    }
}

/// How long a query waits for an uplink: within the 5 s of glibc's and musl's stubs.
pub const WAIT: Duration = Duration::from_secs(4);
/// How long an answer that is not needed any more is waited for.
const LINGER: Duration = Duration::from_secs(1);
/// Clients that share one query.
const MAX_WAITERS: usize = 64;
/// Longer ones are no stub's.
const MAX_QUERY: usize = 2048;
/// What is said of a name that is not resolved here.
const BLOCKED: (Reason, &str) = (Reason::Blocked, "only the tunnel's names are resolved here");
