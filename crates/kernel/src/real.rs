//! Linux.

use crate::nft::{self, Capabilities, Counter};
use crate::rtnl::{address, link, route, rule};
use crate::{Error, Kernel, Scope, sysctl};
use narrowgate_model::net::{Address, Link, Route, Rule};
use narrowgate_model::state::{Observed, Step};
use narrowgate_model::{PROTOCOL, Time};
use narrowgate_sys::netlink::{
    self, Event, Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Protocol, Requests, Socket,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The kernel of the network namespace that it was [opened](Real::open) in.
#[derive(Debug)]
pub struct Real {
    route: Socket,
    /// It owns our tables, so it lives as long as we do.
    nft: Socket,
    route_events: Socket,
    nft_events: Socket,
    capabilities: Capabilities,
    watched: Option<Watched>,
}

/// What has changed, by others than ourselves, since the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    /// A link came, went, or is up or down.
    pub links: bool,
    /// An address came, went, or got other lifetimes.
    pub addresses: bool,
    /// A route that the last [`Scope`] is about came or went.
    pub routes: bool,
    /// A rule came or went.
    pub rules: bool,
    /// One of our tables in nftables was touched.
    pub nft: bool,
    /// Events were lost: anything may have changed.
    pub lost: bool,
}

/// Whose routes we were last asked about.
#[derive(Debug)]
struct Watched {
    table: u32,
    links: Vec<u32>,
}

impl Real {
    /// Opens the sockets and tries out what nftables can do here, leaving no trace. Fails if the kernel has no rtnetlink or
    /// nfnetlink.
    pub fn open() -> Result<Real, Error> {
        let nft = Socket::open(Protocol::Netfilter)
            .map_err(|e| Error::io("opening a netlink socket for nftables", &e))?;
        Real::open_on(nft)
    }

    /// The same with the nftables socket of the process that we take over from, and with it the tables that it owns.
    pub fn open_with(nft: OwnedFd) -> Result<Real, Error> {
        let nft =
            Socket::adopt(nft).map_err(|e| Error::io("taking over a netlink socket for nftables", &e))?;
        Real::open_on(nft)
    }

    fn open_on(mut nft: Socket) -> Result<Real, Error> {
        let open = |protocol, groups: &[u32]| {
            let socket = Socket::open(protocol)?;
            groups.iter().try_for_each(|group| socket.join(*group))?;
            Ok(socket)
        };
        let failed = |e| Error::io("opening a netlink socket", &e);
        let capabilities = nft::probe(&mut nft);
        Ok(Real {
            route: open(Protocol::Route, &[]).map_err(failed)?,
            nft,
            route_events: open(Protocol::Route, &ROUTE_GROUPS).map_err(failed)?,
            nft_events: open(Protocol::Netfilter, &[NFNLGRP_NFTABLES]).map_err(failed)?,
            capabilities,
            watched: None,
        })
    }

    /// What nftables can do in this kernel. Without `egress`, [`Step::SetGuard`] leaves the table of family `netdev` out: whoever makes the
    /// ruleset should too, or the two never agree.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The socket that owns our tables, to be handed to the process that takes over ([`Real::open_with`]).
    pub fn nft_socket(&self) -> BorrowedFd<'_> {
        self.nft.as_fd()
    }

    /// Readable when [`drain_events`](Real::drain_events) has something to tell.
    pub fn events_fd(&self) -> [BorrowedFd<'_>; 2] {
        [self.route_events.as_fd(), self.nft_events.as_fd()]
    }

    /// All that has happened, without waiting. What our own steps did directly does not count; what followed from it
    /// (routes that went with their device) does.
    pub fn drain_events(&mut self) -> Events {
        let mut events = Events::default();
        let own = self.route.port();
        let watched = self.watched.as_ref();
        drain(&mut self.route_events, &mut events, |events, message| {
            if message.port != own {
                note_route_event(events, message, watched);
            }
        });
        let own = self.nft.port();
        drain(&mut self.nft_events, &mut events, |events, message| {
            events.nft |= message.port != own && nft::is_ours(message);
        });
        events
    }

    /// The counters of our tables.
    pub fn counters(&mut self) -> Result<Vec<Counter>, Error> {
        let seen = nft::observe(&mut self.nft)?;
        Ok(seen.tables.into_iter().flat_map(|t| t.counters).collect())
    }

    /// All links.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let dump = self.dump("links", link::RTM_GETLINK, &link::dump_request())?;
        Ok(dump
            .messages()
            .filter(|m| m.kind == link::RTM_NEWLINK)
            .filter_map(|m| link::decode(m.body))
            .collect())
    }

    fn rules(&mut self) -> Result<Vec<Rule>, Error> {
        let mut rules = Vec::new();
        for ipv6 in [false, true] {
            match self.dump("rules", rule::RTM_GETRULE, &rule::dump_request(ipv6)) {
                Ok(dump) => rules.extend(dump.messages().filter_map(|m| rule::decode(m.body))),
                Err(e) if ipv6 && e.errno() == Some(EAFNOSUPPORT) => {} // IPv6 is not there
                Err(e) => return Err(e),
            }
        }
        Ok(rules)
    }

    fn addresses(&mut self, links: &[u32], now: Time) -> Result<Vec<Address>, Error> {
        let dump = self.dump("addresses", address::RTM_GETADDR, &address::dump_request())?;
        let all = dump.messages().filter_map(|m| address::decode(m.body, now));
        Ok(all.filter(|a| a.protocol == PROTOCOL || links.contains(&a.link)).collect())
    }

    /// One dump for each of the table, the protocol number and the devices, so that a mesh's thousands of routes stay in
    /// the kernel.
    fn routes(&mut self, watched: &Watched) -> Result<Vec<Route>, Error> {
        let devices = watched.links.iter().map(|link| route::Filter::Device(*link));
        let filters: Vec<_> = [route::Filter::Table(watched.table), route::Filter::Protocol(PROTOCOL)]
            .into_iter()
            .chain(devices)
            .collect();
        let mut routes = Vec::new();
        for filter in filters {
            for ipv6 in [false, true] {
                match self.dump("routes", route::RTM_GETROUTE, &route::dump_request(ipv6, filter)) {
                    Ok(dump) => dump.messages().for_each(|m| route::decode(m.body, &mut routes)),
                    // The table is not there yet, or the device not any more.
                    Err(e) if matches!(e.errno(), Some(ENOENT | ENODEV)) => {}
                    Err(e) if ipv6 && e.errno() == Some(EAFNOSUPPORT) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        routes.retain(|r| watched.wants(r));
        routes.sort();
        routes.dedup();
        Ok(routes)
    }

    fn dump(&mut self, what: &str, kind: u16, body: &[u8]) -> Result<netlink::Dump, Error> {
        self.route.dump(kind, body).map_err(|e| Error::refused(format!("reading {what}"), &e))
    }

    /// One request; those error numbers that mean "it is so already" are none.
    fn change(
        &mut self,
        kind: u16,
        flags: u16,
        fine: &[i32],
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), netlink::Error> {
        let mut requests = Requests::default();
        requests.push(kind, flags | NLM_F_ACK, body);
        match self.route.transact(&mut requests) {
            Err(e) if fine.contains(&e.errno) => Ok(()),
            other => other,
        }
    }

    /// IPv4 has one route for each table, destination and metric, which is replaced. IPv6 has one for each router and device
    /// as well, and its "replace" would take any of them: so what differs in the rest is deleted first.
    fn add_route(&mut self, new: &Route) -> Result<(), netlink::Error> {
        let replace = if new.dst.is_ipv6() { 0 } else { NLM_F_REPLACE };
        let add = |real: &mut Real| {
            real.change(route::RTM_NEWROUTE, NLM_F_CREATE | replace, &[], |b| route::encode(b, new, false))
        };
        match add(self) {
            Err(e) if e.errno == EEXIST && new.dst.is_ipv6() => {}
            other => return other,
        }
        let mut there = Vec::new();
        let request = route::dump_request(true, route::Filter::Table(new.table));
        for message in self.route.dump(route::RTM_GETROUTE, &request)?.messages() {
            route::decode(message.body, &mut there);
        }
        there.retain(|r| same_ipv6_route(r, new));
        if there.iter().any(|r| r == new) {
            return Ok(());
        }
        for old in &there {
            self.change(route::RTM_DELROUTE, 0, &[ESRCH], |b| route::encode(b, old, true))?;
        }
        add(self)
    }

    fn apply_rtnl(&mut self, step: &Step, now: Time) -> Result<(), netlink::Error> {
        match step {
            Step::SetLink { name, up } => {
                self.change(link::RTM_NEWLINK, 0, &[], |b| link::encode_switch(b, name, *up))
            }
            Step::AddAddress(a) => {
                let flags = NLM_F_CREATE | NLM_F_REPLACE;
                self.change(address::RTM_NEWADDR, flags, &[], |b| address::encode_new(b, a, now))
            }
            Step::RemoveAddress(a) => self
                .change(address::RTM_DELADDR, 0, &[EADDRNOTAVAIL, ENODEV], |b| address::encode_delete(b, a)),
            Step::AddRoute(r) => self.add_route(r),
            Step::RemoveRoute(r) => {
                self.change(route::RTM_DELROUTE, 0, &[ESRCH, ENODEV], |b| route::encode(b, r, true))
            }
            Step::AddRule(r) => {
                // Without EXCL the kernel would add it a second time; with it, EEXIST means: the very same.
                self.change(rule::RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, &[EEXIST], |b| rule::encode(b, r))
            }
            Step::RemoveRule(r) => {
                self.change(rule::RTM_DELRULE, 0, &[ENOENT, ESRCH], |b| rule::encode(b, r))
            }
            Step::SetGuard(_) | Step::RemoveGuard | Step::SetSysctl { .. } => Ok(()),
        }
    }
}

impl Kernel for Real {
    fn observe(&mut self, scope: &Scope, now: Time) -> Result<Observed, Error> {
        let mut observed = Observed { links: self.links()?, ..Observed::default() };
        let indexes = observed.links.iter().filter(|l| scope.devices.contains(&l.name)).map(|l| l.index);
        let watched = Watched { table: scope.table, links: indexes.collect() };
        for path in &scope.sysctls {
            if let Some(value) = sysctl::read(path)? {
                observed.sysctls.insert(path.clone(), value);
            }
        }
        observed.rules = self.rules()?;
        observed.addresses = self.addresses(&watched.links, now)?;
        observed.routes = self.routes(&watched)?;
        observed.guard = nft::observe(&mut self.nft)?.guard(self.nft.port());
        self.watched = Some(watched);
        Ok(observed)
    }

    fn apply(&mut self, step: &Step, now: Time) -> Result<(), Error> {
        match step {
            Step::SetGuard(ruleset) => nft::set(&mut self.nft, self.capabilities, ruleset),
            Step::RemoveGuard => nft::remove(&mut self.nft),
            Step::SetSysctl { path, value } => sysctl::write(path, value),
            Step::AddRule(r) | Step::RemoveRule(r) if r.selector.unknown => {
                Err(Error::other(describe(step), None, "it has selectors that we do not know"))
            }
            _ => self.apply_rtnl(step, now).map_err(|e| Error::refused(describe(step), &e)),
        }
    }
}

impl Watched {
    fn wants(&self, route: &Route) -> bool {
        route.table == self.table
            || route.protocol == PROTOCOL
            || (route.table != route::RT_TABLE_LOCAL
                && route.link.is_some_and(|link| self.links.contains(&link)))
    }
}

fn drain(socket: &mut Socket, events: &mut Events, mut note: impl FnMut(&mut Events, &Message<'_>)) {
    loop {
        match socket.next_event() {
            Ok(Some(Event::Messages(messages))) => messages.for_each(|m| note(events, &m)),
            Ok(Some(Event::Lost)) => events.lost = true,
            Ok(None) => return,
            Err(e) => {
                log::warn!("reading netlink events: {e}");
                events.lost = true;
                return;
            }
        }
    }
}

fn note_route_event(events: &mut Events, message: &Message<'_>, watched: Option<&Watched>) {
    match message.kind {
        link::RTM_NEWLINK | link::RTM_DELLINK => events.links = true,
        address::RTM_NEWADDR | address::RTM_DELADDR => events.addresses = true,
        rule::RTM_NEWRULE | rule::RTM_DELRULE => events.rules = true,
        route::RTM_NEWROUTE | route::RTM_DELROUTE if !events.routes => {
            let mut routes = Vec::new();
            route::decode(message.body, &mut routes);
            events.routes = watched.is_none_or(|w| routes.iter().any(|r| w.wants(r)));
        }
        _ => {}
    }
}

fn same_ipv6_route(a: &Route, b: &Route) -> bool {
    (a.dst.network(), a.metric, a.via, a.link) == (b.dst.network(), b.metric, b.via, b.link)
}

/// What a step does, for an error.
fn describe(step: &Step) -> String {
    let route = |r: &Route| format!("route {} metric {} in table {}", r.dst, r.metric, r.table);
    let rule = |r: &Rule| format!("IPv{} rule {}", if r.ipv6 { 6 } else { 4 }, r.priority);
    match step {
        Step::SetLink { name, up } => format!("switching {name} {}", if *up { "on" } else { "off" }),
        Step::AddAddress(a) => format!("adding address {} to device {}", a.prefix, a.link),
        Step::RemoveAddress(a) => format!("removing address {} from device {}", a.prefix, a.link),
        Step::AddRoute(r) => format!("adding {}", route(r)),
        Step::RemoveRoute(r) => format!("removing {}", route(r)),
        Step::AddRule(r) => format!("adding {}", rule(r)),
        Step::RemoveRule(r) => format!("removing {}", rule(r)),
        Step::SetGuard(_) => "loading the guard".to_owned(),
        Step::RemoveGuard => "removing the guard".to_owned(),
        Step::SetSysctl { path, .. } => format!("setting sysctl {path}"),
    }
}

/// `RTNLGRP_LINK`, and `_IFADDR`, `_ROUTE` and `_RULE` of `IPV4` and `IPV6`.
const ROUTE_GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
const NFNLGRP_NFTABLES: u32 = 7;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EAFNOSUPPORT: i32 = 97;
const EADDRNOTAVAIL: i32 = 99;
