//! How long it takes from the cable to the tunnel: each provider and the original's way, fastd and WireGuard, a household that answers at
//! once or later, without and with hooks. Run by `bench/uplink/run`; prints tables.

#[path = "../../crates/wire/tests/ubus_json/mod.rs"]
#[allow(dead_code)]
mod ubus_json;
#[path = "../../crates/providers/tests/netifd/ubusd.rs"]
#[allow(dead_code)]
mod ubusd;

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use narrowgate_lab::capture::{is_dhcp_ack, is_router_advertisement};
use narrowgate_lab::daemon::Running;
use narrowgate_lab::error::{Context, Error, Result};
use narrowgate_lab::fastd::Start;
use narrowgate_lab::layout::{ROUTER_LL, WAN};
use narrowgate_lab::original::original_node;
use narrowgate_lab::timeline::Timeline;
use narrowgate_lab::{Capture, Host, Lab, Options, demo, wireguard};

/// Who brings the uplink up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Builtin,
    Static,
    Networkd,
    Netifd,
    Original,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vpn {
    Fastd,
    WireGuard,
}

/// One line of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    way: Way,
    vpn: Vpn,
    hooks: bool,
    /// Seconds from the carrier until the household's router begins to answer.
    late: u64,
}

/// What one run took, in seconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    carrier: f32,
    /// From the first thing that the household has told: a Router Advertisement, a lease, or where none is needed, from when its DNS was there.
    answer: f32,
}

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let rounds: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(3);
    let mut lates: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    if lates.is_empty() {
        lates = vec![0, 3, 30];
    }
    for late in lates {
        table(late, rounds);
    }
}

fn table(late: u64, rounds: usize) {
    let mut cases = Vec::new();
    for vpn in [Vpn::Fastd, Vpn::WireGuard] {
        for way in [Way::Builtin, Way::Static, Way::Networkd, Way::Netifd, Way::Original] {
            cases.push(Case { way, vpn, hooks: false, late });
            if way != Way::Original {
                cases.push(Case { way, vpn, hooks: true, late });
            }
        }
    }
    // In turn, so that a machine that is busy is busy for all.
    let runs: Vec<Case> = (0..rounds).flat_map(|_| cases.iter().copied()).collect();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..if late < 10 { 2 } else { SIDE_BY_SIDE } {
            scope.spawn(|| {
                while let Some(case) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = run(*case);
                    if let Err(error) = &result {
                        eprintln!("{case}: {error}");
                    }
                    results.lock().unwrap().push((*case, result.ok()));
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    println!(
        "\nThe household's router answers {late} s after the carrier; medians of {rounds} runs, seconds:\n"
    );
    println!("| VPN | uplink by | hooks | carrier to tunnel | household's answer to tunnel | failed |");
    println!("|---|---|---|---|---|---|");
    for case in &cases {
        let of: Vec<&Option<Times>> = results.iter().filter(|(c, _)| c == case).map(|(_, t)| t).collect();
        let done: Vec<Times> = of.iter().filter_map(|times| **times).collect();
        let hooks = if case.hooks { "yes" } else { "no" };
        println!(
            "| {:?} | {} | {hooks} | {:.2} | {:.2} | {} |",
            case.vpn,
            case.way,
            median(done.iter().map(|t| t.carrier).collect()),
            median(done.iter().map(|t| t.answer).collect()),
            of.len() - done.len()
        );
    }
}

/// One node that boots, in a lab of its own: the daemon and the VPN are started, then comes the carrier, and after a while the household.
fn run(case: Case) -> Result<Times> {
    let lab = Lab::new(Options::default())?;
    lab.set_carrier(false)?;
    lab.stop_household()?;
    let capture = Capture::open(&lab)?;
    let timeline = Timeline::start(&lab.host(Host::Node))?;
    if case.hooks {
        lab.install_hook("50-fastd")?;
        lab.install_hook("50-wireguard")?;
    }
    let netifd = (case.way == Way::Netifd).then(|| netifd(&lab)).transpose()?;
    let _networkd = (case.way == Way::Networkd).then(|| networkd(&lab)).transpose()?;
    let mut original = None;
    let _daemon = match case.way {
        Way::Original => {
            original = Some(original_node(&lab)?);
            None
        }
        _ => Some(lab.start_narrowgate(&config(case.way))?.0),
    };
    let (mut fastd, mut wg) = (None, None);
    match case.vpn {
        Vpn::Fastd => fastd = Some(lab.start_fastd(Start::Plain)?),
        Vpn::WireGuard => wg = Some(lab.start_wireguard(Start::InGroup)?),
    }
    if case.late == 0 {
        lab.start_household(&Options::default())?;
    }
    lab.set_carrier(true)?;
    let (carrier, _) = timeline.wait_for(&[WAN.0, "LOWER_UP"], PATIENCE)?;
    let begin = carrier + Duration::from_secs(case.late);
    std::thread::sleep(begin.saturating_duration_since(Instant::now()));
    if case.late > 0 {
        lab.start_household(&Options::default())?;
    }
    let there = Instant::now();
    if let Some(bus) = &netifd {
        netifd_up(&lab, bus)?;
    }
    let up = match (&fastd, &wg) {
        (Some(fastd), _) => lab.wait_tunnel(fastd, PATIENCE)?,
        (_, Some(wg)) => lab.wait_wireguard(wg, PATIENCE)?,
        _ => return Err(Error::new("no VPN")),
    };
    capture.assert_no_leak("while the tunnel came up").or_else(|error| match case.way {
        Way::Original => Ok(()),
        _ => Err(error),
    })?;
    drop(original);
    let told = capture.first_answer(|f| is_router_advertisement(f) || is_dhcp_ack(f));
    let answer = match case.way {
        Way::Builtin | Way::Networkd => told.unwrap_or(there),
        _ if case.late == 0 => carrier,
        _ => there,
    };
    let seconds = |from: Instant| up.saturating_duration_since(from).as_secs_f32();
    Ok(Times { carrier: seconds(carrier), answer: seconds(answer) })
}

/// The demo's configuration with another provider, and WireGuard as a second tunnel.
fn config(way: Way) -> String {
    let provider = match way {
        Way::Static => {
            let (a4, a6) = own();
            format!(
                "static'\n\tlist address '{a4}/24'\n\tlist address '{a6}/64'\n\tlist gateway '192.168.77.1'\n\
                 \tlist gateway '{ROUTER_LL}'\n\tlist dns '192.168.77.1'\n\tlist dns '{ROUTER_LL}"
            )
        }
        _ => way.to_string(),
    };
    demo::config().replace("option provider 'builtin", &format!("option provider '{provider}"))
        + &wireguard::config()
}

/// The node's addresses where somebody else than narrowgate sets them.
fn own() -> (&'static str, &'static str) {
    ("192.168.77.50", "2001:db8:77:1::50")
}

/// The real systemd-networkd, with the documentation's file.
fn networkd(lab: &Lab) -> Result<Running> {
    let page = include_str!("../../docs/networkd.md");
    let text = page.split("```ini\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    let file = lab.write("10-wan.network", &text.replace("eth0", WAN.0))?;
    // A read-only /sys means that there is no udev to be waited for.
    let script = "cd /run && mkdir -p systemd/network systemd/netif/links systemd/netif/leases systemd/netif/lldp \
        && cp \"$1\" systemd/network/ && mount -o remount,ro,bind /sys \
        && { [ ! -d /etc/systemd/network ] || mount -t tmpfs none /etc/systemd/network; } \
        && chown -R systemd-network systemd/netif && exec /lib/systemd/systemd-networkd";
    let command = lab.host(Host::Node).command("unshare").args(["--mount", "sh", "-c", script, "sh"]);
    let child = command.arg(&file).log_to(&lab.log("networkd"))?.spawn()?;
    let running = Running::adopt("networkd", child);
    narrowgate_lab::wait::until("networkd to take the device", PATIENCE, || {
        Ok(lab.run(Host::Node, "ip -o link show up dev wan")?.contains("UP").then_some(()))
    })?;
    Ok(running)
}

/// A stand-in of netifd with its bus; it has brought the device up, and knows nothing more.
fn netifd(lab: &Lab) -> Result<ubusd::Ubusd> {
    let socket = lab.file("ubus.sock");
    let bus = ubusd::Ubusd::new(&socket);
    bus.set_json(r#"[{"interface":"wan","up":false,"device":"wan"}]"#);
    lab.run(Host::Node, "mkdir -p /run/ubus")?;
    lab.run(Host::Node, &format!("ln -s {} /run/ubus/ubus.sock", socket.display()))?;
    lab.run(Host::Node, &format!("ip link set {} up", WAN.0))?;
    Ok(bus)
}

/// It has a lease and has heard the router: it sets addresses and routes, and tells.
fn netifd_up(lab: &Lab, bus: &ubusd::Ubusd) -> Result<()> {
    let ((a4, a6), wan) = (own(), WAN.0);
    lab.batch(
        Host::Node,
        &format!(
            "addr add {a4}/24 brd + noprefixroute dev {wan}\naddr add {a6}/64 nodad noprefixroute dev {wan}\n\
             route add 192.168.77.0/24 dev {wan} table 1\nroute add default via 192.168.77.1 dev {wan} table 1\n\
             route add default via {ROUTER_LL} dev {wan} table 1\n"
        ),
    )
    .context(|| "as netifd".to_owned())?;
    bus.set_json(&format!(
        r#"[{{"interface":"wan","up":true,"l3_device":"{wan}","device":"{wan}","proto":"dhcp",
            "ipv4-address":[{{"address":"{a4}","mask":24}}],"ipv6-address":[{{"address":"{a6}","mask":64}}],
            "route":[{{"target":"0.0.0.0","mask":0,"nexthop":"192.168.77.1"}},{{"target":"::","mask":0,"nexthop":"{ROUTER_LL}","metric":512}}],
            "inactive":{{"dns-server":["192.168.77.1","{ROUTER_LL}"]}}}}]"#
    ));
    bus.event("network.interface", ("interface", "wan"));
    bus.notify("interface.update");
    Ok(())
}

fn median(mut of: Vec<f32>) -> f32 {
    of.sort_by(f32::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f32::NAN)
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Builtin => "builtin",
            Self::Static => "static",
            Self::Networkd => "networkd",
            Self::Netifd => "netifd",
            Self::Original => "the original's way",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {}, hooks {}, {} s late", self.vpn, self.way, self.hooks, self.late)
    }
}

/// Labs at a time where they wait most of the time.
const SIDE_BY_SIDE: usize = 6;
/// How long the tunnel may take at most.
const PATIENCE: Duration = Duration::from_secs(120);
