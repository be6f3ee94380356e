//! The prefixes of a link: what is on-link, and the addresses that are made from them (RFC 4862, 5.5.3).

use super::ra::{Until, holds, remember, until};
use super::slaac::{self, Secret};
use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use narrowgate_model::facts::{AddressFact, Facts, Origin, Preference, RouteFact};
use narrowgate_model::net::Address;
use narrowgate_model::{Prefix, Time};
use narrowgate_wire::ra::PrefixInfo;

/// All prefixes of one link.
pub(super) struct Prefixes {
    device: String,
    secret: Secret,
    on_link: Vec<(Prefix, Until)>,
    addresses: Vec<Own>,
}

/// An address of ours, or our trying to get one.
struct Own {
    prefix: Prefix,
    /// None: every one that was tried is taken.
    addr: Option<Ipv6Addr>,
    dad_counter: u8,
    /// When it was seen on the device first.
    seen: Option<Time>,
    preferred: Until,
    valid: Until,
}

impl Prefixes {
    pub(super) fn new(device: &str, secret: Secret) -> Prefixes {
        Prefixes { device: device.to_owned(), secret, on_link: Vec::new(), addresses: Vec::new() }
    }

    /// Takes in what an advertisement says of prefixes.
    pub(super) fn update(&mut self, told: &[PrefixInfo], now: Time) {
        for info in told {
            let IpAddr::V6(addr) = info.prefix.addr else { continue };
            if addr.is_unicast_link_local() || addr.is_multicast() || info.prefix.is_default() {
                continue;
            }
            if info.on_link {
                remember(&mut self.on_link, info.prefix, until(info.valid, now), MAX);
            }
            if info.autonomous && info.prefix.len == 64 && info.preferred <= info.valid {
                self.update_address(info, now);
            }
        }
    }

    fn update_address(&mut self, info: &PrefixInfo, now: Time) {
        let (preferred, valid) = (until(info.preferred, now), until(info.valid, now));
        if let Some(own) = self.addresses.iter_mut().find(|own| own.prefix == info.prefix) {
            own.preferred = preferred;
            own.valid = two_hours_rule(own.valid, info.valid, now);
        } else if info.valid > 0 && self.addresses.len() < MAX {
            let addr = slaac::address(info.prefix, &self.device, 0, &self.secret);
            self.addresses.push(Own {
                prefix: info.prefix,
                addr,
                dad_counter: 0,
                seen: None,
                preferred,
                valid,
            });
        }
    }

    /// What stands on the device. An address whose duplicate address detection failed is somebody else's; so is one that
    /// has vanished soon after it was set: the kernel deletes those that have lifetimes, instead of telling. It deletes
    /// them at their end too, by its own clock of whole seconds.
    pub(super) fn on_addresses(&mut self, addresses: &[Address], now: Time) {
        for own in &mut self.addresses {
            let Some(addr) = own.addr else { continue };
            match addresses.iter().find(|a| a.prefix.addr == IpAddr::V6(addr)) {
                Some(there) if there.dad_failed => own.taken(&self.device, &self.secret),
                Some(_) => own.seen = own.seen.or(Some(now)),
                None => {
                    let soon = own.seen.take().is_some_and(|t| now.since(t) < DETECTION);
                    if soon && own.valid.is_none_or(|end| end.since(now) > ROUNDING) {
                        own.taken(&self.device, &self.secret);
                    }
                }
            }
        }
    }

    /// The carrier is gone: what vanishes now says nothing about neighbours.
    pub(super) fn on_carrier_lost(&mut self) {
        for own in &mut self.addresses {
            own.seen = None;
        }
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.on_link.retain(|(_, until)| holds(*until, now));
        self.addresses.retain(|own| holds(own.valid, now));
    }

    pub(super) fn clear(&mut self) {
        self.on_link.clear();
        self.addresses.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.on_link.is_empty() && self.addresses.is_empty()
    }

    pub(super) fn knows(&self, prefix: Prefix) -> bool {
        self.on_link.iter().any(|(p, _)| *p == prefix)
            || self.addresses.iter().any(|own| own.prefix == prefix)
    }

    /// When something ends to hold.
    pub(super) fn ends(&self) -> impl Iterator<Item = Until> {
        self.on_link.iter().map(|(_, until)| *until).chain(self.addresses.iter().map(|own| own.valid))
    }

    pub(super) fn facts(&self, facts: &mut Facts) {
        for own in &self.addresses {
            if let Some(addr) = own.addr {
                facts.addresses.push(AddressFact {
                    prefix: Prefix::new(addr, own.prefix.len),
                    broadcast: None,
                    preferred_until: own.preferred,
                    valid_until: own.valid,
                    origin: Origin::Ra,
                });
            }
        }
        for &(dst, until) in &self.on_link {
            let preference = Preference::Medium;
            facts.routes.push(RouteFact { dst, via: None, preference, until, origin: Origin::Ra });
        }
    }
}

impl Own {
    /// Somebody else has the address: take the next.
    fn taken(&mut self, device: &str, secret: &Secret) {
        let Some(taken) = self.addr else { return };
        self.seen = None;
        self.dad_counter = self.dad_counter.saturating_add(1);
        self.addr = (self.dad_counter <= slaac::RETRIES)
            .then(|| slaac::address(self.prefix, device, self.dad_counter, secret))
            .flatten();
        match self.addr {
            Some(next) => log::warn!("{device}: {taken} is somebody else's; trying {next}"),
            None => log::warn!("{device}: {taken} is somebody else's too; no address in {}", self.prefix),
        }
    }
}

/// RFC 4862, 5.5.3 e: a lifetime may be made longer as one likes, but no shorter than two hours, so that a forged
/// advertisement cannot take an address away at once.
fn two_hours_rule(valid: Until, told: u32, now: Time) -> Until {
    let remaining = valid.map(|t| t.since(now));
    let longer = remaining.is_some_and(|r| Duration::from_secs(told.into()) > r) || told == u32::MAX;
    if longer || told > TWO_HOURS {
        until(told, now)
    } else if remaining.is_some_and(|r| r <= Duration::from_secs(TWO_HOURS.into())) {
        valid
    } else {
        until(TWO_HOURS, now)
    }
}

/// Duplicate address detection takes a random delay of at most 1 s and an answer's time of 1 s.
pub(super) const DETECTION: Duration = Duration::from_secs(3);
/// So much sooner than we the kernel may take a lifetime for over.
const ROUNDING: Duration = Duration::from_secs(2);
const TWO_HOURS: u32 = 7200;
/// How many prefixes of a kind are remembered: a hostile link must not fill the memory.
const MAX: usize = 16;
