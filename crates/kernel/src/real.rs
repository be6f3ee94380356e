//! Linux.

mod change;

use crate::events::{EventSockets, Events, Watched};
use crate::nft::{self, Capabilities, Counter, SetSize};
use crate::renamed::Gates;
use crate::rtnl::{address, link, route, rule};
use crate::{Described, Error, Kernel, Scope, sysctl};
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::net::{Address, Link, Route, Rule};
use narrowgate_model::nft::Ruleset;
use narrowgate_model::state::{Observed, Step};
use narrowgate_model::{Gather, PROTOCOL, Time};
use narrowgate_sys::netlink::{self, Protocol, Socket};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// The kernel of the network namespace that it was [opened](Real::open) in.
#[derive(Debug)]
pub struct Real {
    route: Socket,
    /// It owns our tables, so it lives as long as we do.
    nft: Socket,
    events: EventSockets,
    capabilities: Capabilities,
    watched: Option<Watched>,
    gates: Gates,
}

impl Real {
    /// Opens the sockets and tries out what nftables can do here, leaving no trace. Fails if the kernel has no rtnetlink or
    /// nfnetlink, or no memory to try it out; and who is not root.
    pub fn open() -> Result<Real, Error> {
        let nft = Socket::open(Protocol::Netfilter)
            .map_err(|e| Error::io(format_args!("opening a netlink socket for nftables"), &e))?;
        Real::open_on(nft)
    }

    /// The same with the nftables socket of the process that we take over from, and with it the tables that it owns.
    pub fn open_with(nft: OwnedFd) -> Result<Real, Error> {
        let nft = Socket::adopt(nft)
            .map_err(|e| Error::io(format_args!("taking over a netlink socket for nftables"), &e))?;
        Real::open_on(nft)
    }

    fn open_on(mut nft: Socket) -> Result<Real, Error> {
        let capabilities = nft::probe(&mut nft)?;
        let failed = |e| Error::io(format_args!("opening a netlink socket"), &e);
        let route = Socket::open(Protocol::Route).map_err(failed)?;
        let events = EventSockets::open().map_err(failed)?;
        Ok(Real { route, nft, events, capabilities, watched: None, gates: Gates::default() })
    }

    /// What nftables can do in this kernel. Without `egress`, [`Step::SetGuard`] leaves the table of family `netdev` out: whoever makes the
    /// ruleset should too, or the two never agree.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Sees to it that nothing leaves by an uplink's device that somebody renames, before the guard has heard of it. To be called when this
    /// guard stands; it may take 10 ms.
    pub fn watch_names(&mut self, guard: &Ruleset) {
        self.gates.follow(guard);
    }

    /// The socket that owns our tables, to be handed to the process that takes over ([`Real::open_with`]).
    pub fn nft_socket(&self) -> BorrowedFd<'_> {
        self.nft.as_fd()
    }

    /// Readable when [`drain_events`](Real::drain_events) has something to tell.
    pub fn events_fd(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.events.descriptors()
    }

    /// All that has happened, without waiting. What our own steps did directly does not count; what followed from it
    /// (routes that went with their device) does.
    pub fn drain_events(&mut self) -> Events {
        self.events.drain([self.route.port(), self.nft.port()], self.watched.as_ref())
    }

    /// The counters of our tables.
    pub fn counters(&mut self) -> Result<Vec<Counter>, Error> {
        let seen = nft::observe(&mut self.nft)?;
        Ok(seen.tables.into_iter().flat_map(|t| t.counters).gather())
    }

    /// Puts addresses into the guard's sets of peers ([`Set::peers`](narrowgate_model::nft::Set::peers)) for so many seconds; those that are
    /// there already get that time from now. All or none; an error if there are no such sets, if one is full, or if they belong to
    /// somebody else.
    pub fn add_elements(&mut self, addrs: &[IpAddr], seconds: u32) -> Result<(), Error> {
        nft::add_elements(&mut self.nft, addrs, seconds)
    }

    /// The guard's sets, and how much is in them.
    pub fn set_sizes(&mut self) -> Result<Vec<SetSize>, Error> {
        nft::set_sizes(&mut self.nft)
    }

    /// All links.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let mut links = Vec::new();
        self.read_links(&mut links)?;
        Ok(links)
    }

    fn read_links(&mut self, links: &mut Vec<Link>) -> Result<(), Error> {
        self.each("links", link::RTM_GETLINK, &link::dump_request(), &[], &mut |m| {
            if m.kind == link::RTM_NEWLINK {
                link::decode(m.body, links);
            }
        })
    }

    #[inline(never)]
    fn read_rules(&mut self, rules: &mut Vec<Rule>) -> Result<(), Error> {
        for ipv6 in [false, true] {
            // IPv6 may not be there.
            let (request, fine) = (rule::dump_request(ipv6), [EAFNOSUPPORT]);
            self.each("rules", rule::RTM_GETRULE, &request, &fine, &mut |m| rule::decode(m.body, rules))?;
        }
        Ok(())
    }

    fn read_addresses(
        &mut self,
        links: &[u32],
        now: Time,
        addresses: &mut Vec<Address>,
    ) -> Result<(), Error> {
        self.each("addresses", address::RTM_GETADDR, &address::DUMP_REQUEST, &[], &mut |m| {
            if let Some(address) = address::decode(m.body, now)
                && (address.protocol == PROTOCOL || links.contains(&address.link))
            {
                addresses.push(address);
            }
        })
    }

    /// One dump for each of the table, the protocol number and the devices, so that a mesh's thousands of routes stay in
    /// the kernel.
    #[inline(never)]
    fn read_routes(&mut self, watched: &Watched, routes: &mut Vec<Route>) -> Result<(), Error> {
        self.read_routes_by(route::Filter::Table(watched.table), watched, routes)?;
        self.read_routes_by(route::Filter::Protocol(PROTOCOL), watched, routes)?;
        for link in &watched.links {
            self.read_routes_by(route::Filter::Device(*link), watched, routes)?;
        }
        narrowgate_model::sort::sort_by_key(routes, |route| (route.table, route.dst, route.metric));
        Ok(())
    }

    fn read_routes_by(
        &mut self,
        filter: route::Filter,
        watched: &Watched,
        routes: &mut Vec<Route>,
    ) -> Result<(), Error> {
        for ipv6 in [false, true] {
            // The table is not there yet, the device not any more, or IPv6 not at all.
            let (request, fine) = (route::dump_request(ipv6, filter), [ENOENT, ENODEV, EAFNOSUPPORT]);
            self.each("routes", route::RTM_GETROUTE, &request, &fine, &mut |m| {
                route::decode(m.body, &mut |route| {
                    if watched.wants(&route) && !routes.contains(&route) {
                        routes.push(route);
                    }
                });
            })?;
        }
        Ok(())
    }

    /// Hands on what the kernel answers to a dump request; nothing where it is refused with one of these errors.
    #[inline(never)]
    fn each(
        &mut self,
        what: &str,
        kind: u16,
        body: &[u8],
        fine: &[i32],
        take: &mut dyn FnMut(netlink::Message<'_>),
    ) -> Result<(), Error> {
        match self.route.dump(kind, body) {
            Ok(dump) => dump.messages().for_each(take),
            Err(e) if fine.contains(&e.errno) => {}
            Err(e) => return Err(Error::refused(format_args!("reading {what}"), &e)),
        }
        Ok(())
    }

    fn read(&mut self, scope: &Scope, now: Time, observed: &mut Observed) -> Result<(), Error> {
        self.read_links(&mut observed.links)?;
        let mut watched = Watched { table: scope.table, links: Vec::new() };
        for link in &observed.links {
            if scope.devices.contains(&link.name) {
                watched.links.push(link.index);
            }
        }
        let anew = self.watched.as_ref().is_some_and(|before| before.links != watched.links);
        self.events.watch_sysctls(anew, &scope.sysctls);
        sysctl::read_all(&scope.sysctls, &mut observed.sysctls)?;
        self.read_rules(&mut observed.rules)?;
        self.read_addresses(&watched.links, now, &mut observed.addresses)?;
        self.read_routes(&watched, &mut observed.routes)?;
        nft::observe(&mut self.nft)?.guard(self.nft.port(), &mut observed.guard);
        self.watched = Some(watched);
        Ok(())
    }
}

impl Kernel for Real {
    fn observe(&mut self, scope: &Scope, now: Time) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        self.read(scope, now, &mut observed)?;
        Ok(observed)
    }

    fn apply(&mut self, step: &Step, now: Time) -> Result<(), Error> {
        match step {
            Step::SetGuard(ruleset) => {
                nft::set(&mut self.nft, self.capabilities, ruleset)?;
                self.gates.keep(ruleset);
                Ok(())
            }
            Step::RemoveGuard => {
                // First: they drop what does not come by the guard.
                self.gates = Gates::default();
                nft::remove(&mut self.nft)
            }
            Step::SetSysctl { path, value } => {
                let written = sysctl::write(path, value);
                self.events.skip_sysctls();
                written
            }
            Step::AddRule(r) | Step::RemoveRule(r) if r.selector.unknown => {
                let cause = format_args!("it has selectors that we do not know");
                Err(Error::other(format_args!("{}", Described(step)), None, cause))
            }
            _ => self
                .apply_rtnl(step, now)
                .map_err(|e| Error::refused(format_args!("{}", Described(step)), &e)),
        }
    }
}

const ENOENT: i32 = 2;
const ENODEV: i32 = 19;
const EAFNOSUPPORT: i32 = 97;
