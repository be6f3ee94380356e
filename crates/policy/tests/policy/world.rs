//! A kernel in memory. It refuses by panic what a real one refuses, or what would change something foreign.

use narrowgate_model::net::{Address, Route, RouteKind, Rule, RuleAction};
use narrowgate_model::nft::Ruleset;
use narrowgate_model::state::{Observed, Step};
use narrowgate_model::{PROTOCOL, Prefix};
use std::net::IpAddr;

#[derive(Debug, Clone, Default)]
pub struct World {
    pub observed: Observed,
    /// What the guard really is; `observed.guard` shows its print.
    pub guard: Option<Ruleset>,
}

impl World {
    pub fn apply_all(&mut self, plan: &[Step]) {
        for step in plan {
            self.apply(step);
        }
    }

    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::SetGuard(ruleset) => {
                self.observed.guard.chains = ruleset.fingerprint();
                self.observed.guard.owned = true;
                self.observed.guard.persistent = true;
                self.guard = Some((**ruleset).clone());
            }
            Step::RemoveGuard => {
                self.observed.guard = Default::default();
                self.guard = None;
            }
            Step::SetSysctl { path, value } => {
                assert!(self.observed.sysctls.contains_key(path), "there is no sysctl {path}");
                self.observed.sysctls.insert(path.clone(), value.clone());
            }
            Step::SetLink { name, up } => self.set_link(name, *up),
            Step::AddAddress(a) => self.add_address(a),
            Step::RemoveAddress(a) => self.remove_address(a),
            Step::AddRoute(r) => self.add_route(r),
            Step::RemoveRoute(r) => {
                assert_eq!(r.protocol, PROTOCOL, "a foreign route is removed: {r:?}");
                let found = self.observed.routes.iter().position(|is| is == r);
                self.observed.routes.remove(found.unwrap_or_else(|| panic!("ESRCH: {r:?}")));
            }
            Step::AddRule(r) => self.add_rule(r),
            Step::RemoveRule(r) => {
                assert_eq!(r.protocol, PROTOCOL, "a foreign rule is removed: {r:?}");
                let found =
                    self.observed.rules.iter().position(|is| exists(is, r) && is.protocol == PROTOCOL);
                self.observed.rules.remove(found.unwrap_or_else(|| panic!("ENOENT: {r:?}")));
            }
        }
    }

    fn set_link(&mut self, name: &str, up: bool) {
        let link = self.observed.links.iter_mut().find(|l| l.name == name).expect("ENODEV");
        link.up = up;
        let index = link.index;
        if !up {
            let ours = |protocol| protocol == PROTOCOL; // what the kernel does to foreign ones we cannot help
            self.observed.routes.retain(|r| !(r.link == Some(index) && ours(r.protocol)));
            self.observed.addresses.retain(|a| !(a.link == index && a.prefix.is_ipv6() && ours(a.protocol)));
        }
    }

    fn add_address(&mut self, new: &Address) {
        assert_eq!(new.protocol, PROTOCOL);
        assert!(self.observed.links.iter().any(|l| l.index == new.link), "ENODEV: {new:?}");
        let same = |a: &&mut Address| a.link == new.link && a.prefix == new.prefix;
        if let Some(old) = self.observed.addresses.iter_mut().find(same) {
            assert_eq!(old.protocol, PROTOCOL, "a foreign address is changed: {old:?}");
            assert_eq!(
                (old.no_prefix_route, old.broadcast),
                (new.no_prefix_route, new.broadcast),
                "not changed in place"
            );
            (old.preferred_until, old.valid_until) = (new.preferred_until, new.valid_until);
            return;
        }
        let twice =
            |a: &&Address| a.link == new.link && a.prefix.addr == new.prefix.addr && new.prefix.is_ipv6();
        assert!(!self.observed.addresses.iter().any(|a| twice(&a)), "EEXIST: {new:?}");
        self.observed.addresses.push(new.clone());
    }

    /// With the first IPv4 address of a network the kernel removes the others of it; with the last one of a device all routes.
    fn remove_address(&mut self, gone: &Address) {
        assert_eq!(gone.protocol, PROTOCOL, "a foreign address is removed: {gone:?}");
        let all = &mut self.observed.addresses;
        let at = all.iter().position(|a| a == gone).unwrap_or_else(|| panic!("EADDRNOTAVAIL: {gone:?}"));
        let net = |a: &Address| a.link == gone.link && a.prefix.network() == gone.prefix.network();
        let primary = !gone.prefix.is_ipv6() && !all.iter().take(at).any(net);
        all.remove(at);
        if primary {
            all.retain(|a| !net(a) || a.protocol != PROTOCOL);
        }
        if !gone.prefix.is_ipv6() && !all.iter().any(|a| a.link == gone.link && !a.prefix.is_ipv6()) {
            let lost = |r: &Route| r.link == Some(gone.link) && !r.dst.is_ipv6() && r.protocol == PROTOCOL;
            self.observed.routes.retain(|r| !lost(r));
        }
    }

    fn add_route(&mut self, new: &Route) {
        assert_eq!(new.protocol, PROTOCOL);
        if new.kind == RouteKind::Unicast {
            let link = self.observed.links.iter().find(|l| Some(l.index) == new.link).expect("ENODEV");
            assert!(link.up, "ENETDOWN: {new:?}");
            let via = new.via.filter(|via| !new.onlink && !is_link_local(*via));
            let near = |r: &Route| r.table == new.table && r.via.is_none() && r.link == new.link;
            let reaches = |via| self.observed.routes.iter().any(|r| near(r) && r.dst.contains(via));
            assert!(via.is_none_or(reaches), "Nexthop has invalid gateway: {new:?}");
        }
        let same = |r: &Route| (r.table, r.dst, r.metric) == (new.table, new.dst, new.metric);
        match self.observed.routes.iter().position(same) {
            Some(_) if new.dst.is_ipv6() => panic!("EEXIST or a multipath route: {new:?}"),
            Some(at) => {
                assert_eq!(
                    self.observed.routes[at].protocol, PROTOCOL,
                    "a foreign route is replaced by {new:?}"
                );
                self.observed.routes[at] = new.clone();
            }
            None => self.observed.routes.push(new.clone()),
        }
    }

    /// Behind all of its priority.
    fn add_rule(&mut self, new: &Rule) {
        assert_eq!(new.protocol, PROTOCOL);
        assert!(!self.observed.rules.iter().any(|is| exists(is, new)), "EEXIST: {new:?}");
        if let RuleAction::Goto(to) = new.action {
            assert!(to > new.priority, "EINVAL, backwards: {new:?}");
        }
        let behind = |r: &Rule| r.ipv6 == new.ipv6 && r.priority > new.priority;
        let last = self
            .observed
            .rules
            .iter()
            .rposition(|r| r.ipv6 == new.ipv6)
            .map_or(self.observed.rules.len(), |n| n + 1);
        let at = self.observed.rules.iter().position(behind).unwrap_or(last);
        self.observed.rules.insert(at, new.clone());
    }

    /// All that is not ours, to compare.
    pub fn foreign(&self) -> (Vec<Rule>, Vec<Route>, Vec<Address>) {
        let o = &self.observed;
        (
            o.rules.iter().filter(|r| r.protocol != PROTOCOL).cloned().collect(),
            o.routes.iter().filter(|r| r.protocol != PROTOCOL).cloned().collect(),
            o.addresses.iter().filter(|a| a.protocol != PROTOCOL).cloned().collect(),
        )
    }
}

/// `rule_exists` of net/core/fib_rules.c: neither the protocol nor the target of a goto counts.
pub fn exists(is: &Rule, new: &Rule) -> bool {
    let plain = |r: &Rule| {
        let action = if let RuleAction::Goto(_) = r.action { RuleAction::Goto(0) } else { r.action };
        Rule { action, protocol: 0, ..r.clone() }
    };
    plain(is) == plain(new)
}

fn is_link_local(addr: IpAddr) -> bool {
    Prefix::new("fe80::".parse::<IpAddr>().unwrap(), 10).contains(addr)
}
