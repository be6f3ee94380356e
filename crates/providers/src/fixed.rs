//! The `static` provider: addresses, gateways and DNS servers as the config has them.

use crate::Provider;
use alloc::{string::String, vec::Vec};
use core::net::IpAddr;
use narrowgate_model::config::Uplink;
use narrowgate_model::facts::{AddressFact, DnsFact, Origin, Preference, RouteFact};
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Prefix, Time};
use rustix::fd::BorrowedFd;

/// Facts that never change but for the link.
pub(crate) struct Fixed {
    facts: Facts,
}

impl Fixed {
    pub(crate) fn new(uplink: &Uplink) -> Fixed {
        let origin = Origin::Config;
        let addresses = uplink.addresses.iter().map(|&prefix| AddressFact {
            prefix,
            broadcast: None,
            preferred_until: None,
            valid_until: None,
            origin,
        });
        let dns = uplink.dns.iter().map(|server| DnsFact {
            server: server.clone().scoped(&uplink.device),
            until: None,
            origin,
        });
        Fixed {
            facts: Facts {
                addresses: addresses.collect(),
                routes: routes(uplink),
                dns: dns.collect(),
                ..Facts::default()
            },
        }
    }
}

/// The on-link prefixes; a host route to each gateway outside of them; the default routes, of which the first of each
/// family is preferred.
fn routes(uplink: &Uplink) -> Vec<RouteFact> {
    let route = |dst: Prefix, via, preference| RouteFact {
        dst,
        via,
        preference,
        until: None,
        origin: Origin::Config,
    };
    let mut routes: Vec<RouteFact> = Vec::new();
    for prefix in uplink.addresses.iter().filter(|p| **p != Prefix::host(p.addr)) {
        let on_link = route(prefix.network(), None, Preference::Medium);
        if !routes.contains(&on_link) {
            routes.push(on_link);
        }
    }
    for &gateway in &uplink.gateways {
        let reached =
            uplink.addresses.iter().any(|p| p.contains(gateway)) || Prefix::LINK_LOCAL.contains(gateway);
        if !reached {
            routes.push(route(Prefix::host(gateway), None, Preference::Medium));
        }
        let dst = match gateway {
            IpAddr::V4(_) => Prefix::DEFAULT_V4,
            IpAddr::V6(_) => Prefix::DEFAULT_V6,
        };
        let first = !routes.iter().any(|r| r.dst == dst);
        routes.push(route(dst, Some(gateway), if first { Preference::Medium } else { Preference::Low }));
    }
    routes
}

impl Provider for Fixed {
    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn on_link(&mut self, link: Option<&Link>, _: Time) -> bool {
        let changed = self.facts.link.as_ref() != link;
        self.facts.link = link.cloned();
        changed
    }
    fn on_addresses(&mut self, _: &[Address], _: Time) -> bool {
        false
    }
    fn fds<'a>(&'a self, _: &mut Vec<BorrowedFd<'a>>) {}
    fn on_readable(&mut self, _: Time) -> bool {
        false
    }
    fn on_timer(&mut self, _: Time) -> bool {
        false
    }
    fn next_timeout(&self) -> Option<Time> {
        None
    }
    fn settled(&self, _: Time) -> bool {
        true
    }
    fn stop(&mut self, _: Time) {
        self.facts = Facts::default();
    }
    fn kind(&self) -> &'static str {
        "static"
    }
    fn describe(&self, _: Time) -> Vec<(String, String)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_becomes_facts_with_a_way_to_gateways_outside_the_prefixes() {
        let mut uplink = Uplink::new("wan", "eth0");
        uplink.addresses = vec!["192.0.2.7/24".parse().unwrap(), "2001:db8::7/128".parse().unwrap()];
        uplink.gateways =
            ["192.0.2.1", "198.51.100.1", "fe80::1"].iter().map(|g| g.parse().unwrap()).collect();
        uplink.dns = vec!["fe80::53".parse().unwrap()];
        let mut fixed = Fixed::new(&uplink);
        let shown: Vec<String> = fixed
            .facts()
            .routes
            .iter()
            .map(|r| format!("{} {:?} {:?}", r.dst, r.via.map(|v| v.to_string()), r.preference))
            .collect();
        assert_eq!(
            shown,
            [
                "192.0.2.0/24 None Medium",
                "0.0.0.0/0 Some(\"192.0.2.1\") Medium",
                "198.51.100.1/32 None Medium",
                "0.0.0.0/0 Some(\"198.51.100.1\") Low",
                "::/0 Some(\"fe80::1\") Medium",
            ]
        );
        assert_eq!(fixed.facts().dns[0].server.to_string(), "fe80::53%eth0");
        assert_eq!(fixed.facts().addresses.len(), 2);
        fixed.stop(Time(0));
        assert_eq!(fixed.facts(), &Facts::default());
    }
}
