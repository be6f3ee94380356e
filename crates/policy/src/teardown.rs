//! The way down, and what has to be remembered for it.

use alloc::{borrow::ToOwned, vec::Vec};
use narrowgate_model::PROTOCOL;
use narrowgate_model::net::{Address, Route, RouteKind, Rule};
use narrowgate_model::state::{Before, Desired, Observed, Step};

/// Everything of ours away, everything else as it was before: the way up backwards, so that the guard goes last.
pub fn teardown(observed: &Observed, before: &Before) -> Vec<Step> {
    let mut plan = Vec::new();
    routes(observed, true, &mut plan);
    for address in observed.addresses.iter().rev().filter(|a| a.protocol == PROTOCOL) {
        remove_address(&mut plan, address);
    }
    before.links_down.iter().for_each(|name| switch_off(observed, name, &mut plan));
    for rule in observed.rules.iter().rev().filter(|r| r.protocol == PROTOCOL) {
        remove_rule(&mut plan, rule);
    }
    routes(observed, false, &mut plan);
    before.sysctls.iter().for_each(|(path, value)| restore(observed, path, value, &mut plan));
    let guard = &observed.guard;
    if guard.owned || guard.persistent || !guard.chains.is_empty() {
        plan.push(Step::RemoveGuard);
    }
    plan
}

/// Those that lead somewhere, or the dead ends.
fn routes(observed: &Observed, lead: bool, plan: &mut Vec<Step>) {
    for route in observed.routes.iter().rev().filter(|r| r.protocol == PROTOCOL) {
        if (route.kind == RouteKind::Unicast) == lead {
            remove_route(plan, route);
        }
    }
}

pub(crate) fn remove_route(plan: &mut Vec<Step>, route: &Route) {
    plan.push(Step::RemoveRoute(route.clone()));
}

pub(crate) fn remove_rule(plan: &mut Vec<Step>, rule: &Rule) {
    plan.push(Step::RemoveRule(rule.clone()));
}

pub(crate) fn remove_address(plan: &mut Vec<Step>, address: &Address) {
    plan.push(Step::RemoveAddress(address.clone()));
}

/// What was changed for an uplink that is not in the config any more: to be done behind the plan of a reload. The sysctls
/// in `before` have to be observed.
pub fn give_back(desired: &Desired, observed: &Observed, before: &Before) -> Vec<Step> {
    let mut plan = Vec::new();
    for name in before.links_down.iter().filter(|name| !desired.links_up.contains(name)) {
        switch_off(observed, name, &mut plan);
    }
    for (path, value) in before.sysctls.iter().filter(|(path, _)| !desired.sysctls.contains_key(path)) {
        restore(observed, path, value, &mut plan);
    }
    plan
}

/// Writes down what the plan is about to change and what is not ours, before it is changed. What is known already stays: it
/// may come from a run before this one, and the kernel has our values now. True if something was added.
pub fn remember(before: &mut Before, observed: &Observed, plan: &[Step]) -> bool {
    let mut added = false;
    for step in plan {
        match step {
            Step::SetSysctl { path, .. } if !before.sysctls.contains_key(path) => {
                if let Some(value) = observed.sysctls.get(path) {
                    before.sysctls.insert(path.clone(), value.trim().to_owned());
                    added = true;
                }
            }
            Step::SetLink { name, up: true }
                if !before.links_down.contains(name)
                    && observed.links.iter().any(|l| l.name == *name && !l.up) =>
            {
                before.links_down.push(name.clone());
                added = true;
            }
            _ => {}
        }
    }
    added
}

fn switch_off(observed: &Observed, name: &str, plan: &mut Vec<Step>) {
    if observed.links.iter().any(|l| l.name == name && l.up) {
        plan.push(Step::SetLink { name: name.to_owned(), up: false });
    }
}

/// A sysctl that is not there any more went with its device. An MTU may have become more than the device carries.
fn restore(observed: &Observed, path: &str, value: &str, plan: &mut Vec<Step>) {
    let device = path.strip_suffix("/mtu").and_then(|dir| dir.rsplit('/').next());
    if let Some(link) = observed.links.iter().find(|l| Some(l.name.as_str()) == device)
        && value.parse().is_ok_and(|value: u32| value > link.mtu)
    {
        return; // the kernel has set it itself when the device's changed
    }
    if observed.sysctls.get(path).is_some_and(|is| is.trim() != value) {
        plan.push(Step::SetSysctl { path: path.to_owned(), value: value.to_owned() });
    }
}
