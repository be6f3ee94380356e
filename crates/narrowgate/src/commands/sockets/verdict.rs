//! Where a socket sends, and whether its mark is right for that. Pure.
//!
//! What a tunnel sends goes out by the uplink, so its sockets have to carry the mark, but for those that talk to this host or
//! to networks that other devices have routes to. An unmarked one that goes to the uplink's networks, or to where only a default
//! route leads, is dropped by the guard or, worse for the tunnel, sent into the tunnel itself.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use narrowgate_model::config::Config;
use narrowgate_model::net::RouteKind;
use narrowgate_model::state::Observed;
use narrowgate_model::{Mark, Prefix};
use narrowgate_policy::lookup::{self, Flow, Tables};

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
        let mut place = Place { mark: config.mark, uplinks: Vec::new(), networks: Vec::new(), observed };
        for link in &observed.links {
            if config.uplinks.iter().any(|uplink| uplink.device == link.name) {
                place.uplinks.push(link.index);
            }
        }
        observed.addresses.iter().for_each(|a| place.add(Some(a.link), a.prefix.network()));
        observed.routes.iter().for_each(|r| place.add(r.link, r.dst));
        place
    }

    fn add(&mut self, link: Option<u32>, network: Prefix) {
        if link.is_some_and(|link| self.uplinks.contains(&link)) && !is_default(network) {
            self.networks.push(network);
        }
    }

    /// A device's name.
    pub fn name(&self, index: u32) -> String {
        match self.observed.links.iter().find(|link| link.index == index) {
            Some(link) => link.name.clone(),
            None => format!("device {index}"),
        }
    }

    /// The verdict, and why where it is not plain.
    #[inline(never)]
    pub fn judge(&self, socket: &Seen, want: Want) -> (Verdict, String) {
        let (verdict, why, device) = self.weigh(socket, want);
        let name = device.map_or(String::new(), |index| self.name(index));
        (verdict, [why, &name].concat())
    }

    /// Why, and the device whose name belongs behind that.
    fn weigh(&self, socket: &Seen, want: Want) -> Judgement {
        let plain = |verdict| (verdict, "", None);
        if self.mark.matches(socket.mark) {
            return plain(Verdict::Marked);
        }
        if socket.unused {
            return plain(Verdict::Unused);
        }
        let local = socket.local.map(|addr| addr.ip());
        let remote = socket.remote.map(|addr| addr.ip());
        if remote.or(local).is_some_and(|ip| ip.is_loopback())
            || remote.is_some_and(|ip| self.owner(ip).is_some())
        {
            return plain(Verdict::Loopback);
        }
        if socket.listens {
            return plain(Verdict::Listens);
        }
        let device = socket.device.or(socket.remote.and_then(scope)).or(socket.local.and_then(scope));
        if device.is_some_and(|device| self.uplinks.contains(&device)) {
            return (Verdict::Unmarked, "it is bound to the uplink ", device);
        }
        if device.is_some() {
            return (Verdict::Elsewhere, "", device);
        }
        if let Some(remote) = remote {
            if want.redirected && socket.remote.is_some_and(|addr| addr.port() == 53) {
                return (Verdict::Loopback, "DNS is redirected to the WAN resolver", None);
            }
            return self.weigh_remote(socket.mark, local, remote, want);
        }
        match local.and_then(|ip| self.owner(ip)) {
            Some(link) if self.uplinks.contains(&link) => {
                (Verdict::Unmarked, "it has the uplink's address", None)
            }
            Some(_) => (Verdict::Elsewhere, "it has another device's address", None),
            None if want.mark => (Verdict::Unmarked, "it may send to any address", None),
            None => THE_MESH,
        }
    }

    #[inline(never)]
    fn weigh_remote(&self, mark: u32, local: Option<IpAddr>, remote: IpAddr, want: Want) -> Judgement {
        let src = local.filter(|ip| !ip.is_unspecified());
        let flow = Flow { src, mark, ..Flow::to(remote) };
        let Observed { rules, routes, links, .. } = self.observed;
        let way = match lookup::lookup(Tables { rules, routes, links }, &flow).verdict {
            lookup::Verdict::Route(route) if route.kind == RouteKind::Unicast && route.link.is_some() => {
                Some(route)
            }
            _ => None,
        };
        if let Some(route) = way
            && route.link.is_some_and(|link| self.uplinks.contains(&link))
        {
            return (Verdict::Unmarked, "it leaves by ", route.link);
        }
        // Both may have the network, as 10.0.0.0/8 in the mesh and 10.1.2.0/24 in the household: the longer prefix knows better.
        let known = way.filter(|route| !is_default(route.dst));
        let longest = known.map_or(0, |route| route.dst.len);
        if self.networks.iter().any(|network| network.contains(remote) && network.len >= longest) {
            return (Verdict::Unmarked, "it sends to the uplink's network", None);
        }
        match known {
            Some(route) => (Verdict::Elsewhere, "", route.link),
            None if want.mark => (Verdict::Unmarked, "it sends to a network that is not ours", None),
            None => THE_MESH,
        }
    }

    /// The device that has an address, if any; an uplink rather than another.
    #[inline(never)]
    fn owner(&self, ip: IpAddr) -> Option<u32> {
        let mut found = None;
        for address in self.observed.addresses.iter().filter(|address| address.prefix.addr == ip) {
            if self.uplinks.contains(&address.link) {
                return Some(address.link);
            }
            found = Some(address.link);
        }
        found
    }
}

type Judgement = (Verdict, &'static str, Option<u32>);

const THE_MESH: Judgement = (Verdict::Elsewhere, "the mesh", None);

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
