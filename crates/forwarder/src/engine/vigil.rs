//! Peers that were asked for in vain. Whoever asked may have gone to sleep or given up for good, so the parent wants to hear when there are
//! answers again, to wake it.
//!
//! 1. In vain is: no server answered in time, or all refused or failed, whether the client got a failure or what was known before. It is not,
//!    if any server has given any answer since the question came: then the name is broken, or one kind of record.
//! 2. The parent hears of it. If it says so, all servers are asked for the name again, one small packet each, after a pause that grows with
//!    the time that it has lasted ([`pause`]).
//! 3. Any answer for that name, to whomever, ends it, and the parent hears of that too.

use super::queries::Query;
use super::{Engine, Outside};
use crate::message::{self, HEADER, Query as Parsed};
use narrowgate_model::Time;
use std::time::Duration;

/// See the module's head.
#[derive(Default)]
pub(super) struct Vigil {
    list: Vec<Watched>,
    news: Vec<(Vec<u8>, bool)>,
    /// When any server has given an answer that is one.
    last_answer: Option<Time>,
}

struct Watched {
    /// In small letters.
    name: Vec<u8>,
    /// The question alone.
    message: Vec<u8>,
    parsed: Parsed,
    since: Time,
    /// When to ask again, if the parent wants it.
    next: Option<Time>,
}

impl Engine {
    /// What has become of peers' names since this was asked last, in their order: asked for in vain (`false`), answered again (`true`).
    pub fn take_news(&mut self) -> Vec<(Vec<u8>, bool)> {
        std::mem::take(&mut self.vigil.news)
    }

    /// The parent wants to hear soon when what was asked in vain is answered again.
    pub fn watch(&mut self, now: Time) {
        for watched in self.vigil.list.iter_mut().filter(|w| w.next.is_none()) {
            watched.next = Some(now + pause(now.since(watched.since)));
        }
    }

    /// Called where a query is given up, and where its clients get what was known before.
    pub(super) fn asked_in_vain(&mut self, now: Time, index: u32) {
        let Some(query) = self.queries.get(index).filter(|q| self.kept.on && !q.waiters.is_empty()) else {
            return;
        };
        if self.vigil.last_answer.is_some_and(|at| at >= query.started)
            || self.is_out_of_reach(query.set, &query.parsed)
        {
            return;
        }
        let Some(name) = self.peer_asked_for(query).map(<[u8]>::to_ascii_lowercase) else { return };
        if self.vigil.list.len() >= MOST || self.vigil.list.iter().any(|w| w.name == name) {
            return;
        }
        let Some((message, parsed)) = plain(query) else { return };
        self.vigil.news.push((name.clone(), false));
        self.vigil.list.push(Watched { name, message, parsed, since: now, next: None });
    }

    /// Called with each query that a server has answered.
    pub(super) fn has_answered(&mut self, now: Time, index: u32) {
        self.vigil.last_answer = Some(now);
        let Some(query) = self.queries.get(index).filter(|_| !self.vigil.list.is_empty()) else { return };
        let name = message::question_name(&query.message, &query.parsed);
        if let Some(at) = self.vigil.list.iter().position(|w| w.name.eq_ignore_ascii_case(name)) {
            self.vigil.news.push((self.vigil.list.swap_remove(at).name, true));
        }
    }

    /// Other servers, or other peers.
    pub(super) fn vigil_changed(&mut self, now: Time) {
        self.vigil.list.retain(|watched| self.upstreams.is_peer(&watched.name));
        for watched in self.vigil.list.iter_mut().filter(|w| w.next.is_some()) {
            watched.next = Some(now);
        }
    }

    /// When [`keep_vigil`](Self::keep_vigil) has something to do.
    pub(super) fn vigil_due(&self) -> Option<Time> {
        self.vigil.list.iter().filter_map(|watched| watched.next).min()
    }

    /// Asks what is due.
    pub(super) fn keep_vigil(&mut self, now: Time, out: &mut dyn Outside) {
        for at in 0..self.vigil.list.len() {
            let Some(watched) =
                self.vigil.list.get_mut(at).filter(|w| w.next.is_some_and(|next| next <= now))
            else {
                continue;
            };
            watched.next = Some(now + pause(now.since(watched.since)));
            let Some(set) = self.upstreams.route(&watched.name) else { continue };
            if !self.upstreams.state(set).is_up() || self.queries.len() >= self.limits.queries / 2 {
                continue;
            }
            let index =
                self.queries.insert(now, None, None, &watched.message, watched.parsed, set, out.random());
            for at in 0..self.sets.get(usize::from(set)).map_or(0, Vec::len) {
                let number = self.sets.get(usize::from(set)).and_then(|numbers| numbers.get(at));
                if let Some(number) = number.copied() {
                    // One that cannot be reached is asked the next time.
                    let _ = self.ask(now, index, number, out);
                }
            }
            // Nobody waits for it: it is listened to for a moment.
            self.answered(now, index, out);
        }
    }
}

/// The question without all that may stand behind it: there are servers that drop what they do not know.
fn plain(query: &Query) -> Option<(Vec<u8>, Parsed)> {
    let mut message = query.message.get(..query.parsed.question_end)?.to_vec();
    message.get_mut(..HEADER)?.copy_from_slice(&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let parsed = Parsed::parse(&message).ok()?;
    Some((message, parsed))
}

/// How long to wait after so long: an eighth of it, but a quarter of a second at least and three seconds at most; from ten minutes on a two-hundredth of
/// it, a minute at most.
fn pause(lasted: Duration) -> Duration {
    (lasted / 8).clamp(Duration::from_millis(250), Duration::from_secs(3)).max(lasted / 200).min(LONGEST)
}

const LONGEST: Duration = Duration::from_secs(60);
/// Names that are watched at a time.
const MOST: usize = 8;
