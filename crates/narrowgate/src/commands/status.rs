//! `narrowgate status`: asks the daemon and shows the answer, as a table, as JSON or for Prometheus.

use crate::cli::{Globals, no_more_arguments, print_out};
use crate::report::{Report, json};
use crate::runtime::RuntimeDir;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::time::Duration;
use narrowgate_model::{Gather, join};
use narrowgate_sys::eprintln;
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_sys::process::ExitCode;
use narrowgate_sys::{
    fs,
    io::{self, ErrorKind},
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Runs the command.
pub fn main(globals: &Globals, args: &[PathBuf]) -> ExitCode {
    let mut format: fn(&str, &Report) -> String = |_, report| table(report);
    if args.iter().any(|arg| arg == "--sockets") {
        let others: Vec<PathBuf> =
            args.iter().filter(|arg| *arg != "--sockets" && *arg != "--json").cloned().gather();
        let json = args.iter().any(|arg| arg == "--json");
        return no_more_arguments("status", &others).unwrap_or_else(|| super::sockets::main(globals, json));
    }
    let mut rest = args;
    while let [first, more @ ..] = rest {
        format = match first.to_str() {
            Some("--json") => |json, _| format!("{json}\n"),
            Some("--prometheus") => |_, report| prometheus(report),
            _ => break,
        };
        rest = more;
    }
    if let Some(exit) = no_more_arguments("status", rest) {
        return exit;
    }
    match ask(globals) {
        Ok((json, report)) => {
            print_out(&format(&json, &report));
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("narrowgate: status: {message}");
            ExitCode::FAILURE
        }
    }
}

#[inline(never)]
fn ask(globals: &Globals) -> Result<(String, Report), String> {
    let path = RuntimeDir::new(&globals.runtime_dir).file("control");
    let shown = path.display();
    let stream = connect(&path).map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "no daemon answers at {shown}; start `narrowgate run`, or say --runtime-dir. \
             What a killed one left standing, `nft list ruleset` and `ip rule` show"
        ),
        _ => format!("{shown}: {e}"),
    })?;
    let mut answer = Vec::new();
    let json = io::read_to_end(stream.as_fd(), usize::MAX, &mut answer)
        .and_then(|()| fs::text(answer))
        .map_err(|e| format!("{shown}: the daemon does not answer: {e}"))?;
    let report = json::read(&json)
        .ok_or_else(|| format!("{shown}: the daemon's answer is not that of this version; restart it"))?;
    Ok((json, report))
}

/// Whoever listens there has 5 s for each part of its answer.
fn connect(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let stream = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&stream, &SocketAddrUnix::new(path)?)?;
    sockopt::set_socket_timeout(&stream, Timeout::Recv, Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn table(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "narrowgate {} (process {}), up {}, config {}",
        report.version,
        report.pid,
        span(report.uptime_ms / 1000),
        report.config
    );
    let _ = writeln!(out, "mark {}  table {}", report.mark, report.table);
    for uplink in &report.uplinks {
        let _ = writeln!(
            out,
            "\nuplink {} on {} ({}): {}",
            uplink.name, uplink.device, uplink.provider, uplink.state
        );
        for (name, facts) in [
            ("address", &uplink.addresses),
            ("route", &uplink.routes),
            ("dns", &uplink.dns),
            ("portal", &uplink.portals),
            ("nat64", &uplink.nat64),
        ] {
            for fact in facts {
                let _ = write!(out, "  {name:<9} {} ({}", fact.what, fact.origin);
                if let Some(seconds) = fact.seconds_left {
                    let _ = write!(out, ", {} left", span(seconds.into()));
                }
                out.push_str(")\n");
            }
        }
        if let Some(mtu) = uplink.mtu {
            let _ = writeln!(out, "  mtu       {mtu} for IPv6");
        }
        for detail in &uplink.details {
            let _ = writeln!(out, "  {:<9} {}", detail.name, detail.value);
        }
    }
    for tunnel in &report.tunnels {
        let _ = writeln!(
            out,
            "\ntunnel {} on {}: {}",
            tunnel.name,
            tunnel.device.as_deref().unwrap_or("(no device written)"),
            tunnel.state
        );
        if let Some(group) = &tunnel.group {
            let _ = match tunnel.gid {
                Some(gid) => writeln!(out, "  group     {group} (gid {gid})"),
                None => writeln!(out, "  group     {group} (no such group)"),
            };
        }
        if let (Some(cgroup), Some(state)) = (&tunnel.cgroup, &tunnel.cgroup_state) {
            let _ = writeln!(out, "  cgroup    {cgroup} ({state})");
        }
        for peer in &tunnel.peers {
            let _ = writeln!(out, "  peer      {peer}");
        }
        for known in &tunnel.known {
            let _ = writeln!(out, "  known     {} at {}", known.name, known.value);
        }
    }
    for resolver in &report.resolvers {
        let _ = write!(out, "\nresolver {} via {} (process {}", resolver.name, resolver.via, resolver.pid);
        if resolver.restarts > 0 {
            let _ = write!(out, ", restarted {}x", resolver.restarts);
        }
        let _ = writeln!(out, ")\n  listens   {}", join(&resolver.listen, " "));
        let servers = join(&resolver.servers, " ");
        let _ = writeln!(out, "  asks      {}", if servers.is_empty() { "nobody yet" } else { &servers });
        if let Some(lacks) = &resolver.lacks {
            let _ = writeln!(out, "  sandbox   no {lacks} in this kernel");
        }
        let mut before = "  counted   ";
        for counter in resolver.counters.iter().filter(|c| c.value > 0) {
            let _ = write!(out, "{before}{} {}", counter.name, counter.value);
            before = ", ";
        }
        if before == ", " {
            out.push('\n');
        }
    }
    let guard = &report.guard;
    let yes = |b: bool| if b { "yes" } else { "NO" };
    let _ = writeln!(
        out,
        "\nguard {}: owned {}, outlives a crash {}, packet sockets {}",
        if guard.standing { "standing" } else { "NOT STANDING" },
        yes(guard.owned),
        yes(guard.persistent),
        yes(guard.egress)
    );
    for set in &guard.sets {
        let _ = writeln!(out, "  {:<18} {:>10} addresses", set.name, set.value);
    }
    for counter in &guard.counters {
        let _ = writeln!(
            out,
            "  {:<18} {:>10} packets {:>12} bytes",
            counter.name, counter.packets, counter.bytes
        );
    }
    let _ = writeln!(
        out,
        "\npolicy: {} steps, {} failed, {} put back after others; applied first in {} us, ready after {} ms",
        report.policy.steps,
        report.policy.failed,
        report.policy.healed,
        report.policy.first_apply_us,
        report.policy.ready_ms
    );
    for problem in &report.problems {
        let _ = writeln!(out, "! {problem}");
    }
    out
}

fn span(seconds: u64) -> String {
    let (divisor, unit) = match seconds {
        0..120 => (1, "s"),
        120..7200 => (60, "min"),
        7200..172_800 => (3600, "h"),
        _ => (86_400, "d"),
    };
    format!("{} {unit}", seconds / divisor)
}

/// What has one value: its name, type, meaning, and where it is in the report.
type Metric = (&'static str, &'static str, &'static str, fn(&Report) -> u64);

const METRICS: &[Metric] = &[
    ("uptime_seconds", "gauge", "Seconds since the daemon's start.", |r| r.uptime_ms / 1000),
    ("guard_standing", "gauge", "1 if the guard's tables are as they have to be.", |r| {
        r.guard.standing.into()
    }),
    ("guard_owned", "gauge", "1 if nobody else can flush the guard.", |r| r.guard.owned.into()),
    ("steps_total", "counter", "Changes made to the kernel.", |r| r.policy.steps),
    ("steps_failed_total", "counter", "Changes that the kernel refused.", |r| r.policy.failed),
    ("healed_total", "counter", "Changes that put back what others took away.", |r| r.policy.healed),
];

fn prometheus(report: &Report) -> String {
    let mut out = String::new();
    for (name, kind, help, value) in METRICS {
        head(&mut out, name, kind, help);
        sample(&mut out, name, &[], value(report));
    }
    let name = "uplink_up";
    head(&mut out, name, "gauge", "1 if a DNS server and a way to it are known.");
    for uplink in &report.uplinks {
        sample(
            &mut out,
            name,
            &[("uplink", &uplink.name), ("device", &uplink.device)],
            u64::from(uplink.state == "up"),
        );
    }
    let name = "guard_packets_total";
    head(&mut out, name, "counter", "Packets that the guard counted.");
    for counter in &report.guard.counters {
        sample(&mut out, name, &[("counter", &counter.name)], counter.packets);
    }
    let name = "guard_set_addresses";
    head(&mut out, name, "gauge", "Addresses that strict lets marked packets go to.");
    for set in &report.guard.sets {
        sample(&mut out, name, &[("set", &set.name)], set.value);
    }
    let name = "resolver_total";
    head(&mut out, name, "counter", "What a resolver counted.");
    for resolver in &report.resolvers {
        for counter in &resolver.counters {
            sample(
                &mut out,
                name,
                &[("resolver", &resolver.name), ("counter", &counter.name)],
                counter.value,
            );
        }
    }
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP narrowgate_{name} {help}\n# TYPE narrowgate_{name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let _ = write!(out, "narrowgate_{name}");
    let mut before = "{";
    for (label, of) in labels {
        let _ = write!(out, "{before}{label}=\"{of}\"");
        before = ",";
    }
    let end = if labels.is_empty() { "" } else { "}" };
    let _ = writeln!(out, "{end} {value}");
}
