//! What a lease tells: facts, and lines for `status`.

use super::Dhcp4;
use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr};
use narrowgate_model::facts::{AddressFact, DnsFact, Facts, Origin, Preference, RouteFact};
use narrowgate_model::{Prefix, Server, Time};
use narrowgate_wire::dhcp4::Lease;

impl Dhcp4 {
    /// Adds what the lease says to the facts.
    pub fn facts(&self, device: &str, facts: &mut Facts) {
        let Some(held) = &self.held else { return };
        let (lease, until, origin) = (&held.lease, held.end(), Origin::Dhcp4);
        facts.addresses.push(AddressFact {
            prefix: lease.address,
            broadcast: lease.broadcast,
            preferred_until: until,
            valid_until: until,
            origin,
        });
        for (dst, via) in routes(lease) {
            let preference = Preference::Medium;
            facts.routes.push(RouteFact { dst, via: via.map(IpAddr::V4), preference, until, origin });
        }
        for &addr in lease.dns.iter().take(MAX_SERVERS) {
            let server = Server::new(addr).scoped(device);
            if !facts.dns.iter().any(|d| d.server == server) {
                facts.dns.push(DnsFact { server, until, origin });
            }
        }
        for name in lease.search.iter().take(MAX_SERVERS) {
            if !facts.search.contains(name) {
                facts.search.push(name.clone());
            }
        }
        crate::builtin::portal(facts, lease.portal.as_ref(), origin);
    }

    /// For `status`.
    pub fn describe(&self, now: Time, out: &mut Vec<(String, String)>) {
        let mut text = format!("{:?}", self.phase);
        if let Some(held) = &self.held {
            let left =
                |t: Option<Time>| t.map_or("never".to_owned(), |t| format!("{} s", t.seconds_from(now)));
            text = format!(
                "{text}, {} from {}, renew in {}, ends in {}",
                held.lease.address,
                held.lease.server,
                left(held.at(held.lease.renew)),
                left(held.end())
            );
            if let Some(mtu) = held.lease.mtu {
                text += &format!(", MTU {mtu}");
            }
        }
        out.push(("dhcp".to_owned(), text));
        let c = self.counts;
        let text = format!(
            "{} sent, {} ACK, {} NAK, {} foreign, {} malformed",
            c.sent, c.acks, c.naks, c.foreign, c.malformed
        );
        out.push(("dhcp messages".to_owned(), text));
    }
}

/// The on-link prefix, a host route to every router outside of it, and the lease's routes; of several to one destination
/// the first, since IPv4 has no place for a second with the same metric.
fn routes(lease: &Lease) -> Vec<(Prefix, Option<Ipv4Addr>)> {
    let mut routes = Vec::new();
    if lease.address != Prefix::host(lease.address.addr) {
        routes.push((lease.address.network(), None));
    }
    for &(dst, via) in lease.routes.iter().take(MAX_ROUTES) {
        if let Some(router) = via
            && !routes.iter().any(|(on_link, via)| via.is_none() && on_link.contains(router.into()))
        {
            routes.push((Prefix::host(router), None));
        }
        if !routes.iter().any(|(known, _)| *known == dst) {
            routes.push((dst, via));
        }
    }
    routes
}

/// How much of a lease is believed: the kernel's tables and the forwarder's list are not a stranger's to fill.
const MAX_SERVERS: usize = 8;
const MAX_ROUTES: usize = 32;
