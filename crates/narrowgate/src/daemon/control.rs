//! The control socket: whoever connects gets the report as JSON. It takes no orders.

use super::{Daemon, groups, now, uplinks};
use crate::report::*;
use crate::runtime::RuntimeDir;
use narrowgate_model::Gather;
use narrowgate_model::config::{Group, Host, Peer, Tunnel};
use narrowgate_model::{Facts, Time};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;

/// The listening socket.
pub struct Control {
    listener: Option<UnixListener>,
}

impl Control {
    /// Not listening yet.
    pub fn new() -> Control {
        Control { listener: None }
    }

    /// Listens; a socket that a dead daemon left is replaced (the lock says that it is dead).
    pub fn listen(&mut self, runtime: &RuntimeDir) -> Result<(), String> {
        let path = runtime.file("control");
        let _ = std::fs::remove_file(&path);
        let listen = || {
            let listener = UnixListener::bind(&path)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        match listen() {
            Ok(listener) => {
                self.listener = Some(listener);
                Ok(())
            }
            Err(error) => {
                let error: std::io::Error = error;
                Err(format!("control socket {}: {error}", path.display()))
            }
        }
    }

    /// To be polled for reading.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }
}

impl Daemon<'_> {
    /// Answers all who have connected. Who does not take the answer at once (it fits the socket's buffer) does not get it.
    pub(super) fn answer(&mut self) {
        while let Some(Ok((mut stream, _))) = self.control.listener.as_ref().map(UnixListener::accept) {
            let json = json::write(self.report());
            let _ = stream.set_nonblocking(true);
            if let Err(error) = stream.write_all(json.as_bytes()) {
                log::debug!("status: {error}");
            }
        }
    }

    fn report(&mut self) -> Report {
        let at = now();
        let counts = self.reconciler.counts();
        let uplinks = self.config.uplinks.iter().map(|uplink| {
            let empty = Facts::default();
            let facts = self.uplinks.facts().get(&uplink.name).unwrap_or(&empty);
            let (provider, details) = self.uplinks.describe(&uplink.name, at);
            UplinkReport {
                name: uplink.name.clone(),
                device: uplink.device.clone(),
                provider: provider.to_owned(),
                state: uplinks::state_word(facts.state()).to_owned(),
                addresses: facts
                    .addresses
                    .iter()
                    .map(|a| fact(a.prefix.to_string(), a.origin.as_str(), a.valid_until, at))
                    .gather(),
                routes: facts
                    .routes
                    .iter()
                    .map(|r| {
                        let via = r.via.map_or("on-link".to_owned(), |via| format!("by {via}"));
                        fact(format!("{} {via}", r.dst), r.origin.as_str(), r.until, at)
                    })
                    .gather(),
                dns: facts
                    .dns
                    .iter()
                    .map(|d| fact(d.server.to_string(), d.origin.as_str(), d.until, at))
                    .gather(),
                portals: facts
                    .portals
                    .iter()
                    .map(|p| fact(p.uri.clone(), p.origin.as_str(), None, at))
                    .gather(),
                nat64: facts
                    .nat64
                    .iter()
                    .map(|n| fact(n.prefix.to_string(), n.origin.as_str(), n.until, at))
                    .gather(),
                mtu: facts.mtu,
                details: details.into_iter().map(|(name, value)| Detail { name, value }).gather(),
            }
        });
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: (at - self.started).as_millis() as u64,
            config: self.globals.config.display().to_string(),
            mark: self.config.mark.to_string(),
            table: self.config.table,
            uplinks: uplinks.gather(),
            tunnels: self.config.tunnels.iter().map(|t| self.tunnel(t)).gather(),
            resolvers: self.resolvers.report(),
            guard: self.guard(),
            policy: PolicyReport {
                steps: counts.steps,
                failed: counts.failed,
                healed: counts.healed,
                first_apply_us: counts.first_apply_us,
                ready_ms: self.ready_ms,
            },
            problems: Vec::new(),
        };
        report.problems = self.problems(&report);
        report
    }

    fn tunnel(&self, tunnel: &Tunnel) -> TunnelReport {
        let links = &self.reconciler.observed().links;
        let state = match &tunnel.device {
            None => "unknown",
            Some(device) => match links.iter().find(|l| l.name == *device) {
                None => "no device",
                Some(link) if link.up => "up",
                Some(_) => "down",
            },
        };
        TunnelReport {
            name: tunnel.name.clone(),
            group: tunnel.group.as_ref().map(|g| match g {
                Group::Name(name) => name.clone(),
                Group::Id(id) => id.to_string(),
            }),
            gid: tunnel.group.as_ref().and_then(groups::id),
            device: tunnel.device.clone(),
            state: state.to_owned(),
            peers: tunnel.peers.iter().map(peer).gather(),
            known: tunnel.peers.iter().filter_map(|peer| self.known(peer)).gather(),
            cgroup: tunnel.cgroup.clone(),
            cgroup_state: tunnel.cgroup.as_deref().map(|path| self.services.state(path).to_owned()),
        }
    }

    fn known(&self, peer: &Peer) -> Option<Detail> {
        let Host::Name(name) = &peer.host else { return None };
        self.kept.describe(name).map(|value| Detail { name: name.clone(), value })
    }

    fn guard(&mut self) -> GuardReport {
        let guard = &self.reconciler.observed().guard;
        let (owned, persistent) = (guard.owned, guard.persistent);
        GuardReport {
            standing: self.reconciler.guard_stands(),
            owned,
            persistent,
            egress: self.kernel.capabilities().egress,
            sets: self.sets(),
            counters: self
                .kernel
                .counters()
                .unwrap_or_default()
                .into_iter()
                .map(|c| PacketCounter { name: c.name, packets: c.packets, bytes: c.bytes })
                .gather(),
        }
    }

    fn sets(&mut self) -> Vec<CounterReport> {
        if !self.config.strict {
            return Vec::new();
        }
        let sizes = self.kernel.set_sizes().unwrap_or_default().into_iter();
        sizes.map(|s| CounterReport { name: s.name, value: s.elements as u64 }).gather()
    }

    /// What a person should know without asking.
    fn problems(&self, report: &Report) -> Vec<String> {
        let mut problems: Vec<String> = self.uplinks.problems().map(str::to_owned).gather();
        self.reconciler.complaints().map(str::to_owned).add_to(&mut problems);
        problems.extend(self.admission.problem().map(str::to_owned));
        problems.extend(self.kept.problem().map(str::to_owned));
        self.services.problems().map(str::to_owned).add_to(&mut problems);
        let guard = &report.guard;
        if guard.standing && !guard.owned {
            problems.push(
                "the guard belongs to nobody (kernel before 5.12): `nft flush ruleset` removes it for a moment"
                    .to_owned(),
            );
        } else if guard.standing && !guard.persistent {
            problems.push("the guard does not outlive a crash of narrowgate (kernel before 6.9)".to_owned());
        }
        if !guard.egress {
            problems.push(
                "no netdev egress hook in this kernel: frames of packet sockets are not guarded".to_owned(),
            );
        }
        for tunnel in &report.tunnels {
            if let (Some(group), None) = (&tunnel.group, tunnel.gid) {
                problems.push(format!(
                    "tunnel {}: there is no group '{group}': its DNS is not redirected",
                    tunnel.name
                ));
            }
        }
        problems.extend(super::upstreams::stub_without_route());
        problems
    }
}

fn fact(what: String, origin: &str, until: Option<Time>, now: Time) -> FactReport {
    FactReport { what, origin: origin.to_owned(), seconds_left: until.map(|u| u.seconds_from(now)) }
}

fn peer(peer: &Peer) -> String {
    let port = peer.port.map_or(String::new(), |p| format!(":{p}"));
    match &peer.host {
        Host::Name(name) => format!("{name}{port}"),
        Host::Addr(addr) if addr.is_ipv6() && peer.port.is_some() => format!("[{addr}]{port}"),
        Host::Addr(addr) => format!("{addr}{port}"),
    }
}
