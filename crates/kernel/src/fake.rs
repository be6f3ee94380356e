//! A kernel in memory, with those of Linux's habits that a plan has to reckon with.
//!
//! - Routes need a device that is up, a router that is on-link, and a source that is an address of ours.
//! - Routes go with their device, when it is switched off or removed; IPv4's of the main table also with the source address
//!   that they name, and all of a device with its last address. IPv6 addresses go when the device is switched off.
//! - An address without `noprefixroute` brings a route in the main table.
//! - Adding what is there, and removing what is not, is no error; a missing device or sysctl is one.
//!
//! What is foreign is put straight into the fields. All steps are recorded, and one can be made to fail.

use crate::{Error, Kernel, Scope};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::net::{Address, Link, Route, RouteKind, Rule, RuleAction, Selector};
use narrowgate_model::nft::Ruleset;
use narrowgate_model::state::{Observed, ObservedGuard, Step};
use narrowgate_model::{ByName, PROTOCOL, Time};

/// The kernel of a namespace that has just been made, until something is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fake {
    /// All sysctls that there are, by path below `/proc/sys/`.
    pub sysctls: ByName<String>,
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// All routes, of all tables but `local`.
    pub routes: Vec<Route>,
    /// All rules.
    pub rules: Vec<Rule>,
    /// Our tables, if they are there.
    pub guard: Option<Ruleset>,
    /// They belong to us; set to false by [`Fake::kill`].
    pub owned: bool,
    /// All steps that were applied, the failed ones too.
    pub steps: Vec<Step>,
    /// This many steps succeed; then each fails with EIO, and changes nothing.
    pub fail_after: Option<usize>,
}

impl Default for Fake {
    fn default() -> Fake {
        Fake::new()
    }
}

impl Fake {
    /// A loopback device that is off, and the kernel's own rules.
    pub fn new() -> Fake {
        let rule = |ipv6, priority, table| Rule {
            ipv6,
            priority,
            selector: Selector::default(),
            action: RuleAction::Lookup(table),
            suppress_prefix_len: None,
            protocol: RTPROT_KERNEL,
        };
        let mut fake = Fake {
            sysctls: ByName::new(),
            links: Vec::new(),
            addresses: Vec::new(),
            routes: Vec::new(),
            rules: vec![
                rule(false, 0, 255),
                rule(false, 32766, MAIN),
                rule(false, 32767, 253),
                rule(true, 0, 255),
                rule(true, 32766, MAIN),
            ],
            guard: None,
            owned: false,
            steps: Vec::new(),
            fail_after: None,
        };
        fake.add_link("lo", false);
        fake
    }

    /// Adds a device that is off, and returns its index.
    pub fn add_link(&mut self, name: &str, carrier: bool) -> u32 {
        let index = self.links.iter().map(|l| l.index).max().unwrap_or(0) + 1;
        let number = index.to_be_bytes();
        let mac = (name != "lo").then_some([2, 0, number[0], number[1], number[2], number[3]]);
        self.links.push(Link {
            index,
            name: name.to_owned(),
            mac,
            up: false,
            carrier,
            mtu: 1500,
            ..Link::default()
        });
        index
    }

    /// Plugs a device in or out. Routes stay: Linux only marks them.
    pub fn set_carrier(&mut self, name: &str, carrier: bool) {
        self.links.iter_mut().filter(|l| l.name == name).for_each(|l| l.carrier = carrier);
    }

    /// Removes a device, and all that is on it; also its hook in the guard.
    pub fn remove_link(&mut self, name: &str) {
        let Some(index) = self.index_of(name) else { return };
        self.links.retain(|l| l.index != index);
        self.addresses.retain(|a| a.link != index);
        self.routes.retain(|r| r.link != Some(index));
        let chains = self.guard.iter_mut().flat_map(|g| &mut g.tables).flat_map(|t| &mut t.chains);
        chains.for_each(|chain| chain.devices.retain(|d| d != name));
    }

    /// The process dies: the tables stand, and belong to nobody.
    pub fn kill(&mut self) {
        self.owned = false;
    }

    /// Another program flushes nftables: tables that belong to us stay.
    pub fn flush_nftables(&mut self) {
        if !self.owned {
            self.guard = None;
        }
    }

    fn index_of(&self, name: &str) -> Option<u32> {
        self.links.iter().find(|l| l.name == name).map(|l| l.index)
    }

    fn link(&self, index: u32) -> Result<&Link, i32> {
        self.links.iter().find(|l| l.index == index).ok_or(ENODEV)
    }

    fn change(&mut self, step: &Step) -> Result<(), i32> {
        match step {
            Step::SetGuard(ruleset) => self.set_guard(ruleset),
            Step::RemoveGuard => {
                (self.guard, self.owned) = (None, false);
                Ok(())
            }
            Step::SetSysctl { path, value } => {
                self.sysctls.get_mut(path).ok_or(ENOENT)?.clone_from(value);
                Ok(())
            }
            Step::SetLink { name, up } => self.set_link(name, *up),
            Step::AddAddress(address) => self.add_address(address),
            Step::RemoveAddress(address) => {
                self.remove_address(address);
                Ok(())
            }
            Step::AddRoute(route) => self.add_route(route),
            Step::RemoveRoute(route) => {
                self.remove_route(route);
                Ok(())
            }
            Step::AddRule(rule) => {
                if !self.rules.contains(rule) {
                    let place =
                        self.rules.iter().position(|r| (r.ipv6, r.priority) > (rule.ipv6, rule.priority));
                    self.rules.insert(place.unwrap_or(self.rules.len()), rule.clone());
                }
                Ok(())
            }
            Step::RemoveRule(rule) => {
                if let Some(place) = self.rules.iter().position(|r| r == rule) {
                    self.rules.remove(place);
                }
                Ok(())
            }
        }
    }

    fn set_guard(&mut self, ruleset: &Ruleset) -> Result<(), i32> {
        let mut devices = ruleset.tables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.devices);
        if devices.any(|name| self.index_of(name).is_none()) {
            return Err(ENOENT);
        }
        (self.guard, self.owned) = (Some(ruleset.clone()), true);
        Ok(())
    }

    fn set_link(&mut self, name: &str, up: bool) -> Result<(), i32> {
        let link = self.links.iter_mut().find(|l| l.name == name).ok_or(ENODEV)?;
        let index = link.index;
        if link.up == up {
            return Ok(());
        }
        link.up = up;
        if up {
            let back: Vec<Route> =
                self.addresses.iter().filter(|a| a.link == index).filter_map(prefix_route).collect();
            self.routes.extend(back);
        } else {
            self.addresses.retain(|a| a.link != index || !a.prefix.is_ipv6());
            self.routes.retain(|r| r.link != Some(index));
        }
        Ok(())
    }

    fn add_address(&mut self, address: &Address) -> Result<(), i32> {
        let up = self.link(address.link)?.up;
        if let Some(old) =
            self.addresses.iter_mut().find(|a| (a.link, a.prefix) == (address.link, address.prefix))
        {
            (old.preferred_until, old.valid_until) = (address.preferred_until, address.valid_until);
            old.protocol = address.protocol;
            return Ok(());
        }
        self.addresses.push(Address { dad_failed: false, tentative: false, ..address.clone() });
        if up {
            self.routes.extend(prefix_route(address));
        }
        Ok(())
    }

    fn remove_address(&mut self, address: &Address) {
        let Some(place) =
            self.addresses.iter().position(|a| (a.link, a.prefix) == (address.link, address.prefix))
        else {
            return;
        };
        let gone = self.addresses.remove(place);
        if let Some(route) = prefix_route(&gone) {
            self.routes.retain(|r| *r != route);
        }
        let same_address = self.addresses.iter().any(|a| a.prefix.addr == gone.prefix.addr);
        let ipv6 = gone.prefix.is_ipv6();
        for route in
            self.routes.iter_mut().filter(|r| ipv6 && !same_address && r.source == Some(gone.prefix.addr))
        {
            route.source = None;
        }
        let last = !ipv6 && !self.addresses.iter().any(|a| a.link == gone.link && !a.prefix.is_ipv6());
        self.routes.retain(|r| {
            let by_source = r.table == MAIN && !same_address && r.source == Some(gone.prefix.addr);
            let by_device = last && !r.dst.is_ipv6() && r.link == Some(gone.link);
            !by_source && !by_device
        });
    }

    fn add_route(&mut self, route: &Route) -> Result<(), i32> {
        if let Some(index) = route.link
            && !self.link(index)?.up
        {
            return Err(ENETDOWN);
        }
        if route.source.is_some_and(|s| !self.addresses.iter().any(|a| a.prefix.addr == s)) {
            return Err(EINVAL);
        }
        if let Some(via) = route.via.filter(|_| !route.onlink)
            && !self.is_on_link(via, route)
        {
            return Err(if via.is_ipv6() { EHOSTUNREACH } else { ENETUNREACH });
        }
        let dst = route.dst.network();
        let new = Route { dst, ..route.clone() };
        self.routes.retain(|r| {
            let same = (r.table, r.dst, r.metric) == (new.table, new.dst, new.metric);
            !same || (new.dst.is_ipv6() && (r.via, r.link) != (new.via, new.link))
        });
        self.routes.push(new);
        Ok(())
    }

    /// What a deletion does not name, it does not mind; IPv6's minds neither the source nor the kind.
    fn remove_route(&mut self, route: &Route) {
        let ipv6 = route.dst.is_ipv6();
        let named = |r: &Route| {
            (r.table, r.dst, r.metric, r.protocol)
                == (route.table, route.dst.network(), route.metric, route.protocol)
                && (route.via.is_none() || r.via == route.via)
                && (route.link.is_none() || r.link == route.link)
                && (ipv6 || (r.kind == route.kind && (route.source.is_none() || r.source == route.source)))
        };
        self.routes.retain(|r| !named(r));
    }

    fn is_on_link(&self, router: IpAddr, route: &Route) -> bool {
        let link_local = matches!(router, IpAddr::V6(a) if a.is_unicast_link_local());
        let tables = [route.table, MAIN];
        (link_local && route.link.is_some())
            || self.routes.iter().any(|r| {
                r.kind == RouteKind::Unicast
                    && r.via.is_none()
                    && tables.contains(&r.table)
                    && (route.link.is_none() || r.link == route.link)
                    && r.dst.contains(router)
            })
    }
}

impl Kernel for Fake {
    fn observe(&mut self, scope: &Scope, _now: Time) -> Result<Observed, Error> {
        let links: Vec<u32> = scope.devices.iter().filter_map(|name| self.index_of(name)).collect();
        let on_uplink = |link: Option<u32>| link.is_some_and(|l| links.contains(&l));
        let sysctls = self.sysctls.iter().filter(|(path, _)| scope.sysctls.contains(path));
        let wanted = |r: &&Route| r.table == scope.table || r.protocol == PROTOCOL || on_uplink(r.link);
        let mut routes: Vec<Route> = self.routes.iter().filter(wanted).cloned().collect();
        routes.sort();
        let ours = |a: &&Address| a.protocol == PROTOCOL || links.contains(&a.link);
        Ok(Observed {
            sysctls: sysctls.map(|(path, value)| (path.clone(), value.clone())).collect(),
            links: self.links.clone(),
            rules: self.rules.clone(),
            routes,
            addresses: self.addresses.iter().filter(ours).cloned().collect(),
            guard: ObservedGuard {
                chains: self.guard.as_ref().map(Ruleset::fingerprint).unwrap_or_default(),
                owned: self.guard.is_some() && self.owned,
                persistent: self.guard.is_some(),
            },
        })
    }

    fn apply(&mut self, step: &Step, _now: Time) -> Result<(), Error> {
        self.steps.push(step.clone());
        let failed = |errno: i32| {
            Error::io(
                format_args!("{}", crate::Described(step)),
                &narrowgate_sys::io::Error::from_raw_os_error(errno),
            )
        };
        match &mut self.fail_after {
            Some(0) => return Err(failed(EIO)),
            Some(left) => *left -= 1,
            None => {}
        }
        self.change(step).map_err(failed)
    }
}

/// The route that an address brings into the main table.
fn prefix_route(address: &Address) -> Option<Route> {
    let ipv6 = address.prefix.is_ipv6();
    let host = address.prefix.len == if ipv6 { 128 } else { 32 };
    (!address.no_prefix_route && !host).then(|| Route {
        table: MAIN,
        dst: address.prefix.network(),
        kind: RouteKind::Unicast,
        via: None,
        link: Some(address.link),
        metric: if ipv6 { 256 } else { 0 },
        onlink: false,
        source: (!ipv6).then_some(address.prefix.addr),
        protocol: RTPROT_KERNEL,
    })
}

const MAIN: u32 = 254;
const RTPROT_KERNEL: u8 = 2;
const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;
const EHOSTUNREACH: i32 = 113;
