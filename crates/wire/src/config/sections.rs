//! One section of a config file to one entry of [`Config`].

use super::keys::{Entry, Key, Kind};
use super::values::{self, Checked, NOTHING};
use super::{Places, Reader};
use crate::uci::{Place, Section};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use narrowgate_model::Server;
use narrowgate_model::config::{Config, Group, ProviderKind, Resolver, Tunnel, Uplink, Via};

impl Reader {
    pub(super) fn globals(
        &mut self,
        section: &Section,
        kind: &Kind,
        config: &mut Config,
        places: &mut Places,
    ) {
        let place = section.kind.place;
        if let Some(first) = places.earlier(format_args!("globals"), place) {
            self.problem(
                place,
                format_args!(
                    "narrowgate: a second section of this type, after line {}\nmove its options into the first one",
                    first.line
                ),
            );
        }
        self.fill(section, kind, config);
    }

    /// Nothing comes of it only without a device that could stand for it.
    pub(super) fn uplink(
        &mut self,
        section: &Section,
        kind: &Kind,
        config: &mut Config,
        places: &mut Places,
    ) {
        let mut uplink = Uplink::new("", "");
        if section.has("inbound") {
            uplink.inbound.clear();
        }
        self.fill(section, kind, &mut uplink);
        if !section.has("device") && !section.refused {
            self.problem(
                section.kind.place,
                format_args!(
                    "uplink: the device is missing, so nothing can be guarded\n\
                     add: option device 'eth0'"
                ),
            );
        }
        if uplink.inbound.contains(&NOTHING) {
            if uplink.inbound.len() > 1 {
                self.problem(
                    place_of(section, "inbound"),
                    format_args!(
                        "inbound: `none` together with something that is allowed\n\
                         remove one of them"
                    ),
                );
            }
            uplink.inbound.clear();
        }
        self.provider_fits(section, &uplink);
        let device = &uplink.device;
        if device.is_empty() {
            return;
        }
        for server in &mut uplink.dns {
            server.scope_to(device);
            if let Some(scope) = server.scope.as_ref().filter(|scope| *scope != device) {
                self.problem(
                    place_of(section, "dns"),
                    format_args!(
                        "dns `{server}`: {scope} is not this uplink's device, which is {device}\n\
                         leave the device out, or move the server to its uplink"
                    ),
                );
            }
        }
        uplink.name = section.name.as_ref().map_or(device, |name| &name.text).clone();
        let place = section.kind.place;
        self.unique(kind, &uplink.name, place, places);
        if let Some(first) = places.earlier(format_args!("device {device}"), place) {
            self.problem(
                place,
                format_args!(
                    "uplink `{}`: the uplink of line {} is on the same device {device}\n\
                     make them one section, with several `list interface` for netifd",
                    uplink.name, first.line
                ),
            );
        }
        places.uplinks.push(place);
        config.uplinks.push(uplink);
    }

    /// Addresses that nobody would look at are a misunderstanding. (`list interface` is not: the same file may serve with netifd and without.)
    #[inline(never)]
    fn provider_fits(&mut self, section: &Section, uplink: &Uplink) {
        if uplink.provider == ProviderKind::Static {
            if !section.has("address") && !section.refused {
                self.problem(
                    section.kind.place,
                    format_args!(
                        "uplink: the provider `static` knows no address but those written here, and there is none\n\
                         add: list address '192.0.2.2/24'"
                    ),
                );
            }
            for gateway in &uplink.gateways {
                let reached = uplink.addresses.iter().any(|a| a.is_ipv6() == gateway.is_ipv6());
                if !reached && !uplink.addresses.is_empty() {
                    self.problem(
                        place_of(section, "gateway"),
                        format_args!(
                            "gateway `{gateway}`: the uplink has no address of this family\n\
                             add a `list address` of the gateway's network"
                        ),
                    );
                    break;
                }
            }
            return;
        }
        for name in ["address", "gateway"] {
            if section.has(name) {
                self.problem(
                    place_of(section, name),
                    format_args!(
                        "{name}: only the provider `static` looks at it, the others learn it\n\
                         remove the line, or write: option provider 'static'"
                    ),
                );
            }
        }
    }

    /// Nothing comes of it if there is nothing in it.
    pub(super) fn tunnel(
        &mut self,
        section: &Section,
        kind: &Kind,
        config: &mut Config,
        places: &mut Places,
    ) {
        let mut tunnel =
            Tunnel { name: String::new(), group: None, device: None, peers: Vec::new(), cgroup: None };
        self.fill(section, kind, &mut tunnel);
        let place = section.kind.place;
        if !kind.keys.iter().any(|key| section.has(key.name())) {
            if !section.refused {
                self.problem(
                    place,
                    format_args!(
                        "tunnel: neither group nor device nor peer nor cgroup, so nothing tells which program it is\n\
                         add: option group 'gluon-mesh-vpn', or option cgroup '/…'"
                    ),
                );
            }
            return;
        }
        tunnel.name = match (&section.name, &tunnel.device, &tunnel.group) {
            (Some(name), _, _) => name.text.clone(),
            (None, Some(name), _) | (None, None, Some(Group::Name(name))) => name.clone(),
            _ => numbered(kind, config.tunnels.len()),
        };
        self.unique(kind, &tunnel.name, place, places);
        places.tunnels.push(place);
        config.tunnels.push(tunnel);
    }

    pub(super) fn resolver(
        &mut self,
        section: &Section,
        kind: &Kind,
        config: &mut Config,
        places: &mut Places,
    ) {
        let name = match &section.name {
            Some(name) => name.text.clone(),
            None => numbered(kind, config.resolvers.len()),
        };
        let via = if name == "wan" { Via::Uplink } else { Via::Mesh };
        let mut resolver = Resolver { name, via, listen: Vec::new(), servers: Vec::new(), cache: 0 };
        self.fill(section, kind, &mut resolver);
        let mesh = resolver.via == Via::Mesh;
        if !section.has("listen") {
            resolver.listen = match mesh {
                false => Resolver::wan_listen(),
                true => vec![SocketAddr::from(([127, 0, 0, 1], port(Via::Mesh)))],
            };
        }
        let place = section.kind.place;
        if mesh && !section.has("server") && !section.refused {
            self.problem(
                place,
                format_args!(
                    "resolver `{}`: it asks via the mesh, where servers are not learnt, and none is written\n\
                     add: list server 'fd42::1', or: option via 'uplink'",
                    resolver.name
                ),
            );
        }
        self.unique(kind, &resolver.name, place, places);
        places.resolvers.push(place);
        config.resolvers.push(resolver);
    }
}

impl Entry for Config {
    fn put(&mut self, key: Key, text: &str) -> Checked<()> {
        match key {
            Key::Mark => self.mark = values::mark(text)?,
            Key::Table => self.table = values::table(text)?,
            Key::Priority => self.rule_priority = values::priority(text)?,
            _ => self.strict = values::boolean(text)?,
        }
        Ok(())
    }
}

impl Entry for Uplink {
    fn put(&mut self, key: Key, text: &str) -> Checked<()> {
        match key {
            Key::Device => self.device = values::device(text)?,
            Key::Provider => self.provider = values::provider(text)?,
            Key::Interface => once(&mut self.interfaces, values::interface(text)?),
            Key::Dns => return self.dns.put(key, text),
            Key::Inbound => once(&mut self.inbound, values::inbound(text)?),
            Key::Metric => self.metric = values::metric(text)?,
            Key::Address => once(&mut self.addresses, values::address(text)?),
            _ => once(&mut self.gateways, values::gateway(text)?),
        }
        Ok(())
    }
}

impl Entry for Tunnel {
    fn put(&mut self, key: Key, text: &str) -> Checked<()> {
        match key {
            Key::Group => self.group = Some(values::group(text)?),
            Key::Device => self.device = Some(values::device(text)?),
            Key::Peer => once(&mut self.peers, values::peer(text)?),
            _ => self.cgroup = Some(values::cgroup(text)?),
        }
        Ok(())
    }
}

impl Entry for Resolver {
    fn put(&mut self, key: Key, text: &str) -> Checked<()> {
        match key {
            Key::Listen => once(&mut self.listen, values::listen(text, port(self.via))?),
            Key::Via => self.via = values::via(text)?,
            Key::Server => return self.servers.put(key, text),
            _ => self.cache = values::cache(text)?,
        }
        Ok(())
    }
}

impl Entry for Vec<Server> {
    fn put(&mut self, _: Key, text: &str) -> Checked<()> {
        once(self, values::server(text)?);
        Ok(())
    }
}

/// Without repetitions.
#[inline(never)]
fn once<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

/// Where a resolver listens, unless written.
fn port(via: Via) -> u16 {
    match via {
        Via::Uplink => 54,
        Via::Mesh => 53,
    }
}

fn numbered(kind: &Kind, number: usize) -> String {
    match number {
        0 => kind.name.to_owned(),
        n => format!("{}_{}", kind.name, n + 1),
    }
}

/// Where an option stands, for what concerns all of its values.
fn place_of(section: &Section, name: &str) -> Place {
    section.settings.iter().find(|s| s.name.text == name).map_or(section.kind.place, |s| s.name.place)
}
