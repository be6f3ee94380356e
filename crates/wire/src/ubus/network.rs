//! netifd's answers: `network.interface dump`, and `status` of one interface, as far as an uplink is concerned.
//!
//! Everything may be missing, be of another type, or be there besides: what is not understood is not there.

use super::blob::{Field, field, fields};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::{Gather, Prefix};

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
pub fn dump(data: &[u8]) -> Vec<Interface> {
    let list = field(data, "interface").map(Field::inner).unwrap_or_default();
    fields(list).map(|one| status(one.inner())).gather()
}

/// The interface in the answer to `status`: its data.
pub fn status(data: &[u8]) -> Interface {
    let mut interface = Interface::default();
    let mut lower = None;
    let mut active = Lists::default();
    let mut inactive = Lists::default();
    for field in fields(data) {
        match field.name {
            b"interface" => interface.name = field.text().unwrap_or_default().to_owned(),
            b"proto" => interface.proto = field.text().unwrap_or_default().to_owned(),
            b"up" => interface.up = field.truth(),
            b"l3_device" => interface.device = name(field),
            b"device" => lower = name(field),
            b"ip4table" => interface.ip4table = number(field),
            b"ip6table" => interface.ip6table = number(field),
            b"inactive" => fields(field.inner()).for_each(|field| inactive.take(field)),
            _ => active.take(field),
        }
    }
    interface.device = interface.device.or(lower);
    interface.addresses = active.addresses;
    interface.routes = active.routes;
    inactive.routes.into_iter().map(|route| Route { active: false, ..route }).add_to(&mut interface.routes);
    interface.dns = inactive.dns;
    interface.dns.extend(active.dns);
    interface.search = inactive.search;
    interface.search.extend(active.search);
    interface
}

/// What is told twice, of what is in force and of what is not.
#[derive(Default)]
struct Lists {
    addresses: Vec<Prefix>,
    routes: Vec<Route>,
    dns: Vec<IpAddr>,
    search: Vec<String>,
}

impl Lists {
    fn take(&mut self, field: Field<'_>) {
        let list = field.inner();
        match field.name {
            b"ipv4-address" | b"ipv6-address" => fields(list).filter_map(address).add_to(&mut self.addresses),
            b"route" => fields(list).filter_map(route).add_to(&mut self.routes),
            b"dns-server" => {
                fields(list).filter_map(|f| f.text()?.parse::<IpAddr>().ok()).add_to(&mut self.dns)
            }
            b"dns-search" => {
                fields(list).filter_map(|f| f.text().map(str::to_owned)).add_to(&mut self.search)
            }
            _ => {}
        }
    }
}

fn address(entry: Field<'_>) -> Option<Prefix> {
    prefix(entry.inner(), "address")
}

/// Nothing but routes that send packets on: netifd also tells of unreachable ones and the like, by their `type`.
fn route(entry: Field<'_>) -> Option<Route> {
    let entry = entry.inner();
    if field(entry, "type").and_then(number).is_some_and(|kind| kind != UNICAST) {
        return None;
    }
    let dst = prefix(entry, "target")?.network();
    let via = field(entry, "nexthop").and_then(|f| f.text()?.parse::<IpAddr>().ok());
    Some(Route {
        dst,
        via: via.filter(|via| !via.is_unspecified()),
        metric: field(entry, "metric").and_then(number),
        valid: field(entry, "valid").and_then(number),
        active: true,
    })
}

/// An address or target with its `mask`, both of which have to be there.
fn prefix(entry: &[u8], addr: &str) -> Option<Prefix> {
    let addr: IpAddr = field(entry, addr)?.text()?.parse().ok()?;
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
