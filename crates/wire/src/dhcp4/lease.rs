//! What a server gives: an address with its times, routes and DNS servers.

use super::options::{self, Options};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use narrowgate_model::Prefix;

/// An address that is lent, and what goes with it. Times are seconds from the request on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address with its prefix length.
    pub address: Prefix,
    /// Who lends it.
    pub server: Ipv4Addr,
    /// How long; `None`: for ever.
    pub time: Option<u32>,
    /// T1: from then on to be extended by the server that lent it; before T2.
    pub renew: Option<u32>,
    /// T2: from then on to be extended by any server; before the end.
    pub rebind: Option<u32>,
    /// Routes, with the router; none: on-link. Of classless routes (option 121) if there are any, else of static routes
    /// (33) and routers (3), as RFC 3442 demands. The first default route is the one to use.
    pub routes: Vec<(Prefix, Option<Ipv4Addr>)>,
    /// DNS servers, the best first.
    pub dns: Vec<Ipv4Addr>,
    /// Broadcast address, if told.
    pub broadcast: Option<Ipv4Addr>,
    /// MTU of the link, if told and not below the 576 that every host takes.
    pub mtu: Option<u16>,
    /// Search domains: of options 119 and 15.
    pub search: Vec<String>,
    /// Where the API of a captive portal is asked (RFC 8910).
    pub portal: Option<String>,
}

impl Lease {
    /// The address alone.
    pub fn ip(&self) -> Ipv4Addr {
        match self.address.addr {
            core::net::IpAddr::V4(a) => a,
            core::net::IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED, // not made by `read`
        }
    }
}

/// Why a lease makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// The address is unspecified, loopback, multicast or broadcast.
    Address,
    /// No server identifier: nobody to select, nobody to renew with.
    Server,
    /// It lasts 0 seconds.
    Time,
}

/// Reads the lease of an OFFER or ACK.
pub(super) fn read(message: &[u8], options: &Options<'_>) -> Result<Lease, Unusable> {
    let ip = message.get(16..).and_then(|m| m.first_chunk::<4>()).map(|a| Ipv4Addr::from(*a));
    let ip = ip.filter(|a| usable(*a)).ok_or(Unusable::Address)?;
    let server = options.address(options::SERVER_ID).filter(|a| usable(*a)).ok_or(Unusable::Server)?;
    let time = match options.long(options::LEASE_TIME).unwrap_or(DEFAULT_TIME) {
        0 => return Err(Unusable::Time),
        u32::MAX => None,
        time => Some(time),
    };
    let (renew, rebind) = times(time, options.long(options::RENEWAL), options.long(options::REBINDING));
    let mut search = options.names(options::SEARCH);
    if let Some(domain) = options.name(options::DOMAIN).filter(|d| !search.contains(d)) {
        search.push(domain);
    }
    Ok(Lease {
        address: Prefix::new(ip, mask(options.address(options::MASK), ip)),
        server,
        time,
        renew,
        rebind,
        routes: routes(options),
        dns: options.addresses(options::DNS).into_iter().filter(|a| usable(*a)).collect(),
        broadcast: options.address(options::BROADCAST),
        mtu: options.word(options::MTU).filter(|m| *m >= 576),
        search,
        portal: options.get(options::PORTAL).and_then(|uri| crate::ra::portal(&uri)),
    })
}

/// T1 and T2: as told, if they are in order, else half and 7/8 of the time (RFC 2131, 4.4.5).
fn times(time: Option<u32>, renew: Option<u32>, rebind: Option<u32>) -> (Option<u32>, Option<u32>) {
    // Who lends for ever, but wants to be asked now and then, is asked.
    let end = time.unwrap_or(u32::MAX);
    let rebind = rebind.filter(|t2| *t2 < end).or(time.map(|t| t - t / 8 - u32::from(t % 8 != 0)));
    let rebind = rebind.map(|t2| t2.max(1).min(end));
    let renew = renew.filter(|t1| *t1 < rebind.unwrap_or(end)).or(time.map(|t| t / 2));
    let renew = renew.map(|t1| t1.min(rebind.unwrap_or(end)));
    (renew, rebind)
}

fn routes(options: &Options<'_>) -> Vec<(Prefix, Option<Ipv4Addr>)> {
    if let Some(classless) = options.get(options::CLASSLESS_ROUTES) {
        let routes = classless_routes(&classless);
        if !routes.is_empty() {
            return routes;
        }
    }
    let pairs = options.addresses(options::STATIC_ROUTES);
    let mut routes: Vec<_> = pairs
        .chunks_exact(2)
        .filter_map(|pair| match *pair {
            // Not a default route: RFC 2132, 5.8.
            [dst, router] if !dst.is_unspecified() && usable(router) => {
                Some((static_destination(dst), Some(router)))
            }
            _ => None,
        })
        .collect();
    let routers = options.addresses(options::ROUTER);
    routes.extend(routers.into_iter().filter(|r| usable(*r)).map(|r| (Prefix::DEFAULT_V4, Some(r))));
    routes
}

/// Prefix length, as many bytes of the destination as it needs, router (RFC 3442). What is malformed ends the list.
fn classless_routes(mut bytes: &[u8]) -> Vec<(Prefix, Option<Ipv4Addr>)> {
    let mut routes = Vec::new();
    while let Some((&len @ 0..=32, rest)) = bytes.split_first() {
        let Some((told, rest)) = rest.split_at_checked(usize::from(len).div_ceil(8)) else { break };
        let Some((router, rest)) = rest.split_first_chunk::<4>() else { break };
        let mut dst = [0; 4];
        for (to, from) in dst.iter_mut().zip(told) {
            *to = *from;
        }
        let router = Ipv4Addr::from(*router);
        if router.is_unspecified() || usable(router) {
            let router = Some(router).filter(|r| !r.is_unspecified());
            routes.push((Prefix::new(Ipv4Addr::from(dst), len).network(), router));
        }
        bytes = rest;
    }
    routes
}

/// Length of a mask; without one, or with holes in it, that of the address's class.
fn mask(told: Option<Ipv4Addr>, ip: Ipv4Addr) -> u8 {
    match told.map(u32::from) {
        Some(mask) if mask != 0 && mask.leading_ones() + mask.trailing_zeros() == 32 => {
            mask.leading_ones() as u8
        }
        _ => classful(ip),
    }
}

/// The classful network that a destination without a mask means; one with host bits set is a host.
fn static_destination(dst: Ipv4Addr) -> Prefix {
    let network = Prefix::new(dst, classful(dst));
    if network == network.network() { network } else { Prefix::host(dst) }
}

/// Prefix length as before CIDR.
fn classful(addr: Ipv4Addr) -> u8 {
    match addr.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

fn usable(addr: Ipv4Addr) -> bool {
    !(addr.is_unspecified() || addr.is_loopback() || addr.octets()[0] >= 224 || addr.octets()[0] == 0)
}

/// For servers that don't say: an hour.
const DEFAULT_TIME: u32 = 3600;
