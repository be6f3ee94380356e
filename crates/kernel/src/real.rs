//! Linux.

mod change;

use crate::events::{EventSockets, Events, Watched};
use crate::nft::{self, Capabilities, Counter, SetSize};
use crate::renamed::Gates;
use crate::rtnl::{address, link, route, rule};
use crate::{Error, Kernel, Scope, describe, sysctl};
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
        let dump = self.dump("links", link::RTM_GETLINK, &link::dump_request())?;
        let mut links = Vec::new();
        for message in dump.messages().filter(|m| m.kind == link::RTM_NEWLINK) {
            link::decode(message.body, &mut links);
        }
        Ok(links)
    }

    #[inline(never)]
    fn rules(&mut self) -> Result<Vec<Rule>, Error> {
        let mut rules = Vec::new();
        for ipv6 in [false, true] {
            match self.dump("rules", rule::RTM_GETRULE, &rule::dump_request(ipv6)) {
                Ok(dump) => dump.messages().for_each(|m| rule::decode(m.body, &mut rules)),
                Err(e) if ipv6 && e.errno() == Some(EAFNOSUPPORT) => {} // IPv6 is not there
                Err(e) => return Err(e),
            }
        }
        Ok(rules)
    }

    #[inline(never)]
    fn addresses(&mut self, links: &[u32], now: Time) -> Result<Vec<Address>, Error> {
        let dump = self.dump("addresses", address::RTM_GETADDR, &address::DUMP_REQUEST)?;
        let mut addresses = Vec::new();
        for address in dump.messages().filter_map(|m| address::decode(m.body, now)) {
            if address.protocol == PROTOCOL || links.contains(&address.link) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// One dump for each of the table, the protocol number and the devices, so that a mesh's thousands of routes stay in
    /// the kernel.
    #[inline(never)]
    fn routes(&mut self, watched: &Watched) -> Result<Vec<Route>, Error> {
        let mut filters = vec![route::Filter::Table(watched.table), route::Filter::Protocol(PROTOCOL)];
        for link in &watched.links {
            filters.push(route::Filter::Device(*link));
        }
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
        narrowgate_model::sort::sort(&mut routes);
        routes.dedup();
        Ok(routes)
    }

    fn dump(&mut self, what: &str, kind: u16, body: &[u8]) -> Result<netlink::Dump, Error> {
        self.route.dump(kind, body).map_err(|e| Error::refused(format_args!("reading {what}"), &e))
    }
}

impl Kernel for Real {
    fn observe(&mut self, scope: &Scope, now: Time) -> Result<Observed, Error> {
        let mut observed = Observed { links: self.links()?, ..Observed::default() };
        let indexes = observed.links.iter().filter(|l| scope.devices.contains(&l.name)).map(|l| l.index);
        let watched = Watched { table: scope.table, links: indexes.gather() };
        let anew = self.watched.as_ref().is_some_and(|before| before.links != watched.links);
        self.events.watch_sysctls(anew, &scope.sysctls);
        observed.sysctls = sysctl::read_all(&scope.sysctls)?;
        observed.rules = self.rules()?;
        observed.addresses = self.addresses(&watched.links, now)?;
        observed.routes = self.routes(&watched)?;
        observed.guard = nft::observe(&mut self.nft)?.guard(self.nft.port());
        self.watched = Some(watched);
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
                Err(Error::other(format_args!("{}", describe(step)), None, cause))
            }
            _ => {
                self.apply_rtnl(step, now).map_err(|e| Error::refused(format_args!("{}", describe(step)), &e))
            }
        }
    }
}

const ENOENT: i32 = 2;
const ENODEV: i32 = 19;
const EAFNOSUPPORT: i32 = 97;
