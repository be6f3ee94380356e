//! What a lease tells, and what was told without one: facts, and lines for `status`.

use super::Dhcp6;
use super::lease::{Held, Information};
use alloc::{borrow::ToOwned, string::String, vec::Vec};
use narrowgate_model::facts::{AddressFact, DnsFact, Facts, Origin};
use narrowgate_model::{Prefix, Server, Time};

impl Dhcp6 {
    /// Adds what holds to the facts. Addresses come without a prefix: which prefixes are on-link RAs alone say.
    pub fn facts(&self, device: &str, facts: &mut Facts) {
        let origin = Origin::Dhcp6;
        for lent in self.held.iter().flat_map(|held| &held.addresses) {
            facts.addresses.push(AddressFact {
                prefix: Prefix::host(lent.address),
                broadcast: None,
                preferred_until: lent.preferred,
                valid_until: lent.valid,
                origin,
            });
        }
        let lent = self.held.as_ref().map(|held| (&held.told, held.end()));
        let information = self.information.as_ref().map(|i| (&i.told, Some(Information::end(i))));
        for (told, until) in lent.into_iter().chain(information) {
            for &addr in told.dns.iter().take(MAX) {
                let server = Server::new(addr).scoped(device);
                if !facts.dns.iter().any(|d| d.server == server) {
                    facts.dns.push(DnsFact { server, until, origin });
                }
            }
            for name in told.search.iter().take(MAX) {
                if !facts.search.contains(name) {
                    facts.search.push(name.clone());
                }
            }
            crate::builtin::portal(facts, told.portal.as_ref(), origin);
        }
    }

    /// For `status`.
    pub fn describe(&self, now: Time, out: &mut Vec<(String, String)>) {
        let left = |t: Option<Time>| t.map_or("never".to_owned(), |t| format!("{} s", t.seconds_from(now)));
        let mut text = format!("{:?}", self.phase);
        if let Some(held) = &self.held {
            for address in held.list() {
                text += &format!(", {address}");
            }
            text += &format!(", renew in {}, ends in {}", left(held.renew), left(Held::end(held)));
        }
        if let Some(information) = &self.information {
            text += &format!(", information until asked again in {}", left(Some(information.again)));
        }
        out.push(("dhcp6".to_owned(), text));
        let c = self.counts;
        let text = format!(
            "{} sent, {} replies, {} refusals, {} foreign, {} malformed",
            c.sent, c.replies, c.refusals, c.foreign, c.malformed
        );
        out.push(("dhcp6 messages".to_owned(), text));
    }
}

/// How many servers and names of a kind are believed.
const MAX: usize = 8;
