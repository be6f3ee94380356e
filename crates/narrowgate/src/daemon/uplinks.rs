//! The uplinks with their providers: what is known of each, and what changed, for the log.

use crate::cli::Globals;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_model::Gather;
use narrowgate_model::config::{Config, ProviderKind, Uplink};
use narrowgate_model::facts::{RouteFact, UplinkState};
use narrowgate_model::net::Link;
use narrowgate_model::state::Observed;
use narrowgate_model::{ByName, Facts, Mark, Time};
use narrowgate_providers::Provider;
use rustix::fd::BorrowedFd;

/// All uplinks.
#[derive(Default)]
pub struct Uplinks {
    #[expect(clippy::vec_box, reason = "they are moved, and what moves pointers is in the program once")]
    list: Vec<Box<Running>>,
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
        let (list, facts) = (&mut self.list, &mut self.facts);
        list.retain_mut(|running| {
            if same_mark && running.problem.is_none() && config.uplinks.contains(&running.config) {
                return true;
            }
            log::info!("uplink {}: ended", running.config.name);
            facts.remove(&running.config.name);
            if let Some(provider) = &mut running.provider {
                provider.stop(now);
            }
            false
        });
        for uplink in &config.uplinks {
            if list.iter().any(|r| r.config == *uplink) {
                continue;
            }
            let mut running = Box::new(Running {
                config: uplink.clone(),
                provider: None,
                problem: None,
                index: None,
                called: None,
            });
            let (state_dir, runtime_dir) = (&globals.state_dir, &globals.runtime_dir);
            match narrowgate_providers::open(
                uplink,
                config.mark,
                state_dir.as_ref(),
                runtime_dir.as_ref(),
                now,
            ) {
                Ok(provider) => {
                    if provider.kind() != "auto" {
                        log::info!(
                            "uplink {} on {}: provider {}",
                            uplink.name,
                            uplink.device,
                            provider.kind()
                        );
                    }
                    running.provider = Some(provider);
                }
                Err(error) => {
                    let problem = format!("uplink {}: {error}", uplink.name);
                    log::error!("{problem}");
                    running.problem = Some(problem);
                }
            }
            facts.insert(uplink.name.clone(), Facts::default());
            list.push(running);
        }
    }

    /// Tells the providers what the kernel shows.
    #[inline(never)]
    pub fn learn(&mut self, observed: &Observed, now: Time) {
        let links: Vec<Option<&Link>> = self.list.iter().map(|r| self.link_of(r, &observed.links)).gather();
        for (running, link) in self.list.iter_mut().zip(links) {
            running.follow(link);
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

    /// The device: the one of that name or, if there is none, the one that had it, whatever it is called now. What was let
    /// in on it may still be sent out, so it stays guarded until the config, read again, does not mean it any more.
    fn link_of<'a>(&self, running: &Running, links: &'a [Link]) -> Option<&'a Link> {
        let taken = |l: &Link| self.list.iter().any(|r| r.config.device == l.name);
        let had_it = |l: &&Link| Some(l.index) == running.index && !taken(l);
        links.iter().find(|l| l.name == running.config.device).or_else(|| links.iter().find(had_it))
    }

    /// Reads the providers' sockets. True if facts changed: [`learn`](Self::learn) takes them over.
    pub fn on_readable(&mut self, now: Time) -> bool {
        self.each(&mut |provider| provider.on_readable(now))
    }

    /// Does what is due. True if facts changed.
    pub fn on_timer(&mut self, now: Time) -> bool {
        self.each(&mut |provider| {
            provider.next_timeout().is_some_and(|at| at <= now) && provider.on_timer(now)
        })
    }

    /// When the next thing is due.
    pub fn next_timeout(&self) -> Option<Time> {
        let mut next = None;
        for provider in self.providers() {
            next = super::sooner(next, provider.next_timeout());
        }
        next
    }

    /// What to poll for reading.
    pub fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        self.providers().for_each(|p| p.fds(out));
    }

    /// What is known, by the uplink's name.
    pub fn facts(&self) -> &ByName<Facts> {
        &self.facts
    }

    /// Whether every provider has had the time to learn what there is.
    pub fn are_settled(&self, now: Time) -> bool {
        self.providers().all(|p| p.settled(now))
    }

    /// The config with the provider in force in the place of `auto`: it decides whether the device is ours to manage. Until
    /// `auto` has chosen, it is not. A device that was renamed is in it under both names.
    pub fn in_force(&self, config: &Config) -> Config {
        let mut config = config.clone();
        for uplink in &mut config.uplinks {
            uplink.provider = self.kind_in_force(uplink);
        }
        for running in &self.list {
            let Some(device) = &running.called else { continue };
            let mut renamed = running.config.clone();
            renamed.provider = self.kind_in_force(&renamed);
            renamed.device.clone_from(device);
            config.uplinks.push(renamed);
        }
        config
    }

    fn kind_in_force(&self, uplink: &Uplink) -> ProviderKind {
        match uplink.provider {
            ProviderKind::Auto => match self.provider(&uplink.name).map(|p| p.kind()) {
                Some("builtin") => ProviderKind::Builtin,
                Some("networkd") => ProviderKind::Networkd,
                _ => ProviderKind::Netifd,
            },
            kind => kind,
        }
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
        self.each(&mut |provider| {
            provider.stop(now);
            true
        });
    }

    fn providers(&self) -> impl Iterator<Item = &dyn Provider> {
        self.list.iter().filter_map(|r| r.provider.as_deref())
    }

    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Provider) -> bool) -> bool {
        let mut changed = false;
        for provider in self.list.iter_mut().filter_map(|r| r.provider.as_mut()) {
            changed |= act(&mut **provider);
        }
        changed
    }

    /// Takes the facts over, and tells the log what is new.
    #[inline(never)]
    fn collect(&mut self) {
        for running in &self.list {
            let Some(provider) = &running.provider else { continue };
            let name = &running.config.name;
            if let Some(known) = self.facts.get_mut(name) {
                tell(name, known, provider.facts());
                known.clone_from(provider.facts());
            }
        }
    }
}

impl Running {
    /// Takes notice of where the device is, and of what it is called if that is another name.
    #[inline(never)]
    fn follow(&mut self, link: Option<&Link>) {
        self.index = link.map(|l| l.index);
        let called = link.map(|l| &l.name).filter(|name| **name != self.config.device);
        if called == self.called.as_ref() {
            return;
        }
        self.called = called.cloned();
        self.problem = None;
        if let Some(name) = called {
            let (uplink, device) = (&self.config.name, &self.config.device);
            let problem = format!(
                "uplink {uplink}: {device} is called {name} now; used and guarded so until the config is read again"
            );
            log::warn!("{problem}");
            self.problem = Some(problem);
        }
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
