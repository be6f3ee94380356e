//! What is lent, and what was told without lending.

use super::super::prefixes::DETECTION;
use super::super::ra::{Until, holds, until};
use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_model::net::Address;
use narrowgate_wire::dhcp6::{self, Answer};

/// A lease.
pub struct Held {
    /// Identifier of the server that lent it.
    pub server: Vec<u8>,
    pub(super) addresses: Vec<Lent>,
    /// T1 and T2; none: never.
    pub(super) renew: Option<Time>,
    pub(super) rebind: Option<Time>,
    pub(super) told: Told,
    /// When it was asked for, or extended: its times count from there.
    pub asked: Time,
    /// The Reply as it came, for keeping.
    pub message: Vec<u8>,
}

pub(super) struct Lent {
    pub(super) address: Ipv6Addr,
    pub(super) preferred: Until,
    pub(super) valid: Until,
    /// When it was seen on the device first.
    seen: Option<Time>,
}

/// Information that came without a lease.
pub(super) struct Information {
    pub(super) told: Told,
    asked: Time,
    /// When it is to be asked for again.
    pub(super) again: Time,
    span: Duration,
}

/// What a server tells beside addresses.
pub(super) struct Told {
    pub(super) dns: Vec<Ipv6Addr>,
    pub(super) search: Vec<String>,
    pub(super) portal: Option<String>,
}

impl Held {
    /// What a server has granted to what was asked at `asked`. An address that it does not mention stays as it was
    /// (RFC 8415, 18.2.10.1); one whose lifetime is 0 ends.
    pub(super) fn of(answer: Answer, before: Option<Held>, asked: Time, now: Time) -> Held {
        let mut addresses = before.map(|held| held.addresses).unwrap_or_default();
        let ia = answer.ia.unwrap_or_default();
        for told in &ia.addresses {
            let (preferred, valid) = (until(told.preferred, asked), until(told.valid, asked));
            if let Some(known) = addresses.iter_mut().find(|known| known.address == told.address) {
                (known.preferred, known.valid) = (preferred, valid);
            } else if addresses.len() < MAX {
                addresses.push(Lent { address: told.address, preferred, valid, seen: None });
            }
        }
        addresses.retain(|a| holds(a.valid, now));
        let told = Told { dns: answer.dns, search: answer.search, portal: answer.portal };
        let (server, message) = (answer.server, Vec::new());
        let mut held = Held { server, addresses, renew: None, rebind: None, told, asked, message };
        // RFC 8415, 21.4: half and four fifths of the shortest time. A server that lends what is not preferred any more has
        // no such time; then that for which it is valid.
        let shortest = |time: &dyn Fn(&Lent) -> Until| {
            held.addresses.iter().filter_map(time).map(|t| t.since(asked)).filter(|s| !s.is_zero()).min()
        };
        let base = shortest(&|a| a.preferred).or_else(|| shortest(&|a| a.valid));
        let time = |told: u32, tenths: u32| match told {
            0 => base.map(|span| asked + span * tenths / 10),
            told => until(told, asked),
        };
        (held.renew, held.rebind) = (time(ia.renew, 5), time(ia.rebind, 8));
        held
    }

    /// The lease of a Reply that was kept, without what is over by now. Nothing if it is none of this device's.
    pub fn of_kept(message: Vec<u8>, asked: Time, mac: [u8; 6], now: Time) -> Option<Held> {
        let &[_, a, b, c] = message.first_chunk()?;
        let answer = dhcp6::parse(&message, u32::from_be_bytes([0, a, b, c]), Some(mac)).ok()?;
        let lends = |answer: &Answer| !answer.advertise && answer.ia.is_some();
        Some(answer).filter(lends).map(|answer| Held { message, ..Held::of(answer, None, asked, now) })
    }

    /// What makes it worth keeping anew: who lent it, its addresses, the DNS servers.
    pub fn essence(&self) -> Vec<u8> {
        let mut all = self.server.clone();
        self.list().iter().chain(&self.told.dns).for_each(|addr| all.extend_from_slice(&addr.octets()));
        all
    }

    /// The addresses.
    pub fn list(&self) -> Vec<Ipv6Addr> {
        self.addresses.iter().map(|a| a.address).collect()
    }

    /// When all of it is over; `None`: never.
    pub fn end(&self) -> Option<Time> {
        let all: Option<Vec<Time>> = self.addresses.iter().map(|a| a.valid).collect();
        all.and_then(|ends| ends.into_iter().max())
    }

    pub(super) fn next_end(&self) -> Option<Time> {
        self.addresses.iter().filter_map(|a| a.valid).min()
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.addresses.retain(|a| holds(a.valid, now));
    }

    pub(super) fn unseen(&mut self) {
        self.addresses.iter_mut().for_each(|a| a.seen = None);
    }

    /// Takes out the addresses that turn out to be somebody else's, and gives them.
    pub(super) fn taken(&mut self, there: &[Address], now: Time) -> Vec<Ipv6Addr> {
        let mut taken = Vec::new();
        self.addresses.retain_mut(|lent| {
            let gone = match there.iter().find(|a| a.prefix.addr == IpAddr::V6(lent.address)) {
                Some(address) => {
                    lent.seen = lent.seen.or(Some(now));
                    address.dad_failed
                }
                None => lent.seen.take().is_some_and(|t| now.since(t) < DETECTION),
            };
            if gone {
                taken.push(lent.address);
            }
            !gone
        });
        taken
    }
}

impl Information {
    pub(super) fn of(answer: Answer, asked: Time) -> Information {
        let span = match answer.refresh {
            None => REFRESH,
            Some(told) => Duration::from_secs(told.clamp(MIN_REFRESH, MAX_REFRESH).into()),
        };
        let told = Told { dns: answer.dns, search: answer.search, portal: answer.portal };
        Information { told, asked, again: asked + span, span }
    }

    /// Nobody has confirmed it in all that time.
    pub(super) fn end(&self) -> Time {
        self.asked + self.span * 2
    }
}

/// RFC 8415, 21.23, and a bound: a month.
const REFRESH: Duration = Duration::from_secs(86_400);
const MIN_REFRESH: u32 = 600;
const MAX_REFRESH: u32 = 30 * 86_400;
/// How many addresses are taken.
const MAX: usize = 4;
