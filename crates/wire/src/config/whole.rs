//! What no section shows alone: two of them that contradict each other.

use super::keys::Kind;
use super::{Places, Reader};
use crate::uci::Place;
use alloc::fmt::format;
use core::fmt;
use core::net::SocketAddr;
use narrowgate_model::Server;
use narrowgate_model::config::{Config, Resolver, Via};

impl Reader {
    /// Two sections of a type cannot share a name; only an anonymous one, which is called after its device, gets into this.
    pub(super) fn unique(&mut self, kind: &Kind, name: &str, place: Place, places: &mut Places) {
        let kind = kind.name;
        if let Some(first) = places.earlier(format_args!("{kind} {name}"), place) {
            self.problem(
                place,
                format_args!(
                    "{kind} `{name}`: line {} has another of this name\n\
                     name this one, for instance: config {kind} '{name}_2'",
                    first.line
                ),
            );
        }
    }

    #[inline(never)]
    pub(super) fn devices(&mut self, config: &Config, places: &Places) {
        for (tunnel, place) in config.tunnels.iter().zip(&places.tunnels) {
            let Some(device) = &tunnel.device else { continue };
            let uplink = config.uplinks.iter().position(|uplink| uplink.device == *device);
            if let Some(first) = uplink.and_then(|n| places.uplinks.get(n)) {
                self.problem(
                    *place,
                    format_args!(
                        "tunnel `{}`: its device {device} is the uplink's of line {}, and nothing can be both\n\
                         write the device that the VPN makes, or leave the option out",
                        tunnel.name, first.line
                    ),
                );
            }
        }
    }

    /// Gives link-local servers their device where there is but one it can be.
    pub(super) fn scopes(&mut self, config: &mut Config, places: &Places) {
        let only = match config.uplinks.as_slice() {
            [uplink] => Some(uplink.device.as_str()),
            _ => None,
        };
        for (resolver, place) in config.resolvers.iter_mut().zip(&places.resolvers) {
            let device = if resolver.via == Via::Uplink { only } else { None };
            for server in &mut resolver.servers {
                self.scope(server, device, *place);
            }
        }
    }

    pub(super) fn scope(&mut self, server: &mut Server, device: Option<&str>, place: Place) {
        if let Some(device) = device {
            server.scope_to(device);
        }
        if server.is_link_local() && server.scope.is_none() {
            self.problem(
                place,
                format_args!(
                    "server `{server}`: a link-local address means nothing without its device\n\
                     write {}%DEVICE",
                    server.addr
                ),
            );
        }
    }

    /// Without a peer, `strict` closes the way for good.
    pub(super) fn strict(&mut self, config: &Config, places: &Places) {
        for (tunnel, place) in config.tunnels.iter().zip(&places.tunnels) {
            if tunnel.peers.is_empty() {
                self.problem(
                    *place,
                    format_args!(
                        "tunnel `{}`: no peer, and with option strict only peers can be looked up and reached\n\
                         add: list peer 'vpn.example.net', or set option strict '0'",
                        tunnel.name
                    ),
                );
            }
        }
    }

    #[inline(never)]
    pub(super) fn listeners(&mut self, config: &Config, places: &mut Places) {
        for (n, resolver) in config.resolvers.iter().enumerate() {
            let Some(place) = places.resolvers.get(n).copied() else { return };
            for listen in &resolver.listen {
                let first = places.earlier(format_args!("listen {listen}"), place);
                let Some(first) = first.filter(|first| *first != place) else { continue };
                let other: &dyn fmt::Display = match first {
                    Place::START => &"the resolver via the uplink, which is there unless written,",
                    _ => &format_args!("the resolver of line {}", first.line),
                };
                self.problem(
                    place,
                    format_args!(
                        "resolver `{}`: {other} listens on {listen} already\n\
                         give this one another port or address",
                        resolver.name
                    ),
                );
            }
            if let Some(server) = resolver.servers.iter().find(|s| asks_itself(resolver, s)) {
                self.itself(place, "server", server);
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
            format_args!(
                "{option} `{server}`: this is the resolver itself, which would ask without end\n\
                 write the server that it is to ask"
            ),
        );
    }
}

impl Places {
    /// Where `what` was first seen, if it was; else it is noted.
    pub(super) fn earlier(&mut self, what: fmt::Arguments<'_>, place: Place) -> Option<Place> {
        let what = format(what);
        let first = self.taken.iter().find(|(taken, _)| *taken == what).map(|(_, place)| *place);
        if first.is_none() {
            self.taken.push((what, place));
        }
        first
    }
}

/// Whether `server` is where the resolver listens.
pub(super) fn asks_itself(resolver: &Resolver, server: &Server) -> bool {
    resolver.listen.contains(&SocketAddr::new(server.addr, server.port))
}
