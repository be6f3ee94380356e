//! One section of a config file to one entry of [`Config`].

use super::Reader;
use super::values::{self, Word};
use crate::uci::{Place, Section};
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::net::{IpAddr, SocketAddr};
use narrowgate_model::Gather;
use narrowgate_model::config::{Config, Group, ProviderKind, Resolver, Tunnel, Uplink, Via};

impl Reader<'_> {
    pub(super) fn globals(&mut self, section: &Section, config: &mut Config) {
        if let Some(mark) = self.option(section, "mark", values::mark) {
            config.mark = mark;
        }
        if let Some(table) = self.option(section, "table", values::table) {
            config.table = table;
        }
        if let Some(priority) = self.option(section, "priority", values::priority) {
            config.rule_priority = priority;
        }
        if let Some(strict) = self.option(section, "strict", values::boolean) {
            config.strict = strict;
        }
    }

    /// `None` only without a device that could stand for it.
    pub(super) fn uplink(&mut self, section: &Section) -> Option<Uplink> {
        let device = self.option(section, "device", values::device);
        if section.value("device").is_none() && !section.refused {
            self.problem(
                section.kind.place,
                format_args!("uplink: the device is missing, so nothing can be guarded"),
                "add: option device 'eth0'",
            );
        }
        let name = section.name.as_ref().map(|n| n.text.as_str()).or(device.as_deref()).unwrap_or_default();
        let mut uplink = Uplink::new(name, device.as_deref().unwrap_or_default());
        if let Some(provider) = self.option(section, "provider", values::provider) {
            uplink.provider = provider;
        }
        if let Some(metric) = self.option(section, "metric", values::metric) {
            uplink.metric = metric;
        }
        uplink.interfaces = self.list(section, "interface", values::interface);
        uplink.dns = self.list(section, "dns", values::server);
        uplink.addresses = self.list(section, "address", values::address);
        uplink.gateways = self.list(section, "gateway", values::gateway);
        self.inbound(section, &mut uplink);
        self.provider_fits(section, &uplink);
        let device = device?;
        for server in &mut uplink.dns {
            *server = server.clone().scoped(&device);
            if let Some(scope) = server.scope.as_ref().filter(|scope| **scope != device) {
                self.problem(
                    place_of(section, "dns"),
                    format_args!("dns `{server}`: {scope} is not this uplink's device, which is {device}"),
                    "leave the device out, or move the server to its uplink",
                );
            }
        }
        Some(uplink)
    }

    fn inbound(&mut self, section: &Section, uplink: &mut Uplink) {
        if section.value("inbound").is_none() {
            return;
        }
        let words = self.list(section, "inbound", values::inbound);
        if words.contains(&Word::None) && words.len() > 1 {
            self.problem(
                place_of(section, "inbound"),
                format_args!("inbound: `none` together with something that is allowed"),
                "remove one of them",
            );
        }
        let allowed = words.into_iter().filter_map(|w| match w {
            Word::One(inbound) => Some(inbound),
            Word::None => None,
        });
        uplink.inbound = allowed.gather();
    }

    /// Addresses that nobody would look at are a misunderstanding. (`list interface` is not: the same file may serve with netifd and without.)
    fn provider_fits(&mut self, section: &Section, uplink: &Uplink) {
        let provider = uplink.provider;
        if provider == ProviderKind::Static {
            if section.value("address").is_none() && !section.refused {
                self.problem(section.kind.place, format_args!("uplink: the provider `static` knows no address but those written here, and there is none"), "add: list address '192.0.2.2/24'");
            }
            let family = |ipv6: bool| uplink.addresses.iter().any(|a| a.is_ipv6() == ipv6);
            let lost = |g: &&IpAddr| !family(g.is_ipv6()) && !uplink.addresses.is_empty();
            if let Some(gateway) = uplink.gateways.iter().find(lost) {
                self.problem(
                    place_of(section, "gateway"),
                    format_args!("gateway `{gateway}`: the uplink has no address of this family"),
                    "add a `list address` of the gateway's network",
                );
            }
            return;
        }
        for name in ["address", "gateway"] {
            if section.value(name).is_some() {
                self.problem(
                    place_of(section, name),
                    format_args!("{name}: only the provider `static` looks at it, the others learn it"),
                    "remove the line, or write: option provider 'static'",
                );
            }
        }
    }

    /// `None` if there is nothing in it. `number`: how many there were before.
    pub(super) fn tunnel(&mut self, section: &Section, number: usize) -> Option<Tunnel> {
        let group = self.option(section, "group", values::group);
        let device = self.option(section, "device", values::device);
        let peers = self.list(section, "peer", values::peer);
        let cgroup = self.option(section, "cgroup", values::cgroup);
        if ["group", "device", "peer", "cgroup"].iter().all(|name| section.value(name).is_none()) {
            if section.refused {
                return None;
            }
            self.problem(
                section.kind.place,
                format_args!("tunnel: neither group nor device nor peer nor cgroup, so nothing tells which program it is"),
                "add: option group 'gluon-mesh-vpn', or option cgroup '/…'",
            );
            return None;
        }
        let name = match (&section.name, &device, &group) {
            (Some(name), _, _) => name.text.clone(),
            (None, Some(device), _) => device.clone(),
            (None, None, Some(Group::Name(group))) => group.clone(),
            _ => numbered("tunnel", number),
        };
        Some(Tunnel { name, group, device, peers, cgroup })
    }

    pub(super) fn resolver(&mut self, section: &Section, number: usize) -> Resolver {
        let name = match &section.name {
            Some(name) => name.text.clone(),
            None => numbered("resolver", number),
        };
        let default = if name == "wan" { Via::Uplink } else { Via::Mesh };
        let via = self.option(section, "via", values::via).unwrap_or(default);
        let cache = self.option(section, "cache", values::cache).unwrap_or_default();
        let port = match via {
            Via::Uplink => 54,
            Via::Mesh => 53,
        };
        let mut listen = self.list(section, "listen", |text| values::listen(text, port));
        let servers = self.list(section, "server", values::server);
        if section.value("listen").is_none() {
            listen = match via {
                Via::Uplink => Resolver::wan_listen(),
                Via::Mesh => vec![SocketAddr::from(([127, 0, 0, 1], port))],
            };
        }
        if via == Via::Mesh && section.value("server").is_none() && !section.refused {
            let mend = "add: list server 'fd42::1', or: option via 'uplink'";
            self.problem(section.kind.place, format_args!(
                "resolver `{name}`: it asks via the mesh, where servers are not learnt, and none is written"
            ), mend);
        }
        Resolver { name, via, listen, servers, cache }
    }
}

fn numbered(kind: &str, number: usize) -> String {
    match number {
        0 => kind.to_owned(),
        n => format!("{kind}_{}", n + 1),
    }
}

/// Where an option stands, for what concerns all of its values.
fn place_of(section: &Section, name: &str) -> Place {
    section.settings.iter().find(|s| s.name.text == name).map_or(section.kind.place, |s| s.name.place)
}
