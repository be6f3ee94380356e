//! The hooks: programs of the administrator's that hear what has happened to the uplinks, and when a tunnel may try again.
//!
//! What they are told is the difference between what they were told last and what is so now. So whatever flaps while a hook runs, or
//! faster than [`MOST`] times in [`WITHIN`], is told by its outcome. What they were told outlives us, so that a take-over tells nothing anew.

mod peers;
mod scripts;

use super::now;
use super::uplinks::Uplinks;
use crate::runtime::{RuntimeDir, replace};
use narrowgate_kernel::conntrack::{self, Flow};
use narrowgate_model::Config;
use narrowgate_model::Gather;
use narrowgate_model::config::{Group, Host, Tunnel};
use narrowgate_model::facts::UplinkState;
use narrowgate_model::{Facts, Time};
use peers::Peers;
use scripts::Scripts;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// See the module.
pub struct Hooks {
    runtime: RuntimeDir,
    scripts: Scripts,
    peers: Peers,
    told: Vec<State>,
    /// When the last events were told.
    recent: Vec<Time>,
    wake: Option<Time>,
    /// Until then, or until the providers have learnt it again, the end of what a run before this one has told is not told.
    grace: Option<Time>,
}

/// Something that is so: an uplink is up, or a tunnel may try. A line of the file that remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    kind: Kind,
    name: String,
    /// An uplink's device, and its DNS servers behind it.
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Uplink,
    Tunnel,
}

impl Hooks {
    /// Picks up what a run before this one has told.
    pub fn new(runtime: RuntimeDir) -> Hooks {
        let told = std::fs::read_to_string(runtime.file(FILE)).unwrap_or_default();
        let told: Vec<State> = told.lines().filter_map(State::parse).gather();
        let grace = (!told.is_empty()).then(|| now() + GRACE);
        Hooks {
            runtime,
            scripts: Scripts::new(),
            peers: Peers::default(),
            told,
            recent: Vec::new(),
            wake: None,
            grace,
        }
    }

    /// Goes on: looks after the hook that runs, asks for the tunnels' names where one waits for them, and tells the next thing if `in_order`:
    /// nothing of the policy is half applied.
    pub fn step(&mut self, config: &Config, uplinks: &Uplinks, in_order: bool, now: Time) {
        self.wake = None;
        self.scripts.step(now);
        let up = config.uplinks.iter().any(|u| is_up(uplinks.facts(), &u.name));
        let untold = |t: &&Tunnel| up && !self.told.iter().any(|s| s.is(Kind::Tunnel, &t.name));
        let waiting: Vec<&Tunnel> = config.tunnels.iter().filter(untold).gather();
        // Where nobody hears it, nothing is asked.
        let deaf = !waiting.is_empty() && !self.scripts.any();
        let listen = config.uplink_resolvers().flat_map(|r| &r.listen).next().copied();
        self.peers.ask(if deaf { &[] } else { &waiting }, listen, now);
        self.grace.take_if(|until| *until <= now || uplinks.are_settled(now));
        if self.scripts.is_idle() && in_order {
            let waits = |t: &&Tunnel| !deaf && waiting.contains(t) && !self.peers.are_known(t, now);
            let tunnels = config.tunnels.iter().filter(|tunnel| up && !waits(tunnel));
            let mut wanted = uplinks_up(config, uplinks.facts());
            wanted.extend(tunnels.map(|tunnel| State {
                kind: Kind::Tunnel,
                name: tunnel.name.clone(),
                detail: String::new(),
            }));
            self.tell(config, wanted, now);
        }
    }

    /// Tells the first difference.
    fn tell(&mut self, config: &Config, wanted: Vec<State>, now: Time) {
        let known = |list: &[State], s: &State| list.iter().any(|other| other.is(s.kind, &s.name));
        let gone = self.told.iter().find(|s| self.grace.is_none() && !known(&wanted, s)).cloned();
        let new = wanted.iter().find(|s| !known(&self.told, s));
        let changed = wanted.iter().find(|s| !self.told.contains(s));
        let (action, state, stays) = match (gone, new, changed) {
            (Some(state), ..) => ("uplink-down", state, false),
            (None, Some(state), _) if state.kind == Kind::Tunnel => ("tunnel-try", state.clone(), true),
            (None, Some(state), _) => ("uplink-up", state.clone(), true),
            (None, None, Some(state)) => ("uplink-changed", state.clone(), true),
            (None, None, None) => return,
        };
        if (stays || state.kind == Kind::Uplink) && self.scripts.any() {
            self.recent.retain(|at| now.since(*at) < WITHIN);
            if let Some(first) = self.recent.first().filter(|_| self.recent.len() >= MOST) {
                self.wake = Some(*first + WITHIN);
                return;
            }
            self.recent.push(now);
            self.scripts.begin(action, environment(config, &state), now);
        }
        self.told.retain(|s| !s.is(state.kind, &state.name));
        if stays {
            self.told.push(state);
        }
        self.write_down();
        // There may be more to tell.
        self.wake = Some(now);
    }

    /// To be polled for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.peers.fds()
    }

    /// When [`step`](Self::step) has something to do though nothing has happened.
    pub fn next_timeout(&self) -> Option<Time> {
        [self.wake, self.grace, self.scripts.next_timeout(), self.peers.next_timeout(now())]
            .into_iter()
            .flatten()
            .min()
    }

    /// The config was read anew: what was complained of may be in order now.
    pub fn forget_complaints(&mut self) {
        self.scripts.forget_complaints();
    }

    /// Ends the hook that runs; for good, or for the next run, which then does not tell anew what was told.
    pub fn stop(&mut self, for_good: bool) {
        self.scripts.stop();
        if for_good {
            let _ = std::fs::remove_file(self.runtime.file(FILE));
        }
    }

    fn write_down(&self) {
        let lines: Vec<String> = self.told.iter().map(State::line).gather();
        if let Err(error) = replace(&self.runtime.file(FILE), &lines.concat()) {
            log::warn!("hooks: {error}: the next run may tell them again what they know");
        }
    }
}

impl State {
    fn is(&self, kind: Kind, name: &str) -> bool {
        self.kind == kind && self.name == name
    }

    fn line(&self) -> String {
        let kind = if self.kind == Kind::Uplink { "uplink " } else { "tunnel " };
        [kind, &self.name, " ", &self.detail, "\n"].concat()
    }

    fn parse(line: &str) -> Option<State> {
        let mut words = line.splitn(3, ' ');
        let kind = match words.next()? {
            "uplink" => Kind::Uplink,
            "tunnel" => Kind::Tunnel,
            _ => return None,
        };
        Some(State { kind, name: words.next()?.to_owned(), detail: words.next()?.to_owned() })
    }
}

/// The uplinks that are up, with their servers.
fn uplinks_up(config: &Config, facts: &BTreeMap<String, Facts>) -> Vec<State> {
    let mut list = Vec::new();
    for uplink in config.uplinks.iter().filter(|u| is_up(facts, &u.name)) {
        let mut detail = uplink.device.clone();
        let learnt = facts.get(&uplink.name).into_iter().flat_map(|f| &f.dns).map(|d| &d.server);
        for server in uplink.dns.iter().chain(learnt.filter(|_| uplink.dns.is_empty())) {
            detail.push(' ');
            detail.push_str(&server.to_string());
        }
        list.push(State { kind: Kind::Uplink, name: uplink.name.clone(), detail });
    }
    list
}

fn is_up(facts: &BTreeMap<String, Facts>, uplink: &str) -> bool {
    facts.get(uplink).is_some_and(|f| f.state() == UplinkState::Up)
}

/// The variables of an event beside `ACTION`.
fn environment(config: &Config, state: &State) -> Vec<(&'static str, String)> {
    if state.kind == Kind::Uplink {
        let (device, dns) = state.detail.split_once(' ').unwrap_or((&state.detail, ""));
        return vec![
            ("UPLINK", state.name.clone()),
            ("INTERFACE", device.to_owned()),
            ("DNS", dns.to_owned()),
        ];
    }
    let mut set = vec![("TUNNEL", state.name.clone())];
    let Some(tunnel) = config.tunnels.iter().find(|t| t.name == state.name) else { return set };
    let group = match &tunnel.group {
        Some(group @ Group::Name(_)) => super::groups::id(group),
        Some(Group::Id(id)) => Some(*id),
        None => None,
    };
    set.push(("INTERFACE", tunnel.device.clone().unwrap_or_default()));
    set.push(("GROUP", group.map(|g| g.to_string()).unwrap_or_default()));
    set.push(("CGROUP", tunnel.cgroup.clone().unwrap_or_default()));
    let peers: Vec<String> = tunnel.peers.iter().map(|p| endpoint(&p.host, p.port)).gather();
    set.push(("PEERS", peers.join(" ")));
    let ports: Vec<u16> = tunnel.peers.iter().filter_map(|p| p.port).gather();
    let flow = match conntrack::recent_flow(&ports) {
        Ok(Flow::Answered) => "answered",
        Ok(Flow::Sent) => "sent",
        // Where nothing can list them, nothing is known.
        Ok(Flow::None) | Err(_) => "none",
    };
    set.push(("FLOW", flow.to_owned()));
    set
}

/// A peer as programs take it: `HOST`, `HOST:PORT`, `[ADDR]:PORT`.
fn endpoint(host: &Host, port: Option<u16>) -> String {
    match (host, port) {
        (Host::Name(name), None) => name.clone(),
        (Host::Name(name), Some(port)) => [name, ":", &port.to_string()].concat(),
        (Host::Addr(addr), None) => addr.to_string(),
        (Host::Addr(addr), Some(port)) => SocketAddr::new(*addr, port).to_string(),
    }
}

/// In the runtime directory: what the hooks were told.
const FILE: &str = "hooks";
/// See [`Hooks::grace`].
const GRACE: Duration = Duration::from_secs(10);
/// So many events at most…
const MOST: usize = 6;
/// …in so long a time.
const WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_read_back() {
        let state =
            State { kind: Kind::Uplink, name: "wan".into(), detail: "eth0 192.0.2.1 fe80::1%eth0".into() };
        assert_eq!(State::parse(state.line().trim_end_matches('\n')), Some(state));
        let state = State { kind: Kind::Tunnel, name: "vpn".into(), detail: String::new() };
        assert_eq!(State::parse(state.line().trim_end_matches('\n')), Some(state));
        for line in ["", "uplink", "uplink wan", "else wan x"] {
            assert_eq!(State::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_peer_is_written_as_programs_take_it() {
        assert_eq!(endpoint(&Host::Name("vpn.example.net".into()), Some(1)), "vpn.example.net:1");
        assert_eq!(endpoint(&Host::Addr("2001:db8::1".parse().unwrap()), Some(1)), "[2001:db8::1]:1");
        assert_eq!(endpoint(&Host::Addr("192.0.2.1".parse().unwrap()), None), "192.0.2.1");
    }
}
