//! `option strict`: which names are answered, where marked packets may go, and for how long.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use narrowgate_lab::capture::Seen;
use narrowgate_lab::client::{extended_error, response_code};
use narrowgate_lab::demo::config;
use narrowgate_lab::fastd::Start;
use narrowgate_lab::frame::Content;
use narrowgate_lab::layout::{FAR6, FOREIGN4, FOREIGN6, GATE_NAME, GATE_PORT, GATE4, ROUTER_LL, WAN};
use narrowgate_lab::packet::PacketSocket;
use narrowgate_lab::probe::build;
use narrowgate_lab::wireguard::{self, INNER_GATE4};
use narrowgate_lab::{Host, Lab, Options, wait};
use nix::sys::signal::Signal;

use crate::scene::{SILENCE, SOON, Scene};

/// Refused with a reason, and the household is not told of them; the peer's name is answered.
#[test]
fn other_names_are_refused_with_a_reason_and_never_leave() {
    let scene = strict(Options::default());
    let node = scene.lab.host(Host::Node);
    let server = "127.0.0.1:54".parse().unwrap();
    for (at, name) in ["other.any.example.org", "sub.vpn.example.net", "example.net"].iter().enumerate() {
        let answer = node.exchange(server, name, at == 1, SOON).unwrap();
        let why = extended_error(&answer);
        assert_eq!((response_code(&answer), why.as_ref().map(|w| w.0)), (5, Some(15)), "{name}: {why:?}");
    }
    assert!(node.ask_tcp(server, "other.any.example.org", false, SOON).is_err());
    scene.assert_wan_dns_works("strict");
    scene.capture.assert_no_leak("after other names were asked for").unwrap();
    let counts = scene.capture.counts();
    assert_eq!(counts.get("other DNS, asked for"), None, "{counts:?}");
    assert_eq!(peers(&scene.lab), [IpAddr::from(GATE4)]);
}

/// The mark alone is no pass: to a foreign host nothing leaves, whatever it is, and it is counted.
#[test]
fn marked_packets_to_others_than_peers_and_dns_servers_are_dropped() {
    let scene = strict(Options::default());
    let node = scene.lab.host(Host::Node);
    scene.assert_wan_dns_works("strict");
    let router = scene.lab.network();
    let others: [IpAddr; 4] =
        [FOREIGN4.into(), FOREIGN6.into(), router.router4.into(), router.router6.into()];
    for to in others {
        assert!(node.ping(to, Some(1), SILENCE).is_err(), "{to}");
    }
    for to in [FOREIGN4.into(), FOREIGN6.into()] {
        let server = std::net::SocketAddr::new(to, 53);
        assert!(
            node.ask_marked(server, GATE_NAME, 1, SILENCE).is_err(),
            "a DNS server of the node's own choice"
        );
    }
    let (_, prometheus, _) = scene.lab.narrowgate(&["status", "--prometheus"]).unwrap();
    let refused = "narrowgate_guard_packets_total{counter=\"out_strict_refused\"} ";
    let count = prometheus.lines().find_map(|l| l.strip_prefix(refused)?.parse::<u64>().ok());
    assert!(count.is_some_and(|n| n >= 6), "{prometheus}");
    assert!(prometheus.contains("narrowgate_guard_set_addresses{set=\"peers4\"} 1"), "{prometheus}");
    // The servers that the household told of are asked, by their global and by their link-local address.
    scene.assert_uplink_works("strict");
    scene.assert_no_leak("strict");
    let leaks = prometheus.lines().filter(|l| l.contains("leak_strict")).count();
    assert_eq!(leaks, 0, "what is refused is no leak");
}

/// The names' lifetime is 5 s and no DNS server answers any more: fastd's tunnel and WireGuard's stand for as long as they speak.
#[test]
fn tunnels_that_never_resolve_again_outlive_their_names() {
    let lab = Lab::new(Options { dns_ttl: 5, ..Options::default() }).unwrap();
    let mut scene = Scene::with_config(lab, &(strict_config() + &wireguard::config()));
    scene.wait_addresses();
    scene.start_fastd(Start::InGroup);
    scene.wait_mesh();
    let wireguard = scene.lab.start_wireguard(Start::InGroup).unwrap();
    scene.lab.wait_wireguard(&wireguard, SOON).unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    let network = scene.lab.network();
    let servers: [IpAddr; 3] = [network.router4.into(), network.router6.into(), ROUTER_LL.into()];
    scene.lab.silence_dns(&servers).unwrap();
    let node = scene.lab.host(Host::Node);
    let start = Instant::now();
    // Twelve lifetimes: this is what is waited for.
    while start.elapsed() < Duration::from_secs(60) {
        for (tunnel, inside) in [("fastd", IpAddr::from(FAR6)), ("WireGuard", INNER_GATE4.into())] {
            node.ping(inside, None, SOON).unwrap_or_else(|error| {
                panic!("{tunnel}: {error}, after {:?}\n{}", start.elapsed(), scene.log())
            });
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let sets = ["peers4", "peers6"].map(|name| {
        let set = scene.lab.run(Host::Node, &format!("nft list set inet narrowgate {name}")).unwrap();
        set.split("expires ").nth(1).unwrap_or_else(|| panic!("{set}")).to_owned()
    });
    // fastd takes either version of the address.
    assert!(
        sets.iter().any(|left| left.starts_with("6d23h59m5")),
        "traffic gives them their time anew: {sets:?}"
    );
    scene.capture.assert_no_leak("without DNS").unwrap();
}

/// No chain of inet sees them. Without `strict` the mark is enough, which proves that the frames would be seen.
#[test]
fn marked_frames_of_packet_sockets_are_compared_with_the_sets_too() {
    let scene = Scene::uplink_up(Options::default());
    let strangers: [IpAddr; 2] = [FOREIGN4.into(), FOREIGN6.into()];
    assert_eq!(send_frames(&scene, &strangers), [true, true]);
    for to in strangers {
        let sent = |frame: &Seen| is_to(frame, to);
        scene.capture.wait_for("a marked frame to a stranger", SOON, sent).unwrap();
    }
    scene.lab.write("narrowgate.conf", &strict_config()).unwrap();
    scene.daemon.signal(Signal::SIGHUP).unwrap();
    assert_eq!(peers(&scene.lab), [IpAddr::from(GATE4)]);
    scene.capture.reset();
    // Behind the strangers' comes the peer's: when it is seen, theirs would have been.
    let sent = send_frames(&scene, &[strangers[0], strangers[1], GATE4.into()]);
    assert_eq!(sent, [false, false, true], "the sender is told");
    let to_peer = |frame: &Seen| is_to(frame, GATE4.into());
    scene.capture.wait_for("the marked frame to the peer", SOON, to_peer).unwrap();
    scene.capture.assert_no_leak("under strict").unwrap();
    let (_, prometheus, _) = scene.lab.narrowgate(&["status", "--prometheus"]).unwrap();
    let refused = "narrowgate_guard_packets_total{counter=\"egress_strict_refused\"} ";
    let count = prometheus.lines().find_map(|l| l.strip_prefix(refused)?.parse::<u64>().ok());
    assert_eq!(count, Some(2), "{prometheus}");
}

fn is_to(seen: &Seen, to: IpAddr) -> bool {
    matches!(&seen.frame.content, Content::Ip(packet) if packet.destination == to)
}

/// One UDP datagram to each, by a packet socket with the mark; whether the kernel took it.
fn send_frames(scene: &Scene, to: &[IpAddr]) -> Vec<bool> {
    let network = scene.lab.network();
    scene
        .lab
        .host(Host::Node)
        .in_network(|| {
            let mut socket = PacketSocket::open(WAN.0).unwrap();
            socket2::SockRef::from(&socket.fd).set_mark(1).unwrap();
            let mut send = |to: &IpAddr| {
                let from = if to.is_ipv6() { network.router6.into() } else { network.host4(200).into() };
                socket.send(&build::udp_frame(from, *to, GATE_PORT, b"a frame")).is_ok()
            };
            to.iter().map(&mut send).collect()
        })
        .unwrap()
}

/// Killed and started again: the sets stand with what is in them, and the tunnel loses nothing.
#[test]
fn the_sets_outlive_the_daemon() {
    let mut scene = strict(Options::default());
    scene.start_fastd(Start::InGroup);
    scene.wait_mesh();
    let far = scene.lab.host(Host::Far);
    let ping = std::thread::spawn(move || {
        far.command("ping").args(["-q", "-i", "0.01", "-c", "300", "10.42.0.2"]).output()
    });
    for _ in 0..3 {
        scene.assert_wan_dns_works("before the kill");
        scene.daemon.kill().unwrap();
        assert_eq!(peers(&scene.lab), [IpAddr::from(GATE4)], "with nobody there");
        // The resolver goes on alone; what is in the sets is answered.
        let answer =
            scene.lab.host(Host::Node).ask_until("127.0.0.1:54".parse().unwrap(), GATE_NAME, false, SOON);
        assert_eq!(answer.unwrap(), [IpAddr::from(GATE4)]);
        scene.daemon = scene.lab.start_narrowgate(&strict_config()).unwrap().0;
        assert_eq!(peers(&scene.lab), [IpAddr::from(GATE4)], "adopted");
    }
    let said = String::from_utf8_lossy(&ping.join().unwrap().unwrap().stdout).into_owned();
    assert!(said.contains(" 0% packet loss"), "{said}\n{}", scene.log());
    scene.assert_no_leak("after three kills and starts");
    scene.assert_mesh_works("after three kills and starts");
}

/// A tunnel that stands does not ask again. So we do, and it is cut off for a moment at most.
#[test]
fn a_tunnel_that_is_up_when_the_config_becomes_strict_goes_on() {
    let scene = Scene::tunnel_up(Options::default());
    assert!(
        scene.lab.run(Host::Node, "nft list set inet narrowgate peers4").is_err(),
        "there is no such set yet"
    );
    scene.lab.write("narrowgate.conf", &strict_config()).unwrap();
    scene.daemon.signal(Signal::SIGHUP).unwrap();
    wait::until("the peer in the set", SOON, || {
        Ok((peers_if_any(&scene.lab) == [IpAddr::from(GATE4)]).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    scene.assert_mesh_works("strict");
    scene.lab.write("narrowgate.conf", &config()).unwrap();
    scene.daemon.signal(Signal::SIGHUP).unwrap();
    wait::until("the end of the sets", SOON, || {
        Ok(scene.lab.run(Host::Node, "nft list set inet narrowgate peers4").is_err().then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    let answer =
        scene.lab.host(Host::Node).ask_until("127.0.0.1:54".parse().unwrap(), GATE_NAME, false, SOON);
    assert_eq!(answer.unwrap(), [IpAddr::from(GATE4)], "and answers do not wait any more");
    scene.capture.assert_no_leak("strict and back").unwrap();
}

/// A peer that is written as an address needs no DNS at all.
#[test]
fn a_peer_that_is_an_address_is_in_the_set_from_the_start() {
    let lab = Lab::new(Options::default()).unwrap();
    lab.set_carrier(false).unwrap();
    let config =
        strict_config().replace(&format!("list peer '{GATE_NAME}:"), &format!("list peer '{GATE4}:"));
    let (_daemon, _) = lab.start_narrowgate(&config).unwrap();
    assert_eq!(peers(&lab), [IpAddr::from(GATE4)]);
}

pub fn strict_config() -> String {
    format!("config narrowgate 'globals'\n\toption strict '1'\n\n{}", config())
}

/// The usual scene, strict from the first run on; the uplink is up.
fn strict(options: Options) -> Scene {
    let mut scene = Scene::ready(options);
    assert!(scene.daemon.terminate(SOON).unwrap().success());
    scene.daemon = scene.lab.start_narrowgate(&strict_config()).unwrap().0;
    scene.wait_addresses();
    scene
}

/// What is in the set of IPv4 peers, as nft shows it.
fn peers(lab: &Lab) -> Vec<IpAddr> {
    // The names are looked up as soon as the uplink is up, and no sooner.
    let found = wait::until("a peer in the set", SOON, || {
        let found = peers_if_any(lab);
        Ok((!found.is_empty()).then_some(found))
    });
    found.unwrap_or_else(|error| panic!("{error}\n{}", lab.read_log("narrowgate")))
}

fn peers_if_any(lab: &Lab) -> Vec<IpAddr> {
    let set = lab.run(Host::Node, "nft list set inet narrowgate peers4").unwrap_or_default();
    let Some((_, elements)) = set.split_once("elements = {") else { return Vec::new() };
    let elements = elements.split('}').next().unwrap_or_default();
    elements.split(',').filter_map(|e| e.split_whitespace().next()?.parse().ok()).collect()
}
