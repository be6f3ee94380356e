//! `narrowgate status`: asks the daemon and shows the answer, as a table, as JSON or for Prometheus.

use crate::cli::{Globals, no_more_arguments, print_out};
use crate::report::{FactReport, Report, json};
use crate::runtime::RuntimeDir;
use narrowgate_model::Gather;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the command.
pub fn main(globals: &Globals, args: &[OsString]) -> ExitCode {
    let mut format: fn(&str, &Report) -> String = |_, report| table(report);
    if args.iter().any(|arg| arg == "--sockets") {
        let others: Vec<OsString> =
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

fn ask(globals: &Globals) -> Result<(String, Report), String> {
    let path = RuntimeDir::new(&globals.runtime_dir).file("control");
    let shown = path.display();
    let mut stream = UnixStream::connect(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => format!(
            "no daemon answers at {shown}; start `narrowgate run`, or say --runtime-dir. \
             What a killed one left standing, `nft list ruleset` and `ip rule` show"
        ),
        _ => format!("{shown}: {e}"),
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| format!("{shown}: {e}"))?;
    let mut json = String::new();
    stream.read_to_string(&mut json).map_err(|e| format!("{shown}: the daemon does not answer: {e}"))?;
    let report = json::read(json.clone())
        .ok_or_else(|| format!("{shown}: the daemon's answer is not that of this version; restart it"))?;
    Ok((json, report))
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
        facts(&mut out, "address", &uplink.addresses);
        facts(&mut out, "route", &uplink.routes);
        facts(&mut out, "dns", &uplink.dns);
        facts(&mut out, "portal", &uplink.portals);
        facts(&mut out, "nat64", &uplink.nat64);
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
            let gid = tunnel.gid.map_or("no such group".to_owned(), |g| format!("gid {g}"));
            let _ = writeln!(out, "  group     {group} ({gid})");
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
        let _ = writeln!(
            out,
            "\nresolver {} via {} (process {}{})",
            resolver.name,
            resolver.via,
            resolver.pid,
            if resolver.restarts > 0 { format!(", restarted {}x", resolver.restarts) } else { String::new() }
        );
        let _ = writeln!(out, "  listens   {}", resolver.listen.join(" "));
        let _ = writeln!(out, "  asks      {}", or_nobody(&resolver.servers));
        if let Some(lacks) = &resolver.lacks {
            let _ = writeln!(out, "  sandbox   no {lacks} in this kernel");
        }
        let counts: Vec<String> = resolver
            .counters
            .iter()
            .filter(|c| c.value > 0)
            .map(|c| format!("{} {}", c.name, c.value))
            .gather();
        if !counts.is_empty() {
            let _ = writeln!(out, "  counted   {}", counts.join(", "));
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

fn facts(out: &mut String, name: &str, facts: &[FactReport]) {
    for fact in facts {
        let left = fact.seconds_left.map_or(String::new(), |s| format!(", {} left", span(s.into())));
        let _ = writeln!(out, "  {name:<9} {} ({}{left})", fact.what, fact.origin);
    }
}

fn or_nobody(servers: &[String]) -> String {
    if servers.is_empty() { "nobody yet".to_owned() } else { servers.join(" ") }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn prometheus(report: &Report) -> String {
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
        let _ = writeln!(out, "# HELP narrowgate_{name} {help}\n# TYPE narrowgate_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "narrowgate_{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value)];
    metric("uptime_seconds", "gauge", "Seconds since the daemon's start.", &one(report.uptime_ms / 1000));
    metric(
        "guard_standing",
        "gauge",
        "1 if the guard's tables are as they have to be.",
        &one(report.guard.standing.into()),
    );
    metric("guard_owned", "gauge", "1 if nobody else can flush the guard.", &one(report.guard.owned.into()));
    metric("steps_total", "counter", "Changes made to the kernel.", &one(report.policy.steps));
    metric("steps_failed_total", "counter", "Changes that the kernel refused.", &one(report.policy.failed));
    metric(
        "healed_total",
        "counter",
        "Changes that put back what others took away.",
        &one(report.policy.healed),
    );
    let samples: Vec<_> = report
        .uplinks
        .iter()
        .map(|u| (format!("{{uplink=\"{}\",device=\"{}\"}}", u.name, u.device), u64::from(u.state == "up")))
        .gather();
    metric("uplink_up", "gauge", "1 if a DNS server and a way to it are known.", &samples);
    let samples: Vec<_> =
        report.guard.counters.iter().map(|c| (format!("{{counter=\"{}\"}}", c.name), c.packets)).gather();
    metric("guard_packets_total", "counter", "Packets that the guard counted.", &samples);
    let samples: Vec<_> =
        report.guard.sets.iter().map(|s| (format!("{{set=\"{}\"}}", s.name), s.value)).gather();
    metric("guard_set_addresses", "gauge", "Addresses that strict lets marked packets go to.", &samples);
    let samples: Vec<_> = report
        .resolvers
        .iter()
        .flat_map(|r| r.counters.iter().map(move |c| (r, c)))
        .map(|(r, c)| (format!("{{resolver=\"{}\",counter=\"{}\"}}", r.name, c.name), c.value))
        .gather();
    metric("resolver_total", "counter", "What a resolver counted.", &samples);
    out
}
