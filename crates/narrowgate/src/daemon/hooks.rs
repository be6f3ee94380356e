//! The hooks: programs of the administrator's that hear what has happened to the uplinks, and when a tunnel may try again.
//!
//! What they are told is the difference between what they were told last and what is so now. So whatever flaps while a hook runs, or
//! faster than [`MOST`] times in [`WITHIN`], is told by its outcome. What they were told outlives us, so that a take-over tells nothing anew.
//!
//! A tunnel may try when an uplink has come and a peer of it was found ([`peers`]); and again, whatever the uplink does, when a peer is
//! answered for that somebody has asked for in vain ([`Hooks::hear`]): he may sleep.

mod peers;
mod scripts;

use super::uplinks::Uplinks;
use super::{now, sooner};
use crate::runtime::{RuntimeDir, replace};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;
use narrowgate_forwarder::engine::wire_name;
use narrowgate_kernel::conntrack::{self, Flow};
use narrowgate_model::Config;
use narrowgate_model::Gather;
use narrowgate_model::config::{Host, Peer, Tunnel};
use narrowgate_model::facts::UplinkState;
use narrowgate_model::{ByName, Facts, Server, Time};
use narrowgate_sys::fs;
use peers::Peers;
use rustix::fd::BorrowedFd;
use scripts::Scripts;

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
    /// When the tunnels that may try again are told, at the soonest; or were.
    again_at: Option<Time>,
}

/// Something that is so: an uplink is up, or a tunnel may try. A line of the file that remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    kind: Kind,
    name: String,
    /// An uplink's device, and its DNS servers behind it. Of a tunnel nothing, or [`IN_VAIN`], or [`AGAIN`].
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Uplink,
    Tunnel,
}

impl Hooks {
    /// Picks up what a run before this one has told.
    #[inline(never)]
    pub fn new(runtime: RuntimeDir) -> Hooks {
        let mut told = Vec::new();
        for line in narrowgate_sys::file::text(runtime.file(FILE)).lines() {
            // The resolver's process knows nothing of what was asked of the one before.
            if let Some(state) = State::parse(line)
                && (state.kind == Kind::Uplink || state.detail.is_empty())
            {
                told.push(state);
            }
        }
        let grace = (!told.is_empty()).then(|| now() + GRACE);
        Hooks {
            runtime,
            scripts: Scripts::new(),
            peers: Peers::default(),
            told,
            recent: Vec::new(),
            wake: None,
            grace,
            again_at: None,
        }
    }

    /// A peer was asked for in vain, or is `answered` for again. Whether it is to be watched, since somebody wants to hear of it.
    #[inline(never)]
    pub fn hear(&mut self, config: &Config, name: &[u8], answered: bool, now: Time) -> bool {
        let mut changed = false;
        for tunnel in &config.tunnels {
            // One that was not told yet will be, or has its name to wait for.
            if let Some(told) = self.told.iter_mut().find(|s| s.is(Kind::Tunnel, &tunnel.name))
                && peers::names(tunnel).any(|n| wire_name(n).as_deref() == Some(name))
            {
                (if answered { AGAIN } else { IN_VAIN }).clone_into(&mut told.detail);
                changed = true;
            }
        }
        if changed {
            if answered {
                self.again_at = match self.again_at {
                    Some(at) if now <= at => Some(at),
                    Some(at) if now < at + PAUSE => Some(at + PAUSE),
                    _ => Some(now + peers::GRACE),
                };
            }
            self.write_down();
        }
        !answered && self.scripts.any()
    }

    /// Goes on: looks after the hook that runs, asks for the tunnels' names where one waits for them, and tells the next thing if `in_order`:
    /// nothing of the policy is half applied.
    #[inline(never)]
    pub fn step(&mut self, config: &Config, uplinks: &Uplinks, in_order: bool, now: Time) {
        self.wake = None;
        self.scripts.step(now);
        let mut wanted = uplinks_up(config, uplinks.facts());
        // Tunnels may try while any uplink is up.
        let tunnels: &[Tunnel] = if wanted.is_empty() { &[] } else { &config.tunnels };
        let untold = |t: &&Tunnel| !self.told.iter().any(|s| s.is(Kind::Tunnel, &t.name));
        let mut waiting: Vec<&Tunnel> = tunnels.iter().filter(untold).gather();
        if !waiting.is_empty() && !self.scripts.any() {
            // Where nobody hears it, nothing is asked.
            waiting.clear();
        }
        let listen = config.uplink_resolvers().find_map(|r| r.listen.first());
        self.peers.ask(&waiting, listen.copied(), now);
        self.grace.take_if(|until| *until <= now || uplinks.are_settled(now));
        if self.scripts.is_idle() && in_order {
            for tunnel in tunnels {
                let waits = waiting.iter().any(|w| w.name == tunnel.name);
                if !waits || self.peers.are_known(tunnel, now) {
                    wanted.push(self.tunnel(tunnel));
                }
            }
            self.tell(config, wanted, now);
        }
    }

    /// What is to be told of a tunnel that may try. Where its peer was asked for in vain, that is no news.
    fn tunnel(&self, tunnel: &Tunnel) -> State {
        let told = self.told.iter().find(|s| s.is(Kind::Tunnel, &tunnel.name));
        let in_vain = told.is_some_and(|s| s.detail == IN_VAIN);
        let detail = if in_vain { IN_VAIN } else { "" }.to_owned();
        State { kind: Kind::Tunnel, name: tunnel.name.clone(), detail }
    }

    /// Tells the first difference: what is gone, or else what is new, or else what is not as it was.
    #[inline(never)]
    fn tell(&mut self, config: &Config, mut wanted: Vec<State>, now: Time) {
        let known = |list: &[State], s: &State| list.iter().any(|other| other.is(s.kind, &s.name));
        let gone = self.told.iter().find(|s| self.grace.is_none() && !known(&wanted, s)).cloned();
        let new = wanted.iter().position(|s| !known(&self.told, s));
        let (state, stays) = match gone {
            Some(state) => (state, false),
            None => match new.or_else(|| wanted.iter().position(|s| !self.told.contains(s))) {
                Some(n) => (wanted.swap_remove(n), true),
                None => return,
            },
        };
        let is_tunnel = state.kind == Kind::Tunnel;
        let action = match (is_tunnel, stays, new) {
            (true, ..) => "tunnel-try",
            (_, false, _) => "uplink-down",
            (.., Some(_)) => "uplink-up",
            (.., None) => "uplink-changed",
        };
        if is_tunnel && stays && new.is_none() && !self.may_try_again(config, &state.name, now) {
            return;
        }
        let heard = (stays || !is_tunnel) && self.scripts.any();
        let mut variables = Vec::new();
        if heard {
            self.recent.retain(|at| now.since(*at) < WITHIN);
            if let Some(first) = self.recent.first().filter(|_| self.recent.len() >= MOST) {
                self.wake = Some(*first + WITHIN);
                return;
            }
            self.recent.push(now);
            let again = self.told.iter().any(|s| s.is(Kind::Tunnel, &state.name) && s.detail == AGAIN);
            variables = environment(config, &state, again);
        }
        self.told.retain(|s| !s.is(state.kind, &state.name));
        if stays {
            self.told.push(state);
        }
        // Before it is told: whoever hears it may end us.
        self.write_down();
        if heard {
            self.scripts.begin(action, variables, now);
        }
        // There may be more to tell.
        self.wake = Some(now);
    }

    /// Whether a tunnel that was asked for in vain may be told now. If not, it is known when.
    fn may_try_again(&mut self, config: &Config, name: &str, now: Time) -> bool {
        let tunnel = config.tunnels.iter().find(|t| t.name == name);
        // What it has just sent may be answered any moment; but it was sent before there were answers, so that is not likely.
        let speaks = || tunnel.is_some_and(|t| flow(t, JUST_NOW) == Flow::Sent);
        let at = self.again_at.unwrap_or(now);
        if now < at {
            self.wake = self.again_at;
        } else if now < at + LISTEN && self.scripts.any() && speaks() {
            self.wake = Some(now + LISTEN / 8);
        } else {
            return true;
        }
        false
    }

    /// To be polled for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.peers.fds()
    }

    /// When [`step`](Self::step) has something to do though nothing has happened.
    pub fn next_timeout(&self) -> Option<Time> {
        let peers = self.peers.next_timeout(now());
        sooner(sooner(self.wake, self.grace), sooner(self.scripts.next_timeout(), peers))
    }

    /// The config was read anew: what was complained of may be in order now.
    pub fn forget_complaints(&mut self) {
        self.scripts.forget_complaints();
    }

    /// Ends the hook that runs; for good, or for the next run, which then does not tell anew what was told.
    pub fn stop(&mut self, for_good: bool) {
        self.scripts.stop();
        if for_good {
            let _ = fs::remove_file(self.runtime.file(FILE));
        }
    }

    fn write_down(&self) {
        let mut lines = String::new();
        for state in &self.told {
            lines.push_str(&state.line());
        }
        if let Err(error) = replace(&self.runtime.file(FILE), &lines) {
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
        let (kind, rest) = line.split_once(' ')?;
        let kind = match kind {
            "uplink" => Kind::Uplink,
            "tunnel" => Kind::Tunnel,
            _ => return None,
        };
        let (name, detail) = rest.split_once(' ')?;
        Some(State { kind, name: name.to_owned(), detail: detail.to_owned() })
    }
}

/// The uplinks that are up, with their servers.
fn uplinks_up(config: &Config, facts: &ByName<Facts>) -> Vec<State> {
    let mut list = Vec::new();
    for uplink in &config.uplinks {
        let Some(facts) = facts.get(&uplink.name).filter(|f| f.state() == UplinkState::Up) else { continue };
        let mut detail = uplink.device.clone();
        let mut add = |server: &Server| detail.push_str(&format!(" {server}"));
        if uplink.dns.is_empty() {
            facts.dns.iter().for_each(|d| add(&d.server));
        } else {
            uplink.dns.iter().for_each(&mut add);
        }
        list.push(State { kind: Kind::Uplink, name: uplink.name.clone(), detail });
    }
    list
}

/// The variables of an event beside `ACTION`.
#[inline(never)]
fn environment(config: &Config, state: &State, again: bool) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    if state.kind == Kind::Uplink {
        let (device, dns) = state.detail.split_once(' ').unwrap_or((&state.detail, ""));
        set(&mut variables, "UPLINK", &state.name);
        set(&mut variables, "INTERFACE", device);
        set(&mut variables, "DNS", dns);
        return variables;
    }
    set(&mut variables, "TUNNEL", &state.name);
    let Some(tunnel) = config.tunnels.iter().find(|t| t.name == state.name) else { return variables };
    let group = tunnel.group.as_ref().and_then(super::groups::id).map(|g| g.to_string());
    let mut peers = String::new();
    for peer in &tunnel.peers {
        peers.push_str(if peers.is_empty() { "" } else { " " });
        peers.push_str(&endpoint(peer));
    }
    let flow = match flow(tunnel, if again { JUST_NOW } else { NEW_UPLINK }) {
        Flow::Answered => "answered",
        Flow::Sent => "sent",
        Flow::None => "none",
    };
    set(&mut variables, "INTERFACE", tunnel.device.as_deref().unwrap_or_default());
    set(&mut variables, "GROUP", group.as_deref().unwrap_or_default());
    set(&mut variables, "CGROUP", tunnel.cgroup.as_deref().unwrap_or_default());
    set(&mut variables, "PEERS", &peers);
    set(&mut variables, "FLOW", flow);
    variables
}

#[inline(never)]
fn set(variables: &mut Vec<(&'static str, String)>, name: &'static str, value: &str) {
    variables.push((name, value.to_owned()));
}

/// What the tunnel's VPN is doing. Where nothing can list the connections, nothing is known.
fn flow(tunnel: &Tunnel, (sent, answered): (u32, u32)) -> Flow {
    let ports: Vec<u16> = tunnel.peers.iter().filter_map(|p| p.port).gather();
    conntrack::recent_flow(&ports, sent, answered).unwrap_or(Flow::None)
}

/// A peer as programs take it: `HOST`, `HOST:PORT`, `[ADDR]:PORT`.
pub fn endpoint(peer: &Peer) -> String {
    let host = match &peer.host {
        Host::Name(name) => name.clone(),
        Host::Addr(addr) => addr.to_string(),
    };
    match peer.port {
        None => host,
        Some(port) if host.contains(':') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
    }
}

/// In the runtime directory: what the hooks were told.
const FILE: &str = "hooks";
/// Of a tunnel: somebody has asked for a peer in vain.
const IN_VAIN: &str = "in-vain";
/// And now there are answers.
const AGAIN: &str = "again";
/// How many seconds ago something was sent, and something was answered, that still counts. What went by an uplink that is gone says nothing.
const NEW_UPLINK: (u32, u32) = (3, 3);
/// The uplink is what it was: a VPN that is connected has sent and got its keepalives by it (fastd every 15 s); what was sent more than a second ago is lost.
const JUST_NOW: (u32, u32) = (1, 20);
/// So long a VPN that has just sent something is listened to.
const LISTEN: Duration = Duration::from_secs(2);
/// Between two times that tunnels are told to try again: a gateway answers fastd's handshakes no more often.
const PAUSE: Duration = Duration::from_secs(15);
/// See [`Hooks::grace`].
const GRACE: Duration = Duration::from_secs(10);
/// So many events at most…
const MOST: usize = 6;
/// …in so long a time.
const WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use narrowgate_model::config;

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

    /// The uplink stays, the household's DNS goes and comes.
    #[test]
    fn a_tunnel_whose_peer_was_asked_in_vain_is_told_when_there_are_answers_and_not_before() {
        let dir = std::env::temp_dir().join(format!("narrowgate-hooks-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let peer = |name: &str| config::Peer { host: Host::Name(name.into()), port: None };
        let tunnel =
            |name: &str, peers| Tunnel { name: name.into(), group: None, device: None, peers, cgroup: None };
        let tunnels = vec![tunnel("a", vec![peer("a.example")]), tunnel("b", vec![peer("b.example")])];
        let config = Config { tunnels, ..Config::default() };
        let mut hooks = Hooks::new(RuntimeDir::new(&dir));
        hooks.scripts = Scripts::of((&dir.join("none")).into()); // not this machine's
        let details = |hooks: &mut Hooks, at: u64| {
            hooks.tell(&config, config.tunnels.iter().map(|t| hooks.tunnel(t)).collect(), Time(at));
            let detail = |name: &str| hooks.told.iter().find(|s| s.name == name).unwrap().detail.clone();
            ["a", "b"].map(detail)
        };
        hooks.tell(&config, config.tunnels.iter().map(|t| hooks.tunnel(t)).collect(), Time(1000));
        assert_eq!(details(&mut hooks, 1000), ["", ""]);
        let name = |name| wire_name(name).unwrap();
        assert!(!hooks.hear(&config, &name("other.example"), true, Time(2000)));
        hooks.hear(&config, &name("a.example"), false, Time(2000));
        for at in [2000, 9000] {
            assert_eq!(
                details(&mut hooks, at),
                [IN_VAIN, ""],
                "not by the silence, and the other not at all"
            );
        }
        assert_eq!(Hooks::new(RuntimeDir::new(&dir)).told.len(), 1, "a take-over asks for it anew");
        hooks.hear(&config, &name("a.example"), true, Time(10_000));
        assert_eq!(
            details(&mut hooks, 10_050),
            [AGAIN, ""],
            "if it was answered itself it is about to speak"
        );
        assert_eq!(hooks.wake, Some(Time(10_100)));
        assert_eq!(details(&mut hooks, 10_100), ["", ""]);
        hooks.hear(&config, &name("a.example"), false, Time(11_000));
        hooks.hear(&config, &name("a.example"), true, Time(12_000));
        assert_eq!(details(&mut hooks, 25_000), [AGAIN, ""], "seldom");
        assert_eq!(details(&mut hooks, 25_100), ["", ""]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_peer_is_written_as_programs_take_it() {
        let peer = |host, port| Peer { host, port };
        assert_eq!(endpoint(&peer(Host::Name("vpn.example.net".into()), Some(1))), "vpn.example.net:1");
        assert_eq!(endpoint(&peer(Host::Addr("2001:db8::1".parse().unwrap()), Some(1))), "[2001:db8::1]:1");
        assert_eq!(endpoint(&peer(Host::Addr("192.0.2.1".parse().unwrap()), None)), "192.0.2.1");
    }
}
