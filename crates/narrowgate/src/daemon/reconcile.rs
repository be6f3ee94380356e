//! Makes the kernel look as policy wants: observe, desire, diff, apply, and again until nothing is left to do.
//!
//! Whatever the cause is (a fact, a reload, somebody who flushed our rules), the way is the same, so there is one way to test.
//! A step that fails ends the plan where going on could leak; what is left is tried again, later each time.

use super::groups::Groups;
use super::uplinks::Uplinks;
use super::{now, sooner};
use crate::runtime::RuntimeDir;
use alloc::borrow::ToOwned;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use narrowgate_kernel::{Kernel, Real, Scope, conntrack};
use narrowgate_model::Gather;
use narrowgate_model::nft::ChainPrint;
use narrowgate_model::state::{Before, Desired, Observed, Step};
use narrowgate_model::{ByName, Config, Facts, PROTOCOL, Time};
use narrowgate_policy::{self as policy, Inputs};
use narrowgate_sys::time::Instant;

/// Plans in a row before we conclude that somebody works against us and wait.
const ROUNDS: usize = 4;
/// The first wait after a failure; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(8);
/// When the log hears again of what is put back time and again.
const AGAIN: Duration = Duration::from_secs(60);
/// How long the providers have to learn again what a run before this one had learnt.
const GRACE: Duration = Duration::from_secs(10);

/// Numbers for `status`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Steps taken.
    pub steps: u64,
    /// Steps that failed.
    pub failed: u64,
    /// Steps that put back what somebody else took away.
    pub healed: u64,
    /// Microseconds for the first whole policy.
    pub first_apply_us: u64,
}

/// See the module.
pub struct Reconciler {
    runtime: RuntimeDir,
    before: Before,
    /// The file does not have it.
    unsaved: bool,
    /// The kernel when everything was last in order: if that is still what is wanted, a difference is somebody else's doing.
    settled: Option<Rc<Observed>>,
    /// The guard as it was last wanted, as the kernel would show it.
    guard: Vec<ChainPrint>,
    observed: Rc<Observed>,
    inherited: Inherited,
    counts: Counts,
    complaints: Vec<String>,
    /// What was put back last, and when that was told.
    healed: Option<(Time, String)>,
    retry: Option<(Time, Duration)>,
    /// The uplinks' addresses whose connections from before the guard are forgotten.
    wiped: Vec<IpAddr>,
}

impl Reconciler {
    /// Picks up what a run before this one remembered.
    #[inline(never)]
    pub fn new(runtime: RuntimeDir) -> Reconciler {
        let before = runtime.read_before();
        Reconciler {
            runtime,
            before,
            unsaved: false,
            settled: None,
            guard: Vec::new(),
            observed: Rc::default(),
            inherited: Inherited::default(),
            counts: Counts::default(),
            complaints: Vec::new(),
            healed: None,
            retry: None,
            wiped: Vec::new(),
        }
    }

    /// Sets up all that does not need facts: the guard, the rules, the unreachable defaults.
    ///
    /// # Errors
    /// A sentence, if the guard cannot be set: then nothing else was done.
    #[inline(never)]
    pub fn guard_first(&mut self, kernel: &mut Real, config: &Config, groups: &Groups) -> Result<(), String> {
        let started = Instant::now();
        let at = now();
        let observed = self.look(kernel, config, at)?;
        // A device that is there already shall be guarded with its egress chain from the start.
        let facts = bare_facts(config, &observed);
        let mut desired = desire(config, groups, &facts, &observed, kernel, at);
        desired.links_up.clear();
        let mut plan = policy::diff(&desired, &observed, at);
        self.inherited = Inherited::from(observed.clone(), at);
        self.inherited.spare(&mut plan, at);
        self.carry_out(kernel, &observed, &plan)?;
        self.counts.first_apply_us = started.elapsed().as_micros() as u64;
        Ok(())
    }

    /// Until kernel, facts and config agree, or a failure asks for patience.
    #[inline(never)]
    pub fn settle(&mut self, kernel: &mut Real, config: &Config, groups: &Groups, uplinks: &mut Uplinks) {
        for _ in 0..ROUNDS {
            let at = now();
            let observed = match self.look(kernel, &uplinks.in_force(config), at) {
                Ok(observed) => observed,
                Err(error) => return self.fail(error),
            };
            uplinks.learn(&observed, at);
            if uplinks.are_settled(at) {
                self.inherited.until = None;
            }
            let config = &uplinks.in_force(config);
            let desired = desire(config, groups, uplinks.facts(), &observed, kernel, at);
            self.guard = desired.ruleset.fingerprint();
            self.wipe(config, &observed, &desired);
            let plan = self.plan(&desired, &observed, at);
            self.observed = observed.clone();
            if plan.is_empty() {
                kernel.watch_names(&desired.ruleset);
                self.settled = Some(observed);
                self.retry = None;
                if self.save() {
                    self.complaints.clear();
                }
                return;
            }
            if self.settled.as_ref().is_some_and(|good| self.plan(&desired, good, at).is_empty()) {
                self.counts.healed += plan.len() as u64;
                let what: Vec<String> = plan.iter().map(policy::describe).gather();
                self.tell_healed(narrowgate_model::join(&what, "; "), at);
            } else {
                // Whatever comes of it, the kernel is not as it was in order before: a cable that flaps while we are at it is nobody's doing.
                self.settled = None;
            }
            if let Err(message) = self.carry_out(kernel, &observed, &plan) {
                return self.fail(message);
            }
        }
        self.fail(
            "the kernel does not come to look as it should: another program works against us".to_owned(),
        );
    }

    /// Takes down all that is ours, the guard last. True if nothing is left.
    #[inline(never)]
    pub fn tear_down(&mut self, kernel: &mut Real, config: &Config) -> bool {
        for _ in 0..ROUNDS {
            let at = now();
            let observed = match self.look(kernel, config, at) {
                Ok(observed) => observed,
                // It may have been short of memory.
                Err(error) => {
                    log::error!("{error}");
                    continue;
                }
            };
            let plan = policy::teardown(&observed, &self.before);
            if plan.is_empty() {
                return true;
            }
            for step in &plan {
                // As much as can be: what one object refuses must not keep the others standing.
                if let Err(error) = kernel.apply(step, at) {
                    self.complain(format!("{}: {error}", policy::describe(step)));
                }
            }
        }
        log::error!("something of ours could not be removed; `narrowgate run` and a stop try again");
        false
    }

    /// When to try again after a failure.
    pub fn next_retry(&self) -> Option<Time> {
        sooner(self.retry.map(|(at, _)| at), self.inherited.until)
    }

    /// Whether that moment has come.
    pub fn retry_due(&mut self, now: Time) -> bool {
        let matured = self.inherited.until.take_if(|until| *until <= now).is_some();
        matured || self.retry.is_some_and(|(at, _)| at <= now)
    }

    /// The kernel as it was last seen.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Whether the guard is as it has to be.
    pub fn guard_stands(&self) -> bool {
        !self.guard.is_empty() && self.guard == self.observed.guard.chains
    }

    /// Numbers for `status`.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What went wrong lately.
    pub fn complaints(&self) -> impl Iterator<Item = &str> {
        self.complaints.iter().map(String::as_str)
    }

    /// The kernel as it is now, as far as this config is concerned.
    #[inline(never)]
    fn look(&self, kernel: &mut Real, config: &Config, at: Time) -> Result<Rc<Observed>, String> {
        kernel.observe(&scope(config, &self.before), at).map(Rc::new).map_err(|e| e.to_string())
    }

    fn plan(&self, desired: &Desired, observed: &Observed, at: Time) -> Vec<Step> {
        let mut plan = policy::diff(desired, observed, at);
        plan.append(&mut policy::give_back(desired, observed, &self.before));
        self.inherited.spare(&mut plan, at);
        plan
    }

    fn carry_out(&mut self, kernel: &mut Real, observed: &Observed, plan: &[Step]) -> Result<(), String> {
        self.unsaved |= policy::remember(&mut self.before, observed, plan);
        // What keeps packets in does not wait for somebody to make room.
        self.save();
        let mut failure = None;
        for step in plan {
            log::debug!("{}", policy::describe(step));
            self.counts.steps += 1;
            if let Err(error) = kernel.apply(step, now()) {
                self.counts.failed += 1;
                let message = format!("{}: {error}", policy::describe(step));
                if must_hold(step) {
                    return Err(message);
                }
                failure = Some(message);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Writes down how the system was before, if the file does not have it yet. Whether it has it now.
    fn save(&mut self) -> bool {
        if self.unsaved {
            match self.runtime.write_before(&self.before) {
                Ok(()) => self.unsaved = false,
                Err(error) => self.complain(format!(
                    "{}: {error}: how the system was before would be lost in a crash",
                    self.runtime.file("before").display()
                )),
            }
        }
        !self.unsaved
    }

    /// Whoever spoke to an address of an uplink before the guard stood, tracked by another firewall, has made replies of what
    /// the tunnel sends, and those the guard refuses. So an address begins with nothing remembered.
    #[inline(never)]
    fn wipe(&mut self, config: &Config, observed: &Observed, desired: &Desired) {
        let mut known = Vec::new();
        for uplink in &config.uplinks {
            let Some(link) = observed.links.iter().find(|l| l.name == uplink.device) else { continue };
            let mut own: Vec<IpAddr> = Vec::new();
            for list in [&observed.addresses, &desired.addresses] {
                list.iter().filter(|a| a.link == link.index).map(|a| a.prefix.addr).add_to(&mut own);
            }
            if own.iter().any(|addr| !self.wiped.contains(addr)) {
                match conntrack::forget_incoming(&own, &uplink.inbound) {
                    Ok(0) => {}
                    Ok(n) => log::info!("uplink {}: forgot {n} connections from before", uplink.name),
                    // Where nothing can list them, as a rule nothing tracks them.
                    Err(error) => log::debug!("{error}"),
                }
            }
            known.append(&mut own);
        }
        self.wiped = known;
    }

    fn fail(&mut self, message: String) {
        let wait = self.retry.map_or(RETRY_MIN, |(_, wait)| (wait * 2).min(RETRY_MAX));
        self.retry = Some((now() + wait, wait));
        self.complain(message);
    }

    /// Says what was put back, and of the same thing in a row no more often than once in [`AGAIN`]: a program that takes it away by the
    /// second shall not fill the log. The counter goes on.
    fn tell_healed(&mut self, what: String, at: Time) {
        let known = |(then, before): &(Time, String)| *before == what && at.since(*then) < AGAIN;
        if !self.healed.as_ref().is_some_and(known) {
            log::warn!("put back what another program took away: {what}");
            self.healed = Some((at, what));
        }
    }

    /// Says a thing once, until everything is in order again.
    fn complain(&mut self, message: String) {
        if !self.complaints.contains(&message) {
            log::warn!("{message}");
            self.complaints.push(message);
            narrowgate_model::sort::sort(&mut self.complaints);
        }
    }
}

/// What has to be observed for this config.
fn scope(config: &Config, before: &Before) -> Scope {
    let mut sysctls = policy::sysctl_paths(config);
    for path in before.sysctls.keys() {
        if !sysctls.contains(path) {
            sysctls.push(path.clone());
        }
    }
    Scope { table: config.table, devices: policy::scope_devices(config), sysctls }
}

/// The facts before any provider has told one: which devices there are.
fn bare_facts(config: &Config, observed: &Observed) -> ByName<Facts> {
    let mut facts = ByName::new();
    for uplink in &config.uplinks {
        let link = observed.links.iter().find(|l| l.name == uplink.device).cloned();
        facts.insert(uplink.name.clone(), Facts { link, ..Facts::default() });
    }
    facts
}

fn desire(
    config: &Config,
    groups: &Groups,
    facts: &ByName<Facts>,
    observed: &Observed,
    kernel: &Real,
    at: Time,
) -> Desired {
    policy::desired(&Inputs {
        config,
        groups: groups.ids(),
        facts,
        observed,
        capabilities: policy::Capabilities {
            egress: kernel.capabilities().egress,
            absent_devices: kernel.capabilities().absent_devices,
        },
        now: at,
    })
}

/// Steps without which the steps behind them could leak.
fn must_hold(step: &Step) -> bool {
    match step {
        Step::SetSysctl { path, .. } => !path.ends_with("/mtu"),
        step => matches!(step, Step::SetGuard(_) | Step::AddRule(_)),
    }
}

/// Routes and addresses that a run before this one left standing. They are kept for [`GRACE`], until the providers had the
/// time to learn them again: a tunnel that works shall not notice that we were away.
#[derive(Debug, Default)]
struct Inherited {
    from: Rc<Observed>,
    until: Option<Time>,
}

impl Inherited {
    fn from(observed: Rc<Observed>, now: Time) -> Inherited {
        let any = observed.routes.iter().any(|r| r.protocol == PROTOCOL)
            || observed.addresses.iter().any(|a| a.protocol == PROTOCOL);
        Inherited { from: observed, until: any.then(|| now + GRACE) }
    }

    /// Takes the steps out of the plan that would end what is inherited; but what is replaced has to go.
    fn spare(&self, plan: &mut Vec<Step>, now: Time) {
        if self.until.is_none_or(|until| until <= now) {
            return;
        }
        let mut n = 0;
        while let Some(step) = plan.get(n) {
            if self.has(step) && !is_replaced(step, plan) {
                plan.remove(n);
            } else {
                n += 1;
            }
        }
    }

    /// Whether the step would end something that is inherited. (What is not ours goes only where it is replaced.)
    fn has(&self, step: &Step) -> bool {
        match step {
            Step::RemoveRoute(route) => self.from.routes.contains(route),
            Step::RemoveAddress(is) => {
                self.from.addresses.iter().any(|a| a.link == is.link && a.prefix == is.prefix)
            }
            _ => false,
        }
    }
}

fn is_replaced(step: &Step, plan: &[Step]) -> bool {
    plan.iter().any(|by| match (step, by) {
        (Step::RemoveRoute(old), Step::AddRoute(new)) => {
            new.table == old.table && new.metric == old.metric && new.dst == old.dst
        }
        (Step::RemoveAddress(old), Step::AddAddress(new)) => {
            new.link == old.link && new.prefix.addr == old.prefix.addr
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowgate_model::Prefix;
    use narrowgate_model::net::{Route, RouteKind};

    fn route(via: &str, metric: u32) -> Route {
        Route {
            table: 1,
            dst: Prefix::DEFAULT_V6,
            kind: RouteKind::Unicast,
            via: Some(via.parse().unwrap()),
            link: Some(2),
            metric,
            onlink: false,
            source: None,
            protocol: PROTOCOL,
        }
    }

    #[test]
    fn what_is_inherited_stays_for_a_while_unless_it_is_replaced() {
        let old = route("fe80::1", 512);
        let observed = Observed { routes: vec![old.clone()], ..Observed::default() };
        let inherited = Inherited::from(Rc::new(observed), Time(0));
        let spare = |mut plan: Vec<Step>, at| {
            inherited.spare(&mut plan, Time(at));
            plan.len()
        };
        let removal = || vec![Step::RemoveRoute(old.clone())];
        assert_eq!(spare(removal(), 1000), 0);
        assert_eq!(spare(removal(), 10_000), 1, "the grace is over");
        let mut replacement = removal();
        replacement.push(Step::AddRoute(route("fe80::2", 512)));
        assert_eq!(spare(replacement, 1000), 2, "else the two became a multipath route");
        let mut beside = removal();
        beside.push(Step::AddRoute(route("fe80::2", 513)));
        assert_eq!(spare(beside, 1000), 1);
        let other = vec![Step::RemoveRoute(route("fe80::3", 512))];
        assert_eq!(spare(other, 1000), 1, "what was not there at the start");
    }
}
