//! The hooks: what they are told, that none of them stops anything, and that the ready-made ones wake their VPN.

use std::net::IpAddr;
use std::time::Instant;

use narrowgate_lab::daemon::Running;
use narrowgate_lab::demo::config;
use narrowgate_lab::fastd::Start;
use narrowgate_lab::layout::{GATE_NAME, ROUTER_LL};
use narrowgate_lab::sort::Kind;
use narrowgate_lab::wireguard::{self, DEVICE};
use narrowgate_lab::{Families, Host, Lab, Options, wait};

use crate::scene::{SOON, Scene};

/// Up, the tunnels may try, down, and up again: each event with its variables and nothing else.
#[test]
fn they_hear_what_happens_and_have_nothing_else_in_their_environment() {
    let scene = Scene::with(lab_that_tells());
    let told = wait_told(&scene, "tunnel-try");
    let up = told.iter().find(|event| event.starts_with("ACTION=uplink-up")).expect("an uplink that is up");
    assert!(up.contains("INTERFACE=wan\n") && up.contains("UPLINK=wan\n"), "{up}");
    let tried = told.iter().find(|event| event.starts_with("ACTION=tunnel-try")).expect("a tunnel");
    let mut names: Vec<&str> = tried.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)); // the shell's own
    let all = ["ACTION", "CGROUP", "FLOW", "GROUP", "INTERFACE", "NARROWGATE", "PATH", "PEERS", "TUNNEL"];
    assert_eq!(names, all, "{tried}");
    let peers = format!("PEERS={GATE_NAME}:10000\n");
    for line in ["FLOW=none\n", "GROUP=800\n", "INTERFACE=mesh-vpn\n", "TUNNEL=mesh_vpn\n", &peers] {
        assert!(tried.contains(line), "{line}: {tried}");
    }
    scene.lab.set_carrier(false).unwrap();
    let down = wait_told(&scene, "uplink-down");
    assert!(down.last().is_some_and(|event| event.contains("INTERFACE=wan\n")), "{down:?}");
    std::fs::write(scene.lab.file("told"), "").unwrap();
    scene.lab.set_carrier(true).unwrap();
    wait_told(&scene, "tunnel-try");
    scene.assert_no_leak("after an uplink that came back");
}

/// What can go wrong with one is a line in the log that names it. Nothing waits for it, and those behind it get their turn.
#[test]
fn one_that_hangs_is_killed_and_one_that_fails_is_named() {
    let lab = lab_that_tells();
    lab.write_hook("10-hangs", "#!/bin/sh\n[ $ACTION = uplink-up ] || exit 0\nsleep 1000 &\nwait\n").unwrap();
    lab.write_hook("20-fails", "#!/bin/sh\nexit 3\n").unwrap();
    lab.write_hook("30-starts-nothing", "#!/no/such/program\n").unwrap();
    lab.write("hooks.d/40-text", "#!/bin/sh\n").unwrap();
    let scene = Scene::with(lab);
    scene.wait_addresses();
    // The one that hangs hangs now.
    wait::until("the hanging hook", SOON, || Ok(sleeps(&scene.lab).then_some(()))).unwrap();
    scene.assert_wan_dns_works("while a hook hangs");
    let said = |text: &str| {
        let waited = scene.lab.wait_logged(&scene.daemon, text, SOON + SOON);
        waited.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    };
    said("40-text: not run: it is not executable");
    said("10-hangs: uplink-up: killed, it took longer than 10 s");
    said("20-fails: uplink-up: exit code 3");
    said("30-starts-nothing: cannot be started");
    assert!(!sleeps(&scene.lab), "with all that it has started");
    wait_told(&scene, "uplink-up");
}

/// A process in the daemon's place knows what its hooks were told.
#[test]
fn a_take_over_tells_nothing_anew() {
    let mut scene = Scene::with(lab_that_tells());
    scene.wait_addresses();
    // All the household's servers were told of, and the try after that: nothing is on its way any more.
    let dns: Vec<String> = household_dns(&scene.lab).iter().map(IpAddr::to_string).collect();
    wait_events(&scene, "the last try", |events| {
        let all = events.iter().position(|event| dns.iter().all(|server| event.contains(server)));
        all.is_some_and(|at| events[at..].iter().any(|event| event.contains("ACTION=tunnel-try\n")))
    });
    scene.daemon.kill().unwrap();
    std::fs::write(scene.lab.file("told"), "").unwrap();
    scene.daemon = scene.lab.start_narrowgate(&config()).unwrap().0;
    scene.assert_wan_dns_works("taken over");
    scene.assert_uplink_works("taken over");
    scene.lab.set_carrier(false).unwrap();
    let told = wait_told(&scene, "uplink-down");
    let first = told.iter().find(|event| !event.starts_with("ACTION=uplink-changed"));
    assert!(first.is_some_and(|event| event.starts_with("ACTION=uplink-down")), "{told:?}\n{}", scene.log());
    assert!(scene.daemon.terminate(SOON).unwrap().success());
    assert!(!scene.lab.file("runtime").exists(), "stopped for good, nothing is remembered");
}

/// Six events in ten seconds at most, and the last one says how it is.
#[test]
fn an_uplink_that_flaps_is_told_by_its_outcome() {
    let scene = Scene::with(lab_that_tells());
    wait_told(&scene, "tunnel-try");
    let begun = Instant::now();
    for _ in 0..8 {
        scene.lab.set_carrier(false).unwrap();
        scene.lab.set_carrier(true).unwrap();
        scene.wait_addresses();
    }
    let told = wait_told(&scene, "tunnel-try");
    let most = 6 * (2 + begun.elapsed().as_secs() as usize / 10);
    assert!(told.len() <= most, "{} events: {told:?}", told.len());
    scene.lab.set_carrier(false).unwrap();
    let outcome = wait::until("the outcome", SOON + SOON, || {
        let told = wait_told(&scene, "tunnel-try");
        Ok(told.last().is_some_and(|event| event.starts_with("ACTION=uplink-down")).then_some(()))
    });
    outcome.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    scene.capture.assert_no_leak("while the uplink flaps").unwrap();
}

/// The household's DNS is dead until fastd has given up and sleeps, for 20 s. As soon as there are answers it is woken.
#[test]
fn fastd_is_woken_when_its_gateway_can_be_found() {
    let lab = Lab::new(Options::default()).unwrap();
    lab.install_hook("50-fastd").unwrap();
    lab.silence_dns(&household_dns(&lab)).unwrap();
    let mut scene = Scene::with(lab);
    scene.wait_addresses();
    scene.fastd = Some(scene.lab.start_fastd(Start::InGroup).unwrap());
    scene.lab.wait_log("node-fastd", "failed:", 0, SOON + SOON).unwrap();
    scene.lab.unsilence_dns().unwrap();
    let answered = Instant::now();
    let up = scene.lab.wait_tunnel(scene.fastd.as_ref().unwrap(), SOON);
    up.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    println!("the tunnel {:?} after the household's DNS came to life", answered.elapsed());
    scene.capture.assert_no_leak("while fastd is woken").unwrap();
}

/// The household's router dies while its switch keeps the cable alive, and the gateway is out of reach with it. fastd is given what was known
/// before and speaks to nobody, for 20 s at a time. As soon as the household answers again it is woken.
#[test]
fn fastd_is_woken_when_the_households_dns_comes_back() {
    let lab = lab_that_tells();
    lab.install_hook("50-fastd").unwrap();
    let mut scene = Scene::with(lab);
    scene.wait_addresses();
    wait_told(&scene, "tunnel-try");
    scene.lab.stop_household().unwrap();
    let text = "table inet off {\nchain c {\ntype filter hook forward priority 0; policy drop\n}\n}\n";
    let off = scene.lab.write("off.nft", text).unwrap();
    scene.lab.run(Host::Home, &format!("nft -f {}", off.display())).unwrap();
    std::fs::write(scene.lab.file("told"), "").unwrap();
    scene.capture.reset();
    let fastd = scene.lab.start_fastd(Start::InGroup).unwrap();
    let spoken = scene.capture.wait_for("a handshake", SOON, |seen| seen.kind == Kind::Tunnel);
    spoken.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    // The hook spares one that is only starting.
    wait::until("fastd to be grown up", SOON, || Ok((age(&scene.lab, &fastd) > 6.0).then_some(()))).unwrap();
    scene.lab.run(Host::Home, "nft delete table inet off").unwrap();
    scene.lab.start_household(scene.lab.options()).unwrap();
    let answers = Instant::now();
    let told = wait_told(&scene, "tunnel-try");
    assert!(
        !told.iter().any(|event| event.starts_with("ACTION=uplink-up")),
        "the uplink was there: {told:?}"
    );
    // By itself it tries every 17.5 s at the soonest.
    let up = scene.lab.wait_tunnel(&fastd, SOON);
    up.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    println!("the tunnel {:?} after the household came back", answers.elapsed());
    scene.fastd = Some(fastd);
    scene.capture.assert_no_leak("while fastd is woken").unwrap();
}

/// fastd that is connected, or about to be, is left alone: a reset would cost it 15 s.
#[test]
fn fastd_that_is_connected_is_not_disturbed() {
    let lab = lab_that_tells();
    lab.install_hook("50-fastd").unwrap();
    let mut scene = Scene::with(lab);
    scene.start_fastd(Start::InGroup);
    wait_told(&scene, "tunnel-try");
    scene.wait_mesh();
    scene.assert_mesh_works("after the hook");
    assert!(!scene.lab.read_log("node-fastd").contains("reset"), "{}", scene.lab.read_log("node-fastd"));
}

/// Its endpoint is an address that is nobody's, and it has a preshared key: it is made anew, whole, with the endpoint by name.
#[test]
fn wireguard_learns_its_peers_address_anew() {
    let options = Options { household: Families::V4, gate_name: Families::V4, ..Options::default() };
    let lab = Lab::new(options).unwrap();
    lab.install_hook("50-wireguard").unwrap();
    let ends = lab.start_wireguard_ends().unwrap();
    let node_key = lab.run(Host::Node, &format!("wg show {DEVICE} public-key")).unwrap();
    let secret = lab.write("psk", "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=\n").unwrap();
    let psk = format!("preshared-key {}", secret.display());
    lab.run(Host::Gate, &format!("wg set {DEVICE} peer {} {psk}", node_key.trim())).unwrap();
    let peer = format!("peer {} {psk} allowed-ips 0.0.0.0/0,::/0 persistent-keepalive 25", ends.peer);
    lab.run(Host::Node, &format!("wg set {DEVICE} {peer} endpoint 192.0.2.1:51820")).unwrap();
    let scene = Scene::with_config(lab, &(config() + &wireguard::config()));
    let up = scene.lab.wait_handshake(&ends.node, SOON);
    up.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    let peers = scene.lab.run(Host::Node, &format!("wg show {DEVICE} dump")).unwrap();
    let fields: Vec<&str> = peers.lines().last().unwrap().split('\t').collect();
    assert_eq!(fields[2..4], ["198.51.100.130:51820", "0.0.0.0/0,::/0"], "{peers}");
    assert_eq!(fields[7], "25");
    scene.capture.assert_no_leak("while WireGuard is woken").unwrap();
}

/// A lab with a hook that writes down what it is told.
fn lab_that_tells() -> Lab {
    let lab = Lab::new(Options::default()).unwrap();
    let file = lab.file("told").display().to_string();
    // In one write, so that a reader sees whole events.
    let text = format!("#!/bin/sh\ntext=$(env | sort)\nprintf '%s\\n\\n' \"$text\" >>{file}\n");
    lab.write_hook("90-tells", &text).unwrap();
    lab
}

/// The events so far, when one of this sort is among them.
fn wait_told(scene: &Scene, action: &str) -> Vec<String> {
    let line = format!("ACTION={action}\n");
    wait_events(scene, &format!("a hook's {action}"), |events| {
        events.iter().any(|event| event.contains(&line))
    })
}

/// The events so far, when they are as wanted.
fn wait_events(scene: &Scene, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    let found = wait::until(what, SOON + SOON, || {
        let text = std::fs::read_to_string(scene.lab.file("told")).unwrap_or_default();
        let events: Vec<String> = text.split_inclusive("\n\n").map(str::to_owned).collect();
        Ok(wanted(&events).then_some(events))
    });
    found.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()))
}

/// Whether the hanging hook's own child is there.
fn sleeps(lab: &Lab) -> bool {
    lab.run(Host::Node, "pgrep -f sleep.1000").is_ok_and(|found| !found.trim().is_empty())
}

/// How many seconds ago a process was started (proc(5), `stat`).
fn age(lab: &Lab, process: &Running) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    let begun = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(19)).unwrap();
    let uptime = lab.run(Host::Node, "cat /proc/uptime").unwrap();
    let now: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
    now - begun.parse::<f64>().unwrap() / 100.0
}

fn household_dns(lab: &Lab) -> Vec<IpAddr> {
    let network = lab.network();
    vec![network.router4.into(), network.router6.into(), ROUTER_LL.into()]
}
