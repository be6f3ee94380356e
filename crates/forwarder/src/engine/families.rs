//! While the uplink has one IP version only, an address of the other is of no use yet, and worse than none: a VPN that gets
//! both takes one, and may come back to the other only after many seconds.
//!
//! So an answer with addresses that cannot be reached yet is held back. If the name has addresses that can be reached, the
//! client is told that there are none of the other kind (NODATA, with an extended error that says why). Otherwise it waits,
//! as it would for the uplink, until the other version comes or [`WAIT`] is over; then it gets the answer as it is.

use super::queries::Phase;
use super::{Engine, Outside, UplinkState, WAIT};
use crate::message::{self, Reason, has_record, rcode, rtype};
use narrowgate_model::Time;

impl Engine {
    /// Whether addresses of this kind cannot be reached now, but those of the other can.
    pub(super) fn is_out_of_reach(&self, set: u8, qtype: u16) -> bool {
        matches!(
            (self.upstreams.state(set), qtype),
            (UplinkState::Ipv6Only, rtype::A) | (UplinkState::Ipv4Only, rtype::AAAA)
        )
    }

    /// Called with each answer before it is passed on. True: it was held back, or NODATA was given in its place.
    pub(super) fn hold_back(&mut self, now: Time, index: u32, answer: &[u8], out: &mut dyn Outside) -> bool {
        let Some(query) = self.queries.get(index) else { return false };
        let (set, qtype) = (query.set, query.parsed.qtype);
        let one_version = matches!(self.upstreams.state(set), UplinkState::Ipv4Only | UplinkState::Ipv6Only);
        if !one_version || !matches!(qtype, rtype::A | rtype::AAAA) || !has_record(answer, qtype) {
            return false;
        }
        if !self.is_out_of_reach(set, qtype) {
            self.reachable.put(query.name(), now.0, MOST_NAMES);
            self.tell_held(now, index, out);
            return false;
        }
        if self.reachable.get(query.name()).is_some_and(|at| now.0 < at + LATELY) {
            self.no_address(now, index, out);
            return true;
        }
        self.counters.held += 1;
        if let Some(query) = self.queries.get_mut(index) {
            query.fallback = Some(answer.into());
            query.phase = Phase::Held;
            let until = query.started + WAIT;
            self.queries.wake_at(index, until);
        }
        true
    }

    /// The wait is over, or the other version has come: the answer as it is.
    pub(super) fn release(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let Some(query) = self.queries.get_mut(index) else { return };
        let Some(mut answer) = query.fallback.take() else { return };
        query.phase = Phase::Asking;
        self.pass_on(now, index, &mut answer, out);
    }

    /// The name of this query has addresses that can be reached: whoever waits for others need not.
    fn tell_held(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        for other in self.queries.open() {
            if let (Some(query), Some(held)) = (self.queries.get(index), self.queries.get(other))
                && held.phase == Phase::Held
                && message::is_same_name(held.name(), query.name())
            {
                self.no_address(now, other, out);
            }
        }
    }

    pub(super) fn no_address(&mut self, now: Time, index: u32, out: &mut dyn Outside) {
        let Some(query) = self.queries.get(index) else { return };
        let text = if query.parsed.qtype == rtype::A {
            "the uplink has no IPv4 yet: use the IPv6 address"
        } else {
            "the uplink has no IPv6 yet: use the IPv4 address"
        };
        self.tell_all(now, index, rcode::NOERROR, (Reason::Other, text), out);
    }
}

/// A stub asks for both kinds within a moment. In milliseconds.
const LATELY: u64 = 10_000;
/// More names than that have no tunnel.
const MOST_NAMES: usize = 64;
