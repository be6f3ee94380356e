//! The steps over rtnetlink.

use super::Real;
use crate::rtnl::{self, address, route, rule};
use crate::sysctl;
use alloc::vec::Vec;
use narrowgate_model::Time;
use narrowgate_model::net::{Address, Route};
use narrowgate_model::state::Step;
use narrowgate_sys::link;
use narrowgate_sys::netlink::{self, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Requests};

impl Real {
    /// One request; those error numbers that mean "it is so already" are none.
    fn change(
        &mut self,
        kind: u16,
        flags: u16,
        fine: &[i32],
        encode: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), netlink::Error> {
        let mut requests = Requests::default();
        encode(requests.add(kind, flags | NLM_F_ACK));
        match self.route.transact(&mut requests) {
            Err(e) if fine.contains(&e.errno) => Ok(()),
            other => other,
        }
    }

    /// IPv4 has one route for each table, destination and metric, which is replaced. IPv6 has one for each router and device
    /// as well, and its "replace" would take any of them: so what differs in the rest is deleted first.
    #[inline(never)]
    fn add_route(&mut self, new: &Route) -> Result<(), netlink::Error> {
        let replace = if new.dst.is_ipv6() { 0 } else { NLM_F_REPLACE };
        let add = |real: &mut Real| {
            real.change(route::RTM_NEWROUTE, NLM_F_CREATE | replace, &[], &mut |b| {
                route::encode(b, new, false)
            })
        };
        match add(self) {
            Err(e) if e.errno == EEXIST && new.dst.is_ipv6() => {}
            other => return other,
        }
        let mut there = Vec::new();
        let request = route::dump_request(true, route::Filter::Table(new.table));
        for message in self.route.dump(route::RTM_GETROUTE, &request)?.messages() {
            route::decode(message.body, &mut |route| {
                if same_ipv6_route(&route, new) {
                    there.push(route);
                }
            });
        }
        if there.iter().any(|r| r == new) {
            return Ok(());
        }
        for old in &there {
            self.change(route::RTM_DELROUTE, 0, &[ESRCH], &mut |b| route::encode(b, old, true))?;
        }
        add(self)
    }

    /// With the first IPv4 address of a network on a device Linux removes the later ones too, and with the last of the device all
    /// its routes, unless `promote_secondaries` is set: so it is, for that moment, if there are such.
    #[inline(never)]
    fn remove_address(&mut self, old: &Address, now: Time) -> Result<(), netlink::Error> {
        let remove = |real: &mut Real| {
            let fine = [EADDRNOTAVAIL, ENODEV];
            real.change(address::RTM_DELADDR, 0, &fine, &mut |b| address::encode_delete(b, old))
        };
        let dump = self.route.dump(address::RTM_GETADDR, &address::DUMP_REQUEST)?;
        let network = |a: &Address| (a.link, a.prefix.network());
        let mut there = dump.messages().filter_map(|m| address::decode(m.body, now));
        let others = there.any(|a| network(&a) == network(old) && a.prefix != old.prefix);
        let Some(name) = link::name_of(old.link).ok().filter(|_| others && !old.prefix.is_ipv6()) else {
            return remove(self);
        };
        let path = format!("net/ipv4/conf/{name}/promote_secondaries");
        let unset = sysctl::read(&path).is_ok_and(|value| value.as_deref() == Some("0"));
        let set = |value| {
            if unset && let Err(e) = sysctl::write(&path, value) {
                log::warn!("{e}: other addresses of the network may go with {}", old.prefix);
            }
        };
        set("1");
        let removed = remove(self);
        set("0");
        removed
    }

    pub(super) fn apply_rtnl(&mut self, step: &Step, now: Time) -> Result<(), netlink::Error> {
        match step {
            Step::SetLink { name, up } => {
                self.change(rtnl::link::RTM_NEWLINK, 0, &[], &mut |b| rtnl::link::encode_switch(b, name, *up))
            }
            Step::AddAddress(a) => {
                let flags = NLM_F_CREATE | NLM_F_REPLACE;
                self.change(address::RTM_NEWADDR, flags, &[], &mut |b| address::encode_new(b, a, now))
            }
            Step::RemoveAddress(a) => self.remove_address(a, now),
            Step::AddRoute(r) => self.add_route(r),
            Step::RemoveRoute(r) => {
                self.change(route::RTM_DELROUTE, 0, &[ESRCH, ENODEV], &mut |b| route::encode(b, r, true))
            }
            Step::AddRule(r) => {
                // Without EXCL the kernel would add it a second time; with it, EEXIST means: the very same.
                self.change(rule::RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, &[EEXIST], &mut |b| {
                    rule::encode(b, r)
                })
            }
            Step::RemoveRule(r) => {
                self.change(rule::RTM_DELRULE, 0, &[ENOENT, ESRCH], &mut |b| rule::encode(b, r))
            }
            Step::SetGuard(_) | Step::RemoveGuard | Step::SetSysctl { .. } => Ok(()),
        }
    }
}

fn same_ipv6_route(a: &Route, b: &Route) -> bool {
    (a.dst.network(), a.metric, a.via, a.link) == (b.dst.network(), b.metric, b.via, b.link)
}

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EADDRNOTAVAIL: i32 = 99;
