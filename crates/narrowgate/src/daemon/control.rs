//! The control socket: whoever connects gets the report as JSON. It takes no orders.

use super::{Daemon, groups, hooks, now, uplinks};
use crate::report::*;
use crate::runtime::RuntimeDir;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Display;
use narrowgate_model::Gather;
use narrowgate_model::config::{Group, Host, Tunnel, Uplink};
use narrowgate_model::facts::Origin;
use narrowgate_model::{Facts, Time};
use narrowgate_sys::path::Path;
use narrowgate_sys::{fs, io, process};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The listening socket.
pub struct Control {
    listener: Option<OwnedFd>,
}

impl Control {
    /// Not listening yet.
    pub fn new() -> Control {
        Control { listener: None }
    }

    /// Listens; a socket that a dead daemon left is replaced (the lock says that it is dead).
    pub fn listen(&mut self, runtime: &RuntimeDir) -> Result<(), String> {
        let path = runtime.file("control");
        match listener(&path) {
            Ok(listener) => {
                self.listener = Some(listener);
                Ok(())
            }
            Err(error) => Err(format!("control socket {}: {error}", path.display())),
        }
    }

    /// To be polled for reading.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }
}

fn listener(path: &Path) -> io::Result<OwnedFd> {
    let _ = fs::remove_file(path);
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

impl Daemon<'_> {
    /// Answers all who have connected. Who does not take the answer at once (it fits the socket's buffer) does not get it.
    #[inline(never)]
    pub(super) fn answer(&mut self) {
        while let Some(listener) = &self.control.listener {
            let Ok(stream) = rustix::net::accept_with(listener, FLAGS) else { break };
            let json = json::write(self.report());
            if let Err(error) = io::write_all(stream.as_fd(), json.as_bytes()) {
                log::debug!("status: {error}");
            }
        }
    }

    #[inline(never)]
    fn report(&mut self) -> Report {
        let counts = self.reconciler.counts();
        let (mut uplinks, mut tunnels) = (Vec::new(), Vec::new());
        for uplink in &self.config.uplinks {
            uplinks.push(self.uplink(uplink));
        }
        for tunnel in &self.config.tunnels {
            tunnels.push(self.tunnel(tunnel));
        }
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            uptime_ms: now().0 - self.started.0,
            config: self.globals.config.display().to_string(),
            mark: self.config.mark.to_string(),
            table: self.config.table,
            uplinks,
            tunnels,
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

    #[inline(never)]
    fn uplink(&self, uplink: &Uplink) -> UplinkReport {
        let at = now();
        let (provider, details) = self.uplinks.describe(&uplink.name, at);
        let mut report = UplinkReport {
            name: uplink.name.clone(),
            device: uplink.device.clone(),
            provider: provider.to_owned(),
            details: details.into_iter().map(|(name, value)| Detail { name, value }).gather(),
            ..UplinkReport::default()
        };
        let empty = Facts::default();
        let facts = self.uplinks.facts().get(&uplink.name).unwrap_or(&empty);
        report.state.push_str(uplinks::state_word(facts.state()));
        report.mtu = facts.mtu;
        for a in &facts.addresses {
            fact(&mut report.addresses, &a.prefix, a.origin, a.valid_until, at);
        }
        for r in &facts.routes {
            let list = &mut report.routes;
            match r.via {
                Some(via) => fact(list, &format_args!("{} by {via}", r.dst), r.origin, r.until, at),
                None => fact(list, &format_args!("{} on-link", r.dst), r.origin, r.until, at),
            }
        }
        for d in &facts.dns {
            fact(&mut report.dns, &d.server, d.origin, d.until, at);
        }
        for p in &facts.portals {
            fact(&mut report.portals, &p.uri, p.origin, None, at);
        }
        for n in &facts.nat64 {
            fact(&mut report.nat64, &n.prefix, n.origin, n.until, at);
        }
        report
    }

    #[inline(never)]
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
        let mut report = TunnelReport {
            name: tunnel.name.clone(),
            gid: tunnel.group.as_ref().and_then(groups::id),
            device: tunnel.device.clone(),
            state: state.to_owned(),
            cgroup: tunnel.cgroup.clone(),
            cgroup_state: tunnel.cgroup.as_deref().map(|path| self.services.state(path).to_owned()),
            ..TunnelReport::default()
        };
        report.group = tunnel.group.as_ref().map(|group| match group {
            Group::Name(name) => name.clone(),
            Group::Id(id) => id.to_string(),
        });
        for peer in &tunnel.peers {
            report.peers.push(hooks::endpoint(peer));
            if let Host::Name(name) = &peer.host
                && let Some(value) = self.kept.describe(name)
            {
                report.known.push(Detail { name: name.clone(), value });
            }
        }
        report
    }

    #[inline(never)]
    fn guard(&mut self) -> GuardReport {
        let guard = &self.reconciler.observed().guard;
        let mut report = GuardReport {
            standing: self.reconciler.guard_stands(),
            owned: guard.owned,
            persistent: guard.persistent,
            egress: self.kernel.capabilities().egress,
            ..GuardReport::default()
        };
        for c in self.kernel.counters().unwrap_or_default() {
            report.counters.push(PacketCounter { name: c.name, packets: c.packets, bytes: c.bytes });
        }
        if self.config.strict {
            for s in self.kernel.set_sizes().unwrap_or_default() {
                report.sets.push(CounterReport { name: s.name, value: s.elements as u64 });
            }
        }
        report
    }

    /// What a person should know without asking.
    #[inline(never)]
    fn problems(&self, report: &Report) -> Vec<String> {
        let mut problems = super::upstreams::stub_without_route();
        let mut add = |problem: &str| problems.push(problem.to_owned());
        self.uplinks.problems().for_each(&mut add);
        self.reconciler.complaints().for_each(&mut add);
        self.admission.problem().into_iter().for_each(&mut add);
        self.kept.problem().into_iter().for_each(&mut add);
        self.services.problems().for_each(&mut add);
        let guard = &report.guard;
        if guard.standing && !guard.owned {
            add(
                "the guard belongs to nobody (kernel before 5.12): `nft flush ruleset` removes it for a moment",
            );
        } else if guard.standing && !guard.persistent {
            add("the guard does not outlive a crash of narrowgate (kernel before 6.9)");
        }
        if !guard.egress {
            add("no netdev egress hook in this kernel: frames of packet sockets are not guarded");
        }
        for tunnel in &report.tunnels {
            if let (Some(group), None) = (&tunnel.group, tunnel.gid) {
                let tunnel = &tunnel.name;
                add(&format!("tunnel {tunnel}: there is no group '{group}': its DNS is not redirected"));
            }
        }
        problems
    }
}

#[inline(never)]
fn fact(list: &mut Vec<FactReport>, what: &dyn Display, origin: Origin, until: Option<Time>, now: Time) {
    let seconds_left = until.map(|u| u.seconds_from(now));
    list.push(FactReport { what: what.to_string(), origin: origin.as_str().to_owned(), seconds_left });
}
