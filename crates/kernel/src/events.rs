//! What the kernel tells unasked.

use crate::nft;
use crate::rtnl::{address, link, route, rule};
use crate::sysctl::Watch;
use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_model::PROTOCOL;
use narrowgate_model::net::Route;
use narrowgate_sys::io;
use narrowgate_sys::netlink::{Event, Message, Protocol, Socket};
use rustix::fd::{AsFd, BorrowedFd};

/// What has changed, by others than ourselves, since the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    /// A link came, went, or is up or down.
    pub links: bool,
    /// An address came, went, or got other lifetimes.
    pub addresses: bool,
    /// A route that the last [`Scope`](crate::Scope) is about came or went.
    pub routes: bool,
    /// A rule came or went.
    pub rules: bool,
    /// One of our tables in nftables was touched.
    pub nft: bool,
    /// A sysctl that the last [`Scope`](crate::Scope) is about was written.
    pub sysctls: bool,
    /// Events were lost: anything may have changed.
    pub lost: bool,
}

/// Whose routes we were last asked about.
#[derive(Debug)]
pub(crate) struct Watched {
    pub table: u32,
    /// Indexes of the uplinks' devices.
    pub links: Vec<u32>,
}

/// The sockets that are in multicast groups.
#[derive(Debug)]
pub(crate) struct EventSockets {
    route: Socket,
    nft: Socket,
    sysctls: Watch,
}

impl EventSockets {
    #[inline(never)]
    pub(crate) fn open() -> io::Result<EventSockets> {
        let open = |protocol, groups: &[u32]| -> io::Result<Socket> {
            let socket = Socket::open(protocol)?;
            groups.iter().try_for_each(|group| socket.join(*group))?;
            Ok(socket)
        };
        let nft = open(Protocol::Netfilter, &[NFNLGRP_NFTABLES])?;
        Ok(EventSockets { route: open(Protocol::Route, &ROUTE_GROUPS)?, nft, sysctls: Watch::new() })
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.route.as_fd(), self.nft.as_fd()].into_iter().chain(self.sysctls.descriptor())
    }

    /// Watches these sysctls too; `anew`, where devices have come or gone, nothing but these: the kernel does not tell when a
    /// device took its files along.
    pub(crate) fn watch_sysctls(&mut self, anew: bool, paths: &[String]) {
        if anew {
            self.sysctls = Watch::new();
        }
        self.sysctls.add(paths);
    }

    /// What was written up to now is known: we did it.
    pub(crate) fn skip_sysctls(&self) {
        self.sysctls.drain();
    }

    /// All that has happened. `own` are the ports of our sockets for rtnetlink and nftables.
    pub(crate) fn drain(&mut self, own: [u32; 2], watched: Option<&Watched>) -> Events {
        let mut events = Events { sysctls: self.sysctls.drain(), ..Events::default() };
        drain(&mut self.route, &mut events, |events, message| {
            if message.port != own[0] {
                note_route_event(events, message, watched);
            }
        });
        drain(&mut self.nft, &mut events, |events, message| {
            events.nft |= message.port != own[1] && nft::is_ours(message);
        });
        events
    }
}

impl Watched {
    pub(crate) fn wants(&self, route: &Route) -> bool {
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
            events.routes = watched.is_none();
            route::decode(message.body, &mut |route| {
                events.routes |= watched.is_some_and(|watched| watched.wants(&route));
            });
        }
        _ => {}
    }
}

/// `RTNLGRP_LINK`, and `_IFADDR`, `_ROUTE` and `_RULE` of `IPV4` and `IPV6`.
const ROUTE_GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
const NFNLGRP_NFTABLES: u32 = 7;
