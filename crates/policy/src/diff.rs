//! The difference between what is and what should be, as steps in an order that never leaks.
//!
//! The guard comes first: from then on no other step can let anything out. Then sysctls (they count when a device is
//! switched on), the unreachable defaults, rules, devices, addresses, routes. What is wrong goes after what is right has
//! come, except where the kernel would take the two for one.

use crate::rules::{collide, is_twin};
use crate::teardown::{remove_address, remove_route, remove_rule};
use alloc::vec::Vec;
use core::ptr;
use narrowgate_model::Gather;
use narrowgate_model::net::{Address, Link, Route, RouteKind, Rule};
use narrowgate_model::state::{Desired, Observed, Step};
use narrowgate_model::{PROTOCOL, Time};

/// The plan. Empty if nothing is to be done; nothing foreign is in it.
pub fn diff(desired: &Desired, observed: &Observed, now: Time) -> Vec<Step> {
    let mut plan = Vec::new();
    guard(desired, observed, &mut plan);
    for (path, value) in desired.sysctls.iter() {
        if observed.sysctls.get(path).is_none_or(|is| is.trim() != value) {
            plan.push(Step::SetSysctl { path: path.clone(), value: value.clone() });
        }
    }
    let up = |link: &Link| link.up || desired.links_up.contains(&link.name);
    let usable =
        |r: &&Route| r.link.is_none_or(|index| observed.links.iter().any(|l| l.index == index && up(l)));
    let routes: Vec<&Route> = desired.routes.iter().filter(usable).gather();
    add_routes(&routes, observed, &|r| r.kind != RouteKind::Unicast, &|_| false, &mut plan);
    rules(desired, observed, &mut plan);
    for name in &desired.links_up {
        if observed.links.iter().any(|l| l.name == *name && !l.up) {
            plan.push(Step::SetLink { name: name.clone(), up: true });
        }
    }
    let stale = stale_addresses(desired, observed);
    // With the last IPv4 address of a device the kernel forgets all IPv4 routes over it: so those that are not wanted any
    // more go before, and the others are set again behind.
    let shaken: Vec<u32> = stale.iter().filter(|a| !a.prefix.is_ipv6()).map(|a| a.link).gather();
    let forgotten = |r: &Route| !r.dst.is_ipv6() && r.link.is_some_and(|link| shaken.contains(&link));
    remove_routes(&routes, observed, &forgotten, &mut plan);
    addresses(desired, observed, &stale, &shaken, now, &mut plan);
    // A router has to be on-link before its route comes; and what takes another one's place comes when that has a new one.
    for (routed, replaces) in [(false, false), (false, true), (true, false), (true, true)] {
        let which = |r: &Route| {
            r.kind == RouteKind::Unicast
                && r.via.is_some() == routed
                && observed.routes.iter().any(|is| same_place(is, r)) == replaces
        };
        add_routes(&routes, observed, &which, &forgotten, &mut plan);
    }
    remove_routes(&routes, observed, &|_| true, &mut plan);
    plan
}

/// Our tables are set again when they differ, and when nobody owns them: a process before us has died, so we adopt them.
/// Tables without `persist` and without an owner are those of a kernel that knows neither.
#[inline(never)]
fn guard(desired: &Desired, observed: &Observed, plan: &mut Vec<Step>) {
    let is = &observed.guard.chains; // each once, as among those that are wanted
    let wanted = desired.ruleset.fingerprint();
    let orphaned = observed.guard.persistent && !observed.guard.owned;
    if orphaned || is.len() != wanted.len() || !wanted.iter().all(|chain| is.contains(chain)) {
        plan.push(Step::SetGuard(desired.ruleset.clone()));
    }
}

#[inline(never)]
fn rules(desired: &Desired, observed: &Observed, plan: &mut Vec<Step>) {
    // Which of the observed rules stay: each that is wanted, once, and no twin that a foreign rule has got behind.
    let mut stays = Vec::new();
    let mut missing = Vec::new();
    for rule in &desired.rules {
        let good = |(n, r): (usize, &Rule)| r == rule && !overtaken(&observed.rules, n);
        match observed.rules.iter().enumerate().position(good) {
            Some(n) => stays.push(n),
            None => missing.push(rule),
        }
    }
    for in_the_way in [true, false] {
        for (n, old) in observed.rules.iter().enumerate() {
            let stale = old.protocol == PROTOCOL && !stays.contains(&n);
            if stale && desired.rules.iter().any(|new| collide(old, new)) == in_the_way {
                remove_rule(plan, old);
            }
        }
        if in_the_way {
            missing.iter().for_each(|rule| plan.push(Step::AddRule((*rule).clone())));
        }
    }
}

/// Whether a foreign rule of the same priority comes behind this twin, which would jump over it.
fn overtaken(rules: &[Rule], n: usize) -> bool {
    let Some((twin, behind)) = rules.get(n..).and_then(<[Rule]>::split_first) else { return false };
    let same_place = |r: &&Rule| r.ipv6 == twin.ipv6 && r.priority == twin.priority;
    is_twin(twin) && behind.iter().filter(same_place).any(|r| r.protocol != PROTOCOL)
}

/// Ours, and not wanted any more or not as it is.
#[inline(never)]
fn stale_addresses<'a>(desired: &Desired, observed: &'a Observed) -> Vec<&'a Address> {
    let wanted =
        |is: &Address| desired.addresses.iter().any(|want| same_address(is, want) && !immutable(is, want));
    observed.addresses.iter().filter(|a| a.protocol == PROTOCOL && !wanted(a)).gather()
}

/// What is stale goes backwards, secondary addresses before the primary one of their network. With the primary one the
/// kernel removes the others that are left, so on a device that is `shaken` all IPv4 addresses are set again.
#[inline(never)]
fn addresses(
    desired: &Desired,
    observed: &Observed,
    stale: &[&Address],
    shaken: &[u32],
    now: Time,
    plan: &mut Vec<Step>,
) {
    stale.iter().rev().for_each(|a| remove_address(plan, a));
    for want in &desired.addresses {
        let shaken = !want.prefix.is_ipv6() && shaken.contains(&want.link);
        // An address that somebody else has set there is as good as ours, and not ours to change.
        let (mut good, mut foreign) = (false, false);
        for is in &observed.addresses {
            if is.link == want.link && is.prefix.addr == want.prefix.addr {
                let ours = is_ours(observed, is);
                let stays = !stale.iter().any(|stale| ptr::eq(*stale, is));
                foreign |= !ours;
                good |= stays && (!ours || same_address(is, want) && is_fresh(is, want, now));
            }
        }
        if !good || shaken && !foreign {
            plan.push(Step::AddAddress(want.clone()));
        }
    }
}

/// Kernels before 5.18 keep no protocol with an address; there the missing prefix route is the hint. Newer ones give one to
/// the link-local address at least.
fn is_ours(observed: &Observed, is: &Address) -> bool {
    let kept = || observed.addresses.iter().any(|a| a.protocol != 0);
    is.protocol == PROTOCOL || is.protocol == 0 && is.no_prefix_route && !kept()
}

fn same_address(is: &Address, want: &Address) -> bool {
    is.link == want.link && is.prefix == want.prefix
}

/// Differences that the kernel does not change on an address that is there.
fn immutable(is: &Address, want: &Address) -> bool {
    is.no_prefix_route != want.no_prefix_route || is.broadcast != want.broadcast
}

fn is_fresh(is: &Address, want: &Address, now: Time) -> bool {
    near(is.preferred_until, want.preferred_until, now) && near(is.valid_until, want.valid_until, now)
}

/// The kernel counts lifetimes in seconds, so ours and what it tells are never quite the same. What is over is over.
fn near(a: Option<Time>, b: Option<Time>, now: Time) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.0.max(now.0).abs_diff(b.0.max(now.0)) <= GRANULARITY,
        (a, b) => a == b,
    }
}

/// Those `which` are not there, or will have been `forgotten` by then.
fn add_routes(
    wanted: &[&Route],
    observed: &Observed,
    which: &dyn Fn(&Route) -> bool,
    forgotten: &dyn Fn(&Route) -> bool,
    plan: &mut Vec<Step>,
) {
    for want in wanted.iter().filter(|w| which(w)) {
        if !forgotten(want) && observed.routes.iter().any(|is| same_route(is, want)) {
            continue;
        }
        if want.dst.is_ipv6() {
            // IPv6 would join the two to a multipath route.
            let others = observed.routes.iter().filter(|is| same_place(is, want));
            others.for_each(|is| remove_route(plan, is));
        }
        plan.push(Step::AddRoute((*want).clone()));
    }
}

/// All of ours among `which` that nobody wants and that no other step removes or replaces.
fn remove_routes(
    wanted: &[&Route],
    observed: &Observed,
    which: &dyn Fn(&Route) -> bool,
    plan: &mut Vec<Step>,
) {
    let mut replaced: Vec<&Route> = Vec::new();
    for want in wanted.iter().filter(|w| !w.dst.is_ipv6()) {
        if !observed.routes.iter().any(|is| same_route(is, want)) {
            observed.routes.iter().find(|is| same_place(is, want)).into_iter().add_to(&mut replaced);
        }
    }
    for is in observed.routes.iter().filter(|r| r.protocol == PROTOCOL && which(r)) {
        let done = |step: &Step| matches!(step, Step::RemoveRoute(r) if r == is);
        if !wanted.iter().any(|w| same_route(is, w))
            && !replaced.iter().any(|r| ptr::eq(*r, is))
            && !plan.iter().any(done)
        {
            remove_route(plan, is);
        }
    }
}

/// Where nothing is sent, the kernel shows the loopback device, or none.
fn same_route(is: &Route, want: &Route) -> bool {
    if want.kind == RouteKind::Unicast { is == want } else { is.kind == want.kind && same_place(is, want) }
}

/// Ours, to the same destination with the same metric: what IPv4 takes for the same route.
fn same_place(is: &Route, want: &Route) -> bool {
    (is.table, is.dst, is.metric, is.protocol) == (want.table, want.dst, want.metric, want.protocol)
}

/// Milliseconds by which a lifetime may differ before it is set again: two seconds of rounding, up and down.
const GRANULARITY: u64 = 2000;
