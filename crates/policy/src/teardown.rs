//! The way down, and what has to be remembered for it.

use alloc::{borrow::ToOwned, vec::Vec};
use narrowgate_model::Gather;
use narrowgate_model::PROTOCOL;
use narrowgate_model::net::{Route, RouteKind};
use narrowgate_model::state::{Before, Desired, Observed, Step};

/// Everything of ours away, everything else as it was before: the way up backwards, so that the guard goes last.
pub fn teardown(observed: &Observed, before: &Before) -> Vec<Step> {
    let mut plan = Vec::new();
    let ours = |r: &&Route| r.protocol == PROTOCOL;
    let (ways, dead_ends): (Vec<&Route>, Vec<&Route>) =
        observed.routes.iter().filter(ours).partition(|r| r.kind == RouteKind::Unicast);
    ways.into_iter().rev().map(|r| Step::RemoveRoute(r.clone())).add_to(&mut plan);
    let addresses = observed.addresses.iter().filter(|a| a.protocol == PROTOCOL);
    addresses.rev().map(|a| Step::RemoveAddress(a.clone())).add_to(&mut plan);
    before.links_down.iter().filter_map(|name| switch_off(observed, name)).add_to(&mut plan);
    let rules = observed.rules.iter().filter(|r| r.protocol == PROTOCOL);
    rules.rev().map(|r| Step::RemoveRule(r.clone())).add_to(&mut plan);
    dead_ends.into_iter().rev().map(|r| Step::RemoveRoute(r.clone())).add_to(&mut plan);
    before.sysctls.iter().filter_map(|(path, value)| restore(observed, path, value)).add_to(&mut plan);
    let guard = &observed.guard;
    if guard.owned || guard.persistent || !guard.chains.is_empty() {
        plan.push(Step::RemoveGuard);
    }
    plan
}

/// What was changed for an uplink that is not in the config any more: to be done behind the plan of a reload. The sysctls
/// in `before` have to be observed.
pub fn give_back(desired: &Desired, observed: &Observed, before: &Before) -> Vec<Step> {
    let links = before.links_down.iter().filter(|name| !desired.links_up.contains(name));
    let mut plan: Vec<Step> = links.filter_map(|name| switch_off(observed, name)).gather();
    let sysctls = before.sysctls.iter().filter(|(path, _)| !desired.sysctls.contains_key(path));
    sysctls.filter_map(|(path, value)| restore(observed, path, value)).add_to(&mut plan);
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

fn switch_off(observed: &Observed, name: &str) -> Option<Step> {
    let on = observed.links.iter().any(|l| l.name == name && l.up);
    on.then(|| Step::SetLink { name: name.to_owned(), up: false })
}

/// A sysctl that is not there any more went with its device. An MTU may have become more than the device carries.
fn restore(observed: &Observed, path: &str, value: &str) -> Option<Step> {
    let device = path.strip_suffix("/mtu").and_then(|dir| dir.rsplit('/').next());
    let most = observed.links.iter().find(|l| Some(l.name.as_str()) == device).map(|l| l.mtu);
    if most.zip(value.parse().ok()).is_some_and(|(most, value): (u32, u32)| value > most) {
        return None; // the kernel has set it itself when the device's changed
    }
    let differs = observed.sysctls.get(path).is_some_and(|is| is.trim() != value);
    differs.then(|| Step::SetSysctl { path: path.to_owned(), value: value.to_owned() })
}
