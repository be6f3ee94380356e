//! What the tunnels' peers resolved to last, whether there is a cache or not: it is given when no server answers (RFC 8767), so that a node finds
//! its gateway though the household's DNS is broken. The parent keeps it on disk and gives it back to the next process.
//!
//! 1. Each answer to a question for a peer's addresses is remembered, and told to the parent where it changes what was known.
//! 2. A query that has waited [`STALE_AFTER`], or that all servers have refused or failed, gets the cached answer whose time is over, or
//!    else these addresses, with the extended error "Stale Answer" and a lifetime of half a minute. Of a peer that is known by the other IP version alone it is told
//!    that there is no address of this one, since stubs ask for both and wait for both.
//! 3. Servers that answer after all are listened to for a moment: what they say counts from then on.

use super::cache::{STALE_SECONDS, reply_kept};
use super::queries::Query;
use super::{Engine, Outside, resolved};
use crate::control::ToParent;
use crate::message::{self, Query as Parsed, Reason, add_reason, has_record, kept_reply, rtype};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_model::peers::{MOST_NAMES, renew};

/// A peer's name in [`wire_name`](super::wire_name) form, and its addresses.
pub type Peer = (Vec<u8>, Vec<IpAddr>);

/// See the module's head.
#[derive(Default)]
pub(super) struct Kept {
    /// Only if the parent wants it.
    pub(super) on: bool,
    peers: Vec<Peer>,
}

impl Kept {
    fn find(&self, name: &[u8]) -> Option<&[IpAddr]> {
        self.peers.iter().find(|(known, _)| message::is_same_name(known, name)).map(|(_, addrs)| &addrs[..])
    }

    /// The name in small letters, if that is news.
    fn learn(&mut self, name: &[u8], found: &[IpAddr]) -> Option<Vec<u8>> {
        let known = self.peers.iter().position(|(known, _)| message::is_same_name(known, name));
        let place = known.unwrap_or(self.peers.len());
        if place == self.peers.len() && place < MOST_NAMES {
            self.peers.push((name.to_ascii_lowercase(), Vec::new()));
        }
        let (name, known) = self.peers.get_mut(place)?;
        renew(known, found).then(|| name.clone())
    }
}

impl Engine {
    /// Where the peers were found last, in place of what is known. From then on it is remembered.
    pub fn keep(&mut self, peers: Vec<Peer>) {
        self.kept.on = true;
        self.kept.peers = peers;
        self.kept.peers.truncate(MOST_NAMES);
    }

    /// What the parent is to hear, since this was asked last: where peers were found, and which names were asked for in vain or are answered again.
    pub fn take_told(&mut self) -> Vec<ToParent> {
        core::mem::take(&mut self.told)
    }

    /// Called with each answer that may be kept.
    pub(super) fn learn_peer(&mut self, index: u32, answer: &[u8]) {
        let Some(query) = self.queries.get(index).filter(|_| self.kept.on) else { return };
        if let Some(name) = self.peer_asked_for(query)
            && has_record(answer, query.parsed.qtype)
            && let Some(found) = resolved::addresses(answer)
            && let Some(name) = self.kept.learn(name, &found)
        {
            self.told.push(ToParent::Found((name, found)));
        }
    }

    /// The name, if this is a question for a peer's addresses.
    pub(super) fn peer_asked_for<'a>(&self, query: &'a Query) -> Option<&'a [u8]> {
        let Parsed { qtype, class, .. } = query.parsed;
        let name = query.name();
        let addresses = class == IN && matches!(qtype, rtype::A | rtype::AAAA);
        (addresses && self.upstreams.is_peer(name)).then_some(name)
    }

    /// No server answers: what is known from before. True if the clients have got that.
    pub(super) fn answer_stale(&mut self, now: Time, index: u32, out: &mut dyn Outside) -> bool {
        let Some(query) = self.queries.get(index) else { return false };
        let parsed = &query.parsed;
        let known = self.peer_asked_for(query).and_then(|name| self.kept.find(name)).unwrap_or(&[]);
        let wanted = |addr: &&IpAddr| addr.is_ipv6() == (parsed.qtype == rtype::AAAA);
        if self.is_out_of_reach(query.set, parsed.qtype) && !known.iter().all(|addr| wanted(&addr)) {
            self.counters.stale += query.waiters.len() as u64;
            self.no_address(now, index, out);
            return true;
        }
        if self.cache.find(now, &query.message, parsed, true, &mut self.scratch, out) {
            add_reason(&mut self.scratch, Reason::StaleAnswer);
        } else if known.is_empty() {
            return false;
        } else {
            let mut addresses = Vec::new();
            known.iter().filter(wanted).for_each(|addr| addresses.push(*addr));
            let why = (Reason::StaleAnswer, "no DNS server answers: this is what was known last");
            kept_reply(&query.message, parsed, &addresses, STALE_SECONDS, why, &mut self.scratch);
        }
        for waiter in &query.waiters {
            self.counters.stale += 1;
            reply_kept(&mut self.scratch, waiter, &query.message, parsed, out);
        }
        true
    }
}

impl Query {
    /// When its clients get what is known from before, if there is anything: a query that had to wait for the uplink is asked for a moment in any case.
    pub(super) fn stale_at(&self) -> Time {
        (self.started + STALE_AFTER).max(self.asking_since + A_MOMENT)
    }
}

/// RFC 8767, 5: the client response timer.
pub const STALE_AFTER: Duration = Duration::from_millis(1800);
/// All servers have been asked once and more by then.
const A_MOMENT: Duration = Duration::from_millis(600);
const IN: u16 = 1;
