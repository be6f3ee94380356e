//! What no section shows alone: two of them that contradict each other.

use super::{Places, Reader};
use crate::uci::Place;
use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::net::SocketAddr;
use narrowgate_model::Server;
use narrowgate_model::config::{Config, Resolver, Via};

impl Reader<'_> {
    /// Two sections of a type cannot share a name; only an anonymous one, which is called after its device, gets into this.
    pub(super) fn names(&mut self, config: &Config, places: &Places) {
        let uplinks = config.uplinks.iter().map(|u| u.name.as_str());
        let tunnels = config.tunnels.iter().map(|t| t.name.as_str());
        let resolvers = config.resolvers.iter().map(|r| r.name.as_str());
        self.unique("uplink", uplinks.zip(&places.uplinks));
        self.unique("tunnel", tunnels.zip(&places.tunnels));
        self.unique("resolver", resolvers.zip(&places.resolvers));
    }

    fn unique<'a>(&mut self, kind: &str, named: impl Iterator<Item = (&'a str, &'a Place)>) {
        let mut seen: Vec<(&str, Place)> = Vec::new();
        for (name, place) in named {
            if let Some(first) = earlier(&mut seen, name, *place) {
                self.problem(
                    *place,
                    format_args!("{kind} `{name}`: line {} has another of this name", first.line),
                    &format!("name this one, for instance: config {kind} '{name}_2'"),
                );
            }
        }
    }

    pub(super) fn devices(&mut self, config: &Config, places: &Places) {
        let mut uplinks: Vec<(&str, Place)> = Vec::new();
        for (uplink, place) in config.uplinks.iter().zip(&places.uplinks) {
            if let Some(first) = earlier(&mut uplinks, uplink.device.as_str(), *place) {
                self.problem(
                    *place,
                    format_args!(
                        "uplink `{}`: the uplink of line {} is on the same device {}",
                        uplink.name, first.line, uplink.device
                    ),
                    "make them one section, with several `list interface` for netifd",
                );
            }
        }
        for (tunnel, place) in config.tunnels.iter().zip(&places.tunnels) {
            let Some(device) = tunnel.device.as_deref() else { continue };
            if let Some((_, first)) = uplinks.iter().find(|(d, _)| *d == device) {
                self.problem(*place, format_args!(
                    "tunnel `{}`: its device {device} is the uplink's of line {}, and nothing can be both",
                    tunnel.name, first.line
                ), "write the device that the VPN makes, or leave the option out");
            }
        }
    }

    /// Gives link-local servers their device where there is but one it can be.
    pub(super) fn scopes(&mut self, config: &mut Config, places: &Places) {
        let only = match config.uplinks.as_slice() {
            [uplink] => Some(uplink.device.clone()),
            _ => None,
        };
        for (resolver, place) in config.resolvers.iter_mut().zip(&places.resolvers) {
            let device = only.as_deref().filter(|_| resolver.via == Via::Uplink);
            for server in &mut resolver.servers {
                self.scope(server, device, *place);
            }
        }
    }

    pub(super) fn scope(&mut self, server: &mut Server, device: Option<&str>, place: Place) {
        if let Some(device) = device {
            *server = server.clone().scoped(device);
        }
        if server.is_link_local() && server.scope.is_none() {
            self.problem(
                place,
                format_args!("server `{server}`: a link-local address means nothing without its device"),
                &format!("write {}%DEVICE", server.addr),
            );
        }
    }

    /// Without a peer, `strict` closes the way for good.
    pub(super) fn strict(&mut self, config: &Config, places: &Places) {
        for (tunnel, place) in config.tunnels.iter().zip(&places.tunnels) {
            if tunnel.peers.is_empty() {
                self.problem(*place, format_args!(
                    "tunnel `{}`: no peer, and with option strict only peers can be looked up and reached",
                    tunnel.name
                ), "add: list peer 'vpn.example.net', or set option strict '0'");
            }
        }
    }

    pub(super) fn listeners(&mut self, config: &Config, places: &Places) {
        let mut seen: Vec<(SocketAddr, Place)> = Vec::new();
        for (resolver, place) in config.resolvers.iter().zip(&places.resolvers) {
            for listen in &resolver.listen {
                if let Some(first) = earlier(&mut seen, *listen, *place).filter(|first| first != place) {
                    let other = match config.uplink_resolvers().next() {
                        Some(wan) if *wan == Resolver::default_wan() && first == Place::START => {
                            "the resolver via the uplink, which is there unless written,".to_owned()
                        }
                        _ => format!("the resolver of line {}", first.line),
                    };
                    self.problem(
                        *place,
                        format_args!("resolver `{}`: {other} listens on {listen} already", resolver.name),
                        "give this one another port or address",
                    );
                }
            }
            if let Some(server) = resolver.servers.iter().find(|s| asks_itself(resolver, s)) {
                self.itself(*place, "server", server);
            }
        }
        for (uplink, place) in config.uplinks.iter().zip(&places.uplinks) {
            let loops = |s: &&Server| config.uplink_resolvers().any(|r| asks_itself(r, s));
            if let Some(server) = uplink.dns.iter().find(loops) {
                self.itself(*place, "dns", server);
            }
        }
    }

    pub(super) fn itself(&mut self, place: Place, option: &str, server: &Server) {
        self.problem(
            place,
            format_args!("{option} `{server}`: this is the resolver itself, which would ask without end"),
            "write the server that it is to ask",
        );
    }
}

/// Whether `server` is where the resolver listens.
pub(super) fn asks_itself(resolver: &Resolver, server: &Server) -> bool {
    resolver.listen.contains(&SocketAddr::new(server.addr, server.port))
}

/// Where `key` was first seen, if it was; else it is noted.
fn earlier<K: PartialEq>(seen: &mut Vec<(K, Place)>, key: K, place: Place) -> Option<Place> {
    let first = seen.iter().find(|(k, _)| *k == key).map(|(_, place)| *place);
    if first.is_none() {
        seen.push((key, place));
    }
    first
}
