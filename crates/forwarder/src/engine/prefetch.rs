//! A peer's answer that is asked for in the last tenth of its lifetime is fetched anew while it is still given, so that whoever asks often never waits.
//! Only what is being asked for is fetched: nobody asks, nothing is sent and no timer runs.

use super::{Engine, Outside};
use crate::message::{self, Query};
use narrowgate_model::Time;

impl Engine {
    /// Called behind each answer out of the cache.
    pub(super) fn prefetch(
        &mut self,
        now: Time,
        bytes: &[u8],
        query: &Query,
        set: u8,
        out: &mut dyn Outside,
    ) {
        if self.members(set) == 0
            || !self.upstreams.state(set).is_up()
            || self.queries.len() >= self.limits.queries / 2
            || !self.upstreams.is_peer(message::question_name(bytes, query))
            || !self.cache.is_ending(now)
        {
            return;
        }
        self.counters.prefetched += 1;
        // It is nobody's: whoever asks meanwhile gets what is there, and does not wait with it.
        let index = self.queries.insert(now, None, None, bytes, *query, set, out.random());
        self.begin(now, index, out);
    }
}
