//! While the uplink has one IP version only, an address of the other is of no use yet, and worse than none: a VPN that gets
//! both takes one, and may come back to the other only after many seconds.
//!
//! So an answer with addresses that cannot be reached yet is held back. If the name has addresses that can be reached, the
//! client is told that there are none of the other kind (NODATA, with an extended error that says why). Otherwise it waits,
//! as it would for the uplink, until the other version comes or [`WAIT`] is over; then it gets the answer as it is.

use super::queries::Phase;
use super::{Engine, Outside, UplinkState, WAIT};
use crate::message::{self, Query, Reason, has_record, rcode, rtype};
use alloc::boxed::Box;
use narrowgate_model::Time;

impl Engine {
    /// Whether addresses of this kind cannot be reached now, but those of the other can.
    pub(super) fn is_out_of_reach(&self, set: u8, query: &Query) -> bool {
        matches!(
            (self.upstreams.state(set), query.qtype),
            (UplinkState::Ipv6Only, rtype::A) | (UplinkState::Ipv4Only, rtype::AAAA)
        )
    }

    /// Called with each answer before it is passed on. True: it was held back, or NODATA was given in its place.
    pub(super) fn hold_back(&mut self, now: Time, index: u32, answer: &[u8], out: &mut dyn Outside) -> bool {
        let Some(query) = self.queries.get_mut(index) else { return false };
        let (set, parsed) = (query.set, query.parsed);
        let one_version = matches!(self.upstreams.state(set), UplinkState::Ipv4Only | UplinkState::Ipv6Only);
        if !one_version
            || !matches!(parsed.qtype, rtype::A | rtype::AAAA)
            || !has_record(answer, parsed.qtype)
        {
            return false;
        }
        let name: Box<[u8]> = query.name().into();
        if !self.is_out_of_reach(set, &parsed) {
            self.reachable.put(&name, now.0, MOST_NAMES);
            self.tell_held(now, &name, out);
            return false;
        }
        if self.reachable.get(&name).is_some_and(|at| now.0 < at + LATELY) {
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

    /// The name has addresses that can be reached: whoever waits for others need not.
    fn tell_held(&mut self, now: Time, name: &[u8], out: &mut dyn Outside) {
        for index in self.queries.open() {
            let held = self
                .queries
                .get(index)
                .is_some_and(|query| query.phase == Phase::Held && message::is_same_name(query.name(), name));
            if held {
                self.no_address(now, index, out);
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
