//! A peer's answer that is asked for in the last tenth of its lifetime is fetched anew while it is still given, so that whoever asks often never waits.
//! Only what is being asked for is fetched: nobody asks, nothing is sent and no timer runs.

use super::queries::Waiter;
use super::{Engine, Outside};
use crate::message::{self, Query};
use narrowgate_model::Time;

impl Engine {
    /// Called behind each answer out of the cache.
    pub(super) fn prefetch(
        &mut self,
        now: Time,
        waiter: Waiter,
        bytes: &[u8],
        query: &Query,
        set: u8,
        out: &mut dyn Outside,
    ) {
        let servers = self.sets.get(usize::from(set)).map_or(0, Vec::len);
        if servers == 0
            || !self.upstreams.state(set).is_up()
            || self.queries.len() >= self.limits.queries / 2
            || !self.upstreams.is_peer(message::question_name(bytes, query))
            || !self.cache.is_ending(now)
        {
            return;
        }
        self.counters.prefetched += 1;
        let key = self.queries.key(bytes, query, false);
        let index = self.queries.insert(now, key, waiter, bytes, *query, set, out.random());
        // It is nobody's: whoever asks meanwhile gets what is there, and does not wait with it.
        self.queries.unindex(index);
        if let Some(query) = self.queries.get_mut(index) {
            query.waiters.clear();
        }
        self.begin(now, index, out);
    }
}
