//! The uplinks with their providers: what is known of each, and what changed, for the log.

use crate::cli::Globals;
use narrowgate_model::Gather;
use narrowgate_model::config::{Config, ProviderKind, Uplink};
use narrowgate_model::facts::{RouteFact, UplinkState};
use narrowgate_model::net::Link;
use narrowgate_model::state::Observed;
use narrowgate_model::{ByName, Facts, Mark, Time};
use narrowgate_providers::Provider;
use std::os::fd::BorrowedFd;

/// All uplinks.
#[derive(Default)]
pub struct Uplinks {
    list: Vec<Running>,
    facts: ByName<Facts>,
    mark: Option<Mark>,
}

struct Running {
    config: Uplink,
    provider: Option<Box<dyn Provider>>,
    problem: Option<String>,
    /// The device's number when it was last seen, to know it by if somebody gives it another name.
    index: Option<u32>,
    /// That other name.
    called: Option<String>,
}

/// An uplink in one word and, if it is not up, why not.
pub fn state_word(state: UplinkState) -> &'static str {
    match state {
        UplinkState::NoDevice => "no device",
        UplinkState::Down => "down",
        UplinkState::NoCarrier => "no carrier",
        UplinkState::Waiting => "waiting",
        UplinkState::Up => "up",
    }
}

impl Uplinks {
    /// Opens a provider for each uplink that is new or changed, and ends those that are gone.
    pub fn configure(&mut self, config: &Config, globals: &Globals, now: Time) {
        let same_mark = self.mark.replace(config.mark) == Some(config.mark);
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.list)
            .into_iter()
            .partition(|r| same_mark && r.problem.is_none() && config.uplinks.contains(&r.config));
        for mut running in gone {
            log::info!("uplink {}: ended", running.config.name);
            self.facts.remove(&running.config.name);
            if let Some(provider) = &mut running.provider {
                provider.stop(now);
            }
        }
        self.list = kept;
        for uplink in &config.uplinks {
            if self.list.iter().any(|r| r.config == *uplink) {
                continue;
            }
            let (provider, problem) = match narrowgate_providers::open(
                uplink,
                config.mark,
                &globals.state_dir,
                &globals.runtime_dir,
                now,
            ) {
                Ok(provider) => (Some(provider), None),
                Err(error) => (None, Some(format!("uplink {}: {error}", uplink.name))),
            };
            match (&provider, &problem) {
                (Some(p), _) if p.kind() != "auto" => {
                    log::info!("uplink {} on {}: provider {}", uplink.name, uplink.device, p.kind())
                }
                (_, Some(problem)) => log::error!("{problem}"),
                _ => {}
            }
            self.facts.insert(uplink.name.clone(), Facts::default());
            self.list.push(Running { config: uplink.clone(), provider, problem, index: None, called: None });
        }
    }

    /// Tells the providers what the kernel shows.
    pub fn learn(&mut self, observed: &Observed, now: Time) {
        let taken: Vec<String> = self.list.iter().map(|r| r.config.device.clone()).gather();
        for running in &mut self.list {
            let link = running.follow(&observed.links, &taken);
            let Some(provider) = &mut running.provider else { continue };
            provider.on_link(link, now);
            if let Some(link) = link {
                let addresses: Vec<_> =
                    observed.addresses.iter().filter(|a| a.link == link.index).cloned().gather();
                provider.on_addresses(&addresses, now);
            }
        }
        self.collect();
    }

    /// Reads the providers' sockets. True if facts changed: [`learn`](Self::learn) takes them over.
    pub fn on_readable(&mut self, now: Time) -> bool {
        self.each(|provider| provider.on_readable(now))
    }

    /// Does what is due. True if facts changed.
    pub fn on_timer(&mut self, now: Time) -> bool {
        self.each(|provider| provider.next_timeout().is_some_and(|at| at <= now) && provider.on_timer(now))
    }

    /// When the next thing is due.
    pub fn next_timeout(&self) -> Option<Time> {
        let providers = self.list.iter().filter_map(|r| r.provider.as_ref()?.next_timeout());
        providers.min()
    }

    /// What to poll for reading.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = Vec::new();
        self.list.iter().filter_map(|r| r.provider.as_ref()).for_each(|p| p.fds(&mut fds));
        fds
    }

    /// What is known, by the uplink's name.
    pub fn facts(&self) -> &ByName<Facts> {
        &self.facts
    }

    /// Whether every provider has had the time to learn what there is.
    pub fn are_settled(&self, now: Time) -> bool {
        self.list.iter().filter_map(|r| r.provider.as_ref()).all(|p| p.settled(now))
    }

    /// The config with the provider in force in the place of `auto`: it decides whether the device is ours to manage. Until
    /// `auto` has chosen, it is not. A device that was renamed is in it under both names.
    pub fn in_force(&self, config: &Config) -> Config {
        let mut config = config.clone();
        for uplink in config.uplinks.iter_mut().filter(|u| u.provider == ProviderKind::Auto) {
            uplink.provider = match self.provider(&uplink.name).map(|p| p.kind()) {
                Some("builtin") => ProviderKind::Builtin,
                Some("networkd") => ProviderKind::Networkd,
                _ => ProviderKind::Netifd,
            };
        }
        for running in &self.list {
            let Some(device) = running.called.clone() else { continue };
            let renamed = config.uplinks.iter().find(|u| u.name == running.config.name).cloned();
            config.uplinks.extend(renamed.map(|uplink| Uplink { device, ..uplink }));
        }
        config
    }

    fn provider(&self, name: &str) -> Option<&dyn Provider> {
        self.list.iter().find(|r| r.config.name == name)?.provider.as_deref()
    }

    /// Name, provider, and what else the provider tells.
    pub fn describe(&self, name: &str, now: Time) -> (&'static str, Vec<(String, String)>) {
        self.provider(name).map_or(("none", Vec::new()), |p| (p.kind(), p.describe(now)))
    }

    /// What keeps a provider from working.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.list.iter().filter_map(|r| r.problem.as_deref())
    }

    /// Gives leases back.
    pub fn stop(&mut self, now: Time) {
        self.list.iter_mut().filter_map(|r| r.provider.as_mut()).for_each(|p| p.stop(now));
    }

    fn each(&mut self, mut act: impl FnMut(&mut Box<dyn Provider>) -> bool) -> bool {
        let mut changed = false;
        for provider in self.list.iter_mut().filter_map(|r| r.provider.as_mut()) {
            changed |= act(provider);
        }
        changed
    }

    /// Takes the facts over, and tells the log what is new.
    fn collect(&mut self) {
        for running in &self.list {
            let Some(provider) = &running.provider else { continue };
            let new = provider.facts();
            let name = &running.config.name;
            let Some(old) = self.facts.get_mut(name).filter(|old| *old != new) else { continue };
            tell(name, old, new);
            old.clone_from(new);
        }
    }
}

impl Running {
    /// The device: the one of that name or, if there is none, the one that had it, whatever it is called now. What was let
    /// in on it may still be sent out, so it stays guarded until the config, read again, does not mean it any more.
    fn follow<'a>(&mut self, links: &'a [Link], taken: &[String]) -> Option<&'a Link> {
        let named = links.iter().find(|l| l.name == self.config.device);
        let had_it = |l: &&Link| Some(l.index) == self.index && !taken.contains(&l.name);
        let link = named.or_else(|| links.iter().find(had_it));
        let called = link.filter(|_| named.is_none()).map(|l| l.name.clone());
        if called != self.called {
            self.problem = called.as_ref().map(|name| {
                let (uplink, device) = (&self.config.name, &self.config.device);
                format!("uplink {uplink}: {device} is called {name} now; used and guarded so until the config is read again")
            });
            self.problem.iter().for_each(|problem| log::warn!("{problem}"));
            self.called = called;
        }
        self.index = link.map(|l| l.index);
        link
    }
}

/// One line for each thing that came or went; refreshed lifetimes are no news.
fn tell(name: &str, old: &Facts, new: &Facts) {
    if old.state() != new.state() {
        log::info!("uplink {name}: {}", state_word(new.state()));
    }
    for list in [addresses, routes, dns] {
        let (before, after) = (list(old), list(new));
        after.iter().filter(|x| !before.contains(x)).for_each(|x| log::info!("uplink {name}: {x}"));
        before.iter().filter(|x| !after.contains(x)).for_each(|x| log::info!("uplink {name}: gone: {x}"));
    }
}

fn addresses(facts: &Facts) -> Vec<String> {
    facts.addresses.iter().map(|a| format!("address {} ({})", a.prefix, a.origin.as_str())).gather()
}

fn routes(facts: &Facts) -> Vec<String> {
    let by = |r: &RouteFact| r.via.map(|via| format!("route {} by {via} ({})", r.dst, r.origin.as_str()));
    facts.routes.iter().filter_map(by).gather()
}

fn dns(facts: &Facts) -> Vec<String> {
    facts.dns.iter().map(|d| format!("DNS server {} ({})", d.server, d.origin.as_str())).gather()
}
