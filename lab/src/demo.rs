//! The demonstration: a bare node comes up before one's eyes, and every frame on its WAN cable is accounted for.
//!
//! Every line begins with the seconds since `narrowgate run` was started. The comparison with the original's way runs
//! in a second lab at the same time, since it takes the better part of a minute.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::capture::{Capture, is_dhcp_ack, is_router_advertisement};
use crate::daemon::{Running, libpacketmark, narrowgate};
use crate::error::{Error, Result};
use crate::fastd::Start;
use crate::lab::Lab;
use crate::layout::{self, FAR_NAME, FAR4, FAR6, GATE_NAME, GATE_PORT, Host, MESH_DNS, SERVICE_PORT, WAN};
use crate::options::Options;
use crate::original::original_way;
use crate::sort::Kind;
use crate::timeline::Timeline;

/// The configuration that the demo and most tests use: the uplink, the tunnel, and a resolver for the mesh.
pub fn config() -> String {
    format!(
        "config uplink 'wan'\n\toption device '{wan}'\n\toption provider 'builtin'\n\n\
         config tunnel 'mesh_vpn'\n\toption group '{gid}'\n\toption device '{tunnel}'\n\tlist peer '{GATE_NAME}:{GATE_PORT}'\n\n\
         config resolver 'mesh'\n\tlist listen '127.0.0.1:53'\n\tlist server '{MESH_DNS}'\n",
        wan = WAN.0,
        gid = layout::TUNNEL_GID,
        tunnel = layout::TUNNEL_DEVICE,
    )
}

/// Runs the demonstration; returns whether the tunnel came up and nothing leaked.
pub fn demo(compare: bool) -> Result<bool> {
    let (program, library) = (narrowgate()?, libpacketmark()?);
    let options = Options::default();
    println!(
        "a household hands out DHCPv4 and RA; behind it an internet, a VPN gateway with fastd, and a mesh:"
    );
    let lab = Lab::new(options)?;
    print!("{}", layout::describe());
    println!(
        "the capture listens at the household's end of the cable; the node's {} is bare and down\n",
        WAN.0
    );
    let capture = Capture::open(&lab)?;
    let timeline = Timeline::start(&lab.host(Host::Node))?;

    let mut daemon = lab.spawn_narrowgate(&config())?;
    let clock = Clock(daemon.started);
    clock.say(Instant::now(), "narrowgate run is started");
    let ready = daemon.wait_notify("READY=1", SHORT)?;
    clock.say(daemon.started + ready, "it says READY: the guard and the resolvers' sockets stand");
    // fastd is started plainly, as root: it drops to its group only after it has looked its server up.
    let fastd = lab.start_fastd(Start::Plain)?;
    clock.say(fastd.started, "fastd is started, plainly, as any init system would");

    let (at, _) = timeline.wait_for(&[WAN.0, "LOWER_UP"], SHORT)?;
    clock.say(at, "the cable has its carrier");
    let established = lab.wait_tunnel(&fastd, Duration::from_secs(20));
    let story = story(&lab, &capture, &clock, established.clone());
    let established = match (established, story) {
        (Ok(established), Ok(())) => established,
        (Err(error), _) | (_, Err(error)) => {
            println!("{error}\nthe daemon's log:\n{}", lab.read_log("narrowgate"));
            print_frames(&capture);
            return Ok(false);
        }
    };
    // The table below is to show every sort of frame, so everything has to have been seen: DHCP too.
    let _ = timeline.wait_for(&[WAN.0, "inet ", "scope global"], Duration::from_secs(6));

    let clean = probes(&lab, &capture, &clock)?;
    print_frames(&capture);
    let ours = established.duration_since(daemon.started).as_secs_f32();
    println!("\nfrom the start of `narrowgate run` on a bare WAN to the tunnel: {ours:.2} s");
    // The daemon gives back what only its start needed when it has been quiet for a while: memory is measured at rest.
    std::thread::sleep(REST);
    numbers(&lab, &daemon, ready, &program, &library)?;
    if compare {
        print_original();
    }
    daemon.terminate(SHORT)?;
    Ok(clean)
}

/// Seconds since the daemon's start, before each line.
struct Clock(Instant);

impl Clock {
    fn say(&self, at: Instant, what: &str) {
        println!("{:8.3} s  {what}", at.saturating_duration_since(self.0).as_secs_f64());
    }
}

/// Tells in order what came between the carrier and the answer from the mesh, some of which is known only afterwards.
fn story(lab: &Lab, capture: &Capture, clock: &Clock, established: Result<Instant>) -> Result<()> {
    let mut events: Vec<(Instant, String)> = Vec::new();
    let frames = capture.frames();
    let mut first = |what: &str, wanted: &dyn Fn(&Kind) -> bool| {
        let seen = frames.iter().find(|seen| wanted(&seen.kind));
        events.extend(seen.map(|seen| (seen.at, what.to_owned())));
    };
    first("the node asks for a router (RS)", &|kind| *kind == Kind::Housekeeping("router solicitation"));
    first("the node asks for a lease (DHCPv4)", &|kind| *kind == Kind::Housekeeping("DHCPv4"));
    first(&format!("the node asks the household's DNS for {GATE_NAME}"), &|kind| *kind == Kind::TunnelDns);
    first("fastd sends its first handshake to the gateway", &|kind| *kind == Kind::Tunnel);
    let heard = capture
        .first_answer(is_router_advertisement)
        .map(|at| (at, "the household's Router Advertisement".to_owned()));
    events.extend(heard);
    events
        .extend(capture.first_answer(is_dhcp_ack).map(|at| (at, "the household's DHCPv4 lease".to_owned())));
    events
        .extend(established.clone().ok().map(|at| (at, "fastd is connected: the tunnel stands".to_owned())));
    events.sort_by_key(|(at, _)| *at);
    for (at, what) in &events {
        clock.say(*at, what);
    }
    established?;

    let node = lab.host(Host::Node);
    crate::wait::until("the mesh's default route", Duration::from_secs(10), || {
        let route =
            lab.run(Host::Node, &format!("ip -6 route show default dev {}", layout::TUNNEL_DEVICE))?;
        Ok(route.contains("via").then_some(()))
    })?;
    clock.say(Instant::now(), "the mesh's default route is learnt, from an RA through the tunnel");
    let resolver = SocketAddr::from(([127, 0, 0, 1], 53));
    let answer = node.ask_until(resolver, FAR_NAME, true, SHORT)?;
    clock.say(Instant::now(), &format!("the mesh's DNS says {FAR_NAME} is {answer:?}"));
    for far in [IpAddr::from(FAR6), IpAddr::from(FAR4)] {
        let trip = node.ping(far, None, SHORT)?;
        clock.say(Instant::now(), &format!("{far} in the mesh answers a ping ({} us)", trip.as_micros()));
    }
    node.http(SocketAddr::from((FAR6, SERVICE_PORT)), SHORT)?;
    clock.say(Instant::now(), "and serves a web page");
    Ok(())
}

/// Sends every kind of unmarked packet, in three states, and says what leaked.
fn probes(lab: &Lab, capture: &Capture, clock: &Clock) -> Result<bool> {
    println!();
    let mut clean = true;
    let mut round = |state: &str| -> Result<()> {
        let results = lab.probe_all(capture)?;
        let sent = results.iter().filter(|result| result.said == "sent").count();
        let leaked: Vec<_> = results.iter().filter(|result| result.leaked).collect();
        clean &= leaked.is_empty();
        let text = format!(
            "{} kinds of unmarked packet, {state}: the kernel took {sent}, {} reached the cable",
            results.len(),
            leaked.len()
        );
        clock.say(Instant::now(), &text);
        for leak in leaked {
            println!("            LEAK {}", leak.kind);
        }
        Ok(())
    };
    round("tunnel up")?;
    lab.run(Host::Node, &format!("ip -6 route del default dev {}", layout::TUNNEL_DEVICE))?;
    lab.run(Host::Node, &format!("ip route del default dev {}", layout::TUNNEL_DEVICE))?;
    round("mesh without a default route")?;
    let all_clean = capture.leaks().is_empty();
    Ok(clean && all_clean)
}

fn print_frames(capture: &Capture) {
    println!("\nframes from the node on the WAN cable:");
    let counts: BTreeMap<String, usize> = capture.counts();
    for (label, count) in counts.iter().filter(|(label, _)| *label != "LEAK") {
        println!("{count:8}  {label}");
    }
    println!("{:8}  LEAKS", counts.get("LEAK").copied().unwrap_or(0));
    for leak in capture.leaks() {
        println!("          {}", leak.line());
    }
}

fn numbers(lab: &Lab, daemon: &Running, ready: Duration, program: &Path, library: &Path) -> Result<()> {
    let size = |path: &Path| fs::metadata(path).map(|data| data.len()).unwrap_or(0);
    println!("\nnumbers, and the goals:");
    println!("{:8} KiB  the program (under 1024)", size(program) / 1024);
    println!("{:8} KiB  the library (under 16)", size(library).div_ceil(1024));
    println!("{:8} ms   to READY (under 200)", ready.as_millis());
    let processes = family(daemon.pid());
    let memory: Vec<Memory> = processes.iter().filter_map(|pid| Memory::of(*pid)).collect();
    let sum = |part: fn(&Memory) -> u64| memory.iter().map(part).sum::<u64>();
    // The daemon and the WAN resolver. The demo's mesh resolver is one more, for hosts without a first DNS daemon.
    let two: u64 = memory.iter().take(2).map(|m| m.resident).sum();
    println!("{two:8} KiB  resident at rest in the daemon and the WAN resolver together (under 4096)");
    println!(
        "{:8} KiB  with the mesh resolver, {} processes; {} KiB are their own, the rest is the shared program and libc",
        sum(|m| m.resident),
        memory.len(),
        sum(|m| m.own)
    );
    let (_, json, _) = lab.narrowgate(&["status", "--json"])?;
    if let Some(apply) = json_number(&json, "first_apply_us") {
        println!("{:8.2} ms   to apply a whole policy (under 10)", apply as f64 / 1000.0);
    }
    Ok(())
}

/// What a process holds in memory, in KiB, by `/proc/PID/smaps_rollup` (proc(5)).
struct Memory {
    resident: u64,
    own: u64,
}

impl Memory {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self { resident: field("Rss:")?, own: field("Private_Dirty:")? + field("Private_Clean:")? })
    }
}

/// A process and its children, their children too.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        at += 1;
    }
    all
}

/// The number that follows a key in a JSON text.
pub fn json_number(json: &str, key: &str) -> Option<u64> {
    let (_, rest) = json.split_once(&format!("\"{key}\":"))?;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Seconds from fastd's start to the tunnel, the original's way, in a lab of its own. It is a race there whether fastd's first
/// look-up comes before it drops to its group.
fn original_seconds() -> Result<f32> {
    let lab = Lab::new(Options::default())?;
    let original = original_way(&lab)?;
    let up = lab.wait_tunnel(&original.fastd, Duration::from_secs(90))?;
    Ok(up.duration_since(original.fastd.started).as_secs_f32())
}

fn print_original() {
    println!("\nthe original's way, {ORIGINALS} times, each in a lab of its own, is at it…");
    let runs: Vec<JoinHandle<Result<f32>>> =
        (0..ORIGINALS).map(|_| std::thread::spawn(original_seconds)).collect();
    for run in runs {
        match run.join().unwrap_or_else(|_| Err(Error::new("the comparison panicked"))) {
            Ok(seconds) => println!("from fastd's start to the tunnel, the original's way: {seconds:.2} s"),
            Err(error) => println!("the original's way did not come up: {error}"),
        }
    }
}

/// How often the original's way is measured.
const ORIGINALS: usize = 3;
/// Longer than the daemon waits before it counts itself at rest.
const REST: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_secs(5);
