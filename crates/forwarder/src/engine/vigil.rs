//! Peers that were asked for in vain. Whoever asked may have gone to sleep or given up for good, so the parent wants to hear when there are
//! answers again, to wake it.
//!
//! 1. In vain is: no server answered in time, or all refused or failed, whether the client got a failure or what was known before. It is not,
//!    if any server has given any answer since the question came: then the name is broken, or one kind of record.
//! 2. The parent hears of it. If it says so, all servers are asked for the name again, one small packet each, after a pause that grows with
//!    the time that it has lasted ([`Watched::put_off`]).
//! 3. Any answer for that name, to whomever, ends it, and the parent hears of that too.

use super::queries::{NEVER, Query};
use super::{Engine, Outside};
use crate::control::ToParent;
use crate::message::{self, HEADER, Query as Parsed};
use alloc::vec::Vec;
use narrowgate_model::Time;

/// See the module's head.
#[derive(Default)]
pub(super) struct Vigil {
    list: Vec<Watched>,
    /// When any server has given an answer that is one.
    last_answer: Time,
}

struct Watched {
    /// In small letters.
    name: Vec<u8>,
    /// The question alone.
    message: Vec<u8>,
    since: Time,
    /// When to ask again; [`NEVER`] until the parent wants it.
    next: Time,
}

impl Engine {
    /// The parent wants to hear soon when what was asked in vain is answered again.
    pub fn watch(&mut self, now: Time) {
        for watched in &mut self.vigil.list {
            if watched.next == NEVER {
                watched.put_off(now);
            }
        }
    }

    /// Called where a query is given up, and where its clients get what was known before.
    pub(super) fn asked_in_vain(&mut self, now: Time, index: u32) {
        let Some(query) = self.queries.get(index).filter(|q| self.kept.on && !q.waiters.is_empty()) else {
            return;
        };
        if self.vigil.last_answer >= query.started || self.is_out_of_reach(query.set, query.parsed.qtype) {
            return;
        }
        let Some(name) = self.peer_asked_for(query).map(<[u8]>::to_ascii_lowercase) else { return };
        if self.vigil.list.len() >= MOST || self.vigil.list.iter().any(|w| w.name == name) {
            return;
        }
        let Some(message) = plain(query) else { return };
        self.told.push(ToParent::Peer { name: name.clone(), answered: false });
        self.vigil.list.push(Watched { name, message, since: now, next: NEVER });
    }

    /// Called with each query that a server has answered.
    pub(super) fn has_answered(&mut self, now: Time, index: u32) {
        self.vigil.last_answer = now;
        let Some(query) = self.queries.get(index).filter(|_| !self.vigil.list.is_empty()) else { return };
        let name = query.name();
        if let Some(at) = self.vigil.list.iter().position(|w| message::is_same_name(&w.name, name)) {
            let name = self.vigil.list.swap_remove(at).name;
            self.told.push(ToParent::Peer { name, answered: true });
        }
    }

    /// Other servers, or other peers.
    pub(super) fn vigil_changed(&mut self, now: Time) {
        for at in (0..self.vigil.list.len()).rev() {
            let Some(watched) = self.vigil.list.get_mut(at) else { continue };
            if watched.next != NEVER {
                watched.next = now;
            }
            if !self.upstreams.is_peer(&watched.name) {
                self.vigil.list.swap_remove(at);
            }
        }
    }

    /// When [`keep_vigil`](Self::keep_vigil) has something to do.
    pub(super) fn vigil_due(&self) -> Time {
        self.vigil.list.iter().fold(NEVER, |next, watched| next.min(watched.next))
    }

    /// Asks what is due.
    #[inline(never)]
    pub(super) fn keep_vigil(&mut self, now: Time, out: &mut dyn Outside) {
        for at in 0..self.vigil.list.len() {
            let Some(watched) = self.vigil.list.get_mut(at).filter(|w| w.next <= now) else { continue };
            watched.put_off(now);
            let Some(set) = self.upstreams.route(&watched.name) else { continue };
            if !self.upstreams.state(set).is_up() || self.queries.len() >= self.limits.queries / 2 {
                continue;
            }
            let Ok(parsed) = Parsed::parse(&watched.message) else { continue };
            let index = self.queries.insert(now, None, None, &watched.message, parsed, set, out.random());
            let mut n = 0;
            while let Some(number) = self.member(set, n) {
                // One that cannot be reached is asked the next time.
                let _ = self.ask(now, index, number, out);
                n += 1;
            }
            // Nobody waits for it: it is listened to for a moment.
            self.answered(now, index, out);
        }
    }
}

/// The question without all that may stand behind it: there are servers that drop what they do not know.
fn plain(query: &Query) -> Option<Vec<u8>> {
    let mut message = query.message.get(..query.parsed.question_end)?.to_vec();
    *message.first_chunk_mut::<HEADER>()? = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    Some(message)
}

impl Watched {
    /// To when it is asked next: after an eighth of the time that it has lasted, but a quarter of a second at least and three seconds at most; from
    /// ten minutes on after a two-hundredth of it, a minute at most.
    fn put_off(&mut self, now: Time) {
        let lasted = now.0.saturating_sub(self.since.0);
        let pause = (lasted / 8).clamp(250, 3_000).max(lasted / 200).min(60_000);
        self.next = Time(now.0 + pause);
    }
}

/// Names that are watched at a time.
const MOST: usize = 8;
