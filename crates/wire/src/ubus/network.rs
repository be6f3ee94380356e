//! netifd's answers: `network.interface dump`, and `status` of one interface, as far as an uplink is concerned.
//!
//! Everything may be missing, be of another type, or be there besides: what is not understood is not there.

use super::blob::{Field, field, fields};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::{Gather, Prefix, ip};

/// A logical interface of netifd's, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// Its name in `/etc/config/network`. Empty in an answer to `status`.
    pub name: String,
    /// `dhcp`, `dhcpv6`, `static`, `pppoe` …
    pub proto: String,
    /// Whether it is up: only then it has addresses, routes and servers.
    pub up: bool,
    /// The device that packets go by (`l3_device`), or else the one it is configured on (`device`).
    pub device: Option<String>,
    /// The table that netifd itself writes its IPv4 routes to (`ip4table`), if not `main`.
    pub ip4table: Option<u32>,
    /// The same for IPv6 (`ip6table`).
    pub ip6table: Option<u32>,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<Prefix>,
    /// Routes: those in force, then those that are not (`inactive`: `defaultroute` is 0).
    pub routes: Vec<Route>,
    /// DNS servers: first those that are not in force (`inactive`: `peerdns` is 0), then those that are.
    pub dns: Vec<IpAddr>,
    /// DNS search domains, in the same order.
    pub search: Vec<String>,
}

/// A route by an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub dst: Prefix,
    /// By which router; `None`: on-link.
    pub via: Option<IpAddr>,
    /// Its metric, if it has one.
    pub metric: Option<u32>,
    /// Seconds for which it is good, if that is limited.
    pub valid: Option<u32>,
    /// Whether netifd has set it in the kernel.
    pub active: bool,
}

/// All interfaces in the answer to `dump`: its data.
#[inline(never)]
pub fn dump(data: &[u8]) -> Vec<Interface> {
    let list = field(data, "interface").map(Field::inner).unwrap_or_default();
    fields(list).map(|one| status(one.inner())).gather()
}

/// The interface in the answer to `status`: its data.
pub fn status(data: &[u8]) -> Interface {
    let mut interface = Interface::default();
    let mut lower = None;
    let mut inactive = Interface::default(); // its lists only
    for field in fields(data) {
        match field.name {
            "interface" => interface.name = field.text().unwrap_or_default().to_owned(),
            "proto" => interface.proto = field.text().unwrap_or_default().to_owned(),
            "up" => interface.up = field.truth(),
            "l3_device" => interface.device = name(field),
            "device" => lower = name(field),
            "ip4table" => interface.ip4table = number(field),
            "ip6table" => interface.ip6table = number(field),
            "inactive" => fields(field.inner()).for_each(|field| inactive.list(field)),
            _ => interface.list(field),
        }
    }
    interface.device = interface.device.or(lower);
    for mut route in inactive.routes {
        route.active = false;
        interface.routes.push(route);
    }
    inactive.dns.append(&mut interface.dns);
    interface.dns = inactive.dns;
    inactive.search.append(&mut interface.search);
    interface.search = inactive.search;
    interface
}

impl Interface {
    /// Takes one of the lists that are told twice, of what is in force and of what is not.
    fn list(&mut self, list: Field<'_>) {
        for entry in fields(list.inner()) {
            match list.name {
                "ipv4-address" | "ipv6-address" => {
                    if let Some(prefix) = prefix(entry.inner(), "address") {
                        self.addresses.push(prefix);
                    }
                }
                "route" => {
                    if let Some(route) = route(entry) {
                        self.routes.push(route);
                    }
                }
                "dns-server" => {
                    if let Some(addr) = addr(entry) {
                        self.dns.push(addr);
                    }
                }
                "dns-search" => {
                    if let Some(domain) = entry.text() {
                        self.search.push(domain.to_owned());
                    }
                }
                _ => {}
            }
        }
    }
}

/// Nothing but routes that send packets on: netifd also tells of unreachable ones and the like, by their `type`.
#[inline(never)]
fn route(entry: Field<'_>) -> Option<Route> {
    let entry = entry.inner();
    if field(entry, "type").and_then(number).is_some_and(|kind| kind != UNICAST) {
        return None;
    }
    let dst = prefix(entry, "target")?.network();
    Some(Route {
        dst,
        via: field(entry, "nexthop").and_then(addr).filter(|via| !via.is_unspecified()),
        metric: field(entry, "metric").and_then(number),
        valid: field(entry, "valid").and_then(number),
        active: true,
    })
}

fn addr(field: Field<'_>) -> Option<IpAddr> {
    ip(field.text()?)
}

/// An address or target with its `mask`, both of which have to be there.
fn prefix(entry: &[u8], name: &str) -> Option<Prefix> {
    let addr = addr(field(entry, name)?)?;
    let len = u8::try_from(field(entry, "mask")?.number()?).ok()?;
    let prefix = Prefix::new(addr, len);
    (prefix.len == len).then_some(prefix)
}

fn number(field: Field<'_>) -> Option<u32> {
    u32::try_from(field.number()?).ok()
}

fn name(field: Field<'_>) -> Option<String> {
    field.text().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// `RTN_UNICAST`.
const UNICAST: u32 = 1;
