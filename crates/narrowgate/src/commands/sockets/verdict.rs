//! Where a socket sends, and whether its mark is right for that. Pure.
//!
//! What a tunnel sends goes out by the uplink, so its sockets have to carry the mark, but for those that talk to this host or
//! to networks that other devices have routes to. An unmarked one that goes to the uplink's networks, or to where only a default
//! route leads, is dropped by the guard or, worse for the tunnel, sent into the tunnel itself.

use narrowgate_model::Gather;
use narrowgate_model::config::Config;
use narrowgate_model::net::RouteKind;
use narrowgate_model::state::Observed;
use narrowgate_model::{Mark, Prefix};
use narrowgate_policy::lookup::{self, Flow, Tables};
use std::net::{IpAddr, SocketAddr};

/// A socket, wherever it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// `tcp`, `udp`, `raw`, `icmp`, …
    pub protocol: &'static str,
    /// Its own address.
    pub local: Option<SocketAddr>,
    /// To whom it is connected.
    pub remote: Option<SocketAddr>,
    /// It waits for connections.
    pub listens: bool,
    /// Index of the device that it is bound to.
    pub device: Option<u32>,
    /// Its mark.
    pub mark: u32,
    /// It has no address and no port yet.
    pub unused: bool,
}

/// What the sockets of a tunnel or a resolver have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// What they send belongs to the uplink. It does not for a resolver that asks the mesh.
    pub mark: bool,
    /// Their DNS is redirected to the WAN resolver, by their group.
    pub redirected: bool,
}

/// What is to be said of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It carries the mark.
    Marked,
    /// It talks to this host only.
    Loopback,
    /// It waits for connections. Those that come in by the uplink get their mark as they come.
    Listens,
    /// It has sent nothing yet.
    Unused,
    /// It sends to a network of another device.
    Elsewhere,
    /// It sends, or may send, to the uplink.
    Unmarked,
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Marked => "marked",
            Verdict::Loopback => "loopback",
            Verdict::Listens => "listens",
            Verdict::Unused => "unused",
            Verdict::Elsewhere => "elsewhere",
            Verdict::Unmarked => "unmarked",
        }
    }
}

/// Where the sockets are.
pub struct Place<'a> {
    mark: Mark,
    uplinks: Vec<u32>,
    /// All of the uplinks' networks: those of their addresses, and those that they have routes to.
    networks: Vec<Prefix>,
    observed: &'a Observed,
}

impl<'a> Place<'a> {
    /// `observed` has the routes and addresses of all devices.
    pub fn new(config: &Config, observed: &'a Observed) -> Place<'a> {
        let is_uplink = |name: &String| config.uplinks.iter().any(|uplink| uplink.device == *name);
        let uplinks: Vec<u32> =
            observed.links.iter().filter(|link| is_uplink(&link.name)).map(|link| link.index).gather();
        let addresses =
            observed.addresses.iter().filter(|a| uplinks.contains(&a.link)).map(|a| a.prefix.network());
        let routes = observed.routes.iter().filter(|r| r.link.is_some_and(|link| uplinks.contains(&link)));
        let networks = addresses.chain(routes.map(|r| r.dst)).filter(|p| !is_default(*p)).gather();
        Place { mark: config.mark, uplinks, networks, observed }
    }

    /// A device's name.
    pub fn name(&self, index: u32) -> String {
        let link = self.observed.links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("device {index}"), |link| link.name.clone())
    }

    /// The verdict, and why where it is not plain.
    pub fn judge(&self, socket: &Seen, want: Want) -> (Verdict, String) {
        if self.mark.matches(socket.mark) {
            return (Verdict::Marked, String::new());
        }
        if socket.unused {
            return (Verdict::Unused, String::new());
        }
        let local = socket.local.map(|addr| addr.ip());
        let remote = socket.remote.map(|addr| addr.ip());
        if remote.or(local).is_some_and(|ip| ip.is_loopback()) || remote.is_some_and(|ip| self.is_own(ip)) {
            return (Verdict::Loopback, String::new());
        }
        if socket.listens {
            return (Verdict::Listens, String::new());
        }
        let device = socket.device.or(socket.remote.and_then(scope)).or(socket.local.and_then(scope));
        match (device, remote) {
            (Some(device), _) if self.uplinks.contains(&device) => {
                (Verdict::Unmarked, format!("it is bound to the uplink {}", self.name(device)))
            }
            (Some(device), _) => (Verdict::Elsewhere, self.name(device)),
            (None, Some(_)) if want.redirected && socket.remote.is_some_and(|addr| addr.port() == 53) => {
                (Verdict::Loopback, "DNS is redirected to the WAN resolver".to_owned())
            }
            (None, Some(remote)) => self.judge_remote(socket, local, remote, want),
            (None, None) if local.is_some_and(|ip| self.is_own_of(ip, true)) => {
                (Verdict::Unmarked, "it has the uplink's address".to_owned())
            }
            (None, None) if local.is_some_and(|ip| self.is_own_of(ip, false)) => {
                (Verdict::Elsewhere, "it has another device's address".to_owned())
            }
            (None, None) if want.mark => (Verdict::Unmarked, "it may send to any address".to_owned()),
            (None, None) => (Verdict::Elsewhere, "the mesh".to_owned()),
        }
    }

    fn judge_remote(
        &self,
        socket: &Seen,
        local: Option<IpAddr>,
        remote: IpAddr,
        want: Want,
    ) -> (Verdict, String) {
        let src = local.filter(|ip| !ip.is_unspecified());
        let flow = Flow { src, mark: socket.mark, ..Flow::to(remote) };
        let Observed { rules, routes, links, .. } = self.observed;
        let found = match lookup::lookup(Tables { rules, routes, links }, &flow).verdict {
            lookup::Verdict::Route(route) if route.kind == RouteKind::Unicast => Some(route),
            _ => None,
        };
        let way = found.and_then(|route| Some((route.link?, route.dst)));
        if let Some((link, _)) = way
            && self.uplinks.contains(&link)
        {
            return (Verdict::Unmarked, format!("it leaves by {}", self.name(link)));
        }
        // Both may have the network, as 10.0.0.0/8 in the mesh and 10.1.2.0/24 in the household: the longer prefix knows better.
        let theirs = self.networks.iter().filter(|p| p.contains(remote)).map(|p| p.len).max();
        let known = way.filter(|(_, dst)| !is_default(*dst));
        match (theirs, known) {
            (Some(len), known) if known.is_none_or(|(_, dst)| dst.len <= len) => {
                (Verdict::Unmarked, "it sends to the uplink's network".to_owned())
            }
            (_, Some((link, _))) => (Verdict::Elsewhere, self.name(link)),
            (_, None) if want.mark => {
                (Verdict::Unmarked, "it sends to a network that is not ours".to_owned())
            }
            (_, None) => (Verdict::Elsewhere, "the mesh".to_owned()),
        }
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        self.observed.addresses.iter().any(|a| a.prefix.addr == ip)
    }

    fn is_own_of(&self, ip: IpAddr, uplink: bool) -> bool {
        let mut addresses = self.observed.addresses.iter();
        addresses.any(|a| a.prefix.addr == ip && self.uplinks.contains(&a.link) == uplink)
    }
}

/// The device that a link-local address is on.
fn scope(addr: SocketAddr) -> Option<u32> {
    match addr {
        SocketAddr::V6(addr) => Some(addr.scope_id()).filter(|index| *index != 0),
        SocketAddr::V4(_) => None,
    }
}

/// Whether it is a default route's, or part of one: halves of the Internet, or 2000::/3.
fn is_default(prefix: Prefix) -> bool {
    prefix.len <= if prefix.is_ipv6() { 3 } else { 1 }
}

#[cfg(test)]
mod tests;
